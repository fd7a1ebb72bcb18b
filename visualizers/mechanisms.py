"""What the techniques share: a model that comes back as it went in, the output of a layer, batches of images.

Nothing here computes a score, a saliency gradient or a map. (`last_token_layer` sends NaN backwards, to see what the
scores of a transformer depend on.)
"""

import contextlib
import inspect
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from helpers.errors import UsageError
from helpers.memory import BATCH_PIXELS
from helpers.models import check_scores, describe_output

# Called with the number of images that the network has just seen: a progress bar's update.
Advance = Callable[[int], object] | None
# Pixels of one batch. A processor is fastest while a layer's maps for the whole batch stay in its last-level
# cache: eight images of 224 x 224. A graphics card wants enough of them to keep all its units busy.
CPU_BATCH, GPU_BATCH = BATCH_PIXELS, 8 * BATCH_PIXELS


@contextlib.contextmanager
def frozen_eval(model: nn.Module, *, scores: bool = True) -> Iterator[nn.Module]:
    """Inside: eval mode, parameters frozen, gradients on. After, also after an exception: as before.

    Frozen parameters halve the work of a backward pass; a gradient with respect to an image or a layer never
    needs theirs. Images of another precision than the network's are converted for it: their gradient has their own.
    Raises ValueError in inference mode and, with `scores`, inside for an output that is not scores (N, classes).
    """
    if torch.is_inference_mode_enabled() or any(p.is_inference() for p in model.parameters()):
        raise ValueError(
            "torch.inference_mode() switches gradients off for good, also for what was made in it: "
            "load the network and compute maps outside of it (torch.no_grad() is allowed)"
        )
    hooks = [model.register_forward_pre_hook(_in_the_networks_precision)]
    if scores:
        hooks.append(model.register_forward_hook(lambda _module, _inputs, output: check_scores(output)))
    training = {module: module.training for module in model.modules()}
    frozen = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        model.eval().requires_grad_(False)
        with torch.enable_grad():
            yield model
    finally:
        for hook in hooks:
            hook.remove()
        for module, flag in training.items():
            module.training = flag
        for parameter, flag in frozen.items():
            parameter.requires_grad_(flag)


def _in_the_networks_precision(model: nn.Module, inputs: tuple) -> tuple:
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    return tuple(x.to(like.dtype) if like is not None and isinstance(x, Tensor) else x for x in inputs)


@contextlib.contextmanager
def selected_output(model: nn.Module, output_key: int | str) -> Iterator[nn.Module]:
    """Inside: the model returns output_key of the tuple, list or dict of outputs that it has. After: as before.

    For networks that return more than scores: `with selected_output(model, "logits"): GradCam().grad_cam(X, y, model)`.
    Raises ValueError where there is no such output.
    """

    def select(_module: nn.Module, _inputs: tuple, outputs: Any) -> Tensor:
        try:
            return outputs[output_key]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"output_key {output_key!r} is not there: {describe_output(outputs)}") from error

    handle = model.register_forward_hook(select)
    try:
        yield model
    finally:
        handle.remove()


def check_targets(X: Tensor, y: Tensor) -> Tensor:
    """The classes y as whole numbers (N,) on the device of the images X (N, 3, H, W). Raises ValueError for shapes
    that do not match.
    """
    if X.is_inference():
        raise ValueError(
            "X was made in torch.inference_mode(), which allows no gradients: use X.clone() outside of it"
        )
    if X.dim() != 4:
        raise ValueError(f"X has shape {tuple(X.shape)}, expected (N, 3, H, W)")
    y = torch.as_tensor(y, device=X.device).long().reshape(-1).clone()  # one of inference mode cannot be kept
    if len(y) != len(X):
        raise ValueError(f"{len(X)} images but {len(y)} classes: give one class for each image")
    return y


def token_grid(shape: tuple[int, ...]) -> int | None:
    """The side h of the h x h grid that a transformer's tokens (N, h h, C) stand for; a class token before them may
    make one more. None for any other shape.
    """
    if len(shape) != 3:
        return None
    return next(
        (side for t in (shape[1], shape[1] - 1) if (side := math.isqrt(max(0, t))) ** 2 == t > 1), None
    )


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Inside: networks of torch.compile run as they are written. What is compiled already calls no new hooks."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and the import is slow
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


class LayoutTracker:
    """Inside `with LayoutTracker() as layout:` layout.is_channels_last(output) tells, in a hook, whether a tensor of
    four dimensions that a module returns is (N, H, W, C), as in a Swin transformer, and not (N, C, H, W).

    Shapes alone do not say which. So the leaves that work along one dimension are watched: a Linear and a LayerNorm
    along the last one, a convolution along the second. What contains them returns what the last of them did, unless
    its size stands elsewhere now.
    """

    def __enter__(self) -> "LayoutTracker":
        self.channels: int | None = None  # of the last layer that works along the last dimension
        self.handle = nn.modules.module.register_module_forward_hook(self._watch)
        return self

    def __exit__(self, *_error: object) -> None:
        self.handle.remove()

    def _watch(self, module: nn.Module, _inputs: tuple, output: object) -> None:
        if not isinstance(output, Tensor) or output.dim() != 4:
            return
        dims = tuple(module.dims) if type(module).__name__ == "Permute" else ()  # type: ignore[arg-type]
        # torchvision's LayerNorm2d, a LayerNorm, permutes to and fro.
        if isinstance(module, nn.Linear) or type(module) is nn.LayerNorm or dims == (0, 2, 3, 1):
            self.channels = output.shape[3]
        elif isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.LayerNorm) or dims == (0, 3, 1, 2):
            self.channels = None

    def is_channels_last(self, output: object) -> bool:
        """Whether the output of the module that has just run is (N, H, W, C)."""
        return isinstance(output, Tensor) and output.dim() == 4 and self.channels == output.shape[3]


def as_maps(output: Any, channels_last: bool = False) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
    """What a layer returned, (N, h, w, C) with `channels_last`, as maps (N, C, h, w), and the way back, from maps to
    what the next layer expects. A transformer's tokens become the grid that they were cut from, without the class
    token. None where there are no maps.
    """
    if not isinstance(output, Tensor):
        return None
    if channels_last:
        return output.permute(0, 3, 1, 2), lambda maps: maps.permute(0, 2, 3, 1)
    if output.dim() == 4:
        return output, lambda maps: maps
    if (side := token_grid(tuple(output.shape))) is None:
        return None
    tokens, patches = output.split([output.shape[1] - side**2, side**2], dim=1)
    maps = patches.transpose(1, 2).unflatten(2, (side, side))
    return maps, lambda maps: torch.cat([tokens, maps.flatten(2).transpose(1, 2)], dim=1)


@contextlib.contextmanager
def capture(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Keeps the maps that each of the named modules returns in the forward passes inside, ready to be differentiated
    by. A transformer's tokens are kept as maps, too (`as_maps`).

    The rest of the network gets a copy, so a later in-place operation cannot change what was kept. Where nothing
    before a layer needs a gradient, the layer's output becomes the start of the graph: a backward pass then visits
    only what lies above the lowest captured layer.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
            if (found := as_maps(output, layout.is_channels_last(output))) is None:
                shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise ValueError(
                    f"layer {name} returns {shape}, not maps (N, C, H, W): choose a convolutional layer"
                )
            maps, back = found
            outputs[name] = maps if maps.requires_grad else maps.detach().requires_grad_()
            return back(outputs[name].clone())

        return hook

    handles = []
    try:
        for name, module in layers.items():
            handles.append(module.register_forward_hook(keep(name)))
        with LayoutTracker() as layout, eagerly():
            yield outputs
    finally:
        for handle in handles:
            handle.remove()


RELUS = frozenset({F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})
OTHER_ACTIVATIONS = frozenset(
    {
        *(F.relu6, F.hardtanh, F.leaky_relu, F.elu, F.selu, F.softplus),
        *(F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid),
        *(torch.sigmoid, Tensor.sigmoid, F.sigmoid, torch.tanh, Tensor.tanh, F.tanh),
    }
)


def _is_relu6(func: Callable, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a call is min(ReLU(x), 6), as in a MobileNet; torch's module calls `hardtanh` from 0 to 6."""
    if func is F.hardtanh:
        bounds = dict(zip(("min_val", "max_val"), args[1:3], strict=False)) | kwargs
        return (bounds.get("min_val", -1.0), bounds.get("max_val", 1.0)) == (0.0, 6.0)
    return func is F.relu6


class ReplaceReLU(TorchFunctionMode):
    """Inside `with ReplaceReLU(rule):` every ReLU computes `rule(x)`: modules and functional calls, in place or not.
    A ReLU6 computes min(rule(x), 6).
    """

    def __init__(self, rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        if func in RELUS:
            return self.rule(args[0] if args else kwargs["input"])
        if _is_relu6(func, args, kwargs):
            return self.rule(args[0] if args else kwargs["input"]).clamp(max=6)
        return func(*args, **kwargs)


class CountActivations(TorchFunctionMode):
    """Inside `with CountActivations() as counts:` counts.calls has how often each activation function was called, by
    name: "ReLU" for all that `ReplaceReLU` replaces.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        if func in RELUS or _is_relu6(func, args, kwargs):
            self.calls["ReLU"] += 1
        elif func in OTHER_ACTIVATIONS:
            self.calls[func.__name__] += 1
        return func(*args, **kwargs)


def guided_note(model: nn.Module, X: Tensor) -> str:
    """What a figure must say of guided backpropagation where not all activations are ReLUs: the others keep their
    gradient. "" where all are. X: images (N, 3, H, W), of which the first is passed through the network.
    """
    with frozen_eval(model), torch.no_grad(), eagerly(), CountActivations() as counts:
        model(X[:1].clone())
    others = ", ".join(name for name, _ in counts.calls.most_common() if name != "ReLU")
    relus, total = counts.calls["ReLU"], counts.calls.total()
    if not relus:
        functions = f" (its activations: {others})" if others else ""
        return f"This network has no ReLU{functions}: its guided backpropagation is the plain gradient."
    if others:
        return f"Guided backpropagation changes ReLUs alone: {relus} of {total} activations here (others: {others})."
    return ""


def output_shapes(
    model: nn.Module, X: Tensor, modules: Mapping[str, nn.Module]
) -> list[tuple[str, tuple[int, ...]]]:
    """The names of the modules in the order in which a forward pass of X (N, 3, H, W) calls them, each as often as it
    is called, with the shape of what it returns for one image; () where that is no tensor. (N, H, W, C) is given as
    (N, C, H, W).
    """
    shapes: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str) -> Callable:
        def hook(_module: nn.Module, _inputs: tuple, output: object) -> None:
            if layout.is_channels_last(output):
                output = output.permute(0, 3, 1, 2)  # type: ignore[attr-defined]
            shapes.append((name, tuple(output.shape) if isinstance(output, Tensor) else ()))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in modules.items()]
    try:
        with frozen_eval(model, scores=False), torch.no_grad(), LayoutTracker() as layout, eagerly():
            model(X[:1].clone())
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def are_maps(shape: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape is maps (N, C, H, W) with more than one position."""
    return len(shape) == 4 and shape[2] * shape[3] > 1


def maps_shape(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(channels, height, width) of an output of this shape that is maps or a transformer's tokens."""
    if side := token_grid(shape):
        return shape[2], side, side
    return (shape[1], shape[2], shape[3]) if are_maps(shape) else None


def map_layers(model: nn.Module, X: Tensor) -> dict[str, tuple[int, int, int]]:
    """The modules of `model` that return maps, or tokens of a grid, for X (N, 3, H, W), in the order of the pass.

    Name -> (channels, height, width). Left out of a square image's layers is what is not square: windows inside a
    transformer's blocks, whose two directions are the windows and the places in each.
    """
    shapes = output_shapes(model, X, {name: module for name, module in model.named_modules() if name})
    found = {name: size for name, shape in shapes if (size := maps_shape(shape))}
    square = X.shape[2] == X.shape[3]  # but for two positions, which a border may cost
    return {name: (c, h, w) for name, (c, h, w) in found.items() if not square or abs(h - w) <= 2}


def learned_layers(module: nn.Module) -> int:
    """How many convolutions and linear layers a module holds."""
    return sum(isinstance(part, nn.Conv2d | nn.Linear) for part in module.modules())


def network_body(model: nn.Module, X: Tensor) -> str:
    """The name of the network that `model` wraps, however deep: "" if it wraps none.

    A wrapper (normalization before a network, nn.DataParallel, torch.compile) has one child with more than half of its
    learned layers, and that child returns scores, not maps or tokens.
    """
    shapes = dict(output_shapes(model, X, {name: module for name, module in model.named_modules() if name}))
    body = ""
    while True:
        here = model.get_submodule(body)
        largest = max(here.named_children(), key=lambda child: learned_layers(child[1]), default=("", here))
        name = f"{body}.{largest[0]}" if body else largest[0]
        many = 2 * learned_layers(largest[1]) > learned_layers(here)
        if not (many and len(shapes.get(name, ())) == 2 and list(largest[1].children())):
            return body
        body = name


def last_map_layer(model: nn.Module, X: Tensor) -> str:
    """The name of the last child of `model` that still returns maps for X: where Grad-CAM looks by default.

    Found by one forward pass, so it holds for any convolutional classifier: `features` in SqueezeNet and VGG,
    `layer4` in a ResNet, `Mixed_7c` in Inception. In a vision transformer, whose children return tokens, it is
    `last_token_layer`. Raises UsageError, a ValueError, where there are no maps.
    """
    pooling = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d)
    children = {}
    body = network_body(model, X)
    inside = f"{body}." if body else ""
    for name, child in model.get_submodule(body).named_children():
        name = inside + name
        if isinstance(child, nn.ModuleList):  # a list is never called itself, its members are
            children.update({f"{name}.{key}": member for key, member in child.named_children()})
        elif not isinstance(child, pooling):
            children[name] = child
    found, tokens, single = None, False, False
    for name, shape in output_shapes(model, X, children):
        tokens = tokens or token_grid(shape) is not None
        single = single or (len(shape) == 4 and shape[2] * shape[3] == 1)
        if len(shape) == 3:
            found = None  # a transformer's tokens: what came before was only their input
        elif are_maps(shape):
            found = name
    if found is None and tokens:
        found = last_token_layer(model, X)
    if found is None and single:
        size = f"{X.shape[3]} x {X.shape[2]}"
        raise UsageError(
            f"this network's maps have one position each for images of {size} pixels: use larger ones, of 224 x 224"
        )
    if found is None:
        raise UsageError("this network returns no maps to explain: choose a convolutional one")
    return found


def last_token_layer(model: nn.Module, X: Tensor) -> str | None:
    """The name of the last module with tokens for X (N, 3, H, W) whose tokens of the grid the scores still depend on.

    After the last attention only the class token counts: in torchvision's ViT it is `ln_1` of the last block. Found by
    one forward and one backward pass.
    """
    shapes = output_shapes(model, X, {name: module for name, module in model.named_modules() if name})
    names = [name for name, shape in shapes if token_grid(shape)]
    with frozen_eval(model), capture({name: model.get_submodule(name) for name in names}) as outputs:
        scores = model(X[:1].clone())
        # NaN goes to all that the scores depend on, also through a head of zeros, as a ViT has before its training.
        gradients = torch.autograd.grad(
            scores, [outputs[name] for name in names], torch.full_like(scores, math.nan), allow_unused=True
        )
    used = [name for name, g in zip(names, gradients, strict=True) if g is not None and g.isnan().any()]
    return used[-1] if used else None


def _without_numbers(name: str) -> tuple[str, str]:
    parents, _, own = name.rpartition(".")
    return re.sub(r"\d+", "", parents), own


def spread_layers(model: nn.Module, X: Tensor) -> list[str]:
    """Four layers from early to last: the last is `last_map_layer`, the others are spread evenly before it."""
    layers = list(map_layers(model, X))
    last = last_map_layer(model, X)
    if token_grid(dict(output_shapes(model, X, {last: model.get_submodule(last)}))[last]):
        # The same part of the blocks before it: names that differ in the blocks' numbers alone.
        alike = [name for name in layers if _without_numbers(name) == _without_numbers(last)][:-1]
        return [*dict.fromkeys(alike[len(alike) * i // 4] for i in range(1, 4) if alike), last]
    # Whole blocks, not their parts: children of the network or of the last layer, or beside it, with convolutions.
    blocks = [
        name
        for name in layers[: layers.index(last)]
        if name.rpartition(".")[0] in ("", last, last.rpartition(".")[0])
        and any(isinstance(module, nn.Conv2d) for module in model.get_submodule(name).modules())
    ]
    return [*dict.fromkeys(blocks[len(blocks) * i // 4] for i in range(1, 4) if blocks), last]


def layer_option(grad_cam: Callable, layer: str | None) -> dict[str, str]:
    """The keyword `layer` for a `grad_cam` that has it, if a layer is asked for; nothing for the functions of other
    years, which explain the last layer alone.
    """
    return {"layer": layer} if layer and "layer" in inspect.signature(grad_cam).parameters else {}


def scaled_heatmaps(cam: Tensor, size: tuple[int, ...]) -> np.ndarray:
    """Class activation maps (N, 1, h, w), not negative -> (N, H, W) in [0, 1], of the same precision: enlarged
    bilinearly to `size`, each map divided by its own maximum, if it has one.
    """
    kind = torch.float32 if cam.dtype == torch.bfloat16 else cam.dtype  # NumPy has no bfloat16
    cam = cam.detach().to(torch.promote_types(kind, torch.float32))
    cam = F.interpolate(cam, size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
    peak = cam.amax(dim=(1, 2), keepdim=True)
    return torch.where(peak > 0, cam / peak, torch.zeros_like(cam)).to(kind).cpu().numpy()


def batch_size_for(X: Tensor) -> int:
    """How many images of the size of X (N, C, H, W) to send through a network at once: at least one."""
    pixels = CPU_BATCH if X.device.type == "cpu" else GPU_BATCH
    return max(1, pixels // (X.shape[2] * X.shape[3]))


def batches_of(X: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The images X (N, C, H, W) with their classes y (N,), a batch at a time, all of about the same size."""
    count = max(1, -(-len(X) // batch_size_for(X)))
    yield from zip(X.tensor_split(count), check_targets(X, y).tensor_split(count), strict=True)


def in_batches(
    function: Callable[[Tensor, Tensor], Tensor | np.ndarray], X: Tensor, y: Tensor, advance: Advance = None
) -> Tensor:
    """`function(X, y)`, which treats each image by itself, a batch of images at a time; results joined.

    Each batch is a copy that requires a gradient: techniques of other years count on that. advance: called with the
    number of images after each batch.
    """
    results = []
    for some, classes in batches_of(X.detach(), y):
        results.append(torch.as_tensor(function(some.clone().requires_grad_(), classes)).detach())
        if advance is not None:
            advance(len(some))
    return torch.cat(results)
