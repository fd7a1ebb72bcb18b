"""Opens the live page in the browser: python -m page, or make page."""

import argparse
import importlib.util
import os
import signal
import sys
import tempfile

from helpers import cli
from helpers.errors import CannotError

LOCAL = "127.0.0.1"


def build_parser() -> argparse.ArgumentParser:
    parser = cli.OneLineParser(prog="python -m page", description=__doc__, allow_abbrev=False)
    text = f"the address to listen on (default {LOCAL}: this computer alone)"
    parser.add_argument("--host", default=LOCAL, help=text)
    parser.add_argument("--port", type=cli.positive_int, help="default: the first free one from 7860 on")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument("--quiet", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    return parser


def work(args: argparse.Namespace) -> None:
    if importlib.util.find_spec("gradio") is None:
        raise CannotError("the page needs gradio: run `make page`, or pip install -r page/requirements.txt")
    # Read by gradio when it is imported. A link that others can open is never made.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_SHARE": "False"}
    from page.layout import launch

    if args.host != LOCAL:
        print(f"warning: everyone who reaches {args.host} can use this page", file=sys.stderr)
    # What a visitor uploads, and what the browser is handed, lies here as long as the page runs.
    with tempfile.TemporaryDirectory(prefix="page-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        launch(args.host, args.port, browser=not args.no_browser)


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    return cli.guarded(work, parser.parse_args(argv), parser.prog)


if __name__ == "__main__":
    # A closed terminal or a polite kill ends the page as Ctrl-C does: what visitors uploaded is removed.
    for name in ("SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.default_int_handler)
    sys.exit(main())
