"""An optimizer's state into a snapshot, and back: strict, and all or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError, OptimizerError
from thalweg.optimizers.configured import NONFINITE
from thalweg.optimizers.entries import COUNTS, alike, counts_in, of_snapshot, state_in
from thalweg.optimizers.groups import Group
from thalweg.optimizers.matching import Match, match
from thalweg.optimizers.parameters import Parameter, mismatch
from thalweg.optimizers.remembering import fitted
from thalweg.optimizers.settings import Scheduled, array_name, checked, from_config, place_name, to_config
from thalweg.optimizers.snapshot import OF_UPDATER, OptimizerSnapshot
from thalweg.rules.averaging import CARRIED as OF_AVERAGE
from thalweg.rules.base import Rule
from thalweg.rules.lookahead import CARRIED as OF_LOOKAHEAD
from thalweg.rules.ranges import is_masked
from thalweg.rules.schedule_free_adamw import BETA1
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


def settle(
    rule: Rule,
    parameters: Sequence[Parameter],
    settings: Mapping[str, Scheduled],
    groups: Sequence[Group],
    here: Mapping[str, Any],
    snapshot: OptimizerSnapshot,
    data: Mapping[str, np.ndarray] | None,
    places: Mapping[str, int] | None = None,
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
        places: the variables with the numbers of their groups, by default the parameters; an updater has keys.

    Returns:
        What to put in place.

    Raises:
        OptimizerError: it is no snapshot.
        StateMismatchError: listing every difference.
    """
    parts = (snapshot.arrays, snapshot.meta) if isinstance(snapshot, OptimizerSnapshot) else (None,)
    if not all(isinstance(part, Mapping) and all(isinstance(name, str) for name in part) for part in parts):
        raise OptimizerError(
            f"restore got {snapshot!r}; give what state() or snapshot() returned, or OptimizerSnapshot.load(folder)"
        )
    saved = snapshot.meta
    if "keys" in saved:
        raise mismatch([OF_UPDATER], "saved state")
    if not alike(saved.get("rule"), rule.name):
        raise mismatch([f"it belongs to the rule {saved.get('rule')!r}, this is {rule.name!r}"], "saved state")
    old = {"form": {name: values[0] for name, values in rule.options.items()}, "wrap": [], "accumulate": 1}
    made = {what: saved.get(what, meant) for what, meant in old.items()}
    differences = of_snapshot(saved)
    differences += [
        f"{what} was {value!r}, here it is {here[what]!r}"
        for what, value in made.items()
        if not alike(value, here[what])
    ]
    if not any(alike(saved.get("nonfinite", "raise"), known) for known in NONFINITE):
        differences.append(f"nonfinite is {saved['nonfinite']!r}; it may be {', '.join(map(repr, NONFINITE))}")
    counts = counts_in(saved, COUNTS, differences)
    micro = counts.pop("micro")
    if micro >= here["accumulate"]:
        differences.append(f"micro is {micro}, and a step is made of {here['accumulate']} gradients")
    of_settings = {name: array for name, array in snapshot.arrays.items() if name.startswith("hyperparameters/")}
    rest = {name: array for name, array in snapshot.arrays.items() if name not in of_settings}
    differences += _arrays(parameters, rest, data, micro) or _variables(parameters, saved.get("variables"))
    for hook in ("process_grad", "process_model"):
        if not alike(saved.get(hook), here[hook]):
            differences.append(f"{hook} was {saved.get(hook)}, here it is {here[hook]}: hand in the same one")
    known = {name: value for name, value in _NEW.items() if "form" not in saved and name in settings}
    restored = _settings(rule, settings, known | _table(saved.get("hyperparameters")), differences, of_settings, 0)
    tables = _tables(saved)
    places = {p.name: p.group for p in parameters} if places is None else places
    matched = matched_groups(groups, places, saved)
    followed: dict[str, Any] = {}
    if isinstance(matched, Match):
        of_groups = _groups(rule, groups, tables, matched, differences, of_settings)
        differences += _other_shapes(parameters, restored, of_groups)
        states = _moved(_told(saved, tables, differences), matched, groups)
        followed = _schedules([restored, *of_groups], states, differences)
    else:
        of_groups = []
        there, mine = [table.get("variables") for table in tables], [list(group.variables) for group in groups]
        others = (
            f": not the same hold {', '.join(map(repr, matched))}; put each into the group that it was in"
            if matched
            else "; as nothing tells what they hold, write them as they were, in the same order"
        )
        differences.append(f"groups were of {there}, here they are of {mine}{others}")
    differences += [f"unexpected: {name}" for name in of_settings]
    rows = _carried(rule, len(tables) + 1, saved.get("carried", []), counts["updates"], differences)
    carried = None if rows is None or not isinstance(matched, Match) else _rows(rows, matched, groups, differences)
    state = state_in(saved.get("optimization_state"), differences)
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

NEW_NUMBERS = frozenset({*OF_AVERAGE, *OF_LOOKAHEAD, *BETA1})
"""Numbers from step to step that a rule did not have at first: a wrapper's average had seen the last step, its slow
copy had been synchronized, Schedule-Free took the present β₁. That is what they say where they start, so state without
them goes on as it would have."""


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
        if name in given and is_masked(given[name]):
            differences.append(f"{name} is a masked array, and state has a value everywhere: give its data")
        elif name in given:
            differences += parameter.fit(name, given[name])
    return differences


def _variables(parameters: Sequence[Parameter], saved: Any) -> list[str]:
    """Which variables were others, where no array of state or data tells already; older snapshots do not say."""
    if saved is None or not parameters:
        return []
    if not isinstance(saved, dict):
        return [f"variables is {saved!r}, no table"]
    known = {p.name: {"shape": list(p.shape), "dtype": p.dtype.name} for p in parameters}
    differences = [f"missing: variable {name}" for name in known if name not in saved]
    differences += [f"unexpected: variable {name}" for name in saved if name not in known]
    for name, now in known.items():
        was = _in_state(saved.get(name, now))
        if not alike(was, now):
            differences.append(f"variable {name} was {was}, here it is {now}")
    return differences


def _in_state(variable: Any) -> Any:
    """What was saved of a variable, with the dtype that its state has: of a 16-bit one it is float32."""
    half = isinstance(variable, dict) and variable.get("dtype") in ("bfloat16", "float16")
    return {**variable, "dtype": "float32"} if half else variable


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
        as_here = name in settings and alike(config, present)
        if named and not as_here:
            differences.append(
                f"{name} was {config['callable']}, a callable of your own, which is never saved, and here it is "
                f"{present}: hand it in again (set {name} to it before loading)"
            )
            continue
        if isinstance(present, dict) and "callable" in present and not as_here:
            differences.append(
                f"{name} was {config}, and here it is {present['callable']}, a callable of your own, which would be "
                f"lost: set {name} to a number before loading, and to the callable again after it"
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
            value = settings[name] if as_here else from_config(name, config, {})
            restored[name] = checked(rule, name, value, OptimizationState())
            whole = to_config(value)
            if isinstance(whole, dict) and isinstance(config, dict):  # a default would stand for what is missing
                differences += [f"missing: {part} of the schedule at {name}" for part in whole if part not in config]
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


def _table(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _tables(saved: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The saved groups."""
    tables = saved.get("groups", [])
    return tables if isinstance(tables, list) and all(isinstance(table, dict) for table in tables) else []


def matched_groups(groups: Sequence[Group], here: Mapping[str, int], saved: Mapping[str, Any]) -> Match | list[str]:
    """Which saved group is which here (:func:`~thalweg.optimizers.matching.match`)."""
    tables, listed = _tables(saved), saved.get("groups", [])
    lists = [table.get("variables") for table in tables]
    whole = isinstance(listed, list) and len(listed) == len(tables)
    if not whole or not all(isinstance(one, list) and all(isinstance(n, str) for n in one) for one in lists):
        return []
    return match(groups, here, tables, _table(saved.get("variables")))


def _groups(
    rule: Rule,
    groups: Sequence[Group],
    tables: Sequence[Mapping[str, Any]],
    matched: Match,
    differences: list[str],
    arrays: dict[str, np.ndarray],
) -> list[dict[str, Scheduled]]:
    """What the saved groups set, in the order of those here.

    What a group sets only here it does not set any more, and what only the saved one set it sets from now on.
    """
    restored = []
    for group, place in zip(groups, matched.pairs, strict=True):
        if place is None:
            restored.append(dict(group.settings))
            continue
        saved = {n: value for n, value in tables[place - 1].items() if n != "variables"} if place else {}
        mine = {name: value for name, value in group.settings.items() if name in saved}
        restored.append(_settings(rule, mine, saved, differences, arrays, place))
    for place in set(range(1, len(tables) + 1)).difference(p or 0 for p in matched.pairs):  # they hold nothing here
        for name in tables[place - 1]:
            arrays.pop(array_name(place, name), None)
    return restored


def _told(saved: Mapping[str, Any], tables: Sequence[Mapping[str, Any]], differences: list[str]) -> dict[str, Any]:
    """The saved states of schedules, by where these were."""
    states = saved.get("schedules", {})
    if not isinstance(states, dict) or not all(isinstance(place, str) for place in states):
        differences.append(f"schedules is {states!r}, no table")
        return {}
    there = {place_name(k, name) for k, table in enumerate(tables, start=1) for name in table}
    strange = [place for place in states if place.startswith("groups.") and place not in there]
    differences += [f"unexpected: the state of a schedule at {place}, where there was none" for place in strange]
    return states


def _moved(states: dict[str, Any], matched: Match, groups: Sequence[Group]) -> dict[str, Any]:
    """The saved states of schedules by where these are here; a group that stays as it is keeps its own."""
    moved = {place: state for place, state in states.items() if not place.startswith("groups.")}
    for index, (group, place) in enumerate(zip(groups, matched.pairs, strict=True)):
        here = f"groups.{index}."
        if place is None:
            kept = {n: v.state() for n, v in group.settings.items() if isinstance(v, Schedule)}
            moved |= {here + name: state for name, state in kept.items() if state}
        elif place:
            there = f"groups.{place - 1}."
            its = {p: state for p, state in states.items() if p.startswith(there)}
            moved |= {here + p.removeprefix(there): state for p, state in its.items()}
    return moved


def _rows(rows: np.ndarray, matched: Match, groups: Sequence[Group], differences: list[str]) -> np.ndarray | None:
    """The numbers that go from step to step, in the order of the groups here."""
    for number, several in enumerate(matched.rows):
        if not all(np.array_equal(rows[several[0]], rows[one]) for one in several):
            where = f"group {', '.join(groups[number - 1].variables)}" if number else "the variables of no group"
            differences.append(f"{where} were in several groups, whose numbers from step to step differ by now")
            return None
    return rows[[several[0] for several in matched.rows]]


def _schedules(
    tables: Sequence[dict[str, Scheduled]], states: dict[str, Any], differences: list[str]
) -> dict[str, Any]:
    """The saved states of schedules that have one; where they have to be told apart, the tables get copies."""
    named = {place_name(k, name): (table, name) for k, table in enumerate(tables) for name in table}
    copies = fitted({place: table[name] for place, (table, name) in named.items()}, states, differences)
    for place, schedule in copies.items():
        table, name = named[place]
        table[name] = schedule
    return states


def _carried(rule: Rule, groups: int, saved: Any, updates: int, differences: list[str]) -> np.ndarray | None:
    """The saved numbers that go from step to step, one row a group; none before the first step."""
    if isinstance(saved, list) and not saved and not (updates and rule.carried_names):
        return None
    expected = (groups, len(rule.carried_names))
    try:
        found = np.array(saved, np.float64)
    except (TypeError, ValueError, OverflowError):
        found = np.full(1, np.nan)
    older = [name not in NEW_NUMBERS for name in rule.carried_names]
    if rule.carried is not None and found.size == groups * sum(older) < groups * len(older):
        known, found = found, np.tile(list(map(float, rule.carried())), (groups, 1))
        found[:, older] = known.reshape(groups, sum(older))
    if found.shape != expected or not np.isfinite(found).all():
        differences.append(f"carried is {saved!r}, not {expected[0]} × {expected[1]} finite numbers")
        return None
    return found
