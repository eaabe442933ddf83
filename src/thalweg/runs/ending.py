"""How a run ends, in order: the last checkpoint, the result, the history, the summary, the pictures.

::

    checkpoint → result.npz → event, flushed → summary.json → pictures → history closed → summary.json, the lock

However it came to its end, each part is tried, whatever became of the others (:mod:`thalweg.runs.closing`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg.errors import RunError
from thalweg.runs.closing import Closing, notes_of, status_of, traceback_of
from thalweg.runs.display import Ending, GuardedDisplay
from thalweg.runs.loop import Loop
from thalweg.runs.opening import Disk
from thalweg.runs.study import Study
from thalweg.runs.summary import closing_table
from thalweg.runs.work import Work


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Args:
        summary: what ``summary.json`` holds.
        error: what the caller is to be told, if it did not end well.
        ending: what the display is to be told.
    """

    summary: dict[str, Any]
    error: BaseException | None
    ending: Ending


async def finish(
    study: Study,
    work: Work,
    disk: Disk,
    loop: Loop | None,
    error: BaseException | None,
    *,
    iteration: int,
    began: float,
    parts: Mapping[str, float],
    display: GuardedDisplay,
    told: Callable[[dict[str, Any]], None],
) -> Ended:
    """Leave everything behind.

    Args:
        study: what was run.
        work: what it worked with.
        disk: where it goes.
        loop: the loop, if there was one.
        error: what ended the run, if it did not end by itself.
        iteration: the last committed step; the variables are as after it.
        began: :func:`time.monotonic` at the run's beginning.
        parts: seconds of its parts.
        display: whose fault becomes a warning.
        told: called with the summary as soon as all but the pictures is there.
    """
    closing = Closing(study, work.problem, disk.folder)
    closing.warnings += disk.doubts
    if status_of(error) == "failed":
        error = _cause_of(error, disk)
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
    more: dict[str, Any] = loop.outcome if loop is not None else {}
    summary = await run(closing.summary, error, iteration, time.monotonic() - began, dict(parts), more)
    # Pictures take seconds; a process that is killed meanwhile leaves a whole summary all the same.
    await run(closing.write_summary, summary)
    told(summary)
    pictures: list[Path] = []
    if study.settings.output.figures and iteration:
        pictures = await run(closing.draw)
    if display.fault is not None:
        closing.warnings.append(f"the display broke, so it was left alone: {display.fault}")
    with closing.tolerating("the history"):
        for text in closing.warnings:
            if text in disk.doubts:  # an event since the run went on
                continue
            disk.history.event("warning", text, iteration=iteration)
    with closing.tolerating("the history", vital=True):
        await run(disk.history.close)
    if closing.losses and error is None:
        error = closing.losses[0]
        summary |= closing.verdict(error)
    await run(closing.finish_summary, summary, time.monotonic() - began)
    disk.folder.release()
    picture = pictures[0] if pictures else None
    ending = Ending(summary["status"], closing_table(summary), disk.folder.path, picture, closing.warnings)
    return Ended(summary, error if error is not None or not closing.losses else closing.losses[0], ending)


def _cause_of(error: BaseException | None, disk: Disk) -> BaseException | None:
    """What ended the run: what could not be written to a folder that was moved has no other cause."""
    try:
        disk.folder.refuse_if_moved()
    except RunError as moved:
        moved.__cause__ = error
        return moved
    return error
