"""What a formula counts, and what becomes of its result.

Formulas are written in ``+ - * / **`` and the names of :mod:`thalweg.rules.arithmetic`, without an ``if`` on a
count, so that one text runs on numbers and inside a compiled loop. Three things make that exact:

- a count enters as a real number of the widest kind that its library has (PyTorch would make ``integer * 0.5``
  single precision, and cast a fraction that meets an integer to an integer);
- ⌊t/p⌋ of whole numbers is computed as ⌊(t + ½)/p⌋, which is never near an integer: compilers turn a division by a
  constant into a product with its reciprocal, and 49·(1/49) is below 1; in single precision, which has no ½ after 2²³,
  as a quotient of integers;
- of two branches of ``where``, one at least is an array already: two numbers would be single precision in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.rules.arithmetic import floor
from thalweg.rules.namespaces import library_of
from thalweg.schedules.state import State

_REAL: Mapping[str, Callable[[Any], Any]] = {
    "numpy": lambda t: float(t) if np.ndim(t) == 0 else np.asarray(t, np.float64),
    "jax": lambda t: t.astype(float),  # float32 unless the user has switched x64 on
    "torch": lambda t: t.double(),
    "pytensor": lambda t: t.astype("float64"),
}


_LARGEST = 2**31 - 1
"""The largest integer that JAX has without float64."""


def count(state: State, *, iterations: bool) -> Any:
    """t, as a real number of the library that the state's counts belong to.

    Args:
        state: the counts.
        iterations: completed iterations instead of completed epochs.

    Returns:
        A float, or an array like the count.

    Raises:
        HyperparameterError: it is no state; a number, say.

    Example:
        >>> from thalweg.schedules import OptimizationState
        >>> from thalweg.schedules.counting import count
        >>> count(OptimizationState(curr_epoch=3), iterations=False)
        2.0
    """
    if not isinstance(state, State):
        raise HyperparameterError(
            f"a schedule is a function of an OptimizationState, and was called with {state!r}; schedule.values(n) are "
            "its first n values"
        )
    t = state.completed_iterations if iterations else state.completed_epochs
    return _REAL[library_of(t)](t)


def whole_periods(t: Any, period: int) -> Any:
    """⌊t/period⌋ for a whole t, exact on every backend (for t below 2⁵⁰, in single precision 2²⁴).

    Args:
        t: what :func:`count` returned, or a difference of it and whole numbers.
        period: 1 or more.

    Returns:
        How often the period has passed, as a real number like ``t``.

    Example:
        >>> from thalweg.schedules.counting import whole_periods
        >>> float(whole_periods(49.0, 49)), float(whole_periods(48.0, 49))
        (1.0, 0.0)
    """
    if single(t):
        return (floor(t).astype(np.int32) // min(period, _LARGEST)).astype(np.float32)
    return floor((t + 0.5) / period)


def single(t: Any) -> bool:
    """Whether a count is of single precision: JAX's without float64.

    Args:
        t: what :func:`count` returned, or a number made of it.

    Returns:
        Whether it is.

    Example:
        >>> from thalweg.schedules.counting import single
        >>> single(1.0)
        False
    """
    return library_of(t) == "jax" and t.dtype == np.float32


def plain(value: Any) -> float:
    """A schedule's result: a Python float where it is a number; arrays and traced values as they are.

    Args:
        value: what the formula gave.

    Returns:
        The float, or ``value`` itself.

    Example:
        >>> import numpy as np
        >>> from thalweg.schedules.counting import plain
        >>> plain(np.where(True, np.float64(1.5), 0.0))
        1.5
    """
    return float(value) if library_of(value) == "numpy" and np.ndim(value) == 0 else cast(float, value)
