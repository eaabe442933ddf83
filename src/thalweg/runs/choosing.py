"""Which checkpoint a run goes on from: the newest that is whole, or the one that the user names; and which run is meant
by what lies in its folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import numpy as np

from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointCorruptError, CheckpointError, RunError, ThalwegError
from thalweg.runs.files import is_file
from thalweg.runs.folder import RunFolder
from thalweg.runs.position import Position

Fits = Callable[[Mapping[str, Any]], bool]
"""Whether a run of the study as it is to be can go on from the checkpoint with this meta."""


class Chosen(NamedTuple):
    """What a run goes on from.

    Args:
        arrays: the checkpoint's arrays; empty for the beginning.
        meta: the checkpoint's meta; empty for the beginning.
        notes: what the user must be told: the damaged checkpoints that were passed over.
        newest: the generation after which all others go, since what was made after it is given up; None if nothing is.
    """

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    notes: tuple[str, ...] = ()
    newest: int | None = None


def newest_whole(store: CheckpointStore, path: Path, fits: Fits) -> Chosen:
    """The newest checkpoint that is whole.

    Args:
        store: the run's checkpoints.
        path: the run's folder, for the message.
        fits: which is taken, if there are several of that iteration: where a block ends, and where the next begins.

    Raises:
        RunError: there are checkpoints, and none can be read.
    """
    generations = store.generations()
    chosen, damaged = _first_whole(store, generations[::-1], fits)
    if chosen is not None:
        return chosen
    if damaged:
        raise RunError(
            "None of the run's checkpoints can be read, so it cannot go on:\n"
            + "\n".join(f"- checkpoint {number} is damaged: {error}" for number, error in damaged.items())
            + "\nRestore the folder checkpoints from a copy, or give up what there is, and begin again: "
            + f"thalweg resume {quote(str(path))} --iteration 0"
        )
    return Chosen({}, {}, ("there is no checkpoint yet: the run begins again",))


def checkpoint_of(store: CheckpointStore, iteration: int, path: Path, fits: Fits) -> Chosen:
    """The checkpoint of an iteration: the newest, or where that begins a block that the study does not begin there, the
    end of the block before.

    Args:
        store: the run's checkpoints.
        iteration: which one; 0 is the beginning, where nothing is needed.
        path: the run's folder, for the message.
        fits: which is taken, if there are several: where a block ends, and where the next begins.

    Raises:
        RunError: there is none of that iteration.
        CheckpointCorruptError: it is damaged.
    """
    if iteration == 0:
        return Chosen({}, {}, newest=0)
    known = iterations_of(store)
    numbers = _of(known, iteration)
    others = ", ".join(map(str, sorted({*known.values()} - {iteration})))
    if not numbers:
        there = f"it has those of iterations {others}, and 0" if others else "0"
        text = f"The run {path} has no checkpoint of iteration {iteration}; {there} is its beginning."
        raise RunError("\n".join([text, *_unread(store)]))
    chosen, damaged = _first_whole(store, numbers, fits)
    if chosen is None:
        error = damaged[numbers[0]]
        there = f"there are those of iterations {others}, too, and 0" if others else "0"
        text = f"{error}; {there} is the run's beginning (--iteration)"
        raise CheckpointCorruptError(text, **error.details) from error
    arrays, meta, notes, number = chosen
    return Chosen(arrays, meta, notes, numbers[len(notes)] if number is None else number)


def _first_whole(
    store: CheckpointStore, numbers: Sequence[int], fits: Fits
) -> tuple[Chosen | None, dict[int, CheckpointCorruptError]]:
    """Of the generations the first that is whole, or the end of the block before the one that it begins, if that is
    what the study fits; None if there is none. And those before it, with what is wrong with each.
    """
    damaged: dict[int, CheckpointCorruptError] = {}
    iterations = iterations_of(store)
    for number in numbers:
        try:
            arrays, meta, _ = store.load(number)
        except CheckpointCorruptError as error:
            damaged[number] = error
            continue
        notes = tuple(
            f"checkpoint {other} is damaged, so the one before is used: {error}" for other, error in damaged.items()
        )
        older = [other for other in _of(iterations, iterations.get(number)) if other < number]
        before = None if fits(meta) else _end_before(store, meta, older, fits)
        if before is not None:
            with suppress(CheckpointError):
                return Chosen(*store.load(before)[:2], notes, before), damaged
        return Chosen(arrays, meta, notes), damaged
    return None, damaged


def fitting(store: CheckpointStore, fits: Fits, covered: int) -> int | None:
    """The newest iteration with a whole checkpoint that the study fits, and the history; None if there is none.

    Args:
        store: the run's checkpoints.
        fits: whether the study does.
        covered: the iteration up to which the history has all.
    """
    for number, iteration in sorted(iterations_of(store).items(), key=lambda item: item[::-1], reverse=True):
        with suppress(CheckpointError):
            if iteration <= covered and fits(store.meta(number)):
                store.load(number)
                return iteration
    return None


def _end_before(store: CheckpointStore, meta: Mapping[str, Any], older: list[int], fits: Fits) -> int | None:
    """Of the generations of its iteration the one that ends the block before the one that ``meta`` begins, if that
    fits; what does not fit for another reason is not passed over."""
    with suppress(RunError):
        begun = Position.from_meta(meta)
        for number in older if begun.block_iteration == 0 else ():
            with suppress(CheckpointError, RunError):
                before = store.meta(number)
                if Position.from_meta(before).block == begun.block - 1 and fits(before):
                    return number
    return None


def _of(iterations: Mapping[int, int], iteration: int | None) -> list[int]:
    """The generations of an iteration, newest first."""
    return [number for number in sorted(iterations, reverse=True) if iterations[number] == iteration]


def iterations_of(store: CheckpointStore) -> dict[int, int]:
    """The iterations that there are checkpoints of, by generation, oldest first, but for those that cannot be read."""
    found = {}
    for number in store.generations():
        with suppress(CheckpointError, RunError):
            found[number] = Position.from_meta(store.meta(number)).iteration
    return found


def _unread(store: CheckpointStore) -> Iterator[str]:
    """What is wrong with those that do not even say of which iteration they are, a line each."""
    for number in store.generations():
        try:
            Position.from_meta(store.meta(number))
        except (CheckpointError, RunError) as error:
            yield f"Checkpoint {number} does not say of which iteration it is: {error}"


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


def refuse_a_part(path: Path) -> None:
    """Refuse what lies in the folder of a run, and is none; the history is not looked at.

    Args:
        path: what was named as the folder of a run.

    Raises:
        RunError: it does; the message names the run.
    """
    for run in map(RunFolder, path.parents if os.path.exists(path) else ()):
        if is_file(run.history) and path != run.history:
            what = "is the study of" if path == run.study else "lies in the folder of"
            raise RunError(f"{path} {what} the run {run.path}; write: thalweg resume {quote(str(run.path))}")
