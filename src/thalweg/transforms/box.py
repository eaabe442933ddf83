"""Bounds: x' = min(max(x, lower), upper), for a model that must stay in a range.

As the only ``process_model`` the optimizer folds :class:`bounds` into the compiled pass, where it costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.rules.namespaces import namespace
from thalweg.rules.ranges import finite, number
from thalweg.transforms.arrays import constant, floating, no_infinity
from thalweg.transforms.base import Array, Transform


@dataclass(frozen=True)
class bounds(Transform):
    """x' = min(max(x, lower), upper). NaN stays NaN.

    A bound is rounded to the nearest number of the array's dtype, as NumPy does when it compares the two: with
    ``upper=0.1`` a float32 array reaches float32(0.1) = 0.100000001…, which is not above 0.1 in float32.

    Args:
        lower: the least value, in the model's unit; ``None`` for no bound. 0 is a bound.
        upper: the largest value, in the model's unit; ``None`` for no bound.

    Raises:
        HyperparameterError: a bound is not a number, the lower one is above the upper one, or (when called) all
            numbers of the array's dtype are outside.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import bounds
        >>> bounds(1400, 1700)(np.array([1300.0, 1500.0, 1800.0]))
        array([1400., 1500., 1700.])

    Source: Parikh and Boyd, Proximal Algorithms (2014), section 6.2, the projection onto a box.
    """

    kind: ClassVar[str] = "bounds"
    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, number(value, finite, name=name, owner="bounds"))
        if self.limits[0] > self.limits[1]:
            raise HyperparameterError(
                f"bounds: lower {self.lower} is above upper {self.upper}", lower=self.lower, upper=self.upper
            )

    @property
    def limits(self) -> tuple[float, float]:
        """Lower and upper bound, infinite where there is none."""
        return (
            -np.inf if self.lower is None else self.lower,
            np.inf if self.upper is None else self.upper,
        )

    def __call__(self, array: Array) -> Array:
        """The clipped array."""
        given = floating(array, self.kind)
        names = namespace(given)
        if self.lower is not None and self.lower > 0:
            no_infinity(self.lower, given, name="lower", owner=self.kind)
        if self.upper is not None and self.upper < 0:
            no_infinity(self.upper, given, name="upper", owner=self.kind)
        lower, upper = (constant(limit, given) for limit in self.limits)
        return names.cast(names.clip(given, lower, upper), given)


@dataclass(frozen=True)
class nonnegative(Transform):
    """x' = max(x, 0). NaN and infinity stay, −∞ too, so that a model that holds them is noticed.

    That is where it differs from ``bounds(0)``, which makes 0 of −∞, and which the optimizer can fold into the
    compiled pass.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import nonnegative
        >>> nonnegative()(np.array([-1.0, 2.0]))
        array([0., 2.])

    Source: Parikh and Boyd, Proximal Algorithms (2014), section 6.2, a box without an upper end.
    """

    kind: ClassVar[str] = "nonnegative"

    def __call__(self, array: Array) -> Array:
        """The array without negative numbers."""
        given = floating(array, self.kind)
        names = namespace(given)
        below = (given < 0) & names.isfinite(given)
        return names.cast(names.where(below, constant(0.0, given), given), given)
