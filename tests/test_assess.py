"""Zip, sandbox and judge together: the same grade wherever it is given, and harm that stays where it was done."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from grading.assess import PUBLIC_BANK, assess, nothing, table
from grading.cases import load_bank
from grading.handout import blank_files
from grading.sandbox import Limits, Zygote
from grading.submission import GRADED_FILES
from tests.test_students_code import PUBLISHED_FOOLING

PROJECT = Path(__file__).resolve().parent.parent
pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the sandbox needs Linux"),
    pytest.mark.skipif(not PUBLIC_BANK.is_file(), reason="run `python -m grading cases` first"),
]
LIMITS = Limits(call_seconds=20, cpu_seconds=4, memory=1 << 30)


@pytest.fixture(scope="module")
def bank():
    return load_bank(PUBLIC_BANK)


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as zygote:
        yield zygote


@pytest.fixture
def pack(tmp_path):
    """-> a function: changed graded files (None: left out) -> the solved package's zip with them."""

    def make(**changes: str | None) -> Path:
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name in GRADED_FILES:
                text = changes.get(Path(name).stem, (PROJECT / name).read_text(encoding="utf-8"))
                if text is not None:
                    archive.writestr(name, text)
        return path

    return make


def points(assessment) -> dict[str, float]:
    return {task.task: task.points for task in assessment.report.tasks}


def test_the_solution_gets_full_marks_and_a_receipt(pack, bank, zygote):
    assessment = assess(pack(), bank=bank, zygote=zygote)
    assert assessment.report.points == assessment.report.max_points == 100
    text = table(assessment)
    assert "100 / 100" in text and assessment.receipt in text
    json.dumps(assessment.as_dict(), allow_nan=False)


def test_a_mistake_is_named_and_a_print_costs_nothing(pack, bank, zygote):
    source = (PROJECT / "style_modules/tv_loss.py").read_text(encoding="utf-8")
    loud = "        print('here', img)\n        return tv_weight * (down + right)"
    assessment = assess(
        pack(
            tv_loss=source.replace("        return tv_weight * (down + right)", loud),
            content_loss=(PROJECT / "style_modules/content_loss.py")
            .read_text(encoding="utf-8")
            .replace(".square().sum()", ".square().mean()"),
        ),
        bank=bank,
        zygote=zygote,
        tasks=["tv", "content"],
    )
    assert points(assessment) == {"tv": 8, "content": 0}
    assert "mean" in assessment.report.tasks[1].findings[0].title
    (leftover,) = assessment.leftovers
    place, _, what = leftover.partition(": ")
    assert place.startswith("style_modules/tv_loss.py:") and what == "print()"
    assert f"note: print in {place}: the judge ignores it, please remove it" in table(assessment)


# What each does to the total-variation loss must cost its 8 points and no other.
HARM = {
    "missing": None,
    "left the interpreter": "import os\nos._exit(0)",
    "wrote results": "import pathlib\nfor n in ('results.json', '/autograder/results/results.json', '../r'):\n"
    "    try: pathlib.Path(n).write_text('{\"score\": 100}')\n    except OSError: pass\n",
    "replaced the judge": "import sys\nsys.modules['grading.judge'] = sys.modules['grading.cases'] = None\n"
    "import grading.drivers as d\nfor k in d.DRIVERS: d.DRIVERS[k] = lambda inputs: {'value': inputs['weights']}\n",
    "NaN": "import torch\nclass TotalVariationLoss(torch.nn.Module):\n"
    "    def forward(self, img, w): return img.sum() * float('nan')\n",
    "equal to everything": "import torch\nclass T(torch.Tensor):\n    def __eq__(self, o): return True\n"
    "    def __float__(self): return 1.0\n"
    "class TotalVariationLoss(torch.nn.Module):\n    def forward(self, img, w): return img.sum().as_subclass(T)\n",
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (i > 0)) for i, n in enumerate(HARM)]
)
def test_harm_costs_its_own_task_alone(name, pack, bank, zygote):
    assessment = assess(pack(tv_loss=HARM[name]), bank=bank, zygote=zygote, limits=LIMITS)
    assert points(assessment)["tv"] == 0
    assert assessment.report.points == 92
    assert assessment.report.tasks[6].findings


def test_a_grade_is_the_same_again_and_another_secret_draws_other_cases(pack, bank, zygote):
    def drawn(secret: bytes) -> list[str]:
        return assess(pack(), bank=bank, secret=secret, zygote=zygote, tasks=["gram"]).report.tasks[0].cases

    assert drawn(b"one") == drawn(b"one")
    assert len({tuple(drawn(secret)) for secret in (b"one", b"two", b"three", b"four")}) > 1


def test_what_cannot_be_read_gets_nothing_and_a_reason(tmp_path, bank, zygote):
    path = tmp_path / "a.zip"
    path.write_bytes(b"no zip")
    assessment = assess(path, bank=bank, zygote=zygote)
    assert assessment.report.points == 0 and assessment.report.max_points == 100
    assert "not a zip file" in table(assessment)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("essay.txt", "x")
    assert "none of the seven graded files" in table(assess(path, bank=bank, zygote=zygote))
    assert nothing("why").receipt == ""


@pytest.mark.slow
def test_the_preflight_prints_the_graders_own_table(tmp_path, bank, zygote):
    """The blank handout, with one task solved: collect_submission.py refuses stubs, so `check` is asked."""
    for name, data in blank_files(PROJECT).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    shutil.copy(PROJECT / "style_modules/tv_loss.py", tmp_path / "style_modules/tv_loss.py")
    result = subprocess.run(
        [sys.executable, "-m", "grading", "check", ".", "--public", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    graded = assess(tmp_path, bank=bank, zygote=zygote)
    graded.practice = False  # nothing is said about practice in the student's own check
    *lines, receipt = table(graded).splitlines()
    assert receipt.startswith("receipt"), "only a zip's table ends with it"
    assert result.stdout.strip() == "\n".join(lines).strip()
    assert "8 / 100" in result.stdout and "not written yet" in result.stdout


def test_a_fooling_image_of_earlier_years_beside_or_in_a_graded_file_costs_nothing(pack, bank, zygote):
    saliency = (PROJECT / "visualizers/saliency_map.py").read_text(encoding="utf-8")
    path = pack(saliency_map=saliency + PUBLISHED_FOOLING)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("visualizers/fooling_image.py", PUBLISHED_FOOLING)
        archive.writestr("visualizers/__init__.py", "from .fooling_image import FoolingImage\n")
        archive.writestr("fooling_image.py", "from visualizers import FoolingImage\n")
    assessment = assess(path, bank=bank, zygote=zygote, tasks=["saliency"])
    (task,) = assessment.report.tasks
    assert task.status == "passed"
    assert "visualizers/fooling_image.py" in assessment.ignored
