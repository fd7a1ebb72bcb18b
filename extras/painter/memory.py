"""How much memory is free, so that a painting is refused before the system kills it."""

import contextlib
import os
from pathlib import Path

import torch

SHARE = 0.9  # of the free memory that a painting may take
GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current")


def available_bytes(device: torch.device) -> int | None:
    """Bytes that can be used on `device`; None where the system does not say."""
    if device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    free = [value for value in (_system_free(), _container_free()) if value is not None]
    return int(SHARE * min(free)) if free else None


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
