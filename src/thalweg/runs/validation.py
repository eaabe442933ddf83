"""From what pydantic found to what a person can act on: path, what was given, what was expected.

All faults of a study are collected and reported at once.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, RootModel, ValidationError

from thalweg.errors import StudyError, ThalwegError
from thalweg.rules import spelling
from thalweg.runs.differences import is_inside

Model = TypeVar("Model", bound=BaseModel)

MOST = 100
"""So many faults are listed at most: whoever has more has given us another kind of file."""

MOST_KEYS, MOST_ENTRIES = 1_000, 10_000
"""Of one table, and of one list of tables."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: the dotted path of the key, and a sentence.

    Example:
        >>> from thalweg.runs.validation import Fault
        >>> print(Fault("blocks.0.iterations", "got 0, expected at least 1"))
        blocks.0.iterations: got 0, expected at least 1
    """

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


def unknown_key(path: str, known: Iterable[str]) -> Fault:
    """The fault of a key that nobody knows, with the known one that may be meant.

    Example:
        >>> from thalweg.runs.validation import unknown_key
        >>> print(unknown_key("blocks.0.nmae", ["iterations", "name"]))
        blocks.0.nmae: unknown key; the nearest known one is "name" (known here: iterations, name)
        >>> print(unknown_key("optimizer.momentum", ["beta1", "wrap"]))
        optimizer.momentum: unknown key (known here: beta1, wrap)
    """
    known = sorted(set(known))
    if not known:
        return Fault(path, "unknown key; there are no keys here")
    return Fault(path, f"unknown key{meant(path.rpartition('.')[2], known)} (known here: {', '.join(known)})")


def meant(word: str, known: Iterable[str]) -> str:
    """The words of an error that name the known entry which ``word`` most likely stands for; none if none is like it.

    Example:
        >>> from thalweg.runs.validation import meant
        >>> meant("adma", ["adam", "adamax", "sgd"])
        '; the nearest known one is "adam"'
        >>> meant("newton", ["adam", "sgd"])
        ''
    """
    near = spelling.nearest(word.lower(), known)
    return f'; the nearest known one is "{near}"' if near else ""


def study_error(name: str, faults: list[Fault], named: Iterable[str] = ()) -> StudyError:
    """The one error that lists all faults of a study; ``details["faults"]`` holds them as (path, text).

    Args:
        name: what the study is called.
        faults: at least one.
        named: the dotted paths of what ``--set`` has brought, which is not the file's fault.
    """
    named = list(named)
    brought = [any(is_inside(fault.path, path) for path in named) for fault in faults]
    marks = ["--set " if theirs and "--set" not in f.text else "" for f, theirs in zip(faults, brought, strict=True)]
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    how = " with what --set says" if any(marks) else ""
    lines = "\n".join(f"  {mark}{fault}" for mark, fault in zip(marks[:MOST], faults, strict=False))
    more = f"\n  and {len(faults) - MOST} more" if len(faults) > MOST else ""
    text = f"{name} cannot be run{how}, {count}:\n{lines}{more}"
    return StudyError(text, faults=[(f.path, f.text) for f in faults])


def size_faults(document: Any) -> list[Fault]:
    """What in a document is so large that looking at each of its keys would take minutes.

    Example:
        >>> from thalweg.runs.validation import size_faults
        >>> print(*size_faults({"problem": dict.fromkeys(map(str, range(2000)))}))
        problem: has 2000 keys, more than 1000
    """
    todo: list[tuple[str, Any]] = [("", document)]
    while todo:
        path, value = todo.pop()
        if isinstance(value, dict):
            if len(value) > MOST_KEYS:
                return [Fault(path, f"has {len(value)} keys, more than {MOST_KEYS}")]
            todo += [(f"{path}.{key}" if path else str(key), entry) for key, entry in value.items()]
        elif isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value):
            if len(value) > MOST_ENTRIES:
                return [Fault(path, f"has {len(value)} entries, more than {MOST_ENTRIES}")]
            todo += [(f"{path}.{index}", entry) for index, entry in enumerate(value)]
    return []


@contextmanager
def refusing(name: str, what: str) -> Iterator[None]:
    """Turn errors of the block that are not ours into a :class:`StudyError`: whoever writes a study gets a
    sentence. The original is its ``__cause__``.

    Args:
        name: what could not be done something with, such as ``"The study head"``.
        what: the participle of what was tried, such as ``"read"``.

    Example:
        >>> from thalweg.errors import StudyError
        >>> from thalweg.runs.validation import refusing
        >>> try:
        ...     with refusing("The study head", "built"):
        ...         float("wide")
        ... except StudyError as error:
        ...     print(str(error).splitlines()[0])
        The study head cannot be built: ValueError: could not convert string to float: 'wide'.
    """
    try:
        yield
    except ThalwegError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        advice = (
            "Usually a value of the study is not what this key takes, or far out of range; docs/studies.md has both."
        )
        if isinstance(error, MemoryError):
            advice = "The memory does not suffice for the sizes that the study gives; make them smaller."
        raise StudyError(f"{name} cannot be {what}: {said.rstrip('.')}.\n{advice}", error=said) from error


def validate(
    model: type[Model], table: Any, prefix: str, *, ignore: frozenset[str] = frozenset()
) -> tuple[Model | None, list[Fault]]:
    """The validated model of a table, or None, and the faults.

    Args:
        prefix: dotted path of the table, for the faults; may be empty.
        ignore: keys at the top of the table that others validate.
    """
    if not isinstance(table, dict):
        return None, [Fault(prefix, f"got {show(table)}, expected a table")]
    own = {key: value for key, value in table.items() if key not in ignore}
    try:
        return model.model_validate(own), []
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=True)
        return None, [_fault(model, dict(entry), prefix) for entry in found[:MOST]]


def show(value: Any) -> str:
    """A value as an error shows it: short, with its kind.

    Example:
        >>> from thalweg.runs.validation import show
        >>> show("8"), show(True), show([1, 2])
        ("'8' (text)", 'True (a boolean)', '[1, 2] (a list)')
    """
    text = repr(value)
    if len(text) > 60:
        text = text[:57] + "..."
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return f"{text} ({name})"
    return text


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a number"),
    (str, "text"),
    (list, "a list"),
    (dict, "a table"),
)

_EXPECTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text in quotes",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "path_type": "a path, in quotes",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "one of {expected}",
    "enum": "one of {expected}",
    "union_tag_invalid": "{discriminator} to be one of {expected_tags}",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "string_too_short": "text of at least {min_length} characters",
}


def _fault(model: type[BaseModel], entry: dict[str, Any], prefix: str) -> Fault:
    loc = entry["loc"]
    kinds = [model]
    known: set[str] = set()
    names: list[str] = [prefix] if prefix else []
    for part in loc:
        known = _keys(kinds)
        kinds, is_label = _descend(kinds, part)
        if not is_label:
            names.append(str(part))
    path = ".".join(names)
    if entry["type"] == "extra_forbidden":
        return unknown_key(path, known)
    if entry["type"] == "missing":
        return Fault(path, "is missing")
    if entry["type"] in ("value_error", "assertion_error"):
        said = entry["msg"].partition(", ")[2] or entry["msg"]  # pydantic puts "Value error, " before the text
        return Fault(path, said)
    expected = _EXPECTED.get(entry["type"])
    if expected is None:
        return Fault(path, f"got {show(entry['input'])}; {entry['msg']}")
    return Fault(path, f"got {show(entry['input'])}, expected {expected.format(**entry.get('ctx', {}))}")


def _keys(kinds: list[Any]) -> set[str]:
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


def _descend(kinds: list[Any], part: str | int) -> tuple[list[Any], bool]:
    """The annotations behind one part of a location; True if the part only labels a member of a union."""
    if isinstance(part, int):
        return [inner for kind in kinds for arg in typing.get_args(kind) for inner in _members(arg)], False
    inside = [
        inner
        for kind in kinds
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for name, field in kind.model_fields.items()
        if part in (name, field.alias)
        for inner in _members(field.annotation)
    ]
    inside += [
        inner for kind in kinds if typing.get_origin(kind) is dict for inner in _members(typing.get_args(kind)[1])
    ]
    if inside or len(kinds) < 2:
        return inside, False
    # Not a field, in a place where a union stands: pydantic's name or tag of the member that it tried.
    chosen = [kind for kind in kinds if getattr(kind, "__name__", str(kind)) == part or _has_tag(kind, part)]
    return (chosen, True) if chosen else ([], False)


def _has_tag(kind: Any, tag: str) -> bool:
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return False
    return any(
        typing.get_origin(f.annotation) is typing.Literal and tag in typing.get_args(f.annotation)
        for f in kind.model_fields.values()
    )


def models_in(annotation: Any) -> set[type[BaseModel]]:
    """The tables that an annotation allows, however deep they stand in it.

    Example:
        >>> from pydantic import BaseModel
        >>> from thalweg.runs.validation import models_in
        >>> class Point(BaseModel):
        ...     x: float
        >>> models_in(dict[str, list[Point]] | None) == {Point}
        True
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return set() if issubclass(annotation, RootModel) else {annotation}
    inside = [*typing.get_args(annotation), getattr(annotation, "__value__", None)]
    return {model for part in inside if part is not None for model in models_in(part)}


def _members(annotation: Any) -> list[Any]:
    """The alternatives of an annotation, without its decorations."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [inner for arg in typing.get_args(annotation) for inner in _members(arg)]
    return [annotation]
