"""The page's widgets, and which function of `answers` each of them calls."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from helpers.data_utils import class_names
from helpers.errors import CannotError, UsageError
from page import answers

FONTS = ["system-ui", "sans-serif"]
MAX_FILE = "20mb"
KEPT = (600, 600)  # seconds: how often files of the page are looked at, and how old they may get
ONE = {"concurrency_id": "network", "concurrency_limit": 1}


def one_sentence(function: Callable) -> Callable:
    """The function, whose errors the page shows as one sentence."""

    def said(error: Exception) -> gr.Error:
        if isinstance(error, NotImplementedError):
            return gr.Error(f"{error} is not implemented yet.")
        if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("extras"):
            return gr.Error("This needs the folder extras/, which is not part of this copy.")
        if isinstance(error, CannotError | UsageError):
            return gr.Error(" ".join(str(error).split()))
        return gr.Error(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")

    @functools.wraps(function)
    def answer(*values: Any) -> Any:
        try:
            return function(*values)
        except Exception as error:
            raise said(error) from None

    @functools.wraps(function)
    def answers_one_by_one(*values: Any) -> Any:
        try:
            yield from function(*values)
        except Exception as error:
            raise said(error) from None

    return answers_one_by_one if function.__code__.co_flags & 0x20 else answer


def upload(label: str) -> gr.Image:
    """A place for a photo. Its file comes as it was sent: `helpers.image_utils` reads it, not Gradio."""
    widget = gr.Image(
        label=label, sources=["upload", "clipboard", "webcam"], type="filepath", buttons=[], height=240
    )
    widget.preprocess = lambda payload: payload.path if payload else None  # type: ignore[method-assign]
    return widget


@one_sentence
def look(*values: Any) -> tuple:
    path, name, method, layer, opacity, target, versus, random = values
    result = answers.look(path, name, method, int(layer), opacity, target or "", versus or "", random)
    about = f"**{result.explained}**" + (f" minus **{versus}**" if versus else "")
    if random:
        about += ", random weights: this network has learned nothing"
    return (
        result.picture,
        dict(result.classes),
        f"{about}, layer {answers.layers()[int(layer)]}",
        result.command,
    )


@functools.cache
def _downloads() -> tempfile.TemporaryDirectory:
    """Where the last download lies until the page hands it out; removed when the program ends."""
    return tempfile.TemporaryDirectory(prefix="page-")


@one_sentence
def download(command: str, path: str | None) -> str:
    return str(answers.run_command(command, path, Path(_downloads().name)))


@one_sentence
def open_poke(path: str | None, name: str) -> np.ndarray:
    return answers.photo_of(path, name)[0]


@one_sentence
def poke(editor: dict, how: str) -> tuple[np.ndarray, list[list]]:
    photo = _photo(editor)
    mask = np.zeros(photo.shape[:2], bool)
    for layer in editor["layers"]:
        mask |= np.asarray(layer)[..., -1] > 0
    return _poked(photo, mask, how)


@one_sentence
def cover(editor: dict, how: str, share: float, random: bool) -> tuple[np.ndarray, list[list]]:
    photo = _photo(editor)
    return _poked(photo, answers.suggested_mask(photo, share, random), how)


def _photo(editor: dict | None) -> np.ndarray:
    if not editor or editor["background"] is None:
        raise UsageError("Load a photo first.")
    return np.ascontiguousarray(np.asarray(editor["background"])[..., :3])


def _poked(photo: np.ndarray, mask: np.ndarray, how: str) -> tuple[np.ndarray, list[list]]:
    picture, rows = answers.poke(photo, mask, how)
    return picture, [[name, f"{before:.2f}", f"{after:.2f}"] for name, before, after in rows]


@one_sentence
def dream(target: str, method: str, iterations: float, seed: float) -> Any:
    yield from answers.dream(target, method, int(iterations), int(seed))


@one_sentence
def paint(*values: Any) -> Any:
    path, name, style, size, strength, keep_colors, seconds = values
    yield from answers.paint_live(path, name, style, int(size), strength, keep_colors, seconds)


def build() -> gr.Blocks:
    """The page, ready to launch."""
    methods = [*answers.GRADED, *answers.extra_methods()]
    names, last = class_names(), len(answers.layers()) - 1
    with gr.Blocks(title="What a network sees", analytics_enabled=False, delete_cache=KEPT) as page:
        gr.Markdown("# What a network sees\nSqueezeNet 1.1, on this computer. No photo leaves it.")
        with gr.Tab("Look"), gr.Row():
            with gr.Column(min_width=300):
                path = upload("your photo")
                name = gr.Dropdown(answers.photo_names(), value="chelsea", label="or a bundled photo")
                method = gr.Dropdown(methods, value="Grad-CAM", label="method")
                layer = gr.Slider(0, last, value=last, step=1, label="layer, from first to last")
                opacity = gr.Slider(0, 1, value=1, label="opacity of the map")
                target = gr.Dropdown(names, value=None, label="class (default: the predicted one)")
                versus = gr.Dropdown(names, value=None, label="minus the score of")
                random = gr.Checkbox(label="random weights", value=False)
            with gr.Column(min_width=300):
                picture = gr.Image(label="map over the photo", buttons=[], interactive=False)
                about = gr.Markdown()
                bars = gr.Label(label="five best classes: click one to explain it", num_top_classes=5)
                command = gr.Textbox(label="the same on the command line", buttons=["copy"], lines=2)
                save = gr.Button("Make the figure with its recipe")
                file = gr.File(label="figure", interactive=False)
        inputs = [path, name, method, layer, opacity, target, versus, random]
        outputs = [picture, bars, about, command]
        for widget in inputs:
            moved = widget.input if hasattr(widget, "input") else widget.change
            moved(
                look,
                inputs,
                outputs,
                trigger_mode="always_last",
                show_progress="hidden",
                api_name=False,
                **ONE,
            )
        path.clear(look, inputs, outputs, api_name=False, **ONE)
        page.load(look, inputs, outputs, api_name="look", **ONE)

        def chosen(event: gr.SelectData) -> str:
            return event.value

        bars.select(chosen, None, target, api_name=False).then(look, inputs, outputs, api_name=False, **ONE)
        save.click(download, [command, path], file, api_name="download", **ONE)

        with gr.Tab("Poke"), gr.Row():
            with gr.Column(min_width=300):
                load = gr.Button("Load the photo of Look")
                editor = gr.ImageEditor(
                    label="brush over what to cover",
                    sources=(),
                    layers=False,
                    format="png",  # without loss: the scores before are those of the photo itself
                    transforms=(),
                    brush=gr.Brush(default_size=20, colors=["#808080"], color_mode="fixed"),
                    canvas_size=(answers.SIZE, answers.SIZE),
                    fixed_canvas=True,
                )
                how = gr.Radio(["grey", "blur"], value="grey", label="cover with")
                share = gr.Slider(0.01, 0.5, value=0.1, label="share of the photo")
                by_map = gr.Button("Cover what the map calls most important")
                by_chance = gr.Button("Cover the same area somewhere else")
            with gr.Column(min_width=300):
                poked = gr.Image(label="the covered photo and its new map", buttons=[], interactive=False)
                table = gr.Dataframe(
                    headers=["class", "before", "after"], label="probabilities", interactive=False
                )
        load.click(open_poke, [path, name], editor, api_name=False)
        result = [poked, table]
        editor.input(poke, [editor, how], result, trigger_mode="always_last", api_name="poke", **ONE)
        for button, chance in ((by_map, False), (by_chance, True)):
            flag = gr.State(chance)
            button.click(cover, [editor, how, share, flag], result, api_name=False, **ONE)

        with gr.Tab("Dream"), gr.Row():
            with gr.Column(min_width=300):
                wish = gr.Dropdown(names, value="gorilla", label="class")
                way = gr.Radio(
                    ["course", *["fourier"] * bool(answers.extra_methods())], value="course", label="method"
                )
                iterations = gr.Slider(10, 512, value=100, step=1, label="iterations")
                seed = gr.Number(0, label="seed", precision=0)
                start, stop = gr.Button("Dream", variant="primary"), gr.Button("Stop and keep")
            with gr.Column(min_width=300):
                grown = gr.Image(label="picture", interactive=False)
                state = gr.Markdown()
                dream_command = gr.Textbox(label="the same on the command line", buttons=["copy"])
        job = start.click(
            dream, [wish, way, iterations, seed], [grown, state, dream_command], api_name="dream", **ONE
        )
        stop.click(None, None, None, cancels=[job])

        with gr.Tab("Paint"):
            if not answers.extra_methods():
                gr.Markdown("The painter needs the folder extras/, which is not part of this copy.")
            else:
                _paint_tab()
    return page


def _paint_tab() -> None:
    with gr.Row():
        with gr.Column(min_width=300):
            path = upload("your photo")
            name = gr.Dropdown(answers.photo_names(), value="rocket", label="or a bundled photo")
            style = gr.Dropdown(answers.style_names(), value="swirl", label="style")
            size = gr.Slider(128, 1024, value=384, step=16, label="longer side in pixels")
            strength = gr.Slider(0.25, 4, value=1, label="strength")
            keep = gr.Checkbox(label="keep the photo's colours")
            seconds = gr.Slider(5, 300, value=30, step=5, label="seconds")
            start, stop = gr.Button("Paint", variant="primary"), gr.Button("Stop and keep")
        with gr.Column(min_width=300):
            canvas = gr.Image(label="painting", interactive=False)
            state = gr.Markdown()
            command = gr.Textbox(label="the same on the command line", buttons=["copy"], lines=2)
            save = gr.Button("Paint it again into a file with its recipe")
            file = gr.File(label="painting", interactive=False)
    inputs = [path, name, style, size, strength, keep, seconds]
    job = start.click(paint, inputs, [canvas, state, command], api_name="paint", **ONE)
    stop.click(None, None, None, cancels=[job])
    save.click(download, [command, path], file, api_name=False, **ONE)


def launch(host: str, port: int | None = None, *, browser: bool = False, block: bool = True) -> gr.Blocks:
    """Serves the page: one computation at a time, no link for others, small uploads, fonts of the system."""
    page = build().queue(max_size=8)
    page.launch(
        server_name=host,
        server_port=port,
        inbrowser=browser,
        share=False,
        prevent_thread_lock=not block,
        max_file_size=MAX_FILE,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        pwa=False,
        ssr_mode=False,
        theme=gr.themes.Base(font=FONTS, font_mono=["ui-monospace", "monospace"]),
    )
    return page
