"""JSON values: copies that are checked to the letter, digests that tell types apart."""

import enum
import hashlib
import json
import math
import types
from collections import OrderedDict, defaultdict
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from thalweg.errors import SearchError, ValueMismatchError
from thalweg.search import copy_json, digest_json
from thalweg.search.values import BITS, DEEPEST, LARGEST, canonical_json, written_path

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


UNHURRIED = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 1


class Model(BaseModel):
    a: int = 1


def typed(value):
    """A value with the type of each part, which == does not look at."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return (type(value), repr(value))


def containers(value):
    found = [value] if isinstance(value, dict | list) else []
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        found += containers(item)
    return found


@UNHURRIED
@given(JSON)
def test_a_copy_is_equal_to_the_type_and_shares_nothing(value):
    copied = copy_json(value)
    assert typed(copied) == typed(value)
    assert not {id(c) for c in containers(copied)} & {id(c) for c in containers(value)}


@UNHURRIED
@given(JSON)
def test_what_is_written_is_read_to_the_type_and_has_the_same_digest(value):
    read = json.loads(canonical_json(value))
    assert typed(read) == typed(value)
    assert digest_json(read) == digest_json(value)


@UNHURRIED
@given(JSON, JSON)
def test_two_values_have_one_digest_exactly_if_they_are_the_same(one, other):
    assert (digest_json(one) == digest_json(other)) == (typed(one) == typed(other))


def test_a_digest_tells_numbers_booleans_and_texts_apart():
    alike = [1, 1.0, True, "1", "1.0", [1], {"1": 1}, None, 0, 0.0, -0.0, False, "", [], {}, "null", "true"]
    assert len({digest_json(value) for value in alike}) == len(alike)
    assert len({digest_json({"x": value}) for value in alike}) == len(alike)


def test_the_order_of_keys_means_nothing_and_that_of_items_does():
    assert digest_json({"a": 1, "b": {"c": 2, "d": 3}}) == digest_json({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest_json([1, 2]) != digest_json([2, 1])


def test_a_digest_is_that_of_the_canonical_text():
    text = '{"a":"é","b":[1.5,null]}'
    assert digest_json({"b": [1.5, None], "a": "é"}) == hashlib.blake2b(text.encode(), digest_size=32).hexdigest()


REFUSED = {
    "nan": (math.nan, "got nan"),
    "infinity": (math.inf, "got inf"),
    "minus-infinity": (-math.inf, "got -inf"),
    "complex": (1j, "got a complex"),
    "tuple": ((1, 2), "got a tuple; give a list"),
    "set": ({1}, "got a set; give a list"),
    "frozenset": (frozenset(), "got a frozenset; give a list"),
    "bytes": (b"text", "got a bytes; give text"),
    "object": (object(), "got a object"),
    "function": (len, "got a builtin"),
    "date": (date(2026, 1, 1), "got a date"),
    "decimal": (Decimal("1.5"), "got a Decimal"),
    "path": (Path("here"), "got a "),
    "float64": (np.float64(1.5), r"got a float64; give the Python number, value.item\(\)"),
    "int32": (np.int32(1), r"value.item\(\)"),
    "bool_": (np.bool_(True), r"value.item\(\)"),
    "str_": (np.str_("text"), r"value.item\(\)"),
    "array": (np.zeros(2), r"got a ndarray; give a list, value.tolist\(\)"),
    "enum": (Color.RED, "give its value, member.value"),
    "int-enum": (Level.HIGH, "give its value, member.value"),
    "model": (Model(), "model_dump"),
    "ordered-dict": (OrderedDict(a=1), r"give a dict, dict\(value\)"),
    "default-dict": (defaultdict(list), r"dict\(value\)"),
    "proxy": (types.MappingProxyType({}), r"dict\(value\)"),
    "own-str": (type("Name", (str,), {})("x"), r"give a str, str\(value\)"),
    "surrogate": ("a\ud800b", r"lone surrogate '\\ud800' at 1"),
    "int-key": ({1: 2}, "got the key 1, a int; keys are str: '1'"),
    "none-key": ({None: 2}, "got the key None"),
    "surrogate-key": ({"\udfff": 2}, "lone surrogate"),
    "huge-int": (2**BITS, f"integer of {BITS + 1} bits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_json_is_refused_with_its_path(case):
    value, message = REFUSED[case]
    with pytest.raises(ValueMismatchError, match=message) as caught:
        copy_json({"examples": [None, None, None, {"score": value}]}, what="the value of 'x'")
    assert str(caught.value).startswith("the value of 'x' is no JSON value at examples.3.score: ")
    assert caught.value.details["path"] == ("examples", 3, "score")
    with pytest.raises(SearchError, match=r"no JSON value: "):
        digest_json(value)


def test_the_largest_integer_is_fine():
    assert copy_json(2**BITS - 1) == 2**BITS - 1
    assert float(2**BITS - 1) > 0


def test_a_value_inside_itself_is_refused():
    circle = {"a": [1]}
    circle["a"].append(circle)
    with pytest.raises(ValueMismatchError, match=r"at a\.1: the dict is inside itself"):
        copy_json(circle)
    loop = []
    loop.append(loop)
    with pytest.raises(ValueMismatchError, match=r"at 0: the list is inside itself"):
        copy_json(loop)


def test_what_is_there_twice_is_copied_twice():
    shared = [1]
    copied = copy_json({"a": shared, "b": shared})
    assert copied == {"a": [1], "b": [1]}
    assert copied["a"] is not copied["b"]


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_has_a_bound():
    assert copy_json(nested(DEEPEST)) == nested(DEEPEST)
    with pytest.raises(ValueMismatchError, match=f"more than {DEEPEST} deep"):
        copy_json(nested(DEEPEST + 1))
    with pytest.raises(ValueMismatchError, match=f"more than {DEEPEST} deep"):
        copy_json(nested(100_000))


def test_a_short_value_that_stands_for_a_long_one_is_refused():
    value = [0]
    for _ in range(40):  # 2^40 values, if written out
        value = [value, value]
    with pytest.raises(ValueMismatchError, match=f"more than {LARGEST:,} values"):
        copy_json(value)


def test_paths_are_written_so_that_they_can_be_read():
    assert written_path(("a", 0, "b c", "d.e", "", "f'g", "é")) == "a.0.'b c'.'d.e'.''.\"f'g\".é"
