"""Accumulation: the rule runs once for k gradients, on their mean, and a call that fails changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg import optimizers, transforms
from thalweg.errors import (
    GradientShapeError,
    HyperparameterError,
    MissingGradientError,
    NonFiniteGradientError,
    OptimizerError,
    StateMismatchError,
)
from thalweg.graph import Variable, wait
from thalweg.optimizers import SGD, LocalOptimizer, OptimizerSnapshot
from thalweg.schedules import Exp

Grads = dict[str, np.ndarray]


def made(kind: str = "adam", dtype: Any = np.float64, **options: Any) -> LocalOptimizer:
    """An optimizer over a matrix and a number, which is 0-d and in a group."""
    variables = [
        Variable(np.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3), name="w"),
        Variable(np.array(0.5, dtype), name="b"),
    ]
    return optimizers.registry[kind](variables, groups=[{"variables": "b", "learning_rate": 0.25}], **options)


def gradients(number: int, dtype: Any = np.float64) -> list[Grads]:
    rng = np.random.default_rng(3)
    return [{"w": rng.normal(size=(2, 3)).astype(dtype), "b": np.array(rng.normal(), dtype)} for _ in range(number)]


def mean(several: list[Grads]) -> Grads:
    """Summed in the order in which they came, then divided."""
    total = {name: array.copy() for name, array in several[0].items()}
    for grads in several[1:]:
        for name in total:
            total[name] += grads[name]
    return {name: np.asarray(array / array.dtype.type(len(several))) for name, array in total.items()}


def content(optimizer: LocalOptimizer) -> Any:
    """Everything that a step may change, as bytes."""
    state = optimizer.state()
    arrays = {name: array.tobytes() for name, array in state.arrays.items()}
    return state.meta, arrays, [(v.data.tobytes(), v.version) for v in optimizer.variables]


def data(optimizer: LocalOptimizer) -> list[bytes]:
    return [variable.data.tobytes() for variable in optimizer.variables]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("kind", optimizers.registry)
def test_k_gradients_are_one_step_with_their_mean(kind: str, k: int, dtype: Any) -> None:
    several, one = made(kind, dtype, accumulate=k), made(kind, dtype)
    given = gradients(3 * k, dtype)
    for number, grads in enumerate(given):
        before, state = data(several), several.state()
        kept = {name: array.tobytes() for name, array in grads.items()}
        wait(several.step(grad=grads))
        assert kept == {name: array.tobytes() for name, array in grads.items()}
        if (number + 1) % k:
            assert data(several) == before
            after = several.state()
            assert after.meta["micro"] == (number + 1) % k
            assert after.meta | {"micro": 0} == state.meta | {"micro": 0}
            slots = [name for name in after.arrays if name.startswith("slots/")]
            assert all(after.arrays[name].tobytes() == state.arrays[name].tobytes() for name in slots)
        else:
            wait(one.step(grad=mean(given[number + 1 - k : number + 1])))
            assert data(several) == data(one)
            assert several.iterations == one.iterations == (number + 1) // k
            for name, array in one.state().arrays.items():
                assert several.state().arrays[name].tobytes() == array.tobytes()


def test_the_variables_own_gradients_are_taken_and_left() -> None:
    x = Variable(np.zeros(2), name="x")
    optimizer = SGD(x, learning_rate=1.0, accumulate=2)
    for grad in ([1.0, 0.0], [0.0, 3.0]):
        x.grad = np.array(grad)
        assert wait(optimizer.step()) is x
        np.testing.assert_array_equal(x.grad, grad)
    np.testing.assert_array_equal(x.data, [-0.5, -1.5])


@pytest.mark.parametrize("name", ["SGD", "Rprop"])
def test_a_step_size_is_for_the_call_that_makes_the_step(name: str) -> None:
    """A call that gathers would lose it."""
    x = Variable(np.zeros(1), name="x")
    optimizer = getattr(optimizers, name)(x, accumulate=3)
    for k in (1, 2):
        for size in (5.0, -1.0):
            with pytest.raises(
                HyperparameterError, match=rf"step_size={size} is for the call .* \(micro-batch {k} of 3\)"
            ):
                wait(optimizer.step(step_size=size, grad=np.ones(1)))
        wait(optimizer.step(grad=np.ones(1)))
    wait(optimizer.step(step_size=5.0, grad=np.ones(1)))
    assert x.data.tolist() == [-5.0]


@pytest.mark.parametrize("layout", ["fortran", "swapped", "reversed"])
def test_gradients_of_any_layout(layout: str) -> None:
    change = {
        "fortran": np.asfortranarray,
        "swapped": lambda a: a.astype(">f8"),
        "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    }[layout]
    x, y = (Variable(np.zeros((2, 3)), name="x") for _ in range(2))
    one, other = SGD(x, accumulate=3), SGD(y, accumulate=3)
    for grads in gradients(6):
        wait(one.step(grad=grads["w"]))
        wait(other.step(grad=change(grads["w"])))
    assert x.data.tobytes() == y.data.tobytes()


def test_hooks_and_schedules_see_the_mean_once() -> None:
    seen: list[np.ndarray] = []

    def look(grad: np.ndarray) -> np.ndarray:
        seen.append(grad)
        return grad

    x = Variable(np.zeros(2), name="x")
    optimizer = SGD(
        x,
        learning_rate=Exp(1.0, gamma=0.5, decay_on_iteration=True),
        accumulate=2,
        process_grad=[look, transforms.clip_norm(1.0)],
    )
    for grad in ([30.0, 0.0], [-30.0, 8.0], [1.0, 1.0], [0.0, 0.0]):
        wait(optimizer.step(grad=np.array(grad)))
    assert [grad.tolist() for grad in seen] == [[0.0, 4.0], [0.5, 0.5]]  # clipped one by one, the first were not 0
    np.testing.assert_array_equal(x.data, [-0.25, -1.25])
    assert optimizer.iterations == 2


def test_the_global_norm_is_that_of_the_means() -> None:
    one = made("sgd", accumulate=2, process_grad=transforms.clip_global_norm(0.5))
    other = made("sgd", process_grad=transforms.clip_global_norm(0.5))
    given = gradients(2)
    for grads in given:
        wait(one.step(grad=grads))
    wait(other.step(grad=mean(given)))
    assert data(one) == data(other)


def test_a_step_size_is_that_of_the_call_that_makes_the_step() -> None:
    x = Variable(np.zeros(1), name="x")
    optimizer = SGD(x, learning_rate=1.0, accumulate=2)
    wait(optimizer.step(grad=np.ones(1)))
    wait(optimizer.step(step_size=4.0, grad=np.ones(1)))
    np.testing.assert_array_equal(x.data, [-4.0])


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_gradient_is_caught_in_the_call_that_brings_it(call: int, bad: float) -> None:
    """Also where no step is made: a sum would remember the NaN, but not whose it was."""
    optimizer, other = made(accumulate=3), made(accumulate=3)
    given = gradients(3)
    spoiled = {**given[0], "w": given[0]["w"].copy()}
    spoiled["w"][1, 2] = bad
    for number, grads in enumerate(given, start=1):
        if number == call:
            before = content(optimizer)
            with pytest.raises(NonFiniteGradientError, match=r"'w', iteration 1: .* the first at \(1, 2\)"):
                wait(optimizer.step(grad=spoiled))
            assert content(optimizer) == before
        wait(optimizer.step(grad=grads))
        wait(other.step(grad=grads))
    assert content(optimizer) == content(other)
    assert optimizer.iterations == 1


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_bad_gradient_that_is_skipped_is_no_part_of_the_mean(call: int) -> None:
    optimizer, other = made(accumulate=3, nonfinite="skip"), made(accumulate=3)
    given = gradients(3)
    for number, grads in enumerate(given, start=1):
        if number == call:
            before = data(optimizer)
            wait(optimizer.step(grad={**grads, "b": np.array(np.nan)}))
            assert data(optimizer) == before
            assert (optimizer.skipped, optimizer.iterations) == (1, 0)
        wait(optimizer.step(grad=grads))
        wait(other.step(grad=grads))
    assert data(optimizer) == data(other)
    assert (optimizer.skipped, optimizer.iterations) == (1, 1)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_elements_that_are_not_finite_are_zero_in_the_mean(call: int) -> None:
    optimizer, other = made(accumulate=3, nonfinite="zero"), made(accumulate=3)
    for number, grads in enumerate(gradients(3), start=1):
        spoiled = {name: array.copy() for name, array in grads.items()}
        repaired = {name: array.copy() for name, array in grads.items()}
        if number == call:
            spoiled["w"][0] = [np.nan, np.inf, 1.0]
            repaired["w"][0] = [0.0, 0.0, 1.0]
        wait(optimizer.step(grad=spoiled))
        wait(other.step(grad=repaired))
    assert data(optimizer) == data(other)
    assert (optimizer.zeroed, optimizer.skipped, optimizer.iterations) == (2, 0, 1)


def test_ignored_means_ignored() -> None:
    optimizer = made("sgd", accumulate=2, nonfinite="ignore")
    for grads in gradients(2):
        wait(optimizer.step(grad={**grads, "b": np.array(np.nan)}))
    assert optimizer.iterations == 1
    assert np.isnan(optimizer.variables[1].data)


LARGEST = np.finfo(np.float64).max


@pytest.mark.parametrize("policy", ["raise", "skip", "zero"])
def test_finite_gradients_whose_sum_is_not(policy: str) -> None:
    x = Variable(np.zeros(2), name="x")
    optimizer = SGD(x, learning_rate=1.0, accumulate=2, nonfinite=policy)
    huge = np.array([LARGEST, 2.0])
    wait(optimizer.step(grad=huge))
    if policy == "raise":
        before = content(optimizer)
        for _ in range(2):
            with pytest.raises(NonFiniteGradientError, match=r"at \(0,\): inf"):
                wait(optimizer.step(grad=huge))
            assert content(optimizer) == before
        wait(optimizer.step(grad=np.array([-LARGEST, 4.0])))
        np.testing.assert_array_equal(x.data, [0.0, -3.0])
        return
    wait(optimizer.step(grad=huge))
    np.testing.assert_array_equal(x.data, [0.0, 0.0 if policy == "skip" else -2.0])
    assert (optimizer.skipped, optimizer.zeroed) == ((1, 0) if policy == "skip" else (0, 1))
    for value in (1.0, 3.0):  # a fresh window
        wait(optimizer.step(grad=np.array([value, value])))
    np.testing.assert_array_equal(x.data, [-2.0, -2.0 if policy == "skip" else -4.0])


class Failing:
    """A hook that fails as long as it is told to."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    async def __call__(self, array: np.ndarray) -> np.ndarray:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return array


@pytest.mark.parametrize("where", ["process_grad", "process_model", "schedule", "step_size", "data"])
def test_a_call_that_fails_can_be_made_again(where: str) -> None:
    hook = Failing()
    hooks = {where: hook} if where.startswith("process") else {}
    optimizer, other = made("momentum", accumulate=3, **hooks), made("momentum", accumulate=3, **hooks)
    given = gradients(6)
    for grads in given[:2]:
        wait(optimizer.step(grad=grads))
        wait(other.step(grad=grads))
    before = content(optimizer)
    arguments: dict[str, Any] = {"step_size": -1.0} if where == "step_size" else {}
    if where == "schedule":
        optimizer.learning_rate = lambda state: -1.0 if state.curr_iter else 0.01
    elif where == "data":
        optimizer.variables[0].data.setflags(write=False)
    else:
        hook.error = ZeroDivisionError() if where.startswith("process") else None
    for _ in range(2):
        with pytest.raises((ZeroDivisionError, OptimizerError)):
            wait(optimizer.step(grad=given[2], **arguments))
    hook.error = None
    optimizer.learning_rate = 0.01
    optimizer.variables[0].data.setflags(write=True)
    assert content(optimizer)[:2] == before[:2]
    for grads in given[2:]:
        wait(optimizer.step(grad=grads))
        wait(other.step(grad=grads))
    assert data(optimizer) == data(other)
    assert optimizer.iterations == 2


def test_a_cancelled_call_can_be_made_again() -> None:
    async def slow(array: np.ndarray) -> np.ndarray:
        await asyncio.sleep(60)
        return array

    async def go() -> None:
        optimizer = made("momentum", accumulate=2, process_grad=slow)
        first, second = gradients(2)
        await optimizer.step(grad=first)
        before = content(optimizer)
        task = asyncio.ensure_future(optimizer.step(grad=second))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert content(optimizer) == before
        optimizer.process_grad = None
        await optimizer.step(grad=second)
        other = made("momentum")
        await other.step(grad=mean([first, second]))
        assert data(optimizer) == data(other)

    wait(go())


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.01])
def test_a_large_call_that_is_cancelled_is_made_or_not(delay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in a thread, which cannot be interrupted."""
    for module in ("local", "processing"):
        monkeypatch.setattr(f"thalweg.optimizers.{module}.AWAY", 1 << 20)  # large enough for a thread
    size = 1 << 22

    async def go() -> None:
        optimizer = SGD(Variable(np.zeros(size, np.float32), name="x"), learning_rate=1.0, accumulate=2)
        grad = np.ones(size, np.float32)
        await optimizer.step(grad=grad)
        await optimizer.step(grad=grad)
        for _ in range(2):
            task = asyncio.ensure_future(optimizer.step(grad=grad))
            await asyncio.sleep(delay)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            state = optimizer.state()
            assert optimizer.variable.data.tobytes() == np.full(size, -1.0 * optimizer.iterations, np.float32).tobytes()
            if state.meta["micro"]:
                assert state.arrays["accumulated/x"].tobytes() == grad.tobytes()

    wait(go())


@pytest.mark.parametrize("way", ["memory", "disk"])
@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_window_goes_on_from_a_snapshot_to_the_same_bits(stop: int, way: str, tmp_path: Path) -> None:
    given = gradients(6, np.float32)
    straight = made(dtype=np.float32, accumulate=3)
    for grads in given:
        wait(straight.step(grad=grads))
    first, second = (made(dtype=np.float32, accumulate=3) for _ in range(2))
    for grads in given[:stop]:
        wait(first.step(grad=grads))
    wait(second.step(grad=given[5]))  # something else in its window
    if way == "disk":
        first.dump(tmp_path)
        second.load(tmp_path)
    else:
        snapshot = first.state()
        wait(first.step(grad=given[0]))  # the snapshot is a copy
        second.restore(snapshot)
        for mine, yours in zip(second.variables, made(dtype=np.float32).variables, strict=True):
            mine.data[...] = yours.data
        if stop >= 3:
            return  # the variables are not part of it
    for grads in given[stop:]:
        wait(second.step(grad=grads))
    assert data(second) == data(straight)
    assert second.iterations == straight.iterations == 2


def test_a_window_of_another_length_is_refused_and_so_is_one_that_is_damaged() -> None:
    optimizer = made(accumulate=3)
    wait(optimizer.step(grad=gradients(1)[0]))
    snapshot = optimizer.state()
    for target, words in (
        (made(), "accumulate was 3, here it is 1"),
        (made(accumulate=2), "accumulate was 3, here it is 2"),
    ):
        with pytest.raises(StateMismatchError, match=words):
            target.restore(snapshot)
    for change, words in (
        ({"micro": 3}, "micro is 3"),
        ({"micro": -1}, "micro is -1"),
        ({"micro": 0}, "unexpected: accumulated/w"),
    ):
        before = content(optimizer)
        with pytest.raises(StateMismatchError, match=words):
            optimizer.restore(OptimizerSnapshot(snapshot.arrays, snapshot.meta | change))
        assert content(optimizer) == before
    missing = {name: array for name, array in snapshot.arrays.items() if name != "accumulated/b"}
    with pytest.raises(StateMismatchError, match="missing: accumulated/b"):
        optimizer.restore(OptimizerSnapshot(missing, snapshot.meta))


def test_reset_begins_a_new_window() -> None:
    optimizer, other = made(accumulate=2), made(accumulate=2)
    first, second, third = gradients(3)
    wait(optimizer.step(grad=first))
    optimizer.reset()
    for grads in (second, third):
        wait(optimizer.step(grad=grads))
        wait(other.step(grad=grads))
    assert data(optimizer) == data(other)


def test_a_processed_gradient_is_refused() -> None:
    optimizer = made(accumulate=2)
    before = content(optimizer)
    with pytest.raises(OptimizerError, match="processed_grad is given, and accumulate=2"):
        wait(optimizer.step(processed_grad=gradients(1)[0]))
    assert content(optimizer) == before


@pytest.mark.parametrize("accumulate", [0, -1, 1.5, True, "2", None])
def test_what_is_no_count_is_refused(accumulate: Any) -> None:
    with pytest.raises(HyperparameterError, match=r"accumulate is .*at least 1"):
        SGD(accumulate=accumulate)


def test_a_gradient_that_does_not_fit_is_refused_in_any_call() -> None:
    optimizer = made(accumulate=3)
    (grads,) = gradients(1)
    for _ in range(2):
        before = content(optimizer)
        with pytest.raises(MissingGradientError, match="'b'"):
            wait(optimizer.step(grad={"w": grads["w"]}))
        with pytest.raises(GradientShapeError, match="'b'"):
            wait(optimizer.step(grad={**grads, "b": np.ones(1)}))
        assert content(optimizer) == before
        wait(optimizer.step(grad=grads))
