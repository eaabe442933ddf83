"""A mask: where the gradient counts, and how much. Linear and its own adjoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from thalweg.transforms.arrays import checked_weights, floating, weighted
from thalweg.transforms.base import Array, Transform


@dataclass(frozen=True, eq=False)
class mask(Transform):
    """g' = w·g, and exactly 0 where w = 0, whatever g is there.

    Zero weights select, they do not multiply: 0·NaN is NaN. A weight is 0 if it is 0 in the dtype of g: 1e-300 is
    in float32.

    Args:
        array: the weights w, of the gradient's shape: booleans, or finite numbers. Copied.

    Raises:
        HyperparameterError: the weights are not numbers or not finite, or (when called) of another shape.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import mask
        >>> mask(np.array([True, False]))(np.array([2.0, np.nan]))
        array([2., 0.])

    Source: the Hadamard product with a fixed array; that zeros select is ours.
    """

    kind: ClassVar[str] = "mask"
    array_parameters: ClassVar[tuple[str, ...]] = ("array",)
    array: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "array", checked_weights(self.array, self.kind))

    def __call__(self, array: Array) -> Array:
        """The masked array."""
        return weighted(floating(array, self.kind), self.array, self.kind)

    def adjoint(self, array: Array) -> Array:
        """The adjoint: the mask itself."""
        return self(array)
