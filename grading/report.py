"""What the instructor reads: grades.csv and report.html, a single file. Its layout is in templates/."""

import csv
import io
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from grading.assess import MARKS, PRACTICE
from grading.folder import load_results
from grading.handout import emptied, solutions
from grading.similarity import Pair, similar_pairs
from grading.submission import GRADED_FILES
from grading.tasks import TASKS, Task
from helpers.files import replace_whole

BINS = 10
SHOWN_PAIRS, SHOWN_IGNORED = 25, 20
NO_MISTAKE = {"unreadable"}
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_reports(out: Path, project: Path) -> Path:
    """Writes out/grades.csv and out/report.html from out/results; returns the page's path."""
    records = load_results(out)
    pairs = similar_pairs([record["sources"] for record in records], blank_sources(project))
    for name, text in (("grades.csv", grades_csv(records)), ("report.html", page(records, pairs))):
        with replace_whole(out / name) as temporary:
            # Names may hold lone surrogates, which cannot be encoded.
            temporary.write_text(text, encoding="utf-8", errors="replace")
    return out / "report.html"


def blank_sources(project: Path) -> dict[str, str]:
    """The graded files as handed out: what two students share of these means nothing."""
    solved = solutions(project)
    return {
        name: emptied((project / name).read_text(encoding="utf-8"), solved.get(name, []))
        for name in GRADED_FILES
        if (project / name).is_file()
    }


def grades_csv(records: Sequence[dict]) -> str:
    """One line per student, also in groups: total points, points per task, the receipt, remarks."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["file", "name", "sid", "email", "points", "max_points", *TASKS, "receipt", "remarks"])
    for record in records:
        points = {task["task"]: task["points"] for task in record["report"]["tasks"]}
        # A failure of the grader must not look like 0 points.
        total = "" if record["failure"] else record["points"]
        by_task = ["" if record["failure"] else points.get(name, 0) for name in TASKS]
        practice = PRACTICE if record.get("practice") else ""
        remarks = "; ".join(
            filter(None, [record["failure"], practice, *record["notes"], *_unreadable(record)])
        )
        for student in record["students"] or [{}]:
            who = [student.get(key, "") for key in ("name", "sid", "email")]
            row = [record["file"], *who, total, record["max_points"], *by_task, record["receipt"], remarks]
            writer.writerow([_harmless(cell) for cell in row])
    return buffer.getvalue()


def _unreadable(record: dict) -> list[str]:
    findings = (f for task in record["report"]["tasks"] for f in task["findings"] if f["id"] == "unreadable")
    return list({finding["message"]: None for finding in findings})


def _harmless(cell: object) -> object:
    """An apostrophe before text that a spreadsheet would read as a formula, also if it separates cells elsewhere than
    we do: by semicolons, tabs or new lines.
    """
    return re.sub(r"(^|[\s;,|:\"])(?=[=+\-@＝＋－＠])", r"\1'", cell) if isinstance(cell, str) else cell


def page(records: Sequence[dict], pairs: Sequence[Pair]) -> str:
    """The whole report as HTML."""
    graded = [record for record in records if not record["failure"]]
    shown = pairs[:SHOWN_PAIRS]
    return TEMPLATES.get_template("report.html").render(
        records=records,
        names=[_name(record) for record in records],
        tasks=TASKS,
        summary=_summary(graded),
        practice=PRACTICE if any(record.get("practice") for record in records) else "",
        counts=_counts(graded),
        rates=_pass_rates(graded),
        mistakes=_mistakes(records),
        failed=[number for number, record in enumerate(records) if record["failure"]],
        pairs=shown,
        more_pairs=len(pairs) - len(shown),
        remarks=_remarks,
        alike=lambda number: [pair for pair in shown if number in (pair.first, pair.second)],
    )


def _name(record: dict) -> str:
    return ", ".join(filter(None, (student.get("name") for student in record["students"]))) or record["file"]


def _summary(graded: Sequence[dict]) -> str:
    if not graded:
        return "no submission could be graded"
    points = [record["points"] for record in graded]
    full = sum(record["points"] == record["max_points"] for record in graded)
    return (
        f"{len(graded)} submissions, mean {statistics.mean(points):.1f}, median {statistics.median(points):.1f} "
        f"of {graded[0]['max_points']:g} points; {full} with all points"
    )


def _counts(graded: Sequence[dict]) -> list[int]:
    """How many reached 0-9 percent of the points, 10-19 percent, ...; full marks count in the last bin."""
    counts = [0] * BINS
    for record in graded:
        share = record["points"] / record["max_points"] if record["max_points"] else 0
        counts[min(BINS - 1, int(share * BINS + 1e-9))] += 1
    return counts


def _pass_rates(graded: Sequence[dict]) -> list[tuple[Task, dict[str, tuple[int, float]]]]:
    """Each task with the number and the share of results of each status."""
    rates = []
    for name, task in TASKS.items():
        states = [t["status"] for record in graded for t in record["report"]["tasks"] if t["task"] == name]
        shares = {state: (states.count(state), states.count(state) / max(len(states), 1)) for state in MARKS}
        rates.append((task, shares))
    return rates


def _mistakes(records: Sequence[dict]) -> list[tuple[str, str, list[int]]]:
    """(title, task, submissions by number) of each mistake, the most common first. A submission counts once, even if
    the mistake shows in several tasks.
    """
    who: dict[tuple[str, str], dict[int, None]] = defaultdict(dict)
    where: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for number, record in enumerate(records):
        for task in record["report"]["tasks"]:
            for finding in task["findings"]:
                if finding["id"] not in NO_MISTAKE:
                    key = (finding["id"], finding["title"])
                    who[key][number] = None
                    where[key][f"{task['number']} {task['title']}"] = None
    rows = []
    for key, numbers in sorted(who.items(), key=lambda item: (-len(item[1]), item[0])):
        tasks = list(where[key])
        rows.append((key[1], tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks", list(numbers)))
    return rows


def _remarks(record: dict) -> list[str]:
    ignored = record["ignored"]
    practice = PRACTICE if record.get("practice") else ""
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
