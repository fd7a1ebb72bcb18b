"""The options of `style_transfer.py --method paint`, without torch, so that --help stays fast."""

import argparse
import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import cli
from helpers.errors import UsageError

MIN_SIZE, MAX_SIZE = 64, 16384
LOSSES = ("moments", "transport")


@dataclass(frozen=True)
class PaintOptions:
    """How to paint. Each field is the command line's option of that name, or its default."""

    size: int = 512  # longer side of the result in pixels
    strength: float = 1.0
    style_scale: float = 1.0
    blend: Sequence[float] | None = None  # how much each style counts; None: all the same
    keep_colors: bool = False
    mask: str | None = None  # files
    regions: Sequence[str] | None = None  # the content's and the style's
    sweep: str | None = None  # NAME=VALUE,VALUE,...
    init: str = "content"  # or random, or an image
    steps: Sequence[int] | None = None  # one number, or one for each scale
    budget: float | None = None  # seconds
    loss: str = "moments"
    optimizer: str | None = None
    precision: str = "auto"
    animate: str | None = None  # files
    plot: str | None = None
    model: str = "vgg16"
    weights: str | None = None
    device: str = "auto"
    seed: int = 0
    quiet: bool = False


def paint_options(arguments: Mapping[str, Any]) -> PaintOptions:
    """The options of the command line, by name; None stands for the default. Raises UsageError or CannotError for
    what is wrong before anything is loaded.
    """
    names = [field.name for field in dataclasses.fields(PaintOptions)]
    options = PaintOptions(**{name: arguments[name] for name in names if arguments[name] is not None})
    styles = len(arguments["style"] or [""])
    if options.blend and len(options.blend) != styles:
        raise UsageError(f"{len(options.blend)} values in --blend for {styles} --style: give one for each")
    if not MIN_SIZE <= options.size <= MAX_SIZE:
        raise UsageError(f"--size {options.size} must be from {MIN_SIZE} to {MAX_SIZE}")
    if options.budget and options.steps:
        raise UsageError("--budget chooses the steps: give --budget or --steps")
    if options.mask and options.regions:
        raise UsageError("--mask and --regions both say what is painted: give one of them")
    if options.regions and styles > 1:
        raise UsageError(f"--regions belongs to one painting: give one --style, not {styles}")
    name, values = swept(options.sweep) if options.sweep else ("", [])
    if name and (options.animate or options.plot):
        raise UsageError("--sweep makes one sheet of pictures: --animate and --plot go without it")
    if options.regions and name in ("content", "style"):
        raise UsageError("--regions belongs to one photo and one painting: sweep strength or loss")
    if options.mask and name == "content":
        raise UsageError("--mask belongs to one photo: sweep strength, style or loss")
    if options.optimizer == "lbfgs" and "transport" in (options.loss, *values):
        raise UsageError(
            "--loss transport draws other places in every step, which --optimizer lbfgs cannot use"
        )
    if options.animate:
        cli.check_output(Path(options.animate), "--animate", (".gif",))
    if options.plot:
        cli.check_output(Path(options.plot), "--plot")
    return options


def add_paint_options(group: argparse._ArgumentGroup) -> None:
    """Adds the options of --method paint. Each is None where it is not given, so that another method can refuse it."""
    default, add = PaintOptions(), group.add_argument
    add(
        "--size",
        type=cli.positive_int,
        metavar="PIXELS",
        help=f"longer side of the result (default {default.size})",
    )
    text = "size of the brush strokes: 1 (default), 0.5 is half as large"
    add("--style-scale", type=cli.positive, metavar="X", help=text)
    text = "how much each --style counts (default: all the same)"
    add("--blend", type=cli.positive, nargs="+", metavar="SHARE", help=text)
    text = "a picture as large as the photo: white is painted, black stays, grey is painted less"
    add("--mask", metavar="FILE", help=text)
    text = "two pictures of flat colours: each colour of the photo's is painted like the same colour of the painting's"
    add("--regions", nargs=2, metavar=("PHOTO", "PAINTING"), help=text)
    text = "one sheet of pictures for several values: strength=0.5,1,2, or of content, style or loss"
    add("--sweep", type=sweep, metavar="NAME=VALUES", help=text)
    text = "paint the brightness only and keep the photo's colours"
    add("--keep-colors", action="store_true", default=None, help=text)
    add("--init", metavar="WHAT", help="start from content (default), random, or an image file")
    text = "steps at the full size, smaller sizes take more (default 60); or one number for each size, smallest first"
    add("--steps", type=cli.whole_number, nargs="+", metavar="N", help=text)
    text = "time for one picture: 90, 120s or 10m; sizes and steps are chosen to fit"
    add("--budget", type=duration, metavar="TIME", help=text)
    text = "moments (default): features as in the painting on the whole; transport: place by place (slower)"
    add("--loss", choices=LOSSES, help=text)
    text = "default: lbfgs; with --loss transport, which draws other places in every step, adam"
    add("--optimizer", choices=("lbfgs", "adam"), help=text)
    text = "auto (default): bfloat16 convolutions where the device is fast at them"
    add("--precision", choices=("auto", "float32"), help=text)
    add("--animate", metavar="FILE.gif", help="also write an animation of the painting")
    text = "also plot the loss of each layer and its share of the gradient (slower)"
    add("--plot", metavar="FILE.png", help=text)


def duration(text: str) -> float:
    """An argument type: seconds, from 90, 90s, 1.5m or 1h."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:].lower())
    with contextlib.suppress(argparse.ArgumentTypeError):
        return cli.positive(text[:-1]) * unit if unit else cli.positive(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a time like 90, 90s or 2m")


def sweep(text: str) -> str:
    """An argument type: NAME=VALUE,VALUE,... as `swept` reads it."""
    swept(text)
    return text


def swept(text: str) -> tuple[str, list[Any]]:
    """'strength=0.5,1' -> ("strength", [0.5, 1.0])."""
    name, _, values = text.partition("=")
    found = [value.strip() for value in values.split(",") if value.strip()]
    types: dict[str, Callable[[str], Any]] = {
        "strength": cli.positive,
        "content": str,
        "style": str,
        "loss": _loss,
    }
    if name not in types:
        raise argparse.ArgumentTypeError(
            f"{text!r}: give one of {', '.join(types)} and its values, like strength=0.5,1,2"
        )
    if len(found) < 2:
        raise argparse.ArgumentTypeError(
            f"{text!r} has {len(found)} values: give two or more, like {name}=A,B"
        )
    return name, [types[name](value) for value in found]


def _loss(text: str) -> str:
    if text not in LOSSES:
        raise argparse.ArgumentTypeError(f"{text!r} is no loss: choose from {', '.join(LOSSES)}")
    return text
