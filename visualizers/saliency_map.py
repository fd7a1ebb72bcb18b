"""Task 1: saliency maps (Simonyan, Vedaldi and Zisserman, 2014, "Deep Inside Convolutional Networks")."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from visualizers.mechanisms import check_targets, frozen_eval


class SaliencyMap:
    """Which pixels, changed a little, would change a class's score the most?"""

    def compute_saliency_maps(self, X: Tensor, y: Tensor, model: nn.Module) -> Tensor:
        """M_ij = max over channels c of |d s_y(I) / d I_cij|, for each image I of a batch.

        X: normalized images (N, 3, H, W); need not require a gradient.
        y: the class to explain in each image (N,).
        model: a classifier, (N, 3, H, W) -> raw scores s (N, classes). It comes back as it went in.

        Returns the maps (N, H, W), in score per normalized pixel, never negative.
        Raises ValueError for shapes that do not match; torch's own error for a class that the model does not have.
        """
        X = X.detach().clone().requires_grad_()
        y = check_targets(X, y)
        with frozen_eval(model):
            # 1. The raw scores (N, classes): no softmax, no loss. Pick score y[n] of image n.
            # 2. The gradient with respect to X of the sum of the picked scores, in one backward pass.
            # 3. The absolute value, then the largest of the three channels.
            ### BEGIN SOLUTION
            scores = model(X).gather(1, y[:, None]).squeeze(1)
            (gradient,) = torch.autograd.grad(scores.sum(), X)
            saliency = gradient.abs().amax(dim=1)
            ### END SOLUTION
        return saliency

    def show_saliency_maps(
        self, X: np.ndarray, y: np.ndarray, class_names: Mapping[int, str] | Sequence[str], model: nn.Module
    ) -> None:
        """Draws photos X, uint8 (N, H, W, 3), above their maps for classes y; writes
        visualization/saliency_map.png.
        """
        # Imported here: computing maps needs no drawing library.
        from helpers.figures import Cell, clip_percentile, save_grid
        from helpers.image_utils import preprocess

        device = next(model.parameters()).device
        batch = torch.cat([preprocess(image, image.shape[:2]) for image in X]).to(device)
        maps = self.compute_saliency_maps(batch, torch.as_tensor(y), model).cpu().numpy()
        photos = [Cell(image, class_names[int(label)]) for image, label in zip(X, y, strict=True)]
        heats = [Cell(clip_percentile(heat)) for heat in maps]
        save_grid("visualization/saliency_map.png", [photos, heats])
