"""Task 1: saliency maps."""

import pytest
import torch
from captum.attr import Saliency
from torch import nn

from visualizers import SaliencyMap

pytestmark = pytest.mark.task1


def saliency(X, y, model):
    return SaliencyMap().compute_saliency_maps(X, y, model)


def test_a_linear_score_has_its_weights_as_saliency():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 4, 5)).double()
    X = torch.randn(2, 3, 2, 4, dtype=torch.float64)
    W = model[1].weight.reshape(5, 3, 2, 4)
    torch.testing.assert_close(saliency(X, torch.tensor([4, 1]), model), W[[4, 1]].abs().amax(dim=1))


def test_without_biases_the_gradient_times_the_input_is_the_score(net, photos, labels):
    """Euler: a bias-free ReLU network is homogeneous of degree one, so the sum of x * ds/dx is s."""
    import copy

    model = copy.deepcopy(net).double()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
    X = photos[:2].double().requires_grad_()
    scores = model(X).gather(1, labels[:2, None])
    (gradient,) = torch.autograd.grad(scores.sum(), X)
    torch.testing.assert_close((X * gradient).sum(dim=(1, 2, 3)), scores[:, 0], rtol=1e-10, atol=0)
    # and what the visualizer returns is that gradient's largest magnitude over the channels
    torch.testing.assert_close(
        saliency(X, labels[:2], model), gradient.abs().amax(dim=1), rtol=1e-10, atol=1e-12
    )


def test_equal_to_captum_on_the_real_network(net, photos, labels):
    expected = Saliency(net).attribute(photos.clone().requires_grad_(), target=labels, abs=True).amax(dim=1)
    torch.testing.assert_close(saliency(photos, labels, net), expected, rtol=1e-5, atol=1e-6)


def test_a_batch_equals_its_images_one_by_one_and_two_calls_agree(tiny):
    X = torch.randn(3, 3, 9, 6, dtype=torch.float64)
    y = torch.tensor([4, 0, 2])
    maps = saliency(X, y, tiny)
    assert maps.shape == (3, 9, 6)
    assert (maps >= 0).all()
    for n in range(3):
        torch.testing.assert_close(maps[n : n + 1], saliency(X[n : n + 1], y[n : n + 1], tiny))
    assert torch.equal(maps, saliency(X, y, tiny))


def test_wrong_input_is_named(tiny):
    X = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    for k in (5, -1):
        with pytest.raises((IndexError, RuntimeError), match=f"index {k} is out of bounds"):
            saliency(X, torch.tensor([0, k]), tiny)
    with pytest.raises(ValueError, match="2 images but 3 classes"):
        saliency(X, torch.tensor([0, 1, 2]), tiny)
    with pytest.raises(ValueError, match="expected \\(N, 3, H, W\\)"):
        saliency(X[0], torch.tensor([0]), tiny)


def test_show_saliency_maps_writes_the_published_file(net, names, tmp_path, monkeypatch):
    import numpy as np
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    SaliencyMap().show_saliency_maps(X, np.array([1, 2]), dict(enumerate(names)), net)
    assert Image.open("visualization/saliency_map.png").size[0] > 100
