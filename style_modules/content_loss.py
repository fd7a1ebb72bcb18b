"""Task 4: the content loss (Gatys, Ecker and Bethge, 2016, "Image Style Transfer Using Convolutional Neural
Networks").
"""

import torch
from torch import nn


class ContentLoss(nn.Module):
    """How far are the features of the picture from those of the content image?"""

    def forward(
        self, content_weight: float, content_current: torch.Tensor, content_original: torch.Tensor
    ) -> torch.Tensor:
        """L_c = w_c * sum_ij (F_ij - P_ij)^2.

        content_current: F, the features of the picture at one layer (1, C, H, W).
        content_original: P, those of the content image, the same shape.

        Returns a scalar that gradients flow through.
        """
        # A sum, not a mean; differentiable with respect to content_current.
        ### BEGIN SOLUTION
        return content_weight * (content_current - content_original).square().sum()
        ### END SOLUTION
