"""Mistakes in Task 3, class model visualization."""

from grading.mistakes import Entry, Patch, forms

FILE = "visualizers/class_visualization.py"
WHERE = f"{FILE}, create_class_visualization"


def _step(
    objective: str = "score - l2_reg * img.square().sum()",
    score: str = "logits[0, target_y]",
    update: str = "img.data += learning_rate * g / g.norm()",
) -> Patch:
    lines = [
        "logits = model(img)",
        f"score = {score}",
        f"objective = {objective}",
        "g = torch.autograd.grad(objective, img)[0]",
        update,
    ]
    return Patch(FILE, "\n".join(lines), region=0)


def _accumulated(update: str) -> Patch:
    return Patch(
        FILE,
        f"""
        score = model(img)[0, target_y]
        (score - l2_reg * img.square().sum()).backward()
        g = img.grad
        {update}
        """,
        region=0,
    )


def _entry(id: str, title: str, sentence: str, *patches: Patch) -> Entry:
    return Entry(f"class-{id}", "class_visualization", title, sentence, WHERE, forms(*patches))


ENTRIES = [
    _entry(
        "descent",
        "descent instead of ascent",
        "Your class visualization goes downhill: add the step to the image, so that the score grows.",
        _step(update="img.data -= learning_rate * g / g.norm()"),
        _step(objective="-score + l2_reg * img.square().sum()"),
    ),
    _entry(
        "loss-ascent",
        "score's sign is wrong",
        "Your class visualization lowers the class's score: raise the score itself, not a loss and not the "
        "negative score.",
        _step(objective="-score - l2_reg * img.square().sum()"),
    ),
    _entry(
        "plus-l2",
        "regularizer added instead of subtracted",
        "Your class visualization adds the regularizer, which rewards large pixel values: the objective is "
        "s_y - l2_reg * ||I||^2.",
        _step(objective="score + l2_reg * img.square().sum()"),
    ),
    _entry(
        "norm-not-squared",
        "norm not squared",
        "Your class visualization regularizes with the norm of the image: use its square, the sum of "
        "squares (norm(...) ** 2).",
        _step(objective="score - l2_reg * img.norm()"),
    ),
    _entry(
        "half-l2",
        "regularizer half as strong",
        "Your class visualization has the regularizer at half its strength: the gradient of ||I||^2 is 2 I.",
        _step(objective="score - 0.5 * l2_reg * img.square().sum()"),
    ),
    _entry(
        "mean-l2",
        "mean of the squares",
        "Your class visualization divides the regularizer by the number of pixels: ||I||^2 is the sum of "
        "the squares, not their mean.",
        _step(objective="score - l2_reg * img.square().mean()"),
    ),
    _entry(
        "no-l2",
        "regularizer without effect",
        "Your class visualization follows only the score: the regularizer is missing, or it was cut from "
        "the graph (.data, .detach(), .item(), no_grad), so that its gradient is zero.",
        _step(objective="score - l2_reg * img.detach().square().sum()"),
        _step(objective="score - l2_reg * img.data.norm().item() ** 2"),
        _step(objective="score"),
    ),
    _entry(
        "not-normalized",
        "gradient not normalized",
        "Your class visualization steps along the raw gradient: divide it by its norm, so that the length "
        "of every step is the learning rate.",
        _step(update="img.data += learning_rate * g"),
    ),
    _entry(
        "squared-norm",
        "gradient divided by the square of its norm",
        "Your class visualization divides the gradient by its squared norm: divide it by its norm.",
        _step(update="img.data += learning_rate * g / g.square().sum()"),
    ),
    _entry(
        "unit-maximum",
        "gradient divided by its largest value",
        "Your class visualization divides the gradient by its largest value, or by its mean size: divide "
        "it by its norm, the root of the sum of squares.",
        _step(update="img.data += learning_rate * g / g.abs().max()"),
        _step(update="img.data += learning_rate * g / g.abs().mean()"),
        _step(update="img.data += learning_rate * g / g.std()"),
        _step(update="img.data += learning_rate * g / g.abs().sum()"),
    ),
    _entry(
        "l2-outside",
        "regularizer outside the normalized step",
        "Your class visualization normalizes the gradient of the score alone and adds the regularizer "
        "afterwards: divide the gradient of the whole objective by its norm.",
        *(
            _step(objective="score", update=f"img.data += learning_rate * g / g.norm() - {weight} * img.data")
            for weight in ("learning_rate * 2 * l2_reg", "2 * l2_reg", "learning_rate * l2_reg", "l2_reg")
        ),
        _step(objective="score", update="img.data += learning_rate * (g - l2_reg * img.data) / g.norm()"),
        _step(objective="score", update="img.data += learning_rate * (g - 2 * l2_reg * img.data) / g.norm()"),
    ),
    _entry(
        "not-zeroed",
        "gradient not zeroed",
        "Your class visualization takes a right first step and a wrong second one: backward() adds to "
        "img.grad. Set it to zero before each step.",
        _accumulated("img.data += learning_rate * g / g.norm()"),
    ),
    _entry(
        "sign-step",
        "sign of the gradient",
        "Your class visualization steps along the sign of the gradient: step along the gradient itself, divided by "
        "its norm.",
        _step(update="img.data += learning_rate * g.sign()"),
        _step(update="img.data += learning_rate * g.sign() / g.norm()"),
        _step(update="img.data += learning_rate * g.sign() / g.sign().norm()"),
    ),
    _entry(
        "clamped",
        "pixels clamped to [0, 1]",
        "Your class visualization clamps the image to [0, 1]: its pixels are normalized, so many are below 0. Leave "
        "the clamping to the line that is given.",
        _step(update="img.data += learning_rate * g / g.norm()\nimg.data.clamp_(0, 1)"),
        _step(update="img.data.clamp_(0, 1)\nimg.data += learning_rate * g / g.norm()"),
    ),
    _entry(
        "rate-changes",
        "learning rate changes",
        "Your class visualization takes a right first step, then steps of another length: learning_rate is the length "
        "of every step. Do not change it.",
        *(
            _step(update=f"img.data += learning_rate * g / g.norm()\nlearning_rate *= {factor}")
            for factor in (0.1, 0.5, 0.9, 0.95, 0.99)
        ),
        _step(update="img.data += learning_rate * g / g.norm() / (t + 1)"),
        _step(update="img.data += learning_rate * g / g.norm() * (1 - t / num_iterations)"),
    ),
    _entry(
        "two-steps",
        "two steps at once",
        "Your class visualization takes its step twice: add learning_rate * g / ||g|| to the image once in each "
        "iteration.",
        _step(update="img.data += learning_rate * g / g.norm()\nimg.data += learning_rate * g / g.norm()"),
    ),
    _entry(
        "no-step",
        "image never changed",
        "Your class visualization does not change the image: the step is computed, but img keeps its values "
        "(`img.data.add(...)` and `img.data + ...` make a new tensor). Write it into the image: img.data += ...",
        _step(update="img.data.add(learning_rate * g / g.norm())"),
        _step(update="step = img.data + learning_rate * g / g.norm()"),
    ),
    _entry(
        "softmax",
        "probability instead of score",
        "Your class visualization raises the class's probability, not its score: remove the softmax.",
        _step(score="logits.softmax(dim=1)[0, target_y]"),
        _step(score="logits.log_softmax(dim=1)[0, target_y]"),
    ),
    _entry(
        "argmax",
        "another class",
        "Your class visualization raises the score of the class that the network predicts, or of all "
        "classes: raise the score of target_y.",
        _step(score="logits.max()"),
        _step(score="logits.sum()"),
        _step(score="logits.mean()"),
    ),
]
