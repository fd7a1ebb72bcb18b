"""Task 7: feature extraction and the style-transfer loop."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import style_utils
from helpers.models import load_features
from style_modules import ContentLoss, StyleLoss, TotalVariationLoss
from style_utils import extract_features, features_from_img, rel_error, style_transfer

pytestmark = pytest.mark.task7


@pytest.fixture
def cnn():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3), nn.ReLU(inplace=True)
    )


def test_every_child_gives_what_it_returned(cnn):
    x = torch.randn(1, 3, 12, 9)
    before = x.clone()
    feats = extract_features(x, cnn)
    assert len(feats) == 4
    torch.testing.assert_close(feats[0], cnn[0](x))
    assert (feats[0] < 0).any(), "the in-place ReLU has overwritten the convolution's output"
    torch.testing.assert_close(feats[1], feats[0].relu())
    torch.testing.assert_close(feats[3], cnn(x))
    assert torch.equal(x, before)


def test_features_from_img_opens_files_names_and_pictures(cnn, photo_file):
    feats, img = features_from_img(photo_file, 30, cnn, torch.float32)
    assert img.shape == (1, 3, 30, 45)
    assert len(feats) == 4
    assert not feats[0].requires_grad
    _, same = features_from_img(Image.open(photo_file), 30, cnn, torch.FloatTensor)
    assert torch.equal(img, same)
    _, named = features_from_img("coffee", 30, cnn, torch.float32)
    assert named.shape == (1, 3, 30, 45)


def test_rel_error():
    assert rel_error(np.ones(3), np.ones(3)) == 0
    assert rel_error(torch.zeros(2), torch.ones(2)) == 1
    assert rel_error(np.array([1.0, 2.0]), np.array([1.0, 6.0])) == 0.5
    assert rel_error(np.zeros(2), np.zeros(2)) == 0


class Recorder(nn.Module):
    """A loss that notes what it is called with, and is what its formula says of the picture's first number."""

    def __init__(self, real):
        super().__init__()
        self.real, self.calls = real, []

    def gram_matrix(self, features, normalize=True):
        return self.real.gram_matrix(features, normalize)

    def forward(self, *args):
        self.calls.append(args)
        return self.real(*args)


def transfer(cnn, photo_file, **options):
    settings = {
        "name": "test",
        "content_image": photo_file,
        "style_image": "chelsea",
        "image_size": 16,
        "style_size": 20,
        "content_layer": 2,
        "content_weight": 0.5,
        "style_layers": [0, 3],
        "style_weights": [7.0, 11.0],
        "tv_weight": 0.03,
        "content_loss": ContentLoss(),
        "style_loss": StyleLoss(),
        "tv_loss": TotalVariationLoss(),
        "cnn": cnn,
        "dtype": torch.float32,
        "testing": True,
    }
    return style_transfer(**settings | options)


def written_out(cnn, photo_file):
    """The published loop, written out plainly: what `style_transfer` must equal step by step."""
    x = features_from_img(photo_file, 16, cnn, torch.float64)[1]
    target = cnn[:3](x.clone())
    style = features_from_img("chelsea", 20, cnn, torch.float64)[1]

    def gram(F):
        F = F.flatten(2)[0]
        return F @ F.T / F.numel()

    painted = extract_features(style, cnn)
    targets = [gram(painted[0]), gram(painted[3])]
    x.requires_grad_()
    adam = torch.optim.Adam([x], lr=3.0)
    for t in range(200):
        if t < 190:
            x.data.clamp_(-1.5, 1.5)
        if t == 180:
            adam = torch.optim.Adam([x], lr=0.1)
        feats = extract_features(x, cnn)
        loss = 0.5 * ((feats[2] - target) ** 2).sum()
        loss = (
            loss
            + 7.0 * ((gram(feats[0]) - targets[0]) ** 2).sum()
            + 11.0 * ((gram(feats[3]) - targets[1]) ** 2).sum()
        )
        loss = (
            loss
            + 0.03 * ((x[:, :, 1:] - x[:, :, :-1]) ** 2).sum()
            + 0.03 * ((x[..., 1:] - x[..., :-1]) ** 2).sum()
        )
        adam.zero_grad()
        loss.backward(inputs=[x])
        adam.step()
    return x.detach()


def test_the_loop_is_the_published_one(cnn, photo_file):
    # In double precision: 200 steps of rate 3 magnify the rounding of single precision beyond any tight tolerance.
    cnn.double().requires_grad_(False)
    found = transfer(cnn, photo_file, dtype=torch.float64)
    torch.testing.assert_close(found, written_out(cnn, photo_file), rtol=1e-6, atol=1e-6)


def test_two_hundred_steps_with_every_loss_and_its_own_weight(cnn, photo_file):
    content, style, tv = Recorder(ContentLoss()), Recorder(StyleLoss()), Recorder(TotalVariationLoss())
    first = transfer(cnn, photo_file, content_loss=content, style_loss=style, tv_loss=tv)
    assert len(content.calls) == len(style.calls) == len(tv.calls) == 200
    assert content.calls[0][0] == 0.5
    assert style.calls[0][1:] == ([0, 3], style.calls[0][2], [7.0, 11.0])
    assert tv.calls[0][0].shape == first.shape
    assert tv.calls[0][1] == 0.03
    assert torch.equal(first, transfer(cnn, photo_file))  # two calls agree


def test_the_pixels_are_clamped_before_each_of_the_first_190_steps_and_not_after(cnn, photo_file):
    largest = []

    class Push(nn.Module):
        def forward(self, img, weight):
            largest.append(img.detach().max().item())
            return -1000 * img.sum()  # every step raises every pixel by the learning rate

    transfer(cnn, photo_file, tv_loss=Push(), content_weight=0.0, style_weights=[0.0, 0.0])
    assert largest[:190] == [1.5] * 190
    assert largest[190:] == pytest.approx([1.5 + 0.1 * n for n in range(1, 11)], abs=1e-3)


def test_the_losses_fall_on_the_packaged_network(photo_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(style_utils, "STEPS", 60)
    cnn = load_features("squeezenet", "packaged")
    style = Recorder(StyleLoss())
    options = {
        "style_layers": [1, 4, 6],
        "style_weights": [20000, 500, 12],
        "content_layer": 3,
        "image_size": 48,
        "style_size": 48,
    }
    transfer(cnn, photo_file, style_loss=style, testing=False, **options)
    first, last = (style.real(*style.calls[i]).item() for i in (0, -1))
    assert last < first / 2
    picture = Image.open("visualization/test.png")
    assert picture.size == (72, 48)
    # the pixels as they were optimized, not stretched to the full range
    img = transfer(cnn, photo_file, **options)
    assert picture.tobytes() == style_utils.deprocess(img).tobytes()


def test_noise_as_a_start_is_another_picture_but_repeatable(cnn, photo_file):
    def run():
        torch.manual_seed(4)
        return transfer(cnn, photo_file, init_random=True)

    assert torch.equal(run(), run())
    assert not torch.equal(run(), transfer(cnn, photo_file))


def test_testing_writes_nothing(cnn, photo_file, tmp_path, monkeypatch):
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    transfer(cnn, photo_file)
    assert not list(folder.iterdir())
