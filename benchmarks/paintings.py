"""The painter beside two published programs: the same VGG-16, pictures and processor seconds.

Their losses and optimizers are written out here after their published sources and defaults, and start from the photo:

- neural-style-pt (Johnson's Torch program in PyTorch): one size; squared errors of features and of Gram matrices
  divided by their number of values, with weights 5 and 100; total variation 0.001; L-BFGS.
- style-transfer-pytorch (Crowson): sizes a factor of sqrt(2) apart; squared over absolute error, layers 256:64:16:4:1,
  content 0.015, total variation 2; Adam, carried from size to size; the mean of the latest pictures is the result.

The yardstick is one that none of them optimizes: with SqueezeNet's features, how far means and covariances are from the
painting's. Its price is the distance to the photo: the squared difference of SqueezeNet's features, each position
divided by its length (after Zhang et al., 2018, with equal weights).
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from extras.painter.figures import to_image
from extras.painter.losses import moments, relative_error
from extras.painter.network import FeatureNet, fast_dtype
from extras.painter.optimization import paint, style_size
from extras.painter.pixels import map_size, resize
from extras.painter.schedule import Schedule, scales_of
from extras.painter.settings import settings_for
from helpers.data_utils import open_image
from helpers.figures import Cell, save_grid
from helpers.models import load_features

# The painter's weights were tuned on other pairs.
PAIRS = (
    ("rocket", "stained-glass"),
    ("coffee", "swirl"),
    ("stereo_motorcycle", "waves"),
    ("grace_hopper", "pointillist"),
    ("coffee", "autumn"),
    ("rocket", "discs"),
    ("grace_hopper", "waves"),
    ("stereo_motorcycle", "stained-glass"),
)
SIDE, SECONDS = 256, 20.0  # longer side; processor seconds of a picture
JUDGES = (1, 3, 4, 6, 7, 9, 10, 11, 12)  # children of SqueezeNet
SHEETS = [Path("visualization") / f"paintings_side_by_side_{k}.png" for k in (1, 2)]
FACTOR = 255 * 0.226  # features of neural-style-pt's network, whose images are in 0..255, over ours

Painter = Callable[[FeatureNet, Tensor, Tensor], Tensor]


def picture(name: str) -> Tensor:
    """A bundled image as (1, 3, H, W) in [0, 1], SIDE pixels on its longer side."""
    image = open_image(name, style_size=SIDE)
    image.thumbnail((SIDE, SIDE))
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)[None].contiguous()


def yardstick(judge: FeatureNet, result: Tensor, painting: Tensor, photo: Tensor) -> tuple[float, float]:
    """The distance to the painting, and that to the photo; smaller is nearer."""
    with torch.no_grad():
        found, wanted, start = (list(judge(x).values()) for x in (result, painting, photo))
    style = [
        float(relative_error(a, b).sqrt())
        for x, y in zip(found, wanted, strict=True)
        for a, b in zip(moments(x.double()), moments(y.double()), strict=True)
    ]
    content = [
        float((F.normalize(x, dim=1) - F.normalize(y, dim=1)).square().sum(dim=1).mean())
        for x, y in zip(found, start, strict=True)
    ]
    return sum(style) / len(style), sum(content) / len(content)


def ours(loss: str) -> Painter:
    """`style_transfer.py --method paint --loss ... --budget`, by the processor's clock."""

    def painted(net: FeatureNet, photo: Tensor, painting: Tensor) -> Tensor:
        settings = settings_for(load_features("vgg16", quiet=True), loss=loss)
        clock = time.process_time
        schedule = Schedule(scales_of(map_size(photo)), deadline=clock() + SECONDS, clock=clock)
        *_, last = paint(net, photo, [painting], schedule, settings)
        return resize(last.picture, map_size(photo)).clamp(0, 1)

    return painted


def gram(features: Tensor) -> Tensor:
    """F F^T / M."""
    positions = features[0].flatten(1)
    return (positions @ positions.T).float() / positions.shape[1]


def style_names(net: FeatureNet) -> list[str]:
    return [name for name in net.wanted.values() if name.endswith("_1")]


def beside(painting: Tensor, like: Tensor) -> Tensor:
    """The painting with about as many pixels as `like`."""
    return resize(painting, style_size(*map_size(painting), map_size(like), 1.0)).clamp(0, 1)


def neural_style(net: FeatureNet, photo: Tensor, painting: Tensor) -> Tensor:
    names = style_names(net)
    with torch.no_grad():
        wanted = FACTOR * net(photo)["relu4_2"].float()
        found = net(beside(painting, photo))
        targets = {name: FACTOR**2 * gram(found[name]) / found[name].shape[1] for name in names}
    x = photo.clone().requires_grad_()

    def optimizer(rate: float) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(
            [x], lr=rate, max_iter=1, history_size=100, tolerance_grad=-1, tolerance_change=-1
        )

    descent, end = optimizer(1.0), time.process_time() + SECONDS
    best, lowest = x.detach().clone(), math.inf
    while time.process_time() < end:
        x.grad = None
        found = net(x)
        loss = 5 * F.mse_loss(FACTOR * found["relu4_2"].float(), wanted)
        for name in names:
            matrix = FACTOR**2 * gram(found[name]) / found[name].shape[1]
            loss = loss + 100 * F.mse_loss(matrix, targets[name])
        pixels = 255 * x
        loss = loss + 0.001 * (pixels.diff(dim=2).abs().sum() + pixels.diff(dim=3).abs().sum())
        loss.backward()
        value = loss.item()
        if value < lowest:
            best, lowest = x.detach().clone(), value
        if not value < 3 * lowest:  # a step too long, as happens in half precision
            x.data.copy_(best)
            descent = optimizer(0.5)
            continue
        descent.step(lambda: value)  # noqa: B023  called at once
    return best.clamp(0, 1)


def crowson(net: FeatureNet, photo: Tensor, painting: Tensor) -> Tensor:
    names, longer = style_names(net), max(map_size(photo))
    weights = {name: 4.0 ** (4 - k) / 341 for k, name in enumerate(names)}
    sides = [round(longer / 2 ** (k / 2)) for k in range(20) if longer / 2 ** (k / 2) >= 127.5][::-1]
    height, width = map_size(photo)
    sizes = [(round(side * height / longer), round(side * width / longer)) for side in sides]
    # Twice as many steps at the first size as at each other; a step's time is proportional to its pixels.
    work = [(2 if k == 0 else 1) * math.prod(size) for k, size in enumerate(sizes)]

    def scaled(difference: Tensor) -> Tensor:
        return difference.square().sum() / (difference.abs().sum() + 1e-8)

    result, began, state = photo, time.process_time(), None
    for k, size in enumerate(sizes):
        end = began + SECONDS * sum(work[: k + 1]) / sum(work)
        content = resize(photo, size)
        with torch.no_grad():
            wanted = net(content)["relu4_2"].float().clone()
            found = net(beside(painting, content))
            targets = {name: gram(found[name]) for name in names}
        x = resize(result, size).clamp(0, 1).contiguous().requires_grad_()
        descent = torch.optim.Adam([x], lr=0.02)
        if state:
            moved = {
                key: F.interpolate(state[key], size=size, mode="bilinear")
                for key in ("exp_avg", "exp_avg_sq")
            }
            descent.state[x] = {"step": state["step"], **moved}
        mean, weight = torch.zeros_like(x), 1.0
        while weight == 1.0 or time.process_time() < end:
            found = net(x)
            loss = 0.015 * scaled(found["relu4_2"].float() - wanted)
            for name in names:
                loss = loss + weights[name] * scaled(gram(found[name]) - targets[name])
            padded = F.pad(x, (0, 1, 0, 1), "replicate")
            right, down = padded[..., :-1, :].diff(dim=3), padded[..., :-1].diff(dim=2)
            loss = loss + 2 * (right.square() + down.square()).mean()
            descent.zero_grad()
            loss.backward()
            descent.step()
            with torch.no_grad():
                x.clamp_(0, 1)
                mean, weight = 0.99 * mean + 0.01 * x, 0.99 * weight
        result, state = mean / (1 - weight), descent.state[x]
    return result.detach().clamp(0, 1)


PAINTERS: dict[str, Painter] = {
    "neural-style-pt": neural_style,
    "style-transfer-pytorch": crowson,
    "ours": ours("moments"),
    "ours, transport": ours("transport"),
}


def text() -> str:
    """The section's table, one row per pair and painter; writes the sheets of pictures."""
    judge = FeatureNet(load_features("squeezenet", quiet=True), JUDGES)
    cnn = load_features("vgg16", quiet=True)
    net = FeatureNet(cnn, settings_for(cnn).layers, fast_dtype(torch.device("cpu")))
    lines = ["| photo + painting | painter | distance to the painting | distance to the photo |"]
    lines.append("| --- | --- | ---: | ---: |")
    rows = []
    for content, style in PAIRS:
        photo, painting = picture(content), picture(style)
        cells = [Cell(to_image(photo), content), Cell(to_image(painting), style)]
        for name, painter in PAINTERS.items():
            torch.manual_seed(0)
            result = painter(net, photo, painting)
            to_painting, to_photo = yardstick(judge, result, painting, photo)
            lines.append(f"| {content} + {style} | {name} | {to_painting:.3f} | {to_photo:.3f} |")
            print(lines[-1], flush=True)
            cells.append(Cell(to_image(result), name, f"{to_painting:.2f} / {to_photo:.2f}"))
        rows.append(cells)
    note = (
        f"VGG-16, {SIDE} pixels, {SECONDS:g} processor seconds each. Under each name: distance to the painting / "
        "distance to the photo, both by SqueezeNet; smaller is nearer."
    )
    half = len(rows) // 2
    for sheet, some in zip(SHEETS, (rows[:half], rows[half:]), strict=True):
        save_grid(sheet, some, height=1.9, note=note, metadata={})
    return "\n".join(lines)
