"""The evaluation of maps: two checks of any method, on any classifier.

Deletion and insertion (Petsiuk, Das and Saenko, 2018, "RISE"): take away the pixels that the map calls most
important, or show them first; the class's probability should fall, or rise, at once.

Cascading parameter randomization (Adebayo et al., 2018, "Sanity Checks for Saliency Maps"): re-initialize the
network's layers from the output down; a map that explains the network must change with it.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import trapezoid
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from torch import Tensor, nn

from visualizers.mechanisms import Advance, batch_size_for, check_targets, frozen_eval

PARTS = 24  # parts in which an image's pixels are deleted or inserted
BLUR = 0.05  # width of insertion's blur as a share of the image's shorter side: no class survives it
STAGES = 5  # how many re-initialized networks a map is drawn for


class Curves(NamedTuple):
    """shares (K+1,) of the pixels changed, 0 to 1, and the class's probability there: (N, K+1) each."""

    shares: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray


def area(shares: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The area under curves (N, K+1) over shares (K+1,), by trapezoids -> (N,), in [0, 1]."""
    return trapezoid(probabilities, shares, axis=1)


def deletion_insertion(
    maps: Tensor, X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None, *, parts: int = PARTS
) -> Curves:
    """The probability of class y while the pixels of X are taken away, or shown, in the order of the maps.

    maps: (N, H, W), the highest value first. X: normalized (N, 3, H, W). Deletion replaces pixels of the
    photo by 0, ImageNet's mean colour; insertion replaces pixels of a strongly blurred photo by the photo's.
    The model sees each image 2 (parts + 1) times.
    """
    y = check_targets(X, y)
    N, _, H, W = X.shape
    # Probabilities fall, or rise, within a hundredth of the pixels at either end: steps are smallest there.
    edges = (H * W * (1 - torch.linspace(0, math.pi, parts + 1).cos()) / 2).round().long()
    # Pixels of one value, such as a map's zeros, go in a random order: theirs would be the rows from the top.
    shuffled = torch.randperm(H * W, generator=torch.Generator().manual_seed(0))
    sigma = BLUR * min(H, W)
    radius = math.ceil(2 * sigma)
    curves = np.empty((2, N, parts + 1))
    with frozen_eval(model), torch.no_grad():
        for n in range(N):
            flat = maps[n].detach().cpu().flatten()[shuffled]
            rank = torch.empty(H * W, dtype=torch.long)
            rank[shuffled[flat.argsort(descending=True, stable=True)]] = torch.arange(H * W)
            rank = rank.view(1, 1, H, W).to(X.device)
            # SciPy has no half precision.
            photo = X[n].detach().cpu().to(torch.promote_types(X.dtype, torch.float32)).numpy()
            blurred = gaussian_filter(photo, (0, sigma, sigma), mode="mirror", radius=(0, radius, radius))
            for curve, changed, start in (
                (0, torch.zeros_like(X[n]), X[n]),
                (1, X[n], torch.from_numpy(blurred).to(X)),
            ):
                done = 0
                for some in edges.to(X.device).split(batch_size_for(X)):
                    pictures = torch.where(rank < some.view(-1, 1, 1, 1), changed, start)
                    probability = model(pictures).softmax(dim=1)[:, y[n]]
                    curves[curve, n, done : done + len(some)] = probability.double().cpu()
                    done += len(some)
                    if advance is not None:
                        advance(len(some))
    return Curves(edges.numpy() / (H * W), *curves)


def parameter_layers(model: nn.Module, X: Tensor) -> list[str]:
    """The modules of `model` with parameters of their own, from input to output, as X (N, 3, H, W) meets them.

    A module with parts begins before them, so a class token or positions come first. `nn.MultiheadAttention` uses the
    parameters of its part `out_proj` without calling it.
    """
    owners = {
        name: module
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    }
    met: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: met.append(name))
        for name, module in owners.items()
    ]
    try:
        with frozen_eval(model), torch.no_grad():
            model(X[:1].clone())
    finally:
        for handle in handles:
            handle.remove()
    met = [part for name in met for part in (name, f"{name}.out_proj") if part in owners]
    return list(dict.fromkeys(met))


def reinitialize(module: nn.Module, generator: torch.Generator) -> None:
    """Draws the module's own parameters anew, each tensor from the normal distribution with the mean and the
    deviation of its learned values.

    So what was learned is gone while signals keep their size: common initializations of a layer let many
    units die, and a network without signal gives no map to compare with.
    """
    with torch.no_grad():
        for value in module.parameters(recurse=False):
            fresh = torch.randn(value.shape, generator=generator).to(value)
            value.copy_(fresh * value.std(correction=0) + value.mean())


class Stage(NamedTuple):
    """After `count` layers, from the output down, of `total` were re-initialized: maps (N, H, W), and each
    one's Spearman correlation (N,) with the trained network's map.
    """

    count: int  # type: ignore[assignment]  # hides the method of tuples, which nobody calls
    total: int
    maps: Tensor
    correlations: np.ndarray


def cascade(
    explain: Callable[..., Tensor],
    maps: Tensor,
    X: Tensor,
    y: Tensor,
    model: nn.Module,
    advance: Advance = None,
    *,
    stages: int = STAGES,
    seed: int = 0,
) -> Iterator[Stage]:
    """`explain` of a network whose last 1, 2, ..., all layers have been re-initialized, one after the other.

    maps: (N, H, W), what `explain` says of the trained network. `stages` numbers of layers are looked at: one
    layer, all of them, and numbers between that grow by a constant factor. The model stays as it is, since a
    copy is destroyed in its place.
    """
    copied = copy.deepcopy(model)
    names = parameter_layers(copied, X)[::-1]
    counts = sorted({round(len(names) ** (i / (stages - 1))) for i in range(stages)}) if stages > 1 else [1]
    generator = torch.Generator().manual_seed(seed)
    done = 0
    for count in counts:
        for name in names[done:count]:
            reinitialize(copied.get_submodule(name), generator)
        done = count
        randomized = explain(X, y, copied, advance)
        yield Stage(count, len(names), randomized, spearman(maps, randomized))


def spearman(first: Tensor, second: Tensor) -> np.ndarray:
    """Spearman's rank correlation of maps (N, H, W) with maps (N, H, W) -> (N,), in [-1, 1].

    Pearson's correlation of the values' ranks, equal values sharing the mean of theirs. A map of one value
    orders nothing: its correlation is 0.
    """
    a, b = (rankdata(maps.detach().cpu().double().flatten(1), axis=1) for maps in (first, second))
    middle = (a.shape[1] + 1) / 2
    a, b = a - middle, b - middle
    return (a * b).sum(axis=1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
