#!/usr/bin/env python3
"""Paints a photo in the style of another picture (Gatys, Ecker and Bethge, 2016).

Without arguments it paints three pictures; each is written to visualization/NAME.png, and beside its content
and its style to visualization/NAME_panel.png.
"""

from __future__ import annotations  # what is only imported for its type costs --help no time

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import cli
from extras.painter.session import add_paint_options

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

# A, B, C: the published settings of the assignment: sizes of content and style, then the weights.
# D: tuned by eye for the packaged weights, with which the published ones leave nearly all of the style loss
# to layer 1, that is to colour and grain. V: for VGG-16, content at relu3_3, style at relu1_1 to relu4_1.
PRESETS: dict[str, dict] = {
    "A": {
        "image_size": 192,
        "style_size": 512,
        "content_weight": 5e-2,
        "style_weights": [20000, 500, 12, 1],
        "tv_weight": 5e-2,
    },
    "B": {
        "image_size": 192,
        "style_size": 224,
        "content_weight": 3e-2,
        "style_weights": [200000, 800, 12, 1],
        "tv_weight": 2e-2,
    },
    "C": {
        "image_size": 192,
        "style_size": 192,
        "content_weight": 6e-2,
        "style_weights": [300000, 1000, 15, 3],
        "tv_weight": 2e-2,
    },
    "D": {
        "image_size": 256,
        "style_size": 256,
        "content_weight": 5e-2,
        "style_weights": [30000, 7000, 3000, 800],
        "tv_weight": 1.0,
    },
    "V": {
        "image_size": 192,
        "style_size": 192,
        "content_layer": 15,
        "content_weight": 0.2,
        "style_layers": [1, 6, 11, 20],
        "style_weights": [3e7, 1e6, 1e5, 1.5e5],
        "tv_weight": 50.0,
    },
}
CONTENT_LAYER = 3
STYLE_LAYERS = [1, 4, 6, 7]
MODEL = "squeezenet"  # of the assignment
METHODS = ("course", "paint")
# What is painted by default: content, style.
PICTURES = [("rocket", ["swirl"]), ("stereo_motorcycle", ["waves"]), ("coffee", ["stained-glass"])]


def build_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "style_transfer.py",
        __doc__,
        output="visualization",
        epilog="examples: ./style_transfer.py --content my_dog.jpg --style swirl --name dog --image-size 256\n"
        "          ./style_transfer.py --method paint --content my_dog.jpg --style swirl --budget 2m --output dog.jpg",
    )
    parser.set_defaults(model=None)  # each method has its own
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="course",
        help="course (default): the assignment's loop, with squeezenet; paint: from coarse to fine, with vgg16",
    )
    parser.add_argument(
        "--content", metavar="PATH-or-NAME", help="the photo to paint: a file, or a bundled photo's name"
    )
    parser.add_argument(
        "--style",
        metavar="PATH-or-NAME",
        nargs="+",
        help="the picture to paint like: a file, or a drawn style's name; --method paint takes several",
    )
    parser.add_argument("--name", help="the result is NAME.png (default: CONTENT_STYLE)")
    parser.add_argument(
        "--list-images",
        action="store_true",
        help="print the names of the bundled photos and styles, and stop",
    )
    parser.add_argument(
        "--check", action="store_true", help="compare the three losses with stored answers, and stop"
    )
    add_course_options(parser.add_argument_group("--method course"))
    add_paint_options(parser.add_argument_group("--method paint"))
    return parser


def add_course_options(group: argparse._ArgumentGroup) -> None:
    """The options of the assignment's loop; each is None where it was not given, so that the painter can refuse it."""
    add = group.add_argument
    add(
        "--preset",
        choices=PRESETS,
        help="sizes and weights to start from: A, B, C as published, D (default), V (for vgg16)",
    )
    add("--image-size", type=cli.positive_int, help="shorter side of the result in pixels")
    add("--style-size", type=cli.positive_int, help="shorter side of the style image in pixels")
    add("--content-layer", type=int, help=f"child of the network (default {CONTENT_LAYER})")
    add("--content-weight", type=cli.non_negative, help="of the content loss")
    add("--style-layers", type=int, nargs="+", help=f"children of the network (default {STYLE_LAYERS})")
    add("--style-weights", type=cli.non_negative, nargs="+", help="one for each style layer")
    add("--tv-weight", type=cli.non_negative, help="of the total-variation loss")
    add("--init-random", action="store_true", default=None, help="start from noise instead of the photo")
    add(
        "--fast",
        action="store_true",
        default=None,
        help="the same steps with the gradients written out, in about half the time; the graded losses are not called",
    )


def work(args: argparse.Namespace) -> object:
    began = time.monotonic()  # loading torch counts against a --budget too
    if args.list_images:
        list_images()
        return None
    if args.check:
        check()
        return None
    refuse_other_methods(args)
    jobs = pictures_of(args)
    picture = painter(args, began) if args.method == "paint" else course(args)
    for job, path in jobs:
        written = picture(job, path)
        if path != jobs[-1][1] and not args.quiet:
            print(written)
    return written


def pictures_of(args: argparse.Namespace) -> list[tuple[argparse.Namespace, Path]]:
    """The pictures asked for, each with arguments of its own, so that --replay paints the one it is given, and
    its file. Raises UsageError where names or places are too few.
    """
    from helpers.data_utils import image_name
    from helpers.errors import UsageError

    pairs = PICTURES
    if args.content or args.style:
        pairs = [(args.content or PICTURES[0][0], args.style or PICTURES[0][1])]
    if args.name and (len(pairs) > 1 or Path(args.name).name != args.name):
        raise UsageError(
            f"--name {args.name} goes with --content or --style, and is a name, not a path; "
            "--output takes a path"
        )
    target = Path(args.output)
    one_file = bool(target.suffix) and not target.is_dir()
    if one_file and len(pairs) > 1:
        raise UsageError(
            f"{len(pairs)} pictures do not fit into --output {target}: name a folder, or one --content and --style"
        )
    jobs = []
    for content, styles in pairs:
        name = args.name or "_".join(image_name(text) for text in (content, *styles))
        job = argparse.Namespace(**vars(args) | {"content": content, "style": styles, "name": name})
        jobs.append((job, target if one_file else target / f"{name}.png"))
    return jobs


def refuse_other_methods(args: argparse.Namespace) -> None:
    """Raises UsageError for an option that belongs to another method than the chosen one."""
    from helpers.errors import UsageError

    for group in build_parser()._action_groups:
        if group.title in {f"--method {method}" for method in METHODS if method != args.method}:
            for action in group._group_actions:
                if getattr(args, action.dest) is not None:
                    raise UsageError(f"{action.option_strings[0]} goes with {group.title}")
    if args.method == "course" and len(args.style or []) > 1:
        raise UsageError(f"{len(args.style)} pictures in --style: only --method paint mixes them")


def painter(args: argparse.Namespace, began: float) -> Callable[[argparse.Namespace, Path], Path]:
    """The painter, as a function of a picture's arguments and path."""
    from extras.painter.session import PaintSession

    return PaintSession(args, began).paint


def course(args: argparse.Namespace) -> Callable[[argparse.Namespace, Path], Path]:
    """The graded loop, as a function of a picture's arguments and path."""
    from helpers.models import choose_device, load_features

    cnn = load_features(args.model or MODEL, args.weights, choose_device(args.device), quiet=args.quiet)
    return lambda job, path: run_course(job, cnn, path)


def run_course(args: argparse.Namespace, cnn: nn.Sequential, path: Path) -> Path:
    """One picture by the graded loop; writes it to `path`, and the panel content | style | result beside it."""
    import torch

    from helpers.data_utils import image_name, open_image
    from helpers.figures import Cell, save_grid, save_image
    from helpers.image_utils import deprocess
    from helpers.recipe import make_recipe
    from style_modules import ContentLoss, StyleLoss, TotalVariationLoss
    from style_utils import style_transfer

    settings = settings_of(args, len(cnn))
    content_image = open_image(args.content, seed=args.seed)
    style_image = open_image(args.style[0], seed=args.seed)
    cli.seed_everything(args.seed)
    if args.fast:
        img = run_fast(
            cnn, path.stem, content_image, style_image, init_random=bool(args.init_random), **settings
        )
    else:
        img = style_transfer(
            name=path.stem,
            content_image=content_image,
            style_image=style_image,
            content_loss=ContentLoss(),
            style_loss=StyleLoss(),
            tv_loss=TotalVariationLoss(),
            cnn=cnn,
            dtype=torch.float32,
            init_random=bool(args.init_random),
            testing=True,
            **settings,
        )
    result = deprocess(img)  # type: ignore[arg-type]  # with `testing` it is a tensor
    recipe = make_recipe(args, cnn, {args.content: content_image, args.style[0]: style_image})
    save_image(path, result, recipe)
    return save_grid(
        path.with_name(f"{path.stem}_panel.png"),
        [
            [
                Cell(content_image, "content", image_name(args.content)),
                Cell(style_image, "style", image_name(args.style[0])),
                Cell(result, "result", f"{result.width} x {result.height} pixels"),
            ]
        ],
        height=3.2,
        metadata=recipe,
    )


def run_fast(
    cnn: nn.Sequential,
    name: str,
    content_image: Image.Image,
    style_image: Image.Image,
    image_size: int,
    style_size: int,
    **settings: object,
) -> Tensor:
    """What the graded loop returns, faster."""
    from tqdm import tqdm

    import style_utils
    from helpers.image_utils import preprocess
    from style_modules.fast_transfer import Schedule, fast_style_transfer

    like = next(cnn.parameters())
    content, style = (
        preprocess(image, size).to(like)
        for image, size in ((content_image, image_size), (style_image, style_size))
    )
    schedule = Schedule.of(style_utils)
    progress = tqdm(
        fast_style_transfer(cnn, content, style, schedule, **settings),  # type: ignore[arg-type]
        desc=name,
        total=schedule.steps,
        unit="step",
        leave=False,
    )
    for img, _ in progress:
        result = img
    return result


def settings_of(args: argparse.Namespace, depth: int) -> dict:
    """The preset, with what the command line says instead. Raises UsageError for layers that do not exist or
    do not match.
    """
    from helpers.errors import UsageError

    default = "V" if (args.model or MODEL).lower().startswith("vgg") else "D"
    settings: dict = {
        "content_layer": CONTENT_LAYER,
        "style_layers": STYLE_LAYERS,
        **PRESETS[args.preset or default],
    }
    settings |= {key: getattr(args, key) for key in settings if getattr(args, key) is not None}
    for layer in (settings["content_layer"], *settings["style_layers"]):
        if not 0 <= layer < depth:
            raise UsageError(f"layer {layer} does not exist: this network's layers are 0 to {depth - 1}")
    if len(settings["style_layers"]) != len(settings["style_weights"]):
        counts = (
            f"{len(settings['style_layers'])} style layers but {len(settings['style_weights'])} style weights"
        )
        raise UsageError(f"{counts}: give one for each")
    for key in ("image_size", "style_size"):
        if not 32 <= settings[key] <= 4096:
            raise UsageError(f"--{key.replace('_', '-')} {settings[key]} must be from 32 to 4096")
    return settings


def list_images() -> None:
    """Prints the names that --content and --style know."""
    from helpers.data_utils import PHOTOS
    from helpers.style_images import STYLES

    print("photos:", *PHOTOS)
    print("styles:", *STYLES)


def check() -> None:
    """Prints the relative error of each loss, value and gradient; raises CannotError where one is wrong."""
    from helpers.errors import CannotError
    from helpers.loss_check import check_losses
    from helpers.models import load_features
    from style_modules import ContentLoss, StyleLoss, TotalVariationLoss

    errors = check_losses(
        ContentLoss(), StyleLoss(), TotalVariationLoss(), load_features("squeezenet", "packaged")
    )
    titles = {"content": "Test content loss", "style": "Test style loss", "tv": "Test total variation loss"}
    for name, title in titles.items():
        print(
            f"{title + ':':28} value error {errors[name].value:.3f}, gradient error {errors[name].gradient:.3f}"
        )
    wrong = [titles[name].removeprefix("Test ") for name, error in errors.items() if not error.passed]
    if wrong:
        raise CannotError(
            f"{' and '.join(wrong)}: not equal to the stored answers (errors above; expected 0.000)"
        )


def main(argv: list[str] | None = None) -> int:
    return cli.run(work, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
