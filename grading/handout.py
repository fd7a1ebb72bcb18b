"""The student's copy: the assignment half of the package, without solutions and without what is for staff.

The handout is tried before it is written: see `check_handout`.
"""

import ast
import io
import posixpath
import re
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from grading.leaks import (
    MIN_WORDS,
    find_key_leaks,
    find_leaks,
    find_techniques,
    form,
    traces,
    words_of,
)
from grading.submission import BESIDE_GRADED, GRADED_FILES, PACKAGES
from helpers.errors import CannotError
from helpers.files import replace_whole

NAME = "assignment_3_handout.zip"
TOP = "assignment_3"  # the one folder in the zip
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
# The assignment half; the graded files without their solutions. In pages, what stands between <!-- BEGIN KEY --> and
# <!-- END KEY -->, each on a line of its own, is for instructors; BEGIN EXTRAS and END EXTRAS: about extras/.
PATTERNS = (
    "*.py",
    *GRADED_FILES,
    *BESIDE_GRADED,
    *(f"{package}/__init__.py" for package in PACKAGES),
    *("report/*.py", "report/report.md"),
    *("page/*.py", "page/requirements.txt"),
    *("LICENSE", "NOTICE", "environment.yaml", "requirements.txt", ".gitignore"),
    *("docs/methods.md", "docs/**/*.png", "docs/**/*.jpg"),
    *("tests/__init__.py", "tests/conftest.py", "tests/test_tasks.py"),
)
EXTRAS = ("extras/**/*.py", "docs/comparison.md")  # only if asked for
# The student's own README, Makefile, ..., in place of the project's.
STUDENTS_COPY = "grading/students_copy"
# The judge, for a student's own check. It names mistakes, since the bank does; their sources stay here.
JUDGE = (
    *("__init__", "__main__", "assess", "cases", "channel", "drivers", "hints", "judge", "own", "protocol"),
    *("submission", "tasks"),
)
BANK = "grading/cases.npz"
STYLE_TRANSFER = (
    *("style_transfer.py", "--content", "coffee", "--style", "swirl"),
    *("--image-size", "64", "--style-size", "64"),
)
# Each draws with graded files: in the blank copy it stops at a stub, in the solved copy it succeeds.
RUNNERS = (
    ("saliency_visualization.py", "--images", "coffee"),
    ("gradcam_visualization.py", "--images", "coffee"),
    ("gradcam_visualization.py", "--images", "coffee", "--guided"),
    ("class_visualization.py", "--iterations", "1", "--classes", "gorilla"),
    STYLE_TRANSFER,
    ("style_transfer.py", "--check"),
)
# These succeed in the solved copy if it has extras/.
EXTRAS_RUNNERS = (
    ("class_visualization.py", "--method", "fourier", "--iterations", "1", "--classes", "gorilla"),
    (
        *("style_transfer.py", "--method", "paint", "--model", "squeezenet", "--content", "coffee"),
        *("--style", "swirl", "--size", "64", "--steps", "1"),
    ),
)


class Region(NamedTuple):
    """A solution region: its first and last line (from 1, markers included), its source, the message of its stub."""

    first: int
    last: int
    source: str
    stub: str


def build(project: Path, output: Path, *, extras: bool = False) -> Path:
    """Builds the handout from the solved project, tries it, and writes it to `output`. `extras`: with extras/ in it.

    Raises CannotError with the first reason not to hand it out.
    """
    files = blank_files(project, extras=extras)
    solved = solutions(project)
    sources = {name: (project / name).read_text(encoding="utf-8") for name in solved}
    marked = {name: marked_regions(source, name) for name, source in sources.items()}
    leaks = find_leaks(files, given_away(sources, marked)) + find_key_leaks(files, key_sentences(project))
    # extras/ is techniques, some of them the graded ones in other words: whoever hands it out knows that.
    leaks += find_techniques({name: data for name, data in files.items() if not name.startswith("extras/")})
    if leaks:
        raise CannotError(f"a solution would be handed out: {'; '.join(leaks[:5])}")
    check_stubs(files, project)
    data = pack(files)
    with TemporaryDirectory() as folder:
        check_handout(data, project, Path(folder), extras=extras)
    with replace_whole(output) as temporary:
        temporary.write_bytes(data)
    return output


# What goes in


def blank_files(project: Path, *, extras: bool = False) -> dict[str, bytes]:
    """The handout's files, name -> content, with a stub in place of each solution region."""
    paths = {path for pattern in PATTERNS + EXTRAS * extras for path in project.glob(pattern)}
    paths |= {project / "grading" / f"{name}.py" for name in JUDGE} | {project / BANK}
    named = {path.relative_to(project).as_posix(): path for path in paths}
    named |= {path.name: path for path in (project / STUDENTS_COPY).glob("*")}
    solved, files = solutions(project), {}
    for name, path in sorted(named.items()):
        if path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        if name in solved:
            data = emptied(data.decode(), solved[name]).encode()
        elif name.endswith(".md"):
            page, _ = split_part(data.decode(), name, "KEY")
            if not extras:
                page, _ = split_part(page, name, "EXTRAS")
            data = re.sub(r"<!-- (BEGIN|END) EXTRAS -->\n", "", page).encode()
        files[name] = data
    unseen = {name for name in files if name.endswith((".png", ".jpg"))} - shown_pictures(files)
    files = {name: data for name, data in files.items() if name not in unseen}
    if BANK not in files:
        raise CannotError(f"{BANK} is missing: run `python -m grading cases` first")
    return files


def shown_pictures(files: Mapping[str, bytes]) -> set[str]:
    """The names of the pictures that the pages among the files show."""
    return {
        posixpath.normpath(posixpath.join(posixpath.dirname(name), picture))
        for name, page in files.items()
        if name.endswith(".md")
        for picture in re.findall(r"!\[[^\]]*\]\(([^)\s]+)", page.decode())
    }


def solutions(project: Path) -> dict[str, list[Region]]:
    """Graded file -> its solution regions, which the handout must not show.

    Raises CannotError for a region in another file: students fill in the graded files only.
    """
    sources = {
        path.relative_to(project).as_posix(): path.read_text(encoding="utf-8")
        for pattern in PATTERNS + EXTRAS
        for path in sorted(project.glob(pattern))
        if path.suffix == ".py"
    }
    found = {name: marked_regions(source, name) for name, source in sources.items()}
    found = {name: here for name, here in found.items() if here}
    for name in found.keys() - set(GRADED_FILES):
        raise CannotError(f"{name}:{found[name][0].first}: a solution region, but this is not a graded file")
    return found


def marked_regions(source: str, name: str) -> list[Region]:
    """The regions between markers. Raises CannotError for a marker without a partner."""
    if BEGIN not in source and END not in source:
        return []
    lines, found, begin = source.splitlines(), [], None
    tree = ast.parse(source)
    task = re.match(r"Task \d+", ast.get_docstring(tree) or "")
    if task is None:
        raise CannotError(f"{name} has solution markers, but its docstring does not begin with Task N")
    for number, line in enumerate(lines, 1):
        if line.strip() == BEGIN and begin is None:
            begin = number
        elif line.strip() == END and begin is not None:
            text = "\n".join(lines[begin : number - 1])
            found.append(Region(begin, number, text, f"{task[0]}: {_function_at(tree, begin)}"))
            begin = None
        elif line.strip() in (BEGIN, END):
            raise CannotError(f"{name}:{number}: a solution marker without its partner")
    if begin is not None:
        raise CannotError(f"{name}:{begin}: a solution marker without its partner")
    return found


def given_away(sources: Mapping[str, str], marked: Mapping[str, list[Region]]) -> dict[str, str]:
    """Lines and expressions of the solutions that the blank graded files do not show -> their tasks."""
    visible = [emptied(sources[name], regions) for name, regions in marked.items() if regions]
    shown = {trace for source in visible for trace in traces(source)}
    shown |= {form(line) for source in visible for line in source.splitlines()}
    return {
        trace: region.stub.partition(":")[0]
        for regions in marked.values()
        for region in regions
        for trace in traces(textwrap.dedent(region.source))
        if trace not in shown and form(trace) not in shown
    }


def emptied(source: str, regions: Iterable[Region]) -> str:
    """The source with each region replaced by `raise NotImplementedError("Task N: ...")`."""
    lines = source.splitlines()
    for region in sorted(regions, reverse=True):
        start = lines[region.first - 1]
        indent = start[: len(start) - len(start.lstrip())]
        lines[region.first - 1 : region.last] = [f'{indent}raise NotImplementedError("{region.stub}")']
    return "\n".join(lines) + "\n"


def solved_again(blank: str, regions: Iterable[Region], name: str) -> str:
    """The blank source with the regions put where their stubs are."""
    for region in regions:
        stub = re.compile(rf'^ *raise NotImplementedError\("{re.escape(region.stub)}"\)$', re.MULTILINE)
        found = stub.search(blank)
        if not found:
            raise CannotError(f"{name}: the stub {region.stub!r} is not in the blank version")
        blank = blank[: found.start()] + region.source + blank[found.end() :]
    return blank


def split_part(text: str, name: str, part: str) -> tuple[str, str]:
    """A page without what stands between the markers of `part`, and what does. Raises CannotError for a marker without
    a partner.
    """
    markers = [f"<!-- BEGIN {part} -->", f"<!-- END {part} -->"]
    shown: list[str] = []
    cut: list[str] = []
    begin = None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() == markers[begin is not None]:
            begin = number if begin is None else None
        elif re.match(rf"\s*<!--.*\b(BEGIN|END)\s+{part}\b", line, re.IGNORECASE):
            raise CannotError(
                f"{name}:{number}: a marker without its partner, or not {' or '.join(markers)} alone"
            )
        else:
            (shown if begin is None else cut).append(line)
    if begin is not None:
        raise CannotError(f"{name}:{begin}: a marker without its partner")
    page = "\n".join(shown).rstrip("\n") + "\n"
    return (re.sub(r"\n{3,}", "\n\n", page) if cut else text), "\n".join(cut)


def key_sentences(project: Path) -> dict[str, str]:
    """Sentences of the key -> their page; without those that the page around it or a question contains, too."""
    questions = project / "report/report.md"
    asked = questions.read_text(encoding="utf-8").splitlines() if questions.is_file() else []
    asked = "\n".join(line for line in asked if line.startswith((">", "#")))
    found = {}
    for path in sorted(
        {path for pattern in PATTERNS if pattern.endswith(".md") for path in project.glob(pattern)}
    ):
        name = path.relative_to(project).as_posix()
        shown, key = split_part(path.read_text(encoding="utf-8"), name, "KEY")
        known = words_of(f"{shown}\n{asked}")
        for sentence in re.split(r"[.:;!?]\s|\n\s*\n|\n\s*[-*|>#]|\|", key):
            words = words_of(sentence)
            if words.count(" ") > MIN_WORDS and words not in known:
                found[words] = name
    return found


def pack(files: Mapping[str, bytes], top: str = TOP) -> bytes:
    """A zip of the files in the folder `top`. Its bytes depend only on names and contents."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{top}/{name}" if top else name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = (0o100755 if data.startswith(b"#!") else 0o100644) << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def _function_at(tree: ast.Module, line: int) -> str:
    """The qualified name of the innermost function around a line."""
    names: list[str] = []
    body: list[ast.stmt] = tree.body
    while True:
        inside = [
            node
            for node in body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and node.lineno <= line <= (node.end_lineno or 0)
        ]
        if not inside:
            return ".".join(names)
        names.append(inside[0].name)
        body = inside[0].body


# What is checked


def check_stubs(files: Mapping[str, bytes], project: Path) -> None:
    """Every region was replaced by a statement that raises, and the regions fit back in exactly."""
    for name, regions in solutions(project).items():
        blank, original = files[name].decode(), (project / name).read_text(encoding="utf-8")
        raised = [_stub_of(node) for node in ast.walk(ast.parse(blank)) if isinstance(node, ast.Raise)]
        lacking = [region.stub for region in regions if raised.count(region.stub) != 1]
        if lacking:
            raise CannotError(f"{name}: no stub raises {lacking[0]!r}")
        lines = [line for line in original.splitlines() if line.strip() not in (BEGIN, END)]
        if solved_again(blank, regions, name) != "\n".join(lines) + "\n":
            raise CannotError(f"{name}: the solution does not fit back into its stubs")


def _stub_of(node: ast.Raise) -> str:
    """The message of `raise NotImplementedError("...")`, else nothing."""
    match node.exc:
        case ast.Call(func=ast.Name(id="NotImplementedError"), args=[ast.Constant(value=str(message))]):
            return message
    return ""


def check_handout(data: bytes, project: Path, scratch: Path, *, extras: bool = False) -> None:
    """Unpacks the handout and uses it as a student would. Raises CannotError at the first failure."""
    from grading.assess import assess
    from grading.cases import load_bank
    from grading.sandbox import Zygote
    from helpers import cli

    blank, solved = scratch / "blank", scratch / "solved"
    for folder in (blank, solved):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(folder)
    blank, solved = blank / TOP, solved / TOP
    for name, regions in solutions(project).items():
        text = (blank / name).read_text(encoding="utf-8")
        (solved / name).write_text(solved_again(text, regions, name), encoding="utf-8")
    bank = load_bank(blank / BANK)
    solved_runners = RUNNERS + EXTRAS_RUNNERS * extras
    with cli.progress(len(RUNNERS) + len(solved_runners) + 2, "trying the handout") as advance:
        for command in RUNNERS:
            check_runner(blank, command)
            advance()
        for command in solved_runners:
            check_solved_runner(solved, command)
            advance()
        with Zygote() as zygote:
            report = assess(blank, bank=bank, zygote=zygote).report
            if report.points:
                raise CannotError(f"the blank version scores {report.points:g} points")
            advance()
            report = assess(solved, bank=bank, zygote=zygote).report
            lost = [f"{task.title} ({task.points:g} of {task.max_points:g})" for task in report.tasks]
            if report.points != report.max_points:
                raise CannotError(f"solved again it scores {report.points:g}: {', '.join(lost)}")
            advance()


def check_runner(blank: Path, command: tuple[str, ...]) -> None:
    """The runner must end with status 1 and the stub's message, on one line."""
    result = _run(blank, command)
    lines = result.stderr.strip().splitlines()
    shown = " | ".join(lines[-3:])
    stub = re.compile(r"\S+: error: Task \d+: [\w.]+ is not implemented yet \(\S+, line \d+\)")
    if result.returncode != 1 or len(lines) != 1 or not stub.fullmatch(lines[0]):
        raise CannotError(f"the blank {' '.join(command)} ends with status {result.returncode}: {shown}")


def check_solved_runner(solved: Path, command: tuple[str, ...]) -> None:
    """The runner must succeed."""
    result = _run(solved, command)
    if result.returncode != 0:
        shown = " | ".join(result.stderr.strip().splitlines()[-3:])
        raise CannotError(f"solved again {' '.join(command)} ends with status {result.returncode}: {shown}")


def _run(folder: Path, command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command, "--quiet"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
