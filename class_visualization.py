#!/usr/bin/env python3
"""Draws what a network believes classes look like, or what one channel of a layer looks for.

Writes visualization/class_visualization.png. --method fourier (Olah et al., 2017) makes pictures that a person
can name; --method pixels is the assignment's own ascent (Simonyan et al., 2014; Yosinski et al., 2015), stage by
stage. With --fool, changes photos until the network calls them something else (Szegedy et al., 2014), and writes
visualization/fooling_image.png.
"""

from __future__ import annotations  # what is only imported for its type costs --help no time

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import cli

if TYPE_CHECKING:
    from torch import nn

    from helpers.figures import Cell
    from visualizers.class_ascent import AscentState

CLASSES = ["gorilla", "flamingo", "tiger", "hourglass", "daisy"]
COLUMNS = 5
# A GIF takes about a byte a pixel: ten megabytes in all, whatever is drawn.
FRAMES, GIF_PIXELS = 48, 10_000_000
# A fooled photo is pushed on until its new class leads by this: rounded to 8 bits, it must still fool.
MIN_MARGIN = 4.0
OUTPUT = "visualization/class_visualization.png"
# What goes with which task, and its default there; None: there is none.
OPTIONS: dict[str, dict] = {
    "--method fourier": {
        "iterations": 256,
        "learning_rate": 0.05,
        "rows": None,  # settled when it is known how many pictures there are
        "variations": 1,
        "layer": None,
        "channel": None,
        "animate": None,
    },
    "--method pixels": {
        "iterations": 200,
        "learning_rate": 25.0,
        "rows": 4,
        "init": "noise",
        "l2_reg": 1e-3,
        "blur_every": 4,
        "blur_sigma": (1.2, 0.35),
        "max_jitter": 16,
        "animate": None,
    },
    "--fool": {"iterations": 100, "learning_rate": 1.0},
}


def build_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "class_visualization.py",
        __doc__,
        output=OUTPUT,
        epilog="examples: ./class_visualization.py --classes flamingo 'tiger cat' 417 --variations 3\n"
        "          ./class_visualization.py --layer features.7 --channel 12 40 --animate visualization/channels.gif\n"
        "          ./class_visualization.py --method pixels --iterations 300\n"
        "          ./class_visualization.py --fool my_dog.jpg --classes flamingo",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="any part of an ImageNet name, or an index (default: five; with --fool: flamingo)",
    )
    parser.add_argument(
        "--method",
        choices=("fourier", "pixels"),
        help="how to climb: on a spectrum, under random views (default), or on pixels, as the assignment does",
    )
    parser.add_argument(
        "--size", type=cli.positive_int, default=224, help="side of the pictures in pixels (default 224)"
    )
    parser.add_argument(
        "--iterations", type=cli.positive_int, help=f"steps to climb ({_defaults('iterations')})"
    )
    parser.add_argument(
        "--learning-rate", type=cli.non_negative, help=f"length of a step ({_defaults('learning_rate')})"
    )
    parser.add_argument("--animate", metavar="FILE.gif", help="write the climb as an animation, too")

    fourier = parser.add_argument_group("--method fourier")
    fourier.add_argument(
        "--variations",
        type=cli.positive_int,
        metavar="N",
        help="different pictures of each class (default 1)",
    )
    fourier.add_argument("--layer", metavar="NAME", help="draw channels of this layer instead of classes")
    fourier.add_argument("--channel", nargs="+", type=int, metavar="K", help="which channels, from 0")
    parser.add_argument(
        "--rows", type=cli.positive_int, help="how many stages to show after the first (default 4)"
    )

    pixels = parser.add_argument_group("--method pixels")
    pixels.add_argument(
        "--init", choices=("noise", "zero"), help="start from noise (default) or a grey image"
    )
    pixels.add_argument("--l2-reg", type=cli.non_negative, help="weight of ||I||^2 (default 0.001)")
    pixels.add_argument("--blur-every", type=cli.positive_int, help="steps between two blurs (default 4)")
    pixels.add_argument(
        "--blur-sigma",
        type=cli.non_negative,
        nargs=2,
        metavar=("FIRST", "LAST"),
        help="width of the blur in pixels, at the start and at the end (default 1.2 0.35)",
    )
    pixels.add_argument("--max-jitter", type=int, help="largest shift of a step in pixels (default 16)")

    fooling = parser.add_argument_group("fooling images")
    fooling.add_argument(
        "--fool",
        nargs="+",
        metavar="PATH-or-NAME",
        help="image files or bundled photos, to be changed until the network sees the class of --classes in them",
    )
    return parser


def _defaults(option: str) -> str:
    values = [f"{options[option]:g} with {task}" for task, options in OPTIONS.items()]
    return f"default {', '.join(values)}"


def settle(args: argparse.Namespace) -> None:
    """Fills in the defaults of what was asked for. Raises UsageError for an option that does not go with it."""
    from helpers.errors import UsageError

    if args.fool and args.method:
        raise UsageError("--method goes with drawing, not with --fool")
    args.method = args.method or (None if args.fool else "fourier")
    task = "--fool" if args.fool else f"--method {args.method}"
    for other, options in OPTIONS.items():
        for option in options:
            if option not in OPTIONS[task] and getattr(args, option) is not None:
                name = "--" + option.replace("_", "-")
                raise UsageError(f"{name} goes with {other}, not with {task}")
    for option, default in OPTIONS[task].items():
        if getattr(args, option) is None:
            setattr(args, option, default)
    if not 32 <= args.size <= 2048:
        raise UsageError(f"--size {args.size} must be from 32 to 2048")
    if args.animate:
        if Path(args.animate).suffix.lower() != ".gif":
            raise UsageError(f"--animate {args.animate}: an animation is a GIF; call it FILE.gif")
        cli.check_output(Path(args.animate), "--animate", (".gif",))
    if args.layer and args.classes:
        raise UsageError("--classes and --layer are two different things to draw: give one of them")
    if bool(args.layer) != bool(args.channel):
        raise UsageError("--layer and --channel go together, as in --layer features.7 --channel 12")
    if args.fool and args.output == OUTPUT:
        args.output = "visualization/fooling_image.png"


def work(args: argparse.Namespace) -> object:
    settle(args)
    from helpers.data_utils import class_names, find_class
    from helpers.models import choose_device, load_classifier

    names = class_names()
    targets = [find_class(text, names) for text in args.classes or (["flamingo"] if args.fool else CLASSES)]
    cli.seed_everything(args.seed)
    model = load_classifier(args.model, args.weights, choose_device(args.device))
    if args.fool:
        return draw_fooled(args, model, targets, names)
    if args.method == "pixels":
        return draw_stages(args, model, targets, names)
    return draw_pictures(args, model, targets, names)


def draw_pictures(args: argparse.Namespace, model: nn.Module, targets: list[int], names: list[str]) -> Path:
    """--method fourier: one column a target; one row a stage, or one a variation. Where that would be too wide,
    or variations of one target a tower: the last pictures alone, row after row.
    """
    from helpers.errors import UsageError
    from helpers.figures import save_grid
    from helpers.recipe import make_recipe
    from extras.synthesis.feature_visualization import visualize

    titles = [names[target] for target in targets]
    if args.layer:
        check_layer(args, model)
        targets, titles = args.channel, [f"channel {k}" for k in args.channel]
    one_row_each = args.variations == 1 and len(targets) <= COLUMNS
    if args.rows and not one_row_each:
        raise UsageError(f"--rows goes with up to {COLUMNS} pictures, and not with --variations")
    row_every, frame_every = cadence(args, rows=args.rows or (4 if one_row_each else 1))
    steps = visualize(
        targets,
        model,
        layer=args.layer,
        variations=args.variations,
        num_iterations=args.iterations,
        show_every=frame_every,
        size=args.size,
        learning_rate=args.learning_rate,
        seed=args.seed,
    )
    states = climbed(steps, args)
    column_each = args.variations > 1 and len(targets) > 1
    pictures = len(targets) * args.variations
    animate(args, states, columns=args.variations if column_each else min(pictures, COLUMNS))
    if one_row_each:
        rows, labels = stage_rows(args, states, titles, row_every)
    elif column_each:
        cells = cells_of(states[-1])
        for cell, title in zip(cells[:: args.variations], titles, strict=True):
            cell.title = title
        labels = [f"variation {v + 1}" for v in range(args.variations)]
        rows = [cells[v :: args.variations] for v in range(args.variations)]
    else:  # side by side: one of each, or several of one
        if args.variations > 1:
            titles = [f"{titles[0]}, variation {v + 1}" for v in range(args.variations)]
        cells, labels = cells_of(states[-1], titles), []
        rows = [cells[i : i + COLUMNS] for i in range(0, len(cells), COLUMNS)]
    return save_grid(
        args.output,
        rows,
        metadata=make_recipe(args, model, {}),
        row_labels=labels,
        heading=f"What channels of {args.layer} look for" if args.layer else heading_of(targets),
        note="Drawn by nobody: each picture was changed, in its frequencies, until the network answered as strongly "
        "as it would, from whichever side it looked. No photo went in.",
    )


def heading_of(targets: list[int]) -> str:
    """What stands above pictures of classes."""
    classes = "this class looks" if len(targets) == 1 else "these classes look"
    return f"What the network believes {classes} like"


def cells_of(state: AscentState, titles: list[str] | None = None) -> list[Cell]:
    """The pictures of a state, each with what the network answers to it."""
    from helpers.figures import Cell
    from helpers.image_utils import deprocess

    if state.probabilities is None:  # a layer's channels
        answers = [f"mean activation {score:.2f}" for score in state.scores.tolist()]
    else:
        answers = [
            f"score {score:.1f}, probability {probability:.3f}"
            for score, probability in zip(state.scores.tolist(), state.probabilities.tolist(), strict=True)
        ]
    titles = titles or [""] * len(answers)
    return [Cell(deprocess(image), *text) for image, *text in zip(state.images, titles, answers, strict=True)]


def stage_rows(
    args: argparse.Namespace, states: list[AscentState], titles: list[str], row_every: int
) -> tuple[list[list[Cell]], list[str]]:
    """One row of cells a stage, the titles above the first; and the rows' labels."""
    shown = [s for s in states if s.iteration in (1, args.iterations) or s.iteration % row_every == 0]
    rows = [cells_of(state, titles if state is shown[0] else None) for state in shown]
    return rows, [f"iteration {state.iteration}" for state in shown]


def cadence(args: argparse.Namespace, rows: int) -> tuple[int, int]:
    """Iterations from one row to the next, and from one state to the next: with --animate about ten a row."""
    row_every = -(-args.iterations // rows)  # rounded up: never a row more than asked for
    if not args.animate:
        return row_every, row_every
    wanted = max(1, row_every // max(1, FRAMES // rows))
    return row_every, max(step for step in range(1, wanted + 1) if row_every % step == 0)


def check_layer(args: argparse.Namespace, model: nn.Module) -> None:
    """Raises UsageError where --layer or --channel name nothing that can be drawn."""
    import torch

    from helpers.errors import UsageError, nearest
    from extras.attribution.cam import map_layers

    known = map_layers(model, torch.zeros(1, 3, args.size, args.size).to(next(model.parameters())))
    if args.layer not in known:
        raise nearest(args.layer, known, "layer with maps")
    channels = known[args.layer][0]
    for k in args.channel:
        if not 0 <= k < channels:
            raise UsageError(f"--channel {k}: {args.layer} has channels 0 to {channels - 1}")


def draw_stages(args: argparse.Namespace, model: nn.Module, targets: list[int], names: list[str]) -> Path:
    """--method pixels: one column a class, one row a stage."""
    from helpers.errors import UsageError
    from helpers.figures import save_grid
    from helpers.recipe import make_recipe
    from visualizers.class_ascent import climb

    if not 0 <= args.max_jitter < args.size:
        raise UsageError(f"--max-jitter {args.max_jitter} must be from 0 to less than --size {args.size}")
    row_every, frame_every = cadence(args, args.rows)
    steps = climb(
        targets,
        model,
        num_iterations=args.iterations,
        show_every=frame_every,
        l2_reg=args.l2_reg,
        learning_rate=args.learning_rate,
        blur_every=args.blur_every,
        blur_sigma=args.blur_sigma,
        max_jitter=args.max_jitter,
        size=args.size,
        init=args.init,
        seed=args.seed,
    )
    states = climbed(steps, args)
    rows, labels = stage_rows(args, states, [names[target] for target in targets], row_every)
    animate(args, states, columns=len(targets))
    return save_grid(
        args.output,
        rows,
        metadata=make_recipe(args, model, {}),
        row_labels=labels,
        heading=heading_of(targets),
        note="Each picture was changed, pixel by pixel, to raise the raw score of its class. The probability is the "
        "network's own, and says nothing about how a person would name the picture.",
    )


def climbed(steps: Iterable[AscentState | None], args: argparse.Namespace) -> list[AscentState]:
    """All states that the ascent shows, under a progress bar."""
    states = []
    with cli.progress(args.iterations, "ascent") as advance:
        for state in steps:
            advance()
            if state is not None:
                states.append(state)
    return states


def animate(args: argparse.Namespace, states: list[AscentState], columns: int) -> None:
    """Writes what --animate asks for, if it does."""
    if args.animate:
        from helpers.figures import save_animation, tile
        from helpers.image_utils import deprocess

        kept = [*states[: -1 : -(-len(states) // FRAMES)], states[-1]]
        pictures = [[deprocess(image) for image in state.images] for state in kept]
        save_animation(args.animate, [tile(row, columns, GIF_PIXELS / len(kept)) for row in pictures])


def draw_fooled(args: argparse.Namespace, model: nn.Module, targets: list[int], names: list[str]) -> Path:
    """--fool: one row a photo: the photo, the photo that fools the network, and the difference, magnified."""
    import numpy as np
    import torch

    from helpers.errors import CannotError, UsageError
    from helpers.image_batch import load_batch
    from helpers.figures import Cell, save_grid
    from helpers.image_utils import deprocess, preprocess
    from helpers.recipe import make_recipe
    from visualizers import FoolingImage

    if len(targets) not in (1, len(args.fool)):
        raise UsageError(
            f"{len(targets)} classes for {len(args.fool)} images: give one for all, or one for each"
        )
    asked = argparse.Namespace(images=args.fool, classes=None, size=args.size)
    batch = load_batch(asked, model, names)
    rows = []
    targets = targets * len(args.fool) if len(targets) == 1 else targets
    with cli.progress(len(targets), "fooling") as advance:
        for n, target in enumerate(targets):
            X = batch.X[n : n + 1]
            try:
                fooled = FoolingImage().make_fooling_image(
                    X,
                    target,
                    model,
                    learning_rate=args.learning_rate,
                    max_iterations=args.iterations,
                    min_margin=MIN_MARGIN,
                )
            except RuntimeError as error:
                raise CannotError(f"{args.fool[n]} as {names[target]}: {error}") from error
            photo, changed = batch.photos[n], np.asarray(deprocess(fooled))
            # Asked about the picture as it is written, rounded to 8 bits, not about the tensor.
            with torch.no_grad():
                answer = model(preprocess(changed, changed.shape[:2]).to(X)).softmax(dim=1)[0]
            seen = int(answer.argmax())
            difference = changed.astype(float) - photo
            factor = max(1, int(127 / max(np.percentile(np.abs(difference), 99.5), 1)))
            magnified = (127.5 + factor * difference).round().clip(0, 255).astype(np.uint8)
            rows.append(
                [
                    Cell(photo, batch.titles[n], batch.subtitles[n]),
                    Cell(changed, f"{names[seen]} ({answer[seen]:.2f})", "the same, changed"),
                    Cell(
                        magnified,
                        f"the difference, {factor} times",
                        f"{np.abs(difference).mean():.1f} of 255 on average, {np.abs(difference).max():.0f} at most",
                    ),
                ]
            )
            advance()
    return save_grid(
        args.output,
        rows,
        metadata=make_recipe(args, model, batch.sources),
        heading="Can you see why the network does?",
        note="Titles: what the network sees, and how sure it is. The middle picture is the photo after a few steps "
        "towards another class; the right one shows, magnified, all that was changed (grey: nothing).",
    )


def main(argv: list[str] | None = None) -> int:
    return cli.run(work, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
