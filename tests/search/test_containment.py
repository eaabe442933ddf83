"""Containment against the jsonschema library: a yes means that no value which fits ``a`` is refused by ``b``.

Random schemas, of which the second is mostly the first with some of what it asks for left out. All properties of an
object are required in both and none is closed, since :func:`thalweg.search.contains_schema` does not compare that; and
the first names the type of each object, since without it an object is what is meant.
"""

import copy
import random

import pytest
from jsonschema import Draft202012Validator

from thalweg.search import contains_schema, standardize_schema

LOOSENED = ("minimum", "maximum", "minLength", "required", "minItems", "multipleOf", "type", "enum", "const")
SCALARS = [None, True, False, 0, 1, 2, 3, 5, -1, 0.5, 1.5, "", "a", "ab", "abc", "b"]
OBJECTS = [{}, *({"p": one} for one in (1, 2, "a", None, 0.5, {"p": 1}))]
OBJECTS += [{"p": one, "q": other} for one in (1, "a", None) for other in (1, "b", True)]
PAIRS = 60
VALUES = [*SCALARS, *OBJECTS, [], [1], [1, 2], ["a"], [1, "a"], [1, 1], [None], [{"p": 1}]]


def scalar(rng):
    number = {"type": rng.choice(["integer", "number"])}
    number[rng.choice(["minimum", "exclusiveMinimum"])] = rng.choice([0, 1, 0.5, 2])
    if rng.random() < 0.5:
        number[rng.choice(["maximum", "exclusiveMaximum"])] = rng.choice([2, 3, 1.5, 5])
    if rng.random() < 0.2:
        number["multipleOf"] = rng.choice([1, 2, 0.5])
    text = {"type": "string", rng.choice(["minLength", "maxLength"]): rng.choice([1, 2])}
    kinds = rng.choice(["integer", "number", "string", "boolean", "null", "object", "array", ["string", "number"]])
    few = rng.sample([1, 2, "a", "b", None, True, 0.5, [1], {"p": 1}], rng.randint(1, 3))
    return rng.choice([number, text, {"type": kinds}, {"enum": few}, {"const": few[0]}, {}])


def schema(rng, deep):
    if deep == 0 or rng.random() < 0.25:
        return scalar(rng)
    names = rng.sample("pq", rng.randint(1, 2))
    inner = [schema(rng, deep - 1) for _ in range(rng.randint(2, 3))]
    thing = {"type": "object", "properties": dict(zip(names, inner, strict=False)), "required": names}
    listed = {"type": "array", "items": inner[0], rng.choice(["minItems", "maxItems"]): rng.choice([1, 2])}
    condition = {"if": inner[0], "then": inner[1]}
    several = [{keyword: inner} for keyword in ("anyOf", "oneOf", "oneOf", "allOf")]
    return rng.choice([thing, thing, listed, *several, {"not": inner[0]}, condition])


def loosened(node, rng):
    if isinstance(node, list):
        return [loosened(one, rng) for one in node]
    if not isinstance(node, dict):
        return copy.deepcopy(node)
    left = {key: value for key, value in node.items() if key not in LOOSENED or rng.random() < 0.75}
    return {key: loosened(value, rng) for key, value in left.items()}


@pytest.mark.parametrize("seed", range(4))
def test_what_fits_a_schema_fits_those_that_it_contains(seed):
    rng = random.Random(seed)
    contained = 0
    for _ in range(PAIRS):
        a = {"oneOf": [schema(rng, 1), schema(rng, 1)]} if rng.random() < 0.3 else schema(rng, 2)
        b = loosened(a, rng) if rng.random() < 0.8 else schema(rng, 2)
        mine, theirs = Draft202012Validator(a), Draft202012Validator(b)
        fitting = [value for value in VALUES if mine.is_valid(value)]
        if contains_schema(a, b):
            contained += 1
            wrong = [value for value in fitting if not theirs.is_valid(value)]
            assert not wrong, (a, b)
        assert contains_schema(a, a), a
        standard = Draft202012Validator(standardize_schema(a))
        assert [value for value in VALUES if standard.is_valid(value)] == fitting, a
    assert contained > PAIRS // 5
