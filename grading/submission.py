"""Reads a submission, a zip or a folder, without trusting it: only the seven graded files, and only up to a size.

All other files are ignored and listed. The graded files are put beside our own helpers, so that other files that a
student adds or changes make no difference.
"""

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import re
import stat
import struct
import tarfile
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from helpers.errors import CannotError

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

# What archives end in, and formats that need other programs, by their first bytes.
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".rar", ".7z")
FOREIGN = {b"Rar!": "a RAR archive", b"7z\xbc\xaf": "a 7z archive", b"\x28\xb5\x2f\xfd": "a zstd archive"}
DEEPEST, DEEPEST_ARCHIVE, MOST_ARCHIVES = 3, 2, 10  # folders, archives in each other, archives side by side
# Reading a hostile archive from memory may raise any of these.
DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
    *(ValueError, OverflowError, RuntimeError, LookupError),
)
# Python has them, but decoding fails, or takes time that grows with the square of the length.
ODD_ENCODINGS = {"undefined", "punycode", "idna"}
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
    """The submission in a zip, a tar archive, one Python file or a folder; an archive may also be inside a folder or an
    archive. Raises UnreadableError for what is damaged, and CannotError for what cannot be read on this machine.
    """
    try:
        if path.is_dir():
            return _from_members(_folder_members(path), depth=0)
        size = path.stat().st_size
        if size > ZIP_LIMIT:
            raise UnreadableError(f"the file is {size >> 20} MB; {ZIP_LIMIT >> 20} MB are accepted")
        data = path.read_bytes()
    except OSError as error:
        raise CannotError(f"{_shown(path.name)} cannot be read here: {error.strerror or error}") from error
    if path.suffix.lower() == ".py":
        return _from_members([_Member(path.name, lambda limit: data[:limit])], depth=0)
    return _from_archive(data, depth=0)


@dataclass
class _Member:
    """A file in a folder or an archive: its name with slashes, and a function that reads it up to a limit."""

    name: str
    read: Callable[[int], bytes]
    problem: str = ""  # why it is not to be read
    ignore: str = ""  # why it is none of ours


def _from_archive(data: bytes, depth: int) -> Submission:
    for magic, kind in FOREIGN.items():
        if data.startswith(magic):
            raise CannotError(f"{kind} cannot be read here: unpack it into a folder, and grade that")
    try:
        if unpacked := _untarred(data):
            with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as tar:
                return _from_members(_tar_members(tar), depth)
        stream = io.BytesIO(data)
        _check_directory(stream, len(data))
        stream.seek(0)
        with zipfile.ZipFile(stream) as archive:
            return _from_members(_zip_members(archive), depth)
    except DAMAGE as error:
        raise UnreadableError(f"not a zip file, or a damaged one ({_shown(str(error))})") from error


def _untarred(data: bytes) -> bytes:
    """The plain tar archive in the data; nothing if there is none."""
    for magic, opened in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open)):
        if data.startswith(magic):
            with opened(io.BytesIO(data)) as stream:
                data = stream.read(ZIP_LIMIT + 1)
            if len(data) > ZIP_LIMIT:
                raise UnreadableError(f"the archive unpacks to more than {ZIP_LIMIT >> 20} MB")
            break
    return data if data[257:262] == b"ustar" else b""


def _check_directory(stream: io.BytesIO, size: int) -> None:
    """Refuses a huge list of files before zipfile turns it into objects."""
    stream.seek(max(0, size - 65_557))  # the end record is 22 bytes, a comment at most 65535
    tail = stream.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) - place < 22:
        raise UnreadableError("not a zip file, or a damaged one")
    entries, length = struct.unpack("<HI", tail[place + 10 : place + 16])
    if entries == 0xFFFF or length > DIRECTORY_LIMIT:
        raise UnreadableError(f"the zip lists {length >> 10} kB of names: make it with collect_submission.py")


def _zip_members(archive: zipfile.ZipFile) -> list[_Member]:
    entries = archive.infolist()
    if len(entries) > ENTRY_LIMIT:
        raise UnreadableError(f"the zip has {len(entries)} entries; {ENTRY_LIMIT} are accepted")

    def member(entry: zipfile.ZipInfo) -> _Member:
        def read(limit: int) -> bytes:
            with archive.open(entry) as stream:
                return stream.read(limit)

        problem = ""
        if entry.flag_bits & 1:
            problem = "is encrypted and was not read: make the zip without a password"
        elif entry.compress_type not in METHODS:
            problem = "is compressed in an unusual way and was not read: make an ordinary zip"
        name = entry.filename.replace("\\", "/")  # as some Windows tools write them
        return _Member(name, read, problem, _reason_to_ignore(name, entry.external_attr >> 16))

    return [member(entry) for entry in entries]


def _tar_members(archive: tarfile.TarFile) -> list[_Member]:
    members: list[_Member] = []
    for entry in archive:
        if len(members) >= ENTRY_LIMIT:
            raise UnreadableError(f"the archive has more than {ENTRY_LIMIT} entries")

        def read(limit: int, entry: tarfile.TarInfo = entry) -> bytes:
            stream = archive.extractfile(entry)
            return stream.read(limit) if stream else b""

        name = entry.name.replace("\\", "/").removeprefix("./") + "/" * entry.isdir()
        odd = "" if entry.isfile() or entry.isdir() else "a link" if entry.issym() else "not an ordinary file"
        members.append(_Member(name, read, "", odd or _reason_to_ignore(name, 0)))
    return members


def _folder_members(root: Path) -> list[_Member]:
    """The files below a folder. Links are not followed. Raises OSError for a folder that cannot be read."""
    members: list[_Member] = []
    waiting = [(root, "", 0)]
    while waiting:
        folder, prefix, depth = waiting.pop(0)
        for path in sorted(folder.iterdir()):
            name = (prefix + path.name).replace("\\", "/")
            if path.is_symlink():
                members.append(_Member(name, lambda _limit: b"", ignore="a link"))
            elif path.is_dir():
                if depth < DEEPEST and not path.name.startswith("."):
                    waiting.append((path, f"{prefix}{path.name}/", depth + 1))
            elif path.is_file():

                def read(limit: int, path: Path = path) -> bytes:
                    try:
                        with path.open("rb") as stream:
                            return stream.read(limit)
                    except OSError as error:  # says nothing about the work
                        raise CannotError(f"{path.name} cannot be read here: {error.strerror}") from error

                members.append(_Member(name, read, "", _reason_to_ignore(name, 0)))
            if len(members) > ENTRY_LIMIT:
                raise UnreadableError(f"the folder has more than {ENTRY_LIMIT} entries")
    return members


def _from_members(members: Iterable[_Member], depth: int) -> Submission:
    submission = Submission()
    plain: dict[str, _Member] = {}
    times: Counter[str] = Counter()
    for member in members:
        if member.ignore:
            submission.ignored.append(f"{_shown(member.name)} ({member.ignore})")
        elif not member.name.endswith("/"):
            plain[member.name] = member  # the last of several counts, as when unpacking
            times[member.name] += 1
    inside = _inside(plain, submission)
    for name, full in inside.items():
        member = plain[full]
        if times[full] > 1:
            submission.notes.append(f"{name} is in the zip {times[full]} times: the last one counts")
        if member.problem:
            submission.notes.append(f"{name} {member.problem}")
            continue
        try:
            data = member.read(FILE_LIMIT + 1)
        except DAMAGE as error:
            submission.notes.append(f"{name} is damaged in the zip and was not read ({_shown(str(error))})")
            continue
        if full.endswith("helpers/style_utils.py"):
            # It was written for another folder, which its relative imports mean.
            data = re.sub(rb"(?m)^(\s*from )\.(?=[\w ])", rb"\1helpers.", data).replace(
                b"helpers. ", b"helpers "
            )
        _accept(submission, name, data)
    if not inside and depth < DEEPEST_ARCHIVE:
        return _in_an_archive(plain, submission, depth)
    return submission


def _in_an_archive(plain: Mapping[str, _Member], outer: Submission, depth: int) -> Submission:
    """The submission in an archive among these files: the one with the most graded files. `outer` if there is none."""
    found, reasons = [], []
    names = [name for name in plain if name.lower().endswith(ARCHIVES) and not _is_of_a_system(name)]
    for name in names[:MOST_ARCHIVES]:
        try:
            data = plain[name].read(ZIP_LIMIT + 1)
            if plain[name].problem or len(data) > ZIP_LIMIT:
                raise UnreadableError(plain[name].problem or "is too large")
            found.append((name, _from_archive(data, depth + 1)))
        except (UnreadableError, *DAMAGE) as error:
            reasons.append(f"{_shown(name)}: {_shown(str(error))}")
    outer.notes += reasons
    found = [(name, inner) for name, inner in found if inner.files]
    if not found:
        if reasons:
            raise UnreadableError("; ".join(reasons[:3]))
        return outer
    name, best = max(found, key=lambda pair: len(pair[1].files))  # the first of equals
    best.notes.insert(
        0, f"the files are in {_shown(name)}" + (f", one of {len(names)} archives" if len(names) > 1 else "")
    )
    best.ignored += [_shown(other) for other in plain if other != name]
    return best


def _reason_to_ignore(name: str, mode: int) -> str:
    path = PurePosixPath(name)
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return "an absolute path"
    if ".." in path.parts:
        return "a path that leaves the folder"
    if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
        return "a link" if stat.S_ISLNK(mode) else "not an ordinary file"
    return ""


def wrappers(names: Iterable[str]) -> Counter[str]:
    """The folders ("" or with a slash at the end) in which there are graded files at their places -> how many."""
    found: Counter[str] = Counter()
    for name in names:
        for graded in GRADED_FILES:
            if (name == graded or name.endswith(f"/{graded}")) and not _is_of_a_system(name):
                prefix = name.removesuffix(graded)
                if graded == "style_utils.py" and (prefix == "helpers/" or prefix.endswith("/helpers/")):
                    prefix = prefix.removesuffix("helpers/")  # the newest published layout
                if prefix.count("/") <= DEEPEST:
                    found[prefix] += 1
    return found


def _is_of_a_system(name: str) -> bool:
    return any(part.startswith(".") or part in ("__MACOSX", "site-packages") for part in name.split("/"))


def _inside(names: Iterable[str], submission: Submission) -> dict[str, str]:
    """The graded files among `names`: graded name -> its name here. All of them may be in a folder, or side by side
    without their folders.
    """
    names = list(names)
    found = wrappers(names)
    flat = not any(prefix + graded in names for prefix in found for graded in GRADED_FILES if "/" in graded)
    if flat:
        by_file = {PurePosixPath(graded).name: graded for graded in GRADED_FILES}
        side_by_side: Counter[str] = Counter()
        for name in names:
            prefix, _, last = name.rpartition("/")
            if bare(last) in by_file and name.count("/") <= DEEPEST and not _is_of_a_system(name):
                side_by_side[f"{prefix}/" if prefix else ""] += 1
        flat = bool(side_by_side) and max(side_by_side.values()) > max(found.values(), default=0)
        if flat:
            wrapper = min(side_by_side, key=lambda prefix: (-side_by_side[prefix], prefix.count("/"), prefix))
            inside: dict[str, str] = {}
            for name in names:
                last = name.removeprefix(wrapper)
                if name.startswith(wrapper) and "/" not in last and (graded := by_file.get(bare(last))):
                    inside.setdefault(graded, name)
            for graded, name in inside.items():
                if name != graded:
                    submission.notes.append(
                        f"{graded} was found as {_shown(name)}: please put it in its place"
                    )
            submission.ignored += [_shown(name) for name in names if name not in set(inside.values())]
            return {graded: inside[graded] for graded in GRADED_FILES if graded in inside}
    # Files at the top come before files in a folder; of several folders, the one with the most files counts.
    wrapper = min(found, key=lambda prefix: (prefix != "", -found[prefix], prefix), default="")
    if wrapper:
        submission.notes.append(
            f"the files are in a folder {_shown(wrapper)}: please zip them without the folder"
        )
    inside = {graded: wrapper + graded for graded in GRADED_FILES if wrapper + graded in names}
    if "style_utils.py" not in inside and f"{wrapper}helpers/style_utils.py" in names:
        inside["style_utils.py"] = f"{wrapper}helpers/style_utils.py"
    taken = set(inside.values())
    submission.ignored += [_shown(name) for name in names if name not in taken]
    for graded in GRADED_FILES:
        near = [name for name in names if name.lower().endswith(graded.lower())]
        if graded not in inside and near:
            submission.notes.append(
                f"{graded} is missing, but there is {_shown(near[0])}: move it to {graded}"
            )
    return inside


def bare(name: str) -> str:
    """A file's name without what a learning platform puts before it: ann_1234_5678_tv_loss.py -> tv_loss.py."""
    return next(
        (last for graded in GRADED_FILES if name.endswith(f"_{(last := PurePosixPath(graded).name)}")), name
    )


def _accept(submission: Submission, name: str, data: bytes) -> None:
    if len(data) > FILE_LIMIT:
        submission.notes.append(f"{name} is larger than {FILE_LIMIT >> 10} kB and was not read")
        return
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        if encoding in ODD_ENCODINGS:
            raise LookupError(encoding)
        data.decode(encoding)
    except (SyntaxError, ValueError, LookupError):
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
