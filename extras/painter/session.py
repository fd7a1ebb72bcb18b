"""What stands around the painter in `style_transfer.py --method paint`: its options, pictures in and out,
progress, the time it may take, the film and the plot.
"""

from __future__ import annotations  # what is only imported for its type costs --help no time

import argparse
import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from helpers import cli
from helpers.errors import CannotError, UsageError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from extras.painter.optimization import Progress
    from extras.painter.schedule import Schedule

SIZE, SMALLEST, LARGEST = 512, 64, 16384
SMALLEST_DRAWN, LARGEST_DRAWN = 256, 4096
HAS_ALPHA = (".png", ".webp", ".tif", ".tiff")


def add_paint_options(group: argparse._ArgumentGroup) -> None:
    """The options of --method paint; each is None where it was not given, so that another method can refuse it."""
    add = group.add_argument
    add("--size", type=cli.positive_int, metavar="PIXELS", help=f"longer side of the result (default {SIZE})")
    add(
        "--strength",
        type=positive,
        metavar="X",
        help="1 is the look one expects (default), 2 freer, 0.5 truer",
    )
    add("--style-scale", type=positive, metavar="X", help="size of the strokes; 0.5 is half (default 1)")
    add(
        "--blend",
        type=positive,
        nargs="+",
        metavar="SHARE",
        help="how much each --style counts (default: alike)",
    )
    add(
        "--keep-colors",
        action="store_true",
        default=None,
        help="paint the luminance, keep the photo's colours",
    )
    add("--init", metavar="WHAT", help="start from content (default), random, or an image file")
    add(
        "--steps",
        type=cli.whole_number,
        nargs="+",
        metavar="N",
        help="at the full size, coarser ones take more (default 60); or one for each, from coarse to fine",
    )
    add(
        "--budget",
        type=duration,
        metavar="TIME",
        help="90, 120s or 10m, for a picture: plans sizes and steps to fit",
    )
    add("--optimizer", choices=("lbfgs", "adam"), help="default lbfgs")
    add(
        "--precision",
        choices=("auto", "float32"),
        help="auto (default): bfloat16 convolutions where they are fast",
    )
    add("--animate", metavar="FILE.gif", help="also write a film of the painting")
    add(
        "--plot",
        metavar="FILE.png",
        help="also draw each layer's loss and its share of the gradient (slower)",
    )


def positive(text: str) -> float:
    """An argument type: a finite number above 0."""
    if (value := cli.non_negative(text)) > 0:
        return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


def duration(text: str) -> float:
    """An argument type: seconds, from 90, 90s, 1.5m or 1h."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:].lower())
    with contextlib.suppress(argparse.ArgumentTypeError):
        return positive(text[:-1]) * unit if unit else positive(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a time like 90, 90s or 2m")


class Job(NamedTuple):
    """One picture to paint: photo and paintings as opened, size (H, W) of the result, when to do which step.

    images: all that goes in, by path or name, for the recipe. init: None, "content", "random" or one of them.
    """

    photo: Image.Image
    paintings: list[Image.Image]
    size: tuple[int, int]
    schedule: Schedule
    images: dict[str, Image.Image]
    init: str | None


class PaintSession:
    """A network and a device, ready to paint one picture after the other."""

    def __init__(self, args: argparse.Namespace, began: float | None = None) -> None:
        self.began = began  # when the first picture's time began
        self.args = args
        check_options(args)
        import torch

        from helpers.models import choose_device, load_features
        from extras.painter.optimization import FeatureNet, fast_dtype, settings_for

        self.device = choose_device(args.device)
        self.cnn = load_features(args.model or "vgg16", args.weights, self.device, quiet=args.quiet)
        try:
            self.look = settings_for(self.cnn, args.strength or 1.0, args.style_scale or 1.0)
        except ValueError as error:
            raise UsageError(f"--model {args.model}: {error}; use vgg16, vgg19 or squeezenet") from error
        dtype = torch.float32 if args.precision == "float32" else fast_dtype(self.device)
        self.net = FeatureNet(self.cnn, (*self.look.style_layers, self.look.content_layer), dtype)

    def paint(self, args: argparse.Namespace, path: Path) -> Path:
        """Paints one picture and writes it to `path`; Ctrl-C writes the best so far and says so."""
        from helpers.figures import save_image
        from extras.painter.figures import FrameRecorder, save_plot
        from helpers.recipe import make_recipe
        from extras.painter.optimization import paint

        # A second picture's time begins where the first one's ended.
        began, self.began = self.began or time.monotonic(), None
        job = self._job(args, began)
        cli.seed_everything(args.seed)
        start = self._start(job)
        recipe: dict = {"animate": None, "plot": None}  # neither changes the picture
        metadata = make_recipe(argparse.Namespace(**vars(args) | recipe), self.cnn, job.images)
        film, stopped = FrameRecorder(), False
        history: list[Progress] = []
        progress: Progress | None = None
        records = paint(
            self.net,
            self._tensor(job.photo),
            [self._tensor(painting) for painting in job.paintings],
            job.schedule,
            self.look,
            shares=shares_of(args.blend, len(job.paintings)),
            start=start,
            keep_colors=bool(args.keep_colors),
            optimizer=args.optimizer or "lbfgs",
            watch=bool(args.plot),
        )
        try:
            with progress_bar(job.schedule, path.stem) as show:
                for progress in records:
                    show(progress)
                    if args.animate:
                        film.add(progress.picture)
                    if args.plot:
                        history.append(progress)
        except KeyboardInterrupt:
            if progress is None:
                raise
            stopped = True
        assert progress is not None  # a schedule has a step at least
        if stopped or args.budget:
            # What the clock or Ctrl-C decided is replayed by counting.
            steps = job.schedule.done_by(progress.scale, progress.step)
            recipe |= {"budget": None, "steps": steps, "recorded": None}
            metadata = make_recipe(argparse.Namespace(**vars(args) | recipe), self.cnn, job.images)
        image = to_image(self._full_size(progress.picture, job.size))
        save_image(path, self._with_alpha(image, args.content, path), metadata)
        for other, write in ((args.animate, film.save), (args.plot, lambda file: save_plot(file, history))):
            if other:
                self._say(write(other))
        if stopped:
            raise KeyboardInterrupt(f"the best picture so far is in {path}")
        return path

    def _job(self, args: argparse.Namespace, began: float) -> Job:
        """Opens the pictures and plans the painting; says what it will take, and raises for what cannot be done."""
        from helpers.data_utils import open_image
        from extras.painter.schedule import Schedule, scales_of

        photo = open_image(args.content, seed=args.seed)
        size = size_of(photo, args.size or SIZE)
        needed = self._check_memory(size)
        side = math.ceil(math.sqrt(size[0] * size[1]) * self.look.style_scale)
        drawn = min(LARGEST_DRAWN, max(SMALLEST_DRAWN, side))
        paintings = [open_image(style, style_size=drawn, seed=args.seed) for style in args.style]
        scales, steps = scales_of(size), args.steps
        if steps and (len(steps) not in (1, len(scales)) or not any(steps)):
            raise UsageError(
                f"{len(steps)} numbers in --steps: give one, or one for each of {len(scales)} sizes"
            )
        deadline = began + args.budget - self._writing(size) if args.budget else None
        if deadline and time.monotonic() > deadline:
            spent = time.monotonic() - began
            raise CannotError(
                f"--budget {args.budget:g}s was spent on loading, which took {spent:.0f} s: give more"
            )
        self._say(
            f"{size[1]} x {size[0]} pixels, {len(scales)} sizes from {max(scales[0])} up, "
            f"about {needed / 2**30:.1f} GB of memory"
        )
        schedule = Schedule(scales, steps[0] if steps and len(steps) == 1 else steps, deadline=deadline)
        images = {args.content: photo, **dict(zip(args.style, paintings, strict=True))}
        if args.init not in (None, "content", "random"):
            images[args.init] = open_image(args.init, seed=args.seed)
        return Job(photo, paintings, size, schedule, images, args.init)

    def _start(self, job: Job) -> Tensor | None:
        """The first picture as a tensor; None for the painter's own, the content."""
        import torch

        if job.init in (None, "content"):
            return None
        if job.init == "random":
            return torch.rand(1, 3, *job.schedule.scales[0]).to(self.device)
        return self._tensor(job.images[job.init])

    def _full_size(self, picture: Tensor, size: tuple[int, int]) -> Tensor:
        """A picture that time did not suffice to paint in full, enlarged; another one as it is."""
        from extras.painter.optimization import resize

        if tuple(picture.shape[2:]) == size:
            return picture
        self._say(f"painted at {picture.shape[3]} x {picture.shape[2]}, enlarged to {size[1]} x {size[0]}")
        return resize(picture, size).clamp(0, 1)

    def _say(self, text: object) -> None:
        if not self.args.quiet:
            print(text, file=sys.stderr)

    def _tensor(self, image: Image.Image) -> Tensor:
        """A picture as (1, 3, H, W) in [0, 1] on the device."""
        import numpy as np
        import torch

        pixels = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255)
        return pixels.permute(2, 0, 1)[None].contiguous().to(self.device)

    def _writing(self, size: tuple[int, int]) -> float:
        """Seconds kept for what comes after the last step."""
        seconds = 0.3 + 4e-7 * size[0] * size[1] + 0.02 * self.args.budget
        return seconds + 1.5 * bool(self.args.animate) + 1.5 * bool(self.args.plot)

    def _check_memory(self, size: tuple[int, int]) -> float:
        """The bytes that painting takes, as estimated. Raises CannotError where there are not as many."""
        from extras.painter.memory import available_bytes
        from extras.painter.optimization import bytes_per_pixel

        free = available_bytes(self.device)
        needed = bytes_per_pixel(self.net, 1 if self.args.keep_colors else 3) * size[0] * size[1]
        if free is not None and needed > free:
            fits = int(max(size) * math.sqrt(free / needed) * 0.98) // 16 * 16
            raise CannotError(
                f"--size {max(size)} needs about {needed / 2**30:.1f} GB of memory and {free / 2**30:.1f} GB are free: "
                f"--size {fits} is the largest that fits"
            )
        return needed

    def _with_alpha(self, image: Image.Image, content: str, path: Path) -> Image.Image:
        """The content's transparency laid on again, where the format has any."""
        from helpers.image_utils import read_alpha

        alpha = read_alpha(content) if Path(content).exists() else None
        if alpha is None:
            return image
        if path.suffix.lower() not in HAS_ALPHA:
            self._say(f"{path.suffix} holds no transparency: painted on white")
            return image
        image.putalpha(alpha.resize(image.size))
        return image


def check_options(args: argparse.Namespace) -> None:
    """Raises UsageError for what is wrong before anything is loaded."""
    styles = len(args.style or [""])
    if args.blend and len(args.blend) != styles:
        raise UsageError(f"{len(args.blend)} shares in --blend for {styles} --style: give one each")
    if not SMALLEST <= (args.size or SIZE) <= LARGEST:
        raise UsageError(f"--size {args.size} must be from {SMALLEST} to {LARGEST}")
    if args.budget and args.steps:
        raise UsageError("--budget plans the steps: give it or --steps")
    for option, endings in (("animate", (".gif",)), ("plot", (".png", ".jpg", ".jpeg", ".webp"))):
        path = getattr(args, option)
        if path and Path(path).suffix.lower() not in endings:
            raise UsageError(f"--{option} {path}: its ending must be {' or '.join(endings)}")
        if path:
            cli.check_output(Path(path).with_suffix(".png"))  # of its folder: the ending has been judged


def shares_of(blend: Sequence[float] | None, count: int) -> list[float]:
    """How much each of `count` paintings counts, summing to 1."""
    return [share / sum(blend) for share in blend] if blend else [1 / count] * count


def size_of(photo: Image.Image, longer: int) -> tuple[int, int]:
    """(H, W) of a photo brought to `longer` pixels on its longer side. Raises UsageError where the other gets too
    narrow for the network.
    """
    from extras.painter.schedule import MIN_SIDE

    ratio = longer / max(photo.size)
    size = (max(1, round(photo.height * ratio)), max(1, round(photo.width * ratio)))
    if min(size) < MIN_SIDE:
        needed = math.ceil(MIN_SIDE * max(photo.size) / min(photo.size))
        raise UsageError(
            f"--size {longer} leaves the shorter side {min(size)} pixels of the {MIN_SIDE} that the network "
            f"needs: use --size {needed} or more, or crop the photo"
        )
    return size


def to_image(picture: Tensor) -> Image.Image:
    """(1, 3, H, W) in [0, 1] -> RGB picture."""
    from PIL import Image

    return Image.fromarray((picture[0].permute(1, 2, 0).cpu() * 255).round().byte().numpy())


@contextlib.contextmanager
def progress_bar(schedule: Schedule, label: str) -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr with the scale, the losses and the time left; the block hands it each record."""
    from tqdm import tqdm

    layout = "{percentage:3.0f}%|{bar:24}| {desc}"
    began = time.monotonic()
    with tqdm(total=1.0, desc=label, bar_format=layout, leave=False, mininterval=0.5) as bar:

        def show(progress: Progress) -> None:
            left = schedule.seconds_left()
            spent = time.monotonic() - began
            bar.n = spent / (spent + left) if spent + left else 1.0
            losses = f"style {progress.style:.4f}, content {progress.terms['content']:.4f}"
            bar.set_description_str(
                f"{label}: {max(progress.size)} px, {losses}, {clock(left)} left", refresh=False
            )
            bar.update(0)

        yield show


def clock(seconds: float) -> str:
    """75 -> 1:15."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
