"""Task 7: a network's features, and the optimization that turns a photo into a painting (Gatys et al., 2016)."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from helpers.data_utils import open_image
from helpers.figures import save_image
from helpers.image_utils import deprocess, preprocess
from visualizers.mechanisms import frozen_eval

STEPS = 200
RATE, DECAYED_RATE, DECAY_AT = 3.0, 0.1, 180
CLAMP, CLAMP_UNTIL = 1.5, 190


def extract_features(x: Tensor, cnn: nn.Module) -> list[Tensor]:
    """What each child of `cnn` returns for x (N, 3, H, W): a list of tensors in order, one per child.

    A child that works in place (many ReLUs do) gets a copy, so that the list keeps what every child returned.
    """
    features = []
    for layer in cnn.children():
        x = layer(x.clone() if getattr(layer, "inplace", False) else x)
        features.append(x)
    return features


def features_from_img(
    imgpath: str | os.PathLike | Image.Image, imgsize: int, cnn: nn.Module, dtype: torch.dtype | type
) -> tuple[list[Tensor], Tensor]:
    """Opens an image (file, bundled name, or picture) and resizes its shorter side to `imgsize` pixels.

    Returns its features, one tensor per child of `cnn`, and the normalized image (1, 3, H, W).
    """
    img = imgpath if isinstance(imgpath, Image.Image) else open_image(imgpath)
    img_var = preprocess(img, imgsize).to(next(cnn.parameters()).device).type(dtype)
    with torch.no_grad():
        return extract_features(img_var, cnn), img_var


def rel_error(x: np.ndarray | Tensor, y: np.ndarray | Tensor) -> float:
    """max |x - y| / max(1e-8, |x| + |y|): 0 for equal arrays, at most 1."""
    x, y = (
        v.detach().cpu().double().numpy() if isinstance(v, Tensor) else np.asarray(v, np.float64)
        for v in (x, y)
    )
    return float(np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y))))


def style_transfer(
    name: str,
    content_image: str | os.PathLike | Image.Image,
    style_image: str | os.PathLike | Image.Image,
    image_size: int,
    style_size: int,
    content_layer: int,
    content_weight: float,
    style_layers: Sequence[int],
    style_weights: Sequence[float],
    tv_weight: float,
    content_loss: nn.Module,
    style_loss: nn.Module,
    tv_loss: nn.Module,
    cnn: nn.Module,
    dtype: torch.dtype | type,
    init_random: bool = False,
    testing: bool = False,
) -> Tensor | Path:
    """Minimizes L = L_content + L_style + L_tv over the pixels of a picture, in 200 steps of Adam.

    content_image, style_image: files, bundled names, or pictures.
    image_size, style_size: their shorter sides in pixels.
    content_layer, style_layers: children of `cnn`, by number. The weights are those of the three losses.

    The learning rate is 3.0, and 0.1 from step 180 on, with a new Adam. Before each of the first 190 steps the pixels
    are clamped to +-1.5, in normalized units. The picture starts as the content image, or with `init_random` as noise.

    Writes visualization/NAME.png and returns its path. With `testing` it writes nothing and returns the normalized
    picture (1, 3, H, W).
    """
    # The layers after the deepest one used need not be computed.
    cnn = nn.Sequential(*list(cnn.children())[: max([content_layer, *style_layers]) + 1])
    feats, content_img = features_from_img(content_image, image_size, cnn, dtype)
    content_target = feats[content_layer]
    feats, _ = features_from_img(style_image, style_size, cnn, dtype)
    style_targets = [style_loss.gram_matrix(feats[layer]) for layer in style_layers]

    img = torch.rand_like(content_img) if init_random else content_img.clone()
    img.requires_grad_()
    optimizer = torch.optim.Adam([img], lr=RATE)
    with frozen_eval(cnn):
        for t in tqdm(range(STEPS), desc=name, unit="step", leave=False, disable=None):
            if t < CLAMP_UNTIL:
                img.data.clamp_(-CLAMP, CLAMP)
            if t == DECAY_AT:
                optimizer = torch.optim.Adam([img], lr=DECAYED_RATE)
            feats = extract_features(img, cnn)
            # 1. Clear the gradient of the last step.
            # 2. Add the three losses. The total variation is that of the picture itself.
            # 3. Compute the gradient, then take a step of the optimizer.
            ### BEGIN SOLUTION
            optimizer.zero_grad()
            loss = content_loss(content_weight, feats[content_layer], content_target)
            loss = loss + style_loss(feats, style_layers, style_targets, style_weights)
            loss = loss + tv_loss(img, tv_weight)
            loss.backward()
            optimizer.step()
            ### END SOLUTION
    if testing:
        return img.detach()
    return save_image(Path("visualization") / f"{name}.png", deprocess(img))
