"""Titles, colours and notes are statements, too: each is held to what it says."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from torch import nn

from helpers.data_utils import find_class
from helpers.figures import clip_percentile, colorize, diverging, overlay, signed_picture
from helpers.image_batch import answer_note, describe_network, load_batch, map_picture, network_note
from helpers.recipe import KEY, make_recipe

PHOTO = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
NAMES = ["goldfish", "sand viper", "tabby", "espresso", "flamingo"]


class Fixed(nn.Module):
    """Answers 2 for class 2, 1 for class 4 and 0 for all others, whatever it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.tensor([0.0, 0.0, 2.0, 0.0, 1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores.expand(len(x), -1)


P = torch.tensor([0.0, 0.0, 2.0, 0.0, 1.0]).softmax(dim=0)


def test_a_title_names_the_class_that_was_asked_for_and_the_line_under_it_the_predicted_one():
    batch = load_batch(["coffee"], ["flamingo"], 64, Fixed(), NAMES)
    assert batch.y.tolist() == [4]
    assert batch.titles == [f"flamingo ({P[4]:.2f})"]
    assert batch.subtitles == [f"coffee; predicted: tabby ({P[2]:.2f})"]
    batch = load_batch(["coffee", "chelsea"], None, 64, Fixed(), NAMES)
    assert batch.y.tolist() == [2, 2]
    assert batch.titles == [f"tabby ({P[2]:.2f})"] * 2
    assert batch.subtitles == ["coffee", "chelsea"]


def test_one_photo_asked_about_several_classes_is_shown_once_for_each():
    batch = load_batch(["coffee"], ["flamingo", "0"], 64, Fixed(), NAMES)
    assert [title.partition(" (")[0] for title in batch.titles] == ["flamingo", "goldfish"]
    assert len(batch.photos) == len(batch.X) == 2


def test_a_class_that_the_network_does_not_have_is_refused(names):
    from helpers.errors import UsageError

    with pytest.raises(UsageError, match="class 130 does not exist: indices go from 0 to 4"):
        load_batch(["coffee"], ["130"], 64, Fixed())
    with pytest.raises(UsageError, match="1000 names, but this network has 5 classes"):
        load_batch(["coffee"], ["flamingo"], 64, Fixed(), names)


def test_red_adds_and_blue_takes_away():
    red, white, blue = (diverging(np.full((9, 9), value))[4, 4].astype(int) for value in (1.0, 0.0, -1.0))
    assert red[0] > red[2] + 60
    assert blue[2] > blue[0] + 60
    assert white.min() > 240


def test_a_signed_map_is_drawn_in_these_colours_and_a_size_in_brightness():
    heat = np.zeros((40, 60))
    heat[:, 30:] = 1.0
    assert np.array_equal(map_picture(heat, "signed"), diverging(heat))
    size = map_picture(heat, "size").sum(axis=2)
    assert size[20, 50] > size[20, 5] + 300
    region = map_picture(heat, "region", PHOTO)
    assert np.array_equal(region, overlay(PHOTO, heat))


def test_the_brightest_one_percent_is_drawn_alike():
    heat = np.arange(10_000.0).reshape(100, 100)
    clipped = clip_percentile(heat)
    assert 0.009 <= (clipped == 1).mean() <= 0.011
    assert clipped[50, 0] == pytest.approx(5000 / 9900, abs=0.001)
    assert not clip_percentile(np.zeros((4, 4))).any()


def test_the_strongest_half_percent_of_a_signed_picture_has_full_colour():
    gradient = np.arange(30_000.0).reshape(100, 100, 3)
    full = (signed_picture(gradient) == 255).mean()
    assert 0.004 <= full <= 0.012  # rounding to 8 bits adds a little


def test_an_overlay_takes_no_value_beyond_one_and_none_below_zero():
    ones, zeros = np.ones((40, 60)), np.zeros((40, 60))
    assert np.array_equal(overlay(PHOTO, 5 * ones), overlay(PHOTO, ones))
    assert np.array_equal(overlay(PHOTO, -ones), overlay(PHOTO, zeros))


def test_an_overlay_is_red_where_the_map_is_strong_and_untinted_where_it_is_zero():
    heat = np.zeros((40, 60))
    heat[:, 30:] = 1.0
    grey = np.full((40, 60, 3), 128, np.uint8)
    shown = overlay(grey, heat).astype(int)
    assert np.ptp(shown[:, :30], axis=2).max() == 0  # a grey photo stays grey
    assert (shown[:, 30:, 0] > shown[:, 30:, 2] + 40).all()
    assert np.array_equal(colorize(heat, "turbo")[0, 59], colorize(np.ones((1, 1)), "turbo")[0, 0])


def test_a_whole_word_of_a_class_name_beats_a_part_of_a_word():
    assert find_class("cat", ["cattle", "house cat"]) == 1
    assert find_class("cat", ["cattle", "house cat", "cat"]) == 2
    assert find_class("catt", ["cattle", "house cat"]) == 0


def test_the_recipe_tells_images_of_different_shapes_apart():
    pixels = np.arange(24, dtype=np.uint8)
    images = {"wide": pixels.reshape(2, 4, 3), "tall": pixels.reshape(4, 2, 3)}
    arguments = {"program": "test.py", "recorded": None, "seed": 0}
    hashes = json.loads(make_recipe(arguments, Fixed(), images)[KEY])["images"]
    assert hashes["wide"] != hashes["tall"]


def test_a_figure_says_which_network_it_is_of():
    assert network_note("squeezenet", None) == "Network: squeezenet, packaged weights."
    assert network_note("resnet18", None) == "Network: resnet18, torchvision's weights."
    assert network_note("resnet18", "folder/mine.pth") == "Network: resnet18, weights of mine.pth."
    assert network_note("SqueezeNet1-1", None) == "Network: SqueezeNet1-1, packaged weights."
    assert network_note("squeezenet1_0", None) == "Network: squeezenet1_0, torchvision's weights."
    assert network_note("vgg16", None) == "Network: vgg16, torchvision's weights."
    assert network_note("vgg", None, features=True) == "Network: vgg, packaged weights."
    own = "Network: net.py:make, weights as its code sets them."
    assert network_note("net.py:make", None) == network_note("net.py:make", "random") == own
    assert network_note("net.py:make", "a/b.pt") == "Network: net.py:make, weights of b.pt."
    assert "random weights" in network_note("resnet18", "random")
    assert "learned nothing" in network_note("resnet18", "random")


def test_an_answer_names_the_predicted_class_where_it_is_another_one():
    assert answer_note(12.34, 0.9126, 4, 4, NAMES) == "score 12.3, probability 0.913"
    assert answer_note(1.0, 0.1, 4, 2, NAMES) == "score 1.0, probability 0.100; predicted: tabby"


@pytest.fixture
def drawn(monkeypatch, tmp_path, small_styles, capsys):
    """-> a function that runs a script and returns rows, row labels and note of its figure, which is not drawn."""
    import class_visualization
    import gradcam_visualization
    import saliency_visualization
    import style_transfer

    figures = []

    def save(path, rows, **options):
        figures.append((rows, options.get("row_labels", ()), options["note"]))
        return path

    monkeypatch.chdir(tmp_path)
    if importlib.util.find_spec("extras"):
        # This one first: it is imported here, and must find the real function, to which it is set back.
        monkeypatch.setattr("extras.synthesis.figures.save_grid", save)
    monkeypatch.setattr("helpers.figures.save_grid", save)
    monkeypatch.setattr("style_utils.STEPS", 1)
    scripts = {
        "class": class_visualization,
        "saliency": saliency_visualization,
        "gradcam": gradcam_visualization,
        "style": style_transfer,
    }

    def run(script, *arguments):
        figures.clear()
        code, said = scripts[script].main([*arguments, "--quiet"]), capsys.readouterr().err
        if "it needs the folder extras/" in said and not importlib.util.find_spec("extras"):
            pytest.skip(said.strip())
        assert code == 0, said
        return figures[-1]

    return run


PHOTOS = ("--images", "coffee", "chelsea", "--size", "64")


def test_the_panel_of_a_style_transfer_says_network_and_layers(drawn):
    sizes = ["--image-size", "32", "--style-size", "32", "--content-layer", "2", "--style-layers", "1", "4"]
    options = ["--content", "coffee", "--style", "rocket", *sizes, "--style-weights", "1", "2"]
    _, _, note = drawn("style", *options)
    assert note == "Content at layer 2, style at layers 1, 4. Network: squeezenet, packaged weights."
    assert drawn("style", *options, "--weights", "random")[2].endswith("It has learned nothing.")


def test_pictures_of_classes_say_what_the_network_takes_them_for(drawn, monkeypatch):
    for method in ("pixels", "fourier"):
        small = ["--iterations", "1", "--rows", "1", "--method", method, "--classes", "goldfish", "tench"]
        rows, _, note = drawn("class", *small)
        assert [cell.title for cell in rows[0]] == ["goldfish", "tench"]
        for cell in rows[0]:  # one step leads nowhere
            assert "; predicted: " in cell.subtitle
            assert "predicted: tench" not in cell.subtitle and "predicted: goldfish" not in cell.subtitle
        assert "Network: squeezenet, packaged weights." in note


def test_class_activation_maps_name_method_and_layer(drawn):
    _, labels, note = drawn("gradcam", *PHOTOS, "--layers", "features.7", "--method", "layer-cam", "--guided")
    assert "Method: layer-cam, at the layers named." in note
    assert labels == ["photo", "features.7", "guided backpropagation", "Guided Grad-CAM, features.7"]
    compared = ["--compare-models", "squeezenet:random"]
    _, labels, note = drawn("gradcam", *PHOTOS, "--layers", "features.7", *compared)
    assert labels[-1] == "grad-cam at features; squeezenet with random weights"
    _, labels, note = drawn(
        "saliency", *PHOTOS, "--methods", "grad-cam", "saliency", "layer-cam", "fused-layer-cam", *compared
    )
    assert "At features: Grad-CAM; LayerCAM. At features." in note
    assert ", features: LayerCAM, four layers fused." in note
    assert labels[-1] == "Grad-CAM at features; squeezenet with random weights"
    assert "At " not in drawn("saliency", *PHOTOS, "--methods", "saliency")[2]


def test_a_compared_network_has_its_weights_in_its_name():
    assert describe_network("squeezenet", None) == "squeezenet, packaged weights"
    assert describe_network("resnet18", "random") == "resnet18 with random weights"
