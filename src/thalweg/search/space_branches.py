"""Branches of a union: whether a value may fit two of them, and what to call them."""

from __future__ import annotations

from typing import Any

from thalweg.search.space_decimals import is_decimal
from thalweg.search.space_merging import Resolver, types_of
from thalweg.search.space_nodes import identity


def excludes(resolver: Resolver, first: dict[str, Any], second: dict[str, Any], name: str) -> bool:
    """Whether it can be shown that no value that is drawn for the first schema fits the second.

    Drawn objects have all properties that their schema declares, required or not.
    """
    ours, theirs = resolver.alternatives(first, name), resolver.alternatives(second, name)
    if len(ours) != 1 or len(theirs) != 1:
        return all(excludes(resolver, one, other, name) for one in ours for other in theirs)
    (first,), (second,) = ours, theirs
    one, other = _values(first), _values(second)
    if one is not None and other is not None:
        return not one.keys() & other.keys()
    kinds = {_kind(value) for value in one.values()} if one is not None else set(types_of(first))
    others = {_kind(value) for value in other.values()} if other is not None else set(types_of(second))
    if kinds and others and not _overlap(kinds, others):
        return True
    if kinds == others == {"object"} and one is None and other is None:
        has, takes = first.get("properties", {}), second.get("properties", {})
        if any(key not in has for key in second.get("required", [])):
            return True
        if second.get("additionalProperties") is False and any(key not in takes for key in has):
            return True
        return any(
            excludes(resolver, resolver.plain(has[key], name), resolver.plain(takes[key], name), name)
            for key in has
            if key in takes
        )
    if kinds and others and (kinds | others) <= {"number", "integer"}:
        return _apart(first, second) or _apart(second, first)
    return False


def common_label(resolver: Resolver, branches: list[dict[str, Any]], name: str) -> list[str]:
    """A name for each branch: the text that tells them apart, else the title, else the type; numbered if need be."""
    objects = [branch.get("properties", {}) for branch in branches]
    for key in objects[0]:
        if all(key in properties for properties in objects):
            found = [resolver.plain(properties[key], name).get("const") for properties in objects]
            if all(isinstance(label, str) for label in found) and len(set(found)) == len(found):
                return [str(label) for label in found]
    labels = []
    for k, branch in enumerate(branches):
        kinds = types_of(branch)
        labels.append(str(branch.get("title") or (kinds[0] if len(kinds) == 1 else k)))
    kinds_only = ["decimal" if is_decimal(branch) else "|".join(types_of(branch)) for branch in branches]
    if len(set(kinds_only)) == len(kinds_only) and all(kinds_only):
        return kinds_only
    return labels if len(set(labels)) == len(labels) else [f"{k}:{label}" for k, label in enumerate(labels)]


def _values(schema: dict[str, Any]) -> dict[Any, Any] | None:
    """The values of a const or an enum, by identity."""
    if "const" in schema:
        return {identity(schema["const"]): schema["const"]}
    return {identity(value): value for value in schema["enum"]} if "enum" in schema else None


def _kind(value: Any) -> str:
    table = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return table.get(type(value), "object")


def _overlap(first: set[str], second: set[str]) -> bool:
    number = {"number", "integer"}
    return bool(first & second) or bool(first & number and second & number)


def _apart(lower: dict[str, Any], upper: dict[str, Any]) -> bool:
    """Whether one range of numbers ends before the other begins."""
    ends = [(lower[key], key == "exclusiveMaximum") for key in ("maximum", "exclusiveMaximum") if key in lower]
    begins = [(upper[key], key == "exclusiveMinimum") for key in ("minimum", "exclusiveMinimum") if key in upper]
    return any(end < begin or (end == begin and (a or b)) for end, a in ends for begin, b in begins)
