#!/usr/bin/env python3
"""Paints a photo in the style of another picture (Gatys, Ecker and Bethge, 2016).

Without arguments it paints three pictures. Each is written to visualization/NAME.png, and next to its content and its
style to visualization/NAME_panel.png.
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
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import cli
from helpers.presets import PRESETS

if TYPE_CHECKING:
    from torch import nn


METHODS = ("course", "paint")
COURSE_MODEL = "squeezenet"
LARGEST_LOSS = 1e18  # single precision ends at 3e38, and Adam squares gradients
# The pictures of a run without arguments: content, styles.
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
    add = parser.add_argument
    text = "course (default): the assignment's loop, with squeezenet; paint: from small to large sizes, with vgg16"
    add("--method", choices=METHODS, default="course", help=text)
    text = "the photo to paint: a file, or the name of a bundled photo"
    add("--content", metavar="PATH-or-NAME", help=text)
    text = (
        "the picture whose style to use: a file, or the name of a drawn style; --method paint takes several"
    )
    add("--style", metavar="PATH-or-NAME", nargs="+", help=text)
    add("--name", help="the result is NAME.png (default: CONTENT_STYLE)")
    text = "how far the style changes the photo: 1 (default), 2 is freer, 0.5 is closer to the photo"
    add("--strength", type=cli.positive, metavar="X", help=text)
    text = "print the names of the bundled photos and styles, and stop"
    add("--list-images", action="store_true", help=text)
    add("--check", action="store_true", help="compare the three losses with stored answers, and stop")

    # An option of a method is None where it is not given, so that the other method can refuse it.
    add = parser.add_argument_group("--method course").add_argument
    text = "sizes, layers and weights to start from: A, B, C as published, D (default), V (default for VGG)"
    add("--preset", choices=PRESETS, help=text)
    add("--image-size", type=cli.positive_int, help="shorter side of the result in pixels")
    add("--style-size", type=cli.positive_int, help="shorter side of the style image in pixels")
    add("--content-layer", type=int, help="child of the network, from 0")
    add("--content-weight", type=cli.non_negative, help="of the content loss")
    add("--style-layers", type=int, nargs="+", help="children of the network, from 0")
    add("--style-weights", type=cli.non_negative, nargs="+", help="one for each style layer")
    add("--tv-weight", type=cli.non_negative, help="of the total-variation loss")
    text = "start from noise instead of the photo"
    add("--init-random", action="store_true", default=None, help=text)

    try:
        from extras.painter.options import add_paint_options
    except ModuleNotFoundError:
        parser.add_argument_group("--method paint", "not part of this copy: it needs the folder extras/")
    else:
        add_paint_options(parser.add_argument_group("--method paint"))
    return parser


def work(args: argparse.Namespace) -> object:
    began = time.monotonic()  # loading torch counts towards a --budget
    if args.list_images:
        list_images()
        return None
    if args.check:
        check()
        return None
    refuse_other_methods(args)
    jobs = pictures_of(args)
    check_files(args, [path for _, path in jobs])
    draw = painter(args, began) if args.method == "paint" else course(args)
    for job, path in jobs:
        written = draw(job, path)
        if path != jobs[-1][1] and not args.quiet:
            print(written)
    return written


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


def pictures_of(args: argparse.Namespace) -> list[tuple[argparse.Namespace, Path]]:
    """The pictures asked for, each with its own arguments, so that --replay makes one picture, and its file. Raises
    UsageError for a name or an output that does not fit their number.
    """
    from helpers.data_utils import image_name
    from helpers.errors import UsageError
    from helpers.files import short_name

    pairs = PICTURES
    if args.content or args.style:
        pairs = [(args.content or PICTURES[0][0], args.style or PICTURES[0][1])]
    if args.name and (len(pairs) > 1 or Path(args.name).name != args.name):
        raise UsageError(
            f"--name {args.name} goes with --content or --style, and is a name, not a path; use --output for a path"
        )
    target = Path(args.output)
    one_file = bool(target.suffix) and not target.is_dir()
    if one_file and len(pairs) > 1:
        raise UsageError(
            f"--output {target} is one file for {len(pairs)} pictures: name a folder, or give --content and --style"
        )
    jobs = []
    for content, styles in pairs:
        name = args.name or "_".join(image_name(text) for text in (content, *styles))
        file = f"{name}.png" if args.name else short_name(name, ".png")
        job = argparse.Namespace(**vars(args) | {"content": content, "style": styles, "name": name})
        jobs.append((job, target if one_file else target / file))
    return jobs


def check_files(args: argparse.Namespace, paths: list[Path]) -> None:
    """Raises CannotError where a picture of `paths` cannot be written, UsageError where two of the files to write are
    one: the pictures, and what goes with each.
    """
    from helpers.errors import UsageError

    for path in paths:
        cli.check_output(path)
    outputs: list[tuple[str, Any]] = [("--output", path) for path in paths]
    if args.method == "course":
        outputs += [("the panel", panel_of(path)) for path in paths]
    for name in ("animate", "plot"):
        file = getattr(args, name, None)  # absent in a copy without extras/
        if file and len(paths) > 1:
            raise UsageError(
                f"--{name} {file} is one file for {len(paths)} pictures: give --content and --style"
            )
        outputs.append((f"--{name}", file))
    cli.check_distinct(outputs)


def panel_of(path: Path) -> Path:
    """The file of the panel content | style | result that goes with the picture `path`."""
    from helpers.files import short_name

    return path.with_name(short_name(path.stem, "_panel.png"))


def painter(args: argparse.Namespace, began: float) -> Callable[[argparse.Namespace, Path], Path]:
    """The painter, as a function of a picture's arguments and path."""
    cli.require_extras("--method paint")
    from extras.painter.options import paint_options

    options = paint_options(vars(args))
    from extras.painter.session import PaintSession

    session = PaintSession(options, began)
    draw = session.sweep if options.sweep else session.paint
    return lambda job, path: draw(job.content, job.style, path, vars(job))


def course(args: argparse.Namespace) -> Callable[[argparse.Namespace, Path], Path]:
    """The graded loop, as a function of a picture's arguments and path."""
    from helpers.models import choose_device, load_features

    device = choose_device(args.device)
    if device.type == "mps":
        device = choose_device("cpu")  # published code makes its images there: no tensor type names MPS
    cnn = load_features(args.model or COURSE_MODEL, args.weights, device, quiet=args.quiet)
    settings = settings_of(args, len(cnn))
    refuse_channels_last(cnn, args.model or "")
    return lambda job, path: run_course(job, settings, cnn, path)


def refuse_channels_last(cnn: nn.Sequential, model: str) -> None:
    """Raises UsageError for a network whose layers return (N, H, W, C): the losses would take rows for channels."""
    import torch

    from helpers.errors import UsageError
    from visualizers.mechanisms import LayoutTracker

    like = next(cnn.parameters())
    with LayoutTracker() as layout, torch.no_grad():
        x = torch.zeros(1, 3, 64, 64).to(like)
        for layer in cnn:
            x = layer(x.clone())
            if layout.is_channels_last(x):
                raise UsageError(
                    f"--model {model}: its layers return (N, H, W, C), and the losses need (N, C, H, W): "
                    "use squeezenet, vgg16 or vgg19"
                )


def settings_of(args: argparse.Namespace, depth: int) -> dict[str, Any]:
    """The preset, with the values of the command line; --strength multiplies the style weights. Raises UsageError for
    layers or sizes that do not fit.
    """
    from helpers.errors import UsageError

    default = "V" if (args.model or "").lower().startswith("vgg") else "D"
    settings = PRESETS[args.preset or default]._asdict()
    settings |= {key: getattr(args, key) for key in settings if getattr(args, key) is not None}
    for layer in (settings["content_layer"], *settings["style_layers"]):
        if not 0 <= layer < depth:
            raise UsageError(f"layer {layer} does not exist: this network has layers 0 to {depth - 1}")
    layers, weights = len(settings["style_layers"]), len(settings["style_weights"])
    if layers != weights:
        raise UsageError(f"{layers} style layers but {weights} style weights: give one weight for each layer")
    for key in ("image_size", "style_size"):
        if not 32 <= settings[key] <= 4096:
            raise UsageError(f"--{key.replace('_', '-')} {settings[key]} must be from 32 to 4096")
    settings["style_weights"] = [weight * (args.strength or 1) for weight in settings["style_weights"]]
    return settings


def run_course(args: argparse.Namespace, settings: dict[str, Any], cnn: nn.Sequential, path: Path) -> Path:
    """One picture by the graded loop. Writes it to `path`, and the panel content | style | result next to it."""
    from helpers.data_utils import image_name, open_image
    from helpers.figures import Cell, check_format, save_grid, save_image
    from helpers.image_batch import network_note
    from helpers.image_utils import deprocess, preprocess
    from helpers.memory import resized_size
    from helpers.models import check_finite
    from helpers.recipe import make_recipe
    from style_modules import ContentLoss, StyleLoss, TotalVariationLoss
    from style_utils import style_transfer

    content, style = args.content, args.style[0]
    images = {name: open_image(name, seed=args.seed) for name in (content, style)}
    like = next(cnn.parameters())
    check_format(path, resized_size(images[content].size, settings["image_size"]))
    deepest = max(settings["content_layer"], *settings["style_layers"])
    check_course_memory(settings, cnn[: deepest + 1], images[content].size, images[style].size)
    check_finite(cnn[: deepest + 1], preprocess(images[content], 64).to(like))
    losses: dict[str, Any] = {"content": ContentLoss(), "style": StyleLoss(), "tv": TotalVariationLoss()}
    for name, loss in losses.items():
        loss.register_forward_hook(finite_loss(name))
    cli.seed_everything(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{i}.png" for i, name in enumerate(images)}
        for name, image in images.items():
            image.save(files[name])  # published code opens its images with Pillow, and knows no bundled names
        img = style_transfer(
            name=path.stem,
            content_image=str(files[content]),
            style_image=str(files[style]),
            content_loss=losses["content"],
            style_loss=losses["style"],
            tv_loss=losses["tv"],
            cnn=cnn,
            # Published code has its images on the CPU, unless a type such as torch.cuda.FloatTensor says otherwise.
            dtype=like.dtype if like.device.type == "cpu" else like.type(),  # type: ignore[arg-type]
            init_random=bool(args.init_random),
            testing=True,
            **settings,
        )
    result = deprocess(img)  # type: ignore[arg-type]  # with `testing` it is a tensor
    recipe = make_recipe(vars(args), cnn, images)
    save_image(path, result, recipe)
    cells = [
        Cell(images[content], "content", image_name(content)),
        Cell(images[style], "style", image_name(style)),
        Cell(result, "result", f"{result.width} x {result.height} pixels"),
    ]
    layers = ", ".join(map(str, settings["style_layers"]))
    which = "layers" if len(settings["style_layers"]) > 1 else "layer"
    note = (
        f"Content at layer {settings['content_layer']}, style at {which} {layers}. "
        f"{network_note(args.model or COURSE_MODEL, args.weights, features=True)}"
    )
    return save_grid(panel_of(path), [cells], height=3.2, note=note, metadata=recipe)


def check_course_memory(
    settings: dict[str, Any], cnn: nn.Sequential, content: tuple[int, int], style: tuple[int, int]
) -> None:
    """Raises CannotError where the graded loop with pictures of these sizes (width, height) would take more memory than
    is free. cnn: the layers that are used.
    """
    from helpers.memory import activations, check_memory, resized_size

    seen = activations(cnn, in_place_too=True)
    device = next(cnn.parameters()).device
    sizes = {"image_size": content, "style_size": style}
    # Per pixel, measured: the optimization's vectors beside the network's; of a style, the outputs of all layers.
    rates = {"image_size": seen.step + 150, "style_size": 1.2 * (seen.kept + 4 * seen.largest) + 60}

    def part(key: str, shorter: int) -> float:
        return rates[key] * math.prod(resized_size(sizes[key], shorter))

    larger, other = sorted(sizes, key=lambda key: part(key, settings[key]), reverse=True)
    fixed = part(other, settings[other])
    option = f"--{larger.replace('_', '-')}"
    check_memory(lambda shorter: part(larger, shorter) + fixed, option, settings[larger], device, least=32)


def finite_loss(name: str) -> Callable:
    """A hook for a loss: raises CannotError where its value is NaN, or so large that Adam's squares of its gradient
    are infinite in single precision, and names it.
    """
    from helpers.errors import CannotError

    option = f"--{name}-weights" if name == "style" else f"--{name}-weight"

    def check_value(_module: nn.Module, _inputs: tuple, value: Any) -> None:
        if not abs(number := float(value.detach())) < LARGEST_LOSS:
            raise CannotError(f"the {name} loss is {number:g}: choose a smaller {option}")

    return check_value


def list_images() -> None:
    """Prints the names that --content and --style know."""
    from helpers.data_utils import PHOTOS
    from helpers.style_images import STYLES

    print("photos:", *PHOTOS)
    print("styles:", *STYLES)


def check() -> None:
    """Prints the relative error of each loss, value and gradient. Raises CannotError where one is wrong."""
    from helpers.errors import CannotError
    from helpers.loss_check import check_losses
    from helpers.models import load_features
    from style_modules import ContentLoss, StyleLoss, TotalVariationLoss

    cnn = load_features("squeezenet", "packaged")
    errors = check_losses(ContentLoss(), StyleLoss(), TotalVariationLoss(), cnn)
    titles = {"content": "content loss", "style": "style loss", "tv": "total variation loss"}
    for name, title in titles.items():
        value, gradient = errors[name].value, errors[name].gradient
        print(f"{f'Test {title}:':28} value error {value:.3f}, gradient error {gradient:.3f}")
    wrong = [title for name, title in titles.items() if not errors[name].passed]
    if wrong:
        text = "not equal to the stored answers (errors above; expected 0.000)"
        raise CannotError(f"{' and '.join(wrong)}: {text}")


def main(argv: list[str] | None = None) -> int:
    return cli.run(work, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
