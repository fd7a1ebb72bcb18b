"""Sets the written part, report/report.md, as assignment_3_report.pdf.

First it lists on stderr, one line each, what is not answered yet and which pictures are missing. Then it writes the
PDF all the same, with a frame in the place of each missing picture: an unfinished report on time is better than none.
With --strict it writes nothing until all is done.
"""

import argparse
import logging
import sys
from pathlib import Path

from helpers import cli
from helpers.errors import CannotError, UsageError

REPORT, OUTPUT = "report/report.md", "assignment_3_report.pdf"
LIMIT = 10 * 10**6  # bytes: more is slow to upload, and to read
RESOLUTIONS = (220, 150, 100, 60)  # pixels per inch: the first with which the report stays under the limit


def build_parser() -> argparse.ArgumentParser:
    parser = cli.OneLineParser(
        prog="python -m report",
        description=__doc__,
        epilog="Exit status: 0 written, with or without problems; 1 not written; 2 wrong usage. If nothing is "
        "written, an earlier PDF stays as it was.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "report",
        nargs="?",
        default=REPORT,
        help=f"the Markdown file; pictures are named from its folder (default {REPORT})",
    )
    add("--output", metavar="FILE", default=OUTPUT, help=f"where it goes (default {OUTPUT})")
    add("--strict", action="store_true", help="write nothing if there are problems; exit 1")
    add("--quiet", action="store_true", help="do not print the last line; problems are still listed")
    add("--debug", action="store_true", help="show the whole traceback of an error")
    return parser


def work(args: argparse.Namespace) -> Path:
    output, report = Path(args.output), Path(args.report)
    if output.suffix.lower() != ".pdf":
        raise UsageError(f"--output {output}: the report is a PDF, so name a .pdf file")
    cli.check_output(output, endings=(output.suffix.lower(),))

    from helpers.files import replace_whole
    from report.check import author, problems
    from report.document import read_report
    from report.typesetting import typeset

    tree = read_report(report)
    figures, found = problems(tree, report.parent)
    for problem in found:
        print(f"{report}:{problem.line}: {problem.message}", file=sys.stderr)
    if found and args.strict:
        raise CannotError(f"{len(found)} to fix, so no report was written (--strict)")
    logging.getLogger("fpdf").setLevel(logging.ERROR)  # characters that no font has were listed above
    for resolution in RESOLUTIONS:
        data = typeset(tree, figures, author=author(tree), resolution=resolution)
        if len(data) <= LIMIT:
            break
    with replace_whole(output) as partial:
        partial.write_bytes(data)
    return output


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    return cli.guarded(work, parser.parse_args(argv), parser.prog)


if __name__ == "__main__":
    sys.exit(main())
