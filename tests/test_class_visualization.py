"""Task 3: class model visualization."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD
from visualizers import ClassVisualization
from visualizers.class_ascent import climb


class Linear(nn.Module):
    """s_k(I) = <w_k, I>, for images of any size: the weights repeat over the positions of a 2 x 2 tile."""

    def __init__(self, classes=3):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.w = nn.Parameter(0.1 * torch.randn(classes, 3, 2, 2, generator=generator))

    def forward(self, x):
        w = self.w.repeat(1, 1, x.shape[2] // 2, x.shape[3] // 2)
        return torch.einsum("nchw,kchw->nk", x, w)


def test_one_step_is_the_normalized_gradient_of_score_minus_regularizer():
    model, learning_rate, l2_reg = Linear(), 5.0, 0.3
    img = torch.randn(2, 3, 4, 6).requires_grad_()
    before = img.detach().clone()
    ClassVisualization.ascent_step(img, torch.tensor([2, 0]), model, l2_reg, learning_rate)
    w = model.w.detach()[[2, 0]].repeat(1, 1, 2, 3)
    g = w - 2 * l2_reg * before
    expected = before + learning_rate * g / g.flatten(1).norm(dim=1)[:, None, None, None]
    torch.testing.assert_close(img.detach(), expected)
    # a second step starts afresh: no gradient is left over from the first
    g = w - 2 * l2_reg * expected
    ClassVisualization.ascent_step(img, torch.tensor([2, 0]), model, l2_reg, learning_rate)
    torch.testing.assert_close(
        img.detach(), expected + learning_rate * g / g.flatten(1).norm(dim=1)[:, None, None, None]
    )


def test_ascent_on_a_linear_scorer_reaches_w_over_two_lambda():
    model, l2_reg = Linear(), 0.5
    optimum = model.w.detach()[1] / (2 * l2_reg)
    img = torch.randn(1, 3, 4, 4).requires_grad_()
    for rate in np.geomspace(1.0, 1e-5, 300):
        ClassVisualization.ascent_step(img, torch.tensor([1]), model, l2_reg, float(rate))
    torch.testing.assert_close(img.detach()[0], optimum.repeat(1, 2, 2), atol=2e-5, rtol=0)


def test_a_flat_objective_leaves_the_image_and_no_nan():
    model = Linear()
    model.w.data.zero_()
    img = torch.zeros(1, 3, 4, 4).requires_grad_()
    ClassVisualization.ascent_step(img, torch.tensor([0]), model, 0.1, 25.0)
    assert not img.detach().any()


def test_jitter_shifts_right_and_down_and_comes_back():
    X = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    shifted = ClassVisualization.jitter(X, 2, 1)
    assert shifted[0, 0, 1, 2] == X[0, 0, 0, 0]
    assert torch.equal(ClassVisualization.jitter(shifted, -2, -1), X)
    assert torch.equal(ClassVisualization.jitter(X, 0, 0), X)


def test_blur_is_gaussian_within_each_channel_and_in_place():
    X = torch.randn(2, 3, 12, 9)
    expected = np.stack([[gaussian_filter(channel.numpy(), 1.5) for channel in image] for image in X])
    returned = ClassVisualization.blur_image(X, 1.5)
    assert returned is X
    np.testing.assert_allclose(X.numpy(), expected, atol=1e-5)


def test_pixels_stay_within_what_a_picture_can_hold():
    img = 100 * torch.randn(1, 3, 8, 8)
    ClassVisualization().regularize(img, t=1, blur_every=10)
    pixels = img * SQUEEZENET_STD[:, None, None] + SQUEEZENET_MEAN[:, None, None]
    assert pixels.min() == pytest.approx(0, abs=1e-6)
    assert pixels.max() == pytest.approx(1, abs=1e-6)


def create(net, names, **options):
    random.seed(0)
    torch.manual_seed(0)
    return ClassVisualization().create_class_visualization(366, names, net, generate_plots=False, **options)


def test_the_published_call_gives_a_picture_that_the_network_is_sure_of(net, names):
    from helpers.image_utils import preprocess

    img = create(net, names, num_iterations=60)
    assert isinstance(img, Image.Image)
    assert img.size == (224, 224)
    assert net(preprocess(img)).softmax(1)[0, 366] > 0.5

    img = create(net, names, num_iterations=5)
    assert img.tobytes() == create(net, names, num_iterations=5).tobytes()
    # the old way of naming a type, and a dictionary of names
    assert (
        img.tobytes()
        == create(net, dict(enumerate(names)), dtype=torch.FloatTensor, num_iterations=5).tobytes()
    )


def test_plots_are_written_when_asked_for(net, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ClassVisualization().create_class_visualization(3, names, net, num_iterations=3, show_every=2)
    found = sorted(path.name for path in (tmp_path / "visualization").iterdir())
    assert found == [f"class_visualization_iter_{t}.png" for t in (1, 2, 3)]


def test_a_batch_equals_its_classes_one_by_one(tiny):
    options = {"num_iterations": 5, "show_every": 2, "size": 32, "max_jitter": 3}
    together = [state for state in climb([4, 1], tiny, **options) if state]
    alone = [state for state in climb([1], tiny, **options) if state]
    assert [state.iteration for state in together] == [1, 2, 4, 5]
    for both, single in zip(together, alone, strict=True):
        torch.testing.assert_close(both.images[1:], single.images)
        torch.testing.assert_close(both.scores[1:], single.scores)


def test_ascent_can_start_from_a_zero_image_and_depends_on_the_seed(tiny):
    def last(**options):
        return [
            state for state in climb([2], tiny, num_iterations=3, size=32, max_jitter=0, **options) if state
        ][-1]

    assert torch.equal(last(init="zero", seed=0).images, last(init="zero", seed=1).images)
    assert not torch.equal(last(seed=0).images, last(seed=1).images)
    assert torch.equal(last(seed=1).images, last(seed=1).images)
    with pytest.raises(ValueError, match="choose noise or zero"):
        last(init="grey")


def test_wrong_class_is_named(tiny):
    with pytest.raises(IndexError, match="class 7"):
        list(climb([7], tiny, size=32))


def written_out(img, target, model, shifts, sigmas, *, learning_rate, l2_reg, blur_every):
    """The published ascent, written out plainly: jitter, step, back, clamp, and a blur when its turn comes."""
    mean, std = SQUEEZENET_MEAN.to(img)[:, None, None], SQUEEZENET_STD.to(img)[:, None, None]
    for t, ((ox, oy), sigma) in enumerate(zip(shifts, sigmas, strict=True)):
        img = torch.roll(img, (ox, oy), (3, 2)).requires_grad_()
        (model(img)[0, target] - l2_reg * (img**2).sum()).backward()
        img = (img + learning_rate * img.grad / img.grad.norm()).detach()
        img = torch.roll(img, (-ox, -oy), (3, 2))
        img = torch.maximum(torch.minimum(img, (1 - mean) / std), -mean / std)
        if t % blur_every == 0:
            blurred = [gaussian_filter(channel.numpy(), sigma) for channel in img[0]]
            img = torch.from_numpy(np.stack(blurred))[None]
    return img


def test_the_published_call_is_the_published_loop(tiny):
    from helpers.image_utils import deprocess

    tiny.requires_grad_(False)
    options = {"learning_rate": 40.0, "l2_reg": 2e-3, "blur_every": 3}
    random.seed(5)
    torch.manual_seed(5)
    found = ClassVisualization().create_class_visualization(
        2, list(range(5)), tiny, num_iterations=5, max_jitter=9, generate_plots=False, **options
    )
    random.seed(5)
    torch.manual_seed(5)
    start = torch.randn(1, 3, 224, 224).double()
    shifts = [(random.randint(0, 9), random.randint(0, 9)) for _ in range(5)]
    expected = deprocess(written_out(start, 2, tiny, shifts, [0.5] * 5, **options))
    difference = np.abs(np.asarray(found, dtype=int) - np.asarray(expected, dtype=int))
    assert difference.max() <= 1  # one step of 8 bits, where rounding falls either way


def test_the_batch_climbs_by_the_same_loop(tiny):
    tiny.requires_grad_(False)
    options = {"learning_rate": 8.0, "l2_reg": 2e-3, "blur_every": 2}
    states = [
        s for s in climb([3], tiny, num_iterations=4, show_every=1, size=32, max_jitter=5, **options) if s
    ]
    # Its first image is noise after one step: standard normal, so far from constant.
    start = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(3))[None].double()
    generator = torch.Generator().manual_seed(0)
    shifts = [torch.randint(0, 6, (2,), generator=generator).tolist() for _ in range(4)]
    expected = written_out(start, 3, tiny, shifts, np.linspace(1.2, 0.35, 4), **options)
    torch.testing.assert_close(states[-1].images, expected, rtol=1e-5, atol=1e-5)
