"""Scalars of JAX's and PyTorch's as hyperparameters: given as they are, or said by a schedule, Optax's above all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytensor
import pytest
import torch

import thalweg as tw
from thalweg.errors import HyperparameterError
from thalweg.optimizers.jax import JaxOptimizer
from thalweg.optimizers.torch import TorchOptimizer

STEPS = 12
START = np.array([1.0, -2.0, 0.5], np.float32)
GRADS = np.random.default_rng(3).normal(size=(STEPS, 3)).astype(np.float32)
SCHEDULES: dict[str, Any] = {
    "cosine": optax.cosine_decay_schedule(0.1, 10),
    "exponential": optax.exponential_decay(0.1, 3, 0.5),
    "linear": optax.linear_schedule(0.1, 0.01, 8),
    "warmup_cosine": optax.warmup_cosine_decay_schedule(0.0, 0.1, 4, 10, 0.001),
    "piecewise": optax.piecewise_constant_schedule(0.1, {3: 0.5, 7: 0.1}),
    "where": lambda count: jnp.where(count < 2, 0.1, 0.01),
}


def of_count(schedule: Any) -> Callable[[Any], Any]:
    """As docs/schedules.md has it."""
    return lambda state: schedule(state.completed_iterations)


def numpy_path(optimizer: tw.SGD) -> np.ndarray:
    x = tw.Variable(START.copy(), name="x", needs_grad=True)
    bound = tw.SGD(x, learning_rate=optimizer.learning_rate)
    return np.array([np.array(tw.wait(bound.step(grad=grad)).data) for grad in GRADS])


def torch_path(optimizer: tw.SGD) -> np.ndarray:
    x, path = torch.nn.Parameter(torch.tensor(START)), []
    over = TorchOptimizer([("x", x)], optimizer)
    for grad in GRADS:
        x.grad = torch.tensor(grad)
        over.step()
        path.append(x.detach().numpy().copy())
    return np.array(path)


def jax_path(optimizer: tw.SGD, *, jitted: bool = False) -> np.ndarray:
    over, x, path = JaxOptimizer(optimizer), jnp.array(START), []
    state = over.init(x)
    for grad in GRADS:
        x, state = (over.jitted_step if jitted else over.step)(x, jnp.array(grad), state)
        path.append(np.array(x))
    return np.array(path)


def jitted_path(optimizer: tw.SGD) -> np.ndarray:
    return jax_path(optimizer, jitted=True)


def scanned_path(optimizer: tw.SGD) -> np.ndarray:
    over, x = JaxOptimizer(optimizer), jnp.array(START)

    def body(carry: Any, grad: Any) -> Any:
        after = over.step(carry[0], grad, carry[1])
        return after, after[0]

    return np.array(jax.lax.scan(body, (x, over.init(x)), jnp.array(GRADS))[1])


def optax_path(schedule: Any) -> np.ndarray:
    theirs, x, path = optax.sgd(schedule), jnp.array(START), []
    state = theirs.init(x)
    for grad in GRADS:
        updates, state = theirs.update(jnp.array(grad), state, x)
        x = optax.apply_updates(x, updates)
        path.append(np.array(x))
    return np.array(path)


@pytest.mark.parametrize("path", [numpy_path, torch_path, jax_path, jitted_path, scanned_path])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_of_optax_goes_in_as_the_page_says(name: str, path: Callable[[tw.SGD], np.ndarray]) -> None:
    schedule = SCHEDULES[name]
    found = path(tw.SGD(learning_rate=of_count(schedule)))
    np.testing.assert_allclose(found, optax_path(schedule), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_pytensor_says_what_to_do_instead(name: str) -> None:
    x = pytensor.shared(START.copy(), name="x")
    with pytest.raises(HyperparameterError, match="give the number as a shared variable instead"):
        tw.SGD(learning_rate=of_count(SCHEDULES[name])).update((x**2).sum(), [x])


SCALARS = [jnp.float32(0.25), jnp.array(0.25, jnp.bfloat16), torch.tensor(0.25), torch.tensor(0.25).half()]


@pytest.mark.parametrize("scalar", [*SCALARS, np.array(0.25), np.float32(0.25)], ids=repr)
def test_a_scalar_of_any_library_is_a_number(scalar: Any) -> None:
    assert tw.SGD(learning_rate=scalar).learning_rate == 0.25
    state = tw.OptimizationState()
    said = tw.get_learning_rate(lambda _: scalar, state)
    assert type(said) is float
    assert said == tw.get_learning_rate(scalar, state) == 0.25


@pytest.mark.parametrize("integer", [jnp.int32(2), torch.tensor(2)], ids=repr)
def test_an_integer_of_any_library_is_a_number(integer: Any) -> None:
    assert tw.SGD(learning_rate=integer).learning_rate == 2.0


REFUSED = [
    *(jnp.array(one) for one in (True, 1j, float("nan"), float("inf"), -1.0)),
    *(torch.tensor(one) for one in (True, 1j, float("nan"), float("inf"), -1.0)),
    jnp.ones(2),
    jnp.ones(1),
    torch.ones(1),
    torch.tensor(0.1, requires_grad=True),
    torch.tensor(0.1, device="meta"),
]


@pytest.mark.parametrize("value", REFUSED, ids=repr)
def test_what_is_no_real_number_in_range_is_still_refused(value: Any) -> None:
    with pytest.raises(HyperparameterError, match="learning_rate is"):
        tw.SGD(learning_rate=value)
    with pytest.raises(HyperparameterError, match="learning_rate is") as caught:
        tw.SGD(learning_rate=lambda state: value)
    assert "its schedule" in caught.value.__notes__[0]


def test_a_traced_number_is_refused_where_a_number_is_kept_and_flagged_where_it_is_used() -> None:
    with pytest.raises(HyperparameterError, match="learning_rate is"):
        jax.jit(lambda rate: tw.SGD(learning_rate=rate).learning_rate)(0.1)
    falling = JaxOptimizer(tw.SGD(learning_rate=lambda state: 0.1 - jnp.float32(0.1) * state.completed_iterations))
    x, flags = jnp.array(START), []
    state = falling.init(x)
    for _ in range(3):
        x, state = falling.jitted_step(x, jnp.ones(3), state)
        flags.append(bool(state.usable))
    assert flags == [True, True, False]
