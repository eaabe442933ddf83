"""Pydantic models as judges of values: what is given is checked to the letter, and what is dropped is no secret.

Pydantic would turn ``"3"`` into 3 and leave out fields that it does not know. Here ``"3"`` is refused, and so is what
would be left out; fields that were not given get their defaults, as the model reads them. A set, which Python has in
another order in every process, is written in one order.

A value is saved, copied and searched as its model writes it, and read again each time. So it has to be one that stays:
``fitted(fitted(value)) == fitted(value)``, to the last bit. What a model would make another value of is refused.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import PydanticSerializationError

from thalweg.errors import ValueMismatchError
from thalweg.search.rereading import Path, differing, is_default, nearly, written_alike
from thalweg.search.two_names import fields_of, misread, one_way, written_as
from thalweg.search.values import canonical_json, copy_json, written_path

READINGS = 20  # of what a model writes, until its last bits have settled


def dumped(instance: BaseModel, what: str) -> Any:
    """The JSON value of a model's instance, with its aliases and without computed fields; sets are sorted.

    Raises:
        ValueMismatchError: a field holds what its annotation does not allow, or what JSON cannot hold; or what is
            written is, when it is read again, not what the instance holds.
    """
    written = _written(instance, what)
    for defaults in (True, False):
        try:
            again = _read(written, type(instance))
        except Exception:  # of Pydantic or of anybody's validators
            return written  # a schema may fit it all the same; a data model that does not says why
        if _stays(instance, written, again, what, defaults=defaults, made=not defaults):
            break
        instance, written = again, _written(again, what)
    return written


def _written(instance: BaseModel, what: str) -> Any:
    try:
        value = instance.model_dump(mode="json", by_alias=True, round_trip=True, warnings="error")
    except PydanticSerializationError as error:
        raise ValueMismatchError(f"{what}, a {type(instance).__name__}, cannot be written as JSON: {error}") from error
    return _sorted_sets(copy_json(value, what=what), instance)


def _sorted_sets(written: Any, held: Any) -> Any:
    """What a model has written of what it holds, with its sets in order."""
    if isinstance(held, RootModel):
        return _sorted_sets(written, held.root)
    if isinstance(held, set | frozenset) and isinstance(written, list) and len(held) == len(written):
        # As long as nobody changes a set it is gone through in the same order, here and when it was written.
        items = [_sorted_sets(item, one) for item, one in zip(written, held, strict=True)]
        return sorted(items, key=_place)
    if isinstance(held, list | tuple | deque) and isinstance(written, list) and len(held) == len(written):
        return [_sorted_sets(item, one) for item, one in zip(written, held, strict=True)]
    if isinstance(written, dict) and isinstance(held, dict) and len(held) == len(written):
        pairs = zip(written.items(), held.values(), strict=True)  # by place: a key may have been no text
        return {key: _sorted_sets(item, one) for (key, item), one in pairs}
    if isinstance(written, dict):
        return {key: _sorted_sets(item, _entry(held, key)) for key, item in written.items()}
    return written


def _place(item: Any) -> tuple[bool, float, str]:
    """Where an item of a set comes: numbers first, by size, then the others by their JSON."""
    number = isinstance(item, int | float)
    return not number, float(item) if number else 0.0, canonical_json(item)


def _entry(held: Any, key: str) -> Any:
    """What stands behind a key of what was written; None if that cannot be told."""
    names = [name for name, field in fields_of(type(held)).items() if key == (field.serialization_alias or name)]
    return getattr(held, names[0] if names else key, None)


def fitted(value: Any, model: type[BaseModel], what: str) -> Any:
    """A JSON value as a model has it: checked without conversions, with the defaults of fields that were not given.

    Args:
        value: a JSON value.
        model: the model's class.
        what: what the value is, for messages.

    Returns:
        The value that the model writes after reading it.

    Raises:
        ValueMismatchError: it does not fit, or the model would drop a part of it.

    Example:
        >>> from pydantic import BaseModel
        >>> from thalweg.search.modeling import fitted
        >>> class Smoothing(BaseModel):
        ...     length: float = 1.0
        >>> fitted({}, Smoothing, "the value")
        {'length': 1.0}
        >>> fitted({"lenght": 2.0}, Smoothing, "the value")
        Traceback (most recent call last):
        thalweg.errors.ValueMismatchError: Smoothing has nothing at lenght, which the value has (known: length).
    """
    instance = _understood(value, model, what)
    written = _written(instance, what)
    lost = _lost(value, written, instance, ())
    if lost is not None:
        path, why = lost
        raise ValueMismatchError(
            f"{model.__name__} has nothing at {written_path(path)}, which {what} has {why}{misread(model, path[-1])}.",
            path=path,
        )
    for path, said in _unread(instance, written, what):
        raise ValueMismatchError(
            f"{model.__name__} writes {what} with {written_path(path)} and never reads that, so that it could not be "
            f"set{said}.",
            path=path,
        )
    return _settled(instance, written, what)


def replaced(value: dict[str, Any], partial: dict[str, Any], model: type[BaseModel] | None) -> dict[str, Any]:
    """A value that a model has written, with some entries replaced, under any names by which the model reads them."""
    others = [key for key in partial if key not in value]
    kind = _kind(value, model) if others and model is not None else None
    names = {written_as(kind, key) for key in others}
    return {**{key: item for key, item in value.items() if key not in names}, **partial}


def _kind(value: Any, model: type[BaseModel]) -> Any:
    """The class whose fields a value has: what a model of the root holds, and of a union that which reads it."""
    kind: Any = model
    while isinstance(kind, type) and issubclass(kind, RootModel):
        kind = kind.model_fields["root"].annotation
    if isinstance(kind, type):
        return kind
    try:
        return type(_unrooted(_read(value, model)))
    except Exception:  # of Pydantic or of anybody's validators, which may have changed since
        return kind


def _unrooted(held: Any) -> Any:
    while isinstance(held, RootModel):
        held = held.root
    return held


def _read(value: Any, model: type[BaseModel]) -> BaseModel:
    return model.model_validate_json(json.dumps(value, allow_nan=False), strict=True)


def _understood(value: Any, model: type[BaseModel], what: str) -> BaseModel:
    try:
        return _read(value, model)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        path = tuple(faults[0]["loc"])
        where = f" at {written_path(path)}" if path else ""
        more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
        said = faults[0]["msg"][:1].lower() + faults[0]["msg"][1:] + more + _if_strict(value, model)
        said += misread(model, path[-1]) if path else ""
        raise ValueMismatchError(f"{what} does not fit {model.__name__}{where}: {said}.", path=path) from error
    except Exception as error:  # of anybody's validators; Pydantic takes ValueError and AssertionError
        said = f"a validator of {model.__name__} failed with {type(error).__name__}: {error}"
        raise ValueMismatchError(f"{what} does not fit {model.__name__}: {said}.", path=()) from error


def _if_strict(value: Any, model: type[BaseModel]) -> str:
    try:
        model.model_validate_json(json.dumps(value, allow_nan=False))
    except Exception:  # of anybody's validators, which were not asked when it was read
        return ""
    return ", as JSON is read strictly, without conversions"


def _settled(instance: BaseModel, written: Any, what: str, *, defaults: bool = True) -> Any:
    """What a model has written, read and written again until it stays; of some that it goes round in, by their last
    bits, always the same one.

    Raises:
        ValueMismatchError: the model refuses what it has made itself, or makes another value of it.
    """
    model = type(instance)
    found, texts = [written], [canonical_json(written)]
    for _ in range(READINGS):
        try:
            again = _understood(found[-1], model, f"what {model.__name__} makes of {what}")
        except ValueMismatchError as error:
            raise ValueMismatchError(
                f"{model.__name__} refuses what it has made itself, so that it could not be loaded once it is saved: "
                f"{error}",
                **error.details,
            ) from error
        if not _stays(instance, written, again, what, defaults=defaults and len(found) == 1):
            return _settled(again, _written(again, what), what, defaults=False)
        value = _written(again, what)
        text = canonical_json(value)
        if text in texts:
            first = texts.index(text)
            return found[texts.index(min(texts[first:]))]
        if not nearly(value, written):
            break
        found.append(value)
        texts.append(text)
    raise ValueMismatchError(
        f"{model.__name__} writes {what} otherwise each time that it reads it, so that it could be neither saved nor "
        "searched; have its validators leave alone what they have returned."
    )


def _stays(
    instance: BaseModel, written: Any, again: BaseModel, what: str, *, defaults: bool, made: bool = True
) -> bool:
    """Whether a model is the same, once it has read what it has written.

    Args:
        instance: what it was.
        written: of it.
        again: what it has read.
        what: what the value is, for messages.
        defaults: whether a default may be another one, as Pydantic does not validate it until it is read: then it is
            what was read.
        made: whether it has just been read itself, so that its validators have seen all of it.

    Raises:
        ValueMismatchError: it is another one.
    """
    paths = differing(instance, again)
    if not paths:
        return True
    rewritten, model = _written(again, what), type(instance).__name__
    lost = [path for path in paths if written_alike(instance, written, rewritten, path)]
    if lost:
        raise ValueMismatchError(
            f"{model} does not write all that {what} holds: what it reads of it is another value at {_listed(lost)}. "
            "It is saved, copied and searched as it is written, so have it written in full: without exclude, a "
            "serializer that rounds, or the mask of a secret. What is not to be written, such as a key, belongs "
            "elsewhere.",
            path=(written_path(lost[0]),),
        )
    changed = [path for path in paths if not (defaults and is_default(instance, path))]
    if not changed:
        return False
    advice = "have its validators leave alone what they have returned: fitted twice is fitted once."
    if not made and _is_settled(again, rewritten):
        advice = (
            f"make a new {model} with what was set or added to after it was made, so that it is validated, with what "
            f"is inside: {model}.model_validate(made.model_dump(by_alias=True, round_trip=True)). If it was validated, "
            f"{advice}"
        )
    names = {misread(type(instance), key) for key in changed[0]}
    said = next((f"{name}." for _, name in _unread(instance, written, what) if name in names), f", so {advice}")
    raise ValueMismatchError(
        f"{model} makes another value of {what} when it reads what it has written itself, at {_listed(changed)}. It is "
        f"read each time that it is saved, copied or searched{said}",
        path=(written_path(changed[0]),),
    )


def _is_settled(instance: BaseModel, written: Any) -> bool:
    try:
        return not differing(instance, _read(written, type(instance)))
    except Exception:  # of Pydantic or of anybody's validators
        return False


def _listed(paths: list[Path]) -> str:
    return ", ".join(map(written_path, paths[:4])) + (", ..." if len(paths) > 4 else "")


def _lost(given: Any, written: Any, held: Any, path: tuple[str | int, ...]) -> tuple[tuple[str | int, ...], str] | None:
    """Where the first key is that was given and not written, under no name that its model has for it; and what to say
    of it."""
    held = _unrooted(held)
    pairs: list[tuple[str | int, Any, Any, Any]] = []
    if isinstance(given, dict) and isinstance(written, dict):
        names = {key: key if key in written else written_as(type(held), key) for key in given}
        fixed = [key for key in one_way(type(held), fixed=True) if key in given and key in written]
        names |= {key: None for key in fixed if given[key] != written[key]}
        for key, name in names.items():
            if name is None or name not in written:
                return (*path, key), f"(known: {', '.join(sorted(written))})"
            if name != key and list(names.values()).count(name) > 1:
                return (*path, key), f"(it is another name of {name}, and both are given: give one of them)"
        parts = _held_parts(held, written)
        pairs = [(key, item, written[names[key]], parts[names[key]]) for key, item in given.items()]
    elif isinstance(given, list) and isinstance(written, list) and len(given) == len(written):
        items = _held_items(held, written)
        pairs = [(index, *three) for index, three in enumerate(zip(given, written, items, strict=True))]
    return next((found for key, a, b, c in pairs if (found := _lost(a, b, c, (*path, key))) is not None), None)


def _unread(instance: BaseModel, written: Any, what: str) -> Iterator[tuple[Path, str]]:
    """Where a model has written what it never reads, so that it has the same there whatever it is given; and what to
    say of it. Of many parts of one class the first is looked at."""
    met = set()
    for path, kind, _ in _one_way(instance, written, ()):
        if (kind, path[-1]) not in met and _is_unread(written, path, type(instance), what):
            yield path, misread(kind, path[-1])
        met.add((kind, path[-1]))


def _is_unread(written: Any, path: Path, model: type[BaseModel], what: str) -> bool:
    """Whether a model makes the same of what it has written, whatever stands at a path: no validator reads it."""
    part = written
    for key in path:
        part = part[key]
    others = [
        {"": []},
        *([not part] if isinstance(part, bool) else [part + 1] if isinstance(part, int | float) else []),
    ]
    others += [f"{part}x"] if isinstance(part, str) else []  # a validator may look at what is of its kind only
    return all(_is_unread_as(other, written, path, model, what) for other in others)


def _is_unread_as(value: Any, written: Any, path: Path, model: type[BaseModel], what: str) -> bool:
    other = copy_json(written)
    part = other
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    try:
        again, changed = _read(written, model), _read(other, model)
        extra = any(extra for where, _, extra in _one_way(changed, other, ()) if where == path)
        return extra or nearly(_written(again, what), _written(changed, what))
    except Exception:  # it is read; or nothing is, which is said where it is read again
        return False


def _one_way(held: Any, written: Any, path: Path) -> Iterator[tuple[Path, Any, bool]]:
    """Where a part has written a field under a name by which it does not read it itself; the part's class; and whether
    it has something else by that name, which it took besides its fields."""
    held = _unrooted(held)
    pairs: list[tuple[Any, Any, Any]] = []
    if isinstance(written, dict):
        extra = getattr(held, "__pydantic_extra__", None) or ()
        yield from (((*path, key), type(held), key in extra) for key in one_way(type(held)) if key in written)
        parts = _held_parts(held, written)
        pairs = [(key, item, parts[key]) for key, item in written.items()]
    elif isinstance(written, list):
        pairs = list(zip(range(len(written)), written, _held_items(held, written), strict=True))
    for key, item, part in pairs:
        if isinstance(item, dict | list):
            yield from _one_way(part, item, (*path, key))


def _held_parts(held: Any, written: dict[str, Any]) -> dict[str | None, Any]:
    """What stands behind the keys of what was written; None where that cannot be told."""
    if isinstance(held, dict) and len(held) == len(written):
        return dict(zip(written, held.values(), strict=True))  # by place: a key may have been no text
    return {key: _entry(held, key) for key in written}


def _held_items(held: Any, written: list[Any]) -> list[Any]:
    alike = isinstance(held, list | tuple | deque) or (
        isinstance(held, set | frozenset) and len({*map(type, held)}) == 1
    )
    return list(held) if alike and len(held) == len(written) else [None] * len(written)
