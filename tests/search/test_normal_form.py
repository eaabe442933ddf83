"""Whoever wrote a value, it has one form: one order of keys, numbers of one type, defaults filled in."""

import json

import pytest

import thalweg as tw
from tests.search.forgetful import Forgetful
from thalweg.search import StructuredVariable
from thalweg.search.engine import Proposal, Told
from thalweg.search.engines import engine_class
from thalweg.search.random_search import RandomSearch
from thalweg.search.ready import Search
from thalweg.search.space import Space
from thalweg.search.space_nodes import same

UNIT = {"type": "number", "minimum": 0, "maximum": 1}
PAIR = {"type": "object", "properties": {"z": UNIT, "a": UNIT}, "required": ["z", "a"]}
KINDS = [
    {"type": "object", "properties": {"kind": {"const": "one"}, "c": UNIT, "b": UNIT}, "required": ["kind", "c", "b"]},
    {"type": "object", "properties": {"kind": {"const": "two"}, "b": UNIT, "c": UNIT}, "required": ["kind", "b", "c"]},
]


def text(schema, value, present=None):
    space = Space.of(schema, present=present if present is not None else value)
    found = space.normal_form({"value": value})["value"]
    assert same(found, value)
    return json.dumps(found)


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (PAIR, {"a": 0.5, "z": 1}, '{"z": 1.0, "a": 0.5}'),
        ({"type": "array", "items": PAIR, "maxItems": 2}, [{"a": 0.5, "z": 0.0}], '[{"z": 0.0, "a": 0.5}]'),
        ({"oneOf": KINDS}, {"b": 0.1, "c": 0.2, "kind": "two"}, '{"kind": "two", "b": 0.1, "c": 0.2}'),
        ({"oneOf": KINDS}, {"b": 0.1, "c": 0.2, "kind": "one"}, '{"kind": "one", "c": 0.2, "b": 0.1}'),
        ({"enum": [{"q": 1, "b": [{"y": 2, "x": 3}]}, 7]}, {"b": [{"x": 3, "y": 2}], "q": 1.0},
         '{"q": 1, "b": [{"y": 2, "x": 3}]}'),
        ({"enum": [0.1, 1.0, 10.0]}, 1, "1.0"),
        ({"enum": [1, 2]}, 1.0, "1"),
        ({"enum": [1, True]}, True, "true"),
        ({"type": "number", "minimum": 0, "maximum": 2, "multipleOf": 0.5}, 1, "1.0"),
        ({"type": "number", "minimum": 0, "maximum": 2, "multipleOf": 2}, 2, "2.0"),
        ({"anyOf": [{"type": "null"}, UNIT]}, 1, "1.0"),
        ({"type": "array", "items": {"enum": [{"q": 1, "b": 2}, 7]}, "uniqueItems": True, "maxItems": 2},
         [7, {"b": 2, "q": 1}], '[7, {"q": 1, "b": 2}]'),
    ],
)  # fmt: skip
def test_orders_and_types_are_those_of_the_schema_and_of_its_choices(schema, value, expected):
    assert text(schema, value) == expected


def test_what_the_space_does_not_have_is_ordered_by_name():
    schema = {"type": "object", "properties": {"t": {"type": "string"}}}
    assert text(schema, {"y": [{"q": 1, "b": 2}], "t": "new", "c": 0}, {"t": "old"}) == (
        '{"t": "new", "c": 0, "y": [{"b": 2, "q": 1}]}'
    )


COUNT = {"type": "integer", "minimum": 0, "maximum": 3}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"n": 2, "m": 0.0}),
        ({"m": 1}, {"n": 2, "m": 1.0}),
        ({"n": 0}, {"n": 0, "m": 0.0}),
        ({"other": 1}, {"n": 2, "m": 0.0, "other": 1}),
    ],
)
def test_a_missing_property_has_its_default_where_it_is_optional(given, expected):
    properties = {"n": {**COUNT, "default": 2}, "m": {**UNIT, "default": 0}}
    space = Space.of({"type": "object", "properties": properties})
    found = space.normal_form({"value": given})["value"]
    assert json.dumps(found) == json.dumps(expected)
    if "other" not in given:
        assert space.decode(space.encode({"value": given})) == {"value": expected}


def test_a_default_that_does_not_fit_and_a_required_property_stay_out():
    properties = {"n": {**COUNT, "default": None}, "m": {**UNIT, "default": 0.5}}
    space = Space.of({"type": "object", "properties": properties, "required": ["m"]})
    assert space.normal_form({"value": {}}) == {"value": {}}


ROWS = [
    ({"type": "object", "properties": {"x": {"type": "number", "minimum": 0, "maximum": 2, "multipleOf": 0.5}}},
     {"x": 1}, 5),
    ({"type": "object", "properties": {"x": {"enum": [0.1, 1.0, 10.0]}}}, {"x": 1}, 3),
    ({"type": "object", "properties": {"x": {**COUNT, "default": 2}}}, {}, 4),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["random", "tpe", "evolution", "auto"])
@pytest.mark.parametrize(("schema", "start", "size"), ROWS)
def test_no_point_is_left_out_for_a_start_that_is_written_in_another_way(schema, start, size, kind):
    engine = engine_class(kind)(Space.of(schema), seed=0, start={"value": start})
    seen = []
    while not engine.exhausted:
        for candidate in tw.wait(engine.ask()):
            seen.append(json.dumps(candidate.values))
            engine.tell([Told(candidate.number, 0.0)])
    assert len(set(seen)) == size
    assert seen[0] == json.dumps(Space.of(schema).normal_form({"value": start}))


def test_a_search_scores_the_start_where_it_draws_it_again():
    variable = StructuredVariable({"x": 1}, ROWS[0][0], name="v")
    search, tried = Search("random", seed=0), []
    for _ in range(5):
        tried.append(variable.get("x"))
        tw.wait(search.apply_optimization([variable], -variable.get("x")))
    tw.wait(search.finalize_variable_values([variable]))
    assert sorted(tried) == [0.0, 0.5, 1, 1.5, 2.0]
    assert json.dumps(variable.json()) == '{"x": 0.0}'


def test_what_a_model_writes_as_an_integer_is_the_candidate_that_was_there(monkeypatch):
    class Model(Forgetful):
        """As one who writes 1 where 1.0 was."""

        async def _propose(self, count):
            return [Proposal({"v": {"x": 1 if self.asked % 2 else 1.0}}, "rewritten")]

    monkeypatch.setattr("thalweg.search.bound.engine_class", lambda kind: Model)
    variable = StructuredVariable({"x": 0.5}, ROWS[0][0], name="v")
    search = Search("random", seed=0, rescore=0)
    tw.wait(search.apply_optimization([variable]))
    for _ in range(3):
        tw.wait(search.apply_optimization([variable], 1.0))
    assert search.scores.numbers == {0}
    assert search.scores.count(0) == 3
    assert {json.dumps(search.values(number)) for number in range(3)} == {'{"v": {"x": 1.0}}'}


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
