"""Whoever wrote a value, its keys come in one order."""

import json

import pytest

import thalweg as tw
from thalweg.search import StructuredVariable, digest_json
from thalweg.search.engine import Proposal
from thalweg.search.random_search import RandomSearch
from thalweg.search.ready import Search
from thalweg.search.space import Space

UNIT = {"type": "number", "minimum": 0, "maximum": 1}
PAIR = {"type": "object", "properties": {"z": UNIT, "a": UNIT}, "required": ["z", "a"]}
KINDS = [
    {"type": "object", "properties": {"kind": {"const": "one"}, "c": UNIT, "b": UNIT}, "required": ["kind", "c", "b"]},
    {"type": "object", "properties": {"kind": {"const": "two"}, "b": UNIT, "c": UNIT}, "required": ["kind", "b", "c"]},
]


def text(schema, value, present=None):
    space = Space.of(schema, present=present if present is not None else value)
    found = space.ordered({"value": value})["value"]
    assert digest_json(found) == digest_json(value)
    return json.dumps(found)


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (PAIR, {"a": 0.5, "z": 1}, '{"z": 1, "a": 0.5}'),
        ({"type": "array", "items": PAIR, "maxItems": 2}, [{"a": 0.5, "z": 0.0}], '[{"z": 0.0, "a": 0.5}]'),
        ({"oneOf": KINDS}, {"b": 0.1, "c": 0.2, "kind": "two"}, '{"kind": "two", "b": 0.1, "c": 0.2}'),
        ({"oneOf": KINDS}, {"b": 0.1, "c": 0.2, "kind": "one"}, '{"kind": "one", "c": 0.2, "b": 0.1}'),
        ({"enum": [{"q": 1, "b": [{"y": 2, "x": 3}]}, 7]}, {"b": [{"x": 3, "y": 2}], "q": 1.0},
         '{"q": 1.0, "b": [{"y": 2, "x": 3}]}'),
        ({"type": "array", "items": {"enum": [{"q": 1, "b": 2}, 7]}, "uniqueItems": True, "maxItems": 2},
         [7, {"b": 2, "q": 1}], '[7, {"q": 1, "b": 2}]'),
    ],
)  # fmt: skip
def test_the_order_is_that_of_the_schema_and_of_its_choices(schema, value, expected):
    assert text(schema, value) == expected


def test_what_the_space_does_not_have_is_ordered_by_name():
    schema = {"type": "object", "properties": {"t": {"type": "string"}}}
    assert text(schema, {"y": [{"q": 1, "b": 2}], "t": "new", "c": 0}, {"t": "old"}) == (
        '{"t": "new", "c": 0, "y": [{"b": 2, "q": 1}]}'
    )


class _Backwards(RandomSearch):
    """As one who writes by name, such as a language model."""

    async def _propose(self, count):
        found = await super()._propose(count)
        return [Proposal(json.loads(json.dumps(one.values, sort_keys=True)), one.origin) for one in found]


def test_what_an_engine_proposes_in_another_order_is_assigned_in_that_of_the_schema(monkeypatch):
    monkeypatch.setattr("thalweg.search.bound.engine_class", lambda kind: _Backwards)
    point = StructuredVariable({"a": 0.5, "z": 0.5}, PAIR, name="point")
    search = Search("random", seed=0)
    for _ in range(3):
        tw.wait(search.apply_optimization([point], point.get("z")))
        assert list(point.json()) == ["z", "a"]
    twin = Search("random", seed=0)
    twin.bind([StructuredVariable({"a": 0.5, "z": 0.5}, PAIR, name="point")])
    twin.restore(search.state())
    assert json.dumps(twin.values(2)) == json.dumps(search.values(2))
