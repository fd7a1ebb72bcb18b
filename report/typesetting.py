"""Sets a Markdown document as a PDF with fpdf2. Lengths are in points, 72 to an inch; y grows downwards."""

import datetime
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import cast
from urllib.parse import unquote

from fpdf import FPDF, FontFace, FPDFException, TextStyle
from fpdf.enums import WrapMode
from fpdf.outline import TableOfContents
from markdown_it.tree import SyntaxTreeNode
from PIL import Image

from report.document import is_note, parts, plain, runs
from report.fonts import add_fonts, breakable

WIDTH, HEIGHT, MARGIN = 612.0, 792.0, 62.0  # US Letter
TEXT, QUOTE, CODE, SMALL = 9.5, 9.0, 8.0, 8.0  # font sizes
HEADINGS = (15.0, 13.0, 11.0, 9.5, 9.5, 9.5)  # by level
LEADING = 1.42  # a line's height in font sizes
GAP, INDENT, GUTTER, MAX_LEFT = 8.0, 18.0, 12.0, 242.0  # lists within lists begin at MAX_LEFT at most
INK, GREY, RULE, PALE = (26, 26, 26), (95, 95, 95), (200, 200, 200), (243, 243, 243)
LINK, ALARM = (29, 78, 216), (176, 42, 20)
PER_ROW = 3  # pictures side by side
FRAME, MAX_PICTURE = 130.0, 430.0  # heights: of a missing picture's frame; of a picture
MIN_SHARE = 0.6  # a picture gets smaller down to this share of its size before it moves to the next page
WHOLE, START = 200.0, 60.0  # what is lower is not split between pages; the room to begin something higher
TOTAL = "\ue000" * 3  # stands for the number of pages: characters for private use, which no report has
Figures = Mapping[str, Image.Image]
EPOCH = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)  # the same report gives the same bytes


def typeset(tree: SyntaxTreeNode, figures: Figures, *, author: str = "", resolution: int = 220) -> bytes:
    """A Markdown document -> a PDF. Each heading of the first two levels begins a page; the first page ends with the
    list of the others.

    `figures` are the pictures by their names in the document; a frame stands for each that is not there. They are
    reduced to `resolution` pixels per inch. The bytes depend on the arguments and, for characters that DejaVu lacks,
    on the system's fonts.
    """
    pages, pages.trial = [Pages(figures, author, resolution, plain(tree)) for _ in range(2)]
    pages.flow([node for node in tree.children if not is_note(node)])
    return bytes(pages.output())


class Pages(FPDF):
    """The document. On `trial`, a second one, blocks are drawn first to see how high they are; nobody reads it."""

    MARKDOWN_LINK_COLOR, MARKDOWN_LINK_UNDERLINE = LINK, False  # type: ignore[assignment]  # in tables
    trial: "Pages | None" = None

    def __init__(self, figures: Figures, author: str, resolution: int, text: str) -> None:
        super().__init__(unit="pt", format=(WIDTH, HEIGHT))
        self.figures, self.author_line, self.resolution = figures, author, resolution
        self.question = ""  # the title of the question that goes on when a page is full
        self.too_large: set[SyntaxTreeNode] = set()  # tables
        self.boxes = str.maketrans(dict.fromkeys(add_fonts(self, text), "□"))
        self.set_margin(MARGIN)
        self.set_auto_page_break(True, MARGIN)
        self.c_margin = 0
        self.alias_nb_pages(TOTAL)
        self.set_creation_date(EPOCH)
        self.set_lang("en-US")
        self.set_author(author)
        self.set_draw_color(*RULE)

    def normalize_text(self, text: str) -> str:
        """What is written for a text: fpdf2 asks this for every text."""
        return breakable(super().normalize_text(text).translate(self.boxes))

    def header(self) -> None:
        """Names the question that continues on this page."""
        if self.question:
            self.label(f"{self.question}, continued", MARGIN - 24)
        self.set_xy(MARGIN, MARGIN)

    def footer(self) -> None:
        """The author on the left, the page's number on the right."""
        self.label(self.author_line, HEIGHT - MARGIN + 22)
        self.label(f"page {self.page} of {TOTAL}", HEIGHT - MARGIN + 22, align="R")

    def label(self, text: str, y: float, align: str = "L") -> None:
        """A line of small grey text at `y`, as much of it as there is room for."""
        self.pen(SMALL, GREY)
        self.set_xy(MARGIN, y)
        while self.get_string_width(text) > self.epw - 70:
            text = text[:-2] + "…"
        self.cell(self.epw, SMALL * LEADING, text, align=align)

    def pen(self, size: float, color: tuple[int, int, int], style: str = "", family: str = "text") -> None:
        """How the text that follows looks."""
        self.set_font(family, style, size)
        self.set_text_color(*color)

    def flow(self, nodes: Sequence[SyntaxTreeNode]) -> None:
        """Draws the document, page by page."""
        starts = [node for node in nodes if node.tag in ("h1", "h2")]
        groups: list[list[SyntaxTreeNode]] = []
        for node in nodes:
            if groups and groups[-1][-1].tag in ("h3", "h4", "h5", "h6") and node not in starts:
                groups[-1].append(node)  # headings stay with what follows them
            else:
                groups.append([node])
        self.set_title(plain(starts[0]) if starts else "")
        self.add_page()
        for group in groups:
            if group[0] in starts:
                self.question = ""
                if group[0] in starts[1:2]:
                    self.leave_room_for_contents(len(starts) - 1)
                elif group is not groups[0]:
                    self.add_page()
            self.keep_together(group)
            if group[0] in starts:
                self.question = plain(group[0])
        self.question = ""

    def leave_room_for_contents(self, count: int) -> None:
        """The list of the pages that follow, drawn when all of them are; then a new page."""
        toc = TableOfContents(TextStyle("text", "", TEXT, INK), level_indent=0, line_spacing=1.7)
        height = count * 1.7 * TEXT
        self.skip(2 * GAP)
        if self.y + height > self.page_break_trigger:
            self.add_page()
        self.insert_toc_placeholder(
            lambda _, outline: toc.render_toc(self, [section for section in outline if section.level < 2]),
            pages=math.ceil(height / self.eph),
            allow_extra_pages=True,
        )

    def keep_together(self, nodes: Sequence[SyntaxTreeNode]) -> None:
        """Draws headings and the block after them, on a new page where the block would hardly begin on this one."""
        assert self.trial
        heights = []
        for node in nodes:
            self.trial.add_page()
            page, self.trial.y = self.trial.page, self.y
            self.trial.block(node)
            heights.append((self.trial.page - page) * self.eph + self.trial.y - self.y)
        self.too_large |= self.trial.too_large
        if heights[-1] > WHOLE and not any(node.type == "image" for node in nodes[-1].walk()):
            heights[-1] = START
        if self.y > MARGIN and self.y + sum(heights) > self.page_break_trigger:
            self.add_page()
        for node in nodes:
            self.block(node)

    def block(
        self, node: SyntaxTreeNode, left: float = MARGIN, quoted: bool = False, bullet: str = ""
    ) -> None:
        """Draws a heading, a paragraph, a list, ... on as many pages as it takes; quotations are smaller and grey."""
        size, color = (QUOTE, GREY) if quoted else (TEXT, INK)
        left = min(left, MAX_LEFT)
        match node.type:
            case "heading":
                level, size = int(node.tag[1]), HEADINGS[int(node.tag[1]) - 1]
                self.skip(1.2 * size)
                self.start_section(plain(node), level - 1, strict=False)
                self.paragraph(node.children[0].children, left, size, INK, "B")
            case "paragraph" | "html_block":
                for part in parts([node] if node.type == "html_block" else node.children[0].children):
                    if part[0].type == "image":
                        for i in range(0, len(part), PER_ROW):
                            self.pictures(part[i : i + PER_ROW], left)
                    else:
                        self.skip(3 if node.hidden else GAP)  # hidden: in a list without empty lines
                        self.paragraph(part, left, size, color, bullet=bullet)
                    bullet = ""
            case "bullet_list" | "ordered_list":
                self.skip(0 if node.parent and node.parent.type == "list_item" else GAP - 3)
                for number, item in enumerate(node.children, int(node.attrs.get("start", 1))):
                    bullet = "•" if node.type == "bullet_list" else f"{number}."
                    for child in item.children:
                        self.block(child, left + INDENT, quoted, bullet)
                        bullet = ""
            case "blockquote":
                self.skip(GAP / 2)
                first, top = self.page, self.y
                for child in node.children:
                    self.block(child, left + 12, quoted=True)
                last, end = self.page, self.y
                for self.page in range(first, last + 1):
                    with self.local_context(line_width=1.5):
                        bottom = end if self.page == last else self.page_break_trigger
                        self.line(left + 3, top, left + 3, bottom)
                    top = MARGIN
            case "fence" | "code_block":
                self.skip(GAP)
                self.pen(CODE, INK, family="code")
                self.set_fill_color(*PALE)
                self.set_x(left)
                code = node.content.rstrip("\n").expandtabs(4)
                self.multi_cell(
                    0, CODE * LEADING, code, fill=True, align="L", wrapmode=WrapMode.CHAR, padding=(3, 5)
                )
            case "table":
                self.skip(GAP)
                self.grid(node, left)
            case "hr":
                self.skip(GAP)
                self.line(left, self.y, WIDTH - MARGIN, self.y)

    def skip(self, space: float) -> None:
        """Leaves space, but not at the top of a page."""
        self.y += space if self.y > MARGIN else 0

    def paragraph(
        self, nodes: Sequence[SyntaxTreeNode], left: float, size: float, color: tuple[int, int, int],
        style: str = "", bullet: str = "",
    ) -> None:  # fmt: skip
        """A paragraph."""
        self.pen(size, color, style)
        self.set_x(MARGIN)
        with (
            self.text_columns(line_height=LEADING) as columns,
            columns.paragraph(indent=left - MARGIN, bullet_string=bullet, bullet_r_margin=6) as lines,
        ):
            for content, face, code, link in runs(nodes, style):
                self.pen(size, LINK if link else color, "" if code else face, "code" if code else "text")
                lines.write(content, link)

    def pictures(self, images: Sequence[SyntaxTreeNode], left: float) -> None:
        """Pictures side by side, equally high, each with its caption; a frame where one is missing."""
        slot = (WIDTH - MARGIN - left + GUTTER) / len(images) - GUTTER
        found = [self.figures.get(str(image.attrs["src"])) for image in images]
        # A picture fills its part of the width, but is not enlarged beyond 72 pixels per inch.
        height = min(MAX_PICTURE, *(min(slot * p.height / p.width, p.height) if p else FRAME for p in found))
        self.skip(GAP + 4)
        self.pen(SMALL, GREY)
        below = 5 + max(self.caption(image.content, slot, dry_run=True) for image in images)
        if self.y + MIN_SHARE * height + below > self.page_break_trigger:
            self.add_page()
        top, height = self.y, min(height, max(self.page_break_trigger - self.y - below, 20))
        for i, (image, picture) in enumerate(zip(images, found, strict=True)):
            x = left + i * (slot + GUTTER)
            if picture and self.trial:
                self.image(self.encoded(picture, slot, height), x, top, slot, height, keep_aspect_ratio=True)
            elif not picture:
                with self.local_context(draw_color=ALARM, dash_pattern={"dash": 4, "gap": 3, "phase": 0}):
                    self.rect(x, top, slot, height)
                self.pen(SMALL, ALARM)
                self.set_xy(x + 5, top + height / 2 - SMALL)
                self.caption(f"missing: {unquote(str(image.attrs['src']))[:120]}", slot - 10)
            self.pen(SMALL, GREY)
            self.set_xy(x, top + height + 5)
            self.caption(image.content, slot)
        self.set_xy(MARGIN, top + height + below)

    def caption(self, text: str, width: float, *, dry_run: bool = False) -> float:
        """Text in the middle of `width`; returns its height."""
        height = self.multi_cell(width, SMALL * LEADING, text, align="C", dry_run=dry_run, output="HEIGHT")
        return cast(float, height)

    def encoded(self, picture: Image.Image, width: float, height: float) -> io.BytesIO:
        """The picture as JPEG, reduced to what a frame of this size shows."""
        reduced, data = picture.copy(), io.BytesIO()
        scale = self.resolution / 72
        reduced.thumbnail((max(1, width * scale), max(1, height * scale)), Image.Resampling.LANCZOS)
        reduced.save(data, "JPEG", quality=90, subsampling="4:4:4")
        return data

    def grid(self, table: SyntaxTreeNode, left: float) -> None:
        """A table whose first row is the heading; where it is too large for fpdf2, a paragraph per cell."""
        rows = [row.children for part in table.children for row in part.children]
        self.pen(QUOTE, INK, "B")
        columns = zip(*rows, strict=True)
        widths = [12 + max(self.get_string_width(plain(cell)) for cell in column) for column in columns]
        room = WIDTH - MARGIN - left
        most = room / max(1, len(widths) - 1)  # what a column counts for when there is not room for all
        self.pen(QUOTE, INK)
        self.l_margin = left
        if table not in self.too_large:
            cells = [[_markdown(cell, "" if i else "B") for cell in row] for i, row in enumerate(rows)]
            try:
                with self.table(
                    cells, col_widths=[min(width, most) for width in widths], width=min(sum(widths), room),
                    align="LEFT", text_align="LEFT", v_align="TOP", padding=(3, 5), line_height=QUOTE * LEADING,
                    borders_layout="HORIZONTAL_LINES", markdown=True, headings_style=FontFace(),
                ):  # fmt: skip
                    pass
            except (FPDFException, ValueError):  # a row higher than a page, a column narrower than a letter
                self.too_large.add(table)
        self.l_margin = MARGIN
        if table in self.too_large:
            for cell in (cell for row in rows for cell in row):
                self.paragraph(cell.children[0].children, left, QUOTE, INK)


def _markdown(cell: SyntaxTreeNode, style: str) -> str:
    """A cell's text in fpdf2's own Markdown, which its tables read."""
    text, before = "", ""
    for content, now, _, link in (*runs(cell.children[0].children, style), ("", "", False, None)):
        for face, mark in (("B", "**"), ("I", "__")):
            text += mark if (face in before) != (face in now) else ""
        content, before = re.sub(r"(\\|\*\*|__|--|~~)", r"\\\1", content), now
        text += f"[{content}]({link})" if link and not re.search(r"[][()]", link + content) else content
    return text
