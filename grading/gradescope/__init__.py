"""Runs inside Gradescope's container: grades one submission into results.json.

Gradescope's own documentation of the format: "Autograder Specifications".
"""

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from grading.judge import TaskResult
from helpers.files import replace_whole

OUTPUT_LIMIT = 9_900  # characters of each text
UNFINISHED = "The grader did not finish. The tasks listed here were graded; please submit once more."


class Results:
    """results.json, complete and valid at any time: first without points, then rewritten after each task."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tasks: list[TaskResult] = []
        self._lock = threading.Lock()
        self._closed = False
        self._begin = time.monotonic()
        self.write(UNFINISHED)

    def add(self, result: TaskResult) -> None:
        """Adds the result of a task."""
        self.tasks.append(result)
        self.write(UNFINISHED)

    def write(self, output: str, *, final: bool = False) -> None:
        """Replaces the file. After a `final` call, nothing more is written."""
        with self._lock:
            if self._closed:
                return
            self._closed = final
            document = results_of(self.tasks, output, time.monotonic() - self._begin)
            text = json.dumps(document, indent=1, allow_nan=False)
            with replace_whole(self.path) as temporary, temporary.open("w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())


def results_of(tasks: Sequence[TaskResult], output: str, seconds: float) -> dict:
    """The document that Gradescope reads."""
    return {
        "score": round(sum(task.points for task in tasks), 2),
        "output": _text(output),
        "output_format": "text",
        "stdout_visibility": "hidden",
        "execution_time": round(seconds, 1),
        "tests": [
            {
                "name": task.title,
                "number": task.number,
                "score": task.points,
                "max_score": task.max_points,
                "status": "passed" if task.status == "passed" else "failed",
                "output": _text(
                    "\n\n".join(finding.message for finding in task.findings) or "All cases are right."
                ),
                "output_format": "text",
                "visibility": "visible",
                "tags": [_text(finding.id) for finding in task.findings],
            }
            for task in tasks
        ],
    }


def _text(text: str) -> str:
    """Plain text of bounded length: no control characters, no lone surrogates."""
    text = text.encode("utf-8", "replace").decode()
    text = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    return text if len(text) <= OUTPUT_LIMIT else f"{text[:OUTPUT_LIMIT]} ... (cut)"


def run(submission: Path, path: Path, *, deadline: float) -> None:
    """Grades the folder `submission` into the file `path`. Ends the process after `deadline` seconds."""
    results = Results(path)

    def give_up() -> None:
        results.write(
            f"Out of time after {deadline:g} s. Tasks that are not listed get no points.", final=True
        )
        os._exit(0)

    watch = threading.Timer(deadline, give_up)
    watch.daemon = True
    watch.start()
    try:
        # Imported here: results.json must exist before anything can fail.
        from grading.assess import PRIVATE_BANK, assess, bank_and_secret
        from grading.sandbox import Limits, notice

        print(notice() or "full isolation")
        # A bundle made with --public has no private bank; its results say so.
        bank, secret = bank_and_secret(public=not PRIVATE_BANK.is_file())
        limits = Limits(total_seconds=min(Limits.total_seconds, 0.6 * deadline))
        assessment = assess(submission, bank=bank, secret=secret, limits=limits, on_task=results.add)
        results.tasks = assessment.report.tasks
        remarks = [*assessment.remarks, f"receipt {assessment.receipt}" if assessment.receipt else ""]
        results.write("\n".join(filter(None, remarks)), final=True)
    except Exception as error:
        print(f"{type(error).__name__}: {error}")  # only the instructor sees stdout
        results.write(f"{UNFINISHED} ({type(error).__name__})", final=True)
    watch.cancel()
