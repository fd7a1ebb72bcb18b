"""The three losses, faster, for those who have written theirs already: what `style_transfer.py --fast` minimizes.

The formulas are those of the graded losses; here each gradient is written out too, and computed along with its value,
while what both need still lies in the processor's cache. Only the picture and its features get a gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from style_modules.content_loss import ContentLoss
from style_modules.second_moment import apply_weights, product, second_moment
from style_modules.style_loss import StyleLoss
from style_modules.tv_loss import TotalVariationLoss


class FastContentLoss(ContentLoss):
    """`ContentLoss`, its value and gradient equal but for rounding."""

    def forward(self, content_weight: float, content_current: Tensor, content_original: Tensor) -> Tensor:
        """L_c = w_c * sum_ij (F_ij - P_ij)^2; dL_c/dF = 2 w_c (F - P)."""

        def compute(features: Tensor) -> tuple[Tensor, Tensor]:
            D = features - content_original
            return content_weight * _sum_of_squares(D), D.mul_(2 * content_weight)

        return _WithGradient.apply(content_current, compute)


class FastStyleLoss(StyleLoss):
    """`StyleLoss`, its value and gradient equal but for rounding; `second_moment` says what is faster."""

    def gram_matrix(self, features: Tensor, normalize: bool = True) -> Tensor:
        """As `StyleLoss.gram_matrix`: (N, C, H, W) -> (N, C, C)."""
        gram = second_moment(features)
        return gram / features[0].numel() if normalize else gram

    def forward(
        self,
        feats: Sequence[Tensor],
        style_layers: Sequence[int],
        style_targets: Sequence[Tensor],
        style_weights: Sequence[float],
    ) -> Tensor:
        """L_s = sum over l of w_l * sum_kl (G_kl - A_kl)^2; dL_s/dF = 2 w_l (D + D^T) F / (C H W), D = G - A."""

        def compute(features: Tensor, A: Tensor, weight: float) -> tuple[Tensor, Tensor]:
            CHW = features[0].numel()
            D = product(features) / CHW - A
            slope = apply_weights(features, (D + D.mT) * (2 * weight / CHW))
            return weight * _sum_of_squares(D), slope

        chosen = zip((feats[place] for place in style_layers), style_targets, style_weights, strict=True)
        terms = [_WithGradient.apply(features, compute, A, weight) for features, A, weight in chosen]
        return torch.stack([feats[0].new_zeros(()), *terms]).sum()


class FastTotalVariationLoss(TotalVariationLoss):
    """`TotalVariationLoss`, its value and gradient equal but for rounding."""

    def forward(self, img: Tensor, tv_weight: float) -> Tensor:
        """L_tv = w_t * the sum of squared differences of neighbours; each difference d adds 2 w_t d to its one pixel's
        slope and takes it from the other's.
        """

        def compute(x: Tensor) -> tuple[Tensor, Tensor]:
            down = x[:, :, 1:, :] - x[:, :, :-1, :]
            right = x[:, :, :, 1:] - x[:, :, :, :-1]
            slope = F.pad(down, (0, 0, 1, 0))
            slope[:, :, :-1, :] -= down
            slope[:, :, :, 1:] += right
            slope[:, :, :, :-1] -= right
            return tv_weight * (_sum_of_squares(down) + _sum_of_squares(right)), slope.mul_(2 * tv_weight)

        return _WithGradient.apply(img, compute)


def _sum_of_squares(x: Tensor) -> Tensor:
    # Reads x once; x.square().sum() writes the squares down first.
    return torch.linalg.vector_norm(x).square()


class _WithGradient(torch.autograd.Function):
    """compute(x, ...) -> (a scalar, its gradient with respect to x), as one step that autograd knows."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, compute: Callable[..., tuple[Tensor, Tensor]], *others: object
    ) -> Tensor:
        value, slope = compute(x, *others)
        ctx.save_for_backward(slope)
        ctx.others = len(others)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple:
        (slope,) = ctx.saved_tensors
        # As a term of a sum g is 1, and a pass over the largest maps can be saved; asking would make a GPU wait.
        known = g.device.type == "cpu" and g == 1
        return slope if known else g * slope, None, *(None for _ in range(ctx.others))
