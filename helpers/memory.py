"""How much memory is free, so that a painting is refused before the system kills it; and memory that is kept."""

import contextlib
import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

KEPT_FREE = 0.9  # of what is free, how much we take at most
GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current")


def keep_freed_memory() -> None:
    """Asks the C library to keep what is freed for what is asked for next.

    Left alone, glibc gives a step's large tensors back to the system and takes them anew, page by page, in the next
    step: up to a fifth of an iteration's time. Elsewhere this does nothing.
    """
    TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of malloc.h
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            # Both, or neither: the first alone would have every tensor mapped, and given back at once.
            if mallopt(MMAP_THRESHOLD, 2**25):
                mallopt(TRIM_THRESHOLD, 2**31 - 1)


def available_bytes(device: "torch.device") -> int | None:
    """Bytes that can be used on `device`; None where the system does not tell."""
    if device.type == "cuda":
        import torch

        return int(KEPT_FREE * torch.cuda.mem_get_info(device)[0])
    free = [value for value in (_system_free(), _container_free()) if value is not None]
    return int(KEPT_FREE * min(free)) if free else None


def _system_free() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return _half_of_physical()


def _half_of_physical() -> int | None:
    """Where the system does not say what is free (macOS), half of what is built in."""
    import os

    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _container_free() -> int | None:
    """What a container's limit leaves; None without one."""
    try:
        limit, used = (Path(name).read_text().strip() for name in GROUPS)
        return None if limit == "max" else int(limit) - int(used)
    except (OSError, ValueError):
        return None
