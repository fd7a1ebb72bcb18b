"""The one place that draws: pictures and grids of pictures, written whole or not at all."""

import json
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, PngImagePlugin
from scipy.ndimage import gaussian_filter

from helpers.errors import CannotError
from helpers.files import replace_whole
from helpers.recipe import EXIF_TAG

DPI = 120
# How each format keeps the most: full colour resolution, or no loss at all.
JPEG, TIFF = {"quality": 95, "subsampling": "4:4:4"}, {"compression": "tiff_adobe_deflate"}
LITTLE_LOST: dict[str, dict] = {
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".tif": TIFF,
    ".tiff": TIFF,
    ".webp": {"lossless": True},
}
INK, GREY = "#1a1a1a", "#6b6b6b"
# Inches. A line of text is as high as its font size (in points, 72 to an inch) and a little air.
GAP, MARGIN = 0.12, 0.22
TITLE, SUBTITLE, HEADING, NOTE = 9.5, 8.0, 13.0, 8.5
LINE = 1.35 / 72
GIF_PIXELS = 10_000_000  # of all frames of an animation together: a GIF takes about a byte per pixel
LINE_COLORS = ("#c2410c", "#1d4ed8")  # apart for every kind of colour vision, dark enough for small text


@dataclass
class Cell:
    """One picture of a grid: RGB (H, W, 3) uint8 or a PIL picture, or a map (H, W) drawn in `colors` from 0
    to its maximum. Title and subtitle stand above it, the caption under it.
    """

    image: Image.Image | np.ndarray
    title: str = ""
    subtitle: str = ""
    colors: str = "inferno"
    caption: str = ""

    scale = 1.0  # height in row heights

    @property
    def aspect(self) -> float:
        """Width over height."""
        height, width = np.asarray(self.image).shape[:2]
        return width / height

    def pixels(self) -> np.ndarray:
        """The cell as RGB (H, W, 3)."""
        image = np.asarray(self.image)
        return colorize(image, self.colors) if image.ndim == 2 else image

    def draw(self, axes: Axes) -> None:
        """Fills axes that have the cell's aspect."""
        axes.set_axis_off()
        # Enlarged maps keep smooth edges, reduced photos do not alias.
        axes.imshow(self.pixels(), aspect="auto", interpolation="antialiased", interpolation_stage="rgba")


@dataclass
class Plot:
    """A cell with lines from 0 to 1 in both directions: x (K,), and y (K,) of each line by its label, which
    stands in the line's colour at the top of the plot.
    """

    x: np.ndarray
    lines: Mapping[str, np.ndarray]
    xlabel: str = ""
    title: str = ""
    subtitle: str = ""
    caption: str = ""

    aspect = scale = 1.0

    def draw(self, axes: Axes) -> None:
        """Fills axes of the cell's size, numbers and labels included."""
        width, height = axes.figure.get_size_inches()  # type: ignore[union-attr]  # never a part of a figure
        box = axes.get_position()
        left, bottom, top = 0.32, 0.36, (len(self.lines) + 0.3) * SUBTITLE * LINE
        axes.set_position(
            (
                box.x0 + left / width,
                box.y0 + bottom / height,
                box.width - (left + 0.08) / width,
                box.height - (bottom + top) / height,
            )
        )
        lines = enumerate(zip(self.lines.items(), LINE_COLORS, strict=False))
        for i, ((label, y), color) in lines:
            axes.plot(self.x, y, color=color, linewidth=1.8, clip_on=False, solid_capstyle="round")
            axes.fill_between(self.x, y, color=color, alpha=0.12, linewidth=0)
            axes.annotate(
                label,
                (0, 1),
                (0, (len(self.lines) - 1 - i) * SUBTITLE * LINE * 72 + 3),
                xycoords="axes fraction",
                textcoords="offset points",
                color=color,
                fontsize=SUBTITLE,
            )
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_xticklabels(("0", "0.5", "1"))
        axes.set_yticklabels(("0", "0.5", "1"))
        axes.tick_params(labelsize=SUBTITLE - 1, colors=GREY, length=2, pad=2)
        axes.set_xlabel(self.xlabel, fontsize=SUBTITLE, color=GREY, labelpad=1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)


@dataclass
class Mosaic:
    """A cell of small cells, `columns` in a row, each with its caption under it; as wide as a square cell."""

    cells: Sequence[Cell]
    columns: int = 2
    title: str = ""
    subtitle: str = ""
    caption: str = ""

    @property
    def aspect(self) -> float:
        """Width over height."""
        return 1 / self.scale

    @property
    def scale(self) -> float:
        """Height in row heights."""
        rows = -(-len(self.cells) // self.columns)
        return rows * self._step - (rows > 0) * 0.02

    @property
    def _side(self) -> float:
        return (1 - 0.015 * (self.columns - 1)) / self.columns

    @property
    def _step(self) -> float:
        return self._side + 0.1  # the caption's line, and a little air

    def draw(self, axes: Axes) -> None:
        """Fills axes that have the cell's aspect."""
        axes.set_axis_off()
        for i, cell in enumerate(self.cells):
            row, column = divmod(i, self.columns)
            top = 1 - row * self._step / self.scale
            side = self._side
            small = axes.inset_axes(
                (column * (side + 0.015), top - side / self.scale, side, side / self.scale)
            )
            cell.draw(small)
            small.annotate(
                cell.caption,
                (0.5, 0),
                (0, -2),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="center",
                va="top",
                color=GREY,
                fontsize=SUBTITLE,
            )


def colorize(heat: np.ndarray, colors: str = "inferno") -> np.ndarray:
    """A map (H, W), not negative -> RGB uint8 (H, W, 3); its maximum gets the brightest colour, 0 the
    darkest.
    """
    from matplotlib import colormaps

    peak = float(heat.max(initial=0.0))
    return (colormaps[colors](heat / peak if peak > 0 else heat)[..., :3] * 255).round().astype(np.uint8)


def overlay(photo: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A map (H, W) in [0, 1] laid over a photo, uint8 (H, W, 3): where the map is 0 the photo shows through,
    greyed.
    """
    grey = photo.astype(np.float64) @ (0.299, 0.587, 0.114)
    base = 0.45 * photo + 0.45 * grey[..., None] + 20
    alpha = 0.6 * (np.clip(heat, 0, 1) ** 0.75)[..., None]
    return ((1 - alpha) * base + alpha * colorize(heat, "turbo")).round().clip(0, 255).astype(np.uint8)


def clip_percentile(heat: np.ndarray) -> np.ndarray:
    """A map (H, W), not negative -> [0, 1], its brightest hundredth alike: a few pixels outshine all others by
    far, and the map would look black.
    """
    return np.clip(heat / max(float(np.percentile(heat, 99)), 1e-12), 0, 1)


def smoothed_overlay(photo: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A speckled map (H, W) over its photo: blurred by 4 pixels, so that the eye sees regions."""
    smooth = gaussian_filter(heat.astype(np.float64), 4.0)
    peak = smooth.max(initial=0.0)
    return overlay(photo, smooth / peak if peak > 0 else smooth)


def signed_picture(gradient: np.ndarray) -> np.ndarray:
    """A signed gradient (H, W, 3) -> uint8: zero is grey, the strongest half percent is full colour."""
    peak = max(float(np.percentile(np.abs(gradient), 99.5)), 1e-12)
    return ((gradient / peak / 2 + 0.5) * 255).round().clip(0, 255).astype(np.uint8)


def diverging(heat: np.ndarray) -> np.ndarray:
    """A signed map (H, W) -> RGB uint8 (H, W, 3): red above zero, blue below, zero white; the strongest percent
    alike.

    Contributions add up, so each pixel shows the sum over its neighbourhood (a blur of 2 pixels): left
    alone, red and blue specks side by side look violet, and neither sign can be seen.
    """
    from matplotlib import colormaps

    smooth = gaussian_filter(heat.astype(np.float64), 2.0)
    peak = max(float(np.percentile(np.abs(smooth), 99)), 1e-12)
    return (colormaps["RdBu_r"](smooth / peak / 2 + 0.5)[..., :3] * 255).round().astype(np.uint8)


Row = Sequence[Cell | Plot | Mosaic]


def save_grid(
    path: str | os.PathLike,
    rows: Sequence[Row],
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
    aspect = [max(row[c].aspect * row[c].scale for row in rows if c < len(row)) for c in range(columns)]
    widths = [height * a for a in aspect]
    left = MARGIN + (0.3 if any(row_labels) else 0.0)
    total_width = left + sum(widths) + GAP * (columns - 1) + MARGIN
    texts = [[_wrapped(cell, width) for cell, width in zip(row, widths, strict=False)] for row in rows]
    tops = [max(_text_height(*text) for text in row) for row in texts]
    captions = [
        [_lines(cell.caption, SUBTITLE, width) for cell, width in zip(row, widths, strict=False)]
        for row in rows
    ]
    bottoms = [max(_text_height([], caption) for caption in row) for row in captions]
    heights = [height * max(cell.scale for cell in row) for row in rows]
    characters = max(20, int((total_width - left - MARGIN) * 72 / (NOTE * 0.5)))
    notes = textwrap.wrap(note, characters)
    headings = textwrap.wrap(heading, max(12, int((total_width - left) * 72 / (HEADING * 0.62))))
    head = HEADING * LINE * (len(headings) + 0.3) if heading else 0.0
    foot = len(notes) * NOTE * LINE + (0.14 if notes else 0.0)
    total_height = (
        MARGIN + head + sum(tops) + sum(bottoms) + sum(heights) + GAP * (len(rows) - 1) + foot + MARGIN
    )

    figure = Figure(figsize=(total_width, total_height), dpi=DPI, facecolor="white")

    def write(x: float, y: float, text: str, size: float, color: str = INK, **options: Any) -> None:
        figure.text(x / total_width, 1 - y / total_height, text, fontsize=size, color=color, **options)

    def write_up(x: float, bottom: float, lines: Sequence[str], size: float, color: str) -> None:
        # Line by line on fixed baselines: a block's own box depends on whether its letters reach below the line.
        for i, line in enumerate(reversed(lines)):
            baseline = bottom - (i * LINE + 0.25 / 72) * size
            write(x, baseline, line, size, color, ha="center", va="baseline")

    y = MARGIN
    if heading:
        write(left, y, "\n".join(headings), HEADING, weight="bold", va="top", linespacing=1.2)
    y += head
    for r, row in enumerate(rows):
        y += tops[r]
        x = left
        for c, (cell, width, (title, subtitle)) in enumerate(zip(row, widths, texts[r], strict=False)):
            shown = heights[r] * cell.aspect
            place = (
                (x + (width - shown) / 2) / total_width,
                1 - (y + heights[r]) / total_height,
                shown / total_width,
                heights[r] / total_height,
            )
            cell.draw(figure.add_axes(place))
            middle = x + width / 2
            write_up(middle, y - 0.05, subtitle, SUBTITLE, GREY)
            write_up(middle, y - 0.05 - len(subtitle) * SUBTITLE * LINE, title, TITLE, INK)
            if captions[r][c]:
                write(
                    middle,
                    y + heights[r] + 0.05,
                    "\n".join(captions[r][c]),
                    SUBTITLE,
                    GREY,
                    ha="center",
                    va="top",
                    linespacing=1.15,
                )
            x += width + GAP
        if r < len(row_labels) and row_labels[r]:
            label = "\n".join(_lines(row_labels[r], TITLE, heights[r]))
            write(
                left - 0.08,
                y + heights[r] / 2,
                label,
                TITLE,
                rotation=90,
                ha="right",
                va="center",
                linespacing=1.1,
            )
        y += heights[r] + bottoms[r] + GAP
    if notes:
        write(left, y - GAP + 0.14, "\n".join(notes), NOTE, GREY, va="top", linespacing=1.25)
    return save_figure(path, figure, metadata)


def save_figure(path: str | os.PathLike, figure: Figure, metadata: Mapping[str, str] | None = None) -> Path:
    """Draws a figure and writes it as `save_image` does; returns the path."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return save_image(path, Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()), metadata)


def save_image(
    path: str | os.PathLike, image: Image.Image, metadata: Mapping[str, str] | None = None
) -> Path:
    """Writes a picture in the format of the path's ending, with as little loss as it allows, whole or not at
    all; `metadata` goes into it where `recipe.read_recipe` looks.
    """
    path = _picture_path(path)
    options = dict(LITTLE_LOST.get(path.suffix.lower(), {}))
    if metadata and path.suffix.lower() == ".png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        for key, value in metadata.items():
            options["pnginfo"].add_itxt(key, value)
    elif metadata:
        options["exif"] = Image.Exif()
        options["exif"][EXIF_TAG] = json.dumps(dict(metadata))
    with replace_whole(path) as temporary:
        image.save(temporary, **options)
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
    path: str | os.PathLike, frames: Sequence[Image.Image], dither: Image.Dither = Image.Dither.NONE
) -> Path:
    """Writes equally large frames as a GIF that runs for ever, whole or not at all; returns the path.

    Each frame stays for 80 milliseconds, the last for two seconds. All share one palette of 256 colours, so
    that nothing flickers. dither: with FLOYDSTEINBERG, colours in between are mixed from specks.
    """
    # The last frame has the colours that matter, the first the greys that it all starts from.
    sample = Image.fromarray(np.concatenate([np.asarray(frames[0]), np.asarray(frames[-1])]))
    palette = sample.quantize(256, Image.Quantize.MEDIANCUT, kmeans=1)
    first, *others = [frame.quantize(palette=palette, dither=dither) for frame in frames]
    times = [80] * len(others) + [2000]
    with replace_whole(_picture_path(path)) as temporary:
        first.save(temporary, save_all=True, append_images=others, duration=times, loop=0, optimize=True)
    return Path(path)


def _picture_path(path: str | os.PathLike) -> Path:
    path = Path(path)
    if path.suffix.lower() not in Image.registered_extensions():
        raise CannotError(f"{path}: its ending names no picture format; use .png, .jpg, .webp or .tif")
    return path


def _lines(text: str, size: float, width: float) -> list[str]:
    fits = max(8, int(width * 72 / (size * 0.53)))
    return [line for part in text.splitlines() for line in textwrap.wrap(part, fits, break_on_hyphens=False)]


def _wrapped(cell: Cell | Plot | Mosaic, width: float) -> tuple[list[str], list[str]]:
    return _lines(cell.title, TITLE, width), _lines(cell.subtitle, SUBTITLE, width)


def _text_height(title: list[str], subtitle: list[str]) -> float:
    height = (len(title) * TITLE + len(subtitle) * SUBTITLE) * LINE
    return height + 0.1 if height else 0.0
