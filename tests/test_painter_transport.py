"""The loss of optimal transport: its parts by hand, and what it paints."""

import dataclasses

import pytest
import torch

from extras.painter import transport
from extras.painter.transport import (
    PLACES,
    columns,
    cosine_distances,
    places,
    relaxed_transport,
    self_similarity_error,
)
from tests.test_painter import SETTINGS, image, run

TRANSPORT = dataclasses.replace(SETTINGS, loss="transport")


def test_cosine_distances_by_hand():
    a, b = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 3.0], [-5.0, 0.0]])
    expected = torch.tensor([[1.0, 2.0], [1 - 0.5**0.5, 1 + 0.5**0.5]])
    torch.testing.assert_close(cosine_distances(a, b), expected)


def test_transport_by_hand_takes_the_larger_of_both_directions():
    # Rows: nearest 1 and 3, mean 2. Columns: nearest 1, 2 and 9, mean 4.
    distances = torch.tensor([[1.0, 2.0, 9.0], [5.0, 3.0, 9.0]])
    assert relaxed_transport(distances).item() == pytest.approx(4.0)
    assert relaxed_transport(distances.mT).item() == pytest.approx(4.0)


def test_self_similarity_does_not_ask_what_things_look_like():
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double()
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)).double())
    D = cosine_distances(x, x, torch.float64)
    assert self_similarity_error(cosine_distances(x @ rotation, x @ rotation, torch.float64), D) < 1e-5
    assert self_similarity_error(3 * D, D).item() == pytest.approx(
        0, abs=1e-5
    )  # nor how far apart on the whole
    # By hand: columns (0, 1) and (1, 0) become (1/2, 1/2): each of four entries is off by 1/2, over n = 2.
    found, wanted = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.ones(2, 2)
    assert self_similarity_error(found, wanted).item() == pytest.approx(1.0)


def test_columns_are_the_features_of_one_place():
    small, large = torch.arange(4.0).view(1, 1, 2, 2), torch.arange(32.0).view(1, 2, 4, 4)
    where = torch.tensor([[0.1, 0.9], [0.6, 0.3]])  # (y, x)
    found = columns({"small": small, "large": large}, where, {"small": 2.0, "large": 1.0})
    assert found.tolist() == [[0.5, 3.0, 19.0], [1.0, 9.0, 25.0]]


def test_places_are_drawn_where_the_weights_are():
    weights = torch.zeros(1, 1, 4, 8)
    weights[..., 5:] = 1 / 12
    drawn = places(weights)
    assert drawn.shape == (PLACES, 2)
    assert (drawn[:, 1] > 5 / 8).all() and (drawn < 1).all()
    assert len(drawn.unique(dim=0)) == 12
    everywhere = places(None)
    assert everywhere.min() >= 0 and everywhere.max() < 1 and everywhere.std(dim=0).min() > 0.25


def test_transport_paints_and_the_same_seed_paints_the_same():
    first, second = (run(settings=TRANSPORT, steps=(30,)) for _ in range(2))
    assert torch.equal(first[-1].picture, second[-1].picture)
    assert {"content", "similarity", "transport"} < set(first[0].terms)
    assert first[-1].style < 0.7 * first[0].style


@pytest.mark.parametrize(
    ("weight", "term"), [("TRANSPORT", "transport"), ("COLOR", "transport"), ("SIMILARITY", "similarity")]
)
def test_each_part_gets_smaller_where_it_counts_more(monkeypatch, weight, term):
    """A red painting and a grey photo, with a weight of 0 and with a large one."""
    found = {}
    style = image(2) * torch.tensor([1.0, 0.3, 0.1]).view(1, 3, 1, 1)
    for value in (0.0, 20.0):
        monkeypatch.setattr(transport, weight, value)
        picture = run(style=style, settings=TRANSPORT, steps=(40,))[-1].picture
        for name in ("TRANSPORT", "COLOR", "SIMILARITY"):
            monkeypatch.setattr(transport, name, float(name == weight))
        found[value] = run(style=style, start=picture, settings=TRANSPORT, steps=(1,))[0].terms[term]
        monkeypatch.undo()
    assert found[20.0] < 0.8 * found[0.0]


def test_self_similarity_follows_the_strength():
    weak, strong = (
        run(settings=dataclasses.replace(TRANSPORT, strength=s), steps=(1,))[0].terms["similarity"]
        for s in (0.5, 2.0)
    )
    assert weak == pytest.approx(4 * strong, rel=1e-5)
