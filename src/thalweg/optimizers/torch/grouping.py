"""PyTorch's param groups as groups of a ``LocalOptimizer``, found by the parameters' names."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from thalweg.optimizers.groups import fits
from thalweg.optimizers.settings import Scheduled, same
from thalweg.optimizers.snapshot import OptimizerSnapshot

if TYPE_CHECKING:
    from thalweg.optimizers.torch.configured import ConfiguredTorchOptimizer as Configured


class Grouping(NamedTuple):
    """What a ``LocalOptimizer`` is given, and where param groups are in it. Those without parameters are nowhere.

    Args:
        base: the optimizer's own hyperparameters.
        tables: its groups, each with ``variables``.
        rows: for each param group its group there, from 1; 0 for none.
        patterns: the same for each of the recipe's groups.
    """

    base: Mapping[str, Scheduled]
    tables: list[dict[str, Any]]
    rows: list[int]
    patterns: list[int]


def as_it_is(optimizer: Configured) -> Grouping:
    """The groups that differ: a param group with settings of its own is one, others are the recipe's of their origin.

    Args:
        optimizer: the optimizer; its parameters have names.

    Returns:
        The groups.
    """
    values, usual = _values(optimizer), _usual(optimizer)
    base = values[usual[0]] if 0 in usual else optimizer._settings
    own: list[dict[str, Any]] = []
    rows: list[int | None] = []
    for index, group in enumerate(optimizer.param_groups):
        origin, explicit = optimizer._origins[index], optimizer._explicit[index]
        if not group["params"] or (not explicit and _alike(values[index], values[usual[origin]])):
            rows.append(None if group["params"] else 0)
            continue
        settings = {n: v for n, v in values[index].items() if n in explicit or not same(v, base[n])}
        own.append({"variables": _exactly(optimizer, [index]), **settings})
        rows.append(len(own))
    tables = list(own)
    for number, pattern in enumerate(optimizer._patterns, start=1):
        present = values[usual[number]] if number in usual else {**base, **pattern.settings}
        settings = {n: v for n, v in present.items() if n in pattern.settings or not same(v, base[n])}
        tables.append({"variables": list(pattern.variables), **settings})
    patterns = [len(own) + number for number in range(1, len(optimizer._patterns) + 1)]
    places = [0, *patterns]
    found = [places[o] if row is None else row for row, o in zip(rows, optimizer._origins, strict=True)]
    return Grouping(base, tables, found, patterns)


def as_saved(optimizer: Configured, snapshot: OptimizerSnapshot) -> Grouping | None:
    """The groups of a snapshot, put together of param groups.

    A param group with settings of its own, and one of the recipe's groups, stays a group. Those beside them may have
    been alike when the snapshot was taken, or apart because a scheduler had moved some.

    Args:
        optimizer: the optimizer; its parameters have names.
        snapshot: the snapshot.

    Returns:
        The groups; ``None`` if they cannot be put together so.
    """
    words = _words(snapshot)
    parts: dict[int, list[int]] = {}
    for index, group in enumerate(optimizer.param_groups):
        places = {_place(words, name) for name in group["param_names"]}
        if len(places) > 1:
            return None
        for place in places:
            parts.setdefault(place, []).append(index)
    if not all(_belong(optimizer, place, indices) for place, indices in parts.items()):
        return None
    values, usual = _values(optimizer), _usual(optimizer)
    of_none = [index for index in parts.get(0, ()) if not optimizer._origins[index]]
    if 0 in usual and not of_none:
        return None
    base = values[of_none[0]] if of_none else optimizer._settings
    several = [indices for place, indices in sorted(parts.items()) if place]
    tables = [{"variables": _exactly(optimizer, indices), **values[indices[0]]} for indices in several]
    rows = [0] * len(optimizer.param_groups)
    for number, indices in enumerate(several, start=1):
        for index in indices:
            rows[index] = number
    patterns = []
    for number, pattern in enumerate(optimizer._patterns, start=1):
        if number not in usual:  # it has no parameter any more, and is matched by its words
            tables.append({"variables": list(pattern.variables), **pattern.settings})
        patterns.append(rows[usual[number]] if number in usual else len(tables))
    return Grouping(base, tables, rows, patterns)


def _belong(optimizer: Configured, place: int, indices: Sequence[int]) -> bool:
    """Whether param groups can be one group of a snapshot, or (0) those of none."""
    origins = {optimizer._origins[index] for index in indices}
    explicit = any(optimizer._explicit[index] for index in indices)
    if place:
        return len(indices) == 1 or (len(origins) == 1 and not explicit)
    return not explicit and not any(optimizer._patterns[origin - 1].settings for origin in origins if origin)


def _usual(optimizer: Configured) -> dict[int, int]:
    """For each of the recipe's groups (0: none) the first of its param groups without settings of their own."""
    usual: dict[int, int] = {}
    for index, origin in enumerate(optimizer._origins):
        if not optimizer._explicit[index] and optimizer.param_groups[index]["params"]:
            usual.setdefault(origin, index)
    return usual


def _exactly(optimizer: Configured, indices: Sequence[int]) -> list[str]:
    """Patterns for the names of param groups."""
    return [glob.escape(name) for index in indices for name in optimizer.param_groups[index]["param_names"]]


def _words(snapshot: Any) -> list[list[str]]:
    """The names and patterns of a snapshot's groups; none where it is malformed, which is refused elsewhere."""
    tables = snapshot.meta.get("groups") if isinstance(snapshot, OptimizerSnapshot) else None
    words = [table.get("variables") for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []
    known = [one for one in words if isinstance(one, list) and all(isinstance(name, str) for name in one)]
    return known if known == words else []


def _place(words: Sequence[Sequence[str]], name: str) -> int:
    """The first of several groups that holds a name, from 1; 0 for none."""
    return next((k for k, one in enumerate(words, start=1) if any(fits(name, pattern) for pattern in one)), 0)


def _alike(one: Mapping[str, Scheduled], other: Mapping[str, Scheduled]) -> bool:
    return all(same(value, other[name]) for name, value in one.items())


def _values(optimizer: Configured) -> list[dict[str, Scheduled]]:
    """For each param group its hyperparameters: numbers and arrays as they are now, and schedules."""
    found = []
    for group, scheduled in zip(optimizer.param_groups, optimizer._scheduled, strict=True):
        present = optimizer._spelling.read(group, scheduled, optimizer._optimization_state, optimizer.name)
        found.append({**present._asdict(), **scheduled})
    return found
