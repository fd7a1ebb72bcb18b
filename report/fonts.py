"""Fonts for the report: DejaVu, which comes with matplotlib, and the system's own for characters that it lacks."""

import functools
import re
from pathlib import Path

from fontTools.ttLib import TTFont, TTLibError
from fpdf import FPDF
from matplotlib import get_data_path
from matplotlib.font_manager import findSystemFonts

DEJAVU = Path(get_data_path(), "fonts", "ttf")  # has the Greek, the accents and the symbols of mathematics
TEXT_FONT = DEJAVU / "DejaVuSans.ttf"
OTHER_STYLES = ("bold", "black", "heavy", "medium", "light", "thin", "italic", "oblique", "mono")

WIDE = r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]"
# Not before a mark that closes, nor after one that opens.
BREAK = re.compile(rf"(?<={WIDE})(?={WIDE})(?![、。，．：；？！）」』】》〉])(?<![（「『【《〈])")


@functools.cache
def characters(path: Path) -> frozenset[str]:
    """The characters that a font draws; none for a file that is no outline font."""
    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            outlines = "glyf" in font or "CFF " in font
            return frozenset(map(chr, font.getBestCmap() or ())) if outlines else frozenset()
    except (OSError, TTLibError, AssertionError, ValueError):
        return frozenset()


def fallback_fonts(text: str) -> tuple[list[Path], set[str]]:
    """As few of the system's fonts as have the characters that DejaVu lacks, and the characters that none has."""
    fonts: list[Path] = []
    lacking = {c for c in text if not c.isspace()} - characters(TEXT_FONT)
    candidates = sorted(map(Path, findSystemFonts())) if lacking else []
    # Regular styles first.
    candidates.sort(key=lambda path: any(style in path.stem.lower() for style in OTHER_STYLES))
    while candidates and lacking:
        # Reading a font takes time: the first that has them all is the best.
        complete = (path for path in candidates if lacking <= characters(path))
        best = next(complete, None) or max(candidates, key=lambda path: len(lacking & characters(path)))
        if not lacking & characters(best):
            break
        fonts.append(best)
        lacking -= characters(best)
    return fonts, lacking


def add_fonts(pdf: FPDF, text: str) -> set[str]:
    """Gives a PDF the fonts "text", "code" and, for what DejaVu lacks, "other0", ...; the characters that none has."""
    for style, name in (("", ""), ("B", "-Bold"), ("I", "-Oblique"), ("BI", "-BoldOblique")):
        pdf.add_font("text", style, DEJAVU / f"DejaVuSans{name}.ttf")
    pdf.add_font("code", "", DEJAVU / "DejaVuSansMono.ttf")
    fonts, lacking = fallback_fonts(text)
    for i, path in enumerate(fonts):
        pdf.add_font(f"other{i}", "", path)
    families = ["text", *(f"other{i}" for i in range(len(fonts)))]
    pdf.set_fallback_fonts(families, exact_match=False)
    return lacking


def breakable(text: str) -> str:
    """The text with invisible places to break a line where no spaces are written: Chinese, Japanese and Korean."""
    return BREAK.sub("\N{ZERO WIDTH SPACE}", text)
