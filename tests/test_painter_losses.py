"""The painter's losses are what their formulas say, and two of them the graded ones after a constant."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from extras.painter.losses import (
    Sums,
    blend,
    content_error,
    content_norm,
    layer_weights,
    moments,
    relative_error,
    root,
    style_terms,
    total_variation,
)
from style_modules import ContentLoss, TotalVariationLoss

SHAPES = {"shallow": (1, 5, 9, 7), "deep": (1, 8, 4, 3)}


def maps(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).relu()


def value_and_gradient(loss, x):
    x = x.clone().requires_grad_()
    value = loss(x)
    return value.detach(), torch.autograd.grad(value, x)[0]


def assert_same(ours, theirs, x):
    for a, b in zip(value_and_gradient(ours, x), value_and_gradient(theirs, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_content_is_the_graded_loss_with_weight_one_over_the_norm_of_the_target():
    F, P = maps((1, 6, 5, 7)), maps((1, 6, 5, 7), seed=1)
    assert_same(lambda x: relative_error(x, P), lambda x: ContentLoss()(float(1 / P.square().sum()), x, P), F)


def test_the_moments_are_those_of_numpy():
    F = maps((1, 4, 5, 3))
    positions = F[0].flatten(1).numpy()
    found = moments(F)
    np.testing.assert_allclose(found.mean, positions.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(positions, bias=True), rtol=1e-10, atol=1e-15)


def test_weighted_moments_are_those_of_the_positions_that_count():
    F, weights = maps((1, 4, 5, 3)), torch.zeros(1, 1, 5, 3, dtype=torch.float64)
    weights[0, 0, 1:3] = 1 / 6
    for ours, part in zip(moments(F, weights), moments(F[:, :, 1:3]), strict=True):
        torch.testing.assert_close(ours, part)
    uneven = torch.tensor([1.0, 3.0], dtype=torch.float64) / 4  # by hand: mean 4, variance (9 + 3 * 1) / 4
    values = torch.tensor([1.0, 5.0], dtype=torch.float64)
    found = moments(values.view(1, 1, 1, 2), uneven.view(1, 1, 1, 2))
    assert found.mean.item() == pytest.approx(4.0) and found.covariance.item() == pytest.approx(3.0)


def test_the_covariance_is_the_gram_matrix_less_that_of_the_means():
    F = maps((1, 4, 5, 3))
    gram = torch.einsum("ncij,ndij->cd", F, F) / 15
    found = moments(F)
    torch.testing.assert_close(found.covariance, gram - torch.outer(found.mean, found.mean))


def test_the_style_is_the_weighted_root_of_the_relative_errors():
    found = {name: moments(maps(shape)) for name, shape in SHAPES.items()}
    targets = {name: moments(maps(shape, 2)) for name, shape in SHAPES.items()}
    terms = style_terms(found, targets)
    assert list(terms) == list(SHAPES)
    for (name, term), weight in zip(
        terms.items(), (2 / 3, 1 / 3), strict=True
    ):  # the first layer counts most
        ratios = [(a - b).norm() / b.norm() for a, b in zip(found[name], targets[name], strict=True)]
        assert term.item() == pytest.approx(weight * float(ratios[0] + ratios[1]) / 2, abs=1.1e-3)


def test_layer_weights_fall_evenly_and_sum_to_one():
    assert layer_weights(4) == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert sum(layer_weights(7)) == pytest.approx(1.0)


def test_an_error_of_zero_has_a_slope_of_zero():
    error = torch.zeros((), requires_grad=True)
    value = root(error.square())  # the square root itself would give 0 / 0
    (slope,) = torch.autograd.grad(value, error)
    assert value.item() == 0 and slope.item() == 0
    assert root(torch.tensor(0.25)).item() == pytest.approx(0.5, abs=2e-3)


def test_the_content_error_is_relative_to_the_photo():
    F, P = maps((1, 5, 9, 7)), maps((1, 5, 9, 7), 1)
    assert_same(lambda x: content_error(x, P, content_norm(P, 0.0)), lambda x: relative_error(x, P), F)


def test_a_photo_weaker_than_the_painting_counts_no_more_than_the_painting():
    F, P, A = maps((1, 5, 9, 7)), 0.1 * maps((1, 5, 9, 7), 1), maps((1, 5, 4, 4), 2)
    power = float(A.square().sum(dim=1).mean())
    found = content_error(F, P, content_norm(P, power))
    assert found.item() == pytest.approx(float((F - P).square().sum()) / (power * 63))


def test_total_variation_is_the_graded_loss_divided_by_the_pairs_of_neighbours():
    x = maps((1, 3, 6, 4))
    pairs = 3 * (5 * 4 + 6 * 3)
    assert_same(total_variation, lambda x: TotalVariationLoss()(x, 1 / pairs), x)


def test_a_ramp_of_one_step_a_pixel_has_total_variation_by_hand():
    ramp = torch.arange(4.0).expand(1, 1, 3, 4)  # 9 pairs to the right differ by 1, 8 downwards by 0
    assert total_variation(ramp).item() == pytest.approx(9 / 17, rel=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
@pytest.mark.parametrize("shape", [(1, 5, 9, 7), (1, 3, 1, 1), (1, 70, 5, 4)], ids=str)
def test_the_sums_and_their_gradient_are_those_of_the_written_out_sums(shape, dtype, tolerance, layout):
    F = maps(shape).to(dtype=dtype, memory_format=layout).requires_grad_()
    generator = torch.Generator().manual_seed(1)
    d = torch.randn(shape[1], dtype=torch.float64, generator=generator)
    # An upstream gradient that is not symmetric tells D + D^T from 2 D.
    D = torch.randn(shape[1], shape[1], dtype=torch.float64, generator=generator)
    sums, products = Sums.apply(F)
    (gradient,) = torch.autograd.grad((sums, products), F, (d.to(sums.dtype), D.to(dtype)))
    exact = F.detach().double().requires_grad_()
    expected = exact.sum(dim=(0, 2, 3)), torch.einsum("nkhw,nlhw->kl", exact, exact)
    (slope,) = torch.autograd.grad(expected, exact, (d, D))
    assert gradient.shape == F.shape and gradient.dtype == dtype
    for ours, theirs in ((sums, expected[0]), (products, expected[1]), (gradient, slope)):
        largest = max(1.0, float(theirs.detach().abs().max()))
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=tolerance * largest)


def test_the_sums_and_the_moments_pass_the_finite_differences():
    F = maps((1, 4, 3, 5)).requires_grad_()
    assert gradcheck(Sums.apply, (F,))
    assert gradcheck(moments, (F,))
    weights = maps((1, 1, 3, 5), 3) + 0.1
    assert gradcheck(lambda x: moments(x, weights / weights.sum()), (F,))


def test_the_gradient_of_the_sums_keeps_the_memory_layout():
    F = maps((1, 4, 3, 5)).to(memory_format=torch.channels_last).requires_grad_()
    sums, products = Sums.apply(F)
    (gradient,) = torch.autograd.grad(sums.sum() + products.square().sum(), F)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_the_covariance_of_nearly_flat_features_is_wrong_by_little_beside_their_mean():
    F = 0.6 + 0.001 * maps((1, 8, 60, 50))
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2)):
        rounded = F.to(dtype)
        difference = moments(rounded).covariance - moments(rounded.double()).covariance
        assert difference.norm() < tolerance * moments(F).mean.square().sum(), dtype


def test_relative_errors_do_not_feel_the_size_of_the_features():
    F, P = maps((1, 6, 5, 7)), maps((1, 6, 5, 7), 1)
    assert relative_error(30 * F, 30 * P).item() == pytest.approx(relative_error(F, P).item(), rel=1e-12)
    assert relative_error(torch.zeros_like(P), P).item() == 1.0
    assert relative_error(P, P).item() == 0.0
    nothing = torch.zeros_like(P)
    assert relative_error(nothing, nothing).item() == 0.0
    assert 1 < relative_error(P, nothing).item() < 1e7  # and not infinite
    assert relative_error(P, nothing, least=2 * P.norm()).item() == pytest.approx(0.25)


def test_a_blend_of_one_is_itself_and_a_strong_painting_counts_no_more_than_its_share():
    A, B = (moments(maps((1, 4, 6, 6), seed)).covariance for seed in (1, 2))
    torch.testing.assert_close(blend([A], [1.0]), A)
    even = blend([A, B], [0.5, 0.5])
    loud = blend([A, 100 * B], [0.5, 0.5])
    torch.testing.assert_close(even / even.norm(), loud / loud.norm())


def test_half_precision_features_give_float32_moments_of_their_own_values():
    F = maps((1, 8, 60, 50)).bfloat16()
    for ours, exact in zip(moments(F), moments(F.double()), strict=True):
        assert ours.dtype == torch.float32
        assert ((ours - exact).norm() / exact.norm()).item() < 8e-3  # some roundings to bfloat16
