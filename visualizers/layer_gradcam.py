"""Grad-CAM at several layers at once, and Guided Grad-CAM (Selvaraju et al., 2017).

`GradCam.grad_cam` explains the last layer; here any layers, from one forward and one backward pass for all of
them.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visualizers.gradcam import GradCam
from visualizers.mechanisms import capture, class_scores, last_map_layer, untouched


def map_layers(model: nn.Module, X: Tensor) -> dict[str, tuple[int, int, int]]:
    """The modules of `model` that return maps for X (N, 3, H, W), in the order they do: name -> (channels,
    height, width).
    """
    sizes: dict[str, tuple[int, int, int]] = {}

    def look(name: str) -> Callable:
        def hook(_module: nn.Module, _inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and output[0, 0].numel() > 1:
                sizes[name] = tuple(output.shape[1:])

        return hook

    handles = [module.register_forward_hook(look(name)) for name, module in model.named_modules() if name]
    try:
        with untouched(model), torch.no_grad():
            model(X[:1])
    finally:
        for handle in handles:
            handle.remove()
    return sizes


def spread_layers(model: nn.Module, X: Tensor, count: int = 4) -> list[str]:
    """`count` layers from early to last, the last being the one that `grad_cam` explains, the others evenly
    spread before it.
    """
    layers = list(map_layers(model, X))
    last = last_map_layer(model, X)
    # Whole blocks, not their parts: children of the network or of the last layer, with convolutions in them.
    blocks = [
        name
        for name in layers[: layers.index(last)]
        if name.rpartition(".")[0] in ("", last)
        and any(isinstance(module, nn.Conv2d) for module in model.get_submodule(name).modules())
    ]
    return [*dict.fromkeys(blocks[len(blocks) * i // count] for i in range(1, count) if blocks), last]


def grad_cam_at(layers: Sequence[str], X: Tensor, y: Tensor, model: nn.Module) -> dict[str, np.ndarray]:
    """Grad-CAM at each of the named layers: L = ReLU(sum_k alpha_k A^k), alpha_k = 1/Z sum_ij d s_y / d
    A^k_ij.

    X: normalized (N, 3, H, W); y: classes (N,). Returns, by layer, maps (N, H, W) in [0, 1] as
    `GradCam.grad_cam` does.
    """
    X = X.detach()
    with untouched(model), capture({name: model.get_submodule(name) for name in layers}) as outputs:
        scores = class_scores(model, X, y)
        activations = [outputs[name] for name in layers]
        gradients = torch.autograd.grad(scores.sum(), activations)
    maps = {}
    for name, A, gradient in zip(layers, activations, gradients, strict=True):
        alpha = gradient.mean(dim=(2, 3), keepdim=True)
        cam = F.relu((alpha * A.detach()).sum(dim=1, keepdim=True))
        maps[name] = GradCam.heatmap(cam, X.shape[2:])
    return maps


def guided_grad_cam(guided: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """Guided Grad-CAM: guided backpropagation (N, H, W, 3) times the Grad-CAM map (N, H, W), pixel by pixel."""
    return guided * cam[..., None]
