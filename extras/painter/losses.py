"""The painter's losses. Each is relative to its target, so that one weight means the same for every network, layer
and size.

With F_p the features of a layer at position p (C channels, M = H * W positions), P those of the content image,
mu = 1/M sum of F_p their mean and Sigma = 1/M sum of (F_p - mu)(F_p - mu)^T their covariance, mu_A and Sigma_A those of
the painting, m_A the mean of ||A_p||^2 over its positions, and w_l the weight of a layer (those of the style sum to 1):

    content = sum over l of w_l * ||F - P||^2 / max(||P||^2, M * m_A)    = ContentLoss(w) with w = 1 / ||P||^2
    style   = sum over l of w_l/2 * (||mu - mu_A|| / ||mu_A|| + ||Sigma - Sigma_A|| / ||Sigma_A||)
    tv      = mean over pairs of neighbours of (x - x')^2                = TotalVariationLoss(w) with w = 1 / pairs

The Gram matrix of Gatys, Ecker and Bethge (2016) is Sigma + mu mu^T: large means hide what the covariance says, so the
two are compared apart. The errors of the style are not squared: a squared error stops mattering as it gets small, and
the small ones of the first layers are the grain that one sees.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

FLAT = 0.02  # a covariance less than this times ||mu||^2 is that of a flat painting
LARGEST = 1000.0  # times its target that a difference counts for
ROUNDED = 1e-3  # a relative error below this is a rounding error: there the root is rounded off, so that it has a slope


class Sums(torch.autograd.Function):
    """sum of F_p and sum of F_p F_p^T over the positions p, with one matrix product in the backward pass,
    (D + D^T) F + d, where d and D are the gradients of the two. Autograd would need two, D F and D^T F.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(features)
        F = features[0].flatten(1)
        return F.sum(dim=1, dtype=at_least_float32(F.dtype)), F @ F.mT

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d: Tensor, D: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        # A convolution of 1 x 1 is this product at every position.
        return nn.functional.conv2d(features, (D + D.mT)[:, :, None, None], d.to(features.dtype))


class Moments(NamedTuple):
    """The mean (C,) and the covariance (C, C) of a layer's features over the picture, in float32 or better."""

    mean: Tensor
    covariance: Tensor


def moments(features: Tensor, weights: Tensor | None = None) -> Moments:
    """Mean and covariance of features (1, C, H, W) over their positions.

    weights: (1, 1, H, W), how much each position counts; they sum to 1. The default is 1 / (H * W). The covariance is
    the mean product less mu mu^T: of bfloat16 features it is within 1 %, with weights 2 %.
    """
    if weights is None:
        count = features[0, 0].numel()
        sums, product = Sums.apply(features)
        mean, second = sums / count, product.to(sums.dtype) / count
    else:
        root = weights.sqrt().to(features.dtype)
        weighted = features * root
        _, product = Sums.apply(weighted)
        dtype = at_least_float32(features.dtype)
        whole = root.to(dtype).square().sum()  # 1, but for rounding
        mean = (weighted * root).sum(dim=(0, 2, 3), dtype=dtype) / whole
        second = product.to(dtype) / whole
    return Moments(mean, second - torch.outer(mean, mean))


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def blend(paintings: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """One target from the means, or the covariances, A_i of several paintings, with shares s_i that sum to 1:
    A = (sum of s_i ||A_i||) * sum of s_i A_i / ||A_i||.

    Because each is first divided by its norm, a painting of strong contrast counts no more than its share.
    """
    norms = [matrix.norm().clamp_min(torch.finfo(matrix.dtype).tiny) for matrix in paintings]
    mixture = sum(s * matrix / norm for s, matrix, norm in zip(shares, paintings, norms, strict=True))
    return mixture * sum(s * norm for s, norm in zip(shares, norms, strict=True))


def relative_error(value: Tensor, target: Tensor, least: float | Tensor = 0.0) -> Tensor:
    """||value - target||^2 / max(||target||^2, least^2), a scalar in float32 or better: 0 for equal tensors, 1 for a
    value of 0. It is finite for a target of 0, too.
    """
    dtype = at_least_float32(value.dtype)
    value, target = value.to(dtype), target.to(dtype)
    error = (value - target).square().sum()
    return bounded(error, target.square().sum().clamp_min(least**2))


def bounded(error: Tensor, norm: Tensor) -> Tensor:
    """error / norm, at most LARGEST^2, but with a slope there, too."""
    least = (error.detach() / LARGEST**2).clamp_min(torch.finfo(error.dtype).tiny)
    return error / torch.maximum(norm, least)


def root(error: Tensor) -> Tensor:
    """The square root, less steep near 0, where its own slope would be infinite: sqrt(error + r^2) - r."""
    return (error + ROUNDED**2).sqrt() - ROUNDED


def content_norm(target: Tensor, power: float) -> Tensor:
    """max(||P||^2, M * power), for features P (1, C, H, W); power: the mean of ||F_p||^2 over the painting."""
    square = target.square().sum(dtype=at_least_float32(target.dtype))
    return square.clamp_min(power * target[0, 0].numel())


def content_error(features: Tensor, target: Tensor, norm: Tensor) -> Tensor:
    """||F - P||^2 / norm, a scalar; norm: of `content_norm`."""
    dtype = norm.dtype
    return bounded((features.to(dtype) - target.to(dtype)).square().sum(), norm)


def layer_weights(count: int) -> list[float]:
    """The weights w_l of the style layers, first layer first: n, n - 1, ... 1, divided by their sum."""
    return [2 * (count - k) / (count * (count + 1)) for k in range(count)]


def style_terms(found: Mapping[str, Moments], targets: Mapping[str, Moments]) -> dict[str, Tensor]:
    """The terms of the style loss, one per layer, by the layer's name; `targets` has them from first to last."""
    terms = {}
    for (name, target), weight in zip(targets.items(), layer_weights(len(targets)), strict=True):
        mean = relative_error(found[name].mean, target.mean)
        # A painting of one colour has a covariance of 0: then the mean says what is little.
        least = FLAT * target.mean.square().sum()
        covariance = relative_error(found[name].covariance, target.covariance, least)
        terms[name] = weight / 2 * (root(mean) + root(covariance))
    return terms


def total_variation(img: Tensor) -> Tensor:
    """The mean squared difference of neighbouring pixels, down and right: img (1, C, H, W) -> scalar."""
    down, right = torch.diff(img, dim=2).square(), torch.diff(img, dim=3).square()
    return (down.sum() + right.sum()) / (down.numel() + right.numel())
