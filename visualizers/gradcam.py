"""Task 2: Grad-CAM (Selvaraju et al., 2017) and guided backpropagation (Springenberg et al., 2015)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visualizers.mechanisms import ReplaceReLU, capture, class_scores, last_map_layer, untouched


class GuidedReLU(torch.autograd.Function):
    """A ReLU whose backward pass lets through only positive gradients, and only where its input was positive."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        # R = 1[x > 0] * 1[gradient > 0] * gradient: the ReLU's own rule, and Zeiler and Fergus's.
        ### BEGIN SOLUTION
        return gradient.clamp(min=0) * (x > 0)
        ### END SOLUTION


class GradCam:
    """Where in the picture is the evidence for a class, as the last convolutional layer sees it?"""

    def grad_cam(self, X_tensor: Tensor, y_tensor: Tensor, gc_model: nn.Module) -> np.ndarray:
        """L = ReLU(sum_k alpha_k A^k), with alpha_k = 1/Z sum_ij d s_y / d A^k_ij.

        X_tensor: normalized images (N, 3, H, W). y_tensor: the class to explain in each (N,).
        gc_model: a convolutional classifier; A^k (k = 1..K) are the maps of its last convolutional layer, Z
        their size.

        Returns (N, H, W) in [0, 1], each image's map divided by its own maximum; all zero where there is no
        positive evidence. Raises ValueError for shapes that do not match, IndexError for a class that the
        model does not have.
        """
        X = X_tensor.detach()
        layer = last_map_layer(gc_model, X)
        with untouched(gc_model), capture({layer: gc_model.get_submodule(layer)}) as outputs:
            scores = class_scores(gc_model, X, y_tensor)
            activations = outputs[layer]
            # 1. gradients: of the scores' sum with respect to the activations, (N, K, h, w).
            # 2. alpha: the gradients' mean over each map, (N, K, 1, 1).
            # 3. cam: the ReLU of the alpha-weighted sum of the activations over k, (N, 1, h, w).
            ### BEGIN SOLUTION
            (gradients,) = torch.autograd.grad(scores.sum(), activations)
            alpha = gradients.mean(dim=(2, 3), keepdim=True)
            cam = F.relu((alpha * activations).sum(dim=1, keepdim=True))
            ### END SOLUTION
        return self.heatmap(cam.detach(), X.shape[2:])

    @staticmethod
    def heatmap(cam: Tensor, size: tuple[int, ...]) -> np.ndarray:
        """(N, 1, h, w), not negative -> (N, H, W) in [0, 1]: bilinear, each map divided by its own maximum,
        if it has one.
        """
        cam = F.interpolate(cam.float(), size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
        peak = cam.amax(dim=(1, 2), keepdim=True)
        return torch.where(peak > 0, cam / peak, torch.zeros_like(cam)).cpu().numpy()

    def guided_backprop(self, X_tensor: Tensor, y_tensor: Tensor, gc_model: nn.Module) -> np.ndarray:
        """The gradient of the score s_y with respect to the image, every ReLU passing back only positive
        gradients.

        Arguments as for `grad_cam`. Returns (N, H, W, 3), in score per normalized pixel, of either sign.
        """
        X = X_tensor.detach().clone().requires_grad_()
        with untouched(gc_model), ReplaceReLU(GuidedReLU.apply):
            # As a saliency map, but the signed gradient of all three channels, channels last.
            ### BEGIN SOLUTION
            scores = class_scores(gc_model, X, y_tensor)
            (gradient,) = torch.autograd.grad(scores.sum(), X)
            guided = gradient.permute(0, 2, 3, 1)
            ### END SOLUTION
        return guided.cpu().numpy()
