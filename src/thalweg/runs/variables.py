"""Variables of either kind as arrays, which is what checkpoints, results and digests hold.

An array variable is its data; a structured variable is the bytes of its JSON with its keys as they stand, ``uint8``,
shape (n,): a run that goes on has the text of before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import RunError
from thalweg.graph import Variable


def is_structured(variable: Variable) -> bool:
    """Whether the variable holds JSON; does not import what is about such variables."""
    return hasattr(variable, "schema")


def as_array(variable: Variable) -> NDArray[Any]:
    """The data of a variable: a view of an array variable's, else bytes of JSON.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.runs.variables import as_array
        >>> from thalweg.search import StructuredVariable
        >>> bytes(as_array(StructuredVariable({"C": 2}, {"type": "object"}, name="svm")))
        b'{"C":2}'
    """
    if is_structured(variable):
        value = variable.json()  # type: ignore[attr-defined]
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return np.frombuffer(text.encode(), dtype=np.uint8)
    return np.asarray(variable.data)


def as_arrays(variables: Iterable[Variable]) -> dict[str, NDArray[Any]]:
    """:func:`as_array` of each, by name."""
    return {str(variable.name): as_array(variable) for variable in variables}


def as_values(variables: Iterable[Variable]) -> dict[str, Any]:
    """The JSON values of the structured ones, by name."""
    return {str(v.name): v.json() for v in variables if is_structured(v)}  # type: ignore[attr-defined]


def misfit_of(variable: Variable, saved: NDArray[Any]) -> str | None:
    """Why a variable cannot be put where :func:`as_array` had it, or None."""
    here = as_array(variable)
    if is_structured(variable):
        if saved.dtype != np.uint8 or saved.ndim != 1:
            return f"{variable.name} was an array, now it is structured"
        return None
    if here.shape != saved.shape or here.dtype != saved.dtype:
        return f"{variable.name} was {saved.shape} {saved.dtype}, now {here.shape} {here.dtype}"
    return None


def put(variable: Variable, saved: NDArray[Any]) -> None:
    """Put a variable where :func:`as_array` had it; :func:`misfit_of` says whether it can be.

    Raises:
        RunError: bytes that are no JSON.
        ValueMismatchError: a value that does not fit the variable's schema.
    """
    if is_structured(variable):
        try:
            value = json.loads(saved.tobytes())
        except (ValueError, RecursionError) as error:
            raise RunError(f"What the checkpoint has of {variable.name!r} is no JSON: {error}.") from error
        variable.assign(value)  # type: ignore[attr-defined]
        return
    np.asarray(variable.data)[...] = saved
    variable.mark_modified()
