"""The painter against a plain written-out Gatys loop: the time of a step.

Both sides use the same network, layers, size, targets, loss and optimizer (torch's L-BFGS). The plain loop is
what a reader of the paper writes: float32, the picture as it is, weights frozen, the network cut after the
deepest layer, the covariance as a product that autograd differentiates. Each side has a process of its own, because
the painter's command sets how the C library keeps memory for the whole process.
"""

import functools
from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.maps import not_in_place
from benchmarks.published import all_features
from benchmarks.timing import Row, Side, in_turns, process_of
from extras.painter.losses import layer_weights
from extras.painter.network import HISTORY, FeatureNet, fast_dtype
from extras.painter.optimization import paint
from extras.painter.schedule import Schedule
from extras.painter.settings import StyleSettings, settings_for
from helpers import cli
from helpers.data_utils import open_image
from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD
from helpers.models import load_features

MODELS, SIZE = ("squeezenet", "vgg16"), 512
BARS = {torch.bfloat16: 0.35, torch.float32: 0.6}


def picture(name: str, size: int) -> Tensor:
    image = open_image(name, style_size=size).resize((size, size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float().contiguous() / 255


def mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """(1, C, H, W) -> (C,), (C, C), as autograd differentiates them."""
    positions = features[0].flatten(1)
    mean = positions.mean(dim=1, keepdim=True)
    centred = positions - mean
    return mean, centred @ centred.T / positions.shape[1]


def plain_steps(
    cnn: nn.Sequential, content: Tensor, style: Tensor, settings: StyleSettings
) -> Iterator[Tensor]:
    """Gatys's loop at one size, written out; yields the picture after every step."""
    mean, std = (torch.as_tensor(v).view(1, 3, 1, 1) for v in (SQUEEZENET_MEAN, SQUEEZENET_STD))
    layers = cnn[: max(settings.layers) + 1]
    with torch.no_grad():
        wanted = all_features((content - mean) / std, layers)
        painted = all_features((style - mean) / std, layers)
        targets = [mean_and_covariance(painted[layer]) for layer in settings.style_layers]
        norms = {
            layer: max((wanted[layer] ** 2).sum(), (painted[layer] ** 2).sum())
            for layer in settings.content_layers
        }
    x = content.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [x], max_iter=1, history_size=HISTORY, tolerance_grad=-1, tolerance_change=-1
    )
    weights = layer_weights(len(targets))

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = all_features((x - mean) / std, layers)
        loss = torch.zeros(())
        for layer, target, weight in zip(settings.style_layers, targets, weights, strict=True):
            for value, goal in zip(mean_and_covariance(found[layer]), target, strict=True):
                loss = loss + weight / 2 * (value - goal).norm() / goal.norm()
        for layer, weight in settings.content_layers.items():
            loss = loss + weight * ((found[layer] - wanted[layer]) ** 2).sum() / norms[layer]
        down, right = x[:, :, 1:] - x[:, :, :-1], x[:, :, :, 1:] - x[:, :, :, :-1]
        loss = 1000 * (loss + settings.tv_weight * ((down**2).mean() + (right**2).mean()) / 2)
        loss.backward()
        return loss

    while True:
        optimizer.step(closure)
        yield x.detach()


def rows(_device: str = "cpu") -> Iterator[Row]:
    """A step of each network, in bfloat16 where the processor is fast at it, and in float32."""
    for model in MODELS:
        for dtype in dict.fromkeys((fast_dtype(torch.device("cpu")), torch.float32)):
            with process_of(our_steps, model, dtype) as ours, process_of(their_steps, model) as theirs:
                times = in_turns({"ours": ours("step"), "plain": theirs("step")})
            name = f"painter, a step of {model} at {SIZE} pixels, {str(dtype).removeprefix('torch.')}"
            yield Row(name, "the written-out loop", times["ours"], times["plain"], BARS[dtype])


def our_steps(model: str, dtype: torch.dtype) -> dict[str, Side]:
    cli.keep_freed_memory()  # as the command does
    cnn = load_features(model, quiet=True)
    settings = settings_for(cnn)
    net = FeatureNet(cnn, settings.layers, dtype)
    content, style = pictures()
    steps = paint(net, content, [style], Schedule([(SIZE, SIZE)], [10**9]), settings)
    return {"step": functools.partial(next, steps)}


def their_steps(model: str) -> dict[str, Side]:
    cnn = load_features(model, quiet=True)
    plain_cnn = cast(nn.Sequential, not_in_place(cnn).to(memory_format=torch.contiguous_format))
    return {"step": functools.partial(next, plain_steps(plain_cnn, *pictures(), settings_for(cnn)))}


def pictures() -> tuple[Tensor, Tensor]:
    return picture("chelsea", SIZE), picture("astronaut", SIZE)
