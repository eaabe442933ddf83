"""Any number of arrays, updated in one call of the compiled pass."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from thalweg.errors import HyperparameterError, RuleError
from thalweg.lowering import threads
from thalweg.lowering.layout import ARGUMENTS, BLOCK, CONCLUDE, MEASURE, PREPARE, ROW, SCAN, UPDATE
from thalweg.lowering.numpy import Kernel

UNBOUNDED = (-np.inf, np.inf)


class Part(NamedTuple):
    """One array of a batch, by address: C-contiguous, aligned, native, of the kernel's dtype.

    Args:
        param: the address of the parameter.
        size: how many elements it has.
        slots: the addresses of the rule's slots, each of ``size`` elements.
        group: the group whose hyperparameters hold.
    """

    param: int
    size: int
    slots: tuple[int, ...]
    group: int = 0


class Batch:
    """Arrays of one dtype that a rule updates together. It holds addresses: the caller holds the arrays.

    Args:
        kernel: the compiled rule.
        parts: the arrays; no two of them, nor their slots or gradients, share memory.
        groups: how many groups of hyperparameters there are.

    Example:
        >>> import numpy as np
        >>> from thalweg.lowering import Batch, Part, address_of, compile_rule
        >>> from thalweg.rules import sgd
        >>> x, g = np.ones(2), np.array([10.0, -10.0])
        >>> batch = Batch(compile_rule(sgd, x.dtype), [Part(address_of(x), x.size, ())])
        >>> batch.set_grad(0, address_of(g))
        >>> batch.set_hyper(0, sgd.hyper(), t=1)
        >>> batch.step()
        >>> x
        array([0.9, 1.1])
    """

    def __init__(self, kernel: Kernel, parts: Sequence[Part], groups: int = 1) -> None:
        self.kernel = kernel
        shape = kernel.shape
        lines: list[tuple[int, ...]] = []
        members = np.zeros((len(parts), 3), np.int64)
        width = kernel.dtype.itemsize
        for variable, part in enumerate(parts):
            members[variable] = len(lines), 0, part.group
            for begin in range(0, part.size, BLOCK):
                size, offset = min(BLOCK, part.size - begin), begin * width
                head = (part.param + offset, 0, size, part.group, variable)
                lines.append((*head, *(slot + offset for slot in part.slots)))
            members[variable, 1] = len(lines)
        self.size = sum(part.size for part in parts)
        self._table = np.array(lines, np.int64).reshape(len(lines), len(ROW) + shape.slots)
        self._members = members
        self._offsets = np.arange(0, max((part.size for part in parts), default=0), BLOCK) * width
        self.used = frozenset(part.group for part in parts)
        self._used = np.array([group in self.used for group in range(groups)], np.int64)
        self._hyper = np.zeros((groups, shape.hypers))
        self._times = np.zeros(groups)
        self.carried = np.zeros((groups, shape.carried))
        self._advanced = np.zeros((groups, shape.carried))
        self._decided: dict[int, Any] = {}  # by group, what the pass cannot know of them
        self._scalars = np.zeros((groups, shape.scalars))
        self._limits = np.tile(np.array(UNBOUNDED), (len(parts), 1))
        self._sums = np.zeros((len(lines), shape.sums))
        self._concluded = np.zeros((len(parts), shape.scalars))
        self._count = threads.pieces(len(lines), self.size)
        self._calls = np.array([self._arguments(k) for k in range(self._count)], np.int64)
        self._status = (ctypes.c_int64 * self._count)()
        self._first = ctypes.c_int64.from_buffer(self._status)  # quicker to read
        self._exception = ctypes.c_int64()  # numba's convention has a place for what a text raised; nobody reads it
        status, arguments = ctypes.addressof(self._status), address_of(self._calls)
        self._pieces = np.array(
            [
                (
                    *(kernel.loaded.address, status + ctypes.sizeof(ctypes.c_int64) * k),
                    *(ctypes.addressof(self._exception), arguments + self._calls.strides[0] * k),
                )
                for k in range(self._count)
            ],
            np.int64,
        )
        self._target = (status, ctypes.addressof(self._exception), arguments)
        self._whole = PREPARE | UPDATE | (MEASURE | CONCLUDE if shape.sums else 0)
        self._calls[0, _MODE] = self._mode = self._whole | SCAN
        self._function = kernel.loaded.brief if self.size <= _BRIEF else kernel.loaded.function
        self.restart()

    def restart(self) -> None:
        """Put the carried numbers where they start."""
        if self.kernel.rule.carried is not None:
            self.carried[:] = self.kernel.rule.carried()

    def set_param(self, variable: int, address: int) -> None:
        """Say where a parameter lies now."""
        self._place(variable, 0, address)

    def set_grad(self, variable: int, address: int) -> None:
        """Say where a gradient lies: ``size`` elements of the kernel's dtype, contiguous."""
        self._place(variable, 1, address)

    def set_limits(self, variable: int, limits: tuple[float, float]) -> None:
        """Say between which bounds a parameter is kept after the rule."""
        self._limits[variable] = limits

    def set_hyper(self, group: int, hyper: Any, *, t: int | None = None) -> None:
        """Set the hyperparameters of a group, checked before, and its step count."""
        self._hyper[group] = hyper
        self._decided.pop(group, None)
        if t is not None:
            self._times[group] = t

    def set_advanced(self, group: int, carried: Any) -> None:
        """Set the carried numbers of a group's coming step, where it has arrays: the pass computes them with numbers.

        Args:
            group: the group, whose hyperparameters were set before.
            carried: ``rule.carried``, of this step.
        """
        self._decided[group] = carried

    def set_time(self, t: int) -> None:
        """Set the number of the coming step, from 1, for all groups."""
        self._times.fill(t)

    def scan(self) -> int | None:
        """Look for a gradient that holds NaN or infinity.

        Returns:
            The first variable that has one, or ``None``.
        """
        for status in self._run(SCAN):
            if status:
                return int(self._table[status - 1, 4])
        return None

    def step(self, *, check: bool = True) -> int | None:
        """One step of all arrays, in place; nothing is changed if a gradient or a scalar is not finite.

        Args:
            check: whether gradients are looked at first.

        Returns:
            ``None``, or the first variable whose gradient holds NaN or infinity.

        Raises:
            HyperparameterError: a scalar is too large for the dtype.
            RuleError: the text raised an error, which it is compiled for only where nobody could see that it can; what
                was updated until then stays so.
        """
        if self._count == 1:
            mode = self._whole | SCAN if check else self._whole
            if mode != self._mode:
                self._calls[0, _MODE] = self._mode = mode
            if self._function(*self._target) != 0:
                self._left()
            status = self._first.value
            if status > 0:
                return int(self._table[status - 1, 4])
            if status < 0:
                self._too_large(status)
        else:
            bad = self.scan() if check else None
            if bad is not None:
                return bad
            self.ready()
            self.update()
        self.commit()
        return None

    def ready(self) -> None:
        """Compute the scalars of the step: the last that can fail before anything is changed.

        Raises:
            HyperparameterError: a scalar is too large for the dtype.
            RuleError: the text raised an error.
        """
        self._run_first(PREPARE)
        if self.kernel.shape.sums:
            self._run(MEASURE)
            self._run_first(CONCLUDE)

    def update(self) -> None:
        """Update all arrays, in place, with the scalars from :meth:`ready`.

        Raises:
            RuleError: as of :meth:`step`.
        """
        self._run(UPDATE)

    def commit(self) -> None:
        """Take the carried numbers of the step for those of the next."""
        if self.kernel.shape.carried:
            self.carried[:] = self._advanced
            for group, carried in self._decided.items():
                self.carried[group] = carried

    def _run(self, mode: int) -> list[int]:
        if self._count == 1:
            return [self._run_first(mode)]
        self._calls[:, _MODE] = self._mode = mode
        if not threads.run(self._pieces):
            self._left()
        return list(self._status)

    def _run_first(self, mode: int) -> int:
        self._calls[0, _MODE] = self._mode = mode
        if self._function(*self._target) != 0:
            self._left()
        status = self._first.value
        if status < 0:
            self._too_large(status)
        return status

    def _left(self) -> None:
        """Compiled code came back with an error of numba's convention, and no result."""
        raise RuleError(
            f"rule {self.kernel.rule.name!r}: its compiled text was left by an error before the step was complete; "
            "take out of the text what can fail (an index out of range, say)",
            rule=self.kernel.rule.name,
        )

    def _too_large(self, status: int) -> None:
        rule = self.kernel.rule
        values = zip(rule.hyperparameters, self._hyper[-1 - status].tolist(), strict=True)
        given = ", ".join(f"{name}={value!r}" for name, value in values)
        raise HyperparameterError(
            f"{rule.name}: with {given} what the rule computes from them does not fit into {self.kernel.dtype}; "
            "use smaller values",
            owner=rule.name,
        )

    def _place(self, variable: int, column: int, address: int) -> None:
        first, last, _ = self._members[variable]
        if last - first == 1:
            self._table[first, column] = address
        else:
            self._table[first:last, column] = address + self._offsets[: last - first]

    def _arguments(self, piece: int) -> list[int]:
        rows = len(self._table)
        values: dict[str, int] = {
            "table": address_of(self._table),
            "begin": rows * piece // self._count,
            "end": rows * (piece + 1) // self._count,
            "mode": 0,
            "groups": len(self._hyper),
            "used": address_of(self._used),
            "hyper": address_of(self._hyper),
            "times": address_of(self._times),
            "carried": address_of(self.carried),
            "advanced": address_of(self._advanced),
            "scalars": address_of(self._scalars),
            "limits": address_of(self._limits),
            "sums": address_of(self._sums),
            "variables": len(self._members),
            "members": address_of(self._members),
            "concluded": address_of(self._concluded),
        }
        return [values[name] for name in ARGUMENTS]


_MODE = ARGUMENTS.index("mode")
_BRIEF = 1 << 13  # elements: some ten microseconds


def address_of(array: np.ndarray) -> int:
    """Where the first element of an array lies."""
    address: int = array.__array_interface__["data"][0]
    return address
