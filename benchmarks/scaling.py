"""What cost depends on: time per image against batch size and image size, and peak memory, each side in a process of
its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import nn

from benchmarks.maps import LAST, as_torchvision_gives_it, photos
from benchmarks.timing import Side, in_turns
from extras.attribution import methods as attributions
from helpers.figures import DPI, save_figure
from helpers.models import load_classifier, only_classes

BATCHES, SIDES = (1, 2, 4, 8, 16, 32, 64), (128, 192, 256, 384, 512, 768, 1024)
MEMORY_IMAGES = 25
COLORS = {"saliency maps": "#c2410c", "Grad-CAM": "#1d4ed8"}


def techniques(X: torch.Tensor, model: nn.Module, peers: nn.Module) -> dict[str, dict[str, Side]]:
    """For each technique, the two sides as functions without arguments."""
    from captum.attr import LayerGradCam, Saliency

    y = torch.zeros(len(X), dtype=torch.long, device=X.device)
    narrow, places = only_classes(model, y)
    saliency, layer_cam = Saliency(peers), LayerGradCam(peers, peers.get_submodule(LAST))
    return {
        "saliency maps": {
            "ours": lambda: attributions.saliency(X, places, narrow),
            "captum": lambda: saliency.attribute(X.clone().requires_grad_(), target=y),
        },
        "Grad-CAM": {
            "ours": lambda: attributions.grad_cam(X, places, narrow),
            "captum": lambda: layer_cam.attribute(X, target=y, relu_attributions=True),
        },
    }


def draw(path: Path) -> Path:
    """Milliseconds per image against the batch and against the image's side, ours and captum's, as a picture."""
    model = load_classifier()
    peers = as_torchvision_gives_it(model)
    figure = Figure(figsize=(10, 4), dpi=DPI, layout="constrained")
    by_batch, by_side = figure.subplots(1, 2)
    for axes, values, of in (
        (by_batch, BATCHES, photos),
        (by_side, SIDES, lambda side: photos(4, side)),
    ):
        curves: dict[tuple[str, str], list[float]] = {}
        for value in values:
            X = of(value)
            for technique, sides in techniques(X, model, peers).items():
                for side, seconds in in_turns(sides, rounds=3, warm_up=1).items():
                    curves.setdefault((technique, side), []).append(1000 * seconds / len(X))
        for (technique, side), times in curves.items():
            style = {"color": COLORS[technique], "linestyle": "-" if side == "ours" else ":"}
            axes.loglog(values, times, marker="o", ms=3.5, label=f"{technique}, {side}", **style)
        axes.set_xticks(values, [str(value) for value in values])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    by_batch.set(xlabel="images at once (224 x 224)", ylabel="milliseconds per image")
    by_side.set(xlabel="side of the image, in pixels (4 at once)")
    by_side.legend(frameon=False)
    return save_figure(path, figure)


class Peak(NamedTuple):
    """Megabytes that a technique adds to a process which holds the network and the images."""

    technique: str
    ours: float
    captum: float


def peaks() -> Iterator[Peak]:
    """Of MEMORY_IMAGES photos, on the processor."""
    for technique in COLORS:
        grown = {}
        for side in ("ours", "captum"):
            command = [sys.executable, "-m", "benchmarks.scaling", technique, side]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
            grown[side] = json.loads(done.stdout)
        yield Peak(technique, **grown)


def _growth(technique: str, side: str) -> float:
    model = load_classifier()
    X = photos(MEMORY_IMAGES)
    work = techniques(X, model, as_torchvision_gives_it(model))
    techniques(X[:1], model, as_torchvision_gives_it(model))[technique][
        side
    ]()  # what the first call loads is not the technique's
    before = _peak()
    work[technique][side]()
    return (_peak() - before) / 1024


def _peak() -> int:
    """The most kilobytes that this process has held. (What getrusage says would include its parent's.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    print(json.dumps(_growth(*sys.argv[1:])))
