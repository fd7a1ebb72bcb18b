#!/usr/bin/env python3
"""Pack the assignment into assignment_3_submission.zip, say what would cost points, and grade the zip.

Only the standard library is imported: a broken project, or one without its environment, is diagnosed too.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # or a random.py in this folder would be imported here instead of the library

import argparse
import ast
import functools
import hashlib
import importlib.util
import io
import os
import re
import stat
import subprocess
import tokenize
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
ZIP_NAME = "assignment_3_submission.zip"
SIZE_LIMIT = 100 * 10**6  # bytes, unpacked: Gradescope takes no more
FILE_LIMIT = 256 << 10  # bytes: the judge does not read a larger graded file
# Graded file -> its task, and the points of the functions to write. Two functions in one text share their points.
TASKS = {
    "visualizers/class_visualization.py": ("3", {"create_class_visualization": 15}),
    "visualizers/saliency_map.py": ("1", {"compute_saliency_maps": 15}),
    "visualizers/gradcam.py": ("2", {"grad_cam": 13, "backward guided_backprop": 7}),
    "style_modules/content_loss.py": ("4", {"forward": 8}),
    "style_modules/style_loss.py": ("5", {"gram_matrix": 10, "forward": 10}),
    "style_modules/tv_loss.py": ("6", {"forward": 8}),
    "style_utils.py": ("7", {"style_transfer": 14}),
}
GRADED_FILES = tuple(TASKS)
FIGURES = ("class_visualization", "saliency_visualization", "gradcam_visualization")
RUNNERS = (*(f"{figure}.py" for figure in FIGURES), "style_transfer.py")
# Not graded, but nothing runs without them.
HANDED_OUT = ("visualizers/__init__.py", "style_modules/__init__.py", "helpers/__init__.py", *RUNNERS)

# What goes in.
PATTERNS = (
    *RUNNERS,
    *("style_utils.py", "collect_submission.py", "README.md", "environment.yaml", "pyproject.toml"),
    *("visualizers/**/*.py", "style_modules/**/*.py"),
    *("helpers/**/*.py", "helpers/**/*.npz", "helpers/**/*.json", "helpers/**/*.txt"),
    *("tests/**/*.py", "tests/**/*.npz", "tests/**/*.json"),
    *("requirements*.txt", "visualization/*.png", "visualization/*.gif", "visualization/*.jpg"),
)
# Folders that tools leave. Names that begin with a dot are left out, too.
LEFT_OUT = {"__pycache__", "build", "dist", "env", "tmp", "temp", "venv"}
# A file of such a name beside the runners would be imported instead of the library.
LIBRARIES = sys.stdlib_module_names | {"PIL", "matplotlib", "ndf", "numpy", "scipy", "torch", "torchvision"}
LIBRARIES |= {"captum", "fpdf", "hypothesis", "jinja2", "markdown_it", "pypdf", "pytest", "skimage", "tqdm"}


def collect(root: Path) -> list[str]:
    """The names of the files that make up the submission, sorted, relative to `root`, "/" between parts."""
    paths = {path for pattern in PATTERNS for path in root.glob(pattern)}  # ** follows no links to folders
    return sorted(path.relative_to(root).as_posix() for path in paths if _belongs(path, root))


def _belongs(path: Path, root: Path) -> bool:
    """Whether `path` is an ordinary, visible file inside the project, after links are followed."""
    target, project = path.resolve(), root.resolve()
    parts = {*path.relative_to(root).parts, *target.parts[len(project.parts) :]}
    hidden = any(part.startswith(".") or part in LEFT_OUT for part in parts)
    return target.is_file() and target.is_relative_to(project) and not hidden


def cannot_be_packed(root: Path, name: str) -> str:
    """Why a file cannot go into the zip; empty if it can."""
    if re.search(r"[\x00-\x1f\\\ud800-\udfff]", name):  # the last are undecodable bytes
        return "a zip cannot carry this name to every system, rename it"
    return "" if os.access(root / name, os.R_OK) else "it cannot be read, change its permissions"


def write_zip(root: Path, names: Iterable[str], output: Path) -> None:
    """Write the files to the zip `output`, whole or not at all.

    The bytes depend only on names and contents: times and permissions are fixed, and nothing is compressed, since
    compressed bytes depend on the version of zlib (and pictures hardly shrink).
    """
    target = Path(os.path.realpath(output))
    temporary = target.with_name(f".{os.urandom(4).hex()}.zip")
    try:
        with temporary.open("xb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(names):
                data = (root / name).read_bytes()
                entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                entry.create_system = 3  # Unix, so that the permissions below are read
                mode = 0o755 if data.startswith(b"#!") else 0o644
                entry.external_attr = (stat.S_IFREG | mode) << 16
                archive.writestr(entry, data)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def receipt(archive: Path) -> str:
    """The first 80 bits of the SHA-256 of the graded files in a zip: the grader computes the same."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(archive) as packed:
        for name in sorted({*GRADED_FILES} & {*packed.namelist()}):
            if len(data := packed.read(name)) <= FILE_LIMIT:
                data = as_utf8(data)
                digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return "-".join(re.findall("....", digest.hexdigest()[:20].upper()))


def as_utf8(data: bytes) -> bytes:
    """A graded file as the judge reads it: as Latin-1 or UTF-16 if Python cannot decode it."""
    try:
        data.decode(tokenize.detect_encoding(io.BytesIO(data).readline)[0])
        return data
    except (SyntaxError, UnicodeDecodeError):
        encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "latin-1"
        lines = data.decode(encoding, "replace").split("\n")
        lines[:2] = [re.sub("coding[=:]", "coding ", line) for line in lines[:2]]  # it was wrong
        return "\n".join(lines).encode("utf-8", "replace")


def find_problems(root: Path, names: list[str]) -> Iterator[str]:
    """What costs points or needs fixing, one line each. `names`: the files that go into the zip."""
    for name in sorted({*GRADED_FILES, *HANDED_OUT, *names}):
        if name in names:
            yield from _problems_in(name, (root / name).read_bytes())
        else:  # a link may lead out of the folder
            state = "is not a readable file of this folder" if os.path.lexists(root / name) else "is missing"
            yield f"{name} {state}{_cost(name)}"
    for path in sorted([*root.glob("*.py"), *(path.parent for path in root.glob("*/__init__.py"))]):
        if path.stem in LIBRARIES:
            yield f"{path.name} hides the library {path.stem!r} from every import: rename it"
    if (total := sum((root / name).stat().st_size for name in names)) > SIZE_LIMIT:
        yield f"the files have {total / 1e6:.1f} MB (see --list), Gradescope takes {SIZE_LIMIT / 1e6:.0f} MB"


def _cost(name: str) -> str:
    """What to say of a file that the judge cannot use."""
    if name in TASKS:
        task, points = TASKS[name]
        return f": Task {task}, {sum(points.values())} points"
    return ": copy it from the handout (it costs no points)" if name in HANDED_OUT else ""


def _problems_in(name: str, data: bytes) -> Iterator[str]:
    graded = name in TASKS
    if graded and not data.strip():
        yield f"{name} is empty{_cost(name)}"
    elif graded and len(data) > FILE_LIMIT:
        yield f"{name} is larger than {FILE_LIMIT >> 10} kB, so the judge does not read it{_cost(name)}"
    elif name.endswith(".py"):
        if graded and data != (data := as_utf8(data)):
            yield f"{name} is not in UTF-8: save it as UTF-8 (it costs no points)"
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(data, name)
                compile(tree, name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            place = f"{name}:{getattr(error, 'lineno', None) or 1}"
            reason = getattr(error, "msg", str(error)).partition("\n")[0]
            yield f"{place}: {type(error).__name__}: {reason}{_cost(name)}"
            return
        if graded:
            yield from _unwritten(name, dict(_stubs(tree.body)))
            yield from _leftovers(name, tree)


def _unwritten(name: str, stubs: dict[str, int]) -> Iterator[str]:
    """What the stubs of a graded file (Class.function -> line) cost."""
    task, points = TASKS[name]
    lacking = {part: [f for f in stubs if f.rpartition(".")[2] in part.split()] for part in points}
    if all(lacking.values()):
        yield f"Task {task} is not written: {sum(points.values())} points ({name}:{min(stubs.values())})"
        return
    for part, functions in lacking.items():
        if functions:
            yield f"Task {task} lacks {' and '.join(functions)}: {points[part]} points ({name}:{stubs[functions[0]]})"


def _stubs(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, int]]:
    """Function and line of each `raise NotImplementedError` that is reached: under no `if`, after no `return`."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from _stubs(node.body, f"{owner}.{node.name}".strip("."))
        elif isinstance(node, ast.With | ast.For | ast.While | ast.Try):
            yield from _stubs(node.body, owner)
        elif isinstance(node, ast.Raise) and ast.unparse(node).startswith("raise NotImplementedError"):
            yield owner, node.lineno
        if isinstance(node, ast.Return | ast.Raise):
            return


def _leftovers(name: str, tree: ast.Module) -> Iterator[str]:
    """Prints, breakpoints and imports of debuggers, in the order of their lines."""
    ignored, found = "the judge ignores it, please remove it", {}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                found[node.lineno] = f"print in {name}:{node.lineno}: {ignored}"
            case ast.Call(func=ast.Name(id="breakpoint" | "set_trace") | ast.Attribute(attr="set_trace")):
                found[node.lineno] = f"breakpoint in {name}:{node.lineno} stops the judge, too{_cost(name)}"
            case ast.alias(name="pdb"):
                found.setdefault(node.lineno, f"debugger in {name}:{node.lineno}: {ignored}")
            case ast.alias(name="ipdb" | "pudb"):  # its import fails where the work is graded
                found[node.lineno] = f"debugger in {name}:{node.lineno} stops the judge, too{_cost(name)}"
    yield from (found[line] for line in sorted(found))


def missing_pictures(names: list[str]) -> Iterator[str]:
    """Pictures that a grader wants to see, but that are not there. The code is graded without them."""
    for figure in FIGURES:
        if f"visualization/{figure}.png" not in names:
            yield f"visualization/{figure}.png is missing: run ./{figure}.py"
    stylized = re.compile(r"visualization/(?!class_visualization|saliency|gradcam|guided)")
    if not any(map(stylized.match, names)):
        yield "visualization/ holds no stylized picture: run ./style_transfer.py"


def run_module(root: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess:
    """Run a module of Python in another process: the project's code may do anything."""
    command = [sys.executable, "-B", "-X", "utf8", "-m", *arguments]
    options |= {"cwd": root, "stdin": subprocess.DEVNULL, "encoding": "utf-8", "errors": "replace"}
    return subprocess.run(command, **options)  # type: ignore[call-overload]  # by its many keywords


def show_grade(root: Path, archive: Path) -> None:
    """Show the grader's own table for the zip; if the judge cannot run here, one warning."""
    warn("grading the zip (--skip-judge leaves this out)")
    reason = "torch is not installed for this Python: is the environment active?"
    if importlib.util.find_spec("torch"):
        arguments = ("check", str(archive), "--public", "--own", "--quiet")
        done = run_module(root, "grading", *arguments, capture_output=True)
        if done.returncode == 0:
            say("\n" + done.stdout)
            return
        reason = (done.stderr.splitlines() or [f"the judge ended with status {done.returncode}"])[-1]
    warn(f"warning: not graded here: {reason}")


def run_tests(root: Path, quiet: bool) -> list[str]:
    """Run the public tests, with their output on stderr. Returns what is wrong, and says it."""
    output = subprocess.DEVNULL if quiet else 2
    wrong = "pytest is not installed: python -m pip install -r requirements-dev.txt"
    if importlib.util.find_spec("pytest"):
        arguments = ("tests", "-p", "no:cacheprovider", "--tb=short")
        status = run_module(root, "pytest", *arguments, stdout=output, stderr=output).returncode
        wrong = {0: "", 1: "some fail"}.get(status, f"pytest ended with status {status}")
    if wrong or not quiet:
        warn(f"public tests: {wrong or 'all pass'}")
    return [wrong] if wrong else []


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        hint = "tests run only with --tests" if "--skip-tests" in message else "--help lists the options"
        self.exit(2, f"{self.prog}: error: {message} ({hint})\n")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser("collect_submission.py", description=str(__doc__).partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--output", type=Path, metavar="ZIP", help=f"the zip to write (default {ZIP_NAME})")
    parser.add_argument("--strict", action="store_true", help="write no zip if there is anything to fix")
    parser.add_argument("--tests", action="store_true", help="run the public tests, too")
    parser.add_argument("--skip-judge", action="store_true", help="do not grade the zip")
    parser.add_argument("--list", action="store_true", help="only print what would go in")
    parser.add_argument("--quiet", action="store_true", help="print only problems and the path, no grade")
    return parser


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command; returns its exit status: 0 done, 1 no zip or interrupted, 2 wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a closed stream is None
            stream.reconfigure(errors="backslashreplace")  # for names that the terminal cannot show
    parser = build_parser()
    arguments = parser.parse_args(argv)
    output = (arguments.output or root / ZIP_NAME).absolute()
    if output.suffix.lower() != ".zip" or output.is_dir() or not output.parent.is_dir():
        parser.error(f"--output must name a .zip file in a folder that exists, not {output}")
    try:
        if arguments.list:
            sizes = {name: (root / name).stat().st_size / 1e3 for name in collect(root)}
            lines = [f"{size:>10.1f} kB  {name}" for name, size in sizes.items()]
            say("\n".join([*lines, f"{sum(sizes.values()):>10.1f} kB  in {len(sizes)} files"]))
            return 0
        return _submit(root, output, arguments)
    except OSError as error:
        warn(f"no zip written: {error.strerror or error}: {output} (an earlier zip stays as it was)")
    except KeyboardInterrupt:
        warn("no zip written: interrupted")
    return 1


def _submit(root: Path, output: Path, arguments: argparse.Namespace) -> int:
    refused = {name: reason for name in collect(root) if (reason := cannot_be_packed(root, name))}
    names = [name for name in collect(root) if name not in refused]
    if not any((root / name).read_bytes().strip() for name in GRADED_FILES if name in names):
        warn(f"no zip written: {root} has none of the graded files ({', '.join(GRADED_FILES)})")
        return 1
    problems = [f"{ascii(name)[1:-1]} is left out of the zip: {reason}" for name, reason in refused.items()]
    problems += find_problems(root, names)
    for problem in problems:
        warn(problem)
    if arguments.strict and arguments.tests and not problems:
        problems = run_tests(root, arguments.quiet)
    if arguments.strict and problems:
        warn(f"no zip written: {len(problems)} to fix (--strict)")
        return 1
    for picture in missing_pictures(names):
        warn(f"warning: {picture}")
    write_zip(root, names, output)
    try:
        if not arguments.quiet:
            say(f"packed {len(names)} files, {output.stat().st_size / 1e6:.1f} MB (--list names them)")
        if not (arguments.quiet or arguments.skip_judge):
            show_grade(root, output)
        if arguments.tests and not arguments.strict:
            run_tests(root, arguments.quiet)
        if not arguments.quiet:
            say(f"receipt {receipt(output)}")
    except (KeyboardInterrupt, OSError) as stop:
        warn(f"{str(stop) or 'interrupted'}; the zip is complete: {output}")
        return 1
    say(output)
    return 0


def say(text: object, stream: str = "stdout") -> None:
    """Print to stdout or stderr. If nobody reads it any more (`| head`), the rest is not shown."""
    target = getattr(sys, stream)
    try:
        print(text, file=target, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), target.fileno())


warn = functools.partial(say, stream="stderr")


if __name__ == "__main__":
    sys.exit(main())
