"""Typesets the written part, report.md, as assignment_3_report.pdf.

First it lists on stderr, a line each, what is not answered yet and which pictures are missing. Then it writes all
the same, with a frame in each missing picture's place: an unfinished report on time is worth more than none.
With --strict it writes nothing before all is done.
"""

import argparse
import logging
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from helpers import cli
from helpers.errors import CannotError, UsageError

if TYPE_CHECKING:
    from markdown_it.tree import SyntaxTreeNode
    from PIL import Image

REPORT, OUTPUT = "report.md", "assignment_3_report.pdf"
PLACEHOLDER = "Your answer here"
LIMIT = 10 * 10**6  # bytes: more is slow to upload, and to read
LARGEST = 2048  # pixels of a picture's longer side: a page's height at the sharpest of the following
SHARPNESS = (220, 150, 100, 60)  # pixels an inch: the first with which the report stays under the limit
VARIATIONS = "\ufe0e\ufe0f"  # ask for a character in black or in colour


class Problem(NamedTuple):
    """One thing to mend: the report's line, and what is wrong there."""

    line: int
    message: str


def read_report(path: Path) -> "SyntaxTreeNode":
    """The report as a Markdown tree. Raises CannotError where it is not there, or not text in UTF-8."""
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CannotError(f"{path}: no such file; the report is written in {REPORT}") from error
    except UnicodeDecodeError as error:
        raise CannotError(f"{path} is not text in UTF-8 (byte {error.start}): save it as UTF-8") from error
    except OSError as error:
        raise CannotError(f"{path} cannot be read: {error.strerror or error}") from error
    # Marks without a shape (byte order, joiners, soft hyphens) come in by copying, and are nothing to print.
    text = "".join(
        c
        for c in unicodedata.normalize("NFC", text)
        if c in "\n\t" or (unicodedata.category(c) not in ("Cc", "Cf") and c not in VARIATIONS)
    )
    if not text.strip():
        raise CannotError(f"{path} is empty")
    return SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(text))


class Section(NamedTuple):
    """A heading, and what stands under it up to the next one."""

    title: str
    level: int
    line: int
    content: list["SyntaxTreeNode"]


def sections(tree: "SyntaxTreeNode") -> list[Section]:
    """The report's sections, in order; the first, of level 0, is what stands above all headings."""
    from report.typesetting import plain

    found = [Section("the first lines", 0, 1, [])]
    for node in tree.children:
        if node.type == "heading":
            found.append(Section(plain(node), int(node.tag[1]), _line(node), []))
        elif not (node.type == "html_block" and node.content.lstrip().startswith("<!--")):
            found[-1].content.append(node)
    return found


def author(tree: "SyntaxTreeNode") -> str:
    """What stands after "Name:" above the questions, if it is filled in."""
    for text, _ in _texts([section for section in sections(tree) if section.level < 2]):
        if (match := re.match(r"name:(.*)", text, re.IGNORECASE)) and PLACEHOLDER not in text:
            return match[1].strip()
    return ""


def unanswered(tree: "SyntaxTreeNode") -> Iterator[Problem]:
    """Placeholders still there, and questions without a word after them.

    A question is a heading with a quoted paragraph under it, or with nothing; pictures are no answer. A heading with
    smaller ones under it leaves the questions to them.
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


def read_figures(
    tree: "SyntaxTreeNode", folder: Path
) -> tuple[dict[str, "Image.Image | None"], list[Problem]]:
    """The pictures by what the report calls them, None for those that cannot be had, and what is wrong with them."""
    images = [node for node in tree.walk() if node.type == "image"]
    figures: dict[str, Image.Image | None] = {}
    problems = []
    with cli.progress(len(images), "reading pictures") as advance:
        for node in images:
            name, line = str(node.attrs["src"]), _line(node)
            if {parent.type for parent in _parents(node)} & {"table", "heading"}:
                message = f"{name}: not shown in a table or a heading; give it a line of its own"
                problems.append(Problem(line, message))
            if name not in figures:
                try:
                    figures[name] = read_figure(name, folder)
                except CannotError as error:
                    figures[name] = None
                    problems.append(Problem(line, f"missing picture: {error}"))
            advance()
    return figures, problems


def read_figure(name: str, folder: Path) -> "Image.Image":
    """A picture of the report, no larger than a page shows it. Raises CannotError with what can be done."""
    from helpers.image_utils import read_image

    if not name:
        raise CannotError("no file is named")
    if re.match(r"[a-z]+://|data:", name):
        raise CannotError(f"{name[:60]} is a web address: save the picture here, and name the file")
    path = folder / unquote(name)
    runner = path.with_suffix(".py").name
    if not path.exists() and (folder / runner).is_file():
        raise CannotError(f"{path}: no such file; ./{runner} makes it")
    image = read_image(path)
    image.thumbnail((LARGEST, LARGEST))
    return image


def other_problems(tree: "SyntaxTreeNode") -> Iterator[Problem]:
    """What would not look as meant: characters that the font does not have, pictures that are none, LaTeX."""
    from report.typesetting import unprintable

    for node in tree.walk():
        if node.type not in ("text", "code_inline", "fence", "code_block"):
            continue
        if unknown := unprintable(node.content):
            yield Problem(_line(node), f"the font has no {' '.join(unknown)}: write it in other letters")
        if node.type != "text":
            continue
        if match := re.search(r"!\[[^\]]*\]\(([^)<]* [^)]*)\)", node.content):
            yield Problem(_line(node), f"a file's name with spaces goes into <>: ![caption](<{match[1]}>)")
        if match := re.search(r"\$[^$]*\\[a-zA-Z]+", node.content):
            yield Problem(
                _line(node), f"LaTeX is printed as it stands ({match[0]}): write formulas in Unicode"
            )


def _texts(found: list[Section]) -> Iterator[tuple[str, int]]:
    """What the sections say themselves, each paragraph, item and cell with its line; quoted questions are left out."""
    from report.typesetting import Style, runs

    for section in found:
        for node in section.content:
            for inner in node.walk():
                if inner.type == "inline" and not any(p.type == "blockquote" for p in _parents(inner)):
                    words = [child for child in inner.children if child.type != "image"]
                    yield "".join(text for text, _ in runs(words, Style())).strip(), _line(inner)


def _parents(node: "SyntaxTreeNode") -> Iterator["SyntaxTreeNode"]:
    while node.parent is not None and not node.parent.is_root:
        node = node.parent
        yield node


def _line(node: "SyntaxTreeNode") -> int:
    """The line where a node's paragraph begins, from 1."""
    places = [place.map for place in (node, *_parents(node)) if place.map]
    return places[0][0] + 1 if places else 1


def build_parser() -> argparse.ArgumentParser:
    parser = cli.OneLineParser(
        prog="python -m report",
        description=__doc__,
        epilog="Exit status: 0 written, problems or not; 1 not written; 2 wrong usage. An earlier PDF stays as it was "
        "where none is written.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "report",
        nargs="?",
        default=REPORT,
        help=f"the Markdown file; pictures are found from it (default {REPORT})",
    )
    parser.add_argument("--output", metavar="FILE", default=OUTPUT, help=f"where it goes (default {OUTPUT})")
    parser.add_argument(
        "--strict", action="store_true", help="write nothing while there are problems; exit 1"
    )
    parser.add_argument("--quiet", action="store_true", help="no last line; problems are listed all the same")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    return parser


def work(args: argparse.Namespace) -> Path:
    output, report = Path(args.output), Path(args.report)
    if output.suffix.lower() != ".pdf":
        raise UsageError(f"--output {output}: the report is a PDF, so name a .pdf file")
    cli.check_output(output, endings=(output.suffix.lower(),))
    tree = read_report(report)
    figures, problems = read_figures(tree, report.parent)
    problems = sorted({*problems, *unanswered(tree), *other_problems(tree)})
    for problem in problems:
        print(f"{report}:{problem.line}: {problem.message}", file=sys.stderr)
    if problems and args.strict:
        raise CannotError(f"{len(problems)} to mend, so no report was written (--strict)")

    from helpers.figures import whole_file
    from report.typesetting import typeset

    logging.getLogger("fpdf").setLevel(logging.ERROR)  # characters that the font lacks were listed above
    for sharpness in SHARPNESS:
        data = typeset(tree, figures, author=author(tree), sharpness=sharpness)
        if len(data) <= LIMIT:
            break
    with whole_file(output) as partial:
        partial.write_bytes(data)
    return output


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    return cli.guarded(work, parser.parse_args(argv), parser.prog)


if __name__ == "__main__":
    sys.exit(main())
