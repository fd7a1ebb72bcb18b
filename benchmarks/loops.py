"""The two optimization loops against the assignment's, as `published` writes them out."""

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import style_utils
from benchmarks import published
from benchmarks.maps import as_torchvision_gives_it
from benchmarks.timing import Row, difference, flops_of, in_processes
from helpers.data_utils import open_image
from helpers.image_utils import preprocess
from helpers.memory import keep_freed_memory
from helpers.models import load_classifier, load_features
from style_modules import ContentLoss, StyleLoss, TotalVariationLoss
from style_modules.fast_transfer import Schedule, fast_style_transfer
from visualizers.class_ascent import climb

CLASSES = [366, 130, 292, 604, 985]  # gorilla, flamingo, tiger, hourglass, daisy
ITERATIONS, JITTER, SEED = 100, 16, 0
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


def rows() -> Iterator[Row]:
    """Class visualization, and style transfer with the gradients written out and with the graded losses."""
    times = in_processes(
        {
            "ours": functools.partial(class_visualization, ITERATIONS),
            "published": functools.partial(published_class_visualization, ITERATIONS),
        }
    )
    # In double precision: from step to step the rounding of single precision is magnified.
    pictures = (side(10, torch.float64) for side in (class_visualization, published_class_visualization))
    # Both runs also look at the scores of their first and their last pictures: what is left is ten iterations.
    few, more = (flops_of(functools.partial(class_visualization, count)) for count in (2, 12))
    yield Row(
        f"class visualization, {len(CLASSES)} classes x {ITERATIONS} iterations",
        "the published loop, one class after another",
        times["ours"],
        times["published"],
        0.35,
        f"{difference(*pictures)} after 10 iterations (double precision)",
        (more - few) / 10 * ITERATIONS,
    )
    sides = {"--fast": fast, "graded": graded}
    times = in_processes({**sides, "published": published_style_transfer})
    theirs = torch.tensor(published_style_transfer(torch.float64), dtype=torch.float64)
    for name, bar in (("--fast", 0.4), ("graded", None)):
        # In double precision: 200 steps of rate 3 magnify the rounding of single precision beyond any tolerance.
        ours = torch.tensor(sides[name](torch.float64), dtype=torch.float64)
        worst = float(((ours - theirs) / theirs).abs().max())
        if worst > 1e-6:
            raise ValueError(f"the losses of a step differ by {worst:.1e}: a race between different things")
        yield Row(
            f"style transfer, {STEPS} steps, {SIZE} pixels, {name}",
            "the published loop",
            times[name],
            times["published"],
            bar,
            f"{worst:.0e} at most in any step's loss (double precision)",
            flops_of(sides[name]),
        )


@functools.cache
def _classifiers() -> tuple[nn.Module, nn.Module]:
    """Ours, and the same as the assignment's users have it, frozen as the assignment says."""
    ours = load_classifier()
    return ours, as_torchvision_gives_it(ours).requires_grad_(False)


def class_visualization(iterations: int, dtype: torch.dtype = torch.float32) -> Tensor:
    states = climb(
        CLASSES,
        _classifiers()[0].to(dtype),
        num_iterations=iterations,
        show_every=iterations,
        blur_every=10,
        blur_sigma=(0.5, 0.5),
        max_jitter=JITTER,
        seed=SEED,
    )
    return [state for state in states if state is not None][-1].images


def published_class_visualization(iterations: int, dtype: torch.dtype = torch.float32) -> Tensor:
    pictures = []
    for k in CLASSES:
        # What `climb` draws: a class's own noise, the same shifts for all.
        noise = torch.Generator().manual_seed(SEED * 1_000_003 + k)
        start = torch.randn(3, 224, 224, generator=noise)[None]
        shifts = torch.Generator().manual_seed(SEED)
        moves = [torch.randint(0, JITTER + 1, (2,), generator=shifts).tolist() for _ in range(iterations)]
        pictures.append(published.class_visualization(_classifiers()[1].to(dtype), k, start.to(dtype), moves))
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


def fast(dtype: torch.dtype = torch.float32) -> list[float]:
    """Every step's loss."""
    keep_freed_memory()  # as the script does
    cnn, _, content, style = _style_inputs()
    content, style = (preprocess(image, SIZE).to(dtype) for image in (content, style))
    schedule = Schedule.of(style_utils)
    return [loss for _, loss in fast_style_transfer(cnn.to(dtype), content, style, schedule, **SETTINGS)]


def graded(dtype: torch.dtype = torch.float32) -> list[float]:
    """Every step's loss."""
    keep_freed_memory()
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
    _, theirs, content, style = _style_inputs()
    tensors = (preprocess(image, SIZE).to(dtype) for image in (content, style))
    return [loss for _, loss in published.style_transfer(theirs.to(dtype), *tensors, steps=STEPS, **SETTINGS)]
