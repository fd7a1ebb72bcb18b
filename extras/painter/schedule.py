"""The sizes at which a picture is painted, one after another, and the steps that each of them gets."""

import math
import time
from collections.abc import Callable, Sequence

from extras.painter.pixels import Size

COARSEST, SHORTEST = 128, 96  # the least longer and shorter side of the first scale, in pixels
MIN_SIDE = 32  # of the picture's shorter side: the fifth block of VGG still has 2 x 2 positions
STEPS, FIRST_STEPS, MAX_STEPS = 60, 150, 250  # at the finest scale, at the first, at any
# By the clock: the fewest steps at the first scale, at the finest, at those between. Fewer at the first leave a photo
# without a composition, fewer at the finest leave noise; a scale that would get fewer is left out.
MIN_FIRST, MIN_FINEST, MIN_STEPS = 40, 25, 8


def scales_of(size: Size) -> list[Size]:
    """Sizes from coarse to fine, a factor of about sqrt(2) apart, ending with `size` (H, W).

    The longer side starts at COARSEST, or larger, so that the shorter one has SHORTEST pixels: fewer hold no form.
    """
    start = max(COARSEST, math.ceil(SHORTEST * max(size) / min(size)))
    count = max(0, round(2 * math.log2(max(size) / start)))
    ratio = (max(size) / start) ** (1 / count) if count else 1.0
    return [(round(size[0] / ratio**k), round(size[1] / ratio**k)) for k in range(count, -1, -1)]


def steps_of(scales: Sequence[Size], steps: int | None = None) -> list[int]:
    """The steps of each scale: `steps` at the finest, and more at coarser ones, in inverse proportion to the side.

    The time of a step is proportional to its pixels, so each scale takes about sqrt(2) times as long as the one
    before. The first scale finds the composition: by default it gets at least FIRST_STEPS.
    """
    finest = max(scales[-1])
    counts = [min(MAX_STEPS, round((steps or STEPS) * finest / max(scale))) for scale in scales]
    if steps is None:
        counts[0] = max(counts[0], FIRST_STEPS)
    return [max(steps or 0, count) for count in counts]


class Schedule:
    """Decides at which scale to paint, and when to go on to the next: by counting steps, or by the clock.

    deadline: by the clock, a time of `clock`. The seconds that steps have taken so far then decide which scales fit;
    the finest one matters more than those in between, and the fewest steps of each more than its size. Each gets the
    share of the time that `steps_of` would give it, and the last one is painted until the deadline.
    """

    def __init__(
        self,
        scales: Sequence[Size],
        steps: int | Sequence[int] | None = None,
        *,
        deadline: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scales = list(scales)
        self.steps = list(steps) if isinstance(steps, Sequence) else steps_of(scales, steps)
        self.done = [0] * len(self.scales)
        self.scale = -1
        self.deadline, self.clock = deadline, clock
        self.seconds_per_pixel = 0.0  # of the latest steps
        self._start = self._began = self._until = 0.0

    def next_scale(self) -> Size | None:
        """The size to paint at next; None where the painting is done."""
        route = self._route() if self.scale >= 0 else [0]
        if not route:
            return None
        self.scale = route[0]
        self._start = self._began = self._until = self.clock()
        return self.scales[self.scale]

    def stepped(self) -> None:
        """Counts a step and measures its time."""
        self.done[self.scale] += 1
        now = self.clock()
        pace = (now - self._began) / math.prod(self.scales[self.scale])
        self._began = now
        # The time of the first step of a scale includes that of its targets.
        if self.done[self.scale] == 2 or not self.seconds_per_pixel:
            self.seconds_per_pixel = pace
        elif self.done[self.scale] > 2:
            self.seconds_per_pixel += 0.2 * (pace - self.seconds_per_pixel)

    def go_on(self) -> bool:
        """Is there another step at this scale?"""
        if self.deadline is None:
            return self.done[self.scale] < self.steps[self.scale]
        if self.done[self.scale] < 2:
            return self.done[self.scale] < 1 or self.clock() < self.deadline
        if self.done[self.scale] == 2:  # the time of a step at this scale is known from here on
            self._until = self._share_ends(self.deadline)
        elif self.clock() >= self._until and not self._route():
            self._until = self.deadline
        return self.clock() + self._cost(self.scale) / 2 < self._until

    def share_done(self) -> float:
        """How much of the present scale is done, from 0 to 1."""
        if self.deadline is None:
            return self.done[self.scale] / max(1, self.steps[self.scale])
        if self.done[self.scale] < 3 or self._until <= self._start:  # its end is not planned yet
            return 0.0
        return min(1.0, (self.clock() - self._start) / (self._until - self._start))

    def done_by(self, scale: int, step: int) -> list[int]:
        """The steps of each scale up to step `step` of `scale`: counting them paints the same picture."""
        return [*self.done[:scale], step, *[0] * (len(self.scales) - scale - 1)]

    def _route(self) -> list[int]:
        """The scales still to come. By the clock: all of them if there is time for the fewest steps of each, else every
        second one, every third one, and so on, always with the finest. If there is no time for that, the same up to
        a smaller size.
        """
        coming = range(self.scale + 1, len(self.scales))
        if self.deadline is None or not coming:
            return list(coming)
        left = self.deadline - self.clock()
        if self.scale == 0:
            left -= max(0, MIN_FIRST - self.done[0]) * self._cost(0)
        routes = (
            list(coming[:count][::-1][::stride])[::-1]
            for count in range(len(coming), 0, -1)
            for stride in range(1, count + 1)
        )
        return next((route for route in routes if self._least(route) <= left), [])

    def _least(self, route: Sequence[int]) -> float:
        """Seconds of the fewest steps of these scales, and of one more for each, because they need targets."""
        counts = [*[MIN_STEPS] * (len(route) - 1), MIN_FINEST]
        return sum((count + 1) * self._cost(k) for k, count in zip(route, counts, strict=True))

    def seconds_left(self) -> float:
        """Seconds until the last step."""
        if self.deadline is not None:
            return max(0.0, self.deadline - self.clock())
        return sum(
            self._cost(k) * max(0, self.steps[k] - self.done[k]) for k in range(self.scale, len(self.scales))
        )

    def _cost(self, k: int) -> float:
        """Seconds of a step at scale k."""
        return self.seconds_per_pixel * math.prod(self.scales[k])

    def _share_ends(self, deadline: float) -> float:
        """When the next scale should begin."""
        if not (route := self._route()):
            return deadline
        scales = [self.scales[k] for k in (self.scale, *route)]
        weights = [math.prod(size) * count for size, count in zip(scales, steps_of(scales), strict=True)]
        share = self.clock() + (deadline - self.clock()) * weights[0] / sum(weights)
        if self.scale == 0:
            share = max(share, self.clock() + (MIN_FIRST - self.done[0]) * self._cost(0))
        return min(share, deadline - self._least(route))
