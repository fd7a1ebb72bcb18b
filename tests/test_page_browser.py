"""The page in Chromium, as a visitor uses it, on a large screen and on a telephone. Needs Debian's chromium and the
Python package playwright (see docs/CONTRIBUTING.md).
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.data_utils import load_photo

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
]
MILLISECONDS = 60_000  # the longest that anything may take
# What can be touched or read, and ends beyond the right edge of the screen.
CUT = """() => [...document.querySelectorAll("button, input, textarea, img, label, h1, p, td")]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().width > 0)
    .filter(e => e.getBoundingClientRect().right > window.innerWidth + 1 || e.getBoundingClientRect().left < -1)
    .map(e => e.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def served():
    pytest.importorskip("gradio", reason="gradio is not installed: pip install -r page/requirements.txt")
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    from page.layout import launch

    page = launch("127.0.0.1", block=False)
    yield page.local_url
    page.close()


@pytest.fixture(params=[1280, 390])
def tab(request, served):
    """The page at a width in pixels, and every address that it asked for. After each test nothing is cut off at the
    right, nothing scrolls sideways, and no other host was asked.
    """
    reason = "playwright is not installed: pip install playwright"
    api = pytest.importorskip("playwright.sync_api", reason=reason)
    with api.sync_playwright() as play:
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *camera])
        allowed = ["camera", "clipboard-read", "clipboard-write"]
        view = browser.new_page(viewport={"width": request.param, "height": 900}, permissions=allowed)
        view.set_default_timeout(MILLISECONDS)
        asked = []
        view.on("request", lambda request: asked.append(request.url))
        view.goto(served)
        says(view, "layer features.12")
        yield view
        assert view.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert view.evaluate(CUT) == []
        assert not [url for url in asked if url.startswith("http") and "//127.0.0.1" not in url]
        browser.close()


def says(view, text):
    """Waits until the line under a picture says this."""
    view.locator(".said:visible").get_by_text(text).first.wait_for()


def opened(view, name):
    view.get_by_role("tab", name=name, exact=True).click()


def pressed(view, name):
    view.get_by_role("button", name=name, exact=True).locator("visible=true").click()


def command(view):
    return view.locator(".command textarea:visible").input_value()


def scores(view):
    """The probability of the first class, before and after."""
    cells = view.locator(".scores tr").nth(1).locator("td").all_inner_texts()
    return float(cells[1].split()[0]), float(cells[2].split()[0])


def test_a_visitor_looks(tab, tmp_path):
    photo = tmp_path / "cup.png"
    load_photo("coffee").save(photo)
    tab.locator("input[type=file]").first.set_input_files(photo)
    says(tab, "espresso, layer features.12")
    tab.get_by_role("slider").first.focus()
    tab.keyboard.press("ArrowLeft")
    says(tab, "espresso, layer features.11")
    tab.get_by_text("consomme").first.click()
    says(tab, "consomme, layer features.11")
    tab.get_by_text("another layer").click()
    says(tab, "consomme, layer features.6")
    assert command(tab).endswith("cup.png --classes 925 --layers features.11 features.6")
    pressed(tab, "Put the map to the test")
    tab.get_by_text("Deletion: the top pixels").wait_for()
    assert command(tab).endswith("--layers features.11 --trust")


def test_a_visitor_pastes_a_photo_and_takes_one(tab, tmp_path):
    tab.evaluate("""async () => {
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 64;
        canvas.getContext("2d").fillRect(8, 8, 40, 20);
        const picture = await new Promise(done => canvas.toBlob(done, "image/png"));
        await navigator.clipboard.write([new ClipboardItem({"image/png": picture})]);
    }""")
    tab.get_by_label("Paste from clipboard").first.click()
    asked_for(tab, "--images clipboard.png")
    pressed(tab, "Download the figure with its recipe")
    handed_out(tab, tmp_path)
    replayed(tmp_path)
    tab.get_by_label("Remove Image").first.click()
    asked_for(tab, "--images chelsea")
    tab.get_by_label("Capture from camera").first.click()
    tab.get_by_text("Click to Access Webcam").first.click()
    tab.get_by_label("capture photo").first.click()
    asked_for(tab, "--images image.")


def asked_for(view, words):
    """Waits until the command line has these words."""
    view.wait_for_function(
        "words => [...document.querySelectorAll('.command textarea')].some(e => e.value.includes(words))",
        arg=words,
    )


def handed_out(view, folder):
    """Saves the figure and the file that its command reads."""
    links = view.locator("a[download]:visible")
    links.nth(1).wait_for()
    for link in links.all():
        with view.expect_download() as download:
            link.click()
        download.value.save_as(folder / download.value.suggested_filename)


def replayed(folder):
    words = [
        sys.executable,
        ROOT / "gradcam_visualization.py",
        "--replay",
        "figure.png",
        "--output",
        "again.png",
    ]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    assert (folder / "again.png").read_bytes() == (folder / "figure.png").read_bytes()


def test_a_visitor_pokes_downloads_and_makes_it_again(tab, tmp_path):
    photo = tmp_path / "cup.png"
    load_photo("coffee").save(photo)
    tab.locator("input[type=file]").first.set_input_files(photo)
    says(tab, "espresso, layer features.12")
    opened(tab, "Poke")
    tab.locator(".scores").wait_for()
    assert len(set(scores(tab))) == 1
    tab.wait_for_timeout(1000)  # the photo is put into the editor
    box = tab.locator("canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x - 20, y - 40)
    tab.mouse.down()
    tab.mouse.move(x + 30, y + 20, steps=8)
    tab.mouse.up()
    tab.wait_for_function("""() => {
        const cells = [...document.querySelectorAll(".scores tr")[1].querySelectorAll("td")].slice(1);
        return cells[0].innerText !== cells[1].innerText;
    }""")
    brushed = scores(tab)
    assert command(tab) == (
        "./gradcam_visualization.py --images cup.png --classes 967 --cover region.png --top 5"
    )
    pressed(tab, "Download the figure with its recipe")
    handed_out(tab, tmp_path)
    assert (tmp_path / "region.png").exists()
    replayed(tmp_path)
    pressed(tab, "Cover what the map calls most important")
    tab.wait_for_function(
        f"""() => document.querySelectorAll(".scores tr")[1].querySelectorAll("td")[2].innerText.trim()
        !== "{brushed[1]:.2f}" """
    )
    assert scores(tab)[1] < scores(tab)[0]
    assert command(tab).endswith("--cover 10% --top 5")


def test_a_visitor_dreams_and_stops(tab):
    opened(tab, "Dream")
    pressed(tab, "Dream")
    says(tab, "gorilla: iteration")
    stopped(tab, "iteration")


def stopped(view, text):
    """Stops, and sees that nothing goes on; returns what is kept under the picture."""
    pressed(view, "Stop and keep")
    view.wait_for_timeout(1500)
    kept = view.locator(".said:visible").get_by_text(text).first.inner_text()
    view.wait_for_timeout(1500)
    assert view.locator(".said:visible").get_by_text(text).first.inner_text() == kept
    return kept


def test_a_visitor_paints_stops_downloads_and_paints_it_again(tab, tmp_path):
    opened(tab, "Paint")
    tab.get_by_label("number input for longer side in pixels").fill("128")
    tab.keyboard.press("Enter")
    pressed(tab, "Paint")
    says(tab, "s left")
    tab.wait_for_timeout(5000)
    assert re.match(r"128 pixels, style 0\.\d+, content 0\.\d+, \d+ s left", stopped(tab, "s left"))
    assert "--steps" in shlex.split(command(tab))
    pressed(tab, "Download the figure with its recipe")
    with tab.expect_download() as download:
        tab.locator("a[download]:visible").first.click()
    download.value.save_as(tmp_path / "kept.png")
    again = [sys.executable, ROOT / "style_transfer.py", "--replay", "kept.png", "--output", "again.png"]
    subprocess.run(again, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "kept.png").read_bytes()
