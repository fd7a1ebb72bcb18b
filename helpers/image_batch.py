"""What the two runners that explain photos share: which images and classes, what the network says of them, and how
maps become rows of a figure.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from helpers.data_utils import find_class, image_name, load_images, names_for, open_image
from helpers.errors import CannotError, UsageError
from helpers.figures import Bars, Cell, Row, clip_percentile, colorize, diverging, overlay
from helpers.image_utils import preprocess, resize, square
from helpers.memory import BATCH_PIXELS, activations, check_memory
from helpers.models import check_finite, check_scores, default_weights, is_own, resolve_name

# What a figure's readers must know about each kind of map.
NOTES = {
    "size": "Bright: a small change of this pixel changes the raw score of the class in the title the most. The "
    "brightest one percent of a map is drawn alike.",
    "signed": "Red pixels add to the score of the class, blue pixels take away from it, compared with an image of one "
    "mean colour. Each pixel shows the sum over its neighbourhood.",
    "region": "Red over the photo: strong evidence for the class in the title. Untinted: none.",
}
SCALED = "Each map is scaled by itself."
SIDES = (224, 256, 299, 384, 448, 518)  # of the images that common networks are trained with
DEFAULT_PHOTOS = 5
KEPT = 150  # bytes per pixel of each image: itself, its tensor, and maps of several methods
MAX_COLUMNS = 6  # groups of rows side by side


class ImageBatch(NamedTuple):
    """Images to explain: photos uint8 (N, H, W, 3), X normalized (N, 3, H, W), y the classes to explain (N,).

    sources: the photos by path or name, for the recipe; titles, subtitles: what to write above each.
    names: of the network's classes.
    """

    photos: list[np.ndarray]
    X: Tensor
    y: Tensor
    sources: dict[str, np.ndarray]
    titles: list[str]
    subtitles: list[str]
    names: Sequence[str] = ()


def load_batch(
    images: Sequence[str] | None,
    classes: Sequence[str] | None,
    size: int,
    model: nn.Module,
    names: Sequence[str] | None = None,
    crop: tuple[int, int, int] | None = None,
) -> ImageBatch:
    """Opens the images (paths or bundled names; by default five photos), asks the network about them, and settles
    which class of each is explained: one for all, one for each, several for one image, or by default the predicted.
    names: of the network's classes, by default as `names_for` has them.

    Raises UsageError for a size, a class or a number of classes that cannot be.
    """
    check_size(model, size, len(images or ()) or DEFAULT_PHOTOS)
    if crop and not images:
        raise UsageError("--crop goes with --images")
    if images:
        photos = [np.asarray(seen_part(open_image(text), size, crop)) for text in images]
        labels = [image_name(text) for text in images]
    else:
        X, _, labels, _ = load_images()
        photos, labels = list(X[:DEFAULT_PHOTOS]), labels[:DEFAULT_PHOTOS]
        if size != X.shape[1]:
            raise UsageError("--size goes with --images")
    # Two photos of the course's sample may share a label, so the recipe knows them by their number too.
    keys = images or [f"{number} {label}" for number, label in enumerate(labels)]
    sources = dict(zip(keys, photos, strict=True))
    like = next(model.parameters())
    batch = torch.cat([preprocess(photo, photo.shape[:2]) for photo in photos]).to(like)
    parts = batch.split(max(1, BATCH_PIXELS // size**2))
    probabilities = torch.cat([scores_of(model, part) for part in parts]).softmax(dim=1)
    names = names_for(probabilities.shape[1], names)
    asked = [find_class(text, names) for text in classes or []]
    if len(photos) == 1 and len(asked) > 1:  # one photo, asked about several classes
        photos, labels = photos * len(asked), labels * len(asked)
        batch, probabilities = (rows.expand(len(asked), *rows.shape[1:]) for rows in (batch, probabilities))
    if len(asked) not in (0, 1, len(photos)):
        raise UsageError(f"{len(asked)} classes for {len(photos)} images: give one for all, or one for each")
    device = like.device
    predicted = probabilities.argmax(dim=1)
    y = torch.tensor(asked * len(photos) if len(asked) == 1 else asked, device=device) if asked else predicted
    titles, subtitles = [], []
    for row, k, best, label in zip(probabilities, y.tolist(), predicted.tolist(), labels, strict=True):
        titles.append(f"{names[k]} ({row[k]:.2f})")
        subtitles.append(label if k == best else f"{label}; predicted: {names[best]} ({row[best]:.2f})")
    return ImageBatch(photos, batch, y, sources, titles, subtitles, names)


def check_size(model: nn.Module, size: int, count: int) -> None:
    """Raises UsageError for a --size out of range, CannotError where explaining `count` images of this size would take
    more memory than is free.
    """
    if not 32 <= size <= 2048:
        raise UsageError(f"--size {size} must be from 32 to 2048")
    step, device = activations(model).step, next(model.parameters()).device

    def needed(side: int) -> float:
        at_once = min(count * side**2, max(side**2, BATCH_PIXELS))
        return KEPT * count * side**2 + step * at_once

    check_memory(needed, "--size", size, device, least=32)


def scores_of(model: nn.Module, X: Tensor) -> Tensor:
    """The scores (N, classes) of images X (N, 3, H, W). Raises UsageError where the network takes no images of this
    size, with a size that it does take, and where it returns anything but scores.
    """
    size = X.shape[2:]
    try:
        with torch.no_grad():
            scores = model(X)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        if "out of memory" in str(error).lower():
            raise
        works = next((side for side in SIDES if side != size[0] and _takes(model, X, side)), None)
        if works is None:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")[:120]
        raise UsageError(
            f"this network takes no images of {size[1]} x {size[0]} pixels ({reason}): use --size {works}"
        ) from error
    check_scores(scores)
    if not scores.isfinite().all():
        check_finite(model, X)
    return scores


def _takes(model: nn.Module, X: Tensor, side: int) -> bool:
    try:
        with torch.no_grad():
            model(X.new_zeros(1, 3, side, side))
    except (RuntimeError, ValueError, AssertionError, IndexError):
        return False
    return True


def seen_part(img: Image.Image, size: int, crop: tuple[int, int, int] | None = None) -> Image.Image:
    """The square of a picture that the network sees, of `size` pixels: its middle, see `square`, or the `crop`."""
    return cropped(img, crop, size) if crop else square(img, size)


def cropped(img: Image.Image, crop: tuple[int, int, int], size: int) -> Image.Image:
    """The square (x, y, side) of a picture, in its own pixels, resized to `size`. Raises UsageError where it does not
    lie inside.
    """
    x, y, side = crop
    if x + side > img.width or y + side > img.height:
        text = ",".join(map(str, crop))
        raise UsageError(f"--crop {text} leaves the photo, which has {img.width} x {img.height} pixels")
    return resize(img.crop((x, y, x + side, y + side)), (size, size))


def best_classes(
    X: Tensor, model: nn.Module, count: int, names: Sequence[str]
) -> list[list[tuple[str, float]]]:
    """Of each image the `count` most probable classes, the first one first: names and probabilities."""
    with torch.no_grad():
        parts = X.split(max(1, BATCH_PIXELS // X[0, 0].numel()))
        scores = torch.cat([model(part) for part in parts])
        probabilities, indices = scores.softmax(dim=1).topk(min(count, len(names)))
    return [
        [(names[k], p) for k, p in zip(*row, strict=True)]
        for row in zip(indices.tolist(), probabilities.tolist(), strict=True)
    ]


class MapRows(NamedTuple):
    """The rows of one method, one cell per image in each, and the rows' labels, of which the first names the method."""

    rows: list[Row]
    labels: list[str]


def arrange(batch: ImageBatch, groups: Sequence[MapRows]) -> tuple[list[Row], list[str]]:
    """The rows of a figure and their labels: the photos under their titles, then the maps of every method.

    One photo with several methods would become a tower: there the methods stand side by side, after the photo.
    """
    photos = [
        Cell(photo, *text) for photo, *text in zip(batch.photos, batch.titles, batch.subtitles, strict=True)
    ]
    if len(photos) > 1 or len(groups) == 1:
        labels = [label for group in groups for label in group.labels]
        return [photos, *(row for group in groups for row in group.rows)], ["photo", *labels]
    empty = Cell(np.full((1, 1, 3), 255, np.uint8))
    below = groups[0].labels[1:]  # the same in all
    stacks: list[Row] = [[photos[0], *(empty for _ in below)]]
    for group in groups:
        group.rows[0][0].title = group.labels[0]
        stacks.append([row[0] for row in group.rows])
    across = -(-len(stacks) // -(-len(stacks) // MAX_COLUMNS))  # about as many in each row
    rows: list[Row] = []
    for i in range(0, len(stacks), across):
        rows += zip(*stacks[i : i + across], strict=True)
    return rows, ["", *below] * (len(rows) // (1 + len(below)))


def padded(group: MapRows, like: MapRows | None) -> MapRows:
    """The group with empty cells in as many rows as `like` has, for one photo: side by side, all groups have as many
    rows.
    """
    if like is None or len(group.rows[0]) > 1:
        return group
    empty = Cell(np.full((1, 1, 3), 255, np.uint8))
    rows, labels = len(like.rows) - len(group.rows), len(like.labels) - len(group.labels)
    return MapRows([*group.rows, *[[empty] * len(group.rows[0])] * rows], [*group.labels, *[""] * labels])


def chart_rows(charts: Sequence[Sequence[tuple[str, float]]], like: MapRows | None = None) -> MapRows:
    """A row of bar charts of probabilities, one per image, `padded` like another group."""
    return padded(
        MapRows([[Bars(chart) for chart in charts]], [f"{len(charts[0])} most probable classes"]), like
    )


def map_picture(heat: np.ndarray, kind: str, photo: np.ndarray | None = None) -> np.ndarray:
    """A map (H, W) of one of the kinds in NOTES as RGB uint8 (H, W, 3); a region is laid over its photo, if given."""
    if not np.isfinite(heat).all():
        raise CannotError(
            "a map holds NaN or infinity, although the scores are finite: the gradient of the score does"
        )
    if kind == "signed":
        return diverging(heat)
    if kind == "region":
        return colorize(heat, "turbo") if photo is None else overlay(photo, heat)
    return colorize(clip_percentile(heat))


def describe_network(model: str, weights: str | None, *, features: bool = False) -> str:
    """A network and where its weights are from, as --model and --weights (or None) name them. features: its
    convolutions alone are used, as in style transfer.
    """
    if is_own(model):
        known = weights not in (None, "random")
        return f"{model}, weights " + (f"of {Path(weights or '').name}" if known else "as its code sets them")
    weights = weights or default_weights(resolve_name(model), features=features)
    if weights == "random":
        return f"{model} with random weights"
    known = {"packaged": "packaged weights", "torchvision": "torchvision's weights"}
    return f"{model}, {known.get(weights, f'weights of {Path(weights).name}')}"


def network_note(model: str, weights: str | None, *, features: bool = False) -> str:
    """The sentence of a figure's note that says which network it is of: a map of random weights is no finding."""
    warning = " It has learned nothing." if weights == "random" and not is_own(model) else ""
    return f"Network: {describe_network(model, weights, features=features)}.{warning}"


def answer_note(score: float, probability: float, asked: int, predicted: int, names: Sequence[str]) -> str:
    """What the network says of a picture made for the class `asked`: its score and probability, and the class that is
    predicted, if it is another one.
    """
    other = "" if asked == predicted else f"; predicted: {names[predicted]}"
    return f"score {score:.1f}, probability {probability:.3f}{other}"
