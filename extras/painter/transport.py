"""Style transfer by relaxed optimal transport and self-similarity (Kolkin, Salavon and Shakhnarovich, 2019).

The moments of a layer say which features a painting has on the whole. Transport compares one by one: every place of the
picture should look like some place of the painting, and every place of the painting should be used. A place is a column
of features from several layers. With n places x_i of the picture and y_j of the painting, both drawn anew in every
step, and the cosine distance d(a, b) = 1 - <a, b> / (||a|| ||b||):

    transport       = max(1/n sum over i of min over j of d(x_i, y_j),  1/n sum over j of min over i of d(x_i, y_j))
    self-similarity = 1/n sum over i, j of |D_ij / sum over k of D_kj  -  D'_ij / sum over k of D'_kj|

where D_ij = d(x_i, x_j), and D' is the same in the content: what looks alike in the photo shall look alike in the
painting, whatever it looks like. The moments are matched too, and the colours as columns of three with the Euclidean
distance.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from extras.painter.moments import MatchedMoments, PaintingMoments, painting_moments
from extras.painter.network import FeatureNet
from extras.painter.pixels import map_size
from extras.painter.regions import Regions
from extras.painter.settings import StyleSettings

PLACES = 768
MOMENTS, CONTENT, TRANSPORT, COLOR, SIMILARITY = 3.0, 2.0, 1.0, 0.2, 4.0  # weights
PIXELS = "pixels"  # the name of the picture itself among its features


def cosine_distances(a: Tensor, b: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, C), (m, C) -> (n, m). dtype: that of the product."""
    a, b = (F.normalize(columns, dim=1).to(dtype) for columns in (a, b))
    return 1 - (a @ b.mT).float()


def relaxed_transport(distances: Tensor) -> Tensor:
    """The larger of the two mean distances to the nearest one: (n, m) -> scalar. It is a lower bound of the earth
    mover's distance.
    """
    return torch.maximum(distances.amin(dim=1).mean(), distances.amin(dim=0).mean())


def self_similarity_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Two matrices of distances (n, n) -> scalar."""
    tiny = torch.finfo(found.dtype).tiny
    found, wanted = (D / D.sum(dim=0, keepdim=True).clamp_min(tiny) for D in (found, wanted))
    return (found - wanted).abs().sum() / len(found)


def places(weights: Tensor | None) -> Tensor:
    """PLACES random positions of a picture, (n, 2) as (y, x) in [0, 1): evenly, or by weights (1, 1, H, W)."""
    if weights is None:
        return torch.rand(PLACES, 2)
    height, width = weights.shape[2:]
    drawn = torch.multinomial(weights.flatten().cpu(), PLACES, replacement=True)
    return torch.stack([(drawn // width + 0.5) / height, (drawn % width + 0.5) / width], dim=1)


def columns(features: Mapping[str, Tensor], where: Tensor, scales: Mapping[str, float]) -> Tensor:
    """The features at n places, one layer beside the other, each divided by its scale: (n, sum of C), float32."""
    parts = []
    for name, scale in scales.items():
        layer = features[name][0]
        y, x = ((where[:, i] * layer.shape[1 + i]).long().to(layer.device) for i in (0, 1))
        parts.append(layer[:, y, x].mT.float() / scale)
    return torch.cat(parts, dim=1)


class Target(NamedTuple):
    """What the loss needs of the paintings at one size."""

    features: Sequence[Mapping[str, Tensor]]  # of each painting
    shares: Sequence[float]  # how much each painting counts
    scales: Mapping[str, float]  # of each layer: the root of the mean square
    moments: PaintingMoments


class Transport:
    """The loss at one size, a function of the picture. It draws other places in every step."""

    resampled = True

    def __init__(
        self, net: FeatureNet, content: Tensor, target: Target, settings: StyleSettings, regions: Regions
    ) -> None:
        self.net, self.target, self.settings, self.regions = net, target, settings, regions
        self.moments = MatchedMoments(net, content, target.moments, settings, regions)
        self.content = {**self.moments.content, PIXELS: content}

    @staticmethod
    def target_of(
        net: FeatureNet,
        styles: Sequence[Tensor],
        shares: Sequence[float],
        settings: StyleSettings,
        regions: Regions,
    ) -> Target:
        features = [{**net(style), PIXELS: style} for style in styles]
        names = [net.wanted[layer] for layer in settings.style_layers[1:]]
        scales = {name: float(features[0][name].float().square().mean().sqrt()) or 1.0 for name in names}
        return Target(features, shares, scales, painting_moments(net, features, shares, settings, regions))

    def __call__(self, img: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the loss, by name."""
        features = self.net(img)
        terms = {name: MOMENTS * term for name, term in self.moments.style_terms(features).items()}
        terms["content"] = CONTENT * self.moments.content_term(features)
        features[PIXELS] = img
        terms["transport"] = terms["similarity"] = img.new_zeros(())
        regions = zip(
            self.regions.shares(),
            self.regions.content_weights(map_size(img)),
            self._style_weights(),
            strict=True,
        )
        for area, content_weights, style_weights in regions:
            here = places(content_weights)
            found = columns(features, here, self.target.scales)
            wanted = columns(self.content, here, self.target.scales)
            D, D_content = (cosine_distances(x, x, self.net.dtype) for x in (found, wanted))
            similarity = SIMILARITY / self.settings.strength * self_similarity_error(D, D_content)
            terms["similarity"] = terms["similarity"] + area * similarity
            pixels = columns(features, here, {PIXELS: 1.0})
            for share, painting in zip(self.target.shares, self.target.features, strict=True):
                there = places(style_weights)
                theirs = columns(painting, there, self.target.scales)
                cost = TRANSPORT * relaxed_transport(cosine_distances(found, theirs, self.net.dtype))
                colors = columns(painting, there, {PIXELS: 1.0})
                cost = cost + COLOR * relaxed_transport(torch.cdist(pixels, colors))
                terms["transport"] = terms["transport"] + area * share * cost
        return terms

    def _style_weights(self) -> list[Tensor | None]:
        picture = self.target.features[0][PIXELS]
        return self.regions.style_weights(map_size(picture))
