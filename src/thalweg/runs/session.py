"""A run from beginning to end: problem, optimizer, folder, loop, and what is left behind.

::

    Work (thalweg.runs.work)         problem, optimizer, room: refused here, and nothing is written
    Disk (thalweg.runs.opening)      the folder and the history, of a new run or of one that goes on
    Loop (thalweg.runs.loop)         the iterations
    finish (thalweg.runs.ending)     what is left behind

However it ends (finished, interrupted, failed), the folder holds the history, the variables as after the last
committed step (``result.npz``, a checkpoint), and a ``summary.json`` that says how it ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from thalweg.errors import RunError
from thalweg.graph.executor import chosen_executor
from thalweg.graph.finishing import to_the_end
from thalweg.runs import opening, reopening, resuming, rewarded
from thalweg.runs.assembling import make_loop
from thalweg.runs.display import Display, GuardedDisplay, QuietDisplay
from thalweg.runs.ending import finish
from thalweg.runs.folder import RunFolder
from thalweg.runs.history import History
from thalweg.runs.loop import Loop
from thalweg.runs.opening import Disk
from thalweg.runs.outline import outline
from thalweg.runs.placing import make_runtime
from thalweg.runs.problem import Problem
from thalweg.runs.study import Study
from thalweg.runs.summary import identity
from thalweg.runs.work import Work, optimizer_of
from thalweg.runtime import Dask, Local, Runtime
from thalweg.runtime.one_thread import one_thread


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        status: ``"finished"``, ``"interrupted"`` or ``"failed"``.
        folder: the run's folder.
        summary: what ``summary.json`` holds (:mod:`thalweg.runs.summary`).
    """

    status: str
    folder: Path
    summary: dict[str, Any]

    @property
    def history(self) -> History:
        """What was recorded."""
        return History(self.folder)


class Run:
    """One run of a study.

    Args:
        study: what to run.
        out: the folder, which must be empty or not there; default: the next free ``<study>-<n>`` in the
            study's ``output.folder``, which starts at the present folder.
        runtime: where numeric work runs; default: what the study says. The caller's is not closed.
        display: who is told; default: nobody.
        resumption: what to go on from, for a run that was begun before; see :meth:`resume`.

    :attr:`outcome` is set when :meth:`execute` ends, also by an error or a cancellation, unless there was no
        run at all.
    """

    def __init__(
        self,
        study: Study,
        *,
        out: Path | str | None = None,
        runtime: Runtime | None = None,
        display: Display | None = None,
        resumption: resuming.Resumption | None = None,
    ) -> None:
        self.study = study
        self._resumption = resumption
        self.outcome: Outcome | None = None
        self._out = Path(out) if out is not None else None
        self._runtime = runtime
        self._display = GuardedDisplay(display or QuietDisplay())
        self._disk: Disk | None = None
        self._current: Loop | None = None
        self._closing = False
        self._summary: dict[str, Any] | None = None
        self._seconds: dict[str, float] = {}
        self._began = 0.0

    @classmethod
    def resume(
        cls,
        folder: Path | str,
        *,
        overrides: Iterable[str] = (),
        study: Study | None = None,
        named: Iterable[str] = (),
        iteration: int | None = None,
        runtime: Runtime | None = None,
        display: Display | None = None,
        kinds: Mapping[str, type[Problem]] | None = None,
    ) -> Run:
        """A run that goes on where a checkpoint was taken, the newest one, to the same bits as without the break.

        Args:
            folder: the run's folder.
            overrides: changes of the study, each ``"path=value"``: more iterations, another learning rate.
            study: the study that the run must be of; by default the folder's.
            named: the dotted paths in which ``study`` may differ from the folder's.
            iteration: that of an earlier checkpoint to go on from, 0 to begin again: what was made after it goes.
            runtime: see :class:`Run`.
            display: see :class:`Run`.
            kinds: problem kinds of the caller's, by name, besides the installed ones.

        Raises:
            RunError: it is no run, it is going on, it has finished, or the study is another one.
            StudyError: a change is wrong.
            CheckpointError: no checkpoint can be read.
        """
        found = resuming.read(Path(folder), overrides, kinds, study, named, iteration)
        return cls(found.study, runtime=runtime, display=display, resumption=found)

    @property
    def folder(self) -> Path | None:
        """The run's folder, once there is a run."""
        return self._disk.folder.path if self._disk is not None else None

    async def execute(self) -> Outcome:
        """Run the study.

        Raises:
            ThalwegError: the study, the problem or the folder was refused (then there is no run), or the run
                failed.
            Exception: whatever the problem raised, when the run failed.
            asyncio.CancelledError: it was cancelled; the present shots were waited for.
        """
        if self._disk is not None:
            raise RunError("This run was executed already. Make another one, or go on with it: Run.resume(folder).")
        self._began = time.monotonic() - (self._resumption.seconds if self._resumption is not None else 0.0)
        error: BaseException | None = None
        try:
            async with AsyncExitStack() as stack:
                try:
                    await self._run(*await self._begin_runtime(stack))
                except (asyncio.CancelledError, Exception) as caught:
                    error = caught
        except (asyncio.CancelledError, Exception) as late:  # while things were given back
            error = error if error is not None else late
        if error is not None:
            raise error
        assert self.outcome is not None
        return self.outcome

    async def _begin_runtime(self, stack: AsyncExitStack) -> tuple[Runtime, ExitStack]:
        """Where the run's work is done: the caller's, or the study's, which ends with the stack, as does the limit of
        one thread for BLAS and OpenMP. And for what the run will hold a stack that is closed before, in a thread: what
        a problem gives back may take seconds."""
        stack.enter_context(one_thread())
        runtime, table = self._runtime, self.study.settings.runtime
        if runtime is None:
            made: AbstractAsyncContextManager[Runtime] = make_runtime(table, self._told_by_runtime, self.study.folder)
            runtime = await stack.enter_async_context(made)
        elif isinstance(runtime, Dask):
            stack.enter_context(runtime.telling(self._told_by_runtime))
        if chosen_executor() is None:  # the caller's runtime was not entered
            await stack.enter_async_context(Local(max(2, Local().threads)))
        held = ExitStack()
        stack.push_async_callback(_give_back, runtime, held)
        return runtime, held

    async def _run(self, runtime: Runtime, held: ExitStack) -> None:
        """Run the study there; raises what :meth:`execute` raises."""
        work = await Work.of(self.study, runtime, self._place(), held, begins=self._begins)
        loop: Loop | None = None
        error: BaseException | None = None
        try:
            if self._resumption is not None:
                self._resumption = await runtime.run(self._try_to_restore, work, self._resumption)
            disk = await runtime.run(self._open, work.problem)
            work.problem.use_folder(disk.folder.path)
            make = partial(make_loop, display=self._display, began=self._began)
            # In a thread, since a search reads what was evaluated before.
            loop = await runtime.run(make, self.study, work, disk, self._resumption)
            self._current = loop
            await self._execute(work, disk, loop)
        except (asyncio.CancelledError, Exception) as caught:  # what was computed must not be lost
            error = caught
        if self._disk is not None:
            await to_the_end(self._finish(work, self._disk, loop, error))
        elif error is not None:
            raise error

    def abandon(self) -> None:
        """Write down what is known without waiting for anything, for a process that ends now.

        The run is interrupted, unless all but the pictures was done already.
        """
        if self._disk is None or self.outcome is not None:
            return
        if self._summary is not None:
            warnings = [*self._summary["warnings"], "stopped by the user while the pictures were drawn"]
            self._disk.folder.write_summary({**self._summary, "warnings": warnings})
            return
        known = {
            "iterations": self._current.position.iteration if self._current is not None else 0,
            "seconds": time.monotonic() - self._began,
            "seconds_by_part": dict(self._seconds),
        }
        self._disk.folder.write_summary({"status": "interrupted", **identity(self.study), **known})

    def show(self, display: Display) -> None:
        """Tell this display of the run, from now on."""
        self._display = GuardedDisplay(display)

    def announce_stop(self) -> None:
        """Tell the display that somebody asked the run to stop; never raises."""
        if self._closing:
            self._display.note(
                "Already closing: the last files are being written; press Ctrl-C again to leave at once."
            )
        else:
            name = self.study.problem_class.item_name
            self._display.note(
                f"Stopping after the {name}s that are being worked on; press Ctrl-C again to stop at once."
            )

    async def plan(self) -> list[tuple[str, str]]:
        """What the run will need and can cost at most; nothing is computed, and no folder is made or changed.

        Returns:
            Lines (name, value with unit).

        Raises:
            ThalwegError: the study, the problem or the folder was refused, or the run cannot go on with it.
        """
        if self._resumption is None and self._out is not None:
            RunFolder.refuse_occupied(self._out)
        async with AsyncExitStack() as stack:
            runtime, held = await self._begin_runtime(stack)
            work = await Work.of(self.study, runtime, self._place(), held, start=False, begins=self._begins)
            lines = outline(self.study, work.problem, runtime)
            if self._resumption is not None:
                found = await runtime.run(self._try_to_restore, work, self._resumption)
                lines += reopening.lines_of(found, work.problem.inputs() or {})
            return [*lines, *self._plan_of(work)]

    def _plan_of(self, work: Work) -> list[tuple[str, str]]:
        """What the work needs; and of a search that begins its engine: one that goes on has that of its checkpoint."""
        begins = work.problem.rewarded and self._resumption is None
        return [*work.plan, *(rewarded.engine_lines(work.optimizer) if begins else []), work.room.line]

    def _told_by_runtime(self, text: str) -> None:
        """Show what a cluster says, and keep it in the history; from any thread."""
        self._display.note(text)
        if self._disk is not None:
            iteration = self._current.position.iteration if self._current is not None else 0
            with suppress(RunError, RuntimeError):  # the run itself says that the disk is full; or it has ended
                self._disk.history.event("cluster", text, iteration=iteration)

    @property
    def _begins(self) -> bool:
        """Whether the run begins where the study's variables are."""
        return self._resumption is None or not self._resumption.meta

    def _place(self) -> Path:
        """Where the run is, or is to be."""
        if self._resumption is not None:
            return self._resumption.folder.path
        return self._out or Path(self.study.settings.output.folder)

    def _try_to_restore(self, work: Work, found: resuming.Resumption) -> resuming.Resumption:
        """Before anything is written: a state that does not fit the study leaves the run as it was."""
        found = found.told_of_start(work.problem)
        if work.problem.rewarded:
            return rewarded.try_to_restore(work.problem, optimizer_of(self.study, work.problem), found)
        found.refuse_other_inputs(work.problem)
        found.restore_optimizer(work.problem, work.optimizer)
        return found.told_of_bounds(work.problem, work.optimizer)

    def _restore(self, work: Work, found: resuming.Resumption, disk: Disk) -> None:
        if work.problem.rewarded:
            rewarded.restore(work.problem, work.optimizer, found, disk.history)
        else:  # the optimizer has its state since that was tried
            found.put_variables(work.problem)
        self._resumption = None  # and its arrays go

    def _put_back(self, work: Work, found: resuming.Resumption) -> None:
        if work.problem.rewarded:
            rewarded.put_back(work.problem, found)
        else:
            found.put_variables(work.problem)

    def _open(self, problem: Problem) -> Disk:
        if self._resumption is None:
            self._disk = opening.begin(self.study, problem.inputs(), self._out)
        else:
            self._disk = opening.reopen(self.study, problem.inputs(), self._resumption)
        return self._disk

    async def _execute(self, work: Work, disk: Disk, loop: Loop) -> None:
        whole = {"batch_size": work.problem.items}  # so that the display knows how much is to come
        blocks = [block if block.batch_size else block.model_copy(update=whole) for block in self.study.blocks]
        self._display.begin(self.study.settings.title, disk.folder.path, self._plan_of(work), blocks)
        if self._resumption is not None:
            for note in disk.told:
                self._display.note(note)
        with self._timing("prepare"):
            await work.problem.prepare(work.runtime, self._display.stage)
        if work.problem.rewarded:
            await work.runtime.run(rewarded.equip, work.problem, work.optimizer, disk.folder.path)
        if self._resumption is not None:
            await work.runtime.run(self._restore, work, self._resumption, disk)
        with self._timing("blocks"):
            await loop.run()

    async def _finish(self, work: Work, disk: Disk, loop: Loop | None, error: BaseException | None) -> None:
        """Leave everything behind; raises what ended the run, if it did not end well: so that comes before a
        cancellation meanwhile."""
        self._closing = True

        def told(summary: dict[str, Any]) -> None:
            self._summary = summary

        iteration = loop.position.iteration if loop is not None else 0
        if self._resumption is not None:  # it ended before the variables were where the checkpoint has them
            iteration = self._resumption.position.iteration
            await work.runtime.run(self._put_back, work, self._resumption)
        ended = await finish(
            self.study,
            work,
            disk,
            loop,
            error,
            iteration=iteration,
            began=self._began,
            parts=self._seconds,
            display=self._display,
            told=told,
        )
        self.outcome = Outcome(ended.summary["status"], disk.folder.path, ended.summary)
        self._display.end(ended.ending)
        if ended.error is not None:
            raise ended.error

    @contextmanager
    def _timing(self, part: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[part] = time.monotonic() - start


async def _give_back(runtime: Runtime, held: ExitStack) -> None:
    """Close what a run holds, without keeping the event loop waiting for it."""
    await to_the_end(runtime.run(held.close))


async def run_study(
    study: Study,
    *,
    out: Path | str | None = None,
    runtime: Runtime | None = None,
    display: Display | None = None,
) -> Outcome:
    """Run a study; the arguments and errors are those of :class:`Run`."""
    return await Run(study, out=out, runtime=runtime, display=display).execute()
