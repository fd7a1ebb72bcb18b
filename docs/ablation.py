"""Draws what each of the two changes of `--method fourier` does: pictures of three classes with neither, one, the
other, and both of them. Writes visualization/class_ablation.png.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from extras.synthesis.feature_visualization import visualize  # noqa: E402  after the path is set
from helpers import cli  # noqa: E402
from helpers.data_utils import class_names, find_class  # noqa: E402
from helpers.figures import Cell, save_grid  # noqa: E402
from helpers.image_utils import deprocess  # noqa: E402
from helpers.models import load_classifier  # noqa: E402

CLASSES = ("toucan", "hatchet", "four-poster")
ROWS = {  # label: (direction, coarse_to_fine)
    "neither": (False, False),
    "coarse to fine": (False, True),
    "direction": (True, False),
    "both": (True, True),
}


def main() -> None:
    model, names = load_classifier(), class_names()
    targets = [find_class(name, names) for name in CLASSES]
    grid = []
    with cli.progress(len(ROWS), "ablation") as advance:
        for direction, coarse_to_fine in ROWS.values():
            steps = visualize(targets, model, direction=direction, coarse_to_fine=coarse_to_fine)
            *_, last = (state for state in steps if state is not None)
            answers = [f"score {score:.1f}" for score in last.scores.tolist()]
            grid.append(
                [Cell(deprocess(x), "", words) for x, words in zip(last.images, answers, strict=True)]
            )
            advance()
    for cell, target in zip(grid[0], targets, strict=True):
        cell.title = names[target]
    path = ROOT / "visualization" / "class_ablation.png"
    heading = "Which change does what?"
    note = "256 steps from the same noise. Network: squeezenet, packaged weights."
    print(save_grid(path, grid, row_labels=list(ROWS), heading=heading, note=note, height=1.8))


if __name__ == "__main__":
    main()
