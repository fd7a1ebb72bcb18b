"""The faster gradient of a picture's convolution is the gradient, on every shape, and only where it applies."""

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from helpers.models import load_classifier
from visualizers import picture_gradient
from visualizers.mechanisms import class_scores, input_gradient, untouched
from visualizers.picture_gradient import PictureGradient

lengths = st.integers(1, 7)


def value_and_gradient(layer, X):
    x = X.clone().requires_grad_()
    out = layer(x)
    return out.detach(), torch.autograd.grad(out.square().sum(), x)[0]


@pytest.fixture
def calls(monkeypatch):
    """How often a gradient was computed our way."""
    seen = []
    original = picture_gradient.picture_gradient
    monkeypatch.setattr(picture_gradient, "picture_gradient", lambda *args: seen.append(1) or original(*args))
    return seen


@given(
    kernel=st.tuples(lengths, lengths),
    step=st.integers(2, 4),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    size=st.tuples(st.integers(7, 20), st.integers(7, 20)),
    channels=st.integers(1, 4),
    bias=st.booleans(),
)
def test_it_is_the_gradient(kernel, step, padding, size, channels, bias):
    conv = nn.Conv2d(channels, 5, kernel, step, padding, bias=bias).double().requires_grad_(False)
    X = torch.randn(2, channels, *size, dtype=torch.float64)
    expected = value_and_gradient(conv, X)
    with PictureGradient():
        results = value_and_gradient(conv, X)
    assert torch.equal(results[0], expected[0])
    torch.testing.assert_close(
        results[1], expected[1], rtol=0, atol=1e-12 * (1 + float(expected[1].abs().max()))
    )


def test_one_weight_in_integers():
    """A picture of one channel, one weight of 1 in the middle of a 3 x 3 kernel: the gradient lands where the steps
    look, and nowhere else."""
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1
    g = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    expected = torch.zeros(6, 6)
    expected[1:4:2, 1:4:2] = g
    assert torch.equal(picture_gradient.picture_gradient(g, weight, 2, (0, 0), (6, 6))[0, 0], expected)


def test_it_passes_the_finite_differences_of_both_orders():
    conv = nn.Conv2d(2, 3, 3, 2, 1).double().requires_grad_(False)
    x = torch.randn(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)

    def squared(x):
        with PictureGradient():
            return conv(x).square()

    assert gradcheck(squared, (x,)) and gradgradcheck(squared, (x,))


def test_it_works_under_the_transforms_of_torch_func(calls):
    conv = nn.Conv2d(3, 4, 3, 2).double().requires_grad_(False)
    X = torch.randn(2, 1, 3, 9, 9, dtype=torch.float64)
    expected = torch.stack([value_and_gradient(conv, x)[1] for x in X])
    with PictureGradient():
        gradients = torch.func.vmap(torch.func.grad(lambda x: conv(x).square().sum()))(X)
    assert calls
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("name", ["squeezenet", "alexnet", "resnet18"])
def test_whole_networks(name, calls):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None) if name != "squeezenet" else load_classifier()
    model = model.double().eval()
    X, y = torch.randn(2, 3, 97, 90, dtype=torch.float64), torch.tensor([3, 5])
    with untouched(model):
        ours = input_gradient(model, X, y)
        x = X.clone().requires_grad_()
        assert len(calls) == 1
        (theirs,) = torch.autograd.grad(model(x).gather(1, y[:, None]).sum(), x)
    assert len(calls) == 1 and theirs.any()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12 * float(theirs.abs().max()))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(5, 4, 3, 2),
        nn.Conv2d(3, 4, 3, (2, 1)),
        nn.Conv2d(3, 4, 3, 2, padding="valid"),
        nn.Conv2d(3, 6, 3, 2, groups=3),
        nn.Conv2d(3, 4, 3, 2, dilation=2),
        nn.Linear(9, 2),
    ],
)
def test_everything_else_stays_as_it_is(layer, calls):
    layer = layer.requires_grad_(False)
    X = torch.randn(1, 5 if getattr(layer, "in_channels", 3) == 5 else 3, 9, 9)
    expected = value_and_gradient(layer, X)
    with PictureGradient():
        results = value_and_gradient(layer, X)
    assert not calls and all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


def test_weights_that_learn_still_learn(calls):
    conv = nn.Conv2d(3, 4, 3, 2)
    with PictureGradient():
        conv(torch.randn(1, 3, 9, 9, requires_grad=True)).sum().backward()
    assert not calls and conv.weight.grad is not None


def test_an_unbatched_picture_and_one_without_a_gradient(calls):
    conv = nn.Conv2d(3, 4, 3, 2).requires_grad_(False)
    with PictureGradient():
        conv(torch.randn(3, 9, 9, requires_grad=True)).sum().backward()
        assert not conv(torch.randn(1, 3, 9, 9)).requires_grad
    assert not calls


def test_padding_that_reflects(calls):
    conv = nn.Conv2d(3, 4, 3, 2, padding=1, padding_mode="reflect").double().requires_grad_(False)
    X = torch.randn(1, 3, 9, 9, dtype=torch.float64)
    expected = value_and_gradient(conv, X)
    with PictureGradient():
        torch.testing.assert_close(value_and_gradient(conv, X), expected)
    assert calls


@pytest.mark.parametrize("padding", [(1,), [1, 1], np.int64(1), (0, 2)])
@pytest.mark.parametrize("stride", [(2,), [2, 2], np.int64(2)])
def test_lengths_as_convolutions_take_them(stride, padding, calls):
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)

    def conv(x):
        return torch.conv2d(x, weight, None, stride, padding)

    X = torch.randn(1, 3, 9, 8, dtype=torch.float64)
    expected = value_and_gradient(conv, X)
    with PictureGradient():
        torch.testing.assert_close(value_and_gradient(conv, X), expected)
    assert calls


def test_autocast_and_complex_numbers_are_left_alone(calls):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()).requires_grad_(False)
    x = torch.randn(1, 3, 9, 9, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        scores = class_scores(model, x, torch.tensor([1]))
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    assert gradient.dtype == torch.float32 and gradient.any()
    conv = nn.Conv2d(3, 4, 3, 2, dtype=torch.complex64).requires_grad_(False)
    with PictureGradient():
        conv(x.detach().to(torch.complex64).requires_grad_()).abs().sum().backward()
    assert not calls


def test_nothing_stays_behind(calls):
    class Broken(nn.Module):
        def forward(self, x):
            raise ArithmeticError

    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), Broken()).requires_grad_(False)
    x = torch.randn(1, 3, 9, 9, requires_grad=True)
    with pytest.raises(ArithmeticError):
        class_scores(model, x, torch.tensor([0]))
    model[0](x).sum().backward()
    assert not calls
