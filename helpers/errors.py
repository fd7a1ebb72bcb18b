"""The two errors a user can mend. The runners print them as one line; anything else is a defect.

Kept apart from `cli` so that the loaders can raise them without importing argument parsing.
"""


class CannotError(RuntimeError):
    """The request is well formed but cannot be carried out (a file is missing, a download failed): exit 1."""


class UsageError(ValueError):
    """The request itself is wrong (an unknown class, layer or model): exit 2."""
