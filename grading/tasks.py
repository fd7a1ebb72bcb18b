"""What is graded: tasks, their points, the outputs of each operation, and their tolerances."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from helpers.errors import UsageError


@dataclass(frozen=True)
class Output:
    """An output of an operation: its name for students, its share in the operation's points, and its tolerance in
    single and double precision, relative to the largest expected number.
    """

    label: str
    share: float
    single: float = 2e-5
    double: float = 1e-6
    instead: str | None = None  # right, too, if this output is right


@dataclass(frozen=True)
class Operation:
    """An operation of grading.drivers: the function it calls, its outputs, its share in the task's points, and the
    number of cases of each kind that are drawn for a submission (the bank has several times as many).
    """

    where: str
    outputs: dict[str, Output]
    share: float = 1
    draws: int = 2


@dataclass(frozen=True)
class Task:
    """A task: its number in the handout, its title, its points."""

    number: str
    title: str
    points: float
    operations: tuple[str, ...]


TASKS = {
    "saliency": Task("1", "Saliency maps", 15, ("saliency",)),
    "gradcam": Task("2", "Grad-CAM and guided backpropagation", 20, ("grad_cam", "guided_backprop")),
    "class_visualization": Task("3", "Class model visualization", 15, ("class_visualization",)),
    "content": Task("4", "Content loss", 8, ("content",)),
    "gram": Task("5.1", "Gram matrix", 10, ("gram",)),
    "style": Task("5.2", "Style loss", 10, ("style",)),
    "tv": Task("6", "Total-variation loss", 8, ("tv",)),
    "update_rule": Task("7", "Update rule of style transfer", 14, ("update_rule",)),
}


def _maps(label: str) -> dict[str, Output]:
    return {
        "maps": Output(label, 2, single=1e-4),
        "again": Output(f"{label} of a second call", 1, single=1e-4),
    }


def _loss(label: str) -> dict[str, Output]:
    return {
        "value": Output(label, 2),
        "gradient": Output(f"gradient of the {label}", 3),
        "again": Output(f"{label} of a second call", 1),
    }


def _picture(label: str, share: float) -> Output:
    return Output(f"{label} of the style transfer", share, single=1e-3, double=1e-6)


OPERATIONS = {
    "saliency": Operation("visualizers/saliency_map.py, compute_saliency_maps", _maps("saliency map")),
    "grad_cam": Operation("visualizers/gradcam.py, grad_cam", _maps("Grad-CAM"), share=0.65),
    "guided_backprop": Operation(
        "visualizers/gradcam.py, guided_backprop", _maps("guided backpropagation"), share=0.35
    ),
    "class_visualization": Operation(
        "visualizers/class_visualization.py, create_class_visualization",
        {
            "first_step": Output(
                "picture after one step of the class visualization", 2, single=2e-4, double=1e-6
            ),
            "later_steps": Output(
                "picture after two steps of the class visualization", 2, single=1e-3, double=1e-6
            ),
            # Eight bits per colour: another rounding changes a value by one level.
            "picture": Output("returned picture of the class visualization", 1, single=0.006, double=0.006),
            "again": Output("class visualization of a second call", 1, single=1e-3, double=1e-6),
        },
    ),
    "content": Operation("style_modules/content_loss.py, forward", _loss("content loss"), draws=4),
    "gram": Operation(
        "style_modules/style_loss.py, gram_matrix",
        {
            "normalized": Output("Gram matrix", 2),
            "plain": Output("Gram matrix with normalize=False", 1),
            "gradient": Output("gradient of the Gram matrix", 2),
        },
    ),
    "style": Operation(
        "style_modules/style_loss.py, forward",
        {key: replace(output, instead=f"{key}_other_gram") for key, output in _loss("style loss").items()},
    ),
    "tv": Operation("style_modules/tv_loss.py, forward", _loss("TV loss"), draws=4),
    "update_rule": Operation(
        "style_utils.py, style_transfer",
        {
            "early": _picture("picture after the first steps", 2),
            "middle": _picture("picture up to step 180", 2),
            "decayed": _picture("picture after step 180", 2),
            "final": _picture("final picture", 1),
        },
        draws=1,
    ),
}


def file_of(operation: str) -> str:
    """The graded file that an operation calls."""
    return OPERATIONS[operation].where.partition(",")[0]


def files_of(task: str) -> list[str]:
    """The graded files of a task."""
    return list(dict.fromkeys(file_of(operation) for operation in TASKS[task].operations))


def find_tasks(words: Iterable[str]) -> list[str]:
    """The tasks that the words ask for, by name or by number: "tv", "6", "5" (5.1 and 5.2), "4,tv".

    Raises UsageError with all names for a word that is neither.
    """
    asked: set[str] = set()
    for word in (part.strip() for text in words for part in text.split(",")):
        found = {
            name
            for name, task in TASKS.items()
            if word.lower() in (name, task.number) or task.number.startswith(f"{word}.")
        }
        if not found:
            known = ", ".join(f"{task.number} {name}" for name, task in TASKS.items())
            raise UsageError(f"there is no task {word!r}; the tasks are: {known}")
        asked |= found
    return [name for name in TASKS if name in asked]


def task_of(operation: str) -> str:
    """The name of the task that an operation belongs to."""
    return next(name for name, task in TASKS.items() if operation in task.operations)


def tolerance(operation: str, key: str, dtype: np.dtype) -> float:
    """The largest error allowed in an output of type `dtype`, relative to its largest expected number."""
    output = OPERATIONS[operation].outputs[key]
    return output.single if np.dtype(dtype) == np.float32 else output.double
