"""Schemas: the standard form means the same as what it was made of, and containment is what it says."""

import enum
from decimal import Decimal
from typing import Annotated, Literal

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from thalweg.errors import SchemaError
from thalweg.search import contains_schema, copy_json, schema_of, standardize_schema
from thalweg.search.checking import SchemaCheck
from thalweg.search.keywords import KNOWN
from thalweg.search.schemas import DEEPEST, LARGEST

UNHURRIED = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}

# -- the standard form --------------------------------------------------------------------


def obj(**properties):
    return {"type": "object", "properties": properties}


NUMBER, TEXT = {"type": "number"}, {"type": "string"}

TREE = {
    "$defs": {
        "Node": obj(value={"type": "integer"}, children={"type": "array", "items": {"$ref": "#/$defs/Node"}}),
    },
    "$ref": "#/$defs/Node",
}


@pytest.mark.parametrize(
    ("reference", "where"),
    [
        ("#/$defs/Kind", ("$defs", "Kind")),
        ("#/definitions/Kind", ("definitions", "Kind")),
        ("#/$defs/a~1b~0c", ("$defs", "a/b~c")),
        ("#/$defs/a%20b", ("$defs", "a b")),
        ("#/properties/other", ("properties", "other")),
    ],
)
def test_a_local_reference_is_replaced_by_what_it_refers_to(reference, where):
    kind = {"enum": ["a", "b"]}
    schema = {"properties": {"kind": {"$ref": reference}}}
    schema.setdefault(where[0], {})[where[1]] = kind
    assert standardize_schema(schema)["properties"]["kind"] == kind
    assert "$ref" not in str(standardize_schema(schema))


def test_an_anchor_is_found():
    schema = {"$defs": {"K": {"$anchor": "kind", "type": "string"}}, "properties": {"k": {"$ref": "#kind"}}}
    assert standardize_schema(schema) == {"properties": {"k": {"type": "string"}}}


def test_annotations_beside_a_reference_win_and_constraints_add_to_it():
    kind = {"type": "string", "title": "There", "maxLength": 5}
    schema = {
        "$defs": {"Kind": kind},
        "properties": {
            "titled": {"$ref": "#/$defs/Kind", "title": "Here", "x-pool": ["a"]},
            "shorter": {"$ref": "#/$defs/Kind", "maxLength": 3},
        },
    }
    properties = standardize_schema(schema)["properties"]
    assert properties["titled"] == {"type": "string", "title": "Here", "maxLength": 5, "x-pool": ["a"]}
    assert properties["shorter"] == {"maxLength": 3, "allOf": [kind]}


def test_a_reference_through_others_is_followed():
    definitions = {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/C", "title": "B"}, "C": TEXT}
    schema = {"$defs": definitions, "items": {"$ref": "#/$defs/A"}}
    assert standardize_schema(schema) == {"items": {"type": "string", "title": "B"}}


def test_what_refers_to_itself_stays_a_reference_and_is_written_out_once_at_the_top():
    form = standardize_schema(TREE)
    assert form["properties"]["children"] == {"type": "array", "items": {"$ref": "#/$defs/Node"}}
    assert form["$defs"]["Node"] == {key: form[key] for key in ("type", "properties")}


def test_a_document_that_refers_to_itself_gets_a_definition():
    form = standardize_schema(obj(next={"$ref": "#"}, root=TEXT))
    assert form["properties"]["next"] == {"$ref": "#/$defs/root"}
    assert form["$defs"] == {"root": obj(next={"$ref": "#/$defs/root"}, root=TEXT)}


def test_definitions_of_one_name_in_two_places_are_told_apart():
    definitions = {"N": obj(n={"$ref": "#/$defs/N"})}
    other = {"N": obj(m={"$ref": "#/definitions/N"})}
    refs = {"a": {"$ref": "#/$defs/N"}, "b": {"$ref": "#/definitions/N"}}
    form = standardize_schema({"$defs": definitions, "definitions": other, "properties": refs})
    a, b = form["properties"]["a"], form["properties"]["b"]
    assert a != b
    assert set(form["$defs"]) == {"N", "N_2"}
    check = SchemaCheck(form)
    check({"a": {"n": {"n": {}}}, "b": {"m": {}}}, "it")
    for wrong in ({"a": {"n": 1}}, {"b": {"m": 1}}):
        with pytest.raises(ValueError, match="not of type 'object'"):
            check(wrong, "it")


def test_properties_that_are_called_like_keywords_are_properties_and_values_that_look_like_schemas_are_values():
    schema = {
        "properties": {"title": TEXT, "$ref": TEXT, "default": NUMBER, "x-scale": TEXT, "unheard": TEXT},
        "const": {"$ref": "#/nowhere", "unheard": 1, "title": "T"},
    }
    assert standardize_schema(schema, annotations=False) == schema


def test_annotations_go_if_they_are_not_wanted_and_ours_stay():
    schema = {"title": "T", "properties": {"a": {**NUMBER, "description": "D", "default": 1, "x-scale": "log"}}}
    assert standardize_schema(schema) == schema
    assert standardize_schema(schema, annotations=False) == {"properties": {"a": {**NUMBER, "x-scale": "log"}}}


def test_the_same_is_written_in_the_same_way():
    one = {"type": ["string"], "required": ["b", "a"], "$schema": "https://json-schema.org/draft/2020-12/schema#"}
    assert standardize_schema(one) == {"type": "string", "required": ["a", "b"]}
    assert standardize_schema(True) == {}
    assert standardize_schema(False) == {"not": {}}


def test_the_schema_given_is_not_changed_and_not_shared():
    schema = {"$defs": {"K": {"enum": [["a"]]}}, "properties": {"k": {"$ref": "#/$defs/K"}, "l": {"$ref": "#/$defs/K"}}}
    before = copy_json(schema)
    form = standardize_schema(schema)
    form["properties"]["k"]["enum"][0].append("b")
    assert schema == before
    assert form["properties"]["l"]["enum"] == [["a"]]


REFUSED = {
    "no-schema": (3, "a schema is a dict, got 3, a int"),
    "model": (BaseModel, r"schema_of\(BaseModel\)"),
    "no-json": ({"enum": (1, 2)}, "no JSON value at enum: got a tuple"),
    "type": ({"properties": {"a": {"type": "strng"}}}, "no JSON Schema at properties.a.type: 'strng' is not valid"),
    "minimum": ({"items": {"minimum": "x"}}, "at items.minimum: 'x' is not of type 'number'"),
    "properties": ({"properties": ["a"]}, "at properties"),
    "misspelt": ({"properties": {"a": {"minimun": 1}}}, "at properties.a has the keyword 'minimun'.*mean 'minimum'"),
    "openapi": ({"nullable": True}, "keyword 'nullable'"),
    "dynamic": ({"$dynamicRef": "#node"}, "keyword '.dynamicRef'"),
    "draft-7": ({"$schema": "http://json-schema.org/draft-07/schema#"}, "expected https://json-schema.org/draft/2020"),
    "remote": ({"items": {"$ref": "https://example.org/s.json"}}, "nothing is fetched from elsewhere"),
    "remote-pointer": ({"$ref": "other.json#/$defs/A"}, "nothing is fetched from elsewhere"),
    "file": ({"$ref": "file:///etc/passwd"}, "nothing is fetched from elsewhere"),
    "nowhere": ({"$defs": {"A": {}, "B": {}}, "$ref": "#/$defs/C"}, r"leads to no schema \(defined are: A, B\)"),
    "into-a-value": ({"enum": [{"type": "string"}], "items": {"$ref": "#/enum/0"}}, "leads to no schema"),
    "unknown-anchor": ({"$ref": "#kind"}, "leads to no schema"),
    "inner-id": ({"properties": {"a": {"$id": "https://example.org/a"}}}, "at properties.a has an .id"),
    "itself": ({"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"}, "refers to itself and to nothing else"),
    "itself-at-the-top": ({"$ref": "#"}, "refers to itself"),
    "two-of-them": (
        {"$defs": {"A": {"anyOf": [{"$ref": "#/$defs/B"}]}, "B": {"not": {"$ref": "#/$defs/A"}}}, "$ref": "#/$defs/A"},
        "refers to itself",
    ),
    "pattern": ({"pattern": "("}, r"the pattern '\('"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_schema_is_refused_and_says_where(case):
    schema, message = REFUSED[case]
    with pytest.raises(SchemaError, match=message):
        standardize_schema(schema)


def test_a_short_schema_that_stands_for_a_long_one_is_refused():
    definitions = {"D0": TEXT}
    for i in range(1, 40):
        ref = {"$ref": f"#/$defs/D{i - 1}"}
        definitions[f"D{i}"] = obj(a=ref, b=ref)
    with pytest.raises(SchemaError, match=f"larger than {LARGEST:,} schemas"):
        standardize_schema({"$defs": definitions, "$ref": "#/$defs/D39"})


def test_a_schema_that_becomes_too_deep_is_refused():
    definitions = {"D0": TEXT}
    for i in range(1, DEEPEST + 2):
        definitions[f"D{i}"] = {"items": {"$ref": f"#/$defs/D{i - 1}"}}
    with pytest.raises(SchemaError, match=f"more than {DEEPEST} deep"):
        standardize_schema({"$defs": definitions, "$ref": f"#/$defs/D{DEEPEST + 1}"})


def test_every_keyword_of_the_draft_is_known_or_refused():
    vocabularies = jsonschema.Draft202012Validator.META_SCHEMA["allOf"]
    registry = jsonschema.Draft202012Validator({})._resolver
    keywords = set()
    for entry in vocabularies:
        uri = "https://json-schema.org/draft/2020-12/" + entry["$ref"]
        keywords |= set(registry.lookup(uri).contents["properties"])
    assert len(keywords) > 50
    assert keywords - KNOWN == {"$dynamicRef", "$dynamicAnchor"}


# Random documents: definitions that refer to each other, below anything that can hold a schema.

NAMES = ("A", "B", "C")
LEAVES = st.sampled_from(
    [True, {"type": "integer"}, {"type": "string", "maxLength": 1}, {"enum": [1, "a", None]}, {"minimum": 1}]
)
REFERENCES = st.builds(
    lambda name, beside: {"$ref": f"#/$defs/{name}", **beside},
    st.sampled_from(NAMES),
    st.sampled_from([{}, {"title": "T"}, {"type": ["object", "array"]}, {"not": {"enum": [{}]}}]),
)
NODES = st.recursive(
    LEAVES | REFERENCES,
    lambda inner: (
        st.builds(lambda a, b: obj(a=a, b=b), inner, inner)
        | st.builds(lambda a: {"type": "array", "items": a}, inner)
        | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)
        | st.builds(lambda a: {"additionalProperties": a}, inner)
    ),
    max_leaves=6,
)
DOCUMENTS = st.builds(
    lambda a, b, c, root: {
        **(root if isinstance(root, dict) else {"allOf": [root]}),
        "$defs": {"A": a, "B": b, "C": c},
    },
    NODES,
    NODES,
    NODES,
    NODES,
)
VALUES = st.recursive(
    st.sampled_from([None, 0, 1, 2, "", "a", "ab", True, 1.5]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=6,
)


def accepts(schema, value):
    """What jsonschema itself says, with its own way to follow references."""
    return jsonschema.Draft202012Validator(schema).is_valid(value)


@settings(max_examples=100, **UNHURRIED)
@given(DOCUMENTS, st.lists(VALUES, min_size=5, max_size=10))
def test_the_standard_form_accepts_what_the_document_accepts_and_is_its_own(document, values):
    try:
        form = standardize_schema(document)
    except SchemaError as error:
        assert "refers to itself and to nothing else" in str(error)  # noqa: PT017  # hypothesis: both ways are fine
        assume(False)
    assert standardize_schema(form) == form
    bare = standardize_schema(document, annotations=False)
    for value in values:
        assert accepts(form, value) == accepts(document, value) == accepts(bare, value)
    assert contains_schema(form, document)
    assert contains_schema(document, form, strict=True)


# -- Pydantic's ------------------------------------------------------------------------------


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    friend: "Dog | None" = None


class Everything(BaseModel):
    """All kinds of fields."""

    model_config = ConfigDict(extra="forbid")

    color: Color = Color.RED
    rate: float = Field(0.1, gt=0, le=1, json_schema_extra={"x-scale": "log"})
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    pair: tuple[int, str] = (1, "a")
    table: dict[str, list[float]] = {}


def test_a_model_s_schema_is_pydantic_s_in_the_standard_form():
    schema = schema_of(Everything)
    assert schema == standardize_schema(Everything.model_json_schema())
    assert schema["properties"]["color"]["enum"] == ["red", "blue"]
    assert schema["properties"]["rate"]["x-scale"] == "log"
    assert [branch.get("$ref") for branch in schema["properties"]["pet"]["oneOf"]] == [None, "#/$defs/Dog"]
    assert "discriminator" not in schema["properties"]["pet"]
    assert list(schema["$defs"]) == ["Dog"]
    assert schema["description"] == "All kinds of fields."
    assert schema_of(Everything(pet=Cat())) == schema


def test_what_is_no_model_or_has_no_schema_is_refused():
    class Thing:
        pass

    class Opaque(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        thing: Thing

    with pytest.raises(SchemaError, match="the data model is <class 'int'>"):
        schema_of(int)
    with pytest.raises(SchemaError, match="Opaque has no JSON Schema"):
        schema_of(Opaque)


class Bounded(BaseModel):
    either: Annotated[int | float, Field(ge=0, le=1)]
    open: Annotated[int | float, Field(gt=0, lt=9, multiple_of=0.5)]
    inside: list[Annotated[int | float, Field(ge=2)]] = []
    text: Annotated[int | str, Field(ge=0)] = 0


def test_bounds_of_a_union_which_pydantic_leaves_in_its_own_names_have_those_of_json_schema():
    found = schema_of(Bounded)["properties"]
    numbers = [{"type": "integer"}, {"type": "number"}]
    assert found["either"] == {"anyOf": numbers, "minimum": 0, "maximum": 1, "title": "Either"}
    bounds = {"exclusiveMinimum": 0, "exclusiveMaximum": 9, "multipleOf": 0.5}
    assert found["open"] == {"anyOf": numbers, **bounds, "title": "Open"}
    assert found["inside"]["items"] == {"anyOf": numbers, "minimum": 2}
    assert found["text"]["minimum"] == 0


def test_a_bound_of_a_union_that_json_schema_does_not_have_is_told_with_its_place():
    class Price(BaseModel):
        price: Annotated[Decimal | int, Field(decimal_places=2)]

    with pytest.raises(SchemaError, match=r"at properties\.price has the constraint decimal_places 2 of a union"):
        schema_of(Price)


def test_a_property_may_be_called_like_a_bound():
    class Named(BaseModel):
        ge: int = 3
        lt: float = 1.0

    assert list(schema_of(Named)["properties"]) == ["ge", "lt"]


# -- containment ----------------------------------------------------------------------------

CONTAINS = {
    "itself": (obj(a=NUMBER), obj(a=NUMBER), True),
    "more-properties": (obj(a=NUMBER, b=TEXT), obj(a=NUMBER), True),
    "fewer-properties": (obj(a=NUMBER), obj(a=NUMBER, b=TEXT), False),
    "another-type": (obj(a=TEXT), obj(a=NUMBER), False),
    "integer-in-number": (obj(a={"type": "integer"}), obj(a=NUMBER), True),
    "number-in-integer": (obj(a=NUMBER), obj(a={"type": "integer"}), False),
    "boolean-in-integer": (obj(a={"type": "boolean"}), obj(a={"type": "integer"}), False),
    "any-object": (obj(a=NUMBER), {"type": "object"}, True),
    "anything": ({"type": "string"}, {}, True),
    "anything-in-object": ({}, {"type": "object"}, False),
    "text-is-no-object": (TEXT, obj(a=NUMBER), False),
    "nested": (obj(o=obj(a=NUMBER, b=TEXT), p=TEXT), obj(o=obj(a=NUMBER)), True),
    "nested-missing": (obj(o=obj(b=TEXT)), obj(o=obj(a=NUMBER)), False),
    "required-is-not-compared": (obj(a=NUMBER), {**obj(a=NUMBER), "required": ["a"]}, True),
    "closed-is-not-compared": (obj(a=NUMBER, b=TEXT), {**obj(a=NUMBER), "additionalProperties": False}, True),
    "annotations": (obj(a={**NUMBER, "title": "A", "default": 1}), obj(a={**NUMBER, "description": "D"}), True),
    "tighter": (obj(a={**NUMBER, "minimum": 1}), obj(a={**NUMBER, "exclusiveMinimum": 0}), True),
    "looser": (obj(a={**NUMBER, "minimum": 0}), obj(a={**NUMBER, "exclusiveMinimum": 0}), False),
    "whole-numbers": (
        obj(a={"type": "integer", "exclusiveMinimum": 0}),
        obj(a={"type": "integer", "minimum": 1}),
        True,
    ),
    "multiples": (obj(a={**NUMBER, "multipleOf": 0.3}), obj(a={**NUMBER, "multipleOf": 0.1}), True),
    "no-multiples": (obj(a={**NUMBER, "multipleOf": 0.1}), obj(a={**NUMBER, "multipleOf": 0.3}), False),
    "enum-in-type": (obj(a={"enum": ["x", "y"]}), obj(a=TEXT), True),
    "enum-in-enum": (obj(a={"enum": ["x"]}), obj(a={"enum": ["y", "x"]}), True),
    "enum-out-of-enum": (obj(a={"enum": ["x", "z"]}), obj(a={"enum": ["y", "x"]}), False),
    "type-in-enum": (obj(a=TEXT), obj(a={"enum": ["y", "x"]}), False),
    "const-in-range": (obj(a={"const": 3}), obj(a={**NUMBER, "minimum": 1}), True),
    "boolean-in-enum": (obj(a={"type": "boolean"}), obj(a={"enum": [False, True]}), True),
    "nullable-in-not": (obj(a={"anyOf": [NUMBER, {"type": "null"}]}), obj(a=NUMBER), False),
    "not-in-nullable": (obj(a=NUMBER), obj(a={"anyOf": [NUMBER, {"type": "null"}]}), True),
    "nullable-spelt-otherwise": (
        obj(a={"type": ["null", "number"]}),
        obj(a={"anyOf": [NUMBER, {"type": "null"}]}),
        True,
    ),
    "union-in-types": (obj(a={"anyOf": [NUMBER, TEXT]}), obj(a={"type": ["string", "number", "null"]}), True),
    "one-of-two": (
        obj(a=obj(k={"const": 1}, v=NUMBER)),
        obj(a={"oneOf": [obj(k={"const": 1}), obj(k={"const": 2})]}),
        True,
    ),
    "one-of-both": (obj(a=obj(k=NUMBER)), obj(a={"oneOf": [obj(k=NUMBER), obj()]}), False),
    "one-of-itself": (
        obj(a={"oneOf": [NUMBER, {"minimum": 5}], "title": "A"}),
        obj(a={"oneOf": [NUMBER, {"minimum": 5}]}),
        True,
    ),
    "choices-in-a-choice": (
        obj(a={"anyOf": [{"oneOf": [NUMBER, {"minimum": 5}]}, {"type": "null"}]}),
        obj(a={"anyOf": [{"oneOf": [NUMBER, {"minimum": 5}]}, {"type": "null"}], "title": "A"}),
        True,
    ),
    "one-of-overlapping": (obj(a=NUMBER), obj(a={"oneOf": [NUMBER, {"minimum": 5}]}), False),
    "one-of": (obj(a={"oneOf": [obj(k={"const": 1}), obj(k={"const": 2})]}), obj(a=obj(k=NUMBER)), True),
    "items": (
        obj(a={"type": "array", "items": obj(x=NUMBER, y=TEXT)}),
        obj(a={"type": "array", "items": obj(x=NUMBER)}),
        True,
    ),
    "other-items": (obj(a={"type": "array", "items": TEXT}), obj(a={"type": "array", "items": NUMBER}), False),
    "any-items": (obj(a={"type": "array"}), obj(a={"type": "array", "items": NUMBER}), False),
    "tuple-in-list": (
        {"type": "array", "prefixItems": [NUMBER, NUMBER], "items": False},
        {"type": "array", "items": NUMBER},
        True,
    ),
    "short-tuple": (
        {"type": "array", "prefixItems": [NUMBER], "maxItems": 1},
        {"type": "array", "items": NUMBER, "maxItems": 3},
        True,
    ),
    "longer": ({"type": "array", "maxItems": 4}, {"type": "array", "maxItems": 3}, False),
    "unique": ({"type": "array"}, {"type": "array", "uniqueItems": True}, False),
    "mapping": (
        obj(m={"additionalProperties": {"type": "integer"}, "type": "object"}),
        obj(m={"additionalProperties": NUMBER, "type": "object"}),
        True,
    ),
    "mapping-of-others": (
        obj(m={"additionalProperties": TEXT, "type": "object"}),
        obj(m={"additionalProperties": NUMBER, "type": "object"}),
        False,
    ),
    "fields-in-mapping": (
        obj(m={**obj(a=NUMBER), "additionalProperties": False}),
        obj(m={"additionalProperties": NUMBER, "type": "object"}),
        True,
    ),
    "mapping-beside-fields": (
        {"allOf": [obj(a=True), {"additionalProperties": NUMBER}]},
        {"allOf": [obj(a=NUMBER), {"additionalProperties": NUMBER}]},
        True,
    ),
    "pattern": (obj(a={**TEXT, "pattern": "^a"}), obj(a={**TEXT, "pattern": "^a"}), True),
    "other-pattern": (obj(a={**TEXT, "pattern": "^ab"}), obj(a={**TEXT, "pattern": "^a"}), False),
    "not": (obj(a={"not": TEXT}), obj(a={"not": {**TEXT, "title": "T"}}), True),
    "other-not": (obj(a={"not": TEXT}), obj(a={"not": NUMBER}), False),
    "all-of": ({"allOf": [obj(a=NUMBER), obj(b=TEXT)]}, obj(a=NUMBER, b=TEXT), True),
    "all-of-theirs": (obj(a=NUMBER, b=TEXT), {"allOf": [obj(a=NUMBER), obj(b=TEXT)]}, True),
    "references": ({"$defs": {"N": NUMBER}, **obj(a={"$ref": "#/$defs/N"})}, obj(a=NUMBER), True),
    "nothing-allowed": (obj(a=False), obj(a=NUMBER), True),
    "one-more-constraint": (obj(a=NUMBER), obj(a={**NUMBER, "maximum": 3}), False),
    "another-type-s-constraint": (obj(a=TEXT), obj(a={"maximum": 3}), True),
    "properties-mean-an-object": ({"properties": {"a": NUMBER, "b": TEXT}}, {"properties": {"a": NUMBER}}, True),
    "a-branch-without-a-type-allows-text": (TEXT, {"oneOf": [{"properties": {"a": {}}}, TEXT]}, False),
    "a-branch-with-a-type-does-not": (TEXT, {"oneOf": [obj(a={}), TEXT]}, True),
    "branches-that-lost-a-type": (
        {"oneOf": [obj(a=TEXT), TEXT]},
        {"oneOf": [obj(a=TEXT) | {"type": ["object", "string"]}, TEXT]},
        False,
    ),
    "branches-without-a-type": ({"oneOf": [obj(a=TEXT), TEXT]}, {"oneOf": [{"properties": {"a": TEXT}}, TEXT]}, False),
    "a-property-without-a-type": (
        obj(k={"const": "x"}),
        {"oneOf": [obj(k={"const": "x"}), obj(k={"properties": {"a": {}}})]},
        False,
    ),
    "patterns-beside-properties": (
        {"allOf": [{**obj(p=NUMBER), "patternProperties": {"^x": {}}}, {**obj(q={}), "additionalProperties": NUMBER}]},
        {"allOf": [{**obj(p=NUMBER), "patternProperties": {"^x": {}}}, {**obj(q={}), "additionalProperties": NUMBER}]},
        True,
    ),
    "conditions": ({**obj(a=NUMBER), "if": obj(a={"const": 1}), "then": {"required": ["a"]}}, obj(a=NUMBER), True),
}


@pytest.mark.parametrize("case", CONTAINS)
def test_containment(case):
    a, b, expected = CONTAINS[case]
    assert contains_schema(a, b) is expected


def renamed(name):
    return {
        "$defs": {name: obj(value=NUMBER, left={"$ref": f"#/$defs/{name}"}, right={"$ref": f"#/$defs/{name}"})},
        "$ref": f"#/$defs/{name}",
    }


def test_recursive_schemas_are_compared_whatever_their_definitions_are_called():
    assert contains_schema(renamed("Tree"), renamed("Node"))
    assert contains_schema(renamed("Tree"), renamed("Node"), strict=True)
    assert contains_schema(renamed("Tree"), obj(left=obj(left=obj(value=NUMBER))))
    assert not contains_schema(renamed("Tree"), obj(left=obj(left=obj(value=TEXT))))
    assert not contains_schema(obj(left=obj(left=obj(value=NUMBER))), renamed("Tree"))


def test_a_recursion_by_way_of_another_definition_is_the_same():
    direct = renamed("N")
    ways = {"A": {"$ref": "#/$defs/B"}, "B": obj(value=NUMBER, left={"$ref": "#/$defs/A"}, right={"$ref": "#/$defs/B"})}
    detour = {"$defs": ways, "$ref": "#/$defs/A"}
    assert contains_schema(direct, detour, strict=True)
    assert contains_schema(detour, direct, strict=True)


def test_a_recursive_schema_with_a_difference_far_below_is_another():
    def chain(last):
        return {"$defs": {"N": obj(inner=obj(next={"$ref": "#/$defs/N"}, leaf=last))}, "$ref": "#/$defs/N"}

    assert contains_schema(chain({"type": "integer"}), chain(NUMBER))
    assert not contains_schema(chain(NUMBER), chain({"type": "integer"}))
    assert not contains_schema(chain({"type": "integer"}), chain(NUMBER), strict=True)


def test_what_failed_in_one_branch_is_not_taken_for_granted_in_the_next():
    a = {"$defs": {"N": obj(n={"$ref": "#/$defs/N"}, v=TEXT)}, "$ref": "#/$defs/N"}
    wrong = {"$defs": {"M": obj(n={"$ref": "#/$defs/M"}, v=NUMBER)}, "$ref": "#/$defs/M"}
    both = {"$defs": wrong["$defs"], "anyOf": [obj(n={"$ref": "#/$defs/M"}, v=NUMBER), obj(n={"$ref": "#/$defs/M"})]}
    assert not contains_schema(a, wrong)
    assert not contains_schema(a, both)


@pytest.mark.parametrize("word", ["title", "description", "default", "examples", "deprecated", "x-scale"])
def test_strict_compares_annotations_of_properties_too(word):
    values = {"examples": ([1], [2]), "deprecated": (True, False), "default": (1, 1.5)}.get(word, ("log", "lin"))
    one, other = (obj(a=obj(b={**NUMBER, word: value})) for value in values)
    assert contains_schema(one, other)
    assert not contains_schema(one, other, strict=True)
    assert contains_schema(one, one, strict=True)
    assert contains_schema(
        {**one, "title": "Program", "properties": {**one["properties"], "z": TEXT}}, one, strict=True
    )


def test_strict_asks_for_the_same_and_not_for_more():
    assert not contains_schema(obj(a={**NUMBER, "minimum": 0}), obj(a=NUMBER), strict=True)
    assert not contains_schema({"type": "integer"}, NUMBER, strict=True)
    assert contains_schema(obj(a=NUMBER), {"type": "object"}, strict=True)
    assert contains_schema(obj(a={"type": ["null", "string"]}), obj(a={"type": ["string", "null"]}), strict=True)


@pytest.mark.parametrize("place", [0, 1])
def test_containment_of_what_is_no_schema_is_an_error(place):
    pair = [obj(a=NUMBER), obj(a=NUMBER)]
    pair[place] = {"type": "objekt"}
    with pytest.raises(SchemaError, match="no JSON Schema at type"):
        contains_schema(*pair)


def test_too_many_alternatives_are_an_error_and_no_endless_loop():
    alternatives = {f"a{i}": {"anyOf": [{"type": "integer", "minimum": j} for j in range(9)]} for i in range(3)}
    nest = {"allOf": [{"anyOf": [{"minimum": 9 * i + j} for j in range(9)]} for i in range(9)], "type": "number"}
    with pytest.raises(SchemaError, match="too many alternatives"):
        contains_schema(nest, NUMBER)
    assert contains_schema(obj(**alternatives), obj(**dict.fromkeys(alternatives, NUMBER)))


SCALARS = st.one_of(
    st.sampled_from([{"type": t} for t in ("integer", "number", "string", "boolean", "null")]),
    st.builds(
        lambda n, k: {"type": "number", k: n}, st.integers(0, 3), st.sampled_from(["minimum", "exclusiveMinimum"])
    ),
    st.builds(
        lambda n, k: {"type": "integer", k: n}, st.integers(0, 3), st.sampled_from(["maximum", "exclusiveMaximum"])
    ),
    st.builds(lambda n: {"type": "number", "multipleOf": n}, st.sampled_from([1, 2, 0.5])),
    st.builds(lambda n, k: {"type": "string", k: n}, st.integers(0, 2), st.sampled_from(["minLength", "maxLength"])),
    st.builds(lambda v: {"enum": v}, st.lists(st.sampled_from([0, 1, 2, "a", None, True]), min_size=1, max_size=3)),
    st.builds(lambda v: {"type": v}, st.lists(st.sampled_from(["null", "string", "integer"]), min_size=1, unique=True)),
    st.sampled_from([True, False, {"not": {"type": "string"}}]),
)
ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.builds(lambda a, n: {"type": "array", "items": a, "maxItems": n}, inner, st.integers(0, 2))
        | st.builds(lambda a, b: {"type": "array", "prefixItems": [a], "items": b}, inner, inner)
        | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)
        | st.builds(lambda a, b: {"allOf": [a, b]}, inner, inner)
        | st.builds(lambda a, b: {"oneOf": [a, b]}, inner, inner)
        | st.builds(lambda a: {"type": "object", "additionalProperties": a}, inner.filter(lambda s: s is not False))
    ),
    max_leaves=5,
)


@settings(max_examples=150, **UNHURRIED)
@given(ANY, ANY, st.lists(VALUES, min_size=10, max_size=20))
def test_what_is_contained_allows_all_that_the_container_allows(a, b, values):
    """Without properties, containment is about values alone; no is always a safe answer."""
    if contains_schema(a, b):
        mine, theirs = SchemaCheck(standardize_schema(a)), SchemaCheck(standardize_schema(b))
        for value in values:
            if fits(mine, value):
                assert fits(theirs, value)
    assert contains_schema(a, a)
    assert contains_schema(a, True)


def fits(check, value):
    try:
        check(value, "it")
    except ValueError:
        return False
    return True
