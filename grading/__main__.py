"""python -m grading: checks your work, shows its points, and names mistakes."""

from __future__ import annotations  # what is only imported for its type costs --help no time

import argparse
import contextlib
import importlib
import importlib.util
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import cli

# A student's copy has no other commands than `check`, and no sandbox: all code in it is the student's own.
staff: Any = importlib.import_module("grading.staff") if importlib.util.find_spec("grading.staff") else None

if TYPE_CHECKING:
    from grading.assess import Assessment
    from grading.cases import CaseBank

PROJECT = Path(__file__).resolve().parent.parent


def build_parser() -> argparse.ArgumentParser:
    parser = cli.OneLineParser(prog="python -m grading", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        command.add_argument("--quiet", action="store_true", help="no progress bars, no last line")
        command.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
        return command

    command = add("check", "check your own work, or grade one zip or folder, and print the table")
    sandbox = "With PATH, the code runs in the sandbox, which needs Linux. " if staff else ""
    command.epilog = (
        f"Without PATH, your own work in this folder is checked. {sandbox}"
        "The exit status is 0 if the check ran, also if points are missing."
    )
    command.add_argument(
        "path",
        type=Path,
        nargs="?",
        metavar="PATH",
        help="a zip or a folder (default: your own work here)",
    )
    command.add_argument("--own", action="store_true", help="the code in PATH is your own: no sandbox")
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the result to this file")
    command.add_argument(
        "--task",
        action="append",
        metavar="TASK",
        help="only this task, by number or name: 4, 5.1, tv, or several: 4,5,tv (may be repeated)",
    )
    command.add_argument(
        "--show-inputs", action="store_true", help="print the inputs of the cases that were drawn"
    )
    add_bank(command)
    if staff:
        staff.add_commands(add, add_bank)
    return parser


def add_bank(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--public",
        action="store_true",
        help="use the public cases, whose answers every student has; results are marked as practice",
    )


def work(args: argparse.Namespace) -> object:
    command = check if args.command == "check" else staff.COMMANDS[args.command]
    return command(args)


def check(args: argparse.Namespace) -> None:
    from grading.tasks import TASKS, find_tasks
    from helpers.errors import CannotError

    own = args.own or args.path is None or staff is None
    path = args.path or PROJECT
    if not own:
        staff.on_linux("; for your own work: python -m grading check")
    if not path.exists():
        raise CannotError(f"{path}: no such file")
    tasks = find_tasks(args.task) if args.task else list(TASKS)
    with contextlib.ExitStack() as stack:
        process = None
        if own:
            from grading.own import OwnProcess

            process = stack.enter_context(OwnProcess())  # it starts while we read the cases
        from grading.assess import assess, bank_and_secret, next_step, table

        bank, secret = bank_and_secret(public=own or args.public)
        if not own:
            staff.notice_isolation(args)
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


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    return cli.guarded(work, parser.parse_args(argv), parser.prog)


if __name__ == "__main__":
    sys.exit(main())
