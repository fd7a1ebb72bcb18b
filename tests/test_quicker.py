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


def test_shares_layers_and_parameters_and_leaves_the_model_alone():
    model = load_classifier().train()
    model.features[0].weight.requires_grad_(False)
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    flags = [(module.training, [p.requires_grad for p in module.parameters()]) for module in model.modules()]
    twin = quicker(model)
    assert type(twin.features[0]) is not nn.Conv2d
    assert [id(p) for p in twin.parameters()] == [id(p) for p in model.parameters()]
    assert twin.classifier is model.classifier
    list(climb([3], model, num_iterations=1, show_every=1, size=64))
    after = {name: dict(vars(module)) for name, module in model.named_modules()}
    assert all(before[name].keys() == after[name].keys() for name in before)
    assert all(value is after[name][key] for name in before for key, value in before[name].items())
    assert flags == [
        (module.training, [p.requires_grad for p in module.parameters()]) for module in model.modules()
    ]


def test_hooks_still_run():
    seen = []
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU())
    for module in model.modules():
        module.register_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    quicker(model)(torch.zeros(1, 3, 16, 16))
    assert seen == ["_PictureConv2d", "ReLU", "Sequential"]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["first", "last"])
def test_the_gradient_is_laid_out_like_the_picture(layout):
    x = torch.randn(2, 3, 9, 8).contiguous(memory_format=layout).requires_grad_()
    twin = quicker(nn.Conv2d(3, 4, 3, 2).requires_grad_(False))
    (gradient,) = torch.autograd.grad(twin(x).sum(), x)
    assert gradient.is_contiguous(memory_format=layout)


def test_a_forward_of_the_instances_own_is_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2))
    model.forward = lambda x: nn.Sequential.forward(model, x)
    assert quicker(model) is model


def test_numbers_set_by_hand_are_left_alone():
    for name in ("stride", "padding"):
        conv = nn.Conv2d(3, 4, 3, 2)
        setattr(conv, name, 2)
        assert quicker(conv) is conv


@pytest.mark.parametrize(
    "model",
    [
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
    model = torch.jit.script(nn.Sequential(nn.Conv2d(3, 2, 3, 2), nn.ReLU()))
    assert quicker(model) is model


def test_a_parametrized_layer_and_one_that_is_missing():
    inner = nn.Sequential(nn.Conv2d(3, 4, 3, 2), parametrizations.weight_norm(nn.Conv2d(4, 4, 3)))
    outer = nn.Module()
    outer.add_module("body", inner)
    outer.add_module("nothing", None)
    twin = quicker(outer)
    assert twin is not outer and twin._modules["nothing"] is None
    x = torch.randn(1, 3, 9, 9)
    assert torch.equal(twin.body(x), inner(x))


def test_a_climb_is_the_same(monkeypatch):
    def climbed():
        states = climb([130, 985], load_classifier().double(), num_iterations=3, show_every=3, size=96)
        return [state for state in states if state is not None][-1].images

    quick = climbed()
    monkeypatch.setattr("visualizers.class_ascent.quicker", lambda model: model)
    torch.testing.assert_close(quick, climbed(), rtol=0, atol=1e-10)
