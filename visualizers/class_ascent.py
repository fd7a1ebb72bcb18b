"""Class model visualization of many classes at once, step by step: what the runner draws as rows.

The step is the graded `ClassVisualization.ascent_step`; here it works on a batch, one image a class.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from visualizers.class_visualization import ClassVisualization
from visualizers.mechanisms import select, frozen_eval

# The largest block whose freeing teaches glibc to keep what is freed (mallopt(3) on M_MMAP_THRESHOLD): 32 MiB.
LESSON = 2**25 - 2**13


class AscentState(NamedTuple):
    """The state after an iteration (from 1): images (N, 3, H, W), normalized; their classes' raw scores and
    probabilities (N,), or their channels' means and None.
    """

    iteration: int
    images: Tensor
    scores: Tensor
    probabilities: Tensor | None


def climb(
    targets: Sequence[int],
    model: nn.Module,
    *,
    num_iterations: int = 200,
    show_every: int = 50,
    l2_reg: float = 1e-3,
    learning_rate: float = 25.0,
    blur_every: int = 4,
    blur_sigma: tuple[float, float] = (1.2, 0.35),
    max_jitter: int = 16,
    size: int = 224,
    init: str = "noise",
    seed: int = 0,
) -> Iterator[AscentState | None]:
    """max over I of s_y(I) - l2_reg * ||I||_2^2 for every y in `targets`, as one batch of images.

    size: the side of the square images. init: "noise" (standard normal) or "zero" (ImageNet's mean colour). Each
    image has its own noise, seeded by its class, so a picture does not depend on which others are drawn with it.
    blur_sigma: the blur's width in pixels at the first and at the last iteration; a blur that fades lets large
    shapes settle before details.

    Yields after each iteration: an AscentState for the iterations 1, show_every, 2 * show_every, ... and the last,
    else None. Raises ValueError for another init, IndexError for a class that the model does not have.
    """
    if init not in ("noise", "zero"):
        raise ValueError(f"init is {init!r}: choose noise or zero")
    technique = ClassVisualization()
    # Otherwise an iteration's tensors go back to the system and come anew, page by page, in the next. Untouched, it
    # takes no memory.
    torch.empty(LESSON, dtype=torch.uint8)
    like = next(model.parameters())
    img = torch.zeros(len(targets), 3, size, size)
    if init == "noise":
        for n, target in enumerate(targets):
            noise = torch.Generator().manual_seed(seed * 1_000_003 + target)
            img[n] = torch.randn(3, size, size, generator=noise)
    img = img.to(like).requires_grad_()
    target = torch.tensor(list(targets))
    shifts = torch.Generator().manual_seed(seed)
    with frozen_eval(model):
        for t in range(num_iterations):
            ox, oy = torch.randint(0, max_jitter + 1, (2,), generator=shifts).tolist()
            img.data.copy_(technique.jitter(img.data, ox, oy))
            technique.ascent_step(img, target, model, l2_reg, learning_rate)
            img.data.copy_(technique.jitter(img.data, -ox, -oy))
            progress = t / max(1, num_iterations - 1)
            sigma = blur_sigma[0] + (blur_sigma[1] - blur_sigma[0]) * progress
            technique.regularize(img, t, blur_every, sigma)
            if t == 0 or (t + 1) % show_every == 0 or t == num_iterations - 1:
                with torch.no_grad():
                    all_scores = model(img.clone())
                scores, probabilities = (
                    select(values, target.to(img.device))
                    for values in (all_scores, all_scores.softmax(dim=1))
                )
                yield AscentState(t + 1, img.detach().clone(), scores, probabilities)
            else:
                yield None
