"""One table of rules, which is the registry: adding a rule adds a row."""

from __future__ import annotations

import dis
import math
import typing
from typing import Any

import numpy as np
import pytest

from thalweg import rules
from thalweg.errors import (
    GradientDtypeError,
    GradientShapeError,
    HyperparameterError,
    ParameterError,
    StateMismatchError,
)
from thalweg.lowering.digest import reachable
from thalweg.rules import Rule
from thalweg.rules.ranges import Interval


def every_form() -> dict[str, Rule]:
    """Each rule as it is, with decay, in the form of each library, and with each wrapper."""
    found = {}
    for name, rule in rules.registry.items():
        found[name] = rule
        found[f"{name}, decayed"] = rules.decayed(rule)
        found |= {f"{name} of {library}": rules.decayed(rule).convention(library) for library in rule.conventions}
        if rule.evaluate is None:
            found[f"{name}, lookahead"] = rules.lookahead(rules.decayed(rule))
            found[f"{name}, averaged"] = rules.averaged(rules.decayed(rule))
    centered = rules.rmsprop.form(centered=True)
    return found | {"rmsprop, centered": centered, "rmsprop, both": centered.form(with_momentum=True)}


FORMS = every_form()
every_rule = pytest.mark.parametrize("rule", list(rules.registry.values()), ids=list(rules.registry))
in_every_form = pytest.mark.parametrize("rule", list(FORMS.values()), ids=list(FORMS))


def recorded(steps: int, size: int, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray]:
    print("seed 5")
    rng = np.random.default_rng(5)
    grads = rng.normal(0.3, 1.0, (steps, size))
    grads[rng.random(grads.shape) < 0.1] = 0.0
    return np.linspace(-1.0, 1.0, size).astype(dtype), grads.astype(dtype)


def run(rule: Rule, x: np.ndarray, grads: np.ndarray, hyper: Any = None) -> tuple[np.ndarray, Any]:
    state = rule.init(x, hyper)
    for t, g in enumerate(grads, start=1):
        x, state = rule.step(x, g, state, hyper, t=t)
    return x, state


# ------------------------------------------------------------------ the table


def test_the_registry_has_every_rule_of_the_package() -> None:
    public = {name: value for name, value in vars(rules).items() if isinstance(value, Rule)}
    assert public == rules.registry
    assert set(public) <= set(rules.__all__)
    assert all(rule.name == name for name, rule in rules.registry.items())


@every_rule
def test_a_rule_says_what_it_is(rule: Rule) -> None:
    assert rule.doc
    assert rule.source
    assert "learning_rate" in rule.hyperparameters
    assert rule.decay in ("coupled", "decoupled")
    for option, values in rule.options.items():
        assert len(set(map(repr, values))) == len(values) > 1
        assert rule.chosen.get(option, values[0]) == values[0], "the rule's own is the first"


@in_every_form
def test_every_hyperparameter_declares_range_default_and_meaning(rule: Rule) -> None:
    assert list(rule.hyperparameters) == list(rule.hyper._fields)
    for name, declared in rule.hyperparameters.items():
        assert declared.name == name
        assert declared.default in declared.interval
        assert declared.doc
    assert rule.check(rule.hyper()) == rule.hyper()
    assert all(type(value) is float for value in rule.check(rule.hyper()))


def texts(rule: Rule) -> list[Any]:
    """The functions that are compiled for one element, down to what ``rules.arithmetic`` means."""
    several = [rule.update, *([rule.measure] if rule.measure is not None else [])]
    functions = {f for text in several for f in reachable(text)}
    known = ("thalweg.rules.arithmetic", "thalweg.rules.namespaces", "thalweg.rules.declaring")
    return [f for f in functions if f.__module__ not in known and not f.__module__.startswith("numpy")]


def literals(function: Any) -> list[Any]:
    values = [i.argval for i in dis.get_instructions(function) if i.opname.startswith(("LOAD_CONST", "LOAD_SMALL"))]
    return [value for value in values if isinstance(value, int | float | complex)]


@in_every_form
def test_a_text_holds_no_number_literals(rule: Rule) -> None:
    assert [(f.__name__, literals(f)) for f in texts(rule) if literals(f)] == []


def test_the_check_for_literals_sees_one() -> None:
    def text(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        return param - h.learning_rate * grad * 2.0, slots

    assert literals(text) == [2.0]
    assert texts(Rule("literal", rules.NoSlots, rules.sgd.hyper, text)) == [text]


# ------------------------------------------------------------------ the pure face


@in_every_form
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (2, 0, 3)], ids=str)
def test_shapes_stay(rule: Rule, shape: tuple[int, ...]) -> None:
    x, g = np.ones(shape), np.full(shape, 0.5)
    state = rule.init(x)
    for t in (1, 2):
        x, state = rule.step(x, g, state, t=t)
    assert type(x) is np.ndarray
    assert x.shape == shape
    assert all(np.shape(slot) == shape for slot in state[: len(rule.slot_names)])


@in_every_form
def test_a_rule_is_elementwise_or_measures(rule: Rule) -> None:
    x, grads = recorded(20, 12)
    whole, _ = run(rule, x, grads)
    parts = np.concatenate([run(rule, x[:5], grads[:, :5])[0], run(rule, x[5:], grads[:, 5:])[0]])
    assert np.array_equal(whole, parts) == (rule.measure is None)


@in_every_form
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_a_dtype_stays_and_the_state_has_it(rule: Rule, dtype: Any) -> None:
    x, state = run(rule, *recorded(5, 8, dtype))
    assert x.dtype == dtype
    assert type(state) is rule.state
    assert state._fields == (*rule.slot_names, *rule.carried_names)
    for slot in state[: len(rule.slot_names)]:
        assert slot.dtype == dtype
    assert all(type(number) is float for number in state[len(rule.slot_names) :])


@in_every_form
def test_it_changes_nothing_that_it_is_given(rule: Rule) -> None:
    x, grads = recorded(3, 8)
    for array in (x, grads):
        array.setflags(write=False)
    state = rule.init(x)
    for t, g in enumerate(grads, start=1):
        for value in state:
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
        kept = [np.array(value) for value in state]
        new, moved = rule.step(x, g, state, t=t)
        assert all(np.array_equal(value, before) for value, before in zip(state, kept, strict=True))
        arrays = [new, *(value for value in moved if isinstance(value, np.ndarray))]
        given = [x, g, *(value for value in state if isinstance(value, np.ndarray))]
        assert not any(np.shares_memory(a, b) for a in arrays for b in given)
        assert not any(np.shares_memory(a, b) for k, a in enumerate(arrays) for b in arrays[:k])
        x, state = new, moved


@in_every_form
def test_it_is_a_function_of_what_it_is_given(rule: Rule) -> None:
    x, grads = recorded(4, 6)
    _, state = run(rule, x, grads[:3])
    first, again = (rule.step(x, grads[3], state, t=4) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert all(np.array_equal(a, b) for a, b in zip(first[1], again[1], strict=True))


@in_every_form
def test_zero_gradients_from_the_first_step_leave_the_parameter_alone(rule: Rule) -> None:
    """Adamax divided by zero at its first step elsewhere. Weight decay is another matter, and is switched off."""
    x = np.array([1.0, -2.0, 0.0, 1e-30])
    hyper = rule.hyper(**({"weight_decay": 0.0} if "weight_decay" in rule.hyperparameters else {}))
    moved, _ = run(rule, x, np.zeros((7, 4)), hyper)
    if rule.name == "schedule_free_adamw":
        np.testing.assert_allclose(moved, x, rtol=1e-15)  # y is put together of z and x again
    else:
        np.testing.assert_array_equal(moved, x)


@in_every_form
def test_a_learning_rate_of_zero_leaves_the_parameter_alone(rule: Rule) -> None:
    x, grads = recorded(7, 6)
    moved, _ = run(rule, x, grads, rule.hyper(learning_rate=0.0))
    if rule.name == "rprop":  # whose steps begin there: at the least that they may be, as PyTorch's
        least, _ = run(rule, x, grads, rule.hyper(learning_rate=rule.hyper().min_step))
        np.testing.assert_array_equal(moved, least)
        assert (moved != x).all()
        return
    np.testing.assert_allclose(moved, x, rtol=1e-15)


# ------------------------------------------------------------------ ranges


def outside(interval: Interval) -> list[float]:
    """The nearest numbers that do not belong to it, and one far away."""
    found = []
    if math.isfinite(interval.low):
        found += [interval.low - 1, np.nextafter(interval.low, -np.inf) if interval.closed_low else interval.low]
    if math.isfinite(interval.high):
        found += [interval.high + 1, np.nextafter(interval.high, np.inf) if interval.closed_high else interval.high]
    return [*map(float, found), *([1.5] if interval.whole else [])]


@in_every_form
def test_hyperparameters_out_of_range_are_refused(rule: Rule) -> None:
    x = np.zeros(2)
    state = rule.init(x)
    for name, declared in rule.hyperparameters.items():
        for value in [
            *outside(declared.interval),
            math.nan,
            math.inf,
            -math.inf,
            "0.1",
            True,
            None,
            1j,
            [0.1],
            10**400,
        ]:
            assert not isinstance(value, float) or value not in declared.interval
            hyper = rule.hyper(**{name: value})
            with pytest.raises(HyperparameterError, match=rf"^{rule.name}: {name} is ") as caught:
                rule.step(x, x, state, hyper)
            assert caught.value.details["name"] == name
            with pytest.raises(HyperparameterError, match=name):
                rule.init(x, hyper)


@every_rule
def test_what_peers_accepted_is_refused(rule: Rule) -> None:
    """A negative rate ascends; β = 1.5 explodes; ε = 0 divides zero by zero."""
    bad = {"learning_rate": -1e-3, "beta1": 1.5, "beta2": 1.0, "rho": 1.5, "momentum": 1.0, "epsilon": 0.0}
    for name, value in bad.items():
        if name in rule.hyperparameters:
            assert value not in rule.hyperparameters[name].interval, name


def test_what_leaves_its_range_when_rounded_is_refused() -> None:
    """1 − 1e-9 is 1 in float32, where a mean square would never be forgotten."""
    for dtype, refused in ((np.float32, True), (np.float64, False)):
        x = np.zeros(2, dtype)
        for hyper, message in (
            (
                rules.adam.hyper(beta2=1 - 1e-9),
                r"beta2 = 0.999999999 becomes 1.0 in float32, outside its range \[0, 1\)",
            ),
            (rules.adam.hyper(epsilon=1e-60), "epsilon = 1e-60 becomes 0.0 in float32"),
            (rules.adam.hyper(learning_rate=1e39), "learning_rate = 1e[+]39 becomes inf in float32"),
            (rules.adam.hyper(learning_rate=3e38), "does not fit into float32"),  # η/(1 − β₁)
        ):
            if refused:
                with pytest.raises(HyperparameterError, match=message):
                    rules.adam.step(x, x, rules.adam.init(x), hyper)
            else:
                rules.adam.step(x, x, rules.adam.init(x), hyper)


def test_some_values_can_be_checked_for_the_dtype_they_will_be_used_in() -> None:
    adam, single, double = rules.adam, np.dtype("f4"), np.dtype("f8")
    values = {"beta2": 1 - 1e-9}
    adam.check_rounded(values, double)
    with pytest.raises(HyperparameterError, match=r"beta2 = 0.999999999 becomes 1.0 in float32") as caught:
        adam.check_rounded(values, single)
    assert caught.value.details == {"owner": "adam", "name": "beta2", "value": 1 - 1e-9}
    for wrong, message in (({"epsilon": 1e-60}, "becomes 0.0"), ({"learning_rate": 1e39}, "becomes inf")):
        adam.check_rounded(adam.hyper(**wrong)._asdict(), double)
        with pytest.raises(HyperparameterError, match=message):
            adam.check_rounded(adam.hyper(**wrong)._asdict(), single)


def test_what_a_sum_makes_too_large_is_refused() -> None:
    """LAMB's rate times ‖θ‖/‖r‖, with a small r."""
    x, g = np.full(2, 1e18, np.float32), np.full(2, 1e-12, np.float32)
    with pytest.raises(HyperparameterError, match="does not fit into float32"):
        rules.lamb.step(x, g, rules.lamb.init(x), rules.lamb.hyper(learning_rate=1e20))


# ------------------------------------------------------------------ what is refused


@every_rule
@pytest.mark.parametrize("shape", [(1,), (3, 3), (), (3, 1), (2,)], ids=str)
def test_a_gradient_is_never_broadcast(rule: Rule, shape: tuple[int, ...]) -> None:
    x = np.zeros(3)
    with pytest.raises(GradientShapeError, match=r"parameter \(3,\)"):
        rule.step(x, np.zeros(shape), rule.init(x))


@every_rule
def test_a_gradient_is_never_converted(rule: Rule) -> None:
    x = np.zeros(3)
    for dtype in (np.float32, np.int64, np.complex128, object):
        with pytest.raises(GradientDtypeError, match="parameter float64"):
            rule.step(x, np.zeros(3, dtype), rule.init(x))


@every_rule
@pytest.mark.parametrize("dtype", [np.int64, np.complex128, object, np.float16, np.longdouble, bool, "U1"], ids=str)
def test_parameters_that_would_be_truncated_are_refused(rule: Rule, dtype: Any) -> None:
    with pytest.raises(ParameterError, match="float32 and float64 can be updated"):
        rule.init(np.zeros(2, dtype))
    fine = np.zeros(2)
    with pytest.raises(ParameterError):
        rule.step(np.zeros(2, dtype), fine, rule.init(fine))


@every_rule
def test_parameters_that_are_no_plain_arrays_are_refused(rule: Rule) -> None:
    for param in ([1.0, 2.0], 1.0, None, np.ma.masked_array([1.0, 2.0], [True, False])):
        with pytest.raises(ParameterError, match="give a NumPy array"):
            rule.init(param)  # type: ignore[arg-type]


@every_rule
def test_state_of_another_rule_shape_or_dtype_is_refused(rule: Rule) -> None:
    x = np.zeros(3)
    other = rules.amsgrad if rule.name != "amsgrad" else rules.adam
    for state in (other.init(x), (x, x), None):
        with pytest.raises(StateMismatchError, match=f"{rule.name}: the state is"):
            rule.step(x, x, state)
    for name in rule.slot_names:
        for slot, message in (
            (np.zeros(2), r"is \(2,\), parameter \(3,\)"),
            (np.zeros(3, np.float32), "is float32, parameter float64"),
            ([0.0, 0.0, 0.0], r"is \(3,\)"),
        ):
            with pytest.raises(StateMismatchError, match=f"slot {name} {message}"):
                rule.step(x, x, rule.init(x)._replace(**{name: slot}))


@every_rule
def test_hyperparameters_of_another_rule_are_refused(rule: Rule) -> None:
    x = np.zeros(3)
    other = rules.rprop if rule.name != "rprop" else rules.lion
    for hyper in (other.hyper(), (0.1, 0.9), 0.1, rules.averaged(rules.sgd).hyper()):
        with pytest.raises(HyperparameterError, match=rf"give rules\.{rule.name}\.hyper"):
            rule.step(x, x, rule.init(x), hyper)


@pytest.mark.parametrize("t", [float("nan"), 1.5, 2.0, "1", None, 0, -1])
def test_a_step_number_is_an_integer_from_1(t: Any) -> None:
    x = np.zeros(3)
    with pytest.raises(StateMismatchError, match="from 1"):
        rules.adam.step(x, x, rules.adam.init(x), t=t)


def test_any_integer_type_counts_steps() -> None:
    x, g = np.zeros(3), np.ones(3)
    state = rules.adam.init(x)
    np.testing.assert_array_equal(rules.adam.step(x, g, state, t=np.int8(3))[0], rules.adam.step(x, g, state, t=3)[0])


def test_another_byte_order_is_as_good() -> None:
    x, g = np.array([1.0, 2.0], ">f8"), np.array([0.5, -0.5], ">f8")
    moved, state = rules.adam.step(x, g, rules.adam.init(x))
    expected, _ = rules.adam.step(x.astype(float), g.astype(float), rules.adam.init(x.astype(float)))
    np.testing.assert_array_equal(moved, expected)
    assert moved.dtype.isnative
    assert state.mean.dtype.isnative


# ------------------------------------------------------------------ numbers that others printed

KERAS = {
    "amsgrad": {"learning_rate": 1e-3, "epsilon": 1e-7},
    "adadelta": {"learning_rate": 1.0, "rho": 0.8, "epsilon": 1e-6},
    "rmsprop": {"learning_rate": 1e-3, "rho": 0.9, "epsilon": 1e-7},
    "adamax": {"learning_rate": 0.2, "beta1": 0.85, "beta2": 0.95, "epsilon": 1e-6},
    "adagrad": {"learning_rate": 0.2, "initial_accumulator": 0.3, "epsilon": 1e-6},
}
PRINTED = {  # the last element after each step
    "amsgrad": [0.999, 0.9982, 0.9974, 0.9965, 0.9955],
    "adadelta": [0.9978, 0.9947, 0.9915, 0.9882, 0.9849],
    "rmsprop": [0.9967, 0.9933, 0.9908, 0.9885, 0.9864],
    "adamax": [0.8, 0.691, 0.5466, 0.3848, 0.2126],
    "adagrad": [0.9963, 0.8209, 0.6891, 0.579, 0.4825],
}


@pytest.mark.parametrize("name", KERAS)
def test_keras_prints_these_numbers(name: str) -> None:
    rule = rules.registry[name].convention("keras")
    rule = rule.form(centered=True) if name == "rmsprop" else rule
    hyper = rule.hyper(**KERAS[name])
    x = np.ones(10)
    state, points = rule.init(x, hyper), []
    for t, g in enumerate([np.full(10, 0.01), *[np.arange(1, 11) / 10] * 4], start=1):
        x, state = rule.step(x, g, state, hyper, t=t)
        points.append(x[-1])
    np.testing.assert_allclose(points, PRINTED[name], rtol=0, atol=1.4e-4 if name == "amsgrad" else 6e-5)


def test_pycmtensor_has_this_check() -> None:
    """y = βx + 3, β = 2, η = 1, x = 4: the new β is −2, then y = −5."""
    rule = rules.sgd.convention("pycmtensor")
    beta, _ = rule.step(np.array([2.0]), np.array([4.0]), rule.init(np.zeros(1)), rule.hyper(learning_rate=1.0))
    assert beta * 4 + 3 == -5


def test_gradient_descent_takes_the_gradient_for_the_step() -> None:
    x = np.array([1500.0, 1600.0])
    np.testing.assert_array_equal(
        rules.gradient_descent.step(x, np.array([3.0, -4.0]), rules.gradient_descent.init(x))[0], [1497, 1604]
    )


@pytest.mark.parametrize("rule", [rules.adagrad, rules.adagrad.form(epsilon_form="inside")], ids=["outside", "inside"])
def test_where_adagrads_epsilon_is_matters_for_tiny_gradients(rule: Rule) -> None:
    hyper = rule.hyper(learning_rate=0.01, epsilon=1e-7)
    x, _ = run(rule, np.zeros(1), np.full((10, 1), 1e-6), hyper)
    np.testing.assert_allclose(x, -0.0474663 if rule is rules.adagrad else -0.000316219, rtol=1e-5)


def test_annotations_are_what_declarations_are_read_from() -> None:
    class Bare(typing.NamedTuple):
        learning_rate: float = 0.1

    with pytest.raises(TypeError, match="annotate learning_rate as Annotated"):
        _ = Rule("bare", rules.NoSlots, Bare, rules.sgd.update).hyperparameters
