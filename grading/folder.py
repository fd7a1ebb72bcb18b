"""Grades a folder of submissions. It can be interrupted and resumed, and a bad zip does not stop it."""

import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from grading.assess import assess, nothing
from grading.cases import CaseBank
from grading.sandbox import Zygote
from grading.scores import read_overrides
from grading.submission import (
    ARCHIVES,
    DEEPEST,
    GRADED_FILES,
    UnreadableError,
    bare,
    read_submission,
    wrappers,
)
from helpers import cli
from helpers.errors import CannotError
from helpers.files import replace_whole

METADATA = "submission_metadata.yml"
RESULTS = "results"
LEFT_OUT = "left_out.json"
OURS = {PurePosixPath(name).name for name in GRADED_FILES}
LONGEST = 120  # bytes of a name in a key


@dataclass(frozen=True)
class Entry:
    """One submission of a folder: the name of its result, its path, and its students."""

    key: str
    path: Path
    students: tuple[dict[str, str], ...] = ()
    name: str = ""  # of the path, from the folder of the class


def find_submissions(folder: Path, left_out: Callable[[str], object] = lambda _name: None) -> list[Entry]:
    """The submissions in a folder: every archive, every graded file, every folder with one of these in it (also in
    folders in it), and those that Gradescope's metadata lists. `left_out` gets the name of every other entry,
    also of those beside a submission in a folder of several. Raises CannotError if there are none.
    """
    if not folder.is_dir():
        raise CannotError(f"{folder}: no such folder")
    listed = {}
    if (folder / METADATA).is_file():
        listed = read_metadata((folder / METADATA).read_text(encoding="utf-8", errors="replace"))

    def name_of(path: Path) -> str:
        return path.relative_to(folder).as_posix()

    entries = []
    for path in sorted(folder.iterdir()):
        if path.name == METADATA:
            continue
        found = _submissions_at(path, lambda lost: left_out(name_of(lost)), whole=path.name in listed)
        if not found:
            left_out(name_of(path))
        for place in found:
            students = listed.get(path.stem) or listed.get(path.name) or ()
            name = name_of(place)
            entries.append(Entry(_safe(name), place, tuple(students), name))
    entries += [
        Entry(_safe(name), folder / name, tuple(students), name)
        for name, students in listed.items()
        if not any(name in (PurePosixPath(entry.name).parts[0], entry.path.stem) for entry in entries)
    ]
    if not entries:
        raise CannotError(
            f"{folder} contains no submissions: expected are zip or tar archives, or one folder per student with an "
            f"archive or with {GRADED_FILES[0]}, {GRADED_FILES[-1]} and the others in it"
        )
    return entries


def read_metadata(text: str) -> dict[str, list[dict[str, str]]]:
    """The submitters in Gradescope's submission_metadata.yml: submission -> [{"name", "sid", "email"}, ...].

    Only these lines are read: the file also repeats earlier results, and students can put any text into those.
    """
    found: dict[str, list[dict[str, str]]] = {}
    submission, within = None, False
    for line in text.splitlines():
        if top := re.fullmatch(r"([\w-]+):\s*", line):
            submission, within = top[1], False
            found[submission] = []
        elif re.fullmatch(r"  :submitters:\s*", line):
            within = True
        elif re.match(r"  :\w", line):
            within = False
        elif within and submission and (entry := re.fullmatch(r"  (- |  ):(name|sid|email): *(.*)", line)):
            if entry[1] == "- ":
                found[submission].append({})
            if found[submission]:
                found[submission][-1][entry[2]] = _scalar(entry[3])
    return found


def _scalar(text: str) -> str:
    """A YAML scalar of one line."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text[1:-1]
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    return "" if text in ("~", "null") else text


def grade_folder(
    folder: Path,
    out: Path,
    *,
    jobs: int,
    bank: CaseBank,
    secret: bytes,
    on_done: Callable[[Entry], None] = lambda _entry: None,
) -> None:
    """Grades every submission into out/results/KEY.json, except those that are already graded: unless the submission,
    the cases, the secret or the grader has changed. The other entries of the folder are listed in out/left_out.json.
    Raises CannotError before the first is graded, also for an error in out/overrides.csv.
    """
    forgotten: list[str] = []
    entries = find_submissions(folder, forgotten.append)
    read_overrides(out, [entry.key for entry in entries])
    left_out = {name: _why_left_out(folder / name) for name in forgotten}
    for name, why in left_out.items():
        print(f"left out, {why}: {name!a}", file=sys.stderr)
    with replace_whole(out / LEFT_OUT) as temporary:
        temporary.write_text(json.dumps(left_out, indent=1), encoding="utf-8")
    results = out / RESULTS
    terms = _terms(bank, secret)
    stop = threading.Event()
    kept = Kept(out)
    with cli.progress(len(entries), "grading", "zip") as advance, Zygote() as zygote:

        def work(entry: Entry) -> None:
            if stop.is_set():
                return
            path = results / f"{entry.key}.json"
            if not _is_current(path, entry, terms):
                record = _graded(entry, bank, secret, zygote) | {"terms": terms}
                kept.write(path, json.dumps(record, indent=1))
            advance()
            on_done(entry)

        pool = ThreadPoolExecutor(max_workers=jobs)
        try:
            for _ in pool.map(work, entries):
                pass
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    kept.restore()
    keep = {f"{entry.key}.json" for entry in entries}
    for stale in results.glob("*.json"):
        if stale.name not in keep:
            stale.unlink()  # the result of a zip that is no longer in the folder


class Kept:
    """The results of a run, in memory as well as in their files: where the kernel refuses every means against it, code
    of our own user can change files of ours. What was changed is restored and said.
    """

    def __init__(self, out: Path) -> None:
        self.folders = (out, out / RESULTS)
        self.modes: dict[Path, int] = {}
        self.texts: dict[Path, str] = {}
        self._lock = threading.Lock()

    def write(self, path: Path, text: str) -> None:
        with self._lock:
            self._open()
            self.texts[path] = text
            with replace_whole(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            self.modes = {folder: folder.stat().st_mode for folder in self.folders}

    def restore(self) -> None:
        self._open()
        for path, text in self.texts.items():
            try:
                same = path.read_bytes() == text.encode()
            except OSError:
                same = False
            if not same:
                self.write(path, text)
                _say_restored(path)

    def _open(self) -> None:
        for folder, mode in self.modes.items():
            if folder.stat().st_mode != mode:
                folder.chmod(mode)
                _say_restored(folder)


def _say_restored(path: Path) -> None:
    print(f"{path} was changed while student code ran; it is as it was before", file=sys.stderr)


def _graded(entry: Entry, bank: CaseBank, secret: bytes, zygote: Zygote) -> dict:
    """The record of one submission. A failure of the grader is recorded, and the next run tries again."""
    record = {
        "key": entry.key,
        "file": entry.name or entry.path.name,
        "students": list(entry.students),
        "failure": "",
    }
    if not entry.path.exists():
        return record | nothing("the export lists it, but contains no files of it").as_dict()
    try:
        assessment = assess(entry.path, bank=bank, secret=secret, zygote=zygote, fingerprints=True)
        return record | assessment.as_dict()
    except CannotError as error:
        return record | nothing("grading failed").as_dict() | {"failure": str(error)}
    except Exception as error:  # one submission must not stop the others
        return record | nothing("grading failed").as_dict() | {"failure": f"{type(error).__name__}: {error}"}


def _is_current(path: Path, entry: Entry, terms: str) -> bool:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        digest = read_submission(entry.path).digest
    except (OSError, ValueError, UnreadableError, CannotError):
        return False
    return (record.get("terms"), record.get("digest"), record.get("failure")) == (terms, digest, "")


def _terms(bank: CaseBank, secret: bytes) -> str:
    """A hash of what a grade depends on besides the submission: the cases, the secret, and our own code."""
    digest = hashlib.sha256(secret)
    for case in bank.cases:
        digest.update(case.name.encode())
        for array in (*case.inputs.values(), *case.expected.values()):
            digest.update(array.tobytes())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def load_results(out: Path) -> list[dict]:
    """The records of a graded folder, by key. Raises CannotError if there are none."""
    paths = sorted(
        (out / RESULTS).glob("[!.]*.json")
    )  # a run that was killed may leave a half-written .*.json
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    if not records:
        raise CannotError(
            f"{out} contains no results: run `python -m grading grade FOLDER --out {out}` first"
        )
    return records


def load_left_out(out: Path) -> dict[str, str]:
    """The entries of the class's folder that are no submissions, and why."""
    path = out / LEFT_OUT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _why_left_out(path: Path) -> str:
    if path.is_symlink():
        return "a link"
    if path.name.startswith("."):
        return "hidden"
    if _is_earlier_run(path):
        return "results of an earlier run"
    return "no submission found in it" if path.is_dir() else "neither an archive nor a graded file"


def _is_earlier_run(path: Path) -> bool:
    return (path / "grades.csv").is_file() and (path / RESULTS).is_dir()


def _submissions_at(
    path: Path, left_out: Callable[[Path], object], *, whole: bool = False, depth: int = 0
) -> list[Path]:
    """The submissions in an entry of a class's folder; `left_out` gets what is beside them. `whole`: the entry is one,
    whatever is in it.
    """
    if path.is_symlink() or path.name.startswith("."):
        return []
    if path.is_file():
        return [path] * (path.name.lower().endswith(ARCHIVES) or bare(path.name) in OURS)
    if whole:
        return [path]
    try:
        if _is_earlier_run(path):
            return []
        inside = sorted(path.iterdir())
        archives = [one for one in inside if one.is_file() and one.name.lower().endswith(ARCHIVES)]
        names = [
            one.relative_to(path).as_posix().replace("\\", "/")
            for level in range(4)
            for one in path.glob("*/" * level + "*.py")
        ]
        places = wrappers(names)
        several = set() if "" in places else {place.split("/")[0] for place in places}
        own = bool(places) or any(bare(one.name) in OURS for one in inside)
        if depth < DEEPEST and (len(several) > 1 or len(archives) > 1 or not (archives or own)):
            # Not one submission but several, each with a row of its own.
            found = {one: _submissions_at(one, left_out, depth=depth + 1) for one in inside}
            for one, within in found.items():
                if not within and any(found.values()):  # else the whole folder is named
                    left_out(one)
            return [place for within in found.values() for place in within]
        return [path] if archives or own else []
    except OSError:
        return [path]  # it gets a row that says why


def _safe(name: str) -> str:
    """A file name without unusual characters, and not two of the same: a changed name ends in its whole hash, and no
    other name does.
    """
    short = re.sub(r"[^\w.-]+", "_", name).strip(".")
    short = short.encode()[:LONGEST].decode(errors="ignore") or "submission"
    if short == name and not re.search("-[0-9a-f]{64}$", name):
        return name
    return f"{short}-{hashlib.sha256(os.fsencode(name)).hexdigest()}"
