"""Task 5: the Gram matrix and the style loss (Gatys, Ecker and Bethge, 2016)."""

from collections.abc import Sequence

import torch
from torch import nn


class StyleLoss(nn.Module):
    """How far are the picture's feature correlations from those of the painting, whatever is where?"""

    def gram_matrix(self, features: torch.Tensor, normalize: bool = True) -> torch.Tensor:
        """G_kl = sum over positions p of F_kp F_lp; divided by C * H * W with `normalize`.

        features: (N, C, H, W). Returns (N, C, C): for each image, how often two channels are active together.
        """
        # Flatten the positions, then one batched matrix product. Image n's matrix must not mix with another's.
        ### BEGIN SOLUTION
        N, C, H, W = features.shape
        F = features.reshape(N, C, H * W)
        gram = F @ F.transpose(1, 2)
        return gram / (C * H * W) if normalize else gram
        ### END SOLUTION

    def forward(
        self,
        feats: Sequence[torch.Tensor],
        style_layers: Sequence[int],
        style_targets: Sequence[torch.Tensor],
        style_weights: Sequence[float],
    ) -> torch.Tensor:
        """L_s = sum over layers l of w_l * sum_kl (G^l_kl - A^l_kl)^2.

        feats: the picture's features at every layer of the network, as `extract_features` returns them.
        style_layers: the layers to compare, indices into feats.
        style_targets: the painting's normalized Gram matrices A, in the order of style_layers.
        style_weights: the weights w, in the same order.

        Returns a scalar that gradients flow through.
        """
        # feats is indexed by the layer's number, targets and weights by its place in style_layers.
        ### BEGIN SOLUTION
        loss = feats[0].new_zeros(())
        for layer, target, weight in zip(style_layers, style_targets, style_weights, strict=True):
            loss = loss + weight * (self.gram_matrix(feats[layer]) - target).square().sum()
        return loss
        ### END SOLUTION
