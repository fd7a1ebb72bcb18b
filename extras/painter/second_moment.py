"""F F^T, the product under every Gram matrix, in the fastest way we know.

Autograd differentiates a plain product of F with its own transpose in two products, D F and D^T F; here it is one,
(D + D^T) F. On a processor, what is symmetric is computed once: of many channels, a strip of rows at a time, from the
diagonal on. Of few channels both ways go through the convolution library: F F^T is the weight gradient of a 1 x 1
convolution, (D + D^T) F is such a convolution. It reads channels-last memory as it lies, and was up to twice as fast
as the matrix product (`docs/benchmarks.md`).
"""

from functools import reduce
from operator import add
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

PARTS = 16
STRIP = 128  # rows


def second_moment(features: Tensor) -> Tensor:
    """M_kl = sum over positions p of F_kp F_lp for each image: (N, C, H, W) -> (N, C, C), in the features' own type,
    bfloat16's in float32.

    bfloat16 features are multiplied as such (four times as fast), in PARTS parts that are summed in float32: what
    each part loses by rounding mostly cancels.
    """
    return _SecondMoment.apply(features)


class _SecondMoment(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        if features.dtype == torch.bfloat16:
            parts = _positions(features).split(-(-features[0, 0].numel() // PARTS), dim=1)
            return reduce(add, ((part.mT @ part).float() for part in parts))
        C = features.shape[1]
        if features.device.type == "cpu" and C > STRIP:
            return _in_strips(_positions(features))
        if _by_convolution(features):
            return conv2d_weight(features, (C, C, 1, 1), features).view(1, C, C)
        P = _positions(features)
        return P.mT @ P

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, D: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        S = (D + D.mT).to(features.dtype)
        if _by_convolution(features):
            return F.conv2d(features, S.view(*S.shape[1:], 1, 1))
        return (_positions(features) @ S).unflatten(1, features.shape[2:]).movedim(-1, 1)


def _in_strips(P: Tensor) -> Tensor:
    """P^T P: (N, H * W, C) -> (N, C, C). A strip's part beyond the diagonal block is also that below it."""
    N, _, C = P.shape
    M = P.new_empty(N, C, C)
    for row in range(0, C, STRIP):
        end = row + STRIP
        torch.matmul(P[:, :, row:end].mT, P[:, :, row:], out=M[:, row:end, row:])
        M[:, end:, row:end] = M[:, row:end, end:].mT
    return M


def _by_convolution(features: Tensor) -> bool:
    """Is this what the convolution library is fast at? It has no doubles, and its weights are one image's."""
    known = features.dtype in (torch.float32, torch.bfloat16)
    return known and features.device.type == "cpu" and len(features) == 1


def _positions(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H * W, C); no copy where memory is laid out channels last."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)
