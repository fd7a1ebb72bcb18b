"""Wrapped and compiled networks, and layers that return (N, H, W, C): the same maps as of the plain network."""

import numpy as np
import pytest
import torch
from torch import nn

from helpers.models import SqueezeNet
from visualizers import GradCam
from visualizers.mechanisms import capture, last_map_layer, map_layers


class Normalize(nn.Module):
    def forward(self, x):
        return (x - 0.1) / 0.5


class Wrapped(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.backbone = net

    def forward(self, x):
        return self.backbone(x)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return SqueezeNet(num_classes=5).eval()


X = torch.randn(1, 3, 64, 48, generator=torch.Generator().manual_seed(1))
y = torch.tensor([2])


@pytest.mark.parametrize(
    ("wrap", "layer"),
    [
        (lambda net: nn.Sequential(Normalize(), net), "1.features"),
        (lambda net: nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(Normalize(), net)), "1.1.features"),
        (nn.DataParallel, "module.features"),
        (Wrapped, "backbone.features"),
        (lambda net: Wrapped(nn.DataParallel(net)), "backbone.module.features"),
        (lambda net: nn.Sequential(net, nn.Identity()), "0.features"),
    ],
)
def test_the_last_layer_of_a_wrapped_network_is_the_networks_own(net, wrap, layer):
    model = wrap(net)
    assert last_map_layer(model, X) == layer


def test_the_map_of_a_wrapped_network_is_the_networks_own(net):
    expected = GradCam().grad_cam(Normalize()(X), y, net)
    assert expected.any()
    np.testing.assert_allclose(GradCam().grad_cam(X, y, nn.Sequential(Normalize(), net)), expected, atol=1e-6)


class LastChannels(nn.Module):
    """(N, 3, H, W) -> maps of 5 channels as (N, H, W, 5), in the usual order after `back`, then scores."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, stride=2)
        self.norm, self.mix = nn.LayerNorm(5), nn.Linear(5, 5)
        self.drop = nn.Dropout()
        self.top = nn.Conv2d(5, 4, 1)

    def forward(self, x):
        x = self.drop(self.mix(self.norm(self.stem(x).permute(0, 2, 3, 1))))
        return self.top(x.permute(0, 3, 1, 2)).mean(dim=(2, 3))


def test_layers_with_the_channels_last_are_read_as_maps():
    torch.manual_seed(0)
    model = LastChannels().eval()
    layers = map_layers(model, X)
    assert layers == dict.fromkeys(("stem", "norm", "mix", "drop"), (5, 31, 23)) | {"top": (4, 31, 23)}
    with capture({"drop": model.drop}) as outputs:
        scores = model(X)
    assert outputs["drop"].shape == (1, 5, 31, 23)
    torch.testing.assert_close(scores, model(X))
    # top is linear in what drop returns: their Grad-CAM maps follow from one another.
    np.testing.assert_allclose(
        GradCam().grad_cam(X, y, model, layer="drop"),
        GradCam().grad_cam(X, y, nn.Sequential(model), layer="0.drop"),
    )
    A = outputs["drop"]
    alpha = model.top.weight[2, :, 0, 0] / A[0, 0].numel()
    cam = torch.relu((alpha[None, :, None, None] * A).sum(dim=1, keepdim=True)).detach()
    heat = GradCam().grad_cam(X, y, model, layer="drop")
    cam = nn.functional.interpolate(cam / cam.max(), size=(64, 48), mode="bilinear", align_corners=False)[
        :, 0
    ]
    np.testing.assert_allclose(heat, (cam / cam.max()).numpy(), atol=1e-4)


def test_torchvisions_swin_and_convnext():
    import torchvision

    torch.manual_seed(0)
    layers = map_layers(torchvision.models.swin_t(weights=None), X)
    assert layers["features.0"] == layers["features.1"] == (96, 16, 12)
    assert layers["features.7"] == (768, 2, 2)
    layers = map_layers(torchvision.models.convnext_tiny(weights=None), X)
    assert layers["features.1.0.block.3"] == (384, 16, 12)
    assert layers["features.1"] == (96, 16, 12)


def test_a_compiled_network_is_explained(net):
    expected = GradCam().grad_cam(X, y, net)
    compiled = torch.compile(net, backend="eager")
    with torch.no_grad():
        compiled(X)  # hooks that come later are not part of what was compiled
    assert last_map_layer(compiled, X) == "_orig_mod.features"
    np.testing.assert_allclose(GradCam().grad_cam(X, y, compiled), expected, atol=1e-6)


def test_the_course_loop_refuses_layers_with_the_channels_last(tmp_path, capsys):
    import style_transfer

    options = ["--model", "swin_t", "--weights", "random", "--content", "chelsea", "--output"]
    assert style_transfer.main([*options, str(tmp_path / "a.png")]) == 2
    assert "(N, H, W, C)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_the_input_transform_comes_with_the_name_and_is_hashed(name):
    from helpers.models import _hollow
    from helpers.weights import fingerprint

    assert _hollow(name).transform_input
    model = nn.Linear(1, 1)
    plain = fingerprint(model)
    model.transform_input = True
    assert fingerprint(model) != plain
