"""The networks: SqueezeNet 1.1, VGG-16's convolutions, or any classifier of torchvision.

torchvision is imported only for its own networks: the import takes about a second.
"""

import copy
import importlib.util
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from helpers import weights as packaged
from helpers.checkpoints import class_count, fitted, has_auxiliary_heads, read_checkpoint
from helpers.errors import CannotError, UsageError, nearest

ALIASES = {"squeezenet": "squeezenet1_1", "vgg": "vgg16", "resnet": "resnet50"}
WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


class Fire(nn.Module):
    """Squeeze to few channels, then expand by 1 x 1 and by 3 x 3 convolutions side by side, a ReLU after each."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, kernel_size=1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeeze, expand, kernel_size=1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeeze, expand, kernel_size=3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        branches = [
            self.expand1x1_activation(self.expand1x1(x)),
            self.expand3x3_activation(self.expand3x3(x)),
        ]
        return torch.cat(branches, dim=1)


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1 (Iandola et al., 2016): images (N, 3, H, W) -> raw scores (N, classes).

    Children and state dict are named as torchvision's `squeezenet1_1` names them.
    """

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()

        def pool() -> nn.Module:
            return nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)

        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, kernel_size=3, stride=2), nn.ReLU(inplace=True), pool()),
            *(Fire(64, 16, 64), Fire(128, 16, 64), pool()),
            *(Fire(128, 32, 128), Fire(256, 32, 128), pool()),
            *(Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Conv2d(512, num_classes, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d((1, 1)),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He et al. (2015): signals keep their size
                nn.init.kaiming_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # every convolution here has one

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).flatten(1)


def describe_output(output: object) -> str:
    """What a network returned, in words for an error."""
    if isinstance(output, Tensor):
        return f"the network returns {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"the network returns a dict with {', '.join(map(repr, output))}"
    if isinstance(output, tuple | list):
        return f"the network returns {len(output)} outputs ({type(output).__name__})"
    return f"the network returns {type(output).__name__}"


def check_scores(output: object) -> None:
    """Raises UsageError, a ValueError, where a network's output is not scores (N, classes)."""
    if isinstance(output, Tensor) and output.dim() == 2:
        return
    if not isinstance(output, Tensor):
        remedy = "choose one with visualizers.mechanisms.selected_output(model, output_key)"
    elif output.dim() == 1:
        remedy = "for one score per image, return it as (N, 1)"
    elif output.dim() == 4:
        remedy = "of a segmentation, return each class's mean, output.mean(dim=(2, 3))"
    else:
        remedy = "return one score per class"
    raise UsageError(f"{describe_output(output)}, not scores (N, classes): {remedy}")


def check_finite(model: nn.Module, X: Tensor, what: str = "network") -> None:
    """Raises CannotError where the network's answer to images X (N, 3, H, W) is not finite. Names the first layer whose
    output holds NaN or infinity; a damaged or diverged checkpoint has such layers.
    """
    first: list[str] = []

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: tuple, output: object) -> None:
            if not first and isinstance(output, Tensor) and not output.isfinite().all():
                first.append(name)

        return hook

    leaves = {name: module for name, module in model.named_modules() if not list(module.children())}
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves.items()]
    try:
        with torch.no_grad():
            answer = model(X.clone())
    finally:
        for handle in handles:
            handle.remove()
    if first or (isinstance(answer, Tensor) and not answer.isfinite().all()):
        place = f"layer {first[0]}" if first else "its output"
        raise CannotError(
            f"this {what} computes NaN or infinity, first at {place}: its weights are damaged or have diverged; "
            "use another checkpoint"
        )


def only_classes(model: nn.Module, y: Tensor) -> tuple[nn.Module, Tensor]:
    """A copy of `model` that computes the scores of the classes y (N,) alone, and y as indices of these scores.

    An explanation needs a few of the thousand scores, and SqueezeNet's last layer is a quarter of its work. Other
    networks, whose last layer is cheap, come back as they are. Raises IndexError for a class that is not there.
    """
    if not isinstance(model, SqueezeNet):
        return model, y
    count = cast(nn.Conv2d, model.classifier[1]).out_channels
    if beyond := [k for k in y.tolist() if not 0 <= k < count]:
        raise IndexError(f"class {beyond[0]} does not exist: there are 0 to {count - 1}")
    classes, places = y.unique(return_inverse=True)
    narrow = copy.deepcopy(model)
    last = cast(nn.Conv2d, narrow.classifier[1])
    for name, value in list(last.named_parameters()):
        setattr(last, name, nn.Parameter(value[classes], requires_grad=value.requires_grad))
    last.out_channels = len(classes)
    return narrow, places


def working_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` for code that changes a network's layers, as the published guided backpropagation does.

    That code may find the blocks to change by torchvision's class: `isinstance(module, Fire)`. So where torchvision
    has been imported, the copy of a SqueezeNet is torchvision's own network, with the same weights.
    """
    if not isinstance(model, SqueezeNet) or "torchvision" not in sys.modules:
        return copy.deepcopy(model)
    import torchvision

    with torch.device("meta"):
        theirs = torchvision.models.squeezenet1_1(weights=None, num_classes=model.classifier[1].out_channels)
    theirs.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
    return theirs.train(model.training)


def is_own(name: str) -> bool:
    """Whether --model names a user's own network, as FILE.py:FUNCTION."""
    return ".py:" in name


def resolve_name(name: str) -> str:
    """`name` as torchvision spells it; FILE.py:FUNCTION as it is. Raises UsageError with the nearest names where there
    is none.
    """
    if is_own(name):
        return name
    wanted = name.lower().replace("-", "_")
    wanted = ALIASES.get(wanted, wanted)
    if wanted == "squeezenet1_1":
        return wanted
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)  # the image classifiers
    if wanted in known:
        return wanted
    raise nearest(name, [*known, *ALIASES], "model")


def default_weights(name: str, *, features: bool = False) -> str:
    """The --weights of a network where none are given: "packaged" where weights come with a package, for the whole
    classifier or, with `features`, for the convolutions alone; else "torchvision". name: as `resolve_name` returns it.
    """
    return "packaged" if name == "squeezenet1_1" or (features and name == "vgg16") else "torchvision"


def choose_device(name: str = "auto") -> torch.device:
    """auto -> CUDA if available, else Apple's MPS, else the CPU. Raises CannotError if a device is not available."""
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, present in have.items() if present))
    if not have[name]:
        raise CannotError(f"torch finds no {name} device on this machine: use --device cpu or --device auto")
    return torch.device(name)


def load_classifier(
    name: str = "squeezenet", weights: str | None = None, device: torch.device | str = "cpu"
) -> nn.Module:
    """A classifier in eval mode with frozen parameters, ready for `preprocess`ed images.

    `name`: of torchvision, or FILE.py:FUNCTION for a network that FUNCTION() of a file returns; that code is run.
    `weights`: "packaged" (only for SqueezeNet 1.1), "torchvision" (downloaded), "random", or a checkpoint file, which
    may have another number of classes than 1000; by default the packaged ones for SqueezeNet, else torchvision's; a
    network of your own as its function returns it. Raises UsageError for an unknown name, CannotError if the weights
    cannot be loaded.
    """
    name = resolve_name(name)
    if is_own(name):
        model = _own(name)
        if weights in ("packaged", "torchvision"):
            raise UsageError(
                f"--weights {weights} is not for {name}: give a checkpoint file, or leave it out"
            )
        if weights not in (None, "random"):
            model = fitted(model, read_checkpoint(Path(weights)), name)
        return _ready(model, device)
    weights = weights or default_weights(name)
    if weights == "packaged":
        if name != "squeezenet1_1":
            raise UsageError(
                f"no weights are packaged for {name} as a classifier (those of VGG-16 are of its convolutions only): "
                "use --model squeezenet, --weights torchvision, or a checkpoint file"
            )
        model = _filled(name, packaged.squeezenet_state_dict())
    elif weights == "torchvision":
        model = _from_torchvision(name)
    elif weights == "random":
        model = _build(name)
    else:
        model = _filled(name, read_checkpoint(Path(weights)))
    return _ready(model, device)


def downloaded_classifiers() -> list[str]:
    """The classifiers of torchvision whose weights lie in torch's checkpoint folder, so that they work offline."""
    files = {path.name for path in packaged.checkpoint_folder().glob("*.pth")}
    if not files:
        return []
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    urls = {name: torchvision.models.get_model_weights(name).DEFAULT.url for name in known}
    return [name for name, url in urls.items() if Path(url).name in files]


def load_features(
    name: str = "squeezenet",
    weights: str | None = None,
    device: torch.device | str = "cpu",
    *,
    quiet: bool = False,
) -> nn.Sequential:
    """The convolutional part of a network, one child per layer, for style transfer. Arguments as for
    `load_classifier`.
    """
    name = resolve_name(name)
    weights = weights or (None if is_own(name) else default_weights(name, features=True))
    if name == "vgg16" and weights == "packaged":
        import torchvision

        # Built on "meta", without memory: a whole VGG-16 takes half a gigabyte.
        with torch.device("meta"):
            features = torchvision.models.vgg16(weights=None).features
        features.load_state_dict(packaged.vgg16_state_dict(quiet=quiet), assign=True)
        return cast(nn.Sequential, _ready(features, device))
    model = load_classifier(name, weights, device) if is_own(name) else _hollow(name)
    features = model if isinstance(model, nn.Sequential) else getattr(model, "features", None)
    if not isinstance(features, nn.Sequential):
        raise UsageError(
            f"{name} has no `features` sequence to take layers from: use squeezenet, vgg16, vgg19 or alexnet"
        )
    return features if is_own(name) else cast(nn.Sequential, load_classifier(name, weights, device).features)


def _own(name: str) -> nn.Module:
    """What FUNCTION() of FILE.py returns, for FILE.py:FUNCTION. Raises UsageError where it is no network."""
    file, _, function = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise CannotError(f"--model {name}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # a name that ends in .py has both
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # as if it were run: it may import its neighbours
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, function, None)):
            names = [key for key, value in vars(module).items() if callable(value)]
            raise nearest(function, names, f"function of {path}")
        model = getattr(module, function)()
    except UsageError:
        raise
    except Exception as error:  # whatever the user's own code raises
        raise CannotError(f"--model {name}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    if not isinstance(model, nn.Module):
        raise UsageError(f"--model {name} returns {type(model).__name__}, not a network (torch.nn.Module)")
    return model


def _hollow(name: str, **options: Any) -> nn.Module:
    """The network without memory for its weights, for those that are loaded next."""
    try:
        with torch.device("meta"):
            return _build(name, **options)
    except NotImplementedError:  # a RegNet computes its widths with tensors
        return _build(name, **options)


def _build(name: str, **options: Any) -> nn.Module:
    if name == "squeezenet1_1":
        return SqueezeNet(**options)
    import torchvision

    # Without this, both warn that their slow initialization will be removed.
    if name in WITH_AUXILIARY_HEADS:
        # Their weights expect images as the original programs prepared them; torchvision sets this beside them.
        options = {"init_weights": False, "transform_input": True, **options}
    return torchvision.models.get_model(name, weights=None, **options)


def _filled(name: str, state: dict[str, torch.Tensor]) -> nn.Module:
    options: dict[str, Any] = {}
    if name in WITH_AUXILIARY_HEADS:
        options["aux_logits"] = has_auxiliary_heads(state)
    if (positions := state.get("encoder.pos_embedding")) is not None and "conv_proj.weight" in state:
        # A vision transformer is built for one size of images: a grid of patches, and the class token.
        options["image_size"] = math.isqrt(positions.shape[1] - 1) * state["conv_proj.weight"].shape[-1]
    model = _hollow(name, **options)
    if count := class_count(model, state):
        model = _hollow(name, num_classes=count, **options)
    return fitted(model, state, name)


def _from_torchvision(name: str) -> nn.Module:
    import torchvision

    entry = torchvision.models.get_model_weights(name).DEFAULT
    file = packaged.checkpoint_folder() / Path(entry.url).name
    sha256 = file.stem.rpartition("-")[2]  # how it begins: torch compares that after a download
    damaged = not packaged.is_intact(file, sha256)
    try:
        if damaged:  # the download replaces it as a whole
            torch.hub.download_url_to_file(entry.url, str(file), sha256)
        return torchvision.models.get_model(name, weights=entry)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        raise CannotError(
            f"{f'{file} is damaged or incomplete, and ' if damaged else ''}torchvision's weights for {name} could not "
            f"be downloaded ({reason}): download {file.name} on another machine and put it into {file.parent}, or use "
            "--model squeezenet, which works offline"
        ) from error


def _ready(model: nn.Module, device: torch.device | str) -> nn.Module:
    model = model.eval().requires_grad_(False)
    # On a CPU the channels-last layout saves about a third of a convolution's time.
    # (torch accepts device and layout together, but its types do not say so.)
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
