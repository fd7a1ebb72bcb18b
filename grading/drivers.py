"""What the child does: calls a student's functions by their published names on tiny inputs, returns plain
arrays.

Each driver takes the arrays of one case and calls the student's function twice, so that state left over from
the first call shows in the second. Nothing here knows an answer. An exception of the student's code goes on to
the caller.
"""

import importlib
import sys
import types
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from grading.protocol import Arrays


def published(package: str, module: str, name: str) -> object:
    """The student's `name`, from the package as published, or from its own file where another file of the
    package does not import.
    """
    try:
        return getattr(importlib.import_module(package), name)
    except Exception as error:
        path = getattr(sys.modules.get(package), "__path__", None) or [
            f"{folder}/{package}" for folder in sys.path
        ]
        bare = types.ModuleType(package)
        bare.__path__ = list(path)
        sys.modules[package] = bare
        try:
            return getattr(importlib.import_module(f"{package}.{module}"), name)
        except ModuleNotFoundError:
            raise error from None
        finally:
            sys.modules.pop(package, None)


def content(inputs: Arrays) -> Arrays:
    """F, P (1, C, H, W), weights (2,): the loss and its gradient with respect to F, then again with the other
    weight.
    """
    ContentLoss = published("style_modules", "content_loss", "ContentLoss")
    target = torch.from_numpy(inputs["target"])
    loss = ContentLoss()
    first, second = inputs["weights"].tolist()
    return scalar_twice(
        [inputs["features"]],
        lambda current: loss(first, current[0], target),
        lambda current: loss(second, current[0], target),
    )


def gram(inputs: Arrays) -> Arrays:
    """Features (N, C, H, W), probe (N, C, C): the Gram matrices, normalized and plain, and the gradient of
    <probe, G>.
    """
    StyleLoss = published("style_modules", "style_loss", "StyleLoss")
    probe = torch.from_numpy(inputs["probe"])
    leaf = torch.from_numpy(inputs["features"]).requires_grad_()
    features = leaf * 1
    style_loss = StyleLoss()
    normalized = style_loss.gram_matrix(features)
    gradient = torch.zeros_like(leaf)
    if getattr(normalized, "requires_grad", False) and normalized.shape == probe.shape:
        gradient = gradient_of((normalized * probe).sum(), [leaf])[0]
    with note_on_second_call():
        plain = style_loss.gram_matrix(features, normalize=False)
    return {
        "normalized": plain_array(normalized),
        "gradient": plain_array(gradient),
        "plain": plain_array(plain),
    }


def style(inputs: Arrays) -> Arrays:
    """Features feats_0, feats_1, ..., layers, targets target_0, ..., weights: the loss and its gradients, twice."""
    StyleLoss = published("style_modules", "style_loss", "StyleLoss")
    layers = [int(layer) for layer in inputs["layers"]]
    targets = [torch.from_numpy(inputs[f"target_{i}"]) for i in range(len(layers))]
    first, second = inputs["weights"].tolist(), inputs["other_weights"].tolist()
    feats = [inputs[key] for key in sorted(inputs) if key.startswith("feats_")]
    loss = StyleLoss()
    return scalar_twice(
        feats,
        lambda current: loss(current, list(layers), list(targets), list(first)),
        lambda current: loss(current, list(layers), list(targets), list(second)),
    )


def tv(inputs: Arrays) -> Arrays:
    """An image (1, 3, H, W), weights (2,): the loss and its gradient, twice."""
    TotalVariationLoss = published("style_modules", "tv_loss", "TotalVariationLoss")
    loss = TotalVariationLoss()
    first, second = inputs["weights"].tolist()
    return scalar_twice(
        [inputs["image"]],
        lambda current: loss(current[0], first),
        lambda current: loss(current[0], second),
    )


def scalar_twice(
    arrays: Sequence[np.ndarray],
    first: Callable[[list[Tensor]], object],
    second: Callable[[list[Tensor]], object],
) -> Arrays:
    """Value and gradient of a loss, then the value of a second call on the same tensors.

    The tensors handed over are no leaves, as features are not: what cuts the graph there cuts off the picture.
    """
    leaves = [torch.from_numpy(array).requires_grad_() for array in arrays]
    current = [leaf * 1 for leaf in leaves]
    value = first(current)
    gradients = [torch.zeros_like(leaf) for leaf in leaves]
    if getattr(value, "requires_grad", False) and value.numel() == 1:
        gradients = gradient_of(value.sum(), leaves)
    with note_on_second_call():
        again = second(current)
    return {
        "value": plain_array(value),
        "gradient": np.concatenate([plain_array(gradient).ravel() for gradient in gradients]),
        "again": plain_array(again),
    }


def gradient_of(value: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """d value / d leaf, zeros where `value` does not depend on it; the graph stays for a second call."""
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, retain_graph=True)
    return [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, gradients, strict=True)
    ]


class note_on_second_call:  # noqa: N801 - reads as a statement
    """Says in an exception's message that the first call went well."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind, error, _traceback) -> None:
        if isinstance(error, Exception):
            error.add_note("[only on the second call]")


def plain_array(value: object) -> np.ndarray:
    """A tensor, array or number -> a float32 or float64 array. Raises TypeError for anything else."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value if value.dtype in (torch.float32, torch.float64) else value.double()).numpy()
    if not isinstance(value, (np.ndarray, np.generic, int, float)):
        raise TypeError(f"returned {type(value).__name__}, expected a tensor or an array")
    array = np.asarray(value)
    return (
        np.ascontiguousarray(array) if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    )


DRIVERS: dict[str, Callable[[Arrays], Arrays]] = {
    "content": content,
    "gram": gram,
    "style": style,
    "tv": tv,
}
