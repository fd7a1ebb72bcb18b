"""The judge by itself: a bank made by hand, submissions that are plain functions."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.cases import (
    Answer,
    Case,
    CaseBank,
    Mistake,
    draw_seed,
    load_bank,
    same_numbers,
    sample,
    save_bank,
)
from grading.judge import Attempt, Unit, grade, grade_task, points_of, symptom
from grading.protocol import ChildError, child_error
from grading.tasks import OPERATIONS, TASKS, task_of

RIGHT = {
    "value": np.array([6.0], np.float32),
    "gradient": np.array([1.0, -2.0, 3.0, 4.0], np.float32),
    "again": np.array([9.0], np.float32),
}
PLACES = {key: np.arange(array.size, dtype=np.float64) for key, array in RIGHT.items()}


def case(number: int, **more) -> Case:
    inputs = {"features": np.full((1, 1, 2, 2), number, np.float32)}
    fields = {"inputs": inputs, "expected": RIGHT, "accepted": [], "places": PLACES, "answers": []} | more
    return Case(f"content/plain/{number}", "content", "plain", **fields)


def bank_of(*cases: Case, mistakes=()) -> CaseBank:
    return CaseBank({mistake.id: mistake for mistake in mistakes}, list(cases))


def result_of(outputs, bank=None):
    """The content task's result for a submission that always answers `outputs` (or raises them)."""

    def execute(_operation, _inputs):
        if isinstance(outputs, Exception):
            raise outputs
        return outputs

    return grade_task(execute, b"seed", bank or bank_of(case(1), case(2)), "content")


# ---------------------------------------------------------------------------------------------- points


def test_the_points_of_all_tasks_are_a_hundred():
    assert sum(task.points for task in TASKS.values()) == 100
    assert {name for task in TASKS.values() for name in task.operations} == set(OPERATIONS)


def test_right_answers_get_all_points():
    result = result_of(RIGHT)
    assert (result.points, result.status, result.findings) == (8, "passed", [])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_never_pass(bad):
    outputs = {key: np.full_like(array, bad) for key, array in RIGHT.items()}
    assert result_of(outputs).points == 0
    one = RIGHT | {"gradient": np.array([1.0, -2.0, 3.0, bad], np.float32)}
    result = result_of(one)
    assert result.points == 4  # the gradient is half of a loss
    assert result.findings[0].id == "content-nan"


def test_nan_is_wrong_even_where_the_bank_expects_it():
    wanted = {key: np.full_like(array, np.nan) for key, array in RIGHT.items()}
    assert result_of(wanted, bank_of(case(1, expected=wanted))).points == 0


class Agreeable(np.ndarray):
    """An array that says yes to everything."""

    def __eq__(self, other):
        return True

    def __sub__(self, other):
        return np.zeros(1)


@pytest.mark.parametrize(
    "forged",
    [
        {},
        dict.fromkeys(RIGHT),
        {key: array.tolist() for key, array in RIGHT.items()},
        {key: array.astype(object) for key, array in RIGHT.items()},
        {key: array.astype(np.int64) for key, array in RIGHT.items()},
        {key: np.zeros_like(array).view(Agreeable) for key, array in RIGHT.items()},
        {key: np.zeros(0, np.float32) for key in RIGHT},
        {key: np.zeros(()) for key in RIGHT},
        {key: np.zeros((2, 3, 4)) for key in RIGHT},
    ],
    ids=["nothing", "None", "lists", "objects", "integers", "subclass", "empty", "scalar", "shape"],
)
def test_what_is_no_plain_array_of_the_right_shape_gets_nothing(forged):
    result = result_of(forged)
    assert (result.points, result.status) == (0, "failed")
    assert result.findings


def test_the_submission_cannot_change_the_bank():
    def execute(_operation, inputs):
        inputs["features"][:] = 0
        return RIGHT

    bank = bank_of(case(5))
    grade_task(execute, b"seed", bank, "content")
    assert bank.cases[0].inputs["features"].tolist() == [[[[5, 5], [5, 5]]]]


def test_partial_credit_counts_outputs_by_their_share():
    assert result_of(RIGHT | {"again": np.array([0.0], np.float32)}).points == pytest.approx(
        8 * 5 / 6, abs=0.01
    )
    assert result_of({"value": RIGHT["value"]}).points == pytest.approx(8 * 2 / 6, abs=0.01)


def test_tolerance_is_tight():
    for key, array in RIGHT.items():
        assert result_of(RIGHT | {key: array * np.float32(1 + 1e-6)}).status == "passed"
        assert result_of(RIGHT | {key: array * np.float32(1 + 1e-4)}).status == "partial"


@given(st.data())
def test_one_more_right_unit_never_costs_points(data):
    units = [
        Unit(Attempt(case(number)), key, OPERATIONS["content"].outputs[key].share, data.draw(st.booleans()))
        for number in range(4)
        for key in RIGHT
    ]
    before = points_of(units, 8)
    wrong = [unit for unit in units if not unit.right]
    if wrong:
        data.draw(st.sampled_from(wrong)).right = True
    after = points_of(units, 8)
    assert 0 <= before <= after <= 8
    assert (after == 8) == all(unit.right for unit in units)


def test_an_accepted_answer_counts_only_as_a_whole():
    other = {key: 2 * array for key, array in RIGHT.items()}
    bank = bank_of(case(1, accepted=[other]))
    assert result_of(other, bank).status == "passed"
    assert result_of(RIGHT | {"value": other["value"]}, bank).points < 8


# ----------------------------------------------------------------------------------------------- draws


def test_the_draw_follows_from_secret_and_submission_alone():
    bank = bank_of(*(case(number) for number in range(30)))

    def drawn(seed):
        return [case.name for case in bank.draw(seed, "content", "plain", 2)]

    seed = draw_seed(b"secret", b"submission")
    assert drawn(seed) == drawn(draw_seed(b"secret", b"submission"))
    assert drawn(seed) != drawn(draw_seed(b"other secret", b"submission"))
    every = {
        name
        for number in range(300)
        for name in drawn(draw_seed(b"secret", bytes([number % 256, number // 256])))
    }
    assert len(every) == 30


def test_a_result_names_its_cases_and_the_bank_finds_them():
    bank = bank_of(case(1), case(2))
    result = result_of(RIGHT, bank)
    assert sorted(result.cases) == ["content/plain/1", "content/plain/2"]
    assert bank.case(result.cases[0]).name == result.cases[0]
    with pytest.raises(KeyError):
        bank.case("content/plain/3")


# ---------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("kind", ["timeout", "memory", "died", "protocol", "import", "missing"])
def test_a_task_is_not_asked_again_after_its_process_is_lost(kind):
    asked = []

    def execute(_operation, _inputs):
        asked.append(1)
        raise ChildError(kind, "what happened")

    result = grade_task(execute, b"seed", bank_of(case(1), case(2)), "content")
    assert (len(asked), result.points, len(result.findings)) == (1, 0, 1)
    assert "what happened" in result.findings[0].message


def test_a_stub_ends_its_operation_and_is_named_in_one_short_line():
    asked = []

    def execute(_operation, _inputs):
        asked.append(1)
        raise ChildError("not_implemented", "NotImplementedError: Task 4 (style_modules/content_loss.py:23)")

    result = grade_task(execute, b"seed", bank_of(case(1), case(2)), "content")
    (finding,) = result.findings
    assert (len(asked), result.points) == (1, 0)
    assert finding.message == "forward is not written yet: see style_modules/content_loss.py:23."


def test_an_exception_costs_its_own_case_only():
    def execute(_operation, inputs):
        if inputs["features"].flat[0] == 1:
            raise ChildError("exception", "IndexError: index 5 is out of bounds (content_loss.py:7)")
        return RIGHT

    result = grade_task(execute, b"seed", bank_of(case(1), case(2)), "content")
    assert (result.points, result.status) == (4, "partial")
    assert "content_loss.py:7" in result.findings[0].message


def test_a_hostile_message_does_not_hide_the_error(tmp_path):
    class Hostile(Exception):
        def __str__(self):
            raise KeyboardInterrupt

    error = child_error(Hostile(), tmp_path)
    assert (error.kind, error.message) == ("exception", "Hostile: (its message cannot be read)")
    assert len(child_error(ValueError("x" * 10**6), tmp_path).message) <= 500
    assert "\n" not in child_error(ValueError("a\nb"), tmp_path).message


def test_results_come_one_by_one_and_are_plain_data():
    seen = []
    report = grade(lambda *_: RIGHT, b"seed", bank_of(case(1)), ["content", "tv"], seen.append)
    assert [task.task for task in seen] == ["content", "tv"]
    assert seen == report.tasks
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["max_points"] == 16


def test_a_task_without_cases_gives_no_points():
    assert grade_task(lambda *_: RIGHT, b"seed", bank_of(), "content").points == 0


# --------------------------------------------------------------------------------------------- findings


def seen_in(got, wanted=None):
    wanted = RIGHT["gradient"] if wanted is None else np.asarray(wanted, np.float32)
    expected = RIGHT | {"gradient": wanted}
    attempt = Attempt(case(1, expected=expected), {"gradient": np.asarray(got, np.float32)})
    return symptom([Unit(attempt, "gradient", 1, False)])


def test_symptoms():
    right = RIGHT["gradient"]
    assert seen_in(-right)[0] == "sign"
    assert seen_in(right * 0)[0] == "zero"
    assert seen_in(right * 0.5)[0] == "factor"
    assert "0.5 times" in seen_in(right * 0.5)[2]
    assert seen_in(right * (1 + 3e-4))[0] == "precision"
    assert seen_in([np.nan, 1, 2, 3])[0] == "nan"
    assert seen_in([4, 3, 2, 1])[0] == "wrong"
    assert seen_in([1, 2])[0] == "shape"
    assert "swapped" in seen_in(np.ones((3, 2)), np.ones((2, 3)))[2]
    square = [[1, 2], [3, 5]]
    assert seen_in(np.transpose(square), square)[0] == "wrong", (
        "a square does not show that it was transposed"
    )


def test_a_factor_that_differs_from_case_to_case_is_told_as_such():
    units = [
        Unit(Attempt(case(number), {"value": RIGHT["value"] * factor}), "value", 1, False)
        for number, factor in ((1, 0.5), (2, 0.25))
    ]
    assert symptom(units)[0] == "wrong"  # of a single number a factor says nothing
    for unit in units:
        unit.attempt.outputs["gradient"] = RIGHT["gradient"] * unit.got[0]
        unit.key = "gradient"
    assert symptom(units)[0] == "varying-factor"


HALF = Mistake("content-half", "content", "factor one half", "Half.")
HALVED = {key: (array.shape, sample(array * 0.5, PLACES[key])) for key, array in RIGHT.items()}


def test_a_mistake_is_named_where_all_its_answers_are_met():
    bank = bank_of(case(1, answers=[Answer("content-half", HALVED)]), mistakes=[HALF])
    result = result_of({key: array * np.float32(0.5) for key, array in RIGHT.items()}, bank)
    assert [finding.id for finding in result.findings] == ["content-half"]
    result = result_of({key: array * np.float32(0.3) for key, array in RIGHT.items()}, bank)
    assert [finding.id for finding in result.findings] == ["content-factor"]


def test_a_mistake_that_gives_some_right_answers_is_not_named_for_wrong_ones():
    only_value = {"value": HALVED["value"]}
    bank = bank_of(case(1, answers=[Answer("content-half", only_value)]), mistakes=[HALF])
    outputs = RIGHT | {"value": RIGHT["value"] * np.float32(0.5)}
    assert [finding.id for finding in result_of(outputs, bank).findings] == ["content-half"]
    outputs["gradient"] = -RIGHT["gradient"]
    assert "content-sign" in [finding.id for finding in result_of(outputs, bank).findings]


def test_same_numbers_is_relative_to_the_largest():
    assert same_numbers(np.array([1e6, 1.0]), np.array([1e6, 0.0]), 1e-5)
    assert not same_numbers(np.array([1.0, 1.0]), np.array([1.0, 0.0]), 1e-5)
    assert same_numbers(np.array([np.nan]), np.array([np.nan]), 0)
    assert not same_numbers(np.array([np.nan]), np.array([0.0]), 1)
    assert not same_numbers(np.array([[0.0]]), np.array([0.0]), 1)


# ---------------------------------------------------------------------------------------------- on disk


def test_a_bank_survives_its_file(tmp_path):
    answers = [Answer("content-half", HALVED), Answer("content-half", {}, "exception")]
    bank = bank_of(case(1, answers=answers, accepted=[RIGHT]), case(2), mistakes=[HALF])
    read = load_bank(save_bank(bank, tmp_path / "folder" / "bank.npz"))
    assert read.mistakes == bank.mistakes
    for old, new in zip(bank.cases, read.cases, strict=True):
        assert (old.name, old.operation, old.kind) == (new.name, new.operation, new.kind)
        for arrays, others in (
            (old.inputs, new.inputs),
            (old.expected, new.expected),
            (old.places, new.places),
            *zip(old.accepted, new.accepted, strict=True),
        ):
            assert arrays.keys() == others.keys()
            for key, array in arrays.items():
                assert (array.dtype, array.shape) == (others[key].dtype, others[key].shape)
                assert np.array_equal(array, others[key])
        for answer, other in zip(old.answers, new.answers, strict=True):
            assert (answer.mistake, answer.error) == (other.mistake, other.error)
            for key, (shape, values) in answer.outputs.items():
                assert tuple(other.outputs[key][0]) == shape
                assert np.array_equal(other.outputs[key][1], values)
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["bank.npz"]


def test_a_bank_with_pickles_is_refused(tmp_path):
    path = tmp_path / "bank.npz"
    np.savez(path, index=np.array([{}], dtype=object), f4=np.zeros(0), f8=np.zeros(0))
    with pytest.raises(ValueError, match="pickle"):
        load_bank(path)


def test_every_operation_belongs_to_one_task():
    assert [task_of(name) for name in ("grad_cam", "guided_backprop", "tv")] == ["gradcam", "gradcam", "tv"]
