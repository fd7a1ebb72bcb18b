"""A model comes back exactly as it went in: from every technique, and after every kind of failure."""

import copy

import pytest
import torch
from torch import nn

from extras.attribution.cam import cam_at
from extras.attribution.evaluation import cascade, deletion_insertion
from extras.attribution.methods import METHODS, completeness_error, integrated_gradients, smooth_grad
from style_modules import ContentLoss, StyleLoss, TotalVariationLoss
from style_utils import style_transfer
from visualizers import ClassVisualization, GradCam, SaliencyMap
from visualizers.mechanisms import map_layers

X = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def tidy_model():
    """Every flag at its less usual value: training mode, some parameters frozen, gradients present, a hook in place."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5, inplace=True),
        nn.Linear(4, 5),
    ).double()
    model.train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[6].weight.grad = torch.ones_like(model[6].weight)
    model[2].register_forward_hook(lambda module, inputs, output: None)
    return model


def snapshot(model):
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "gradients": {
            name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()
        },
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "training": [module.training for module in model.modules()],
        "inplace": [getattr(module, "inplace", None) for module in model.modules()],
        "hooks": [
            (list(m._forward_hooks), list(m._forward_pre_hooks), list(m._backward_hooks))
            for m in model.modules()
        ],
    }


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return a == b


def drain(iterator):
    return list(iterator)


TECHNIQUES = {
    "cam_at": lambda model, y: cam_at(["0", "2"], X, y, model),
    "deletion_insertion": lambda model, y: deletion_insertion(X[:, 0], X, y, model, parts=2),
    "cascade": lambda model, y: drain(cascade(METHODS["saliency"].explain, X[:, 0], X, y, model)),
    "smooth_grad": lambda model, y: smooth_grad(X, y, model, samples=2),
    "integrated_gradients": lambda model, y: integrated_gradients(X, y, model, steps=2),
    "completeness_error": lambda model, y: completeness_error(X, X, y, model),
    **{
        name: lambda model, y, explain=method.explain: explain(X, y, model)
        for name, method in METHODS.items()
        if name not in ("smoothgrad", "integrated-gradients")  # many passes: above, with few
    },
}


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_after_success(technique):
    model = tidy_model()
    before = snapshot(model)
    x = X.clone()
    TECHNIQUES[technique](model, torch.tensor([1, 4]))
    assert same(before, snapshot(model))
    assert torch.equal(X, x)
    assert X.grad is None
    assert not X.requires_grad


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_after_a_wrong_class(technique):
    model = tidy_model()
    before = snapshot(model)
    with pytest.raises((IndexError, RuntimeError)):
        TECHNIQUES[technique](model, torch.tensor([1, 5]))
    assert same(before, snapshot(model))


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_after_an_exception_in_the_middle(technique):
    model = tidy_model()

    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("broken in the middle")

    model[4] = Broken()
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="broken in the middle"):
        TECHNIQUES[technique](model, torch.tensor([1, 4]))
    assert same(before, snapshot(model))


def test_the_published_techniques_on_the_real_network(net, photos, labels):
    model = copy.deepcopy(net).train()
    before = snapshot(model)
    GradCam().grad_cam(photos[:1], labels[:1], model)
    ClassVisualization().create_class_visualization(
        3, {3: "shark"}, model, num_iterations=1, generate_plots=False
    )
    map_layers(model, photos[:1])
    with pytest.raises((IndexError, RuntimeError)):
        GradCam().grad_cam(photos[:1], torch.tensor([1000]), model)
    assert same(before, snapshot(model))


def test_style_transfer(photo_file):
    model = tidy_model()[:3].float()
    before = snapshot(model)
    settings = {
        "name": "t",
        "content_image": photo_file,
        "style_image": "coffee",
        "image_size": 16,
        "style_size": 16,
        "content_layer": 1,
        "content_weight": 1.0,
        "style_layers": [2],
        "style_weights": [1.0],
        "tv_weight": 0.1,
        "content_loss": ContentLoss(),
        "style_loss": StyleLoss(),
        "cnn": model,
        "dtype": torch.float32,
        "testing": True,
    }
    style_transfer(**settings, tv_loss=TotalVariationLoss())
    assert same(before, snapshot(model))

    def failing(img, weight):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        style_transfer(**settings, tv_loss=failing)
    assert same(before, snapshot(model))


def test_works_within_no_grad_and_with_inputs_that_require_gradients(tiny):
    x = X.clone().requires_grad_()
    y = torch.tensor([0, 1])
    expected = SaliencyMap().compute_saliency_maps(X, y, tiny)
    with torch.no_grad():
        assert torch.equal(SaliencyMap().compute_saliency_maps(x, y, tiny), expected)
        for technique in (smooth_grad, integrated_gradients):
            assert not technique(x, y, tiny).requires_grad
    assert x.grad is None


def test_a_first_layer_that_works_in_place_leaves_the_images_alone(tiny):
    model = nn.Sequential(nn.ReLU(inplace=True), *tiny)
    x = X.clone()
    cam_at(["1"], x, torch.tensor([0, 1]), model)
    map_layers(model, x)
    assert torch.equal(x, X)
