"""Projection onto a simplex: the nearest point without negative numbers that has a given sum.

It is max(x − θ, 0) with the one θ that gives the sum. Think of the distances d = max x − x as a ground into which
the sum is poured as water: over the j lowest places it would stand at (sum + d₁ + … + dⱼ)/j, and the level is the
least of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.rules.namespaces import namespace
from thalweg.rules.ranges import number, positive
from thalweg.transforms.arrays import constant, epsilon, floating, no_infinity, no_zero, quiet, shape_of, wide
from thalweg.transforms.base import Array, Transform


@dataclass(frozen=True)
class simplex(Transform):
    """x' = argmin ‖y − x‖₂ with y ≥ 0 and Σ y = total, over the whole array: max(x − θ, 0).

    A point that misses the sum by rounding errors only, as results do, counts as inside and stays as it is. One
    NaN or infinity makes all of the result NaN.

    Args:
        total: the sum, in the model's unit, positive.

    Raises:
        HyperparameterError: the total is not a positive finite number, or (when called) 0 or infinite in the array's
            dtype (infinite in float32 for 16 bits), or the array is empty: no empty array has that sum. A PyTensor
            variable that does not tell its shape is not asked.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import simplex
        >>> simplex()(np.array([0.9, 0.5, -1.0]))
        array([0.7, 0.3, 0. ])

    Source: Duchi, Shalev-Shwartz, Singer and Chandra, Efficient Projections onto the l1-Ball for Learning in High
    Dimensions (2008), figure 1. We take distances from the largest element, so that a large offset common to all
    elements costs no digits.
    """

    kind: ClassVar[str] = "simplex"
    total: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", number(self.total, positive, name="total", owner=self.kind))

    def __call__(self, array: Array) -> Array:
        """The nearest point of the simplex."""
        given = floating(array, self.kind)
        shape = shape_of(given)
        if 0 in shape:
            raise HyperparameterError(
                f"simplex: an array of shape {shape} has the sum 0, not {self.total}; give one that has elements",
                shape=shape,
            )
        names, whole = namespace(given), wide(given)
        no_zero(self.total, given, name="total", owner=self.kind)
        no_infinity(self.total, whole, name="total", owner=self.kind)
        with quiet():
            found = names.total(whole)
            missing = names.absolute(found - constant(self.total, found))
            inside = (names.largest(-given) <= 0) & (missing <= constant(self.total * rounding(given), found))
            nearest = names.cast(onto_simplex(whole, self.total), given)
            return finite_or_nan(given, names.where(inside, given, nearest))


def onto_simplex(array: Array, total: float) -> Array:
    """max(x − θ, 0), its sum ``total``; on NumPy in double precision.

    Args:
        array: finite floats, any shape, at least one.
        total: the sum, positive.

    Returns:
        An array of the same shape.
    """
    names = namespace(array)
    rough = names.largest(array) - _level(array, total)
    # What is left is small, so that neither a large offset nor a large number of elements costs digits
    rest = array - names.cast(rough, array)
    theta = names.largest(rest) - _level(rest, total)
    for _ in range(2):  # Newton's steps, which take out what the running sums have lost
        above = rest > theta
        filled = names.total(names.where(above, rest, constant(0.0, rest)))
        theta = (filled - constant(total, filled)) / names.total(names.where(above, constant(1.0, rest), 0.0))
    return names.maximum(rest - theta, constant(0.0, rest))


def _level(array: Array, total: float) -> Array:
    """How far below the largest element θ is."""
    names = namespace(array)
    most = constant(total, array)
    depths = names.sort(names.minimum(names.largest(array) - array, most))  # below ``total`` nothing is reached
    places = names.cumsum(depths * constant(0.0, array) + constant(1.0, array))
    return -names.largest(-(most + names.cumsum(depths)) / places)


def rounding(array: Array) -> float:
    """The part of a norm or sum by which the result of a projection may miss it."""
    return 32.0 * epsilon(array)


def finite_or_nan(array: Array, result: Array) -> Array:
    """``result``, or NaN everywhere if ``array`` holds NaN or infinity: the nearest point to none is none."""
    names = namespace(array)
    finite = names.isfinite(names.largest(names.absolute(array)))
    return names.cast(names.where(finite, result, constant(np.nan, array)), array)
