"""The page through Gradio's own client, without a browser. Its functions need no Gradio, and are tested without it."""

import os
import re
import urllib.request

import numpy as np
import pytest

from page import answers
from page.__main__ import main


@pytest.fixture(scope="module")
def client():
    pytest.importorskip("gradio", reason="gradio is not installed: pip install -r page/requirements.txt")
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
    picture, classes, about, command = client.predict(
        None, "chelsea", "Grad-CAM", 12, 1.0, None, None, False, api_name="/look"
    )
    assert classes["label"] == "tiger cat"
    assert "tiger cat" in about
    assert command == "./gradcam_visualization.py --images chelsea --classes 282 --layers features.12"


def test_an_error_is_one_sentence(client, tmp_path):
    from gradio_client import handle_file

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(Exception, match="is not an image file") as caught:
        client.predict(
            handle_file(str(broken)), "chelsea", "Grad-CAM", 0, 1.0, None, None, False, api_name="/look"
        )
    assert "Traceback" not in str(caught.value)


def test_the_map_over_the_photo_is_the_graded_one():
    import torch

    from helpers.figures import overlay
    from helpers.image_utils import preprocess
    from visualizers import GradCam

    result = answers.look(None, "coffee")
    X, y = preprocess(result.photo, 224), torch.tensor([967])
    heat = GradCam().grad_cam(X, y, answers.network(), layer="features.12")[0]
    assert result.explained == "espresso"
    assert np.abs(result.picture.astype(int) - overlay(result.photo, heat)).max() == 0
    assert np.array_equal(answers.look(None, "coffee", opacity=0.0).picture, result.photo)


@pytest.mark.slow
def test_the_commands_draw(tmp_path):
    result = answers.look(None, "coffee", versus="cup")
    assert answers.run_command(result.command, None, tmp_path).is_file()
    assert "--versus cup" in result.command


def test_covering_what_the_map_names_costs_more_than_the_same_area_elsewhere():
    photo = answers.photo_of(None, "coffee")[0]
    best, moved = (answers.suggested_mask(photo, 0.2, random) for random in (False, True))
    assert best.sum() == moved.sum() == round(0.2 * 224 * 224)
    nothing = answers.poke(photo, np.zeros((224, 224), bool), "grey")[1]
    assert all(before == pytest.approx(after, abs=1e-5) for _, before, after in nothing)


@pytest.mark.slow
def test_dream_and_paint_grow():
    frames = list(answers.dream("gorilla", "fourier", 3, 0, every=1))
    assert [text.split(",")[0] for _, text, _ in frames] == [
        f"gorilla: iteration {i} of 3" for i in (1, 2, 3)
    ]
    *_, (picture, _, command) = answers.paint_live(None, "rocket", "swirl", 128, 1.0, False, 1.0)
    assert max(picture.size) == 128
    assert re.search(r"--steps \d+$", command)


def test_another_host_is_warned_of_and_a_link_for_others_is_refused(capsys, monkeypatch):
    layout = pytest.importorskip("page.layout", reason="gradio is not installed")
    monkeypatch.setattr(layout, "launch", lambda *a, **k: None)
    assert main(["--host", "0.0.0.0"]) == 0
    assert "warning: everyone who reaches 0.0.0.0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--share"])
