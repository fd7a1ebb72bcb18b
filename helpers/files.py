"""Files that are written whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from helpers.errors import CannotError


@contextlib.contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """A temporary path to write to, in the folder of `path` and with its extension. At the end it is renamed to `path`;
    after an exception it is removed, and `path` is as before.

    The folder is created if needed. If `path` is a link, the file that it points to is replaced.
    Raises CannotError in place of an OSError.
    """
    target = Path(os.path.realpath(path))
    # A short name: a long one with something added could be longer than the file system allows.
    temporary = target.with_name(f".{secrets.token_hex(4)}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CannotError(f"{path} cannot be written: {error.strerror or error}") from error
