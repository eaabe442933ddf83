"""The short way of a step, taken when everything is as it was at the last one: the same bits, and never by mistake."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import random
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from thalweg import optimizers, transforms
from thalweg.errors import (
    GradientDtypeError,
    GradientShapeError,
    HyperparameterError,
    MissingGradientError,
    NonFiniteGradientError,
    OptimizerError,
    ParameterError,
)
from thalweg.graph import Variable, wait
from thalweg.graph.executor import use_executor
from thalweg.optimizers import SGD, Adam, LocalOptimizer, Momentum
from thalweg.schedules import Exp

every_kind = pytest.mark.parametrize("kind", optimizers.registry)


@pytest.fixture
def long_ways(monkeypatch: pytest.MonkeyPatch) -> list[LocalOptimizer]:
    """The optimizers that went the long way, one entry a step."""
    taken: list[LocalOptimizer] = []
    step = LocalOptimizer._step

    async def counted(self: LocalOptimizer, *arguments: Any) -> Any:
        taken.append(self)
        return await step(self, *arguments)

    monkeypatch.setattr(LocalOptimizer, "_step", counted)
    return taken


def variables(dtype: Any = np.float32, cls: type[Variable] = Variable) -> list[Variable]:
    """Two variables with gradients."""
    made = []
    for name, shape in (("a", (5, 7)), ("b", (3,))):
        rng = np.random.default_rng(len(shape))
        made.append(cls(rng.normal(size=shape).astype(dtype), name=name, needs_grad=True))
        made[-1].grad = rng.normal(size=shape).astype(dtype)
    return made


def pair(kind: str = "adam", dtype: Any = np.float32, **options: Any) -> tuple[LocalOptimizer, LocalOptimizer]:
    """Two equal optimizers over equal variables: one for the short way, one that is always sent the long one."""
    one, other = (optimizers.registry[kind](variables(dtype), **options) for _ in range(2))
    return one, other


def long_step(optimizer: LocalOptimizer) -> None:
    """A step with the variables' own gradients that cannot be the short one."""
    optimizer._changed()
    wait(optimizer.step())


def same(one: LocalOptimizer, other: LocalOptimizer) -> None:
    """Both have the same data, state and counters, to the last bit."""
    for mine, yours in zip(one.variables, other.variables, strict=True):
        assert mine.data.tobytes() == yours.data.tobytes(), mine.name
    first, second = one.state(), other.state()
    assert first.meta == second.meta
    for name, array in first.arrays.items():
        assert array.tobytes() == second.arrays[name].tobytes(), name


def untouched(optimizer: LocalOptimizer, error: type[Exception], words: str) -> Exception:
    """The error of a step that must change nothing."""
    before = optimizer.state()
    data = [variable.data.tobytes() for variable in optimizer.variables]
    versions = [variable.version for variable in optimizer.variables]
    with pytest.raises(error, match=words) as caught:
        wait(optimizer.step())
    after = optimizer.state()
    assert after.meta == before.meta
    assert {n: a.tobytes() for n, a in after.arrays.items()} == {n: a.tobytes() for n, a in before.arrays.items()}
    assert [variable.data.tobytes() for variable in optimizer.variables] == data
    assert [variable.version for variable in optimizer.variables] == versions
    return caught.value


@every_kind
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_short_way_gives_the_bits_of_the_long_one(kind: str, dtype: Any, long_ways: list[LocalOptimizer]) -> None:
    short, long = pair(kind, dtype)
    rng = np.random.default_rng(8)
    for t in range(6):
        for mine, yours in zip(short.variables, long.variables, strict=True):
            mine.grad[...] = rng.normal(size=mine.grad.shape) if t < 4 else 0  # in place: it must be seen
            yours.grad = mine.grad.copy()
        kept = [hashlib.sha256(variable.grad).digest() for variable in short.variables]
        versions = [variable.version for variable in short.variables]
        assert wait(short.step()) == short.variables
        long_step(long)
        same(short, long)
        assert kept == [hashlib.sha256(variable.grad).digest() for variable in short.variables]
        assert all(v.version > old for v, old in zip(short.variables, versions, strict=True))
    assert long_ways.count(short) == 1


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sgd", {"process_model": transforms.bounds(-0.5, 0.5)}),
        ("sgd", {"process_model": {"b": transforms.bounds(0, None)}}),
        ("momentum", {"groups": [{"variables": "b", "learning_rate": 1.0, "momentum": 0.5}]}),
        ("sgd", {"wrap": ["ema"], "weight_decay": 0.1}),
        ("momentum", {"wrap": ["lookahead"], "sync_period": 2}),
        ("adam", {"nonfinite": "ignore"}),
        ("adam", {"nonfinite": "skip"}),
        ("adam", {"nonfinite": "zero"}),
    ],
    ids=str,
)
def test_so_it_does_with_bounds_groups_wrappers_and_policies(
    kind: str, options: dict[str, Any], long_ways: list[LocalOptimizer]
) -> None:
    short, long = pair(kind, **options)
    for _ in range(5):
        wait(short.step())
        long_step(long)
        same(short, long)
    assert long_ways.count(short) == 1


# -- whatever is done in between: the bits are those of an optimizer that never takes the short way --


def _replace_data(optimizer: LocalOptimizer) -> None:
    variable = optimizer.variables[0]
    variable.data = np.full((5, 7), 3.0, variable.data.dtype)


def _replace_grad(optimizer: LocalOptimizer) -> None:
    variable = optimizer.variables[1]
    variable.grad = np.full(3, 3.0, variable.data.dtype)


def _mutate_grad(optimizer: LocalOptimizer) -> None:
    optimizer.variables[0].grad *= -2


def _mutate_data(optimizer: LocalOptimizer) -> None:
    optimizer.variables[0].data += 1


def _same_address(optimizer: LocalOptimizer) -> None:
    """The old gradient is freed, and another lies where it lay (if the allocator wants it so)."""
    variable = optimizer.variables[0]
    shape, gone = variable.grad.shape, weakref.ref(variable.grad)
    address = variable.grad.ctypes.data
    variable.grad = None
    gc.collect()
    assert gone() is None, "the optimizer keeps a gradient alive that its variable has let go of"
    for _ in range(100):
        found = np.full(shape, -1.0, np.float32)
        if found.ctypes.data == address:
            break
    variable.grad = found


def _other_layout(optimizer: LocalOptimizer) -> None:
    optimizer.variables[0].grad = np.asfortranarray(optimizer.variables[0].grad[::-1])


def _shared_grad(optimizer: LocalOptimizer) -> None:
    a, b = optimizer.variables
    b.grad = a.grad.reshape(-1)[:3]


def _overlapping_grad(optimizer: LocalOptimizer) -> None:
    a, b = optimizer.variables
    b.grad = a.data.reshape(-1)[5:8]


def _own_data_as_grad(optimizer: LocalOptimizer) -> None:
    optimizer.variables[0].grad = optimizer.variables[0].data


def _restore(optimizer: LocalOptimizer) -> None:
    snapshot = optimizer.state()
    wait(optimizer.step())
    optimizer.restore(snapshot)


def _setting(name: str, value: Any) -> Callable[[LocalOptimizer], None]:
    return lambda optimizer: setattr(optimizer, name, value)


DISTURBED: dict[str, Callable[[LocalOptimizer], Any]] = {
    "nothing": lambda optimizer: None,
    "data replaced": _replace_data,
    "data changed in place": _mutate_data,
    "gradient replaced": _replace_grad,
    "gradient changed in place": _mutate_grad,
    "gradient freed, another at its address": _same_address,
    "gradient of another layout": _other_layout,
    "gradient shared by two variables": _shared_grad,
    "gradient in another variable's data": _overlapping_grad,
    "gradient that is the data": _own_data_as_grad,
    "hyperparameter": _setting("learning_rate", 0.5),
    "schedule": _setting("learning_rate", Exp(0.5, gamma=0.5, decay_on_iteration=True)),
    "group's hyperparameter": lambda optimizer: setattr(optimizer.groups[0], "learning_rate", 0.25),
    "group's new hyperparameter": lambda optimizer: setattr(optimizer.groups[0], "beta1", 0.25),
    "group's schedule": lambda optimizer: setattr(
        optimizer.groups[0], "learning_rate", Exp(0.5, gamma=0.5, decay_on_iteration=True)
    ),
    "process_grad": _setting("process_grad", transforms.clip_norm(0.1)),
    "process_model": _setting("process_model", transforms.nonnegative()),
    "bounds": _setting("process_model", transforms.bounds(0, 0.1)),
    "reset": lambda optimizer: optimizer.reset(),
    "reset but counters": lambda optimizer: optimizer.reset(counters=False),
    "restore": _restore,
    "bind": lambda optimizer: optimizer.bind(optimizer.variables),
    "bind to one": lambda optimizer: optimizer.bind([optimizer.variables[1]]),
    "step size": lambda optimizer: wait(optimizer.step(step_size=3.0)),
    "gradient given": lambda optimizer: wait(optimizer.step(grad={v.name: 2 * v.grad for v in optimizer.variables})),
    "epoch": lambda optimizer: optimizer.optimization_state.begin_epoch(),
    "counts": lambda optimizer: setattr(optimizer.optimization_state, "curr_iter", 70),
}


@pytest.mark.parametrize("what", DISTURBED)
def test_whatever_happens_between_steps_is_seen(what: str) -> None:
    short, long = pair(groups=[{"variables": "b", "learning_rate": 0.125}])
    for optimizer in (short, long):
        for _ in range(3):
            wait(optimizer.step()) if optimizer is short else long_step(optimizer)
        DISTURBED[what](optimizer)
    same(short, long)
    for _ in range(3):
        wait(short.step())
        long_step(long)
        same(short, long)


@pytest.mark.parametrize("seed", range(25))
def test_any_sequence_of_them_is_seen(seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    known = sorted(DISTURBED.keys() - {"bind to one", "gradient freed, another at its address"})
    kind, dtype = chance.choice(["adam", "lion", "nadam", "lamb"]), chance.choice([np.float32, np.float64])
    short, long = pair(kind, dtype, groups=[{"variables": "b", "learning_rate": 0.125}])
    for what in chance.choices(known, k=20):
        for optimizer in (short, long):
            DISTURBED[what](optimizer)
        for _ in range(chance.randrange(4)):
            wait(short.step())
            long_step(long)
        same(short, long)


def test_data_that_was_replaced_is_what_is_updated() -> None:
    x = Variable(np.zeros(3), name="x")
    x.grad = np.ones(3)
    optimizer, first = SGD(x, learning_rate=1.0), x.data
    for _ in range(2):
        wait(optimizer.step())
    x.data = np.full(3, 10.0)
    for _ in range(2):
        wait(optimizer.step())
    np.testing.assert_array_equal(x.data, np.full(3, 8.0))
    np.testing.assert_array_equal(first, np.full(3, -2.0))
    x.data = first
    wait(optimizer.step())
    np.testing.assert_array_equal(x.data, np.full(3, -3.0))


def test_bounds_that_were_taken_away_bound_nothing() -> None:
    x = Variable(np.zeros(3), name="x")
    x.grad = np.ones(3)
    optimizer = SGD(x, learning_rate=1.0, process_model=transforms.bounds(-0.5, None))
    for hook, expected in ((..., -0.5), (transforms.bounds(-0.75, None), -0.75), (None, -1.75), (lambda m: m, -2.75)):
        if hook is not ...:
            optimizer.process_model = hook
        wait(optimizer.step())
        np.testing.assert_array_equal(x.data, np.full(3, expected))


class Later(transforms.Transform):
    """It gives back what it got, the very array, and from its third call on something else."""

    kind = "later"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, array: np.ndarray) -> np.ndarray:
        self.calls += 1
        return array if self.calls < 3 else 2 * array


class LaterDoubled(SGD):
    """The same in a subclass."""

    async def pre_process(self, grad: Any = None, processed_grad: Any = None) -> Any:
        found = await super().pre_process(grad, processed_grad)
        return found if self.iterations < 2 else 2 * found


@pytest.mark.parametrize("way", ["hook", "subclass"])
def test_what_gives_back_the_very_gradient_is_asked_again(way: str) -> None:
    x = Variable(np.zeros(3), name="x")
    x.grad = np.ones(3)
    optimizer = SGD(x, learning_rate=1.0, process_grad=Later()) if way == "hook" else LaterDoubled(x, learning_rate=1.0)
    for expected in (-1.0, -2.0, -4.0, -6.0):
        wait(optimizer.step())
        np.testing.assert_array_equal(x.data, np.full(3, expected))


def test_variables_of_two_dtypes(long_ways: list[LocalOptimizer]) -> None:
    def mixed() -> list[Variable]:
        several = [Variable(np.zeros(3, dtype), name=np.dtype(dtype).name) for dtype in (np.float32, np.float64)]
        for variable in several:
            variable.grad = np.full(3, 0.5, variable.data.dtype)
        return several

    short, long = Adam(mixed()), Adam(mixed())
    for _ in range(4):
        wait(short.step())
        long_step(long)
        same(short, long)
    assert all(variable.data.all() for variable in short.variables)


def test_a_load_in_between(tmp_path: Any) -> None:
    short, long = pair()
    for optimizer, step in ((short, lambda: wait(short.step())), (long, lambda: long_step(long))):
        for _ in range(3):
            step()
        optimizer.dump(tmp_path / str(id(optimizer)))
        for _ in range(3):
            step()
        optimizer.load(tmp_path / str(id(optimizer)))
        for _ in range(3):
            step()
    same(short, long)


def test_evaluating_in_between() -> None:
    short, long = pair("sgd", wrap=["ema"])
    for _ in range(3):
        wait(short.step())
        long_step(long)
        for optimizer in (short, long):
            with optimizer.evaluating(), pytest.raises(OptimizerError, match="leave the with block before the next"):
                wait(optimizer.step())
        same(short, long)


def test_two_optimizers_on_one_variable() -> None:
    (x, _), (y, _) = variables(), variables()
    shorts, longs = [Adam(x), Momentum(x)], [Adam(y), Momentum(y)]
    for _ in range(4):
        for short, long in zip(shorts, longs, strict=True):
            wait(short.step())
            long_step(long)
            same(short, long)


# -- what is wrong is found, and nothing changed --


def _none(x: Variable) -> None:
    x.grad = None


def _nan(x: Variable) -> None:
    x.grad[1, 2] = np.nan


def _infinite(x: Variable) -> None:
    x.grad[1, 2] = -np.inf


def _read_only(x: Variable) -> None:
    x.data.setflags(write=False)


def _shape(x: Variable) -> None:
    x.data = np.zeros((7, 5), np.float32)


def _dtype(x: Variable) -> None:
    x.data = np.zeros((5, 7))


def _none_at_all(x: Variable) -> None:
    x.data = None


def _grad_shape(x: Variable) -> None:
    x.grad = np.zeros((7, 5), np.float32)


def _grad_dtype(x: Variable) -> None:
    x.grad = np.zeros((5, 7))


def _masked(x: Variable) -> None:
    x.grad = np.ma.masked_array(x.grad, x.grad > 0)


FAULTS = {
    "no gradient": (_none, MissingGradientError, "'a', iteration 4: there is no gradient"),
    "NaN": (_nan, NonFiniteGradientError, r"'a', iteration 4: .* 1 non-finite .* the first at \(1, 2\): nan"),
    "infinity": (_infinite, NonFiniteGradientError, r"'a', iteration 4: .* the first at \(1, 2\): -inf"),
    "read-only data": (_read_only, ParameterError, "'a' holds a read-only array"),
    "data of another shape": (_shape, ParameterError, r"'a' is now \(7, 5\) float32"),
    "data of another dtype": (_dtype, ParameterError, r"'a' is now \(5, 7\) float64"),
    "no data": (_none_at_all, ParameterError, "'a' has no data"),
    "gradient of another shape": (_grad_shape, GradientShapeError, "never broadcast"),
    "gradient of another dtype": (_grad_dtype, GradientDtypeError, "float64"),
    "masked gradient": (_masked, GradientDtypeError, "MaskedArray"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_what_is_wrong_is_found_on_the_short_way_too(what: str) -> None:
    short, long = pair()
    for _ in range(3):
        wait(short.step())
        long_step(long)
    x = short.variables[0]
    kept, data = x.grad.copy(), x.data
    spoil, error, words = FAULTS[what]
    spoil(x)
    if x.data is data:
        untouched(short, error, words)
        untouched(short, error, words)  # and again
    else:
        with pytest.raises(error, match=words):
            wait(short.step())
    data.setflags(write=True)
    x.data, x.grad = data, kept
    for _ in range(3):
        wait(short.step())
        long_step(long)
        same(short, long)


@pytest.mark.parametrize("how", ["cleared", "deleted"])
def test_a_gradient_that_is_gone_is_missing_and_its_memory_is_free(how: str) -> None:
    x = Variable(np.zeros(1000, np.float32), name="x", needs_grad=True)
    x.grad = np.ones(1000, np.float32)
    optimizer = SGD(x)
    for _ in range(3):
        wait(optimizer.step())
    gone = weakref.ref(x.grad)
    if how == "cleared":
        optimizer.clear_grad()
    else:
        x.grad = None
    gc.collect()
    assert gone() is None
    with pytest.raises(MissingGradientError):
        wait(optimizer.step())
    assert optimizer.iterations == 3


@pytest.mark.parametrize("layout", ["plain", "fortran", "swapped"])
def test_no_gradient_is_kept_after_a_step(layout: str) -> None:
    kinds: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "plain": np.copy,
        "fortran": np.asfortranarray,
        "swapped": lambda a: a.astype(">f4"),
    }
    x = Variable(np.zeros((4, 5), np.float32), name="x")
    optimizer = Adam(x)
    for _ in range(2):
        grad = kinds[layout](np.ones((4, 5), np.float32))
        gone = weakref.ref(grad)
        wait(optimizer.step(grad=grad))
        del grad
        gc.collect()
        assert gone() is None
        assert not optimizer._seating._grads  # nor a copy


def test_a_hyperparameter_out_of_range_for_the_dtype_is_found_where_it_is_set_on_the_way() -> None:
    short, _ = pair()
    for _ in range(3):
        wait(short.step())
    short.beta2 = 1 - 1e-9
    error = untouched(short, HyperparameterError, "beta2")
    assert "float32" in str(error)
    short.beta2 = 0.999
    wait(short.step())


class Doubling(Variable):
    """A variable that thinks differently of its gradient."""

    def process_grad(self) -> Any:
        return 2 * self.grad


class Plain(Variable):
    """A subclass has a ``__dict__``: an instance may bring its own."""


class Elsewhere(Variable):
    """Its data are made anew when asked for."""

    __slots__ = ()

    @property
    def data(self) -> Any:
        return self._data[::1]

    @data.setter
    def data(self, value: Any) -> None:
        self._data = value


def test_a_variable_that_processes_its_gradient() -> None:
    x, y = Doubling(np.zeros(3), name="x"), Variable(np.zeros(3), name="y")
    x.grad, y.grad = np.ones(3), np.full(3, 2.0)
    one, other = Momentum(x), Momentum(y)
    for _ in range(4):
        wait(one.step())
        wait(other.step())
        assert x.data.tobytes() == y.data.tobytes()
        x.grad += 1
        y.grad += 2


def test_an_instance_that_processes_its_gradient() -> None:
    x = Plain(np.zeros(3), name="x")
    x.grad = np.ones(3)
    optimizer = SGD(x, learning_rate=1.0)
    for _ in range(2):
        wait(optimizer.step())
    x.process_grad = lambda: 10 * x.grad  # type: ignore[method-assign]
    wait(optimizer.step())
    np.testing.assert_array_equal(x.data, np.full(3, -12.0))


def test_a_variable_with_data_of_its_own_making() -> None:
    x = Elsewhere(np.zeros(3), name="x")
    x.grad = np.ones(3)
    optimizer = SGD(x, learning_rate=1.0)
    for _ in range(3):
        wait(optimizer.step())
    np.testing.assert_array_equal(x.data, np.full(3, -3.0))


# -- what is set while a step is on its way counts from the next one --


def test_a_hyperparameter_set_during_the_first_step_is_used_by_the_second() -> None:
    """The first step compiles in a thread, and meanwhile others may have their turn."""
    x = Variable(np.zeros(3), name="x")
    x.grad = np.ones(3)
    optimizer = SGD(x, learning_rate=1.0)

    async def go() -> None:
        step = asyncio.ensure_future(optimizer.step())
        await asyncio.sleep(0)
        assert not step.done()
        optimizer.learning_rate = 100.0
        await step
        before = x.data.copy()
        await optimizer.step()
        np.testing.assert_array_equal(x.data, before - 100.0)

    gate = threading.Event()
    with ThreadPoolExecutor(1) as pool, use_executor(pool):
        pool.submit(gate.wait)
        threading.Timer(0.05, gate.set).start()
        wait(go())


def test_a_schedule_that_puts_a_number_in_its_own_place() -> None:
    x = Variable(np.zeros(3), name="x")
    x.grad = np.ones(3)
    optimizer = SGD(x)

    def once(state: Any) -> float:
        if state.curr_iter:
            optimizer.learning_rate = 8.0
        return 1.0

    optimizer.learning_rate = once
    for expected in (-1.0, -9.0, -17.0):
        wait(optimizer.step())
        np.testing.assert_array_equal(x.data, np.full(3, expected))


def test_two_steps_at_once_are_refused() -> None:
    x = Variable(np.zeros(3), name="x")
    x.grad = np.ones(3)
    optimizer = SGD(x, learning_rate=1.0)

    async def go() -> None:
        before = optimizer.iterations
        results = await asyncio.gather(*(optimizer.step() for _ in range(3)), return_exceptions=True)
        refused = [result for result in results if result is not x]
        assert all(isinstance(result, OptimizerError) for result in refused)
        assert optimizer.iterations == before + len(results) - len(refused)
        np.testing.assert_array_equal(x.data, np.full(3, -float(optimizer.iterations)))

    for _ in range(3):
        wait(go())


def test_two_threads_in_one_optimizer_are_refused_or_take_turns() -> None:
    """The compiled pass lets go of the GIL: without a lock the second thread would be in the same memory."""
    x = Variable(np.zeros(100_000), name="x")
    x.grad = np.ones(100_000)
    optimizer = SGD(x, learning_rate=1.0)
    wait(optimizer.step())
    refused: list[Exception] = []
    done: list[int] = []

    def steps() -> None:
        for _ in range(200):
            try:
                wait(optimizer.step())
                done.append(1)
            except OptimizerError as error:
                refused.append(error)

    threads = [threading.Thread(target=steps) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) + len(refused) == 400
    assert optimizer.iterations == 1 + len(done)
    np.testing.assert_array_equal(x.data, np.full(100_000, -1.0 - len(done)))


# -- large arrays --

LARGE = """
import hashlib, numpy as np, thalweg as tw
from thalweg.lowering import threads
out = []
for kind in ("adam", "lamb"):
    x = tw.Variable(np.linspace(-1, 1, 3_000_001, dtype=np.float32), name="x")
    y = tw.Variable(np.linspace(-1, 1, 70_001, dtype=np.float32).reshape(1, -1), name="y")
    x.grad, y.grad = np.sin(9 * x.data), np.cos(9 * y.data)
    optimizer = tw.optimizers.registry[kind]([x, y], learning_rate=0.01)
    for _ in range(4):
        tw.wait(optimizer.step())
    out += [hashlib.sha256(v.data).hexdigest() for v in (x, y)]
print(threads.count(), *out)
"""


def _python(text: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", text], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_large_array_has_the_same_bits_however_many_threads_there_are() -> None:
    found = {number: _python(LARGE, OMP_NUM_THREADS=number).split() for number in ("1", "2")}
    assert found["1"][0] == "1"
    assert found["1"][1:] == found["2"][1:]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["adam", "lamb"])
def test_a_large_array_is_its_small_blocks(kind: str, dtype: Any) -> None:
    """Elementwise rules: a step of the whole is one of each part. LAMB's norms are over the whole."""
    size = 300_000
    rng = np.random.default_rng(5)
    data, grad = rng.normal(size=size).astype(dtype), rng.normal(size=size).astype(dtype)
    whole = Variable(data.copy(), name="whole")
    whole.grad = grad
    parts = [Variable(data[k : k + 1000].copy(), name=str(k)) for k in range(0, size, 1000)]
    for k, part in enumerate(parts):
        part.grad = grad[1000 * k : 1000 * (k + 1)]
    one, other = optimizers.registry[kind](whole), optimizers.registry[kind](parts)
    for _ in range(3):
        wait(one.step())
        wait(other.step())
    together = np.concatenate([part.data for part in parts])
    assert (whole.data.tobytes() == together.tobytes()) is (kind == "adam")


@pytest.mark.parametrize("kind", ["adam", "lamb", "rprop"])
def test_a_step_makes_no_copy_of_an_array(kind: str) -> None:
    size = 1 << 20
    x = Variable(np.ones(size, np.float32), name="x")
    optimizer = optimizers.registry[kind](x, process_model=transforms.bounds(0, 2))
    grads = [np.full(size, value, np.float32) for value in (1.0, 2.0)]
    wait(optimizer.step(grad=grads[0]))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for grad in (grads[0], grads[1], grads[1], grads[1]):
            x.grad = grad
            wait(optimizer.step())
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < x.data.nbytes / 10
    assert after - before < x.data.nbytes / 100


@pytest.mark.parametrize("groups", [(), [{"variables": "x", "learning_rate": 0.5}]], ids=["alone", "groups"])
def test_the_state_of_an_optimizer_that_is_gone_is_freed_at_once(groups: Any) -> None:
    """Not when the garbage collector comes by: it is as large as the model, or more."""
    x = Variable(np.ones(1000, np.float32), name="x")
    x.grad = np.ones(1000, np.float32)
    optimizer = Adam(x, groups=groups)
    for _ in range(3):
        wait(optimizer.step())
    gone = weakref.ref(optimizer._parameters[0])
    gc.disable()
    try:
        del optimizer
        assert gone() is None
    finally:
        gc.enable()


FORK = """
import os, sys, numpy as np, thalweg as tw
x = tw.Variable(np.zeros(400_000, np.float32), name="x")
x.grad = np.ones(400_000, np.float32)
optimizer = tw.Adam(x)
for _ in range(2):
    tw.wait(optimizer.step())
pid = os.fork()
if pid == 0:
    tw.wait(optimizer.step())
    fresh = tw.Adam(tw.Variable(np.zeros(400_000, np.float32), name="y"))
    tw.wait(fresh.step(grad=x.grad))
    os._exit(0 if optimizer.iterations == 3 and fresh.variable.data.all() else 1)
_, status = os.waitpid(pid, 0)
tw.wait(optimizer.step())
print(os.waitstatus_to_exitcode(status), optimizer.iterations)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_step_works_in_a_fork_after_threads() -> None:
    assert _python(FORK).split() == ["0", "3"]


def test_the_event_loop_goes_on_during_a_step_of_a_very_large_array(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("local", "processing"):
        monkeypatch.setattr(f"thalweg.optimizers.{module}.AWAY", 1 << 20)  # large enough for a thread
    size = 1 << 24
    x = Variable(np.zeros(size, np.float32), name="x")
    optimizer = Adam(x)
    grad = np.ones(size, np.float32)
    beats: list[float] = []

    async def beat() -> None:
        while True:
            beats.append(time.perf_counter())
            await asyncio.sleep(0)

    async def go() -> None:
        await optimizer.step(grad=grad)
        heart = asyncio.ensure_future(beat())
        await asyncio.sleep(0)
        beats.clear()
        await optimizer.step(grad=grad)
        assert len(beats) > 1
        heart.cancel()

    wait(go())
    assert optimizer.iterations == 2
