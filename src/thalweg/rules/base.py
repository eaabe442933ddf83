"""What an update rule is: data in, data out.

A rule is one short file: two named tuples and two or three plain functions, put together in a :class:`Rule`.
::

    param', slots' = update(param, grad, slots, h)        elementwise, nothing else

``Slots`` names the state that is shaped like the parameter. ``Hyper`` names what a user may set; each field's
annotation carries its valid range and what it means, and its default is the rule's. ``prepare(t, h)`` turns
the step count t = 1, 2, ... and the hyperparameters into the scalars that the text uses; it runs in Python's
double precision, so that 1 − β₂ᵗ does not lose its digits when the parameter is float32.

The text uses ``+ - * /`` and names from :mod:`thalweg.rules.arithmetic`, and **no number literals**: a
literal beside a float32 value would lift the whole loop to float64 on some backends, so constants are
prepared scalars. A rule that needs a reduction over the whole tensor (a trust ratio) says so with
``measure``, elementwise terms whose sums are taken before anything changes, and ``conclude``, which turns the
sums into scalars.
"""

from __future__ import annotations

import operator
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import numpy as np

from thalweg.errors import (
    GradientDtypeError,
    GradientShapeError,
    HyperparameterError,
    ParameterError,
    StateMismatchError,
)
from thalweg.rules.ranges import Interval, number

Array = Any
"""Whatever the backend computes with: a NumPy array, a number inside a compiled loop, a traced value."""

Number = Any
"""A scalar of the backend."""


class NoSlots(NamedTuple):
    """The state of a rule that has none."""


@dataclass(frozen=True)
class Hyperparameter:
    """One declared hyperparameter.

    Args:
        name: how it is spelled.
        default: the rule's default.
        interval: where it is valid.
        doc: what it means, with its unit where it has one.
    """

    name: str
    default: float
    interval: Interval
    doc: str


@dataclass(frozen=True)
class Rule:
    """An update rule.

    Args:
        name: its name, also in study files and saved state.
        slots: the named tuple of its state, each shaped like the parameter and zero at the start.
        hyper: the named tuple of its hyperparameters; each field is
            ``Annotated[Number, Interval, "what it means"]`` and has a default.
        update: the text: ``update(param, grad, slots, h) -> (param, slots)``, elementwise.
        prepare: ``prepare(t, h) -> scalars``, a named tuple of what the text uses; without it the text uses
            ``hyper``.
        measure: ``measure(param, grad, slots, h) -> terms``, a tuple of elementwise terms to be summed over
            the tensor (at the values before the update), for a rule that needs a reduction.
        conclude: ``conclude(h, sums) -> scalars``: what ``prepare`` returned, completed with the sums.
        source: the paper and equation.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules import adam
        >>> param = np.array([1.0, 2.0])
        >>> slots = adam.init(param)
        >>> param, slots = adam.step(param, np.array([0.5, -0.5]), slots, adam.hyper(learning_rate=0.1), t=1)
        >>> param
        array([0.9, 2.1])
    """

    name: str
    slots: type[Any]
    hyper: type[Any]
    update: Callable[..., Any]
    prepare: Callable[[Any, Any], Any] | None = None
    measure: Callable[..., Any] | None = None
    conclude: Callable[[Any, Any], Any] | None = None
    source: str = ""

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The names of the state slots, in order."""
        return tuple(self.slots._fields)

    @cached_property
    def hyperparameters(self) -> dict[str, Hyperparameter]:
        """The declared hyperparameters by name, read off the annotations of ``hyper``."""
        hints = typing.get_type_hints(self.hyper, include_extras=True)
        declared = {}
        for name in self.hyper._fields:
            hint = hints[name]
            if typing.get_origin(hint) is not Annotated or len(hint.__metadata__) != 2:
                raise TypeError(f"rule {self.name!r}: annotate {name} as Annotated[Number, Interval, 'meaning']")
            interval, doc = hint.__metadata__
            declared[name] = Hyperparameter(name, self.hyper._field_defaults[name], interval, doc)
        return declared

    def check(self, hyper: Any) -> Any:
        """``hyper`` with every value a float, inside its range.

        Args:
            hyper: an instance of this rule's ``hyper``.

        Returns:
            The same named tuple with Python floats.

        Raises:
            HyperparameterError: it is not an instance of this rule's ``hyper``, or a value is not a number, not
                finite, or out of its range.
        """
        if not isinstance(hyper, self.hyper):
            raise HyperparameterError(
                f"{self.name}: the hyperparameters are {hyper!r}, of {type(hyper).__module__}; "
                f"give rules.{self.name}.hyper(...)",
                owner=self.name,
            )
        return self.hyper(
            *(
                number(value, declared.interval, name=declared.name, owner=self.name)
                for value, declared in zip(hyper, self.hyperparameters.values(), strict=True)
            )
        )

    def scalars(self, hyper: Any, t: int) -> Any:
        """What the text uses at step t: prepared in double precision.

        Args:
            hyper: checked hyperparameters.
            t: the step's number, from 1.

        Returns:
            A named tuple of floats.
        """
        return hyper if self.prepare is None else self.prepare(t, hyper)

    def init(self, param: np.ndarray) -> Any:
        """The state at the start: zeros shaped like ``param``.

        Args:
            param: the parameter, float32 or float64.

        Returns:
            A named tuple of arrays.

        Raises:
            ParameterError: the parameter is not a NumPy array of float32 or float64.
        """
        native = _native(param, self.name)
        return self.slots(*(np.zeros(native.shape, native.dtype) for _ in self.slot_names))

    def step(
        self, param: np.ndarray, grad: np.ndarray, slots: Any, hyper: Any = None, *, t: int = 1
    ) -> tuple[np.ndarray, Any]:
        """One update, as a pure function: nothing given is changed.

        Args:
            param: the parameter, float32 or float64, in the variable's own unit.
            grad: its gradient, of the same shape and dtype.
            slots: the state, from :meth:`init` or the step before.
            hyper: the hyperparameters, an instance of this rule's ``hyper``; by default its defaults.
            t: the step's number, from 1.

        Returns:
            The new parameter and the new state, new arrays of the parameter's dtype.

        Raises:
            HyperparameterError: a hyperparameter is out of its range, or they are another rule's.
            GradientShapeError: the gradient's shape is another one.
            GradientDtypeError: the gradient's dtype is another one.
            ParameterError: the parameter is not a NumPy array of float32 or float64.
            StateMismatchError: the state is another rule's, or of another shape or dtype, or t is no integer from 1.
        """
        given = _native(param, self.name)
        if np.shape(grad) != given.shape:
            raise GradientShapeError(f"{self.name}: gradient of shape {np.shape(grad)}, parameter {given.shape}")
        gradient = np.asarray(grad)
        if gradient.dtype.newbyteorder("=") != given.dtype:
            raise GradientDtypeError(f"{self.name}: gradient of dtype {gradient.dtype}, parameter {given.dtype}")
        self._check_slots(slots, given)
        scalars = self.scalars(self.check(self.hyper() if hyper is None else hyper), self._step_number(t))
        cast = given.dtype.type
        h = type(scalars)(*map(cast, scalars))
        if self.measure is not None and self.conclude is not None:
            terms = self.measure(given, gradient, slots, h)
            scalars = self.conclude(scalars, tuple(float(np.sum(term, dtype=np.float64)) for term in terms))
            h = type(scalars)(*map(cast, scalars))
        new, moved = self.update(given, gradient, slots, h)
        return np.asarray(new, given.dtype), type(moved)(*(np.asarray(slot, given.dtype) for slot in moved))

    def _check_slots(self, slots: Any, param: np.ndarray) -> None:
        if not isinstance(slots, self.slots):
            raise StateMismatchError(f"{self.name}: the state is a {type(slots)}; give what init or step returned")
        for name, slot in zip(self.slot_names, slots, strict=True):
            if not isinstance(slot, np.ndarray | np.generic) or slot.shape != param.shape:
                raise StateMismatchError(f"{self.name}: slot {name} is {np.shape(slot)}, parameter {param.shape}")
            if slot.dtype.newbyteorder("=") != param.dtype:
                raise StateMismatchError(f"{self.name}: slot {name} is {slot.dtype}, parameter {param.dtype}")

    def _step_number(self, t: Any) -> int:
        try:
            count = operator.index(t)
        except TypeError:
            count = 0
        if count < 1:
            raise StateMismatchError(f"{self.name}: t is {t!r}; steps are counted in integers from 1")
        return count


def _native(param: Any, owner: str) -> np.ndarray:
    """``param`` in the machine's byte order, or the error that says what can be updated."""
    if not isinstance(param, np.ndarray | np.generic) or isinstance(param, np.ma.MaskedArray):
        raise ParameterError(f"{owner}: the parameter is a {type(param).__name__}; give a NumPy array")
    array = np.asarray(param)
    if array.dtype.newbyteorder("=") not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ParameterError(f"{owner}: the parameter's dtype is {array.dtype}; float32 and float64 can be updated")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
