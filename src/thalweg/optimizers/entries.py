"""What a saved state has to say beside its arrays, and what is no such thing: all of it is there, and nothing else.

Version 0.1 wrote less at first. Its states are known by having none of what came later, and are still loaded; one that
has some of it has lost the rest.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from numbers import Real
from typing import Any

from thalweg.errors import HyperparameterError
from thalweg.schedules import OptimizationState

_FIRST = ("rule", "updates", "optimization_state", "hyperparameters", "process_grad", "process_model")
_LATER = ("form", "wrap", "carried", "micro", "accumulate", "nonfinite", "skipped", "zeroed", "groups")
_OPTIONAL = ("schedules", "variables")
"""What the first states may have had, too."""

COUNTS = ("updates", "micro", "skipped", "zeroed")
MOST = 2**63 - 1
"""No count is larger: it would take longer than anything lasts, and kernels hold counts in 64 bits."""


def of_snapshot(saved: Mapping[str, Any]) -> list[str]:
    """What is missing in the meta of a snapshot, and what nobody wrote there.

    Args:
        saved: the meta.

    Returns:
        The differences, in words.

    Example:
        >>> import numpy as np
        >>> import thalweg as tw
        >>> from thalweg.optimizers.entries import of_snapshot
        >>> whole = tw.SGD(tw.Variable(np.ones(1), name="x")).state().meta
        >>> of_snapshot(whole), of_snapshot({n: v for n, v in whole.items() if n != "zeroed"} | {"more": 1})
        ([], ['missing: zeroed', 'unexpected: more'])
    """
    first = not any(name in saved for name in _LATER)
    return compared("", saved, _FIRST if first else (*_FIRST, *_LATER, "schedules"), _OPTIONAL)


def compared(where: str, saved: Mapping[Any, Any], expected: Iterable[str], optional: Container[Any] = ()) -> list[str]:
    """What is missing in a table, and what is unexpected.

    Args:
        where: what goes before each name, for messages.
        saved: the table.
        expected: the names that it has to have.
        optional: those that it may have, too.

    Returns:
        The differences, in words.
    """
    names = tuple(expected)
    differences = [f"missing: {where}{name}" for name in names if name not in saved]
    return differences + [f"unexpected: {where}{name}" for name in saved if name not in names and name not in optional]


def alike(saved: Any, here: Any) -> bool:
    """Whether a saved entry is what it is here.

    Args:
        saved: anything; an array, which compares element by element, or a tensor is never what is here.
        here: JSON: numbers, strings, lists and tables.

    Returns:
        Whether it is the same JSON.

    Example:
        >>> import numpy as np
        >>> from thalweg.optimizers.entries import alike
        >>> alike({"limit": [1.0, 2.0]}, {"limit": [1, 2]}), alike(np.ones(1), 1.0), alike(True, 1)
        (True, False, False)
    """
    if isinstance(here, Mapping):
        return (
            isinstance(saved, Mapping) and saved.keys() == here.keys() and all(alike(saved[n], here[n]) for n in here)
        )
    if isinstance(here, list | tuple):
        return isinstance(saved, list | tuple) and len(saved) == len(here) and all(map(alike, saved, here))
    if saved is here:
        return True
    return isinstance(saved, Real | str) and isinstance(saved, bool) is isinstance(here, bool) and bool(saved == here)


def is_count(value: Any) -> bool:
    """Whether a value is a count: an integer from 0 that fits into 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def counts_in(saved: Mapping[str, Any], names: Iterable[str], differences: list[str]) -> dict[str, int]:
    """The counts of a state.

    Args:
        saved: where they are; one that is missing is 0 here, and told by whoever looks for what is missing.
        names: which ones.
        differences: told what is no count.

    Returns:
        The counts by name, 0 for what is none.
    """
    counts = {name: saved.get(name, 0) for name in names}
    differences += [f"{name} is {shown(value)}, not a count" for name, value in counts.items() if not is_count(value)]
    return {name: value if is_count(value) else 0 for name, value in counts.items()}


def state_in(saved: Any, differences: list[str]) -> dict[str, int]:
    """The counts that schedules follow.

    Args:
        saved: what a state has of them.
        differences: told what is missing, unexpected, or no count.

    Returns:
        The counts by name; empty if they cannot be used.
    """
    if not isinstance(saved, Mapping):
        differences.append(f"optimization_state cannot be used: it is {saved!r}, no table")
        return {}
    faults = compared("optimization_state: ", saved, OptimizationState().get_config())
    try:
        found = {} if faults else OptimizationState(**saved).get_config()
    except HyperparameterError as error:
        faults.append(f"optimization_state cannot be used: {error}")
        found = {}
    faults += [f"optimization_state: {n} is {shown(count)}, not a count" for n, count in found.items() if count > MOST]
    differences += faults
    return {} if faults else found


def shown(value: Any) -> str:
    """A value for a message, also an integer that has too many digits to be printed."""
    return f"beyond {MOST}" if isinstance(value, int) and value > MOST else repr(value)
