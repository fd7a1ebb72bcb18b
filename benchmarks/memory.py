"""Peak memory of explanation maps beside captum, each side in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.maps import IMAGES, LAST, as_torchvision_gives_it, photos
from benchmarks.timing import Row, Side
from extras.attribution import methods
from helpers.models import load_classifier, only_classes


def rows(_device: str = "cpu") -> Iterator[Row]:
    """Megabytes that each technique adds to a process that holds the network and the photos."""
    for technique in ("saliency maps", "Grad-CAM"):
        grown = {}
        for side in ("ours", "captum"):
            command = [sys.executable, "-m", "benchmarks.memory", technique, side]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            grown[side] = float(done.stdout)
        yield Row(f"{technique} of {IMAGES} photos", "captum", grown["ours"], grown["captum"], unit="MB")


def technique_of(technique: str, side: str, X: torch.Tensor) -> Side:
    """One side of a technique, as a function without arguments."""
    from captum.attr import LayerGradCam, Saliency

    model = load_classifier()
    peer = as_torchvision_gives_it(model)
    y = torch.zeros(len(X), dtype=torch.long)
    narrow, places = only_classes(model, y)
    return {
        ("saliency maps", "ours"): lambda: methods.saliency(X, places, narrow),
        ("saliency maps", "captum"): lambda: Saliency(peer).attribute(X.clone().requires_grad_(), target=y),
        ("Grad-CAM", "ours"): lambda: methods.grad_cam(X, places, narrow),
        ("Grad-CAM", "captum"): lambda: LayerGradCam(peer, peer.get_submodule(LAST)).attribute(X, target=y),
    }[technique, side]


def growth(technique: str, side: str) -> float:
    """Megabytes, in this process."""
    X = photos()
    technique_of(technique, side, X[:1])()  # what the first call loads is not the technique's
    work = technique_of(technique, side, X)
    before = _peak()
    work()
    return (_peak() - before) / 1024


def _peak() -> int:
    """The most kilobytes that this process has held. (What getrusage says would include its parent's.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    print(growth(*sys.argv[1:]))
