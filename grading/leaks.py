"""What must not be in a student's copy: the solutions, a technique computed in other words, the answers to the
written part.
"""

import ast
import contextlib
import copy
import functools
import re
import textwrap
from collections.abc import Iterator, Mapping

# Shorter lines and smaller expressions are too common to give a solution away.
MIN_CHARACTERS, MIN_NODES = 24, 9
MIN_WORDS = 6  # shorter sentences are too common to give an answer away
# Parts of a page that are cut out stand between <!-- BEGIN KEY --> and <!-- END KEY -->, for instance.
PARTS = ("KEY", "EXTRAS")

# What a function does that computes a technique, however it is written: all of these operations, in any order.
TECHNIQUES = {
    "Task 1, a saliency map": {"gradient", "abs", "max"},
    "Task 2, Grad-CAM": {"gradient", "mean", "positive part"},
    "Task 2, the guided rule": {"backward rule", "positive part"},
    "Task 3, a normalized step": {"gradient", "norm", "divide", "add in place"},
    "Task 4, a sum of squared differences": {"minus", "square", "sum"},
    "Task 5, a Gram matrix": {"product with itself"},
    "Task 6, total variation": {"minus neighbour", "square"},
    "Task 7, the update rule": {"zero_grad", "backward", "step"},
}
# Names of functions and methods -> the operation.
OPERATIONS = {
    "gradient": "grad backward",
    "abs": "abs abs_ absolute fabs",
    "max": "max amax maximum fmax topk",
    "mean": "mean nanmean adaptive_avg_pool2d avg_pool2d",
    "positive part": "relu relu_ clamp clamp_ clamp_min clamp_min_ clip maximum threshold",
    "norm": "norm vector_norm normalize",
    "square": "square square_ pow mse_loss",
    "sum": "sum nansum mse_loss",
    "zero_grad": "zero_grad zero_",
    "backward": "backward",
    "step": "step",
    "divide": "div div_ normalize",
    "minus": "sub sub_ subtract mse_loss",
    "minus neighbour": "diff gradient",
    "add in place": "add_",
}
OPERATION_OF = {
    name: {operation for operation, names in OPERATIONS.items() if name in names.split()}
    for name in " ".join(OPERATIONS.values()).split()
}
PRODUCTS = {"matmul", "mm", "bmm", "einsum", "tensordot", "inner", "dot", "baddbmm", "linear", "cov"}
ARITHMETIC = {ast.Sub: "minus", ast.Div: "divide"}
# Files in which such operations are something else.
ALLOWED = {
    "helpers/style_images/": "NumPy that draws, which no gradient flows through",
    "grading/judge.py": "fits a factor between two arrays",
}


def find_techniques(files: Mapping[str, bytes]) -> list[str]:
    """Functions of the handout that compute a technique which is to be written, in whatever words."""
    found = []
    for name, text in texts(files):
        if name.endswith(".py") and not name.startswith(tuple(ALLOWED)):
            for function in ast.walk(ast.parse(text)):
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                    done = operations_of(function)
                    found += [
                        f"{name}:{function.lineno}: {technique}"
                        for technique, needed in TECHNIQUES.items()
                        if needed <= done
                    ]
    return found


def operations_of(function: ast.AST) -> set[str]:
    """The operations of TECHNIQUES in a function."""
    done: set[str] = set()
    if isinstance(function, ast.FunctionDef) and function.name in ("backward", "vjp"):
        done.add("backward rule")
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
                done |= OPERATION_OF.get(name, set())
                arguments = [_base(argument) for argument in [*_owner(node.func), *node.args]]
                if name in PRODUCTS and (name == "cov" or _repeated(arguments)):
                    done.add("product with itself")
            case ast.Attribute(attr="grad"):
                done.add("gradient")
            case ast.BinOp(left=left, op=ast.MatMult(), right=right) if _base(left) == _base(right):
                done.add("product with itself")
            case ast.BinOp(op=ast.Pow(), right=ast.Constant(value=2 | 2.0)):
                done.add("square")
            case ast.BinOp(left=left, op=ast.Mult(), right=right) if ast.dump(left) == ast.dump(right):
                done.add("square")
            case ast.Compare(ops=[ast.Gt() | ast.GtE() | ast.Lt()], comparators=[ast.Constant(value=0)]):
                done.add("positive part")
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
            done.add("add in place")
        if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in ARITHMETIC:
            done.add(ARITHMETIC[type(node.op)])
            if (
                isinstance(node, ast.BinOp)
                and isinstance(node.op, ast.Sub)
                and _shifted(node.left, node.right)
            ):
                done.add("minus neighbour")
    return done


def _owner(called: ast.expr) -> list[ast.expr]:
    """The x of `x.method`; nothing for a function of a module."""
    return (
        [called.value]
        if isinstance(called, ast.Attribute) and _base(called.value) not in ("torch", "np")
        else []
    )


def _base(node: ast.expr) -> str:
    """The variable that an expression of methods, indices and attributes begins with."""
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _repeated(names: list[str]) -> bool:
    names = [name for name in names if name]
    return len(names) > len(set(names))


def _shifted(left: ast.expr, right: ast.expr) -> bool:
    """Whether one variable is subtracted from itself, both with slices."""
    same = _base(left) == _base(right) != ""
    return same and all(any(isinstance(node, ast.Slice) for node in ast.walk(side)) for side in (left, right))


def find_leaks(files: Mapping[str, bytes], known: Mapping[str, str]) -> list[str]:
    """Where the handout still holds a line of a solution, or an expression that differs only in names."""
    leaks = []
    for name, text in texts(files):
        for number, line in enumerate(map(squeezed, text.splitlines()), 1):
            leaks += [f"{name}:{number}: {trace}" for trace in known if trace in line]
        if name.endswith(".py"):
            leaks += [f"{name}: {shape}" for shape in sorted(_shapes(text) & known.keys())]
    return leaks


def texts(files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """The files that are text, with their names."""
    for name, data in files.items():
        with contextlib.suppress(UnicodeDecodeError):
            yield name, data.decode()


def find_key_leaks(files: Mapping[str, bytes], known: Mapping[str, str]) -> list[str]:
    """Where the handout still holds a marker of the key, or one of its sentences."""
    leaks: list[str] = []
    for name, text in texts(files):
        words = words_of(text)
        leaks += [
            f"{name}: the key of {page}: {said.strip()}" for said, page in known.items() if said in words
        ]
        if name.endswith(".md"):
            leaks += [
                f"{name}: a marker of {part}"
                for part in PARTS
                if f"BEGIN {part}" in text or f"END {part}" in text
            ]
    return leaks


def form(line: str) -> str:
    """A line of code without the names of its variables."""
    try:
        return ast.unparse(_Anonymous().visit(ast.parse(line.strip())))
    except SyntaxError:
        return line


def squeezed(line: str) -> str:
    return " ".join(line.split())


@functools.cache
def _shapes(source: str) -> frozenset[str]:
    """The larger expressions of a source that call something, without the names of variables."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a region may contain `return`, which needs a function around it
        tree = ast.parse(f"def region():\n{textwrap.indent(source, ' ')}")
    shapes = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.expr) or isinstance(node, ast.Starred | ast.FormattedValue):
            continue
        parts = [inner for inner in ast.walk(node) if isinstance(inner, ast.expr | ast.keyword)]
        if len(parts) >= MIN_NODES and any(isinstance(inner, ast.Call) for inner in parts):
            shapes.add(ast.unparse(_Anonymous().visit(copy.deepcopy(node))))
    return frozenset(shapes)


class _Anonymous(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.Name:  # noqa: N802  ast's own convention
        return node if node.id in ("torch", "F", "nn") else ast.Name(id="_", ctx=node.ctx)


def traces(source: str) -> set[str]:
    lines = {squeezed(line) for line in source.splitlines()}
    return {line for line in lines if len(line) >= MIN_CHARACTERS} | _shapes(source)


def words_of(text: str) -> str:
    """The words of a text in lower case, with single spaces in place of punctuation and line breaks."""
    words = re.findall(r"[^\W_]+", text.lower())
    return f" {' '.join(words)} "
