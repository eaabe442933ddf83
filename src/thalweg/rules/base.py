"""What an update rule is: data in, data out.

A rule is one short file: two named tuples and two or three plain functions, put together in a :class:`Rule`.
::

    param', slots' = update(param, grad, slots, h)        elementwise, nothing else

``Slots`` names the state that is shaped like the parameter. ``Hyper`` names what a user may set; each field's
annotation carries its valid range and what it means, and its default is the rule's. ``prepare(t, h)`` turns
the step count t = 1, 2, ... and the hyperparameters into the scalars that the text uses; it runs in double
precision, so that 1 − β₂ᵗ does not lose its digits when the parameter is float32.

The text uses ``+ - * /`` and names from :mod:`thalweg.rules.arithmetic`, and **no number literals**: a
literal beside a float32 value would lift the whole loop to float64 on some backends, so constants are
prepared scalars. No text raises an error, which compiled code cannot: ranges are declared in ``Hyper``. Four things are
for the rules that need them:

- ``start(param, h)``: a state that does not start at zero;
- ``Carried`` and ``carry(t, h, carried)``: numbers that go from step to step, one each, not one an element
  (a product of momenta); ``prepare`` then takes them as its third argument;
- ``measure`` and ``conclude``: sums over the tensor (a trust ratio) between preparing and updating;
- ``evaluate(param, state, h)``: where the model is to be evaluated, if not where it is stored.

Where libraries compute the same rule in different forms, the forms are ``options``, ``variant`` makes the texts
for them, and a *convention* is the set of options and defaults that gives what one library computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.rules.checking import check_state, fitting_gradient, in_dtype, native, step_number
from thalweg.rules.declaring import Hyperparameter, declarations, extended, named_tuple
from thalweg.rules.forms import by_convention, in_form
from thalweg.rules.ranges import number, number_or_array, stays_inside
from thalweg.rules.spelling import unknown
from thalweg.rules.trying import explain, fitting, starts, terms, unpacked

Array = Any
"""Whatever the backend computes with: a NumPy array, a number inside a compiled loop, a traced value."""

Number = Any
"""A scalar of the backend."""


class NoSlots(NamedTuple):
    """The state of a rule that has none."""


@dataclass(frozen=True, eq=False)
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
        start: ``start(param, h) -> slots``, the state before the first step: arrays like ``param``, or numbers.
        carried: the named tuple of the numbers that go from step to step; its defaults are where they start.
        carry: ``carry(t, h, carried) -> carried``, those numbers during step t.
        measure: ``measure(param, grad, slots, h) -> terms``, a tuple of elementwise terms to be summed over
            the tensor (at the values before the update), for a rule that needs a reduction; a number is one for each
            element.
        conclude: ``conclude(h, sums) -> scalars``: what ``prepare`` returned, completed with the sums.
        evaluate: ``evaluate(param, state, h) -> param``, where the model is to be evaluated; ``state`` has the slots,
            and then what is carried.
        derived: whether that place is computed from the parameter, so that nothing else may move the parameter: what
            a projection does to it would be found again there, many times as large.
        options: the forms of the rule: for each option its values, the rule's own first.
        variant: ``variant(**options) -> fields``: the fields of this class that differ for these options.
        initial: hyperparameters that are read at the first step only, because the state starts there, each with what to
            do instead of changing it later: they take no schedule.
        lagged: hyperparameters whose arrays the next step needs once more for what the last one left, so that an array
            stays as it is once a step was made; numbers of the step before are carried, and may change.
        switches: hyperparameters that exist under one option only: name → that (boolean) option.
        conventions: for each library the options and defaults that make this rule compute what it computes.
        chosen: the options that this rule has.
        inside: the rule that this one is around, and what makes this one of it (see :mod:`thalweg.rules.wrapping`).
        decay: how weight decay acts where it is asked for, ``"coupled"`` or ``"decoupled"``
            (see :mod:`thalweg.rules.decaying`).
        source: the paper and equation.
        doc: the formula and what there is to know of it, for the optimizer's docstring.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules import adam
        >>> param = np.array([1.0, 2.0])
        >>> slots = adam.init(param)
        >>> param, slots = adam.step(param, np.array([0.5, -0.5]), slots, adam.hyper(learning_rate=0.1), t=1)
        >>> param
        array([0.9, 2.1])
        >>> adam.convention("keras").hyper().epsilon
        1e-07
    """

    name: str
    slots: type[Any]
    hyper: type[Any]
    update: Callable[..., Any]
    prepare: Callable[..., Any] | None = None
    start: Callable[[Any, Any], Any] | None = None
    carried: type[Any] | None = None
    carry: Callable[[Any, Any, Any], Any] | None = None
    measure: Callable[..., Any] | None = None
    conclude: Callable[[Any, Any], Any] | None = None
    evaluate: Callable[[Any, Any, Any], Any] | None = None
    derived: bool = False
    initial: Mapping[str, str] = field(default_factory=dict)
    lagged: frozenset[str] = frozenset()
    options: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    variant: Callable[..., Mapping[str, Any]] | None = None
    switches: Mapping[str, str] = field(default_factory=dict)
    conventions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    decay: str = "coupled"
    inside: tuple[Rule, Callable[[Rule], Rule]] | None = None
    source: str = ""
    doc: str = ""
    made: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    """What was made of this rule, see :func:`thalweg.rules.keeping.kept_with_rule`."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "made": {}}  # machine code cannot be copied or sent: it is made again

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The names of the state slots, in order."""
        return tuple(self.slots._fields)

    @property
    def carried_names(self) -> tuple[str, ...]:
        """The names of the numbers that go from step to step, in order."""
        return tuple(self.carried._fields) if self.carried else ()

    @cached_property
    def state(self) -> type[Any]:
        """The named tuple that :meth:`init` and :meth:`step` return: the slots, then what is carried."""
        if not self.carried:
            return self.slots
        return extended(NoSlots, *self.slot_names, *self.carried_names, name="State")

    @cached_property
    def hyperparameters(self) -> dict[str, Hyperparameter]:
        """The declared hyperparameters by name, read off the annotations of ``hyper``."""
        return declarations(self.hyper)

    # Forms

    def form(self, **options: Any) -> Rule:
        """This rule in another of its forms.

        Args:
            options: the options that are to differ, by name.

        Returns:
            The rule in that form; the same object each time.

        Raises:
            HyperparameterError: an unknown option (naming the nearest) or value.

        Example:
            >>> from thalweg.rules import adam
            >>> adam.form(epsilon_form="hat").chosen
            {'epsilon_form': 'hat'}
        """
        for name, value in options.items():
            if name not in self.options:
                raise unknown(f"option of {self.name}:", name, self.options)
            if not any(type(value) is type(known) and value == known for known in self.options[name]):
                values = " or ".join(map(repr, self.options[name]))
                message = f"{self.name}: {name} is {value!r}; it may be {values}"
                raise HyperparameterError(message, name=name, value=value)
        complete = {name: options.get(name, self.chosen.get(name, values[0])) for name, values in self.options.items()}
        return in_form(self, tuple(complete.items()))

    def convention(self, library: str) -> Rule:
        """This rule as a library computes it, with that library's defaults.

        Args:
            library: a key of ``conventions``, such as ``"torch"`` or ``"keras"``.

        Returns:
            The rule in that form; the same object each time.

        Raises:
            HyperparameterError: the rule has no such convention (naming those that it has).
        """
        if library not in self.conventions:
            raise unknown(f"convention of {self.name}:", str(library), self.conventions)
        return by_convention(self, library)

    def with_defaults(self, **defaults: float) -> Rule:
        """This rule with other defaults of its hyperparameters.

        Args:
            defaults: the defaults that differ, by name.

        Returns:
            A new rule.

        Raises:
            HyperparameterError: an unknown name, or a value out of its range.
        """
        for name, value in defaults.items():
            if name not in self.hyperparameters:
                raise unknown(f"hyperparameter of {self.name}:", name, self.hyperparameters)
            number(value, self.hyperparameters[name].interval, name=name, owner=self.name)
        several = [replace(h, default=defaults.get(n, h.default)) for n, h in self.hyperparameters.items()]
        return replace(self, hyper=named_tuple("Hyper", several))

    # Numbers

    def check(self, hyper: Any) -> Any:
        """``hyper`` with every value a float, or an array of float64, inside its range.

        Args:
            hyper: an instance of this rule's ``hyper``.

        Returns:
            The same named tuple with Python floats, and arrays that cannot be written to.

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
                number_or_array(value, declared.interval, name=declared.name, owner=self.name)
                for value, declared in zip(hyper, self.hyperparameters.values(), strict=True)
            )
        )

    def check_rounded(self, values: Mapping[str, Any], dtype: np.dtype[Any]) -> None:
        """Refuse hyperparameters that leave their range when rounded to the dtype in which they will be used.

        Args:
            values: checked hyperparameters by name, all of them or some.
            dtype: the dtype of the rule's state.

        Raises:
            HyperparameterError: rounded, a value is outside its range (β₂ = 1 − 1e-9 is 1 in float32).
        """
        for name, value in values.items():
            stays_inside(value, self.hyperparameters[name].interval, dtype, name=name, owner=self.name)

    def scalars(self, hyper: Any, t: Any, carried: Any = None) -> Any:
        """What the text uses at step t: prepared in double precision.

        Args:
            hyper: checked hyperparameters, or traced values.
            t: the step's number, from 1.
            carried: the numbers that :meth:`advance` gave for this step, for a rule that has such.

        Returns:
            A named tuple of floats.
        """
        if self.prepare is None:
            return hyper
        try:
            return self.prepare(t, hyper, carried) if self.carried else self.prepare(t, hyper)
        except (AttributeError, TypeError, NameError) as error:
            explain(self, error)
            raise

    def advance(self, hyper: Any, t: Any, carried: Any) -> Any:
        """The carried numbers of step t, from those of the step before; ``None`` for a rule without.

        Args:
            hyper: checked hyperparameters, or traced values.
            t: the step's number, from 1.
            carried: an instance of ``carried``; ``None`` stands for where they start.

        Returns:
            An instance of ``carried``.
        """
        if self.carried is None or self.carry is None:
            return None
        try:
            return self.carry(t, hyper, self.carried() if carried is None else carried)
        except (AttributeError, TypeError, NameError) as error:
            explain(self, error)
            raise

    def beginning(self, param: Any, hyper: Any) -> tuple[Any, ...]:
        """Where each slot starts: numbers, or arrays like ``param``, of any library.

        Args:
            param: the parameter.
            hyper: checked hyperparameters, or traced values.

        Returns:
            One for each slot.

        Raises:
            RuleError: ``start`` returns something else.
        """
        if self.start is None:
            return (0.0,) * len(self.slot_names)
        try:
            return starts(self, self.start(param, hyper))
        except (AttributeError, TypeError, NameError) as error:
            explain(self, error)
            raise

    # The pure face

    def init(self, param: np.ndarray, hyper: Any = None) -> Any:
        """The state before the first step.

        Args:
            param: the parameter, float32 or float64.
            hyper: the hyperparameters, by default their defaults; a few rules' state depends on them.

        Returns:
            A named tuple of arrays like ``param``, and of floats for what is carried.

        Raises:
            ParameterError: the parameter is not a NumPy array of float32 or float64.
            HyperparameterError: a hyperparameter is out of its range.
            RuleError: a text returns something else than it is to, or reads a name that is not there.
        """
        given = native(param, self.name)
        values = self.beginning(given, self.check(self.hyper() if hyper is None else hyper))
        slots = (np.array(np.broadcast_to(np.asarray(value, given.dtype), given.shape)) for value in values)
        return self.state(*slots, *(self.carried() if self.carried else ()))

    def step(
        self, param: np.ndarray, grad: np.ndarray, state: Any, hyper: Any = None, *, t: int = 1
    ) -> tuple[np.ndarray, Any]:
        """One update, as a pure function: nothing given is changed.

        Args:
            param: the parameter, float32 or float64, in the variable's own unit.
            grad: its gradient, of the same shape and dtype.
            state: from :meth:`init` or the step before.
            hyper: the hyperparameters, an instance of this rule's ``hyper``, each a number or an array of the
                parameter's shape; by default its defaults.
            t: the step's number, from 1.

        Returns:
            The new parameter and the new state, new arrays of the parameter's dtype.

        Raises:
            HyperparameterError: a hyperparameter is out of its range, also when rounded to the parameter's dtype, or
                what the rule computes from them is too large for it; or they are another rule's.
            GradientShapeError: the gradient's shape is another one.
            GradientDtypeError: the gradient is not a NumPy array, or its dtype is another one.
            ParameterError: the parameter is not a NumPy array of float32 or float64.
            StateMismatchError: the state is another rule's, or of another shape or dtype, or t is no integer from 1.
            RuleError: a text returns something else than it is to, reads a name that is not there, or cannot be
                computed with arrays.
        """
        given = native(param, self.name)
        gradient = fitting_gradient(grad, given, self.name)
        check_state(state, self.state, self.slot_names, given, self.name)
        slots = self.slots(*state[: len(self.slot_names)])
        carried = self.carried(*state[len(self.slot_names) :]) if self.carried else None
        count, checked = step_number(t, self.name), self.check(self.hyper() if hyper is None else hyper)
        self.check_rounded(checked._asdict(), given.dtype)
        for name, value in checked._asdict().items():
            if isinstance(value, np.ndarray) and value.shape != given.shape:
                raise HyperparameterError(f"{self.name}: {name} has shape {value.shape}, the parameter {given.shape}")
        carried = self.advance(checked, count, carried)
        try:
            scalars = self.scalars(checked, count, carried)
            h = in_dtype(scalars, checked, given.dtype, self.name)
            if self.measure is not None and self.conclude is not None:
                measured = terms(self, self.measure(given, gradient, slots, h), given.shape)
                each = (np.broadcast_to(term, given.shape) if np.ndim(term) == 0 else term for term in measured)
                scalars = self.conclude(scalars, tuple(float(np.sum(term, dtype=np.float64)) for term in each))
                h = in_dtype(scalars, checked, given.dtype, self.name)
            new, moved = unpacked(self, self.update(given, gradient, slots, h))
            fitting(self, new, moved, given.shape)
        except (AttributeError, TypeError, ValueError, NameError) as error:
            explain(self, error, np.ones(2))
            raise
        arrays = (np.array(np.broadcast_to(np.asarray(slot, given.dtype), given.shape)) for slot in moved)
        return np.asarray(new, given.dtype), self.state(*arrays, *(() if carried is None else map(float, carried)))
