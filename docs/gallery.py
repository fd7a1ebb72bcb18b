"""Makes the pictures of README.md and docs/*.md again, by the commands beside them: `make gallery`.

A picture's title in the Markdown names the file that a command of the same text writes; its path is a copy
small enough for a web page: ![a cat](docs/cat.jpg "visualization/cat.png"). If several commands of a text
write that file, the first one counts.
"""

import argparse
import importlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from helpers import cli  # noqa: E402  after the path is set
from helpers.errors import CannotError, nearest  # noqa: E402

RUNNERS = ("class_visualization", "saliency_visualization", "gradcam_visualization", "style_transfer")
# Commands that are no runner's, and the files they write.
OTHERS = {
    "python docs/ablation.py": ["visualization/class_ablation.png"],
    "python docs/film.py": ["visualization/page.gif"],
    "python -m benchmarks --only classes": [f"visualization/class_pictures_{seed}.png" for seed in (0, 1)],
    "python -m benchmarks --only paintings": [
        f"visualization/paintings_side_by_side_{sheet}.png" for sheet in (1, 2)
    ],
}
MAX_WIDTH = 1400  # pixels
# Bytes of a copy, by its folder: one page shows all the pictures of docs/methods/.
MAX_BYTES = {"docs": 300_000, "methods": 120_000, "film": 2_000_000}
QUALITIES = range(88, 30, -6)


class Picture(NamedTuple):
    """A picture of a text: the copy shown, the file it is a copy of ("" if the text names none), and the command
    that writes that file, if there is one.
    """

    text: Path
    copy: Path
    original: str
    command: str | None


def texts() -> list[Path]:
    """README.md and the pages in this folder."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def tokens(text: Path) -> Iterator:
    """The tokens of a Markdown file, including those inside paragraphs."""
    from markdown_it import MarkdownIt

    for token in MarkdownIt().enable("table").parse(text.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


def commands(text: Path) -> list[str]:
    """The command lines of a text, those in ```sh fences and indented ones, without comments."""
    blocks = [
        t.content for t in tokens(text) if t.type == "code_block" or (t.type, t.info) == ("fence", "sh")
    ]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.join(words) for line in lines if (words := shlex.split(line, comments=True))]


def pictures(text: Path) -> list[Picture]:
    """The pictures of a text, in its order."""
    images = [token for token in tokens(text) if token.type == "image"]
    writers: dict[str, str] = {}
    for command in commands(text):
        for file in files_of(command):
            writers.setdefault(file, command)
    return [
        Picture(text, (text.parent / image.attrs["src"]).resolve(), original, writers.get(original))
        for image in images
        for original in [str(image.attrs.get("title", ""))]
    ]


def files_of(command: str) -> list[str]:
    """The files that this command writes if it calls a runner or is one of OTHERS; none for other commands."""
    script, *words = shlex.split(command)
    if Path(script).stem not in RUNNERS:
        return OTHERS.get(command, [])
    runner = importlib.import_module(Path(script).stem)
    args = runner.build_parser().parse_args(words)
    if any(getattr(args, answer, None) for answer in ("list_layers", "list_images", "check")):
        return []
    if hasattr(runner, "pictures_of"):
        paths = [path for _, path in runner.pictures_of(args)]
        paths += [path.with_name(f"{path.stem}_panel.png") for path in paths if args.method == "course"]
    else:
        if hasattr(runner, "settle"):
            runner.settle(args)
        paths = [Path(args.output)]
    paths += [Path(extra) for name in ("animate", "plot") if (extra := getattr(args, name, None))]
    return [path.as_posix() for path in paths]


def reduce(original: Path, copy: Path) -> None:
    """Writes the copy: a JPEG no wider than MAX_WIDTH, in the best quality that makes it smaller than its folder's
    share of MAX_BYTES. An animation is copied as it is. Raises CannotError where it stays too large.
    """
    import io

    from PIL import Image

    from helpers.files import replace_whole

    largest = MAX_BYTES[copy.parent.name]
    if copy.suffix == ".gif":
        sizes = [original.read_bytes()]
    else:
        img = Image.open(original).convert("RGB")
        if img.width > MAX_WIDTH:
            img = img.resize((MAX_WIDTH, round(img.height * MAX_WIDTH / img.width)), Image.Resampling.LANCZOS)
        sizes = []
        for quality in QUALITIES:
            buffer = io.BytesIO()
            img.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
            sizes.append(buffer.getvalue())
            if len(sizes[-1]) < largest:
                break
    if len(sizes[-1]) >= largest:
        raise CannotError(f"{original} is no smaller than {len(sizes[-1]) // 1000} kB: draw it smaller")
    with replace_whole(copy) as temporary:
        temporary.write_bytes(sizes[-1])


def rebuild(chosen: Iterable[Picture]) -> list[str]:
    """Runs the commands, each once, and writes the copies; returns what went wrong, one line per problem."""
    wrong = []
    by_command: dict[str, list[Picture]] = {}
    for picture in chosen:
        if picture.command is None:
            reason = (
                f"no command writes {picture.original}" if picture.original else "its title names no file"
            )
            wrong.append(f"{_name(picture)} ({picture.text.name}): {reason}")
        else:
            by_command.setdefault(picture.command, []).append(picture)
    for number, (command, shown) in enumerate(by_command.items(), 1):
        print(f"[{number}/{len(by_command)}] {command}", flush=True)
        began = time.time()
        words = shlex.split(command.removeprefix("python "))
        done = subprocess.run([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            wrong.append(f"{command}: exit {done.returncode}")
            continue
        for picture in shown:
            original = ROOT / picture.original
            if not original.exists() or original.stat().st_mtime < began - 2:  # as coarse as file times get
                wrong.append(f"{command}: did not write {picture.original}")
                continue
            try:
                reduce(original, picture.copy)
            except CannotError as error:
                wrong.append(f"{_name(picture)}: {error}")
    return wrong


def _name(picture: Picture) -> str:
    return picture.copy.relative_to(ROOT).as_posix()


def work(args: argparse.Namespace) -> None:
    chosen = [picture for text in texts() for picture in pictures(text)]
    if args.only:
        known = {name: p for p in chosen for name in (_name(p), p.copy.name, p.copy.stem)}
        for name in args.only:
            if name not in known:
                raise nearest(name, sorted({p.copy.stem for p in chosen}), "picture")
        chosen = [p for p in chosen if {_name(p), p.copy.name, p.copy.stem} & set(args.only)]
    wrong = rebuild(chosen)
    if wrong:
        print(*wrong, sep="\n", file=sys.stderr)
        raise CannotError(f"{len(wrong)} pictures or commands of {len(chosen)} pictures went wrong")
    print(f"{len(chosen)} pictures made again")


def build_parser() -> argparse.ArgumentParser:
    parser = cli.OneLineParser(prog="gallery.py", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="make only these pictures, by their names in docs/"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run_tool(work, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
