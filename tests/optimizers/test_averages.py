"""Where the model is to be evaluated: averages of parameters, lookahead, Schedule-Free, against loops of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg import optimizers, transforms
from thalweg.errors import HyperparameterError, OptimizerError, ParameterError
from thalweg.graph import Variable, wait
from thalweg.optimizers import SGD, Adam, LocalOptimizer, ScheduleFreeAdamW
from thalweg.schedules import Exp, Piecewise

RATE, DECAY, PERIOD, SLOW = 0.125, 0.75, 3, 0.25
START = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, -0.25]])


def sequence(number: int, dtype: Any = np.float64) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(6)
    for _ in range(number):
        yield rng.normal(size=START.shape).astype(dtype)


def made(kind: str = "sgd", dtype: Any = np.float64, **options: Any) -> LocalOptimizer:
    return optimizers.registry[kind](Variable(START.astype(dtype), name="x", needs_grad=True), **options)


def at(optimizer: LocalOptimizer) -> np.ndarray:
    return optimizer.eval_params()["x"]


def content(optimizer: LocalOptimizer) -> Any:
    state = optimizer.state()
    arrays = {name: array.tobytes() for name, array in state.arrays.items()}
    return state.meta, arrays, [variable.data.tobytes() for variable in optimizer.variables]


# -- what they compute --


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_moving_average_is_that_of_a_loop(dtype: Any) -> None:
    optimizer = made(dtype=dtype, wrap=["ema"], ema_decay=DECAY, learning_rate=RATE)
    x, average = START.copy(), START.copy()
    for grad in sequence(12, dtype):
        wait(optimizer.step(grad=grad))
        x = x - RATE * grad
        average = DECAY * average + (1 - DECAY) * x
        np.testing.assert_allclose(optimizer.variable.data, x, rtol=0, atol=40 * np.finfo(dtype).eps)
        np.testing.assert_allclose(at(optimizer), average, rtol=0, atol=40 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lookahead_is_that_of_a_loop(dtype: Any) -> None:
    options = {"sync_period": PERIOD, "slow_step_size": SLOW, "learning_rate": RATE}
    optimizer = made(dtype=dtype, wrap=["lookahead"], **options)
    fast, slow = START.copy(), START.copy()
    for t, grad in enumerate(sequence(12, dtype), start=1):
        wait(optimizer.step(grad=grad))
        fast = fast - RATE * grad
        if t % PERIOD == 0:
            slow = slow + SLOW * (fast - slow)
            fast = slow.copy()
        np.testing.assert_allclose(optimizer.variable.data, fast, rtol=0, atol=40 * np.finfo(dtype).eps)
        np.testing.assert_allclose(at(optimizer), fast, rtol=0, atol=40 * np.finfo(dtype).eps)


@pytest.mark.parametrize("order", [("lookahead", "ema"), ("ema", "lookahead")])
def test_an_average_is_of_the_model_whichever_is_inside(order: tuple[str, str]) -> None:
    """Of the weights after they are synchronized: those before never were the model."""
    optimizer = made(
        wrap=order, ema_decay=DECAY, sync_period=PERIOD, slow_step_size=SLOW, learning_rate=RATE, weight_decay=0.5
    )
    fast, slow, average = START.copy(), START.copy(), START.copy()
    for t, grad in enumerate(sequence(12), start=1):
        wait(optimizer.step(grad=grad))
        fast = fast - RATE * (grad + 0.5 * fast)
        if t % PERIOD == 0:
            slow = slow + SLOW * (fast - slow)
            fast = slow.copy()
        average = DECAY * average + (1 - DECAY) * fast
        np.testing.assert_allclose(optimizer.variable.data, fast, rtol=0, atol=1e-14)
        np.testing.assert_allclose(at(optimizer), average, rtol=0, atol=1e-14)
    assert optimizer.get_config()["wrap"] == list(order)


@pytest.mark.parametrize("warmup", [0, 4])
def test_schedule_free_evaluates_at_its_average(warmup: int) -> None:
    """Defazio et al., The road less scheduled, algorithm 1, with x, y and z each stored."""
    lr, beta1, beta2, epsilon, decay = 0.25, 0.875, 0.75, 1e-8, 0.125
    optimizer = made(
        "schedule_free_adamw",
        learning_rate=lr,
        beta1=beta1,
        beta2=beta2,
        epsilon=epsilon,
        weight_decay=decay,
        warmup_steps=warmup,
    )
    x, y, z, v, total = START.copy(), START.copy(), START.copy(), np.zeros_like(START), 0.0
    for t, grad in enumerate(sequence(12), start=1):
        np.testing.assert_allclose(optimizer.variable.data, y, rtol=1e-12)
        np.testing.assert_allclose(at(optimizer), x, rtol=1e-11)
        wait(optimizer.step(grad=grad))
        v = beta2 * v + (1 - beta2) * grad**2
        rate = lr * np.sqrt(1 - beta2**t) * (min(1.0, t / warmup) if warmup else 1.0)
        z = z - rate * (grad / (np.sqrt(v) + epsilon) + decay * y)
        total += rate**2
        x = (1 - rate**2 / total) * x + rate**2 / total * z
        y = (1 - beta1) * z + beta1 * x
    np.testing.assert_allclose(at(optimizer), x, rtol=1e-11)
    assert not np.allclose(x, y)


@pytest.mark.sampled(32)
@pytest.mark.parametrize("wrap", [(), ("ema",), ("lookahead",), ("lookahead", "ema")])
@pytest.mark.parametrize("kind", optimizers.registry)
def test_a_wrapper_leaves_the_rule_its_way(kind: str, wrap: tuple[str, ...]) -> None:
    """With an average that nobody looks at, and a lookahead that goes all the way, each step is the rule's."""
    if wrap and kind == "schedule_free_adamw":
        words = {"ema": "already evaluates the model elsewhere", "lookahead": "lookahead would move the parameter"}
        with pytest.raises(HyperparameterError, match=rf"wrap='{wrap[0]}': .*{words[wrap[0]]}"):
            made(kind, wrap=wrap)
        return
    options = {"slow_step_size": 1.0} if "lookahead" in wrap else {}
    optimizer, plain = made(kind, wrap=wrap, **options), made(kind)
    for grad in sequence(8):
        wait(optimizer.step(grad=grad))
        wait(plain.step(grad=grad))
        np.testing.assert_allclose(optimizer.variable.data, plain.variable.data, rtol=1e-12, atol=1e-14)
    if not wrap:
        expected = plain.variable.data if kind != "schedule_free_adamw" else at(plain)
        assert at(optimizer).tobytes() == expected.tobytes()
    slots = {name.split("/")[1] for name in optimizer.state().arrays}
    assert {"ema": "average" in slots, "lookahead": "slow" in slots} == {n: n in wrap for n in ("ema", "lookahead")}


# -- eval_params and evaluating --


AVERAGING: dict[str, dict[str, Any]] = {
    "ema": {"kind": "adam", "wrap": ["ema"], "ema_decay": 0.5},
    "schedule-free": {"kind": "schedule_free_adamw", "learning_rate": 0.5},
    "nothing": {"kind": "adam"},
}
averaging = pytest.mark.parametrize("which", AVERAGING)


@averaging
def test_before_the_first_step_it_is_the_parameter(which: str) -> None:
    optimizer = made(**AVERAGING[which])
    optimizer.variable.data += 1  # also what it is by now
    assert at(optimizer).tobytes() == (START + 1).tobytes()
    wait(optimizer.step(grad=np.ones(START.shape)))
    optimizer.reset()
    assert at(optimizer).tobytes() == optimizer.variable.data.tobytes()
    with pytest.raises(OptimizerError, match="bind"):
        Adam().eval_params()


def test_what_is_set_before_the_first_step_is_where_the_state_starts() -> None:
    """Not what there was when the variable was bound."""
    optimizer = made(wrap=["ema"], ema_decay=0.5, learning_rate=1.0)
    optimizer.variable.data += 4
    wait(optimizer.step(grad=np.ones(START.shape)))
    np.testing.assert_array_equal(at(optimizer), START + 3.5)
    optimizer.reset()
    optimizer.variable.data[...] = START
    wait(optimizer.step(grad=np.ones(START.shape)))
    np.testing.assert_array_equal(at(optimizer), START - 0.5)
    rprop, other = made("rprop"), made("rprop", learning_rate=0.5)
    rprop.learning_rate = 0.5
    for either in (rprop, other):
        wait(either.step(grad=np.ones(START.shape)))
    np.testing.assert_array_equal(rprop.variable.data, START - 0.5)
    assert content(rprop) == content(other)


@averaging
def test_it_is_an_array_of_its_own(which: str) -> None:
    optimizer = made(**AVERAGING[which])
    for grad in sequence(3):
        wait(optimizer.step(grad=grad))
        before = content(optimizer)
        found = at(optimizer)
        assert (found.shape, found.dtype) == (START.shape, START.dtype)
        found[...] = 77
        assert content(optimizer) == before


class Reason(Exception):
    """For leaving a with block."""


@averaging
@pytest.mark.parametrize("error", [None, Reason, KeyboardInterrupt, asyncio.CancelledError])
def test_evaluating_gives_back_the_parameters_whatever_happens(which: str, error: Any) -> None:
    optimizer, twin = made(**AVERAGING[which]), made(**AVERAGING[which])
    for grad in sequence(3):
        for either in (optimizer, twin):
            either.variable.grad = grad
            wait(either.step())
        before, array, version = content(optimizer), optimizer.variable.data, optimizer.variable.version
        expected = at(optimizer)
        with pytest.raises(error) if error is not None else nullcontext(), optimizer.evaluating():
            assert optimizer.variable.data is array
            assert array.tobytes() == expected.tobytes()
            assert optimizer.variable.version > version
            version = optimizer.variable.version
            array *= 7  # whatever is done to it
            if error is not None:
                raise error
        assert optimizer.variable.data is array
        assert optimizer.variable.version > version  # a forward of inside is not one of outside
        assert content(optimizer) == before
    assert content(optimizer) == content(twin)


def test_evaluating_gives_back_an_array_that_was_replaced() -> None:
    optimizer = made(**AVERAGING["ema"])
    wait(optimizer.step(grad=np.ones(START.shape)))
    before, array = content(optimizer), optimizer.variable.data
    for other in (np.zeros(START.shape), np.zeros(7), None):
        with optimizer.evaluating():
            optimizer.variable.data = other
        assert optimizer.variable.data is array
        assert content(optimizer) == before


def test_evaluating_that_cannot_begin_changes_nothing() -> None:
    x, y = Variable(START.copy(), name="x"), Variable(START.copy(), name="y")
    optimizer = SGD([x, y], wrap=["ema"])
    wait(optimizer.step(grad={"x": np.ones(START.shape), "y": np.ones(START.shape)}))
    before = content(optimizer)
    y.data.setflags(write=False)
    with pytest.raises(ParameterError, match="'y' holds a read-only array"), optimizer.evaluating():
        raise AssertionError
    y.data.setflags(write=True)
    assert content(optimizer) == before
    with optimizer.evaluating():
        pass
    wait(optimizer.step(grad={"x": np.ones(START.shape), "y": np.ones(START.shape)}))


def test_while_evaluating_nothing_is_stepped_or_saved(tmp_path: Path) -> None:
    """A state taken there would belong to other data."""
    optimizer = made(**AVERAGING["ema"])
    wait(optimizer.step(grad=np.ones(START.shape)))
    snapshot = optimizer.state()
    optimizer.dump(tmp_path / "saved")
    before = content(optimizer)
    with optimizer.evaluating():
        for act in (
            lambda: wait(optimizer.step(grad=np.ones(START.shape))),
            optimizer.state,
            optimizer.reset,
            lambda: optimizer.restore(snapshot),
            lambda: optimizer.dump(tmp_path / "mixed"),
            lambda: optimizer.load(tmp_path / "saved"),
            lambda: optimizer.bind(Variable(np.zeros(1), name="z")),
            lambda: optimizer.evaluating().__enter__(),
        ):
            with pytest.raises(OptimizerError, match="it is evaluating; leave the with block before"):
                act()
    assert content(optimizer) == before
    assert not (tmp_path / "mixed").exists()


def test_a_step_that_is_running_is_not_evaluated() -> None:
    async def go() -> None:
        async def look(grad: np.ndarray) -> np.ndarray:
            with pytest.raises(OptimizerError, match="a step is already running; await it before evaluating"):
                optimizer.evaluating().__enter__()
            return grad

        optimizer = made(wrap=["ema"], process_grad=look)
        await optimizer.step(grad=np.ones(START.shape))
        with optimizer.evaluating():
            await asyncio.sleep(0)

    wait(go())


# -- the wrappers' hyperparameters --


def test_schedule_free_takes_no_projection() -> None:
    """Its average is computed from the point that would be projected: held at a bound of −1 it went beyond +1."""
    hook = transforms.bounds(-1, 1)
    for options in ({"process_model": hook}, {"process_model": [hook]}, {"process_model": {"x": hook}}):
        with pytest.raises(HyperparameterError, match="schedule_free_adamw takes no process_model"):
            ScheduleFreeAdamW(Variable(np.zeros(2), name="x"), **options)
    optimizer = ScheduleFreeAdamW(Variable(np.zeros(2), name="x"), process_model=[])
    with pytest.raises(HyperparameterError, match="process_model"):
        optimizer.process_model = hook
    assert optimizer.process_model == []
    optimizer.process_model = None


def test_they_are_hyperparameters_like_others() -> None:
    optimizer = made("adam", wrap=["lookahead", "ema"])
    assert (optimizer.sync_period, optimizer.slow_step_size, optimizer.ema_decay) == (6.0, 0.5, 0.999)
    optimizer.ema_decay = 0.25
    optimizer.sync_period = 2
    assert optimizer.hyperparameters["ema_decay"] == 0.25
    for name, value in (("ema_decay", 1.0), ("sync_period", 0), ("sync_period", 1.5), ("slow_step_size", 0.0)):
        kept = optimizer.hyperparameters
        with pytest.raises(HyperparameterError, match=name):
            setattr(optimizer, name, value)
        with pytest.raises(HyperparameterError, match=name):
            made("adam", wrap=["lookahead", "ema"], **{name: value})
        assert optimizer.hyperparameters == kept


def test_they_may_be_schedules() -> None:
    decay = Exp(0.75, gamma=0.5, decay_on_iteration=True)
    period = Piecewise(2.0, boundaries=[4], levels=[3.0], decay_on_iteration=True)
    optimizer = made(wrap=["lookahead", "ema"], ema_decay=decay, sync_period=period, learning_rate=RATE)
    fast, slow, average = START.copy(), START.copy(), START.copy()
    for t, grad in enumerate(sequence(9), start=1):
        wait(optimizer.step(grad=grad))
        fast = fast - RATE * grad
        if t % int(optimizer.current("sync_period")) == 0:
            slow = slow + 0.5 * (fast - slow)
            fast = slow.copy()
        d = 0.75 * 0.5 ** (t - 1)
        average = d * average + (1 - d) * fast
        np.testing.assert_allclose(at(optimizer), average, rtol=0, atol=1e-14)


def test_they_may_differ_by_group() -> None:
    x, y = Variable(START.copy(), name="x"), Variable(START.copy(), name="y")
    optimizer = SGD([x, y], learning_rate=1.0, wrap=["ema"], groups=[{"variables": "y", "ema_decay": 0.25}])
    optimizer.ema_decay = 0.5
    wait(optimizer.step(grad={"x": np.ones(START.shape), "y": np.ones(START.shape)}))
    found = optimizer.eval_params()
    np.testing.assert_array_equal(found["x"], START - 0.5)
    np.testing.assert_array_equal(found["y"], START - 0.75)


def test_schedule_free_by_group() -> None:
    """The point of evaluation depends on the group's β₁."""
    x, y = Variable(START.copy(), name="x"), Variable(START.copy(), name="y")
    together = ScheduleFreeAdamW([x, y], groups=[{"variables": "y", "beta1": 0.5}])
    apart = made("schedule_free_adamw"), made("schedule_free_adamw", beta1=0.5)
    for grad in sequence(4):
        wait(together.step(grad={"x": grad, "y": grad}))
        for optimizer in apart:
            wait(optimizer.step(grad=grad))
        found = together.eval_params()
        assert [found[name].tobytes() for name in "xy"] == [at(optimizer).tobytes() for optimizer in apart]


@pytest.mark.parametrize("way", ["disk", "memory", "config"])
def test_they_are_saved(way: str, tmp_path: Path) -> None:
    optimizer = made(
        "momentum", wrap=["lookahead", "ema"], ema_decay=Exp(0.5, gamma=0.5, decay_on_iteration=True), sync_period=2
    )
    optimizer.slow_step_size = 0.75
    grads = list(sequence(6))
    for grad in grads[:3]:
        wait(optimizer.step(grad=grad))
    if way == "config":
        config = json.loads(json.dumps(optimizer.get_config()))
        assert optimizers.build(config, Variable(START.copy(), name="x")).get_config() == optimizer.get_config()
        return
    other = made("momentum", wrap=["lookahead", "ema"])
    if way == "disk":
        optimizer.dump(tmp_path)
        other.load(tmp_path)
    else:
        other.restore(optimizer.state())
        other.variable.data[...] = optimizer.variable.data
    assert at(other).tobytes() == at(optimizer).tobytes()
    for grad in grads[3:]:
        wait(optimizer.step(grad=grad))
        wait(other.step(grad=grad))
    assert content(other) == content(optimizer)
    assert at(other).tobytes() == at(optimizer).tobytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"wrap": "ema"}, r"wrap is 'ema'; give a list of names \(lookahead, ema\)"),
        ({"wrap": ["emma"]}, "there is no wrapper 'emma'; did you mean 'ema'"),
        ({"wrap": ["ema", "ema"]}, "each wrapper can be there once"),
        ({"wrap": [3]}, "there is no wrapper '3'"),
        ({"wrap": 3}, "wrap is 3; give a list of names"),
        ({"wrap": None}, "wrap is None; give a list of names"),
        ({"ema_decay": 0.5}, r"ema_decay belongs to a wrapper; ask for it, too: wrap=\['ema'\]"),
        ({"sync_period": 2}, r"wrap=\['lookahead'\]"),
        ({"wrap": ["ema"], "sync_period": 2}, r"sync_period belongs to a wrapper; .*wrap=\['ema', 'lookahead'\]"),
        ({"wrap": ["ema"], "ema_deca": 0.5}, "did you mean 'ema_decay'"),
    ],
    ids=str,
)
def test_wrappers_that_do_not_exist_or_are_forgotten(options: dict[str, Any], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words):
        SGD(**options)
