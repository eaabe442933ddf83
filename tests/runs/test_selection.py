"""Which items an iteration takes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import RunError
from thalweg.runs import Selection

sizes = st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@pytest.mark.parametrize("kind", ["every", "random"])
@given(sizes=sizes, seed=st.integers(0, 2**32))
def test_each_pass_takes_each_item_once_in_batches_of_nearly_equal_size(kind, sizes, seed):
    items, most = sizes
    selection = Selection(kind, items=items, batch_size=most, seed=seed)
    assert selection.batches == -(-items // most)
    for _ in range(3):
        batches = [selection.next() for _ in range(selection.batches)]
        assert [batch.begins_epoch for batch in batches] == [True] + [False] * (len(batches) - 1)
        lengths = [len(batch.items) for batch in batches]
        assert max(lengths) <= most
        assert max(lengths) - min(lengths) <= 1
        assert sorted(np.concatenate([batch.items for batch in batches]).tolist()) == list(range(items))
        assert all(np.all(np.diff(batch.items) > 0) for batch in batches)


def test_all_takes_all_and_every_rotates():
    selection = Selection("all", items=3)
    assert [selection.next().items.tolist() for _ in range(2)] == [[0, 1, 2]] * 2
    selection = Selection("every", items=8, batch_size=2)
    assert [selection.next().items.tolist() for _ in range(5)] == [[0, 4], [1, 5], [2, 6], [3, 7], [0, 4]]


def test_random_differs_between_passes_seeds_and_blocks_and_repeats_for_the_same():
    def draw(**given):
        selection = Selection("random", items=30, batch_size=10, **given)
        return [selection.next().items.tolist() for _ in range(6)]

    assert draw(seed=1) == draw(seed=1)
    assert draw(seed=1)[:3] != draw(seed=1)[3:]
    assert draw(seed=1) != draw(seed=2)
    assert draw(seed=1, block=0) != draw(seed=1, block=1)
    assert draw(seed=0) != draw(seed=1)  # the seed 0 is a seed


@pytest.mark.parametrize("kind", ["all", "every", "random"])
@pytest.mark.parametrize("taken", range(8))
def test_state_through_json_continues_to_the_same_batches(kind, taken):
    given = {"items": 10, "batch_size": None if kind == "all" else 3, "seed": 5, "block": 2}
    one = Selection(kind, **given)
    for _ in range(taken):
        one.next()
    other = Selection(kind, **{**given, "seed": 99})
    other.next()
    other.restore(json.loads(json.dumps(one.state())))
    assert [one.next().items.tolist() for _ in range(9)] == [other.next().items.tolist() for _ in range(9)]


def test_a_state_that_does_not_fit_is_refused_and_nothing_changes():
    selection = Selection("random", items=10, batch_size=3, seed=5)
    selection.next()
    before = json.dumps(selection.state())
    good = json.loads(before)
    for change in (
        {"items": 11},
        {"kind": "every"},
        {"count": -1},
        {"count": "2"},
        {"count": 1.5},
        {"generator": {"bit_generator": "MT19937"}},
        {"generator": 3},
    ):
        with pytest.raises(RunError, match=r"do not fit|damaged"):
            selection.restore({**good, **change})
    assert json.dumps(selection.state()) == before


def test_numbers_out_of_range_are_named():
    with pytest.raises(RunError, match="batch_size is 11; with 10 items"):
        Selection("random", items=10, batch_size=11)
    with pytest.raises(RunError, match="batch_size is 0"):
        Selection("every", items=10, batch_size=0)
    with pytest.raises(RunError, match="selection is 'some'"):
        Selection("some", items=10)
    with pytest.raises(RunError, match="has 0 items"):
        Selection("all", items=0)
