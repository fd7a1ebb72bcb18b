"""Class activation maps at any layers: Grad-CAM++, HiResCAM, LayerCAM, Score-CAM and others; and layers fused.

The methods differ only in how they weight a layer's maps. Those of RULES need one pass for all layers. Each is a rule
(A, g) -> cam: activations A^k_ij and gradients g^k_ij = d s_y / d A^k_ij, both (N, K, h, w), to (N, 1, h, w), never
negative. Those of PASSES_PER_MAP need no gradient, but one forward pass for each activation map of a layer.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extras.attribution.perturbation import scores_of
from visualizers.mechanisms import (
    Advance,
    LayoutTracker,
    as_maps,
    batch_size_for,
    batches_of,
    capture,
    check_targets,
    frozen_eval,
    map_layers,
    scaled_heatmaps,
)


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


def xgrad_cam(A: Tensor, g: Tensor) -> Tensor:
    """L = ReLU(sum_k w_k A^k), w_k = sum_ij g^k_ij A^k_ij / sum_ij A^k_ij, and 0 where that is 0/0 (Fu et al., 2020).

    Grad-CAM's mean of g, weighted by the activations: w_k sum_ij A^k_ij is the map's share of the score.
    """
    total = A.sum(dim=(2, 3))
    w = torch.where(total != 0, (g * A).sum(dim=(2, 3)) / total, torch.zeros_like(total))
    return F.relu(torch.einsum("nk,nkhw->nhw", w, A))[:, None]


def eigen_cam(A: Tensor, g: Tensor) -> Tensor:
    """L = ReLU(A v), v the first principal component of the positions' activations (Muhammad and Yeasin, 2020).

    A as a matrix, one row per position, one column per channel, each column minus its mean. A component's sign is
    arbitrary: the projection with the largest absolute value is made positive. No class is asked for: g is not used.
    """
    rows = A.flatten(2).transpose(1, 2)
    rows = rows - rows.mean(dim=1, keepdim=True)
    v = torch.linalg.svd(rows.double(), full_matrices=False).Vh[:, 0].to(A)  # float16 has no decomposition
    L = torch.einsum("npk,nk->np", rows, v)
    strongest = L.gather(1, L.abs().argmax(dim=1, keepdim=True))
    return F.relu(L * strongest.sign()).view(len(A), 1, *A.shape[2:])


RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad-cam": grad_cam,
    "grad-cam++": grad_cam_plus_plus,
    "xgrad-cam": xgrad_cam,
    "hires-cam": hires_cam,
    "layer-cam": layer_cam,
    "eigen-cam": eigen_cam,
}


def score_cam(A: Tensor, x: Tensor, k: Tensor, model: nn.Module, layer: str, advance: Advance) -> Tensor:
    """w = softmax over k of s_y(I * H^k), H^k = (A^k - min A^k) / (max A^k - min A^k), enlarged (Wang et al., 2020).

    The paper subtracts the score of an empty picture, which is the same for all k and leaves a softmax as it is.
    """
    low, high = A.amin(dim=(2, 3), keepdim=True), A.amax(dim=(2, 3), keepdim=True)
    H = torch.where(high > low, (A - low) / (high - low), torch.zeros_like(A))[0, :, None]

    def variants(i: Tensor) -> Tensor:
        return x * F.interpolate(H[i], size=x.shape[2:], mode="bilinear", align_corners=False)

    return scores_of(variants, len(H), k, model, batch_size_for(x), advance).softmax(dim=0)


def ablation_cam(A: Tensor, x: Tensor, k: Tensor, model: nn.Module, layer: str, advance: Advance) -> Tensor:
    """w_k = s_y - s_y without A^k, whose values are set to 0 (Desai and Ramaswamy, 2020).

    The paper divides by s_y. A common factor leaves a map that is scaled to its maximum, and the sign of a negative
    score would turn it over.
    """
    missing = torch.arange(0)

    def remove(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        found = as_maps(output, layout.is_channels_last(output))
        assert found is not None  # A was captured here
        maps, back = found[0].clone(), found[1]
        maps[missing < A.shape[1], missing[missing < A.shape[1]]] = 0
        return back(maps)

    def variants(i: Tensor) -> Tensor:
        nonlocal missing
        missing = i  # the last one, number K, has no such map: nothing is missing
        return x.expand(len(i), -1, -1, -1).clone()

    handle = model.get_submodule(layer).register_forward_hook(remove)
    try:
        with LayoutTracker() as layout:
            scores = scores_of(variants, A.shape[1] + 1, k, model, batch_size_for(x), advance)
    finally:
        handle.remove()
    return scores[-1] - scores[:-1]


# (A, x, class, model, layer, advance) -> w (K,), of one image x (1, 3, H, W) with its activations A (1, K, h, w).
PASSES_PER_MAP: dict[str, Callable[..., Tensor]] = {"score-cam": score_cam, "ablation-cam": ablation_cam}


def passes_of(rule: str, layers: Sequence[str], X: Tensor, model: nn.Module) -> int:
    """How many times the network sees each image of X (N, 3, H, W) in `cam_at`."""
    if rule not in PASSES_PER_MAP:
        return 1
    known = map_layers(model, X)
    whole = rule == "ablation-cam"  # the image with all its maps, too
    return sum(known[name][0] + whole for name in layers)


def cam_at(
    layers: Sequence[str],
    X: Tensor,
    y: Tensor,
    model: nn.Module,
    rule: str = "grad-cam",
    advance: Advance = None,
) -> dict[str, np.ndarray]:
    """The class activation map at each of the named layers, by one of RULES or PASSES_PER_MAP.

    X: normalized (N, 3, H, W); y: classes (N,). Returns, by layer, maps (N, H, W) in [0, 1], each divided by its own
    maximum; by RULES from one forward and one backward pass for all layers. Raises ValueError for a layer that
    returns no maps.
    """
    X = X.detach()
    if rule in PASSES_PER_MAP:
        return {
            name: _weighted_by_passes(name, X, y, model, PASSES_PER_MAP[rule], advance) for name in layers
        }
    maps: dict[str, list[np.ndarray]] = {name: [] for name in layers}
    with frozen_eval(model), capture({name: model.get_submodule(name) for name in layers}) as outputs:
        for some, classes in batches_of(X, y):
            scores = model(some.clone()).gather(1, classes[:, None])
            activations = [outputs[name] for name in layers]
            gradients = torch.autograd.grad(scores.sum(), activations)
            for name, A, g in zip(layers, activations, gradients, strict=True):
                maps[name].append(scaled_heatmaps(RULES[rule](A.detach(), g).to(X), X.shape[2:]))
            if advance is not None:
                advance(len(some))
    return {name: np.concatenate(parts) for name, parts in maps.items()}


def _weighted_by_passes(
    layer: str, X: Tensor, y: Tensor, model: nn.Module, weights: Callable[..., Tensor], advance: Advance
) -> np.ndarray:
    """L = ReLU(sum_k w_k A^k) for each image -> (N, H, W) in [0, 1]."""
    cams = []
    for x, k in zip(X.split(1), check_targets(X, y), strict=True):
        with frozen_eval(model), torch.no_grad(), capture({layer: model.get_submodule(layer)}) as outputs:
            model(x.clone())
        A = outputs[layer].detach()
        w = weights(A, x, k, model, layer, advance)
        cam = F.relu(torch.einsum("k,nkhw->nhw", w.to(A), A))[:, None]
        cams.append(scaled_heatmaps(cam.to(X), X.shape[2:]))
    return np.concatenate(cams)


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
