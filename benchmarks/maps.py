"""Explanation maps of a batch of photos against captum, pytorch-grad-cam and torchcam."""

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import Row, Side, difference, process_of, race
from extras.attribution import methods as attributions
from extras.attribution.cam import cam_at
from helpers import cli
from helpers.data_utils import PHOTOS, load_photo
from helpers.image_utils import preprocess
from helpers.models import load_classifier, only_classes
from visualizers import GradCam
from visualizers.mechanisms import in_batches

IMAGES = 25
LAST, FOUR = "features", ["features.4", "features.7", "features.10", "features"]


def photos() -> Tensor:
    """Normalized crops (IMAGES, 3, 224, 224) of the bundled photos, every one from another place."""
    generator = np.random.default_rng(0)
    names = list(PHOTOS)
    crops = []
    for i in range(IMAGES):
        photo = load_photo(names[i % len(names)])
        side = min(photo.size) * 2 // 3
        left, top = (int(generator.integers(0, length - side + 1)) for length in photo.size)
        crops.append(preprocess(photo.crop((left, top, left + side, top + side)), (224, 224)))
    return torch.cat(crops)


def as_torchvision_gives_it(model: nn.Module) -> nn.Module:
    """A copy as others' users have it: default memory layout, nothing frozen."""
    return not_in_place(model).to(memory_format=torch.contiguous_format).requires_grad_(True)


def not_in_place(model: nn.Module) -> nn.Module:
    """A copy whose ReLUs overwrite nothing: captum's guided backpropagation and lists of features need that."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model


class Work(NamedTuple):
    """Our side and the others': what to time, and what turns its result into maps like ours. `scale` is applied to all
    maps before they are compared.
    """

    ours: Callable[[], Tensor]
    rivals: Mapping[str, tuple[Callable[[], Any], Callable[[Any], Tensor]]]
    bars: Mapping[str, float]
    scale: Callable[[Tensor], Tensor] = lambda maps: maps


def rows(device: str = "cpu") -> Iterator[Row]:
    """One row per rival. Ours is timed in a process like a runner's, the others in one like their users'."""
    with process_of(our_sides, device) as ours, process_of(their_sides, device) as theirs:
        for title, work in works(device).items():
            maps = work.scale(work.ours())
            agreements = {
                name: difference(maps, work.scale(comparable(rival())))
                for name, (rival, comparable) in work.rivals.items()
            }
            sides = {name: theirs((title, name)) for name in work.rivals}
            yield from race(title, ours(title), sides, work.bars, agreements, IMAGES, work.ours)


def our_sides(device: str) -> dict[str, Side]:
    cli.keep_freed_memory()  # as a runner does
    return {title: work.ours for title, work in works(device).items()}


def their_sides(device: str) -> dict[tuple[str, str], Side]:
    return {
        (title, name): rival
        for title, work in works(device).items()
        for name, (rival, _) in work.rivals.items()
    }


def works(device: str) -> dict[str, Work]:
    """What is compared, by its title."""
    from captum.attr import GuidedBackprop, LayerGradCam, Saliency
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torchcam.methods import GradCAM as TorchCam

    ours = load_classifier(device=device)
    X = photos().to(device)
    with torch.no_grad():
        y = ours(X).argmax(dim=1)
    theirs = as_torchvision_gives_it(ours)

    def explained(method: Callable[[Tensor, Tensor, nn.Module], Tensor]) -> Callable[[], Tensor]:
        """As a runner does it: the network narrowed to the classes asked for, batch by batch."""

        def explain() -> Tensor:
            narrow, places = only_classes(ours, y)
            return method(X, places, narrow)

        return explain

    def saliency_rival(model: nn.Module) -> tuple[Callable[[], Tensor], Callable[[Tensor], Tensor]]:
        method = Saliency(model)
        return lambda: method.attribute(X.clone().requires_grad_(), target=y), lambda g: g.amax(dim=1)

    layer_cam = LayerGradCam(theirs, theirs.get_submodule(LAST))

    def torchcam() -> Tensor:
        with TorchCam(theirs, LAST) as extractor:
            scores = theirs(X)
            return extractor(y.tolist(), scores)[0]

    hooked = as_torchvision_gives_it(ours)  # its hooks stay
    grad_cam = GradCAM(model=hooked, target_layers=[hooked.get_submodule(LAST)])
    targets = [ClassifierOutputTarget(int(k)) for k in y]

    def four_times() -> list[Tensor]:
        methods = [LayerGradCam(theirs, theirs.get_submodule(name)) for name in FOUR]
        return [method.attribute(X, target=y, relu_attributions=True) for method in methods]

    guided = GuidedBackprop(theirs)
    return {
        "saliency maps": Work(
            explained(attributions.saliency),
            {
                "captum Saliency": saliency_rival(theirs),
                "captum Saliency, given our network": saliency_rival(not_in_place(ours)),
            },
            {"captum Saliency": 0.5},
        ),
        "Grad-CAM, last layer": Work(
            # Told the layer, as the runner does.
            explained(functools.partial(attributions.grad_cam, layer=LAST)),
            {
                "captum LayerGradCam": (
                    lambda: layer_cam.attribute(X, target=y, relu_attributions=True),
                    enlarged,
                ),
                "torchcam GradCAM": (torchcam, lambda maps: enlarged(maps[:, None])),
                "grad-cam GradCAM": (lambda: grad_cam(input_tensor=X, targets=targets), torch.from_numpy),
            },
            {"captum LayerGradCam": 0.45, "torchcam GradCAM": 0.45, "grad-cam GradCAM": 0.25},
            stretched,
        ),
        "Grad-CAM, four layers": Work(
            explained(at_four_layers),
            {
                "4 x captum LayerGradCam": (
                    four_times,
                    lambda maps: torch.stack([enlarged(m) for m in maps]),
                )
            },
            {"4 x captum LayerGradCam": 0.2},
            stretched,
        ),
        "guided backpropagation": Work(
            explained(guided_backprop),
            {
                "captum GuidedBackprop": (
                    lambda: guided.attribute(X.clone().requires_grad_(), target=y),
                    lambda maps: maps,
                )
            },
            {"captum GuidedBackprop": 0.5},
        ),
    }


def guided_backprop(X: Tensor, y: Tensor, model: nn.Module) -> Tensor:
    """The graded guided backpropagation, channels first -> (N, 3, H, W). It changes nothing, so it needs no copy."""
    guided = in_batches(lambda X, y: GradCam().guided_backprop(X, y, model), X, y)
    return guided.permute(0, 3, 1, 2)


def at_four_layers(X: Tensor, y: Tensor, model: nn.Module) -> Tensor:
    """Grad-CAM at FOUR layers from one pass -> (4, N, H, W)."""
    maps = cam_at(FOUR, X, y, model)
    return torch.stack([torch.from_numpy(maps[name]) for name in FOUR])


def enlarged(maps: Tensor) -> Tensor:
    """Maps (N, 1, h, w) to the photos' size."""
    return F.interpolate(maps.float(), size=(224, 224), mode="bilinear", align_corners=False)[:, 0]


def stretched(maps: Tensor) -> Tensor:
    """Each of (..., H, W) from 0 to 1: the libraries agree but for what they divide by."""
    low, high = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-12)
