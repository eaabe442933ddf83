import io

import numpy as np
import pytest

from thalweg.graph import Graph, Node, Operator, Variable, wait


class Pair(Operator):
    def forward(self, a, b):
        return Variable(a.data + b.data), Variable(a.data - b.data)

    def adjoint(self, plus, minus, a, b):
        plus, minus = (np.zeros(()) if g is None else g for g in (plus, minus))
        return plus + minus, plus - minus


def diamond():
    async def main():
        a, b = Variable(1.0, name="a", needs_grad=True), Variable(2.0, name='b "quoted"', needs_grad=True)
        pair = Pair(name="pair")
        plus, minus = await pair(a, b)
        return (await pair(minus, plus))[1]

    return wait(main())


def test_node_as_on_the_page():
    operator = Pair(name="op")
    x = Node(Variable(1.0, name="x"), "__call_adjoint__")
    node = Node(operator, "adjoint", 1, [x])
    assert (node.op, node.method, node.idx, node.nxt) == (operator, "adjoint", 1, [x])
    assert (node.name, node.name_idx) == ("op.adjoint", "op.adjoint:1")
    copy = node.copy()
    assert copy is not node
    assert copy.call is node.call
    assert (copy.idx, copy.nxt) == (1, [x])
    copy.add_next(x)
    assert (len(copy.nxt), len(node.nxt)) == (2, 1)
    assert Node(operator, "adjoint").nxt == []
    assert repr(node) == "<Node op.adjoint:1>"
    assert Node(Variable(1.0), "__call_adjoint__").name == "Variable.__call_adjoint__"


def test_outputs_of_a_call_are_nodes_of_that_call():
    y = diamond()
    left, right = y.node.nxt
    assert left.call is right.call
    assert (left.idx, right.idx) == (1, 0)
    assert left is not right
    assert y.node.call is not left.call
    assert [n.op.name for n in left.nxt] == ["a", 'b "quoted"']
    assert not left.freed
    wait(y.adjoint())
    assert left.freed
    assert "recorded" not in repr(left)


def test_toposort_has_consumers_first_and_each_call_once():
    y = diamond()
    order = list(Graph.toposort(y.node))
    assert order[0] is y.node
    assert len(order) == len(y.graph) == 4
    position = {node.call: i for i, node in enumerate(order)}
    for node in order:
        for target in node.nxt:
            assert position[target.call] > position[node.call]


def test_add_and_print(capsys):
    y = diamond()
    graph = Graph()
    for node in reversed(list(Graph.toposort(y.node))):
        graph.add(node)
        graph.add(node)
    assert len(graph.nodes) == 4
    graph.print()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("[3] pair.adjoint:1 -> [2] pair.adjoint:1, [2] pair.adjoint:0")
    stream = io.StringIO()
    graph.print(y.node, file=stream)
    first, *_, last = stream.getvalue().splitlines()
    assert first.startswith("[0] pair.adjoint:1 -> ")
    assert last in ("[3] a.__call_adjoint__:0", '[3] b "quoted".__call_adjoint__:0')
    assert capsys.readouterr().out == ""


def test_print_names_what_is_not_in_the_graph(capsys):
    x = Node(Variable(1.0, name="x"), "__call_adjoint__")
    graph = Graph()
    graph.add(Node(Pair(), "adjoint", 0, [x]))
    graph.print()
    assert capsys.readouterr().out == "[0] Pair.adjoint:0 -> x.__call_adjoint__:0\n"


@pytest.mark.parametrize("from_root", [True, False])
def test_mermaid(from_root):
    y = diamond()
    text = Graph().to_mermaid(y.node) if from_root else y.graph.to_mermaid()
    lines = text.splitlines()
    assert lines[0] == "flowchart TD"
    assert sum('["pair"]' in line for line in lines) == 2
    assert sum("([" in line for line in lines) == 2
    assert any("#quot;quoted#quot;" in line for line in lines)
    assert sum("-->" in line for line in lines) == 4
    assert sum("-->|1|" in line for line in lines) == 1


def test_repr_tells_size_and_root():
    assert repr(diamond().graph) == "<Graph of 4 nodes, 2 of them leaves, from pair.adjoint:1>"
    assert repr(Graph()) == "<Graph of 0 nodes>"
