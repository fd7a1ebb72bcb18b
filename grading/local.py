"""Runs the drivers in this process: only for our own code and its variants, never for a submission."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from grading.drivers import DRIVERS
from grading.protocol import Arrays, Execute, child_error

STUDENT_MODULES = ("visualizers", "style_modules", "style_utils")


class LocalExecutor:
    """Executes operations on the project in `root`. Each executor imports the project's modules for itself, once.

    helpers: the imported modules of the package `helpers`. Several executors may share them, since no variant changes
    them.
    """

    def __init__(self, root: Path | str, helpers: dict[str, ModuleType] | None = None) -> None:
        self.root = Path(root).resolve()
        self._helpers = {} if helpers is None else helpers
        self._modules: dict[str, ModuleType] = {}

    def __call__(self, operation: str, inputs: Arrays) -> Arrays:
        outside = _taken_out("helpers", *STUDENT_MODULES)
        sys.modules.update({**self._helpers, **self._modules})
        sys.path.insert(0, str(self.root))
        writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                return DRIVERS[operation]({name: array.copy() for name, array in inputs.items()})
        except Exception as error:
            raise child_error(error, self.root, operation) from error
        finally:
            sys.path.remove(str(self.root))
            sys.dont_write_bytecode = writes
            self._helpers.update(_taken_out("helpers"))
            self._modules = _taken_out(*STUDENT_MODULES)
            sys.modules.update(outside)


def _taken_out(*packages: str) -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] in packages]
    return {name: sys.modules.pop(name) for name in names}


@contextlib.contextmanager
def local_variants(root: Path | str) -> Iterator[Callable[[Sequence], Execute]]:
    """Inside: patches of the project in `root` -> an executor of the patched project."""
    from grading.mistakes import build_variant

    with tempfile.TemporaryDirectory() as folder:
        made: dict[tuple, LocalExecutor] = {}
        helpers: dict[str, ModuleType] = {}

        def variant(patches: Sequence) -> Execute:
            key = tuple(patches)
            if key not in made:
                tree = build_variant(root, key, Path(folder) / str(len(made)), link=True)
                made[key] = LocalExecutor(tree, helpers)
            return made[key]

        yield variant
