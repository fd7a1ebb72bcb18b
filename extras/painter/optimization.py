"""The painter: neural style transfer from coarse to fine, with losses relative to their targets.

Gatys, Ecker and Bethge (2016) optimize the pixels of a picture at one size. The painter starts at a small size and
carries the result to the next one (Gatys et al., 2017, "Controlling Perceptual Factors"). The network sees about 200
pixels at once, so large forms are painted at the small sizes, where a step is cheap, and brush strokes at the large.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extras.painter.losses import (
    at_least_float32,
    blended_gram,
    gram,
    relative_error,
    style_terms,
    total_variation,
)
from extras.painter.schedule import MIN_SIDE, Schedule, Size
from helpers.errors import CannotError
from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD
from helpers.memory import ALLOCATED, activations

LOSS_SCALE = 1000.0  # torch.optim.LBFGS ignores curvature below 1e-10; a loss of about 1000 stays above that
HISTORY = 15
DIVERGED = 2.0  # times the best loss of this scale
MAX_RESTARTS = 8
OTHER_TERMS = ("content", "tv", "range")  # the terms of the loss that are not style layers


class FeatureNet(nn.Module):
    """A copy of a network's layers up to the deepest one used.

    Its input is in [0, 1]. The first convolution repeats the picture's border, because zeros would frame it in grey.
    Convolutions compute in `dtype`, only the picture gets a gradient, and memory is laid out channels last.
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
                    # In place, unless it would overwrite a layer's output that is itself used.
                    module.inplace = part is not module or i - 1 not in self.wanted
        self.parts = nn.ModuleList(parts).eval().requires_grad_(False)
        # torch accepts both at once; its type hints do not.
        self.parts.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype
        for name, value in (("mean", SQUEEZENET_MEAN), ("std", SQUEEZENET_STD)):
            channels = torch.as_tensor(value).to(first.weight.device, at_least_float32(dtype))
            self.register_buffer(name, channels.view(1, 3, 1, 1), persistent=False)

    def forward(self, img: Tensor) -> dict[str, Tensor]:
        """img (1, 1 or 3, H, W) in [0, 1] -> the features (1, C, H', W') of the wanted layers, by name."""
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
    range_weight: float = 10.0  # of the mean squared amount by which pixels leave [0, 1]
    strength: float = 1.0  # divides the content's weight
    noise: float = 0.15  # standard deviation of the noise added to the content image at the start
    style_scale: float = 1.0  # size of the painting relative to the picture: smaller gives finer strokes


def settings_for(cnn: nn.Sequential, strength: float = 1.0, style_scale: float = 1.0) -> StyleSettings:
    """The layers to use of a network, found by their names. Raises ValueError for a network without such layers.

    VGG and AlexNet-like networks: the first ReLU of every block, and relu4_2 for the content. SqueezeNet: its fire
    modules, where a strength of 1 looks as it does with VGG-16.
    """
    names = layer_names(cnn)
    if "fire9" in names:
        chosen, content = ["relu1_1", *(f"fire{k}" for k in range(2, 8))], "fire4"
    else:
        chosen, content = [f"relu{b}_1" for b in range(1, 6) if f"relu{b}_1" in names], "relu4_2"
        if len(chosen) < 3 or content not in names:
            raise ValueError("the painter knows no layers of this network")
    style_layers = tuple(names.index(name) for name in chosen)
    return StyleSettings(style_layers, names.index(content), strength=strength, style_scale=style_scale)


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where convolutions are faster in it, else float32. The losses differ by less than 1 %."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    # Only AMX makes it worthwhile: with AVX-512's bfloat16 instructions alone, convolutions took 1.4 to 1.8 times as
    # long as in float32.
    fast = device.type == "cpu" and getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return torch.bfloat16 if fast else torch.float32


def bytes_per_pixel(net: FeatureNet, channels: int = 3) -> float:
    """An estimate of the memory of a step, per pixel of the picture: kept activations, the temporary tensors of the
    largest layer, and the vectors of L-BFGS.
    """
    return activations(net).step + ALLOCATED * (2 * HISTORY + 16) * channels * 4


def bytes_per_style_pixel(net: FeatureNet) -> float:
    """An estimate of the memory of a style's Gram matrices, per pixel of the resized style: three outputs of the size
    of the largest layer's.
    """
    return ALLOCATED * (3 * net.dtype.itemsize * activations(net).largest + 24)


def style_size(height: int, width: int, size: Size, style_scale: float) -> Size:
    """The size of a painting of height x width beside a picture of `size`: about as many pixels, times the square of
    `style_scale`, but never enlarged.
    """
    ratio = min(1.0, style_scale * math.sqrt(size[0] * size[1] / (height * width)))
    return max(MIN_SIDE, round(height * ratio)), max(MIN_SIDE, round(width * ratio))


@dataclass(frozen=True)
class Progress:
    """The state after a step: where it is, the loss, and the best picture of this scale."""

    scale: int
    size: Size
    step: int
    loss: float
    terms: Mapping[str, float]  # the weighted terms of the loss: style layers by name, then OTHER_TERMS
    picture: Tensor  # (1, 3, H, W) in [0, 1]
    shares: Mapping[str, float] = field(default_factory=dict)  # of the gradient, by term; they sum to 1

    @property
    def style(self) -> float:
        """The style loss: the mean relative error of the Gram matrices."""
        return sum(value for name, value in self.terms.items() if name not in OTHER_TERMS)


def paint(
    net: FeatureNet,
    content: Tensor,
    styles: Sequence[Tensor],
    schedule: Schedule,
    settings: StyleSettings,
    *,
    shares: Sequence[float] = (1.0,),
    start: Tensor | None = None,
    keep_colors: bool = False,
    optimizer: str = "lbfgs",
    watch: bool = False,
) -> Iterator[Progress]:
    """Paints `content` like `styles`; yields a record after every step. The last record has the result.

    content (1, 3, H, W) and styles, each (1, 3, H', W'), are in [0, 1] at any size. `schedule` says which scales to
    paint, and when to go on to the next. shares: how much each style counts; they sum to 1. start: the first picture.
    The default is `content` with noise from torch's generator; without noise, blurred regions would stay as they are,
    because all their gradients are small. keep_colors: only the luminance is painted, colours stay those of the
    content. watch: every few steps, also find the gradient of each term of the loss (slow).

    After a step with a loss that is not finite, or twice the best one, the best picture comes back and the optimizer
    starts again with half the rate.
    """
    if keep_colors:
        styles = [match_luminance(luminance(style), luminance(content)) for style in styles]
    picture = content if start is None else start
    while (size := schedule.next_scale()) is not None:
        target = resize(content, size)
        with torch.no_grad():
            features = net(luminance(target) if keep_colors else target)
            content_target = features[net.wanted[settings.content_layer]].clone()
            grams = [style_grams(net, style, size, settings) for style in styles]
        style_targets = {name: blended_gram([g[name] for g in grams], shares) for name in grams[0]}
        x = resize(picture, size)
        if picture is content:
            x = x + settings.noise * torch.randn_like(x)
        x = (luminance(x) if keep_colors else x).clamp(0, 1).contiguous().requires_grad_()
        for progress in _descend(net, x, content_target, style_targets, settings, schedule, optimizer, watch):
            best = progress.picture
            picture = with_luminance(target, best) if keep_colors else best.clamp(0, 1)
            yield replace(progress, picture=picture)


def _descend(
    net: FeatureNet,
    x: Tensor,
    content_target: Tensor,
    style_targets: Mapping[str, Tensor],
    settings: StyleSettings,
    schedule: Schedule,
    optimizer: str,
    watch: bool,
) -> Iterator[Progress]:
    """The steps at one scale. The records' `picture` is the best x so far, not clamped."""
    content_name = net.wanted[settings.content_layer]
    rate, restarts, step = 1.0, 0, 0
    best, best_loss = x.detach().clone(), math.inf
    descent = _optimizer(optimizer, x, rate)
    while schedule.go_on():
        features = net(x)
        terms = style_terms(features, style_targets)
        error = relative_error(features[content_name], content_target)
        terms["content"] = settings.content_weight / settings.strength * error
        terms["tv"] = settings.tv_weight * total_variation(x)
        terms["range"] = settings.range_weight * (x - x.clamp(0, 1)).square().mean()
        loss = reduce(add, terms.values())
        shares = gradient_shares(terms, x) if watch and step % 10 == 0 else {}
        x.grad = None
        (LOSS_SCALE * loss).backward()
        value = loss.item()
        if step == 0 and not math.isfinite(value):
            name = next((name for name, term in terms.items() if not term.isfinite()), "sum")
            raise CannotError(
                f"the loss {name} is not finite from the first step on: choose a --strength nearer to 1"
            )
        if value < best_loss:
            best, best_loss = x.detach().clone(), value
        step += 1
        schedule.stepped()
        values = {name: term.item() for name, term in terms.items()}
        yield Progress(schedule.scale, (x.shape[2], x.shape[3]), step, value, values, best, shares)
        # The type hints do not see that backward has filled x.grad.
        if value <= DIVERGED * best_loss and x.grad.isfinite().all():  # type: ignore[attr-defined]
            descent.step(lambda: value)  # noqa: B023  called at once
            continue
        restarts += 1
        if restarts > MAX_RESTARTS:
            return
        rate /= 2
        x.data.copy_(best)
        descent = _optimizer(optimizer, x, rate)


def _optimizer(name: str, x: Tensor, rate: float) -> torch.optim.Optimizer:
    if name == "adam":
        return torch.optim.Adam([x], lr=0.02 * rate, betas=(0.9, 0.99))
    # One evaluation per step. A tolerance of -1 is never reached.
    return torch.optim.LBFGS(
        [x], lr=rate, max_iter=1, history_size=HISTORY, tolerance_grad=-1, tolerance_change=-1
    )


def style_grams(net: FeatureNet, style: Tensor, size: Size, settings: StyleSettings) -> dict[str, Tensor]:
    """The Gram matrices of a painting, resized to its `style_size`."""
    small = resize(style, style_size(style.shape[2], style.shape[3], size, settings.style_scale))
    features = net(small.clamp(0, 1))
    return {net.wanted[layer]: gram(features[net.wanted[layer]]) for layer in settings.style_layers}


def gradient_shares(terms: Mapping[str, Tensor], x: Tensor) -> dict[str, float]:
    """How much each term moves the picture: <g_l, g> / <g, g> with g_l the term's gradient and g the sum of all.

    The shares sum to 1. A negative share belongs to a term that the others work against.
    """
    gradients = {
        name: torch.autograd.grad(term, x, retain_graph=True)[0].double() for name, term in terms.items()
    }
    total = reduce(add, gradients.values())
    return {name: float((g * total).sum() / (total * total).sum()) for name, g in gradients.items()}


def resize(img: Tensor, size: Size) -> Tensor:
    """(1, C, H, W) to `size`: bicubic, antialiased where it gets smaller."""
    if tuple(img.shape[2:]) == tuple(size):
        return img
    return F.interpolate(img, size=tuple(size), mode="bicubic", antialias=True)


def luminance(img: Tensor) -> Tensor:
    """Y = 0.299 R + 0.587 G + 0.114 B (BT.601, as JPEG has it): (1, 3, H, W) -> (1, 1, H, W)."""
    return (img * img.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def with_luminance(img: Tensor, Y: Tensor) -> Tensor:
    """`img` (1, 3, H, W) in [0, 1] with the luminance Y (1, 1, H, W), as far as its colours allow.

    The same amount is added to R, G and B, which leaves Cb and Cr as they were. It is limited where one of the three
    would leave [0, 1].
    """
    change = Y - luminance(img)
    lowest, highest = img.amin(dim=1, keepdim=True), img.amax(dim=1, keepdim=True)
    return (img + change.clamp(-lowest, 1 - highest)).clamp(0, 1)


def match_luminance(Y: Tensor, like: Tensor) -> Tensor:
    """Y with the mean and the standard deviation of `like`, so that a dark painting does not darken the picture."""
    return (Y - Y.mean()) * (like.std() / Y.std().clamp_min(1e-6)) + like.mean()
