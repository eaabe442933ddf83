"""A variable as an optimizer sees it: an array to be updated in place, and the rule's state beside it."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.errors import ParameterError, StateMismatchError
from thalweg.graph import Variable
from thalweg.lowering.buffers import is_plain, make_state, overlaps_itself
from thalweg.rules.base import Rule
from thalweg.rules.ranges import is_masked

SUPPORTED = (np.dtype(np.float32), np.dtype(np.float64))


def quiet() -> np.errstate:
    """For sums that may overflow: what is not finite is dealt with when it is used, as the user wants it."""
    return np.errstate(over="ignore", invalid="ignore")


class Parameter:
    """One variable of an optimizer.

    Args:
        variable: the variable; its data is updated in place.
        name: the name that its state goes by.
        rule: the update rule.
        group: the number of the group whose hyperparameters hold.

    Raises:
        ParameterError: the variable's data cannot be updated in place.
    """

    def __init__(self, variable: Variable, name: str, rule: Rule, group: int = 0) -> None:
        self.variable = variable
        self.name = name
        self.rule = rule
        self.group = group
        data = usable_data(variable, name)
        self.shape: tuple[int, ...] = data.shape
        self.dtype: np.dtype[Any] = data.dtype.newbyteorder("=")
        self._state = make_state(len(rule.slot_names), data if is_plain(data) else np.empty(self.shape, self.dtype))
        self.accumulated: np.ndarray | None = None

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    def begin(self, hyper: Any) -> None:
        """The rule's state as before the first step.

        Args:
            hyper: the rule's hyperparameters, on which a few rules' state depends.
        """
        for slot, value in zip(self.slots().values(), self.rule.beginning(self.data(), hyper), strict=True):
            slot[...] = value

    def rows(self) -> list[np.ndarray]:
        """The rule's state as flat views, in the order of the slots."""
        return [row[: self.size] for row in self._state]

    def slots(self) -> dict[str, np.ndarray]:
        """The rule's state by name: views, shaped like the variable."""
        rows = (row.reshape(self.shape) for row in self.rows())
        return dict(zip(self.rule.slot_names, rows, strict=True))

    def data(self) -> np.ndarray:
        """The variable's data, checked again: it may have been replaced since.

        Raises:
            ParameterError: it can no longer be updated, or has another shape or dtype than the state.
        """
        data = usable_data(self.variable, self.name)
        if data.shape != self.shape or data.dtype.newbyteorder("=") != self.dtype:
            raise ParameterError(
                f"variable {self.name!r} is now {data.shape} {data.dtype}; the optimizer's state belongs to "
                f"{self.shape} {self.dtype}: make a new optimizer, or bind() the variable again",
                variable=self.name,
            )
        return data

    def accumulate(self, grad: np.ndarray, *, first: bool) -> None:
        """Add a gradient to those of the micro-batches before."""
        if self.accumulated is None:
            self.accumulated = np.zeros(self.shape, self.dtype)
        if first:
            self.accumulated[...] = grad
            return
        with quiet():
            self.accumulated += grad

    def mean_with(self, grad: np.ndarray, count: int) -> np.ndarray:
        """The mean of the ``count`` gradients of which ``grad`` is the last, as a new array."""
        with quiet():
            total = grad if count == 1 or self.accumulated is None else self.accumulated + grad
            return np.asarray(total / self.dtype.type(count))

    def backup(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The data's array, and copies of data and state, for :meth:`undo`."""
        return self.variable.data, np.array(self.variable.data, subok=False), self._state.copy()

    def undo(self, saved: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        """Data and state as they were."""
        data, self._state[...] = saved[0], saved[2]
        data[...] = saved[1]
        if self.variable.data is not data:  # replaced by what came after the rule
            self.variable.data = data

    def fit(self, what: str, array: Any) -> list[str]:
        """In words, why ``array`` cannot stand for ``what`` of this variable; nothing if it can."""
        if not isinstance(array, np.ndarray):
            return [f"{what} is a {type(array).__name__}, not an array"]
        if array.shape != self.shape or array.dtype.newbyteorder("=") != self.dtype:
            return [f"{what} is {array.shape} {array.dtype}, here {self.shape} {self.dtype}"]
        return []

    def set_slots(self, arrays: dict[str, np.ndarray]) -> None:
        """Fill the state; the arrays have been checked with :meth:`fit`."""
        for name, slot in self.slots().items():
            slot[...] = arrays[name]


def usable_data(variable: Variable, name: str) -> np.ndarray:
    """The variable's data as an array that can be updated in place.

    Args:
        variable: the variable.
        name: its name, for messages.

    Returns:
        A view of the data as a plain ``ndarray``.

    Raises:
        ParameterError: there is none, it is not a writable NumPy array of float32 or float64, or its elements
            share memory.
    """
    data = variable.data
    fault = None
    if data is None:
        fault = "has no data"
    elif not isinstance(data, np.ndarray):
        fault = f"holds a {type(data).__module__}.{type(data).__qualname__}"
    elif is_masked(data):
        fault = "holds a masked array (use its data, and a mask as process_grad)"
    elif data.dtype.newbyteorder("=") not in SUPPORTED:
        fault = f"holds {data.dtype}"
    elif not data.flags.writeable:
        fault = "holds a read-only array (copy it first)"
    elif data.size and not is_plain(data) and overlaps_itself(data):
        fault = "holds a view whose elements share memory (copy it first)"
    if fault is not None:
        raise ParameterError(
            f"variable {name!r} {fault}; writable NumPy arrays of float32 or float64 can be updated in place",
            variable=name,
            got=str(getattr(data, "dtype", type(data).__name__)),
        )
    return np.asarray(data)


class Footprint:
    """Where the data of several parameters lie in memory.

    Args:
        parameters: the parameters, whose data have been checked.

    Raises:
        ParameterError: two of them share memory: each would be updated by the other's gradient too.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.arrays = [parameter.variable.data for parameter in parameters]
        spans = sorted((*_span(array), index) for index, array in enumerate(self.arrays))
        self._lows = [low for low, _, _ in spans]
        self._reach = list(itertools.accumulate((high for _, high, _ in spans), max))
        for place, (low, _, index) in enumerate(spans):
            if place == 0 or self._reach[place - 1] <= low:
                continue
            for _, high, other in spans[:place]:
                if high > low and _share(self.arrays[index], self.arrays[other]):
                    first, second = sorted((parameters[index].name, parameters[other].name))
                    raise ParameterError(
                        f"variables {first!r} and {second!r} share memory; give each its own (Variable.copy())",
                        variables=[first, second],
                    )

    def describes(self, parameters: Sequence[Parameter]) -> bool:
        """Whether the parameters' data are still the same arrays."""
        return all(p.variable.data is array for p, array in zip(parameters, self.arrays, strict=True))

    def may_touch(self, array: np.ndarray) -> bool:
        """Whether ``array`` may share memory with any of the data."""
        low, high = _span(array)
        place = bisect.bisect_left(self._lows, high)
        return place > 0 and self._reach[place - 1] > low


def _span(data: np.ndarray) -> tuple[int, int]:
    """The addresses of the first byte and of the one after the last."""
    start: int = data.__array_interface__["data"][0]
    if data.size == 0:
        return start, start
    reach = [stride * (length - 1) for stride, length in zip(data.strides, data.shape, strict=True)]
    low = start + sum(r for r in reach if r < 0)
    return low, low + sum(map(abs, reach)) + data.itemsize


def _share(one: np.ndarray, other: np.ndarray) -> bool:
    try:
        return bool(np.shares_memory(one, other, max_work=10_000))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def mismatch(differences: Sequence[str], what: str) -> StateMismatchError:
    """The error that lists why saved state does not fit."""
    lines = "".join(f"\n  - {line}" for line in differences)
    return StateMismatchError(
        f"{what} does not fit this optimizer; nothing was changed:{lines}", differences=list(differences)
    )
