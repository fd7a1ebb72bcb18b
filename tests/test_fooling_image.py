"""Fooling images: a small change reaches the target, and an error says where it cannot."""

import pytest
import torch
from torch import nn

from extras.synthesis.fooling_image import make_fooling_image as fool
from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD


def linear(weights):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, len(weights), bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor(weights, dtype=torch.float64)[:, None].expand(-1, 12))
    return model


def test_on_a_linear_model_the_path_is_straight_and_no_longer_than_needed():
    """Scores 0 and w . x with w of ones: from x = -0.1 the boundary is 0.1 * sqrt(12) away."""
    X = torch.full((1, 3, 2, 2), -0.1, dtype=torch.float64)
    fooled = fool(X, 1, linear([0.0, 1.0]), learning_rate=0.1)
    steps = 4  # 0.346 / 0.1, rounded up
    torch.testing.assert_close(fooled, X + steps * 0.1 / 12**0.5)


def test_an_image_of_the_target_stays_as_it_is():
    X = torch.full((1, 3, 2, 2), 0.1, dtype=torch.float64)
    assert torch.equal(fool(X, 1, linear([0.0, 1.0])), X)


def test_a_margin_can_be_asked_for():
    X = torch.full((1, 3, 2, 2), 0.1, dtype=torch.float64)
    model = linear([0.0, 1.0])
    scores = model(fool(X, 1, model, learning_rate=0.1, min_margin=3.0))[0]
    assert 3.0 < scores[1] - scores[0] < 3.0 + 0.1 * 12**0.5 + 1e-9


@pytest.mark.parametrize("target", [6, 130, 999])
def test_the_real_network_is_fooled_by_a_change_no_eye_sees(net, photos, labels, target):
    X = photos[:1].clone()
    fooled = fool(X, target, net)
    assert int(net(X).argmax()) == int(labels[0])
    assert int(net(fooled).argmax()) == target
    assert torch.equal(X, photos[:1]), "the photo itself is left alone"
    assert (fooled - X).norm() < 0.03 * X.norm()
    assert not fooled.requires_grad


def test_pixels_stay_within_what_a_picture_can_hold(net):
    mean, std = (torch.as_tensor(v)[:, None, None] for v in (SQUEEZENET_MEAN, SQUEEZENET_STD))
    white = ((torch.ones(1, 3, 64, 64) - mean) / std).requires_grad_()
    fooled = fool(white, 130, net, learning_rate=5.0)
    x = fooled * std + mean
    assert -1e-6 < x.min() < x.max() < 1 + 1e-6
    assert int(net(fooled).argmax()) == 130


def test_errors_are_named_and_the_model_comes_back_as_it_was(tiny):
    tiny.train()
    X = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    other = (int(tiny(X).argmax()) + 1) % 5
    with pytest.raises(RuntimeError, match=f"3 steps.*class {other}"):
        fool(X, other, tiny, learning_rate=0.0, max_iterations=3)
    with pytest.raises(IndexError, match="class 5 does not exist"):
        fool(X, 5, tiny)
    with pytest.raises(ValueError, match="one image"):
        fool(X.expand(2, -1, -1, -1), 1, tiny)
    assert tiny.training
    assert all(p.requires_grad and p.grad is None for p in tiny.parameters())
    assert all(m.inplace for m in tiny if isinstance(m, nn.ReLU))
