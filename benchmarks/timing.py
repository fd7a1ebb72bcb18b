"""Honest timing: both sides in turns, medians, ratios, and the best rate of the machine."""

import contextlib
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

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
    counted: Side | None = None,
) -> Iterator[Row]:
    """One row per rival, all timed in turns with ours; bars and agreements by the rival's name. counted: ours in this
    process, where it is timed in another one.
    """
    times = in_turns({"ours": ours, **rivals})
    flops = flops_of(counted or ours)
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
    finish_all()
    began = time.perf_counter()
    side()
    finish_all()
    return time.perf_counter() - began


def finish_all() -> None:
    """Waits for the graphics card, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextlib.contextmanager
def process_of(
    build: Callable[..., Mapping[Any, Side]], *arguments: object
) -> Iterator[Callable[[Any], Side]]:
    """A process of its own for some sides, which it gets from build(*arguments); the block gets a function that finds
    one of them by its name, to be called from here.

    What a side needs of a whole process, such as how the C library keeps memory, is then its own.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=_build, initargs=(build, arguments)) as process:
        yield lambda name: lambda: process.submit(_call, name).result()


_sides: dict[Any, Side] = {}  # of a process of `process_of`


def _build(build: Callable[..., Mapping[Any, Side]], arguments: tuple) -> None:
    _sides.update(build(*arguments))


def _call(name: Any) -> None:
    _sides[name]()
    finish_all()


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
