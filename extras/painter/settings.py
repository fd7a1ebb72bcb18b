"""What the painter matches, and how strongly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from extras.painter.network import layer_names


@dataclass(frozen=True)
class StyleSettings:
    """Layers, as children of the network, and weights. Defaults are VGG-16's; `settings_for` knows others."""

    style_layers: tuple[int, ...] = (1, 6, 11, 18, 25)  # relu1_1 .. relu5_1
    # With their weights. relu3_1 keeps eyes and letters where they are, relu4_2 the forms.
    content_layers: Mapping[int, float] = field(default_factory=lambda: {11: 0.15, 20: 0.15})
    tv_weight: float = 0.3
    range_weight: float = 10.0  # of the mean squared amount by which pixels leave [0, 1]
    strength: float = 1.0  # divides the content's weights
    noise: float = 0.15  # standard deviation of the noise added to the content image at the start
    style_scale: float = 1.0  # size of the painting relative to the picture: smaller gives finer strokes
    loss: str = "moments"  # or transport

    @property
    def layers(self) -> tuple[int, ...]:
        """All layers that the losses look at."""
        return (*self.style_layers, *self.content_layers)


def settings_for(cnn: nn.Sequential, **changes: Any) -> StyleSettings:
    """The layers to use of a network, found by their names; `changes` are other fields. Raises ValueError for a network
    without such layers.

    VGG and AlexNet-like networks: the first ReLU of every block, and relu3_1 and relu4_2 for the content. SqueezeNet:
    its fire modules, where a strength of 1 looks as it does with VGG-16.
    """
    names = layer_names(cnn)
    if "fire9" in names:
        chosen, content = ["relu1_1", *(f"fire{k}" for k in range(2, 8))], {"fire3": 0.15, "fire5": 0.15}
    else:
        chosen = [f"relu{b}_1" for b in range(1, 6) if f"relu{b}_1" in names]
        content = {"relu3_1": 0.15, "relu4_2": 0.15}
        if len(chosen) < 3 or not content.keys() <= set(names):
            raise ValueError("the painter knows no layers of this network")
    style_layers = tuple(names.index(name) for name in chosen)
    content_layers = {names.index(name): weight for name, weight in content.items()}
    return StyleSettings(style_layers, content_layers, **changes)
