"""What a gradient must be before a rule sees it: there, of the variable's shape and dtype, and (see refusal) finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.errors import (
    GradientDtypeError,
    GradientShapeError,
    MissingGradientError,
    NonFiniteGradientError,
    OptimizerError,
)
from thalweg.optimizers.parameters import Parameter
from thalweg.rules.ranges import is_masked
from thalweg.rules.spelling import nearest


def fitting(grad: Any, parameter: Parameter, iteration: int) -> np.ndarray:
    """A gradient of the right type, shape and dtype.

    Args:
        grad: what was given.
        parameter: whose gradient it should be.
        iteration: the step's number, for messages.

    Returns:
        The gradient as a plain ``ndarray`` view.

    Raises:
        MissingGradientError: there is none.
        GradientDtypeError: it is not a NumPy array, or its dtype is another one.
        GradientShapeError: its shape is another one, even if it would broadcast.
    """
    where = f"variable {parameter.name!r}, iteration {iteration}"
    details = {"variable": parameter.name, "iteration": iteration}
    if grad is None:
        raise MissingGradientError(
            f"{where}: there is no gradient; run an adjoint first, or give one with grad=", **details
        )
    if not isinstance(grad, np.ndarray | np.generic) or is_masked(grad):
        raise GradientDtypeError(
            f"{where}: the gradient is a {type(grad).__name__}; give a NumPy array of {parameter.dtype}",
            **details,
        )
    if grad.shape != parameter.shape:
        parameter.data()  # it may be the variable that has another shape now
        raise GradientShapeError(
            f"{where}: the gradient has shape {grad.shape}, the variable {parameter.shape}; "
            "gradients are never broadcast",
            **details,
            got=grad.shape,
            expected=parameter.shape,
        )
    if grad.dtype.newbyteorder("=") != parameter.dtype:
        parameter.data()
        raise GradientDtypeError(
            f"{where}: the gradient has dtype {grad.dtype}, the variable {parameter.dtype}; "
            "convert it yourself, so that nothing is rounded unseen",
            **details,
            got=str(grad.dtype),
            expected=str(parameter.dtype),
        )
    return np.asarray(grad)


def refusal(
    grad: np.ndarray, raw: np.ndarray | None, name: str, iteration: int, *, gathered: int = 1
) -> NonFiniteGradientError:
    """The error for a gradient that holds NaN or infinity.

    Args:
        grad: the gradient as it would have been used.
        raw: what it was before ``process_grad``, if known, to tell who made a bad value.
        name: the variable's name.
        iteration: the step's number.
        gathered: of how many micro-batches it is the mean; each was looked at when it came, or is ``grad``.

    Returns:
        The error, naming variable, iteration, how many, and the first index.
    """
    several = f"the mean of {gathered} finite gradients, whose sum is too large for {grad.dtype},"
    culprit, source = grad, "the gradient" if gathered == 1 else several
    if raw is not None and raw is not grad:
        if np.all(np.isfinite(raw)):
            source = "what process_grad made of a finite gradient"
        else:
            culprit = raw
    bad = ~np.isfinite(culprit)
    if not bad.any():  # what came last is finite, and so was what came before it
        return NonFiniteGradientError(
            f"variable {name!r}, iteration {iteration}: {several} is not finite; nothing was changed",
            variable=name,
            iteration=iteration,
        )
    first = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape)) if bad.ndim else ()
    count = int(np.count_nonzero(bad))
    return NonFiniteGradientError(
        f"variable {name!r}, iteration {iteration}: {source} holds {count} non-finite "
        f"of {bad.size} values, the first at {first}: {culprit[first]}; nothing was changed",
        variable=name,
        iteration=iteration,
        count=count,
        first=first,
    )


def by_name(grads: Any, parameters: Sequence[Parameter], what: str) -> dict[str, Any]:
    """Gradients that a caller gave, by variable name.

    Args:
        grads: one array for an optimizer of one variable, or a mapping from variable name to array.
        parameters: the optimizer's parameters.
        what: the argument's name, for messages.

    Returns:
        A gradient, or ``None``, for every variable.

    Raises:
        OptimizerError: a name is no variable's (naming the nearest), or several variables and no mapping.
    """
    names = [parameter.name for parameter in parameters]
    if not isinstance(grads, Mapping):
        if len(names) == 1:
            return {names[0]: grads}
        raise OptimizerError(
            f"{what} is a {type(grads).__name__}; this optimizer has {len(names)} variables, "
            f"so give a mapping from their names ({', '.join(names)}) to arrays"
        )
    for name in grads:
        if name not in names:
            guess = nearest(str(name), names)
            question = f"; did you mean {guess!r}?" if guess else ""
            raise OptimizerError(
                f"{what} holds a gradient for {name!r}, which is no variable of this optimizer{question} "
                f"(they are: {', '.join(names)})",
                name=name,
            )
    return {name: grads.get(name) for name in names}
