from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from thalweg import optimizers, rules, transforms
from thalweg.errors import HyperparameterError
from thalweg.graph import Variable, wait
from thalweg.optimizers import SGD, Adam, GradientDescent, build, registry
from thalweg.schedules import Exp, Fixed, Inv, OptimizationState

ARRAYS = {"mask": np.array([1.0, 0.0])}


def test_the_registry_holds_every_rule() -> None:
    names = {value.name for value in vars(rules).values() if isinstance(value, rules.Rule)}
    assert set(registry) == names
    for kind, cls in registry.items():
        assert cls.rule.name == kind
        assert getattr(optimizers, cls.__name__) is cls
        optimizer = cls()
        defaults = {"weight_decay": 0.0} | {n: h.default for n, h in cls.rule.hyperparameters.items()}
        assert optimizer.hyperparameters == defaults
        for name in cls.rule.hyperparameters:
            assert getattr(optimizer, name) == cls.rule.hyperparameters[name].default


def test_a_table_becomes_an_optimizer() -> None:
    x = Variable(np.array([1.0, 2.0]), name="x")
    optimizer = build(
        {
            "kind": "gradient_descent",
            "learning_rate": {"kind": "exp", "initial": 0.5, "gamma": 0.9},
            "process_grad": [{"kind": "mask", "array": "mask"}, {"kind": "normalize"}],
            "process_model": {"kind": "bounds", "lower": 0, "upper": 1.5},
            "name": "mine",
        },
        x,
        ARRAYS,
    )
    assert isinstance(optimizer, GradientDescent)
    assert (optimizer.name, optimizer.learning_rate) == ("mine", Exp(0.5, gamma=0.9))
    wait(optimizer.step(grad=np.array([4.0, 8.0])))
    np.testing.assert_array_equal(x.data, [0.5, 1.5])


def test_a_name_becomes_an_optimizer_as_it_is_by_default() -> None:
    x = Variable(np.array([1.0, 2.0]), name="x")
    assert build("adam", x).get_config() == build({"kind": "adam"}).get_config()
    assert build("adam", x).variables == (x,)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("adm", "did you mean 'adam'"),
        (7, "an optimizer's table is 7; give one such as"),
        (None, "an optimizer's table is None"),
        (["adam"], "an optimizer's table is"),
        ({"kind": "adm"}, "did you mean 'adam'"),
        ({}, "no optimizer 'None'"),
        ({"kind": ["adam"]}, "no optimizer"),
        ({"kind": "adam", "learning_rate": 10**400}, "too large for a float"),
        ({"kind": "adam", "learning_rate": {"kind": ["exp"]}}, "no schedule"),
        ({"kind": "adam", "learning_rate": {"callable": ["exp"]}}, "its name is a string"),
        ({"kind": "adam", "process_grad": 3}, "holds 3; give tables"),
        ({"kind": "adam", "process_grad": "smooth"}, "holds 'smooth'; give tables"),
        ({"kind": "adam", "process_grad": {"kind": ["smooth"]}}, "no transform"),
        ({"kind": "adam", "process_grad": {"kind": "chain", "steps": 3}}, "3 is no transform"),
        ({"kind": "adam", "process_grad": {"callable": ["f"]}}, "its name is a string"),
        ({"kind": "adam", "process_grad": {"by_variable": 3}}, "by_variable is 3"),
        ({"kind": "adam", "lr": 0.1}, "did you mean 'learning_rate'"),
        ({"kind": "adam", "proces_grad": []}, "did you mean 'process_grad'"),
        ({"kind": "adam", "learning_rate": -1}, "learning_rate is -1"),
        ({"kind": "adam", "learning_rate": "fast"}, "learning_rate is 'fast'"),
        ({"kind": "adam", "learning_rate": {"kind": "exp", "initial": 1, "gama": 0.5}}, "did you mean 'gamma'"),
        ({"kind": "adam", "beta1": {"kind": "fixed", "initial": 1.5}}, "beta1 is 1.5"),
        ({"kind": "adam", "process_grad": [{"kind": "smoth", "sigma": 1}]}, "did you mean 'smooth'"),
        ({"kind": "adam", "process_grad": {"kind": "mask", "array": "msk"}}, "did you mean 'mask'"),
        ({"kind": "adam", "process_grad": ["smooth"]}, "give tables"),
        ({"kind": "adam", "process_model": {"kind": "bounds", "lower": 2, "upper": 1}}, "above"),
        ({"kind": "adam", "process_model": {"by_variable": {"vp": []}}}, "no variable"),
    ],
)
def test_mistakes_in_a_table_are_named(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words):
        build(spec, Variable(np.zeros(2), name="x"), ARRAYS)


CONFIGURED = [
    Adam(name="mine", description="for the head", learning_rate=Inv(0.1, power=1), beta1=Fixed(0.8)),
    SGD(process_grad=[transforms.smooth(1.5), transforms.clip_norm(3)], process_model=transforms.bounds(0, None)),
    SGD(process_grad=transforms.mask(ARRAYS["mask"])),
    SGD(process_grad={"x": transforms.chain(transforms.normalize(), transforms.clip_value(0.5))}),
    *(cls() for cls in registry.values()),
]


@pytest.mark.parametrize("optimizer", CONFIGURED, ids=repr)
def test_config_goes_through_json_and_back(optimizer: optimizers.LocalOptimizer) -> None:
    config = json.loads(json.dumps(optimizer.get_config()))
    x = Variable(np.zeros(2), name="x")
    for again in (type(optimizer).from_config(config, x, arrays=ARRAYS), build(config, x, ARRAYS)):
        assert type(again) is type(optimizer)
        assert again.get_config() == optimizer.get_config()
        assert again.hyperparameters == optimizer.hyperparameters
        wait(again.step(grad=np.ones(2)))


def my_filter(g: np.ndarray) -> np.ndarray:
    return 2 * g


def my_rate(state: OptimizationState) -> float:
    return 0.25


def test_callables_of_ones_own_are_named_and_handed_in_again() -> None:
    optimizer = SGD(learning_rate=my_rate, process_grad=my_filter)
    config = json.loads(json.dumps(optimizer.get_config()))
    with pytest.raises(HyperparameterError, match=r"my_rate, a callable of your own.*hand it in again"):
        SGD.from_config(config)
    callables = {config["learning_rate"]["callable"]: my_rate, config["process_grad"][0]["callable"]: my_filter}
    x = Variable(np.zeros(1), name="x")
    again = SGD.from_config(config, x, callables=callables)
    wait(again.step(grad=np.ones(1)))
    np.testing.assert_array_equal(x.data, [-0.5])
    only = {key: value for key, value in callables.items() if value is my_rate}
    with pytest.raises(HyperparameterError, match=r"process_grad was .*my_filter"):
        SGD.from_config(config, callables=only)


def test_two_callables_of_one_name_cannot_be_handed_in_again() -> None:
    rate = lambda state: 0.1  # noqa: E731 - one name for both
    beta = lambda state: 0.5  # noqa: E731
    beta.__qualname__ = rate.__qualname__
    config = Adam(learning_rate=rate, beta1=beta).get_config()
    name = config["beta1"]["callable"]
    with pytest.raises(HyperparameterError, match=r"two places of this config.*cannot tell apart"):
        build(config, callables={name: beta})
    hooks = SGD(process_grad={"x": my_filter, "y": my_filter}).get_config()
    with pytest.raises(HyperparameterError, match="two places"):
        build(hooks, callables={hooks["process_grad"]["by_variable"]["x"][0]["callable"]: my_filter})


def test_a_mask_is_handed_in_again() -> None:
    config = SGD(process_grad=transforms.mask(ARRAYS["mask"])).get_config()
    with pytest.raises(HyperparameterError, match="none of the arrays handed in is that one"):
        SGD.from_config(config, arrays={"mask": np.zeros(2)})


def test_a_config_of_another_kind() -> None:
    with pytest.raises(HyperparameterError, match="kind 'adam', and SGD is 'sgd'"):
        SGD.from_config(Adam().get_config())


def test_importing_needs_nothing_heavy() -> None:
    import subprocess
    import sys

    heavy = ["numba", "scipy", "pydantic", "matplotlib", "rich", "typer", "sqlite3", "safetensors", "torch"]
    script = (
        "import sys, thalweg.optimizers, thalweg.dialects.stride, thalweg.checkpoints; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
