"""The one place that draws: pictures and grids of pictures, written whole or not at all."""

import contextlib
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, PngImagePlugin
from scipy.ndimage import gaussian_filter

from helpers.errors import CannotError

DPI = 120
INK, GREY = "#1a1a1a", "#6b6b6b"
# Inches. A line of text is as high as its font size (in points, 72 to an inch) and a little air.
GAP, MARGIN = 0.12, 0.22
TITLE, SUBTITLE, HEADING, NOTE = 9.5, 8.0, 13.0, 8.5
LINE = 1.35 / 72


@dataclass
class Cell:
    """One picture of a grid: RGB (H, W, 3) uint8 or a PIL picture, or a map (H, W) drawn in `colors` from 0
    to its maximum.
    """

    image: Image.Image | np.ndarray | None
    title: str = ""
    subtitle: str = ""
    colors: str = "inferno"

    def pixels(self) -> np.ndarray:
        """The cell as RGB (H, W, 3)."""
        image = np.asarray(self.image)
        return colorize(image, self.colors) if image.ndim == 2 else image


def colorize(heat: np.ndarray, colors: str = "inferno") -> np.ndarray:
    """A map (H, W), not negative -> RGB uint8 (H, W, 3); its maximum gets the brightest colour, 0 the
    darkest.
    """
    from matplotlib import colormaps

    peak = float(heat.max(initial=0.0))
    return (colormaps[colors](heat / peak if peak > 0 else heat)[..., :3] * 255).round().astype(np.uint8)


def overlay(photo: np.ndarray, heat: np.ndarray, colors: str = "turbo", strength: float = 0.6) -> np.ndarray:
    """A map (H, W) in [0, 1] laid over a photo, uint8 (H, W, 3): where the map is 0 the photo shows through,
    greyed.
    """
    grey = photo.astype(np.float64) @ (0.299, 0.587, 0.114)
    base = 0.45 * photo + 0.45 * grey[..., None] + 20
    alpha = strength * np.sqrt(np.clip(heat, 0, 1))[..., None]
    return ((1 - alpha) * base + alpha * colorize(heat, colors)).round().clip(0, 255).astype(np.uint8)


def glow(photo: np.ndarray, heat: np.ndarray, sigma: float = 4.0) -> np.ndarray:
    """A speckled map (H, W) over its photo: blurred by `sigma` pixels, so that the eye sees regions."""
    smooth = gaussian_filter(heat.astype(np.float64), sigma)
    peak = smooth.max(initial=0.0)
    return overlay(photo, smooth / peak if peak > 0 else smooth)


def signed_picture(gradient: np.ndarray) -> np.ndarray:
    """A signed gradient (H, W, 3) -> uint8: zero is grey, the strongest half percent is full colour."""
    peak = max(float(np.percentile(np.abs(gradient), 99.5)), 1e-12)
    return ((gradient / peak / 2 + 0.5) * 255).round().clip(0, 255).astype(np.uint8)


def save_grid(
    path: str | os.PathLike,
    rows: Sequence[Sequence[Cell]],
    *,
    row_labels: Sequence[str] = (),
    heading: str = "",
    note: str = "",
    height: float = 2.3,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Draws rows of cells, each `height` inches high, and writes them as a PNG; returns the path.

    A column is as wide as its widest picture; nothing is stretched. Titles that are too long for their column
    are broken into lines, so nothing is cut off.
    """
    columns = max(len(row) for row in rows)
    aspect = [max((_aspect(row[c]) for row in rows if c < len(row)), default=1.0) for c in range(columns)]
    widths = [height * a for a in aspect]
    left = MARGIN + (0.3 if any(row_labels) else 0.0)
    total_width = left + sum(widths) + GAP * (columns - 1) + MARGIN
    texts = [[_wrapped(cell, width) for cell, width in zip(row, widths, strict=False)] for row in rows]
    tops = [max(_text_height(*text) for text in row) for row in texts]
    characters = max(20, int(total_width * 72 / (NOTE * 0.52)))
    notes = textwrap.wrap(note, characters)
    headings = textwrap.wrap(heading, max(12, int((total_width - left) * 72 / (HEADING * 0.62))))
    head = HEADING * LINE * (len(headings) + 0.3) if heading else 0.0
    foot = len(notes) * NOTE * LINE + (0.08 if notes else 0.0)
    total_height = MARGIN + head + sum(tops) + (height + GAP) * len(rows) - GAP + foot + MARGIN

    figure = Figure(figsize=(total_width, total_height), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)

    def write(x: float, y: float, text: str, size: float, color: str = INK, **options) -> None:
        figure.text(x / total_width, 1 - y / total_height, text, fontsize=size, color=color, **options)

    y = MARGIN
    if heading:
        write(left, y, "\n".join(headings), HEADING, weight="bold", va="top", linespacing=1.2)
    y += head
    for r, row in enumerate(rows):
        y += tops[r]
        x = left
        for cell, width, (title, subtitle) in zip(row, widths, texts[r], strict=False):
            if cell.image is not None:
                pixels = cell.pixels()
                shown = height * pixels.shape[1] / pixels.shape[0]
                box = (x + (width - shown) / 2, y, shown, height)
                _place(figure, pixels, box, (total_width, total_height))
            middle = x + width / 2
            base = y - 0.05 - len(subtitle) * SUBTITLE * LINE
            if title:
                write(middle, base, "\n".join(title), TITLE, ha="center", va="bottom", linespacing=1.15)
            if subtitle:
                write(
                    middle,
                    y - 0.05,
                    "\n".join(subtitle),
                    SUBTITLE,
                    GREY,
                    ha="center",
                    va="bottom",
                    linespacing=1.15,
                )
            x += width + GAP
        if r < len(row_labels) and row_labels[r]:
            label = "\n".join(textwrap.wrap(row_labels[r], max(8, int(height * 72 / (TITLE * 0.52)))))
            write(
                left - 0.08,
                y + height / 2,
                label,
                TITLE,
                rotation=90,
                ha="right",
                va="center",
                linespacing=1.1,
            )
        y += height + GAP
    if notes:
        write(left, y - GAP + 0.08, "\n".join(notes), NOTE, GREY, va="top", linespacing=1.25)
    canvas.draw()
    return save_image(path, Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()), metadata)


def save_image(
    path: str | os.PathLike, image: Image.Image, metadata: Mapping[str, str] | None = None
) -> Path:
    """Writes a picture in the format of the path's ending, whole or not at all; `metadata` goes into a PNG's
    text.
    """
    path = Path(path)
    options: dict = {}
    if metadata and path.suffix.lower() == ".png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        for key, value in metadata.items():
            options["pnginfo"].add_itxt(key, value)
    if path.suffix.lower() in (".jpg", ".jpeg"):
        options.update(quality=95, subsampling=0)
    with whole_file(path) as partial:
        image.save(partial, **options)
    return path


def tile(pictures: Sequence[Image.Image], columns: int, max_pixels: float) -> Image.Image:
    """Equally large pictures side by side, in rows of `columns`; made smaller where together they had more
    than `max_pixels`.
    """
    rows = -(-len(pictures) // columns)
    width, height = pictures[0].size
    shrink = min(1.0, (max_pixels / (rows * columns * width * height)) ** 0.5)
    width, height = max(1, int(width * shrink)), max(1, int(height * shrink))
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for i, picture in enumerate(pictures):
        place = (i % columns * width, i // columns * height)
        sheet.paste(picture.resize((width, height), Image.Resampling.LANCZOS), place)
    return sheet


def save_animation(
    path: str | os.PathLike,
    frames: Sequence[Image.Image],
    *,
    milliseconds: int = 80,
    hold: int = 2000,
) -> Path:
    """Writes equally large frames as a GIF that runs for ever, whole or not at all; returns the path.

    Each frame stays for `milliseconds`, the last for `hold`. All share one palette of 256 colours, so that
    nothing flickers.
    """
    # The last frame has the colours that matter, the first the greys that it all starts from.
    sample = Image.fromarray(np.concatenate([np.asarray(frames[0]), np.asarray(frames[-1])]))
    palette = sample.quantize(256, Image.Quantize.MEDIANCUT, kmeans=1)
    first, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [milliseconds] * len(others) + [hold]
    with whole_file(path) as partial:
        first.save(partial, save_all=True, append_images=others, duration=times, loop=0, optimize=True)
    return Path(path)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed to `path` at the end, removed after an exception."""
    path = Path(path)
    if path.suffix.lower() not in Image.registered_extensions():
        raise CannotError(f"{path}: its ending names no picture format; use .png, .jpg, .webp or .tif")
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise CannotError(f"{path} cannot be written: {error.strerror or error}") from error


def _aspect(cell: Cell) -> float:
    if cell.image is None:
        return 0.0
    height, width = np.asarray(cell.image).shape[:2]
    return width / height


def _wrapped(cell: Cell, width: float) -> tuple[list[str], list[str]]:
    def lines(text: str, size: float) -> list[str]:
        fits = max(6, int(width * 72 / (size * 0.53)))
        return [line for part in text.splitlines() for line in textwrap.wrap(part, fits)]

    return lines(cell.title, TITLE), lines(cell.subtitle, SUBTITLE)


def _text_height(title: list[str], subtitle: list[str]) -> float:
    height = (len(title) * TITLE + len(subtitle) * SUBTITLE) * LINE
    return height + 0.1 if height else 0.0


def _place(
    figure: Figure, pixels: np.ndarray, box: tuple[float, float, float, float], size: tuple[float, float]
) -> None:
    x, y, width, height = box
    total_width, total_height = size
    axes = figure.add_axes(
        (x / total_width, 1 - (y + height) / total_height, width / total_width, height / total_height)
    )
    axes.set_axis_off()
    # Enlarged maps keep smooth edges, reduced photos do not alias.
    axes.imshow(pixels, aspect="auto", interpolation="antialiased", interpolation_stage="rgba")
