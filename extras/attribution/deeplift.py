"""DeepLIFT (Shrikumar, Greenside and Kundaje, 2017): contributions that add up, from one backward pass.

The image and its baseline go through the network in one batch [I, I']. At an activation function the backward pass
uses the slope between the two instead of the derivative: the Rescale rule. All other operations keep their gradient.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from visualizers.mechanisms import OTHER_ACTIVATIONS, RELUS, Advance, check_targets, frozen_eval, in_batches

SMALLEST = 1e-10  # a difference below this has no slope: the derivative is used
ACTIVATIONS = RELUS | OTHER_ACTIVATIONS
POOLS = frozenset({F.max_pool2d, torch.max_pool2d})


def _difference(x: Tensor) -> Tensor:
    """I's half of a batch minus the baseline's, for both halves."""
    return (x[: len(x) // 2] - x[len(x) // 2 :]).repeat(2, *[1] * (x.dim() - 1))


def _slope(contributions: Tensor, x: Tensor, function: Callable[[Tensor], Tensor], R: Tensor) -> Tensor:
    """contributions / (x - x'), and R f'(x) where x = x'."""
    with torch.enable_grad():
        inner = x.detach().clone().requires_grad_()
        (plain,) = torch.autograd.grad(function(inner.clone()), inner, R)
    difference = _difference(x)
    return torch.where(difference.abs() > SMALLEST, contributions / difference, plain)


class Rescale(torch.autograd.Function):
    """f(x), elementwise. Backward, with R from above: R (f(x) - f(x')) / (x - x')."""

    @staticmethod
    def forward(ctx, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:  # type: ignore[no-untyped-def]
        y = function(x.clone())  # it may work in place
        ctx.function = function
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, R: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def, override]
        x, y = ctx.saved_tensors
        return _slope(R * _difference(y), x, ctx.function, R), None


class RescaleMaximum(torch.autograd.Function):
    """Max pooling. Of the change y - y' of a maximum, the part above y' counts for the place of I's maximum and the
    part below it for the place of the baseline's: R (max(y, y') - y') and R (y - max(y, y')).
    """

    @staticmethod
    def forward(ctx, x: Tensor, pool: Callable[..., Tensor]) -> Tensor:  # type: ignore[no-untyped-def]
        y, places = pool(x, return_indices=True)
        ctx.pool = pool
        ctx.save_for_backward(x, y, places)
        return y

    @staticmethod
    def backward(ctx, R: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def, override]
        x, y, places = ctx.saved_tensors
        one, other = y.chunk(2)
        higher = torch.maximum(one, other)
        change = R * torch.cat([higher - other, one - higher])
        # Windows overlap in some networks: what a place gets from each of them is added.
        flat = torch.zeros_like(x).flatten(2).scatter_add(2, places.flatten(2), change.flatten(2))
        contributions = sum(flat.view_as(x).chunk(2)).repeat(2, 1, 1, 1)  # type: ignore[union-attr]
        return _slope(contributions, x, ctx.pool, R), None


class DeepLiftRules(TorchFunctionMode):
    """Inside `with DeepLiftRules():` activation functions and max pooling have DeepLIFT's backward passes."""

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        x, rest = (args[0], args[1:]) if args else (kwargs.get("input"), ())
        others = {key: value for key, value in kwargs.items() if key != "input"}
        if func in ACTIVATIONS:
            return Rescale.apply(x, lambda t: func(t, *rest, **others))
        if func in POOLS and not others.pop("return_indices", False):
            return RescaleMaximum.apply(x, lambda t, **more: F.max_pool2d(t, *rest, **others, **more))
        return func(*args, **kwargs)


def deep_lift(
    X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None, *, baseline: float | Tensor = 0.0
) -> Tensor:
    """(I - I') m, where m is the multiplier: the gradient of s_y with the Rescale rule -> (N, 3, H, W), in score.

    I' is the baseline: 0, ImageNet's mean colour, or any tensor that broadcasts to an image (3, H, W). The sum is
    s_y(I) - s_y(I') for networks of affine layers, activation functions and max pooling. Other operations keep their
    gradient: with products of activations (squeeze and excitation, attention) the sum is off.
    """

    def batch(x: Tensor, k: Tensor) -> Tensor:
        pair = torch.cat([x.detach(), torch.zeros_like(x) + baseline]).requires_grad_()
        with frozen_eval(model):
            with DeepLiftRules():
                scores = model(pair).gather(1, k.repeat(2)[:, None])
            (m,) = torch.autograd.grad(scores.sum(), pair)
        return ((pair[: len(x)] - pair[len(x) :]) * m[: len(x)]).detach()

    return in_batches(batch, X, check_targets(X, y), advance)
