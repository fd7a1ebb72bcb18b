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
    return parser


def work(args: argparse.Namespace) -> object:
    import numpy as np

    from helpers.data_utils import class_names
    from helpers.explain import explained_images
    from helpers.figures import Cell, glow, save_grid
    from helpers.models import choose_device, load_classifier
    from helpers.recipe import make_recipe
    from visualizers import SaliencyMap

    cli.seed_everything(args.seed)
    model = load_classifier(args.model, args.weights, choose_device(args.device))
    batch = explained_images(args, model, class_names())
    maps = SaliencyMap().compute_saliency_maps(batch.X, batch.y, model).cpu().numpy()
    # A few pixels outshine all others by far: without the cut at the 99th percentile the map would look
    # black.
    shown = [np.clip(heat / max(np.percentile(heat, 99), 1e-12), 0, 1) for heat in maps]
    return save_grid(
        args.output,
        [
            [
                Cell(photo, *text)
                for photo, *text in zip(batch.photos, batch.titles, batch.subtitles, strict=True)
            ],
            [Cell(heat) for heat in shown],
            [Cell(glow(photo, heat)) for photo, heat in zip(batch.photos, shown, strict=True)],
        ],
        metadata=make_recipe(args, model, batch.sources),
        row_labels=["photo", "saliency map", "map, blurred, over photo"],
        heading="Which pixels matter for the class?",
        note="Bright: a small change of this pixel changes the raw score of the class in the title the most. "
        "Each map is scaled by itself; its brightest hundredth is drawn alike.",
    )


def main(argv: list[str] | None = None) -> int:
    return cli.run(work, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
