"""From a zip to points: shared by the student's own check, the grading of a folder, and Gradescope."""

from __future__ import annotations  # what is only imported for its type may need Linux

import contextlib
import os
import secrets
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from grading.cases import CaseBank, draw_seed, load_bank
from grading.judge import MISSING, NOT_WRITTEN, Finding, Report, TaskResult, grade
from grading.protocol import Arrays, ChildError, Execute
from grading.submission import GRADED_FILES, Submission, UnreadableError, read_submission
from grading.tasks import TASKS, file_of, files_of
from helpers.errors import CannotError

if TYPE_CHECKING:
    from grading.own import OwnProcess
    from grading.sandbox import Limits, Sandbox, Zygote

PROJECT = Path(__file__).resolve().parent.parent
PUBLIC_BANK = Path(__file__).with_name("cases.npz")
# The instructor's own: not in the handout, not in the repository. The bundle has both under the same names.
PRIVATE_BANK = Path(__file__).with_name("private") / "cases.npz"
SECRET = PRIVATE_BANK.with_name("secret")
# A student's copy has no secret: the cases that it draws can be predicted, those of the grader cannot.
PUBLIC_SECRET = b"the student's own check"
PRACTICE = "practice: graded with the public cases, whose answers are in every student's copy"
WIDTH = 100  # of the table, in characters
SHOWN = 12  # places of prints in a remark
UNREADABLE = "unreadable"  # id of a finding
MARKS = {"passed": "+", "partial": "~", "failed": "-"}


@dataclass
class Assessment:
    """A graded submission: plain data, for JSON."""

    report: Report
    digest: str = ""
    receipt: str = ""
    notes: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    practice: bool = False  # graded with the public cases, whose answers everybody has
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def remarks(self) -> list[str]:
        """What a student should know besides the findings. Remarks cost no points."""
        found = [finding for task in self.report.tasks for finding in task.findings]
        missing = [finding.message for finding in found if finding.id == MISSING]
        # A file that is missing is mentioned once: where it costs points.
        remarks = [PRACTICE] if self.practice else []
        remarks += [note for note in self.notes if not any(_same_file(note, message) for message in missing)]
        places: dict[str, list[str]] = {}
        for leftover in self.leftovers:
            place, _, what = leftover.partition(": ")
            places.setdefault(what.removesuffix("()"), []).append(place)
        for what, where in places.items():
            shown = ", ".join(where[:SHOWN]) + (" ..." if len(where) > SHOWN else "")
            effect = "ignores it" if what == "print" else "cannot stop there"
            remarks.append(f"{what} in {shown}: the judge {effect}, please remove it")
        return remarks

    @classmethod
    def of(cls, record: Mapping) -> Assessment:
        """The assessment of which `record` is the `as_dict`. Other keys are ignored."""
        tasks = [
            TaskResult(**task | {"findings": [Finding(**finding) for finding in task["findings"]]})
            for task in record["report"]["tasks"]
        ]
        own = {one.name: record[one.name] for one in fields(cls) if one.name in record}
        return cls(**own | {"report": Report(tasks)})

    def as_dict(self) -> dict:
        return asdict(self) | {"points": self.report.points, "max_points": self.report.max_points}


def assess(
    path: Path,
    *,
    bank: CaseBank,
    secret: bytes = PUBLIC_SECRET,
    zygote: Zygote | None = None,
    limits: Limits | None = None,
    own: OwnProcess | None = None,
    tasks: list[str] | None = None,
    on_task: Callable[[TaskResult], object] | None = None,
    fingerprints: bool = False,
) -> Assessment:
    """Grades the submission in a zip or folder; one that cannot be read gets no points and a reason.

    fingerprints: so that a class report can put equal mistakes without a name together.
    own: executes your own code, without the sandbox (which needs Linux) and its `zygote` and `limits`.
    Raises CannotError if this machine cannot grade, which says nothing about the submission.
    """
    try:
        submission = read_submission(path)
    except UnreadableError as error:
        return nothing(str(error))
    if not submission.files:
        return nothing("it contains none of the seven graded files", submission)
    # In the zygote's folder, which is removed even if this process is killed.
    with _started(zygote, own) as zygote, TemporaryDirectory(dir=zygote.base if zygote else None) as folder:
        root = submission.write(Path(folder).resolve(), PROJECT)
        with _executor(root, limits, zygote, own) as execute:

            def finish(result: TaskResult) -> None:
                execute.end_task()
                if on_task:
                    on_task(result)

            seed = draw_seed(secret, submission.digest.encode())
            report = grade(
                *(_without_missing(execute, submission), seed, bank, tasks, finish), fingerprints=fingerprints
            )
    result = _assessment(report, submission)
    result.notes += getattr(execute, "remarks", [])  # only a sandbox has them
    result.practice = own is None and secret == PUBLIC_SECRET
    return result


def _started(
    zygote: Zygote | None, own: OwnProcess | None
) -> contextlib.AbstractContextManager[Zygote | None]:
    if own is not None or zygote is not None:
        return contextlib.nullcontext(zygote)
    from grading.sandbox import Zygote

    return Zygote()


def _executor(
    root: Path, limits: Limits | None, zygote: Zygote | None, own: OwnProcess | None
) -> contextlib.AbstractContextManager[Sandbox | OwnProcess]:
    if own is not None:
        own.root = root
        return contextlib.nullcontext(own)
    from grading.sandbox import Sandbox

    return Sandbox(root, limits, zygote)


def _without_missing(execute: Execute, submission: Submission) -> Execute:
    """`execute`, but for an operation whose file is missing an error that says so."""

    def checked(operation: str, inputs: Arrays) -> Arrays:
        name = file_of(operation)
        if name in submission.files:
            return execute(operation, inputs)
        notes = [note for note in submission.notes if _same_file(note, name)]
        raise ChildError("missing", notes[-1] if notes else f"{name} is missing")

    return checked


def _same_file(one: str, other: str) -> bool:
    """Whether two notes begin with the same file."""
    return one.partition(" ")[0] == other.partition(" ")[0]


def nothing(reason: str, submission: Submission | None = None) -> Assessment:
    """The assessment of a submission that cannot be graded: no points, and the reason."""
    finding = Finding(UNREADABLE, "The submission cannot be read", reason, "blank")
    results = [
        TaskResult(name, task.title, task.number, 0.0, float(task.points), "failed", [finding])
        for name, task in TASKS.items()
    ]
    return _assessment(Report(results), submission or Submission())


def _assessment(report: Report, submission: Submission) -> Assessment:
    notes = [*submission.notes, *(f"{name} is missing" for name in submission.missing if submission.files)]
    # Of a single task, only what concerns its files.
    others = set(GRADED_FILES).difference(*(files_of(task.task) for task in report.tasks))
    return Assessment(
        report=report,
        digest=submission.digest,
        receipt=submission.receipt if submission.files else "",
        notes=[note for note in notes if note.partition(" ")[0] not in others],
        ignored=submission.ignored,
        leftovers=[line for line in submission.leftovers() if line.partition(":")[0] not in others],
        sources={name: source.decode("utf-8", "replace") for name, source in submission.files.items()},
    )


def table(assessment: Assessment, *, receipt: bool = True) -> str:
    """The table for student and grader: one line per task, its findings below it, and the total."""
    lines = []
    for task in assessment.report.tasks:
        points = f"{task.points:g} / {task.max_points:g}"
        line = f"{MARKS.get(task.status, '?')} {task.number:<4}{task.title:<40}{points:>12}"
        if not task.points and {finding.id for finding in task.findings} == {NOT_WRITTEN}:
            lines.append(f"{line}   not written yet")
            continue
        lines.append(line)
        for finding in task.findings:
            lines += textwrap.wrap(
                finding.message, WIDTH, initial_indent="       ", subsequent_indent="       "
            )
    total = f"{assessment.report.points:g} / {assessment.report.max_points:g}"
    lines.append(f"  {'':<4}{'total':<40}{total:>12}")
    lines += [line for remark in assessment.remarks for line in textwrap.wrap(f"note: {remark}", WIDTH)]
    if assessment.receipt and receipt:
        lines.append(f"receipt {assessment.receipt}")
    return "\n".join(lines)


def next_step(assessment: Assessment) -> str:
    """One line for a student: the first task without all its points, or what comes after the last."""
    for task in assessment.report.tasks:
        if task.status != "passed":
            return f"Next: Task {task.number}, {', '.join(files_of(task.task))}"
    if len(assessment.report.tasks) < len(TASKS):
        return "Next: check all tasks, without --task"
    return "Next: python collect_submission.py, which makes the zip to hand in"


def bank_and_secret(public: bool = False) -> tuple[CaseBank, bytes]:
    """The grader's private bank and secret or, with `public`, those of a student's copy.

    The public ones are never used in place of missing private ones: everybody has their answers. Raises CannotError.
    """
    if not public and not (PRIVATE_BANK.is_file() and SECRET.is_file()):
        lacking = SECRET if PRIVATE_BANK.is_file() else PRIVATE_BANK
        raise CannotError(
            f"{_inside_project(lacking)} is missing: put your copy of it back, or run `python -m grading cases "
            "--private`; or practise with the public cases: --public"
        )
    bank = PUBLIC_BANK if public else PRIVATE_BANK
    if not bank.is_file():
        raise CannotError(f"{_inside_project(bank)} is missing: run `python -m grading cases`")
    return load_bank(bank), PUBLIC_SECRET if public else own_secret()


def _inside_project(path: Path) -> Path:
    return path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path


def own_secret() -> bytes:
    """The grader's secret, made at the first call. It decides which cases are drawn for a submission."""
    if not SECRET.is_file():
        SECRET.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(SECRET, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(32) + "\n")
    return bytes.fromhex(SECRET.read_text().strip())
