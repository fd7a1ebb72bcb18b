"""How much memory is free and how much a network's work takes, so that what does not fit is refused before it begins
and not killed by the system.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from helpers.errors import CannotError

SHARE = 0.9  # of the free memory that the work may take
ALLOCATED = 2.2  # bytes that the process takes for each byte it asks for; measured: 1.8
TRIAL_SIDES = (64, 224, 299)  # of the images that a network is tried with, in pixels
BATCH_PIXELS = 8 * 224**2  # of the images that a network sees at once, if one has not more by itself
GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current")


def available_bytes(device: torch.device) -> int | None:
    """Bytes that can be used on `device`; None where the system does not say."""
    if device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    _return_freed()
    free = [value for value in (_system_free(), _container_free()) if value is not None]
    return int(SHARE * min(free)) if free else None


def _return_freed() -> None:
    """Returns to the system what `cli.keep_freed_memory` has kept: it would count as used."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _system_free() -> int | None:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    with contextlib.suppress(AttributeError, ValueError):
        # Where the system does not say what is free (macOS), half of what is built in.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return None


def _container_free() -> int | None:
    """What a container's limit leaves; None without one."""
    try:
        limit, used = (Path(name).read_text().strip() for name in GROUPS)
        return None if limit == "max" else int(limit) - int(used)
    except (OSError, ValueError):
        return None


class Activations(NamedTuple):
    """What a network holds for each pixel of an image: the bytes of all layers' outputs, and the values of the largest
    one.
    """

    kept: float
    largest: float

    @property
    def step(self) -> float:
        """Bytes per pixel of a forward and a backward pass."""
        # 12 bytes per value: the gradients of the largest layer, as measured.
        return ALLOCATED * (self.kept + 12 * self.largest)


def activations(model: nn.Module, *, in_place_too: bool = False) -> Activations:
    """Measured by one small image. in_place_too: layers that work in place get copies, as in the course's loop.

    Zeros for a network that takes none of the sizes tried.
    """
    like = next(model.parameters())
    kept, largest = 0.0, 0.0

    def note(module: nn.Module, _inputs: tuple, output: object) -> None:
        nonlocal kept, largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel())
            if in_place_too or not getattr(module, "inplace", False):
                # Max pooling also keeps a 64-bit index per value.
                kept += output.numel() * (output.element_size() + 8 * isinstance(module, nn.MaxPool2d))

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [module.register_forward_hook(note) for module in leaves]
    try:
        for side in TRIAL_SIDES:
            kept, largest = 0.0, 0.0
            with contextlib.suppress(RuntimeError, ValueError, AssertionError, IndexError), torch.no_grad():
                model(torch.zeros(1, 3, side, side).to(like))
                return Activations(kept / side**2, largest / side**2)
    finally:
        for handle in handles:
            handle.remove()
    return Activations(0.0, 0.0)


def check_memory(
    needed: Callable[[int], float], option: str, value: int, device: torch.device, *, least: int = 1
) -> float:
    """The bytes that the work takes with the value of an option, needed(value), which grows with it. Raises CannotError
    where fewer are free on `device`, with the largest value from `least` that fits.
    """
    wanted, free = needed(value), available_bytes(device)
    if free is None or wanted <= free:
        return wanted
    fits, too_large = least - 1, value
    while too_large - fits > 1:
        middle = (fits + too_large) // 2
        fits, too_large = (middle, too_large) if needed(middle) <= free else (fits, middle)
    if fits > 64:
        fits = fits // 16 * 16  # a round number, and what is free changes
    remedy = f"{option} {fits} is the largest that fits"
    if fits < least:
        remedy = "no smaller one fits either; use smaller or fewer pictures"
    raise CannotError(
        f"{option} {value} needs about {_gigabytes(wanted)} of memory and {_gigabytes(free)} are free: {remedy}"
    )


def _gigabytes(count: float) -> str:
    return f"{count / 2**30:.1f} GB"


def resized_size(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """The size (width, height) of a picture of this size whose shorter side becomes `shorter` pixels."""
    width, height = (max(1, shorter * side // min(size)) for side in size)
    return width, height
