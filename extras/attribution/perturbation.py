"""Attribution by perturbation: cover parts of an image and watch the score. Forward passes alone, no gradients.

Each function treats one image after the other; `advance` is called with the number of images that the network has
just seen. Covered pixels get the value 0, ImageNet's mean colour.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visualizers.mechanisms import Advance, batch_size_for, check_targets, frozen_eval

MASKS = 1000  # of RISE, for each image
GRID = 7  # cells of a mask of RISE and windows of occlusion, along a side


def scores_of(
    variants: Callable[[Tensor], Tensor], count: int, k: Tensor, model: nn.Module, size: int, advance: Advance
) -> Tensor:
    """The score of class k for each of `count` pictures, (count,): variants(i) makes those with the numbers i (B,),
    (B, 3, H, W), at most `size` at once.
    """
    scores = []
    with frozen_eval(model), torch.no_grad():
        for i in torch.arange(count).split(size):
            pictures = variants(i)
            scores.append(model(pictures)[:, k].to(pictures))
            if advance is not None:
                advance(len(i))
    return torch.cat(scores)


def _windows(length: int, window: int | None, stride: int | None) -> Tensor:
    """Which places each window covers: (windows, length), true or false. The last one reaches the end."""
    window = min(window or max(1, length // GRID), length)
    stride = stride or max(1, window // 2)
    first = torch.arange(-(-(length - window) // stride) + 1)[:, None] * stride
    place = torch.arange(length)
    return (place >= first) & (place < first + window)


def windows_of(X: Tensor, window: int | None = None, stride: int | None = None) -> int:
    """How many windows `occlusion` moves over an image of X (N, 3, H, W)."""
    return len(_windows(X.shape[2], window, stride)) * len(_windows(X.shape[3], window, stride))


def occlusion(
    X: Tensor,
    y: Tensor,
    model: nn.Module,
    advance: Advance = None,
    *,
    window: int | None = None,
    stride: int | None = None,
) -> Tensor:
    """M_ij = mean over the windows W that cover ij of s_y(I) - s_y(I without W) (Zeiler and Fergus, 2014)
    -> (N, H, W), in score: positive where covering lowers the score.

    window, stride: of the square window, in pixels; by default a seventh of each side, and half of that.
    """
    X, y = X.detach(), check_targets(X, y)
    rows, columns = (_windows(length, window, stride).to(X.device) for length in X.shape[2:])
    covered = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)  # (windows, H, W)
    maps = []
    for x, k in zip(X, y, strict=True):

        def variants(i: Tensor, x: Tensor = x) -> Tensor:
            # Number 0 is the photo itself.
            hidden = covered[(i - 1).clamp(min=0)] & (i > 0).to(X.device)[:, None, None]
            return x * ~hidden[:, None]

        scores = scores_of(variants, len(covered) + 1, k, model, batch_size_for(X), advance)
        drops = (scores[0] - scores[1:]).view(len(rows), len(columns))
        sums = torch.einsum("rc,rh,cw->hw", drops, rows.to(drops), columns.to(drops))
        maps.append(sums / (rows.sum(dim=0)[:, None] * columns.sum(dim=0)))
    return torch.stack(maps)


def rise_masks(
    count: int, size: tuple[int, int], *, grid: int = GRID, share: float = 0.5, seed: int = 0
) -> Callable[[Tensor], Tensor]:
    """-> the function from numbers i (B,) below `count` to RISE's random masks (B, H, W) in [0, 1]: grid x grid cells,
    each 1 with the probability `share`, enlarged bilinearly to one cell more than the image and cut out at random.
    """
    generator = torch.Generator().manual_seed(seed)
    cells = (torch.rand(count, 1, grid, grid, generator=generator) < share).float()
    cell = [-(-length // grid) for length in size]
    shifts = torch.stack([torch.randint(c, (count,), generator=generator) for c in cell], dim=1).tolist()
    large = [(grid + 1) * c for c in cell]

    def masks(i: Tensor) -> Tensor:
        enlarged = F.interpolate(cells[i], size=large, mode="bilinear", align_corners=False)[:, 0]
        corners = [shifts[n] for n in i.tolist()]
        cut = [m[a : a + size[0], b : b + size[1]] for m, (a, b) in zip(enlarged, corners, strict=True)]
        return torch.stack(cut)

    return masks


def rise(
    X: Tensor,
    y: Tensor,
    model: nn.Module,
    advance: Advance = None,
    *,
    masks: int = MASKS,
    share: float = 0.5,
    seed: int | None = None,
) -> Tensor:
    """S = 1 / (p N) sum_k f_y(I * M_k) M_k, M_k random masks with mean p and f the probability (Petsiuk et al., 2018)
    -> (N, H, W): about the mean probability of the class while the pixel is shown.

    masks: N. share: p. Every image gets the same masks; they follow from `seed`, by default torch's own.
    """
    if masks < 1:
        raise ValueError(f"{masks} masks: an average needs at least one")
    X, y = X.detach(), check_targets(X, y)
    seed = torch.initial_seed() if seed is None else seed
    height, width = X.shape[2:]
    draw = rise_masks(masks, (height, width), share=share, seed=seed)
    sums = X.new_zeros(len(X), height, width)
    with frozen_eval(model), torch.no_grad():
        for n, k in enumerate(y):
            for i in torch.arange(masks).split(batch_size_for(X)):
                M = draw(i).to(X)
                f = model(X[n] * M[:, None]).softmax(dim=1)[:, k].to(X)
                sums[n] += torch.einsum("k,khw->hw", f, M)
                if advance is not None:
                    advance(len(i))
    return sums / (share * masks)
