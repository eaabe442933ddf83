"""An error that a rule's text raises itself stays what it is; a library's is told in the rule's terms."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest

from tests.rules.test_results import natively, pure
from tests.rules.test_trying import Scalars, made, of_its_rate, on_jax, on_pytensor, scaled
from thalweg.errors import RuleError
from thalweg.rules.base import NoSlots

X = np.array([3.0, 4.0, 0.0])

PRECONDITIONER = np.array([1.0, 2.0, 3.0])


def conditioned(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    direction = grad * (param * 0.0 + PRECONDITIONER if isinstance(param, np.ndarray) else 2.0)
    if (direction * direction).sum() > 5.0:
        raise ValueError("the truth value of an array is: too long")
    return param, slots


def by_the_rate(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    if h.learning_rate > 0.0:
        raise ValueError("not that fast")
    return param, slots


def of_vectors(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    if len(param.shape) == 1:
        raise RuntimeError("vectors take another rule")
    return param, slots


def of_another_size(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    if param.ndim and param.shape[0] != 3:
        return param - math.sqrt(param), slots
    return (param.reshape(2, 2) if param.ndim else param), slots


@pytest.mark.parametrize("where", [pure, natively])
@pytest.mark.parametrize(
    ("update", "told"),
    [
        (conditioned, "too long"),
        (by_the_rate, "not that fast"),
        (of_vectors, "another rule"),
        (of_another_size, "reshape|is invalid for input"),
    ],
)
def test_an_error_of_the_users_own_stays_what_it_is(update: Any, told: str, where: Any) -> None:
    with pytest.raises((ValueError, RuntimeError), match=told) as caught:
        where(made(NoSlots, update=update)[1], X)
    assert type(caught.value) in (ValueError, RuntimeError)


class Unfit(TypeError):
    """An error of a user's own."""


def refuse(array: Any, kind: type[Exception]) -> None:
    if array.ndim == 1:
        raise kind("vectors take another rule")


def update(kind: type[Exception], param: Any, grad: Any, slots: Any, h: Any) -> Any:
    refuse(param, kind)
    return param - h.learning_rate * grad, slots


def starting(kind: type[Exception], param: Any, h: Any) -> Any:
    refuse(param, kind)
    return (0.0,)


def measuring(kind: type[Exception], param: Any, grad: Any, slots: Any, h: Any) -> Any:
    refuse(param, kind)
    return (grad,)


RAISING: dict[str, Any] = {
    "update": lambda kind: {"slots": NoSlots, "update": functools.partial(update, kind)},
    "start": lambda kind: {
        "update": lambda param, grad, slots, h: (param, slots),
        "start": functools.partial(starting, kind),
    },
    "measure": lambda kind: {
        "slots": NoSlots,
        "update": scaled,
        "prepare": of_its_rate,
        "measure": functools.partial(measuring, kind),
        "conclude": lambda h, sums: Scalars(h.rate * sums[0]),
    },
}


@pytest.mark.parametrize("kind", [ValueError, TypeError, AttributeError, NameError, RuntimeError, Unfit])
@pytest.mark.parametrize("text", RAISING)
@pytest.mark.parametrize("where", [on_jax, on_pytensor])
def test_nor_does_what_traces_a_text_change_it(where: Any, text: str, kind: type[Exception]) -> None:
    cls = made(**RAISING[text](kind))[1]
    with pytest.raises(kind) as caught:
        where(cls, X)
    assert (type(caught.value), str(caught.value)) == (kind, "vectors take another rule")
    where(cls, np.ones((2, 2)))


def test_nor_in_a_compiled_function_of_jax() -> None:
    jax = pytest.importorskip("jax")
    from thalweg.optimizers.jax import JaxOptimizer

    optimizer = JaxOptimizer(made(**RAISING["update"](ValueError))[1](wrap=["ema"]))
    x = jax.numpy.ones(2)
    with pytest.raises(ValueError, match="vectors take another rule") as caught:
        jax.jit(optimizer.step)(x, x, optimizer.init(x))
    assert (type(caught.value), str(caught.value)) == (ValueError, "vectors take another rule")


def handing_on(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    try:
        return (param if grad > h.learning_rate else param - grad), slots
    except Exception:
        raise


def calling_math(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    return param - math.sqrt(grad), slots


@pytest.mark.parametrize("where", [on_jax, on_pytensor])
@pytest.mark.parametrize("text", [handing_on, calling_math])
def test_what_the_tracing_library_raises_is_told(text: Any, where: Any) -> None:
    with pytest.raises(RuleError, match="rule 'mine': update cannot be computed with arrays: "):
        where(made(NoSlots, update=text)[1], X)
