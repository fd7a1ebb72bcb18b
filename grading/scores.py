"""A class's scores: what the judge gave, and what the teacher changed or remarked in overrides.csv.

The file is the teacher's. No command changes it, so it stays when submissions are graded again.
"""

import csv
import io
import math
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grading.assess import Assessment
from grading.judge import TaskResult
from grading.tasks import TASKS, find_tasks
from helpers.errors import CannotError, UsageError, nearest
from helpers.files import replace_whole

OVERRIDES = "overrides.csv"
COLUMNS = ("key", "task", "points", "remark")
SEPARATORS = ",;\t"
SHOWN = 60  # characters of a value in an error message
# What became of a task, and how the report calls it.
STATES = {
    "passed": "all points",
    "partial": "some points",
    "wrong": "no points: mistakes",
    "stopped": "no points: stopped by an error",
    "blank": "not solved yet, or not handed in",
}


@dataclass(frozen=True)
class Override:
    """A line of the file: points (or None) and a remark (or "") for one task, or for the whole if `task` is ""."""

    points: float | None = None
    remark: str = ""


Overrides = Mapping[tuple[str, str], Override]  # by key and task


@dataclass
class TaskScore:
    """One task of one submission. `points`: after the teacher's change. `state`: one of STATES."""

    result: TaskResult
    points: float
    remark: str = ""
    changed: bool = False

    @property
    def state(self) -> str:
        kinds = {finding.kind for finding in self.result.findings}
        if self.points >= self.result.max_points:
            return "passed"
        if self.points > 0:
            return "partial"
        if kinds == {"blank"}:
            return "blank"
        return "stopped" if "stopped" in kinds else "wrong"


@dataclass
class Score:
    """One submission. `judged`: the judge's points, `points`: after the teacher's changes; None: not graded."""

    record: Mapping
    assessment: Assessment
    tasks: list[TaskScore] = field(default_factory=list)
    judged: float | None = None
    points: float | None = None
    remark: str = ""

    @property
    def max_points(self) -> float:
        return self.assessment.report.max_points

    @property
    def changes(self) -> list[tuple[str, float | None, float | None]]:
        """(what, points before, points after) of each change by the teacher; the total comes last."""
        changes: list[tuple[str, float | None, float | None]] = [
            (f"Task {task.result.number}", task.result.points, task.points)
            for task in self.tasks
            if task.changed
        ]
        return changes + [("total", self.judged, self.points)] * (self.points != self.judged)


def scores(records: Sequence[Mapping], overrides: Overrides) -> list[Score]:
    """The scores of records of grading.folder."""
    return [_score(record, overrides) for record in records]


def _score(record: Mapping, overrides: Overrides) -> Score:
    assessment = Assessment.of(record)
    score = Score(record, assessment)
    score.judged = None if record["failure"] else assessment.report.points
    for result in assessment.report.tasks:
        override = overrides.get((record["key"], result.task), Override())
        changed = override.points is not None and (
            override.points != result.points or bool(record["failure"])
        )
        points = result.points if override.points is None else override.points
        score.tasks.append(TaskScore(result, points, override.remark, changed))
    # What the judge could not grade has a total only when the teacher has given points for every task.
    if score.judged is not None or all(task.changed for task in score.tasks):
        score.points = round(sum(task.points for task in score.tasks), 2)
    whole = overrides.get((record["key"], ""), Override())
    score.points = score.points if whole.points is None else whole.points
    score.remark = whole.remark
    return score


def read_overrides(out: Path, keys: Collection[str]) -> dict[tuple[str, str], Override]:
    """The teacher's changes in out/overrides.csv; none if there is no such file. `keys`: those of the submissions.

    Raises CannotError for the first error in it: one line that says where it is.
    """
    path = out / OVERRIDES
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise CannotError(f"{path} is not UTF-8: save it as CSV in UTF-8") from error
    except OSError as error:
        raise CannotError(f"{path} cannot be read: {error.strerror or error}") from error
    head = text.partition("\n")[0]
    # Spreadsheets of some countries separate by semicolons.
    reader = csv.DictReader(
        io.StringIO(text, newline=""),
        delimiter=max(SEPARATORS, key=head.count),
        restkey="more",
        strict=True,  # a quote without an end would swallow the lines after it
    )
    found: dict[tuple[str, str], Override] = {}
    lines: dict[tuple[str, str], int] = {}
    try:
        names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
        if text.strip() and (missing := [name for name in COLUMNS if name not in names]):
            raise CannotError(
                f"{path}, line 1: there is no column {missing[0]!r}; the columns are {', '.join(COLUMNS)}"
            )
        reader.fieldnames = names
        for row in reader:
            place = f"{path}, line {reader.line_num}"
            if any(row.pop("more", None) or ()):
                raise CannotError(f"{place}: too many cells; put a remark with commas between double quotes")
            cells = {name: (row[name] or "").strip() for name in COLUMNS}
            if not any(cells.values()):
                continue
            key, override = _override(cells, keys, place)
            if key in found:
                raise CannotError(
                    f"{place}: {_quoted(cells['key'])} with this task is already in line {lines[key]}"
                )
            found[key], lines[key] = override, reader.line_num
    except csv.Error as error:
        # The line that begins after the last one that could be read.
        raise CannotError(
            f"{path}, line {reader.line_num + 1}: {error}; is a double quote not closed?"
        ) from error
    return found


def _override(
    cells: Mapping[str, str], keys: Collection[str], place: str
) -> tuple[tuple[str, str], Override]:
    """A line's cells -> its key and task, and what it says."""
    key = cells["key"].removeprefix("'")  # which grades.csv has before a name like =1+1.zip
    if key not in keys:
        hint = str(nearest(key[:SHOWN], sorted(keys), "submission")) if keys else "there are no submissions"
        raise CannotError(f"{place}: {hint} (keys are in grades.csv)")
    task, most = "", sum(float(task.points) for task in TASKS.values())
    if cells["task"]:
        try:
            tasks = find_tasks([cells["task"]])
        except UsageError as error:
            raise CannotError(f"{place}: {error}") from error
        if len(tasks) != 1:
            numbers = " or ".join(TASKS[name].number for name in tasks)
            raise CannotError(f"{place}: {_quoted(cells['task'])} means several tasks: write {numbers}")
        task, most = tasks[0], float(TASKS[tasks[0]].points)
    if not cells["points"] and not cells["remark"]:
        raise CannotError(f"{place}: neither points nor a remark")
    points = None
    if cells["points"]:
        try:
            points = float(cells["points"].replace(",", ".")) + 0.0  # not -0
        except ValueError:
            points = math.nan
        if not 0 <= points <= most:
            raise CannotError(
                f"{place}: points are {_quoted(cells['points'])}; write a number from 0 to {most:g}, "
                "or nothing to leave them"
            )
    return (key, task), Override(points, cells["remark"])


def printable(text: str) -> str:
    """Without control characters, marks that reverse the direction of writing, and halves of surrogate pairs."""
    return text if text.isprintable() else "".join(c if _is_shown(c) else "\ufffd" for c in text)


def _is_shown(c: str) -> bool:
    # Spaces other than ours, and the joiners that Persian and Hindi need, count as not printable.
    return c.isprintable() or c in "\n\t\u200c\u200d" or unicodedata.category(c) == "Zs"


def _quoted(text: str) -> str:
    text = printable(text).replace("\n", " ")
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")


def begin_overrides(out: Path) -> None:
    """Writes out/overrides.csv with its columns and no lines, if it is not there."""
    if not (out / OVERRIDES).exists():
        with replace_whole(out / OVERRIDES) as temporary:
            temporary.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
