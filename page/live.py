"""Watches the graded loops while they run: they are functions that return when they are done, and what they compute on
the way is seen by hooks.
"""

import contextlib
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from helpers.cli import seed_everything
from helpers.data_utils import class_names
from helpers.image_utils import deprocess
from helpers.presets import CLASS_PICTURE, PRESETS
from style_modules import ContentLoss, StyleLoss, TotalVariationLoss
from style_utils import style_transfer
from visualizers import ClassVisualization

Show = Callable[[Any], None]
COURSE_STEPS = 200  # of the style transfer, as the assignment has it


class Stopped(BaseException):
    """Nobody watches any more. Not an Exception, so that no loop takes it for an error of its own."""


def watched(work: Callable[[Show], Any]) -> Iterator[Any]:
    """Runs work(show) in a thread. Yields what it shows, or the latest of it where that is more than can be watched,
    and last what it returns. Its error is raised here. A generator that is closed ends the work at its next show.
    """
    box: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=1)
    stop = threading.Event()

    def put(kind: str, value: Any) -> None:
        with contextlib.suppress(queue.Empty):
            box.get_nowait()
        box.put((kind, value))

    def show(value: Any) -> None:
        if stop.is_set():
            raise Stopped
        put("shown", value)

    def run() -> None:
        try:
            put("done", work(show))
        except BaseException as error:
            put("failed", error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    kind = "shown"
    try:
        while kind == "shown":
            kind, value = box.get()
            if kind == "failed":
                raise value
            yield value
    finally:
        stop.set()
        thread.join()  # at most one step: then the network is as it was


def class_picture(k: int, model: nn.Module, iterations: int, seed: int) -> Iterator[tuple[int, Image.Image]]:
    """The graded ascent to class k while it runs: the number of the iteration, and the picture, shifted as the network
    sees it; at the end the picture that it returns.
    """

    def work(show: Show) -> tuple[int, Image.Image]:
        seen = 0

        def look(_model: nn.Module, inputs: tuple) -> None:
            nonlocal seen
            show((seen, deprocess(inputs[0].detach().clone())))
            seen += 1

        seed_everything(seed)
        handle = model.register_forward_pre_hook(look)
        try:
            picture = ClassVisualization().create_class_visualization(
                k, class_names(), model, num_iterations=iterations, generate_plots=False, **CLASS_PICTURE
            )
        finally:
            handle.remove()
        return iterations, picture

    yield from watched(work)


def course_painting(
    content: Image.Image,
    style: Image.Image,
    cnn: nn.Sequential,
    preset: str,
    side: int,
    strength: float,
    seed: int = 0,
) -> Iterator[tuple[int, Image.Image, dict[str, float]]]:
    """The graded style transfer while it runs: the number of steps so far, the picture, and the weighted losses by
    name. side: shorter side of the picture in pixels. strength: multiplies the style weights.
    """

    def work(show: Show) -> tuple[int, Image.Image, dict[str, float]]:
        values: dict[str, float] = {}
        steps = 0
        losses = {"content": ContentLoss(), "style": StyleLoss(), "tv": TotalVariationLoss()}

        def note(name: str) -> Callable:
            def hook(_loss: nn.Module, _inputs: tuple, value: Any) -> None:
                values[name] = float(value.detach())

            return hook

        def look(_loss: nn.Module, inputs: tuple, named: dict) -> None:
            nonlocal steps
            # The total variation is that of the picture itself.
            (img,) = (x for x in (*inputs, *named.values()) if isinstance(x, Tensor))
            show((steps, deprocess(img.detach().clone()), dict(values)))
            steps += 1

        for name, loss in losses.items():
            loss.register_forward_hook(note(name))
        losses["tv"].register_forward_pre_hook(look, with_kwargs=True)
        settings: dict[str, Any] = PRESETS[preset]._asdict() | {"image_size": side}
        settings["style_weights"] = [weight * strength for weight in settings["style_weights"]]
        seed_everything(seed)
        with tempfile.TemporaryDirectory() as folder:
            files = [str(Path(folder) / f"{name}.png") for name in ("content", "style")]
            content.save(files[0])  # published code opens its images with Pillow
            style.save(files[1])
            img: Any = style_transfer(
                name="page",
                content_image=files[0],
                style_image=files[1],
                content_loss=losses["content"],
                style_loss=losses["style"],
                tv_loss=losses["tv"],
                cnn=cnn,
                dtype=torch.float32,
                testing=True,
                **settings,
            )
        return steps, deprocess(img), values

    yield from watched(work)
