"""python -m grading: makes the handout and the autograder, grades submissions and names their mistakes."""

from __future__ import annotations  # what is only imported for its type costs --help no time

import argparse
import contextlib
import importlib.util
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import cli

if TYPE_CHECKING:
    from grading.assess import Assessment
    from grading.cases import CaseBank

PROJECT = Path(__file__).resolve().parent.parent
# The module that a command needs. A student's copy does not have all of them, and offers fewer commands.
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
    if check := add("check", "check your own work, or grade one zip or folder, and print the table"):
        check.epilog = (
            "Without PATH, your own work in this folder is checked, on Linux, macOS or Windows. With PATH, the code "
            "runs in the sandbox, which needs Linux. The exit status is 0 if the check ran, also if points are missing."
        )
        check.add_argument(
            "path",
            type=Path,
            nargs="?",
            metavar="PATH",
            help="a zip or a folder (default: your own work here)",
        )
        check.add_argument("--own", action="store_true", help="the code in PATH is your own: no sandbox")
        check.add_argument("--json", type=Path, metavar="FILE", help="also write the result to this file")
        check.add_argument(
            "--task",
            action="append",
            metavar="TASK",
            help="only this task, by number or name: 4, 5.1, tv, or several: 4,5,tv (may be repeated)",
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
            "--private", action="store_true", help="compute the private bank, from your secret"
        )
        cases.add_argument("--cases-per-kind", type=cli.positive_int, default=12, metavar="N")
    return parser


def _add_bank(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--public", action="store_true", help="use the public cases even if there are private ones"
    )


def work(args: argparse.Namespace) -> object:
    return COMMANDS[args.command](args)


def make_handout(args: argparse.Namespace) -> Path:
    from grading.handout import build

    return build(PROJECT, args.output, extras=args.with_extras)


def _on_linux(instead: str = "") -> None:
    """Called before anything is imported that only Linux has."""
    from helpers.errors import CannotError

    if not sys.platform.startswith("linux"):
        raise CannotError(
            f"student code runs safely only on Linux: use WSL (Windows) or a container (macOS){instead}"
        )


def check(args: argparse.Namespace) -> None:
    from grading.tasks import TASKS, find_tasks
    from helpers.errors import CannotError

    own = args.own or args.path is None
    path = args.path or PROJECT
    if not own:
        _on_linux("; for your own work: python -m grading check")
    if not path.exists():
        raise CannotError(f"{path}: no such file")
    tasks = find_tasks(args.task) if args.task else list(TASKS)
    with contextlib.ExitStack() as stack:
        process = None
        if own:
            from grading.own import OwnProcess

            process = stack.enter_context(OwnProcess())  # it starts while we read the cases
        from grading.assess import assess, bank_and_secret, next_step, table

        bank, secret = bank_and_secret(public=args.public or args.path is None)
        if not own:
            _notice(args)
        with cli.progress(len(tasks), "grading", "task") as advance:
            result = assess(
                path, bank=bank, secret=secret, own=process, tasks=tasks, on_task=lambda _task: advance()
            )
    if args.json:
        _write_json(args.json, result)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a message may have characters that a Windows console lacks
    print(table(result, receipt=not own))
    if args.path is None:
        print(next_step(result))
    if args.show_inputs:
        _show_inputs(bank, result)


def _notice(args: argparse.Namespace) -> None:
    from grading.sandbox import notice

    if notice() and not args.quiet:
        print(notice(), file=sys.stderr)


def _write_json(path: Path, result: Assessment) -> None:
    import json

    from helpers.files import replace_whole

    with replace_whole(path) as temporary:
        temporary.write_text(json.dumps(result.as_dict(), indent=1), encoding="utf-8")


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

    _notice(args)
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
    import torch

    from grading.assess import PRIVATE_BANK, PUBLIC_BANK, own_secret
    from grading.cases import case_count, write_bank

    torch.set_num_threads(1)  # on networks this small, threads mostly wait for each other
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
