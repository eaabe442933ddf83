"""Hyperparameters: a number or a schedule, checked whenever one is set or read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from thalweg import schedules
from thalweg.errors import HyperparameterError
from thalweg.rules.base import Rule
from thalweg.rules.elementwise import lanes
from thalweg.rules.ranges import number, number_or_array
from thalweg.rules.spelling import unknown
from thalweg.schedules import OptimizationState, Schedule
from thalweg.transforms.chaining import describe

Scheduled = float | np.ndarray | Callable[[OptimizationState], float]
"""A number, an array of them like the parameter, or a function of the optimization state that returns a number."""


FEW = 64
"""The largest number of elements of an array of hyperparameters that a config holds."""


def checked(rule: Rule, name: str, value: Any, state: OptimizationState) -> Scheduled:
    """A hyperparameter as it is kept: a float, an array of them, or a schedule whose present value is valid.

    Args:
        rule: whose it is.
        name: which one.
        value: a number, an array like the parameter, or a schedule.
        state: where the optimization is.

    Returns:
        The float, an array of float64, or the schedule.

    Raises:
        HyperparameterError: the name is unknown (naming the nearest), or the value is not valid.
    """
    if name not in rule.hyperparameters:
        raise unknown(f"hyperparameter of {rule.name}:", name, rule.hyperparameters)
    if isinstance(value, type) and issubclass(value, Schedule):
        raise HyperparameterError(
            f"{rule.name}: {name} is the class {value.__name__}; give a schedule made of it: "
            f"{name}={value.__name__}(...)",
            owner=rule.name,
            name=name,
        )
    if callable(value):
        resolve(rule, name, value, state)
        scheduled: Scheduled = value
        return scheduled
    found = number_or_array(value, rule.hyperparameters[name].interval, name=name, owner=rule.name)
    if isinstance(found, np.ndarray):
        lanes(rule, name)  # refuses what the rule can take as a number only
    return found


def refuse_late(
    rule: Rule, settings: Mapping[str, Scheduled], name: str, value: Scheduled, begun: Callable[[], bool]
) -> None:
    """Refuse to set, once the state has started, what is read there and never again: it would do nothing.

    So are arrays that the next step needs as the last one had them (:attr:`Rule.lagged`).

    Args:
        rule: whose it is.
        settings: the present hyperparameters.
        name: which one is to be set.
        value: the value, checked.
        begun: whether the state has started.

    Raises:
        HyperparameterError: it is such a one, and another value than now.
    """
    if (name not in rule.initial and name not in rule.lagged) or (name in settings and same(settings[name], value)):
        return
    if name in rule.lagged and is_lagged_array(settings.get(name), value) and begun():
        raise lagged(rule, name)
    if name in rule.initial and begun():
        raise HyperparameterError(
            f"{rule.name} read {name} at its first step, where its state starts, and setting it now would do nothing; "
            f"{rule.initial[name]}. To begin anew with it, reset() the optimizer first (on JAX: init; behind "
            "get_updater: make another)",
            owner=rule.name,
            name=name,
            value=value,
        )


def is_lagged_array(one: Any, other: Any) -> bool:
    """Whether one of two values of a hyperparameter in :attr:`Rule.lagged` is an array."""
    return isinstance(one, np.ndarray) or isinstance(other, np.ndarray)


def lagged(rule: Rule, name: str) -> HyperparameterError:
    """The error for an array of a hyperparameter in :attr:`Rule.lagged` that is set, or left, after the first step."""
    return HyperparameterError(
        f"{rule.name}: {name} is, or was, an array, and the coming step needs that of the last one, too: an array "
        "stays as it is once a step was made (numbers may change). reset() the optimizer first, or make another",
        owner=rule.name,
        name=name,
    )


def set_and_tell(settings: dict[str, Scheduled], name: str, value: Scheduled, changed: Callable[[], None]) -> None:
    """Set a hyperparameter, unless whoever has to follow cannot.

    Args:
        settings: where it is set.
        name: which one.
        value: the value, checked.
        changed: tells those who follow.

    Raises:
        HyperparameterError: one of them cannot take the value; nothing was changed.
    """
    before = dict(settings)
    settings[name] = value
    try:
        changed()
    except HyperparameterError:
        settings.clear()
        settings.update(before)
        raise


def told(value: Any) -> bool:
    """Whether a schedule says what it was told, whatever the counts are: between two tellings it is a number."""
    return isinstance(value, schedules.Plateau)


def same(one: Scheduled, other: Scheduled) -> bool:
    """Whether two hyperparameters are the same number or array, or schedules made alike that remember the same."""
    return alike(one, other) and remembered(one) == remembered(other)


def alike(one: Scheduled, other: Scheduled) -> bool:
    """Whether two hyperparameters are the same number or array, or schedules made alike, whatever they remember."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return one is other or np.array_equal(one, other)  # type: ignore[arg-type]  # what is no array is an object
    return one is other or one == other


def remembered(value: Any) -> dict[str, Any]:
    """What a schedule remembers of the metrics that it was told; empty for all else."""
    return value.state() if isinstance(value, Schedule) else {}


def follows(value: Any) -> bool:
    """Whether a hyperparameter is a function of the counts, which a graph or a trace has to hold."""
    return callable(value) and not told(value)


def resolve(rule: Rule, name: str, value: Scheduled, state: OptimizationState) -> Any:
    """The number (or array) that a hyperparameter is, checked also if a schedule says it.

    Args:
        rule: whose it is.
        name: which one.
        value: a number or a schedule.
        state: where the optimization is; a schedule is given a copy.

    Returns:
        The value as a float, or the array as it was set.

    Raises:
        HyperparameterError: the value is not valid, or the rule reads it at its first step only and it is a schedule.
    """
    if not callable(value):
        return value
    if name in rule.initial:
        raise HyperparameterError(
            f"{rule.name} reads {name} at its first step only, where its state starts, and the schedule {value!r} "
            f"would do nothing after it: give a number; {rule.initial[name]}",
            owner=rule.name,
            name=name,
        )
    found = asked(value, state, owner=rule.name, name=name)
    try:
        return number(found, rule.hyperparameters[name].interval, name=name, owner=rule.name)
    except HyperparameterError as error:
        error.add_note(f"that is what its schedule {value!r} gives at {state}")
        raise


def asked(schedule: Callable[[OptimizationState], Any], state: OptimizationState, *, owner: str, name: str) -> Any:
    """What a schedule says at some counts.

    Args:
        schedule: the schedule.
        state: the counts; it is given a copy.
        owner: whose hyperparameter it is for, for messages.
        name: which one.

    Returns:
        What it says, unchecked.

    Raises:
        HyperparameterError: it is a function of something else.
    """
    try:
        return schedule(state.copy())
    except (AttributeError, TypeError) as error:
        raise HyperparameterError(
            f"{owner}: {name} follows {schedule!r}, which fails when it is called with an OptimizationState "
            f"({type(error).__name__}: {error}); a schedule is a function of that. One of a count of steps, as Optax's "
            f"are, goes in as lambda state: schedule(state.completed_iterations)",
            owner=owner,
            name=name,
        ) from error


def to_config(value: Scheduled) -> Any:
    """A hyperparameter as JSON: the number, the schedule's table, or the name of a user's own callable.

    An array is a table, too: its elements if they are few, else its shape and a digest of them.
    """
    if isinstance(value, np.ndarray):
        return {"array": value.tolist() if value.size <= FEW else described(value)}
    if isinstance(value, Schedule):
        if type(value) is schedules.registry.get(value.kind):
            return value.get_config()
        return describe(type(value))
    return describe(value) if callable(value) else value


def from_config(name: str, config: Any, callables: Mapping[str, Callable[..., Any]]) -> Scheduled:
    """A hyperparameter from JSON, the inverse of :func:`to_config`.

    Args:
        name: the hyperparameter's name, for the message.
        config: a number or a table.
        callables: users' own callables by name.

    Returns:
        A number or a schedule; whether the number is valid is checked when it is set.

    Raises:
        HyperparameterError: an unknown kind of schedule, or a callable that was not handed in again.
    """
    if not isinstance(config, Mapping):
        value: Scheduled = config
        return value
    if "array" in config:
        if not isinstance(config["array"], list):
            raise HyperparameterError(
                f"{name} was an array of {config['array']}, which a config does not hold; set it on the optimizer, "
                "or give a number here",
                name=name,
            )
        return _array(name, config["array"])
    if "callable" not in config:
        return schedules.build(dict(config))
    return own_callable(name, config["callable"], callables)


def described(array: np.ndarray) -> dict[str, Any]:
    """The shape of an array, and a digest of its elements."""
    digest = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()
    return {"shape": list(array.shape), "digest": digest}


def arrays_of(settings: Mapping[str, Scheduled], group: int) -> dict[str, np.ndarray]:
    """The arrays among the hyperparameters of a group, by what a snapshot calls them."""
    return {
        array_name(group, name): np.array(value) for name, value in settings.items() if isinstance(value, np.ndarray)
    }


def array_name(group: int, name: str) -> str:
    """What a snapshot calls an array of hyperparameters; group 0 are the optimizer's own."""
    return f"hyperparameters/{place_name(group, name)}"


def place_name(group: int, name: str) -> str:
    """What a snapshot calls the place of a hyperparameter; group 0 are the optimizer's own."""
    return f"groups.{group - 1}.{name}" if group else name


def _array(name: str, elements: list[Any]) -> np.ndarray:
    try:
        return np.array(elements, np.float64)
    except (TypeError, ValueError) as error:
        raise HyperparameterError(f"{name}: {elements!r} is no array of numbers", name=name) from error


def own_callable(what: str, name: Any, callables: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """A user's own callable by the name that a config has for it.

    Args:
        what: the hyperparameter or hook that it is for, for the message.
        name: the name in the config.
        callables: users' own callables by name.

    Returns:
        The callable.

    Raises:
        HyperparameterError: the name is no string, or no callable of that name was handed in again.
    """
    if not isinstance(name, str):
        raise HyperparameterError(f"{what}: a callable is named {name!r}; its name is a string", name=what)
    if name not in callables:
        raise handed_in_again(what, name)
    return callables[name]


def check_callable_names(config: Any) -> None:
    """Refuse a config in which two places have a callable of the same name, so that one name means one callable.

    All lambdas of one function have the same name, and so have all instances of one class.

    Args:
        config: an optimizer's config.

    Raises:
        HyperparameterError: two places name the same callable.
    """
    seen: set[str] = set()
    for name in _callable_names(config):
        if name in seen:
            raise HyperparameterError(
                f"two places of this config hold a callable named {name!r}, which one entry of callables= cannot tell "
                "apart; leave them out of the config and set them on the optimizer",
                callable=name,
            )
        seen.add(name)


def _callable_names(config: Any) -> Iterator[str]:
    if isinstance(config, Mapping):
        if isinstance(config.get("callable"), str):
            yield config["callable"]
        else:
            for value in config.values():
                yield from _callable_names(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _callable_names(value)


def handed_in_again(what: str, name: str) -> HyperparameterError:
    """The error for a user's own callable that a config can only name."""
    return HyperparameterError(
        f"{what} was {name}, a callable of your own, which is never saved; "
        f"hand it in again: callables={{{name!r}: ...}}",
        name=what,
        callable=name,
    )
