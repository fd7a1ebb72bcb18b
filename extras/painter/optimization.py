"""The painter: neural style transfer from coarse to fine, with losses relative to their targets.

Gatys, Ecker and Bethge (2016) optimize the pixels of a picture at one size. The painter starts at a small size and
carries the result to the next one (Gatys et al., 2017, "Controlling Perceptual Factors"). The network sees about 200
pixels at once, so large forms are painted at the small sizes, where a step is cheap, and brush strokes at the large.
"""

import math
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor

from extras.painter.losses import total_variation
from extras.painter.moments import MatchedMoments
from extras.painter.network import HISTORY, FeatureNet
from extras.painter.pixels import (
    Size,
    from_pyramid,
    luminance,
    map_size,
    match_luminance,
    pyramid,
    resize,
    with_luminance,
)
from extras.painter.regions import WHOLE, Regions
from extras.painter.schedule import MIN_SIDE, Schedule
from extras.painter.settings import StyleSettings
from extras.painter.transport import Transport
from helpers.errors import CannotError

LOSSES: dict[str, type[MatchedMoments] | type[Transport]] = {
    "moments": MatchedMoments,
    "transport": Transport,
}
LOSS_SCALE = 1000.0  # torch.optim.LBFGS ignores curvature below 1e-10; a loss of about 1000 stays above that
DIVERGED = 2.0  # times the best loss of this scale
MAX_RESTARTS = 8
ADAM_RATE, ADAM_LEVELS = 0.02, 5
ADAM_END = 0.15  # what is left of the rate at the end of a scale
OTHER_TERMS = ("content", "similarity", "transport", "tv", "range")  # those that are not of one style layer


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
        """The style loss: the sum of its terms."""
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
    optimizer: str | None = None,
    regions: Regions = WHOLE,
    watch: bool = False,
    targets: MutableMapping[Size, Any] | None = None,
) -> Iterator[Progress]:
    """Paints `content` like `styles`; yields a record after every step. The last record has the result.

    content (1, 3, H, W) and styles, each (1, 3, H', W'), are in [0, 1] at any size. `schedule` says which scales to
    paint, and when to go on to the next. shares: how much each style counts; they sum to 1. start: the first picture.
    The default is `content` with noise from torch's generator; without noise, blurred regions would stay as they are,
    because all their gradients are small. keep_colors: only the luminance is painted, colours stay those of the
    content. optimizer: "lbfgs" or "adam"; by default L-BFGS, and Adam for a loss that is drawn at random in every step.
    regions: what is painted, and like what. watch: every few steps, also find the gradient of each term of the loss
    (slow). targets: keeps what is computed from the styles, for the next call with the same ones.

    After a step with a loss that is not finite, or twice the best one, the best picture comes back and the optimizer
    starts again with half the rate.
    """
    if keep_colors:
        styles = [match_luminance(luminance(style), luminance(content)) for style in styles]
    loss, targets = LOSSES[settings.loss], {} if targets is None else targets
    picture = content if start is None else start
    while (size := schedule.next_scale()) is not None:
        photo = resize(content, size)
        visible = luminance(photo) if keep_colors else photo
        if size not in targets:
            sizes = [style_size(*map_size(style), size, settings.style_scale) for style in styles]
            smaller = [resize(style, shown).clamp(0, 1) for style, shown in zip(styles, sizes, strict=True)]
            with torch.no_grad():
                targets[size] = loss.target_of(net, smaller, shares, settings, regions)
        objective: MatchedMoments | Transport = loss(net, visible, targets[size], settings, regions)
        x = resize(picture, size)
        if picture is content:
            x = x + settings.noise * torch.randn_like(x)
        x = (luminance(x) if keep_colors else x).clamp(0, 1).contiguous()
        painted = regions.painted(size)  # None: everything is
        keep = None if painted is None else (painted == 0, visible)
        for progress in _descend(objective, x, settings, schedule, optimizer, keep, watch):
            best = progress.picture
            picture = with_luminance(photo, best) if keep_colors else best.clamp(0, 1)
            if painted is not None:
                picture = photo + painted * (picture - photo)
            yield replace(progress, picture=picture)


def _descend(
    objective: MatchedMoments | Transport,
    x: Tensor,
    settings: StyleSettings,
    schedule: Schedule,
    optimizer: str | None,
    keep: tuple[Tensor, Tensor] | None,
    watch: bool,
) -> Iterator[Progress]:
    """The steps at one scale, from x. The records' `picture` is the best one so far, not clamped.

    keep: where pixels stay what they are in the photo, and the photo.
    """
    optimizer = optimizer or ("adam" if objective.resampled else "lbfgs")
    rate, restarts, step = 1.0, 0, 0
    best, best_loss = x.detach().clone(), math.inf
    parts = [part.requires_grad_() for part in pyramid(x, ADAM_LEVELS if optimizer == "adam" else 1)]
    descent = _optimizer(optimizer, parts, rate)
    while schedule.go_on():
        x = from_pyramid(parts)
        if keep:
            x = torch.where(*keep, x)
        terms = objective(x)
        terms["tv"] = settings.tv_weight * total_variation(x)
        terms["range"] = settings.range_weight * (x - x.clamp(0, 1)).square().mean()
        loss = reduce(add, terms.values())
        shares = gradient_shares(terms, parts) if watch and step % 10 == 0 else {}
        descent.zero_grad()
        (LOSS_SCALE * loss).backward()
        value = loss.item()
        if step == 0 and not math.isfinite(value):
            name = next((name for name, term in terms.items() if not term.isfinite()), "sum")
            raise CannotError(
                f"the loss {name} is not finite from the first step on: choose a --strength nearer to 1"
            )
        # The losses of resampled places cannot be compared: then the latest is the best.
        if value < best_loss or (objective.resampled and math.isfinite(value)):
            best, best_loss = x.detach().clone(), value
        step += 1
        schedule.stepped()
        values = {name: term.item() for name, term in terms.items()}
        yield Progress(schedule.scale, (x.shape[2], x.shape[3]), step, value, values, best, shares)
        if optimizer == "adam":
            left = 1 - schedule.share_done()
            descent.param_groups[0]["lr"] = rate * ADAM_RATE * (ADAM_END + (1 - ADAM_END) * left)
        # The type hints do not see that backward has filled the gradients.
        if value <= DIVERGED * best_loss and all(part.grad.isfinite().all() for part in parts):  # type: ignore
            descent.step(lambda: value)  # noqa: B023  called at once
            continue
        restarts += 1
        if restarts > MAX_RESTARTS:
            return
        rate /= 2
        for part, value_of_best in zip(parts, pyramid(best, len(parts)), strict=True):
            part.data.copy_(value_of_best)
        descent = _optimizer(optimizer, parts, rate)


def _optimizer(name: str, parts: list[Tensor], rate: float) -> torch.optim.Optimizer:
    if name == "adam":
        return torch.optim.Adam(parts, lr=ADAM_RATE * rate, betas=(0.9, 0.99))
    # One evaluation per step. A tolerance of -1 is never reached.
    return torch.optim.LBFGS(
        parts, lr=rate, max_iter=1, history_size=HISTORY, tolerance_grad=-1, tolerance_change=-1
    )


def style_size(height: int, width: int, size: Size, style_scale: float) -> Size:
    """The size of a painting of height x width beside a picture of `size`: about as many pixels, times the square of
    `style_scale`, but never enlarged.
    """
    ratio = min(1.0, style_scale * math.sqrt(size[0] * size[1] / (height * width)))
    return max(MIN_SIDE, round(height * ratio)), max(MIN_SIDE, round(width * ratio))


def gradient_shares(terms: Mapping[str, Tensor], parts: Sequence[Tensor]) -> dict[str, float]:
    """How much each term moves the picture: <g_l, g> / <g, g> with g_l the term's gradient and g the sum of all.

    The shares sum to 1. A negative share belongs to a term that the others work against.
    """
    gradients = {}
    for name, term in terms.items():
        found = torch.autograd.grad(term, parts, retain_graph=True, materialize_grads=True)
        gradients[name] = torch.cat([part.flatten().double() for part in found])
    total = reduce(add, gradients.values())
    return {name: float((g * total).sum() / (total * total).sum()) for name, g in gradients.items()}
