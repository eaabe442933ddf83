"""An optimizer's state into a snapshot, a snapshot onto the disk, and back: strict, and all or nothing."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.checkpoints import CheckpointStore, whole
from thalweg.errors import HyperparameterError, StateMismatchError
from thalweg.optimizers.groups import Group
from thalweg.optimizers.parameters import Parameter, mismatch
from thalweg.optimizers.settings import Scheduled, array_name, checked, from_config, to_config
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.rules.base import Rule
from thalweg.schedules import OptimizationState, Schedule


@dataclass(frozen=True)
class Settled:
    """A snapshot that has been found to fit, ready to be put in place."""

    settings: dict[str, Scheduled]
    groups: list[dict[str, Scheduled]]
    updates: int
    micro: int
    skipped: int
    zeroed: int
    carried: np.ndarray | None
    counts: dict[str, int]
    slots: dict[str, dict[str, np.ndarray]]
    accumulated: dict[str, np.ndarray]
    schedules: dict[str, Any]


def take(
    parameters: Sequence[Parameter], meta: dict[str, Any], more: Mapping[str, np.ndarray] | None = None
) -> OptimizerSnapshot:
    """A snapshot of the parameters' slots, of ``meta``, and of more arrays."""
    arrays = {f"slots/{slot}/{p.name}": array.copy() for p in parameters for slot, array in p.slots().items()}
    if meta["micro"]:
        arrays |= {f"accumulated/{p.name}": p.accumulated.copy() for p in parameters if p.accumulated is not None}
    variables = {p.name: {"shape": list(p.shape), "dtype": p.dtype.name} for p in parameters}
    return OptimizerSnapshot(arrays | dict(more or {}), {**meta, "variables": variables})


def write(
    parameters: Sequence[Parameter], snapshot: OptimizerSnapshot, path: str | os.PathLike[str], *, keep: int
) -> None:
    """A snapshot and the variables' data as a new generation of a checkpoint folder."""
    keep = whole(keep, "keep", 1)  # before anything is written
    data = {f"variables/{p.name}": p.data() for p in parameters}
    store = CheckpointStore(path)
    store.save({**snapshot.arrays, **data}, {"optimizer": snapshot.meta})
    store.prune(keep)


def read(path: str | os.PathLike[str], generation: int | None) -> tuple[OptimizerSnapshot, dict[str, np.ndarray]]:
    """What :func:`write` wrote: the snapshot, and the data by variable name."""
    arrays, meta, number = CheckpointStore(path).load(generation)
    if not isinstance(meta.get("optimizer"), dict):
        raise mismatch(["it holds no optimizer state"], f"generation {number} in {os.fspath(path)}")
    head = "variables/"
    data = {name.removeprefix(head): array for name, array in arrays.items() if name.startswith(head)}
    rest = {name: array for name, array in arrays.items() if not name.startswith(head)}
    return OptimizerSnapshot(rest, meta["optimizer"]), data


def settle(
    rule: Rule,
    parameters: Sequence[Parameter],
    settings: Mapping[str, Scheduled],
    groups: Sequence[Group],
    here: Mapping[str, Any],
    snapshot: OptimizerSnapshot,
    data: Mapping[str, np.ndarray] | None,
) -> Settled:
    """Compare a snapshot with an optimizer, changing nothing.

    Args:
        rule: the optimizer's rule.
        parameters: its parameters.
        settings: its hyperparameters, among them callables that no snapshot holds.
        groups: its groups of variables.
        here: the meta of its own state.
        snapshot: what is to be restored.
        data: the variables' data that come with it, if any.

    Returns:
        What to put in place.

    Raises:
        StateMismatchError: listing every difference.
    """
    saved = snapshot.meta
    if saved.get("rule") != rule.name:
        raise mismatch([f"it belongs to the rule {saved.get('rule')!r}, this is {rule.name!r}"], "saved state")
    old = {"form": {name: values[0] for name, values in rule.options.items()}, "wrap": [], "accumulate": 1}
    made = {what: saved.get(what, meant) for what, meant in old.items()}
    differences = [
        f"{what} was {value}, here it is {here[what]}" for what, value in made.items() if value != here[what]
    ]
    counts = _counts(saved, differences)
    micro = counts.pop("micro")
    if micro >= here["accumulate"]:
        differences.append(f"micro is {micro}, and a step is made of {here['accumulate']} gradients")
    of_settings = {name: array for name, array in snapshot.arrays.items() if name.startswith("hyperparameters/")}
    rest = {name: array for name, array in snapshot.arrays.items() if name not in of_settings}
    differences += _arrays(parameters, rest, data, micro)
    for hook in ("process_grad", "process_model"):
        if saved.get(hook) != here[hook]:
            differences.append(f"{hook} was {saved.get(hook)}, here it is {here[hook]}: hand in the same one")
    known = {name: value for name, value in _NEW.items() if "form" not in saved and name in settings}
    restored = _settings(rule, settings, known | _table(saved.get("hyperparameters")), differences, of_settings, 0)
    of_groups = _groups(rule, groups, saved.get("groups", []), differences, of_settings)
    differences += [f"unexpected: {name}" for name in of_settings]
    if len(of_groups) == len(groups):
        differences += _other_shapes(parameters, restored, of_groups)
    carried = _carried(rule, len(groups) + 1, saved.get("carried", []), counts["updates"], differences)
    state = _state(saved, differences)
    followed = _schedules(restored, of_groups, saved.get("schedules", {}), differences)
    if differences:
        raise mismatch(differences, "saved state")
    slots = {p.name: {s: snapshot.arrays[f"slots/{s}/{p.name}"] for s in rule.slot_names} for p in parameters}
    gathered = {p.name: snapshot.arrays[f"accumulated/{p.name}"] for p in parameters} if micro else {}
    return Settled(
        restored,
        of_groups,
        carried=carried,
        micro=micro,
        **counts,
        counts=state,
        slots=slots,
        accumulated=gathered,
        schedules=followed,
    )


_NEW = {"weight_decay": 0.0, "initial_accumulator": 0.0}
"""Hyperparameters that version 0.1 did not have, at what it computed; it had the first of all forms only."""


def set_counts(state: OptimizationState, counts: Mapping[str, int]) -> None:
    """Put counts into a state that others may hold on to."""
    for name, value in counts.items():
        setattr(state, name, value)


def _arrays(
    parameters: Sequence[Parameter], arrays: Mapping[str, Any], data: Mapping[str, np.ndarray] | None, micro: int
) -> list[str]:
    """What is missing, unexpected, or of another shape or dtype."""
    expected = {f"slots/{slot}/{p.name}": p for p in parameters for slot in p.slots()}
    if micro:
        expected |= {f"accumulated/{p.name}": p for p in parameters}
    given = dict(arrays)
    if data is not None:
        expected |= {f"variables/{p.name}": p for p in parameters}
        given |= {f"variables/{name}": array for name, array in data.items()}
    differences = [f"missing: {name}" for name in expected if name not in given]
    differences += [f"unexpected: {name}" for name in given if name not in expected]
    for name, parameter in expected.items():
        if name in given:
            differences += parameter.fit(name, given[name])
    return differences


def _settings(
    rule: Rule,
    settings: Mapping[str, Scheduled],
    saved: Any,
    differences: list[str],
    arrays: dict[str, np.ndarray],
    group: int,
) -> dict[str, Scheduled]:
    """The saved hyperparameters; where only a callable's name was saved, the callable that the same one has here.

    What is taken out of ``arrays`` was expected.
    """
    restored = dict(settings)
    differences += [f"missing hyperparameter: {name}" for name in settings if name not in saved]
    for name, config in saved.items():
        present = to_config(settings[name]) if name in settings else None
        named = isinstance(config, dict) and "callable" in config
        if named and config != present:
            differences.append(
                f"{name} was {config['callable']}, a callable of your own, which is never saved, and here it is "
                f"{present}: hand it in again (set {name} to it before loading)"
            )
            continue
        try:
            array = arrays.pop(array_name(group, name), None)
            if isinstance(config, dict) and "array" in config:
                if array is None:
                    differences.append(f"missing: {array_name(group, name)}")
                else:
                    restored[name] = checked(rule, name, array, OptimizationState())
                continue
            # The same schedule stays the same object: its user may hold on to it.
            value = settings[name] if named or config == present else from_config(name, config, {})
            restored[name] = checked(rule, name, value, OptimizationState())
        except (HyperparameterError, TypeError) as error:
            differences.append(str(error))
    return restored


def _other_shapes(
    parameters: Sequence[Parameter], settings: Mapping[str, Scheduled], groups: Sequence[Mapping[str, Scheduled]]
) -> list[str]:
    """The arrays of hyperparameters that are not like their parameters."""
    tables = [settings, *({**settings, **group} for group in groups)]
    arrays = [{name: v for name, v in table.items() if isinstance(v, np.ndarray)} for table in tables]
    return [
        f"{name} was {value.shape}, {p.name} is {p.shape}"
        for p in parameters
        for name, value in arrays[p.group].items()
        if value.shape != p.shape
    ]


def arrays_among(tables: Iterable[Mapping[str, Scheduled]]) -> list[str]:
    """In words, which hyperparameters were arrays, for those who take numbers and schedules only."""
    return [
        f"{name} was an array of {value.shape}; here it can be a number or a schedule"
        for table in tables
        for name, value in table.items()
        if isinstance(value, np.ndarray)
    ]


def _table(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _groups(
    rule: Rule, groups: Sequence[Group], saved: Any, differences: list[str], arrays: dict[str, np.ndarray]
) -> list[dict[str, Scheduled]]:
    """The saved hyperparameters of the groups, which must be the same groups."""
    tables = saved if isinstance(saved, list) and all(isinstance(table, dict) for table in saved) else []
    there, here = [table.get("variables") for table in tables], [list(group.variables) for group in groups]
    if there != here:
        differences.append(f"groups were of {there}, here they are of {here}")
        return []
    restored = []
    for number, (group, table) in enumerate(zip(groups, tables, strict=True), start=1):
        settings = {name: value for name, value in table.items() if name != "variables"}
        if set(settings) != set(group.settings):
            was, now = (", ".join(sorted(several)) or "nothing" for several in (settings, group.settings))
            differences.append(f"group {', '.join(group.variables)} set {was}, here it sets {now}")
        else:
            restored.append(_settings(rule, group.settings, settings, differences, arrays, number))
    return restored


def _schedules(
    settings: Mapping[str, Scheduled], groups: Sequence[Mapping[str, Scheduled]], saved: Any, differences: list[str]
) -> dict[str, Any]:
    """The saved states of schedules that have one, tried out on copies."""
    places = dict(settings)
    for index, group in enumerate(groups):
        places |= {f"groups.{index}.{name}": value for name, value in group.items()}
    for place, value in places.items():
        if isinstance(value, Schedule) and value.state() and place not in _table(saved):
            differences.append(f"missing: the state of the schedule at {place}")
    for place, state in _table(saved).items():
        try:
            copy.deepcopy(places[place]).restore(state)  # type: ignore[union-attr]
        except (KeyError, AttributeError, StateMismatchError) as error:
            differences.append(f"the state of the schedule at {place} cannot be used: {error}")
    return _table(saved)


def _carried(rule: Rule, groups: int, saved: Any, updates: int, differences: list[str]) -> np.ndarray | None:
    """The saved numbers that go from step to step, one row a group; none before the first step."""
    if saved == [] and not (updates and rule.carried_names):
        return None
    expected = (groups, len(rule.carried_names))
    try:
        found = np.array(saved, np.float64)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.shape != expected or not np.isfinite(found).all():
        differences.append(f"carried is {saved!r}, not {expected[0]} × {expected[1]} finite numbers")
        return None
    return found


def _counts(saved: Mapping[str, Any], differences: list[str]) -> dict[str, int]:
    counts = {}
    for name in ("updates", "micro", "skipped", "zeroed"):
        value = saved.get(name, None if name == "updates" else 0)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            differences.append(f"{name} is {value!r}, not a count")
            value = 0
        counts[name] = value
    return counts


def _state(saved: Mapping[str, Any], differences: list[str]) -> dict[str, int]:
    try:
        return OptimizationState(**saved["optimization_state"]).get_config()
    except (KeyError, TypeError, HyperparameterError) as error:
        differences.append(f"optimization_state cannot be used: {error}")
        return {}
