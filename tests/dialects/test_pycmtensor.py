"""The page's names, arguments, defaults and formulas; and the defects of its library, each a test."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from tests.references import oracles
from thalweg.errors import (
    HyperparameterError,
    MissingGradientError,
    NonFiniteGradientError,
    OptimizerError,
    ParameterError,
)
from thalweg.optimizers.pytensor import symbolic

pytensor = pytest.importorskip("pytensor")
pt = importlib.import_module("pytensor.tensor")
page = importlib.import_module("thalweg.dialects.pycmtensor")

FAST = "FAST_COMPILE"


class Beta:
    """As the page's documentation describes it: name, value, lb, ub, status."""

    def __init__(self, name: str, value: Any = 0.0, lb: Any = None, ub: Any = None, status: Any = 0) -> None:
        self.name, self.lb, self.ub, self.status = name, lb, ub, status
        self.shared_var = pytensor.shared(np.array(value, np.float64), name=name)

    @property
    def value(self) -> Any:
        return self.shared_var.get_value()


class Called:
    """A parameter that gives its shared variable when it is called."""

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.inner = name, pytensor.shared(np.array(value, np.float64))

    def __call__(self) -> Any:
        return self.inner


ALL = {
    "Adam": {"b1": 0.9, "b2": 0.999},
    "Adamax": {"b1": 0.9, "b2": 0.999},
    "Adadelta": {"rho": 0.95},
    "RMSProp": {"rho": 0.9},
    "Momentum": {"momentum": 0.9, "nesterov": True},
    "AdaGrad": {},
    "SGD": {},
}
RATES = dict.fromkeys(ALL, 0.001) | {"Adadelta": 1.0, "AdaGrad": 1.0}
every = pytest.mark.parametrize("name", ALL)


def shared(value: Any, name: str | None = "x", dtype: str = "float64") -> Any:
    return pytensor.shared(np.array(value, dtype), name=name)


def stepper(optimizer: Any, params: list[Any], variables: list[Any], **rate: Any) -> Any:
    inputs = [variable.type() for variable in variables]
    cost = sum((v * g).sum() for v, g in zip(variables, inputs, strict=True))
    return pytensor.function(inputs, updates=optimizer.update(cost, params, **rate), mode=FAST)


# ------------------------------------------------------------------ the page


def test_the_page_s_names_are_there() -> None:
    assert set(page.__all__) == {"Optimizer", *ALL}
    assert all(issubclass(getattr(page, name), page.Optimizer) for name in ALL)


@every
def test_arguments_and_defaults_are_the_page_s(name: str) -> None:
    parameters = inspect.signature(getattr(page, name)).parameters
    assert list(parameters) == ["params", *ALL[name], "kwargs"]
    assert {key: parameters[key].default for key in ALL[name]} == ALL[name]
    update = inspect.signature(getattr(page, name).update).parameters
    assert list(update) == ["self", "cost", "params", "lr"]
    assert update["lr"].default == RATES[name]
    own = list(ALL[name].values())
    assert getattr(page, name)([shared(1.0)], *own).name == name


def test_the_base_class_is_the_page_s() -> None:
    parameters = inspect.signature(page.Optimizer).parameters
    assert [(p.name, p.default) for p in parameters.values()][2:] == [
        ("b1", 0.0),
        ("b2", 0.0),
        ("m", 0.0),
        ("rho", 0.0),
        ("epsilon", 1e-08),
    ]
    x = shared(1.0)
    base = page.Optimizer([x], "mine", 0.5, 0.25, 0.75, 0.125, 1e-6)
    assert (base.name, base.params) == ("mine", [x])
    assert (base.b1, base.b2, base.m, base.rho, base.epsilon) == (0.5, 0.25, 0.75, 0.125, 1e-6)


FORMULAS = [
    ("Adam", "adam", {}, {}),
    ("Adam", "adam", {"b1": 0.5, "b2": 0.75, "epsilon": 1e-3}, {"beta1": 0.5, "beta2": 0.75, "epsilon": 1e-3}),
    ("Adamax", "adamax", {}, {}),
    ("Adadelta", "adadelta", {}, {}),
    ("RMSProp", "rmsprop", {}, {}),
    ("RMSProp", "rmsprop", {"rho": 0.5, "epsilon": 1e-4}, {"rho": 0.5, "epsilon": 1e-4}),
    ("Momentum", "momentum", {}, {}),
    ("Momentum", "momentum", {"nesterov": False, "momentum": 0.5}, {"nesterov": False, "momentum": 0.5}),
    ("AdaGrad", "adagrad", {}, {}),
    ("SGD", "sgd", {}, {}),
    # Zero is a number like any other: "zero hyperparameters silently update nothing"
    ("Adam", "adam", {"b1": 0.0, "b2": 0.0}, {"beta1": 0.0, "beta2": 0.0}),
    ("Adamax", "adamax", {"b1": 0, "b2": 0}, {"beta1": 0.0, "beta2": 0.0}),
    ("Adadelta", "adadelta", {"rho": 0.0}, {"rho": 0.0}),
    ("RMSProp", "rmsprop", {"rho": 0}, {"rho": 0.0}),
    ("Momentum", "momentum", {"momentum": 0.0}, {"momentum": 0.0}),
]


@pytest.mark.parametrize(("name", "rule", "arguments", "hyper"), FORMULAS)
def test_a_thousand_steps_are_the_page_s_formula(
    name: str, rule: str, arguments: dict[str, Any], hyper: dict[str, Any]
) -> None:
    print("seed 11")
    start, grads = oracles.recorded(11)
    x = shared(start)
    step = stepper(getattr(page, name)([x], **arguments), [x], [x])
    points = []
    for grad in grads:
        step(grad)
        points.append(x.get_value())
    expected = oracles.trajectory("pycmtensor", rule, start, grads, **hyper)
    assert oracles.distance(np.array(points), expected) <= 1e-12


@pytest.mark.parametrize("rate", [0.0, 0.25, 3])
def test_the_rate_is_the_one_given(rate: float) -> None:
    start, grads = oracles.recorded(12, steps=20)
    x = shared(start)
    step = stepper(page.Adam([x]), [x], [x], lr=rate)
    for grad in grads:
        step(grad)
    expected = oracles.trajectory("pycmtensor", "adam", start, grads, learning_rate=rate)
    np.testing.assert_allclose(x.get_value(), expected[-1], rtol=1e-12)


LENGTHS = {"SGD": 4, "AdaGrad": 8, "Momentum": 8, "RMSProp": 8, "Adadelta": 12, "Adam": 13, "Adamax": 13}
ORDER = {
    "Adam": ["mean", "mean_square"],
    "Adamax": ["mean", "largest"],
    "Adadelta": ["mean_square", "mean_square_step"],
    "RMSProp": ["mean_square"],
    "Momentum": ["velocity"],
    "AdaGrad": ["sum_of_squares"],
    "SGD": [],
}


@every
def test_the_list_is_in_the_page_s_order(name: str) -> None:
    betas = [Beta(label, 1.0) for label in "abcd"]
    fixed = Beta("fixed", 1.0, status=1)
    cost = sum(beta.shared_var * 2.0 for beta in [*betas, fixed])
    updates = getattr(page, name)([*betas, fixed]).update(cost, [*betas, fixed])
    names = [label for b in "abcd" for label in (b, *(f"{b}/{slot}" for slot in ORDER[name]))]
    assert [variable.name for variable, _ in updates] == names + [f"{name}/t"] * (name in ("Adam", "Adamax"))
    assert len(updates) == LENGTHS[name]


def test_a_line_of_arithmetic_from_the_library_s_history() -> None:
    """y = βx + 3, β = 2, lr = 1, x = 4: the new β is −2, and then y = −5. With the default linker."""
    beta, x = Beta("beta", 2.0), pt.dscalar("x")
    y = beta.shared_var * x + 3
    step = pytensor.function([x], y, updates=page.SGD([beta]).update(y, [beta], lr=1))
    assert step(4.0) == 11.0
    assert beta.value == -2.0
    assert step(4.0) == -5.0


@every
def test_a_logit_gets_better(name: str) -> None:
    print("seed 13")
    rng = np.random.default_rng(13)
    x = rng.normal(size=(200, 3))
    choice = (x @ np.array([1.0, -2.0, 0.5]) + rng.logistic(size=200) > 0).astype(float)
    weights = shared(np.zeros(3), "w")
    asc = Beta("asc", 0.0)
    v = pt.dot(x, weights) + asc.shared_var
    cost = pt.mean(pt.softplus(v) - choice * v)
    updates = getattr(page, name)([weights, asc]).update(cost, [weights, asc], lr=0.1)
    step = pytensor.function([], cost, updates=updates, mode=FAST)
    costs = [float(step()) for _ in range(60)]
    assert costs[-1] < costs[0]


# ------------------------------------------------------------------ the defects


def test_adamax_s_first_step_is_finite_also_without_a_gradient() -> None:
    x = shared([1.0, 1.0])
    step = stepper(page.Adamax([x]), [x], [x], lr=0.1)
    step(np.array([0.0, 2.0]))
    np.testing.assert_allclose(x.get_value(), [1.0, 0.9], rtol=1e-8)


@pytest.mark.parametrize("name", ["Adam", "Adamax", "Adadelta", "RMSProp", "AdaGrad"])
def test_an_epsilon_of_zero_is_refused(name: str) -> None:
    with pytest.raises(HyperparameterError, match=r"epsilon is 0\.0, outside its range"):
        getattr(page, name)([shared(1.0)], epsilon=0.0)


def test_state_is_found_by_the_parameter_and_not_by_its_place() -> None:
    grads = oracles.recorded(14, steps=8, size=2, low=-1, high=1)[1]
    params = [Beta("a", 1.0), Beta("b", 2.0)]
    optimizer = page.Momentum(params)
    variables = [beta.shared_var for beta in params]
    forwards = stepper(optimizer, params, variables, lr=0.1)
    backwards = stepper(optimizer, params[::-1], variables, lr=0.1)
    for grad, step in zip(grads, itertools.cycle([forwards, backwards]), strict=False):
        step(*grad)
    expected = oracles.trajectory("pycmtensor", "momentum", np.array([1.0, 2.0]), grads, learning_rate=0.1)
    np.testing.assert_allclose([beta.value for beta in params], expected[-1], rtol=1e-12)


def test_a_parameter_that_was_not_given_before_is_refused_by_name() -> None:
    a, b, c, d = (Beta(name, 1.0) for name in "abcd")
    adam = page.Adam([a, b])
    cost = a.shared_var + b.shared_var + c.shared_var + d.shared_var
    with pytest.raises(OptimizerError, match=r"Adam: 'c', 'd' was not given when the optimizer was made.*for 'a', 'b'"):
        adam.update(cost, [a, c, b, d])
    twin = Beta("a", 1.0)
    with pytest.raises(OptimizerError, match="'a' was not given"):
        adam.update(cost + twin.shared_var, [twin, b])
    assert len(adam.update(cost, [b, a])) == 7


def test_parameters_may_be_left_out_but_then_always() -> None:
    a, b = Beta("a", 1.0, lb=0), Beta("unused", 1.0, ub=0)
    adam = page.Adam([a, b])
    assert len(adam.update(a.shared_var, [a])) == 4
    with pytest.raises(OptimizerError, match="counts their steps together"):
        adam.update(a.shared_var * b.shared_var, [a, b])


def test_a_bound_of_zero_is_a_bound() -> None:
    betas = [Beta("low", 0.5, lb=0), Beta("high", -0.5, ub=0.0), Beta("both", 0.5, 0, 1), Beta("none", 0.5)]
    step = stepper(page.SGD(betas), betas, [beta.shared_var for beta in betas], lr=1.0)
    step(2.0, -2.0, 2.0, 2.0)
    assert [float(beta.value) for beta in betas] == [0.0, 0.0, 0.0, -1.5]
    step(-2.0, 2.0, -2.0, 0.0)
    assert [float(beta.value) for beta in betas] == [2.0, -2.0, 1.0, -1.5]


@every
def test_what_is_fixed_stays(name: str) -> None:
    free, fixed = Beta("free", 1.0), Beta("fixed", 1.0, status=1)
    optimizer = getattr(page, name)([fixed, free])
    cost = free.shared_var**2 * fixed.shared_var
    pytensor.function([], updates=optimizer.update(cost, [fixed, free]), mode=FAST)()
    assert fixed.value == 1.0
    assert free.value != 1.0


def test_importing_and_using_it_leaves_the_home_folder_alone(tmp_path: Path) -> None:
    code = (
        "import os, sys, thalweg.dialects.pycmtensor as page\n"
        "assert 'pytensor' not in sys.modules\n"
        "print(os.listdir(os.environ['HOME']))"
    )
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "c"), "XDG_CONFIG_HOME": str(home / "d")}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"
    assert list(home.iterdir()) == list(work.iterdir()) == []


# ------------------------------------------------------------------ parameters


def test_any_way_of_holding_a_shared_variable_will_do() -> None:
    class Weight:
        def __init__(self, name: str, array: Any) -> None:
            self.name, self.sharedVar = name, shared(array, name)

    plain, weight, called = shared(1.0, "plain"), Weight("w", np.ones((2, 2))), Called("called", 3.0)
    params = [plain, weight, called]
    variables = [plain, weight.sharedVar, called.inner]
    updates = page.Adam(params).update(sum((v * 2).sum() for v in variables), params)
    assert [v.name for v, _ in updates][4] == "w/mean"
    assert updates[6][0] is called.inner
    assert updates[7][0].name == "called/mean"


def test_float32_stays_float32() -> None:
    x = shared([1.0, 2.0], dtype="float32")
    updates = page.Adam([x]).update((x**2).sum(), [x])
    assert [new.dtype for _, new in updates] == ["float32"] * 3 + ["int64"]


def test_the_state_can_be_saved(tmp_path: Path) -> None:
    beta = Beta("beta", 2.0, lb=0)
    adam = page.Adam([beta])
    step = stepper(adam, [beta], [beta.shared_var], lr=0.1)
    step(1.0)
    symbolic(adam.native).dump(tmp_path / "adam")
    step(1.0)
    after = beta.value
    twin = Beta("beta", 0.0, lb=0)
    again = page.Adam([twin])
    symbolic(again.native).load(tmp_path / "adam", [twin.shared_var])
    assert twin.value < after + 0.2
    stepper(again, [twin], [twin.shared_var], lr=0.1)(1.0)
    assert twin.value == after


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([1.0], ParameterError, "holds no shared variable"),
        ([np.abs], ParameterError, "holds no shared variable"),
        ([Beta], ParameterError, "holds no shared variable"),
        ([Beta("b", 1.0, lb=2, ub=1)], HyperparameterError, "parameter 'b': bounds: lower"),
        ([Beta("b", 1.0, lb="low")], HyperparameterError, "parameter 'b': bounds: lower is 'low'"),
        ([Beta("b", 1.0, status=2)], HyperparameterError, "'b': status is 2; give 0"),
        ([Beta("b", 1.0, status=True)], HyperparameterError, "'b': status is True"),
    ],
)
def test_a_parameter_that_is_none_is_refused(params: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        page.SGD(params)


@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [
        ("Adam", "b1", 0.0),
        ("Adam", "epsilon", 1e3),
        ("Adamax", "b2", 0.5),
        ("RMSProp", "rho", 0.0),
        ("Momentum", "m", 0.5),
    ],
)
@pytest.mark.parametrize("when", ["before", "after it was compiled"])
def test_a_number_set_later_holds(name: str, attribute: str, value: float, when: str) -> None:
    x, y = shared([1.0, -2.0]), shared([1.0, -2.0])
    argument = "momentum" if attribute == "m" else attribute
    told = stepper(getattr(page, name)([y], **{argument: value}), [y], [y], lr=0.1)
    optimizer = getattr(page, name)([x])
    if when == "before":
        setattr(optimizer, attribute, value)
        step = stepper(optimizer, [x], [x], lr=0.1)
    else:
        step = stepper(optimizer, [x], [x], lr=0.1)
        setattr(optimizer, attribute, value)
    assert getattr(optimizer, attribute) == value
    for gradient in ([1.0, 3.0], [-2.0, 0.5], [0.1, 0.2]):
        step(np.array(gradient))
        told(np.array(gradient))
    np.testing.assert_allclose(x.get_value(), y.get_value(), rtol=1e-14)


def test_a_number_set_later_that_means_nothing_is_refused() -> None:
    sgd, adam = page.SGD([shared(1.0)]), page.Adam([shared(1.0)])
    with pytest.raises(HyperparameterError, match="SGD has no b1, so setting it would change nothing"):
        sgd.b1 = 0.5
    with pytest.raises(HyperparameterError, match=r"b1 is 1\.5"):
        adam.b1 = 1.5
    assert (sgd.b1, adam.b1) == (0.0, 0.9)
    with pytest.raises(ParameterError, match=r"Adam: params is a .*; give a list of parameters"):
        page.Adam(shared(1.0))


def test_bad_calls_are_refused() -> None:
    beta, fixed, apart = Beta("b", 1.0), Beta("f", 1.0, status=1), Beta("apart", 1.0)
    cost = beta.shared_var**2
    with pytest.raises(OptimizerError, match="'b' is there twice"):
        page.SGD([beta, beta.shared_var])
    sgd = page.SGD([beta, fixed, apart])
    with pytest.raises(ParameterError, match="params is a Beta; give a list"):
        sgd.update(cost, beta)
    with pytest.raises(OptimizerError, match="no free parameter"):
        sgd.update(cost, [fixed])
    with pytest.raises(MissingGradientError, match="does not depend on 'apart'"):
        sgd.update(cost, [beta, apart])
    with pytest.raises(HyperparameterError, match=r"lr is -1\.0"):
        sgd.update(cost, [beta], lr=-1.0)
    with pytest.raises(OptimizerError, match="give a real scalar expression"):
        sgd.update(3.0, [beta])
    assert len(sgd.update(cost, [fixed, beta])) == 1


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Adam", {"beta1": 0.9}, "did you mean 'b1'"),
        ("Adam", {"lr": 0.9}, "no parameter of Adam: 'lr'"),
        ("Adamax", {"eps": 0.9}, "did you mean 'epsilon'"),
        ("RMSProp", {"roh": 0.9}, "did you mean 'rho'"),
        ("Momentum", {"nestrov": True}, "did you mean 'nesterov'"),
        ("Momentum", {"m": 0.5}, "no parameter of Momentum: 'm'"),
        ("SGD", {"epsilon": 0.5}, "no parameter of SGD: 'epsilon'"),
        ("AdaGrad", {"b1": 0.5}, "no parameter of AdaGrad: 'b1'"),
    ],
)
def test_an_unknown_keyword_is_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(HyperparameterError, match=message):
        getattr(page, name)([shared(1.0)], **arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Adam", {"b1": 1.0}),
        ("Adam", {"b2": 1.5}),
        ("Adam", {"b1": -0.1}),
        ("Adam", {"b1": np.nan}),
        ("Adamax", {"epsilon": -1.0}),
        ("RMSProp", {"rho": 1.0}),
        ("Momentum", {"momentum": 1.0}),
        ("Momentum", {"nesterov": 1}),
        ("Optimizer", {"name": "base", "m": 2.0}),
    ],
)
def test_a_number_out_of_its_range_is_refused(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(HyperparameterError):
        getattr(page, name)([shared(1.0)], **arguments)


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    beta = Beta("beta", 1.0)
    adam = page.Adam([beta])
    step = stepper(adam, [beta], [beta.shared_var])
    with pytest.raises(NonFiniteGradientError, match="Adam: the gradient of 'beta'"):
        step(np.nan)
    assert beta.value == 1.0
    assert symbolic(adam.native).state().meta["updates"] == 0


def test_a_missing_pytensor_is_one_line_that_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['pytensor'] = None\n"
        "from types import SimpleNamespace as Object\n"
        "import thalweg.dialects.pycmtensor as page, thalweg as tw\n"
        "try:\n    page.Adam([Object(shared_var=1.0)])\n"
        "except tw.errors.MissingExtraError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'thalweg[pytensor]'" in run.stdout, run.stderr


@pytest.mark.parametrize("kind", ["int64", "int8", "bool", "float16", "complex128"])
def test_a_free_parameter_that_is_not_of_floats_is_refused_when_the_optimizer_is_made(kind: str) -> None:
    whole = pytensor.shared(np.array(1).astype(kind), name="b_cost")
    words = (
        f"parameter 'b_cost' holds {kind}, and float32 or float64 can be updated: make it of floats, pytensor.shared"
    )
    for param in (whole, SimpleNamespace(name="b_cost", status=0, shared_var=whole)):
        with pytest.raises(ParameterError, match=words):
            page.Adam([pytensor.shared(np.array(1.0), name="b_time"), param])
    fixed = SimpleNamespace(name="b_cost", status=1, shared_var=whole)  # which nobody updates
    assert len(page.Adam([fixed]).params) == 1
    with pytest.raises(ParameterError, match=r"is int32; .*make it of floats"):
        tw.Adam().update(1.0 * pytensor.shared(np.int32(1), name="b"), [pytensor.shared(np.array(1, "i4"), name="b")])
    with pytest.raises(ParameterError, match="holds no numbers"):
        page.Adam([pytensor.shared(np.random.default_rng(0), name="rng")])


def test_the_momentum_can_be_set_by_the_name_that_it_is_given_by() -> None:
    x, y = shared([1.0, -2.0]), shared([1.0, -2.0])
    optimizer = page.Momentum([x], nesterov=False)
    step, told = stepper(optimizer, [x], [x], lr=0.1), stepper(page.Momentum([y], 0.5, False), [y], [y], lr=0.1)
    assert optimizer.momentum == optimizer.m == 0.9
    optimizer.momentum = 0.5
    assert optimizer.momentum == optimizer.m == 0.5
    for gradient in ([1.0, 3.0], [-2.0, 0.5]):
        step(np.array(gradient))
        told(np.array(gradient))
    np.testing.assert_allclose(x.get_value(), y.get_value(), rtol=1e-14)
    with pytest.raises(HyperparameterError, match=r"m is 1\.5"):
        optimizer.momentum = 1.5
    assert optimizer.momentum == 0.5


@pytest.mark.parametrize(
    ("name", "attribute", "value", "instead"),
    [
        ("Momentum", "nesterov", False, "it stays as it was given; make another optimizer"),
        ("Adam", "params", [], "it stays as it was given; make another optimizer"),
        ("Momentum", "lr", 5, r"give it to update\(cost, params, lr\)"),
        ("SGD", "learning_rate", 5, r"give it to update\(cost, params, lr\)"),
        ("Adam", "beta1", 0.5, "set b1"),
        ("Adamax", "eps", 1e-3, "set epsilon"),
        ("RMSProp", "epsilom", 0.5, "set epsilon"),
        ("Momentum", "beta1", 0.5, "this algorithm has none"),
        ("Adam", "nesterov", True, "this algorithm has none"),
        ("Adam", "weight_decay", 0.5, "this algorithm has none"),
        ("SGD", "process_model", abs, "this algorithm has none"),
    ],
)
def test_what_nobody_would_read_later_is_refused(name: str, attribute: str, value: Any, instead: str) -> None:
    optimizer = getattr(page, name)([shared(1.0)])
    before = dict(vars(optimizer))
    with pytest.raises(HyperparameterError, match=f"{name}: nobody would read {attribute}, set here; {instead}"):
        setattr(optimizer, attribute, value)
    optimizer.note = "of the user's own"
    assert vars(optimizer) == {**before, "note": "of the user's own"}
