"""A run's folder and history, opened to be written: those of a new run, or of one that goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError
from thalweg.runs.bits import IDENTITY
from thalweg.runs.folder import RunFolder
from thalweg.runs.history import HistoryWriter
from thalweg.runs.machine import all_versions, libraries, machine
from thalweg.runs.places import places
from thalweg.runs.reopening import from_where, what_is_other
from thalweg.runs.resuming import CHECKPOINTED, INPUTS, NEXT, NEXT_INPUTS, Resumption, stamp_of
from thalweg.runs.study import Study
from thalweg.runs.summary import identity
from thalweg.runs.telling import some
from thalweg.runs.workers import COUNTED
from thalweg.runtime.identity import identity as deciding_bits


@dataclass(frozen=True)
class Disk:
    """What a run writes to.

    Args:
        folder: its folder, whose lock it holds.
        history: its history.
        told: of one that goes on: what its user must be told, and from where it does, a text each.
        doubts: those of them that are about the study, and belong into its summary.
    """

    folder: RunFolder
    history: HistoryWriter
    told: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def secure(self) -> None:
        """Bring the history to the disk, before a checkpoint that knows of it is made.

        Raises:
            RunError: it cannot be written, or the folder is not where it was.
        """
        self.history.flush()
        self.folder.refuse_if_moved()

    def give_up(self) -> None:
        """Close both, with nothing more to be said."""
        with suppress(RunError):
            self.history.close()
        self.folder.release()


def begin(study: Study, inputs: Mapping[str, str] | None, out: Path | None) -> Disk:
    """The folder of a new run, with the study and a history; from then on readers find a run.

    Args:
        study: what is to be run.
        inputs: see :meth:`Problem.inputs`.
        out: where; by default the next free folder that the study's ``output.folder`` has.

    Raises:
        RunError: there is something already, or it cannot be made.
    """
    if out is not None:
        folder = RunFolder.create(out)
    else:
        folder = RunFolder.create_next(Path(study.settings.output.folder), study.name)
    with _opened(folder, facts_of(study, inputs, folder)) as disk:
        text = f"{some(study.iterations, 'iteration')} in {some(len(study.blocks), 'block')}"
        disk.history.event("started", text, details={"set": study.overrides, **process(study)})
        folder.write_summary({"status": "running", **identity(study)})
    return disk


def reopen(study: Study, inputs: Mapping[str, str] | None, found: Resumption) -> Disk:
    """The folder of a run that goes on: its history ends where the checkpoint is, and says what has changed.

    Args:
        study: what is to be run from here on.
        inputs: see :meth:`Problem.inputs`.
        found: what it goes on from.

    Raises:
        RunError: another process writes it, or has gone on with it since it was read, or it cannot be written.
    """
    folder, iteration = found.folder, found.position.iteration
    folder.reopen()
    with _opened(folder, stamp=found.stamp) as disk:
        folder.write_summary({"status": "running", **identity(study)})  # before there is less of it than it said
        if not found.meta:  # what is killed before its first checkpoint has not lost one
            disk.history.fact(CHECKPOINTED, None)
        for note in found.notes:
            disk.history.event("warning", note, iteration=iteration)
        where, now = from_where(found, found.after), process(study)
        details = {"set": found.changed, "study_before": found.before, "inputs_before": found.inputs, **now}
        disk.history.event("resumed", where, iteration=iteration, details=details)
        warnings = what_is_other(found, inputs or {}, now)
        for warning, about in warnings.items():
            disk.history.event("warning", warning, iteration=iteration, details=about)
        disk.history.flush()  # before there is less of the run, which is at its end no more
        if found.newest is not None:  # before the history is shorter: a process that dies now leaves a run that goes on
            CheckpointStore(folder.checkpoints).discard_after(found.newest)
        disk.history.forget_after(iteration)
        folder.forget_models(found.unfinished_block)
        facts = facts_of(study, inputs, folder)
        disk.history.fact(NEXT_INPUTS, facts[INPUTS])
        disk.history.fact(COUNTED, found.counted)
        for name, value in found.agreed.items():
            disk.history.fact(name, value)
        disk.history.fact(NEXT, study.text)  # also if nothing changes: one of before is nobody's wish any more
        disk.history.flush()
        if found.rewritten or not folder.study.exists():
            folder.write_study(study.text)
        for name, value in facts.items():
            disk.history.fact(name, value)
    return replace(disk, told=(*found.notes, f"resumed {where}", *warnings), doubts=found.doubts)


@contextmanager
def _opened(
    folder: RunFolder, facts: dict[str, Any] | None = None, stamp: tuple[Any, ...] | None = None
) -> Iterator[Disk]:
    """The history of a folder that is ours: with the facts of a new run, or as it was when it was read. If the block
    fails, both are closed."""
    with ExitStack() as stack:
        stack.callback(folder.release)
        if stamp is not None and stamp_of(folder) != stamp:
            raise RunError(
                f"Another process has gone on with the run in {folder.path} since it was read here. Resume it again."
            )
        if facts is not None:
            folder.write_study(facts["study"])
        disk = Disk(folder, HistoryWriter(folder.history, facts, folder.refuse_if_moved))
        stack.callback(disk.give_up)
        yield disk
        stack.pop_all()


def facts_of(study: Study, inputs: Mapping[str, str] | None, folder: RunFolder) -> dict[str, Any]:
    """What a history knows of its run from the beginning."""
    named = {"study": study.text, "study_name": study.name, **places(study.folder, folder.path)}
    return {**identity(study), **named, INPUTS: dict(inputs or {})}


def process(study: Study) -> dict[str, Any]:
    """What is worth knowing of the process that works on a run: versions, the machine, and what decides its bits."""
    return {"versions": all_versions(), "machine": machine(), IDENTITY: {**deciding_bits(), **libraries(study)}}
