"""The painter's losses. Each is relative to its target, so that one weight means the same for every network, layer
and size.

With F the features of a layer (C channels, M = H * W positions), P those of the content image, G and A the Gram
matrices of picture and painting, N_l the number of style layers:

    content = ||F - P||^2 / ||P||^2                            = ContentLoss(w) with w = 1 / ||P||^2
    style   = 1/N_l sum over l of ||G^l - A^l||^2 / ||A^l||^2  = StyleLoss(w)   with w_l = 1 / (N_l ||A^l||^2)
    tv      = mean over pairs of neighbours of (x - x')^2      = TotalVariationLoss(w) with w = 1 / pairs

The Gram matrix here is F F^T / M. The graded one is also divided by C, which makes no difference to a relative loss.
The published definitions differ by constants: Gatys, Ecker and Bethge (2016) use 1/2 ||F - P||^2 for the content and,
per style layer, ||G - A||^2 / (4 C^2 M^2) of matrices that are not normalized, which is 1/4 of the graded term.
Johnson, Alahi and Fei-Fei (2016) use ||F - P||^2 / (C M), and the graded style term as it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class GramProduct(torch.autograd.Function):
    """F F^T, with one product in the backward pass, (D + D^T) F. Autograd itself would need two, D F and D^T F."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        F = features[0].flatten(1)
        return F @ F.mT

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, D: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        # As (F^T (D + D^T))^T, which comes out in the memory layout of the features: channels last.
        return (features[0].flatten(1).mT @ (D + D.mT)).mT.view(features.shape)


def gram(features: Tensor) -> Tensor:
    """G = F F^T / (H * W): (1, C, H, W) -> (C, C), in float32 or better."""
    product = GramProduct.apply(features)
    return product.to(at_least_float32(product.dtype)) / features[0, 0].numel()


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def blended_gram(grams: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """One target from the Gram matrices A_i of several paintings, with shares s_i that sum to 1:
    A = (sum of s_i ||A_i||) * sum of s_i A_i / ||A_i||.

    Because each is first divided by its norm, a painting of strong contrast counts no more than its share.
    """
    norms = [matrix.norm() for matrix in grams]
    mixture = sum(s * matrix / norm for s, matrix, norm in zip(shares, grams, norms, strict=True))
    return mixture * sum(s * norm for s, norm in zip(shares, norms, strict=True))


def relative_error(value: Tensor, target: Tensor) -> Tensor:
    """||value - target||^2 / ||target||^2, a scalar in float32 or better: 0 for equal tensors, 1 for a value of 0."""
    dtype = at_least_float32(value.dtype)
    value, target = value.to(dtype), target.to(dtype)
    return (value - target).square().sum() / target.square().sum().clamp_min(torch.finfo(dtype).tiny)


def style_terms(features: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The terms of the style loss, one per layer: features (1, C, H, W) and targets (C, C) by the layer's name."""
    return {
        name: relative_error(gram(features[name]), target) / len(targets) for name, target in targets.items()
    }


def total_variation(img: Tensor) -> Tensor:
    """The mean squared difference of neighbouring pixels, down and right: img (1, C, H, W) -> scalar."""
    down, right = torch.diff(img, dim=2).square(), torch.diff(img, dim=3).square()
    return (down.sum() + right.sum()) / (down.numel() + right.numel())
