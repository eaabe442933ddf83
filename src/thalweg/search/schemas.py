"""Schemas: what a structured variable may hold, as JSON Schema (draft 2020-12), in one standard form.

In the standard form every local ``$ref`` is replaced by what it refers to, so that a schema can be read without looking
anything up. What refers to itself stays a reference, ``#/$defs/Name``, and only such definitions are left::

    {"$defs": {"Kind": {"enum": ["a", "b"]}}, "properties": {"kind": {"$ref": "#/$defs/Kind", "title": "K"}}}
    →  {"properties": {"kind": {"enum": ["a", "b"], "title": "K"}}}

Annotations (``title``, ``description``, ``default``, ``examples``, ...) stay unless they are not wanted; keywords that
begin with ``x-`` always do, since ``x-scale`` and ``x-pool`` decide where is searched. Unknown keywords are refused:
JSON Schema would ignore a misspelt ``minimun``.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from thalweg.errors import SchemaError, ValueMismatchError
from thalweg.rules.spelling import nearest
from thalweg.search.checking import check_schema
from thalweg.search.keywords import (
    ANNOTATIONS,
    DEFINITIONS,
    DROPPED,
    IN_PLACE,
    KNOWN,
    NAMED,
    ONE,
    SEVERAL,
    Pointer,
    is_annotation,
    parts,
)
from thalweg.search.space_decimals import DecimalSchema
from thalweg.search.values import copy_json, written_path

DRAFT = "https://json-schema.org/draft/2020-12/schema"

LARGEST = 100_000
"""Schemas in a standard form: a short document of references can stand for a very long one."""

DEEPEST = 150
"""How deep they may be nested in it."""

FROM_PYDANTIC = {
    **{"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"},
    **{"multiple_of": "multipleOf", "decimal_places": None, "max_digits": None},
}
"""Constraints of a union, which Pydantic leaves as they are, and what JSON Schema calls them if it has them."""


_PLAIN = getattr(BaseModel.model_json_schema, "__func__", None)


def standardize_schema(schema: Any, *, annotations: bool = True) -> dict[str, Any]:
    """Write a schema in its standard form.

    Args:
        schema: a JSON Schema, draft 2020-12, as a dict (or True or False); it is copied.
        annotations: whether ``title``, ``description``, ``default``, ``examples``, ``$comment``, ``deprecated``,
            ``readOnly`` and ``writeOnly`` stay.

    Returns:
        The standard form: local references resolved where they do not lead back to themselves, definitions that nobody
        refers to dropped, ``required`` sorted, and a ``type`` of one type written as text. The standard form of a
        standard form is itself.

    Raises:
        SchemaError: it is no schema; a reference is remote, leads nowhere, or leads to itself and nothing else; a
            keyword is unknown; a schema has an ``$id`` or a ``$dynamicRef`` inside; it stands for more than 100,000
            schemas.
        MissingExtraError: jsonschema is not installed.

    Example:
        >>> from thalweg.search import standardize_schema
        >>> kinds = {"Kind": {"enum": ["a", "b"]}}
        >>> standardize_schema({"$defs": kinds, "properties": {"kind": {"$ref": "#/$defs/Kind", "title": "K"}}})
        {'properties': {'kind': {'enum': ['a', 'b'], 'title': 'K'}}}
    """
    document = _copied(schema)
    check_schema(document)
    return _Standard(document, annotations).form()


def schema_of(data_model: type[BaseModel] | BaseModel) -> dict[str, Any]:
    """The schema of a Pydantic model, in its standard form.

    Args:
        data_model: a class derived from ``pydantic.BaseModel``, or an instance of one.

    Returns:
        The schema, with its annotations; ``json_schema_extra={"x-scale": "log"}`` of a field is in it.

    Raises:
        SchemaError: it is no Pydantic model, or has a field or a constraint that JSON Schema cannot describe.

    Example:
        >>> from pydantic import BaseModel, Field
        >>> from thalweg.search import schema_of
        >>> class Smoothing(BaseModel):
        ...     length: float = Field(gt=0, le=10)
        >>> schema_of(Smoothing)["properties"]["length"]
        {'exclusiveMinimum': 0, 'maximum': 10, 'title': 'Length', 'type': 'number'}
    """
    kind = data_model if isinstance(data_model, type) else type(data_model)
    if not issubclass(kind, BaseModel):
        raise SchemaError(f"the data model is {data_model!r}; give a class derived from pydantic.BaseModel.")
    try:
        plain = getattr(kind.model_json_schema, "__func__", None) is _PLAIN  # else it may take no generator
        schema = kind.model_json_schema(schema_generator=DecimalSchema) if plain else kind.model_json_schema()
    except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
        raise SchemaError(f"{kind.__name__} has no JSON Schema: {error.message}.", data_model=kind.__name__) from error
    return _Standard(_in_json_schema(_copied(schema), ()), annotations=True).form()


def _in_json_schema(schema: Any, pointer: Pointer) -> Any:
    """What Pydantic wrote, with the constraints that it left in Python's names."""
    for way, part in parts(schema):
        _in_json_schema(part, (*pointer, *way))
    for name in [key for key in schema if key in FROM_PYDANTIC] if isinstance(schema, dict) else ():
        value, keyword = schema.pop(name), FROM_PYDANTIC[name]
        if keyword is None or keyword in schema or isinstance(value, bool) or not isinstance(value, int | float):
            raise SchemaError(
                f"{_at(pointer)} has the constraint {name} {value!r} of a union, which Pydantic leaves as it is and "
                "JSON Schema does not have; write it at the part of the union that it is for, as in "
                f"Annotated[..., Field({name}=...)] | None.",
                keyword=name,
            )
        schema[keyword] = value
    return schema


def _copied(schema: Any) -> Any:
    if not isinstance(schema, dict | bool):
        hint = ""
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            hint = f"; of a Pydantic model there is schema_of({schema.__name__})"
        raise SchemaError(f"a schema is a dict, got {_short(schema)}, a {type(schema).__name__}{hint}.")
    try:
        return copy_json(schema, what="the schema")
    except ValueMismatchError as error:
        raise SchemaError(str(error), **error.details) from error


class _Standard:
    """A document on its way to the standard form."""

    def __init__(self, document: Any, annotations: bool) -> None:
        self.annotations = annotations
        self.schemas: dict[Pointer, Any] = {}
        self.anchors: dict[str, Pointer] = {}
        self.targets: dict[Pointer, Pointer] = {}  # of each reference
        self._collect((), document)
        for pointer, schema in self.schemas.items():
            if isinstance(schema, dict) and "$ref" in schema:
                self.targets[pointer] = self._target(schema["$ref"], pointer)
        self._refuse_circles()
        self.names = self._names({target for target in self.targets.values() if self._leads_back(target)})
        self.used: set[Pointer] = set()
        self.count = 0

    def form(self) -> dict[str, Any]:
        """The standard form."""
        form = self._form((), 0, top=True)
        if not isinstance(form, dict):
            form = {} if form else {"not": {}}
        definitions: dict[str, Any] = {}
        while missing := [pointer for pointer in self.used if self.names[pointer] not in definitions]:
            for pointer in missing:
                definitions[self.names[pointer]] = self._form(pointer, 0, top=False)
        if definitions:
            form["$defs"] = dict(sorted(definitions.items()))
        return form

    # -- what is there ------------------------------------------------------------------

    def _collect(self, pointer: Pointer, schema: Any) -> None:
        self.schemas[pointer] = schema
        if isinstance(schema, dict):
            for keyword in schema:
                if keyword not in KNOWN and not keyword.startswith("x-"):
                    raise self._unknown(keyword, pointer)
            if schema.get("$schema", DRAFT).rstrip("#") != DRAFT:
                raise SchemaError(f"the schema is written in {schema['$schema']!r}; expected {DRAFT}.")
            if pointer and "$id" in schema:
                raise SchemaError(f"{_at(pointer)} has an $id; references are looked up in one document only.")
            if "$anchor" in schema:
                self.anchors[schema["$anchor"]] = pointer
            for pattern in [
                *([schema["pattern"]] if "pattern" in schema else []),
                *schema.get("patternProperties", []),
            ]:
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise SchemaError(f"{_at(pointer)} has the pattern {pattern!r}, which is none: {error}.") from error
        for way, part in parts(schema):
            self._collect((*pointer, *way), part)

    def _unknown(self, keyword: str, pointer: Pointer) -> SchemaError:
        guess = nearest(keyword, KNOWN)
        question = f"; did you mean {guess!r}?" if guess else "."
        return SchemaError(
            f"{_at(pointer)} has the keyword {keyword!r}, which JSON Schema (draft 2020-12) does not have or which "
            f"cannot be used here{question} Keywords of your own begin with 'x-'.",
            keyword=keyword,
            nearest=guess,
        )

    def _target(self, reference: str, pointer: Pointer) -> Pointer:
        """Where a reference leads."""
        mark, _, rest = reference.partition("#")
        if mark or "#" not in reference:
            raise SchemaError(
                f"{_at(pointer)} refers to {reference!r}; nothing is fetched from elsewhere. Put it under $defs and "
                "refer to '#/$defs/...'.",
                reference=reference,
            )
        rest = unquote(rest)
        if rest in self.anchors:
            return self.anchors[rest]
        steps = [step.replace("~1", "/").replace("~0", "~") for step in rest.split("/")[1:]]
        found = next((known for known in self.schemas if [str(step) for step in known] == steps), None)
        if found is None or (rest and not rest.startswith("/")):
            there = sorted({str(known[1]) for known in self.schemas if len(known) == 2 and known[0] in DEFINITIONS})
            raise SchemaError(
                f"{_at(pointer)} refers to {reference!r}, which leads to no schema (defined are: "
                f"{', '.join(there) or 'none'}).",
                reference=reference,
            )
        return found

    # -- references that lead back ------------------------------------------------------

    def _refuse_circles(self) -> None:
        """Refuse references that lead to themselves without a step into the value: no value could be checked."""
        for start in set(self.targets.values()):
            seen: set[Pointer] = set()
            ahead = [start]
            while ahead:
                pointer = ahead.pop()
                if pointer in seen:
                    continue
                seen.add(pointer)
                below = [(*pointer, *way) for way, _ in parts(self.schemas[pointer]) if way[0] in IN_PLACE]
                following = [*below, *([self.targets[pointer]] if pointer in self.targets else [])]
                if start in following:
                    raise SchemaError(f"{_at(start)} refers to itself and to nothing else, so it describes no value.")
                ahead += following

    def _leads_back(self, start: Pointer) -> bool:
        """Whether what is below a schema refers to that schema, over however many references."""
        seen: set[Pointer] = set()
        ahead = [start]
        while ahead:
            pointer = ahead.pop()
            if pointer in seen:
                continue
            seen.add(pointer)
            if pointer in self.targets:
                if self.targets[pointer] == start:
                    return True
                ahead.append(self.targets[pointer])
            ahead += [(*pointer, *way) for way, _ in parts(self.schemas[pointer]) if way[0] not in DEFINITIONS]
        return False

    def _names(self, pointers: set[Pointer]) -> dict[Pointer, str]:
        """A name for each definition that stays; a definition keeps its own."""
        names: dict[Pointer, str] = {}
        own = sorted((p for p in pointers if len(p) == 2 and p[0] in DEFINITIONS), key=str)
        for pointer in [*own, *sorted(pointers - set(own), key=str)]:
            plain = name = str(pointer[-1]) if pointer else "root"
            number = 2
            while name in names.values():
                name, number = f"{plain}_{number}", number + 1
            names[pointer] = name
        return names

    # -- the form -----------------------------------------------------------------------

    def _form(self, pointer: Pointer, depth: int, *, top: bool) -> Any:
        self.count += 1
        if self.count > LARGEST or depth > DEEPEST:
            raise SchemaError(
                f"with its references resolved the schema is larger than {LARGEST:,} schemas, or nested more than "
                f"{DEEPEST} deep; refer to a definition less often.",
            )
        schema = self.schemas[pointer]
        if not isinstance(schema, dict):
            return schema
        form: dict[str, Any] = {}
        for keyword, value in schema.items():
            if keyword in DROPPED or keyword in DEFINITIONS or keyword == "$ref":
                continue
            if keyword in ANNOTATIONS and not self.annotations:
                continue
            below = (*pointer, keyword)
            if keyword in ONE:
                form[keyword] = self._form(below, depth + 1, top=False)
            elif keyword in SEVERAL:
                form[keyword] = [self._form((*below, i), depth + 1, top=False) for i in range(len(value))]
            elif keyword in NAMED:
                form[keyword] = {name: self._form((*below, name), depth + 1, top=False) for name in value}
            elif keyword == "required":
                form[keyword] = sorted(value)
            elif keyword == "type" and isinstance(value, list) and len(value) == 1:
                form[keyword] = value[0]
            else:
                form[keyword] = copy_json(value)
        if pointer not in self.targets:
            return form
        target = self.targets[pointer]
        if target in self.names and not top:
            self.used.add(target)
            name = self.names[target].replace("~", "~0").replace("/", "~1")
            return {"$ref": f"#/$defs/{name}", **form}
        return _together(self._form(target, depth + 1, top=top), form)


def _together(target: Any, beside: dict[str, Any]) -> Any:
    """What a reference refers to, and what is written beside the reference."""
    if not beside:
        return target
    if isinstance(target, dict) and all(is_annotation(keyword) for keyword in beside):
        return {**target, **beside}
    return {**beside, "allOf": [*beside.get("allOf", []), target]}


def _at(pointer: Pointer) -> str:
    return f"the schema at {written_path(pointer)}" if pointer else "the schema"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
