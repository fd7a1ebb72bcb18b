"""What the instructor reads, grades.csv and report.html, and what each student gets, feedback/NAME.html.

Every page is a single file. The layouts are in templates/.
"""

import base64
import csv
import hashlib
import io
import re
import statistics
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from grading.assess import PRACTICE, UNREADABLE
from grading.folder import load_left_out, load_results
from grading.handout import emptied, solutions
from grading.judge import Finding, Fingerprint, same_fingerprint
from grading.scores import (
    OVERRIDES,
    STATES,
    Overrides,
    Score,
    begin_overrides,
    printable,
    read_overrides,
    scores,
)
from grading.similarity import Pair, similar_pairs
from grading.submission import ARCHIVES, GRADED_FILES
from grading.tasks import OPERATIONS, TASKS, Task
from helpers.files import replace_whole

NOTHING: Mapping = MappingProxyType({})
BINS = 10
SHOWN_PAIRS, SHOWN_IGNORED = 25, 20
SHOWN_NAME = 60  # characters
FEEDBACK = "feedback"
LONGEST = 120  # bytes of a name in the name of a feedback file
# Windows gives these names to devices.
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.I)
FOLDER = Path(__file__).with_name("templates")
# Only this script may run, whatever a student's text is.
SCRIPT = (FOLDER / "sort.js").read_text(encoding="utf-8")
SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
FIRST_LINE = "<!DOCTYPE html><!-- written by `python -m grading`, which also removes it -->"


def _shown(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


TEMPLATES = Environment(
    loader=FileSystemLoader(FOLDER),
    autoescape=True,
    finalize=_shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_reports(out: Path, project: Path) -> Path:
    """Writes out/grades.csv, out/feedback/ and out/report.html from out/results and out/overrides.csv; returns the
    report's path. Raises CannotError before anything is written if there is an error in the overrides.
    """
    records = load_results(out)
    overrides = read_overrides(out, [record["key"] for record in records])
    begin_overrides(out)
    pairs = similar_pairs([record["sources"] for record in records], blank_sources(project))
    texts = {
        f"{FEEDBACK}/{name}": feedback(score, student)
        for score, own in zip(scores(records, overrides), feedback_names(records), strict=True)
        for name, student in own.items()
    }
    texts["grades.csv"] = grades_csv(records, overrides)
    texts["report.html"] = page(records, pairs, overrides, load_left_out(out))
    for name, text in texts.items():
        with replace_whole(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    for path in (out / FEEDBACK).glob("*.html"):
        # Of a student who is no longer in the class, or has another name now. A file of the teacher's own stays.
        if f"{FEEDBACK}/{path.name}" not in texts and path.is_file() and _is_ours(path):
            path.unlink()
    return out / "report.html"


def _is_ours(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(FIRST_LINE)) == FIRST_LINE.encode()


def blank_sources(project: Path) -> dict[str, str]:
    """The graded files as handed out: what two students share of these means nothing."""
    solved = solutions(project)
    return {
        name: emptied((project / name).read_text(encoding="utf-8"), solved.get(name, []))
        for name in GRADED_FILES
        if (project / name).is_file()
    }


# -------------------------------------------------------------------------------------------- the table


def grades_csv(records: Sequence[Mapping], overrides: Overrides = NOTHING) -> str:
    """One line per student, also in groups: total points, points per task, the receipt, findings, remarks."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        [
            *("file", "name", "sid", "email", "points", "max_points", *TASKS, "receipt", "remarks"),
            *("findings", "judged", "changes", "key", "feedback"),
        ]
    )
    for score, own in zip(scores(records, overrides), feedback_names(records), strict=True):
        record = score.record
        by_task = {
            # A failure of the grader must not look like 0 points.
            task.result.task: "" if score.judged is None and not task.changed else task.points
            for task in score.tasks
        }
        cells = [
            *(_cell(score.points), score.max_points, *(by_task.get(name, "") for name in TASKS)),
            *(record["receipt"], "; ".join(_csv_remarks(score)), _findings_cell(score)),
            *(_cell(score.judged), "; ".join(_change(*change) for change in score.changes), record["key"]),
        ]
        for name, student in own.items():
            who = [record["file"], *(student.get(key, "") for key in ("name", "sid", "email"))]
            row = [*who, *cells, f"{FEEDBACK}/{name}"]
            writer.writerow([_harmless(_shown(cell)) for cell in row])
    return buffer.getvalue()


def _harmless(cell: object) -> object:
    """An apostrophe before text that a spreadsheet would read as a formula, also if it separates cells elsewhere than
    we do: by semicolons, tabs or new lines.
    """
    return re.sub(r"(^|[\s;,|:\"])(?=[=+\-@＝＋－＠])", r"\1'", cell) if isinstance(cell, str) else cell


def _cell(points: float | None) -> object:
    return "" if points is None else points


def _change(what: str, before: float | None, after: float | None) -> str:
    return f"{what}: from {_points(before)} to {_points(after)}"


def _points(points: float | None) -> str:
    return "?" if points is None else f"{points:g}"


def _findings_cell(score: Score) -> str:
    """Each different finding once, after the tasks that have it."""
    where: dict[str, list[str]] = defaultdict(list)
    for task in score.tasks if score.judged is not None else ():
        for finding in task.result.findings:
            where[f"{finding.title}: {finding.message}"].append(task.result.number)
    everywhere = [task.result.number for task in score.tasks]
    return "; ".join(
        f"{'All tasks' if numbers == everywhere else 'Task ' + ', '.join(numbers)}: {text}"
        for text, numbers in where.items()
    )


def _csv_remarks(score: Score) -> list[str]:
    record = score.record
    practice = PRACTICE if score.assessment.practice else ""
    remarks = [record["failure"], practice, *record["notes"]]
    return [remark for remark in [*remarks, *_teachers_remarks(score)] if remark]


def _teachers_remarks(score: Score) -> list[str]:
    own = [f"Task {task.result.number}: {task.remark}" for task in score.tasks if task.remark]
    return own + [score.remark] * bool(score.remark)


# ------------------------------------------------------------------------------------- a student's page


def feedback_names(records: Sequence[Mapping]) -> list[dict[str, dict]]:
    """For each record the names of its feedback files, one per student -> the student. Letters, digits and marks that
    no file system minds; no two differ only in case.
    """
    people = [
        (record, number, student)
        for record in records
        for number, student in enumerate(record["students"] or [{}])
    ]
    bases = [_base(record, student) for record, _, student in people]
    counts = Counter(_as_disks_compare(base) for base in bases)
    names: dict[str, dict[str, dict]] = {record["key"]: {} for record in records}
    for (record, number, student), base in zip(people, bases, strict=True):
        # A name of several people ends in a hash that nobody else has, and no other name ends like that.
        if counts[_as_disks_compare(base)] > 1 or re.search("-[0-9a-f]{64}$", base.casefold()):
            own = f"{number} {record['key']}".encode(errors="surrogatepass")
            base += "-" + hashlib.sha256(own).hexdigest()
        names[record["key"]][f"{base}.html"] = student
    return [names[record["key"]] for record in records]


def _as_disks_compare(name: str) -> str:
    return unicodedata.normalize("NFKC", name.casefold())


def _base(record: Mapping, student: Mapping[str, str]) -> str:
    name = next(filter(None, (student.get(key) for key in ("name", "sid", "email"))), record["file"])
    name = next((name[: -len(end)] for end in ARCHIVES if name.lower().endswith(end)), name)
    # One way to write an accented letter: some file systems take the others for the same.
    name = re.sub(r"[^\w-]+", "_", unicodedata.normalize("NFKC", name)).strip("_-")
    name = name.encode()[:LONGEST].decode(errors="ignore")
    return f"_{name}" if not name or DEVICES.fullmatch(name) else name


def feedback(score: Score, student: Mapping[str, str]) -> str:
    """The page of one student, who may have worked in a group. It names nobody else."""
    name = student.get("name") or student.get("sid") or student.get("email") or score.record["file"]
    return TEMPLATES.get_template("feedback.html").render(
        first_line=Markup(FIRST_LINE),
        name=name,
        score=score,
        remarks=score.assessment.remarks,
        states=STATES,
    )


# ------------------------------------------------------------------------------------ the class's page


@dataclass
class Group:
    """Submissions, by number, that something was found in."""

    title: str
    message: str = ""
    tasks: dict[str, None] = field(default_factory=dict)
    numbers: dict[int, None] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return next(iter(self.tasks)) if len(self.tasks) == 1 else f"{len(self.tasks)} tasks"


@dataclass(frozen=True)
class Figures:
    """The total points of the class."""

    count: int
    most: float
    mean: float
    deviation: float
    median: float
    full: int  # submissions with all points


@dataclass(frozen=True)
class TaskRow:
    """A task throughout the class: mean and standard deviation of the points, how many reached each state."""

    task: Task
    mean: float
    deviation: float
    states: dict[str, int]


def page(
    records: Sequence[Mapping],
    pairs: Sequence[Pair],
    overrides: Overrides = NOTHING,
    left_out: Mapping[str, str] = NOTHING,
) -> str:
    """The whole report as HTML."""
    class_scores = scores(records, overrides)
    graded = [score for score in class_scores if score.points is not None]
    shown = pairs[:SHOWN_PAIRS]
    return TEMPLATES.get_template("report.html").render(
        script=Markup(SCRIPT),
        script_hash=SCRIPT_HASH,
        scores=class_scores,
        names=[_name(score) for score in class_scores],
        feedback=[list(own) for own in feedback_names(records)],
        folder=FEEDBACK,
        overrides=OVERRIDES,
        tasks=TASKS,
        states=STATES,
        whole=figures(graded),
        practice=PRACTICE if any(score.assessment.practice for score in class_scores) else "",
        counts=_counts(graded),
        rows=task_rows(graded),
        mistakes=_groups(class_scores, "mistake"),
        unnamed=unnamed_groups(class_scores),
        stopped=_groups(class_scores, "stopped"),
        blank=_blank_groups(class_scores),
        failed=[number for number, score in enumerate(class_scores) if score.points is None],
        left_out=left_out,
        pairs=shown,
        more_pairs=len(pairs) - len(shown),
        remarks=_remarks,
        lines=_lines,
        alike=lambda number: [pair for pair in shown if number in (pair.first, pair.second)],
    )


def _name(score: Score) -> str:
    record = score.record
    name = ", ".join(filter(None, (student.get("name") for student in record["students"])))
    name = name or record["file"]
    return name if len(name) <= SHOWN_NAME else f"{name[: SHOWN_NAME - 12]}...{name[-9:]}"


def _lines(source: str) -> list[str]:
    """The lines as Python counts them: splitlines() also ends them at rarer characters."""
    return source.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def figures(graded: Sequence[Score]) -> Figures:
    """The class's figures. The deviation is that of the class itself, not an estimate from a sample."""
    points = [score.points for score in graded if score.points is not None] or [0.0]
    most = float(sum(task.points for task in TASKS.values()))
    return Figures(
        *(len(graded), most, statistics.mean(points), statistics.pstdev(points), statistics.median(points)),
        full=sum(value >= most for value in points),
    )


def _counts(graded: Sequence[Score]) -> list[int]:
    """How many reached 0-9 percent of the points, 10-19 percent, ...; full marks count in the last bin."""
    counts = [0] * BINS
    for score in graded:
        share = (score.points or 0) / score.max_points if score.max_points else 0
        counts[min(BINS - 1, int(share * BINS + 1e-9))] += 1
    return counts


def task_rows(graded: Sequence[Score]) -> list[TaskRow]:
    """Each task's figures."""
    rows = []
    for name, task in TASKS.items():
        own = [
            result
            for score in graded
            for result in score.tasks
            if result.result.task == name and (score.judged is not None or result.changed)
        ]
        points = [result.points for result in own] or [0.0]
        states = {state: sum(result.state == state for result in own) for state in STATES}
        rows.append(TaskRow(task, statistics.mean(points), statistics.pstdev(points), states))
    return rows


def _found(class_scores: Sequence[Score], kind: str) -> Iterable[tuple[int, str, Finding]]:
    """(submission, task, finding) of every finding of a kind, in what was graded."""
    for number, score in enumerate(class_scores):
        for task in score.tasks if score.judged is not None else ():
            for finding in task.result.findings:
                if finding.kind == kind:
                    yield number, f"{task.result.number} {task.result.title}", finding


def _groups(class_scores: Sequence[Score], kind: str) -> list[Group]:
    """What was found of a kind, the most common first. A submission counts once, even if the same shows in several
    tasks. Errors are the same if they differ only in numbers, of lines for example.
    """
    groups: dict[tuple[str, str], Group] = {}
    for number, task, finding in _found(class_scores, kind):
        key = (finding.id, re.sub(r"\d+", "", finding.message) if kind == "stopped" else finding.title)
        group = groups.setdefault(key, Group(finding.title, finding.message if kind == "stopped" else ""))
        group.tasks[task] = None
        group.numbers[number] = None
    return _most_common(groups.values())


def _blank_groups(class_scores: Sequence[Score]) -> list[Group]:
    """Who has not solved what, or not handed it in: task by task, and the submissions that cannot be read."""
    groups: dict[tuple[str, str], Group] = {}
    for number, task, finding in _found(class_scores, "blank"):
        key = ("", "") if finding.id == UNREADABLE else (task, finding.title)
        group = groups.setdefault(key, Group(finding.title))
        group.tasks[task] = None
        group.numbers[number] = None
    return [groups[key] for key in sorted(groups)]


def unnamed_groups(class_scores: Sequence[Score]) -> list[Group]:
    """The mistakes without a name. Those are together that give the same answers to the same inputs."""
    groups: list[tuple[str, Fingerprint, Group]] = []
    for number, score in enumerate(class_scores):
        for task in score.tasks:
            for operation in OPERATIONS:
                seen = [
                    finding
                    for finding in task.result.findings
                    if finding.kind == "symptom" and finding.id.startswith(f"{operation}-")
                ]
                if not seen:
                    continue
                own = task.result.fingerprints.get(operation, {})
                group = next(
                    (
                        group
                        for other_operation, other, group in groups
                        if operation == other_operation and same_fingerprint(operation, own, other)
                    ),
                    None,
                )
                if group is None:
                    title = "; ".join(dict.fromkeys(finding.title for finding in seen))
                    group = Group(title, " ".join(finding.message for finding in seen))
                    groups.append((operation, own, group))
                group.tasks[f"{task.result.number} {task.result.title}"] = None
                group.numbers[number] = None
    return _most_common(group for _, _, group in groups)


def _most_common(groups: Iterable[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: (-len(group.numbers), group.title, group.message))


def _remarks(score: Score) -> list[str]:
    record = score.record
    ignored = record["ignored"]
    practice = PRACTICE if score.assessment.practice else ""
    remarks = [
        record["failure"],
        practice,
        *record["notes"],
        # What is printed goes nowhere. A breakpoint stops the student's own run.
        *(f"{line} (harmless)" if line.endswith(": print()") else line for line in record["leftovers"]),
    ]
    remarks += [f"ignored: {name}" for name in ignored[:SHOWN_IGNORED]]
    if len(ignored) > SHOWN_IGNORED:
        remarks.append(f"ignored: {len(ignored) - SHOWN_IGNORED} more files")
    return [remark for remark in remarks if remark]
