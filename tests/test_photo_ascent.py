"""Feature inversion and DeepDream."""

import pytest
import torch
from torch import nn

from extras.synthesis.photo_ascent import dream, invert
from helpers.data_utils import load_photo
from helpers.image_utils import SQUEEZENET_STD, preprocess, square
from helpers.models import load_classifier


@pytest.fixture(scope="module")
def net():
    return load_classifier()


@pytest.fixture(scope="module")
def photo():
    return preprocess(square(load_photo("astronaut"), 96), 96)


def activations(net, layer, X):
    seen = {}
    handle = net.get_submodule(layer).register_forward_hook(lambda m, i, output: seen.update(maps=output))
    with torch.no_grad():
        net(X)
    handle.remove()
    return seen["maps"]


def test_an_early_layer_keeps_the_photo_and_the_error_told_is_that_of_its_features(net, photo):
    steps = list(invert(photo, net, "features.1", num_iterations=80))
    image, error = steps[-1]
    wanted = activations(net, "features.1", photo)
    found = activations(net, "features.1", image)
    assert error == pytest.approx(float((found - wanted).square().sum() / wanted.square().sum()), rel=1e-3)
    assert error < 0.02 < steps[0][1]
    off = (image - photo).abs() * torch.as_tensor(SQUEEZENET_STD)[:, None, None]
    assert off.mean() < 0.03, "pixels in [0, 1]"
    assert (steps[0][0] - photo).abs().mean() > 10 * (image - photo).abs().mean()


def test_inversion_repeats_by_seed_and_leaves_the_photo_alone(net, photo):
    before = photo.clone()
    runs = [list(invert(photo, net, "features.4", num_iterations=3, seed=seed))[-1][0] for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    assert torch.equal(photo, before)


def test_a_dream_raises_the_activations_of_its_layer_and_stays_a_picture(net, photo):
    *_, image = dream(photo, net, "features.7", num_iterations=4)
    assert image.shape == photo.shape
    strength = [activations(net, "features.7", X).square().mean() for X in (photo, image)]
    assert strength[1] > 1.5 * strength[0]
    assert not torch.equal(image, photo)
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    pixels = image * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    assert pixels.min() > -1e-5 and pixels.max() < 1 + 1e-5


def test_a_step_of_a_dream_is_the_normalized_gradient_of_the_squared_activations():
    layer = nn.Conv2d(3, 2, 1, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    X = 0.2 * torch.rand(1, 3, 32, 32) + 0.1
    (image,) = dream(X, model, "0", num_iterations=1, octaves=1, learning_rate=0.01)
    total = X.sum(dim=1, keepdim=True).expand_as(X)  # d mean(a^2) / dx is this, but for a factor
    torch.testing.assert_close(image, X + 0.01 * total / total.mean())


def test_octaves_grow_to_the_size_of_the_photo(net, photo):
    sizes = [step.shape[-1] for step in dream(photo, net, "features.4", num_iterations=2, octaves=3)]
    assert sizes == [49, 49, 69, 69, 96, 96]


def test_a_layer_without_maps_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for ascent in (invert, dream):
        with pytest.raises(ValueError, match=r"layer 2 returns .* not maps"):
            next(iter(ascent(torch.zeros(1, 3, 32, 32), model, "2")))


def test_nothing_is_left_at_the_network(net, photo):
    hooks = [len(module._forward_hooks) for module in net.modules()]
    for ascent in (invert(photo, net, "features.4"), dream(photo, net, "features.4")):
        next(ascent)
        ascent.close()
    assert [len(module._forward_hooks) for module in net.modules()] == hooks
    assert all(parameter.grad is None for parameter in net.parameters())
