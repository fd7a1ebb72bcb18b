"""Which parts of a picture are painted, and like which parts of the painting."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor

from extras.painter.pixels import Size
from helpers.errors import UsageError

SAME_COLOR = (
    60  # distance of two colours in 0..255: nearer ones are the same, as JPEG and soft edges change them
)
LEAST_SHARE = 0.002  # of a mask's pixels that a colour must have to be a region
THIN = 5  # pixels: what is nowhere as wide is no region


@dataclass(frozen=True)
class Regions:
    """K parts of the content, and of the painting the parts that they are painted like.

    content (K, 1, H, W) and style (K, 1, H', W') are in [0, 1], of any size; None stands for everywhere. Where all
    content masks are 0 the photo stays, and where they sum to less than 1 it shows through.
    """

    content: Tensor | None = None
    style: Tensor | None = None

    def to(self, device: torch.device) -> "Regions":
        return Regions(*(None if masks is None else masks.to(device) for masks in (self.content, self.style)))

    def painted(self, size: Size) -> Tensor | None:
        """How much of each pixel is painted, (1, 1, H, W); None where everything is."""
        if self.content is None:
            return None
        return F.interpolate(self.content, size=size, mode="area").sum(dim=0, keepdim=True).clamp(0, 1)

    def shares(self) -> list[float]:
        """How much of what is painted each region has; they sum to 1."""
        if self.content is None:
            return [1.0]
        areas = self.content.mean(dim=(1, 2, 3))
        return (areas / areas.sum()).tolist()

    def content_weights(self, size: Size) -> list[Tensor | None]:
        """Of each region, how much each position of a map of `size` counts: (1, 1, H, W), summing to 1."""
        return _weights(self.content, size, len(self.shares()))

    def style_weights(self, size: Size) -> list[Tensor | None]:
        """The same in the painting."""
        return _weights(self.style, size, len(self.shares()))


def _weights(masks: Tensor | None, size: Size, count: int) -> list[Tensor | None]:
    if masks is None:
        return [None] * count
    small = F.interpolate(masks, size=size, mode="area")
    return [mask[None] / mask.sum() for mask in small]


WHOLE = Regions()


def mask_region(mask: Image.Image) -> Regions:
    """One region from a grey picture: white is painted, black stays, grey is painted less. Raises UsageError for a mask
    that is black all over.
    """
    grey = torch.from_numpy(np.asarray(mask.convert("L"), dtype=np.float32) / 255)
    if not grey.any():
        raise UsageError("the mask is black all over: paint white what shall be painted")
    return Regions(grey[None, None])


def color_regions(content: Image.Image, style: Image.Image) -> Regions:
    """Regions from two pictures of flat colours: what has a colour in the first is painted like what has it in the
    second. Raises UsageError for a colour of the first that the second has not.
    """
    pixels = [np.asarray(mask.convert("RGB"), dtype=np.float32) for mask in (content, style)]
    colors = [_colors(picture) for picture in pixels]
    matched = []
    for color in colors[0]:
        distances = [float(np.linalg.norm(color - other)) for other in colors[1]]
        if min(distances) > SAME_COLOR:
            names = [", ".join(_name(c) for c in found) for found in ([color], colors[1])]
            raise UsageError(
                f"the style's mask has no {names[0]}, which the content's has; it has {names[1]}"
            )
        matched.append(colors[1][int(np.argmin(distances))])
    return Regions(_masks(pixels[0], colors[0]), _masks(pixels[1], matched))


def _colors(picture: np.ndarray) -> list[np.ndarray]:
    """The colours that fill a mask, most frequent first."""
    values, counts = np.unique(picture.reshape(-1, 3) // 16, axis=0, return_counts=True)
    found: list[np.ndarray] = []
    for value in values[np.argsort(-counts, kind="stable")]:
        color = np.median(picture[(picture // 16 == value).all(axis=2)], axis=0)
        if all(np.linalg.norm(color - other) > SAME_COLOR for other in found):
            alike = np.linalg.norm(picture - color, axis=2) < SAME_COLOR / 2
            # Soft edges have mixed colours, but are thin.
            inside = Image.fromarray(alike).convert("L").filter(ImageFilter.MinFilter(THIN))
            if alike.mean() > LEAST_SHARE and inside.getextrema()[1]:
                found.append(color)
    return found


def _masks(picture: np.ndarray, colors: Sequence[np.ndarray]) -> Tensor:
    """(K, 1, H, W): 1 where a pixel is nearer to that colour than to the others."""
    distances = np.stack([np.linalg.norm(picture - color, axis=2) for color in colors])
    nearest = distances.argmin(axis=0)
    return torch.stack([torch.from_numpy(nearest == k) for k in range(len(colors))]).float()[:, None]


def _name(color: np.ndarray) -> str:
    return "#" + "".join(f"{round(float(value)):02x}" for value in color)
