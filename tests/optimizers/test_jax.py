"""Optimizers on JAX: held against the same settings on NumPy, and what JAX asks of a step."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import thalweg as tw  # noqa: E402
from thalweg import optimizers, transforms  # noqa: E402
from thalweg.errors import (  # noqa: E402
    GradientDtypeError,
    GradientShapeError,
    HyperparameterError,
    MissingGradientError,
    NonFiniteGradientError,
    OptimizerError,
    ParameterError,
    StateMismatchError,
)
from thalweg.graph import Variable, wait  # noqa: E402
from thalweg.lowering import jax as lowering  # noqa: E402
from thalweg.optimizers.jax import JaxOptimizer  # noqa: E402
from thalweg.schedules import Cosine, Counts, Exp, OptimizationState, Plateau, WarmUp  # noqa: E402

SHAPES = {"dense.kernel": (3, 4), "dense.bias": (4,), "scale": ()}
NAMES = tuple(SHAPES)


def double() -> contextlib.AbstractContextManager[Any]:
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


@pytest.fixture(autouse=True)
def _float64_stays_as_it_was() -> Iterator[None]:
    before = lowering.has_float64()
    yield
    assert lowering.has_float64() == before


def drawn(seed: int, steps: int, dtype: Any = np.float64) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Parameters and gradients by name."""
    rng = np.random.default_rng(seed)
    several = [{n: np.asarray(rng.normal(size=shape), dtype) for n, shape in SHAPES.items()} for _ in range(steps + 1)]
    return several[0], several[1:]


def tree(arrays: Mapping[str, Any]) -> Any:
    """The same arrays nested as their names say."""
    dense = {name.removeprefix("dense."): jnp.asarray(a) for name, a in arrays.items() if name.startswith("dense.")}
    return {"dense": dense, "scale": jnp.asarray(arrays["scale"])}


def flat(params: Any) -> dict[str, np.ndarray]:
    dense = {f"dense.{name}": np.asarray(array) for name, array in params["dense"].items()}
    return {**dense, "scale": np.asarray(params["scale"])}


class There:
    """An optimizer on NumPy over the same parameters."""

    def __init__(self, optimizer: Any, start: Mapping[str, np.ndarray]) -> None:
        self.optimizer = optimizer
        self.variables = {n: Variable(a.copy(), name=n, needs_grad=True) for n, a in start.items()}
        optimizer.bind(list(self.variables.values()))

    def step(self, grads: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        wait(self.optimizer.step(grad=dict(grads)))
        return {name: variable.data for name, variable in self.variables.items()}


def close(found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float = 1e-12) -> None:
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=tolerance, atol=tolerance, err_msg=name)


def both(make: Any, *, steps: int = 12, epochs: int = 0, seed: int = 11) -> None:
    """The same steps on NumPy and JAX, eager ones and one scan."""
    print("seed", seed)
    start, grads = drawn(seed, steps)
    there = There(make(), start)
    with double():
        here = JaxOptimizer(make())
        params, state = tree(start), here.init(tree(start))
        evaluated = jax.jit(here.eval_params)
        for k, grad in enumerate(grads):
            if epochs and k % epochs == 0:
                there.optimizer.optimization_state.begin_epoch()
                state = here.begin_epoch(state)
            params, state = here.step(params, tree(grad), state)
            expected = there.step(grad)
            close(flat(params), expected)
            close(flat(evaluated(params, state)), there.optimizer.eval_params())
        assert int(state.counts.curr_iter) == there.optimizer.iterations
        assert (int(state.skipped), int(state.zeroed)) == (there.optimizer.skipped, there.optimizer.zeroed)
        if not epochs:
            stacked = jax.tree.map(lambda *several: jnp.stack(several), *map(tree, grads))
            first = tree(start)
            (last, after), _ = jax.lax.scan(
                lambda carry, grad: (here.step(carry[0], grad, carry[1]), None), (first, here.init(first)), stacked
            )
            close(flat(last), expected)
            assert int(after.updates) == int(state.updates)


# The same results as elsewhere


@pytest.mark.parametrize("name", ["adamw", "lamb", "schedule_free_adamw", "rprop", "nadam", "adagrad"])
def test_every_kind_of_rule_on_a_tree(name: str) -> None:
    both(lambda: optimizers.registry[name](learning_rate=0.05))


def test_forms_conventions_decay_and_wrappers() -> None:
    both(lambda: tw.Adam(learning_rate=0.05, convention="keras", weight_decay=0.1))
    both(lambda: tw.Momentum(learning_rate=0.05, wrap=["lookahead", "ema"], sync_period=3, ema_decay=0.5))


def test_groups_and_schedules() -> None:
    both(
        lambda: optimizers.AdamW(
            learning_rate=WarmUp(Cosine(0.1, period=20, decay_on_iteration=True), duration=4),
            beta1=Exp(0.9, gamma=0.99),
            groups=[
                {"variables": ["*.bias", "scale"], "weight_decay": 0.0, "learning_rate": 0.3},
                {"variables": "dense.*", "beta2": 0.9},
            ],
        ),
        epochs=3,
    )
    both(lambda: optimizers.Nadam(groups=[{"variables": "scale", "beta1": 0.5}]))


def test_a_schedule_of_your_own_is_given_traced_counts() -> None:
    seen: list[Any] = []

    def rate(state: Any) -> Any:
        seen.append(state)
        return 0.5 / state.curr_iter if isinstance(state, Counts) else 0.5 / max(state.curr_iter, 1)

    both(lambda: tw.SGD(learning_rate=lambda state: rate(state) if hasattr(state, "curr_iter") else 0.0))
    assert any(isinstance(state, Counts) for state in seen)
    assert any(isinstance(state, OptimizationState) for state in seen)


def test_hooks() -> None:
    both(
        lambda: tw.Adam(
            learning_rate=0.3,
            process_grad=[
                transforms.clip_global_norm(1.0),
                transforms.add_decay(0.1),
                lambda grad: 2 * grad,
                transforms.chain(transforms.clip_value(0.5), transforms.scale(0.5)),
            ],
            process_model=transforms.bounds(-0.5, 0.5),
        )
    )
    both(
        lambda: tw.SGD(
            learning_rate=0.3,
            process_grad={"dense.kernel": transforms.smooth(1.0), "scale": [lambda grad: -grad]},
            process_model={"dense.bias": transforms.simplex()},
        )
    )


def test_accumulating() -> None:
    both(lambda: tw.Adam(learning_rate=0.1, accumulate=3), steps=11)
    both(lambda: tw.Momentum(accumulate=2, process_grad=transforms.clip_norm(0.1)))


@pytest.mark.parametrize("name", ["exp", "cosine"])
def test_a_schedule_in_a_scan_is_what_values_says(name: str) -> None:
    schedule = {
        "exp": Exp(0.5, gamma=0.97, decay_on_iteration=True),
        "cosine": WarmUp(Cosine(0.5, period=30, decay_on_iteration=True), duration=10),
    }[name]
    with double():
        optimizer = JaxOptimizer(tw.SGD(learning_rate=schedule))
        x = jnp.zeros(())

        def body(carry: Any, _: Any) -> Any:
            before, state = carry
            after, state = optimizer.step(before, jnp.ones(()), state)
            return (after, state), (before - after, optimizer.current(state, "learning_rate"))

        _, (moved, rates) = jax.lax.scan(body, (x, optimizer.init(x)), length=50)
        np.testing.assert_allclose(moved, schedule.values(50), atol=1e-14)
        np.testing.assert_allclose(rates, schedule.values(50), rtol=1e-14)


# What JAX asks of a step


def many(dtype: Any = np.float32) -> dict[str, Any]:
    rng = np.random.default_rng(12)
    return {f"layer{k}": jnp.asarray(rng.normal(size=(3, 1 + k % 4)), dtype) for k in range(50)}


def test_one_compilation_for_a_tree_of_50_and_whatever_changes() -> None:
    traced = []

    def counting(grad: Any) -> Any:
        traced.append(grad.shape)
        return grad

    optimizer = JaxOptimizer(
        tw.Adam(process_grad=counting, learning_rate=0.1, groups=[{"variables": "layer1*", "beta1": 0.5}])
    )
    params = many()
    state = optimizer.init(params)
    for k in range(6):
        state = optimizer.set(state, learning_rate=0.1 / (k + 1), beta2=0.9)
        state = optimizer.set(state, group=0, beta1=0.1 * k)
        state = optimizer.begin_batch(optimizer.begin_epoch(state))
        grads = jax.tree.map(lambda x: 2 * x, params)
        params, state = optimizer.jitted_step(params, grads, state)
    assert len(traced) == 50
    assert optimizer.jitted_step._cache_size() == 1
    assert int(state.updates) == 6
    for _ in range(3):
        params, state = optimizer.step(params, params, state)
    assert optimizer._compiled._cache_size() == 1
    assert len(traced) == 100


def test_the_memory_is_given_to_the_results() -> None:
    optimizer = JaxOptimizer(optimizers.ScheduleFreeAdamW())
    params, grads = many(), many()
    state = optimizer.init(params)
    held = [*jax.tree.leaves(params), *jax.tree.leaves(state.slots)]
    places = {array.unsafe_buffer_pointer() for array in held}
    new, after = optimizer.jitted_step(params, grads, state)
    assert all(array.is_deleted() for array in held)
    assert not any(array.is_deleted() for array in jax.tree.leaves(grads))
    assert {array.unsafe_buffer_pointer() for array in jax.tree.leaves((new, after.slots))} <= places
    optimizer.jitted_step(new, grads, after)


@pytest.mark.parametrize("name", ["rprop", "lookahead", "ema", "schedule_free_adamw"])
def test_the_state_of_a_number_shares_no_memory_with_it(name: str) -> None:
    """Also where it starts at the parameter: what is given to the results twice is an error of XLA's."""
    wrap = [name] if name in ("lookahead", "ema") else []
    settings = optimizers.registry[name](learning_rate=0.5) if not wrap else tw.SGD(learning_rate=0.5, wrap=wrap)
    optimizer, reference = JaxOptimizer(settings), JaxOptimizer(settings)
    x, y = jnp.asarray(np.float32(3.0)), jnp.full(1, 3.0, jnp.float32)
    state, other = optimizer.init(x), reference.init(y)
    for t in range(3):
        grad = jnp.asarray(np.float32(t - 0.5))
        x, state = optimizer.jitted_step(x, grad, state)
        y, other = reference.step(y, grad[None], other)
        np.testing.assert_allclose(float(x), float(y[0]), rtol=1e-6)


def test_a_schedule_changes_no_structure_of_the_state() -> None:
    """A checkpoint of one is a tree for the other; what the last step used is there to be read."""
    x, groups = jnp.ones(2), [{"variables": ["variable"], "beta1": 0.8}]
    fixed = JaxOptimizer(tw.Adam(learning_rate=4.0, groups=groups))
    schedule = Exp(4.0, gamma=0.5, decay_on_iteration=True)
    moving = JaxOptimizer(
        tw.Adam(learning_rate=schedule, groups=[{"variables": ["variable"], "beta1": Cosine(0.8, period=9)}])
    )

    def types(state: Any) -> Any:
        return jax.tree.map(lambda array: (array.shape, array.dtype), state)

    state, other = fixed.init(x), moving.init(x)
    assert types(state) == types(other)
    for rate in (4.0, 2.0, 1.0):
        state, other = fixed.step(x, x, state)[1], moving.step(x, x, other)[1]
        assert types(state) == types(other)
        assert lowering.as_float(other.hyperparameters[0]["learning_rate"]) == rate
        assert lowering.as_float(state.hyperparameters[0]["learning_rate"]) == 4.0


def test_a_step_that_is_not_compiled_by_the_user_leaves_what_it_was_given() -> None:
    optimizer, params = JaxOptimizer(tw.Momentum()), many()
    state = optimizer.init(params)
    before = jax.tree.map(np.array, (params, state))
    for _ in range(2):
        optimizer.step(params, params, state)
    for array, value in zip(jax.tree.leaves((params, state)), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(array, value)


def test_a_step_changes_no_types() -> None:
    for accumulate in (1, 3):
        optimizer = JaxOptimizer(optimizers.Nadam(accumulate=accumulate, wrap=["ema"], nonfinite="zero"))
        params = {"a": jnp.ones(2), "b": jnp.ones(3, "bfloat16")}
        state = optimizer.init(params)
        new, after = jax.eval_shape(optimizer.step, params, params, state)
        for one, other in zip(jax.tree.leaves((params, state)), jax.tree.leaves((new, after)), strict=True):
            assert (one.shape, one.dtype, one.weak_type) == (other.shape, other.dtype, other.weak_type)
        assert jax.tree.structure(state) == jax.tree.structure(after)


def test_several_models_at_once_and_inside_other_functions() -> None:
    optimizer = JaxOptimizer(tw.Adam(learning_rate=0.1))
    starts = jnp.arange(6.0).reshape(3, 2)
    together, _ = jax.jit(lambda x: jax.vmap(optimizer.step)(x, x, jax.vmap(optimizer.init)(x)))(starts)
    for start, found in zip(starts, together, strict=True):
        np.testing.assert_allclose(optimizer.step(start, start, optimizer.init(start))[0], found, rtol=1e-6)

    @jax.jit
    def trained(x: Any) -> Any:
        state = optimizer.init(x)  # all of it traced
        for _ in range(2):
            x, state = optimizer.step(x, 2 * x, state)
        return (
            x,
            optimizer.eval_params(x, state),
            optimizer.step(jnp.ones(2), jnp.ones(2), optimizer.init(jnp.ones(2)))[0],
        )

    x, state = starts[1], optimizer.init(starts[1])
    for _ in range(2):
        x, state = optimizer.step(x, 2 * x, state)
    np.testing.assert_allclose(trained(starts[1])[0], x, rtol=1e-6)

    def after(rate: Any) -> Any:
        state = optimizer.init(starts[1])
        numbers = {**state.hyperparameters[0], "learning_rate": lowering.number(rate)}
        return jnp.sum(optimizer.step(starts[1], jnp.ones(2), state._replace(hyperparameters=(numbers,)))[0])

    assert jax.jit(jax.grad(after))(0.1) == pytest.approx(-2.0, rel=1e-5)


class Layer(NamedTuple):
    weight: Any
    bias: Any


def test_pytrees_of_any_kind() -> None:
    optimizer = JaxOptimizer(tw.SGD(learning_rate=1.0, groups=[{"variables": ["1.bias", "2.*"], "learning_rate": 0.5}]))
    params = [jnp.zeros(1), Layer(jnp.zeros(1), jnp.zeros(1)), {"x": (jnp.zeros(1), None)}, ()]
    new, _ = optimizer.step(params, jax.tree.map(jnp.ones_like, params), optimizer.init(params))
    assert [float(x[0]) for x in jax.tree.leaves(new)] == [-1.0, -1.0, -0.5, -0.5]
    assert isinstance(new[1], Layer)
    alone, _ = JaxOptimizer(tw.SGD()).step(jnp.ones(1), jnp.ones(1), JaxOptimizer(tw.SGD()).init(jnp.ones(1)))
    assert alone.shape == (1,)


def test_numpy_arrays_are_taken_and_not_changed() -> None:
    optimizer, x = JaxOptimizer(optimizers.ScheduleFreeAdamW()), np.ones(3, np.float32)
    state = optimizer.init(x)
    new, _ = optimizer.step(x, x, state)
    assert isinstance(new, jax.Array)
    assert (x == 1).all()
    x[:] = 5.0
    assert (state.slots.iterate == 1).all()


# 16 bits


@pytest.mark.parametrize("name", ["adam", "lamb"])
def test_bfloat16_parameters_with_float32_state(name: str) -> None:
    print("seed 13")
    start, grads = drawn(13, 3, np.float32)
    optimizer = JaxOptimizer(optimizers.registry[name](learning_rate=0.1, process_model=transforms.bounds(-1, 1)))
    params = jax.tree.map(lambda x: x.astype("bfloat16"), tree(start))
    state = optimizer.init(params)
    assert all(array.dtype == np.float32 for array in jax.tree.leaves(state.slots))
    for grad in grads:
        wide = jax.tree.map(lambda x: x.astype("float32"), params)
        low = jax.tree.map(lambda x: x.astype("bfloat16"), tree(grad))
        expected, same = optimizer.step(wide, jax.tree.map(lambda x: x.astype("float32"), low), state)
        params, state = optimizer.step(params, low, state)
        for found, wanted in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
            assert found.dtype == "bfloat16"
            assert (found == wanted.astype("bfloat16")).all()
        for found, wanted in zip(jax.tree.leaves(state.slots), jax.tree.leaves(same.slots), strict=True):
            np.testing.assert_array_equal(found, wanted)
    params, state = optimizer.step(params, tree(grads[0]), state)  # a float32 gradient is taken, too
    snapshot = optimizer.snapshot(params, state)
    assert snapshot.meta["variables"]["scale"]["dtype"] == "bfloat16"
    again = optimizer.restore(snapshot, params)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(one, other)


# Gradients that are not finite


def test_a_step_with_a_gradient_that_is_not_finite_changes_nothing() -> None:
    start, (grad, worse) = drawn(14, 2, np.float32)
    optimizer = JaxOptimizer(tw.Adam())
    compiled = jax.jit(optimizer.step)
    params, state = compiled(tree(start), tree(grad), optimizer.init(tree(start)))
    for bad in (np.nan, np.inf, -np.inf):
        worse["dense.bias"][2] = bad
        with pytest.raises(NonFiniteGradientError, match=r"'dense.bias', iteration 2: .* holds 1 non-finite of 4"):
            optimizer.step(params, tree(worse), state)
        kept, after = compiled(params, tree(worse), state)
        assert not after.finite
        assert int(after.skipped) == 1
        same = after._replace(finite=state.finite, skipped=state.skipped)
        for one, other in zip(jax.tree.leaves((kept, same)), jax.tree.leaves((params, state)), strict=True):
            np.testing.assert_array_equal(one, other)
    _, well = compiled(kept, tree(grad), after)
    assert well.finite
    assert int(well.updates) == 2


def test_a_hook_that_makes_a_gradient_not_finite_is_named() -> None:
    optimizer = JaxOptimizer(tw.SGD(process_grad=lambda grad: grad / 0.0))
    x = jnp.ones(2)
    with pytest.raises(NonFiniteGradientError, match="what process_grad made of a finite gradient"):
        optimizer.step(x, x, optimizer.init(x))


def test_bounds_do_not_hide_an_infinite_gradient() -> None:
    optimizer = JaxOptimizer(tw.SGD(process_grad=transforms.bounds(-1, 1)))
    x = jnp.ones(2)
    with pytest.raises(NonFiniteGradientError):
        optimizer.step(x, jnp.array([1.0, np.inf]), optimizer.init(x))


@pytest.mark.parametrize("policy", ["skip", "zero"])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("hook", [None, transforms.clip_global_norm(0.5)], ids=["no hook", "a hook that spreads NaN"])
def test_policies_are_those_of_numpy(policy: str, accumulate: int, hook: Any) -> None:
    start, grads = drawn(15, 9)
    grads[1]["scale"] = np.asarray(np.nan)
    grads[4]["dense.kernel"][1, :2] = np.inf
    grads[5]["dense.bias"][:] = -np.inf

    def make() -> Any:
        return tw.Adam(learning_rate=0.1, nonfinite=policy, accumulate=accumulate, process_grad=hook)

    there = There(make(), start)
    with double():
        here = JaxOptimizer(make())
        params, state = tree(start), here.init(tree(start))
        for k, grad in enumerate(grads):
            params, state = here.step(params, tree(grad), state)
            close(flat(params), there.step(grad))
            assert bool(state.finite) == (k not in (1, 4, 5))
        assert (int(state.skipped), int(state.zeroed)) == (there.optimizer.skipped, there.optimizer.zeroed)
        assert int(state.updates) == there.optimizer.iterations


def test_not_looked_at() -> None:
    optimizer = JaxOptimizer(tw.SGD(nonfinite="ignore"))
    x, state = optimizer.step(jnp.ones(2), jnp.array([1.0, np.nan]), optimizer.init(jnp.ones(2)))
    assert np.isnan(x[1])
    assert state.finite


def test_a_refused_step_keeps_what_was_gathered() -> None:
    optimizer = JaxOptimizer(tw.SGD(learning_rate=1.0, accumulate=2, process_grad=lambda grad: 1 / grad))
    x = jnp.zeros(1)
    x, state = jax.jit(optimizer.step)(x, jnp.array([3.0]), optimizer.init(x))
    kept, after = jax.jit(optimizer.step)(x, jnp.array([-3.0]), state)  # the mean is 0, and 1/0 is refused
    assert (int(after.micro), float(after.accumulated[0]), bool(after.finite)) == (1, 3.0, False)
    new, last = jax.jit(optimizer.step)(kept, jnp.array([1.0]), after)
    assert (int(last.micro), float(new[0]), int(last.updates)) == (0, -0.5, 1)


# Hyperparameters


def test_hyperparameters_are_set_and_read() -> None:
    optimizer = JaxOptimizer(tw.Adam(learning_rate=Exp(1.0), groups=[{"variables": "scale", "beta1": 0.5}]))
    start, _ = drawn(16, 0, np.float32)
    state = optimizer.init(tree(start))
    assert float(optimizer.current(state, "beta1")) == pytest.approx(0.9)
    assert float(optimizer.current(state, "beta1", group=0)) == pytest.approx(0.5)
    state = optimizer.set(optimizer.set(state, group=0, beta1=0.25), beta2=jnp.float32(0.5), epsilon=np.float64(0.125))
    assert float(optimizer.current(state, "beta1", group=0)) == 0.25
    assert float(optimizer.current(state, "beta2", group=0)) == 0.5
    assert float(optimizer.current(state, "epsilon")) == 0.125
    for values, said in (
        ({"beta1": 1.0}, r"outside its range \[0, 1\)"),
        ({"beta2": 1 - 1e-9}, "becomes 1.0 in float32"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"beta3": 0.5}, "beta"),
        ({"learning_rate": 0.1}, "follows Exp"),
        ({"beta1": Exp(0.5)}, "a state holds numbers"),
        ({"beta1": 0.1, "group": 1}, "group is 1, and there are 1"),
        ({"beta2": 0.1, "group": 0}, "beta2"),
    ):
        with pytest.raises(HyperparameterError, match=said):
            optimizer.set(state, **values)
    with pytest.raises(HyperparameterError, match="traced"):
        jax.jit(lambda rate: optimizer.set(state, beta1=rate))(0.5)
    with pytest.raises(HyperparameterError, match="beta1"):
        optimizer.current(state, "beta")
    with pytest.raises(HyperparameterError, match="becomes 1"):
        JaxOptimizer(tw.Adam(beta2=1 - 1e-9)).init(jnp.ones(2))


def test_a_schedule_that_leaves_the_range_refuses_the_step() -> None:
    optimizer = JaxOptimizer(tw.SGD(learning_rate=lambda state: 1.5 - state.curr_iter))
    x = jnp.ones(2)
    x, state = optimizer.step(x, x, optimizer.init(x))
    with pytest.raises(HyperparameterError, match="outside its range"):
        optimizer.step(x, x, state)
    kept, after = jax.jit(optimizer.step)(x, x, state)
    assert not after.usable
    assert after.finite
    np.testing.assert_array_equal(kept, x)
    assert int(after.updates) == 1


def test_numbers_too_large_for_the_dtype_refuse_the_step() -> None:
    optimizer, x = JaxOptimizer(tw.Adam(learning_rate=1e38)), jnp.ones(2)
    with pytest.raises(HyperparameterError, match="use smaller values"):
        optimizer.step(x, x, optimizer.init(x))


# State in and out


@pytest.mark.parametrize("name", ["adam", "nadam", "schedule_free_adamw"])
def test_a_state_goes_from_numpy_to_jax_and_back(name: str) -> None:
    print("seed 17")
    start, grads = drawn(17, 11)

    def make() -> Any:
        groups = [{"variables": "scale", "learning_rate": 0.2}]
        cls = optimizers.registry[name]
        return cls(learning_rate=0.1, accumulate=2, groups=groups, wrap=[] if cls.rule.derived else ["lookahead"])

    whole, first = There(make(), start), There(make(), start)
    for grad in grads:
        expected = whole.step(grad)
    for grad in grads[:3]:
        reached = first.step(grad)
    with double():
        here = JaxOptimizer(make())
        params = tree(reached)
        state = here.restore(first.optimizer.state(), params)
        for grad in grads[3:8]:
            params, state = here.step(params, tree(grad), state)
        last = There(make(), flat(params))
        snapshot = here.snapshot(params, state)
    last.optimizer.restore(snapshot)
    for grad in grads[8:]:
        found = last.step(grad)
    close(found, expected)
    assert last.optimizer.state().meta == whole.optimizer.state().meta | {
        "carried": last.optimizer.state().meta["carried"]
    }


def test_a_snapshot_is_what_numpy_would_write() -> None:
    start, grads = drawn(18, 3, np.float32)

    def make() -> Any:
        return optimizers.AdamW(
            learning_rate=Exp(0.1, decay_on_iteration=True),
            beta2=0.99,
            groups=[{"variables": "scale", "weight_decay": 0.125}],
            process_grad=[transforms.clip_norm(1.0)],
            nonfinite="skip",
        )

    there, here = There(make(), start), JaxOptimizer(make())
    params, state = tree(start), here.init(tree(start))
    assert here.snapshot(params, state).meta == there.optimizer.state().meta
    for grad in grads:
        there.step(grad)
        params, state = here.step(params, tree(grad), state)
    found, expected = here.snapshot(params, state), there.optimizer.state()
    assert found.meta == expected.meta
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in found.arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, expected.arrays[name], rtol=1e-6, atol=1e-9)


def test_the_difference_between_two_optimizers_is_told_in_full() -> None:
    start, _ = drawn(19, 0, np.float32)
    there = There(tw.Adam(learning_rate=Exp(0.1), beta1=0.8, process_grad=transforms.clip_norm(1.0)), start)
    here = JaxOptimizer(tw.Adam(convention="keras", learning_rate=0.1, accumulate=2))
    params = tree(start)
    del params["scale"]
    params["other"] = jnp.zeros(2)
    with pytest.raises(StateMismatchError) as caught:
        here.restore(there.optimizer.state(), params)
    said = str(caught.value)
    for part in (
        "form was",
        "accumulate was 1, here it is 2",
        "missing: slots/mean/other",
        "unexpected: slots/mean/scale",
        "process_grad was",
        "learning_rate was {'kind': 'exp'",
        "schedules are part of the compiled step",
    ):
        assert part in said
    with pytest.raises(StateMismatchError, match="belongs to the rule 'adam'"):
        JaxOptimizer(tw.SGD()).restore(there.optimizer.state(), params)
    with pytest.raises(OptimizerError, match="outside of jit"):
        jax.jit(lambda x: here.snapshot(x, here.init(x)))(jnp.ones(2))


def test_a_number_of_a_snapshot_is_taken_over_and_a_schedule_has_to_be_the_same() -> None:
    x = jnp.ones(2)
    optimizer = JaxOptimizer(tw.SGD(learning_rate=0.5))
    snapshot = optimizer.snapshot(x, optimizer.init(x))
    state = JaxOptimizer(tw.SGD(learning_rate=0.25)).restore(snapshot, x)
    assert float(optimizer.current(state, "learning_rate")) == 0.5
    with pytest.raises(StateMismatchError, match=r"learning_rate was 0.5, here it is \{'kind': 'exp'"):
        JaxOptimizer(tw.SGD(learning_rate=Exp(0.5))).restore(snapshot, x)


# What is refused before anything is computed


def test_parameters_that_cannot_be_updated() -> None:
    optimizer = JaxOptimizer(tw.Adam())
    for params, error, said in (
        ({"n": jnp.zeros(2, "int32")}, ParameterError, "'n'.*int32"),
        ({"a": {"z": jnp.zeros(2, "complex64")}}, ParameterError, r"'a\.z'.*complex64"),
        ({"x": 1.0}, ParameterError, "float"),
        ({"x": np.zeros(2)}, ParameterError, "switch float64 on"),
        ({}, OptimizerError, "no leaf"),
        ({"a": {"b": jnp.zeros(1)}, "a.b": jnp.zeros(1)}, OptimizerError, "two parameters are named 'a.b'"),
    ):
        with pytest.raises(error, match=said):
            optimizer.init(params)


def test_gradients_that_do_not_fit() -> None:
    optimizer, params = JaxOptimizer(tw.Adam()), {"a": jnp.ones(2), "b": [jnp.ones(3)]}
    state = optimizer.init(params)
    for grads, error, said in (
        ({"a": jnp.ones(2)}, MissingGradientError, "'b.0'"),
        ({"a": None, "b": [jnp.ones(3)]}, MissingGradientError, "'a'"),
        ({"a": jnp.ones(2), "b": [jnp.ones(3)], "c": jnp.ones(1)}, OptimizerError, "'c'"),
        ({"a": jnp.ones(2), "b": (jnp.ones(3),)}, OptimizerError, "other containers"),
        ({"a": jnp.ones(1), "b": [jnp.ones(3)]}, GradientShapeError, "'a', iteration 1.*never broadcast"),
        ({"a": jnp.ones(2, "bfloat16"), "b": [jnp.ones(3)]}, GradientDtypeError, "bfloat16"),
        ({"a": np.ones(2), "b": [jnp.ones(3)]}, GradientDtypeError, "float64"),
        ({"a": jnp.ones(2), "b": [1.0]}, (GradientDtypeError, OptimizerError), "float"),
    ):
        with pytest.raises(error, match=said):
            optimizer.step(params, grads, state)
    with pytest.raises(GradientShapeError):
        jax.jit(optimizer.step)(params, {"a": jnp.ones(1), "b": [jnp.ones(3)]}, state)


def test_states_that_do_not_fit() -> None:
    optimizer, x = JaxOptimizer(tw.Momentum()), jnp.ones(2)
    for state in (None, JaxOptimizer(tw.Adam()).init(x), optimizer.init(jnp.ones(3)), optimizer.init({"x": x})):
        with pytest.raises(StateMismatchError):
            optimizer.step(x, x, state)
    grouped = JaxOptimizer(tw.Momentum(groups=[{"variables": "variable", "momentum": 0.5}]))
    with pytest.raises(StateMismatchError, match=r"\(momentum\), and this is \(momentum; group 1\)"):
        grouped.step(x, x, optimizer.init(x))
    other = JaxOptimizer(tw.Momentum(groups=[{"variables": "variable", "learning_rate": 0.5}]))
    with pytest.raises(StateMismatchError, match="numbers"):
        grouped.step(x, x, other.init(x))
    state = optimizer.init(x)
    with double(), pytest.raises(StateMismatchError, match="jax_enable_x64"):
        optimizer.step(x, x, state)


def test_settings_that_jax_cannot_have() -> None:
    with pytest.raises(OptimizerError, match="bound"):
        JaxOptimizer(tw.SGD(Variable(np.ones(2), name="x", needs_grad=True)))
    with pytest.raises(OptimizerError, match="give an optimizer"):
        JaxOptimizer(tw.rules.adam)

    class Own(tw.SGD):
        async def post_process(self) -> None:
            """Nothing."""

    with pytest.raises(OptimizerError, match="post_process of its own"):
        JaxOptimizer(Own())
    with pytest.raises(HyperparameterError, match="holds a Plateau, and that is told a metric"):
        JaxOptimizer(tw.SGD(learning_rate=WarmUp(Plateau(0.1), duration=3)))
    for schedule in (
        lambda state: 0.1 * math.exp(-state.curr_iter),
        lambda state: 0.1 if state.curr_epoch < 3 else 0.01,
    ):
        with pytest.raises(HyperparameterError, match=r"cannot be traced by JAX.*optimizer.set\(state, learning_rate"):
            JaxOptimizer(tw.SGD(learning_rate=schedule))
    x = jnp.ones(2)
    with pytest.raises(HyperparameterError, match="variable"):
        JaxOptimizer(tw.SGD(groups=[{"variables": "y", "learning_rate": 1.0}])).init({"x": x})
    with pytest.raises(HyperparameterError, match="variable"):
        JaxOptimizer(tw.SGD(process_grad={"y": transforms.scale(2.0)})).init({"x": x})


def test_hooks_that_jax_cannot_have() -> None:
    async def later(grad: Any) -> Any:
        return grad

    x = jnp.ones(2)
    for hook, said in (
        (np.abs, "jax.numpy"),
        (later, "coroutine"),
        (lambda grad: grad[:1], "shape"),
        (lambda grad: grad.astype("bfloat16"), "dtype bfloat16"),
        (lambda grad: None, "NoneType"),
    ):
        optimizer = JaxOptimizer(tw.SGD(process_grad=hook))
        with pytest.raises(HyperparameterError, match=said):
            optimizer.step(x, x, optimizer.init(x))


# Optax


def test_as_an_optax_transformation() -> None:
    optax = pytest.importorskip("optax")
    start, grads = drawn(20, 8, np.float32)
    ours = JaxOptimizer(optimizers.AdamW(learning_rate=0.1))
    chained = optax.chain(optax.clip_by_global_norm(1.0), ours.as_optax())
    params, state = tree(start), chained.init(tree(start))
    theirs = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1, weight_decay=0.01))
    other, their_state = tree(start), theirs.init(tree(start))

    @jax.jit
    def step(params: Any, grads: Any, state: Any) -> Any:
        updates, state = chained.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for grad in grads:
        params, state = step(params, tree(grad), state)
        updates, their_state = theirs.update(tree(grad), their_state, other)
        other = optax.apply_updates(other, updates)
        close(flat(params), flat(other), 1e-4)
    with pytest.raises(OptimizerError, match="needs the parameters"):
        ours.as_optax().update(tree(grads[0]), state[1])


def test_the_updates_of_optax_are_the_step_of_16_bits_too() -> None:
    optimizer = JaxOptimizer(tw.Adam(learning_rate=0.3))
    x = jnp.asarray([1.0, -3.0], "bfloat16")
    updates, _ = optimizer.as_optax().update(x, optimizer.init(x), x)
    new, _ = optimizer.step(x, x, optimizer.init(x))
    assert updates.dtype == np.float32
    assert (jnp.asarray(x + updates, "bfloat16") == new).all()


# ------------------------------------------------------------------ a metric


PLATEAUS: list[dict[str, Any]] = [
    {"learning_rate": Plateau(0.5, factor=0.1, patience=0, threshold=0.0)},
    {"learning_rate": Plateau(0.5, factor=1 / 3, patience=1), "weight_decay": Plateau(0.1, factor=0.5, patience=0)},
    {"learning_rate": 0.1, "groups": [{"variables": "*bias", "learning_rate": Plateau(0.5, patience=0, cooldown=1)}]},
]


@pytest.mark.parametrize("options", PLATEAUS, ids=["one", "two", "of a group"])
@pytest.mark.parametrize("x64", [True, False], ids=["float64", "float32"])
def test_a_plateau_is_told_its_metric_and_nothing_is_compiled_anew(options: dict[str, Any], x64: bool) -> None:
    start, grads = drawn(21, 8)
    there = There(tw.Momentum(**copy.deepcopy(options)), start)
    with double() if x64 else contextlib.nullcontext():
        here = JaxOptimizer(tw.Momentum(**copy.deepcopy(options)))
        convert = tree if x64 else lambda arrays: jax.tree.map(lambda a: a.astype(jnp.float32), tree(arrays))
        params, state = convert(start), here.init(convert(start))
        traced = 0

        @jax.jit
        def step(params: Any, grads: Any, state: Any) -> Any:
            nonlocal traced
            traced += 1
            return here.step(params, grads, state)

        for grad, loss in zip(grads, (3.0, 3.0, 2.5, 0.1 + 0.2, 0.3, math.nan, 9.0, 1.0), strict=True):
            params, state = step(params, convert(grad), state)
            expected = there.step(grad)
            if x64:
                close(flat(params), expected)
            there.optimizer.observe(loss)
            state = here.observe(state, jnp.asarray(loss) if x64 else loss)
            for group in (None, *range(len(there.optimizer.groups))):
                rate = float(here.current(state, "learning_rate", group=group))
                assert rate == pytest.approx(there.optimizer.current("learning_rate", group=group), rel=1e-7)
        assert traced == 1
        assert here.snapshot(params, state).meta["schedules"] == there.optimizer.state().meta["schedules"]


def test_a_plateau_goes_on_where_it_was_saved() -> None:
    def make() -> Any:
        return tw.Momentum(learning_rate=Plateau(0.5, factor=0.5, patience=1))

    x = Variable(np.ones(2), name="x", needs_grad=True)
    there = make().bind(x)
    with double():
        here, params = JaxOptimizer(make()), {"x": jnp.ones(2)}
        state = here.init(params)
        for loss in (3.0, 4.0):
            state = here.observe(state, loss)
            there.observe(loss)
        there.restore(here.snapshot(params, state))
        again = here.restore(there.state(), params)
        for loss in (5.0, 6.0, 7.0):
            state, again = here.observe(state, loss), here.observe(again, loss)
            there.observe(loss)
            assert float(here.current(again, "learning_rate")) == float(here.current(state, "learning_rate"))
            assert float(here.current(again, "learning_rate")) == there.current("learning_rate")
        assert there.current("learning_rate") == 0.125
        fresh = here.init(params)
        assert float(here.current(fresh, "learning_rate")) == 0.5, "it holds nothing that changes"


def test_a_plateau_cannot_be_told_inside_a_trace_or_set() -> None:
    optimizer = JaxOptimizer(tw.SGD(learning_rate=Plateau(0.5)))
    state = optimizer.init(jnp.ones(2))
    with pytest.raises(HyperparameterError, match="call it outside of the traced function"):
        jax.jit(lambda s, m: optimizer.observe(s, m))(state, 1.0)
    with pytest.raises(HyperparameterError, match="learning_rate follows Plateau"):
        optimizer.set(state, learning_rate=0.5)
    with pytest.raises(HyperparameterError, match="the metric is 'low'"):
        optimizer.observe(state, "low")
    plain = JaxOptimizer(tw.SGD())
    state = plain.init(jnp.ones(2))
    assert plain.observe(state, 1.0) is state


# ------------------------------------------------------------------ what an error advises


@pytest.mark.parametrize(
    ("kind", "wrap"),
    [
        *itertools.product([tw.Momentum, tw.Nadam], [["ema"], ["lookahead"], ["lookahead", "ema"]]),
        (tw.ScheduleFreeAdamW, []),
    ],
)
def test_a_state_of_a_version_with_fewer_numbers_is_carried_over_as_its_error_says(kind: Any, wrap: list[str]) -> None:
    from thalweg.optimizers.persistence import NEW_NUMBERS

    options = {"groups": [{"variables": "b", "learning_rate": 0.25}], "wrap": wrap}
    optimizer = JaxOptimizer(kind(learning_rate=0.5, **options))
    params = {"a": jnp.ones(3), "b": jnp.full(2, 2.0)}
    params, state = optimizer.step(params, params, optimizer.init(params))
    names = [name for name in optimizer.rule.carried_names if name not in NEW_NUMBERS]
    Older = NamedTuple("Older", [(name, Any) for name in names])  # type: ignore[misc]
    rows = tuple(Older(*(getattr(row, name) for name in names)) for row in state.carried) if names else ()
    older = state._replace(carried=rows)
    for use in (lambda: optimizer.step(params, params, older), lambda: optimizer.eval_params(params, older)):
        with pytest.raises(
            StateMismatchError, match=r"version that did not have .*optimizer\.restore\(optimizer\.snap"
        ):
            use()
    restored = optimizer.restore(optimizer.snapshot(params, older), params)
    start = optimizer.rule.carried()

    def float_of(value: Any) -> float:
        return float(lowering.as_float(lowering.number(value)))

    for row, known in zip(restored.carried, state.carried, strict=True):
        for name in row._fields:
            expected = getattr(start if name in NEW_NUMBERS else known, name)
            assert float_of(getattr(row, name)) == pytest.approx(float_of(expected), rel=1e-13)
    for one, other in zip(jax.tree.leaves(restored.slots), jax.tree.leaves(state.slots), strict=True):
        np.testing.assert_array_equal(one, other)
    optimizer.step(params, params, restored)
    for strange in (state._replace(carried=state.carried[:1]), state._replace(carried=(Counts(0, 0, 0, 0),) * 2)):
        with pytest.raises(StateMismatchError, match="give what init or step of this optimizer returned"):
            optimizer.snapshot(params, strange)


@pytest.mark.parametrize("there", [True, False], ids=["from float64", "to float64"])
def test_a_state_made_under_another_setting_of_x64_is_carried_over_as_its_error_says(there: bool) -> None:
    rate = Plateau(0.125, factor=0.3, patience=0)
    optimizer = JaxOptimizer(tw.Nadam(learning_rate=rate, beta2=0.997, wrap=["lookahead"]))
    x = jnp.asarray([1.0, -2.0], jnp.float32)
    with double() if there else contextlib.nullcontext():
        state = optimizer.init(x)
        for loss in (3.0, 4.0):
            state = optimizer.observe(state, loss)
            x, state = optimizer.step(x, x, state)
        expected, _ = optimizer.step(x, x, state)
    with contextlib.nullcontext() if there else double():
        with pytest.raises(StateMismatchError, match=r"jax_enable_x64 .*optimizer\.restore\(optimizer\.snapshot"):
            optimizer.step(x, x, state)
        state = optimizer.restore(optimizer.snapshot(x, state), x)
        found, state = optimizer.step(x, x, state)
        assert float(optimizer.current(state, "learning_rate")) == pytest.approx(0.125 * 0.3, rel=1e-6)
        assert float(optimizer.current(optimizer.observe(state, 5.0), "learning_rate")) == pytest.approx(0.125 * 0.09)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
