"""Where the parameters of an optimizer sit in the batches that the compiled pass updates: one for each dtype."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from thalweg.graph import Variable
from thalweg.lowering import Batch, Part, address_of, compile_rule
from thalweg.lowering.buffers import is_plain, make_state, plain
from thalweg.optimizers.parameters import Parameter
from thalweg.rules.base import Rule
from thalweg.rules.elementwise import numbers, values, with_lanes


class Shortcut:
    """Whether the next step may be the short one; ``None`` while a step is finding out.

    Groups close it, too, and ask it whether the state has started; they know nothing else of the optimizer: memory is
    freed as soon as nobody holds that.
    """

    def __init__(self) -> None:
        self.open: bool | None = False
        self._followers: list[weakref.WeakMethod[Callable[[], None]]] = []
        self._asked: list[weakref.WeakMethod[Callable[[], bool]]] = []

    def close(self) -> None:
        """Something was set: the next step may not take anything for granted.

        Raises:
            HyperparameterError: whoever follows cannot take what was set.
        """
        self.open = False
        for found in self._followers:
            follow = found()
            if follow is not None:
                follow()

    def lead(self, follow: Callable[[], None]) -> None:
        """Have a method be called whenever something was set, for as long as its object is there."""
        self._followers = [*(known for known in self._followers if known() is not None), weakref.WeakMethod(follow)]

    def ask(self, begun: Callable[[], bool]) -> None:
        """Have :meth:`begun` ask a method more, for as long as its object is there."""
        self._asked = [*(known for known in self._asked if known() is not None), weakref.WeakMethod(begun)]

    def begun(self) -> bool:
        """Whether state has started that follows the optimizer's settings: its own, or that of an updater's key."""
        return any(begun() for asked in self._asked if (begun := asked()) is not None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Shortcut:
        """One that nobody follows: a copy's followers are other ones."""
        return Shortcut()


class Seat:
    """One parameter's place in a batch.

    Args:
        parameter: the parameter.
        batch: the batch.
        index: its number there.
        data: its data now.
        lanes: what the scalars are that are arrays, a row each.
    """

    def __init__(self, parameter: Parameter, batch: Batch, index: int, data: np.ndarray, lanes: np.ndarray) -> None:
        self.parameter, self.batch, self.index, self.lanes = parameter, batch, index, lanes
        self.data = self.work = data
        self.place(data)

    def place(self, data: np.ndarray) -> None:
        """Have the pass work on ``data``, or, if it cannot be worked on where it lies, on a copy."""
        self.data, self.work = data, plain(data)
        self.batch.set_param(self.index, address_of(self.work))

    @property
    def in_place(self) -> bool:
        """Whether the pass works on the data itself."""
        return self.work is self.data

    def fetch(self) -> None:
        """Bring the copy up to date, if there is one."""
        if not self.in_place:
            self.work[...] = self.data

    def bring(self) -> None:
        """Write the copy back, if there is one."""
        if not self.in_place:
            self.data[...] = self.work


Lanes = tuple[str, ...]
"""Scalars that are arrays, in their order; a group of hyperparameters without arrays has none."""


def kinds(parameters: Sequence[Parameter], lanes: Sequence[Lanes]) -> list[tuple[np.dtype[Any], Lanes]]:
    """What the compiled passes differ in that these parameters take.

    Args:
        parameters: the parameters.
        lanes: for each group the scalars that are arrays.

    Returns:
        Pairs of dtype and scalars, each once.
    """
    return sorted({(p.dtype, lanes[p.group]) for p in parameters}, key=lambda kind: (str(kind[0]), kind[1]))


class Seating:
    """All parameters of an optimizer in their batches, one for each dtype and each set of scalars that are arrays.

    Args:
        rule: the rule.
        parameters: the parameters.
        datas: their data now, in the same order.
        lanes: for each group the scalars that are arrays, because a hyperparameter is one.
    """

    def __init__(
        self, rule: Rule, parameters: Sequence[Parameter], datas: Sequence[np.ndarray], lanes: Sequence[Lanes]
    ) -> None:
        self.rule, self.lanes = rule, tuple(lanes)
        self.batches: list[Batch] = []
        seats: dict[str, Seat] = {}
        for dtype, names in kinds(parameters, lanes):
            members = [
                (p, d, make_state(len(names), d if is_plain(d) else np.empty(p.shape, dtype)))
                for p, d in zip(parameters, datas, strict=True)
                if (p.dtype, lanes[p.group]) == (dtype, names)
            ]
            parts = [
                Part(0, p.size, tuple(map(address_of, [*p.rows(), *(row[: p.size] for row in rows)])), p.group)
                for p, _, rows in members
            ]
            batch = Batch(compile_rule(with_lanes(rule, names), dtype), parts, len(lanes))
            self.batches.append(batch)
            for index, (parameter, data, rows) in enumerate(members):
                seats[parameter.name] = Seat(parameter, batch, index, data, rows)
        self.seats = tuple(seats[parameter.name] for parameter in parameters)
        self._watched: tuple[tuple[Variable, np.ndarray, Any], ...] = ()
        self._grads: Sequence[np.ndarray] = ()

    def set_hypers(self, hypers: Sequence[Any], t: int) -> None:
        """Set the hyperparameters of each group for step t.

        Args:
            hypers: checked, numbers and arrays.
            t: the number of the step.

        Raises:
            HyperparameterError: a value leaves its range when rounded to the dtype of a parameter that it is for, or
                what the rule makes of an array does not fit into it.
        """
        for batch in self.batches:
            for group, hyper in enumerate(hypers):
                if group in batch.used:
                    self.rule.check_rounded(hyper._asdict(), batch.kernel.dtype)
                batch.set_hyper(group, numbers(hyper))
                if self.lanes[group] and self.rule.carried:
                    batch.set_advanced(group, self.rule.advance(hyper, t, self.rule.carried(*batch.carried[group])))
            batch.set_time(t)
        for seat in self.seats:
            group, dtype = seat.parameter.group, seat.parameter.dtype
            if self.lanes[group]:
                carried = self.rule.carried(*seat.batch.carried[group]) if self.rule.carried else None
                found = values(self.rule, self.lanes[group], hypers[group], t, carried, dtype)
                for row, value in zip(seat.lanes, found, strict=True):
                    row[: seat.parameter.size] = value.ravel()

    def set_grads(self, grads: Sequence[np.ndarray]) -> None:
        """Say where the gradients lie; plain arrays, which are held until :meth:`release`."""
        self._grads = grads
        for seat, grad in zip(self.seats, grads, strict=True):
            seat.batch.set_grad(seat.index, address_of(grad))

    def release(self) -> None:
        """Let go of the gradients: they may be large, and nobody needs them between steps."""
        self._grads = ()

    def bad(self) -> list[int]:
        """The parameters whose gradients hold NaN or infinity, by number."""
        if all(batch.scan() is None for batch in self.batches):
            return []
        return [k for k, grad in enumerate(self._grads) if not np.isfinite(grad).all()]

    def watch(self, grads: Sequence[Any]) -> bool:
        """Remember that everything is in its place, so that the next step need only see that it still is.

        Args:
            grads: the variables' own gradients, which :meth:`set_grads` was told of, as they are.

        Returns:
            Whether that can be seen: a subclass of Variable may do what it likes with data and gradients.
        """
        self._watched = tuple(
            (seat.parameter.variable, seat.parameter.variable.data, weakref.ref(grad))
            for seat, grad in zip(self.seats, grads, strict=True)
        )
        return all(seat.in_place and type(seat.parameter.variable) is Variable for seat in self.seats)

    def unchanged(self) -> list[np.ndarray] | None:
        """The gradients, if all variables still have the very arrays that were there at the last step.

        They are held weakly between steps, and have to be held during a step: compiled code lets go of the GIL, and
        another thread may clear them.
        """
        grads = []
        for variable, data, known in self._watched:
            grad = variable.grad
            if grad is None or grad is not known() or variable._data is not data or not data.flags.writeable:
                return None
            grads.append(grad)
        return grads
