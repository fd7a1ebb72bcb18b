"""Files that are written whole or not at all."""

import contextlib
import hashlib
import os
import secrets
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from helpers.errors import CannotError

MAX_NAME = 255  # bytes of a file's name on common file systems


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


def is_same_file(one: Path, other: Path) -> bool:
    """Whether writing to both paths would leave one file, whether they exist yet or not.

    Links are followed. Where the names differ only as "a" and "A" do, or in how an accent is encoded, the file system
    is asked: a file of the one name is made in a temporary folder there, and looked for under the other.
    """
    (folder, names), (other_folder, other_names) = _existing_folder(one), _existing_folder(other)
    if not folder.samefile(other_folder) or [*map(_folded, names)] != [*map(_folded, other_names)]:
        return False
    if names == other_names:
        return True
    with tempfile.TemporaryDirectory(dir=folder) as trial:
        made = Path(trial, *names)
        made.parent.mkdir(parents=True, exist_ok=True)
        made.touch()
        return Path(trial, *other_names).exists()


def _existing_folder(path: Path) -> tuple[Path, list[str]]:
    """The deepest folder above `path` that exists, and the names from there on."""
    target = Path(os.path.realpath(path))
    names, folder = [target.name], target.parent
    while not folder.is_dir():
        names, folder = [folder.name, *names], folder.parent
    return folder, names


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def short_name(stem: str, ending: str) -> str:
    """The name of a file, stem and ending. Where that is longer than file systems allow, the stem is cut, and eight
    digits of its hash keep it apart from others that begin in the same way.
    """
    if len(os.fsencode(stem + ending)) <= MAX_NAME:
        return stem + ending
    ending = f"_{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}{ending}"
    while len(os.fsencode(stem + ending)) > MAX_NAME:
        stem = stem[:-1]
    return stem + ending
