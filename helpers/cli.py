"""The command line of all four runners: common options, one-line errors, and no slow import before they are read."""

import argparse
import contextlib
import ctypes
import functools
import gc
import importlib.util
import itertools
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from helpers import interrupts
from helpers.errors import CannotError, UsageError
from helpers.files import is_same_file
from helpers.recipe import replayed

# If one of these cannot be imported, the environment is wrong or missing.
REQUIRED = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "matplotlib",
    "PIL",
    "tqdm",
    "fpdf",
    "markdown_it",
    "jinja2",
)
# Imports create some hundred thousand objects that are never freed. By default, Python spends a fifth of the time of
# importing on looking for garbage among them.
COLLECT_EVERY = 100_000
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
PROJECT = Path(__file__).resolve().parent.parent


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all other errors of a runner."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def make_parser(program: str, description: str, *, output: str, epilog: str = "") -> argparse.ArgumentParser:
    """A parser with the options that all runners have; `output` is the default of --output."""
    parser = OneLineParser(
        prog=program,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("common options").add_argument
    add(
        "--model",
        default="squeezenet",
        help="squeezenet (default), any torchvision model's name, or FILE.py:FUNCTION, which runs that code: "
        "FUNCTION() returns your own network",
    )
    add(
        "--weights",
        metavar="WHERE",
        help="packaged (works offline; the default for squeezenet), torchvision, random, or a checkpoint file",
    )
    add(
        "--device",
        default="auto",
        choices=("auto", "cpu", "cuda", "mps"),
        help="where to compute (default auto)",
    )
    add("--seed", type=seed, default=0, help="same seed, same machine: same picture (default 0)")
    add("--output", metavar="FILE", default=output, help=f"the file to write (default {output})")
    add("--replay", metavar="FILE", help="make the picture FILE again from the recipe in it")
    add("--quiet", action="store_true", help="no progress bars, no last line")
    add("--debug", action="store_true", help="show the whole traceback of an error")
    return parser


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """--images, --classes and --size, for the runners that explain photos."""
    add = parser.add_argument
    add(
        "--images",
        nargs="+",
        metavar="PATH-or-NAME",
        help="image files or bundled photos (default: five photos)",
    )
    add(
        "--classes",
        nargs="+",
        metavar="NAME-or-INDEX",
        help="the class to explain: one for all images, one for each, or several for one (default: the predicted one)",
    )
    add("--size", type=positive_int, default=224, help="side of the square the network sees (default 224)")
    add_labels_option(parser)


def add_labels_option(parser: argparse.ArgumentParser) -> None:
    """--labels, for the runners that name classes."""
    text = (
        "the names of the network's classes, one per line or as JSON (default: ImageNet's, if there are 1000)"
    )
    parser.add_argument("--labels", metavar="FILE", help=text)


def add_comparison_options(parser: argparse.ArgumentParser) -> None:
    """--crop, --top, --versus and --compare-models, for the same runners."""
    add = parser.add_argument
    add("--crop", type=crop, metavar="X,Y,SIDE", help="explain this square of each photo, in its pixels")
    add("--top", type=positive_int, metavar="N", help="add a bar chart of the N most probable classes")
    add(
        "--versus",
        metavar="NAME-or-INDEX",
        help="explain the score of the class minus the score of this one: why the one and not the other",
    )
    add(
        "--compare-models",
        nargs="+",
        metavar="MODEL[:WEIGHTS]",
        help="add a map of each of these networks, for the same class: resnet18, or squeezenet:random",
    )


def run(
    work: Callable[[argparse.Namespace], object],
    parser: argparse.ArgumentParser,
    argv: list[str] | None = None,
) -> int:
    """Reads the arguments, does the work, and returns the exit code: 0 done, 1 could not, 2 wrong usage.

    An error is one line on stderr. What `work` returns, the path written, is printed last.
    """
    open_streams()
    args = parser.parse_args(argv)
    keep_freed_memory()
    gc.set_threshold(COLLECT_EVERY)
    args.program, args.recorded = parser.prog, None

    def checked(args: argparse.Namespace) -> object:
        check_output(Path(args.output), folder=not Path(parser.get_default("output")).suffix)
        return work(replayed(args, parser) if args.replay else args)

    return guarded(checked, args, parser.prog)


def guarded(work: Callable[[argparse.Namespace], object], args: argparse.Namespace, program: str) -> int:
    """Does the work with `args` (--quiet and --debug are read here), turns an error into one line, and prints the path
    written. Returns the exit code.
    """
    if args.quiet:
        os.environ["TQDM_DISABLE"] = "1"
        logging.disable(logging.WARNING)
    try:
        interrupts.allow_cleanup(True)
        try:
            written = work(args)
        finally:
            interrupts.allow_cleanup(False)
            logging.disable(logging.NOTSET)
    except KeyboardInterrupt as stop:
        return _fail(program, f"interrupted; {str(stop) or 'the current picture was not written'}", 130)
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        return _fail(program, *_explain(error))
    if written is not None and not args.quiet:
        try:
            print(written, flush=True)
        except OSError as error:  # a full disk, or a reader that has gone
            # What is buffered would be tried again at the end of the program.
            with Path(os.devnull).open("w") as nowhere, contextlib.suppress(OSError, ValueError):
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            if not isinstance(error, BrokenPipeError):
                return _fail(
                    program, f"{written} is written, but its name cannot be printed: {error.strerror}", 1
                )
    return 0


def run_tool(
    work: Callable[[argparse.Namespace], object], parser: argparse.ArgumentParser, argv: list[str] | None
) -> int:
    """Parses and runs `work`, as `guarded` does, for a program without the options --quiet and --debug."""
    args = parser.parse_args(argv)
    args.quiet = args.debug = False
    return guarded(work, args, parser.prog)


def open_streams() -> None:
    """Makes every text printable: a closed stream goes nowhere, and what an encoding does not have is escaped."""
    os.environ["MPLBACKEND"] = "agg"  # figures are only written
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  for as long as the program runs
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def check_output(
    path: Path, option: str = "--output", endings: tuple[str, ...] = ENDINGS, *, folder: bool = False
) -> None:
    """Raises CannotError where no picture can be written to `path`: said before the work, not after it.

    With `folder`, a path that is a folder or has no extension is allowed: several pictures go into it.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # a name that is too long; one with a null character
        reason = getattr(error, "strerror", None) or error
        raise CannotError(f"{option} {path} cannot be written: {reason}") from error
    is_folder = path.is_dir() or not path.suffix
    if not (folder and is_folder) and (is_folder or path.suffix.lower() not in endings):
        raise CannotError(f"{option} {path}: unsupported file extension; use {', '.join(endings)}")
    place = path.absolute() if is_folder else path.absolute().parent
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise CannotError(f"{option} {path} cannot be written: {place} is not a folder that you can write to")


def check_distinct(outputs: Sequence[tuple[str, str | os.PathLike | None]]) -> None:
    """Raises UsageError where two of the files to write are one; None is not written. outputs: what the user knows each
    file by (an option), and its path.
    """
    written = [(name, Path(path)) for name, path in outputs if path is not None]
    for (one, path), (other, other_path) in itertools.combinations(written, 2):
        if is_same_file(path, other_path):
            raise UsageError(
                f"{one} {path} and {other} {other_path} are the same file: the second would replace the first"
            )


def require_extras(option: str) -> None:
    """Raises CannotError where the folder extras/ is not part of this copy."""
    spec = importlib.util.find_spec("extras")
    # A folder without its __init__.py is only what Python's cache left.
    if spec is None or spec.origin is None:
        raise CannotError(f"{option} is not part of this copy: it needs the folder extras/")


def say(text: str, quiet: bool) -> None:
    """Prints a note about the result on stderr, unless --quiet."""
    if text and not quiet:
        print(f"note: {text}", file=sys.stderr)


def whole_number(text: str, first: int = 0, last: int | None = None) -> int:
    """An argument type: a whole number from `first` to `last`, or without an upper limit."""
    with contextlib.suppress(ValueError):
        if first <= int(text) and (last is None or int(text) <= last):
            return int(text)
    end = "upwards" if last is None else f"to {last}"
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {first} {end}")


positive_int = functools.partial(whole_number, first=1)


def crop(text: str) -> tuple[int, int, int]:
    """An argument type: X,Y,SIDE, the top left corner and the side of a square, in pixels."""
    with contextlib.suppress(ValueError):
        x, y, side = (int(part) for part in text.split(","))
        if min(x, y) >= 0 and side > 0:
            return x, y, side
    raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,SIDE in pixels, like 100,50,300")


# The seeds that both torch and NumPy accept.
seed = functools.partial(whole_number, last=2**32 - 1)


def non_negative(text: str) -> float:
    """An argument type: a finite number that is not negative."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 upwards")


def positive(text: str) -> float:
    """An argument type: a finite number above 0."""
    if (value := non_negative(text)) > 0:
        return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


def keep_freed_memory() -> None:
    """Asks the C library to reuse freed memory.

    By default, glibc returns the large tensors of a step to the system and requests new pages in the next step: up to
    a fifth of an iteration's time. With another C library this does nothing.
    """
    TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of malloc.h
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            # Both, or neither: the trim threshold alone would return every large tensor at once.
            if mallopt(MMAP_MAX, 0):
                mallopt(TRIM_THRESHOLD, 2**31 - 1)


def seed_everything(seed: int) -> None:
    """Seeds Python's, NumPy's and torch's generators."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextlib.contextmanager
def progress(total: int, label: str, unit: str = "it") -> Iterator[Callable[..., object]]:
    """A progress bar on stderr, if that is a terminal. The block gets a function to call after each step, or with the
    number of steps done.
    """
    from tqdm import tqdm

    with tqdm(total=total, desc=label, unit=unit, leave=False, disable=None) as bar:
        yield bar.update


def _explain(error: Exception) -> tuple[str, int]:
    if isinstance(error, UsageError):
        return str(error), 2
    if isinstance(error, CannotError):
        return str(error), 1
    if isinstance(error, NotImplementedError):
        return f"{error or 'a task'} is not implemented yet ({_place_of(error)})", 1
    if isinstance(error, ModuleNotFoundError) and error.name in REQUIRED:
        return f"the package {error.name} is not installed here: run `make env`, or activate cs7643-a3", 1
    if "out of memory" in str(error).lower() or isinstance(error, MemoryError):
        return "not enough memory: choose fewer images, a smaller size, or --device cpu", 1
    reason = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {reason} ({_place_of(error)}; --debug shows the whole traceback)", 1


def _place_of(error: Exception) -> str:
    """The innermost line of this project that the error came through: where a student should look."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).resolve()
        if path.is_relative_to(PROJECT) and "site-packages" not in path.parts:
            return f"{path.relative_to(PROJECT)}, line {frame.lineno}"
    return "outside the project"


def _fail(program: str, message: str, code: int) -> int:
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    return code
