#!/usr/bin/env python3
"""Check the assignment, pack it into assignment_3_submission.zip, and show what the grader will say about it.

The checks are plain functions, project folder -> list of `Problem`, so that a grader can apply the same ones.
Only the standard library is imported: a broken project, or one without its environment, is diagnosed too.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # or a random.py in this folder would be imported here instead of the library

import argparse
import ast
import hashlib
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
import threading
import traceback
import warnings
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parent
ZIP_NAME = "assignment_3_submission.zip"
SIZE_LIMIT = 100 * 10**6  # bytes, unpacked: Gradescope takes no more
GRACE = 10.0  # seconds for a child process to stop before it is killed

GRADED_FILES = (
    "visualizers/class_visualization.py",
    "visualizers/saliency_map.py",
    "visualizers/gradcam.py",
    "style_modules/content_loss.py",
    "style_modules/style_loss.py",
    "style_modules/tv_loss.py",
    "style_utils.py",
)
RUNNERS = (
    "class_visualization.py",
    "saliency_visualization.py",
    "gradcam_visualization.py",
    "style_transfer.py",
)
PACKAGES = ("visualizers/__init__.py", "style_modules/__init__.py", "helpers/__init__.py")
REQUIRED_FILES = GRADED_FILES + PACKAGES + RUNNERS

# What goes in: these patterns, and from these folders and their subfolders the files with these suffixes.
PATTERNS = (
    *RUNNERS,
    "style_utils.py",
    "collect_submission.py",
    "README.md",
    "environment.yaml",
    "pyproject.toml",  # how the tests are run
    "requirements*.txt",
    "visualization/*.png",
    "visualization/*.gif",
    "visualization/*.jpg",
)
FOLDERS = {
    "visualizers": (".py",),
    "style_modules": (".py",),
    "helpers": (".py", ".npz", ".json", ".txt"),
    "tests": (".py", ".npz", ".json"),
}
# Folders that tools leave inside those. Names that begin with a dot are left out, too.
LEFT_OUT = {"__pycache__", "build", "dist", "env", "tmp", "temp", "venv"}

# What the project and its tests import: a file of such a name beside the runners would be imported instead.
THIRD_PARTY = {
    "PIL",
    "jinja2",
    "matplotlib",
    "ndf",
    "numpy",
    "scipy",
    "skimage",
    "torch",
    "torchvision",
    "tqdm",
}
THIRD_PARTY |= {"captum", "fpdf", "hypothesis", "markdown_it", "pypdf", "pytest"}
DEBUGGERS = {"pdb", "ipdb", "pudb"}


class Problem(NamedTuple):
    """One thing to fix: a file of the project, a line if there is one, and what is wrong."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


# What goes in


def collect(root: Path) -> list[str]:
    """The names of the files that make up the submission, sorted, relative to `root`, "/" between parts."""
    paths = [path for pattern in PATTERNS for path in root.glob(pattern)]
    for folder, suffixes in FOLDERS.items():
        for place, subfolders, files in os.walk(root / folder):  # does not follow links to folders
            subfolders[:] = [name for name in subfolders if name not in LEFT_OUT]
            paths += [Path(place, name) for name in files if name.endswith(suffixes)]
    return sorted({path.relative_to(root).as_posix() for path in paths if _belongs(path, root)})


def _belongs(path: Path, root: Path) -> bool:
    """Whether `path` is an ordinary, visible file inside the project, after links are followed."""
    target = path.resolve()
    if not (target.is_file() and target.is_relative_to(root.resolve())):
        return False
    visible = (*path.relative_to(root).parts, *target.relative_to(root.resolve()).parts)
    return not any(part.startswith(".") for part in visible)


def write_zip(root: Path, names: Iterable[str], output: Path) -> str:
    """Write the files to the zip `output`, whole or not at all, and return the zip's sha256.

    The bytes depend only on names and contents: times and permissions are fixed, and nothing is compressed, since
    compressed bytes depend on the version of zlib (and pictures hardly shrink).
    """
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(names):
                data = (root / name).read_bytes()
                entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                entry.create_system = 3  # Unix, so that the permissions below are read
                mode = 0o755 if data.startswith(b"#!") else 0o644
                entry.external_attr = (stat.S_IFREG | mode) << 16
                archive.writestr(entry, data)
        receipt = hashlib.sha256(temporary.read_bytes()).hexdigest()
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
    return receipt


# The checks


def preflight(root: Path) -> list[Problem]:
    """Every problem that can be found without running the tests, in the order to fix them."""
    syntax = check_syntax(root)
    unreadable = {(problem.file, problem.line) for problem in syntax}
    imports = [p for p in check_imports(root) if (p.file, p.line) not in unreadable]
    return [
        *check_required(root),
        *check_contents(root),
        *check_shadowing(root),
        *syntax,
        *imports,
        *check_stubs(root),
        *check_leftovers(root),
    ]


def check_required(root: Path) -> list[Problem]:
    """Required files that would not be in the zip."""
    problems = []
    for name in sorted({*REQUIRED_FILES} - {*collect(root)}):
        linked = os.path.lexists(root / name)
        problems.append(Problem(name, None, "a link: put the file itself here" if linked else "missing"))
    return problems


def check_contents(root: Path) -> list[Problem]:
    """Names that do not survive a zip, and more bytes than the grader's site takes."""
    sizes = {name: (root / name).stat().st_size for name in collect(root)}
    problems = [
        Problem(ascii(name)[1:-1], None, "rename it: a zip cannot carry this name to every system")
        for name in sizes
        if re.search(r"[\x00-\x1f\\\ud800-\udfff]", name)  # the last are undecodable bytes
    ]
    if (total := sum(sizes.values())) > SIZE_LIMIT:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
        listed = ", ".join(f"{name} ({_size(sizes[name])})" for name in largest)
        message = f"with it the submission is {_size(total)}, the limit is {_size(SIZE_LIMIT)}"
        problems.append(Problem(largest[0], None, f"{message}; largest: {listed}"))
    return problems


def check_shadowing(root: Path) -> list[Problem]:
    """Files and packages beside the runners that hide a library of the same name."""
    paths = [*root.glob("*.py"), *(path.parent for path in root.glob("*/__init__.py"))]
    return [
        Problem(path.name, None, f"hides the library {path.stem!r} from every import: rename it")
        for path in sorted(paths)
        if path.stem in sys.stdlib_module_names | THIRD_PARTY
    ]


def check_syntax(root: Path) -> list[Problem]:
    """Python files of the submission that do not compile."""
    problems = []
    for name in collect(root):
        if not name.endswith(".py"):
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                compile((root / name).read_bytes(), name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OSError) as error:
            problems.append(Problem(name, getattr(error, "lineno", None), _one_line(error)))
    return problems


def check_imports(root: Path, timeout: float = 120) -> list[Problem]:
    """Graded modules, runners and helpers that cannot be imported, in a fresh interpreter, from a copy of the files.

    A copy, because the grader has only these files: another module of this folder would be missing there.
    A child process, because the imported code may exit, crash or never end (`timeout`, in seconds).
    """
    names = [name for name in collect(root) if name.split("/")[0] not in ("tests", "visualization")]
    helpers = [name for name in names if name.startswith("helpers/") and name.endswith(".py")]
    wanted = [name for name in (*GRADED_FILES, *RUNNERS, *helpers) if name in names]
    modules = [name[:-3].replace("/", ".").removesuffix(".__init__") for name in wanted]
    if not modules:
        return []
    with tempfile.TemporaryDirectory() as scratch:
        stage, log = Path(scratch).resolve() / "stage", Path(scratch) / "log"
        for name in names:
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, stage / name)
        log.touch()
        # -P keeps the working folder off the path; unlike -I it allows packages installed for this user.
        child = "import runpy, sys; runpy.run_path(sys.argv[1])['_import_each'](*sys.argv[2:])"
        command = [
            *(sys.executable, "-P", "-c", child),
            *(__file__, str(stage), str(log), str(timeout), *modules),
        ]
        try:
            quiet = subprocess.DEVNULL
            # The child stops itself; GRACE is for code that does not let its other threads run.
            subprocess.run(
                command, cwd=root, stdin=quiet, stdout=quiet, stderr=quiet, timeout=timeout + GRACE
            )
            ending = "ends the interpreter"
        except subprocess.TimeoutExpired:
            ending = f"does not end within {timeout:g} s"
        records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]

    # One per cause: an error in a package's __init__ concerns every module of the package.
    problems: dict[object, Problem] = {}
    for record in records:
        if "error" in record:
            place = (record["file"] or _file_of(record["module"]), record["line"])
            message = f"{record['error']} (importing {record['module']}){_hint(root, record['missing'])}"
            problems.setdefault((*place, record["error"]), Problem(*place, message))
    last = records[-1] if records else {"module": modules[0]}
    if "done" not in last and "error" not in last:  # it ended without a message
        problems[last["module"]] = Problem(_file_of(last["module"]), None, f"importing it {ending}")
    return list(problems.values())


def _file_of(module: str) -> str:
    return module.replace(".", "/") + ".py"


def _hint(root: Path, missing: str) -> str:
    """What to say after "No module named `missing`"."""
    if missing in THIRD_PARTY:
        return "; is the environment active?"
    if missing and ((root / missing).is_dir() or (root / f"{missing}.py").is_file()):
        return f"; {missing} is in this folder, but does not go into the zip"
    return ""


def _import_each(stage: str, log: str, timeout: str, *modules: str) -> None:
    """In the child: import the modules in turn, and log each start and each failure (one JSON record per line)."""
    leave = os._exit
    current = ""

    def record(**fields: object) -> None:
        with Path(log).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(fields) + "\n")

    def fail(error: str, frames: Iterable[traceback.FrameSummary], missing: str = "") -> None:
        inside = [(f.filename, f.lineno) for f in frames if Path(f.filename).is_relative_to(stage)]
        file, line = inside[-1] if inside else ("", None)
        file = file and Path(file).relative_to(stage).as_posix()
        record(module=current, file=file, line=line, error=error, missing=missing)

    def give_up(error: str, frame: FrameType) -> NoReturn:
        fail(error, traceback.extract_stack(frame))
        leave(1)

    main_thread = threading.get_ident()
    watch = threading.Timer(
        float(timeout),
        lambda: give_up(f"still running after {float(timeout):g} s", sys._current_frames()[main_thread]),
    )
    watch.daemon = True
    watch.start()
    os._exit = lambda status: give_up(f"os._exit({status}) ends the interpreter", sys._getframe(1))
    sys.path.insert(0, stage)
    for current in modules:
        record(module=current)
        try:
            importlib.import_module(current)
        except BaseException as error:  # SystemExit, too: it would also end the grader
            frames = traceback.extract_tb(error.__traceback__)
            if isinstance(error, SyntaxError) and error.filename:
                frames.append(traceback.FrameSummary(error.filename, error.lineno, ""))
            missing = error.name if isinstance(error, ModuleNotFoundError) and error.name else ""
            fail(_one_line(error), frames, missing.split(".")[0])
    record(done=True)
    leave(0)  # also if the modules have left threads running


def check_stubs(root: Path) -> list[Problem]:
    """Tasks of the graded files that are not solved yet: `raise NotImplementedError`."""
    problems = []
    for name in GRADED_FILES:
        for node, function in _nodes(root / name):
            if not isinstance(node, ast.Raise):
                continue
            raised, task = node.exc, ""
            if isinstance(raised, ast.Call):
                task = "".join(f": {_text(argument)}" for argument in raised.args[:1])
                raised = raised.func
            if isinstance(raised, ast.Name) and raised.id == "NotImplementedError":
                message = f"{function or 'the module'} is still to be written{task}"
                problems.append(Problem(name, node.lineno, message))
    return sorted(problems)


def _text(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)


def check_leftovers(root: Path) -> list[Problem]:
    """Prints and breakpoints left in the graded files, one per line."""
    found = {}
    for name in GRADED_FILES:
        for node, _ in _nodes(root / name):
            if isinstance(node, ast.stmt | ast.expr) and (leftover := _leftover(node)):
                found[name, node.lineno] = Problem(name, node.lineno, f"stray {leftover}: remove it")
    return sorted(found.values())


def _leftover(node: ast.AST) -> str:
    """What to call the node if it is for debugging, else nothing."""
    match node:
        case ast.Call(func=ast.Name(id="print" | "breakpoint" | "set_trace" as called)):
            return f"{called}()"
        case ast.Call(func=ast.Attribute(attr="set_trace")):
            return "set_trace()"
        case ast.Import(names=names):
            modules = [alias.name for alias in names]
        case ast.ImportFrom(module=str(module)):
            modules = [module]
        case _:
            modules = []
    return next((f"import of {name}" for name in modules if name.split(".")[0] in DEBUGGERS), "")


def _nodes(path: Path) -> list[tuple[ast.AST, str]]:
    """The nodes of a file's syntax tree, each with the function around it; none if it cannot be parsed."""
    try:
        with warnings.catch_warnings(action="ignore"):
            waiting: list[tuple[ast.AST, str]] = [(ast.parse(path.read_bytes()), "")]
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
        return []  # check_syntax and check_required report this
    nodes = []
    while waiting:
        node, owner = waiting.pop()
        nodes.append((node, owner))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            owner = f"{owner}.{node.name}" if owner else node.name
        waiting += [(child, owner) for child in ast.iter_child_nodes(node)]
    return nodes


def has_tests(root: Path) -> bool:
    """Whether there are public tests to run."""
    return any(name.startswith("tests/") and name.endswith(".py") for name in collect(root))


def check_tests(root: Path, timeout: float = 1800, show_progress: bool = False) -> list[Problem]:
    """Public tests that fail. With `show_progress`, pytest's dots go to stderr meanwhile."""
    if not importlib.util.find_spec("pytest"):
        remedy = "python -m pip install -r requirements-dev.txt, or --skip-tests"
        return [Problem("tests", None, f"pytest, which runs them, is not installed: {remedy}")]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.xml")
        command = [
            *(sys.executable, "-B", "-m", "pytest", str(root / "tests"), "-q"),
            *(f"--rootdir={root}", "-p", "no:cacheprovider"),
            *("--tb=short", "--no-summary", "--continue-on-collection-errors"),
            *(f"--junit-xml={report}", "-o", "junit_family=xunit1"),  # xunit1 says file and line
        ]
        output = 2 if show_progress else subprocess.DEVNULL
        try:
            result = subprocess.run(
                command, cwd=root, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            return [Problem("tests", None, f"still running after {timeout:g} s: is there an endless loop?")]
        cases = ElementTree.parse(report).iter("testcase") if report.is_file() else []
        problems = [_failure(case, o) for case in cases for o in case if o.tag in ("failure", "error")]
    if result.returncode and not problems:
        problems.append(
            Problem("tests", None, f"pytest ended with status {result.returncode}: python -m pytest tests")
        )
    return problems


def _failure(case: ElementTree.Element, outcome: ElementTree.Element) -> Problem:
    """One failing test of pytest's report."""
    file, name, owner = case.get("file", "tests"), case.get("name", ""), case.get("classname", "")
    if not owner:  # how a test file that cannot be imported is reported
        return Problem(file, None, f"cannot be collected: {_told(outcome)}")
    inner = owner.removeprefix(file.removesuffix(".py").replace("/", ".")).strip(".")
    test = "::".join([*inner.split("."), name] if inner else [name])
    return Problem(file, int(case.get("line", 0)) + 1, f"{test} failed: {_told(outcome)}")


def _told(outcome: ElementTree.Element) -> str:
    """The line that pytest marks as the error, or its message."""
    marked = [line[1:].strip() for line in (outcome.text or "").splitlines() if line.startswith("E  ")]
    return marked[0] if marked else outcome.get("message", "").partition("\n")[0]


def judge(root: Path, archive: Path, timeout: float = 600) -> str:
    """The grader's own table for the zip: points, hints, a receipt code. Raises RuntimeError with the reason if the
    judge cannot run here.

    It runs in another process, which reads the zip as the grader does.
    """
    if not (root / "grading" / "__main__.py").is_file():
        raise RuntimeError("there is no grading folder")
    command = [sys.executable, "-B", "-m", "grading", "check", str(archive), "--public", "--quiet"]
    try:
        result = subprocess.run(
            command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"the judge did not finish within {timeout:g} s") from error
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"the judge ended with status {result.returncode}"]
        raise RuntimeError(lines[-1])
    return result.stdout.rstrip()


def missing_pictures(root: Path) -> list[Problem]:
    """Missing pictures of the runners, which a grader wants to see. The code is graded without them."""
    pictures = [name for name in collect(root) if name.startswith("visualization/")]
    lacking = []
    for runner in RUNNERS[:3]:
        picture = f"visualization/{Path(runner).stem}.png"
        if picture not in pictures:
            lacking.append(Problem(picture, None, f"missing: run ./{runner}"))
    others = ("class_visualization", "saliency", "gradcam", "guided")
    if all(name.removeprefix("visualization/").startswith(others) for name in pictures):
        lacking.append(Problem("visualization", None, f"holds no stylized picture: run ./{RUNNERS[3]}"))
    return lacking


# The command line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help lists the options)\n")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="collect_submission.py", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--output", type=Path, metavar="PATH", help=f"the zip to write (default: {ZIP_NAME} here)"
    )
    parser.add_argument("--skip-tests", action="store_true", help="do not run the public tests")
    parser.add_argument("--skip-judge", action="store_true", help="do not grade the zip")
    parser.add_argument("--list", action="store_true", help="only print what would go in")
    parser.add_argument("--quiet", action="store_true", help="print only the path, warnings and errors")
    return parser


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command; returns its exit status: 0 done, 1 could not, 2 wrong usage."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    output = (arguments.output or root / ZIP_NAME).absolute()
    if output.suffix.lower() != ".zip" or output.is_dir():
        parser.error(f"--output must name a .zip file, not {arguments.output}")
    if not output.parent.is_dir():
        parser.error(f"there is no folder {output.parent}")
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal cannot show must not stop the script. (By type, not every stream has this method.)
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        if arguments.list:
            _print_list(root)
            return 0
        return _submit(root, output, arguments)
    except OSError as error:
        print(f"no zip written: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("no zip written: interrupted", file=sys.stderr)
    return 1


def _submit(root: Path, output: Path, arguments: argparse.Namespace) -> int:
    names, quiet = collect(root), arguments.quiet
    if not quiet:
        print("checking the files", file=sys.stderr, flush=True)
    problems = preflight(root)
    if not (problems or arguments.skip_tests):
        if has_tests(root):
            if not quiet:
                print("running the public tests (--skip-tests leaves this out)", file=sys.stderr, flush=True)
            problems = check_tests(root, show_progress=not quiet)
        else:
            print("warning: there is no folder tests/, so nothing was tested", file=sys.stderr)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"no zip written: {len(problems)} to fix", file=sys.stderr)
        return 1

    for picture in missing_pictures(root):
        print(f"warning: {picture}", file=sys.stderr)
    receipt = write_zip(root, names, output)
    if not quiet:
        _print_table(root, names, receipt)
        if not arguments.skip_judge:
            _print_grade(root, output)
    print(output)
    return 0


def _print_list(root: Path) -> None:
    names = collect(root)
    sizes = [(root / name).stat().st_size for name in names]
    for name, size in zip(names, sizes, strict=True):
        print(f"{_size(size):>10}  {name}")
    print(f"{_size(sum(sizes)):>10}  in {len(names)} files")


def _print_table(root: Path, names: list[str], receipt: str) -> None:
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for name in names:
        folder = name.partition("/")[0] + "/" if "/" in name else "./"
        files[folder] += 1
        sizes[folder] += (root / name).stat().st_size
    for folder in sorted(files):
        print(f"{folder:<16}{files[folder]:>4} files{_size(sizes[folder]):>12}")
    print(f"{'total':<16}{files.total():>4} files{_size(sizes.total()):>12}   sha256 {receipt[:16]}")


def _print_grade(root: Path, archive: Path) -> None:
    print("grading the zip (--skip-judge leaves this out)", file=sys.stderr, flush=True)
    try:
        print(f"\n{judge(root, archive)}\n")
    except RuntimeError as reason:
        print(f"warning: not graded here: {reason}", file=sys.stderr)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _one_line(error: BaseException) -> str:
    """The last line of a traceback, without line breaks of the message."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return ": ".join(filter(None, (type(error).__name__, text.partition("\n")[0])))


if __name__ == "__main__":
    sys.exit(main())
