"""What a run leaves behind when it ends: result, pictures, summary. Each part is tried, whatever became of
the others."""

from __future__ import annotations

import asyncio
import os
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.runs.digest import model_digest
from thalweg.runs.figures import draw_misfit
from thalweg.runs.folder import RunFolder
from thalweg.runs.history import History
from thalweg.runs.kept_shots import SHOTS
from thalweg.runs.problem import Problem
from thalweg.runs.search_figures import draw_search
from thalweg.runs.study import Study
from thalweg.runs.summary import identity, misfits, peak_memory
from thalweg.runs.variables import as_arrays, as_values


class Closing:
    """Writes the end of one run.

    Args:
        study: what was run.
        problem: its problem, at the variables' last values.
        folder: where it goes.

    ``warnings`` holds what went wrong and costs only itself (a picture); ``losses`` what must not be lost:
    with one of them a run has failed.
    """

    def __init__(self, study: Study, problem: Problem, folder: RunFolder) -> None:
        self._study = study
        self._problem = problem
        self._folder = folder
        self.warnings: list[str] = []
        self.losses: list[Exception] = []
        self._cost: dict[str, list[str]] = {}  # by what went wrong

    @contextmanager
    def tolerating(self, what: str, *, vital: bool = False) -> Iterator[None]:
        """Note an error of the block, and go on after it.

        Args:
            what: what the block makes, for the warning.
            vital: whether a run without it has failed.
        """
        try:
            yield
        except Exception as error:
            self._tell(what, f"{type(error).__name__}: {error}")
            if vital:
                self.losses.append(error)

    def _tell(self, what: str, cause: str) -> None:
        """Warn of a loss; what has cost more than one thing is told once, with all of them."""
        lost = self._cost.setdefault(cause, [])
        if what in lost:
            return
        before = _not_made(lost, cause)
        lost.append(what)
        if before in self.warnings:
            self.warnings[self.warnings.index(before)] = _not_made(lost, cause)
        else:
            self.warnings.append(_not_made(lost, cause))

    def write_result(self) -> None:
        """Write ``result.npz``, and of a search ``result.json``; if the problem's own results fail, the variables."""
        arrays: dict[str, NDArray[Any]] | None = None
        with self.tolerating("the problem's results"):
            arrays = self._problem.results()
        if arrays is None:
            arrays = model(self._problem)  # what was paid for is written in any case
        with self.tolerating("the result", vital=True):
            if arrays or not self._problem.rewarded:  # a search without arrays has its values only
                self._folder.write_result({name: np.asarray(array) for name, array in arrays.items()})
            if self._problem.rewarded:
                self._folder.write_values(as_values(self._problem.variables))

    def forget_result(self) -> None:
        """Remove what an earlier end of the run has left and the next one makes again: result and pictures."""
        self._folder.forget_result(self._drawings(History(self._folder.history)))

    def draw(self) -> list[Path]:
        """Draw the problem's pictures and the misfit; returns those that were drawn, the one to look at
        first."""
        drawn = []
        with self.tolerating("the pictures"):
            self._folder.refuse_if_moved()
            for name, draw in self._drawings(History(self._folder.history)).items():
                with self.tolerating(f"the figure {name!r}"):
                    path = self._folder.figures / f"{name}.png"
                    beside = path.with_name(f".{path.name}")
                    try:
                        draw(beside)
                        os.replace(beside, path)  # who looks meanwhile sees a whole picture
                    finally:
                        beside.unlink(missing_ok=True)
                    drawn.append(path)
        return drawn

    def _drawings(self, history: History) -> dict[str, Callable[[Path], None]]:
        drawings: dict[str, Callable[[Path], None]] = {}
        with self.tolerating("the problem's figures"):
            drawings.update(self._problem.figures(history))
        if self._problem.rewarded:
            drawings.setdefault("search", lambda path: draw_search(path, history))
        else:
            drawings.setdefault("misfit", lambda path: draw_misfit(path, history, self._study.blocks))
        return drawings

    def summary(
        self,
        error: BaseException | None,
        iteration: int,
        seconds: float,
        parts: dict[str, float],
        more: dict[str, Any],
    ) -> dict[str, Any]:
        """The content of ``summary.json`` (:mod:`thalweg.runs.summary`).

        Args:
            error: what ended the run, if it did not end by itself.
            iteration: committed steps.
            seconds: since the run began.
            parts: seconds of its parts.
            more: what else the loop knows: why it stopped early, what a search chose.
        """
        summary: dict[str, Any] = {**self.verdict(error), **identity(self._study)}
        summary["iterations"] = iteration
        with self.tolerating("the misfits"):
            summary.update(misfits(History(self._folder.history), self._study))
        summary["digest"] = model_digest(model(self._problem))
        summary["seconds"] = seconds
        summary["seconds_by_part"] = parts
        summary["peak_memory_bytes"] = peak_memory()
        summary["warnings"] = self.warnings
        summary |= more
        own: dict[str, Any] = {}
        with self.tolerating("the problem's summary"):
            own = dict(self._problem.summary())
        taken = own.keys() & summary.keys()
        if taken:
            names = sorted(map(str, taken))
            self.warnings.append(f"the problem's summary has {names}, which are the run's own; they are left out")
        return summary | {name: value for name, value in own.items() if name not in taken}

    @staticmethod
    def verdict(error: BaseException | None) -> dict[str, Any]:
        """How it ended, for the summary: ``status``, and ``error`` if it failed."""
        status = status_of(error)
        if status != "failed":
            return {"status": status}
        text = {"type": type(error).__name__, "text": str(error), "notes": notes_of(error)}
        return {"status": status, "error": {**text, "traceback": traceback_of(error)}}

    def forget_shots(self) -> None:
        """Remove what was kept of the iteration in progress: there is none any more."""
        with self.tolerating("room for other things"):
            if (self._folder.path / SHOTS).exists():
                shutil.rmtree(self._folder.path / SHOTS)

    def write_summary(self, summary: dict[str, Any], *, last: bool = False) -> None:
        """Write ``summary.json``; a run without its last one has failed."""
        with self.tolerating("summary.json", vital=last):
            lost = self._folder.write_summary(summary)
            texts = [f"{path} in summary.json is not finite, so it is null" for path in lost]
            self.warnings += [text for text in texts if text not in self.warnings]

    def finish_summary(self, summary: dict[str, Any], seconds: float) -> None:
        """Bring time, memory and warnings up to date, and write ``summary.json`` for good."""
        summary |= {"seconds": seconds, "peak_memory_bytes": peak_memory(), "warnings": self.warnings}
        self.write_summary(summary, last=True)


def _not_made(lost: list[str], cause: str) -> str:
    return f"{' and '.join(filter(None, [', '.join(lost[:-1]), *lost[-1:]]))} could not be made: {cause}"


def model(problem: Problem) -> dict[str, NDArray[Any]]:
    """The variables' data by name."""
    return as_arrays(problem.variables)


def status_of(error: BaseException | None) -> str:
    """``finished``, ``interrupted`` or ``failed``, from what ended a run.

    Example:
        >>> import asyncio
        >>> from thalweg.runs.closing import status_of
        >>> status_of(None), status_of(asyncio.CancelledError()), status_of(ValueError())
        ('finished', 'interrupted', 'failed')
    """
    if error is None:
        return "finished"
    return "interrupted" if isinstance(error, asyncio.CancelledError) else "failed"


def traceback_of(error: BaseException | None) -> str:
    """Where in the program the error came from that a run failed by; empty for any other ending."""
    if error is None or status_of(error) != "failed":
        return ""
    return "".join(traceback.format_exception(error)).rstrip()


def notes_of(error: BaseException | None) -> list[str]:
    """The notes of an error, such as the item that it happened at."""
    return list(getattr(error, "__notes__", []))
