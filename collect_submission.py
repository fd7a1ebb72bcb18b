#!/usr/bin/env python3
"""Pack the assignment into assignment_3_submission.zip, say what would cost points, and grade the zip.

Only the standard library is imported: a broken project, or one without its environment, is diagnosed too.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # or a random.py in this folder would be imported here instead of the library

import argparse
import ast
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
JUDGE_SECONDS = 300

# The graded files, and in each the functions to write: function -> (task, points). Functions with the same entry are
# graded together.
TASKS = {
    "visualizers/class_visualization.py": {"create_class_visualization": ("3", 15)},
    "visualizers/saliency_map.py": {"compute_saliency_maps": ("1", 15)},
    "visualizers/gradcam.py": {"grad_cam": ("2", 13), "backward": ("2", 7), "guided_backprop": ("2", 7)},
    "style_modules/content_loss.py": {"forward": ("4", 8)},
    "style_modules/style_loss.py": {"gram_matrix": ("5.1", 10), "forward": ("5.2", 10)},
    "style_modules/tv_loss.py": {"forward": ("6", 8)},
    "style_utils.py": {"style_transfer": ("7", 14)},
}
GRADED_FILES = tuple(TASKS)
PICTURES = ("class_visualization", "saliency_visualization", "gradcam_visualization")
RUNNERS = (*(f"{name}.py" for name in PICTURES), "style_transfer.py")
# Missing, they cost no points, since the grader has its own; but nothing runs without them.
OURS = ("visualizers/__init__.py", "style_modules/__init__.py", "helpers/__init__.py", *RUNNERS)

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
LIBRARIES = {
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
LIBRARIES |= {"captum", "fpdf", "hypothesis", "markdown_it", "pypdf", "pytest"}


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


def cannot_be_packed(root: Path, name: str) -> str:
    """Why a file cannot go into the zip; empty if it can."""
    if re.search(r"[\x00-\x1f\\\ud800-\udfff]", name):  # the last are undecodable bytes
        return "a zip cannot carry this name to every system: rename it"
    try:
        with (root / name).open("rb"):
            return ""
    except OSError as error:
        return f"it cannot be read ({error.strerror})"


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
    """The first 80 bits of the SHA-256 of the graded files in a zip, as the grader computes them, too."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(archive) as packed:
        for name in sorted({*GRADED_FILES} & {*packed.namelist()}):
            data = packed.read(name)
            if len(data) <= FILE_LIMIT:
                data = as_utf8(data)
                digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return "-".join(re.findall("....", digest.hexdigest()[:20].upper()))


def as_utf8(data: bytes) -> bytes:
    """A graded file as the judge reads it: as Latin-1 or UTF-16 if Python cannot decode it."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        data.decode(encoding)
        return data
    except (SyntaxError, UnicodeDecodeError, LookupError):
        encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "latin-1"
        lines = data.decode(encoding, "replace").split("\n")
        lines[:2] = [re.sub("coding[=:]", "coding ", line) for line in lines[:2]]  # which was wrong
        return "\n".join(lines).encode("utf-8", "replace")


# What costs points or needs fixing, one line each


def find_problems(root: Path, names: list[str]) -> Iterator[str]:
    """Every problem of the project in `root`, of which the files `names` go into the zip."""
    for name in sorted({*GRADED_FILES, *OURS, *names}):
        if name in names:
            yield from _problems_in(name, (root / name).read_bytes())
        elif os.path.lexists(root / name):  # a link out of the project, a folder, or not readable
            yield f"{name} is not an ordinary file that can go into the zip{_cost(name)}"
        else:
            yield f"{name} is missing{_cost(name)}"
    for path in sorted([*root.glob("*.py"), *(path.parent for path in root.glob("*/__init__.py"))]):
        if path.stem in sys.stdlib_module_names | LIBRARIES:
            yield f"{path.name} hides the library {path.stem!r} from every import: rename it"
    sizes = {name: (root / name).stat().st_size for name in names}
    if (total := sum(sizes.values())) > SIZE_LIMIT:
        largest = max(sizes, key=sizes.__getitem__)
        files = f"{_size(total)}, the largest is {largest} ({_size(sizes[largest])})"
        yield f"the files have {files}: Gradescope takes {_size(SIZE_LIMIT)}"


def _cost(name: str) -> str:
    """What a file costs that the judge cannot use."""
    parts = set(TASKS.get(name, {}).values())
    if parts:
        return f": Task {min(parts)[0][0]}, {sum(points for _, points in parts)} points"
    return ": copy it from the handout (it costs no points)" if name in OURS else ""


def _problems_in(name: str, data: bytes) -> Iterator[str]:
    graded = name in TASKS
    if graded and not data.strip():
        yield f"{name} is empty{_cost(name)}"
    if graded and len(data) > FILE_LIMIT:
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
    tasks = TASKS[name]
    lacking: dict[tuple[str, int], list[str]] = {}
    for function in stubs:
        lacking.setdefault(tasks.get(function.rpartition(".")[2], ("", 0)), []).append(function)
    if stubs and lacking.keys() >= set(tasks.values()):
        yield f"{_cost(name)[2:].replace(',', ' is not written:')} ({name}:{min(stubs.values())})"
        return
    for (task, points), functions in sorted(lacking.items()):
        place = f"{name}:{stubs[functions[0]]}"
        if task:
            yield f"Task {task}: {' and '.join(functions)} not written: {points} points ({place})"
        else:
            yield f"{' and '.join(functions) or 'code'} not written; your task may need it ({place})"


def _stubs(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, int]]:
    """Function and line of each `raise NotImplementedError` that stops every call: it is under no `if`, which would
    refuse some arguments only, and after no `return`.
    """
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
    harmless, found = "the judge ignores it, please remove it", {}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                found[node.lineno] = "print", f": {harmless}"
            case ast.Call(func=ast.Name(id="breakpoint" | "set_trace") | ast.Attribute(attr="set_trace")):
                found[node.lineno] = "breakpoint", f" stops the judge, too{_cost(name)}"
            case ast.alias(name="pdb" | "ipdb" | "pudb" as debugger):
                found.setdefault(node.lineno, (f"import of {debugger}", f": {harmless}"))
    for line, (what, cost) in sorted(found.items()):
        yield f"{what} in {name}:{line}{cost}"


def missing_pictures(names: list[str]) -> Iterator[str]:
    """Pictures that a grader wants to see, but that are not there. The code is graded without them."""
    for runner in PICTURES:
        if f"visualization/{runner}.png" not in names:
            yield f"visualization/{runner}.png is missing: run ./{runner}.py"
    others = tuple(
        f"visualization/{name}" for name in ("class_visualization", "saliency", "gradcam", "guided")
    )
    if all(name.startswith(others) for name in names if name.startswith("visualization/")):
        yield "visualization/ holds no stylized picture: run ./style_transfer.py"


# The judge and the tests run in processes of their own


def show_grade(root: Path, archive: Path) -> None:
    """Show the grader's own table for the zip; if the judge cannot run here, one warning."""
    command = [sys.executable, "-B", "-X", "utf8", "-m", "grading", "check", str(archive)]
    command += ["--public", "--own", "--quiet"]
    if not (root / "grading" / "__main__.py").is_file():
        reason = "there is no folder grading/"
    elif not importlib.util.find_spec("torch"):
        reason = "torch is not installed for this Python: is the environment active?"
    else:
        say("grading the zip (--skip-judge leaves this out)", "stderr")
        try:
            result = subprocess.run(
                command,
                cwd=root,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=JUDGE_SECONDS,
            )
            if result.returncode == 0:
                say(re.sub("^receipt .*\n?", "", f"\n{result.stdout}", flags=re.MULTILINE))
                return
            reason = (
                result.stderr.strip() or f"the judge ended with status {result.returncode}"
            ).splitlines()[-1]
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
    say(f"warning: not graded here: {reason}", "stderr")


def run_tests(root: Path, quiet: bool) -> str:
    """Run the public tests, their output on stderr. Returns what is wrong, else nothing."""
    if not importlib.util.find_spec("pytest"):
        return "public tests: pytest is not installed: python -m pip install -r requirements-dev.txt"
    command = [sys.executable, "-B", "-m", "pytest", str(root / "tests"), f"--rootdir={root}"]
    command += ["-p", "no:cacheprovider", "--tb=short"]
    output = subprocess.DEVNULL if quiet else 2
    try:
        done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    except OSError as error:
        return f"public tests: {error}"
    result = (
        ""
        if done.returncode == 0
        else "some fail"
        if done.returncode == 1
        else f"pytest ended with status {done.returncode}"
    )
    if not result and not quiet:
        say("public tests: all pass", "stderr")
    return result and f"public tests: {result} (python -m pytest tests shows it)"


# The command line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        hint = "tests run only with --tests" if "--skip-tests" in message else "--help lists the options"
        self.exit(2, f"{self.prog}: error: {message} ({hint})\n")


def build_parser() -> argparse.ArgumentParser:
    description = str(__doc__).partition("\n")[0]
    parser = _Parser(prog="collect_submission.py", description=description, allow_abbrev=False)
    parser.add_argument(
        "--output", type=Path, metavar="ZIP", help=f"the zip to write (default: {ZIP_NAME} here)"
    )
    for option, help in (
        ("--strict", "write no zip if anything costs points or needs fixing"),
        ("--tests", "run the public tests, too"),
        ("--skip-judge", "do not grade the zip"),
        ("--list", "only print what would go in"),
        ("--quiet", "print only the path and what is wrong; do not grade the zip"),
    ):
        parser.add_argument(option, action="store_true", help=help)
    return parser


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command; returns its exit status: 0 done, 1 no zip or interrupted, 2 wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a closed stream is None
            stream.reconfigure(errors="backslashreplace")  # for names that the terminal cannot show
    parser = build_parser()
    arguments = parser.parse_args(argv)
    output = (arguments.output or root / ZIP_NAME).absolute()
    if output.suffix.lower() != ".zip" or output.is_dir():
        parser.error(f"--output must name a .zip file, not {arguments.output or output}")
    if not output.parent.is_dir():
        parser.error(f"there is no folder {output.parent}")
    try:
        if arguments.list:
            sizes = {name: (root / name).stat().st_size for name in collect(root)}
            lines = [f"{_size(size):>10}  {name}" for name, size in sizes.items()]
            say("\n".join([*lines, f"{_size(sum(sizes.values())):>10}  in {len(sizes)} files"]))
            return 0
        return _submit(root, output, arguments)
    except OSError as error:
        say(
            f"no zip written to {output}: {error.strerror or error} (an earlier zip stays as it was)",
            "stderr",
        )
    except KeyboardInterrupt:
        say("no zip written: interrupted", "stderr")
    return 1


def _submit(root: Path, output: Path, arguments: argparse.Namespace) -> int:
    names, problems = [], []
    for name in collect(root):
        if reason := cannot_be_packed(root, name):
            problems.append(f"{ascii(name)[1:-1]} is left out of the zip: {reason}")
        else:
            names.append(name)
    if not any((root / name).read_bytes().strip() for name in GRADED_FILES if name in names):
        say(f"no zip written: {root} has none of the graded files ({', '.join(GRADED_FILES)})", "stderr")
        return 1
    problems += find_problems(root, names)
    for problem in problems:
        say(problem, "stderr")
    if arguments.strict:
        if arguments.tests and not problems and (failure := run_tests(root, arguments.quiet)):
            say(failure, "stderr")
            problems = [failure]
        if problems:
            say(f"no zip written: {len(problems)} to fix (--strict)", "stderr")
            return 1
    for picture in missing_pictures(names):
        say(f"warning: {picture}", "stderr")

    write_zip(root, names, output)
    try:
        if not arguments.quiet:
            say(f"packed {len(names)} files, {_size(output.stat().st_size)} (--list names them)")
            if not arguments.skip_judge:
                show_grade(root, output)
        if arguments.tests and not arguments.strict and (failure := run_tests(root, arguments.quiet)):
            say(failure, "stderr")
        if not arguments.quiet:
            say(f"receipt {receipt(output)}")
    except KeyboardInterrupt:
        say(f"interrupted; the zip is complete: {output}", "stderr")
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


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


if __name__ == "__main__":
    sys.exit(main())
