#!/usr/bin/env python3
"""The painter against a plain written-out Gatys loop: time of a step, and style loss at equal wall time.

    PYTHONPATH=. python benchmarks/style_step.py                       # steps, both networks, 512 pixels
    PYTHONPATH=. python benchmarks/style_step.py --wall 15 30 60 120   # style loss after as many seconds

Both sides use the same network, layers, size, targets, loss and optimizer (torch's L-BFGS). The plain loop is
what a reader of the paper writes: float32, the picture as it is, weights frozen, the network cut after the
deepest layer, the Gram matrix as a product that autograd differentiates. Steps are timed in turns, so that
other work on the machine slows both alike; the ratio of the medians counts.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from helpers.data_utils import open_image
from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD
from helpers.models import load_features
from style_modules.painter import (
    HISTORY,
    FeatureNet,
    Look,
    fast_dtype,
    look_of,
    paint,
    style_grams,
)
from style_modules.plan import Schedule, scales_of


def picture(name: str, size: int) -> Tensor:
    import numpy as np

    image = open_image(name, style_size=size).resize((size, size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float().contiguous() / 255


def plain_steps(cnn: nn.Sequential, content: Tensor, style: Tensor, look: Look) -> Iterator[Tensor]:
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


def our_steps(net: FeatureNet, content: Tensor, style: Tensor, look: Look) -> Iterator[Tensor]:
    height, width = content.shape[2:]
    schedule = Schedule([(height, width)], [10**9])
    return (progress.picture for progress in paint(net, content, [style], schedule, look))


def compare_steps(model: str, size: int, rounds: int, dtype: torch.dtype) -> None:
    content, style = picture("chelsea", size), picture("astronaut", size)
    look = look_of(load_features(model))
    net = FeatureNet(load_features(model), (*look.style_layers, look.content_layer), dtype)
    sides = {
        "plain": plain_steps(plain_network(load_features(model)), content, style, look),
        "ours": our_steps(net, content, style, look),
    }
    wall: dict[str, list[float]] = {name: [] for name in sides}
    processor: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 2):
        for name, steps in sides.items():
            began, cpu = time.perf_counter(), time.process_time()
            next(steps)
            if turn >= 2:  # targets, memory and the optimizer's history have settled
                wall[name].append(time.perf_counter() - began)
                processor[name].append(time.process_time() - cpu)
    for kind, times in (("wall", wall), ("processor", processor)):
        plain, ours = (statistics.median(times[name]) for name in sides)
        label = f"{model} {size} px {str(dtype).removeprefix('torch.')}, {kind} time of a step"
        print(f"{label:58} plain {plain:7.3f} s   ours {ours:7.3f} s   ratio {ours / plain:.2f}", flush=True)


def style_loss_of(measure: FeatureNet, img: Tensor, style: Tensor, look: Look) -> float:
    """The style loss in float32, with the painter's own network, at the full size."""
    height, width = img.shape[2:]
    size = height, width
    with torch.no_grad():
        ours, target = style_grams(measure, img, size, look), style_grams(measure, style, size, look)
    errors = [float((ours[k] - target[k]).square().sum() / target[k].square().sum()) for k in target]
    return sum(errors) / len(errors)


def compare_at_equal_time(model: str, size: int, seconds: float, dtype: torch.dtype) -> None:
    content, style = picture("chelsea", size), picture("astronaut", size)
    look = look_of(load_features(model))
    layers = (*look.style_layers, look.content_layer)
    measure = FeatureNet(load_features(model), layers)
    net = FeatureNet(load_features(model), layers, dtype)
    plain = plain_steps(plain_network(load_features(model)), content, style, look)
    plain_img = last_before(seconds, lambda: next(plain))
    schedule = Schedule(scales_of((size, size)), deadline=time.monotonic() + seconds)
    for progress in paint(net, content, [style], schedule, look):
        img = progress.picture
    img = nn.functional.interpolate(img, size=(size, size), mode="bicubic").clamp(0, 1)
    losses = [style_loss_of(measure, x, style, look) for x in (plain_img.clamp(0, 1), img)]
    print(
        f"{model} {size} px after {seconds:4.0f} s: style loss plain {losses[0]:.4f}, ours {losses[1]:.4f}",
        flush=True,
    )


def last_before(seconds: float, step: Callable[[], Tensor]) -> Tensor:
    end = time.monotonic() + seconds
    img = step()
    while time.monotonic() < end:
        img = step()
    return img


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["squeezenet", "vgg16"])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7, help="steps of each side that count")
    parser.add_argument("--float32", action="store_true", help="leave bfloat16 out")
    parser.add_argument("--wall", type=float, nargs="+", help="compare style losses after so many seconds")
    args = parser.parse_args()
    dtype = torch.float32 if args.float32 else fast_dtype(torch.device("cpu"))
    for model in args.models:
        if args.wall:
            for seconds in args.wall:
                compare_at_equal_time(model, args.size, seconds, dtype)
        else:
            compare_steps(model, args.size, args.rounds, dtype)


if __name__ == "__main__":
    main()
