"""What the page shows, from what its widgets hold: each function calls the library and knows nothing of Gradio."""

import functools
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from helpers.cli import seed_everything
from helpers.data_utils import PHOTOS, class_names, find_class, open_image
from helpers.errors import CannotError
from helpers.figures import overlay
from helpers.image_batch import best_classes, map_picture
from helpers.image_utils import preprocess, square
from helpers.models import load_classifier, only_classes
from visualizers import ClassVisualization, GradCam, SaliencyMap
from visualizers.mechanisms import last_map_layer, layer_option, map_layers

SIZE = 224
GRADED = {"Grad-CAM": "grad-cam", "saliency map": "saliency"}
PROJECT = Path(__file__).resolve().parent.parent


class Look(NamedTuple):
    """An explained photo: the picture, the photo it lies over, the classes with their probabilities, the command."""

    picture: np.ndarray
    photo: np.ndarray
    classes: list[tuple[str, float]]
    explained: str
    command: str


@functools.cache
def network(random: bool = False) -> nn.Module:
    """SqueezeNet with its learned weights, or with random ones."""
    seed_everything(0)
    return load_classifier("squeezenet", "random" if random else "packaged")


@functools.cache
def layers() -> list[str]:
    """The blocks of the network that return maps, from first to last."""
    X = torch.zeros(1, 3, SIZE, SIZE)
    last = last_map_layer(network(), X)
    return [name for name in map_layers(network(), X) if name.rpartition(".")[0] == last]


def extra_methods() -> dict[str, str]:
    """Titles and names of the methods of extras/, none where that folder is absent."""
    try:
        from extras.attribution.methods import METHODS
    except ModuleNotFoundError:
        return {}
    return {m.title: name for name, m in METHODS.items() if name not in GRADED.values() and m.passes == 1}


def photo_of(path: str | None, name: str) -> tuple[np.ndarray, str]:
    """The square that the network sees, uint8 (H, W, 3), of an uploaded file, or else of a bundled photo; and how the
    command line calls it.
    """
    photo = np.asarray(square(open_image(path or name), SIZE))
    return photo, Path(path).name if path else name


def look(
    path: str | None,
    name: str,
    method: str = "Grad-CAM",
    layer: int = -1,
    opacity: float = 1.0,
    target: str = "",
    versus: str = "",
    random: bool = False,
) -> Look:
    """Explains a photo. method: a title; layer: a number in `layers`; target, versus: classes, "" for the predicted one
    and for none. opacity: of the map over the photo, 0 to 1.
    """
    photo, called = photo_of(path, name)
    names, model = class_names(), network(random)
    X = preprocess(photo, SIZE)
    (classes,) = best_classes(X, model, 5, names)
    k = find_class(target or classes[0][0], names)
    y = torch.tensor([k])
    at = layers()[layer]
    heat, kind = explain(method, X, y, model, at, find_class(versus, names) if versus else None)
    over = map_picture(heat, kind, photo).astype(np.float64)
    picture = (opacity * over + (1 - opacity) * photo).round().astype(np.uint8)
    return Look(picture, photo, classes, names[k], command_of(called, method, at, k, versus, random))


def explain(
    method: str, X: Tensor, y: Tensor, model: nn.Module, layer: str, versus: int | None = None
) -> tuple[np.ndarray, str]:
    """The map (H, W) of one image and its kind, see `helpers.image_batch.NOTES`."""
    if versus is not None:
        from extras.attribution.comparison import ScoreDifference

        model = ScoreDifference(model, versus)
    else:
        model, y = only_classes(model, y)
    if method == "Grad-CAM":
        return GradCam().grad_cam(X, y, model, **layer_option(GradCam.grad_cam, layer))[0], "region"
    if method == "saliency map":
        return SaliencyMap().compute_saliency_maps(X, y, model)[0].numpy(), "size"
    from extras.attribution.cam import RULES, cam_at
    from extras.attribution.methods import METHODS

    name = extra_methods()[method]
    if name in RULES:
        return cam_at([layer], X, y, model, name)[layer][0], "region"
    return METHODS[name].explain(X, y, model)[0].numpy(), METHODS[name].kind


def command_of(photo: str, method: str, layer: str, target: int, versus: str, random: bool) -> str:
    """The command line that draws the same map."""
    words = ["--images", photo, "--classes", str(target)]
    words += ["--versus", versus] * bool(versus) + ["--weights", "random"] * random
    name = (GRADED | extra_methods())[method]
    if name in ("grad-cam", "grad-cam++", "hires-cam", "layer-cam"):
        option = [] if name == "grad-cam" else ["--method", name]
        return shlex.join(["./gradcam_visualization.py", *words, "--layers", layer, *option])
    option = [] if name == "saliency" else ["--methods", name]
    return shlex.join(["./saliency_visualization.py", *words, *option])


def run_command(command: str, path: str | None, folder: Path) -> Path:
    """Runs a command line that the page shows, and returns the picture in `folder`, which carries its recipe. path: the
    uploaded photo, which the command calls by its name. Raises CannotError with the command's own line.
    """
    script, *words = shlex.split(command)
    output = folder / "figure.png"
    with tempfile.TemporaryDirectory() as scratch:
        if path:
            shutil.copy(path, Path(scratch) / Path(path).name)
        done = subprocess.run(
            [sys.executable, str(PROJECT / script), *words, "--quiet", "--output", str(output)],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise CannotError((done.stderr.strip().splitlines() or ["the command failed"])[-1])
    return output


def poke(photo: np.ndarray, mask: np.ndarray, how: str) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """The Grad-CAM map of a photo with a region covered, over that photo; and the five classes that led before, with
    their probabilities before and after. mask: (H, W); how: grey or blur.
    """
    from extras.attribution.comparison import covered, occluded_scores
    from helpers.image_utils import deprocess

    names, model = class_names(), network()
    X = preprocess(photo, photo.shape[:2])
    (before,) = best_classes(X, model, 5, names)
    after = occluded_scores(X, mask, model, how).softmax(dim=1)[0]
    y = torch.tensor([names.index(before[0][0])])
    hidden = covered(X, mask, how)
    heat, _ = explain("Grad-CAM", hidden, y, model, layers()[-1])
    rows = [(name, p, after[names.index(name)].item()) for name, p in before]
    return overlay(np.asarray(deprocess(hidden)), heat), rows


def suggested_mask(photo: np.ndarray, share: float, random: bool) -> np.ndarray:
    """The region that Grad-CAM calls most important, or the same region somewhere else."""
    from extras.attribution.comparison import most_important, shifted_region

    X = preprocess(photo, photo.shape[:2])
    y = network()(X).argmax(dim=1)
    mask = most_important(explain("Grad-CAM", X, y, network(), layers()[-1])[0], share)
    return shifted_region(mask) if random else mask


def dream(
    target: str, method: str, iterations: int, seed: int, every: int = 16
) -> Iterator[tuple[Image.Image, str, str]]:
    """Class pictures while they are made: picture, what it says below, the command. method: course or fourier."""
    from helpers.image_utils import deprocess

    names = class_names()
    k = find_class(target, names)
    words = ["--classes", str(k), "--iterations", str(iterations), "--seed", str(seed)]
    words += ["--method", method] * (method != "course")
    command = shlex.join(["./class_visualization.py", *words])
    seed_everything(seed)
    if method == "course":
        picture = ClassVisualization().create_class_visualization(
            k, names, network(), num_iterations=iterations, generate_plots=False
        )
        yield picture, f"{names[k]}, after {iterations} iterations", command
        return
    from extras.synthesis.feature_visualization import visualize

    for state in visualize([k], network(), num_iterations=iterations, show_every=every, seed=seed):
        if state is not None:
            score = f"iteration {state.iteration} of {iterations}, score {state.scores[0]:.1f}"
            yield deprocess(state.images[0]), f"{names[k]}: {score}", command


def paint_live(
    path: str | None, name: str, style: str, size: int, strength: float, keep_colors: bool, seconds: float
) -> Iterator[tuple[Image.Image, str, str]]:
    """A painting while it is painted: picture, losses and time left, and the command that paints it again, with its
    steps counted.
    """
    from extras.painter.figures import to_image
    from extras.painter.optimization import FeatureNet, fast_dtype, paint, settings_for
    from extras.painter.schedule import Schedule, scales_of
    from extras.painter.session import size_of
    from helpers.models import load_features

    content = open_image(path or name)
    scales = scales_of(size_of(content, size))
    cnn = load_features("squeezenet", "packaged")
    settings = settings_for(cnn, strength)
    net = FeatureNet(cnn, (*settings.style_layers, settings.content_layer), fast_dtype(torch.device("cpu")))
    side = min(4096, max(256, int(np.ceil(np.sqrt(scales[-1][0] * scales[-1][1])))))
    drawn = open_image(style, style_size=side, seed=0)
    seed_everything(0)
    schedule = Schedule(scales, deadline=time.monotonic() + seconds)
    tensors = [
        torch.from_numpy(np.asarray(img.convert("RGB"), dtype=np.float32) / 255)
        .permute(2, 0, 1)[None]
        .contiguous()
        for img in (content, drawn)
    ]
    shown = 0.0
    words = ["--method", "paint", "--model", "squeezenet", "--content", Path(path).name if path else name]
    words += ["--style", style, "--size", str(size), "--strength", f"{strength:g}"]
    words += ["--keep-colors"] * keep_colors
    for progress in paint(net, tensors[0], tensors[1:], schedule, settings, keep_colors=keep_colors):
        left = schedule.seconds_left()
        if time.monotonic() - shown < 0.5 and left > 0:
            continue
        shown = time.monotonic()
        steps = [str(count) for count in schedule.done_by(progress.scale, progress.step)]
        losses = f"style {progress.style:.4f}, content {progress.terms['content']:.4f}"
        text = f"{max(progress.size)} pixels, {losses}, {left:.0f} s left"
        command = shlex.join(["./style_transfer.py", *words, "--steps", *steps])
        yield to_image(progress.picture), text, command


def photo_names() -> list[str]:
    """The bundled photos."""
    return list(PHOTOS)


def style_names() -> list[str]:
    """The drawn styles."""
    from helpers.style_images import STYLES

    return list(STYLES)
