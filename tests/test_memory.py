"""What is free is asked of the right one, what does not fit is refused before the work, and asking for memory to be
kept harms nobody.
"""

import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import class_visualization
import gradcam_visualization
import saliency_visualization
import style_transfer
from helpers import memory
from helpers.errors import CannotError
from helpers.figures import Cell, check_format, save_grid
from helpers.image_utils import read_image
from helpers.memory import activations, check_memory, resized_size


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep nothing")
def test_kept_memory_does_not_count_as_used():
    script = (
        "import ctypes, torch\n"
        "from pathlib import Path\n"
        "from helpers.cli import keep_freed_memory\n"
        "from helpers.memory import available_bytes\n"
        "keep_freed_memory()\n"
        "held = lambda: int(Path('/proc/self/statm').read_text().split()[1])\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]\n"
        "libc.free.argtypes = [ctypes.c_void_p]\n"
        "blocks = [libc.malloc(2**24) for _ in range(8)]\n"
        "for block in blocks: ctypes.memset(block, 1, 2**24)\n"
        "libc.free(blocks[0])\n"  # below others that are in use
        "for block in blocks[2:]: libc.free(block)\n"
        "kept = held(); available_bytes(torch.device('cpu'))\n"
        "assert (kept - held()) * 4096 > 6 * 2**24, (kept, held())\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_a_network_holds_is_counted():
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(8, 4, 1))
    # Per pixel: 8 values, then a quarter of 8 with their indices, then a quarter of 4.
    assert activations(network) == (8 * 4 + 8 / 4 * 12 + 4 / 4 * 4, 8)
    assert activations(network, in_place_too=True).kept == 2 * 8 * 4 + 8 / 4 * 12 + 4 / 4 * 4
    assert activations(network.half()).kept == 8 * 2 + 8 / 4 * 10 + 4 / 4 * 2


def test_a_network_of_one_size_is_measured_at_that():
    class Fixed(nn.Conv2d):
        def forward(self, x):
            assert x.shape[2] == 224
            return super().forward(x)

    assert activations(Fixed(3, 2, 1)).largest == 2


def test_the_largest_value_that_fits_is_found(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 5 * 2**30)
    cpu = torch.device("cpu")
    assert check_memory(lambda side: 2**30 * side, "--x", 5, cpu) == 5 * 2**30
    with pytest.raises(
        CannotError, match=r"--x 6 needs about 6.0 GB of memory and 5.0 GB are free: --x 5 is the la"
    ):
        check_memory(lambda side: 2**30 * side, "--x", 6, cpu)
    with pytest.raises(CannotError, match="no smaller one fits either; use smaller or fewer pictures"):
        check_memory(lambda side: 2**30 * side, "--x", 9, cpu, least=6)
    with pytest.raises(CannotError, match="--x 2288 is the largest"):  # 2289.7, on a round number
        check_memory(lambda side: 1024 * side**2, "--x", 4000, cpu)
    monkeypatch.setattr(memory, "available_bytes", lambda device: None)
    assert check_memory(lambda side: 2.0**60, "--x", 6, cpu) == 2.0**60


def test_sizes_are_those_of_preprocess():
    assert resized_size((20_000, 3), 48) == (320_000, 48)
    assert resized_size((3, 20_000), 48) == (48, 320_000)
    assert resized_size((90, 60), 33) == (49, 33)


@pytest.fixture
def four_gigabytes(monkeypatch, tmp_path, small_styles):
    """Four gigabytes are free; the work itself fails the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "available_bytes", lambda device: 4 * 2**30)
    for name in ("style_utils.style_transfer", "extras.painter.session.paint"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("the work has begun"))
    Image.new("RGB", (20_000, 3), "red").save("long.png")
    Image.new("RGB", (600, 400), "red").save("photo.png")


PAINT = ["--method", "paint", "--model", "squeezenet", "--content", "photo.png"]


@pytest.mark.parametrize(
    ("runner", "arguments", "words"),
    [
        (
            style_transfer,
            ["--content", "long.png", "--image-size", "48"],
            r"--image-size 48 .*no smaller one fits",
        ),
        (
            style_transfer,
            ["--content", "photo.png", "--image-size", "2000"],
            r"--image-size (\d+) is the largest",
        ),
        (
            style_transfer,
            ["--content", "photo.png", "--style-size", "4096"],
            r"--style-size (\d+) is the largest",
        ),
        (style_transfer, [*PAINT, "--style", "long.png", "--size", "4096"], r"--size (\d+) is the largest"),
        (
            style_transfer,
            [*PAINT, "--style", "huge", "--size", "512", "--style-scale", "16"],
            r"--size 512 needs about .* --size (\d+) is the largest",
        ),
        (saliency_visualization, ["--images", "photo.png", "--size", "2048"], r"--size (\d+) is the largest"),
        (
            gradcam_visualization,
            ["--images", *["photo.png"] * 900, "--size", "224"],
            r"--size (\d+) is the largest",
        ),
        (gradcam_visualization, ["--list-layers", "--size", "100000"], "--size 100000 must be from 32"),
        (class_visualization, ["--method", "fourier", "--variations", "99"], r"--size (\d+) is the largest"),
        (
            class_visualization,
            ["--method", "fourier", "--size", "1024", "--rows", "256"],
            r"--size (\d+) is the lar",
        ),
        (class_visualization, ["--rows", "9999", "--iterations", "9999"], r"--rows (\d+) is the largest"),
        (
            class_visualization,
            ["--dream", "long.png", "--layer", "features.4"],
            r"--size 384 .*no smaller one fits",
        ),
        (
            class_visualization,
            ["--invert", "photo.png", "--layer", "features.4", "--size", "2048"],
            r"--size (\d+) is",
        ),
        (
            class_visualization,
            ["--fool", *["photo.png"] * 9, "--size", "2048"],
            r"--size (\d+) is the largest",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_the_work(
    four_gigabytes, monkeypatch, capsys, runner, arguments, words
):
    import extras.painter.session as session

    real = session.image_size
    monkeypatch.setattr(
        session, "image_size", lambda name, **size: (12_000, 12_000) if name == "huge" else real(name, **size)
    )
    before = sorted(Path.cwd().iterdir())
    assert runner.main(arguments) in (1, 2)
    error = capsys.readouterr().err
    assert (found := re.search(words, error)) and error.count("\n") == 1, error
    assert sorted(Path.cwd().iterdir()) == before
    for number in found.groups():
        assert 16 <= int(number) < int(re.search(r"--\S+ (\d+) needs", error)[1])


def test_a_picture_too_large_to_read_is_refused_by_its_header(monkeypatch, tmp_path):
    Image.new("RGB", (600, 400)).save(tmp_path / "a.png")
    monkeypatch.setattr("helpers.image_utils.available_bytes", lambda device: 600 * 400 * 9)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("read"))
    with pytest.raises(CannotError, match=r"a.png has 600 x 400 pixels, and reading them needs about 0.0 GB"):
        read_image(tmp_path / "a.png")


def test_an_extremely_long_picture_has_a_cell_of_bounded_size(tmp_path):
    for size in ((4000, 2), (2, 4000), (1, 1)):
        path = save_grid(tmp_path / "a.png", [[Cell(Image.new("RGB", size, "red"), "long")]])
        page = Image.open(path)
        assert max(page.size) < 3000
        red = np.asarray(page).astype(int)
        assert ((red[..., 0] - red[..., 1]) > 200).any()


@pytest.mark.parametrize(("name", "side"), [("a.webp", 16_384), ("a.jpg", 65_501)])
def test_a_format_that_cannot_hold_the_picture_is_refused(name, side):
    check_format(Path(name), (side - 1, 5))
    with pytest.raises(CannotError, match=f"5 x {side} pixels is larger than this format allows"):
        check_format(Path(name), (5, side))
    check_format(Path("a.png"), (10**6, 5))


MEASURED = """
import sys
import numpy as np, torch
from PIL import Image
import style_utils
from benchmarks.memory import peak
from helpers.memory import activations
from helpers.models import load_classifier, load_features
from style_modules import ContentLoss, StyleLoss, TotalVariationLoss
from style_transfer import PRESETS, check_course_memory
import helpers.memory

style_utils.STEPS = 2
cnn, settings = load_features(), PRESETS["D"]._asdict()
losses = {"content_loss": ContentLoss(), "style_loss": StyleLoss(), "tv_loss": TotalVariationLoss()}
img = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8))

def go(image_size, style_size):
    settings.update(image_size=image_size, style_size=style_size)
    files = {"content_image": img, "style_image": img}
    style_utils.style_transfer("x", **files, **losses, cnn=cnn, dtype=torch.float32, testing=True, **settings)

go(48, 48)
before, sizes = peak(), [int(size) for size in sys.argv[1:]]
go(*sizes)
grown = 1024 * (peak() - before)
estimates = []
helpers.memory.check_memory = lambda needed, option, value, device, least: estimates.append(needed(value))
check_course_memory(settings, cnn[:8], img.size, img.size)
print(grown / estimates[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is measured in Linux's units")
@pytest.mark.parametrize("sizes", [("700", "48"), ("48", "900")])
def test_the_estimate_of_the_courses_loop_is_neither_too_low_nor_three_times_too_high(sizes):
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *sizes], capture_output=True, text=True, check=True
    )
    assert 0.33 < float(done.stdout) < 1.0
