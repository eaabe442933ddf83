"""Scaling a gradient: by a number of yours, or by its largest element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thalweg.rules.namespaces import namespace
from thalweg.rules.ranges import finite, number
from thalweg.transforms.arrays import constant, floating, no_infinity, no_zero, quiet
from thalweg.transforms.base import Array, Transform


@dataclass(frozen=True)
class scale(Transform):
    """g' = factor·g. Linear and its own adjoint. What is not finite does not become finite: 0·∞ is NaN.

    Args:
        factor: any finite number, rounded to the gradient's dtype; for instance 1 over the batch size.

    Raises:
        HyperparameterError: the factor is not a finite number, or (when called) becomes 0 or infinite in the
            gradient's dtype.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import scale
        >>> scale(0.5)(np.array([1.0, -4.0]))
        array([ 0.5, -2. ])

    Source: MXNet.jl, ``normalized_gradient``, where the factor is ``grad_scale``.
    """

    kind: ClassVar[str] = "scale"
    factor: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", number(self.factor, finite, name="factor", owner=self.kind))

    def __call__(self, array: Array) -> Array:
        """The scaled array."""
        given = floating(array, self.kind)
        no_zero(self.factor, given, name="factor", owner=self.kind)
        no_infinity(self.factor, given, name="factor", owner=self.kind)
        with quiet():
            return namespace(given).cast(given * constant(self.factor, given), given)

    def adjoint(self, array: Array) -> Array:
        """The adjoint: the scaling itself."""
        return self(array)


@dataclass(frozen=True)
class normalize(Transform):
    """g' = g / max|g|; a zero gradient stays zero. The step size is then in the variable's own unit.

    This is not linear: what comes out is a direction, no longer the gradient of the loss. One NaN or infinity
    makes all of the result NaN: no element can be scaled by what is not a number.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import normalize
        >>> normalize()(np.array([1.0, -4.0]))
        array([ 0.25, -1.  ])

    Source: Stride's ``NormField``, which adds 1e-31 to the divisor, more than a float32 gradient may be. We do not.
    """

    kind: ClassVar[str] = "normalize"

    def __call__(self, array: Array) -> Array:
        """The normalized gradient, its largest element of size 1."""
        given = floating(array, self.kind)
        names = namespace(given)
        with quiet():
            largest = names.largest(names.absolute(given))
            divisor = names.where(names.isfinite(largest), largest, constant(np.nan, given))
            divisor = names.where(largest <= 0, constant(1.0, given), divisor)
            return names.cast(given / divisor, given)
