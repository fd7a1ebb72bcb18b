"""Everything runs on a card, too: no tensor is left on the processor. Simulated where there is none."""

from pathlib import Path

import pytest
import torch

import class_visualization
import gradcam_visualization
import saliency_visualization
import style_transfer
import style_utils
from helpers import models
from tests.card import CARD, CardTensor, LeftBehind, simulated_card

RUNNERS = {
    "class": class_visualization,
    "saliency": saliency_visualization,
    "gradcam": gradcam_visualization,
    "style": style_transfer,
}
PHOTO = ["--images", "coffee", "--size", "64"]
STEPS = ["--method", "paint", "--model", "squeezenet", "--size", "64", "--steps", "2"]
FEW = ["--iterations", "2", "--size", "64"]
SMALL = ["--content", "coffee", "--style", "rocket"]


def test_the_simulated_card_computes_and_refuses_strangers():
    with simulated_card() as card:
        x = torch.ones(2, 3).to(card)
        assert isinstance(x, CardTensor) and x.device == card
        assert (2 * x + 1).sum().item() == 18 and type((x + x).cpu()) is torch.Tensor
        assert isinstance(torch.tensor([1, 2], device=card), CardTensor)
        index = torch.zeros(2, 1).long()
        for stranger in (lambda: x + torch.ones(3), lambda: x.gather(1, index), lambda: torch.ones(2) @ x):
            with pytest.raises(LeftBehind):
                stranger()
        assert x[torch.tensor([1])].tolist() == [[1.0, 1.0, 1.0]]
        w = torch.ones(3, requires_grad=True)
        (gradient,) = torch.autograd.grad((x * w.to(card)).square().sum(), w)
        assert type(gradient) is torch.Tensor and gradient.tolist() == [4.0, 4.0, 4.0]


@pytest.fixture
def on_card(monkeypatch, tmp_path, small_styles):
    """-> a function that runs a script with --device cuda on the simulated card."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(style_utils, "STEPS", 3)
    monkeypatch.setattr("helpers.memory.available_bytes", lambda device: None)
    real, asked = models.choose_device, []

    def choose(name="auto"):
        with monkeypatch.context() as patch:  # torch's own code would go and use the card
            patch.setattr(torch.cuda, "is_available", lambda: True)
            chosen = real(name)
        asked.append(chosen.type)
        return CARD if chosen.type == "cuda" else chosen

    monkeypatch.setattr(models, "choose_device", choose)
    monkeypatch.setattr("extras.painter.session.choose_device", choose)

    def run(script, *arguments, device="cuda"):
        with simulated_card():
            code = RUNNERS[script].main([*arguments, "--device", device, "--quiet", "--debug"])
        assert asked[0] == device
        return code

    return run


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("saliency", [*PHOTO, "--top", "2", "--crop", "0,0,300"]),
        (
            "saliency",
            [*PHOTO, "--methods", "smoothgrad", "integrated-gradients", "deeplift", "guided-grad-cam"],
        ),
        ("saliency", [*PHOTO, "--methods", "fused-layer-cam", "eigen-cam", "saliency", "--versus", "cup"]),
        ("saliency", [*PHOTO, "--methods", "vargrad", "xgrad-cam", "--compare-models", "squeezenet:random"]),
        ("gradcam", [*PHOTO, "--guided", "--layers", "features.3", "features.7"]),
        ("gradcam", [*PHOTO, "--method", "layer-cam", "--fuse"]),
        ("gradcam", ["--list-layers", "--size", "64"]),
        ("class", ["--classes", "1", "--iterations", "2", "--rows", "1"]),
        ("class", ["--method", "fourier", "--classes", "1", "2", *FEW]),
        (
            "class",
            [
                "--layer",
                "features.4",
                "--channel",
                "1",
                "--variations",
                "2",
                "--iterations",
                "2",
                "--size",
                "64",
            ],
        ),
        ("class", ["--fool", "coffee", "--size", "64"]),
        ("class", ["--invert", "coffee", "--layer", "features.4", *FEW]),
        ("class", ["--dream", "coffee", "--layer", "features.4", *FEW]),
        ("style", [*SMALL, "--image-size", "32", "--style-size", "32"]),
        ("style", [*SMALL, "--image-size", "32", "--style-size", "32", "--init-random"]),
        (
            "style",
            [
                *SMALL,
                "--method",
                "paint",
                "--model",
                "squeezenet",
                "--size",
                "64",
                "--steps",
                "2",
                "--plot",
                "p.png",
            ],
        ),
        (
            "style",
            [*SMALL, "rocket", *STEPS] + ["--keep-colors", "--init", "random", "--optimizer", "adam"],
        ),
    ],
)
def test_a_script_runs_on_the_card(on_card, script, arguments):
    assert on_card(script, *arguments) == 0
    if "--list-layers" not in arguments:
        assert list(Path.cwd().rglob("*.png"))


def test_what_is_left_on_the_processor_is_found(on_card, monkeypatch, capsys):
    import extras.synthesis.feature_visualization as module

    monkeypatch.setattr(module, "mean_and_std", lambda like: (torch.zeros(3, 1, 1), torch.ones(3, 1, 1)))
    assert on_card("class", "--method", "fourier", "--classes", "1", *FEW) == 1
    assert "was left on the processor" in capsys.readouterr().err


def test_apples_card_is_used_where_a_runner_can_and_the_course_loops_stay_off_it(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert models.choose_device("auto") == torch.device("mps")
    asked = []

    def choose(name):
        asked.append(name)
        return torch.device("mps") if name == "auto" else pytest.fail() if name != "cpu" else 1 / 0

    monkeypatch.setattr(models, "choose_device", choose)
    for script in ("class", "style"):  # published code makes its images on the processor
        asked.clear()
        assert RUNNERS[script].main(["--quiet"]) == 1
        assert asked == ["auto", "cpu"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["score-cam", "ablation-cam", "occlusion", "rise"])
def test_the_slow_methods_run_on_the_card(on_card, method):
    assert on_card("saliency", *PHOTO, "--methods", method) == 0


@pytest.mark.slow
def test_the_evaluation_runs_on_the_card(on_card):
    assert on_card("saliency", *PHOTO, "--trust") == 0
