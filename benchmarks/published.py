"""The assignment's two loops, written out plainly as published: what ours are measured against.

Memory in torch's default layout (N, C, H, W), one picture at a time, every layer's output kept, autograd through
every step. They share nothing with the project but its weights and ImageNet's means and deviations.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD


def class_visualization(
    model: nn.Module,
    target_y: int,
    start: Tensor,
    shifts: Sequence[Sequence[int]],
) -> Tensor:
    """Gradient ascent on one class from `start` (1, 3, H, W), a step for each of `shifts` (ox, oy)."""
    l2_reg, learning_rate, blur_every, sigma = 1e-3, 25.0, 10, 0.5
    mean, std = np.asarray(SQUEEZENET_MEAN, np.float64), np.asarray(SQUEEZENET_STD, np.float64)
    img = start.clone().requires_grad_()
    for t, (ox, oy) in enumerate(shifts):
        img.data.copy_(torch.roll(torch.roll(img.data, oy, 2), ox, 3))
        score = model(img)[0, target_y] - l2_reg * (img**2).sum()
        score.backward()
        gradient = img.grad
        assert gradient is not None
        img.data += learning_rate * gradient / gradient.norm()
        gradient.zero_()
        img.data.copy_(torch.roll(torch.roll(img.data, -oy, 2), -ox, 3))
        for c in range(3):
            low, high = float(-mean[c] / std[c]), float((1.0 - mean[c]) / std[c])
            img.data[:, c].clamp_(min=low, max=high)
        if t % blur_every == 0:
            pixels = img.data.numpy()
            pixels = gaussian_filter1d(gaussian_filter1d(pixels, sigma, axis=2), sigma, axis=3)
            img.data.copy_(torch.tensor(pixels))
    return img.data


def all_features(x: Tensor, cnn: nn.Sequential) -> list[Tensor]:
    """What every layer returns, to the last one."""
    features = []
    for layer in cnn:
        x = layer(x)
        features.append(x)
    return features


def gram_matrix(features: Tensor) -> Tensor:
    N, C, H, W = features.size()
    flat = features.view(N, C, H * W)
    return torch.bmm(flat, flat.transpose(1, 2)) / (C * H * W)


def style_transfer(
    cnn: nn.Sequential,
    content: Tensor,
    style: Tensor,
    *,
    content_layer: int,
    content_weight: float,
    style_layers: Sequence[int],
    style_weights: Sequence[float],
    tv_weight: float,
    steps: int = 200,
    rate: float = 3.0,
) -> Iterator[tuple[Tensor, float]]:
    """Adam on the picture's pixels, from the content; yields the picture and its loss after each step."""
    with torch.no_grad():
        wanted = all_features(content, cnn)[content_layer]
        painted = all_features(style, cnn)
        targets = [gram_matrix(painted[layer]) for layer in style_layers]
    img = content.clone().requires_grad_()
    optimizer = torch.optim.Adam([img], lr=rate)
    for t in range(steps):
        if t < 190:
            img.data.clamp_(-1.5, 1.5)
        optimizer.zero_grad()
        features = all_features(img, cnn)
        content_loss = content_weight * ((features[content_layer] - wanted) ** 2).sum()
        style_loss = 0
        for layer, weight, target in zip(style_layers, style_weights, targets, strict=True):
            style_loss = style_loss + weight * ((gram_matrix(features[layer]) - target) ** 2).sum()
        down = ((img[:, :, 1:, :] - img[:, :, :-1, :]) ** 2).sum()
        right = ((img[:, :, :, 1:] - img[:, :, :, :-1]) ** 2).sum()
        loss = content_loss + style_loss + tv_weight * (down + right)
        loss.backward()
        if t == 180:
            optimizer = torch.optim.Adam([img], lr=0.1)
        optimizer.step()
        yield img.data, loss.item()
