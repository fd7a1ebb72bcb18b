"""README and docs stay true: every command in them works, every link has a target, every option exists.

A command is a line of a ```sh fence, or an indented line. The runners are run, with arguments appended that make
the work small (of an option given twice, the last one counts). Commands that have tests of their own, or need what
no test has, are checked as far as possible. An unknown kind of command fails.
"""

import argparse
import ast
import importlib
import importlib.util
import itertools
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import collect_submission
import grading.__main__ as grading_command
import report.__main__ as report_command
import style_utils
from extras.painter.schedule import Schedule
from helpers.data_utils import open_image

ROOT = Path(__file__).resolve().parent.parent
_spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs/gallery.py")
gallery = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(gallery)

TEXTS = gallery.texts()
# What each target of the Makefile that a text names must call.
TARGETS = {
    "env": ["-m pip install", "requirements.txt"],
    "figures": [*(f"./{name}.py" for name in gallery.RUNNERS), "--method fourier"],
    "test": ["-m pytest"],
    "test-all": ["-m pytest -m 'slow or not slow'"],
    "lint": ["ruff check .", "ruff format --check .", "mypy"],
    "format": ["ruff check --fix .", "ruff format ."],
    "submission": ["collect_submission.py"],
    "report": ["report"],
    "page": ["-m page"],
    "handout": ["-m grading handout"],
    "bundle": ["-m grading bundle"],
    "gallery": ["docs/gallery.py"],
    "clean": ["rm -rf visualization/*"],
}


def cases():
    """Every command of every text once, named by itself."""
    found = {command: text for text in reversed(TEXTS) for command in reversed(gallery.commands(text))}
    return [pytest.param(text, command, id=command) for command, text in reversed(found.items())]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch, small_styles):
    """Runners write into an empty folder. The graded loop takes two steps instead of its 200, style images are
    drawn small, and the clock advances one second each time it is read: a --budget is then a number of steps,
    however busy the machine is.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(style_utils, "STEPS", 2)
    seconds = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setitem(Schedule.__init__.__kwdefaults__, "clock", time.monotonic)


@pytest.mark.parametrize(("text", "command"), cases())
def test_a_command_works(text, command, elsewhere, capsys):
    match shlex.split(command):
        case [script, *words] if Path(script).stem in gallery.RUNNERS:
            works_small(text, script, words, capsys)
        case ["make", *words]:
            makes(words)
        case ["python", "-m", "grading", *words]:
            # Grading takes submissions and minutes, and has tests of its own: here the arguments are read.
            grading_command.build_parser().parse_args(words)
        case ["python", "collect_submission.py", *words]:
            # It runs the tests that are running now; tests/test_collect_submission.py runs it.
            collect_submission.build_parser().parse_args(words)
        case ["python", "docs/ablation.py" | "docs/film.py"] | [
            "python",
            "-m",
            "benchmarks",
            "--only",
            "classes" | "paintings",
        ]:
            assert gallery.files_of(command)  # these take minutes; gallery.py runs them
        case ["python", "docs/run_tour.py"]:
            # It takes a minute; tests/test_tour.py runs the notebook.
            assert (ROOT / "docs/run_tour.py").is_file()
        case ["python", "docs/gallery.py", *words]:
            gallery.build_parser().parse_args(words)
        case ["python", "-m", "report", *words]:
            report_command.build_parser().parse_args(words)
        case ["conda", "env", "create", "-f", file]:
            # conda is not in our environment: it gets the file it asks for, with the packages that pip gets.
            assert "- -r requirements.txt\n" in (ROOT / file).read_text()
            assert (ROOT / "requirements.txt").is_file()
        case ["conda", "activate", name]:
            assert f"name: {name}\n" in (ROOT / "environment.yaml").read_text()
        case ["source", ".venv/bin/activate"]:
            assert "-m venv .venv" in dry_run("env", "VENV=.venv", "BIN=absent")
        case _:
            pytest.fail(f"{text.name}: {command}: teach this test how to run it")


def works_small(text, script, words, capsys):
    """Runs a runner in this process, small: exit 0, the promised files exist, the last line names one of them."""
    runner = importlib.import_module(Path(script).stem)
    assert (ROOT / script).stat().st_mode & 0o111, "not executable"
    args = runner.build_parser().parse_args(words)
    if hasattr(runner, "settle"):
        runner.settle(args)
    for asked in ("images", "content", "style", "fool", "init"):
        for value in np.atleast_1d(getattr(args, asked, None) or []):
            if Path(value).suffix and not Path(value).exists():
                draw_a_photo(Path(value))
    masks = [getattr(args, "mask", None), *(getattr(args, "regions", None) or [])]
    for mask, like in zip(
        filter(None, masks), (args.content, *args.style) if any(masks) else (), strict=False
    ):
        draw_a_mask(Path(mask), open_image(like).size)
    if Path(getattr(args, "cover", None) or "").suffix:
        draw_a_mask(Path(args.cover), open_image(args.images[0]).size)
    if args.replay:
        made = next(c for c in gallery.commands(text) if args.replay in gallery.files_of(c))
        works_small(text, *(lambda script, *rest: (script, rest))(*shlex.split(made)), capsys)
    small = [*words, *smaller(Path(script).stem, args)]
    assert runner.main(small) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out.strip().splitlines()
    promised = gallery.files_of(shlex.join([script, *small]))
    assert all(Path(file).is_file() for file in promised)
    assert printed and (not promised or printed[-1] in promised)


def draw_a_mask(path, size):
    """The mask that the project has, or black and white halves."""
    path.parent.mkdir(exist_ok=True)
    if (ROOT / path).exists():
        shutil.copy(ROOT / path, path)
        return
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    mask.save(path)


def smaller(name, args):
    """The arguments that make a runner's work small, with the others that it has."""
    if args.replay:
        return []
    if name == "style_transfer" and args.method == "paint":
        return ["--model", "squeezenet", "--size", "64", *([] if args.budget else ["--steps", "1"])]
    # Instead of weights that need a download, random ones.
    packaged = args.model in (None, "squeezenet")
    weights = [] if packaged or args.weights else ["--weights", "random"]
    if name == "style_transfer":
        return [*weights, "--image-size", "32", "--style-size", "32"]
    if name == "class_visualization":
        if args.fool:  # in as many steps as it takes
            return [*weights, "--size", "64", "--learning-rate", "3"]
        # The graded function draws at one size.
        return [*weights, "--iterations", "2", *(["--size", "64"] if args.method == "fourier" else [])]
    return [*weights, "--size", "64", *([] if args.images else ["--images", "coffee"])]


def draw_a_photo(path, size=(90, 60)):
    """A colourful picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)


def makes(words):
    """The target exists, has a help text, and calls what TARGETS says (which is not run)."""
    (target,) = [word for word in words if "=" not in word]
    assert target in TARGETS, f"make {target}: teach this test what it calls"
    assert re.search(rf"^{target}:.* ## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    printed = dry_run(*words)
    for part in TARGETS[target]:
        assert part in printed


def dry_run(*words):
    """What make would run if no target were up to date."""
    done = subprocess.run(["make", "-n", "-B", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def programs():
    """Every program in Python that a text shows."""
    return [
        pytest.param(token.content, id=f"{text.name}-line-{token.map[0]}")
        for text in TEXTS
        for token in gallery.tokens(text)
        if (token.type, token.info) == ("fence", "python")
    ]


@pytest.mark.parametrize("program", programs())
def test_a_program_runs_and_writes_what_it_says(program, elsewhere):
    exec(compile(program, "program", "exec"), {})
    for name in re.findall(r"""\.save\("(.+?)"\)""", program):
        Image.open(name).verify()


def test_an_unknown_command_fails(elsewhere, capsys):
    for command in ("frobnicate --all", "python -m frobnicate", "make frobnicate"):
        with pytest.raises((pytest.fail.Exception, AssertionError), match="teach this test"):
            test_a_command_works(TEXTS[0], command, None, capsys)
    for command in ("./saliency_visualization.py --frobnicate", "python -m grading frobnicate"):
        with pytest.raises(SystemExit):
            test_a_command_works(TEXTS[0], command, None, capsys)


def parsers():
    """Every command line of the project: its name -> parser."""
    runners = {name: importlib.import_module(name).build_parser() for name in gallery.RUNNERS}
    others = {
        module.__name__: module.build_parser() for module in (collect_submission, gallery, report_command)
    }
    of_grading = grading_command.build_parser()
    (commands,) = (a for a in of_grading._actions if isinstance(a, argparse._SubParsersAction))
    return runners | others | {f"grading {name}": parser for name, parser in commands.choices.items()}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)
def test_every_option_that_is_named_exists(text):
    options = {name: set(parser._option_string_actions) for name, parser in parsers().items()}
    known = set().union(*options.values())
    for token in gallery.tokens(text):
        if token.type != "code_inline":
            continue
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", token.content))
        if token.content.startswith("--"):
            assert named <= known, token.content
        elif script := re.match(r"\./(\w+)\.py ", token.content):
            assert named <= options[script[1]], token.content


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)
def test_every_link_has_a_target(text):
    tokens = list(gallery.tokens(text))
    for i, token in enumerate(tokens):
        target = token.attrs.get("href") or token.attrs.get("src")
        if token.type not in ("link_open", "image") or re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        path = (text.parent / name).resolve() if name else text
        assert path.exists(), target
        if path.suffix == ".py" and tokens[i + 1].type == "code_inline":
            first, last = lines_of(tokens[i + 1].content, path)
            if fragment:  # L40, or L40-L52
                lines = [int(line) for line in re.findall(r"L(\d+)", fragment)]
                assert lines and first <= min(lines) and max(lines) <= last, target
        elif path.suffix == ".md" and fragment:
            assert fragment in {slug(heading) for heading in headings(path)}, target


def lines_of(shown, path):
    """The first and last line of the definition of a name in a file (`function`, `method` or `Class.method`, with or
    without parentheses); of the whole file if `shown` is its path.
    """
    source = path.read_text()
    if path.as_posix().endswith(f"/{shown}"):
        return 1, source.count("\n")
    assert re.fullmatch(r"[\w.]+(\(\))?", shown), f"{shown}: say the name of something in {path.name}"
    module = ast.parse(source)
    nodes = [module, *(node for node in module.body if isinstance(node, ast.ClassDef))]
    for name in shown.removesuffix("()").split("."):
        nodes = [inner for node in nodes for inner in getattr(node, "body", ()) if name in names_of(inner)]
        assert nodes, f"{shown} is not defined in {path.name}"
    return nodes[0].lineno, nodes[0].end_lineno


def names_of(node):
    """The names that a statement defines."""
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Assign() | ast.AnnAssign():
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    return set()


def headings(text):
    tokens = list(gallery.tokens(text))
    return [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]


def slug(heading):
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_are_read_closely():
    path = ROOT / "visualizers/saliency_map.py"
    first, last = lines_of("SaliencyMap.compute_saliency_maps()", path)
    assert 1 < first < last and lines_of("compute_saliency_maps", path) == (first, last)
    for wrong in ("X", "frobnicate", "SaliencyMap.frobnicate", "SaliencyMap and so on"):
        with pytest.raises(AssertionError):
            lines_of(wrong, path)
    assert slug("What `total variation` does, and why") == "what-total-variation-does-and-why"


def test_every_picture_is_small_is_shown_and_can_be_made_again():
    shown = [picture for text in TEXTS for picture in gallery.pictures(text)]
    drawn = {path for ending in ("jpg", "png", "gif") for path in (ROOT / "docs").rglob(f"*.{ending}")}
    masks = {ROOT / f"docs/{name}.png" for name in ("astronaut_mask", "coffee_regions", "swirl_regions")}
    assert drawn == {picture.copy for picture in shown} | masks
    for picture in shown:
        assert picture.copy.stat().st_size < gallery.MAX_BYTES[picture.copy.parent.name], picture.copy.name
        assert picture.command, (
            f"{picture.copy.name}: no command of {picture.text.name} writes {picture.original!r}"
        )
    # Two texts that show the same copy must mean the same original.
    assert len({picture.copy for picture in shown}) == len({picture[1:3] for picture in shown})


def test_a_copy_is_narrow_and_as_light_as_its_folder_asks(tmp_path, monkeypatch):
    large, small, smaller = (tmp_path / name for name in ("large.png", "docs/a.jpg", "docs/methods/a.jpg"))
    draw_a_photo(large, (2000, 900))
    gallery.reduce(large, small)
    assert Image.open(small).size == (1400, 630)
    best = small.stat().st_size
    monkeypatch.setitem(gallery.MAX_BYTES, "methods", best)
    gallery.reduce(large, smaller)
    assert Image.open(smaller).size == (1400, 630) and smaller.stat().st_size < best
    gallery.reduce(large, small)
    assert small.stat().st_size == best
    smaller.unlink()
    monkeypatch.setitem(gallery.MAX_BYTES, "methods", 900)
    with pytest.raises(gallery.CannotError, match="draw it smaller"):
        gallery.reduce(large, smaller)
    assert not any(smaller.parent.iterdir())


def test_the_gallery_runs_a_command_once_and_says_what_went_wrong(tmp_path, monkeypatch, capsys):
    assert gallery.main(["--only", "frobnicate"]) == 2
    assert "no picture is called 'frobnicate'" in capsys.readouterr().err
    (tmp_path / "docs").mkdir()
    script = "import sys, PIL.Image\nname = sys.argv[1]\nif name == 'bad': sys.exit(3)\n"
    script += "PIL.Image.new('RGB', (9, 9)).save(name)\nprint(name, file=open('log', 'a'))\n"
    (tmp_path / "draw.py").write_text(script)
    monkeypatch.setattr(gallery, "ROOT", tmp_path)
    text = tmp_path / "README.md"
    pictures = [
        gallery.Picture(text, tmp_path / "docs/a.jpg", "a.png", "./draw.py a.png"),
        gallery.Picture(text, tmp_path / "docs/b.jpg", "a.png", "./draw.py a.png"),
        gallery.Picture(text, tmp_path / "docs/c.jpg", "c.png", "./draw.py bad"),
        gallery.Picture(text, tmp_path / "docs/d.jpg", "d.png", None),
        gallery.Picture(text, tmp_path / "docs/e.jpg", "e.png", "./draw.py f.png"),
    ]
    wrong = gallery.rebuild(pictures)
    assert wrong == [
        "docs/d.jpg (README.md): no command writes d.png",
        "./draw.py bad: exit 3",
        "./draw.py f.png: did not write e.png",
    ]
    assert (tmp_path / "log").read_text().split() == ["a.png", "f.png"]
    assert {path.name for path in (tmp_path / "docs").iterdir()} == {"a.jpg", "b.jpg"}
    assert "[1/3] ./draw.py a.png\n" in capsys.readouterr().out
