"""Compares a submission's outputs with the bank's, gives points, and names the mistake."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from grading.cases import CaseBank
from grading.protocol import Execute


@dataclass
class Finding:
    """One thing the judge saw. `id` counts the same mistake over a class; `message` says what was seen, why,
    and where to look.
    """

    id: str
    title: str
    message: str


@dataclass
class TaskResult:
    """One task's points. `status` is "passed" (all points), "partial" or "failed"; `cases` names the cases it
    met.
    """

    task: str
    title: str
    number: str
    points: float
    max_points: float
    status: str
    findings: list[Finding] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)


@dataclass
class Report:
    """All tasks; plain data, `dataclasses.asdict` gives JSON."""

    tasks: list[TaskResult]

    @property
    def points(self) -> float:
        return round(sum(task.points for task in self.tasks), 2)

    @property
    def max_points(self) -> float:
        return round(sum(task.max_points for task in self.tasks), 2)


def grade(
    execute: Execute,
    seed: bytes,
    bank: CaseBank,
    tasks: Sequence[str] | None = None,
    on_task: Callable[[TaskResult], None] | None = None,
) -> Report:
    """Grades the named tasks (all by default) with the cases that `seed` draws from the bank.

    `on_task` is called after each task, so that a result is never lost.
    """
    raise NotImplementedError
