"""The gradient of a network's first convolution with respect to the picture, faster.

Where a convolution of three channels goes in steps of two or more, libraries need several times as long for its
gradient as for itself: they are made for many channels. Here the gradient is a convolution in steps of one that
computes, for each position, a whole step's square of pixels as channels (`docs/benchmarks.md` says what that saves).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

FEW = 4  # channels of a picture, at most: with more, libraries are fast


class PictureGradient(TorchFunctionMode):
    """Inside `with PictureGradient():` the convolutions of pictures in steps keep their values, and their gradients but
    for rounding, and pass the gradient back faster. A backward pass that comes later is faster too.
    """

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func is torch.conv2d:
            return _conv2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    picture = input.dim() == 4 and input.shape[1] <= FEW and input.requires_grad and input.is_floating_point()
    frozen = not weight.requires_grad and (bias is None or not bias.requires_grad)
    # Graphics cards have kernels of their own for this; autocast has types of its own.
    here = input.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if picture and frozen and here and groups == 1 and not isinstance(padding, str):
        (down, right), pads, spread = _pair(stride), _pair(padding), _pair(dilation)
        if down == right > 1 and spread == (1, 1):
            return _InSteps.apply(input, weight, bias, down, pads)
    return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)


def _pair(length: Any) -> tuple[int, int]:
    """A stride, padding or dilation as convolutions take it: a number, one in a sequence, or two."""
    first, *others = length if isinstance(length, Sequence) else (length,)
    return int(first), int(others[0] if others else first)


class _InSteps(torch.autograd.Function):
    generate_vmap_rule = True  # torch.func's vmap and reverse mode work through it; forward mode does not

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor | None, step: int, padding: tuple[int, int]
    ) -> Tensor:
        return torch.conv2d(x, weight, bias, step, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, weight, _, ctx.step, ctx.padding = inputs
        ctx.size = x.shape[2:]
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple:
        (weight,) = ctx.saved_tensors
        return picture_gradient(g, weight, ctx.step, ctx.padding, ctx.size), None, None, None, None


def picture_gradient(
    g: Tensor, weight: Tensor, step: int, padding: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """dx_{c,i} = sum over o, k of g_{k,o} w_{k,c,i+p-s*o}, from the gradient g (N, K, H', W') of a convolution's output
    back to that of its input (N, C, H, W). weight: (K, C, h, w); step s; padding p; size: (H, W).

    With i + p = s*q + r and r < s, the weights that matter are w_{s*u+r} at u = q - o: for each of the s^2 remainders r
    a small convolution of g with the flipped u. All remainders are computed at once, as output channels, then put
    where they belong.
    """
    (H, W), (top, left) = size, padding
    C, s = weight.shape[1], step
    rows, columns = (-(-k // s) for k in weight.shape[2:])  # how many u there are
    w = F.pad(weight, (0, columns * s - weight.shape[3], 0, rows * s - weight.shape[2]))
    w = w.unflatten(3, (columns, s)).unflatten(2, (rows, s))  # (K, C, u, r, u', r')
    w = w.permute(3, 5, 1, 0, 2, 4).flatten(0, 2).flip(2, 3).contiguous(memory_format=torch.channels_last)
    parts = torch.conv2d(g, w, padding=(rows - 1, columns - 1))  # (N, r r' C, q, q')
    N, _, Q, Q_ = parts.shape
    # Channels last in memory: r' and C already lie beside each other in a row of the picture.
    x = parts.permute(0, 2, 3, 1).reshape(N, Q, Q_, s, s * C).transpose(2, 3).reshape(N, Q * s, Q_ * s, C)
    x = x.permute(0, 3, 1, 2)[:, :, top : top + H, left : left + W]
    return F.pad(x, (0, W - x.shape[3], 0, H - x.shape[2]))  # what no step reached
