"""An optimizer that PyTensor makes the steps of: its own methods see the state, and what is set is followed."""

from __future__ import annotations

import copy
import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg import transforms
from thalweg.errors import (
    HyperparameterError,
    NonFiniteGradientError,
    OptimizerError,
    ParameterError,
    StateMismatchError,
)
from thalweg.optimizers import registry
from thalweg.optimizers.pytensor import symbolic
from thalweg.schedules import Exp, Plateau

pytensor = pytest.importorskip("pytensor")
pt = pytest.importorskip("pytensor.tensor")

FAST = "FAST_COMPILE"  # Python thunks: milliseconds to compile


def shared(value: Any, name: str = "x") -> Any:
    return pytensor.shared(np.array(value, np.float64), name=name)


def stepper(optimizer: Any, params: list[Any], lr: Any = None) -> Any:
    """A function that makes a step with the gradients that it is given."""
    inputs = [param.type(f"grad of {param.name}") for param in params]
    cost = sum((param * grad).sum() for param, grad in zip(params, inputs, strict=True))
    return pytensor.function(inputs, updates=optimizer.update(cost, params, lr), mode=FAST)


# ------------------------------------------------------------------ state


def test_the_optimizer_itself_has_state_and_counts() -> None:
    x, y = shared([1.0, 2.0]), tw.Variable(np.array([1.0, 2.0]), name="x", needs_grad=True)
    here, there = tw.Adam(nonfinite="skip"), tw.Adam(y, nonfinite="skip")
    step = stepper(here, [x])
    for grad in ([1.0, -1.0], [np.nan, 1.0], [0.5, 0.5]):
        step(np.array(grad))
        tw.wait(there.step(grad=np.array(grad)))
    assert (here.iterations, here.skipped) == (there.iterations, there.skipped) == (2, 1)
    assert here.optimization_state.curr_iter == 2
    one, other = here.state(), there.state()
    assert one.meta == other.meta
    assert one.arrays.keys() == other.arrays.keys() == {"slots/mean/x", "slots/mean_square/x"}
    for name, array in one.arrays.items():
        np.testing.assert_allclose(array, other.arrays[name], rtol=1e-14)
    assert here.state().meta == symbolic(here).state().meta


def test_dump_load_and_restore_are_those_of_the_shared_variables(tmp_path: Path) -> None:
    x = shared([1.0, 2.0])
    adam = tw.Adam(learning_rate=0.1)
    step, grad = stepper(adam, [x]), np.array([1.0, -3.0])
    step(grad)
    adam.dump(tmp_path)
    snapshot = adam.state()
    step(grad)
    after = x.get_value()
    adam.load(tmp_path)  # the compiled function goes on from there
    assert adam.iterations == 1
    step(grad)
    np.testing.assert_array_equal(x.get_value(), after)
    adam.restore(snapshot)
    assert adam.iterations == 1
    variable = tw.Variable(np.zeros(2), name="x", needs_grad=True)
    tw.Adam(variable).load(tmp_path)
    np.testing.assert_array_equal(variable.data, tw.checkpoints.CheckpointStore(tmp_path).load()[0]["variables/x"])


def test_it_can_load_before_its_first_update_if_it_was_made_of_its_shared_variables(tmp_path: Path) -> None:
    x = shared([1.0, 2.0])
    step, grad = stepper(first := tw.Adam([x], learning_rate=0.1), [x]), np.array([1.0, -3.0])
    step(grad)
    first.dump(tmp_path)
    snapshot = first.state()
    step(grad)
    for how in ("load", "restore"):
        twin = shared([0.0, 0.0]) if how == "load" else shared(x.get_value())
        second = tw.Adam([twin])
        if how == "load":
            second.load(tmp_path)
            stepper(second, [twin])(grad)
            np.testing.assert_array_equal(twin.get_value(), x.get_value())
        else:
            second.restore(snapshot)
        assert second.learning_rate == 0.1
        assert second.iterations == (2 if how == "load" else 1)
    with pytest.raises(StateMismatchError):
        tw.Adam([shared([1.0, 2.0], "y")]).load(tmp_path)


def test_reset_empties_the_shared_variables() -> None:
    x, y = shared([1.0]), shared([1.0])
    step = stepper(adam := tw.Adam(), [x])
    step(np.array([1.0]))
    adam.reset()
    assert adam.iterations == 0
    x.set_value(np.array([1.0]))
    step(np.array([3.0]))
    stepper(tw.Adam(), [y])(np.array([3.0]))
    np.testing.assert_array_equal(x.get_value(), y.get_value())


def test_what_pytensor_has_is_not_bound_copied_or_stepped() -> None:
    x = shared([1.0])
    step = stepper(sgd := tw.SGD(learning_rate=0.5), [x])
    for refused, message in (
        (lambda: sgd.bind(tw.Variable(np.ones(1), name="x")), "is used on PyTensor; make another"),
        (lambda: copy.deepcopy(sgd), "cannot be copied: its state is in shared variables"),
        (lambda: tw.wait(sgd.step(grad=np.ones(1))), "compiled functions make the steps"),
        (lambda: sgd.eval_params(), "compiled functions make the steps"),
    ):
        with pytest.raises(OptimizerError, match=message):
            refused()
    step(np.array([1.0]))
    assert x.get_value() == [0.5]


def test_an_optimizer_on_pytensor_is_freed_as_soon_as_its_functions_are() -> None:
    adam = tw.Adam(groups=[{"variables": "x", "learning_rate": 0.5}])
    step = stepper(adam, [shared([1.0])])
    step(np.ones(1))
    watched = weakref.ref(adam)
    del adam, step
    gc.collect()
    assert watched() is None


def test_iterations_that_were_counted_before_are_counted_on() -> None:
    x, sgd = shared(0.0), tw.SGD(learning_rate=Exp(1.0, gamma=0.5, decay_on_iteration=True))
    sgd.optimization_state.curr_iter = 2
    step = stepper(sgd, [x])
    assert sgd.iterations == 2
    step(-1.0)
    assert (sgd.iterations, float(x.get_value())) == (3, 0.25)


# ------------------------------------------------------------------ what is set


def test_what_is_set_is_followed_at_once() -> None:
    a, b = shared(0.0, "a"), shared(0.0, "b")
    sgd = tw.SGD(learning_rate=1.0, groups=[{"variables": "b", "learning_rate": 2.0}])
    step = stepper(sgd, [a, b])
    step(-1.0, -1.0)
    sgd.learning_rate = 10.0
    step(-1.0, -1.0)
    sgd.groups[0].learning_rate = 20.0
    step(-1.0, -1.0)
    assert (float(a.get_value()), float(b.get_value())) == (21.0, 24.0)


@pytest.mark.parametrize("whose", ["optimizer", "group"])
def test_what_float32_cannot_hold_is_refused_and_not_set(whose: str) -> None:
    x = pytensor.shared(np.ones(1, np.float32), name="x")
    adam = tw.Adam(groups=[{"variables": "x", "beta2": 0.9}])
    step = stepper(adam, [x])
    step(np.ones(1, np.float32))
    target = adam if whose == "optimizer" else adam.groups[0]
    name = "beta1" if whose == "optimizer" else "beta2"
    before, meta = getattr(target, name), adam.state().meta
    with pytest.raises(HyperparameterError, match=r"becomes 1\.0 in float32"):
        setattr(target, name, 1 - 1e-9)
    assert getattr(target, name) == before
    assert adam.state().meta == meta
    step(np.ones(1, np.float32))


def test_a_plateau_is_followed_without_another_compilation(tmp_path: Path) -> None:
    x = shared(0.0)
    sgd = tw.SGD(learning_rate=Plateau(1.0, factor=0.5, patience=0))
    step = stepper(sgd, [x])
    rates = []
    for loss in (3.0, 4.0, 5.0, 1.0):
        before = float(x.get_value())
        step(-1.0)
        rates.append(float(x.get_value()) - before)
        sgd.observe(loss)
    assert rates == [1.0, 1.0, 0.5, 0.25]
    sgd.dump(tmp_path)
    sgd.observe(9.0)
    assert sgd.current("learning_rate") == 0.125
    sgd.load(tmp_path)
    before = float(x.get_value())
    step(-1.0)
    assert float(x.get_value()) - before == 0.25


# ------------------------------------------------------------------ gradients


ACCUMULATING: dict[str, dict[str, Any]] = {
    "plain": {},
    "a clip of the mean": {"process_grad": transforms.clip_norm(0.5)},
    "bounds": {"process_model": transforms.bounds(-0.5, 0.5)},
    "a schedule": {"learning_rate": Exp(0.3, gamma=0.5, decay_on_iteration=True)},
    "skip": {"nonfinite": "skip"},
    "zero": {"nonfinite": "zero"},
    "zero before a clip": {"nonfinite": "zero", "process_grad": transforms.clip_norm(0.5)},
    "a mean beyond the dtype": {"nonfinite": "skip", "process_grad": transforms.scale(1e200)},
    "ignore": {"nonfinite": "ignore"},
}


@pytest.mark.parametrize("case", ACCUMULATING)
@pytest.mark.parametrize("kind", ["sgd", "adam", "nadam", "schedule_free_adamw", "lamb"])
def test_gradients_are_gathered_as_on_numpy(kind: str, case: str) -> None:
    print("seed 3")
    rng = np.random.default_rng(3)
    start = {"a": rng.normal(size=(2, 2)), "b": rng.normal(size=3)}
    variables = [tw.Variable(value.copy(), name=name, needs_grad=True) for name, value in start.items()]
    options = {"accumulate": 3, **ACCUMULATING[case]}
    if registry[kind].rule.derived:
        options.pop("process_model", None)
    there, here = registry[kind](variables, **options), registry[kind](**options)
    params = [shared(value, name) for name, value in start.items()]
    step = stepper(here, params)
    for k in range(20):
        grads = {name: rng.normal(size=value.shape) for name, value in start.items()}
        if k in (4, 8) and options.get("nonfinite") in ("skip", "zero"):
            grads["b"][1] = np.nan
        if k in (9, 10) and case == "a mean beyond the dtype":
            grads["a"] *= 1e200
        step(*grads.values())
        tw.wait(there.step(grad=grads))
        for variable, param in zip(variables, params, strict=True):
            np.testing.assert_allclose(param.get_value(), variable.data, rtol=1e-12, atol=1e-13)
    assert (here.skipped, here.zeroed) == (there.skipped, there.zeroed)
    one, other = here.state(), there.state()
    if kind != "sgd":
        assert (one.meta["updates"], one.meta["micro"]) == (other.meta["updates"], other.meta["micro"])
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_allclose(array, other.arrays[name], rtol=1e-11, atol=1e-13)


def test_the_list_has_the_sums_and_their_count() -> None:
    x = shared([1.0])
    updates = tw.Adam(accumulate=2).update((x**2).sum(), [x])
    names = [variable.name for variable, _ in updates]
    assert names == ["x", "x/mean", "x/mean_square", "x/accumulated", "adam/micro", "adam/t"]


def test_an_accumulation_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    grads = np.array([[1.0], [2.0], [4.0], [-3.0]])
    x, y = shared([1.0]), tw.Variable(np.array([1.0]), name="x", needs_grad=True)
    step = stepper(here := tw.Adam(accumulate=3), [x])
    there = tw.Adam(y, accumulate=3)
    for grad in grads:
        step(grad)
        tw.wait(there.step(grad=grad))
    here.dump(tmp_path / "here")
    there.dump(tmp_path / "there")
    here.load(tmp_path / "there")
    there.load(tmp_path / "here")
    for grad in grads:
        step(grad)
        tw.wait(there.step(grad=grad))
    np.testing.assert_allclose(x.get_value(), y.data, rtol=1e-13)
    assert here.iterations == there.iterations == 2


@pytest.mark.parametrize("mode", [FAST, None], ids=["Python", "the default linker"])
def test_a_bad_micro_batch_is_an_error_that_changes_nothing(mode: str | None) -> None:
    x = shared([1.0, 2.0])
    grad = x.type("grad")
    updates = tw.Adam(accumulate=2).update((x * grad).sum(), [x])
    step = pytensor.function([grad], updates=updates, mode=mode)
    for good in (1, 2):
        step(np.ones(2))
        before = [np.array(variable.get_value()) for variable, _ in updates]
        with pytest.raises(NonFiniteGradientError, match="'x' holds NaN or infinity"):
            step(np.array([np.nan, 1.0]))
        assert all(
            np.array_equal(old, variable.get_value()) for old, (variable, _) in zip(before, updates, strict=True)
        ), good


def test_a_mean_that_is_not_finite_matters_where_a_step_is_due() -> None:
    x = shared([1.0])
    step = stepper(tw.SGD(accumulate=2, process_grad=lambda g: g * np.float64(1e300)), [x])
    step(np.array([1e200]))  # what it will be is not known yet
    with pytest.raises(NonFiniteGradientError):
        step(np.array([1e200]))
    step(np.array([-1e200]))
    assert x.get_value() == [1.0]


def test_zero_takes_elements_before_a_hook_spreads_them() -> None:
    grad = np.array([np.nan, 3.0])
    x, y = shared([1.0, 1.0]), tw.Variable(np.ones(2), name="x", needs_grad=True)
    options: dict[str, Any] = {"learning_rate": 1.0, "nonfinite": "zero", "process_grad": transforms.clip_norm(1.0)}
    stepper(here := tw.SGD(**options), [x])(grad)
    there = tw.SGD(y, **options)
    tw.wait(there.step(grad=grad))
    np.testing.assert_allclose(x.get_value(), [1.0, 0.0])
    np.testing.assert_allclose(y.data, [1.0, 0.0])
    assert here.zeroed == there.zeroed == 1


def made(name: str = "x", value: Any = (1.0, 2.0), **options: Any) -> Any:
    return pytensor.shared(np.array(value), name=name, **options)


@pytest.mark.parametrize(
    ("optimizer", "what"),
    [
        (tw.SGD(learning_rate=Exp(0.1, gamma=0.5, decay_on_iteration=True)), "a schedule of it"),
        (tw.Adam(groups=[{"variables": ["x"], "learning_rate": 0.0}]), "groups with rates of their own"),
    ],
    ids=["schedule", "group"],
)
def test_a_rate_that_would_put_others_aside_is_refused(optimizer: Any, what: str) -> None:
    x = made()
    with pytest.raises(HyperparameterError, match=f"lr is given to update, and the optimizer has {what}"):
        optimizer.update((x**2).sum(), [x], lr=0.1)
    assert len(optimizer.update((x**2).sum(), [x])) > 0


def test_a_rate_set_beside_one_that_update_was_given_is_refused_and_not_set() -> None:
    x, optimizer = made(), tw.SGD(learning_rate=0.3, weight_decay=0.0)
    step = pytensor.function([], updates=optimizer.update((x**2).sum(), [x], lr=0.1), mode=FAST)
    with pytest.raises(HyperparameterError, match="setting learning_rate would change nothing; give lr as a shared"):
        optimizer.learning_rate = 0.0
    assert optimizer.learning_rate == 0.3
    optimizer.weight_decay = 0.5  # what the graph has is followed
    step()
    np.testing.assert_allclose(x.get_value(), np.array([1.0, 2.0]) * (1 - 0.1 * 2.5), rtol=1e-15)


def test_a_rate_is_followed_by_the_graph_that_has_it() -> None:
    x, optimizer = made(), tw.SGD(learning_rate=0.5)
    own = pytensor.function([], updates=optimizer.update((x**2).sum(), [x]), mode=FAST)
    optimizer.update((x**2).sum(), [x], lr=0.1)
    optimizer.learning_rate = 0.25
    own()
    np.testing.assert_array_equal(x.get_value(), [0.5, 1.0])


def test_a_borrowed_array_that_may_not_be_written_to_is_refused() -> None:
    held = np.ones(3)
    held.flags.writeable = False
    x = pytensor.shared(held, name="x", borrow=True)
    with pytest.raises(ParameterError, match="'x' holds an array that is read-only"):
        tw.SGD().update((x**2).sum(), [x])
    copied = pytensor.shared(held, name="x")
    pytensor.function([], updates=tw.SGD(learning_rate=0.1).update((copied**2).sum(), [copied]))()
    assert held.tolist() == [1.0] * 3
    assert np.allclose(copied.get_value(), 0.8)


def test_borrowed_arrays_that_overlap_are_refused() -> None:
    buffer = np.ones(6)
    a, b, c = (
        pytensor.shared(part, name=name, borrow=True)
        for name, part in (("a", buffer[:4]), ("b", buffer[2:]), ("c", buffer[4:]))
    )
    with pytest.raises(ParameterError, match="'a' and 'b' share memory"):
        tw.SGD().update((a**2).sum() + (b**2).sum(), [a, b])
    assert len(tw.SGD().update((a**2).sum() + (c**2).sum(), [a, c])) == 2


@pytest.mark.parametrize("order", ["Fortran order", "negative strides", "no axes", "no elements"])
def test_arrays_of_any_order_are_updated_like_their_copies(order: str) -> None:
    plain = np.arange(6.0).reshape(2, 3) + 1
    value = {
        "Fortran order": np.asfortranarray(plain),
        "negative strides": plain[::-1, ::-1],
        "no axes": np.array(2.0),
        "no elements": np.zeros((0, 3)),
    }[order]
    results = []
    for start, borrow in ((value, True), (np.array(value, order="C"), False)):
        x = pytensor.shared(start.copy() if start.size == 1 else start, name="x", borrow=borrow)
        step = pytensor.function([], updates=tw.Adam(learning_rate=0.1).update((x**2).sum(), [x]), mode=FAST)
        step()
        step()
        results.append(x.get_value())
    np.testing.assert_array_equal(*results)
    assert results[0].shape == value.shape


def test_a_group_cannot_begin_to_set_what_a_graph_has_from_the_optimizer() -> None:
    """It would change nothing: the graph reads the optimizer's number for these parameters, too."""
    shared = [pytensor.shared(np.ones(1), name=name) for name in "ab"]
    optimizer = tw.SGD(learning_rate=1.0, groups=[{"variables": "a", "weight_decay": 0.0}])
    updates = optimizer.update(sum(one.sum() for one in shared), shared)
    function = pytensor.function([], updates=updates, mode="FAST_COMPILE")
    with pytest.raises(HyperparameterError, match=r"group 0 \(from 0\) sets learning_rate, and the graphs"):
        optimizer.groups[0].learning_rate = 0.5
    assert optimizer.groups[0].settings == {"weight_decay": 0.0}
    optimizer.groups[0].weight_decay = 0.5  # which it had
    function()
    assert [one.get_value().tolist() for one in shared] == [[-0.5], [0.0]]


@pytest.mark.parametrize("group", [None, 0])
@pytest.mark.parametrize(("first", "then"), [(Exp(1.0), 0.5), (1.0, Exp(1.0)), (Exp(1.0), Exp(2.0))])
def test_a_schedule_cannot_come_or_go_where_a_graph_was_made(first: Any, then: Any, group: int | None) -> None:
    """It would change nothing: the graph has it, or has a number."""
    first, then = (
        Exp(rate.initial, gamma=0.5, decay_on_iteration=True) if callable(rate) else rate for rate in (first, then)
    )
    shared = pytensor.shared(np.ones(1), name="a")
    optimizer = tw.SGD(learning_rate=first, groups=[{"variables": "a", "learning_rate": first}])
    updates = optimizer.update(shared.sum(), [shared])
    function = pytensor.function([], updates=updates, mode="FAST_COMPILE")
    owner: Any = optimizer if group is None else optimizer.groups[group]
    with pytest.raises(HyperparameterError, match=r"learning_rate is .*a schedule stays where it is"):
        owner.learning_rate = then
    assert owner.learning_rate == first
    function()
    assert shared.get_value().tolist() == [0.0]
