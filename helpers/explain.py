"""What the two map-drawing runners have in common: which images, which classes, what the network says of
them.
"""

import argparse
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from helpers.data_utils import find_class, image_name, load_images, open_image
from helpers.errors import UsageError
from helpers.image_utils import preprocess, square


class Explained(NamedTuple):
    """A batch to explain: photos uint8 (N, H, W, 3), X normalized (N, 3, H, W), y the classes to explain (N,).

    sources: the photos by path or name, for the recipe; titles, subtitles: what to write above each.
    """

    photos: list[np.ndarray]
    X: Tensor
    y: Tensor
    sources: dict[str, np.ndarray]
    titles: list[str]
    subtitles: list[str]


def explained_images(args: argparse.Namespace, model: nn.Module, names: list[str]) -> Explained:
    """Opens the images, asks the network about them, and settles which class of each is to be explained."""
    if not 32 <= args.size <= 2048:
        raise UsageError(f"--size {args.size} must be from 32 to 2048")
    if args.images:
        photos = [np.asarray(square(open_image(text), args.size)) for text in args.images]
        labels = [image_name(text) for text in args.images]
    else:
        X, _, labels, _ = load_images()
        photos, labels = list(X[:5]), labels[:5]
        if args.size != X.shape[1]:
            raise UsageError("--size goes with --images")
    # Two photos of the course's sample may share a label, so the recipe knows them by their place too.
    keys = args.images or [f"{place} {label}" for place, label in enumerate(labels)]
    sources = dict(zip(keys, photos, strict=True))
    asked = [find_class(text, names) for text in args.classes or []]
    if len(photos) == 1 and len(asked) > 1:  # one photo, asked about several classes
        photos, labels = photos * len(asked), labels * len(asked)
    if len(asked) not in (0, 1, len(photos)):
        raise UsageError(f"{len(asked)} classes for {len(photos)} images: give one for all, or one for each")
    device = next(model.parameters()).device
    batch = torch.cat([preprocess(photo, photo.shape[:2]) for photo in photos]).to(device)
    with torch.no_grad():
        probabilities = model(batch).softmax(dim=1)
    predicted = probabilities.argmax(dim=1)
    y = torch.tensor(asked * len(photos) if len(asked) == 1 else asked, device=device) if asked else predicted
    titles, subtitles = [], []
    for row, k, best, label in zip(probabilities, y.tolist(), predicted.tolist(), labels, strict=True):
        titles.append(f"{names[k]} ({row[k]:.2f})")
        subtitles.append(label if k == best else f"{label}; predicted: {names[best]} ({row[best]:.2f})")
    return Explained(photos, batch, y, sources, titles, subtitles)
