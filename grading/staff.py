"""The commands of `python -m grading` for staff: the handout, the autograder, a class's grades, the cases."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from helpers import cli
from helpers.errors import CannotError

PROJECT = Path(__file__).resolve().parent.parent
# The answers of the public cases are known, so there must be many. Nobody sees the private ones.
PUBLIC_CASES, PRIVATE_CASES = 8, 4


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
    command = add(
        "grade", "grade a folder of submissions: grades.csv, report.html, a feedback file per student"
    )
    command.add_argument("folder", type=Path, help="zips, folders, or Gradescope's export")
    command.add_argument("--out", type=Path, metavar="DIR", default=Path("grades"), help="default: grades")
    command.add_argument("--jobs", type=cli.positive_int, default=2, help="submissions at a time (default 2)")
    add_bank(command)
    command = add("bundle", "make the zip to upload to Gradescope")
    command.add_argument("--output", type=Path, metavar="ZIP", default=PROJECT / "dist/autograder.zip")
    add_bank(command)
    command = add("report", "write the reports of a graded folder again, after a change of its overrides.csv")
    command.add_argument("out", type=Path, help="the --out of `grade`")
    command = add("cases", "compute the case bank from the solved package (minutes)")
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="default: grading/cases.npz, or --private's",
    )
    command.add_argument("--private", action="store_true", help="compute the private bank, from your secret")
    command.add_argument(
        "--cases-per-kind",
        type=cli.positive_int,
        metavar="N",
        help=f"default: {PUBLIC_CASES}, private: {PRIVATE_CASES}",
    )


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
    if not args.public:
        make_private_bank()
    bank, secret = bank_and_secret(public=args.public)
    grade_folder(args.folder, args.out, jobs=args.jobs, bank=bank, secret=secret)
    return write_reports(args.out, PROJECT)


def report(args: argparse.Namespace) -> Path:
    from grading.report import write_reports

    return write_reports(args.out, PROJECT)


def bundle(args: argparse.Namespace) -> Path:
    from grading.bundle import build

    if not args.public:
        make_private_bank()
    return build(PROJECT, args.output, public=args.public)


def cases(args: argparse.Namespace) -> Path:
    from grading.assess import PRIVATE_BANK, PUBLIC_BANK, own_secret

    count = args.cases_per_kind or (PRIVATE_CASES if args.private else PUBLIC_CASES)
    seed = int.from_bytes(own_secret()[:6], "big") if args.private else 0
    return _compute(args.output or (PRIVATE_BANK if args.private else PUBLIC_BANK), seed, count)


def make_private_bank() -> None:
    """Makes the private bank and the secret at their first use. Raises CannotError if only the secret is missing."""
    from grading.assess import PRIVATE_BANK, SECRET, own_secret

    if PRIVATE_BANK.is_file():
        if not SECRET.is_file():
            raise CannotError(
                f"{SECRET} is missing, which decides which cases are drawn: put your copy of it back, or remove "
                f"{PRIVATE_BANK.name} beside it to begin anew"
            )
        return
    print(
        f"Making your private cases and secret in {PRIVATE_BANK.parent} (a few minutes, once). Keep this folder, and "
        "keep it to yourself: the same submission then gets the same grade.",
        file=sys.stderr,
    )
    _compute(PRIVATE_BANK, int.from_bytes(own_secret()[:6], "big"), PRIVATE_CASES)


def _compute(path: Path, seed: int, cases_per_kind: int) -> Path:
    from grading.cases import case_count, write_bank

    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True)
    with cli.progress(case_count(cases_per_kind), "cases", "case") as advance:
        return write_bank(path, PROJECT, seed=seed, cases_per_kind=cases_per_kind, on_case=advance)


COMMANDS: dict[str, Callable[[argparse.Namespace], Path]] = {
    "handout": handout,
    "grade": grade,
    "bundle": bundle,
    "report": report,
    "cases": cases,
}
