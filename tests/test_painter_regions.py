"""Masks and regions: what is painted, like what, and what stays."""

import numpy as np
import pytest
import torch
from PIL import Image

from extras.painter.losses import moments
from extras.painter.moments import MatchedMoments
from extras.painter.network import FeatureNet
from extras.painter.regions import Regions, color_regions, mask_region
from helpers.errors import UsageError
from tests.test_painter import SETTINGS, image, net, run

RED, BLUE, GREEN = (220, 20, 30), (20, 40, 200), (30, 180, 60)


def halves(left, right, width=40, height=32):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = left, right
    return Image.fromarray(pixels)


def test_a_mask_keeps_what_is_black_blends_what_is_grey_and_paints_what_is_white():
    thirds = np.repeat(np.array([0, 128, 255], np.uint8), 14)[None, :40].repeat(32, axis=0)
    content = image(1)
    regions = mask_region(Image.fromarray(thirds))
    picture = run(content, regions=regions, steps=(25,))[-1].picture
    change = (picture - content).abs().mean(dim=(0, 1, 2))
    assert change[:14].max() == 0
    assert change[28:].mean() > 0.05
    full = run(content, regions=Regions(regions.content.gt(0).float()), steps=(25,))[-1].picture
    assert change[15:27].mean() < 0.8 * (full - content).abs().mean(dim=(0, 1, 2))[15:27].mean()


def test_a_white_mask_is_no_mask():
    white = mask_region(Image.new("L", (40, 32), 255))
    pictures = (run(regions=regions, steps=(3,))[-1].picture for regions in (white, Regions()))
    torch.testing.assert_close(*pictures, atol=1e-3, rtol=0)


def test_a_mask_holds_at_every_size_and_with_the_photos_colours():
    mask = mask_region(halves((0, 0, 0), (255, 255, 255)))
    for options in ({}, {"keep_colors": True}, {"settings": SETTINGS, "optimizer": "adam"}):
        records = run(regions=mask, steps=(4, 4), scales=((23, 28), (32, 40)), **options)
        assert torch.equal(records[-1].picture[..., :20], image(1)[..., :20])
        assert not torch.equal(records[-1].picture[..., 20:], image(1)[..., 20:])


def test_a_black_mask_is_refused():
    with pytest.raises(UsageError, match="black all over"):
        mask_region(Image.new("L", (8, 8)))


def test_regions_have_the_moments_of_their_part_of_the_painting():
    network, style = net(), image(2, 32, 40)
    regions = color_regions(halves(RED, BLUE), halves(BLUE, RED))
    target = MatchedMoments.target_of(network, [style], [1.0], SETTINGS, regions)
    features = network(style)["relu1_1"]
    wanted = {"left": moments(features[..., :20]), "right": moments(features[..., 20:])}
    # Equal halves: the first region is whichever colour sorts first, so it is found by its content mask.
    first_is_left = bool(regions.content[0, 0, 0, 0])
    sides = ("right", "left") if first_is_left else ("left", "right")
    for region, side in zip(target.regions, sides, strict=True):
        torch.testing.assert_close(region["relu1_1"].mean, wanted[side].mean)
        torch.testing.assert_close(region["relu1_1"].covariance, wanted[side].covariance)


def test_each_region_takes_the_colour_of_its_own_part():
    style = image(2)
    style[:, 1:, :, :20] *= 0.1  # red, then blue
    style[:, :2, :, 20:] *= 0.1
    swapped = color_regions(halves(RED, BLUE), halves(BLUE, RED))
    straight = color_regions(halves(RED, BLUE), halves(RED, BLUE))
    grey = torch.full((1, 3, 32, 40), 0.5)
    redness = {}
    for name, regions in {"swapped": swapped, "straight": straight}.items():
        picture = run(grey, style, regions=regions, steps=(40,))[-1].picture
        redness[name] = (picture[0, 0] - picture[0, 2])[:, :18].mean().item()
    assert redness["straight"] > 0.05 > -0.05 > redness["swapped"]


def test_colours_are_recognized_although_jpeg_and_soft_edges_change_them(tmp_path):
    halves(RED, BLUE, 200, 100).resize((90, 50)).save(tmp_path / "mask.jpg", quality=60)
    regions = color_regions(Image.open(tmp_path / "mask.jpg"), halves(BLUE, RED, 80, 60))
    assert regions.content.shape == (2, 1, 50, 90)
    assert regions.content.sum(dim=0).eq(1).all()  # every pixel belongs to one
    assert sorted(regions.shares()) == pytest.approx([0.5, 0.5], abs=0.02)


def test_a_colour_that_the_paintings_mask_has_not_is_named():
    with pytest.raises(UsageError, match=r"has no #1428c8, .* it has #(dc141e|1eb43c), #(dc141e|1eb43c)"):
        color_regions(halves(RED, BLUE), halves(RED, GREEN))


def test_masks_may_have_any_size():
    for size in ((7, 5), (400, 320)):
        mask = mask_region(halves((0, 0, 0), (255, 255, 255)).resize(size, Image.Resampling.NEAREST))
        assert torch.isfinite(run(regions=mask, steps=(3,))[-1].picture).all()


def test_half_precision_has_regions_too():
    regions = color_regions(halves(RED, BLUE), halves(BLUE, RED))
    network = FeatureNet(net().parts, (1, 4), torch.bfloat16)
    assert torch.isfinite(run(regions=regions, network=network, steps=(3,))[-1].picture).all()
