"""Normalizing a gradient by its largest element: the step size is then in the variable's own unit.

This is not linear: what comes out is a direction, no longer the gradient of the loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thalweg.transforms.base import Transform, floating


@dataclass(frozen=True)
class normalize(Transform):
    """g' = g / max|g|; a zero gradient stays zero.

    One NaN or infinity makes all of the result NaN: no element can be scaled by what is not a number.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import normalize
        >>> normalize()(np.array([1.0, -4.0]))
        array([ 0.25, -1.  ])
    """

    kind: ClassVar[str] = "normalize"

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """The normalized gradient, its largest element of size 1."""
        given = floating(array, self.kind)
        largest = np.max(np.abs(given), initial=0.0)
        if not np.isfinite(largest):
            return np.full_like(given, np.nan)
        return given.copy() if largest == 0 else np.asarray(given / largest)
