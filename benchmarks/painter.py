"""The painter against a plain written-out Gatys loop: time of a step, and style loss at equal wall time.

Both sides use the same network, layers, size, targets, loss and optimizer (torch's L-BFGS). The plain loop is
what a reader of the paper writes: float32, the picture as it is, weights frozen, the network cut after the
deepest layer, the Gram matrix as a product that autograd differentiates.
"""

import functools
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import Row, in_turns
from extras.painter.optimization import (
    HISTORY,
    FeatureNet,
    StyleSettings,
    fast_dtype,
    paint,
    resize,
    settings_for,
    style_grams,
)
from extras.painter.schedule import Schedule, scales_of
from helpers.data_utils import open_image
from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD
from helpers.models import load_features

MODELS, SIZE = ("squeezenet", "vgg16"), 512
SECONDS = (15, 30, 60, 120)
BARS = {("squeezenet", torch.bfloat16): 0.5, ("vgg16", torch.bfloat16): 0.55, ("vgg16", torch.float32): 0.9}


def picture(name: str, size: int) -> Tensor:
    image = open_image(name, style_size=size).resize((size, size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float().contiguous() / 255


def plain_steps(cnn: nn.Sequential, content: Tensor, style: Tensor, look: StyleSettings) -> Iterator[Tensor]:
    """Gatys's loop at one size, written out; yields the picture after every step."""
    mean, std = (v.view(1, 3, 1, 1) for v in (SQUEEZENET_MEAN, SQUEEZENET_STD))
    layers = list(cnn)[: max(*look.style_layers, look.content_layer) + 1]

    def features(x: Tensor) -> list[Tensor]:
        found, x = [], (x - mean) / std
        for layer in layers:
            x = layer(x)
            found.append(x)
        return found

    def gram(f: Tensor) -> Tensor:
        f = f.reshape(f.shape[1], -1)
        return f @ f.t() / f.shape[1]

    with torch.no_grad():
        wanted = features(content)[look.content_layer]
        painted = features(style)
        targets = [gram(painted[layer]) for layer in look.style_layers]
    x = content.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [x], max_iter=1, history_size=HISTORY, tolerance_grad=-1, tolerance_change=-1
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = features(x)
        loss = sum(
            ((gram(found[layer]) - target) ** 2).sum() / (target**2).sum() / len(targets)
            for layer, target in zip(look.style_layers, targets, strict=True)
        )
        content_error = ((found[look.content_layer] - wanted) ** 2).sum() / (wanted**2).sum()
        loss = loss + look.content_weight * content_error
        down, right = x[:, :, 1:] - x[:, :, :-1], x[:, :, :, 1:] - x[:, :, :, :-1]
        loss = 1000 * (loss + look.tv_weight * ((down**2).mean() + (right**2).mean()) / 2)
        loss.backward()
        return loss

    while True:
        optimizer.step(closure)
        yield x.detach()


def plain_network(cnn: nn.Sequential) -> nn.Sequential:
    """The network in torch's default memory layout, its ReLUs not in place (a list of features keeps them)."""
    for module in cnn.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return cnn.to(memory_format=torch.contiguous_format)


def our_steps(net: FeatureNet, content: Tensor, style: Tensor, look: StyleSettings) -> Iterator[Tensor]:
    height, width = content.shape[2:]
    schedule = Schedule([(height, width)], [10**9])
    return (progress.picture for progress in paint(net, content, [style], schedule, look))


def rows() -> Iterator[Row]:
    """A step of each network, in bfloat16 where the processor is fast at it, and in float32."""
    for model in MODELS:
        for dtype in dict.fromkeys((fast_dtype(torch.device("cpu")), torch.float32)):
            content, style = picture("chelsea", SIZE), picture("astronaut", SIZE)
            look = settings_for(load_features(model, quiet=True))
            net = FeatureNet(load_features(model), (*look.style_layers, look.content_layer), dtype)
            plain = plain_steps(plain_network(load_features(model)), content, style, look)
            ours = our_steps(net, content, style, look)
            times = in_turns(
                {"ours": functools.partial(next, ours), "plain": functools.partial(next, plain)}, rounds=7
            )
            name = str(dtype).removeprefix("torch.")
            bar = BARS.get((model, dtype))
            yield Row(
                f"painter, a step of {model} at {SIZE} pixels, {name}",
                "the written-out loop",
                times["ours"],
                times["plain"],
                bar,
            )


class AtEqualTime(NamedTuple):
    """Style losses after so many seconds."""

    model: str
    seconds: float
    ours: float
    plain: float


def at_equal_time(seconds: Sequence[float] = SECONDS) -> Iterator[AtEqualTime]:
    """The style loss, in float32 and at the full size, that each side has reached when its time is up."""
    for model in MODELS:
        content, style = picture("chelsea", SIZE), picture("astronaut", SIZE)
        look = settings_for(load_features(model, quiet=True))
        layers = (*look.style_layers, look.content_layer)
        measure = FeatureNet(load_features(model), layers)
        net = FeatureNet(load_features(model), layers, fast_dtype(torch.device("cpu")))
        steps = plain_steps(plain_network(load_features(model)), content, style, look)
        plain, began = content, time.monotonic()
        for limit in sorted(seconds):
            while time.monotonic() - began < limit:
                plain = next(steps).clone()
            torch.manual_seed(0)
            schedule = Schedule(scales_of((SIZE, SIZE)), deadline=(start := time.monotonic()) + limit)
            img = content
            for progress in paint(net, content, [style], schedule, look):
                img = progress.picture
            img = resize(img, (SIZE, SIZE)).clamp(0, 1)
            losses = (style_loss_of(measure, x, style, look) for x in (img, plain.clamp(0, 1)))
            yield AtEqualTime(model, limit, *losses)
            began += time.monotonic() - start  # the plain loop's clock stood still


def style_loss_of(measure: FeatureNet, img: Tensor, style: Tensor, look: StyleSettings) -> float:
    """The style loss, measured by the painter's own network."""
    size = (img.shape[2], img.shape[3])
    with torch.no_grad():
        ours, target = style_grams(measure, img, size, look), style_grams(measure, style, size, look)
    errors = [float((ours[k] - target[k]).square().sum() / target[k].square().sum()) for k in target]
    return sum(errors) / len(errors)
