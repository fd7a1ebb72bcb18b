"""The painter's film and its plot of losses and gradient shares."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from helpers.errors import CannotError
from helpers.figures import DPI, INK, save_animation, save_figure
from extras.painter.optimization import OTHERS

FRAME_SIDE, MAX_FRAMES = 360, 90


class FrameRecorder:
    """Pictures on the way, evenly spaced over the steps however many there will be.

    When there are too many, every second one is dropped and from then on every second one is taken.
    """

    def __init__(self) -> None:
        self.frames: list[Tensor] = []
        self.stride, self.seen = 1, 0
        self.last: Tensor | None = None

    def add(self, picture: Tensor) -> None:
        """picture: (1, 3, H, W) in [0, 1], at any size."""
        self.last = picture
        if self.seen % self.stride == 0:
            self.frames.append(self._small(picture))
        self.seen += 1
        if len(self.frames) > MAX_FRAMES:
            self.frames, self.stride = self.frames[::2], 2 * self.stride

    def save(self, path: str | os.PathLike) -> Path:
        """Writes the GIF, whole or not at all; all frames have the last one's size."""
        assert self.last is not None, "a film without a frame"
        tensors = [*self.frames, self._small(self.last)]
        height, width = tensors[-1].shape[2:]
        images = []
        for tensor in tensors:
            pixels = (tensor[0].permute(1, 2, 0).cpu() * 255).round().byte().numpy()
            images.append(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
        # A painting has more colours than a palette: those in between are mixed from specks.
        return save_animation(path, images, Image.Dither.FLOYDSTEINBERG)

    @staticmethod
    def _small(picture: Tensor) -> Tensor:
        ratio = min(1.0, FRAME_SIDE / max(picture.shape[2:]))
        if ratio == 1.0:
            return picture
        size = tuple(round(side * ratio) for side in picture.shape[2:])
        return F.interpolate(picture, size=size, mode="bilinear", antialias=True)


def save_plot(path: str | os.PathLike, history: Sequence) -> Path:
    """Each term's loss over the steps, and whose gradient moves the picture (`Progress.shares`), as a PNG."""
    if not history:
        raise CannotError("nothing was painted, so there is nothing to plot")
    names = list(history[0].terms)
    styles = [name for name in names if name not in OTHERS]
    colors: dict[str, Any] = {
        name: colormaps["viridis"](i / max(1, len(styles) - 1) * 0.9) for i, name in enumerate(styles)
    }
    colors |= dict(zip(OTHERS, ("#d1495b", "#8d99ae", "#c9a227"), strict=True))
    figure = Figure(figsize=(9, 6.4), dpi=DPI, facecolor="white", layout="constrained")
    losses, shares = figure.subplots(2, 1, sharex=True)
    steps = range(1, len(history) + 1)
    for name in names:
        losses.semilogy(steps, [p.terms[name] for p in history], color=colors[name], label=name, lw=1.4)
    largest = max(max(p.terms.values()) for p in history)
    watched = [(step, p.shares) for step, p in zip(steps, history, strict=True) if p.shares]
    for name in names:
        shares.plot(
            [s for s, _ in watched],
            [100 * w[name] for _, w in watched],
            color=colors[name],
            lw=1.4,
            marker=".",
            ms=4,
        )
    shares.axhline(0, color=INK, lw=0.6)
    begins = [i for i in range(len(history)) if i == 0 or history[i].scale != history[i - 1].scale]
    for axes in (losses, shares):
        for i in begins[1:]:
            axes.axvline(i + 0.5, color="#cccccc", lw=0.8, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    for i in begins:
        height, width = history[i].size
        losses.annotate(
            f"{width} x {height}",
            (i + 1, 1.0),
            (3, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=8,
            color="#6b6b6b",
        )
    # A term may start at 0, far below all others on this axis.
    losses.set_ylim(bottom=max(losses.get_ylim()[0], largest * 1e-6))
    losses.set_ylabel("part of the loss")
    losses.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    losses.set_title("Who is painting?", loc="left", fontsize=13, weight="bold", pad=18)
    shares.set_ylabel("share of the gradient (%)")
    shares.set_xlabel("step")
    shares.set_xlim(1, max(2, len(history)))
    return save_figure(path, figure)
