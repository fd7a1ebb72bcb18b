#!/usr/bin/env python3
"""Draws where in photos a network finds the evidence for a class, at layers from early to last.

Writes visualization/gradcam_visualization.png (Selvaraju et al., 2017; Springenberg et al., 2015).
"""

import sys

if __name__ == "__main__":  # first, so that Ctrl-C is one line from here on
    if sys.flags.safe_path:  # python -P leaves this folder out
        from pathlib import Path

        sys.path.insert(0, str(Path(__file__).resolve().parent))
    from helpers import interrupts

    interrupts.install()

import argparse
from collections.abc import Callable

from helpers import cli

METHODS = (
    *("grad-cam", "grad-cam++", "xgrad-cam", "hires-cam", "layer-cam", "eigen-cam"),
    *("score-cam", "ablation-cam"),
)


def build_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "gradcam_visualization.py",
        __doc__,
        output="visualization/gradcam_visualization.png",
        epilog="example: ./gradcam_visualization.py --images my_dog.jpg --layers features.7 features.12 --guided",
    )
    cli.add_image_options(parser)
    cli.add_comparison_options(parser)
    add = parser.add_argument
    add("--layers", nargs="+", metavar="NAME", help="modules to explain (default: four, from early to last)")
    add("--list-layers", action="store_true", help="print the layers that can be explained, and stop")
    add(
        "--method",
        default="grad-cam",
        metavar="NAME",
        help=f"how a layer's maps are weighted: {', '.join(METHODS)} (default grad-cam; the last two are slow)",
    )
    add("--fuse", action="store_true", help="add one map of all layers together")
    add("--guided", action="store_true", help="add guided backpropagation and Guided Grad-CAM")
    add(
        "--trust",
        action="store_true",
        help="under each map (by default of the last layer alone): deletion and insertion curves, and maps of "
        "networks with re-initialized layers",
    )
    add(
        "--cover",
        metavar="WHAT",
        help="under each map (by default of the last layer alone): the photo with a region covered, the probability "
        "before and after, and the new map. WHAT is a picture, white where the photo is covered, or a share such as "
        "10%%: what the map calls most important, and the same region somewhere else",
    )
    add("--cover-with", choices=("grey", "blur"), help="what --cover puts there (default grey)")
    return parser


def work(args: argparse.Namespace) -> object:
    from helpers.errors import UsageError, nearest

    if args.method not in METHODS:
        raise nearest(args.method, METHODS, "method")
    if args.cover_with and args.cover is None:
        raise UsageError("--cover-with goes with --cover")
    for option in ("trust", "guided", "compare_models"):
        if args.cover is not None and getattr(args, option):
            raise UsageError(f"--cover does not go with --{option.replace('_', '-')}: draw a figure of each")
    beyond = {
        "--method": args.method != "grad-cam",
        "--fuse": args.fuse,
        "--trust": args.trust,
        "--cover": args.cover is not None,
    }
    for option in filter(beyond.get, beyond):
        cli.require_extras(option)
    if any(beyond.values()):
        from extras.attribution import figures as extra
        from extras.attribution.cam import cam_at, fuse, passes_of
        from extras.attribution.methods import class_activation
    if args.cover is not None:
        from extras.attribution.comparison import add_covered, beside_the_photo, read_cover
    if args.versus or args.compare_models:
        cli.require_extras("--versus" if args.versus else "--compare-models")
        from extras.attribution.comparison import against, network_rows, open_networks
        from extras.attribution.methods import Method, class_activation, last_layer
    import torch

    from helpers.data_utils import read_labels
    from helpers.figures import Cell, save_grid, signed_picture
    from helpers.image_batch import (
        NOTES,
        SCALED,
        MapRows,
        arrange,
        best_classes,
        chart_rows,
        check_size,
        load_batch,
        map_picture,
        network_note,
        scores_of,
    )
    from helpers.models import choose_device, load_classifier, only_classes, working_copy
    from helpers.recipe import make_recipe
    from visualizers import GradCam
    from visualizers.mechanisms import (
        guided_note,
        in_batches,
        last_map_layer,
        layer_option,
        map_layers,
        spread_layers,
    )

    labels = read_labels(args.labels) if args.labels else None
    cli.seed_everything(args.seed)
    model = load_classifier(args.model, args.weights, choose_device(args.device))
    if args.list_layers:
        check_size(model, args.size, 1)
        empty = torch.zeros(1, 3, args.size, args.size).to(next(model.parameters()))
        scores_of(model, empty)  # says so if this size is not for this network
        for name, (channels, height, width) in map_layers(model, empty).items():
            print(f"{name:32} {channels:5} maps of {height} x {width}")
        return None
    batch = load_batch(args.images, args.classes, args.size, model, labels, args.crop)
    if args.cover is not None:
        cover = read_cover(args.cover, args.cover_with or "grey", args.images, args.size, args.crop)
        batch.sources.update(cover.sources)
    if args.versus:
        batch, model = against(batch, model, args.versus, batch.names)
    notes = [f"Method: {args.method}, at the layers named.", NOTES["region"], SCALED]
    layers = args.layers
    if not layers:
        alone = (args.trust or args.cover is not None) and not args.fuse
        try:
            layers = [last_map_layer(model, batch.X)] if alone else spread_layers(model, batch.X)
        except ValueError as error:  # a transformer, say
            raise UsageError(f"--model {args.model}: {error}") from error
    else:
        known = map_layers(model, batch.X)
        for name in layers:
            if name not in known:
                raise nearest(name, known, "layer with maps")
    if args.method == "grad-cam" and not layer_option(GradCam.grad_cam, layers[0]):
        layers = [last_map_layer(model, batch.X)]
        notes.append("This copy's grad_cam has no parameter `layer`: it explains the last layer alone.")

    if args.method == "eigen-cam":
        notes.append("Eigen-CAM asks for no class: it shows what the layer responds to most.")

    narrow, y = only_classes(model, batch.y)
    passes = len(layers) if args.method == "grad-cam" else passes_of(args.method, layers, batch.X, narrow)
    with cli.progress(len(y) * passes, args.method) as advance:
        if args.method == "grad-cam":

            def at_layer(name: str) -> Callable:
                option = layer_option(GradCam.grad_cam, name)  # if the student's function has this parameter
                return lambda X, y: GradCam().grad_cam(X, y, narrow, **option)

            maps = {name: in_batches(at_layer(name), batch.X, y, advance).numpy() for name in layers}
        else:
            maps = cam_at(layers, batch.X, y, narrow, args.method, advance)
    shown = dict(maps)
    if args.fuse:
        shown[f"{len(maps)} layers fused"] = fuse(maps)
    groups = []
    for title, heats in shown.items():
        cells = [
            Cell(map_picture(heat, "region", photo), subtitle="" if heat.any() else "no positive evidence")
            for photo, heat in zip(batch.photos, heats, strict=True)
        ]
        groups.append(MapRows([cells], [title]))
        if args.trust or args.cover is not None:
            at = [title] if title in maps else list(maps)
            explain = class_activation(args.method, at, fused=title not in maps)
            passes = len(at) if args.method == "grad-cam" else passes_of(args.method, at, batch.X, narrow)
            method = extra.Method("class activation map", explain, "region", passes=passes)
        if args.trust:
            extra.add_evaluation(groups[-1], method, torch.as_tensor(heats), batch, model, args.seed)
        if args.cover is not None:
            added = add_covered(groups[-1], method, heats, batch, model, cover, args.seed)
    if args.cover is not None:
        notes.append(cover.note)
        if len(batch.photos) == len(groups) == 1:
            batch, groups[0] = beside_the_photo(batch, groups[0], added)
    if args.guided:
        notes.append(guided_note(model, batch.X))
        cli.say(notes[-1], args.quiet)
        # Of a copy of the model: the published way to do it replaces the ReLUs for good.
        guided = in_batches(
            lambda X, y: GradCam().guided_backprop(X, y, working_copy(narrow)), batch.X, y
        ).numpy()
        product = guided * maps[layers[-1]][..., None]
        for title, images in (
            ("guided backpropagation", guided),
            (f"Guided Grad-CAM, {layers[-1]}", product),
        ):
            groups.append(MapRows([[Cell(signed_picture(image)) for image in images]], [title]))
            if args.trust:
                method = extra.METHODS["guided-backprop" if images is guided else "guided-grad-cam"]
                sizes = torch.as_tensor(abs(images).max(axis=3))
                extra.add_evaluation(groups[-1], method, sizes, batch, model, args.seed)
    notes += [extra.EVALUATION_NOTE] if args.trust else []
    if args.compare_models:
        others = open_networks(args.compare_models, batch.X.device, getattr(model, "versus", None))
        compared = Method(args.method, class_activation(args.method), "region", layers=last_layer)
        groups += network_rows(compared, batch, others, like=groups[0])
    if args.top:
        best = best_classes(batch.X, model, args.top, batch.names)
        groups.insert(len(batch.photos) == 1, chart_rows(best, like=groups[0]))
    rows, labels = arrange(batch, groups)
    return save_grid(
        args.output,
        rows,
        metadata=make_recipe(vars(args), model, batch.sources),
        row_labels=labels,
        heading="Where is the evidence for the class?",
        note=" ".join([*filter(None, notes), network_note(args.model, args.weights)]),
    )


def main(argv: list[str] | None = None) -> int:
    return cli.run(work, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
