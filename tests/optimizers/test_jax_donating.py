"""Arrays that are given twice to a step that takes their memory: an error that names them, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

import thalweg as tw  # noqa: E402
from thalweg.errors import ParameterError  # noqa: E402
from thalweg.optimizers.jax import JaxOptimizer  # noqa: E402

OPTIMIZER = JaxOptimizer(tw.Momentum(learning_rate=0.5, momentum=0.5))
Given = tuple[Any, Any, Any]


def ones(value: float = 1.0) -> Any:
    return {"dense": {"w": jnp.full(2, value)}, "b": jnp.full(2, value)}


def grads_are_params() -> Given:
    params = ones()
    return params, params, OPTIMIZER.init(params)


def one_under_two_names() -> Given:
    x = jnp.ones(2)
    params = {"dense": {"w": x}, "b": x}
    return params, ones(), OPTIMIZER.init(params)


def grads_are_of_the_state() -> Given:
    state = OPTIMIZER.init(ones())
    return ones(), state.slots.velocity, state


def params_are_of_the_state() -> Given:
    params = ones()
    state = OPTIMIZER.init(params)
    return params, ones(), state._replace(slots=state.slots._replace(velocity=params))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (grads_are_params, "'b' of params and 'b' of grads"),
        (one_under_two_names, "'b' of params and 'dense.w' of params"),
        (grads_are_of_the_state, "'slots.velocity.b' of state and 'b' of grads"),
        (params_are_of_the_state, "'b' of params and 'slots.velocity.b' of state"),
    ],
)
def test_an_array_that_is_given_twice_is_named_and_nothing_is_lost(made: Callable[[], Given], said: str) -> None:
    params, grads, state = made()
    with pytest.raises(ParameterError, match=rf"momentum: {said} are the same array .* or use step"):
        OPTIMIZER.jitted_step(params, grads, state)
    expected, after = OPTIMIZER.step(params, grads, state)  # as it says
    copies = jax.tree.map(lambda array: jnp.array(array, copy=True), (params, grads, state))
    found, also = OPTIMIZER.jitted_step(*copies)
    pairs = zip(jax.tree.leaves((found, also.slots)), jax.tree.leaves((expected, after.slots)), strict=True)
    for one, other in pairs:
        assert one.tolist() == other.tolist()


def test_gradients_may_be_one_array() -> None:
    g, params = jnp.ones(2), ones()
    params, _ = OPTIMIZER.jitted_step(params, {"dense": {"w": g}, "b": g}, OPTIMIZER.init(params))
    assert params["b"].tolist() == params["dense"]["w"].tolist() == [0.5, 0.5]


def test_inside_a_trace_nothing_is_given_away() -> None:
    @jax.jit
    def twice(x: Any) -> Any:
        params = {"a": x, "b": x}
        return OPTIMIZER.jitted_step(params, params, OPTIMIZER.init(params))[0]

    found = twice(jnp.ones(2))
    assert found["a"].tolist() == found["b"].tolist() == [0.5, 0.5]


def test_another_error_of_xla_s_is_its_own() -> None:
    params = ones()
    state = OPTIMIZER.init(params)
    OPTIMIZER.jitted_step(params, ones(), state)
    with pytest.raises((RuntimeError, ValueError), match="deleted"):
        OPTIMIZER.jitted_step(params, ones(), state)


def test_it_has_the_methods_of_a_compiled_function() -> None:
    params = ones()
    state = OPTIMIZER.init(params)
    assert "input_output_alias" in OPTIMIZER.jitted_step.lower(params, ones(), state).compile().as_text()
    assert jax.tree.structure(OPTIMIZER.jitted_step.eval_shape(params, ones(), state)[0]) == jax.tree.structure(params)
