"""The layout: imports point down, graded files are plain, and nothing outside uses more of them than was published."""

import ast
import inspect
from pathlib import Path

import pytest

import style_modules
import style_utils
import visualizers

ROOT = Path(__file__).resolve().parent.parent
RUNNERS = ("class_visualization", "saliency_visualization", "gradcam_visualization", "style_transfer")
# From the ground up. A module may import from its own package and from lower floors.
FLOORS = (
    ("helpers",),
    ("style_modules",),
    ("visualizers",),
    ("style_utils",),
    ("extras",),
    ("grading", "benchmarks", "page", "report"),
    (*RUNNERS, "collect_submission"),
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
# The names of the published assignment: real students' files have these, and no others can be counted on.
PUBLISHED = {
    "visualizers.class_visualization": {
        "ClassVisualization": {"create_class_visualization", "jitter", "blur_image"}
    },
    "visualizers.saliency_map": {"SaliencyMap": {"compute_saliency_maps", "show_saliency_maps"}},
    "visualizers.gradcam": {"GradCam": {"grad_cam", "guided_backprop"}},
    "style_modules.content_loss": {"ContentLoss": {"forward"}},
    "style_modules.style_loss": {"StyleLoss": {"gram_matrix", "forward"}},
    "style_modules.tv_loss": {"TotalVariationLoss": {"forward"}},
    "style_utils": {
        name: set() for name in ("extract_features", "features_from_img", "rel_error", "style_transfer")
    },
}
CLASSES = {name: members for classes in PUBLISHED.values() for name, members in classes.items() if members}


def sources(root: Path) -> dict[str, ast.Module]:
    """The modules on the floors, by their dotted names."""
    found = {}
    for name in FLOOR:
        for path in [root / f"{name}.py", *(root / name).rglob("*.py")]:
            if path.is_file():
                dotted = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
                found[dotted] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.AST) -> list[tuple[int, str]]:
    """Every module that is imported anywhere in a tree, with the line."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def upward(root: Path) -> list[str]:
    """The imports that do not point down."""
    arrows = []
    for module, tree in sources(root).items():
        own = module.partition(".")[0]
        for line, target in imported(tree):
            other = target.partition(".")[0]
            if other != own and FLOOR.get(other, -1) >= FLOOR[own]:
                arrows.append(f"{module}:{line} imports {target}")
    return arrows


def unpublished(root: Path) -> list[str]:
    """The uses of a graded file's other names outside that file."""
    trees = sources(root)
    hidden: dict[str, set[str]] = {}
    for module, names in PUBLISHED.items():
        inside = trees[module].body
        defined = {n.name for n in inside if isinstance(n, ast.ClassDef | ast.FunctionDef)}
        defined |= {
            name.id
            for node in inside
            if isinstance(node, ast.Assign)
            for target in node.targets
            for name in ast.walk(target)
            if isinstance(name, ast.Name)
        }
        hidden[module] = defined - names.keys()
        for node in inside:
            if isinstance(node, ast.ClassDef) and node.name in names:
                members = {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
                hidden[module] |= members - names[node.name]
    found = []
    for module, tree in trees.items():
        others = set().union(*(names for graded, names in hidden.items() if graded != module))
        for line, target in imported(tree):
            graded, _, name = target.rpartition(".")
            if graded in PUBLISHED and graded != module and name not in PUBLISHED[graded]:
                found.append(f"{module}:{line} imports {target}")
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or module in PUBLISHED:
                continue
            owner = node.value.func if isinstance(node.value, ast.Call) else node.value
            known = CLASSES.get(owner.id) if isinstance(owner, ast.Name) else None
            if node.attr in others or (known is not None and node.attr not in known):
                found.append(f"{module}:{node.lineno} uses .{node.attr}")
    return found


def test_every_import_points_down():
    assert upward(ROOT) == []


def test_nothing_outside_a_graded_file_uses_more_of_it_than_the_published_members():
    assert unpublished(ROOT) == []


@pytest.mark.parametrize(
    ("file", "code", "check"),
    [
        ("helpers/figures.py", "from visualizers import GradCam\n", upward),
        ("visualizers/mechanisms.py", "def f():\n    import extras.painter\n", upward),
        ("report/x.py", "import grading\n", upward),
        ("extras/a.py", "from visualizers.gradcam import GuidedReLU\n", unpublished),
        ("extras/a.py", "from visualizers import GradCam\nGradCam().heatmap(1)\n", unpublished),
        ("extras/a.py", "def f(technique):\n    technique._weights()\n", unpublished),
        ("benchmarks/a.py", "import style_utils\nstyle_utils.STEPS\n", unpublished),
    ],
)
def test_a_wrong_import_or_use_would_be_found(file, code, check, tmp_path):
    for module in PUBLISHED:
        path = tmp_path / f"{module.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("STEPS = 1\n\n\nclass GradCam:\n    def _weights(self):\n        pass\n")
    assert check(tmp_path) == []
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(code)
    (found,) = check(tmp_path)
    assert found.startswith(".".join(Path(file).with_suffix("").parts))


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_runner_loads_extras_only_when_an_option_asks_for_it(runner):
    tree = ast.parse((ROOT / f"{runner}.py").read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [target for node in top for _, target in imported(node) if target.startswith("extras")]


def test_every_graded_file_imports_torch_at_its_top_and_style_modules_holds_nothing_else():
    trees = sources(ROOT)
    for module in PUBLISHED:
        top = [node for node in trees[module].body if isinstance(node, ast.Import)]
        assert any(alias.name == "torch" for node in top for alias in node.names), module
    assert {name for name in trees if name.startswith("style_modules.")} == {
        name for name in PUBLISHED if name.startswith("style_modules.")
    }


def test_every_published_name_is_there():
    for module in (visualizers, style_modules):
        for name in module.__all__:
            assert CLASSES[name] <= vars(getattr(module, name)).keys()
    assert set(PUBLISHED["style_utils"]) <= vars(style_utils).keys()
    parameters = inspect.signature(visualizers.ClassVisualization.create_class_visualization).parameters
    assert list(parameters) == [
        *("self", "target_y", "class_names", "model", "dtype", "l2_reg", "learning_rate", "num_iterations"),
        *("blur_every", "max_jitter", "show_every", "generate_plots"),
    ]


def test_a_namespace_goes_no_further_than_its_runner():
    for module, tree in sources(ROOT).items():
        if module.startswith(("extras", "visualizers", "style_")) and module not in RUNNERS:
            assert "Namespace" not in ast.dump(tree), module


def test_every_progress_bar_is_for_terminals_alone():
    """With disable=None tqdm draws nothing into a file or a pipe."""
    bars = 0
    for name, tree in sources(ROOT).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "tqdm":
                bars += 1
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert options.get("disable") == "None", f"{name}, line {node.lineno}"
    assert bars >= 2
