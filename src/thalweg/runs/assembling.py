"""The loop of a run, put together of what the study says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError
from thalweg.runs import rewarded, wal
from thalweg.runs.bits import IDENTITY
from thalweg.runs.choosing import iterations_of
from thalweg.runs.closing import Closing, model
from thalweg.runs.differences import settings_text
from thalweg.runs.digest import model_digest
from thalweg.runs.display import GuardedDisplay
from thalweg.runs.drawing import GENERATORS
from thalweg.runs.ended import result_digest
from thalweg.runs.history import History, HistoryWriter
from thalweg.runs.keeping import Keeper, Retention, losses_of
from thalweg.runs.kept_shots import SHOTS, KeptShots, digest_of_study
from thalweg.runs.loop import Loop
from thalweg.runs.machine import libraries
from thalweg.runs.opening import Disk
from thalweg.runs.problem import Problem
from thalweg.runs.record import CAPTIONS, ITEMS
from thalweg.runs.resuming import CHECKPOINTED, Resumption
from thalweg.runs.study import Study
from thalweg.runs.work import Work
from thalweg.runtime.identity import identity as deciding_bits


def make_loop(
    study: Study, work: Work, disk: Disk, found: Resumption | None, *, display: GuardedDisplay, began: float
) -> Loop:
    """The loop of a run.

    Args:
        study: what it runs.
        work: what it works with.
        disk: what it writes to.
        found: what it goes on from, if it was begun before.
        display: who is told.
        began: :func:`time.monotonic` at the run's beginning.
    """
    made: list[Loop] = []

    def warn(text: str) -> None:
        """Say something that must not be missed, also later; from any thread."""
        disk.history.event("warning", text, iteration=made[0].position.iteration if made else 0)
        display.note(text)

    settings, output = study.settings, study.settings.output
    disk.history.fact(ITEMS, work.problem.items)
    disk.history.fact(CAPTIONS, {str(key): str(text) for key, text in work.problem.summary_captions.items()})
    search = None
    if work.problem.rewarded:
        search = rewarded.searching(
            study, work.problem, work.optimizer, work.runtime, disk.history, found, display.items, began
        )
    shots = None
    if output.checkpoint_shots:
        about = digest_of_study(study, work.problem.inputs())
        shots = KeptShots(disk.folder.path / SHOTS, about, warn, disk.folder.refuse_if_moved, display.note)
    saved = _Saved(disk.history, shots)
    store = CheckpointStore(disk.folder.checkpoints, parents=False)
    losses = {}
    if output.keep_best and found is not None:
        there, ahead = {*iterations_of(store).values()}, 0 if work.problem.rewarded else 1
        losses = losses_of(History(disk.folder.history).iterations(), there, ahead=ahead)
    loop = Loop(
        work.problem,
        work.optimizer,
        study.blocks,
        seed=settings.seed,
        runtime=work.runtime,
        history=disk.history,
        keeper=Keeper(store, Retention.of(output), disk.secure, saved, losses),
        display=display,
        began=began,
        position=found.position if found is not None else None,
        after_block=lambda index: _keep_model(work.problem, disk, index),
        counted=found.counted if found is not None else {},
        counted_at=found.counted_at if found is not None else None,
        reweight=settings.on_failed_shot == "reweight",
        shots=shots,
        searching=search,
        seconds=settings.budget.seconds,
        about={"settings": settings_text(study.document), IDENTITY: {**deciding_bits(), **libraries(study)}},
        goes_on=Closing(study, work.problem, disk.folder).forget_result if _has_result(work, disk, found) else None,
        drawn=found.meta.get(GENERATORS) if found is not None else None,
    )
    made.append(loop)
    if not disk.history.shared:
        warn(wal.NOT_SHARED)
    return loop


def _has_result(work: Work, disk: Disk, found: Resumption | None) -> bool:
    """Whether what the run goes on from has the model of the result that is there: else that may be the only copy, and
    stays until the next one takes its place. What a search has chosen from, the history has."""
    if found is None or work.problem.rewarded:
        return found is not None
    model = {n.removeprefix("variable/"): array for n, array in found.arrays.items() if n.startswith("variable/")}
    return bool(model) and result_digest(disk.folder, model) == model_digest(model)


class _Saved:
    """What is done when a checkpoint is on the disk: the history has it that there was one, and kept sums go."""

    def __init__(self, history: HistoryWriter, shots: KeptShots | None) -> None:
        self._history, self._shots = history, shots
        self._is_known = False

    def __call__(self, meta: Mapping[str, Any]) -> None:
        if not self._is_known:
            self._history.fact(CHECKPOINTED, meta["iteration"])
            self._is_known = True
        if self._shots is not None:
            self._shots.forget(meta["iteration"])


def _keep_model(problem: Problem, disk: Disk, block: int) -> None:
    try:
        disk.folder.write_model(block, model(problem))
    except RunError as error:  # for the report only; the run is worth more
        disk.history.event("warning", f"the model after block {block + 1} was not kept: {error}")
