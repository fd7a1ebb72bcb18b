"""Style paintings drawn from a seed, so that style transfer has something to learn from and nothing is shipped.

`draw_style("swirl", 512, seed=3)` gives a square RGB picture. Each style is an idiom, not a copy of a work:
the seed moves its suns, ridges and currents and keeps its manner.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from helpers.errors import UsageError
from helpers.painting import (
    Array,
    Brush,
    Canvas,
    Noise,
    along,
    blend,
    palette,
    ramp,
    smoothstep,
)

Draw = Callable[[int, np.random.Generator], Image.Image]

SMALLEST, LARGEST = 64, 4096


def draw_style(name: str, size: int = 512, seed: int = 0) -> Image.Image:
    """The style painting `name` as an RGB picture of `size` by `size` pixels, the same for the same `seed`."""
    if name not in STYLES:
        raise UsageError(f"unknown style '{name}'; the styles are {', '.join(STYLES)}")
    if not SMALLEST <= size <= LARGEST:
        raise UsageError(f"size {size} is outside {SMALLEST}..{LARGEST}")
    return STYLES[name](size, np.random.default_rng(seed))


# ---------------------------------------------------------------------------------------------- swirl


def swirl(size: int, rng: np.random.Generator) -> Image.Image:
    """A night sky of whirling currents and haloed lights over blue ridges and a field, in thick strokes."""
    side = rng.choice([-1, 1])
    whirls = np.array([[0.5 - 0.13 * side, 0.36, 0.15], [0.5 + 0.2 * side, 0.47, 0.1]])
    whirls[:, :2] += rng.normal(0, 0.03, (2, 2))
    orbs = _place_orbs(rng, 9, whirls)
    drift = Noise(rng, 2.2, 2)
    grain = Noise(rng, 9, 2)
    ridges = [Noise(rng, f, 3) for f in (1.6, 2.2, 1.8)]
    levels = np.array([0.66, 0.745, 0.84])

    sky = palette("0a1440 12256b 1b3f95 2b64b8 4f92cc 8fc3d8 d8e6c8 f0dc8c")
    halo = palette("fff6c4 ffe070 f7b733 e8c85a 8fc7a0 3f8fb8 1c4a98")
    land = [palette("0e1c4c 1c3a78 2f5f96 5a8fae"), palette("0c2038 17495a 2f7a6a 7fae6a")]
    field = palette("33301a 6f5a1f b98a24 e6bf45 5f7f35 2c4f3a")

    def ridge(index: int, x: Array) -> Array:
        return levels[index] + 0.055 * ridges[index](x, np.full_like(x, 0.37))

    def stream(x: Array, y: Array) -> Array:
        value = y + 0.05 * np.sin(2 * np.pi * (x + 0.2)) + 0.06 * drift(x, y)
        for cx, cy, r in whirls:
            value = value + 1.5 * r * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (1.3 * r) ** 2)
        for cx, cy, r in orbs:
            value = value + 2.4 * r * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (1.9 * r) ** 2)
        for index in range(3):
            below = y - ridge(index, x)
            value = np.where(below > 0, below * (1 if index < 2 else 0.6), value)
        return value

    def colour(x: Array, y: Array) -> Array:
        flow = stream(x, y)
        turns = [np.arctan2(y - cy, x - cx) for cx, cy, _ in whirls]
        # Whole numbers of turns keep the phase continuous all round each whirl: arms instead of a seam.
        bands = np.sin(2 * np.pi * 5.5 * flow + 2 * turns[0] - 2 * turns[1] + 1.2 * drift(y, x))
        near = sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (1.8 * r) ** 2) for cx, cy, r in whirls)
        tone = 0.3 + 0.16 * bands + 0.25 * smoothstep(0.25, 0.7, y) + np.clip(near, 0, 1) * (0.12 + 0.26 * bands)
        result = ramp(tone + 0.06 * grain(x, y), sky)
        for cx, cy, r in orbs:
            distance = np.hypot(x - cx, y - cy) / r
            rings = distance + 0.22 * np.sin(distance * 5.5) + 0.12 * grain(x, y)
            result = blend(result, ramp(rings / 2.6, halo), smoothstep(2.7, 1.5, distance))
        for index in range(3):
            below = y - ridge(index, x)
            if index < 2:
                tone = 0.95 - below * 9 + 0.3 * grain(x, y)
                over = ramp(tone, land[index])
            else:
                over = ramp(0.5 + 0.55 * np.sin(below * 75 + 3 * drift(x, y)) + 0.25 * grain(x, y), field)
            result = np.where((below > 0)[..., None], over, result)
        return result

    canvas = Canvas(size, palette("1a1c3c")[0])
    angle = along(stream)
    for length, width in ((0.16, 0.028), (0.1, 0.014), (0.06, 0.0085)):
        canvas.cover(rng, Brush(length, width), colour, angle)

    def lively(x: Array, y: Array) -> Array:
        return 0.25 + 0.5 * sum(np.exp(-((np.hypot(x - cx, y - cy) / r / 2.2) ** 2)) for cx, cy, r in orbs)

    canvas.cover(rng, Brush(0.035, 0.005, light=0.09, hue=0.2), colour, angle, lively)
    return canvas.finish(relief=1.1)


def _place_orbs(rng: np.random.Generator, count: int, whirls: Array) -> Array:
    """Lights `(count, 3)` as x, y, radius in the sky, the largest first, clear of the whirls and each other."""
    orbs: list[tuple[float, float, float]] = []
    radii = np.concatenate([[0.062], np.linspace(0.036, 0.016, count - 1)])
    for radius in radii:
        for _ in range(200):
            x, y = rng.uniform(0.05, 0.95), rng.uniform(0.06, 0.52)
            clear = all(np.hypot(x - cx, y - cy) > 2.0 * (r + radius) for cx, cy, r in orbs)
            if clear and all(np.hypot(x - cx, y - cy) > 1.1 * r + radius for cx, cy, r in whirls):
                orbs.append((x, y, radius))
                break
    return np.array(orbs)


STYLES: dict[str, Draw] = {
    "swirl": swirl,
}
