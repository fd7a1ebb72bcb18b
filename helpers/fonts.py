"""Fonts: DejaVu, which comes with matplotlib, and the system's own for characters that it lacks.

matplotlib and fontTools are imported only where a text has such characters: the import takes as long as a figure.
"""

import contextlib
import functools
import importlib.util
import logging
import sys
import unicodedata
from pathlib import Path

from helpers.errors import CannotError

OTHER_STYLES = ("bold", "black", "heavy", "medium", "light", "thin", "italic", "oblique", "mono")
LAST_LATIN = "\u024f"  # DejaVu has all printable characters up to here

log = logging.getLogger(__name__)


@functools.cache
def dejavu(name: str = "DejaVuSans") -> Path:
    """The file of a DejaVu font, which has the Greek, the accents and the symbols of mathematics."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise CannotError(
            "the package matplotlib is not installed here: run `make env`, or activate cs7643-a3"
        )
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf"


def import_matplotlib() -> None:
    """Imports matplotlib with its own defaults: neither a `matplotlibrc` in the current folder nor the user's has a say
    in what a figure looks like, and a damaged one in whether there is a figure. To be called before each import of it.
    """
    if "matplotlib" in sys.modules:
        return
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of its caches, which nobody asked about
    with contextlib.ExitStack() as stack:
        # It reads the file in the current folder first, and in this one its own defaults are.
        with contextlib.suppress(FileNotFoundError):  # the current folder was removed
            stack.enter_context(contextlib.chdir(dejavu().parents[2]))
        importlib.import_module("matplotlib")


@functools.cache
def characters(path: Path) -> frozenset[str]:
    """The characters that a font draws; none for a file that is no outline font."""
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            outlines = "glyf" in font or "CFF " in font
            return frozenset(map(chr, font.getBestCmap() or ())) if outlines else frozenset()
    except (OSError, TTLibError, AssertionError, ValueError):
        return frozenset()


def system_fonts() -> list[Path]:
    """The system's fonts, regular styles first."""
    import_matplotlib()
    from matplotlib.font_manager import findSystemFonts

    found = sorted(map(Path, findSystemFonts()))
    return sorted(found, key=lambda path: any(style in path.stem.lower() for style in OTHER_STYLES))


def fallback_fonts(text: str) -> tuple[list[Path], set[str]]:
    """As few of the system's fonts as have the characters that DejaVu lacks, and the characters that none has."""
    fonts: list[Path] = []
    lacking = {c for c in text if not c.isspace()} - characters(dejavu())
    candidates = system_fonts() if lacking else []
    while candidates and lacking:
        # Reading a font takes time: the first that has them all is the best.
        complete = (path for path in candidates if lacking <= characters(path))
        best = next(complete, None) or max(candidates, key=lambda path: len(lacking & characters(path)))
        if not lacking & characters(best):
            break
        fonts.append(best)
        lacking -= characters(best)
    return fonts, lacking


_files: dict[
    str, Path | None
] = {}  # the font of each character beyond Latin that was met; None: no font has it


def font_file(character: str) -> Path:
    """The font that draws a character of a `drawable` text."""
    return _files.get(character) or dejavu()


def drawable(text: str) -> str:
    """The text in characters that some font of this computer draws, each by its `font_file`.

    What cannot be drawn is written as Python writes it: a byte that is no UTF-8 as \\xff, a control character as \\x1b,
    a character that no font has as \\u96ea; of these the log tells, once. Spaces of all kinds become spaces, but lines
    stay lines; marks that only direct the layout are left out.
    """
    if new := {c for c in text if c > LAST_LATIN and c not in _files and not _has_no_shape(c)}:
        fonts, missing = fallback_fonts("".join(sorted(new)))
        for c in new:
            _files[c] = next((path for path in (dejavu(), *fonts) if c in characters(path)), None)
        if missing:
            shown = " ".join(sorted(missing)[:20])
            log.warning("note: no font on this computer has %s; install a font that has them", shown)
    return "".join(map(_drawn, text))


def _has_no_shape(c: str) -> bool:
    """Whether a character is a space, a surrogate, or for the layout alone: joins, directions, variants of emoji."""
    return c.isspace() or unicodedata.category(c) in ("Cf", "Cs") or "\ufe00" <= c <= "\ufe0f"


def _drawn(c: str) -> str:
    kind = unicodedata.category(c)
    if c.isspace():
        return c if c == "\n" else " "
    if "\udc80" <= c <= "\udcff":  # Python's sign for a byte of a file's name that is not UTF-8
        return f"\\x{ord(c) - 0xDC00:02x}"
    if kind in ("Cc", "Cs") or (c in _files and _files[c] is None):
        return c.encode("unicode_escape").decode("ascii")
    return "" if _has_no_shape(c) else c
