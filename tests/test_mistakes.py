"""The judge names every mistake of the catalogue, and gives every right implementation full marks."""

from pathlib import Path

import numpy as np
import pytest

from grading.case_inputs import INPUTS
from grading.cases import compute_bank, load_bank, save_bank
from grading.judge import grade, grade_task
from grading.local import local_variants
from grading.mistakes import Entry, Patch, build_variant, catalogue, correct_variants
from grading.protocol import ChildError
from grading.tasks import OPERATIONS, TASKS, task_of

ROOT = Path(__file__).parents[1]
ENTRIES = catalogue()


@pytest.fixture(scope="module")
def variants():
    """Patches -> an executor that runs nothing twice: what the bank was made from is graded again."""
    with local_variants(ROOT) as fresh:
        remembered = {}

        def remembering(patches):
            def execute(operation, inputs):
                key = (tuple(patches), operation, *(array.tobytes() for array in inputs.values()))
                if key not in remembered:
                    try:
                        remembered[key] = fresh(patches)(operation, inputs)
                    except ChildError as error:
                        remembered[key] = error
                if isinstance(remembered[key], ChildError):
                    raise remembered[key]
                return remembered[key]

            return execute

        yield remembering


@pytest.fixture(scope="module")
def bank(variants, tmp_path_factory):
    """One case of each kind, as read back from its file. Of the update rule, whose 200 steps take long, one kind."""
    path = tmp_path_factory.mktemp("bank") / "cases.npz"
    kind = "four style layers"
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(INPUTS, "update_rule", {kind: INPUTS["update_rule"][kind]})
        bank = compute_bank(ROOT, seed=3, cases_per_kind=1, spare=0, variants=variants)
    return load_bank(save_bank(bank, path))


def judged(entry: Entry, form, variants, bank, seed=b"any"):
    """The task's result."""
    return grade_task(variants(form), seed, bank, task_of(entry.operation))


def test_the_solution_gets_every_point(variants, bank):
    report = grade(variants(()), b"any", bank)
    assert (report.points, report.max_points) == (100, 100)
    assert [(task.status, task.findings) for task in report.tasks] == [("passed", [])] * len(TASKS)


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if not entry.accepted], ids=lambda entry: entry.id
)
def test_a_mistake_is_caught_and_named(entry, variants, bank):
    for form in entry.forms:
        result = judged(entry, form, variants, bank)
        assert result.points < result.max_points
        assert [finding.id for finding in result.findings] == [entry.id], result.findings
        assert result.findings[0].message == f"{entry.sentence} See {entry.where}."


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.accepted], ids=lambda entry: entry.id)
def test_another_reading_of_a_task_gets_full_marks(entry, variants, bank):
    for form in entry.forms:
        result = judged(entry, form, variants, bank)
        assert (result.status, result.findings) == ("passed", [])


@pytest.mark.parametrize("variant", correct_variants(), ids=lambda variant: variant.id)
def test_right_code_written_in_another_way_gets_full_marks(variant, variants, bank):
    execute = variants(variant.patches)
    for task in dict.fromkeys(task_of(operation) for operation in variant.operations):
        result = grade_task(execute, b"any", bank, task)
        assert (result.status, result.findings) == ("passed", [])


def test_every_operation_has_mistakes_and_right_variants():
    assert {entry.operation for entry in ENTRIES} == set(OPERATIONS)
    assert {operation for variant in correct_variants() for operation in variant.operations} == set(
        OPERATIONS
    )


def test_names_are_unique_and_sentences_are_sentences():
    for names in ([entry.id for entry in ENTRIES], [variant.id for variant in correct_variants()]):
        assert len(names) == len(set(names))
    for entry in ENTRIES:
        assert entry.sentence[0].isupper() and entry.sentence.endswith((".", "?"))
        assert (ROOT / entry.where.partition(",")[0]).is_file()


@pytest.mark.parametrize("seed", range(3))
def test_the_largest_gradient_and_the_positive_ones_are_told_apart(seed, variants):
    """Where the last ReLU stops some positions of an image, the largest gradient of a channel is proportional to the
    mean of the positive ones: one image of the kind must have its class everywhere.
    """
    inputs = INPUTS["grad_cam"]["two images"](np.random.default_rng(seed))
    entries = {entry.id: entry for entry in ENTRIES}

    def maps(form):
        return variants(form)("grad_cam", inputs)["maps"]

    right = maps(())
    for form in entries["gradcam-max-pooling"].forms:
        np.testing.assert_allclose(maps(form)[0], right[0], atol=1e-4)
        assert np.abs(maps(form)[1] - right[1]).max() > 0.01
    for form in entries["gradcam-relu-weights"].forms:
        assert np.abs(maps(form)[0] - right[0]).max() > 0.01


def test_two_mistakes_at_once_are_both_told(variants, bank):
    """The wrong layer's maps in one function, no guiding in the other."""
    one = next(entry for entry in ENTRIES if entry.id == "gradcam-relu-weights")
    other = next(entry for entry in ENTRIES if entry.id == "gradcam-guided-plain")
    result = grade_task(variants((*one.forms[0], *other.forms[0])), b"any", bank, "gradcam")
    assert [finding.id for finding in result.findings] == [one.id, other.id]


def test_a_mistake_is_named_beside_an_unknown_one(variants, bank):
    """No absolute value, and one image's map squeezed: known and seen where N > 1."""
    patch = Patch(
        "visualizers/saliency_map.py",
        """
        (gradient,) = torch.autograd.grad(model(X).gather(1, y[:, None]).sum(), X)
        saliency = gradient.amax(dim=1).squeeze(0)
        """,
        region=0,
    )
    first, second = grade_task(variants((patch,)), b"any", bank, "saliency").findings[:2]
    assert first.id == "saliency-no-abs"
    assert second.id == "saliency-shape"
    assert "has shape (12, 9), expected (1, 12, 9)" in second.message


def test_a_file_that_does_not_import_costs_only_its_own_task(variants, bank):
    broken = Patch("visualizers/class_visualization.py", "def (:\n")
    execute = variants((broken,))
    assert grade_task(execute, b"any", bank, "saliency").status == "passed"
    assert grade_task(execute, b"any", bank, "gradcam").status == "passed"
    result = grade_task(execute, b"any", bank, "class_visualization")
    assert (result.points, [finding.id for finding in result.findings]) == (0, ["error-import"])
    assert "class_visualization.py" in result.findings[0].message


def test_a_stub_gets_nothing_and_is_told_so(variants, bank):
    stub = Patch("visualizers/gradcam.py", 'raise NotImplementedError("Task 2: Grad-CAM")', region=1)
    result = grade_task(variants((stub,)), b"any", bank, "gradcam")
    assert 0 < result.points < result.max_points  # guided backpropagation stands by itself
    assert [finding.id for finding in result.findings] == ["not-solved"]
    assert "grad_cam is not written yet: see visualizers/gradcam.py" in result.findings[0].message


def test_an_exception_is_told_with_file_and_line(variants, bank):
    patch = Patch("style_modules/tv_loss.py", "return img.no_such_thing", region=0)
    (finding,) = grade_task(variants((patch,)), b"any", bank, "tv").findings
    assert finding.id == "error-exception"
    assert "no_such_thing" in finding.message
    assert "(style_modules/tv_loss.py:" in finding.message


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.operation == "gram"], ids=lambda entry: entry.id)
def test_a_mistake_in_the_gram_matrix_costs_nothing_in_the_style_loss(entry, variants, bank):
    for form in entry.forms:
        style = grade_task(variants(form), b"any", bank, "style")
        assert (style.status, style.findings) == ("passed", [])


def test_a_style_loss_with_a_gram_matrix_that_is_not_written_is_graded_all_the_same(variants, bank):
    stub = Patch("style_modules/style_loss.py", 'raise NotImplementedError("Task 5")', region=0)
    gram, style = grade(variants((stub,)), b"any", bank, tasks=["gram", "style"]).tasks
    assert (gram.points, style.status) == (0, "passed")


def test_a_mistake_in_the_style_loss_costs_points_whatever_the_gram_matrix(variants, bank):
    gram = next(entry for entry in ENTRIES if entry.id == "gram-never-normalized")
    for entry in ENTRIES:
        if entry.operation == "style":
            for form in entry.forms:
                result = grade_task(variants((*gram.forms[0], *form)), b"any", bank, "style")
                assert result.points < result.max_points, entry.id


def test_a_detached_regularizer_keeps_the_points_of_score_norm_sign_and_zeroing(variants, bank):
    entry = next(entry for entry in ENTRIES if entry.id == "class-no-l2")
    for form in entry.forms:
        assert judged(entry, form, variants, bank).points == 6


SALIENCY, GRADCAM = "visualizers/saliency_map.py", "visualizers/gradcam.py"
CLASS, TRANSFER = "visualizers/class_visualization.py", "style_utils.py"
CONTENT, STYLE, TV = (f"style_modules/{name}_loss.py" for name in ("content", "style", "tv"))
SALIENCY_END = "(gradient,) = torch.autograd.grad(scores.sum(), X)\nsaliency = gradient.abs().amax(dim=1)"
CAM_END = (
    "activations = outputs[layer]\n(gradients,) = torch.autograd.grad(scores.sum(), activations)\n"
    "alpha = gradients.mean(dim=(2, 3), keepdim=True)\n"
    "cam = F.relu((alpha * activations).sum(dim=1, keepdim=True))"
)
GUIDED_END = "(gradient,) = torch.autograd.grad(scores.sum(), X)\nguided = gradient.permute(0, 2, 3, 1)"
PICKED = "gather(1, y[:, None])"
TERM = "weight * (self.gram_matrix(feats[layer]) - target).square().sum()"
LOSSES = (
    "content_loss(content_weight, feats[content_layer], content_target)",
    "style_loss(feats, style_layers, style_targets, style_weights)",
    "tv_loss(img, tv_weight)",
)


def _cases_of(layers="style_layers", targets="style_targets", weights="style_weights") -> str:
    return f"return sum({TERM} for layer, target, weight in zip({layers}, {targets}, {weights}))"


def _climb(score="model(img)[0, target_y]", l2="l2_reg", rate="learning_rate", end="") -> str:
    return (
        f"objective = {score} - {l2} * img.square().sum()\n(g,) = torch.autograd.grad(objective, img)\n"
        f"img.data += {rate} * g / g.norm()\n{end}"
    )


def _step(content=LOSSES[0], style=LOSSES[1], variation=LOSSES[2], end="") -> str:
    return f"optimizer.zero_grad()\nloss = {content} + {style} + {variation}\nloss.backward()\noptimizer.step()\n{end}"


# Right for what most cases have in common, wrong beyond it: task, file, region, code.
NARROW = {
    "saliency, N = 2": (
        *("saliency", SALIENCY, 0),
        "scores = model(X)\nscores = scores[0, y[0]] + scores[-1, y[-1]] * (len(X) > 1)\n" + SALIENCY_END,
    ),
    "saliency, one image per class": (
        *("saliency", SALIENCY, 0),
        "scores = torch.stack([model(X)[y == c, c][-1] for c in y.unique()])\n" + SALIENCY_END,
    ),
    "saliency, the axis of length 3": (
        *("saliency", SALIENCY, 0),
        f"scores = model(X).{PICKED}\n"
        + SALIENCY_END.replace("amax(dim=1)", "amax(dim=list(X.shape).index(3))"),
    ),
    "saliency, classes in order": (
        *("saliency", SALIENCY, 0),
        "scores = model(X).gather(1, y.sort().values[:, None])\n" + SALIENCY_END,
    ),
    "Grad-CAM, N < 3": (
        *("gradcam", GRADCAM, 1),
        f"if len(X) > 2:\n    raise ValueError('too many')\nscores = gc_model(X).{PICKED}\n" + CAM_END,
    ),
    "Grad-CAM, first and last image": (
        *("gradcam", GRADCAM, 1),
        "scores = gc_model(X)\nscores = scores[0, y[0]] + scores[-1, y[-1]] * (len(X) > 1)\n" + CAM_END,
    ),
    "Grad-CAM, one image per class": (
        *("gradcam", GRADCAM, 1),
        "scores = torch.stack([gc_model(X)[y == c, c][-1] for c in y.unique()])\n" + CAM_END,
    ),
    "guided, N = 2": (
        *("gradcam", GRADCAM, 2),
        "assert len(X) == 2\n" + f"scores = gc_model(X).{PICKED}\n" + GUIDED_END,
    ),
    "guided, N = 2, by two scores": (
        *("gradcam", GRADCAM, 2),
        "scores = gc_model(X)\nscores = scores[0, y[0]] + scores[1 % len(X), y[-1]]\n" + GUIDED_END,
    ),
    "guided, N = 1": (*("gradcam", GRADCAM, 2), "scores = gc_model(X)[0, y[0]]\n" + GUIDED_END),
    "guided, the axis of length 3": (
        *("gradcam", GRADCAM, 2),
        f"scores = gc_model(X).{PICKED}\n"
        + GUIDED_END.replace("permute(0, 2, 3, 1)", "movedim(list(X.shape).index(3), -1)"),
    ),
    "class visualization, a regularizer of its own": (
        *("class_visualization", CLASS, 0),
        _climb(l2="1e-3"),
    ),
    "class visualization, a rate of its own": (*("class_visualization", CLASS, 0), _climb(rate="25")),
    "class visualization, no regularizer above 1e-3": (
        *("class_visualization", CLASS, 0),
        _climb(l2="min(l2_reg, 1e-3)"),
    ),
    "class visualization, half precision": (
        *("class_visualization", CLASS, 0),
        _climb(end="img.data = img.data.half().to(img.dtype)"),
    ),
    "class visualization, always the first class asked for": (
        *("class_visualization", CLASS, 0),
        "self.first = getattr(self, 'first', target_y)\n" + _climb(score="model(img)[0, self.first]"),
    ),
    "class visualization, norm of each channel": (
        *("class_visualization", CLASS, 0),
        _climb().replace("g.norm()", "g.norm(dim=(2, 3), keepdim=True)"),
    ),
    "content, half precision": (
        *("content", CONTENT, 0),
        "return content_weight * (content_current.half() - content_original.half()).float().square().sum()",
    ),
    "content, whole weights": (
        *("content", CONTENT, 0),
        "return max(1, content_weight) * (content_current - content_original).square().sum()",
    ),
    "Gram, half precision": (
        *("gram", STYLE, 0),
        "N, C, H, W = features.shape\nF = features.half().float().flatten(2)\ngram = F @ F.transpose(1, 2)\n"
        "return gram / (C * H * W) if normalize else gram",
    ),
    "Gram, N < 3": (
        *("gram", STYLE, 0),
        "N, C, H, W = features.shape\nF = features.flatten(2)\ngram = F @ F.transpose(1, 2)\n"
        "gram = torch.stack([gram[0], gram[-1]])[:N]\nreturn gram / (C * H * W) if normalize else gram",
    ),
    "style, three layers": ("style", STYLE, 1, _cases_of(layers="style_layers[:3]")),
    "style, exactly three layers": (
        *("style", STYLE, 1),
        _cases_of(layers="(lambda a, b, c: (a, b, c))(*style_layers)"),
    ),
    "style, at least three layers": (
        *("style", STYLE, 1),
        "style_layers[2]\n" + _cases_of(),
    ),
    "style, all but the fifth layer": ("style", STYLE, 1, _cases_of(layers="style_layers[:4]")),
    "style, layers in order": ("style", STYLE, 1, _cases_of(layers="sorted(style_layers)")),
    "style, no layer twice": ("style", STYLE, 1, _cases_of(layers="dict.fromkeys(style_layers)")),
    "style, weights above 1": ("style", STYLE, 1, _cases_of(weights="[max(1, w) for w in style_weights]")),
    "TV, half precision": (
        *("tv", TV, 0),
        "img = img.half().float()\n"
        "return tv_weight * (img.diff(dim=2).square().sum() + img.diff(dim=3).square().sum())",
    ),
    "TV, square images": (
        *("tv", TV, 0),
        "n = min(img.shape[2:])\nimg = img[:, :, :n, :n]\n"
        "return tv_weight * (img.diff(dim=2).square().sum() + img.diff(dim=3).square().sum())",
    ),
    "update, total variation of feats[0]": (
        *("update_rule", TRANSFER, 0),
        _step(variation="tv_loss(feats[0], tv_weight)"),
    ),
    "update, content layer 3": (
        *("update_rule", TRANSFER, 0),
        _step(content=LOSSES[0].replace("feats[content_layer]", "feats[3 % len(feats)]")),
    ),
    "update, two style layers": (
        *("update_rule", TRANSFER, 0),
        _step(style="style_loss(feats, style_layers[:2], style_targets[:2], style_weights[:2])"),
    ),
    "update, style layers in order": (
        *("update_rule", TRANSFER, 0),
        _step(style=LOSSES[1].replace("style_layers,", "sorted(style_layers),")),
    ),
    "update, single precision": (
        *("update_rule", TRANSFER, 0),
        _step(end="img.data = img.data.float().to(img.dtype)"),
    ),
}


@pytest.mark.parametrize("what", NARROW)
def test_code_that_is_right_in_some_cases_only_loses_points(what, variants, bank):
    task, file, region, code = NARROW[what]
    result = grade_task(variants((Patch(file, code, region=region),)), b"any", bank, task)
    assert result.points < result.max_points
    assert result.findings and "error-import" not in [finding.id for finding in result.findings], (
        result.findings
    )


# What is seen of a mistake that has no name: task, file, region, code -> id, part of the message.
UNNAMED = {
    "squared": (
        *("tv", TV, 0, "v = img.diff(dim=2).square().sum() + img.diff(dim=3).square().sum()"),
        *("return (tv_weight * v) ** 2", "tv-squared", "is the square of the right one"),
    ),
    "rooted": (
        *("content", CONTENT, 0, "v = (content_current - content_original).square().sum()"),
        *("return (content_weight * v) ** 0.5", "content-rooted", "is the square root of the right one"),
    ),
    "scaled for drawing": (
        *("saliency", SALIENCY, 0, f"scores = model(X).{PICKED}\n{SALIENCY_END}"),
        "s, m = saliency.std((1, 2), keepdim=True), saliency.mean((1, 2), keepdim=True)\nsaliency = (saliency - m) / s",
        *("saliency-scaled", "is right up to a factor and a constant of each image"),
    ),
    "integers": (
        *("saliency", SALIENCY, 0, f"scores = model(X).{PICKED}\n{SALIENCY_END}"),
        "saliency = (255 * saliency / saliency.max()).int()",
        *("saliency-integers", "has whole numbers only"),
    ),
    "one image for all": (
        *("saliency", SALIENCY, 0, f"scores = model(X).{PICKED}\n{SALIENCY_END}"),
        "saliency = saliency[:1].expand(len(X), -1, -1)",
        *("saliency-one-for-all", "is that of the first image for every image of the batch"),
    ),
    "right for one image alone": (
        *("gradcam", GRADCAM, 1, f"scores = gc_model(X).{PICKED}\n{CAM_END}"),
        "cam = cam.flip(2, 3) if len(X) > 1 else cam",
        *("grad_cam-wrong", "(One image alone is right"),
    ),
    "an exception with one image": (
        *("saliency", SALIENCY, 0, f"scores = model(X).{PICKED}\n{SALIENCY_END}"),
        "saliency = torch.stack(list(gradient.abs().amax(dim=1).squeeze()))[: len(X)].reshape(saliency.shape)",
        *("error-exception", "(Only with a single image: N = 1."),
    ),
    "wrong later": (
        *("class_visualization", CLASS, 0, _climb()),
        "learning_rate = learning_rate * 0.77",
        *("class_visualization-carried-over", "although the picture after one step"),
    ),
}


@pytest.mark.parametrize("what", UNNAMED)
def test_a_mistake_without_a_name_is_described(what, variants, bank):
    task, file, region, code, end, id, said = UNNAMED[what]
    execute = variants((Patch(file, f"{code}\n{end}", region=region),))
    findings = grade_task(execute, b"any", bank, task).findings
    assert [finding.id for finding in findings][:1] == [id], findings
    assert said in findings[0].message
    assert len(findings) == 1, findings


def test_a_patch_without_its_place_is_refused(tmp_path):
    for patch in (
        Patch("style_utils.py", "pass", region=9),
        Patch("style_utils.py", "pass", function="no_such_function"),
        Patch("style_utils.py", "pass", text="no such text"),
    ):
        with pytest.raises(ValueError, match="style_utils.py has"):
            build_variant(ROOT, [patch], tmp_path / "variant")


def test_what_students_hold_has_no_line_of_a_solution():
    """The handout keeps the judge; its files must not give a solution away."""
    from grading.mistakes import REGION

    solution = {
        line.strip()
        for file in [
            *(ROOT / "visualizers").glob("*.py"),
            *(ROOT / "style_modules").glob("*.py"),
            ROOT / "style_utils.py",
        ]
        for match in REGION.finditer(file.read_text(encoding="utf-8"))
        for line in match["body"].splitlines()
        if len(line.strip()) > 20
    }
    assert len(solution) > 20
    for name in ("protocol", "drivers", "tasks", "cases", "judge", "local"):
        lines = {
            line.strip()
            for line in (ROOT / "grading" / f"{name}.py").read_text(encoding="utf-8").splitlines()
        }
        assert not lines & solution


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_mistakes_are_named_whatever_cases_are_drawn(seed, tmp_path):
    """A larger bank, every answer computed anew when it is graded, other cases for every form."""
    with local_variants(ROOT) as fresh:
        bank = compute_bank(ROOT, seed=100 + seed, cases_per_kind=4, variants=fresh)
        draw = np.random.default_rng(seed)
        missed = []
        for entry in ENTRIES:
            for form in entry.forms:
                result = judged(entry, form, fresh, bank, draw.bytes(8))
                wanted = [] if entry.accepted else [entry.id]
                if [finding.id for finding in result.findings] != wanted:
                    missed.append((entry.id, result.findings))
        assert not missed
        for variant in correct_variants():
            for task in dict.fromkeys(task_of(operation) for operation in variant.operations):
                assert grade_task(fresh(variant.patches), draw.bytes(8), bank, task).status == "passed", (
                    variant.id
                )
