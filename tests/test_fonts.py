"""Text is drawn as it is, by fonts that have its characters."""

import matplotlib.font_manager
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from helpers import fonts
from helpers.figures import Cell, noted, save_grid, width_of, wrapped, write
from helpers.fonts import dejavu, drawable, font_file


def tiny_font(path, characters):
    """A font that has a square for each of the characters."""
    pen = TTGlyphPen(None)
    for point in ((0, 0), (0, 800), (800, 800), (800, 0)):
        (pen.lineTo if point != (0, 0) else pen.moveTo)(point)
    pen.closePath()
    names = [".notdef", *(f"u{ord(c):X}" for c in characters)]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"u{ord(c):X}" for c in characters})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular", "psName": path.stem})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_the_fewest_fonts_are_chosen_regular_ones_first(tmp_path, monkeypatch):
    some, bold, regular, rest = (
        tiny_font(tmp_path / f"{name}.ttf", characters)
        for name, characters in (("A", "王"), ("B-Bold", "王小"), ("B-Regular", "王小"), ("C", "字"))
    )
    (tmp_path / "broken.ttf").write_text("no font")
    found = [tmp_path / "broken.ttf", some, bold, regular, rest]
    monkeypatch.setattr(matplotlib.font_manager, "findSystemFonts", lambda: list(map(str, found)))
    assert fonts.fallback_fonts("a王小") == ([regular], set())
    assert fonts.fallback_fonts("王小字明") == ([regular, rest], {"明"})
    assert fonts.fallback_fonts("∂λ‖é") == ([], set())


@pytest.fixture
def system(monkeypatch):
    """-> a function that makes these the system's only fonts; what was found before is forgotten."""

    def use(*paths):
        monkeypatch.setattr(fonts, "system_fonts", lambda: list(paths))

    monkeypatch.setattr(fonts, "_files", {})
    use()
    return use


def test_what_dejavu_has_is_left_as_it_is_and_no_font_is_read(monkeypatch):
    monkeypatch.setattr(fonts, "fallback_fonts", None)
    for text in ("$x_1^2$", r"\\alpha $\\frac{1}{2}$ 100 % #1 {a}", "für d'été, Łódź", "a\nb"):
        assert drawable(text) == text
        assert all(font_file(c) == dejavu() for c in text)


def test_characters_that_dejavu_lacks_are_drawn_by_a_font_that_has_them(system, tmp_path):
    tiny = tiny_font(tmp_path / "tiny.ttf", "雪山")
    system(tiny)
    assert drawable("雪 a山λ") == "雪 a山λ"
    assert [font_file(c) for c in "雪aλ山"] == [tiny, dejavu(), dejavu(), tiny]
    # In this font each is a square of one em: 15 points are 25 pixels.
    assert width_of("雪山", 15) == pytest.approx(50, abs=1)
    assert width_of("a雪山", 15) == pytest.approx(50 + width_of("a", 15), abs=1)


def black(page):
    """The first and the last column, then row, with ink."""
    rows, columns = np.nonzero(np.asarray(page.convert("L")) < 128)
    return columns.min(), columns.max(), rows.min(), rows.max()


@pytest.mark.parametrize(("anchor", "x"), [("la", 100), ("ma", 150), ("ra", 200)])
def test_a_line_of_two_fonts_stands_where_one_of_one_font_would(system, tmp_path, anchor, x):
    system(tiny_font(tmp_path / "tiny.ttf", "雪"))
    page = Image.new("RGB", (300, 60), "white")
    width = width_of(drawable("H雪H"), 15)
    write(page, (x, 10), ["H雪H"], 15, "black", anchor)
    left, right, top, bottom = black(page)
    start = x - {"la": 0, "ma": width / 2, "ra": width}[anchor]
    assert start - 1 <= left <= start + 5 and start + width - 6 <= right <= start + width + 1
    plain = Image.new("RGB", (300, 60), "white")
    write(plain, (x, 10), ["HHH"], 15, "black", anchor)
    assert abs(bottom - black(plain)[3]) <= 1  # one base line
    middle = np.asarray(page)[top:bottom, int(start + width / 2), 0]
    assert (middle < 128).mean() > 0.8  # the square


def test_what_no_font_has_is_written_readably_and_told_once(system, caplog):
    assert drawable("雪 and 雪山") == r"\u96ea and \u96ea\u5c71"
    assert drawable("\U0001f408") == r"\U0001f408"
    assert drawable("雪") == r"\u96ea"
    assert [record.getMessage() for record in caplog.records] == [
        "note: no font on this computer has 山 雪; install a font that has them",
        "note: no font on this computer has \U0001f408; install a font that has them",
    ]


def test_bytes_and_controls_are_shown_and_marks_of_the_layout_left_out(system):
    assert drawable(b"caf\xe9.jpg".decode("utf-8", "surrogateescape")) == r"caf\xe9.jpg"
    assert drawable("\x1b[31mred\x07\x7f\x9b") == r"\x1b[31mred\x07\x7f\x9b"
    assert drawable("a\u202eb\u200dc\ufe0fd\u00ade") == "abcde"
    assert drawable("a\tb\u3000c\u00a0d") == "a b c d"
    assert drawable("\ud800") == r"\ud800"  # half of a pair, as from a JSON file


def test_long_names_without_spaces_are_broken_and_nothing_is_lost(system, tmp_path):
    system(tiny_font(tmp_path / "tiny.ttf", "雪"))
    lines = wrapped("雪" * 30, 15, 110)
    assert lines == ["雪" * 4] * 7 + ["雪" * 2]


def test_a_figure_of_such_names_is_drawn(system, tmp_path):
    grey = np.full((30, 30, 3), 60, dtype=np.uint8)
    names = ["$a_b^", "$", "雪", b"\xff".decode("utf-8", "surrogateescape"), "a\nb", r"$\\frac{$"]
    path = save_grid(
        tmp_path / "g.png", [[Cell(grey, name, name, name) for name in names]], heading="雪", note="$"
    )
    assert Image.open(path).width > 1000


def test_a_note_stands_under_the_picture():
    page = noted(Image.new("RGB", (400, 50), "black"), "$x$ in the style of y")
    assert page.width == 400 and page.height > 60
    below = np.asarray(page.convert("L"))[50:]
    assert (np.asarray(page)[:50] == 0).all() and (below < 200).any() and (below[:, :20] == 255).all()
