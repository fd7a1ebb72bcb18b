"""The attributions: exact answers on small networks, captum's on the real one, and one signature for all."""

import re

import captum.attr
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import gradcam_visualization
import saliency_visualization
from extras.attribution.attention import ATTENTION
from extras.attribution.cam import (
    PASSES_PER_MAP,
    RULES,
    cam_at,
    fuse,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
)
from extras.attribution.methods import (
    METHODS,
    class_activation,
    completeness_error,
    gradient_x_input,
    guided_backprop,
    guided_grad_cam,
    input_gradient,
    integrated_gradients,
    smooth_grad,
    var_grad,
)
from extras.attribution.perturbation import occlusion, rise
from helpers.data_utils import load_photo
from helpers.figures import Cell
from helpers.image_batch import ImageBatch, MapRows, arrange
from helpers.image_utils import preprocess, square
from helpers.models import load_classifier
from visualizers import GradCam, SaliencyMap
from visualizers.mechanisms import batch_size_for, capture, frozen_eval, in_batches, scaled_heatmaps

PLAIN = np.zeros((8, 8, 3), np.uint8)
SIZE = 64  # of the photos: the real network's mathematics is the same at any size


@pytest.fixture(scope="module")
def model() -> nn.Module:
    # In double precision: a single one's rounding sends a few ReLUs to the other side of their kink.
    return load_classifier().double()


@pytest.fixture(scope="module")
def X() -> torch.Tensor:
    names = ("chelsea", "coffee", "rocket")
    return torch.cat([preprocess(square(load_photo(name), SIZE), SIZE) for name in names]).double()


@pytest.fixture(scope="module")
def y(model, X) -> torch.Tensor:
    with torch.no_grad():
        return model(X).argmax(dim=1)


class Linear(nn.Module):
    """s_k(I) = <w_k, I> + b_k: every pixel's contribution is known exactly."""

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.w = nn.Parameter(torch.randint(-3, 4, (2, 3, size, size), generator=generator).double())
        self.b = nn.Parameter(torch.tensor([5.0, -7.0], dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("kchw,nchw->nk", self.w, x) + self.b


class Toy(nn.Module):
    """One layer of two maps, A = (I_red, I_green), and a score with a weight for each place of each map."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 2, 1, bias=False)
        self.maps.weight.data = torch.eye(3)[:2, :, None, None].clone()
        self.weight = torch.tensor([[[2.0, -2.0], [0.0, 4.0]], [[-1.0, -1.0], [1.0, -3.0]]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (self.maps(x) * self.weight).sum(dim=(1, 2, 3))
        return torch.stack([score, -score], dim=1)


A = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 0.0], [2.0, 2.0]]]])  # Toy's maps for this image:
IMAGE = torch.cat([A, torch.zeros(1, 1, 2, 2)], dim=1)
G = Toy().weight[None]

# ------------------------------------------------------------------------------------------------ mathematics


def test_a_linear_models_contributions_are_its_weights_times_the_image():
    model, X, y = Linear(), torch.randn(3, 3, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 1])
    exact = model.w[y].detach() * X
    torch.testing.assert_close(gradient_x_input(X, y, model), exact, rtol=0, atol=0)
    torch.testing.assert_close(integrated_gradients(X, y, model, steps=3), exact, rtol=1e-12, atol=1e-12)


def test_a_linear_models_integrated_gradients_count_from_the_baseline():
    model, X, y = Linear(), torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.tensor([1, 0])
    baseline = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)[:, None, None]
    attributions = integrated_gradients(X, y, model, steps=1, baseline=baseline)
    torch.testing.assert_close(attributions, model.w[y].detach() * (X - baseline), rtol=1e-12, atol=1e-12)
    error = completeness_error(attributions, X, y, model, baseline)
    torch.testing.assert_close(error, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-10)


def test_integrated_gradients_of_a_square_are_exact_and_gradient_x_input_is_twice_as_much():
    class Square(nn.Module):  # its gradient grows along the path, which a midpoint sum integrates exactly
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x**2).sum(dim=(1, 2, 3))[:, None]

    X, y = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.zeros(2)
    torch.testing.assert_close(integrated_gradients(X, y, Square(), steps=7), X**2, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient_x_input(X, y, Square()), 2 * X**2, rtol=1e-12, atol=1e-12)


def test_the_completeness_error_is_the_sum_minus_the_scores_rise():
    model, X, y = Linear(), torch.ones(1, 3, 4, 4, dtype=torch.float64), torch.tensor([0])
    rise = model.w[0].sum().item()  # the bias is in both scores
    error = completeness_error(torch.full((1, 3, 4, 4), 0.5), X, y, model)
    assert error.item() == pytest.approx(24 - rise)


def test_completeness_on_the_real_network_improves_with_the_steps(model, X, y):
    black = -2.0  # far from the photos' colours, so that gradients change on the way
    with frozen_eval(model), torch.no_grad():
        rise = (model(X) - model(torch.full_like(X, black))).gather(1, y[:, None])[:, 0]
    errors = []
    for steps in (2, 50):
        attributions = integrated_gradients(X, y, model, steps=steps, baseline=black)
        errors.append((completeness_error(attributions, X, y, model, black) / rise).abs().mean().item())
    assert errors[1] < 0.1
    assert errors[1] < errors[0] / 2, errors


def test_smoothgrad_without_noise_is_the_saliency_map(model, X, y):
    maps = input_gradient(X, y, model).abs().amax(dim=1)
    torch.testing.assert_close(smooth_grad(X, y, model, samples=2, noise=0.0), maps, rtol=1e-9, atol=1e-12)


def test_smoothgrad_calls_the_graded_saliency_map(monkeypatch):
    monkeypatch.setattr(SaliencyMap, "compute_saliency_maps", lambda self, X, y, model: X[:, 0] * 0 + 7)
    assert (smooth_grad(torch.zeros(1, 3, 4, 4), torch.tensor([0]), Linear(), samples=3) == 7).all()


def test_smoothgrads_noise_has_the_width_it_says():
    seen = []

    class Watched(Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.detach().clone())
            return super().forward(x)

    X = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    X[0, 0, 0, 0] = 2.0  # max - min
    smooth_grad(X, torch.tensor([0]), Watched(), samples=400, noise=0.25, seed=3)
    noise = torch.cat(seen) - X
    assert noise.std().item() == pytest.approx(0.5, rel=0.02)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.02)


def test_grad_cam_plus_plus_of_a_toy_by_hand():
    # Map 1: sum A = 10, g = (2, -2, 0, 4): alpha = 4/88, 4/-72, 0 (0/0), 16/672; w = 2 * 4/88 + 4 * 16/672.
    # Map 2: sum A = 8, g = (-1, -1, 1, -3): only g = 1 is positive: alpha = 1/10; w = 1/10.
    w = 2 / 22 + 4 / 42, 1 / 10
    expected = torch.tensor([[w[0] + 4 * w[1], 2 * w[0]], [3 * w[0] + 2 * w[1], 4 * w[0] + 2 * w[1]]])
    torch.testing.assert_close(grad_cam_plus_plus(A, G)[0, 0], expected)
    model = Toy()
    found = cam_at(["maps"], IMAGE, torch.tensor([0]), model, "grad-cam++")["maps"][0]
    np.testing.assert_allclose(found, expected / expected.max(), rtol=1e-6)


def test_grad_cam_of_a_toy_by_hand():
    # alpha = mean g = (1, -1): cam = ReLU(A1 - A2).
    found = cam_at(["maps"], IMAGE, torch.tensor([0]), Toy())["maps"][0]
    np.testing.assert_allclose(found, np.array([[0.0, 2.0], [1.0, 2.0]]) / 2, rtol=1e-6)


def test_layer_cam_of_a_toy_by_hand():
    # ReLU(g) A: map 1 gives (2, 0, 0, 16), map 2 (0, 0, 2, 0).
    expected = np.array([[2.0, 0.0], [2.0, 16.0]])
    np.testing.assert_allclose(layer_cam(A, G)[0, 0], expected)
    found = cam_at(["maps"], IMAGE, torch.tensor([0]), Toy(), "layer-cam")["maps"][0]
    np.testing.assert_allclose(found, expected / 16, rtol=1e-6)


def test_hires_cam_of_a_toy_by_hand():
    # g A: map 1 gives (2, -4, 0, 16), map 2 (-4, 0, 2, -6); the ReLU comes after their sum.
    expected = np.array([[0.0, 0.0], [2.0, 10.0]])
    np.testing.assert_allclose(hires_cam(A, G)[0, 0], expected)
    found = cam_at(["maps"], IMAGE, torch.tensor([0]), Toy(), "hires-cam")["maps"][0]
    np.testing.assert_allclose(found, expected / 10, rtol=1e-6)


def evidence(rule, model: nn.Module, X: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """For the class minus against it, (N, 1, h, w), by a rule at the layer `maps`; and the scores (N,)."""
    with capture({"maps": model.maps}) as outputs:
        scores = model(X).gather(1, y[:, None])[:, 0]
    (g,) = torch.autograd.grad(scores.sum(), outputs["maps"])
    return rule(outputs["maps"], g) - rule(outputs["maps"], -g), scores.detach()


@pytest.mark.parametrize("pooled", [True, False])
def test_hires_cams_evidence_adds_up_to_the_score_of_a_linear_head(pooled):
    # Draelos and Carin's guarantee. Grad-CAM keeps it only where each place of a map has the same weight.
    torch.manual_seed(3)
    model = nn.Sequential()
    model.maps = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True))
    model.pool = nn.AdaptiveAvgPool2d(1 if pooled else (4, 5))  # (4, 5) is their size: nothing is pooled
    model.flat, model.head = nn.Flatten(), nn.Linear(6 if pooled else 120, 4)
    model = model.double()
    X, y = torch.randn(3, 3, 6, 7, dtype=torch.float64), torch.tensor([0, 2, 3])
    by_place, scores = evidence(hires_cam, model, X, y)
    torch.testing.assert_close(by_place.sum(dim=(1, 2, 3)), scores - model.head.bias[y].detach())
    by_map, _ = evidence(RULES["grad-cam"], model, X, y)
    assert torch.allclose(by_map, by_place) == pooled


def test_hires_cam_on_squeezenet_is_its_class_map_where_that_is_positive(model, X, y):
    # s_y is the mean of ReLU(z_y), z_y = b + sum_k w_k A^k by a 1 x 1 convolution.
    with torch.no_grad():
        z = model.classifier[1](model.features(X))[range(len(y)), y]
    bias = model.classifier[1].bias[y].detach()[:, None, None]
    expected = (z - bias).clamp(min=0) * (z > 0)
    big = torch.nn.functional.interpolate(expected[:, None], size=SIZE, mode="bilinear")[:, 0]
    found = METHODS["hires-cam"].explain(X, y, model)
    torch.testing.assert_close(found.double(), big / big.amax(dim=(1, 2), keepdim=True), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"eigen-cam"}))  # which asks for no class
def test_a_layer_without_evidence_gives_a_map_of_zeros(rule):
    assert not RULES[rule](A, -torch.ones_like(A)).any()
    assert not RULES[rule](A, torch.zeros_like(A)).any()


def test_fusion_takes_the_largest_and_lifts_the_early_layers():
    early, last = np.array([[[0.0, 1.0], [2.0, 4.0]]]), np.array([[[1.0, 0.0], [0.25, 0.5]]])
    lifted = np.tanh(2 * early / 4)
    expected = np.maximum(lifted, last)
    np.testing.assert_allclose(fuse({"early": early, "last": last}), expected / expected.max(), rtol=1e-6)
    np.testing.assert_allclose(fuse({"last": last}), last)
    assert not fuse({"a": np.zeros((1, 2, 2)), "b": np.zeros((1, 2, 2))}).any()


# ----------------------------------------------------------------------------------- the graded classes reused


def test_the_graded_classes_answer_for_their_methods(model, X, y):
    torch.testing.assert_close(
        METHODS["saliency"].explain(X, y, model), SaliencyMap().compute_saliency_maps(X, y, model)
    )
    np.testing.assert_allclose(METHODS["grad-cam"].explain(X, y, model), GradCam().grad_cam(X, y, model))
    guided = GradCam().guided_backprop(X, y, model)
    np.testing.assert_allclose(guided_backprop(X, y, model).permute(0, 2, 3, 1), guided)
    product = guided * GradCam().grad_cam(X, y, model)[..., None]
    np.testing.assert_allclose(guided_grad_cam(X, y, model).permute(0, 2, 3, 1), product)


def test_the_rule_at_the_last_layer_is_the_graded_grad_cam(model, X, y):
    np.testing.assert_allclose(
        cam_at(["features"], X, y, model)["features"], GradCam().grad_cam(X, y, model), atol=1e-5
    )


# ------------------------------------------------------------------------------------------------------ captum
# Saliency, Grad-CAM and guided backpropagation are compared with captum where the graded classes are tested.


@pytest.fixture(scope="module")
def peer() -> nn.Module:
    # captum's guided backpropagation wants modules that do not work in place.
    model = load_classifier().double()
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model


def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal to a millionth of the map's largest value: Grad-CAM maps are scaled in single precision."""
    theirs = theirs.detach().to(ours)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 * theirs.abs().max().item())


def test_gradient_x_input_equals_captums(model, peer, X, y):
    theirs = captum.attr.InputXGradient(peer).attribute(X.clone().requires_grad_(), target=y)
    same(gradient_x_input(X, y, model), theirs)


@pytest.mark.parametrize("baseline", [0.0, -1.5])
def test_integrated_gradients_equal_captums(model, peer, X, y, baseline):
    theirs, delta = captum.attr.IntegratedGradients(peer).attribute(
        X, baseline, target=y, n_steps=9, method="riemann_middle", return_convergence_delta=True
    )
    ours = integrated_gradients(X, y, model, steps=9, baseline=baseline)
    same(ours, theirs)
    errors = completeness_error(ours, X, y, model, baseline)
    torch.testing.assert_close(errors, delta, rtol=1e-5, atol=1e-5)  # captum places its steps in float32


def test_smoothgrad_equals_captums_noise_tunnel():
    # captum averages each channel's |gradient|, we their largest: on one channel that is the same.
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)
    ).double()
    image, target = torch.randn(1, 1, 12, 12, dtype=torch.float64), torch.tensor([2])
    sigma = 0.15 * (image.max() - image.min()).item()
    torch.manual_seed(4)
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(model))
    theirs = tunnel.attribute(image, target=target, nt_samples=4, stdevs=sigma, abs=True)
    same(smooth_grad(image, target, model, samples=4, seed=4), theirs[:, 0])


def test_hires_cam_equals_captums_gradient_x_activation_summed(model, peer, X, y):
    layer = "features.9"
    product = captum.attr.LayerGradientXActivation(peer, peer.get_submodule(layer)).attribute(X, target=y)
    theirs = scaled_heatmaps(product.sum(dim=1, keepdim=True).clamp(min=0).detach(), X.shape[2:])
    np.testing.assert_allclose(cam_at([layer], X, y, model, "hires-cam")[layer], theirs, atol=1e-6)


def test_guided_grad_cam_equals_captums(model, peer, X, y):
    theirs = captum.attr.GuidedGradCam(peer, peer.features).attribute(
        X.clone().requires_grad_(), target=y, interpolate_mode="bilinear"
    )
    ours = guided_grad_cam(X, y, model)
    peaks = (theirs.abs().amax(dim=(1, 2, 3)) / ours.abs().amax(dim=(1, 2, 3)))[:, None, None, None]
    same(ours * peaks, theirs)  # ours scales each Grad-CAM map to its maximum


# ------------------------------------------------------------------------------------------- every method alike


@pytest.fixture(scope="module")
def quick() -> dict:
    """The methods with few evaluations: what is tested of them all does not depend on how many."""
    return METHODS | {
        "smoothgrad": METHODS["smoothgrad"]._replace(explain=lambda *a: smooth_grad(*a, samples=3), passes=3),
        "integrated-gradients": METHODS["integrated-gradients"]._replace(
            explain=lambda *a: integrated_gradients(*a, steps=3).sum(dim=1), passes=3
        ),
        "vargrad": METHODS["vargrad"]._replace(explain=lambda *a: var_grad(*a, samples=3), passes=3),
        "rise": METHODS["rise"]._replace(explain=lambda *a: rise(*a, masks=5), passes=5),
        "occlusion": METHODS["occlusion"]._replace(explain=lambda *a: occlusion(*a, window=40), passes=10),
        **{  # at a layer of 16 maps
            name: METHODS[name]._replace(
                explain=class_activation(name, ["features.3.squeeze"]), passes=passes
            )
            for name, passes in (("score-cam", 16), ("ablation-cam", 17))
        },
    }


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_is_as_many_single_images_and_the_passes_are_counted(name, quick, model, X, y):
    seen = []
    together = quick[name].explain(X, y, model, seen.append)
    alone = torch.cat([quick[name].explain(X[n : n + 1], y[n : n + 1], model) for n in range(len(X))])
    assert together.shape == (len(X), SIZE, SIZE)
    assert together.isfinite().all()
    assert quick[name].kind == "signed" or (together >= 0).all()
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6 * alone.abs().max().item())
    assert sum(seen) == quick[name].seen(X, model)


class Small(nn.Module):
    """A convolutional classifier of 5 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)
        )
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))


@pytest.mark.parametrize("name", METHODS)
def test_wrong_shapes_and_classes_are_named(name):
    model, X = Small(), torch.randn(2, 3, 12, 12)
    with pytest.raises(ValueError, match="2 images but 3 classes"):
        METHODS[name].explain(X, torch.tensor([0, 1, 2]), model)
    with pytest.raises((IndexError, RuntimeError), match="index 5 is out of bounds"):
        METHODS[name].explain(X, torch.tensor([0, 5]), model)


def test_the_same_seed_gives_the_same_smoothgrad_and_another_does_not():
    model = Small()
    X, y = torch.randn(1, 3, 12, 12), torch.tensor([1])
    first, again, other = (smooth_grad(X, y, model, samples=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    torch.manual_seed(1)
    assert torch.equal(first, smooth_grad(X, y, model, samples=3))  # torch's own seed is the default


def test_an_average_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        smooth_grad(torch.zeros(1, 3, 4, 4), torch.tensor([0]), Small(), samples=0)


def test_batches_cover_the_batch_once():
    seen, X = [], torch.arange(11.0)[:, None, None, None].expand(11, 1, 400, 400)

    def look(x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return x[:, 0, 0, 0] + k

    found = in_batches(look, X, torch.arange(11))
    assert found.tolist() == [2.0 * n for n in range(11)]
    assert max(seen) == batch_size_for(X) < 11 and max(seen) - min(seen) <= 1
    assert batch_size_for(torch.empty(1, 3, 4000, 4000, device="meta")) >= 1


def test_several_layers_fused_by_name_are_the_fusion_of_their_maps(model, X, y):
    layers = ["features.4", "features.12"]
    np.testing.assert_allclose(
        class_activation("layer-cam", layers, fused=True)(X, y, model),
        fuse(cam_at(layers, X, y, model, "layer-cam")),
    )


# -------------------------------------------------------------------------------------------------- the runners


def run(module, *argv: str, capsys) -> tuple[int, str, str]:
    code = module.main(["--quiet", *argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_maps_of_one_photo_stand_side_by_side_and_those_of_several_under_them():
    def groups(photos):
        names = ("one", "two", "three", "four", "five", "six")
        return [
            MapRows(
                [[Cell(PLAIN, caption=name) for _ in range(photos)], [Cell(PLAIN, caption="check")] * photos],
                [name, "below"],
            )
            for name in names
        ]

    def batch(photos):
        return ImageBatch([PLAIN] * photos, None, None, {}, ["a cat"] * photos, ["chelsea"] * photos)

    rows, labels = arrange(batch(1), groups(1))
    assert [[cell.title for cell in row] for row in rows] == [
        ["a cat", "one", "two", "three"],
        ["", "", "", ""],
        ["four", "five", "six"],
        ["", "", ""],
    ]
    assert [cell.caption for cell in rows[1]] == ["", "check", "check", "check"]
    assert labels == ["", "below", "", "below"]
    rows, labels = arrange(batch(2), groups(2)[:2])
    assert [len(row) for row in rows] == [2] * 5
    assert labels == ["photo", "one", "below", "two", "below"]
    assert [cell.title for row in rows for cell in row if cell.title] == ["a cat"] * 2
    assert arrange(batch(1), groups(1)[:1])[1] == ["photo", "one", "below"]


@pytest.mark.parametrize(
    ("runner", "asked"),
    [
        (saliency_visualization, ["--methods", "saliency", "grad-cam", "guided-backprop", "--trust"]),
        (gradcam_visualization, ["--layers", "features.4", "features.7", "features.12", "--trust"]),
        (gradcam_visualization, ["--guided"]),
    ],
)
def test_the_figure_of_one_photo_is_no_tower(runner, asked, tmp_path):
    path = tmp_path / "one.png"
    common = ["--weights", "random", "--images", "coffee", "--size", "64", "--output", str(path)]
    assert runner.main([*common, *asked]) == 0
    width, height = Image.open(path).size
    assert 0.4 < height / width < 1.3


def test_the_saliency_runner_draws_a_row_for_each_method(tmp_path, capsys):
    heights = []
    for methods in (["grad-cam"], ["grad-cam", "gradient-x-input", "guided-backprop"]):
        path = tmp_path / f"{len(methods)}.png"
        options = ["--images", "chelsea", "coffee", "--size", str(SIZE), "--methods", *methods]
        assert run(saliency_visualization, *options, "--output", str(path), capsys=capsys)[0] == 0
        heights.append(Image.open(path).height)
    assert heights[1] > 1.6 * heights[0]


@pytest.mark.parametrize(
    ("module", "option", "wrong", "near"),
    [
        (saliency_visualization, "--methods", "smothgrad", "smoothgrad"),
        (saliency_visualization, "--methods", "gradcam++", "grad-cam++"),
        (gradcam_visualization, "--method", "layercam", "layer-cam"),
    ],
)
def test_a_wrong_method_is_one_line_with_the_nearest_names(module, option, wrong, near, tmp_path, capsys):
    code, out, err = run(module, option, wrong, "--output", str(tmp_path / "no.png"), capsys=capsys)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert wrong in err and near in err
    assert not list(tmp_path.iterdir())


def _unwrapped(module) -> str:
    """The help text as one line; argparse also breaks at hyphens."""
    lines = (line.strip() for line in module.build_parser().format_help().splitlines())
    return " ".join(lines).replace("- ", "-")


def test_the_help_names_the_methods_there_are():
    named = re.search(
        r"row of maps per method: (.*), or all; of a vision transformer also ([a-z, -]+) \(default:",
        _unwrapped(saliency_visualization),
    )
    assert named[1].split(", ") == list(METHODS)
    assert named[2].split(", ") == list(ATTENTION)
    help_text = _unwrapped(gradcam_visualization)
    named = re.search(r"maps are weighted: (.*) \(default grad-cam;", help_text)
    assert named[1].split(", ") == list(gradcam_visualization.METHODS)
    assert set(gradcam_visualization.METHODS) == {*RULES, *PASSES_PER_MAP}


def test_the_grad_cam_runner_draws_each_rule_and_the_fusion(tmp_path, capsys):
    path = tmp_path / "cam.png"
    options = ["--images", "chelsea", "--size", str(SIZE), "--layers", "features.7", "features.12", "--fuse"]
    pictures = set()
    for rule in (*RULES, "ablation-cam"):
        assert (
            run(gradcam_visualization, *options, "--method", rule, "--output", str(path), capsys=capsys)[0]
            == 0
        )
        pictures.add(path.read_bytes())
    assert len(pictures) == len(RULES) + 1
