"""Hyperparameters that are arrays like the variable: the pure face on each element by itself is the reference."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg import rules
from thalweg.errors import HyperparameterError, StateMismatchError
from thalweg.graph import Variable, wait
from thalweg.optimizers import registry
from thalweg.rules import decayed
from thalweg.rules.elementwise import lanes, with_lanes

SIZE = 5


def takes_arrays() -> list[tuple[str, str]]:
    """Every rule with each hyperparameter that can be an array."""
    found = []
    for kind, rule in rules.registry.items():
        for name in decayed(rule).hyperparameters:
            try:
                lanes(decayed(rule), name)
            except HyperparameterError:
                continue
            found.append((kind, name))
    return found


PAIRS = takes_arrays()


def spread(rule: rules.Rule, name: str, shape: tuple[int, ...] = (SIZE,)) -> np.ndarray:
    """Values around the default, inside the range."""
    declared = rule.hyperparameters[name]
    high = min(declared.interval.high, 2 * declared.default if declared.default else 0.5)
    low = declared.default if declared.interval.low >= declared.default / 2 else declared.default / 2
    return np.linspace(low, low + 0.9 * (high - low), int(np.prod(shape))).reshape(shape)


def recorded(steps: int, shape: tuple[int, ...] = (SIZE,)) -> tuple[np.ndarray, np.ndarray]:
    print("seed 12")
    rng = np.random.default_rng(12)
    return rng.normal(size=shape), rng.normal(0.3, 1.0, (steps, *shape))


def alone(rule: rules.Rule, start: np.ndarray, grads: np.ndarray, hyper: Any) -> np.ndarray:
    """Each element with its own numbers, by the pure face."""
    end = np.empty_like(start)
    for index in np.ndindex(start.shape):
        own = hyper._replace(**{n: float(v[index]) for n, v in hyper._asdict().items() if isinstance(v, np.ndarray)})
        x = start[index].reshape(1)
        state = rule.init(x, own)
        for t, grad in enumerate(grads, start=1):
            x, state = rule.step(x, grad[index].reshape(1), state, own, t=t)
        end[index] = x[0]
    return end


@pytest.mark.parametrize(("kind", "name"), PAIRS, ids=[f"{kind} {name}" for kind, name in PAIRS])
def test_the_pure_face_takes_an_array_for_a_number(kind: str, name: str) -> None:
    rule = decayed(rules.registry[kind])
    start, grads = recorded(12)
    hyper = rule.hyper(**{name: spread(rule, name)})
    x, state = start, rule.init(start, hyper)
    for t, grad in enumerate(grads, start=1):
        x, state = rule.step(x, grad, state, hyper, t=t)
    np.testing.assert_allclose(x, alone(rule, start, grads, hyper), rtol=1e-13, atol=1e-15)


COMPILED = [("sgd", "learning_rate"), ("adam", "beta1"), ("radam", "beta2"), ("rprop", "eta_plus"), ("lion", "beta1")]


@pytest.mark.parametrize(("kind", "name"), COMPILED, ids=[f"{kind} {name}" for kind, name in COMPILED])
def test_so_does_the_compiled_pass(kind: str, name: str) -> None:
    cls = registry[kind]
    start, grads = recorded(12)
    x = Variable(start.copy(), name="x", needs_grad=True)
    each = spread(decayed(cls.rule), name)
    optimizer = cls(x, **{name: each})
    for grad in grads:
        wait(optimizer.step(grad=grad))
    hyper = optimizer._hyper(tw.OptimizationState(), None)
    np.testing.assert_allclose(x.data, alone(optimizer.rule, start, grads, hyper), rtol=1e-12)
    held = getattr(optimizer, name)
    np.testing.assert_array_equal(held, each)
    assert held is not each
    with pytest.raises(ValueError, match="read-only"):
        held[0] = 1.0


@pytest.mark.parametrize("layout", ["Fortran", "reversed", "float32", "large", "empty"])
def test_any_layout_of_the_variable_has_its_own_elements(layout: str) -> None:
    shape = (40, 1000) if layout == "large" else (0, 3) if layout == "empty" else (3, 4)
    start, grads = recorded(3, shape)
    rates = np.linspace(0.0, 1.0, start.size).reshape(shape)
    other = {"Fortran": np.asfortranarray(start), "reversed": start[::-1, ::-1].copy()[::-1, ::-1]}
    data = other.get(layout, start.copy())
    if layout == "float32":
        data, grads = data.astype(np.float32), grads.astype(np.float32)
    x = Variable(data, name="x", needs_grad=True)
    optimizer = tw.SGD(x, learning_rate=np.asfortranarray(rates))
    expected = data.copy()
    for grad in grads:
        wait(optimizer.step(grad=grad))
        expected = (expected - rates.astype(data.dtype) * grad).astype(data.dtype)
    np.testing.assert_allclose(x.data, expected, rtol=1e-6 if layout == "float32" else 1e-14, atol=1e-7)


def test_groups_have_arrays_of_their_own_and_numbers_beside_them() -> None:
    start = {"a": np.ones(2), "b": np.ones((2, 2)), "c": np.ones(3)}
    variables = [Variable(value.copy(), name=name, needs_grad=True) for name, value in start.items()]
    rates = np.array([[1.0, 2.0], [3.0, 0.0]])
    groups: list[dict[str, Any]] = [
        {"variables": "b", "learning_rate": rates},
        {"variables": "c", "momentum": 0.0},
    ]
    optimizer = tw.Momentum(variables, learning_rate=0.5, groups=groups)
    for _ in range(2):
        wait(optimizer.step(grad={name: np.ones_like(value) for name, value in start.items()}))
    assert variables[0].data.tolist() == pytest.approx([1 - 0.5 * 2.9] * 2)
    np.testing.assert_allclose(variables[1].data, 1 - rates * 2.9)
    assert variables[2].data.tolist() == [0.0] * 3
    optimizer.groups[0].learning_rate = 1.0  # a number again, and the state stays
    wait(optimizer.step(grad={name: np.zeros_like(value) for name, value in start.items()}))
    np.testing.assert_allclose(variables[1].data, 1 - rates * (2.9 + 0.81 + 0.9))


def test_an_array_can_take_the_place_of_a_number_between_two_steps() -> None:
    start, grads = recorded(9)
    each = np.linspace(0.0, 0.2, SIZE)
    x = Variable(start.copy(), name="x", needs_grad=True)
    optimizer = tw.Nadam(x, learning_rate=0.1)
    rule, state, y = optimizer.rule, None, start
    for t, grad in enumerate(grads, start=1):
        rate: Any = (0.1, each, 0.3)[(t - 1) // 3]
        optimizer.learning_rate = rate
        x.grad = grad
        wait(optimizer.step())
        hyper = rule.hyper(learning_rate=rate)
        state = rule.init(y, hyper) if state is None else state
        y, state = rule.step(y, grad, state, hyper, t=t)
    np.testing.assert_allclose(x.data, y, rtol=1e-12)


def test_wrappers_and_step_sizes() -> None:
    start, grads = recorded(6)
    each = np.linspace(0.0, 0.2, SIZE)
    x = Variable(start.copy(), name="x", needs_grad=True)
    optimizer = tw.SGD(x, learning_rate=each, wrap=["lookahead", "ema"], ema_decay=np.full(SIZE, 0.5), sync_period=2)
    rule, hyper, y = optimizer.rule, optimizer._hyper(tw.OptimizationState(), None), start
    state = rule.init(y, hyper)
    for t, grad in enumerate(grads, start=1):
        wait(optimizer.step(grad=grad))
        y, state = rule.step(y, grad, state, hyper, t=t)
    np.testing.assert_allclose(x.data, y, rtol=1e-13)
    np.testing.assert_allclose(optimizer.eval_params()["x"], rule.evaluate(y, state, hyper), rtol=1e-13)
    plain = Variable(np.ones(SIZE), name="x", needs_grad=True)
    wait(tw.SGD(plain, learning_rate=each).step(step_size=0.25, grad=np.ones(SIZE)))
    assert plain.data.tolist() == [0.75] * SIZE


# ------------------------------------------------------------------ saving


def test_arrays_are_saved_and_come_back(tmp_path: Path) -> None:
    start, grads = recorded(6)
    each = np.linspace(0.0, 0.2, SIZE)
    groups = [{"variables": "y", "beta1": np.array([0.5, 0.9])}]

    def made(**options: Any) -> Any:
        variables = [Variable(start.copy(), name="x", needs_grad=True), Variable(np.ones(2), name="y", needs_grad=True)]
        return tw.Adam(variables, groups=copy.deepcopy(groups), **options)

    def step(optimizer: Any, grad: np.ndarray) -> None:
        wait(optimizer.step(grad={"x": grad, "y": grad[:2]}))

    first = made()
    with pytest.raises(HyperparameterError, match=r"learning_rate is an array of shape \(5,\), and variable 'y'"):
        first.learning_rate = each
    assert first.learning_rate == 0.001
    groups.append({"variables": "x", "learning_rate": each})
    first = made()
    for grad in grads[:3]:
        step(first, grad)
    first.dump(tmp_path)
    snapshot = first.state()
    assert {name for name in snapshot.arrays if name.startswith("hyper")} == {
        "hyperparameters/groups.0.beta1",
        "hyperparameters/groups.1.learning_rate",
    }
    json.dumps(snapshot.meta)
    groups[0]["beta1"] = groups[1]["learning_rate"] = 0.75  # what was saved holds
    for how in ("load", "restore", "config", "copy"):
        second = made()
        if how == "load":
            second.load(tmp_path)
        elif how == "restore":
            second.restore(snapshot)
        elif how == "copy":
            second = copy.deepcopy(first)
        else:
            config = json.loads(json.dumps(first.get_config()))
            second = tw.optimizers.build(config, second.variables)
            second.restore(snapshot)
        np.testing.assert_array_equal(second.groups[1].learning_rate, each)
        with pytest.raises(ValueError, match="read-only"):
            second.groups[1].learning_rate[0] = 1.0
        if how in ("load", "copy"):
            third = copy.deepcopy(first)
            for grad in grads[3:]:
                step(second, grad)
                step(third, grad)
            for one, other in zip(second.variables, third.variables, strict=True):
                np.testing.assert_array_equal(one.data, other.data)


def test_what_does_not_fit_is_a_difference() -> None:
    def over(value: Any, size: int = 2) -> Any:
        return tw.SGD(Variable(np.ones(size), name="x"), learning_rate=value)

    snapshot = over(np.array([0.5, 0.25])).state()
    missing = copy.deepcopy(snapshot)
    del missing.arrays["hyperparameters/learning_rate"]
    strange = copy.deepcopy(snapshot)
    strange.arrays["hyperparameters/beta1"] = np.ones(2)
    other = copy.deepcopy(snapshot)
    other.arrays["hyperparameters/learning_rate"] = np.ones(3)
    wrong = copy.deepcopy(snapshot)
    wrong.arrays["hyperparameters/learning_rate"] = np.array([0.5, -1.0])
    for bad, words in (
        (missing, "missing: hyperparameters/learning_rate"),
        (strange, "unexpected: hyperparameters/beta1"),
        (other, r"learning_rate was \(3,\), x is \(2,\)"),
        (wrong, r"learning_rate\[1\] is -1.0"),
    ):
        optimizer = over(0.125)
        with pytest.raises(StateMismatchError, match=words):
            optimizer.restore(bad)
        assert optimizer.learning_rate == 0.125


def test_a_large_array_is_no_part_of_a_config() -> None:
    optimizer = tw.SGD(learning_rate=np.ones(100))
    config = json.loads(json.dumps(optimizer.get_config()))
    assert config["learning_rate"]["array"]["shape"] == [100]
    with pytest.raises(HyperparameterError, match=r"learning_rate was an array of .*100.*set it on"):
        tw.optimizers.build(config)
    assert repr(optimizer) == "SGD(unbound; learning_rate=array(100,), weight_decay=0.0)"


# ------------------------------------------------------------------ what is refused


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("adam", {"beta1": np.array([0.5, 1.0])}, r"beta1\[1\] is 1.0, outside its range \[0, 1\)"),
    ("adam", {"learning_rate": np.array([[0.5, np.nan]])}, r"learning_rate\[0, 1\] is nan"),
    (
        "adam",
        {"learning_rate": np.array([1, 2])},
        "array of .* int64; give a number, or an array of float32",
    ),
    ("adam", {"learning_rate": np.array([1 + 0j])}, "complex128"),
    ("adam", {"learning_rate": np.array([1.0, None])}, "object"),
    ("adam", {"learning_rate": np.ones(2, np.float16)}, "float16"),
    ("adam", {"learning_rate": np.ma.masked_invalid([1.0, np.nan])}, "masked"),
    ("adam", {"learning_rate": [0.1, 0.2]}, "give a real number"),
    ("lamb", {"learning_rate": np.ones(2)}, "takes a number: it sums over the whole tensor"),
    ("nadam", {"beta1": np.full(2, 0.5)}, "takes a number: a number that goes from step to step depends on it"),
    ("adam", {"wrap": ["lookahead"], "sync_period": np.array([1.0, 2.5])}, r"sync_period\[1\] is 2.5, .*integers"),
]


@pytest.mark.parametrize(("kind", "options", "words"), REFUSED, ids=[str(k) for k in range(len(REFUSED))])
def test_arrays_that_mean_nothing_are_refused(kind: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words):
        registry[kind](**options)


def test_nothing_is_broadcast() -> None:
    x = Variable(np.ones((2, 3)), name="x", needs_grad=True)
    for shape in ((3,), (1, 3), (2, 1), (3, 2), (6,), (1,)):
        with pytest.raises(HyperparameterError, match="nothing is broadcast"):
            tw.SGD(x, learning_rate=np.ones(shape))
        optimizer = tw.SGD(x)
        with pytest.raises(HyperparameterError, match="nothing is broadcast"):
            optimizer.learning_rate = np.ones(shape)
        assert optimizer.learning_rate == 0.01
        rule = rules.sgd
        with pytest.raises(HyperparameterError, match="the parameter"):
            rule.step(x.data, x.data, rule.init(x.data), rule.hyper(learning_rate=np.ones(shape)))


def test_what_float32_cannot_hold_is_refused_before_anything_is_changed() -> None:
    x = Variable(np.ones(2, np.float32), name="x", needs_grad=True)
    grad = np.ones(2, np.float32)
    for options, words in (
        ({"beta2": np.array([0.5, 1 - 1e-9])}, r"beta2\[1\] is 0.999999999, which becomes 1.0, .*in float32"),
        ({"learning_rate": np.array([0.5, 3e38])}, r"\(rate\) does not fit into float32"),
    ):
        optimizer = tw.Adam(x, **options)
        with pytest.raises(HyperparameterError, match=words):
            wait(optimizer.step(grad=grad))
        assert x.data.tolist() == [1.0, 1.0]
        assert optimizer.iterations == 0


def test_without_arrays_the_rule_is_the_rule() -> None:
    assert with_lanes(rules.adam, ()) is rules.adam
    assert with_lanes(rules.adam, ("rate",)) is with_lanes(rules.adam, ("rate",))
    assert with_lanes(rules.adam, ("rate",)).slot_names == ("mean", "mean_square", "each_rate")
