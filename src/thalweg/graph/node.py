"""A node: one output of one call of an operator, or one leaf.

Two outputs of the same call are two nodes with the same ``call``; the same operator called twice gives two
unrelated nodes, whatever its name. What the adjoint of the call will need is the ``payload`` of its first
node, one tuple that a run takes whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thalweg.graph.operator import Operator
    from thalweg.graph.variable import Variable

# A Variable input as it was at the time of the forward: the Variable, its version counter, the counter's
# value, and whether a gradient goes back to it.
Tracked = tuple["Variable", list[int], int, bool]


# What a call keeps for its adjoint: positional and keyword arguments, saved arrays, Variable inputs in the
# order of the forward's signature, number of outputs. A bare tuple: a named one costs ten times as much to
# make.
Payload = tuple[tuple[Any, ...], dict[str, Any], tuple[Any, ...], list[Tracked], int]


class Node:
    """Node in the adjoint graph.

    Args:
        op: the :class:`Operator` that was called; for a leaf, the :class:`Variable` itself.
        method: name of the method that the adjoint run executes (``"adjoint"``, or ``"__call_adjoint__"`` of
            a leaf).
        idx: which output of the call this node stands for, counted from 0.
        nxt: the nodes that the result is propagated to, one per input that needs a gradient, in the order of
            the forward's signature.

    Example:
        >>> from thalweg.graph import Node, Variable
        >>> leaf = Node(Variable(1.0, name="x"), "__call_adjoint__")
        >>> leaf.name, leaf.name_idx
        ('x.__call_adjoint__', 'x.__call_adjoint__:0')

    Source: the API page of Stride's core, class Node.
    """

    __slots__ = ("__weakref__", "_first", "idx", "method", "nxt", "op", "payload")

    def __init__(self, op: Operator | Variable, method: str, idx: int = 0, nxt: list[Node] | None = None) -> None:
        self.op = op
        self.method = method
        self.idx = idx
        self.nxt = [] if nxt is None else nxt
        self.payload: Payload | None = None
        self._first: Node | None = None  # None: this is the call's first node (no cycle to collect)

    @property
    def call(self) -> Node:
        """The node that stands for the whole call; the identity of the call."""
        return self._first or self

    @property
    def freed(self) -> bool:
        """Whether there is nothing (any longer) to run the adjoint with; always true of a leaf."""
        return self.call.payload is None

    def add_next(self, node: Node) -> None:
        """Add node to the list of next nodes."""
        self.nxt.append(node)

    def copy(self) -> Node:
        """Return another node of the same call and output, with its own list of next nodes."""
        return self.output(self.idx, list(self.nxt))

    def output(self, idx: int, nxt: list[Node] | None = None) -> Node:
        """Return the node of output ``idx`` of the same call (it shares the list of next nodes unless given one)."""
        node = Node(self.op, self.method, idx, self.nxt if nxt is None else nxt)
        node._first = self._first or self
        return node

    @property
    def name(self) -> str:
        """Full name of the node: the operator's (or variable's) name and the method."""
        return f"{self.op.name or type(self.op).__name__}.{self.method}"

    @property
    def name_idx(self) -> str:
        """Name of the node including its index."""
        return f"{self.name}:{self.idx}"

    def __repr__(self) -> str:
        return f"<Node {self.name_idx}{'' if self.payload is None else ' recorded'}>"
