"""Search spaces: what is drawn validates, whatever the schema; what cannot be searched says where and what to do."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from thalweg.errors import SchemaError, SearchError, ValueMismatchError
from thalweg.search import StructuredVariable, digest_json, schema_of
from thalweg.search.checking import SchemaCheck
from thalweg.search.space import Space
from thalweg.search.space_nodes import Choice, Fixed, Real, Whole


def draws(schema, count=50, **options):
    space = Space.of(schema, **options)
    rng = np.random.default_rng(1)
    return [space.sample(rng)["value"] for _ in range(count)]


# -- numbers ------------------------------------------------------------------------------


def test_bounds_are_kept_and_reached():
    drawn = draws({"type": "integer", "minimum": -1, "maximum": 1}, 100)
    assert set(drawn) == {-1, 0, 1}
    assert all(type(value) is int for value in drawn)
    drawn = draws({"type": "number", "minimum": -1, "maximum": 1}, 200)
    assert min(drawn) < -0.9 < 0.9 < max(drawn) <= 1
    assert all(type(value) is float for value in drawn)


def test_exclusive_bounds():
    space = Space.of({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1.0})
    (dim,) = space.continuous()
    assert (dim.low, dim.high) == (5e-324, math.nextafter(1.0, 0.0))
    assert set(draws({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 4}, 100)) == {1, 2, 3}
    assert set(draws({"type": "integer", "exclusiveMinimum": 0.5, "exclusiveMaximum": 2.5}, 100)) == {1, 2}
    both = {"type": "integer", "minimum": 0, "exclusiveMinimum": 1, "maximum": 9, "exclusiveMaximum": 4}
    assert set(draws(both, 100)) == {2, 3}


def test_multiples_are_as_one_writes_them():
    schema = {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.1}
    assert sorted(set(draws(schema, 300))) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert set(draws({"type": "integer", "minimum": 3, "maximum": 12, "multipleOf": 4}, 50)) == {4, 8, 12}
    assert set(draws({"type": "integer", "minimum": 0, "maximum": 6, "multipleOf": 1.5}, 50)) == {0, 3, 6}
    exclusive = {"type": "number", "exclusiveMinimum": 0.1, "exclusiveMaximum": 0.4, "multipleOf": 0.1}
    assert set(draws(exclusive)) == {0.2, 0.3}
    tiny = {"type": "number", "minimum": 0, "maximum": 1e-3, "multipleOf": 1e-4}
    assert Space.of(tiny).size() == 11


def test_logarithmic_scale_halves_at_the_geometric_mean():
    drawn = draws({"type": "number", "minimum": 1e-6, "maximum": 1, "x-scale": "log"}, 2000)
    assert 0.45 < np.mean(np.array(drawn) < 1e-3) < 0.55
    drawn = draws({"type": "integer", "minimum": 1, "maximum": 1000, "x-scale": "log"}, 2000)
    assert 0.45 < np.mean(np.array(drawn) <= 27) < 0.55  # √(0.5·1000.5) is 22.4: ints round to the nearest
    drawn = draws({"type": "integer", "minimum": 16, "maximum": 1024, "multipleOf": 16, "x-scale": "log"}, 500)
    assert all(value % 16 == 0 for value in drawn)
    assert 0.4 < np.mean(np.array(drawn) < 128) < 0.75


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "number"}, r"value is a number without lower bound.*minimum and maximum.*const"),
        ({"type": "number", "minimum": 0}, "without upper bound"),
        ({"properties": {"a": {"properties": {"b": {"type": "integer", "maximum": 3}}}}}, r"value\.a\.b is a number"),
        ({"type": "number", "minimum": 0, "maximum": 1, "x-scale": "log"}, "positive minimum"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1, "x-scale": "log"}, "down to 0; .* positive minimum"),
        (
            {"type": "number", "minimum": -2, "exclusiveMinimum": -1.5, "maximum": 1, "x-scale": "log"},
            r"down to -1\.5; ",
        ),
        ({"type": "integer", "minimum": 0, "maximum": 1, "x-scale": "log"}, "positive minimum"),
        ({"type": "number", "minimum": 1, "maximum": 2, "x-scale": "logarithmic"}, "'linear' or 'log'"),
        ({"type": "number", "minimum": 2, "maximum": 1}, "nothing between 2 and 1"),
        ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "no integer within"),
        ({"type": "number", "minimum": 0.11, "maximum": 0.19, "multipleOf": 0.1}, "no multiple of 0.1"),
        ({"type": "number", "minimum": -1.7e308, "maximum": 1.7e308}, "wider than floats"),
        ({"type": "integer", "minimum": 0, "maximum": 2**60}, r"2\^53"),
        ({"type": "array", "items": {"type": "boolean"}}, "without maxItems"),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 4, "maxItems": 3}, "nothing fits"),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 3, "uniqueItems": True}, "of 2"),
        (
            {
                "type": "array",
                "items": {"type": "number", "minimum": 0, "maximum": 1},
                "maxItems": 3,
                "uniqueItems": True,
            },
            "uniqueItems, which can be searched if",
        ),
        ({"type": "string"}, "any text.*x-pool"),
        ({}, "anything.*x-pool"),
        ({"type": "string", "x-pool": []}, "at least one value"),
        ({"type": "object", "required": ["b"], "properties": {"a": {"const": 1}}}, "requires 'b'"),
        ({"type": "integer", "minimum": 0, "maximum": 3, "not": {"const": 2}}, "'not'"),
        (
            {"oneOf": [{"type": "integer", "minimum": 0, "maximum": 3}] * 2},
            "oneOf with branches that one value may fit",
        ),
        ({"enum": ["a"], "type": "integer"}, "no value that its type allows"),
        ({"type": "string", "x-pool": ["a", "bb"], "maxLength": 1}, r"^'bb', in the x-pool of value, does not fit"),
        ({"properties": {"a": {"enum": [*range(40)], "minimum": 1}}}, r"^0, in the enum of value\.a,.*Take it out"),
        ({"enum": [1, 2.0], "type": "integer"}, r"^2\.0, in the enum of value,.*not of type 'integer'"),
        ({"const": "abc", "pattern": "^b"}, r"^'abc', in the const of value,"),
        ({"type": "string", "default": None}, r"^None, in the default of value,"),
        ({"type": "array", "items": {"enum": ["a", "bb"], "maxLength": 1}, "maxItems": 2}, r"^'bb',.*of value\.0,"),
        ({"anyOf": [{"enum": ["a", "bb"]}, {"const": "ccc"}], "maxLength": 2}, r"^'ccc', in the anyOf of value,"),
        ({"oneOf": [{"enum": [1, 2]}, {"enum": [2, 3]}]}, r"^2, in the oneOf of value,.*each of"),
        ({"minProperties": 2, "default": {}}, r"^\{\}, in the default of value,"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "contradict"),
    ],
)
def test_what_cannot_be_searched(schema, says):
    with pytest.raises(SchemaError, match=says):
        Space.of(schema)


def test_a_schema_that_refers_to_itself():
    tree = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}
    with pytest.raises(SchemaError, match="refers to itself"):
        Space.of(tree)


# -- choices, branches, lists -------------------------------------------------------------


def test_enums_keep_their_values_and_true_is_not_one():
    assert {json.dumps(value) for value in draws({"enum": [1, True, None, "1", [1], {"a": 1}]}, 200)} == {
        *("1", "true", "null", '"1"', "[1]", '{"a": 1}')
    }
    space = Space.of({"enum": [1, 1.0, 2]})  # JSON Schema takes 1 and 1.0 for the same
    assert space.size() == 2
    values = draws({"enum": [["a"], ["b"]]}, 20)
    values[0].append("changed")
    assert all(value in (["a"], ["b"]) for value in draws({"enum": [["a"], ["b"]]}, 20))


def test_what_leaves_no_choice_is_not_asked_for():
    space = Space.of(
        {
            "properties": {
                "a": {"const": 3},
                "b": {"enum": ["x"]},
                "c": {"type": "integer", "minimum": 2, "maximum": 2},
                "d": {"type": "null"},
                "e": {"type": "number", "minimum": 0.5, "maximum": 0.5},
            }
        }
    )
    assert space.size() == 1
    assert space.encode(space.at(0)) == {}
    assert space.at(0) == {"value": {"a": 3, "b": "x", "c": 2, "d": None, "e": 0.5}}


def test_null_or_a_value():
    number = {"type": "number", "minimum": 1, "maximum": 2}
    for schema in ({"anyOf": [number, {"type": "null"}]}, {**number, "type": ["number", "null"]}):
        drawn = draws(schema, 100)
        assert None in drawn
        assert any(value is not None and 1 <= value <= 2 for value in drawn)
    assert set(draws({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}, 50)) == {"a", "b", None}
    assert isinstance(Space.of({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}).nodes["value"], Choice)


def test_one_of_is_conditional_and_named_by_its_discriminator():
    def branch(kind, **properties):
        return {"type": "object", "properties": {"kind": {"const": kind}, **properties}, "required": ["kind"]}

    unit = {"type": "number", "minimum": 0, "maximum": 1}
    space = Space.of({"oneOf": [branch("svc", c=unit), branch("knn", k={"enum": [1, 3]})]}, name="model")
    drawn = [space.sample(np.random.default_rng(seed)) for seed in range(40)]
    asked = {tuple(space.encode(values)) for values in drawn}
    assert asked == {("model", "model[svc].c"), ("model", "model[knn].k")}
    assert {values["model"]["kind"] for values in drawn} == {"svc", "knn"}


def test_what_stands_beside_one_of_belongs_to_every_branch():
    schema = {
        "type": "object",
        "properties": {"shared": {"enum": [1, 2]}},
        "oneOf": [{"properties": {"kind": {"const": "a"}}}, {"properties": {"kind": {"const": "b"}}}],
    }
    drawn = draws(schema)
    assert all(set(value) == {"shared", "kind"} for value in drawn)


def test_arrays_of_all_lengths_with_named_items():
    space = Space.of({"type": "array", "items": {"enum": [7, 8]}, "minItems": 1, "maxItems": 3})
    assert space.size() == 2 + 4 + 8
    assert {len(space.sample(np.random.default_rng(seed))["value"]) for seed in range(50)} == {1, 2, 3}
    assert space.encode({"value": [8, 7]}) == {"value.length": 2, "value.0": 8, "value.1": 7}
    tuples = {"type": "array", "prefixItems": [{"enum": [1, 2]}, {"type": "boolean"}], "items": False, "minItems": 2}
    assert all(len(value) == 2 and isinstance(value[1], bool) for value in draws(tuples))


def test_different_items_are_drawn_without_a_preference():
    space = Space.of(
        {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 2, "maxItems": 2, "uniqueItems": True}
    )
    rng = np.random.default_rng(0)
    drawn = ["".join(space.sample(rng)["value"]) for _ in range(1200)]
    counts = {pair: drawn.count(pair) for pair in sorted(set(drawn))}
    assert set(counts) == {"ab", "ac", "ba", "bc", "ca", "cb"}
    assert min(counts.values()) > 150  # 200 expected


def test_properties_are_there_whether_required_or_not():
    class Settings(BaseModel):
        steps: int = Field(3, ge=1, le=9)
        tag: str = "plain"

    space = Space.of(schema_of(Settings))
    values = space.sample(np.random.default_rng(0))
    assert set(values["value"]) == {"steps", "tag"}
    assert values["value"]["tag"] == "plain"
    assert space.encode({"value": {}}) == {"value.steps": 3}  # what is missing stands for its default


def test_pydantic_models_with_tagged_unions():
    from typing import Annotated, Literal

    class Svc(BaseModel):
        kind: Literal["svc"] = "svc"
        c: float = Field(ge=1e-3, le=1e3, json_schema_extra={"x-scale": "log"})

    class Tree(BaseModel):
        kind: Literal["tree"] = "tree"
        depth: int | None = Field(ge=1, le=8)

    class Pipeline(BaseModel):
        model: Annotated[Svc | Tree, Field(discriminator="kind")]
        scale: bool
        features: tuple[Literal["x", "y"], ...] = Field(max_length=2)

    space = Space.of(schema_of(Pipeline))
    rng = np.random.default_rng(0)
    for _ in range(50):
        Pipeline.model_validate(space.sample(rng)["value"])
    assert "value.model[tree].depth[integer]" in {node.name for node in space.walk()}


def test_free_text_keeps_what_is_there():
    class Prompt(BaseModel):
        instructions: str
        hint: str | None = None
        examples: list[str] = []
        temperature: float = Field(0.5, ge=0, le=1)

    now = {"instructions": "Sort.", "hint": "Mind the order.", "examples": ["a", "b"], "temperature": 0.5}
    variable = StructuredVariable(now, data_model=Prompt, name="prompt")
    space = Space.of_variables([variable])
    drawn = space.sample(np.random.default_rng(0))["prompt"]
    assert {**drawn, "temperature": 0.5} == now
    assert drawn["temperature"] != 0.5
    with pytest.raises(SchemaError, match=r"value\.instructions may be any text"):
        Space.of(schema_of(Prompt))


def test_a_list_with_long_pools_is_built_at_once_and_each_value_is_looked_at(monkeypatch):
    looked = []
    monkeypatch.setattr(
        "thalweg.search.space_listing.SchemaCheck", lambda schema: lambda value, what: looked.append(value)
    )
    pool = [f"w{number}" for number in range(300)]
    items = {"type": "string", "maxLength": 4, "x-pool": pool}
    Space.of({"type": "array", "items": items, "maxItems": 20})
    assert looked == pool


def test_values_that_refer_to_a_definition_are_looked_at():
    tree = {"type": "object", "properties": {"deeper": {"$ref": "#/$defs/Tree"}}, "additionalProperties": False}
    schema = {"$ref": "#/$defs/Tree", "$defs": {"Tree": tree}, "x-pool": [{}, {"deeper": {"deeper": {}}}]}
    assert Space.of(schema).size() == 2
    with pytest.raises(SchemaError, match=r"in the x-pool of value, does not fit its schema at deeper"):
        Space.of({**schema, "x-pool": [{}, {"deeper": {"wider": {}}}]})


OPTIONAL = [
    {"type": ["string", "null"], "default": None},
    {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
    {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0, "maximum": 3}], "default": "none"},
]


@pytest.mark.parametrize("note", OPTIONAL)
def test_an_optional_text_has_its_default_where_nothing_is_present(note):
    layer = {"type": "object", "properties": {"width": {"type": "integer", "minimum": 1, "maximum": 4}, "note": note}}
    alone = Space.of(layer, present={"width": 1})
    beside = ': any text fits there besides its numbers; give "x-pool" with the values to try, or leave the text out'
    reason = beside if note["default"] == "none" else ""  # its numbers might be searched
    assert alone.describe().splitlines()[-1] == f"  value.note: always {note['default']!r}, frozen{reason}"
    listed = Space.of({"type": "array", "items": layer, "maxItems": 2}, present=[{"width": 1, "note": note["default"]}])
    assert listed.size() == 1 + 4 + 16
    assert alone.encode({"value": {"width": 3}}) == {"value.width": 3}
    kept = Space.of(layer, present={"width": 1, "note": "mine"})
    assert kept.sample(np.random.default_rng(0))["value"]["note"] == "mine"


def test_models_with_optional_texts_can_be_searched_in_lists():
    class Layer(BaseModel):
        width: int = Field(16, ge=1, le=64)
        note: str | None = None

    class Net(BaseModel):
        layers: list[Layer] = Field([Layer()], min_length=1, max_length=3)

    space = Space.of_variables([StructuredVariable(Net(), name="net")])
    assert "net.layers.2.width: integers 1 to 64" in space.describe()


@pytest.mark.parametrize("items", [True, {}])
def test_a_list_of_anything_stays_as_it_is(items):
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": items, "maxItems": 3}}}
    space = Space.of(schema, present={"a": [1, "b"]})
    assert space.describe().splitlines()[-1] == "  value.a: always [1, 'b'], frozen"
    with pytest.raises(SchemaError, match=r"value\.a may be anything, and there is no present value"):
        Space.of(schema)


def test_a_pool_of_texts():
    schema = {"properties": {"tone": {"type": "string", "x-pool": ["terse", "kind"]}}}
    assert {value["tone"] for value in draws(schema)} == {"terse", "kind"}


def test_variables_have_names_of_their_own():
    first = StructuredVariable(1, {"type": "integer", "minimum": 0, "maximum": 3}, name="n")
    with pytest.raises(SchemaError, match="a name of its own"):
        Space.of_variables([first, first])
    with pytest.raises(SchemaError, match="no variables"):
        Space.of_variables([])


# -- counting, encoding -------------------------------------------------------------------

COUNTABLE = {
    "type": "object",
    "properties": {
        "list": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        "set": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3, "uniqueItems": True},
        "maybe": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 2}, {"type": "null"}]},
        "grid": {"type": "number", "minimum": 0.1, "maximum": 0.3, "multipleOf": 0.1},
    },
}


def test_points_of_a_finite_space_are_counted_and_all_different():
    space = Space.of(COUNTABLE)
    assert space.size() == (1 + 2 + 4) * (1 + 3 + 6 + 6) * 4 * 3
    points = [space.at(k) for k in range(int(space.size()))]
    assert len({digest_json(point) for point in points}) == len(points)
    for point in points:
        space.check(point)
        assert space.decode(space.encode(point)) == point


def test_overlapping_branches_are_counted_once():
    low, high = ({"type": "integer", "minimum": a, "maximum": b} for a, b in ((0, 5), (3, 8)))
    assert Space.of({"anyOf": [low, high]}).size() == 9


def test_the_last_unseen_point_is_found():
    space = Space.of({"type": "integer", "minimum": 1, "maximum": 500})
    seen = {digest_json({"value": k}) for k in range(1, 501) if k != 77}
    assert space.unseen(seen, np.random.default_rng(0)) == {"value": 77}
    assert space.unseen(seen | {digest_json({"value": 77})}, np.random.default_rng(0)) is None


def test_encode_refuses_what_is_no_point():
    space = Space.of({"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.25})
    for wrong in (0.3, 1.25, "0.25", True, None):
        with pytest.raises(ValueMismatchError, match="value is"):
            space.encode({"value": wrong})
    with pytest.raises(ValueMismatchError, match="a point has values for"):
        space.encode({"other": 0.25})


def test_continuous_spaces():
    unit = {"type": "number", "minimum": 0, "maximum": 1}
    vector = {"type": "array", "items": unit, "minItems": 3, "maxItems": 3}
    dims = Space.of({"properties": {"x": vector, "y": {"const": 1}}}).continuous()
    assert [dim.name for dim in dims] == ["value.x.0", "value.x.1", "value.x.2"]
    assert all(isinstance(dim, Real) for dim in dims)
    for other in ({"type": "boolean"}, {"type": "integer", "minimum": 0, "maximum": 1}, {**vector, "minItems": 0}):
        with pytest.raises(SchemaError, match="no continuous number"):
            Space.of({"properties": {"x": unit, "y": other}}).continuous()
    with pytest.raises(SchemaError, match="nothing continuous"):
        Space.of({"const": 1}).continuous()


def test_units_of_a_logarithmic_axis():
    dim = Real("x", 1e-4, 1.0, log=True)
    assert dim.from_unit(0.5) == pytest.approx(1e-2)
    assert dim.to_unit(1e-2) == pytest.approx(0.5)
    assert dim.from_unit(0.0) >= dim.low
    assert dim.from_unit(1.0) <= dim.high


def test_names_with_dots_are_quoted():
    space = Space.of({"properties": {"a.b": {"enum": [1, 2]}, "a": {"properties": {"b": {"enum": [1, 2]}}}}})
    names = list(space.encode(space.at(0)))
    assert len(set(names)) == 2


def test_a_space_is_told_by_its_digest():
    one, other = ({"type": "integer", "minimum": 0, "maximum": most} for most in (3, 4))
    assert Space.of(one).digest == Space.of(dict(one)).digest != Space.of(other).digest


def test_the_description_names_every_place():
    text = Space.of(COUNTABLE).describe()
    for node in Space.of(COUNTABLE).walk():
        assert node.name in text


def test_schema_errors_are_search_errors():
    with pytest.raises(SearchError):
        Space.of({"type": "number"})


# -- any schema ---------------------------------------------------------------------------


@st.composite
def numbers(draw):
    low = draw(st.integers(-50, 50)) / draw(st.sampled_from([1, 2, 10]))
    schema = {"type": draw(st.sampled_from(["number", "integer"]))}
    schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = low + draw(st.integers(5, 300)) / 2
    multiple = draw(st.sampled_from([None, None, 1, 0.5, 0.1, 0.05]))
    if multiple is not None:
        schema["multipleOf"] = multiple
    elif low >= 1 and draw(st.booleans()):
        schema["x-scale"] = "log"
    return schema


plain = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from(["a", "b", "1"]), st.just(1.0))


@st.composite
def sets(draw):
    values = draw(st.lists(plain, min_size=1, max_size=5))
    count = len({(type(value) is bool, value) for value in values})  # true is not 1, and 1.0 is
    shortest = draw(st.integers(0, count))
    longest = draw(st.integers(shortest, count + 1))
    array = {"type": "array", "items": {"enum": values}, "uniqueItems": True}
    return {**array, "minItems": shortest, "maxItems": longest}


leaves = st.one_of(
    numbers(),
    st.just({"type": "boolean"}),
    st.builds(lambda values: {"enum": values}, st.lists(plain, min_size=1, max_size=4)),
    st.builds(lambda value: {"const": value}, plain),
    sets(),
    st.builds(lambda texts: {"type": "string", "x-pool": texts}, st.lists(st.text(max_size=3), min_size=1, max_size=3)),
)


@st.composite
def objects(draw, children):
    keys = draw(st.lists(st.sampled_from(["a", "b", "c.d", "e f"]), unique=True, max_size=3))
    properties = {key: draw(children) for key in keys}
    schema = {"type": "object", "properties": properties, "required": [key for key in keys if draw(st.booleans())]}
    return schema | ({"additionalProperties": False} if draw(st.booleans()) else {})


@st.composite
def arrays(draw, children):
    shortest = draw(st.integers(0, 2))
    return {
        "type": "array",
        "items": draw(children),
        "minItems": shortest,
        "maxItems": shortest + draw(st.integers(0, 2)),
    }


@st.composite
def tuples(draw, children):
    first = draw(st.lists(children, min_size=1, max_size=2))
    rest = draw(st.one_of(st.just(False), children))
    return {"type": "array", "prefixItems": first, "items": rest, "minItems": draw(st.integers(0, 1)), "maxItems": 3}


@st.composite
def tagged(draw, children):
    branches = []
    for kind in draw(st.lists(st.sampled_from(["x", "y", "z"]), unique=True, min_size=2, max_size=3)):
        inner = draw(objects(children))
        inner["properties"] = {"kind": {"const": kind}, **inner["properties"]}
        branches.append({**inner, "required": ["kind"]})
    return {"oneOf": branches}


schemas = st.recursive(
    leaves,
    lambda children: st.one_of(
        objects(children),
        arrays(children),
        tagged(children),
        tuples(children),
        st.builds(lambda one: {**one, "type": [one["type"], "null", "boolean"]}, numbers()),
        st.builds(lambda one: {"anyOf": [{"$ref": "#/$defs/it"}, {"type": "null"}], "$defs": {"it": one}}, leaves),
        st.builds(lambda one: {"anyOf": [one, {"type": "null"}]}, children),
        st.builds(lambda one, other: {"anyOf": [one, other]}, children, children),
        st.builds(lambda one: {"allOf": [one, {"description": "said"}]}, children),
        st.builds(lambda one: {"$defs": {"it": one}, "properties": {"p": {"$ref": "#/$defs/it"}}}, leaves),
    ),
    max_leaves=8,
)


def hoisted(schema):
    """The schema with ``$defs`` at the top, where references look for them."""
    return (
        schema if "$defs" in schema else {"properties": {"root": schema}} if "$defs" not in json.dumps(schema) else None
    )


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(schemas, st.integers(0, 2**32 - 1))
def test_every_draw_of_every_schema_validates_and_is_encoded(schema, seed):
    schema = hoisted(schema)
    if schema is None:
        return
    space = Space.of(schema)
    check = SchemaCheck(schema)
    rng = np.random.default_rng(seed)
    for values in itertools.chain((space.sample(rng) for _ in range(10)), _corners(space)):
        check(values["value"], "the draw")
        assert space.decode(space.encode(values)) == values


class _Corner:
    """A suggester that always takes the first, or the last, that there is."""

    def __init__(self, last):
        self.last = last

    def float(self, name, low, high, *, log):
        return high if self.last else low

    def int(self, name, low, high, *, step, log):
        return high if self.last else low

    def categorical(self, name, choices):
        return choices[-1 if self.last else 0]


def _corners(space):
    return [space.suggest(_Corner(last)) for last in (False, True)]


def test_nodes_of_plain_schemas():
    space = Space.of({"properties": {"n": {"type": "integer", "minimum": 1, "maximum": 4}, "c": {"const": "c"}}})
    kinds = [type(node) for node in space.walk()]
    assert kinds[1:] == [Whole, Fixed]
