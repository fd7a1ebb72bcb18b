"""Task 6: the total-variation loss (Mahendran and Vedaldi, 2015, with exponent beta = 2)."""

import torch
from torch import nn


class TotalVariationLoss(nn.Module):
    """How rough is the picture?"""

    def forward(self, img: torch.Tensor, tv_weight: float) -> torch.Tensor:
        """L_tv = w_t * sum over channels c and pixels (i, j) of
        (x_{c,i+1,j} - x_{c,i,j})^2 + (x_{c,i,j+1} - x_{c,i,j})^2.

        img: (1, 3, H, W), H and W may differ. Each pair of neighbours counts once; nothing wraps around.

        Returns a scalar that gradients flow through.
        """
        # Slices shifted by one, down and to the right; squares; one sum.
        ### BEGIN SOLUTION
        down = (img[:, :, 1:, :] - img[:, :, :-1, :]).square().sum()
        right = (img[:, :, :, 1:] - img[:, :, :, :-1]).square().sum()
        return tv_weight * (down + right)
        ### END SOLUTION
