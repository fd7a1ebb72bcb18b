"""The yardstick of paintings, and that all painters paint."""

import pytest
import torch

from benchmarks import paintings
from extras.painter.network import FeatureNet
from helpers.models import load_features


def test_the_yardstick_is_zero_for_the_same_and_does_not_ask_where_a_stroke_is(monkeypatch):
    monkeypatch.setattr(paintings, "SIDE", 128)
    judge = FeatureNet(load_features("squeezenet", quiet=True), paintings.JUDGES)
    photo, painting = paintings.picture("coffee"), paintings.picture("swirl")
    photo = photo[..., : painting.shape[3]]
    painting = painting[..., : photo.shape[2], :]
    assert paintings.yardstick(judge, painting, painting, photo)[0] == pytest.approx(0, abs=1e-6)
    assert paintings.yardstick(judge, photo, painting, photo)[1] == pytest.approx(0, abs=1e-6)
    mirrored = paintings.yardstick(judge, painting.flip(3), painting, photo)  # the same strokes elsewhere
    untouched = paintings.yardstick(judge, photo, painting, photo)
    assert 0 < mirrored[0] < 0.7 * untouched[0]
    assert mirrored[1] > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", list(paintings.PAINTERS))
def test_every_painter_comes_nearer_to_the_painting(monkeypatch, name):
    monkeypatch.setattr(paintings, "SECONDS", 12.0)
    monkeypatch.setattr(paintings, "SIDE", 128)
    judge = FeatureNet(load_features("squeezenet", quiet=True), paintings.JUDGES)
    cnn = load_features("vgg16", quiet=True)
    net = FeatureNet(cnn, paintings.settings_for(cnn).layers)
    photo, painting = paintings.picture("coffee"), paintings.picture("swirl")
    torch.manual_seed(0)
    result = paintings.PAINTERS[name](net, photo, painting)
    assert result.shape == photo.shape and result.min() >= 0 and result.max() <= 1
    before, after = (paintings.yardstick(judge, x, painting, photo)[0] for x in (photo, result))
    assert after < 0.9 * before
