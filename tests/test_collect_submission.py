"""The submission script on small fake projects: what goes in, what is refused, and nothing half done."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import collect_submission as submission
import grading.submission
from collect_submission import Problem

PICTURES = ("class_visualization", "saliency_visualization", "gradcam_visualization", "wave_coffee")


def put(root: Path, name: str, content: str | bytes = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project that passes every check; its modules need nothing, so that importing them takes no time."""
    root = tmp_path / "project"
    for name in submission.REQUIRED_FILES:
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


def collect(root: Path, *options: str) -> int:
    return submission.main([*options], root=root)


def archive(root: Path) -> bytes:
    assert collect(root, "--skip-tests", "--quiet") == 0
    return (root / submission.ZIP_NAME).read_bytes()


def run_script(root: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """As a student does: the script lies in the project and is run from the shell, someone at the keys."""
    command = [sys.executable, shutil.copy(submission.__file__, root), *options]
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    settings |= variables
    return subprocess.run(command, env=settings, input="yes\n", capture_output=True, text=True, timeout=60)


# What goes in


def test_script_and_grader_read_the_same_files():
    # Two lists: the script must run where nothing else does, and Gradescope's bundle has no script.
    assert submission.GRADED_FILES == grading.submission.GRADED_FILES


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


# What is refused

DEFECTS = {
    "a required file is missing": ("visualizers/gradcam.py", None, "visualizers/gradcam.py: missing"),
    "a runner is missing": ("style_transfer.py", None, "style_transfer.py: missing"),
    "a package has no __init__": ("helpers/__init__.py", None, "helpers/__init__.py: missing"),
    "a graded file does not compile": (
        "visualizers/gradcam.py",
        "x = 1\ndef grad_cam(:\n",
        "visualizers/gradcam.py:2: SyntaxError: invalid syntax",
    ),
    "a test does not compile": (
        "tests/test_public.py",
        "\nreturn 1\n",
        "tests/test_public.py:2: SyntaxError: 'return' outside function",
    ),
    "an import fails": (
        "style_modules/tv_loss.py",
        "x = 1\nx = y\n",
        "style_modules/tv_loss.py:2: NameError: name 'y' is not defined (importing style_modules.tv_loss)",
    ),
    "an import fails further down": (
        "style_modules/__init__.py",
        "\nx = y\n",
        "style_modules/__init__.py:2: "
        "NameError: name 'y' is not defined (importing style_modules.content_loss)",
    ),
    "a module leaves": (
        "style_utils.py",
        "import sys\nsys.exit(3)\n",
        "style_utils.py:2: SystemExit: 3 (importing style_utils)",
    ),
    "a module leaves at once": (
        "style_modules/tv_loss.py",
        "import os\nos._exit(0)\n",
        "style_modules/tv_loss.py:2: os._exit(0) ends the interpreter (importing style_modules.tv_loss)",
    ),
    "a module kills the interpreter": (
        "style_modules/tv_loss.py",
        "import os\nos.abort()\n",
        "style_modules/tv_loss.py: importing it ends the interpreter",
    ),
    "a stub with its task": (
        "style_modules/style_loss.py",
        "class StyleLoss:\n    def gram_matrix(self):\n        raise NotImplementedError('Task 5.1')\n",
        "style_modules/style_loss.py:3: StyleLoss.gram_matrix is still to be written: Task 5.1",
    ),
    "a bare stub": (
        "style_utils.py",
        "def rel_error(x, y):\n    raise NotImplementedError\n",
        "style_utils.py:2: rel_error is still to be written",
    ),
    "a print": (
        "visualizers/saliency_map.py",
        "def f(x):\n    print(x)\n",
        "visualizers/saliency_map.py:2: stray print(): remove it",
    ),
    "a breakpoint": (
        "style_utils.py",
        "def f():\n    breakpoint()\n",
        "style_utils.py:2: stray breakpoint(): remove it",
    ),
    "a debugger": ("style_utils.py", "\nimport pdb\n", "style_utils.py:2: stray import of pdb: remove it"),
    "a debugger's name": (
        "style_utils.py",
        "from pdb import set_trace as stop\n",
        "style_utils.py:1: stray import of pdb: remove it",
    ),
    "a trace": (
        "style_utils.py",
        "def f(debugger):\n    debugger.set_trace()\n",
        "style_utils.py:2: stray set_trace(): remove it",
    ),
    "a library's name": (
        "torch.py",
        "",
        "torch.py: hides the library 'torch' from every import: rename it",
    ),
    "a package of a library's name": (
        "random/__init__.py",
        "",
        "random: hides the library 'random' from every import: rename it",
    ),
    "a name that Windows reads as a folder": (
        "helpers/a\\b.py",
        "",
        "helpers/a\\\\b.py: rename it: a zip cannot carry this name to every system",
    ),
}


@pytest.mark.parametrize(("name", "content", "line"), DEFECTS.values(), ids=DEFECTS)
def test_a_defect_is_named_and_the_old_zip_stays(root, capsys, name, content, line):
    old = put(root, submission.ZIP_NAME, b"yesterday's")
    if content is None:
        (root / name).unlink()
    else:
        put(root, name, content)
    assert collect(root, "--skip-tests", "--quiet") == 1
    assert capsys.readouterr().err.splitlines() == [line, "no zip written: 1 to fix"]
    assert old.read_bytes() == b"yesterday's"


def test_all_problems_are_reported_at_once(root, capsys):
    (root / "gradcam_visualization.py").unlink()
    put(root, "helpers/cli.py", "def main(:\n")
    put(root, "random.py", "")
    put(root, "style_utils.py", "def f():\n    print(1)\n    raise NotImplementedError('Task 6')\n1 / 0\n")
    put(root, "style_modules/tv_loss.py", "import helpers.cli\n")
    assert collect(root) == 1
    assert capsys.readouterr().err.splitlines() == [
        "checking the files",
        "gradcam_visualization.py: missing",
        "random.py: hides the library 'random' from every import: rename it",
        "helpers/cli.py:1: SyntaxError: invalid syntax",
        "style_utils.py:4: ZeroDivisionError: division by zero (importing style_utils)",
        "style_utils.py:3: f is still to be written: Task 6",
        "style_utils.py:2: stray print(): remove it",
        "no zip written: 6 to fix",
    ]


@pytest.mark.parametrize("content", [b"x = '\0'", b"x = '\xff'", b"# coding: klingon\n", b"(" * 9999])
def test_a_file_that_is_no_text_of_python_is_a_problem_not_a_crash(root, content):
    put(root, "style_utils.py", content)
    assert {problem.file for problem in submission.preflight(root)} == {"style_utils.py"}


def test_words_in_strings_and_comments_are_no_defects(root):
    text = '"""print(x), breakpoint(), raise NotImplementedError."""\n# import pdb; pdb.set_trace()\n'
    put(
        root,
        "style_utils.py",
        text + "def f(figure):\n    figure.print()\n    raise ValueError('print(x)')\n",
    )
    put(root, "helpers/cli.py", "def f():\n    print('runners may')\n    raise NotImplementedError\n")
    assert submission.preflight(root) == []


def test_a_required_file_that_is_linked_from_elsewhere_is_refused(root, tmp_path):
    shutil.move(root / "style_utils.py", tmp_path / "style_utils.py")
    (root / "style_utils.py").symlink_to(tmp_path / "style_utils.py")
    assert submission.check_required(root) == [
        Problem("style_utils.py", None, "a link: put the file itself here")
    ]


def test_an_empty_folder_lacks_every_required_file_and_breaks_no_check(tmp_path):
    assert {problem.file for problem in submission.preflight(tmp_path)} == set(submission.REQUIRED_FILES)


def test_modules_see_only_what_goes_into_the_zip(root):
    put(root, "my_notes.py", "x = 1\n")
    put(root, "style_utils.py", "\nimport my_notes\n")
    put(root, "colorsys.py", "1 / 0\n")
    put(root, "visualizers/gradcam.py", "import colorsys\nimport pytest\n")
    put(root, "style_modules/tv_loss.py", "from helpers import answers\n")
    put(
        root,
        "helpers/answers.py",
        "from pathlib import Path\nPath(__file__).with_suffix('.json').read_text()\n",
    )
    (problem,) = submission.check_imports(root)
    assert (problem.file, problem.line) == ("style_utils.py", 2)
    assert problem.message.endswith("my_notes is in this folder, but does not go into the zip")


def test_a_library_that_is_not_installed_asks_for_the_environment(root):
    put(root, "style_utils.py", "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch.nn')\n")
    (problem,) = submission.check_imports(root)
    assert problem.message.endswith("; is the environment active?")


@pytest.mark.parametrize("loop", ["while True:\n    pass\n", "import time\ntime.sleep(600)\n"])
def test_an_endless_import_is_stopped_and_its_line_named(root, loop):
    put(root, "style_modules/content_loss.py", loop)
    begun = time.monotonic()
    (problem,) = submission.check_imports(root, timeout=0.5)
    assert time.monotonic() - begun < submission.GRACE / 2
    assert problem.file == "style_modules/content_loss.py"
    assert problem.line in (1, 2)
    assert "still running after 0.5 s" in problem.message


def test_an_endless_import_that_lets_nothing_else_run_is_killed(root, monkeypatch):
    monkeypatch.setattr(submission, "GRACE", 0.5)
    put(root, "style_utils.py", "import re\nre.match('(a+)+$', 'a' * 99 + 'b')\n")
    assert submission.check_imports(root, timeout=0.5) == [
        Problem("style_utils.py", None, "importing it does not end within 0.5 s")
    ]


def test_a_thread_left_running_does_not_hold_up_the_check(root):
    put(root, "style_utils.py", "import threading\nthreading.Thread(target=threading.Event().wait).start()\n")
    assert submission.check_imports(root, timeout=5) == []


def test_importing_leaves_no_trace_prints_nothing_and_reads_no_input(root):
    put(root, "style_utils.py", "import sys\nsys.stdout.write('loud')\ninput()\n")
    before = {*root.rglob("*")}
    result = run_script(root, "--quiet")
    assert result.stdout == ""
    assert result.stderr.startswith("style_utils.py:3: EOFError: EOF when reading a line")
    assert {*root.rglob("*")} - before == {root / "collect_submission.py"}


def test_the_projects_packages_come_before_installed_ones_of_the_same_name(root, tmp_path, monkeypatch):
    put(tmp_path, "installed/helpers/__init__.py", "1 / 0\n")
    put(root, "style_utils.py", "import helpers\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    assert submission.check_imports(root) == []


def test_a_submission_that_is_too_large_names_its_largest_files(root):
    for name, size in (("helpers/a.npz", 60), ("helpers/b.npz", 45)):
        os.truncate(put(root, name), size * 10**6)
    (problem,) = submission.check_contents(root)
    assert problem.file == "helpers/a.npz"
    assert (
        "105.0 MB, the limit is 100.0 MB; largest: helpers/a.npz (60.0 MB), helpers/b.npz" in problem.message
    )


def test_a_submission_may_be_as_large_as_the_limit(root, monkeypatch):
    total = sum((root / name).stat().st_size for name in submission.collect(root))
    monkeypatch.setattr(submission, "SIZE_LIMIT", total)
    assert submission.check_contents(root) == []
    monkeypatch.setattr(submission, "SIZE_LIMIT", total - 1)
    assert len(submission.check_contents(root)) == 1


# The public tests


def test_failing_public_tests_are_named_one_a_line(root, capfd):
    old = put(root, submission.ZIP_NAME, b"yesterday's")
    put(
        root,
        "tests/test_public.py",
        "import pytest\n"
        "class TestGram:\n"
        "    @pytest.mark.parametrize('n', [1, 2])\n"
        "    def test_ones(self, n):\n"
        "        assert n == 1, 'C is off\\nby one'\n"
        "@pytest.fixture\n"
        "def photo():\n"
        "    raise OSError('no photo')\n"
        "def test_photo(photo): pass\n"
        "def test_fine(): pass\n",
    )
    put(root, "tests/test_other.py", "import nowhere\n")
    assert collect(root, "--quiet") == 1
    assert sorted(capfd.readouterr().err.splitlines()) == [
        "no zip written: 3 to fix",
        "tests/test_other.py: cannot be collected: ModuleNotFoundError: No module named 'nowhere'",
        "tests/test_public.py:3: TestGram::test_ones[2] failed: AssertionError: C is off",
        "tests/test_public.py:9: test_photo failed: OSError: no photo",
    ]
    assert old.read_bytes() == b"yesterday's"
    assert collect(root, "--quiet", "--skip-tests") == 0
    assert zipfile.is_zipfile(old)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("import os\nos._exit(7)\n", "pytest ended with status 7"),
        ("import time\ntime.sleep(600)\n", "still running after 2 s"),
        ("", "pytest ended with status 5"),
    ],
    ids=["crash", "endless", "no test"],
)
def test_tests_that_give_no_result_are_refused(root, test, message):
    put(root, "tests/test_public.py", test)
    (problem,) = submission.check_tests(root, timeout=2 if "sleep" in test else 60)
    assert problem.file == "tests"
    assert problem.message.startswith(message)


def test_no_pytest_says_how_to_get_it(root, monkeypatch):
    monkeypatch.setattr(submission.importlib.util, "find_spec", lambda name: None)
    (problem,) = submission.check_tests(root)
    assert "requirements-dev.txt" in problem.message


def test_public_tests_wait_until_the_files_are_fixed(root, capsys):
    put(root, "tests/test_public.py", "import pathlib\npathlib.Path('ran').touch()\n")
    put(root, "style_utils.py", "print(1)\n")
    assert collect(root, "--quiet") == 1
    assert not (root / "ran").exists()


def test_missing_tests_and_pictures_are_warnings(root, capsys):
    shutil.rmtree(root / "tests")
    shutil.rmtree(root / "visualization")
    assert collect(root, "--quiet") == 0
    assert capsys.readouterr().err.splitlines() == [
        "warning: there is no folder tests/, so nothing was tested",
        "warning: visualization/class_visualization.png: missing: run ./class_visualization.py",
        "warning: visualization/saliency_visualization.png: missing: run ./saliency_visualization.py",
        "warning: visualization/gradcam_visualization.png: missing: run ./gradcam_visualization.py",
        "warning: visualization: holds no stylized picture: run ./style_transfer.py",
    ]


# The command


def test_the_script_checks_tests_packs_and_ends_with_the_path(root):
    before = {*root.rglob("*")}
    result = run_script(root)
    assert result.returncode == 0, result.stderr
    *table, path = result.stdout.splitlines()
    assert path == str(root / submission.ZIP_NAME)
    receipt = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert table[-1].endswith(f"sha256 {receipt[:16]}")
    assert table[-1].split()[1] == str(len(submission.collect(root)))
    assert "1 passed" in result.stderr
    assert {*root.rglob("*")} - before == {root / "collect_submission.py", Path(path)}, "and leaves no litter"


def test_quiet_prints_the_path_alone(root, capsys):
    assert collect(root, "--quiet", "--skip-tests") == 0
    assert capsys.readouterr() == (f"{root / submission.ZIP_NAME}\n", "")


@pytest.mark.parametrize("name", ["random", "tempfile", "argparse", "zipfile"])
def test_a_stray_file_cannot_stop_the_diagnosis(root, name):
    put(root, f"{name}.py", "raise SystemExit(0)\n")
    result = run_script(root, "--quiet")
    assert result.returncode == 1
    assert result.stderr.startswith(f"{name}.py: hides the library '{name}'")


def test_help_is_quick_and_names_the_options(root):
    times = []
    for _ in range(3):  # the best of three, since the machine may be busy with something else
        begun = time.monotonic()
        result = run_script(root, "--help")
        times.append(time.monotonic() - begun)
    assert min(times) < 0.5
    assert result.returncode == 0
    assert all(option in result.stdout for option in ("--output", "--skip-tests", "--list", "--quiet"))


def test_the_script_is_executable():
    script = Path(submission.__file__)
    assert script.read_text().startswith("#!/usr/bin/env python3\n")
    assert os.access(script, os.X_OK)


def test_output_goes_where_it_is_asked_to(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert collect(root, "--skip-tests", "--output", "mine.zip") == 0
    assert zipfile.is_zipfile(tmp_path / "mine.zip")
    assert not (root / submission.ZIP_NAME).exists()


@pytest.mark.parametrize(
    "options", [["--output", "style_utils.py"], ["--output", "no/such.zip"], ["--upload"]]
)
def test_wrong_usage_is_one_line_and_status_2(root, options, capsys, monkeypatch):
    monkeypatch.chdir(root)
    before = (root / "style_utils.py").read_bytes()
    with pytest.raises(SystemExit) as stop:
        collect(root, *options)
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (root / "style_utils.py").read_bytes() == before


def test_an_interruption_is_one_line_and_leaves_the_old_zip(root, capsys, monkeypatch):
    old = put(root, submission.ZIP_NAME, b"yesterday's")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(submission, "check_imports", interrupt)
    assert collect(root, "--quiet") == 1
    assert capsys.readouterr().err == "no zip written: interrupted\n"
    assert old.read_bytes() == b"yesterday's"


def test_a_terminal_that_cannot_show_a_name_is_no_obstacle(root):
    put(root, "visualization/\u00e9tude.png")
    result = run_script(root, "--list", PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stderr
    assert "visualization/\\xe9tude.png" in result.stdout


def test_a_failed_write_leaves_the_old_zip_and_no_remains(root, capsys, monkeypatch):
    old = put(root, submission.ZIP_NAME, b"yesterday's")

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", disk_full)
    before = sorted(root.rglob("*"))
    assert collect(root, "--skip-tests", "--quiet") == 1
    assert capsys.readouterr().err == "no zip written: [Errno 28] No space left on device\n"
    assert old.read_bytes() == b"yesterday's"
    assert sorted(root.rglob("*")) == before
