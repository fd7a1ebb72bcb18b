"""The painter against a plain written-out Gatys loop: the time of a step.

Both sides use the same network, layers, size, targets, loss and optimizer (torch's L-BFGS). The plain loop is
what a reader of the paper writes: float32, the picture as it is, weights frozen, the network cut after the
deepest layer, the Gram matrix as a product that autograd differentiates.
"""

import functools
from collections.abc import Iterator

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
    settings_for,
)
from extras.painter.schedule import Schedule
from helpers.data_utils import open_image
from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD
from helpers.models import load_features

MODELS, SIZE = ("squeezenet", "vgg16"), 512
BARS = {torch.bfloat16: 0.35, torch.float32: 0.6}


def picture(name: str, size: int) -> Tensor:
    image = open_image(name, style_size=size).resize((size, size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float().contiguous() / 255


def plain_steps(
    cnn: nn.Sequential, content: Tensor, style: Tensor, settings: StyleSettings
) -> Iterator[Tensor]:
    """Gatys's loop at one size, written out; yields the picture after every step."""
    mean, std = (torch.as_tensor(v).view(1, 3, 1, 1) for v in (SQUEEZENET_MEAN, SQUEEZENET_STD))
    layers = list(cnn)[: max(*settings.style_layers, settings.content_layer) + 1]

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
        wanted = features(content)[settings.content_layer]
        painted = features(style)
        targets = [gram(painted[layer]) for layer in settings.style_layers]
    x = content.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [x], max_iter=1, history_size=HISTORY, tolerance_grad=-1, tolerance_change=-1
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = features(x)
        loss = sum(
            ((gram(found[layer]) - target) ** 2).sum() / (target**2).sum() / len(targets)
            for layer, target in zip(settings.style_layers, targets, strict=True)
        )
        content_error = ((found[settings.content_layer] - wanted) ** 2).sum() / (wanted**2).sum()
        loss = loss + settings.content_weight * content_error
        down, right = x[:, :, 1:] - x[:, :, :-1], x[:, :, :, 1:] - x[:, :, :, :-1]
        loss = 1000 * (loss + settings.tv_weight * ((down**2).mean() + (right**2).mean()) / 2)
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


def our_steps(net: FeatureNet, content: Tensor, style: Tensor, settings: StyleSettings) -> Iterator[Tensor]:
    height, width = content.shape[2:]
    schedule = Schedule([(height, width)], [10**9])
    return (progress.picture for progress in paint(net, content, [style], schedule, settings))


def rows(_device: str = "cpu") -> Iterator[Row]:
    """A step of each network, in bfloat16 where the processor is fast at it, and in float32."""
    for model in MODELS:
        for dtype in dict.fromkeys((fast_dtype(torch.device("cpu")), torch.float32)):
            content, style = picture("chelsea", SIZE), picture("astronaut", SIZE)
            settings = settings_for(load_features(model, quiet=True))
            net = FeatureNet(load_features(model), (*settings.style_layers, settings.content_layer), dtype)
            plain = plain_steps(plain_network(load_features(model)), content, style, settings)
            ours = our_steps(net, content, style, settings)
            times = in_turns({"ours": functools.partial(next, ours), "plain": functools.partial(next, plain)})
            name = str(dtype).removeprefix("torch.")
            bar = BARS[dtype]
            yield Row(
                f"painter, a step of {model} at {SIZE} pixels, {name}",
                "the written-out loop",
                times["ours"],
                times["plain"],
                bar,
            )
