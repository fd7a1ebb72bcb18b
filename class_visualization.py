#!/usr/bin/env python3
"""Draws what a network believes classes look like, as gradient ascent finds them, one column a class.

Writes visualization/class_visualization.png (Simonyan et al., 2014; Yosinski et al., 2015).
"""

import argparse
import sys

from helpers import cli

CLASSES = ["gorilla", "flamingo", "tiger", "hourglass", "daisy"]


def build_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "class_visualization.py",
        __doc__,
        output="visualization/class_visualization.png",
        epilog="example: ./class_visualization.py --classes flamingo 'tiger cat' 417 --iterations 300",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        default=CLASSES,
        metavar="NAME",
        help="any part of an ImageNet name, or an index (default: five)",
    )
    parser.add_argument(
        "--iterations", type=cli.positive_int, default=200, help="steps of gradient ascent (default 200)"
    )
    parser.add_argument(
        "--rows", type=cli.positive_int, default=4, help="how many stages to show after the first (default 4)"
    )
    parser.add_argument(
        "--init",
        choices=("noise", "zero"),
        default="noise",
        help="start from noise (default) or a grey image",
    )
    parser.add_argument(
        "--size", type=cli.positive_int, default=224, help="side of the pictures in pixels (default 224)"
    )
    parser.add_argument(
        "--learning-rate", type=cli.non_negative, default=25.0, help="length of a step (default 25)"
    )
    parser.add_argument(
        "--l2-reg", type=cli.non_negative, default=1e-3, help="weight of ||I||^2 (default 0.001)"
    )
    parser.add_argument(
        "--blur-every", type=cli.positive_int, default=4, help="steps between two blurs (default 4)"
    )
    parser.add_argument(
        "--blur-sigma",
        type=cli.non_negative,
        nargs=2,
        default=(1.2, 0.35),
        metavar=("FIRST", "LAST"),
        help="width of the blur in pixels, at the start and at the end (default 1.2 0.35)",
    )
    parser.add_argument(
        "--max-jitter", type=int, default=16, help="largest shift of a step in pixels (default 16)"
    )
    return parser


def work(args: argparse.Namespace) -> object:
    from helpers.data_utils import class_names, find_class
    from helpers.errors import UsageError
    from helpers.figures import Cell, save_grid
    from helpers.image_utils import deprocess
    from helpers.models import choose_device, load_classifier
    from helpers.recipe import make_recipe
    from visualizers.class_ascent import climb

    names = class_names()
    targets = [find_class(text, names) for text in args.classes]
    if not 0 <= args.max_jitter < args.size:
        raise UsageError(f"--max-jitter {args.max_jitter} must be from 0 to less than --size {args.size}")
    cli.seed_everything(args.seed)
    model = load_classifier(args.model, args.weights, choose_device(args.device))
    steps = climb(
        targets,
        model,
        num_iterations=args.iterations,
        show_every=max(1, args.iterations // args.rows),
        l2_reg=args.l2_reg,
        learning_rate=args.learning_rate,
        blur_every=args.blur_every,
        blur_sigma=args.blur_sigma,
        max_jitter=args.max_jitter,
        size=args.size,
        init=args.init,
        seed=args.seed,
    )
    rows, labels = [], []
    with cli.progress(args.iterations, "ascent") as advance:
        for state in steps:
            advance()
            if state is None:
                continue
            labels.append(f"iteration {state.iteration}")
            rows.append(
                [
                    Cell(
                        deprocess(image),
                        names[target] if not rows else "",
                        f"score {score:.1f}, probability {probability:.3f}",
                    )
                    for image, target, score, probability in zip(
                        state.images,
                        targets,
                        state.scores.tolist(),
                        state.probabilities.tolist(),
                        strict=True,
                    )
                ]
            )
    return save_grid(
        args.output,
        rows,
        metadata=make_recipe(args, model, {}),
        row_labels=labels,
        heading="What the network believes these classes look like",
        note="Each picture was changed, pixel by pixel, to raise the raw score of its class. The probability is the "
        "network's own, and says nothing about how a person would name the picture.",
    )


def main(argv: list[str] | None = None) -> int:
    return cli.run(work, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
