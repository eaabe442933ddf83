"""Which group of a saved state is which group here: told by the variables that they hold, however they were written."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from thalweg.optimizers.groups import Group, fits
from thalweg.optimizers.settings import Scheduled, alike, place_name

if TYPE_CHECKING:
    from thalweg.optimizers.persistence import Settled


class Match(NamedTuple):
    """The saved groups, counted from 1, that are those here.

    Args:
        pairs: for each group here the saved one; 0 where it has what the saved optimizer itself had, ``None`` where it
            holds no variable and stays as it is.
        rows: for the optimizer's own variables, and for each group, the saved groups (0 for none) that these were in.
    """

    pairs: tuple[int | None, ...]
    rows: tuple[tuple[int, ...], ...]


def match(
    groups: Sequence[Group], here: Mapping[str, int], tables: Sequence[Mapping[str, Any]], names: Iterable[str]
) -> Match | list[str]:
    """Compare groups by their members.

    A group that sets nothing is none to others: its variables have the optimizer's own hyperparameters. Without
    variables (an updater's optimizer has none) groups are compared as they were written.

    Args:
        groups: the groups here.
        here: the variables here, each with the number of its group, counted from 1; 0 for none.
        tables: the saved groups.
        names: the saved variables.

    Returns:
        The match; or else the variables that are in another group than they were.
    """
    if not here:
        if [list(group.variables) for group in groups] != [table.get("variables") for table in tables]:
            return []
        numbers = tuple(range(1, len(groups) + 1))
        return Match(numbers, tuple((k,) for k in (0, *numbers)))
    there = {name: _place(tables, name) for name in dict.fromkeys([*here, *names])}
    sets = [False, *(set(table) != {"variables"} for table in tables)]
    pairs: list[int | None] = []
    strange = [name for name, place in there.items() if here.get(name, 0) == 0 and sets[place]]
    for number, group in enumerate(groups, start=1):
        members = [name for name, place in here.items() if place == number]
        sources = {there[name] for name in members}
        one = sources.pop() if len(sources) == 1 else 0
        if not members:
            pairs.append(_unused(group, tables, {*there.values(), *pairs}))
        elif one and [name for name, place in there.items() if place == one] == members:
            pairs.append(one)
        else:
            pairs.append(0)
            strange += [name for name in members if group.settings or sets[there[name]]]
    if strange:
        return list(dict.fromkeys(strange))
    held = [sorted({there[name] for name, place in here.items() if place == k}) for k in range(len(groups) + 1)]
    return Match(tuple(pairs), tuple(tuple(row or [one or 0]) for row, one in zip(held, (0, *pairs), strict=True)))


def completed(settled: Settled, here: Sequence[Mapping[str, Scheduled]], differences: list[str]) -> Settled:
    """A snapshot that fits, for a compiled step, in which each group sets what it did when that was made.

    Args:
        settled: the snapshot; what it has of the optimizer itself is put where a saved group said nothing.
        here: what the groups set here.
        differences: told what cannot be.

    Returns:
        It, with groups that set what they set here, as it was saved.
    """
    settings, states, found = settled.settings, dict(settled.schedules), []
    for number, (saved, mine) in enumerate(zip(settled.groups, here, strict=True)):
        own = {**saved, **{name: settings[name] for name in mine if name not in saved}}
        told = {name: states.pop(place_name(number + 1, name), None) for name in own if name not in mine}
        differences += [
            _cannot(number, name, saved.get(name))
            for name, value in own.items()
            if (name in told and not (alike(value, settings[name]) and told[name] == states.get(name)))
            or (name not in saved and (callable(value) or callable(mine[name])))
        ]
        found.append({name: own[name] for name in mine})
    return replace(settled, groups=found, schedules=states)


def _cannot(number: int, name: str, saved: Scheduled | None) -> str:
    """What a compiled step cannot set in a group, and what to do."""
    if saved is None:
        return (
            f"group {number} (from 0) did not set {name}, and here it does, which a compiled step cannot change where "
            "one is a schedule: leave it out of this group, as the saved optimizer did"
        )
    instead = f"its schedule, {saved!r}" if callable(saved) else "a number, whose value comes with the state"
    return (
        f"group {number} (from 0) set {name}, and here it does not, which a compiled step cannot change: make the "
        f"optimizer with {name} in this group, too, {instead}"
    )


def _place(tables: Sequence[Mapping[str, Any]], name: str) -> int:
    """The first saved group that holds a variable of this name, or 0."""
    held = (k for k, table in enumerate(tables, start=1) if any(fits(name, one) for one in _patterns(table)))
    return next(held, 0)


def _patterns(table: Mapping[str, Any]) -> list[str]:
    patterns = table.get("variables")
    return [one for one in patterns if isinstance(one, str)] if isinstance(patterns, list) else []


def _unused(group: Group, tables: Sequence[Mapping[str, Any]], taken: Container[int | None]) -> int | None:
    """The saved group of the same words as one here that holds no variable, if that held none either."""
    known = (k for k, table in enumerate(tables, start=1) if table.get("variables") == list(group.variables))
    return next((k for k in known if k not in taken), None)
