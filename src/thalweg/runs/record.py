"""A run as it is at one moment, for whoever reports on it: running, ended, or killed.

Reading never waits for the writer, nor the writer for it: the history is read in one transaction, every other file
was written beside its place and renamed. What cannot be read costs only itself and is named in
:attr:`RunRecord.faults`; without a history there is no run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from thalweg.errors import RunError
from thalweg.runs.files import read_small
from thalweg.runs.folder import RunFolder
from thalweg.runs.history import History
from thalweg.runs.toml import parse

ENDINGS = ("finished", "interrupted", "failed")
BEGINNINGS = ("started", "resumed")
ITEMS = "items"
"""The fact that holds how many items the problem has."""
CAPTIONS = "captions"
"""The fact that holds what stands below figures of the summary (:attr:`thalweg.runs.Problem.summary_captions`)."""
_LOOKS = 10


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run.

    Args:
        folder: where it is.
        status: ``running``, ``finished``, ``interrupted``, ``failed``, or ``killed``: it says that it runs, and
            the process that wrote it is gone.
        iterations: the history's columns (:meth:`thalweg.runs.History.iterations`).
        events: the history's events.
        facts: the history's facts.
        summary: what ``summary.json`` holds; while it runs only what was known at its beginning.
        text: the study as it ran.
        faults: what could not be read.

    Use :meth:`read`.
    """

    folder: RunFolder
    status: str
    iterations: dict[str, NDArray[Any]]
    events: list[dict[str, Any]]
    facts: dict[str, Any]
    summary: dict[str, Any]
    text: str
    faults: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path | str, *, last: int | None = None) -> RunRecord:
        """Read a run.

        Args:
            path: its folder.
            last: so many of the newest iterations; by default all.

        Raises:
            RunError: there is no run, or its history cannot be read.
        """
        folder = RunFolder(find_run(Path(path)))
        for _ in range(_LOOKS):
            faults: list[str] = []
            summary = _summary(folder, faults)
            moment = History(folder.history).moment(last=last)
            status = _status(folder, summary, moment.events)
            if _summary(folder, []) == summary:
                break  # else it has ended, or gone on, between: what was read does not belong together
        text = moment.facts.get("study")
        if not isinstance(text, str):
            try:
                text = read_small(folder.study)
            except (OSError, ValueError) as error:
                faults.append(f"study.toml cannot be read: {error}")
                text = ""
        return cls(folder, status, moment.iterations, moment.events, moment.facts, summary, text, faults)

    @property
    def name(self) -> str:
        """What the run is called: the name of its folder."""
        return self.folder.path.resolve().name

    @property
    def title(self) -> str:
        """The study's title."""
        return str(self.summary.get("title") or self.facts.get("title") or self.document.get("title") or self.name)

    @cached_property
    def document(self) -> dict[str, Any]:
        """The study, parsed; empty if it is damaged."""
        return parsed(self.text)

    @property
    def done(self) -> int:
        """Committed iterations."""
        numbers = self.iterations["iteration"]
        return int(numbers[-1]) if len(numbers) else 0

    @property
    def total(self) -> int:
        """Iterations in all blocks; 0 if the study does not say."""
        return sum(self.block_iterations)

    @property
    def block_iterations(self) -> list[int]:
        """Iterations of each block."""
        counts = [block.get("iterations") for block in self._blocks]
        return [count if isinstance(count, int) else 0 for count in counts]

    def block_name(self, index: int) -> str:
        """What a block is called: its name, else its number from 1."""
        name = self._blocks[index].get("name") if index < len(self._blocks) else None
        return str(name) if name else f"block {index + 1}"

    @property
    def seconds(self) -> float:
        """What the run has taken, s: so far, if it did not end."""
        found = self.summary.get("seconds")
        times = self.iterations["seconds"]
        return float(found) if isinstance(found, (int, float)) else float(times[-1]) if len(times) else 0.0

    @property
    def _blocks(self) -> list[dict[str, Any]]:
        blocks = self.document.get("blocks")
        return [block for block in blocks if isinstance(block, dict)] if isinstance(blocks, list) else []


def find_run(path: Path) -> Path:
    """The folder of a run that a user named.

    Raises:
        RunError: there is none; the message says which ones there are nearby.
    """
    try:
        if path.name == "run.sqlite" and path.is_file():
            return path.parent
        if (path / "run.sqlite").is_file():
            return path
        place = path if path.is_dir() else path.parent
        if path.is_file() and (place / "run.sqlite").is_file():
            raise RunError(f"{str(path)!r} is a file of the run {str(place)!r}; name the run's folder")
        near = sorted(str(found.parent) for pattern in ("*", "*/*") for found in place.glob(f"{pattern}/run.sqlite"))
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise RunError(f"The run {str(path)!r} cannot be read: {why}. May you read the folder?") from error
    what = "It has no run.sqlite" if path.is_dir() else "It is a file" if path.exists() else "There is no such folder"
    if path.suffix == ".toml" and path.is_file():
        what = "It is a study, which `thalweg run` makes a run of"
    hint = f"Runs near there: {', '.join(near[:6])}{' ...' if len(near) > 6 else ''}." if near else ""
    raise RunError(
        f"There is no run in {str(path)!r}. {what}; the folder of a run is what `thalweg run` prints at its end, such "
        f"as runs/head-1. {hint}".rstrip()
    )


def parsed(text: Any) -> dict[str, Any]:
    """A study's text as a document; empty if it is damaged."""
    try:
        return parse(text)
    except (TypeError, ValueError, RecursionError):
        return {}


def _summary(folder: RunFolder, faults: list[str]) -> dict[str, Any]:
    try:
        found = json.loads(read_small(folder.summary))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        faults.append(f"summary.json cannot be read: {error}")
        return {}
    return found if isinstance(found, dict) else {}


def _status(folder: RunFolder, summary: dict[str, Any], events: list[dict[str, Any]]) -> str:
    if summary.get("status") in ENDINGS:
        return str(summary["status"])
    lifecycle = [event["kind"] for event in events if event["kind"] in (*ENDINGS, *BEGINNINGS)]
    if folder.writer_alive() is False:
        return lifecycle[-1] if lifecycle and lifecycle[-1] in ENDINGS else "killed"
    return "running"
