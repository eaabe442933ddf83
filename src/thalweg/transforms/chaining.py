"""Several transforms one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from thalweg.errors import HyperparameterError
from thalweg.transforms.base import Array, ArrayFunction, Described, ParameterTransform, Transform, TreeTransform


class chain(Transform):
    """x' = f_n(… f_2(f_1(x))).

    Args:
        steps: callables from array to array, first applied first. Each must be callable: nothing is skipped.

    Raises:
        HyperparameterError: a step is not callable, or sees more than one array: those go to the optimizer by
            themselves.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import chain, clip_value, normalize
        >>> chain(normalize(), clip_value(0.5))(np.array([1.0, 8.0]))
        array([0.125, 0.5  ])
    """

    kind: ClassVar[str] = "chain"

    def __init__(self, *steps: ArrayFunction) -> None:
        for index, step in enumerate(steps):
            if not callable(step):
                raise HyperparameterError(
                    f"chain: step {index} is {step!r}, not callable; give a function from array to array",
                    index=index,
                )
            if isinstance(step, TreeTransform | ParameterTransform):
                needs = "all gradients at once" if isinstance(step, TreeTransform) else "the parameter, too"
                raise HyperparameterError(
                    f"chain: step {index} is {step!r}, which takes {needs}; name it in the optimizer's list, beside "
                    "the chain",
                    index=index,
                )
        self.steps: tuple[Callable[..., Any], ...] = steps

    def __call__(self, array: Array) -> Array:
        """The result of the last step."""
        for step in self.steps:
            array = step(array)
        return array

    def adjoint(self, array: Array) -> Array:
        """The adjoints in reverse, if every step has one.

        Raises:
            HyperparameterError: a step has no adjoint.
        """
        for step in reversed(self.steps):
            adjoint = getattr(step, "adjoint", None)
            if adjoint is None:
                raise HyperparameterError(f"chain: {step!r} has no adjoint; it is not linear, or does not say so")
            array = adjoint(array)
        return array

    def get_config(self) -> dict[str, Any]:
        """The chain as JSON."""
        return {"kind": self.kind, "steps": [describe(step) for step in self.steps]}

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.steps))})"


def describe(step: Callable[..., Any]) -> dict[str, Any]:
    """What a transform, or a user's own callable, is in JSON.

    Args:
        step: a transform of any kind, or a callable from array to array.

    Returns:
        A transform's config; ``{"callable": name}`` for a user's own, which must be handed in again when
        building.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import describe
        >>> describe(np.abs)
        {'callable': 'numpy.absolute'}
    """
    if isinstance(step, Described):
        return step.get_config()
    named = step if hasattr(step, "__qualname__") or hasattr(step, "__name__") else type(step)
    name = getattr(named, "__qualname__", None) or named.__name__
    module = getattr(named, "__module__", None) or "numpy"
    return {"callable": f"{module}.{name}"}
