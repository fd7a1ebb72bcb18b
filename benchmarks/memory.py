"""Peak memory of explanation maps beside captum, each side in a process of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.maps import IMAGES, LAST, as_torchvision_gives_it, photos
from benchmarks.timing import Row
from extras.attribution import methods
from helpers import cli
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


def growth(technique: str, side: str) -> float:
    """Megabytes, in this process."""
    from captum.attr import LayerGradCam, Saliency

    if side == "ours":
        cli.keep_freed_memory()  # as a runner does
    X, y = photos(), torch.zeros(IMAGES, dtype=torch.long)
    model = load_classifier()
    peer = as_torchvision_gives_it(model)
    narrow, places = only_classes(model, y)
    cam = LayerGradCam(peer, peer.get_submodule(LAST))
    explain: Callable[[torch.Tensor, int], object] = {
        ("saliency maps", "ours"): lambda X, n: methods.saliency(X, places[:n], narrow),
        ("saliency maps", "captum"): lambda X, n: Saliency(peer).attribute(X.requires_grad_(), target=y[:n]),
        ("Grad-CAM", "ours"): lambda X, n: methods.grad_cam(X, places[:n], narrow),
        ("Grad-CAM", "captum"): lambda X, n: cam.attribute(X, target=y[:n]),
    }[technique, side]
    explain(X[:1].clone(), 1)  # what the first call loads is not the technique's
    before = peak()
    explain(X.clone(), IMAGES)
    return (peak() - before) / 1024


def peak() -> int:
    """The most kilobytes that this process has held. (What getrusage says would include its parent's.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    print(growth(*sys.argv[1:]))
