"""The submission script on small fake projects: what goes in, what costs points, and nothing half done."""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import collect_submission as submission
import grading.submission
from grading import handout, tasks

PROJECT = Path(__file__).resolve().parent.parent
PICTURES = ("class_visualization", "saliency_visualization", "gradcam_visualization", "wave_coffee")
STUB = "    raise NotImplementedError('Task')\n"
RECEIPT = r"receipt [0-9A-F]{4}(-[0-9A-F]{4}){4}"


def put(root: Path, name: str, content: str | bytes = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project without any problem. It has no judge."""
    root = tmp_path / "project"
    for name in (*submission.GRADED_FILES, *submission.HANDED_OUT):
        put(root, name, '"""Nothing to see."""\n')
    for name in submission.RUNNERS:
        put(root, name, "#!/usr/bin/env python3\n")
    for name in PICTURES:
        put(root, f"visualization/{name}.png", b"\x89PNG " + name.encode())
    put(root, "helpers/answers.json", "{}")
    put(root, "tests/test_public.py", "import style_utils\ndef test_doc():\n    assert style_utils.__doc__\n")
    put(root, "README.md", "Read me.\n")
    put(root, "requirements-dev.txt", "pytest\n")
    return root


def put_judge(root: Path, source: str) -> None:
    """A judge that runs `source`."""
    put(root, "grading/__init__.py")
    put(root, "grading/__main__.py", source)


def collect(root: Path, *options: str) -> int:
    return submission.main([*options], root=root)


def archive(root: Path) -> bytes:
    assert collect(root, "--quiet") == 0
    return (root / submission.ZIP_NAME).read_bytes()


def started(root: Path, *options: str, flags: tuple[str, ...] = (), **settings) -> subprocess.Popen[str]:
    """As a student does: the script lies in the project and is run from the shell, in some other folder."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    variables |= settings.pop("env", {})
    command = [sys.executable, *flags, shutil.copy(submission.__file__, root), *options]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd="/", env=variables, text=True, **streams | settings)


def run_script(root: Path, *options: str, **settings) -> tuple[int, str, str]:
    """Its status, stdout and stderr."""
    process = started(root, *options, **settings)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


# What goes in


def test_script_and_grader_read_the_same_files():
    # Two lists: the script must run where nothing else does, and Gradescope's bundle has no script.
    assert submission.GRADED_FILES == grading.submission.GRADED_FILES
    assert submission.FILE_LIMIT == grading.submission.FILE_LIMIT


def test_everything_that_belongs_goes_in_and_comes_out_the_same(root, tmp_path):
    put(root, "visualization/a walk.gif", b"GIF")
    put(root, "visualization/étude_日本.jpg", b"JPG")
    put(root, "helpers/deeper/table.npz", b"\x00\xff")
    put(root, "helpers/names.txt", "tench\n")
    expected = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    archive(root)
    with zipfile.ZipFile(root / submission.ZIP_NAME) as packed:
        assert packed.testzip() is None
        assert packed.namelist() == sorted(expected)
        packed.extractall(tmp_path / "out")
    out = tmp_path / "out"
    assert {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()} == expected


@pytest.mark.parametrize(
    "name",
    [
        "my_notes.py",
        "data/imagenet_val_25.npz",
        "weights.pth",
        "helpers/squeezenet.pth",
        "helpers/vgg16.ckpt",
        "helpers/squeezenet_weights.pkl",
        "helpers/__pycache__/cli.cpython-311.pyc",
        "helpers/__pycache__/stray.py",
        "tests/tmp/test_old.py",
        "tests/.hypothesis/unicode.json",
        ".pytest_cache/README.md",
        "visualizers/.gradcam.py",
        "visualization/.hidden.png",
        "visualization/weights.npz",
        ".venv/lib/site-packages/torch/__init__.py",
        "venv/lib/stray.py",
        "helpers/venv/lib/stray.py",
        ".git/config",
        ".env",
        "dist/handout/style_utils.py",
        "grading/judge.py",
        "extras/painter/losses.py",
        "assignment_3_submission.zip",
        "tests/old.zip",
    ],
)
def test_nothing_else_goes_in(root, name):
    before = submission.collect(root)
    put(root, name, "x")
    assert submission.collect(root) == before


def test_a_link_goes_in_only_if_it_stays_in_the_project(root, tmp_path):
    before = submission.collect(root)
    put(tmp_path, "secret/key.py", "KEY = 1\n")
    put(root, ".git/config", "x")
    (root / "helpers/key.py").symlink_to(tmp_path / "secret/key.py")
    (root / "helpers/config.json").symlink_to(root / ".git/config")
    (root / "helpers/secret").symlink_to(tmp_path / "secret")
    (root / "helpers/around").symlink_to(root)
    (root / "helpers/nowhere.py").symlink_to(root / "gone.py")
    (root / "helpers/again.json").symlink_to(root / "helpers/answers.json")
    assert submission.collect(root) == sorted([*before, "helpers/again.json"])


def test_a_folder_that_leads_out_of_the_project_stays_out(root, tmp_path):
    shutil.move(root / "visualization", tmp_path / "elsewhere")
    (root / "visualization").symlink_to(tmp_path / "elsewhere")
    shutil.move(root / "tests", tmp_path / "tests")
    (root / "tests").symlink_to(tmp_path / "tests")
    assert not [name for name in submission.collect(root) if name.startswith(("visualization", "tests"))]


def test_a_project_in_a_hidden_folder_or_one_called_tmp_is_packed_all_the_same(root, tmp_path):
    for name in (".hidden", "tmp"):
        copy = shutil.copytree(root, tmp_path / name / "project")
        assert submission.collect(copy) == submission.collect(root)


def test_the_same_files_give_the_same_bytes(root):
    first = archive(root)
    assert archive(root) == first, "packed twice"
    for path in root.rglob("*"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o700)
    umask = os.umask(0o077)
    try:
        assert archive(root) == first, "other times, permissions and umask"
    finally:
        os.umask(umask)
    put(root, "style_utils.py", "rate = 3.0\n")
    assert archive(root) != first, "another content"


def test_another_system_gives_the_same_bytes(root, tmp_path, monkeypatch):
    first = archive(root)
    names = submission.collect(root)
    monkeypatch.setattr(sys, "platform", "win32")
    submission.write_zip(root, reversed(names), tmp_path / "other.zip")
    assert (tmp_path / "other.zip").read_bytes() == first


def test_entries_carry_fixed_times_and_scripts_stay_executable(root):
    archive(root)
    with zipfile.ZipFile(root / submission.ZIP_NAME) as packed:
        entries = {entry.filename: entry for entry in packed.infolist()}
    assert {entry.date_time for entry in entries.values()} == {(1980, 1, 1, 0, 0, 0)}
    assert entries["style_transfer.py"].external_attr >> 16 == 0o100755
    assert entries["style_utils.py"].external_attr >> 16 == 0o100644


def test_list_prints_every_file_and_writes_nothing(root, capsys):
    assert collect(root, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1] for line in lines[:-1]] == submission.collect(root)
    assert lines[-1].endswith(f"in {len(lines) - 1} files")
    assert not (root / submission.ZIP_NAME).exists()


@pytest.mark.parametrize(
    "name",
    ["helpers/a\\b.py", "helpers/a\nb.py", "helpers/a\udcff.py"],
    ids=["backslash", "newline", "bytes"],
)
def test_a_file_that_cannot_be_a_zip_entry_is_left_out_and_named(root, capsys, name):
    before = submission.collect(root)
    put(root, name, "x = 1\n")
    assert collect(root, "--quiet") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"helpers/a\S+ is left out of the zip: a zip cannot carry this name.*, rename it", line
    )
    assert zipfile.ZipFile(root / submission.ZIP_NAME).namelist() == before
    assert collect(root, "--strict", "--quiet") == 1


def test_an_unreadable_file_is_left_out_and_costs_its_task(root, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "style_utils.py")
    assert collect(root, "--quiet") == 0
    assert capsys.readouterr().err.splitlines() == [
        "style_utils.py is left out of the zip: it cannot be read, change its permissions",
        "style_utils.py is not a readable file of this folder: Task 7, 14 points",
    ]
    assert "style_utils.py" not in zipfile.ZipFile(root / submission.ZIP_NAME).namelist()


# What costs points


def test_script_and_grader_give_the_same_points():
    assert sum(sum(points.values()) for _, points in submission.TASKS.values()) == 100
    for task in tasks.TASKS.values():
        shares = {name: tasks.OPERATIONS[name].share for name in task.operations}
        for operation, share in shares.items():
            file, function = tasks.OPERATIONS[operation].where.split(", ")
            number, points = submission.TASKS[file]
            assert number == task.number[0]
            (expected,) = (p for functions, p in points.items() if function in functions.split())
            assert expected == task.points * share / sum(shares.values())


def test_every_stub_of_the_handout_is_known_with_its_points(root, capsys):
    for name, regions in handout.solutions(PROJECT).items():
        put(root, name, handout.emptied((PROJECT / name).read_text(), regions))
    assert collect(root, "--quiet") == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in sorted(lines)] == [
        "Task 1 is not written: 15 points",
        "Task 2 is not written: 20 points",
        "Task 3 is not written: 15 points",
        "Task 4 is not written: 8 points",
        "Task 5 is not written: 20 points",
        "Task 6 is not written: 8 points",
        "Task 7 is not written: 14 points",
    ]
    for line in lines:
        file, number = re.search(r" \((\S+):(\d+)\)$", line).groups()
        assert "raise NotImplementedError" in (root / file).read_text().splitlines()[int(number) - 1]


def test_the_solved_project_has_no_problem():
    assert list(submission.find_problems(PROJECT, submission.collect(PROJECT))) == []


GRAM, STYLE = f"    def gram_matrix(self):\n    {STUB}", f"    def forward(self):\n    {STUB}"
CAM, GUIDED = f"    def grad_cam(self):\n    {STUB}", f"    def guided_backprop(self):\n    {STUB}"
RELU = f"class GuidedReLU:\n    def backward(ctx):\n    {STUB}"
COPY = "copy it from the handout (it costs no points)"
# One file of the project -> its content (None: it is missing), and what is said about it.
DEFECTS = {
    "a stub": (
        "style_utils.py",
        f"def style_transfer():\n    for t in range(9):\n    {STUB}",
        "Task 7 is not written: 14 points (style_utils.py:3)",
    ),
    "a bare stub": (
        "style_modules/tv_loss.py",
        "class TotalVariationLoss:\n    def forward(self):\n        raise NotImplementedError\n",
        "Task 6 is not written: 8 points (style_modules/tv_loss.py:3)",
    ),
    "the first function of a task": (
        "style_modules/style_loss.py",
        f"class StyleLoss:\n{GRAM}",
        "Task 5 lacks StyleLoss.gram_matrix: 10 points (style_modules/style_loss.py:3)",
    ),
    "the second function of a task": (
        "style_modules/style_loss.py",
        f"class StyleLoss:\n{STYLE}",
        "Task 5 lacks StyleLoss.forward: 10 points (style_modules/style_loss.py:3)",
    ),
    "both functions of a task": (
        "style_modules/style_loss.py",
        f"class StyleLoss:\n{GRAM}{STYLE}",
        "Task 5 is not written: 20 points (style_modules/style_loss.py:3)",
    ),
    "the larger part": (
        "visualizers/gradcam.py",
        f"class GradCam:\n{CAM}",
        "Task 2 lacks GradCam.grad_cam: 13 points (visualizers/gradcam.py:3)",
    ),
    "two functions of one part": (
        "visualizers/gradcam.py",
        f"{RELU}class GradCam:\n{GUIDED}",
        "Task 2 lacks GuidedReLU.backward and GradCam.guided_backprop: 7 points (visualizers/gradcam.py:3)",
    ),
    "a graded file is missing": (
        "visualizers/gradcam.py",
        None,
        "visualizers/gradcam.py is missing: Task 2, 20 points",
    ),
    "a runner is missing": ("style_transfer.py", None, f"style_transfer.py is missing: {COPY}"),
    "a package has no __init__": ("helpers/__init__.py", None, f"helpers/__init__.py is missing: {COPY}"),
    "an empty file": (
        "style_modules/content_loss.py",
        " \n",
        "style_modules/content_loss.py is empty: Task 4, 8 points",
    ),
    "a huge file": (
        "style_utils.py",
        "#" * submission.FILE_LIMIT + "\n",
        "style_utils.py is larger than 256 kB, so the judge does not read it: Task 7, 14 points",
    ),
    "a graded file does not compile": (
        "visualizers/gradcam.py",
        "x = 1\ndef grad_cam(:\n",
        "visualizers/gradcam.py:2: SyntaxError: invalid syntax: Task 2, 20 points",
    ),
    "a helper does not compile": (
        "helpers/cli.py",
        "def main(:\n",
        "helpers/cli.py:1: SyntaxError: invalid syntax",
    ),
    "a test does not compile": (
        "tests/test_public.py",
        "\nreturn 1\n",
        "tests/test_public.py:2: SyntaxError: 'return' outside function",
    ),
    "another encoding": (
        "style_utils.py",
        b"# \xfcber\nx = 1\n",
        "style_utils.py is not in UTF-8: save it as UTF-8 (it costs no points)",
    ),
    "a print": (
        "visualizers/saliency_map.py",
        "def f(x):\n    print(x)\n",
        "print in visualizers/saliency_map.py:2: the judge ignores it, please remove it",
    ),
    "a breakpoint": (
        "style_utils.py",
        "def f():\n    breakpoint()\n",
        "breakpoint in style_utils.py:2 stops the judge, too: Task 7, 14 points",
    ),
    "a trace": (
        "style_utils.py",
        "import pdb; pdb.set_trace()\n",
        "breakpoint in style_utils.py:1 stops the judge, too: Task 7, 14 points",
    ),
    "a debugger": (
        "style_utils.py",
        "\nimport os, pdb\n",
        "debugger in style_utils.py:2: the judge ignores it, please remove it",
    ),
    "a debugger that is a library": (
        "style_utils.py",
        "\nimport ipdb\n",
        "debugger in style_utils.py:2 stops the judge, too: Task 7, 14 points",
    ),
    "a library's name": ("torch.py", "", "torch.py hides the library 'torch' from every import: rename it"),
    "a package of a library's name": (
        "random/__init__.py",
        "",
        "random hides the library 'random' from every import: rename it",
    ),
}


@pytest.mark.parametrize(("name", "content", "line"), DEFECTS.values(), ids=DEFECTS)
def test_a_defect_is_named_with_its_cost_and_only_strict_refuses_it(root, capsys, name, content, line):
    old = put(root, submission.ZIP_NAME, b"yesterday's")
    if content is None:
        (root / name).unlink()
    else:
        put(root, name, content)
    assert collect(root, "--strict", "--quiet") == 1
    assert capsys.readouterr() == ("", f"{line}\nno zip written: 1 to fix (--strict)\n")
    assert old.read_bytes() == b"yesterday's"
    assert collect(root, "--quiet") == 0
    assert capsys.readouterr() == (f"{old}\n", f"{line}\n")
    assert zipfile.ZipFile(old).namelist() == submission.collect(root)


def test_strict_packs_a_project_without_problems(root):
    assert collect(root, "--strict", "--quiet") == 0
    assert zipfile.is_zipfile(root / submission.ZIP_NAME)


@pytest.mark.parametrize("content", [b"x = '\0'", b"(" * 9999, b"-" * 99999 + b"1"])
def test_a_file_that_is_no_text_of_python_is_a_problem_not_a_crash(root, content):
    put(root, "style_utils.py", content)
    (problem,) = submission.find_problems(root, submission.collect(root))
    assert problem.startswith("style_utils.py:1: ")
    assert problem.endswith(": Task 7, 14 points")


def test_words_in_strings_and_comments_are_no_defects(root, capsys):
    text = '"""print(x), breakpoint(), raise NotImplementedError."""\n# import pdb; pdb.set_trace()\n'
    text += "def f(figure):\n    figure.print()\n    raise ValueError('print(x)')\n"
    put(root, "style_utils.py", text)
    put(root, "helpers/cli.py", "def f():\n    print('runners may')\n    raise NotImplementedError\n")
    assert collect(root, "--strict", "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_an_error_that_is_not_always_reached_is_no_stub(root):
    source = (
        "def style_transfer(dtype):\n"
        "    if dtype is None:\n"
        "        raise NotImplementedError('no dtype')\n"
        "    try:\n"
        "        x = 1\n"
        "    except ValueError:\n"
        "        raise NotImplementedError('Task 7: style_transfer')\n"
        "    return x\n"
        "    raise NotImplementedError('Task 7: style_transfer')\n"
    )
    assert not list(submission._stubs(ast.parse(source).body))
    assert list(submission._stubs(ast.parse(source.replace("    return x\n", "")).body)) == [
        ("style_transfer", 8)
    ]


@pytest.mark.parametrize("linked", ["style_utils.py", "style_modules"])
def test_a_graded_file_that_is_linked_from_elsewhere_costs_its_points(root, tmp_path, capsys, linked):
    shutil.move(root / linked, tmp_path / linked)
    (root / linked).symlink_to(tmp_path / linked)
    assert collect(root, "--quiet") == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (1 if linked == "style_utils.py" else 4)
    for line in lines:
        assert re.match(
            rf"{linked}.* is not a readable file of this folder: (Task \d, \d+ points|copy)", line
        )


def test_all_problems_are_listed_at_once(root, capsys):
    (root / "gradcam_visualization.py").unlink()
    put(root, "helpers/cli.py", "def main(:\n")
    put(root, "random.py", "")
    put(root, "style_utils.py", f"def style_transfer():\n    print(1); print(2)\n{STUB}\n")
    assert collect(root, "--quiet") == 0
    assert capsys.readouterr().err.splitlines() == [
        f"gradcam_visualization.py is missing: {COPY}",
        "helpers/cli.py:1: SyntaxError: invalid syntax",
        "Task 7 is not written: 14 points (style_utils.py:3)",
        "print in style_utils.py:2: the judge ignores it, please remove it",
        "random.py hides the library 'random' from every import: rename it",
    ]


@pytest.mark.parametrize("empty", [False, True])
def test_without_any_graded_file_there_is_nothing_to_zip(root, capsys, empty):
    old = put(root, submission.ZIP_NAME, b"yesterday's")
    for name in submission.GRADED_FILES:
        if empty:
            put(root, name, "\n")
        else:
            (root / name).unlink()
    assert collect(root) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"no zip written: {root} has none of the graded files (visualizers/")
    assert all(name in err for name in submission.GRADED_FILES)
    assert old.read_bytes() == b"yesterday's"
    put(root, "style_utils.py", "x = 1\n")
    assert collect(root, "--quiet") == 0, "one file of seven is enough"


def test_a_submission_that_is_too_large_says_so(root, capsys, monkeypatch):
    total = sum((root / name).stat().st_size for name in submission.collect(root))
    monkeypatch.setattr(submission, "SIZE_LIMIT", total)
    assert collect(root, "--strict", "--quiet") == 0
    monkeypatch.setattr(submission, "SIZE_LIMIT", 100 * 10**6)
    os.truncate(put(root, "helpers/a.npz"), 105 * 10**6)
    capsys.readouterr()
    assert collect(root, "--strict", "--quiet") == 1
    assert capsys.readouterr().err.splitlines()[0] == (
        "the files have 105.0 MB (see --list), Gradescope takes 100 MB"
    )


def test_missing_pictures_are_warnings_also_with_strict(root, capsys):
    shutil.rmtree(root / "visualization")
    assert collect(root, "--quiet", "--strict") == 0
    assert capsys.readouterr().err.splitlines() == [
        "warning: visualization/class_visualization.png is missing: run ./class_visualization.py",
        "warning: visualization/saliency_visualization.png is missing: run ./saliency_visualization.py",
        "warning: visualization/gradcam_visualization.png is missing: run ./gradcam_visualization.py",
        "warning: visualization/ holds no stylized picture: run ./style_transfer.py",
    ]


# The receipt

ENCODED = {
    "plain": b"x = 1\n",
    "Windows line ends": b"x = 1\r\ny = 2\r\n",
    "UTF-8": "x = 'ü日'\n".encode(),
    "a mark": b"\xef\xbb\xbfx = 1\n",
    "Latin-1": b"# \xfcber\nx = 1\n",
    "declared Latin-1": b"# coding: latin-1\n# \xfcber\nx = 1\n",
    "no such encoding": b"# coding: klingon\nx = 1\n",
    "wrongly declared": b"# coding: utf-8\n# \xfcber\nx = 'coding: utf-8'\n",
    "UTF-16": "x = 'ü'\n".encode("utf-16"),
    "half of UTF-16": "x = 'ü'\n".encode("utf-16")[:-1],
    "a zero": b"x = '\0'\n",
    "empty": b"",
    "just small enough": b"#" * submission.FILE_LIMIT,
    "too large": b"#" * (submission.FILE_LIMIT + 1),
    "missing": None,
}


@pytest.mark.parametrize("content", ENCODED.values(), ids=ENCODED)
def test_the_receipt_is_the_graders(root, content):
    (root / "style_utils.py").unlink()
    if content is not None:
        put(root, "style_utils.py", content)
    output = root / submission.ZIP_NAME
    submission.write_zip(root, submission.collect(root), output)
    read = grading.submission.read_submission(output)
    assert submission.receipt(output).replace("-", "") == read.digest[:20].upper()
    assert submission.receipt(output) == read.receipt


def test_the_receipt_depends_on_the_graded_files_alone(root, capsys):
    def receipt() -> str:
        assert collect(root, "--skip-judge") == 0
        (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("receipt"))
        assert re.fullmatch(RECEIPT, line)
        return line

    first = receipt()
    put(root, "README.md", "Read me again.\n")
    put(root, "helpers/answers.json", "[]")
    assert receipt() == first
    put(root, "style_modules/tv_loss.py", "x = 1\n")
    assert receipt() != first


# The judge


def test_the_judge_reads_the_zip_and_its_table_comes_before_the_receipt_and_the_path(root):
    put_judge(
        root,
        "import sys, zipfile\n"
        "_, command, path, *options = sys.argv\n"
        "assert command == 'check' and options == ['--public', '--own', '--quiet']\n"
        "assert 'style_utils.py' in zipfile.ZipFile(path).namelist() and not sys.stdin.read()\n"
        "print('- 7   Update r\\xfcle      0 / 14')\n"
        "print('       the receipt stays here')\n"
        "print('  total  86 / 100')\n",
    )
    status, out, err = run_script(root, env={"LC_ALL": "C.UTF-8"})
    assert (status, err) == (0, "grading the zip (--skip-judge leaves this out)\n")
    packed, *table, receipt, path = filter(None, out.splitlines())
    assert packed.startswith(f"packed {len(submission.collect(root))} files, ")
    assert table == ["- 7   Update rüle      0 / 14", "       the receipt stays here", "  total  86 / 100"]
    assert re.fullmatch(RECEIPT, receipt)
    assert path == str(root / submission.ZIP_NAME)


JUDGES = {
    "fails": (
        "import sys\nprint('x', file=sys.stderr)\nsys.exit('grading: error: no cases')",
        "grading: error: no cases",
    ),
    "dies": ("import os\nos._exit(9)", "the judge ended with status 9"),
    "crashes": ("1 / 0", "ZeroDivisionError: division by zero"),
    "is absent": (None, "No module named grading"),
}


@pytest.mark.parametrize(("source", "reason"), JUDGES.values(), ids=JUDGES)
def test_a_judge_that_cannot_run_is_one_warning_and_the_zip_stays(root, capsys, source, reason):
    if source is not None:
        put_judge(root, source)
    assert collect(root) == 0
    out, err = capsys.readouterr()
    (warning,) = err.splitlines()[1:]
    assert warning.startswith("warning: not graded here: ")
    assert warning.endswith(reason)
    packed, receipt, path = out.splitlines()
    assert re.fullmatch(RECEIPT, receipt)
    assert zipfile.is_zipfile(path)


def test_without_the_environment_the_script_runs_and_asks_for_it(root):
    put_judge(root, "raise SystemExit('not asked')")
    status, out, err = run_script(root, flags=("-S",))  # no installed packages
    assert status == 0
    assert err.splitlines()[1:] == [
        "warning: not graded here: torch is not installed for this Python: is the environment active?"
    ]
    assert out.splitlines()[-1] == str(root / submission.ZIP_NAME)


@pytest.mark.parametrize("option", ["--skip-judge", "--quiet"])
def test_the_judge_and_the_tests_run_only_when_they_are_wanted(root, option):
    put_judge(root, "open('judged', 'w')")
    put(root, "tests/test_public.py", "open('tested', 'w')\n")
    assert collect(root, option) == 0
    assert not (root / "judged").exists() and not (root / "tested").exists()
    assert collect(root) == 0
    assert (root / "judged").exists() and not (root / "tested").exists()


# The public tests


def test_passing_tests_are_one_line_and_shown_while_they_run(root):
    before = {*root.rglob("*")}
    status, out, err = run_script(root, "--tests", "--skip-judge")
    assert status == 0
    assert "1 passed" in err and err.splitlines()[-1] == "public tests: all pass"
    assert out.splitlines()[-1] == str(root / submission.ZIP_NAME)
    added = {root / "collect_submission.py", root / submission.ZIP_NAME}
    assert {*root.rglob("*")} - before == added, "and leave no litter"


def test_failing_tests_are_said_and_only_strict_refuses_them(root, capfd):
    old = put(root, submission.ZIP_NAME, b"yesterday's")
    put(root, "tests/test_public.py", "def test_sum():\n    assert 1 + 1 == 3\n")
    assert collect(root, "--tests", "--strict", "--skip-judge") == 1
    out, err = capfd.readouterr()
    assert out == "" and "test_sum" in err
    assert err.splitlines()[-2:] == ["public tests: some fail", "no zip written: 1 to fix (--strict)"]
    assert old.read_bytes() == b"yesterday's"
    assert collect(root, "--tests", "--quiet") == 0
    assert capfd.readouterr() == (f"{old}\n", "public tests: some fail\n")
    assert zipfile.is_zipfile(old)


def test_tests_that_give_no_result_are_said(root, capfd, monkeypatch):
    put(root, "tests/test_public.py", "import os\nos._exit(7)\n")
    assert collect(root, "--tests", "--quiet") == 0
    assert capfd.readouterr().err == "public tests: pytest ended with status 7\n"
    monkeypatch.setattr(submission.importlib.util, "find_spec", lambda name: None)
    assert collect(root, "--tests", "--quiet", "--strict") == 1
    assert "pytest is not installed: python -m pip install -r requirements-dev.txt" in capfd.readouterr().err


# The command


def test_quiet_prints_the_path_alone(root, capsys):
    assert collect(root, "--quiet") == 0
    assert capsys.readouterr() == (f"{root / submission.ZIP_NAME}\n", "")


@pytest.mark.parametrize("name", ["random", "zipfile", "torch"])
def test_a_stray_file_cannot_stop_the_diagnosis(root, name):
    put(root, f"{name}.py", "raise SystemExit(0)\n")
    status, out, err = run_script(root, "--quiet")
    assert (status, out) == (0, f"{root / submission.ZIP_NAME}\n")
    assert err.startswith(f"{name}.py hides the library '{name}'")


def test_only_the_standard_library_is_imported(root):
    status, out, err = run_script(root, "--quiet", flags=("-I", "-S"))
    assert (status, out, err) == (0, f"{root / submission.ZIP_NAME}\n", "")


def test_names_that_are_not_ascii_and_a_terminal_that_cannot_show_them_are_no_obstacle(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "Übung \u65e5\u672c \udcff")
    put(copy, "visualization/\u00e9tude.png")
    put(copy, "visualizers/caf\u00e9.py", "def f(:\n")
    put_judge(copy, "import sys\nprint(open(sys.argv[2], 'rb').read(2))")
    status, out, err = run_script(copy, env={"PYTHONIOENCODING": "ascii"})
    assert status == 0, err
    assert "visualizers/caf\\xe9.py:1: SyntaxError: invalid syntax\n" in err
    assert "b'PK'" in out
    assert "visualization/\u00e9tude.png" in zipfile.ZipFile(copy / submission.ZIP_NAME).namelist()


def test_help_is_quick_and_names_the_options(root):
    times = []
    for _ in range(3):  # the best of three, since the machine may be busy with something else
        begun = time.monotonic()
        status, out, _ = run_script(root, "--help")
        times.append(time.monotonic() - begun)
    assert min(times) < 0.5
    assert status == 0
    options = ("--output", "--strict", "--tests", "--skip-judge", "--list", "--quiet")
    assert all(option in out for option in options)


def test_the_script_is_executable():
    script = Path(submission.__file__)
    assert script.read_text().startswith("#!/usr/bin/env python3\n")
    assert os.access(script, os.X_OK)


def test_output_goes_where_it_is_asked_to(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert collect(root, "--quiet", "--output", "mine.zip") == 0
    assert zipfile.is_zipfile(tmp_path / "mine.zip")
    assert not (root / submission.ZIP_NAME).exists()
    (tmp_path / "link.zip").symlink_to("mine.zip")
    put(tmp_path, "mine.zip", "yesterday's")
    assert collect(root, "--quiet", "--output", "link.zip") == 0
    assert (tmp_path / "link.zip").is_symlink() and zipfile.is_zipfile(tmp_path / "mine.zip")


USAGE = {
    "no zip": (
        ["--output", "style_utils.py"],
        "--output must name a .zip file in a folder that exists, not /",
    ),
    "a folder": (["--output", "folder.zip"], "--output must name a .zip file in a folder that exists, not /"),
    "nowhere": (["--output", "no/such.zip"], "--output must name a .zip file in a folder that exists, not /"),
    "unknown": (["--upload"], "unrecognized arguments: --upload (--help lists the options)"),
    "gone": (["--skip-tests"], "unrecognized arguments: --skip-tests (tests run only with --tests)"),
    "short": (["--skip"], "unrecognized arguments: --skip (--help lists the options)"),
}


@pytest.mark.parametrize(("options", "message"), USAGE.values(), ids=USAGE)
def test_wrong_usage_is_one_line_and_status_2(root, options, message, capsys, monkeypatch):
    (root / "folder.zip").mkdir()
    monkeypatch.chdir(root)
    before = (root / "style_utils.py").read_bytes()
    with pytest.raises(SystemExit) as stop:
        collect(root, *options)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"collect_submission.py: error: {message}")
    assert (root / "style_utils.py").read_bytes() == before


def raiser(error):
    def stop(*_args, **_options):
        raise error

    return stop


@pytest.mark.parametrize("when", ["find_problems", "missing_pictures", "writestr"])
def test_an_interruption_is_one_line_and_leaves_the_old_zip_and_no_remains(root, capsys, monkeypatch, when):
    old = put(root, submission.ZIP_NAME, b"yesterday's")
    before = sorted(root.rglob("*"))
    owner = zipfile.ZipFile if when == "writestr" else submission
    monkeypatch.setattr(owner, when, raiser(KeyboardInterrupt()))
    assert collect(root, "--quiet") == 1
    assert capsys.readouterr() == ("", "no zip written: interrupted\n")
    assert old.read_bytes() == b"yesterday's"
    assert sorted(root.rglob("*")) == before


def test_an_interruption_of_the_judge_leaves_the_whole_zip(root):
    put_judge(root, "import time\nopen('started', 'w').close()\ntime.sleep(60)\n")
    process = started(root, start_new_session=True)
    while not (root / "started").exists() and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err.splitlines()[1:] == [f"interrupted; the zip is complete: {root / submission.ZIP_NAME}"]
    assert zipfile.ZipFile(root / submission.ZIP_NAME).testzip() is None


@pytest.mark.parametrize("place", [(zipfile.ZipFile, "writestr"), (Path, "replace"), (Path, "open")])
def test_a_failed_write_leaves_the_old_zip_and_no_remains(root, capsys, monkeypatch, place):
    old = put(root, submission.ZIP_NAME, b"yesterday's")
    before = sorted(root.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(submission, "find_problems", lambda root, names: [])  # they read the files
        patch.setattr(Path, "read_bytes", lambda path: b"x = 1\n")
        patch.setattr(*place, raiser(OSError(28, "No space left on device", "somewhere")))
        assert collect(root, "--quiet") == 1
    message = f"no zip written: No space left on device: {old} (an earlier zip stays as it was)\n"
    assert capsys.readouterr() == ("", message)
    assert old.read_bytes() == b"yesterday's"
    assert sorted(root.rglob("*")) == before


def test_an_error_after_the_zip_does_not_deny_the_zip(root, capsys, monkeypatch):
    monkeypatch.setattr(submission.subprocess, "run", raiser(OSError(11, "no more processes")))
    assert collect(root) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"[Errno 11] no more processes; the zip is complete: {root / submission.ZIP_NAME}"
    )


@pytest.mark.parametrize(
    "redirection", ["| head -1", "2>&1 | head -1", "2>&1 | true", ">&-", "2>&-", ">&- 2>&-"]
)
@pytest.mark.parametrize("option", ["--skip-judge", "--list"])
def test_a_reader_that_leaves_early_is_no_error(root, redirection, option):
    put(root, "style_utils.py", "print(1)\n" * 5000)  # more lines than a pipe holds
    script = shutil.copy(submission.__file__, root)
    command = f'set -o pipefail; "{sys.executable}" "{script}" {option} {redirection}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-500:]
    assert not re.search("Traceback|Exception|Error", done.stdout + done.stderr)
    assert zipfile.is_zipfile(root / submission.ZIP_NAME) == (option == "--skip-judge")
