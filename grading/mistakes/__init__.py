"""The catalogue of wrong implementations, and of unusual right ones. For instructors; never handed out.

An `Entry` is a mistake with a name: its forms are ways to write it that a submission cannot be told apart by,
or that deserve the same words. Each form is a set of patches of the solved project, so that what it would
answer is computed, never guessed.
"""

import ast
import re
import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

GRADED = ("visualizers", "style_modules", "style_utils.py")
NEEDED = (*GRADED, "helpers")  # what a variant's tree consists of
REGION = re.compile(r"^(?P<indent> *)### BEGIN SOLUTION\n(?P<body>.*?)^ *### END SOLUTION$", re.M | re.S)


@dataclass(frozen=True)
class Patch:
    """A change of one graded file: of its `region`-th solution (from 0), of the function of a qualified name,
    of a text that occurs once, or, where none is given, of the whole file.
    """

    file: str
    code: str
    region: int | None = None
    function: str | None = None
    text: str | None = None

    def apply(self, source: str) -> str:
        """The patched source. Raises ValueError where the patch's place is not in it."""
        if self.region is not None:
            found = list(REGION.finditer(source))
            if self.region >= len(found):
                raise ValueError(f"{self.file} has {len(found)} solution regions, no number {self.region}")
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
                raise ValueError(f"{self.file} has {source.count(self.text)} times: {self.text}")
            return source.replace(self.text, self.code)
        return textwrap.dedent(self.code).lstrip("\n")

    def _indented(self, indent: str) -> str:
        return textwrap.indent(textwrap.dedent(self.code).strip("\n") + "\n", indent)


Form = tuple[Patch, ...]


@dataclass(frozen=True)
class Entry:
    """A mistake in the function that `operation` (of grading.drivers) calls. `sentence` says what was seen and
    why; `where` the place to look at.

    follows: the id of the mistake in another task of which this one is only the consequence.
    accepted: no mistake but another reading of the task, which gets full marks though its answers differ.
    """

    id: str
    operation: str
    title: str
    sentence: str
    where: str
    forms: tuple[Form, ...]
    follows: str | None = None
    accepted: bool = False


@dataclass(frozen=True)
class Correct:
    """An unusual but right way to do a task."""

    id: str
    operations: tuple[str, ...]
    patches: Form


def forms(*patches: Patch | Form) -> tuple[Form, ...]:
    """Each argument one form; a form of several patches is a tuple."""
    return tuple(patch if isinstance(patch, tuple) else (patch,) for patch in patches)


def build_variant(
    root: Path | str, patches: Iterable[Patch], dest: Path | str, *, link: bool = False
) -> Path:
    """Copies the graded files and what they need from the solved project in `root` to `dest`, patched.

    link: what no patch touches is linked, not copied.
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
    """Right implementations that are written in other ways than ours."""
    from grading.mistakes import correct

    return correct.VARIANTS


def _function(node: ast.AST, path: list[str]) -> ast.FunctionDef | None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef)) and child.name == path[0]:
            if len(path) > 1:
                return _function(child, path[1:])
            return child if isinstance(child, ast.FunctionDef) else None
    return None
