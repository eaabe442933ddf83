"""A schedule from the table that a study file or saved state has for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thalweg.errors import HyperparameterError
from thalweg.rules.calling import fault
from thalweg.rules.spelling import unknown
from thalweg.schedules.base import Schedule


def build_schedule(table: Mapping[str, Any], registry: Mapping[str, type[Schedule]]) -> Schedule:
    """A schedule from a table such as ``{"kind": "exp", "initial": 10, "gamma": 0.9}``.

    Args:
        table: the kind and the parameters. A table among them is a schedule, too, also inside a list.
        registry: the known kinds.

    Returns:
        The schedule.

    Raises:
        HyperparameterError: an unknown kind or parameter (naming the nearest), a missing one, or a value out
            of range; a note says which nested schedule it is about.

    Example:
        >>> from thalweg.schedules import registry
        >>> from thalweg.schedules.building import build_schedule
        >>> build_schedule({"kind": "chain", "factors": [{"kind": "fixed", "initial": 2.0}, 0.5]}, registry)
        Chain(factors=(Fixed(initial=2.0), Fixed(initial=0.5)))
    """
    if not isinstance(table, Mapping):
        raise HyperparameterError(
            f"a schedule's table is {table!r}; give one such as {{'kind': 'fixed', 'initial': 1}}"
        )
    parameters = dict(table)
    if "kind" not in parameters:
        raise HyperparameterError(
            f"a schedule's table has no 'kind'; it is one of {', '.join(sorted(registry))}", name="kind"
        )
    kind = parameters.pop("kind")
    if not isinstance(kind, str) or kind not in registry:
        raise unknown("schedule", str(kind), registry)
    cls = registry[kind]
    wrong = fault(cls, (), parameters)
    if wrong is not None:
        raise wrong
    return cls(**{name: _built(value, f"{name} of schedule {kind!r}", registry) for name, value in parameters.items()})


def _built(value: Any, place: str, registry: Mapping[str, type[Schedule]]) -> Any:
    """A parameter's value, with the tables in it made schedules."""
    if isinstance(value, list | tuple):
        return [_built(item, f"{place}, item {index}", registry) for index, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    try:
        return build_schedule(value, registry)
    except HyperparameterError as error:
        error.add_note(f"that is {place}")
        raise
