"""The student's copy: no solution in it, under whatever names, and everything else as it was."""

import io
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from grading import handout, leaks
from grading.handout import (
    blank_files,
    build,
    emptied,
    given_away,
    marked_regions,
    pack,
    solved_again,
)
from grading.leaks import find_leaks, find_techniques
from grading.submission import GRADED_FILES
from grading.tasks import TASKS
from helpers.errors import CannotError

PROJECT = Path(__file__).resolve().parent.parent
needs_bank = pytest.mark.skipif(
    not (PROJECT / handout.BANK).is_file(), reason="run `python -m grading cases` first"
)

SOURCE = '''"""Task 9: the mean (Anon, 1900)."""


class Mean:
    def of(self, values, weights):
        """sum w v / sum w."""
        # Sum, then divide.
        ### BEGIN SOLUTION
        total = sum(w * v for w, v in zip(weights, values))
        return total / sum(weights)
        ### END SOLUTION
'''
BLANK = '''"""Task 9: the mean (Anon, 1900)."""


class Mean:
    def of(self, values, weights):
        """sum w v / sum w."""
        # Sum, then divide.
        raise NotImplementedError("Task 9: Mean.of")
'''


def test_a_region_becomes_one_line_that_raises_and_comes_back():
    regions = marked_regions(SOURCE, "mean.py")
    assert emptied(SOURCE, regions) == BLANK
    lines = [line for line in SOURCE.splitlines(keepends=True) if "SOLUTION" not in line]
    assert solved_again(BLANK, regions, "mean.py") == "".join(lines)


@pytest.mark.parametrize(
    "source",
    [
        SOURCE.replace("        ### END SOLUTION\n", ""),
        SOURCE.replace("        ### BEGIN SOLUTION\n", ""),
        SOURCE.replace("### BEGIN SOLUTION", "### BEGIN SOLUTION\n        ### BEGIN SOLUTION"),
        SOURCE.replace("Task 9: ", ""),
    ],
)
def test_markers_that_do_not_pair_or_belong_to_no_task_stop_the_build(source):
    with pytest.raises(CannotError, match="mean.py"):
        marked_regions(source, "mean.py")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("docs/page.md", "In words:   total = sum(w * v  for w, v in zip(weights, values)), as `of` has it."),
        ("other.py", "# total = sum(w * v for w, v in zip(weights, values))"),
        ("other.py", "result = 2 + sum(a * b for a, b in zip(c, d))"),
        ("other.py", "def other(n):\n    if n:\n        return sum(x * y for x, y in zip(n, n)) / 2"),
    ],
)
def test_a_solution_is_found_in_other_places_and_under_other_names(name, text):
    known = given_away({"mean.py": SOURCE}, {"mean.py": marked_regions(SOURCE, "mean.py")})
    assert set(known.values()) == {"Task 9"}
    assert find_leaks({name: text.encode()}, known)


def test_what_the_graded_file_shows_itself_is_no_leak():
    shown = SOURCE.replace("# Sum,", "start = sum(w * v for w, v in zip(weights, values))\n        # Sum,")
    known = given_away({"mean.py": shown}, {"mean.py": marked_regions(shown, "mean.py")})
    assert not find_leaks({"mean.py": emptied(shown, marked_regions(shown, "mean.py")).encode()}, known)


def test_a_region_in_a_file_that_is_not_graded_stops_the_build(tmp_path):
    (tmp_path / "mean.py").write_text(SOURCE)
    with pytest.raises(CannotError, match=r"^mean.py:8: a solution region, but this is not a graded file"):
        handout.solutions(tmp_path)


@needs_bank
def test_what_is_not_graded_is_handed_out_as_it_is():
    files = blank_files(PROJECT, extras=True)
    folders = ("visualizers/", "style_modules/", "helpers/", "report/", "extras/")
    ours = {name for name in files if name.startswith(folders) and name not in GRADED_FILES}
    assert {"visualizers/mechanisms.py", "helpers/style_images/__init__.py", "report/report.md"} <= ours
    assert "extras/attribution/methods.py" in ours
    assert all(files[name] == (PROJECT / name).read_bytes() for name in ours)


@needs_bank
def test_the_handout_is_the_assignment_half_alone():
    lean, full = blank_files(PROJECT), blank_files(PROJECT, extras=True)
    assert not [name for name in lean if name.startswith(("extras/", "benchmarks/"))]
    in_packages = {name for name in lean if name.startswith(("visualizers/", "style_modules/"))}
    assert in_packages - set(GRADED_FILES) == {
        "visualizers/__init__.py",
        "visualizers/mechanisms.py",
        "style_modules/__init__.py",
    }
    assert all(name.startswith(("extras/", "docs/")) for name in full.keys() - lean.keys())
    assert {name for name in lean if name.startswith("tests/")} == {
        f"tests/{name}.py" for name in ("__init__", "conftest", "test_tasks")
    }
    # No module of the lean copy imports at its top what is not handed out.
    for name, data in lean.items():
        if name.endswith(".py"):
            top = [line for line in data.decode().splitlines() if line.startswith(("from ", "import "))]
            assert not any(line.split()[1].startswith(("extras", "benchmarks")) for line in top), name


@needs_bank
def test_pages_of_the_lean_copy_speak_of_nothing_that_is_missing():
    files = blank_files(PROJECT)
    pages = {
        name: data.decode() for name, data in files.items() if name.endswith((".md", "Makefile", ".toml"))
    }
    for name, page in pages.items():
        for word in (
            "extras",
            "benchmarks",
            "make handout",
            "make bundle",
            "painter",
            "--methods",
            "--trust",
        ):
            assert word not in page, (name, word)
        if name.endswith(".md"):
            for target in re.findall(r"\]\(([^)#\s<]+)", page):
                linked = os.path.normpath(Path(name).parent / target)
                own = linked.startswith(("visualization/", "my_"))
                assert own or "://" in target or linked in files, (name, target)
    # In the full copy the same pages are whole, without the markers.
    full = blank_files(PROJECT, extras=True)["docs/methods.md"].decode()
    assert "## The painter" in full and "EXTRAS" not in full and "Questions, answered" not in full


PAGE = """# Methods

Why the last layer? See below.

<!-- BEGIN KEY -->
## Answers

The last layer keeps places while it already
knows *what* stands there. So do not look earlier.
<!-- END KEY -->

## Sources
"""
OPEN = "# Methods\n\nWhy the last layer? See below.\n\n## Sources\n"


def test_the_key_is_cut_out_of_a_page_and_nothing_else():
    shown, key = handout.split_part(PAGE, "docs/methods.md", "KEY")
    assert shown == OPEN
    assert key.startswith("## Answers") and key.endswith("look earlier.")
    without = "A\n\n\n\nB `<!-- BEGIN KEY -->` C"
    assert handout.split_part(without, "x.md", "KEY") == (without, "")


@pytest.mark.parametrize(
    ("page", "line"),
    [
        (PAGE.replace("<!-- END KEY -->\n", ""), 5),
        (PAGE.replace("<!-- BEGIN KEY -->\n", ""), 9),
        (PAGE.replace("## Answers", "<!-- BEGIN KEY -->"), 6),
        (PAGE.replace("<!-- BEGIN KEY -->", "<!--begin key-->"), 5),
        (PAGE.replace("<!-- BEGIN KEY -->", "<!-- BEGIN KEY: not for students -->"), 5),
    ],
)
def test_key_markers_that_do_not_pair_or_are_misspelt_stop_the_build(page, line):
    with pytest.raises(CannotError, match=rf"^docs/methods.md:{line}: a marker"):
        handout.split_part(page, "docs/methods.md", "KEY")


def test_a_sentence_of_the_key_is_found_wherever_it_went(tmp_path):
    for folder in ("docs", "report"):
        (tmp_path / folder).mkdir()
    (tmp_path / "docs/methods.md").write_text(PAGE)
    (tmp_path / "report/report.md").write_text(
        "## Q\n\n> So, do not look earlier, at layers near the image?\n"
    )
    known = handout.key_sentences(tmp_path)
    assert known == {
        " the last layer keeps places while it already knows what stands there ": "docs/methods.md"
    }
    for name, text in (
        (
            "report/report.md",
            "I think that the last layer keeps places while\n> it already knows what stands there!",
        ),
        ("helpers/x.py", "# the last layer keeps places while it already knows\n# **what** stands there\n"),
    ):
        assert len(leaks.find_key_leaks({name: text.encode()}, known)) == 1, text
    assert leaks.find_key_leaks({"docs/methods.md": PAGE.encode()}, known)
    assert not leaks.find_key_leaks({"docs/methods.md": OPEN.encode(), "a.png": b"\x89\xff"}, known)


@needs_bank
def test_the_key_of_this_project_stays_here():
    known = handout.key_sentences(PROJECT)
    files = blank_files(PROJECT)
    assert {"report/report.md", "report/__main__.py", "docs/methods.md"} <= files.keys()
    assert leaks.find_key_leaks(files, known) == []


def test_a_project_with_a_key_is_handed_out_without_it(tmp_path):
    for name, text in (
        ("docs/methods.md", PAGE),
        ("report/report.md", "## Q\n"),
        ("style_transfer.py", "# R\n"),
        (handout.BANK, "bank"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert blank_files(tmp_path)["docs/methods.md"].decode() == OPEN
    # A copy of the key elsewhere stops the build before anything is written.
    (tmp_path / "style_transfer.py").write_text(
        "# The last layer keeps places, while it already knows what stands there."
    )
    with pytest.raises(CannotError, match="style_transfer.py: the key of docs/methods.md"):
        build(tmp_path, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_every_graded_file_has_a_region_for_its_task():
    solved = handout.solutions(PROJECT)
    assert set(GRADED_FILES) == solved.keys()
    assert {region.stub.partition(":")[0] for here in solved.values() for region in here} == {
        f"Task {n}" for n in range(1, 8)
    }


@needs_bank
def test_the_handout_holds_the_judge_and_nothing_of_the_instructors():
    files = blank_files(PROJECT)
    assert {"grading/judge.py", "grading/cases.npz", "collect_submission.py", "Makefile"} <= files.keys()
    for name in files:
        assert not name.startswith(
            ("grading/mistakes", "grading/gradescope", "grading/private", "benchmarks")
        ), name
    for name in ("handout", "bundle", "report", "folder", "similarity", "case_inputs", "local"):
        assert f"grading/{name}.py" not in files
    assert not [
        name for name in files if name.startswith("docs/") and name.endswith(".md") if "methods" not in name
    ]
    assert not {"tests/numpy_reference.py", "tests/test_losses.py"} & files.keys()
    text = b"".join(data for name, data in files.items() if name.endswith((".py", "Makefile")))
    assert b"BEGIN SOLUTION" not in text
    assert not any(f"\n{target}:".encode() in text for target in ("handout", "bundle", "gallery"))


@needs_bank
def test_the_students_readme_begins_with_the_tasks_of_the_judge():
    readme = blank_files(PROJECT)["README.md"].decode()
    table = readme[readme.index("## Your seven tasks") : readme.index("## The loop")]
    assert readme.index("## Your seven tasks") == readme.index("## ")
    rows = re.findall(r"^\| (\d) \| `([^`]+)` \| (.*?) \| ([\d +]+) \|.*`make check TASK=(\d)`", table, re.M)
    assert [row[0] for row in rows] == [row[4] for row in rows] == list("1234567")
    assert {row[1] for row in rows} == set(GRADED_FILES)
    points = {number: sum(map(int, given.split("+"))) for number, _, _, given, _ in rows}
    assert points == {n: sum(t.points for t in TASKS.values() if t.number[0] == n) for n in "1234567"}


@needs_bank
def test_the_pictures_handed_out_are_those_that_a_page_shows():
    files = blank_files(PROJECT)
    pictures = {name for name in files if name.startswith("docs/") and name.endswith((".jpg", ".png"))}
    pages = "".join(data.decode() for name, data in files.items() if name.endswith(".md"))
    assert "docs/saliency_visualization.jpg" in pictures and "docs/hires_cam.jpg" not in pictures
    # Those of the key stay here, and every one that is shown from docs/ is there.
    assert "docs/methods/key_layers.jpg" not in pictures
    assert all(f"]({name}" in pages or f"]({name.removeprefix('docs/')}" in pages for name in pictures)
    wanted = {name for name in handout.shown_pictures(files) if name.startswith("docs/")}
    assert {name for name in wanted if (PROJECT / name).is_file()} == pictures == wanted


@needs_bank
@pytest.mark.parametrize("extras", [False, True])
def test_no_solution_survives_anywhere(extras):
    solved = handout.solutions(PROJECT)
    sources = {name: (PROJECT / name).read_text(encoding="utf-8") for name in solved}
    known = given_away(sources, {name: marked_regions(source, name) for name, source in sources.items()})
    assert len(known) > 20
    files = blank_files(PROJECT, extras=extras)
    assert find_leaks(files, known) == []
    # The same search does find what is there.
    assert find_leaks({name: (PROJECT / name).read_bytes() for name in GRADED_FILES}, known)
    handout.check_stubs(files, PROJECT)


IN_OTHER_WORDS = {
    "Task 1": "s = model(X)[0, y]\n    s.backward()\n    return torch.max(torch.abs(X.grad), 1).values",
    "Task 2, Grad-CAM": "g = torch.autograd.grad(s, A)[0]\n    w = torch.mean(g, (2, 3))\n"
    "    return torch.einsum('nk,nkhw->nhw', w, A).clip(0)",
    "Task 3": "g = torch.autograd.grad(s, X)[0]\n    length = torch.linalg.vector_norm(g)\n"
    "    X.data.add_(r * g / length)",
    "Task 4": "d = a - b\n    return w * (d * d).sum()",
    "Task 5": "return torch.einsum('ncx,ndx->ncd', F.flatten(2), F.flatten(2))",
    "Task 6": "down = torch.diff(x, dim=2) ** 2\n    return down.sum()",
    "Task 7": "o.zero_grad()\n    total = a + b\n    total.backward()\n    o.step()",
}


@pytest.mark.parametrize("task", IN_OTHER_WORDS)
def test_a_technique_is_found_in_other_words(task):
    code = f"def helpful(a, b, w, x, o, F, X, y, s, A, r, model):\n    {IN_OTHER_WORDS[task]}\n"
    assert any(task in leak for leak in find_techniques({"helpers/new.py": code.encode()}))


def test_the_guided_rule_is_found_in_other_words():
    rule = "class Rule(Function):\n    def backward(ctx, g):\n        return torch.relu(g) * ctx.on\n"
    assert find_techniques({"helpers/new.py": rule.encode()})


@needs_bank
def test_no_technique_lies_beside_the_stubs():
    assert find_techniques(blank_files(PROJECT)) == []
    found = find_techniques({name: (PROJECT / name).read_bytes() for name in GRADED_FILES})
    assert {leak.split(": ")[1].split(",")[0] for leak in found} == {f"Task {n}" for n in range(1, 8)}


@needs_bank
def test_the_same_project_gives_the_same_bytes():
    files = blank_files(PROJECT)
    assert pack(files) == pack(dict(reversed(files.items())))


@needs_bank
def test_the_students_copy_offers_the_students_commands_alone(tmp_path):
    with zipfile.ZipFile(io.BytesIO(pack(blank_files(PROJECT)))) as archive:
        archive.extractall(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [handout.TOP]
    tmp_path /= handout.TOP
    result = subprocess.run(
        [sys.executable, "-m", "grading", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "check" in result.stdout
    assert not any(word in result.stdout for word in ("bundle", "report", "cases", "  handout"))
    makefile = (tmp_path / "Makefile").read_text()
    assert "submission:" in makefile and "handout" not in makefile


def test_a_blank_runner_that_breaks_otherwise_is_refused(tmp_path):
    for body, accepted in (
        ("sys.exit('x.py: error: Task 3: A.b is not implemented yet (c.py, line 4)')", True),
        ("sys.exit('x.py: error: NameError: y (c.py, line 4)')", False),
        ("raise NotImplementedError('Task 3: A.b')", False),
        ("print('done')", False),
    ):
        (tmp_path / "x.py").write_text(f"import sys\n{body}\n")
        if accepted:
            handout.check_runner(tmp_path, ("x.py",))
        else:
            with pytest.raises(CannotError, match="the blank x.py"):
                handout.check_runner(tmp_path, ("x.py",))


def test_a_solved_runner_that_fails_is_refused(tmp_path):
    (tmp_path / "x.py").write_text("import sys\n")
    handout.check_solved_runner(tmp_path, ("x.py",))
    (tmp_path / "x.py").write_text("import sys\nsys.exit('x.py: error: no')\n")
    with pytest.raises(CannotError, match="solved again x.py ends with status 1: x.py: error: no"):
        handout.check_solved_runner(tmp_path, ("x.py",))


@pytest.mark.slow
@needs_bank
@pytest.mark.parametrize("extras", [False, True])
def test_the_handout_is_built_tried_and_the_same_every_time(extras, tmp_path):
    """`build` raises unless the blank copy scores 0, the solved copy 100, and each runner does what it must."""
    path = build(PROJECT, tmp_path / "handout.zip", extras=extras)
    assert path.read_bytes() == pack(blank_files(PROJECT, extras=extras))


@pytest.mark.slow
@needs_bank
def test_a_student_who_solves_the_handout_gets_a_zip_and_full_marks(tmp_path):
    """With the tests that were handed out, without extras/."""
    files = blank_files(PROJECT)
    for name, regions in handout.solutions(PROJECT).items():
        files[name] = solved_again(files[name].decode(), regions, name).encode()
    with zipfile.ZipFile(io.BytesIO(pack(files))) as archive:
        for entry in archive.infolist():  # as unzip does, which keeps permissions
            Path(archive.extract(entry, tmp_path)).chmod(entry.external_attr >> 16 & 0o777)
    result = subprocess.run(
        [sys.executable, "collect_submission.py"],
        cwd=tmp_path / handout.TOP,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "100 / 100" in result.stdout and "receipt" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("assignment_3_submission.zip")


def test_the_students_settings_and_recipes_are_those_of_the_project():
    ours, students = (
        tomllib.loads((PROJECT / folder / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
        for folder in ("", handout.STUDENTS_COPY)
    )
    assert students["markers"] == [marker for marker in ours["markers"] if not marker.startswith("slow")]
    assert students["pythonpath"] == ours["pythonpath"]
    makefile = (PROJECT / "Makefile").read_text()
    install = makefile[makefile.index("# A stamp is written") : makefile.index("$(VENV)/.dev")]
    assert install in (PROJECT / handout.STUDENTS_COPY / "Makefile").read_text()
