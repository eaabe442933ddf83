"""TOML 1.0. The standard library reads it (:mod:`tomllib`), and :func:`parse` keeps texts from it that would take it
minutes or gigabytes; it does not write it, and :func:`dumps` does.

What :func:`dumps` writes, ``tomllib.loads`` reads back as an equal document: tables as ``[a.b]``, lists of
tables as ``[[a.b]]``, everything deeper inline.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import tomllib
from typing import Any

LARGEST = 1 << 19
"""Characters of a study, which is written by hand; arrays belong into files of their own."""

MARKS = 50_000
"""So many values, keys and tables are in it at most: each comes after one of four marks."""

TABLES = 5_000
"""So many lines that look like the header of a table are in it at most."""

DOTS = 75_000
"""So many dots are in it at most: a value may have one, and the parser takes long over each part of a dotted key."""

_HEADER = re.compile(r"^[ \t]*+\[[^,\n]*+$", re.MULTILINE)

_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
# For a key of n parts the parser takes n² steps, and for a number of n digits some hundred bytes each.
_TOO_LONG = (
    (re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{31}}"), "a key of 32 or more parts"),
    (re.compile(r"(?<![A-Za-z0-9_])[A-Za-z0-9_]{100000}"), "a number or a word of 100,000 or more characters"),
)
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


def parse(text: str) -> dict[str, Any]:
    """The document of a TOML text that may be anybody's.

    Raises:
        ValueError: it is no TOML, or more than a study can be.
        RecursionError: it is nested too deeply.
        TypeError: it is no text.

    Example:
        >>> from thalweg.runs.toml import parse
        >>> parse("seed = 1")
        {'seed': 1}
        >>> parse("a" + ".a" * 100 + " = 1")
        Traceback (most recent call last):
        ...
        ValueError: it has a key of 32 or more parts
    """
    if not isinstance(text, str):
        raise TypeError(f"it is a {type(text).__name__}, not a text")
    if len(text) > LARGEST:
        raise ValueError(f"it has {len(text)} characters, more than the {LARGEST} of a study")
    marks = sum(map(text.count, "=,[{"))
    if marks > MARKS:
        raise ValueError(f"it has about {marks} values, more than the {MARKS} of a study; put them into a file")
    if (dots := text.count(".")) > DOTS:
        raise ValueError(f"it has {dots} dots, more than the {DOTS} of a study; put numbers into a file")
    tables = sum(1 for _ in _HEADER.finditer(text))
    if tables > TABLES:
        raise ValueError(f"it has about {tables} tables, more than the {TABLES} of a study")
    for pattern, what in _TOO_LONG:
        if pattern.search(text):
            raise ValueError(f"it has {what}")
    return tomllib.loads(text)


def dumps(document: dict[str, Any]) -> str:
    """The TOML text of a document as ``tomllib.loads`` returns it.

    Raises:
        TypeError: a value that TOML does not have, such as None.

    Example:
        >>> from thalweg.runs.toml import dumps
        >>> print(dumps({"seed": 1, "blocks": [{"iterations": 8}], "output": {"figures": True}}), end="")
        seed = 1
        <BLANKLINE>
        [[blocks]]
        iterations = 8
        <BLANKLINE>
        [output]
        figures = true
    """
    lines: list[str] = []
    _write_table(document, (), lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _write_table(table: dict[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    # Plain values must come before the first header, else they would belong to the table under it.
    for key, value in table.items():
        if not isinstance(value, dict) and not _is_list_of_tables(value):
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in table.items():
        here = (*path, key)
        if isinstance(value, dict):
            lines.extend(["", f"[{'.'.join(map(_key, here))}]"])
            _write_table(value, here, lines)
        elif _is_list_of_tables(value):
            for entry in value:
                lines.extend(["", f"[[{'.'.join(map(_key, here))}]]"])
                _write_table(entry, here, lines)


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _key(key: str) -> str:
    return key if _BARE.match(key) else _string(key)


def _string(text: str) -> str:
    # JSON's escapes are TOML's; JSON leaves DEL as it is, TOML does not allow it.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _float(number: float) -> str:
    if math.isnan(number):
        return "nan"
    if math.isinf(number):
        return "inf" if number > 0 else "-inf"
    return repr(number)


def _value(value: Any) -> str:
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            text: str = write(value)
            return text
    raise TypeError(f"TOML has no value of type {type(value).__name__}")


# In this order: bool is an int, datetime is a date.
_WRITERS: tuple[tuple[type, Any], ...] = (
    (bool, lambda value: "true" if value else "false"),
    (int, str),
    (float, _float),
    (str, _string),
    (datetime.datetime, datetime.datetime.isoformat),
    (datetime.date, datetime.date.isoformat),
    (datetime.time, datetime.time.isoformat),
    (list, lambda value: f"[{', '.join(map(_value, value))}]"),
    (dict, lambda value: "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"),
)
