#!/usr/bin/env python3
"""Draws where in photos a network finds the evidence for a class, at layers from early to last.

Writes visualization/gradcam_visualization.png (Selvaraju et al., 2017; Springenberg et al., 2015).
"""

import argparse
import sys
from collections.abc import Callable

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
        "--method",
        default="grad-cam",
        metavar="NAME",
        help="how a layer's maps are weighed: grad-cam (default), grad-cam++, hires-cam or layer-cam",
    )
    parser.add_argument("--fuse", action="store_true", help="add one map of all layers together")
    parser.add_argument(
        "--guided", action="store_true", help="add guided backpropagation and Guided Grad-CAM"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="under each map (by default of the last layer alone): deletion and insertion curves, and the map of "
        "networks that have forgotten",
    )
    return parser


def work(args: argparse.Namespace) -> object:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from helpers.data_utils import class_names
    from helpers.errors import UsageError, nearest
    from helpers.image_batch import TRUST_NOTE, Block, arranged, load_batch, picture, trust_rows
    from helpers.figures import Cell, save_grid, signed_picture
    from helpers.models import choose_device, load_classifier
    from helpers.recipe import make_recipe
    from visualizers import GradCam
    from extras.attribution.methods import METHODS, cam
    from extras.attribution.cam import RULES, fuse, cam_at, guided_grad_cam, map_layers, spread_layers
    from visualizers.mechanisms import Advance, last_map_layer

    if args.method not in RULES:
        raise nearest(args.method, RULES, "method")
    cli.seed_everything(args.seed)
    model = load_classifier(args.model, args.weights, choose_device(args.device))
    if args.list_layers:
        empty = torch.zeros(1, 3, args.size, args.size, device=next(model.parameters()).device)
        for name, (channels, height, width) in map_layers(model, empty).items():
            print(f"{name:32} {channels:5} maps of {height} x {width}")
        return None
    batch = load_batch(args, model, class_names())
    layers = args.layers
    if not layers:
        alone = args.trust and not args.fuse
        try:
            layers = [last_map_layer(model, batch.X)] if alone else spread_layers(model, batch.X)
        except ValueError as error:  # a transformer, say
            raise UsageError(f"--model {args.model}: {error}") from error
    known = map_layers(model, batch.X)
    for name in layers:
        if name not in known:
            raise nearest(name, known, "layer with maps")
    blocks = []

    def add(
        title: str, cells: list[Cell], explain: Callable[..., Tensor], kind: str, maps: np.ndarray
    ) -> None:
        blocks.append(Block([cells], [title]))
        if args.trust:
            checks, names = trust_rows(explain, kind, torch.as_tensor(maps), batch, model, seed=args.seed)
            blocks[-1].rows.extend(checks)
            blocks[-1].labels.extend(names)

    maps = cam_at(layers, batch.X, batch.y, model, args.method)
    drawn = [(name, heats, cam(args.method, [name])) for name, heats in maps.items()]
    if args.fuse:
        drawn.append((f"{len(maps)} layers fused", fuse(maps), cam(args.method, layers, fused=True)))
    for title, heats, explain in drawn:
        cells = [
            Cell(picture(heat, "region", photo), subtitle="" if heat.any() else "no positive evidence")
            for photo, heat in zip(batch.photos, heats, strict=True)
        ]
        add(title, cells, explain, "region", heats)
    if args.guided:
        guided = GradCam().guided_backprop(batch.X, batch.y, model)
        last = layers[-1]

        def product(X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None) -> Tensor:
            region = cam(args.method, [last])(X, y, model)
            return METHODS["guided-backprop"].explain(X, y, model, advance) * region

        for title, images, explain in (
            ("guided backpropagation", guided, METHODS["guided-backprop"].explain),
            ("Guided Grad-CAM", guided_grad_cam(guided, maps[last]), product),
        ):
            cells = [Cell(signed_picture(image)) for image in images]
            add(title, cells, explain, "size", abs(images).max(axis=3))
    rows, labels = arranged(batch, blocks)
    return save_grid(
        args.output,
        rows,
        metadata=make_recipe(args, model, batch.sources),
        row_labels=labels,
        heading="Where is the evidence for the class?",
        note="Red: the named layer finds strong evidence for the class in the title; untinted: none. "
        "Each map is scaled by itself." + (f" {TRUST_NOTE}" if args.trust else ""),
    )


def main(argv: list[str] | None = None) -> int:
    return cli.run(work, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
