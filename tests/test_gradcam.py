"""Task 2: Grad-CAM and guided backpropagation."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop, LayerGradCam
from torch import nn

from extras.attribution.cam import cam_at
from helpers.models import load_classifier
from visualizers import GradCam
from visualizers.mechanisms import guided_note, last_map_layer, map_layers, spread_layers

pytestmark = pytest.mark.task2


def test_grad_cam_of_a_network_small_enough_to_do_by_hand():
    # Two 1 x 2 maps: A1 = x1, A2 = x2 (the third channel unused); s_0 = mean(A1) - mean(A2), so alpha = (1/2, -1/2).
    features = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False))
    features[0].weight.data = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).reshape(2, 3, 1, 1)
    head = nn.Linear(2, 1, bias=False)
    head.weight.data = torch.tensor([[1.0, -1.0]])
    model = nn.Sequential()
    model.features, model.pool, model.flat, model.head = features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    X = torch.tensor([[[[3.0, 1.0]], [[1.0, 5.0]], [[9.0, 9.0]]]])
    # ReLU(0.5 * (3 - 1), 0.5 * (1 - 5)) = (1, 0)
    assert GradCam().grad_cam(X, torch.tensor([0]), model).tolist() == [[[1.0, 0.0]]]
    # and with the signs turned there is evidence on the right alone
    head.weight.data *= -1
    assert GradCam().grad_cam(X, torch.tensor([0]), model).tolist() == [[[0.0, 1.0]]]


def test_no_positive_evidence_is_all_zero_and_never_nan():
    model = nn.Sequential()
    model.features = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(inplace=True))
    model.features[0].weight.data.fill_(1.0)
    model.pool, model.flat, model.head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2, bias=False)
    model.head.weight.data = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    X = torch.rand(2, 3, 5, 4)
    maps = GradCam().grad_cam(X, torch.tensor([0, 1]), model)
    assert not maps[0].any()
    assert maps[1].max() == 1
    assert np.isfinite(maps).all()


def test_grad_cam_on_squeezenet_is_its_class_map(net, photos, labels):
    """At `features`: (fraction of active positions / HW) * (z_c - b_c), z_c the map of classifier.1 before its ReLU."""
    X, y = photos[:3], labels[:3]
    with torch.no_grad():
        z = net.classifier[1](net.features(X))
    expected = []
    for n, c in enumerate(y.tolist()):
        active = (z[n, c] > 0).double().mean()
        expected.append(active / z[n, c].numel() * (z[n, c].double() - net.classifier[1].bias[c].double()))
    cam = LayerGradCam(net, net.features).attribute(X, target=y, relu_attributions=False)[:, 0].double()
    torch.testing.assert_close(torch.stack(expected), cam, rtol=1e-4, atol=1e-6)
    # our picture is that map, positive part, enlarged and divided by its maximum
    big = F.interpolate(F.relu(torch.stack(expected))[:, None], size=(224, 224), mode="bilinear")[:, 0]
    big = (big / big.amax(dim=(1, 2), keepdim=True)).numpy()
    np.testing.assert_allclose(GradCam().grad_cam(X, y, net), big, atol=1e-4)


def reference_cam(model, layer, X, y):
    cam = LayerGradCam(model, layer).attribute(X, target=y, relu_attributions=True)
    cam = F.interpolate(cam, size=X.shape[2:], mode="bilinear")[:, 0]
    return (cam / cam.amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)).detach().numpy()


def test_equal_to_captum_at_every_default_layer(net, photos, labels):
    layers = spread_layers(net, photos)
    assert layers == ["features.4", "features.7", "features.10", "features"]
    maps = cam_at(layers, photos, labels, net)
    for name in layers:
        np.testing.assert_allclose(
            maps[name], reference_cam(net, net.get_submodule(name), photos, labels), atol=2e-4
        )
        graded = GradCam().grad_cam(photos, labels, net, layer=name)
        # Two ways to write one sum over channels: equal but for single precision's rounding.
        np.testing.assert_allclose(maps[name], graded, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(graded, GradCam().grad_cam(photos, labels, net))  # the default is the last


def not_in_place(model):
    model = copy.deepcopy(model)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return model


def test_a_layer_is_explained_as_it_was_returned_though_the_next_works_in_place(tiny):
    X = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    y = torch.tensor([3, 1])
    honest = not_in_place(tiny)
    maps = cam_at(["0", "3"], X, y, tiny)
    for name in ("0", "3"):
        expected = reference_cam(honest, honest.get_submodule(name), X, y)
        np.testing.assert_allclose(maps[name], expected, atol=1e-6)
        np.testing.assert_allclose(GradCam().grad_cam(X, y, tiny, layer=name), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_guided_backpropagation_equals_captum(net, photos, labels, tiny):
    X = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    for model, images, y in ((net, photos[:3], labels[:3]), (tiny, X, torch.tensor([3, 1]))):
        expected = GuidedBackprop(not_in_place(model)).attribute(images.clone().requires_grad_(), target=y)
        found = GradCam().guided_backprop(images, y, model)
        assert found.shape == (len(images), *images.shape[2:], 3)
        np.testing.assert_allclose(found, expected.detach().permute(0, 2, 3, 1).numpy(), rtol=1e-4, atol=1e-6)


def test_guided_backpropagation_lets_no_negative_gradient_through_a_relu():
    model = nn.Sequential(
        nn.Conv2d(3, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1, bias=False)
    )
    model[0].weight.data.fill_(1.0)
    model[3].weight.data = torch.tensor([[2.0, -3.0]])
    X = torch.ones(1, 3, 1, 2)
    assert GradCam().guided_backprop(X, torch.tensor([0]), model).tolist() == [[[[2.0] * 3, [0.0] * 3]]]


def test_functional_and_in_place_relus_are_guided_too():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(F.relu(self.conv(x), inplace=True).mean(dim=(2, 3)).relu_())

    torch.manual_seed(0)
    model = Net()
    X = torch.randn(1, 3, 6, 6)
    guided = GradCam().guided_backprop(X, torch.tensor([0]), model)
    leaf = X.clone().requires_grad_()
    (plain,) = torch.autograd.grad(model(leaf)[0, 0], leaf)
    assert not np.allclose(guided, plain.permute(0, 2, 3, 1).numpy())
    positive = model.head.weight[0].clamp(min=0)[:, None, None] * (model.conv(X)[0] > 0) / 16
    expected = F.conv_transpose2d(positive[None], model.conv.weight)
    np.testing.assert_allclose(guided, expected.permute(0, 2, 3, 1).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "relu6", [nn.ReLU6(), nn.ReLU6(inplace=True), F.relu6, lambda x: F.hardtanh(x, 0.0, 6.0)]
)
def test_a_relu6_passes_back_positive_gradients_alone_and_none_above_six(relu6):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.Parameter(torch.tensor([1.0, -1.0, 1.0, 1.0]))

        def forward(self, x):
            return (relu6(x.clone())[:, 0, 0] * self.weights).sum(dim=1, keepdim=True)

    X = torch.zeros(1, 3, 1, 4)
    X[0, 0, 0] = torch.tensor([2.0, 2.0, -2.0, 7.0])
    # Passed on, taken away by the rule, off, beyond 6. The plain gradient has a -1 in the second place.
    guided = GradCam().guided_backprop(X, torch.tensor([0]), Net())
    assert guided[0, 0, :, 0].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert guided_note(Net(), X) == ""


def test_a_figure_says_where_guided_backpropagation_changes_nothing_or_little():
    X = torch.ones(2, 3, 4, 4)

    def net(*activations):
        return nn.Sequential(*activations, nn.Flatten(), nn.Linear(48, 2))

    assert guided_note(net(nn.ReLU(), nn.ReLU6()), X) == ""
    plain = "guided backpropagation is the plain gradient."
    assert guided_note(net(nn.GELU()), X) == f"This network has no ReLU (its activations: gelu): its {plain}"
    assert guided_note(net(), X) == f"This network has no ReLU: its {plain}"
    some = guided_note(net(nn.SiLU(), nn.ReLU(), nn.SiLU(), nn.Hardtanh(), nn.Sigmoid()), X)
    assert "changes ReLUs alone: 1 of 5 activations here (others: silu, hardtanh, sigmoid)." in some


def test_a_network_without_relus_has_the_plain_gradient_as_its_guided_one(tiny):
    gelu = copy.deepcopy(tiny)
    gelu[1], gelu[4] = nn.GELU(), nn.GELU()
    X = torch.randn(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([1])
    (plain,) = torch.autograd.grad(gelu(X)[0, 1], X)
    np.testing.assert_array_equal(GradCam().guided_backprop(X, y, gelu), plain.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"),
        ("densenet121", "features"),
        ("mobilenet_v3_small", "features"),
        ("googlenet", "inception5b"),
    ],
)
def test_any_classifier_of_torchvision_can_be_explained(name, layer):
    torch.manual_seed(0)
    model = load_classifier(name, "random")
    X = torch.randn(1, 3, 96, 96)
    assert last_map_layer(model, X) == layer
    assert spread_layers(model, X)[-1] == layer
    maps = GradCam().grad_cam(X, torch.tensor([3]), model)
    assert maps.shape == (1, 96, 96)
    assert np.isfinite(maps).all()
    assert np.isfinite(GradCam().guided_backprop(X, torch.tensor([3]), model)).all()


def test_a_network_without_positions_has_no_maps():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    with pytest.raises(ValueError, match="returns no maps"):
        last_map_layer(model, torch.zeros(1, 3, 4, 4))


def test_batch_equals_singles_and_two_calls_agree(tiny):
    X = torch.randn(3, 3, 8, 6, dtype=torch.float64)
    y = torch.tensor([4, 0, 2])
    maps = cam_at(["3"], X, y, tiny)["3"]
    guided = GradCam().guided_backprop(X, y, tiny)
    for n in range(3):
        np.testing.assert_allclose(
            maps[n], cam_at(["3"], X[n : n + 1], y[n : n + 1], tiny)["3"][0], atol=1e-7
        )
        np.testing.assert_allclose(
            guided[n], GradCam().guided_backprop(X[n : n + 1], y[n : n + 1], tiny)[0], atol=1e-12
        )
    np.testing.assert_array_equal(maps, cam_at(["3"], X, y, tiny)["3"])


def test_layers_are_listed_with_their_sizes(net):
    sizes = map_layers(net, torch.zeros(1, 3, 224, 224))
    assert sizes["features.0"] == (64, 111, 111)
    assert sizes["features"] == (512, 13, 13)
    assert sizes["classifier.1"] == (1000, 13, 13)
