"""The two optimization loops against the assignment's, as `published` writes them out."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import style_utils
from benchmarks import published
from benchmarks.maps import as_torchvision_gives_it
from benchmarks.timing import Row, difference, flops_of, in_turns
from helpers.data_utils import open_image
from helpers.image_utils import preprocess
from helpers.memory import keep_freed_memory
from helpers.models import load_classifier, load_features
from style_modules import ContentLoss, StyleLoss, TotalVariationLoss
from style_modules.fast_style_loss import FastStyleLoss
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
    """Class visualization and style transfer: with the allocator as it comes, then as the four scripts set it, for
    both sides.
    """
    yield from _class_visualization()
    yield from _style_transfer()
    keep_freed_memory()
    for row in (*_class_visualization(), *_style_transfer()):
        yield replace(row, work=f"{row.work}, freed memory kept", bar=None)


def _class_visualization() -> Iterator[Row]:
    ours = load_classifier()
    theirs = as_torchvision_gives_it(ours).requires_grad_(False)  # as the assignment says

    def batch(iterations: int, dtype: torch.dtype = torch.float32) -> Tensor:
        states = climb(
            CLASSES,
            ours.to(dtype),
            num_iterations=iterations,
            show_every=iterations,
            blur_every=10,
            blur_sigma=(0.5, 0.5),
            max_jitter=JITTER,
            seed=SEED,
        )
        return [state for state in states if state is not None][-1].images

    def one_by_one(iterations: int, dtype: torch.dtype = torch.float32) -> Tensor:
        pictures = []
        for k in CLASSES:
            # What `climb` draws: a class's own noise, the same shifts for all.
            noise = torch.Generator().manual_seed(SEED * 1_000_003 + k)
            start = torch.randn(3, 224, 224, generator=noise)[None]
            shifts = torch.Generator().manual_seed(SEED)
            moves = [torch.randint(0, JITTER + 1, (2,), generator=shifts).tolist() for _ in range(iterations)]
            pictures.append(published.class_visualization(theirs.to(dtype), k, start.to(dtype), moves))
        return torch.cat(pictures)

    times = in_turns({"ours": lambda: batch(ITERATIONS), "published": lambda: one_by_one(ITERATIONS)}, 3, 1)
    # In double precision: from step to step the rounding of single precision is magnified.
    same = difference(batch(10, torch.float64), one_by_one(10, torch.float64))
    # Both also look at the scores of their first and their last pictures: the difference is ten iterations alone.
    flops = (flops_of(lambda: batch(12)) - flops_of(lambda: batch(2))) / 10 * ITERATIONS
    yield Row(
        f"class visualization, {len(CLASSES)} classes x {ITERATIONS} iterations",
        "the published loop, one class after another",
        times["ours"],
        times["published"],
        0.35,
        f"{same} after 10 iterations (double precision)",
        flops,
    )


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


def _style_transfer() -> Iterator[Row]:
    ours = load_features()
    theirs = nn.Sequential(*as_torchvision_gives_it(ours).requires_grad_(False).children())
    content, style = open_image(CONTENT), open_image(STYLE, style_size=SIZE)
    tensors = [preprocess(image, SIZE) for image in (content, style)]

    def paint(
        style_loss: nn.Module,
        dtype: torch.dtype = torch.float32,
        values: tuple[list[float], ...] = ([], [], []),
    ) -> object:
        losses = [
            _Recorded(loss, kept)
            for loss, kept in zip((ContentLoss(), style_loss, TotalVariationLoss()), values, strict=True)
        ]
        return style_utils.style_transfer(
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

    def plain(dtype: torch.dtype = torch.float32) -> list[float]:
        cnn = theirs.to(dtype)
        steps = published.style_transfer(cnn, *(t.to(dtype) for t in tensors), steps=STEPS, **SETTINGS)
        return [loss for _, loss in steps]

    times = in_turns(
        {
            "--fast": lambda: paint(FastStyleLoss()),
            "graded": lambda: paint(StyleLoss()),
            "published": plain,
        },
        3,
        1,
    )
    for name, loss, bar in (("--fast", FastStyleLoss(), 0.4), ("graded", StyleLoss(), None)):
        # In double precision: 200 steps of rate 3 magnify the rounding of single precision beyond any tolerance.
        values: tuple[list[float], ...] = ([], [], [])
        paint(loss, torch.float64, values)
        ours_by_step = torch.tensor(values, dtype=torch.float64).sum(dim=0)
        theirs_by_step = torch.tensor(plain(torch.float64), dtype=torch.float64)
        worst = float(((ours_by_step - theirs_by_step) / theirs_by_step).abs().max())
        if worst > 1e-6:
            raise ValueError(f"the losses of a step differ by {worst:.1e}: a race between different things")
        yield Row(
            f"style transfer, {STEPS} steps, {SIZE} pixels, {name}",
            "the published loop",
            times[name],
            times["published"],
            bar,
            f"{worst:.0e} at most in any step's loss (double precision)",
            flops_of(functools.partial(paint, loss)),
        )
