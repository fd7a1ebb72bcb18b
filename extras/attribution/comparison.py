"""Questions with two sides: one class against another, a photo with and without a region, two networks."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from extras.attribution.methods import Method
from helpers import cli
from helpers.data_utils import find_class, image_size
from helpers.errors import CannotError, UsageError
from helpers.figures import Cell, gaussian_blur
from helpers.image_batch import (
    ImageBatch,
    MapRows,
    describe_network,
    map_picture,
    padded,
    seen_part,
)
from helpers.image_utils import deprocess, read_image, resize
from helpers.models import load_classifier
from visualizers.mechanisms import Advance, frozen_eval, in_batches

COVER_BLUR = 0.05  # width of the blur as a share of the image's shorter side, as in evaluation's insertion
COVERED_WITH = {"grey": "in grey", "blur": "by a blurred copy"}  # what `covered` knows, in a figure's words


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


def all_scores(X: Tensor, model: nn.Module) -> Tensor:
    """The raw scores of all classes (N, K) of images X (N, 3, H, W), a batch of images at a time."""
    with frozen_eval(model), torch.no_grad():
        y = torch.zeros(len(X), dtype=torch.long, device=X.device)
        return in_batches(lambda x, _: model(x.detach()), X, y)


class Covered(NamedTuple):
    """Images with a region covered: X normalized (N, 3, H, W), photos uint8 (N, H, W, 3), the probabilities of all
    classes (N, K), and the maps (N, H, W) that explain the same classes as before.
    """

    X: Tensor
    photos: list[np.ndarray]
    probabilities: Tensor
    maps: np.ndarray


def explain_covered(
    X: Tensor,
    y: Tensor,
    model: nn.Module,
    explain: Callable[..., Tensor],
    mask: np.ndarray | Tensor,
    how: str = "grey",
    advance: Advance = None,
) -> Covered:
    """What the network says, and what a method `explain` (X, y, model, advance) draws, once the region `mask` of images
    X (N, 3, H, W) is covered, see `covered`; y (N,): the classes to explain.
    """
    hidden = covered(X, mask, how)
    photos = [np.asarray(deprocess(image)) for image in hidden]
    maps = explain(hidden, y, model, advance).cpu().numpy()
    return Covered(hidden, photos, all_scores(hidden, model).softmax(dim=1), maps)


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


class Cover(NamedTuple):
    """What is covered, as `what` says: a share of the pixels, which each map chooses, or else the masks (N, H, W), or
    one for all (1, H, W), of the picture in a file. how: see `covered`.
    """

    what: str
    how: str = "grey"
    share: float | None = None
    masks: np.ndarray | None = None
    picture: np.ndarray | None = None

    @property
    def sources(self) -> dict[str, np.ndarray]:
        """The file's picture by its name, for the recipe."""
        return {} if self.picture is None else {self.what: self.picture}

    @property
    def note(self) -> str:
        """What one sees, in words."""
        if self.share is None:
            first = (
                f"What is white in {Path(self.what).name} is covered {COVERED_WITH[self.how]}: if the probability "
                "falls, the network used what is under it."
            )
        else:
            first = (
                f"The {self.what} of the pixels that a map calls most important are covered "
                f"{COVERED_WITH[self.how]}, then the same region somewhere else: if the map is right, the first costs "
                "more probability."
            )
        return f"{first} The map of a covered photo is for the same class."


def share_of(what: str) -> float | None:
    """ "10%" -> 0.1, and None for what does not end in %, the name of a file. Raises UsageError for a share that is not
    above 0 % and below 100 %.
    """
    if not what.endswith("%"):
        return None
    with contextlib.suppress(ValueError):
        if 0 < float(what[:-1]) < 100:
            return float(what[:-1]) / 100
    raise UsageError(f"--cover {what}: a share is a number above 0% and below 100%, such as 10%")


def read_cover(
    what: str,
    how: str,
    images: Sequence[str] | None,
    size: int,
    crop: tuple[int, int, int] | None = None,
) -> Cover:
    """The cover that `what` names: a share, such as 10%, or an image file, white where the photo is covered.

    A mask as large as its photo (one of `images`, paths or bundled names) is cut and resized as the photo is, see
    `seen_part`; a square one is laid over the square that the network sees. A grey counts as white from half on. Raises
    UsageError for a share that cannot be, and for a mask of another shape or one that covers nothing or everything;
    CannotError for a file that is missing or no picture.
    """
    if not what:
        raise UsageError("--cover: the name of the mask is empty")
    if share := share_of(what):
        if not round(share * size**2):
            raise UsageError(f"--cover {what}: that is less than one of {size} x {size} pixels; give more")
        return Cover(what, how, share)
    if not images:
        raise UsageError(f"--cover {what} goes with --images: a mask belongs to a photo; 10% goes with all")
    try:
        picture = read_image(what)
    except CannotError as error:
        text = f"--cover {error}; give a picture that is white where the photo is covered, or a share, such as 10%"
        raise CannotError(text) from error
    masks = []
    for image in images:
        if picture.size == (photo := image_size(image)):
            seen = seen_part(picture, size, crop)
        elif picture.width == picture.height:
            seen = resize(picture, (size, size))
        else:
            raise UsageError(
                f"--cover {what} is {picture.width} x {picture.height} and {image} is {photo[0]} x {photo[1]}: give a "
                "mask as large as the photo, or a square one for the square that the network sees"
            )
        masks.append(np.asarray(seen.convert("L")) >= 128)
    if not np.any(masks):
        raise UsageError(
            f"--cover {what}: nothing that the network sees is white in it, so nothing is covered"
        )
    if np.all(masks):
        raise UsageError(
            f"--cover {what}: all that the network sees is white in it (transparent counts as white); paint black what "
            "is not covered"
        )
    return Cover(what, how, masks=np.stack(masks), picture=np.asarray(picture))


def regions_of(cover: Cover, maps: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """The regions to cover in images with these maps (N, H, W), each with its name: masks (N, H, W). A map that is 0
    calls nothing important.
    """
    if cover.masks is not None:
        return {f"covered: {Path(cover.what).name}": np.broadcast_to(cover.masks, maps.shape).copy()}
    assert cover.share is not None
    best = np.stack([most_important(heat, cover.share) & heat.any() for heat in maps])
    moved = np.stack([shifted_region(mask, seed) for mask in best])
    return {
        f"covered: the most important {cover.what}": best,
        "covered: the same region, somewhere else": moved,
    }


def add_covered(
    rows: MapRows,
    method: Method,
    maps: np.ndarray,
    batch: ImageBatch,
    model: nn.Module,
    cover: Cover,
    seed: int = 0,
) -> list[Covered]:
    """Adds the rows that go under a method's maps (N, H, W), two for each region that is covered: the covered photos,
    with the probability of the class before and after, and their maps. `Cover.note` says what they mean. Returns
    what they show, one for each region.
    """
    shown = []
    before = all_scores(batch.X, model).softmax(dim=1).gather(1, batch.y[:, None])[:, 0].tolist()
    regions = regions_of(cover, maps, seed)
    with cli.progress(len(regions) * method.seen(batch.X, model), "covered photos") as advance:
        for name, masks in regions.items():
            found = explain_covered(batch.X, batch.y, model, method.explain, masks, cover.how, advance)
            after = found.probabilities.gather(1, batch.y[:, None])[:, 0].tolist()
            covered_photos, its_maps = [], []
            for photo, heat, mask, p, q in zip(found.photos, found.maps, masks, before, after, strict=True):
                caption = f"probability {p:.2f} → {q:.2f}" if mask.any() else "nothing is covered here"
                covered_photos.append(Cell(photo, caption=caption))
                empty = "" if heat.any() else "no positive evidence"
                its_maps.append(Cell(map_picture(heat, method.kind, photo), subtitle=empty))
            rows.rows.extend([covered_photos, its_maps])
            rows.labels.extend([name, "map of the covered photo"])
            shown.append(found)
    return shown


def beside_the_photo(
    batch: ImageBatch, rows: MapRows, shown: Sequence[Covered]
) -> tuple[ImageBatch, MapRows]:
    """One photo and its map, with what `add_covered` put under the map, and returned, beside it: the covered photos as
    further ones of the batch, each above its map.
    """
    first, *added = rows.rows
    batch = batch._replace(
        photos=[*batch.photos, *(found.photos[0] for found in shown)],
        X=torch.cat([batch.X, *(found.X for found in shown)]),
        y=batch.y.repeat(1 + len(shown)),
        titles=[*batch.titles, *rows.labels[1::2]],
        subtitles=[*batch.subtitles, *(row[0].caption for row in added[::2])],
    )
    return batch, MapRows([[first[0], *(row[0] for row in added[1::2])]], rows.labels[:1])


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
