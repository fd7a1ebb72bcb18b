"""The same network, quicker where its maps are largest: in its first layers.

Two things that change no value and no gradient, but for rounding in the second:

- Max pooling comes before the ReLU that it follows. ReLU is monotone, so max over p of ReLU(x_p) =
  ReLU(max over p of x_p), and the gradient reaches the same p, or none where all are negative. After the pooling
  there is a fraction of the numbers to cut off, forward and backward: a quarter in SqueezeNet.
- The gradient with respect to the picture is computed as a convolution without steps. In libraries, the gradient of a
  convolution of three channels in steps of two is two to five times slower (`docs/benchmarks.md`).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.jit import ScriptModule

FEW = 4  # channels of a picture, at most: with more, libraries are fast


def quicker(model: nn.Module) -> nn.Module:
    """A network of the same values and gradients, for those who look at neither a ReLU nor the pooling after it.

    It shares every parameter with `model`, which stays as it is; only what changes, and the containers around it, are
    new. Pairs are looked for in `nn.Sequential`s; one with hooks on it stays.
    """
    if isinstance(model, ScriptModule):
        return model
    if type(model) is nn.Conv2d and _has_steps(model):
        return _twin(model, _PictureConv2d)
    children = {name: child and quicker(child) for name, child in model._modules.items()}
    if type(model).forward is nn.Sequential.forward:
        children = _pools_first(children)
    if list(map(id, children.values())) == list(map(id, model._modules.values())):
        return model
    return _twin(model, type(model), _modules=children)


def _twin(module: nn.Module, kind: type[nn.Module], **attributes: object) -> nn.Module:
    # Not copy.copy, which parametrized modules refuse.
    twin = object.__new__(kind)
    twin.__dict__ = {**vars(module), **attributes}
    return twin


def _pools_first(children: dict[str, nn.Module | None]) -> dict[str, nn.Module | None]:
    layers = list(children.items())
    for i in range(len(layers) - 1):
        (_, first), (_, second) = layers[i : i + 2]
        if _may_change_places(first, second):
            layers[i], layers[i + 1] = layers[i + 1], layers[i]
    return dict(layers)


def _may_change_places(first: nn.Module | None, second: nn.Module | None) -> bool:
    pair = type(first) is nn.ReLU and type(second) is nn.MaxPool2d and not second.return_indices
    return pair and not any(
        value for layer in (first, second) for name, value in vars(layer).items() if name.endswith("_hooks")
    )


def _has_steps(conv: nn.Conv2d) -> bool:
    """Is it a picture's convolution, its steps equally long in both directions, and otherwise plain?"""
    step = conv.stride[0]
    return (
        conv.in_channels <= FEW
        and conv.stride == (step, step)
        and step > 1
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
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
        return F.conv2d(x, weight, bias, step, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple:
        (weight,) = ctx.saved_tensors
        gradient = _picture_gradient(g, weight, ctx.step, ctx.padding, ctx.size)
        return gradient, None, None, None, None


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
