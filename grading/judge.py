"""Compares a submission's outputs with the bank's, gives points, and names the mistake.

A unit is one output of one case, right or wrong. The points of a task are the weighted share of its right units:
one more right unit never costs points, and NaN is never right.

Findings: the entry of the catalogue that gives exactly these outputs, right and wrong ones; if there is none, the
entries that explain many of the wrong ones; for the rest, what the numbers show (a constant factor, a sign, a
transpose, zeros, a wrong shape).
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from grading.cases import Answer, Case, CaseBank, Mistake, same_numbers, sample
from grading.protocol import FATAL_KINDS, Arrays, ChildError, Execute
from grading.tasks import OPERATIONS, TASKS, task_of, tolerance

MATCHING = 5  # an output matches that of a mistake if it is this many tolerances close
MAX_FINDINGS = 4
NOT_WRITTEN, MISSING = "not-solved", "error-missing"  # ids of findings: a stub, a file that is not there


@dataclass
class Finding:
    """One thing that is wrong. `id` is the same for the same mistake throughout a class; `message` says what was seen,
    what to do, and where.
    """

    id: str
    title: str
    message: str


@dataclass
class TaskResult:
    """One task's points. `status`: "passed" (all points), "partial" or "failed" (none). `cases`: the names of the cases
    drawn.
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
    """All tasks that were graded."""

    tasks: list[TaskResult]

    @property
    def points(self) -> float:
        return round(sum(task.points for task in self.tasks), 2)

    @property
    def max_points(self) -> float:
        return round(sum(task.max_points for task in self.tasks), 2)

    def as_dict(self) -> dict:
        """Plain data for JSON."""
        return {"points": self.points, "max_points": self.max_points, **asdict(self)}


@dataclass
class Attempt:
    """A submission's answer to a case: its outputs, or an error."""

    case: Case
    outputs: Arrays = field(default_factory=dict)
    error: ChildError | None = None


@dataclass
class Unit:
    """One output of one case: its weight, whether it is right."""

    attempt: Attempt
    key: str
    weight: float
    right: bool

    @property
    def case(self) -> Case:
        return self.attempt.case

    @property
    def got(self) -> np.ndarray | None:
        return self.attempt.outputs.get(self.key)

    @property
    def wanted(self) -> np.ndarray:
        return self.case.expected[self.key]

    @property
    def tolerance(self) -> float:
        return tolerance(self.case.operation, self.key, self.wanted.dtype)

    @property
    def label(self) -> str:
        return OPERATIONS[self.case.operation].outputs[self.key].label

    @property
    def where(self) -> str:
        return OPERATIONS[self.case.operation].where


def grade(
    execute: Execute,
    seed: bytes,
    bank: CaseBank,
    tasks: Sequence[str] | None = None,
    on_task: Callable[[TaskResult], None] | None = None,
) -> Report:
    """Grades the named tasks (all by default) with the cases that `seed` draws from the bank.

    `on_task` is called with each result at once, so that none is lost if a later task fails.
    """
    report = Report([])
    for name in TASKS if tasks is None else tasks:
        known = {finding.id for task in report.tasks for finding in task.findings}
        with np.errstate(all="ignore"):  # a submission's numbers may overflow
            result = grade_task(execute, seed, bank, name, known)
        report.tasks.append(result)
        if on_task is not None:
            on_task(result)
    return report


def grade_task(
    execute: Execute, seed: bytes, bank: CaseBank, name: str, known: frozenset[str] | set[str] = frozenset()
) -> TaskResult:
    """Grades one task. `known`: the ids of findings in earlier tasks, which may have caused a mistake in this one."""
    task = TASKS[name]
    attempts, fatal = [], None
    for operation in task.operations:
        for kind in bank.kinds(operation):
            for case in bank.draw(seed, operation, kind, OPERATIONS[operation].draws):
                attempt = Attempt(case, error=fatal) if fatal else attempt_of(execute, case)
                if attempt.error is not None and attempt.error.kind in FATAL_KINDS:
                    # A stub ends its own operation only: the other function of the task may be solved.
                    fatal = attempt.error
                attempts.append(attempt)
        if fatal is not None and fatal.kind == "not_implemented":
            fatal = None
    units = [unit for attempt in attempts for unit in units_of(attempt)]
    points = points_of(units, task.points)
    status = "passed" if points == task.points else "failed" if points == 0 else "partial"
    findings = []
    for operation in task.operations:
        findings += findings_of([unit for unit in units if unit.case.operation == operation], bank, known)
    findings = list({(finding.id, finding.message): finding for finding in findings}.values())
    cases = [attempt.case.name for attempt in attempts]
    return TaskResult(
        name, task.title, task.number, points, task.points, status, findings[:MAX_FINDINGS], cases
    )


def attempt_of(execute: Execute, case: Case) -> Attempt:
    """Executes one case. Outputs that are not arrays of numbers, or have another name, count as missing."""
    try:
        outputs = execute(case.operation, {name: array.copy() for name, array in case.inputs.items()})
    except ChildError as error:
        return Attempt(case, error=error)
    given = {
        key: outputs[key]
        for key in case.expected
        if type(outputs.get(key)) is np.ndarray and outputs[key].dtype in (np.float32, np.float64)
    }
    return Attempt(case, given)


def units_of(attempt: Attempt) -> list[Unit]:
    """An attempt's units. All are right if the attempt equals another accepted answer."""
    case, operation = attempt.case, OPERATIONS[attempt.case.operation]
    total = sum(operation.outputs[key].share for key in case.expected)
    units = [
        Unit(attempt, key, operation.share * operation.outputs[key].share / total, False)
        for key in case.expected
    ]
    if attempt.error is None:
        answers = [case.expected, *case.accepted]
        whole = any(all(_is(unit, answer[unit.key]) for unit in units) for answer in answers)
        for unit in units:
            unit.right = whole or _is(unit, unit.wanted)
    return units


def _is(unit: Unit, wanted: np.ndarray) -> bool:
    return (
        unit.got is not None
        and bool(np.isfinite(unit.got).all())
        and same_numbers(unit.got, wanted, unit.tolerance)
    )


def points_of(units: Sequence[Unit], max_points: float) -> float:
    """The weighted share of right units times `max_points`, rounded down to hundredths. The weight of an operation does
    not depend on its number of cases.
    """
    if units and all(unit.right for unit in units):
        return max_points
    reached = possible = 0.0
    for operation in {unit.case.operation: None for unit in units}:
        own = [unit for unit in units if unit.case.operation == operation]
        weight = sum(unit.weight for unit in own)
        share = OPERATIONS[operation].share
        reached += share * sum(unit.weight for unit in own if unit.right) / weight
        possible += share
    return math.floor(100 * max_points * reached / possible + 1e-9) / 100 if possible else 0.0


# ------------------------------------------------------------------------------------- naming mistakes


def findings_of(units: Sequence[Unit], bank: CaseBank, known: set[str] | frozenset[str]) -> list[Finding]:
    """What is wrong with one operation's units: known mistakes if possible."""
    wrong = [unit for unit in units if not unit.right]
    if not wrong:
        return []
    stopped = next((unit.attempt.error for unit in wrong if _is_fatal(unit)), None)
    if stopped is not None:
        return [error_finding(stopped, wrong[0])]
    operation = wrong[0].case.operation
    mistakes = [mistake for mistake in bank.mistakes.values() if mistake.operation == operation]
    # A consequence is named only if its cause was found; it then comes before the other mistakes.
    mistakes = [mistake for mistake in mistakes if mistake.follows is None or mistake.follows in known]
    mistakes.sort(key=lambda mistake: mistake.follows is None)
    exact = [mistake for mistake in mistakes if _explains_all(mistake, units)]
    if exact:
        return [Finding(exact[0].id, exact[0].title, exact[0].message)]
    findings = []
    while wrong:
        explained = {mistake.id: _explained(mistake, wrong) for mistake in mistakes}
        best = max(explained, key=lambda id: len(explained[id]), default=None)
        if best is None or len(explained[best]) < max(2, len(wrong) / 3):
            break
        mistake = bank.mistakes[best]
        findings.append(Finding(best, mistake.title, mistake.message))
        wrong = [unit for unit in wrong if all(unit is not other for other in explained[best])]
    return findings + generic_findings(wrong, {unit.case.kind for unit in units})


def _is_fatal(unit: Unit) -> bool:
    return unit.attempt.error is not None and unit.attempt.error.kind in FATAL_KINDS


def _answers(mistake: Mistake, case: Case) -> list[tuple[int, Answer]]:
    """A mistake's answers to a case, each with the number of its form."""
    return list(enumerate(answer for answer in case.answers if answer.mistake == mistake.id))


def _explains_all(mistake: Mistake, units: Sequence[Unit]) -> bool:
    """Whether a form of the mistake gives exactly these units, right and wrong ones."""
    count = min(len(_answers(mistake, unit.case)) for unit in units)
    silent = all(unit.attempt.error is not None for unit in units)
    if silent and mistake.follows is None:
        return False  # the exception itself says more, with its file and line
    return any(
        all(_meets(unit, dict(_answers(mistake, unit.case))[form], or_right=True) for unit in units)
        for form in range(count)
    )


def _explained(mistake: Mistake, wrong: Sequence[Unit]) -> list[Unit]:
    """The wrong units that one form of the mistake gives: of the form that gives the most. Errors do not count."""
    count = min(len(_answers(mistake, unit.case)) for unit in wrong)
    candidates = [
        [
            unit
            for unit in wrong
            if unit.attempt.error is None
            and _meets(unit, dict(_answers(mistake, unit.case))[form], or_right=False)
        ]
        for form in range(count)
    ]
    return max(candidates, key=len, default=[])


def _meets(unit: Unit, answer: Answer, *, or_right: bool) -> bool:
    """Whether the submission gave the mistake's answer. If the mistake gives the right answer here: whether the
    submission is right, and `or_right`.
    """
    if answer.error is not None or unit.attempt.error is not None:
        return (
            answer.error is not None
            and unit.attempt.error is not None
            and unit.attempt.error.kind == answer.error
        )
    if unit.key not in answer.outputs:
        return or_right and unit.right
    if unit.got is None:
        return False
    shape, values = answer.outputs[unit.key]
    return unit.got.shape == tuple(shape) and same_numbers(
        sample(unit.got, unit.case.places[unit.key]), values, MATCHING * unit.tolerance
    )


# ------------------------------------------------------------------------------------ generic findings


def error_finding(error: ChildError, unit: Unit) -> Finding:
    """The finding for no answer: an exception, or the end of the child."""
    task = TASKS[task_of(unit.case.operation)]
    file, _, function = unit.where.rpartition(", ")
    place = re.search(r" \(([\w/]+\.py:\d+)\)", error.message)
    if error.kind == "not_implemented":
        message = f"{function} is not written yet: see {place[1] if place else file}."
        return Finding(NOT_WRITTEN, "not written yet", message)
    if error.kind == "missing":
        why = f"It is one of the seven graded files: without it, Task {task.number} gets no points."
        return Finding(MISSING, "file missing", f"{error.message}. {why}")
    # What the drivers say about a result.
    said = error.message.removeprefix("TypeError: ")
    stopped = (
        f"{function} {said}" if said.startswith("returned ") else f"{function} stopped with {error.message}"
    )
    words = {
        "exception": ("an exception", stopped),
        "import": ("cannot be imported", f"Your code cannot be imported: {error.message}"),
        "timeout": ("out of time", f"{function} took too long: {error.message}"),
        "memory": ("out of memory", f"{function} used too much memory: {error.message}"),
        "died": ("process ended", f"The process ended inside {function}: {error.message}"),
        "protocol": (
            "no valid answer",
            f"{function} returned something that cannot be read: {error.message}",
        ),
    }
    title, message = words[error.kind]
    message = message.rstrip(".") + ("" if message.endswith("?") else ".")
    return Finding(f"error-{error.kind}", title, message if place else f"{message} See {unit.where}.")


def generic_findings(wrong: Sequence[Unit], kinds: set[str] | frozenset[str] = frozenset()) -> list[Finding]:
    """What the numbers show: one finding for each symptom of the outputs, one for each different error. `kinds`: all
    kinds of cases that were drawn. If a symptom shows only in some of them, its message names them.
    """
    findings: dict[str, Finding] = {}
    stopped: dict[str, list[Unit]] = {}
    for unit in wrong:
        if unit.attempt.error is not None:
            stopped.setdefault(re.sub(r"\d+", "", unit.attempt.error.message), []).append(unit)
    for text, units in stopped.items():
        error = units[0].attempt.error
        assert error is not None  # since it was stopped by one
        findings[text] = error_finding(error, units[0])
        shown = {unit.case.kind for unit in units}
        if shown < kinds:
            findings[text].message += f" (Only for: {', '.join(sorted(shown))}.)"
    by_key: dict[str, list[Unit]] = {}
    for unit in wrong:
        if unit.attempt.error is None:
            by_key.setdefault(unit.key, []).append(unit)
    alike: dict[tuple[str, str, str], list[Unit]] = {}
    for key, units in by_key.items():
        if key == "again" and any(other in by_key for other in ("maps", "value", "first_step")):
            continue  # the second call is mentioned only if the first was right
        id, title, seen = symptom(units)
        shown = {unit.case.kind for unit in units}
        if shown < kinds:
            seen += f" (Only for: {', '.join(sorted(shown))}.)"
        alike.setdefault((id, title, seen), []).append(units[0])
    for (id, title, seen), units in alike.items():
        if len(units) > 1:
            seen += f" The same holds for: {', '.join(unit.label for unit in units[1:])}."
        message = f"Your {units[0].label} {seen} See {units[0].where}."
        findings[f"{units[0].key} {id}"] = Finding(f"{units[0].case.operation}-{id}", title, message)
    return list(findings.values())


def symptom(units: Sequence[Unit]) -> tuple[str, str, str]:
    """(id, title, description) of an output that is wrong in these units."""
    got, wanted = units[0].got, units[0].wanted
    if got is None:
        return "missing", "no numbers", "is not an array of numbers."
    if got.shape != wanted.shape:
        seen = f"has shape {_shape(got)}, expected {_shape(wanted)}"
        if got.ndim > 1 and got.swapaxes(-1, -2).shape == wanted.shape:
            seen += ": its last two dimensions are swapped"
        return "shape", "wrong shape", f"{seen}."
    if not np.isfinite(got).all():
        return "nan", "NaN", "contains NaN or infinity: look for 0/0, and for a root or logarithm of 0."
    if all(unit.got is not None and not unit.got.any() for unit in units):
        gradient = units[0].key == "gradient"
        why = "the graph is cut (detach(), .data, .item())" if gradient else "nothing was computed"
        return "zero", "zero", f"is zero everywhere: {why}."
    if same_numbers(got, wanted, 1e-3):
        return (
            "precision",
            "not precise enough",
            "is almost right: a small number was added, or the precision is too low (a wrong dtype).",
        )
    factors = [factor for unit in units if (factor := _factor(unit)) is not None]
    if len(factors) == len(units):
        low, high = min(factors), max(factors)
        if high - low <= 1e-3 * abs(high):
            if abs(high + 1) < 1e-3:
                return "sign", "wrong sign", "has the wrong sign."
            return "factor", "constant factor", f"is {_number(high)} times the right one."
        if wanted.size > 1:
            return (
                "varying-factor",
                "varying factor",
                f"is right up to a factor, {_number(factors[0])} in one case and {_number(factors[-1])} in another: "
                "check the weights, a mean in place of a sum, and divisions.",
            )
    if got.ndim > 1 and got.shape[-1] == got.shape[-2] and same_numbers(got.swapaxes(-1, -2), wanted, 1e-3):
        return "transpose", "transposed", "is transposed."
    if wanted.size == 1:
        return "wrong", "wrong values", f"is {_number(got.item())}; {_number(wanted.item())} is right."
    error = np.abs(got - wanted).max() / np.abs(wanted).max()
    return "wrong", "wrong values", f"has errors of up to {_number(error)} times its largest right value."


def _factor(unit: Unit) -> float | None:
    """c if the output is c times the right one, else None."""
    got, wanted = unit.got, unit.wanted
    if got is None or got.shape != wanted.shape or not np.isfinite(got).all():
        return None
    got, wanted = got.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
    c = float(got @ wanted / (wanted @ wanted))
    return c if c and same_numbers(got, c * wanted, 1e-3) else None


def _shape(array: np.ndarray) -> str:
    return f"({', '.join(map(str, array.shape))})"


def _number(value: float) -> str:
    return f"{value:.3g}"
