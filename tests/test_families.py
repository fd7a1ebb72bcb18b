"""Every family of torchvision's classifiers, with random weights, through all four runners: a picture, or one line that
says what to use instead.

`pytest tests/test_families.py -m slow -s` prints the table.
"""

import re
from pathlib import Path

import pytest

import class_visualization
import gradcam_visualization
import saliency_visualization
import style_transfer
import style_utils

# The smallest network of each family.
FAMILIES = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet"),
    *("inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf"),
    *(
        "regnet_y_400mf",
        "resnet18",
        "resnext50_32x4d",
        "shufflenet_v2_x0_5",
        "squeezenet1_0",
        "squeezenet1_1",
    ),
    *("swin_t", "swin_v2_t", "vgg11", "vgg11_bn", "vit_b_32", "wide_resnet50_2"),
)
QUICK = ("regnet_x_400mf",)  # in the regular suite
RUNS = {
    "saliency": (saliency_visualization, ["--images", "coffee", "--size", "32"]),
    "Grad-CAM": (gradcam_visualization, ["--images", "coffee", "--size", "32"]),
    "class": (class_visualization, ["--classes", "daisy", "--iterations", "1", "--rows", "1"]),
    "class, Fourier": (
        class_visualization,
        ["--classes", "daisy", "--method", "fourier", "--iterations", "1", "--size", "32"],
    ),
    "style": (
        style_transfer,
        ["--content", "coffee", "--style", "chelsea", "--image-size", "32", "--style-size", "32"],
    ),
    "painter": (
        style_transfer,
        ["--method", "paint", "--content", "coffee", "--style", "chelsea", "--size", "64", "--steps", "1"],
    ),
}
# What a line may offer instead of a picture.
REMEDIES = (r"use --size \d+", r"use larger ones, of 224 x 224", r"use (squeezenet, )?vgg16")
MODELS = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FAMILIES]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", MODELS)
def test_a_picture_or_one_line_that_says_what_to_use_instead(name, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(style_utils, "STEPS", 1)
    runner, small = RUNS[run]
    command = ["--quiet", "--model", name, "--weights", "random", *small, "--output", "a.png"]
    code = runner.main(command)
    line = capsys.readouterr().err
    said = line
    if code:
        assert code == 2 and line.count("\n") == 1, line
        assert any(re.search(remedy, line) for remedy in REMEDIES), line
        assert not Path("a.png").exists()
        if "use --size" in line or "larger ones" in line:
            size = (re.search(r"use --size (\d+)", line) or re.search("(224)", line))[1]
            code = runner.main([*command, "--size", size])
            said += capsys.readouterr().err
            assert code == 0, said
    assert Path("a.png").exists() == (code == 0)
    print(f"{name:20} {run:15} {'a picture' if not said else said.partition('error: ')[2].strip()}")
