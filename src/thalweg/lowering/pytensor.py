"""The PyTensor lowering: a rule's text as expressions for what parameters and state become. ::

    θ', slots' = update(θ, g, slots, h)        h = scalars(hyper, t, carried)

The scalars are expressions, too, in double precision, and cast to the parameter's dtype before the text sees them.
Sums over the tensor are in double precision. Nothing here is computed or kept: that is ``pytensor.function``'s part.

A graph cannot simply raise an error: PyTensor may have computed one update in place before it finds out that another
must not be made. So all updates go through a :class:`Gate`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from thalweg.errors import MissingExtraError
from thalweg.lowering.comparing import by_value
from thalweg.lowering.tracing import traced
from thalweg.rules.arithmetic import isfinite
from thalweg.rules.base import Rule
from thalweg.rules.namespaces import library_of
from thalweg.rules.ranges import Interval
from thalweg.rules.trying import fitting, terms, unpacked
from thalweg.rules.wrapping import seen_inside

Expression = Any
"""A PyTensor variable; the library brings no types that would be of use."""


class Part(NamedTuple):
    """One parameter in a step.

    Args:
        param: its expression before the step.
        grad: the gradient, of the same shape and dtype.
        slots: the rule's state for it, in the order of ``rule.slot_names``.
        group: the number of the hyperparameters that hold for it.
    """

    param: Expression
    grad: Expression
    slots: tuple[Expression, ...]
    group: int = 0


class Lowered(NamedTuple):
    """What a step makes of everything.

    Args:
        params: for each part the new parameter.
        slots: for each part the new state.
        carried: for each group the new numbers that go from step to step.
    """

    params: list[Expression]
    slots: list[tuple[Expression, ...]]
    carried: list[tuple[Expression, ...]]


def library(name: str = "pytensor") -> Any:
    """PyTensor, imported when it is needed.

    Args:
        name: the module.

    Returns:
        The module.

    Raises:
        MissingExtraError: it is not installed.

    Example:
        >>> from thalweg.lowering.pytensor import library
        >>> library("pytensor.tensor").__name__
        'pytensor.tensor'
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pytensor":
            raise
        raise MissingExtraError(
            "PyTensor is not installed; pip install 'thalweg[pytensor]'", extra="pytensor"
        ) from error


def lower(
    rule: Rule, parts: Sequence[Part], hypers: Sequence[Any], t: Expression, carried: Sequence[Sequence[Expression]]
) -> Lowered:
    """One step of a rule as expressions.

    Args:
        rule: the rule, in any form.
        parts: the parameters.
        hypers: for each group an instance of the rule's ``hyper``, of float64 scalars (expressions or floats), and of
            expressions of the parameters' shape where a hyperparameter is an array.
        t: the step's number, from 1, a float64 scalar.
        carried: for each group the numbers of the step before, float64 scalars; empty for a rule without.

    Returns:
        The new expressions, each of the dtype of what it takes the place of.

    Raises:
        RuleError: the rule's text does what PyTensor cannot make an expression of, or returns another shape than the
            parameter's, as far as the graph tells.

    Example:
        >>> import numpy as np
        >>> from thalweg.lowering.pytensor import Part, library, lower
        >>> from thalweg.rules import sgd
        >>> pt = library("pytensor.tensor")
        >>> x, g = pt.dvector("x"), pt.dvector("g")
        >>> step = lower(sgd, [Part(x, g, ())], [sgd.hyper(learning_rate=0.5)], pt.constant(1.0), [()])
        >>> step.params[0].eval({x: np.array([1.0]), g: np.array([4.0])}, mode="FAST_COMPILE")
        array([-1.])
    """
    with doubles(), traced(rule, "PyTensor"), by_value():
        before = [rule.carried(*numbers) if rule.carried else None for numbers in carried]
        now = [rule.advance(hyper, t, numbers) for hyper, numbers in zip(hypers, before, strict=True)]
        scalars = [rule.scalars(hyper, t, numbers) for hyper, numbers in zip(hypers, now, strict=True)]
        moved = [_updated(rule, part, scalars[part.group]) for part in parts]
        numbers = [() if one is None else tuple(_cast(value, "float64") for value in one) for one in now]
    return Lowered([new for new, _ in moved], [slots for _, slots in moved], numbers)


def _updated(rule: Rule, part: Part, scalars: Any) -> tuple[Expression, tuple[Expression, ...]]:
    dtype, slots, shape = part.param.dtype, rule.slots(*part.slots), _shape(part.param)
    h = type(scalars)(*(_cast(value, dtype) for value in scalars))
    if rule.measure is not None and rule.conclude is not None:
        pt = library("pytensor.tensor")
        measured = terms(rule, rule.measure(part.param, part.grad, slots, h))
        terms(rule, _shapes(measured, part, h, shape), shape)
        each = (_filled(term, part.param, "float64") if np.ndim(term) == 0 else term for term in measured)
        sums = tuple(pt.sum(term, dtype="float64", acc_dtype="float64") for term in each)
        concluded = rule.conclude(scalars, sums)
        h = type(concluded)(*(_cast(value, dtype) for value in concluded))
    with seen_inside() as seen:
        new, after = unpacked(rule, rule.update(part.param, part.grad, slots, h))
    for (inside, _), found in zip(seen, _shapes([value for _, value in seen], part, h, shape), strict=True):
        fitting(inside, found, (), shape)
    now, *moved = _shapes((new, *after), part, h, shape)
    fitting(rule, now, moved, shape)
    each = (_filled(slot, part.param, dtype) if np.ndim(slot) == 0 and part.param.ndim else slot for slot in after)
    return _cast(new, dtype), tuple(_cast(slot, dtype) for slot in each)


class _Shaped(NamedTuple):
    """What is known of a result: its shape."""

    shape: tuple[Any, ...]


def _shape(param: Expression) -> tuple[Any, ...]:
    """A parameter's shape: that of the value of a shared variable, to which the rule's state belongs as well."""
    return np.shape(param.get_value(borrow=True)) if hasattr(param, "get_value") else param.type.shape


def _shapes(values: Sequence[Any], part: Part, h: Any, shape: tuple[Any, ...]) -> tuple[_Shaped, ...]:
    """The shapes of what a text returned for parameter, gradient and slots of that shape; what is not known fits.

    Most shared variables do not say their shape in their type: it is said in a copy of the graph.
    """
    library_type, constant = library("pytensor.tensor").TensorType, library("pytensor.graph.basic").Constant
    known = {number: number.type() for number in h if not isinstance(number, constant)}
    known |= {given: library_type(given.dtype, shape)() for given in (part.param, part.grad, *part.slots)}
    found = list(values)
    places = [place for place, value in enumerate(values) if library_of(value) == "pytensor" and value.ndim]
    with suppress(Exception):  # what cannot be computed with this shape says so itself
        replace = library("pytensor.graph.replace").clone_replace
        copies = replace([values[place] for place in places], known, rebuild_strict=False)
        for place, copy in zip(places, copies, strict=True):
            found[place] = copy
    return tuple(_Shaped(_static(value, shape)) for value in found)


def _static(value: Any, shape: tuple[Any, ...]) -> tuple[int | None, ...]:
    """What the type of a value says of its shape, and where it or ``shape`` says nothing, what ``shape`` says."""
    own: tuple[Any, ...] = value.type.shape if library_of(value) == "pytensor" else np.shape(value)
    if len(own) != len(shape):
        return own
    return tuple(there if None in (one, there) else one for one, there in zip(own, shape, strict=True))


def _cast(value: Any, dtype: str) -> Expression:
    """An expression of that dtype; a number becomes a constant, rounded once."""
    pt = library("pytensor.tensor")
    return pt.cast(value, dtype) if library_of(value) == "pytensor" else pt.constant(np.asarray(value, dtype))


def _filled(value: Any, like: Expression, dtype: str) -> Expression:
    """A number for each element of a parameter."""
    return library("pytensor.tensor").full_like(like, value, dtype=dtype)


@contextmanager
def doubles() -> Iterator[None]:
    """Number literals of a text mean double precision inside, whatever ``floatX`` is: 0.96 is not float32(0.96)."""
    with library().config.change_flags(floatX="float64"):
        yield


def inside(value: Expression, interval: Interval) -> Expression:
    """Whether a number is finite and in an interval, or each element of an array is.

    Args:
        value: float64, a scalar or an array.
        interval: the interval.

    Returns:
        A boolean scalar.

    Example:
        >>> from thalweg.lowering.pytensor import inside, library
        >>> from thalweg.rules.ranges import fraction
        >>> x = library("pytensor.tensor").dscalar("x")
        >>> [bool(inside(x, fraction).eval({x: value}, mode="FAST_COMPILE")) for value in (0.0, 1.0, float("nan"))]
        [True, False, False]
    """
    pt = library("pytensor.tensor")
    with doubles():
        low, high = np.float64(interval.low), np.float64(interval.high)
        above = pt.ge(value, low) if interval.closed_low else pt.gt(value, low)
        below = pt.le(value, high) if interval.closed_high else pt.lt(value, high)
        found = isfinite(value) & above & below
        if interval.whole:
            found &= pt.eq(pt.floor(value), value)
        return pt.all(found) if value.ndim else found


def all_finite(array: Expression) -> Expression:
    """Whether an array holds neither NaN nor infinity, a boolean scalar."""
    return library("pytensor.tensor").all(isfinite(array))


class Gate:
    """Conditions that must hold before anything is updated. ::

        gate(new, old) = new if every condition was found to hold, else nothing is computed

    The error of the first condition that does not hold is raised by PyTensor's ``CheckAndRaise``. Because ``old``
    is needed after the conditions, no backend may have written the new value over it before. That works with PyTensor's
    C, Python and numba backends; its JAX backend leaves checks out.

    Example:
        >>> import numpy as np
        >>> from thalweg.errors import NonFiniteGradientError
        >>> from thalweg.lowering.pytensor import Gate, all_finite, library
        >>> pt = library("pytensor.tensor")
        >>> x, g = pt.dvector("x"), pt.dvector("g")
        >>> gate = Gate()
        >>> gate.require(all_finite(g), NonFiniteGradientError, "the gradient is not finite")
        >>> gate(x - g, x).eval({x: np.array([1.0]), g: np.array([2.0])}, mode="FAST_COMPILE")
        array([-1.])
    """

    def __init__(self) -> None:
        self._open: Expression | None = None
        self._chosen: Expression | None = None

    def require(self, condition: Expression, error: type[Exception], message: str) -> None:
        """Add a condition.

        Args:
            condition: a boolean scalar.
            error: what is raised if it is false.
            message: the error's message; it is fixed when the graph is made, so it holds no values.
        """
        before = library("pytensor.tensor").constant(np.bool_(True)) if self._open is None else self._open
        self._open = library("pytensor.raise_op").CheckAndRaise(error, message)(before, condition)

    def select(self, condition: Expression) -> None:
        """Add a condition without which ``old`` stays, and no error is raised.

        Args:
            condition: a boolean scalar.
        """
        self._chosen = condition if self._chosen is None else self._chosen & condition

    def unselected(self) -> Gate:
        """A gate with what is required so far, and nothing that selects."""
        made = Gate()
        made._open = self._open
        return made

    def __call__(self, new: Expression, old: Expression) -> Expression:
        """The new value, or the old one, once every condition that is required was found to hold."""
        conditions = [condition for condition in (self._open, self._chosen) if condition is not None]
        if not conditions:
            return new
        return library("pytensor.tensor").switch(functools.reduce(operator.and_, conditions), new, old)


def depends(expressions: Iterable[Expression], variable: Expression) -> bool:
    """Whether an expression is computed from a variable.

    Args:
        expressions: where to look.
        variable: what to look for.

    Returns:
        Whether any of them is, or has among its ancestors, that variable.

    Example:
        >>> from thalweg.lowering.pytensor import depends, library
        >>> pt = library("pytensor.tensor")
        >>> x, y = pt.dscalar("x"), pt.dscalar("y")
        >>> depends([x**2 + 1], x), depends([x**2 + 1], y)
        (True, False)
    """
    seen: set[int] = set()
    waiting = list(expressions)
    while waiting:
        found = waiting.pop()
        if found is variable:
            return True
        if id(found) not in seen:
            seen.add(id(found))
            waiting += [] if found.owner is None else found.owner.inputs
    return False
