"""Reading and writing the state of one element, for each number of slots.

The state is one array, a row a slot, so that a compiled call has one array to unpack whatever the rule.
Written out because LLVM vectorizes the loop only if each row is addressed by a constant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MOST_SLOTS = 4
"""The largest number of slots that a rule may have here; a row in each table below adds one."""


def _load0(state: Any, i: Any) -> Any:
    return ()


def _load1(state: Any, i: Any) -> Any:
    return (state[0, i],)


def _load2(state: Any, i: Any) -> Any:
    return state[0, i], state[1, i]


def _load3(state: Any, i: Any) -> Any:
    return state[0, i], state[1, i], state[2, i]


def _load4(state: Any, i: Any) -> Any:
    return state[0, i], state[1, i], state[2, i], state[3, i]


def _store0(state: Any, i: Any, slots: Any) -> None:
    pass


def _store1(state: Any, i: Any, slots: Any) -> None:
    state[0, i] = slots[0]


def _store2(state: Any, i: Any, slots: Any) -> None:
    state[0, i] = slots[0]
    state[1, i] = slots[1]


def _store3(state: Any, i: Any, slots: Any) -> None:
    state[0, i] = slots[0]
    state[1, i] = slots[1]
    state[2, i] = slots[2]


def _store4(state: Any, i: Any, slots: Any) -> None:
    state[0, i] = slots[0]
    state[1, i] = slots[1]
    state[2, i] = slots[2]
    state[3, i] = slots[3]


LOAD: tuple[Callable[..., Any], ...] = (_load0, _load1, _load2, _load3, _load4)
STORE: tuple[Callable[..., Any], ...] = (_store0, _store1, _store2, _store3, _store4)


def unslotted(*values: Any) -> Any:
    """Stands in for the ``Slots`` of a rule that has none: numba has no empty named tuple."""
    return ()
