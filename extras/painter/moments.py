"""The painter's usual loss: means and covariances of features as in the painting, features as in the photo."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from extras.painter.losses import Moments, blend, content_error, content_norm, moments, style_terms
from extras.painter.network import FeatureNet
from extras.painter.pixels import map_size
from extras.painter.regions import Regions
from extras.painter.settings import StyleSettings

RegionMoments = Mapping[str, Moments]  # of each style layer, by name


class PaintingMoments(NamedTuple):
    """What the loss needs of the paintings at one size."""

    regions: Sequence[RegionMoments]
    powers: Mapping[str, float]  # of each content layer: the mean over the positions of the sum of squares


def painting_moments(
    net: FeatureNet,
    found: Sequence[Mapping[str, Tensor]],
    shares: Sequence[float],
    settings: StyleSettings,
    regions: Regions,
) -> PaintingMoments:
    """The moments of each region, from the features of several paintings, mixed by their shares."""
    target: list[dict[str, Moments]] = [{} for _ in regions.shares()]
    for name in (net.wanted[layer] for layer in settings.style_layers):
        # Masks belong to one painting; without masks all weights are None.
        weights = regions.style_weights(map_size(found[0][name]))
        for region, weight in zip(target, weights, strict=True):
            each = [moments(features[name], weight) for features in found]
            region[name] = Moments(*(blend(parts, shares) for parts in zip(*each, strict=True)))
    powers = {}
    for name in (net.wanted[layer] for layer in settings.content_layers):
        squares = [features[name].float().square().sum(dim=1).mean() for features in found]
        powers[name] = float(sum(share * square for share, square in zip(shares, squares, strict=True)))
    return PaintingMoments(target, powers)


class MatchedMoments:
    """The loss at one size, a function of the picture.

    content: (1, 1 or 3, H, W). target: of `target_of`.
    """

    resampled = False  # the same picture always has the same loss

    def __init__(
        self,
        net: FeatureNet,
        content: Tensor,
        target: PaintingMoments,
        settings: StyleSettings,
        regions: Regions,
    ) -> None:
        self.net, self.target, self.regions = net, target, regions
        with torch.no_grad():
            self.content = {name: value.clone() for name, value in net(content).items()}
            self.norms = {
                name: content_norm(self.content[name], power) for name, power in target.powers.items()
            }
        self.weights = {
            net.wanted[layer]: weight / settings.strength for layer, weight in settings.content_layers.items()
        }

    @staticmethod
    def target_of(
        net: FeatureNet,
        styles: Sequence[Tensor],
        shares: Sequence[float],
        settings: StyleSettings,
        regions: Regions,
    ) -> PaintingMoments:
        """What the loss needs of several paintings, each (1, 1 or 3, H, W)."""
        return painting_moments(net, [net(style) for style in styles], shares, settings, regions)

    def __call__(self, img: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the loss, by name."""
        features = self.net(img)
        return {**self.style_terms(features), "content": self.content_term(features)}

    def content_term(self, features: Mapping[str, Tensor]) -> Tensor:
        """The sum over the content layers of w_l * ||F - P||^2 / max(||P||^2, M * m_A)."""
        terms = [
            weight * content_error(features[name], self.content[name], self.norms[name])
            for name, weight in self.weights.items()
        ]
        return torch.stack(terms).sum()

    def style_terms(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The term of each style layer; a region counts by its area."""
        weights = {
            name: self.regions.content_weights(map_size(features[name])) for name in self.target.regions[0]
        }
        terms: dict[str, Tensor] = {}
        for k, (area, target) in enumerate(zip(self.regions.shares(), self.target.regions, strict=True)):
            found = {name: moments(features[name], weights[name][k]) for name in target}
            for name, term in style_terms(found, target).items():
                terms[name] = terms[name] + area * term if name in terms else area * term
        return terms
