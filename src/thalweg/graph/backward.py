"""The adjoint run: one short loop.

A worker awaits the adjoint of a call, hands the gradients on, and walks on to the call that became ready;
where the graph branches, each branch gets a task of its own. So a chain makes no task at all, and whatever a
user's adjoint does with asyncio (timeouts, tasks of its own) works as anywhere else.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from itertools import repeat
from time import monotonic
from types import MappingProxyType
from typing import Any

import numpy as np

from thalweg.errors import GraphError
from thalweg.graph.arrays import add, own
from thalweg.graph.call import Call
from thalweg.graph.gradients import checked, same_kind, split
from thalweg.graph.node import Node, Tracked
from thalweg.graph.plan import Step, contribute, make_plan, refuse_altered, unchanged
from thalweg.graph.seeds import seed_for
from thalweg.graph.signature import signature_of
from thalweg.graph.tickets import CURRENT, START, Ticket
from thalweg.graph.variable import Variable

# A run in a worker may end while an earlier one does (Ticket.queue); neither sum may be lost.
_COMMIT = threading.Lock()
# A long chain of plain adjoints lets the event loop breathe this often.
_BREATH = 0.01  # seconds


async def run_adjoint(root: Variable, grad: Any, retain_graph: bool, run_kwargs: dict[str, Any]) -> None:
    """Run the adjoint graph of root; see :meth:`Variable.adjoint`."""
    if not root._needs_grad:
        raise GraphError(
            f"adjoint() of {root!r}: nothing that needed a gradient led to it. Set needs_grad=True on the inputs "
            "before the forward"
        )
    refuse_altered(root)
    seed = seed_for(root, grad)
    node = root.node
    ticket = Ticket()
    token = CURRENT.set(ticket)
    try:
        with START:
            steps = make_plan(node, root)
            first = steps.get(node.call)
            if first is None:  # every leaf was told that it needs no gradient after all
                return
            leaves = [step for step in steps.values() if step.payload is None]
            ticket.queue([step.op for step in leaves])
            if not retain_graph:
                for step in steps.values():
                    step.node.payload = None
        run = Run(steps, MappingProxyType(run_kwargs))
        first.values[node.idx] = seed
        del seed, grad
        if first.payload is not None:
            await run.execute(first)
        await ticket.turn()
        with _COMMIT:
            commit(leaves)
    finally:
        ticket.release()
        with suppress(ValueError):  # the garbage collector ends an abandoned run in whatever context it is
            CURRENT.reset(token)


class Run:
    """One adjoint run under way."""

    __slots__ = ("breath", "calls", "error", "kwargs", "tasks", "wake")

    def __init__(self, steps: dict[Node, Step], kwargs: Mapping[str, Any]) -> None:
        self.calls = list(steps)  # inputs first, to number the calls in messages
        self.kwargs = kwargs
        self.breath = monotonic() + _BREATH
        self.tasks: set[asyncio.Task[None]] = set()
        self.wake: asyncio.Future[None] | None = None
        self.error: BaseException | None = None

    async def execute(self, first: Step) -> None:
        """Run all steps from the first one on; when this returns or raises, nothing of them is left running."""
        try:
            await self.walk(first, alone=True)
            if self.tasks:
                self.wake = asyncio.get_running_loop().create_future()
                await self.wake
        finally:
            if self.tasks:
                await self.settle()
        if self.error is not None:
            error, self.error = self.error, None
            try:
                raise error
            finally:  # no cycle of run, exception and frame: what the frames hold may be large
                del error

    async def walk(self, step: Step, *, alone: bool = False) -> None:
        """Run a step's adjoint, hand its gradients on, and go on with what became ready."""
        while self.error is None:
            payload = step.payload
            assert payload is not None
            unchanged(step)
            step.payload = None
            args, kwargs, saved, inputs, _ = payload
            del payload
            call = Call(args, kwargs, saved, self.kwargs)
            values = step.values
            step.values = []
            try:
                result = await step.op.__call_adjoint__(*values, call=call)
            except Exception as error:
                error.add_note(f"(in the {self.where(step)})")
                raise
            del values, call, saved
            ready = self.deliver(step, args, kwargs, inputs, result)
            del result, args, kwargs, inputs
            if not ready:
                return
            if len(ready) > 1:
                ready.sort(key=_position)  # as seen from the root, so that sums fill from their first term on
                if alone:
                    # The caller's task only watches over the branches from now on: cancelling them is then
                    # enough to stop everything, whatever task adjoint() was called from.
                    for branch in ready:
                        self.start(branch)
                    return
                for branch in ready[1:]:
                    self.start(branch)
            step = ready[0]
            if monotonic() > self.breath:
                await asyncio.sleep(0)
                self.breath = monotonic() + _BREATH

    def deliver(
        self, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: list[Tracked], result: Any
    ) -> list[Step]:
        """Hand the gradients that an adjoint returned to the steps that wait for them; return those now ready."""
        if len(inputs) == 1 and not isinstance(result, tuple | list | dict):
            result = (result,)
        elif type(result) is not tuple or len(result) != len(inputs):
            signature = signature_of(step.op)
            labels = signature.labels(args, kwargs)
            result = split(result, labels, signature, kwargs, lambda: self.where(step))
        ready = []
        for i, edge in enumerate(step.edges):
            if edge is None:
                continue
            gradient = result[i]
            variable = inputs[i][0]
            data = variable._data
            if (
                type(gradient) is not np.ndarray
                or type(data) is not np.ndarray
                or gradient.dtype is not data.dtype
                or gradient.shape != data.shape
            ):
                gradient = checked(gradient, variable, partial(self.which, step, args, kwargs, i))
            target, slot, place = edge
            if target.places[slot] == 1:
                target.values[slot] = gradient
            else:
                contribute(target, slot, place, gradient)
            target.missing -= 1
            if target.missing == 0 and target.payload is not None:
                ready.append(target)
        step.edges = []
        return ready

    def start(self, step: Step) -> None:
        """Give a branch a task of its own."""
        task = asyncio.get_running_loop().create_task(self.walk(step))
        self.tasks.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task: asyncio.Task[None]) -> None:
        """Note the end of a branch; wake the caller at the last one, or at the first failure."""
        self.tasks.discard(task)
        # An adjoint that raises CancelledError of its own accord has failed like any other.
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and self.error is None:
            self.error = error
        if (self.error is not None or not self.tasks) and self.wake is not None and not self.wake.done():
            self.wake.set_result(None)

    async def settle(self) -> None:
        """Cancel the branches that are still running and wait for their end, whatever else happens meanwhile."""
        again: asyncio.CancelledError | None = None
        if self.error is None:
            self.error = asyncio.CancelledError()  # stops the walks; the caller's own exception is on its way
        for task in self.tasks:
            task.cancel()
        while self.tasks:
            try:
                await asyncio.wait(self.tasks)
            except asyncio.CancelledError as error:
                again = error
        if again is not None:
            raise again

    def where(self, step: Step) -> str:
        """Say which call a step is, counting this operator's calls in the order of the forward."""
        op = step.op
        calls = [node for node in self.calls if node.op is op]
        return f"adjoint of {op.name!r} (call {calls.index(step.node) + 1} of {len(calls)} in this graph)"

    def which(self, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any], i: int) -> str:
        """Say which gradient of which call."""
        labels = signature_of(step.op).labels(args, kwargs)
        return f"gradient {i} (input {labels[i]!r}) of the {self.where(step)}"


def commit(leaves: list[Step]) -> None:
    """Add the finished sums to the leaves' gradients, all at once."""
    new = []
    for step in leaves:
        leaf, gradient = step.op, step.values[0]
        if leaf.grad is not None:
            new.append(add(same_kind(leaf.grad, gradient, leaf), gradient))
        else:
            # A single contribution may be the seed, another leaf's gradient or a view: not ours to give away.
            new.append(gradient if step.places[0] > 1 else own(gradient))
    # One call into C: not even a KeyboardInterrupt comes between two assignments.
    deque(map(object.__setattr__, [step.op for step in leaves], repeat("grad"), new), maxlen=0)


def accumulate(leaf: Variable, gradient: Any) -> None:
    """Add one gradient to a leaf's; see :meth:`Variable.__call_adjoint__`."""
    gradient = checked(gradient, leaf, lambda: f"gradient given to {leaf!r}")
    leaf.grad = own(gradient) if leaf.grad is None else add(same_kind(leaf.grad, gradient, leaf), gradient)


def _position(step: Step) -> int:
    return -step.position
