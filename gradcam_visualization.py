#!/usr/bin/env python3
"""Draws where in photos a network finds the evidence for a class, at layers from early to last.

Writes visualization/gradcam_visualization.png (Selvaraju et al., 2017; Springenberg et al., 2015).
"""

import argparse
import sys

from helpers import cli


def build_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "gradcam_visualization.py",
        __doc__,
        output="visualization/gradcam_visualization.png",
        epilog="example: ./gradcam_visualization.py --images my_dog.jpg --layers features.7 features.12 --guided",
    )
    cli.add_image_options(parser)
    parser.add_argument(
        "--layers", nargs="+", metavar="NAME", help="modules to explain (default: four, from early to last)"
    )
    parser.add_argument(
        "--list-layers", action="store_true", help="print the layers that can be explained, and stop"
    )
    parser.add_argument(
        "--guided", action="store_true", help="add guided backpropagation and Guided Grad-CAM"
    )
    return parser


def work(args: argparse.Namespace) -> object:
    import torch

    from helpers.data_utils import class_names
    from helpers.errors import UsageError, nearest
    from helpers.explain import explained_images
    from helpers.figures import Cell, overlay, save_grid, signed_picture
    from helpers.models import choose_device, load_classifier
    from helpers.recipe import make_recipe
    from visualizers import GradCam
    from visualizers.layer_gradcam import grad_cam_at, guided_grad_cam, map_layers, spread_layers

    cli.seed_everything(args.seed)
    model = load_classifier(args.model, args.weights, choose_device(args.device))
    if args.list_layers:
        empty = torch.zeros(1, 3, args.size, args.size, device=next(model.parameters()).device)
        for name, (channels, height, width) in map_layers(model, empty).items():
            print(f"{name:32} {channels:5} maps of {height} x {width}")
        return None
    batch = explained_images(args, model, class_names())
    try:
        layers = args.layers or spread_layers(model, batch.X)
    except ValueError as error:  # a transformer, say
        raise UsageError(f"--model {args.model}: {error}") from error
    known = map_layers(model, batch.X)
    for name in layers:
        if name not in known:
            raise nearest(name, known, "layer with maps")
    maps = grad_cam_at(layers, batch.X, batch.y, model)
    rows = [
        [Cell(photo, *text) for photo, *text in zip(batch.photos, batch.titles, batch.subtitles, strict=True)]
    ]
    for heats in maps.values():
        rows.append(
            [
                Cell(overlay(photo, heat), subtitle="" if heat.any() else "no positive evidence")
                for photo, heat in zip(batch.photos, heats, strict=True)
            ]
        )
    labels = ["photo", *maps]
    if args.guided:
        guided = GradCam().guided_backprop(batch.X, batch.y, model)
        last = maps[layers[-1]]
        rows.append([Cell(signed_picture(image)) for image in guided])
        rows.append([Cell(signed_picture(image)) for image in guided_grad_cam(guided, last)])
        labels += ["guided backpropagation", "Guided Grad-CAM"]
    return save_grid(
        args.output,
        rows,
        metadata=make_recipe(args, model, batch.sources),
        row_labels=labels,
        heading="Where is the evidence for the class?",
        note="Red: the layer named at the left finds strong evidence for the class in the title; untinted: none. "
        "Each map is scaled by itself.",
    )


def main(argv: list[str] | None = None) -> int:
    return cli.run(work, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
