"""Mistakes in Task 2, Grad-CAM and guided backpropagation."""

from grading.mistakes import Entry, Patch, forms

FILE = "visualizers/gradcam.py"
LAYER = "layer = layer or last_map_layer(gc_model, X)"
SCALED = "return scaled_heatmaps(cam, X.shape[2:])"


def _steps(
    score: str = "scores.sum()",
    alpha: str = "gradients.mean(dim=(2, 3), keepdim=True)",
    cam: str = "F.relu((alpha * activations).sum(dim=1, keepdim=True))",
) -> Patch:
    return Patch(
        FILE,
        f"""
        logits = gc_model(X)
        scores, activations = logits.gather(1, y[:, None]), outputs[layer]
        (gradients,) = torch.autograd.grad({score}, activations)
        alpha = {alpha}
        cam = {cam}
        """,
        region=1,
    )


def _layer(name: str) -> Patch:
    return Patch(FILE, f'layer = "{name}"', text=LAYER)


def _heatmap(scale: str, size: str = "X.shape[2:]", mode: str = "bilinear", corners: str = "False") -> Patch:
    resize = f'F.interpolate(cam.detach().float(), size={size}, mode="{mode}", align_corners={corners})'
    return Patch(FILE, f"cam = {resize}[:, 0]; {scale}", text=SCALED)


RIGHT_SCALE = (
    "peak = cam.amax(dim=(1, 2), keepdim=True); "
    "return torch.where(peak > 0, cam / peak, torch.zeros_like(cam)).numpy()"
)
MIN_MAX = (
    "cam = cam - cam.amin(dim=(1, 2), keepdim=True); peak = cam.amax(dim=(1, 2), keepdim=True); "
    "return torch.where(peak > 0, cam / peak, torch.zeros_like(cam)).numpy()"
)


def _guided(expression: str, score: str = "scores.sum()") -> Patch:
    return Patch(
        FILE,
        f"""
        logits = gc_model(X)
        scores = logits.gather(1, y[:, None])
        (gradient,) = torch.autograd.grad({score}, X)
        guided = {expression}
        """,
        region=2,
    )


def _entry(id: str, title: str, sentence: str, *patches: Patch | tuple[Patch, ...]) -> Entry:
    operation = "guided_backprop" if id.startswith("guided") else "grad_cam"
    return Entry(f"gradcam-{id}", operation, title, sentence, f"{FILE}, {operation}", forms(*patches))


ENTRIES = [
    _entry(
        "softmax",
        "probability instead of score",
        "Your Grad-CAM is computed from the class's probability, not from its score: remove the softmax "
        "and differentiate the raw score.",
        _steps(score="logits.softmax(dim=1).gather(1, y[:, None]).sum()"),
        _steps(score="logits.log_softmax(dim=1).gather(1, y[:, None]).sum()"),
    ),
    _entry(
        "argmax",
        "predicted class instead of y",
        "Your Grad-CAM explains the class that the network predicts: explain the class y that is given.",
        _steps(score="logits.max(dim=1).values.sum()"),
    ),
    _entry(
        "cross-terms",
        "scores[:, y] pairs every image with every class",
        "Your Grad-CAM adds up every class in y for every image: logits[:, y] is an (N, N) matrix of all pairs. "
        "Use gather.",
        _steps(score="logits[:, y].sum()"),
    ),
    _entry(
        "no-pooling",
        "gradients not pooled",
        "Your Grad-CAM multiplies activations and gradients position by position: first average each "
        "channel's gradient over all positions. This mean, alpha_k, is the weight of the whole map.",
        _steps(alpha="gradients"),
    ),
    _entry(
        "no-relu",
        "no ReLU on the sum",
        "Your Grad-CAM keeps evidence against the class: apply a ReLU to the weighted sum over channels "
        "before scaling.",
        _steps(cam="(alpha * activations).sum(dim=1, keepdim=True)"),
        (_steps(cam="(alpha * activations).sum(dim=1, keepdim=True)"), _heatmap(MIN_MAX)),
    ),
    _entry(
        "abs",
        "absolute value instead of ReLU",
        "Your Grad-CAM shows evidence against the class as evidence for it: use a ReLU instead of the "
        "absolute value.",
        _steps(cam="(alpha * activations).sum(dim=1, keepdim=True).abs()"),
    ),
    _entry(
        "relu-weights",
        "ReLU on the weights",
        "Your Grad-CAM drops the channels with negative weights: apply the ReLU to the weighted sum over "
        "channels, not to the weights or gradients before it.",
        _steps(alpha="F.relu(gradients.mean(dim=(2, 3), keepdim=True))"),
        _steps(alpha="F.relu(gradients).mean(dim=(2, 3), keepdim=True)"),
        _steps(cam="F.relu(alpha * activations).sum(dim=1, keepdim=True)"),
    ),
    _entry(
        "max-pooling",
        "largest gradient instead of mean",
        "Your Grad-CAM weights each channel by its largest gradient: alpha_k is the mean of the gradient over all "
        "positions.",
        _steps(alpha="gradients.amax(dim=(2, 3), keepdim=True)"),
        _steps(alpha="F.adaptive_max_pool2d(gradients, 1)"),
    ),
    _entry(
        "abs-weights",
        "absolute value of the weights",
        "Your Grad-CAM takes the absolute value of the gradients or of alpha: a channel that speaks against the class "
        "must keep its negative weight.",
        _steps(alpha="gradients.mean(dim=(2, 3), keepdim=True).abs()"),
        _steps(alpha="gradients.abs().mean(dim=(2, 3), keepdim=True)"),
    ),
    _entry(
        "one-branch",
        "hook on one branch of the last block",
        "Your Grad-CAM sees only half of the last block's channels: the hook is on one of its two expand "
        "branches. Put it on the whole block, features[12], whose output joins both.",
        _layer("features.12.expand3x3_activation"),
        _layer("features.12.expand1x1_activation"),
        _layer("features.12.expand3x3"),
        _layer("features.12.expand1x1"),
    ),
    _entry(
        "layer",
        "wrong layer",
        "Your Grad-CAM uses another layer than the last one of the network's features: earlier layers know "
        "less about classes, and the classifier's maps are already scores.",
        *(_layer(name) for name in ("features.11", "features.10", "features.9", "features.7", "features.4")),
        *(_layer(name) for name in ("features.12.squeeze", "features.0", "classifier.1", "classifier.2")),
    ),
    _entry(
        "first-activations",
        "always the first image's activations",
        "Your Grad-CAM uses the first image's activations for every image of the batch: activations[0], or "
        "a hook that keeps only one image, loses the others.",
        _steps(cam="F.relu((alpha * activations[:1]).sum(dim=1, keepdim=True))"),
    ),
    _entry(
        "first-weights",
        "always the first image's weights",
        "Your Grad-CAM uses the same channel weights for every image of the batch: gradients[0], or a mean "
        "over the batch dimension, loses the other images' weights.",
        _steps(alpha="gradients[:1].mean(dim=(2, 3), keepdim=True)"),
        _steps(alpha="gradients.mean(dim=(0, 2, 3), keepdim=True)"),
    ),
    _entry(
        "flat-nan",
        "NaN where there is no evidence",
        "Your Grad-CAM is NaN for an image without positive evidence: its maximum is 0, and 0/0 is NaN. "
        "Return a map of zeros there.",
        _heatmap("return (cam / cam.amax(dim=(1, 2), keepdim=True)).numpy()"),
    ),
    _entry(
        "batch-scaling",
        "scaled over the whole batch",
        "Your Grad-CAM divides all maps of a batch by one maximum, so a map depends on the other images: "
        "divide each map by its own maximum.",
        _heatmap("return (cam / cam.max().clamp(min=1e-12)).numpy()"),
        _heatmap("cam = cam - cam.min(); return (cam / cam.max().clamp(min=1e-12)).numpy()"),
    ),
    _entry(
        "not-scaled",
        "not scaled",
        "Your Grad-CAM is right except for its scale: divide each image's map by its own maximum, so that "
        "it lies in [0, 1].",
        _heatmap("return cam.numpy()"),
    ),
    _entry(
        "min-max",
        "minimum subtracted",
        "Your Grad-CAM subtracts each map's smallest value before scaling: only divide by the maximum. "
        "Zero, no evidence, must stay zero.",
        _heatmap(MIN_MAX),
    ),
    _entry(
        "swapped",
        "height and width swapped",
        "Your Grad-CAM has height and width swapped: Pillow's resize takes (width, height), tensors are "
        "(H, W).",
        _heatmap(RIGHT_SCALE, size="(X.shape[3], X.shape[2])"),
        _heatmap(
            RIGHT_SCALE.replace("return ", "cam = cam.transpose(1, 2); peak = peak.transpose(1, 2); return ")
        ),
    ),
    _entry(
        "resize",
        "resized in another way",
        "Your Grad-CAM has the right values at the layer, but is resized in another way: use bilinear "
        "interpolation with align_corners=False.",
        _heatmap(RIGHT_SCALE, corners="True"),
        _heatmap("cam = cam.clamp(min=0); " + RIGHT_SCALE, mode="bicubic"),
        _heatmap(RIGHT_SCALE, mode="nearest", corners="None"),
    ),
    _entry(
        "guided-plain",
        "the ReLU's ordinary gradient",
        "Your guided backpropagation is an ordinary gradient: the backward pass of each ReLU must also set "
        "negative gradients to zero.",
        Patch(FILE, "return gradient * (x > 0)", region=0),
    ),
    _entry(
        "guided-deconvnet",
        "sign of the ReLU's input ignored",
        "Your guided backpropagation lets gradients pass where the ReLU's input was negative (the rule of "
        "the deconvolutional network): let a gradient pass only where it is positive and the input was "
        "positive, too.",
        Patch(FILE, "return gradient.clamp(min=0)", region=0),
    ),
    _entry(
        "guided-inverted",
        "mask inverted",
        "Your guided backpropagation keeps what it should remove: a comparison in the ReLU's backward pass points the "
        "wrong way. Keep the gradient where it is positive and the input was positive, too; set the rest to zero.",
        Patch(FILE, "return gradient.clamp(max=0) * (x > 0)", region=0),
        Patch(FILE, "return gradient.clamp(min=0) * (x <= 0)", region=0),
        Patch(FILE, "return gradient.clamp(max=0) * (x <= 0)", region=0),
    ),
    _entry(
        "guided-stale",
        "gradient of the previous call is still there",
        "Your first guided backpropagation is right, and the second, of the same images, is wrong: X.grad still holds "
        "the gradient of the first call, and backward() adds to it. Clear it, or work on X_tensor.detach().clone().",
        Patch(
            FILE,
            """
            def guided_backprop(self, X_tensor, y_tensor, gc_model):
                X = X_tensor.requires_grad_()
                with frozen_eval(gc_model), ReplaceReLU(GuidedReLU.apply):
                    gc_model(X).gather(1, y_tensor[:, None]).sum().backward()
                return X.grad.permute(0, 2, 3, 1).detach().numpy()
            """,
            function="GradCam.guided_backprop",
        ),
    ),
    _entry(
        "guided-cross-terms",
        "scores[:, y] pairs every image with every class",
        "Your guided backpropagation adds up every class in y for every image: logits[:, y] is an (N, N) matrix of "
        "all pairs. Use gather.",
        _guided("gradient.permute(0, 2, 3, 1)", score="logits[:, y].sum()"),
    ),
    _entry(
        "guided-abs",
        "absolute value",
        "Your guided backpropagation has lost the gradient's sign: take no absolute value and do not clamp "
        "at the end.",
        _guided("gradient.permute(0, 2, 3, 1).abs()"),
        _guided("gradient.permute(0, 2, 3, 1).clamp(min=0)"),
    ),
    _entry(
        "guided-channels-first",
        "channels not last",
        "Your guided backpropagation has shape (N, 3, H, W): return (N, H, W, 3), with permute(0, 2, 3, 1).",
        _guided("gradient"),
    ),
    _entry(
        "guided-reshape",
        "reshape instead of permute",
        "Your guided backpropagation has the right shape, but its pixels are scrambled: reshape and view "
        "read the same numbers in another order. Use permute(0, 2, 3, 1).",
        _guided("gradient.reshape(len(X), *X.shape[2:], 3)"),
    ),
    _entry(
        "guided-swapped",
        "height and width swapped",
        "Your guided backpropagation has height and width swapped: permute(0, 2, 3, 1) keeps their order.",
        _guided("gradient.permute(0, 3, 2, 1)"),
    ),
    _entry(
        "guided-softmax",
        "probability instead of score",
        "Your guided backpropagation is computed from the class's probability, not from its score: remove "
        "the softmax.",
        _guided("gradient.permute(0, 2, 3, 1)", score="logits.softmax(dim=1).gather(1, y[:, None]).sum()"),
    ),
    _entry(
        "guided-argmax",
        "predicted class instead of y",
        "Your guided backpropagation explains the class that the network predicts: explain the class y "
        "that is given.",
        _guided("gradient.permute(0, 2, 3, 1)", score="logits.max(dim=1).values.sum()"),
    ),
]
