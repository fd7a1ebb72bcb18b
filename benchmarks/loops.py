"""The assignment's two optimization loops against the same loops as `published` writes them out."""

import functools
import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import style_utils
from benchmarks import published
from benchmarks.maps import as_torchvision_gives_it
from benchmarks.timing import Row, difference, flops_of, in_turns
from helpers import cli
from helpers.data_utils import open_image
from helpers.image_utils import deprocess, preprocess
from helpers.models import load_classifier, load_features, only_classes
from style_modules import ContentLoss, StyleLoss, TotalVariationLoss
from visualizers import ClassVisualization

CLASSES = [366, 130, 292, 604, 985]  # gorilla, flamingo, tiger, hourglass, daisy
ITERATIONS, JITTER, SEED = 25, 16, 0
# The published preset C, on a photo and a drawn style.
CONTENT, STYLE, SIZE = "chelsea", "swirl", 192
SETTINGS: dict[str, Any] = {
    "content_layer": 3,
    "content_weight": 6e-2,
    "style_layers": [1, 4, 6, 7],
    "style_weights": [300000, 1000, 15, 3],
    "tv_weight": 2e-2,
}
STEPS = 200


def rows(_device: str = "cpu") -> Iterator[Row]:
    """Class visualization and style transfer, by the graded files."""
    cli.keep_freed_memory()  # as the scripts do
    # Compared in double precision: over the steps, single precision's rounding grows.
    pictures = (side(10, torch.float64) for side in (class_visualization, published_class_visualization))
    agreement = difference(*pictures)
    times = in_turns(
        {
            "ours": functools.partial(class_visualization, ITERATIONS),
            "published": functools.partial(published_class_visualization, ITERATIONS),
        }
    )
    yield Row(
        f"class visualization, {len(CLASSES)} classes x {ITERATIONS} iterations",
        "the published loop",
        times["ours"],
        times["published"],
        agreement=f"{agreement} after 10 iterations (double precision)",
        flops=flops_of(functools.partial(class_visualization, ITERATIONS)),
    )
    ours, theirs = (torch.tensor(side(torch.float64)) for side in (style_transfer, published_style_transfer))
    worst = float(((ours - theirs) / theirs).abs().max())
    if worst > 1e-6:
        raise ValueError(f"the losses of a step differ by {worst:.1e}: the two sides do not compute the same")
    times = in_turns({"ours": style_transfer, "published": published_style_transfer}, warm_up=1)
    yield Row(
        f"style transfer, {STEPS} steps, {SIZE} pixels",
        "the published loop",
        times["ours"],
        times["published"],
        agreement=f"{worst:.0e} at most in any step's loss (double precision)",
        flops=flops_of(style_transfer),
    )


@functools.cache
def _classifiers() -> tuple[nn.Module, nn.Module]:
    """Ours, and the same as the assignment's users have it, frozen as the assignment says."""
    ours = load_classifier()
    return ours, as_torchvision_gives_it(ours).requires_grad_(False)


def class_visualization(iterations: int, dtype: torch.dtype = torch.float32) -> Tensor:
    pictures = []
    for k in CLASSES:
        narrow, place = only_classes(_classifiers()[0].to(dtype), torch.tensor([k]))
        cli.seed_everything(SEED)
        picture = ClassVisualization().create_class_visualization(
            int(place[0]),
            {int(place[0]): str(k)},
            narrow,
            dtype,
            num_iterations=iterations,
            max_jitter=JITTER,
            generate_plots=False,
        )
        pictures.append(preprocess(picture))
    return torch.cat(pictures)


def published_class_visualization(iterations: int, dtype: torch.dtype = torch.float32) -> Tensor:
    pictures = []
    for k in CLASSES:
        cli.seed_everything(SEED)  # then the same draws as the graded file
        start = torch.randn(1, 3, 224, 224).to(dtype)
        moves = [(random.randint(0, JITTER), random.randint(0, JITTER)) for _ in range(iterations)]
        img = published.class_visualization(_classifiers()[1].to(dtype), k, start, moves)
        pictures.append(preprocess(deprocess(img)))
    return torch.cat(pictures)


class _Recorded(nn.Module):
    """A loss that keeps the values it returned."""

    def __init__(self, loss: Any, values: list[float]) -> None:
        super().__init__()
        self.loss, self.values = loss, values

    def forward(self, *args: Any) -> Tensor:
        value = self.loss(*args)
        self.values.append(float(value.detach()))
        return value

    def gram_matrix(self, features: Tensor) -> Tensor:
        return self.loss.gram_matrix(features)


@functools.cache
def _style_inputs() -> tuple[nn.Module, nn.Sequential, Any, Any]:
    """Our network, the published loop's, content and style."""
    ours = load_features()
    theirs = nn.Sequential(*as_torchvision_gives_it(ours).requires_grad_(False).children())
    return ours, theirs, open_image(CONTENT), open_image(STYLE, style_size=SIZE)


def style_transfer(dtype: torch.dtype = torch.float32) -> list[float]:
    """Every step's loss, by the graded loop."""
    ours, _, content, style = _style_inputs()
    values: tuple[list[float], ...] = ([], [], [])
    kinds: list[type[nn.Module]] = [ContentLoss, StyleLoss, TotalVariationLoss]
    losses = [_Recorded(loss(), kept) for loss, kept in zip(kinds, values, strict=True)]
    style_utils.style_transfer(
        name="benchmark",
        content_image=content,
        style_image=style,
        image_size=SIZE,
        style_size=SIZE,
        content_loss=losses[0],
        style_loss=losses[1],
        tv_loss=losses[2],
        cnn=ours.to(dtype),
        dtype=dtype,
        testing=True,
        **SETTINGS,
    )
    return [sum(terms) for terms in zip(*values, strict=True)]


def published_style_transfer(dtype: torch.dtype = torch.float32) -> list[float]:
    """Every step's loss, by the published loop."""
    _, theirs, content, style = _style_inputs()
    tensors = (preprocess(image, SIZE).to(dtype) for image in (content, style))
    return [loss for _, loss in published.style_transfer(theirs.to(dtype), *tensors, steps=STEPS, **SETTINGS)]
