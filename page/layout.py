"""The page's widgets, and which function of `answers` each of them calls."""

import contextlib
import functools
import html
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from helpers.data_utils import class_names
from helpers.errors import CannotError, UsageError
from page import answers
from page.answers import CLASS, LAYER, NETWORK, NOTHING

FONTS = ["system-ui", "sans-serif"]
MAX_FILE = "20mb"
FILE_HEIGHT = 45  # pixels of a line in the list of files
# What Gradio calls a pasted photo, and one of the camera. The visitor has no such file.
UNNAMED_PHOTOS = ("clipboard", "image")
Kept = tuple[str, str | None]  # a command line, and the uploaded photo that it was shown for
KEPT = (600, 3600)  # seconds: how often files of the page are looked at, and how old they may get
ONE: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1}
LIVE: dict[str, Any] = {"trigger_mode": "always_last", "show_progress": "hidden", "api_name": False, **ONE}
QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_name": False}
NO_EXTRAS = "This needs the folder extras/, which is not part of this copy."
CSS = """
.gradio-container { width: 100% !important; max-width: 1120px !important; margin: 0 auto !important; }
.shown { overflow: hidden; }
.shown .image-container, .shown .image-frame, .shown button, .shown img { width: 100% !important; }
.shown img { height: auto !important; max-height: 76vh; object-fit: contain; }
.said { min-height: 1.6em; }
.scores { width: 100%; border-collapse: collapse; border: 0 !important; }
.scores tr, .scores td, .scores th { border: 0 !important; }
.scores td, .scores th { padding: 0.35em 0.4em; text-align: right; width: 27%; }
.scores td:first-child, .scores th:first-child { text-align: left; width: 46%; }
.scores .bar { display: block; height: 5px; background: #ececec; margin-top: 2px; }
.scores .bar i { display: block; height: 5px; background: #1d4ed8; }
footer { display: none !important; }
"""


def sentence(error: Exception) -> str:
    """What a visitor reads of an error."""
    if isinstance(error, NotImplementedError):
        return f"{error or 'A task'} is not written yet."
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("extras"):
        return NO_EXTRAS
    text = " ".join(str(error).split())
    return text if isinstance(error, CannotError | UsageError) else f"{type(error).__name__}: {text[:200]}"


def one_sentence(function: Callable) -> Callable:
    """The function, whose errors the page shows as one sentence."""

    @functools.wraps(function)
    def answer(*values: Any) -> Any:
        try:
            return function(*values)
        except Exception as error:
            raise gr.Error(sentence(error)) from None

    @functools.wraps(function)
    def answers_one_by_one(*values: Any) -> Any:
        try:
            yield from function(*values)
        except Exception as error:
            raise gr.Error(sentence(error)) from None

    return answers_one_by_one if function.__code__.co_flags & 0x20 else answer


# What is called.


@one_sentence
def look(*values: Any) -> tuple:
    path, name, method, layer, opacity, target, versus, beside, *others = values
    others = dict(zip((CLASS, LAYER, NETWORK), others, strict=True))
    arguments = (target or "", versus or "", beside, others.get(beside) or 0)
    bars = dict(answers.classes_of(path, name))
    try:
        result = answers.look(path, name, method, int(layer), opacity, *arguments)
    except NotImplementedError as error:  # in a student's copy
        return None, f"**{sentence(error)}**", gr.update(visible=False), gr.update(), bars, "", ("", None)
    first, second = result.answer, result.beside
    shown = gr.update(value=second and second.picture, visible=second is not None)
    return (
        first.picture,
        f"**{first.about}**",
        shown,
        gr.update(value=f"**{second.about}**" if second else "", visible=second is not None),
        bars,
        result.command,
        (result.command, path),
    )


@one_sentence
def put_to_the_test(path: str | None, name: str, method: str, layer: float, *classes: str | None) -> tuple:
    picture, command = answers.put_to_the_test(path, name, method, int(layer), *(c or "" for c in classes))
    return gr.update(value=picture, visible=True), gr.update(visible=True), command, (command, path)


@functools.cache
def _downloads() -> tempfile.TemporaryDirectory:
    """Where the last download lies until the page hands it out; removed when the program ends."""
    return tempfile.TemporaryDirectory(prefix="page-")


@one_sentence
def download(kept: Kept, files: dict[str, bytes]) -> Any:
    command, path = kept
    if not command:
        raise UsageError("There is nothing to download yet.")
    if path and not Path(path).exists():
        raise UsageError("The page keeps photos for an hour only: choose yours again.")
    folder = Path(_downloads().name)
    for last in folder.iterdir():
        last.unlink()
    if path and Path(path).stem in UNNAMED_PHOTOS:
        files = files | {Path(path).name: Path(path).read_bytes()}
    figure = answers.run_command(command, path, folder, files)
    made = [str(figure), *(str(folder / name) for name in files)]
    label = f"figure, and what the command reads: {', '.join(files)}" if files else "figure"
    return gr.update(value=made, label=label, height=FILE_HEIGHT * (1 + len(made)), visible=True)


@one_sentence
def open_poke(path: str | None, name: str) -> np.ndarray:
    return answers.photo_of(path, name)


@one_sentence
def poke(strokes: Sequence[np.ndarray], path: str | None, name: str, how: str) -> tuple:
    mask = np.zeros((answers.SIZE, answers.SIZE), bool)
    for layer in strokes:
        mask |= layer
    return _poked(answers.poke(path, name, mask, how), path)


@one_sentence
def cover(path: str | None, name: str, how: str, share: float, elsewhere: bool) -> tuple:
    return _poked(answers.poke_share(path, name, share, how, elsewhere), path)


def _poked(poked: answers.Poked, path: str | None) -> tuple:
    lines = "".join(
        f"<tr><td>{html.escape(name)}</td>{_bar(before)}{_bar(after)}</tr>"
        for name, before, after in poked.classes
    )
    head = "<tr><th>class</th><th>before</th><th>after</th></tr>"
    table = f'<table class="scores">{head}{lines}</table>'
    return poked.picture, table, poked.command, (poked.command, path), poked.files


def _bar(probability: float) -> str:
    bar = f'<span class="bar"><i style="width:{100 * probability:.1f}%"></i></span>'
    return f"<td>{probability:.2f}{bar}</td>"


@one_sentence
def dream(what: str, target: str, layer: str, channel: float, *values: Any) -> Any:
    method, iterations, seed, count = values
    layer = layer if what == "a channel" else ""
    grown = answers.dream(target, method, int(iterations), int(seed), layer, int(channel), int(count))
    yield from _growing(grown, None)


@one_sentence
def paint(*values: Any) -> Any:
    path, name, style, method, model, size, strength, keep_colors, seconds = values
    grown = answers.paint(
        path,
        name,
        style,
        int(size),
        strength,
        method=method,
        model=model,
        keep_colors=keep_colors,
        seconds=seconds,
    )
    yield from _growing(grown, path)


def _growing(grown: Any, path: str | None) -> Any:
    """The outputs of what grows; for a task that is not written, a sentence under the empty picture."""
    try:
        for picture, text, command in grown:
            yield picture, text, command, (command, path)
    except NotImplementedError as error:
        yield None, f"**{sentence(error)}**", "", ("", None)


# What is shown.


def upload(label: str) -> gr.Image:
    """A place for a photo. Its file comes as it was sent: `helpers.image_utils` reads it, not Gradio."""
    widget = gr.Image(
        label=label, sources=["upload", "clipboard", "webcam"], type="filepath", buttons=[], height=200
    )
    widget.preprocess = lambda payload: payload.path if payload else None  # type: ignore[method-assign]
    return widget


def shown(label: str, **options: Any) -> gr.Image:
    """A picture that the page makes, as wide as its column."""
    return gr.Image(
        label=label,
        show_label=False,
        alt_text=label,
        buttons=[],
        interactive=False,
        elem_classes=["shown"],
        **options,
    )


def recipe() -> tuple[gr.Textbox, gr.State, gr.State]:
    """The command line, and a button that runs it and hands out the picture. What is run and for which photo, and the
    other files that it reads, are kept here, in the two states, and do not come from the browser.
    """
    command = gr.Textbox(
        label="the same on the command line", buttons=["copy"], lines=2, elem_classes=["command"]
    )
    kept, files = gr.State(("", None)), gr.State({})
    save = gr.Button("Download the figure with its recipe", size="sm")
    file = gr.File(label="figure", interactive=False, visible=False)
    save.click(download, [kept, files], file, api_name=False, **ONE)
    return command, kept, files


def brush() -> gr.ImageEditor:
    """A photo to brush over. What arrives are the strokes alone, as masks (H, W)."""
    editor = gr.ImageEditor(
        label="the photo to brush over",
        show_label=False,
        sources=(),
        layers=False,
        format="png",
        transforms=(),
        brush=gr.Brush(default_size=24, colors=["#808080"], color_mode="fixed"),
        canvas_size=(answers.SIZE, answers.SIZE),
        fixed_canvas=True,
    )

    def strokes(payload: Any) -> list[np.ndarray]:
        if payload is not None and payload.id is not None:
            payload = editor.blob_storage.pop(payload.id, None)
        masks = []
        for layer in (payload.layers if payload else None) or []:
            data = layer if isinstance(layer, bytes) else Path(layer.path).read_bytes()
            try:
                drawn = Image.open(io.BytesIO(data), formats=["PNG", "WEBP"]).convert("RGBA")
            except Exception as error:
                raise gr.Error("The strokes did not arrive as a picture.") from error
            masks.append(np.asarray(drawn.resize((answers.SIZE, answers.SIZE)))[..., 3] > 0)
        return masks

    editor.preprocess = strokes  # type: ignore[method-assign]
    return editor


def build() -> gr.Blocks:
    """The page, ready to launch."""
    with gr.Blocks(title="What a network sees", analytics_enabled=False, delete_cache=KEPT) as page:
        gr.Markdown("# What a network sees\nSqueezeNet 1.1, on this computer. No photo leaves it.")
        with gr.Tab("Look"):
            path, name = look_tab(page)
        with gr.Tab("Poke") as tab:
            poke_tab(tab, path, name)
        with gr.Tab("Dream"):
            dream_tab()
        with gr.Tab("Paint"):
            paint_tab()
    return page


def look_tab(page: gr.Blocks) -> tuple[gr.Image, gr.Dropdown]:
    names, last = class_names(), len(answers.layers()) - 1
    extras, ready = bool(answers.extra_methods()), list(answers.networks())
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            with gr.Row():
                with gr.Column(min_width=150):
                    picture = shown("the map over the photo")
                    about = gr.Markdown(elem_classes=["said"])
                with gr.Column(min_width=150, visible=False) as second:
                    other_picture = shown("the second map over the photo")
                    other_about = gr.Markdown(elem_classes=["said"])
            layer = gr.Slider(0, last, value=last, step=1, label="layer, from first to last")
            opacity = gr.Slider(0, 1, value=1, label="opacity of the map")
            bars = gr.Label(
                label="five best classes: click one to explain it", num_top_classes=5, show_heading=False
            )
        with gr.Column(scale=2, min_width=300):
            name = gr.Dropdown(answers.photo_names(), value="chelsea", label="a bundled photo")
            path = upload("or your own photo")
            method = gr.Dropdown(
                [*answers.GRADED, *answers.extra_methods()], value="Grad-CAM", label="method"
            )
            target = gr.Dropdown(names, value=None, label="class (default: the predicted one)")
            versus = gr.Dropdown(names, value=None, label="minus the score of", visible=extras)
            beside = gr.Radio([NOTHING, CLASS, LAYER, NETWORK], value=NOTHING, label="beside it")
            other_class = gr.Dropdown(
                names, value=None, label="the other class (default: the second best)", visible=False
            )
            other_layer = gr.Slider(0, last, value=last // 2, step=1, label="the other layer", visible=False)
            other_network = gr.Dropdown(ready, value=ready[0], label="the other network", visible=False)
    with gr.Row():
        with gr.Column(min_width=300):
            command, kept, _ = recipe()
        with gr.Column(min_width=300, visible=extras):
            test = gr.Button("Put the map to the test", size="sm")
            tested = shown("deletion and insertion curves, maps of re-initialized networks", visible=False)
            meaning = gr.Markdown(answers.meaning_of_tests() if extras else "", visible=False)
    inputs = [path, name, method, layer, opacity, target, versus, beside]
    inputs += [other_class, other_layer, other_network]
    outputs = [picture, about, other_picture, other_about, bars, command, kept]
    for widget in inputs:
        moved = widget.input if hasattr(widget, "input") else widget.change
        moved(look, inputs, outputs, **LIVE)
    path.clear(look, inputs, outputs, **LIVE)
    page.load(look, inputs, outputs, api_name="look", show_progress="hidden", **ONE)

    def chosen(event: gr.SelectData) -> str:
        return event.value

    bars.select(chosen, None, target, **QUICK).then(look, inputs, outputs, **LIVE)
    beside.input(
        lambda value: (
            [gr.update(visible=value != NOTHING)]
            + [gr.update(visible=value == one) for one in (CLASS, LAYER, NETWORK)]
        ),
        beside,
        [second, other_class, other_layer, other_network],
        **QUICK,
    )
    method.input(lambda value: gr.update(interactive=answers.has_layers(value)), method, layer, **QUICK)
    test.click(
        put_to_the_test,
        [path, name, method, layer, target, versus],
        [tested, meaning, command, kept],
        api_name="test",
        **ONE,
    )
    return path, name


def poke_tab(tab: gr.Tab, path: gr.Image, name: gr.Dropdown) -> None:
    if not answers.extra_methods():
        gr.Markdown(NO_EXTRAS)
        return
    gr.Markdown(
        "Does the score fall where the map says so? Brush over the photo of *Look* to cover a region."
    )
    with gr.Row():
        with gr.Column(min_width=320):
            editor = brush()
            how = gr.Radio(["grey", "blur"], value="grey", label="cover with")
        with gr.Column(min_width=320):
            picture = shown("the covered photo and its new map")
            table = gr.HTML()
            share = gr.Slider(0.01, 0.5, value=0.1, step=0.01, label="share of the photo")
            by_map = gr.Button("Cover what the map calls most important")
            by_chance = gr.Button("Cover the same area somewhere else")
    command, kept, files = recipe()
    result = [picture, table, command, kept, files]
    tab.select(open_poke, [path, name], editor, **QUICK).then(
        poke, [editor, path, name, how], result, show_progress="hidden", api_name=False, **ONE
    )
    editor.input(poke, [editor, path, name, how], result, **{**LIVE, "api_name": "poke"})
    how.input(poke, [editor, path, name, how], result, **LIVE)
    for button, chance in ((by_map, False), (by_chance, True)):
        flag = gr.State(chance)
        button.click(
            cover, [path, name, how, share, flag], result, show_progress="hidden", api_name=False, **ONE
        )


def dream_tab() -> None:
    extras = bool(answers.extra_methods())
    with gr.Row():
        with gr.Column(min_width=320):
            picture = shown("the picture so far")
            state = gr.Markdown(elem_classes=["said"])
            command, kept, _ = recipe()
        with gr.Column(min_width=300):
            with gr.Row(equal_height=True):
                start = gr.Button("Dream", variant="primary", min_width=120)
                stop = gr.Button("Stop and keep", min_width=120)
            what = gr.Radio(["a class", "a channel"], value="a class", label="of", visible=extras)
            target = gr.Dropdown(class_names(), value="gorilla", label="class")
            layer = gr.Dropdown(answers.layers(), value="features.7", label="layer", visible=False)
            channel = gr.Number(12, label="channel", precision=0, minimum=0, visible=False)
            method = gr.Radio(
                [("the assignment's, on pixels", "pixels"), ("on a spectrum (fourier)", "fourier")][
                    : 1 + extras
                ],
                value="fourier" if extras else "pixels",
                label="method",
            )
            iterations = gr.Slider(8, 512, value=128, step=8, label="iterations")
            count = gr.Slider(1, 4, value=1, step=1, label="pictures")
            seed = gr.Number(0, label="seed", precision=0, minimum=0)

    def shape(value: str) -> list:
        of_class = value == "a class"
        return [
            gr.update(visible=of_class),
            *[gr.update(visible=not of_class)] * 2,
            gr.update(visible=of_class),
        ]

    what.input(shape, what, [target, layer, channel, method], **QUICK)
    inputs = [what, target, layer, channel, method, iterations, seed, count]
    outputs = [picture, state, command, kept]
    job = start.click(dream, inputs, outputs, api_name="dream", show_progress="hidden", **ONE)
    stop.click(None, None, None, cancels=[job])


def paint_tab() -> None:
    extras = bool(answers.extra_methods())
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            canvas = shown("the painting so far")
            state = gr.Markdown(elem_classes=["said"])
        with gr.Column(scale=2, min_width=300):
            with gr.Row(equal_height=True):
                start = gr.Button("Paint", variant="primary", min_width=120)
                stop = gr.Button("Stop and keep", min_width=120)
            name = gr.Dropdown(answers.photo_names(), value="rocket", label="a bundled photo")
            path = upload("or your own photo")
            style = gr.Dropdown(answers.style_names(), value="swirl", label="style")
            method = gr.Radio(
                [("the painter", "paint"), ("the assignment's loop", "course")][not extras :],
                value="paint" if extras else "course",
                label="method",
            )
            strength = gr.Slider(0.25, 4, value=1, label="strength")
            size = gr.Slider(128, 1024, value=384, step=16, label="longer side in pixels")
            seconds = gr.Slider(5, 300, value=30, step=5, label="seconds", visible=extras)
            keep = gr.Checkbox(label="keep the photo's colours", visible=extras)
            model = gr.Radio(
                [("SqueezeNet", "squeezenet"), ("VGG-16", "vgg16")], value="squeezenet", label="network"
            )
    command, kept, _ = recipe()
    method.input(lambda value: [gr.update(visible=value == "paint")] * 2, method, [seconds, keep], **QUICK)
    inputs = [path, name, style, method, model, size, strength, keep, seconds]
    outputs = [canvas, state, command, kept]
    job = start.click(paint, inputs, outputs, api_name="paint", show_progress="hidden", **ONE)
    stop.click(None, None, None, cancels=[job])


def launch(host: str, port: int | None = None, *, browser: bool = False, block: bool = True) -> gr.Blocks:
    """Serves the page: one computation at a time, no link for others, small uploads, fonts of the system."""
    page = build().queue(max_size=8)
    page.launch(
        server_name=host,
        server_port=port,
        inbrowser=browser,
        share=False,
        prevent_thread_lock=True,
        quiet=True,
        max_file_size=MAX_FILE,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        pwa=False,
        ssr_mode=False,
        css=CSS,
        theme=gr.themes.Base(font=FONTS, font_mono=["ui-monospace", "monospace"]),
    )
    print(f"The page is at {page.local_url} (Ctrl-C ends it).", flush=True)
    if block:
        with contextlib.suppress(KeyboardInterrupt):  # the way to end the page
            while True:
                time.sleep(1)  # Windows does not interrupt a wait without an end
        page.close(verbose=False)
    return page
