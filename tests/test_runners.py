"""The four scripts as a user runs them: arguments in, PNG out, one line for what went wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import class_visualization
import gradcam_visualization
import saliency_visualization
import style_transfer
import style_utils
from tests.test_figures import cells_found, cells_of
from visualizers import GradCam

ROOT = Path(__file__).resolve().parent.parent
PROJECT = Path(__file__).resolve().parent.parent
STEPS = style_utils.STEPS
RUNNERS = {
    "class_visualization": class_visualization,
    "saliency_visualization": saliency_visualization,
    "gradcam_visualization": gradcam_visualization,
    "style_transfer": style_transfer,
}
SMALL = {
    "class_visualization": ["--classes", "daisy", "0", "--iterations", "6", "--rows", "1"],
    "saliency_visualization": ["--images", "coffee", "chelsea", "--size", "64"],
    "gradcam_visualization": ["--images", "coffee", "chelsea", "--size", "64", "--guided"],
    "style_transfer": [
        "--content",
        "coffee",
        "--style",
        "swirl",
        "--name",
        "small",
        "--image-size",
        "32",
        "--style-size",
        "32",
    ],
}
CELLS = {
    "class_visualization": 4,
    "saliency_visualization": 6,
    "gradcam_visualization": 14,
    "style_transfer": 3,
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch, small_styles):
    """Every runner works in an empty folder of its own. The graded loop of a style transfer takes a few steps."""
    monkeypatch.setattr(style_utils, "STEPS", 4)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run(name, *arguments):
    return RUNNERS[name].main([str(argument) for argument in arguments])


def fails(capsys, code, name, *arguments):
    """Runs into an error; returns its one line. Nothing half-written is left behind."""
    before = set(Path.cwd().rglob("*"))
    assert run(name, *arguments) == code
    captured = capsys.readouterr()
    lines = [line for line in captured.err.split("\n") if line]
    assert len(lines) == 1, captured.err
    assert ": error: " in lines[0]
    assert set(Path.cwd().rglob("*")) == before
    return lines[0]


@pytest.mark.parametrize("name", RUNNERS)
def test_a_small_run_draws_every_panel_and_prints_the_path_last(name, capsys, monkeypatch):
    monkeypatch.setattr(style_utils, "STEPS", STEPS)
    assert run(name, *SMALL[name]) == 0
    path = Path(capsys.readouterr().out.strip().splitlines()[-1])
    assert path.parent == Path("visualization")
    cells = cells_of(path)
    assert len(cells) == CELLS[name]
    for cell in cells:  # none is blank, and none shows what another does
        assert cell.std(axis=(0, 1)).max() > 5
    thumbnails = [np.asarray(Image.fromarray(cell).resize((32, 32)), dtype=float) for cell in cells]
    for i, one in enumerate(thumbnails):
        for other in thumbnails[:i]:
            assert np.abs(one - other).mean() > 0.5


@pytest.mark.parametrize("name", RUNNERS)
def test_the_same_seed_gives_the_same_bytes_and_a_replay_too(name, capsys):
    paths = []
    for output in ("a.png", "b.png"):
        assert run(name, *SMALL[name], "--output", output) == 0
        paths.append(Path(capsys.readouterr().out.strip().splitlines()[-1]))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert run(name, "--replay", paths[0], "--output", "c.png") == 0
    again = Path(capsys.readouterr().out.strip().splitlines()[-1])
    assert again.name.startswith("c")
    assert again.read_bytes() == paths[0].read_bytes()


def test_default_names():
    assert run("style_transfer", *SMALL["style_transfer"][:4], *SMALL["style_transfer"][6:]) == 0
    assert {path.name for path in Path("visualization").iterdir()} == {
        "coffee_swirl.png",
        "coffee_swirl_panel.png",
    }


def test_replay_of_what_is_not_replayable(capsys, photo_file):
    assert "carries no recipe" in fails(capsys, 1, "saliency_visualization", "--replay", photo_file)
    assert "no such file" in fails(capsys, 1, "saliency_visualization", "--replay", "absent.png")
    run("saliency_visualization", "--images", photo_file, "--size", "64", "--output", "a.png", "--quiet")
    assert "run that" in fails(capsys, 1, "gradcam_visualization", "--replay", "a.png")
    Image.new("RGB", (80, 80)).save(photo_file)
    assert "no longer the image" in fails(
        capsys, 1, "saliency_visualization", "--replay", "a.png", "--output", "b.png"
    )


@pytest.mark.parametrize("name", RUNNERS)
def test_help_names_the_common_options(name):
    done = subprocess.run([sys.executable, ROOT / f"{name}.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for option in ("--model", "--weights", "--device", "--seed", "--output", "--quiet", "--replay"):
        assert option in done.stdout


@pytest.mark.parametrize("name", RUNNERS)
def test_reading_arguments_imports_nothing_heavy(name):
    code = (
        f"import sys, {name}\n"
        f"{name}.build_parser().format_help()\n"
        "print([m for m in ('torch', 'numpy', 'matplotlib', 'PIL', 'scipy', 'tqdm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_script_is_executable_and_its_errors_go_to_stderr(photo_file):
    script = ROOT / "saliency_visualization.py"
    assert script.read_text().startswith("#!/usr/bin/env python3\n")
    assert script.stat().st_mode & 0o111
    done = subprocess.run([sys.executable, script, "--images", "nowhere.jpg"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "nowhere.jpg: no such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_usage_is_exit_2(capsys):
    with pytest.raises(SystemExit) as caught:
        run("saliency_visualization", "--no-such-option")
    assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        run("class_visualization", "--iterations", "0")
    assert caught.value.code == 2


@pytest.mark.parametrize("name", ["saliency_visualization", "gradcam_visualization"])
def test_wrong_images_and_classes(name, capsys, photo_file):
    text = Path("text.jpg")
    text.write_text("not an image")
    assert "is not an image file" in fails(capsys, 1, name, "--images", text)
    broken = Path("broken.jpg")
    broken.write_bytes(photo_file.read_bytes()[:-500])
    assert "is incomplete" in fails(capsys, 1, name, "--images", broken)
    assert "did you mean flamingo" in fails(capsys, 2, name, "--classes", "flamigno")
    assert "ambiguous" in fails(capsys, 2, name, "--classes", "cat")
    assert "3 classes for 2 images" in fails(
        capsys, 2, name, "--images", "coffee", "chelsea", "--classes", "1", "2", "3"
    )
    assert "from 32 to 2048" in fails(capsys, 2, name, "--images", "coffee", "--size", "8")
    assert "squeezenet" in fails(capsys, 2, name, "--model", "sqeezenet")
    assert "no such file" in fails(capsys, 1, name, "--weights", "absent.pth")
    assert "cannot be written" in fails(capsys, 1, name, "--images", "coffee", "--output", "text.jpg/x.png")
    assert "unsupported file extension" in fails(capsys, 1, name, "--images", "coffee", "--output", "x.xyz")


def test_one_photo_can_be_asked_about_several_classes():
    assert (
        run("saliency_visualization", "--images", "coffee", "--classes", "espresso", "cup", "--size", "64")
        == 0
    )
    assert cells_found("visualization/saliency_visualization.png") == 6


def test_wrong_layers(capsys):
    line = fails(capsys, 2, "gradcam_visualization", "--images", "coffee", "--layers", "featurs.12")
    assert "did you mean" in line
    assert "features.12" in line


def test_list_layers(capsys):
    assert run("gradcam_visualization", "--list-layers") == 0
    out = capsys.readouterr().out
    assert "features.12" in out
    assert "512 maps of 13 x 13" in out


def test_an_empty_map_is_labelled(monkeypatch, capsys):
    from helpers import figures

    seen = []
    monkeypatch.setattr(figures, "save_grid", lambda path, rows, **options: seen.extend(rows) or path)
    monkeypatch.setattr(GradCam, "grad_cam", lambda *_, **__: np.zeros((1, 64, 64), dtype=np.float32))
    assert run("gradcam_visualization", "--images", "coffee", "--size", "64", "--layers", "features") == 0
    assert seen[1][0].subtitle == "no positive evidence"


@pytest.mark.parametrize("mode", ["1x1", "L", "RGBA", "I;16", "CMYK"])
def test_unusual_photos_go_through_a_runner(mode, capsys):
    if mode == "1x1":
        img = Image.new("RGB", (1, 1), (200, 10, 10))
    elif mode == "I;16":
        img = Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16)
    else:
        img = Image.effect_noise((70, 50), 80).convert("RGB").convert(mode)
    path = Path("photo.tif" if mode == "CMYK" else "photo.png")
    img.save(path)
    assert run("saliency_visualization", "--images", path, "--size", "64") == 0
    assert cells_found("visualization/saliency_visualization.png") >= 2


def test_the_course_loop_gets_real_files_that_pillow_opens(monkeypatch):
    import torch

    given = {}

    def transfer(**arguments):
        for name in ("content_image", "style_image"):
            with Image.open(arguments[name]) as img:
                given[name] = img.mode, img.size, img.format
        given["testing"], given["cnn"] = arguments["testing"], type(arguments["cnn"])
        return torch.zeros(1, 3, 32, 32)

    photo = Image.new("RGB", (64, 48), "white")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise
    photo.save("turned.jpg", exif=exif)
    monkeypatch.setattr(style_utils, "style_transfer", transfer)
    assert run("style_transfer", "--content", "turned.jpg", "--style", "waves", "--init-random") == 0
    assert given == {
        "content_image": ("RGB", (48, 64), "PNG"),
        "style_image": ("RGB", (512, 512), "PNG"),
        "testing": True,
        "cnn": torch.nn.Sequential,
    }


@pytest.fixture
def forged(tmp_path, monkeypatch):
    """A picture of saliency_visualization.py, with other arguments in its recipe: -> its path."""
    monkeypatch.chdir(tmp_path)
    from PIL.PngImagePlugin import PngInfo

    from helpers.recipe import read_recipe

    assert (
        saliency_visualization.main(["--images", "coffee", "--size", "64", "--quiet", "--output", "a.png"])
        == 0
    )
    recipe = read_recipe(Path("a.png"))

    def forge(**arguments):
        info = PngInfo()
        info.add_text("recipe", json.dumps({**recipe, "arguments": recipe["arguments"] | arguments}))
        Image.open("a.png").save("forged.png", pnginfo=info)
        return "forged.png"

    return forge


def test_a_recipe_says_nothing_about_where_to_write(forged, tmp_path):
    victim = tmp_path / "victim.png"
    victim.write_text("mine")
    arguments = [
        "--replay",
        forged(output=str(victim), debug=True, quiet=False),
        "--output",
        "b.png",
        "--quiet",
    ]
    assert saliency_visualization.main(arguments) == 0
    assert victim.read_text() == "mine" and Path("b.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {"size": "64; rm"},
        {"size": [64]},
        {"images": "coffee"},
        {"images": [{"a": 1}]},
        {"seed": -1},
        {"device": "toaster"},
    ],
)
def test_a_recipe_with_values_of_another_kind_is_refused(forged, capsys, arguments):
    said = fails(capsys, 1, "saliency_visualization", "--replay", forged(**arguments))
    assert f"its recipe has a wrong value for {next(iter(arguments))}" in said


def test_a_recipe_of_an_older_version_says_what_is_gone(capsys, monkeypatch):
    from helpers import recipe

    make = recipe.make_recipe
    for fast in (True, None):
        monkeypatch.setattr(
            recipe, "make_recipe", lambda a, *rest, fast=fast: make({**a, "fast": fast}, *rest)
        )
        assert run("style_transfer", *SMALL["style_transfer"], "--output", f"{fast}.png") == 0
    monkeypatch.setattr(recipe, "make_recipe", make)
    capsys.readouterr()
    line = fails(capsys, 1, "style_transfer", "--replay", "True.png", "--output", "again.png")
    assert "was made with --fast, which this version does not have" in line
    assert run("style_transfer", "--replay", "None.png", "--output", "again.png") == 0
    assert np.array_equal(Image.open("again.png"), Image.open("None.png"))


def test_style_transfer_refusals(capsys, photo_file):
    small = SMALL["style_transfer"]
    assert "layer 99 does not exist" in fails(capsys, 2, "style_transfer", *small, "--content-layer", "99")
    assert "give one weight for each" in fails(
        capsys, 2, "style_transfer", *small, "--style-weights", "1", "2"
    )
    assert "must be from 32" in fails(capsys, 2, "style_transfer", *small[:6], "--image-size", "8")
    assert "no such file" in fails(capsys, 1, "style_transfer", "--content", "nowhere.jpg")
    assert "not a path" in fails(capsys, 2, "style_transfer", *small[:4], "--name", "../x")
    assert "name a folder" in fails(capsys, 2, "style_transfer", "--output", "one.png")


def test_check_prints_the_three_losses(capsys):
    assert run("style_transfer", "--check") == 0
    out = capsys.readouterr().out
    for loss in ("Test content loss", "Test style loss", "Test total variation loss"):
        assert loss in out
    assert out.count("0.000") == 6


def test_check_fails_for_a_wrong_loss(monkeypatch, capsys):
    from style_modules import ContentLoss

    monkeypatch.setattr(ContentLoss, "forward", lambda self, w, F, P: w * (F - P).square().mean())
    assert run("style_transfer", "--check") == 1
    assert "content loss: not equal to the stored answers" in capsys.readouterr().err


def test_a_stub_is_one_line(monkeypatch, capsys):
    from visualizers import SaliencyMap

    def stub(self, X, y, model):
        raise NotImplementedError("Task 1: saliency maps")

    monkeypatch.setattr(SaliencyMap, "compute_saliency_maps", stub)
    assert "Task 1: saliency maps is not implemented yet" in fails(capsys, 1, "saliency_visualization")


def test_an_unforeseen_error_says_where_and_debug_shows_all(monkeypatch, capsys):
    from visualizers import SaliencyMap

    def wrong(self, X, y, model):
        return X + [1, 2]

    monkeypatch.setattr(SaliencyMap, "compute_saliency_maps", wrong)
    line = fails(capsys, 1, "saliency_visualization")
    assert "TypeError" in line
    assert "test_runners.py, line" in line
    assert run("saliency_visualization", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_importing_a_runner_does_nothing(elsewhere):
    code = "import class_visualization, saliency_visualization, gradcam_visualization, style_transfer"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


def test_the_published_presets_are_the_published_ones():
    layers = {"content_layer": 3, "style_layers": [1, 4, 6, 7]}
    keys = ("image_size", "style_size", "content_weight", "style_weights", "tv_weight")
    published = {
        "A": (192, 512, 5e-2, [20000, 500, 12, 1], 5e-2),
        "B": (192, 224, 3e-2, [200000, 800, 12, 1], 2e-2),
        "C": (192, 192, 6e-2, [300000, 1000, 15, 3], 2e-2),
    }
    for name, values in published.items():
        expected = dict(zip(keys, values, strict=True)) | layers
        assert style_transfer.PRESETS[name]._asdict() == expected


def test_the_command_line_overrides_the_preset():
    def settings(*arguments):
        return style_transfer.settings_of(style_transfer.build_parser().parse_args([*arguments]), 13)

    preset = style_transfer.PRESETS
    assert settings() == preset["D"]._asdict()
    assert settings("--preset", "B") == preset["B"]._asdict()
    vgg = style_transfer.build_parser().parse_args(["--model", "VGG19"])
    assert style_transfer.settings_of(vgg, 37) == preset["V"]._asdict()
    changed = settings("--preset", "A", "--tv-weight", "0", "--content-layer", "5", "--style-size", "96")
    assert changed == preset["A"]._asdict() | {"tv_weight": 0, "content_layer": 5, "style_size": 96}


def test_the_strength_of_the_courses_loop_multiplies_the_style_weights_alone():
    arguments = ["--preset", "C", "--strength", "0.5"]
    settings = style_transfer.settings_of(style_transfer.build_parser().parse_args(arguments), 13)
    halved = {"style_weights": [150000, 500, 7.5, 1.5]}
    assert settings == style_transfer.PRESETS["C"]._asdict() | halved


def test_wrong_options_are_one_line_too(capsys):
    for arguments in (["--no-such-option"], ["--classes"], ["--seed", "99999999999999"], ["--device", "tpu"]):
        with pytest.raises(SystemExit) as caught:
            run("saliency_visualization", *arguments)
        assert caught.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_class_visualization_refusals(capsys):
    assert "did you mean flamingo" in fails(capsys, 2, "class_visualization", "--classes", "flamigno")
    assert "--size goes with" in fails(capsys, 2, "class_visualization", "--method", "pixels", "--size", "64")
    assert "unsupported file extension" in fails(capsys, 1, "class_visualization", "--output", "no_ending")


def test_style_transfer_takes_no_text_and_no_half_a_photo(capsys, photo_file):
    text, broken = Path("text.jpg"), Path("broken.jpg")
    text.write_text("not an image")
    broken.write_bytes(photo_file.read_bytes()[:-500])
    assert "is not an image file" in fails(capsys, 1, "style_transfer", "--content", text, "--style", "waves")
    assert "is incomplete" in fails(capsys, 1, "style_transfer", "--content", broken, "--style", "waves")


def test_a_folder_may_have_a_dot_in_its_name():
    Path("run.v2").mkdir()
    assert run("style_transfer", *SMALL["style_transfer"], "--output", "run.v2") == 0
    assert {path.name for path in Path("run.v2").iterdir()} == {"small.png", "small_panel.png"}


def test_quiet_says_nothing(capsys):
    assert run("saliency_visualization", *SMALL["saliency_visualization"], "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_a_turned_photo_goes_through_a_runner_upright():
    photo = Image.new("RGB", (64, 64), "white")
    photo.paste((200, 0, 0), (0, 0, 64, 20))  # red at the top
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise
    photo.transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=exif)
    assert run("saliency_visualization", "--images", "turned.png", "--size", "64") == 0
    shown = cells_of("visualization/saliency_visualization.png")[0]
    assert tuple(shown[5, shown.shape[1] // 2]) == (200, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "environment", "code"),
    [
        ("> /dev/full", {}, 1),
        (">&-", {}, 0),
        ("2>&-", {}, 0),
        ("| true", {}, 0),
        ("", {"PYTHONIOENCODING": "ascii"}, 0),
        ("", {"MPLBACKEND": "nonsense"}, 0),
    ],
)
def test_streams_do_not_matter_to_the_picture(tmp_path, redirection, environment, code):
    output = tmp_path / "für dich.png"
    command = f"{sys.executable} {PROJECT}/saliency_visualization.py --images coffee --size 64 --top 2"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} --output '{output}' {redirection}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert output.exists()
    assert "Traceback" not in done.stderr
    assert done.returncode == code
    assert done.stderr.count("\n") == (code != 0)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        (
            "class_visualization",
            ["--output", "link.png", "--animate", "b.gif"],
            "link.png and --animate b.gif",
        ),
        (
            "style_transfer",
            ["--method", "paint", "--content", "coffee", "--output", "a.png", "--plot", "x/../a.png"],
            "--output a.png and --plot x/../a.png",
        ),
        (
            "style_transfer",
            ["--method", "paint", "--content", "coffee", "--output", "b.png", "--animate", "b.gif"]
            + ["--plot", "link.png"],
            "--animate b.gif and --plot link.png",
        ),
        (
            "style_transfer",
            ["--content", "coffee", "--output", "c.png"],
            "--output c.png and the panel c_panel",
        ),
        (
            "style_transfer",
            ["--method", "paint", "--plot", "p.png"],
            "--plot p.png is one file for 3 pictures",
        ),
    ],
)
def test_outputs_that_are_one_file_are_refused_before_any_work(name, arguments, words, capsys, monkeypatch):
    import helpers.models

    monkeypatch.setattr(helpers.models, "choose_device", None)  # the first step of the work
    Path("link.png").symlink_to("b.gif")
    Path("c_panel.png").symlink_to("c.png")
    Path("x").mkdir()
    assert words in fails(capsys, 2, name, *arguments)


def test_a_picture_with_the_longest_name_has_a_panel(capsys):
    small = [*SMALL["style_transfer"], "--name"]
    assert run("style_transfer", *small, "x" * 251) == 0
    panel = Path(capsys.readouterr().out.strip())
    assert {path.name for path in Path("visualization").iterdir()} == {"x" * 251 + ".png", panel.name}
    assert panel.name.startswith("x" * 200) and panel.name.endswith("_panel.png")
    assert "File name too long" in fails(capsys, 1, "style_transfer", *small, "x" * 252)


def test_long_names_of_photos_give_a_name_that_fits(capsys, photo_file):
    content, style = (photo_file.with_name(f"{letter * 200}.jpg") for letter in "cs")
    for path in (content, style):
        path.write_bytes(photo_file.read_bytes())
    sizes = ["--image-size", "32", "--style-size", "32"]
    assert run("style_transfer", "--content", content, "--style", style, *sizes) == 0
    assert len(list(Path("visualization").iterdir())) == 2


OWN = """
from torch import nn

def silu():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

def relu():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gradcam_visualization", ["--guided"]),
        ("saliency_visualization", ["--methods", "guided-grad-cam"]),
        ("saliency_visualization", ["--methods", "saliency", "guided-backprop"]),
    ],
)
def test_figure_and_terminal_say_where_guided_backpropagation_is_the_plain_gradient(
    name, options, capsys, monkeypatch
):
    notes = []
    monkeypatch.setattr(
        "helpers.figures.save_grid", lambda path, rows, *, note, **_: notes.append(note) or Path(path)
    )
    Path("own.py").write_text(OWN)
    common = ["--images", "coffee", "--size", "64", *options, "--model"]
    assert run(name, *common, "own.py:silu") == 0
    text = (
        "This network has no ReLU (its activations: silu): its guided backpropagation is the plain gradient."
    )
    assert text in notes[0] and f"note: {text}\n" == capsys.readouterr().err
    assert run(name, *common, "own.py:silu", "--quiet") == 0
    assert text in notes[1] and not capsys.readouterr().err
    assert run(name, *common, "own.py:relu") == 0
    assert "ReLU" not in notes[2] and "  " not in notes[2] and not capsys.readouterr().err


def test_a_compared_network_without_relus_is_named(monkeypatch):
    notes = []
    monkeypatch.setattr(
        "helpers.figures.save_grid", lambda path, rows, *, note, **_: notes.append(note) or Path(path)
    )
    options = ["--images", "coffee", "--size", "64", "--methods", "guided-backprop"]
    assert run("saliency_visualization", *options, "--compare-models", "mobilenet_v3_small:random") == 0
    assert "mobilenet_v3_small with random weights: Guided backpropagation changes ReLUs alone" in notes[0]
