"""Vision transformers: tokens as maps, attention rollout, and the relevance of Chefer et al., exact on small ones."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import MaxVit, SwinTransformer, VisionTransformer

import gradcam_visualization
import saliency_visualization
from extras.attribution.attention import ATTENTION, attention_relevance, attention_rollout, kept_attention
from extras.attribution.cam import PASSES_PER_MAP, RULES, ablation_cam, cam_at
from extras.attribution.evaluation import parameter_layers
from extras.attribution.figures import chosen_methods
from extras.attribution.methods import METHODS
from helpers.errors import UsageError
from visualizers import GradCam
from visualizers.mechanisms import (
    as_maps,
    capture,
    frozen_eval,
    last_map_layer,
    map_layers,
    scaled_heatmaps,
    spread_layers,
    token_grid,
)

LAST = "encoder.layers.encoder_layer_2.ln_1"
Y = torch.tensor([1, 4])


@pytest.fixture
def vit() -> nn.Module:
    """torchvision's ViT with three blocks of two heads, 16 patches, a class token, 5 classes; its head not of zeros."""
    torch.manual_seed(0)
    model = VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=12, mlp_dim=24, num_classes=5
    )
    nn.init.normal_(model.heads.head.weight)
    for (
        layer
    ) in model.encoder.layers:  # larger than at their start, so that attention differs from place to place
        nn.init.normal_(layer.self_attention.in_proj_weight)
    return model.double().eval()


@pytest.fixture
def X() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


# ------------------------------------------------------------------------------------------------ tokens as maps


def test_a_grid_is_square_with_at_most_one_token_before_it():
    assert [token_grid((1, t, 8)) for t in (16, 17, 18, 196, 197, 50, 1, 2)] == [
        4,
        4,
        None,
        14,
        14,
        7,
        None,
        None,
    ]
    assert token_grid((1, 8, 4, 4)) is None and token_grid((4, 16)) is None


@pytest.mark.parametrize("extra", [0, 1])
def test_tokens_become_the_grid_they_were_cut_from_and_back(extra):
    tokens = torch.arange(2 * (6 * 6 + extra) * 3.0).view(2, 36 + extra, 3)
    maps, back = as_maps(tokens)
    assert maps.shape == (2, 3, 6, 6)
    assert torch.equal(maps[1, :, 2, 5], tokens[1, extra + 2 * 6 + 5])
    assert torch.equal(back(maps), tokens)
    changed = maps.clone()
    changed[:] = 0
    assert torch.equal(back(changed)[:, :extra], tokens[:, :extra])
    assert not back(changed)[:, extra:].any()


def test_the_default_layer_is_the_last_whose_patches_still_count(vit, X):
    assert last_map_layer(vit, X) == LAST
    nn.init.zeros_(vit.heads.head.weight)  # as torchvision initializes it
    nn.init.zeros_(vit.heads.head.bias)
    assert last_map_layer(vit, X) == LAST
    assert map_layers(vit, X)[LAST] == (12, 4, 4)
    assert spread_layers(vit, X) == [f"encoder.layers.encoder_layer_{i}.ln_1" for i in (0, 1, 2)]


def test_grad_cam_of_a_vit_is_the_formula_on_its_tokens(vit, X):
    kept = {}
    handle = vit.get_submodule(LAST).register_forward_hook(
        lambda m, i, o: kept.update(tokens=o.requires_grad_()) or o
    )
    with frozen_eval(vit):
        scores = vit(X).gather(1, Y[:, None])
        (g,) = torch.autograd.grad(scores.sum(), kept["tokens"])
    handle.remove()
    A, g = (t.detach()[:, 1:].numpy().reshape(2, 4, 4, 12) for t in (kept["tokens"], g))
    cam = np.maximum((A * g.mean(axis=(1, 2), keepdims=True)).sum(axis=-1), 0)
    expected = scaled_heatmaps(torch.from_numpy(cam)[:, None], (32, 32))
    np.testing.assert_allclose(GradCam().grad_cam(X, Y, vit), expected, rtol=1e-9)
    np.testing.assert_allclose(cam_at([LAST], X, Y, vit)[LAST], expected, rtol=1e-9)


def test_looking_at_tokens_changes_no_score(vit, X):
    with torch.no_grad():
        plain = vit(X)
        with capture({LAST: vit.get_submodule(LAST)}):
            assert torch.equal(vit(X), plain)


@pytest.mark.parametrize("rule", [*RULES, *PASSES_PER_MAP])
def test_every_class_activation_map_works_on_tokens(rule, vit, X):
    maps = cam_at([LAST], X, Y, vit, rule)[LAST]
    assert maps.shape == (2, 32, 32)
    assert np.isfinite(maps).all() and maps.max() == 1


def test_ablation_of_a_tokens_channel_leaves_the_class_token(vit, X):
    with torch.no_grad(), capture({LAST: vit.get_submodule(LAST)}) as outputs:
        before = vit(X[:1])[0, 1]
    A = outputs[LAST].detach()
    found = ablation_cam(A, X[:1], torch.tensor(1), vit, LAST, None)

    def without_channel_7(module, inputs, output):
        output = output.clone()
        output[:, 1:, 7] = 0
        return output

    handle = vit.get_submodule(LAST).register_forward_hook(without_channel_7)
    with torch.no_grad():
        after = vit(X[:1])[0, 1]
    handle.remove()
    torch.testing.assert_close(found[7], before - after)


@pytest.mark.parametrize(
    ("model", "layer", "size"),
    [
        (
            lambda: SwinTransformer(
                [4, 4], embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=[4, 4], num_classes=5
            ),
            "permute",
            (16, 4, 4),
        ),
        (
            lambda: MaxVit(
                (32, 32), stem_channels=8, partition_size=4, block_channels=[8, 16], block_layers=[1, 1],
                head_dim=4, stochastic_depth_prob=0.0, num_classes=5,
            ),
            "blocks.1",
            (16, 4, 4),
        ),
    ],
)  # fmt: skip
def test_transformers_that_return_maps_at_their_end_are_explained_there(model, layer, size, X):
    torch.manual_seed(0)
    model = model().double().eval()
    assert last_map_layer(model, X) == layer
    assert map_layers(model, X)[layer] == size
    maps = GradCam().grad_cam(X, Y, model)
    assert np.isfinite(maps).all() and maps.any()
    with torch.no_grad(), capture({layer: model.get_submodule(layer)}) as outputs:
        model(X)
    pooled = outputs[layer].mean(dim=(2, 3)).detach()
    # What follows sees the maps' means alone: shuffling their places leaves it as it is.
    head = model.head if layer == "permute" else model.classifier
    with torch.no_grad():
        through = head(pooled) if layer == "permute" else head(pooled[:, :, None, None])
        torch.testing.assert_close(through, model(X))


# ------------------------------------------------------------------------------------------- rollout and relevance


class OneAttention(nn.Module):
    """Nine tokens that attend to each other by given logits; the score k is the first token's value times w_k."""

    def __init__(self, blocks: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.logits = nn.Parameter(torch.randn(blocks, 10, 10, generator=generator).double())
        self.w = nn.Parameter(torch.randn(5, 3, generator=generator).double())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = F.avg_pool2d(x, x.shape[2] // 3).flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        eye = torch.eye(10).to(tokens).expand(len(x), 1, 10, 10)
        for logits in self.logits:
            query = logits.expand(len(x), 1, 10, 10)
            tokens = tokens + F.scaled_dot_product_attention(query, eye, tokens[:, None], scale=1.0)[:, 0]
        return tokens[:, 0] @ self.w.T


IMAGES = torch.randn(2, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def tokens_of(x: torch.Tensor) -> np.ndarray:
    tokens = x.numpy().reshape(2, 3, 3, 3, 3, 3).mean(axis=(3, 5)).reshape(2, 3, 9).transpose(0, 2, 1)
    return np.concatenate([tokens.mean(axis=1, keepdims=True), tokens], axis=1)


def as_map(rows: np.ndarray) -> np.ndarray:
    return scaled_heatmaps(torch.from_numpy(rows).view(2, 1, 3, 3), (9, 9))


def test_relevance_of_one_attention_by_hand():
    # s = w (v_0 + sum_j A_0j v_j): its derivative by A_0j is w v_j, so the relevance of place j is ReLU(A_0j w v_j).
    model = OneAttention()
    A = model.logits[0].softmax(dim=1).detach().numpy()
    values = np.einsum("njc,nc->nj", tokens_of(IMAGES), model.w[Y].detach().numpy())
    expected = np.maximum(A[0] * values, 0)[:, 1:]
    np.testing.assert_allclose(attention_relevance(IMAGES, Y, model), as_map(expected), rtol=1e-9)


def test_rollout_of_three_attentions_by_hand():
    model = OneAttention(3)
    first, second, third = (
        (logits.softmax(dim=1).detach().numpy() + np.eye(10)) / 2 for logits in model.logits
    )
    row = (third @ second @ first)[0, 1:]
    assert row.sum() < 1  # the rest stayed with the class token
    np.testing.assert_allclose(attention_rollout(IMAGES, Y, model), as_map(np.stack([row, row])), rtol=1e-9)


def test_the_kept_matrices_are_those_of_multihead_attention_and_the_scores_stay(vit, X):
    theirs = []
    for layer in vit.encoder.layers:
        layer.self_attention.register_forward_hook(
            lambda module, inputs, output: theirs.append(
                F.multi_head_attention_forward(
                    *(x.transpose(0, 1) for x in inputs), 12, 2, module.in_proj_weight, module.in_proj_bias,
                    None, None, False, 0.0, module.out_proj.weight, module.out_proj.bias, training=False,
                    need_weights=True, average_attn_weights=False,
                )[1]
            )
        )  # fmt: skip
    plain = vit(X).detach()
    theirs.clear()
    original = F.scaled_dot_product_attention
    with kept_attention() as matrices:
        torch.testing.assert_close(vit(X.requires_grad_()).detach(), plain)
    assert F.scaled_dot_product_attention is original
    assert len(matrices) == 3
    for ours, expected in zip(matrices, theirs, strict=True):
        torch.testing.assert_close(ours, expected)


def test_relevance_of_a_vit_is_the_recursion_of_the_paper(vit, X):
    with frozen_eval(vit), kept_attention() as matrices:
        scores = vit(X.clone().requires_grad_()).gather(1, Y[:, None])
    gradients = torch.autograd.grad(scores.sum(), matrices)
    R = np.stack([np.eye(17)] * 2)
    for A, g in zip(matrices, gradients, strict=True):
        R = R + np.maximum((A * g).detach().numpy(), 0).mean(axis=1) @ R
    expected = scaled_heatmaps(torch.from_numpy(R[:, 0, 1:]).view(2, 1, 4, 4), (32, 32))
    np.testing.assert_allclose(attention_relevance(X, Y, vit), expected, rtol=1e-9)
    other = attention_relevance(X, Y - 1, vit)
    assert not np.allclose(other, expected)  # it asks for the class
    torch.testing.assert_close(attention_rollout(X, Y, vit), attention_rollout(X, Y - 1, vit))


@pytest.mark.parametrize("name", ATTENTION)
def test_a_batch_is_as_many_single_images_and_the_model_stays(name, vit, X):
    explain, before = ATTENTION[name].explain, {n: v.clone() for n, v in vit.state_dict().items()}
    vit.train()
    together = explain(X, Y, vit)
    alone = torch.cat([explain(X[n : n + 1], Y[n : n + 1], vit) for n in range(2)])
    torch.testing.assert_close(together, alone)
    assert vit.training and all(torch.equal(v, before[n]) for n, v in vit.state_dict().items())


def test_the_cascade_begins_at_a_vits_head_and_ends_at_its_patches_and_tokens(vit, X):
    layers = parameter_layers(vit, X)
    assert layers[:3] == ["", "conv_proj", "encoder"]  # "" has the class token, "encoder" the positions
    assert layers[-2:] == ["encoder.ln", "heads.head"]
    assert sum(name.endswith("out_proj") for name in layers) == 3
    with_parameters = {name.rpartition(".")[0] for name, _ in vit.named_parameters()}
    assert set(layers) == with_parameters


@pytest.mark.parametrize("name", ATTENTION)
def test_a_network_without_such_attention_is_one_line(name, tiny, X):
    with pytest.raises(UsageError, match="attention between all tokens: --model vit_b_16"):
        ATTENTION[name].explain(X, Y, tiny)


def test_all_are_the_methods_for_every_network():
    assert chosen_methods(["all"]) == list(METHODS.values())
    assert chosen_methods(["attention-rollout"]) == [ATTENTION["attention-rollout"]]
    with pytest.raises(UsageError, match="did you mean attention-rollout"):
        chosen_methods(["attention-rolout"])


# ------------------------------------------------------------------------------------------------------ the runners

CODE = """
import torch
from torch import nn
from torchvision.models import VisionTransformer

def small():
    torch.manual_seed(0)
    model = VisionTransformer(64, 16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=5)
    nn.init.normal_(model.heads.head.weight)
    return model
"""


@pytest.mark.parametrize(
    ("runner", "asked"),
    [
        (saliency_visualization, ["--methods", *ATTENTION, "grad-cam", "--trust"]),
        (gradcam_visualization, ["--guided"]),
        (gradcam_visualization, ["--method", "layer-cam", "--fuse", "--trust"]),
        (gradcam_visualization, ["--list-layers"]),
    ],
)
def test_the_runners_explain_a_vit_with_the_check_of_the_map(runner, asked, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(CODE)
    options = ["--model", f"{tmp_path}/mine.py:small", "--images", "coffee", "--size", "64"]
    assert runner.main([*options, *asked, "--output", str(tmp_path / "a.png")]) == 0, capsys.readouterr().err
    if "--list-layers" in asked:
        assert "encoder.layers.encoder_layer_1.ln_1" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "at_least"), [("swin_t", 150), ("swin_v2_t", 150), ("maxvit_t", 200)])
def test_layers_inside_a_transformers_blocks_are_maps_of_the_image_or_not_listed(name, at_least, capsys):
    options = ["--model", name, "--weights", "random", "--list-layers"]
    assert gradcam_visualization.main(options) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " maps of " in line]
    sides = [re.search(r" maps of (\d+) x (\d+)", line).groups() for line in lines]
    assert len(lines) >= at_least and all(height == width for height, width in sides)
    assert {side for side, _ in sides} >= {"56", "28", "14", "7"}
    # Inside MaxViT's attention there are windows; their way back to the image is listed.
    assert not any("attn_layer" in line or "mlp_layer" in line for line in lines)
    assert any("departition_op" in line for line in lines) == (name == "maxvit_t")


def test_layers_of_an_image_that_is_not_square_are_all_listed():
    valid = nn.Sequential(*(nn.Conv2d(3, 3, 9) for _ in range(3)))  # each costs eight positions
    assert map_layers(valid, torch.zeros(1, 3, 64, 40))["2"] == (3, 40, 16)


def test_ablation_takes_away_channels_where_they_are_last():
    class Last(nn.Module):
        """Maps (N, H, W, C); the score is three times the mean of channel 1."""

        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(3, 2, bias=False)
            self.mix.weight.data = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])

        def forward(self, x):
            return 3 * self.mix(x.permute(0, 2, 3, 1))[..., 1:].mean(dim=(1, 2))

    x = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    w = ablation_cam(torch.zeros(1, 2, 4, 4), x, torch.tensor(0), Last(), "mix", None)
    torch.testing.assert_close(w, torch.stack([torch.tensor(0.0), 3 * x[0, 1].mean()]))
