"""JSON values: what structured variables hold, candidates propose and rewards are given for.

A JSON value is None, a bool, an int, a finite float, a str, a list of such, or a dict of such with str keys; exactly
these types. It is copied on its way in and on its way out, so that nobody holds what somebody else has. Two values are
the same if their digests are, and ``1``, ``1.0``, ``True`` and ``"1"`` are four::

    digest = BLAKE2b(canonical JSON: sorted keys, no spaces, UTF-8)
"""

from __future__ import annotations

import enum
import json
import math
import re
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from pydantic import BaseModel

from thalweg.checkpoints.manifest import digest
from thalweg.errors import ValueMismatchError

Json = None | bool | int | float | str | list[Any] | dict[str, Any]

DEEPEST = 100
"""How deep lists and dicts may be nested: readers of JSON refuse more at some depth of their own."""

LARGEST = 1_000_000
"""How many values there may be in one; a list that holds another one twice has it twice."""

BITS = 1023
"""Of an integer: a larger one could not be compared with a float."""


def in_order(value: Any, pattern: Any) -> Any:
    """A value with its keys in the order of one that has the same.

    Example:
        >>> from thalweg.search.values import in_order
        >>> in_order({"a": 1, "b": 2}, {"b": 0, "a": 0})
        {'b': 2, 'a': 1}
    """
    if isinstance(value, dict):
        return {key: in_order(value[key], part) for key, part in pattern.items()}
    if isinstance(value, list):
        return [in_order(item, part) for item, part in zip(value, pattern, strict=True)]
    return value


def copy_json(value: Any, *, what: str = "the value") -> Any:
    """Copy a JSON value, all of it, and refuse what is none.

    Args:
        value: exactly None, bool, int, float, str, list or dict, all the way down; floats finite, keys str, text
            without lone surrogates.
        what: what it is, for the message.

    Returns:
        The copy; it shares no list and no dict with the value.

    Raises:
        ValueMismatchError: it is no JSON value, refers to itself, or is too deep or too large; the message has the
            path, ``details["path"]`` its parts.

    Example:
        >>> from thalweg.search import copy_json
        >>> mine = {"examples": [{"score": 1.0}]}
        >>> copy_json(mine) == mine, copy_json(mine)["examples"] is mine["examples"]
        (True, False)
        >>> copy_json({"examples": [{"score": float("nan")}]})
        Traceback (most recent call last):
        thalweg.errors.ValueMismatchError: the value is no JSON value at examples.0.score: got nan; ...
    """
    return _Copy(what).of(value, ())


def digest_json(value: Any) -> str:
    """Tell JSON values apart: equal digests, equal values, to the type of each number.

    Args:
        value: a JSON value; the order of keys means nothing.

    Returns:
        BLAKE2b of the canonical JSON, 32 bytes as hexadecimal digits.

    Raises:
        ValueMismatchError: as :func:`copy_json`.

    Example:
        >>> from thalweg.search import digest_json
        >>> len({digest_json(value) for value in (1, 1.0, True, "1")})
        4
        >>> digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
        True
    """
    return digest(canonical_json(value).encode())


def canonical_json(value: Any) -> str:
    """The one way to write a JSON value: sorted keys, no spaces.

    Args:
        value: a JSON value.

    Returns:
        The text; reading it gives the value back, to the type of each number.

    Raises:
        ValueMismatchError: as :func:`copy_json`.

    Example:
        >>> from thalweg.search.values import canonical_json
        >>> canonical_json({"b": 1.0, "a": [None, "é"]})
        '{"a":[null,"é"],"b":1.0}'
    """
    value = copy_json(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def written_path(path: tuple[str | int, ...]) -> str:
    """A path into a JSON value as people read it; the middle of a long one is left out.

    Example:
        >>> from thalweg.search.values import written_path
        >>> written_path(("examples", 3, "a.b"))
        "examples.3.'a.b'"
        >>> written_path((*range(50), "end"))
        '0.1.2.3.4.5.6.7...48.49.end'
    """
    plain = re.compile(r"[^\s.'\"]+")
    parts = [part if isinstance(part, str) and plain.fullmatch(part) else repr(part) for part in path]
    return ".".join(parts) if len(parts) <= 12 else f"{'.'.join(parts[:8])}...{'.'.join(parts[-3:])}"


class _Copy:
    """One copy under way: which containers it is inside of, and how much it has copied."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.inside: set[int] = set()
        self.count = 0

    def of(self, value: Any, path: tuple[str | int, ...]) -> Any:
        self.count += 1
        if self.count > LARGEST:
            raise self.error(
                path, f"there are more than {LARGEST:,} values in it", "keep large data in files or arrays"
            )
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            if value.bit_length() > BITS:
                raise self.error(path, f"an integer of {value.bit_length()} bits", f"at most {BITS} are possible")
            return value
        if kind is float:
            if not math.isfinite(value):
                raise self.error(path, f"got {value!r}", "numbers are finite; None can say that there is none")
            return value
        if kind is str:
            return self.text(value, path)
        if kind is not list and kind is not dict:
            raise self.error(path, f"got a {kind.__name__}", _advice(value))
        if id(value) in self.inside:
            raise self.error(path, f"the {kind.__name__} is inside itself", "break the circle")
        if len(path) >= DEEPEST:
            raise self.error(path, f"lists and dicts are nested more than {DEEPEST} deep", "flatten the value")
        self.inside.add(id(value))
        copied: Any
        if kind is list:
            copied = [self.of(item, (*path, index)) for index, item in enumerate(value)]
        else:
            copied = {self.key(key, path): self.of(item, (*path, key)) for key, item in value.items()}
        self.inside.discard(id(value))
        return copied

    def key(self, key: Any, path: tuple[str | int, ...]) -> str:
        if type(key) is not str:
            raise self.error(path, f"got the key {key!r}, a {type(key).__name__}", f"keys are str: {str(key)!r}")
        return self.text(key, path)

    def text(self, text: str, path: tuple[str | int, ...]) -> str:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self.error(
                path,
                f"the text has the lone surrogate {text[error.start]!a} at {error.start}",
                "no file and no server can be sent it; decode the text anew, with errors='replace'",
            ) from None
        return text

    def error(self, path: tuple[str | int, ...], fault: str, advice: str) -> ValueMismatchError:
        where = f" at {written_path(path)}" if path else ""
        return ValueMismatchError(f"{self.what} is no JSON value{where}: {fault}; {advice}.", path=path)


def _advice(value: Any) -> str:
    """What to do about a value that is no JSON value but resembles one."""
    table: list[tuple[Any, str]] = [
        (np.generic, "give the Python number, value.item()"),
        (np.ndarray, "give a list, value.tolist(); large arrays belong into array variables"),
        (enum.Enum, "give its value, member.value"),
        (BaseModel, "give its JSON, model.model_dump(mode='json')"),
        ((tuple, Set), "give a list"),
        (Mapping, "give a dict, dict(value)"),
        ((bytes, bytearray), "give text, value.decode()"),
        (int, "give an int, int(value)"),
        (float, "give a float, float(value)"),
        (str, "give a str, str(value)"),
        (list, "give a list, list(value)"),
    ]
    known = next((advice for kinds, advice in table if isinstance(value, kinds)), None)
    return known or "None, bool, int, float, str, list and dict can be held"
