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
from benchmarks.timing import Row, difference, race
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
    for work, ours, theirs in (
        (
            f"class visualization, {len(CLASSES)} classes x {ITERATIONS} iterations",
            class_visualization,
            published_class_visualization,
        ),
        (f"style transfer, {STEPS} steps, {SIZE} pixels", style_transfer, published_style_transfer),
    ):
        # Compared in double precision: over the steps, single precision's rounding grows.
        agreement = f"{difference(ours(torch.float64), theirs(torch.float64))} (double precision)"
        rival = "the published loop"
        yield from race(work, ours, {rival: theirs}, {}, {rival: agreement})


@functools.cache
def _classifiers() -> tuple[nn.Module, nn.Module]:
    """Ours, and the same as the assignment's users have it, frozen as the assignment says."""
    ours = load_classifier()
    return ours, as_torchvision_gives_it(ours).requires_grad_(False)


def class_visualization(dtype: torch.dtype = torch.float32) -> Tensor:
    """The pictures of CLASSES, normalized, by the graded loop."""
    pictures = []
    for k in CLASSES:
        narrow, place = only_classes(_classifiers()[0].to(dtype), torch.tensor([k]))
        cli.seed_everything(SEED)
        picture = ClassVisualization().create_class_visualization(
            int(place[0]),
            {int(place[0]): str(k)},
            narrow,
            dtype,
            num_iterations=ITERATIONS,
            max_jitter=JITTER,
            generate_plots=False,
        )
        pictures.append(preprocess(picture))
    return torch.cat(pictures)


def published_class_visualization(dtype: torch.dtype = torch.float32) -> Tensor:
    """The same pictures by the published loop."""
    pictures = []
    for k in CLASSES:
        cli.seed_everything(SEED)  # then the same draws as the graded file
        start = torch.randn(1, 3, 224, 224).to(dtype)
        moves = [(random.randint(0, JITTER), random.randint(0, JITTER)) for _ in range(ITERATIONS)]
        img = published.class_visualization(_classifiers()[1].to(dtype), k, start, moves)
        pictures.append(preprocess(deprocess(img)))
    return torch.cat(pictures)


@functools.cache
def _style_inputs() -> tuple[nn.Module, nn.Sequential, Any, Any]:
    """Our network, the published loop's, content and style."""
    ours = load_features()
    theirs = nn.Sequential(*as_torchvision_gives_it(ours).requires_grad_(False).children())
    return ours, theirs, open_image(CONTENT), open_image(STYLE, style_size=SIZE)


def style_transfer(dtype: torch.dtype = torch.float32) -> Tensor:
    """The picture, normalized, by the graded loop."""
    ours, _, content, style = _style_inputs()
    return style_utils.style_transfer(  # type: ignore[return-value]  # with `testing` it is a tensor
        name="benchmark",
        content_image=content,
        style_image=style,
        image_size=SIZE,
        style_size=SIZE,
        content_loss=ContentLoss(),
        style_loss=StyleLoss(),
        tv_loss=TotalVariationLoss(),
        cnn=ours.to(dtype),
        dtype=dtype,
        testing=True,
        **SETTINGS,
    )


def published_style_transfer(dtype: torch.dtype = torch.float32) -> Tensor:
    """The same picture by the published loop."""
    _, theirs, content, style = _style_inputs()
    tensors = (preprocess(image, SIZE).to(dtype) for image in (content, style))
    *_, (picture, _) = published.style_transfer(theirs.to(dtype), *tensors, steps=STEPS, **SETTINGS)
    return picture
