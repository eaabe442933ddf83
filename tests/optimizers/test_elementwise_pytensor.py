"""Arrays of hyperparameters on PyTensor: in the graph, given to update, and where state starts at a hyperparameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg.errors import HyperparameterError, StateMismatchError
from thalweg.optimizers.pytensor import symbolic

pytensor = pytest.importorskip("pytensor")
pt = pytest.importorskip("pytensor.tensor")

FAST = "FAST_COMPILE"  # Python thunks: milliseconds to compile
RATES = np.array([0.5, 0.25, 0.0])


def shared(value: Any, name: str = "x") -> Any:
    return pytensor.shared(np.array(value, np.float64), name=name)


def stepper(optimizer: Any, params: list[Any], lr: Any = None, *more: Any, mode: str | None = FAST) -> Any:
    """A function that makes a step with the gradients that it is given."""
    inputs = [param.type(f"grad of {param.name}") for param in params]
    cost = sum((param * grad).sum() for param, grad in zip(params, inputs, strict=True))
    return pytensor.function([*inputs, *more], updates=optimizer.update(cost, params, lr), mode=mode)


ONES = -np.ones(3)  # a gradient that pushes up


# ------------------------------------------------------------------ what is set


def test_another_array_or_a_number_is_followed_by_what_is_compiled_already() -> None:
    x = shared(np.zeros(3))
    sgd = tw.SGD(learning_rate=RATES, groups=[{"variables": "x", "weight_decay": np.zeros(3)}])
    step = stepper(sgd, [x])
    step(ONES)
    np.testing.assert_array_equal(x.get_value(), RATES)
    sgd.learning_rate = 2 * RATES
    step(ONES)
    np.testing.assert_array_equal(x.get_value(), 3 * RATES)
    sgd.learning_rate = 1.0
    step(ONES)
    np.testing.assert_array_equal(x.get_value(), 3 * RATES + 1)
    before = sgd.state().meta
    for wrong in (np.ones(2), np.ones((3, 1)), -np.ones(3)):
        with pytest.raises(HyperparameterError, match=r"nothing is broadcast|outside its range"):
            sgd.learning_rate = wrong
        with pytest.raises(HyperparameterError, match=r"nothing is broadcast|outside its range"):
            sgd.groups[0].weight_decay = wrong
    assert sgd.state().meta == before
    step(ONES)
    np.testing.assert_array_equal(x.get_value(), 3 * RATES + 2)


def test_an_array_in_the_place_of_a_number_needs_another_graph() -> None:
    x = shared(np.zeros(3))
    sgd = tw.SGD(learning_rate=0.5)
    sgd.learning_rate = RATES  # no graph yet
    sgd.learning_rate = 0.5
    step = stepper(sgd, [x])
    with pytest.raises(HyperparameterError, match="the graphs made by update have a number there, which cannot become"):
        sgd.learning_rate = RATES
    assert sgd.learning_rate == 0.5
    step(ONES)
    np.testing.assert_array_equal(x.get_value(), [0.5] * 3)
    refused = tw.SGD(learning_rate=0.5, process_grad=lambda g: 1.0)
    with pytest.raises(HyperparameterError, match="returned a float"):
        refused.update((x**2).sum(), [x])
    refused.process_grad, refused.learning_rate = None, RATES  # of a graph that was refused nothing is left
    stepper(refused, [x])(ONES)
    np.testing.assert_array_equal(x.get_value(), 0.5 + RATES)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [None, "FAST_RUN"])
def test_with_other_linkers(mode: str | None) -> None:
    x, y = pytensor.shared(np.ones((1, 3)), name="x", shape=(1, 3)), tw.Variable(np.ones((1, 3)), name="x")
    options: dict[str, Any] = {"learning_rate": RATES[None], "weight_decay": np.ones((1, 3)), "decay": "decoupled"}
    step = stepper(tw.Adam(**options), [x], mode=mode)
    there = tw.Adam(y, **options)
    for grad in (ONES[None], 2 * ONES[None], -ONES[None]):
        step(grad)
        tw.wait(there.step(grad=grad))
    np.testing.assert_allclose(x.get_value(), y.data, rtol=1e-12, atol=1e-14)


# ------------------------------------------------------------------ the rate that update is given


def test_a_rate_may_be_an_array() -> None:
    for rate in (RATES, pt.constant(RATES), shared(RATES, "rate"), 0.5 * shared(2 * RATES, "double")):
        x, y = shared(np.zeros(3)), tw.Variable(np.zeros(3), name="x")
        step, there = stepper(tw.Adam([x]), [x], rate), tw.Adam(y, learning_rate=RATES)
        for grad in (ONES, 3 * ONES, -ONES):
            step(grad)
            tw.wait(there.step(grad=grad))
        np.testing.assert_allclose(x.get_value(), y.data, rtol=1e-13, atol=1e-15)


def test_a_shared_rate_may_change_but_not_its_shape() -> None:
    x, v = shared(np.zeros(3)), shared(RATES, "rate")
    momentum = tw.Momentum(rate_in_buffer=False)
    updates = momentum.update(-x.sum(), [x], v)
    step = pytensor.function([], updates=updates, mode=FAST)
    step()
    np.testing.assert_array_equal(x.get_value(), RATES)
    before = [np.array(variable.get_value()) for variable, _ in updates]
    for wrong in (np.ones(1), np.ones(2), np.array([1.0, -1.0, 1.0]), np.array([1.0, np.nan, 1.0])):
        v.set_value(wrong)
        with pytest.raises((HyperparameterError, ValueError), match=r"lr|shape|dimension|broadcast|mismatch"):
            step()
        for (variable, _), old in zip(updates, before, strict=True):
            np.testing.assert_array_equal(variable.get_value(), old)
    v.set_value(2 * RATES)
    step()
    np.testing.assert_allclose(x.get_value(), RATES * (1 + 2 * 1.9))


@pytest.mark.parametrize(
    ("lr", "words"),
    [
        (np.ones(2), r"lr is an array of shape \(2,\), and parameter 'x' has shape \(3,\); nothing is broadcast"),
        (np.array([1.0, -1.0, 1.0]), r"lr\[1\] is -1.0"),
        (np.ones(3, int), "lr is an array of .* int64"),
        (pt.dmatrix("lr"), r"lr has another shape than parameter 'x'.*2 axes"),
        (pt.zvector("lr"), "give a real scalar, or an array like the parameter"),
        (shared(np.ones((3, 1)), "lr"), "nothing is broadcast"),
    ],
    ids=["shape", "range", "integers", "axes", "complex", "shared"],
)
def test_a_rate_that_is_none_is_refused(lr: Any, words: str) -> None:
    x = shared(np.zeros(3))
    with pytest.raises(HyperparameterError, match=words):
        tw.SGD().update((x**2).sum(), [x], lr)
    with pytest.raises(HyperparameterError, match=r"takes a number|lr"):
        tw.LAMB().update((x**2).sum(), [x], lr)


def test_a_rule_that_takes_a_number_takes_no_array() -> None:
    x = shared(np.zeros(3))
    for lr in (RATES, pt.dvector("lr"), shared(RATES, "lr")):
        with pytest.raises(HyperparameterError, match="it sums over the whole tensor"):
            tw.LAMB().update((x**2).sum(), [x], lr)


# ------------------------------------------------------------------ state


def test_a_state_can_bring_an_array_only_where_a_graph_has_room_for_it(tmp_path: Path) -> None:
    y = tw.Variable(np.zeros(3), name="x")
    there = tw.Momentum(y, learning_rate=RATES)
    tw.wait(there.step(grad=ONES))
    there.dump(tmp_path)
    x = shared(np.zeros(3))
    made = tw.Momentum(learning_rate=0.5)
    stepper(made, [x])
    with pytest.raises(StateMismatchError, match=r"learning_rate is an array of \(3,\).*restore before update"):
        made.load(tmp_path)
    assert made.learning_rate == 0.5
    fresh = tw.Momentum([x])
    fresh.load(tmp_path)
    np.testing.assert_array_equal(fresh.learning_rate, RATES)
    stepper(fresh, [x])(ONES)
    tw.wait(there.step(grad=ONES))
    np.testing.assert_allclose(x.get_value(), y.data, rtol=1e-15)
    number = tw.Momentum(tw.Variable(np.zeros(3), name="x"), learning_rate=0.125)
    fresh.restore(number.state())  # a number where the graph has an array
    assert fresh.learning_rate == 0.125


# ------------------------------------------------------------------ state that starts at a hyperparameter


def two(kind: type[Any], **options: Any) -> tuple[Any, Any, Any, Any]:
    """The same optimizer here and on NumPy."""
    x, y = shared(np.zeros(3)), tw.Variable(np.zeros(3), name="x")
    return x, kind(**options), y, kind(y, **options)


@pytest.mark.parametrize("value", [2.0, np.array([1.0, 2.0, 4.0])], ids=["a number", "an array"])
@pytest.mark.parametrize(
    ("kind", "name"), [(tw.AdaGrad, "initial_accumulator"), (tw.Rprop, "learning_rate")], ids=["adagrad", "rprop"]
)
def test_what_is_set_before_the_first_step_is_where_it_starts(kind: type[Any], name: str, value: Any) -> None:
    x, here, y, there = two(kind, **{name: np.full(3, 0.5)})
    step = stepper(here, [x])
    setattr(here, name, value)
    setattr(there, name, value)
    for grad in (ONES, 2 * ONES, ONES):
        step(grad)
        tw.wait(there.step(grad=grad))
    np.testing.assert_allclose(x.get_value(), y.data, rtol=1e-13)
    assert here.state().meta["updates"] > 0


def test_so_it_is_after_a_reset_and_in_what_is_restored_from_before_the_first_step() -> None:
    x, here, y, there = two(tw.AdaGrad, learning_rate=1.0)
    step = stepper(here, [x])
    step(ONES)
    here.reset()
    here.restore(there.state())
    here.initial_accumulator = there.initial_accumulator = 3.0
    x.set_value(np.zeros(3))
    step(ONES)
    tw.wait(there.step(grad=ONES))
    np.testing.assert_allclose(x.get_value(), y.data, rtol=1e-13)
    np.testing.assert_allclose(x.get_value(), [0.5] * 3)


def test_a_rate_that_is_given_to_update_is_where_it_starts() -> None:
    """Of the graph that makes the first step: another one has its own rate."""
    for each in (2.0, np.array([1.0, 2.0, 4.0])):
        rprop, x = tw.Rprop(), shared(np.zeros(3))
        one, other = stepper(rprop, [x], 0.5), stepper(rprop, [x], shared(each, "rate"))
        other(ONES)
        np.testing.assert_array_equal(x.get_value(), np.full(3, each))
        one(ONES)
        np.testing.assert_allclose(x.get_value(), np.full(3, 2.2 * each))
        assert symbolic(rprop).state().meta["updates"] == 2


@pytest.mark.parametrize("value", [0.5, RATES + 0.5], ids=["a number", "an array"])
def test_after_the_first_step_it_is_not_moved(value: Any) -> None:
    x, here, y, there = two(tw.AdaGrad, initial_accumulator=np.ones(3), learning_rate=np.ones(3))
    step = stepper(here, [x])
    for grad in (ONES, 2 * ONES):
        step(grad)
        tw.wait(there.step(grad=grad))
        here.learning_rate = there.learning_rate = value  # anything that is set
    np.testing.assert_allclose(x.get_value(), y.data, rtol=1e-13)
