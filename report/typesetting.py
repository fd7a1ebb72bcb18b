"""Sets a Markdown document as a PDF with fpdf2: headings, text, lists, code, tables, and pictures with captions.

Lengths are in points, 72 to an inch; y grows downwards.
"""

import datetime
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from fpdf import FPDF, FontFace, FPDFException
from fpdf.outline import OutlineSection
from fpdf.text_region import Paragraph
from markdown_it.tree import SyntaxTreeNode
from PIL import Image

from report.check import is_note, plain
from report.fonts import DEJAVU, fallback_fonts

WIDTH, HEIGHT, MARGIN = 612.0, 792.0, 62.0  # US Letter
TEXT, QUOTE, CODE, SMALL = 9.5, 9.0, 8.0, 8.0  # font sizes
HEADINGS = (15.0, 13.0, 11.0, 9.5, 9.5, 9.5)  # by level
LEADING = 1.42  # a line's height in font sizes
GAP, INDENT, GUTTER = 8.0, 18.0, 12.0
MAX_INDENT = 10 * INDENT  # lists within lists are not moved to the right forever
INK, GREY, RULE, PALE = (26, 26, 26), (95, 95, 95), (200, 200, 200), (243, 243, 243)
LINK, ALARM = (29, 78, 216), (176, 42, 20)
PER_ROW = 3  # pictures side by side
MAX_PICTURE = 430.0  # a picture's height: it leaves room for what is said about it
MIN_SHARE = 0.6  # a picture gets smaller down to this share of its size before it moves to the next page
FRAME = 130.0  # the height of the frame in the place of a missing picture
WHOLE = 200.0  # what is lower than this is not split between two pages
START = 60.0  # the room that something higher needs to begin on a page
# No time stamp: the same report gives the same bytes.
EPOCH = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
WIDE = r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]"  # Chinese, Japanese and Korean need no spaces
BREAK = re.compile(rf"(?<={WIDE})(?={WIDE})(?![、。，．：；？！）」』】》〉])(?<![（「『【《〈])")


class Picture(NamedTuple):
    """An encoded picture, and its size in pixels before it was reduced."""

    data: bytes
    width: int
    height: int


def typeset(
    tree: SyntaxTreeNode, figures: Mapping[str, Image.Image], *, author: str = "", resolution: int = 220
) -> bytes:
    """A Markdown document -> a PDF. Each heading of the first two levels begins a page; the first page ends with the
    list of the others.

    `figures` are the pictures by the names in the document, None for a missing one; they are reduced to `resolution`
    pixels per inch. The bytes depend on the arguments and, for characters that DejaVu lacks, on the system's fonts.
    """
    pages = Pages({name: _encoded(image, resolution) for name, image in figures.items()}, author)
    fonts, _ = fallback_fonts(plain(tree))
    for i, path in enumerate(fonts):
        pages.add_font(f"other{i}", "", path)
    pages.set_fallback_fonts(["text", *(f"other{i}" for i in range(len(fonts)))], exact_match=False)
    pages.add_page()
    pages.flow([node for node in tree.children if not is_note(node)])
    return bytes(pages.output())


def _encoded(image: Image.Image, resolution: int) -> Picture:
    reduced = image.copy()
    side = int((WIDTH - 2 * MARGIN) / 72 * resolution), int((HEIGHT - 2 * MARGIN) / 72 * resolution)
    reduced.thumbnail(side, Image.Resampling.LANCZOS)
    reduced.save(buffer := io.BytesIO(), format="JPEG", quality=90, subsampling="4:4:4")
    return Picture(buffer.getvalue(), *image.size)


class Pages(FPDF):
    """The document. `left` is where a block begins; `quoted` blocks are smaller and grey."""

    MARKDOWN_LINK_COLOR, MARKDOWN_LINK_UNDERLINE = LINK, False  # in tables

    def __init__(self, pictures: Mapping[str, Picture], author: str) -> None:
        super().__init__(unit="pt", format=(WIDTH, HEIGHT))
        self.pictures, self.writer = pictures, author
        self.question = ""  # the title of the question that goes on when a page is full
        for style, name in (("", ""), ("B", "-Bold"), ("I", "-Oblique"), ("BI", "-BoldOblique")):
            self.add_font("text", style, DEJAVU / f"DejaVuSans{name}.ttf")
        self.add_font("code", "", DEJAVU / "DejaVuSansMono.ttf")
        self.set_font("text", "", TEXT)
        self.set_margin(MARGIN)
        self.c_margin = 0
        self.set_auto_page_break(True, MARGIN)
        self.alias_nb_pages("\ue000")  # a character for private use: no report has it
        self.set_creation_date(EPOCH)
        self.set_lang("en-US")
        self.set_author(author)

    def header(self) -> None:
        """Names the question that continues on this page."""
        if self.question:
            self.label(f"{self.question}, continued", MARGIN - 24)

    def footer(self) -> None:
        """The author on the left, the page's number on the right."""
        self.label(self.writer, HEIGHT - MARGIN + 22)
        self.label(f"page {self.page} of \ue000", HEIGHT - MARGIN + 22, align="R")

    def label(self, text: str, y: float, align: str = "L") -> None:
        """A small grey line at `y`."""
        self.set_font("text", "", SMALL)
        self.set_text_color(*GREY)
        self.set_xy(MARGIN, y)
        self.cell(self.epw, SMALL * LEADING, self.shortened(text, self.epw - 100), align=align)
        self.set_xy(MARGIN, MARGIN)

    def shortened(self, text: str, room: float) -> str:
        """As much of the text as fits on a line of the current font."""
        while self.get_string_width(text) > room:
            text = text[:-2].rstrip() + "…"
        return text

    # From the document to pages

    def flow(self, nodes: Sequence[SyntaxTreeNode]) -> None:
        """Draws the document. Headings stay with what follows them, and what is short stays whole."""
        starts = [node for node in nodes if node.tag in ("h1", "h2")]
        waiting: list[SyntaxTreeNode] = []
        for node in nodes:
            if node in starts:
                self.question, title = "", plain(node)
                if node is starts[0]:
                    self.set_title(title)
                if len(starts) > 1 and node is starts[1]:
                    self.leave_room_for_contents(len(starts) - 1)
                elif self.y > MARGIN or self.page > 1:
                    self.add_page()
            waiting.append(node)
            if node.type != "heading" or node in starts or node is nodes[-1]:
                self.keep_together(waiting)
                waiting = []
            if node in starts:
                self.question = title

    def keep_together(self, nodes: Sequence[SyntaxTreeNode]) -> None:
        """Draws headings and the block after them, on a new page where the block would hardly begin on this one."""
        top, page, last = self.y, self.page, nodes[-1]
        with self.offset_rendering():  # a trial
            for node in nodes[:-1]:
                self.block(node)
            begun = self.y + (self.page - page) * self.eph
            self.block(last)
            end = self.y + (self.page - page) * self.eph
        split = end - begun > WHOLE and not any(node.type == "image" for node in last.walk())
        if top > MARGIN and (begun + START if split else end) > self.page_break_trigger:
            self.add_page()
        for node in nodes:
            self.block(node)

    def leave_room_for_contents(self, count: int) -> None:
        """Room for the list of the pages that follow; then a new page."""
        height = count * TEXT * 1.7
        self.skip(2 * GAP)
        if self.y + height > self.page_break_trigger:
            self.add_page()
        self.insert_toc_placeholder(list_contents, pages=math.ceil(height / self.eph))

    def block(self, node: SyntaxTreeNode, left: float = MARGIN, quoted: bool = False, bullet: str = "") -> None:
        """Draws a heading, a paragraph, a list, ... from the line `y` on, on as many pages as it takes."""
        size, color = (QUOTE, GREY) if quoted else (TEXT, INK)
        match node.type:
            case "heading":
                level = int(node.tag[1])
                self.skip(1.2 * HEADINGS[level - 1])
                self.start_section(plain(node), level - 1, strict=False)
                self.text(node.children[0].children, left, HEADINGS[level - 1], INK, "B")
            case "paragraph":
                for part in _parts(node.children[0].children):
                    if part[0].type == "image":
                        for i in range(0, len(part), PER_ROW):
                            self.figures(part[i : i + PER_ROW], left)
                    else:
                        self.skip(3 if node.hidden else GAP)  # hidden: in a list without empty lines
                        self.text(part, left, size, color, bullet=bullet)
                    bullet = ""
            case "bullet_list" | "ordered_list":
                inner = min(left + INDENT, MARGIN + MAX_INDENT)
                for number, item in enumerate(node.children, int(node.attrs.get("start", 1))):
                    marker = "•" if node.type == "bullet_list" else f"{number}."
                    for i, child in enumerate(item.children):
                        self.block(child, inner, quoted, "" if i else marker)
            case "blockquote":
                self.skip(GAP / 2)
                top, page = self.y, self.page
                for child in node.children:
                    self.block(child, left + 12, quoted=True)
                self.bar(left + 3, page, top)
            case "fence" | "code_block":
                self.skip(GAP)
                self.set_font("code", "", CODE)
                self.set_text_color(*INK)
                self.set_fill_color(*PALE)
                self.set_x(left)
                code = node.content.rstrip("\n").expandtabs(4)
                self.multi_cell(0, CODE * LEADING, code, fill=True, align="L", wrapmode="CHAR", padding=(3, 5),
                                new_x="LMARGIN", new_y="NEXT")
            case "table":
                self.skip(GAP)
                self.table_of([row.children for part in node.children for row in part.children], left)
            case "hr":
                self.skip(GAP)
                self.set_draw_color(*RULE)
                self.line(left, self.y, WIDTH - MARGIN, self.y)
            case "html_block" if not is_note(node):
                self.skip(GAP)
                self.text([node], left, size, color)

    def skip(self, space: float) -> None:
        """Leaves space, but not at the top of a page."""
        if self.y > MARGIN:
            self.y += space

    def bar(self, x: float, page: int, top: float) -> None:
        """The bar beside a quotation that began on `page` at `top` and ends here."""
        end, last = self.y, self.page
        for self.page in range(page, last + 1):
            with self.local_context(draw_color=RULE, line_width=1.5):
                start = top if self.page == page else MARGIN
                self.line(x, start, x, end if self.page == last else self.page_break_trigger)

    # Text

    def text(
        self,
        nodes: Sequence[SyntaxTreeNode],
        left: float,
        size: float,
        color: tuple[int, int, int],
        style: str = "",
        bullet: str = "",
    ) -> None:
        """A paragraph."""
        self.set_font("text", "", size)
        self.set_text_color(*color)
        self.set_x(MARGIN)
        with (
            self.text_columns(line_height=LEADING) as columns,
            columns.paragraph(indent=left - MARGIN, bullet_string=bullet, bullet_r_margin=6) as paragraph,
        ):
            self.write_runs(paragraph, nodes, size, color, style)

    def write_runs(
        self,
        paragraph: Paragraph,
        nodes: Sequence[SyntaxTreeNode],
        size: float,
        color: tuple[int, int, int],
        style: str,
        link: str | None = None,
    ) -> None:
        """Text in its styles. `link` is the web address that it leads to."""
        for node in nodes:
            if node.type in ("strong", "em"):
                both = {*style, "B" if node.type == "strong" else "I"}
                self.write_runs(paragraph, node.children, size, color, "".join(sorted(both)), link)
            elif node.type == "link":
                address = web_address(node)
                self.write_runs(paragraph, node.children, size, LINK if address else color, style, address or link)
            elif text := plain(node, images=True, breaks=True):
                code = node.type == "code_inline"
                self.set_font("code" if code else "text", "" if code else style, size)
                self.set_text_color(*color)
                paragraph.write(BREAK.sub("\N{ZERO WIDTH SPACE}", text), link=link)

    # Pictures and tables

    def figures(self, images: Sequence[SyntaxTreeNode], left: float) -> None:
        """Pictures side by side, equally high, each with its caption; a frame where one is missing."""
        slot = (WIDTH - MARGIN - left + GUTTER) / len(images) - GUTTER
        pictures = [self.pictures.get(str(image.attrs["src"])) for image in images]
        sizes = [picture[1:] if picture else (slot, FRAME) for picture in pictures]
        # A picture fills its part of the width, but is not enlarged beyond 72 pixels per inch.
        height = min(MAX_PICTURE, *(min(slot * high / wide, high) for wide, high in sizes))
        self.skip(GAP + 4)
        self.set_font("text", "", SMALL)
        below = 5 + max(self.small(image.content, slot, dry_run=True) for image in images)
        if self.y + MIN_SHARE * height + below > self.page_break_trigger:
            self.add_page()
        top, height = self.y, min(height, max(self.page_break_trigger - self.y - below, 20))
        for i, (image, picture, (wide, high)) in enumerate(zip(images, pictures, sizes, strict=True)):
            x = left + i * (slot + GUTTER)
            if picture:
                width = height * wide / high
                self.image(io.BytesIO(picture.data), x + (slot - width) / 2, top, width, height)
            else:
                with self.local_context(draw_color=ALARM, dash_pattern={"dash": 4, "gap": 3, "phase": 0}):
                    self.rect(x, top, slot, height)
                self.set_text_color(*ALARM)
                self.set_xy(x + 5, top + height / 2 - SMALL)
                self.small(f"missing: {unquote(str(image.attrs['src']))[:120]}", slot - 10)
            self.set_text_color(*GREY)
            self.set_xy(x, top + height + 5)
            self.small(image.content, slot)
        self.set_y(top + height + below)

    def small(self, text: str, width: float, *, dry_run: bool = False) -> float:
        """Small text in the middle of `width`; returns its height."""
        return self.multi_cell(width, SMALL * LEADING, text, align="C", dry_run=dry_run, output="HEIGHT")

    def table_of(self, rows: Sequence[Sequence[SyntaxTreeNode]], left: float) -> None:
        """A table whose first row is the heading; where it is too large for fpdf2, a paragraph per row."""
        texts = [[plain(cell) for cell in row] for row in rows]
        self.set_text_color(*INK)
        self.set_font("text", "B", QUOTE)
        columns = zip(*texts, strict=True)
        wanted = [max(self.get_string_width(text) for text in column) + 12 for column in columns]
        room = WIDTH - MARGIN - left
        if sum(wanted) > room:  # narrow columns lose less
            least = min(room / len(wanted), 60.0)
            share = (room - least * len(wanted)) / sum(max(w - least, 0.01) for w in wanted)
            wanted = [least + share * max(w - least, 0.01) for w in wanted]

        def draw() -> None:
            self.l_margin = left
            self.set_font("text", "", QUOTE)
            with self.table(
                [[_escaped(text) for text in texts[0]], *([_markdown(c) for c in row] for row in rows[1:])],
                col_widths=wanted, width=sum(wanted), align="LEFT", text_align="LEFT", v_align="TOP",
                line_height=QUOTE * LEADING, padding=(3, 5), borders_layout="HORIZONTAL_LINES", markdown=True,
                headings_style=FontFace(emphasis="BOLD"),
            ):
                self.set_draw_color(*RULE)
            self.l_margin = MARGIN

        with self.offset_rendering():
            try:
                draw()
                fits = True
            except (FPDFException, ValueError):  # a row higher than a page, a column narrower than a letter
                fits = False
        if fits:
            draw()
        for row in [] if fits else rows:
            inline = [node for cell in row for node in [*cell.children[0].children, SEPARATOR]]
            self.text(inline[:-1], left, QUOTE, INK)


def list_contents(pages: FPDF, outline: Sequence[OutlineSection]) -> None:
    """The questions with their pages; fpdf2 calls this when all pages are drawn."""
    assert isinstance(pages, Pages) and pages.toc_placeholder
    pages.set_font("text", "", TEXT)
    pages.set_text_color(*INK)
    pages.set_draw_color(*RULE)
    for section in outline:
        if section.level < 2 and section.page_number > pages.toc_placeholder.start_page:
            link = pages.add_link(page=section.page_number)
            title = pages.shortened(section.name, pages.epw - 40)
            pages.cell(pages.epw - 40, TEXT * 1.7, title, border="B", link=link)
            pages.cell(
                40, TEXT * 1.7, str(section.page_number), border="B", align="R", link=link,
                new_x="LMARGIN", new_y="NEXT",
            )


def web_address(link: SyntaxTreeNode) -> str:
    """Where a link leads, if that is a web or mail address; a file beside the report is of no use in a PDF."""
    address = str(link.attrs["href"])
    return address if re.match(r"https?://|mailto:", address) else ""


def _escaped(text: str) -> str:
    """Text without anything that fpdf2's own Markdown, which its tables read, would take for a mark."""
    return re.sub(r"(\\|\*\*|__|--|~~)", r"\\\1", text)


def _markdown(node: SyntaxTreeNode) -> str:
    """A cell's text in fpdf2's own Markdown."""
    if node.type == "image" or not node.children:
        return _escaped(plain(node, images=True, breaks=True))
    inner = "".join(map(_markdown, node.children))
    if node.type == "link" and (address := web_address(node)) and not re.search(r"[][()]", address + inner):
        return f"[{inner}]({address})"
    mark = {"strong": "**", "em": "__"}.get(node.type, "")
    return f"{mark}{inner}{mark}"


def _parts(nodes: Sequence[SyntaxTreeNode]) -> Iterator[list[SyntaxTreeNode]]:
    """A paragraph's nodes, with the pictures separated from the text between them."""
    part: list[SyntaxTreeNode] = []
    for node in nodes:
        images = [inner for inner in node.walk() if inner.type == "image"]
        in_pictures = bool(part) and part[0].type == "image"
        if in_pictures and not images and not plain(node).strip():
            continue
        if part and bool(images) != in_pictures:
            yield part
            part = []
        part += images or [node]
    if part:
        yield part
