"""The graded style loss with a faster Gram matrix, for those who have written theirs already."""

from torch import Tensor

from style_modules.second_moment import second_moment
from style_modules.style_loss import StyleLoss


class FastStyleLoss(StyleLoss):
    """`StyleLoss`, its values equal but for rounding; see `second_moment` for what is faster."""

    def gram_matrix(self, features: Tensor, normalize: bool = True) -> Tensor:
        """As `StyleLoss.gram_matrix`: (N, C, H, W) -> (N, C, C)."""
        gram = second_moment(features)
        return gram / features[0].numel() if normalize else gram
