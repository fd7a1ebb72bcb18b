"""What is free is asked of the right one, and asking for memory to be kept harms nobody."""

import subprocess
import sys

import torch

from extras.painter import memory


def test_a_graphics_card_is_asked_for_its_own_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    assert memory.available_bytes(torch.device("cuda")) == 900


def test_a_containers_limit_counts(monkeypatch):
    monkeypatch.setattr(memory, "_system_free", lambda: 8000)
    monkeypatch.setattr(memory, "_container_free", lambda: 2000)
    assert memory.available_bytes(torch.device("cpu")) == 1800
    monkeypatch.setattr(memory, "_container_free", lambda: None)
    assert memory.available_bytes(torch.device("cpu")) == 7200


def test_freed_memory_is_kept_and_used_again():
    """Blocks of 8 MB, taken and freed: where the system is Linux with glibc, their pages are taken once."""
    script = (
        "import ctypes, platform, resource, sys\n"
        "from helpers.cli import keep_freed_memory\n"
        "keep_freed_memory(); keep_freed_memory()\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]\n"
        "libc.free.argtypes = [ctypes.c_void_p]\n"
        "def once():\n"
        "    block = libc.malloc(2**23); ctypes.memset(block, 1, 2**23); libc.free(block)\n"
        "once()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): once()\n"
        "faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "sys.exit(platform.libc_ver()[0] == 'glibc' and faults > 2048)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
