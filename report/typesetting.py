"""Lays a Markdown document out on pages: headings, text, lists, code, tables, and pictures that keep their captions.

Lengths are in points, 72 to an inch; y grows downwards.
"""

import datetime
import functools
import io
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from fontTools.ttLib import TTFont
from fpdf import FPDF
from markdown_it.tree import SyntaxTreeNode
from matplotlib import get_data_path
from PIL import Image

# DejaVu comes with matplotlib, and has the Greek, the accents and the symbols of mathematics.
FACES = {
    ("text", ""): "DejaVuSans",
    ("text", "B"): "DejaVuSans-Bold",
    ("text", "I"): "DejaVuSans-Oblique",
    ("text", "BI"): "DejaVuSans-BoldOblique",
    ("code", ""): "DejaVuSansMono",
}
WIDTH, HEIGHT, MARGIN = 612.0, 792.0, 62.0  # US Letter
MEASURE, TOP, BOTTOM = WIDTH - 2 * MARGIN, MARGIN, HEIGHT - MARGIN
TEXT, QUOTE, CODE, SMALL = 9.5, 9.0, 8.0, 8.0  # font sizes
HEADINGS = (15.0, 13.0, 11.0, 9.5, 9.5, 9.5)  # by level
LEADING = 1.42  # a line's height in font sizes
GAP, INDENT, GUTTER, PAD = 8.0, 18.0, 12.0, 5.0
INK, GREY, RULE, PALE = (26, 26, 26), (95, 95, 95), (200, 200, 200), (243, 243, 243)
LINK, ALARM = (29, 78, 216), (176, 42, 20)
ABREAST = 3  # pictures in a row
TALLEST = 430.0  # a picture leaves room for what is said of it
MIN_SHARE = 0.6  # of its best size that a picture keeps, before it moves to the next page
MISSING = MEASURE, 130.0  # the frame in place of a missing picture; several in a row share its width
EPOCH = datetime.datetime(
    2000, 1, 1, tzinfo=datetime.UTC
)  # no time stamp: the same report gives the same bytes
JPEG: dict[str, Any] = {"format": "JPEG", "quality": 90, "subsampling": "4:4:4"}
WEB = re.compile(r"(https?://|mailto:)")


class Style(NamedTuple):
    """How a piece of text looks, and where it leads: to a web address, or to a place in the document."""

    face: str = ""  # "", "B", "I" or "BI"
    code: bool = False
    color: tuple[int, int, int] = INK
    link: str | int = ""


class Picture(NamedTuple):
    """An encoded picture, and its size in pixels before it was reduced."""

    data: bytes
    width: int
    height: int


Run = tuple[str, Style]
Line = list[Run]


def typeset(
    tree: SyntaxTreeNode, figures: Mapping[str, Image.Image | None], *, author: str = "", sharpness: int = 220
) -> bytes:
    """A Markdown document -> a PDF. Each heading of the first two levels begins a page; the first page ends with the
    list of the others.

    `figures` are the pictures by what the document calls them, None where there is none; they are reduced to
    `sharpness` pixels an inch. The bytes depend on the arguments alone.
    """
    pictures = {name: _encoded(image, sharpness) if image else None for name, image in figures.items()}
    # Page numbers are known only after a first round; the list of contents is as long in both.
    draft = Pages(tree, pictures, author)
    return bytes(Pages(tree, pictures, author, draft.starts, draft.page).output())


def unprintable(text: str) -> str:
    """The characters of a text that our font does not have, each once."""
    return "".join(dict.fromkeys(c for c in text if not c.isspace() and ord(c) not in _characters("text")))


def _font(family: str, face: str = "") -> Path:
    return Path(get_data_path(), "fonts", "ttf", f"{FACES[family, face]}.ttf")


@functools.cache
def _characters(family: str) -> frozenset[int]:
    with TTFont(_font(family)) as font:
        return frozenset(font.getBestCmap())


def _encoded(image: Image.Image, sharpness: int) -> Picture:
    reduced = image.copy()
    side = int(MEASURE / 72 * sharpness), int((BOTTOM - TOP) / 72 * sharpness)
    reduced.thumbnail(side, Image.Resampling.LANCZOS)
    reduced.save(buffer := io.BytesIO(), **JPEG)
    return Picture(buffer.getvalue(), *image.size)


def runs(nodes: Sequence[SyntaxTreeNode], style: Style) -> Iterator[Run]:
    """The text of inline nodes, in pieces of one style; a forced line break is a piece of its own."""
    for node in nodes:
        match node.type:
            case "text":
                yield node.content, style
            case "code_inline":
                yield node.content, style._replace(code=True)
            case "softbreak":
                yield " ", style
            case "hardbreak":
                yield "\n", style
            case "strong":
                yield from runs(node.children, style._replace(face="BI" if "I" in style.face else "B"))
            case "em":
                yield from runs(node.children, style._replace(face="BI" if "B" in style.face else "I"))
            case "link":
                href = str(node.attrs["href"])
                linked = style._replace(link=href, color=LINK) if WEB.match(href) else style
                yield from runs(node.children, linked)
            case "image":
                yield f"[{node.content}]", style
            case "html_inline" if re.fullmatch(r"<br\s*/?>", node.content):
                yield "\n", style
            case "html_inline" if not node.content.startswith("<!--"):
                yield node.content, style


def plain(node: SyntaxTreeNode) -> str:
    """The text of a heading or a paragraph without its styles."""
    return "".join(text for text, _ in runs(node.children[0].children, Style())).strip()


# What stands on a page. Each knows the least height at which it may begin there, and draws itself.


@dataclass
class Text:
    """Lines of one size: a heading, a paragraph, or code. A paragraph leaves no line of its own alone on a page."""

    lines: Sequence[Line]
    size: float = TEXT
    left: float = MARGIN
    before: float = GAP
    marker: str = ""
    bar: float = 0.0  # where a quotation's bar stands
    fill: bool = False
    level: int = 0  # of a heading
    title: str = ""

    def least(self, pages: "Pages") -> float:
        """The height, with the space before, that is needed to begin."""
        count = len(self.lines)
        return self.before + self.size * LEADING * (count if self.level or count < 4 else 2)

    def draw(self, pages: "Pages") -> None:
        """Draws the lines, on as many pages as they take."""
        height = self.size * LEADING
        above = pages.skip(self.before)
        if self.level:
            pages.start_section(self.title, self.level - 1, strict=False)
        waiting = list(self.lines)
        while waiting:
            fit = int((BOTTOM - pages.y) / height + 0.01)
            if fit < len(waiting):
                fit = min(fit, len(waiting) - 2)
                if fit < 2:
                    pages.turn()
                    above = 0.0
                    continue
            shown, waiting = waiting[:fit], waiting[fit:]
            if self.fill:
                pages.set_fill_color(*PALE)
                pages.rect(self.left, pages.y - 3, WIDTH - MARGIN - self.left, len(shown) * height + 6, "F")
            if self.bar:
                top = pages.y - (above if pages.barred == self.bar else 0)
                pages.stroke(self.bar, top, self.bar, pages.y + len(shown) * height, 1.5)
            if self.marker and shown[0] is self.lines[0]:
                pages.write_line([(self.marker, Style())], self.left - INDENT + 4, self.size)
            for line in shown:
                pages.write_line(line, self.left + (PAD if self.fill else 0), self.size)
                pages.y += height


@dataclass
class Figures:
    """Pictures side by side, equally high, each with its caption under it."""

    row: Sequence[tuple[str, str]]  # what the document calls it, and its caption
    left: float = MARGIN
    before: float = GAP + 4
    level = 0

    def least(self, pages: "Pages") -> float:
        """The height, with the space before and the captions, of the smallest that may be drawn."""
        _, height, _, below = self.layout(pages, BOTTOM - TOP)
        return self.before + MIN_SHARE * height + below

    def layout(self, pages: "Pages", room: float) -> tuple[list[float], float, list[list[Line]], float]:
        """How all of it fits into `room`: the slots' widths, the pictures' height, the captions and theirs.

        Pictures fill the width, but none is enlarged beyond 72 pixels an inch.
        """
        frame = (MISSING[0] / len(self.row), MISSING[1])
        sizes = [picture[1:] if (picture := pages.pictures[name]) else frame for name, _ in self.row]
        shares = [width / height for width, height in sizes]
        across = WIDTH - MARGIN - self.left - GUTTER * (len(self.row) - 1)
        height = min(across / sum(shares), TALLEST, *(height for _, height in sizes))
        for _ in range(2):  # lower pictures leave wider slots, in which captions never get longer
            spare = (across - height * sum(shares)) / len(self.row)
            slots = [height * share + spare for share in shares]
            captions = [
                pages.broken([(caption, Style(color=GREY))], SMALL, slot)
                for (_, caption), slot in zip(self.row, slots, strict=True)
            ]
            below = max(len(lines) for lines in captions) * SMALL * LEADING + PAD
            height = min(height, max(room - below, 20.0))
        return slots, height, captions, below

    def draw(self, pages: "Pages") -> None:
        """Draws the pictures as large as the room left on the page allows."""
        pages.skip(self.before)
        slots, height, captions, below = self.layout(pages, BOTTOM - pages.y)
        x = self.left
        for (name, _), slot, caption in zip(self.row, slots, captions, strict=True):
            if picture := pages.pictures[name]:
                width = height * picture.width / picture.height
                pages.image(io.BytesIO(picture.data), x + (slot - width) / 2, pages.y, width, height)
            else:
                draw_missing(pages, name, x, slot, height)
            for i, line in enumerate(caption):
                start = x + (slot - pages.width(line, SMALL)) / 2
                pages.write_line(line, start, SMALL, pages.y + height + PAD + i * SMALL * LEADING)
            x += slot + GUTTER
        pages.y += height + below


def draw_missing(pages: "Pages", name: str, x: float, width: float, height: float) -> None:
    """A frame in a picture's place that says what is missing."""
    pages.set_draw_color(*ALARM)
    pages.set_line_width(0.8)
    with pages.local_context(dash_pattern={"dash": 4, "gap": 3, "phase": 0}):
        pages.rect(x, pages.y, width, height)
    lines = pages.broken([(f"missing: {unquote(name)}", Style("I", color=ALARM))], SMALL, width - 2 * PAD)
    lines = lines[: int(height / SMALL / LEADING)]
    middle = pages.y + (height - len(lines) * SMALL * LEADING) / 2
    for i, line in enumerate(lines):
        start = x + (width - pages.width(line, SMALL)) / 2
        pages.write_line(line, start, SMALL, middle + i * SMALL * LEADING)


@dataclass
class Table:
    """Cells of text, the first row the heading; without any rows, a rule across the page."""

    rows: Sequence[Sequence[Line]]
    left: float = MARGIN
    before: float = GAP
    level = 0

    def widths(self, pages: "Pages") -> list[float]:
        """Columns as wide as their text, or, where that is too wide, in proportion, the narrow ones less reduced."""
        columns = zip(*self.rows, strict=True)
        wanted = [max(pages.width(cell, QUOTE) for cell in column) + 2 * PAD for column in columns]
        room = WIDTH - MARGIN - self.left
        if sum(wanted) > room:
            least = min(room / len(wanted), 60.0)
            share = (room - least * len(wanted)) / sum(max(w - least, 0.01) for w in wanted)
            wanted = [least + share * max(w - least, 0.01) for w in wanted]
        return wanted

    def least(self, pages: "Pages") -> float:
        """The height of two lines, so that the heading is not alone."""
        return self.before + 4 * QUOTE * LEADING

    def draw(self, pages: "Pages") -> None:
        """Draws row by row; a row is split only where it is higher than a page."""
        pages.skip(self.before)
        right = WIDTH - MARGIN
        if not self.rows:
            pages.stroke(self.left, pages.y, right, pages.y, 0.6)
            return
        widths, height = self.widths(pages), QUOTE * LEADING
        right = self.left + sum(widths)
        for row in self.rows:
            cells = [pages.broken(c, QUOTE, w - 2 * PAD) for c, w in zip(row, widths, strict=True)]
            deepest = max(1, *map(len, cells))
            if pages.y + deepest * height + 6 > BOTTOM and deepest * height + 6 < BOTTOM - TOP:
                pages.turn()
            pages.y += 3
            for i in range(deepest):
                if pages.y + height > BOTTOM:
                    pages.turn()
                x = self.left + PAD
                for cell, width in zip(cells, widths, strict=True):
                    if i < len(cell):
                        pages.write_line(cell[i], x, QUOTE)
                    x += width
                pages.y += height
            pages.y += 3
            pages.stroke(self.left, pages.y, right, pages.y, 1.0 if row is self.rows[0] else 0.4)


Block = Text | Figures | Table


class Pages(FPDF):
    """The document, set page by page as soon as it is made.

    `starts` and `total` are what an earlier round found: the page of each heading that begins one, and their number.
    """

    def __init__(
        self,
        tree: SyntaxTreeNode,
        pictures: Mapping[str, Picture | None],
        author: str,
        starts: Sequence[int] = (),
        total: int = 0,
    ) -> None:
        super().__init__(unit="pt", format=(WIDTH, HEIGHT))
        self.pictures, self.writer, self.total = pictures, author, total
        self.starts: list[int] = []
        self.begun = ""  # the title of the question that the page belongs to
        self.barred = 0.0  # where the last block had its bar
        self.measured: dict[tuple[str, str, str], float] = {}
        for family, face in FACES:
            self.add_font(family, face, _font(family, face))
        self.set_auto_page_break(False)
        self.set_creation_date(EPOCH)
        self.set_lang("en-US")
        self.set_author(author)
        self.add_page()
        self.flow(list(self.blocks(tree.children)), starts)

    # From the document's tree to blocks

    def blocks(
        self, nodes: Sequence[SyntaxTreeNode], left: float = MARGIN, bar: float = 0.0
    ) -> Iterator[Block]:
        """What the nodes put on the pages, in order. Notes (HTML comments) put nothing there."""
        style, size = (Style(color=GREY), QUOTE) if bar else (Style(), TEXT)

        def text(content: Sequence[Run], before: float = GAP) -> Text:
            lines = self.broken(content, size, WIDTH - MARGIN - left)
            return Text(lines, size, left, before, bar=bar)

        for node in nodes:
            match node.type:
                case "heading":
                    level = int(node.tag[1])
                    size_here = HEADINGS[level - 1]
                    bold = [*runs(node.children[0].children, style._replace(face="B"))]
                    lines = self.broken(bold, size_here, WIDTH - MARGIN - left)
                    yield Text(lines, size_here, left, 1.2 * size_here, level=level, title=plain(node))
                case "paragraph":
                    before = 3.0 if node.hidden else GAP  # hidden: in a list without empty lines
                    for part in _parts(node.children[0].children):
                        if part[0].type == "image":
                            row = [(str(image.attrs["src"]), image.content) for image in part]
                            for i in range(0, len(row), ABREAST):
                                yield Figures(row[i : i + ABREAST], left)
                        else:
                            yield text([*runs(part, style)], before)
                case "blockquote":
                    yield from self.blocks(node.children, left + 12, left + 3)
                case "bullet_list" | "ordered_list":
                    for number, item in enumerate(node.children, int(node.attrs.get("start", 1))):
                        inner = [*self.blocks(item.children, left + INDENT, bar)]
                        if inner and isinstance(inner[0], Text):
                            inner[0].marker = "•" if node.type == "bullet_list" else f"{number}."
                        nested = node.parent is not None and node.parent.type == "list_item"
                        if inner and item is node.children[0] and not nested:
                            inner[0].before = GAP
                        yield from inner
                case "fence" | "code_block":
                    yield Text(self.code_lines(node.content, left), CODE, left, GAP + 3, fill=True)
                case "table":
                    rows = [row for part in node.children for row in part.children]
                    cells = [
                        [[*runs(cell.children[0].children, style)] for cell in row.children] for row in rows
                    ]
                    cells[0] = [[(t, s._replace(face="B")) for t, s in cell] for cell in cells[0]]
                    yield Table(cells, left)
                case "hr":
                    yield Table([], left)
                case "html_block" if not node.content.lstrip().startswith("<!--"):
                    yield text([(node.content.strip(), style)])

    def code_lines(self, code: str, left: float) -> list[Line]:
        """Code's lines, those too long for the page continued with an indent."""
        room = WIDTH - MARGIN - left - 2 * PAD
        count = int(room / self.width([("0", Style(code=True))], CODE))
        lines = [
            piece
            for line in code.rstrip("\n").expandtabs(4).split("\n")
            for piece in textwrap.wrap(
                line, count, subsequent_indent="    ", drop_whitespace=False, break_on_hyphens=False
            )
            or [""]
        ]
        return [[(line, Style(code=True))] for line in lines]

    # From blocks to pages

    def flow(self, content: Sequence[Block], starts: Sequence[int]) -> None:
        """Draws the blocks, and the list of contents where the second of the headings that begin a page stands."""
        needs = [block.least(self) for block in content]
        for i in reversed(range(len(content) - 1)):
            if content[i].level:
                needs[i] += needs[i + 1]  # a heading stays with what follows
        openings = [block for block in content if isinstance(block, Text) and block.level in (1, 2)]
        for block, need in zip(content, needs, strict=True):
            if isinstance(block, Text) and block.level in (1, 2):
                if len(self.starts) == 1:
                    self.list_contents(openings[1:], starts[1:])
                if self.y > TOP or self.page > 1:
                    self.add_page()
                self.begun = block.title
                self.starts.append(self.page)
                if len(self.starts) == 1:
                    self.set_title(block.title)
            elif self.y > TOP and self.y + need > BOTTOM:
                self.turn()
            bar = block.bar if isinstance(block, Text) else 0.0
            if self.barred and not bar:
                self.skip(GAP / 2)
            block.draw(self)
            self.barred = bar

    def list_contents(self, openings: Sequence[Text], starts: Sequence[int]) -> None:
        """The titles of the pages that follow, with their numbers."""
        self.skip(2 * GAP)
        for i, opening in enumerate(openings):
            page = starts[i] if starts else 0
            place = self.add_link(page=page) if page else ""
            height = TEXT * 1.7
            if self.y + height > BOTTOM:
                self.turn()
            number = [(str(page), Style(link=place))]
            title = self.broken([(opening.title, Style(link=place))], TEXT, MEASURE - 40)[0]
            self.write_line(title, MARGIN, TEXT)
            self.write_line(number, WIDTH - MARGIN - self.width(number, TEXT), TEXT)
            self.y += height
            self.stroke(MARGIN, self.y - 3, WIDTH - MARGIN, self.y - 3, 0.3)

    def turn(self) -> None:
        """Goes on to a new page within a question, which is named at its top."""
        self.add_page()
        if self.begun:
            line = self.broken([(f"{self.begun}, continued", Style(color=GREY))], SMALL, MEASURE)[0]
            self.write_line(line, MARGIN, SMALL, TOP - 24)

    def header(self) -> None:
        """Every page begins at the top margin."""
        self.y = TOP

    def footer(self) -> None:
        """The author on the left, the page's number on the right."""
        y = HEIGHT - MARGIN + 22
        number: Line = [(f"page {self.page} of {self.total}", Style(color=GREY))]
        author = self.broken([(self.writer, Style(color=GREY))], SMALL, MEASURE - 100)
        self.write_line(author[0], MARGIN, SMALL, y)
        self.write_line(number, WIDTH - MARGIN - self.width(number, SMALL), SMALL, y)

    def skip(self, space: float) -> float:
        """Leaves space, but none at a page's top; returns what was left."""
        space = space if self.y > TOP else 0.0
        self.y += space
        return space

    # From text to lines

    def broken(self, content: Sequence[Run], size: float, room: float) -> list[Line]:
        """Runs as lines that are at most `room` wide. Words are split only where one alone is too long."""
        room += 0.01  # what just fits does, however its widths are added
        lines: list[Line] = [[]]
        used = 0.0
        word: Line = []

        def finish_word() -> None:
            nonlocal used
            wide = self.width(word, size)
            if used and used + wide > room:
                lines.append([])
                used = 0.0
            if wide > room:
                for run in ((c, style) for text, style in word for c in text):
                    step = self.width([run], size)
                    if used and used + step > room:
                        lines.append([])
                        used = 0.0
                    lines[-1].append(run)
                    used += step
            else:
                lines[-1].extend(word)
                used += wide
            word.clear()

        for text, style in content:
            for piece in re.findall(r"\n|[ \t]+|[^ \t\n]+", text):
                if piece == "\n":
                    finish_word()
                    lines.append([])
                    used = 0.0
                elif piece.isspace() and "\N{NO-BREAK SPACE}" not in piece:
                    finish_word()
                    if used:
                        space = (" ", style)
                        lines[-1].append(space)
                        used += self.width([space], size)
                else:
                    word.append((piece, style))
        finish_word()
        return [_joined(line) for line in lines]

    def width(self, line: Sequence[Run], size: float) -> float:
        """How wide a line is at a font size."""
        total = 0.0
        for text, style in line:
            key = (*_face(text, style), text)
            if key not in self.measured:
                self.set_font(*key[:2], 10)
                self.measured[key] = self.get_string_width(text) / 10
            total += self.measured[key]
        return total * size

    def write_line(self, line: Line, x: float, size: float, y: float | None = None) -> None:
        """Writes a line whose top is at `y`, by default where the page is filled to."""
        y = self.y if y is None else y
        for text, style in line:
            self.set_font(*_face(text, style), size)
            self.set_text_color(*style.color)
            self.text(x, y + 1.06 * size, text)
            width = self.width([(text, style)], size)
            if style.link:
                self.link(x, y, width, size * LEADING, style.link)
            x += width

    def stroke(self, x1: float, y1: float, x2: float, y2: float, width: float) -> None:
        """A thin grey line."""
        self.set_draw_color(*RULE)
        self.set_line_width(width)
        self.line(x1, y1, x2, y2)


def _face(text: str, style: Style) -> tuple[str, str]:
    """The font for a text: code's has fewer characters."""
    if style.code and _characters("code").issuperset(map(ord, text)):
        return "code", ""
    return "text", style.face


def _joined(line: Line) -> Line:
    """Neighbours of one style as one, without the space at the end."""
    joined: Line = []
    for text, style in line:
        if joined and joined[-1][1] == style:
            joined[-1] = (joined[-1][0] + text, style)
        else:
            joined.append((text, style))
    if joined:
        joined[-1] = (joined[-1][0].rstrip(" "), joined[-1][1])
    return joined


def _parts(nodes: Sequence[SyntaxTreeNode]) -> Iterator[list[SyntaxTreeNode]]:
    """A paragraph's nodes, those that are pictures apart from the text between them."""
    part: list[SyntaxTreeNode] = []
    for node in nodes:
        images = [inner for inner in node.walk() if inner.type == "image"]
        blank = node.type in ("softbreak", "hardbreak") or (node.type == "text" and not node.content.strip())
        in_pictures = bool(part) and part[0].type == "image"
        if in_pictures and blank:
            continue
        if part and bool(images) != in_pictures:
            yield part
            part = []
        part += images or [node]
    if part:
        yield part
