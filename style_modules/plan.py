"""What a painting takes: its scales, the steps that each of them gets, seconds, bytes."""

import math
import time
from collections.abc import Callable, Sequence

COARSEST = 128  # longer side of the first scale, in pixels
NARROWEST = 32  # shorter side: VGG's fifth block still sees 2 x 2 positions
STEPS, FIRST_STEPS, MOST_STEPS = 60, 150, 250  # at the finest scale, at the first, at any
FEWEST_STEPS = 10  # a scale with fewer is not worth beginning

Size = tuple[int, int]  # (H, W)


def scales_of(size: Size, coarsest: int = COARSEST) -> list[Size]:
    """Sizes from coarse to fine, a factor of about sqrt(2) apart, ending with `size` (H, W).

    The longer side starts at `coarsest`, or where the shorter one has NARROWEST pixels if that is later.
    """
    start = max(coarsest, math.ceil(NARROWEST * max(size) / min(size)))
    count = max(0, round(2 * math.log2(max(size) / start)))
    ratio = (max(size) / start) ** (1 / count) if count else 1.0
    return [(round(size[0] / ratio**k), round(size[1] / ratio**k)) for k in range(count, -1, -1)]


def steps_of(scales: Sequence[Size], steps: int | None = None) -> list[int]:
    """`steps` at the finest scale, more the coarser: in inverse proportion to the side.

    A step costs as much as it has pixels, so each scale takes about sqrt(2) times as long as the one before.
    The first scale finds the composition: by default it gets FIRST_STEPS at least.
    """
    finest = max(scales[-1])
    counts = [min(MOST_STEPS, round((steps or STEPS) * finest / max(scale))) for scale in scales]
    if steps is None:
        counts[0] = max(counts[0], FIRST_STEPS)
    return [max(steps or 0, count) for count in counts]


class Schedule:
    """Says at which scale to paint and when to go on to the next: by counted steps, or by the clock.

    By the clock (`deadline`, a time as `clock` tells it) the pace of the first steps, and later of every
    scale, says how many scales fit; each gets the share of the time that `steps_of` would give it. The finest
    scale that fits is painted until the deadline.
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
        self.seconds_per_pixel = 0.0  # of a step, at the latest pace
        self._began = self._until = 0.0

    def next_scale(self) -> Size | None:
        """The size to paint at next; None where the painting is done."""
        if self.scale + 1 >= len(self.scales):
            return None
        if self.deadline is not None and self.scale >= 0 and self.finest == self.scale:
            return None
        self.scale += 1
        self._began = self.clock()
        self._until = self._share_ends()
        return self.scales[self.scale]

    def stepped(self) -> None:
        """Counts a step and takes its time."""
        self.done[self.scale] += 1
        now = self.clock()
        pace = (now - self._began) / _pixels(self.scales[self.scale])
        self._began = now
        # The first step of a scale also made its targets.
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
        if self.clock() + self._cost(self.scale) / 2 < self._until:
            return True
        self._until = self._share_ends()
        return self.clock() + self._cost(self.scale) / 2 < self._until

    def done_by(self, scale: int, step: int) -> list[int]:
        """The steps of each scale that led to step `step` of `scale`: what paints the same picture by counting."""
        return [*self.done[:scale], step, *[0] * (len(self.scales) - scale - 1)]

    @property
    def finest(self) -> int:
        """The last scale that will be reached."""
        if self.deadline is None:
            return len(self.scales) - 1
        left = self.deadline - self.clock()
        last = max(self.scale, 0)
        for k in range(last + 1, len(self.scales)):
            left -= self._cost(k) * FEWEST_STEPS
            if left < 0:
                break
            last = k
        return last

    def seconds_left(self) -> float:
        """Until the last step."""
        if self.deadline is not None:
            return max(0.0, self.deadline - self.clock())
        return sum(
            self._cost(k) * max(0, self.steps[k] - self.done[k]) for k in range(self.scale, len(self.scales))
        )

    def _cost(self, k: int) -> float:
        return self.seconds_per_pixel * _pixels(self.scales[k])

    def _share_ends(self) -> float:
        if self.deadline is None:
            return math.inf
        if not self.seconds_per_pixel:  # nothing is known yet: look again soon
            return self.clock()
        finest, k = self.finest, self.scale
        if finest == k:
            return self.deadline
        steps = steps_of(self.scales[: finest + 1])
        weights = [_pixels(self.scales[j]) * steps[j] for j in range(finest + 1)]
        weights[k] *= max(0.0, 1 - self.done[k] / steps[k])
        return self.clock() + (self.deadline - self.clock()) * weights[k] / sum(weights[k:])


def _pixels(size: Size) -> int:
    return size[0] * size[1]
