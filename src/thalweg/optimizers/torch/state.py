"""The state of a PyTorch optimizer as PyTorch's ``state_dict``."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thalweg.errors import HyperparameterError
from thalweg.lowering.torch import COMPUTED_IN, empty_rows, put
from thalweg.optimizers import persistence
from thalweg.optimizers.entries import alike, compared, counts_in, is_count, shown, state_in
from thalweg.optimizers.parameters import mismatch
from thalweg.optimizers.remembering import fitted
from thalweg.optimizers.settings import Scheduled, remembered, to_config
from thalweg.optimizers.telling import level_of_user
from thalweg.optimizers.torch.groups import OF_SCHEDULERS
from thalweg.rules.elementwise import refuse_other_shapes
from thalweg.schedules import OptimizationState

if TYPE_CHECKING:
    from thalweg.optimizers.torch.configured import ConfiguredTorchOptimizer as Configured

KEY = "thalweg"
"""Where the first param group of a ``state_dict`` has what PyTorch knows nothing of.

Beside ``param_groups`` it would be lost: ``torch.distributed.checkpoint`` passes on states and param groups only.
"""


_RECIPE = "recipe"
_HOOKS = ("process_grad", "process_model")  # of which what was saved at first says nothing


def packed(optimizer: Configured) -> dict[str, Any]:
    """The state in PyTorch's form, before its hooks: by the parameters' numbers; ours is in the first param group."""
    numbers = {param: number for number, (param, _, _) in enumerate(optimizer._listing())}
    state = {numbers[key] if isinstance(key, torch.Tensor) else key: one for key, one in optimizer.state.items()}
    for param, gathered in optimizer._gathered.items():
        state[numbers[param]] = {**state.get(numbers[param], {}), "accumulated": gathered}
    ours = {*optimizer._spelling.keys, *OF_SCHEDULERS}  # another key is the user's, and stays as it is
    groups: list[dict[str, Any]] = [
        {
            **{key: _as_tensors(value) if key in ours else value for key, value in table.items()},
            "params": [numbers[param] for param in table["params"]],
        }
        for table in optimizer.param_groups
    ]
    groups[0][KEY] = describe(optimizer)
    return {"state": state, "param_groups": groups}


def _as_tensors(value: Any) -> Any:
    """Arrays of hyperparameters as tensors, which ``torch.load`` takes unasked."""
    if isinstance(value, tuple):
        return tuple(map(_as_tensors, value))
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def _as_arrays(group: dict[str, Any]) -> None:
    """Put arrays in place of the tensors that schedulers' numbers had become in a ``state_dict``."""
    for key in OF_SCHEDULERS:
        if isinstance(group.get(key), torch.Tensor) and group[key].ndim:
            group[key] = group[key].numpy()


def describe(optimizer: Configured) -> dict[str, Any]:
    """Rule, counts and schedules of an optimizer."""
    return {
        "rule": optimizer.rule.name,
        "form": dict(optimizer.rule.chosen),
        "wrap": list(optimizer._wrap),
        "accumulate": optimizer._accumulate,
        "optimization_state": optimizer._optimization_state.get_config(),
        "skipped": optimizer._skipped,
        "zeroed": optimizer._zeroed,
        "micro": optimizer._micro,
        "schedules": {place: to_config(value) for place, value in _followed(optimizer).items()},
        "schedule_states": {
            place: state for place, value in everywhere(optimizer).items() if (state := remembered(value))
        },
        "process_grad": optimizer._process_grad.get_config(),
        "process_model": optimizer._process_model.get_config(),
    }


def described(saved: Any) -> Any:
    """What :func:`describe` said, in a ``state_dict``; ``None`` where there is nothing."""
    try:
        return saved["param_groups"][0][KEY] if "state" in saved else None
    except (KeyError, IndexError, TypeError):
        return None


def prepared(optimizer: Configured, given: Any) -> Any:
    """What the hooks of ``register_load_state_dict_pre_hook`` make of a ``state_dict``: that is what is loaded.

    Args:
        optimizer: whose hooks they are.
        given: the ``state_dict``; as with PyTorch they get a copy of the outermost table.

    Returns:
        What the last of them returned, or changed in place.
    """
    saved = dict(given) if isinstance(given, Mapping) else given
    for hook in optimizer._optimizer_load_state_dict_pre_hooks.values():
        found = hook(optimizer, saved)
        saved = saved if found is None else found
    return saved


def check(optimizer: Configured, saved: Any) -> None:
    """Refuse a ``state_dict`` that does not fit, changing nothing.

    Raises:
        StateMismatchError: listing every difference.
    """
    ours = described(saved)
    if not isinstance(ours, Mapping):
        raise mismatch([f"it has no {KEY!r}: it is of another optimizer than ours"], "state_dict")
    here = describe(optimizer)
    if not alike(ours.get("rule"), here["rule"]):
        raise mismatch([f"rule was {ours.get('rule')}, here it is {here['rule']}"], "state_dict")
    if malformed := _malformed(saved, ours):
        raise mismatch(malformed, "state_dict")
    differences = compared(f"{KEY}.", ours, [name for name in here if name not in _HOOKS], _HOOKS)
    differences += [
        f"{what} was {ours[what]!r}, here it is {here[what]!r}"
        for what in ("form", "wrap", "accumulate", "schedules")
        if what in ours and not alike(ours[what], here[what])
    ]
    differences += [
        f"{hook} was {ours[hook]}, here it is {here[hook]}: hand in the same one"
        for hook in _HOOKS
        if hook in ours and not alike(ours[hook], here[hook])
    ]
    of_groups = _check_groups(optimizer, saved["param_groups"])
    differences += of_groups
    if not of_groups:
        params = _by_id(optimizer, saved)
        for key, state in saved["state"].items():
            if key in params:
                differences += _check_state(optimizer, *params[key], state)
            else:
                differences.append(f"state of a parameter {key!r}, which there is not")
    differences += _check_counts(optimizer, ours)
    if differences:
        raise mismatch(differences, "state_dict")


def _malformed(saved: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """What is of another type than PyTorch and we write."""
    groups, states = saved["param_groups"], saved["state"]
    if not isinstance(groups, list | tuple) or not all(isinstance(group, Mapping) for group in groups):
        return [f"param_groups is {groups!r}, no list of tables"]
    faults = [
        f"{key} of param group {index} is {group.get(key)!r}, no list"
        for index, group in enumerate(groups)
        for key in ("params", *(["param_names"] if "param_names" in group else []))
        if not isinstance(group.get(key), list | tuple)
    ]
    tables = {"state": states, "schedule_states": ours.get("schedule_states")}
    if isinstance(states, Mapping):
        tables |= {f"the state of parameter {key!r}": state for key, state in states.items()}
    faults += [f"{what} is {table!r}, no table" for what, table in tables.items() if not isinstance(table, Mapping)]
    ids = [] if faults else [key for group in groups for key in group["params"]]
    if not all(isinstance(key, int | str) for key in ids) or len(set(ids)) < len(ids):
        faults.append(f"params of all param groups are {ids}, not numbers or names, each once")
    return faults


def load(optimizer: Configured, saved: Mapping[str, Any]) -> None:
    """Put the state of a ``state_dict`` that was checked in place: copies, in the state's own dtypes."""
    ours, params = described(saved), _by_id(optimizer, saved)
    tables = [_table(optimizer, *pair) for pair in zip(optimizer.param_groups, saved["param_groups"], strict=True)]
    optimizer.param_groups = tables  # others than before, as PyTorch has it
    optimizer.state.clear()
    optimizer._gathered = {}
    for key, state in saved["state"].items():
        param, _ = params[key]
        if "step" in state:
            optimizer.state[param] = copied(optimizer, param, state)
        if "accumulated" in state:
            optimizer._gathered[param] = state["accumulated"].to(param.device, copy=True)
    optimizer._skipped, optimizer._zeroed, optimizer._micro = ours["skipped"], ours["zeroed"], ours["micro"]
    persistence.set_counts(optimizer._optimization_state, ours["optimization_state"])
    places, states = _remembering(optimizer, ours["schedule_states"])
    for place, copy_ in fitted(places, states, []).items():
        table, _, name = place.rpartition(".")
        _tables(optimizer)[table][name] = copy_
    places = everywhere(optimizer)
    for place, state in states.items():
        places[place].restore(state)  # type: ignore[union-attr]


def _table(optimizer: Configured, present: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """A param group as it was saved, with the parameters that it has here, and their names."""
    own = {key: present[key] for key in ("params", "param_names") if key in present}
    table = copy.deepcopy({key: value for key, value in saved.items() if key not in ("params", "param_names", KEY)})
    optimizer._spelling.read(table, {}, optimizer._optimization_state, optimizer.name)  # tensors become arrays
    _as_arrays(table)
    return {**own, **table}


def _by_id(optimizer: Configured, saved: Mapping[str, Any]) -> dict[Any, tuple[torch.Tensor, str]]:
    """The parameters with their names by what a ``state_dict`` calls them: the ids in its groups, in order."""
    ids = (key for group in saved["param_groups"] for key in group["params"])
    return {key: (param, label) for key, (param, label, _) in zip(ids, optimizer._listing(), strict=True)}


def _tables(optimizer: Configured) -> dict[str, dict[str, Scheduled]]:
    """Where there may be schedules: the param groups, and the recipe, which param groups to come will follow."""
    return {
        **{str(index): table for index, table in enumerate(optimizer._scheduled)},
        _RECIPE: optimizer._settings,
        **{f"{_RECIPE}.{index}": group.settings for index, group in enumerate(optimizer._patterns)},
    }


def everywhere(optimizer: Configured) -> dict[str, Scheduled]:
    """The schedules of param groups, and the hyperparameters of the recipe, by where they are."""
    tables = _tables(optimizer)
    return {f"{where}.{name}": value for where, table in tables.items() for name, value in table.items()}


def _followed(optimizer: Configured) -> dict[str, Scheduled]:
    """The schedules that param groups follow, by where they are."""
    return {place: value for place, value in everywhere(optimizer).items() if not place.startswith(_RECIPE)}


def _remembering(optimizer: Configured, states: Mapping[Any, Any]) -> tuple[dict[str, Scheduled], dict[Any, Any]]:
    """The schedules that saved states have to fit, and those states.

    Of the recipe's only what is on both sides counts: earlier versions did not save it, and nobody may follow it.
    """
    places = everywhere(optimizer)
    of_recipe = {place for place, value in places.items() if place.startswith(_RECIPE) and remembered(value)}
    kept = {p: state for p, state in states.items() if p in of_recipe or not str(p).startswith(_RECIPE)}
    return {p: v for p, v in places.items() if p in kept or not p.startswith(_RECIPE)}, kept


def _check_groups(optimizer: Configured, saved: Sequence[Mapping[str, Any]]) -> list[str]:
    here = optimizer.param_groups
    sizes, those = [len(g["params"]) for g in here], [len(g["params"]) for g in saved]
    if sizes != those:
        return [f"param groups were of {those} parameters, here they are of {sizes}"]
    differences = []
    for index, (group, other) in enumerate(zip(here, saved, strict=True)):
        names, others = group.get("param_names"), other.get("param_names")
        if names is not None and others is not None and not alike(list(others), list(names)):
            differences.append(f"param group {index} was of {list(others)}, here it is of {list(names)}")
        try:
            optimizer._spelling.check_keys(other)
            hyper = optimizer._spelling.read(dict(other), {}, OptimizationState(), optimizer.name)
            for place, param in enumerate(group["params"]):
                refuse_other_shapes(optimizer.name, hyper._asdict(), param.shape, optimizer._label(index, place))
        except (HyperparameterError, KeyError) as error:
            differences.append(f"param group {index}: {error}")
    return differences


def tell_by_position(optimizer: Configured, saved: Mapping[str, Any]) -> None:
    """Say that parameters are paired in their order, as PyTorch does, where only one of the two has their names.

    Args:
        optimizer: the optimizer.
        saved: a state dictionary that fits.
    """
    for index, (group, other) in enumerate(zip(optimizer.param_groups, saved["param_groups"], strict=True)):
        missing = [
            who for who, one in (("what was saved", other), ("the optimizer", group)) if "param_names" not in one
        ]
        if len(missing) == 1 and group["params"]:
            warnings.warn(
                f"{optimizer.name}: {missing[0]} has no names of parameters for param group {index}, so they are "
                "paired in their order, and nothing tells whether that is the same; with named_parameters() on both "
                "sides it is checked",
                stacklevel=level_of_user(),
            )
            return


def _check_state(optimizer: Configured, param: torch.Tensor, label: str, state: Mapping[str, Any]) -> list[str]:
    rule, kind = optimizer.rule, COMPUTED_IN[param.dtype]
    expected = {"step", *rule.slot_names, *rule.carried_names}
    known, added = set(state) - {"accumulated"}, persistence.NEW_NUMBERS & set(rule.carried_names)
    if known and known.isdisjoint(added):  # of a version without them
        known |= added
    if known and known != expected:
        return [f"the state of {label!r} was {sorted(map(str, known))}, here it is {sorted(expected)}"]
    differences = []
    for name in [name for name in (*rule.slot_names, "accumulated") if name in state]:
        slot = state[name]
        if torch.masked.is_masked_tensor(slot):
            differences.append(
                f"{name} of {label!r} is a masked tensor, and state has a value everywhere: give its data"
            )
        elif not isinstance(slot, torch.Tensor) or slot.shape != param.shape or slot.dtype != kind:
            got = f"{tuple(slot.shape)} {slot.dtype}" if isinstance(slot, torch.Tensor) else repr(slot)
            differences.append(f"{name} of {label!r} is {got}, here {tuple(param.shape)} {kind}")
    numbers = [state.get(name, 0.0) for name in rule.carried_names if known]
    if known and not (is_count(state["step"]) and all(isinstance(n, float) and np.isfinite(n) for n in numbers)):
        differences.append(
            f"step and numbers of {label!r} are {shown(state['step'])} and {numbers}, no count and no numbers"
        )
    return differences


def _check_counts(optimizer: Configured, ours: Mapping[str, Any]) -> list[str]:
    differences: list[str] = []
    counts = counts_in(ours, ("skipped", "zeroed", "micro"), differences)
    if counts["micro"] >= optimizer._accumulate:
        differences.append(f"micro is {counts['micro']}, and a step is made of {optimizer._accumulate} gradients")
    state_in(ours.get("optimization_state"), differences)
    fitted(*_remembering(optimizer, ours["schedule_states"]), differences)
    return differences


def copied(optimizer: Configured, param: torch.Tensor, state: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's state with tensors of its own, beside the parameter.

    Args:
        optimizer: whose it is.
        param: the parameter.
        state: ``step``, the rule's slots, and its numbers; those of a later version may be missing.

    Returns:
        What ``optimizer.state`` has for it.
    """
    names = optimizer.rule.slot_names
    rows = empty_rows(param, COMPUTED_IN[param.dtype], len(names))
    for row, name in zip(rows, names, strict=True):
        put(row, state[name])
    numbers = {name: state.get(name, 0.0) for name in optimizer.rule.carried_names}
    return {"step": state["step"], **dict(zip(names, rows, strict=True)), **numbers}
