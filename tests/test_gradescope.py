"""The bundle for Gradescope and the results.json it writes, held to Gradescope's documented format."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from grading import assess, bundle, gradescope, handout
from grading.gradescope import Results, results_of, run
from grading.judge import Finding, Report, TaskResult
from grading.submission import GRADED_FILES
from helpers.errors import CannotError

PROJECT = Path(__file__).resolve().parent.parent
needs_bank = pytest.mark.skipif(
    not (PROJECT / handout.BANK).is_file(), reason="run `python -m grading cases` first"
)

# "Autograder Specifications": the fields of results.json, of a test, and what some of them may be.
VISIBILITY = {"hidden", "after_due_date", "after_published", "visible"}
FORMATS = {"text", "html", "simple_format", "md", "ansi"}
TOP = {
    "score": (int, float),
    "execution_time": (int, float),
    "output": str,
    "output_format": FORMATS,
    "test_output_format": FORMATS,
    "test_name_format": FORMATS,
    "visibility": VISIBILITY,
    "stdout_visibility": VISIBILITY,
    "extra_data": dict,
    "tests": list,
    "leaderboard": list,
}
TEST = {
    "score": (int, float),
    "max_score": (int, float),
    "status": {"passed", "failed"},
    "name": str,
    "name_format": FORMATS,
    "number": str,
    "output": str,
    "output_format": FORMATS,
    "tags": list,
    "visibility": VISIBILITY,
    "extra_data": dict,
}


def check(document: dict, fields: dict) -> None:
    for key, value in document.items():
        assert key in fields, f"Gradescope knows no field {key}"
        kind = fields[key]
        assert value in kind if isinstance(kind, set) else isinstance(value, kind), (key, value)
        assert not isinstance(value, bool)


def valid(path: Path) -> dict:
    """The results in a file, having been checked."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = path.read_bytes().decode("utf-8", "strict")
    document = json.loads(text, parse_constant=refuse)
    check(document, TOP)
    assert "score" in document
    for test in document["tests"]:
        check(test, TEST)
        assert 0 <= test["score"] <= test["max_score"]
        assert len(test["output"]) < 10_000
        assert all(isinstance(tag, str) for tag in test["tags"])
        for character in test["output"]:
            assert character == "\n" or character.isprintable()
    assert document["score"] == pytest.approx(sum(test["score"] for test in document["tests"]))
    return document


def result(points: float = 3.0, message: str = "StyleSettings at line 3.") -> TaskResult:
    return TaskResult("tv", "TV", "6", points, 8.0, "partial", [Finding("tv-abs", "abs", message)])


def test_there_is_a_valid_file_without_points_first_and_a_whole_one_after_each_task(tmp_path):
    path = tmp_path / "results" / "results.json"
    results = Results(path)
    assert valid(path)["score"] == 0
    for n in range(1, 4):
        results.add(result())
        assert valid(path)["score"] == 3 * n
        assert len(valid(path)["tests"]) == n
    results.write("done", final=True)
    results.add(result())
    assert len(valid(path)["tests"]) == 3, "nothing is written after the end"
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    "text", ["\x00\x1b[31m\udcff", "x" * 50_000, "<script>alert(1)</script>\u2028\u202e"]
)
def test_any_text_is_made_plain_and_short(tmp_path, text):
    path = tmp_path / "results.json"
    Results(path).add(result(message=text))
    document = valid(path)
    # As plain text: a browser shows a tag and does not obey it.
    assert {document["output_format"], document["tests"][0]["output_format"]} == {"text"}


def test_a_number_that_json_does_not_know_is_never_written(tmp_path):
    results = Results(tmp_path / "results.json")
    with pytest.raises(ValueError, match="JSON"):
        results.add(result(points=float("nan")))
    results.tasks.clear()
    assert valid(tmp_path / "results.json")["score"] == 0


def fake_assess(monkeypatch, act) -> None:
    """Replaces grading itself: `act` is called with on_task."""
    monkeypatch.setattr(assess, "bank_and_secret", lambda public: (None, b""))

    def fake(_path, *, on_task, **_options):
        act(on_task)
        return assess.Assessment(Report([result(), result()]), receipt="AAAA-BBBB-CCCC", notes=["a note"])

    monkeypatch.setattr(assess, "assess", fake)


def test_the_end_says_the_remarks_and_the_receipt(tmp_path, monkeypatch):
    fake_assess(monkeypatch, lambda on_task: on_task(result()))
    run(tmp_path, tmp_path / "results.json", deadline=60)
    document = valid(tmp_path / "results.json")
    assert document["output"] == "a note\nreceipt AAAA-BBBB-CCCC"
    assert document["score"] == 6
    assert document["tests"][0]["output"] == "StyleSettings at line 3."


def test_a_grader_that_breaks_keeps_what_was_graded(tmp_path, monkeypatch):
    def act(on_task):
        on_task(result())
        raise CannotError("the machine is full")

    fake_assess(monkeypatch, act)
    run(tmp_path, tmp_path / "results.json", deadline=60)
    document = valid(tmp_path / "results.json")
    assert document["score"] == 3
    assert "submit once more" in document["output"] and "full" not in document["output"]


def test_the_grader_ends_by_itself_before_the_harness_does(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from grading import assess, gradescope\n"
        "assess.bank_and_secret = lambda public: (None, b'')\n"
        "assess.assess = lambda *a, **k: time.sleep(600)\n"
        "gradescope.run(Path('.'), Path(sys.argv[1]), deadline=0.5)"
    )
    path = tmp_path / "results.json"
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=PROJECT, check=True, timeout=60)
    assert "Out of time after 0.5 s" in valid(path)["output"]


def test_full_points_read_as_passed_and_nothing_else_does():
    tasks = [result(), TaskResult("gram", "Gram", "5", 10.0, 10.0, "passed")]
    assert [test["status"] for test in results_of(tasks, "", 0.0)["tests"]] == ["failed", "passed"]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A secret away from the project's."""
    monkeypatch.setattr(assess, "SECRET", tmp_path / "secret")


@needs_bank
def test_the_bundle_has_its_scripts_at_the_root_and_no_solution(tmp_path, own):
    path = bundle.build(PROJECT, tmp_path / "autograder.zip", public=True)
    assert path.stat().st_mode & 0o077 == 0, "it may hold the secret"
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    assert {"setup.sh", "run_autograder", "requirements.txt", "grading/cases.npz"} <= names
    assert not any(name.startswith("grading/private") for name in names)
    assert modes["run_autograder"] & 0o111 and modes["setup.sh"] & 0o111
    assert not names & set(GRADED_FILES)
    assert not any(name.startswith(("grading/mistakes", "tests", "docs")) for name in names)
    assert path.read_bytes() == bundle.build(PROJECT, tmp_path / "again.zip", public=True).read_bytes()


@pytest.mark.parametrize("script", ["setup.sh", "run_autograder"])
def test_the_scripts_are_bash_and_executable(script):
    path = PROJECT / "grading" / "gradescope" / script
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)


@needs_bank
@pytest.mark.slow
@pytest.mark.parametrize(
    ("tv", "points"),
    [(None, 100), ("import os; os._exit(0)", 92), ("raise SystemExit", 92), ("while True: pass", 92)],
)
def test_a_submission_is_graded_as_gradescope_would(tmp_path, own, tv, points):
    root = tmp_path / "autograder"
    with zipfile.ZipFile(bundle.build(PROJECT, tmp_path / "autograder.zip", public=True)) as archive:
        archive.extractall(root / "source")
    (root / "source" / "run_autograder").chmod(0o755)
    for name in GRADED_FILES:
        (root / "submission" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "submission" / name).write_bytes((PROJECT / name).read_bytes())
    if tv:
        (root / "submission" / "style_modules" / "tv_loss.py").write_text(tv)
    environment = os.environ | {"AUTOGRADER_ROOT": str(root), "AUTOGRADER_PYTHON": sys.executable}
    subprocess.run([root / "source" / "run_autograder"], env=environment, check=True, timeout=300)
    document = valid(root / "results" / "results.json")
    assert document["score"] == points
    assert document["output"].startswith("practice: ")
    assert len(document["tests"]) == 8


def test_a_container_without_its_python_still_leaves_a_valid_file(tmp_path):
    (tmp_path / "source").mkdir()
    environment = os.environ | {"AUTOGRADER_ROOT": str(tmp_path), "AUTOGRADER_PYTHON": "/nonexistent"}
    script = PROJECT / "grading" / "gradescope" / "run_autograder"
    subprocess.run([script], env=environment, check=True, capture_output=True)
    assert valid(tmp_path / "results" / "results.json")["score"] == 0


def test_the_output_limit_is_below_gradescopes():
    assert gradescope.OUTPUT_LIMIT + 20 < 10_000
