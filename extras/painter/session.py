"""What surrounds the painter in `style_transfer.py --method paint`: pictures in and out, the time and the memory that
a painting may take, progress, the animation and the plot.
"""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from extras.painter.figures import FrameRecorder, save_plot, to_image
from extras.painter.network import FeatureNet, bytes_per_pixel, bytes_per_style_pixel, fast_dtype
from extras.painter.optimization import Progress, paint, style_size
from extras.painter.options import MIN_SIZE, PaintOptions, swept
from extras.painter.pixels import Size, resize
from extras.painter.regions import WHOLE, Regions, color_regions, mask_region
from extras.painter.schedule import MIN_SIDE, Schedule, scales_of
from extras.painter.settings import settings_for
from helpers import cli, memory
from helpers.data_utils import image_name, image_size, open_image
from helpers.errors import CannotError, UsageError
from helpers.figures import DPI, Cell, check_format, save_grid, save_image
from helpers.image_batch import network_note
from helpers.image_utils import read_alpha, read_image
from helpers.models import choose_device, load_features
from helpers.recipe import make_recipe

MIN_DRAWN, MAX_DRAWN = 256, 4096  # side of a drawn style in pixels
SHEET_COLUMNS = 4
SAME_SHAPE = 1.03  # ratio of two pictures' shapes that still counts as the same
FLAT = 3.0  # standard deviation of the greys of a painting without strokes
SMALL = 9  # times as many pixels in the picture: the painting is small
HAS_ALPHA = (".png", ".webp", ".tif", ".tiff")


class Job(NamedTuple):
    """A painting that is about to begin: its size, the pictures by path or name, the plan, the records of its steps."""

    size: Size
    images: dict[str, Image.Image]
    schedule: Schedule
    records: Iterator[Progress]


class Canvas(NamedTuple):
    """A painting after a step: the record of the step, the seconds left, and the steps of each size so far. Given as
    --steps, they paint the same picture again.
    """

    progress: Progress
    seconds_left: float
    steps: list[int]

    @property
    def image(self) -> Image.Image:
        """The best picture so far, of the size that is painted at present."""
        return to_image(self.progress.picture)


class PaintSession:
    """A network on a device, ready to paint one picture after another.

    began: when the time of the first picture began (`time.monotonic`); loading the network counts.
    """

    def __init__(self, options: PaintOptions, began: float | None = None) -> None:
        self.options, self.began = options, began
        self.device = choose_device(options.device)
        self.cnn = load_features(options.model, options.weights, self.device, quiet=options.quiet)
        try:
            self.settings = settings_for(
                self.cnn, strength=options.strength, style_scale=options.style_scale, loss=options.loss
            )
        except ValueError as error:
            raise UsageError(f"--model {options.model}: {error}; use vgg16, vgg19 or squeezenet") from error
        self.note = network_note(options.model, options.weights, features=True)
        dtype = torch.float32 if options.precision == "float32" else fast_dtype(self.device)
        self.net = FeatureNet(self.cnn, self.settings.layers, dtype)

    def paint(self, content: str, styles: Sequence[str], path: Path, arguments: Mapping[str, object]) -> Path:
        """Paints a picture and writes it to `path`. After Ctrl-C it writes the best picture so far and says so.

        content, styles: files or bundled names. arguments: those of the command line, for the recipe.
        """
        options = self.options
        job = self._begin(content, styles, path, watch=bool(options.plot))
        arguments = {**arguments, "plot": None}  # it does not change the picture, and a replay makes none
        metadata = make_recipe(arguments, self.cnn, job.images)
        recorder, history, stopped = FrameRecorder(), [], False
        progress: Progress | None = None
        try:
            with progress_bar(job.schedule, path.stem) as show:
                for progress in job.records:
                    show(progress)
                    if options.animate:
                        recorder.add(progress.picture)
                    if options.plot:
                        history.append(progress)
        except KeyboardInterrupt:
            if progress is None:
                raise
            stopped = True
        assert progress is not None  # a schedule has at least one step
        if stopped or options.budget:
            # The clock or Ctrl-C decided how many steps there were: a replay counts them.
            steps = job.schedule.done_by(progress.scale, progress.step)
            counted = {**arguments, "budget": None, "steps": steps, "recorded": None}
            metadata = make_recipe(counted, self.cnn, job.images)
        image = to_image(self._full_size(progress.picture, job.size))
        save_image(path, self._with_alpha(image, content, path), metadata)
        if options.animate:
            self._say(recorder.save(options.animate))
        if options.plot:
            names = f"{image_name(content)} in the style of {', '.join(map(image_name, styles))}"
            self._say(save_plot(options.plot, history, f"{names}. {self.note}"))
        if stopped:
            raise KeyboardInterrupt(f"the best picture so far is in {path}")
        return path

    def watch(self, content: str, styles: Sequence[str]) -> Iterator[Canvas]:
        """Paints a picture and yields the canvas after every step; whoever watches may stop at any. Writes nothing.

        content, styles: files or bundled names.
        """
        job = self._begin(content, styles)
        for progress in job.records:
            steps = job.schedule.done_by(progress.scale, progress.step)
            yield Canvas(progress, job.schedule.seconds_left(), steps)

    def sweep(self, content: str, styles: Sequence[str], path: Path, arguments: Mapping[str, object]) -> Path:
        """Paints a picture for each value of --sweep, and writes them as one sheet to `path`."""
        assert self.options.sweep
        name, values = swept(self.options.sweep)
        for value in values if name in ("content", "style") else ():
            size_of(open_image(value, style_size=MIN_DRAWN), self.options.size)  # before the first is painted
        cells: list[Cell] = []
        images: dict[str, Image.Image] = {}
        targets: dict[Size, Any] = {}  # of the styles: computed once where the values do not change them
        stopped = False
        try:
            for value in values:
                here = str(value) if name == "content" else content
                there = [str(value)] if name == "style" else styles
                changes = {name: value} if name in ("strength", "loss") else {}
                if name in ("style", "loss") or self.options.keep_colors:
                    targets = {}
                job = self._begin(here, there, changes=changes, targets=targets)
                images |= job.images
                label = f"{name} {value:g}" if isinstance(value, float) else image_name(value)
                with progress_bar(job.schedule, label) as show:
                    for progress in job.records:
                        show(progress)
                cells.append(Cell(to_image(self._full_size(progress.picture, job.size)), label))
        except KeyboardInterrupt:
            if not cells:
                raise
            stopped = True
        height = self.options.size / DPI
        rows = [cells[k : k + SHEET_COLUMNS] for k in range(0, len(cells), SHEET_COLUMNS)]
        save_grid(path, rows, height=height, metadata=make_recipe(arguments, self.cnn, images))
        if stopped:
            raise KeyboardInterrupt(f"the {len(cells)} finished pictures are in {path}")
        return path

    def _begin(
        self,
        content: str,
        styles: Sequence[str],
        path: Path | None = None,
        *,
        watch: bool = False,
        changes: Mapping[str, Any] | None = None,
        targets: dict[Size, Any] | None = None,
    ) -> Job:
        """Opens the pictures, plans the sizes and seeds torch. path: the file that the painting will be written to.
        watch, targets: as of `optimization.paint`. changes: of the settings.
        """
        options, settings = self.options, replace(self.settings, **(changes or {}))
        began, self.began = self.began or time.monotonic(), None
        photo = open_image(content, seed=options.seed)
        size = size_of(photo, options.size)
        if path:
            check_format(path, (size[1], size[0]))
        drawn = math.ceil(math.sqrt(size[0] * size[1]) * settings.style_scale)
        drawn = min(MAX_DRAWN, max(MIN_DRAWN, drawn))
        sizes = [image_size(style, style_size=drawn) for style in styles]
        needed = self._check_memory(photo, sizes)
        paintings = [open_image(style, style_size=drawn, seed=options.seed) for style in styles]
        images = {content: photo, **dict(zip(styles, paintings, strict=True))}
        regions = self._regions(content, photo, paintings[0], images)
        schedule = self._schedule(size, began)
        self._say(
            f"{size[1]} x {size[0]} pixels, {len(schedule.scales)} sizes from {max(schedule.scales[0])} up, "
            f"about {needed / 2**30:.1f} GB of memory"
        )
        for style, painting in zip(styles, paintings, strict=True):
            self._say_what_to_expect(style, painting, size)
        cli.seed_everything(options.seed)
        start = None
        if options.init == "random":
            start = torch.rand(1, 3, *schedule.scales[0]).to(self.device)
        elif options.init != "content":
            images[options.init] = open_image(options.init, seed=options.seed)
            start = self._tensor(images[options.init])
        blend = options.blend or [1.0] * len(paintings)
        records = paint(
            self.net,
            self._tensor(photo),
            [self._tensor(painting) for painting in paintings],
            schedule,
            settings,
            shares=[share / sum(blend) for share in blend],
            start=start,
            keep_colors=options.keep_colors,
            optimizer=options.optimizer,
            regions=regions,
            watch=watch,
            targets=targets,
        )
        return Job(size, images, schedule, records)

    def _regions(
        self, content: str, photo: Image.Image, painting: Image.Image, images: dict[str, Image.Image]
    ) -> Regions:
        """What --mask or --regions say; their files join `images`."""
        files = [self.options.mask] if self.options.mask else self.options.regions or []
        masks = [read_image(file) for file in files]
        for file, mask, picture in zip(files, masks, (photo, painting), strict=False):
            ratio = mask.width * picture.height / (mask.height * picture.width)
            if not 1 / SAME_SHAPE < ratio < SAME_SHAPE:
                raise UsageError(
                    f"{file} is {mask.width} x {mask.height} and its picture {picture.width} x {picture.height}: "
                    "a mask has the shape of its picture"
                )
        images |= dict(zip(files, masks, strict=True))
        try:
            if self.options.mask:
                return mask_region(masks[0]).to(self.device)
            return color_regions(*masks).to(self.device) if masks else WHOLE
        except UsageError as error:
            raise UsageError(f"{' '.join(files)}: {error}") from error

    def _say_what_to_expect(self, style: str, painting: Image.Image, size: Size) -> None:
        """A line for a painting from which little can be learned."""
        if np.asarray(painting.convert("L"), dtype=np.float32).std() < FLAT:
            self._say(f"{style} is almost of one colour: expect its colour, and hardly any strokes")
        elif painting.width * painting.height * SMALL < size[0] * size[1]:
            self._say(
                f"{style} is only {painting.width} x {painting.height} pixels: expect strokes as fine as it has; "
                f"--size {max(MIN_SIZE, 2 * max(painting.size))} suits it"
            )

    def _schedule(self, size: Size, began: float) -> Schedule:
        """Scales and steps for a picture of this size. Raises where steps or time do not fit."""
        scales, steps, budget = scales_of(size), self.options.steps, self.options.budget
        if steps and (len(steps) not in (1, len(scales)) or not any(steps)):
            raise UsageError(
                f"{len(steps)} numbers in --steps: give one number, or one for each of the {len(scales)} sizes, "
                "not all 0"
            )
        deadline = None
        if budget:
            files = bool(self.options.animate) + bool(self.options.plot)
            # Less the seconds that writing takes.
            deadline = began + 0.98 * budget - (0.3 + 4e-7 * size[0] * size[1] + 1.5 * files)
            if (now := time.monotonic()) > deadline:
                raise CannotError(
                    f"--budget {budget:g}s is too short: loading alone took {now - began:.0f} s; give more time"
                )
        return Schedule(scales, steps[0] if steps and len(steps) == 1 else steps, deadline=deadline)

    def _check_memory(self, photo: Image.Image, styles: Sequence[tuple[int, int]]) -> float:
        """The estimated bytes that the painting takes, with styles of these sizes (W, H). Raises CannotError where
        fewer are free.
        """
        channels = 1 if self.options.keep_colors else 3
        each, each_of_style = bytes_per_pixel(self.net, channels), bytes_per_style_pixel(self.net)
        # All pictures are kept as they are, in single precision; colours are kept beside them.
        whole = sum(12 * width * height for width, height in (photo.size, *styles))
        whole *= 1 if channels == 3 else 3

        def needed(longer: int) -> float:
            ratio = longer / max(photo.size)
            size = (max(1, round(photo.height * ratio)), max(1, round(photo.width * ratio)))
            shown = [style_size(height, width, size, self.settings.style_scale) for width, height in styles]
            largest = max(height * width for height, width in shown)
            return whole + max(each * size[0] * size[1], each_of_style * largest)

        return memory.check_memory(needed, "--size", self.options.size, self.device, least=MIN_SIZE)

    def _full_size(self, picture: Tensor, size: Size) -> Tensor:
        """The picture, enlarged where the time did not suffice to paint it at its full size."""
        if tuple(picture.shape[2:]) == size:
            return picture
        self._say(f"painted at {picture.shape[3]} x {picture.shape[2]}, enlarged to {size[1]} x {size[0]}")
        return resize(picture, size).clamp(0, 1)

    def _with_alpha(self, image: Image.Image, content: str, path: Path) -> Image.Image:
        """The painted picture with the transparency of the content, if the file format has any."""
        alpha = read_alpha(content) if Path(content).exists() else None
        if alpha and path.suffix.lower() not in HAS_ALPHA:
            self._say(f"{path.suffix} holds no transparency: painted on white")
        elif alpha:
            image.putalpha(alpha.resize(image.size))
        return image

    def _tensor(self, image: Image.Image) -> Tensor:
        """A picture as (1, 3, H, W) in [0, 1] on the device."""
        pixels = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255)
        return pixels.permute(2, 0, 1)[None].contiguous().to(self.device)

    def _say(self, text: object) -> None:
        if not self.options.quiet:
            print(text, file=sys.stderr)


def size_of(photo: Image.Image, longer: int) -> Size:
    """(H, W) of a photo resized to `longer` pixels on its longer side. Raises UsageError where the shorter side would
    be too short for the network.
    """
    ratio = longer / max(photo.size)
    size = (max(1, round(photo.height * ratio)), max(1, round(photo.width * ratio)))
    if min(size) < MIN_SIDE:
        enough = math.ceil(MIN_SIDE * max(photo.size) / min(photo.size))
        raise UsageError(
            f"--size {longer} makes the shorter side {min(size)} pixels, and the network needs {MIN_SIDE}: "
            f"use --size {enough} or more, or crop the photo"
        )
    return size


@contextlib.contextmanager
def progress_bar(schedule: Schedule, label: str) -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr with the size, the losses and the time left; the block passes each record to what it gets."""
    layout = "{percentage:3.0f}%|{bar:24}| {desc}"
    began = time.monotonic()
    with tqdm(total=1.0, desc=label, bar_format=layout, leave=False, mininterval=0.5, disable=None) as bar:

        def show(progress: Progress) -> None:
            left, spent = schedule.seconds_left(), time.monotonic() - began
            bar.n = spent / (spent + left) if spent + left else 1.0
            losses = f"style {progress.style:.4f}, content {progress.terms['content']:.4f}"
            text = f"{label}: {max(progress.size)} px, {losses}, {clock(left)} left"
            bar.set_description_str(text, refresh=False)
            bar.update(0)

        yield show


def clock(seconds: float) -> str:
    """75 -> 1:15."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
