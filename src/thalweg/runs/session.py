"""A run from beginning to end: problem, optimizer, folder, loop, and what is left behind.

However it ends (finished, interrupted, failed), the folder holds the history, the variables as after the last
committed step (``result.npz``, a checkpoint), and a ``summary.json`` that says how it ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError
from thalweg.optimizers import LocalOptimizer
from thalweg.runs import resuming
from thalweg.runs.closing import Closing, model, notes_of, status_of, traceback_of
from thalweg.runs.display import Display, Ending, GuardedDisplay, QuietDisplay
from thalweg.runs.folder import RunFolder
from thalweg.runs.history import History, HistoryWriter
from thalweg.runs.keeping import Keeper, Retention
from thalweg.runs.kept_shots import SHOTS, KeptShots, digest_of_study
from thalweg.runs.loop import Loop
from thalweg.runs.machine import all_versions, machine
from thalweg.runs.placing import make_runtime
from thalweg.runs.problem import Problem
from thalweg.runs.room import Room, room_for
from thalweg.runs.study import Study
from thalweg.runs.summary import closing_table, identity
from thalweg.runs.tuning import build_optimizer
from thalweg.runs.waiting import to_the_end
from thalweg.runtime import Dask, Local, Runtime


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
        self._disk: _Disk | None = None
        self._current: Loop | None = None
        self._closing = False
        self._summary: dict[str, Any] | None = None
        self._seconds: dict[str, float] = {}
        self._began = 0.0
        self._counted: dict[str, int] = {}

    @classmethod
    def resume(
        cls,
        folder: Path | str,
        *,
        overrides: Iterable[str] = (),
        study: Study | None = None,
        named: Iterable[str] = (),
        runtime: Runtime | None = None,
        display: Display | None = None,
        kinds: Mapping[str, type[Problem]] | None = None,
    ) -> Run:
        """A run that goes on where its newest checkpoint was taken, to the same bits as without the break.

        Args:
            folder: the run's folder.
            overrides: changes of the study, each ``"path=value"``: more iterations, another learning rate.
            study: the study that the run must be of; by default the folder's.
            named: the dotted paths in which ``study`` may differ from the folder's.
            runtime: see :class:`Run`.
            display: see :class:`Run`.
            kinds: problem kinds of the caller's, by name, besides the installed ones.

        Raises:
            RunError: it is no run, it is going on, it has finished, or the study is another one.
            StudyError: a change is wrong.
            CheckpointError: no checkpoint can be read.
        """
        found = resuming.read(Path(folder), overrides, kinds, study, named)
        return cls(found.study, runtime=runtime, display=display, resumption=found)

    async def execute(self) -> Outcome:
        """Run the study.

        Raises:
            ThalwegError: the study, the problem or the folder was refused (then there is no run), or the run
                failed.
            Exception: whatever the problem raised, when the run failed.
            asyncio.CancelledError: it was cancelled; the present shots were waited for.
        """
        self._began = time.monotonic() - (self._resumption.seconds if self._resumption is not None else 0.0)
        with ExitStack() as stack:
            runtime = self._runtime or stack.enter_context(
                make_runtime(self.study.settings.runtime, self._display.note, self.study.folder)
            )
            problem = await runtime.run(self.study.build_problem)
            optimizer = await runtime.run(self._optimizer, problem)
            if isinstance(runtime, Dask):
                await runtime.start()
            room = await runtime.run(self._room, problem, optimizer)
            work = _Work(problem, optimizer, runtime, room, await runtime.run(self._plan, problem, optimizer, runtime))
            loop: Loop | None = None
            error: BaseException | None = None
            stack.callback(self._let_go, problem, optimizer)
            try:
                if self._resumption is not None and problem.rewarded:
                    await runtime.run(self._try_to_restore, problem, self._resumption)
                await runtime.run(self._open)
                assert self._disk is not None
                problem.use_folder(self._disk.folder.path)
                loop = self._current = self._loop(work)
                await self._execute(work, loop)
            except (asyncio.CancelledError, Exception) as caught:  # what was computed must not be lost
                error = caught
            if self._disk is not None:
                error = await to_the_end(self._finish(work, self._disk, loop, error))
            if error is not None:
                raise error
        assert self.outcome is not None
        return self.outcome

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

    def _room(self, problem: Problem, optimizer: LocalOptimizer) -> Room:
        """Refuse a run that would fill the disk, before there is anything of it."""
        folder = self._out or Path(self.study.settings.output.folder)
        room = room_for(self.study, problem, optimizer, self._resumption.folder.path if self._resumption else folder)
        room.check()
        return room

    def _plan(self, problem: Problem, optimizer: Any, runtime: Runtime) -> list[tuple[str, str]]:
        plan = problem.plan(runtime, self.study.iterations)
        if problem.rewarded:
            from thalweg.runs.costing import cost_lines

            plan += cost_lines(cast(Any, problem), optimizer, self.study.blocks, self.study.settings.budget)
        return plan

    async def plan(self) -> list[tuple[str, str]]:
        """What the run will need and can cost at most; nothing is computed, and there is no folder.

        Returns:
            Lines (name, value with unit).

        Raises:
            ThalwegError: the study or the problem was refused.
        """
        with ExitStack() as stack:
            runtime = self._runtime or stack.enter_context(Local(threads=1))
            problem = await runtime.run(self.study.build_problem)
            optimizer = await runtime.run(self._optimizer, problem)
            stack.callback(self._let_go, problem, optimizer)
            room = await runtime.run(self._room, problem, optimizer)
            return [*await runtime.run(self._plan, problem, optimizer, runtime), room.line]

    def _let_go(self, problem: Problem, optimizer: Any) -> None:
        """The problem's processes, the engine's threads."""
        try:
            if problem.rewarded:
                optimizer.engine.close()
        finally:
            problem.close()

    def _optimizer(self, problem: Problem) -> Any:
        return build_optimizer(self.study.settings.optimizer, problem, self.study.settings.seed)

    def _try_to_restore(self, problem: Problem, found: resuming.Resumption) -> None:
        """Before anything is written: a state that does not fit the study leaves the run as it was."""
        twin = self._optimizer(problem)
        try:
            found.restore(problem, twin)
        finally:
            twin.engine.close()

    def _open(self) -> None:
        if self._resumption is not None:
            self._reopen(self._resumption)
            return
        if self._out is not None:
            folder = RunFolder.create(self._out)
        else:
            folder = RunFolder.create_next(Path(self.study.settings.output.folder), self.study.name)
        folder.write_study(self.study.text)
        self._disk = _Disk(folder, HistoryWriter(folder.history))
        folder.write_summary({"status": "running", **identity(self.study)})  # from here on readers find a run

    def _reopen(self, found: resuming.Resumption) -> None:
        folder = found.folder
        folder.reopen()
        before = folder.study.read_text(encoding="utf-8")
        self._counted = History(folder.history).facts().get("items_by_worker", {})
        if found.changed:
            folder.write_study(self.study.text)
        self._disk = _Disk(folder, HistoryWriter(folder.history))
        for text in found.notes:
            self._disk.history.event("warning", text, iteration=found.position.iteration)
        lost = self._disk.history.forget_after(found.position.iteration)
        again = f"; {lost} iterations after its checkpoint are computed again" if lost else ""
        text = f"from iteration {found.position.iteration}{again}"
        details = {"set": found.changed, "study_before": before, **_process()}
        self._disk.history.event("resumed", text, iteration=found.position.iteration, details=details)
        folder.write_summary({"status": "running", **identity(self.study)})

    def _loop(self, work: _Work) -> Loop:
        assert self._disk is not None
        return Loop(
            work.problem,
            work.optimizer,
            self.study.blocks,
            seed=self.study.settings.seed,
            runtime=work.runtime,
            history=self._disk.history,
            keeper=Keeper(
                CheckpointStore(self._disk.folder.checkpoints),
                Retention.of(self.study.settings.output),
                self._disk.history.flush,
            ),
            display=self._display,
            began=self._began,
            position=self._resumption.position if self._resumption is not None else None,
            after_block=lambda index: self._keep_model(work.problem, index),
            counted=self._counted,
            reweight=self.study.settings.on_failed_shot == "reweight",
            shots=self._kept_shots(),
            searching=self._searching(work) if work.problem.rewarded else None,
            seconds=self.study.settings.budget.seconds,
        )

    def _searching(self, work: _Work) -> Any:
        """What the loop has for a search."""
        from thalweg.runs.searching import Searching
        from thalweg.search import digest_json

        assert self._disk is not None
        found = self._resumption
        settings = self.study.settings
        return Searching(
            work.problem,  # type: ignore[arg-type] # rewarded
            work.optimizer,  # type: ignore[arg-type] # build_optimizer made a search of it
            runtime=work.runtime,
            history=self._disk.history,
            budget=settings.budget,
            seed=settings.seed,
            fingerprint=digest_json([settings.problem, settings.seed, cast(Any, work.problem).fingerprint()]),
            rows=History(self._disk.folder.history).evaluations() if found is not None else (),
            ledger=found.meta.get("ledger") if found is not None else None,
            iteration=found.position.iteration if found is not None else 0,
            progress=self._display.items,
        )

    def _kept_shots(self) -> KeptShots | None:
        if not self.study.settings.output.checkpoint_shots:
            return None
        assert self._disk is not None
        return KeptShots(self._disk.folder.path / SHOTS, digest_of_study(self.study), self._warn)

    def _warn(self, text: str) -> None:
        """Say something that must not be missed, also later; from any thread."""
        assert self._disk is not None
        self._disk.history.event("warning", text, iteration=self._current.position.iteration if self._current else 0)
        self._display.note(text)

    def _keep_model(self, problem: Problem, block: int) -> None:
        assert self._disk is not None
        try:
            self._disk.folder.write_model(block, model(problem))
        except RunError as error:  # for the report only; the run is worth more
            self._disk.history.event("warning", f"the model after block {block} was not kept: {error}")

    async def _execute(self, work: _Work, loop: Loop) -> None:
        assert self._disk is not None
        for name, value in identity(self.study).items():
            self._disk.history.fact(name, value)
        self._disk.history.fact("study", self.study.text)
        self._disk.history.fact("study_name", self.study.name)
        self._disk.history.fact("study_folder", str(self.study.folder))
        if self._resumption is None:
            text = f"{self.study.iterations} iterations in {len(self.study.blocks)} blocks"
            self._disk.history.event("started", text, details={"set": self.study.overrides, **_process()})
        plan = [*work.plan, work.room.line]
        self._display.begin(self.study.settings.title, self._disk.folder.path, plan, self.study.blocks)
        with self._timing("prepare"):
            await work.problem.prepare(work.runtime, self._display.stage)
        if work.problem.rewarded:
            await work.runtime.run(lambda: cast(Any, work.problem).equip(cast(Any, work.optimizer).engine))
        if self._resumption is not None:
            for note in self._resumption.notes:
                self._display.note(note)
            await work.runtime.run(self._resumption.restore, work.problem, work.optimizer)
        with self._timing("blocks"):
            await loop.run()

    async def _finish(
        self, work: _Work, disk: _Disk, loop: Loop | None, error: BaseException | None
    ) -> BaseException | None:
        """Leave everything behind; returns what ended the run, if it did not end well."""
        self._closing = True
        closing = Closing(self.study, work.problem, disk.folder)
        iteration = loop.position.iteration if loop is not None else 0
        run = work.runtime.run
        if loop is not None:
            with closing.tolerating("the last checkpoint", vital=True):
                await loop.checkpoint()
        await run(closing.write_result)
        if closing.losses and error is None:
            error = closing.losses[0]
        if error is None:
            await run(closing.forget_shots)
        with closing.tolerating("the history"):
            text = f"{type(error).__name__}: {error}" if status_of(error) == "failed" else ""
            details = {"notes": notes_of(error), "traceback": traceback_of(error)}
            disk.history.event(status_of(error), text, iteration=iteration, details=details)
            await run(disk.history.flush)
        seconds = time.monotonic() - self._began
        more: dict[str, Any] = loop.outcome if loop is not None else {}
        summary = await run(closing.summary, error, iteration, seconds, self._seconds, more)
        # Pictures take seconds; a process that is killed meanwhile leaves a whole summary all the same.
        await run(closing.write_summary, summary)
        self._summary = summary
        pictures: list[Path] = []
        if self.study.settings.output.figures and iteration:
            pictures = await run(closing.draw)
        if self._display.fault is not None:
            closing.warnings.append(f"the display broke, so it was left alone: {self._display.fault}")
        with closing.tolerating("the history"):
            for text in closing.warnings:
                disk.history.event("warning", text, iteration=iteration)
        with closing.tolerating("the history", vital=True):
            await run(disk.history.close)
        await run(closing.finish_summary, summary, time.monotonic() - self._began)
        disk.folder.release()
        self.outcome = Outcome(summary["status"], disk.folder.path, summary)
        picture = pictures[0] if pictures else None
        ending = Ending(summary["status"], closing_table(summary), disk.folder.path, picture, closing.warnings)
        self._display.end(ending)
        return error if error is not None or not closing.losses else closing.losses[0]

    @contextmanager
    def _timing(self, part: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[part] = time.monotonic() - start


async def run_study(
    study: Study,
    *,
    out: Path | str | None = None,
    runtime: Runtime | None = None,
    display: Display | None = None,
) -> Outcome:
    """Run a study; the arguments and errors are those of :class:`Run`."""
    return await Run(study, out=out, runtime=runtime, display=display).execute()


def _process() -> dict[str, Any]:
    return {"versions": all_versions(), "machine": machine()}


@dataclass(frozen=True)
class _Work:
    problem: Problem
    optimizer: LocalOptimizer
    runtime: Runtime
    room: Room
    plan: list[tuple[str, str]]


@dataclass(frozen=True)
class _Disk:
    folder: RunFolder
    history: HistoryWriter
