"""Runs docs/tour.ipynb from top to bottom and keeps its pictures small: python docs/run_tour.py."""

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from helpers import cli  # noqa: E402  after the path is set
from helpers.errors import CannotError  # noqa: E402
from helpers.files import replace_whole  # noqa: E402

TOUR = ROOT / "docs/tour.ipynb"
SECONDS = 600  # that one cell may take
MAX_BYTES = 400_000


def read(path: Path = TOUR) -> Any:
    """A notebook file, as nbformat has it."""
    import nbformat

    return nbformat.read(path, as_version=4)


def run(notebook: Any, folder: Path) -> None:
    """Runs all cells, in a process of its own that starts in `folder`. Raises nbclient's CellExecutionError, which
    holds the traceback, at the first cell that fails.
    """
    from nbclient import NotebookClient

    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(folder)}}).execute()


def lighten(notebook: Any) -> None:
    """Keeps one small form of each picture, and nothing that another run would change without need."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
        for output in cell.get("outputs", []):
            if "image/jpeg" in (data := output.get("data", {})):
                data.pop("image/png", None)
                data.pop("text/plain", None)


def work(args: argparse.Namespace) -> Path:
    import nbformat

    notebook = read()
    run(notebook, ROOT)
    lighten(notebook)
    text = nbformat.writes(notebook) + "\n"
    if len(text) > MAX_BYTES:
        raise CannotError(f"{TOUR.name} would have {len(text)} bytes, more than {MAX_BYTES}: draw smaller")
    with replace_whole(TOUR) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return TOUR


def build_parser() -> argparse.ArgumentParser:
    return cli.OneLineParser(prog="run_tour.py", description=__doc__, allow_abbrev=False)


def main(argv: list[str] | None = None) -> int:
    return cli.run_tool(work, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
