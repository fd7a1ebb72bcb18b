"""The same network with a quicker way back to the picture.

The gradient of a network's first convolution with respect to the picture is computed as a convolution without steps.
In libraries, the gradient of a convolution of three channels in steps takes 1.6 to 4.6 times as long
(`docs/benchmarks.md`). Values are the same, gradients too but for rounding.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.jit import ScriptModule

FEW = 4  # channels of a picture, at most: with more, libraries are fast


def quicker(model: nn.Module) -> nn.Module:
    """A network of the same values and gradients.

    It shares every parameter with `model`, which stays as it is; only convolutions of pictures, and the containers
    around them, are new.
    """
    # A forward of the instance's own (torch.compile, patched models) would go on with the original's layers.
    if isinstance(model, ScriptModule) or "forward" in vars(model):
        return model
    if type(model) is nn.Conv2d and _has_steps(model):
        return _twin(model, _PictureConv2d)
    children = {name: child and quicker(child) for name, child in model._modules.items()}
    if all(child is model._modules[name] for name, child in children.items()):
        return model
    return _twin(model, type(model), _modules=children)


def _twin(module: nn.Module, kind: type[nn.Module], **attributes: object) -> nn.Module:
    # Not copy.copy, which parametrized modules refuse.
    twin = object.__new__(kind)
    twin.__dict__ = {**vars(module), **attributes}
    return twin


def _has_steps(conv: nn.Conv2d) -> bool:
    """Is it a picture's convolution, its steps equally long in both directions, and otherwise plain?"""
    return (
        conv.in_channels <= FEW
        and isinstance(conv.stride, tuple)  # attributes that were set by hand may be numbers
        and isinstance(conv.padding, tuple)
        and conv.stride[0] == conv.stride[1] > 1
        and conv.padding_mode == "zeros"
        and conv.groups == 1
        and conv.dilation == (1, 1)
    )


class _PictureConv2d(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        frozen = not weight.requires_grad and (bias is None or not bias.requires_grad)
        # Graphics cards have kernels of their own for this; an unbatched picture is rare.
        if frozen and input.dim() == 4 and input.device.type == "cpu":
            return _ConvolutionInSteps.apply(input, weight, bias, self.stride[0], self.padding)
        return super()._conv_forward(input, weight, bias)


class _ConvolutionInSteps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, step: int, padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.size, ctx.step, ctx.padding = x.shape[2:], step, padding
        ctx.plain = x.is_contiguous()
        return F.conv2d(x, weight, bias, step, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple:
        (weight,) = ctx.saved_tensors
        gradient = _picture_gradient(g, weight, ctx.step, ctx.padding, ctx.size)
        # As the library's: laid out like the picture, so that whoever views it as something else still can.
        return gradient.contiguous() if ctx.plain else gradient, None, None, None, None


def _picture_gradient(
    g: Tensor, weight: Tensor, step: int, padding: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """dx_{c,i} = sum over o, k of g_{k,o} w_{k,c,i+p-s*o}, x being the convolution's input of `size` (H, W).

    With i + p = s*q + r, r < s, the weights that matter are w_{s*u+r} at u = q - o: for each of the s^2 remainders r
    a small convolution of g with the flipped u. All remainders are computed at once, as output channels, then put
    where they belong.
    """
    (H, W), (top, left) = size, padding
    C, s = weight.shape[1], step
    rows, columns = (-(-k // s) for k in weight.shape[2:])  # how many u there are
    w = F.pad(weight, (0, columns * s - weight.shape[3], 0, rows * s - weight.shape[2]))
    w = w.unflatten(3, (columns, s)).unflatten(2, (rows, s))  # (K, C, u, r, u', r')
    w = w.permute(3, 5, 1, 0, 2, 4).flatten(0, 2).flip(2, 3).contiguous(memory_format=torch.channels_last)
    parts = F.conv2d(g, w, padding=(rows - 1, columns - 1))  # (N, r r' C, q, q')
    N, _, Q, Q_ = parts.shape
    # Channels last in memory: r' and C already lie beside each other in a row of the picture.
    x = parts.permute(0, 2, 3, 1).reshape(N, Q, Q_, s, s * C).transpose(2, 3).reshape(N, Q * s, Q_ * s, C)
    x = x.permute(0, 3, 1, 2)[:, :, top : top + H, left : left + W]
    return F.pad(x, (0, W - x.shape[3], 0, H - x.shape[2]))  # what no step reached
