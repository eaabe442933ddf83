"""Going on with a run: what is read from its folder, and what must fit.

A run goes on from its newest checkpoint, to the same bits as if it had never stopped. What the history knows of
iterations after that checkpoint is taken out of it first: they will be computed again. The study is the frozen one
in the folder; it may change only where the user names what changes, and where it says no more than on which machines
the work is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointCorruptError, RunError
from thalweg.optimizers import LocalOptimizer
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.runs.folder import RunFolder, read_small
from thalweg.runs.history import History
from thalweg.runs.overrides import apply_overrides
from thalweg.runs.position import Position
from thalweg.runs.problem import Problem
from thalweg.runs.settings import GenericBlock
from thalweg.runs.study import Study
from thalweg.runs.toml import parse
from thalweg.runs.validation import study_error
from thalweg.runs.variables import misfit_of, put

_HOOKS = ("process_grad", "process_model")

PLACING = frozenset(
    f"runtime.{name}"
    for name in (
        *("kind", "threads", "scheduler", "workers"),
        *("ca_file", "cert_file", "key_file", "patience", "retries"),
    )
)
"""What may change without being named: the bits do not depend on it."""


@dataclass(frozen=True)
class Resumption:
    """What a run goes on from.

    Args:
        folder: the run's folder.
        study: the frozen study, with the changes that the user named.
        position: where the checkpoint was taken; the beginning if there is none.
        arrays: the checkpoint's arrays.
        meta: the checkpoint's meta; empty if there is none.
        changed: the dotted paths that the user changed.
        notes: what the user must be told: a damaged checkpoint that was passed over.
        seconds: what the run has taken so far.
    """

    folder: RunFolder
    study: Study
    position: Position
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    changed: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float

    def restore(self, problem: Problem, optimizer: LocalOptimizer) -> None:
        """Put the variables and the optimizer where the checkpoint has them.

        Raises:
            RunError: the checkpoint is of other variables.
            StateMismatchError: the optimizer's state does not fit.
        """
        if not self.meta:
            return
        saved = {name.removeprefix("variable/"): a for name, a in self.arrays.items() if name.startswith("variable/")}
        here = {str(variable.name): variable for variable in problem.variables}
        faults = [f"{name} is missing" for name in here.keys() - saved.keys()]
        faults += [f"{name} is not in the study any more" for name in saved.keys() - here.keys()]
        for name in here.keys() & saved.keys():
            fault = misfit_of(here[name], saved[name])
            faults += [fault] if fault is not None else []
        if faults:
            raise RunError(f"The checkpoint does not fit the study's variables: {'; '.join(sorted(faults))}.")
        now = {name: getattr(optimizer, name) for name in self._renamed(optimizer)}
        arrays = {n.removeprefix("optimizer/"): a for n, a in self.arrays.items() if n.startswith("optimizer/")}
        meta = self.meta.get("optimizer")
        if not isinstance(meta, dict):
            raise RunError("The checkpoint holds no optimizer state; it is of no run.")
        meta = dict(meta)
        for hook in _HOOKS:
            if any(path.startswith(f"optimizer.{hook}") for path in self.changed):
                meta[hook] = optimizer.state().meta[hook]
        optimizer.restore(OptimizerSnapshot(arrays, meta))
        for name, value in now.items():
            setattr(optimizer, name, value)
        for name, variable in here.items():
            put(variable, saved[name])

    def _renamed(self, optimizer: LocalOptimizer) -> list[str]:
        """The hyperparameters that the user changed."""
        names = {path.split(".")[1] for path in self.changed if path.startswith("optimizer.")}
        return sorted(names & set(optimizer.hyperparameters))


def read(
    path: Path,
    overrides: Iterable[str] = (),
    kinds: Mapping[str, Any] | None = None,
    given: Study | None = None,
    named: Iterable[str] = (),
) -> Resumption:
    """What a run goes on from.

    Args:
        path: the run's folder.
        overrides: changes, each ``"path=value"``.
        kinds: problem kinds of the caller's, by name, besides the installed ones.
        given: the study that the user wants the run to be of, changes included; it must be the folder's.
        named: the dotted paths in which ``given`` may differ.

    Raises:
        RunError: it is no run; it is going on; it has finished; or the study is another one.
        StudyError: a change is wrong.
        CheckpointError: no checkpoint can be read.
    """
    folder = RunFolder(path)
    if not _is_file(folder.study) or not _is_file(folder.history):
        raise RunError(f"{path} is no folder of a run (it has no study.toml and run.sqlite). Which run is meant?")
    folder.refuse_a_second_writer()
    overrides = list(overrides)
    history = History(folder.history)
    facts = history.facts()
    text = _text(folder.study)
    frozen = _document(text, folder.study)
    wanted, faults = apply_overrides(frozen, overrides)
    if faults:
        raise study_error(f"{path}", faults)
    changed = (*(override.partition("=")[0].strip() for override in overrides), *named)
    if "study" in facts and facts["study"] != text:
        began = _document(facts["study"], folder.history)
        _refuse_differences(began, frozen, changed, f"{folder.study} was edited")
    if given is not None:
        moved = _refuse_differences(frozen, given.document, changed, f"the study is another one than that of {path}")
        changed = (*changed, *moved)
        wanted = given.document
    study = Study.from_document(
        wanted,
        name=str(facts.get("study_name", path.name)),
        folder=facts.get("study_folder", path),
        kinds=kinds,
        source=str(folder.study),
    )
    arrays, meta, notes = _checkpoint(CheckpointStore(folder.checkpoints))
    position = _position(meta, study.blocks, path, _status(folder))
    columns = history.iterations()
    past = columns["seconds"][columns["iteration"] <= position.iteration]
    if len(past) != position.iteration:
        raise RunError(
            f"The history of {path} has {len(past)} of the {position.iteration} iterations that its checkpoint knows: "
            f"{folder.history} was replaced or damaged. Restore it from a copy.",
        )
    seconds = float(past[-1]) if len(past) else 0.0
    return Resumption(folder, study, position, arrays, meta, changed, notes, seconds)


def _checkpoint(store: CheckpointStore) -> tuple[dict[str, np.ndarray], dict[str, Any], tuple[str, ...]]:
    """The newest checkpoint that is whole; what was passed over is said."""
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


def _position(meta: dict[str, Any], blocks: tuple[GenericBlock, ...], path: Path, status: str) -> Position:
    if not meta:
        return Position()
    position = Position.from_meta(meta)
    if position.block >= len(blocks):
        raise RunError(f"The run {path} is in block {position.block}, and the study has {len(blocks)} blocks.")
    before = sum(block.iterations for block in blocks[: position.block]) + position.block_iteration
    if before != position.iteration:
        raise RunError(
            f"The run {path} has made {position.iteration} iterations, and the study has {before} up to there: blocks "
            f"before block {position.block}, in which it is, cannot change any more."
        )
    if position.block_iteration > blocks[position.block].iterations:
        raise RunError(
            f"The run {path} has made {position.block_iteration} iterations of block {position.block} already; it "
            f"cannot have {blocks[position.block].iterations}."
        )
    if position.iteration == sum(block.iterations for block in blocks) and status == "finished":
        last = len(blocks) - 1
        raise RunError(
            f"The run {path} has finished: all {position.iteration} iterations are made. To go on, give it more: "
            f"--set blocks.{last}.iterations={2 * blocks[last].iterations}"
        )
    return position


def _status(folder: RunFolder) -> str:
    """How the run says that it ended; one that was killed while it closed still has something to do."""
    try:
        return str(json.loads(read_small(folder.summary))["status"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "unknown"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _text(path: Path) -> str:
    try:
        return read_small(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}, the study as it ran, cannot be read: {error}. Restore it from a copy.") from error


def _document(text: Any, path: Path) -> dict[str, Any]:
    try:
        return parse(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise RunError(f"The study as it ran, in {path}, is damaged: {error}. Restore it from a copy.") from error


def _refuse_differences(
    before: dict[str, Any], after: dict[str, Any], named: tuple[str, ...], what: str
) -> tuple[str, ...]:
    """Refuse changes of a study that the user has not named; those of the placing come back."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    different = [key for key in sorted({*old, *new}) if old.get(key, _NOTHING) != new.get(key, _NOTHING)]
    unnamed = [key for key in different if not any(key == n or key.startswith(f"{n}.") for n in named)]
    moved = tuple(key for key in unnamed if key in PLACING)
    unnamed = [key for key in unnamed if key not in PLACING]
    if unnamed:
        lines = "".join(f"\n  - {key}: {_shown(old, key)} → {_shown(new, key)}" for key in unnamed[:_SHOWN])
        more = f"\n  - and {len(unnamed) - _SHOWN} more" if len(unnamed) > _SHOWN else ""
        raise RunError(
            f"{what}; a run goes on with the study that it began with:{lines}{more}\nName what is to change (--set "
            f"{unnamed[0]:.200}=...), or begin a new run.",
            differences=unnamed,
        )
    return moved


_NOTHING = object()
_SHOWN = 30
"""So many differences are listed."""


def _shown(leaves: dict[str, Any], key: str) -> str:
    return f"{leaves[key]!r:.200}" if key in leaves else "not there"


def _leaves(value: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """The values of a document by dotted path."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value):
        items = enumerate(value)
    else:
        yield path, value
        return
    for key, entry in items:
        yield from _leaves(entry, f"{path}.{key}" if path else str(key))
