"""The painter: neural style transfer from coarse to fine, with losses relative to their targets.

Gatys, Ecker and Bethge (2016) optimize a picture's pixels at one size. Doing so at a small size first, and
carrying the result to the next one (Gatys et al., 2017, "Controlling Perceptual Factors"), lets the network,
whose view is some 200 pixels wide, lay out large forms while steps are cheap, and leaves brush strokes to
the fine scales.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD
from extras.painter.schedule import Schedule, Size
from extras.painter.losses import blended_gram, gram, relative_error, style_terms, total_variation

# Curvature pairs of opposite sign are dropped below 1e-10 (torch.optim.LBFGS): a loss of about 1000 is clear of that.
LOSS_SCALE = 1000.0
HISTORY = 15
DIVERGED = 2.0  # times the best loss of this scale
MAX_RESTARTS = 8
ALLOCATED = 2.2  # bytes the process takes for each that is asked for, as measured (1.8)
OTHERS = ("content", "tv", "range")  # the terms of the loss that are not style layers


class FeatureNet(nn.Module):
    """The layers of a network up to the deepest one used, in a copy made for speed.

    Pixels go in as [0, 1]. The first convolution repeats the picture's border instead of framing it in black;
    convolutions work in `dtype`; nothing but the picture gets a gradient; memory is laid out channels last.
    """

    mean: Tensor  # (1, 3, 1, 1), as std is
    std: Tensor

    def __init__(self, cnn: nn.Sequential, layers: Sequence[int], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        names = layer_names(cnn)
        self.wanted = {layer: names[layer] for layer in sorted(set(layers))}
        parts = [copy.deepcopy(child) for child in list(cnn.children())[: max(layers) + 1]]
        first = next(module for module in nn.Sequential(*parts).modules() if isinstance(module, nn.Conv2d))
        self.border = int(first.padding[0])
        first.padding = (0, 0)
        for i, part in enumerate(parts):
            for module in part.modules():
                if isinstance(module, nn.ReLU):
                    # In place wherever what it overwrites is not itself asked for.
                    module.inplace = part is not module or i - 1 not in self.wanted
        self.parts = nn.ModuleList(parts).eval().requires_grad_(False)
        # torch takes both at once, its types do not know.
        self.parts.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype
        weight = first.weight
        at_least_float = torch.promote_types(dtype, torch.float32)
        for name, value in (("mean", SQUEEZENET_MEAN), ("std", SQUEEZENET_STD)):
            self.register_buffer(
                name, value.to(weight.device, at_least_float).view(1, 3, 1, 1), persistent=False
            )

    def forward(self, img: Tensor) -> dict[str, Tensor]:
        """img (1, 3, H, W) in [0, 1] -> the wanted layers' features (1, C, H', W') by name."""
        x = (img - self.mean) / self.std
        if self.border:
            x = F.pad(x, (self.border,) * 4, mode="replicate")
        x = x.to(self.dtype, memory_format=torch.channels_last)
        features = {}
        for i, part in enumerate(self.parts):
            x = part(x)
            if i in self.wanted:
                features[self.wanted[i]] = x
        return features


def layer_names(cnn: nn.Sequential) -> list[str]:
    """The usual name of each child: relu3_1 and pool3 in a plain network (VGG), fire2 and so on in SqueezeNet."""
    names, block, place, fires = [], 1, 0, 1
    for child in cnn.children():
        kind = type(child).__name__.lower()
        if isinstance(child, nn.Conv2d):
            place += 1
            names.append(f"conv{block}_{place}")
        elif isinstance(child, nn.ReLU):
            names.append(f"relu{block}_{place}")
        elif isinstance(child, nn.MaxPool2d | nn.AvgPool2d):
            names.append(f"pool{block}")
            block, place = block + 1, 0
        elif kind == "fire":
            fires += 1
            names.append(f"fire{fires}")
        else:
            names.append(f"{kind}{len(names)}")
    return names


@dataclass(frozen=True)
class StyleSettings:
    """What is matched, and how strongly. Defaults are VGG-16's; `settings_for` knows others."""

    style_layers: tuple[int, ...] = (1, 6, 11, 18, 25)  # relu1_1 .. relu5_1
    content_layer: int = 20  # relu4_2
    content_weight: float = 0.15
    tv_weight: float = 0.3
    range_weight: float = 10.0  # on the mean square of what leaves [0, 1], which is cut off in the end
    strength: float = 1.0  # divides the content's weight
    noise: float = 0.15  # deviation of what is added to the content to start from
    style_scale: float = 1.0  # the painting's size over the picture's: smaller gives finer strokes


def settings_for(cnn: nn.Sequential, strength: float = 1.0, style_scale: float = 1.0) -> StyleSettings:
    """The layers and weights for a network, known by its layers' names. Raises ValueError where it has none
    of them.

    A plain network is seen at the first ReLU of every block, its content at relu4_2; SqueezeNet at
    its fires, with weights that give strength 1 the look it has with VGG-16.
    """
    names = layer_names(cnn)
    if "fire9" in names:
        chosen = ("relu1_1", "fire2", "fire3", "fire4", "fire5", "fire6", "fire7")
        style_layers = tuple(names.index(name) for name in chosen)
        return StyleSettings(style_layers, names.index("fire4"), strength=strength, style_scale=style_scale)
    style_layers = tuple(names.index(f"relu{b}_1") for b in range(1, 6) if f"relu{b}_1" in names)
    if len(style_layers) < 3 or "relu4_2" not in names:
        raise ValueError("the painter knows no layers of it")
    return StyleSettings(style_layers, names.index("relu4_2"), strength=strength, style_scale=style_scale)


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where convolutions are faster in it, else float32.

    Its eight bits of precision suffice for features (the losses differ by less than 1 %); the losses
    themselves are computed in float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    # Elsewhere oneDNN would accept it too, and emulate it slowly.
    tests = (
        getattr(torch.cpu, name, lambda: False)
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    fast = device.type == "cpu" and any(test() for test in tests)
    return torch.bfloat16 if fast else torch.float32


def bytes_per_pixel(net: FeatureNet, channels: int = 3, history: int = HISTORY) -> float:
    """An estimate of what a step needs, per pixel of the picture: kept activations, the largest layer's
    temporaries, and the optimizer's pairs of vectors.
    """
    side = 64
    kept, largest = 0, 0

    def count(module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        nonlocal kept, largest
        elements = output.numel()
        largest = max(largest, elements)
        if not getattr(module, "inplace", False):
            # Max pooling keeps a 64-bit index for each value.
            kept += elements * (output.element_size() + 8 * isinstance(module, nn.MaxPool2d))

    leaves = [module for module in net.parts.modules() if not list(module.children())]
    handles = [module.register_forward_hook(count) for module in leaves]
    try:
        with torch.no_grad():
            device = net.mean.device
            net(torch.zeros(1, 3, side, side, device=device))
    finally:
        for handle in handles:
            handle.remove()
    # The Gram product of the largest layer holds it in float32, with its gradient, beside the network's own.
    temporary = 12 * largest
    vectors = (2 * history + 16) * channels * 4
    return ALLOCATED * ((kept + temporary) / side**2 + vectors)


@dataclass(frozen=True)
class Progress:
    """After a step: where it is, what it costs, and the best picture of this scale."""

    scale: int
    size: Size
    step: int
    loss: float
    terms: Mapping[str, float]  # each layer's share of the loss, weighted: style layers by name, then OTHERS
    picture: Tensor  # (1, 3, H, W) in [0, 1]
    shares: Mapping[str, float] = field(default_factory=dict)  # of the gradient; sum to 1

    @property
    def style(self) -> float:
        """The style loss: the mean relative error of the Gram matrices."""
        return sum(value for name, value in self.terms.items() if name not in OTHERS)


def paint(
    net: FeatureNet,
    content: Tensor,
    styles: Sequence[Tensor],
    schedule: Schedule,
    look: StyleSettings,
    *,
    shares: Sequence[float] = (1.0,),
    start: Tensor | None = None,
    keep_colors: bool = False,
    optimizer: str = "lbfgs",
    watch: bool = False,
) -> Iterator[Progress]:
    """Paints `content` like `styles`; yields a record after every step, the last one holding the result.

    content (1, 3, H, W) and styles, each (1, 3, H', W'), are in [0, 1] at any size; `schedule` says at which
    scales to paint and when to go on. shares: how much each style counts, summing to 1. start: the first
    picture; by default `content` with noise (of torch's generator), without which blurred regions, where all
    gradients are small, stay as they are. keep_colors: only the luminance is painted, the rest is the content's.
    watch: every few steps, also work out which loss term moves the picture (costly).

    A step whose loss is not finite, or that has doubled the best loss, is undone: the best picture comes back
    and the optimizer starts anew with half the rate.
    """
    if keep_colors:
        styles = [match_luminance(luminance(style), luminance(content)) for style in styles]
    picture = content if start is None else start
    while (size := schedule.next_scale()) is not None:
        target = resize(content, size)
        seen = luminance(target) if keep_colors else target
        with torch.no_grad():
            wanted = net(rgb(seen))[net.wanted[look.content_layer]].clone()
            grams = [style_grams(net, style, size, look) for style in styles]
        style_targets = {
            name: blended_gram([matrices[name] for matrices in grams], shares) for name in grams[0]
        }
        x = resize(picture, size)
        if picture is content:
            x = x + look.noise * torch.randn_like(x)
        x = (luminance(x) if keep_colors else x).clamp(0, 1).contiguous().requires_grad_()
        for progress in _descend(net, x, wanted, style_targets, look, schedule, optimizer, watch):
            shown = with_luminance(target, progress.picture) if keep_colors else progress.picture.clamp(0, 1)
            picture = shown
            yield Progress(**{**vars(progress), "picture": shown})


def _descend(
    net: FeatureNet,
    x: Tensor,
    content_target: Tensor,
    style_targets: Mapping[str, Tensor],
    look: StyleSettings,
    schedule: Schedule,
    optimizer: str,
    watch: bool,
) -> Iterator[Progress]:
    """The steps of one scale; `picture` is the best x so far, as it is."""
    content_name = net.wanted[look.content_layer]
    rate, restarts, step = 1.0, 0, 0
    best, best_loss = x.detach().clone(), math.inf
    descent = _optimizer(optimizer, x, rate)
    while schedule.go_on():
        features = net(rgb(x))
        terms = style_terms(features, style_targets)
        error = relative_error(features[content_name], content_target)
        terms["content"] = look.content_weight / look.strength * error
        terms["tv"] = look.tv_weight * total_variation(x)
        terms["range"] = look.range_weight * (x - x.clamp(0, 1)).square().mean()
        loss = reduce(add, terms.values())
        shares: dict[str, float] = {}
        if watch and step % 10 == 0:
            shares = gradient_shares(terms, x)
        x.grad = None
        (LOSS_SCALE * loss).backward()
        value = loss.item()
        if value < best_loss:
            best, best_loss = x.detach().clone(), value
        step += 1
        schedule.stepped()
        yield Progress(
            schedule.scale,
            (x.shape[2], x.shape[3]),
            step,
            value,
            {name: term.item() for name, term in terms.items()},
            best,
            shares,
        )
        # The types do not see that backward has filled x.grad.
        if not value <= DIVERGED * best_loss or not x.grad.isfinite().all():  # type: ignore[attr-defined]
            restarts += 1
            if restarts > MAX_RESTARTS:
                return
            rate /= 2
            x.data.copy_(best)
            descent = _optimizer(optimizer, x, rate)
            continue
        descent.step(lambda: value)  # noqa: B023  called at once


def _optimizer(name: str, x: Tensor, rate: float) -> torch.optim.Optimizer:
    if name == "adam":
        return torch.optim.Adam([x], lr=0.02 * rate, betas=(0.9, 0.99))
    # One evaluation a step; a tolerance of -1 is never reached.
    return torch.optim.LBFGS(
        [x], lr=rate, max_iter=1, history_size=HISTORY, tolerance_grad=-1, tolerance_change=-1
    )


def style_grams(net: FeatureNet, style: Tensor, size: Size, look: StyleSettings) -> dict[str, Tensor]:
    """The Gram matrices of a painting, brought to about as many pixels as `size` has, never enlarged."""
    height, width = style.shape[2:]
    ratio = min(1.0, look.style_scale * math.sqrt(size[0] * size[1] / (height * width)))
    small = resize(style, (max(32, round(height * ratio)), max(32, round(width * ratio))))
    features = net(rgb(small.clamp(0, 1)))
    return {net.wanted[layer]: gram(features[net.wanted[layer]]) for layer in look.style_layers}


def gradient_shares(terms: Mapping[str, Tensor], x: Tensor) -> dict[str, float]:
    """Who is painting? <g_l, g> / <g, g> for each term's gradient g_l, g being their sum; the shares sum to 1.

    A negative share is a term that the others push against.
    """
    gradients = {
        name: torch.autograd.grad(term, x, retain_graph=True)[0].double() for name, term in terms.items()
    }
    total = reduce(add, gradients.values())
    return {name: float((g * total).sum() / (total * total).sum()) for name, g in gradients.items()}


def resize(img: Tensor, size: Size) -> Tensor:
    """(1, C, H, W) to `size`, bicubic, antialiased where it gets smaller."""
    if tuple(img.shape[2:]) == tuple(size):
        return img
    return F.interpolate(img, size=tuple(size), mode="bicubic", antialias=True)


def rgb(img: Tensor) -> Tensor:
    """One channel as three equal ones; three as they are."""
    return img.expand(-1, 3, -1, -1)


def luminance(img: Tensor) -> Tensor:
    """Y = 0.299 R + 0.587 G + 0.114 B (BT.601, as JPEG has it): (1, 3, H, W) -> (1, 1, H, W)."""
    return (img * img.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def with_luminance(img: Tensor, Y: Tensor) -> Tensor:
    """`img` (1, 3, H, W) in [0, 1] with luminance Y (1, 1, H, W), as far as its colours allow.

    The same amount on each of R, G and B leaves Cb and Cr as they were; it is cut where one of them would leave [0, 1].
    """
    change = Y - luminance(img)
    lowest, highest = img.amin(dim=1, keepdim=True), img.amax(dim=1, keepdim=True)
    return (img + change.clamp(-lowest, 1 - highest)).clamp(0, 1)


def match_luminance(Y: Tensor, like: Tensor) -> Tensor:
    """Y with the mean and the deviation of `like`, so that a dark painting does not darken the picture."""
    return (Y - Y.mean()) * (like.std() / Y.std().clamp_min(1e-6)) + like.mean()
