"""The one loop: select a batch, ask the problem for feedback, hand it to the optimizer, record, checkpoint.

::

    for block in blocks:
        repeat block.iterations times:
            batch     = selection.next()
            candidate = optimizer.propose()
            feedback  = problem.feedback(batch)
            ┌ optimizer.apply(feedback)            one commit: not left half done by a cancellation
            │ history    ← loss, metrics
            └ position   ← iteration, selection
            every so many iterations: checkpoint
        checkpoint

It knows two faces only, the :class:`~thalweg.runs.problem.Problem` and the optimizer. When it stops, for
whatever reason, the variables are as after the last committed step, and :attr:`Loop.position` says which that
was.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.optimizers import LocalOptimizer
from thalweg.runs.display import Display
from thalweg.runs.history import COLUMNS, HistoryWriter, IterationRecord
from thalweg.runs.norms import apply_measured
from thalweg.runs.problem import Feedback, Problem
from thalweg.runs.selection import Batch, Selection
from thalweg.runs.settings import GenericBlock
from thalweg.runs.tuning import change_hyperparameters
from thalweg.runs.waiting import to_the_end
from thalweg.runs.workers import WorkerCounts
from thalweg.runtime import Runtime, Watched

SHORT_STEP = 1 << 20
"""Up to so many numbers in all variables a step is made on the event loop itself: it takes a few ms, with
smoothing and the like. A longer one, which would block the loop, is made in a thread with an event loop of
its own."""

KEPT = 3
"""So many checkpoints stay; older ones are removed."""


@dataclass(frozen=True)
class Position:
    """Where a run is: after how many committed steps, and what decides the next batch.

    Args:
        iteration: committed steps in the whole run.
        block: index of the block.
        block_iteration: committed steps in this block.
        selection: :meth:`Selection.state` after the last committed step; None before the first block.
    """

    iteration: int = 0
    block: int = 0
    block_iteration: int = 0
    selection: dict[str, Any] | None = None


class Loop:
    """Runs the blocks of a study.

    Args:
        problem: what is optimized.
        optimizer: bound to the problem's variables.
        blocks: the blocks, in order.
        seed: the study's seed.
        runtime: where numeric work runs.
        history: where committed steps are recorded.
        store: where checkpoints go.
        checkpoint_every: at most so many iterations are between two checkpoints.
        display: who is told.
        began: :func:`time.monotonic` at the run's beginning.
        position: where to begin: at the beginning, or where a checkpoint was taken whose state the variables and
            the optimizer have.
        after_block: called in the runtime with the index of a block that is done and saved.
        counted: items by worker, counted before this process.
    """

    def __init__(
        self,
        problem: Problem,
        optimizer: LocalOptimizer,
        blocks: Sequence[GenericBlock],
        *,
        seed: int,
        runtime: Runtime,
        history: HistoryWriter,
        store: CheckpointStore,
        checkpoint_every: int,
        display: Display,
        began: float,
        position: Position | None = None,
        after_block: Callable[[int], None] | None = None,
        counted: Mapping[str, int] | None = None,
    ) -> None:
        self._problem = problem
        self._optimizer = optimizer
        self._blocks = blocks
        self._seed = seed
        self._workers = WorkerCounts(display.items, runtime, counted)
        self._runtime = Watched(runtime, self._workers)
        self._after_block = after_block
        self._history = history
        self._store = store
        self._checkpoint_every = checkpoint_every
        self._display = display
        self._began = began
        self.position = position or Position()
        self._saved: Position | None = position

    async def run(self) -> None:
        """Run all blocks.

        Raises:
            RunError: a loss or metric is not finite, or the feedback does not fit the variables.
            Exception: whatever the problem or the optimizer raises; the variables are as after the last
                committed step.
        """
        resumed = self.position if self.position.selection is not None else None
        first = resumed.block if resumed is not None else 0
        for index, block in enumerate(self._blocks[first:], start=first):
            if resumed is not None and index == first:
                selection = await self._continue_block(index, block)
            else:
                selection = await self._begin_block(index, block)
            while self.position.block_iteration < block.iterations:
                await self._iterate(selection)
                saved = self._saved.iteration if self._saved is not None else 0
                if self.position.iteration - saved >= self._checkpoint_every:
                    await to_the_end(self.checkpoint())
            await to_the_end(self.checkpoint())
            if self._after_block is not None:
                await self._runtime.run(self._after_block, index)

    async def checkpoint(self) -> None:
        """Save the state after the last committed step, unless that was done already."""
        if self._saved == self.position:
            return
        position = self.position
        await self._runtime.run(self._save, position)
        self._saved = position

    def _save(self, position: Position) -> None:
        snapshot = self._optimizer.state()
        arrays = {f"optimizer/{name}": array for name, array in snapshot.arrays.items()}
        arrays |= {f"variable/{v.name}": np.asarray(v.data) for v in self._problem.variables}
        meta = {
            "iteration": position.iteration,
            "block": position.block,
            "block_iteration": position.block_iteration,
            "selection": position.selection,
            "optimizer": snapshot.meta,
            "seed": self._seed,
        }
        self._history.fact("items_by_worker", self._workers.items)
        # The history comes first: a checkpoint never knows of an iteration that the history has lost.
        self._history.flush()
        self._store.save(arrays, meta)
        self._store.prune(KEPT)

    def _selection(self, index: int, block: GenericBlock) -> Selection:
        return Selection(
            block.selection,
            items=self._problem.items,
            batch_size=block.batch_size,
            seed=self._seed,
            block=index,
        )

    async def _continue_block(self, index: int, block: GenericBlock) -> Selection:
        """Go on in the middle of a block; the optimizer's state is that of the middle already."""
        selection = self._selection(index, block)
        assert self.position.selection is not None
        selection.restore(self.position.selection)
        await self._problem.begin_block(index)
        self._display.begin_block(
            index, block, self._problem.items / selection.batches, done=self.position.block_iteration
        )
        return selection

    async def _begin_block(self, index: int, block: GenericBlock) -> Selection:
        selection = self._selection(index, block)
        if block.reset_optimizer:
            self._optimizer.reset(counters=False)
        change_hyperparameters(self._optimizer, block.optimizer)
        await self._problem.begin_block(index)
        self.position = replace(self.position, block=index, block_iteration=0, selection=selection.state())
        self._display.begin_block(index, block, self._problem.items / selection.batches)
        return selection

    async def _iterate(self, selection: Selection) -> None:
        batch = selection.next()
        await self._optimizer.propose()
        feedback = await self._feedback(batch)
        self._check(feedback, batch)
        await to_the_end(self._commit(feedback, batch, selection))
        await asyncio.sleep(0)  # a problem that never waits must not keep everybody else from running

    async def _feedback(self, batch: Batch) -> Feedback:
        answer: Any = self._problem.feedback(batch.items, self._runtime)
        name = f"{type(self._problem).__qualname__}.feedback"
        if not inspect.isawaitable(answer):
            raise RunError(
                f"{name} returned {_kind(answer)} instead of a coroutine. Write it as `async def feedback(...)`, and "
                "have it return a thalweg.runs.Feedback."
            )
        feedback = await answer
        if not isinstance(feedback, Feedback):
            raise RunError(
                f"{name} returned {_kind(feedback)} instead of a thalweg.runs.Feedback. End it with "
                "`return Feedback(loss, {name of the variable: gradient, ...})`."
            )
        return feedback

    async def _commit(self, feedback: Feedback, batch: Batch, selection: Selection) -> None:
        state = self._optimizer.optimization_state
        before = dataclasses.asdict(state)
        try:
            if batch.begins_epoch:
                state.begin_epoch()
            state.begin_batch()
            norms = await self._apply(feedback)
            self._optimizer.observe(float(feedback.loss))
        except BaseException:
            # The counters move with the step: a batch that was selected and never used is not counted.
            for name, value in before.items():
                setattr(state, name, value)
            raise
        after = await self._runtime.run(self._problem.metrics)
        metrics = {**feedback.metrics, **self._optimizer_metrics(), **after}
        metrics = {**metrics, **{name: value for name, value in norms.items() if name not in metrics}}
        faults = [name for name, value in metrics.items() if not _is_finite(value)]
        old = self.position
        self.position = replace(
            old,
            iteration=old.iteration + 1,
            block_iteration=old.block_iteration + 1,
            selection=selection.state(),
        )
        record = IterationRecord(
            iteration=self.position.iteration,
            block=self.position.block,
            epoch=state.curr_epoch,
            items=len(batch.items),
            loss=float(feedback.loss),
            batch=tuple(batch.items.tolist()),
            seconds=time.monotonic() - self._began,
            metrics={name: float(value) for name, value in metrics.items() if name not in faults},
        )
        self._history.iteration(record)
        self._display.iteration(record)
        self._check_metrics(metrics, faults, "after")

    async def _apply(self, feedback: Feedback) -> dict[str, float]:
        optimizer, variables = self._optimizer, self._problem.variables
        if sum(np.size(variable.data) for variable in variables) <= SHORT_STEP:
            return await apply_measured(optimizer, variables, feedback)
        return await self._runtime.run(lambda: wait(apply_measured(optimizer, variables, feedback)))

    def _optimizer_metrics(self) -> dict[str, float]:
        names = [name for name in ("learning_rate",) if name in self._optimizer.hyperparameters]
        return {name: self._optimizer.current(name) for name in names}

    def _check(self, feedback: Feedback, batch: Batch) -> None:
        """Refuse feedback that cannot be used, before anything is changed."""
        where = self._where(1)
        if not _is_finite(feedback.loss):
            raise RunError(
                f"{where}: the loss of {len(batch.items)} {self._problem.item_name}s is {feedback.loss!r}, "
                "which is no finite number. Nothing was changed: the variables are as after iteration "
                f"{self.position.iteration}. Usually the step before was too long (make the learning rate "
                "smaller), or the data is not finite.",
                iteration=self.position.iteration + 1,
                loss=feedback.loss,
            )
        names = {str(variable.name) for variable in self._problem.variables}
        if feedback.gradients.keys() != names:
            raise RunError(
                f"{where}: the feedback has gradients of {sorted(feedback.gradients)}, and the variables are "
                f"{sorted(names)}. The problem must return one gradient for each of its variables, by name."
            )
        self._check_metrics(feedback.metrics, [n for n, v in feedback.metrics.items() if not _is_finite(v)], "before")

    def _check_metrics(self, metrics: dict[str, float], faults: list[str], when: str) -> None:
        reserved = sorted(COLUMNS.keys() & metrics.keys())
        if reserved:
            raise RunError(f"The problem's metrics {reserved} have names that the history uses itself; rename them.")
        if faults:
            values = ", ".join(f"{name} = {metrics[name]!r}" for name in faults)
            raise RunError(
                f"{self._where(1 if when == 'before' else 0)}: {values} (a metric, {when} the step) is no "
                "finite number. The run stops here, since what follows would mean nothing.",
                metrics={name: metrics[name] for name in faults},
            )

    def _where(self, ahead: int) -> str:
        block = self._blocks[self.position.block]
        name = f" ({block.name})" if block.name else ""
        return f"Iteration {self.position.iteration + ahead}, block {self.position.block}{name}"


def _kind(value: Any) -> str:
    return "None" if value is None else f"an object of type {type(value).__qualname__}"


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False
