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
