"""Runs the drivers in this process: for our own code and its variants, never for a stranger's."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from grading.drivers import DRIVERS
from grading.protocol import Arrays, ChildError, Execute, child_error

STUDENT_MODULES = ("visualizers", "style_modules", "style_utils", "helpers")


class LocalExecutor:
    """Executes operations on the project in `root`; its modules are imported once and kept to this executor."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).resolve()
        self._modules: dict[str, object] = {}

    def __call__(self, operation: str, inputs: Arrays) -> Arrays:
        outside = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_student_module(name)}
        sys.modules.update(self._modules)
        sys.path.insert(0, str(self.root))
        try:
            return DRIVERS[operation]({name: array.copy() for name, array in inputs.items()})
        except ChildError:
            raise
        except Exception as error:
            raise child_error(error, self.root) from error
        finally:
            sys.path.remove(str(self.root))
            self._modules = {
                name: sys.modules.pop(name) for name in list(sys.modules) if _is_student_module(name)
            }
            sys.modules.update(outside)


def _is_student_module(name: str) -> bool:
    return name.partition(".")[0] in STUDENT_MODULES


@contextlib.contextmanager
def local_variants(root: Path | str) -> Iterator[Callable[[Sequence], Execute]]:
    """Inside: patches of the project in `root` -> an executor of the project so patched."""
    from grading.mistakes import build_variant

    with tempfile.TemporaryDirectory() as folder:
        made: dict[tuple, LocalExecutor] = {}

        def variant(patches: Sequence) -> Execute:
            key = tuple(patches)
            if key not in made:
                made[key] = LocalExecutor(build_variant(root, key, Path(folder) / str(len(made))))
            return made[key]

        yield variant
