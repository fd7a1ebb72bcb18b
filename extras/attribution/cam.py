"""Class activation maps at any layers, from one pass: Grad-CAM++, HiResCAM, LayerCAM; and layers fused.

The methods differ only in how they weight a layer's maps. Each is a rule (A, g) -> cam: activations A^k_ij and
gradients g^k_ij = d s_y / d A^k_ij, both (N, K, h, w), to (N, 1, h, w), never negative.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visualizers.mechanisms import Advance, batches_of, capture, frozen_eval, scaled_heatmaps


def grad_cam(A: Tensor, g: Tensor) -> Tensor:
    """L = ReLU(sum_k alpha_k A^k), alpha_k = 1/Z sum_ij g^k_ij (Selvaraju et al., 2017).

    The same as `GradCam.grad_cam`; here so that several layers can share one pass. The runners call the graded one.
    """
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
    """L_ij = ReLU(sum_k g^k_ij A^k_ij): each position's own share of the score (Draelos and Carin, 2020).

    Where only a linear layer follows, pooling before it or not, the shares before the ReLU add up to the score
    without its bias. Grad-CAM's mean of g gives a position also what the map's other positions count for.
    """
    return F.relu(torch.einsum("nkhw,nkhw->nhw", g, A))[:, None]


def layer_cam(A: Tensor, g: Tensor) -> Tensor:
    """L_ij = ReLU(sum_k ReLU(g^k_ij) A^k_ij): each position has its own weight (Jiang et al., 2021)."""
    return F.relu(torch.einsum("nkhw,nkhw->nhw", F.relu(g), A))[:, None]


RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad-cam": grad_cam,
    "grad-cam++": grad_cam_plus_plus,
    "hires-cam": hires_cam,
    "layer-cam": layer_cam,
}


def cam_at(
    layers: Sequence[str],
    X: Tensor,
    y: Tensor,
    model: nn.Module,
    rule: str = "grad-cam",
    advance: Advance = None,
) -> dict[str, np.ndarray]:
    """The class activation map at each of the named layers, by one of RULES.

    X: normalized (N, 3, H, W); y: classes (N,). Returns, by layer, maps (N, H, W) in [0, 1], each divided by its own
    maximum, from one forward and one backward pass for all layers. Raises ValueError for a layer that returns no maps.
    """
    X = X.detach()
    maps: dict[str, list[np.ndarray]] = {name: [] for name in layers}
    with frozen_eval(model), capture({name: model.get_submodule(name) for name in layers}) as outputs:
        for some, classes in batches_of(X, y):
            scores = model(some.clone()).gather(1, classes[:, None])
            activations = [outputs[name] for name in layers]
            gradients = torch.autograd.grad(scores.sum(), activations)
            for name, A, g in zip(layers, activations, gradients, strict=True):
                maps[name].append(scaled_heatmaps(RULES[rule](A.detach(), g), X.shape[2:]))
            if advance is not None:
                advance(len(some))
    return {name: np.concatenate(parts) for name, parts in maps.items()}


def fuse(maps: Mapping[str, np.ndarray], gamma: float = 2.0) -> np.ndarray:
    """One map of several layers: the largest of the last layer's M / max M and the earlier layers'
    tanh(gamma M / max M), the fusion of Jiang et al. (2021).

    maps: by layer, from early to last, (N, H, W), never negative. The tanh lifts the weaker positions of early
    layers, whose maps have few strong ones. Returns (N, H, W) in [0, 1], each image's divided by its own
    maximum.
    """
    stack = torch.stack([torch.as_tensor(heat) for heat in maps.values()], dim=1)  # (N, layers, H, W)
    stack = stack / stack.amax(dim=(2, 3), keepdim=True).clamp(min=torch.finfo(stack.dtype).tiny)
    stack[:, :-1] = torch.tanh(gamma * stack[:, :-1])
    return scaled_heatmaps(stack.amax(dim=1, keepdim=True), stack.shape[2:])
