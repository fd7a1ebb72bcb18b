"""The data: bundled photos, drawn style images, the course's ImageNet sample, class names."""

import difflib
import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from helpers.errors import CannotError, UsageError
from helpers.image_utils import read_image, square

IMAGENET_VAL = Path("data/imagenet_val_25.npz")
CLASS_NAMES = Path(__file__).with_name("imagenet_classes.txt")


class Photo(NamedTuple):
    """A photo that another package brings: its path inside that package, and its ImageNet class."""

    package: str
    file: str
    label: int


PHOTOS = {
    "chelsea": Photo("skimage", "data/chelsea.png", 282),  # tiger cat
    "coffee": Photo("skimage", "data/coffee.png", 967),  # espresso
    "stereo_motorcycle": Photo("skimage", "data/motorcycle_left.png", 665),  # moped
    "grace_hopper": Photo("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", 652),  # military uniform
    "rocket": Photo("skimage", "data/rocket.jpg", 657),  # missile
    "astronaut": Photo("skimage", "data/astronaut.png", 812),  # space shuttle, behind her
}


def load_photo(name: str) -> Image.Image:
    """A bundled photo by its name in PHOTOS, found without importing the package that brings it."""
    photo = PHOTOS[name]
    spec = importlib.util.find_spec(photo.package)
    if spec is None or spec.origin is None:
        raise CannotError(
            f"the photo {name} comes with {photo.package}: run `pip install -r requirements.txt`"
        )
    return read_image(Path(spec.origin).parent / photo.file)


def open_image(path_or_name: str | os.PathLike, *, style_size: int = 512, seed: int = 0) -> Image.Image:
    """An image file, or the name of a bundled photo or drawn style -> RGB picture. A file is preferred to a name.

    Raises CannotError, with the most similar names, for anything else.
    """
    text = str(path_or_name)
    if Path(text).exists():
        return read_image(text)
    if text in PHOTOS:
        return load_photo(text)
    # Imported here: drawing needs SciPy, most runs do not.
    from helpers import style_images

    if text in style_images.STYLES:
        return style_images.draw_style(text, style_size, seed)
    names = [*PHOTOS, *style_images.STYLES]
    near = difflib.get_close_matches(text, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"bundled images: {', '.join(names)}"
    raise CannotError(f"{text}: no such file, and no bundled image of that name; {hint}")


def image_size(path_or_name: str | os.PathLike, *, style_size: int = 512) -> tuple[int, int]:
    """(width, height) of what `open_image` returns. A style is not drawn for it."""
    if str(path_or_name) not in PHOTOS and not Path(path_or_name).exists():
        from helpers import style_images

        if str(path_or_name) in style_images.STYLES:
            return style_size, style_size
    return open_image(path_or_name).size


def image_name(path_or_name: str) -> str:
    """A short name for titles and output files: the file's stem, or the bundled image's name."""
    return Path(str(path_or_name)).stem


def class_names() -> list[str]:
    """The names of the thousand ImageNet classes, by index (as torchvision spells them)."""
    return CLASS_NAMES.read_text(encoding="utf-8").splitlines()


def read_labels(path: str | os.PathLike) -> list[str]:
    """Class names from a file: one name per line, by index; or a JSON list, or object of indices with names (or with
    lists that end in a name, as in Keras's ImageNet file). Raises CannotError for anything else.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise CannotError(f"--labels {path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CannotError(f"--labels {path} is not a text file in UTF-8: {error}") from error
    if not text.lstrip().startswith(("[", "{")):
        names = [line.strip() for line in text.splitlines()]
        while names and not names[-1]:
            names.pop()
        if names:
            return names
        raise CannotError(f"--labels {path} is empty: give one class name per line")
    try:
        found = json.loads(text)
        entries = [found[str(k)] for k in range(len(found))] if isinstance(found, dict) else found
        return [str(entry[-1] if isinstance(entry, list) else entry) for entry in entries]
    except (ValueError, KeyError, IndexError) as error:
        raise CannotError(
            f"--labels {path} is not one name per line, a JSON list, or a JSON object with the keys 0, 1, 2, ..."
        ) from error


def names_for(count: int, labels: Sequence[str] | None = None) -> Sequence[str]:
    """The names of a network's `count` classes: `labels`, else ImageNet's where there are a thousand, else "class 0"
    and so on. Raises UsageError where there are more or fewer labels than classes.
    """
    if labels is not None and len(labels) != count:
        raise UsageError(f"--labels has {len(labels)} names, but this network has {count} classes")
    return labels or (class_names() if count == 1000 else [f"class {k}" for k in range(count)])


def find_class(query: str | int, names: Sequence[str] | None = None) -> int:
    """A class index from an index or any unambiguous part of a class name; upper and lower case are the same.

    A full name is preferred to whole words in a longer name, and these to a part of a word. Raises UsageError with the
    candidates, or with the most similar names if nothing matches.
    """
    names = class_names() if names is None else names
    text = str(query).strip().lower().replace("_", " ")
    if text.lstrip("-").isdigit():
        index = int(text)
        if 0 <= index < len(names):
            return index
        raise UsageError(f"class {index} does not exist: indices go from 0 to {len(names) - 1}")
    lowered = [name.lower() for name in names]
    for matches in (
        [i for i, name in enumerate(lowered) if name == text],
        [i for i, name in enumerate(lowered) if f" {text} " in f" {name} "],
        [i for i, name in enumerate(lowered) if text and text in name],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            listed = ", ".join(f"{names[i]} ({i})" for i in matches[:8]) + (
                ", ..." if len(matches) > 8 else ""
            )
            raise UsageError(f"class {query!r} is ambiguous: {listed}")
    near = difflib.get_close_matches(text, lowered, n=4, cutoff=0.4)
    similar = ", ".join(f"{names[i]} ({i})" for i in map(lowered.index, near))
    hint = f"did you mean {similar}?" if similar else f"give an index from 0 to {len(names) - 1}"
    raise UsageError(f"no class is called {query!r}: {hint}")


def load_images(num: int | None = None) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """The images to explain: the course's sample if its file exists, else the bundled photos.

    Returns X uint8 (N, 224, 224, 3), y int64 (N,), a short label of each image, and the thousand class names.
    """
    names = class_names()
    if IMAGENET_VAL.exists():
        X, y = _read_imagenet_val(IMAGENET_VAL)
        labels = [names[i] for i in y]
    else:
        X = np.stack([np.asarray(square(load_photo(name))) for name in PHOTOS])
        y = np.array([photo.label for photo in PHOTOS.values()], dtype=np.int64)
        labels = list(PHOTOS)
    if num is not None and not 1 <= num <= len(X):
        raise UsageError(f"{num} images were asked for, but there are {len(X)}")
    return X[:num], y[:num], labels[:num], names


def load_imagenet_val(num: int | None = None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """`load_images` in the published form: X uint8 (N, 224, 224, 3), y, class names."""
    X, y, _, names = load_images(num)
    return X, y, names


def _read_imagenet_val(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        # allow_pickle stays off: the file's pickled label_map could run code, and is not needed.
        with np.load(path, allow_pickle=False) as data:
            X, y = data["X"], data["y"].astype(np.int64)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise CannotError(
            f"{path} is damaged or not the course's file: remove it, or download it again"
        ) from error
    if X.dtype != np.uint8 or X.ndim != 4 or X.shape[1:] != (224, 224, 3) or y.shape != X.shape[:1]:
        raise CannotError(
            f"{path} holds X {X.dtype}{X.shape}, expected uint8 (N, 224, 224, 3) with as many labels y"
        )
    return X, y
