"""The painter's copy of a network: what it costs, and what its layers are called."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extras.painter.losses import at_least_float32
from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD
from helpers.memory import ALLOCATED, activations

HISTORY = 15  # steps that L-BFGS remembers


class FeatureNet(nn.Module):
    """A copy of a network's layers up to the deepest one used.

    Its input is in [0, 1]. The first convolution repeats the picture's border, because zeros would frame it in grey.
    Convolutions compute in `dtype`, only the picture gets a gradient, and memory is laid out channels last.
    """

    mean: Tensor  # (1, 3, 1, 1), as std is
    std: Tensor

    def __init__(self, cnn: nn.Sequential, layers: Sequence[int], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        names = layer_names(cnn)
        self.wanted = {layer: names[layer] for layer in sorted(set(layers))}
        parts = [copy.deepcopy(child) for child in list(cnn.children())[: max(layers) + 1]]
        first = next(module for module in nn.Sequential(*parts).modules() if isinstance(module, nn.Conv2d))
        self.border = int(first.padding[0])
        first.padding = (0, 0)
        for i, part in enumerate(parts):
            for module in part.modules():
                if isinstance(module, nn.ReLU):
                    # In place, unless it would overwrite a layer's output that is itself used.
                    module.inplace = part is not module or i - 1 not in self.wanted
        self.parts = nn.ModuleList(parts).eval().requires_grad_(False)
        # torch accepts both at once; its type hints do not.
        self.parts.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype
        for name, value in (("mean", SQUEEZENET_MEAN), ("std", SQUEEZENET_STD)):
            channels = torch.as_tensor(value).to(first.weight.device, at_least_float32(dtype))
            self.register_buffer(name, channels.view(1, 3, 1, 1), persistent=False)

    def forward(self, img: Tensor) -> dict[str, Tensor]:
        """img (1, 1 or 3, H, W) in [0, 1] -> the features (1, C, H', W') of the wanted layers, by name."""
        x = (img - self.mean) / self.std
        if self.border:
            x = F.pad(x, (self.border,) * 4, mode="replicate")
        x = x.to(self.dtype, memory_format=torch.channels_last)
        features = {}
        for i, part in enumerate(self.parts):
            x = part(x)
            if i in self.wanted:
                features[self.wanted[i]] = x
        return features


def layer_names(cnn: nn.Sequential) -> list[str]:
    """The usual name of each child: relu3_1 and pool3 in a plain network (VGG), fire2 and so on in SqueezeNet."""
    names, block, place, fires = [], 1, 0, 1
    for child in cnn.children():
        kind = type(child).__name__.lower()
        if isinstance(child, nn.Conv2d):
            place += 1
            names.append(f"conv{block}_{place}")
        elif isinstance(child, nn.ReLU):
            names.append(f"relu{block}_{place}")
        elif isinstance(child, nn.MaxPool2d | nn.AvgPool2d):
            names.append(f"pool{block}")
            block, place = block + 1, 0
        elif kind == "fire":
            fires += 1
            names.append(f"fire{fires}")
        else:
            names.append(f"{kind}{len(names)}")
    return names


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where convolutions are faster in it, else float32. The losses differ by less than 1 %."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    if device.type != "cpu":
        return torch.float32
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch
        amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
        return torch.bfloat16 if amx else torch.float32
    able: Mapping[str, Any] = torch.cpu.get_capabilities()
    # Measured: VGG-16 takes 0.55 of float32's time with AVX-512 on AMD's processors, and less with AMX. Intel's without
    # AMX take longer than in float32.
    fast = able.get("amx_bf16") or (able.get("avx512_bf16") and "AMD" in able.get("cpu_name", ""))
    return torch.bfloat16 if fast else torch.float32


def bytes_per_pixel(net: FeatureNet, channels: int = 3) -> float:
    """An estimate of the memory of a step, per pixel of the picture: kept activations, the temporary tensors of the
    largest layer, and the vectors of L-BFGS.
    """
    return activations(net).step + ALLOCATED * (2 * HISTORY + 16) * channels * 4


def bytes_per_style_pixel(net: FeatureNet) -> float:
    """An estimate of the memory of a style's moments, per pixel of the resized style: three outputs of the size of the
    largest layer's.
    """
    return ALLOCATED * (3 * net.dtype.itemsize * activations(net).largest + 24)
