"""Palettes, noise, flow fields, brush strokes with relief, and the light on them.

Lengths are fractions of the picture's side, and random numbers belong to strokes, cells or noise lattices, never to
pixels. So a picture of 1024 pixels is the same picture as one of 256, only sharper.

Colours are float arrays `(..., 3)` in [0, 1]; x runs right and y runs down, both 0 to 1 over the picture.

Strokes in layers, from coarse to fine, that follow a field and stop where the colour changes: Hertzmann, "Painterly
Rendering with Curved Brush Strokes of Multiple Sizes" (SIGGRAPH 1998). The noise: Perlin, "Improving Noise" (SIGGRAPH
2002).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree

Array = np.ndarray
Scalar = Callable[[Array, Array], Array]  # (x, y) -> one number per point: an angle, a noise
Colouring = Callable[[Array, Array], Array]  # (x, y) -> colours (..., 3)

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Larger pictures are not supersampled: fine relief is invisible in them, and the canvas would not fit in memory.
MAX_SUPERSAMPLED = 1536
MAX_SAMPLES = 1_500_000
UNDERPAINTING = 160


# ---------------------------------------------------------------------------------------------- colour


def palette(codes: str) -> Array:
    """The colours `(K, 3)` of space-separated six-digit hexadecimal `codes`."""
    return np.array([tuple(bytes.fromhex(code)) for code in codes.split()], np.float32) / 255


def ramp(t: Array, colours: Array) -> Array:
    """Colours `(..., 3)` at positions `t` in [0, 1] along `colours` `(K, 3)`, evenly spaced; t is clipped."""
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(t, stops, colours[:, c]) for c in range(3)], -1).astype(np.float32)


def blend(under: Array, over: Array, amount: Array | float) -> Array:
    """`over` on top of `under` `(..., 3)`, with opacity `amount` `(...)`."""
    return under + (over - under) * np.asarray(amount, np.float32)[..., None]


def smoothstep(low: float, high: float, value: Array) -> Array:
    """0 below `low`, 1 above `high`, and smooth in between; `low > high` reverses it."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def vary(
    colours: Array, rng: np.random.Generator, hue: float = 0.0, chroma: float = 0.0, light: float = 0.0
) -> Array:
    """`colours` `(..., 3)` with normal deviations: `hue` in radians, `chroma` as a ratio, `light` added."""
    shape = colours.shape[:-1]
    turn, strength, lift = (rng.standard_normal(shape).astype(np.float32) for _ in range(3))
    return shift(colours, hue * turn, 1 + chroma * strength, light * lift)


def shift(
    colours: Array, turn: Array | float, strength: Array | float = 1.0, lift: Array | float = 0.0
) -> Array:
    """`colours` `(..., 3)` turned by an angle about the grey axis, chroma times `strength`, plus `lift`."""
    turn, strength, lift = (np.asarray(value, np.float32)[..., None] for value in (turn, strength, lift))
    grey = colours.mean(-1, keepdims=True)
    part = colours - grey
    # Rodrigues' rotation about (1, 1, 1): the cross product with the axis is a difference of neighbours.
    cross = (np.roll(part, 1, -1) - np.roll(part, -1, -1)) / np.sqrt(3.0)
    turned = part * np.cos(turn) + cross * np.sin(turn)
    return np.clip(grey + strength * turned + lift, 0, 1).astype(np.float32)


# ---------------------------------------------------------------------------------- noise and flow fields


class Noise:
    """Perlin's gradient noise summed over octaves; calling it with x, y returns values in about [-1, 1]."""

    LATTICE = 64

    def __init__(
        self,
        rng: np.random.Generator,
        frequency: float | tuple[float, float],
        octaves: int = 3,
        gain: float = 0.5,
    ) -> None:
        self.frequency = np.broadcast_to(np.asarray(frequency, np.float32), 2)
        self.gain = gain
        angle = rng.uniform(0, 2 * np.pi, (octaves, self.LATTICE, self.LATTICE))
        # One more row and column, so that the neighbours of a corner need not be wrapped.
        angle = np.pad(angle, ((0, 0), (0, 1), (0, 1)), mode="wrap").reshape(octaves, -1)
        self.gradient = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
        self.offset = rng.uniform(0, self.LATTICE, (octaves, 2)).astype(np.float32)

    def __call__(self, x: Array, y: Array | float) -> Array:
        x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
        total = np.zeros(np.broadcast(x, y).shape, np.float32)
        for octave, gradient in enumerate(self.gradient):
            u = x * self.frequency[0] * 2**octave + self.offset[octave, 0]
            v = y * self.frequency[1] * 2**octave + self.offset[octave, 1]
            total += self.gain**octave * self._octave(u, v, gradient)
        return total * 1.5

    def _octave(self, u: Array, v: Array, gradient: Array) -> Array:
        left, top = np.floor(u), np.floor(v)
        u, v = u - left, v - top
        i, j = left.astype(np.int32) % self.LATTICE, top.astype(np.int32) % self.LATTICE
        cell = j * (self.LATTICE + 1) + i
        fade_u, fade_v = (w * w * w * (w * (w * 6 - 15) + 10) for w in (u, v))

        def corner(di: int, dj: int) -> Array:
            at = cell + (di + dj * (self.LATTICE + 1))
            return gradient[0].take(at) * (u - di) + gradient[1].take(at) * (v - dj)

        upper, lower = corner(0, 0), corner(0, 1)
        upper += fade_u * (corner(1, 0) - upper)
        lower += fade_u * (corner(1, 1) - lower)
        return upper + fade_v * (lower - upper)


def along(stream: Scalar, step: float = 1e-3) -> Scalar:
    """The angle field that follows the contours of a stream function, so that strokes never cross one."""

    def angle(x: Array, y: Array) -> Array:
        here = stream(x, y)
        return np.arctan2(here - stream(x + step, y), stream(x, y + step) - here)

    return angle


def scatter(rng: np.random.Generator, spacing: float, margin: float = 0.04) -> tuple[Array, Array]:
    """One point in each square of a grid of side `spacing`, in random order: evenly spread, without a pattern."""
    count = int(np.ceil((1 + 2 * margin) / spacing))
    jitter = rng.uniform(0, 1, (2, count * count))
    cells = rng.permutation(count * count)
    places = (np.stack([cells % count, cells // count]) + jitter) / count
    x, y = ((1 + 2 * margin) * places - margin).astype(np.float32)
    return x, y


def relax(rng: np.random.Generator, points: Array, count: int, rounds: int = 8) -> Array:
    """`count` sites among `points` `(P, D)`, spread evenly by Lloyd's relaxation (1982)."""
    sites = points[rng.choice(len(points), count, replace=False)]
    for _ in range(rounds):
        nearest = cKDTree(sites).query(points)[1]
        share = np.maximum(np.bincount(nearest, minlength=count), 1)
        sites = np.stack([np.bincount(nearest, axis, count) / share for axis in points.T], 1)
    return sites


# ------------------------------------------------------------------------------------- canvas and strokes


@dataclass(frozen=True)
class Brush:
    """One tool. Lengths are fractions of the picture's side; the rest are ratios."""

    length: float
    width: float
    coverage: float = 1.6  # how many strokes lie over a point on average
    bluntness: float = 4.0  # 2 paints ellipses, 4 round-ended strokes, 12 the squares of a knife
    streak: float = 0.10  # how much bristles differ in lightness
    dryness: float = 0.25  # share of bristles that have run out of paint at the end of the stroke
    body: float = 0.10  # thickness of the paint, as a ratio of the width
    ridge: float = 0.5  # paint pushed to the edges of the stroke, as a ratio of the body
    hue: float = 0.12  # how far strokes differ in hue (radians), chroma (ratio) and lightness
    chroma: float = 0.15
    light: float = 0.05
    tolerance: float = 0.22  # a stroke stops where the colour beneath has changed by this much
    nodes: int = 10  # points of the path at which the field is evaluated; a dab needs few


class Canvas:
    """Paint and its thickness on a square of `side` pixels, which `finish` lights and reduces to `size`."""

    BRISTLES = 9

    def __init__(self, size: int) -> None:
        self.size = size
        self.scale = 2 if size <= MAX_SUPERSAMPLED else 1
        self.side = size * self.scale
        self.colour = np.zeros((self.side, self.side, 3), np.float32)
        self.height: Array = np.zeros((self.side, self.side), np.float32)

    def underpaint(self, colour: Colouring, shade: float = 0.8) -> None:
        """Fills the canvas with `colour` times `shade`: what shows in the gaps between strokes."""
        x, y = _centres(UNDERPAINTING)
        nearest = np.arange(self.side) * UNDERPAINTING // self.side
        self.colour[:] = shade * colour(x, y)[nearest[:, None], nearest[None, :]]

    def at(self, x: Array, y: Array) -> Array:
        """The colours `(..., 3)` now at points `x`, `y`; outside the picture, those of its edge."""
        column, line = (np.clip((w * self.side).astype(int), 0, self.side - 1) for w in (x, y))
        return self.colour[line, column]

    def grid(self) -> tuple[Array, Array]:
        """x and y `(side, side)` of the pixel centres."""
        return _centres(self.side)

    def cover(
        self,
        rng: np.random.Generator,
        brush: Brush,
        colour: Colouring,
        angle: Scalar,
        where: Scalar | None = None,
    ) -> None:
        """Covers the picture with strokes of `brush`; `where` is the share of them that is kept at a point."""
        x, y = scatter(rng, np.sqrt(brush.length * brush.width / brush.coverage))
        draw = rng.uniform(0, 1, len(x))
        if where is not None:
            kept = where(x, y) > draw
            x, y = x[kept], y[kept]
        self.strokes(rng, brush, x, y, colour, angle)

    def strokes(
        self, rng: np.random.Generator, brush: Brush, x: Array, y: Array, colour: Colouring, angle: Scalar
    ) -> None:
        """One stroke of `brush` through each of the points `x`, `y` `(S,)`, the later over the earlier."""
        length = brush.length * rng.uniform(0.7, 1.3, len(x)).astype(np.float32)
        width = brush.width * rng.uniform(0.7, 1.3, len(x)).astype(np.float32)
        bristles = rng.uniform(-1, 1, (len(x), self.BRISTLES)).astype(np.float32)
        base = colour(x, y)
        paint = vary(base, rng, brush.hue, brush.chroma, brush.light)
        nodes = _trace(x, y, angle, length, brush.nodes)
        changed = np.abs(colour(*nodes) - base[:, None]).max(-1) > brush.tolerance
        extent = _unchanged_extent(changed)

        # 1.5 samples per pixel for the longest and widest stroke: no pixel in it is missed.
        samples = (max(3, int(np.ceil(1.5 * 1.3 * w * self.side)) + 1) for w in (brush.length, brush.width))
        t, u = np.linspace(0, 1, next(samples)), np.linspace(-1, 1, next(samples))
        t, u = t.astype(np.float32), u.astype(np.float32)
        chunk = max(1, MAX_SAMPLES // (len(t) * len(u)))
        for start in range(0, len(x), chunk):
            part = slice(start, start + chunk)
            self._splat(brush, t, u, nodes[:, part], extent[part], width[part], bristles[part], paint[part])

    def _splat(
        self,
        brush: Brush,
        t: Array,
        u: Array,
        nodes: Array,
        extent: Array,
        width: Array,
        bristles: Array,
        paint: Array,
    ) -> None:
        """Paints strokes sampled at `t` in [0, 1] along and `u` in [-1, 1] across their paths."""
        begin, end = extent.T
        at = (begin[:, None] + (end - begin)[:, None] * t) * (brush.nodes - 1)
        node = np.minimum(at.astype(np.int32), brush.nodes - 2)
        rest = at - node
        row = np.arange(len(width))[:, None]
        centre = [p[row, node] + rest * (p[row, node + 1] - p[row, node]) for p in nodes]
        tangent = [np.gradient(p, axis=1) for p in nodes]
        tangent = [d[row, node] + rest * (d[row, node + 1] - d[row, node]) for d in tangent]
        norm = np.hypot(*tangent) + 1e-9
        half = 0.5 * width[:, None] * np.sqrt(np.clip(1 - np.abs(2 * t - 1) ** brush.bluntness, 0, 1))
        x = centre[0][..., None] - (tangent[1] / norm * half)[..., None] * u
        y = centre[1][..., None] + (tangent[0] / norm * half)[..., None] * u

        place = (u + 1) / 2 * (self.BRISTLES - 1)
        left = np.minimum(place.astype(np.int32), self.BRISTLES - 2)
        bristle = bristles[:, left] + (place - left) * (bristles[:, left + 1] - bristles[:, left])
        column, line = np.floor(x * self.side).astype(np.int32), np.floor(y * self.side).astype(np.int32)
        wet = bristle[:, None, :] > (2 * brush.dryness * smoothstep(0.3, 1, t) - 1)[None, :, None]
        inside = wet & (column >= 0) & (column < self.side) & (line >= 0) & (line < self.side)
        owner, _, across = np.nonzero(inside)
        pixel = line[inside] * self.side + column[inside]

        tone = brush.streak * bristle[owner, across]
        profile = (1 - u * u) + brush.ridge * np.abs(u) ** 3
        thickness = brush.body * width[owner] * (profile[across] + 0.35 * bristle[owner, across])
        # NumPy assigns repeated indices in order, so the last stroke is on top.
        self.colour.reshape(-1, 3)[pixel] = paint[owner] * (1 + tone[:, None])
        flat = self.height.reshape(-1)
        flat[pixel] = thickness + 0.3 * flat[pixel]

    def finish(self, relief: float = 1.0, gloss: float = 0.25, weave: float = 0.0) -> Image.Image:
        """The picture in light from the upper left, `size` by `size`; `relief` and `gloss` are its strength."""
        height = self.height
        if weave:
            x, y = self.grid()
            threads = np.float32(2 * np.pi * 150)
            height = height + weave * (np.sin(threads * x) * np.sin(threads * y))
        lit = light(self.colour, height, relief, gloss)
        return to_image(lit, self.size)


def _centres(side: int) -> tuple[Array, Array]:
    x, y = np.meshgrid(*2 * [(np.arange(side, dtype=np.float32) + 0.5) / side])
    return x, y


def _trace(x: Array, y: Array, angle: Scalar, length: Array, count: int) -> Array:
    """Nodes `(2, S, count)` of the paths along `angle` of `length` `(S,)` with middles `x`, `y` `(S,)`."""
    middle = count // 2
    nodes = np.empty((2, len(x), count), np.float32)
    step = length / (count - 1)
    for sign, indices in ((1, range(middle, count)), (-1, range(middle, -1, -1))):
        px, py = x, y
        for index in indices:
            nodes[0, :, index], nodes[1, :, index] = px, py
            heading = angle(px, py)
            px, py = px + sign * step * np.cos(heading), py + sign * step * np.sin(heading)
    return nodes


def _unchanged_extent(changed: Array) -> Array:
    """Begin and end `(S, 2)`, as shares of the path, of the nodes about the middle not `changed` `(S, N)`."""
    count = changed.shape[1]
    middle = count // 2
    forward = np.cumsum(changed[:, middle:], 1) == 0
    backward = np.cumsum(changed[:, middle::-1], 1) == 0
    end = middle + np.maximum(forward.sum(1) - 1, 0.6)
    begin = middle - np.maximum(backward.sum(1) - 1, 0.6)
    return (np.stack([begin, end], 1) / (count - 1)).astype(np.float32)


def light(colour: Array, height: Array, relief: float = 1.0, gloss: float = 0.25) -> Array:
    """`colour` `(H, W, 3)` under a lamp at the upper left; `height` `(H, W)` is in picture sides."""
    side = height.shape[0]
    height = ndimage.gaussian_filter(height, max(0.7, 0.0007 * side))
    down, right = np.gradient(height, np.float32(1 / side))
    slope = relief * (down + right) * np.float32(np.sqrt(0.5))
    facing = slope / np.sqrt(1 + slope * slope)
    lit = colour * (1 + 0.55 * facing)[..., None]
    return lit + gloss * (np.clip(facing, 0, 1) ** 3)[..., None] * (0.4 + 0.6 * colour)


def to_image(colour: Array, size: int) -> Image.Image:
    """The RGB picture of `colour` `(H, H, 3)`, averaged down where H is a multiple of `size`."""
    scale = colour.shape[0] // size
    if scale > 1:
        colour = colour.reshape(size, scale, size, scale, 3).mean((1, 3))
    return Image.fromarray((np.clip(colour, 0, 1) * 255 + 0.5).astype(np.uint8))


class Block:
    """A sheet for flat shapes with sharp edges, in picture coordinates; `colour` returns what was drawn."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.image = Image.new("RGB", (side, side))
        self.pen = ImageDraw.Draw(self.image)

    def shape(self, points: Array, ink: Array) -> None:
        """The polygon of `points` `(N, 2)`."""
        self.pen.polygon(self._path(points), _eight_bit(ink))

    def line(self, points: Array, ink: Array, width: float) -> None:
        """The open line through `points` `(N, 2)`."""
        self.pen.line(self._path(points), _eight_bit(ink), max(1, round(width * self.side)), joint="curve")

    def box(self, left: float, top: float, right: float, bottom: float, ink: Array) -> None:
        """A filled rectangle with level sides."""
        self.shape(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]), ink)

    def disc(self, x: float, y: float, radius: float, ink: Array) -> None:
        """A filled circle."""
        box = np.array([x - radius, y - radius, x + radius, y + radius]) * self.side
        self.pen.ellipse(box.tolist(), _eight_bit(ink))

    def colour(self) -> Array:
        """The sheet as colours `(side, side, 3)`."""
        return np.asarray(self.image, np.float32) / 255

    def _path(self, points: Array) -> list[tuple[float, float]]:
        return [(x, y) for x, y in (np.asarray(points) * self.side).tolist()]


def _eight_bit(ink: Array) -> tuple[int, ...]:
    return tuple(round(255 * float(channel)) for channel in ink)
