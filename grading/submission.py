"""Reads a submission, a zip or a folder, without trusting it: only the seven graded files, and only up to a size.

All other files are ignored and listed. The graded files are put beside our own helpers, so that other files that a
student adds or changes make no difference.
"""

import codecs
import hashlib
import io
import re
import stat
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

GRADED_FILES = (
    "visualizers/class_visualization.py",
    "visualizers/saliency_map.py",
    "visualizers/gradcam.py",
    "style_modules/content_loss.py",
    "style_modules/style_loss.py",
    "style_modules/tv_loss.py",
    "style_utils.py",
)
# What the graded files import: always our own copies.
BESIDE_GRADED = (
    *("helpers/**/*.py", "helpers/**/*.json", "helpers/**/*.txt"),
    "visualizers/mechanisms.py",
)
# The packages' published names. Each is imported from its own file, so that a broken file costs only its own task.
PACKAGES = {
    "visualizers": {
        "ClassVisualization": "class_visualization",
        "GradCam": "gradcam",
        "SaliencyMap": "saliency_map",
    },
    "style_modules": {
        "ContentLoss": "content_loss",
        "StyleLoss": "style_loss",
        "TotalVariationLoss": "tv_loss",
    },
}

FILE_LIMIT = 256 << 10
ZIP_LIMIT = 150 << 20
ENTRY_LIMIT = 20_000
DIRECTORY_LIMIT = 4 << 20  # bytes of a zip's list of files
SHOWN = 40  # characters of a hostile name in a message
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class UnreadableError(Exception):
    """The submission cannot be read: not a zip, too large, or damaged. One line for the student."""


@dataclass
class Submission:
    """The graded files found (name -> UTF-8 source), the names of ignored files, and notes for the student."""

    files: dict[str, bytes] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        return [name for name in GRADED_FILES if name not in self.files]

    @property
    def digest(self) -> str:
        """SHA-256 of the names and contents of the graded files, however they were packed."""
        digest = hashlib.sha256()
        for name in sorted(self.files):
            digest.update(f"{name}\0{len(self.files[name])}\0".encode() + self.files[name])
        return digest.hexdigest()

    @property
    def receipt(self) -> str:
        """The first 20 digits of the digest (80 bits), in groups of four: short enough to copy by hand."""
        return "-".join(re.findall("....", self.digest[:20].upper()))

    def leftovers(self) -> list[str]:
        """Prints and breakpoints in the graded files, as file:line. They cost no points."""
        found = []
        for name, source in sorted(self.files.items()):
            for number, line in _code_lines(source):
                if match := re.search(r"(?<![\w.])(?:i?pdb\.)?(print|breakpoint|set_trace)\s*\(", line):
                    found.append(f"{name}:{number}: {match[1]}()")
        return found

    def write(self, folder: Path, project: Path) -> Path:
        """Writes the graded files to `folder`, with our own helpers from `project` beside them."""
        for pattern in BESIDE_GRADED:
            for path in sorted(project.glob(pattern)):
                _put(folder, path.relative_to(project).as_posix(), path.read_bytes())
        for package, names in PACKAGES.items():
            _put(folder, f"{package}/__init__.py", _lazy(names).encode())
        for name, source in self.files.items():
            _put(folder, name, source)
        return folder


def read_submission(path: Path) -> Submission:
    """The submission in a zip file or a folder. Raises UnreadableError."""
    try:
        return _read_folder(path) if path.is_dir() else _read_zip(path)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from error


def _read_zip(path: Path) -> Submission:
    size = path.stat().st_size
    if size > ZIP_LIMIT:
        raise UnreadableError(f"the zip is {size >> 20} MB; {ZIP_LIMIT >> 20} MB are accepted")
    with path.open("rb") as stream:
        _check_directory(stream, size)
        stream.seek(0)
        try:
            with zipfile.ZipFile(stream) as archive:
                return _from_entries(archive)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error) as error:
            raise UnreadableError(f"not a zip file, or a damaged one ({_shown(str(error))})") from error


def _check_directory(stream: io.BufferedReader, size: int) -> None:
    """Refuses a huge list of files before zipfile turns it into objects."""
    stream.seek(max(0, size - 65_557))  # the end record is 22 bytes, a comment at most 65535
    tail = stream.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) - place < 22:
        raise UnreadableError("not a zip file, or a damaged one")
    entries, length = struct.unpack("<HI", tail[place + 10 : place + 16])
    if entries == 0xFFFF or length > DIRECTORY_LIMIT:
        raise UnreadableError(f"the zip lists {length >> 10} kB of names: make it with collect_submission.py")


def _from_entries(archive: zipfile.ZipFile) -> Submission:
    entries = archive.infolist()
    if len(entries) > ENTRY_LIMIT:
        raise UnreadableError(f"the zip has {len(entries)} entries; {ENTRY_LIMIT} are accepted")
    submission = Submission()
    plain: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        name = entry.filename.replace("\\", "/")  # as some Windows tools write them
        reason = _reason_to_ignore(name, entry.external_attr >> 16)
        if reason:
            submission.ignored.append(f"{_shown(name)} ({reason})")
        elif not name.endswith("/"):
            plain[name] = entry  # the last of several counts, as when unpacking
    twice = Counter(entry.filename.replace("\\", "/") for entry in entries)
    inside = _inside(plain, submission)
    for name, full in inside.items():
        entry = plain[full]
        if twice[full] > 1:
            submission.notes.append(f"{name} is in the zip {twice[full]} times: the last one counts")
        if entry.flag_bits & 1:
            submission.notes.append(f"{name} is encrypted and was not read: make the zip without a password")
        elif entry.compress_type not in METHODS:
            submission.notes.append(
                f"{name} is compressed in an unusual way and was not read: make an ordinary zip"
            )
        else:
            try:
                with archive.open(entry) as stream:
                    _accept(submission, name, stream.read(FILE_LIMIT + 1))
            except (
                zipfile.BadZipFile,
                zlib.error,
                OSError,
                ValueError,
                EOFError,
                NotImplementedError,
            ) as error:
                submission.notes.append(
                    f"{name} is damaged in the zip and was not read ({_shown(str(error))})"
                )
    return submission


def _read_folder(root: Path) -> Submission:
    """A folder, as Gradescope unpacks submissions. Links are not followed."""
    submission = Submission()
    plain: dict[str, Path] = {}
    for name in GRADED_FILES:
        for place in (
            root,
            *sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink()),
        ):
            path = place / name
            if path.is_symlink() or any(p.is_symlink() for p in path.parents if root in p.parents):
                submission.ignored.append(f"{_shown(path.relative_to(root).as_posix())} (a link)")
            elif path.is_file():
                plain[path.relative_to(root).as_posix()] = path
    for name, full in _inside(plain, submission).items():
        with plain[full].open("rb") as stream:
            _accept(submission, name, stream.read(FILE_LIMIT + 1))
    return submission


def _reason_to_ignore(name: str, mode: int) -> str:
    path = PurePosixPath(name)
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return "an absolute path"
    if ".." in path.parts:
        return "a path that leaves the folder"
    if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
        return "a link" if stat.S_ISLNK(mode) else "not an ordinary file"
    return ""


def _inside(names: Iterable[str], submission: Submission) -> dict[str, str]:
    """The graded files among `names`: graded name -> its name here. All of them may be in one folder."""
    names = list(names)
    wrappers = Counter(
        prefix
        for name in names
        for graded in GRADED_FILES
        if name.endswith(graded) and (prefix := name.removesuffix(graded)).count("/") == bool(prefix)
        if not prefix.startswith("__MACOSX")
    )
    # Files at the top come before files in a folder; of several folders, the one with the most files counts.
    wrapper = min(wrappers, key=lambda prefix: (prefix != "", -wrappers[prefix], prefix), default="")
    if wrapper:
        submission.notes.append(
            f"the files are in a folder {_shown(wrapper)}: please zip them without the folder"
        )
    inside = {graded: wrapper + graded for graded in GRADED_FILES if wrapper + graded in names}
    taken = set(inside.values())
    submission.ignored += [_shown(name) for name in names if name not in taken]
    for graded in GRADED_FILES:
        near = [name for name in names if name.lower().endswith(graded.lower())]
        if graded not in inside and near:
            submission.notes.append(
                f"{graded} is missing, but there is {_shown(near[0])}: move it to {graded}"
            )
    return inside


def _accept(submission: Submission, name: str, data: bytes) -> None:
    if len(data) > FILE_LIMIT:
        submission.notes.append(f"{name} is larger than {FILE_LIMIT >> 10} kB and was not read")
        return
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError):
        encoding = "utf-16" if data.startswith(UTF_16) else "latin-1"
        text = data.decode(encoding, errors="replace")
        # Python would still believe the wrong encoding that the file declares.
        lines = text.split("\n")
        lines[:2] = [re.sub(r"coding[=:]", "coding ", line) for line in lines[:2]]
        data = "\n".join(lines).encode("utf-8", errors="replace")
        submission.notes.append(f"{name} is not UTF-8 and was read as {encoding}: save it as UTF-8")
    submission.files[name] = data


def _code_lines(source: bytes) -> list[tuple[int, str]]:
    """The lines of a source without comments and strings; none if it cannot be parsed."""
    lines: dict[int, str] = {}
    try:
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            if token.type in (tokenize.NAME, tokenize.OP):
                number = token.start[0]
                lines[number] = lines.get(number, "").ljust(token.start[1]) + token.string
    except (SyntaxError, tokenize.TokenError, ValueError, UnicodeDecodeError):
        return []
    return sorted(lines.items())


def _lazy(names: Mapping[str, str]) -> str:
    return (
        "import importlib\n\n"
        f"NAMES = {dict(names)!r}\n\n\n"
        "def __getattr__(name):\n"
        "    if name in NAMES:\n"
        "        return getattr(importlib.import_module(f'{__name__}.{NAMES[name]}'), name)\n"
        "    raise AttributeError(name)\n"
    )


def _shown(name: str) -> str:
    """Any name as a short printable text."""
    name = "".join(c if c.isprintable() else "?" for c in name)
    return name if len(name) <= 2 * SHOWN else f"{name[:SHOWN]}...{name[-SHOWN:]}"


def _put(folder: Path, name: str, data: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
