"""Hyperparameters that are arrays like the parameter, on every backend: the numbers of NumPy, and its refusals."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch

import thalweg as tw
from tests.optimizers import test_elementwise as elementwise
from tests.optimizers.everywhere import FACES
from thalweg.errors import HyperparameterError, StateMismatchError, ThalwegError
from thalweg.optimizers import registry
from thalweg.rules import decayed

OTHERS = [name for name in FACES if name != "numpy"]
OPEN = [name for name in OTHERS if name != "jax, jitted"]  # those that raise errors where they are
SHAPE = (2, 3)


def values(low: float, high: float, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.linspace(low, high, int(np.prod(shape))).reshape(shape)


RATES = values(0.0, 0.2)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "a rate": ("sgd", {"learning_rate": RATES}),
    "decoupled decay of some": (
        "adam",
        {"learning_rate": 0.1, "decay": "decoupled", "weight_decay": 0.3 * (RATES > 0.1)},
    ),
    "AdamW's decay, and a schedule beside it": (
        "adamw",
        {"weight_decay": RATES, "learning_rate": lambda state: 0.3 / (1 + state.completed_iterations)},
    ),
    "several": ("adam", {"learning_rate": RATES, "beta2": values(0.9, 0.999), "weight_decay": RATES}),
    "a prepared branch": ("radam", {"beta1": values(0.5, 0.9), "learning_rate": 0.1}),
    "gathered gradients": ("nadam", {"learning_rate": RATES, "accumulate": 2}),
    "a start": ("rprop", {"learning_rate": RATES + 0.01, "max_step": RATES + 0.1}),
    "another start": ("adagrad", {"initial_accumulator": RATES, "learning_rate": 0.1}),
    "an average": ("momentum", {"momentum": RATES, "wrap": ["ema"], "ema_decay": RATES, "learning_rate": 0.1}),
    "a period": ("sgd", {"learning_rate": RATES, "wrap": ["lookahead"], "sync_period": np.full(SHAPE, 2.0)}),
    "bounds": ("sgd", {"learning_rate": RATES, "process_model": tw.transforms.bounds(-0.5, 0.5)}),
}


def recorded(steps: int, *, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    print("seed 14")
    rng = np.random.default_rng(14)
    return rng.normal(size=shape), rng.normal(0.3, 1.0, (steps, *shape))


def close(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-12, atol=1e-13)


@pytest.mark.sampled(32)
@pytest.mark.parametrize("face", OTHERS)
@pytest.mark.parametrize("case", CASES)
def test_each_element_has_its_own(case: str, face: str) -> None:
    kind, options = CASES[case]
    start, grads = recorded(12)
    here = FACES[face](registry[kind], {"x": start.copy()}, **options)
    there = FACES["numpy"](registry[kind], {"x": start.copy()}, **options)
    for grad in grads:
        here.step({"x": grad})
        there.step({"x": grad})
        close(here.values(), there.values())
    close(here.evaluated(), there.evaluated())


EVERY = {kind: [name for other, name in elementwise.PAIRS if other == kind] for kind, _ in elementwise.PAIRS}


@pytest.mark.sampled(24)
@pytest.mark.parametrize("face", ["updater", "torch", "torch, shared kernel", "pytensor"])
@pytest.mark.parametrize("kind", EVERY)
def test_all_that_can_be_arrays_at_once(kind: str, face: str) -> None:
    rule = decayed(registry[kind].rule)
    options = {name: elementwise.spread(rule, name, SHAPE) for name in EVERY[kind]}
    start, grads = recorded(30)
    here = FACES[face](registry[kind], {"x": start.copy()}, **options)
    hyper = rule.hyper(**options)
    x, state = start, rule.init(start, hyper)
    for t, grad in enumerate(grads, start=1):
        here.step({"x": grad})
        x, state = rule.step(x, grad, state, hyper, t=t)
    np.testing.assert_allclose(here.values()["x"], x, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("face", OTHERS)
def test_groups_have_arrays_of_their_own_and_numbers_beside_them(face: str) -> None:
    rng = np.random.default_rng(15)
    start = {"a": rng.normal(size=2), "b": rng.normal(size=SHAPE), "c": rng.normal(size=2)}
    groups: list[dict[str, Any]] = [
        {"variables": "b", "learning_rate": RATES, "beta1": values(0.1, 0.8)},
        {"variables": "c", "weight_decay": np.array([0.0, 0.5])},
    ]
    here, there = (
        FACES[name](
            registry["adam"], copy.deepcopy(start), learning_rate=0.05, decay="decoupled", groups=copy.deepcopy(groups)
        )
        for name in (face, "numpy")
    )
    for _ in range(6):
        grads = {name: rng.normal(size=value.shape) for name, value in start.items()}
        here.step(grads)
        there.step(grads)
    close(here.values(), there.values())


@pytest.mark.parametrize("face", ["torch", "torch, shared kernel", "pytensor"])
def test_float32_stays_float32(face: str) -> None:
    start, grads = recorded(6)
    options = {"learning_rate": RATES, "beta1": values(0.1, 0.9)}
    here, there = (FACES[name](registry["adam"], {"x": start.astype("f4")}, **options) for name in (face, "numpy"))
    for grad in grads.astype("f4"):
        here.step({"x": grad})
        there.step({"x": grad})
    assert here.values()["x"].dtype == np.float32
    np.testing.assert_allclose(here.values()["x"], there.values()["x"], rtol=2e-6, atol=2e-6)


# ------------------------------------------------------------------ state


@pytest.mark.parametrize("face", [name for name in OTHERS if name != "updater"])
def test_a_state_goes_there_and_back(face: str) -> None:
    """NumPy → the other → NumPy: what was saved holds, not what the next one was made with."""
    start, grads = recorded(9)

    def made(name: str, at: np.ndarray, rate: Any, decay: Any) -> Any:
        groups = [{"variables": "x", "weight_decay": decay}]
        return FACES[name](registry["adam"], {"x": np.array(at)}, learning_rate=rate, groups=groups)

    whole = made("numpy", start, RATES, RATES)
    first = made("numpy", start, RATES, RATES)
    for grad in grads[:3]:
        first.step({"x": grad})
    snapshot = first.snapshot()
    json.dumps(snapshot.meta)
    middle = made(face, first.values()["x"], 0.5, 0.25)
    middle.restore(snapshot)
    for grad in grads[3:6]:
        middle.step({"x": grad})
    carried = middle.snapshot()
    for name in ("hyperparameters/learning_rate", "hyperparameters/groups.0.weight_decay"):
        np.testing.assert_allclose(carried.arrays[name], RATES, rtol=1e-15)
    last = made("numpy", middle.values()["x"], 0.75, np.zeros(SHAPE))
    last.restore(carried)
    for grad in grads[6:]:
        last.step({"x": grad})
    for grad in grads:
        whole.step({"x": grad})
    close(last.values(), whole.values())


@pytest.mark.parametrize("face", ["torch", "pytensor", "jax"])
def test_a_state_that_does_not_fit_is_refused(face: str) -> None:
    snapshot = FACES["numpy"](registry["sgd"], {"x": np.ones(SHAPE)}, learning_rate=RATES).snapshot()
    here = FACES[face](registry["sgd"], {"x": np.ones(SHAPE)})
    for name, array, words in (
        ("hyperparameters/learning_rate", np.ones(3), r"learning_rate was \(3,\), x is \(2, 3\)"),
        ("hyperparameters/learning_rate", -RATES - 1, r"learning_rate\[0, 0\] is -1.0"),
        ("hyperparameters/beta1", RATES, "unexpected: hyperparameters/beta1"),
    ):
        wrong = copy.deepcopy(snapshot)
        wrong.arrays[name] = array
        with pytest.raises(StateMismatchError, match=words):
            here.restore(wrong)


@pytest.mark.parametrize("face", ["torch", "torch, shared kernel", "pytensor", "updater"])
def test_an_optimizer_of_a_config_makes_the_same_steps(face: str) -> None:
    start, grads = recorded(3)
    recipe = tw.AdamW(weight_decay=RATES, learning_rate=0.1)
    config = json.loads(json.dumps(recipe.get_config()))

    def again(**options: Any) -> Any:
        return tw.optimizers.build(config)

    here, there = FACES[face](again, {"x": start.copy()}), FACES["numpy"](registry["adamw"], {"x": start.copy()})
    there.optimizer.weight_decay, there.optimizer.learning_rate = RATES, 0.1
    for grad in grads:
        here.step({"x": grad})
        there.step({"x": grad})
    close(here.values(), there.values())


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("face", OPEN)
@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 1), (3, 2), (6,), (1,), (1, 1), (1, 2, 3)], ids=str)
def test_nothing_is_broadcast(face: str, shape: tuple[int, ...]) -> None:
    start = np.ones(SHAPE)
    with pytest.raises(HyperparameterError, match="nothing is broadcast"):
        FACES[face](registry["sgd"], {"x": start}, learning_rate=np.full(shape, 0.5)).step({"x": np.ones(SHAPE)})
    assert (start == 1.0).all()


@pytest.mark.parametrize("face", OPEN)
def test_what_float32_cannot_hold_is_refused_before_anything_is_changed(face: str) -> None:
    start = np.ones(2, np.float32)
    beta2 = np.array([0.5, 1 - 1e-9])
    with pytest.raises(HyperparameterError, match=r"beta2\[1\] is 0\.999999999, which becomes 1\.0"):
        FACES[face](registry["adam"], {"x": start}, beta2=beta2).step({"x": np.ones(2, np.float32)})
    assert (start == 1.0).all()


@pytest.mark.parametrize("face", ["updater", "torch", "torch, shared kernel"])
def test_so_is_what_the_rule_makes_of_them(face: str) -> None:
    here = FACES[face](registry["adam"], {"x": np.ones(2, np.float32)}, learning_rate=np.array([0.5, 3e38]))
    with pytest.raises(HyperparameterError, match="does not fit into float32"):
        here.step({"x": np.ones(2, np.float32)})
    assert here.values()["x"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("face", OPEN)
@pytest.mark.parametrize(("kind", "name"), [("lamb", "learning_rate"), ("nadam", "beta1")])
def test_what_a_rule_takes_as_a_number_only_stays_one(face: str, kind: str, name: str) -> None:
    with pytest.raises(HyperparameterError, match="takes a number"):
        FACES[face](registry[kind], {"x": np.ones(2)}, **{name: np.full(2, 0.5)})


@pytest.mark.parametrize("face", ["numpy", *OPEN])
def test_an_error_of_a_step_leaves_an_array_in_use(face: str) -> None:
    here = FACES[face](registry["sgd"], {"x": np.ones(SHAPE)}, learning_rate=RATES)
    with pytest.raises(ThalwegError):
        here.step({"x": np.full(SHAPE, np.nan)})
    assert (here.values()["x"] == 1.0).all()
    here.step({"x": np.ones(SHAPE)})
    np.testing.assert_allclose(here.values()["x"], 1 - RATES, rtol=1e-15)


def test_torch_in_16_bits_has_numbers_of_float32() -> None:
    x = torch.ones(SHAPE, dtype=torch.bfloat16, requires_grad=True)
    x.grad = torch.ones_like(x)
    rates = np.where(RATES > 0.1, 0.5, 2.0**-9)  # the second is lost in a bfloat16 beside 1
    pytest.importorskip("torch")
    import thalweg.optimizers.torch as tw_torch

    tw_torch.TorchOptimizer([x], tw.SGD(learning_rate=rates)).step()
    np.testing.assert_array_equal(x.detach().float().numpy(), np.where(RATES > 0.1, 0.5, 1.0))
