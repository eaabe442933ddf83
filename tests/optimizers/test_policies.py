"""What to do with a gradient that is not finite, and that a step that fails anywhere changes nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
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
from thalweg.optimizers import SGD, Adam, GradientDescent, LocalOptimizer, Momentum
from thalweg.schedules import Exp

every_kind = pytest.mark.parametrize("kind", optimizers.registry)
BAD = [np.nan, np.inf, -np.inf]


def made(kind: str = "adam", dtype: Any = np.float64, **options: Any) -> LocalOptimizer:
    variables = [
        Variable(np.linspace(1, 2, 6, dtype=dtype).reshape(2, 3), name="w"),
        Variable(np.array([0.5, -0.5], dtype), name="b"),
    ]
    return optimizers.registry[kind](variables, **options)


def gradients(seed: int, dtype: Any = np.float64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(2, 3)).astype(dtype), "b": rng.normal(size=2).astype(dtype)}


def spoiled(grads: dict[str, np.ndarray], bad: float) -> dict[str, np.ndarray]:
    copies = {name: array.copy() for name, array in grads.items()}
    copies["w"][1, 0] = copies["b"][1] = bad
    return copies


def content(optimizer: LocalOptimizer) -> Any:
    """Everything that a step may change, as bytes."""
    state = optimizer.state()
    arrays = {name: array.tobytes() for name, array in state.arrays.items()}
    return state.meta, arrays, [(v.data.tobytes(), v.version) for v in optimizer.variables]


def same(one: LocalOptimizer, other: LocalOptimizer, *, but: tuple[str, ...] = ()) -> None:
    (meta, arrays, data), (its_meta, its_arrays, its_data) = content(one), content(other)
    assert arrays == its_arrays
    assert [array for array, _ in data] == [array for array, _ in its_data]
    assert {name: value for name, value in meta.items() if name not in but} == {
        name: value for name, value in its_meta.items() if name not in but
    }


@every_kind
@pytest.mark.parametrize("bad", BAD)
def test_raise_changes_nothing_and_the_next_step_is_as_if_nothing_had_been(kind: str, bad: float) -> None:
    optimizer, other = made(kind), made(kind)
    for t in range(4):
        before, given = content(optimizer), spoiled(gradients(t), bad)
        kept = {name: array.tobytes() for name, array in given.items()}
        with pytest.raises(NonFiniteGradientError, match=rf"'w', iteration {t + 1}: .* 1 non-finite of 6 values"):
            wait(optimizer.step(grad=given))
        assert content(optimizer) == before
        assert {name: array.tobytes() for name, array in given.items()} == kept
        wait(optimizer.step(grad=gradients(t)))
        wait(other.step(grad=gradients(t)))
        same(optimizer, other)


@every_kind
@pytest.mark.parametrize("bad", BAD)
def test_skip_moves_no_state_no_count_and_no_schedule(kind: str, bad: float) -> None:
    takes = "learning_rate" not in optimizers.registry[kind].rule.initial
    rate = Exp(0.01, gamma=0.5, decay_on_iteration=True) if takes else 0.01
    optimizer = made(kind, nonfinite="skip", learning_rate=rate)
    other = made(kind, nonfinite="raise", learning_rate=rate)
    for t in range(4):
        before = content(optimizer)
        assert wait(optimizer.step(grad=spoiled(gradients(t), bad))) == optimizer.variables
        meta, arrays, data = content(optimizer)
        assert (arrays, data) == before[1:]
        assert meta == before[0] | {"skipped": t + 1}
        assert optimizer.current("learning_rate") == other.current("learning_rate")
        wait(optimizer.step(grad=gradients(t)))
        wait(other.step(grad=gradients(t)))
        same(optimizer, other, but=("skipped", "nonfinite"))
    assert (optimizer.skipped, optimizer.zeroed, optimizer.iterations) == (4, 0, 4)


def test_skip_never_gives_up() -> None:
    """``optax.apply_if_finite`` applies the NaN after a few."""
    x = Variable(np.ones(3), name="x")
    x.grad = np.array([1.0, np.nan, 1.0])
    optimizer = Adam(x, nonfinite="skip")
    for _ in range(200):
        wait(optimizer.step())
    np.testing.assert_array_equal(x.data, np.ones(3))
    assert (optimizer.skipped, optimizer.iterations) == (200, 0)
    x.grad = np.ones(3)
    wait(optimizer.step())
    np.testing.assert_allclose(x.data, 0.999)


@every_kind
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_selects(kind: str, bad: float, dtype: Any) -> None:
    """0 · NaN is NaN: the elements are chosen, not multiplied."""
    optimizer, other = made(kind, dtype, nonfinite="zero"), made(kind, dtype)
    for t in range(4):
        given = gradients(t, dtype)
        wait(optimizer.step(grad=spoiled(given, bad) if t % 2 else given))
        wait(other.step(grad=spoiled(given, 0.0) if t % 2 else given))
        same(optimizer, other, but=("zeroed", "nonfinite"))
    assert (optimizer.skipped, optimizer.zeroed, optimizer.iterations) == (0, 4, 4)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    "hook",
    [
        transforms.clip_norm(0.5),
        transforms.clip_global_norm(0.5),
        transforms.normalize(),
        [transforms.scale(2.0), transforms.clip_value(0.1)],
    ],
    ids=repr,
)
def test_zero_comes_before_what_would_spread_a_nan(hook: Any, bad: float) -> None:
    optimizer, other = made(nonfinite="zero", process_grad=hook), made(process_grad=hook)
    given = gradients(1)
    wait(optimizer.step(grad=spoiled(given, bad)))
    wait(other.step(grad=spoiled(given, 0.0)))
    same(optimizer, other, but=("zeroed", "nonfinite"))
    assert optimizer.zeroed == 2
    assert not np.array_equal(optimizer.variables[0].data, made().variables[0].data)


def test_zero_also_takes_what_a_hook_made() -> None:
    def divide(grad: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return grad / np.array([0.0, 1.0])

    x = Variable(np.zeros(2), name="x")
    optimizer = GradientDescent(x, nonfinite="zero", process_grad=divide)
    wait(optimizer.step(grad=np.ones(2)))
    np.testing.assert_array_equal(x.data, [0.0, -1.0])
    wait(optimizer.step(grad=np.array([np.nan, 1.0])))
    np.testing.assert_array_equal(x.data, [0.0, -2.0])
    # NaN became 0 before the hook, and 0 / 0 is NaN after it
    assert optimizer.zeroed == 3


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 2)])
@pytest.mark.parametrize("layout", ["C", "F", "swapped"])
def test_zero_of_any_shape_and_layout(shape: tuple[int, ...], layout: str) -> None:
    grad = np.full(shape, np.nan)
    grad = grad.astype(">f8") if layout == "swapped" else np.array(grad, order="F" if layout == "F" else "C")
    x = Variable(np.ones(shape), name="x")
    optimizer = Adam(x, nonfinite="zero")
    wait(optimizer.step(grad=grad))
    np.testing.assert_array_equal(x.data, np.ones(shape))
    assert optimizer.zeroed == x.data.size
    assert np.isnan(grad).all()


def test_ignore_does_what_the_arithmetic_does() -> None:
    x = Variable(np.zeros(2), name="x")
    optimizer = SGD(x, learning_rate=1.0, nonfinite="ignore")
    for _ in range(2):
        x.grad = np.array([np.nan, 1.0])
        wait(optimizer.step())
    np.testing.assert_array_equal(x.data, [np.nan, -2.0])
    assert optimizer.iterations == 2


@pytest.mark.parametrize("policy", ["skipped", "zeroed"])
def test_counters_are_saved_and_reset(policy: str, tmp_path: Path) -> None:
    options = {"nonfinite": {"skipped": "skip", "zeroed": "zero"}[policy]}
    optimizer = made(**options)
    for t in range(3):
        wait(optimizer.step(grad=spoiled(gradients(t), np.nan)))
    count = getattr(optimizer, policy)
    assert count == {"skipped": 3, "zeroed": 6}[policy]
    optimizer.dump(tmp_path)
    for way in ("disk", "memory"):
        other = made(**options)
        other.load(tmp_path) if way == "disk" else other.restore(optimizer.state())
        assert getattr(other, policy) == count
    optimizer.reset()
    assert getattr(optimizer, policy) == 0


@pytest.mark.parametrize("value", ["Raise", "", None, 0, "skipp", ["skip"]])
def test_a_policy_that_does_not_exist_is_refused(value: Any) -> None:
    with pytest.raises(HyperparameterError, match=r"nonfinite is .*'raise', 'skip', 'zero', 'ignore'"):
        SGD(nonfinite=value)


@pytest.mark.parametrize("policy", ["raise", "skip", "zero"])
@pytest.mark.parametrize("bad", BAD)
def test_the_last_element_of_a_large_array_counts_too(policy: str, bad: float) -> None:
    """Several blocks, several threads."""
    x = Variable(np.zeros(400_001, np.float32), name="x")
    x.grad = np.ones(400_001, np.float32)
    optimizer = SGD(x, learning_rate=1.0, nonfinite=policy)
    wait(optimizer.step())
    x.grad[-1] = bad
    if policy == "raise":
        with pytest.raises(NonFiniteGradientError, match=r"1 non-finite of 400001 values, the first at \(400000,\)"):
            wait(optimizer.step())
    else:
        wait(optimizer.step())
    assert x.data[-1] == -1.0
    assert x.data[0] == (-2.0 if policy == "zero" else -1.0)


# -- all or nothing --


def _raising(error: type[BaseException], after: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    counter = itertools.count()

    def hook(array: np.ndarray) -> np.ndarray:
        if next(counter) >= after:
            raise error
        return array + 1

    return hook


class Nothing(transforms.TreeTransform):
    """A transform of all gradients that forgets to return them."""

    kind = "nothing"

    def __init__(self, found: Any = None) -> None:
        self.found = found

    def __call__(self, arrays: Any) -> Any:
        return self.found


class After(Adam):
    """Something of one's own after the rule, which fails when it is told to."""

    async def post_process(self) -> None:
        await super().post_process()
        for variable in self.variables:
            variable.data[...] *= 2
        if self.optimization_state.curr_batch:
            self.variables[0].data = np.zeros((2, 3))
            await asyncio.sleep(0)
            raise ZeroDivisionError


class Before(Adam):
    """Something of one's own before the rule."""

    async def pre_process(self, grad: Any = None, processed_grad: Any = None) -> Any:
        found = await super().pre_process(grad, processed_grad)
        if self.optimization_state.curr_batch == 1:
            raise ZeroDivisionError
        if self.optimization_state.curr_batch == 2:
            return {"w": found["w"]}
        return {name: 2 * array for name, array in found.items()}


AT = (1, 3)  # the iterations at which a schedule fails

FAILURES: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "process_grad of the second": ({"process_grad": {"b": _raising(ZeroDivisionError)}}, ZeroDivisionError),
    "process_grad in the middle": ({"process_grad": _raising(ZeroDivisionError, 1)}, ZeroDivisionError),
    "process_model of the second": ({"process_model": {"b": _raising(ZeroDivisionError)}}, ZeroDivisionError),
    "process_model in the middle": ({"process_model": _raising(ZeroDivisionError, 1)}, ZeroDivisionError),
    "process_grad masks": ({"process_grad": lambda g: np.ma.masked_array(g)}, HyperparameterError),
    "process_model masks": ({"process_model": lambda m: np.ma.masked_array(m)}, HyperparameterError),
    "process_grad of all returns nothing": ({"process_grad": Nothing()}, HyperparameterError),
    "process_model of all returns nothing": ({"process_model": Nothing()}, HyperparameterError),
    "process_grad of all forgets one": ({"process_grad": Nothing({})}, HyperparameterError),
    "process_grad returns objects": ({"process_grad": lambda g: g.astype(object)}, HyperparameterError),
    "process_grad returns nothing": ({"process_grad": lambda g: None}, HyperparameterError),
    "schedule raises": ({"learning_rate": lambda s: 1 / (s.curr_iter not in AT)}, ZeroDivisionError),
    "schedule leaves its range": ({"beta1": lambda s: 1.5 if s.curr_iter in AT else 0.5}, HyperparameterError),
    "a wrapper's schedule": (
        {"wrap": ["ema"], "ema_decay": lambda s: 1.5 if s.curr_iter in AT else 0.5},
        HyperparameterError,
    ),
    "group's schedule": (
        {"groups": [{"variables": "b", "beta1": lambda s: 1.5 if s.curr_iter in AT else 0.5}]},
        HyperparameterError,
    ),
}


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("what", FAILURES)
def test_what_fails_on_the_way_leaves_everything_as_it_was(what: str, steps: int) -> None:
    options, error = FAILURES[what]
    harmless = {"ema_decay": 0.5} if "ema_decay" in options else {}
    fixed = {key: options[key] for key in ("wrap",) if key in options}
    optimizer = made(**fixed, **harmless, groups=[{"variables": "b", "beta1": 0.25}] if "groups" in options else ())
    for t in range(steps):
        wait(optimizer.step(grad=gradients(t)))
    before = content(optimizer)
    kept = {name: optimizer.hyperparameters.get(name, getattr(optimizer, name, None)) for name in options}
    for name, value in options.items():
        if name == "groups":
            optimizer.groups[0].beta1 = value[0]["beta1"]
        elif name != "wrap":
            setattr(optimizer, name, value)
    with pytest.raises(error):
        wait(optimizer.step(grad=gradients(7)))
    for name in options:
        if name == "groups":
            optimizer.groups[0].beta1 = 0.25
        elif name != "wrap":
            setattr(optimizer, name, kept[name])
    assert content(optimizer) == before
    wait(optimizer.step(grad=gradients(7)))


@pytest.mark.parametrize("steps", [0, 2])
def test_what_fails_after_the_rule_is_undone_even_if_it_replaced_the_data(steps: int) -> None:
    optimizer = After([Variable(np.ones((2, 3)), name="w"), Variable(np.ones(2), name="b")])
    for t in range(steps):
        wait(optimizer.step(grad=gradients(t)))
    arrays, before = [v.data for v in optimizer.variables], content(optimizer)
    optimizer.optimization_state.begin_batch()
    with pytest.raises(ZeroDivisionError):
        wait(optimizer.step(grad=gradients(7)))
    optimizer.optimization_state.curr_batch = 0
    assert all(v.data is array for v, array in zip(optimizer.variables, arrays, strict=True))
    (meta, slots, data), (its_meta, its_slots, its_data) = content(optimizer), before
    assert (meta, slots, [array for array, _ in data]) == (its_meta, its_slots, [array for array, _ in its_data])


def test_a_subclass_decides_what_the_rule_sees() -> None:
    def variables() -> list[Variable]:
        return [Variable(np.ones((2, 3)), name="w"), Variable(np.ones(2), name="b")]

    mine, plain = Before(variables()), Adam(variables())
    for t in range(3):
        for given, doubled in zip(mine.variables, plain.variables, strict=True):
            given.grad, doubled.grad = gradients(t)[given.name], 2 * gradients(t)[given.name]
        wait(mine.step())
        wait(plain.step())
        same(mine, plain)
    before = content(mine)
    mine.optimization_state.begin_batch()
    with pytest.raises(ZeroDivisionError):
        wait(mine.step())
    mine.optimization_state.begin_batch()
    with pytest.raises(MissingGradientError, match="'b'"):
        wait(mine.step())
    mine.optimization_state.curr_batch = 0
    assert content(mine) == before


@pytest.mark.parametrize("phase", ["process_grad", "process_model", "post_process", "variable"])
def test_a_step_that_is_cancelled_changes_nothing(phase: str) -> None:
    class Slow(Variable):
        async def process_grad(self) -> Any:
            if phase == "variable":
                await asyncio.sleep(60)
            return self.grad

    class SlowAfter(Momentum):
        async def post_process(self) -> None:
            await super().post_process()
            await asyncio.sleep(60)

    async def slow(array: np.ndarray) -> np.ndarray:
        await asyncio.sleep(60)
        return array

    async def go() -> None:
        x = Slow(np.ones(3), name="x")
        cls = SlowAfter if phase == "post_process" else Momentum
        optimizer = cls(x, **({phase: slow} if phase in ("process_grad", "process_model") else {}))
        x.grad = np.ones(3)
        before = content(optimizer)
        task = asyncio.ensure_future(optimizer.step())
        await asyncio.sleep(0.02)
        assert not task.done()
        with pytest.raises(OptimizerError, match="already running"):
            await optimizer.step()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert content(optimizer) == before

    wait(go())


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.005, 0.01, 0.02])
def test_a_large_step_that_is_cancelled_is_made_or_not(delay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in a thread, which cannot be interrupted."""
    for module in ("local", "processing"):
        monkeypatch.setattr(f"thalweg.optimizers.{module}.AWAY", 1 << 20)  # large enough for a thread
    size = 1 << 22

    async def go() -> None:
        x = Variable(np.ones(size, np.float32), name="x")
        optimizer = Momentum(x, learning_rate=1.0)
        grad = np.ones(size, np.float32)
        task = asyncio.ensure_future(optimizer.step(grad=grad))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        made_one = optimizer.iterations == 1
        assert x.data.tobytes() == np.full(size, 0.0 if made_one else 1.0, np.float32).tobytes()
        velocity = optimizer.state().arrays["slots/velocity/x"]
        assert velocity.tobytes() == np.full(size, -1.0 if made_one else 0.0, np.float32).tobytes()
        await optimizer.step(grad=grad)

    wait(go())


def test_two_dtypes_of_which_one_cannot_take_the_hyperparameters() -> None:
    def mixed() -> Adam:
        return Adam([Variable(np.ones(3), name="double"), Variable(np.ones(3, np.float32), name="single")])

    optimizer, other = mixed(), mixed()
    grads = {"double": np.ones(3), "single": np.ones(3, np.float32)}
    for adam in (optimizer, other):
        wait(adam.step(grad=grads))
    for name, value, words in (
        ("learning_rate", 1e39, "becomes inf in float32"),
        ("beta2", 1 - 1e-9, r"becomes 1\.0 in float32"),
        ("learning_rate", 3e38, r"with learning_rate=3e\+38, .* does not fit into float32"),  # divided by 1 − β₁²
    ):
        before, kept = content(optimizer), getattr(optimizer, name)
        setattr(optimizer, name, value)
        with pytest.raises(HyperparameterError, match=words):
            wait(optimizer.step(grad=grads))
        setattr(optimizer, name, kept)
        assert content(optimizer) == before
    for adam in (optimizer, other):
        wait(adam.step(grad=grads))
    same(optimizer, other)


@pytest.mark.parametrize("which", ["single", "double"])
def test_two_dtypes_of_which_one_gets_a_bad_gradient(which: str) -> None:
    optimizer = Adam([Variable(np.ones(3), name="double"), Variable(np.ones(3, np.float32), name="single")])
    grads = {"double": np.ones(3), "single": np.ones(3, np.float32)}
    wait(optimizer.step(grad=grads))
    before = content(optimizer)
    for spoil, error in (
        (lambda g: g * g.dtype.type(np.nan), NonFiniteGradientError),
        (lambda g: g[:1], GradientShapeError),
        (lambda g: g.astype(np.float16), GradientDtypeError),
    ):
        with pytest.raises(error, match=f"'{which}'"):
            wait(optimizer.step(grad={**grads, which: spoil(grads[which])}))
        assert content(optimizer) == before
    optimizer.variables[0].data.setflags(write=False)
    with pytest.raises(ParameterError, match="'double' holds a read-only array"):
        wait(optimizer.step(grad=grads))
    assert content(optimizer) == before


def test_a_reset_that_cannot_be_made_changes_nothing() -> None:
    optimizer = made("schedule_free_adamw")
    wait(optimizer.step(grad=gradients(0)))

    def moody(state: Any) -> float:
        if state.curr_iter == 0:
            raise ZeroDivisionError
        return 0.01

    optimizer.learning_rate = moody
    before = content(optimizer)
    with pytest.raises(ZeroDivisionError):
        optimizer.reset()
    assert content(optimizer) == before
    optimizer.learning_rate = 0.01
    before = content(optimizer)
    kept = optimizer.variables[1].data
    optimizer.variables[1].data = np.zeros(5)
    with pytest.raises(ParameterError, match="is now"):
        optimizer.reset()
    optimizer.variables[1].data = kept
    assert content(optimizer)[:2] == before[:2]


def test_a_bind_that_cannot_be_made_changes_nothing() -> None:
    optimizer = made()
    wait(optimizer.step(grad=gradients(0)))
    before = content(optimizer)
    base = np.zeros(4)
    for variables in (
        [Variable(np.zeros(2), name="x"), Variable(np.zeros(2, int), name="y")],
        [Variable(base[:3], name="x"), Variable(base[2:], name="y")],
        [Variable(np.zeros(2), name="x"), Variable(np.zeros(2), name="x")],
        [],
    ):
        with pytest.raises(OptimizerError):
            optimizer.bind(variables)
        assert content(optimizer) == before
    wait(optimizer.step(grad=gradients(0)))


def test_reset_begins_where_a_fresh_optimizer_would() -> None:
    """Rprop's first steps are the learning rate."""
    optimizer, fresh = made("rprop", learning_rate=0.5), made("rprop", learning_rate=0.5)
    for t in range(3):
        wait(optimizer.step(grad=gradients(t)))
    optimizer.reset()
    assert {n: a.tobytes() for n, a in optimizer.state().arrays.items()} == {
        n: a.tobytes() for n, a in fresh.state().arrays.items()
    }
