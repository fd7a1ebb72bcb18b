"""What a runner draws by default is the student's own work: right, wrong, not written, or written in another year."""

import copy
import functools
import importlib
import importlib.machinery
import json
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import class_visualization
import gradcam_visualization
import saliency_visualization
import style_transfer
import style_utils
from grading.mistakes import correct
from helpers import style_images
from visualizers import GradCam

ROOT = Path(__file__).resolve().parent.parent
RUNNERS = {
    "saliency": (saliency_visualization, ["--images", "coffee", "--size", "96"]),
    "gradcam": (gradcam_visualization, ["--images", "coffee", "--size", "96"]),
    "guided": (gradcam_visualization, ["--images", "coffee", "--size", "96", "--guided"]),
    "class": (class_visualization, ["--classes", "flamingo", "--iterations", "4", "--rows", "1"]),
    "style": (
        style_transfer,
        ["--content", "coffee", "--style", "waves", "--image-size", "48", "--style-size", "48"],
    ),
}
# One typical mistake per task: file, the right code, the wrong code, the figure it must show in.
MISTAKES = {
    "Task 1, no absolute value": (
        "visualizers/saliency_map.py",
        "gradient.abs().amax(dim=1)",
        "gradient.amax(dim=1)",
        "saliency",
    ),
    "Task 2, alpha averaged over the wrong axes": (
        "visualizers/gradcam.py",
        "gradients.mean(dim=(2, 3), keepdim=True)",
        "gradients.mean(dim=(1, 2), keepdim=True)",
        "gradcam",
    ),
    "Task 2, a ReLU that lets negative gradients pass": (
        "visualizers/gradcam.py",
        "gradient.clamp(min=0) * (x > 0)",
        "gradient * (x > 0)",
        "guided",
    ),
    "Task 3, descent": (
        "visualizers/class_visualization.py",
        "img.data += learning_rate",
        "img.data -= learning_rate",
        "class",
    ),
    "Task 4, a mean instead of a sum": (
        "style_modules/content_loss.py",
        ".square().sum()",
        ".square().mean()",
        "style",
    ),
    "Task 5, a Gram matrix that is not normalized": (
        "style_modules/style_loss.py",
        "return gram / (C * H * W) if normalize else gram",
        "return gram",
        "style",
    ),
    "Task 6, a mean instead of a sum": (
        "style_modules/tv_loss.py",
        "return tv_weight * (down + right)",
        "return tv_weight * (down + right) / img.numel()",
        "style",
    ),
    "Task 7, the gradient is not zeroed": ("style_utils.py", "optimizer.zero_grad()", "pass", "style"),
}
VISIBLE = 2.0  # mean difference of the figures, in levels of 255
STEPS = 30  # of a style transfer, instead of 200


drawn_once = functools.cache(style_images.draw_style)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(style_utils, "STEPS", STEPS)
    monkeypatch.setattr(style_images, "draw_style", drawn_once)


GRAD_CAM = GradCam.grad_cam


def handed_in(monkeypatch, file: str, source: str) -> None:
    """Puts what a source defines in the place of our own functions, until the end of the test."""
    ours = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    theirs = types.ModuleType(ours.__name__)
    exec(compile(source, file, "exec"), theirs.__dict__)
    if hasattr(theirs, "STEPS"):
        theirs.STEPS = STEPS
    for name, value in vars(theirs).items():
        if isinstance(value, type) and value.__module__ == ours.__name__ and hasattr(ours, name):
            for member, function in vars(value).items():
                if isinstance(function, types.FunctionType | staticmethod):
                    monkeypatch.setattr(getattr(ours, name), member, function)
        elif isinstance(value, types.FunctionType) and value.__module__ == ours.__name__:
            monkeypatch.setattr(ours, name, value)


def figure(kind: str) -> np.ndarray:
    """The default figure of a runner, in a small size."""
    runner, options = RUNNERS[kind]
    path = Path("figure.png")
    assert runner.main([*options, "--quiet", "--output", str(path)]) == 0
    return np.asarray(Image.open(path).convert("RGB"), dtype=float)


@pytest.fixture(scope="module")
def right() -> dict[str, np.ndarray]:
    """Figures of our own solutions, kept for the comparisons."""
    return {}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_shows_in_the_default_figure(mistake, right, monkeypatch):
    file, code, wrong, kind = MISTAKES[mistake]
    if kind not in right:
        right[kind] = figure(kind)
    source = (ROOT / file).read_text(encoding="utf-8")
    assert source.count(code) in (1, 2)
    handed_in(monkeypatch, file, source.replace(code, wrong))
    shown = figure(kind)
    # Another predicted class may be a line more: what both have in common is compared.
    height, width = np.minimum(shown.shape[:2], right[kind].shape[:2])
    difference = np.abs(shown[:height, :width] - right[kind][:height, :width]).mean()
    print(mistake, difference)
    assert difference > VISIBLE


PUBLISHED = {
    "visualizers/saliency_map.py": correct.PUBLISHED_SALIENCY,
    "visualizers/gradcam.py": correct.PUBLISHED_GRADCAM,
    "visualizers/class_visualization.py": correct.PUBLISHED_CLASS,
    "style_modules/content_loss.py": correct.PUBLISHED_CONTENT,
    "style_modules/style_loss.py": correct.PUBLISHED_STYLE,
    "style_modules/tv_loss.py": correct.PUBLISHED_TV,
    "style_utils.py": correct.PUBLISHED_TRANSFER,
}


def copy_of_the_project(folder: Path, *, without: tuple[str, ...] = ()) -> Path:
    """The project's program in `folder`."""
    left_out = shutil.ignore_patterns("__pycache__", ".*", "visualization", "docs", "tests", *without)
    return Path(shutil.copytree(ROOT, folder / "copy", ignore=left_out))


def run(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# Several runs of runners in one interpreter in a copy of the project, since each interpreter imports torch anew.
RUN_ALL = """
import importlib, json, sys
import style_utils
style_utils.STEPS = int(sys.argv[1])
codes = [importlib.import_module(name).main(options) for name, *options in json.loads(sys.argv[2])]
print(codes)
"""
KINDS = ("saliency", "guided", "class", "style")


def run_all(copy: Path, *runs: tuple[str, ...]) -> tuple[list[int], list[str]]:
    """Runs (script, option, ...) -> their exit codes, and the lines that they wrote to stderr."""
    arguments = [(Path(script).stem, *options) for script, *options in runs]
    done = run(copy, "-c", RUN_ALL, str(STEPS), json.dumps(arguments))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr.splitlines()


def drawing(kind: str) -> tuple[str, ...]:
    """The run of a runner that draws its default figure."""
    runner, options = RUNNERS[kind]
    return (f"{runner.__name__}.py", *options, "--quiet", "--output", f"{kind}.png")


def drawn_in(copy: Path) -> dict[str, np.ndarray]:
    """The default figures that the runners of a copy have drawn, by kind."""
    return {kind: np.asarray(Image.open(copy / f"{kind}.png").convert("RGB"), dtype=float) for kind in KINDS}


def test_all_runners_draw_with_files_in_the_published_form(tmp_path, right):
    copy = copy_of_the_project(tmp_path)
    for file, source in PUBLISHED.items():
        (copy / file).write_text(source.replace("range(200)", f"range({STEPS})"), encoding="utf-8")
    assert run_all(copy, *map(drawing, KINDS)) == ([0] * len(KINDS), [])
    theirs = drawn_in(copy)
    for kind in ("saliency", "class", "style"):
        if kind not in right:
            right[kind] = figure(kind)
        # Steps of rate 3 magnify rounding, so a few pixels of a painting differ.
        assert np.abs(theirs[kind] - right[kind]).mean() < (4.0 if kind == "style" else 0.5), kind


def test_guided_backpropagation_that_looks_for_torchvisions_fire_finds_it(monkeypatch):
    """As most files of earlier years do."""
    named, of_torchvision = 'item.__class__.__name__ == "Fire"', "isinstance(item, Fire)"
    assert named in correct.PUBLISHED_GRADCAM
    source = "from torchvision.models.squeezenet import Fire\n" + correct.PUBLISHED_GRADCAM
    expected = figure("guided")
    handed_in(monkeypatch, "visualizers/gradcam.py", source.replace(named, of_torchvision))
    monkeypatch.setattr(GradCam, "grad_cam", GRAD_CAM)  # ours: only the guided rows are compared
    assert np.abs(figure("guided") - expected).mean() < 0.5


def test_a_grad_cam_that_knows_no_layer_gets_the_last_one_and_a_note(monkeypatch):
    import helpers.figures

    drawn = {}

    def keep(path, rows, **options):
        drawn.update(rows=rows, **options)
        return path

    handed_in(monkeypatch, "visualizers/gradcam.py", correct.PUBLISHED_GRADCAM)
    monkeypatch.setattr(helpers.figures, "save_grid", keep)
    for more in ([], ["--trust"], ["--layers", "features.4", "features.7"]):
        assert gradcam_visualization.main([*RUNNERS["gradcam"][1], *more, "--quiet"]) == 0
        assert drawn["row_labels"][:2] == ["photo", "features"]
        assert "no parameter `layer`" in drawn["note"]


# Options that need extras/, and what stands there instead.
EXTRA_OPTIONS = [
    ("saliency_visualization.py", "--methods", "smoothgrad"),
    ("saliency_visualization.py", "--trust"),
    ("gradcam_visualization.py", "--method", "layer-cam"),
    ("gradcam_visualization.py", "--fuse"),
    ("gradcam_visualization.py", "--cover", "10%"),
    ("class_visualization.py", "--method", "fourier"),
    ("class_visualization.py", "--fool", "coffee"),
    ("style_transfer.py", "--method", "paint"),
]


def test_the_assignment_works_without_extras(tmp_path, right):
    copy = copy_of_the_project(tmp_path, without=("extras",))
    work = [*map(drawing, KINDS), ("style_transfer.py", "--check")]
    codes, errors = run_all(copy, *work, *EXTRA_OPTIONS)
    assert codes == [0] * len(work) + [1] * len(EXTRA_OPTIONS)
    for (_, option, *_), error in zip(EXTRA_OPTIONS, errors, strict=True):
        assert option in error
        assert "is not part of this copy: it needs the folder extras/" in error
    for kind, shown in drawn_in(copy).items():
        if kind not in right:
            right[kind] = figure(kind)
        assert np.array_equal(shown, right[kind]), kind


@pytest.mark.slow
def test_each_script_works_without_extras_in_an_interpreter_of_its_own(tmp_path):
    copy = copy_of_the_project(tmp_path, without=("extras",))
    for kind in KINDS:
        done = run(copy, *drawing(kind))
        assert (done.returncode, done.stderr) == (0, ""), kind
        assert (copy / f"{kind}.png").is_file()
    for script, *options in EXTRA_OPTIONS:
        done = run(copy, script, *options)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "is not part of this copy: it needs the folder extras/" in done.stderr
        assert options[0] in done.stderr


@pytest.mark.slow
def test_checks_tests_collecting_and_grading_work_without_extras(tmp_path):
    copy = copy_of_the_project(tmp_path, without=("extras", "benchmarks"))
    shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    tests = ("saliency", "losses", "class_visualization", "style_utils", "figures", "what_figures_say")
    done = run(copy, "-m", "pytest", "-q", "-x", *(f"tests/test_{name}.py" for name in tests))
    assert done.returncode == 0, done.stdout[-2000:]
    done = run(copy, "collect_submission.py", "--strict", "--skip-judge")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (copy / "assignment_3_submission.zip").is_file()
    done = run(copy, "-m", "grading", "check", "assignment_3_submission.zip", "--public")
    assert done.returncode == 0 and "100" in done.stdout, done.stdout + done.stderr


def test_other_rules_and_their_evaluation_keep_their_layer_beside_such_a_file(monkeypatch):
    from extras.attribution import methods

    asked = []

    def spied(layers, *arguments):
        asked.append(list(layers))
        return cam_at(layers, *arguments)

    handed_in(monkeypatch, "visualizers/gradcam.py", correct.PUBLISHED_GRADCAM)
    cam_at = methods.cam_at
    monkeypatch.setattr(methods, "cam_at", spied)
    options = [
        *RUNNERS["gradcam"][1],
        "--method",
        "layer-cam",
        "--layers",
        "features.4",
        "--trust",
        "--quiet",
    ]
    assert gradcam_visualization.main(options) == 0
    assert asked and all(layers == ["features.4"] for layers in asked)
    fused = [*RUNNERS["gradcam"][1], "--fuse", "--trust", "--quiet"]
    assert gradcam_visualization.main(fused) == 0  # grad_cam without a layer, fused and evaluated


# The form of the assignment's earlier years, here without its call of eval().
PUBLISHED_FOOLING = """
import torch
from torch.autograd import Variable


class FoolingImage:
    def make_fooling_image(self, X, target_y, model):
        if model.training:
            raise RuntimeError("dropout changes the scores at random")
        X_var = Variable(X.clone(), requires_grad=True)
        for it in range(100):
            scores = model(X_var)
            if scores.data.max(1)[1][0] == target_y:
                break
            scores[0, target_y].backward()
            g = X_var.grad.data
            X_var.data += 10 * g / g.norm()
            X_var.grad.data.zero_()
        return X_var.data
"""


def with_fooling(monkeypatch, source: str) -> None:
    """Beside our own visualizers, as if it were a file among them."""
    theirs = types.ModuleType("visualizers.fooling_image")
    theirs.__spec__ = importlib.machinery.ModuleSpec("visualizers.fooling_image", None)
    exec(source, theirs.__dict__)
    monkeypatch.setitem(sys.modules, "visualizers.fooling_image", theirs)


def test_a_published_fooling_image_draws_the_figure_and_is_judged_in_eval_mode(monkeypatch, net, names):
    drawn = {}

    def keep(path, rows, **options):
        drawn.update(rows=rows, **options)
        return path

    network = copy.deepcopy(net).train()
    with_fooling(monkeypatch, PUBLISHED_FOOLING)
    monkeypatch.setattr("helpers.models.load_classifier", lambda *_arguments: network)
    monkeypatch.setattr("extras.synthesis.figures.save_grid", keep)
    assert class_visualization.main(["--fool", "chelsea", "--classes", "6", "--quiet"]) == 0
    assert network.training, "it comes back as it went in"
    ((_, changed, _),) = drawn["rows"]
    assert changed.title.startswith(names[6])
    assert "visualizers/fooling_image.py" in drawn["note"]


@pytest.mark.parametrize("wrong", ["return X * float('nan')", "return None", "return X[0]"])
def test_a_fooling_image_that_is_none_is_an_error_of_one_line(wrong, monkeypatch, capsys):
    with_fooling(monkeypatch, PUBLISHED_FOOLING.replace("return X_var.data", wrong))
    assert class_visualization.main(["--fool", "coffee", "--classes", "6", "--size", "96", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "visualizers/fooling_image.py returned no picture" in error
