"""A runner from a cold start to its picture, against what cannot be avoided: the imports, and the computing."""

import contextlib
import functools
import importlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.timing import Row, in_turns

ROOT = Path(__file__).resolve().parent.parent
IMPORTS = "import torch, torchvision, matplotlib"
# Options, and the bar.
RUNNERS: dict[str, tuple[list[str], float | None]] = {
    "saliency_visualization": ([], 0.7),
    "gradcam_visualization": ([], 0.7),
    "class_visualization": (["--iterations", "20"], None),
    "style_transfer": (["--content", "coffee", "--style", "swirl"], None),
}


def rows(_device: str = "cpu") -> Iterator[Row]:
    """One row per runner: ours is the whole process, theirs the sum of the imports and the second of two calls in one
    process, which finds everything imported.
    """
    for runner, (options, bar) in RUNNERS.items():
        with tempfile.TemporaryDirectory() as folder:
            arguments = [*options, "--quiet", "--output", str(Path(folder) / "picture.png")]
            command = [sys.executable, str(ROOT / f"{runner}.py"), *arguments]
            times = in_turns(
                {
                    "runner": functools.partial(_process, command),
                    "imports": functools.partial(_process, [sys.executable, "-c", IMPORTS]),
                    "computing": functools.partial(_call, runner, arguments),
                },
                warm_up=1,
            )
        yield Row(
            f"{runner}.py, cold start to PNG",
            "imports and computing",
            times["runner"],
            times["imports"] + times["computing"],
            bar,
        )


def _process(command: list[str]) -> None:
    subprocess.run(
        command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ | {"TQDM_DISABLE": "1"}
    )


def _call(runner: str, arguments: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        code = importlib.import_module(runner).main(arguments)
    if code:
        raise RuntimeError(f"{runner} ended with {code}")
