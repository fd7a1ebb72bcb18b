"""Maps from the attention of vision transformers: rollout, and the gradient-weighted relevance of Chefer et al.

Both follow what the tokens take from each other, block by block, from the image to the class token. They need the
attention matrices A, (N, heads, T, T), of blocks in which every token attends to every other, as in a ViT.
"""

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extras.attribution.methods import Method, stretched
from helpers.errors import UsageError
from visualizers.mechanisms import Advance, frozen_eval, in_batches, scaled_heatmaps, token_grid


@contextlib.contextmanager
def kept_attention() -> Iterator[list[Tensor]]:
    """Inside, attention is computed step by step, and its matrices are kept, in the order of the forward pass.

    `nn.MultiheadAttention` and the transformers of other libraries call torch's `scaled_dot_product_attention`, whose
    fused forms never have the matrices.
    """
    matrices: list[Tensor] = []
    original = F.scaled_dot_product_attention

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,  # of training
        is_causal: bool = False,
        scale: float | None = None,
        **options: object,
    ) -> Tensor:
        if attn_mask is not None or is_causal:
            raise UsageError("attention with a mask is not explained: --model vit_b_16 has none")
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        A = (query @ key.transpose(-2, -1) * scale).softmax(dim=-1)
        # Where nothing before it needs a gradient, A becomes the start of the graph.
        matrices.append(A if A.requires_grad else A.requires_grad_())
        return matrices[-1] @ value

    F.scaled_dot_product_attention = attention  # type: ignore[assignment]  # **options for what torch adds later
    try:
        yield matrices
    finally:
        F.scaled_dot_product_attention = original


def _through_the_blocks(
    step: Callable[[Tensor, Tensor], Tensor], X: Tensor, y: Tensor, model: nn.Module, advance: Advance
) -> Tensor:
    """R <- step(A, g) R over the blocks, from R = 1, A a block's attention and g = d s_y / d A; then the class token's
    row of R, or without one the mean of all rows, as a map -> (N, H, W) in [0, 1].
    """

    def batch(x: Tensor, k: Tensor) -> Tensor:
        with frozen_eval(model), kept_attention() as matrices:
            # Images that require a gradient keep nn.MultiheadAttention from its fast path, which calls nothing.
            scores = model(x.detach().clone().requires_grad_()).gather(1, k[:, None])
            if not matrices or len({A.shape[-2:] for A in matrices}) > 1:
                raise UsageError(
                    "attention is followed in networks with attention between all tokens: --model vit_b_16, say"
                )
            gradients = torch.autograd.grad(scores.sum(), matrices)
        tokens = matrices[0].shape[-1]
        side = token_grid((1, tokens, 1))
        if side is None:
            raise ValueError(f"{tokens} tokens are no square grid with at most one class token")
        R = torch.eye(tokens, dtype=x.dtype, device=x.device).expand(len(x), tokens, tokens)
        for A, g in zip(matrices, gradients, strict=True):
            R = step(A.detach().to(R), g.to(R)) @ R
        row = R[:, 0, 1:] if tokens > side**2 else R.mean(dim=1)
        return torch.from_numpy(scaled_heatmaps(row.view(-1, 1, side, side), x.shape[2:])).to(x.dtype)

    return in_batches(batch, X, y, advance)


def attention_rollout(X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None) -> Tensor:
    """R = prod over the blocks of (A + 1) / 2, A the heads' mean (Abnar and Zuidema, 2020) -> (N, H, W) in [0, 1].

    The 1 stands for the residual connection. No class is asked for: y is not used but for its shape.
    """

    def step(A: Tensor, g: Tensor) -> Tensor:
        return (A.mean(dim=1) + torch.eye(A.shape[-1]).to(A)) / 2

    return _through_the_blocks(step, X, y, model, advance)


def attention_relevance(X: Tensor, y: Tensor, model: nn.Module, advance: Advance = None) -> Tensor:
    """R <- R + B R, B = mean over the heads of ReLU(g * A), g = d s_y / d A (Chefer, Gur and Wolf, 2021)
    -> (N, H, W) in [0, 1]: rollout of the attention that speaks for class y.
    """

    def step(A: Tensor, g: Tensor) -> Tensor:
        return (g * A).clamp(min=0).mean(dim=1) + torch.eye(A.shape[-1]).to(A)

    return _through_the_blocks(step, X, y, model, advance)


ATTENTION: dict[str, Method] = {
    "attention-rollout": Method("attention rollout, of no class", stretched(attention_rollout), "region"),
    "attention-relevance": Method("attention relevance", attention_relevance, "region"),
}
