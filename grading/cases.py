"""The case bank: inputs, expected outputs, and what each known mistake would give."""

from pathlib import Path


class CaseBank:
    """Read by `load_bank`, written by `write_bank`."""


def load_bank(path: Path | str) -> CaseBank:
    """A bank from its file (.npz, no pickles)."""
    raise NotImplementedError


def write_bank(path: Path | str, root: Path | str, *, seed: int, cases_per_kind: int = 12) -> Path:
    """Computes a bank from the solved project in `root` and every entry of the catalogue."""
    raise NotImplementedError
