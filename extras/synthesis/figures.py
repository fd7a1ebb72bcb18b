"""The figures of `class_visualization.py` beyond the assignment: feature visualization and fooling images."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from extras.synthesis.feature_visualization import AscentState, visualize
from extras.synthesis.fooling_image import handed_in, make_fooling_image
from extras.synthesis.photo_ascent import dream, invert
from helpers import cli
from helpers.errors import CannotError, UsageError, nearest
from helpers.figures import (
    GIF_PIXELS,
    Cell,
    Row,
    save_animation,
    save_grid,
    text_height,
    tile,
    wrapped,
    write,
)
from helpers.image_batch import ImageBatch, answer_note
from helpers.image_utils import deprocess, preprocess
from visualizers.mechanisms import frozen_eval, map_layers

MAX_COLUMNS = 5
OCTAVES = 4
FROM_PHOTO = {  # headings and notes
    "invert": (
        "What layers keep of a photo",
        "Beside the photo: pictures found from noise, by gradient descent, whose features in the layer named are close "
        "to those of the photo. What differs from the photo, the layer does not keep.",
    ),
    "dream": (
        "More of what a layer sees in a photo",
        "The photo was changed by gradient ascent to raise the activations of the layer named, at several sizes.",
    ),
}
UNIT, PLACARD = 224, 20  # a placard's half side in pixels, and the size of its letters in points
MAX_FRAMES = 48
# The steps go on until the new class leads by this: it must still lead when the picture is rounded to 8 bits.
MIN_MARGIN = 4.0


def draw_pictures(
    path: str,
    targets: Sequence[int],
    titles: Sequence[str],
    model: nn.Module,
    *,
    layer: str | None,
    variations: int,
    rows: int | None,
    animation: str | None,
    iterations: int,
    learning_rate: float,
    size: int,
    seed: int,
    heading: str,
    network: str,
    names: Sequence[str],
    metadata: Mapping[str, str],
) -> Path:
    """Writes the pictures of classes, or of channels of `layer`; returns the path.

    One variation of up to five targets: one column per target, one row for the first iteration and then `rows` (4),
    evenly spaced. Several variations of several targets: one row per variation. Otherwise the last pictures, five in
    a row. animation: a GIF of the ascent to write, too. network: the sentence of the note that names the network.
    names: of its classes.
    Raises UsageError for `rows` in another layout, and for a layer or channel that does not exist.
    """
    has_stages = variations == 1 and len(targets) <= MAX_COLUMNS
    has_column_each = variations > 1 and len(targets) > 1
    if rows and not has_stages:
        raise UsageError(f"--rows goes with up to {MAX_COLUMNS} pictures, and not with --variations")
    if layer:
        check_channels(layer, targets, model, size)
    rows = rows or (4 if has_stages else 1)
    row_every = -(-iterations // rows)  # rounded up: never more rows than asked for
    options = {"learning_rate": learning_rate, "size": size, "seed": seed, "num_iterations": iterations}
    options["show_every"] = frame_interval(row_every, rows) if animation else row_every
    states = []
    with cli.progress(iterations, "gradient ascent") as advance:
        for state in visualize(targets, model, layer=layer, variations=variations, **options):  # type: ignore[arg-type]
            advance()
            if state is not None:
                states.append(state)
    repeated = [target for target in targets for _ in range(variations)]
    last = cells_of(states[-1], repeated, names)
    for cell, silent in zip(last, without_response(states[0], states[-1]), strict=True):
        if silent and iterations > 1:
            what = "channel does not respond" if layer else "class does not respond: its score has not risen"
            cell.image = placard(f"this {what}", size)
    labels: list[str] = []
    if has_stages:
        shown = [s for s in states if s.iteration in (1, iterations) or s.iteration % row_every == 0]
        labels = [f"iteration {state.iteration}" for state in shown]
        grid = [*(cells_of(state, repeated, names) for state in shown[:-1]), last]
    elif has_column_each:
        labels = [f"variation {v + 1}" for v in range(variations)]
        grid = [last[v::variations] for v in range(variations)]
    else:
        if variations > 1:
            titles = [f"{titles[0]}, variation {v + 1}" for v in range(variations)]
        grid = [last[i : i + MAX_COLUMNS] for i in range(0, len(last), MAX_COLUMNS)]
    # The first cells are, in every layout, those of the targets in their order.
    for cell, title in zip(itertools.chain(*grid), titles, strict=False):
        cell.title = title
    if animation:
        columns = variations if has_column_each else min(len(last), MAX_COLUMNS)
        kept = [*states[: -1 : -(-len(states) // MAX_FRAMES)], states[-1]]
        frames = [[deprocess(image) for image in state.images] for state in kept]
        save_animation(animation, [tile(frame, columns, GIF_PIXELS / len(kept)) for frame in frames])
    value = f"mean activation of a channel of {layer}" if layer else "score of a class"
    note = (
        f"Optimized, not photographed: frequencies were adjusted to raise the {value} under random shifts, rotations "
        f"and zooms. {network}"
    )
    return save_grid(path, grid, metadata=metadata, row_labels=labels, heading=heading, note=note)


def check_channels(layer: str, channels: Sequence[int], model: nn.Module, size: int) -> None:
    """Raises UsageError for a layer that does not exist or returns no maps, and for a channel that it does not have."""
    X = torch.zeros(1, 3, size, size).to(next(model.parameters()))
    known = map_layers(model, X)
    check_layers([layer], X, model)
    for k in channels:
        if not 0 <= k < known[layer][0]:
            raise UsageError(f"--channel {k}: {layer} has channels 0 to {known[layer][0] - 1}")


def frame_interval(row_every: int, rows: int) -> int:
    """Iterations from frame to frame, about MAX_FRAMES in all: a divisor of those from row to row."""
    wanted = max(1, row_every // max(1, MAX_FRAMES // rows))
    return max(step for step in range(1, wanted + 1) if row_every % step == 0)


def without_response(first: AscentState, last: AscentState) -> list[bool]:
    """Which pictures' scores, or mean activations, have not risen from the first iteration to the last."""
    return (last.scores <= first.scores).tolist()


def cells_of(state: AscentState, targets: Sequence[int], names: Sequence[str]) -> list[Cell]:
    """The pictures of a state, each with the network's answer to it. targets: what each was made for."""
    if state.probabilities is None or state.predicted is None:  # channels
        answers = [f"mean activation {value:.2f}" for value in state.scores.tolist()]
    else:
        values = (state.scores.tolist(), state.probabilities.tolist(), targets, state.predicted.tolist())
        answers = [answer_note(*answer, names) for answer in zip(*values, strict=True)]
    return [Cell(deprocess(image), "", answer) for image, answer in zip(state.images, answers, strict=True)]


def placard(text: str, size: int) -> Image.Image:
    """A grey square of `size` pixels that says `text` in its middle."""
    page = Image.new("RGB", (2 * UNIT, 2 * UNIT), "#e6e6e6")
    lines = wrapped(text, PLACARD, 1.8 * UNIT)
    write(page, (UNIT, UNIT - text_height(lines, PLACARD) // 2), lines, PLACARD, "#404040", "ma")
    return page.resize((size, size), Image.Resampling.LANCZOS)


def draw_from_photo(
    path: str,
    task: str,
    photo: Image.Image,
    label: str,
    layers: Sequence[str],
    model: nn.Module,
    *,
    iterations: int,
    learning_rate: float,
    seed: int,
    network: str,
    metadata: Mapping[str, str],
) -> Path:
    """Writes the photo and beside it, layer by layer, what the layer keeps of it (task "invert": a square photo) or
    its dream ("dream"); returns the path. Raises UsageError for a layer that does not exist.
    """
    X = preprocess(photo, photo.size[::-1]).to(next(model.parameters()))
    check_layers(layers, X, model)
    ascent = {"num_iterations": iterations, "learning_rate": learning_rate, "seed": seed}
    cells = [Cell(photo, "photo", label)]
    steps = iterations * len(layers) * (OCTAVES if task == "dream" else 1)
    with cli.progress(steps, f"{task}: {', '.join(layers)}") as advance:
        for layer in layers:
            answer = ""
            if task == "dream":
                for step in dream(X, model, layer, octaves=OCTAVES, **ascent):  # type: ignore[arg-type]
                    image = step
                    advance()
            else:
                for step, error in invert(X, model, layer, **ascent):  # type: ignore[arg-type]
                    image, answer = step, f"relative error of the features {error:.3f}"
                    advance()
            cells.append(Cell(deprocess(image), layer, answer))
    heading, note = FROM_PHOTO[task]
    columns = -(-len(cells) // -(-len(cells) // MAX_COLUMNS))  # about as many in each row
    return save_grid(
        path,
        [cells[i : i + columns] for i in range(0, len(cells), columns)],
        metadata=metadata,
        heading=heading,
        note=f"{note} {network}",
    )


def check_layers(layers: Sequence[str], X: torch.Tensor, model: nn.Module) -> None:
    """Raises UsageError for a layer that does not exist or returns no maps."""
    known = map_layers(model, X)
    for layer in layers:
        if layer not in known:
            raise nearest(layer, known, "layer with maps")


def draw_fooled(
    path: str,
    batch: ImageBatch,
    targets: Sequence[int],
    names: Sequence[str],
    model: nn.Module,
    *,
    iterations: int,
    learning_rate: float,
    network: str,
    metadata: Mapping[str, str],
) -> Path:
    """Writes one row per photo: the photo, the photo changed until the model predicts its target (there may be one
    for all), and the difference, magnified; returns the path. A `FoolingImage` in visualizers/ changes the photos, if
    there is one. Raises UsageError for another number of targets, CannotError where `iterations` steps are not enough.
    """
    if len(targets) not in (1, len(batch.X)):
        count = f"{len(targets)} classes for {len(batch.X)} images"
        raise UsageError(f"{count}: give one for all, or one for each")
    targets = list(targets) * len(batch.X) if len(targets) == 1 else targets
    rows: list[Row] = []
    theirs = handed_in()
    make = theirs or make_fooling_image
    if theirs:
        network = f"Changed by visualizers/fooling_image.py, with its own steps. {network}"
    with cli.progress(len(targets), "fooling images") as advance:
        for n, target in enumerate(targets):
            X, photo, label = batch.X[n : n + 1], batch.photos[n], batch.subtitles[n]
            options = {"learning_rate": learning_rate, "max_iterations": iterations, "min_margin": MIN_MARGIN}
            try:
                fooled = make(X, target, model, **options)  # type: ignore[arg-type]
            except RuntimeError as error:
                raise CannotError(f"{label} as {names[target]}: {error}") from error
            changed = np.asarray(deprocess(fooled))
            # The answer to the picture as it is written, rounded to 8 bits.
            with frozen_eval(model), torch.no_grad():
                probabilities = model(preprocess(changed, changed.shape[:2]).to(X)).softmax(dim=1)[0]
            seen = int(probabilities.argmax())
            difference = changed.astype(float) - photo
            factor = max(1, int(127 / max(np.percentile(np.abs(difference), 99.5), 1)))
            magnified = (127.5 + factor * difference).round().clip(0, 255).astype(np.uint8)
            size = (
                f"{np.abs(difference).mean():.1f} of 255 on average, {np.abs(difference).max():.0f} at most"
            )
            rows.append(
                [
                    Cell(photo, batch.titles[n], label),
                    Cell(changed, f"{names[seen]} ({probabilities[seen]:.2f})", "changed photo"),
                    Cell(magnified, f"the difference, {factor} times", size),
                ]
            )
            advance()
    return save_grid(
        path,
        rows,
        metadata=metadata,
        heading="A small change, another prediction",
        note="Titles: the predicted class and its probability. Middle: the photo after a few gradient steps towards "
        f"another class. Right: everything that changed, magnified; grey: no change. {network}",
    )
