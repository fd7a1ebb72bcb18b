"""Films the page, a visitor looking and painting: python docs/film.py writes visualization/page.gif.

Needs Debian's chromium, and `pip install playwright`.
"""

import argparse
import io
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from helpers import cli  # noqa: E402  after the path is set
from helpers.errors import CannotError  # noqa: E402

FILM = ROOT / "visualization/page.gif"
SCREEN = {"width": 1160, "height": 960}  # pixels: nothing scrolls
WIDTH = 620  # of the film
PAINTED = 45  # pictures of the painting, until after its end


def film(page: Any, keep: Callable[[int], None]) -> None:
    """What the visitor does. page: the open page; keep(n): films it as it is, for n frames."""

    def says(text: str) -> None:
        page.locator(".said:visible").get_by_text(text).first.wait_for()
        page.wait_for_timeout(150)  # until the picture is drawn, too

    says("layer features.12")
    page.get_by_label("a bundled photo").first.click()
    page.get_by_role("option", name="coffee").click()
    says("espresso, layer features.12")
    keep(8)
    layer = page.get_by_role("slider").first
    layer.focus()
    for key, numbers in (("ArrowLeft", range(11, 2, -1)), ("ArrowRight", range(4, 13))):
        for number in numbers:
            page.keyboard.press(key)
            says(f"layer features.{number}")
            keep(2)
    keep(4)
    page.get_by_text("another class").click()
    says("consomme, layer features.12")
    keep(10)
    page.get_by_role("tab", name="Paint", exact=True).click()
    keep(4)
    page.get_by_role("button", name="Paint", exact=True).click()
    says("s left")
    for _ in range(PAINTED):
        page.wait_for_timeout(700)
        keep(2)
    keep(8)


def work(args: argparse.Namespace) -> Path:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        raise CannotError("playwright is not installed: pip install playwright") from error
    if chromium is None:
        raise CannotError("chromium is not installed: apt-get install chromium")
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False"}
    from PIL import Image

    from helpers.figures import save_animation
    from page.layout import launch

    frames: list[Image.Image] = []
    served = launch("127.0.0.1", block=False)
    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport=SCREEN)
            page.goto(str(served.local_url))

            def keep(count: int) -> None:
                shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                height = round(WIDTH * shot.height / shot.width)
                frames.extend([shot.resize((WIDTH, height), Image.Resampling.LANCZOS)] * count)

            film(page, keep)
            browser.close()
    finally:
        served.close()
    FILM.parent.mkdir(exist_ok=True)
    return save_animation(FILM, frames)


def build_parser() -> argparse.ArgumentParser:
    return cli.OneLineParser(prog="film.py", description=__doc__, allow_abbrev=False)


def main(argv: list[str] | None = None) -> int:
    return cli.run_tool(work, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
