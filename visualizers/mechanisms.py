"""What every technique needs: class scores, a look at a layer's output, and a model that comes back as it
went in.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from visualizers.needed_scores import classifier_of, scores_of
from visualizers.picture_gradient import PictureGradient

# Told how many images a network has just seen: what a progress bar counts.
Advance = Callable[[int], object] | None
# Pixels of one chunk. A processor is fastest while a layer's maps for the whole chunk stay in its last-level
# cache: eight images of 224 x 224. A graphics card wants enough of them to keep all its units busy.
CPU_CHUNK, GPU_CHUNK = 8 * 224**2, 64 * 224**2


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[nn.Module]:
    """Inside: eval mode, parameters frozen, gradients on. After, also after an exception: as before.

    Frozen parameters halve the work of a backward pass; a gradient with respect to an image or a layer never
    needs theirs.
    """
    training = {module: module.training for module in model.modules()}
    frozen = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        model.eval().requires_grad_(False)
        with torch.enable_grad():
            yield model
    finally:
        for module, flag in training.items():
            module.training = flag
        for parameter, flag in frozen.items():
            parameter.requires_grad_(flag)


def one_class_each(X: Tensor, y: Tensor) -> Tensor:
    """y as whole numbers (N,) beside the images X (N, 3, H, W). Raises ValueError for shapes that do not
    match.
    """
    if X.dim() != 4:
        raise ValueError(f"X has shape {tuple(X.shape)}, expected (N, 3, H, W)")
    y = torch.as_tensor(y, device=X.device).long().reshape(-1)
    if len(y) != len(X):
        raise ValueError(f"{len(X)} images but {len(y)} classes: give one class for each image")
    return y


def class_scores(model: nn.Module, X: Tensor, y: Tensor) -> Tensor:
    """The raw score (before any softmax) of class y[n] for image n: X (N, 3, H, W), y (N,) -> (N,).

    Image n's score depends on image n alone, so one backward pass from their sum gives every image its own
    gradient. Other classes' scores are not even computed where that can be avoided; to find that out, a network that
    is new sees the first image twice more. Raises ValueError for shapes that do not match and IndexError for a class
    that the model does not have.
    """
    y = one_class_each(X, y)
    classifier = classifier_of(model, X)
    # Copies, lest a first layer that works in place change the caller's images.
    if classifier is None:
        with PictureGradient():
            scores = model(X.clone())
        return select(scores, y)
    check_range(y, len(model.get_submodule(classifier).get_parameter("weight")))
    classes, place = y.unique(return_inverse=True)
    with PictureGradient():
        scores = scores_of(model, classifier, X.clone(), classes)
    return scores.gather(1, place[:, None]).squeeze(1)


def select(scores: Tensor, y: Tensor, what: str = "class") -> Tensor:
    """The score of y[n] for image n: scores (N, classes), y (N,) -> (N,). `what` the scores are of goes into
    the IndexError for a y that is not among them.
    """
    check_range(y, scores.shape[1], what)
    return scores.gather(1, y[:, None]).squeeze(1)


def check_range(y: Tensor, count: int, what: str = "class") -> None:
    """Raises IndexError for a y (N,) that is not from 0 to count - 1."""
    out_of_range = y[(y < 0) | (y >= count)]
    if len(out_of_range):
        raise IndexError(f"{what} {int(out_of_range[0])} does not exist: there are 0 to {count - 1}")


@contextlib.contextmanager
def capture(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Keeps what each of the named modules returns in the forward passes inside, ready to be differentiated
    by.

    The rest of the network gets a copy, so a later in-place operation cannot change what was kept. Where
    nothing before a layer needs a gradient, the layer's output becomes the start of the graph: a backward
    pass then visits only what lies above the lowest captured layer.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
            if not isinstance(output, Tensor) or output.dim() != 4:
                shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise ValueError(
                    f"layer {name} returns {shape}, not maps (N, C, H, W): choose a convolutional layer"
                )
            outputs[name] = output if output.requires_grad else output.detach().requires_grad_()
            return outputs[name].clone()

        return hook

    handles = []
    try:
        for name, module in layers.items():
            handles.append(module.register_forward_hook(keep(name)))
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def shapes_met(
    model: nn.Module, X: Tensor, modules: Mapping[str, nn.Module]
) -> list[tuple[str, tuple[int, ...]]]:
    """The named modules in the order in which an image of X (N, 3, H, W) meets them, each as often as it does:
    name, and shape of what the module returns, () where that is no tensor.
    """
    met: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str) -> Callable:
        def hook(_module: nn.Module, _inputs: tuple, output: object) -> None:
            met.append((name, tuple(output.shape) if isinstance(output, Tensor) else ()))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in modules.items()]
    try:
        with untouched(model), torch.no_grad():
            model(X[:1].clone())
    finally:
        for handle in handles:
            handle.remove()
    return met


def are_maps(shape: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape is maps (N, C, H, W) of more than one place."""
    return len(shape) == 4 and shape[2] * shape[3] > 1


class ReplaceReLU(TorchFunctionMode):
    """Inside `with ReplaceReLU(rule):` every ReLU computes `rule(x)`: modules and functional calls, in place
    or not.
    """

    RELUS = frozenset({F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})

    def __init__(self, rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        if func in self.RELUS:
            return self.rule(args[0] if args else kwargs["input"])
        return func(*args, **kwargs)


def last_map_layer(model: nn.Module, X: Tensor) -> str:
    """The name of the last child of `model` that still returns maps for X: where Grad-CAM looks by default.

    Found by one forward pass, so it holds for any convolutional classifier: `features` in SqueezeNet and VGG,
    `layer4` in a ResNet, `Mixed_7c` in Inception. Raises ValueError where no child returns maps.
    """
    pooling = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d)
    children = {}
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):  # a list is never called itself, its members are
            children.update({f"{name}.{key}": member for key, member in child.named_children()})
        elif not isinstance(child, pooling):
            children[name] = child
    found = None
    for name, shape in shapes_met(model, X, children):
        if len(shape) == 3:
            found = None  # a transformer's tokens: what came before was only their input
        elif are_maps(shape):
            found = name
    if found is None:
        raise ValueError("this network returns no maps to explain: choose a convolutional one")
    return found


def input_gradient(model: nn.Module, X: Tensor, y: Tensor) -> Tensor:
    """d s_y(I) / d I for each image: X (N, 3, H, W), y (N,) -> (N, 3, H, W), signed, in score per normalized
    pixel.
    """
    X = X.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(class_scores(model, X, y).sum(), X)
    return gradient


def chunk_of(X: Tensor) -> int:
    """How many images of the size of X (N, C, H, W) to send through a network at once: at least one."""
    pixels = CPU_CHUNK if X.device.type == "cpu" else GPU_CHUNK
    return max(1, pixels // (X.shape[2] * X.shape[3]))


def chunks_of(X: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The images X (N, C, H, W) with their classes y (N,), a chunk at a time, all about equally large."""
    count = max(1, -(-len(X) // chunk_of(X)))
    yield from zip(X.tensor_split(count), one_class_each(X, y).tensor_split(count), strict=True)


def in_chunks(
    function: Callable[[Tensor, Tensor], Tensor], X: Tensor, y: Tensor, advance: Advance = None
) -> Tensor:
    """`function(X, y)`, which treats each image by itself, a chunk of images at a time.

    advance: told the number of images after each chunk.
    """
    results = []
    for some, classes in chunks_of(X, y):
        results.append(function(some, classes))
        if advance is not None:
            advance(len(some))
    return torch.cat(results)
