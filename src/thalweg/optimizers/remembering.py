"""Schedules that remember what they were told, who is told what, and saved states fitted to the schedules here. ::

one schedule in two places, also inside another   →   it is told each metric once
one schedule in two places, two saved states      →   a copy for the second place
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from thalweg.errors import StateMismatchError
from thalweg.optimizers.settings import Scheduled, remembered
from thalweg.schedules import Schedule


def following(values: Iterable[Scheduled]) -> list[Schedule]:
    """The schedules that are to be told a metric, each once wherever it is.

    Args:
        values: hyperparameters.

    Returns:
        Those that follow a metric, also inside others; and those that say for themselves what ``observe`` does.

    Example:
        >>> from thalweg.optimizers.remembering import following
        >>> from thalweg.schedules import Chain, Plateau
        >>> one = Plateau(1.0)
        >>> following([0.5, one, Chain([one, 2.0])]) == [one]
        True
    """
    found: dict[int, Schedule] = {}
    for value in values:
        if isinstance(value, Schedule):
            parts = value._with_state() if type(value).observe is Schedule.observe else [value]
            found |= {id(part): part for part in parts}
    return list(found.values())


def fitted(places: Mapping[str, Any], states: Any, differences: list[str]) -> dict[str, Schedule]:
    """Try saved states on copies of the schedules that they are for.

    Args:
        places: hyperparameters by where they are.
        states: the saved states by the places of their schedules.
        differences: told what is missing, or cannot be used.

    Returns:
        Copies for the places that share a schedule with another one and whose state was another; it is as it was.

    Example:
        >>> from thalweg.optimizers.remembering import fitted
        >>> from thalweg.schedules import Plateau
        >>> one, state = Plateau(1.0, patience=0), Plateau(1.0, patience=0).state()
        >>> list(fitted({"a": one, "b": one}, {"a": state | {"factor": 0.5}, "b": state}, []))
        ['b']
    """
    states = states if isinstance(states, dict) else {}
    differences += [
        f"missing: the state of the schedule at {place}"
        for place, value in places.items()
        if remembered(value) and place not in states
    ]
    strange = [place for place in states if not isinstance(places.get(place), Schedule)]
    differences += [f"unexpected: the state of a schedule at {place}, where there is none" for place in strange]
    states = {place: state for place, state in states.items() if place not in strange}
    tried = copy.deepcopy({place: value for place, value in places.items() if place in states})
    for place in reversed(states):  # of places that share one, the first keeps it
        try:
            tried[place].restore(states[place])
        except (KeyError, AttributeError, StateMismatchError) as error:
            differences.append(f"the state of the schedule at {place} cannot be used: {error}")
    others = (place for place, value in tried.items() if remembered(value) != states[place])
    return {place: copy.deepcopy(places[place]) for place in others}
