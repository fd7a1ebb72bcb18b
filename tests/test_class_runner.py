"""class_visualization.py from arguments to files: both methods, channels, animations, fooling, refusals."""

import numpy as np
import pytest
from PIL import Image

import class_visualization
from helpers.recipe import read_recipe
from tests.test_figures import cells_found

SMALL = ["--size", "48", "--iterations", "3", "--quiet"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs in an empty folder: arguments -> (exit code, what was said on stderr, the files written)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = class_visualization.main([*map(str, arguments)])
        files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
        return code, capsys.readouterr().err, files

    return call


def test_fourier_draws_a_row_for_each_stage_or_each_variation(run, tmp_path):
    stages = run(*SMALL, "--classes", "flamingo", "gorilla", "--rows", 1, "--output", "stages.png")
    three = run(*SMALL, "--classes", "flamingo", "gorilla", "--variations", 3, "--output", "three.png")
    assert (stages[0], three[0]) == (0, 0)
    assert cells_found(tmp_path / "stages.png") == 2 * 2  # the first iteration and the last
    assert cells_found(tmp_path / "three.png") == 3 * 2


def test_variations_of_one_class_stand_side_by_side(run, tmp_path):
    run(*SMALL, "--classes", "flamingo", "--variations", 5, "--output", "five.png", "--animate", "five.gif")
    run(*SMALL, "--classes", "flamingo", "--variations", 7, "--output", "seven.png")
    five, seven = (Image.open(tmp_path / name) for name in ("five.png", "seven.png"))
    assert (cells_found(tmp_path / "five.png"), cells_found(tmp_path / "seven.png")) == (5, 7)
    assert five.width == seven.width > five.height * 2
    assert 1.5 < seven.height / five.height < 2
    assert Image.open(tmp_path / "five.gif").size == (5 * 48, 48)


def test_many_classes_are_wrapped_into_rows(run, tmp_path):
    run(*SMALL, "--classes", *range(6), "--output", "six.png")
    run(*SMALL, "--classes", *range(4), "--variations", 2, "--output", "four.png")
    six, four = (Image.open(tmp_path / name) for name in ("six.png", "four.png"))
    assert cells_found(tmp_path / "six.png") == 6
    assert abs(six.height - four.height) < 0.1 * four.height  # two rows each
    assert six.width > four.width


def test_the_same_seed_gives_the_same_bytes_and_a_replay_too(run, tmp_path):
    for output, seed in (("a.png", 5), ("b.png", 5), ("c.png", 6)):
        run(*SMALL, "--classes", "1", "--seed", seed, "--output", output)
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    assert run("--replay", "a.png", "--output", "d.png", "--quiet")[0] == 0
    assert (tmp_path / "d.png").read_bytes() == a


@pytest.mark.parametrize("method", ["fourier", "pixels"])
def test_an_animation_shows_every_picture_and_leaves_the_figure_as_it_is(run, tmp_path, method):
    common = ["--method", method, *SMALL, "--classes", "1", "9"]
    assert run(*common, "--output", "still.png")[0] == 0
    assert run(*common, "--output", "moving.png", "--animate", "a.gif")[0] == 0
    gif = Image.open(tmp_path / "a.gif")
    assert gif.n_frames == 3
    assert gif.size == (96, 48)
    durations, frames = [], []
    for i in range(3):
        gif.seek(i)
        durations.append(gif.info["duration"])
        frames.append(np.asarray(gif.convert("RGB"), np.float32))
    assert durations[-1] > 1000 > durations[0]
    assert np.abs(frames[0] - frames[2]).mean() > 1
    assert (tmp_path / "still.png").read_bytes() == (tmp_path / "moving.png").read_bytes()


def test_an_animation_is_kept_small():
    from helpers.figures import tile

    pictures = [Image.new("RGB", (200, 200)) for _ in range(7)]
    assert tile(pictures, columns=5, max_pixels=10**9).size == (1000, 400)
    width, height = tile(pictures, columns=5, max_pixels=100_000).size
    assert width * height <= 100_000 < 1.1 * width * height


def test_a_channel_of_a_layer(run, tmp_path):
    code, _, files = run(*SMALL, "--layer", "features.7", "--channel", 12, 40)
    assert (code, files) == (0, ["visualization/class_visualization.png"])
    recipe = read_recipe(tmp_path / files[0])["arguments"]
    assert (recipe["layer"], recipe["channel"]) == ("features.7", [12, 40])


def test_the_pixel_method_draws_a_row_for_each_stage(run, tmp_path):
    options = ["--method", "pixels", "--classes", "1", "--size", "48", "--iterations", "4", "--quiet"]
    assert run(*options, "--rows", "1", "--output", "one.png")[0] == 0
    assert run(*options, "--rows", "4", "--output", "four.png")[0] == 0
    heights = [Image.open(tmp_path / name).height for name in ("one.png", "four.png")]
    assert 1.5 < heights[1] / heights[0] < 2.5  # iterations 1 and 4; 1, 2, 3 and 4


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
        (["--fool", "coffee", "--rows", "3"], 2, "--rows goes with --method fourier, not with --fool"),
        (["--l2-reg", "1"], 2, "--l2-reg goes with --method pixels, not with --method fourier"),
        (["--method", "pixels", "--variations", "2"], 2, "--variations goes with --method fourier"),
        (["--fool", "coffee", "--l2-reg", "1"], 2, "--l2-reg goes with --method pixels, not with --fool"),
        (["--fool", "coffee", "--animate", "a.gif"], 2, "--animate goes with"),
        (["--fool", "coffee", "--method", "pixels"], 2, "--method goes with drawing, not with --fool"),
        (["--layer", "features.7"], 2, "--layer and --channel go together"),
        (["--channel", "7"], 2, "--layer and --channel go together"),
        (["--layer", "features.7", "--channel", "7", "--classes", "1"], 2, "--classes and --layer"),
        (["--layer", "featurs.7", "--channel", "7"], 2, "did you mean features.7"),
        (["--layer", "features.7", "--channel", "256"], 2, "features.7 has channels 0 to 255"),
        (["--animate", "a.png"], 2, "call it FILE.gif"),
        (["--size", "31"], 2, "--size 31 must be from 32 to 2048"),
        (["--method", "pixels", "--max-jitter", "300"], 2, "--max-jitter 300"),
        (["--classes", "flamingoo"], 2, "nearest: flamingo"),
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


def test_an_animation_that_cannot_be_written_leaves_nothing(run, tmp_path):
    (tmp_path / "taken").touch()
    code, said, files = run(*SMALL, "--classes", "1", "--animate", "taken/a.gif")
    assert code == 1
    assert "taken/a.gif cannot be written" in said
    assert files == ["taken"]
