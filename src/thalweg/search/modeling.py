"""Pydantic models as judges of values: what is given is checked to the letter, and what is dropped is no secret.

Pydantic would turn ``"3"`` into 3 and leave out fields that it does not know. Here ``"3"`` is refused, and so is what
would be left out; fields that were not given get their defaults.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from thalweg.errors import ValueMismatchError
from thalweg.search.values import copy_json, written_path


def dumped(instance: BaseModel, what: str) -> Any:
    """The JSON value of a model's instance, with its aliases and without computed fields.

    Raises:
        ValueMismatchError: a field holds what its annotation does not allow, or what JSON cannot hold.
    """
    try:
        value = instance.model_dump(mode="json", by_alias=True, round_trip=True, warnings="error")
    except PydanticSerializationError as error:
        raise ValueMismatchError(f"{what}, a {type(instance).__name__}, cannot be written as JSON: {error}") from error
    return copy_json(value, what=what)


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
    try:
        instance = model.model_validate_json(json.dumps(value, allow_nan=False), strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        path = tuple(faults[0]["loc"])
        where = f" at {written_path(path)}" if path else ""
        more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
        said = faults[0]["msg"][:1].lower() + faults[0]["msg"][1:]
        raise ValueMismatchError(f"{what} does not fit {model.__name__}{where}: {said}{more}.", path=path) from error
    written = dumped(instance, what)
    lost = _lost(value, written, ())
    if lost is not None:
        path, known = lost
        raise ValueMismatchError(
            f"{model.__name__} has nothing at {written_path(path)}, which {what} has (known: {', '.join(known)}).",
            path=path,
        )
    return written


def _lost(given: Any, written: Any, path: tuple[str | int, ...]) -> tuple[tuple[str | int, ...], list[str]] | None:
    """Where the first key is that was given and not written, and which keys were written there."""
    pairs: list[tuple[str | int, Any, Any]] = []
    if isinstance(given, dict) and isinstance(written, dict):
        missing = [key for key in given if key not in written]
        if missing:
            return (*path, missing[0]), sorted(written)
        pairs = [(key, item, written[key]) for key, item in given.items()]
    elif isinstance(given, list) and isinstance(written, list) and len(given) == len(written):
        pairs = [(index, item, written[index]) for index, item in enumerate(given)]
    return next((found for key, a, b in pairs if (found := _lost(a, b, (*path, key))) is not None), None)
