"""Rules and optimizers on PyTensor: the same numbers as on NumPy, and the same state."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from tests.references import oracles
from thalweg import transforms
from thalweg.errors import (
    HyperparameterError,
    MissingGradientError,
    NonFiniteGradientError,
    OptimizerError,
    ParameterError,
    StateMismatchError,
)
from thalweg.optimizers import LocalOptimizer, registry
from thalweg.optimizers.pytensor import symbolic
from thalweg.schedules import Chain, Cosine, Exp, Fixed, Plateau, WarmUp

pytensor = pytest.importorskip("pytensor")
pt = importlib.import_module("pytensor.tensor")

FAST = "FAST_COMPILE"  # Python thunks: milliseconds to compile


@pytest.fixture(scope="module")
def record() -> tuple[np.ndarray, np.ndarray]:
    print("seed 5")
    return oracles.recorded(5)


def forms() -> list[tuple[str, str | None]]:
    """Every rule in each form that a convention gives it, once."""
    found, seen = [], set()
    for kind, cls in registry.items():
        for convention in (None, *cls.rule.conventions):
            rule = cls(convention=convention).rule
            key = kind, tuple(rule.chosen.items()), rule.hyper()
            if key not in seen:
                seen.add(key)
                found.append((kind, convention))
    return found


def shared(value: Any, name: str | None = "x", dtype: str = "float64", **options: Any) -> Any:
    return pytensor.shared(np.array(value, dtype), name=name, **options)


def fed(params: list[Any]) -> tuple[Any, list[Any]]:
    """A cost whose gradients are what is fed, and the inputs for them."""
    inputs = [p.type() for p in params]
    return sum((p * g).sum() for p, g in zip(params, inputs, strict=True)), inputs


def stepper(optimizer: LocalOptimizer, params: list[Any], lr: Any = None, mode: str | None = FAST) -> Any:
    cost, inputs = fed(params)
    return pytensor.function(inputs, updates=optimizer.update(cost, params, lr), mode=mode)


def numbers(optimizer: LocalOptimizer) -> Any:
    return optimizer.rule.hyper(**{name: optimizer.current(name) for name in optimizer.hyperparameters})


def values(updates: list[tuple[Any, Any]]) -> list[np.ndarray]:
    return [np.array(variable.get_value()) for variable, _ in updates]


def equals(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))


# ------------------------------------------------------------------ the same numbers


def check_against_the_pure_face(optimizer: LocalOptimizer, record: Any, mode: str | None) -> None:
    start, grads = record
    rule, hyper = optimizer.rule, numbers(optimizer)
    x = shared(start)
    step = stepper(optimizer, [x], mode=mode)
    points, expected = [], []
    param, state = start, rule.init(start, hyper)
    for t, grad in enumerate(grads, start=1):
        step(grad)
        points.append(x.get_value())
        param, state = rule.step(param, grad, state, hyper, t=t)
        expected.append(param)
    assert oracles.distance(np.array(points), np.array(expected)) <= 1e-12
    snapshot = symbolic(optimizer).state()
    for name, slot in zip(rule.slot_names, state, strict=False):
        found = snapshot.arrays[f"slots/{name}/x"]
        assert np.max(np.abs(found - slot) / np.maximum(1.0, np.abs(slot))) <= 1e-12
    for field, value in zip(rule.carried_names, snapshot.meta["carried"][0] if rule.carried_names else (), strict=True):
        assert value == pytest.approx(getattr(state, field), rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(("kind", "convention"), forms())
def test_every_rule_in_every_form_equals_the_pure_face(kind: str, convention: str | None, record: Any) -> None:
    check_against_the_pure_face(registry[kind](convention=convention), record, FAST)


@pytest.mark.slow
@pytest.mark.sampled(8)
@pytest.mark.parametrize("kind", registry)
def test_and_with_the_default_linker(kind: str, record: Any) -> None:
    check_against_the_pure_face(registry[kind](), (record[0], record[1][:100]), None)


@pytest.mark.parametrize("kind", registry)
def test_float32_stays_float32(kind: str) -> None:
    print("seed 6")
    rng = np.random.default_rng(6)
    optimizer = registry[kind](weight_decay=0.01)
    start, grads = rng.normal(size=5).astype("f4"), rng.normal(size=(30, 5)).astype("f4")
    x = shared(start, dtype="float32")
    cost, inputs = fed([x])
    updates = optimizer.update(cost, [x])
    own = {"x", *(f"x/{slot}" for slot in optimizer.rule.slot_names)}
    assert {variable.dtype for variable, _ in updates if variable.name in own} == {"float32"}
    step = pytensor.function(inputs, updates=updates, mode=FAST)
    hyper = numbers(optimizer)
    param, state = start, optimizer.rule.init(start, hyper)
    for t, grad in enumerate(grads, start=1):
        step(grad)
        param, state = optimizer.rule.step(param, grad, state, hyper, t=t)
    np.testing.assert_allclose(x.get_value(), param, rtol=2e-5, atol=2e-6)


def test_literals_are_double_whatever_floatx_is(record: Any) -> None:
    short = record[0], record[1][:100]
    with pytensor.config.change_flags(floatX="float32"):
        check_against_the_pure_face(tw.Nadam(), short, FAST)
        check_against_the_pure_face(tw.ScheduleFreeAdamW(warmup_steps=10), short, FAST)


# ------------------------------------------------------------------ the list


LENGTHS = {"sgd": 4, "adagrad": 8, "momentum": 8, "rmsprop": 8, "adadelta": 12, "adam": 13, "adamax": 13}


@pytest.mark.parametrize("kind", LENGTHS)
def test_the_list_is_in_the_page_s_order(kind: str) -> None:
    params = [shared([1.0], "a"), shared(2.0, "b"), shared([[1.0, 2.0]], "c"), shared([3.0], "d")]
    optimizer = registry[kind]()
    cost, _ = fed(params)
    updates = optimizer.update(cost, params)
    assert len(updates) == LENGTHS[kind]
    slots = optimizer.rule.slot_names
    names = [name for p in "abcd" for name in (p, *(f"{p}/{slot}" for slot in slots))]
    assert [variable.name for variable, _ in updates] == names + [f"{kind}/t"] * (LENGTHS[kind] == 13)
    for variable, new in updates:
        assert (new.dtype, new.ndim) == (variable.dtype, variable.ndim)


def test_updates_work_with_a_cost_and_inputs() -> None:
    """y = βx + 3, β = 2: with x = 4 and lr = 1 the new β is −2, then y = −5."""
    beta, x = shared(2.0, "beta"), pt.dscalar("x")
    y = beta * x + 3
    step = pytensor.function([x], y, updates=tw.SGD().update(y, [beta], lr=1.0))
    assert step(4.0) == 11.0
    assert beta.get_value() == -2.0
    assert step(4.0) == -5.0


@pytest.mark.parametrize("shape", [(), (0,), (1, 3), (2, 1)])
def test_shapes_that_are_known_stay_known(shape: tuple[int, ...]) -> None:
    x = pytensor.shared(np.ones(shape), name="x", shape=shape)
    step = stepper(tw.Adam(process_model=transforms.bounds(0.0, 0.5)), [x])
    step(np.ones(shape))
    assert x.get_value().shape == shape
    np.testing.assert_array_equal(x.get_value(), np.full(shape, 0.5))


# ------------------------------------------------------------------ state is found by the parameter


def test_asking_again_in_any_order_gives_the_same_state() -> None:
    a, b = shared([1.0], "a"), shared([2.0], "b")
    adam = tw.Adam()
    first = stepper(adam, [a, b])
    second = stepper(adam, [b, a])
    reference = tw.Adam()
    c, d = shared([1.0], "a"), shared([2.0], "b")
    only = stepper(reference, [c, d])
    for k in range(6):
        grads = np.array([1.0 + k]), np.array([-2.0 + k])
        first(*grads) if k % 2 else second(*grads[::-1])
        only(*grads)
    np.testing.assert_array_equal(a.get_value(), c.get_value())
    np.testing.assert_array_equal(b.get_value(), d.get_value())
    assert symbolic(adam).state().meta["updates"] == 6


def test_another_set_of_parameters_is_refused_by_name() -> None:
    a, b, c = shared([1.0], "a"), shared([1.0], "b"), shared([1.0], "c")
    adam = tw.Adam()
    cost, _ = fed([a, b, c])
    adam.update(cost, [a, b])
    with pytest.raises(OptimizerError, match=r"updates 'a', 'b'.*'c' is none of them, and 'b' is missing") as caught:
        adam.update(cost, [a, c])
    assert caught.value.details == {"unknown": ["c"], "missing": ["b"]}
    twin = shared([1.0], "a")  # the same name is not the same parameter
    with pytest.raises(OptimizerError, match="'a' is none of them, and 'a' is missing"):
        adam.update((twin * b).sum(), [twin, b])


def test_two_optimizers_share_nothing() -> None:
    x = shared([1.0])
    one, other = tw.Momentum(), tw.Momentum()
    names = [[v for v, _ in optimizer.update((x**2).sum(), [x])] for optimizer in (one, other)]
    assert names[0][1] is not names[1][1]


@pytest.mark.parametrize("make", [lambda: tw.SGD(wrap=["ema"], ema_decay=0.5), tw.ScheduleFreeAdamW])
def test_what_starts_at_the_parameter_starts_at_the_first_step(make: Any) -> None:
    optimizer, x = make(), shared([0.0])
    step = stepper(optimizer, [x], lr=0.25)
    x.set_value(np.array([8.0]))  # as after loading a model
    reference, y = make(), tw.Variable(np.array([8.0]), name="x", needs_grad=True)
    reference.bind(y)
    for grad in ([1.0], [3.0]):
        step(np.array(grad))
        tw.wait(reference.step(step_size=0.25, grad=np.array(grad)))
    np.testing.assert_allclose(x.get_value(), y.data, rtol=1e-14)
    evaluated = symbolic(optimizer).eval_params()["x"].eval(mode=FAST)
    np.testing.assert_allclose(evaluated, reference.eval_params()["x"], rtol=1e-14)


# ------------------------------------------------------------------ all of an optimizer works


CASES: dict[str, dict[str, Any]] = {
    "coupled decay": {"weight_decay": 0.1},
    "decoupled decay": {"weight_decay": 0.1, "decay": "decoupled"},
    "groups": {
        "weight_decay": 0.1,
        "groups": [{"variables": ["b", "c*"], "weight_decay": 0.0, "learning_rate": 0.5}],
    },
    "lookahead": {"wrap": ["lookahead"], "sync_period": 3},
    "ema": {"wrap": ["ema"]},
    "bounds": {"process_model": transforms.bounds(-0.5, 0.0)},
    "bounds by name": {"process_model": {"b": [transforms.bounds(lower=0.0)], "c1": transforms.nonnegative()}},
    "projection": {"process_model": [transforms.l2_ball(0.7), transforms.bounds(-0.2, None)]},
    "clip": {"process_grad": [transforms.clip_value(0.5), transforms.clip_global_norm(0.6)]},
    "scale by name": {"process_grad": {"a": transforms.scale(-2.0)}},
    "relative": {"process_grad": transforms.clip_adaptive(0.1)},
    "own callable": {"process_grad": lambda g: 2 * g, "process_model": [lambda m: m + 0.25]},
    "bounds on a gradient": {"process_grad": transforms.bounds(-0.5, 0.5)},
    "iterations": {"learning_rate": Exp(0.3, gamma=0.9, decay_on_iteration=True)},
    "a chain of schedules": {
        "learning_rate": Chain([Cosine(0.3, period=7, decay_on_iteration=True), Fixed(0.5)]),
        "weight_decay": Exp(0.3, gamma=0.5, decay_on_iteration=True),
    },
    "own schedule": {"learning_rate": lambda state: 0.3 / (1 + state.completed_iterations)},
}


@pytest.mark.sampled(32)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["momentum", "adam", "nadam", "lamb"])
def test_what_an_optimizer_does_on_numpy_it_does_here(kind: str, case: str) -> None:
    print("seed 7")
    rng = np.random.default_rng(7)
    start = {"a": rng.normal(size=(2, 2)), "b": rng.normal(size=3), "c1": rng.normal(size=2)}
    options = {"learning_rate": 0.1, **CASES[case]}
    if kind == "lamb" and "decay" in options:
        options["decay"] = "decoupled"
    variables = [tw.Variable(value.copy(), name=name, needs_grad=True) for name, value in start.items()]
    there = registry[kind](variables, **options)
    params = [shared(value, name) for name, value in start.items()]
    here = registry[kind](**options)
    step = stepper(here, params)
    for _ in range(25):
        grads = {name: rng.normal(size=value.shape) for name, value in start.items()}
        step(*grads.values())
        tw.wait(there.step(grad=grads))
    for variable, param in zip(variables, params, strict=True):
        np.testing.assert_allclose(param.get_value(), variable.data, rtol=1e-12, atol=1e-13)
    one, other = symbolic(here).state(), there.state()
    assert {k: v for k, v in one.meta.items() if k not in ("carried", "updates", "optimization_state")} == {
        k: v for k, v in other.meta.items() if k not in ("carried", "updates", "optimization_state")
    }
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_allclose(array, other.arrays[name], rtol=1e-11, atol=1e-13)


def test_a_bound_of_zero_is_a_bound() -> None:
    x = shared([1.0, -1.0])
    step = stepper(tw.SGD(process_model=transforms.bounds(lower=0)), [x], lr=1.0)
    step(np.array([5.0, -0.5]))
    np.testing.assert_array_equal(x.get_value(), [0.0, 0.0])


# ------------------------------------------------------------------ gradients that are not finite


@pytest.mark.parametrize("kind", ["sgd", "adam", "nadam"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_is_an_error_and_changes_nothing(kind: str, bad: float) -> None:
    params = [shared([1.0, 2.0], "a"), shared(3.0, "b")]
    optimizer = registry[kind]()
    cost, inputs = fed(params)
    updates = optimizer.update(cost, params)
    step = pytensor.function(inputs, updates=updates, mode=FAST)
    step(np.array([1.0, 1.0]), 1.0)
    before = values(updates)
    with pytest.raises(NonFiniteGradientError, match=f"{kind}: the gradient of 'b' holds NaN or infinity"):
        step(np.array([1.0, 1.0]), bad)
    assert equals(values(updates), before)
    step(np.array([1.0, 1.0]), 1.0)
    assert symbolic(optimizer).state().meta["updates"] == {"sgd": 0, "adam": 2, "nadam": 2}[kind]


@pytest.mark.slow
@pytest.mark.parametrize("mode", [None, "FAST_RUN"])
def test_nothing_changes_either_where_updates_are_made_in_place(mode: str | None) -> None:
    params = [shared(np.ones(3), "a"), shared(np.ones(3), "b")]
    momentum = tw.Momentum()
    cost, inputs = fed(params)
    updates = momentum.update(cost, params)
    step = pytensor.function(inputs, updates=updates, mode=mode)
    step(np.ones(3), np.ones(3))
    before = values(updates)
    for grads in ((np.ones(3), np.array([1.0, np.nan, 1.0])), (np.array([np.inf, 1.0, 1.0]), np.ones(3))):
        with pytest.raises(NonFiniteGradientError):
            step(*grads)
        assert equals(values(updates), before)


@pytest.mark.parametrize("policy", ["skip", "zero", "ignore"])
@pytest.mark.parametrize("kind", ["sgd", "adam", "schedule_free_adamw"])
def test_the_other_policies_are_those_of_numpy(kind: str, policy: str) -> None:
    start = {"a": np.array([1.0, 2.0]), "b": np.array(3.0)}
    variables = [tw.Variable(value.copy(), name=name, needs_grad=True) for name, value in start.items()]
    there, here = registry[kind](variables, nonfinite=policy), registry[kind](nonfinite=policy)
    params = [shared(value, name) for name, value in start.items()]
    step = stepper(here, params)
    grads = [([1.0, 2.0], 3.0), ([np.nan, 1.0], 2.0), ([1.0, np.inf], np.nan), ([0.5, 0.5], 0.5)]
    for a, b in grads[:2] if policy == "ignore" else grads:
        given = {"a": np.array(a), "b": np.array(b)}
        step(*given.values())
        tw.wait(there.step(grad=given))
    for variable, param in zip(variables, params, strict=True):
        np.testing.assert_allclose(param.get_value(), variable.data, rtol=1e-13)
    meta = symbolic(here).state().meta
    assert (meta["skipped"], meta["zeroed"]) == (there.skipped, there.zeroed)
    if kind != "sgd":
        assert meta["updates"] == there.state().meta["updates"]
        assert here.iterations == there.iterations


# ------------------------------------------------------------------ the learning rate


def test_a_shared_rate_may_change_from_step_to_step() -> None:
    x, rate = shared([0.0]), shared(0.5, "rate")
    step = stepper(tw.SGD(), [x], lr=rate)
    step(np.array([-1.0]))
    rate.set_value(np.array(2.0))
    step(np.array([-1.0]))
    np.testing.assert_array_equal(x.get_value(), [2.5])
    for wrong in (-1.0, np.nan, np.inf):
        rate.set_value(np.array(wrong))
        with pytest.raises(HyperparameterError, match=r"sgd: lr is outside its range \[0, inf\), or not finite"):
            step(np.array([-1.0]))
    np.testing.assert_array_equal(x.get_value(), [2.5])


def test_a_rate_may_be_an_expression_of_an_input() -> None:
    x, g, epoch = shared([0.0]), pt.dvector("g"), pt.lscalar("epoch")
    updates = tw.SGD().update((x * g).sum(), [x], lr=0.5**epoch)
    step = pytensor.function([g, epoch], updates=updates, mode=FAST)
    step(np.array([-8.0]), 2)
    np.testing.assert_array_equal(x.get_value(), [2.0])


@pytest.mark.parametrize("lr", [-1.0, np.nan, np.inf, True, "fast", np.ones(2), Exp(1.0)])
def test_a_rate_that_is_none_is_refused(lr: Any) -> None:
    x = shared([1.0])
    with pytest.raises(HyperparameterError, match="lr"):
        tw.SGD().update((x**2).sum(), [x], lr=lr)


@pytest.mark.parametrize(
    "lr",
    [pt.dmatrix("lr"), shared([1.0, 1.0]), pt.constant(-1.0), shared(-2.0), pt.zscalar("lr"), pt.bscalar("lr") > 0],
)
def test_an_expression_that_is_no_rate_is_refused(lr: Any) -> None:
    x = shared([1.0])
    with pytest.raises(HyperparameterError, match="lr"):
        tw.SGD().update((x**2).sum(), [x], lr=lr)


def test_a_rate_of_zero_is_a_rate() -> None:
    x = shared([1.0])
    momentum = tw.Momentum()
    step = stepper(momentum, [x], lr=0)
    step(np.array([3.0]))
    np.testing.assert_array_equal(x.get_value(), [1.0])


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Exp(1.0), "counts epochs or batches"),
        (WarmUp(Plateau(1.0), duration=3, decay_on_iteration=True), "holds a Plateau"),
        (lambda state: 0.5, "whatever the counts are"),
        (lambda state: 1.0 if state.curr_iter > 3 else 2.0, "does not work on expressions"),
    ],
)
def test_a_schedule_that_a_graph_cannot_follow_is_refused(schedule: Any, message: str) -> None:
    x = shared([1.0])
    with pytest.raises(HyperparameterError, match=rf"give the number as a shared variable instead.*{message}"):
        tw.SGD(learning_rate=schedule).update((x**2).sum(), [x])


def test_a_schedule_makes_the_step_count() -> None:
    x = shared([1.0])
    updates = tw.SGD(learning_rate=Exp(1.0, decay_on_iteration=True)).update((x**2).sum(), [x])
    assert [variable.name for variable, _ in updates] == ["x", "sgd/t"]
    updates = tw.SGD(learning_rate=Fixed(1.0)).update((x**2).sum(), [x])
    assert [variable.name for variable, _ in updates] == ["x"]


def test_a_schedule_that_leaves_the_range_is_an_error_of_the_step() -> None:
    x = shared([1.0])
    step = stepper(tw.SGD(learning_rate=lambda state: 1.0 - 0.5 * state.curr_iter), [x])
    step(np.ones(1))
    step(np.ones(1))
    with pytest.raises(HyperparameterError, match="the schedule of learning_rate is outside its range"):
        step(np.ones(1))
    np.testing.assert_array_equal(x.get_value(), [0.5])


def test_numbers_set_later_are_followed() -> None:
    x = shared([0.0])
    sgd = tw.SGD(learning_rate=1.0, groups=[{"variables": ["x"], "weight_decay": 0.0}])
    step = stepper(sgd, [x])
    step(np.array([-1.0]))
    sgd.learning_rate = 0.5
    sgd.groups[0].weight_decay = 1.0
    symbolic(sgd).refresh()
    step(np.array([-1.0]))
    np.testing.assert_array_equal(x.get_value(), [1.0])


def test_rprop_starts_at_its_rate() -> None:
    for rate in (0.5, shared(0.5, "rate")):
        x = shared([0.0])
        stepper(tw.Rprop(), [x], lr=rate)(np.array([-3.0]))
        np.testing.assert_array_equal(x.get_value(), [0.5])
    x, rate = shared([0.0]), shared(0.5, "rate")
    step = stepper(tw.Rprop(), [x], lr=rate)
    step(np.array([-3.0]))
    rate.set_value(7.0)
    with pytest.raises(HyperparameterError, match="rprop reads lr at its first step only, and it is another than when"):
        step(np.array([-3.0]))
    np.testing.assert_array_equal(x.get_value(), [0.5])
    rate.set_value(0.5)
    step(np.array([-3.0]))  # later ones grow and shrink by themselves
    np.testing.assert_allclose(x.get_value(), [0.5 + 0.6])
    with pytest.raises(HyperparameterError, match="rprop reads learning_rate at its first step only, and lr is an"):
        tw.Rprop().update((x**2).sum(), [x], lr=pt.dscalar("lr"))


def test_a_number_that_float32_rounds_out_of_its_range_is_refused() -> None:
    x = shared([1.0], dtype="float32")
    with pytest.raises(HyperparameterError, match="beta2"):
        tw.Adam(beta2=1 - 1e-9).update((x**2).sum(), [x])
    y = shared([1.0])
    assert tw.Adam(beta2=1 - 1e-9).update((y**2).sum(), [y])


# ------------------------------------------------------------------ state in and out


@pytest.mark.parametrize("kind", registry)
def test_state_goes_from_numpy_to_pytensor_and_back(kind: str) -> None:
    print("seed 8")
    rng = np.random.default_rng(8)
    start, grads = rng.normal(size=(2, 3)), rng.normal(size=(30, 2, 3))
    options = {"wrap": ["ema"], "ema_decay": 0.5, "learning_rate": 0.05}
    if kind == "schedule_free_adamw":
        options = {"learning_rate": 0.05, "warmup_steps": 15}
    through = tw.Variable(start.copy(), name="x", needs_grad=True)
    whole = registry[kind](through, **options)
    first = registry[kind](y := tw.Variable(start.copy(), name="x", needs_grad=True), **options)
    for grad in grads[:10]:
        tw.wait(first.step(grad=grad))
    x = shared(y.data)
    middle = registry[kind](**{**options, "learning_rate": 0.7})  # what was saved holds
    symbolic(middle).restore(first.state(), [x])
    step = stepper(middle, [x])
    for grad in grads[:20]:
        tw.wait(whole.step(grad=grad))
    for grad in grads[10:20]:
        step(grad)
    np.testing.assert_allclose(x.get_value(), through.data, rtol=1e-12, atol=1e-13)
    last = registry[kind](z := tw.Variable(x.get_value(), name="x", needs_grad=True), **options)
    last.restore(symbolic(middle).state())
    for grad in grads[20:]:
        tw.wait(last.step(grad=grad))
        tw.wait(whole.step(grad=grad))
    np.testing.assert_allclose(z.data, through.data, rtol=1e-12, atol=1e-13)
    assert last.state().meta["updates"] == whole.state().meta["updates"] == 30
    assert last.iterations == 30


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adagrad", "rprop", "adadelta", "lion", "rmsprop"])
def test_a_rule_that_does_not_count_loses_no_state_either(kind: str) -> None:
    grads = np.array([[1.0], [2.0], [-0.5]])
    x, y = shared([1.0]), tw.Variable(np.array([1.0]), name="x", needs_grad=True)
    here, whole = registry[kind](), registry[kind](y)
    step = stepper(here, [x])
    assert symbolic(here).state().meta["updates"] == 0
    for grad in grads[:2]:
        step(grad)
        tw.wait(whole.step(grad=grad))
    z = tw.Variable(x.get_value(), name="x", needs_grad=True)
    there = registry[kind](z)
    there.restore(symbolic(here).state())
    tw.wait(there.step(grad=grads[2]))
    tw.wait(whole.step(grad=grads[2]))
    np.testing.assert_allclose(z.data, y.data, rtol=1e-14)


def test_a_checkpoint_of_either_side_is_the_other_s(tmp_path: Path) -> None:
    options = {"learning_rate": Exp(0.3, gamma=0.9, decay_on_iteration=True), "nonfinite": "skip"}
    a, b = shared([1.0, 2.0], "a"), shared(3.0, "b")
    here = tw.Adam(**options)
    step = stepper(here, [a, b])
    for _ in range(3):
        step(np.ones(2), -1.0)
    step(np.ones(2), np.nan)
    symbolic(here).dump(tmp_path / "here")
    variables = [tw.Variable(np.zeros(2), name="a", needs_grad=True), tw.Variable(np.zeros(()), name="b")]
    there = tw.Adam(variables, **options)
    there.load(tmp_path / "here")
    np.testing.assert_array_equal(variables[0].data, a.get_value())
    assert (there.iterations, there.skipped, there.current("learning_rate")) == (3, 1, pytest.approx(0.3 * 0.9**2))
    tw.wait(there.step(grad={"a": np.ones(2), "b": np.array(-1.0)}))
    there.dump(tmp_path / "there")
    step(np.ones(2), -1.0)
    expected = a.get_value()
    np.testing.assert_allclose(variables[0].data, expected, rtol=1e-13)
    step(np.ones(2), -1.0)
    again = values([(v, None) for v in (a, b)])
    symbolic(here).load(tmp_path / "there")  # the compiled function goes on from there
    np.testing.assert_array_equal(a.get_value(), variables[0].data)
    step(np.ones(2), -1.0)
    np.testing.assert_allclose(a.get_value(), again[0], rtol=1e-13)
    assert here.iterations == 5
    assert symbolic(here).state().meta["optimization_state"]["curr_iter"] == 5


def test_state_that_does_not_fit_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    x = shared([1.0, 2.0])
    adam = tw.Adam()
    cost, inputs = fed([x])
    updates = adam.update(cost, [x])
    pytensor.function(inputs, updates=updates, mode=FAST)(np.ones(2))
    before, meta = values(updates), symbolic(adam).state().meta
    others = [
        tw.Adamax(tw.Variable(np.zeros(2), name="x")),
        tw.Adam(tw.Variable(np.zeros(3), name="x")),
        tw.Adam(tw.Variable(np.zeros(2), name="y")),
        tw.Adam(tw.Variable(np.zeros(2), name="x"), epsilon_form="hat"),
        tw.Adam(tw.Variable(np.zeros(2, "f4"), name="x")),
        tw.Adam(tw.Variable(np.zeros(2), name="x"), learning_rate=Exp(1.0, decay_on_iteration=True)),
        tw.Adam(tw.Variable(np.zeros(2), name="x"), process_grad=transforms.normalize()),
    ]
    for other in others:
        with pytest.raises(StateMismatchError, match="nothing was changed"):
            symbolic(adam).restore(other.state())
        assert equals(values(updates), before)
        assert symbolic(adam).state().meta == meta
    with pytest.raises(OptimizerError, match="knows no parameters yet"):
        symbolic(tw.Adam()).restore(others[0].state())


def test_reset_is_before_the_first_step() -> None:
    x, y = shared([1.0]), shared([1.0])
    adam = tw.Adam()
    step = stepper(adam, [x])
    step(np.array([1.0]))
    symbolic(adam).reset()
    x.set_value(np.array([1.0]))
    step(np.array([3.0]))
    stepper(tw.Adam(), [y])(np.array([3.0]))
    np.testing.assert_array_equal(x.get_value(), y.get_value())
    assert symbolic(adam).state().meta["updates"] == 1
    assert adam.iterations == 1


def test_schedules_go_on_where_a_reset_left_them() -> None:
    x = shared([0.0])
    sgd = tw.SGD(learning_rate=Exp(1.0, gamma=0.5, decay_on_iteration=True))
    step = stepper(sgd, [x])
    step(np.array([-1.0]))
    symbolic(sgd).reset(counters=False)
    step(np.array([-1.0]))
    np.testing.assert_array_equal(x.get_value(), [1.5])


# ------------------------------------------------------------------ what is refused


class Own(tw.SGD):
    async def post_process(self) -> None:
        """Do something."""


X = shared([1.0])


@pytest.mark.parametrize(
    ("make", "params", "error", "message"),
    [
        (tw.SGD, X, ParameterError, "params is a .*; give a list"),
        (tw.SGD, [], OptimizerError, "params is empty"),
        (tw.SGD, [np.ones(1)], ParameterError, r"params\[0\] is array"),
        (tw.SGD, [X * 2], ParameterError, "give shared variables"),
        (tw.SGD, [pytensor.shared(np.ones(1, int), name="n")], ParameterError, "'n', is int64"),
        (tw.SGD, [X, X], OptimizerError, "is there twice"),
        (tw.SGD, [X, shared([1.0], None)], OptimizerError, "has no name"),
        (tw.SGD, [X, shared([2.0])], OptimizerError, "two parameters are named 'x'"),
        (tw.SGD, [X, shared([2.0], "apart")], MissingGradientError, "does not depend on 'apart'"),
        (lambda: tw.SGD(tw.Variable(np.ones(1))), [X], OptimizerError, "is bound to Variables"),
        (Own, [X], OptimizerError, "Own has a post_process of its own"),
        (lambda: tw.SGD(process_grad={"y": np.abs}), [X], HyperparameterError, "no variable for process_grad"),
        (lambda: tw.SGD(groups=[{"variables": ["y"]}]), [X], HyperparameterError, "no variable for a group"),
        (lambda: tw.SGD(process_grad=lambda g: 1.0), [X], HyperparameterError, "returned a float"),
        (lambda: tw.SGD(process_model=lambda m: m.sum()), [X], HyperparameterError, "expression of 1 axes"),
    ],
)
def test_bad_input_is_refused(make: Any, params: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make().update((X**2).sum(), params)


def test_a_hook_that_is_a_coroutine_is_refused() -> None:
    async def slow(grad: Any) -> Any:
        return grad

    with pytest.raises(HyperparameterError, match="is a coroutine function, and a graph is made at once"):
        tw.SGD(process_grad=slow).update((X**2).sum(), [X])


@pytest.mark.parametrize("cost", [1.0, X, pt.lscalar("n"), np.ones(1)])
def test_a_cost_that_is_no_scalar_expression_is_refused(cost: Any) -> None:
    with pytest.raises(OptimizerError, match="give a real scalar expression"):
        tw.SGD().update(cost, [X])


def test_a_refused_update_keeps_nothing() -> None:
    x, y = shared([1.0]), shared([1.0], "y")
    adam = tw.Adam(process_model=lambda m: m if m is not None else m.sum)
    with pytest.raises(MissingGradientError):
        adam.update((x**2).sum(), [x, y])
    assert len(adam.update((x**2).sum(), [x])) == 4


def test_a_parameter_whose_shape_changed_is_refused() -> None:
    x = shared([1.0, 2.0])
    adam = tw.Adam()
    adam.update((x**2).sum(), [x])
    x.set_value(np.ones(3))
    with pytest.raises(ParameterError, match="is now"):
        symbolic(adam).dump("never written")


def test_a_missing_pytensor_is_one_line_that_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['pytensor'] = None\n"
        "import thalweg as tw, thalweg.lowering.pytensor, thalweg.optimizers.pytensor\n"
        "try:\n    tw.Adam().update(None, [])\n"
        "except tw.errors.MissingExtraError as error:\n    print(error, error.details)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert "pip install 'thalweg[pytensor]'" in run.stdout
    assert "{'extra': 'pytensor'}" in run.stdout


def test_a_graph_is_made_in_moderate_time() -> None:
    """Chains of conditions are walked once, not once a path."""
    params = [shared([1.0], f"p{k}") for k in range(60)]
    begun = time.process_time()
    cost, _ = fed(params)
    tw.Adam().update(cost, params)
    assert time.process_time() - begun < 20


def test_an_optimizer_may_be_made_of_its_shared_variables() -> None:
    """The form of PyCMTensor's page: Adam(params).update(cost, params, lr)."""
    a, b, c = (pytensor.shared(np.ones(2), name=name) for name in "abc")
    optimizer = tw.Adam([a, b])
    assert not optimizer.variables
    updates = optimizer.update((a * b).sum(), [b, a], 0.1)
    assert [str(variable) for variable, _ in updates][:1] == ["b"]
    with pytest.raises(OptimizerError, match="was made for a, b; update was given a, c"):
        optimizer.update((a * c).sum(), [a, c], 0.1)
