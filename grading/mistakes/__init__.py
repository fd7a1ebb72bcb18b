"""The catalogue of wrong implementations, and of unusual right ones. For instructors; never handed out.

An `Entry` is a mistake with a name. Its forms are ways to write it that give the same answers or deserve the same
explanation. Each form is a set of patches of the solved project, so its answers are computed, not guessed.
"""

import ast
import re
import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

GRADED = ("visualizers", "style_modules", "style_utils.py")
NEEDED = (*GRADED, "helpers")  # the files of a variant
REGION = re.compile(r"^(?P<indent> *)### BEGIN SOLUTION\n(?P<body>.*?)^ *### END SOLUTION$", re.M | re.S)


@dataclass(frozen=True)
class Patch:
    """New code for a part of a graded file: its `region`-th solution (from 0), the function of a qualified name, or a
    text that occurs once. Without any of these: for the whole file.
    """

    file: str
    code: str
    region: int | None = None
    function: str | None = None
    text: str | None = None

    def apply(self, source: str) -> str:
        """The patched source. Raises ValueError if the part to patch is not in it."""
        if self.region is not None:
            found = list(REGION.finditer(source))
            if self.region >= len(found):
                raise ValueError(
                    f"{self.file} has {len(found)} solution regions: number {self.region} does not exist"
                )
            match = found[self.region]
            return (
                source[: match.start("body")] + self._indented(match["indent"]) + source[match.end("body") :]
            )
        if self.function is not None:
            node = _function(ast.parse(source), self.function.split("."))
            if node is None:
                raise ValueError(f"{self.file} has no function {self.function}")
            lines = source.splitlines(keepends=True)
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
            lines[first : node.end_lineno] = [self._indented(" " * node.col_offset)]
            return "".join(lines)
        if self.text is not None:
            if source.count(self.text) != 1:
                raise ValueError(
                    f"{self.file} has this text {source.count(self.text)} times, not once: {self.text}"
                )
            return source.replace(self.text, self.code)
        return textwrap.dedent(self.code).lstrip("\n")

    def _indented(self, indent: str) -> str:
        return textwrap.indent(textwrap.dedent(self.code).strip("\n") + "\n", indent)


Form = tuple[Patch, ...]


@dataclass(frozen=True)
class Entry:
    """A mistake in the function that `operation` (of grading.drivers) calls. `sentence` says what was seen and what to
    do; `where` is the function to look at.

    accepted: not a mistake but another reading of the task. It gets full marks, although its answers differ.
    """

    id: str
    operation: str
    title: str
    sentence: str
    where: str
    forms: tuple[Form, ...]
    accepted: bool = False


@dataclass(frozen=True)
class Correct:
    """An unusual but right way to do a task."""

    id: str
    operations: tuple[str, ...]
    patches: Form


def forms(*patches: Patch | Form) -> tuple[Form, ...]:
    """One form per argument; a form of several patches is a tuple."""
    return tuple(patch if isinstance(patch, tuple) else (patch,) for patch in patches)


def build_variant(
    root: Path | str, patches: Iterable[Patch], dest: Path | str, *, link: bool = False
) -> Path:
    """Copies the graded files and what they need from the solved project in `root` to `dest`, and patches them.

    link: files that no patch changes become links.
    """
    patches = list(patches)
    root, dest = Path(root).resolve(), Path(dest)
    dest.mkdir(parents=True, exist_ok=True)
    for name in NEEDED:
        if link and not any(patch.file.split("/")[0] == name for patch in patches):
            (dest / name).symlink_to(root / name)
        elif (root / name).is_dir():
            shutil.copytree(
                root / name, dest / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
            )
        else:
            shutil.copy(root / name, dest / name)
    for patch in patches:
        file = dest / patch.file
        file.write_text(patch.apply(file.read_text(encoding="utf-8")), encoding="utf-8")
    return dest


def catalogue() -> list[Entry]:
    """Every mistake, task by task."""
    from grading.mistakes import class_visualization, gradcam, losses, saliency, update_rule

    return [
        *saliency.ENTRIES,
        *gradcam.ENTRIES,
        *class_visualization.ENTRIES,
        *losses.ENTRIES,
        *update_rule.ENTRIES,
    ]


def correct_variants() -> list[Correct]:
    """Right implementations that are written differently from ours."""
    from grading.mistakes import correct

    return correct.VARIANTS


def _function(node: ast.AST, path: list[str]) -> ast.FunctionDef | None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef)) and child.name == path[0]:
            if len(path) > 1:
                return _function(child, path[1:])
            return child if isinstance(child, ast.FunctionDef) else None
    return None
