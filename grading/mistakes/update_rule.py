"""Mistakes in Task 7, the update rule of style transfer."""

from typing import Any

from grading.mistakes import Entry, Patch, forms

FILE = "style_utils.py"
WHERE = f"{FILE}, style_transfer"
DECAY = "if t == DECAY_AT:"
FIRST_ADAM = "optimizer = torch.optim.Adam([img], lr=RATE)"
NEW_ADAM = "optimizer = torch.optim.Adam([img], lr=DECAYED_RATE)"

CONTENT = "content_loss(content_weight, feats[content_layer], content_target)"
STYLE = "style_loss(feats, style_layers, style_targets, style_weights)"
TV = "tv_loss(img, tv_weight)"


def _loop(
    loss: str = f"{CONTENT} + {STYLE} + {TV}",
    before: str = "optimizer.zero_grad()",
    between: str = "",
    after: str = "",
) -> Patch:
    return Patch(
        FILE,
        f"{before}\nloss = {loss}\nloss.backward()\n{between}\noptimizer.step()\n{after}\n",
        region=0,
    )


def _entry(id: str, title: str, sentence: str, *patches: Patch | tuple[Patch, ...], **more: Any) -> Entry:
    return Entry(f"update-{id}", "update_rule", title, sentence, WHERE, forms(*patches), **more)


ENTRIES = [
    _entry(
        "no-zero-grad",
        "gradient not zeroed",
        "Your first step is right, and the second is wrong: backward() adds to img.grad, so the gradients "
        "of all steps add up. Call optimizer.zero_grad() before backward().",
        _loop(before=""),
    ),
    _entry(
        "zero-grad-late",
        "picture never changes",
        "Your picture never changes: zero_grad() comes between backward() and step(), or step() is "
        "missing, or no loss has a gradient.",
        _loop(before="", between="optimizer.zero_grad()"),
        Patch(FILE, f"optimizer.zero_grad()\nloss = {CONTENT} + {STYLE} + {TV}\nloss.backward()", region=0),
    ),
    _entry(
        "no-decay",
        "rate never lowered",
        "Your learning rate stays 3.0 to the end: set it to 0.1 from step 180 on.",
        Patch(FILE, "if t == STEPS:", text=DECAY),
    ),
    _entry(
        "decay-late",
        "rate lowered one step late",
        "Your learning rate is lowered one step late: step 180, counted from 0, is the first with rate "
        "0.1. Change it before that step's optimizer.step().",
        Patch(FILE, "if t == DECAY_AT + 1:", text=DECAY),
        (
            Patch(FILE, "if t == DECAY_AT + 1:", text=DECAY),
            Patch(FILE, "optimizer.param_groups[0]['lr'] = DECAYED_RATE", text=NEW_ADAM),
        ),
    ),
    _entry(
        "decay-early",
        "rate lowered one step early",
        "Your learning rate is lowered one step early: step 180, counted from 0, is the first with rate 0.1.",
        Patch(FILE, "if t == DECAY_AT - 1:", text=DECAY),
        (
            Patch(FILE, "if t == DECAY_AT - 1:", text=DECAY),
            Patch(FILE, "optimizer.param_groups[0]['lr'] = DECAYED_RATE", text=NEW_ADAM),
        ),
    ),
    _entry(
        "two-steps",
        "step() called twice",
        "Your picture takes two steps of the optimizer in each iteration: call optimizer.step() once.",
        _loop(after="optimizer.step()"),
    ),
    _entry(
        "low-rate",
        "rate 0.1 from the start",
        "Your learning rate is 0.1 from the start: use 3.0 for the first 180 steps.",
        Patch(
            FILE,
            "optimizer = torch.optim.Adam([img], lr=DECAYED_RATE)",
            text=FIRST_ADAM,
        ),
    ),
    _entry(
        "geometric-decay",
        "rate lowered again and again",
        "Your learning rate is multiplied by a factor again and again: it is 3.0 for the first 180 steps, "
        "then 0.1.",
        (
            Patch(FILE, "if t == STEPS:", text=DECAY),
            _loop(after="if t >= DECAY_AT - 1:\n    optimizer.param_groups[0]['lr'] *= 0.1"),
        ),
        (
            Patch(FILE, "if t == STEPS:", text=DECAY),
            _loop(between="if t >= DECAY_AT:\n    optimizer.param_groups[0]['lr'] *= DECAYED_RATE"),
        ),
        (
            Patch(FILE, "if t == STEPS:", text=DECAY),
            _loop(after="optimizer.param_groups[0]['lr'] *= DECAYED_RATE"),
        ),
        (
            Patch(FILE, "if t == STEPS:", text=DECAY),
            _loop(after="optimizer.param_groups[0]['lr'] *= (DECAYED_RATE / RATE) ** (1 / STEPS)"),
        ),
        (
            Patch(FILE, "if t == STEPS:", text=DECAY),
            _loop(after="optimizer.param_groups[0]['lr'] *= (DECAYED_RATE / RATE) ** (1 / DECAY_AT)"),
        ),
        *(_loop(after=f"optimizer.param_groups[0]['lr'] *= {factor}") for factor in (0.9, 0.95, 0.99, 0.999)),
        _loop(between="optimizer.param_groups[0]['lr'] *= DECAYED_RATE"),
        _loop(between="optimizer.param_groups[0]['lr'] *= 0.99"),
    ),
    _entry(
        "relative-decay",
        "rate multiplied instead of set",
        "Your learning rate is multiplied by 0.1 at step 180, which gives 0.3: set it to 0.1.",
        Patch(FILE, "optimizer = torch.optim.Adam([img], lr=RATE * DECAYED_RATE)", text=NEW_ADAM),
        Patch(FILE, "optimizer.param_groups[0]['lr'] *= DECAYED_RATE", text=NEW_ADAM),
    ),
    _entry(
        "adam-anew",
        "a new Adam at every step",
        "You make a new Adam at each step from 180 on, or at every step: its running averages start from "
        "zero each time, so every pixel moves by the full rate. Make it once.",
        Patch(FILE, "if t >= DECAY_AT:", text=DECAY),
        _loop(
            before="optimizer = torch.optim.Adam([img], lr=RATE if t < DECAY_AT else DECAYED_RATE)\nimg.grad = None"
        ),
    ),
    _entry(
        "keeps-averages",
        "the same Adam with a lower rate",
        "You lower the rate of the same Adam.",
        Patch(FILE, "optimizer.param_groups[0]['lr'] = DECAYED_RATE", text=NEW_ADAM),
        accepted=True,
    ),
    _entry(
        "sgd",
        "another optimizer",
        "You optimize with plain gradient descent: use Adam.",
        (
            Patch(
                FILE,
                "optimizer = torch.optim.SGD([img], lr=RATE)",
                text=FIRST_ADAM,
            ),
            Patch(FILE, "optimizer = torch.optim.SGD([img], lr=DECAYED_RATE)", text=NEW_ADAM),
        ),
    ),
    _entry(
        "no-tv",
        "total variation left out",
        "Your total loss has no total variation, or only its value without its gradient: add tv_loss(img, "
        "tv_weight).",
        _loop(f"{CONTENT} + {STYLE}"),
        _loop(f"{CONTENT} + {STYLE} + {TV}.detach()"),
    ),
    _entry(
        "no-content",
        "content loss left out",
        "Your total loss has no content loss, or one that compares the picture with itself: add the content loss "
        "of the picture and the content image.",
        _loop(f"{STYLE} + {TV}"),
        _loop(f"content_loss(content_weight, feats[content_layer], feats[content_layer]) + {STYLE} + {TV}"),
    ),
    _entry(
        "no-style",
        "style loss left out",
        "Your total loss has no style loss: add it.",
        _loop(f"{CONTENT} + {TV}"),
    ),
    _entry(
        "content-tensor",
        "wrong tensor in the content loss",
        "Your content loss gets a wrong tensor: give it the picture's features at content_layer, then the "
        "content image's at the same layer.",
        _loop(f"content_loss(content_weight, feats[-1], content_target) + {STYLE} + {TV}"),
        _loop(f"content_loss(content_weight, feats[style_layers[0]], content_target) + {STYLE} + {TV}"),
    ),
    _entry(
        "tv-tensor",
        "wrong tensor in the total variation",
        "Your total variation gets a wrong tensor: give it the picture itself, img, not features and not "
        "the content image.",
        _loop(f"{CONTENT} + {STYLE} + tv_loss(feats[content_layer], tv_weight)"),
        _loop(f"{CONTENT} + {STYLE} + tv_loss(feats[-1], tv_weight)"),
        _loop(f"{CONTENT} + {STYLE} + tv_loss(feats[style_layers[0]], tv_weight)"),
        _loop(f"{CONTENT} + {STYLE} + tv_loss(feats[0], tv_weight)"),
    ),
    _entry(
        "style-tensor",
        "wrong features in the style loss",
        "Your style loss gets features already picked out, or in another order: give it the whole list "
        "feats. It picks by style_layers itself.",
        _loop(
            f"{CONTENT} + style_loss([feats[i] for i in style_layers], range(len(style_layers)), style_targets, "
            f"style_weights[::-1]) + {TV}"
        ),
        _loop(f"{CONTENT} + style_loss(feats, style_layers, style_targets[::-1], style_weights) + {TV}"),
    ),
    _entry(
        "extra-weights",
        "weights applied twice",
        "Your total loss multiplies by the weights once more: content_loss, style_loss and tv_loss already "
        "contain them.",
        _loop(f"content_weight * {CONTENT} + {STYLE} + {TV}"),
        _loop(f"{CONTENT} + {STYLE} + tv_weight * {TV}"),
        _loop(f"content_weight * {CONTENT} + {STYLE} + tv_weight * {TV}"),
        _loop(f"content_weight * {CONTENT} + sum(style_weights) * {STYLE} + tv_weight * {TV}"),
        _loop(f"{CONTENT} + sum(style_weights) * {STYLE} + {TV}"),
    ),
    _entry(
        "ascent",
        "loss raised",
        "Your picture moves up the loss instead of down: step() already follows minus the gradient, so "
        "remove the minus sign.",
        _loop(f"-({CONTENT} + {STYLE} + {TV})"),
    ),
]
