"""The environment is made by any Python that can, and what is missing is said."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Stands for a Python: -c tells whether it can be used, -m venv puts a copy of itself there, all else is written down.
FAKE = """#!/bin/sh
case "$1 $2" in
    "-c "*) exit {unusable} ;;
    "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo "{name} made $3" >> log ;;
    *) echo "$@" >> log ;;
esac
"""
MAKEFILES = [path for path in ("Makefile", "grading/students_copy/Makefile") if (ROOT / path).exists()]


@pytest.fixture(params=MAKEFILES)
def make(request, tmp_path):
    """-> a function that runs make with these Pythons alone (name: whether it is usable); what was said and done."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "mkdir", "cp", "touch", "awk"):
        (tools / tool).symlink_to(shutil.which(tool))
    shutil.copy(ROOT / request.param, tmp_path / "Makefile")
    (tmp_path / "requirements.txt").touch()
    program = shutil.which("make")

    def run(*arguments, **pythons):
        for name, usable in pythons.items():
            path = tools / name.replace("_", ".")
            path.write_text(FAKE.format(name=path.name, unusable=int(not usable)))
            path.chmod(0o755)
        environment = {"PATH": str(tools), **{k: v for k, v in os.environ.items() if k == "LANG"}}
        done = subprocess.run(
            [program, "env", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        log = tmp_path / "log"
        return done, log.read_text().splitlines() if log.exists() else []

    return run


pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.mark.parametrize(
    "name", ["python3_11", "python3_12", "python3_13", "python3_14", "python3", "python"]
)
def test_any_python_that_can_be_used_makes_the_environment(make, name):
    done, log = make(**{name: True})
    assert done.returncode == 0, done.stderr
    assert log[0] == f"{name.replace('_', '.')} made .venv" and log[1].endswith("-r requirements.txt")


def test_one_that_is_too_old_or_only_pretends_is_passed_over(make):
    _, log = make(python3_11=False, python3=False, python3_13=True, python=True)
    assert log[0] == "python3.13 made .venv"


def test_what_is_needed_is_said_where_none_is(make):
    for pythons in ({}, {"python3": False}):
        done, log = make(**pythons)
        assert done.returncode != 0 and not log
        assert "Python 3.11 or later is needed" in done.stderr.splitlines()[0]


def test_a_python_can_be_named_and_is_looked_at(make):
    done, log = make("PYTHON=python9", python9=False, python3_11=True)
    assert "python9 cannot be used: Python 3.11 or later is needed" in done.stderr and not log
    done, log = make("PYTHON=python9", python9=True, python3_11=True)
    assert log[0] == "python9 made .venv"


def test_options_reach_pip(make):
    _, log = make("PIP_OPTIONS=--extra-index-url ADDRESS --no-cache-dir", python3=True)
    assert " --extra-index-url ADDRESS --no-cache-dir -r requirements.txt" in log[1]
