"""The one function that is compiled around a rule's texts. Imported only when something is to be compiled.

It takes the address of a table of integers (``layout.ARGUMENTS``) that holds the addresses of everything else. A
call does one part of a step, or several, as its mode says: a small step is one call, a large one has its rows
divided among threads. Indices are unsigned, which is what lets LLVM drop the wrap-around of negative ones and
vectorize.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from thalweg.errors import RuleError
from thalweg.lowering.layout import ARGUMENTS, CONCLUDE, MEASURE, PREPARE, ROW, SCAN, UPDATE, Shape
from thalweg.lowering.memory import (
    read_int,
    read_real,
    reader,
    slot_reader,
    slot_writer,
    store_none,
    tuple_reader,
    write_reals,
    writer,
)

AT = {name: index for index, name in enumerate(ARGUMENTS)}
TABLE, BEGIN, END, MODE, GROUPS = AT["table"], AT["begin"], AT["end"], AT["mode"], AT["groups"]
USED, HYPER, TIMES = AT["used"], AT["hyper"], AT["times"]
CARRIED, ADVANCED, SCALARS = AT["carried"], AT["advanced"], AT["scalars"]
LIMITS, SUMS, VARIABLES, MEMBERS, CONCLUDED = (
    *(AT["limits"], AT["sums"]),
    *(AT["variables"], AT["members"], AT["concluded"]),
)
PARAM, GRAD, SIZE, GROUP, VARIABLE = range(len(ROW))
SLOTS = len(ROW)  # where the slots' addresses begin in a row

NO_SUMS: dict[int, Any] = {1: lambda: (0.0,), 2: lambda: (0.0, 0.0), 3: lambda: (0.0, 0.0, 0.0)}
ADD: dict[int, Any] = {
    1: lambda a, b: (a[0] + np.float64(b[0]),),
    2: lambda a, b: (a[0] + np.float64(b[0]), a[1] + np.float64(b[1])),
    3: lambda a, b: (a[0] + np.float64(b[0]), a[1] + np.float64(b[1]), a[2] + np.float64(b[2])),
}
"""Adding terms in double precision, for each number of terms; a row in both tables adds one."""


def make_pass(rule: Any, kind: Any, shape: Shape, know: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function to be compiled.

    Args:
        rule: the update rule.
        kind: the numba type of parameter, gradient and slots.
        shape: what numbers the rule has.
        know: makes a plain function known to numba, and returns it.

    Returns:
        A function of one integer, which returns 0; or 1 + the first row whose gradient is not finite; or −1 − the
        first group whose scalars do not fit into the type.
    """
    lanes, width = shape.slots + 2, 8 * shape.scalars
    parts = _Parts(rule, kind, shape, know)
    element, put, places_of = parts.element(), parts.put(), tuple_reader(types.int64, types.int64, shape.slots)
    read_grad, write_param = reader(kind, 1, lanes), writer(kind, 0, lanes)
    scalars_as_kind = tuple_reader(types.float64, kind, shape.scalars)
    make_scalars = shape.scalars_type
    stride = 8 * (len(ROW) + shape.slots)
    cast = np.dtype(kind.name).type
    zero = cast(0)
    prepare = know(parts.prepare())
    reduce, conclude = know(parts.reduce()), know(parts.conclude())
    whose, where = (VARIABLE, CONCLUDED) if shape.sums else (GROUP, SCALARS)

    @know
    def scan(table: Any, begin: Any, end: Any) -> Any:
        for row in range(begin, end):
            line = table + row * stride
            grad, size = read_int(line, GRAD), read_int(line, SIZE)
            total = zero
            for i in range(np.uint64(size)):
                total += read_grad(grad, i) * zero  # 0·g is 0 for finite g and NaN for all others
            if total != zero:
                return row + 1
        return 0

    @know
    def advance(arguments: Any, table: Any, begin: Any, end: Any) -> None:
        scalars, limits = read_int(arguments, where), read_int(arguments, LIMITS)
        for row in range(begin, end):
            line = table + row * stride
            param, grad, size = read_int(line, PARAM), read_int(line, GRAD), read_int(line, SIZE)
            places = places_of(line + 8 * SLOTS)
            h = make_scalars(*scalars_as_kind(scalars + read_int(line, whose) * width))
            bounds = limits + read_int(line, VARIABLE) * 16
            lower, upper = cast(read_real(bounds, 0)), cast(read_real(bounds, 1))
            for i in range(np.uint64(size)):
                new, moved = element(param, grad, places, i, h)
                write_param(param, i, lower if new < lower else (upper if new > upper else new))
                put(places, i, moved)

    def run(arguments: Any) -> Any:
        table, mode = read_int(arguments, TABLE), read_int(arguments, MODE)
        begin, end = read_int(arguments, BEGIN), read_int(arguments, END)
        if mode & SCAN:
            status = scan(table, begin, end)
            if status != 0:
                return status
        if mode & PREPARE:
            status = prepare(arguments)
            if status != 0:
                return status
        if mode & MEASURE:
            reduce(arguments, table, begin, end)
        if mode & CONCLUDE:
            status = conclude(arguments)
            if status != 0:
                return status
        if mode & UPDATE:
            advance(arguments, table, begin, end)
        return 0

    return run


class _Parts:
    """The parts that differ from rule to rule."""

    def __init__(self, rule: Any, kind: Any, shape: Shape, know: Callable[[Any], Any]) -> None:
        self.rule, self.kind, self.shape, self.know = rule, kind, shape, know
        self.lanes = shape.slots + 2
        self.fits = self._fits()

    def element(self) -> Any:
        """The update of one element."""
        return self._of_element(self.rule.update)

    def _of_element(self, text: Any) -> Any:
        read_param, read_grad = reader(self.kind, 0, self.lanes), reader(self.kind, 1, self.lanes)
        load, make_slots = slot_reader(self.kind, self.shape.slots), self.rule.slots

        def with_slots(param: Any, grad: Any, places: Any, i: Any, h: Any) -> Any:
            return text(read_param(param, i), read_grad(grad, i), make_slots(*load(places, i)), h)

        def without(param: Any, grad: Any, places: Any, i: Any, h: Any) -> Any:
            return text(read_param(param, i), read_grad(grad, i), (), h)  # numba has no empty named tuple

        return self.know(with_slots if self.shape.slots else without)

    def put(self) -> Any:
        """Writing the slots of one element."""
        store = slot_writer(self.kind, self.shape.slots)

        def nothing(places: Any, i: Any, slots: Any) -> None:
            store_none(slots)

        def slots_of(places: Any, i: Any, slots: Any) -> None:
            store(places, i, slots)

        return self.know(slots_of if self.shape.slots else nothing)

    def _fits(self) -> Any:
        """Whether the scalars at an address are finite in the parameter's type."""
        count = self.shape.scalars
        cast = np.dtype(self.kind.name).type
        zero = cast(0)

        def fits(place: Any) -> Any:
            for k in range(count):
                value = cast(read_real(place, k))
                if value - value != zero:
                    return False
            return True

        return self.know(fits)

    def prepare(self) -> Any:
        """From hyperparameters and counts to scalars, by group."""
        fits, advance, scalars_of = self.fits, self._advance(), self._scalars()
        hypers, make_hyper = tuple_reader(types.float64, types.float64, self.shape.hypers), self.rule.hyper
        hyper_width, width, carried_width = 8 * self.shape.hypers, 8 * self.shape.scalars, 8 * self.shape.carried

        def prepare(arguments: Any) -> Any:
            hyper, times, scalars = read_int(arguments, HYPER), read_int(arguments, TIMES), read_int(arguments, SCALARS)
            carried, advanced = read_int(arguments, CARRIED), read_int(arguments, ADVANCED)
            used = read_int(arguments, USED)
            for group in range(read_int(arguments, GROUPS)):
                h, t = make_hyper(*hypers(hyper + group * hyper_width)), read_real(times, group)
                now = advance(t, h, carried + group * carried_width, advanced + group * carried_width)
                place = scalars + group * width
                write_reals(place, scalars_of(t, h, now))
                if read_int(used, group) != 0 and not fits(place):
                    return -1 - group
            return 0

        return prepare

    def _advance(self) -> Any:
        """The carried numbers of this step, read, moved and written."""
        carry, make_carried = self.rule.carry, self.rule.carried
        read = tuple_reader(types.float64, types.float64, self.shape.carried)

        def nothing(t: Any, h: Any, carried: Any, advanced: Any) -> Any:
            return 0

        def moved(t: Any, h: Any, carried: Any, advanced: Any) -> Any:
            now = carry(t, h, make_carried(*read(carried)))
            write_reals(advanced, now)
            return now

        return self.know(moved if self.shape.carried else nothing)

    def _scalars(self) -> Any:
        """The scalars of a step."""
        prepare = self.rule.prepare

        def of_hyper(t: Any, h: Any, now: Any) -> Any:
            return h

        def of_count(t: Any, h: Any, now: Any) -> Any:
            return prepare(t, h)

        def of_carried(t: Any, h: Any, now: Any) -> Any:
            return prepare(t, h, now)

        return self.know(of_hyper if prepare is None else of_carried if self.shape.carried else of_count)

    def reduce(self) -> Any:
        """The sums of ``measure``, a row at a time; nothing, which is compiled to nothing, for a rule without."""

        def nothing(arguments: Any, table: Any, begin: Any, end: Any) -> None:
            pass

        if not self.shape.sums:
            return nothing
        terms, add, none = self._of_element(self.rule.measure), *self._adding()
        places_of = tuple_reader(types.int64, types.int64, self.shape.slots)
        scalars_as_kind = tuple_reader(types.float64, self.kind, self.shape.scalars)
        make_scalars, width = self.shape.scalars_type, 8 * self.shape.scalars
        stride, sum_width = 8 * (len(ROW) + self.shape.slots), 8 * self.shape.sums

        def reduce(arguments: Any, table: Any, begin: Any, end: Any) -> None:
            scalars, sums = read_int(arguments, SCALARS), read_int(arguments, SUMS)
            for row in range(begin, end):
                line = table + row * stride
                param, grad, size = read_int(line, PARAM), read_int(line, GRAD), read_int(line, SIZE)
                places = places_of(line + 8 * SLOTS)
                h = make_scalars(*scalars_as_kind(scalars + read_int(line, GROUP) * width))
                totals = none()
                for i in range(np.uint64(size)):
                    totals = add(totals, terms(param, grad, places, i, h))
                write_reals(sums + row * sum_width, totals)

        return reduce

    def conclude(self) -> Any:
        """The scalars of each variable, from the sums of its rows in their order, whoever computed them."""

        def nothing(arguments: Any) -> Any:
            return 0

        if not self.shape.sums:
            return nothing
        fits, conclude_text, (add, none) = self.fits, self.rule.conclude, self._adding()
        scalars_of = tuple_reader(types.float64, types.float64, self.shape.scalars)
        sums_of = tuple_reader(types.float64, types.float64, self.shape.sums)
        make_scalars, width = self.shape.scalars_type, 8 * self.shape.scalars
        sum_width = 8 * self.shape.sums

        def conclude(arguments: Any) -> Any:
            scalars, sums = read_int(arguments, SCALARS), read_int(arguments, SUMS)
            members, concluded = read_int(arguments, MEMBERS), read_int(arguments, CONCLUDED)
            for variable in range(read_int(arguments, VARIABLES)):
                line = members + variable * 24
                first, last, group = read_int(line, 0), read_int(line, 1), read_int(line, 2)
                totals = none()
                for row in range(first, last):
                    totals = add(totals, sums_of(sums + row * sum_width))
                place = concluded + variable * width
                write_reals(place, conclude_text(make_scalars(*scalars_of(scalars + group * width)), totals))
                if not fits(place):
                    return -1 - group
            return 0

        return conclude

    def _adding(self) -> tuple[Any, Any]:
        if self.shape.sums not in ADD:
            measured = f"rule {self.rule.name!r} measures {self.shape.sums} terms; there is room for {max(ADD)}"
            raise RuleError(measured, rule=self.rule.name)
        return self.know(ADD[self.shape.sums]), self.know(NO_SUMS[self.shape.sums])
