"""What single keywords of JSON Schema ask of a value, and whether other facts already grant it.

``minimum: 1`` is granted by ``exclusiveMinimum: 3``, of integers also by ``exclusiveMinimum: 0``; ``multipleOf: 2`` by
``multipleOf: 6``; ``maxLength: 9`` by ``maxLength: 5``.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from thalweg.search.documents import Facts
from thalweg.search.values import digest_json

Types = frozenset[str]

TYPES: Types = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})

_NUMBERS: Types = frozenset({"integer", "number"})

BOUNDS: dict[str, tuple[Types, int, frozenset[str]]] = {
    "minimum": (_NUMBERS, 1, frozenset({"minimum", "exclusiveMinimum"})),
    "exclusiveMinimum": (_NUMBERS, 1, frozenset({"minimum", "exclusiveMinimum"})),
    "maximum": (_NUMBERS, -1, frozenset({"maximum", "exclusiveMaximum"})),
    "exclusiveMaximum": (_NUMBERS, -1, frozenset({"maximum", "exclusiveMaximum"})),
    "minLength": (frozenset({"string"}), 1, frozenset({"minLength"})),
    "maxLength": (frozenset({"string"}), -1, frozenset({"maxLength"})),
    "minItems": (frozenset({"array"}), 1, frozenset({"minItems"})),
    "maxItems": (frozenset({"array"}), -1, frozenset({"maxItems"})),
    "minProperties": (frozenset({"object"}), 1, frozenset({"minProperties"})),
    "maxProperties": (frozenset({"object"}), -1, frozenset({"maxProperties"})),
}
"""Bounds: of which types, whether from below (1) or above (-1), and which keywords bound the same."""

OPEN = frozenset(
    {"required", "minProperties", "maxProperties", "additionalProperties", "unevaluatedProperties", "type"}
)
"""What is not compared of objects that have properties: an optimizer may know fewer of them than a variable has."""

PLAIN: dict[str, Types] = {
    "contentEncoding": frozenset({"string"}),
    "contentMediaType": frozenset({"string"}),
    "format": TYPES,
    "multipleOf": _NUMBERS,
    "pattern": frozenset({"string"}),
    "uniqueItems": frozenset({"array"}),
}
"""Keywords that stand alone: of which types."""

TOGETHER: tuple[tuple[Types, frozenset[str]], ...] = (
    (TYPES, frozenset({"not"})),
    (TYPES, frozenset({"if", "then", "else"})),
    (frozenset({"array"}), frozenset({"contains", "minContains", "maxContains"})),
    (frozenset({"array"}), frozenset({"unevaluatedItems"})),
    (frozenset({"object"}), frozenset({"dependentRequired"})),
    (frozenset({"object"}), frozenset({"dependentSchemas"})),
    (frozenset({"object"}), frozenset({"patternProperties"})),
    (frozenset({"object"}), frozenset({"propertyNames"})),
    (frozenset({"string"}), frozenset({"contentSchema"})),
)
"""Keywords that mean something together only, and are the same or are not granted: of which types."""


def types_of(facts: Facts, *, meant: bool = True) -> Types:
    """The types that all facts allow.

    Args:
        facts: that all hold.
        meant: whether one with properties and no type is taken to be about objects, as whoever wrote it will have meant
            it; to the letter it allows whatever is no object.

    Example:
        >>> from thalweg.search.demands import types_of
        >>> sorted(types_of(({"type": ["number", "null"]}, {"type": ["integer", "string"]})))
        ['integer']
    """
    types = TYPES
    for fact in facts:
        if "type" in fact:
            own: set[str] = {fact["type"]} if isinstance(fact["type"], str) else set(fact["type"])
            types &= own | ({"integer"} if "number" in own else set())
        elif meant and "properties" in fact:
            types &= {"object"}
    return types


def values_of(facts: Facts, types: Types) -> list[Any] | None:
    """The values that are allowed if they are few, or None; some may not be allowed by the other facts.

    Example:
        >>> from thalweg.search.demands import values_of
        >>> values_of(({"enum": ["a", "b"]}, {"const": "a"}), frozenset({"string"}))
        ['a', 'b']
    """
    for fact in facts:
        if "const" in fact:
            return [fact["const"]]
        if "enum" in fact:
            return list(fact["enum"])
    few: dict[str, list[Any]] = {"null": [None], "boolean": [False, True]}
    return [value for kind in sorted(types) for value in few[kind]] if types <= few.keys() else None


def bounded(keyword: str, facts: Facts, types: Types, wanted: Any) -> bool:
    """Whether facts grant a bound.

    Example:
        >>> from thalweg.search.demands import bounded
        >>> facts = ({"exclusiveMinimum": 0},)
        >>> [bounded("minimum", facts, frozenset({kind}), 1) for kind in ("integer", "number")]
        [True, False]
    """
    kinds, sign, same = BOUNDS[keyword]
    if not types & kinds:
        return True
    whole = not types & {"number"} or kinds is not _NUMBERS
    asked = _edge(keyword, wanted, sign, whole)
    held = [_edge(k, fact[k], sign, whole) for fact in facts for k in same if k in fact]
    if keyword in ("minLength", "minItems", "minProperties"):
        held.append((Fraction(0), 0))
    return any(edge >= asked for edge in held)


def _edge(keyword: str, value: Any, sign: int, whole: bool) -> tuple[Fraction, int]:
    """A bound as something that grows with what it asks for."""
    number, open_ = sign * Fraction(repr(value)), int(keyword.startswith("exclusive"))
    if not whole:
        return number, open_
    return (Fraction(math.floor(number) + 1), 0) if open_ else (Fraction(math.ceil(number)), 0)


def plainly(keyword: str, facts: Facts, types: Types, wanted: Any) -> bool:
    """Whether facts grant a keyword that stands alone.

    Example:
        >>> from thalweg.search.demands import plainly
        >>> plainly("multipleOf", ({"multipleOf": 0.3},), frozenset({"number"}), 0.1)
        True
    """
    if not types & PLAIN[keyword]:
        return True
    if keyword == "multipleOf":
        steps = [fact["multipleOf"] for fact in facts if "multipleOf" in fact]
        steps += [] if "number" in types else [1]
        return any(Fraction(repr(step)) % Fraction(repr(wanted)) == 0 for step in steps)
    if keyword == "uniqueItems":
        single = any(fact.get("maxItems", 2) <= 1 for fact in facts)
        return not wanted or single or any(fact.get("uniqueItems", False) for fact in facts)
    return any(keyword in fact and digest_json(fact[keyword]) == digest_json(wanted) for fact in facts)
