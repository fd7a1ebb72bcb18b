"""What the two map-drawing runners have in common: which images, which classes, what the network says of
them, how a map is drawn, and the checks under it.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from helpers import cli
from helpers.data_utils import find_class, image_name, load_images, open_image
from helpers.errors import UsageError
from helpers.figures import Cell, Mosaic, Plot, Row, clip_percentile, colorize, diverging, overlay
from helpers.image_utils import preprocess, square
from extras.attribution import evaluation as trust

# What a figure's readers must know about each kind of map (that of `extras.attribution.methods.Method`).
NOTES = {
    "size": "Bright: a small change of this pixel changes the raw score of the class in the title the most; a "
    "map's brightest hundredth is drawn alike.",
    "signed": "Red pixels add to the score of the class, blue ones take from it, compared with a picture of one mean "
    "colour; each is drawn with its neighbours' contributions added.",
    "region": "Over a photo, red: strong evidence for the class in the title; untinted: none.",
}
TRUST_NOTE = (
    "A map deserves trust if covering its top pixels first makes the class vanish at once (small deletion area), if "
    "showing them first on a blurred photo brings it back at once (large insertion area), and if the map changes when "
    "the network forgets, layer by layer from the last (rank correlation near 0; near 1: the map shows the photo, not "
    "what the network has learned)."
)


COLUMNS = 6  # at most, of blocks side by side


class ImageBatch(NamedTuple):
    """A batch to explain: photos uint8 (N, H, W, 3), X normalized (N, 3, H, W), y the classes to explain (N,).

    sources: the photos by path or name, for the recipe; titles, subtitles: what to write above each.
    """

    photos: list[np.ndarray]
    X: Tensor
    y: Tensor
    sources: dict[str, np.ndarray]
    titles: list[str]
    subtitles: list[str]


class Block(NamedTuple):
    """One way to ask: a row of maps, and the rows that go under it, with their labels. The first names it."""

    rows: list[Row]
    labels: list[str]


def arranged(batch: ImageBatch, blocks: Sequence[Block]) -> tuple[list[Row], list[str]]:
    """The rows of a figure and their labels: the photos under their titles, then every block.

    Of one photo that would be a tower. So if it has several blocks they stand side by side, after the photo.
    """
    photos = [
        Cell(photo, *text) for photo, *text in zip(batch.photos, batch.titles, batch.subtitles, strict=True)
    ]
    if len(photos) > 1 or len(blocks) == 1:
        labels = [label for block in blocks for label in block.labels]
        return [photos, *(row for block in blocks for row in block.rows)], ["photo", *labels]
    empty = Cell(np.full((1, 1, 3), 255, np.uint8))
    below = blocks[0].labels[1:]  # the same in all
    stacks: list[Row] = [[photos[0], *(empty for _ in below)]]
    for block in blocks:
        block.rows[0][0].title = block.labels[0]
        stacks.append([row[0] for row in block.rows])
    across = -(-len(stacks) // -(-len(stacks) // COLUMNS))  # about as many in each row
    rows: list[Row] = []
    for i in range(0, len(stacks), across):
        rows += zip(*stacks[i : i + across], strict=True)
    return rows, ["", *below] * (len(rows) // (1 + len(below)))


def picture(heat: np.ndarray, kind: str, photo: np.ndarray | None = None) -> np.ndarray:
    """A map (H, W) of one of the kinds in NOTES as RGB uint8 (H, W, 3); a region goes over its photo, where one
    is given.
    """
    if kind == "signed":
        return diverging(heat)
    if kind == "region":
        return colorize(heat, "turbo") if photo is None else overlay(photo, heat)
    return colorize(clip_percentile(heat))


def trust_rows(
    explain: Callable[..., Tensor],
    kind: str,
    maps: Tensor,
    batch: ImageBatch,
    model: nn.Module,
    *,
    passes: int = 1,
    seed: int = 0,
) -> tuple[list[Row], list[str]]:
    """The rows that go under a row of maps (N, H, W), with their labels: deletion and insertion curves, then
    `explain`'s maps of ever more re-initialized networks. TRUST_NOTE says what they mean.
    """
    seen = len(batch.X) * (2 * (trust.PARTS + 1) + trust.STAGES * passes)
    with cli.progress(seen, "trust") as advance:
        curves = trust.deletion_insertion(maps, batch.X, batch.y, model, advance)
        stages = list(trust.cascade(explain, maps, batch.X, batch.y, model, advance, seed=seed))
    deleted, inserted = (trust.area(curves.shares, y) for y in (curves.deletion, curves.insertion))
    rows: list[Row] = [
        [
            Plot(
                curves.shares,
                {
                    f"deletion, area {deleted[n]:.2f}": curves.deletion[n],
                    f"insertion, area {inserted[n]:.2f}": curves.insertion[n],
                },
                xlabel="share of the pixels",
            )
            for n in range(len(batch.X))
        ]
    ]
    rows.append(
        [
            Mosaic(
                [
                    Cell(picture(heat, kind), caption=text)
                    for heat, text in zip(heats, ("trained network", *texts), strict=True)
                ]
            )
            for heats, texts in zip(
                torch.stack([maps.cpu(), *(stage.maps.cpu() for stage in stages)], dim=1).numpy(),
                zip(*map(_stage_captions, stages), strict=True),
                strict=True,
            )
        ]
    )
    labels = [
        "probability of the class",
        "last layers re-initialized: rank correlation with the trained network's map",
    ]
    return rows, labels


def _stage_captions(stage: trust.Stage) -> list[str]:
    which = "all" if stage.count == stage.total else "last"
    # Adding 0 turns a rounded -0.0 into 0.0.
    return [f"{which} {stage.count}: {round(r, 2) + 0.0:.2f}" for r in stage.correlations]


def load_batch(args: argparse.Namespace, model: nn.Module, names: list[str]) -> ImageBatch:
    """Opens the images, asks the network about them, and settles which class of each is to be explained."""
    if not 32 <= args.size <= 2048:
        raise UsageError(f"--size {args.size} must be from 32 to 2048")
    if args.images:
        photos = [np.asarray(square(open_image(text), args.size)) for text in args.images]
        labels = [image_name(text) for text in args.images]
    else:
        X, _, labels, _ = load_images()
        photos, labels = list(X[:5]), labels[:5]
        if args.size != X.shape[1]:
            raise UsageError("--size goes with --images")
    # Two photos of the course's sample may share a label, so the recipe knows them by their place too.
    keys = args.images or [f"{place} {label}" for place, label in enumerate(labels)]
    sources = dict(zip(keys, photos, strict=True))
    asked = [find_class(text, names) for text in args.classes or []]
    if len(photos) == 1 and len(asked) > 1:  # one photo, asked about several classes
        photos, labels = photos * len(asked), labels * len(asked)
    if len(asked) not in (0, 1, len(photos)):
        raise UsageError(f"{len(asked)} classes for {len(photos)} images: give one for all, or one for each")
    device = next(model.parameters()).device
    batch = torch.cat([preprocess(photo, photo.shape[:2]) for photo in photos]).to(device)
    with torch.no_grad():
        probabilities = model(batch).softmax(dim=1)
    predicted = probabilities.argmax(dim=1)
    y = torch.tensor(asked * len(photos) if len(asked) == 1 else asked, device=device) if asked else predicted
    titles, subtitles = [], []
    for row, k, best, label in zip(probabilities, y.tolist(), predicted.tolist(), labels, strict=True):
        titles.append(f"{names[k]} ({row[k]:.2f})")
        subtitles.append(label if k == best else f"{label}; predicted: {names[best]} ({row[best]:.2f})")
    return ImageBatch(photos, batch, y, sources, titles, subtitles)
