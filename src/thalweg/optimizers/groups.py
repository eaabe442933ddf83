"""Groups of variables with hyperparameters of their own, found by the variables' names."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from thalweg.errors import HyperparameterError
from thalweg.optimizers.settings import Scheduled, checked, from_config, refuse_late, set_and_tell, to_config
from thalweg.rules.base import Rule
from thalweg.rules.spelling import unknown
from thalweg.schedules import OptimizationState


class Group:
    """Variables that share hyperparameters, where these differ from the optimizer's.

    Args:
        rule: the rule whose hyperparameters they are.
        variables: names, or patterns such as ``"*.bias"``.
        settings: the hyperparameters that differ: numbers or schedules.
        state: the counts that schedules follow.
        changed: called after a hyperparameter was set.
        begun: whether the optimizer's state has started.

    Raises:
        HyperparameterError: a hyperparameter is unknown or out of its range.

    Example:
        >>> import numpy as np
        >>> import thalweg as tw
        >>> w = tw.Variable(np.ones(2), name="w", needs_grad=True)
        >>> b = tw.Variable(np.ones(2), name="b", needs_grad=True)
        >>> optimizer = tw.SGD([w, b], weight_decay=0.1, groups=[{"variables": ["b"], "weight_decay": 0.0}])
        >>> optimizer.groups[0].weight_decay
        0.0
        >>> optimizer.groups[0].learning_rate = 0.5
    """

    variables: tuple[str, ...]
    settings: dict[str, Scheduled]
    _context: tuple[Rule, OptimizationState, Callable[[], None], Callable[[], bool]]

    def __init__(
        self,
        rule: Rule,
        variables: Sequence[str],
        settings: Mapping[str, Any],
        state: OptimizationState,
        changed: Any,
        begun: Callable[[], bool] = bool,
    ) -> None:
        found = {name: checked(rule, name, value, state) for name, value in settings.items()}
        # Any other attribute is a hyperparameter.
        object.__setattr__(self, "variables", tuple(variables))
        object.__setattr__(self, "settings", found)
        object.__setattr__(self, "_context", (rule, state, changed, begun))

    def __getattr__(self, name: str) -> Scheduled:
        settings: dict[str, Scheduled] = vars(self).get("settings", {})  # a copy in the making has none yet
        if name.startswith("_") or name not in settings:
            raise AttributeError(f"this group sets no {name!r}; it sets: {', '.join(settings) or 'nothing'}")
        return settings[name]

    def __setattr__(self, name: str, value: Scheduled) -> None:
        rule, state, changed, begun = self._context
        value = checked(rule, name, value, state)
        refuse_late(rule, self.settings, name, value, begun)
        set_and_tell(self.settings, name, value, changed)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"Group({', '.join(self.variables)}; {settings})"

    def holds(self, name: str) -> bool:
        """Whether a variable of this name belongs here."""
        return any(fits(name, pattern) for pattern in self.variables)


def read(
    rule: Rule, tables: Any, state: OptimizationState, changed: Any, begun: Callable[[], bool] = bool
) -> tuple[Group, ...]:
    """Groups from what the user gave.

    Args:
        rule: the rule whose hyperparameters they set.
        tables: a list of tables, each with ``variables`` (a name, or several) and hyperparameters.
        state: the counts that schedules follow.
        changed: called after a hyperparameter of a group was set.
        begun: whether the optimizer's state has started; by default never.

    Returns:
        The groups, in order; a variable belongs to the first that holds it.

    Raises:
        HyperparameterError: a table is none, has no variables, or a hyperparameter that is unknown or out of range.
    """
    if not isinstance(tables, list | tuple):
        raise HyperparameterError(f"groups is {tables!r}; give a list of tables", name="groups")
    groups = []
    for table in tables:
        if not isinstance(table, Mapping) or "variables" not in table:
            raise HyperparameterError(
                f"groups holds {table!r}; give tables such as {{'variables': ['*.bias'], 'weight_decay': 0.0}}",
                name="groups",
            )
        given = table["variables"]
        names = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else []
        if not names or not all(isinstance(name, str) for name in names):
            raise HyperparameterError(f"groups: variables is {given!r}; give names or patterns", name="groups")
        settings = {name: value for name, value in table.items() if name != "variables"}
        groups.append(Group(rule, names, settings, state, changed, begun))
    return tuple(groups)


def assign(groups: Sequence[Group], names: Sequence[str]) -> list[int]:
    """For each variable the group that it belongs to: 0 for the optimizer's own hyperparameters, 1 for the first group.

    Args:
        groups: the groups.
        names: the variables' names.

    Returns:
        The numbers, in the order of the names.

    Raises:
        HyperparameterError: a pattern of a group fits no variable (naming the nearest).
    """
    for group in groups:
        for pattern in group.variables:
            if not any(fits(name, pattern) for name in names):
                raise unknown("variable for a group:", pattern, names)
    return [next((k for k, group in enumerate(groups, start=1) if group.holds(name)), 0) for name in names]


def group_number(owner: str, group: Any, count: int) -> int:
    """A group's number, from 0, as somebody gave it.

    Args:
        owner: the optimizer's name, for the message.
        group: what was given.
        count: how many groups there are.

    Returns:
        The number.

    Raises:
        HyperparameterError: there is no such group.
    """
    if isinstance(group, bool) or group not in range(count):
        raise HyperparameterError(
            f"{owner}: group is {group!r}, and there are {count}, counted from 0", name="group", value=group
        )
    return operator.index(group)


def fits(name: str, pattern: str) -> bool:
    """Whether a variable's name is meant by a name or pattern of a group."""
    return name == pattern or fnmatchcase(name, pattern)  # brackets in a name would be a pattern's


def group_config(group: Group) -> dict[str, Any]:
    """A group as JSON: the table that it was made of."""
    settings = {name: to_config(value) for name, value in group.settings.items()}
    return {"variables": list(group.variables), **settings}


def groups_from_config(tables: Any, callables: Mapping[str, Any]) -> Any:
    """The inverse of :func:`group_config` for all groups: schedules made of their tables."""
    if not isinstance(tables, list | tuple):
        return tables  # refused where groups are read
    return [
        {k: v if k == "variables" else from_config(k, v, callables) for k, v in table.items()}
        if isinstance(table, Mapping)
        else table
        for table in tables
    ]
