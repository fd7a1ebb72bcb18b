"""Two ways to let a network change or rebuild a photo: feature inversion (Mahendran and Vedaldi, 2015, "Understanding
Deep Image Representations by Inverting Them") and DeepDream (Mordvintsev, Olah and Tyka, 2015).
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extras.synthesis.feature_visualization import pixels, total_variation
from helpers.image_utils import mean_and_std
from visualizers.mechanisms import capture, frozen_eval


def invert(
    X: Tensor,
    model: nn.Module,
    layer: str,
    *,
    num_iterations: int = 200,
    learning_rate: float = 0.1,
    smoothness: float = 0.3,
    seed: int = 0,
) -> Iterator[tuple[Tensor, float]]:
    """What `layer` keeps of a photo: from noise towards min over x of ||Phi(x) - Phi(X)||^2 / ||Phi(X)||^2
    + smoothness * TV(x), where Phi are the maps of the module `layer` and TV is `total_variation`.

    X: one normalized square image (1, 3, S, S). Adam changes the spectrum of x, see `pixels`, with twice the contrast
    of an average photo at most. Yields after each iteration: the image (1, 3, S, S), normalized, and the first term.
    Raises ValueError for a layer that returns no maps.
    """
    mean, std = mean_and_std(X)
    size = X.shape[-1]
    noise = torch.randn(1, 3, size, size // 2 + 1, 2, generator=torch.Generator().manual_seed(seed))
    spectrum = (0.01 * noise).to(X).requires_grad_()
    optimizer = torch.optim.Adam([spectrum], lr=learning_rate)
    with frozen_eval(model), capture({layer: model.get_submodule(layer)}) as maps:
        with torch.no_grad():
            model(X)
            wanted = maps[layer].clone()
        for _ in range(num_iterations):
            x = pixels(spectrum, size, contrast=2)
            image = (x - mean) / std
            model(image)
            error = (maps[layer] - wanted).square().sum() / wanted.square().sum()
            (spectrum.grad,) = torch.autograd.grad(error + smoothness * total_variation(x).sum(), spectrum)
            optimizer.step()
            yield image.detach(), float(error.detach())


def dream(
    X: Tensor,
    model: nn.Module,
    layer: str,
    *,
    num_iterations: int = 20,
    octaves: int = 4,
    learning_rate: float = 0.03,
    max_jitter: int = 16,
    seed: int = 0,
) -> Iterator[Tensor]:
    """More of whatever `layer` sees in a photo: x <- x + learning_rate * g / mean |g|, where g is the gradient of the
    mean of the layer's squared activations, under random shifts of up to max_jitter pixels.

    X: one normalized image (1, 3, H, W). First the photo at a smaller size, then at sizes each 1.4 times as large
    (octaves), with the enlarged change of the one before; so there are large forms and fine ones. Yields after each of
    octaves * num_iterations steps: the image at the size of its octave, normalized. Raises ValueError for a layer that
    returns no maps.
    """
    mean, std = mean_and_std(X)
    low, high = -mean / std, (1 - mean) / std  # pixels 0 and 1
    generator = torch.Generator().manual_seed(seed)
    change = torch.zeros_like(X)
    with frozen_eval(model), capture({layer: model.get_submodule(layer)}) as maps:
        for octave in reversed(range(octaves)):
            sides = [max(32, round(side / 1.4**octave)) for side in X.shape[2:]]
            photo = F.interpolate(X, sides, mode="bilinear", antialias=True)
            x = photo + F.interpolate(change, sides, mode="bilinear")
            for _ in range(num_iterations):
                shift = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
                moved = x.roll(shift, (2, 3)).requires_grad_()
                model(moved)
                (gradient,) = torch.autograd.grad(maps[layer].square().mean(), moved)
                step = learning_rate * gradient / gradient.abs().mean().clamp(min=1e-12)
                x = (moved.detach() + step).roll([-s for s in shift], (2, 3)).clamp(low, high)
                yield x
            change = x - photo
