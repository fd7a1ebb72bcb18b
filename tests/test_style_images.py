"""The style paintings: reproducible, rich in colour, structured at every scale, and unlike one another."""

import subprocess
import sys
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from scipy import ndimage

from helpers.errors import UsageError
from helpers.style_images import STYLES, draw_style

SMALL = 96
EVERY = pytest.mark.parametrize("name", STYLES)


@cache
def picture(name: str, size: int = SMALL, seed: int = 0) -> np.ndarray:
    """The painting as floats in [0, 1], drawn once for all the tests that look at it."""
    return np.asarray(draw_style(name, size, seed), np.float32) / 255


def shrunk(image: np.ndarray, times: int) -> np.ndarray:
    """`image` `(H, W, 3)` averaged over squares of `times` pixels."""
    high, wide = (side // times for side in image.shape[:2])
    return image.reshape(high, times, wide, times, 3).mean((1, 3))


def band_contrast(image: np.ndarray) -> list[float]:
    """The standard deviation of each octave of detail, from about two pixels to a sixth of the picture."""
    blurred = [ndimage.gaussian_filter(image, (s, s, 0)) for s in (0.5, 1, 2, 4, 8, 16)]
    return [float((fine - coarse).std()) for fine, coarse in zip(blurred, blurred[1:], strict=False)]


def colour_histogram(image: np.ndarray) -> np.ndarray:
    """Shares of the picture in 6 x 6 x 6 boxes of colour."""
    counts, _ = np.histogramdd(image.reshape(-1, 3), 6, [(0, 1)] * 3)
    return counts / counts.sum()


def test_there_are_at_least_five_styles():
    assert len(STYLES) >= 5


@EVERY
def test_the_same_seed_gives_the_same_bytes(name):
    first = picture(name)
    # A drawing that read NumPy's global generator would change with it, and one that used it would move it.
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    again = draw_style(name, SMALL, 0)
    assert (again.mode, again.size) == ("RGB", (SMALL, SMALL))
    assert np.array_equal(np.asarray(again, np.float32) / 255, first)
    assert np.array_equal(np.random.get_state()[1], before)


@EVERY
def test_another_seed_composes_another_picture(name):
    # Averaged over large squares, so that moved grain alone would not count.
    first, second = (shrunk(picture(name, seed=seed), 8) for seed in (0, 1))
    assert np.abs(first - second).mean() > 0.05


@EVERY
def test_a_larger_picture_has_the_same_composition(name):
    large = shrunk(picture(name, 2 * SMALL), 2)
    same = np.abs(shrunk(large, 4) - shrunk(picture(name), 4)).mean()
    other = np.abs(shrunk(picture(name, seed=1), 4) - shrunk(picture(name), 4)).mean()
    assert same < 0.03
    assert same < 0.3 * other


@EVERY
def test_colour_is_rich(name):
    # The measure of Hasler and Suesstrunk (2003) on [0, 1]: 0.23 is "quite", 0.43 "extremely" colourful.
    red, green, blue = np.moveaxis(picture(name), -1, 0)
    one, two = red - green, 0.5 * (red + green) - blue
    assert np.hypot(one.std(), two.std()) + 0.3 * np.hypot(one.mean(), two.mean()) > 0.23
    assert (colour_histogram(picture(name)) > 0.004).sum() >= 25


@EVERY
def test_tones_are_neither_washed_out_nor_murky(name):
    grey = picture(name).mean(-1)
    assert 0.3 < grey.mean() < 0.7
    assert np.percentile(grey, 99) - np.percentile(grey, 1) > 0.55


@EVERY
def test_every_octave_holds_detail(name):
    assert min(band_contrast(picture(name))) > 0.03


@EVERY
def test_no_large_area_is_flat(name):
    grey = picture(name, 2 * SMALL).mean(-1)
    window = SMALL // 6
    mean = ndimage.uniform_filter(grey, window)
    deviation = np.sqrt(np.maximum(ndimage.uniform_filter(grey * grey, window) - mean * mean, 0))
    assert np.percentile(deviation, 1) > 0.018


def test_styles_differ_from_each_other_more_than_from_themselves():
    def distance(one: np.ndarray, other: np.ndarray) -> float:
        colours = np.abs(colour_histogram(one) - colour_histogram(other)).sum() / 2
        scales = np.abs(np.log(band_contrast(one)) - np.log(band_contrast(other))).mean()
        return colours + scales

    within = {name: distance(picture(name), picture(name, seed=1)) for name in STYLES}
    for one, other in combinations(STYLES, 2):
        between = distance(picture(one), picture(other))
        assert between > max(within[one], within[other]), (one, other)


def test_an_unknown_style_is_named_with_the_ones_there_are():
    with pytest.raises(UsageError) as caught:
        draw_style("fresco")
    assert "'fresco'" in str(caught.value)
    assert all(name in str(caught.value) for name in STYLES)


@pytest.mark.parametrize("size", [0, -5, 63, 4097])
def test_a_size_out_of_range_is_refused_with_the_range(size):
    with pytest.raises(UsageError, match=rf"{size}.*64\.\.4096"):
        draw_style("waves", size)


def test_drawing_needs_no_deep_learning_or_plotting_library():
    code = (
        "import sys; from helpers.style_images import draw_style; draw_style('waves', 64);"
        "print(sorted({'torch', 'matplotlib', 'skimage'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
