"""Values that a schema lists: ``enum``, ``const``, ``x-pool``, a default; and whether what stands beside allows them.

Of a long list a few random points would hardly meet the one value that is too long, so each is looked at.
"""

from __future__ import annotations

from typing import Any

from thalweg.errors import SchemaError, ValueMismatchError
from thalweg.search.checking import SchemaCheck
from thalweg.search.keywords import is_annotation
from thalweg.search.space_merging import types_of
from thalweg.search.space_nodes import Json
from thalweg.search.values import canonical_json


class Listing:
    """Reads lists of values.

    Args:
        root: the schema that parts belong to; their references lead into it.

    Example:
        >>> from thalweg.search.space_listing import Listing
        >>> Listing({}).pool({"type": "string", "maxLength": 5, "x-pool": ["brief", "too long"]}, "tone")
        Traceback (most recent call last):
        thalweg.errors.SchemaError: 'too long', in the x-pool of tone, does not fit its schema: ...
    """

    def __init__(self, root: Any) -> None:
        self._definitions = {"$defs": root["$defs"]} if isinstance(root, dict) and "$defs" in root else {}
        self._known: set[str] = set()  # lists that were looked at: each item of an array has the same

    def pool(self, schema: dict[str, Any], name: str) -> list[Json]:
        """The values of an ``x-pool``.

        Raises:
            SchemaError: it is none, or one of them does not fit.
        """
        pool = schema["x-pool"]
        if not isinstance(pool, list) or not pool:
            raise SchemaError(f"{name} has x-pool {pool!r}; it is a list of at least one value.", path=name)
        return self.checked(pool, schema, "x-pool", name)

    def values(self, schema: dict[str, Any], name: str) -> list[Json]:
        """The values of a const or an enum of the types that the schema has.

        Raises:
            SchemaError: one of them does not fit what else the schema asks for.
        """
        beside = {key: part for key, part in schema.items() if key not in ("const", "enum")}
        return self.checked(allowed(schema), beside, "const" if "const" in schema else "enum", name)

    def checked(self, values: list[Json], schema: dict[str, Any], keyword: str, name: str) -> list[Json]:
        """The values that a keyword has, if all of them fit a schema.

        Raises:
            SchemaError: names the first that does not.
        """
        beside = {key: part for key, part in schema.items() if not is_annotation(key)}
        text = canonical_json([values, beside]) if beside else ""
        if not beside or text in self._known:
            return values
        check = SchemaCheck({**beside, **self._definitions})
        for value in values:
            try:
                check(value, f"{_short(value)}, in the {keyword} of {name},")
            except ValueMismatchError as error:
                raise SchemaError(
                    f"{error} Take it out, or change what stands beside the {keyword}.", path=name, value=value
                ) from error
        self._known.add(text)
        return values


def listed(schema: dict[str, Any]) -> bool:
    """Whether a schema names all its values."""
    return "const" in schema or "enum" in schema or types_of(schema) in (["null"], ["boolean"])


def allowed(schema: dict[str, Any]) -> list[Json]:
    """The values of a const, an enum, null or a bool, as far as the type has them."""
    if "const" in schema:
        return [schema["const"]]
    kinds = types_of(schema)
    if "enum" not in schema:
        return [None] if kinds == ["null"] else [False, True]
    return [value for value in schema["enum"] if not kinds or any(_is(kind, value) for kind in kinds)]


def _is(kind: str, value: Json) -> bool:
    if kind in ("number", "integer"):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (kind == "number" or float(value).is_integer())
    return isinstance(value, {"string": str, "boolean": bool, "null": type(None), "object": dict, "array": list}[kind])


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:40] + "..." + text[-15:]
