"""Going on with a run: what is read from its folder, and what must fit.

A run goes on from its newest checkpoint, to the same bits as if it had never stopped. What the history knows of
iterations after that checkpoint is taken out of it first: they will be computed again. The study is the frozen one
in the folder; it may change only where the user names what changes, and where it says no more than on which machines
the work is done.

Whatever is refused is refused before anything is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

import numpy as np

from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError
from thalweg.optimizers import LocalOptimizer
from thalweg.runs.bounding import going_on_faults
from thalweg.runs.choosing import checkpoint_of, fitting, newest_whole, refuse_a_part
from thalweg.runs.differences import different, is_inside, refuse_past, refuse_unnamed, settings_at, settings_from
from thalweg.runs.drawing import check_drawn
from thalweg.runs.files import is_file, read_small
from thalweg.runs.folder import RunFolder
from thalweg.runs.frozen import document_of, study_text
from thalweg.runs.history import History
from thalweg.runs.objecting import follows
from thalweg.runs.overrides import apply_overrides, path_of
from thalweg.runs.places import place_of
from thalweg.runs.position import Position
from thalweg.runs.problem import Problem
from thalweg.runs.record import find_run
from thalweg.runs.restoring import check_variables, put_variables, restore_optimizer
from thalweg.runs.selection import Selection
from thalweg.runs.standing import naming, position_in, refuse_finished, refuse_lost_checkpoints, refuse_lost_iterations
from thalweg.runs.study import Study
from thalweg.runs.toml import parse
from thalweg.runs.tuning import change_hyperparameters
from thalweg.runs.validation import study_error
from thalweg.runs.workers import COUNTED_AT, counted_at

T = TypeVar("T")

NEXT = "study_next"
"""The fact that holds a changed study before it takes the place of the old one: whichever of them a process that is
killed leaves behind, it is one that the user wanted."""

INPUTS, NEXT_INPUTS = "inputs", "inputs_next"
"""The facts that hold the digests of what the problem read besides the study (:meth:`Problem.inputs`): of the study in
the folder, and of the one that may be about to take its place."""


CHECKPOINTED = "checkpointed"
"""The fact that holds an iteration of which there was a checkpoint; None, or not there, as long as there was none."""


@dataclass(frozen=True)
class Resumption:
    """What a run goes on from.

    Args:
        folder: the run's folder.
        study: the frozen study, with the changes that the user named.
        position: where the checkpoint was taken; the beginning if there is none.
        arrays: the checkpoint's arrays.
        meta: the checkpoint's meta; empty if there is none.
        changed: the dotted paths in which the study is another one than the run was of: changed or edited, or
            changed with where the work is done.
        named: the dotted paths that the user has named: for this process, or with a value that is another one.
        notes: what the user must be told: a checkpoint that was passed over.
        seconds: what the run has taken so far.
        before: the text of the study as it was, without what was edited in the folder.
        was: what of the study that the checkpoint was made with decides the hyperparameters.
        inputs: digests of what the problem read besides the study; empty where the history does not say.
        next_inputs: those of a process that may have been killed before its study took the place of the old one.
        counted: items by worker, as they were counted so far.
        counted_at: the facts that have the same of each checkpoint (:class:`thalweg.runs.workers.CountsAt`).
        stamp: see :func:`stamp_of`.
        rewritten: whether the study in the folder is not the one that the run goes on with.
        anew: what decides rewards otherwise than before, as lines, if the search begins anew; None if it goes on.
        agreed: facts that have to be there before the study in the folder is a changed one.
        newest: the generation of the checkpoint that was named, 0 for the beginning, or of one of the same iteration as
            the newest: newer ones go. None if it is the newest, but for damaged ones.
        after: how many iterations the history has after it, which are taken out of it.
        doubts: those of the notes that are about the study: what a new run would be refused for.
    """

    folder: RunFolder
    study: Study
    position: Position
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    changed: tuple[str, ...]
    named: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float
    before: str
    was: dict[str, Any]
    inputs: dict[str, str]
    next_inputs: dict[str, str]
    counted: dict[str, int]
    stamp: tuple[Any, ...]
    rewritten: bool
    anew: str | None = None
    agreed: Mapping[str, Any] = field(default_factory=dict)
    newest: int | None = None
    counted_at: Mapping[str, Any] = field(default_factory=dict)
    after: int = 0
    doubts: tuple[str, ...] = ()

    @property
    def unfinished_block(self) -> int:
        """The first block that is not done."""
        blocks, here = self.study.blocks, self.position.block
        return here + (self.position.block_iteration >= blocks[here].iterations)

    def restore(self, problem: Problem, optimizer: LocalOptimizer) -> None:
        """Put the variables and the optimizer where the checkpoint has them.

        Raises:
            RunError: the checkpoint is of other variables.
            StateMismatchError: the optimizer's state does not fit.
        """
        self.restore_optimizer(problem, optimizer)
        self.put_variables(problem)

    def restore_optimizer(self, problem: Problem, optimizer: LocalOptimizer) -> None:
        """Put the optimizer where the checkpoint has it, and refuse what cannot go on; the variables stay.

        Raises:
            RunError: the checkpoint is of other variables or random generators, or of another selection of items.
            StateMismatchError: the optimizer's state does not fit.
        """
        if not self.meta:
            return
        check_variables(problem, self.arrays)
        check_drawn(problem, self.meta)
        before, after = (settings_at(document, self.position) for document in (self.was, self.study.document))
        if self.position.selection is not None:
            index, blocks = self.position.block, self.study.blocks
            selection = Selection.of(blocks[index], index, items=problem.items, seed=self.study.settings.seed)
            selection.restore(self.position.selection)
            if before != after:
                for block in blocks[: index + 1]:
                    change_hyperparameters(optimizer, block.optimizer)
        restore_optimizer(optimizer, self.arrays, self.meta, before, after)

    def told_of_start(self, problem: Problem) -> Resumption:
        """The same, with what a new run would be refused for: the start of this one is past, and what was so before
        must not end it, so it is told only.

        Raises:
            ThalwegError: a change of the study is what a new run would be refused for.
        """
        if not self.meta:
            return self
        now = problem.inputs() or {}
        changed, blocks = (*self.changed, *self.other_inputs(now)), len(parse(self.before).get("blocks", ()))
        old = []
        for error, keys in self.study.objections(problem):
            if follows(keys, changed, blocks):
                raise error
            old.append(f"a new run would be refused: {error}")
        return self._told(old)

    def told_of_bounds(self, problem: Problem, optimizer: LocalOptimizer) -> Resumption:
        """The same, with what is wrong with bounds that the run has had before.

        Args:
            problem: of the run.
            optimizer: the run's, where the checkpoint has it.

        Raises:
            StudyError: bounds that are new would move the model, or go beyond what the problem bears.
        """
        if not self.meta:
            return self
        model = {str(v.name): self.arrays[f"variable/{v.name}"] for v in problem.variables}
        before = settings_at(self.was, self.position).get("process_model")
        same = not any(is_inside(key, "problem") for key in self.changed)
        new, old = going_on_faults(optimizer, problem, model, self.position.iteration, before, same=same)
        if new:
            raise study_error(f"The study of {self.folder.path}", new, self.named)
        return self._told(f"{fault.path}: {fault.text}" for fault in old)

    def _told(self, doubts: Iterable[str]) -> Resumption:
        doubts = list(doubts)
        return replace(self, notes=(*self.notes, *doubts), doubts=(*self.doubts, *doubts))

    def other_inputs(self, now: Mapping[str, str]) -> list[str]:
        """The keys of what is another one than the run has read so far, of :meth:`Problem.inputs`."""
        return [key for key in sorted(self.inputs.keys() & now.keys()) if self.inputs[key] != now[key]]

    def refuse_other_inputs(self, problem: Problem) -> None:
        """Refuse to go on with other data than the run began with, unless the user has named where it comes from.

        Raises:
            RunError: the digests are others.
        """
        now = problem.inputs() or {}
        other = [key for key in self.other_inputs(now) if self.next_inputs.get(key) != now[key]]
        self._refuse_another_beginning(problem, now)
        # `problem.observed.key` names the table that `problem.observed.path` is in; `problem.misfit` does not name all.
        tables = {key: key.rpartition(".")[0] if key.count(".") > 1 else key for key in other}
        unnamed = [
            key for key in other if not any(is_inside(name, tables[key]) or is_inside(key, name) for name in self.named)
        ]
        if unnamed:
            command = f"thalweg resume {quote(str(self.folder.path))} --set {unnamed[0]}=..."
            raise RunError(
                f"{', '.join(unnamed)}: what is there is not what the run in {self.folder.path} began with (relative "
                f"paths start at {self.study.folder.absolute()}). Put back what was there, or begin a new run. To go "
                f"on with what is there now, name it: {command}",
                differences=unnamed,
            )

    def _refuse_another_beginning(self, problem: Problem, now: Mapping[str, str]) -> None:
        """Refuse what a problem reads for its beginning only; a file that holds the same may have another name."""
        for table in (f"problem.{key}" for key in problem.initial_keys if self.meta):
            was, here = ({k: d for k, d in found.items() if is_inside(k, table)} for found in (self.inputs, now))
            other = [key for key in self.changed if is_inside(key, table)] or [k for k in was if k in here]
            if other and not (was and was == here):
                raise RunError(
                    f"{other[0]}: this is not where the model of the run {self.folder.path} began. That is past: it "
                    f"goes on with its model of iteration {self.position.iteration}. Put back what was there, or begin "
                    "a new run.",
                    differences=other,
                )

    def put_variables(self, problem: Problem) -> None:
        """Put the variables where the checkpoint has them.

        Raises:
            RunError: the checkpoint is of other variables.
        """
        if self.meta:
            put_variables(problem, self.arrays)


def read(
    path: Path,
    overrides: Iterable[str] = (),
    kinds: Mapping[str, Any] | None = None,
    given: Study | None = None,
    named: Iterable[str] = (),
    iteration: int | None = None,
) -> Resumption:
    """What a run goes on from.

    Args:
        path: the run's folder.
        overrides: changes, each ``"path=value"``.
        kinds: problem kinds of the caller's, by name, besides the installed ones.
        given: the study that the user wants the run to be of, changes included; it must be the folder's.
        named: the dotted paths in which ``given`` may differ.
        iteration: that of the checkpoint to go on from, 0 to begin again; by default the newest.

    Raises:
        RunError: it is no run; it is going on; it has finished; the study is another one; or there is no checkpoint
            of that iteration.
        StudyError: a change is wrong.
        CheckpointError: no checkpoint can be read.
    """
    folder = RunFolder(path)
    if not is_file(folder.history):
        if is_file(folder.study):
            raise RunError(f"The run {path} has no history: {folder.history.name} is missing. Restore it from a copy.")
        refuse_a_part(path)
        raise RunError(f"{path} is no folder of a run; the run is in {find_run(path)}.")
    folder.refuse_a_second_writer()
    overrides = list(overrides)
    stamp = stamp_of(folder)
    moment = History(folder.history).moment()
    text, lost = study_text(folder, moment.facts)
    frozen = document_of(text, folder.study)
    wanted, faults = apply_overrides(frozen, overrides)
    if faults:
        raise study_error(f"{path}", faults)
    named = tuple(named)
    allowed = (*map(path_of, overrides), *named)
    facts = moment.facts
    began = frozen
    if "study" in facts and text not in (facts["study"], facts.get(NEXT)):
        began = document_of(facts["study"], folder.history, "Restore it from a copy.")
        refuse_unnamed(began, frozen, allowed, f"{folder.study} was edited")
    if given is not None:
        refuse_unnamed(frozen, given.document, allowed, f"the study is another one than that of {path}")
        wanted = given.document
    changed = tuple(different(began, wanted))
    name = str(facts.get("study_name", path.name))
    place, elsewhere = (given.folder, None) if given is not None else place_of(facts, name, path)
    study = Study.from_document(
        wanted,
        name=name,
        folder=place,
        kinds=kinds,
        source=str(folder.study),
        named=allowed,
    )
    rewritten = bool(different(frozen, wanted))
    if not rewritten:
        study = study.with_text(text)
    store = CheckpointStore(folder.checkpoints)
    numbers = moment.iterations["iteration"]

    def placed(meta: Mapping[str, Any]) -> Position:
        found = position_in(meta, study.blocks, path)
        refuse_past(path, {**began, "seed": meta["seed"]} if "seed" in meta else began, wanted, found)
        return found

    def fits(meta: Mapping[str, Any]) -> bool:
        try:
            placed(meta)
        except RunError:
            return False
        return True

    covered = int(np.cumprod(numbers == np.arange(1, len(numbers) + 1)).sum())
    chosen = newest_whole(store, path, fits) if iteration is None else checkpoint_of(store, iteration, path, fits)
    arrays, meta = chosen.arrays, chosen.meta
    status = _status(folder)
    if not meta and iteration is None:
        had = facts[CHECKPOINTED] is not None if CHECKPOINTED in facts else None
        refuse_lost_checkpoints(path, len(numbers), status, began, had)
    try:
        position = placed(meta)
    except RunError as error:
        there = fitting(store, fits, covered)
        raise naming(error, path, 0 if there is None and not len(numbers) else there) from None
    is_last = position.iteration == len(numbers)  # else something is given up, and that is to be done
    if is_last and not _lacks_means(facts) and status == "finished":
        refuse_finished(path, study.blocks, position)
    past = moment.iterations["seconds"][numbers <= position.iteration]
    if len(past) != position.iteration:
        older = fitting(store, fits, covered)
        refuse_lost_iterations(path, folder.history, len(past), position.iteration, older, changes=bool(overrides))
    return Resumption(
        folder,
        study,
        position,
        arrays,
        meta,
        changed,
        (*map(path_of, overrides), *(name for name in named if _changes(name, changed))),
        (*lost, *chosen.notes, *([elsewhere] if elsewhere else ())),
        seconds=float(past[-1]) if len(past) else 0.0,
        before=text if began is frozen else facts["study"],
        was=settings_from(meta["settings"]) if "settings" in meta else began,
        inputs=_of(str, facts.get(INPUTS)),
        next_inputs=_of(str, facts.get(NEXT_INPUTS)),
        counted=counted_at(facts, position.iteration),
        counted_at={name: value for name, value in facts.items() if name.startswith(f"{COUNTED_AT}/")},
        stamp=stamp,
        rewritten=rewritten,
        newest=chosen.newest,
        after=int(np.count_nonzero(numbers > position.iteration)),
    )


def _changes(name: str, changed: Iterable[str]) -> bool:
    """Whether something has changed in what a path names: what a job's script says each time, and the run has already,
    tells nothing of today's data."""
    return any(is_inside(key, name) or is_inside(name, key) for key in changed)


def stamp_of(folder: RunFolder) -> tuple[Any, ...]:
    """What changes whenever a process goes on with a run: who has read it before may have read what is no more."""
    moment = History(folder.history).moment(last=1)
    newest = moment.iterations["iteration"].tolist()
    generations = CheckpointStore(folder.checkpoints).generations()
    return tuple(generations), newest, len(moment.events), moment.facts.get("study"), study_text(folder, moment.facts)


def _of(kind: type[T], found: Any) -> dict[str, T]:
    """The entries of a type, by name, of what may be somebody else's."""
    return {name: value for name, value in found.items() if type(value) is kind} if isinstance(found, dict) else {}


def _lacks_means(facts: Mapping[str, Any]) -> bool:
    """Whether the final choice of a search is incomplete: what failed in it is made again."""
    search = facts.get("search")
    return isinstance(search, dict) and bool(search.get("incomplete"))


def _status(folder: RunFolder) -> str:
    """How the run says that it ended; one that was killed while it closed still has something to do."""
    try:
        return str(json.loads(read_small(folder.summary))["status"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "unknown"
