"""The plan of an adjoint run: which calls take part, and where each gradient goes.

Only calls that lead to a leaf which needs a gradient take part. Each edge knows its place in the sum that it
is part of; places depend on the graph's structure only. They are numbered from the inputs' side, while the
run comes from the output's: sums are taken from the highest place down to 0, which is consumer order as seen
from the root.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.errors import GraphFreedError, ModifiedSinceForwardError
from thalweg.graph.arrays import add
from thalweg.graph.graph import postorder
from thalweg.graph.node import Node, Payload
from thalweg.graph.signature import signature_of
from thalweg.graph.variable import Variable

Edge = tuple["Step", int, int]  # to which step, which of its outputs, at which place of the sum


class Step:
    """One call (or leaf) in a run, with the gradients that have arrived for its outputs."""

    __slots__ = ("edges", "missing", "node", "op", "payload", "places", "position", "sums", "values")

    def __init__(self, node: Node, position: int, outputs: int, payload: Payload | None) -> None:
        self.node = node
        self.op: Any = node.op  # the Operator; the Variable in a leaf's step
        self.position = position
        self.payload = payload  # None: a leaf
        self.edges: list[Edge | None] = []  # one per Variable input
        self.places = [0] * outputs  # how many contributions each output gets
        self.missing = 0  # how many are still to come, all outputs together
        self.values: list[Any] = [None] * outputs
        self.sums: dict[int, Sum] | None = None  # of the outputs with more than one contribution


class Sum:
    """A sum in fixed order of contributions that arrive in any order.

    Contributions are added as soon as all before them are there, so that in the usual order nothing piles up.
    Nothing is added in place into an array that came from an adjoint (it may be shared); the sums made here
    are our own.
    """

    __slots__ = ("early", "next", "owned", "value")

    def __init__(self, places: int) -> None:
        self.next = places - 1
        self.early: dict[int, Any] = {}
        self.value: Any = None
        self.owned = False


def make_plan(root: Node, variable: Variable) -> dict[Node, Step]:
    """Return the steps of a run from root by call, inputs before what was made of them.

    Raises:
        GraphFreedError: what a call saved is gone.
        ModifiedSinceForwardError: an input of a call was changed since.
    """
    steps: dict[Node, Step] = {}
    for position, node in enumerate(postorder(root)):
        call = node._first or node
        payload = call.payload
        op = node.op
        if isinstance(op, Variable):
            if op._needs_grad:
                steps[call] = Step(call, position, 1, None)
            continue
        for target in node.nxt:
            if (target._first or target) in steps:
                break
        else:
            continue
        if payload is None:
            raise GraphFreedError(
                f"the adjoint run of {variable!r} needs what {op.name!r} saved in its forward, and an earlier run "
                "released it; use adjoint(retain_graph=True) for all runs but the last, or run the forward again",
                operator=op.name,
            )
        step = steps[call] = Step(call, position, payload[4], payload)
        inputs = payload[3]
        unchanged(step)
        targets = node.nxt
        i = len(targets)
        edges = step.edges
        for _, _, _, tracked in reversed(inputs):
            if not tracked:
                edges.append(None)
                continue
            i -= 1
            output = targets[i]
            slot = output.idx
            source = steps.get(output._first or output)
            if source is None:
                edges.append(None)
            else:
                edges.append((source, slot, source.places[slot]))
                source.places[slot] += 1
                source.missing += 1
        if len(edges) > 1:
            edges.reverse()
    return steps


def unchanged(step: Step) -> None:
    """Raise unless all inputs of a call are as they were at the time of its forward, and as they were made."""
    payload = step.payload
    assert payload is not None
    for variable, counter, count, tracked in payload[3]:
        if variable._counter is not counter or counter[0] != count:
            op = step.node.op
            labels = signature_of(step.op).labels(payload[0], payload[1])
            name = next((f" {n!r}" for n, entry in zip(labels, payload[3], strict=False) if entry[0] is variable), "")
            raise ModifiedSinceForwardError(
                f"input{name} of {op.name!r}, {variable!r}, was changed after the forward (version {count} then, "
                f"{variable.version} now), so its adjoint would be wrong; run the adjoint before changing data, or "
                "the forward again afterwards",
                operator=op.name,
                variable=variable.name,
            )
        if tracked and variable._made != count and variable._node is not None:
            refuse_altered(variable)


def refuse_altered(result: Variable) -> None:
    """Raise if a call's result was given other data since, whose history would be another one."""
    node = result._node
    if node is not None and result._made != result.version:
        raise ModifiedSinceForwardError(
            f"{result!r} was given other data after {node.op.name!r} had made it (version {result._made} then, "
            f"{result.version} now), so the graph does not tell how it depends on anything; put other data into a new "
            "one, Variable(new_data), and use that",
            operator=node.op.name,
            variable=result.name,
        )


def contribute(step: Step, slot: int, place: int, gradient: Any) -> None:
    """Add one of several contributions to the gradient of an output, in the order of the places."""
    if step.sums is None:
        step.sums = {}
    total = step.sums.get(slot)
    if total is None:
        total = step.sums[slot] = Sum(step.places[slot])
    total.early[place] = gradient
    while total.early and total.next in total.early:
        part = total.early.pop(total.next)
        total.next -= 1
        if total.value is None:
            total.value = part
        elif total.owned and type(total.value) is np.ndarray:
            np.add(total.value, part, out=total.value)
        else:
            total.value = add(total.value, part)
            total.owned = True
    if total.next < 0:
        step.values[slot] = total.value
        del step.sums[slot]
