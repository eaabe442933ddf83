"""The fixed tree: the same bits in any order of arrival."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import RunError
from thalweg.runtime import TreeReduction, add_trees


def level_by_level(values):
    """The definition, written down directly."""
    with np.errstate(over="ignore", invalid="ignore"):
        while len(values) > 1:
            pairs = [values[i] + values[i + 1] for i in range(0, len(values) - 1, 2)]
            values = pairs + ([values[-1]] if len(values) % 2 else [])
    return values[0]


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=70),
    st.randoms(),
)
def test_any_order_gives_the_bits_of_the_definition(values, rng):
    order = list(range(len(values)))
    rng.shuffle(order)
    reduction = TreeReduction(len(values))
    for index in order:
        reduction.put(index, values[index])
    expected = level_by_level([np.float64(v) for v in values]) if len(values) > 1 else values[0]
    got = reduction.result()
    assert math.isnan(got) == math.isnan(expected)
    if not math.isnan(got):
        assert np.float64(got).tobytes() == np.float64(expected).tobytes()


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("dtype", ["f4", "f8", "c16", "i8"])
def test_arrays_are_summed_in_the_tree_and_the_tasks_arrays_are_left_alone(dtype):
    rng = np.random.default_rng(1)
    values = [(rng.standard_normal((3, 4)) * 10.0 ** rng.integers(-6, 6)).astype(dtype) for _ in range(23)]
    kept = [value.copy() for value in values]
    expected = level_by_level([value.copy() for value in values])
    for seed in range(5):
        order = list(range(23))
        random.Random(seed).shuffle(order)
        reduction = TreeReduction(23)
        for index in order:
            reduction.put(index, {"g": (values[index], [1.0])})
        total = reduction.result()
        assert total["g"][0].tobytes() == expected.tobytes()
        assert total["g"][1] == [23.0]
        assert total["g"][0].dtype == np.dtype(dtype)
    assert all(np.array_equal(a, b) for a, b in zip(values, kept, strict=True))


def test_in_order_at_most_the_depth_of_the_tree_waits():
    reduction = TreeReduction(1000)
    most = 0
    for index in range(1000):
        reduction.put(index, 1.0)
        most = max(most, reduction.alive)
    assert reduction.depth == 10
    assert most <= 10
    assert reduction.alive == 0
    assert reduction.result() == 1000.0


def test_zero_dimensional_arrays_stay_arrays():
    total = add_trees(np.array(1.0), np.array(2.0))
    assert isinstance(total, np.ndarray)
    assert total.shape == ()
    assert add_trees(total, np.array(0.5), into_left=True) is total


def test_overflow_is_no_warning_here():
    assert np.isinf(add_trees(np.array([3e38], "f4"), np.array([3e38], "f4"))).all()


@pytest.mark.parametrize(
    ("left", "right", "named"),
    [
        ({"a": 1.0}, {"b": 1.0}, "result is the keys"),
        ({"a": np.zeros(3)}, {"a": np.zeros(4)}, "result['a']"),
        ({"a": np.zeros(3, "f4")}, {"a": np.zeros(3, "f8")}, "float32"),
        ([1.0], [1.0, 2.0], "entries"),
        ([1.0], (1.0,), "list"),
        ("a", "b", "str"),
        (None, None, "NoneType"),
        (True, True, "bool"),
        (np.zeros(3), np.zeros(1), "(1,)"),
        (np.zeros(1, object), np.zeros(1, object), "object"),
    ],
)
def test_what_cannot_be_added_is_named(left, right, named):
    with pytest.raises(RunError) as error:
        add_trees(left, right)
    assert named in str(error.value)


def test_no_items_and_missing_results():
    with pytest.raises(RunError, match="nothing to reduce"):
        TreeReduction(0)
    reduction = TreeReduction(2)
    reduction.put(1, 1.0)
    with pytest.raises(RunError, match="not complete"):
        reduction.result()
