"""One strength, one look: whichever network and size (long: it paints with VGG-16 too)."""

import numpy as np
import pytest
import torch

from extras.painter.network import FeatureNet
from extras.painter.optimization import paint
from extras.painter.schedule import Schedule
from extras.painter.settings import settings_for
from helpers.data_utils import load_photo
from helpers.models import load_features


def tensor(name):
    return torch.from_numpy(np.array(load_photo(name))).permute(2, 0, 1)[None].float().contiguous() / 255


def content_error(model, size, strength):
    """How far the painted features are from the photo's, relative to the photo's own."""
    cnn = load_features(model)
    settings = settings_for(cnn, strength=strength)
    net = FeatureNet(cnn, settings.layers)
    torch.manual_seed(0)
    schedule = Schedule([(size, size)], [60])
    *_, last = paint(net, tensor("astronaut"), [tensor("coffee")], schedule, settings)
    return last.terms["content"] * strength / sum(settings.content_layers.values())


@pytest.mark.slow
def test_a_strength_looks_alike_at_two_sizes_and_with_two_networks():
    # What four times the strength changes is far more than what network or size change.
    errors = {
        (model, size, strength): content_error(model, size, strength)
        for model in ("squeezenet", "vgg16")
        for size in (96, 160)
        for strength in (0.25, 1.0, 4.0)
    }
    for strength in (0.25, 1.0, 4.0):
        for model in ("squeezenet", "vgg16"):
            assert errors[model, 96, strength] == pytest.approx(errors[model, 160, strength], rel=0.2)
        for size in (96, 160):
            ratio = errors["vgg16", size, strength] / errors["squeezenet", size, strength]
            assert 1 / 1.8 < ratio < 1.8
    for model in ("squeezenet", "vgg16"):
        for size in (96, 160):
            weak, usual, strong = (errors[model, size, strength] for strength in (0.25, 1.0, 4.0))
            assert 1.5 * weak < usual and 1.3 * usual < strong
