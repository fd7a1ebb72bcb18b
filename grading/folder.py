"""Grades a folder of submissions. It can be interrupted and resumed, and a bad zip does not stop it."""

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from grading.assess import assess, nothing
from grading.cases import CaseBank
from grading.sandbox import Zygote
from grading.submission import GRADED_FILES, UnreadableError, read_submission
from helpers import cli
from helpers.errors import CannotError
from helpers.files import replace_whole

METADATA = "submission_metadata.yml"
RESULTS = "results"
LONGEST = 120  # bytes of a name in a key


@dataclass(frozen=True)
class Entry:
    """One submission of a folder: the name of its result, its path, and its students."""

    key: str
    path: Path
    students: tuple[dict[str, str], ...] = ()


def find_submissions(folder: Path) -> list[Entry]:
    """The submissions in a folder: every zip, every folder with a graded file in it, and those that Gradescope's
    metadata lists. Raises CannotError if there are none.
    """
    if not folder.is_dir():
        raise CannotError(f"{folder}: no such folder")
    listed = {}
    if (folder / METADATA).is_file():
        listed = read_metadata((folder / METADATA).read_text(encoding="utf-8", errors="replace"))
    entries = []
    for path in sorted(folder.iterdir()):
        zipped = path.is_file() and path.suffix.lower() == ".zip"
        unpacked = path.is_dir() and (path.name in listed or _holds_graded_files(path))
        if not path.is_symlink() and (zipped or unpacked):
            name = path.stem if zipped else path.name
            students = listed.get(name) or listed.get(path.name) or ()
            entries.append(Entry(_safe(path.name), path, tuple(students)))
    entries += [
        Entry(_safe(name), folder / name, tuple(students))
        for name, students in listed.items()
        if not any(entry.path.stem == name or entry.path.name == name for entry in entries)
    ]
    if not entries:
        raise CannotError(f"{folder} contains no zips, and no folders with {GRADED_FILES[-1]} in them")
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
    the cases, the secret or the grader has changed.
    """
    entries = find_submissions(folder)
    results = out / RESULTS
    terms = _terms(bank, secret)
    stop = threading.Event()
    with cli.progress(len(entries), "grading", "zip") as advance, Zygote() as zygote:

        def work(entry: Entry) -> None:
            if stop.is_set():
                return
            path = results / f"{entry.key}.json"
            if not _is_current(path, entry, terms):
                record = _graded(entry, bank, secret, zygote) | {"terms": terms}
                with replace_whole(path) as temporary:
                    temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
            advance()
            on_done(entry)

        pool = ThreadPoolExecutor(max_workers=jobs)
        try:
            for _ in pool.map(work, entries):
                pass
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    keep = {f"{entry.key}.json" for entry in entries}
    for stale in results.glob("*.json"):
        if stale.name not in keep:
            stale.unlink()  # the result of a zip that is no longer in the folder


def _graded(entry: Entry, bank: CaseBank, secret: bytes, zygote: Zygote) -> dict:
    """The record of one submission. A failure of the grader is recorded, and the next run tries again."""
    record = {"key": entry.key, "file": entry.path.name, "students": list(entry.students), "failure": ""}
    if not entry.path.exists():
        return record | nothing("the export lists it, but contains no files of it").as_dict()
    try:
        return record | assess(entry.path, bank=bank, secret=secret, zygote=zygote).as_dict()
    except Exception as error:  # one submission must not stop the others
        return record | nothing("grading failed").as_dict() | {"failure": f"{type(error).__name__}: {error}"}


def _is_current(path: Path, entry: Entry, terms: str) -> bool:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        digest = read_submission(entry.path).digest
    except (OSError, ValueError, UnreadableError):
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


def _holds_graded_files(folder: Path) -> bool:
    try:
        return bool(read_submission(folder).files)
    except UnreadableError:
        return False


def _safe(name: str) -> str:
    """A file name without unusual characters, and not two of the same: a changed name ends in its whole hash, and no
    other name does.
    """
    short = re.sub(r"[^\w.-]+", "_", name).strip(".")
    short = short.encode()[:LONGEST].decode(errors="ignore") or "submission"
    if short == name and not re.search("-[0-9a-f]{64}$", name):
        return name
    return f"{short}-{hashlib.sha256(os.fsencode(name)).hexdigest()}"
