"""How far simulated traces are from observed ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import ShapeError, SimulationError
from thalweg.graph import Operator, Variable


class L2Misfit(Operator):
    """½ Σ (d − d_obs)², summed in double precision.

    ``await misfit(traces, observed)`` returns a Variable with a single number of the dtype of ``traces``;
    ``observed`` is an array of the same shape and dtype.

    Raises:
        ShapeError: when shape or dtype differ, or observed is no array.
        SimulationError: when observed samples are not finite.

    >>> import numpy as np, thalweg as tw
    >>> from thalweg.problems.waves import L2Misfit
    >>> d = tw.Variable(np.array([1.0, 2.0]), name="d", needs_grad=True)
    >>> loss = tw.wait(L2Misfit()(d, np.array([0.0, 4.0])))
    >>> float(loss.data)
    2.5
    >>> tw.wait(loss.adjoint())
    >>> d.grad.tolist()
    [1.0, -2.0]

    Reference: Tarantola (1984), Geophysics 49, 1259-1266, eq. 9.
    """

    def forward(self, traces: Variable, observed: NDArray[Any]) -> Variable:
        """See the class."""
        if not isinstance(observed, np.ndarray):
            raise ShapeError(f"observed traces must be a NumPy array, got {type(observed).__name__}.")
        if not np.isfinite(observed).all():
            raise SimulationError(f"observed: {int((~np.isfinite(observed)).sum())} traces' samples are not finite.")
        if traces.shape != observed.shape or traces.dtype != observed.dtype:
            raise ShapeError(
                f"observed traces are {observed.dtype} {observed.shape}, simulated ones {traces.dtype} {traces.shape}."
            )
        residual = (traces.data - observed).astype(np.float64, copy=False)
        # Not a BLAS dot: its partial sums, and so its last bits, depend on how many threads it uses.
        return Variable(traces.dtype.type(0.5 * np.square(residual).sum()))

    def adjoint(self, seed: Any, traces: Variable, observed: NDArray[Any]) -> NDArray[Any]:
        """Return seed · (d − d_obs)."""
        return np.asarray((traces.data - observed) * traces.dtype.type(seed))
