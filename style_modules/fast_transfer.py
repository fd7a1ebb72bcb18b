"""The assignment's style transfer, the same step by step, in less than half the time of the loop as published.

The losses and their gradients are written out on matrices: features X (P, C) have a row a position and a column a
channel, which is how channels-last memory lies. Then

- a 1 x 1 convolution is X W^T + b and its gradient G W, each written where it is wanted: beside another convolution's
  output, or on top of the gradient that is already there;
- the style loss w ||X^T X / n - A||^2 has the gradient X S, S = 4 w / n (X^T X / n - A): one product in place of
  autograd's two, added to the gradient in place;
- the gradient through a ReLU is cut off in place, and so are the values in a Fire.

All other layers are differentiated by autograd, each by itself, so any network works that the graded loop can take.
The graded modules are not called; the tests hold the two loops together.
"""

import copy
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torchvision.models.squeezenet import Fire

from style_modules.second_moment import second_moment
from visualizers.picture_gradient import PictureGradient


class Schedule(NamedTuple):
    """How Adam goes down: at `decayed_rate`, and afresh, from step `decay_at` on; before each step up to `clamp_until`
    the pixels are clamped to +-clamp.
    """

    steps: int
    rate: float
    decayed_rate: float
    decay_at: int
    clamp: float
    clamp_until: int

    @classmethod
    def of(cls, module: ModuleType) -> "Schedule":
        """The constants of these names, in capitals, in the module of the graded loop."""
        return cls(*(getattr(module, name.upper()) for name in cls._fields))


def fast_style_transfer(
    cnn: nn.Module,
    content: Tensor,
    style: Tensor,
    schedule: Schedule,
    *,
    init_random: bool = False,
    **settings: object,
) -> Iterator[tuple[Tensor, float]]:
    """Minimizes the sum of the three losses over the pixels of a picture; yields the normalized picture (1, 3, H, W),
    the same tensor each time, and its loss, as it was before the step.

    cnn, content, style and settings: see `Losses`. The picture starts as the content, or as noise with `init_random`.
    """
    losses = Losses(cnn, content, style, **settings)  # type: ignore[arg-type]
    img = torch.rand_like(content) if init_random else content.clone()
    img = img.contiguous(memory_format=torch.channels_last)
    fused = img.device.type in ("cpu", "cuda")  # all of Adam in one pass over the pixels
    adam = torch.optim.Adam([img], lr=schedule.rate, fused=fused)
    for t in range(schedule.steps):
        if t < schedule.clamp_until:
            img.clamp_(-schedule.clamp, schedule.clamp)
        if t == schedule.decay_at:
            adam = torch.optim.Adam([img], lr=schedule.decayed_rate, fused=fused)
        loss, img.grad = losses(img)
        adam.step()
        yield img, loss.item()


class Losses:
    """The assignment's three losses summed up, and the gradient: img (1, 3, H, W) -> (scalar, as img).

    cnn: its children are the layers; it stays as it is. content, style: normalized pictures (1, 3, H, W) of any sizes,
    img's size being that of content. content_layer, style_layers: children by number. The weights are those of the
    graded losses. Raises IndexError for a layer that does not exist.
    """

    def __init__(
        self,
        cnn: nn.Module,
        content: Tensor,
        style: Tensor,
        *,
        content_layer: int,
        content_weight: float,
        style_layers: Sequence[int],
        style_weights: Sequence[float],
        tv_weight: float,
    ) -> None:
        if min(content_layer, *style_layers) < 0:
            raise IndexError("layers are counted from 0: none is negative")
        children = list(cnn.children())[: max(content_layer, *style_layers) + 1]
        self.layers = [layer_for(copy.deepcopy(child).eval().requires_grad_(False)) for child in children]
        self.content_layer, self.content_weight, self.tv_weight = content_layer, content_weight, tv_weight
        with torch.no_grad():
            painted, seen = self._features(style), self._features(content)
            self.content = matrix(seen[content_layer]).clone()
            # A layer may be asked for twice. The targets are n times the normalized ones, the weights w / n^2.
            self.style: dict[int, list[tuple[Tensor, float]]] = {layer: [] for layer in style_layers}
            for layer, weight in zip(style_layers, style_weights, strict=True):
                n = seen[layer].numel()
                A = second_moment(painted[layer])[0] / painted[layer].numel()
                self.style[layer].append((n * A, weight / n**2))

    def _features(self, img: Tensor) -> list[Tensor]:
        features = []
        for layer in self.layers:
            img = channels_last(layer.forward(img))
            features.append(img)
        return features

    @torch.no_grad()
    def __call__(self, img: Tensor) -> tuple[Tensor, Tensor]:
        features = self._features(img)
        loss, g = img.new_zeros(()), torch.zeros_like(features[-1])
        for i in reversed(range(len(self.layers))):
            if i == self.content_layer:
                difference = matrix(features[i]) - self.content
                loss += self.content_weight * squared_norm(difference)
                matrix(g).add_(difference, alpha=2 * self.content_weight)
            for A, weight in self.style.get(i, ()):
                D = second_moment(features[i])[0].sub_(A)
                loss += weight * squared_norm(D)
                matrix(g).addmm_(matrix(features[i]), D, alpha=4 * weight)
            g = channels_last(self.layers[i].backward(g))
        pixels, G = (x[0].permute(1, 2, 0) for x in (img, g))
        for dim, size in enumerate(pixels.shape[:2]):
            rise = pixels.diff(dim=dim)
            loss += self.tv_weight * squared_norm(rise)
            G.narrow(dim, 1, size - 1).add_(rise, alpha=2 * self.tv_weight)
            G.narrow(dim, 0, size - 1).sub_(rise, alpha=2 * self.tv_weight)
        return loss, g


class Layer:
    """A child of the network, and what it has to remember between forward and backward. Autograd differentiates it."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """x (1, C, H, W), which stays as it is -> what the child returns."""
        with torch.enable_grad(), PictureGradient():
            self.x = x.detach().requires_grad_()
            # A copy, lest one that works in place change x.
            plain = isinstance(self.layer, nn.Conv2d | nn.MaxPool2d)
            self.y = self.layer(self.x if plain else self.x.clone())
        return self.y.detach()

    def backward(self, g: Tensor) -> Tensor:
        """The gradient with respect to what forward returned, which is used up -> that with respect to x."""
        return torch.autograd.grad(self.y, self.x, g)[0]


class ReLUByHand(Layer):
    def forward(self, x: Tensor) -> Tensor:
        self.y = x.relu()
        return self.y

    def backward(self, g: Tensor) -> Tensor:
        return through_relu(g, self.y)


class FireByHand(Layer):
    """SqueezeNet's Fire (Iandola et al., 2016): q = ReLU(squeeze(x)), y = ReLU([1 x 1 of q, 3 x 3 of q])."""

    def __init__(self, layer: Fire) -> None:
        super().__init__(layer)
        squeeze, expand, square = layer.squeeze, layer.expand1x1, layer.expand3x3
        self.squeeze, self.squeeze_bias = squeeze.weight[:, :, 0, 0], squeeze.bias
        self.expand, self.expand_bias = expand.weight[:, :, 0, 0], expand.bias
        self.square, self.square_bias = square.weight, square.bias
        # The gradient of a 3 x 3 convolution is one, too: turned around, input and output channels exchanged.
        self.turned = channels_last(square.weight.flip(2, 3).transpose(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        self.size = x.shape[2:]
        self.q = torch.addmm(self.squeeze_bias, matrix(x), self.squeeze.mT).relu_()
        self.y = self.q.new_empty(len(self.q), len(self.expand) + len(self.square))
        left, right = self._halves(self.y)
        torch.addmm(self.expand_bias, self.q, self.expand.mT, out=left).relu_()
        square = torch.conv2d(maps(self.q, self.size), self.square, self.square_bias, padding=1)
        torch.clamp_min(matrix(channels_last(square)), 0, out=right)
        return maps(self.y, self.size)

    def backward(self, g: Tensor) -> Tensor:
        (g_left, g_right), (left, right) = self._halves(matrix(g)), self._halves(self.y)
        square = through_relu(g_right, right, out=right.new_empty(right.shape))
        q = matrix(channels_last(torch.conv2d(maps(square, self.size), self.turned, padding=1)))
        q.addmm_(through_relu(g_left, left), self.expand)
        return maps(through_relu(q, self.q) @ self.squeeze, self.size)

    def _halves(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """What the 1 x 1 and what the 3 x 3 convolution gave, as views."""
        left, right = len(self.expand), len(self.square)
        return y.narrow(1, 0, left), y.narrow(1, left, right)


def layer_for(child: nn.Module) -> Layer:
    """By hand where it is just what torchvision made, without hooks or other parts; else by autograd."""
    modules = list(child.modules())
    kinds = [type(module) for module in modules]
    if not any(module._forward_hooks or module._forward_pre_hooks for module in modules):
        if kinds == [nn.ReLU]:
            return ReLUByHand(child)
        if kinds == [Fire, *(nn.Conv2d, nn.ReLU) * 3]:
            return FireByHand(cast(Fire, child))
    return Layer(child)


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def matrix(x: Tensor) -> Tensor:
    """x (1, C, H, W), channels last in memory -> X (H * W, C), the same memory."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def maps(X: Tensor, size: torch.Size) -> Tensor:
    """X (H * W, C) -> (1, C, H, W), the same memory."""
    return X.view(1, *size, X.shape[1]).permute(0, 3, 1, 2)


def through_relu(g: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    """g where y = ReLU(...) is positive, else 0; into `out`, by default in place."""
    return torch.ops.aten.threshold_backward.grad_input(g, y, 0, grad_input=g if out is None else out)


def squared_norm(x: Tensor) -> Tensor:
    x = x.flatten()
    return x.dot(x)
