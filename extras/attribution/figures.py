"""Rows of a figure: the maps of any method, and under them their evaluation."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from extras.attribution import evaluation
from extras.attribution.attention import ATTENTION
from extras.attribution.methods import METHODS, Method, completeness_error
from helpers import cli
from helpers.errors import nearest
from helpers.figures import Cell, Mosaic, Plot
from helpers.image_batch import ImageBatch, MapRows, map_picture

EVALUATION_NOTE = (
    "Deletion: the top pixels of the map are covered first. A good map makes the class vanish at once (small area). "
    "Insertion: they are shown first, on a blurred photo. A good map brings the class back at once (large area). "
    "Re-initialized layers: the map of a network that has lost what it learned, layer by layer from the last. A map "
    "that explains the network must change (rank correlation near 0); near 1, it shows the photo only."
)


def chosen_methods(names: Sequence[str]) -> list[Method]:
    """The methods by name, or all that need no transformer. Raises UsageError for an unknown name."""
    known = METHODS | ATTENTION
    names = list(METHODS) if list(names) == ["all"] else names
    for name in names:
        if name not in known:
            raise nearest(name, [*known, "all"], "method")
    return [known[name] for name in names]


def method_rows(method: Method, batch: ImageBatch, model: nn.Module, evaluate: bool, seed: int) -> MapRows:
    """The maps of a method, with the sums of complete ones under them; with `evaluate`, their evaluation, too."""
    with cli.progress(method.seen(batch.X, model), method.title) as advance:
        maps = method.explain(batch.X, batch.y, model, advance)
    cells = [
        Cell(map_picture(heat, method.kind, photo))
        for heat, photo in zip(maps.cpu().numpy(), batch.photos, strict=True)
    ]
    if method.complete:
        sums = maps.flatten(1).sum(dim=1)
        errors = completeness_error(maps, batch.X, batch.y, model)
        for cell, total, error in zip(cells, sums.tolist(), errors.tolist(), strict=True):
            cell.caption = f"sum {total:.1f}, score gained {total - error:.1f}"
    rows = MapRows([cells], [method.title])
    if evaluate:
        add_evaluation(rows, method, maps, batch, model, seed)
    return rows


def add_evaluation(
    rows: MapRows, method: Method, maps: Tensor, batch: ImageBatch, model: nn.Module, seed: int
) -> None:
    """Adds the rows that go under the maps (N, H, W): deletion and insertion curves, then the method's maps of
    networks with more and more layers re-initialized. EVALUATION_NOTE says what they mean.
    """
    seen = len(batch.X) * 2 * (evaluation.PARTS + 1) + evaluation.STAGES * method.seen(batch.X, model)
    with cli.progress(seen, "evaluation") as advance:
        curves = evaluation.deletion_insertion(maps, batch.X, batch.y, model, advance)
        stages = list(evaluation.cascade(method.explain, maps, batch.X, batch.y, model, advance, seed=seed))
    deleted, inserted = (evaluation.area(curves.shares, y) for y in (curves.deletion, curves.insertion))
    plots = [
        Plot(
            curves.shares,
            {
                f"deletion, area {deleted[n]:.2f}": curves.deletion[n],
                f"insertion, area {inserted[n]:.2f}": curves.insertion[n],
            },
            xlabel="share of the pixels",
        )
        for n in range(len(batch.X))
    ]
    captions = [["trained network"] * len(maps)]
    for stage in stages:
        which = "all" if stage.count == stage.total else "last"
        # Adding 0 turns a rounded -0.0 into 0.0.
        captions.append([f"{which} {stage.count}: {round(r, 2) + 0.0:.2f}" for r in stage.correlations])
    heats = [np.asarray(some.cpu()) for some in (maps, *(stage.maps for stage in stages))]
    mosaics = [
        Mosaic(
            [
                Cell(map_picture(heat[n], method.kind), caption=text[n])
                for heat, text in zip(heats, captions, strict=True)
            ]
        )
        for n in range(len(batch.X))
    ]
    rows.rows.extend([plots, mosaics])
    rows.labels.append("probability of the class")
    rows.labels.append("last layers re-initialized: rank correlation with the trained network's map")
