"""A network made quicker says the same, with the same gradients, as the one it was made from."""

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from helpers.models import load_classifier
from visualizers.class_ascent import climb
from visualizers.mechanisms import input_gradient, untouched
from visualizers.quicker import _ConvolutionInSteps, quicker


def kinds(sequence):
    return [type(layer).__name__ for layer in sequence]


def assert_same(model, X):
    """Double precision, where the two ways to a convolution's gradient differ in the last digits only."""
    model, X = model.double(), X.double()
    twin = quicker(model)
    assert twin is not model
    y = torch.arange(len(X))
    with torch.no_grad():
        assert torch.equal(twin(X.clone()), model(X.clone()))
    with untouched(model):
        ours, theirs = (input_gradient(network, X, y) for network in (twin, model))
    assert theirs.any()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12 * float(theirs.abs().max()))


def pair(*layers, **pooling):
    return nn.Sequential(*layers, nn.ReLU(), nn.MaxPool2d(3, 2, **pooling), nn.Flatten())


def test_packaged_squeezenet():
    assert_same(load_classifier(), torch.randn(2, 3, 97, 130, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_other_networks(name):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    assert_same(model, torch.randn(1, 3, 96, 90))


kernels = st.tuples(st.integers(1, 7), st.integers(1, 7))


@given(
    kernel=kernels,
    step=st.integers(2, 4),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    size=st.tuples(st.integers(7, 20), st.integers(7, 20)),
    channels=st.integers(1, 4),
    bias=st.booleans(),
)
def test_the_gradient_of_a_convolution_in_steps(kernel, step, padding, size, channels, bias):
    conv = nn.Conv2d(channels, 5, kernel, step, padding, bias=bias).double().requires_grad_(False)
    twin = quicker(conv)
    assert twin is not conv
    X = torch.randn(2, channels, *size, dtype=torch.float64)
    results = []
    for layer in (twin, conv):
        x = X.clone().requires_grad_()
        out = layer(x)
        results.append((out.detach(), *torch.autograd.grad(out.square().sum(), x)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12 * (1 + float(theirs.abs().max())))


def test_the_gradient_is_ours_only_where_nothing_but_the_picture_needs_one(monkeypatch):
    calls = []
    original = _ConvolutionInSteps.apply
    monkeypatch.setattr(_ConvolutionInSteps, "apply", lambda *a: calls.append(1) or original(*a))
    conv = nn.Conv2d(3, 4, 3, 2)
    twin = quicker(conv)
    x = torch.randn(1, 3, 9, 9, requires_grad=True)
    twin(x).sum().backward()
    assert not calls and conv.weight.grad is not None  # the twin shares the weights
    conv.requires_grad_(False)
    twin(x[0])
    assert not calls
    twin(x)
    assert calls


@pytest.mark.parametrize("pooling", [{}, {"padding": 1}, {"ceil_mode": True}, {"dilation": 2}])
def test_ties_and_windows_without_a_positive_number(pooling):
    # Whole numbers around zero: most windows hold their largest twice, every tenth holds nothing positive.
    model = pair(**pooling).double()
    X = torch.randint(-4, 2, (3, 3, 24, 24), generator=torch.Generator().manual_seed(1)).double()
    windows = nn.MaxPool2d(3, 2, **pooling)(X)
    assert (windows <= 0).any() and (windows == 1).any()
    results = []
    for network in (quicker(model), model):
        x = X.clone().requires_grad_()
        out = network(x)
        results.append((out.detach(), *torch.autograd.grad((out * out.detach().cumsum(1)).sum(), x)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_the_relu_sees_the_pooled_maps():
    model = pair(nn.Conv2d(3, 4, 3))
    twin = quicker(model)
    assert kinds(twin) == ["Conv2d", "MaxPool2d", "ReLU", "Flatten"]
    assert [name for name, _ in twin.named_children()] == ["0", "2", "1", "3"]  # each keeps its name
    assert kinds(model) == ["Conv2d", "ReLU", "MaxPool2d", "Flatten"]


def test_shares_layers_and_parameters_and_leaves_the_model_alone():
    model = load_classifier()
    before = {name: list(vars(module)) for name, module in model.named_modules()}
    order = kinds(model.features)
    twin = quicker(model)
    assert [id(p) for p in twin.parameters()] == [id(p) for p in model.parameters()]
    assert twin.classifier is model.classifier
    assert kinds(model.features) == order
    assert before == {name: list(vars(module)) for name, module in model.named_modules()}


def test_a_hook_on_a_container_still_runs_and_one_on_a_pair_keeps_it():
    seen = []
    model = pair(nn.Conv2d(3, 4, 3))
    model.register_forward_hook(lambda *_: seen.append("outer"))
    twin = quicker(model)
    twin(torch.zeros(1, 3, 16, 16))
    assert twin is not model and seen == ["outer"]
    for place in (1, 2):
        model = pair(nn.Conv2d(3, 4, 3))
        model[place].register_forward_hook(lambda *_: None)
        assert quicker(model) is model


class Backwards(nn.Sequential):
    def forward(self, x):
        for layer in reversed(list(self)):
            x = layer(x)
        return x


class Softer(nn.ReLU):
    def forward(self, x):
        return super().forward(x) - x.mean()


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2)),
        nn.Sequential(nn.MaxPool2d(2), nn.ReLU()),
        nn.Sequential(Softer(), nn.MaxPool2d(2)),
        nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, return_indices=True)),
        Backwards(nn.ReLU(), nn.MaxPool2d(2)),
        nn.ModuleList([nn.ReLU(), nn.MaxPool2d(2)]),
        nn.Sequential(),
        nn.Linear(2, 2),
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(5, 4, 3, 2),
        nn.Conv2d(3, 4, 3, (2, 1)),
        nn.Conv2d(3, 4, 3, 2, padding="valid"),
        nn.Conv2d(3, 4, 3, 2, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 6, 3, 2, groups=3),
        nn.Conv2d(3, 4, 3, 2, dilation=2),
    ],
)
def test_everything_else_is_returned_as_it_is(model):
    assert quicker(model) is model


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning", "ignore:.*torch.jit.*:DeprecationWarning")
def test_a_scripted_network_is_returned_as_it_is():
    model = torch.jit.script(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.MaxPool2d(2)))
    assert quicker(model) is model


def test_a_parametrized_convolution_and_a_layer_that_is_missing():
    model = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.MaxPool2d(2))
    outer = nn.Module()
    outer.add_module("body", model)
    outer.add_module("nothing", None)
    twin = quicker(outer)
    assert kinds(twin.body)[1:] == ["MaxPool2d", "ReLU"]
    assert twin._modules["nothing"] is None
    x = torch.randn(1, 3, 9, 9)
    assert torch.equal(twin.body(x), model(x))


def test_a_climb_is_the_same(monkeypatch):
    def climbed():
        states = climb([130, 985], load_classifier().double(), num_iterations=3, show_every=3, size=96)
        return [state for state in states if state is not None][-1].images

    quick = climbed()
    monkeypatch.setattr("visualizers.class_ascent.quicker", lambda model: model)
    torch.testing.assert_close(quick, climbed(), rtol=0, atol=1e-10)
