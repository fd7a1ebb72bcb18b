"""The two errors that a user can fix. The runners print them as one line; any other exception is a defect.

They are not in `cli`, so that the loaders can raise them without importing argument parsing.
"""

import difflib
from collections.abc import Iterable


class CannotError(RuntimeError):
    """The request is well formed but cannot be carried out (a file is missing, a download failed): exit 1."""


class UsageError(ValueError):
    """The request itself is wrong (an unknown class, layer or model): exit 2."""


def nearest(text: str, known: Iterable[str], what: str) -> UsageError:
    """The error for an unknown name: "no layer is called 'featurs.12': did you mean features.12?"."""
    known = list(known)
    near = difflib.get_close_matches(text, known, n=4, cutoff=0.5)
    hint = (
        f"did you mean {', '.join(near)}?"
        if near
        else f"there are {', '.join(known[:12])}" + ("..." if len(known) > 12 else "")
    )
    return UsageError(f"no {what} is called {text!r}: {hint}")
