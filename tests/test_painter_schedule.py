"""Scales a factor of sqrt 2 apart, and a schedule that ends when it was told to."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extras.painter.schedule import MIN_FINEST, MIN_FIRST, SHORTEST, Schedule, scales_of, steps_of


class Machine:
    """A clock that only painting moves: seconds a step = overhead + pace * pixels."""

    def __init__(self, pace: float, overhead: float = 0.0):
        self.now, self.pace, self.overhead = 1000.0, pace, overhead

    def __call__(self) -> float:
        return self.now

    def paint(self, schedule: Schedule) -> None:
        while (size := schedule.next_scale()) is not None:
            self.now += 0.6 * self.cost(size)  # the targets
            while schedule.go_on():
                self.now += self.cost(size)
                schedule.stepped()

    def cost(self, size) -> float:
        return self.overhead + self.pace * size[0] * size[1]


@given(st.integers(64, 4096), st.integers(64, 4096))
@settings(max_examples=200, deadline=None)
def test_scales_end_at_the_size_and_are_about_sqrt_two_apart(height, width):
    scales = scales_of((height, width))
    assert scales[-1] == (height, width)
    for coarse, fine in zip(scales, scales[1:], strict=False):
        assert 1.18 < max(fine) / max(coarse) < 1.7
    assert min(scales[0]) >= min(SHORTEST, height, width)


def test_the_published_example_of_scales():
    assert [max(size) for size in scales_of((384, 512))] == [128, 181, 256, 362, 512]
    assert scales_of((60, 80)) == [(60, 80)]


def test_a_narrow_picture_starts_where_its_shorter_side_suffices():
    assert min(scales_of((400, 4000))[0]) == SHORTEST
    assert scales_of((80, 1000)) == [(80, 1000)]


def test_coarser_scales_get_more_steps_and_finer_ones_more_time():
    scales = scales_of((512, 512))
    steps = steps_of(scales, 40)
    assert steps[-1] == 40
    assert steps == sorted(steps, reverse=True)
    work = [s * h * w for s, (h, w) in zip(steps, scales, strict=True)]
    assert all(a < b for a, b in zip(work[1:], work[2:], strict=False))


def test_one_scale_takes_the_steps_it_is_given_and_otherwise_the_first_scales():
    assert steps_of([(64, 64)], 7) == [7]
    assert steps_of([(64, 64)]) == [150]


def test_without_a_budget_the_steps_are_counted():
    schedule = Schedule(scales_of((200, 260)), [7, 5, 3])
    Machine(1e-6).paint(schedule)
    assert schedule.done == [7, 5, 3]


@pytest.mark.parametrize("budget", [15, 30, 60, 120, 600])
@pytest.mark.parametrize("pace", [3e-7, 2e-6, 8e-6])
def test_a_budget_is_kept_whatever_the_machine(budget, pace):
    machine = Machine(pace, overhead=0.01)
    schedule = Schedule(scales_of((768, 1024)), deadline=machine() + budget, clock=machine)
    machine.paint(schedule)
    assert machine() - 1000 == pytest.approx(budget, rel=0.1)
    reached = [n for n in schedule.done if n]
    assert reached[-1] >= 0.9 * MIN_FINEST or len(reached) == 1  # the finest scale was worth beginning


@pytest.mark.parametrize("budget", [15, 30, 60, 120, 600])
@pytest.mark.parametrize("step", [0.1, 0.3, 0.5, 1, 2, 5])
@pytest.mark.parametrize("size", [(384, 512), (512, 512), (768, 1024)])
def test_a_budget_plans_for_the_picture_and_not_for_pixels(budget, step, size):
    """`step`: seconds of a step at the full size. A larger size is begun where each has its fewest steps."""
    machine = Machine(step / math.prod(size))
    schedule = Schedule(scales_of(size), deadline=machine() + budget, clock=machine)
    machine.paint(schedule)
    assert machine() - 1000 == pytest.approx(budget, rel=0.1)
    reached = [n for n in schedule.done if n]
    if len(reached) > 1:
        assert reached[0] >= MIN_FIRST - 2 and reached[-1] >= 0.9 * MIN_FINEST
    else:  # not even the second size had the time
        least = MIN_FIRST * machine.cost(schedule.scales[0]) + MIN_FINEST * machine.cost(schedule.scales[1])
        assert least > 0.85 * budget


def test_thirty_seconds_at_two_seconds_a_step_are_not_spent_on_noise():
    machine = Machine(2 / (384 * 512))
    schedule = Schedule(scales_of((384, 512)), deadline=machine() + 30, clock=machine)
    machine.paint(schedule)
    assert schedule.done[0] >= 38 and schedule.done[-1] == 0
    assert max(k for k, n in enumerate(schedule.done) if n >= 23) >= 2  # at least 256 pixels


def test_a_budget_is_kept_when_the_machine_slows_down_by_half():
    machine = Machine(2e-6)
    schedule = Schedule(scales_of((512, 512)), deadline=machine() + 60, clock=machine)
    stepped, count = schedule.stepped, [0]

    def slower() -> None:
        stepped()
        count[0] += 1
        machine.pace = 4e-6 if count[0] > 100 else 2e-6

    schedule.stepped = slower
    machine.paint(schedule)
    assert machine() - 1000 == pytest.approx(60, rel=0.1)


def test_the_full_size_comes_before_the_sizes_between():
    machine = Machine(4e-6)
    schedule = Schedule(scales_of((512, 512)), deadline=machine() + 34, clock=machine)
    machine.paint(schedule)
    assert schedule.done[0] >= 38 and schedule.done[-1] >= 23 and 0 in schedule.done
    assert schedule.done_by(4, schedule.done[4]) == schedule.done


def test_more_time_reaches_finer_scales():
    def finest(budget):
        machine = Machine(4e-6)
        schedule = Schedule(scales_of((1024, 1024)), deadline=machine() + budget, clock=machine)
        machine.paint(schedule)
        return max(k for k, n in enumerate(schedule.done) if n)

    assert finest(4) < finest(20) < finest(600)


def test_the_time_left_shrinks_to_nothing_and_is_honest_at_a_steady_pace():
    machine = Machine(1e-5)
    schedule = Schedule(scales_of((128, 181)), 20, clock=machine)
    schedule.next_scale()
    for _ in range(3):
        machine.now += machine.cost(schedule.scales[0])
        schedule.stepped()
    promised = schedule.seconds_left()
    began = machine()
    while schedule.go_on():
        machine.now += machine.cost(schedule.scales[0])
        schedule.stepped()
    machine.paint(schedule)
    assert machine() - began == pytest.approx(promised, rel=0.1)
    assert schedule.seconds_left() == 0 and math.isfinite(promised)


def test_the_share_done_of_a_size_goes_from_nothing_to_all():
    counted = Schedule([(64, 64)], [4])
    counted.next_scale()
    shares = []
    while counted.go_on():
        shares.append(counted.share_done())
        counted.stepped()
    assert shares == [0, 0.25, 0.5, 0.75] and counted.share_done() == 1

    machine = Machine(pace=1e-4)
    timed = Schedule(scales_of((256, 256)), deadline=machine() + 300, clock=machine)
    while (size := timed.next_scale()) is not None:
        shares = []
        while timed.go_on():
            shares.append(timed.share_done())
            machine.now += machine.cost(size)
            timed.stepped()
        assert shares == sorted(shares) and shares[0] == 0
        assert len(shares) < 10 or 0.8 < shares[-1] <= 1
