"""Measures, and writes what was measured into docs/benchmarks.md, section by section.

Sections whose measurement was not asked for stay as they are, and so does the page's own text.
"""

import argparse
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
PLOT = "benchmarks_scaling.png"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=[*SECTIONS], help="measure these alone"
    )
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
            write_section(place, SECTIONS[name](args.device))
    print(PAGE)


def write_section(name: str, text: str) -> None:
    """Puts the text, with the date and the machine, between the page's two marks of that name."""
    page = PAGE.read_text(encoding="utf-8")
    between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not between.search(page):
        raise SystemExit(f"{PAGE} has no place for {name}: no line <!-- {name} --> and <!-- /{name} -->")
    page = between.sub(lambda mark: f"{mark[1]}\n{text}\n\n{mark[2]}", page)
    PAGE.write_text(page, encoding="utf-8")


def dated(device: str) -> str:
    """When, and on what."""
    from benchmarks.timing import machine

    return f"Measured {date.today()} on {machine(device)}."


def table(rows: Iterable[list[str]], head: list[str]) -> str:
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


def compared(measure: Callable[..., Iterable], *arguments: str) -> str:
    """The table of a module's rows, which are printed as they come."""
    import torch

    from benchmarks.timing import Row, matrix_rate

    device = arguments[0] if arguments else "cpu"
    rate = matrix_rate(device)
    lines = []
    row: Row
    for row in measure(*arguments):
        print(f"  {row.work}, {row.against}: {row.ratio:.2f} (bar {row.bar})", file=sys.stderr, flush=True)
        lines.append(
            [
                row.work,
                row.against,
                shown(row.ours),
                shown(row.theirs),
                bold(row.ratio, row.bar),
                f"{row.bar:.2f}" if row.bar else "",
                f"{row.flops / row.ours / rate:.2f}" if row.flops else "",
                f"{row.images / row.ours:.0f}" if row.images else "",
                row.agreement,
            ]
        )
    head = ["work", "against", "ours", "theirs", "ratio", "at most", "of the matrix rate", "images a second"]
    text = table(lines, [*head, "largest difference of the results"])
    threads = f"{torch.get_num_threads()} threads" if device == "cpu" else device
    return f"{dated(device)} One large matrix product: {rate / 1e9:.0f} GFLOP/s ({threads}).\n\n{text}"


def maps(device: str) -> str:
    from benchmarks import maps

    return compared(maps.rows, device)


def loops(_device: str) -> str:
    from benchmarks import loops

    return compared(loops.rows)


def start(_device: str) -> str:
    from benchmarks import start

    return compared(start.rows)


def painter(_device: str) -> str:
    from benchmarks import painter

    return compared(painter.rows)


def painter_loss(_device: str) -> str:
    from benchmarks import painter

    lines = []
    for record in painter.at_equal_time():
        print(f"  {record}", file=sys.stderr, flush=True)
        ratio = bold(record.ours / record.plain, 1.0)
        values = [f"{record.ours:.4f}", f"{record.plain:.4f}", ratio]
        lines.append([record.model, f"{record.seconds:g} s", *values])
    head = ["network", "after", "the painter", "the written-out loop", "ratio"]
    return f"{dated('cpu')}\n\n{table(lines, head)}"


def scaling(_device: str) -> str:
    from benchmarks import scaling

    scaling.draw(PAGE.with_name(PLOT))
    lines = [[peak.technique, f"{peak.ours:.0f} MB", f"{peak.captum:.0f} MB"] for peak in scaling.peaks()]
    memory = table(lines, ["work", "ours", "captum"])
    return (
        f"{dated('cpu')}\n\n![milliseconds an image against batch size and image size]({PLOT})\n\n"
        f"Memory that {scaling.MEMORY_IMAGES} photos at once add at the peak to a process that holds network and "
        f"photos:\n\n{memory}"
    )


SECTIONS: dict[str, Callable[[str], str]] = {
    "maps": maps,
    "loops": loops,
    "start": start,
    "painter": painter,
    "painter-loss": painter_loss,
    "scaling": scaling,
}

if __name__ == "__main__":
    main()
