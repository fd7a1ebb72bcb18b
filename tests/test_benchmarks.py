"""The page of measurements: every section has its place, and writing one leaves the others alone."""

import itertools
import os

import pytest
import torch

from benchmarks import __main__ as page
from benchmarks import classes, published
from benchmarks.timing import difference, flops_of, in_turns, process_of


def test_every_section_has_a_place_on_the_page(tmp_path, monkeypatch):
    copy = tmp_path / "benchmarks.md"
    text = page.PAGE.read_text(encoding="utf-8")
    copy.write_text(text, encoding="utf-8")
    monkeypatch.setattr(page, "PAGE", copy)
    for name in page.SECTIONS:
        page.write_section(name, f"measured {name}")
    written = copy.read_text(encoding="utf-8")
    assert all(written.count(f"measured {name}\n") == 1 for name in page.SECTIONS)
    assert written.split("<!-- maps -->")[0] == text.split("<!-- maps -->")[0]
    with pytest.raises(SystemExit, match="has no place for speed"):
        page.write_section("speed", "")


def test_a_table_leaves_empty_columns_out():
    assert page.table([["a", "", "1.0"], ["b", "", ""]], ["work", "nothing", "ratio"]).splitlines() == [
        "| work | ratio |",
        "| --- | ---: |",
        "| a | 1.0 |",
        "| b |  |",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.34, "12.3 s"), (2.0, "2.00 s"), (1.5, "1500 ms"), (0.0123, "12.3 ms")]
)
def test_times_have_three_digits(seconds, text):
    assert page.shown(seconds) == text


def test_sides_take_turns_and_the_median_counts(monkeypatch):
    seen, clock = [], itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    times = in_turns({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, rounds=2, warm_up=1)
    assert seen == list("ababab") and times == {"a": 1.0, "b": 1.0}


def toy_sides(folder):
    def fail():
        raise ValueError("a side that fails")

    return {"says": lambda: (folder / "process").write_text(str(os.getpid())), "fails": fail}


def test_sides_can_have_a_process_of_their_own(tmp_path):
    with process_of(toy_sides, tmp_path) as sides:
        assert sides("says")() is None  # what it returns is not sent
        assert int((tmp_path / "process").read_text()) != os.getpid()
        with pytest.raises(ValueError, match="a side that fails"):
            sides("fails")()


def test_operations_are_counted_forward_and_backward():
    A, B = torch.rand(4, 5, requires_grad=True), torch.rand(5, 6)
    assert flops_of(lambda: A.detach() @ B) == 2 * 4 * 5 * 6
    assert flops_of(lambda: torch.autograd.grad((A @ B).sum(), A)) == 2 * 2 * 4 * 5 * 6
    layer = torch.nn.Linear(5, 6, bias=False).requires_grad_(False)
    assert flops_of(lambda: torch.autograd.grad(layer(A).sum(), A)) == 2 * 2 * 4 * 5 * 6


def test_a_race_between_different_things_is_refused():
    assert difference(torch.ones(3), torch.ones(3)) == "0e+00"
    with pytest.raises(ValueError, match="different things"):
        difference(torch.ones(3), torch.tensor([1.0, 1.0, 1.2]))


def test_the_written_out_style_loop_lowers_its_loss():
    cnn = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 5, 3))
    content, style = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    settings = {"content_layer": 2, "content_weight": 1.0, "style_layers": [1], "style_weights": [10.0]}
    steps = published.style_transfer(
        cnn.requires_grad_(False), content, style, tv_weight=1e-3, steps=30, rate=0.05, **settings
    )
    losses = [loss for _, loss in steps]
    assert len(losses) == 30 and losses[-1] < 0.8 * losses[0]


def test_the_judge_sees_its_own_units_and_ranks_the_class():
    seen = []

    def judge(x):
        seen.append(x)
        return torch.tensor([[0.1, 0.9, 0.5, 0.3], [0.1, 0.9, 0.5, 0.3]])

    grey = torch.zeros(2, 3, 4, 4)  # ImageNet's mean colour
    answers = classes.judged(judge, grey, [1, 3])
    assert [(answer.target, answer.rank, answer.best) for answer in answers] == [(1, 1, 1), (3, 3, 1)]
    torch.testing.assert_close(seen[0][0, :, 0, 0], (255 * torch.tensor([0.485, 0.456, 0.406]) - 127) / 128)
    assert answers[0].mean == pytest.approx((0.485 + 0.456 + 0.406) / 3)


def test_the_judged_classes_are_those_of_the_seed():
    assert classes.random_classes(0) == classes.random_classes(0) != classes.random_classes(1)
    assert len(set(classes.random_classes(1))) == classes.CLASSES
