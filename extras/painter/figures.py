"""The painter's animation, and its plot of losses and gradient shares."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from extras.painter.optimization import OTHER_TERMS, Progress
from helpers.figures import DPI, GREY, INK, noted, rendered, save_animation, save_image
from helpers.fonts import import_matplotlib

FRAME_SIDE, MAX_FRAMES = 360, 90
OTHER_COLORS = ("#d1495b", "#7b2d8e", "#e07a5f", "#8d99ae", "#c9a227")  # of OTHER_TERMS


def to_image(picture: Tensor) -> Image.Image:
    """(1, 3, H, W) in [0, 1] -> RGB picture."""
    return Image.fromarray((picture[0].permute(1, 2, 0).cpu() * 255).round().byte().numpy())


class FrameRecorder:
    """Frames of the painting, evenly spaced over the steps however many there will be; the first step is one of them.

    When there are more than MAX_FRAMES, every second one is dropped, and from then on half as many are taken.
    """

    def __init__(self) -> None:
        self.frames: list[Image.Image] = []
        self.stride, self.seen = 1, 0
        self.last: Tensor | None = None

    def add(self, picture: Tensor) -> None:
        """picture: (1, 3, H, W) in [0, 1], of any size."""
        self.last = picture
        if self.seen % self.stride == 0:
            self.frames.append(_small(picture))
        self.seen += 1
        if len(self.frames) > MAX_FRAMES:
            self.frames, self.stride = self.frames[::2], 2 * self.stride

    def save(self, path: str | os.PathLike) -> Path:
        """Writes a GIF that ends with the last picture; all frames have its size."""
        assert self.last is not None, "nothing was recorded"
        last = _small(self.last)
        frames = [frame.resize(last.size, Image.Resampling.BICUBIC) for frame in self.frames]
        # A painting has more colours than the palette of a GIF, so the others are mixed from dots.
        return save_animation(path, [*frames, last], Image.Dither.FLOYDSTEINBERG)


def _small(picture: Tensor) -> Image.Image:
    ratio = min(1.0, FRAME_SIDE / max(picture.shape[2:]))
    if ratio < 1.0:
        size = tuple(round(side * ratio) for side in picture.shape[2:])
        picture = interpolate(picture, size=size, mode="bilinear", antialias=True)
    return to_image(picture)


def save_plot(path: str | os.PathLike, history: Sequence[Progress], note: str = "") -> Path:
    """Plots each term of the loss over the steps, and under it how much each moves the picture (`Progress.shares`).

    note: of which picture and network the plot is.
    """
    import_matplotlib()
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    styles = [name for name in history[0].terms if name not in OTHER_TERMS]
    colors: dict[str, Any] = {
        name: colormaps["viridis"](i / max(1, len(styles) - 1) * 0.9) for i, name in enumerate(styles)
    }
    colors |= {
        name: color for name, color in zip(OTHER_TERMS, OTHER_COLORS, strict=True) if name in history[0].terms
    }
    figure = Figure(figsize=(9, 6.4), dpi=DPI, facecolor="white", layout="constrained")
    losses, shares = figure.subplots(2, 1, sharex=True)
    steps = range(1, len(history) + 1)
    watched = [step for step in steps if history[step - 1].shares]
    for name, color in colors.items():
        losses.semilogy(steps, [p.terms[name] for p in history], color=color, label=name, lw=1.4)
        percent = [100 * history[step - 1].shares[name] for step in watched]
        shares.plot(watched, percent, color=color, lw=1.4, marker=".", ms=4)
    for i, progress in enumerate(history):
        if i and progress.scale == history[i - 1].scale:
            continue
        for axes in (losses, shares) if i else ():
            axes.axvline(i + 0.5, color="#cccccc", lw=0.8, zorder=0)
        height, width = progress.size
        text = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        losses.annotate(f"{width} x {height}", (i + 1, 1.0), (3, 2), **text, fontsize=8, color=GREY)
    # A term that starts at 0 would stretch the logarithmic axis far below all others.
    largest = max(max(p.terms.values()) for p in history)
    losses.set_ylim(bottom=max(losses.get_ylim()[0], largest * 1e-6))
    losses.set_ylabel("term of the loss")
    losses.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    losses.set_title("Which term moves the picture?", loc="left", fontsize=13, weight="bold", pad=18)
    shares.axhline(0, color=INK, lw=0.6)
    shares.xaxis.set_major_locator(MaxNLocator(integer=True))
    shares.set(ylabel="share of the gradient (%)", xlabel="step", xlim=(1, max(2, len(history))))
    for axes in (losses, shares):
        axes.spines[["top", "right"]].set_visible(False)
    return save_image(path, noted(rendered(figure), note))
