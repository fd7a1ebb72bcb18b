"""Class activation maps at any layers at once: Grad-CAM, Grad-CAM++, HiResCAM, LayerCAM; and layers fused.

`GradCam.grad_cam` explains the last layer; here any layers, from one forward and one backward pass for all of
them. The methods differ only in how they weigh a layer's maps, and each is a rule
(A, g) -> cam: activations A^k_ij and gradients g^k_ij = d s_y / d A^k_ij, both (N, K, h, w), to (N, 1, h, w),
never negative.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visualizers.gradcam import GradCam
from visualizers.mechanisms import (
    Advance,
    are_maps,
    capture,
    chunks_of,
    class_scores,
    last_map_layer,
    shapes_met,
    untouched,
)


def map_layers(model: nn.Module, X: Tensor) -> dict[str, tuple[int, int, int]]:
    """The modules of `model` that return maps for X (N, 3, H, W), in the order they do.

    Name -> (channels, height, width).
    """
    met = shapes_met(model, X, {name: module for name, module in model.named_modules() if name})
    return {name: (shape[1], shape[2], shape[3]) for name, shape in met if are_maps(shape)}


def spread_layers(model: nn.Module, X: Tensor) -> list[str]:
    """Four layers from early to last: the last is what `grad_cam` explains, the others lie evenly before it."""
    layers = list(map_layers(model, X))
    last = last_map_layer(model, X)
    # Whole blocks, not their parts: children of the network or of the last layer, with convolutions in them.
    blocks = [
        name
        for name in layers[: layers.index(last)]
        if name.rpartition(".")[0] in ("", last)
        and any(isinstance(module, nn.Conv2d) for module in model.get_submodule(name).modules())
    ]
    return [*dict.fromkeys(blocks[len(blocks) * i // 4] for i in range(1, 4) if blocks), last]


def grad_cam(A: Tensor, g: Tensor) -> Tensor:
    """L = ReLU(sum_k alpha_k A^k), alpha_k = 1/Z sum_ij g^k_ij (Selvaraju et al., 2017)."""
    return F.relu(torch.einsum("nk,nkhw->nhw", g.mean(dim=(2, 3)), A))[:, None]


def grad_cam_plus_plus(A: Tensor, g: Tensor) -> Tensor:
    """L = ReLU(sum_k w_k A^k), w_k = sum_ij alpha^k_ij ReLU(g^k_ij), with
    alpha^k_ij = g^2 / (2 g^2 + g^3 sum_ab A^k_ab), and 0 where that is 0/0 (Chattopadhay et al., 2018).

    The paper's class function is exp(s_y): its three derivatives are exp(s_y) times g, g^2 and g^3 for a
    piecewise linear network. That factor cancels in alpha, and leaves the whole map when the map is scaled to
    its maximum.
    """
    denominator = 2 * g**2 + g**3 * A.sum(dim=(2, 3), keepdim=True)
    alpha = torch.where(denominator != 0, g**2 / denominator, torch.zeros_like(g))
    w = (alpha * F.relu(g)).sum(dim=(2, 3))
    return F.relu(torch.einsum("nk,nkhw->nhw", w, A))[:, None]


def hires_cam(A: Tensor, g: Tensor) -> Tensor:
    """L_ij = ReLU(sum_k g^k_ij A^k_ij): each place's own share of the score (Draelos and Carin, 2020).

    Where only a linear layer follows, pooling before it or not, the shares before the ReLU add up to the score
    without its bias. Grad-CAM's mean of g gives a place also what the map's other places count for.
    """
    return F.relu(torch.einsum("nkhw,nkhw->nhw", g, A))[:, None]


def layer_cam(A: Tensor, g: Tensor) -> Tensor:
    """L_ij = ReLU(sum_k ReLU(g^k_ij) A^k_ij): each place has its own weight (Jiang et al., 2021)."""
    return F.relu(torch.einsum("nkhw,nkhw->nhw", F.relu(g), A))[:, None]


RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad-cam": grad_cam,
    "grad-cam++": grad_cam_plus_plus,
    "hires-cam": hires_cam,
    "layer-cam": layer_cam,
}


def grad_cam_at(
    layers: Sequence[str],
    X: Tensor,
    y: Tensor,
    model: nn.Module,
    rule: str = "grad-cam",
    advance: Advance = None,
) -> dict[str, np.ndarray]:
    """The class activation map at each of the named layers, by one of RULES.

    X: normalized (N, 3, H, W); y: classes (N,). Returns, by layer, maps (N, H, W) in [0, 1] as
    `GradCam.grad_cam` does, from one forward and one backward pass for all layers. Raises ValueError for a
    layer that returns no maps.
    """
    X = X.detach()
    maps: dict[str, list[np.ndarray]] = {name: [] for name in layers}
    with untouched(model), capture({name: model.get_submodule(name) for name in layers}) as outputs:
        for some, classes in chunks_of(X, y):
            scores = class_scores(model, some, classes)
            activations = [outputs[name] for name in layers]
            gradients = torch.autograd.grad(scores.sum(), activations)
            for name, A, g in zip(layers, activations, gradients, strict=True):
                maps[name].append(GradCam.heatmap(RULES[rule](A.detach(), g), X.shape[2:]))
            if advance is not None:
                advance(len(some))
    return {name: np.concatenate(parts) for name, parts in maps.items()}


def fuse(maps: Mapping[str, np.ndarray], gamma: float = 2.0) -> np.ndarray:
    """One map of several layers: the largest of the last layer's M / max M and the earlier layers'
    tanh(gamma M / max M), the fusion of Jiang et al. (2021).

    maps: by layer, from early to last, (N, H, W), never negative. The tanh lifts the weaker places of early
    layers, whose maps have few strong ones. Returns (N, H, W) in [0, 1], each image's divided by its own
    maximum.
    """
    stack = torch.stack([torch.as_tensor(heat) for heat in maps.values()], dim=1)  # (N, layers, H, W)
    stack = stack / stack.amax(dim=(2, 3), keepdim=True).clamp(min=torch.finfo(stack.dtype).tiny)
    stack[:, :-1] = torch.tanh(gamma * stack[:, :-1])
    return GradCam.heatmap(stack.amax(dim=1, keepdim=True), stack.shape[2:])


def guided_grad_cam(guided: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """Guided Grad-CAM: guided backpropagation (N, H, W, 3) times the Grad-CAM map (N, H, W), pixel by pixel."""
    return guided * cam[..., None]
