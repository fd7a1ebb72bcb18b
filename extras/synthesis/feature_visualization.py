"""Feature visualization: pictures that raise the score of a class, or one channel of a layer, as far as they can
(Olah, Mordvintsev and Schubert, 2017, "Feature Visualization").

Gradient ascent on pixels finds high frequencies that excite the network and that no eye can read. Five things
lead to pictures that a person can name:

1. the steps change a spectrum in decorrelated colours instead of pixels (Olah et al., 2017);
2. in every step the network sees the picture shifted, rotated, zoomed and, for classes, mirrored at random
   (Mordvintsev et al., 2015);
3. neither contrast nor colours can spread wider than they do in photographs;
4. the ascent raises s_y^1.1 / ||f||, not s_y: it asks for the direction of the class among the features f, not for more
   of everything. Without the exponent it would be the cosine objective of "caricatures" (Olah et al., 2017; Carter
   et al., 2019, "Activation Atlas"), up to a bias;
5. from coarse to fine: a low-pass filter opens during the ascent, so one object is laid out before there is texture
   (a multi-scale ascent as in DeepDream's octaves, without enlarging).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.image_utils import mean_and_std
from visualizers.mechanisms import capture, frozen_eval, last_map_layer

# How red, green and blue (pixels in [0, 1]) vary together within a photo: the mean of the covariances of the
# six bundled photos (helpers.data_utils.PHOTOS), each as the square that the network sees.
COLOUR_COVARIANCE = torch.tensor(
    [[0.0624, 0.0469, 0.0368], [0.0469, 0.0511, 0.0473], [0.0368, 0.0473, 0.0508]], dtype=torch.float64
)


# The coarsest cut-off, in cycles per pixel: three to four waves across 224 pixels. And over which share of the steps
# it rises.
COARSEST, COARSE_TO_FINE = 0.016, 0.6


class AscentState(NamedTuple):
    """The state after an iteration (from 1): images (N, 3, H, W), normalized; the scores (N,) and probabilities (N,)
    of their classes and the predicted classes (N,), or the means of their channels and None.
    """

    iteration: int
    images: Tensor
    scores: Tensor
    probabilities: Tensor | None
    predicted: Tensor | None = None


def colour_axes(covariance: Tensor = COLOUR_COVARIANCE) -> Tensor:
    """A square root of the colours' covariance, A A^T = covariance, (3, 3).

    Its columns are the principal axes, each as long as its standard deviation, the longest first: light and
    dark, then warm and cold, then green and magenta. Independent coordinates of deviation 1 along these axes give
    the colours of photographs, in which red, green and blue are nearly equal.
    """
    variances, axes = torch.linalg.eigh(covariance)
    return (axes * variances.clamp(min=0).sqrt()).flip(1)


def frequency_scale(size: int) -> Tensor:
    """1 / max(f, 1 / size) for every frequency f of `rfft2`, in cycles per pixel: (size, size//2 + 1).

    The amplitudes of natural pictures fall as 1/f (Field, 1987). Divided by this scale, all coefficients of a
    spectrum have the same size, and one learning rate fits broad shapes and fine detail.
    """
    f = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None])
    return 1 / f.clamp(min=1 / size)


def low_pass(size: int, cutoff: float) -> Tensor:
    """A Butterworth filter of order 6 for the frequencies f of `rfft2`: 1 / sqrt(1 + (f / cutoff)^12),
    (size, size//2 + 1). cutoff: in cycles per pixel.
    """
    f = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None])
    return 1 / (1 + (f / cutoff) ** 12).sqrt()


def cutoff_at(progress: float) -> float:
    """The cut-off of `low_pass` in cycles per pixel, after the share `progress` of the steps: over the first
    COARSE_TO_FINE of them it rises from COARSEST to 1, each step by the same factor; then nothing is filtered.
    """
    return COARSEST ** (1 - progress / COARSE_TO_FINE) if progress < COARSE_TO_FINE else math.inf


def pixels(spectrum: Tensor, size: int, contrast: float = 1.0, cutoff: float = math.inf) -> Tensor:
    """A learned spectrum -> pictures (N, 3, size, size) in (0, 1): x = sigmoid(4 A z'), with
    z = irfft2(spectrum * frequency_scale * low_pass) and z' = contrast * z / max(1, deviation of z), channel by
    channel.

    spectrum: (N, 3, size, size//2 + 1, 2), real and imaginary parts; its three channels are the axes of
    `colour_axes`. A sigmoid's slope at 0 is 1/4: so 4 A z' makes, around grey, pixels of covariance A A^T at
    most.
    """
    scale = (frequency_scale(size) * low_pass(size, cutoff)).to(spectrum)
    z = torch.fft.irfft2(torch.view_as_complex(spectrum) * scale, s=(size, size), norm="ortho")
    # Without this bound the ascent ends in pure red, green, blue, black and white: more contrast always scores higher.
    spread = z.flatten(2).std(dim=2)[:, :, None, None]
    z = contrast * z / spread.clamp(min=1)
    return torch.sigmoid(torch.einsum("ij,njhw->nihw", 4 * colour_axes().to(z), z))


def random_views(
    generators: Sequence[torch.Generator],
    max_shift: float,
    max_rotation: float,
    zoom: tuple[float, float],
    mirror: bool = False,
) -> Tensor:
    """One random view of each picture, as affine maps (N, 2, 3) from positions in the view to positions in the
    picture.

    max_shift: as a fraction of the picture's side; max_rotation: in degrees, in both directions; zoom: the smallest
    and the largest factor (0.5 is half as large); mirror: half of the views are mirrored, left and right. Each picture
    has its own generator, so its views do not depend on which other pictures are drawn.
    """
    u = torch.stack([torch.rand(5, generator=generator) for generator in generators])
    signed = 2 * u - 1
    angle = signed[:, 0] * math.radians(max_rotation)
    shift = 2 * max_shift * signed[:, 1:3]  # a side is 2 long in these coordinates, -1 to 1
    step = 1 / (zoom[0] + (zoom[1] - zoom[0]) * u[:, 3])
    cos, sin = step * angle.cos(), step * angle.sin()
    side = torch.where(u[:, 4] < 0.5, -1, 1) if mirror else 1
    rows = (
        torch.stack([side * cos, -sin, shift[:, 0]], dim=1),
        torch.stack([side * sin, cos, shift[:, 1]], dim=1),
    )
    return torch.stack(rows, dim=1)


def warp(X: Tensor, views: Tensor) -> Tensor:
    """The pictures X (N, C, H, W), normalized, under the affine maps `views` (N, 2, 3); bilinear.

    Outside the picture all values are 0, ImageNet's mean colour. Mirrored edges would count what is at an edge twice,
    and would draw heads across it.
    """
    grid = F.affine_grid(views.to(X), list(X.shape), align_corners=False)
    return F.grid_sample(X, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def similarity(activations: Tensor, variations: int) -> Tensor:
    """How similar the variations of each target are, (N,): the mean cosine between an image's Gram matrix
    G_ij = sum over x, y of a_i(x, y) a_j(x, y) and those of the others of its target.

    activations: (N, K, h, w); `variations` consecutive images belong to the same target.
    """
    a = activations.flatten(2)
    gram = F.normalize((a @ a.transpose(1, 2)).flatten(1), dim=1)
    groups = gram.reshape(-1, variations, gram.shape[1])
    cosines = groups @ groups.transpose(1, 2)
    others = cosines.sum(dim=2) - cosines.diagonal(dim1=1, dim2=2)
    return others.flatten() / max(1, variations - 1)


def total_variation(x: Tensor) -> Tensor:
    """The mean squared difference between neighbours, (N,), summed over channels and both directions; x in [0, 1]."""
    down, right = x.diff(dim=2).square(), x.diff(dim=3).square()
    return down.sum(dim=1).mean(dim=(1, 2)) + right.sum(dim=1).mean(dim=(1, 2))


def class_objective(s: Tensor, f: Tensor, exponent: float = 1.1) -> Tensor:
    """What the ascent to a class maximizes, (N,): exponent * s - sg(s) * log ||f||, where sg stops the gradient.

    s (N,) is the score of the class, f (N, K) the mean of the last feature maps over all positions. The gradient is
    that of log(s^exponent / ||f||) times s: of the size of the score's own gradient, and defined where s is 0, too.
    """
    return exponent * s - s.detach() * f.norm(dim=1).log()


def z_score_objective(s: Tensor, scores: Tensor) -> Tensor:
    """In place of `class_objective` where a network's last features cannot be reached, (N,): s - m - sg(z) * d.

    s (N,) is the score of the class; m and d are the mean and the standard deviation of the scores (N, K) of all
    classes, z = (s - m) / d is the z-score. The gradient is that of z times d: of the size of the score's own.
    """
    m, d = scores.mean(dim=1), scores.std(dim=1)
    return s - m - ((s - m) / d.clamp(min=1e-12)).detach() * d


def visualize(
    targets: Sequence[int],
    model: nn.Module,
    *,
    layer: str | None = None,
    variations: int = 1,
    diversity: float = 0.1,
    num_iterations: int = 256,
    show_every: int = 64,
    size: int = 224,
    learning_rate: float = 0.05,
    direction: bool = True,
    coarse_to_fine: bool = True,
    smoothness: float = 3.0,
    contrast: float = 1.0,
    max_shift: float = 1 / 7,
    max_rotation: float = 12.0,
    zoom: tuple[float, float] | None = None,
    seed: int = 0,
) -> Iterator[AscentState | None]:
    """Gradient ascent to pictures of `targets`: classes, or channels of the module called `layer`.

    For a class y: max s_y^1.1 / ||f||, see `class_objective` (where no layer returns maps, the z-score of s_y, see
    `z_score_objective`), or without `direction` max s_y; from coarse to fine, see `cutoff_at`, or at all frequencies
    from the start. For a channel: the maximum of the mean of its map, at all frequencies. Each unit of
    `total_variation` costs the share `smoothness` of the target's value; each unit of `similarity` between variations
    of one target costs the share `diversity`, where there are maps.

    contrast: relative to photographs, see `pixels`. max_shift, max_rotation, zoom: see `random_views`; the default of
    zoom is 0.4 to 1.2 for classes, whose objects come in all sizes, and 0.9 to 1.1 for channels, whose patterns do
    not. learning_rate: Adam's.

    The pictures come target by target, all variations of the first target first. Every picture has its own noise and
    its own views, seeded by its target and its number among the variations, so it does not depend on which other
    targets are drawn with it. Yields after each iteration: an AscentState for the iterations 1, show_every,
    2 * show_every, ... and the last, else None. Raises IndexError for a class or channel that does not exist,
    ValueError for a layer that returns no maps.
    """
    zoom = zoom or ((0.9, 1.1) if layer else (0.4, 1.2))
    like = next(model.parameters())
    target = torch.tensor(list(targets), device=like.device).repeat_interleave(variations)
    generators = [
        torch.Generator().manual_seed(((seed * 1_000_003 + index) * 1_009 + variation) % 2**63)
        for index in targets
        for variation in range(variations)
    ]
    shape = (3, size, size // 2 + 1, 2)
    spectrum = torch.stack([0.01 * torch.randn(shape, generator=generator) for generator in generators])
    spectrum = spectrum.to(like).requires_grad_()
    mean, std = mean_and_std(like)
    optimizer = torch.optim.Adam([spectrum], lr=learning_rate)

    watched = layer or features_layer(model, torch.zeros(1, 3, size, size).to(like))
    modules = {watched: model.get_submodule(watched)} if watched else {}
    with frozen_eval(model), capture(modules) as maps:

        def values_of(X: Tensor) -> tuple[Tensor, Tensor]:
            """The values of the targets, (N,), and the scores of all classes."""
            scores = model(X.contiguous(memory_format=torch.channels_last))
            if layer:
                return select(maps[layer].mean(dim=(2, 3)), target, "channel"), scores
            return select(scores, target), scores

        for t in range(num_iterations):
            cutoff = cutoff_at(t / num_iterations) if coarse_to_fine and not layer else math.inf
            x = pixels(spectrum, size, contrast, cutoff)
            views = random_views(generators, max_shift, max_rotation, zoom, mirror=layer is None)
            value, scores = values_of(warp((x - mean) / std, views))
            objective = value
            if direction and not layer:
                objective = (
                    class_objective(value, maps[watched].mean(dim=(2, 3)))
                    if watched
                    else z_score_objective(value, scores)
                )
            penalty = smoothness * total_variation(x)
            if variations > 1 and watched:
                penalty = penalty + diversity * similarity(maps[watched], variations)
            # As shares of the value itself, the same weights fit any network, layer and iteration.
            objective = objective - value.detach().abs() * penalty
            (gradient,) = torch.autograd.grad(objective.sum(), spectrum)
            spectrum.grad = -gradient
            optimizer.step()
            if t == 0 or (t + 1) % show_every == 0 or t == num_iterations - 1:
                with torch.no_grad():
                    X = (pixels(spectrum, size, contrast, cutoff) - mean) / std
                    value, scores = values_of(X)
                    probabilities = None if layer else select(scores.softmax(dim=1), target)
                yield AscentState(t + 1, X, value, probabilities, None if layer else scores.argmax(dim=1))
            else:
                yield None


def features_layer(model: nn.Module, X: Tensor) -> str | None:
    """`last_map_layer`, or None where no layer returns maps for X (N, 3, H, W)."""
    try:
        return last_map_layer(model, X)
    except ValueError:
        return None


def select(values: Tensor, index: Tensor, what: str = "class") -> Tensor:
    """values (N, K), index (N,) -> values[n, index[n]], (N,). Raises IndexError, which says `what` the values belong
    to, for an index that is not from 0 to K - 1.
    """
    wrong = index[(index < 0) | (index >= values.shape[1])]
    if len(wrong):
        raise IndexError(f"{what} {int(wrong[0])} does not exist: there are 0 to {values.shape[1] - 1}")
    return values.gather(1, index[:, None]).squeeze(1)
