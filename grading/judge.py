"""Compares a submission's outputs with the bank's, gives points, and names the mistake.

A unit is one output of one case, right or wrong. The points of a task are the weighted share of its right units:
one more right unit never costs points, and NaN is never right.

Findings: the entry of the catalogue that gives exactly these outputs, right and wrong ones; if there is none, the
entries that give all outputs of at least half of the cases; for the other cases, what the numbers show (a constant
factor, a sign, a square, zeros, a wrong shape).
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
# Kinds of findings: a mistake of the catalogue; what the numbers of an unknown mistake show; an error in place of an
# answer; nothing there to judge.
FINDINGS = ("mistake", "symptom", "stopped", "blank")
DIGITS = 6  # kept of each number of a fingerprint

# A wrong answer to cases that are the same for all submissions: kind of case -> output -> {"shape", "dtype", "values"},
# the values as text (which can also say "nan"). In place of the outputs an error's kind.
Fingerprint = dict[str, dict[str, dict] | str]


@dataclass
class Finding:
    """One thing that is wrong. `id` is the same for the same mistake throughout a class; `message` says what was seen,
    what to do, and where. `kind`: one of FINDINGS.
    """

    id: str
    title: str
    message: str
    kind: str = "mistake"


@dataclass
class TaskResult:
    """One task's points. `status`: "passed" (all points), "partial" or "failed" (none). `cases`: the names of the cases
    drawn. `fingerprints`: of each operation with a mistake that has no name, if they were asked for.
    """

    task: str
    title: str
    number: str
    points: float
    max_points: float
    status: str
    findings: list[Finding] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)


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
    def images(self) -> int:
        """The number of images of the case; 0 where it has no batch."""
        batch = self.case.inputs.get("X", self.case.inputs.get("features"))
        return 0 if batch is None or self.case.operation == "content" else len(batch)

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
    *,
    fingerprints: bool = False,
) -> Report:
    """Grades the named tasks (all by default) with the cases that `seed` draws from the bank.

    `on_task` is called with each result at once, so that none is lost if a later task fails.
    fingerprints: also executes the cases by which equal mistakes without a name are recognized.
    """
    report = Report([])
    for name in TASKS if tasks is None else tasks:
        with np.errstate(all="ignore"):  # a submission's numbers may overflow
            result = grade_task(execute, seed, bank, name, fingerprints=fingerprints)
        report.tasks.append(result)
        if on_task is not None:
            on_task(result)
    return report


def grade_task(
    execute: Execute, seed: bytes, bank: CaseBank, name: str, *, fingerprints: bool = False
) -> TaskResult:
    """Grades one task."""
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
    prints: dict[str, Fingerprint] = {}
    for operation in task.operations:
        found = findings_of([unit for unit in units if unit.case.operation == operation], bank)
        if fingerprints and any(finding.kind == "symptom" for finding in found):
            prints[operation] = fingerprint(execute, bank, operation, attempts)
        findings += found
    findings = list({(finding.id, finding.message): finding for finding in findings}.values())
    cases = [attempt.case.name for attempt in attempts]
    return TaskResult(
        name, task.title, task.number, points, task.points, status, findings[:MAX_FINDINGS], cases, prints
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


def fingerprint(
    execute: Execute, bank: CaseBank, operation: str, attempts: Sequence[Attempt] = ()
) -> Fingerprint:
    """The answers to the first case of each kind, of which a few numbers are kept. They count for no points: the cases
    drawn differ from one submission to another, so only these can be compared. `attempts`: need no second execution.
    """
    done = {attempt.case.name: attempt for attempt in attempts}
    answers: Fingerprint = {}
    for kind in bank.kinds(operation):
        case = next(case for case in bank.cases if (case.operation, case.kind) == (operation, kind))
        attempt = done.get(case.name) or attempt_of(execute, case)
        if attempt.error is not None:
            answers[kind] = attempt.error.kind
            if attempt.error.kind in FATAL_KINDS:
                break
            continue
        answers[kind] = {
            key: {
                "shape": list(array.shape),
                "dtype": array.dtype.name,
                "values": [f"{value:.{DIGITS}g}" for value in sample(array, case.places[key]).tolist()],
            }
            for key, array in attempt.outputs.items()
            if key in case.places
        }
    return answers


def same_fingerprint(operation: str, one: Fingerprint, other: Fingerprint) -> bool:
    """Whether two submissions gave the same wrong answers, up to rounding as the judge allows it."""

    def texts(answers: Fingerprint) -> dict[str, object]:
        """All except the numbers."""
        return {
            kind: answer
            if isinstance(answer, str)
            else {key: (output["shape"], output["dtype"]) for key, output in answer.items()}
            for kind, answer in answers.items()
        }

    if not one or texts(one) != texts(other):
        return False
    return all(
        same_numbers(
            np.array(output["values"], float),
            np.array(other[kind][key]["values"], float),  # type: ignore[index]  # of the same kind, see above
            MATCHING * tolerance(operation, key, np.dtype(output["dtype"])),
        )
        for kind, answer in one.items()
        if not isinstance(answer, str)
        for key, output in answer.items()
    )


def units_of(attempt: Attempt) -> list[Unit]:
    """An attempt's units. All are right if the attempt equals another accepted answer."""
    case, operation = attempt.case, OPERATIONS[attempt.case.operation]
    keys = [key for key in operation.outputs if key in case.expected]
    total = sum(operation.outputs[key].share for key in keys)
    units = [
        Unit(attempt, key, operation.share * operation.outputs[key].share / total, False) for key in keys
    ]
    if attempt.error is None:
        answers = [case.expected, *case.accepted]
        whole = any(all(_is(unit, unit.got, answer[unit.key]) for unit in units) for answer in answers)
        for unit in units:
            instead = operation.outputs[unit.key].instead
            unit.right = whole or _is(unit, unit.got, unit.wanted)
            if instead in case.expected and not unit.right:
                unit.right = _is(unit, attempt.outputs.get(instead), case.expected[instead])
    return units


def _is(unit: Unit, got: np.ndarray | None, wanted: np.ndarray) -> bool:
    return got is not None and bool(np.isfinite(got).all()) and same_numbers(got, wanted, unit.tolerance)


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


def findings_of(units: Sequence[Unit], bank: CaseBank) -> list[Finding]:
    """What is wrong with one operation's units: known mistakes if possible."""
    wrong = [unit for unit in units if not unit.right]
    if not wrong:
        return []
    stopped = next((unit.attempt.error for unit in wrong if _is_fatal(unit)), None)
    if stopped is not None:
        return [error_finding(stopped, wrong[0])]
    operation = wrong[0].case.operation
    mistakes = [mistake for mistake in bank.mistakes.values() if mistake.operation == operation]
    exact = [mistake for mistake in mistakes if _explains_all(mistake, units)]
    if exact:
        return [Finding(exact[0].id, exact[0].title, exact[0].message)]
    explained = {mistake.id: _explained(mistake, units) for mistake in mistakes}
    best = max(explained, key=lambda id: len(explained[id]), default=None)
    findings = []
    if best is not None and len(explained[best]) >= max(2, len({id(unit.attempt) for unit in wrong}) / 2):
        mistake = bank.mistakes[best]
        findings.append(Finding(best, mistake.title, mistake.message))
        wrong = [unit for unit in wrong if id(unit.attempt) not in explained[best]]
    return findings + generic_findings(wrong, units)


def _is_fatal(unit: Unit) -> bool:
    return unit.attempt.error is not None and unit.attempt.error.kind in FATAL_KINDS


def _answers(mistake: Mistake, case: Case) -> list[tuple[int, Answer]]:
    """A mistake's answers to a case, each with the number of its form."""
    return list(enumerate(answer for answer in case.answers if answer.mistake == mistake.id))


def _explains_all(mistake: Mistake, units: Sequence[Unit]) -> bool:
    """Whether a form of the mistake gives exactly these units, right and wrong ones."""
    count = min(len(_answers(mistake, unit.case)) for unit in units)
    silent = all(unit.attempt.error is not None for unit in units)
    if silent:
        return False  # the exception itself says more, with its file and line
    return any(
        all(_meets(unit, dict(_answers(mistake, unit.case))[form], or_right=True) for unit in units)
        for form in range(count)
    )


def _explained(mistake: Mistake, units: Sequence[Unit]) -> set[int]:
    """The ids of the wrong attempts of which one form of the mistake gives every output, right and wrong ones: of the
    form that gives the most. Errors do not count. None, if there are as many attempts that are right where the mistake
    is wrong.
    """
    attempts: dict[int, list[Unit]] = {}
    for unit in units:
        attempts.setdefault(id(unit.attempt), []).append(unit)
    best: set[int] = set()
    for form in range(min(len(_answers(mistake, unit.case)) for unit in units)):
        met, against = set(), 0
        for key, own in attempts.items():
            answer = dict(_answers(mistake, own[0].case))[form]
            if all(unit.right for unit in own):
                against += bool(answer.outputs or answer.error)
            elif own[0].attempt.error is None and all(_meets(unit, answer, or_right=True) for unit in own):
                met.add(key)
        if len(met) > max(against, len(best)):
            best = met
    return best


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
        return Finding(NOT_WRITTEN, "not written yet", message, "blank")
    if error.kind == "missing":
        why = f"It is one of the seven graded files: without it, Task {task.number} gets no points."
        return Finding(MISSING, "file missing", f"{error.message}. {why}", "blank")
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
    message = message if place else f"{message} See {unit.where}."
    return Finding(f"error-{error.kind}", title, message, "stopped")


def generic_findings(wrong: Sequence[Unit], units: Sequence[Unit] = ()) -> list[Finding]:
    """What the numbers show: one finding for each symptom of the outputs, one for each different error. `units`: all of
    the operation. If a symptom shows only in some kinds of cases, its message names them.
    """
    findings: dict[str, Finding] = {}
    stopped: dict[str, list[Unit]] = {}
    by_key: dict[str, list[Unit]] = {}
    for unit in wrong:
        if unit.attempt.error is not None:
            stopped.setdefault(re.sub(r"\d+", "", unit.attempt.error.message), []).append(unit)
        else:
            by_key.setdefault(unit.key, []).append(unit)
    for text, same in stopped.items():
        error = same[0].attempt.error
        assert error is not None  # since it was stopped by one
        findings[text] = error_finding(error, same[0])
        findings[text].message += _only_for(same, units)
    right = {unit.key for unit in units if unit.right}
    alike: dict[tuple[str, str, str], list[Unit]] = {}
    for key, same in by_key.items():
        if key == "again" and any(o in by_key for o in ("maps", "value", "first_step", "later_steps")):
            continue  # the second call is mentioned only if the first was right
        before = by_key.get(BEFORE.get(key, ""), [])
        if {unit.case.name for unit in same} <= {unit.case.name for unit in before}:
            continue  # it follows from the step before
        id, title, seen = symptom(same)
        if (
            key == "gradient"
            and id in ("factor", "varying-factor", "wrong")
            and {"value", "normalized"} & {*by_key}
        ):
            continue  # it follows from the value
        if id == "wrong" and (first := BEFORE.get(key)) in right and first not in by_key:
            id, title = "carried-over", "right at first, wrong later"
            seen = (
                f"is wrong, although the {OPERATIONS[same[0].case.operation].outputs[first].label} is right: something "
                "is carried over from step to step, or changes (a gradient that is not zeroed, a learning rate)."
            )
        alike.setdefault((id, title, seen + _only_for(same, units)), []).append(same[0])
    for (id, title, seen), same in alike.items():
        if len(same) > 1:
            seen += f" The same holds for: {', '.join(unit.label for unit in same[1:])}."
        message = f"Your {same[0].label} {seen} See {same[0].where}."
        id = f"{same[0].case.operation}-{id}"
        findings[f"{same[0].key} {id}"] = Finding(id, title, message, "symptom")
    return list(findings.values())


# An output that shows a later step -> the one that shows the step before it.
BEFORE = {
    "later_steps": "first_step",
    "picture": "later_steps",
    "middle": "early",
    "decayed": "middle",
    "final": "decayed",
}


def _only_for(same: Sequence[Unit], units: Sequence[Unit]) -> str:
    """In which cases only a symptom shows; empty if it shows in all that have this output."""
    alike = [unit for unit in units if unit.key == same[0].key]
    if {unit.case.kind for unit in same} >= {unit.case.kind for unit in alike}:
        return ""
    counts = {unit.images for unit in same}
    others = {unit.images for unit in alike} - counts
    if 0 not in counts | others and counts == {1} and others:
        return " (Only with a single image: N = 1. Look for squeeze() without a dim.)"
    if 0 not in counts | others and others == {1}:
        return (
            " (One image alone is right: the images of a batch, N > 1, are mixed, or only one is computed.)"
        )
    return f" (Only for: {', '.join(sorted({unit.case.kind for unit in same}))}.)"


Symptom = tuple[str, str, str]


def symptom(units: Sequence[Unit]) -> Symptom:
    """(id, title, description) of an output that is wrong in these units. What is said holds for all of them."""
    got = [unit.got for unit in units]
    if any(array is None for array in got):
        return "missing", "no numbers", "is not an array of numbers."
    shaped = [unit for unit in units if _got(unit).shape != unit.wanted.shape]
    if shaped:
        return _wrong_shape(shaped)
    if any(not np.isfinite(_got(unit)).all() for unit in units):
        return "nan", "NaN", "contains NaN or infinity: look for 0/0, and for a root or logarithm of 0."
    if all(not _got(unit).any() for unit in units):
        gradient = units[0].key == "gradient"
        why = "the graph is cut (detach(), .data, .item())" if gradient else "nothing was computed"
        return "zero", "zero", f"is zero everywhere: {why}."
    if all(same_numbers(_got(unit), unit.wanted, 1e-3) for unit in units):
        return (
            "precision",
            "not precise enough",
            "is almost right: a small number was added, or the precision is too low (a wrong dtype).",
        )
    factors = [factor for unit in units if (factor := _factor(unit)) is not None]
    several = any(unit.wanted.size > 1 for unit in units)
    # Of one single number a factor, a square and a root say the same.
    if len(factors) == len(units) and max(factors) - min(factors) <= 1e-3 * abs(max(factors)):
        if abs(max(factors) + 1) < 1e-3:
            return "sign", "wrong sign", "has the wrong sign."
        return "factor", "constant factor", f"is {_number(max(factors))} times the right one."
    if several or len(units) > 1:
        for found in (_power(units), _whole_numbers(units), _one_for_all(units)):
            if found:
                return found
    if len(factors) == len(units) and several:
        return (
            "varying-factor",
            "varying factor",
            f"is right up to a factor, {_number(factors[0])} in one case and {_number(factors[-1])} in another: "
            "check the weights, a mean in place of a sum, and divisions.",
        )
    if found := _scaled_by_image(units) or _transposed(units):
        return found
    if not several:
        value, right = _got(units[0]).item(), units[0].wanted.item()
        return "wrong", "wrong values", f"is {_number(value)}; {_number(right)} is right."
    error = max(np.abs(_got(unit) - unit.wanted).max() / np.abs(unit.wanted).max() for unit in units)
    return "wrong", "wrong values", f"has errors of up to {_number(error)} times its largest right value."


def _got(unit: Unit) -> np.ndarray:
    assert unit.got is not None  # symptom has looked
    return unit.got


def _wrong_shape(units: Sequence[Unit]) -> Symptom:
    """Of units whose shape is wrong."""
    got, wanted = _got(units[0]), units[0].wanted
    seen = f"has shape {_shape(got)}, expected {_shape(wanted)}"
    if all(unit.wanted.ndim > 1 and _got(unit).shape == _swapped(unit).shape for unit in units):
        seen += ": its height and width are swapped"
    return "shape", "wrong shape", f"{seen}."


def _power(units: Sequence[Unit]) -> Symptom | None:
    if all(same_numbers(_got(unit), np.square(unit.wanted, dtype=np.float64), 1e-3) for unit in units):
        return "squared", "squared", "is the square of the right one: it is squared once too often."
    if all(same_numbers(_got(unit), np.sqrt(np.abs(unit.wanted)), 1e-3) for unit in units):
        return "rooted", "square root", "is the square root of the right one: remove the root, or norm()."
    return None


def _whole_numbers(units: Sequence[Unit]) -> Symptom | None:
    whole = all((_got(unit) == np.round(_got(unit))).all() for unit in units)
    if whole and not all((unit.wanted == np.round(unit.wanted)).all() for unit in units):
        return (
            "integers",
            "whole numbers only",
            "has whole numbers only: indices instead of values (max and sort return both), or numbers made integers.",
        )
    return None


def _one_for_all(units: Sequence[Unit]) -> Symptom | None:
    """Of units with several images, where each image's answer is that of one and the same image."""
    if units[0].key not in PER_IMAGE or any(unit.images < 2 for unit in units):
        return None
    for place in (0, -1):
        if all(
            same_numbers(_got(unit), np.broadcast_to(unit.wanted[place], unit.wanted.shape), 1e-3)
            for unit in units
        ):
            which = "first" if place == 0 else "last"
            seen = (
                f"is that of the {which} image for every image of the batch: keep the dimension N to the end."
            )
            return "one-for-all", f"the {which} image's answer for all", seen
    return None


def _scaled_by_image(units: Sequence[Unit]) -> Symptom | None:
    """Of units in which every image is right up to a factor and a constant of its own."""
    if units[0].key not in PER_IMAGE or not units[0].images:
        return None
    shifts = []
    for unit in units:
        for got, wanted in zip(_got(unit).astype(float), unit.wanted.astype(float), strict=True):
            if wanted.std() == 0:
                continue
            line = np.stack([wanted.ravel(), np.ones(wanted.size)], axis=1)
            (scale, shift), *_ = np.linalg.lstsq(line, got.ravel(), rcond=None)
            if not scale or np.abs(scale * wanted + shift - got).max() > 1e-3 * np.abs(got).max():
                return None
            shifts.append(abs(shift) > 1e-3 * np.abs(got).max())
    if not shifts:
        return None
    how = "up to a factor and a constant" if any(shifts) else "up to a factor"
    why = "was it scaled for drawing (minimum, maximum, mean)?" if any(shifts) else "check how it is scaled."
    return "scaled", "each image scaled", f"is right {how} of each image: {why}"


def _transposed(units: Sequence[Unit]) -> Symptom | None:
    """Where height and width are equal, other mistakes look the same: shapes must show it, see `_wrong_shape`."""
    shown = [
        unit for unit in units if unit.wanted.ndim > 1 and unit.wanted.shape[-1] != unit.wanted.shape[-2]
    ]
    if shown and all(
        same_numbers(_got(unit), _swapped(unit).reshape(unit.wanted.shape), 1e-3) for unit in shown
    ):
        return "transpose", "transposed", "has its height and width swapped, then reshaped."
    return None


PER_IMAGE = ("maps", "again", "normalized", "plain")  # outputs whose first dimension is the image


def _swapped(unit: Unit) -> np.ndarray:
    """The right answer with height and width swapped; of guided gradients the channels stay last."""
    axes = (-2, -3) if unit.case.operation == "guided_backprop" else (-1, -2)
    return unit.wanted.swapaxes(*axes) if unit.wanted.ndim >= -min(axes) else unit.wanted


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
