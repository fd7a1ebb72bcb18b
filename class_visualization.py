#!/usr/bin/env python3
"""Draws what a network believes classes look like, or what channels of a layer respond to.

Writes visualization/class_visualization.png. --method pixels (default) is the assignment's own gradient ascent
(Simonyan et al., 2014; Yosinski et al., 2015), at several numbers of iterations. --method fourier (Olah et al., 2017)
makes pictures that a person can name. --fool changes photos until the network predicts another class (Szegedy et al.,
2014), and writes visualization/fooling_image.png. --invert shows what layers keep of a photo (Mahendran and Vedaldi,
2015), --dream draws more of what a layer sees in it (Mordvintsev et al., 2015).
"""

from __future__ import annotations  # what is only imported for its type costs --help no time

import sys

if __name__ == "__main__":  # first, so that Ctrl-C is one line from here on
    if sys.flags.safe_path:  # python -P leaves this folder out
        from pathlib import Path

        sys.path.insert(0, str(Path(__file__).resolve().parent))
    from helpers import interrupts

    interrupts.install()

import argparse
import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import cli
from helpers.presets import CLASS_PICTURE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

CLASSES = {  # chosen by eye for each method: these can be named
    "pixels": ["gorilla", "bee eater", "pineapple", "hourglass", "schooner"],
    "fourier": ["gorilla", "flamingo", "strawberry", "hourglass", "motor scooter"],
}
SIDE = 224  # of the pictures of create_class_visualization
FRAMES = 20  # of an animation with --method pixels
HEADING = "What the network believes a class looks like"
OUTPUT = "visualization/class_visualization.png"
# The options that go with each task, and their defaults. None: off, or chosen later.
OPTIONS: dict[str, dict] = {
    "--method pixels": {
        "iterations": 100,
        "rows": 4,
        "animate": None,
        "variations": 1,
        **CLASS_PICTURE,
    },
    "--method fourier": {
        "iterations": 256,
        "learning_rate": 0.05,
        "rows": None,
        "animate": None,
        "size": 224,
        "variations": 1,
        "layer": None,
        "channel": None,
    },
    "--fool": {"iterations": 100, "learning_rate": 1.0, "size": 224},
    "--invert": {"iterations": 200, "learning_rate": 0.1, "size": 224, "layer": None},
    "--dream": {"iterations": 20, "learning_rate": 0.03, "size": 384, "layer": None},
}
# The tasks that start from photos, and their outputs.
PHOTO_TASKS = {
    "fool": "visualization/fooling_image.png",
    "invert": "visualization/inversion.png",
    "dream": "visualization/dream.png",
}


def build_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "class_visualization.py",
        __doc__,
        output=OUTPUT,
        epilog="examples: ./class_visualization.py --classes flamingo 'tiger cat' 417 --iterations 200\n"
        "          ./class_visualization.py --method fourier --animate visualization/ascent.gif\n"
        "          ./class_visualization.py --layer features.7 --channel 12 40\n"
        "          ./class_visualization.py --fool my_dog.jpg --classes flamingo\n"
        "          ./class_visualization.py --dream my_dog.jpg --layer features.9",
    )
    add = parser.add_argument
    text = "any part of an ImageNet name, or an index (default: five classes; with --fool: flamingo)"
    add("--classes", nargs="+", metavar="NAME", help=text)
    cli.add_labels_option(parser)
    text = (
        "what to optimize: pixels, by your own create_class_visualization (default), or frequencies (default where "
        "an option of --method fourier is given)"
    )
    add("--method", choices=("pixels", "fourier"), help=text)
    add("--iterations", type=cli.positive_int, help=f"steps of the ascent ({_default('iterations')})")
    add("--learning-rate", type=cli.non_negative, help=f"length of a step ({_default('learning_rate')})")
    add("--rows", type=cli.positive_int, help="rows to draw after the first iteration (default 4)")
    text = (
        f"write the ascent as an animation, too; with --method pixels each of its {FRAMES} frames is an ascent of its "
        "own, and takes as long"
    )
    add("--animate", metavar="FILE.gif", help=text)
    text = (
        "different pictures of each class (default 1): with --method fourier, which this option alone chooses, they "
        "are pushed apart; with --method pixels each has a seed of its own, from --seed on"
    )
    add("--variations", type=cli.positive_int, metavar="N", help=text)

    add = parser.add_argument_group("--method pixels").add_argument
    add("--l2-reg", type=cli.non_negative, help=f"weight of ||I||^2 ({_default('l2_reg')})")
    add("--blur-every", type=cli.positive_int, help=f"steps from blur to blur ({_default('blur_every')})")
    jitter = functools.partial(cli.whole_number, last=SIDE - 1)
    add("--max-jitter", type=jitter, help=f"largest shift of a step in pixels ({_default('max_jitter')})")

    add = parser.add_argument_group("--method fourier (each of these options chooses it)").add_argument
    size = functools.partial(cli.whole_number, first=32, last=2048)
    text = f"side of the pictures in pixels, with --dream the shorter side ({_default('size')})"
    add("--size", type=size, help=text)
    text = "draw channels of this layer instead of classes; with --invert and --dream: the layers, one picture of each"
    add("--layer", nargs="+", metavar="NAME", help=text)
    add("--channel", nargs="+", type=int, metavar="K", help="which channels, from 0")

    add = parser.add_argument_group("pictures made from photos").add_argument
    text = "image files or bundled photos, to be changed until the network predicts the class of --classes"
    add("--fool", nargs="+", metavar="PATH-or-NAME", help=text)
    add("--invert", metavar="PATH-or-NAME", help="rebuild this photo from the features of the layers --layer")
    add(
        "--dream",
        metavar="PATH-or-NAME",
        help="change this photo to raise the activations of the layers --layer",
    )
    return parser


def _default(option: str) -> str:
    values = {task: f"{options[option]:g}" for task, options in OPTIONS.items() if option in options}
    if len(set(values.values())) == 1:
        return f"default {values.popitem()[1]}"
    return "default " + ", ".join(f"{value} with {task}" for task, value in values.items())


def settle(args: argparse.Namespace) -> None:
    """Fills in the method and the defaults. Raises UsageError for options that do not go together, CannotError where
    they need a folder that is missing.
    """
    from helpers.errors import UsageError

    photo_tasks = [f"--{name}" for name in PHOTO_TASKS if getattr(args, name)]
    if len(photo_tasks) > 1:
        raise UsageError(f"{' and '.join(photo_tasks)} are different things to draw: give one of them")
    if photo_tasks and args.method:
        raise UsageError(f"--method goes with drawing, not with {photo_tasks[0]}")
    known = dict.fromkeys(name for options in OPTIONS.values() for name in options)
    given = [name for name in known if getattr(args, name) is not None]
    # Alone, --variations asks for pictures that are pushed apart.
    fourier = [name for name in given if name not in OPTIONS["--method pixels"] or name == "variations"]
    asked = [*photo_tasks, "--method fourier" if args.method else f"--{[*fourier, ''][0]}"][0]
    if not photo_tasks:
        args.method = args.method or ("fourier" if fourier else "pixels")
    task = f"--method {args.method}" if args.method else photo_tasks[0]
    for name in given:
        if name not in OPTIONS[task]:
            others = " or ".join(other for other, options in OPTIONS.items() if name in options)
            raise UsageError(f"--{name.replace('_', '-')} goes with {others}, not with {task}")
    for name, default in OPTIONS[task].items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    if args.method == "pixels" and args.seed + args.variations > 2**32:
        raise UsageError(f"--variations {args.variations}: the last seed would be above 4294967295")
    if args.animate:
        cli.check_output(Path(args.animate), "--animate", (".gif",))
    if args.classes and (args.layer or args.invert or args.dream):
        raise UsageError("--classes and --layer are two different things to draw: give one of them")
    if (args.invert or args.dream) and not args.layer:
        raise UsageError(f"{task} needs layers, as in {task} chelsea --layer features.4 features.9")
    if args.method and bool(args.layer) != bool(args.channel):
        raise UsageError("--layer and --channel go together, as in --layer features.7 --channel 12")
    if args.method and args.layer and len(args.layer) > 1:
        raise UsageError("--layer: channels of one layer at a time")
    if photo_tasks and args.output == OUTPUT:
        args.output = PHOTO_TASKS[task.removeprefix("--")]
    cli.check_distinct([("--output", args.output), ("--animate", args.animate)])
    if args.method != "pixels":
        cli.require_extras(asked)


def work(args: argparse.Namespace) -> Path:
    settle(args)
    import numpy as np
    import torch

    from helpers.data_utils import find_class, image_name, names_for, open_image, read_labels
    from helpers.image_batch import load_batch, network_note, scores_of
    from helpers.image_utils import resize, square
    from helpers.models import choose_device, load_classifier
    from helpers.recipe import make_recipe

    labels = read_labels(args.labels) if args.labels else None
    device = choose_device(args.device)
    if args.method == "pixels" and device.type == "mps":
        device = choose_device("cpu")  # published code makes its image there: no tensor type names MPS
    cli.seed_everything(args.seed)
    model = load_classifier(args.model, args.weights, device)
    network = network_note(args.model, args.weights)
    check_memory_of(args, model)
    side = SIDE if args.method == "pixels" else args.size
    grey = torch.zeros(1, 3, side, side).to(next(model.parameters()))
    count = scores_of(model, grey).shape[1]
    names = names_for(count, labels)
    default = CLASSES.get(args.method, ["flamingo"])
    if count != 1000 or labels:
        default = [*range(min(len(default), count))]
    targets = [find_class(text, names) for text in args.classes or default]
    if args.method == "pixels":
        return draw_pixels(args, model, targets, names, network)
    from extras.synthesis import figures

    ascent = {"iterations": args.iterations, "learning_rate": args.learning_rate, "network": network}
    if args.fool:
        batch = load_batch(args.fool, None, args.size, model, names)
        recipe = make_recipe(vars(args), model, batch.sources)
        return figures.draw_fooled(args.output, batch, targets, names, model, metadata=recipe, **ascent)
    if args.invert or args.dream:
        task = "invert" if args.invert else "dream"
        photo = open_image(args.invert or args.dream)
        photo = square(photo, args.size) if args.invert else resize(photo, args.size)
        recipe = make_recipe(vars(args), model, {args.invert or args.dream: np.asarray(photo)})
        return figures.draw_from_photo(
            args.output,
            task,
            photo,
            image_name(args.invert or args.dream),
            args.layer,
            model,
            seed=args.seed,
            metadata=recipe,
            **ascent,
        )
    layer = args.layer[0] if args.layer else None
    titles = [names[target] for target in targets]
    if layer:
        targets, titles = args.channel, [f"channel {k}" for k in args.channel]
    return figures.draw_pictures(
        args.output,
        targets,
        titles,
        model,
        layer=layer,
        variations=args.variations,
        rows=args.rows,
        animation=args.animate,
        size=args.size,
        seed=args.seed,
        heading=f"What channels of {layer} respond to" if layer else HEADING,
        names=names,
        metadata=make_recipe(vars(args), model, {}),
        **ascent,
    )


def check_memory_of(args: argparse.Namespace, model: nn.Module) -> None:
    """Raises CannotError where the pictures asked for would take more memory than is free."""
    from helpers.data_utils import open_image
    from helpers.figures import DPI
    from helpers.memory import activations, check_memory, resized_size

    device = next(model.parameters()).device
    asked = len(args.channel or args.classes or CLASSES["pixels"]) if args.method else 1
    if args.method == "pixels":
        shown = SIDE**2 + 3 * (2.5 * DPI) ** 2  # of each, the picture and its place on the page
        rows = min(args.rows, args.iterations)
        columns = asked * args.variations
        check_memory(lambda rows: 3 * shown * columns * (rows + 1), "--rows", rows, device)
        return
    step = activations(model).step
    states = (48 if args.animate else 0) + (args.rows or 4) if args.method else 1
    count = asked * (args.variations or 1)
    photo = open_image(args.dream).size if args.dream else (1, 1)

    def needed(size: int) -> float:
        # Beside the network: random views, the optimization's vectors, and the pictures kept for rows and frames.
        return (step + 200 + 15 * states) * count * math.prod(resized_size(photo, size))

    check_memory(needed, "--size", args.size, device, least=32)


def draw_pixels(
    args: argparse.Namespace, model: nn.Module, targets: list[int], names: Sequence[str], network: str
) -> Path:
    """One column per class and seed, one row per number of iterations, all by the graded
    `create_class_visualization`.
    """
    import torch

    from helpers.figures import GIF_PIXELS, Cell, save_animation, save_grid, tile
    from helpers.image_batch import answer_note
    from helpers.image_utils import preprocess
    from helpers.models import only_classes
    from helpers.recipe import make_recipe
    from visualizers import ClassVisualization

    shown = counts(args.iterations, args.rows)
    frames = counts(args.iterations, FRAMES) if args.animate else []
    needed = sorted({*shown, *frames})
    like = next(model.parameters())
    # Published code makes its image on the CPU, unless a tensor type such as torch.cuda.FloatTensor says otherwise.
    dtype: Any = like.dtype if like.device.type == "cpu" else like.type()
    pictures: dict[int, list] = {count: [] for count in needed}
    columns = [(target, args.seed + v) for target in targets for v in range(args.variations)]
    titles = [names[k] + (f", seed {seed}" if args.variations > 1 else "") for k, seed in columns]
    with cli.progress(sum(needed) * len(columns), "gradient ascent") as advance:
        for target, seed in columns:
            # The score of one class is enough for its gradient.
            narrow, y = only_classes(model, torch.tensor([target], device=like.device))
            for count in needed:
                cli.seed_everything(seed)  # every count is the same ascent, stopped later
                picture = ClassVisualization().create_class_visualization(
                    int(y),
                    {int(y): names[target]},
                    narrow,
                    dtype,
                    l2_reg=args.l2_reg,
                    learning_rate=args.learning_rate,
                    num_iterations=count,
                    blur_every=args.blur_every,
                    max_jitter=args.max_jitter,
                    show_every=count,
                    generate_plots=False,
                )
                pictures[count].append(picture)
                advance(count)
    rows = []
    for count in shown:
        with torch.no_grad():
            scores = model(torch.cat([preprocess(picture) for picture in pictures[count]]).to(like))
        cells = zip(pictures[count], titles, columns, scores, scores.softmax(dim=1), strict=True)
        rows.append(
            [
                Cell(
                    picture,
                    title if count == 1 else "",
                    answer_note(float(s[k]), float(p[k]), k, int(s.argmax()), names),
                )
                for picture, title, (k, _), s, p in cells
            ]
        )
    if args.animate:
        sheets = [tile(pictures[count], len(columns), GIF_PIXELS / len(frames)) for count in frames]
        save_animation(args.animate, sheets)
    return save_grid(
        args.output,
        rows,
        metadata=make_recipe(vars(args), model, {}),
        row_labels=[f"iteration {count}" for count in shown],
        heading=HEADING,
        note="Gradient ascent from random noise: pixels were adjusted to raise the score of the class. Scores and "
        f"probabilities are the network's; they do not say whether a person recognizes the class. {network}",
    )


def counts(iterations: int, rows: int) -> list[int]:
    """After which iterations to show a picture: the first, then at most `rows`, evenly spaced, to the last."""
    every = -(-iterations // rows)
    return sorted({1, *range(every, iterations + 1, every), iterations})


def main(argv: list[str] | None = None) -> int:
    return cli.run(work, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
