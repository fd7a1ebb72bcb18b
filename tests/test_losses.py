"""Tasks 4, 5 and 6: the losses as statements about mathematics, values and gradients, in double precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.loss_check import check_losses
from helpers.models import load_features
from style_modules import ContentLoss, StyleLoss, TotalVariationLoss

sizes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(2, 6), st.integers(2, 6))


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.task4
def test_content_loss_of_equal_maps_is_zero_and_flat():
    F = random(1, 4, 5, 3).requires_grad_()
    loss = ContentLoss()(3.0, F, F.detach())
    loss.backward()
    assert loss == 0
    assert not F.grad.any()


@pytest.mark.task4
def test_content_loss_is_the_weighted_sum_of_squares():
    P = torch.zeros(1, 2, 3, 4, dtype=torch.float64)
    F = torch.full_like(P, 0.5).requires_grad_()
    loss = ContentLoss()(0.06, F, P)
    loss.backward()
    assert loss.item() == pytest.approx(0.06 * 24 * 0.25, rel=1e-14)
    # dL/dF = 2 w (F - P)
    torch.testing.assert_close(F.grad, torch.full_like(P, 0.06), rtol=1e-14, atol=0)


@pytest.mark.task5
def test_gram_matrix_of_ones_is_one_over_channels():
    ones = torch.ones(2, 4, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(
        StyleLoss().gram_matrix(ones), torch.full((2, 4, 4), 0.25, dtype=torch.float64)
    )
    assert torch.equal(
        StyleLoss().gram_matrix(ones, normalize=False), torch.full((2, 4, 4), 15.0, dtype=torch.float64)
    )


@pytest.mark.task5
def test_gram_matrix_of_known_features():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -4.0]]]], dtype=torch.float64)  # C = 2, H = 1, W = 2
    gram = StyleLoss().gram_matrix(features, normalize=False)
    assert gram.tolist() == [[[5.0, -5.0], [-5.0, 25.0]]]
    assert torch.equal(StyleLoss().gram_matrix(features), gram / 4)


@pytest.mark.task5
@given(sizes)
@settings(max_examples=25, deadline=None)
def test_gram_matrix_forgets_where_things_are(size):
    N, C, H, W = size
    features = random(N, C, H, W)
    order = torch.randperm(H * W, generator=torch.Generator().manual_seed(1))
    shuffled = features.flatten(2)[:, :, order].reshape(N, C, H, W)
    torch.testing.assert_close(StyleLoss().gram_matrix(shuffled), StyleLoss().gram_matrix(features))


@pytest.mark.task5
@given(sizes)
@settings(max_examples=25, deadline=None)
def test_gram_matrix_is_symmetric_positive_semidefinite_and_one_for_each_image(size):
    features = random(*size)
    gram = StyleLoss().gram_matrix(features)
    assert gram.shape == (size[0], size[1], size[1])
    torch.testing.assert_close(gram, gram.transpose(1, 2))
    assert torch.linalg.eigvalsh(gram).min() > -1e-12
    for n in range(size[0]):
        torch.testing.assert_close(gram[n : n + 1], StyleLoss().gram_matrix(features[n : n + 1]))


@pytest.mark.task5
def test_gram_matrix_accepts_any_memory_layout():
    features = random(2, 4, 3, 5)
    shuffled = features.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(StyleLoss().gram_matrix(shuffled), StyleLoss().gram_matrix(features))


@pytest.mark.task5
def test_style_loss_indexes_features_by_layer_and_weights_by_place():
    feats = [random(1, c, 4, 3, seed=c) for c in (2, 3, 4, 5)]
    module = StyleLoss()
    layers, weights = [3, 1], [10.0, 0.5]
    targets = [torch.zeros(1, 5, 5, dtype=torch.float64), torch.ones(1, 3, 3, dtype=torch.float64)]
    expected = (
        10.0 * module.gram_matrix(feats[3]).square().sum()
        + 0.5 * (module.gram_matrix(feats[1]) - 1).square().sum()
    )
    torch.testing.assert_close(module(feats, layers, targets, weights), expected)


@pytest.mark.task5
def test_style_loss_against_its_own_gram_matrices_is_zero():
    feats = [random(1, 3, 4, 5), random(1, 6, 2, 2)]
    module = StyleLoss()
    assert module(feats, [0, 1], [module.gram_matrix(f) for f in feats], [2.0, 3.0]) == 0


@pytest.mark.task6
def test_total_variation_of_a_checkerboard():
    H, W = 4, 7
    board = (torch.arange(H)[:, None] + torch.arange(W)) % 2
    img = board.double().expand(1, 3, H, W)
    # Every pair of neighbours differs by one: (H-1) W vertical and H (W-1) horizontal pairs in three channels.
    assert TotalVariationLoss()(img, 0.5).item() == 0.5 * 3 * ((H - 1) * W + H * (W - 1))


@pytest.mark.task6
def test_total_variation_of_a_flat_picture_is_zero_and_nothing_wraps_around():
    assert TotalVariationLoss()(torch.full((1, 3, 5, 6), 0.3, dtype=torch.float64), 2.0) == 0
    ramp = torch.arange(6, dtype=torch.float64).expand(1, 3, 5, 6)
    assert TotalVariationLoss()(ramp, 1.0).item() == 3 * 5 * 5  # a wrap would add (5 - 0)^2 in every row


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: ContentLoss()(0.06, x, random(1, 3, 4, 5, seed=9)),
        lambda x: StyleLoss()([x], [0], [random(1, 3, 3, seed=8)], [20.0]),
        lambda x: TotalVariationLoss()(x, 0.02),
    ],
    ids=["content", "style", "tv"],
)
def test_gradients_agree_with_finite_differences(loss):
    x = random(1, 3, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(loss, (x,), eps=1e-6, atol=1e-7, rtol=1e-6)
    first, second = loss(x), loss(x)
    assert torch.equal(first, second)
    assert first.dim() == 0


def test_losses_on_the_packaged_network_equal_the_stored_answers():
    """The handout's "Test content loss", "Test style loss" and "Test total variation loss": value and gradient."""
    errors = check_losses(
        ContentLoss(), StyleLoss(), TotalVariationLoss(), load_features("squeezenet", "packaged")
    )
    assert set(errors) == {"content", "style", "tv"}
    for name, error in errors.items():
        assert error.passed, (name, error)


def test_the_check_sees_wrong_losses():
    class ThreeLayers(StyleLoss):
        def forward(self, feats, layers, targets, weights):
            return super().forward(feats, layers[:3], targets[:3], weights[:3])

    errors = check_losses(
        lambda weight, F, P: weight * (F - P).square().mean(),
        ThreeLayers(),
        lambda img, weight: TotalVariationLoss()(img.detach(), weight),
        load_features("squeezenet", "packaged"),
    )
    assert not any(error.passed for error in errors.values())
    assert errors["tv"].value < 1e-5  # the value is right: only the gradient tells


GRAM_MISTAKES = {
    "not normalized": lambda right, F, normalize: right(F, False),
    "divided by the positions alone": lambda right, F, normalize: right(F) * F.shape[1],
    "positions instead of channels": lambda right, F, normalize: right(F.transpose(1, 2), normalize),
    "channels out of order": lambda right, F, normalize: right(F.flip(1), normalize),
    "reshaped with the channels last": lambda right, F, normalize: right(
        F.permute(0, 2, 3, 1).reshape(F.shape), normalize
    ),
    "no batch": lambda right, F, normalize: right(F, normalize)[0],
}


@pytest.mark.task5
@pytest.mark.parametrize("mistake", GRAM_MISTAKES)
def test_the_check_sees_a_wrong_gram_matrix_though_it_is_wrong_for_picture_and_painting_alike(mistake):
    class Wrong(StyleLoss):
        def gram_matrix(self, features, normalize=True):
            return GRAM_MISTAKES[mistake](super().gram_matrix, features, normalize)

    cnn = load_features("squeezenet", "packaged")
    assert not check_losses(ContentLoss(), Wrong(), TotalVariationLoss(), cnn)["style"].passed
