"""Parameters of a choice model as PyCMTensor has them: Betas and Weights, objects around a shared variable.

What is known of one is read off its attributes: ``name``; ``lb`` and ``ub``, bounds in its unit, ``None`` for none;
``status``, 1 if it is fixed. Its shared variable is its ``shared_var`` (or ``sharedvar``, ``sharedVar``), or what it
returns when it is called. A shared variable stands for itself, free and without bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from thalweg.errors import HyperparameterError, ParameterError
from thalweg.optimizers.parameters import SUPPORTED
from thalweg.rules.namespaces import library_of
from thalweg.transforms import bounds

_FLOATS = tuple(dtype.name for dtype in SUPPORTED)
_HELD_AS = ("shared_var", "sharedvar", "sharedVar")


class Taken(NamedTuple):
    """A Beta, a Weight or a shared variable, taken apart.

    Args:
        shared: the shared variable.
        name: its name, if it has one.
        free: whether it is to be updated.
        bounds: where it has to stay, if anywhere.
    """

    shared: Any
    name: str | None
    free: bool
    bounds: bounds | None


def taken_apart(param: Any) -> Taken:
    """What is known of a parameter.

    Args:
        param: a shared variable of PyTensor, or an object around one.

    Returns:
        Its parts.

    Raises:
        ParameterError: it holds no shared variable, or is free and that is not of float32 or float64.
        HyperparameterError: its status is neither 0 nor 1, or its bounds are none.

    Example:
        >>> import numpy as np
        >>> import pytensor
        >>> from types import SimpleNamespace
        >>> from thalweg.dialects.betas import taken_apart
        >>> shared = pytensor.shared(np.array(0.0), name="b_cost")
        >>> beta = SimpleNamespace(name="b_cost", lb=None, ub=0, status=0, shared_var=shared)
        >>> taken_apart(beta).bounds
        bounds(lower=None, upper=0.0)
    """
    shared = param if library_of(param) == "pytensor" else _found(param)
    name = getattr(param, "name", None) or getattr(shared, "name", None)
    if library_of(shared) != "pytensor" or not hasattr(shared, "get_value"):
        raise ParameterError(
            f"parameter {name or param!r} is a {type(param).__name__} and holds no shared variable of PyTensor; give "
            f"shared variables, or objects with one as {' or '.join(_HELD_AS)}",
            variable=name,
        )
    status = 0 if shared is param else getattr(param, "status", 0)
    if isinstance(status, bool) or status not in (0, 1):
        raise HyperparameterError(
            f"parameter {name!r}: status is {status!r}; give 0 (free) or 1 (fixed)", name="status"
        )
    kind = getattr(shared, "dtype", "no numbers")
    if status == 0 and kind not in _FLOATS:
        raise ParameterError(
            f"parameter {name!r} holds {kind}, and {' or '.join(_FLOATS)} can be updated: make it of floats, "
            "pytensor.shared(np.asarray(value, 'float64'), name=...)",
            variable=name,
            got=str(kind),
        )
    if shared is param:
        return Taken(shared, name, True, None)
    lower, upper = getattr(param, "lb", None), getattr(param, "ub", None)
    try:
        limits = None if lower is None and upper is None else bounds(lower, upper)
    except HyperparameterError as error:
        raise HyperparameterError(f"parameter {name!r}: {error}", name=name, lb=lower, ub=upper) from error
    return Taken(shared, name, status == 0, limits)


def _found(param: Any) -> Any:
    for name in _HELD_AS:
        if hasattr(param, name):
            return getattr(param, name)
    try:
        return param() if callable(param) else None
    except TypeError:  # a function that takes something
        return None


def limits(parameters: Sequence[Taken]) -> dict[str, bounds] | None:
    """The bounds of parameters by name, as an optimizer's ``process_model``; ``None`` if there are none."""
    return {p.name or "variable": p.bounds for p in parameters if p.bounds is not None} or None
