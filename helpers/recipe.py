"""Every picture carries its recipe, and can be made again from it.

A picture that a runner writes holds what made it: program, arguments, the hashes of weights and input images,
versions. In a PNG that is text under the key "recipe"; a JPEG, a WebP and a TIFF have it in their Exif data, as
JSON in the image's description. `--replay FILE` reads it, checks that weights and images are still the same, and
runs it again.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.errors import CannotError

if TYPE_CHECKING:
    from torch import nn

KEY = "recipe"
EXIF_TAG = 0x010E  # ImageDescription: what all three formats keep
# What changes where and how a picture is written, but not the picture.
NOT_THE_PICTURE = {"output", "quiet", "debug", "replay", "animate", "plot", "recorded", "program"}
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pillow", "matplotlib")


def make_recipe(
    arguments: Mapping[str, Any], model: "nn.Module", images: Mapping[str, object]
) -> dict[str, str]:
    """The text to write into the picture, for the `metadata` of `save_grid` and `save_image`.

    arguments: of the runner, by name, as `cli.run` parsed them. model: its weights are hashed. images: the pictures
    that went in, by path or name. In a replay, raises CannotError where weights or an image are no longer those of
    the recorded recipe; of other versions of packages it only warns.
    """
    from helpers.weights import fingerprint

    recipe = {
        "program": arguments["program"],
        "arguments": {key: value for key, value in sorted(arguments.items()) if key not in NOT_THE_PICTURE},
        "weights": fingerprint(model),
        "images": {name: _pixel_hash(image) for name, image in images.items()},
        "versions": {package: metadata.version(package) for package in PACKAGES},
    }
    if recorded := arguments["recorded"]:
        _compare(recipe, recorded)
    return {KEY: json.dumps(recipe, sort_keys=True)}


def read_recipe(path: Path) -> dict:
    """The recipe in a picture. Raises CannotError where the picture cannot be read, and where there is none."""
    from helpers.image_utils import open_untrusted

    try:
        image = open_untrusted(path, formats=("PNG", "JPEG", "WEBP", "TIFF"))
    except CannotError as error:
        raise CannotError(f"--replay {error}") from error
    try:
        texts = getattr(image, "text", None) or json.loads(image.getexif().get(EXIF_TAG, ""))
        recipe = json.loads(texts[KEY])
        mappings = {key: dict(recipe[key]) for key in ("arguments", "images", "versions")}
        return {"program": str(recipe["program"]), "weights": str(recipe["weights"]), **mappings}
    except Exception as error:  # damaged Exif data raise whatever they like
        raise CannotError(
            f"--replay {path}: carries no recipe; give a picture that one of the four scripts wrote"
        ) from error


def replayed(args: argparse.Namespace, parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments recorded in `args.replay`; where and how to write stays as `args` says, whatever the recipe says:
    it may come from anybody. Raises CannotError for a recorded value that the command line would not take.
    """
    recipe = read_recipe(Path(args.replay))
    if recipe["program"] != args.program:
        raise CannotError(f"--replay {args.replay}: was made by {recipe['program']}; run that")
    network = str(recipe["arguments"].get("model"))
    if ".py:" in network and args.model != network:
        raise CannotError(
            f"--replay {args.replay}: was made with the code {network}; if you trust that file, add --model {network}"
        )
    known = {action.dest: action for action in parser._actions}
    recorded = {
        key: value
        for key, value in recipe["arguments"].items()
        if key in known and key not in NOT_THE_PICTURE
    }
    for key, value in recorded.items():
        if not _fits(value, known[key]):
            shown = repr(value)[:60]
            raise CannotError(f"--replay {args.replay}: its recipe has a wrong value for {key}: {shown}")
    # An option of an older version matters only where it was used.
    gone = {
        key for key, value in recipe["arguments"].items() if key not in known and value not in (None, False)
    }
    if gone:
        options = ", ".join(f"--{key.replace('_', '-')}" for key in sorted(gone))
        raise CannotError(
            f"--replay {args.replay}: was made with {options}, which this version does not have"
        )
    return argparse.Namespace(**(vars(args) | recorded | {"recorded": recipe}))


def _fits(value: object, action: argparse.Action) -> bool:
    """Whether a value of a recipe could come from the command line."""
    if value is None or value == action.default:
        return True
    if action.nargs == 0:
        return isinstance(value, bool)
    if action.nargs in ("+", "*"):
        return isinstance(value, list) and all(_is_argument(item, action) for item in value)
    return _is_argument(value, action)


def _is_argument(value: object, action: argparse.Action) -> bool:
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts):
        return False
    text = ",".join(map(str, parts))  # the parts of one argument, like --crop's, are separated by commas
    try:
        read = action.type(text) if callable(action.type) else text
    except (argparse.ArgumentTypeError, TypeError, ValueError):
        return False
    read = list(read) if isinstance(read, tuple) else read
    return read == value and (action.choices is None or value in action.choices)


def _compare(now: dict, then: dict) -> None:
    if now["weights"] != then.get("weights"):
        raise CannotError(
            "the network's weights are no longer those of the recorded picture: give it the same --weights"
        )
    for image, digest in now["images"].items():
        if then.get("images", {}).get(image) != digest:
            raise CannotError(f"{image} is no longer the image that the recorded picture was made from")
    for package, version in now["versions"].items():
        recorded = then.get("versions", {}).get(package)
        if recorded != version:
            print(
                f"note: recorded with {package} {recorded}, now {version}: bytes may differ", file=sys.stderr
            )


def _pixel_hash(image: object) -> str:
    import numpy as np

    pixels = np.asarray(image)
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
