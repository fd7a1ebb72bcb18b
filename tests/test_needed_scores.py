"""Computing only the scores that are asked for changes nothing but the time."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from helpers.models import load_classifier
from visualizers.mechanisms import class_scores, untouched
from visualizers.needed_scores import classifier_of


class Net(nn.Module):
    """A classifier of 100 classes, whose scores go through `end`."""

    def __init__(self, end=None):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.head = nn.Linear(32, 100)
        self.end = end or nn.Identity()

    def forward(self, x):
        return self.end(self.head(self.body(x)))


class Counts(nn.Module):
    """Works with all hundred classes only."""

    def forward(self, scores):
        return scores.view(-1, 10, 10).flatten(1)


def scores_and_gradient(model, X, y, function):
    X = X.clone().requires_grad_()
    with untouched(model):
        scores = function(model, X, y)
        return scores.detach(), torch.autograd.grad(scores.sum(), X)[0]


def written_out(model, X, y):
    return model(X.clone())[torch.arange(len(y)), y]


def assert_same(model, X, y):
    ours, theirs = (scores_and_gradient(model, X, y, function) for function in (class_scores, written_out))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


X = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([99, 0, 7, 0])


def test_a_linear_head_and_whatever_treats_each_class_alone():
    for end in (nn.Identity(), nn.ReLU(), nn.Sequential(nn.Dropout(), nn.Tanh())):
        model = Net(end).eval()
        assert classifier_of(model, X) == "head"
        assert_same(model, X, Y)


class Asserts(nn.Module):
    """Says so in words of its own."""

    def forward(self, scores):
        assert scores.shape[1] == 100
        return scores


class Chosen(nn.Module):
    """Gives some of the scores only."""

    def forward(self, scores):
        return scores[:, [3, 99, 50]]


@pytest.mark.parametrize(
    "end",
    [nn.Softmax(dim=1), nn.LogSoftmax(dim=1), Counts(), Asserts(), nn.LayerNorm(100)],
    ids=lambda end: type(end).__name__,
)
def test_what_needs_every_class_gets_every_class(end):
    model = Net(end).eval()
    assert classifier_of(model, X) is None
    assert_same(model, X, Y)


@pytest.mark.parametrize("end", [nn.Softmax(dim=1), nn.LogSoftmax(dim=1)], ids=["softmax", "log-softmax"])
def test_an_image_that_leaves_no_doubt_does_not_hide_a_normalization(end):
    model = Net(end).eval()
    with torch.no_grad():
        model.head.bias[0] += 60  # class 0, for certain
    assert classifier_of(model, X) is None
    assert_same(model, X, torch.zeros(4, dtype=torch.long))


def test_a_network_that_gives_some_of_its_scores_only():
    model = Net(Chosen()).eval()
    assert classifier_of(model, X) is None
    assert_same(model, X, torch.tensor([2, 0, 1, 0]))


@pytest.mark.parametrize(
    "wrap", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_weights_that_are_computed(wrap):
    model = Net()
    model.head = wrap(model.head)
    assert classifier_of(model.eval(), X) is None
    assert_same(model, X, Y)


def test_the_packaged_network():
    model = load_classifier()
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    assert classifier_of(model, images) == "classifier.1"
    assert_same(model, images, torch.tensor([5, 900, 5]))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18", "googlenet"])
def test_torchvisions_networks(name):
    options = {"init_weights": True} if name == "googlenet" else {}
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, **options).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    assert classifier_of(model, images) is not None
    assert_same(model, images, torch.tensor([1, 998]))


def test_it_computes_fewer_scores(monkeypatch):
    model, widths = Net().eval(), []
    class_scores(model, X, Y)  # tried out here
    model.head.register_forward_hook(lambda _module, _inputs, output: widths.append(output.shape[1]))
    class_scores(model, X, Y)
    assert widths == [3]  # three different classes


def test_what_has_changed_is_tried_anew():
    model = Net().eval()
    assert classifier_of(model, X) == "head"
    with_softmax = nn.Sequential(model, nn.Softmax(dim=1)).eval()
    assert classifier_of(with_softmax, X) is None
    assert_same(with_softmax, X, Y)
    model.end = nn.Softmax(dim=1)
    assert_same(model.eval(), X, Y)
    model.end, model.head = nn.Identity(), nn.Linear(32, 200)
    assert_same(model.eval(), X, torch.tensor([199, 0, 7, 0]))


def test_a_model_in_training_is_left_alone():
    model = Net(nn.BatchNorm1d(100)).train()
    before = copy.deepcopy(model.state_dict())
    assert classifier_of(model, X) is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("wrong", [-1, 100])
def test_a_class_that_does_not_exist_is_named(wrong):
    with pytest.raises(IndexError, match=f"class {wrong} does not exist: there are 0 to 99"):
        class_scores(Net().eval(), X, torch.tensor([0, wrong, 1, 2]))


def test_the_model_comes_back_as_it_went_in():
    model = Net().eval()
    before, weight = copy.deepcopy(model.state_dict()), model.head.weight
    class_scores(model, X, Y)
    assert model.head.weight is weight and weight.requires_grad and weight.grad is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
