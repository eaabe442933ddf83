"""From what pydantic found to what a person can act on."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from thalweg.runs.kinds import find_kind
from thalweg.runs.overrides import apply_overrides, parse_value
from thalweg.runs.tuning import optimizer_faults
from thalweg.runs.validation import unknown_key, validate


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Ring(Strict):
    kind: Literal["ring"]
    radius: float = Field(gt=0)


class Line(Strict):
    kind: Literal["line"]
    spacing: float


class Grid(Strict):
    shape: list[int] = Field(min_length=2, max_length=2)
    order: Literal[4, 8] = 4
    array: Annotated[Ring | Line, Field(discriminator="kind")] | None = None
    layers: list[Ring] = []
    named: dict[str, Line] = {}
    exact: bool = True
    label: str = ""

    @model_validator(mode="after")
    def _even(self):
        if self.shape[0] % 2:
            raise ValueError("shape[0] must be even")
        return self


NEAR_RADIUS = 'unknown key; the nearest known one is "radius" (known here: kind, radius)'
NEAR_SPACING = 'unknown key; the nearest known one is "spacing" (known here: kind, spacing)'


def faults(table):
    model, found = validate(Grid, table, "problem.grid")
    assert (model is None) == bool(found)
    return [str(fault) for fault in found]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"shape": [2, 2]}, []),
        ({}, ["problem.grid.shape: is missing"]),
        ({"shape": [2]}, ["problem.grid.shape: got [2] (a list), expected at least 2 entries"]),
        ({"shape": "2"}, ["problem.grid.shape: got '2' (text), expected a list"]),
        ({"shape": [2, "3"]}, ["problem.grid.shape.1: got '3' (text), expected an integer"]),
        ({"shape": [2, 3.5]}, ["problem.grid.shape.1: got 3.5 (a number), expected an integer"]),
        ({"shape": [2, True]}, ["problem.grid.shape.1: got True (a boolean), expected an integer"]),
        ({"shape": [2, 2], "order": 6}, ["problem.grid.order: got 6 (an integer), expected one of 4 or 8"]),
        ({"shape": [2, 2], "exact": 1}, ["problem.grid.exact: got 1 (an integer), expected true or false"]),
        ({"shape": [2, 2], "label": 1}, ["problem.grid.label: got 1 (an integer), expected text in quotes"]),
        ({"shape": [3, 2]}, ["problem.grid: shape[0] must be even"]),
        (
            {"shape": [2, 2], "array": {"kind": "ring", "radius": 0}},
            ["problem.grid.array.radius: got 0 (an integer), expected more than 0.0"],
        ),
        (
            {"shape": [2, 2], "array": {"kind": "ring", "radius": 1.0, "radios": 1}},
            [f"problem.grid.array.radios: {NEAR_RADIUS}"],
        ),
        (
            {"shape": [2, 2], "array": {"kind": "rong"}},
            [
                "problem.grid.array: got {'kind': 'rong'} (a table), expected 'kind' to be one of 'ring', 'line'",
            ],
        ),
        (
            {"shape": [2, 2], "layers": [{"kind": "ring", "radius": 1.0}, {"kind": "ring", "raduis": 1.0}]},
            [
                "problem.grid.layers.1.radius: is missing",
                f"problem.grid.layers.1.raduis: {NEAR_RADIUS}",
            ],
        ),
        (
            {"shape": [2, 2], "named": {"top": {"kind": "line", "spacing": 1.0, "spaceing": 2}}},
            [f"problem.grid.named.top.spaceing: {NEAR_SPACING}"],
        ),
        ("abc", ["problem.grid: got 'abc' (text), expected a table"]),
    ],
)
def test_faults_name_path_got_and_expected(table, expected):
    assert faults(table) == expected


def test_all_faults_come_at_once():
    found = faults({"shap": [2, 2], "order": "8", "exact": "yes"})
    assert [text.partition(":")[0].rpartition(".")[2] for text in found] == [
        "shape",
        "order",
        "exact",
        "shap",
    ]


def test_unknown_key_where_there_are_none():
    assert str(unknown_key("a.b", [])) == "a.b: unknown key; there are no keys here"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        (" 3.5 ", 3.5),
        ("true", True),
        ('"3"', "3"),
        ("[1, 2]", [1, 2]),
        ("{a = 1}", {"a": 1}),
        ("water", "water"),
        ("1O", "1O"),
        ("3\nseed = 4", "3\nseed = 4"),
        ("", ""),
        ("inf", float("inf")),
    ],
)
def test_values_are_toml_or_text(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_overrides_reach_into_tables_and_lists_and_leave_the_document_alone():
    document = {"a": {"b": 1}, "list": [{"x": 1}, {"x": 2}]}
    changed, found = apply_overrides(document, ["a.b=2", "list.1.x=[3]", "new.deep.key=4"])
    assert not found
    assert changed == {"a": {"b": 2}, "list": [{"x": 1}, {"x": [3]}], "new": {"deep": {"key": 4}}}
    assert document == {"a": {"b": 1}, "list": [{"x": 1}, {"x": 2}]}


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("a.b", "a.b: --set 'a.b' is not of the form path=value, as in seed=7"),
        ("=3", "--set '=3' is not"),
        ("a..b=3", "a..b: --set"),
        ("list.2.x=3", "list.2: --set: list has the entries 0 to 1, so '2' is none of them"),
        ("list.x=3", "list.x: --set: list has the entries 0 to 1, so 'x' is none of them"),
        ("list.-1.x=3", "list.-1: --set: list has"),
        ("one.7=3", "one.7: --set: one has one entry, 0, so '7'"),
        ("none.0=3", "none.0: --set: none is an empty list"),
        ("a.b.c=3", "a.b.c: --set: a.b is 1, which has no keys"),
    ],
)
def test_overrides_that_lead_nowhere_are_named(override, fault):
    document = {"a": {"b": 1}, "list": [{"x": 1}, {"x": 2}], "one": [1], "none": []}
    changed, found = apply_overrides(document, [override])
    assert len(found) == 1
    assert fault in str(found[0])
    assert changed == document


@pytest.mark.parametrize(
    ("key", "near"), [("lr", "learning_rate"), ("learning_rte", "learning_rate"), ("momentum", None), ("step", None)]
)
def test_only_a_key_that_may_be_meant_is_named_and_each_known_one_once(key, near):
    (fault,) = optimizer_faults({"kind": "adam", "learning_rate": 0.1, key: 0.5}, "optimizer")
    said = fault.text.partition(" (known here: ")
    assert said[0] == "unknown key" + (f'; the nearest known one is "{near}"' if near else "")
    known = said[2].removesuffix(")").split(", ")
    assert len(known) == len(set(known))


def test_an_unknown_kind_of_problem_says_how_one_of_ones_own_is_found():
    _, (fault,) = find_kind("tomo")
    assert "entry point group thalweg.problems" in fault.text
    assert "kinds={name: class}" in fault.text
    assert "Run.resume" in fault.text
    assert "nearest" not in fault.text
