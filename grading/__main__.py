"""python -m grading: from the solved package to a handout, from a zip to points and to the name of the mistake."""

from __future__ import annotations  # what is only imported for its type costs --help no time

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import cli

if TYPE_CHECKING:
    from grading.assess import Assessment
    from grading.cases import CaseBank

PROJECT = Path(__file__).resolve().parent.parent
# Commands whose modules a student's copy lacks are not offered there.
NEEDS = {
    "handout": "grading.handout",
    "check": "grading.assess",
    "grade": "grading.folder",
    "bundle": "grading.bundle",
    "report": "grading.report",
    "cases": "grading.mistakes",
}


def build_parser() -> argparse.ArgumentParser:
    parser = cli.OneLineParser(prog="python -m grading", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str) -> argparse.ArgumentParser | None:
        if importlib.util.find_spec(NEEDS[name]) is None:
            return None
        command = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        command.add_argument("--quiet", action="store_true", help="no progress bars, no last line")
        command.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
        return command

    if handout := add("handout", "make the student's blank copy and try it"):
        handout.add_argument(
            "--output",
            type=Path,
            metavar="ZIP",
            default=PROJECT / "dist/assignment_3_handout.zip",
        )
        handout.add_argument("--with-extras", action="store_true", help="put the folder extras/ in, too")
    if check := add("check", "grade one zip (or folder) and print the table"):
        check.add_argument("zip", type=Path)
        check.add_argument("--json", type=Path, metavar="FILE", help="write the result here too")
        check.add_argument(
            "--task", action="append", metavar="NAME", help="this task alone (may be repeated)"
        )
        check.add_argument(
            "--show-inputs", action="store_true", help="print the inputs of the cases that were drawn"
        )
        _add_bank(check)
    if grade := add("grade", "grade a folder of submissions: grades.csv and report.html"):
        grade.add_argument("folder", type=Path, help="zips, folders, or Gradescope's export")
        grade.add_argument("--out", type=Path, metavar="DIR", default=Path("grades"), help="default: grades")
        grade.add_argument(
            "--jobs", type=cli.positive_int, default=2, help="submissions at a time (default 2)"
        )
        _add_bank(grade)
    if bundle := add("bundle", "make the zip to upload to Gradescope"):
        bundle.add_argument("--output", type=Path, metavar="ZIP", default=PROJECT / "dist/autograder.zip")
        _add_bank(bundle)
    if report := add("report", "write grades.csv and report.html again from a graded folder"):
        report.add_argument("out", type=Path, help="the --out of `grade`")
    if cases := add("cases", "compute the case bank from the solved package (minutes)"):
        cases.add_argument(
            "--output",
            type=Path,
            metavar="FILE",
            help="default: grading/cases.npz, or --private's",
        )
        cases.add_argument(
            "--private", action="store_true", help="the grader's own bank, with your secret for a seed"
        )
        cases.add_argument("--cases-per-kind", type=cli.positive_int, default=12, metavar="N")
    return parser


def _add_bank(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--public", action="store_true", help="use the public cases even where there are private ones"
    )


def work(args: argparse.Namespace) -> object:
    return COMMANDS[args.command](args)


def make_handout(args: argparse.Namespace) -> Path:
    from grading.handout import build

    return build(PROJECT, args.output, extras=args.with_extras)


def _on_linux() -> None:
    """Said before anything is imported that only Linux has."""
    from helpers.errors import CannotError

    if not sys.platform.startswith("linux"):
        raise CannotError(
            "student code is run safely on Linux alone: use WSL (Windows) or a container (macOS)"
        )


def check(args: argparse.Namespace) -> None:
    _on_linux()
    import json

    from grading.assess import assess, bank_and_secret, table
    from grading.sandbox import notice
    from grading.tasks import TASKS
    from helpers.errors import CannotError, nearest
    from helpers.files import replace_whole

    if not args.zip.exists():
        raise CannotError(f"{args.zip}: no such file")
    for name in args.task or ():
        if name not in TASKS:
            raise nearest(name, TASKS, "task")
    bank, secret = bank_and_secret(public=args.public)
    if notice() and not args.quiet:
        print(notice(), file=sys.stderr)
    with cli.progress(len(args.task or TASKS), "grading", "task") as advance:
        result = assess(args.zip, bank=bank, secret=secret, tasks=args.task, on_task=lambda _task: advance())
    if args.json:
        with replace_whole(args.json) as temporary:
            temporary.write_text(json.dumps(result.as_dict(), indent=1), encoding="utf-8")
    print(table(result))
    if args.show_inputs:
        _show_inputs(bank, result)


def _show_inputs(bank: CaseBank, result: Assessment) -> None:
    import numpy as np

    np.set_printoptions(precision=6, suppress=True, linewidth=110, threshold=200)
    for task in result.report.tasks:
        for name in task.cases:
            case = bank.case(name)
            print(f"\n{task.title}, case {name} ({case.kind})")
            for label, arrays in (("input", case.inputs), ("expected", case.expected)):
                for key, array in arrays.items():
                    print(f"{label} {key} {array.dtype} {array.shape}\n{array}")


def grade(args: argparse.Namespace) -> Path:
    _on_linux()
    from grading.assess import bank_and_secret
    from grading.folder import grade_folder
    from grading.report import write_reports
    from grading.sandbox import notice

    if notice() and not args.quiet:
        print(notice(), file=sys.stderr)
    bank, secret = bank_and_secret(public=args.public)
    grade_folder(args.folder, args.out, jobs=args.jobs, bank=bank, secret=secret)
    return write_reports(args.out, PROJECT)


def report(args: argparse.Namespace) -> Path:
    from grading.report import write_reports

    return write_reports(args.out, PROJECT)


def bundle(args: argparse.Namespace) -> Path:
    from grading.bundle import build

    return build(PROJECT, args.output, public=args.public)


def cases(args: argparse.Namespace) -> Path:
    from grading.assess import PRIVATE_BANK, PUBLIC_BANK, own_secret
    from grading.cases import case_count, write_bank

    seed = int.from_bytes(own_secret()[:6], "big") if args.private else 0
    path = args.output or (PRIVATE_BANK if args.private else PUBLIC_BANK)
    path.parent.mkdir(parents=True, exist_ok=True)
    if args.private:
        path.parent.chmod(0o700)
    with cli.progress(case_count(args.cases_per_kind), "cases") as advance:
        return write_bank(path, PROJECT, seed=seed, cases_per_kind=args.cases_per_kind, on_case=advance)


COMMANDS = {
    "handout": make_handout,
    "check": check,
    "grade": grade,
    "bundle": bundle,
    "report": report,
    "cases": cases,
}


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    return cli.guarded(work, parser.parse_args(argv), parser.prog)


if __name__ == "__main__":
    sys.exit(main())
