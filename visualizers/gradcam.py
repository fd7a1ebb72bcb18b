"""Task 2: Grad-CAM (Selvaraju et al., 2017) and guided backpropagation (Springenberg et al., 2015)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visualizers.mechanisms import (
    ReplaceReLU,
    capture,
    check_targets,
    frozen_eval,
    last_map_layer,
    scaled_heatmaps,
)


class GuidedReLU(torch.autograd.Function):
    """A ReLU whose backward pass lets through only positive gradients, and only where its input was positive."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        # x is what came in, gradient what comes back from above. Return what goes on to the layer below.
        ### BEGIN SOLUTION
        return gradient.clamp(min=0) * (x > 0)
        ### END SOLUTION


class GradCam:
    """Where in the picture is the evidence for a class, as a convolutional layer sees it?"""

    def grad_cam(
        self, X_tensor: Tensor, y_tensor: Tensor, gc_model: nn.Module, *, layer: str | None = None
    ) -> np.ndarray:
        """L = ReLU(sum_k alpha_k A^k), with alpha_k = 1/Z sum_ij d s_y / d A^k_ij.

        X_tensor: normalized images (N, 3, H, W). y_tensor: the class to explain in each (N,).
        gc_model: a convolutional classifier. A^k (k = 1..K) are the maps that its module `layer` returns, Z their
        size; by default the last layer that returns maps.

        Returns (N, H, W) in [0, 1], each image's map divided by its own maximum; all zero where there is no
        positive evidence. Raises ValueError for shapes that do not match and for a layer without maps; torch's own
        error for a class that the model does not have.
        """
        X = X_tensor.detach()
        y = check_targets(X, y_tensor)
        layer = layer or last_map_layer(gc_model, X)
        with frozen_eval(gc_model), capture({layer: gc_model.get_submodule(layer)}) as outputs:
            # 1. The raw scores. After the forward pass, outputs[layer] holds the activations A, (N, K, h, w).
            # 2. gradients: of the picked scores' sum with respect to the activations, (N, K, h, w).
            # 3. alpha: the gradients' mean over each map, (N, K, 1, 1).
            # 4. cam: the ReLU of the alpha-weighted sum of the activations over k, (N, 1, h, w).
            ### BEGIN SOLUTION
            scores = gc_model(X).gather(1, y[:, None]).squeeze(1)
            activations = outputs[layer]
            (gradients,) = torch.autograd.grad(scores.sum(), activations)
            alpha = gradients.mean(dim=(2, 3), keepdim=True)
            cam = F.relu((alpha * activations).sum(dim=1, keepdim=True))
            ### END SOLUTION
        return scaled_heatmaps(cam, X.shape[2:])

    def guided_backprop(self, X_tensor: Tensor, y_tensor: Tensor, gc_model: nn.Module) -> np.ndarray:
        """The gradient of the score s_y with respect to the image, every ReLU passing back only positive
        gradients.

        Arguments as for `grad_cam`. Returns (N, H, W, 3), in score per normalized pixel, of either sign.
        """
        X = X_tensor.detach().clone().requires_grad_()
        y = check_targets(X, y_tensor)
        with frozen_eval(gc_model), ReplaceReLU(GuidedReLU.apply):
            # As a saliency map, but guided is the signed gradient of all three channels, channels last.
            ### BEGIN SOLUTION
            scores = gc_model(X).gather(1, y[:, None]).squeeze(1)
            (gradient,) = torch.autograd.grad(scores.sum(), X)
            guided = gradient.permute(0, 2, 3, 1)
            ### END SOLUTION
        return guided.detach().cpu().numpy()
