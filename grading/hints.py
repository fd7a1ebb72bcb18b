"""What an error message means, and what to do about it: a table of patterns, each with one or two plain sentences.

The message of Python or PyTorch says what happened. It seldom says why: that `.grad` is None because nobody called
backward, or that the judge reads only seven files. Used beside student code, so it knows no answer and imports little.
"""

import contextlib
import linecache
import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Operation -> the graded file, and the call that the judge makes.
CALLS = {
    "saliency": ("visualizers/saliency_map.py", "SaliencyMap().compute_saliency_maps(X, y, model)"),
    "grad_cam": ("visualizers/gradcam.py", "GradCam().grad_cam(X, y, model)"),
    "guided_backprop": ("visualizers/gradcam.py", "GradCam().guided_backprop(X, y, model)"),
    "class_visualization": (
        "visualizers/class_visualization.py",
        "ClassVisualization().create_class_visualization(target_y, class_names, model, dtype, l2_reg=..., "
        "learning_rate=..., num_iterations=..., max_jitter=..., show_every=..., generate_plots=False)",
    ),
    "content": (
        "style_modules/content_loss.py",
        "ContentLoss()(content_weight, content_current, content_original), which runs forward",
    ),
    "gram": ("style_modules/style_loss.py", "StyleLoss().gram_matrix(features, normalize=False)"),
    "style": (
        "style_modules/style_loss.py",
        "StyleLoss()(feats, style_layers, style_targets, style_weights), which runs forward",
    ),
    "tv": ("style_modules/tv_loss.py", "TotalVariationLoss()(img, tv_weight), which runs forward"),
    "update_rule": ("style_utils.py", "style_transfer(name=..., ..., cnn=..., dtype=..., testing=True)"),
}
# Not a student's, although they lie beside the graded files.
OURS = (
    "grading/",
    "helpers/",
    "visualizers/mechanisms.py",
    "visualizers/__init__.py",
    "style_modules/__init__.py",
)
LIBRARIES = "torch, torchvision, numpy, scipy, matplotlib, PIL and tqdm"
# Others that students may have; the judge has none of them.
ABSENT = (
    *(
        "cv2",
        "sklearn",
        "pandas",
        "seaborn",
        "tensorflow",
        "keras",
        "jax",
        "captum",
        "kornia",
        "timm",
        "einops",
    ),
    *("torchaudio", "torchsummary", "torchinfo", "plotly", "IPython"),
)
ONLY_SEVEN = (
    "Only the seven graded files are read; beside them are our helpers/ and visualizers/mechanisms.py"
)


@dataclass(frozen=True)
class Hint:
    """`advice` for errors whose "Type: message" contains `error`, raised on a line of code that contains `code`.

    Both are regular expressions; {0}, {1}, ... in the advice are the groups of `error`, {call} is the judge's call.
    inside: only if the error was raised in student code (True), or by the judge's own call of it (False).
    """

    error: str
    advice: str
    code: str = ""
    inside: bool | None = None


# The first that fits counts.
HINTS = (
    # Imports.
    Hint(
        r"circular import",
        "Two files import each other. Move one of the imports into the function that needs it.",
    ),
    Hint(
        r"No module named '((?:visualizers|style_modules)\.\w+|style_utils)'",
        "{0} is not among your graded files. Is the file missing, or does it have another name?",
    ),
    Hint(
        r"No module named '(extras|grading|tests|report|benchmarks|page|docs)\b",
        ONLY_SEVEN + ". {0} is not there: your solution does not need it.",
    ),
    Hint(
        rf"No module named '({'|'.join(ABSENT)})\b",
        "{0} is not there when your work is graded. Use only " + LIBRARIES + ".",
    ),
    Hint(
        r"No module named '([\w.]+)'",
        ONLY_SEVEN + ", and " + LIBRARIES + ". Copy what you need from {0} into this file.",
    ),
    Hint(
        r"cannot import name '(\w+)' from '((?:helpers|visualizers\.mechanisms)[\w.]*)'",
        "The judge uses our own {1}, without your changes. Write {0} into this file.",
    ),
    Hint(r"cannot import name '(\w+)' from '([\w.]+)'", "{1} has no {0}: check the spelling."),
    # Syntax.
    Hint(r"^TabError", "Tabs and spaces are mixed. Indent with four spaces only."),
    Hint(
        r"expected an indented block",
        "The block above this line is empty: write its code, indented by four more spaces.",
    ),
    Hint(
        r"^IndentationError",
        "The lines of a block must start in the same column. Indent with four spaces for each level.",
    ),
    Hint(
        r"^SyntaxError",
        "Python cannot read this line. Look at it and at the line above: a bracket, quote, comma or colon.",
    ),
    # Names and parameters that the judge calls.
    Hint(
        r"module '[\w.]+' has no attribute '(\w+)'",
        "The judge calls {call}. There is no {0}: use exactly this name.",
        inside=False,
    ),
    Hint(
        r"'(\w+)' object has no attribute '(\w+)'",
        "The judge calls {call}. {0} has no {1}: use exactly this name.",
        inside=False,
    ),
    Hint(
        r"missing the required .forward. function",
        "The judge calls {call}. The class has no method of this name: use exactly the name forward.",
        inside=False,
    ),
    Hint(
        r"__init__\(\) (?:missing|takes|got)",
        "The judge calls {call}: __init__ needs no argument but self.",
        inside=False,
    ),
    Hint(
        r"\(\) (?:missing|takes|got an unexpected|got multiple)",
        "The judge calls {call}: keep the parameters of the def line as they were given, and add none.",
        inside=False,
    ),
    Hint(
        r"(\w+\(\)) (?:missing|takes|got an unexpected|got multiple)",
        "The arguments of this call do not fit the def line of {0}: compare the two.",
    ),
    Hint(r"before Module\.__init__\(\) call", "Call super().__init__() first in your __init__."),
    # What a function returns, or gives on.
    Hint(
        r"(?:return_types\.|returned )(max|min|sort|topk|median|mode|kthvalue|cummax|cummin)\b",
        "{0}(dim) returns (values, indices): take [0].",
    ),
    Hint(
        r"None",
        "X.grad is None: X did not require a gradient, or backward was not called.",
        code=r"\.grad\b(?!\()",
    ),
    Hint(r"returned None", "The function ends without a result: add `return` at its end."),
    Hint(
        r"returned (list|tuple)\b",
        "Return one tensor, not a {0}: torch.stack makes one of several.",
    ),
    Hint(r"returned (\w+), expected", "Return a tensor or an array, not a {0}."),
    Hint(
        r"NoneType",
        "A value on this line is None. A function without `return` gives None; so does X.grad if X did not require "
        "a gradient, or if backward was not called.",
    ),
    # Devices.
    Hint(
        r"NVIDIA|CUDA|cuda|\bmps\b|MPS",
        "There is no GPU here: use the device of X, as in tensor.to(X.device).",
    ),
    # Gradients.
    Hint(
        r"leaf Variable that requires grad",
        "A tensor that requires a gradient cannot be changed in place. Change its .data, or do it inside "
        "torch.no_grad().",
    ),
    Hint(
        r"modified by an inplace operation",
        "An in-place operation (+=, relu_, clamp_) changed a value that backward needs. Write x = x + ... , or use "
        "clone() first.",
    ),
    Hint(
        r"backward through the graph a second time",
        "backward frees the graph. Compute the scores again for each backward, or sum them and call backward once.",
    ),
    Hint(
        r"created only for scalar outputs",
        "backward starts from a single number. Add the picked scores up first: scores.sum().",
    ),
    Hint(
        r"Can't call numpy\(\) on Tensor that requires grad",
        "The tensor is still part of the graph. Use tensor.detach().cpu().numpy().",
    ),
    Hint(
        r"not have been used in the graph",
        "The score does not depend on this tensor: the model saw another one, a copy or an earlier version.",
    ),
    Hint(
        r"not require grad|no grad_fn",
        "The graph is cut. Call requires_grad_() before the forward pass, and use no detach(), .data, .item() or "
        "torch.no_grad() between the input and the score.",
    ),
    # Shapes and types.
    Hint(
        r"shapes cannot be multiplied|first two dimensions of batch|batch[12] must be a 3D|m[12] must be|size mismatch",
        "In a matrix product the columns of the first must equal the rows of the second. Print both shapes; transpose "
        "or reshape one.",
    ),
    Hint(
        r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\) at non-singleton dimension (\d+)",
        "The shapes do not fit: {0} against {1} in dimension {2}. Print both shapes; keepdim=True or [:, None] keeps "
        "a dimension.",
    ),
    Hint(
        r"could not be broadcast|not broadcastable|must match the existing size",
        "The shapes do not fit. Print both shapes; keepdim=True or [:, None] keeps a dimension.",
    ),
    Hint(r"view size is not compatible", "Use reshape in place of view after permute or transpose."),
    Hint(
        r"is invalid for input of size",
        "The new shape must have as many numbers as the old one. Print the shape; count the batch dimension, too.",
    ),
    Hint(
        r"not enough values to unpack|too many values to unpack",
        "Print the shape: how many dimensions are there?",
    ),
    Hint(r"Dimension out of range", "The tensor has fewer dimensions than you expect. Print its shape."),
    Hint(r"out of bounds|out of range", "An index is too large here. Print the shape or the length."),
    Hint(r"gather\(\).*[Ee]xpected dtype", "The indices of gather must be whole numbers: y.long()."),
    Hint(
        r"Index tensor must have the same number of dimensions",
        "gather needs indices with as many dimensions as the scores: y[:, None].",
    ),
    Hint(
        r"same dtype|expected scalar type|should be the same",
        "Two tensors have different types. Make new tensors with torch.zeros_like(x), x.new_zeros(...) or .to(x).",
    ),
    Hint(
        r"must be (?:tuple of )?Tensors?, not ([\w.]+)|expected Tensor as element \d+ in argument \d+, but got (\w+)",
        "A tensor is needed here. torch.as_tensor makes one of a number, a list or an array; torch.stack makes one of "
        "several tensors.",
    ),
    Hint(
        r"'(int|float)' object has no attribute '(\w+)'",
        "This is a {0}, not a tensor: .item() and float() take a number out of the graph. Keep the tensor.",
    ),
    Hint(
        r"'(list|tuple|numpy\.ndarray)' object has no attribute '(\w+)'",
        "This is a {0}, not a tensor. torch.as_tensor makes a tensor of a list or an array.",
    ),
    Hint(r"'Tensor' object has no attribute '(\w+)'", "A tensor has no {0}: check the spelling."),
    Hint(
        r"'(\w+)' object has no attribute '(\w+)'",
        "{0} has no {1}: check the spelling, and whether it was set before this line.",
    ),
    Hint(r"module '([\w.]+)' has no attribute '(\w+)'", "{0} has no {1}: check the spelling."),
    Hint(
        r"with more than one value is ambiguous|converted to (?:a )?(?:Python s|S)calar",
        "This tensor has several numbers, but one is needed. Sum it, or pick one.",
    ),
    # Names, and the rest.
    Hint(
        r"name '(\w+)' is not defined",
        "Nothing is called {0} here: check the spelling, import it, or compute it before this line.",
    ),
    Hint(
        r"(?:cannot access|referenced before|free variable).*'(\w+)'|local variable '(\w+)'",
        "{0} has no value yet on this path: set it before the loop or the if.",
    ),
    Hint(r"^SystemExit|^KeyboardInterrupt", "exit() ends the whole program: remove it, and return a result."),
    Hint(r"^BdbQuit", "Nobody answers a debugger here: remove breakpoint() and set_trace()."),
    Hint(r"^RecursionError", "The function calls itself without end."),
    Hint(r"^ZeroDivisionError", "A divisor can be zero: divide only where it is not."),
    Hint(
        r"^FileNotFoundError|^PermissionError",
        "The judge has no other files: use only what the function is given.",
    ),
    # So that a message of PyTorch never stands alone.
    Hint(
        r"^(?!ImportError)\w+: ",
        "Print the shapes and types of the values just before this line, and compare them with the docstring.",
        code=r"^(?!raise\b)",  # who raises an error has said why
        inside=True,
    ),
    Hint(
        r"^\w+: ",
        "The judge calls {call}, and cannot use what comes back: compare its type and shape with the docstring.",
        inside=False,
    ),
)


def advice(error: str, code: str = "", operation: str = "", *, inside: bool = True) -> str:
    """What to do about the error "Type: message" that was raised on the line `code`; empty if nothing is known."""
    call = CALLS[operation][1] if operation in CALLS else "it"
    for hint in HINTS:
        found = re.search(hint.error, error)
        if hint is HINTS[-1] and operation not in CALLS:
            continue
        if found and re.search(hint.code, code) and hint.inside in (None, inside):
            groups = [group or "" for group in found.groups()]
            if not any(groups[:1]) and len(groups) > 1:
                groups = groups[1:]
            return hint.advice.format(*groups, call=call)
    return ""


def place_of(error: BaseException, root: Path) -> tuple[str, str]:
    """Where in the student code under `root` an error was raised: "file:line" and that line; empty if it was not."""
    if isinstance(error, SyntaxError) and (file := _students(error.filename, root)):
        return f"{file}:{error.lineno}", (error.text or "").strip()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if file := _students(frame.filename, root):
            return f"{file}:{frame.lineno}", linecache.getline(frame.filename, frame.lineno or 0).strip()
    return "", ""


def students_line(places: Iterable[tuple[str, str]], root: Path) -> str:
    """The first of the (file name, line) pairs that is in the student code under `root`, as "file:line"."""
    found = ((_students(name, root), line) for name, line in places)
    return next((f"{file}:{line}" for file, line in found if file), "")


def raised_by_student(error: BaseException, root: Path) -> bool:
    """Whether the `raise` itself stands in the student code under `root`."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and bool(_students(frames[-1].filename, root))


def definition_of(operation: str, root: Path) -> str:
    """Where the function that an operation calls is defined, as "file:line"; the file alone if it is not."""
    if operation not in CALLS:
        return ""
    file, call = CALLS[operation]
    owner, _, rest = call.partition("()")
    name = rest.lstrip(".").partition("(")[0] if rest else owner.partition("(")[0]
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = (root / file).read_text(encoding="utf-8", errors="replace").splitlines()
    inside = not rest
    for number, line in enumerate(lines, 1):
        inside = inside or bool(re.match(rf"class {owner}\b", line))
        if inside and re.match(rf"\s*def {name or 'forward'}\b", line):
            return f"{file}:{number}"
    return file


def without_paths(text: str, root: Path) -> str:
    """`text` with the files under `root` as the student knows them, and without the folders of libraries."""
    for folder in {str(root), root.as_posix(), str(root).replace("\\", "\\\\")}:
        text = re.sub(re.escape(folder) + r"(?:\\\\|[\\/])?", "", text)
    for folder in (sys.prefix, sys.base_prefix):
        text = text.replace(folder, "...")
    return text


def _students(filename: str | None, root: Path) -> str:
    path = Path(filename or "")
    if not path.is_relative_to(root):
        return ""
    name = path.relative_to(root).as_posix()
    return "" if name.startswith(OURS) else name
