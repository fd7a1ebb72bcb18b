"""XGrad-CAM, Eigen-CAM, Score-CAM, Ablation-CAM, occlusion, RISE, DeepLIFT, VarGrad: exact answers on small networks,
and those of other libraries.
"""

import copy

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from extras.attribution.cam import ablation_cam, cam_at, eigen_cam, score_cam, xgrad_cam
from extras.attribution.deeplift import deep_lift
from extras.attribution.methods import METHODS, completeness_error, smooth_grad, var_grad
from extras.attribution.perturbation import MASKS, occlusion, rise, rise_masks, windows_of
from helpers.data_utils import load_photo
from helpers.image_utils import preprocess, square
from tests.test_methods import IMAGE, A, G, Linear, Toy, same
from visualizers import SaliencyMap

Y = torch.tensor([0, 2])


@pytest.fixture
def net5() -> nn.Module:
    """Two convolutions with a pooling between them and a hidden layer after them, 5 classes, in double precision."""
    torch.manual_seed(5)
    return (
        nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 7, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten()),
            *(nn.Linear(63, 20), nn.ReLU(), nn.Linear(20, 5)),
        )
        .double()
        .eval()
    )


@pytest.fixture
def X() -> torch.Tensor:
    return torch.randn(2, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def scaled(cam: torch.Tensor, size: int) -> np.ndarray:
    """ReLU, enlarged, divided by the maximum: what every library does to a map, each with its own constants."""
    cam = nn.functional.interpolate(cam.clamp(min=0)[:, None].double(), size=size, mode="bilinear")[:, 0]
    return (cam / cam.amax(dim=(1, 2), keepdim=True)).numpy()


# --------------------------------------------------------------------------------- class activation maps, by hand


def test_xgrad_cam_of_a_toy_by_hand():
    # Map 1: sum g A = 2 - 4 + 0 + 16 = 14 of 10; map 2: -4 + 0 + 2 - 6 = -8 of 8.
    w = 1.4, -1.0
    expected = torch.tensor([[1.4 - 4, 2.8], [4.2 - 2, 5.6 - 2]]).clamp(min=0)
    torch.testing.assert_close(xgrad_cam(A, G)[0, 0], expected)
    # Its axiom: the weights times the maps' sums are the score of this linear head.
    assert w[0] * 10 + w[1] * 8 == pytest.approx(Toy()(IMAGE)[0, 0].item())


def test_xgrad_cams_weight_of_an_empty_map_is_zero():
    empty = torch.cat([A[:, :1], torch.zeros(1, 1, 2, 2)], dim=1)
    assert xgrad_cam(empty, G).isfinite().all()


def test_eigen_cam_of_maps_that_are_multiples_of_one_is_that_one_minus_its_mean():
    pattern = torch.tensor([[0.0, 0.0], [0.0, 4.0]])
    found = eigen_cam(torch.stack([3 * pattern, -2 * pattern, 5 * pattern + 7])[None], G)[0, 0]
    torch.testing.assert_close(found / found.max(), torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    assert not eigen_cam(torch.ones(1, 3, 2, 2), G).any()


def test_eigen_cam_is_positive_where_the_component_is_strongest():
    for seed in range(8):  # a decomposition may give either sign
        maps = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(seed))
        rows = maps[0].flatten(1).T.numpy()
        rows = rows - rows.mean(axis=0)
        projection = rows @ np.linalg.svd(rows)[2][0]
        assert eigen_cam(maps, maps).argmax() == abs(projection).argmax()


def test_eigen_cam_asks_about_no_class(net5, X):
    first, other = (cam_at(["4"], X, y, net5, "eigen-cam")["4"] for y in (Y, Y + 1))
    np.testing.assert_array_equal(first, other)


class Halves(nn.Module):
    """Maps (I_red, I_green), and the scores (mean of the left half, mean of the right half of the red channel)."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 2, 1, bias=False)
        self.maps.weight.data = torch.eye(3)[:2, :, None, None].clone()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        red = self.maps(x)[:, 0]
        half = red.shape[2] // 2
        return torch.stack([red[..., :half].mean(dim=(1, 2)), red[..., half:].mean(dim=(1, 2))], dim=1)


def test_score_cam_of_a_toy_by_hand():
    # Map 1 scaled to [0, 1] is (0, 1/3, 2/3, 1), map 2 (1, 0, 1/2, 1/2). Red times them, in the left column: 0 + 2
    # and 1 + 1.5.
    model, k = Halves(), torch.tensor(0)
    found = score_cam(A, IMAGE, k, model, "maps", None)
    expected = torch.tensor([(0 + 3 * 2 / 3) / 2, (1 * 1 + 3 / 2) / 2]).softmax(dim=0)
    torch.testing.assert_close(found, expected)
    w = expected.tolist()
    cam = np.array([[w[0] + 4 * w[1], 2 * w[0]], [3 * w[0] + 2 * w[1], 4 * w[0] + 2 * w[1]]])
    at = cam_at(["maps"], IMAGE, torch.tensor([0]), model, "score-cam")["maps"][0]
    np.testing.assert_allclose(at, cam / cam.max(), rtol=1e-6)


def test_ablation_cam_of_a_toy_by_hand():
    # Without map 1 the score (14 - 8) loses 14, without map 2 it gains 8.
    found = ablation_cam(A, IMAGE, torch.tensor(0), Toy(), "maps", None)
    torch.testing.assert_close(found, torch.tensor([14.0, -8.0]))
    cam = np.maximum(14 * A[0, 0].numpy() - 8 * A[0, 1].numpy(), 0)
    at = cam_at(["maps"], IMAGE, torch.tensor([0]), Toy(), "ablation-cam")["maps"][0]
    np.testing.assert_allclose(at, cam / cam.max(), rtol=1e-6)
    # A score below zero turns nothing over: for the other class the signs change places.
    torch.testing.assert_close(
        ablation_cam(A, IMAGE, torch.tensor(1), Toy(), "maps", None), torch.tensor([-14.0, 8.0])
    )


# --------------------------------------------------------------------------- class activation maps of other libraries


@pytest.mark.parametrize(
    ("rule", "theirs"), [("xgrad-cam", "XGradCAM"), ("score-cam", "ScoreCAM"), ("layer-cam", "LayerCAM")]
)
def test_the_rule_equals_torch_cams(rule, theirs, net5, X):
    methods = pytest.importorskip("torchcam.methods", reason="torch-cam is on the benchmarks' list")
    for n in range(len(X)):
        x, k = X[n : n + 1].clone().requires_grad_(), int(Y[n])
        with getattr(methods, theirs)(net5, "4", input_shape=(3, 12, 12)) as extractor:
            scores = net5(x)
            (cam,) = extractor(k, scores, normalized=False)
        ours = cam_at(["4"], X[n : n + 1], Y[n : n + 1], net5, rule)["4"]
        np.testing.assert_allclose(ours, scaled(cam.detach(), 12), atol=2e-6)


def test_eigen_cam_equals_pytorch_grad_cams_projection_with_its_sign_made_positive(net5, X):
    utils = pytest.importorskip(
        "pytorch_grad_cam.utils.svd_on_activations", reason="pytorch-grad-cam is on the benchmarks' list"
    )
    with torch.no_grad():
        activations = net5[:5](X)
    theirs = torch.from_numpy(utils.get_2d_projection_with_sign_correction(activations.numpy()))
    np.testing.assert_allclose(cam_at(["4"], X, Y, net5, "eigen-cam")["4"], scaled(theirs, 12), atol=1e-5)


def test_ablation_cams_weights_equal_captums_layer_feature_ablation(net5, X):
    with torch.no_grad():
        activations = net5[:5](X)
    mask = torch.arange(activations.shape[1])[None, :, None, None].expand_as(activations[:1])
    theirs = captum.attr.LayerFeatureAblation(net5, net5[4]).attribute(X, target=Y, layer_mask=mask)
    for n in range(len(X)):
        ours = ablation_cam(activations[n : n + 1], X[n : n + 1], Y[n], net5, "4", None)
        torch.testing.assert_close(ours, theirs[n, :, 0, 0], rtol=1e-9, atol=1e-12)


def test_an_ablation_that_fails_leaves_no_hook_behind(net5, X):
    with pytest.raises(IndexError):
        ablation_cam(torch.zeros(1, 7, 6, 6), X[:1], torch.tensor(9), net5, "4", None)
    assert not net5[4]._forward_hooks


# -------------------------------------------------------------------------------------------- occlusion and RISE


def test_occlusion_of_a_linear_model_is_the_windows_mean_contribution():
    model, X = Linear(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    contributions = (model.w[:2].detach() * X).sum(dim=1)  # each pixel's
    found = occlusion(X, torch.tensor([0, 1]), model, window=1, stride=1)
    torch.testing.assert_close(found, contributions)
    halves = occlusion(X, torch.tensor([0, 1]), model, window=2, stride=2)
    sums = contributions.view(2, 2, 2, 2, 2).sum(dim=(2, 4))
    torch.testing.assert_close(halves, sums.repeat_interleave(2, 1).repeat_interleave(2, 2))


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (5, 3), (12, 5), (3, 3)])
def test_occlusion_equals_captums(window, stride, net5, X):
    theirs = captum.attr.Occlusion(net5).attribute(
        X, target=Y, sliding_window_shapes=(3, window, window), strides=(3, stride, stride), baselines=0
    )
    ours = occlusion(X, Y, net5, window=window, stride=stride)
    torch.testing.assert_close(
        ours.float(), theirs[:, 0], rtol=1e-5, atol=1e-7
    )  # captum adds in single precision


def test_occlusion_moves_a_seventh_of_the_image_by_half_of_that():
    assert windows_of(torch.empty(1, 3, 224, 224)) == 13 * 13
    assert windows_of(torch.empty(1, 3, 3, 5)) == 3 * 5
    assert windows_of(torch.empty(1, 3, 8, 8), window=20) == 1


def test_rise_is_the_mean_of_the_masks_weighted_by_the_probability(X):
    seen = []

    class Watched(Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.detach().clone())
            return super().forward(x) / 10

    model, ones = Watched(12), torch.ones(1, 3, 12, 12, dtype=torch.float64)
    found = rise(ones, torch.tensor([1]), model, masks=20, share=0.4, seed=1)
    masks = torch.cat(seen).numpy()[:, 0]  # of an image of ones, the pictures are the masks
    scores = (np.einsum("khw,chw->k", masks, model.w[1].detach().numpy()) - 7) / 10
    others = (np.einsum("khw,chw->k", masks, model.w[0].detach().numpy()) + 5) / 10
    f = 1 / (1 + np.exp(others - scores))
    np.testing.assert_allclose(found[0], np.einsum("k,khw->hw", f, masks) / (0.4 * 20), rtol=1e-9)


def test_rises_masks_are_random_smooth_and_have_the_mean_they_say():
    masks = rise_masks(4000, (30, 44), share=0.3, seed=4)(torch.arange(4000))
    assert masks.shape == (4000, 30, 44)
    assert masks.min() == 0 and masks.max() == 1
    assert abs(masks.mean(dim=0) - 0.3).max() < 0.03
    # Cells are shifted: a pixel is as often at a cell's middle, where masks vary the most, as between two cells. (Not
    # so in the first cells, which are cut.)
    deviation = masks.std(dim=0)[5:, 7:]
    assert deviation.std() < 0.03 * deviation.mean()
    assert (masks.diff(dim=1).abs().amax() <= 1 / 5 + 1e-6) and (
        masks.diff(dim=2).abs().amax() <= 1 / 7 + 1e-6
    )
    again = rise_masks(4000, (30, 44), share=0.3, seed=4)(torch.tensor([7]))
    assert torch.equal(again[0], masks[7])
    assert not torch.equal(rise_masks(4000, (30, 44), share=0.3, seed=5)(torch.tensor([7])), again)


def test_rise_finds_the_place_that_the_probability_depends_on():
    class Corner(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            score = 20 * x[:, :, :8, 20:].mean(dim=(1, 2, 3)) - 10
            return torch.stack([score, -score], dim=1)

    found = rise(torch.ones(1, 3, 28, 28), torch.tensor([0]), Corner(), masks=300, seed=0)[0]
    row, column = divmod(int(found.argmax()), 28)
    assert row < 8 and column >= 20
    assert found[:8, 20:].mean() > 1.3 * found[20:, :8].mean()


def test_rise_follows_torchs_seed_and_refuses_no_masks(X):
    torch.manual_seed(3)
    one, again = (rise(X, Y - Y, Linear(12), masks=4) for _ in range(2))
    assert torch.equal(one, again)
    assert torch.equal(one, rise(X, Y - Y, Linear(12), masks=4, seed=3))
    with pytest.raises(ValueError, match="at least one"):
        rise(X, Y - Y, Linear(12), masks=0)


# ------------------------------------------------------------------------------------------- DeepLIFT and VarGrad


def test_deeplift_of_a_linear_model_counts_from_the_baseline():
    model, X, y = Linear(), torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.tensor([1, 0])
    baseline = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)[:, None, None]
    found = deep_lift(X, y, model, baseline=baseline)
    torch.testing.assert_close(found, model.w[y].detach() * (X - baseline), rtol=1e-12, atol=1e-12)


def test_the_rescale_rule_sees_what_a_gradient_of_zero_hides():
    # s = 1 - ReLU(1 - x), the paper's first example: at x = 2 the derivative is 0, but the score rose by 1.
    class Saturated(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1 - torch.relu(1 - x[:, :1].flatten(1)[:, :1])

    X = torch.zeros(1, 3, 1, 1, dtype=torch.float64)
    X[0, 0] = 2
    assert not SaliencyMap().compute_saliency_maps(X, torch.tensor([0]), Saturated()).any()
    assert deep_lift(X, torch.tensor([0]), Saturated()).flatten().tolist() == [1.0, 0.0, 0.0]


def test_the_rescale_rule_of_a_maximum_by_hand():
    # max(2, 3) = 3 against max(1, 0) = 1: the rise of 2 is I's place, 3 - 0 wide.
    model = nn.Sequential(nn.MaxPool2d((1, 2)), nn.Flatten()).double()
    X = torch.tensor([[[[2.0, 3.0]]]], dtype=torch.float64)
    baseline = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    assert deep_lift(X, torch.tensor([0]), model, baseline=baseline).flatten().tolist() == [0.0, 2.0]
    # The other way round, the fall of 2 is the baseline's place.
    assert deep_lift(baseline[None], torch.tensor([0]), model, baseline=X[0]).flatten().tolist() == [
        0.0,
        -2.0,
    ]


@pytest.mark.filterwarnings("ignore:Setting forward", "ignore:Input Tensor")
@pytest.mark.parametrize("baseline", [0.0, -1.5])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.LeakyReLU, nn.Softplus])
def test_deeplift_equals_captums(activation, baseline, net5, X):
    # Where a pooling stands next to an activation, captum's hooks meet at one tensor, and its contributions do not
    # add up: a 1 x 1 convolution keeps the two apart.
    net5[1] = nn.Sequential(activation(), nn.Conv2d(6, 6, 1)).double()
    net5[8] = activation()
    # One image at a time: in a batch, captum takes the first image's gradient wherever a pooling's input is the
    # baseline's.
    theirs = [captum.attr.DeepLift(net5).attribute(X[n : n + 1], baseline, target=Y[n]) for n in range(2)]
    same(deep_lift(X, Y, net5, baseline=baseline), torch.cat(theirs))


@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU, nn.Hardswish, nn.ReLU6, nn.Mish, nn.Hardsigmoid])
def test_deeplifts_contributions_add_up_with_activations_that_captum_does_not_know(activation, net5, X):
    net5[1], net5[8] = activation(), activation()
    error = completeness_error(deep_lift(X, Y, net5), X, Y, net5)
    torch.testing.assert_close(error, torch.zeros_like(error), rtol=0, atol=1e-12)


def test_deeplift_adds_up_on_the_real_network_whose_pooling_windows_overlap(net):
    model = copy.deepcopy(net).double()
    X = preprocess(square(load_photo("coffee"), 64), 64).double()
    error = completeness_error(deep_lift(X, torch.tensor([967]), model), X, torch.tensor([967]), model)
    assert abs(error.item()) < 1e-9


def test_vargrad_equals_captums_noise_tunnel():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)
    ).double()
    image, target = torch.randn(1, 1, 12, 12, dtype=torch.float64), torch.tensor([2])
    sigma = 0.15 * (image.max() - image.min()).item()
    torch.manual_seed(4)
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(model))
    theirs = tunnel.attribute(image, target=target, nt_type="vargrad", nt_samples=4, stdevs=sigma, abs=True)
    same(var_grad(image, target, model, samples=4, seed=4), theirs[:, 0])


def test_vargrad_is_the_variance_of_what_smoothgrad_averages(monkeypatch):
    def three(self, X: torch.Tensor, y: torch.Tensor, model: nn.Module) -> torch.Tensor:
        return torch.tensor([1.0, 5.0, 3.0])[:, None, None].expand(3, 4, 4)

    monkeypatch.setattr(SaliencyMap, "compute_saliency_maps", three)
    image = torch.zeros(1, 3, 4, 4), torch.tensor([0]), Linear()
    assert (smooth_grad(*image, samples=3) == 3).all()
    torch.testing.assert_close(var_grad(*image, samples=3), torch.full((1, 4, 4), 8 / 3))


def test_the_number_of_passes_is_what_the_network_has(net, photos):
    X = photos[:2]
    passes = {
        name: METHODS[name].seen(X, net) // 2 for name in ("rise", "occlusion", "score-cam", "ablation-cam")
    }
    assert passes == {"rise": MASKS, "occlusion": 13 * 13 + 1, "score-cam": 512, "ablation-cam": 513}
    assert METHODS["saliency"].seen(X, net) == 2
