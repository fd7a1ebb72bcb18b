"""Measures, and writes what was measured into docs/benchmarks.md, section by section.

Sections whose measurement was not asked for stay as they are, and so does the page's own text.
"""

import argparse
import importlib
import math
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
HEAD = (
    *("work", "against", "ours", "theirs", "ratio", "at most"),
    *("of the matrix rate", "images per second", "largest difference of the results"),
)
SECTIONS = ("maps", "loops", "start", "painter", "memory", "classes", "paintings")  # each a module here
UNTIMED = ("classes", "paintings")  # these have a function text(), the others rows()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="measure these alone")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="for the maps (default cpu)")
    args = parser.parse_args()
    if args.device != "cpu" and args.only != ["maps"]:
        parser.error(f"--device {args.device} goes with --only maps")
    for name in args.only:
        if len(args.only) > 1:  # each in a process of its own: what one leaves behind would change the next
            subprocess.run([sys.executable, "-m", "benchmarks", "--only", name], check=True)
        else:
            print(f"{name} ...", file=sys.stderr, flush=True)
            place = name if args.device == "cpu" else f"{name}-{args.device}"
            write_section(place, judged(name) if name in UNTIMED else compared(name, args.device))
    print(PAGE)


def write_section(name: str, text: str) -> None:
    """Puts the text, with the date and the machine, between the page's two marks of that name."""
    between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    page, found = between.subn(lambda m: f"{m[1]}\n{text}\n\n{m[2]}", PAGE.read_text(encoding="utf-8"))
    if not found:
        raise SystemExit(f"{PAGE} has no place for {name}: no line <!-- {name} --> and <!-- /{name} -->")
    PAGE.write_text(page, encoding="utf-8")


def table(rows: Iterable[list[str]], head: Sequence[str]) -> str:
    """A Markdown table, without the columns that are empty; numbers to the right."""
    rows = list(rows)
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    number = re.compile(r"[\d.*]+( \w+)?")
    first = [next(row[i] for row in rows if row[i]) for i in kept]
    marks = ["---:" if number.fullmatch(text) else "---" for text in first]
    lines = [[head[i] for i in kept], marks, *([row[i] for i in kept] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bold(ratio: float, bar: float | None) -> str:
    """A ratio, in bold where it keeps its bar."""
    return f"**{ratio:.2f}**" if bar is not None and round(ratio, 2) <= bar else f"{ratio:.2f}"


def shown(seconds: float) -> str:
    """Three digits, and the unit."""
    value, unit = (seconds, "s") if seconds >= 2 else (1000 * seconds, "ms")
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f} {unit}"


def judged(section: str) -> str:
    """The text of a section that measures no time."""
    return f"Measured {date.today()}.\n\n{importlib.import_module(f'benchmarks.{section}').text()}"


def compared(section: str, device: str) -> str:
    """The section's text: when and where, and the table of its rows, which are also printed as they come."""
    import torch

    from benchmarks.timing import Row, machine, matrix_rate

    rate = matrix_rate(device)
    lines = []
    row: Row
    for row in importlib.import_module(f"benchmarks.{section}").rows(device):
        print(f"  {row.work}, {row.against}: {row.ratio:.2f} (bar {row.bar})", file=sys.stderr, flush=True)
        show = (lambda megabytes: f"{megabytes:.0f} MB") if row.unit == "MB" else shown
        lines.append(
            [
                row.work,
                row.against,
                show(row.ours),
                show(row.theirs),
                bold(row.ratio, row.bar),
                f"{row.bar:.2f}" if row.bar else "",
                f"{row.flops / row.ours / rate:.2f}" if row.flops else "",
                f"{row.images / row.ours:.0f}" if row.images else "",
                row.agreement,
            ]
        )
    threads = f"{torch.get_num_threads()} threads" if device == "cpu" else device
    return (
        f"Measured {date.today()} on {machine(device)}. One large matrix product: {rate / 1e9:.0f} GFLOP/s "
        f"({threads}).\n\n{table(lines, HEAD)}"
    )


if __name__ == "__main__":
    main()
