"""Numbers that JAX cannot hold, or a step cannot take: refused when they are given, whoever uses them."""

from __future__ import annotations

import contextlib
import re
import warnings
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

import thalweg as tw  # noqa: E402
from thalweg.errors import HyperparameterError, StateMismatchError  # noqa: E402
from thalweg.lowering import jax as lowering  # noqa: E402
from thalweg.lowering import pairs  # noqa: E402
from thalweg.lowering.pairs import pair, split  # noqa: E402
from thalweg.optimizers.jax import JaxOptimizer, held  # noqa: E402
from thalweg.rules import adam  # noqa: E402


def double() -> contextlib.AbstractContextManager[Any]:
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


def group(**settings: Any) -> list[dict[str, Any]]:
    """One that holds the only parameter, so that nobody uses the optimizer's own."""
    return [{"variables": ["a"], **settings}]


def of_numpy(**settings: Any) -> Any:
    made = tw.Adam(tw.Variable(np.ones(2, np.float32), name="a", needs_grad=True), groups=group(epsilon=1e-3))
    for name, value in settings.items():
        setattr(made, name, value)
    tw.wait(made.step(grad=np.ones(2, np.float32)))
    return made


UNUSED = [("epsilon", 1e-60, "0.0"), ("beta2", 1 - 1e-15, "1.0"), ("learning_rate", 1e39, "inf")]
SETS = {"epsilon": 1e-3, "beta2": 0.9, "learning_rate": 0.5}


@pytest.mark.parametrize(("name", "value", "held"), UNUSED)
def test_a_number_that_no_parameter_uses_is_checked_as_it_is_held(name: str, value: float, held: str) -> None:
    params = {"a": jnp.ones(2)}
    said = rf"{name} = {re.escape(repr(value))} becomes {held} in float32.* switch float64 on"
    optimizer = JaxOptimizer(tw.Adam(groups=group(**{name: SETS[name]})))
    with pytest.raises(HyperparameterError, match=said):
        optimizer.set(optimizer.init(params), **{name: value})
    with pytest.raises(HyperparameterError, match=said):
        JaxOptimizer(tw.Adam(**{name: value}, groups=group(**{name: SETS[name]}))).init(params)
    with double():  # float64 holds it
        state = optimizer.set(optimizer.init(params), **{name: value})
        snapshot = optimizer.snapshot(params, state)
        assert snapshot.meta["hyperparameters"][name] == value
        assert lowering.as_float(optimizer.restore(snapshot, params).hyperparameters[0][name]) == value
    with pytest.raises(StateMismatchError, match=said):
        optimizer.restore(snapshot, params)


def test_what_restore_takes_can_be_saved_and_restored_again() -> None:
    optimizer, params = JaxOptimizer(tw.Adam(groups=group(epsilon=1e-3))), {"a": jnp.ones(2)}
    with pytest.raises(StateMismatchError, match=r"epsilon = 1e-60 becomes 0\.0 in float32"):
        optimizer.restore(of_numpy(epsilon=1e-60).state(), params)
    state = optimizer.restore(of_numpy(epsilon=1e-30).state(), params)
    params, state = optimizer.jitted_step(params, {"a": jnp.ones(2)}, state)
    again = optimizer.restore(optimizer.snapshot(params, state), params)
    assert float(optimizer.current(again, "epsilon")) == np.float32(1e-30)


def test_what_a_parameter_s_dtype_cannot_take_is_not_restored() -> None:
    """With float64 the state holds it, and a step in float32 would never be made."""
    there = tw.Adam(tw.Variable(np.ones(2, np.float32), name="a", needs_grad=True), groups=group(epsilon=1e-60))
    params = {"a": jnp.ones(2, jnp.float32)}
    with double(), pytest.raises(StateMismatchError, match=r"epsilon = 1e-60 becomes 0\.0 in float32"):
        JaxOptimizer(tw.Adam(groups=group(epsilon=1e-3))).restore(there.state(), params)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_rule_without_state_is_set_to_no_rate_with_which_no_step_is_made(accumulate: int) -> None:
    optimizer, x = JaxOptimizer(tw.SGD(accumulate=accumulate)), jnp.ones(2)
    state = optimizer.init(x)
    with pytest.raises(HyperparameterError, match=r"learning_rate = 1e\+39 becomes inf in float32"):
        optimizer.set(state, learning_rate=1e39)
    if accumulate > 1:  # the sum of the gradients says what the parameters are
        with double(), pytest.raises(HyperparameterError, match=r"learning_rate = 1e\+39 becomes inf in float32"):
            optimizer.set(optimizer.init(x), learning_rate=1e39)
    state = optimizer.set(state, learning_rate=0.25)
    for _ in range(accumulate):
        x, state = optimizer.jitted_step(x, jnp.ones(2), state)
    assert x.tolist() == [0.75, 0.75]


def test_an_element_of_an_array_is_named() -> None:
    optimizer = JaxOptimizer(tw.SGD(learning_rate=np.full(2, 0.5), groups=group(learning_rate=0.5)))
    state = optimizer.init({"a": jnp.ones(2)})
    with pytest.raises(HyperparameterError, match=r"learning_rate\[1\] = 1e\+39 becomes inf in float32"):
        optimizer.set(state, learning_rate=np.array([0.5, 1e39]))


@pytest.mark.parametrize("x64", [True, False], ids=["float64", "float32"])
def test_a_number_that_xla_takes_as_zero_is_zero(x64: bool) -> None:
    """It is subnormal in float32: every step was one that is not made, without a word of jitted_step."""
    with double() if x64 else contextlib.nullcontext():
        optimizer, x = JaxOptimizer(tw.Adam()), jnp.ones(2, jnp.float32)
        with pytest.raises(HyperparameterError, match=r"epsilon = 1e-40 becomes 0\.0 where XLA computes in float32"):
            optimizer.set(optimizer.init(x), epsilon=1e-40)
        state = optimizer.set(optimizer.init(x), epsilon=1e-37, learning_rate=1e-40)
        assert optimizer.step(x, x, state)[1].usable


def test_a_number_that_is_too_large_for_a_pair_is_infinite_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (1e39, np.float64(-1e39), np.array([1e39, 1.0])):
            np.testing.assert_array_equal(
                lowering.as_float(pair(value)), np.where(np.abs(value) > 1e38, np.sign(value) * np.inf, value)
            )


@pytest.mark.parametrize(
    "value",
    [0.1, 3, 1 - 1e-9, 1e-37 * 1.23456789, 1e-40, 1e-60, 3.4028236e38, 1e39, np.float64(-1e39), np.float32(0.1)],
)
def test_what_numpy_splits_is_what_a_state_holds(value: Any) -> None:
    for given in (value, np.full(2, value, np.float64)):
        there = lowering.number(given)
        for part, other in zip(split(given), (there.high, there.low), strict=True):
            assert part.dtype == other.dtype == np.float32
            assert part.tobytes() == np.asarray(other).tobytes()  # also a zero's sign


def test_a_check_waits_for_nothing_of_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took init two to four times as long as all the rest."""
    monkeypatch.setattr(pairs, "jnp", None)
    kinds = [np.dtype(np.float32)]
    held.check(adam, {"learning_rate": 0.1, "epsilon": 1e-37}, kinds)
    with pytest.raises(HyperparameterError, match=r"epsilon = 1e-60 becomes 0\.0 in float32"):
        held.check(adam, {"epsilon": 1e-60})
    with pytest.raises(HyperparameterError, match=r"epsilon\[1\] = 1e-60 becomes 0\.0 in float32"):
        held.check(adam, {"epsilon": np.array([1e-3, 1e-60])})
