"""Arrays that are given twice to a step that takes their memory: an error that names them, and changes nothing."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

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
    def refuse(_: Any) -> Any:
        raise RuntimeError("no memory is left")

    def hook(grad: Any) -> Any:
        return jax.pure_callback(refuse, jax.ShapeDtypeStruct(grad.shape, grad.dtype), grad)

    optimizer = JaxOptimizer(tw.Momentum(process_grad=hook))
    with pytest.raises(jax.errors.JaxRuntimeError, match="no memory is left"):
        jax.block_until_ready(optimizer.jitted_step(ones(), ones(), optimizer.init(ones())))


def test_it_has_the_methods_of_a_compiled_function() -> None:
    params = ones()
    state = OPTIMIZER.init(params)
    assert "input_output_alias" in OPTIMIZER.jitted_step.lower(params, ones(), state).compile().as_text()
    assert jax.tree.structure(OPTIMIZER.jitted_step.eval_shape(params, ones(), state)[0]) == jax.tree.structure(params)


def cloudpickled(one: Any) -> Any:
    return cloudpickle.loads(cloudpickle.dumps(one))


@pytest.mark.parametrize("sent", [copy.deepcopy, cloudpickled])
def test_an_optimizer_that_has_made_a_step_can_be_copied_and_sent(sent: Callable[[Any], Any]) -> None:
    here = JaxOptimizer(tw.Momentum(learning_rate=0.5, momentum=0.5))
    params, state = here.jitted_step(ones(), ones(), here.init(ones()))
    params, state = here.step(params, ones(), state)
    x = tw.Variable(np.ones(2), name="x", needs_grad=True)
    tw.wait(tw.Momentum(x, learning_rate=0.5).step(grad=np.ones(2)))  # its kernel is kept with the same rule
    there = sent(here)
    assert there.jitted_step.__wrapped__.__self__ is there
    assert "input_output_alias" in there.jitted_step.lower(params, ones(), state).compile().as_text()
    for made in (there.jitted_step, sent(here.jitted_step), there.step):
        found, _ = made(*jax.tree.map(jnp.copy, (params, ones(), state)))
        assert found["b"].tolist() == here.step(params, ones(), state)[0]["b"].tolist() == [-1.125, -1.125]
    params = ones()
    with pytest.raises(ParameterError, match="'b' of params and 'b' of grads are the same array"):
        there.jitted_step(params, params, there.init(params))


def test_its_signature_is_that_of_a_step() -> None:
    assert list(inspect.signature(OPTIMIZER.jitted_step).parameters) == ["params", "grads", "state"]
