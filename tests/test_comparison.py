"""Class A against class B, covered regions, and two networks: what they compute is known exactly."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import gradcam_visualization
import saliency_visualization
from extras.attribution.comparison import (
    Cover,
    ScoreDifference,
    add_covered,
    all_scores,
    beside_the_photo,
    covered,
    explain_covered,
    most_important,
    network_rows,
    read_cover,
    regions_of,
    share_of,
    shifted_region,
)
from extras.attribution.methods import METHODS, Method, input_gradient, integrated_gradients
from helpers.data_utils import load_photo
from helpers.errors import CannotError, UsageError
from helpers.figures import Bars, Cell
from helpers.image_batch import ImageBatch, MapRows, best_classes, chart_rows, cropped


class Linear(nn.Module):
    """Scores that are sums of pixels: class k counts channel k."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 3, 1, bias=False)
        self.features.weight.data = torch.eye(3)[:, :, None, None]

    def forward(self, x):
        return self.features(x).sum(dim=(2, 3))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 5)).eval()


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_the_gradient_of_a_difference_is_the_difference_of_the_gradients(small):
    y, other = torch.tensor([1, 3]), torch.tensor([2, 2])
    difference = ScoreDifference(small, 2)
    for method in (input_gradient, integrated_gradients):
        expected = method(X, y, small) - method(X, other, small)
        assert torch.allclose(method(X, y, difference), expected, atol=1e-5)
    assert torch.equal(difference(X).softmax(dim=1).argmax(dim=1), small(X).softmax(dim=1).argmax(dim=1))
    assert torch.allclose(difference(X).softmax(dim=1), small(X).softmax(dim=1), atol=1e-6)
    assert difference(X)[:, 2].abs().max() == 0


def test_a_difference_has_the_layers_of_its_network_and_copies_whole(small):
    difference = ScoreDifference(small, 0)
    assert [name for name, _ in difference.named_modules()] == [name for name, _ in small.named_modules()]
    copied = copy.deepcopy(difference)
    copied.get_submodule("3").weight.data.zero_()
    assert not torch.allclose(copied(X), difference(X))
    with pytest.raises(IndexError, match="class 9 does not exist: there are 0 to 4"):
        ScoreDifference(small, 9)(X)


def test_scores_fall_by_exactly_what_is_covered():
    mask = np.zeros((8, 8), bool)
    mask[2:4, 5:7] = True
    lost = Linear()(X) - all_scores(covered(X, mask), Linear())
    assert torch.allclose(lost, X[:, :, 2:4, 5:7].sum(dim=(2, 3)), atol=1e-5)


def test_only_the_region_is_covered_and_a_blur_keeps_one_colour():
    mask = np.zeros((8, 8), bool)
    mask[:3] = True
    grey, blurred = covered(X, mask), covered(X, mask, "blur")
    assert grey[:, :, :3].abs().max() == 0
    for changed in (grey, blurred):
        assert torch.equal(changed[:, :, 3:], X[:, :, 3:])
    assert not torch.equal(blurred[:, :, :3], X[:, :, :3])
    assert torch.allclose(covered(torch.ones(1, 3, 8, 8), mask, "blur"), torch.ones(1, 3, 8, 8))
    with pytest.raises(ValueError, match="grey or blur, not by 'ink'"):
        covered(X, mask, "ink")
    with pytest.raises(ValueError, match=r"a mask of \(4, 4\) for images of \(8, 8\)"):
        covered(X, mask[:4, :4])


def test_the_most_important_pixels_and_as_many_elsewhere():
    heat = np.arange(12.0).reshape(3, 4)
    mask = most_important(heat, 0.25)
    assert np.argwhere(mask).tolist() == [[2, 1], [2, 2], [2, 3]]
    assert most_important(heat, 0).sum() == 0
    assert most_important(heat, 1).all()
    moved = shifted_region(mask, seed=1)
    assert moved.sum() == 3
    assert not np.array_equal(moved, mask)
    assert np.array_equal(moved, shifted_region(mask, seed=1))


def gradient_map(X, y, model, advance=None):
    """|d s_y / dI|, scaled by its maximum: the map of a network that sees one pixel is that pixel."""
    heat = input_gradient(X, y, model).abs().sum(dim=1)
    return heat / heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)


class OnePixel(nn.Module):
    """Class k is as probable as softmax says of channel k of the pixel in row 2, column 5."""

    def forward(self, x):
        return x[:, :, 2, 5] ** 2


ONE = Method("one", gradient_map, "region")


def test_what_is_covered_is_seen_by_the_network_and_drawn_and_explained():
    mask = np.zeros((8, 8), bool)
    mask[2, 5] = True
    y = torch.tensor([1, 0])
    found = explain_covered(X, y, OnePixel(), gradient_map, mask)
    assert torch.allclose(found.probabilities, torch.full((2, 3), 1 / 3))  # all scores are 0
    assert not found.maps.any()  # the gradient of x^2 at 0
    grey = (np.array([0.485, 0.456, 0.406]) * 255).round()
    assert (found.photos[0][2, 5] == grey).all()
    assert torch.equal(found.X, covered(X, mask))
    elsewhere = explain_covered(X, y, OnePixel(), gradient_map, np.roll(mask, 1, axis=0))
    assert torch.allclose(elsewhere.probabilities, OnePixel()(X).softmax(dim=1))
    assert [np.argwhere(heat).tolist() for heat in elsewhere.maps] == [[[2, 5]], [[2, 5]]]


@pytest.mark.parametrize(("text", "share"), [("10%", 0.1), ("12.5%", 0.125), ("region.png", None)])
def test_a_share_is_a_number_of_percent_and_all_else_is_a_file(text, share):
    assert share_of(text) == share


@pytest.mark.parametrize("text", ["0%", "100%", "150%", "-5%", "abc%", "nan%", "%"])
def test_a_share_that_cannot_be_is_named_in_one_line(text):
    with pytest.raises(UsageError, match=f"--cover {text}: a share is a number above 0% and below 100%"):
        share_of(text)


def test_a_mask_as_large_as_its_photo_is_cut_as_the_photo_is_and_a_square_one_is_resized(tmp_path):
    """chelsea has 451 x 300 pixels: of 64 pixels of the network's square, the mask's middle fills 300 x 7/8."""
    photo = load_photo("chelsea")
    mask = Image.new("L", photo.size)
    mask.paste(255, (0, 0, photo.width // 2, photo.height))
    mask.save(tmp_path / "half.png")
    mask.crop((125, 0, 325, 200)).save(tmp_path / "square.png")
    cover = read_cover(str(tmp_path / "half.png"), "grey", ["chelsea"], 64)
    assert cover.masks.shape == (1, 64, 64)
    assert cover.masks[0].all(axis=0).tolist() == [True] * 32 + [False] * 32
    crop = read_cover(str(tmp_path / "half.png"), "grey", ["chelsea"], 64, (200, 0, 100))
    assert crop.masks[0].all(axis=0).sum() == pytest.approx(64 * (photo.width // 2 - 200) / 100, abs=1)
    off_centre = read_cover(str(tmp_path / "half.png"), "grey", ["chelsea"], 64, (150, 0, 100))
    assert off_centre.masks[0].all(axis=0).sum() == pytest.approx(48, abs=1)
    simply = read_cover(str(tmp_path / "square.png"), "grey", ["chelsea", "coffee"], 64)
    assert simply.masks.shape == (2, 64, 64) and (simply.masks[0] == simply.masks[1]).all()
    assert simply.masks[0].all(axis=0).sum() == 32
    assert list(cover.sources) == [str(tmp_path / "half.png")]


def test_a_mask_lies_as_a_camera_turned_it(tmp_path):
    mask = Image.new("L", (40, 40))
    mask.paste(255, (0, 0, 40, 20))
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    mask.save(tmp_path / "mask.png", exif=turned)
    masks = read_cover(str(tmp_path / "mask.png"), "grey", ["chelsea"], 32).masks
    assert masks[0, 16:].all() and not masks[0, :16].any()


def test_a_mask_that_covers_nothing_and_one_without_a_photo_are_named(tmp_path):
    black, text = tmp_path / "black.png", tmp_path / "notes.txt"
    Image.new("L", (9, 9)).save(black)
    text.write_text("no picture")
    clear, long = tmp_path / "clear.png", tmp_path / "long.png"
    Image.new("RGBA", (9, 9)).save(clear)
    Image.new("L", (225, 150)).save(long)  # half as large as the photo
    with pytest.raises(
        UsageError, match="all that the network sees is white in it .transparent counts as white"
    ):
        read_cover(str(clear), "grey", ["chelsea"], 64)
    with pytest.raises(
        UsageError, match="long.png is 225 x 150 and chelsea is 451 x 300: give a mask as large"
    ):
        read_cover(str(long), "grey", ["chelsea"], 64)
    with pytest.raises(UsageError, match="black.png: nothing that the network sees is white in it"):
        read_cover(str(black), "grey", ["chelsea"], 64)
    with pytest.raises(UsageError, match="--cover .*black.png goes with --images"):
        read_cover(str(black), "grey", None, 64)
    with pytest.raises(UsageError, match="--cover 0.001%: that is less than one of 64 x 64 pixels"):
        read_cover("0.001%", "grey", None, 64)
    for name in (str(text), str(tmp_path / "absent.png"), str(tmp_path)):
        with pytest.raises(CannotError, match=f"--cover {name}.*; give a picture that is white") as caught:
            read_cover(name, "grey", ["chelsea"], 64)
        assert "\n" not in str(caught.value)


def test_a_share_covers_what_each_map_calls_most_important_and_an_empty_map_nothing():
    heats = np.zeros((2, 4, 5))
    heats[0, 1, 2:4] = 1
    first, second = regions_of(Cover("10%", share=0.1), heats, seed=3).values()
    assert np.argwhere(first[0]).tolist() == [[1, 2], [1, 3]] and not first[1].any()
    assert np.array_equal(second[0], shifted_region(first[0], 3)) and not second[1].any()


def test_rows_say_the_probability_before_and_after_and_show_the_covered_photos_and_their_maps():
    y = torch.tensor([1, 0])
    photos = [np.zeros((8, 8, 3), np.uint8)] * 2
    batch = ImageBatch(photos, X, y, {}, ["a", "b"], ["", ""])
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 2, 5] = True
    maps = gradient_map(X, y, OnePixel()).numpy()
    rows = MapRows([[Cell(photo) for photo in photos]], ["one"])
    shown = add_covered(rows, ONE, maps, batch, OnePixel(), Cover("files/it.png", masks=mask))
    assert rows.labels == ["one", "covered: it.png", "map of the covered photo"]
    before = OnePixel()(X).softmax(dim=1)
    for n, k in enumerate(y.tolist()):
        photo, heat = rows.rows[1][n], rows.rows[2][n]
        assert photo.caption == f"probability {before[n, k]:.2f} → 0.33"
        assert np.array_equal(photo.image, shown[0].photos[n])
        assert heat.subtitle == "no positive evidence"
    shares = MapRows([[Cell(photo) for photo in photos]], ["one"])
    add_covered(shares, ONE, maps * [[[1]], [[0]]], batch, OnePixel(), Cover("2%", share=0.02))
    assert shares.labels[1::2] == [
        "covered: the most important 2%",
        "covered: the same region, somewhere else",
    ]
    most, elsewhere = shares.rows[1], shares.rows[3]
    assert most[0].caption.endswith("→ 0.33") and not elsewhere[0].caption.endswith("→ 0.33")
    assert most[1].caption == elsewhere[1].caption == "nothing is covered here"
    # How, and where else, is as asked.
    where, blurred = shifted_region(most_important(maps[0], 0.02), 5), Cover("2%", "blur", share=0.02)
    shown = add_covered(MapRows([], []), ONE, maps, batch, OnePixel(), blurred, seed=5)
    assert torch.equal(shown[1].X[0], covered(X, where, "blur")[0])


def test_beside_one_photo_stand_its_covered_copies_each_above_its_map():
    batch = ImageBatch([np.zeros((8, 8, 3), np.uint8)], X[:1], torch.tensor([1]), {}, ["a"], ["b"])
    rows = MapRows([[Cell(np.zeros((8, 8)))]], ["one"])
    maps = gradient_map(X[:1], batch.y, OnePixel()).numpy()
    shown = add_covered(rows, ONE, maps, batch, OnePixel(), Cover("2%", share=0.02))
    wide, beside = beside_the_photo(batch, rows, shown)
    assert len(wide.photos) == len(wide.X) == len(beside.rows[0]) == 3 and wide.y.tolist() == [1, 1, 1]
    assert beside.labels == ["one"] and len(beside.rows) == 1
    assert wide.titles == ["a", *rows.labels[1::2]]
    assert wide.subtitles == ["b", rows.rows[1][0].caption, rows.rows[3][0].caption]
    assert beside.rows[0][1:] == [rows.rows[2][0], rows.rows[4][0]]
    assert torch.equal(wide.X[1], shown[0].X[0])


def test_the_note_says_what_one_sees_and_how_it_is_covered():
    assert Cover("10%", share=0.1).note == (
        "The 10% of the pixels that a map calls most important are covered in grey, then the same region somewhere "
        "else: if the map is right, the first costs more probability. The map of a covered photo is for the same class."
    )
    note = Cover("files/it.png", "blur", masks=np.ones((1, 2, 2), bool)).note
    assert note.startswith("What is white in it.png is covered by a blurred copy: if the probability falls,")


def test_rows_of_two_networks_name_them_and_their_probabilities(small):
    photos = [np.zeros((8, 8, 3), np.uint8)] * 2
    y = torch.tensor([1, 3])
    batch = ImageBatch(photos, X, y, {}, ["a", "b"], ["", ""])
    random = copy.deepcopy(small)
    random[3].weight.data.neg_()
    groups = network_rows(METHODS["saliency"], batch, [("one", small), ("two", random)])
    assert [group.labels for group in groups] == [["saliency map; one"], ["saliency map; two"]]
    for group, model in zip(groups, (small, random), strict=True):
        p = model(X).softmax(dim=1)
        assert [cell.caption for cell in group.rows[0]] == [
            f"probability {p[n, k]:.2f}" for n, k in enumerate(y.tolist())
        ]


def test_a_crop_is_the_square_that_was_named():
    pixels = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
    img = Image.fromarray((pixels % 251).astype(np.uint8)).convert("RGB")
    assert np.array_equal(np.asarray(cropped(img, (7, 3, 10), 10)), np.asarray(img)[3:13, 7:17])
    with pytest.raises(UsageError, match="--crop 21,0,10 leaves the photo, which has 30 x 20 pixels"):
        cropped(img, (21, 0, 10), 10)


def test_the_best_classes_come_in_order_with_their_probabilities():
    X = torch.zeros(1, 3, 1, 1)
    X[0, :, 0, 0] = torch.tensor([1.0, 3.0, 2.0]).log()
    (best,) = best_classes(X, Linear(), 2, ["a", "b", "c"])
    assert [name for name, _ in best] == ["b", "c"]
    assert [p for _, p in best] == pytest.approx([3 / 6, 2 / 6])


def test_a_bar_is_as_long_as_its_value():
    page = np.asarray(Bars([("a", 0.25), ("b", 1.0), ("c", 0.0)]).drawn(200, 240)).astype(int)
    blue = (page[..., 2] - page[..., 0]) > 100
    assert [int(blue[i * 80 : (i + 1) * 80].sum(axis=1).max()) for i in range(3)] == [50, 200, 0]


def test_charts_stand_beside_towers_of_maps_and_under_several_photos():
    cell = Cell(np.zeros((2, 2, 3), np.uint8))
    tower = MapRows([[cell], [cell]], ["a", "b"])
    assert len(chart_rows([[("x", 1.0)]], like=tower).rows) == 2
    assert len(chart_rows([[("x", 1.0)]] * 2, like=tower).rows) == 1


@pytest.mark.parametrize("runner", [saliency_visualization, gradcam_visualization])
def test_the_runners_compare(runner, tmp_path):
    options = [
        "--images",
        "chelsea",
        "--crop",
        "100,20,260",
        "--size",
        "96",
        "--top",
        "3",
        "--versus",
        "lynx",
    ]
    options += ["--compare-models", "squeezenet:random"]
    first, again, plain = (str(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    assert runner.main([*options, "--output", first]) == 0
    assert runner.main(["--replay", first, "--output", again]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert runner.main([*options[:6], "--output", plain]) == 0
    assert Image.open(first).size != Image.open(plain).size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--images", "chelsea", "--versus", "tiger cat", "--classes", "282"],
            "is the class that is explained",
        ),
        (["--images", "chelsea", "--crop", "400,0,100"], "leaves the photo, which has 451 x 300 pixels"),
        (["--crop", "0,0,100"], "--crop goes with --images"),
        (["--images", "chelsea", "--compare-models", "squezenet"], "did you mean"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(options, message, tmp_path, capsys):
    assert gradcam_visualization.main([*options, "--output", str(tmp_path / "a.png")]) == 2
    assert message in capsys.readouterr().err


def drawn(options, monkeypatch):
    """What the Grad-CAM runner hands to `save_grid`."""
    kept = {}
    monkeypatch.setattr(
        "helpers.figures.save_grid",
        lambda path, rows, **others: kept.update(rows=rows, **others) or path,
    )
    assert gradcam_visualization.main([*options, "--size", "64", "--quiet"]) == 0
    return kept


def test_the_runner_covers_one_photo_beside_it_and_charts_each(monkeypatch):
    kept = drawn(
        ["--images", "coffee", "--cover", "20%", "--top", "1000", "--cover-with", "blur"], monkeypatch
    )
    photos, charts, maps = kept["rows"]
    assert len(photos) == len(charts) == len(maps) == 3
    assert kept["row_labels"] == ["photo", "1000 most probable classes", "features"]
    name, probability = charts[0].values[0]
    assert photos[0].title == f"{name} ({probability:.2f})"
    for photo, chart in zip(photos[1:], charts[1:], strict=True):
        after = dict(chart.values)[name]
        assert photo.subtitle == f"probability {probability:.2f} → {after:.2f}"
    assert "are covered by a blurred copy, then" in kept["note"]
    assert kept["metadata"]["recipe"].count('"cover": "20%"') == 1


def test_the_runner_covers_several_photos_under_the_maps_of_each_layer_and_of_all(monkeypatch):
    options = [
        "--images",
        "coffee",
        "chelsea",
        "--classes",
        "cup",
        "--versus",
        "tabby",
        "--method",
        "layer-cam",
    ]
    options += ["--layers", "features.4", "features.9", "--fuse", "--cover", "10%"]
    kept = drawn(options, monkeypatch)
    added = ["covered: the most important 10%", "covered: the same region, somewhere else"]
    below = [label for name in added for label in (name, "map of the covered photo")]
    titles = ("features.4", "features.9", "2 layers fused")
    assert kept["row_labels"] == ["photo", *(label for title in titles for label in (title, *below))]
    covered_by_layer = [np.asarray(kept["rows"][i][0].image) for i in (2, 7, 12)]
    assert not any(np.array_equal(covered_by_layer[0], other) for other in covered_by_layer[1:])


def test_a_covered_figure_is_made_again_from_its_recipe_with_the_same_mask_only(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    mask = Image.new("L", (40, 40))
    mask.paste(255, (5, 5, 30, 20))
    mask.save("region.png")
    options = ["--images", "coffee", "--cover", "region.png", "--size", "64", "--output", "a.png"]
    assert gradcam_visualization.main(options) == 0
    again = ["--replay", "a.png", "--output", "b.png"]
    assert gradcam_visualization.main(again) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    mask.paste(255, (30, 30, 35, 35))
    mask.save("region.png")
    capsys.readouterr()
    assert gradcam_visualization.main(again) == 1
    assert "region.png is no longer the image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--cover", "150%"], 2, "--cover 150%: a share is a number above 0% and below 100%, such as 10%"),
        (["--cover", "absent.png"], 1, "--cover absent.png: no such file; give a picture"),
        (["--cover", ""], 2, "--cover: the name of the mask is empty"),
        (["--cover", "10%", "--trust"], 2, "--cover does not go with --trust: draw a figure of each"),
        (["--cover", "10%", "--guided"], 2, "--cover does not go with --guided"),
        (["--cover", "10%", "--compare-models", "squeezenet"], 2, "does not go with --compare-models"),
        (["--cover-with", "blur"], 2, "--cover-with goes with --cover"),
    ],
)
def test_what_cannot_be_covered_is_said_in_one_line(options, code, message, tmp_path, capsys):
    output = tmp_path / "a.png"
    images = ["--images", "coffee", "--size", "64", "--output", str(output)]
    assert gradcam_visualization.main([*images, *options]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not output.exists()
