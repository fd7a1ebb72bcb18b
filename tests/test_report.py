"""The written part: what is still to do is listed, and what is there comes out on the right page."""

import contextlib
import io
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pypdf
import pytest
from PIL import Image

from helpers import fonts
from report import __main__ as report
from report import check
from report.check import problems, unanswered
from report.document import read_report
from report.fonts import breakable
from tests.test_fonts import tiny_font

ROOT = Path(__file__).resolve().parent.parent
SKELETON = ROOT / "report" / "report.md"
QUESTIONS = [line[3:] for line in SKELETON.read_text(encoding="utf-8").splitlines() if line.startswith("## ")]

SENTENCES = [f"Sentence {i} is about ∂s/∂I, and ends there." for i in range(300)]
WORDS = "A line of words that is long enough to be broken. "
PARTS = "".join(f"### Part {i}\n\n{WORDS * (7 + 2 * (i % 5))}\n\n" for i in range(40))
FILLED = f"""
# A report

**Name:** Zoë Grünwald

## Question 1. Words

> What is asked?

It is λ‖I‖² ≤ Σₖ αₖ Aᵏ, as *naïve* “quotes” in **{unicodedata.normalize("NFD", "Ångström")}** say; `delta * (x > 0)`.
See [the paper](https://example.org/paper).

{" ".join(SENTENCES)}

## Question 2. Pictures

> What is seen?

![a wide one](wide.png)

![small](small.webp) ![as large](large.jpg) ![and lost](lost.png)

Between two pictures.

![a strip](strip.tif)

They show something.

## Question 3. Structure

| rule | result |
|------|--------|
| one  | (5, 0) |

- first
- second

```
{"x" * 30} {"y" * 200}
```

{PARTS}
"""


def noise(path, width, height):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def run(*arguments):
    return report.main([str(argument) for argument in arguments])


def lines_of(page):
    return [line for line in page.extract_text().splitlines() if line.strip()]


def pictures_of(page):
    """Left, bottom, width and height of the pictures on a page, in the order they are drawn."""
    number = rb"(-?[\d.]+)"
    found = re.findall(rb"q %b 0 0 %b %b %b cm /I\d+ Do Q" % ((number,) * 4), page.get_contents().get_data())
    return [tuple(float(each[i]) for i in (2, 3, 0, 1)) for each in found]


class Written:
    """What a run left behind."""

    def __init__(self, folder, out, err):
        self.folder, self.out, self.err = folder, out.getvalue(), err.getvalue()
        self.pages = pypdf.PdfReader(folder / "r.pdf").pages
        self.lines = [lines_of(page) for page in self.pages]

    def starts(self):
        """Title -> index of the page that begins with it."""
        return {lines[0]: i for i, lines in enumerate(self.lines) if not lines[0].endswith(", continued")}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    (folder / "report.md").write_text(FILLED, encoding="utf-8")
    for name, width, height in (
        ("wide.png", 4000, 1000),
        ("small.webp", 40, 30),
        ("large.jpg", 800, 600),
        ("strip.tif", 100, 3000),
    ):
        noise(folder / name, width, height)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        assert run(folder / "report.md", "--output", folder / "r.pdf") == 0
    return Written(folder, out, err)


# The pages


def test_each_question_begins_a_page_and_the_first_page_says_which(written):
    starts = written.starts()
    assert list(starts) == ["A report", "Question 1. Words", "Question 2. Pictures", "Question 3. Structure"]
    assert starts["A report"] == 0 and starts["Question 1. Words"] == 1
    listed = " ".join(written.lines[0])
    for title, index in list(starts.items())[1:]:
        assert re.search(rf"{re.escape(title)}[ .]+{index + 1}\b", listed), listed


def test_every_page_carries_its_number_the_name_and_the_question_it_continues(written):
    count, starts = len(written.pages), sorted(written.starts().values())
    titles = {index: title for title, index in written.starts().items()}
    for i, lines in enumerate(written.lines):
        footers = [line for line in lines if re.fullmatch(rf"Zoë Grünwald *page {i + 1} of {count}", line)]
        assert len(footers) == 1, lines
        if i not in starts:
            assert lines[0] == f"{titles[max(s for s in starts if s < i)]}, continued"


def test_a_long_answer_goes_on_whole(written):
    starts = written.starts()
    pages = written.lines[starts["Question 1. Words"] : starts["Question 2. Pictures"]]
    assert len(pages) >= 3
    text = " ".join(" ".join(lines[(i > 0) : -1]) for i, lines in enumerate(pages))
    assert " ".join(SENTENCES) in text


def test_unicode_is_printed_and_can_be_copied(written):
    text = " ".join(written.lines[1])
    for part in ("What is asked?", "λ‖I‖² ≤ Σₖ αₖ Aᵏ", "naïve “quotes”", "Ångström", "delta * (x > 0)"):
        assert part in text
    (link,) = [annotation.get_object() for annotation in written.pages[1]["/Annots"]]
    assert link["/A"]["/URI"] == "https://example.org/paper"


def test_no_heading_and_no_line_of_a_paragraph_is_left_alone_on_a_page(written):
    pages = [lines[1:-1] for lines in written.lines[written.starts()["Question 3. Structure"] :]]
    headings = [[i for i, line in enumerate(lines) if line.startswith("Part ")] for lines in pages]
    assert sum(map(len, headings)) == 40 and len(pages) >= 6
    for lines, here in zip(pages, headings, strict=True):
        assert len(lines) - 1 - here[-1] >= 2, lines  # under the last heading
        assert here[0] != 1, lines  # above the first one


def test_tables_lists_and_code_are_set(written):
    lines = written.lines[written.starts()["Question 3. Structure"]]
    text = " ".join(lines)
    assert "rule result one (5, 0)" in text and "• first • second" in text
    assert "y" * 200 in text.replace(" ", "")  # broken, nothing lost


# The pictures


def test_pictures_stand_where_they_are_named_with_their_captions(written):
    first = written.starts()["Question 2. Pictures"]
    counts = [len(pictures_of(page)) for page in written.pages]
    assert sum(counts) == 4 and sum(counts[first : written.starts()["Question 3. Structure"]]) == 4
    drawn, text = pictures_of(written.pages[first]), " ".join(written.lines[first])
    for caption in ("a wide one", "small", "as large", "and lost"):
        assert caption in text
    assert text.index("a wide one") < text.index("as large") < text.index("Between two")
    wide, small, large = drawn[:3]
    assert wide[1] > small[1] + small[3]  # above, since named before
    assert small[1] == pytest.approx(large[1]) and small[3] == pytest.approx(
        large[3], abs=0.02
    )  # side by side
    strip_page = next(i for i, lines in enumerate(written.lines) if "a strip" in lines)
    assert pictures_of(written.pages[strip_page])[-1][3] > 250


def test_pictures_keep_their_shape_lie_within_the_margins_and_are_not_blown_up(written):
    shapes = [4000 / 1000, 40 / 30, 800 / 600, 100 / 3000]
    drawn = [picture for page in written.pages for picture in pictures_of(page)]
    for (left, bottom, width, height), shape in zip(drawn, shapes, strict=True):
        assert width / height == pytest.approx(shape, rel=0.01)
        assert left >= 60 and left + width <= 552 and bottom >= 60 and bottom + height <= 732
    assert drawn[0][2] == pytest.approx(488, abs=1)  # the whole width
    assert drawn[1][3] == pytest.approx(30, abs=0.1)  # a pixel is a point at most


def test_pictures_are_reduced_to_what_a_page_shows(written):
    sizes = [image.image.size for page in written.pages for image in page.images]
    assert max(width for width, _ in sizes) == pytest.approx(488 / 72 * 220, rel=0.01)
    assert (40, 30) in sizes


def test_a_missing_picture_is_listed_and_leaves_a_frame(written):
    assert (
        written.err.strip()
        == f"{written.folder}/report.md:21: missing picture: {written.folder}/lost.png: no such file"
    )
    assert written.out.strip() == str(written.folder / "r.pdf")
    first = written.starts()["Question 2. Pictures"]
    assert "missing: lost.png" in " ".join(written.lines[first])


@pytest.mark.parametrize("limit", [10**6, 10**3])
def test_pictures_get_coarser_until_the_report_is_light_enough(limit, monkeypatch, tmp_path):
    used = []

    def typeset(tree, figures, *, author, resolution):
        used.append(resolution)
        return b"x" * resolution**2 * 30

    monkeypatch.setattr("report.typesetting.typeset", typeset)
    monkeypatch.setattr(report, "LIMIT", limit)
    (tmp_path / "report.md").write_text("# A\n")
    assert run(tmp_path / "report.md", "--output", tmp_path / "r.pdf") == 0
    assert used == ([220, 150] if limit == 10**6 else [220, 150, 100, 60])  # the last is taken as it is


# Odd reports


def pdf_of(folder, text):
    """The pages' texts of a report that consists of `text`."""
    (folder / "report.md").write_text(text, encoding="utf-8")
    assert run(folder / "report.md", "--output", folder / "r.pdf", "--quiet") == 0
    return [page.extract_text() for page in pypdf.PdfReader(folder / "r.pdf").pages]


def words_of(page):
    """Each piece of text with its face and the height of its line above the page's bottom."""
    found = []

    def visit(text, _, matrix, font, __):
        if text.strip():
            found.append((text.strip(), font["/BaseFont"].partition("DejaVuSans")[2], matrix[5]))

    page.extract_text(visitor_text=visit)
    return found


def test_pictures_of_any_shape_and_none_at_all_are_survived(tmp_path):
    noise(tmp_path / "tall.png", 2, 9000)
    noise(tmp_path / "wide.png", 9000, 2)
    pages = pdf_of(
        tmp_path, "![](/) ![](.) ![](tall.png)\n\n![](wide.png)\n\n> - ![t](tall.png)\n\nThe end.\n"
    )
    assert "The end." in " ".join(pages) and "missing: /" in pages[0]


def test_a_table_keeps_styles_links_and_marks(tmp_path):
    row = "| **b *i* b** and `--x` [f](f.md) | 2**3 `__init__` | [a **link**](https://a.b/c) |"
    (page,) = pdf_of(tmp_path, f"| one | two **2** | three |\n|-|-|-|\n{row}\n")
    assert re.sub(r"\s+", " ", page).startswith("one two 2 three b i b and --x f 2**3 __init__ a link")
    reader = pypdf.PdfReader(tmp_path / "r.pdf")
    links = {note.get_object()["/A"]["/URI"] for note in reader.pages[0]["/Annots"]}
    assert links == {"https://a.b/c"}
    faces = {text: face for text, face, _ in words_of(reader.pages[0])}
    assert [faces[word] for word in ("one", "two 2", "b", "i", "and --x f")] == [
        "Bold",
        "Bold",
        "Bold",
        "BoldOblique",
        "Book",
    ]


def test_a_table_too_large_for_a_page_loses_no_words(tmp_path):
    words = [f"word{i}" for i in range(1500)]
    pages = pdf_of(tmp_path, f"| a | b |\n|-|-|\n| {' '.join(words)} | x |\n\n{'|c' * 60}|\n{'|-' * 60}|\n")
    assert set(words) <= set(" ".join(pages).split()) and len(pages) > 1


def test_a_heading_stays_on_the_page_of_its_question(tmp_path):
    pages = pdf_of(tmp_path, "# T\n\n## A\n\n### Part of A\n\n## B\n\n### Part of B\n\n{nb} is no number.\n")
    assert [("Part of A" in page, "Part of B" in page) for page in pages] == [(0, 0), (1, 0), (0, 1)]
    assert "{nb} is no number." in pages[2]


def test_a_heading_is_not_left_alone_above_a_paragraph_that_is_split(tmp_path):
    pages = pdf_of(
        tmp_path,
        "".join(f"## S{n}\n\n{'<br>'.join('x' * n)}\n\n### Part\n\n{WORDS * 38}\n\n" for n in range(38, 49)),
    )
    endings = [page.splitlines()[-2] for page in pages[1:]]
    assert "x" in endings and WORDS.split()[-1] in " ".join(
        endings
    )  # a new page, and a paragraph that is split
    assert "Part" not in endings


def test_paragraphs_are_apart_and_a_long_name_leaves_room_for_the_number(tmp_path):
    (page,) = pdf_of(tmp_path, f"# A *title*\n\nName: {'x' * 300}\n\none<br>t\u2060wo\n\nthree\n")
    assert re.search(r"x{40,80}…\s*page 1 of 1", page)
    reader = pypdf.PdfReader(tmp_path / "r.pdf")
    heights = {text: y for text, _, y in words_of(reader.pages[0])}
    assert heights["two"] - heights["three"] > heights["one"] - heights["two"] + 5
    assert reader.metadata.title == "A title"


# Characters that DejaVu lacks


def test_characters_that_dejavu_lacks_are_set_with_the_systems_fonts(tmp_path, monkeypatch, capsys):
    font = tiny_font(tmp_path / "tiny.ttf", "王小明字")
    monkeypatch.setattr(fonts, "system_fonts", lambda: [font])
    text = " ".join(pdf_of(tmp_path, "# T\n\nName: 王小明\n\n## 字\n\n**字** `字` and so on.\n"))
    assert capsys.readouterr().err == ""
    assert re.search(r"王\W?小\W?明 *page 1 of 2", text) and "字 字 and so on." in text and "□" not in text
    assert pypdf.PdfReader(tmp_path / "r.pdf").metadata.author == "王小明"


def test_characters_that_no_font_has_are_listed_and_become_boxes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fonts, "system_fonts", list)
    (page,) = pdf_of(tmp_path, "Name: 王小明\n\nThis is 김, and `字`: 王，字\n")
    (problem,) = capsys.readouterr().err.splitlines()
    assert problem.endswith("report.md:1: no font on this computer has these characters: 字 小 明 王 김 ，; "
                            "install a font that has them, or use other letters")  # fmt: skip
    assert "This is □, and □:" in page


def test_chinese_breaks_between_characters_but_not_before_a_mark_that_closes():
    assert breakable("中文，（字） is x中").split("\u200b") == ["中", "文，", "（字） is x中"]


# What is listed


def problems_of(tmp_path, text):
    path = tmp_path / "report.md"
    path.write_text(text, encoding="utf-8")
    tree = read_report(path)
    return [f"{line}: {message}" for line, message in problems(tree, tmp_path)[1]]


def test_every_question_of_the_blank_report_is_listed_as_unanswered():
    listed = [
        problem.message.removeprefix("no answer yet: ") for problem in unanswered(read_report(SKELETON))
    ]
    assert listed[:3] == ["Name", "Course user name", "Worked with, and sources used"]
    assert len(QUESTIONS) == 11 and listed[3:13] == QUESTIONS[:10]
    assert listed[13:] == [
        "The paper",
        "Contribution",
        "Strengths",
        "Weaknesses",
        "A question",
        "How it relates",
    ]
    lines = SKELETON.read_text(encoding="utf-8").splitlines()
    assert all(check.PLACEHOLDER in lines[line - 1] for line, _ in unanswered(read_report(SKELETON)))
    assert not list(check.other_problems(read_report(SKELETON)))


def test_the_blank_report_names_the_pictures_that_the_scripts_make():
    tree = read_report(SKELETON)
    names = {str(node.attrs["src"]) for node in tree.walk() if node.type == "image"}
    panels = ("rocket_swirl", "stereo_motorcycle_waves", "coffee_stained-glass")
    figures = ("class_visualization", "saliency_visualization", "gradcam_visualization")
    assert {f"../visualization/{name}_panel.png" for name in panels} <= names
    assert {f"../visualization/{name}.png" for name in figures} <= names
    assert len(names) == 10  # and two photos, before and after


def test_an_answer_is_text_outside_the_question(tmp_path):
    text = "## A\n\n> Why?\n\n{}\n\n## B\n\nSomething.\n"
    noise(tmp_path / "a.png", 4, 4)
    for answer, expected in (
        ("Because.", []),
        ("- Because.", []),
        ("| so | it |\n|--|--|\n| is | |", []),
        ("Because.\n\n> said Zeiler.", []),
        ("", ["1: no answer yet: A"]),
        ("![a](a.png)", ["1: no answer yet: A"]),
        ("<!-- nothing -->", ["1: no answer yet: A"]),
        ("> More?", ["1: no answer yet: A"]),
        ("- *Your answer here.*", ["5: no answer yet: A"]),
        ("### C\n\nBecause.", []),
        ("### C\n\n### D\n\nBecause.", ["5: no answer yet: C"]),
    ):
        assert problems_of(tmp_path, text.format(answer)) == expected, answer


def test_what_would_not_look_as_meant_is_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "PROJECT", tmp_path)
    noise(tmp_path / "my dog.png", 4, 4)
    (tmp_path / "broken.png").write_bytes((tmp_path / "my dog.png").read_bytes()[:60])
    (tmp_path / "text.png").write_text("no picture")
    for name in ("draw", "style_transfer"):
        (tmp_path / f"{name}.py").write_text("")
    for text, expected in (
        ("Σ ∂ ‖ ½ é “q” → ℝ \ufeff\u200bα\ufe0f", []),
        (r"so $\alpha_k$", [r"1: LaTeX is printed as it stands ($\alpha): write formulas in Unicode"]),
        ("5 $ and 6 $", []),
        ("![d](my dog.png)", ["1: a file's name with spaces goes into <>: ![caption](<my dog.png>)"]),
        ("![d](<my dog.png>) ![d](my%20dog.png)", []),
        (
            "![b](broken.png)",
            [f"1: missing picture: {tmp_path}/broken.png is incomplete*"],
        ),
        ("![t](text.png)", [f"1: missing picture: {tmp_path}/text.png is not an image file of a format *"]),
        ("![c]()", ["1: missing picture: no file is named"]),
        ("![f](.)", [f"1: missing picture: {tmp_path} is a folder, not an image file"]),
        ("![](/)", ["1: missing picture: / is a folder, not an image file"]),
        ("![n](" + "n" * 300 + ".png)", ["1: missing picture: *"]),
        (
            "![d](../x/draw.png)",
            [f"1: missing picture: {tmp_path.parent}/x/draw.png: no such file; ./draw.py *"],
        ),
        (
            "![p](a_b_panel.png)",
            [f"1: missing picture: {tmp_path}/a_b_panel.png: no such file; ./style_transfer.py makes it"],
        ),
        (
            "![w](https://a.b/c.png)",
            ["1: missing picture: https://a.b/c.png is a web address: save the picture here, *"],
        ),
        (
            "| a |\n|---|\n| ![d](<my dog.png>) |",
            ["3: my%20dog.png: not shown in a table or a heading; give it a line of its own"],
        ),
    ):
        found = problems_of(tmp_path, text)
        assert len(found) == len(expected), (text, found)
        for line, pattern in zip(found, expected, strict=True):
            assert line.startswith(pattern.rstrip("*")) if pattern.endswith("*") else line == pattern
            assert "\n" not in line


# The command


def test_strict_writes_nothing_while_something_is_to_do(tmp_path, capsys):
    (tmp_path / "report.md").write_text("## A\n\n*Your answer here.*\n")
    (tmp_path / "r.pdf").write_text("earlier")
    assert run(tmp_path / "report.md", "--output", tmp_path / "r.pdf", "--strict") == 1
    first, last = capsys.readouterr().err.splitlines()
    assert first == f"{tmp_path}/report.md:3: no answer yet: A"
    assert last.endswith("error: 1 to fix, so no report was written (--strict)")
    assert (tmp_path / "r.pdf").read_text() == "earlier"


@pytest.mark.parametrize(
    ("content", "output", "status", "message"),
    [
        (
            None,
            "r.pdf",
            1,
            "report.md cannot be read: No such file or directory; run this in the project's folder, or name the file",
        ),
        (b"caf\xe9", "r.pdf", 1, "report.md is not text in UTF-8 (byte 3): save it as UTF-8"),
        (b" \n", "r.pdf", 1, "report.md is empty"),
        (b"# A", "r.docx", 2, "r.docx: the report is a PDF, so name a .pdf file"),
        (b"# A", "report.md/r.pdf", 1, "cannot be written: "),
    ],
)
def test_what_cannot_be_read_or_written_is_one_line(content, output, status, message, tmp_path, capsys):
    if content is not None:
        (tmp_path / "report.md").write_bytes(content)
    assert run(tmp_path / "report.md", "--output", tmp_path / output) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not [*tmp_path.glob("*.pdf")]


def test_a_library_that_is_not_installed_is_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "report.md").write_text("# A\n")
    monkeypatch.setitem(sys.modules, "fpdf", None)
    for name in ("check", "fonts", "typesetting"):
        monkeypatch.delitem(sys.modules, f"report.{name}", raising=False)
    assert run(tmp_path / "report.md", "--output", tmp_path / "r.pdf") == 1
    assert "the package fpdf is not installed here: run `make env`" in capsys.readouterr().err


def test_the_same_report_gives_the_same_bytes_at_another_time_and_place(tmp_path):
    (tmp_path / "elsewhere" / "report").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "elsewhere" / "report"):
        (folder / "report.md").write_text(
            "# A\n\nName: Λ\n\n## Q\n\n*b* **c** `d` ***e***\n", encoding="utf-8"
        )
    assert run(tmp_path / "report.md", "--output", tmp_path / "r.pdf", "--quiet") == 0
    done = subprocess.run(
        [sys.executable, "-m", "report"],
        cwd=tmp_path / "elsewhere",
        env=os.environ | {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "assignment_3_report.pdf\n", "")
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == [report.OUTPUT, "report"]
    assert (tmp_path / "elsewhere" / report.OUTPUT).read_bytes() == (tmp_path / "r.pdf").read_bytes()
    assert pypdf.PdfReader(tmp_path / "r.pdf").metadata.author == "Λ"


def test_reading_arguments_imports_nothing_heavy():
    code = (
        "import sys\nfrom report import __main__ as report\nreport.build_parser().format_help()\n"
        "print([m for m in ('torch', 'numpy', 'matplotlib', 'PIL', 'fpdf', 'markdown_it') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
