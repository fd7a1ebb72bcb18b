"""What many tests look at: the packaged network, the bundled photos, and networks small enough for exact answers.

A test that stops at a task that is not written yet is skipped; the last lines name these tasks.
"""

import functools
import os
import signal

os.environ["TQDM_DISABLE"] = "1"  # read by tqdm when it is imported
# Read by torch when it is imported, here and in the processes that tests start. Workers run side by side, and on
# networks this small threads mostly wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from torch import nn

from helpers.data_utils import PHOTOS, class_names, load_photo
from helpers.image_utils import preprocess, square
from helpers.models import load_classifier

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Started in the background of a script: processes started from here would ignore Ctrl-C, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def net():
    """The packaged SqueezeNet."""
    return load_classifier()


@pytest.fixture(scope="session")
def names():
    return class_names()


@pytest.fixture(scope="session")
def photos():
    """The six bundled photos, normalized: (6, 3, 224, 224)."""
    return torch.cat([preprocess(square(load_photo(name))) for name in PHOTOS])


@pytest.fixture(scope="session")
def labels():
    return torch.tensor([photo.label for photo in PHOTOS.values()])


@pytest.fixture
def tiny():
    """A classifier of 5 classes with in-place ReLUs, in float64, for images of any size."""
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).double()


@pytest.fixture(scope="session")
def drawn_small():
    """-> a function in the place of `draw_style`: draws small, once, and enlarges. A large painting takes seconds."""
    from helpers.style_images import draw_style

    small = functools.cache(lambda name, seed: draw_style(name, 64, seed))
    return lambda name, size=512, seed=0: small(name, seed).resize((size, size))


@pytest.fixture
def small_styles(monkeypatch, drawn_small):
    """Style images are drawn small."""
    monkeypatch.setattr("helpers.style_images.draw_style", drawn_small)


@pytest.fixture
def photo_file(tmp_path):
    """A colourful JPEG of 90 x 60 pixels."""
    from PIL import Image

    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (6, 9, 3), dtype=np.uint8))
    path = tmp_path / "photo.jpg"
    small.resize((90, 60), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call):
    """Where a test ended at `raise NotImplementedError("Task N: ...")`, that is its whole report."""
    report = yield
    if call.excinfo and call.excinfo.errisinstance(NotImplementedError):
        message = str(call.excinfo.value)
        if message.startswith("Task "):
            end = call.excinfo.traceback[-1]
            report.outcome = "skipped"
            report.longrepr = (str(end.path), end.lineno + 1, message)
    return report


def pytest_terminal_summary(terminalreporter, config):
    """One line for each task that is not written yet."""
    places = {}
    for report in terminalreporter.stats.get("skipped", ()):
        path, line, message = report.longrepr
        if message.startswith("Task "):
            places[message] = f"{os.path.relpath(path, config.rootpath)}:{line}"
    for message, place in sorted(places.items()):
        terminalreporter.write_line(f"not written yet: {message} ({place})")


def pytest_sessionfinish(session):
    """Tasks that are not written yet are no success."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", ()) if reporter else ()
    if session.exitstatus == 0 and any(str(report.longrepr[2]).startswith("Task ") for report in skipped):
        session.exitstatus = 1
