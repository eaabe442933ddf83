"""A transform from a table, as study files and saved state have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.rules.calling import fault
from thalweg.rules.spelling import unknown
from thalweg.transforms.base import Described, array_digest


def build_transform(
    table: Mapping[str, Any], registry: Mapping[str, type[Described]], arrays: Mapping[str, np.ndarray]
) -> Described:
    """A transform from a table such as ``{"kind": "bounds", "lower": 1400, "upper": 1700}``.

    Args:
        table: the kind and the parameters; a parameter that is an array is given by name.
        registry: the known kinds.
        arrays: the arrays that may be named.

    Returns:
        The transform.

    Raises:
        HyperparameterError: an unknown kind, parameter or array (naming the nearest), a missing parameter, or
            a value out of range.
    """
    parameters = dict(table)
    kind = parameters.pop("kind", None)
    if not isinstance(kind, str) or kind not in registry:
        raise unknown("transform", str(kind), registry)
    cls = registry[kind]
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    wrong = fault(cls, (), parameters)
    if wrong is not None:
        raise wrong
    for name, value in parameters.items():
        absent = value is None and known[name].default is None
        if name in cls.array_parameters and not absent:
            parameters[name] = _named(value, name, kind, arrays)
    return cls(**parameters)


def _named(value: Any, parameter: str, kind: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The array that a table means: by its name, or by the digest that ``get_config`` wrote."""
    if isinstance(value, str):
        if value not in arrays:
            raise unknown(f"array for {parameter!r} of transform {kind!r}: ", value, arrays)
        return arrays[value]
    for array in arrays.values():
        if array_digest(array) == value:
            return array
    raise HyperparameterError(
        f"transform {kind!r}: {parameter!r} is {value!r}, and none of the arrays handed in is that one; "
        "name one of them, or hand the same array in again",
        name=parameter,
        known=sorted(arrays),
    )
