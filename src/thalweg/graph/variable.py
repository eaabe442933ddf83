"""Variable: data that flows through operators, and the gradient that comes back."""

from __future__ import annotations

import threading
import weakref
from typing import Any, ClassVar, Self

import numpy as np

from thalweg.errors import GradientDtypeError
from thalweg.graph.arrays import as_data, describe, differentiable, own, shape_of
from thalweg.graph.graph import Graph
from thalweg.graph.node import Node
from thalweg.graph.tickets import Ticket

# Two threads that use a fresh leaf for the first time must end up with one node.
_NEW_LEAF = threading.RLock()


class Variable:
    """Variables are the inputs and outputs of operators, and track the graph through which they have travelled.

    Args:
        data: any NumPy, JAX or torch array (kept as it is, not copied), a Python or NumPy number (becomes a
            0-d array), None, or any object at all as long as no gradient is needed.
        name: a name for messages, optimizers and pictures.
        needs_grad: whether the gradient with respect to this variable is needed. Takes real or complex
            floating point data.

    Attributes:
        grad: the gradient accumulated so far, of the data's shape and dtype, or None. An adjoint run replaces
            it by a new array and never changes the one that was there.
        name: the name, or None.

    Raises:
        GradientDtypeError: ``needs_grad`` for data that cannot have a gradient (integers, booleans, objects,
            text).

    Example:
        >>> import numpy as np
        >>> from thalweg.graph import Variable
        >>> x = Variable(np.array([1.0, 2.0]), name="x", needs_grad=True)
        >>> x
        Variable('x', shape (2,), float64, needs_grad)
        >>> x.detach().data is x.data, x.copy().data is x.data
        (True, False)

    Source: the API page of Stride's core, class Variable.
    """

    __slots__ = (
        "__weakref__",
        "_counter",
        "_data",
        "_leaf",
        "_made",
        "_needs_grad",
        "_node",
        "_tickets",
        "grad",
        "name",
    )

    _takes_grad: ClassVar[bool] = True  # False for kinds of variables whose data never has a gradient

    def __init__(self, data: Any = None, *, name: str | None = None, needs_grad: bool = False) -> None:
        if type(data) is not np.ndarray:
            data = as_data(data)
        if needs_grad:
            refuse_grad(data, name)
        self._data = data
        self.name = name
        self.grad: Any = None
        self._needs_grad = needs_grad
        self._node: Node | None = None  # of the call that made this
        self._made = 0  # the version that the call made
        self._leaf: weakref.ref[Node] | None = None  # weak, so that variable and node are no cycle
        self._counter = [0]  # shared by Variables that share data
        self._tickets: tuple[Ticket, ...] = ()  # the runs on their way to this leaf, in the order of their start

    # -- data ---------------------------------------------------------------------------

    @property
    def data(self) -> Any:
        """The data itself. Assigning other data counts as a new version.

        The result of an operator is for reading: once it was given other data, its history no longer tells how
        it depends on the leaves, so adjoint runs that come to it raise ModifiedSinceForwardError. Put other
        data into a new Variable.
        """
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        if type(value) is not np.ndarray:
            value = as_data(value)
        if self._needs_grad:
            refuse_grad(value, self.name)
        self._data = value
        # A new counter, not a higher count: a detached Variable goes on sharing the old data, which has not
        # changed.
        self._counter = [self._counter[0] + 1]

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The data's shape, or None if it has none."""
        return shape_of(self._data)

    @property
    def dtype(self) -> Any:
        """The data's dtype, or None if it has none."""
        return getattr(self._data, "dtype", None)

    @property
    def version(self) -> int:
        """How often the data was replaced or declared modified."""
        return self._counter[0]

    def mark_modified(self) -> None:
        """Declare that the data was written to in place, so that an older forward no longer matches it.

        Whoever writes into ``data`` calls this (the optimizers do): writes through NumPy cannot be seen. An
        adjoint run over a forward that used the old values is then a ModifiedSinceForwardError, not a wrong
        gradient.
        """
        self._counter[0] += 1

    # -- gradient -----------------------------------------------------------------------

    @property
    def needs_grad(self) -> bool:
        """Whether the gradient is needed. A leaf for which it is turned off after the forward gets none."""
        return self._needs_grad

    @needs_grad.setter
    def needs_grad(self, value: bool) -> None:
        if value:
            refuse_grad(self._data, self.name)
        self._needs_grad = bool(value)

    def clear_grad(self) -> None:
        """Clear the gradient buffer of the variable."""
        self.grad = None

    def process_grad(self) -> Any:
        """Process the gradient of the variable for its use: here, return it as it is; subclasses may do more."""
        return self.grad

    async def __call_adjoint__(self, grad: Any, **kwargs: Any) -> None:
        """Accumulate the given gradient on ``grad``.

        An adjoint run does the same to all leaves at once, at its end and without this method.

        Raises:
            GradientShapeError, GradientDtypeError: if it does not fit the data.
        """
        from thalweg.graph.backward import accumulate  # backward is about Variables: it imports this module

        accumulate(self, grad)

    async def adjoint(self, grad: Any = None, *, retain_graph: bool = False, **run_kwargs: Any) -> None:
        """Run the adjoint graph that has this variable as its root.

        Adds ``Jᵀ grad`` to the ``grad`` of every leaf that needs a gradient, J being the Jacobian of this
        variable with respect to the leaf. All or nothing: the leaves change together when the run has
        succeeded; after a failing or cancelled run each is as before. Contributions are summed in an order
        that depends on the graph's structure only, so the bits do not depend on timing.

        Args:
            grad: gradient seed, of the data's shape and dtype (a real seed is converted within its kind).
                None means 1 for a single-element real output; a plain number is for single-element outputs.
            retain_graph: keep what the forward saved, so that the graph can be run again.
            run_kwargs: extra arguments for the adjoints, found in ``call.run_kwargs``.

        Raises:
            SeedError: the seed does not fit, or there is none and the output has several elements.
            GraphError: nothing that needed a gradient led to this variable.
            GraphFreedError: what the forward saved was released by an earlier run.
            ModifiedSinceForwardError: an input was changed after the forward, or a result was given other data.
            AdjointReturnError, GradientShapeError, GradientDtypeError: an adjoint returned what cannot be
                right.

        Example:
            >>> import numpy as np
            >>> from thalweg.graph import Operator, Variable, wait
            >>> class Square(Operator):
            ...     def forward(self, x):
            ...         return Variable(x.data**2)
            ...     def adjoint(self, grad, x):
            ...         return 2 * x.data * grad
            >>> x = Variable(np.array([1.0, 5.0]), needs_grad=True)
            >>> async def fourth_power(x):
            ...     square = Square()
            ...     y = await square(await square(x))
            ...     await y.adjoint(np.ones(2))
            >>> wait(fourth_power(x))
            >>> x.grad
            array([  4., 500.])
        """
        from thalweg.graph.backward import run_adjoint

        await run_adjoint(self, grad, retain_graph, run_kwargs)

    # -- history ------------------------------------------------------------------------

    @property
    def node(self) -> Node:
        """The node of this variable: of the call that made it, or a leaf's own."""
        return self._node or self._leaf_node()

    @property
    def graph(self) -> Graph:
        """The graph of all that led to this variable."""
        return Graph.of(self.node)

    def _leaf_node(self) -> Node:
        node = None if self._leaf is None else self._leaf()
        if node is None:
            with _NEW_LEAF:
                node = None if self._leaf is None else self._leaf()
                if node is None:
                    node = Node(self, "__call_adjoint__")
                    self._leaf = weakref.ref(node)
        return node

    # -- copies -------------------------------------------------------------------------

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments that make a variable like this one; for subclasses to extend."""
        return {"data": self._data, "name": self.name, "needs_grad": self._needs_grad}

    def copy(self, **parameters: Any) -> Self:
        """Create a variable that shares its characteristics with this object: own data, no history, no gradient.

        The same parameters as those given to ``__init__`` are valid here. Otherwise the new object will be
        configured to be like this one.
        """
        if "data" not in parameters:
            parameters["data"] = own(self._data)
        return type(self)(**{**self.parameters(), **parameters})

    def alike(self, **parameters: Any) -> Self:
        """Alias for a copy."""
        return self.copy(**parameters)

    def detach(self, **parameters: Any) -> Self:
        """Create a variable that shares data (and versions) with this one, but has no history and needs no gradient.

        The same parameters as those given to ``__init__`` are valid here.
        """
        detached = type(self)(**{**self.parameters(), "needs_grad": False, **parameters})
        if detached._data is self._data:
            detached._counter = self._counter
        return detached

    def as_parameter(self, **parameters: Any) -> Self:
        """Create a copy of the variable that is detached from the original graph and re-initialised as a parameter.

        Returns:
            A leaf with its own data that needs a gradient.
        """
        return self.copy(**{"needs_grad": True, **parameters})

    def __repr__(self) -> str:
        words = [] if self.name is None else [repr(self.name)]
        words.append(describe(self._data))
        if self._needs_grad:
            words.append("needs_grad" if self._node is None else f"from {self._node.name_idx}")
        return f"{type(self).__name__}({', '.join(words)})"


def refuse_grad(data: Any, name: str | None) -> None:
    """Raise unless data can have a gradient (None can: the data may come later; so can objects of unknown kind)."""
    dtype = getattr(data, "dtype", None)
    if dtype is None and not isinstance(data, str | bytes | list | tuple | dict | set | frozenset):
        return
    if dtype is not None and differentiable(dtype):
        return
    called = "A Variable" if name is None else f"Variable {name!r}"
    raise GradientDtypeError(
        f"{called} with needs_grad=True got {describe(data)}; a gradient needs real or complex floating point data. "
        "Convert it (for instance np.asarray(data, dtype=np.float64)), or leave needs_grad at False.",
        variable=name,
        got=str(dtype) if dtype is not None else type(data).__name__,
    )
