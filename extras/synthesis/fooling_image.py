"""Fooling images (Szegedy et al., 2014, "Intriguing properties of neural networks"): a photo changed so little
that no eye sees it, and the network calls it something else.
"""

import importlib
import importlib.util
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extras.synthesis.feature_visualization import select
from helpers.errors import CannotError
from helpers.image_utils import mean_and_std
from visualizers.mechanisms import frozen_eval


def make_fooling_image(
    X: Tensor,
    target_y: int,
    model: nn.Module,
    *,
    learning_rate: float = 1.0,
    max_iterations: int = 100,
    min_margin: float = 0.0,
) -> Tensor:
    """X <- X + learning_rate * g / ||g||_2 until the model predicts `target_y`, where g is the gradient of
    the margin s_y(X) - max over k != y of s_k(X).

    X: one normalized image (1, 3, H, W); it is not changed. Pixels stay within what a picture can hold.
    The margin, not s_y alone: a network that ends in a ReLU, as SqueezeNet does, gives many classes a score of
    exactly 0, with no gradient to follow. With `min_margin` the steps go on until the margin is above it.

    Returns the fooling image (1, 3, H, W), or a copy of X where the model predicts `target_y` already. Raises
    ValueError for another shape, IndexError for a class that the model does not have, RuntimeError where
    `max_iterations` steps were not enough.
    """
    if X.dim() != 4 or len(X) != 1:
        raise ValueError(f"X has shape {tuple(X.shape)}, expected one image (1, 3, H, W)")
    mean, std = mean_and_std(X)
    target = torch.tensor([target_y], device=X.device)
    fooled = X.detach().clone()
    with frozen_eval(model):
        for step in range(max_iterations + 1):
            fooled.requires_grad_()
            scores = model(fooled)
            score = select(scores, target)
            margin = score - scores.scatter(1, target[:, None], -torch.inf).amax(dim=1)
            if margin > min_margin:
                return fooled.detach()
            if step == max_iterations:
                break
            (g,) = torch.autograd.grad(margin.sum(), fooled)
            fooled = fooled.detach() + learning_rate * F.normalize(g.flatten(), dim=0).view_as(g)
            fooled = torch.clamp(fooled, -mean / std, (1 - mean) / std)
    steps = "1 step" if max_iterations == 1 else f"{max_iterations} steps"
    raise RuntimeError(
        f"after {steps} the network still does not predict class {target_y}: allow more steps, longer steps, or a "
        "larger image"
    )


def handed_in() -> Callable[..., Tensor] | None:
    """`FoolingImage().make_fooling_image(X, target_y, model)` of visualizers/fooling_image.py, if this copy has that
    file of the assignment's earlier years. It runs in eval mode, with steps of its own: options are ignored.
    Raises CannotError for an answer that is no picture.
    """
    if importlib.util.find_spec("visualizers.fooling_image") is None:
        return None
    theirs = importlib.import_module("visualizers.fooling_image").FoolingImage()

    def make(X: Tensor, target_y: int, model: nn.Module, **_options: float) -> Tensor:
        with frozen_eval(model):
            fooled = theirs.make_fooling_image(X.clone(), target_y, model)
        if not isinstance(fooled, Tensor) or fooled.shape != X.shape or not fooled.isfinite().all():
            raise CannotError(
                "visualizers/fooling_image.py returned no picture of the size of X: is a gradient divided by its norm "
                "where that is 0? A class with the score 0 has none"
            )
        return fooled.detach()

    return make
