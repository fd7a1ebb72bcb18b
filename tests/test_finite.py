"""NaN and infinity are never drawn: one line names the layer or the loss that they come from."""

import pytest
import torch
from torch import nn

import class_visualization
import gradcam_visualization
import saliency_visualization
import style_transfer
from helpers.errors import CannotError
from helpers.image_utils import deprocess
from helpers.models import check_finite, load_classifier

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """The packaged weights with one channel of NaN."""
    state = {name: value.clone() for name, value in load_classifier().state_dict().items()}
    state["features.6.squeeze.weight"][3] = NAN
    path = tmp_path_factory.mktemp("weights") / "damaged.pth"
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize(
    ("runner", "options"),
    [
        (saliency_visualization, ["--images", "chelsea"]),
        (gradcam_visualization, ["--images", "chelsea"]),
        (class_visualization, ["--iterations", "1"]),
        (class_visualization, ["--iterations", "1", "--method", "fourier"]),
        (class_visualization, ["--fool", "chelsea"]),
        (style_transfer, ["--content", "chelsea"]),
    ],
)
def test_a_damaged_checkpoint_is_one_line_with_the_layer(damaged, runner, options, tmp_path, capsys):
    path = tmp_path / "a.png"
    assert runner.main([*options, "--weights", damaged, "--output", str(path)]) == 1
    assert "6.squeeze" in capsys.readouterr().err.splitlines()[-1]
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--style-weights", "1e38", "1", "1", "1"], "style"),
        (["--content-weight", "1e38", "--init-random"], "content"),
        (["--tv-weight", "1e38"], "tv"),
    ],
)
def test_a_loss_that_is_not_finite_is_named(options, name, tmp_path, capsys, small_styles):
    path = tmp_path / "a.png"
    sizes = ["--image-size", "32", "--style-size", "32"]
    assert style_transfer.main(["--content", "chelsea", *sizes, *options, "--output", str(path)]) == 1
    assert f"the {name} loss is" in capsys.readouterr().err
    assert not path.exists()


def test_the_first_layer_in_the_order_of_the_pass_is_named():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.Flatten())
    X = torch.ones(1, 3, 2, 2)
    check_finite(model, X)
    with torch.no_grad():
        model[2].bias[1] = INF
    with pytest.raises(CannotError, match="layer 2:"):
        check_finite(model, X)
    with torch.no_grad():
        model[0].weight[0, 0] = NAN
    with pytest.raises(CannotError, match="layer 0:"):
        check_finite(model, X)


def test_no_picture_is_made_of_nan():
    with pytest.raises(CannotError, match="NaN"):
        deprocess(torch.full((1, 3, 4, 4), NAN))
