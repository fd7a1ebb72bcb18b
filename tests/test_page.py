"""The page through Gradio's own client, without a browser. Its functions need no Gradio, and are tested without it."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import gradcam_visualization
from helpers.data_utils import load_photo
from helpers.errors import UsageError
from helpers.figures import overlay
from helpers.image_utils import preprocess
from page import answers, live
from page.__main__ import main
from visualizers import GradCam

ROOT = Path(__file__).resolve().parent.parent
NO_GRADIO = "gradio is not installed: pip install -r page/requirements.txt"
# What the widgets of Look hold when the page opens: the photo, ..., nothing beside it, three others.
LOOK = [
    None,
    "chelsea",
    "Grad-CAM",
    12,
    1.0,
    None,
    None,
    "nothing",
    None,
    6,
    "SqueezeNet with random weights",
]


@pytest.fixture(scope="module")
def client():
    pytest.importorskip("gradio", reason=NO_GRADIO)
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    from gradio_client import Client

    from page.layout import launch

    page = launch("127.0.0.1", block=False)
    yield Client(page.local_url, verbose=False)
    page.close()


def test_the_page_names_no_other_host(client):
    with urllib.request.urlopen(client.src) as answer:
        html = answer.read().decode()
    hosts = set(re.findall(r"""(?:src|href)=["'](https?://[^"'/]+)""", html))
    assert not {host for host in hosts if "127.0.0.1" not in host}


def test_look_answers_through_the_client(client):
    picture, about, *_, classes, command = client.predict(*LOOK, api_name="/look")
    assert classes["label"] == "tiger cat"
    assert about == "**tiger cat, layer features.12**"
    assert command == "./gradcam_visualization.py --images chelsea --classes 282 --layers features.12"


def test_a_change_of_the_slider_takes_little_of_the_processor(client):
    """Less than 0.3 s on a quiet machine: the map, its picture, and all that Gradio does, on both sides."""
    client.predict(*LOOK, api_name="/look")
    began = time.process_time()
    for layer in range(8):
        client.predict(*LOOK[:3], layer, *LOOK[4:], api_name="/look")
    assert (time.process_time() - began) / 8 < 0.3


def test_poke_answers_through_the_client(client, tmp_path):
    from gradio_client import handle_file

    strokes = np.zeros((224, 224, 4), np.uint8)
    strokes[60:180, 60:180] = 255
    Image.fromarray(strokes).save(tmp_path / "strokes.png")
    drawn = {"background": None, "layers": [handle_file(str(tmp_path / "strokes.png"))], "composite": None}
    _, table, command = client.predict(drawn, None, "coffee", "grey", api_name="/poke")
    assert "espresso" in table
    assert command == "./gradcam_visualization.py --images coffee --classes 967 --cover region.png --top 5"
    before, after = (float(number) for number in re.findall(r"<td>([\d.]+)<", table)[:2])
    assert after < before


def test_strokes_in_another_format_are_refused_in_one_sentence(client, tmp_path):
    from gradio_client import handle_file

    Image.new("RGB", (9, 9)).save(tmp_path / "strokes.bmp")
    drawn = {"background": None, "layers": [handle_file(str(tmp_path / "strokes.bmp"))], "composite": None}
    with pytest.raises(Exception, match="did not arrive as a picture"):
        client.predict(drawn, None, "coffee", "grey", api_name="/poke")


def test_an_error_is_one_sentence(client, tmp_path):
    from gradio_client import handle_file

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(Exception, match="is not an image file") as caught:
        client.predict(handle_file(str(broken)), *LOOK[1:], api_name="/look")
    assert "Traceback" not in str(caught.value)


def test_the_browser_cannot_say_which_command_is_run(client):
    """Nothing that is run, and no path, is a parameter of what the page answers."""
    answered = client.view_api(return_format="dict")["named_endpoints"]
    assert sorted(answered) == ["/dream", "/look", "/paint", "/poke", "/test"]
    parameters = [p["label"] for endpoint in answered.values() for p in endpoint["parameters"]]
    assert not [label for label in parameters if "command" in label]


def test_what_each_tab_downloads_is_kept_by_the_page():
    gradio = pytest.importorskip("gradio", reason=NO_GRADIO)
    from page.layout import build

    downloads = [event for event in build().fns.values() if event.name == "download"]
    assert len(downloads) == 4
    for event in downloads:
        command, files, *_ = event.inputs
        assert isinstance(command, gradio.State) and isinstance(files, gradio.State)


def test_the_map_over_the_photo_is_the_graded_one():
    result = answers.look(None, "coffee")
    photo = answers.photo_of(None, "coffee")
    X, y = preprocess(photo, 224), torch.tensor([967])
    heat = GradCam().grad_cam(X, y, answers.network(), layer="features.12")[0]
    assert result.answer.about == "espresso, layer features.12" and result.beside is None
    assert np.abs(result.answer.picture.astype(int) - overlay(photo, heat)).max() == 0
    assert np.array_equal(answers.look(None, "coffee", opacity=0.0).answer.picture, photo)
    assert not np.array_equal(answers.look(None, "coffee", layer=3).answer.picture, result.answer.picture)


@pytest.mark.parametrize(
    ("beside", "other", "about", "words"),
    [
        (
            answers.CLASS,
            "cup",
            "cup, layer features.12",
            ["--classes", "967", "968", "--layers", "features.12"],
        ),
        (answers.LAYER, 4, "espresso, layer features.4", ["--layers", "features.12", "features.4"]),
        (answers.NETWORK, "SqueezeNet with random weights", None, ["--compare-models", "squeezenet:random"]),
    ],
)
def test_two_answers_side_by_side_have_one_command(beside, other, about, words):
    one = answers.look(None, "coffee")
    two = answers.look(None, "coffee", beside=beside, other=other)
    assert np.array_equal(two.answer.picture, one.answer.picture)
    assert not np.array_equal(two.beside.picture, one.answer.picture)
    assert (
        two.beside.about == about
        if about
        else two.beside.about.startswith("espresso, SqueezeNet with random")
    )
    given = shlex.split(two.command)
    assert given[given.index(words[0]) :][: len(words)] == words


def test_the_other_class_is_by_default_the_second_best():
    two = answers.look(None, "coffee", beside=answers.CLASS)
    assert two.beside.about == f"{two.classes[1][0]}, layer features.12"


def test_what_cannot_be_asked_is_refused_in_one_sentence():
    with pytest.raises(UsageError, match="saliency map explains the pixels, not a layer"):
        answers.look(None, "coffee", "saliency map", beside=answers.LAYER, other=3)
    with pytest.raises(UsageError, match="espresso minus itself is 0"):
        answers.look(None, "coffee", versus="espresso")
    with pytest.raises(UsageError, match="cup minus itself is 0"):
        answers.look(None, "coffee", versus="cup", beside=answers.CLASS, other="cup")


def test_a_downloaded_network_can_stand_beside(tmp_path, monkeypatch):
    import torchvision

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(
        "helpers.weights.is_intact", lambda path, sha256: path.exists()
    )  # random, in its place
    assert list(answers.networks()) == ["SqueezeNet with random weights"]
    torch.manual_seed(0)
    folder = tmp_path / "hub/checkpoints"
    folder.mkdir(parents=True)
    entry = torchvision.models.get_model_weights("squeezenet1_0").DEFAULT
    torch.save(torchvision.models.squeezenet1_0(weights=None).state_dict(), folder / Path(entry.url).name)
    assert list(answers.networks()) == ["SqueezeNet with random weights", "squeezenet1_0"]
    two = answers.look(None, "coffee", beside=answers.NETWORK, other="squeezenet1_0")
    assert two.beside.about.startswith("espresso, squeezenet1_0")
    assert two.command.endswith("--compare-models squeezenet1_0")


def test_a_change_of_opacity_or_layer_does_not_ask_for_the_classes_again(monkeypatch):
    answers.look(None, "rocket")
    asked = answers.probabilities_of.cache_info().misses
    answers.look(None, "rocket", layer=4, opacity=0.5)
    assert answers.probabilities_of.cache_info().misses == asked
    monkeypatch.setattr(answers, "explain", lambda *a: pytest.fail("explained again"))
    answers.look(None, "rocket", layer=4, opacity=0.7)


def test_an_upload_never_becomes_an_option(photo_file, tmp_path):
    odd = tmp_path / "--model"
    odd.write_bytes(photo_file.read_bytes())
    words = shlex.split(answers.look(str(odd), "chelsea").command)
    assert words[words.index("--images") + 1] == "./--model"
    first = next(answers.paint(str(odd), "chelsea", "swirl", 128, 1.0))
    assert "--content ./--model " in first.command


def test_a_map_is_put_to_the_test():
    picture, command = answers.put_to_the_test(None, "coffee", "Grad-CAM", 12, "", "cup")
    assert command == (
        "./gradcam_visualization.py --images coffee --classes 967 --versus 968 --layers features.12 --trust"
    )
    assert picture.width > picture.height and len(picture.getcolors(1_000_000)) > 1000


@pytest.mark.slow
def test_the_commands_draw(tmp_path):
    command = answers.look(None, "coffee", versus="cup", beside=answers.CLASS, other="consomme").command
    assert answers.run_command(command, None, tmp_path).is_file()
    with pytest.raises(answers.CannotError, match="nonsense"):
        answers.run_command("./gradcam_visualization.py --images nonsense", None, tmp_path)


def test_covering_what_the_map_names_costs_more_than_the_same_area_elsewhere():
    best, moved = (answers.poke_share(None, "coffee", 0.2, "grey", elsewhere) for elsewhere in (False, True))
    nothing = answers.poke(None, "coffee", np.zeros((224, 224), bool), "grey")
    assert all(before == pytest.approx(after, abs=1e-5) for _, before, after in nothing.classes)
    assert best.classes[0][2] < moved.classes[0][2] < nothing.classes[0][1]
    command = "./gradcam_visualization.py --images coffee --classes 967 --cover 20% --top 5"
    assert best.command == moved.command == command and best.files == moved.files == {}
    blurred = answers.poke_share(None, "coffee", 0.125, "blur", False).command
    assert blurred == command.replace("20%", "12.5% --cover-with blur")
    with pytest.raises(UsageError, match="--cover 150%: a share is"):
        answers.poke_share(None, "coffee", 1.5, "grey", False)


def test_nothing_covered_is_what_look_shows():
    nothing = answers.poke(None, "coffee", np.zeros((224, 224), bool), "grey")
    look = answers.look(None, "coffee")
    assert np.abs(nothing.picture.astype(int) - look.answer.picture).max() <= 1
    assert nothing.command == look.command and nothing.files == {}


@pytest.fixture
def drawn_cells(monkeypatch):
    """What the Grad-CAM runner draws, by its options, in the folder of its command."""

    def draw(command, folder):
        kept = []
        monkeypatch.chdir(folder)
        monkeypatch.setattr("helpers.figures.save_grid", lambda path, rows, **_: kept.append(rows) or path)
        script, *words = shlex.split(command)
        assert script == "./gradcam_visualization.py" and gradcam_visualization.main(words) == 0
        return kept[0]

    return draw


def brushed():
    """A region with a fine edge and a single pixel."""
    mask = np.random.default_rng(0).random((224, 224)) < 0.3
    mask[60:150, 40:] = False
    mask[100, 100] = True
    return mask


@pytest.mark.parametrize("size", [(90, 60), (224, 224), (448, 448)])
@pytest.mark.parametrize("how", ["grey", "blur"])
def test_the_command_of_a_poke_draws_the_same_picture(size, how, tmp_path, drawn_cells):
    """The region's file is none of the photo's size: of that one, only the middle would count."""
    photo = tmp_path / "cup.png"
    load_photo("coffee").resize(size).save(photo)
    poked = answers.poke(str(photo), "chelsea", brushed(), how)
    for name, data in poked.files.items():
        (tmp_path / name).write_bytes(data)
    assert list(poked.files) == ["region.png"]
    photos, charts, maps = drawn_cells(poked.command, tmp_path)
    assert np.abs(poked.picture.astype(int) - maps[1].image).max() <= 1
    assert np.mean(poked.picture != maps[1].image) < 1e-3
    for (name, before, after), (title, value) in zip(poked.classes, charts[0].values, strict=True):
        assert name == title and before == pytest.approx(value, abs=1e-6)
        assert dict(charts[1].values).get(name, after) == pytest.approx(after, abs=1e-6)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_command_of_a_button_draws_the_same_picture(elsewhere, tmp_path, drawn_cells):
    poked = answers.poke_share(None, "chelsea", 0.13, "grey", elsewhere)
    maps = drawn_cells(poked.command, tmp_path)[-1]
    assert np.abs(poked.picture.astype(int) - maps[1 + elsewhere].image).max() <= 1


def test_a_photo_that_is_called_as_the_region_keeps_its_name(photo_file, tmp_path):
    odd = tmp_path / "Region.png"
    Image.open(photo_file).save(odd)
    poked = answers.poke(str(odd), "chelsea", brushed(), "grey")
    assert list(poked.files) == ["covered_region.png"]
    assert "--images Region.png " in poked.command and "--cover covered_region.png " in poked.command


def test_a_poke_of_an_upload_is_handed_out_with_its_region_and_made_again(photo_file, tmp_path, monkeypatch):
    layout = pytest.importorskip("page.layout", reason=NO_GRADIO)
    *_, command, kept, files = layout.poke([brushed()], str(photo_file), "chelsea", "grey")
    assert kept == (command, str(photo_file))
    update = layout.download(kept, files)
    figure, region = map(Path, update["value"])
    assert (figure.name, region.name) == ("figure.png", "region.png")
    assert region.read_bytes() == files["region.png"]
    saved = tmp_path / "saved"
    saved.mkdir()
    for file in (figure, region, photo_file):
        (saved / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(saved)
    assert gradcam_visualization.main(["--replay", "figure.png", "--output", "b.png"]) == 0
    assert (saved / "b.png").read_bytes() == figure.read_bytes()
    monkeypatch.setattr(answers, "run_command", lambda *_: figure)
    assert layout.download(("./gradcam_visualization.py", None), {})["value"] == [str(figure)]
    assert not region.exists()  # nothing of the last download is left
    with pytest.raises(Exception, match="nothing to download"):
        layout.download(("", None), {})


def test_a_photo_that_is_no_file_of_the_visitors_is_handed_out(photo_file, tmp_path, monkeypatch):
    layout = pytest.importorskip("page.layout", reason=NO_GRADIO)
    monkeypatch.setattr(answers, "run_command", lambda command, path, folder, files: folder / "figure.png")
    for name, handed in (("clipboard.png", 2), ("image.jpeg", 2), ("my_image.png", 1)):
        photo = tmp_path / name
        photo.write_bytes(photo_file.read_bytes())
        (tmp_path / "downloads").mkdir(exist_ok=True)
        monkeypatch.setattr(layout, "_downloads", lambda: SimpleNamespace(name=str(tmp_path / "downloads")))
        value = layout.download((f"./gradcam_visualization.py --images {name}", str(photo)), {})["value"]
        assert [Path(file).name for file in value] == ["figure.png", name][:handed]
        photo.unlink()  # as the page does after an hour
        with pytest.raises(Exception, match="choose yours again"):
            layout.download((f"./gradcam_visualization.py --images {name}", str(photo)), {})


def test_a_download_is_for_the_photo_that_was_shown(photo_file):
    layout = pytest.importorskip("page.layout", reason=NO_GRADIO)
    *_, kept = layout.look(str(photo_file), "chelsea", *LOOK[2:])
    assert kept[1] == str(photo_file) and photo_file.name in kept[0]
    *_, kept = next(
        layout.paint(str(photo_file), "rocket", "swirl", "course", "squeezenet", 64, 1.0, False, 5)
    )
    assert kept[1] == str(photo_file)


def test_what_is_watched_ends_with_its_result_and_raises_its_error():
    assert list(live.watched(lambda show: "done"))[-1] == "done"

    def fails(show):
        show(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(live.watched(fails))


def test_work_that_nobody_watches_stops_at_its_next_step():
    steps = []

    def work(show):
        for step in range(1000):
            steps.append(step)
            show(step)
            time.sleep(0.002)

    before = threading.active_count()
    watching = live.watched(work)
    next(watching)
    watching.close()
    assert threading.active_count() == before and len(steps) < 1000


def test_the_graded_ascent_grows_and_ends_as_its_command_would():
    from helpers.cli import seed_everything
    from helpers.data_utils import class_names
    from helpers.presets import CLASS_PICTURE
    from visualizers import ClassVisualization

    states = list(live.class_picture(366, answers.network(), 3, 5))
    seed_everything(5)
    expected = ClassVisualization().create_class_visualization(
        366, class_names(), answers.network(), num_iterations=3, generate_plots=False, **CLASS_PICTURE
    )
    assert states[-1][0] == 3
    assert np.array_equal(np.asarray(states[-1][1]), np.asarray(expected))
    assert not answers.network()._forward_pre_hooks
    *_, last = answers.dream("gorilla", "pixels", 3, 5)
    assert last.command == "./class_visualization.py --classes 366 --iterations 3 --seed 5"
    assert last.about == "gorilla: iteration 3 of 3"


def test_pictures_of_several_seeds_and_of_a_channel():
    *_, two = answers.dream("gorilla", "pixels", 1, 3, count=2)
    assert two.picture.size == (448, 224) and two.about == "gorilla, seed 4: iteration 1 of 1"
    words = "--classes 366 --iterations 1 --seed 3 --method pixels --variations 2"
    assert two.command == f"./class_visualization.py {words}"
    *_, three = answers.dream("gorilla", "fourier", 2, 0, count=3)
    assert three.picture.size == (448, 448) and three.command.endswith("--method fourier --variations 3")
    *_, channel = answers.dream("", "pixels", 1, 0, "features.3", 5)
    assert channel.about.startswith("channel 5 of features.3: iteration 1 of 1, activation ")
    assert "--layer features.3 --channel 5" in channel.command


def test_the_command_of_a_dream_that_is_stopped_makes_what_was_kept_or_says_that_it_goes_on():
    kept, *_ = answers.dream("", "fourier", 8, 0, "features.3", 5)
    *_, again = answers.dream("", "fourier", 1, 0, "features.3", 5)
    assert "--iterations 1 " in kept.command and kept.command == again.command
    assert kept.picture.tobytes() == again.picture.tobytes()
    first, *_, last = answers.dream("gorilla", "fourier", 8, 0)
    assert first.about.endswith("(the command goes on to 8)") and "goes on" not in last.about
    assert "--iterations 8 " in first.command


def test_the_course_loop_is_watched_while_it_paints(small_styles, monkeypatch):
    import style_utils

    monkeypatch.setattr(style_utils, "STEPS", 3)
    monkeypatch.setattr(answers, "PAUSE", 0.0)
    answers.style_of.cache_clear()
    first, *rest = answers.paint(None, "rocket", "swirl", 96, 2.0, method="course")
    answers.style_of.cache_clear()
    assert first.picture is None and "loading" in first.about
    assert rest[-1].about.startswith("step 3 of 200, content ")
    assert min(rest[-1].picture.size) == 64
    assert rest[-1].command == (
        "./style_transfer.py --method course --content rocket --style swirl --model squeezenet --strength 2 "
        "--image-size 64"
    )


def test_the_painter_is_watched_and_its_steps_are_counted(small_styles):
    *_, last = answers.paint(None, "rocket", "swirl", 128, 1.0, seconds=2.0)
    assert max(last.picture.size) == 128
    assert re.search(r"--size 128 --steps \d+$", last.command)
    assert re.match(r"128 pixels, style 0\.\d+, content 0\.\d+, \d+ s left", last.about)


def test_vgg_is_fetched_before_the_first_painting_and_the_page_says_so(monkeypatch, small_styles):
    def refused(*_arguments, **_options):
        raise answers.CannotError("VGG-16's weights could not be downloaded: no network")

    monkeypatch.setattr("helpers.weights.fetch_vgg16", refused)
    monkeypatch.setenv("TORCH_HOME", os.devnull)
    for method in ("course", "paint"):
        painting = answers.paint(None, "rocket", "swirl", 128, 1.0, model="vgg16", method=method)
        assert "64 MB" in next(painting).about
        with pytest.raises(answers.CannotError, match="could not be downloaded"):
            next(painting)


@pytest.mark.slow
def test_a_kept_painting_is_painted_again_by_its_command_with_its_recipe(tmp_path):
    for kept in answers.paint(None, "rocket", "swirl", 128, 1.0, seconds=20.0):
        if kept.picture and kept.command.endswith(tuple("3456789")):
            break
    file = answers.run_command(kept.command, None, tmp_path)
    assert np.array_equal(np.asarray(Image.open(file)), np.asarray(kept.picture))
    again = [sys.executable, ROOT / "style_transfer.py", "--replay", file, "--output", tmp_path / "again.png"]
    subprocess.run(again, check=True, capture_output=True)
    assert (tmp_path / "again.png").read_bytes() == file.read_bytes()


def test_another_host_is_warned_of_and_a_link_for_others_is_refused(capsys, monkeypatch):
    layout = pytest.importorskip("page.layout", reason=NO_GRADIO)
    kept = []
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    monkeypatch.setattr(layout, "launch", lambda *a, **k: kept.append(Path(os.environ["GRADIO_TEMP_DIR"])))
    assert main(["--host", "0.0.0.0"]) == 0
    assert kept[0].name.startswith("page-") and not kept[0].exists()  # nothing of a visitor's stays
    assert "warning: everyone who reaches 0.0.0.0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--share"])


# What a student's copy answers before any task is written.
BLANK = """
from PIL import Image
import helpers.style_images
from page import layout

helpers.style_images.draw_style = lambda name, size=512, seed=0: Image.new("RGB", (64, 64), "grey")

page = layout.build()
picture, about, _, _, bars, command, _ = layout.look(*{look})
assert picture is None and bars, about
print(about)
print(layout.look(*{saliency})[1])
print(layout.look(*{guided})[1])
for dreamt in layout.dream("a class", "gorilla", "features.3", 0, "pixels", 4, 0, 1):
    print(dreamt[1])
for painted in layout.paint(None, "rocket", "swirl", "course", "squeezenet", 64, 1.0, False, 5):
    print(painted[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["SIGTERM", "SIGHUP"])
def test_a_photo_does_not_stay_when_the_page_is_ended(end, tmp_path):
    pytest.importorskip("gradio", reason=NO_GRADIO)
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    words = [sys.executable, "-m", "page", "--no-browser"]
    running = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        said = r"The page is at http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)\.\n"
        assert re.fullmatch(said, running.stdout.readline())
        (folder,) = tmp_path.glob("page-*")
        (folder / "photo.jpg").write_bytes(b"a visitor's")
        running.send_signal(getattr(signal, end))
        running.communicate(timeout=60)
        assert not folder.exists()
    finally:
        running.kill()
        running.communicate()


def test_a_missing_task_is_a_sentence_and_the_classes_are_shown(monkeypatch):
    layout = pytest.importorskip("page.layout", reason=NO_GRADIO)

    def missing(*_arguments, **_options):
        raise NotImplementedError("Task 2: GradCam.grad_cam")

    monkeypatch.setattr(GradCam, "grad_cam", missing)
    answers.map_of.cache_clear()
    picture, about, _, _, bars, command, kept = layout.look(None, "coffee", *LOOK[2:])
    assert picture is None and about == "**Task 2: GradCam.grad_cam is not written yet.**"
    assert "espresso" in bars and command == "" and kept == ("", None)


@pytest.mark.slow
def test_a_blank_copy_says_in_each_tab_which_task_is_missing(tmp_path):
    pytest.importorskip("gradio", reason=NO_GRADIO)
    from grading.handout import blank_files

    for name, data in blank_files(ROOT).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    others = {
        "look": LOOK,
        "saliency": [*LOOK[:2], "saliency map", *LOOK[3:]],
        "guided": [*LOOK[:2], "guided backpropagation", *LOOK[3:]],
    }
    program = BLANK.format(**others)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "**Task 2: GradCam.grad_cam is not written yet.**",
        "**Task 1: SaliencyMap.compute_saliency_maps is not written yet.**",
        "**Task 2: GradCam.guided_backprop is not written yet.**",
        "**Task 3: ClassVisualization.create_class_visualization is not written yet.**",
        "loading the network and drawing the style",
        "**Task 5: StyleLoss.gram_matrix is not written yet.**",
    ]
