"""The one loop: select a batch, ask the problem for feedback, hand it to the optimizer, record, checkpoint.

::

    for block in blocks:
        repeat block.iterations times:
            batch     = selection.next()
            candidate = optimizer.propose()
            feedback  = problem.feedback(batch)    items that fail for good stop the run, or are left out
            ┌ optimizer.apply(feedback)            one commit: not left half done by a cancellation
            │ history    ← loss, metrics, items that were left out
            └ position   ← iteration, selection
            every so many iterations: checkpoint    a copy, which is written while the next iteration computes
        checkpoint

It knows two faces only, the :class:`~thalweg.runs.problem.Problem` and the optimizer. When it stops, for
whatever reason, the variables are as after the last committed step, and :attr:`Loop.position` says which that
was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.graph import wait
from thalweg.graph.finishing import to_the_end
from thalweg.optimizers import LocalOptimizer
from thalweg.runs.accepting import awaited, check_feedback, check_metrics, is_finite, named_numbers
from thalweg.runs.batches import FAILED_ITEMS, BatchRuntime
from thalweg.runs.display import Display
from thalweg.runs.drawing import Draws
from thalweg.runs.history import HistoryWriter
from thalweg.runs.iteration import IterationRecord
from thalweg.runs.keeping import Keeper, Mark
from thalweg.runs.kept_shots import KeptShots
from thalweg.runs.norms import apply_measured
from thalweg.runs.position import Position
from thalweg.runs.problem import Feedback, Problem
from thalweg.runs.seconds import Seconds
from thalweg.runs.selection import Batch, Selection
from thalweg.runs.settings import GenericBlock
from thalweg.runs.stepping import SHORT_STEP, never_asks_for_its_task
from thalweg.runs.telling import several
from thalweg.runs.tuning import change_hyperparameters
from thalweg.runs.turns import Turns
from thalweg.runs.variables import as_arrays
from thalweg.runs.workers import COUNTED, CountsAt, WorkerCounts
from thalweg.runtime import Runtime
from thalweg.runtime.failures import FailedItem
from thalweg.schedules import OptimizationState

if TYPE_CHECKING:
    from thalweg.runs.searching import Searching

_COUNTS = tuple(field.name for field in fields(OptimizationState))


class Loop:
    """Runs the blocks of a study.

    Args:
        problem: what is optimized.
        optimizer: bound to the problem's variables.
        blocks: the blocks, in order.
        seed: the study's seed.
        runtime: where numeric work runs.
        history: where committed steps are recorded.
        keeper: writes checkpoints.
        display: who is told.
        began: :func:`time.monotonic` at the run's beginning.
        position: where to begin: at the beginning, or where a checkpoint was taken whose state the variables and
            the optimizer have.
        after_block: called in the runtime with the index of a block that is done and saved.
        counted: items by worker, counted before this process.
        counted_at: the facts that have the same of each checkpoint (:class:`thalweg.runs.workers.CountsAt`).
        reweight: whether an item that fails for good is left out, and the sum weighted for it.
        shots: where finished sums of the iteration in progress are kept; by default they are not.
        searching: where feedback comes from if the problem gives rewards.
        seconds: begin no iteration after so many seconds of the run; by default there is no limit.
        about: what a checkpoint says besides, of how it came to be; JSON by name.
        goes_on: called in the runtime before the first step is made.
        drawn: what the checkpoint has of the problem's generators.
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
        keeper: Keeper,
        display: Display,
        began: float,
        position: Position | None = None,
        after_block: Callable[[int], None] | None = None,
        counted: Mapping[str, int] | None = None,
        counted_at: Mapping[str, Any] | None = None,
        reweight: bool = False,
        shots: KeptShots | None = None,
        searching: Searching | None = None,
        seconds: float | None = None,
        about: Mapping[str, Any] | None = None,
        goes_on: Callable[[], None] | None = None,
        drawn: Any = None,
    ) -> None:
        self._problem = problem
        self._draws = Draws(problem, drawn)
        self._about = dict(about or {})
        self._goes_on = goes_on
        self._searching = searching
        self._seconds = Seconds(seconds, began)
        self.stopped: str | None = None
        """Why the run ended before its last iteration, if it did."""
        self._optimizer = optimizer
        self._blocks = blocks
        self._seed = seed
        self._workers = WorkerCounts(display.items, runtime, counted)
        self._runtime = BatchRuntime(runtime, self._workers, reweight=reweight, shots=shots)
        self._reweight = reweight
        self._plain = False
        self._rated = "learning_rate" in optimizer.hyperparameters
        self._after_block = after_block
        self._history = history
        self._keeper = keeper
        self._display = display
        self._began = began
        self._turns = Turns()
        self.position = position or Position()
        self._counts_at = CountsAt(history, keeper.retention, counted_at, self.position.iteration, keeper.losses)
        self._handed: Position | None = position
        self._last = self.position.iteration

    async def run(self) -> None:
        """Run all blocks.

        Raises:
            RunError: a loss or metric is not finite, or the feedback does not fit the variables.
            Exception: whatever the problem or the optimizer raises; the variables are as after the last
                committed step.
        """
        if self._searching is not None:
            self._searching.outcome = {}  # what was chosen before is chosen anew
        resumed = self.position if self.position.selection is not None else None
        first = resumed.block if resumed is not None else 0
        self._plain = never_asks_for_its_task(self._optimizer)
        for index, block in enumerate(self._blocks[first:], start=first):
            if resumed is not None and index == first:
                selection = await self._continue_block(index, block)
            else:
                selection = await self._begin_block(index, block)
            while self.position.block_iteration < block.iterations and not self._is_over():
                await self._iterate(selection)
                if self._is_due():
                    await to_the_end(self._hand_over())
            await to_the_end(self._hand_over())
            if self._after_block is not None and self.position.block_iteration >= block.iterations:
                await self._runtime.run(self._after_block, index)
            if self.stopped is not None:
                break
        if self._searching is not None:
            self._searching.stopped = self.stopped
            await self._searching.conclude(self.position.iteration)
            self.stopped = self._searching.stopped  # the last iteration may have been cut

    @property
    def outcome(self) -> dict[str, Any]:
        """For the summary: why it ended before its last iteration, and what a search has chosen or is at."""
        found: dict[str, Any] = {"stopped": self.stopped} if self.stopped is not None else {}
        if self._searching is not None:
            found["search"] = self._searching.outcome or self._searching.so_far()
        return found

    def _is_over(self) -> bool:
        """Whether the budget, or the search, ends the run here."""
        if self._searching is not None:
            self.stopped = self._searching.stopped
        if self.stopped is None:
            self.stopped = self._seconds.over()
        return self.stopped is not None

    def _is_due(self) -> bool:
        """Whether a checkpoint of the present position is to be made."""
        here = self.position
        ends = here.block_iteration >= self._blocks[here.block].iterations
        return ends or self._keeper.retention.due(here.iteration, self._last)

    async def checkpoint(self) -> None:
        """Save the state after the last committed step, unless that was done already; waits for the disk.

        Raises:
            CheckpointError: it, or the one before, could not be written.
        """
        await self._hand_over()
        await self._written()

    async def _hand_over(self) -> None:
        """Have a copy of the state written beside the next iterations."""
        if self._handed == self.position:
            return
        await self._written()  # before the copy: one of them at a time is in memory
        position = self.position
        if self._searching is not None and position.misfit is not None:  # what it has now found is in this checkpoint
            self._keeper.learn(position.iteration, position.block, position.misfit)
        arrays, meta = self._copy(position) if self._is_small() else await self._runtime.run(self._copy, position)
        self._keeper.begin(arrays, meta)
        self._handed = position
        self._last = position.iteration

    async def _written(self) -> None:
        try:
            await self._keeper.wait()
        except Exception:
            self._handed = None  # what was handed over is not there
            raise

    def _copy(self, position: Position) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        snapshot = self._optimizer.state()
        arrays = {f"optimizer/{name}": array for name, array in snapshot.arrays.items()}
        arrays |= {f"variable/{name}": np.array(data) for name, data in as_arrays(self._problem.variables).items()}
        items = self._workers.items
        self._history.fact(COUNTED, items)
        self._counts_at.note(Mark(position.iteration, position.block, position.misfit), items)
        ledger = {"ledger": self._searching.state()} if self._searching is not None else {}
        known = {**ledger, **self._draws.meta(), **self._about}
        return arrays, {**position.meta(), "optimizer": snapshot.meta, "seed": self._seed, **known}

    async def _continue_block(self, index: int, block: GenericBlock) -> Selection:
        """Go on in the middle of a block; the optimizer's state is that of the middle already."""
        selection = Selection.of(block, index, items=self._problem.items, seed=self._seed)
        assert self.position.selection is not None
        selection.restore(self.position.selection)
        await self._draws.begin_block(index)
        if self._problem.generators:
            await self._runtime.run(self._draws.restore)
        self._display.begin_block(
            index, block, self._problem.items / selection.batches, done=self.position.block_iteration
        )
        return selection

    async def _begin_block(self, index: int, block: GenericBlock) -> Selection:
        selection = Selection.of(block, index, items=self._problem.items, seed=self._seed)
        if block.reset_optimizer:
            self._optimizer.reset(counters=False)
        change_hyperparameters(self._optimizer, block.optimizer)
        if index and self._searching is None:
            self._optimizer.forget_best()  # another block may have another misfit
        await self._draws.begin_block(index)
        is_saved = index > 0 and self._handed == self.position
        self.position = replace(self.position, block=index, block_iteration=0, selection=selection.state(), misfit=None)
        self._draws.commit()
        if is_saved:  # the end of the block before, from where either block can go on; so there is nothing to add
            self._handed = self.position
        self._display.begin_block(index, block, self._problem.items / selection.batches)
        return selection

    async def _iterate(self, selection: Selection) -> None:
        try:
            self._keeper.check()
        except Exception:
            self._handed = None
            raise
        batch = selection.next()
        if self._searching is not None:
            found = await self._searching.feedback(batch.items, self.position.iteration + 1)
            if found is None:  # nothing was paid for or left to try; the batch was not used
                return
            feedback = found
        else:
            await self._optimizer.propose()
            feedback = await self._feedback(batch)
        check_feedback(feedback, batch, self._problem, where=lambda: self._where(1), iteration=self.position.iteration)
        if self._goes_on is not None:
            goes_on, self._goes_on = self._goes_on, None
            await self._runtime.run(goes_on)
        await to_the_end(self._commit(feedback, batch, selection), begin_here=self._plain)
        await self._turns()

    async def _feedback(self, batch: Batch) -> Feedback:
        self._runtime.begin(self.position.iteration + 1, self.position.block, self._problem.variables)
        return await awaited(self._problem, batch, self._runtime)

    async def _commit(self, feedback: Feedback, batch: Batch, selection: Selection) -> None:
        state = self._optimizer.optimization_state
        before = [getattr(state, name) for name in _COUNTS]
        try:
            if batch.begins_epoch:
                state.begin_epoch()
            state.begin_batch()
            norms = await self._apply(feedback)
        except BaseException:
            # The counters move with the step: a batch that was selected and never used is not counted.
            for name, value in zip(_COUNTS, before, strict=True):
                setattr(state, name, value)
            raise
        # The step is made. Whatever fails from here on, it is committed, and the run stops after it: a checkpoint with
        # the variables of one iteration and the number of another would have the step made twice.
        old, loss, failed = self.position, float(feedback.loss) + 0.0, self._runtime.failed  # SQLite has no −0
        if self._searching is not None:
            self._searching.commit()
        after, failure = await self._measure(loss / len(batch.items))
        metrics = {**feedback.metrics, **after}
        metrics = {**metrics, **{name: value for name, value in norms.items() if name not in metrics}}
        faults = [name for name, value in metrics.items() if not is_finite(value)]
        good = {n: float(value) for n, value in metrics.items() if n not in faults and isinstance(n, str)}
        if self._reweight:
            good[FAILED_ITEMS] = float(len(failed))
        self.position = Position(
            old.iteration + 1, old.block, old.block_iteration + 1, selection.state(), loss / len(batch.items)
        )
        failure = self._draws.commit() or failure
        if old.iteration == self._last and self._searching is None:  # the loss of that checkpoint's model
            self._keeper.learn(old.iteration, old.block, loss / len(batch.items))
        record = IterationRecord(
            iteration=self.position.iteration,
            block=self.position.block,
            epoch=state.curr_epoch,
            items=len(batch.items),
            loss=loss,
            batch=tuple(batch.items.tolist()),
            seconds=time.monotonic() - self._began,
            metrics=good,
        )
        self._history.iteration(record)
        self._tell_of(failed, len(batch.items))
        self._display.iteration(record)
        if self._runtime.keeps and not self._is_due():  # else they go when the checkpoint is on the disk
            await self._runtime.forget()
        if failure is not None:
            raise failure
        check_metrics(metrics, faults, after, where=lambda: self._where(0), when="after")

    async def _measure(self, misfit: float) -> tuple[dict[str, float], Exception | None]:
        """The metrics of optimizer and problem after a step, and what failed in that."""
        found: dict[str, float] = {}
        try:
            self._optimizer.observe(misfit)
            found |= self._optimizer_metrics()
            found |= self._searching.metrics() if self._searching is not None else {}
            if getattr(self._problem.metrics, "__func__", None) is not Problem.metrics:  # a thread is dear
                found |= named_numbers(await self._runtime.run(self._problem.metrics), self._problem)
        except Exception as error:
            return found, error
        return found, None

    def _tell_of(self, failed: Sequence[FailedItem], count: int) -> None:
        """Record the items that were left out, one by one, and say it."""
        iteration, name = self.position.iteration, self._problem.item_name
        for item in failed:
            text = f"{name} {item.item} was left out, on the {item.worker}: {item.error}"
            self._history.event("failed_item", text, iteration=iteration, details=item._asdict())
        if failed:
            first = failed[0]
            self._display.note(
                f"iteration {iteration}: {len(failed)} of {count} {several(name)} failed and were left out, the sum is "
                f"weighted with {count}/{count - len(failed)}; {name} {first.item} on the {first.worker}: {first.error}"
            )

    async def _apply(self, feedback: Feedback) -> dict[str, float]:
        optimizer, variables = self._optimizer, self._problem.variables
        if self._searching is not None:
            await optimizer.apply(feedback)
            return {}
        if self._is_small():
            return await apply_measured(optimizer, variables, feedback)
        return await self._runtime.run(lambda: wait(apply_measured(optimizer, variables, feedback)))

    def _is_small(self) -> bool:
        return sum(np.size(variable.data) for variable in self._problem.variables) <= SHORT_STEP

    def _optimizer_metrics(self) -> dict[str, float]:
        if not self._rated:
            return {}
        rate = self._optimizer.current("learning_rate")
        return {"learning_rate": rate} if np.ndim(rate) == 0 else {}  # one for each element is no line of a chart

    def _where(self, ahead: int) -> str:
        block = self._blocks[self.position.block]
        name = f" ({block.name})" if block.name else ""
        return f"Iteration {self.position.iteration + ahead}, block {self.position.block + 1}{name}"
