"""The handout's three "Test ... loss" checks: the losses on the packaged SqueezeNet against stored answers.

The answers come from a float64 computation in NumPy that shares no code with this package (tests/numpy_reference.py).
No loss and no Gram matrix is computed here: both come from the student's files.
"""

import copy
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from helpers.data_utils import load_photo
from helpers.image_utils import preprocess

ANSWERS = Path(__file__).with_name("loss_answers.json")
# Correct losses have errors below 5e-6, because the network's weights are rounded to single precision; those of wrong
# ones are far larger than this.
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
    """The errors of the three losses; `cnn` is the packaged SqueezeNet's `features`, on the CPU.

    All is computed in double precision. In single precision a unit next to 0 can be on one side of its ReLU on one
    processor and on the other side on another, which changes the gradient by more than TOLERANCE.
    """
    cnn = copy.deepcopy(cnn).double()
    answers = json.loads(ANSWERS.read_text(encoding="utf-8"))
    image = preprocess(load_photo(answers["content_image"]), answers["content_size"]).double()
    # No two neighbours are equal then: which of them a pooling passes its gradient to would depend on rounding.
    image += 0.01 * torch.arange(image.numel(), dtype=torch.float64).cos().view_as(image)
    painting = preprocess(load_photo(answers["style_image"]), answers["style_size"]).double()
    content_layer, style_layers = answers["content_layer"], answers["style_layers"]
    weights, stored = answers["style_weights"], answers["losses"]

    def features(x: Tensor) -> list[Tensor]:
        outputs = []
        for child in cnn[: max(style_layers) + 1]:
            x = child(x.clone())  # in-place ReLUs must not change the output before them
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

    style = stored["style"]
    each = [errors["style"].value]
    with torch.no_grad():
        feats = features(image)
    for n, (layer, target) in enumerate(zip(style_layers, targets, strict=True)):
        # The later style layers are too small to show in the sum, so each layer is also compared by itself.
        value = float(style_loss(feats, [layer], [target], [weights[n]]))
        each.append(abs(value / style["layer_values"][n] - 1))
        # The targets come from the gram_matrix under test, so a mistake in it could cancel. They are compared, too.
        channels = painted[layer].shape[1]
        directions, norm = style["target_directions"][n], style["target_norms"][n]
        right_shape = target.shape == (1, channels, channels)
        each.append(_relative_error(target, directions, norm) if right_shape else math.inf)
    errors["style"] = errors["style"]._replace(value=_worst(*each))
    return errors


def _errors(loss: Callable[[Tensor], Tensor], image: Tensor, stored: dict, stride: int) -> LossErrors:
    x = image.clone().requires_grad_()
    loss_value = loss(x)
    value = abs(loss_value.item() / stored["value"] - 1)
    if not loss_value.requires_grad:  # detached from the picture: the optimizer would ignore it
        return LossErrors(value, math.inf)
    (g,) = torch.autograd.grad(loss_value, x)
    g = g.double()
    sample = torch.tensor(stored["gradient_sample"], dtype=torch.float64)
    # The sample compares a few pixels exactly, the products with cos(k n) and the norm depend on all of them.
    gradient = _worst(
        float((g[0, :, ::stride, ::stride] - sample).norm() / sample.norm()),
        _relative_error(g, stored["gradient_directions"], stored["gradient_norm"]),
    )
    return LossErrors(value, gradient)


def _relative_error(x: Tensor, directions: Sequence[float], norm: float) -> float:
    """The error of x in its norm and in its products with cos(k n), k = 1, 2, ..., relative to the stored norm."""
    x = x.double().flatten()
    n = torch.arange(len(x), dtype=torch.float64)
    products = [float(torch.cos(k * n) @ x) for k in range(1, len(directions) + 1)]
    errors = [abs(found - stored) / norm for found, stored in zip(products, directions, strict=True)]
    return _worst(*errors, abs(float(x.norm()) / norm - 1))


def _worst(*values: float) -> float:
    # Python's max can drop a NaN.
    return float(torch.tensor(values, dtype=torch.float64).max())
