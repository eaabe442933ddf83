"""Changing a study from the command line: ``--set blocks.0.iterations=4``.

The path is a key a table, or an index into a list, joined with dots; the value is TOML. The changed document
is validated as if it had been written so.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterable
from typing import Any

from thalweg.runs.validation import Fault


def apply_overrides(document: dict[str, Any], overrides: Iterable[str]) -> tuple[dict[str, Any], list[Fault]]:
    """The document with each ``path=value`` set, and what was wrong with them.

    A value that is no TOML is taken as text, since a shell removes the quotes: ``title=abc`` means
    ``title="abc"``.

    Example:
        >>> from thalweg.runs.overrides import apply_overrides
        >>> apply_overrides({"blocks": [{"iterations": 8}]}, ["blocks.0.iterations=4", "seed=7"])
        ({'blocks': [{'iterations': 4}], 'seed': 7}, [])
    """
    document = copy.deepcopy(document)
    faults = []
    for override in overrides:
        path, equals, value = override.partition("=")
        steps = [step.strip() for step in path.split(".")]
        if not equals or not all(steps):
            faults.append(Fault(path, f"--set {override!r} is not of the form path=value, as in seed=7"))
            continue
        fault = _set(document, steps, parse_value(value))
        if fault is not None:
            faults.append(fault)
    return document, faults


def path_of(override: str) -> str:
    """The dotted path that an override sets.

    Example:
        >>> from thalweg.runs.overrides import path_of
        >>> path_of("blocks.0.name = 'low'")
        'blocks.0.name'
    """
    return override.partition("=")[0].strip()


def parse_value(text: str) -> Any:
    """The TOML value that a text spells, or the text itself.

    Example:
        >>> from thalweg.runs.overrides import parse_value
        >>> parse_value("[1, 2.5]"), parse_value("true"), parse_value("water")
        ([1, 2.5], True, 'water')
    """
    try:
        parsed = tomllib.loads(f"value = {text.strip()}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text  # a text with a line break could set more keys


def _set(document: dict[str, Any], steps: list[str], value: Any) -> Fault | None:
    where: Any = document
    for depth, step in enumerate(steps):
        last = depth == len(steps) - 1
        here = ".".join(steps[: depth + 1])
        key: Any = step
        if isinstance(where, list):
            if not step.isdecimal() or int(step) >= len(where):
                return Fault(here, f"--set: {_extent(steps[:depth], where)}, so {step!r} is none of them")
            key = int(step)
        elif not isinstance(where, dict):
            return Fault(here, f"--set: {'.'.join(steps[:depth])} is {where!r}, which has no keys")
        elif not last and step not in where:
            where[step] = {}  # if there is no such table, the validation of the document says so
        if last:
            where[key] = value
        else:
            where = where[key]
    return None


def _extent(steps: list[str], entries: list[Any]) -> str:
    name = ".".join(steps)
    if not entries:
        return f"{name} is an empty list"
    return f"{name} has the entries 0 to {len(entries) - 1}" if len(entries) > 1 else f"{name} has one entry, 0"
