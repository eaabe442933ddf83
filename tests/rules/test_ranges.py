from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from thalweg.errors import HyperparameterError
from thalweg.rules.ranges import Interval, finite, fraction, nonnegative, number, positive
from thalweg.rules.spelling import nearest, unknown


def test_an_interval_knows_its_ends() -> None:
    assert 0.0 in nonnegative
    assert 0.0 not in positive
    assert 1.0 not in fraction
    assert float("inf") not in finite
    assert float("nan") not in finite
    assert 2.0 in Interval(1.0, 2.0)
    assert str(Interval(1.0, 2.0, closed_low=False)) == "(1, 2]"


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int64(1), np.array(1.0), Fraction(1)])
def test_real_numbers_become_floats(value: object) -> None:
    result = number(value, nonnegative, name="x", owner="test")
    assert type(result) is float
    assert result == 1.0


@pytest.mark.parametrize("value", [True, np.True_, "1", None, 1j, [1.0], np.array([1.0])])
def test_what_is_no_real_number_is_refused(value: object) -> None:
    with pytest.raises(HyperparameterError, match="real number"):
        number(value, nonnegative, name="x", owner="test")


def test_the_message_names_owner_value_and_range() -> None:
    with pytest.raises(HyperparameterError, match=r"adam: beta1 is 1.5, outside its range \[0, 1\)") as caught:
        number(1.5, fraction, name="beta1", owner="adam")
    assert caught.value.details == {"owner": "adam", "name": "beta1", "value": 1.5, "range": "[0, 1)"}


@pytest.mark.parametrize(
    ("written", "meant"), [("lr", "learning_rate"), ("learning_rte", "learning_rate"), ("zzz", None)]
)
def test_the_nearest_name_is_found(written: str, meant: str | None) -> None:
    assert nearest(written, ["learning_rate", "beta1"]) == meant
    assert unknown("thing", written, ["learning_rate", "beta1"]).details["nearest"] == meant


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), 10**5000, Fraction(10**400)], ids=["", "negative", "unprintable", "fraction"]
)
def test_a_number_beyond_double_precision_is_refused(value: object) -> None:
    with pytest.raises(HyperparameterError, match="x is too large for a float"):
        number(value, finite, name="x", owner="test")
