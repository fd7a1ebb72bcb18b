"""Eleven ways to ask which pixels a network's score comes from, of one signature, so that they can be compared.

`METHODS` names them. Each is a function (X, y, model, advance=None) -> maps (N, H, W): X normalized images
(N, 3, H, W), y the class to explain in each (N,), `advance` told after each chunk how many images the network
has seen. Every model comes back as it went in.

The techniques themselves return what their papers define, one number for each colour channel: (N, 3, H, W).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from visualizers.gradcam import GradCam
from visualizers.layer_gradcam import fuse, grad_cam_at, spread_layers
from visualizers.mechanisms import (
    Advance,
    chunk_of,
    class_scores,
    in_chunks,
    input_gradient,
    last_map_layer,
    one_class_each,
    untouched,
)
from visualizers.saliency_map import SaliencyMap

STEPS = 50  # evaluations for each image of the two methods that average gradients


def gradient_x_input(X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None) -> Tensor:
    """I * d s_y / d I (Shrikumar et al., 2016): what each pixel would contribute if the network were linear.

    X is normalized, so a pixel of ImageNet's mean colour contributes nothing.
    """
    with untouched(model):
        return X.detach() * in_chunks(lambda x, k: input_gradient(model, x, k), X, y, advance)


def smooth_grad(
    X: Tensor,
    y: Tensor,
    model: nn.Module,
    advance: Advance = None,
    *,
    samples: int = STEPS,
    noise: float = 0.15,
    seed: int | None = None,
) -> Tensor:
    """1/n sum_k d s_y / d I at I + N(0, sigma^2), sigma = noise * (max I - min I) (Smilkov et al., 2017).

    Every image meets the same draws, so a map does not depend on which others are computed with it. They
    follow from `seed`, by default torch's own.
    """
    seed = torch.initial_seed() if seed is None else seed
    sigma = noise * (X.amax(dim=(1, 2, 3)) - X.amin(dim=(1, 2, 3)))

    def nearby(n: int) -> Callable[[Tensor], Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return lambda k: X[n] + sigma[n] * torch.randn(len(k), *X.shape[1:], generator=generator).to(X)

    return _mean_gradient(nearby, samples, X, y, model, advance)


def integrated_gradients(
    X: Tensor,
    y: Tensor,
    model: nn.Module,
    advance: Advance = None,
    *,
    steps: int = STEPS,
    baseline: float | Tensor = 0.0,
) -> Tensor:
    """(I - I') * integral over a from 0 to 1 of d s_y / d I at I' + a (I - I') (Sundararajan et al., 2017).

    The integral is the mean over the middles of `steps` equal parts. I' is the baseline, a picture that shows
    nothing: 0, ImageNet's mean colour, or any tensor that broadcasts to an image (3, H, W).
    """
    difference = X.detach() - baseline

    def nearby(n: int) -> Callable[[Tensor], Tensor]:
        return lambda k: X[n] + ((k.to(X) + 0.5) / steps - 1)[:, None, None, None] * difference[n]

    return difference * _mean_gradient(nearby, steps, X, y, model, advance)


def completeness_error(
    attributions: Tensor, X: Tensor, y: Tensor, model: nn.Module, baseline: float | Tensor = 0.0
) -> Tensor:
    """sum of attributions - (s_y(I) - s_y(I')), in score, (N,): 0 for exact Integrated Gradients.

    attributions: of any shape (N, ...). What is left comes from replacing the integral by a sum.
    """
    with untouched(model), torch.no_grad():
        scores = in_chunks(lambda x, k: class_scores(model, x, k), X, y)
        start = in_chunks(lambda x, k: class_scores(model, x, k), torch.zeros_like(X) + baseline, y)
    return attributions.flatten(1).sum(dim=1) - (scores - start)


def _mean_gradient(
    nearby: Callable[[int], Callable[[Tensor], Tensor]],
    count: int,
    X: Tensor,
    y: Tensor,
    model: nn.Module,
    advance: Advance,
) -> Tensor:
    """The mean of d s_y / d I over the `count` pictures nearby(n)(k), k = 0..count-1, for each image n."""
    if count < 1:
        raise ValueError(f"{count} evaluations: an average needs at least one")
    y = one_class_each(X, y)
    means = []
    with untouched(model):
        for n in range(len(X)):
            pictures = nearby(n)
            total = torch.zeros_like(X[n])
            for k in torch.arange(count).split(chunk_of(X)):
                total += input_gradient(model, pictures(k), y[n].expand(len(k))).sum(dim=0)
                if advance is not None:
                    advance(len(k))
            means.append(total / count)
    return torch.stack(means)


def saliency(X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None) -> Tensor:
    """`SaliencyMap.compute_saliency_maps`, a chunk at a time -> (N, H, W)."""
    return in_chunks(lambda x, k: SaliencyMap().compute_saliency_maps(x, k, model), X, y, advance)


def guided_backprop(X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None) -> Tensor:
    """`GradCam.guided_backprop`, a chunk at a time and channels first -> (N, 3, H, W)."""
    guided = in_chunks(lambda x, k: torch.from_numpy(GradCam().guided_backprop(x, k, model)), X, y, advance)
    return guided.permute(0, 3, 1, 2)


def grad_cam(X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None) -> Tensor:
    """`GradCam.grad_cam`, a chunk at a time -> (N, H, W) in [0, 1]."""
    return in_chunks(lambda x, k: torch.from_numpy(GradCam().grad_cam(x, k, model)), X, y, advance)


def guided_grad_cam(X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None) -> Tensor:
    """Guided backpropagation times the Grad-CAM map, pixel by pixel -> (N, 3, H, W) (Selvaraju et al., 2017)."""
    return guided_backprop(X, y, model, advance) * grad_cam(X, y, model)[:, None]


def cam(
    rule: str, layers: Sequence[str] = (), fused: bool = False
) -> Callable[[Tensor, Tensor, nn.Module], Tensor]:
    """The method of this signature that draws one of `layer_gradcam.RULES` at a layer, or several fused.

    Without `layers`: the last layer that returns maps, or, fused, four from early to last.
    """

    def explain(X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None) -> Tensor:
        names = layers or (spread_layers(model, X) if fused else [last_map_layer(model, X)])
        maps = grad_cam_at(names, X, y, model, rule, advance)
        return torch.from_numpy(fuse(maps) if fused else maps[names[-1]])

    return explain


class Method(NamedTuple):
    """A technique as the runners and the trust checks see it: explain(X, y, model, advance) -> maps (N, H, W).

    kind: what a map's values are. "size": how much a pixel matters, speckled, never negative. "signed":
    evidence for the class (above 0) and against it (below). "region": where evidence is, smooth, in [0, 1].
    complete: a map's sum is meant to be the score's rise over the baseline.
    passes: how many times the network sees each image.
    """

    title: str
    explain: Callable[..., Tensor]
    kind: str = "size"
    complete: bool = False
    passes: int = 1


def _strongest(technique: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # A gradient's sign says in which direction to change a pixel, not whether it speaks for the class: as in
    # a saliency map, the size alone is shown, of the largest of the three channels.
    return lambda *arguments: technique(*arguments).abs().amax(dim=1)


def _summed(technique: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # Contributions to the score add up, so a pixel's is the sum over its channels and keeps its sign.
    return lambda *arguments: technique(*arguments).sum(dim=1)


METHODS: dict[str, Method] = {
    "saliency": Method("saliency map", saliency),
    "smoothgrad": Method("SmoothGrad", _strongest(smooth_grad), passes=STEPS),
    "gradient-x-input": Method("gradient x input", _summed(gradient_x_input), "signed"),
    "integrated-gradients": Method(
        "Integrated Gradients", _summed(integrated_gradients), "signed", complete=True, passes=STEPS
    ),
    "guided-backprop": Method("guided backpropagation", _strongest(guided_backprop)),
    "guided-grad-cam": Method("Guided Grad-CAM", _strongest(guided_grad_cam)),
    "grad-cam": Method("Grad-CAM", grad_cam, "region"),
    "grad-cam++": Method("Grad-CAM++", cam("grad-cam++"), "region"),
    "hires-cam": Method("HiResCAM", cam("hires-cam"), "region"),
    "layer-cam": Method("LayerCAM", cam("layer-cam"), "region"),
    "fused-layer-cam": Method("LayerCAM, four layers fused", cam("layer-cam", fused=True), "region"),
}
