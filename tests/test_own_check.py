"""`python -m grading check` from the student's side: what is seen after one edit of a right solution."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from grading.assess import PUBLIC_BANK, assess, next_step, table
from grading.cases import load_bank
from grading.handout import blank_files
from grading.own import OwnProcess
from grading.submission import GRADED_FILES
from grading.tasks import OPERATIONS, TASKS, find_tasks
from helpers.errors import UsageError

PROJECT = Path(__file__).resolve().parent.parent
SALIENCY, GRADCAM = "visualizers/saliency_map.py", "visualizers/gradcam.py"
CLASS, CONTENT = "visualizers/class_visualization.py", "style_modules/content_loss.py"
STYLE, TV, TRANSFER = "style_modules/style_loss.py", "style_modules/tv_loss.py", "style_utils.py"
pytestmark = pytest.mark.skipif(not PUBLIC_BANK.is_file(), reason="run `python -m grading cases` first")


@pytest.fixture(scope="module")
def bank():
    return load_bank(PUBLIC_BANK)


@pytest.fixture(scope="module")
def own():
    with OwnProcess() as own:
        yield own


@pytest.fixture
def work(tmp_path):
    """-> a function: file, its text (None: no file) -> the solved package with that file, in a folder."""

    def make(changes: dict[str, str | None]) -> Path:
        for name in GRADED_FILES:
            text = changes.get(name, (PROJECT / name).read_text(encoding="utf-8"))
            if text is not None:
                (tmp_path / name).parent.mkdir(exist_ok=True)
                (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return make


def edited(name: str, *edits: tuple[str, str]) -> str:
    text = (PROJECT / name).read_text(encoding="utf-8")
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return text


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


CUT = ("(gradient,) = torch.autograd.grad(scores.sum(), X)", "scores.sum().backward()")
PICK = "scores = model(X).gather(1, y[:, None]).squeeze(1)"
SQUARE = "return content_weight * (content_current - content_original).square().sum()"
GRAM = "gram = F @ F.transpose(1, 2)"
RIGHT_TV = "return tv_weight * (down + right)"
STEP = "img.data += learning_rate * g / g.norm().clamp(min=1e-12)"
# What happened -> the task, its file, the edits, the place (text on the line) and what must be said.
MESSAGES = {
    "max returned": (
        *("saliency", SALIENCY, [("gradient.abs().amax(dim=1)", "gradient.abs().max(dim=1)")]),
        *("def compute_saliency_maps", "max(dim) returns (values, indices): take [0]"),
    ),
    "max used": (
        *("saliency", SALIENCY, [("gradient.abs().amax(dim=1)", "gradient.abs().max(dim=1).sqrt()")]),
        *(".sqrt()", "max(dim) returns (values, indices): take [0]"),
    ),
    "no gradient kept": (
        "saliency",
        SALIENCY,
        [("X = X.detach().clone().requires_grad_()", "X = X.detach().clone()"), CUT]
        + [
            ("gradient.abs()", "X.grad.abs()"),
            (PICK, PICK + "; scores = scores + torch.ones(1).requires_grad_()"),
        ],
        *("X.grad.abs()", "X.grad is None: X did not require a gradient, or backward was not called."),
    ),
    "a None somewhere": (
        *(
            "saliency",
            SALIENCY,
            [("gradient.abs()", "gradient = X.grad\n            saliency = gradient.abs()")],
        ),
        *("saliency = gradient.abs()", "A value on this line is None"),
    ),
    "graph cut": (
        *("saliency", SALIENCY, [(PICK, PICK + ".detach()")]),
        *("torch.autograd.grad(", "The graph is cut. Call requires_grad_()"),
    ),
    "another tensor": (
        *("saliency", SALIENCY, [("model(X).gather", "model(X.detach().clone().requires_grad_()).gather")]),
        *("torch.autograd.grad(", "The score does not depend on this tensor"),
    ),
    "a second backward": (
        *("saliency", SALIENCY, [(CUT[0], CUT[1] + "; scores.sum().backward(); gradient = X.grad")]),
        *("scores.sum().backward()", "backward frees the graph."),
    ),
    "backward of a vector": (
        *("saliency", SALIENCY, [(CUT[0], "scores.backward(); gradient = X.grad")]),
        *("scores.backward()", "Add the picked scores up first: scores.sum()."),
    ),
    "numpy of the graph": (
        *("saliency", SALIENCY, [("return saliency", "return (saliency * X.sum()).numpy()")]),
        *(".numpy()", "Use tensor.detach().cpu().numpy()."),
    ),
    "cuda": (
        *("saliency", SALIENCY, [(PICK, PICK.replace("model(X)", "model(X.cuda())"))]),
        *("X.cuda()", "There is no GPU here: use the device of X, as in tensor.to(X.device)."),
    ),
    "gather of a vector": (
        *("saliency", SALIENCY, [("gather(1, y[:, None])", "gather(1, y)")]),
        *("gather(1, y)", "y[:, None]"),
    ),
    "gather of floats": (
        *("saliency", SALIENCY, [("gather(1, y[:, None])", "gather(1, y[:, None].float())")]),
        *(".float()", "The indices of gather must be whole numbers: y.long()."),
    ),
    "no such class": (
        *("saliency", SALIENCY, [("class SaliencyMap:", "class Saliency:")]),
        *("", "The judge calls SaliencyMap().compute_saliency_maps(X, y, model). There is no SaliencyMap"),
    ),
    "no such method": (
        *("gradcam", GRADCAM, [("def grad_cam(", "def gradcam(")]),
        *(
            "",
            "The judge calls GradCam().grad_cam(X, y, model). GradCam has no grad_cam: use exactly this name.",
        ),
    ),
    "an extra parameter": (
        *("saliency", SALIENCY, [("y: Tensor, model: nn.Module)", "y: Tensor, model: nn.Module, classes)")]),
        *(
            "def compute_saliency_maps",
            "The judge calls SaliencyMap().compute_saliency_maps(X, y, model): keep",
        ),
    ),
    "an extra parameter of the class": (
        *(
            "tv",
            TV,
            [
                (
                    "    def forward",
                    "    def __init__(self, weight):\n        super().__init__()\n\n    def forward",
                )
            ],
        ),
        *("", "__init__ needs no argument but self."),
    ),
    "no forward": (
        *("content", CONTENT, [("def forward(", "def foward(")]),
        *("", "use exactly the name forward."),
    ),
    "no super().__init__()": (
        *(
            "tv",
            TV,
            [("    def forward", "    def __init__(self):\n        self.m = nn.ReLU()\n\n    def forward")],
        ),
        *("self.m = nn.ReLU()", "Call super().__init__() first"),
    ),
    "no return": (
        *("tv", TV, [(RIGHT_TV, "loss = tv_weight * (down + right)")]),
        *("def forward", "The function ends without a result"),
    ),
    "a list": (
        *("tv", TV, [(RIGHT_TV, "return [tv_weight * down, tv_weight * right]")]),
        *("def forward", "Return one tensor, not a list"),
    ),
    "a tuple": (
        *("saliency", SALIENCY, [("return saliency", "return saliency, y")]),
        *("def compute_saliency_maps", "Return one tensor, not a tuple"),
    ),
    "a number out of the graph": (
        *("update_rule", TRANSFER, [("loss.backward()", "loss.item().backward()")]),
        *(
            "loss.item()",
            "This is a float, not a tensor: .item() and float() take a number out of the graph.",
        ),
    ),
    "a string": (
        *("tv", TV, [(RIGHT_TV, "return 'loss'")]),
        *("def forward", "Return a tensor or an array, not a str."),
    ),
    "a list for torch": (
        *("tv", TV, [(RIGHT_TV, "return tv_weight * torch.sum([down, right])")]),
        *("torch.sum([", "A tensor is needed here. torch.as_tensor makes one"),
    ),
    "an array in place of a tensor": (
        *("gram", STYLE, [(GRAM, "F = F.detach().numpy()\n        gram = F.bmm(F)")]),
        *("F.bmm(F)", "This is a numpy.ndarray, not a tensor."),
    ),
    "a leaf in place": (
        *("class_visualization", CLASS, [(STEP, STEP.replace("img.data", "img"))]),
        *("img += learning_rate", "A tensor that requires a gradient cannot be changed in place."),
    ),
    "in place before backward": (
        *("gram", STYLE, [(GRAM, "E = F.exp()\n        E += 1\n        gram = E @ E.transpose(1, 2)")]),
        *("", "An in-place operation (+=, relu_, clamp_) changed a value that backward needs."),
    ),
    "matrices that do not fit": (
        *("gram", STYLE, [(GRAM, "gram = F[0] @ F[0]")]),
        *("F[0] @ F[0]", "the columns of the first must equal the rows of the second"),
    ),
    "batches that do not fit": (
        *("gram", STYLE, [(GRAM, "gram = torch.bmm(F, F)")]),
        *("torch.bmm(F, F)", "the columns of the first must equal the rows of the second"),
    ),
    "shapes that do not fit": (
        *("tv", TV, [("img[:, :, :-1, :]", "img[:, :, :-2, :]")]),
        *("down = ", "Print both shapes; keepdim=True or [:, None] keeps a dimension."),
    ),
    "a wrong new shape": (
        *("gram", STYLE, [("F = features.reshape(N, C, H * W)", "F = features.reshape(C, W)")]),
        *("features.reshape(C, W)", "The new shape must have as many numbers as the old one."),
    ),
    "view": (
        *("gram", STYLE, [("features.reshape(N,", "features.transpose(2, 3).view(N,")]),
        *(".view(N,", "Use reshape in place of view"),
    ),
    "a wrong dimension": (
        *("saliency", SALIENCY, [("amax(dim=1)", "amax(dim=4)")]),
        *("amax(dim=4)", "The tensor has fewer dimensions than you expect."),
    ),
    "an index too large": (
        *("style", STYLE, [("feats[layer]", "feats[layer + 100]")]),
        *("feats[layer + 100]", "An index is too large here."),
    ),
    "other types": (
        *("gram", STYLE, [(GRAM, "gram = F.double() @ F.half().transpose(1, 2)")]),
        *("F.double()", "Two tensors have different types."),
    ),
    "a wrong attribute": (
        *("tv", TV, [(RIGHT_TV, "return tv_weight * (down + right).summ()")]),
        *(".summ()", "A tensor has no summ: check the spelling."),
    ),
    "a wrong function": (
        *("tv", TV, [(RIGHT_TV, "return tv_weight * torch.summ(down + right)")]),
        *("torch.summ", "torch has no summ: check the spelling."),
    ),
    "an unknown name": (
        *("tv", TV, [(RIGHT_TV, "return tv_weight * (down + rigth)")]),
        *("rigth", "Nothing is called rigth here"),
    ),
    "no value yet": (
        *("tv", TV, [("        down = ", "        down = down + ")]),
        *("down = down", "down has no value yet on this path"),
    ),
    "several numbers for one": (
        *("tv", TV, [(RIGHT_TV, "return tv_weight * (down + right) if img > 0 else down")]),
        *("if img > 0", "This tensor has several numbers, but one is needed."),
    ),
    "a loss called with too little": (
        *("update_rule", TRANSFER, [("tv_loss(img, tv_weight)", "tv_loss(img)")]),
        *("tv_loss(img)", "The arguments of this call do not fit the def line of forward()"),
    ),
    "exit": (
        *("tv", TV, [(RIGHT_TV, "raise SystemExit")]),
        *("raise SystemExit", "exit() ends the whole program"),
    ),
    "a debugger": (
        *("tv", TV, [(RIGHT_TV, "import pdb; pdb.set_trace()\n        " + RIGHT_TV)]),
        *(RIGHT_TV, "Nobody answers a debugger here"),
    ),
    "recursion": (
        *("tv", TV, [(RIGHT_TV, "return self.forward(img, tv_weight)")]),
        *("", "The function calls itself without end."),
    ),
    "division by zero": (*("tv", TV, [(RIGHT_TV, "return 1 / 0")]), *("1 / 0", "A divisor can be zero")),
    "a file of the student's": (
        *("tv", TV, [(RIGHT_TV, "return open('notes.txt')")]),
        *("notes.txt", "The judge has no other files"),
    ),
    "any other error of torch": (
        *("tv", TV, [(RIGHT_TV, "return torch.einsum('ab->a', img)")]),
        *("torch.einsum", "Print the shapes and types of the values just before this line"),
    ),
    "a helper module": (
        *("tv", TV, [("import torch\n", "import torch\nimport my_utils\n")]),
        *("import my_utils", "Only the seven graded files are read;"),
    ),
    "a module of ours": (
        *("tv", TV, [("import torch\n", "import torch\nfrom extras.painter import losses\n")]),
        *("from extras", "extras is not there: your solution does not need it."),
    ),
    "a changed helper": (
        *("tv", TV, [("import torch\n", "import torch\nfrom helpers.errors import mine\n")]),
        *("import mine", "The judge uses our own helpers.errors, without your changes."),
    ),
    "a library that is not there": (
        *(
            "tv",
            TV,
            [
                ("import torch\n", "import torch\nimport tensorflow\n"),
                (RIGHT_TV, "return tensorflow.norm(img)"),
            ],
        ),
        *("tensorflow.norm", "Use only torch, torchvision, numpy, scipy, matplotlib, PIL and tqdm."),
    ),
    "a circular import": (
        *(
            "tv",
            TV,
            [("import torch\n", "import torch\nfrom style_modules.tv_loss import TotalVariationLoss\n")],
        ),
        *("from style_modules", "Two files import each other."),
    ),
    "an import of what another file lacks": (
        *("tv", TV, [("import torch\n", "import torch\nfrom style_modules.style_loss import gram\n")]),
        *("import gram", "style_modules.style_loss has no gram: check the spelling."),
    ),
    "a bracket": (
        *("tv", TV, [(RIGHT_TV, "return tv_weight * (down + right")]),
        *("(down + right", "Python cannot read this line."),
    ),
    "an indent": (
        *("tv", TV, [("        right = ", "          right = ")]),
        *("right = ", "The lines of a block must start in the same column."),
    ),
    "tabs": (
        *("tv", TV, [(f"        {RIGHT_TV}", f"        if True:\n\t    {RIGHT_TV}")]),
        *("\t    return", "Tabs and spaces are mixed."),
    ),
    "an empty block": (
        *("tv", TV, [("        down = ", "        for i in range(3):\n        down = ")]),
        *("down = ", "The block above this line is empty"),
    ),
    "no result of a style transfer": (
        *("update_rule", TRANSFER, [("return img.detach()", "return")]),
        *("def style_transfer", "The function ends without a result"),
    ),
    "no picture": (
        *("class_visualization", CLASS, [("return deprocess(img)", "deprocess(img)")]),
        *("def create_class_visualization", "The function ends without a result"),
    ),
    "too few steps": (
        *("update_rule", TRANSFER, [("range(STEPS)", "range(20)")]),
        *("def style_transfer", "the network saw the picture 20 times in 200 steps"),
    ),
}


@pytest.mark.parametrize("what", MESSAGES)
def test_a_message_says_what_to_do_and_where(what, work, bank, own):
    task, name, edits, place, said = MESSAGES[what]
    text = edited(name, *edits)
    result = assess(work({name: text}), bank=bank, own=own, tasks=[task])
    message = result.report.tasks[0].findings[0].message
    assert said in message
    if place:
        assert f"({name}:{line_of(text, place)})" in message
    assert str(Path(own.base.name).parent) not in message and "site-packages" not in message
    assert not re.search(r"(?<!\.)\.\.(?!\.)|\{[\dc]|  ", message), message


# Lines above a right solution that cost nothing, although the judge has no window, no GPU and fewer libraries.
HARMLESS = """
import matplotlib
matplotlib.use("TkAgg")
import matplotlib.pyplot as plt
import cv2
import pandas as pd
from sklearn.preprocessing import normalize as unused
try:
    import seaborn as sns
except ImportError:
    sns = None
"""
HARMLESS_IN_CALL = """device = "cuda" if torch.cuda.is_available() else "cpu"
        img = img.to(device)
        if torch.cuda.is_available():
            img = img.cuda()
        assert sns is None
        plt.figure()
        plt.plot([1, 2])
        plt.savefig("visualization/x.png")
        plt.show()
        plt.close("all")
        """


def harmless() -> str:
    return edited(
        TV, ("import torch\n", f"import torch\n{HARMLESS}"), (RIGHT_TV, HARMLESS_IN_CALL + RIGHT_TV)
    )


def test_harmless_lines_cost_nothing(work, bank, own):
    (task,) = assess(work({TV: harmless()}), bank=bank, own=own, tasks=["tv"]).report.tasks
    assert (task.status, task.findings) == ("passed", [])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the sandbox needs Linux")
def test_harmless_lines_cost_nothing_in_the_sandbox(tmp_path, work, bank):
    from grading.sandbox import Zygote

    with Zygote() as zygote:
        (task,) = assess(work({TV: harmless()}), bank=bank, zygote=zygote, tasks=["tv"]).report.tasks
    assert (task.status, task.findings) == ("passed", [])


def test_a_debugger_is_noticed_where_it_stops_nothing(work, bank, own):
    text = edited(
        TV, ("import torch\n", "import torch\n\n\ndef unused():\n    import pdb; pdb.set_trace()\n")
    )
    result = assess(work({TV: text}), bank=bank, own=own, tasks=["tv"])
    assert result.report.points == 8
    place = f"{TV}:{line_of(text, 'set_trace')}"
    assert f"set_trace in {place}: the judge cannot stop there, please remove it" in table(result)


def test_no_error_of_torch_stands_alone():
    from grading.hints import advice

    for error in (
        "NotImplementedError: Could not run 'aten::x'",
        "_LinAlgError: singular",
        "OverflowError: too large",
    ):
        assert advice(error, "x = torch.f(y)", "tv", inside=True)
        assert advice(error, "", "tv", inside=False)
    assert not advice("ValueError: my own text", "raise ValueError('my own text')", "tv", inside=True)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_call_is_that_of_the_solved_file(operation):
    """What a student is told to write exists in our own solution."""
    from grading.hints import CALLS, definition_of

    file, _ = CALLS[operation]
    assert OPERATIONS[operation].where == f"{file}, {_function(operation, definition_of(operation, PROJECT))}"


def _function(operation: str, place: str) -> str:
    file, _, number = place.partition(":")
    line = (PROJECT / file).read_text(encoding="utf-8").splitlines()[int(number) - 1]
    return re.search(r"def (\w+)", line)[1]


# ------------------------------------------------------------------------------------------- files and table


def test_a_missing_file_is_reported_once_and_costs_its_points(work, bank, own):
    result = assess(work({TV: None}), bank=bank, own=own, tasks=["content", "tv"])
    text = " ".join(table(result).split())
    assert [task.points for task in result.report.tasks] == [8, 0]
    assert text.count(f"{TV} is missing") == 1 and "__init__" not in text
    assert "without it, Task 6 gets no points." in text
    assert "is missing" not in table(assess(work({TV: None}), bank=bank, own=own, tasks=["content"]))


def test_a_file_in_the_wrong_place_is_told_so(work, bank, own):
    folder = work({TV: None})
    (folder / "old" / TV).parent.mkdir(parents=True)
    shutil.copy(PROJECT / TV, folder / "old" / TV)
    text = " ".join(table(assess(folder, bank=bank, own=own, tasks=["tv"])).split())
    assert (
        f"{TV} is missing, but there is old/{TV}: move it to {TV}." in text and text.count("is missing") == 1
    )


def test_a_stub_is_one_short_line_and_the_next_step_is_named(work, bank, own):
    blank = {name: data.decode() for name, data in blank_files(PROJECT).items() if name in (TV, GRADCAM)}
    folder = work(blank)
    result = assess(folder, bank=bank, own=own, tasks=["content", "tv"])
    assert re.search(r"(?m)^- 6 +Total-variation loss +0 / 8   not written yet$", table(result))
    assert len(table(result, receipt=False).splitlines()) == 3
    assert next_step(result) == f"Next: Task 6, {TV}"
    assert "not written yet" in table(assess(folder, bank=bank, own=own, tasks=["gradcam"]))


def test_one_stub_of_two_names_its_function(work, bank, own):
    solution = "scores = gc_model(X).gather(1, y[:, None]).squeeze(1)\n            (gradient,)"
    text = edited(GRADCAM, (solution, f'raise NotImplementedError("Task 2")\n            {solution}'))
    result = assess(work({GRADCAM: text}), bank=bank, own=own, tasks=["gradcam"])
    line = line_of(text, "raise NotImplementedError")
    assert result.report.tasks[0].points == 13
    assert f"guided_backprop is not written yet: see {GRADCAM}:{line}." in " ".join(table(result).split())


def test_what_comes_after_the_last_task(work, bank, own):
    result = assess(work({}), bank=bank, own=own, tasks=["tv"])
    assert next_step(result) == "Next: check all tasks, without --task"
    result.report.tasks *= len(TASKS)
    assert "collect_submission.py" in next_step(result)


def test_a_print_is_a_remark_and_disturbs_nothing(work, bank, own):
    loud = "print('here', flush=True); import os, sys; os.write(1, b'here'); sys.stderr.write('here'); "
    text = edited(TV, (RIGHT_TV, loud + RIGHT_TV))
    result = assess(work({TV: text}), bank=bank, own=own, tasks=["tv"])
    assert result.report.points == 8
    assert (
        f"print in {TV}:{line_of(text, 'print(')}: the judge ignores it, please remove it" in result.remarks
    )


# ------------------------------------------------------------------------------------------- tasks by name


@pytest.mark.parametrize(
    ("words", "tasks"),
    [
        (["tv"], ["tv"]),
        (["6"], ["tv"]),
        (["5"], ["gram", "style"]),
        (["5.1"], ["gram"]),
        (["6, 4", "saliency"], ["saliency", "content", "tv"]),
        (["TV,tv,6"], ["tv"]),
    ],
)
def test_a_task_has_a_name_and_a_number(words, tasks):
    assert find_tasks(words) == tasks


@pytest.mark.parametrize("word", ["9", "", "5.", "tvv", "4,", "."])
def test_an_unknown_task_names_all_there_are(word):
    with pytest.raises(
        UsageError, match=r"there is no task '.*'; the tasks are: 1 saliency, .* 7 update_rule"
    ):
        find_tasks([word])


# ------------------------------------------------------------------------------------------- the process

WRONG = {
    "nothing": {},
    "a mistake and an error": {
        CONTENT: edited(CONTENT, (".square().sum()", ".square().mean()")),
        SALIENCY: edited(SALIENCY, ("gradient.abs().amax(dim=1)", "gradient.abs().max(dim=1)")),
    },
    "torchvision, a lost file and a stub": {
        # The published guided backpropagation looks for torchvision's own blocks.
        GRADCAM: edited(
            GRADCAM,
            (
                "            scores = gc_model(X).gather(1, y[:, None]).squeeze(1)\n            (gradient,)",
                "            from torchvision.models.squeezenet import Fire\n"
                "            assert any(isinstance(module, Fire) for module in gc_model.modules())\n"
                "            scores = gc_model(X).gather(1, y[:, None]).squeeze(1)\n            (gradient,)",
            ),
        ),
        STYLE: None,
        TV: edited(TV, ("        down = ", '        raise NotImplementedError("Task 6")\n        down = ')),
    },
}


@pytest.fixture(scope="module")
def zygote():
    if not Path("/proc/self/statm").exists():
        pytest.skip("the sandbox needs Linux")
    from grading.sandbox import Zygote

    with Zygote() as zygote:
        yield zygote


@pytest.mark.parametrize("what", WRONG)
def test_it_says_what_the_sandbox_says(what, work, bank, own, zygote):
    folder = work(WRONG[what])
    ours, judges = assess(folder, bank=bank, own=own), assess(folder, bank=bank, zygote=zygote)
    assert judges.practice and not ours.practice  # a student's own check is no grade anyway
    judges.practice = False
    assert ours == judges
    assert (ours.report.points == 100) == (not WRONG[what])
    assert len(ours.report.tasks) == len(TASKS) and all(task.cases for task in ours.report.tasks)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("while True: pass", "forward took too long: no answer within 2 s ({}:{})"),
        ("import time; time.sleep(600)", "forward took too long: no answer within 2 s ({}:{})"),
        ("import os; os._exit(3)", "the code ended the interpreter (exit status 3). See {}, forward."),
        ("import ctypes; ctypes.string_at(0)", "the interpreter crashed (status -11) ({}:{})"),
    ],
    ids=["loop", "sleep", "exit", "crash"],
)
def test_a_lost_process_costs_its_own_task(line, said, work, bank):
    if "crash" in said and sys.platform == "win32":
        pytest.skip("Windows has other numbers")
    text = edited(CONTENT, (SQUARE, line))
    with OwnProcess(call_seconds=2) as own:
        result = assess(work({CONTENT: text}), bank=bank, own=own, tasks=["content", "tv"])
    assert [task.points for task in result.report.tasks] == [0, 8]
    message = result.report.tasks[0].findings[0].message
    assert said.format(CONTENT, line_of(text, line)) in message


def test_what_one_task_sets_does_not_reach_another(work, bank, own):
    text = edited(CONTENT, ("import torch\n", "import torch\ntorch.set_default_dtype(torch.float64)\n"))
    text += (
        "\ntorch.set_grad_enabled(False)\nimport style_modules.tv_loss as t\nt.TotalVariationLoss = None\n"
    )
    result = assess(work({CONTENT: text}), bank=bank, own=own, tasks=["content", "tv"])
    assert result.report.tasks[1].points == 8


def test_a_library_that_the_judge_lacks_is_not_there_either(work, bank, tmp_path, monkeypatch):
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed/cv2.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    text = edited(TV, ("import torch\n", "import torch\nimport cv2\n"), (RIGHT_TV, "return cv2.norm(img)"))
    with OwnProcess() as own:
        result = assess(work({TV: text}), bank=bank, own=own, tasks=["tv"])
    message = result.report.tasks[0].findings[0].message
    assert f"({TV}:{line_of(text, 'cv2.norm')}). cv2 is not there when your work is graded." in message


def test_the_project_itself_is_not_there_for_student_code(work, bank, own):
    text = edited(TV, ("import torch\n", "import torch\nimport saliency_visualization\n"))
    result = assess(work({TV: text}), bank=bank, own=own, tasks=["tv"])
    assert "No module named 'saliency_visualization'" in result.report.tasks[0].findings[0].message


# ------------------------------------------------------------------------------------------- the command

BLOCKED = """
import sys
for name in ("resource", "fcntl", "pwd", "grp"):
    sys.modules[name] = None
sys.platform = {platform!r}
from grading.__main__ import main
sys.exit(main({arguments!r}))
"""


def run(*arguments: str, platform: str = "") -> subprocess.CompletedProcess:
    command = ["-m", "grading", *arguments]
    if platform:
        command = ["-c", BLOCKED.format(platform=platform, arguments=list(arguments))]
    return subprocess.run(
        [sys.executable, *command], cwd=PROJECT, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_own_work_is_checked_where_the_sandbox_is_not(platform):
    result = run("check", "--task", "6", "--quiet", platform=platform)
    assert result.returncode == 0, result.stderr
    first, total, following = result.stdout.splitlines()
    assert first.split() == ["+", "6", "Total-variation", "loss", "8", "/", "8"]
    assert total.split() == ["total", "8", "/", "8"] and following.startswith("Next: ")
    refused = run("check", ".", "--task", "6", platform=platform)
    assert refused.returncode == 1 and "for your own work: python -m grading check" in refused.stderr


def test_the_sandbox_is_not_imported_for_own_work():
    code = (
        "import sys\nfrom grading.__main__ import main\nmain(['check', '--task', 'tv', '--quiet'])\n"
        "print([n for n in sys.modules if n in ('grading.sandbox', 'grading.zygote', 'torch')])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr


def test_a_check_that_ran_ends_well_also_without_points(work):
    folder = work({TV: edited(TV, (RIGHT_TV, "return 1 / 0"))})
    result = run("check", str(folder), "--own", "--public", "--quiet", "--task", "tv")
    assert result.returncode == 0 and "0 / 8" in result.stdout and "receipt" not in result.stdout
    assert "exit status is 0" in " ".join(run("check", "--help").stdout.split())


def test_an_unknown_task_is_one_line():
    result = run("check", "--task", "9")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert "there is no task '9'" in result.stderr


def test_own_work_uses_the_public_cases(monkeypatch, capsys):
    """Also on a machine that has private ones."""
    from grading import __main__ as command
    from grading import assess as assessing

    asked = []
    monkeypatch.setattr(assessing, "bank_and_secret", lambda public=False: asked.append(public) or 1 / 0)
    for arguments in ((), (".", "--own"), (".", "--own", "--public")):
        command.main(["check", "--quiet", *arguments])
    assert asked == [True, True, True]
    capsys.readouterr()


def test_the_makefile_checks_all_tasks_or_one():
    def calls(*words: str) -> str:
        command = ["make", "-n", "check", *words]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout

    assert re.search(r"python -m grading check *$", calls(), re.M)
    assert "python -m grading check --task 4" in calls("TASK=4")
