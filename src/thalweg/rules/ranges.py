"""The interval in which a hyperparameter is valid, and the check that a value is a number inside it."""

from __future__ import annotations

import math
import numbers
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.rules.namespaces import library_of


@dataclass(frozen=True)
class Interval:
    """The finite real numbers between two ends.

    Args:
        low: the lower end.
        high: the upper end.
        closed_low: whether ``low`` itself belongs to it.
        closed_high: whether ``high`` itself belongs to it.
        whole: whether only integers belong to it.

    Example:
        >>> from thalweg.rules.ranges import fraction
        >>> 0.9 in fraction, 1.0 in fraction, float("nan") in fraction
        (True, False, False)
        >>> print(fraction)
        [0, 1)
    """

    low: float
    high: float
    closed_low: bool = True
    closed_high: bool = True
    whole: bool = False

    def __contains__(self, value: float) -> bool:
        if not math.isfinite(value) or (self.whole and value != int(value)):
            return False
        above = value >= self.low if self.closed_low else value > self.low
        below = value <= self.high if self.closed_high else value < self.high
        return above and below

    def holds(self, values: np.ndarray) -> np.ndarray:
        """For each of several numbers whether it lies here.

        Args:
            values: float64, any shape.

        Returns:
            Booleans of that shape.
        """
        above = values >= self.low if self.closed_low else values > self.low
        below = values <= self.high if self.closed_high else values < self.high
        inside: np.ndarray = np.isfinite(values) & above & below
        return inside & (values == np.floor(values)) if self.whole else inside

    def __str__(self) -> str:
        left, right = "[" if self.closed_low else "(", "]" if self.closed_high else ")"
        return f"{left}{self.low:g}, {self.high:g}{right}{', integers' if self.whole else ''}"


finite = Interval(-math.inf, math.inf, closed_low=False, closed_high=False)
nonnegative = Interval(0.0, math.inf, closed_high=False)
positive = Interval(0.0, math.inf, closed_low=False, closed_high=False)
fraction = Interval(0.0, 1.0, closed_high=False)
counts = Interval(1.0, math.inf, closed_high=False, whole=True)
open_fraction = Interval(0.0, 1.0, closed_low=False, closed_high=False)


def number(value: Any, interval: Interval, *, name: str, owner: str) -> float:
    """``value`` as a Python float, checked.

    Args:
        value: a Python or NumPy real number, or a 0-d array of one, NumPy's, JAX's or PyTorch's (there one without a
            gradient). Booleans are not numbers here.
        interval: where it must lie.
        name: the hyperparameter's name, for the message.
        owner: whose hyperparameter it is, for the message.

    Returns:
        The value as a float (double precision).

    Raises:
        HyperparameterError: not a real number, not finite, or outside the interval.

    Example:
        >>> from thalweg.rules.ranges import nonnegative, number
        >>> number(0, nonnegative, name="learning_rate", owner="adam")
        0.0
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    elif library_of(value) in ("jax", "torch"):
        value = _read(value)
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise HyperparameterError(
            f"{owner}: {name} is {value!r} ({type(value).__name__}); give a real number in {interval}",
            owner=owner,
            name=name,
            value=value,
        )
    try:
        result = float(value)
    except OverflowError as error:
        raise HyperparameterError(
            f"{owner}: {name} is too large for a float ({type(value).__name__}); give a real number in {interval}",
            owner=owner,
            name=name,
            value=value,
        ) from error
    if result not in interval:
        raise HyperparameterError(
            f"{owner}: {name} is {result!r}, outside its range {interval}",
            owner=owner,
            name=name,
            value=result,
            range=str(interval),
        )
    return result


def _read(value: Any) -> Any:
    """The number in a scalar of JAX's or PyTorch's; what has none to read (traced, say) as it is."""
    if getattr(value, "ndim", None) != 0 or getattr(value, "requires_grad", False):
        return value
    try:
        return value.item()
    except (TypeError, RuntimeError):
        return value


def number_or_array(value: Any, interval: Interval, *, name: str, owner: str) -> float | np.ndarray:
    """``value`` as a float, or, if it has axes, as an array of them, checked.

    Args:
        value: a number, or a NumPy array of float32 or float64 with at least one axis.
        interval: where it, or each of its elements, must lie.
        name: the hyperparameter's name, for the message.
        owner: whose hyperparameter it is, for the message.

    Returns:
        A float; or a new array of float64 that cannot be written to.

    Raises:
        HyperparameterError: it is neither, or an element is not finite, or outside the interval.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules.ranges import nonnegative, number_or_array
        >>> number_or_array(np.array([0.5, 2.0]), nonnegative, name="learning_rate", owner="adam")
        array([0.5, 2. ])
    """
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        return number(value, interval, name=name, owner=owner)
    if is_masked(value) or value.dtype.newbyteorder("=") not in (np.dtype(np.float32), np.dtype(np.float64)):
        kind = "masked" if is_masked(value) else str(value.dtype)
        raise HyperparameterError(
            f"{owner}: {name} is an array of {value.shape} {kind}; give a number, or an array of float32 or float64",
            owner=owner,
            name=name,
        )
    array = np.array(value, np.float64, subok=False)
    _refuse_outside(array, array, interval, name, owner, "")
    array.setflags(write=False)
    return array


def _refuse_outside(
    array: np.ndarray, given: np.ndarray, interval: Interval, name: str, owner: str, advice: str
) -> None:
    bad = ~interval.holds(array)
    if bad.any():
        index = tuple(map(int, np.argwhere(bad)[0]))
        was = "" if given is array else f"{given[index].item()!r}, which becomes "
        raise HyperparameterError(
            f"{owner}: {name}{list(index)} is {was}{array[index].item()!r}, outside its range {interval}{advice}",
            owner=owner,
            name=name,
            index=index,
            value=given[index].item(),
        )


def is_masked(array: Any) -> bool:
    """Whether an array is masked. ``numpy.ma`` is not imported for it: where nobody has, there is none.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules.ranges import is_masked
        >>> is_masked(np.ones(2)), is_masked(np.ma.masked_invalid([1.0, np.nan]))
        (False, True)
    """
    module = sys.modules.get("numpy.ma")
    return module is not None and isinstance(array, module.MaskedArray)


def stays_inside(value: float | np.ndarray, interval: Interval, dtype: Any, *, name: str, owner: str) -> None:
    """Refuse a number that leaves its interval when rounded to the dtype it will be used in.

    Args:
        value: a number in the interval, or an array of them.
        interval: where it must lie.
        dtype: a floating NumPy dtype.
        name: the hyperparameter's name, for the message.
        owner: whose hyperparameter it is, for the message.

    Raises:
        HyperparameterError: rounded, it is outside the interval.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules.ranges import fraction, stays_inside
        >>> stays_inside(1 - 1e-9, fraction, np.dtype("f8"), name="beta2", owner="adam")  # in float32: an error
    """
    if isinstance(value, np.ndarray):
        with np.errstate(over="ignore"):
            array = value.astype(dtype).astype(np.float64)
        advice = f" in {dtype}; use a float64 variable or another value"
        _refuse_outside(array, value, interval, name, owner, advice)
        return
    with np.errstate(over="ignore"):
        rounded = float(dtype.type(value))
    if rounded not in interval:
        raise HyperparameterError(
            f"{owner}: {name} = {value!r} becomes {rounded!r} in {dtype}, outside its range {interval}; "
            "use a float64 variable or another value",
            owner=owner,
            name=name,
            value=value,
        )
