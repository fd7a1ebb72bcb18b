"""The page in Chromium, as a visitor uses it. Needs Debian's chromium and the Python package playwright."""

import shutil

import pytest

from helpers.data_utils import load_photo

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
]
SECONDS = 60_000  # the longest that anything may take, in milliseconds


@pytest.fixture(scope="module")
def served():
    pytest.importorskip("gradio", reason="gradio is not installed: pip install -r page/requirements.txt")
    from page.layout import launch

    page = launch("127.0.0.1", block=False)
    yield page.local_url
    page.close()


@pytest.fixture(params=[1280, 390])
def tab(request, served):
    """The page at a width in pixels, and every address that it asked for."""
    reason = "playwright is not installed: pip install playwright"
    api = pytest.importorskip("playwright.sync_api", reason=reason)
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": request.param, "height": 900})
        view.set_default_timeout(SECONDS)
        view.asked = []
        view.on("request", lambda asked: view.asked.append(asked.url))
        view.goto(served)
        view.get_by_text("layer features.12").wait_for()
        yield view
        browser.close()


def test_a_visitor_looks(tab, tmp_path):
    photo = tmp_path / "cup.png"
    load_photo("coffee").save(photo)
    tab.locator("input[type=file]").first.set_input_files(photo)
    tab.get_by_text("espresso, layer features.12").wait_for()
    tab.get_by_role("slider").first.focus()
    tab.keyboard.press("ArrowLeft")
    tab.get_by_text("espresso, layer features.11").wait_for()
    tab.get_by_text("consomme").first.click()
    tab.get_by_text("consomme, layer features.11").wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not [url for url in tab.asked if url.startswith("http") and "//127.0.0.1" not in url]


def test_a_visitor_paints_and_stops(tab):
    tab.get_by_role("tab", name="Paint").click()
    tab.get_by_role("button", name="Paint", exact=True).click()
    tab.get_by_text("s left").wait_for()
    tab.wait_for_timeout(5000)
    tab.get_by_role("button", name="Stop and keep").locator("visible=true").click()
    tab.wait_for_timeout(1000)
    kept = tab.get_by_text("s left").inner_text()
    tab.wait_for_timeout(2000)
    assert tab.get_by_text("s left").inner_text() == kept
