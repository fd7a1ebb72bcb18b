"""What the judge shares with the child that runs a student's code: plain arrays, and one error."""

import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]  # float32 and float64 only, so that no pickle is needed to send them
Execute = Callable[[str, Arrays], Arrays]  # operation, inputs -> outputs; raises ChildError

KINDS = ("exception", "timeout", "memory", "died", "protocol", "import", "not_implemented")
# After one of these the task is not asked again. An exception may concern a single input.
FATAL_KINDS = frozenset(KINDS) - {"exception"}
MESSAGE_LIMIT = 500  # characters


class ChildError(Exception):
    """A student's code gave no answer. `kind`: one of KINDS. `message`: one line for the student."""

    def __init__(self, kind: str, message: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"{kind} is not a kind of child error: {', '.join(KINDS)}")
        self.kind = kind
        self.message = " ".join(str(message).split())[:MESSAGE_LIMIT]
        super().__init__(f"{kind}: {self.message}")


def child_error(error: BaseException, root: Path) -> ChildError:
    """An exception of a student's code -> its kind, and one line: its message with the file and line in the student's
    code.
    """
    where = ""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(root) and not file.is_relative_to(root / "grading"):
            where = f" ({file.relative_to(root)}:{frame.lineno})"
            break
    try:
        text = " ".join([str(error), *getattr(error, "__notes__", ())])
    except BaseException:  # a hostile __str__ must not hide that there was an error
        text = "(its message cannot be read)"
    kind = "not_implemented" if isinstance(error, NotImplementedError) else "exception"
    if isinstance(error, (ImportError, SyntaxError)):
        kind = "import"
    if isinstance(error, MemoryError):
        kind = "memory"
    return ChildError(kind, f"{type(error).__name__}: {text[:MESSAGE_LIMIT]}{where}")
