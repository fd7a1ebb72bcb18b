"""python -m grading.gradescope: what run_autograder calls."""

import argparse
from pathlib import Path

from grading.gradescope import run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m grading.gradescope", description=__doc__)
    parser.add_argument("--submission", type=Path, default=Path("/autograder/submission"))
    parser.add_argument("--results", type=Path, default=Path("/autograder/results/results.json"))
    parser.add_argument(
        "--deadline", type=float, default=480, help="seconds; Gradescope's own limit is later"
    )
    args = parser.parse_args()
    run(args.submission, args.results, deadline=args.deadline)
