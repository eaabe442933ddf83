"""The state of a run put back: the optimizer's with what the user has changed since, and the variables.

::

    optimizer  ←  saved state, where the study says the same; the study, where it says something else
                  (also by another convention, whose defaults are others)
    variables  ←  saved data, in place
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.errors import RunError
from thalweg.optimizers import build
from thalweg.optimizers.groups import assign
from thalweg.optimizers.matching import Match
from thalweg.optimizers.persistence import matched_groups
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.runs.differences import same
from thalweg.runs.problem import Problem
from thalweg.runs.variables import misfit_of, put

_HOOKS = ("process_grad", "process_model")

Arrays = Mapping[str, np.ndarray]


def check_variables(problem: Problem, arrays: Arrays) -> None:
    """Refuse a checkpoint of other variables; nothing is changed.

    Args:
        problem: whose variables they must be.
        arrays: the checkpoint's.

    Raises:
        RunError: they are others; all differences are listed.
    """
    saved = _of("variable/", arrays)
    here = {str(variable.name): variable for variable in problem.variables}
    faults = [f"{name} is missing" for name in here.keys() - saved.keys()]
    faults += [f"{name} is not in the study any more" for name in saved.keys() - here.keys()]
    for name in here.keys() & saved.keys():
        fault = misfit_of(here[name], saved[name])
        faults += [fault] if fault is not None else []
    if faults:
        raise RunError(f"The checkpoint does not fit the study's variables: {'; '.join(sorted(faults))}.")


def put_variables(problem: Problem, arrays: Arrays) -> None:
    """Put the variables where the checkpoint has them.

    Args:
        problem: whose variables they are.
        arrays: the checkpoint's.

    Raises:
        RunError: it is of other variables; nothing was changed.
    """
    check_variables(problem, arrays)
    saved = _of("variable/", arrays)
    for variable in problem.variables:
        put(variable, saved[str(variable.name)])


def snapshot_of(arrays: Arrays, meta: Mapping[str, Any]) -> OptimizerSnapshot:
    """The optimizer's state that a checkpoint has.

    Args:
        arrays: the checkpoint's.
        meta: the checkpoint's.

    Raises:
        RunError: it has none.
    """
    saved = meta.get("optimizer")
    if not isinstance(saved, dict):
        raise RunError("The checkpoint holds no optimizer state; it is of no run.")
    return OptimizerSnapshot(_of("optimizer/", arrays), saved)


def restore_optimizer(
    optimizer: Any, arrays: Arrays, meta: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Put an optimizer where the checkpoint has it, but for the hyperparameters and hooks that have changed since.

    Args:
        optimizer: as the study has it now.
        arrays: the checkpoint's.
        meta: the checkpoint's.
        before: the ``[optimizer]`` table that the checkpoint was made with.
        after: the table as it is now.

    Raises:
        RunError: the checkpoint holds no state of an optimizer.
        StateMismatchError: it does not fit; nothing was changed.
        HyperparameterError: what has changed means nothing any more.
    """
    snapshot = snapshot_of(arrays, meta)
    saved = snapshot.meta
    changed = _changed(before, after)
    if "convention" in changed and "kind" not in changed:
        changed += _other_defaults(optimizer, before, after)
    now: list[tuple[Any, str, Any]] = []
    gone: list[tuple[Any, str]] = []  # what a group follows the optimizer in again
    for name in changed:
        if name in optimizer.hyperparameters:
            now.append((optimizer, name, getattr(optimizer, name)))
    for group, was, table in _groups(optimizer, saved, *(table.get("groups") or [] for table in (before, after))):
        now += [(group, name, getattr(group, name)) for name in _changed(was, table) if name in group.settings]
        gone += [(group, name) for name in was if name not in table]
    hooks = [hook for hook in _HOOKS if hook in changed]
    if hooks:
        present = optimizer.state().meta
        saved = {**saved, **{hook: present[hook] for hook in hooks}}
    optimizer.restore(OptimizerSnapshot(snapshot.arrays, dict(saved)))
    for group, name in gone:
        group.settings.pop(name, None)
    for owner, name, value in now:
        setattr(owner, name, value)


def _groups(
    optimizer: Any, saved: Mapping[str, Any], old: Sequence[Any], new: Sequence[Any]
) -> Iterator[tuple[Any, Mapping[str, Any], Mapping[str, Any]]]:
    """The groups as the study has them now, each with the table that it had and the one that it has.

    Which one it was is told as the optimizer's state is put back: by the variables that it holds.
    """
    if not (old and new):
        return
    names = [str(variable.name) for variable in optimizer.variables]
    here = dict(zip(names, assign(optimizer.groups, names), strict=True))
    matched = matched_groups(optimizer.groups, here, saved)
    pairs = matched.pairs if isinstance(matched, Match) else ()  # else the state will be refused
    for group, table, place in zip(optimizer.groups, new, pairs, strict=False):
        if place is not None:
            yield group, old[place - 1] if place else {}, table


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [name for name in {**before, **after} if not same(before.get(name), after.get(name))]


def _other_defaults(optimizer: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The hyperparameters that nobody has written down, and whose default was another one by the earlier convention."""
    plain = {name: value for name, value in before.items() if name not in (*_HOOKS, "groups")}
    was, here = build(plain).rule.hyperparameters, optimizer.rule.hyperparameters
    unwritten = [name for name in here if name in was and name not in before and name not in after]
    return [name for name in unwritten if was[name].default != here[name].default]


def _of(head: str, arrays: Arrays) -> dict[str, np.ndarray]:
    return {name.removeprefix(head): array for name, array in arrays.items() if name.startswith(head)}
