"""Mistakes in Tasks 4 to 6: content loss, Gram matrix, style loss, total variation."""

from grading.mistakes import Entry, Patch, forms

CONTENT, STYLE, TV = (f"style_modules/{name}_loss.py" for name in ("content", "style", "tv"))


def _content(*codes: str) -> tuple:
    return forms(*(Patch(CONTENT, code, region=0) for code in codes))


def _gram(*codes: str) -> tuple:
    head = "N, C, H, W = features.shape\nF = features.reshape(N, C, H * W)\n"
    return forms(*(Patch(STYLE, head + code, region=0) for code in codes))


def _style(*terms: str) -> tuple:
    """The solution with another term for each layer; `i` is its position in style_layers."""
    return forms(*(_style_loop(f"loss = loss + {term}") for term in terms))


def _style_loop(body: str, end: str = "return loss") -> Patch:
    code = (
        "loss = feats[0].new_zeros(())\n"
        "for i, layer in enumerate(style_layers):\n"
        "    gram = self.gram_matrix(feats[layer])\n"
        f"    {body}\n"
        f"{end}\n"
    )
    return Patch(STYLE, code, region=1)


def _tv(*codes: str) -> tuple:
    head = "down = img[:, :, 1:, :] - img[:, :, :-1, :]\nright = img[:, :, :, 1:] - img[:, :, :, :-1]\n"
    return forms(*(Patch(TV, head + code, region=0) for code in codes))


GRAM_ENTRIES = [
    Entry(
        "gram-always-normalized",
        "gram",
        "normalize=False ignored",
        "Your Gram matrix is divided by C*H*W even with normalize=False: check the flag.",
        f"{STYLE}, gram_matrix",
        _gram("return F @ F.transpose(1, 2) / (C * H * W)"),
    ),
    Entry(
        "gram-never-normalized",
        "gram",
        "normalize=True ignored",
        "Your Gram matrix is never divided by C*H*W: divide with normalize=True, the default.",
        f"{STYLE}, gram_matrix",
        _gram("return F @ F.transpose(1, 2)"),
    ),
    Entry(
        "gram-flag-inverted",
        "gram",
        "normalize inverted",
        "Your Gram matrix is divided by C*H*W when normalize is False, and only then: swap the two cases.",
        f"{STYLE}, gram_matrix",
        _gram("return F @ F.transpose(1, 2) / (1 if normalize else C * H * W)"),
    ),
    Entry(
        "gram-hw-only",
        "gram",
        "divided by H*W only",
        "Your Gram matrix is divided by H*W: divide by C*H*W.",
        f"{STYLE}, gram_matrix",
        _gram("return F @ F.transpose(1, 2) / (H * W if normalize else 1)"),
    ),
    Entry(
        "gram-batch-divisor",
        "gram",
        "divided by the batch size too",
        "Your Gram matrix is divided by N*C*H*W: divide by C*H*W. Each image has its own matrix, so the "
        "batch size N plays no part.",
        f"{STYLE}, gram_matrix",
        _gram("return F @ F.transpose(1, 2) / (N * C * H * W if normalize else 1)"),
    ),
    Entry(
        "gram-other-divisor",
        "gram",
        "another divisor",
        "Your Gram matrix is divided by another number than C*H*W: check for a factor 2, for C*C, and for "
        "a missing H*W.",
        f"{STYLE}, gram_matrix",
        _gram(
            *(
                f"return F @ F.transpose(1, 2) / ({divisor} if normalize else 1)"
                for divisor in (
                    "2 * C * H * W",
                    "C",
                    "C * C",
                    "C * C * H * W",
                    "4 * (C * H * W) ** 2",
                )
            )
        ),
    ),
    Entry(
        "gram-view",
        "gram",
        "view instead of transpose",
        "Your Gram matrix multiplies with F.view(N, H*W, C) (or reshape), which reads the same numbers in "
        "another order and is not a transpose: use F.transpose(1, 2) or permute(0, 2, 1).",
        f"{STYLE}, gram_matrix",
        _gram("gram = F @ F.reshape(N, H * W, C)\nreturn gram / (C * H * W) if normalize else gram"),
    ),
    Entry(
        "gram-positions",
        "gram",
        "positions instead of channels",
        "Your Gram matrix is (N, H*W, H*W), so it compares positions with positions: compare channels, F @ "
        "F^T with F of shape (C, H*W).",
        f"{STYLE}, gram_matrix",
        _gram("gram = F.transpose(1, 2) @ F\nreturn gram / (C * H * W) if normalize else gram"),
    ),
    Entry(
        "gram-batch",
        "gram",
        "batch collapsed",
        "Your Gram matrix mixes the images of a batch (features.view(N*C, H*W), a sum over the batch, or "
        "the first image alone): every image has its own (C, C) matrix. Use a batched product.",
        f"{STYLE}, gram_matrix",
        _gram(
            "F = F.reshape(N * C, H * W)\ngram = F @ F.t()\nreturn gram / (C * H * W) if normalize else gram",
            "F = F.reshape(N * C, H * W)\ngram = F @ F.t()\nreturn gram / (N * C * H * W) if normalize else gram",
            "gram = torch.einsum('ncp,ndp->cd', F, F)\nreturn gram / (C * H * W) if normalize else gram".replace(
                "torch.einsum", "__import__('torch').einsum"
            ),
            "gram = (F @ F.transpose(1, 2))[0]\nreturn gram / (C * H * W) if normalize else gram",
            "gram = (F @ F.transpose(1, 2)).mean(dim=0, keepdim=True)\n"
            "return gram / (C * H * W) if normalize else gram",
            "F = F.transpose(0, 1).reshape(C, N * H * W)\ngram = (F @ F.t())[None]\n"
            "return gram / (C * H * W) if normalize else gram",
        ),
    ),
    Entry(
        "gram-squeezed",
        "gram",
        "batch dimension dropped",
        "Your Gram matrix of a single image has no batch dimension: return (1, C, C), without squeeze().",
        f"{STYLE}, gram_matrix",
        _gram("gram = (F @ F.transpose(1, 2)).squeeze()\nreturn gram / (C * H * W) if normalize else gram"),
    ),
    Entry(
        "gram-centred",
        "gram",
        "mean subtracted",
        "Your Gram matrix is a covariance, since the channels' means were subtracted: use the features as "
        "they are.",
        f"{STYLE}, gram_matrix",
        _gram(
            "F = F - F.mean(dim=2, keepdim=True)\ngram = F @ F.transpose(1, 2)\n"
            "return gram / (C * H * W) if normalize else gram"
        ),
    ),
    Entry(
        "gram-detached",
        "gram",
        "cut from the graph",
        "Your Gram matrix has the right values but no gradient: .data, .detach(), .item() or a new "
        "Variable cut it off, so the style loss cannot change the picture.",
        f"{STYLE}, gram_matrix",
        _gram(
            "F = F.detach()\ngram = F @ F.transpose(1, 2)\nreturn gram / (C * H * W) if normalize else gram"
        ),
    ),
]

ENTRIES = [
    Entry(
        "content-mean",
        "content",
        "mean instead of sum",
        "Your content loss is the mean of the squared differences (nn.MSELoss averages by default): take "
        "their sum.",
        f"{CONTENT}, forward",
        _content("return content_weight * (content_current - content_original).square().mean()"),
    ),
    Entry(
        "content-half",
        "content",
        "factor one half",
        "Your content loss has the factor 1/2 of the paper: the formula of the assignment has none.",
        f"{CONTENT}, forward",
        _content("return 0.5 * content_weight * (content_current - content_original).square().sum()"),
    ),
    Entry(
        "content-no-weight",
        "content",
        "weight missing",
        "Your content loss is not multiplied by content_weight.",
        f"{CONTENT}, forward",
        _content("return (content_current - content_original).square().sum()"),
    ),
    Entry(
        "content-weight-squared",
        "content",
        "weight squared",
        "Your content loss has the weight inside the square, so it counts twice: multiply after squaring.",
        f"{CONTENT}, forward",
        _content("return (content_weight * (content_current - content_original)).square().sum()"),
    ),
    Entry(
        "content-detached",
        "content",
        "no gradient",
        "Your content loss has the right value but no gradient: Variable(...), .data, .detach() or .item() "
        "cut it off, so the optimizer ignores it.",
        f"{CONTENT}, forward",
        _content(
            "return content_weight * (content_current.detach() - content_original).square().sum()",
            "return content_weight * (content_current - content_original).square().sum().item()",
            "from torch.autograd import Variable\n"
            "current = Variable(content_current.data, requires_grad=True)\n"
            "return content_weight * (current - content_original).square().sum()",
        ),
    ),
    Entry(
        "content-abs",
        "content",
        "absolute differences",
        "Your content loss sums absolute differences: square them.",
        f"{CONTENT}, forward",
        _content("return content_weight * (content_current - content_original).abs().sum()"),
    ),
    Entry(
        "content-square-of-sum",
        "content",
        "square of the sum",
        "Your content loss squares the sum of the differences, in which positive and negative ones cancel: square "
        "each difference first, then sum.",
        f"{CONTENT}, forward",
        _content(
            "return content_weight * (content_current - content_original).sum().square()",
            "return content_weight * (content_current.sum() - content_original.sum()) ** 2",
        ),
    ),
    Entry(
        "content-squares-first",
        "content",
        "difference of the squares",
        "Your content loss compares squared features: subtract first, then square the difference.",
        f"{CONTENT}, forward",
        _content(
            "return content_weight * (content_current.square() - content_original.square()).sum()",
            "return content_weight * (content_current.square() - content_original.square()).abs().sum()",
        ),
    ),
    Entry(
        "content-root",
        "content",
        "root of the sum",
        "Your content loss is the norm of the difference: take no square root of the sum of squares.",
        f"{CONTENT}, forward",
        _content("return content_weight * (content_current - content_original).norm()"),
    ),
    *GRAM_ENTRIES,
    Entry(
        "style-position",
        "style",
        "feats[i] instead of feats[style_layers[i]]",
        "Your style loss compares the wrong features: feats holds every layer of the network, so index it "
        "by style_layers[i], not by i.",
        f"{STYLE}, forward",
        _style("style_weights[i] * (self.gram_matrix(feats[i]) - style_targets[i]).square().sum()"),
    ),
    Entry(
        "style-weight-index",
        "style",
        "weights or targets indexed by layer",
        "Your style loss takes style_weights[layer] or style_targets[layer]: both are in the order of "
        "style_layers, so index them by the position i.",
        f"{STYLE}, forward",
        _style(
            "style_weights[layer] * (gram - style_targets[i]).square().sum()",
            "style_weights[i] * (gram - style_targets[layer]).square().sum()",
            "style_weights[layer] * (gram - style_targets[layer]).square().sum()",
        ),
    ),
    Entry(
        "style-overwrites",
        "style",
        "only the last layer counts",
        "Your style loss contains only the last style layer: the loop overwrites the loss instead of "
        "adding to it.",
        f"{STYLE}, forward",
        forms(_style_loop("loss = style_weights[i] * (gram - style_targets[i]).square().sum()")),
    ),
    Entry(
        "style-returns-early",
        "style",
        "only the first layer counts",
        "Your style loss contains only the first style layer: the return is inside the loop.",
        f"{STYLE}, forward",
        forms(_style_loop("return style_weights[i] * (gram - style_targets[i]).square().sum()")),
    ),
    Entry(
        "style-mean",
        "style",
        "mean instead of sum",
        "Your style loss averages, over the Gram matrix's entries (as nn.MSELoss does by default) or over "
        "the layers: sum over both.",
        f"{STYLE}, forward",
        forms(
            _style_loop("loss = loss + style_weights[i] * (gram - style_targets[i]).square().mean()"),
            _style_loop(
                "loss = loss + style_weights[i] * (gram - style_targets[i]).square().sum()",
                "return loss / len(style_layers)",
            ),
        ),
    ),
    Entry(
        "style-unnormalized",
        "style",
        "unnormalized Gram matrices",
        "Your style loss compares Gram matrices that are not divided by C*H*W with targets that are: call "
        "gram_matrix with normalize=True, its default.",
        f"{STYLE}, forward",
        _style(
            "style_weights[i] * (self.gram_matrix(feats[layer], normalize=False) - style_targets[i]).square().sum()"
        ),
    ),
    Entry(
        "style-no-weight",
        "style",
        "weights missing",
        "Your style loss does not multiply each layer's term by its weight.",
        f"{STYLE}, forward",
        _style("(gram - style_targets[i]).square().sum()"),
    ),
    Entry(
        "style-first-weight",
        "style",
        "one weight for all layers",
        "Your style loss multiplies every layer's term by the same weight: layer number i of style_layers has the "
        "weight style_weights[i].",
        f"{STYLE}, forward",
        _style(
            "style_weights[0] * (gram - style_targets[i]).square().sum()",
            "style_weights[-1] * (gram - style_targets[i]).square().sum()",
            "sum(style_weights) * (gram - style_targets[i]).square().sum()",
            "sum(style_weights) / len(style_weights) * (gram - style_targets[i]).square().sum()",
        ),
    ),
    Entry(
        "style-first-target",
        "style",
        "one target for all layers",
        "Your style loss compares every layer with the same target, or with that of another layer: layer number i of "
        "style_layers has the target style_targets[i].",
        f"{STYLE}, forward",
        _style(
            "style_weights[i] * (gram - style_targets[0]).square().sum()",
            "style_weights[i] * (gram - style_targets[len(style_layers) - 1 - i]).square().sum()",
        ),
    ),
    Entry(
        "style-square-of-sum",
        "style",
        "square of the sum",
        "Your style loss squares the sum of the differences, in which positive and negative ones cancel: square each "
        "difference first, then sum.",
        f"{STYLE}, forward",
        _style("style_weights[i] * (gram - style_targets[i]).sum().square()"),
    ),
    Entry(
        "style-weight-squared",
        "style",
        "weights squared",
        "Your style loss has the weight inside the square, so it counts twice: multiply after squaring.",
        f"{STYLE}, forward",
        _style("(style_weights[i] * (gram - style_targets[i])).square().sum()"),
    ),
    Entry(
        "style-detached",
        "style",
        "no gradient",
        "Your style loss has the right value but no gradient: Variable(...), .data, .detach() or .item() "
        "cut it off, so the optimizer ignores it.",
        f"{STYLE}, forward",
        _style(
            "style_weights[i] * (gram.detach() - style_targets[i]).square().sum()",
            "style_weights[i] * (gram - style_targets[i]).square().sum().item()",
        ),
    ),
    Entry(
        "style-abs",
        "style",
        "absolute differences",
        "Your style loss sums absolute differences of the Gram matrices: square them.",
        f"{STYLE}, forward",
        _style("style_weights[i] * (gram - style_targets[i]).abs().sum()"),
    ),
    Entry(
        "style-root",
        "style",
        "root of the sum",
        "Your style loss sums norms: take no square root of a layer's sum of squares.",
        f"{STYLE}, forward",
        _style("style_weights[i] * (gram - style_targets[i]).norm()"),
    ),
    Entry(
        "tv-abs",
        "tv",
        "absolute differences",
        "Your TV loss sums absolute differences of neighbours: square them.",
        f"{TV}, forward",
        _tv("return tv_weight * (down.abs().sum() + right.abs().sum())"),
    ),
    Entry(
        "tv-mean",
        "tv",
        "mean instead of sum",
        "Your TV loss averages the squared differences: sum them.",
        f"{TV}, forward",
        _tv(
            "return tv_weight * (down.square().mean() + right.square().mean())",
            "return tv_weight * (down.square().sum() + right.square().sum()) / img.numel()",
        ),
    ),
    Entry(
        "tv-one-direction",
        "tv",
        "one direction only",
        "Your TV loss compares neighbours in one direction only: compare each pixel with the one below and "
        "the one to the right.",
        f"{TV}, forward",
        _tv("return tv_weight * down.square().sum()", "return tv_weight * right.square().sum()"),
    ),
    Entry(
        "tv-direction-twice",
        "tv",
        "one direction counted twice",
        "Your TV loss counts the neighbours in one direction twice: the differences down and to the right count once "
        "each.",
        f"{TV}, forward",
        _tv(
            "return tv_weight * (2 * down.square().sum() + right.square().sum())",
            "return tv_weight * (down.square().sum() + 2 * right.square().sum())",
            "return tv_weight * (down.square().sum() + down.square().sum())",
            "return tv_weight * (right.square().sum() + right.square().sum())",
        ),
    ),
    Entry(
        "tv-square-of-sum",
        "tv",
        "square of the sum",
        "Your TV loss squares a sum of differences, in which positive and negative ones cancel: square each difference "
        "first, then sum.",
        f"{TV}, forward",
        _tv(
            "return tv_weight * (down.sum().square() + right.sum().square())",
            "return tv_weight * (down.sum() + right.sum()).square()",
            "return tv_weight * (down[..., :-1] + right[..., :-1, :]).square().sum()",
        ),
    ),
    Entry(
        "tv-weight-squared",
        "tv",
        "weight squared",
        "Your TV loss has the weight inside the square, so it counts twice: multiply after squaring.",
        f"{TV}, forward",
        _tv("return (tv_weight * down).square().sum() + (tv_weight * right).square().sum()"),
    ),
    Entry(
        "tv-weight-once",
        "tv",
        "weight in one direction only",
        "Your TV loss multiplies only one of its two sums by tv_weight: put brackets around both.",
        f"{TV}, forward",
        _tv(
            "return tv_weight * down.square().sum() + right.square().sum()",
            "return down.square().sum() + tv_weight * right.square().sum()",
        ),
    ),
    Entry(
        "tv-root",
        "tv",
        "square root",
        "Your TV loss takes a square root (the isotropic total variation, or the norm): the formula of the "
        "assignment is the sum of squares without a root.",
        f"{TV}, forward",
        _tv(
            "return tv_weight * (down[:, :, :, :-1].square() + right[:, :, :-1, :].square()).sqrt().sum()",
            "return tv_weight * (down.square().sum() + right.square().sum()).sqrt()",
            "return tv_weight * (down.norm() + right.norm())",
        ),
    ),
    Entry(
        "tv-wrap",
        "tv",
        "wraps around",
        "Your TV loss compares the last row with the first, or the last column with the first (torch.roll "
        "wraps around): compare true neighbours only.",
        f"{TV}, forward",
        _tv(
            "down, right = img.roll(1, 2) - img, img.roll(1, 3) - img\n"
            "return tv_weight * (down.square().sum() + right.square().sum())"
        ),
    ),
    Entry(
        "tv-cropped",
        "tv",
        "last row and column left out",
        "Your TV loss leaves out the last row and the last column: both differences were cut to the same "
        "size, H-1 by W-1.",
        f"{TV}, forward",
        _tv("return tv_weight * (down[:, :, :, :-1].square().sum() + right[:, :, :-1, :].square().sum())"),
    ),
    Entry(
        "tv-twice",
        "tv",
        "every pair counted twice",
        "Your TV loss counts every pair of neighbours twice (left and right, above and below): count each "
        "pair once.",
        f"{TV}, forward",
        _tv("return 2 * tv_weight * (down.square().sum() + right.square().sum())"),
    ),
    Entry(
        "tv-half",
        "tv",
        "factor one half",
        "Your TV loss has a factor 1/2: the formula has none.",
        f"{TV}, forward",
        _tv("return 0.5 * tv_weight * (down.square().sum() + right.square().sum())"),
    ),
    Entry(
        "tv-no-weight",
        "tv",
        "weight missing",
        "Your TV loss is not multiplied by tv_weight.",
        f"{TV}, forward",
        _tv("return down.square().sum() + right.square().sum()"),
    ),
    Entry(
        "tv-one-channel",
        "tv",
        "one colour channel only",
        "Your TV loss uses one colour channel only: sum over all three.",
        f"{TV}, forward",
        _tv("return tv_weight * (down[:, 0].square().sum() + right[:, 0].square().sum())"),
    ),
    Entry(
        "tv-detached",
        "tv",
        "no gradient",
        "Your TV loss has the right value but no gradient: Variable(...), .data, .detach() or .item() cut "
        "it off, so the optimizer ignores it.",
        f"{TV}, forward",
        _tv(
            "return tv_weight * (down.detach().square().sum() + right.detach().square().sum())",
            "return tv_weight * (down.square().sum() + right.square().sum()).item()",
            "from torch.autograd import Variable\n"
            "return Variable(tv_weight * (down.square().sum() + right.square().sum()).data, requires_grad=True)",
        ),
    ),
]
