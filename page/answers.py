"""What the page shows, from what its widgets hold: each function calls the library and knows nothing of Gradio."""

import functools
import io
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from helpers.cli import seed_everything
from helpers.data_utils import PHOTOS, class_names, find_class, image_size, open_image
from helpers.errors import CannotError, UsageError
from helpers.figures import DPI, Cell, draw_grid, tile
from helpers.image_batch import ImageBatch, map_picture
from helpers.image_utils import deprocess, preprocess, square
from helpers.models import downloaded_classifiers, load_classifier, load_features, only_classes
from page import live
from visualizers import GradCam, SaliencyMap
from visualizers.mechanisms import last_map_layer, layer_option, map_layers

SIZE = 224
GRADED = {"Grad-CAM": "grad-cam", "saliency map": "saliency", "guided backpropagation": "guided-backprop"}
TRAINED, RANDOM = "squeezenet", "squeezenet:random"
NOTHING, CLASS, LAYER, NETWORK = "nothing", "another class", "another layer", "another network"
PROJECT = Path(__file__).resolve().parent.parent
REGION = "region.png"  # what a brushed region is called on the command line
PAUSE = 0.3  # seconds between two pictures of something that grows
T = TypeVar("T")


class Answer(NamedTuple):
    """One map: over its photo, uint8 (H, W, 3), and what it explains, in words."""

    picture: np.ndarray
    about: str


class Look(NamedTuple):
    """An explained photo: one answer, or two; the best classes with their probabilities; the command line."""

    answer: Answer
    beside: Answer | None
    classes: list[tuple[str, float]]
    command: str


class Poked(NamedTuple):
    """A photo with a region covered, under its new map, uint8 (H, W, 3); the five best classes with their probabilities
    before and after; the command line, and the files that it reads beside the photo, by name.
    """

    picture: np.ndarray
    classes: list[tuple[str, float, float]]
    command: str
    files: dict[str, bytes]


class Asked(NamedTuple):
    """What a map is of: the photo (an uploaded file, or else a bundled name), the method's title, the network as
    MODEL or MODEL:WEIGHTS, the layer ("" for the last one), the class, and the class whose score is taken away.
    """

    path: str | None
    name: str
    method: str
    network: str
    layer: str
    target: int
    versus: int | None


@functools.lru_cache(maxsize=4)
def network(spec: str = TRAINED) -> nn.Module:
    """A network by MODEL or MODEL:WEIGHTS."""
    name, _, weights = spec.partition(":")
    seed_everything(0)
    return load_classifier(name, weights or None)


def networks() -> dict[str, str]:
    """The networks that can stand beside the trained SqueezeNet, offline: their titles and specs."""
    return {"SqueezeNet with random weights": RANDOM} | {name: name for name in downloaded_classifiers()}


@functools.cache
def layers() -> list[str]:
    """The blocks of SqueezeNet that return maps, from first to last."""
    X = torch.zeros(1, 3, SIZE, SIZE)
    last = last_map_layer(network(), X)
    return [name for name in map_layers(network(), X) if name.rpartition(".")[0] == last]


@functools.cache
def extra_methods() -> dict[str, str]:
    """Titles and names of the methods of extras/ that are fast enough, none where that folder is absent."""
    try:
        from extras.attribution.methods import METHODS
    except ModuleNotFoundError:
        return {}
    return {m.title: name for name, m in METHODS.items() if name not in GRADED.values() and m.passes == 1}


def layer_rules() -> set[str]:
    """The names of the methods that explain any layer."""
    if not extra_methods():
        return {"grad-cam"}
    from extras.attribution.cam import RULES

    return set(RULES)


def has_layers(method: str) -> bool:
    """Whether the method with this title explains any layer."""
    return (GRADED | extra_methods())[method] in layer_rules()


@functools.lru_cache(maxsize=8)
def photo_of(path: str | None, name: str) -> np.ndarray:
    """The square that the network sees, uint8 (H, W, 3), of an uploaded file, or else of a bundled photo."""
    return np.asarray(square(open_image(path or name), SIZE))


@functools.lru_cache(maxsize=8)
def size_of(path: str | None, name: str) -> tuple[int, int]:
    """Width and height of an uploaded file, or else of a bundled photo."""
    return image_size(path or name)


@functools.lru_cache(maxsize=8)
def style_of(name: str) -> Image.Image:
    """A drawn style; drawing takes seconds."""
    return open_image(name, seed=0)


@functools.lru_cache(maxsize=8)
def probabilities_of(path: str | None, name: str) -> Tensor:
    """The probabilities of all classes (K,) of a photo."""
    with torch.no_grad():
        return network()(preprocess(photo_of(path, name), SIZE)).softmax(dim=1)[0]


def classes_of(path: str | None, name: str) -> list[tuple[str, float]]:
    """The five best classes of a photo, and their probabilities."""
    best = probabilities_of(path, name).topk(5)
    return [(class_names()[k], p) for k, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


@functools.lru_cache(maxsize=64)
def map_of(asked: Asked) -> tuple[np.ndarray, str]:
    """The map (H, W), and its kind, see `helpers.image_batch.NOTES`."""
    X = preprocess(photo_of(asked.path, asked.name), SIZE)
    y = torch.tensor([asked.target])
    return explain(asked.method, X, y, network(asked.network), asked.layer, asked.versus)


def look(
    path: str | None,
    name: str,
    method: str = "Grad-CAM",
    layer: int = -1,
    opacity: float = 1.0,
    target: str = "",
    versus: str = "",
    beside: str = NOTHING,
    other: str | int = "",
) -> Look:
    """Explains a photo. method: a title; layer: a number in `layers`; target, versus: classes, "" for the predicted one
    and for none. opacity: of the map over the photo, 0 to 1. beside: what a second answer differs in, and other: which
    class, layer (a number) or network (a title) that is.
    """
    names, classes = class_names(), classes_of(path, name)
    k = find_class(target or classes[0][0], names)
    minus = find_class(versus, names) if versus else None
    if minus == k:
        raise UsageError(f"{names[k]} minus itself is 0: choose another class to take away")
    at = layers()[layer] if has_layers(method) else ""
    first = Asked(path, name, method, TRAINED, at, k, minus)
    second = None
    if beside == CLASS:
        second = first._replace(target=find_class(other or classes[1][0], names))
        if minus == second.target:
            raise UsageError(f"{names[minus]} minus itself is 0: choose another class")
    elif beside == LAYER:
        if not at:
            raise UsageError(
                f"{method} explains the pixels, not a layer: choose Grad-CAM or a relative of it"
            )
        second = first._replace(layer=layers()[int(other)])
    elif beside == NETWORK:
        second = first._replace(network=networks()[str(other)], layer="")
    asked = [first] if second is None else [first, second]
    answers = [Answer(picture_of(one, opacity), about(one)) for one in asked]
    return Look(answers[0], answers[1] if second else None, classes, command_of(first, second))


def picture_of(asked: Asked, opacity: float) -> np.ndarray:
    """The map, drawn over its photo as far as `opacity` says: uint8 (H, W, 3)."""
    photo = photo_of(asked.path, asked.name)
    over = map_picture(*map_of(asked), photo)
    if opacity == 1:
        return over
    return (opacity * over.astype(np.float32) + (1 - opacity) * photo).round().astype(np.uint8)


def about(asked: Asked) -> str:
    """What a map explains: class, layer and network."""
    names = class_names()
    text = names[asked.target] + (f" minus {names[asked.versus]}" if asked.versus is not None else "")
    if asked.network != TRAINED:
        title = next(title for title, spec in networks().items() if spec == asked.network)
        text += f", {title}"
    elif asked.layer:
        text += f", layer {asked.layer}"
    return text if map_of(asked)[0].any() else f"{text}: no positive evidence"


def explain(
    method: str, X: Tensor, y: Tensor, model: nn.Module, layer: str = "", versus: int | None = None
) -> tuple[np.ndarray, str]:
    """The map (H, W) of one image and its kind. layer: "" for the last one."""
    if versus is not None:
        from extras.attribution.comparison import ScoreDifference

        model = ScoreDifference(model, versus)
    else:
        model, y = only_classes(model, y)
    if method == "Grad-CAM":
        return GradCam().grad_cam(X, y, model, **layer_option(GradCam.grad_cam, layer))[0], "region"
    if method == "saliency map":
        return SaliencyMap().compute_saliency_maps(X, y, model)[0].numpy(), "size"
    if method == "guided backpropagation":
        return np.abs(GradCam().guided_backprop(X, y, model)[0]).max(axis=2), "size"
    from extras.attribution.cam import RULES, cam_at
    from extras.attribution.methods import METHODS

    name = extra_methods()[method]
    if name in RULES:
        at = layer or last_map_layer(model, X)
        return cam_at([at], X, y, model, name)[at][0], "region"
    return METHODS[name].explain(X, y, model)[0].numpy(), METHODS[name].kind


def command_of(asked: Asked, beside: Asked | None = None) -> str:
    """The command line that draws the same map, or the two side by side."""
    words = [*_photo_words(asked.path, asked.name), "--classes", str(asked.target)]
    if beside and beside.target != asked.target:
        words.append(str(beside.target))
    if asked.versus is not None:
        words += ["--versus", str(asked.versus)]
    name = (GRADED | extra_methods())[asked.method]
    if name in layer_rules():
        script = "./gradcam_visualization.py"
        words += ["--layers", *dict.fromkeys([asked.layer, (beside and beside.layer) or asked.layer])]
        words += ["--method", name] * (name != "grad-cam")
    elif name == "guided-backprop" and not extra_methods():
        script = "./gradcam_visualization.py"
        words.append("--guided")
    else:
        script = "./saliency_visualization.py"
        words += ["--methods", name] * (name != "saliency")
    if beside and beside.network != asked.network:
        words += ["--compare-models", beside.network]
    return shlex.join([script, *words])


def _photo_words(path: str | None, name: str, option: str = "--images") -> list[str]:
    photo = Path(path).name if path else name
    return [option, f"./{photo}" if photo.startswith("-") else photo]


def run_command(
    command: str, path: str | None, folder: Path, files: Mapping[str, bytes] | None = None
) -> Path:
    """Runs a command line that the page shows, and returns the picture in `folder`, which carries its recipe. path: the
    uploaded photo, which the command calls by its name; files: others that it reads, by name, which are copied into
    `folder`. Raises CannotError with the command's own line.
    """
    script, *words = shlex.split(command)
    output = folder / "figure.png"
    with tempfile.TemporaryDirectory() as scratch:
        if path:
            shutil.copy(path, Path(scratch) / Path(path).name)
        for name, data in (files or {}).items():
            (Path(scratch) / name).write_bytes(data)
        done = subprocess.run(
            [sys.executable, str(PROJECT / script), *words, "--quiet", "--output", str(output)],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise CannotError((done.stderr.strip().splitlines() or ["the command failed"])[-1])
    for name, data in (files or {}).items():
        (folder / name).write_bytes(data)
    return output


def put_to_the_test(
    path: str | None, name: str, method: str, layer: int, target: str, versus: str
) -> tuple[Image.Image, str]:
    """Deletion and insertion curves of the map that `look` shows, the maps of networks with re-initialized layers; and
    the command that draws them, too.
    """
    from extras.attribution.comparison import ScoreDifference
    from extras.attribution.figures import method_rows
    from extras.attribution.methods import METHODS, Method, class_activation

    names = class_names()
    k = find_class(target or classes_of(path, name)[0][0], names)
    minus = find_class(versus, names) if versus else None
    at = layers()[layer] if has_layers(method) else ""
    known = (GRADED | extra_methods())[method]
    asked = Method(method, class_activation(known, [at]), "region") if at else METHODS[known]
    photo = photo_of(path, name)
    batch = ImageBatch([photo], preprocess(photo, SIZE), torch.tensor([k]), {}, [""], [""], names)
    model = network() if minus is None else ScoreDifference(network(), minus)
    _, (curves,), (maps,) = method_rows(asked, batch, model, True, 0).rows
    side = 420
    cells = [Cell(curves.drawn(side, side)), Cell(maps.drawn(round(side * maps.aspect), side))]
    picture = draw_grid([cells], height=side / DPI)
    return picture, f"{command_of(Asked(path, name, method, TRAINED, at, k, minus))} --trust"


def meaning_of_tests() -> str:
    """What `put_to_the_test` shows, in words."""
    from extras.attribution.figures import EVALUATION_NOTE

    return EVALUATION_NOTE


def poke(path: str | None, name: str, mask: np.ndarray, how: str) -> Poked:
    """Covers a region of a photo. mask: (H, W), of the square that the network sees; how: grey or blur."""
    if not mask.any():
        k = int(probabilities_of(path, name).argmax())
        command = command_of(Asked(path, name, "Grad-CAM", TRAINED, layers()[-1], k, None))
        return _poke(path, name, mask, how, "")._replace(command=command)
    photo = Path(path).name if path else name
    file = REGION if photo.lower() != REGION else f"covered_{REGION}"
    poked = _poke(path, name, mask, how, file)
    return poked._replace(files={file: region_file(mask, size_of(path, name))})


def poke_share(path: str | None, name: str, share: float, how: str, elsewhere: bool) -> Poked:
    """Covers the `share` of a photo that Grad-CAM calls most important, or the same region somewhere else."""
    from extras.attribution.comparison import Cover, regions_of, share_of

    what = f"{round(100 * share, 2):g}%"
    cover = Cover(what, share=share_of(what))
    X, y = preprocess(photo_of(path, name), SIZE), probabilities_of(path, name).argmax()[None]
    heat, _ = explain("Grad-CAM", X, y, network())
    masks = list(regions_of(cover, heat[None]).values())
    return _poke(path, name, masks[elsewhere][0], how, what)


def _poke(path: str | None, name: str, mask: np.ndarray, how: str, what: str) -> Poked:
    """what: the mask, as --cover names it."""
    from extras.attribution.comparison import explain_covered
    from extras.attribution.methods import class_activation

    names, before = class_names(), probabilities_of(path, name)
    best = before.topk(5).indices
    X = preprocess(photo_of(path, name), SIZE)
    found = explain_covered(X, best[:1], network(), class_activation("grad-cam"), mask, how)
    after = found.probabilities[0]
    rows = [(names[k], before[k].item(), after[k].item()) for k in best.tolist()]
    picture = map_picture(found.maps[0], "region", found.photos[0])
    words = [*_photo_words(path, name), "--classes", str(best[0].item()), "--cover", what]
    words += ["--cover-with", how] * (how != "grey") + ["--top", str(len(rows))]
    return Poked(picture, rows, shlex.join(["./gradcam_visualization.py", *words]), {})


def region_file(mask: np.ndarray, photo_size: tuple[int, int]) -> bytes:
    """A region (H, W) of the square that the network sees as a PNG, white on black, that `read_cover` reads as this
    region: it must not be as large as the photo, of which only a part is seen.
    """
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    if picture.size == photo_size:
        picture = picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST)
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


class Grown(NamedTuple):
    """Something that grows: the picture so far (None before the first), what to say below it, the command line."""

    picture: Image.Image | None
    about: str
    command: str


def dream(
    target: str, method: str, iterations: int, seed: int, layer: str = "", channel: int = 0, count: int = 1
) -> Iterator[Grown]:
    """Pictures of a class, or of a channel of a layer if one is named, while they are made. method: pixels (the graded
    ascent) or fourier; a channel takes fourier. count: how many pictures; with fourier they are pushed apart, with
    pixels each has a seed of its own, from `seed` on.
    """
    if layer:
        title = f"channel {channel} of {layer}"
        words = ["--layer", layer, "--channel", str(channel)]
        targets = [channel]
    else:
        names = class_names()
        targets = [find_class(target, names)]
        title, words = names[targets[0]], ["--classes", str(targets[0])]

    def command(steps: int, *more: str) -> str:
        seeded = ["--iterations", str(steps), "--seed", str(seed)]
        return shlex.join(["./class_visualization.py", *words, *seeded, *more])

    if method == "pixels" and not layer:
        done: list[Image.Image] = []
        for number in range(seed, seed + count):
            text = f"{title}, seed {number}" if count > 1 else title
            more = ["--method", "pixels", "--variations", str(len(done) + 1)] if done else []
            picture = None
            for step, picture in paced(live.class_picture(targets[0], network(), iterations, number)):
                state, steps = f"{text}: iteration {step} of {iterations}", max(1, step)
                if done and step < iterations:
                    state, steps = f"{state} (the command goes on to {iterations})", iterations
                yield Grown(together([*done, picture]), state, command(steps, *more))
            assert picture is not None
            done.append(picture)
        return
    from extras.synthesis.feature_visualization import visualize

    more = ["--method", "fourier", *["--variations", str(count)] * (count > 1)]
    ascent = visualize(
        targets,
        network(),
        layer=layer or None,
        variations=count,
        num_iterations=iterations,
        show_every=4,
        seed=seed,
    )
    for state in paced(state for state in ascent if state is not None):
        score = ", ".join(f"{value:.1f}" for value in state.scores.tolist())
        what = "activation" if layer else "score"
        text = f"{title}: iteration {state.iteration} of {iterations}, {what} {score}"
        steps = state.iteration
        if not layer and steps < iterations:
            # How fine a class picture's details may be depends on the number of iterations that are planned.
            text, steps = f"{text} (the command goes on to {iterations})", iterations
        yield Grown(together([deprocess(image) for image in state.images]), text, command(steps, *more))


def together(pictures: list[Image.Image]) -> Image.Image:
    """Pictures as one: up to two side by side."""
    return pictures[0] if len(pictures) == 1 else tile(pictures, 2, 1e6)


def paced(items: Iterable[T]) -> Iterator[T]:
    """The items, at most one in each PAUSE, and always the first and the last one."""
    shown, waiting = float("-inf"), []
    for item in items:
        waiting = [item]
        if (now := time.monotonic()) - shown >= PAUSE:
            yield item
            shown, waiting = now, []
    yield from waiting


def paint(
    path: str | None,
    name: str,
    style: str,
    size: int,
    strength: float,
    *,
    method: str = "paint",
    model: str = "squeezenet",
    keep_colors: bool = False,
    seconds: float = 30.0,
) -> Iterator[Grown]:
    """A painting while it is painted: picture, losses and time left, and the command that paints it again. size: of the
    longer side in pixels. method: paint (the painter, which ends after `seconds`), or course (the graded loop).
    """
    words = [*_photo_words(path, name, "--content"), "--style", style]
    words += ["--model", model, "--strength", f"{strength:g}"]
    command = shlex.join(["./style_transfer.py", "--method", method, *words])
    fetched = " (the first time, 64 MB of weights are fetched)" if model == "vgg16" else ""
    yield Grown(None, f"loading the network and drawing the style{fetched}", command)
    if method == "course":
        content = open_image(path or name)
        side = max(32, round(size * min(content.size) / max(content.size)))
        cnn = load_features(model, quiet=True)
        command += f" --image-size {side}"
        preset = "V" if model == "vgg16" else "D"
        began = time.monotonic()
        records = live.course_painting(content, style_of(style), cnn, preset, side, strength)
        for step, picture, losses in paced(records):
            left = (live.COURSE_STEPS - step) * (time.monotonic() - began) / max(step, 1)
            values = "".join(f"{key} {value:.0f}, " for key, value in losses.items())
            yield Grown(picture, f"step {step} of {live.COURSE_STEPS}, {values}{left:.0f} s left", command)
        return
    from extras.painter.options import PaintOptions
    from extras.painter.session import PaintSession

    options = PaintOptions(
        size=size, strength=strength, keep_colors=keep_colors, budget=seconds, model=model, quiet=True
    )
    command += f" --size {size}" + " --keep-colors" * keep_colors
    for canvas in paced(PaintSession(options, time.monotonic()).watch(path or name, [style])):
        progress = canvas.progress
        losses = f"style {progress.style:.4f}, content {progress.terms['content']:.4f}"
        text = f"{max(progress.size)} pixels, {losses}, {canvas.seconds_left:.0f} s left"
        yield Grown(canvas.image, text, f"{command} --steps {' '.join(map(str, canvas.steps))}")


def photo_names() -> list[str]:
    """The bundled photos."""
    return list(PHOTOS)


def style_names() -> list[str]:
    """The drawn styles."""
    from helpers.style_images import STYLES

    return list(STYLES)
