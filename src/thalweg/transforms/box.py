"""Bounds: x' = min(max(x, lower), upper), for a model that must stay in a range.

As the only ``process_model`` the optimizer folds it into the compiled pass, where it costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.rules.ranges import finite, number
from thalweg.transforms.base import Transform, floating


@dataclass(frozen=True)
class bounds(Transform):
    """x' = min(max(x, lower), upper). NaN stays NaN.

    A bound is rounded to the nearest number of the array's dtype, as NumPy does when it compares the two: with
    ``upper=0.1`` a float32 array reaches float32(0.1) = 0.100000001…, which is not above 0.1 in float32.

    Args:
        lower: the least value, in the model's unit; ``None`` for no bound. 0 is a bound.
        upper: the largest value, in the model's unit; ``None`` for no bound.

    Raises:
        HyperparameterError: a bound is not a number, or the lower one is above the upper one.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import bounds
        >>> bounds(1400, 1700)(np.array([1300.0, 1500.0, 1800.0]))
        array([1400., 1500., 1700.])
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

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """The clipped array."""
        given = floating(array, self.kind)
        with np.errstate(over="ignore"):  # a bound beyond float32 is no bound there
            lower, upper = (given.dtype.type(limit) for limit in self.limits)
        return np.asarray(np.clip(given, lower, upper))
