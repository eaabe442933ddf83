"""The state of a PyTorch optimizer as data: PyTorch's ``state_dict``, and the snapshot that all backends share.

A snapshot is taken and restored by a twin: a ``LocalOptimizer`` with the same rule, settings, groups and state over
variables of the same names, whose format it is. What it refuses is refused here, in its words.
"""

from __future__ import annotations

import copy
import glob
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thalweg.errors import HyperparameterError, OptimizerError, StateMismatchError
from thalweg.graph import Variable
from thalweg.lowering.torch import AS_NUMPY, COMPUTED_IN, empty_rows, put
from thalweg.optimizers import persistence
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.parameters import mismatch
from thalweg.optimizers.settings import Scheduled, to_config
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.optimizers.torch.checks import as_numpy
from thalweg.schedules import OptimizationState, Schedule

if TYPE_CHECKING:
    from thalweg.optimizers.torch.configured import ConfiguredTorchOptimizer as Configured

KEY = "thalweg"
"""Where the first param group of a ``state_dict`` has what PyTorch knows nothing of.

Beside ``param_groups`` it would be lost: ``torch.distributed.checkpoint`` passes on states and param groups only.
"""


# PyTorch's state_dict


def complete(optimizer: Configured, found: dict[str, Any]) -> dict[str, Any]:
    """PyTorch's ``state_dict`` with what it does not know of."""
    for number, (param, _, _) in enumerate(optimizer._listing()):
        if param in optimizer._gathered:
            known = found["state"].get(number, {})
            found["state"][number] = {**known, "accumulated": optimizer._gathered[param]}
    found["param_groups"][0][KEY] = describe(optimizer)
    return found


def describe(optimizer: Configured) -> dict[str, Any]:
    """Rule, counts and schedules of an optimizer."""
    places = _places(optimizer)
    return {
        "rule": optimizer.rule.name,
        "form": dict(optimizer.rule.chosen),
        "wrap": list(optimizer._wrap),
        "accumulate": optimizer._accumulate,
        "optimization_state": optimizer._optimization_state.get_config(),
        "skipped": optimizer._skipped,
        "zeroed": optimizer._zeroed,
        "micro": optimizer._micro,
        "schedules": {place: to_config(value) for place, value in places.items()},
        "schedule_states": {p: s for p, v in places.items() if isinstance(v, Schedule) and (s := v.state())},
    }


def described(saved: Any) -> Any:
    """What :func:`describe` said, in a ``state_dict``; ``None`` where there is nothing."""
    try:
        return saved["param_groups"][0][KEY] if "state" in saved else None
    except (KeyError, IndexError, TypeError):
        return None


def check(optimizer: Configured, saved: Any) -> None:
    """Refuse a ``state_dict`` that does not fit, changing nothing.

    Raises:
        StateMismatchError: listing every difference.
    """
    ours = described(saved)
    if not isinstance(ours, Mapping):
        raise mismatch([f"it has no {KEY!r}: it is of another optimizer than ours"], "state_dict")
    here = describe(optimizer)
    differences = [
        f"{what} was {ours.get(what)}, here it is {here[what]}"
        for what in ("rule", "form", "wrap", "accumulate", "schedules")
        if ours.get(what) != here[what]
    ]
    if differences and ours.get("rule") != here["rule"]:
        raise mismatch(differences[:1], "state_dict")
    differences += _check_groups(optimizer, saved["param_groups"])
    if not differences:
        params = _by_id(optimizer, saved)
        for key, state in saved["state"].items():
            if key in params:
                differences += _check_state(optimizer, *params[key], state)
            else:
                differences.append(f"state of a parameter {key!r}, which there is not")
    differences += _check_counts(optimizer, ours)
    if differences:
        raise mismatch(differences, "state_dict")


def load(optimizer: Configured, saved: Mapping[str, Any]) -> None:
    """Put the state of a ``state_dict`` that was checked in place: copies, in the state's own dtypes."""
    ours = described(saved)
    params = _by_id(optimizer, saved)
    optimizer.state.clear()
    optimizer._gathered = {}
    for key, state in saved["state"].items():
        param, _ = params[key]
        if "step" in state:
            optimizer.state[param] = _copied(optimizer, param, state)
        if "accumulated" in state:
            optimizer._gathered[param] = state["accumulated"].to(param.device, copy=True)
    optimizer._skipped, optimizer._zeroed, optimizer._micro = ours["skipped"], ours["zeroed"], ours["micro"]
    persistence.set_counts(optimizer._optimization_state, ours["optimization_state"])
    places = _places(optimizer)
    for place, state in ours.get("schedule_states", {}).items():
        places[place].restore(state)  # type: ignore[union-attr]


def _by_id(optimizer: Configured, saved: Mapping[str, Any]) -> dict[Any, tuple[torch.Tensor, str]]:
    """The parameters with their names by what a ``state_dict`` calls them: the ids in its groups, in order."""
    ids = (key for group in saved["param_groups"] for key in group["params"])
    return {key: (param, label) for key, (param, label, _) in zip(ids, optimizer._listing(), strict=True)}


def _places(optimizer: Configured) -> dict[str, Scheduled]:
    """The schedules by where they are."""
    groups = enumerate(optimizer._scheduled)
    return {f"{index}.{name}": value for index, several in groups for name, value in several.items()}


def _check_groups(optimizer: Configured, saved: Sequence[Mapping[str, Any]]) -> list[str]:
    here = optimizer.param_groups
    sizes, those = [len(g["params"]) for g in here], [len(g["params"]) for g in saved]
    if sizes != those:
        return [f"param groups were of {those} parameters, here they are of {sizes}"]
    differences = []
    for index, (group, other) in enumerate(zip(here, saved, strict=True)):
        names, others = group.get("param_names"), other.get("param_names")
        if names is not None and others is not None and list(names) != list(others):
            differences.append(f"param group {index} was of {list(others)}, here it is of {list(names)}")
        try:
            optimizer._spelling.read(dict(other), {}, OptimizationState(), optimizer.name)
        except (HyperparameterError, KeyError) as error:
            differences.append(f"param group {index}: {error}")
    return differences


def _check_state(optimizer: Configured, param: torch.Tensor, label: str, state: Mapping[str, Any]) -> list[str]:
    rule, kind = optimizer.rule, COMPUTED_IN[param.dtype]
    expected = {"step", *rule.slot_names, *rule.carried_names}
    known = set(state) - {"accumulated"}
    if known and known != expected:
        return [f"the state of {label!r} was {sorted(known)}, here it is {sorted(expected)}"]
    differences = []
    for name in [name for name in (*rule.slot_names, "accumulated") if name in state]:
        slot = state[name]
        if not isinstance(slot, torch.Tensor) or slot.shape != param.shape or slot.dtype != kind:
            got = f"{tuple(slot.shape)} {slot.dtype}" if isinstance(slot, torch.Tensor) else repr(slot)
            differences.append(f"{name} of {label!r} is {got}, here {tuple(param.shape)} {kind}")
    numbers = [state[name] for name in rule.carried_names if known]
    if known and not (_is_count(state["step"]) and all(isinstance(n, float) and np.isfinite(n) for n in numbers)):
        differences.append(
            f"step and numbers of {label!r} are {state['step']!r} and {numbers}, no count and no numbers"
        )
    return differences


def _check_counts(optimizer: Configured, ours: Mapping[str, Any]) -> list[str]:
    names = ("skipped", "zeroed", "micro")
    differences = [f"{name} is {ours.get(name)!r}, no count" for name in names if not _is_count(ours.get(name))]
    try:
        OptimizationState(**ours["optimization_state"])
    except (KeyError, TypeError, HyperparameterError) as error:
        differences.append(f"optimization_state cannot be used: {error}")
    places = _places(optimizer)
    for place, state in ours.get("schedule_states", {}).items():
        try:
            copy.deepcopy(places[place]).restore(state)  # type: ignore[union-attr]
        except (KeyError, AttributeError, StateMismatchError) as error:
            differences.append(f"the state of the schedule at {place} cannot be used: {error}")
    return differences


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _copied(optimizer: Configured, param: torch.Tensor, state: Mapping[str, Any]) -> dict[str, Any]:
    names = optimizer.rule.slot_names
    rows = empty_rows(param, COMPUTED_IN[param.dtype], len(names))
    for row, name in zip(rows, names, strict=True):
        put(row, state[name])
    numbers = {name: state[name] for name in optimizer.rule.carried_names}
    return {"step": state["step"], **dict(zip(names, rows, strict=True)), **numbers}


# The snapshot of all backends


def take(optimizer: Configured) -> OptimizerSnapshot:
    """A snapshot.

    Raises:
        OptimizerError: the parameters have no names, or have not made the same number of steps.
    """
    twin, rows = _twin(optimizer)
    listing = optimizer._listing()
    steps = {label: optimizer.state[p]["step"] if optimizer.state.get(p) else 0 for p, label, _ in listing}
    if len(set(steps.values())) > 1:
        least, most = min(steps, key=steps.__getitem__), max(steps, key=steps.__getitem__)
        raise OptimizerError(
            f"{optimizer.name}: {least!r} has made {steps[least]} steps and {most!r} {steps[most]}; a snapshot has one "
            "count for all parameters. state_dict() keeps one for each"
        )
    twin._updates = next(iter(steps.values()))
    rule, names = optimizer.rule, optimizer.rule.carried_names
    start = tuple(rule.carried()) if rule.carried else ()
    carried: dict[int, tuple[float, ...]] = {}
    for (param, label, group), parameter in zip(listing, twin._parameters, strict=True):
        state = optimizer.state.get(param)
        if state:
            parameter.set_slots({name: as_numpy(state[name]) for name in rule.slot_names})
            numbers = tuple(state[name] for name in names)
            if carried.setdefault(rows[group], numbers) != numbers:
                raise OptimizerError(f"{optimizer.name}: {label!r} has another past than the others of its group")
        if optimizer._micro:
            given = optimizer._gathered.get(param)
            parameter.accumulate(np.zeros(parameter.shape) if given is None else as_numpy(given), first=True)
    if names:
        twin._carried = np.array([carried.get(row, start) for row in range(len(twin.groups) + 1)], np.float64)
    twin._skipped, twin._zeroed, twin._micro = optimizer._skipped, optimizer._zeroed, optimizer._micro
    persistence.set_counts(twin.optimization_state, optimizer._optimization_state.get_config())
    return twin.state()


def restore(optimizer: Configured, snapshot: OptimizerSnapshot) -> None:
    """Put a snapshot in place.

    Raises:
        StateMismatchError: it does not fit; nothing was changed.
        OptimizerError: the parameters have no names.
    """
    twin, rows = _twin(optimizer)
    twin.restore(snapshot)
    differences = persistence.arrays_among([twin.hyperparameters, *(group.settings for group in twin.groups)])
    if differences:
        raise mismatch(differences, "saved state")
    # Nothing below can fail.
    rule = optimizer.rule
    optimizer._settings = twin.hyperparameters
    for pattern, group in zip(reversed(optimizer._patterns), reversed(twin.groups), strict=False):
        pattern.settings.clear()
        pattern.settings.update(group.settings)
    tables = [twin.hyperparameters, *({**twin.hyperparameters, **group.settings} for group in twin.groups)]
    for index, table in enumerate(optimizer.param_groups):
        values = tables[rows[index]]
        optimizer._scheduled[index] = {name: value for name, value in values.items() if callable(value)}
        counts = OptimizationState(**twin.optimization_state.get_config())
        present = optimizer._spelling.read(optimizer._spelling.shown(values), {}, counts, optimizer.name)
        table.update(optimizer._spelling.shown(present._asdict()))
    carried = twin._carried_numbers()
    optimizer.state.clear()
    for (param, _, group_index), parameter in zip(optimizer._listing(), twin._parameters, strict=True):
        if twin._updates:
            slots = {name: torch.from_numpy(array) for name, array in parameter.slots().items()}
            row = [] if carried is None else carried[rows[group_index]].tolist()
            state = {"step": twin._updates, **slots, **dict(zip(rule.carried_names, row, strict=True))}
            optimizer.state[param] = _copied(optimizer, param, state)
    optimizer._gathered = {
        param: torch.from_numpy(np.array(parameter.accumulated)).to(param.device)
        for (param, _, _), parameter in zip(optimizer._listing(), twin._parameters, strict=True)
        if twin._micro and parameter.accumulated is not None
    }
    optimizer._skipped, optimizer._zeroed, optimizer._micro = twin._skipped, twin._zeroed, twin._micro
    persistence.set_counts(optimizer._optimization_state, twin.optimization_state.get_config())


def _twin(optimizer: Configured) -> tuple[LocalOptimizer, list[int]]:
    """A ``LocalOptimizer`` with the same settings and no steps, and for each param group its group there (0: none)."""
    if not all("param_names" in group for group in optimizer.param_groups):
        raise OptimizerError(
            f"{optimizer.name}: a snapshot is by name, and the parameters have none; make the optimizer of "
            "model.named_parameters(), or use state_dict()"
        )
    base, tables, rows = _tables(optimizer)
    kind = type("Twin", (LocalOptimizer,), {"rule": optimizer._base_rule, "__doc__": "See _twin."})
    variables = []
    for param, label, _ in optimizer._listing():
        data = (
            np.zeros(param.shape, AS_NUMPY[COMPUTED_IN[param.dtype]]) if optimizer.state.get(param) else as_numpy(param)
        )
        variables.append(Variable(data, name=label, needs_grad=True))
    twin: LocalOptimizer = kind(
        variables,
        convention=optimizer._convention,
        groups=tables,
        wrap=optimizer._wrap,
        accumulate=optimizer._accumulate,
        nonfinite=optimizer._nonfinite,
        process_grad=optimizer._process_grad.hook,
        process_model=optimizer._process_model.hook,
        **optimizer.rule.chosen,
        **base,
    )
    return twin, rows


def _tables(optimizer: Configured) -> tuple[dict[str, Scheduled], list[dict[str, Any]], list[int]]:
    """The settings of all parameters, the groups that differ from them, and for each param group its place there.

    A param group is the recipe's group of its origin. One with settings of its own is a group of its parameters' names.
    """
    values = [_values(optimizer, index) for index in range(len(optimizer.param_groups))]
    usual: dict[int, int] = {}
    for index, origin in enumerate(optimizer._origins):
        if not optimizer._explicit[index]:
            usual.setdefault(origin, index)
    base = values[usual[0]] if 0 in usual else optimizer._settings
    own: list[dict[str, Any]] = []
    rows: list[int | None] = []
    for index, group in enumerate(optimizer.param_groups):
        origin, explicit = optimizer._origins[index], optimizer._explicit[index]
        if not explicit and values[index] == values[usual[origin]]:
            rows.append(None)
            continue
        settings = {n: v for n, v in values[index].items() if n in explicit or v != base[n]}
        own.append({"variables": [glob.escape(name) for name in group["param_names"]], **settings})
        rows.append(len(own))
    tables = list(own)
    for number, pattern in enumerate(optimizer._patterns, start=1):
        present = values[usual[number]] if number in usual else {**base, **pattern.settings}
        settings = {n: v for n, v in present.items() if n in pattern.settings or v != base[n]}
        tables.append({"variables": list(pattern.variables), **settings})
    places = [row if row is not None else (o and len(own) + o) for row, o in zip(rows, optimizer._origins, strict=True)]
    return base, tables, places


def _values(optimizer: Configured, index: int) -> dict[str, Scheduled]:
    """The hyperparameters of a param group: numbers as they are now, and schedules."""
    group, scheduled = optimizer.param_groups[index], optimizer._scheduled[index]
    present = optimizer._spelling.read(group, scheduled, optimizer._optimization_state, optimizer.name)
    return {**present._asdict(), **scheduled}
