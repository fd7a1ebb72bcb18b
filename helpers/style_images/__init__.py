"""Style paintings drawn from a seed: style transfer needs a style, and no painting is shipped.

`draw_style("swirl", 512, seed=3)` returns a square RGB picture. Each style is a manner of painting, not a copy of a
work. The seed changes where its suns, ridges and currents are.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.interpolate import PchipInterpolator
from scipy.spatial import cKDTree

from helpers.errors import UsageError
from helpers.style_images.brushes import (
    LUMA,
    Array,
    Block,
    Brush,
    Canvas,
    Noise,
    Scalar,
    along,
    blend,
    palette,
    ramp,
    relax,
    shift,
    smoothstep,
    vary,
)

Draw = Callable[[int, np.random.Generator], Image.Image]

MIN_SIZE, MAX_SIZE = 64, 4096


def draw_style(name: str, size: int = 512, seed: int = 0) -> Image.Image:
    """The style painting `name`, RGB, `size` by `size` pixels; the same `seed` gives the same bytes."""
    if name not in STYLES:
        raise UsageError(f"unknown style '{name}'; the styles are {', '.join(STYLES)}")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UsageError(f"size {size} is outside {MIN_SIZE}..{MAX_SIZE}")
    return STYLES[name](size, np.random.default_rng(seed))


# ---------------------------------------------------------------------------------------------- swirl


def swirl(size: int, rng: np.random.Generator) -> Image.Image:
    """A night sky of whirling currents and haloed lights above blue ridges and a field, in thick strokes."""
    side = rng.choice([-1, 1])
    whirls = np.array([[0.5 - 0.13 * side, 0.36, 0.15], [0.5 + 0.2 * side, 0.47, 0.1]])
    whirls[:, :2] += rng.normal(0, 0.03, (2, 2))
    orbs = _place_orbs(rng, 9, whirls)
    drift = Noise(rng, 2.2, 2)
    grain = Noise(rng, 9, 2)
    ridges = [Noise(rng, f, 3) for f in (1.6, 2.2, 1.8)]
    levels = np.array([0.66, 0.735, 0.81])
    vanishing = 0.5 + 0.25 * side

    sky = palette("0a1440 12256b 1b3f95 2b64b8 4f92cc 8fc3d8 d8e6c8 f0dc8c")
    halo = palette("fff8d0 ffe478 f9b52c ef8f2a f0d468 9fcfa0 3f93bc 1c4a98")
    land = [palette("0e1c4c 1c3a78 2f5f96 5a8fae"), palette("0c2038 17495a 2f7a6a 7fae6a")]
    field = palette("16324a 24604a 6f8f35 b98a24 e6b53a f6dc74")

    def ridge(index: int, x: Array) -> Array:
        return levels[index] + 0.055 * ridges[index](x, 0.37)

    def furrow(x: Array, below: Array) -> Array:
        return (x - vanishing) / (np.abs(below) + 0.06) + 0.25 * drift(x, below)

    def stream(x: Array, y: Array) -> Array:
        value = y + 0.05 * np.sin(2 * np.pi * (x + 0.2)) + 0.06 * drift(x, y)
        for cx, cy, r in whirls:
            value = value + 3.6 * r * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (1.15 * r) ** 2)
        for cx, cy, r in orbs:
            value = value + 8 * r * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (1.8 * r) ** 2)
        for index in range(3):
            below = y - ridge(index, x)
            depth = below if index < 2 else 0.5 * furrow(x, below)
            value = np.where(below > 0, depth, value)
        return value

    def colour(x: Array, y: Array) -> Array:
        flow = stream(x, y)
        turns = [np.arctan2(y - cy, x - cx) for cx, cy, _ in whirls]
        # With whole numbers of turns the phase is continuous around each whirl, without a seam.
        bands = np.sin(2 * np.pi * 5.5 * flow + 2 * turns[0] - 2 * turns[1] + 1.2 * drift(y, x))
        near = sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (1.8 * r) ** 2) for cx, cy, r in whirls)
        tone = 0.3 + 0.16 * bands + 0.25 * smoothstep(0.25, 0.7, y) + 0.06 * grain(x, y)
        result = ramp(tone + np.clip(near, 0, 1) * (0.1 + 0.2 * bands), sky)
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
                rows = np.sin(4.5 * furrow(x, below))
                over = ramp(0.48 + 0.42 * rows + 0.3 * grain(x, y), field)
            result = np.where((below > 0)[..., None], over, result)
        return result

    canvas = Canvas(size)
    canvas.underpaint(colour)
    angle = along(stream)
    for length, width in ((0.16, 0.028), (0.1, 0.014), (0.06, 0.0085)):
        canvas.cover(rng, Brush(length, width), colour, angle)

    def lively(x: Array, y: Array) -> Array:
        return 0.25 + 0.5 * sum(np.exp(-((np.hypot(x - cx, y - cy) / r / 2.2) ** 2)) for cx, cy, r in orbs)

    canvas.cover(rng, Brush(0.035, 0.005, hue=0.2, light=0.09, nodes=6), colour, angle, lively)
    # Strokes cannot turn tightly enough for the middle of a light: a few dabs fill it.
    cores = np.repeat(orbs, 6, 0) + rng.normal(0, 1, (6 * len(orbs), 3)) * orbs[:, 2].mean() * [0.14, 0.14, 0]
    canvas.strokes(rng, Brush(0.013, 0.01, body=0.2), cores[:, 0], cores[:, 1], colour, angle)
    return canvas.finish(relief=1.1)


def _place_orbs(rng: np.random.Generator, count: int, whirls: Array) -> Array:
    """At most `count` lights `(N, 3)` as x, y, radius in the sky, clear of the whirls and each other."""
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


# ------------------------------------------------------------------------------------------ pointillist


def pointillist(size: int, rng: np.random.Generator) -> Image.Image:
    """A low sun over hills and water with sails and an umbrella pine, in dabs of divided colour."""
    side = rng.choice([-1, 1])
    horizon = 0.55 + rng.uniform(-0.04, 0.04)
    sun = np.array([0.5 + side * rng.uniform(0.08, 0.22), horizon - rng.uniform(0.1, 0.2)])
    cloud, fine, ripple, bank_edge = (Noise(rng, f, 2) for f in (2.5, 8, (5, 40), 3))
    ridges = [Noise(rng, f, 2) for f in (2.2, 3.0)]
    sails = [
        (sun[0] + side * rng.uniform(0.05, 0.12), horizon + 0.012, 0.13),
        (sun[0] - side * rng.uniform(0.1, 0.16), horizon + 0.03, 0.2),
        (sun[0] - side * rng.uniform(0.3, 0.36), horizon + 0.008, 0.08),
    ]
    foot = 0.5 - side * rng.uniform(0.33, 0.38)
    crowns = np.stack([rng.uniform(-0.2, 0.2, 11), rng.normal(0, 0.025, 11), rng.uniform(0.05, 0.09, 11)], 1)
    crowns[:, 0] += foot + side * 0.06
    crowns[:, 1] += 0.23 + 0.6 * np.abs(crowns[:, 0] - foot - side * 0.06)

    sky = palette("ffd95a ffb83f ff9440 f4705a d85a90 9a5ab8 5058c0 2c5cc4 16307f")
    hill = [palette("c08ac0 7a7ac8 4a6fb8"), palette("e8a860 6f9a78 2f5f88")]
    meadow = palette("14304f 1f6a55 6fa53a e0c840 f08a3a")
    needle = palette("10184a 143f4a 2f7a3a a8c03a ffd84a")

    def above(x: Array, y: Array) -> Array:
        distance = np.hypot(x - sun[0], y - sun[1])
        arcs = 0.05 * np.sin(distance * 42 + 4 * cloud(x, y)) + 0.09 * cloud(x, y)
        result = ramp(np.maximum(distance - 0.05, 0) * 1.5 + arcs * smoothstep(0.05, 0.2, distance), sky)
        disc = ramp(distance / 0.06, palette("fffef0 fff6b0 ffdc50 ff9a3a"))
        result = np.where((distance < 0.06)[..., None], disc, result)
        for index, height in enumerate((0.085, 0.045)):
            top = horizon - height * (0.65 + 0.9 * ridges[index](x, 0.5))
            tone = (y - top) / 0.1 + 0.35 * fine(x, y) + 0.2
            result = np.where((y > top)[..., None], ramp(tone, hill[index]), result)
        for index, (mast, water, tall) in enumerate(sails):
            down = (y - water + tall) / tall
            for way, reach, tint in ((side, 0.42, "e8304a"), (-side, 0.24, "fff0c8")):
                across = (x - mast) * way
                sail = (across > 0) & (across < reach * tall * down) & (down < 0.9)
                shade = ramp(across / (reach * tall), palette(f"{tint} 5a2a9a"))
                result = np.where(sail[..., None], shade, result)
            hull = (np.abs(x - mast) < 0.4 * tall) & (down >= 0.91) & (down < 1.03)
            result = np.where(hull[..., None], palette("2a2a6a 7a2a3a 1a4a5a")[index], result)
        return result

    def colour(x: Array, y: Array) -> Array:
        below = y - horizon
        wave = ripple(x, y)
        # One evaluation for the sky and its reflection: at the point itself, or at its mirror image.
        wet = below > 0
        height = 0.9 * below - 0.03 * wave * smoothstep(0, 0.1, below)
        seen = above(np.where(wet, x + 0.03 * wave, x), np.where(wet, horizon - height, y))
        # A dab of water shows either the sky or the depth: a mixture of orange and blue would be grey.
        depth = ramp(below / 0.4 + 0.4 * fine(x, y), palette("4f9fd8 2460c0 12287f"))
        water = blend(seen * 0.95, depth, 0.9 * smoothstep(0.05, 0.2, wave + 0.5 * below - 0.08))
        path = np.exp(-(((x - sun[0]) / (0.03 + 0.2 * np.abs(below))) ** 2))
        glitter = ramp(below / 0.35, palette("fff2a8 ffd84f"))
        water = blend(water, glitter, smoothstep(0.36, 0.44, path * (0.6 + 2.2 * wave)))
        result = np.where(wet[..., None], water, seen)

        edge = 0.9 - 0.1 * side * (0.5 - x) + 0.03 * bank_edge(x, 0.2)
        tone = 0.35 + 1.5 * (y - edge) + 0.5 * bank_edge(3 * x, 6 * y) + 0.2 * fine(x, y)
        result = np.where((y > edge)[..., None], ramp(tone, meadow), result)

        lean = foot + side * 0.05 * np.sin((0.95 - y) * 4)
        bark = (np.abs(x - lean) < 0.008 + 0.012 * y) & (y > 0.27) & (y < edge + 0.03)
        lit = ramp(0.5 + side * (x - lean) * 30 + 0.2 * fine(x, y), palette("3a2a6a 8a3a4a f0a050"))
        result = np.where(bark[..., None], lit, result)
        rough, tufts = 0.35 * fine(2 * x, 2 * y), 0.3 * fine(3 * x, 3 * y)
        for cx, cy, r in crowns[np.argsort(crowns[:, 1])]:
            u, v = (x - cx) / (1.25 * r), (y - cy) / (0.62 * r)
            inside = np.hypot(u, v) + rough < 1
            tone = 0.45 + 0.3 * side * u - 0.35 * v + tufts
            result = np.where(inside[..., None], ramp(tone, needle), result)
        return result

    def angle(x: Array, y: Array) -> Array:
        arc = np.arctan2(y - sun[1], x - sun[0]) + np.pi / 2
        return np.where(y < horizon, arc, 0.25 * ripple(x, y)) + 0.5 * fine(x, y)

    def complement(x: Array, y: Array) -> Array:
        return shift(colour(x, y), np.pi, 0.9, 0.06)

    canvas = Canvas(size)
    canvas.underpaint(colour)
    dab = Brush(0.034, 0.027, 2.4, bluntness=2.5, streak=0.05, dryness=0, hue=0.2, chroma=0.25, nodes=4)
    canvas.cover(rng, dab, colour, angle)
    dab = replace(dab, length=0.022, width=0.018, coverage=1.5, hue=0.3, light=0.09, body=0.16)
    canvas.cover(rng, dab, colour, angle)
    dots = replace(dab, length=0.018, width=0.015, coverage=1.0)
    canvas.cover(rng, dots, complement, angle, lambda x, y: np.full_like(x, 0.22))
    canvas.cover(rng, replace(dots, coverage=0.9), colour, angle)
    return canvas.finish(relief=0.9, gloss=0.12)


# ----------------------------------------------------------------------------------------------- discs


def discs(size: int, rng: np.random.Generator) -> Image.Image:
    """Interlocking colour wheels in broken rings, painted around their centres with a flat brush."""
    tints = palette(
        "d7263d f46036 ffb627 f9e784 2e9e5b 1b998b 2274a5 1b2a8a 6a2c91 c04cad f4ece0 14142b e8602c 7fc8e8"
    )
    wheels = _place_wheels(rng)
    worn = Noise(rng, 6, 2)
    beams = rng.uniform(0, 2 * np.pi)
    rings = 9
    edges = np.cumsum(rng.uniform(0.5, 1.5, (len(wheels), rings)), 1)
    edges /= edges[:, -1:]
    sectors = rng.choice([2, 2, 4, 4, 3, 6, 8], (len(wheels), rings))
    spin = rng.uniform(0, 2 * np.pi, (len(wheels), 1))
    spin = spin + rng.choice([0, 0, np.pi / 4, np.pi / 8], (len(wheels), rings))
    # Steps of nearly half the list of tints make neighbouring rings and sectors contrast.
    start = rng.integers(0, len(tints), (len(wheels), 1))
    order = (start + np.arange(rings) * 5 + rng.integers(0, 2, (len(wheels), rings))) % len(tints)

    def owner(x: Array, y: Array) -> Array:
        top = np.zeros(x.shape, int)
        for index, (cx, cy, r) in enumerate(wheels):
            top = np.where(np.hypot(x - cx, y - cy) < r, index, top)
        return top

    def polar(x: Array, y: Array) -> tuple[Array, Array, Array]:
        top = owner(x, y)
        dx, dy = x - wheels[top, 0], y - wheels[top, 1]
        return top, np.hypot(dx, dy) / wheels[top, 2], np.arctan2(dy, dx)

    def colour(x: Array, y: Array) -> Array:
        top, radius, turn = polar(x, y)
        ring = np.minimum((radius[..., None] > edges[top]).sum(-1), rings - 1)
        count = sectors[top, ring]
        place = (turn - spin[top, ring]) % (2 * np.pi) / (2 * np.pi) * count
        sector = place.astype(int)
        tint = tints[(order[top, ring] + 3 * sector + 4 * (sector % 2)) % len(tints)]
        inner = np.where(ring > 0, edges[top, np.maximum(ring - 1, 0)], 0)
        within = (radius - inner) / (edges[top, ring] - inner)
        fade = 0.42 * (place - sector - 0.5) + 0.3 * (within - 0.5) + 0.2 * worn(x, y)
        # Four beams from one wheel cross all the others, which unites the picture.
        beam = np.cos(2 * np.arctan2(y - wheels[0, 1], x - wheels[0, 0]) - beams)
        return shift(tint, 0.7 * fade, 1.0, 0.34 * fade + 0.07 * np.tanh(9 * beam))

    def angle(x: Array, y: Array) -> Array:
        return polar(x, y)[2] + np.pi / 2 + 0.15 * worn(x, y)

    canvas = Canvas(size)
    canvas.underpaint(colour)
    brush = Brush(0.11, 0.02, coverage=2, hue=0.07, chroma=0.08, light=0.03, tolerance=0.16, streak=0.09)
    canvas.cover(rng, brush, colour, angle)
    canvas.cover(rng, replace(brush, length=0.07, width=0.009), colour, angle)
    canvas.cover(rng, replace(brush, length=0.04, width=0.005, coverage=1.3, light=0.04), colour, angle)
    return canvas.finish(relief=0.9, weave=2e-4)


def _place_wheels(rng: np.random.Generator) -> Array:
    """Wheels `(N, 3)` as x, y, radius, the topmost last; the first fills the picture."""
    side = rng.choice([-1, 1])
    middle = (0.5 + side * rng.uniform(0.1, 0.18), rng.uniform(0.36, 0.46))
    wheels = [(*middle, 1.1), (0.5 - side * 0.5, 0.95, 0.62), (0.5 + side * 0.45, -0.05, 0.42)]
    under = len(wheels)
    for _ in range(400):
        r = 0.3 * 0.86 ** (len(wheels) - under)
        x, y = rng.uniform(0.02, 0.98, 2)
        # Wheels overlap a little, but do not hide each other.
        if all(np.hypot(x - cx, y - cy) > 0.82 * (r + other) for cx, cy, other in wheels[under:]):
            wheels.append((x, y, r))
        if len(wheels) == under + 10:
            break
    return np.array(wheels)


# ----------------------------------------------------------------------------------------------- autumn


def autumn(size: int, rng: np.random.Generator) -> Image.Image:
    """Birches in an autumn wood above a path of fallen leaves, in dabs of one size and of unlike colours."""
    floor = 0.74 + rng.uniform(-0.03, 0.03)
    mass, leaf, bend = Noise(rng, 2.2, 2), Noise(rng, 8, 2), Noise(rng, 4, 1)
    glow = np.array([rng.uniform(0.35, 0.65), rng.uniform(0.3, 0.42)])
    stems = _place_trunks(rng, 6, floor + 0.04, 0.038)
    sky = palette("fff0b0 a8dcc8 5fb8c8 3f7ac0 34449a")
    foliage = palette("8a2048 c8382a f0702a fba93a ffd860")
    fallen = palette("2a1a60 7a2048 c04026 e89a34")

    def crown(x: Array, y: Array) -> Array:
        return mass(x, y) + 0.4 * leaf(x, y) + 0.9 * (np.hypot(x - glow[0], y - glow[1]) - 0.22)

    def on_stem(x: Array, y: Array) -> tuple[Array, Array]:
        """Whether points are on a trunk, and how far across it, from -1 to 1."""
        found, across = np.zeros(x.shape, bool), np.zeros(x.shape, np.float32)
        for foot, base, width, lean in stems:
            middle = foot + lean * (base - y) + 0.008 * np.sin(9 * y + 40 * foot)
            place = (x - middle) / (width * (0.6 + 0.4 * y / base))
            here = (np.abs(place) < 1) & (y < base)
            found, across = found | here, np.where(here, place, across)
        return found, across

    def colour(x: Array, y: Array) -> Array:
        distance = np.hypot(x - glow[0], y - glow[1])
        result = ramp(1.9 * distance + 0.25 * mass(y, x), sky)
        leaves = ramp(0.85 - distance + 0.45 * leaf(y, x) + 0.6 * mass(y, x), foliage)
        result = np.where((crown(x, y) > 0)[..., None], leaves, result)
        ground = ramp(0.5 + 0.8 * leaf(x, 2.5 * y), fallen)
        result = np.where((y > floor + 0.03 * mass(x, 0.3))[..., None], ground, result)
        stem, across = on_stem(x, y)
        bark = ramp(0.35 + 0.5 * across, palette("fffbe8 f4ead8 a8a4d0 6a68a8"))
        return np.where(stem[..., None], bark, result)

    def angle(x: Array, y: Array) -> Array:
        hanging = 0.9 + 1.6 * bend(x, y)
        return np.where(on_stem(x, y)[0], np.pi / 2, np.where(y > floor, 0.4 * bend(x, y), hanging))

    def accent(tints: Array, x: Array, y: Array) -> Array:
        return ramp(0.5 + leaf(3 * x, 3 * y), tints)

    def beside_stems(share: float, x: Array, y: Array) -> Array:
        return np.where(on_stem(x, y)[0], 0, share)

    canvas = Canvas(size)
    canvas.underpaint(colour, 0.5)
    dab = Brush(0.042, 0.017, 2.2, bluntness=2.5, dryness=0.1, body=0.14, ridge=0.8, hue=0.2, light=0.06)
    dab = replace(dab, tolerance=0.5, nodes=5)
    canvas.cover(rng, dab, colour, angle)
    # The same dabs in colours unlike those beneath: a shadow, a light, and the blue of the sky among the leaves.
    dab = replace(dab, coverage=1.2, tolerance=2)
    for tints, share in (
        ("6a2a80 3f4f98", 0.12),
        ("ffe070 ffc040", 0.14),
        ("2f9fb0 4f86c8", 0.09),
        ("d8403a f0702f", 0.12),
    ):
        canvas.cover(rng, dab, partial(accent, palette(tints)), angle, partial(beside_stems, share))

    foot, base, width, lean = stems[rng.integers(0, len(stems), 110)].T
    y = rng.uniform(0, 1, 110) * base
    x = foot + lean * (base - y) + width * rng.uniform(-0.7, 0.7, 110)
    scar = Brush(0.034, 0.011, bluntness=3, dryness=0.3)

    def dark(x: Array, y: Array) -> Array:
        return np.broadcast_to(palette("3a2a58")[0], (*x.shape, 3))

    canvas.strokes(rng, scar, x, y, dark, lambda x, y: 0.3 * leaf(x, y))
    return canvas.finish(relief=1.0)


def _place_trunks(rng: np.random.Generator, count: int, base: float, width: float) -> Array:
    """Stems `(count, 4)` as foot x, foot y, half width and lean, spread unevenly over the picture."""
    foot = (np.arange(count) + rng.uniform(0.1, 0.9, count)) / count
    base = base + rng.uniform(-0.03, 0.03, count)
    width = width * rng.uniform(0.5, 1.0, count)
    return np.stack([foot, base, width, rng.normal(0, 0.06, count)], 1)


# ---------------------------------------------------------------------------------------- stained glass


MAX_CELLS = 300


@dataclass(frozen=True)
class Pane:
    """One part of the window: `count` cells, relaxed in the coordinates `chart` `(..., 2)`.

    Without `count`, `chart` returns the numbers of the cells itself, below `MAX_CELLS`.
    """

    tints: str
    chart: Callable[[Array, Array], Array]
    count: int = 0


def stained_glass(size: int, rng: np.random.Generator) -> Image.Image:
    """A window with a rose sun, a sky of rays, a tree, hills and a river, in leaded cells of streaky glass."""
    side = rng.choice([-1, 1])
    sun = np.array([0.5 + side * rng.uniform(0.1, 0.16), rng.uniform(0.28, 0.34)])
    rose = rng.uniform(0.15, 0.17)
    tree = np.array([0.5 - side * rng.uniform(0.24, 0.28), rng.uniform(0.36, 0.42)])
    edge, wobble = Noise(rng, 3, 1), Noise(rng, 2, 1)
    bend = rng.uniform(0, 2 * np.pi)
    frame = 0.045

    def ridge(index: int, x: Array) -> Array:
        swell = 0.06 * wobble(x * (1 + 0.3 * index), 0.31 + index)
        return (0.6, 0.7, 0.82)[index] + swell + 0.05 * side * (-1) ** index * (x - 0.5)

    def river(x: Array, y: Array) -> Array:
        t = np.clip((y - 0.58) / 0.42, 0, 1.2)
        return (x - 0.5 - side * 0.12 * np.sin(6 * t**0.7 + bend) * (1 - 0.4 * t)) / (0.012 + 0.15 * t**1.6)

    def polar(x: Array, y: Array) -> tuple[Array, Array]:
        return np.hypot(x - sun[0], y - sun[1]) / rose, np.arctan2(y - sun[1], x - sun[0])

    def region(x: Array, y: Array) -> Array:
        part = np.zeros(x.shape, np.int32)
        for index in range(3):
            part[y > ridge(index, x)] = 1 + index
        part[(np.abs(river(x, y)) < 1) & (y > ridge(0, x) + 0.015)] = 4
        part[polar(x, y)[0] < 1] = 5
        width = 0.016 + 0.1 * np.clip(y - tree[1] - 0.25, 0, 1) ** 1.3
        trunk = np.abs(x - tree[0] - 0.02 * np.sin(9 * y)) < width
        part[trunk & (y > tree[1]) & (y < 0.86)] = 6
        crown = np.hypot(x - tree[0], 1.1 * (y - tree[1]))
        lobes = np.arctan2(y - tree[1], x - tree[0])
        crown = crown + 0.016 * np.cos(7 * lobes + bend) + 0.06 * edge(x, y)
        part[crown < 0.185] = 7
        part[np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) < frame] = 8
        return part

    def sky_chart(x: Array, y: Array) -> Array:
        radius, turn = polar(x, y)
        # The angle as a point on a circle has no seam. It weighs more than the radius, so the cells become rays.
        return np.stack([1.3 * np.log(radius + 0.3), 2.4 * np.cos(turn), 2.4 * np.sin(turn)], -1)

    def hill_chart(x: Array, y: Array) -> Array:
        return np.stack([x, 2.2 * (y - ridge(1, x))], -1)

    def river_chart(x: Array, y: Array) -> Array:
        return np.stack([0.09 * river(x, y), 0.9 * y], -1)

    def rose_cells(x: Array, y: Array) -> Array:
        radius, turn = polar(x, y)
        petals = (0.24, 0.5 + 0.12 * np.abs(np.cos(3 * turn)), 0.8 + 0.09 * np.abs(np.cos(6 * turn)))
        ring = sum((radius > rim).astype(int) for rim in petals)
        count = np.array([1, 6, 12, 18])[ring]
        offset = np.array([0, np.pi / 6, np.pi / 12, 0])[ring]
        return 40 * ring + np.floor((turn + offset) % (2 * np.pi) / (2 * np.pi) * count).astype(int)

    def frame_cells(x: Array, y: Array) -> Array:
        return 20 * np.floor(x / frame / 2.02).astype(int) + np.floor(y / frame / 2.02).astype(int)

    panes = [
        Pane("ffe36a ffc23d ff8f3a ee5a52 c0428a 7a3fae 3f5fe0 1f7fe8 1f5fd0", sky_chart, 80),
        Pane("3a4fb8 6a6fe0 4a9fd8 9a5fc8 c87ac0", hill_chart, 24),
        Pane("1f7a6a 2fa06a 5fb84a 1f6a8a", hill_chart, 26),
        Pane("2a8a2f 8ab82a d8c82f 1f6a3a e09a2a", hill_chart, 30),
        Pane("1f5fc8 3fa8e0 8fe0f0 1f8ac0 5fd0d0", river_chart, 22),
        Pane("fff6c0 ffcf3a f0602a ffb02a c8202a ffe070", rose_cells),
        Pane("5a2a1f 8a4a2a b8702f", lambda x, y: np.stack([2 * x, 0.6 * y], -1), 12),
        Pane("b8202f e0502a f0942a 8aa82a 2f8a3a f8c83a", lambda x, y: np.stack([x, y], -1), 40),
        Pane("b01f3a 1f4fb8 1f8a5a e0a02a 6a2aa8", frame_cells),
    ]
    canvas = Canvas(size)
    x, y = canvas.grid()
    parts = region(x, y)
    cells = _cells(rng, region, panes, x, y)
    # Random numbers for all possible cells: a cell too small to be seen must not change those of the others.
    count = MAX_CELLS * len(panes)
    area = np.maximum(np.bincount(cells.ravel(), minlength=count), 1)
    cx, cy = (np.bincount(cells.ravel(), w.ravel(), count) / area for w in (x, y))
    heading = rng.uniform(0, 2 * np.pi, count)
    chance, stray = rng.uniform(0, 1, count), rng.standard_normal(count)

    far = np.hypot(cx - sun[0], cy - sun[1])
    crown_light = 0.5 - 1.8 * side * (cx - tree[0]) + 1.6 * (cy - tree[1])
    tones = {
        0: 2.05 * (far - rose) + 0.05 * stray,
        5: np.where(far < 0.2 * rose, 0, 0.75 * far / rose + 0.2 * (np.arange(count) % 2)),
        7: crown_light + 0.2 * stray,
    }
    glass = [
        ramp(tones.get(index, chance).reshape(len(panes), -1)[index], palette(pane.tints))
        for index, pane in enumerate(panes)
    ]
    glass = vary(np.concatenate(glass), rng, 0.12, 0.12, 0.04)

    streak, hammer = Noise(rng, (5, 22), 3), Noise(rng, 55, 2)
    c, s = (w[cells].astype(np.float32) for w in (np.cos(heading), np.sin(heading)))
    u, v = c * x + s * y, c * y - s * x
    lean = (c * (x - cx[cells]) + s * (y - cy[cells])) / np.sqrt(area / x.size)[cells]
    veins = streak(u + 3 * c, v + 3 * s)
    lit = 0.16 * veins + 0.1 * lean
    canvas.colour = shift(glass[cells], 1.8 * lit, 1 + 0.1 * veins, lit)
    canvas.colour *= (1.2 - 0.2 * smoothstep(0.1, 0.85, np.hypot(x - sun[0], y - sun[1])))[..., None]
    canvas.height = 0.0008 * hammer(x, y) + 0.0012 * veins

    bx, by = rng.uniform(0, 1, (2, 900)).astype(np.float32)
    clear = {"streak": 0, "dryness": 0, "hue": 0, "chroma": 0, "light": 0}
    bubble = Brush(0.005, 0.004, bluntness=2, body=0.35, tolerance=2, nodes=4, **clear)
    canvas.strokes(rng, bubble, bx, by, lambda x, y: 1.15 * canvas.at(x, y), lambda x, y: 6 * x)

    bloom = ndimage.gaussian_filter(canvas.colour, (0.012 * canvas.side,) * 2 + (0,))
    for edges, width in ((cells, 0.006), (parts, 0.008)):
        distance = _distance_to_border(edges)
        canvas.colour *= (1 - 0.3 * np.exp(-distance / (1.6 * width)))[..., None]
        bar = np.clip(1 - (distance / width) ** 2, 0, 1)
        lead = palette("1c1e26")[0] * (1 + 0.3 * hammer(x, y))[..., None]
        canvas.colour = blend(canvas.colour, lead, smoothstep(0, 0.35, bar))
        canvas.height = np.where(bar > 0, 0.9 * width * np.sqrt(bar), canvas.height)
    canvas.colour = 1 - (1 - canvas.colour) * (1 - 0.28 * bloom)
    return canvas.finish(relief=0.8, gloss=0.35)


def _cells(rng: np.random.Generator, region: Scalar, panes: list[Pane], x: Array, y: Array) -> Array:
    """The number of the cell at each of the points `x`, `y`; the cells of pane p start at `p * MAX_CELLS`."""
    parts = region(x, y)
    cells = np.zeros(x.shape, np.int32)
    sample = rng.uniform(0, 1, (2, 24000)).astype(np.float32)
    sample_parts = region(*sample)
    for index, pane in enumerate(panes):
        inside = parts == index
        cell = pane.chart(x[inside], y[inside])
        if pane.count:
            sites = relax(rng, pane.chart(*sample[:, sample_parts == index]), pane.count)
            cell = cKDTree(sites).query(cell)[1]
        cells[inside] = MAX_CELLS * index + cell
    return cells


def _distance_to_border(labels: Array) -> Array:
    """The distance, in picture sides, from each pixel of `labels` `(H, H)` to the nearest change of label."""
    same = np.ones(labels.shape, bool)
    same[:, 1:] &= labels[:, 1:] == labels[:, :-1]
    same[1:] &= labels[1:] == labels[:-1]
    return (ndimage.distance_transform_edt(same) / labels.shape[0]).astype(np.float32)


# ----------------------------------------------------------------------------------------------- waves


INK = dict(
    zip(
        ("line", "deep", "mid", "pale", "foam", "red", "edge", "mist", "paper"),
        palette("12264f 173f7d 2f6fa8 86b9cc f6eed8 cf3a26 b8884e fbf0d4 f7ecd2"),
        strict=True,
    )
)


def waves(size: int, rng: np.random.Generator) -> Image.Image:
    """Breakers with claws of foam above a swell drawn as fish scales, under a red sun: a woodblock print."""
    side = rng.choice([-1, 1])
    canvas = Canvas(size)
    block = Block(canvas.side)
    sun_x, sun_y, sun_radius = _mist(block, rng, side)

    rows = 0.52 + 0.5 * np.linspace(0, 1, 15) ** 1.35
    phase = rng.uniform(0, 2 * np.pi, 2)
    breakers = {
        2: (0.5 + side * rng.uniform(0, 0.2), rng.uniform(0.16, 0.24), rng.choice([-1, 1])),
        5: (0.5 + side * rng.uniform(0.36, 0.46), rng.uniform(0.26, 0.4), rng.choice([-side, -side, side])),
        9: (0.5 - side * rng.uniform(0.14, 0.28), rng.uniform(0.56, 0.74), side),
        12: (0.5 + side * rng.uniform(0.24, 0.4), rng.uniform(0.22, 0.34), rng.choice([-1, 1])),
    }
    # From the horizon to the front: each row of swell is drawn over the breaker behind it.
    for index, base in enumerate(rows):
        depth = index / (len(rows) - 1)
        if index in breakers:
            middle, tall, way = breakers[index]
            _breaker(block, rng, np.array([middle - way * 0.72 * tall, base + 0.06]), tall, way)
        spacing = 0.045 + 0.075 * depth
        x = -0.1 + spacing * (np.arange(int(1.2 / spacing) + 2) + 0.5 * (index % 2))
        swell = 0.035 * depth * np.sin(2 * np.pi * 1.1 * x + phase[0])
        swell += 0.02 * np.sin(2 * np.pi * 2.3 * x + phase[1])
        _scales(
            block, x, base + swell * (0.4 + depth) + 0.55 * spacing, 0.62 * spacing, 0.4 * (1 - depth) ** 2
        )

    hero = breakers[9]
    flecks = np.stack([hero[0] + rng.normal(0, 0.2, 150), 0.36 + rng.normal(0, 0.12, 150)], 1)
    flecks = flecks[np.hypot(flecks[:, 0] - sun_x, flecks[:, 1] - sun_y) > 1.1 * sun_radius]
    _foam(block, flecks, rng.uniform(0.0012, 0.005, len(flecks)), outline=0.0018)
    return _printed(canvas, block, rng)


def _mist(block: Block, rng: np.random.Generator, side: int) -> tuple[float, float, float]:
    """A sky of graded colour with bands of mist around the red sun. Returns the sun's x, y and radius."""
    sky = palette("2f6f9f 7fb0b8 e6d8b0 f4e2b8 f2c088 e59a68")
    for y in np.linspace(0, 0.7, 180):
        block.box(0, y, 1, y + 0.006, ramp(y / 0.62, sky))
    sun_x, sun_y, radius = 0.5 + side * rng.uniform(0.14, 0.24), rng.uniform(0.2, 0.27), 0.095
    block.disc(sun_x, sun_y, radius, INK["red"])
    for band in range(9):
        y, half = 0.05 + 0.052 * band + rng.normal(0, 0.006), rng.uniform(0.1, 0.26)
        x, tall = rng.uniform(0, 1), rng.uniform(0.008, 0.014)
        if abs(y - sun_y) < radius:
            x = sun_x + np.copysign(max(abs(x - sun_x), 1.35 * half + 0.6 * radius), x - sun_x)
        for grow, tint in ((0.0028, "edge"), (0.0, "mist")):
            thick = tall + grow
            for right, down, share in ((0, 0, 1.0), (0.35, 1.7, 0.6), (-0.4, -1.7, 0.5)):
                cx, cy, w = x + right * half, y + down * tall, half * share
                block.box(cx - w, cy - thick, cx + w, cy + thick, INK[tint])
                for end in (-w, w):
                    block.disc(cx + end, cy, thick, INK[tint])
    return sun_x, sun_y, radius


def _scales(block: Block, x: Array, y: Array, radius: float, haze: float) -> None:
    """A row of the fish-scale pattern: rings about each of the points, paler by `haze`."""
    tints = ("line", "foam", "deep", "foam", "mid", "pale", "deep")
    for cx, cy in zip(x, y, strict=True):
        for tint, share in zip(tints, (1.06, 1.0, 0.9, 0.68, 0.6, 0.4, 0.24), strict=True):
            ink = INK[tint] if tint == "foam" else blend(INK[tint], INK["pale"], haze)
            block.disc(cx, cy, radius * share, ink)


def _breaker(block: Block, rng: np.random.Generator, foot: Array, tall: float, way: int) -> None:
    """A ribbed wave of scale `tall` that rises from `foot` (x, y) and curls over towards `way` (-1 or 1)."""
    back = _curl((0.2, 0.75, 1.1, 0.75, -0.2, -1.5, -2.5), 2.1)
    face = _curl((2.9, 2.6, 2.0, 1.2, 0.2, -1.1, -2.3), 1.75) + [1.42, 0]
    # Both outlines must end in one point, or the wave would be open there.
    face += (back[-1] - face[-1]) * np.linspace(0, 1, len(face))[:, None] ** 1.5
    place = np.array([way * tall, -tall])
    ribs = [foot + place * (back + (face - back) * share) for share in np.linspace(0, 1, 10)]
    skirt = np.array([ribs[-1][0], ribs[0][0]]) + [0, 0.3]
    block.shape(np.concatenate([ribs[0], ribs[-1][::-1], skirt]), INK["deep"])
    tints = ("deep", "mid", "foam", "deep", "pale", "deep", "mid", "foam", "deep")
    for tint, one, other in zip(tints, ribs[:-1], ribs[1:], strict=True):
        block.shape(np.concatenate([one, other[::-1]]), INK[tint])
    for rib in ribs:
        block.line(rib, INK["line"], 0.0028)
    _claws(block, rng, ribs[-1][84:], 0.06 * tall, -way)
    _claws(block, rng, ribs[0][50:], 0.065 * tall, way)


def _curl(headings: tuple[float, ...], length: float) -> Array:
    """An outline `(120, 2)` from the origin, x forward and y up, through `headings` (radians) in turn."""
    s = np.linspace(0, 1, 120)
    heading = PchipInterpolator(np.linspace(0, 1, len(headings)), headings)(s)
    return np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * length / len(s), 0)


def _claws(block: Block, rng: np.random.Generator, crest: Array, size: float, way: int) -> None:
    """Fingers of foam up to `size` long along `crest` `(N, 2)`, on the side that `way` (-1 or 1) picks."""
    index = np.linspace(0, len(crest) - 1, 26).astype(int)
    tangent = np.gradient(crest, axis=0)[index]
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    normal = way * np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    reach = size * np.sin(np.linspace(0.25, 2.6, len(index))) * rng.uniform(0.7, 1.25, len(index))
    centres, radii = [], []
    for share, radius in ((0.0, 0.5), (0.55, 0.38), (1.05, 0.26), (1.4, 0.16)):
        away = 0.9 * share * normal + 0.5 * share**2 * tangent
        centres.append(crest[index] + away * reach[:, None])
        radii.append(radius * reach)
    points, radius = np.concatenate(centres), np.concatenate(radii)
    _foam(block, points, radius, outline=0.0032)
    turn = np.linspace(0, 4.2 * np.pi, 30)
    spiral = np.stack([way * np.cos(turn), np.sin(turn)], 1) * (0.78 * turn / turn[-1])[:, None]
    for point, r in zip(points, radius, strict=True):
        if r > 0.007:
            block.line(point + r * spiral, INK["mid"], 0.0018)


def _foam(block: Block, points: Array, radii: Array, outline: float) -> None:
    """White drops. All outlines are drawn first, so that drops that touch become one."""
    for grow, tint in ((outline, "line"), (0, "foam")):
        for (x, y), radius in zip(points, radii, strict=True):
            block.disc(x, y, radius + grow, INK[tint])


def _printed(canvas: Canvas, block: Block, rng: np.random.Generator) -> Image.Image:
    """The print: wood grain in the ink, more ink at the edges of shapes, fibres in the paper."""
    x, y = canvas.grid()
    colour = block.colour()
    soft = ndimage.gaussian_filter(colour, (0.006 * canvas.side,) * 2 + (0,))
    colour = colour + 0.22 * (colour - soft)
    warp = Noise(rng, (1.2, 3), 2)(x, y)
    rings = np.sin(2 * np.pi * (34 * y + 5 * warp))
    grain = Noise(rng, (7, 130), 2, 0.7)(x, y)
    pressed = Noise(rng, 5, 3, 0.6)(x, y)
    fibre = Noise(rng, 110, 2, 0.8)(x, y)
    inked = 1 - colour @ LUMA
    tone = 0.02 * rings + 0.06 * inked * grain + 0.06 * pressed + 0.008 * fibre
    bare = smoothstep(0.35, 0.95, grain + 0.5 * fibre + 0.35 * rings)
    worn = 0.25 * bare * smoothstep(0.2, 0.6, inked)
    canvas.colour = blend(colour * (1 + tone[..., None]), INK["paper"], worn)
    canvas.height = 0.0001 * fibre + 0.0002 * grain
    return canvas.finish(relief=0.5, gloss=0.0)


STYLES: dict[str, Draw] = {
    "swirl": swirl,
    "pointillist": pointillist,
    "discs": discs,
    "autumn": autumn,
    "stained-glass": stained_glass,
    "waves": waves,
}
