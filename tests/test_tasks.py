"""The seven tasks on examples small enough to be computed by hand: `pytest -m task4` runs those of Task 4.

Every expected number stands here as a number, with the sum that leads to it.
"""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from style_modules import ContentLoss, StyleLoss, TotalVariationLoss
from style_utils import style_transfer
from visualizers import ClassVisualization, GradCam, SaliencyMap

# Task 1: saliency maps


def linear_scores(weights):
    """A network with s_k(X) = the sum of weights[k] * X."""
    weights = torch.tensor(weights)
    model = nn.Sequential(nn.Flatten(), nn.Linear(weights[0].numel(), len(weights), bias=False))
    model[1].weight.data = weights.flatten(1)
    return model


@pytest.mark.task1
def test_saliency_is_the_largest_magnitude_over_the_channels():
    # Images of 1 x 2 pixels. Of class 1, red counts (3, 0), green (-5, 1), blue (2, -4).
    model = linear_scores(
        [[[[1.0, 1.0]], [[1.0, 1.0]], [[1.0, 1.0]]], [[[3.0, 0.0]], [[-5.0, 1.0]], [[2.0, -4.0]]]]
    )
    maps = SaliencyMap().compute_saliency_maps(torch.zeros(1, 3, 1, 2), torch.tensor([1]), model)
    assert maps.tolist() == [[[5.0, 4.0]]]


@pytest.mark.task1
def test_each_image_is_explained_for_its_own_class():
    model = linear_scores(
        [[[[1.0, 2.0]], [[0.0, 0.0]], [[0.0, 0.0]]], [[[0.0, 0.0]], [[-7.0, 0.0]], [[0.0, 8.0]]]]
    )
    X, y = torch.rand(3, 3, 1, 2), torch.tensor([1, 0, 1])
    maps = SaliencyMap().compute_saliency_maps(X, y, model)
    assert maps.tolist() == [[[7.0, 8.0]], [[1.0, 2.0]], [[7.0, 8.0]]]


@pytest.mark.task1
def test_saliency_uses_the_scores_and_neither_probabilities_nor_a_loss():
    # Both classes have the same weights. A probability would be 1/2 for every image, and its gradient zero.
    model = linear_scores([[[[6.0]], [[1.0]], [[2.0]]], [[[6.0]], [[1.0]], [[2.0]]]])
    maps = SaliencyMap().compute_saliency_maps(torch.rand(1, 3, 1, 1), torch.tensor([0]), model)
    assert maps.tolist() == [[[6.0]]]


# Task 2: Grad-CAM and guided backpropagation


def two_maps(head):
    """A network whose last layer has two maps, A1 = red and A2 = green; scores = head times their means."""
    model = nn.Sequential()
    model.features = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False))
    model.features[0].weight.data = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).reshape(2, 3, 1, 1)
    model.pool, model.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    model.head = nn.Linear(2, len(head), bias=False)
    model.head.weight.data = torch.tensor(head)
    return model


@pytest.mark.task2
def test_grad_cam_weights_each_map_by_its_mean_gradient():
    # Maps of 1 x 4 positions: red (3, 1, 1, 0), green (1, 5, 0, 0). s_0 = mean(red) - mean(green),
    # so alpha = (1/4, -1/4), and the sum of alpha * A is (0.5, -1, 0.25, 0). Negative values become 0.
    X = torch.tensor([[[[3.0, 1, 1, 0]], [[1.0, 5, 0, 0]], [[9.0, 9, 9, 9]]]])
    maps = GradCam().grad_cam(X, torch.tensor([0]), two_maps([[1.0, -1.0]]))
    assert np.asarray(maps).tolist() == [[[1.0, 0.0, 0.5, 0.0]]]


@pytest.mark.task2
def test_grad_cam_explains_each_image_for_its_own_class():
    # Class 0 counts red, class 1 counts green. Each map is divided by its own maximum.
    X = torch.tensor([[[[4.0, 2]], [[1.0, 8]], [[0.0, 0]]]]).repeat(2, 1, 1, 1)
    maps = GradCam().grad_cam(X, torch.tensor([1, 0]), two_maps([[1.0, 0.0], [0.0, 1.0]]))
    assert np.asarray(maps).tolist() == [[[0.125, 1.0]], [[1.0, 0.5]]]


@pytest.mark.task2
def test_grad_cam_without_positive_evidence_is_all_zero():
    maps = GradCam().grad_cam(torch.ones(1, 3, 2, 2), torch.tensor([0]), two_maps([[-1.0, -1.0]]))
    assert not np.asarray(maps).any()


def relu_network(first, second):
    """One number per colour, times `first`, through a ReLU, times `second`: one score."""
    model = nn.Sequential(
        nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(3, 1, bias=False)
    )
    model[0].weight.data = torch.diag(torch.tensor(first)).reshape(3, 3, 1, 1)
    model[3].weight.data = torch.tensor([second])
    return model


@pytest.mark.task2
def test_guided_backpropagation_stops_at_negative_inputs_and_at_negative_gradients():
    # Red: the ReLU's input is 2, the gradient that arrives is 5, so 2 * 5 = 10 reaches the pixel.
    # Green: the input is 3, but the gradient is -4. Blue: the gradient is 6, but the input is -1.
    model = relu_network([2.0, 3.0, -1.0], [5.0, -4.0, 6.0])
    guided = GradCam().guided_backprop(torch.ones(1, 3, 1, 1), torch.tensor([0]), model)
    assert np.asarray(guided).tolist() == [[[[10.0, 0.0, 0.0]]]]


@pytest.mark.task2
def test_guided_backpropagation_keeps_the_sign_at_the_pixels():
    # The signal that passed the ReLU is 7; the layer below it turns the sign.
    model = relu_network([-2.0, 1.0, 1.0], [7.0, 0.0, 0.0])
    guided = GradCam().guided_backprop(-torch.ones(1, 3, 1, 1), torch.tensor([0]), model)
    assert np.asarray(guided).tolist() == [[[[-14.0, 0.0, 0.0]]]]


# Task 3: class model visualization


class SumOfPixels(nn.Module):
    """s_k(I) = slopes[k] * the sum of I."""

    def __init__(self, *slopes):
        super().__init__()
        self.slopes = nn.Parameter(torch.tensor(slopes))

    def forward(self, x):
        return x.sum(dim=(1, 2, 3))[:, None] * self.slopes


def red_after(iterations, monkeypatch, *, target, l2_reg=0.0, model=None):
    """The red value (0..255) of a picture that begins at 0 everywhere. A step has the length sqrt(3 * 224 * 224): a
    gradient that is the same everywhere moves each pixel by exactly 1, up or down.
    """
    monkeypatch.setattr(torch, "randn", lambda *size, **_: torch.zeros(*size))
    picture = ClassVisualization().create_class_visualization(
        target,
        ["a", "b"],
        model or SumOfPixels(1.0, -1.0),
        torch.float32,
        l2_reg=l2_reg,
        learning_rate=math.sqrt(3 * 224 * 224),
        num_iterations=iterations,
        generate_plots=False,
    )
    values = np.asarray(picture)[..., 0]
    assert values.min() == values.max()
    return values[0, 0]


# Red has the mean 0.485 and the standard deviation 0.229, in [0, 1].
START, UP, DOWN = round(255 * 0.485), round(255 * (0.485 + 0.229)), round(255 * (0.485 - 0.229))


@pytest.mark.task3
@pytest.mark.parametrize(("target", "red"), [(0, UP), (1, DOWN)])
def test_one_step_has_the_length_of_the_learning_rate_and_raises_the_score(target, red, monkeypatch):
    assert abs(int(red_after(1, monkeypatch, target=target)) - red) <= 1


@pytest.mark.task3
def test_the_regularizer_pulls_back_and_gradients_do_not_pile_up(monkeypatch):
    # dJ/dI = 1 - 2 * 0.75 * I. At I = 0 it is 1: a step up, to 1. There it is -0.5: a step down, to 0.
    # If the first gradient were still there, their sum 0.5 would point up.
    assert abs(int(red_after(1, monkeypatch, target=0, l2_reg=0.75)) - UP) <= 1
    assert abs(int(red_after(2, monkeypatch, target=0, l2_reg=0.75)) - START) <= 1


# Task 4: the content loss


@pytest.mark.task4
def test_content_loss_is_the_weight_times_the_sum_of_squared_differences():
    F = torch.tensor([[[[1.0, 2.0]], [[0.0, -3.0]]]], requires_grad=True)
    P = torch.tensor([[[[0.0, 4.0]], [[0.0, 1.0]]]])
    loss = ContentLoss()(0.5, F, P)
    loss.backward()
    assert loss.item() == 10.5  # 0.5 * (1 + 4 + 0 + 16)
    assert F.grad.tolist() == [[[[1.0, -2.0]], [[0.0, -4.0]]]]  # 2 * 0.5 * (F - P)


# Task 5: the Gram matrix and the style loss


@pytest.mark.task5
def test_gram_matrix_of_two_channels():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -4.0]]]])  # C = 2, H = 1, W = 2
    # 1*1 + 2*2 = 5; 1*3 + 2*(-4) = -5; 3*3 + 4*4 = 25
    assert StyleLoss().gram_matrix(features, normalize=False).tolist() == [[[5.0, -5.0], [-5.0, 25.0]]]
    # and divided by C * H * W = 4
    assert StyleLoss().gram_matrix(features).tolist() == [[[1.25, -1.25], [-1.25, 6.25]]]


@pytest.mark.task5
def test_each_image_has_a_gram_matrix_of_its_own():
    features = torch.tensor([[[[1.0], [2.0]]], [[[0.0], [3.0]]]])  # N = 2, C = 1, H = 2, W = 1
    assert StyleLoss().gram_matrix(features, normalize=False).tolist() == [[[5.0]], [[9.0]]]


@pytest.mark.task5
def test_style_loss_adds_the_layers_with_their_weights():
    # One channel, one position: the Gram matrix is the square of the number. Layer 0 is not compared.
    feats = [torch.full((1, 1, 1, 1), number) for number in (9.0, 2.0, 3.0)]
    targets = [torch.tensor([[[10.0]]]), torch.tensor([[[1.0]]])]
    # Layer 2 comes first: 5 * (9 - 10)^2 = 5. Then layer 1: 7 * (4 - 1)^2 = 63.
    assert StyleLoss()(feats, [2, 1], targets, [5.0, 7.0]).item() == 68.0


@pytest.mark.task5
def test_gradients_flow_through_the_style_loss():
    x = torch.full((1, 1, 1, 1), 2.0, requires_grad=True)
    StyleLoss()([x], [0], [torch.tensor([[[1.0]]])], [0.5]).backward()
    assert x.grad.item() == 12.0  # d/dx 0.5 (x^2 - 1)^2 = 2 x (x^2 - 1)


# Task 6: the total-variation loss


@pytest.mark.task6
def test_total_variation_of_six_pixels():
    img = torch.zeros(1, 3, 2, 3)
    img[0, 1] = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 7.0]])
    img.requires_grad_()
    loss = TotalVariationLoss()(img, 0.5)
    loss.backward()
    # To the right: 1 + 4 + 0 + 49 = 54. Down: 1 + 4 + 9 = 14.
    assert loss.item() == 34.0
    # The first pixel: 2 * 0.5 * ((1 - 2) + (1 - 0)) = 0. The last one: (7 - 0) + (7 - 4) = 10.
    assert img.grad[0, 1].tolist() == [[0.0, 1.0, -1.0], [-1.0, -9.0, 10.0]]
    assert not img.grad[0, [0, 2]].any()


@pytest.mark.task6
def test_nothing_wraps_around():
    img = torch.zeros(1, 3, 1, 4)
    img[..., 0] = 2.0
    assert TotalVariationLoss()(img, 1.0).item() == 12.0  # one step of height 2 in each of three channels


# Task 7: the update rule of style transfer


class Style(nn.Module):
    def gram_matrix(self, features, normalize=True):
        return features.mean()

    def forward(self, feats, style_layers, style_targets, style_weights):
        return style_weights[0] * feats[style_layers[0]].sum()


def optimized(tmp_path, monkeypatch, sign=lambda step: 1.0):
    """Losses whose gradients are 1, 2 and 4 for every pixel. Returns the picture, and what the optimizer was given
    in each step: its learning rate and the gradient of the first pixel.
    """
    seen, take_step = [], torch.optim.Adam.step

    def step(optimizer, *args, **kwargs):
        group = optimizer.param_groups[0]
        seen.append((group["lr"], group["params"][0].grad.flatten()[0].item()))
        return take_step(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    for name in ("content", "style"):
        Image.new("RGB", (4, 4), (124, 116, 104)).save(tmp_path / f"{name}.png")
    picture = style_transfer(
        name="test",
        content_image=tmp_path / "content.png",
        style_image=tmp_path / "style.png",
        image_size=4,
        style_size=4,
        content_layer=0,
        content_weight=1.0,
        style_layers=[1],
        style_weights=[2.0],
        tv_weight=4.0,
        content_loss=lambda weight, current, original: sign(len(seen)) * weight * current.sum(),
        style_loss=Style(),
        tv_loss=lambda img, weight: weight * img.sum(),
        cnn=nn.Sequential(nn.PReLU(init=1.0), nn.Identity()),  # both return what they are given
        dtype=torch.float32,
        testing=True,
    )
    return picture, seen


@pytest.mark.task7
def test_each_step_follows_the_sum_of_the_three_losses(tmp_path, monkeypatch):
    picture, seen = optimized(tmp_path, monkeypatch)
    assert [gradient for _, gradient in seen] == [7.0] * 200  # 1 + 2 + 4, in every one of 200 steps
    assert [rate for rate, _ in seen] == [3.0] * 180 + [0.1] * 20
    # The pixels fall to the clamp at -1.5. The last clamp comes before step 189; 11 steps of 0.1 follow.
    torch.testing.assert_close(picture, torch.full_like(picture, -1.5 - 11 * 0.1), rtol=0, atol=1e-3)


@pytest.mark.task7
def test_a_step_forgets_the_gradient_of_the_step_before(tmp_path, monkeypatch):
    _, seen = optimized(tmp_path, monkeypatch, sign=lambda step: (-1.0) ** step)
    assert [gradient for _, gradient in seen] == [7.0, 5.0] * 100  # 1 + 2 + 4, then -1 + 2 + 4
