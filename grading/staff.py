"""The commands of `python -m grading` for staff: the handout, the autograder, a class's grades, the cases."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from helpers import cli
from helpers.errors import CannotError

PROJECT = Path(__file__).resolve().parent.parent


def add_commands(
    add: Callable[[str, str], argparse.ArgumentParser], add_bank: Callable[[argparse.ArgumentParser], None]
) -> None:
    command = add("handout", "make the student's blank copy and try it")
    command.add_argument(
        "--output",
        type=Path,
        metavar="ZIP",
        default=PROJECT / "dist/assignment_3_handout.zip",
    )
    command.add_argument("--with-extras", action="store_true", help="put the folder extras/ in, too")
    command = add("grade", "grade a folder of submissions: grades.csv and report.html")
    command.add_argument("folder", type=Path, help="zips, folders, or Gradescope's export")
    command.add_argument("--out", type=Path, metavar="DIR", default=Path("grades"), help="default: grades")
    command.add_argument("--jobs", type=cli.positive_int, default=2, help="submissions at a time (default 2)")
    add_bank(command)
    command = add("bundle", "make the zip to upload to Gradescope")
    command.add_argument("--output", type=Path, metavar="ZIP", default=PROJECT / "dist/autograder.zip")
    add_bank(command)
    command = add("report", "write grades.csv and report.html again from a graded folder")
    command.add_argument("out", type=Path, help="the --out of `grade`")
    command = add("cases", "compute the case bank from the solved package (minutes)")
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="default: grading/cases.npz, or --private's",
    )
    command.add_argument("--private", action="store_true", help="compute the private bank, from your secret")
    command.add_argument("--cases-per-kind", type=cli.positive_int, default=8, metavar="N")


def on_linux(instead: str = "") -> None:
    """Called before anything is imported that only Linux has."""
    if not sys.platform.startswith("linux"):
        raise CannotError(
            f"student code runs safely only on Linux: use WSL (Windows) or a container (macOS){instead}"
        )


def notice_isolation(args: argparse.Namespace) -> None:
    from grading.sandbox import notice

    if notice() and not args.quiet:
        print(notice(), file=sys.stderr)


def handout(args: argparse.Namespace) -> Path:
    from grading.handout import build

    return build(PROJECT, args.output, extras=args.with_extras)


def grade(args: argparse.Namespace) -> Path:
    on_linux()
    from grading.assess import bank_and_secret
    from grading.folder import grade_folder
    from grading.report import write_reports

    notice_isolation(args)
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


COMMANDS: dict[str, Callable[[argparse.Namespace], Path]] = {
    "handout": handout,
    "grade": grade,
    "bundle": bundle,
    "report": report,
    "cases": cases,
}
