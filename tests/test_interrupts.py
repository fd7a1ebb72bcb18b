"""Ctrl-C, Python's own options and settings files: none shows a traceback or changes a picture."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
RUNNERS = ("class_visualization", "saliency_visualization", "gradcam_visualization", "style_transfer")
SMALL = {
    "class_visualization": ["--classes", "daisy", "--iterations", "2", "--rows", "1"],
    "saliency_visualization": ["--images", "coffee", "--size", "64"],
    "gradcam_visualization": ["--images", "coffee", "--size", "64"],
    "style_transfer": [
        "--method",
        "paint",
        "--model",
        "squeezenet",
        "--content",
        "coffee",
        "--style",
        "rocket",
    ]
    + ["--size", "64", "--steps", "2", "--plot", "plot.png"],
}
# Runs a script as Python would, and presses Ctrl-C when a module is looked for.
PRESS = """
import os, runpy, sys

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == wanted:
            os.kill(os.getpid(), 2)

wanted, *sys.argv = sys.argv[1:]
sys.meta_path.insert(0, Finder)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def script(name, *arguments, options=(), cwd, environment=None):
    return subprocess.run(
        [sys.executable, *options, ROOT / f"{name}.py", *SMALL[name], *arguments],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
    )


def interrupted(name, module, cwd):
    return subprocess.run(
        [sys.executable, "-P", "-c", PRESS, module, ROOT / f"{name}.py", *SMALL[name]],
        cwd=cwd,
        capture_output=True,
        text=True,
    )


IMPORTS = [
    "signal",
    "helpers.cli",
    "argparse",
    "helpers.errors",
    "helpers.data_utils",
    "numpy",
    "torch",
    "torch.autograd",
]
CASES = [(RUNNERS[i % 4], module) for i, module in enumerate(IMPORTS)]
ALL = [
    (name, module)
    for name in RUNNERS
    for module in (*IMPORTS, "scipy", "visualizers.mechanisms", "matplotlib")
]


@pytest.mark.parametrize(
    ("name", "module"),
    [*CASES, *[pytest.param(*case, marks=pytest.mark.slow) for case in ALL if case not in CASES]],
)
def test_an_interrupted_import_is_one_line(tmp_path, name, module):
    done = interrupted(name, module, tmp_path)
    if done.returncode == 0 and (name, module) not in CASES:
        pytest.skip(f"{name} does not import {module}")
    assert done.returncode == 130
    *notes, line = done.stderr.splitlines()
    assert line == f"{name}.py: error: interrupted" and "Traceback" not in done.stderr
    if module != "matplotlib":  # which a plot needs, after the painting
        assert not notes and done.stdout == "" and not list(tmp_path.iterdir())


def test_work_that_is_interrupted_is_cleaned_up(monkeypatch):
    import signal

    from helpers import interrupts

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    try:
        interrupts.allow_cleanup(True)
        assert signal.getsignal(signal.SIGINT) is before  # in a program that is none of the scripts
        interrupts.install()
        interrupts.allow_cleanup(True)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert not left
        interrupts.allow_cleanup(False)
        signal.raise_signal(signal.SIGINT)
        assert left == [130]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        interrupts.install()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("name", RUNNERS)
@pytest.mark.parametrize("option", ["-P", "-I", "-OO"])
def test_help_under_pythons_options(tmp_path, name, option):
    done = script(name, "--help", options=[option], cwd=tmp_path)
    assert done.returncode == 0 and "common options" in done.stdout and not done.stderr


@pytest.mark.parametrize(
    ("name", "options"),
    [("gradcam_visualization", ["-P", "-OO"])]
    + [
        pytest.param(name, options, marks=pytest.mark.slow)
        for name in RUNNERS
        for options in (["-O"], ["-P"], ["-OO"])
    ],
)
def test_pictures_under_pythons_options(tmp_path, name, options):
    done = script(name, "--output", "a.png", options=options, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert script(name, "--output", "b.png", cwd=tmp_path).returncode == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


SETTINGS = """
backend: TkAgg
text.usetex: True
savefig.bbox: tight
savefig.dpi: 30
figure.dpi: 30
figure.facecolor: black
axes.facecolor: red
image.cmap: gray
font.size: 40
lines.linewidth: 20
"""


@pytest.mark.parametrize("kind", ["local", pytest.param("users", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "text", [SETTINGS.encode(), pytest.param(b"\xff\xfe nonsense", marks=pytest.mark.slow)]
)
def test_settings_of_matplotlib_have_no_say(tmp_path, text, kind):
    pictures = {}
    for case in ("none", kind):
        folder = tmp_path / case
        (folder / "config").mkdir(parents=True)
        environment = {}
        if case == "local":
            (folder / "matplotlibrc").write_bytes(text)
        if case == "users":
            (folder / "config" / "matplotlibrc").write_bytes(text)
            config = str(folder / "config")
            environment = {"MPLCONFIGDIR": config, "MATPLOTLIBRC": config, "MPLBACKEND": "nonsense"}
        done = script("style_transfer", "--output", "a.png", cwd=folder, environment=environment)
        assert done.returncode == 0, done.stderr
        pictures[case] = (folder / "plot.png").read_bytes()
        assert Image.open(folder / "plot.png").size[0] == 1080
    assert pictures["none"] == pictures[kind]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNNERS)
def test_every_runner_works_beside_a_damaged_settings_file(tmp_path, name):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe nonsense")
    done = script(name, "--output", "a.png", cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_a_current_folder_that_is_gone_stops_no_import(tmp_path):
    code = (
        "import os, sys; os.rmdir(os.getcwd()); from helpers.fonts import import_matplotlib; import_matplotlib(); "
        "import matplotlib; print(matplotlib.rcParams['figure.dpi'])"
    )
    folder = tmp_path / "gone"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert done.stdout == b"100.0\n", done.stderr
