"""What a step on JAX does not take is named by us: another optimizer's state, what is no array, what was given away."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import thalweg as tw  # noqa: E402
from thalweg.errors import (  # noqa: E402
    GradientDtypeError,
    ParameterError,
    StateMismatchError,
    ThalwegError,
)
from thalweg.optimizers import OptimizerSnapshot  # noqa: E402
from thalweg.optimizers.jax import JaxOptimizer  # noqa: E402
from thalweg.schedules import Exp, Plateau  # noqa: E402

X = {"a": [1.0, 2.0], "b": [3.0]}


def given() -> dict[str, Any]:
    return {name: jnp.array(values) for name, values in X.items()}


def grouped(name: str) -> Any:
    return tw.Momentum(groups=[{"variables": name, "momentum": 0.5}])


# ------------------------------------------------------------------ another optimizer's state


def test_the_same_groups_in_other_words_are_the_same() -> None:
    params = given()
    state = JaxOptimizer(grouped("a")).init(params)
    for other in ("a*", "[a]"):
        moved, _ = JaxOptimizer(grouped(other)).step(params, params, state)
        np.testing.assert_array_equal(moved["a"], JaxOptimizer(grouped("a")).step(params, params, state)[0]["a"])


@pytest.mark.parametrize(
    ("there", "here", "said"),
    [
        (tw.Adam(), tw.AdamW(weight_decay=0.5), r"\(adam\), and this is \(adamw\)"),
        (tw.Adam(), tw.Adam(convention="keras"), r"\(adam\), and this is \(adam; epsilon_form='hat'"),
        (tw.SGD(accumulate=4), tw.SGD(accumulate=2), r"\(sgd; accumulate=4\), and this is \(sgd; accumulate=2\)"),
        (tw.SGD(accumulate=2), tw.SGD(), r"\(sgd; accumulate=2\), and this is \(sgd\)"),
        (tw.SGD(), tw.SGD(accumulate=2), r"\(sgd\), and this is \(sgd; accumulate=2\)"),
        (tw.SGD(wrap=["ema"]), tw.SGD(), r"\(sgd; wrap=\['ema'\]\), and this is \(sgd\)"),
        (grouped("a"), tw.Momentum(), r"\(momentum; group 1\), and this is \(momentum\)"),
        (tw.SGD(), tw.SGD(learning_rate=Plateau(0.5)), r"\(sgd\), and this is \(sgd; learning_rate by Plateau\)"),
    ],
)
def test_the_state_of_another_optimizer_is_refused_also_if_its_arrays_fit(there: Any, here: Any, said: str) -> None:
    first, second = JaxOptimizer(there), JaxOptimizer(here)
    params, grads = given(), given()
    state = first.init(params)
    if first.name != "momentum":  # whose groups hold other parameters: that is what makes them others
        for _ in range(3):
            params, state = first.step(params, grads, state)
    before = jax.tree.map(np.array, (params, state))
    for use in (
        second.step,
        second.jitted_step,
        jax.jit(second.step),
        lambda params, grads, state: second.as_optax().update(grads, state, params),
        lambda params, _, state: second.eval_params(params, state),
        lambda params, _, state: second.snapshot(params, state),
    ):
        with pytest.raises(StateMismatchError, match=said):
            use(params, grads, state)
    jax.tree.map(np.testing.assert_array_equal, before, (params, state))
    first.step(params, grads, state)


def test_a_plateau_is_told_of_its_own_state_only() -> None:
    plain, metric = JaxOptimizer(tw.SGD()), JaxOptimizer(tw.SGD(learning_rate=Plateau(0.5)))
    for told, state in ((plain, metric.init(given())), (metric, plain.init(given()))):
        with pytest.raises(StateMismatchError, match="another optimizer"):
            told.observe(state, 1.0)


def test_the_state_of_the_same_optimizer_with_other_numbers_is_its_own() -> None:
    one = JaxOptimizer(tw.Adam(learning_rate=0.5))
    params = given()
    params, state = one.step(params, params, one.init(params))
    state = one.set(state, learning_rate=0.25)
    expected, after = one.step(params, params, state)
    other = JaxOptimizer(tw.Adam(learning_rate=Exp(9.0, gamma=0.5), nonfinite="skip"))
    assert jax.tree.structure(other.init(params)) == jax.tree.structure(state) == jax.tree.structure(after)
    for known in (state, pickle.loads(pickle.dumps(state)), copy.deepcopy(state), jax.tree.map(jnp.copy, state)):
        again = JaxOptimizer(tw.Adam(learning_rate=7.0))
        found, _ = again.step(params, params, known)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        one.step(params, params, known)
    assert one._compiled._cache_size() == 1


def test_a_state_of_an_older_version_does_not_say_whose_it_is() -> None:
    here = JaxOptimizer(tw.Momentum())
    params = given()
    older = here.init(params)._replace(made_for=())
    assert jax.tree.structure(here.step(params, params, older)[1]) == jax.tree.structure(older)
    assert here.restore(here.snapshot(params, older), params).made_for
    gathering = JaxOptimizer(tw.Momentum(accumulate=2))
    with pytest.raises(StateMismatchError, match="holds no sum of gradients, and this optimizer makes a step of 2"):
        gathering.step(params, params, older)
    with pytest.raises(StateMismatchError, match="holds a sum of gradients, and this optimizer makes a step of 1"):
        here.step(params, params, gathering.init(params)._replace(made_for=()))


def test_states_of_several_models_are_one_state() -> None:
    optimizer = JaxOptimizer(tw.Adam(learning_rate=0.5, accumulate=2))
    starts = [jax.tree.map(lambda x, k=k: x + k, given()) for k in range(3)]
    states = [JaxOptimizer(tw.Adam(learning_rate=1.0 + k, accumulate=2)).init(x) for k, x in enumerate(starts)]
    params, state = (jax.tree.map(lambda *several: jnp.stack(several), *trees) for trees in (starts, states))

    def body(carry: Any, _: Any) -> Any:
        return jax.vmap(lambda x, s: optimizer.step(x, x, s))(*carry), None

    (found, _), _ = jax.jit(lambda carry: jax.lax.scan(body, carry, length=4))((params, state))
    for k, (x, one) in enumerate(zip(starts, states, strict=True)):
        for _ in range(4):
            x, one = optimizer.step(x, x, one)
        jax.tree.map(lambda a, b, k=k: np.testing.assert_allclose(a[k], b, rtol=1e-5), found, x)


# ------------------------------------------------------------------ what JAX does not take

STRANGE: dict[str, Callable[[Any], Any]] = {
    "masked": lambda array: np.ma.masked_array(array, mask=[True] * array.size),
    "other byte order": lambda array: array.astype(">f4"),
    "objects": lambda array: array.astype(object),
    "longdouble": lambda array: array.astype(np.longdouble),
    "text": lambda array: array.astype(str),
    "records": lambda array: array.view([("x", "<f4")]),
    "dates": lambda array: array.astype("datetime64[s]"),
    "a shape": lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype),
    "keys": lambda array: jax.random.split(jax.random.key(0), array.size),
    "tensor": lambda array: pytest.importorskip("torch").from_numpy(array),
}


@pytest.mark.parametrize("what", STRANGE)
@pytest.mark.parametrize("way", ["step", "jitted_step"])
def test_what_is_no_array_of_jax_is_named(way: str, what: str) -> None:
    optimizer = JaxOptimizer(tw.Momentum(learning_rate=0.5))
    strange = {**given(), "a": STRANGE[what](np.array(X["a"], np.float32))}
    params = given()
    state = optimizer.init(params)
    call = getattr(optimizer, way)
    with pytest.raises(GradientDtypeError, match=r"parameter 'a'.*: the gradient (is a|has dtype) "):
        call(params, strange, state)
    with pytest.raises(ParameterError, match="parameter 'a': the parameter"):
        call(strange, given(), state)
    with pytest.raises(StateMismatchError, match=r"velocity.* 'a' is|velocity\.a of the state is"):
        call(params, given(), state._replace(slots=state.slots._replace(velocity=strange)))
    found, _ = call(params, given(), state)  # nothing was given away
    assert found["a"].tolist() == [0.5, 1.0]


@pytest.mark.parametrize("way", ["step", "jitted_step"])
def test_a_number_in_the_place_of_state_is_named(way: str) -> None:
    optimizer = JaxOptimizer(tw.Momentum(learning_rate=0.5))
    params = given()
    state = optimizer.init(params)
    call = getattr(optimizer, way)
    numbers = state._replace(slots=state.slots._replace(velocity={"a": 0.0, "b": 0.0}))
    with pytest.raises(
        StateMismatchError, match=r"velocity of parameter 'a' is (a float|\(\) float32); expected \(2,\)"
    ):
        call(params, given(), numbers)
    with pytest.raises(StateMismatchError, match="updates of the state is a str, which JAX does not take"):
        call(params, given(), state._replace(updates="two"))  # type: ignore[arg-type]
    call(params, given(), state)


def test_an_error_of_a_hook_is_the_hook_s() -> None:
    def hook(grad: Any) -> Any:
        raise TypeError("mine")

    optimizer = JaxOptimizer(tw.SGD(process_grad=hook))
    for call in (optimizer.step, optimizer.jitted_step):
        with pytest.raises(TypeError, match=r"^mine") as caught:
            call(given(), given(), optimizer.init(given()))
        assert not isinstance(caught.value, ThalwegError)


def test_random_keys_are_no_parameters() -> None:
    optimizer = JaxOptimizer(tw.SGD())
    with pytest.raises(ParameterError, match=r"parameter 'key': the parameter's dtype is key<\w+>, of random keys"):
        optimizer.init({**given(), "key": jax.random.key(0)})
    x = jnp.ones(())
    with pytest.raises(GradientDtypeError, match="the gradient has dtype key"):
        optimizer.step(x, jax.random.key(0), optimizer.init(x))


# ------------------------------------------------------------------ what was given away before


def test_arrays_that_were_given_to_a_step_before_are_named() -> None:
    optimizer = JaxOptimizer(tw.Momentum(learning_rate=0.5))
    old = given()
    before = optimizer.init(old)
    params, state = optimizer.jitted_step(old, given(), before)
    kept = jax.tree.map(jnp.copy, (params, state))
    of_params = r"'a' of params is deleted: jitted_step .* Go on with what that returned, .*jax.numpy.copy, params\)"
    of_state = "'updates' of state is deleted"
    for call in (optimizer.step, optimizer.jitted_step):
        with pytest.raises(ParameterError, match=of_params):
            call(old, given(), state)
        with pytest.raises(ParameterError, match=of_state):
            call(params, given(), before)
        with pytest.raises(ParameterError, match="'a' of grads is deleted"):
            call(params, old, state)
    for use in (
        lambda: optimizer.snapshot(params, before),
        lambda: optimizer.set(before, learning_rate=0.25),
        lambda: optimizer.current(before, "learning_rate"),
        lambda: optimizer.as_optax().update(given(), before, params),
    ):
        with pytest.raises(ParameterError, match="of state is deleted: jitted_step"):
            use()
    found = optimizer.step(params, given(), state)[0]  # nothing of these was lost
    jax.tree.map(np.testing.assert_array_equal, found, optimizer.step(kept[0], given(), kept[1])[0])


# ------------------------------------------------------------------ counts


@pytest.mark.parametrize("name", ["updates", "skipped", "zeroed", "curr_iter"])
@pytest.mark.parametrize("count", [2**31, 2**40, 10**30])
def test_counts_that_a_state_cannot_hold_are_refused(name: str, count: int) -> None:
    optimizer = JaxOptimizer(tw.SGD())
    saved = optimizer.snapshot(given(), optimizer.init(given()))

    def counted(value: int) -> OptimizerSnapshot:
        meta = copy.deepcopy(saved.meta)
        (meta["optimization_state"] if name == "curr_iter" else meta)[name] = value
        return OptimizerSnapshot(saved.arrays, meta)

    with pytest.raises(StateMismatchError, match=rf"{name} is (beyond )?\d+"):
        optimizer.restore(counted(count), given())
    state = optimizer.restore(counted(2**31 - 1), given())
    assert int(state.counts.curr_iter if name == "curr_iter" else getattr(state, name)) == 2**31 - 1
