"""A rule of one's own that a backend cannot work with is a RuleError, which names the rule; and a TypeError still."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest

import thalweg as tw
from thalweg import rules
from thalweg.errors import HyperparameterError, OptimizerError, RuleError
from thalweg.lowering import compile_rule
from thalweg.lowering.tracing import traced
from thalweg.optimizers import LocalOptimizer


class Memory(NamedTuple):
    """One slot."""

    memory: Any


def branching(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    return (param - h.learning_rate * grad if grad > 0 else param), slots


def of_another_library(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    return param - h.learning_rate * math.sqrt(grad), slots


def with_no_such_name(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    return param - grad.step, slots


ARRAYS = "rule 'own': update cannot be computed with arrays: "
TEXTS = [
    (branching, ARRAYS + "The truth value"),
    (of_another_library, ARRAYS + "only "),
    (with_no_such_name, r"rule 'own' cannot be traced by (JAX|PyTensor): ['\w]"),
]  # what is wrong everywhere: tests/rules/test_trying.py and test_results.py


def own(text: Any) -> type[LocalOptimizer]:
    class Own(LocalOptimizer):
        rule = rules.Rule("own", Memory, rules.sgd.hyper, text)

    return Own


def in_words(error: RuleError) -> None:
    assert isinstance(error, TypeError)
    assert isinstance(error, OptimizerError)
    assert error.details["rule"] == "own"
    assert error.__cause__ is not None


@pytest.mark.parametrize(("text", "told"), TEXTS, ids=[text.__name__ for text, _ in TEXTS])
def test_on_jax(text: Any, told: str) -> None:
    jax = pytest.importorskip("jax")
    from thalweg.optimizers.jax import JaxOptimizer

    optimizer = JaxOptimizer(own(text)())
    x = jax.numpy.ones(2)
    state = optimizer.init(x)
    for step in (optimizer.step, jax.jit(optimizer.step)):
        with pytest.raises(RuleError, match=told) as caught:
            step(x, x, state)
        in_words(caught.value)


@pytest.mark.parametrize(("text", "told"), TEXTS, ids=[text.__name__ for text, _ in TEXTS])
def test_on_pytensor(text: Any, told: str) -> None:
    pytensor = pytest.importorskip("pytensor")
    x = pytensor.shared(np.ones(2), name="x")
    with pytest.raises(RuleError, match=told) as caught:
        own(text)().update((x**2).sum(), [x])
    in_words(caught.value)


def test_in_the_compiled_pass() -> None:
    with pytest.raises(RuleError, match="rule 'own' cannot be compiled for float64") as caught:
        compile_rule(own(with_no_such_name).rule, np.dtype(np.float64))
    in_words(caught.value)
    x = tw.Variable(np.ones(2), name="x")
    with pytest.raises(RuleError, match="rule 'own'"):
        tw.wait(own(with_no_such_name)(x).step(grad=np.ones(2)))
    assert x.data.tolist() == [1.0, 1.0]


def test_errors_of_our_own_stay_what_they_are() -> None:
    with pytest.raises(HyperparameterError), traced(rules.sgd, "JAX"):
        raise HyperparameterError("out of range")
    with pytest.raises(MemoryError), traced(rules.sgd, "JAX"):
        raise MemoryError


def test_a_declaration_that_is_none() -> None:
    class Hyper(NamedTuple):
        learning_rate: float = 0.5

    with pytest.raises(RuleError, match="annotate learning_rate as Annotated"):
        _ = rules.Rule("own", Memory, Hyper, branching).hyperparameters
