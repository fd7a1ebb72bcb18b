"""The scores that are asked for and no others: a classifier's last layer computes a thousand, an explanation needs one.

In SqueezeNet that layer is a quarter of the network's work, forward and backward; for Grad-CAM, which
differentiates nothing below it, it is two fifths of everything.
"""

import weakref

import torch
from torch import Tensor, nn
from torch.func import functional_call

FEWEST = 64  # classes: with fewer there is nothing to gain

# Of each network that was tried, the modules that it had then, and whether a few rows gave a few of the scores.
_tried: weakref.WeakKeyDictionary[nn.Module, tuple[list[int], bool]] = weakref.WeakKeyDictionary()


def classifier_of(model: nn.Module, X: Tensor) -> str | None:
    """The name of the layer whose rows can be computed one by one: the last linear or convolutional one, where all
    that follows treats each class by itself. None where that is not so (a softmax, say), or not worth it.

    It is found out by trying: once for a network, on the first image of X (N, 3, H, W), the network with all of its
    rows and with three of them must give the same three scores. The three are those that follow the highest: without
    the winner, no normalization over classes can look alike.
    """
    layers = [
        (name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
    # In training a forward pass may leave traces (batch normalization) and chance in the scores (dropout).
    if model.training or not layers:
        return None
    name, layer = layers[-1]
    if not _has_rows(layer) or len(layer.weight) < FEWEST or len(X) == 0:
        return None
    modules = [id(module) for module in model.modules()]
    if model not in _tried or _tried[model][0] != modules:
        _tried[model] = modules, _rows_suffice(model, name, X[:1])
    return name if _tried[model][1] else None


def scores_of(model: nn.Module, name: str, X: Tensor, classes: Tensor) -> Tensor:
    """The raw scores of `classes` (K,) alone: X (N, 3, H, W) -> (N, K). `name` is what `classifier_of` found."""
    layer = model.get_submodule(name)
    rows = {key: parameter[classes] for key, parameter in layer.named_parameters(recurse=False)}
    return functional_call(model, {f"{name}.{key}".lstrip("."): row for key, row in rows.items()}, (X,))


def _has_rows(layer: nn.Module) -> bool:
    """Is it made of a row a class and nothing else? Weights that are computed (weight_norm, pruning) or that come with
    others (adapters) are left alone.
    """
    own = dict(layer.named_parameters())
    return own.keys() in ({"weight"}, {"weight", "bias"}) and getattr(layer, "groups", 1) == 1


def _rows_suffice(model: nn.Module, name: str, image: Tensor) -> bool:
    count = len(model.get_submodule(name).get_parameter("weight"))
    with torch.no_grad():
        scores = model(image.clone())
        if scores.shape != (1, count):
            return False
        classes = scores[0].topk(4).indices[1:]
        try:
            some = scores_of(model, name, image.clone(), classes)
        except Exception:  # what follows counts on every class being there; it may say so in any way
            return False
    if some.shape != (1, len(classes)):
        return False
    tolerance = 1e-4 * float(scores[:, classes].abs().max())
    return bool(torch.allclose(some, scores[:, classes], rtol=0, atol=tolerance))
