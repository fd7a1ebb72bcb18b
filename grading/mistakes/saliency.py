"""Mistakes in Task 1, saliency maps."""

from grading.mistakes import Entry, Patch, forms

FILE = "visualizers/saliency_map.py"
WHERE = f"{FILE}, compute_saliency_maps"


def _score(expression: str) -> Patch:
    """The solution with another scalar to differentiate."""
    return Patch(
        FILE,
        f"""
        import torch.nn.functional as F
        scores = model(X)
        (gradient,) = torch.autograd.grad({expression}, X)
        saliency = gradient.abs().amax(dim=1)
        """,
        region=0,
    )


def _reduce(expression: str) -> Patch:
    """The solution with another map made from the gradient (N, 3, H, W)."""
    return Patch(
        FILE,
        f"""
        scores = model(X).gather(1, y[:, None])
        (gradient,) = torch.autograd.grad(scores.sum(), X)
        saliency = {expression}
        """,
        region=0,
    )


def _entry(id: str, title: str, sentence: str, *patches: Patch) -> Entry:
    return Entry(f"saliency-{id}", "saliency", title, sentence, WHERE, forms(*patches))


ENTRIES = [
    _entry(
        "softmax",
        "probability instead of score",
        "Your saliency map is computed from the class's probability, not from its score: remove the "
        "softmax. With it, evidence for other classes is mixed in, and the map of a confident network is "
        "almost empty.",
        _score("scores.softmax(dim=1).gather(1, y[:, None]).sum()"),
    ),
    _entry(
        "log-softmax",
        "log-probability instead of score",
        "Your saliency map is computed from the logarithm of the class's probability (log_softmax, or a "
        "cross-entropy summed over the batch, which is its negative): differentiate the raw score instead.",
        _score("F.log_softmax(scores, dim=1).gather(1, y[:, None]).sum()"),
        _score("F.cross_entropy(scores, y, reduction='sum')"),
    ),
    _entry(
        "cross-entropy",
        "cross-entropy instead of score",
        "Your saliency map is computed from the cross-entropy loss, averaged over the batch: differentiate "
        "the raw score of the class, with no loss function and no division by N.",
        _score("F.cross_entropy(scores, y)"),
        _score("torch.nn.CrossEntropyLoss()(scores, y)"),
    ),
    _entry(
        "argmax",
        "predicted class instead of y",
        "Your saliency map explains the class that the network predicts (an argmax or max over the "
        "scores): explain the class y that is given.",
        _score("scores.max(dim=1).values.sum()"),
        _score("scores.gather(1, scores.argmax(dim=1)[:, None]).sum()"),
    ),
    _entry(
        "all-classes",
        "sum of all classes",
        "Your saliency map is computed from the sum of all classes' scores, and y is never used: pick "
        "score y[n] of image n before you sum.",
        _score("scores.sum()"),
    ),
    _entry(
        "no-abs",
        "absolute value missing",
        "Your saliency map keeps the gradient's sign: take the absolute value. A pixel that lowers the "
        "score matters as much as one that raises it.",
        _reduce("gradient.amax(dim=1)"),
    ),
    _entry(
        "abs-after-max",
        "absolute value after the maximum",
        "Your saliency map takes the maximum over channels first and the absolute value after it, so a "
        "large negative gradient is lost: first the absolute value, then the maximum.",
        _reduce("gradient.amax(dim=1).abs()"),
    ),
    _entry(
        "relu-before-max",
        "negative gradients cut off",
        "Your saliency map sets negative gradients to zero: take their absolute value instead.",
        _reduce("gradient.clamp(min=0).amax(dim=1)"),
    ),
    _entry(
        "mean-channels",
        "mean over channels",
        "Your saliency map is the mean of the absolute gradient over the three colour channels: take the "
        "maximum.",
        _reduce("gradient.abs().mean(dim=1)"),
    ),
    _entry(
        "sum-channels",
        "sum over channels",
        "Your saliency map is the sum of the absolute gradient over the three colour channels: take the "
        "maximum.",
        _reduce("gradient.abs().sum(dim=1)"),
    ),
    _entry(
        "norm-channels",
        "norm over channels",
        "Your saliency map is the norm of the gradient over the three colour channels (the root of the sum "
        "of squares): take the largest absolute value.",
        _reduce("gradient.norm(dim=1)"),
    ),
    _entry(
        "scaled",
        "scaled to 1",
        "Your saliency map is divided by its largest value: return the gradient as it is. Scaling is for "
        "drawing only.",
        _reduce("gradient.abs().amax(dim=1); saliency = saliency / saliency.amax(dim=(1, 2), keepdim=True)"),
        _reduce("gradient.abs().amax(dim=1); saliency = saliency / saliency.max()"),
    ),
    _entry(
        "min-max",
        "scaled from minimum to maximum",
        "Your saliency map has its smallest value subtracted and is divided by its range: return the gradient as it "
        "is. Scaling is for drawing only.",
        *(
            _reduce(
                "gradient.abs().amax(dim=1); "
                f"low, high = saliency.amin({dims}), saliency.amax({dims}); "
                "saliency = (saliency - low) / (high - low)"
            )
            for dims in ("dim=(1, 2), keepdim=True", "")
        ),
    ),
    _entry(
        "indices",
        "indices instead of values",
        "Your saliency map says which channel has the largest gradient, not how large it is: max(dim=1) returns "
        "(values, indices). Take [0], the values.",
        _reduce("gradient.abs().max(dim=1)[1]"),
        _reduce("gradient.max(dim=1)[1]"),
    ),
    _entry(
        "times-input",
        "gradient times input",
        "Your saliency map is the gradient multiplied by the image: return the absolute gradient alone.",
        _reduce("(gradient * X).abs().amax(dim=1)"),
        _reduce("(gradient * X).abs().sum(dim=1)"),
        _reduce("(gradient * X).sum(dim=1).abs()"),
        _reduce("(gradient.abs() * X).amax(dim=1)"),
        _reduce("(gradient * X).amax(dim=1)"),
    ),
    _entry(
        "squared",
        "square instead of absolute value",
        "Your saliency map is the largest squared gradient: take the absolute value, not the square.",
        _reduce("gradient.square().amax(dim=1)"),
        _reduce("gradient.square().sum(dim=1)"),
    ),
    _entry(
        "cross-terms",
        "scores[:, y] pairs every image with every class",
        "Your saliency map adds up every class in y for every image: scores[:, y] is an (N, N) matrix of "
        "all pairs. Use scores.gather(1, y.view(-1, 1)) or scores[range(N), y].",
        _score("scores[:, y].sum()"),
    ),
    _entry(
        "batch-size",
        "batch size hard-coded",
        "Your saliency code works only for a batch of five images: a batch size of 5 is written into it. "
        "Take N from X.shape[0] or len(y).",
        _score("scores.gather(1, y.view(5, 1)).sum()"),
        _score("scores[torch.arange(5), y].sum()"),
    ),
    _entry(
        "first-image",
        "only the first image",
        "Your saliency maps are zero except for the first image: only its score was differentiated. Sum "
        "the scores of all N images before the backward pass.",
        _score("scores[0, y[0]]"),
    ),
    _entry(
        "batch-mean",
        "mean over the batch",
        "Your saliency maps are divided by the batch size: the scores of the N images were averaged before "
        "the backward pass. Sum them.",
        _score("scores.gather(1, y[:, None]).mean()"),
    ),
    _entry(
        "stale",
        "gradient of the previous call is still there",
        "Your first saliency map is right, and the second, of the same images, is wrong: X.grad still "
        "holds the gradient of the first call, and backward() adds to it. Clear it, or work on "
        "X.detach().clone().",
        Patch(
            FILE,
            """
            def compute_saliency_maps(self, X, y, model):
                X.requires_grad_()
                model(X).gather(1, y[:, None]).sum().backward()
                return X.grad.abs().amax(dim=1)
            """,
            function="SaliencyMap.compute_saliency_maps",
        ),
    ),
    _entry(
        "squeeze",
        "squeeze() drops a batch of one",
        "Your saliency map of a single image has no batch dimension: squeeze() without a dim removes every "
        "dimension of length 1. Return (1, H, W), and name the dimension to squeeze.",
        _reduce("gradient.abs().amax(dim=1, keepdim=True).squeeze()"),
    ),
    _entry(
        "detached",
        "zero map",
        "Your saliency map is zero everywhere: no gradient reaches the images.",
        _reduce("torch.zeros_like(gradient).amax(dim=1)"),
    ),
]
