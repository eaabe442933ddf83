"""What somebody writes who comes from PyTorch, Optax or Keras: an error says what it is here."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from tests.references.libraries import imported_keras
from thalweg.errors import HyperparameterError
from thalweg.optimizers.elsewhere import ADVICE, METHODS
from thalweg.rules.spelling import USUAL
from thalweg.schedules.elsewhere import ADVICE as SCHEDULES

PAIRS = [
    *[("torch.optim", name, name) for name in ("SGD", "Adadelta", "Adam", "AdamW", "Adamax", "RAdam", "Rprop")],
    *[("torch.optim", "RMSprop", "RMSProp"), ("torch.optim", "Adagrad", "AdaGrad"), ("torch.optim", "NAdam", "Nadam")],
    *[
        ("optax", name.lower(), name)
        for name in ("SGD", "Adam", "AdamW", "RMSProp", "AdaGrad", "Lion", "LAMB", "Nadam")
    ],
    *[("keras.optimizers", name, name) for name in ("SGD", "Adam", "AdamW", "Adadelta", "Adamax", "Lion", "Nadam")],
    *[("keras.optimizers", "RMSprop", "RMSProp"), ("keras.optimizers", "Adagrad", "AdaGrad")],
]


def refusal(make: Any, *given: Any, **named: Any) -> str:
    with pytest.raises(HyperparameterError) as caught:
        make(*given, **named)
    return str(caught.value)


@pytest.mark.parametrize(("library", "theirs", "ours"), PAIRS)
def test_whatever_a_library_takes_is_known_or_told(library: str, theirs: str, ours: str) -> None:
    if library.startswith("keras"):
        if importlib.util.find_spec("keras") is None:
            pytest.skip("there is no Keras")
        imported_keras()
    there, here = getattr(pytest.importorskip(library), theirs), getattr(tw, ours)
    for name in inspect.signature(there).parameters:
        if name in here.keywords() or name == "kwargs":
            continue
        said = refusal(here, **{name: 1.0})
        assert "did you mean" in said or f"{name!r}: " in said, said


@pytest.mark.parametrize(
    ("make", "name", "told"),
    [
        (tw.SGD, "momentum", "use tw.Momentum, tw.Nesterov or"),
        (tw.Adam, "betas", "did you mean 'beta1' and 'beta2'?"),
        (tw.Adam, "amsgrad", "use tw.AMSGrad"),
        (tw.AMSGrad, "amsgrad", "leave it out, it is what this rule does"),
        (tw.SGD, "nesterov", "use tw.Nesterov"),
        (tw.RMSProp, "alpha", "did you mean 'rho'?"),
        (tw.Adam, "alpha", "did you mean 'learning_rate'?"),
        (tw.Rprop, "etas", "did you mean 'eta_minus' and 'eta_plus'?"),
        (tw.Adam, "clipnorm", r"process_grad=tw.transforms.clip_norm(limit)"),
        (tw.Lion, "beta_1", "did you mean 'beta1'?"),
        (tw.SGD, "decoupled_weight_decay", "give decay='decoupled'"),
        (tw.ScheduleFreeAdamW, "decoupled_weight_decay", "leave it out, weight_decay acts in this rule's own way"),
        (tw.ScheduleFreeAdamW, "weight_decay_rate", "give weight_decay (known"),
        (tw.Adam, "ema_momentum", "give wrap=['ema'], and ema_decay"),
    ],
)
def test_what_it_is_here(make: Any, name: str, told: str) -> None:
    assert told in refusal(make, **{name: 1.0})
    optimizer = make()
    assert told in refusal(setattr, optimizer, name, 1.0)


@pytest.mark.parametrize("name", ["beta_1", "beta_2", "betas"])
def test_what_a_rule_has_nothing_of_is_no_misspelling(name: str) -> None:
    assert "did you mean" not in refusal(tw.Rprop, **{name: 0.9})


def test_a_suggestion_of_two_names_is_data_too() -> None:
    with pytest.raises(HyperparameterError) as caught:
        tw.Adam(betas=(0.9, 0.99))
    assert caught.value.details["nearest"] == "beta1"
    assert "did you mean 'ema_decay'" in refusal(tw.Adam, wrap=["ema"], ema_momentum=0.5)


def test_a_number_for_decay_is_told_what_it_is() -> None:
    assert "decay is 0.9; it may be 'coupled' or 'decoupled', and says how weight_decay acts" in refusal(
        tw.RMSProp, decay=0.9
    )
    assert tw.RMSProp(decay="decoupled").rule.chosen["decay"] == "decoupled"


@pytest.mark.parametrize("text", [*ADVICE.values(), *SCHEDULES.values()])
def test_what_advice_names_is_there(text: str) -> None:
    for word in text.replace("(", " ").replace(",", " ").replace("=", " ").split():
        if word.startswith("tw."):
            found: Any = tw
            for part in word.removeprefix("tw.").split("."):
                found = getattr(found, part)
            assert callable(found)


def test_a_usual_name_stands_for_names_that_are_there() -> None:
    hyperparameters = {name for cls in tw.optimizers.registry.values() for name in cls.keywords()}
    called = [*tw.schedules.registry.values(), *tw.transforms.registry.values()]
    known = hyperparameters | {p for cls in called for p in inspect.signature(cls).parameters}
    assert {one for several in USUAL.values() for meant in several for one in meant.split(" and ")} <= known


def test_the_schedule_for_the_rate_of_adagrad_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    theirs = torch.optim.Adagrad([weight], lr=0.5, lr_decay=0.25)
    x = tw.Variable(np.ones(2), name="x", needs_grad=True)
    rate = tw.schedules.Inv(0.5, gamma=0.25, power=1.0, decay_on_iteration=True)
    ours = tw.AdaGrad(x, convention="torch", learning_rate=rate)
    for k in range(4):
        weight.grad = torch.full((2,), 1.0 + k, dtype=torch.float64)
        theirs.step()
        tw.wait(ours.step(grad=np.full(2, 1.0 + k)))
    assert np.allclose(x.data, weight.detach().numpy(), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_theirs_says_what_is_called_here(name: str) -> None:
    optimizer = tw.Adam()
    assert not hasattr(optimizer, name)
    with pytest.raises(AttributeError, match=rf"^Adam has no attribute '{name}'; ") as caught:
        getattr(optimizer, name)
    called = re.findall(r"(?:call|await|or|see) (\w+)\b(?=\(|;)", str(caught.value))
    modules = re.findall(r"thalweg\.[\w.]+", str(caught.value))
    assert called or modules
    assert all(hasattr(optimizer, method) for method in called)
    for module, _, attribute in (path.rpartition(".") for path in modules):
        assert hasattr(importlib.import_module(module), attribute)
