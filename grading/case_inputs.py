"""Random inputs for the cases: small, and chosen so that every known mistake changes the answer.

Two images of different height and width, classes that the network does not predict, weights that are not 1, a
channel with a large negative gradient: in easier cases a wrong answer can equal the right one by chance.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike

from grading.drivers import tiny_squeezenet
from grading.protocol import Arrays

Generator = np.random.Generator
CLASSES = 5
# Parameters of grading.drivers.tiny_squeezenet: layer by layer (outputs, inputs, kernel side).
SKELETON = [(6, 3, 3), *[(3, 6, 1), (3, 3, 1), (3, 3, 3)] * 8, (CLASSES, 6, 1)]


def explanation(rng: Generator, count: int, height: int, width: int, *, extreme: bool = False) -> Arrays:
    """Images and two sets of classes for saliency, Grad-CAM and guided backpropagation. `extreme`: all evidence is
    against the class of the first image and for the class of the second.
    """
    while True:
        y = rng.permutation(CLASSES)[:count]
        inputs: Arrays = {
            "X": rng.normal(0, 1, (count, 3, height, width)).astype(np.float32),
            "y": y.astype(np.float64),
            "y_again": ((y + rng.integers(1, CLASSES)) % CLASSES).astype(np.float64),
            "weights": skeleton_weights(rng),
            "frozen": np.array([rng.integers(0, 2)], dtype=np.float64),
        }
        predicted = calibrate(inputs, rng, extreme=extreme)
        if (predicted != y).all():
            return inputs


def skeleton_weights(rng: Generator) -> np.ndarray:
    """One long float32 vector; `calibrate` sets the classifier's part of it."""
    parts = []
    for outputs, channels, side in SKELETON:
        fan = channels * side * side
        parts += [rng.normal(0.15, 1, outputs * fan) * np.sqrt(2 / fan), rng.uniform(0, 0.3, outputs)]
    return np.concatenate(parts).astype(np.float32)


def calibrate(inputs: Arrays, rng: Generator, *, extreme: bool) -> np.ndarray:
    """Sets the classifier's weights in place, so that its outputs are of size 1; returns the classes that it predicts.

    For each class, one channel is stronger evidence against it than any other is for it; and at some positions with
    evidence for the class, the ReLU behind the classifier sets the output to zero.
    """
    model = tiny_squeezenet(inputs)
    with torch.no_grad():
        A = model.get_submodule("features")(torch.from_numpy(inputs["X"])).numpy()
    channels = A.shape[1]
    kernel = rng.normal(0.5, 0.7, (CLASSES, channels))
    kernel[np.arange(CLASSES), rng.integers(0, channels, CLASSES)] = -2
    if extreme:
        kernel[int(inputs["y"][0])] = -np.abs(kernel[int(inputs["y"][0])])
        kernel[int(inputs["y"][1])] = np.abs(kernel[int(inputs["y"][1])])
    kernel /= max(A.std(), 1e-3)
    evidence = np.einsum("kc,nchw->nkhw", kernel, A).reshape(len(A), CLASSES, -1)
    bias = -np.quantile(evidence, rng.uniform(0.2, 0.5), axis=2).min(axis=0)
    inputs["weights"][-CLASSES * (channels + 1) :] = np.concatenate([kernel.ravel(), bias])
    return (evidence + bias[:, None]).clip(0).mean(axis=2).argmax(axis=1)


def ascent(rng: Generator, dtype: type = np.float64, *, max_jitter: int = 0, strong: bool = False) -> Arrays:
    """A classifier of patches, and settings with which score and regularizer have similar gradients."""
    weights = [
        rng.normal(0, 0.1, 6 * 3 * 64),
        rng.uniform(0, 0.5, 6),
        rng.normal(0, 1, CLASSES * 6),
        rng.normal(0, 1, CLASSES),
    ]
    classes = rng.permutation(CLASSES)[:2]
    l2_reg = rng.uniform(0.3, 1) * (2e-2 if strong else 1e-4)
    settings: list[float] = [l2_reg, rng.uniform(60, 120), 3, max_jitter, int(rng.integers(0, 2**31))]
    return {
        "weights": np.concatenate(weights).astype(dtype),
        "settings": np.array([*_single(settings[:2]), *settings[2:]], dtype=np.float64),
        "classes": classes.astype(np.float64),
    }


def content(rng: Generator, dtype: type) -> Arrays:
    shape = (1, *rng.integers(3, 6, 1), *rng.permutation([4, 5, 6])[:2])
    return {
        "features": rng.normal(0.3, 1, shape).astype(dtype),
        "target": rng.normal(0, 1, shape).astype(dtype),
        "weights": _weights(rng, 2),
    }


def gram(rng: Generator, dtype: type, count: int) -> Arrays:
    channels = int(rng.integers(3, 6))
    shape = (count, channels, *rng.permutation([3, 4, 5])[:2])
    return {
        "features": rng.normal(0.5, 1, shape).astype(dtype),
        "probe": rng.normal(0, 1, (count, channels, channels)).astype(dtype),
    }


def style(rng: Generator, dtype: type, *, alike: bool) -> Arrays:
    """Five layers, three of them compared. `alike`: all have the same number of channels, and the layers are among the
    first three, one of them twice, so that each wrong index gives its own wrong number instead of an error.
    """
    channels = [3] * 5 if alike else rng.permutation([2, 3, 4, 5, 6]).tolist()
    twice = [[1, 2, 1], [2, 0, 0], [2, 2, 1], [1, 0, 0]]
    layers = rng.permutation(twice)[0] if alike else rng.permutation([0, 1, 3, 4])[:3]
    if not alike and rng.integers(0, 2):
        layers = np.sort(layers)
    arrays: Arrays = {
        f"feats_{i}": rng.normal(0.5, 1, (1, c, *rng.integers(3, 6, 2))).astype(dtype)
        for i, c in enumerate(channels)
    }
    for i, layer in enumerate(layers):
        c = channels[layer]
        other = rng.normal(0.5, 1, (1, c, 12))
        arrays[f"target_{i}"] = (other @ other.transpose(0, 2, 1) / (c * 12)).astype(dtype)
    return {
        **arrays,
        "layers": layers.astype(np.float64),
        "weights": _weights(rng, 3),
        "other_weights": _weights(rng, 3),
    }


def tv(rng: Generator, dtype: type) -> Arrays:
    shape = (1, 3, *rng.permutation([4, 5, 6, 7])[:2])
    return {"image": rng.normal(0, 1, shape).astype(dtype), "weights": _weights(rng, 2)}


def update_rule(rng: Generator) -> Arrays:
    sizes = [3 * 4 * 9, 4, 4 * 4 * 9, 4]
    return {
        "content": rng.integers(0, 256, (5, 7, 3)).astype(np.float32),
        "style": rng.integers(0, 256, (6, 5, 3)).astype(np.float32),
        "weights": rng.normal(0, 0.35, sum(sizes)),
        "loss_weights": _single(rng.uniform([1.5, 0.3], [2.5, 0.6])),
        "style_weights": _single(rng.uniform([2.0, 0.4], [3.0, 0.8])),
    }


def _weights(rng: Generator, count: int) -> np.ndarray:
    """Weights between 1.3 and 6, all different, so that a missing or exchanged weight changes the answer."""
    return _single(np.cumsum(rng.uniform(1.3, 2.0, count))[rng.permutation(count)])


def _single(numbers: ArrayLike) -> np.ndarray:
    """Numbers that are exact in single precision: torch.tensor(weight) is not a mistake."""
    return np.asarray(numbers, np.float32).astype(np.float64)


# operation -> kind -> inputs
INPUTS: dict[str, dict[str, Callable[[Generator], Arrays]]] = {
    "saliency": {
        "two images": lambda rng: explanation(rng, 2, 11, 15),
        "one image": lambda rng: explanation(rng, 1, 12, 9),
        "five images": lambda rng: explanation(rng, 5, 8, 9),
    },
    "grad_cam": {
        "two images": lambda rng: explanation(rng, 2, 13, 18),
        "one image": lambda rng: explanation(rng, 1, 17, 12),
        "square images": lambda rng: explanation(rng, 2, 15, 15),
        "no evidence in one": lambda rng: explanation(rng, 2, 12, 15, extreme=True),
    },
    "guided_backprop": {"two images": lambda rng: explanation(rng, 2, 11, 14)},
    "class_visualization": {
        "double precision": lambda rng: ascent(rng),
        "strong regularizer": lambda rng: ascent(rng, strong=True),
        "single precision, shifted": lambda rng: ascent(rng, np.float32, max_jitter=16),
    },
    "content": {
        "single precision": lambda rng: content(rng, np.float32),
        "double precision": lambda rng: content(rng, np.float64),
    },
    "gram": {
        "two images": lambda rng: gram(rng, np.float32, 2),
        "one image": lambda rng: gram(rng, np.float64, 1),
    },
    "style": {
        "layers alike": lambda rng: style(rng, np.float64, alike=True),
        "layers unlike": lambda rng: style(rng, np.float32, alike=False),
    },
    "tv": {
        "single precision": lambda rng: tv(rng, np.float32),
        "double precision": lambda rng: tv(rng, np.float64),
    },
    "update_rule": {"200 steps": update_rule},
}
