"""A student's week in one run: the handout is unpacked, each task is written first with a typical mistake and then
right, and after every step the four commands say what is so.

`pytest tests/test_dry_run.py -m slow -s` prints what the student sees, with times.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from grading import handout
from grading.handout import blank_files, pack, solutions, solved_again

PROJECT = Path(__file__).resolve().parent.parent
# Task -> its file, points, a typical mistake (right words, wrong words), and what the check says about it. Those that
# need long figures come last.
TASKS = {
    4: ("style_modules/content_loss.py", 8, ".square().sum()", ".square().mean()", "mean"),
    5: ("style_modules/style_loss.py", 20, "/ (C * H * W)", "/ (H * W)", r"divide by C\*H\*W"),
    6: ("style_modules/tv_loss.py", 8, "(down + right)", "down", "direction|neighbour|vertical|horizontal"),
    1: ("visualizers/saliency_map.py", 15, ".abs().amax(dim=1)", ".amax(dim=1)", "abs"),
    2: ("visualizers/gradcam.py", 20, "F.relu((alpha", "((alpha", "ReLU|relu"),
    7: ("style_utils.py", 14, "optimizer.zero_grad()\n", "pass\n", "zero_grad|pile|earlier|accumulate"),
    3: ("visualizers/class_visualization.py", 15, "score - l2_reg", "score + l2_reg", "regulari|l2_reg|sign"),
}
RUNNER_OF = {1: "saliency_visualization", 2: "gradcam_visualization", 3: "class_visualization"}
STYLE_TASKS = {4, 5, 6, 7}
needs_make = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


class Student:
    """A copy of the handout, and what its commands print."""

    def __init__(self, folder):
        with zipfile.ZipFile(io.BytesIO(pack(blank_files(PROJECT)))) as archive:
            for entry in archive.infolist():  # as unzip does, which keeps permissions
                Path(archive.extract(entry, folder)).chmod(entry.external_attr >> 16 & 0o777)
        self.folder = folder / handout.TOP
        (self.folder / ".venv").symlink_to(sys.prefix)

    def run(self, *command):
        """The exit status, and everything that is printed."""
        if command[0] == "make":
            command = ("make", "-o", ".venv/.runtime", "-o", ".venv/.dev", *command[1:])
        begin = time.perf_counter()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        result = subprocess.run(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        words = " ".join(word for word in command if word not in ("-o", ".venv/.runtime", ".venv/.dev"))
        print(f"\n$ {words}   [{time.perf_counter() - begin:.1f} s, exit {result.returncode}]")
        print(*result.stdout.splitlines()[-12:], sep="\n")
        return result.returncode, result.stdout


@needs_make
@pytest.mark.slow
def test_a_student_solves_one_task_after_the_other(tmp_path):
    student, done = Student(tmp_path), set()
    regions = solutions(PROJECT)

    status, said = student.run("make", "check")
    assert re.search(r"total +0 / 100", said)
    assert all(f"Task {n}" in said or re.search(rf"^\S {n}", said, re.M) for n in TASKS)
    status, said = student.run("make", "test")
    assert status != 0 and "FAILED" not in said and "Traceback" not in said
    assert {int(n) for n in re.findall(r"^not written yet: Task (\d)", said, re.M)} == set(TASKS)

    for number, (name, points, right, wrong, hint) in TASKS.items():
        path = student.folder / name
        solved = solved_again(path.read_text(encoding="utf-8"), regions[name], name)
        assert solved.count(right) == 1
        print(f"\n=== Task {number}, with a mistake")
        path.write_text(solved.replace(right, wrong), encoding="utf-8")
        status, said = student.run("make", "check", f"TASK={number}")
        assert re.search(hint, said) and f"{points} / {points}" not in said and "Traceback" not in said
        status, said = student.run("make", "test", f"TASK={number}")
        assert status != 0 and "FAILED" in said

        print(f"\n=== Task {number}, right")
        path.write_text(solved, encoding="utf-8")
        done.add(number)
        status, said = student.run("make", "check", f"TASK={number}")
        assert status == 0 and re.search(rf"total +{points} / {points}", said)
        status, said = student.run("make", "test", f"TASK={number}")
        assert status == 0 and "passed" in said
        open_tasks = set(TASKS) - done

        status, said = student.run("make", "figures")
        assert (status == 0) == (not open_tasks)
        for task, runner in RUNNER_OF.items():
            assert (student.folder / f"visualization/{runner}.png").is_file() == (task in done)
            assert (f"{runner}.py: error: Task {task}" in said) == (task in open_tasks)
        assert (student.folder / "visualization/rocket_swirl.png").is_file() == (done >= STYLE_TASKS)
        assert ("style_transfer.py: error: Task" in said) == bool(STYLE_TASKS & open_tasks)

        (student.folder / "assignment_3_submission.zip").unlink(missing_ok=True)
        status, said = student.run(sys.executable, "collect_submission.py")
        assert status == 0 and said.splitlines()[-1].endswith("assignment_3_submission.zip")
        assert (student.folder / "assignment_3_submission.zip").is_file()
        assert {int(n) for n in re.findall(r"^Task (\d) is not written", said, re.M)} == open_tasks
        total = sum(TASKS[task][1] for task in done)
        assert re.search(rf"total +{total} / 100", said)
        assert re.search(r"receipt ([0-9A-F]{4}-){4}[0-9A-F]{4}$", said, re.M)

    status, said = student.run("make", "test")
    assert status == 0 and "not written yet" not in said
