"""Honest timing: both sides in turns, medians, ratios, and the best rate of the machine."""

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

Side = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """A line of the table: the seconds (or what `unit` says) of both sides, the bar that their ratio must not exceed,
    and how far apart their results are. flops: the floating-point operations of ours; 0 leaves them out.
    """

    work: str
    against: str
    ours: float
    theirs: float
    bar: float | None = None
    agreement: str = ""
    flops: float = 0.0
    images: int = 0
    unit: str = "s"

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


def race(
    work: str,
    ours: Side,
    rivals: Mapping[str, Side],
    bars: Mapping[str, float],
    agreements: Mapping[str, str],
    images: int = 0,
) -> Iterator[Row]:
    """One row per rival, all timed in turns with ours; bars and agreements by the rival's name."""
    times = in_turns({"ours": ours, **rivals})
    flops = flops_of(ours)
    for name in rivals:
        agreement = agreements.get(name, "")
        yield Row(work, name, times["ours"], times[name], bars.get(name), agreement, flops, images)


def in_turns(sides: Mapping[str, Side], rounds: int = 9, warm_up: int = 2) -> dict[str, float]:
    """The median seconds of each side. They take turns, so that whatever else the machine does slows all alike."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warm_up + rounds):
        for name, side in sides.items():
            seconds = timed(side)
            if turn >= warm_up:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def timed(side: Side) -> float:
    """The seconds that a call takes, the graphics card's work included."""
    finish = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    finish()
    began = time.perf_counter()
    side()
    finish()
    return time.perf_counter() - began


def flops_of(side: Side) -> float:
    """Floating-point operations of the convolutions and matrix products in a call, forward and backward."""
    counter = FlopCounterMode(display=False)
    # Only the total is wanted, and following the modules fails where the gradient of a leaf is asked for.
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]  # it has what the counter reads
    with counter:
        side()
    return counter.get_total_flops()


class _NoModules(contextlib.nullcontext):
    """Stands in for torch's tracker of modules: everything belongs to the whole."""

    parents = frozenset({"Global"})


def matrix_rate(device: str) -> float:
    """Floating-point operations a second of one large matrix product: the best that this machine does."""
    side = 2048
    A, B = (torch.rand(side, side, device=device) for _ in range(2))
    return 2 * side**3 / in_turns({"product": lambda: A @ B})["product"]


def machine(device: str) -> str:
    """One line: processor or card, threads, versions."""
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    packages = ", ".join(
        f"{package} {metadata.version(package)}" for package in ("torch", "captum", "grad-cam", "torchcam")
    )
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; {packages}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> str:
    """The largest difference relative to the largest value, as text. Raises ValueError beyond one in a hundred:
    then the two sides did not compute the same.
    """
    ours, theirs = ours.detach().cpu().double(), theirs.detach().cpu().double()
    error = float((ours - theirs).abs().max() / theirs.abs().max())
    if not error < 1e-2:
        raise ValueError(
            f"results differ by {error:.1e} of their largest value: a race between different things"
        )
    return f"{error:.0e}"
