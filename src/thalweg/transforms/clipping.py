"""Clipping a gradient: every element into a range, or the whole to a largest norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thalweg.rules.ranges import number, positive
from thalweg.transforms.base import Transform, floating


@dataclass(frozen=True)
class clip_value(Transform):
    """g' = min(max(g, −limit), limit). NaN and infinity stay, so that a gradient that holds them is refused.

    Args:
        limit: the largest size of an element, in the gradient's unit, positive.

    Raises:
        HyperparameterError: the limit is not a positive finite number.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import clip_value
        >>> clip_value(1.0)(np.array([-3.0, 0.5, 2.0]))
        array([-1. ,  0.5,  1. ])
    """

    kind: ClassVar[str] = "clip_value"
    limit: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", number(self.limit, positive, name="limit", owner=self.kind))

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """The clipped gradient."""
        given = floating(array, self.kind)
        limit = given.dtype.type(self.limit)
        return np.where(np.isfinite(given), np.clip(given, -limit, limit), given)


@dataclass(frozen=True)
class clip_norm(Transform):
    """g' = g·min(1, limit/‖g‖₂), the norm over one variable, summed in double precision.

    One NaN or infinity makes all of the result NaN: no element can be scaled by a norm that is not a number.

    Args:
        limit: the largest Euclidean norm, in the gradient's unit, positive.

    Raises:
        HyperparameterError: the limit is not a positive finite number.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import clip_norm
        >>> clip_norm(1.0)(np.array([3.0, 4.0]))
        array([0.6, 0.8])
    """

    kind: ClassVar[str] = "clip_norm"
    limit: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", number(self.limit, positive, name="limit", owner=self.kind))

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """The scaled gradient."""
        given = floating(array, self.kind)
        largest = float(np.max(np.abs(given), initial=0.0))
        if largest == 0.0:
            return given.copy()
        if not np.isfinite(largest):
            return np.full_like(given, np.nan)
        # Scaled by the largest element, so that the squares of 1e200 do not overflow
        norm = largest * float(np.sqrt(np.sum(np.square(given / given.dtype.type(largest)), dtype=np.float64)))
        if norm <= self.limit:
            return given.copy()
        return np.asarray(given * given.dtype.type(self.limit / norm))
