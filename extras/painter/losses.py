"""The painter's losses: each measured relative to its own target, so that one weight means the same for every
network, layer and size.

With F the features of a layer (C channels, M = H * W positions), P those of the content image, G and A the
Gram matrices of picture and painting, N_l the number of style layers:

    content = ||F - P||^2 / ||P||^2                            = ContentLoss(w) with w = 1 / ||P||^2
    style   = 1/N_l sum over l of ||G^l - A^l||^2 / ||A^l||^2  = StyleLoss(w)   with w_l = 1 / (N_l ||A^l||^2)
    tv      = mean over pairs of neighbours of (x - x')^2      = TotalVariationLoss(w) with w = 1 / pairs

The Gram matrix here is F F^T / M; the graded one is divided by C besides, which a relative loss does not
feel. The published definitions are these after a constant: Gatys, Ecker and Bethge (2016) write
1/2 ||F - P||^2 for the content, and for a style layer ||G - A||^2 / (4 C^2 M^2) of matrices that are not
normalized, which is 1/4 of the graded term; Johnson, Alahi and Fei-Fei (2016) write ||F - P||^2 / (C M),
and the graded style term as it is.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from extras.painter.second_moment import second_moment


def gram(features: Tensor) -> Tensor:
    """G = F F^T / (H * W): (1, C, H, W) -> (C, C), in float32 or better."""
    return second_moment(features)[0] / (features.shape[2] * features.shape[3])


def blended_gram(grams: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """One target from several paintings' Gram matrices A_i, with shares s_i that sum to 1:
    A = (sum of s_i ||A_i||) * sum of s_i A_i / ||A_i||.

    Dividing by the norm first keeps the painting of strongest contrast from outweighing its share.
    """
    norms = [matrix.norm() for matrix in grams]
    mixture = sum(s * matrix / norm for s, matrix, norm in zip(shares, grams, norms, strict=True))
    return mixture * sum(s * norm for s, norm in zip(shares, norms, strict=True))


def relative_error(value: Tensor, target: Tensor) -> Tensor:
    """||value - target||^2 / ||target||^2, a scalar: 0 for equal, 1 for nothing there. In float32 or better."""
    dtype = torch.promote_types(value.dtype, torch.float32)
    value, target = value.to(dtype), target.to(dtype)
    return (value - target).square().sum() / target.square().sum().clamp_min(torch.finfo(dtype).tiny)


def style_terms(features: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The style loss's summands, one a layer: features (1, C, H, W) and targets (C, C) by the layer's name."""
    return {
        name: relative_error(gram(features[name]), target) / len(targets) for name, target in targets.items()
    }


def total_variation(img: Tensor) -> Tensor:
    """The mean square difference of neighbouring pixels, down and right: img (1, C, H, W) -> scalar."""
    down, right = torch.diff(img, dim=2).square(), torch.diff(img, dim=3).square()
    return (down.sum() + right.sum()) / (down.numel() + right.numel())
