"""Fonts of the report, and where its lines may break."""

import re

from fpdf import FPDF

from helpers.fonts import dejavu, fallback_fonts

WIDE = r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]"
# Not before a mark that closes, nor after one that opens.
BREAK = re.compile(rf"(?<={WIDE})(?={WIDE})(?![、。，．：；？！）」』】》〉])(?<![（「『【《〈])")


def add_fonts(pdf: FPDF, text: str) -> set[str]:
    """Gives a PDF the fonts "text", "code" and, for what DejaVu lacks, "other0", ...; the characters that none has."""
    for style, name in (("", ""), ("B", "-Bold"), ("I", "-Oblique"), ("BI", "-BoldOblique")):
        pdf.add_font("text", style, dejavu(f"DejaVuSans{name}"))
    pdf.add_font("code", "", dejavu("DejaVuSansMono"))
    fonts, lacking = fallback_fonts(text)
    for i, path in enumerate(fonts):
        pdf.add_font(f"other{i}", "", path)
    families = ["text", *(f"other{i}" for i in range(len(fonts)))]
    pdf.set_fallback_fonts(families, exact_match=False)
    return lacking


def breakable(text: str) -> str:
    """The text with invisible places to break a line where no spaces are written: Chinese, Japanese and Korean."""
    return BREAK.sub("\N{ZERO WIDTH SPACE}", text)
