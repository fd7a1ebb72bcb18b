#!/usr/bin/env python3
"""Draws which pixels of photos matter most for the class that a network sees in them.

Writes visualization/saliency_visualization.png (Simonyan et al., 2014).
"""

import sys

if __name__ == "__main__":  # first, so that Ctrl-C is one line from here on
    if sys.flags.safe_path:  # python -P leaves this folder out
        from pathlib import Path

        sys.path.insert(0, str(Path(__file__).resolve().parent))
    from helpers import interrupts

    interrupts.install()

import argparse

from helpers import cli


def build_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "saliency_visualization.py",
        __doc__,
        output="visualization/saliency_visualization.png",
        epilog="example: ./saliency_visualization.py --images my_dog.jpg chelsea --classes 'tiger cat'",
    )
    cli.add_image_options(parser)
    cli.add_comparison_options(parser)
    add = parser.add_argument
    add(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="one row of maps per method: saliency, smoothgrad, vargrad, gradient-x-input, integrated-gradients, "
        "deeplift, guided-backprop, guided-grad-cam, grad-cam, grad-cam++, xgrad-cam, hires-cam, layer-cam, "
        "fused-layer-cam, eigen-cam, score-cam, ablation-cam, occlusion, rise, or all; of a vision transformer also "
        "attention-rollout, attention-relevance (default: saliency, also blurred over the photo)",
    )
    add(
        "--trust",
        action="store_true",
        help="under each map: deletion and insertion curves, and maps of networks with re-initialized layers",
    )
    return parser


def work(args: argparse.Namespace) -> object:
    if args.methods or args.trust:
        cli.require_extras("--methods" if args.methods else "--trust")
        from extras.attribution import figures as extra
        from extras.attribution.methods import layers_note

    if args.versus or args.compare_models:
        cli.require_extras("--versus" if args.versus else "--compare-models")
        from extras.attribution.comparison import against, network_rows, open_networks
        from extras.attribution.methods import METHODS
    from helpers.data_utils import read_labels
    from helpers.figures import Cell, clip_percentile, save_grid, smoothed_overlay
    from helpers.image_batch import (
        NOTES,
        SCALED,
        MapRows,
        arrange,
        best_classes,
        chart_rows,
        load_batch,
        map_picture,
        network_note,
    )
    from helpers.models import choose_device, load_classifier, only_classes
    from helpers.recipe import make_recipe
    from visualizers import SaliencyMap
    from visualizers.mechanisms import guided_note, in_batches

    labels = read_labels(args.labels) if args.labels else None
    cli.seed_everything(args.seed)
    methods = extra.chosen_methods(args.methods) if args.methods else []
    model = load_classifier(args.model, args.weights, choose_device(args.device))
    batch = load_batch(args.images, args.classes, args.size, model, labels, args.crop)
    if args.top:
        best = best_classes(batch.X, model, args.top, batch.names)
    if args.versus:
        batch, model = against(batch, model, args.versus, batch.names)
    if methods:
        groups = [extra.method_rows(method, batch, model, args.trust, args.seed) for method in methods]
    else:
        narrow, y = only_classes(model, batch.y)
        with cli.progress(len(y), "saliency map") as advance:
            maps = in_batches(
                lambda X, y: SaliencyMap().compute_saliency_maps(X, y, narrow), batch.X, y, advance
            )
        heats = maps.cpu().numpy()
        plain = [Cell(map_picture(heat, "size")) for heat in heats]
        over = [
            Cell(smoothed_overlay(photo, clip_percentile(heat)))
            for photo, heat in zip(batch.photos, heats, strict=True)
        ]
        groups = [MapRows([plain, over], ["saliency map", "map, blurred, over photo"])]
        if args.trust:
            extra.add_evaluation(groups[0], extra.METHODS["saliency"], maps, batch, model, args.seed)
    kinds = {method.kind for method in methods} or {"size"}
    notes = [NOTES[kind] for kind in NOTES if kind in kinds]
    notes += [SCALED, extra.EVALUATION_NOTE] if args.trust else [SCALED]
    if args.compare_models:
        others = open_networks(args.compare_models, batch.X.device, getattr(model, "versus", None))
        compared = methods[0] if methods else METHODS["saliency"]
        groups += network_rows(compared, batch, others, like=groups[0])
        if compared.guided:
            said = {title: guided_note(other, batch.X) for title, other in others}
            notes += [f"{title}: {text}" for title, text in said.items() if text]
    if methods:
        notes.append(layers_note(methods, model, batch.X))
    if any(method.guided for method in methods):
        notes.append(guided_note(model, batch.X))
        cli.say(notes[-1], args.quiet)
    if args.top:
        groups.insert(len(batch.photos) == 1, chart_rows(best, like=groups[0]))
    rows, labels = arrange(batch, groups)
    return save_grid(
        args.output,
        rows,
        metadata=make_recipe(vars(args), model, batch.sources),
        row_labels=labels,
        heading="Which pixels matter for the class?",
        note=" ".join([*filter(None, notes), network_note(args.model, args.weights)]),
    )


def main(argv: list[str] | None = None) -> int:
    return cli.run(work, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
