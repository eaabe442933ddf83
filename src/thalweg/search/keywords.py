"""What the keywords of JSON Schema (draft 2020-12) hold: schemas, values, or words for people.

A property may be called ``title`` or ``$ref``, and a ``const`` may hold a dict that looks like a schema: which dict is
a schema is known only from the keyword that it stands under.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Pointer = tuple[str | int, ...]
"""Where a schema stands in a document: ``("properties", "a", "anyOf", 0)``."""

ONE = frozenset(
    {"additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then"}
    | {"unevaluatedItems", "unevaluatedProperties"}
)
"""Keywords that hold one schema."""

SEVERAL = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
"""Keywords that hold a list of schemas."""

NAMED = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
"""Keywords that hold schemas by name."""

DEFINITIONS = frozenset({"$defs", "definitions"})
"""Of these, the ones that ask nothing of a value."""

IN_PLACE = frozenset({"allOf", "anyOf", "dependentSchemas", "else", "if", "not", "oneOf", "then"})
"""Keywords whose schemas ask something of the same value, not of a part of it."""

ANNOTATIONS = frozenset(
    {"$comment", "default", "deprecated", "description", "examples", "readOnly", "title", "writeOnly"}
)
"""Words for people, which ask nothing of a value."""

VALUES = frozenset(
    {"const", "contentEncoding", "contentMediaType", "dependentRequired", "enum", "exclusiveMaximum"}
    | {"exclusiveMinimum", "format", "maxContains", "maxItems", "maxLength", "maxProperties", "maximum", "minContains"}
    | {"minItems", "minLength", "minProperties", "minimum", "multipleOf", "pattern", "required", "type", "uniqueItems"}
)
"""What else asks something of a value."""

DROPPED = frozenset({"$anchor", "$id", "$schema", "$vocabulary", "discriminator"})
"""What has said all that it has to say once references are resolved; the last is OpenAPI's, and Pydantic writes it."""

KNOWN = ONE | SEVERAL | NAMED | ANNOTATIONS | VALUES | DROPPED | {"$ref"}
"""Every keyword, besides those that begin with ``x-`` and are anybody's own."""


def is_annotation(keyword: str) -> bool:
    """Whether a keyword asks nothing of a value: words for people, and anybody's own (``x-scale``)."""
    return keyword in ANNOTATIONS or keyword.startswith("x-")


def parts(schema: Any) -> Iterator[tuple[Pointer, Any]]:
    """The schemas right below a schema, with how to get to them."""
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        if keyword in ONE:
            yield (keyword,), value
        elif keyword in SEVERAL:
            yield from (((keyword, index), item) for index, item in enumerate(value))
        elif keyword in NAMED:
            yield from (((keyword, name), item) for name, item in value.items())
