"""Questions with two sides: one class against another, a photo with and without a region, two networks."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from extras.attribution.methods import Method
from helpers.data_utils import find_class
from helpers.errors import UsageError
from helpers.figures import Cell, gaussian_blur
from helpers.image_batch import ImageBatch, MapRows, describe_network, map_picture, padded
from helpers.models import load_classifier
from visualizers.mechanisms import frozen_eval, in_batches

COVER_BLUR = 0.05  # width of the blur as a share of the image's shorter side, as in evaluation's insertion


class ScoreDifference(nn.Module):
    """The network whose score for class y is s_y - s_B: every method explains with it why y and not B.

    s_B is one number per image, so probabilities stay as they are: softmax(s - s_B) = softmax(s). Its children are
    those of `model`, under the same names, so layers are found as before. Raises IndexError for a class B that `model`
    does not have (in the forward pass).
    """

    def __init__(self, model: nn.Module, versus: int) -> None:
        super().__init__()
        for name, child in model.named_children():
            self.add_module(name, child)
        for name, parameter in model.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in model.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        # In a list, so that it is not a child itself; a deep copy of this module copies it, too.
        self.whole, self.versus = [model], versus
        self.training = model.training

    def forward(self, X: Tensor) -> Tensor:
        scores = self.whole[0](X)
        if not 0 <= self.versus < scores.shape[1]:
            raise IndexError(f"class {self.versus} does not exist: there are 0 to {scores.shape[1] - 1}")
        return scores - scores[:, self.versus : self.versus + 1]


def covered(X: Tensor, mask: np.ndarray | Tensor, how: str = "grey") -> Tensor:
    """X (N, 3, H, W), normalized, with the pixels of `mask` (H, W), or (N, H, W), replaced: by ImageNet's mean colour
    ("grey", 0 in these units), or by the photo strongly blurred ("blur").

    Raises ValueError for a mask of another size and for another `how`.
    """
    mask = torch.as_tensor(mask, device=X.device).bool()
    if mask.shape[-2:] != X.shape[-2:]:
        raise ValueError(f"a mask of {tuple(mask.shape[-2:])} for images of {tuple(X.shape[-2:])}")
    if how == "grey":
        below = torch.zeros_like(X)
    elif how == "blur":
        sigma = COVER_BLUR * min(X.shape[-2:])
        channels = X.detach().cpu().flatten(0, 1).numpy()
        blurred = np.stack([gaussian_blur(channel, sigma) for channel in channels])
        below = torch.from_numpy(blurred).reshape(X.shape).to(X)
    else:
        raise ValueError(f"a region is covered by grey or blur, not by {how!r}")
    return torch.where(mask.expand(len(X), *mask.shape[-2:])[:, None], below, X)


def occluded_scores(X: Tensor, mask: np.ndarray | Tensor, model: nn.Module, how: str = "grey") -> Tensor:
    """The raw scores of all classes when the region `mask` is covered, see `covered`: (N, K)."""
    with frozen_eval(model), torch.no_grad():
        y = torch.zeros(len(X), dtype=torch.long, device=X.device)
        return in_batches(lambda x, _: model(x.detach()), covered(X, mask, how), y)


def most_important(heat: np.ndarray, share: float) -> np.ndarray:
    """The mask (H, W) of the `share` of the pixels with the highest values of a map (H, W); equal values by their
    place. 0 <= share <= 1.
    """
    count = round(share * heat.size)
    mask = np.zeros(heat.size, bool)
    mask[np.argsort(-heat, axis=None, kind="stable")[:count]] = True
    return mask.reshape(heat.shape)


def shifted_region(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """The region `mask` (H, W) somewhere else: the same shape and area, moved at random and around the edges. What
    covering it costs is what covering a map's region must be compared with.
    """
    down, right = np.random.default_rng(seed).integers(0, mask.shape)
    return np.roll(mask, (int(down), int(right)), axis=(0, 1))


def against(
    batch: ImageBatch, model: nn.Module, versus: str, names: Sequence[str]
) -> tuple[ImageBatch, ScoreDifference]:
    """The batch with titles "A (0.90) minus B", and the network of that difference; `versus` names B.

    Raises UsageError where B is the class that is explained.
    """
    other = find_class(versus, names)
    if other in batch.y.tolist():
        raise UsageError(f"--versus {versus}: is the class that is explained; name another one")
    titles = [f"{title} minus {names[other]}" for title in batch.titles]
    return batch._replace(titles=titles), ScoreDifference(model, other)


def open_networks(
    specs: Sequence[str], device: torch.device, versus: int | None = None
) -> list[tuple[str, nn.Module]]:
    """Networks by MODEL or MODEL:WEIGHTS, with the title of each; with `versus`, their `ScoreDifference`."""
    networks = []
    for spec in specs:
        name, _, weights = spec.partition(":")
        model = load_classifier(name, weights or None, device)
        title = describe_network(name, weights or None)
        networks.append((title, model if versus is None else ScoreDifference(model, versus)))
    return networks


def network_rows(
    method: Method,
    batch: ImageBatch,
    networks: Sequence[tuple[str, nn.Module]],
    like: MapRows | None = None,
) -> list[MapRows]:
    """One row of maps per network (title, model) of the same images and classes, filled up to as many rows as `like`
    has; under each map, the probability that the network gives the class.
    """
    groups = []
    for title, model in networks:
        maps = method.explain(batch.X, batch.y, model).cpu().numpy()
        with torch.no_grad():
            probabilities = model(batch.X).softmax(dim=1).gather(1, batch.y[:, None])[:, 0].tolist()
        cells = [
            Cell(
                map_picture(heat, method.kind, photo),
                caption=f"probability {p:.2f}" + "; the map is 0" * (not heat.any()),
            )
            for heat, photo, p in zip(maps, batch.photos, probabilities, strict=True)
        ]
        place = f" at {', '.join(method.layers(model, batch.X))}" if method.layers else ""
        groups.append(padded(MapRows([cells], [f"{method.title}{place}; {title}"]), like))
    return groups
