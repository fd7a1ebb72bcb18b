"""Random inputs for the cases: small, and chosen so that every known mistake changes the answer.

One, two, three and five images of different height and width, classes that the network does not predict, weights
that are not 1, a channel with a large negative gradient: in easier cases a wrong answer can equal the right one by
chance. What is varied, and what is not and why, is a table in docs/instructor.md.
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


def explanation(
    rng: Generator,
    count: int,
    height: int,
    width: int,
    *,
    extreme: bool = False,
    repeated: bool = False,
    active: bool = False,
) -> Arrays:
    """Images and two sets of classes for saliency, Grad-CAM and guided backpropagation. `extreme`: all evidence is
    against the class of the first image and for the class of the second. `repeated`: a class occurs twice, and the
    classes are out of order. `active`: the first image has its class everywhere, in front of the last ReLU.
    """
    while True:
        y = rng.integers(0, CLASSES, count) if repeated else rng.permutation(CLASSES)[:count]
        if repeated and (len({*y}) in (1, count) or (np.diff(y) >= 0).all()):
            continue
        inputs: Arrays = {
            "X": rng.normal(0, 1, (count, 3, height, width)).astype(np.float32),
            "y": y.astype(np.float64),
            "y_again": ((y + rng.integers(1, CLASSES)) % CLASSES).astype(np.float64),
            "weights": skeleton_weights(rng),
            "frozen": np.array([rng.integers(0, 2)], dtype=np.float64),
        }
        predicted = calibrate(inputs, rng, extreme=extreme, active=active)
        if (predicted != y).all():
            return inputs


def skeleton_weights(rng: Generator) -> np.ndarray:
    """One long float32 vector; `calibrate` sets the classifier's part of it."""
    parts = []
    for outputs, channels, side in SKELETON:
        fan = channels * side * side
        parts += [rng.normal(0.15, 1, outputs * fan) * np.sqrt(2 / fan), rng.uniform(0, 0.3, outputs)]
    return np.concatenate(parts).astype(np.float32)


def calibrate(inputs: Arrays, rng: Generator, *, extreme: bool, active: bool) -> np.ndarray:
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
    if active:
        # Elsewhere the largest gradient of a channel is its mean without the negative ones: the ReLU stops some
        # positions. Weak, so that the class is not the predicted one.
        first = int(inputs["y"][0])
        kernel[first] *= 0.3
        evidence[:, first] *= 0.3
        bias[first] = 0.1 * evidence[0, first].std() - evidence[0, first].min()
    inputs["weights"][-CLASSES * (channels + 1) :] = np.concatenate([kernel.ravel(), bias])
    return (evidence + bias[:, None]).clip(0).mean(axis=2).argmax(axis=1)


def ascent(rng: Generator, dtype: type = np.float64, *, max_jitter: int = 0, l2: float = 1e-4) -> Arrays:
    """A classifier of patches, and settings. With `l2` = 1e-4 score and regularizer have similar gradients."""
    weights = [
        rng.normal(0, 0.1, 6 * 3 * 64),
        rng.uniform(0, 0.5, 6),
        rng.normal(0, 1, CLASSES * 6),
        rng.normal(0, 1, CLASSES),
    ]
    classes = rng.permutation(CLASSES)[:2]
    l2_reg = rng.uniform(0.3, 1) * l2
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


def style(rng: Generator, dtype: type, count: int, *, alike: bool) -> Arrays:
    """Five layers of a network, `count` of them compared. `alike`: all have the same number of channels, and the layers
    are among the first `count`, one of them twice, so that each wrong index gives its own wrong number instead of an
    error.
    """
    channels = [3] * 5 if alike else rng.permutation([2, 3, 4, 5, 6]).tolist()
    layers = rng.permutation([0, 1, 3, 4] if count < 4 else 5)[:count]
    while alike and (len({*layers}) == count or layers[0] in (0, layers[-1]) or layers[-1] == count - 1):
        layers = rng.integers(0, count, count)
    if count == 1:
        layers = rng.integers(1, 5, 1)
    elif not alike and rng.integers(0, 2):
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
        "weights": _weights(rng, count),
        "other_weights": _weights(rng, count),
    }


def tv(rng: Generator, dtype: type) -> Arrays:
    shape = (1, 3, *rng.permutation([4, 5, 6, 7])[:2])
    return {"image": rng.normal(0, 1, shape).astype(dtype), "weights": _weights(rng, 2)}


# Content layer and style layers of a network with five children. The content layer is never the deepest.
LAYERS = {
    2: ((3, (2, 4)), (1, (4, 2)), (2, (0, 3)), (0, (1, 2))),
    4: ((3, (1, 2, 4, 0)), (1, (0, 2, 3, 4)), (2, (4, 1, 3, 1)), (1, (2, 4, 2, 3))),
}


def update_rule(
    rng: Generator, count: int, dtype: type = np.float64, *, weighted: tuple[bool, bool, bool] = (True,) * 3
) -> Arrays:
    """`count` style layers. `weighted`: whether the weights of content, style and total variation are other than 0."""
    content_layer, style_layers = LAYERS[count][rng.integers(0, len(LAYERS[count]))]
    sizes = [3 * 4 * 9, 4, 4 * 4 * 9, 4]
    content, style, variation = weighted
    style_weights = rng.uniform([2.0, 0.4, 1.2, 0.9], [3.0, 0.8, 1.6, 1.1])[:count]
    return {
        "content": rng.integers(0, 256, rng.permutation([5, 7]).tolist() + [3]).astype(np.float32),
        "style": rng.integers(0, 256, rng.permutation([5, 6]).tolist() + [3]).astype(np.float32),
        "weights": rng.normal(0, 0.35, sum(sizes)).astype(dtype),
        "layers": np.array([content_layer, *style_layers], np.float64),
        "loss_weights": _single(rng.uniform([1.5, 0.3], [2.5, 0.6]) * [content, variation]),
        "style_weights": _single(style_weights * style),
    }


def _weights(rng: Generator, count: int) -> np.ndarray:
    """Weights on both sides of 1, all different, so that a missing or exchanged weight changes the answer."""
    return _single((np.cumsum(rng.uniform(1.3, 2.0, count)) - 1)[rng.permutation(count)])


def _single(numbers: ArrayLike) -> np.ndarray:
    """Numbers that are exact in single precision: torch.tensor(weight) is not a mistake."""
    return np.asarray(numbers, np.float32).astype(np.float64)


# operation -> kind -> inputs
INPUTS: dict[str, dict[str, Callable[[Generator], Arrays]]] = {
    "saliency": {
        "two images": lambda rng: explanation(rng, 2, 11, 15),
        "one image": lambda rng: explanation(rng, 1, 12, 9),
        "three images, a class twice": lambda rng: explanation(rng, 3, 10, 8, repeated=True),
        "five images": lambda rng: explanation(rng, 5, 8, 9),
    },
    "grad_cam": {
        "two images": lambda rng: explanation(rng, 2, 13, 18, active=True),
        "one image": lambda rng: explanation(rng, 1, 17, 12),
        "square images": lambda rng: explanation(rng, 2, 15, 15),
        "no evidence in one": lambda rng: explanation(rng, 2, 12, 15, extreme=True),
        "three images, a class twice": lambda rng: explanation(rng, 3, 14, 11, repeated=True),
        "five images, a class twice": lambda rng: explanation(rng, 5, 9, 13, repeated=True),
    },
    "guided_backprop": {
        "two images": lambda rng: explanation(rng, 2, 11, 14),
        "one image": lambda rng: explanation(rng, 1, 12, 9),
        "three images, a class twice": lambda rng: explanation(rng, 3, 10, 8, repeated=True),
        "five images": lambda rng: explanation(rng, 5, 8, 9),
    },
    "class_visualization": {
        "double precision": lambda rng: ascent(rng),
        "strong regularizer": lambda rng: ascent(rng, l2=2e-2),
        "single precision, shifted": lambda rng: ascent(rng, np.float32, max_jitter=16),
        # Without a regularizer: what is right except for it earns these points.
        "no regularizer": lambda rng: ascent(rng, l2=0),
        "no regularizer, single precision": lambda rng: ascent(rng, np.float32, max_jitter=7, l2=0),
    },
    "content": {
        "single precision": lambda rng: content(rng, np.float32),
        "double precision": lambda rng: content(rng, np.float64),
    },
    "gram": {
        "two images": lambda rng: gram(rng, np.float32, 2),
        "one image": lambda rng: gram(rng, np.float64, 1),
        "one image, single precision": lambda rng: gram(rng, np.float32, 1),
        "three images": lambda rng: gram(rng, np.float64, 3),
        "five images": lambda rng: gram(rng, np.float32, 5),
    },
    "style": {
        "three layers alike": lambda rng: style(rng, np.float64, 3, alike=True),
        "three layers": lambda rng: style(rng, np.float32, 3, alike=False),
        "one layer": lambda rng: style(rng, np.float64, 1, alike=False),
        "two layers": lambda rng: style(rng, np.float32, 2, alike=False),
        "four layers": lambda rng: style(rng, np.float32, 4, alike=True),
        "five layers": lambda rng: style(rng, np.float64, 5, alike=False),
    },
    "tv": {
        "single precision": lambda rng: tv(rng, np.float32),
        "double precision": lambda rng: tv(rng, np.float64),
    },
    "update_rule": {
        "two style layers": lambda rng: update_rule(rng, 2),
        "four style layers": lambda rng: update_rule(rng, 4),
        # Where only some of the losses count, a mistake in another one costs nothing.
        "total variation alone": lambda rng: update_rule(rng, 2, weighted=(False, False, True)),
        "no total variation, single precision": lambda rng: update_rule(
            rng, 4, np.float32, weighted=(True, True, False)
        ),
    },
}
