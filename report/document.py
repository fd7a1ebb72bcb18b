"""The report as a Markdown tree, and the text in it."""

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from helpers.errors import CannotError

VARIATIONS = "\ufe0e\ufe0f"  # ask for a character in black or in colour


def read_report(path: Path) -> SyntaxTreeNode:
    """The report as a Markdown tree. Raises CannotError if it does not exist or is not text in UTF-8."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CannotError(f"{path} is not text in UTF-8 (byte {error.start}): save it as UTF-8") from error
    except OSError as error:
        remedy = "run this in the project's folder, or name the file"
        raise CannotError(f"{path} cannot be read: {error.strerror}; {remedy}") from error
    # Invisible characters (byte order marks, joiners, soft hyphens) are often copied along; they are not printed.
    text = "".join(
        c
        for c in unicodedata.normalize("NFC", text)
        if c in "\n\t" or (unicodedata.category(c) not in ("Cc", "Cf", "Co") and c not in VARIATIONS)
    )
    if not text.strip():
        raise CannotError(f"{path} is empty")
    return SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(text))


def plain(node: SyntaxTreeNode, *, images: bool = False, breaks: bool = False) -> str:
    """A node's text without its styles. `images`: with [captions]; `breaks`: with forced line breaks."""
    if node.type == "image":
        return f"[{node.content}]" if images else ""
    if node.type == "softbreak":
        return " "
    if node.type == "hardbreak" or (node.type == "html_inline" and re.fullmatch(r"<br\s*/?>", node.content)):
        return "\n" if breaks else " "
    if is_note(node) or node.type == "inline" and not node.children:
        return ""
    if node.is_root or node.children:
        return "".join(plain(child, images=images, breaks=breaks) for child in node.children)
    return node.content


def is_note(node: SyntaxTreeNode) -> bool:
    """Whether this is an HTML comment, which is not printed."""
    return node.type in ("html_block", "html_inline") and node.content.lstrip().startswith("<!--")


def runs(
    nodes: Sequence[SyntaxTreeNode], style: str = "", link: str | None = None
) -> Iterator[tuple[str, str, bool, str | None]]:
    """Text in pieces of one style: the text, its style ("", "B", "I" or "BI"), whether it is code, and the web address
    that it leads to. Links to files are left out: they are of no use in a PDF.
    """
    for node in nodes:
        if node.type in ("strong", "em"):
            both = sorted({*style, "B" if node.type == "strong" else "I"})
            yield from runs(node.children, "".join(both), link)
        elif node.type == "link":
            web = re.match(r"https?://|mailto:", str(node.attrs["href"]))
            yield from runs(node.children, style, str(node.attrs["href"]) if web else None)
        elif text := plain(node, images=True, breaks=True):
            yield text, style, node.type == "code_inline", link


def parts(nodes: Sequence[SyntaxTreeNode]) -> list[list[SyntaxTreeNode]]:
    """A paragraph's nodes, with the pictures that stand together separated from the text around them."""
    found: list[SyntaxTreeNode] = []
    for node in nodes:
        images = [inner for inner in node.walk() if inner.type == "image"]
        if images or plain(node).strip() or not found or found[-1].type != "image":
            found += images or [node]
    return [list(part) for _, part in itertools.groupby(found, lambda node: node.type == "image")]


def parents_of(node: SyntaxTreeNode) -> Iterator[SyntaxTreeNode]:
    while node.parent is not None and not node.parent.is_root:
        node = node.parent
        yield node


def line_of(node: SyntaxTreeNode) -> int:
    """The line where a node's paragraph begins, from 1."""
    places = [place.map for place in (node, *parents_of(node)) if place.map]
    return places[0][0] + 1 if places else 1
