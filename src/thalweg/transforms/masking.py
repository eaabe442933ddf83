"""A mask: where the gradient counts, and how much. Linear and its own adjoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.transforms.base import Transform, floating


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
    """

    kind: ClassVar[str] = "mask"
    array_parameters: ClassVar[tuple[str, ...]] = ("array",)
    array: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        weights = np.array(self.array)
        if weights.dtype.kind not in "biuf" or not np.all(np.isfinite(weights)):
            raise HyperparameterError(f"mask: weights of dtype {weights.dtype}; give booleans or finite numbers")
        weights.setflags(write=False)
        object.__setattr__(self, "array", weights)

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """The masked array."""
        given = floating(array, self.kind)
        if given.shape != self.array.shape:
            raise HyperparameterError(
                f"mask: the array is {given.shape}, the weights are {self.array.shape}",
                got=given.shape,
                expected=self.array.shape,
            )
        if self.array.dtype.kind == "b":
            return np.where(self.array, given, given.dtype.type(0))
        weights = self.array.astype(given.dtype)
        result = np.zeros_like(given)
        np.multiply(given, weights, out=result, where=weights != 0)
        return result

    def adjoint(self, array: np.ndarray) -> np.ndarray:
        """The adjoint: the mask itself."""
        return self(array)
