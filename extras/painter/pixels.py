"""Sizes, pyramids and colours of the painter's pictures: tensors (1, C, H, W) in [0, 1]."""

import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]  # (H, W)


def map_size(img: Tensor) -> Size:
    """(H, W) of (1, C, H, W)."""
    return img.shape[2], img.shape[3]


def resize(img: Tensor, size: Size) -> Tensor:
    """(1, C, H, W) to `size`: bicubic, antialiased where it gets smaller."""
    if tuple(img.shape[2:]) == tuple(size):
        return img
    return F.interpolate(img, size=tuple(size), mode="bicubic", antialias=True)


def pyramid(img: Tensor, levels: int) -> list[Tensor]:
    """The Laplacian pyramid of Burt and Adelson (1983): what each size adds to the next smaller one, largest first,
    and last the smallest picture. Halves the size `levels` - 1 times, or until a side would be below 4 pixels.
    """
    parts: list[Tensor] = []
    while len(parts) < levels - 1 and min(img.shape[2:]) >= 8:
        small = F.interpolate(
            img, size=[side // 2 for side in img.shape[2:]], mode="bilinear", antialias=True
        )
        parts.append(img - F.interpolate(small, size=img.shape[2:], mode="bilinear"))
        img = small
    return [*parts, img]


def from_pyramid(parts: list[Tensor]) -> Tensor:
    """The picture of a Laplacian pyramid."""
    img = parts[-1]
    for part in parts[-2::-1]:
        img = part + F.interpolate(img, size=part.shape[2:], mode="bilinear")
    return img


def luminance(img: Tensor) -> Tensor:
    """Y = 0.299 R + 0.587 G + 0.114 B (BT.601, as JPEG has it): (1, 3, H, W) -> (1, 1, H, W)."""
    return (img * img.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def with_luminance(img: Tensor, Y: Tensor) -> Tensor:
    """`img` (1, 3, H, W) in [0, 1] with the luminance Y (1, 1, H, W), as far as its colours allow.

    The same amount is added to R, G and B, which leaves Cb and Cr as they were. It is limited where one of the three
    would leave [0, 1].
    """
    change = Y - luminance(img)
    lowest, highest = img.amin(dim=1, keepdim=True), img.amax(dim=1, keepdim=True)
    return (img + change.clamp(-lowest, 1 - highest)).clamp(0, 1)


def match_luminance(Y: Tensor, like: Tensor) -> Tensor:
    """Y with the mean and the standard deviation of `like`, so that a dark painting does not darken the picture."""
    return (Y - Y.mean()) * (like.std() / Y.std().clamp_min(1e-6)) + like.mean()
