#!/usr/bin/env python3
"""Draws which pixels of photos matter most for the class that a network sees in them.

Writes visualization/saliency_visualization.png (Simonyan et al., 2014).
"""

import argparse
import sys

from helpers import cli


def build_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "saliency_visualization.py",
        __doc__,
        output="visualization/saliency_visualization.png",
        epilog="example: ./saliency_visualization.py --images my_dog.jpg chelsea --classes 'tiger cat'",
    )
    cli.add_image_options(parser)
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="one row of maps for each: saliency, smoothgrad, gradient-x-input, integrated-gradients, "
        "guided-backprop, guided-grad-cam, grad-cam, grad-cam++, hires-cam, layer-cam, fused-layer-cam, or all "
        "(default: saliency, also blurred over the photo)",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="under each map: deletion and insertion curves, and the map of networks that have forgotten",
    )
    return parser


def work(args: argparse.Namespace) -> object:
    from helpers.data_utils import class_names
    from helpers.errors import nearest
    from helpers.image_batch import NOTES, TRUST_NOTE, Block, arranged, load_batch, picture, trust_rows
    from helpers.figures import Cell, clip_percentile, smoothed_overlay, save_grid
    from helpers.models import choose_device, load_classifier
    from helpers.recipe import make_recipe
    from extras.attribution.methods import METHODS, completeness_error

    names = args.methods or ["saliency"]
    names = list(METHODS) if names == ["all"] else names
    for name in names:
        if name not in METHODS:
            raise nearest(name, [*METHODS, "all"], "method")
    cli.seed_everything(args.seed)
    model = load_classifier(args.model, args.weights, choose_device(args.device))
    batch = load_batch(args, model, class_names())
    blocks = []
    for name in names:
        method = METHODS[name]
        with cli.progress(len(batch.X) * method.passes, method.title) as advance:
            maps = method.explain(batch.X, batch.y, model, advance)
        shown = [
            picture(heat, method.kind, photo)
            for heat, photo in zip(maps.cpu().numpy(), batch.photos, strict=True)
        ]
        captions = [""] * len(shown)
        if method.complete:
            sums = maps.flatten(1).sum(dim=1)
            errors = completeness_error(maps, batch.X, batch.y, model)
            captions = [
                f"sum {total:.1f}, score gained {total - error:.1f}"
                for total, error in zip(sums.tolist(), errors.tolist(), strict=True)
            ]
        cells = [Cell(image, caption=text) for image, text in zip(shown, captions, strict=True)]
        block = Block([cells], [method.title])
        blocks.append(block)
        if not args.methods:
            block.rows.append(
                [
                    Cell(smoothed_overlay(photo, clip_percentile(heat)))
                    for photo, heat in zip(batch.photos, maps.cpu().numpy(), strict=True)
                ]
            )
            block.labels.append("map, blurred, over photo")
        if args.trust:
            checks, names_of_checks = trust_rows(
                method.explain, method.kind, maps, batch, model, passes=method.passes, seed=args.seed
            )
            block.rows.extend(checks)
            block.labels.extend(names_of_checks)
    notes = [NOTES[kind] for kind in NOTES if kind in {METHODS[name].kind for name in names}]
    rows, labels = arranged(batch, blocks)
    return save_grid(
        args.output,
        rows,
        metadata=make_recipe(args, model, batch.sources),
        row_labels=labels,
        heading="Which pixels matter for the class?",
        note=" ".join([*notes, "Each map is scaled by itself.", TRUST_NOTE if args.trust else ""]),
    )


def main(argv: list[str] | None = None) -> int:
    return cli.run(work, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
