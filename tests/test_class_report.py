"""The class report: figures, groups of mistakes, the teacher's changes, and a feedback file for each student."""

import csv
import hashlib
import io
import re
import statistics
import textwrap
import unicodedata
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from grading import assess, folder, report
from grading.cases import Answer, Case, CaseBank, Mistake
from grading.folder import find_submissions
from grading.judge import MISSING, NOT_WRITTEN, Finding, Report, TaskResult, grade_task, same_fingerprint
from grading.protocol import ChildError
from grading.scores import STATES, Override, read_overrides, scores
from grading.submission import Submission
from grading.tasks import TASKS
from helpers.errors import CannotError
from tests.test_grade_folder import CHROMIUM, browse, grade, graded, put  # noqa: F401  (graded is a fixture)

PROJECT = Path(__file__).resolve().parent.parent
EVIL = "<script>document.title='evil'</script>\x1b[31m\u202e\udcff"
NOTHING_WRITTEN = Finding(NOT_WRITTEN, "not written yet", "forward is not written yet.", "blank")
CRASH = Finding("error-exception", "an exception", "forward stopped with ValueError (a.py:3).", "stopped")
KNOWN = Finding("tv-abs", "absolute differences", "Square them.")
UNKNOWN = Finding("tv-wrong", "wrong values", "Your TV loss has errors.", "symptom")


def record(name: str, *, failure: str = "", students=(), prints=None, **tasks) -> dict:
    """A record of grading.folder: everything is right but the `tasks`, each (points, *findings). A failure: nothing."""
    head = {"key": name, "file": name, "students": list(students), "failure": failure}
    if failure:
        return assess.nothing("grading failed").as_dict() | head
    results = []
    for key, task in TASKS.items():
        points, *findings = tasks.get(key, (task.points,))
        status = "passed" if points == task.points else "partial" if points else "failed"
        own = (prints or {}) if key == "tv" else {}
        results.append(
            TaskResult(key, task.title, task.number, points, task.points, status, findings, [], own)
        )
    assessment = assess._assessment(Report(results), Submission())
    return assessment.as_dict() | head


def table(records, **options) -> list[dict]:
    return list(csv.DictReader(io.StringIO(report.grades_csv(records, **options))))


class Rows(HTMLParser):
    """The cells of each table row of the overview, under its heading."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.heading, self.rows, self.heads = "", {}, False
        self.feed(text.partition("<main class=page")[0])

    def handle_starttag(self, tag, attrs):
        if tag == "h2":
            self.heading, self.heads = "", True
        elif tag == "tr":
            self.rows.setdefault(self.heading, []).append([])
        elif tag in ("td", "th"):
            self.rows[self.heading][-1].append("")

    def handle_endtag(self, tag):
        if tag == "h2":
            self.heads = False

    def handle_data(self, data):
        if self.heads:
            self.heading += data
        elif self.rows.get(self.heading) and self.rows[self.heading][-1]:
            self.rows[self.heading][-1][-1] += data


def rows(records, **options) -> dict[str, list[list[str]]]:
    """Heading -> rows without the first, their cells with single spaces."""
    found = Rows(report.page(records, [], **options)).rows
    return {
        heading: [[" ".join(cell.split()) for cell in row] for row in lines[1:]]
        for heading, lines in found.items()
    }


# -------------------------------------------------------------------------------------------- figures


def test_every_task_and_the_whole_have_a_mean_and_a_deviation():
    points = (8, 4, 0)
    tasks = rows([record(f"{n}.zip", tv=(p, KNOWN)) for n, p in enumerate(points)])["Tasks"]
    by_number = {row[0].split()[0]: row for row in tasks}
    assert by_number["6"][1:4] == ["8", "4.0", f"{statistics.pstdev(points):.1f}"]
    assert by_number["1"][1:4] == ["15", "15.0", "0.0"]
    assert by_number["all"][1:4] == ["100", "96.0", "3.3"]
    text = report.page([record(f"{n}.zip", tv=(p, KNOWN)) for n, p in enumerate(points)], [])
    assert "3 submissions, mean 96.0, standard deviation 3.3, median 96.0 of 100 points; 1 with all" in text


def test_what_is_not_solved_or_crashed_is_counted_apart_from_mistakes():
    missing = Finding(MISSING, "file missing", "tv_loss.py is missing.", "blank")
    records = [
        record("ann.zip", tv=(0, KNOWN)),
        record("bob.zip", tv=(0, NOTHING_WRITTEN)),
        record("cleo.zip", tv=(0, CRASH)),
        record("dan.zip", tv=(0, CRASH, KNOWN)),
        record("eve.zip", tv=(4, CRASH)),
        record("fay.zip", tv=(0, missing)),
        record("gus.zip"),
        record("hal.zip", failure="the grader broke"),
    ]
    found = rows(records)
    assert "Mistakes without a name" not in found
    assert [row for row in found["Tasks"] if row[0].startswith("6")][0][4:9] == ["1", "1", "1", "2", "2"]
    tv = "6 Total-variation loss"
    assert found["Most common mistakes"] == [["2", "absolute differences", tv, "ann.zip, dan.zip"]]
    assert [(row[0], row[3]) for row in found["Stopped by an error"]] == [("3", "cleo.zip, dan.zip, eve.zip")]
    assert found["Not solved yet"] == [
        ["1", "file missing", tv, "fay.zip"],
        ["1", "not written yet", tv, "bob.zip"],
    ]
    states = [score.tasks[6].state for score in scores(records, {})]
    assert states[:7] == ["wrong", "blank", "stopped", "stopped", "partial", "blank", "passed"]
    assert set(states) <= set(STATES)


def test_errors_are_one_group_if_they_differ_only_in_numbers():
    other = Finding(CRASH.id, CRASH.title, "forward stopped with ValueError (a.py:17).", "stopped")
    third = Finding(CRASH.id, CRASH.title, "forward stopped with KeyError (a.py:3).", "stopped")
    records = [record(f"{n}.zip", tv=(0, one)) for n, one in enumerate((CRASH, other, third))]
    assert [row[0] for row in rows(records)["Stopped by an error"]] == ["2", "1"]


def test_a_submission_that_cannot_be_read_is_one_line():
    unreadable = assess.nothing("no zip").as_dict()
    one = unreadable | {"key": "a.zip", "file": "a.zip", "students": [], "failure": ""}
    assert table([one])[0]["findings"] == "All tasks: The submission cannot be read: no zip"
    assert rows([one])["Not solved yet"] == [["1", "The submission cannot be read", "8 tasks", "a.zip"]]


# --------------------------------------------------------------------------- mistakes without a name


def prints(value: str = "0.5", shape=(1,), dtype="float32") -> dict:
    return {"tv": {"single precision": {"value": {"shape": list(shape), "dtype": dtype, "values": [value]}}}}


def test_equal_mistakes_without_a_name_are_one_line_and_others_are_not():
    answers = {
        "ann.zip": prints("0.5"),
        "bob.zip": prints("0.500001"),
        "cleo.zip": prints("0.6"),
        "dan.zip": prints("0.5", dtype="float64"),
        "eve.zip": prints("0.5", shape=(1, 1)),
        "fay.zip": {},
        "gus.zip": {},
        "hal.zip": {"tv": {"single precision": "exception"}},
    }
    records = [record(name, tv=(0, UNKNOWN), prints=own) for name, own in answers.items()]
    found = rows(records)["Mistakes without a name"]
    assert [(row[0], row[3]) for row in found][0] == ("2", "ann.zip, bob.zip")
    assert len(found) == 7 and all(row[0] == "1" for row in found[1:])
    assert "Most common mistakes" not in rows(records)


def test_answers_of_different_functions_are_never_equal():
    own = {"grad_cam": prints()["tv"], "guided_backprop": prints()["tv"]}
    found = [Finding(f"{name}-wrong", f"wrong {name}", f"Your {name} has errors.", "symptom") for name in own]
    one = record("ann.zip", gradcam=(0, *found))
    next(task for task in one["report"]["tasks"] if task["task"] == "gradcam")["fingerprints"] = own
    assert [row[0] for row in rows([one])["Mistakes without a name"]] == ["1", "1"]


def case(number: int) -> Case:
    value = {"value": np.array([6.0 + number], np.float32), "gradient": np.arange(1, 5, dtype=np.float32)}
    places = {key: np.arange(array.size, dtype=np.float64) for key, array in value.items()}
    inputs = {"image": np.full((1, 1, 2, 2), number, np.float32)}
    answers = [Answer("tv-half", {"value": ((1,), value["value"] / 2)})]
    kind = f"kind {number % 2}"
    return Case(f"tv/{kind}/{number // 2}", "tv", kind, inputs, value, [], places, answers)


BANK = CaseBank({"tv-half": Mistake("tv-half", "tv", "half", "It is half.")}, [case(n) for n in range(16)])


def judged(change, seed: bytes):
    """The TV task of a submission whose answers are the right ones, changed."""
    asked = []

    def execute(_operation, inputs):
        number = int(inputs["image"][0, 0, 0, 0])
        asked.append(number)
        return change({key: array.copy() for key, array in BANK.cases[number].expected.items()})

    result = grade_task(execute, seed, BANK, "tv", fingerprints=True)
    return result, asked


def noisy(scale: float):
    """Wrong: the root of the value, with rounding noise of its own."""
    return lambda right: right | {"value": (np.sqrt(right["value"] + 1) * scale).astype(np.float32)}


def test_equal_mistakes_have_equal_fingerprints_whatever_cases_are_drawn():
    results = [judged(noisy(1 + noise), seed)[0] for noise, seed in ((0, b"a"), (3e-7, b"b"), (-3e-7, b"c"))]
    assert len({tuple(result.cases) for result in results}) == 3, "other cases are drawn"
    marks = [result.fingerprints["tv"] for result in results]
    assert all(set(mark) == {"kind 0", "kind 1"} for mark in marks)
    assert same_fingerprint("tv", marks[0], marks[1]) and same_fingerprint("tv", marks[1], marks[2])


@pytest.mark.parametrize(
    "other",
    [
        noisy(1.01),
        lambda right: noisy(1)(right) | {"gradient": right["gradient"] + 1},
        lambda right: {key: array.astype(np.float64) for key, array in noisy(1)(right).items()},
        lambda right: noisy(1)(right) | {"value": noisy(1)(right)["value"][None]},
        lambda right: {"value": noisy(1)(right)["value"]},
        lambda right: {key: array * np.nan for key, array in right.items()},
    ],
    ids=["value", "gradient", "dtype", "shape", "output", "nan"],
)
def test_other_mistakes_have_other_fingerprints(other):
    one, two = judged(noisy(1), b"a")[0], judged(other, b"a")[0]
    assert two.fingerprints["tv"]
    assert not same_fingerprint("tv", one.fingerprints["tv"], two.fingerprints["tv"])
    assert same_fingerprint("tv", two.fingerprints["tv"], judged(other, b"b")[0].fingerprints["tv"])


def test_only_a_mistake_without_a_name_has_a_fingerprint_and_nothing_else_is_executed():
    for change in (lambda right: right, lambda right: right | {"value": right["value"] / 2}):
        result, asked = judged(change, b"a")
        assert result.fingerprints == {} and len(asked) == len(result.cases)
    result, asked = judged(noisy(1), b"a")
    assert len(asked) == len({*asked}), "no case is executed twice"
    assert {0, 1} <= {*asked} and result.points == judged(noisy(1), b"b")[0].points

    def execute(_operation, inputs):
        return noisy(1)(BANK.cases[int(inputs["image"][0, 0, 0, 0])].expected)

    assert grade_task(execute, b"a", BANK, "tv").fingerprints == {}, "unless they are asked for"


def test_an_error_at_a_fingerprint_costs_nothing():
    seed = b"D"  # draws neither first case
    drawn = set(judged(noisy(1), seed)[0].cases)
    numbers = {number for number, one in enumerate(BANK.cases) if one.name in drawn}
    assert not {0, 1} & numbers
    asked = []

    def execute(_operation, inputs):
        number = int(inputs["image"][0, 0, 0, 0])
        asked.append(number)
        if number not in numbers:
            raise ChildError("timeout", "computed for more than 15 s")
        return noisy(1)(BANK.cases[number].expected)

    result = grade_task(execute, seed, BANK, "tv", fingerprints=True)
    assert result.points == judged(noisy(1), seed)[0].points
    assert result.fingerprints["tv"] == {"kind 0": "timeout"}
    assert asked[-1] == 0, "nothing more is asked of code that does not answer"


def test_outputs_that_only_the_judge_uses_are_in_no_fingerprint():
    extra = [
        Case(**vars(one) | {"expected": one.expected | {"other": one.expected["value"]}})
        for one in BANK.cases
    ]
    bank = CaseBank({}, extra)

    def execute(_operation, inputs):
        number = int(inputs["image"][0, 0, 0, 0])
        return noisy(1)(BANK.cases[number].expected) | {"other": np.zeros(1, np.float32)}

    marks = grade_task(execute, b"a", bank, "tv", fingerprints=True).fingerprints["tv"]
    assert all(set(outputs) == {"value", "gradient"} for outputs in marks.values())


@pytest.mark.parametrize(
    "error, kind",
    [("not_implemented", "blank"), ("missing", "blank"), ("exception", "stopped"), ("timeout", "stopped")],
)
def test_the_judge_says_what_kind_a_finding_is(error, kind):
    def execute(_operation, _inputs):
        raise ChildError(error, "x")

    assert [finding.kind for finding in grade_task(execute, b"a", BANK, "tv").findings] == [kind]
    assert {finding.kind for finding in judged(noisy(1), b"a")[0].findings} == {"symptom"}
    half = judged(lambda right: right | {"value": right["value"] / 2}, b"a")[0]
    assert [finding.kind for finding in half.findings] == ["mistake"]


def test_a_folder_is_graded_with_fingerprints(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(folder, "assess", lambda path, **options: seen.append(options) or assess.nothing("x"))
    folder._graded(folder.Entry("a.zip", put(tmp_path / "a.zip")), BANK, b"s", None)
    assert seen[0]["fingerprints"] is True


# ---------------------------------------------------------------------------------- the teacher's changes


def overrides(out: Path, lines: str, keys=("ann.zip", "=b.zip"), head: str = "key,task,points,remark\n"):
    out.mkdir(exist_ok=True)
    (out / "overrides.csv").write_bytes((head + lines).encode())
    return read_overrides(out, keys)


@pytest.mark.parametrize(
    "lines, says",
    [
        ("anne\x1b\u202e.zip,tv,3,\n", "line 2: no submission is called 'anne\\x1b\\u202e.zip'"),
        ("ann.zip,tv\x1b,3,\n", "line 2: there is no task 'tv\\x1b'"),
        ("anne.zip,tv,3,\n", "line 2: no submission is called 'anne.zip': did you mean ann.zip"),
        (",tv,3,x\n", "line 2: no submission is called ''"),
        ("ann.zip,tvv,3,\n", "line 2: there is no task 'tvv'"),
        ("ann.zip,5,3,\n", "line 2: '5' means several tasks: write 5.1 or 5.2"),
        ("ann.zip,tv,x,\n", "line 2: points are 'x'; write a number from 0 to 8"),
        ("ann.zip,tv,8.5,\n", "line 2: points are '8.5'; write a number from 0 to 8"),
        ("ann.zip,tv,-1,\n", "line 2: points are '-1'"),
        ("ann.zip,tv,nan,\n", "line 2: points are 'nan'"),
        ("ann.zip,tv,inf,\n", "line 2: points are 'inf'"),
        ("ann.zip,,101,\n", "line 2: points are '101'; write a number from 0 to 100"),
        ("ann.zip,tv,,\n", "line 2: neither points nor a remark"),
        ("ann.zip,tv,3,a remark, with commas\n", "line 2: too many cells; put a remark with commas"),
        ("ann.zip,tv,3,\n\nann.zip,6,4,\n", "line 4: 'ann.zip' with this task is already in line 2"),
        ('ann.zip,tv,3,"a\nann.zip,gram,2,\n', "line 2: unexpected end of data; is a double quote"),
        ("ann.zip,tv,\x1b[31m\u202e,\n", "line 2: points are '\ufffd[31m\ufffd'"),
    ],
)
def test_an_error_in_the_changes_is_one_line_that_says_where(tmp_path, lines, says):
    with pytest.raises(CannotError) as error:
        overrides(tmp_path, lines)
    assert str(error.value).startswith(f"{tmp_path / 'overrides.csv'}, {says}")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("head", ["key,task,points\n", "name,task,points,remark\n", "\n"])
def test_a_column_that_is_missing_is_named(tmp_path, head):
    with pytest.raises(
        CannotError, match="line 1: there is no column '(key|remark)'; the columns are key, task"
    ):
        overrides(tmp_path, "ann.zip,tv,3,x\n", head=head)


def test_what_spreadsheets_make_of_the_changes_is_read(tmp_path):
    assert read_overrides(tmp_path / "none", ["ann.zip"]) == {}
    assert overrides(tmp_path, "", head="") == {}
    found = overrides(tmp_path, "ann.zip;6;7,5;good\r\n;;;\r\n", head="\ufeffKey; Task ;points;remark\r\n")
    assert {key: (one.points, one.remark) for key, one in found.items()} == {("ann.zip", "tv"): (7.5, "good")}
    found = overrides(tmp_path, '"\'=b.zip",,,"two\nlines"\n')  # the key as grades.csv writes it
    assert found[("=b.zip", "")].remark == "two\nlines" and found[("=b.zip", "")].points is None
    (tmp_path / "overrides.csv").write_bytes(b"key,task,points,remark\nann.zip,tv,3,\xfcber\n")
    with pytest.raises(CannotError, match="is not UTF-8: save it as CSV in UTF-8"):
        read_overrides(tmp_path, ["ann.zip"])


def test_the_instructors_page_shows_a_file_that_is_read(tmp_path):
    text = (PROJECT / "docs/instructor.md").read_text(encoding="utf-8")
    example = textwrap.dedent(re.search(r"  ```csv\n(.*?)  ```", text, re.S)[1])
    found = overrides(tmp_path, example, ["ann.zip", "bob.zip", "cleo.rar"], head="")
    assert [(*key, one.points) for key, one in found.items()] == [
        *(("ann.zip", "tv", 6), ("bob.zip", "", None), ("cleo.rar", "", 72)),
    ]


def test_the_changed_and_the_original_points_are_both_shown(tmp_path):
    records = [record("ann.zip", tv=(0, KNOWN)), record("bob.zip")]
    lines = 'ann.zip,tv,5,"Right, but <b>absolute</b>."\nbob.zip,,60,Late.\nann.zip,,,See me.\n'
    changes = overrides(tmp_path, lines, ["ann.zip", "bob.zip"])
    ann, bob = table(records, overrides=changes)
    assert (ann["points"], ann["judged"], ann["tv"]) == ("97.0", "92", "5.0")
    assert ann["changes"] == "Task 6: from 0 to 5; total: from 92 to 97"
    assert ann["remarks"] == "Task 6: Right, but <b>absolute</b>.; See me."
    assert (bob["points"], bob["judged"], bob["changes"]) == ("60.0", "100", "total: from 100 to 60")
    text = report.page(records, [], changes)
    assert "2 submissions, mean 78.5," in text, "the figures are those of the changed points"
    own = text.split("<main class=page")[1]
    for page in (own, report.feedback(scores(records, changes)[0], {})):
        assert "<b>97</b> of 100 points" in page and "(the judge: 92)" in page
        assert '<s title="the judge\'s points">0</s> <b>5</b> / 8' in page
        assert "Right, but &lt;b&gt;absolute&lt;/b&gt;." in page and "See me." in page
    assert rows(records, overrides=changes)["Submissions"][0][8] == "5*"


def test_points_for_what_the_judge_could_not_grade(tmp_path):
    records = [record("ann.zip", failure="a RAR archive"), record("bob.zip", failure="a RAR archive")]
    keys = ["ann.zip", "bob.zip"]
    ann, bob = table(records, overrides=overrides(tmp_path, "ann.zip,,70,\nbob.zip,tv,3,\n", keys))
    assert (ann["points"], ann["judged"], ann["tv"], ann["changes"]) == (
        "70.0",
        "",
        "",
        "total: from ? to 70",
    )
    assert (bob["points"], bob["tv"], bob["gram"]) == ("", "3.0", ""), "one task is no total"
    assert (ann["findings"], bob["findings"]) == ("", ""), "nothing was seen"
    changes = overrides(tmp_path, "ann.zip,,70,\nbob.zip,tv,3,\n", keys)
    means = {row[0][:1]: row[2] for row in rows(records, overrides=changes)["Tasks"]}
    assert (means["1"], means["6"], means["a"]) == ("0.0", "0.0", "70.0")
    text = report.page([record("cleo.zip"), *records], [], changes)
    assert "Not graded, please run" in text and "bob.zip</a>: a RAR archive" in text
    assert "ann.zip</a>: a RAR archive" not in text
    assert rows([record("cleo.zip"), *records], overrides=changes)["Tasks"][0][2] == "15.0", (
        "of who was graded"
    )
    every = "".join(f"bob.zip,{name},0,\n" for name in TASKS)
    assert table(records, overrides=overrides(tmp_path, every, keys))[1]["points"] == "0.0"


def test_the_changes_survive_a_new_grading_and_are_checked_before_it(tmp_path, graded):  # noqa: F811
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    put(source / "half_1.zip")
    grade(source, out)
    report.write_reports(out, PROJECT)
    assert (out / "overrides.csv").read_text() == "key,task,points,remark\n"
    (out / "overrides.csv").write_text(written := "key,task,points,remark\nhalf_1.zip,tv,8,Good.\n")
    for secret in (b"s", b"other"):
        grade(source, out, secret=secret)
        report.write_reports(out, PROJECT)
        row = next(csv.DictReader((out / "grades.csv").open()))
        assert (row["points"], row["judged"], row["tv"]) == ("54.0", "50.0", "8.0")
        assert (out / "overrides.csv").read_text() == written
    before = (out / "report.html").read_bytes()
    (out / "overrides.csv").write_text(written + "gone.zip,tv,8,\n")
    graded.clear()
    with pytest.raises(CannotError, match="line 3: no submission is called 'gone.zip'"):
        grade(source, out, secret=b"third")
    assert not graded, "found before minutes of grading"
    with pytest.raises(CannotError, match="line 3"):
        report.write_reports(out, PROJECT)
    assert (out / "report.html").read_bytes() == before


# ------------------------------------------------------------------------------------------ the feedback


def test_each_student_of_a_group_has_a_file_that_names_nobody_else(tmp_path, graded):  # noqa: F811
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "submission_metadata.yml").write_text(
        "submission_1:\n  :submitters:\n  - :name: Ann Lee\n    :sid: '0042'\n    :email: ann@x.edu\n"
        "  - :name: Bob Ray\n    :sid: '0043'\n    :email: bob@x.edu\n"
        "submission_2:\n  :submitters:\n  - :name: Cleo Moe\n    :sid: '0044'\n    :email: cleo@x.edu\n"
    )
    put(source / "submission_1.zip", tv="x = 1\nprint(x)\n")
    put(source / "submission_2.zip", tv="x = 1\nprint(x)\n")
    grade(source, out)
    (out / "overrides.csv").write_text("key,task,points,remark\nsubmission_1.zip,gram,2,Good start.\n")
    report.write_reports(out, PROJECT)
    files = {path.name: path.read_text() for path in (out / "feedback").iterdir()}
    assert set(files) == {"Ann_Lee.html", "Bob_Ray.html", "Cleo_Moe.html"}
    for name, text in files.items():
        for other in {"Ann_Lee.html", "Bob_Ray.html", "Cleo_Moe.html"} - {name}:
            first, last = other.removesuffix(".html").split("_")
            assert first not in text and last not in text and f"{first.lower()}@" not in text
        assert name.removesuffix(".html").replace("_", " ") in text
        assert "submission_" not in text and "Similar" not in text
        assert "Your TV loss" in text and "print in style_modules/tv_loss.py:2" in text
    assert "Good start." in files["Ann_Lee.html"] and "Good start." in files["Bob_Ray.html"]
    assert "Good start." not in files["Cleo_Moe.html"]
    named = {row["name"]: row["feedback"] for row in csv.DictReader((out / "grades.csv").open())}
    assert named == {
        one: f"feedback/{one.replace(' ', '_')}.html" for one in ("Ann Lee", "Bob Ray", "Cleo Moe")
    }


def feedback_names(*names: str, **options) -> list[str]:
    own = report.feedback_names([record(name, **options) for name in names])
    return [name for files in own for name in files]


def test_names_of_feedback_files_are_safe_and_differ_in_more_than_case():
    names = [
        *("ann.zip", "Ann.zip", "ANN.tar.gz", "ann", "Stra\u00dfe.zip", "STRASSE.zip"),
        *("e\u0301.zip", "\u00e9.zip", "con.zip", "NUL", "com1", "..", "", "/etc/passwd", "../../x"),
        *("a\x00b", "\udcff", "\u202eevil", "学" * 300, "a" * 4000, "=1+1", "-rf", ".hidden", "a:b"),
        *("_con", "Con", "com\u00b9"),
    ]
    names += [name.removesuffix(".html") for name in feedback_names(*names)]  # anyone can work them out
    found = feedback_names(*names)
    assert len(found) == len(names)
    assert len({report._as_disks_compare(name) for name in found}) == len(found)
    for name in found:
        assert re.fullmatch(r"[\w-]+\.html", name) and name[0] != "-" and len(name.encode()) <= 255
        assert not report.DEVICES.fullmatch(unicodedata.normalize("NFKC", name.removesuffix(".html")))
    assert feedback_names("bob.tar.gz", "zoe") == ["bob.html", "zoe.html"]
    same = [{"name": "Ann Lee"}, {"name": "ann lee"}]
    assert len({name.lower() for name in feedback_names("x.zip", students=same)}) == 2
    assert feedback_names("x.zip", students=[{"name": "", "sid": "7"}]) == ["7.html"]


def test_a_file_of_somebody_who_left_goes_and_the_teachers_own_file_stays(tmp_path, graded):  # noqa: F811
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("ann.zip", "bob.zip"):
        put(source / name)
    grade(source, out)
    report.write_reports(out, PROJECT)
    (out / "feedback" / "mine.html").write_text("<!DOCTYPE html>my own page")
    (out / "feedback" / "folder.html").mkdir()
    (source / "bob.zip").unlink()
    grade(source, out)
    report.write_reports(out, PROJECT)
    assert {path.name for path in (out / "feedback").iterdir()} == {"ann.html", "folder.html", "mine.html"}


def test_feedback_of_what_could_not_be_graded_says_so_and_shows_nothing_of_ours():
    one = record("ann.zip", failure="KeyError: '/srv/grader/private'")
    text = report.feedback(scores([one], {})[0], {})
    assert "could not be graded yet" in text and "not graded" in text
    assert "cannot be read" not in text and "grading failed" not in text
    assert "KeyError" not in text and "/srv" not in text and " 0</b>" not in text


# ------------------------------------------------------------------------------- the page and the table


def test_entries_that_were_left_out_are_in_the_report(tmp_path, graded):  # noqa: F811
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "section" / "ida").mkdir(parents=True)
    (source / "section" / "ida" / "notes.txt").write_text("x")
    for name in ("ann.zip", "section/gus.zip", "section/hal.zip"):
        put(source / name)
    (source / "<b>roster.csv").write_text("x")
    (source / "link.zip").symlink_to(source / "ann.zip")
    (source / ".hidden").write_text("x")
    forgotten = []
    assert len(find_submissions(source, forgotten.append)) == 3
    assert forgotten == [".hidden", "<b>roster.csv", "link.zip", "section/ida"]
    for _ in range(2):
        grade(source, out)
        text = report.write_reports(out, PROJECT).read_text(encoding="utf-8")
        assert "<li>&lt;b&gt;roster.csv: neither an archive nor a graded file</li>" in text
        assert "<li>link.zip: a link</li>" in text and "<li>.hidden: hidden</li>" in text
        assert "<li>section/ida: no submission found in it</li>" in text
    assert "Left out" not in report.page([record("ann.zip")], [])


def test_findings_are_in_the_table_and_no_formulas():
    formula = Finding("error-exception", "an exception", "stopped with\n=HYPERLINK(1) (a.py:3).", "stopped")
    row = table([record("ann.zip", tv=(0, formula, KNOWN), gram=(0, KNOWN))])[0]
    assert row["findings"] == (
        "Task 5.1, 6: absolute differences: Square them.; "
        "Task 6: an exception: stopped with\n'=HYPERLINK(1) (a.py:3)."
    )
    assert table([record("ann.zip")])[0]["findings"] == ""
    changes = {("ann.zip", ""): Override(1, "=1")}
    assert table([record("ann.zip")], overrides=changes)[0]["remarks"] == "'=1"


def test_nothing_of_a_student_reaches_page_feedback_or_table_as_it_is():
    evil = Finding("tv-x", EVIL, f"see {EVIL}")
    students = [{"name": EVIL + "n" * 5000, "sid": EVIL, "email": EVIL}]
    one = record("ann.zip", students=students, tv=(0, evil), gram=(0, evil))
    one |= {"notes": [EVIL], "ignored": [EVIL], "leftovers": [f"{EVIL}: print()"], "file": EVIL}
    one["sources"] = {"style_utils.py": f"a\x0cb\r\n{EVIL}</pre>\rlast"}
    page = report.page([one], [], left_out={EVIL: EVIL})
    for text in (page, report.feedback(scores([one], {})[0], students[0]), report.grades_csv([one])):
        text.encode()
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)
    for text, allowed in ((page, 1), (report.feedback(scores([one], {})[0], students[0]), 0)):
        assert text.count("<script") == allowed
        assert "</pre>&lt;" not in text and "document.title=&#39;evil" in text
    assert "   3  last\n" in page, "lines are counted as Python counts them"
    overview = page.partition("<main class=page")[0]
    assert "n" * 60 not in overview


def test_nothing_but_our_script_may_run_and_nothing_is_loaded():
    page = report.page([record("ann.zip")], [])
    script = re.search(r"<script>(.*?)</script>", page, re.S)[1]
    allowed = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'\"" in page
    feedback = report.feedback(scores([record("ann.zip")], {})[0], {})
    assert "default-src 'none'; style-src 'unsafe-inline'\"" in feedback
    for text in (page, feedback):
        assert not any(word in text for word in ("http://", "https://", 'src="', "@import", "url("))
        assert re.match(r"<!DOCTYPE html>", text)


def test_an_earlier_result_without_kinds_is_still_reported():
    one = record("ann.zip", tv=(0, KNOWN))
    for task in one["report"]["tasks"]:
        del task["fingerprints"]
        for finding in task["findings"]:
            del finding["kind"]
    assert rows([one])["Most common mistakes"][0][1] == "absolute differences"


PRESS = """<script>onload = () => {
  const table = document.querySelector("table.index"), buttons = table.querySelectorAll("th button");
  const names = () => [...table.tBodies[0].rows].map(row => row.cells[0].textContent.trim()).join(" ");
  const seen = [names()];
  for (const column of [1, 1, 0, 8]) {
    buttons[column].focus();
    document.activeElement.click();
    seen.push(names() + " " + buttons[column].parentElement.getAttribute("aria-sort"));
  }
  document.title = seen.join("|") + "|" + table.querySelectorAll("[aria-sort]").length;
};</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_a_browser_sorts_and_runs_no_other_script(tmp_path):
    records = [
        record("b.zip", tv=(4, KNOWN)),
        record("a10.zip", tv=(0, KNOWN)),
        record("c.zip", failure="broken"),
        record("a9.zip"),
    ]
    text = report.page(records, [])
    path = tmp_path / "page.html"
    # The test's own script is not ours, so it runs only without the policy.
    path.write_text(text.replace("</body>", PRESS))
    assert "<title>Grades</title>" in browse(path, "", "--dump-dom")
    path.write_text(re.sub(r"<meta http-equiv.*?>", "", text, count=1).replace("</body>", PRESS))
    title = re.search("<title>(.*?)</title>", browse(path, "", "--dump-dom"))[1]
    assert title.split("|") == [
        "b.zip a10.zip c.zip a9.zip",
        "a10.zip b.zip a9.zip c.zip ascending",
        "a9.zip b.zip a10.zip c.zip descending",
        "a9.zip a10.zip b.zip c.zip ascending",
        "a10.zip b.zip a9.zip c.zip ascending",
        "1",
    ]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_pages_are_no_wider_than_a_phone(tmp_path):
    """Wide tables scroll by themselves."""
    students = [{"name": "n" * 300, "sid": "7" * 300}]
    long = Finding("tv-x", "t" * 300, "m" * 300)
    records = [record("a" * 200, students=students, tv=(0, long)), record("b.zip", tv=(0, CRASH))]
    changes = {("b.zip", name): Override(1, "r" * 300) for name in TASKS}
    texts = {
        "page": report.page(records, [], changes, {"l" * 300: "hidden"}),
        "feedback": report.feedback(scores(records, changes)[0], students[0]),
    }
    measure = (
        "<script>onload = () => { const widths = []; for (const place of ['#', '#s0', '#s1']) { location.hash = place;"
        " widths.push(document.documentElement.scrollWidth - innerWidth); } parent.postMessage(widths + '', '*'); };"
        "</script>"
    )
    for name, text in texts.items():
        text = re.sub(r"<meta http-equiv.*?>", "", text, count=1).replace("</body>", f"{measure}</body>")
        (tmp_path / f"{name}.html").write_text(text)
        frame = tmp_path / f"frame_{name}.html"
        frame.write_text(
            "<title></title><script>onmessage = event => document.title = event.data</script>"
            f"<iframe src={name}.html style='border: 0; width: 390px; height: 800px'></iframe>"
        )
        title = re.search("<title>(.*?)</title>", browse(frame, "", "--dump-dom"))[1]
        assert title and all(int(width) <= 0 for width in title.split(",")), (name, title)
