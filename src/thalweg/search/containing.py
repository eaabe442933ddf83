"""contains_schema: whether a schema has all that another one asks for.

An optimizer for ``{"examples": [...]}`` acts on every variable that has such examples, whatever else the variable has.
Schema ``a`` contains schema ``b`` if every property of ``b`` is one of ``a``, and what ``a`` allows there is allowed by
``b``::

    a ⊇ b   ⇔   a allows no type that b does not,
                properties(b) ⊆ properties(a),  and  a.p ⊇ b.p  for each of them

so that whoever knows ``b`` can read what a variable of schema ``a`` holds. What keywords alone do not decide (``not``,
``if``, patterns) has to be the same in both; in doubt the answer is no.
"""

from __future__ import annotations

from typing import Any

from thalweg.errors import SchemaError
from thalweg.search.demands import BOUNDS, OPEN, PLAIN, TOGETHER, TYPES, bounded, plainly, types_of, values_of
from thalweg.search.documents import Document, Facts, Sameness
from thalweg.search.keywords import is_annotation
from thalweg.search.schemas import standardize_schema

MOST = 20_000
"""Comparisons: alternatives of alternatives multiply."""


def contains_schema(a: Any, b: Any, *, strict: bool = False) -> bool:
    """Tell whether schema ``a`` has every property of schema ``b``, with a schema that asks for the same or for more.

    References are resolved, recursive ones too. Which properties are *required*, and whether others may be there, is
    not compared: a field of a Pydantic model that has a default is not required, and always there. A ``b`` without
    properties is contained in every ``a`` that allows no other type. An ``a`` that has properties and names no type is
    taken to be about objects.

    Args:
        a: a JSON Schema (draft 2020-12), say a variable's.
        b: another one, say an optimizer's.
        strict: whether each property must have the same schema to the word: title, description, default, ``x-scale``.

    Raises:
        SchemaError: one of them is no schema, or they have too many alternatives to compare.
        MissingExtraError: jsonschema is not installed.

    Example:
        >>> from thalweg.search import contains_schema
        >>> number, positive = {"type": "number"}, {"type": "number", "minimum": 0, "title": "Length"}
        >>> smoothing = {"type": "object", "properties": {"length": positive, "passes": {"type": "integer"}}}
        >>> contains_schema(smoothing, {"type": "object", "properties": {"length": number}})
        True
        >>> contains_schema(smoothing, {"type": "object", "properties": {"length": number}}, strict=True)
        False
        >>> contains_schema(smoothing, {"type": "object", "properties": {"length": {"type": "string"}}})
        False
    """
    return standard_contains(standardize_schema(a), standardize_schema(b), strict=strict)


def standard_contains(a: dict[str, Any], b: dict[str, Any], *, strict: bool = False) -> bool:
    """:func:`contains_schema` of two schemas that are in their standard form.

    Example:
        >>> from thalweg.search.containing import standard_contains
        >>> standard_contains({"type": "integer"}, {"type": "number"})
        True
    """
    mine, theirs = Document(a), Document(b)
    contains = _Containment(mine, theirs).holds(mine.facts(a), theirs.facts(b))
    return contains and (not strict or _to_the_word(mine, theirs))


def _to_the_word(a: Document, b: Document) -> bool:
    """Whether each property of ``b`` has the same schema in ``a``; if it has none, whether the whole is the same."""
    same = Sameness(a, b, annotations=True)
    mine, theirs = a.facts(a.root), b.facts(b.root)
    asked = [(name, node) for fact in theirs for name, node in fact.get("properties", {}).items()]
    if not asked:
        objects = all(fact.get("type", "object") == "object" and not _asks(fact, OPEN) for fact in theirs)
        return objects or same(a.root, b.root)
    return all(
        any(same(fact["properties"][name], node) for fact in mine if name in fact.get("properties", {}))
        for name, node in asked
    )


class _Containment:
    """Whether all that my facts allow is allowed by their facts."""

    def __init__(self, mine: Document, theirs: Document) -> None:
        self.mine, self.theirs = mine, theirs
        self.same = Sameness(mine, theirs, annotations=False)
        self.held: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[Facts, Facts]] = {}  # shown, or being shown
        self.count = 0

    def holds(self, mine: Facts, theirs: Facts) -> bool:
        key = (tuple(map(id, mine)), tuple(map(id, theirs)))
        if key in self.held:  # a recursion: it holds unless something else does not
            return True
        self.count += 1
        if self.count > MOST:
            raise SchemaError(f"comparing two schemas took more than {MOST:,} steps; they have too many alternatives.")
        before = len(self.held)
        self.held[key] = (mine, theirs)
        if self.shown(mine, theirs):
            return True
        while len(self.held) > before:  # this, and what was shown on the assumption that it holds
            self.held.popitem()
        return False

    def shown(self, mine: Facts, theirs: Facts) -> bool:
        choices = [fact for fact in mine if "anyOf" in fact or "oneOf" in fact]  # taken apart, they are not all known
        theirs = tuple(fact for fact in theirs if not any(self.same(own, fact) for own in choices))
        if not any(_asks(fact) for fact in theirs):
            return True
        for fact in mine:
            for keyword in ("anyOf", "oneOf"):
                if keyword in fact:
                    rest = [self.mine.without(other, keyword) if other is fact else other for other in mine]
                    return all(self.holds((*rest, *self.mine.facts(branch)), theirs) for branch in fact[keyword])
        types = types_of(mine)
        if not types or any(fact.get("not") in ({}, True) for fact in mine):
            return True  # nothing is allowed
        values = values_of(mine, types)
        if values is not None:
            return all(self.theirs.allows(theirs, value) for value in values if self.mine.allows(mine, value))
        return types <= types_of(theirs) and all(
            self.fact(mine, types, fact) or any(self.same(own, fact) for own in mine) for fact in theirs
        )

    def fact(self, mine: Facts, types: frozenset[str], fact: dict[str, Any]) -> bool:
        """Whether my facts answer one of theirs."""
        if "enum" in fact or "const" in fact:  # and mine are not a few values
            return False
        named = "properties" in fact
        if any(k in fact and not bounded(k, mine, types, fact[k]) for k in BOUNDS if not (named and k in OPEN)):
            return False
        if any(k in fact and not plainly(k, mine, types, fact[k]) for k in PLAIN):
            return False
        if any(not self.together(keywords, mine, fact) for kind, keywords in TOGETHER if types & kind):
            return False
        if not all(self.alternatives(mine, types, fact, keyword) for keyword in ("anyOf", "oneOf") if keyword in fact):
            return False
        if "object" in types and not (self.properties(mine, fact) and self.others(mine, fact)):
            return False
        return "array" not in types or self.items(mine, fact)

    def alternatives(self, mine: Facts, types: frozenset[str], fact: dict[str, Any], keyword: str) -> bool:
        """Whether my facts answer an alternative of theirs; of ``oneOf`` exactly one."""
        branches = [self.theirs.facts(branch) for branch in fact[keyword]]
        for place, branch in enumerate(branches):
            others = branches[:place] + branches[place + 1 :] if keyword == "oneOf" else []
            if all(self.apart(mine, other) for other in others) and self.holds(mine, branch):
                return True
        kinds = sorted(types - {"integer"} if "number" in types else types)
        return len(kinds) > 1 and all(
            self.alternatives((*mine, _ONLY[kind]), types & types_of((_ONLY[kind],)), fact, keyword) for kind in kinds
        )

    def apart(self, mine: Facts, theirs: Facts) -> bool:
        """Whether no value is as both say, as far as types, few values, and properties with few values tell."""
        one, other = types_of(mine), types_of(theirs, meant=False)  # in doubt they are not apart
        common = one & other
        if not common:
            return True
        values, listed = values_of(mine, one), values_of(theirs, other)
        if values is not None:
            return not any(self.theirs.allows(theirs, value) for value in values)
        if listed is not None:
            return not any(self.mine.allows(mine, value) for value in listed)
        if common != {"object"}:
            return False
        names = {name for fact in mine for name in fact.get("properties", {})}
        for name in sorted(names & {name for fact in theirs for name in fact.get("properties", {})}):
            parts = [
                document.facts(*(fact["properties"][name] for fact in facts if name in fact.get("properties", {})))
                for document, facts in ((self.mine, mine), (self.theirs, theirs))
            ]
            if all(values_of(part, types_of(part)) is not None for part in parts) and self.apart(*parts):
                return True
        return False

    def properties(self, mine: Facts, fact: dict[str, Any]) -> bool:
        """Whether each property of theirs is one of mine, with all that is asked of it."""
        for name, node in fact.get("properties", {}).items():
            if not any(name in own.get("properties", {}) for own in mine):
                return False
            if not self.holds(self.mine.facts(*(_property(own, name) for own in mine)), self.theirs.facts(node)):
                return False
        return True

    def others(self, mine: Facts, fact: dict[str, Any]) -> bool:
        """Whether my further properties are as they ask for. That there be none at all is not compared."""
        if fact.get("unevaluatedProperties", False) is not False:
            return self.together(frozenset({"unevaluatedProperties"}), mine, fact)
        wanted = fact.get("additionalProperties", True)
        if wanted is False:
            return True
        known = fact.get("properties", {})
        names = {name: None for own in mine for name in own.get("properties", {}) if name not in known}
        facts = [self.mine.facts(*(_property(own, name) for own in mine)) for name in names]
        facts += [self.mine.facts(node) for own in mine for node in own.get("patternProperties", {}).values()]
        facts.append(self.mine.facts(*(own.get("additionalProperties", True) for own in mine)))
        return all(self.holds(each, self.theirs.facts(wanted)) for each in facts)

    def items(self, mine: Facts, fact: dict[str, Any]) -> bool:
        """Whether the items of an array are as they ask for: place by place, and then all others."""
        longest = max(len(own.get("prefixItems", [])) for own in (*mine, fact))
        most = min((int(own["maxItems"]) for own in mine if "maxItems" in own), default=longest + 1)
        return all(
            self.holds(self.mine.facts(*(_item(own, place) for own in mine)), self.theirs.facts(_item(fact, place)))
            for place in range(min(most, longest + 1))
        )

    def together(self, keywords: frozenset[str], mine: Facts, fact: dict[str, Any]) -> bool:
        """Whether keywords that belong together are the same in one of my facts, if they ask for anything."""
        wanted = {keyword: fact[keyword] for keyword in keywords if keyword in fact}
        return not wanted or any(self.same({k: own[k] for k in keywords if k in own}, wanted) for own in mine)


_ONLY: dict[str, dict[str, Any]] = {kind: {"type": kind} for kind in sorted(TYPES)}


def _property(fact: dict[str, Any], name: str) -> Any:
    """What a fact asks of a property, as far as that does not hang on the name's pattern."""
    if name in fact.get("properties", {}):
        return fact["properties"][name]
    return True if "patternProperties" in fact else fact.get("additionalProperties", True)


def _item(fact: dict[str, Any], place: int) -> Any:
    before = fact.get("prefixItems", [])
    return before[place] if place < len(before) else fact.get("items", True)


def _asks(fact: dict[str, Any], but: frozenset[str] = frozenset()) -> bool:
    """Whether a fact asks for anything by itself; what it refers to is a fact of its own."""
    return any(not is_annotation(key) and key not in ("$ref", "$defs", "allOf") and key not in but for key in fact)
