"""The handout's three "Test ... loss" checks: the losses on the packaged SqueezeNet against stored answers.

The answers come from a float64 NumPy computation that shares no code with this package
(tests/numpy_reference.py).
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from helpers.data_utils import load_photo
from helpers.image_utils import preprocess

ANSWERS = Path(__file__).with_name("loss_answers.json")
# Correct losses in single precision come within 6e-7 of the answers; a wrong one is far beyond this.
TOLERANCE = 1e-5


class LossErrors(NamedTuple):
    """Relative errors against the stored answers: |x - x*| / |x*| of the value, ||g - g*|| / ||g*|| of the
    image's gradient.
    """

    value: float
    gradient: float

    @property
    def passed(self) -> bool:
        """Both within TOLERANCE; NaN never is."""
        return self.value <= TOLERANCE and self.gradient <= TOLERANCE


def check_losses(
    content_loss: Callable[..., Tensor],
    style_loss: nn.Module,
    tv_loss: Callable[..., Tensor],
    cnn: nn.Sequential,
) -> dict[str, LossErrors]:
    """The errors of the three losses; `cnn` is the packaged SqueezeNet's `features`, on the CPU, in
    single precision.
    """
    answers = json.loads(ANSWERS.read_text(encoding="utf-8"))
    image = preprocess(load_photo(answers["content_image"]), answers["content_size"])
    painting = preprocess(load_photo(answers["style_image"]), answers["style_size"])
    content_layer, style_layers, weights = (
        answers["content_layer"],
        answers["style_layers"],
        answers["style_weights"],
    )
    stored = answers["losses"]

    def features(x: Tensor) -> list[Tensor]:
        outputs = []
        for child in cnn[: max(style_layers) + 1]:
            x = child(x.clone())  # in-place ReLUs stay off the output before them
            outputs.append(x)
        return outputs

    with torch.no_grad():
        content_target = features(image.flip(3))[content_layer]
        painted = features(painting)
        targets = [style_loss.gram_matrix(painted[i]) for i in style_layers]  # type: ignore[operator]

    losses = {
        "content": lambda x: content_loss(
            answers["content_weight"], features(x)[content_layer], content_target
        ),
        "style": lambda x: style_loss(features(x), style_layers, targets, weights),
        "tv": lambda x: tv_loss(x, answers["tv_weight"]),
    }
    errors = {
        name: _errors(loss, image, stored[name], answers["gradient_stride"]) for name, loss in losses.items()
    }

    # The later style layers are too small to show in the sum, so each is also asked for by itself.
    with torch.no_grad():
        feats = features(image)
        each = [
            abs(float(style_loss(feats, [layer], [target], [weight])) / value - 1)
            for layer, target, weight, value in zip(
                style_layers, targets, weights, stored["style"]["layer_values"], strict=True
            )
        ]
    # A mistake in the Gram matrix of picture and painting alike must not cancel.
    each += [
        _gram_error(target, directions, norm)
        for target, directions, norm in zip(
            targets, stored["style"]["target_directions"], stored["style"]["target_norms"], strict=True
        )
    ]
    errors["style"] = errors["style"]._replace(value=_worst(errors["style"].value, *each))
    return errors


def _errors(loss: Callable[[Tensor], Tensor], image: Tensor, stored: dict, stride: int) -> LossErrors:
    x = image.clone().requires_grad_()
    loss_value = loss(x)
    value = abs(loss_value.item() / stored["value"] - 1)
    if not loss_value.requires_grad:  # cut off from the picture, so the optimizer would ignore it
        return LossErrors(value, float("inf"))
    (g,) = torch.autograd.grad(loss_value, x)
    g = g.double()
    sample = torch.tensor(stored["gradient_sample"], dtype=torch.float64)
    # The sample sees few pixels exactly, the products with cos(k n) all pixels, the norm their size.
    gradient = _worst(
        float((g[0, :, ::stride, ::stride] - sample).norm() / sample.norm()),
        _off(g, stored["gradient_directions"], stored["gradient_norm"]),
    )
    return LossErrors(value, gradient)


def _gram_error(target: Tensor, directions: Sequence[float], norm: float) -> float:
    channels = target.shape[-1]
    if target.shape != (1, channels, channels):
        return float("inf")
    return _off(target, directions, norm)


def _off(x: Tensor, directions: Sequence[float], norm: float) -> float:
    """How far x is off, in its products with cos(k n) for k = 1, 2, ... and in its norm, relative to the norm."""
    x = x.double().flatten()
    n = torch.arange(len(x), dtype=torch.float64)
    products = [float(torch.cos(k * n) @ x) for k in range(1, len(directions) + 1)]
    errors = [abs(found - stored) / norm for found, stored in zip(products, directions, strict=True)]
    return _worst(*errors, abs(float(x.norm()) / norm - 1))


def _worst(*values: float) -> float:
    # Python's max would lose a NaN.
    return float(torch.tensor(values, dtype=torch.float64).max())
