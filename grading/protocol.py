"""What the judge shares with the child that runs a student's code: plain arrays, and one error."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from grading import hints

Arrays = dict[str, np.ndarray]  # float32 and float64 only, so that no pickle is needed to send them
Execute = Callable[[str, Arrays], Arrays]  # operation, inputs -> outputs; raises ChildError

KINDS = ("exception", "timeout", "memory", "died", "protocol", "import", "missing", "not_implemented")
# After one of these the task is not asked again. An exception may concern a single input.
FATAL_KINDS = frozenset(KINDS) - {"exception"}
MESSAGE_LIMIT = 500  # characters
READ_LIMIT = 2000  # of a message, before it is shortened: searching longer ones takes time
SHORT = 40
QUOTED = 180  # characters of a message that is explained


class ChildError(Exception):
    """A student's code gave no answer. `kind`: one of KINDS. `message`: one line for the student."""

    def __init__(self, kind: str, message: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"{kind} is not a kind of child error: {', '.join(KINDS)}")
        self.kind = kind
        text = " ".join(str(message).split())[:MESSAGE_LIMIT]
        # Escape codes would reach the terminal; half of a surrogate pair cannot be printed at all.
        self.message = "".join(c if c.isprintable() else "?" for c in text)
        super().__init__(f"{kind}: {self.message}")


def child_error(error: BaseException, root: Path, operation: str = "") -> ChildError:
    """An exception of a student's code -> its kind, and one line: its message, the file and line in the student's code,
    and what to do about it. `root`: the folder of the code. `operation`: the one that was asked for.
    """
    name = type(error).__name__
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error)[:READ_LIMIT]
        notes = " ".join(getattr(error, "__notes__", ()))[:SHORT]
    except BaseException:  # a hostile __str__ must not hide that there was an error
        text, notes = "(its message cannot be read)", ""
    text = hints.without_paths(" ".join(text.split()), root)
    kind = "exception"
    if isinstance(error, NotImplementedError) and hints.raised_by_student(error, root):
        kind = "not_implemented"  # by a stub, not by torch for a class without forward
    if isinstance(error, (ImportError, SyntaxError)):
        kind = "import"
    if isinstance(error, MemoryError):
        kind = "memory"
    where, code = hints.place_of(error, root)
    advice = ""
    if kind in ("exception", "import"):
        advice = hints.advice(f"{name}: {text}", code, operation, inside=bool(where))
    where = where or hints.definition_of(operation, root)
    end = "".join(
        [f" {notes}" if notes else "", f" ({where})" if where else "", f". {advice}" if advice else ""]
    )
    shown = min(MESSAGE_LIMIT - len(end) - len(name) - 2, QUOTED if advice else MESSAGE_LIMIT)
    text = text if len(text) <= shown else f"{text[: shown - 3]}..."
    return ChildError(kind, f"{name}: {text.rstrip('.') if end else text}{end}")
