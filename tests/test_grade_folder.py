"""A folder of submissions: resumable, stopped by nothing, and reported in a table and a page."""

import csv
import io
import json
import re
import shutil
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest
from markupsafe import escape

from grading import assess, folder, report, staff
from grading.cases import CaseBank
from grading.folder import find_submissions, grade_folder, load_results, read_metadata
from grading.judge import Finding, Report, TaskResult
from grading.similarity import fingerprints, similar_pairs
from grading.tasks import TASKS
from helpers.errors import CannotError

PROJECT = Path(__file__).resolve().parent.parent
AS_BEFORE = "it is as it was before"
EVIL = "<script>document.title='evil'</script>"
METADATA = f"""---
submission_1:
  :submitters:
  - :name: "Ann \\u00dcnal"
    :sid: '0042'
    :email: ann@example.edu
  - :name: Bob O'Neil
    :sid: ~
    :email: bob@example.edu
  :created_at: 2026-03-01 10:00:00 Z
  :score: 3.0
  :results:
    tests:
    - name: x
      output: |
        submission_9:
          :submitters:
          - :name: forged
submission_2:
  :submitters:
  - :name: '=HYPERLINK("x")'
    :sid: "7"
    :email: c@example.edu
  :created_at: 2026-03-01 10:00:00 Z
submission_3:
  :submitters:
  - :name: {EVIL}
    :sid: 8
    :email: d@example.edu
"""


def put(path: Path, **changes: str) -> Path:
    """A zip with one graded file."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("style_modules/tv_loss.py", changes.get("tv", f"# {path.name}\n"))
    return path


class FakeZygote:
    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        pass


@pytest.fixture
def graded(monkeypatch):
    """Replaces grading by something quick; -> the names of the zips that were graded, in order."""
    names, lock = [], threading.Lock()

    def fake(path, **_options):
        with lock:
            names.append(path.name)
        if "crash" in path.name:
            raise RuntimeError("the judge itself broke")
        submission = folder.read_submission(path)
        points = {"perfect": 1.0, "half": 0.5}.get(path.name.partition("_")[0], 0.0)
        status = {1.0: "passed", 0.5: "partial"}.get(points, "failed")
        finding = [] if points == 1 else [Finding("tv-abs", f"absolute {EVIL}", f"Your TV loss {EVIL}.")]
        tasks = [
            TaskResult(name, task.title, task.number, points * task.points, task.points, status, finding)
            for name, task in TASKS.items()
        ]
        return assess._assessment(Report(tasks), submission)

    def fake_assess(path, **options):
        try:
            return fake(path, **options)
        except folder.UnreadableError as error:
            return assess.nothing(str(error))

    monkeypatch.setattr(folder, "assess", fake_assess)
    monkeypatch.setattr(folder, "Zygote", FakeZygote)
    return names


def grade(source: Path, out: Path, secret: bytes = b"s") -> None:
    grade_folder(source, out, jobs=2, bank=CaseBank({}, []), secret=secret)


def test_zips_and_folders_are_found_and_nothing_else(tmp_path):
    put(tmp_path / "b.zip")
    put(tmp_path / "A.ZIP")
    (tmp_path / "c" / "style_modules").mkdir(parents=True)
    (tmp_path / "c" / "style_modules" / "tv_loss.py").write_text("x")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "link.zip").symlink_to(tmp_path / "b.zip")
    assert [entry.path.name for entry in find_submissions(tmp_path)] == ["A.ZIP", "b.zip", "c"]


def test_every_entry_is_a_row_or_is_named(tmp_path):
    packed = put(tmp_path / "one.zip").read_bytes()
    names = [
        *(
            "ann.rar",
            "bob.tar.gz",
            "tv_loss.py",
            "cleo_assignsubmission_file_/w.zip",
            "many/a.zip",
            "many/b.zip",
        ),
        *("export/group/dan/w.zip", "export/group/eve/w.zip", "empty.zip", "fay/style_modules/tv_loss.py"),
        *(
            "sec/gus/style_modules/tv_loss.py",
            "sec/hal/style_modules/tv_loss.py",
            "ida/my/work/style_utils.py",
        ),
        *("jo/notes.txt", "roster.csv", ".hidden", "kim/style_modules\\tv_loss.py", "grades/results/x.json"),
        "grades/grades.csv",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(packed)
    (tmp_path / "link.zip").symlink_to(tmp_path / "one.zip")
    forgotten = []
    found = [entry.name for entry in find_submissions(tmp_path, forgotten.append)]
    assert found == [
        *("ann.rar", "bob.tar.gz", "cleo_assignsubmission_file_", "empty.zip"),
        *("export/group/dan", "export/group/eve", "fay", "ida", "kim", "many/a.zip", "many/b.zip", "one.zip"),
        *("sec/gus", "sec/hal", "tv_loss.py"),
    ]
    assert forgotten == [".hidden", "grades", "jo", "link.zip", "roster.csv"]


def test_what_we_cannot_read_has_an_empty_score(tmp_path, graded):
    (tmp_path / "a.rar").write_bytes(b"Rar!" + bytes(100))
    grade(tmp_path, tmp_path / "out")
    record = load_results(tmp_path / "out")[0]
    assert "RAR" in record["failure"]
    assert list(csv.DictReader(io.StringIO(report.grades_csv([record]))))[0]["points"] == ""


def test_a_folder_without_submissions_says_so(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(CannotError):
            find_submissions(path)


def test_gradescopes_metadata_names_the_students_and_cannot_be_forged():
    found = read_metadata(METADATA)
    assert list(found) == ["submission_1", "submission_2", "submission_3"]
    assert found["submission_1"] == [
        {"name": "Ann Ünal", "sid": "0042", "email": "ann@example.edu"},
        {"name": "Bob O'Neil", "sid": "", "email": "bob@example.edu"},
    ]
    assert found["submission_2"][0]["name"] == '=HYPERLINK("x")'


def test_a_submission_that_the_export_lists_but_lacks_is_not_forgotten(tmp_path, graded):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "submission_metadata.yml").write_text(METADATA)
    put(source / "submission_1.zip")
    grade(source, out)
    records = load_results(out)
    assert [record["key"] for record in records] == ["submission_1.zip", "submission_2", "submission_3"]
    assert records[0]["students"][0]["sid"] == "0042"
    assert "no files" in json.dumps(records[1])


def test_one_bad_zip_stops_nothing_and_costs_nobody_points_for_our_failure(tmp_path, graded):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "bad.zip").write_bytes(b"no zip")
    put(source / "crash.zip")
    put(source / "perfect_1.zip")
    grade(source, out)
    records = {record["key"]: record for record in load_results(out)}
    assert records["perfect_1.zip"]["points"] == 100
    assert records["bad.zip"]["points"] == 0 and not records["bad.zip"]["failure"]
    assert "the judge itself broke" in records["crash.zip"]["failure"]
    report.write_reports(out, PROJECT)
    rows = {row["file"]: row for row in csv.DictReader((out / "grades.csv").open())}
    assert (rows["crash.zip"]["points"], rows["bad.zip"]["points"]) == ("", "0.0")


def test_a_second_run_grades_only_what_is_new_changed_or_failed(tmp_path, graded):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a.zip", "b.zip", "crash.zip", "gone.zip"):
        put(source / name)
    grade(source, out)
    graded.clear()
    put(source / "b.zip", tv="# changed\n")
    put(source / "new.zip")
    (source / "gone.zip").unlink()
    grade(source, out)
    assert sorted(graded) == ["b.zip", "crash.zip", "new.zip"]
    assert [record["key"] for record in load_results(out)] == ["a.zip", "b.zip", "crash.zip", "new.zip"]
    graded.clear()
    grade(source, out, secret=b"other")
    assert len(graded) == 4, "another secret draws other cases"


def test_an_interrupted_run_keeps_what_it_has_and_goes_on(tmp_path, graded):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for n in range(6):
        put(source / f"{n}.zip")

    def interrupt(entry):
        if entry.key == "2.zip":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grade_folder(source, out, jobs=1, bank=CaseBank({}, []), secret=b"s", on_done=interrupt)
    assert {"0.zip", "1.zip", "2.zip"} <= {record["key"] for record in load_results(out)}
    done = len(graded)
    grade(source, out)
    assert len(graded) == 6 and done < 6 + 1


def test_a_spreadsheet_takes_no_cell_for_a_formula(tmp_path, graded):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "submission_metadata.yml").write_text(METADATA)
    for name in ("submission_1", "submission_2", "+1-2.zip"):
        put(source / (name if name.endswith(".zip") else f"{name}.zip"))
    grade(source, out)
    text = report.grades_csv(load_results(out))
    for row in csv.reader(io.StringIO(text)):
        assert not any(cell[:1] in ("=", "+", "-", "@") for cell in row)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len([row for row in rows if row["file"] == "submission_1.zip"]) == 2, "a line for each of a group"


@pytest.mark.parametrize("text", ["=1+1", "a; =1+1", "a\n@x", "a\t+1", "a;-1", "x,=1", "\r=1", "＝1"])
def test_no_part_of_a_cell_begins_like_a_formula(text):
    assert re.search("(^|[;,\\s])[=+@＝-]", str(report._harmless(text))) is None
    assert report._harmless("a-b = c"[:3]) == "a-b" and report._harmless(-1.5) == -1.5


def test_every_name_has_a_key_of_its_own_and_none_is_too_long():
    names = ["a b.zip", "a_b.zip", "ü" * 127, "学" * 85, "\udcff.zip", ".zip", "a" * 255, "CON"]
    names += [folder._safe(name) for name in names]  # a student may know how keys are made
    keys = [folder._safe(name) for name in dict.fromkeys(names)]
    assert len(set(keys)) == len(keys)
    assert max(len(f"{key}.json".encode()) for key in keys) <= 255
    assert folder._safe("ann.zip") == "ann.zip"


def test_a_long_name_stops_no_class(tmp_path, graded):
    (tmp_path / "in").mkdir()
    put(tmp_path / "in" / ("学" * 83 + ".zip"))
    put(tmp_path / "in" / "a.zip")
    grade(tmp_path / "in", tmp_path / "out")
    assert len(load_results(tmp_path / "out")) == 2


def test_private_cases_are_made_at_first_use_and_public_ones_only_if_asked_for(tmp_path, monkeypatch, capsys):
    bank, secret = tmp_path / "private/cases.npz", tmp_path / "private/secret"
    monkeypatch.setattr(assess, "PRIVATE_BANK", bank)
    monkeypatch.setattr(assess, "SECRET", secret)
    monkeypatch.setattr(assess, "load_bank", lambda path: path)
    made = []

    def write(path, *_arguments, seed, **_options):
        made.append(seed)
        path.touch()

    monkeypatch.setattr("grading.cases.write_bank", write)
    with pytest.raises(CannotError, match="cases --private.*--public"):
        assess.bank_and_secret()
    assert assess.bank_and_secret(public=True) == (assess.PUBLIC_BANK, assess.PUBLIC_SECRET)
    assert not made and not secret.exists()
    staff.make_private_bank()
    staff.make_private_bank()
    assert len(made) == 1 and made[0] != 0 and str(bank.parent) in capsys.readouterr().err
    assert assess.bank_and_secret() == (bank, bytes.fromhex(secret.read_text()))
    assert bank.parent.stat().st_mode & 0o077 == 0
    secret.unlink()  # other cases would be drawn with another one
    for use in (assess.bank_and_secret, staff.make_private_bank):
        with pytest.raises(CannotError, match="secret is missing"):
            use()


def test_results_of_public_cases_are_marked_as_practice(tmp_path, graded):
    put(tmp_path / "a.zip")
    grade(tmp_path, tmp_path / "out")
    record = load_results(tmp_path / "out")[0]
    for practice in (False, True):
        record["practice"] = practice
        assert ("practice: " in report.grades_csv([record])) == practice
        assert report.page([record], []).count("practice: ") == 2 * practice


COMMON = "def f(a, b):\n    return (a - b).pow(2).sum() * a.mean()\n"
RARE = """
def f(left, right):
    height, width = left.size(2), left.size(3)
    first = left.narrow(2, 1, height - 1).sub(left.narrow(2, 0, height - 1)).pow(2)
    second = left.narrow(3, 1, width - 1).sub(left.narrow(3, 0, width - 1)).pow(2)
    return right * first.flatten().dot(first.flatten()).add(second.sum())
"""


def test_a_copy_under_other_names_is_found_and_common_solutions_are_not():
    renamed = RARE.replace("left", "picture").replace("first", "u").replace("height", "H") + "# my own work\n"
    files = [{"a.py": COMMON}] * 10 + [{"a.py": RARE}, {"a.py": renamed}]
    pairs = similar_pairs(files, {})
    assert [(pair.first, pair.second) for pair in pairs] == [(10, 11)]
    assert pairs[0].share == 1


def test_what_the_handout_gives_counts_for_nothing():
    assert similar_pairs([{"a.py": RARE}, {"a.py": RARE}], {"a.py": RARE}) == []
    assert similar_pairs([{"a.py": RARE}, {"b.py": RARE}], {}) == [], "files are compared with their likes"


def test_fingerprints_see_the_code_and_not_its_dress():
    assert fingerprints(RARE) == fingerprints(
        RARE.replace("\n    ", "\n\n        # why\n        ").replace("left", "x")
    )
    assert fingerprints("def ((") == set()
    assert fingerprints("x = 1") == fingerprints("")


@pytest.fixture
def page(tmp_path, graded):
    """The report of a small class whose names, files and findings are hostile."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "submission_metadata.yml").write_text(METADATA)
    put(source / "submission_3.zip", tv=f"# {EVIL}\n</pre><img src=x onerror=alert(1)>\n")
    for n in range(3):
        put(source / f"perfect_{n}.zip", tv=RARE)
    put(source / "half_1.zip", tv=COMMON)
    put(source / "crash.zip")
    grade(source, out)
    return report.write_reports(out, PROJECT)


def test_the_page_stands_alone_and_escapes_everything(page):
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == 1 and "<img" not in text, "the one script is ours"
    assert str(escape(EVIL)) in text
    assert not any(word in text for word in ("http://", "https://", 'src="', "@import", "url("))
    assert ", mean " in text
    assert text.count("<main class=page") == len(load_results(page.parent))


def test_the_page_names_the_commonest_mistake_with_its_count(page):
    text = page.read_text(encoding="utf-8")
    table = text[text.index("Most common mistakes") : text.index("Similar submissions")]
    assert f"<td class=n>2<td>absolute {escape(EVIL)}<td>8 tasks" in table


def test_a_failure_of_the_grader_counts_in_no_statistic(page):
    text = page.read_text(encoding="utf-8")
    # Six zips: one crashed the judge. Two of Gradescope's list have no files, which is the students' 0 points.
    assert "7 submissions, mean 50.0" in text
    assert "<b>Not graded, please run the command again:</b>" in text
    assert "crash.zip</a>: RuntimeError: the judge itself broke" in text


def test_a_students_page_shows_remarks_likeness_and_code(tmp_path, graded):
    put(tmp_path / "a.zip", tv=RARE + "print(1)\nbreakpoint()\n")
    put(tmp_path / "b.zip", tv=RARE)
    grade(tmp_path, tmp_path / "out")
    text = report.write_reports(tmp_path / "out", PROJECT).read_text(encoding="utf-8")
    first, second = text.split("<main class=page")[1:]
    for student, other, name in ((first, 1, "b.zip"), (second, 0, "a.zip")):
        assert f'<li>100% like <a href="#s{other}">{name}</a> (style_modules/tv_loss.py)</li>' in student
        assert "<li>style_utils.py is missing</li>" in student
        assert "   3      height, width = left.size(2), left.size(3)\n" in student
    assert "print() (harmless)</li>" in first and "harmless" not in second
    assert "breakpoint()</li>" in first


def test_a_half_written_result_of_a_killed_run_is_no_result(tmp_path, graded):
    put(tmp_path / "a.zip")
    grade(tmp_path, tmp_path / "out")
    half = tmp_path / "out" / folder.RESULTS / ".0a1b2c3d.json"
    half.write_text('{"key": ')
    assert [record["key"] for record in load_results(tmp_path / "out")] == ["a.zip"]
    grade(tmp_path, tmp_path / "out")
    assert not half.exists()


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def browse(page: Path, fragment: str, *options: str) -> str:
    """What headless Chromium makes of the page (Debian and Ubuntu: apt-get install chromium)."""
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += [f"--user-data-dir={page.parent / 'browser'}", "--virtual-time-budget=2000", *options]
    result = subprocess.run(
        [*command, f"{page.as_uri()}{fragment}"], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_a_browser_shows_the_overview_and_then_a_students_page(page, tmp_path):
    from PIL import Image

    # This script is the test's, and tells what is visible. The page's policy would stop it.
    probe = page.with_name("probe.html")
    script = (
        "<script>onload = () => document.title = [...document.querySelectorAll('main')]"
        ".filter(m => getComputedStyle(m).display != 'none').map(m => m.id).join() + ' '"
        "+ document.querySelectorAll('svg rect').length + ' ' + document.querySelectorAll('script').length</script>"
    )
    probe.write_text(
        re.sub("<meta http-equiv.*?>", "", page.read_text(encoding="utf-8"), count=1).replace(
            "</body>", f"{script}</body>"
        ),
        encoding="utf-8",
    )
    assert "<title>overview 10 2</title>" in browse(probe, "", "--dump-dom")
    assert "<title>s1 10 2</title>" in browse(probe, "#s1", "--dump-dom")
    for fragment in ("", "#s1"):
        shot = tmp_path / "shot.png"
        browse(page, fragment, "--window-size=1100,1400", f"--screenshot={shot}")
        pixels = Image.open(shot).convert("L")
        assert pixels.size == (1100, 1400)
        ink = sum(pixels.histogram()[:128]) / (1100 * 1400)
        assert 0.003 < ink < 0.3


def test_results_that_are_changed_during_the_run_are_restored_and_that_is_said(tmp_path, graded, capsys):
    out = tmp_path / "out"
    kept = folder.Kept(out)
    first, second = (out / folder.RESULTS / name for name in ("a.json", "b.json"))
    kept.write(first, '{"points": 1}')
    assert not capsys.readouterr().err
    first.write_text('{"points": 100}')
    (out / folder.RESULTS).chmod(0)
    kept.write(second, '{"points": 2}')
    assert capsys.readouterr().err.splitlines() == [
        f"{out}/results was changed while student code ran; {AS_BEFORE}"
    ]
    second.unlink()
    out.chmod(0o700)
    kept.restore()
    assert [path.read_text() for path in (first, second)] == ['{"points": 1}', '{"points": 2}']
    said = [line.partition(" was changed")[0] for line in capsys.readouterr().err.splitlines()]
    assert said == [str(path) for path in (out, first, second)]
    kept.restore()
    assert not capsys.readouterr().err


def test_a_run_restores_its_results(tmp_path, graded):
    put(tmp_path / "a.zip")
    put(tmp_path / "b.zip")
    results = tmp_path / "out" / folder.RESULTS

    def forge(entry):
        for path in results.glob("*.json"):
            path.write_text("{}")

    grade_folder(tmp_path, tmp_path / "out", jobs=1, bank=CaseBank({}, []), secret=b"s", on_done=forge)
    assert all("report" in json.loads(path.read_text()) for path in results.glob("*.json"))
