"""The case bank: inputs, expected outputs, and what each known mistake would give.

It is computed once from the solved project, so that grading needs neither the solution nor the mistakes. Which
cases a submission meets follows from a secret and the submission itself: repeatable, not predictable.

On disk a bank is one .npz without pickles: all float32 numbers in one row, all float64 numbers in another, and
a JSON index that says which of them are what.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from grading.protocol import Arrays, ChildError, Execute
from grading.tasks import OPERATIONS, tolerance
from helpers.files import replace_whole

SAMPLE = 24  # numbers of each array that are kept of a mistake's answer
FORMAT = 1


@dataclass(frozen=True)
class Mistake:
    """An entry of the catalogue as the judge knows it: its name and words, not its source."""

    id: str
    operation: str
    title: str
    message: str
    follows: str | None


@dataclass(frozen=True)
class Answer:
    """What one form of a mistake gives for a case: for each output that is not the expected one its shape and
    its numbers at the case's `places`; or the kind of error.
    """

    mistake: str
    outputs: dict[str, tuple[tuple[int, ...], np.ndarray]]
    error: str | None = None


@dataclass(frozen=True)
class Case:
    """Inputs of an operation, the outputs expected, other outputs that are accepted, and the mistakes' answers."""

    name: str
    operation: str
    kind: str
    inputs: Arrays
    expected: Arrays
    accepted: list[Arrays]
    places: dict[str, np.ndarray]
    answers: list[Answer]


@dataclass(frozen=True)
class CaseBank:
    """Read by `load_bank`, written by `write_bank`."""

    mistakes: dict[str, Mistake]
    cases: list[Case]

    def kinds(self, operation: str) -> list[str]:
        """The kinds of cases that an operation has, in the bank's order."""
        return list(dict.fromkeys(case.kind for case in self.cases if case.operation == operation))

    def draw(self, seed: bytes, operation: str, kind: str, count: int) -> list[Case]:
        """`count` cases of a kind, chosen by `seed`."""
        cases = [case for case in self.cases if (case.operation, case.kind) == (operation, kind)]
        return sorted(cases, key=lambda case: hmac.digest(seed, case.name.encode(), "sha256"))[:count]

    def case(self, name: str) -> Case:
        """The case of that name, as a TaskResult lists it. Raises KeyError."""
        for case in self.cases:
            if case.name == name:
                return case
        raise KeyError(name)


def draw_seed(secret: bytes, submission: bytes) -> bytes:
    """What decides which cases a submission meets: HMAC-SHA256 of its content under the instructor's secret."""
    return hmac.digest(secret, hashlib.sha256(submission).digest(), "sha256")


def sample(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    """An array's numbers at `places` of its flat form, taken modulo its size, for a wrong shape has places too."""
    flat = np.asarray(array).ravel()
    return flat[places.astype(int) % flat.size] if flat.size else flat


def same_numbers(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
    """Equal up to `tolerance` times the largest wanted number; NaN and infinity only where wanted."""
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    finite = np.isfinite(wanted)
    if got.shape != wanted.shape or not np.array_equal(np.isfinite(got), finite):
        return False
    if not finite.any():
        return True
    scale = np.abs(wanted[finite]).max()
    return bool(np.abs(got[finite] - wanted[finite]).max() <= tolerance * scale)


# ------------------------------------------------------------------------------------------- computing


def compute_bank(
    root: Path | str,
    *,
    seed: int,
    cases_per_kind: int,
    variants: Callable[[Sequence], Execute],
    spare: int | None = None,
    on_case: Callable[[], object] = lambda: None,
) -> CaseBank:
    """The bank of the solved project in `root` and of every mistake of the catalogue.

    cases_per_kind: of an operation of which a submission meets two cases a kind; twice as many where it meets four.
    variants: patches of the project -> what executes operations on the project so patched. Of each kind `spare`
    more cases are tried than kept (by default a quarter): those stay in which most mistakes show.
    """
    from grading.case_inputs import INPUTS
    from grading.mistakes import catalogue

    entries = catalogue()
    solution = variants(())
    wrong = [(entry, form, variants(form)) for entry in entries for form in entry.forms]
    cases = []
    for operation in INPUTS:
        kept = cases_per_kind * OPERATIONS[operation].draws // 2
        for kind, make in INPUTS[operation].items():
            rng = np.random.default_rng([seed, *hashlib.sha256(f"{operation}/{kind}".encode()).digest()])
            tried: list[Case] = []
            while len(tried) < kept + (_spare(kept) if spare is None else spare):
                inputs = make(rng)
                expected = solution(operation, inputs)
                if not _telling(expected, kind):
                    continue
                outcomes = [
                    (entry, _outcome(execute, operation, inputs))
                    for entry, _, execute in wrong
                    if entry.operation == operation
                ]
                tried.append(_case(operation, kind, inputs, expected, outcomes, rng))
                on_case()
            tried.sort(key=lambda case: -sum(bool(answer.outputs or answer.error) for answer in case.answers))
            for number, case in enumerate(tried[:kept]):
                cases.append(Case(**{**vars(case), "name": f"{operation}/{kind}/{number}"}))
    mistakes = {
        entry.id: Mistake(
            entry.id, entry.operation, entry.title, f"{entry.sentence} See {entry.where}.", entry.follows
        )
        for entry in entries
        if not entry.accepted
    }
    return CaseBank(mistakes, cases)


def write_bank(
    path: Path | str,
    root: Path | str,
    *,
    seed: int,
    cases_per_kind: int = 12,
    on_case: Callable[[], object] = lambda: None,
) -> Path:
    """Computes a bank from the solved project in `root` and writes it. Needs the catalogue, and takes minutes;
    `on_case` is called after each of `case_count(cases_per_kind)` cases.
    """
    from grading.local import local_variants

    with local_variants(root) as variants:
        bank = compute_bank(
            root, seed=seed, cases_per_kind=cases_per_kind, variants=variants, on_case=on_case
        )
    return save_bank(bank, path)


def case_count(cases_per_kind: int) -> int:
    """How many cases `write_bank` tries: for a progress bar."""
    from grading.case_inputs import INPUTS

    kept = {operation: cases_per_kind * OPERATIONS[operation].draws // 2 for operation in INPUTS}
    return sum(len(kinds) * (kept[name] + _spare(kept[name])) for name, kinds in INPUTS.items())


def _spare(kept: int) -> int:
    return max(1, kept // 4)


def _outcome(execute: Execute, operation: str, inputs: Arrays) -> Arrays | str:
    try:
        return execute(operation, inputs)
    except ChildError as error:
        return error.kind


def _telling(expected: Arrays, kind: str) -> bool:
    """Whether every image has an answer that is not zero (but the one that is to have none)."""
    for key, array in expected.items():
        if not np.isfinite(array).all():
            return False
        if key in ("maps", "again"):
            peaks = np.abs(array).reshape(len(array), -1).max(axis=1)
            empty = kind == "no evidence in one" and key == "maps"
            if empty != (peaks[0] == 0) or (peaks[1:] < 0.02 * peaks.max()).any() or peaks.max() == 0:
                return False
            if not empty and peaks[0] < 0.02 * peaks.max():
                return False
    return True


def _case(
    operation: str, kind: str, inputs: Arrays, expected: Arrays, outcomes: list, rng: np.random.Generator
) -> Case:
    places, accepted, answers = {}, [], []
    for key, array in expected.items():
        # Where a mistake is furthest from the truth it is seen best; the rest of the places are random.
        furthest = [
            int(np.argmax(np.nan_to_num(np.abs(outcome[key] - array), nan=np.inf)))
            for _, outcome in outcomes
            if not isinstance(outcome, str) and key in outcome and outcome[key].shape == array.shape
        ]
        count = min(SAMPLE, array.size)
        chosen = [*dict.fromkeys(furthest), *rng.permutation(array.size).tolist()]
        places[key] = np.sort(np.array([*dict.fromkeys(chosen)][: max(count, len({*furthest}))], np.float64))
    for entry, outcome in outcomes:
        if entry.accepted:
            accepted.append(outcome)
        elif isinstance(outcome, str):
            answers.append(Answer(entry.id, {}, outcome))
        else:
            different = {
                key: (array.shape, sample(array, places[key]))
                for key, array in outcome.items()
                if not same_numbers(array, expected[key], tolerance(operation, key, expected[key].dtype))
            }
            answers.append(Answer(entry.id, different))
    return Case("", operation, kind, inputs, expected, accepted, places, answers)


# --------------------------------------------------------------------------------------------- on disk


class _Rows:
    """Arrays laid end to end in one row for each precision; an array's reference is [precision, start, shape]."""

    def __init__(self) -> None:
        self.parts: dict[str, list[np.ndarray]] = {"f4": [], "f8": []}
        self.lengths = {"f4": 0, "f8": 0}

    def add(self, array: np.ndarray) -> list:
        row = "f4" if array.dtype == np.float32 else "f8"
        reference = [row, self.lengths[row], list(array.shape)]
        self.parts[row].append(np.asarray(array, row).ravel())
        self.lengths[row] += array.size
        return reference

    def add_all(self, arrays: Arrays) -> dict[str, list]:
        return {key: self.add(array) for key, array in arrays.items()}


def save_bank(bank: CaseBank, path: Path | str) -> Path:
    """Writes a bank, whole or not at all."""
    rows, cases = _Rows(), []
    for case in bank.cases:
        answers = []
        for answer in case.answers:
            outputs = {
                key: [list(shape), rows.add(values)] for key, (shape, values) in answer.outputs.items()
            }
            answers.append([answer.mistake, outputs, answer.error])
        cases.append(
            {
                "name": case.name,
                "operation": case.operation,
                "kind": case.kind,
                "inputs": rows.add_all(case.inputs),
                "expected": rows.add_all(case.expected),
                "accepted": [rows.add_all(arrays) for arrays in case.accepted if not isinstance(arrays, str)],
                "places": rows.add_all(case.places),
                "answers": answers,
            }
        )
    mistakes = [asdict(mistake) for mistake in bank.mistakes.values()]
    index = json.dumps({"format": FORMAT, "mistakes": mistakes, "cases": cases}, separators=(",", ":"))
    path = Path(path)
    with replace_whole(path) as temporary, temporary.open("wb") as file:
        # To mypy a row could be named allow_pickle, which is an option.
        np.savez_compressed(
            file,
            index=np.frombuffer(index.encode(), np.uint8),
            **{row: np.concatenate(parts or [np.zeros(0, row)]) for row, parts in rows.parts.items()},  # type: ignore[arg-type]
        )
    return path


def load_bank(path: Path | str) -> CaseBank:
    """A bank from its file. Raises ValueError for a file of another format."""
    with np.load(path, allow_pickle=False) as data:
        index = json.loads(data["index"].tobytes())
        rows = {"f4": data["f4"], "f8": data["f8"]}
    if index["format"] != FORMAT:
        raise ValueError(f"{path} has format {index['format']}, expected {FORMAT}: compute the bank again")

    def array(reference: list) -> np.ndarray:
        row, start, shape = reference
        return rows[row][start : start + int(np.prod(shape))].reshape(shape)

    def arrays(references: dict[str, list]) -> Arrays:
        return {key: array(reference) for key, reference in references.items()}

    cases = []
    for case in index["cases"]:
        answers = [
            Answer(
                mistake,
                {key: (tuple(shape), array(values)) for key, (shape, values) in outputs.items()},
                error,
            )
            for mistake, outputs, error in case["answers"]
        ]
        cases.append(
            Case(
                case["name"],
                case["operation"],
                case["kind"],
                arrays(case["inputs"]),
                arrays(case["expected"]),
                [arrays(references) for references in case["accepted"]],
                arrays(case["places"]),
                answers,
            )
        )
    return CaseBank({mistake["id"]: Mistake(**mistake) for mistake in index["mistakes"]}, cases)
