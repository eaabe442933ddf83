"""One schema from several: ``$ref`` followed, ``allOf`` and what stands beside it put together."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from thalweg.errors import SchemaError
from thalweg.search.space_nodes import same

KINDS = ("null", "boolean", "integer", "number", "string", "array", "object")
IMPLIED = {  # keywords that are about one type only
    **dict.fromkeys(("properties", "additionalProperties", "required", "minProperties", "maxProperties"), "object"),
    **dict.fromkeys(("items", "prefixItems", "minItems", "maxItems", "uniqueItems"), "array"),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), "number"),
    **dict.fromkeys(("minLength", "maxLength", "pattern"), "string"),
}
ONCE = ("oneOf", "anyOf", "prefixItems", "not", "if", "then", "else", "contains", "pattern", "format")


def types_of(schema: dict[str, Any]) -> list[str]:
    """The types that a schema names, or that its keywords are about; none if it allows anything."""
    kinds = schema.get("type")
    if kinds is None:
        return sorted({IMPLIED[key] for key in schema if key in IMPLIED})
    return list(dict.fromkeys([kinds] if isinstance(kinds, str) else kinds))


class Resolver:
    """Makes schemas plain: without ``$ref`` and ``allOf``, as far as one level goes."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._depth = 0

    def plain(self, schema: Any, name: str) -> dict[str, Any]:
        """The schema itself, its references followed and its ``allOf`` merged.

        Raises:
            SchemaError: a reference that leads nowhere or in a circle, or parts that contradict each other.
        """
        merged = self._plain(schema, name, ())
        if merged is None:
            raise SchemaError(f"{name}: no value fits its schema; its parts contradict each other.", path=name)
        if name.count(".") + name.count("[") > 100:
            raise SchemaError(f"{name[:80]}... : the schema refers to itself; a search space is finite.", path=name)
        return merged

    def default(self, schema: Any, name: str) -> tuple[Any] | None:
        """The default of a schema in a tuple, if it has one."""
        plain = self._plain(schema, name, ())
        return (plain["default"],) if plain is not None and "default" in plain else None

    def merged(self, first: Any, second: Any, name: str) -> dict[str, Any] | None:
        """What fits both, or None if that is visibly nothing."""
        one, other = self._plain(first, name, ()), self._plain(second, name, ())
        return None if one is None or other is None else _merge(one, other, name)

    def alternatives(self, schema: dict[str, Any], name: str) -> list[dict[str, Any]]:
        """The branches of a plain schema's oneOf or anyOf, each with what stands beside; the schema, if it has none."""
        keyword = "oneOf" if "oneOf" in schema else "anyOf"
        if keyword not in schema:
            return [schema]
        left_out = (keyword, "discriminator", "default", "title")
        around = {key: value for key, value in schema.items() if key not in left_out}
        merged = [self.merged(around, part, name) for part in schema[keyword]]
        return [branch for branch in merged if branch is not None]

    def _plain(self, schema: Any, name: str, seen: tuple[str, ...]) -> dict[str, Any] | None:
        if schema is True:
            return {}
        if schema is False:
            return None
        if not isinstance(schema, dict):
            raise SchemaError(f"{name} has the schema {schema!r}; a schema is an object.", path=name)
        if "$ref" not in schema and "allOf" not in schema:
            return schema
        parts: list[dict[str, Any] | None] = [self._plain(part, name, seen) for part in schema.get("allOf", [])]
        reference = schema.get("$ref")
        if reference is not None:
            if reference in seen:
                raise SchemaError(f"{name} refers to {reference!r}, which refers to itself.", path=name)
            parts.append(self._plain(self._target(reference, name), name, (*seen, reference)))
        parts.append({key: value for key, value in schema.items() if key not in ("$ref", "allOf")})
        result: dict[str, Any] | None = {}
        for part in parts:
            result = None if result is None or part is None else _merge(result, part, name)
        return result

    def _target(self, reference: Any, name: str) -> Any:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise SchemaError(
                f"{name} refers to {reference!r}; references within the schema are followed, #/...", path=name
            )
        found = self._root
        for part in reference.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(key)] if isinstance(found, list) else found[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise SchemaError(f"{name} refers to {reference!r}, and there is no {key!r}.", path=name) from None
        return found


def _merge(first: dict[str, Any], second: dict[str, Any], name: str) -> dict[str, Any] | None:
    """What fits both. Annotations are the second's, where both have them."""
    merged = {**first, **second}
    for key in first.keys() & second.keys():
        one, other = first[key], second[key]
        if key == "type":
            merged[key] = _common_types(one, other)
            if not merged[key]:
                return None
        elif key == "properties":
            merged[key] = {**one, **other} | {k: {"allOf": [one[k], other[k]]} for k in one.keys() & other.keys()}
        elif key == "required":
            merged[key] = list(dict.fromkeys([*one, *other]))
        elif key in ("minimum", "exclusiveMinimum", "minItems", "minLength", "minProperties"):
            merged[key] = max(one, other)
        elif key in ("maximum", "exclusiveMaximum", "maxItems", "maxLength", "maxProperties"):
            merged[key] = min(one, other)
        elif key == "enum":
            merged[key] = [value for value in one if _among(value, other)]
            if not merged[key]:
                return None
        elif key == "const":
            if not _among(one, [other]):
                return None
        elif key == "items":
            merged[key] = {"allOf": [one, other]}
        elif key == "uniqueItems":
            merged[key] = one or other
        elif key == "multipleOf":
            merged[key] = _coarser(one, other, name)
        elif key == "additionalProperties":
            merged[key] = False if one is False or other is False else other
        elif key in ONCE and one != other:
            raise SchemaError(f"{name} has {key!r} twice with different content; write it as one.", path=name)
    if "const" in merged and "enum" in merged:
        if not _among(merged["const"], merged["enum"]):
            return None
        del merged["enum"]
    return merged


def _common_types(first: Any, second: Any) -> list[str]:
    one, other = ([kinds] if isinstance(kinds, str) else list(kinds) for kinds in (first, second))
    common = [kind for kind in one if kind in other or (kind == "integer" and "number" in other)]
    return common + [kind for kind in other if kind == "integer" and "number" in one and kind not in common]


def _among(value: Any, values: list[Any]) -> bool:
    return any(same(value, other) for other in values)


def _coarser(first: Any, second: Any, name: str) -> Any:
    one, other = Fraction(str(first)), Fraction(str(second))
    for coarse, fine, value in ((one, other, first), (other, one, second)):
        if fine > 0 and (coarse / fine).denominator == 1:
            return value
    raise SchemaError(f"{name} has multipleOf {first} and {second}; give their least common multiple.", path=name)
