"""Writing TOML 1.0: the standard library reads it (:mod:`tomllib`) and does not write it.

What :func:`dumps` writes, ``tomllib.loads`` reads back as an equal document: tables as ``[a.b]``, lists of
tables as ``[[a.b]]``, everything deeper inline.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


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
