"""Nineteen ways to ask which pixels a network's score comes from, of one signature, so that they can be compared.

`METHODS` names them. Each is a function (X, y, model, advance=None) -> maps (N, H, W): X normalized images
(N, 3, H, W), y the class to explain in each (N,), `advance` called with the number of images after each batch. Every
model comes back as it went in. Where a method contains a graded technique it calls the graded class.

The techniques that return signed contributions return them channel by channel, (N, 3, H, W).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from extras.attribution.cam import cam_at, fuse, passes_of
from extras.attribution.deeplift import deep_lift
from extras.attribution.perturbation import MASKS, occlusion, rise, windows_of
from helpers.models import working_copy
from visualizers import GradCam, SaliencyMap
from visualizers.mechanisms import (
    Advance,
    batch_size_for,
    check_targets,
    frozen_eval,
    in_batches,
    last_map_layer,
    layer_option,
    scaled_heatmaps,
    spread_layers,
)

SAMPLES = 50  # evaluations per image of the three methods that average over many
# From a batch's number k of samples, (K,), to one image's pictures, (K, 3, H, W).
Neighbours = Callable[[Tensor], Tensor]


def input_gradient(X: Tensor, y: Tensor, model: nn.Module) -> Tensor:
    """d s_y(I) / d I for each image: X (N, 3, H, W), y (N,) -> (N, 3, H, W), signed, in score per normalized pixel."""
    X = X.detach().clone().requires_grad_()
    with frozen_eval(model):
        scores = model(X).gather(1, check_targets(X, y)[:, None])
        return torch.autograd.grad(scores.sum(), X)[0]


def gradient_x_input(X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None) -> Tensor:
    """I * d s_y / d I (Shrikumar et al., 2016): what each pixel would contribute if the network were linear.

    X is normalized, so a pixel of ImageNet's mean colour contributes nothing.
    """
    return X.detach() * in_batches(lambda x, k: input_gradient(x, k, model), X, y, advance)


def smooth_grad(
    X: Tensor,
    y: Tensor,
    model: nn.Module,
    advance: Advance = None,
    *,
    samples: int = SAMPLES,
    noise: float = 0.15,
    seed: int | None = None,
) -> Tensor:
    """1/n sum_k M(I + N(0, sigma^2)), M the saliency map and sigma = noise * (max I - min I) (Smilkov et al., 2017)
    -> (N, H, W).

    Every image gets the same noise, so a map does not depend on which others are computed with it. The noise follows
    from `seed`, by default torch's own.
    """
    return _mean(SaliencyMap().compute_saliency_maps, _noisy(X, noise, seed), samples, X, y, model, advance)


def var_grad(
    X: Tensor,
    y: Tensor,
    model: nn.Module,
    advance: Advance = None,
    *,
    samples: int = SAMPLES,
    noise: float = 0.15,
    seed: int | None = None,
) -> Tensor:
    """1/n sum_k M_k^2 - (1/n sum_k M_k)^2, M_k the saliency maps that `smooth_grad` averages (Adebayo et al., 2018)
    -> (N, H, W): their variance, high where noise changes what matters.
    """

    def moments(x: Tensor, k: Tensor, model: nn.Module) -> Tensor:
        M = SaliencyMap().compute_saliency_maps(x, k, model)
        return torch.stack([M, M**2], dim=1)

    mean, mean_of_squares = _mean(moments, _noisy(X, noise, seed), samples, X, y, model, advance).unbind(1)
    return (mean_of_squares - mean**2).clamp(min=0)  # rounding can make it negative


def _noisy(X: Tensor, noise: float, seed: int | None) -> Callable[[int], Neighbours]:
    """For each image n, the function to its noisy copies: X[n] + N(0, sigma^2), sigma = noise * (max I - min I)."""
    seed = torch.initial_seed() if seed is None else seed
    sigma = noise * (X.amax(dim=(1, 2, 3)) - X.amin(dim=(1, 2, 3)))

    def neighbours(n: int) -> Neighbours:
        generator = torch.Generator().manual_seed(seed)
        return lambda k: X[n] + sigma[n] * torch.randn(len(k), *X.shape[1:], generator=generator).to(X)

    return neighbours


def integrated_gradients(
    X: Tensor,
    y: Tensor,
    model: nn.Module,
    advance: Advance = None,
    *,
    steps: int = SAMPLES,
    baseline: float | Tensor = 0.0,
) -> Tensor:
    """(I - I') * integral over a from 0 to 1 of d s_y / d I at I' + a (I - I') (Sundararajan et al., 2017).

    The integral is the mean over the middles of `steps` equal parts. I' is the baseline, a picture that shows
    nothing: 0, ImageNet's mean colour, or any tensor that broadcasts to an image (3, H, W).
    """
    difference = X.detach() - baseline

    def neighbours(n: int) -> Neighbours:
        return lambda k: X[n] + ((k.to(X) + 0.5) / steps - 1)[:, None, None, None] * difference[n]

    return difference * _mean(input_gradient, neighbours, steps, X, y, model, advance)


def completeness_error(
    attributions: Tensor, X: Tensor, y: Tensor, model: nn.Module, baseline: float | Tensor = 0.0
) -> Tensor:
    """sum of attributions - (s_y(I) - s_y(I')), in score, (N,): 0 for exact Integrated Gradients.

    attributions: of any shape (N, ...). What is left comes from replacing the integral by a sum.
    """

    def scores(x: Tensor, k: Tensor) -> Tensor:
        return model(x)[torch.arange(len(k), device=k.device), k].to(x)

    with frozen_eval(model), torch.no_grad():
        gained = in_batches(scores, X, y) - in_batches(scores, torch.zeros_like(X) + baseline, y)
    return attributions.flatten(1).sum(dim=1) - gained


def _mean(
    technique: Callable[[Tensor, Tensor, nn.Module], Tensor],
    neighbours: Callable[[int], Neighbours],
    count: int,
    X: Tensor,
    y: Tensor,
    model: nn.Module,
    advance: Advance,
) -> Tensor:
    """For each image n, the mean of the technique's results for the `count` pictures neighbours(n)(k)."""
    if count < 1:
        raise ValueError(f"{count} samples: an average needs at least one")
    y = check_targets(X, y)
    means = []
    for n in range(len(X)):
        pictures = neighbours(n)
        sums = []
        for k in torch.arange(count).split(batch_size_for(X)):
            sums.append(technique(pictures(k), y[n].expand(len(k)), model).sum(dim=0))
            if advance is not None:
                advance(len(k))
        means.append(torch.stack(sums).sum(dim=0) / count)
    return torch.stack(means)


def saliency(X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None) -> Tensor:
    """`SaliencyMap.compute_saliency_maps`, a batch at a time -> (N, H, W)."""
    return in_batches(lambda x, k: SaliencyMap().compute_saliency_maps(x, k, model), X, y, advance)


def guided_backprop(X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None) -> Tensor:
    """`GradCam.guided_backprop`, a batch at a time and channels first -> (N, 3, H, W)."""

    # Of a copy of the model: the published way to do it replaces the ReLUs for good.
    guided = in_batches(lambda x, k: GradCam().guided_backprop(x, k, working_copy(model)), X, y, advance)
    return guided.permute(0, 3, 1, 2)


def grad_cam(
    X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None, *, layer: str | None = None
) -> Tensor:
    """`GradCam.grad_cam`, a batch at a time -> (N, H, W) in [0, 1]."""
    at = layer_option(GradCam.grad_cam, layer)
    return in_batches(lambda x, k: GradCam().grad_cam(x, k, model, **at), X, y, advance).to(X.dtype)


def guided_grad_cam(X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None) -> Tensor:
    """Guided backpropagation times the Grad-CAM map, pixel by pixel -> (N, 3, H, W) (Selvaraju et al., 2017)."""
    return guided_backprop(X, y, model, advance) * grad_cam(X, y, model)[:, None]


def class_activation(
    rule: str, layers: Sequence[str] = (), fused: bool = False
) -> Callable[[Tensor, Tensor, nn.Module], Tensor]:
    """The method of this signature that draws one of `cam_at`'s rules at a layer, or several layers fused.

    Without `layers`: the last layer that returns maps, or, fused, four from early to last. The rule grad-cam is the
    graded `GradCam.grad_cam`.
    """

    def explain(X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None) -> Tensor:
        names = layers or (spread_layers(model, X) if fused else [last_map_layer(model, X)])
        if rule == "grad-cam":
            maps = {name: grad_cam(X, y, model, advance, layer=name).numpy() for name in names}
        else:
            maps = cam_at(names, X, y, model, rule, advance)
        return torch.from_numpy(fuse(maps) if fused else maps[names[-1]]).to(X.dtype)

    return explain


class Method(NamedTuple):
    """A technique as the runners and the evaluation see it: explain(X, y, model, advance) -> maps (N, H, W).

    kind: what a map's values are. "size": how much a pixel matters, speckled, never negative. "signed":
    evidence for the class (above 0) and against it (below). "region": where evidence is, smooth, in [0, 1].
    complete: a map's sum is meant to be the score's rise over the baseline.
    passes: how many times the network sees each image; where that depends on them, a function of X and model.
    layers: where the maps are of layers: their names, a function of model and X.
    guided: the gradient of the ReLUs alone is changed, so that `mechanisms.guided_note` belongs to the figure.
    """

    title: str
    explain: Callable[..., Tensor]
    kind: str = "size"
    complete: bool = False
    passes: int | Callable[[Tensor, nn.Module], int] = 1
    layers: Callable[[nn.Module, Tensor], list[str]] | None = None
    guided: bool = False

    def seen(self, X: Tensor, model: nn.Module) -> int:
        """How many images the network sees while the method explains those of X (N, 3, H, W)."""
        return len(X) * (self.passes if isinstance(self.passes, int) else self.passes(X, model))


def last_layer(model: nn.Module, X: Tensor) -> list[str]:
    """The layer at which class activation maps are by default."""
    return [last_map_layer(model, X)]


def layers_note(methods: Sequence[Method], model: nn.Module, X: Tensor) -> str:
    """The sentence of a figure's note that says of which layers its class activation maps are; "" where it has none."""
    places: dict[str, list[str]] = {}
    for method in methods:
        if method.layers:
            places.setdefault(", ".join(method.layers(model, X)), []).append(method.title)
    return " ".join(f"At {place}: {'; '.join(titles)}." for place, titles in places.items())


def _strongest(technique: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # A gradient's sign says in which direction to change a pixel, not whether it speaks for the class: as in
    # a saliency map, the size alone is shown, of the largest of the three channels.
    return lambda *arguments: technique(*arguments).abs().amax(dim=1)


def _summed(technique: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # Contributions to the score add up, so a pixel's is the sum over its channels and keeps its sign.
    return lambda *arguments: technique(*arguments).sum(dim=1)


def _passes(rule: str) -> Callable[[Tensor, nn.Module], int]:
    """The passes of one of `cam.PASSES_PER_MAP` at the default layer."""
    return lambda X, model: passes_of(rule, [last_map_layer(model, X)], X, model)


def stretched(technique: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # RISE shows every pixel in half of its pictures, and attention goes everywhere: the lowest value is far from 0.
    def explain(*arguments: object) -> Tensor:
        maps = technique(*arguments)
        maps = maps - maps.amin(dim=(1, 2), keepdim=True)
        return torch.from_numpy(scaled_heatmaps(maps[:, None], maps.shape[1:])).to(maps)

    return explain


METHODS: dict[str, Method] = {
    "saliency": Method("saliency map", saliency),
    "smoothgrad": Method("SmoothGrad", smooth_grad, passes=SAMPLES),
    "vargrad": Method("VarGrad", var_grad, passes=SAMPLES),
    "gradient-x-input": Method("gradient x input", _summed(gradient_x_input), "signed"),
    "integrated-gradients": Method(
        "Integrated Gradients", _summed(integrated_gradients), "signed", complete=True, passes=SAMPLES
    ),
    "deeplift": Method("DeepLIFT", _summed(deep_lift), "signed", complete=True),
    "guided-backprop": Method("guided backpropagation", _strongest(guided_backprop), guided=True),
    "guided-grad-cam": Method("Guided Grad-CAM", _strongest(guided_grad_cam), layers=last_layer, guided=True),
    "grad-cam": Method("Grad-CAM", grad_cam, "region", layers=last_layer),
    "grad-cam++": Method("Grad-CAM++", class_activation("grad-cam++"), "region", layers=last_layer),
    "xgrad-cam": Method("XGrad-CAM", class_activation("xgrad-cam"), "region", layers=last_layer),
    "hires-cam": Method("HiResCAM", class_activation("hires-cam"), "region", layers=last_layer),
    "layer-cam": Method("LayerCAM", class_activation("layer-cam"), "region", layers=last_layer),
    "fused-layer-cam": Method(
        "LayerCAM, four layers fused",
        class_activation("layer-cam", fused=True),
        "region",
        layers=spread_layers,
    ),
    "eigen-cam": Method("Eigen-CAM, of no class", class_activation("eigen-cam"), "region", layers=last_layer),
    "score-cam": Method(
        "Score-CAM", class_activation("score-cam"), "region", layers=last_layer, passes=_passes("score-cam")
    ),
    "ablation-cam": Method(
        "Ablation-CAM",
        class_activation("ablation-cam"),
        "region",
        layers=last_layer,
        passes=_passes("ablation-cam"),
    ),
    "occlusion": Method("occlusion", occlusion, "signed", passes=lambda X, model: windows_of(X) + 1),
    "rise": Method("RISE", stretched(rise), "region", passes=MASKS),
}
