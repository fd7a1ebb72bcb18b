"""Class A against class B, covered regions, and two networks: what they compute is known exactly."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import gradcam_visualization
import saliency_visualization
from extras.attribution.comparison import (
    ScoreDifference,
    covered,
    most_important,
    network_rows,
    occluded_scores,
    shifted_region,
)
from extras.attribution.methods import METHODS, input_gradient, integrated_gradients
from helpers.errors import UsageError
from helpers.figures import Bars, Cell
from helpers.image_batch import ImageBatch, MapRows, best_classes, chart_rows, cropped


class Linear(nn.Module):
    """Scores that are sums of pixels: class k counts channel k."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 3, 1, bias=False)
        self.features.weight.data = torch.eye(3)[:, :, None, None]

    def forward(self, x):
        return self.features(x).sum(dim=(2, 3))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 5)).eval()


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_the_gradient_of_a_difference_is_the_difference_of_the_gradients(small):
    y, other = torch.tensor([1, 3]), torch.tensor([2, 2])
    difference = ScoreDifference(small, 2)
    for method in (input_gradient, integrated_gradients):
        expected = method(X, y, small) - method(X, other, small)
        assert torch.allclose(method(X, y, difference), expected, atol=1e-5)
    assert torch.equal(difference(X).softmax(dim=1).argmax(dim=1), small(X).softmax(dim=1).argmax(dim=1))
    assert torch.allclose(difference(X).softmax(dim=1), small(X).softmax(dim=1), atol=1e-6)
    assert difference(X)[:, 2].abs().max() == 0


def test_a_difference_has_the_layers_of_its_network_and_copies_whole(small):
    difference = ScoreDifference(small, 0)
    assert [name for name, _ in difference.named_modules()] == [name for name, _ in small.named_modules()]
    copied = copy.deepcopy(difference)
    copied.get_submodule("3").weight.data.zero_()
    assert not torch.allclose(copied(X), difference(X))
    with pytest.raises(IndexError, match="class 9 does not exist: there are 0 to 4"):
        ScoreDifference(small, 9)(X)


def test_scores_fall_by_exactly_what_is_covered():
    mask = np.zeros((8, 8), bool)
    mask[2:4, 5:7] = True
    lost = Linear()(X) - occluded_scores(X, mask, Linear())
    assert torch.allclose(lost, X[:, :, 2:4, 5:7].sum(dim=(2, 3)), atol=1e-5)


def test_only_the_region_is_covered_and_a_blur_keeps_one_colour():
    mask = np.zeros((8, 8), bool)
    mask[:3] = True
    grey, blurred = covered(X, mask), covered(X, mask, "blur")
    assert grey[:, :, :3].abs().max() == 0
    for changed in (grey, blurred):
        assert torch.equal(changed[:, :, 3:], X[:, :, 3:])
    assert not torch.equal(blurred[:, :, :3], X[:, :, :3])
    assert torch.allclose(covered(torch.ones(1, 3, 8, 8), mask, "blur"), torch.ones(1, 3, 8, 8))
    with pytest.raises(ValueError, match="grey or blur, not by 'ink'"):
        covered(X, mask, "ink")
    with pytest.raises(ValueError, match=r"a mask of \(4, 4\) for images of \(8, 8\)"):
        covered(X, mask[:4, :4])


def test_the_most_important_pixels_and_as_many_elsewhere():
    heat = np.arange(12.0).reshape(3, 4)
    mask = most_important(heat, 0.25)
    assert np.argwhere(mask).tolist() == [[2, 1], [2, 2], [2, 3]]
    assert most_important(heat, 0).sum() == 0
    assert most_important(heat, 1).all()
    moved = shifted_region(mask, seed=1)
    assert moved.sum() == 3
    assert not np.array_equal(moved, mask)
    assert np.array_equal(moved, shifted_region(mask, seed=1))


def test_rows_of_two_networks_name_them_and_their_probabilities(small):
    photos = [np.zeros((8, 8, 3), np.uint8)] * 2
    y = torch.tensor([1, 3])
    batch = ImageBatch(photos, X, y, {}, ["a", "b"], ["", ""])
    random = copy.deepcopy(small)
    random[3].weight.data.neg_()
    groups = network_rows(METHODS["saliency"], batch, [("one", small), ("two", random)])
    assert [group.labels for group in groups] == [["saliency map; one"], ["saliency map; two"]]
    for group, model in zip(groups, (small, random), strict=True):
        p = model(X).softmax(dim=1)
        assert [cell.caption for cell in group.rows[0]] == [
            f"probability {p[n, k]:.2f}" for n, k in enumerate(y.tolist())
        ]


def test_a_crop_is_the_square_that_was_named():
    pixels = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
    img = Image.fromarray((pixels % 251).astype(np.uint8)).convert("RGB")
    assert np.array_equal(np.asarray(cropped(img, (7, 3, 10), 10)), np.asarray(img)[3:13, 7:17])
    with pytest.raises(UsageError, match="--crop 21,0,10 leaves the photo, which has 30 x 20 pixels"):
        cropped(img, (21, 0, 10), 10)


def test_the_best_classes_come_in_order_with_their_probabilities():
    X = torch.zeros(1, 3, 1, 1)
    X[0, :, 0, 0] = torch.tensor([1.0, 3.0, 2.0]).log()
    (best,) = best_classes(X, Linear(), 2, ["a", "b", "c"])
    assert [name for name, _ in best] == ["b", "c"]
    assert [p for _, p in best] == pytest.approx([3 / 6, 2 / 6])


def test_a_bar_is_as_long_as_its_value():
    page = np.asarray(Bars([("a", 0.25), ("b", 1.0), ("c", 0.0)]).drawn(200, 240)).astype(int)
    blue = (page[..., 2] - page[..., 0]) > 100
    assert [int(blue[i * 80 : (i + 1) * 80].sum(axis=1).max()) for i in range(3)] == [50, 200, 0]


def test_charts_stand_beside_towers_of_maps_and_under_several_photos():
    cell = Cell(np.zeros((2, 2, 3), np.uint8))
    tower = MapRows([[cell], [cell]], ["a", "b"])
    assert len(chart_rows([[("x", 1.0)]], like=tower).rows) == 2
    assert len(chart_rows([[("x", 1.0)]] * 2, like=tower).rows) == 1


@pytest.mark.parametrize("runner", [saliency_visualization, gradcam_visualization])
def test_the_runners_compare(runner, tmp_path):
    options = [
        "--images",
        "chelsea",
        "--crop",
        "100,20,260",
        "--size",
        "96",
        "--top",
        "3",
        "--versus",
        "lynx",
    ]
    options += ["--compare-models", "squeezenet:random"]
    first, again, plain = (str(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    assert runner.main([*options, "--output", first]) == 0
    assert runner.main(["--replay", first, "--output", again]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert runner.main([*options[:6], "--output", plain]) == 0
    assert Image.open(first).size != Image.open(plain).size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--images", "chelsea", "--versus", "tiger cat", "--classes", "282"],
            "is the class that is explained",
        ),
        (["--images", "chelsea", "--crop", "400,0,100"], "leaves the photo, which has 451 x 300 pixels"),
        (["--crop", "0,0,100"], "--crop goes with --images"),
        (["--images", "chelsea", "--compare-models", "squezenet"], "did you mean"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(options, message, tmp_path, capsys):
    assert gradcam_visualization.main([*options, "--output", str(tmp_path / "a.png")]) == 2
    assert message in capsys.readouterr().err
