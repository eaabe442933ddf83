"""Graph: the nodes that led to a Variable, to look at."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TextIO

from thalweg.graph.node import Node


def postorder(root: Node) -> list[Node]:
    """Return one node of each call that root leads to, inputs before what was made of them, root last.

    The order depends on the graph's structure only: a depth-first walk that takes the inputs in the order of
    the forward's signature. It keeps its own stack, so the depth of the graph does not matter.
    """
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[Node | None] = [root]
    while stack:
        node = stack.pop()
        if node is None:  # the mark below a finished subtree
            order.append(stack.pop())  # type: ignore[arg-type]
            continue
        call = node._first or node
        if call in seen:
            continue
        seen.add(call)
        if node.nxt:
            stack.append(node)
            stack.append(None)
            stack.extend(reversed(node.nxt))
        else:
            order.append(node)
    return order


class Graph:
    """The nodes of an adjoint graph.

    ``variable.graph`` gives the graph of all that led to a variable; a graph can also be put together by
    hand.

    Example:
        >>> from thalweg.graph import Graph, Node, Variable
        >>> x = Node(Variable(1.0, name="x"), "__call_adjoint__")
        >>> y = Node(Variable(2.0, name="y"), "adjoint", 0, [x])
        >>> graph = Graph()
        >>> graph.add(y)
        >>> graph.add(x)
        >>> [node.name for node in Graph.toposort(y)]
        ['y.adjoint', 'x.__call_adjoint__']
        >>> graph.print()
        [0] y.adjoint:0 -> [1] x.__call_adjoint__:0
        [1] x.__call_adjoint__:0

    Source: the API page of Stride's core, class Graph.
    """

    def __init__(self) -> None:
        self._nodes: dict[Node, Node] = {}  # call -> the node through which it was added

    @classmethod
    def of(cls, root: Node) -> Graph:
        """Return the graph of everything that root leads to, root first."""
        graph = cls()
        for node in cls.toposort(root):
            graph.add(node)
        return graph

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, one per call, in the order in which they were added."""
        return tuple(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __repr__(self) -> str:
        nodes = self.nodes
        if not nodes:
            return "<Graph of 0 nodes>"
        leaves = sum(not node.nxt for node in nodes)
        return f"<Graph of {len(nodes)} nodes, {leaves} of them leaves, from {nodes[0].name_idx}>"

    def add(self, node: Node) -> None:
        """Add node to the graph (once: another output of a call that is already there changes nothing)."""
        self._nodes.setdefault(node.call, node)

    @staticmethod
    def toposort(root: Node) -> Iterator[Node]:
        """Iterate over the graph in topological order, starting at the given root and all the way to the leaves.

        Each call comes once, after everything that used it; the order depends on the graph's structure only.
        """
        return reversed(postorder(root))

    def print(self, root: Node | None = None, *, file: TextIO | None = None) -> None:
        """Print the graph, one node a line.

        Args:
            root: root to start from, for topological order; without it, the order in which nodes were added.
            file: where to, standard output by default.
        """
        nodes = self.nodes if root is None else tuple(self.toposort(root))
        number = {node.call: i for i, node in enumerate(nodes)}
        stream = sys.stdout if file is None else file
        for i, node in enumerate(nodes):
            targets = [f"[{number[n.call]}] {n.name_idx}" if n.call in number else n.name_idx for n in node.nxt]
            stream.write(f"[{i}] {node.name_idx}{' -> ' if targets else ''}{', '.join(targets)}\n")

    def to_mermaid(self, root: Node | None = None) -> str:
        """Return the graph as a Mermaid flow chart: leaves are round, arrows point the way of the forward.

        Args:
            root: draw what this node leads to; without it, the nodes that were added.

        Returns:
            Text for a ``mermaid`` code block.

        Example:
            >>> from thalweg.graph import Variable
            >>> print(Variable(1.0, name="x", needs_grad=True).graph.to_mermaid())
            flowchart TD
                n0(["x"])
        """
        nodes = self.nodes if root is None else tuple(self.toposort(root))
        number = {node.call: i for i, node in enumerate(nodes)}
        lines = ["flowchart TD"]
        for node, i in zip(nodes, number.values(), strict=True):
            label = (node.op.name or type(node.op).__name__).replace('"', "#quot;")
            lines.append(f'    n{i}["{label}"]' if node.nxt else f'    n{i}(["{label}"])')
        for i, node in enumerate(nodes):
            for target in node.nxt:
                if target.call in number:
                    edge = f"-->|{target.idx}|" if target.idx else "-->"
                    lines.append(f"    n{number[target.call]} {edge} n{i}")
        return "\n".join(lines)
