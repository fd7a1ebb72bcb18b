"""The one place that draws: pictures and grids of pictures, written whole or not at all.

Grids are set by Pillow; matplotlib, which takes as long to import as an explanation to compute, draws curves only.
"""

import functools
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from helpers.errors import CannotError
from helpers.files import replace_whole
from helpers.fonts import dejavu, drawable, font_file, import_matplotlib
from helpers.recipe import EXIF_TAG

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
# How each format keeps the most: full colour resolution, or no loss at all.
LOW_LOSS: dict[str, dict] = {
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "PNG": {"compress_level": 3},  # half the time of the default 6, files 4 % larger
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "WEBP": {"lossless": True},
}
INK, GREY = "#1a1a1a", "#6b6b6b"
HEADING, TITLE, NOTE, SUBTITLE = 13.0, 9.5, 8.5, 8.0  # font sizes in points, 72 to an inch
LEADING = 1.35  # a line's height in font sizes
GAP, MARGIN, AIR = 14, 26, 6  # pixels: between cells, around the page, between a picture and its text
MAX_ASPECT = 8  # of a cell: its longer side over its shorter one
MAX_SIDES = {"JPEG": 65500, "WEBP": 16383}  # pixels that a format can hold
GIF_PIXELS = 10_000_000  # of all frames of an animation together: a GIF takes about a byte per pixel
LINE_COLORS = ("#c2410c", "#1d4ed8")  # apart for every kind of colour vision, dark enough for small text


@dataclass
class Cell:
    """One picture of a grid: RGB (H, W, 3) uint8 or a PIL picture, or a map (H, W) drawn in colours from 0 to its
    maximum. Title and subtitle stand above it, the caption under it.
    """

    image: Image.Image | np.ndarray
    title: str = ""
    subtitle: str = ""
    caption: str = ""

    scale = 1.0  # height in row heights

    @property
    def aspect(self) -> float:
        """Width over height of the cell: a picture that is extremely long or high has white beside it."""
        height, width = np.asarray(self.image).shape[:2]
        return min(max(width / height, 1 / MAX_ASPECT), MAX_ASPECT)

    def drawn(self, width: int, height: int) -> Image.Image:
        """The cell as a picture of this size."""
        image = np.asarray(self.image)
        picture = Image.fromarray(colorize(image) if image.ndim == 2 else image).convert("RGB")
        size = (width, height)
        if not 1 / MAX_ASPECT <= picture.width / picture.height <= MAX_ASPECT:
            scale = min(width / picture.width, height / picture.height)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        enlarged = size[0] > picture.width
        picture = picture.resize(size, Image.Resampling.BICUBIC if enlarged else Image.Resampling.LANCZOS)
        if size == (width, height):
            return picture
        page = Image.new("RGB", (width, height), "white")
        page.paste(picture, ((width - size[0]) // 2, (height - size[1]) // 2))
        return page


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

    def drawn(self, width: int, height: int) -> Image.Image:
        """The plot as a picture of this size, numbers and labels included."""
        import_matplotlib()
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        line = LEADING * SUBTITLE / 72 * DPI / height
        axes = figure.add_axes((0.14, 0.16, 0.82, 0.82 - (len(self.lines) + 0.3) * line))
        for i, ((label, y), color) in enumerate(zip(self.lines.items(), LINE_COLORS, strict=False)):
            axes.plot(self.x, y, color=color, linewidth=1.8, clip_on=False, solid_capstyle="round")
            axes.fill_between(self.x, y, color=color, alpha=0.12, linewidth=0)
            top = 1 - (i + 1) * line
            figure.text(0.14, top, label, color=color, fontsize=SUBTITLE, va="bottom")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
        axes.set_yticks((0, 0.5, 1), ("0", "0.5", "1"))
        axes.tick_params(labelsize=SUBTITLE - 1, colors=GREY, length=2, pad=2)
        axes.set_xlabel(self.xlabel, fontsize=SUBTITLE, color=GREY, labelpad=1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        return rendered(figure)


@dataclass
class Bars:
    """A cell with one bar per class, the first at the top: names and values from 0 to 1, a full bar being 1."""

    values: Sequence[tuple[str, float]]
    title: str = ""
    subtitle: str = ""
    caption: str = ""

    aspect = scale = 1.0

    def drawn(self, width: int, height: int) -> Image.Image:
        """The bars as a picture of this size; each has its name and its value above it."""
        page = Image.new("RGB", (width, height), "white")
        draw = ImageDraw.Draw(page)
        line = text_height(["x"], SUBTITLE)
        step = height // max(len(self.values), 1)
        for i, (name, value) in enumerate(self.values):
            y, number = i * step, f"{value:.2f}"
            room = width - width_of(number, SUBTITLE) - AIR
            shown = [*wrapped(name, SUBTITLE, room), ""][0]
            write(page, (0, y), [shown], SUBTITLE, INK, "la")
            write(page, (width - 1, y), [number], SUBTITLE, GREY, "ra")
            bar = (0, y + line, width - 1, y + line + max(4, min(12, step - line - 4)))
            draw.rectangle(bar, "#ececec")
            if value * width >= 1:
                draw.rectangle((0, bar[1], round(value * width) - 1, bar[3]), LINE_COLORS[1])
        return page


@dataclass
class Mosaic:
    """A cell of small cells, two in a row, each with its caption under it; as wide as a square cell."""

    cells: Sequence[Cell]
    title: str = ""
    subtitle: str = ""
    caption: str = ""

    @property
    def aspect(self) -> float:
        """Width over height."""
        return 1 / self.scale

    @property
    def scale(self) -> float:
        """Height in row heights: a tenth of one for each caption."""
        return -(-len(self.cells) // 2) * (1 / 2 + 0.1)

    def drawn(self, width: int, height: int) -> Image.Image:
        """All cells as one picture of this size."""
        page = Image.new("RGB", (width, height), "white")
        step, down = width // 2, height // -(-len(self.cells) // 2)
        side = step - 3
        for i, cell in enumerate(self.cells):
            left, top = i % 2 * step, i // 2 * down
            page.paste(cell.drawn(side, side), (left, top))
            write(page, (left + side // 2, top + side + 3), [cell.caption], SUBTITLE, GREY, "ma")
        return page


def colorize(heat: np.ndarray, colors: str = "inferno") -> np.ndarray:
    """A map (H, W), not negative -> RGB uint8 (H, W, 3); its maximum gets the brightest colour, 0 the
    darkest.
    """
    import_matplotlib()
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
    """A map (H, W), not negative -> [0, 1]; the brightest one percent becomes 1. A few pixels are far brighter than
    all others, and without this the map would look black.
    """
    return np.clip(heat / max(float(np.percentile(heat, 99)), 1e-12), 0, 1)


def gaussian_blur(heat: np.ndarray, sigma: float) -> np.ndarray:
    """A map (H, W) after a Gaussian blur of `sigma` pixels, mirrored at its edges. (SciPy's equals it, and takes as
    long to import as a whole figure to draw.)
    """
    radius = round(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    smooth = np.pad(heat.astype(np.float64), radius, mode="symmetric")
    for axis in (0, 1):
        smooth = np.apply_along_axis(np.convolve, axis, smooth, kernel / kernel.sum(), "valid")
    return smooth


def smoothed_overlay(photo: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A speckled map (H, W) over its photo: blurred by 4 pixels, so that the eye sees regions."""
    smooth = gaussian_blur(heat, 4.0)
    peak = smooth.max(initial=0.0)
    return overlay(photo, smooth / peak if peak > 0 else smooth)


def signed_picture(gradient: np.ndarray) -> np.ndarray:
    """A signed gradient (H, W, 3) -> uint8: zero is grey, the strongest half percent is full colour."""
    peak = max(float(np.percentile(np.abs(gradient), 99.5)), 1e-12)
    return ((gradient / peak / 2 + 0.5) * 255).round().clip(0, 255).astype(np.uint8)


def diverging(heat: np.ndarray) -> np.ndarray:
    """A signed map (H, W) -> RGB uint8 (H, W, 3): red above zero, blue below, zero white; the strongest one percent
    is drawn alike.

    Contributions add up, so each pixel shows the sum over its neighbourhood (a blur of 2 pixels). Without the blur,
    red and blue specks side by side look violet, and neither sign can be seen.
    """
    import_matplotlib()
    from matplotlib import colormaps

    smooth = gaussian_blur(heat, 2.0)
    peak = max(float(np.percentile(np.abs(smooth), 99)), 1e-12)
    return (colormaps["RdBu_r"](smooth / peak / 2 + 0.5)[..., :3] * 255).round().astype(np.uint8)


Row = Sequence[Cell | Plot | Bars | Mosaic]


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
    """Writes what `draw_grid` draws, whole or not at all; returns the path."""
    page = draw_grid(rows, row_labels=row_labels, heading=heading, note=note, height=height)
    return save_image(path, page, metadata)


def draw_grid(
    rows: Sequence[Row],
    *,
    row_labels: Sequence[str] = (),
    heading: str = "",
    note: str = "",
    height: float = 2.3,
) -> Image.Image:
    """Rows of cells, each `height` inches high, as one picture; a notebook shows it as it is.

    A column is as wide as its widest picture; nothing is stretched. Text that is too long is broken into lines, so
    nothing is cut off.
    """
    unit = round(height * DPI)
    columns = max(len(row) for row in rows)
    widths = [
        round(unit * max(row[c].aspect * row[c].scale for row in rows if c < len(row)))
        for c in range(columns)
    ]
    heights = [round(unit * max(cell.scale for cell in row)) for row in rows]
    labels = [wrapped(label, TITLE, h) for label, h in zip(row_labels, heights, strict=False)]
    left = MARGIN + max([text_height(lines, TITLE) + AIR for lines in labels if lines], default=0)
    across = sum(widths) + GAP * (columns - 1)
    headings, notes = wrapped(heading, HEADING, across, bold=True), wrapped(note, NOTE, across)

    # The lines of each cell's title and subtitle, which stand above it, and of its caption, which stands below it.
    texts = [
        [
            (wrapped(c.title, TITLE, w), wrapped(c.subtitle, SUBTITLE, w), wrapped(c.caption, SUBTITLE, w))
            for c, w in zip(row, widths, strict=False)
        ]
        for row in rows
    ]
    tops, bottoms = [], []
    for row in texts:
        above = max(text_height(title, TITLE) + text_height(sub, SUBTITLE) for title, sub, _ in row)
        below = max(text_height(caption, SUBTITLE) for *_, caption in row)
        tops.append(above + AIR if above else 0)
        bottoms.append(below + AIR if below else 0)
    head = text_height(headings, HEADING) + (GAP if headings else 0)
    foot = text_height(notes, NOTE) + (GAP if notes else 0)
    total = sum(tops) + sum(heights) + sum(bottoms) + GAP * (len(rows) - 1)
    page = Image.new("RGB", (left + across + MARGIN, MARGIN + head + total + foot + MARGIN), "white")

    write(page, (left, MARGIN), headings, HEADING, INK, "la", bold=True)
    y = MARGIN + head
    for r, row in enumerate(rows):
        x, y = left, y + tops[r]
        for cell, width, (title, subtitle, caption) in zip(row, widths, texts[r], strict=False):
            shown = min(width, round(heights[r] * cell.aspect))
            page.paste(cell.drawn(shown, heights[r]), (x + (width - shown) // 2, y))
            middle = x + width // 2
            over = y - AIR - text_height(subtitle, SUBTITLE)
            write(page, (middle, over), subtitle, SUBTITLE, GREY, "ma")
            write(page, (middle, over - text_height(title, TITLE)), title, TITLE, INK, "ma")
            write(page, (middle, y + heights[r] + AIR), caption, SUBTITLE, GREY, "ma")
            x += width + GAP
        if r < len(labels) and labels[r]:
            label = Image.new("RGB", (heights[r], text_height(labels[r], TITLE)), "white")
            write(label, (heights[r] // 2, 0), labels[r], TITLE, INK, "ma")
            page.paste(label.rotate(90, expand=True), (left - AIR - label.height, y))
        y += heights[r] + bottoms[r] + GAP
    write(page, (left, y), notes, NOTE, GREY, "la")
    return page


@functools.cache
def font(size: float, bold: bool = False, file: Path | None = None) -> ImageFont.FreeTypeFont:
    """A font in points: DejaVu Sans, or another file."""
    file = file or dejavu("DejaVuSans-Bold" if bold else "DejaVuSans")
    return ImageFont.truetype(file, size * DPI / 72)


def parts_of(line: str, size: float, bold: bool = False) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """A `drawable` line in parts of one font each."""
    parts = []
    for file, letters in itertools.groupby(line, font_file):
        parts.append(("".join(letters), font(size, bold, None if file == dejavu() else file)))
    return parts


def width_of(line: str, size: float, bold: bool = False) -> float:
    """The width of a `drawable` line in pixels."""
    return sum(letters.getlength(text) for text, letters in parts_of(line, size, bold))


def wrapped(text: str, size: float, width: float, bold: bool = False) -> list[str]:
    """The text, `drawable`, in lines of at most `width` pixels; a word that is too long by itself is broken."""

    def fits(line: str) -> float:
        return width_of(line, size, bold)

    lines = []
    for part in drawable(text).splitlines():
        line = ""
        for word in part.split():
            if fits(f"{line} {word}") > width and line:
                lines.append(line)
                line = ""
            line = f"{line} {word}".strip()
            while fits(line) > width and len(line) > 1:
                end = next(k for k in range(len(line) - 1, 0, -1) if k == 1 or fits(line[:k]) <= width)
                lines.append(line[:end])
                line = line[end:]
        lines.append(line)
    return lines


def text_height(lines: Sequence[str], size: float) -> int:
    """Of lines one below the other, in pixels."""
    return round(len(lines) * size * LEADING * DPI / 72)


def write(
    page: Image.Image,
    place: tuple[int, int],
    lines: Sequence[str],
    size: float,
    color: str,
    anchor: str,
    bold: bool = False,
) -> None:
    """Writes lines one below the other; `place` is the first one's top left ("la"), top right ("ra") or the middle of
    its top ("ma").
    """
    draw = ImageDraw.Draw(page)
    share = {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]]
    rise = font(size, bold).getmetrics()[0]
    for i, line in enumerate(map(drawable, lines)):
        parts = parts_of(line, size, bold)
        top = place[1] + text_height(lines[:i], size)
        if len(parts) == 1:
            draw.text((place[0], top), line, color, parts[0][1], anchor)
            continue
        x = place[0] - share * width_of(line, size, bold)
        for text, letters in parts:  # of several fonts, on one base line
            draw.text((x, top + rise), text, color, letters, "ls")
            x += letters.getlength(text)


def rendered(figure: "Figure") -> Image.Image:
    """A matplotlib figure as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def noted(picture: Image.Image, note: str) -> Image.Image:
    """A picture on white with a note under it."""
    lines = wrapped(note, NOTE, picture.width - 2 * MARGIN)
    page = Image.new("RGB", (picture.width, picture.height + text_height(lines, NOTE) + MARGIN // 2), "white")
    page.paste(picture)
    write(page, (MARGIN, picture.height), lines, NOTE, GREY, "la")
    return page


def save_image(
    path: str | os.PathLike, image: Image.Image, metadata: Mapping[str, str] | None = None
) -> Path:
    """Writes a picture in the format of the path's extension, with as little loss as it allows, whole or not at
    all; `metadata` goes into it where `recipe.read_recipe` looks.
    """
    path = _picture_path(path)
    kind = Image.registered_extensions()[path.suffix.lower()]
    check_format(path, image.size)
    options = dict(LOW_LOSS.get(kind, {}))
    if metadata and kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        for key, value in metadata.items():
            options["pnginfo"].add_itxt(key, value)
    elif metadata:
        options["exif"] = Image.Exif()
        options["exif"][EXIF_TAG] = json.dumps(dict(metadata))
    with replace_whole(path) as temporary:
        image.save(temporary, **options)
    return path


def check_format(path: Path, size: tuple[int, int]) -> None:
    """Raises CannotError for a picture of this size (width, height) that the format of the path cannot hold."""
    kind = Image.registered_extensions().get(path.suffix.lower(), "")
    if max(size) > MAX_SIDES.get(kind, math.inf):
        raise CannotError(
            f"{path}: a picture of {size[0]} x {size[1]} pixels is larger than this format allows: use .png or .tif"
        )


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
    """Writes equally large frames as a GIF that repeats for ever, whole or not at all; returns the path.

    Each frame stays for 80 milliseconds, the last for two seconds. All share one palette of 256 colours, so
    that nothing flickers. dither: with FLOYDSTEINBERG, colours in between are mixed from dots.
    """
    # The last frame has the colours that matter, the first the greys that it all starts from; a film that changes its
    # subject has others in between.
    chosen = np.linspace(0, len(frames) - 1, min(8, len(frames))).round().astype(int)
    sample = Image.fromarray(np.concatenate([np.asarray(frames[i])[::2, ::2] for i in chosen]))
    palette = sample.quantize(256, Image.Quantize.MEDIANCUT, kmeans=1)
    first, *others = [frame.quantize(palette=palette, dither=dither) for frame in frames]
    times = [80] * len(others) + [2000]
    with replace_whole(_picture_path(path)) as temporary:
        first.save(temporary, save_all=True, append_images=others, duration=times, loop=0, optimize=True)
    return Path(path)


def _picture_path(path: str | os.PathLike) -> Path:
    path = Path(path)
    if path.suffix.lower() not in Image.registered_extensions():
        raise CannotError(f"{path}: unsupported file extension; use .png, .jpg, .webp or .tif")
    return path
