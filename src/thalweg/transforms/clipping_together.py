"""Clipping the gradients of all variables together, by the norm over all of them.

That keeps the direction of the whole step, which clipping each variable by itself does not.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from thalweg.errors import HyperparameterError
from thalweg.rules.namespaces import namespace
from thalweg.rules.ranges import number, positive
from thalweg.transforms.arrays import constant, floating, no_zero, quiet, wide
from thalweg.transforms.base import Array, TreeTransform
from thalweg.transforms.norms import scaled_down, squares


@dataclass(frozen=True)
class clip_global_norm(TreeTransform):
    """g'ᵥ = gᵥ·min(1, limit/‖g‖₂), ‖g‖₂² = Σᵥ ‖gᵥ‖₂² over all variables v, summed in the order of their names.

    One NaN or infinity makes everything NaN: nothing can be scaled by a norm that is not a number.

    Args:
        limit: the largest Euclidean norm of all gradients together, positive. Their units are one, then.

    Raises:
        HyperparameterError: the limit is not a positive finite number, or (when called) 0 in the dtypes of all
            gradients, or what is given is no mapping from name to array of floats.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import clip_global_norm
        >>> clip_global_norm(1.0)({"a": np.array([3.0, 0.0]), "b": np.array([4.0])})
        {'a': array([0.6, 0. ]), 'b': array([0.8])}

    Source: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks (2013),
    algorithm 1, as ``optax.clip_by_global_norm``. ``torch.nn.utils.clip_grad_norm_`` divides by the norm plus
    1e-6; we do not.
    """

    kind: ClassVar[str] = "clip_global_norm"
    limit: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", number(self.limit, positive, name="limit", owner=self.kind))

    def __call__(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The scaled gradients, by the same names in the same order."""
        if not isinstance(arrays, Mapping):
            raise HyperparameterError(
                f"clip_global_norm got {type(arrays).__name__}; it takes the gradients of all variables at once, "
                "a mapping from name to array",
                got=type(arrays).__name__,
            )
        given = {name: floating(array, f"{self.kind} of {name}") for name, array in arrays.items()}
        if not given:
            return {}
        no_zero(self.limit, *given.values(), name="limit", owner=self.kind)
        in_order = [wide(given[name]) for name in sorted(given)]
        names = namespace(*in_order)
        with quiet():
            largest = functools.reduce(names.maximum, [names.largest(names.absolute(array)) for array in in_order])
            scale = names.where(largest > 0, largest, constant(1.0, largest))
            root = names.sqrt(sum(squares(array, scale) for array in in_order))
        limit = constant(self.limit, root)
        return {name: scaled_down(array, scale, root, limit) for name, array in given.items()}
