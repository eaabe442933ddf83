"""How long a gradient and a step were, for the history::

    gradient_norm = ‖g‖,        step_norm = ‖v after − v before‖        (Euclidean, over all variables together)

The gradient is that of the problem's feedback, before any transform; its unit is the loss's divided by the
variables'. The step is what the optimizer and the transforms of the model made of it, in the variables' unit.
Neither has any influence on the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from thalweg.graph import Variable
from thalweg.runs.problem import Feedback

_PIECE = 1 << 15  # elements; a piece and its square in float64 stay in the processor's cache


class _Applies(Protocol):
    async def apply(self, feedback: Feedback) -> Any: ...


async def apply_measured(optimizer: _Applies, variables: Sequence[Variable], feedback: Feedback) -> dict[str, float]:
    """Hand the feedback to the optimizer, and measure gradient and step.

    Args:
        optimizer: whose ``apply`` makes the step.
        variables: what it changes.
        feedback: what it is given.

    Returns:
        ``gradient_norm`` and ``step_norm``, without those that are no finite number.
    """
    # Before the step: an optimizer may use the gradient's memory.
    norms = {"gradient_norm": norm(np.asarray(feedback.gradients[str(v.name)]) for v in variables)}
    before = [np.array(v.data) for v in variables]
    await optimizer.apply(feedback)
    with suppress(MemoryError):  # the step is made: it may not be taken for one that failed
        norms["step_norm"] = norm(_difference(v.data, old) for v, old in zip(variables, before, strict=True))
    return {name: value for name, value in norms.items() if math.isfinite(value)}


def norm(arrays: Iterable[NDArray[Any]]) -> float:
    """The Euclidean norm of arrays taken together, summed in float64; the same bits at every call.

    Args:
        arrays: real or complex, any shapes.

    Returns:
        The norm; NaN where an array holds no numbers.

    Example:
        >>> import numpy as np
        >>> from thalweg.runs.norms import norm
        >>> norm([np.full((2, 2), 1.5, np.float32), np.array([4.0])])
        5.0
    """
    total = 0.0
    with np.errstate(all="ignore"):  # what is too large becomes infinite, and is left out
        for array in arrays:
            flat = np.asarray(array).reshape(-1)
            pieces = [flat] if flat.size <= _PIECE else [flat[i : i + _PIECE] for i in range(0, flat.size, _PIECE)]
            kind = flat.dtype.kind
            if kind not in "fcuib":
                return math.nan  # the optimizer says what is wrong
            for piece in pieces:
                piece = np.abs(piece) if kind == "c" else piece
                double = piece.dtype == np.float64  # to ask for it takes as long as to square a few numbers
                total += float(np.add.reduce(np.square(piece) if double else np.square(piece, dtype=np.float64)))
    return math.sqrt(total)


def _difference(after: Any, before: NDArray[Any]) -> NDArray[Any]:
    difference: NDArray[Any] = np.subtract(np.asarray(after), before)  # within norm's errstate
    return difference
