"""What the instructor reads: grades.csv, and report.html, one file that needs nothing else."""

import csv
import io
import statistics
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from pathlib import Path

from grading.assess import MARKS
from grading.folder import load_results
from grading.handout import emptied, solutions
from grading.similarity import Pair, similar_pairs
from grading.submission import GRADED_FILES
from grading.tasks import TASKS

BINS = 10
SHOWN_PAIRS = 25
NO_MISTAKE = {"unreadable"}


def write_reports(out: Path, project: Path) -> Path:
    """Writes out/grades.csv and out/report.html from out/results; returns the page's path."""
    records = load_results(out)
    pairs = similar_pairs([record["sources"] for record in records], blank_sources(project))
    _write(out / "grades.csv", grades_csv(records))
    return _write(out / "report.html", page(records, pairs))


def blank_sources(project: Path) -> dict[str, str]:
    """The graded files as the handout has them: whatever two students share of these says nothing."""
    solved = solutions(project)
    return {
        name: emptied((project / name).read_text(encoding="utf-8"), solved.get(name, []))
        for name in GRADED_FILES
        if (project / name).is_file()
    }


def grades_csv(records: Sequence[dict]) -> str:
    """A line a student (of a group each gets one): points in all and for each task, the receipt, remarks."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["file", "name", "sid", "email", "points", "max_points", *TASKS, "receipt", "remarks"])
    for record in records:
        points = {task["task"]: task["points"] for task in record["report"]["tasks"]}
        # Nobody gets 0 points for what failed on our side.
        total = "" if record["failure"] else record["points"]
        by_task = ["" if record["failure"] else points.get(name, 0) for name in TASKS]
        remarks = "; ".join(filter(None, [record["failure"], *record["notes"], *_unreadable(record)]))
        for student in record["students"] or [{}]:
            who = [student.get(key, "") for key in ("name", "sid", "email")]
            row = [record["file"], *who, total, record["max_points"], *by_task, record["receipt"], remarks]
            writer.writerow([_harmless(cell) for cell in row])
    return buffer.getvalue()


def _unreadable(record: dict) -> list[str]:
    findings = (f for task in record["report"]["tasks"] for f in task["findings"] if f["id"] == "unreadable")
    return list({finding["message"]: None for finding in findings})


def _harmless(cell: object) -> object:
    """Text that a spreadsheet would take for a formula gets an apostrophe."""
    text = str(cell)
    return f"'{text}" if isinstance(cell, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def page(records: Sequence[dict], pairs: Sequence[Pair]) -> str:
    """The whole report as HTML."""
    graded = [record for record in records if not record["failure"]]
    names = [_name(record) for record in records]
    parts = [
        f"<!DOCTYPE html><html lang=en><meta charset=utf-8><title>Grades</title><style>{STYLE}</style><body>",
        "<main id=overview>",
        f"<h1>Grades</h1><p class=lead>{_summary(graded)}</p>",
        _failures(records),
        f"<div class=two><section><h2>Scores</h2>{_histogram(graded)}</section>",
        f"<section><h2>Tasks</h2>{_pass_rates(graded)}</section></div>",
        f"<h2>Most common mistakes</h2>{_mistakes(records)}",
        f"<h2>Similar submissions</h2>{_similarity(pairs, names)}",
        f"<h2>Submissions</h2>{_index(records)}</main>",
        *(_student(number, record, pairs, names) for number, record in enumerate(records)),
        "</body></html>",
    ]
    return "\n".join(parts)


def _name(record: dict) -> str:
    return (
        ", ".join(filter(None, (student.get("name", "") for student in record["students"]))) or record["file"]
    )


def _link(number: int, name: str) -> str:
    return f'<a href="#s{number}">{escape(name)}</a>'


def _summary(graded: Sequence[dict]) -> str:
    if not graded:
        return "no submission could be graded"
    points = [record["points"] for record in graded]
    full = sum(record["points"] == record["max_points"] for record in graded)
    return (
        f"{len(graded)} submissions, mean {statistics.mean(points):.1f}, median {statistics.median(points):.1f} "
        f"of {graded[0]['max_points']:g} points; {full} with all points"
    )


def _failures(records: Sequence[dict]) -> str:
    failed = [(n, record) for n, record in enumerate(records) if record["failure"]]
    if not failed:
        return ""
    items = "".join(f"<li>{_link(n, _name(r))}: {escape(r['failure'])}</li>" for n, r in failed)
    return f"<div class=warning><b>Not graded, run the command again:</b><ul>{items}</ul></div>"


def _histogram(graded: Sequence[dict]) -> str:
    """Bars of ten hundredths of the points each; the last holds full marks too."""
    counts = [0] * BINS
    for record in graded:
        share = record["points"] / record["max_points"] if record["max_points"] else 0
        counts[min(BINS - 1, int(share * BINS + 1e-9))] += 1
    width, height, step = 440, 190, 42
    top = max(counts, default=0) or 1
    bars = []
    for i, count in enumerate(counts):
        tall = round(140 * count / top)
        x, y = 10 + i * step, 160 - tall
        bars.append(f'<rect x="{x}" y="{y}" width="{step - 6}" height="{tall}" rx="2"/>')
        if count:
            bars.append(f'<text x="{x + step / 2 - 3}" y="{y - 5}">{count}</text>')
        high = 100 if i == BINS - 1 else 100 * (i + 1) // BINS - 1
        bars.append(f'<text class="axis" x="{x + step / 2 - 3}" y="176">{100 * i // BINS}–{high}</text>')
    bars.append(f'<text class="axis" x="{width / 2}" y="189">percent of the points</text>')
    label = ", ".join(f"{100 * i // BINS}: {count}" for i, count in enumerate(counts))
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Scores, {label}">{"".join(bars)}</svg>'
    )


def _pass_rates(graded: Sequence[dict]) -> str:
    rows = []
    for name, task in TASKS.items():
        states = [t["status"] for record in graded for t in record["report"]["tasks"] if t["task"] == name]
        shares = {state: 100 * states.count(state) / max(len(states), 1) for state in MARKS}
        bar = "".join(
            f'<i class="{state}" style="width:{share:.2f}%" title="{state}: {states.count(state)}"></i>'
            for state, share in shares.items()
        )
        rows.append(
            f"<tr><td>{task.number}<td>{escape(task.title)}<td class=bar>{bar}<td class=n>{shares['passed']:.0f} %"
        )
    key = "".join(
        f'<i class="{state}"></i> {word} '
        for state, word in zip(MARKS, ("all", "some", "no points"), strict=True)
    )
    return f"<table class=rates>{''.join(rows)}</table><p class=key>{key}</p>"


def _mistakes(records: Sequence[dict]) -> str:
    """A row a mistake by name, whatever the tasks it shows in; each submission counts once."""
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
        links = ", ".join(_link(n, _name(records[n])) for n in numbers)
        if len(numbers) > 4:
            links = f"<details><summary>{len(numbers)} submissions</summary>{links}</details>"
        tasks = list(where[key])
        place = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
        rows.append(f"<tr><td class=n>{len(numbers)}<td>{escape(key[1])}<td>{escape(place)}<td>{links}")
    if not rows:
        return "<p>none</p>"
    return f"<table><tr><th class=n>how often<th>mistake<th>task<th>who</tr>{''.join(rows)}</table>"


def _similarity(pairs: Sequence[Pair], names: Sequence[str]) -> str:
    note = (
        "<p class=note>The part of what is particular to the shorter submission (in neither the handout nor more "
        "than a tenth of the class) that the other has too, names of variables aside, and in how many places. One "
        "rare mistake alone makes two short solutions alike: a reason to look, never a proof.</p>"
    )
    if not pairs:
        return f"<p>none that share anything particular</p>{note}"
    rows = "".join(
        f"<tr><td class=n>{pair.share:.0%}<td class=n>{pair.passages}<td>{_link(pair.first, names[pair.first])}"
        f"<td>{_link(pair.second, names[pair.second])}<td>{escape(', '.join(pair.files))}"
        for pair in pairs[:SHOWN_PAIRS]
    )
    more = (
        f"<p class=note>{len(pairs) - SHOWN_PAIRS} more pairs are less alike.</p>"
        if len(pairs) > SHOWN_PAIRS
        else ""
    )
    return f"<table><tr><th class=n>alike<th class=n>passages<th>one<th>the other<th>in</tr>{rows}</table>{more}{note}"


def _index(records: Sequence[dict]) -> str:
    heads = "".join(f'<th class=n title="{escape(task.title)}">{task.number}' for task in TASKS.values())
    rows = []
    for number, record in enumerate(records):
        by_name = {task["task"]: task for task in record["report"]["tasks"]}
        cells = "".join(
            f'<td class="n {by_name[name]["status"]}">{by_name[name]["points"]:g}'
            if name in by_name
            else "<td>"
            for name in TASKS
        )
        total = "?" if record["failure"] else f"{record['points']:g}"
        receipt = f"<code>{escape(record['receipt'])}</code>"
        rows.append(f"<tr><td>{_link(number, _name(record))}<td class=n><b>{total}</b>{cells}<td>{receipt}")
    return f"<table class=index><tr><th>submission<th class=n>points{heads}<th>receipt</tr>{''.join(rows)}</table>"


def _student(number: int, record: dict, pairs: Sequence[Pair], names: Sequence[str]) -> str:
    students = "; ".join(
        " ".join(filter(None, (s.get("name", ""), s.get("sid", ""), s.get("email", ""))))
        for s in record["students"]
    )
    about = (record["file"], students, f"receipt {record['receipt']}" if record["receipt"] else "")
    total = "not graded" if record["failure"] else f"{record['points']:g} of {record['max_points']:g} points"
    tasks = []
    for task in record["report"]["tasks"]:
        findings = "".join(
            f"<li><b>{escape(finding['title'])}</b> <span>{escape(finding['message'])}</span></li>"
            for finding in task["findings"]
        )
        tasks.append(
            f"<tr><td>{escape(task['number'])}<td>{escape(task['title'])}"
            f'<td class="n {task["status"]}">{task["points"]:g} / {task["max_points"]:g}'
            f"<td><ul>{findings}</ul>"
        )
    remarks = [record["failure"], *record["notes"]]
    remarks += [f"{line} (harmless)" for line in record["leftovers"]]
    remarks += [f"ignored: {name}" for name in record["ignored"][:20]]
    if len(record["ignored"]) > 20:
        remarks.append(f"ignored: {len(record['ignored']) - 20} more files")
    notes = "".join(f"<li>{escape(remark)}</li>" for remark in remarks if remark)
    alike = "".join(
        f"<li>{pair.share:.0%} like {_link(other, names[other])} ({escape(', '.join(pair.files))})</li>"
        for pair in pairs[:SHOWN_PAIRS]
        if number in (pair.first, pair.second)
        for other in [pair.second if number == pair.first else pair.first]
    )
    sources = "".join(
        f"<details><summary>{escape(name)}</summary><pre>{_numbered(source)}</pre></details>"
        for name, source in sorted(record["sources"].items())
    )
    return (
        f'<main class=page id="s{number}"><p><a href="#">&larr; all submissions</a></p>'
        f"<h1>{escape(_name(record))}</h1><p class=lead>{total}</p>"
        f"<p class=note>{' &middot; '.join(map(escape, filter(None, about)))}</p>"
        f"<table>{''.join(tasks)}</table>"
        + (f"<h2>Remarks</h2><ul>{notes}</ul>" if notes else "")
        + (f"<h2>Similar submissions</h2><ul>{alike}</ul>" if alike else "")
        + (f"<h2>Code</h2>{sources}" if sources else "")
        + "</main>"
    )


def _numbered(source: str) -> str:
    return "\n".join(f"{n:4}  {escape(line)}" for n, line in enumerate(source.splitlines(), 1))


def _write(path: Path, text: str) -> Path:
    partial = path.with_name(f".{path.name}.partial")
    # Lone surrogates of a hostile name cannot be encoded.
    partial.write_text(text, encoding="utf-8", errors="replace")
    return partial.replace(path)


STYLE = """
:root { --ink: #1f2328; --soft: #656d76; --line: #d8dee4; --good: #2da44e; --some: #d4a72c; --bad: #cf222e;
  --blue: #0969da; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { margin: 0 0 4px; font-size: 27px; } h2 { margin: 34px 0 10px; font-size: 18px; }
.lead { margin: 0 0 6px; font-size: 17px; color: var(--soft); } .note, .key { color: var(--soft); font-size: 13px; }
a { color: var(--blue); text-decoration: none; } a:hover { text-decoration: underline; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-size: 13px; color: var(--soft); }
td, th { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; padding-right: 16px; }
td.passed { color: var(--good); } td.partial { color: #9a6700; } td.failed { color: var(--bad); }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 40px; }
.two table { font-size: 14px; } .two h2 { margin-top: 18px; }
.bar { width: 150px; } .bar i { display: inline-block; height: 13px; vertical-align: middle; }
i.passed { background: var(--good); } i.partial { background: var(--some); } i.failed { background: var(--bad); }
.key i { display: inline-block; width: 11px; height: 11px; margin-left: 12px; }
svg { width: 100%; height: auto; } svg rect { fill: var(--blue); opacity: .85; }
svg text { font-size: 12px; text-anchor: middle; fill: var(--ink); } svg .axis { font-size: 10px; fill: var(--soft); }
pre { overflow-x: auto; padding: 12px; background: #f6f8fa; font-size: 12.5px; line-height: 1.45; }
code { font-size: 13px; } ul { margin: 0; padding-left: 18px; } .warning { padding: 10px 14px; background: #fff8c5; }
summary { cursor: pointer; } li span { color: var(--ink); } details { margin: 2px 0; }
.page { display: none; } .page:target { display: block; } body:has(.page:target) #overview { display: none; }
@media (max-width: 800px) { .two { grid-template-columns: 1fr; } }
"""
