"""Operator: an operation on Variables together with its adjoint."""

from __future__ import annotations

import abc
from functools import partial
from types import CoroutineType
from typing import Any, ClassVar

import numpy as np

from thalweg.errors import HiddenVariableError, OutputError
from thalweg.graph.arrays import differentiable
from thalweg.graph.call import Call
from thalweg.graph.executor import run_blocking
from thalweg.graph.hidden import hidden_variable
from thalweg.graph.node import Node, Tracked
from thalweg.graph.signature import Signature, analyze
from thalweg.graph.variable import Variable

# What cannot hide a Variable, so that the common arguments are not searched.
_FLAT = frozenset({float, int, bool, str, bytes, complex, type(None)})


class Operator(abc.ABC):
    """Operators represent operations that, when performed on Variables, construct an adjoint graph.

    A subclass defines ``forward`` and ``adjoint``; each may be a coroutine or a plain function. Calling the
    operator runs the forward and records the call; ``y.adjoint()`` then runs the adjoints back to the leaves.

    - ``forward(*args, **kwargs)`` takes Variables (positional or keyword) and anything else, and returns a
      Variable, or a tuple (or list) of several. What it does inside, other operators included, is its own
      affair: its adjoint answers for all of it.
    - ``adjoint(*output_grads, *args, **kwargs)`` gets the gradient of each output (None for one that nobody
      used), then exactly what the forward was called with. It returns one gradient per Variable input in the
      order of the forward's *signature* (``**kwargs`` last, by name), or a dict by parameter name (for
      ``*args`` a tuple); None for a Variable that needs none. Gradients have the shape and dtype of their
      Variables' data. The incoming
      gradients may be shared: do not write into them.
    - Either may name the keyword-only parameter ``call`` to get the :class:`Call` record of that one call.
    - ``tangent(*directions, *args, **kwargs)``, if there is one, returns the Jacobian times a direction (one
      per Variable input, None for one that needs no gradient); :func:`check_adjoint` uses it.

    An operator keeps nothing of a call, so it can be used again, nested, and called concurrently.

    Args:
        name: a name for messages and pictures; the class's name by default.

    Attributes:
        blocking: set to True in a class whose plain functions take long and release the GIL: they then run in
            the executor of :func:`use_executor`, and independent ones at the same time.

    Raises:
        HiddenVariableError: (when called) a Variable inside a container argument (list, dict, dataclass, ...).
        OutputError: (when called) the forward returned something other than Variables.

    Example:
        >>> import numpy as np
        >>> from thalweg.graph import Operator, Variable, wait
        >>> class Multiply(Operator):
        ...     async def forward(self, a, b):
        ...         return Variable(a.data * b.data)
        ...     async def adjoint(self, grad, a, b):
        ...         return grad * b.data, grad * a.data
        >>> a, b = (Variable(v, needs_grad=True) for v in (2.0, 3.0))
        >>> wait(wait(Multiply()(a, b=b)).adjoint())
        >>> float(a.grad), float(b.grad)
        (3.0, 2.0)

    Source: the API page of Stride's core, class Operator.
    """

    blocking: bool = False
    _signature: ClassVar[Signature | None] = None
    _name: str | None = None

    def __init__(self, *, name: str | None = None) -> None:
        self._name = name

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._signature = None  # not the parent's: it is found out at the first call

    @property
    def name(self) -> str:
        """Name of the operator; the class's name unless one was given."""
        return self._name or type(self).__name__

    @name.setter
    def name(self, value: str | None) -> None:
        self._name = value

    @abc.abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Define the forward behaviour; a coroutine or a plain function that returns Variables."""

    @abc.abstractmethod
    def adjoint(self, *args: Any, **kwargs: Any) -> Any:
        """Define the adjoint behaviour; a coroutine or a plain function that returns gradients."""

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the forward and track all Variables among the arguments.

        Returns:
            The forward's Variable, or tuple or list of Variables. They need a gradient if any input does (an
            output that cannot have one, of integers say, never does).
        """
        signature = self._signature or analyze(self)
        inputs: list[Tracked] = []
        nxt: list[Node] = []
        # Versions are taken before the forward runs: what changes while it runs is then noticed as well.
        for value in args:
            if isinstance(value, Variable):
                counter = value._counter
                if value._needs_grad:
                    nxt.append(value._node or value._leaf_node())
                    inputs.append((value, counter, counter[0], True))
                else:
                    inputs.append((value, counter, counter[0], False))
            elif type(value) not in _FLAT:
                self._refuse_hidden(value)
        if kwargs:
            for name in signature.keyword_order(kwargs):
                value = kwargs[name]
                if isinstance(value, Variable):
                    counter = value._counter
                    inputs.append((value, counter, counter[0], value._needs_grad))
                    if value._needs_grad:
                        nxt.append(value._node or value._leaf_node())
                elif type(value) not in _FLAT:
                    self._refuse_hidden(value)

        saved: tuple[Any, ...] = ()
        if signature.forward_call:
            call = Call(args, kwargs)
            if self.blocking and signature.forward_plain:
                result = await run_blocking(partial(self.forward, *args, **kwargs, call=call))
            else:
                result = self.forward(*args, **kwargs, call=call)
            if type(result) is not Variable and hasattr(result, "__await__"):
                result = await result
            saved = call.saved
        else:
            if self.blocking and signature.forward_plain:
                result = await run_blocking(partial(self.forward, *args, **kwargs))
            else:
                result = self.forward(*args, **kwargs)
            if type(result) is not Variable and hasattr(result, "__await__"):
                result = await result

        if isinstance(result, Variable):
            result = _fresh(result, inputs)
            if nxt:
                node = Node(self, "adjoint", 0, nxt)
                node.payload = (args, kwargs, saved, inputs, 1)
                _attach(result, node)
            return result
        return self._several(result, inputs, nxt, (args, kwargs, saved))

    def _several(
        self, result: Any, inputs: list[Tracked], nxt: list[Node], kept: tuple[Any, Any, Any]
    ) -> tuple[Variable, ...] | list[Variable]:
        """Record a call with a tuple or list of outputs."""
        if not isinstance(result, tuple | list) or not result:
            raise OutputError(
                f"forward of {self.name!r} returned {_kind(result)}; it must return a Variable, or a tuple of "
                "Variables (wrap the array: return Variable(array))",
                operator=self.name,
            )
        outputs: list[Variable] = []
        node = Node(self, "adjoint", 0, nxt)
        for slot, output in enumerate(result):
            if not isinstance(output, Variable):
                raise OutputError(
                    f"output {slot} of the forward of {self.name!r} is {_kind(output)}; each must be a Variable "
                    "(wrap the array: Variable(array))",
                    operator=self.name,
                    slot=slot,
                )
            outputs.append(_fresh(output, inputs, outputs))
        if nxt:
            node.payload = (*kept, inputs, len(outputs))
            for slot, output in enumerate(outputs):
                _attach(output, node if slot == 0 else node.output(slot))
        return outputs if isinstance(result, list) else tuple(outputs)

    async def __call_adjoint__(self, *output_grads: Any, call: Call) -> Any:
        """Run the adjoint of one call.

        Args:
            output_grads: the gradient of each output of that call, or None.
            call: the record of that call.

        Returns:
            What ``adjoint`` returned.
        """
        signature = self._signature or analyze(self)
        if self.blocking and signature.adjoint_plain:
            extra = {"call": call} if signature.adjoint_call else {}
            result = await run_blocking(partial(self.adjoint, *output_grads, *call.args, **call.kwargs, **extra))
        elif signature.adjoint_call:
            result = self.adjoint(*output_grads, *call.args, **call.kwargs, call=call)
        else:
            result = self.adjoint(*output_grads, *call.args, **call.kwargs)
        if type(result) is CoroutineType or (type(result) is not np.ndarray and hasattr(result, "__await__")):
            result = await result
        return result

    def _refuse_hidden(self, value: Any) -> None:
        """Raise if a Variable hides in a container argument: it would not be tracked, and its gradient be missing."""
        found = hidden_variable(value)
        if found is not None:
            variable, container = found
            raise HiddenVariableError(
                f"{self.name!r} was called with {variable!r} inside a {type(container).__name__}, where it cannot "
                "be tracked and would get no gradient; pass it as an argument of its own (a forward can take *args)",
                operator=self.name,
                variable=variable.name,
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{'' if self._name is None else f' {self._name!r}'}>"


def _fresh(output: Variable, inputs: list[Tracked], others: list[Variable] | None = None) -> Variable:
    """Return the output itself, or a new Variable that shares its data if it already has another part to play."""
    if output._node is None and not output._needs_grad:
        for entry in inputs:
            if entry[0] is output:
                break
        else:
            if not others or all(output is not other for other in others):
                return output
    return output.detach()


def _attach(output: Variable, node: Node) -> None:
    """Make an output the result of a recorded call, unless its data cannot have a gradient."""
    dtype = getattr(output._data, "dtype", None)
    if output._takes_grad and (dtype is None or differentiable(dtype)):
        output._node = node
        output._made = output._counter[0]
        output._needs_grad = True


def _kind(value: Any) -> str:
    return "an empty tuple" if isinstance(value, tuple | list) else f"a {type(value).__name__}"
