"""Hyperparameters that are arrays like the parameter, on JAX: the same numbers as on NumPy."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

import thalweg as tw  # noqa: E402
from thalweg.errors import HyperparameterError, StateMismatchError  # noqa: E402
from thalweg.graph import Variable, wait  # noqa: E402
from thalweg.optimizers import registry  # noqa: E402
from thalweg.optimizers.jax import JaxOptimizer  # noqa: E402

RATES = np.linspace(0.0, 0.2, 6).reshape(2, 3)


def double() -> Any:
    """float64 inside a with; older versions have it elsewhere."""
    found = getattr(jax, "enable_x64", None)
    if found is None:
        from jax.experimental import enable_x64 as found
    return found(True)


def recorded(steps: int) -> tuple[np.ndarray, np.ndarray]:
    print("seed 14")
    rng = np.random.default_rng(14)
    return rng.normal(size=(2, 3)), rng.normal(0.3, 1.0, (steps, 2, 3))


CASES: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {"learning_rate": RATES}),
    ("adam", {"learning_rate": RATES, "beta2": np.linspace(0.9, 0.999, 6).reshape(2, 3), "weight_decay": RATES}),
    ("radam", {"beta1": np.linspace(0.5, 0.9, 6).reshape(2, 3), "learning_rate": 0.1}),
    ("nadam", {"learning_rate": RATES, "accumulate": 2}),
    ("rprop", {"learning_rate": RATES + 0.01, "max_step": RATES + 0.1}),
    ("momentum", {"momentum": RATES, "wrap": ["ema"], "ema_decay": RATES, "learning_rate": 0.1}),
]


@pytest.mark.parametrize(("kind", "options"), CASES, ids=[kind for kind, _ in CASES])
@pytest.mark.parametrize("x64", [True, False], ids=["float64", "float32"])
def test_each_element_has_its_own(kind: str, options: dict[str, Any], x64: bool) -> None:
    start, grads = recorded(8)
    dtype = np.float64 if x64 else np.float32
    x = Variable(start.astype(dtype), name="x", needs_grad=True)
    there = registry[kind](x, **options)
    with double() if x64 else contextlib.nullcontext():
        here = JaxOptimizer(registry[kind](**options))
        params = {"x": jnp.asarray(start, dtype)}
        state = here.init(params)
        for grad in grads:
            wait(there.step(grad=grad.astype(dtype)))
            params, state = here.step(params, {"x": jnp.asarray(grad, dtype)}, state)
        tolerance = 1e-12 if x64 else 2e-6
        np.testing.assert_allclose(params["x"], x.data, rtol=tolerance, atol=tolerance)
        evaluated = here.eval_params(params, state)["x"]
        np.testing.assert_allclose(evaluated, there.eval_params()["x"], rtol=tolerance, atol=tolerance)


def test_a_state_goes_from_one_to_the_other() -> None:
    start, grads = recorded(6)
    x = Variable(start.copy(), name="x", needs_grad=True)
    groups = [{"variables": "x", "learning_rate": RATES}]
    there = tw.Adam(x, groups=groups)
    with double():
        here, params = (
            JaxOptimizer(tw.Adam(groups=[{"variables": "x", "learning_rate": 0.5}])),
            {"x": jnp.asarray(start)},
        )
        for grad in grads[:3]:
            wait(there.step(grad=grad))
        params, state = {"x": jnp.array(x.data)}, here.restore(there.state(), params)
        np.testing.assert_array_equal(here.current(state, "learning_rate", group=0), RATES)
        for grad in grads[3:]:
            wait(there.step(grad=grad))
            params, state = here.step(params, {"x": jnp.asarray(grad)}, state)
        np.testing.assert_allclose(params["x"], x.data, rtol=1e-12)
        back = tw.Adam(Variable(np.array(params["x"]), name="x"), groups=[{"variables": "x", "learning_rate": 0.5}])
        back.restore(here.snapshot(params, state))
        np.testing.assert_array_equal(back.groups[0].learning_rate, RATES)
        with pytest.raises(StateMismatchError, match=r"learning_rate was \(2, 3\), x is \(3,\)"):
            here.restore(there.state(), {"x": jnp.ones(3)})


def test_arrays_are_checked() -> None:
    recipe = tw.SGD(learning_rate=RATES)
    for shape in ((3,), (2, 1), (1, 2, 3), ()):
        with pytest.raises(HyperparameterError, match="nothing is broadcast"):
            JaxOptimizer(recipe).init(jnp.ones(shape))
    with pytest.raises(HyperparameterError, match=r"beta2\[1\] is 0\.999999999, which becomes 1\.0"):
        JaxOptimizer(tw.Adam(beta2=np.array([0.5, 1 - 1e-9]))).init(jnp.ones(2))
    optimizer = JaxOptimizer(recipe)
    state = optimizer.init(jnp.ones((2, 3)))
    state = optimizer.set(state, learning_rate=2 * RATES)
    np.testing.assert_allclose(optimizer.current(state, "learning_rate"), 2 * RATES, rtol=1e-7)
    for wrong, words in (
        (RATES[0], "make another optimizer for another shape"),
        (-RATES, "outside"),
        (0.5, "would be"),
    ):
        with pytest.raises(HyperparameterError, match=words):
            optimizer.set(state, learning_rate=wrong)
    assert "learning_rate=array(2, 3)" in repr(optimizer)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sgd", {"wrap": ["ema"], "ema_decay": np.array([0.9, 0.7, 1 / 3])}),
        ("sgd", {"wrap": ["ema"], "ema_decay": np.array([0.9, 0.7, 0.1]) / 3}),
        ("adagrad", {"initial_accumulator": np.array([0.1, 0.2, 1 / 3])}),
        ("adagrad", {"initial_accumulator": 0.1 + 1 / 3e5}),
    ],
)
def test_what_is_read_once_may_be_set_again_as_it_is(kind: str, options: dict[str, Any], x64: bool) -> None:
    """Also where a state holds less of a number than was given: some 14 digits, as JAX has no float64."""
    name = next(option for option in options if option != "wrap")
    with double() if x64 else contextlib.nullcontext():
        optimizer, x = JaxOptimizer(tw.optimizers.registry[kind](**options)), jnp.ones(3)
        _, state = optimizer.step(x, x, optimizer.init(x))
        again = optimizer.set(state, **{name: options[name]})
        np.testing.assert_array_equal(optimizer.current(again, name), optimizer.current(state, name))
        with pytest.raises(HyperparameterError, match=name):
            optimizer.set(state, **{name: 0.5 * options[name]})


def test_another_array_is_no_other_compilation() -> None:
    optimizer, traced = JaxOptimizer(tw.SGD(learning_rate=RATES)), 0

    @jax.jit
    def step(x: Any, g: Any, state: Any) -> Any:
        nonlocal traced
        traced += 1
        return optimizer.step(x, g, state)

    x = jnp.ones((2, 3))
    state = optimizer.init(x)
    for factor in (1.0, 2.0, 3.0):
        step(x, x, optimizer.set(state, learning_rate=factor * RATES))
    assert traced == 1
