"""Pictures of classes and channels: the parametrization, the views, the ascent."""

import copy
import math

import numpy as np
import pytest
import torch

from extras.synthesis.feature_visualization import (
    COLOUR_COVARIANCE,
    class_objective,
    colour_axes,
    cutoff_at,
    frequency_scale,
    low_pass,
    pixels,
    random_views,
    similarity,
    total_variation,
    visualize,
    warp,
    z_score_objective,
)
from helpers.data_utils import PHOTOS, load_photo
from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD, square


def coordinates(x):
    """What `pixels` maps to x: A^-1 logit(x) / 4, (N, 3, size, size)."""
    return torch.einsum("ij,njhw->nihw", torch.linalg.inv(colour_axes().to(x)), x.logit() / 4)


def spectrum_of(x):
    size = x.shape[-1]
    spectrum = torch.fft.rfft2(coordinates(x), norm="ortho") / frequency_scale(size).to(x)
    return torch.view_as_real(spectrum)


def random_spectrum(size, seed=0, n=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, size, size // 2 + 1, 2, generator=generator, dtype=torch.float64)


def last(steps):
    return [state for state in steps if state is not None][-1]


def test_colour_axes_are_a_square_root_of_the_covariance_longest_first():
    A = colour_axes()
    torch.testing.assert_close(A @ A.T, COLOUR_COVARIANCE, rtol=0, atol=1e-12)
    lengths = A.norm(dim=0)
    torch.testing.assert_close(A.T @ A, torch.diag(lengths**2), rtol=0, atol=1e-12)
    assert lengths[0] > lengths[1] > lengths[2] > 0
    assert len(set(A[:, 0].sign().tolist())) == 1, "the longest axis is brightness: all channels together"


def test_the_covariance_is_that_of_the_bundled_photos():
    photos = [np.asarray(square(load_photo(name))).reshape(-1, 3) / 255 for name in PHOTOS]
    measured = np.mean([np.cov(photo.T) for photo in photos], axis=0)
    np.testing.assert_allclose(COLOUR_COVARIANCE.numpy(), measured, rtol=0, atol=1e-4)


def test_the_scale_is_one_over_frequency_and_finite_at_zero():
    scale = frequency_scale(8)
    assert scale.shape == (8, 5)
    assert scale[0, 0] == 8
    assert scale[0, 1] == scale[1, 0] == scale[7, 0] == 8
    assert scale[0, 4] == 2  # two pixels a cycle
    assert scale[3, 4] == pytest.approx(1 / 0.625)


@pytest.mark.parametrize("size", [16, 17])
def test_any_quiet_picture_has_a_spectrum_that_gives_it_back(size):
    generator = torch.Generator().manual_seed(1)
    x = 0.4 + 0.2 * torch.rand(2, 3, size, size, generator=generator, dtype=torch.float64)
    x = x.mean(dim=1, keepdim=True) + 0.1 * (x - x.mean(dim=1, keepdim=True))
    assert (coordinates(x).flatten(2).std(dim=2) < 1).all()
    torch.testing.assert_close(pixels(spectrum_of(x), size), x, rtol=0, atol=1e-12)


def test_equal_coefficients_make_waves_whose_height_falls_as_one_over_frequency():
    size = 32

    def height(cycles):
        spectrum = torch.zeros(1, 3, size, size // 2 + 1, 2, dtype=torch.float64)
        spectrum[0, 0, 0, cycles, 0] = 0.1
        return coordinates(pixels(spectrum, size))[0, 0].amax()

    assert height(1) / height(4) == pytest.approx(4)
    assert height(2) / height(8) == pytest.approx(4)


@pytest.mark.parametrize("contrast", [0.5, 1.0])
def test_a_loud_spectrum_spreads_no_wider_than_a_photo_and_a_quiet_one_keeps_its_spread(contrast):
    loud, quiet = random_spectrum(24) * 3, random_spectrum(24) * 1e-3
    spread = coordinates(pixels(loud, 24, contrast)).flatten(2).std(dim=2)
    torch.testing.assert_close(spread, torch.full_like(spread, contrast), rtol=1e-9, atol=0)
    z = torch.fft.irfft2(torch.view_as_complex(quiet) * frequency_scale(24), s=(24, 24), norm="ortho")
    torch.testing.assert_close(coordinates(pixels(quiet, 24, contrast)), contrast * z, rtol=1e-9, atol=1e-12)


def test_pixels_stay_inside_the_range_and_carry_gradients():
    spectrum = (random_spectrum(12) * 1e4).requires_grad_()
    x = pixels(spectrum, 12)
    assert x.shape == (2, 3, 12, 12)
    assert 0 <= x.min() < x.max() <= 1
    small = random_spectrum(6, n=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: pixels(s, 6), (small,))


def views_of(seeds, shift=0.2, rotation=30.0, zoom=(0.5, 2.0)):
    return random_views([torch.Generator().manual_seed(s) for s in seeds], shift, rotation, zoom)


def test_views_switched_off_change_nothing():
    X = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    views = views_of([0, 1], 0, 0, (1, 1))
    assert torch.equal(views, torch.eye(2, 3).expand(2, 2, 3))
    torch.testing.assert_close(warp(X, views), X, rtol=0, atol=1e-12)


def test_views_keep_within_their_bounds_and_use_them():
    views = views_of(range(200))
    zooms = torch.linalg.det(views[:, :, :2]) ** -0.5
    angles = torch.atan2(views[:, 1, 0], views[:, 0, 0]) * 180 / math.pi
    for values, low, high in ((zooms, 0.5, 2), (angles, -30, 30), (views[:, :, 2], -0.4, 0.4)):
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high


def test_half_of_the_views_are_mirrored_where_asked_for():
    generators = [torch.Generator().manual_seed(seed) for seed in range(200)]
    sides = torch.linalg.det(random_views(generators, 0.2, 30.0, (0.5, 2.0), mirror=True)[:, :, :2]).sign()
    assert 80 < (sides < 0).sum() < 120
    X = torch.rand(1, 3, 9, 9)
    seed = int(sides.argmin())
    view = random_views([torch.Generator().manual_seed(seed)], 0, 0, (1, 1), mirror=True)
    torch.testing.assert_close(warp(X, view), X.flip(3))


def test_each_picture_draws_its_own_views():
    assert torch.equal(views_of([3, 4, 5])[1], views_of([4])[0])


def test_a_quarter_turn_and_a_shift_by_whole_pixels_are_exact():
    X = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    turn = torch.tensor([[[0.0, -1, 0], [1, 0, 0]]])
    torch.testing.assert_close(warp(X, turn), X.rot90(1, (2, 3)), rtol=0, atol=1e-12)
    right = torch.tensor([[[1.0, 0, 2 * 2 / 8], [0, 1, 0]]])  # looks two pixels further right
    torch.testing.assert_close(warp(X, right)[..., :6], X[..., 2:], rtol=0, atol=1e-12)


def test_warping_is_differentiable():
    X = torch.rand(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: warp(x, views_of([0, 1])), (X,))


def test_total_variation_by_hand():
    flat = torch.full((1, 3, 4, 4), 0.3)
    steps = torch.arange(4.0).reshape(1, 1, 1, 4).expand(1, 3, 4, 4) / 10
    torch.testing.assert_close(total_variation(torch.cat([flat, steps])), torch.tensor([0.0, 3 * 0.01]))


def test_similarity_is_one_for_equal_texture_and_zero_for_none_in_common():
    a = torch.zeros(4, 2, 2, 2)
    a[0, 0] = 1.0
    a[1, 0] = torch.tensor([[2.0, 2], [2, 2]])  # the same texture, louder
    a[2, 0] = 1.0
    a[3, 1] = 1.0  # another channel altogether
    torch.testing.assert_close(similarity(a, 2), torch.tensor([1.0, 1.0, 0.0, 0.0]))
    moved = torch.rand(1, 3, 2, 4)
    torch.testing.assert_close(similarity(torch.cat([moved, moved.flip(3)]), 2), torch.ones(2))


def test_the_low_pass_is_butterworths_of_order_six():
    size = 64
    gain = low_pass(size, 0.25)
    assert gain[0, 0] == 1
    assert gain[0, 16] == gain[16, 0] == gain[48, 0] == pytest.approx(0.5**0.5)
    assert gain[0, 32] == pytest.approx(1 / (1 + 2**12) ** 0.5)
    assert torch.equal(low_pass(size, math.inf), torch.ones(size, 33))


def test_the_ascent_goes_from_coarse_to_fine():
    assert cutoff_at(0) == 0.016
    assert cutoff_at(0.3) == pytest.approx(0.016**0.5)
    assert cutoff_at(0.599) == pytest.approx(1, abs=0.01)
    assert cutoff_at(0.6) == cutoff_at(1) == math.inf
    loud = random_spectrum(32)
    rough = [total_variation(pixels(loud, 32, cutoff=cutoff_at(t))).mean() for t in (0, 0.2, 0.4, 0.6)]
    assert rough == sorted(rough) and rough[0] < 0.05 * rough[-1]


def test_the_objective_climbs_as_the_logarithm_of_the_score_over_the_features_times_the_score():
    generator = torch.Generator().manual_seed(0)
    f = torch.rand(3, 7, dtype=torch.float64, generator=generator).requires_grad_()
    w = torch.rand(7, dtype=torch.float64, generator=generator)
    s = f @ w
    (gradient,) = torch.autograd.grad(class_objective(s, f, 1.1).sum(), f, retain_graph=True)
    (expected,) = torch.autograd.grad((s**1.1 / f.norm(dim=1)).log().sum(), f)
    torch.testing.assert_close(gradient, s.detach()[:, None] * expected)


def test_a_class_without_any_score_can_still_climb():
    f = torch.ones(1, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(class_objective((f @ torch.tensor([1.0, -1.0])), f).sum(), f)
    assert gradient.tolist() == [[pytest.approx(1.1), pytest.approx(-1.1)]]


def test_the_z_score_climbs_in_units_of_the_deviation_of_the_scores():
    scores = torch.tensor(
        [[3.0, 1.0, 2.0, -2.0], [0.0, 5.0, 1.0, 4.0]], dtype=torch.float64, requires_grad=True
    )
    s = scores[:, 0]
    (gradient,) = torch.autograd.grad(z_score_objective(s, scores).sum(), scores, retain_graph=True)
    z = (s - scores.mean(dim=1)) / scores.std(dim=1)
    (expected,) = torch.autograd.grad(z.sum(), scores)
    torch.testing.assert_close(gradient, scores.std(dim=1, keepdim=True).detach() * expected)


def test_a_network_without_maps_climbs_too():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 12 * 12, 5)).double()
    torch.nn.init.normal_(model[1].weight, generator=torch.Generator().manual_seed(0))
    states = visualize([1, 3], model, variations=2, num_iterations=30, show_every=30, size=12)
    first, final = (state for state in states if state is not None)
    assert (final.scores > first.scores + 1).all()


def test_the_pictures_on_the_way_are_coarse_at_first_and_fine_later(net):
    states = visualize([130], net, num_iterations=10, show_every=3, size=64)
    shown = {state.iteration: state.images for state in states if state is not None}

    def fine(X):
        power = torch.fft.rfft2(X).abs().square()
        f = torch.hypot(torch.fft.fftfreq(64)[:, None], torch.fft.rfftfreq(64)[None])
        return float(power[..., f > 0.2].sum() / power[..., f > 0].sum())

    # The cut-off of the third iteration is 0.06 cycles per pixel; the filter is fully open from the seventh on.
    assert fine(shown[1]) < 1e-3 and fine(shown[3]) < 1e-3
    assert fine(shown[10]) > 0.05


def test_a_picture_does_not_depend_on_its_neighbours_and_a_seed_repeats_it(tiny):
    def draw(targets, **options):
        return last(visualize(targets, tiny, num_iterations=6, size=12, **options))

    together = draw([1, 3])
    torch.testing.assert_close(together.images[1:], draw([3]).images, rtol=0, atol=1e-9)
    assert torch.equal(together.images, draw([1, 3]).images)
    assert not torch.allclose(together.images, draw([1, 3], seed=1).images, atol=1e-3)
    varied = draw([1, 3], variations=2, diversity=0.0)
    torch.testing.assert_close(varied.images[::2], together.images, rtol=0, atol=1e-9)
    assert not torch.allclose(varied.images[0], varied.images[1], atol=1e-3)
    assert together.images.dtype == torch.float64


def test_stages_come_when_asked_for(tiny):
    states = list(visualize([0], tiny, num_iterations=7, show_every=3, size=12))
    assert [state and state.iteration for state in states] == [1, None, 3, None, None, 6, 7]
    assert list(visualize([0], tiny, num_iterations=0, size=12)) == []


def test_the_values_told_are_those_of_the_picture_shown(net):
    state = last(visualize([130, 366], net, num_iterations=2, size=64))
    with torch.no_grad():
        scores = net(state.images)
    torch.testing.assert_close(state.scores, scores[[0, 1], [130, 366]])
    torch.testing.assert_close(state.probabilities, scores.softmax(dim=1)[[0, 1], [130, 366]])


def test_the_network_is_sure_of_its_pictures_and_they_are_pictures(net):
    # In float64 every processor, and every number of threads, comes to the same picture. In float32 Adam's first
    # steps turn rounding errors into visible differences, and the probabilities differ as much as two seeds do.
    state = last(visualize([130, 1], copy.deepcopy(net).double(), num_iterations=80, size=96))
    assert (state.probabilities > 0.8).all()
    mean, std = (torch.as_tensor(v)[:, None, None] for v in (SQUEEZENET_MEAN, SQUEEZENET_STD))
    x = state.images * std + mean
    assert -1e-6 < x.min() < x.max() < 1 + 1e-6
    deviations = x.flatten(2).std(dim=2)
    assert (deviations > 0.05).all(), "a grey picture shows nothing"
    assert (deviations < 0.3).all()


def test_a_channel_answers_more_strongly_than_to_any_photo(net, photos):
    state = last(visualize([5, 12], net, layer="features.7", num_iterations=40, size=96))
    assert state.probabilities is None
    kept = {}
    handle = net.features[7].register_forward_hook(lambda module, inputs, output: kept.update(maps=output))
    with torch.no_grad():
        net(photos)
        to_photos = kept["maps"].mean(dim=(2, 3))[:, [5, 12]]
        net(state.images)
        to_pictures = kept["maps"].mean(dim=(2, 3))[[0, 1], [5, 12]]
    handle.remove()
    torch.testing.assert_close(state.scores, to_pictures)
    assert (to_pictures > to_photos.amax(dim=0)).all()


def test_diversity_makes_variations_less_alike(net):
    def alike(diversity):
        state = last(visualize([130], net, variations=2, diversity=diversity, num_iterations=10, size=64))
        with torch.no_grad():
            return similarity(net.features(state.images), 2).mean()

    assert alike(2.0) < alike(0.0) - 0.05


def state_of(model):
    return (
        [(name, value.clone()) for name, value in model.state_dict().items()],
        [p.requires_grad for p in model.parameters()],
        [(m.training, getattr(m, "inplace", None), len(m._forward_hooks)) for m in model.modules()],
    )


def assert_same_state(model, before):
    values, *rest = state_of(model)
    assert rest == list(before[1:])
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(values, before[0], strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_the_model_comes_back_as_it_was_also_after_an_error(tiny):
    tiny.train()
    before = state_of(tiny)
    list(visualize([1], tiny, num_iterations=2, size=12, variations=2))
    assert_same_state(tiny, before)
    with pytest.raises(IndexError, match="class 5 does not exist.*0 to 4"):
        list(visualize([5], tiny, num_iterations=2, size=12))
    with pytest.raises(IndexError, match="channel 8 does not exist.*0 to 7"):
        list(visualize([8], tiny, layer="3", num_iterations=2, size=12))
    with pytest.raises(ValueError, match="not maps"):
        list(visualize([1], tiny, layer="6", num_iterations=2, size=12))
    assert_same_state(tiny, before)
    abandoned = visualize([1], tiny, num_iterations=5, size=12)
    next(abandoned)
    abandoned.close()
    assert_same_state(tiny, before)
