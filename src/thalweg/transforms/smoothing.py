"""Gaussian smoothing. Linear and its own adjoint.

At the edges the field is mirrored (… c b a | a b c …). With that the smoothing matrix is symmetric, so it is
its own adjoint, and constants and sums are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.rules.ranges import nonnegative, number
from thalweg.transforms.base import Transform, floating


@dataclass(frozen=True)
class smooth(Transform):
    """g' = G·g, G a Gaussian of the given standard deviation, cut at four of them.

    Args:
        sigma: the standard deviation in cells: one number, or one for each axis. 0 leaves an axis as it is.

    Raises:
        HyperparameterError: a standard deviation is negative or not finite, or (when called) their number is
            not the array's number of axes.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import smooth
        >>> smooth(1.0)(np.array([0.0, 0.0, 1.0, 0.0, 0.0])).round(3)
        array([0.058, 0.242, 0.399, 0.242, 0.058])
    """

    kind: ClassVar[str] = "smooth"
    sigma: float | tuple[float, ...]

    def __post_init__(self) -> None:
        several = isinstance(self.sigma, list | tuple)
        given = self.sigma if isinstance(self.sigma, list | tuple) else (self.sigma,)
        checked = tuple(number(value, nonnegative, name="sigma", owner=self.kind) for value in given)
        object.__setattr__(self, "sigma", checked if several else checked[0])

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """The smoothed array."""
        from scipy.ndimage import gaussian_filter

        given = floating(array, self.kind)
        if isinstance(self.sigma, tuple) and len(self.sigma) != given.ndim:
            raise HyperparameterError(
                f"smooth: {len(self.sigma)} standard deviations for an array of {given.ndim} axes",
                sigma=self.sigma,
            )
        if given.ndim == 0 or given.size == 0:
            return given.copy()
        native = given.astype(given.dtype.newbyteorder("="), copy=False)
        smoothed: np.ndarray = gaussian_filter(native, self.sigma, mode="reflect", truncate=4.0)
        return smoothed

    def adjoint(self, array: np.ndarray) -> np.ndarray:
        """The adjoint: the smoothing itself."""
        return self(array)
