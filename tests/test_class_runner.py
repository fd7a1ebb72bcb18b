"""class_visualization.py from arguments to files: what the figures show and say, and what is refused."""

import copy
import random
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import class_visualization
import visualizers
from extras.synthesis import figures
from extras.synthesis.feature_visualization import visualize
from extras.synthesis.photo_ascent import dream, invert
from grading.mistakes.correct import PUBLISHED_CLASS
from helpers import cli
from helpers.data_utils import load_photo
from helpers.errors import CannotError
from helpers.image_utils import deprocess, preprocess, resize, square
from helpers.recipe import read_recipe
from tests.test_figures import cells_found, cells_of

SMALL = ["--size", "48", "--iterations", "3", "--quiet"]  # --size chooses --method fourier
PIXELS = ["--classes", "flamingo", "daisy", "--iterations", "3", "--quiet"]
FLAMINGO, DAISY = 130, 985


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs in an empty folder: arguments -> (exit code, what was said on stderr, the files written)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = class_visualization.main([*map(str, arguments)])
        files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
        return code, capsys.readouterr().err, files

    return call


@pytest.fixture
def figure(run, monkeypatch):
    """Runs with these arguments -> the figure that would be written: (rows of cells, labels, heading, note)."""

    def call(*arguments):
        drawn = []

        def save_grid(path, rows, *, row_labels=(), heading="", note="", metadata=None):
            drawn.append((rows, list(row_labels), heading, note))
            return path

        monkeypatch.setattr("helpers.figures.save_grid", save_grid)
        monkeypatch.setattr(figures, "save_grid", save_grid)
        code, said, _ = run(*arguments)
        assert code == 0, said
        return drawn[0]

    return call


def solution(monkeypatch, source):
    """Puts another visualizers/class_visualization.py in place."""
    namespace = {}
    exec(compile(source, "class_visualization.py", "exec"), namespace)
    monkeypatch.setattr(visualizers, "ClassVisualization", namespace["ClassVisualization"])
    return namespace["ClassVisualization"]


def same_picture(one, other):
    return np.array_equal(np.asarray(one), np.asarray(other))


def assert_answer(text, net, picture, k):
    """That the text above a picture is the network's answer for class k, but for the rounding of a batch."""
    scores = net(preprocess(picture))[0]
    score, probability = re.fullmatch(
        r"score (\S+), probability ([^\s;]+)(?:; predicted: .+)?", text
    ).groups()
    assert float(score) == pytest.approx(float(scores[k]), abs=0.06)
    assert float(probability) == pytest.approx(float(scores.softmax(dim=0)[k]), abs=0.0006)


def graded_picture(technique, net, names, k, count, seed=0):
    torch.manual_seed(seed)
    random.seed(seed)
    options = class_visualization.OPTIONS["--method pixels"]
    options = {name: options[name] for name in ("l2_reg", "learning_rate", "blur_every", "max_jitter")}
    return technique().create_class_visualization(
        k, names, net, torch.float32, num_iterations=count, generate_plots=False, **options
    )


@pytest.mark.parametrize("form", ["ours", "published"])
def test_the_default_figure_is_drawn_by_the_graded_function_and_says_what_it_shows(
    figure, net, names, monkeypatch, form
):
    technique = visualizers.ClassVisualization if form == "ours" else solution(monkeypatch, PUBLISHED_CLASS)
    rows, labels, heading, note = figure(*PIXELS, "--rows", 2)
    assert labels == ["iteration 1", "iteration 2", "iteration 3"]
    assert [cell.title for cell in rows[0]] == [names[FLAMINGO], names[DAISY]]
    assert not any(cell.title for row in rows[1:] for cell in row)
    for row, count in zip(rows, (1, 2, 3), strict=True):
        for cell, k in zip(row, (FLAMINGO, DAISY), strict=True):
            difference = np.asarray(cell.image, int) - graded_picture(technique, net, names, k, count)
            # A network that computes one score alone may round in another order.
            assert np.abs(difference).mean() < 0.5
            assert_answer(cell.subtitle, net, cell.image, k)
    assert "believes" in heading
    assert "squeezenet" in note


def test_variations_of_pixels_start_from_the_seeds_after_the_first(figure, net, names):
    rows, labels, *_ = figure(*PIXELS, "--variations", 2, "--rows", 1, "--seed", 3, "--method", "pixels")
    assert labels == ["iteration 1", "iteration 3"]
    wanted = [(FLAMINGO, 3), (FLAMINGO, 4), (DAISY, 3), (DAISY, 4)]
    assert [cell.title for cell in rows[0]] == [f"{names[k]}, seed {seed}" for k, seed in wanted]
    for cell, (k, seed) in zip(rows[1], wanted, strict=True):
        picture = graded_picture(visualizers.ClassVisualization, net, names, k, 3, seed)
        assert np.abs(np.asarray(cell.image, int) - picture).mean() < 0.5


def test_a_network_that_has_learned_nothing_is_named(figure):
    for options in (["--classes", "1", "--iterations", "1"], ["--classes", "1", *SMALL]):
        note = figure(*options, "--weights", "random", "--quiet")[3]
        assert "squeezenet with random weights" in note


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("img.data += learning_rate", "img.data -= learning_rate"),
        ("objective = score - ", "objective = -score - "),
        ("objective = score - ", "objective = 0 * score - "),
    ],
)
def test_a_wrong_solution_changes_the_default_figure_visibly(run, tmp_path, monkeypatch, right, wrong):
    arguments = ["--classes", "flamingo", "--iterations", "12", "--rows", "1", "--quiet", "--output"]
    assert run(*arguments, "right.png")[0] == 0
    source = (cli.PROJECT / "visualizers" / "class_visualization.py").read_text()
    assert source.count(right) == 1
    solution(monkeypatch, source.replace(right, wrong))
    assert run(*arguments, "wrong.png")[0] == 0
    pictures = [cells_of(tmp_path / name)[-1].astype(float) for name in ("right.png", "wrong.png")]
    assert np.abs(pictures[0] - pictures[1]).mean() > 5


def test_the_first_iteration_the_last_and_equal_steps_between():
    assert class_visualization.counts(100, 4) == [1, 25, 50, 75, 100]
    assert class_visualization.counts(7, 2) == [1, 4, 7]
    assert class_visualization.counts(3, 5) == [1, 2, 3]
    assert class_visualization.counts(1, 4) == [1]


def test_pixels_is_the_default_and_an_option_of_fourier_chooses_fourier(run, tmp_path):
    for arguments, method in ((["--rows", "1"], "pixels"), (["--size", "48"], "fourier")):
        assert run("--classes", 1, "--iterations", 1, *arguments, "--output", "a.png", "--quiet")[0] == 0
        assert read_recipe(tmp_path / "a.png")["arguments"]["method"] == method


def test_only_what_is_beyond_the_assignment_needs_extras(run, monkeypatch):
    def missing(option):
        raise CannotError(f"{option} is not part of this copy")

    monkeypatch.setattr(cli, "require_extras", missing)
    monkeypatch.setitem(sys.modules, "extras", None)  # importing it fails
    assert run("--classes", 1, "--iterations", 1, "--quiet")[0] == 0
    for arguments, option in (
        (["--method", "fourier", "--size", "48"], "--method fourier"),
        (["--variations", "2"], "--variations"),
        (["--layer", "features.7", "--channel", "1"], "--layer"),
        (["--fool", "coffee", "--size", "64"], "--fool"),
        (["--invert", "coffee", "--layer", "features.1"], "--invert"),
        (["--dream", "coffee", "--layer", "features.1"], "--dream"),
    ):
        code, said, _ = run(*arguments)
        assert (code, said.count("\n")) == (1, 1)
        assert f"error: {option} is not part of this copy" in said


def test_fourier_shows_each_stage_under_the_name_of_its_class(figure, net, names):
    rows, labels, _, note = figure(*SMALL, "--classes", FLAMINGO, DAISY, "--rows", 2)
    states = list(visualize([FLAMINGO, DAISY], net, num_iterations=3, show_every=1, size=48))
    assert labels == ["iteration 1", "iteration 2", "iteration 3"]
    assert [cell.title for cell in rows[0]] == [names[FLAMINGO], names[DAISY]]
    for row, state in zip(rows, states, strict=True):
        for n, cell in enumerate(row):
            assert same_picture(cell.image, deprocess(state.images[n]))
            score, probability = float(state.scores[n]), float(state.probabilities[n])
            best, k = int(net(state.images[n : n + 1]).argmax()), (FLAMINGO, DAISY)[n]
            other = "" if best == k else f"; predicted: {names[best]}"
            assert cell.subtitle == f"score {score:.1f}, probability {probability:.3f}{other}"
    assert note.startswith("Optimized, not photographed")


def test_fourier_draws_one_row_per_variation(figure, net, names):
    rows, labels, *_ = figure(*SMALL, "--classes", FLAMINGO, DAISY, "--variations", 3)
    state = list(visualize([FLAMINGO, DAISY], net, variations=3, num_iterations=3, size=48))[-1]
    assert labels == ["variation 1", "variation 2", "variation 3"]
    assert [[cell.title for cell in row] for row in rows] == [
        [names[FLAMINGO], names[DAISY]],
        *[["", ""]] * 2,
    ]
    for variation, row in enumerate(rows):
        for n, cell in enumerate(row):
            assert same_picture(cell.image, deprocess(state.images[3 * n + variation]))


def test_a_channel_of_a_layer(figure, net, run):
    rows, _, heading, note = figure(*SMALL, "--layer", "features.7", "--channel", 12, 40)
    state = list(visualize([12, 40], net, layer="features.7", num_iterations=3, size=48))[-1]
    assert [cell.title for cell in rows[0]] == ["channel 12", "channel 40"]
    for n, cell in enumerate(rows[-1]):
        assert same_picture(cell.image, deprocess(state.images[n]))
        assert cell.subtitle == f"mean activation {float(state.scores[n]):.2f}"
    assert "features.7" in heading
    assert "features.7" in note


def test_many_classes_and_variations_of_one_are_wrapped_into_rows(figure, names):
    rows, *_ = figure(*SMALL, "--classes", *range(6))
    assert [[cell.title for cell in row] for row in rows] == [names[:5], names[5:6]]
    rows, *_ = figure(*SMALL, "--classes", 1, "--variations", 7)
    assert [len(row) for row in rows] == [5, 2]
    assert rows[1][1].title == f"{names[1]}, variation 7"


def test_layouts_are_drawn_whole(run, tmp_path):
    run(*SMALL, "--classes", "flamingo", "--variations", 5, "--output", "five.png", "--animate", "five.gif")
    run(*SMALL, "--classes", *range(4), "--variations", 2, "--output", "four.png")
    assert (cells_found(tmp_path / "five.png"), cells_found(tmp_path / "four.png")) == (5, 8)
    assert Image.open(tmp_path / "five.gif").size == (5 * 48, 48)


@pytest.mark.parametrize("common", [["--iterations", "2", "--quiet"], SMALL])
def test_the_same_seed_gives_the_same_bytes_and_a_replay_too(run, tmp_path, common):
    for output, seed in (("a.png", 5), ("b.png", 5), ("c.png", 6)):
        run(*common, "--classes", "1", "--seed", seed, "--output", output)
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    assert run("--replay", "a.png", "--output", "d.png", "--quiet")[0] == 0
    assert (tmp_path / "d.png").read_bytes() == a


@pytest.mark.parametrize(("method", "side"), [("fourier", 48), ("pixels", 224)])
def test_an_animation_shows_every_picture_and_leaves_the_figure_as_it_is(run, tmp_path, method, side):
    common = ["--iterations", "3", "--rows", "1", "--quiet", "--classes", "1", "9"]
    common += ["--size", "48"] if method == "fourier" else []
    assert run(*common, "--output", "still.png")[0] == 0
    assert run(*common, "--output", "moving.png", "--animate", "a.gif")[0] == 0
    gif = Image.open(tmp_path / "a.gif")
    assert gif.n_frames == 3
    assert gif.size == (2 * side, side)
    durations, frames = [], []
    for i in range(3):
        gif.seek(i)
        durations.append(gif.info["duration"])
        frames.append(np.asarray(gif.convert("RGB"), np.float32))
    assert durations[-1] > 1000 > durations[0]
    assert np.abs(frames[0] - frames[2]).mean() > 1
    last = cells_of(tmp_path / "still.png")[-1]
    shown = Image.fromarray(frames[2][:, side:].astype(np.uint8)).resize(last.shape[1::-1])
    assert np.abs(np.asarray(shown, float) - last).mean() < 10  # 256 colours, and another size
    assert (tmp_path / "still.png").read_bytes() == (tmp_path / "moving.png").read_bytes()


def test_frames_fall_on_every_row():
    assert figures.frame_interval(row_every=64, rows=4) == 4
    assert figures.frame_interval(row_every=7, rows=1) == 1
    assert figures.frame_interval(row_every=256, rows=1) == 4


def test_an_animation_is_kept_small():
    from helpers.figures import tile

    pictures = [Image.new("RGB", (200, 200)) for _ in range(7)]
    assert tile(pictures, columns=5, max_pixels=10**9).size == (1000, 400)
    width, height = tile(pictures, columns=5, max_pixels=100_000).size
    assert width * height <= 100_000 < 1.1 * width * height


def test_fooling_shows_the_prediction_for_the_changed_photo_and_the_difference(figure, net, names):
    rows, *_ = figure("--fool", "coffee", "chelsea", "--classes", FLAMINGO, DAISY, "--size", "96", "--quiet")
    for (photo, changed, difference), k in zip(rows, (FLAMINGO, DAISY), strict=True):
        for cell in (photo, changed):
            probabilities = net(preprocess(cell.image, 96)).softmax(dim=1)[0]
            seen = int(probabilities.argmax())
            title, probability = re.fullmatch(r"(.*) \((.*)\)", cell.title).groups()
            assert title == names[seen]
            assert float(probability) == pytest.approx(float(probabilities[seen]), abs=0.006)
        assert seen == k
        change = np.asarray(changed.image, float) - np.asarray(photo.image)
        factor = int(difference.title.split()[-2])
        assert factor > 1
        assert np.abs(difference.image - (127.5 + factor * change).clip(0, 255)).max() <= 0.5
        assert difference.subtitle.startswith(f"{np.abs(change).mean():.1f} of 255")
        assert difference.subtitle.endswith(f"{np.abs(change).max():.0f} at most")


def test_what_layers_keep_of_a_photo_stands_beside_it(figure, net):
    small = ("--size", "64", "--iterations", "3", "--quiet")
    rows, *_ = figure("--invert", "coffee", "--layer", "features.1", "features.9", *small)
    photo = square(load_photo("coffee"), 64)
    assert [cell.title for cell in rows[0]] == ["photo", "features.1", "features.9"]
    assert same_picture(rows[0][0].image, photo)
    for cell in rows[0][1:]:
        *_, (image, error) = invert(preprocess(photo, 64), net, cell.title, num_iterations=3)
        assert same_picture(cell.image, deprocess(image))
        assert cell.subtitle == f"relative error of the features {error:.3f}"


def test_dreams_of_layers_stand_beside_the_whole_photo(figure, net):
    arguments = ("--dream", "coffee", "--layer", "features.4", "--size", "64", "--iterations", "2", "--quiet")
    rows, *_ = figure(*arguments)
    photo = resize(load_photo("coffee"), 64)
    assert [cell.title for cell in rows[0]] == ["photo", "features.4"]
    *_, image = dream(preprocess(photo, photo.size[::-1]), net, "features.4", num_iterations=2)
    assert same_picture(rows[0][1].image, deprocess(image))


@pytest.mark.parametrize(("task", "file"), [("--invert", "inversion"), ("--dream", "dream")])
def test_pictures_made_from_photos_have_their_own_file(run, task, file):
    code, _, files = run(
        task, "coffee", "--layer", "features.1", "--size", "64", "--iterations", "1", "--quiet"
    )
    assert (code, f"visualization/{file}.png" in files) == (0, True)


def test_a_channel_that_does_not_respond_says_so_on_its_picture(figure, net, monkeypatch):
    dead = copy.deepcopy(net)
    with torch.no_grad():
        dead.features[7].expand1x1.weight[5] = 0
        dead.features[7].expand1x1.bias[5] = -1
    monkeypatch.setattr("helpers.models.load_classifier", lambda *_: dead)
    said = []
    monkeypatch.setattr(
        figures, "placard", lambda text, size: said.append(text) or Image.new("RGB", (size, size))
    )
    figure(*SMALL, "--layer", "features.7", "--channel", "5", "12")
    assert said == ["this channel does not respond"]


def test_a_class_that_does_not_climb_says_so_on_its_picture(figure, net, monkeypatch):
    dead = copy.deepcopy(net)
    with torch.no_grad():
        dead.classifier[1].weight[130] = 0
        dead.classifier[1].bias[130] = -1
    monkeypatch.setattr("helpers.models.load_classifier", lambda *_: dead)
    said = []
    monkeypatch.setattr(
        figures, "placard", lambda text, size: said.append(text) or Image.new("RGB", (size, size))
    )
    figure("--size", "64", "--iterations", "16", "--quiet", "--classes", "130", "1")
    assert said == ["this class does not respond: its score has not risen"]


def test_pictures_too_small_for_maps_are_drawn_too(figure):
    rows, *_ = figure("--size", "32", "--iterations", "2", "--quiet", "--classes", "130")
    assert rows[-1][0].image.size == (32, 32)


def test_a_placard_bears_its_words():
    assert np.ptp(np.asarray(figures.placard("this channel does not respond", 224))) > 100


def test_fooling_has_its_own_file(run, tmp_path, photo_file):
    code, _, files = run("--fool", "coffee", photo_file, "--classes", "gorilla", "--size", "96", "--quiet")
    assert code == 0
    assert "visualization/fooling_image.png" in files
    assert set(read_recipe(tmp_path / "visualization/fooling_image.png")["images"]) == {
        "coffee",
        str(photo_file),
    }


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--rows", "3", "--variations", "2"], 2, "--rows goes with up to 5 pictures"),
        (
            ["--fool", "coffee", "--rows", "3"],
            2,
            "--rows goes with --method pixels or --method fourier, not",
        ),
        (
            ["--size", "64", "--l2-reg", "1"],
            2,
            "--l2-reg goes with --method pixels, not with --method fourier",
        ),
        (
            ["--fool", "coffee", "--variations", "2"],
            2,
            "--variations goes with --method pixels or --method fourier, not",
        ),
        (
            ["--method", "pixels", "--variations", "2", "--seed", str(2**32 - 1)],
            2,
            "--variations 2: the last seed would be above 4294967295",
        ),
        (["--method", "pixels", "--size", "64"], 2, "--size goes with --method fourier"),
        (["--fool", "coffee", "--l2-reg", "1"], 2, "--l2-reg goes with --method pixels, not with --fool"),
        (["--fool", "coffee", "--animate", "a.gif"], 2, "--animate goes with"),
        (["--fool", "coffee", "--method", "pixels"], 2, "--method goes with drawing, not with --fool"),
        (["--layer", "features.7"], 2, "--layer and --channel go together"),
        (["--channel", "7"], 2, "--layer and --channel go together"),
        (["--layer", "features.7", "--channel", "7", "--classes", "1"], 2, "--classes and --layer"),
        (["--layer", "featurs.7", "--channel", "7"], 2, "did you mean features.7"),
        (["--layer", "features.7", "--channel", "256"], 2, "features.7 has channels 0 to 255"),
        (["--layer", "features.7", "features.9", "--channel", "7"], 2, "channels of one layer at a time"),
        (["--invert", "coffee"], 2, "--invert needs layers"),
        (["--dream", "coffee", "--layer", "nothing"], 2, "no layer with maps"),
        (["--dream", "coffee", "--layer", "features.9", "--channel", "1"], 2, "--channel goes with"),
        (["--dream", "coffee", "--layer", "features.9", "--classes", "1"], 2, "--classes and --layer"),
        (["--dream", "coffee", "--invert", "coffee", "--layer", "features.9"], 2, "--invert and --dream"),
        (["--invert", "nothing.jpg", "--layer", "features.9"], 1, "nothing.jpg: no such file"),
        (["--animate", "a.png"], 1, "--animate a.png: unsupported file extension; use .gif"),
        (["--classes", "flamingoo"], 2, "did you mean flamingo"),
        (["--fool", "nothing.jpg"], 1, "nothing.jpg: no such file"),
        (["--fool", "coffee", "chelsea", "--classes", "1", "2", "3"], 2, "3 classes for 2 images"),
        (
            ["--fool", "coffee", "--iterations", "1", "--classes", "gorilla"],
            1,
            "coffee as gorilla: after 1 step",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(run, arguments, code, words):
    exit_code, said, files = run(*arguments)
    assert exit_code == code
    assert words in said
    assert said.strip().count("\n") == 0
    assert not files


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--size", "31"], "from 32 to 2048"), (["--max-jitter", "224"], "from 0 to 223")],
)
def test_numbers_out_of_range_are_refused(run, capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_an_animation_that_cannot_be_written_leaves_nothing(run, tmp_path):
    (tmp_path / "taken").touch()
    code, said, files = run(*SMALL, "--classes", "1", "--animate", "taken/a.gif")
    assert code == 1
    assert "taken/a.gif cannot be written" in said
    assert files == ["taken"]
