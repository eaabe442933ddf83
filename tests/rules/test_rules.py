"""One table of rules: adding a rule adds a row."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import torch

from thalweg import rules
from thalweg.errors import (
    GradientDtypeError,
    GradientShapeError,
    HyperparameterError,
    ParameterError,
    StateMismatchError,
)
from thalweg.rules import Rule

ALL = [
    rules.gradient_descent,
    rules.sgd,
    rules.momentum,
    rules.nesterov,
    rules.adagrad,
    rules.rmsprop,
    rules.adadelta,
    rules.adam,
    rules.adamax,
]
IDS = [rule.name for rule in ALL]

every_rule = pytest.mark.parametrize("rule", ALL, ids=IDS)


def paper(name: str, grads: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The papers' formulas with the design's defaults, written without looking at the rules' texts."""
    x = x.copy()
    first, second = np.zeros_like(x), np.zeros_like(x)
    for t, g in enumerate(grads, start=1):
        if name == "gradient_descent":
            x -= g
        elif name == "sgd":
            x -= 0.01 * g
        elif name == "momentum":
            first = 0.9 * first - 0.01 * g
            x += first
        elif name == "nesterov":
            first = 0.9 * first - 0.01 * g
            x += 0.9 * first - 0.01 * g
        elif name == "adagrad":
            first = first + g**2
            x -= 0.01 * g / (np.sqrt(first) + 1e-8)
        elif name == "rmsprop":
            first = 0.9 * first + 0.1 * g**2
            x -= 0.001 * g / (np.sqrt(first) + 1e-8)
        elif name == "adadelta":
            first = 0.95 * first + 0.05 * g**2
            dx = -np.sqrt(second + 1e-6) / np.sqrt(first + 1e-6) * g
            second = 0.95 * second + 0.05 * dx**2
            x += dx
        elif name == "adam":
            first = 0.9 * first + 0.1 * g
            second = 0.999 * second + 0.001 * g**2
            x -= 0.001 * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        elif name == "adamax":
            first = 0.9 * first + 0.1 * g
            second = np.maximum(0.999 * second, np.abs(g) + 1e-8)
            x -= 0.002 / (1 - 0.9**t) * first / second
        else:
            raise AssertionError(name)
    return x


TORCH = {
    "gradient_descent": lambda p: torch.optim.SGD(p, lr=1.0),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01, eps=1e-8),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.001, alpha=0.9, eps=1e-8),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0, rho=0.95, eps=1e-6),
    "adam": lambda p: torch.optim.Adam(p, lr=0.001, eps=1e-8),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.002, eps=1e-8),
}


def recorded(seed: int, scale: float, steps: int = 1000, size: int = 24) -> np.ndarray:
    """A gradient sequence with drift, noise and some exact zeros."""
    rng = np.random.default_rng(seed)
    grads = rng.normal(0.3, 1.0, (steps, size)) * scale
    grads[rng.random(grads.shape) < 0.1] = 0.0
    return grads


def run(rule: Rule, grads: np.ndarray, x: np.ndarray) -> np.ndarray:
    slots = rule.init(x)
    for t, g in enumerate(grads, start=1):
        x, slots = rule.step(x, g, slots, t=t)
    return x


@every_rule
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_a_thousand_steps_equal_torch_and_the_paper(rule: Rule, scale: float) -> None:
    print("seed 5")
    grads = recorded(5, scale, steps=1000 if scale == 1.0 else 200)
    start = np.linspace(-1.0, 1.0, grads.shape[1])
    ours = run(rule, grads, start)

    theirs = torch.tensor(start.copy(), requires_grad=True)
    optimizer = TORCH[rule.name]([theirs])
    for g in grads:
        theirs.grad = torch.tensor(g)
        optimizer.step()
    tolerance = 1e-12 * max(1.0, float(np.abs(ours).max()))
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=tolerance)
    np.testing.assert_allclose(ours, paper(rule.name, grads, start), rtol=0, atol=tolerance)


@every_rule
def test_float32_stays_float32_and_is_as_close_as_it_can_be(rule: Rule) -> None:
    grads = recorded(6, 1.0, steps=50)
    start = np.linspace(-1.0, 1.0, grads.shape[1])
    ours = run(rule, grads.astype(np.float32), start.astype(np.float32))
    assert ours.dtype == np.float32
    exact = run(rule, grads, start)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=3e-6 * max(1.0, float(np.abs(exact).max())))


@every_rule
def test_the_pure_face_changes_nothing_that_it_is_given(rule: Rule) -> None:
    x, g = np.array([1.0, 2.0]), np.array([0.5, -0.5])
    slots = rule.init(x)
    kept = x.copy(), g.copy(), [slot.copy() for slot in slots]
    new, moved = rule.step(x, g, slots)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(g, kept[1])
    for slot, before in zip(slots, kept[2], strict=True):
        np.testing.assert_array_equal(slot, before)
    assert type(moved) is rule.slots
    assert not np.shares_memory(new, x)


@every_rule
def test_zero_gradients_from_the_first_step_leave_the_parameter_alone(rule: Rule) -> None:
    """Adamax divided by zero at its first step elsewhere."""
    x = np.array([1.0, -2.0])
    np.testing.assert_array_equal(run(rule, np.zeros((3, 2)), x), x)


@every_rule
def test_a_text_holds_no_number_literals(rule: Rule) -> None:
    source = inspect.getsource(rule.update)
    body = re.sub(r'""".*?"""', "", source, flags=re.S)
    assert not re.search(r"(?<![\w.])\d", body), body


@every_rule
def test_every_hyperparameter_declares_range_default_and_meaning(rule: Rule) -> None:
    assert list(rule.hyperparameters) == list(rule.hyper._fields)
    assert "learning_rate" in rule.hyperparameters
    for declared in rule.hyperparameters.values():
        assert declared.default in declared.interval
        assert declared.doc
    assert rule.source


def test_defaults_are_the_designs() -> None:
    rates = {rule.name: rule.hyperparameters["learning_rate"].default for rule in ALL}
    assert rates == {
        "gradient_descent": 1.0,
        "sgd": 0.01,
        "momentum": 0.01,
        "nesterov": 0.01,
        "adagrad": 0.01,
        "rmsprop": 0.001,
        "adadelta": 1.0,
        "adam": 0.001,
        "adamax": 0.002,
    }


KERAS = np.vstack([np.full(10, 0.01), *[np.arange(1, 11) / 10] * 4])


def path(rule: Rule, hyper: object, start: float = 0.0) -> np.ndarray:
    """The parameter after each of Keras's five steps, from ones."""
    x, slots = np.ones(10), rule.init(np.ones(10))
    slots = type(slots)(*(slot + start for slot in slots))
    points = []
    for t, g in enumerate(KERAS, start=1):
        x, slots = rule.step(x, g, slots, hyper, t=t)
        points.append(x)
    return np.array(points)


def test_keras_own_numbers() -> None:
    adam = path(rules.adam, rules.adam.hyper(learning_rate=1e-3, epsilon=1e-7))
    np.testing.assert_allclose(adam, np.tile([[0.999], [0.9982], [0.9974], [0.9965], [0.9955]], 10), atol=1.4e-4)
    adadelta = path(rules.adadelta, rules.adadelta.hyper(learning_rate=1, rho=0.8, epsilon=1e-6))
    np.testing.assert_allclose(adadelta, np.tile([[0.9978], [0.9947], [0.9915], [0.9882], [0.9849]], 10), atol=6e-5)
    adamax = path(rules.adamax, rules.adamax.hyper(learning_rate=0.2, beta1=0.85, beta2=0.95, epsilon=1e-6))
    np.testing.assert_allclose(adamax[0], 0.8, atol=6e-5)
    np.testing.assert_allclose(
        adamax[1], [0.6827, 0.6873, 0.6888, 0.6896, 0.6901, 0.6904, 0.6906, 0.6908, 0.6909, 0.691], atol=6e-5
    )
    np.testing.assert_allclose(
        adamax[4], [0.1933, 0.204, 0.2076, 0.2094, 0.2105, 0.2112, 0.2117, 0.2121, 0.2124, 0.2126], atol=6e-5
    )
    adagrad = path(rules.adagrad, rules.adagrad.hyper(learning_rate=0.2, epsilon=1e-6), start=0.3)
    np.testing.assert_allclose(adagrad[0], 0.9963, atol=6e-5)
    np.testing.assert_allclose(
        adagrad[4], [0.856, 0.7422, 0.6604, 0.6037, 0.5644, 0.5367, 0.5168, 0.5021, 0.491, 0.4825], atol=6e-5
    )


def test_adagrads_epsilon_is_outside_the_root_where_tiny_gradients_tell() -> None:
    x = np.zeros(1)
    hyper = rules.adagrad.hyper(learning_rate=0.01, epsilon=1e-7)
    slots = rules.adagrad.init(x)
    for t in range(1, 11):
        x, slots = rules.adagrad.step(x, np.full(1, 1e-6), slots, hyper, t=t)
    expected = -sum(0.01 * 1e-6 / (1e-6 * k**0.5 + 1e-7) for k in range(1, 11))
    np.testing.assert_allclose(x, expected, rtol=1e-12)
    assert abs(float(x[0])) > 0.01  # inside the root it would have been .00008


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", -1e-3),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", "0.1"),
        ("learning_rate", True),
        ("beta1", 1.5),
        ("beta2", 1.0),
        ("beta2", -0.1),
        ("epsilon", 0.0),
        ("epsilon", None),
    ],
)
def test_hyperparameters_out_of_range_are_refused(name: str, value: object) -> None:
    x = np.zeros(2)
    with pytest.raises(HyperparameterError, match=name):
        rules.adam.step(x, x, rules.adam.init(x), rules.adam.hyper(**{name: value}))


def test_a_gradient_is_never_broadcast_or_converted() -> None:
    x = np.zeros(3)
    slots = rules.adam.init(x)
    for shape in [(1,), (3, 3), ()]:
        with pytest.raises(GradientShapeError):
            rules.adam.step(x, np.zeros(shape), slots)
    with pytest.raises(GradientDtypeError):
        rules.adam.step(x, np.zeros(3, np.float32), slots)


@pytest.mark.parametrize("dtype", [np.int64, np.complex128, object, np.float16, np.longdouble])
def test_parameters_that_would_be_truncated_are_refused(dtype: type) -> None:
    with pytest.raises(ParameterError):
        rules.sgd.init(np.zeros(2, dtype))


def test_state_of_another_shape_is_refused() -> None:
    with pytest.raises(StateMismatchError, match="mean"):
        rules.adam.step(np.zeros(3), np.zeros(3), rules.adam.init(np.zeros(2)))
    with pytest.raises(StateMismatchError, match="from 1"):
        rules.adam.step(np.zeros(3), np.zeros(3), rules.adam.init(np.zeros(3)), t=0)


def test_hyperparameters_of_another_rule_are_refused() -> None:
    x = np.zeros(3)
    for hyper in (rules.momentum.hyper(), (0.1, 0.9), 0.1):
        with pytest.raises(HyperparameterError, match=r"give rules\.adam\.hyper"):
            rules.adam.step(x, x, rules.adam.init(x), hyper)
    with pytest.raises(HyperparameterError, match=r"give rules\.momentum\.hyper"):  # as many, read by position
        rules.momentum.step(x, x, rules.momentum.init(x), rules.adagrad.hyper())


@pytest.mark.parametrize("t", [float("nan"), 1.5, 2.0, "1", None, 0, -1])
def test_a_step_number_is_an_integer_from_1(t: object) -> None:
    x = np.zeros(3)
    with pytest.raises(StateMismatchError, match="from 1"):
        rules.adam.step(x, x, rules.adam.init(x), t=t)  # type: ignore[arg-type]


def test_any_integer_type_counts_steps() -> None:
    x, g = np.zeros(3), np.ones(3)
    slots = rules.adam.init(x)
    np.testing.assert_array_equal(rules.adam.step(x, g, slots, t=np.int8(3))[0], rules.adam.step(x, g, slots, t=3)[0])


def test_state_of_another_rule_or_dtype_is_refused() -> None:
    x = np.zeros(3)
    for slots in (rules.momentum.init(x), (x, x), None):
        with pytest.raises(StateMismatchError, match="adam: the state is"):
            rules.adam.step(x, x, slots)
    with pytest.raises(StateMismatchError, match="slot mean_square is float32, parameter float64"):
        rules.adam.step(x, x, rules.adam.init(x)._replace(mean_square=np.zeros(3, np.float32)))
    with pytest.raises(StateMismatchError, match="slot velocity"):
        rules.momentum.step(x, x, rules.momentum.slots([0.0, 0.0, 0.0]))
