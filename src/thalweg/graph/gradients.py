"""What an adjoint may return, and what becomes of it: one gradient per Variable input, each of its data's kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from thalweg.errors import AdjointReturnError, GradientDtypeError, GradientShapeError
from thalweg.graph.arrays import NUMBERS, describe, is_complex, like, shape_of
from thalweg.graph.signature import Signature
from thalweg.graph.variable import Variable


def split(
    result: Any,
    labels: list[str],
    signature: Signature,
    kwargs: dict[str, Any],
    where: Callable[[], str],
) -> list[Any] | tuple[Any, ...]:
    """Return an adjoint's result as one gradient per Variable input.

    Args:
        result: a gradient, a tuple or list of gradients, or a dict of them by parameter name.
        labels: names of the Variable inputs in the order of the forward's signature.
        signature: of the operator.
        kwargs: keyword arguments of the call (a dict may name those that were no Variables).
        where: says which call it was, for messages.

    Raises:
        AdjointReturnError: wrong count, or an unknown name.
    """
    if isinstance(result, dict):
        return _by_name(result, labels, signature, kwargs, where)
    if isinstance(result, tuple | list):
        if len(result) != len(labels):
            raise AdjointReturnError(
                f"{where()} returned {len(result)} gradients for {len(labels)} Variable inputs ({', '.join(labels)}); "
                "return one for each, in the order of the forward's signature, and None for one that needs none",
                expected=len(labels),
                got=len(result),
            )
        return result
    if len(labels) != 1:
        raise AdjointReturnError(
            f"{where()} returned {_thing(result)} for {len(labels)} Variable inputs ({', '.join(labels)}); "
            "return a tuple with one gradient for each, and None for one that needs none",
            expected=len(labels),
            got=1,
        )
    return (result,)


def _by_name(
    result: dict[Any, Any],
    labels: list[str],
    signature: Signature,
    kwargs: dict[str, Any],
    where: Callable[[], str],
) -> list[Any]:
    found: dict[str, Any] = {}
    for name, gradient in result.items():
        if name == signature.rest:
            group = [label for label in labels if label.startswith(f"{name}[")]
            if not isinstance(gradient, tuple | list) or len(gradient) != len(group):
                raise AdjointReturnError(
                    f"{where()} returned {_thing(gradient)} for the {len(group)} Variables of '*{name}'; "
                    f"return a tuple with {len(group)} gradients",
                    name=name,
                )
            found.update(zip(group, gradient, strict=True))
        elif name in labels:
            found[name] = gradient
        elif name not in signature.ranks and name not in signature.positional and name not in kwargs:
            raise AdjointReturnError(
                f"{where()} returned a gradient for {name!r}, but the Variable inputs are {', '.join(labels)}",
                name=name,
            )
    return [found.get(label) for label in labels]


def checked(gradient: Any, variable: Variable, where: Callable[[], str]) -> Any:
    """Return the gradient as an array that fits the variable.

    Raises:
        AdjointReturnError: it is None or a Variable.
        GradientShapeError, GradientDtypeError: shape or dtype differ from the data's.
    """
    data = variable._data
    if gradient is None:
        raise AdjointReturnError(
            f"{where()} is None, but a gradient is needed; return zeros if there is no dependence",
            variable=variable.name,
        )
    if isinstance(gradient, Variable):
        raise AdjointReturnError(
            f"{where()} is a Variable; return the array itself (its .data)", variable=variable.name
        )
    expected, dtype = shape_of(data), getattr(data, "dtype", None)
    if isinstance(gradient, np.generic):
        gradient = np.asarray(gradient)
    elif isinstance(gradient, NUMBERS) and expected == () and not isinstance(gradient, bool):
        if isinstance(gradient, complex) and not is_complex(dtype):
            raise GradientDtypeError(
                f"{where()} is the complex number {gradient}, but the data is {describe(data)}; return its real part",
                variable=variable.name,
                expected=str(dtype),
                got="complex",
            )
        return like(data, gradient)
    got = shape_of(gradient)
    if expected is not None and got != expected:
        raise GradientShapeError(
            f"{where()} has {_thing(gradient)}, expected shape {expected} like the data; nothing is broadcast",
            variable=variable.name,
            expected=expected,
            got=got,
        )
    if dtype is not None and getattr(gradient, "dtype", None) != dtype:
        raise GradientDtypeError(
            f"{where()} has {_thing(gradient)}, expected dtype {dtype} like the data; "
            "convert it in the adjoint (for instance gradient.astype(x.dtype))",
            variable=variable.name,
            expected=str(dtype),
            got=str(getattr(gradient, "dtype", type(gradient).__name__)),
        )
    return gradient


def same_kind(old: Any, gradient: Any, variable: Variable) -> Any:
    """Return the old gradient if the new one can be added to it (the user may have put anything there)."""
    for what, error in (("shape", GradientShapeError), ("dtype", GradientDtypeError)):
        if getattr(old, what, None) != getattr(gradient, what, None):
            raise error(
                f"the grad that {variable!r} already has is {_thing(old)}, and {_thing(gradient)} is to be added "
                "to it; call clear_grad() first",
                variable=variable.name,
                expected=str(getattr(gradient, what, None)),
                got=str(getattr(old, what, None)),
            )
    return old


def _thing(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return describe(value)
