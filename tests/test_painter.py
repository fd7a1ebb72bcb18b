"""The painter on toy networks: what it keeps, what it recovers from, what it leaves alone."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from extras.painter import optimization
from extras.painter.figures import to_image
from extras.painter.losses import content_error, content_norm, moments, style_terms, total_variation
from extras.painter.network import HISTORY, FeatureNet, bytes_per_pixel, fast_dtype, layer_names
from extras.painter.optimization import gradient_shares, paint, style_size
from extras.painter.pixels import from_pyramid, luminance, match_luminance, pyramid, with_luminance
from extras.painter.schedule import MIN_SIDE, Schedule
from extras.painter.settings import StyleSettings, settings_for
from helpers import weights
from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD
from helpers.models import load_features

SETTINGS = StyleSettings(style_layers=(1, 4), content_layers={4: 0.3})


def toy(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(12, 12, 3, padding=1),
    ).requires_grad_(False)


def net(dtype=torch.float32, settings=SETTINGS):
    return FeatureNet(toy(), settings.layers, dtype)


def image(seed, height=32, width=40):
    generator = torch.Generator().manual_seed(seed)
    return F.interpolate(
        torch.rand(1, 3, 7, 9, generator=generator), size=(height, width), mode="bicubic"
    ).clamp(0, 1)


def run(content=None, style=None, steps=(12,), scales=((32, 40),), network=None, **options):
    torch.manual_seed(0)
    schedule = Schedule(scales, list(steps))
    content = image(1) if content is None else content
    styles = style if isinstance(style, list) else [image(2) if style is None else style]
    return list(
        paint(network or net(), content, styles, schedule, options.pop("settings", SETTINGS), **options)
    )


def loss_of(picture, content, style, settings=SETTINGS):
    network = net(settings=settings)
    features, wanted, painting = network(picture), network(content), network(style)
    names = [network.wanted[layer] for layer in settings.style_layers]
    found, targets = ({name: moments(maps[name]) for name in names} for maps in (features, painting))
    weights = {network.wanted[layer]: weight for layer, weight in settings.content_layers.items()}
    content_term = 0.0
    for name, weight in weights.items():
        norm = content_norm(wanted[name], float(painting[name].square().sum(dim=1).mean()))
        content_term = content_term + weight * content_error(features[name], wanted[name], norm)
    tv = settings.tv_weight * total_variation(picture)
    return sum(style_terms(found, targets).values()) + content_term + tv


def test_the_loss_falls_and_the_result_is_the_best_picture_met():
    content, style = (
        0.3 + 0.4 * image(seed) for seed in (1, 2)
    )  # far from 0 and 1, where the result is clamped
    records = run(content, style, steps=(30,))
    losses = [record.loss for record in records]
    assert min(losses) < 0.4 * losses[0]
    found = loss_of(records[-1].picture, content, style).item()
    assert found == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_both_optimizers_repeat_themselves(optimizer):
    first, second = (run(optimizer=optimizer)[-1].picture for _ in range(2))
    assert torch.equal(first, second)


def test_the_scales_follow_one_another_each_from_the_last_ones_result():
    records = run(scales=((16, 20), (23, 28), (32, 40)), steps=(10, 4, 4))
    assert [record.size for record in records] == [(16, 20)] * 10 + [(23, 28)] * 4 + [(32, 40)] * 4
    fresh = run(steps=(1,))[0].style
    assert records[14].style < 0.7 * fresh


def test_the_features_are_the_networks_own_with_the_border_repeated():
    cnn, x = toy(), image(3).double()
    ours = net(torch.float64)(x)
    mean, std = (torch.as_tensor(v).double().view(1, 3, 1, 1) for v in (SQUEEZENET_MEAN, SQUEEZENET_STD))
    h = F.pad((x - mean) / std, (1, 1, 1, 1), mode="replicate")
    reference = cnn.double()
    first = F.relu(F.conv2d(h, reference[0].weight, reference[0].bias))
    torch.testing.assert_close(ours["relu1_1"], first, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(ours["relu2_1"], reference[2:5](first), rtol=1e-6, atol=1e-8)


def test_a_plain_wall_has_no_frame():
    features = net()(torch.full((1, 3, 16, 16), 0.7))["relu1_1"]
    torch.testing.assert_close(features, features[:, :, 5:6, 5:6].expand_as(features), rtol=0, atol=1e-6)


def test_the_network_comes_back_as_it_went_in_and_its_deeper_layers_are_left_out():
    cnn = toy()
    before = copy.deepcopy(cnn.state_dict())
    network = FeatureNet(cnn, (1, 4), torch.bfloat16)
    run(network=network)
    assert all(torch.equal(value, cnn.state_dict()[name]) for name, value in before.items())
    assert cnn[0].padding == (1, 1) and cnn[1].inplace and cnn[0].weight.dtype == torch.float32
    assert len(network.parts) == 5
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_layers_before_a_relu_can_be_asked_for_too():
    network = FeatureNet(toy(), (0, 1))
    features = network(image(1))
    assert features["conv1_1"].min() < 0
    assert torch.equal(features["conv1_1"].relu(), features["relu1_1"])


def test_layers_have_their_usual_names():
    import torchvision

    with torch.device("meta"):
        vgg, squeeze = (getattr(torchvision.models, n)().features for n in ("vgg16", "squeezenet1_1"))
    names = layer_names(vgg)
    assert [names[i] for i in (1, 6, 11, 18, 25, 15, 30)] == [
        "relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1", "relu3_3", "pool5",
    ]  # fmt: skip
    assert layer_names(squeeze)[3] == "fire2" and layer_names(squeeze)[12] == "fire9"
    assert settings_for(vgg).style_layers == StyleSettings().style_layers
    with pytest.raises(ValueError, match="knows no layers"):
        settings_for(toy())


class Failing(nn.Module):
    """A network that sometimes returns features that would ruin the picture."""

    def __init__(self, calls, factor):
        super().__init__()
        self.inner, self.calls, self.factor, self.count = net(), calls, factor, 0
        self.wanted, self.mean = self.inner.wanted, self.inner.mean

    def forward(self, x):
        self.count += x.requires_grad
        features = self.inner(x)
        if x.requires_grad and self.count in self.calls:
            features = {name: value * self.factor for name, value in features.items()}
        return features


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 40.0])
def test_a_ruined_step_is_undone_and_the_painting_goes_on(factor):
    whole = run(steps=(30,))
    records = run(steps=(30,), network=Failing({9, 10, 20}, factor))
    assert torch.isfinite(records[-1].picture).all()
    assert records[9].picture.equal(records[7].picture)  # the best one stays
    assert min(r.loss for r in records if r.loss == r.loss) < 2 * whole[-1].loss


def test_each_restart_halves_the_rate(monkeypatch):
    rates = []
    make = optimization._optimizer
    monkeypatch.setattr(
        optimization, "_optimizer", lambda name, parts, rate: rates.append(rate) or make(name, parts, rate)
    )
    run(steps=(30,), network=Failing({9, 20}, float("nan")))
    assert rates == [1.0, 0.5, 0.25]


def test_a_network_that_only_fails_gives_up_with_the_picture_it_had():
    records = run(steps=(60,), network=Failing(set(range(4, 100)), float("nan")))
    assert len(records) < 20
    assert torch.isfinite(records[-1].picture).all()


@pytest.mark.parametrize("model", ["squeezenet", pytest.param("vgg16", marks=pytest.mark.slow)])
def test_half_precision_convolutions_change_the_loss_by_less_than_one_percent(model):
    cnn, content, style = load_features(model), image(1, 96, 96), image(2, 96, 96)
    settings = settings_for(cnn)
    losses = {}
    for dtype in (torch.float32, torch.bfloat16):
        network = FeatureNet(cnn, settings.layers, dtype)
        losses[dtype] = run(
            content, style, (1,), ((96, 96),), network, settings=settings, start=style * 0.5 + content * 0.5
        )[0]
    assert losses[torch.bfloat16].loss == pytest.approx(losses[torch.float32].loss, rel=0.01)


def test_the_scale_of_a_networks_activations_does_not_matter(monkeypatch):
    """SqueezeNet as packaged has other activations, layer by layer; the picture is the same to a grey value."""
    pictures = []
    for scales in (weights.ACTIVATION_SCALES, dict.fromkeys(weights.ACTIVATION_SCALES, 1.0)):
        cnn = load_features("squeezenet")
        monkeypatch.setattr(weights, "ACTIVATION_SCALES", scales)
        state = weights.squeezenet_state_dict()
        cnn.load_state_dict(
            {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features")}
        )
        settings = settings_for(cnn)
        network = FeatureNet(cnn.double(), settings.layers, torch.float64)
        content, style = image(1, 48, 48).double(), image(2, 48, 48).double()
        pictures.append(run(content, style, (6,), ((48, 48),), network, settings=settings)[-1].picture)
    torch.testing.assert_close(*pictures, atol=1 / 255, rtol=0)


def test_more_strength_keeps_less_of_the_content():
    errors = []
    for strength in (0.05, 0.3, 2.0):
        settings = StyleSettings(SETTINGS.style_layers, SETTINGS.content_layers, strength=strength)
        record = run(steps=(40,), settings=settings)[-1]
        errors.append((record.terms["content"] * strength, record.style))
    assert errors[0][0] < errors[1][0] < errors[2][0]
    assert errors[0][1] > errors[1][1] > errors[2][1]


def test_kept_colours_stay_within_one_grey_value_of_the_photo():
    content = image(1)
    picture = run(content, keep_colors=True, steps=(25,))[-1].picture
    planes = [np.asarray(to_image(x).convert("YCbCr"), dtype=int) for x in (content, picture)]
    assert np.abs(planes[0] - planes[1])[..., 1:].max() <= 1
    assert np.abs(planes[0] - planes[1])[..., 0].mean() > 5  # and it was painted


def test_luminance_is_set_exactly_where_the_colour_allows_it():
    img = torch.tensor([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]]).T.reshape(1, 3, 1, 2)
    wanted = luminance(img) + 0.1
    changed = with_luminance(img, wanted)
    assert luminance(changed)[0, 0, 0, 0] == pytest.approx(wanted[0, 0, 0, 0].item())
    assert torch.equal(changed[..., 1], img[..., 1])  # pure red can be neither lighter nor darker


def test_a_painting_takes_the_photos_brightness_and_contrast():
    Y, like = luminance(image(4)), luminance(image(5)) * 0.3
    matched = match_luminance(Y, like)
    assert matched.mean().item() == pytest.approx(like.mean().item(), abs=1e-5)
    assert matched.std().item() == pytest.approx(like.std().item(), rel=1e-4)


def test_shares_of_the_gradient_sum_to_one_and_are_those_worked_out_by_hand():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    # Gradients (3, 0) and (0, -1): together (3, -1), of which 9/10 and 1/10.
    shares = gradient_shares({"a": 3 * x[0], "b": -x[1]}, [x])
    assert shares == pytest.approx({"a": 0.9, "b": 0.1})
    watched = [record.shares for record in run(watch=True) if record.shares]
    assert watched and all(sum(shares.values()) == pytest.approx(1.0) for shares in watched)


def test_two_styles_are_mixed_by_their_shares():
    pictures = [
        run(style=[image(2), image(7)], shares=shares)[-1].picture
        for shares in ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0))
    ]
    alone = run(style=image(2))[-1].picture
    torch.testing.assert_close(pictures[0], alone, atol=0.02, rtol=0)
    assert (pictures[0] - pictures[2]).abs().mean() > (pictures[0] - pictures[1]).abs().mean() > 0.01


@pytest.mark.parametrize(
    ("painting", "scale", "seen"),
    [
        ((128, 96), 1.0, (64, 48)),  # as many pixels as the picture, not as long a side
        ((256, 192), 1.0, (64, 48)),
        ((256, 48), 1.0, (128, MIN_SIDE)),
        ((128, 96), 0.75, (48, 36)),
        ((48, 40), 1.0, (48, 40)),  # never enlarged
        ((128, 96), 0.1, (MIN_SIDE, MIN_SIDE)),
    ],
)
def test_a_painting_is_resized_to_the_pixels_of_the_picture(painting, scale, seen):
    assert style_size(*painting, (48, 64), scale) == seen


def test_a_pyramid_is_the_picture_in_parts():
    x = image(3, 37, 50)
    parts = pyramid(x, 3)
    assert [tuple(part.shape[2:]) for part in parts] == [(37, 50), (18, 25), (9, 12)]
    torch.testing.assert_close(from_pyramid(parts), x)
    assert pyramid(x, 1)[0] is x and len(pyramid(x, 9)) == 4  # not below 4 pixels


def test_a_start_from_noise_is_a_start_from_noise():
    noise = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(5))
    assert torch.equal(run(start=noise, steps=(1,))[0].picture, noise)


def test_the_memory_a_step_takes_grows_with_what_it_keeps():
    network = net()
    vectors = 2 * HISTORY * 4  # bytes per value of the picture
    assert bytes_per_pixel(network) - bytes_per_pixel(network, channels=1) > 2 * vectors
    assert bytes_per_pixel(net(torch.bfloat16)) < bytes_per_pixel(network)


def test_a_picture_goes_out_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    assert np.array_equal(np.asarray(to_image(tensor)), pixels)
    assert isinstance(to_image(tensor), Image.Image)


@pytest.mark.parametrize(
    ("able", "fast"),
    [
        ({}, False),
        ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, False),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, True),
        ({"avx512_bf16": False, "cpu_name": "AMD EPYC"}, False),
        ({"amx_bf16": True, "avx512_bf16": True, "cpu_name": "Intel Xeon"}, True),
    ],
)
def test_bfloat16_is_used_where_convolutions_were_measured_to_be_faster(monkeypatch, able, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert fast_dtype(torch.device("cpu")) == (torch.bfloat16 if fast else torch.float32)


@pytest.mark.parametrize("amx", [False, True])
def test_an_older_torch_knows_amx_alone(monkeypatch, amx):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert fast_dtype(torch.device("cpu")) == (torch.bfloat16 if amx else torch.float32)
