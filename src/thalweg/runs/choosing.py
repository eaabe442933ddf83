"""Which checkpoint a run goes on from: the newest that is whole, or the one that the user names."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointCorruptError, CheckpointError, RunError, ThalwegError
from thalweg.runs.folder import RunFolder
from thalweg.runs.position import Position


def newest_whole(store: CheckpointStore) -> tuple[dict[str, np.ndarray], dict[str, Any], tuple[str, ...]]:
    """The newest checkpoint that is whole.

    Args:
        store: the run's checkpoints.

    Returns:
        Its arrays and meta, both empty where there is no checkpoint yet; and what the user must be told: the damaged
        ones that were passed over.

    Raises:
        RunError: there are checkpoints, and none can be read.
    """
    notes: list[str] = []
    generations = store.generations()
    for number in reversed(generations):
        try:
            arrays, meta, _ = store.load(number)
        except CheckpointCorruptError as error:
            notes.append(f"checkpoint {number} is damaged, so the one before is used: {error}")
            continue
        return arrays, meta, tuple(notes)
    if generations:
        raise RunError(
            "None of the run's checkpoints can be read, so it cannot go on:\n" + "\n".join(f"- {n}" for n in notes)
        )
    return {}, {}, ("there is no checkpoint yet: the run begins again",)


def checkpoint_of(
    store: CheckpointStore, iteration: int, path: Path
) -> tuple[dict[str, np.ndarray], dict[str, Any], int]:
    """The newest checkpoint of an iteration.

    Args:
        store: the run's checkpoints.
        iteration: which one; 0 is the beginning, where nothing is needed.
        path: the run's folder, for the message.

    Returns:
        Its arrays, meta and generation; empty and 0 for the beginning.

    Raises:
        RunError: there is none of that iteration.
        CheckpointCorruptError: it is damaged.
    """
    if iteration == 0:
        return {}, {}, 0
    known = iterations_of(store)
    number = next((number for number, found in reversed(known.items()) if found == iteration), None)
    if number is None:
        there = ", ".join(map(str, sorted(set(known.values())))) or "none"
        raise RunError(
            f"The run {path} has no checkpoint of iteration {iteration}; it has those of iterations {there}, and 0 is "
            "its beginning."
        )
    arrays, meta, _ = store.load(number)
    return arrays, meta, number


def iterations_of(store: CheckpointStore) -> dict[int, int]:
    """The iterations that there are checkpoints of, by generation; those that cannot be read are left out."""
    found = {}
    for number in store.generations():
        with suppress(CheckpointError, RunError):
            found[number] = Position.from_meta(store.meta(number)).iteration
    return found


def iteration_before(run: Path) -> int | None:
    """The iteration of the last checkpoint of a run before its newest ones, 0 if there is none; None if it is at 0.

    Args:
        run: its folder.
    """
    try:
        *before, _ = sorted({0, *iterations_of(CheckpointStore(RunFolder(run).checkpoints)).values()})
    except (OSError, ThalwegError):
        return None
    return before[-1] if before else None
