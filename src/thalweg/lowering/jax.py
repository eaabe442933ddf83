"""The JAX lowering: a rule's text, traced, for one array at a time. ::

    θ', slots' = update(θ, g, slots, h)        h = scalars(hyper, t, carried), rounded to the state's dtype

Everything may be traced: the arrays, the step's number t, the hyperparameters. State is float64 for float64
parameters and float32 for all others: a parameter of bfloat16 or float16 is computed with in float32 and rounded at
the end. The numbers of a step are prepared in float64 where the user has switched that on, and otherwise as pairs of
float32 (:mod:`thalweg.lowering.pairs`). Nothing here switches anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.errors import (
    GradientDtypeError,
    GradientShapeError,
    MissingExtraError,
    ParameterError,
    StateMismatchError,
)
from thalweg.rules.base import Rule
from thalweg.rules.ranges import Interval
from thalweg.rules.trying import fitting, terms, unpacked

try:
    import jax
    import jax.numpy as jnp
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("jax", "jaxlib"):
        raise
    raise MissingExtraError(
        "this needs JAX, which is not installed; install it with: pip install 'thalweg[jax]'", extra="jax"
    ) from error

from thalweg.lowering import pairs
from thalweg.lowering.pairs import Pair
from thalweg.lowering.tracing import traced

DType = np.dtype[Any]

Number = Any
"""A number of a step: a float64 scalar where JAX has float64, else a :class:`~thalweg.lowering.pairs.Pair`."""

COMPUTED_IN: dict[DType, DType] = {
    np.dtype(np.float64): np.dtype(np.float64),
    np.dtype(np.float32): np.dtype(np.float32),
    np.dtype(jnp.bfloat16): np.dtype(np.float32),
    np.dtype(np.float16): np.dtype(np.float32),
}
"""The dtypes that a parameter may have, and for each the one that its state has and the text computes in."""


def has_float64() -> bool:
    """Whether the user has switched float64 on (``jax_enable_x64``), here and now."""
    return bool(jax.dtypes.canonicalize_dtype(np.float64) == np.float64)


def computed_in(param: Any, owner: str) -> DType:
    """The dtype of a parameter's state, in which its rule is computed.

    Args:
        param: the parameter.
        owner: whose parameter it is, for the message.

    Returns:
        float64 for float64, else float32.

    Raises:
        ParameterError: it is no array, or of another dtype, or of float64 while JAX has none.

    Example:
        >>> import jax.numpy as jnp
        >>> from thalweg.lowering.jax import computed_in
        >>> computed_in(jnp.zeros(2, jnp.bfloat16), "adam")
        dtype('float32')
    """
    if not isinstance(param, jax.Array | np.ndarray | np.generic) or isinstance(param, np.ma.MaskedArray):
        raise ParameterError(f"{owner}: the parameter is a {type(param).__name__}; give an array of JAX or NumPy")
    dtype = np.dtype(param.dtype)
    if dtype not in COMPUTED_IN:
        known = ", ".join(kind.name for kind in COMPUTED_IN)
        raise ParameterError(f"{owner}: the parameter's dtype is {dtype}; {known} can be updated", got=str(dtype))
    if dtype == np.float64 and not has_float64():
        raise ParameterError(
            f"{owner}: the parameter's dtype is float64, and JAX would make float32 of it unseen; switch float64 on "
            "(jax.config.update('jax_enable_x64', True), before anything else), or give float32",
            got=str(dtype),
        )
    return COMPUTED_IN[dtype]


def number(value: Any) -> Number:
    """A number as a step computes with it.

    Args:
        value: a Python number, a JAX scalar (traced or not), or such a number already; or a NumPy array of float64.

    Returns:
        A float64 scalar (or array) where JAX has float64, else a pair of float32.

    Example:
        >>> from thalweg.lowering.jax import as_float, number
        >>> as_float(number(0.1))
        0.1
    """
    if isinstance(value, Pair):
        return value
    if has_float64():
        return jnp.asarray(value, jnp.float64)
    return jax.tree.map(jnp.asarray, pairs.pair(value)) if isinstance(value, np.ndarray) else pairs.pair(value)


def as_float(value: Number) -> Any:
    """What :func:`number` made a number of, as that number.

    Args:
        value: not traced.

    Returns:
        The Python number; of one that was kept as a pair 14 decimal digits, which is what a pair holds of it. Of an
        array an array of float64, which holds what the pairs hold.
    """
    if jnp.ndim(value.high if isinstance(value, Pair) else value):
        parts = (value.high, value.low) if isinstance(value, Pair) else (value,)
        return np.sum([np.asarray(part, np.float64) for part in parts], axis=0)
    return float(f"{pairs.as_float(value):.14g}") if isinstance(value, Pair) else float(value)


def as_scalar(value: Number, dtype: DType | None = None) -> jax.Array:
    """A number as a JAX scalar, an array of numbers as an array.

    Args:
        value: the number, or a Python number.
        dtype: float32 or float64; by default the widest that JAX has.

    Returns:
        The scalar, rounded to the nearest.
    """
    kind = np.dtype(np.float64 if has_float64() else np.float32) if dtype is None else dtype
    if isinstance(value, Pair):
        return value.high.astype(kind) + value.low.astype(kind)
    return jnp.asarray(value, kind)


def rounded(values: Any, dtype: DType) -> Any:
    """Numbers as a text is to use them.

    Args:
        values: a named tuple of numbers.
        dtype: the dtype of the arrays in the text.

    Returns:
        The same named tuple of JAX scalars of that dtype.
    """
    return type(values)(*(as_scalar(value, dtype) for value in values))


def init(rule: Rule, param: Any, hyper: Any = None) -> Any:
    """The state before the first step.

    Args:
        rule: the rule.
        param: the parameter: float64, float32, bfloat16 or float16, any shape, traced or not.
        hyper: the hyperparameters, by default their defaults; a few rules' state depends on them.

    Returns:
        ``rule.slots`` of new arrays like ``param``, of float64 or float32 (see :func:`computed_in`).

    Raises:
        ParameterError: the parameter is no array, or of another dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> from thalweg.lowering.jax import init
        >>> from thalweg.rules import momentum
        >>> init(momentum, jnp.ones(2, jnp.bfloat16)).velocity.dtype
        dtype('float32')
    """
    kind = computed_in(param, rule.name)
    with traced(rule, "JAX"):
        values = rule.beginning(jnp.asarray(param, kind), rounded(rule.hyper() if hyper is None else hyper, kind))
        return rule.slots(*(_filled(value, param, kind) for value in values))


def _filled(value: Any, param: Any, kind: DType) -> jax.Array:
    """A new array: what a slot starts with may be the parameter itself, which is often donated to a step."""
    if jnp.ndim(value) == 0 and param.ndim > 0:  # full_like of one number by itself is that very array
        return jnp.full_like(param, value, dtype=kind)
    return jnp.array(jnp.broadcast_to(value, param.shape), kind, copy=True)


def prepare(rule: Rule, hyper: Any, t: Any, carried: Any = None) -> tuple[Any, Any]:
    """The numbers of step t, in float64 or as pairs, computed once for all arrays.

    Args:
        rule: the rule.
        hyper: the hyperparameters, a named tuple of numbers.
        t: the step's number, from 1: an integer, or an integer scalar.
        carried: the numbers of the step before, ``rule.carried``; ``None`` for where they start.

    Returns:
        What ``rule.scalars`` gives, for :func:`step`, and the carried numbers of this step (``None`` without any).

    Example:
        >>> import jax.numpy as jnp
        >>> from thalweg.lowering.jax import as_scalar, prepare
        >>> from thalweg.rules import adam
        >>> scalars, _ = prepare(adam, adam.hyper(), jnp.int32(1))
        >>> as_scalar(scalars.one_minus_beta2)
        Array(0.001, dtype=float32)
    """
    values, count = type(hyper)(*map(number, hyper)), number(jnp.asarray(t))
    before = None if carried is None else type(carried)(*map(number, carried))
    with traced(rule, "JAX"):
        moved = rule.advance(values, count, before)
        found = rule.scalars(values, count, moved)
        after = None if moved is None else type(moved)(*map(number, moved))
        scalars = type(found)(*map(number, found))
    # XLA would compute them in every loop over an array again, and compile for as long as that takes
    scalars, after = pairs.behind_barrier((scalars, after))
    return scalars, after


def usable(rule: Rule, hyper: Any, scalars: Any, dtype: DType) -> jax.Array:
    """Whether a step can be made with these numbers: what elsewhere is an error before the step.

    Args:
        rule: the rule.
        hyper: the hyperparameters.
        scalars: from :func:`prepare`.
        dtype: the dtype that they will be rounded to.

    Returns:
        A boolean scalar: every hyperparameter is inside its range, also when rounded, and every scalar is finite.
    """
    answers = [jnp.all(jnp.isfinite(as_scalar(value, dtype))) for value in scalars]
    for value, declared in zip(hyper, rule.hyperparameters.values(), strict=True):
        answers.append(jnp.all(_inside(as_scalar(value, dtype), declared.interval)))
    return jnp.all(jnp.stack(answers))


def _inside(x: jax.Array, interval: Interval) -> jax.Array:
    above = x >= interval.low if interval.closed_low else x > interval.low
    below = x <= interval.high if interval.closed_high else x < interval.high
    whole = jnp.floor(x) == x if interval.whole else jnp.isfinite(x)
    return above & below & whole


def step(rule: Rule, param: Any, grad: Any, slots: Any, scalars: Any) -> tuple[jax.Array, Any]:
    """One update of one array, as a pure function of arrays that may be traced.

    Args:
        rule: the rule.
        param: the parameter: float64, float32, bfloat16 or float16, any shape, in the variable's own unit.
        grad: its gradient, of the same shape and of its dtype or its state's.
        slots: the state, from :func:`init` or the step before.
        scalars: from :func:`prepare`.

    Returns:
        The new parameter, of the dtype of ``param``, and the new state. Sums over the array (of a rule that has
        such) are in float64 where JAX has it, else in float32.

    Raises:
        ParameterError: the parameter is no array, or of another dtype.
        GradientShapeError: the gradient's shape is another one.
        GradientDtypeError: the gradient's dtype is another one.
        StateMismatchError: the state is another rule's, or of another shape or dtype.
        RuleError: the rule's text does what JAX cannot trace.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from thalweg.lowering.jax import init, prepare, step
        >>> from thalweg.rules import adam
        >>> @jax.jit
        ... def update(x, g, slots, rate, t):
        ...     scalars, _ = prepare(adam, adam.hyper(learning_rate=rate), t)
        ...     return step(adam, x, g, slots, scalars)
        >>> x = jnp.array([1.0, 2.0])
        >>> x, slots = update(x, jnp.array([0.5, -0.5]), init(adam, x), 0.1, 1)
        >>> x
        Array([0.9, 2.1], dtype=float32)
    """
    kind = computed_in(param, rule.name)
    _check(rule, param, grad, slots, kind)
    old, given = jnp.asarray(param, kind), jnp.asarray(grad, kind)
    h = rounded(scalars, kind)
    with traced(rule, "JAX"):
        if rule.measure is not None and rule.conclude is not None:
            sums_in = jnp.float64 if has_float64() else jnp.float32
            measured = terms(rule, rule.measure(old, given, slots, h), old.shape)
            each = (jnp.broadcast_to(term, old.shape) for term in measured)
            h = rounded(rule.conclude(scalars, tuple(jnp.sum(term, dtype=sums_in) for term in each)), kind)
        new, moved = unpacked(rule, rule.update(old, given, slots, h))
        fitting(rule, new, moved, old.shape)
        after = (jnp.broadcast_to(jnp.asarray(slot, kind), old.shape) for slot in moved)
        return new.astype(param.dtype), rule.slots(*after)


def _check(rule: Rule, param: Any, grad: Any, slots: Any, kind: DType) -> None:
    if grad.shape != param.shape:
        raise GradientShapeError(
            f"{rule.name}: gradient of shape {grad.shape}, parameter {param.shape}; nothing is broadcast"
        )
    if np.dtype(grad.dtype) not in (np.dtype(param.dtype), kind):
        raise GradientDtypeError(f"{rule.name}: gradient of dtype {grad.dtype}, parameter {param.dtype}")
    if not isinstance(slots, rule.slots):
        raise StateMismatchError(f"{rule.name}: the state is a {type(slots).__name__}; give what init or step returned")
    for name, slot in zip(rule.slot_names, slots, strict=True):
        if slot.shape != param.shape or np.dtype(slot.dtype) != kind:
            raise StateMismatchError(
                f"{rule.name}: slot {name} is {slot.shape} {slot.dtype}; expected {param.shape} {kind}"
            )


def evaluate(rule: Rule, param: Any, slots: Any, hyper: Any, carried: Any = None) -> jax.Array:
    """Where the model is to be evaluated: for Schedule-Free and EMA not where the parameter is.

    Args:
        rule: the rule.
        param: the parameter.
        slots: its state.
        hyper: its hyperparameters, a named tuple of numbers.
        carried: the numbers that the rule carries from step to step, from :func:`prepare`, if it has such.

    Returns:
        An array of the shape and dtype of ``param``; ``param`` itself for rules that evaluate where they store.

    Example:
        >>> import jax.numpy as jnp
        >>> from thalweg.lowering.jax import evaluate, init, prepare, step
        >>> from thalweg.rules import averaged, sgd
        >>> rule = averaged(sgd)
        >>> hyper = rule.hyper(learning_rate=1.0, ema_decay=0.75)
        >>> x = jnp.array([1.0])
        >>> scalars, carried = prepare(rule, hyper, 1)
        >>> x, slots = step(rule, x, jnp.array([4.0]), init(rule, x, hyper), scalars)
        >>> x, evaluate(rule, x, slots, hyper, carried)
        (Array([-3.], dtype=float32), Array([0.], dtype=float32))
    """
    if rule.evaluate is None:
        return jnp.asarray(param)
    kind = computed_in(param, rule.name)
    state = slots if carried is None else rule.state(*slots, *rounded(carried, kind))
    with traced(rule, "JAX"):
        found: jax.Array = rule.evaluate(jnp.asarray(param, kind), state, rounded(hyper, kind))
        return found.astype(param.dtype)
