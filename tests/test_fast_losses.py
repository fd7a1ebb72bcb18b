"""The fast losses are the graded ones, value and gradient, and are differentiated as written."""

import pytest
import torch
from torch.autograd import gradcheck

from style_modules import ContentLoss, StyleLoss, TotalVariationLoss
from style_modules.fast_losses import FastContentLoss, FastStyleLoss, FastTotalVariationLoss


def maps(*shape, seed=0, layout=torch.contiguous_format, dtype=torch.float64):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x.to(dtype=dtype, memory_format=layout)


def content(loss, x):
    return loss(0.7, x, maps(*x.shape, seed=1, dtype=x.dtype))


def style(loss, x):
    C = x.shape[1]
    # Not symmetric, as no Gram matrix is: a gradient that took D for D^T would be found. The layers are not in order.
    targets = [maps(1, C, C, seed=seed, dtype=x.dtype) for seed in (2, 3)]
    return loss([x, x.square(), x.abs()], [2, 0], targets, [3.0, 50.0])


def total_variation(loss, x):
    return loss(x, 0.3)


SIDES = [
    (content, ContentLoss, FastContentLoss),
    (style, StyleLoss, FastStyleLoss),
    (total_variation, TotalVariationLoss, FastTotalVariationLoss),
]
each_loss = pytest.mark.parametrize(("use", "graded", "fast"), SIDES, ids=["content", "style", "tv"])


@each_loss
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["first", "last"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("shape", [(1, 3, 9, 7), (1, 5, 2, 1), (1, 3, 1, 6), (1, 1, 1, 1)], ids=str)
def test_value_and_gradient_are_the_graded_ones(use, graded, fast, layout, dtype, tolerance, shape):
    results = []
    for loss in (fast(), graded()):
        x = maps(*shape, layout=layout, dtype=dtype).requires_grad_()
        value = use(loss, x)
        assert value.shape == () and value.dtype == dtype
        # As one term of several, with a factor of its own.
        results.append((value.detach(), torch.autograd.grad(0.25 * value + x.sum(), x)[0]))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * (1 + float(theirs.abs().max())))


@each_loss
def test_the_gradient_passes_the_finite_differences(use, graded, fast):
    assert gradcheck(lambda x: use(fast(), x), (maps(1, 3, 4, 5).requires_grad_(),))


@each_loss
def test_nothing_is_asked_of_a_picture_that_needs_no_gradient(use, graded, fast):
    x = maps(1, 3, 6, 5)
    before = x.clone()
    value = use(fast(), x)
    assert not value.requires_grad
    assert torch.equal(x, before)
    torch.testing.assert_close(value, use(graded(), x))


@each_loss
def test_backward_can_be_called_twice(use, graded, fast):
    x = maps(1, 3, 6, 5).requires_grad_()
    value = use(fast(), x)
    first, second, double = (
        torch.autograd.grad(value, x, torch.tensor(g).double(), retain_graph=True)[0] for g in (1.0, 1.0, 2.0)
    )
    assert torch.equal(first, second)
    torch.testing.assert_close(2 * first, double)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_gram_matrix_is_the_graded_one(normalize):
    features = maps(2, 8, 12, 10, layout=torch.channels_last, dtype=torch.float32)
    grams = [loss.gram_matrix(features, normalize) for loss in (FastStyleLoss(), StyleLoss())]
    torch.testing.assert_close(*grams)


def test_no_style_layers_are_no_style_loss():
    assert FastStyleLoss()([maps(1, 3, 4, 4)], [], [], []) == 0
