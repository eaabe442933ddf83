"""The record of one call of an operator."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from thalweg.errors import GraphError

_NO_RUN: Mapping[str, Any] = MappingProxyType({})


class Call:
    """The record of one call, handed to a ``forward`` or ``adjoint`` that names the keyword-only parameter ``call``.

    The forward saves what its adjoint will need; each adjoint run gets a record of its own, so that two runs
    over a retained graph cannot mix. Nothing of a call is kept on the operator.

    Attributes:
        saved: what the forward saved, a tuple.
        run_kwargs: the extra arguments of the adjoint run (``y.adjoint(..., **run_kwargs)``), read-only;
            empty in the forward.
        args, kwargs: the arguments of the call.

    Example:
        >>> import numpy as np
        >>> from thalweg.graph import Operator, Variable, wait
        >>> class Exp(Operator):
        ...     def forward(self, x, *, call):
        ...         y = np.exp(x.data)
        ...         call.save(y)
        ...         return Variable(y)
        ...     def adjoint(self, grad, x, *, call):
        ...         (y,) = call.saved
        ...         return y * grad
        >>> x = Variable(np.zeros(2), needs_grad=True)
        >>> wait(wait(Exp()(x)).adjoint(np.ones(2)))
        >>> x.grad
        array([1., 1.])
    """

    __slots__ = ("_recording", "args", "kwargs", "run_kwargs", "saved")

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        saved: tuple[Any, ...] = (),
        run_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.args = args
        self.kwargs = kwargs
        self.saved = saved
        self._recording = run_kwargs is None
        self.run_kwargs = _NO_RUN if run_kwargs is None else run_kwargs

    def save(self, *arrays: Any) -> None:
        """Keep arrays (or anything else) for the adjoint of this call; a second ``save`` adds to the first.

        Raises:
            GraphError: in an adjoint, where nobody would ever read it.
        """
        if not self._recording:
            raise GraphError("call.save() was used in an adjoint; only the forward can save for its adjoint")
        self.saved += arrays
