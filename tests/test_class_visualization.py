"""Task 3: class model visualization."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD, deprocess, preprocess
from visualizers import ClassVisualization

pytestmark = pytest.mark.task3


class Linear(nn.Module):
    """s_k(I) = <w_k, I>, for images of any size: the weights repeat over the positions of a 2 x 2 tile."""

    def __init__(self, classes=3):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.w = nn.Parameter(0.1 * torch.randn(classes, 3, 2, 2, generator=generator))

    def forward(self, x):
        w = self.w.repeat(1, 1, x.shape[2] // 2, x.shape[3] // 2)
        return torch.einsum("nchw,kchw->nk", x, w)


def one_step(model, target, *, l2_reg, learning_rate):
    """The picture after one step without a shift, and the noise that it started from."""
    random.seed(0)
    torch.manual_seed(0)
    picture = ClassVisualization().create_class_visualization(
        target,
        ["a", "b", "c"],
        model,
        l2_reg=l2_reg,
        learning_rate=learning_rate,
        num_iterations=1,
        max_jitter=0,
        generate_plots=False,
    )
    torch.manual_seed(0)
    return picture, torch.randn(1, 3, 224, 224)


def finished(img):
    """The picture that is returned where a step ends at img (1, 3, H, W): clamped, then blurred."""
    mean, std = (torch.as_tensor(v)[:, None, None] for v in (SQUEEZENET_MEAN, SQUEEZENET_STD))
    img = torch.maximum(torch.minimum(img, (1 - mean) / std), -mean / std)
    return deprocess(
        torch.from_numpy(np.stack([gaussian_filter(channel.numpy(), 0.5) for channel in img[0]]))
    )


def assert_same_picture(found, expected):
    """But for one step of 8 bits, where rounding falls either way."""
    assert np.abs(np.asarray(found, dtype=int) - np.asarray(expected, dtype=int)).max() <= 1


@pytest.mark.parametrize("l2_reg", [0.0, 0.3])
def test_one_step_is_the_normalized_gradient_of_score_minus_regularizer(l2_reg):
    model, learning_rate = Linear(), 100.0
    found, start = one_step(model, 2, l2_reg=l2_reg, learning_rate=learning_rate)
    g = model.w.detach()[2].repeat(1, 112, 112) - 2 * l2_reg * start
    assert_same_picture(found, finished(start + learning_rate * g / g.norm()))


def test_a_flat_objective_leaves_the_image_and_no_nan():
    model = Linear()
    model.w.data.zero_()
    found, start = one_step(model, 0, l2_reg=0.0, learning_rate=25.0)
    assert_same_picture(found, finished(start))


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


def create(net, names, **options):
    random.seed(0)
    torch.manual_seed(0)
    return ClassVisualization().create_class_visualization(366, names, net, generate_plots=False, **options)


def test_the_published_call_gives_a_picture_that_the_network_is_sure_of(net, names):
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


def written_out(img, target, model, shifts, *, learning_rate, l2_reg, blur_every):
    """The published ascent, written out plainly: jitter, step, back, clamp, and a blur when its turn comes."""
    mean, std = (torch.as_tensor(v).to(img)[:, None, None] for v in (SQUEEZENET_MEAN, SQUEEZENET_STD))
    for t, (ox, oy) in enumerate(shifts):
        img = torch.roll(img, (ox, oy), (3, 2)).requires_grad_()
        (model(img)[0, target] - l2_reg * (img**2).sum()).backward()
        img = (img + learning_rate * img.grad / img.grad.norm()).detach()
        img = torch.roll(img, (-ox, -oy), (3, 2))
        img = torch.maximum(torch.minimum(img, (1 - mean) / std), -mean / std)
        if t % blur_every == 0:
            blurred = [gaussian_filter(channel.numpy(), 0.5) for channel in img[0]]
            img = torch.from_numpy(np.stack(blurred))[None]
    return img


def test_the_published_call_is_the_published_loop(tiny):
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
    assert_same_picture(found, deprocess(written_out(start, 2, tiny, shifts, **options)))
