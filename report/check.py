"""What is wrong with the report: questions without an answer, missing pictures, what would not look right."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from markdown_it.tree import SyntaxTreeNode
from PIL import Image

from helpers.cli import PROJECT, progress
from helpers.errors import CannotError
from helpers.image_utils import read_image
from report.document import is_note, line_of, parents_of, plain
from report.fonts import fallback_fonts

PLACEHOLDER = "Your answer here"
MAX_SIDE = 2048  # pixels of a picture's longer side: a page's height at the highest resolution


class Problem(NamedTuple):
    """One thing to fix: the report's line, and what is wrong there."""

    line: int
    message: str


class Section(NamedTuple):
    """A heading, and what stands under it up to the next heading."""

    title: str
    level: int
    line: int
    content: list[SyntaxTreeNode]


def sections(tree: SyntaxTreeNode) -> list[Section]:
    """The report's sections, in order; the first, of level 0, is what stands above all headings."""
    found = [Section("the first lines", 0, 1, [])]
    for node in tree.children:
        if node.type == "heading":
            found.append(Section(plain(node).strip(), int(node.tag[1]), line_of(node), []))
        elif not is_note(node):
            found[-1].content.append(node)
    return found


def author(tree: SyntaxTreeNode) -> str:
    """What stands after "Name:" above the questions, if it is filled in."""
    for text, _ in _texts([section for section in sections(tree) if section.level < 2]):
        if (match := re.match(r"name:(.*)", text, re.IGNORECASE)) and PLACEHOLDER not in text:
            return match[1].strip()
    return ""


def problems(tree: SyntaxTreeNode, folder: Path) -> tuple[dict[str, Image.Image], list[Problem]]:
    """The pictures by their names in the report, and all that is wrong, by line. Pictures are named from `folder`."""
    figures, missing = read_figures(tree, folder)
    return figures, sorted({*missing, *unanswered(tree), *other_problems(tree)})


def unanswered(tree: SyntaxTreeNode) -> Iterator[Problem]:
    """Placeholders that are still there, and questions without a word after them.

    A question is a heading with a quoted paragraph under it, or with nothing; pictures are not an answer. Where
    smaller headings follow at once, the questions are theirs.
    """
    found = sections(tree)
    for section, following in zip(found, [*found[1:], None], strict=True):
        texts = [*_texts([section])]
        for text, line in texts:
            if PLACEHOLDER in text:
                label = re.match(r"([^:(]+?) *[:(]", text) if section.level < 2 else None
                yield Problem(line, f"no answer yet: {label[1] if label else section.title}")
        asked = not section.content or any(node.type == "blockquote" for node in section.content)
        has_parts = following is not None and following.level > section.level
        if asked and not has_parts and not any(text for text, _ in texts):
            yield Problem(section.line, f"no answer yet: {section.title}")


def read_figures(tree: SyntaxTreeNode, folder: Path) -> tuple[dict[str, Image.Image], list[Problem]]:
    """The pictures that can be read, by their names in the report, and what is wrong with the others."""
    images = [node for node in tree.walk() if node.type == "image"]
    figures: dict[str, Image.Image] = {}
    found = []
    with progress(len(images), "reading pictures") as advance:
        for node in images:
            name, line = str(node.attrs["src"]), line_of(node)
            if {parent.type for parent in parents_of(node)} & {"table", "heading"}:
                found.append(
                    Problem(line, f"{name}: not shown in a table or a heading; give it a line of its own")
                )
            try:
                if name not in figures:
                    figures[name] = read_figure(name, folder)
            except CannotError as error:
                found.append(Problem(line, f"missing picture: {error}"))
            advance()
    return figures, found


def read_figure(name: str, folder: Path) -> Image.Image:
    """A picture of the report, no larger than a page shows it. Raises CannotError, which says what can be done."""
    if not name:
        raise CannotError("no file is named")
    if re.match(r"[a-z]+://|data:", name):
        raise CannotError(f"{name[:60]} is a web address: save the picture here, and name the file")
    path = Path(os.path.normpath(folder / unquote(name)))
    try:
        if not path.exists() and (runner := _runner(path.stem)):
            raise CannotError(f"{path}: no such file; ./{runner} makes it")
        image = read_image(path)
    except (OSError, ValueError) as error:  # a name that no file can have
        raise CannotError(f"{str(path)[:60]} cannot be read: {error}") from error
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return image


def _runner(stem: str) -> str:
    """The script that writes a picture of this name; "" if none does."""
    runner = "style_transfer.py" if stem.endswith("_panel") else f"{stem}.py"
    return runner if (PROJECT / runner).is_file() else ""


def other_problems(tree: SyntaxTreeNode) -> Iterator[Problem]:
    """What would not look right: characters that no font has, pictures that are only text, LaTeX."""
    leaves = [node for node in tree.walk() if node.type in ("text", "code_inline", "fence", "code_block")]
    if lacking := fallback_fonts(plain(tree))[1]:
        line = min(line_of(node) for node in leaves if lacking & set(node.content))
        shown = " ".join(sorted(lacking)[:12]) + (" ..." if len(lacking) > 12 else "")
        remedy = "install a font that has them, or use other letters"
        yield Problem(line, f"no font on this computer has these characters: {shown}; {remedy}")
    for node in leaves:
        if node.type != "text":
            continue
        if match := re.search(r"!\[[^\]]*\]\(([^)<]* [^)]*)\)", node.content):
            yield Problem(line_of(node), f"a file's name with spaces goes into <>: ![caption](<{match[1]}>)")
        if match := re.search(r"\$[^$]*\\[a-zA-Z]+", node.content):
            yield Problem(
                line_of(node), f"LaTeX is printed as it stands ({match[0]}): write formulas in Unicode"
            )


def _texts(found: Sequence[Section]) -> Iterator[tuple[str, int]]:
    """Each paragraph, item and cell of the sections, with its line; quoted questions are left out."""
    for section in found:
        for node in section.content:
            for inner in node.walk():
                if inner.type == "inline" and not any(p.type == "blockquote" for p in parents_of(inner)):
                    yield plain(inner).strip(), line_of(inner)
