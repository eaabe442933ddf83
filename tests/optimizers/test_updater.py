"""update(key, grad, weight): a state for each key, one count of iterations, and nothing lost in a checkpoint."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg import transforms
from thalweg.errors import (
    CheckpointError,
    GradientDtypeError,
    GradientShapeError,
    HyperparameterError,
    MissingGradientError,
    NonFiniteGradientError,
    OptimizerError,
    ParameterError,
    StateMismatchError,
)
from thalweg.optimizers import registry
from thalweg.optimizers.normalizing import normalized_gradient
from thalweg.optimizers.updater import Updater, get_updater
from thalweg.schedules import Exp, OptimizationState, Plateau

SHAPES = {"w": (3, 2), "b": (2,), 7: ()}


def weights(seed: int, dtype: str = "f8") -> dict[Any, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: np.asarray(rng.normal(size=shape), dtype) for key, shape in SHAPES.items()}


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


# ------------------------------------------------------------------ the same as an optimizer


@pytest.mark.parametrize("kind", registry)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_each_key_goes_as_with_an_optimizer_of_its_own(kind: str, dtype: str) -> None:
    print("seed 1")
    mine, theirs = weights(1, dtype), weights(1, dtype)
    options: dict[str, Any] = {"weight_decay": 0.1}
    if not registry[kind].rule.derived:
        options["process_model"] = transforms.bounds(-2.0, 2.0)
    update = get_updater(registry[kind](**options))
    variables = {key: tw.Variable(theirs[key], name=str(key)) for key in SHAPES}
    optimizers = {key: registry[kind](variable, **options) for key, variable in variables.items()}
    rng = np.random.default_rng(2)
    for _ in range(6):
        for key, weight in mine.items():
            grad = np.asarray(rng.normal(size=weight.shape), dtype)
            before = digest(grad)
            update(key, grad, weight)
            assert digest(grad) == before
            tw.wait(optimizers[key].step(grad=grad))
    for key, weight in mine.items():
        assert weight.tobytes() == theirs[key].tobytes()
    assert update.optimization_state.curr_iter == 6
    assert update.names == ("w", "b", "7")


def test_state_is_made_when_a_key_first_comes() -> None:
    update = get_updater(tw.Adam())
    w = weights(1)
    assert update.names == ()
    update("w", np.ones((3, 2)), w["w"])
    update("w", np.ones((3, 2)), w["w"])
    update("b", np.ones(2), w["b"])
    first = tw.Variable(weights(1)["b"], name="b")
    tw.wait(tw.Adam(first).step(grad=np.ones(2)))
    np.testing.assert_array_equal(w["b"], first.data)  # its bias correction counts from 1
    assert set(update.state().arrays) == {f"slots/{slot}/{key}" for slot in ("mean", "mean_square") for key in "wb"}


def test_the_recipe_is_never_bound_and_two_updaters_share_nothing() -> None:
    adam = tw.Adam()
    one, other = get_updater(adam), get_updater(adam)
    one("w", np.ones(2), np.zeros(2))
    assert (one.names, other.names, adam.variables) == (("w",), (), ())


def test_what_is_set_on_the_optimizer_later_holds() -> None:
    sgd = tw.SGD(learning_rate=1.0, groups=[{"variables": ["*.bias"], "weight_decay": 0.0}], weight_decay=1.0)
    update = get_updater(sgd)
    w, b = np.array([2.0]), np.array([2.0])
    for key, weight in (("a.weight", w), ("a.bias", b)):
        update(key, np.zeros(1), weight)
    assert (w[0], b[0]) == (0.0, 2.0)
    sgd.learning_rate = 0.5
    sgd.groups[0].weight_decay = 0.5
    w[0] = 2.0
    for key, weight in (("a.weight", w), ("a.bias", b)):
        update(key, np.zeros(1), weight)
    assert (w[0], b[0]) == (1.0, 1.5)
    sgd.process_grad = transforms.scale(0.0)
    sgd.weight_decay = sgd.groups[0].weight_decay = 0.0
    update("a.weight", np.ones(1), w)
    assert w[0] == 1.0


def test_hooks_by_name_go_by_the_key() -> None:
    sgd = tw.SGD(learning_rate=1.0, process_grad={"a": transforms.scale(2.0), "3": [transforms.scale(0.0)]})
    update = get_updater(sgd)
    found = {}
    for key in ("a", "b", 3):
        found[key] = np.array([0.0])
        update(key, np.array([-1.0]), found[key])
    assert {key: float(weight[0]) for key, weight in found.items()} == {"a": 2.0, "b": 1.0, 3: 0.0}


def test_a_hook_may_await_something() -> None:
    import asyncio

    async def slow(grad: np.ndarray) -> np.ndarray:
        await asyncio.sleep(0)
        return 2 * grad

    update, w = get_updater(tw.SGD(learning_rate=1.0, process_grad=slow)), np.array([0.0])
    update("w", np.array([-1.0]), w)
    assert w[0] == 2.0

    async def inside() -> None:
        update("w", np.array([-1.0]), w)

    asyncio.run(inside())
    assert w[0] == 4.0


def test_it_works_inside_a_running_loop() -> None:
    import asyncio

    update, w = get_updater(tw.Adam(learning_rate=1.0)), np.array([0.0])

    async def inside() -> None:
        update("w", np.array([-1.0]), w)

    asyncio.run(inside())
    assert w[0] == pytest.approx(1.0)


def test_weights_may_be_replaced_and_lie_anywhere() -> None:
    update = get_updater(tw.Momentum(learning_rate=1.0, momentum=0.5))
    whole = np.zeros((4, 6))
    update("w", -np.ones((4, 3)), whole[:, ::2])
    assert whole[:, ::2].sum() == 12
    assert whole[:, 1::2].sum() == 0
    other = np.zeros((4, 3))
    update("w", -np.ones((4, 3)), other)
    np.testing.assert_array_equal(other, 1.5)


def test_accumulating_and_skipping_are_the_optimizer_s() -> None:
    update, w = get_updater(tw.SGD(learning_rate=1.0, accumulate=2, nonfinite="skip")), np.array([0.0])
    update("w", np.array([-1.0]), w)
    assert (w[0], update.optimization_state.curr_iter) == (0.0, 0)
    update("w", np.array([-2.0]), w)
    assert (w[0], update.optimization_state.curr_iter) == (1.5, 1)
    update("w", np.array([np.nan]), w)
    assert (w[0], update.optimization_state.curr_iter) == (1.5, 1)


# ------------------------------------------------------------------ counts and schedules


def test_an_iteration_ends_when_a_key_comes_again() -> None:
    update = get_updater(tw.SGD(learning_rate=Exp(1.0, gamma=0.5, decay_on_iteration=True)))
    found = {key: np.zeros(1) for key in "abc"}
    for keys in ("ab", "abc", "cab"):  # c is unfrozen, and then comes first
        for key in keys:
            update(key, -np.ones(1), found[key])
    assert [float(found[key][0]) for key in "abc"] == [1.75, 1.75, 0.75]
    assert update.optimization_state.curr_iter == 3


def test_iterations_that_the_loop_counts_are_not_counted_twice() -> None:
    update = get_updater(tw.SGD(learning_rate=Exp(1.0, gamma=0.5, decay_on_iteration=True)))
    found = {key: np.zeros(1) for key in "ab"}
    for _ in range(3):
        update.optimization_state.begin_step()
        for key in "ab":
            update(key, -np.ones(1), found[key])
    assert [float(found[key][0]) for key in "ab"] == [1.75, 1.75]
    assert update.optimization_state.curr_iter == 3


def test_epochs_are_the_loop_s() -> None:
    sgd = tw.SGD(learning_rate=Exp(1.0, gamma=0.5))
    update, w = get_updater(sgd), np.zeros(1)
    assert update.optimization_state is sgd.optimization_state
    for _ in range(3):
        sgd.optimization_state.begin_epoch()
        for _ in range(2):
            update("w", -np.ones(1), w)
    assert w[0] == 3.5


def test_a_plateau_is_told_once_and_followed_by_every_key() -> None:
    schedule = Plateau(1.0, factor=0.5, patience=0)
    update = get_updater(tw.SGD(learning_rate=schedule))
    found = {key: np.zeros(1) for key in "ab"}
    for misfit in (3.0, 3.0):
        schedule.observe(misfit)
    for key, weight in found.items():
        update(key, -np.ones(1), weight)
    assert {float(weight[0]) for weight in found.values()} == {0.5}


RATES = np.array([[0.5, 0.25, 0.0]])


def test_an_array_of_hyperparameters_is_that_of_a_key_in_a_group() -> None:
    sgd = tw.SGD(learning_rate=1.0, groups=[{"variables": "w", "learning_rate": RATES}])
    update, w, b = get_updater(sgd), np.zeros((1, 3)), np.zeros(2)
    for key, weight in (("w", w), ("b", b)):
        update(key, -np.ones_like(weight), weight)
    np.testing.assert_array_equal(w, RATES)
    assert b.tolist() == [1.0, 1.0]
    sgd.groups[0].learning_rate = given = 2 * RATES
    given[...] = 100.0  # a copy was taken
    update("w", -np.ones_like(w), w)
    np.testing.assert_array_equal(w, 3 * RATES)
    sgd.groups[0].learning_rate = 1.0
    update("w", -np.ones_like(w), w)
    np.testing.assert_array_equal(w, 3 * RATES + 1)


def test_an_array_that_is_not_like_a_key_s_weight_is_refused_when_the_key_comes() -> None:
    sgd = tw.SGD(learning_rate=RATES)
    update, w, b = get_updater(sgd), np.zeros((1, 3)), np.zeros(3)
    update("w", -np.ones_like(w), w)
    before = update.state()
    with pytest.raises(HyperparameterError, match=r"learning_rate is an array of shape \(1, 3\), and variable 'b' has"):
        update("b", -np.ones_like(b), b)
    assert not b.any()
    assert update.names == ("w",)
    assert update.state().meta == before.meta
    sgd.learning_rate = RATES[0]
    with pytest.raises(HyperparameterError, match=r"array of shape \(3,\), and variable 'w' has shape \(1, 3\)"):
        update("w", -np.ones_like(w), w)
    np.testing.assert_array_equal(w, RATES)
    update("b", -np.ones_like(b), b)
    np.testing.assert_array_equal(b, RATES[0])


def test_arrays_are_saved_with_the_state_of_each_key(tmp_path: Path) -> None:
    def made(*arrays: Any) -> tuple[Updater, dict[str, np.ndarray]]:
        groups = [{"variables": key, "learning_rate": array} for key, array in zip("wb", arrays, strict=True)]
        update = get_updater(tw.Adam(weight_decay=0.1, groups=groups))
        return update, {"w": np.ones((1, 3)), "b": np.ones(2)}

    def go(update: Updater, weights: dict[str, np.ndarray], steps: int) -> None:
        for _ in range(steps):
            for key, weight in weights.items():
                update(key, weight / 2, weight)

    whole, expected = made(RATES, np.array([0.25, 0.75]))
    go(whole, expected, 5)
    first, weights = made(RATES, np.array([0.25, 0.75]))
    go(first, weights, 2)
    first.dump(tmp_path)
    names = set(first.state().arrays)
    assert {"hyperparameters/groups.0.learning_rate", "hyperparameters/learning_rate/w"} <= names
    for others in ((0.5, 0.5), (np.ones(7), np.ones((2, 2)))):  # what was saved holds
        second, _ = made(*others)
        second.load(tmp_path)
        np.testing.assert_array_equal(second.optimizer.groups[0].learning_rate, RATES)
        found = {key: weight.copy() for key, weight in weights.items()}
        go(second, found, 3)
        for key, weight in expected.items():
            np.testing.assert_array_equal(found[key], weight)
    state = first.state()
    for name, words in (
        ("hyperparameters/learning_rate/w", "missing: hyperparameters/learning_rate"),
        ("hyperparameters/groups.0.learning_rate", "missing: hyperparameters/groups.0.learning_rate"),
    ):
        wrong = copy.deepcopy(state)
        del wrong.arrays[name]
        second, _ = made(0.5, 0.5)
        with pytest.raises(StateMismatchError, match=words):
            second.restore(wrong)
        assert second.names == ()
    strange = copy.deepcopy(state)
    strange.arrays["hyperparameters/learning_rate/x"] = RATES
    with pytest.raises(StateMismatchError, match="unexpected: hyperparameters/learning_rate/x"):
        made(0.5, 0.5)[0].restore(strange)


def test_a_step_that_fails_counts_nothing_and_keeps_nothing() -> None:
    update, w = get_updater(tw.Adam()), np.ones(2)
    with pytest.raises(NonFiniteGradientError, match="'w', iteration 1"):
        update("w", np.array([1.0, np.nan]), w)
    assert (update.names, update.optimization_state.curr_iter, w.tolist()) == ((), 0, [1.0, 1.0])
    update("w", np.ones(2), w)
    before, state = w.copy(), update.state()
    for grad, error in (
        (np.array([np.inf, 1.0]), NonFiniteGradientError),
        (np.ones(1), GradientShapeError),
        (np.ones((2, 1)), GradientShapeError),
        (np.ones(2, "f4"), GradientDtypeError),
        ([1.0, 1.0], GradientDtypeError),
        (None, MissingGradientError),
    ):
        with pytest.raises(error, match="variable 'w', iteration 2"):
            update("w", grad, w)
        np.testing.assert_array_equal(w, before)
        after = update.state()
        assert after.meta == state.meta
        assert all(np.array_equal(after.arrays[name], array) for name, array in state.arrays.items())


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("weight", [np.ones(3), np.ones((2, 1)), np.ones(2, "f4")])
def test_another_shape_or_dtype_for_a_key_is_refused(weight: np.ndarray) -> None:
    update, w = get_updater(tw.Adam()), np.ones(2)
    update("w", np.ones(2), w)
    with pytest.raises(ParameterError, match=r"key 'w': the weight is .*belongs to \(2,\) float64; use another key"):
        update("w", np.ones_like(weight), weight)
    update("w", np.ones(2), w)


@pytest.mark.parametrize("weight", [[1.0], np.ones(1, int), np.broadcast_to(np.ones(1), (3,)), 1.0, None])
def test_a_weight_that_cannot_be_updated_is_refused(weight: Any) -> None:
    with pytest.raises(ParameterError):
        get_updater(tw.SGD())("w", np.ones(np.shape(weight)), weight)


def test_keys_that_cannot_be_told_apart_are_refused() -> None:
    update = get_updater(tw.SGD())
    update(1, np.ones(1), np.ones(1))
    update(np.int64(1), np.ones(1), np.ones(1))  # the same key
    with pytest.raises(OptimizerError, match="1 and '1' have the same name"):
        update("1", np.ones(1), np.ones(1))
    with pytest.raises(OptimizerError, match="cannot be hashed"):
        update(["w"], np.ones(1), np.ones(1))  # type: ignore[arg-type]
    with pytest.raises(OptimizerError, match="empty string"):
        update("", np.ones(1), np.ones(1))
    update(("layer", 1), np.ones(1), np.ones(1))
    assert update.names == ("1", "('layer', 1)")


@pytest.mark.parametrize("optimizer", [tw.Adam, 1.0, None, tw.Adam(tw.Variable(np.ones(1)))])
def test_what_is_no_unbound_optimizer_is_refused(optimizer: Any) -> None:
    with pytest.raises(OptimizerError):
        get_updater(optimizer)


def test_what_needs_all_gradients_at_once_is_refused() -> None:
    with pytest.raises(HyperparameterError, match="all variables at once"):
        get_updater(tw.Adam(process_grad=[transforms.clip_value(1.0), transforms.clip_global_norm(1.0)]))


# ------------------------------------------------------------------ state in and out


def run(update: Updater, found: dict[Any, np.ndarray], begin: int, end: int) -> None:
    """Updates number begin to end, of all keys in turn: an end may lie in the middle of an iteration."""
    for number in range(begin, end):
        key = list(found)[number % len(found)]
        rng = np.random.default_rng([3, number])
        update(key, rng.normal(size=found[key].shape), found[key])


@pytest.mark.parametrize("kind", ["momentum", "adam", "nadam", "schedule_free_adamw", "rprop"])
@pytest.mark.parametrize("cut", [0, 1, 9, 10, 11])
def test_a_resumed_run_is_the_same_to_the_last_bit(kind: str, cut: int, tmp_path: Path) -> None:
    def make() -> Updater:
        takes = "learning_rate" not in registry[kind].rule.initial
        rate = Exp(0.1, gamma=0.5, decay_on_iteration=True) if takes else 0.1
        wrapper = {} if registry[kind].rule.derived else {"wrap": ["lookahead"], "sync_period": 2}
        return get_updater(registry[kind](learning_rate=rate, **wrapper))

    whole, through = make(), weights(4)
    run(whole, through, 0, 20)
    first, found = make(), weights(4)
    run(first, found, 0, cut)
    first.dump(tmp_path)
    second = make()
    second.load(tmp_path)
    assert second.names == first.names
    run(second, found, cut, 20)
    for key, weight in found.items():
        assert weight.tobytes() == through[key].tobytes()
    assert second.optimization_state == whole.optimization_state
    one, other = second.state(), whole.state()
    assert one.meta == other.meta
    assert all(one.arrays[name].tobytes() == array.tobytes() for name, array in other.arrays.items())


def test_the_hyperparameters_that_were_saved_hold() -> None:
    update = get_updater(tw.Adam(learning_rate=0.5))
    update("w", np.ones(1), np.zeros(1))
    adam = tw.Adam(learning_rate=9.0)
    again = get_updater(adam)
    again.restore(update.state())
    assert adam.learning_rate == 0.5
    w = np.zeros(1)
    again("w", np.ones(1), w)
    assert w[0] == pytest.approx(-0.5)


def test_state_that_does_not_fit_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    update, w = get_updater(tw.Adam()), np.ones(2)
    update("w", np.ones(2), w)
    before = update.state()
    other = get_updater(tw.Momentum())
    other("w", np.ones(2), np.ones(2))
    damaged = update.state()
    damaged.arrays.pop("slots/mean/w")
    more = update.state()
    more.arrays["slots/mean/x"] = np.ones(2)
    shape = update.state()
    shape.arrays["slots/mean/w"] = np.ones(3)
    nonsense = update.state()
    nonsense.meta["keys"]["w"] = {"state": 3}
    for snapshot in (other.state(), damaged, more, shape, nonsense, tw.Adam().state()):
        with pytest.raises(StateMismatchError, match="nothing was changed"):
            update.restore(snapshot)
        assert update.state().meta == before.meta
    with pytest.raises(CheckpointError):
        update.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError):
        update.dump(tmp_path / "kept", keep=0)
    assert not (tmp_path / "kept").exists()


def test_a_key_of_another_shape_after_loading_is_refused() -> None:
    update = get_updater(tw.Adam())
    update("w", np.ones(2), np.ones(2))
    again = get_updater(tw.Adam())
    again.restore(update.state())
    with pytest.raises(ParameterError, match="key 'w'"):
        again("w", np.ones(3), np.ones(3))
    again("w", np.ones(2), np.ones(2))


# ------------------------------------------------------------------ the normalized gradient


def options(**given: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"grad_scale": None, "grad_clip": 0, "weight_decay": 0.0, **given})


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("clip", [0, 0.25])
@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize(("scale", "batch"), [(None, 1), (None, 8), (0.5, 8), (0.0, 8), (-1.0, 1)])
def test_rescale_then_clip_then_decay(dtype: str, clip: float, decay: float, scale: float | None, batch: int) -> None:
    print("seed 5")
    rng = np.random.default_rng(5)
    weight, grad = rng.normal(size=(2, 7)).astype(dtype)
    before = digest(grad), digest(weight)
    opts = options(grad_scale=scale, grad_clip=clip, weight_decay=decay)
    found = normalized_gradient(opts, OptimizationState(batch_size=batch), weight, grad)
    expected = grad * (1 / batch if scale is None else scale)
    expected = np.clip(expected, -clip, clip) if clip > 0 else expected
    np.testing.assert_allclose(found, expected + decay * weight, rtol=1e-6 if dtype == "f4" else 1e-15)
    assert found.dtype == dtype
    assert found is not grad
    assert not np.shares_memory(found, grad)
    assert (digest(grad), digest(weight)) == before


def test_what_is_not_finite_stays_so() -> None:
    grad = np.array([np.nan, np.inf, -np.inf, 3.0])
    found = normalized_gradient(options(grad_clip=1.0), OptimizationState(), np.ones(4), grad)
    np.testing.assert_array_equal(found, [np.nan, np.inf, -np.inf, 1.0])


@pytest.mark.parametrize(
    ("opts", "weight", "grad", "error"),
    [
        (options(grad_clip=-1.0), np.ones(2), np.ones(2), HyperparameterError),
        (options(weight_decay=np.nan), np.ones(2), np.ones(2), HyperparameterError),
        (options(grad_scale="half"), np.ones(2), np.ones(2), HyperparameterError),
        (SimpleNamespace(grad_clip=0), np.ones(2), np.ones(2), HyperparameterError),
        (options(), np.ones(2), np.ones(1), GradientShapeError),
        (options(), np.ones(2), np.ones((2, 2)), GradientShapeError),
        (options(), np.ones(2), np.ones(2, "f4"), GradientDtypeError),
        (options(), np.ones(2), [1.0, 1.0], GradientDtypeError),
        (options(), np.ones(2, int), np.ones(2, int), GradientDtypeError),
    ],
)
def test_bad_options_and_gradients_are_refused(opts: Any, weight: Any, grad: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        normalized_gradient(opts, OptimizationState(), weight, grad)


def test_an_updater_s_state_and_an_optimizer_s_are_refused_by_each_other_with_what_they_are(tmp_path: Path) -> None:
    update, x = get_updater(tw.Adam()), tw.Variable(np.ones(2), name="x", needs_grad=True)
    update("x", np.ones(2), np.ones(2))
    optimizer = tw.Adam(x)
    tw.wait(optimizer.step(grad=np.ones(2)))
    update.dump(tmp_path / "updater")
    optimizer.dump(tmp_path / "optimizer")
    data, mean = x.data.copy(), optimizer.state().arrays["slots/mean/x"]
    for use in (lambda: optimizer.restore(update.state()), lambda: optimizer.load(tmp_path / "updater")):
        with pytest.raises(StateMismatchError, match=r"it is of a get_updater, .*load it with one"):
            use()
    for use in (lambda: update.restore(optimizer.state()), lambda: update.load(tmp_path / "optimizer")):
        with pytest.raises(StateMismatchError, match="it is no updater's, which has a state and counts for each key"):
            use()
    np.testing.assert_array_equal(x.data, data)
    np.testing.assert_array_equal(optimizer.state().arrays["slots/mean/x"], mean)
    assert update.names == ("x",)


@pytest.mark.parametrize(
    "made",
    [
        lambda **o: tw.SGD(learning_rate=0.5, wrap=["ema"], ema_decay=0.75, **o),
        lambda **o: tw.ScheduleFreeAdamW(learning_rate=0.1, **o),
        lambda **o: tw.Adam(**o),
    ],
    ids=["ema", "schedule-free", "adam"],
)
def test_evaluates_where_an_optimizer_of_the_weights_does(made: Any) -> None:
    weights: dict[Any, np.ndarray] = {7: np.array([1.0, -2.0]), "b": np.array([[0.5]])}
    variables = [tw.Variable(weight.copy(), name=str(key)) for key, weight in weights.items()]
    update, beside = get_updater(made()), made(variables=variables)
    rng = np.random.default_rng(0)
    np.testing.assert_equal(update.eval_params(weights), weights)
    assert not update.names  # asking makes no state
    for _ in range(4):
        grads = {key: rng.normal(size=weight.shape) for key, weight in weights.items()}
        for key, weight in weights.items():
            update(key, grads[key], weight)
        tw.wait(beside.step(grad={str(key): grad for key, grad in grads.items()}))
    before = {key: weight.copy() for key, weight in weights.items()}
    found = update.eval_params(weights)
    np.testing.assert_equal({str(key): array for key, array in found.items()}, beside.eval_params())
    np.testing.assert_equal(weights, before)
    assert not any(np.shares_memory(found[key], weights[key]) for key in weights)
    again = get_updater(made())
    again.restore(update.state())
    np.testing.assert_equal(again.eval_params(weights), found)
    with pytest.raises(ParameterError, match="the state of this key belongs to"):
        update.eval_params({7: np.zeros(3)})
