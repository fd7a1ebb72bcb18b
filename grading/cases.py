"""The case bank: inputs, expected outputs, and the outputs of each known mistake.

It is computed once from the solved project, so that grading needs neither the solution nor the mistakes. A secret
and the submission itself decide which cases are drawn: the same ones each time, but nobody can predict them.

On disk a bank is one .npz without pickles: all float32 numbers in one row, all float64 numbers in another, and
a JSON index of the arrays in them.
"""

import contextlib
import hashlib
import hmac
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from grading.protocol import Arrays, ChildError, Execute
from grading.tasks import OPERATIONS, tolerance
from helpers.files import replace_whole

SAMPLE = 24  # numbers kept of each array in a mistake's answer
FORMAT = 2
PROCESSES = 2  # that compute a bank


@dataclass(frozen=True)
class Mistake:
    """An entry of the catalogue as the judge knows it: its name and explanation, not its source."""

    id: str
    operation: str
    title: str
    message: str


@dataclass(frozen=True)
class Answer:
    """The answer of one form of a mistake to a case: the shape of each wrong output and its numbers at the case's
    `places`; or the kind of error.
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
        """`count` cases of one kind, chosen by `seed`."""
        cases = [case for case in self.cases if (case.operation, case.kind) == (operation, kind)]
        return sorted(cases, key=lambda case: hmac.digest(seed, case.name.encode(), "sha256"))[:count]

    def case(self, name: str) -> Case:
        """The case with this name (TaskResult lists names). Raises KeyError."""
        for case in self.cases:
            if case.name == name:
                return case
        raise KeyError(name)


def draw_seed(secret: bytes, submission: bytes) -> bytes:
    """The seed that decides which cases are drawn: HMAC-SHA256 of the submission with the instructor's secret."""
    return hmac.digest(secret, hashlib.sha256(submission).digest(), "sha256")


def sample(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The numbers at `places` of the flattened array; places are taken modulo its size, which may be wrong."""
    flat = np.asarray(array).ravel()
    return flat[places.astype(int) % flat.size] if flat.size else flat


def same_numbers(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
    """Equal up to `tolerance` times the largest wanted number, and NaN or infinity in the same places."""
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
    only: tuple[str, str] | None = None,
) -> CaseBank:
    """The bank of the solved project in `root` and of every mistake of the catalogue.

    cases_per_kind: for operations with two draws per kind; with four draws there are twice as many, with one half.
    variants: patches of the project -> a function that executes operations on the patched project.
    spare: how many more cases of each kind are tried than kept (by default a quarter). The cases in which most
    mistakes give a wrong answer are kept.
    only: an operation and one of its kinds. Each kind has random numbers of its own, so the cases are the same ones.
    """
    from grading.case_inputs import INPUTS
    from grading.mistakes import catalogue

    entries = catalogue()
    solution = variants(())
    wrong = [(entry, form, variants(form)) for entry in entries for form in entry.forms]
    cases = []
    for operation in INPUTS:
        kept = _kept(operation, cases_per_kind)
        for kind, make in INPUTS[operation].items():
            if only not in (None, (operation, kind)):
                continue
            rng = np.random.default_rng([seed, *hashlib.sha256(f"{operation}/{kind}".encode()).digest()])
            tried: list[Case] = []
            while len(tried) < kept + (_spare(kept) if spare is None else spare):
                inputs = make(rng)
                expected = solution(operation, inputs)
                if not _telling(expected, kind) or not _steady(solution, operation, inputs, expected, rng):
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
        entry.id: Mistake(entry.id, entry.operation, entry.title, f"{entry.sentence} See {entry.where}.")
        for entry in entries
        if not entry.accepted
    }
    return CaseBank(mistakes, cases)


def write_bank(
    path: Path | str,
    root: Path | str,
    *,
    seed: int,
    cases_per_kind: int = 8,
    on_case: Callable[[], object] = lambda: None,
) -> Path:
    """Computes a bank from the solved project in `root` and writes it, which takes minutes. Needs the catalogue.
    `on_case` is called for each of `case_count(cases_per_kind)` cases when its kind is complete.

    Two processes share the work, one kind at a time; a variant is built where it is first needed.
    """
    # Not at the top: a student's check runs where these modules may be missing.
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from grading.case_inputs import INPUTS

    kinds = [(operation, kind) for operation in INPUTS for kind in INPUTS[operation]]
    banks = {}
    # With "spawn": torch has threads, which a forked process would lack.
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(PROCESSES, context) as pool:
        waiting = {
            pool.submit(_bank_of_a_kind, folder, Path(root), seed, cases_per_kind, only): only
            for only in kinds
        }
        try:
            for done in as_completed(waiting):
                banks[waiting[done]] = done.result()
                for _ in range(case_count(cases_per_kind, waiting[done][0])):
                    on_case()
        finally:
            pool.shutdown(cancel_futures=True)
    cases = [case for only in kinds for case in banks[only].cases]
    return save_bank(CaseBank(banks[kinds[0]].mistakes, cases), path)


_variants: dict[str, Callable[[Sequence], Execute]] = {}  # of a process, by its folder


def _bank_of_a_kind(
    folder: str, root: Path, seed: int, cases_per_kind: int, only: tuple[str, str]
) -> CaseBank:
    """Runs in a process of its own. `folder`: for temporary files, which its owner removes."""
    import torch

    from grading.local import local_variants

    torch.set_num_threads(1)  # on networks this small, threads mostly wait for each other
    tempfile.tempdir = folder
    if folder not in _variants:
        _variants[folder] = _kept_open.enter_context(local_variants(root))
    return compute_bank(root, seed=seed, cases_per_kind=cases_per_kind, variants=_variants[folder], only=only)


_kept_open = contextlib.ExitStack()


def case_count(cases_per_kind: int, only: str | None = None) -> int:
    """The number of cases that `write_bank` tries, for a progress bar. With `only`, of one kind of this operation."""
    from grading.case_inputs import INPUTS

    kept = {operation: _kept(operation, cases_per_kind) for operation in INPUTS}
    if only is not None:
        return kept[only] + _spare(kept[only])
    return sum(len(kinds) * (kept[name] + _spare(kept[name])) for name, kinds in INPUTS.items())


def _kept(operation: str, cases_per_kind: int) -> int:
    return max(1, cases_per_kind * OPERATIONS[operation].draws // 2)


def _spare(kept: int) -> int:
    return max(1, kept // 4)


def _outcome(execute: Execute, operation: str, inputs: Arrays) -> Arrays | str:
    try:
        return execute(operation, inputs)
    except ChildError as error:
        return error.kind


def _telling(expected: Arrays, kind: str) -> bool:
    """Whether every image has an answer other than zero, except the image that should have none."""
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


def _steady(
    solution: Execute, operation: str, inputs: Arrays, expected: Arrays, rng: np.random.Generator
) -> bool:
    """Whether rounding in single precision leaves the answer as it is: it must not cost a right solution points."""
    if all(array.dtype != np.float32 for array in expected.values()):
        return True
    rounded = {
        key: (array * (1 + 1e-7 * rng.normal(size=array.shape))).astype(np.float32)
        if array.dtype == np.float32
        else array
        for key, array in inputs.items()
    }
    if operation == "update_rule":
        rounded |= {
            key: inputs[key] for key in ("content", "style")
        }  # levels of 0..255, not measured numbers
    answer = solution(operation, rounded)
    return all(
        same_numbers(answer[key], expected[key], tolerance(operation, key, expected[key].dtype) / 2)
        for key in OPERATIONS[operation].outputs
        if key in expected
    )


def _case(
    operation: str, kind: str, inputs: Arrays, expected: Arrays, outcomes: list, rng: np.random.Generator
) -> Case:
    places, accepted, answers = {}, [], []
    graded = {key: array for key, array in expected.items() if key in OPERATIONS[operation].outputs}
    for key, array in graded.items():
        # The place where a mistake's error is largest tells most; the other places are random.
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
                if key in graded
                and not same_numbers(array, expected[key], tolerance(operation, key, expected[key].dtype))
            }
            answers.append(Answer(entry.id, different))
    return Case("", operation, kind, inputs, expected, accepted, places, answers)


# --------------------------------------------------------------------------------------------- on disk


class _Rows:
    """Arrays end to end in one row per precision. The reference to an array is [precision, start, shape]."""

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
    """Writes a bank to its file."""
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
