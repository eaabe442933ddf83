"""Projections onto balls: the nearest point whose norm is at most the radius."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thalweg.rules.namespaces import namespace
from thalweg.rules.ranges import number, positive
from thalweg.transforms.arrays import constant, floating, no_zero, quiet, wide
from thalweg.transforms.base import Array, Transform
from thalweg.transforms.norms import scaled_down, scaled_norm
from thalweg.transforms.simplices import finite_or_nan, onto_simplex, rounding


@dataclass(frozen=True)
class l2_ball(Transform):
    """x' = argmin ‖y − x‖₂ with ‖y‖₂ ≤ radius, over the whole array: x·min(1, radius/‖x‖₂).

    A point that misses the ball by rounding errors only, as results do, counts as inside and stays as it is. One
    NaN or infinity makes all of the result NaN.

    Args:
        radius: the largest Euclidean norm, in the model's unit, positive.

    Raises:
        HyperparameterError: the radius is not a positive finite number, or (when called) 0 in the array's dtype.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import l2_ball
        >>> l2_ball(1.0)(np.array([3.0, 4.0]))
        array([0.6, 0.8])

    Source: Parikh and Boyd, Proximal Algorithms (2014), section 6.5, norm balls.
    """

    kind: ClassVar[str] = "l2_ball"
    radius: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", number(self.radius, positive, name="radius", owner=self.kind))

    def __call__(self, array: Array) -> Array:
        """The nearest point in the ball."""
        given = floating(array, self.kind)
        no_zero(self.radius, given, name="radius", owner=self.kind)
        norm = scaled_norm(given)
        return scaled_down(given, *norm, constant(self.radius, norm[1]), slack=rounding(given))


@dataclass(frozen=True)
class l1_ball(Transform):
    """x' = argmin ‖y − x‖₂ with ‖y‖₁ ≤ radius, over the whole array: sign(x)·max(abs(x) − θ, 0), many of them 0.

    A point that misses the ball by rounding errors only, as results do, counts as inside and stays as it is. One
    NaN or infinity makes all of the result NaN.

    Args:
        radius: the largest sum of sizes, in the model's unit, positive.

    Raises:
        HyperparameterError: the radius is not a positive finite number, or (when called) 0 in the array's dtype.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import l1_ball
        >>> l1_ball(1.0)(np.array([2.0, -1.5, 0.1]))
        array([ 0.75, -0.25,  0.  ])

    Source: Duchi, Shalev-Shwartz, Singer and Chandra, Efficient Projections onto the l1-Ball for Learning in High
    Dimensions (2008), section 4, which leads back to the simplex.
    """

    kind: ClassVar[str] = "l1_ball"
    radius: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", number(self.radius, positive, name="radius", owner=self.kind))

    def __call__(self, array: Array) -> Array:
        """The nearest point in the ball."""
        given = floating(array, self.kind)
        names = namespace(given)
        no_zero(self.radius, given, name="radius", owner=self.kind)
        sizes = names.absolute(wide(given))
        with quiet():
            total = names.total(sizes)
            inside = total <= constant(self.radius * (1.0 + rounding(given)), total)
            nearest = onto_simplex(sizes, self.radius)
            signed = names.where(given < 0, constant(0.0, nearest) - nearest, nearest)
            return finite_or_nan(given, names.where(inside, given, names.cast(signed, given)))
