"""The painter's losses are the graded ones, and the published ones, after constants that are written down."""

import pytest
import torch
from torch.autograd import gradcheck

from extras.painter.losses import (
    GramProduct,
    blended_gram,
    gram,
    relative_error,
    style_terms,
    total_variation,
)
from style_modules import ContentLoss, StyleLoss, TotalVariationLoss

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


def test_style_is_the_graded_loss_with_weights_one_over_the_norms_of_the_targets():
    # The painting has another size than the picture: only then could the normalizations differ.
    picture = [maps(shape) for shape in SHAPES.values()]
    painting = [maps((1, shape[1], 11, 6), seed=2) for shape in SHAPES.values()]
    graded = StyleLoss()
    graded_targets = [graded.gram_matrix(A) for A in painting]
    weights = [float(1 / (2 * A.square().sum())) for A in graded_targets]
    targets = {name: gram(A) for name, A in zip(SHAPES, painting, strict=True)}
    for layer, name in enumerate(SHAPES):

        def features(x, layer=layer):
            return [x if i == layer else F for i, F in enumerate(picture)]

        (
            assert_same(
                lambda x, f=features: sum(
                    style_terms(dict(zip(SHAPES, f(x), strict=True)), targets).values()
                ),
                lambda x, f=features: graded(f(x), [0, 1], graded_targets, weights),
                picture[layer],
            ),
            name,
        )


def test_total_variation_is_the_graded_loss_divided_by_the_pairs_of_neighbours():
    x = maps((1, 3, 6, 4))
    pairs = 3 * (5 * 4 + 6 * 3)
    assert_same(total_variation, lambda x: TotalVariationLoss()(x, 1 / pairs), x)


def test_a_ramp_of_one_step_a_pixel_has_total_variation_by_hand():
    ramp = torch.arange(4.0).expand(1, 1, 3, 4)  # 9 pairs to the right differ by 1, 8 downwards by 0
    assert total_variation(ramp).item() == pytest.approx(9 / 17, rel=1e-6)


@pytest.mark.parametrize("paper", ["Gatys 2016", "Johnson 2016"])
def test_the_published_definitions_are_ours_after_their_constants(paper):
    F, P, A = maps((1, 4, 5, 3)), maps((1, 4, 5, 3), 1), maps((1, 4, 5, 3), 2)
    C, M = 4, 15
    raw, raw_target = (torch.einsum("ncij,ndij->cd", x, x) for x in (F, A))
    if paper == "Gatys 2016":
        content = 0.5 * (F - P).square().sum()
        style = (raw - raw_target).square().sum() / (4 * C**2 * M**2)
        constants = 0.5, 1 / (4 * C**2)
    else:
        content = (F - P).square().sum() / (C * M)
        style = (raw / (C * M) - raw_target / (C * M)).square().sum()
        constants = 1 / (C * M), 1 / C**2
    ours = relative_error(F, P) * P.square().sum(), relative_error(gram(F), gram(A)) * gram(A).square().sum()
    torch.testing.assert_close(content, constants[0] * ours[0])
    torch.testing.assert_close(style, constants[1] * ours[1])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
@pytest.mark.parametrize("shape", [(1, 5, 9, 7), (1, 3, 1, 1), (1, 70, 5, 4)], ids=str)
def test_the_gram_product_and_its_gradient_are_those_of_the_written_out_sum(shape, dtype, tolerance, layout):
    F = maps(shape).to(dtype=dtype, memory_format=layout).requires_grad_()
    # An upstream gradient that is not symmetric tells D + D^T from 2 D.
    D = torch.randn(shape[1], shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    value = GramProduct.apply(F)
    (gradient,) = torch.autograd.grad(value, F, D.to(dtype))
    exact = F.detach().double().requires_grad_()
    expected = torch.einsum("nkhw,nlhw->kl", exact, exact)
    (slope,) = torch.autograd.grad(expected, exact, D)
    assert gradient.shape == F.shape
    for ours, theirs in ((value, expected), (gradient, slope)):
        largest = max(1.0, float(theirs.detach().abs().max()))
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=tolerance * largest)


def test_the_gram_product_passes_the_finite_differences():
    F = maps((1, 4, 3, 5)).requires_grad_()
    assert gradcheck(GramProduct.apply, (F,))
    assert gradcheck(gram, (F,))


def test_the_gradient_of_the_gram_product_keeps_the_memory_layout():
    F = maps((1, 4, 3, 5)).to(memory_format=torch.channels_last).requires_grad_()
    (gradient,) = torch.autograd.grad(gram(F).square().sum(), F)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_relative_errors_do_not_feel_the_size_of_the_features():
    F, P = maps((1, 6, 5, 7)), maps((1, 6, 5, 7), 1)
    assert relative_error(30 * F, 30 * P).item() == pytest.approx(relative_error(F, P).item(), rel=1e-12)
    assert relative_error(torch.zeros_like(P), P).item() == 1.0
    assert relative_error(P, P).item() == 0.0


def test_a_blend_of_one_is_itself_and_a_strong_painting_counts_no_more_than_its_share():
    A, B = gram(maps((1, 4, 6, 6), 1)), gram(maps((1, 4, 6, 6), 2))
    torch.testing.assert_close(blended_gram([A], [1.0]), A)
    even = blended_gram([A, B], [0.5, 0.5])
    loud = blended_gram([A, 100 * B], [0.5, 0.5])
    torch.testing.assert_close(even / even.norm(), loud / loud.norm())


def test_half_precision_features_give_a_float32_matrix_of_their_own_product():
    F = maps((1, 8, 60, 50)).bfloat16()
    exact = F.double().flatten(2)[0] @ F.double().flatten(2)[0].T / 3000
    assert gram(F).dtype == torch.float32
    assert ((gram(F) - exact).norm() / exact.norm()).item() < 4e-3  # one rounding to bfloat16
