"""The loop with its gradients written out is the graded loop, layer by layer and step by step."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchvision.models.squeezenet import Fire

import style_utils
from helpers.image_utils import preprocess
from helpers.models import load_features
from style_modules import ContentLoss, StyleLoss, TotalVariationLoss
from style_modules.fast_transfer import (
    FireByHand,
    Layer,
    Losses,
    ReLUByHand,
    Schedule,
    fast_style_transfer,
    layer_for,
)
from style_utils import extract_features, features_from_img

sizes = st.integers(1, 9)


def seeded(*shape):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def assert_layer(kind, module, x):
    """Value and gradient are autograd's, and x is left alone."""
    before, exact = x.clone(), x.clone().requires_grad_()
    expected = copy.deepcopy(module)(exact.clone())
    g = torch.randn(expected.shape, dtype=x.dtype).contiguous(memory_format=torch.channels_last)
    (slope,) = torch.autograd.grad(expected, exact, g)
    layer = kind(module.requires_grad_(False))
    with torch.no_grad():
        value = layer.forward(x)
        torch.testing.assert_close(value, expected.detach())
        torch.testing.assert_close(layer.backward(g.clone()), slope)
    assert torch.equal(x, before)


@given(channels=st.integers(1, 6), widths=st.tuples(sizes, sizes, sizes), size=st.tuples(sizes, sizes))
def test_a_fire(channels, widths, size):
    assert_layer(FireByHand, Fire(channels, *widths).double(), seeded(1, channels, *size))


def test_a_fire_in_single_precision():
    torch.manual_seed(0)
    x = torch.randn(1, 64, 9, 7).contiguous(memory_format=torch.channels_last)
    assert_layer(FireByHand, Fire(64, 16, 32, 32), x)


def test_by_hand_only_what_torchvision_made():
    fire, hooked = Fire(4, 2, 3, 3), Fire(4, 2, 3, 3)
    assert type(layer_for(fire)) is FireByHand and type(layer_for(nn.ReLU(True))) is ReLUByHand
    hooked.expand1x1.register_forward_hook(lambda *_: None)
    fire.squeeze_activation = nn.ELU()
    assert type(layer_for(fire)) is type(layer_for(hooked)) is Layer
    assert_layer(Layer, fire.double(), seeded(1, 4, 5, 6))


@pytest.mark.parametrize("inplace", [True, False])
def test_a_relu(inplace):
    assert_layer(ReLUByHand, nn.ReLU(inplace), seeded(1, 3, 5, 4))


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(3, 4, 3, 2),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.AvgPool2d(2),
        nn.BatchNorm2d(3).eval(),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 2, 1)),
        nn.Identity(),
    ],
    ids=str,
)
def test_any_other_layer(module):
    assert type(layer_for(module)) is Layer
    assert_layer(Layer, module.double(), seeded(1, 3, 8, 7))


def networks():
    torch.manual_seed(1)
    fires = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2), nn.ReLU(True), nn.MaxPool2d(3, 2), Fire(6, 3, 4, 5), Fire(9, 2, 4, 4)
    )
    other = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ELU(True), nn.Conv2d(4, 150, 1)
    )
    return {"fires": fires, "other": other}


SETTINGS = {
    # content below, between and above the style layers; a layer asked for twice; one that is both
    "content below": {"content_layer": 0, "style_layers": [1, 3], "style_weights": [7.0, 11.0]},
    "content between": {"content_layer": 1, "style_layers": [0, 3], "style_weights": [7.0, 11.0]},
    "content above": {"content_layer": 3, "style_layers": [0, 2], "style_weights": [7.0, 11.0]},
    "twice": {"content_layer": 3, "style_layers": [3, 1, 3], "style_weights": [7.0, 11.0, 5.0]},
}


@pytest.mark.parametrize("network", ["fires", "other"])
@pytest.mark.parametrize("chosen", SETTINGS)
def test_the_losses_and_their_gradient_are_those_of_the_graded_modules(network, chosen):
    cnn, settings = networks()[network].double().eval(), SETTINGS[chosen]
    content, style, img = seeded(1, 3, 17, 22), -seeded(1, 3, 14, 19), seeded(1, 3, 17, 22).flip(3)
    value, gradient = Losses(cnn, content, style, content_weight=0.5, tv_weight=0.03, **settings)(img)
    x = img.clone().requires_grad_()
    feats, wanted, painted = (extract_features(image, cnn) for image in (x, content, style))
    style_loss, layers = StyleLoss(), settings["style_layers"]
    targets = [style_loss.gram_matrix(painted[layer]) for layer in layers]
    content_layer = settings["content_layer"]
    expected = ContentLoss()(0.5, feats[content_layer], wanted[content_layer].detach())
    expected = expected + style_loss(feats, layers, targets, settings["style_weights"])
    expected = expected + TotalVariationLoss()(x, 0.03)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, x)[0])


def test_the_loop_is_the_graded_one_on_the_packaged_network(photo_file, monkeypatch):
    # The smaller rate and the end of the clamp come early: in two hundred steps rounding is magnified.
    monkeypatch.setattr(style_utils, "DECAY_AT", 8)
    monkeypatch.setattr(style_utils, "CLAMP_UNTIL", 10)
    monkeypatch.setattr(style_utils, "STEPS", 14)
    cnn = load_features().double()
    settings = {
        "content_layer": 3,
        "style_layers": [1, 4, 6, 7],
        "content_weight": 6e-2,
        "style_weights": [300000, 1000, 15, 3],
        "tv_weight": 2e-2,
    }
    expected = style_utils.style_transfer(
        name="none",
        content_image=photo_file,
        style_image="chelsea",
        image_size=40,
        style_size=48,
        dtype=torch.float64,
        testing=True,
        cnn=cnn,
        content_loss=ContentLoss(),
        style_loss=StyleLoss(),
        tv_loss=TotalVariationLoss(),
        **settings,
    )
    content, style = (
        features_from_img(image, size, cnn, torch.float64)[1]
        for image, size in ((photo_file, 40), ("chelsea", 48))
    )
    steps = list(fast_style_transfer(cnn, content, style, Schedule.of(style_utils), **settings))
    assert len(steps) == 14
    assert any(isinstance(layer, FireByHand) for layer in Losses(cnn, content, style, **settings).layers)
    torch.testing.assert_close(steps[-1][0], expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("layers", [(-1, [0]), (0, [1, -2]), (4, [0]), (0, [9])])
def test_layers_that_do_not_exist(layers):
    x, (content_layer, style_layers) = seeded(1, 3, 17, 17), layers
    settings = {"content_layer": content_layer, "style_layers": style_layers, "tv_weight": 0.0}
    with pytest.raises(IndexError):
        Losses(networks()["other"].double(), x, x, content_weight=1.0, style_weights=[1.0, 1.0], **settings)


def test_the_network_and_the_pictures_come_back_as_they_went_in():
    cnn = networks()["other"].train()
    before = copy.deepcopy(cnn.state_dict())
    content, style = preprocess_noise(20), preprocess_noise(24)
    kept = content.clone()
    schedule = Schedule.of(style_utils)._replace(steps=2)
    settings = SETTINGS["content above"] | {"content_weight": 1.0, "tv_weight": 1.0}
    (img, _), (same, _) = fast_style_transfer(cnn, content, style, schedule, **settings)
    assert img is same and not torch.equal(img, content) and torch.equal(content, kept)
    assert all(module.training for module in cnn.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in cnn.parameters())
    assert all(torch.equal(value, cnn.state_dict()[name]) for name, value in before.items())


def preprocess_noise(size):
    return preprocess(Image.effect_noise((size, size), 80).convert("RGB"), size)
