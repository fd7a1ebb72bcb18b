"""The evaluation of maps is held to exact answers, and the real network to what was published about them."""

import copy

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

import gradcam_visualization
import saliency_visualization
from extras.attribution.evaluation import (
    area,
    cascade,
    deletion_insertion,
    parameter_layers,
    reinitialize,
    spearman,
)
from extras.attribution.methods import METHODS
from helpers.data_utils import load_photo
from helpers.image_utils import preprocess, square
from helpers.models import load_classifier


class Share(nn.Module):
    """Two classes whose probabilities are p and 1 - p, with p = <w, I>: what a softmax of (log p, log 1-p) says."""

    def __init__(self, w: torch.Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p = torch.einsum("hw,nhw->n", self.w, x.mean(dim=1)).clamp(1e-9, 1 - 1e-9)
        return torch.stack([p.log(), (1 - p).log()], dim=1)


WEIGHTS = torch.tensor([[0.4, 0.3], [0.2, 0.1]])
ONES = torch.ones(1, 3, 2, 2)


# ----------------------------------------------------------------------------------------- deletion, insertion


def test_deleting_a_linear_models_pixels_in_the_best_order_takes_the_largest_weights_first():
    curves = deletion_insertion(WEIGHTS[None], ONES, torch.tensor([0]), Share(WEIGHTS), parts=4)
    np.testing.assert_allclose(curves.shares, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curves.deletion, [[1, 0.6, 0.3, 0.1, 0]], atol=1e-6)
    assert area(curves.shares, curves.deletion)[0] == pytest.approx(0.25 * (1 / 2 + 0.6 + 0.3 + 0.1))


def test_the_worst_order_has_the_largest_deletion_area():
    curves = deletion_insertion(-WEIGHTS[None], ONES, torch.tensor([0]), Share(WEIGHTS), parts=4)
    np.testing.assert_allclose(curves.deletion, [[1, 0.9, 0.7, 0.4, 0]], atol=1e-6)
    assert area(curves.shares, curves.deletion)[0] == pytest.approx(0.25 * (1 / 2 + 0.9 + 0.7 + 0.4))


def test_inserting_pixels_rises_as_deleting_them_falls():
    # A photo of one bright pixel in 8 x 8: the blurred one has spread it, so the class grows back with it.
    w = torch.zeros(8, 8)
    w[2, 5] = 0.9
    X = torch.zeros(1, 3, 8, 8)
    X[:, :, 2, 5] = 1
    curves = deletion_insertion(w[None], X, torch.tensor([0]), Share(w), parts=64)
    begun = curves.shares > 0
    np.testing.assert_allclose(curves.deletion[0, begun], 0, atol=1e-6)  # gone with the first pixel
    np.testing.assert_allclose(curves.insertion[0, begun], 0.9, atol=1e-6)  # there with the first pixel
    assert curves.insertion[0, 0] < curves.deletion[0, 0] == pytest.approx(0.9)


def test_the_last_insertion_is_the_photo_and_the_last_deletion_the_mean_colour():
    X, y, model = torch.rand(2, 3, 6, 6), torch.tensor([0, 1]), Share(torch.rand(6, 6) / 36)
    curves = deletion_insertion(torch.rand(2, 6, 6), X, y, model, parts=5)
    with torch.no_grad():
        photo, nothing = (model(x).softmax(1)[range(2), y].numpy() for x in (X, torch.zeros_like(X)))
    np.testing.assert_allclose(curves.insertion[:, -1], photo, rtol=1e-6)
    np.testing.assert_allclose(curves.deletion[:, 0], photo, rtol=1e-6)
    np.testing.assert_allclose(curves.deletion[:, -1], nothing, rtol=1e-6)


def test_equal_values_do_not_go_from_the_top_down():
    """A map of zeros says nothing; in reading order it would be as good as any that favours the top."""
    w = torch.zeros(10, 10)
    w[0] = 0.1
    curves = deletion_insertion(
        torch.zeros(1, 10, 10), torch.ones(1, 3, 10, 10), torch.tensor([0]), Share(w), parts=10
    )
    assert 0.35 < area(curves.shares, curves.deletion)[0] < 0.65


def test_the_area_of_known_curves():
    shares = np.array([0, 0.5, 1])
    np.testing.assert_allclose(area(shares, np.array([[1, 1, 1], [1, 0.5, 0], [0, 1, 0]])), [1, 0.5, 0.5])


# --------------------------------------------------------------------------------------------------- spearman


def test_spearman_of_equal_maps_is_one_and_of_opposite_maps_minus_one():
    maps = torch.rand(2, 5, 5)
    np.testing.assert_allclose(spearman(maps, maps), 1)
    np.testing.assert_allclose(spearman(maps, maps**3 + 1), 1)  # ranks alone count
    np.testing.assert_allclose(spearman(maps, -maps), -1)


def test_spearman_is_scipys_with_ties():
    generator = np.random.default_rng(0)
    first, second = (torch.tensor(generator.integers(0, 4, (3, 6, 6))).float() for _ in range(2))
    expected = [
        scipy.stats.spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(spearman(first, second), expected, atol=1e-12)


def test_a_map_of_one_value_has_no_correlation():
    assert spearman(torch.zeros(1, 3, 3), torch.rand(1, 3, 3)).tolist() == [0.0]


# ---------------------------------------------------------------------------------------------- randomization


class Backwards(nn.Module):
    """Registers its layers in another order than it runs them, with a container and a layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.unused = nn.Linear(2, 2)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean(dim=(2, 3)))


def test_layers_come_in_the_order_that_the_image_meets_them():
    assert parameter_layers(Backwards(), torch.randn(1, 3, 8, 8)) == ["body.0", "body.2", "head"]


def test_the_real_networks_layers_are_its_26_convolutions():
    layers = parameter_layers(load_classifier(), torch.zeros(1, 3, 64, 64))
    assert len(layers) == 26
    assert (layers[0], layers[-1]) == ("features.0", "classifier.1")


def test_reinitialized_parameters_share_moments_with_the_learned_ones_and_nothing_else():
    layer = nn.Conv2d(8, 64, 5)
    layer.weight.data = torch.rand_like(layer.weight) * 3 + 1
    learned = layer.weight.detach().clone()
    reinitialize(layer, torch.Generator().manual_seed(0))
    assert layer.weight.mean().item() == pytest.approx(learned.mean().item(), abs=0.05)
    assert layer.weight.std().item() == pytest.approx(learned.std().item(), rel=0.05)
    assert abs(np.corrcoef(learned.flatten(), layer.weight.detach().flatten())[0, 1]) < 0.05


def test_the_cascade_destroys_the_last_layers_first_and_keeps_the_others():
    model, X, y = Backwards(), torch.randn(2, 3, 8, 8), torch.tensor([0, 2])
    learned = copy.deepcopy(model.state_dict())
    changed = []

    def explain(X, y, network, advance=None):
        changed.append(
            [name for name, value in network.state_dict().items() if not torch.equal(value, learned[name])]
        )
        return X[:, 0]

    stages = list(cascade(explain, X[:, 0], X, y, model, stages=3))
    assert [(stage.count, stage.total) for stage in stages] == [(1, 3), (2, 3), (3, 3)]
    head, last, first = (
        ["head.weight", "head.bias"],
        ["body.2.weight", "body.2.bias"],
        ["body.0.weight", "body.0.bias"],
    )
    assert [sorted(names) for names in changed] == [
        sorted(head),
        sorted(head + last),
        sorted(head + last + first),
    ]
    assert all(stage.correlations.tolist() == pytest.approx([1, 1]) for stage in stages)
    assert all(torch.equal(value, learned[name]) for name, value in model.state_dict().items())


def test_the_cascade_is_the_same_for_the_same_seed():
    model, X, y = Backwards(), torch.randn(2, 3, 8, 8), torch.tensor([0, 2])
    explain = METHODS["saliency"].explain
    maps = explain(X, y, model)
    first, again, other = (
        [stage.maps for stage in cascade(explain, maps, X, y, model, stages=2, seed=seed)]
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_an_exception_in_the_middle_of_a_check_leaves_no_trace():
    model = Backwards().train()
    before = copy.deepcopy(model.state_dict())
    X, y = torch.randn(1, 3, 8, 8), torch.tensor([1])

    def breaks(*_):
        raise RuntimeError("broken on purpose")

    for check in (
        lambda: list(cascade(breaks, X[:, 0], X, y, model)),
        lambda: deletion_insertion(X[:, 0], X, y, model, breaks),
    ):
        with pytest.raises(RuntimeError, match="on purpose"):
            check()
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(module.training and not module._forward_hooks for module in model.modules())
        assert all(parameter.requires_grad for parameter in model.parameters())


# --------------------------------------------------------------------------------------- what was published


@pytest.fixture(scope="module")
def correlations() -> dict[str, np.ndarray]:
    """Mean Spearman correlation over three photos and two seeds: by method, for the last 1, 5 and 12 layers."""
    model = load_classifier()
    names = ("chelsea", "coffee", "stereo_motorcycle")
    X = torch.cat([preprocess(square(load_photo(name), 128), 128) for name in names])
    with torch.no_grad():
        y = model(X).argmax(dim=1)
    found = {}
    for name in ("saliency", "gradient-x-input", "grad-cam", "guided-backprop"):
        explain = METHODS[name].explain
        maps = explain(X, y, model)
        found[name] = np.mean(
            [
                [stage.correlations.mean() for stage in cascade(explain, maps, X, y, model, seed=seed)][:-1]
                for seed in (0, 1)
            ],
            axis=0,
        )
    return found


def test_gradients_and_grad_cam_change_when_the_network_forgets(correlations):
    """Adebayo et al. (2018), figures 2 to 4: their maps depend on what the last layers have learned."""
    assert (correlations["gradient-x-input"] < 0.4).all(), correlations
    assert (correlations["grad-cam"] < 0.5).all(), correlations
    assert (correlations["saliency"] < 0.7).all(), correlations


def test_guided_backpropagation_hardly_changes(correlations):
    """The same figures: guided backpropagation draws the photo's edges, whatever the last layers have learned."""
    assert (correlations["guided-backprop"] > 0.8).all(), correlations
    for name in ("saliency", "gradient-x-input", "grad-cam"):
        assert (correlations["guided-backprop"] - correlations[name] > 0.2).all(), (name, correlations)


def test_grad_cams_order_of_pixels_brings_the_class_back_sooner_than_the_opposite_order():
    model = load_classifier()
    X = preprocess(square(load_photo("coffee"), 128), 128)
    with torch.no_grad():
        y = model(X).argmax(dim=1)
    maps = METHODS["grad-cam"].explain(X, y, model)
    best, worst = (deletion_insertion(order, X, y, model, parts=8) for order in (maps, -maps))
    assert area(best.shares, best.insertion)[0] > area(worst.shares, worst.insertion)[0] + 0.2
    assert area(best.shares, best.deletion)[0] < area(worst.shares, worst.deletion)[0] - 0.05


# -------------------------------------------------------------------------------------------------- the runners


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (saliency_visualization, ["--methods", "grad-cam", "gradient-x-input"]),
        (gradcam_visualization, ["--layers", "features.9", "--guided"]),
    ],
)
def test_the_runners_draw_the_checks_and_the_same_file_twice(module, options, tmp_path):
    from PIL import Image

    common = ["--quiet", "--images", "chelsea", "--size", "64", *options, "--output"]
    plain, first, again = (tmp_path / f"{name}.png" for name in ("plain", "first", "again"))
    assert module.main([*common, str(plain)]) == 0
    for path in (first, again):
        assert module.main([*common, str(path), "--trust"]) == 0
    assert Image.open(first).height > 2 * Image.open(plain).height
    assert first.read_bytes() == again.read_bytes()
