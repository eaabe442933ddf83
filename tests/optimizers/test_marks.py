"""Marks of the user's own on optimizers for other libraries, and what is none: nobody would read it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import thalweg as tw
from thalweg.errors import HyperparameterError
from thalweg.optimizers.jax import JaxOptimizer
from thalweg.optimizers.torch import TorchOptimizer
from thalweg.optimizers.updater import Updater


def parameters() -> list[tuple[str, torch.Tensor]]:
    return [("a", torch.ones(1, requires_grad=True))]


class MarkedTorch(TorchOptimizer):
    """A subclass that sets something of its own before ours is made."""

    def __init__(self, recipe: Any) -> None:
        self.before: Any = "mine"
        super().__init__(parameters(), recipe)


class MarkedJax(JaxOptimizer):
    """See MarkedTorch."""

    def __init__(self, recipe: Any) -> None:
        self.before: Any = "mine"
        super().__init__(recipe)


class MarkedUpdater(Updater):
    """See MarkedTorch."""

    def __init__(self, recipe: Any) -> None:
        self.before: Any = "mine"
        super().__init__(recipe)


EACH = [MarkedTorch, MarkedJax, MarkedUpdater]


@pytest.mark.parametrize("kind", EACH)
def test_marks_are_taken_at_any_time(kind: Any) -> None:
    optimizer = kind(tw.Adam())
    optimizer.before, optimizer.mark, optimizer.groups, optimizer.description = 1, 5, 2, "of the head"
    assert (optimizer.before, optimizer.mark, optimizer.groups, optimizer.description) == (1, 5, 2, "of the head")


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("lr", 0.5), ("learning_rate", 0.5), ("learning_rat", 0.5), ("beta1", 0.5), ("eps", 0.5)),
        *(("nesterov", True), ("wrap", ["ema"])),
    ],
)
def test_what_an_optimizer_of_ours_takes_is_no_mark(kind: Any, name: str, value: Any) -> None:
    optimizer = kind(tw.Adam())
    with pytest.raises(HyperparameterError, match=name):
        setattr(optimizer, name, value)
    assert name not in vars(optimizer)


class WithRate(TorchOptimizer):
    """A subclass whose rate can be set on it."""

    @property
    def lr(self) -> float:
        """That of the first group."""
        rate: float = self.param_groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            group["lr"] = value


def test_a_property_of_a_subclass_is_set() -> None:
    optimizer = WithRate(parameters(), tw.Adam())
    optimizer.lr = 0.5
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_an_updater_keeps_its_optimizer() -> None:
    update = Updater(tw.SGD(learning_rate=0.5))
    weight, before = np.zeros(1), update.optimizer
    update("a", np.ones(1), weight)
    with pytest.raises(HyperparameterError, match=r"stays as it was given.*get_updater\(...\)"):
        update.optimizer = tw.Adam()
    assert update.optimizer is before
    update("a", np.ones(1), weight)
    assert weight[0] == -1.0


UPDATER: dict[str, tuple[Any, str]] = {
    "lr": (0.5, r"update\.optimizer\.learning_rate = \.\.\."),
    "process_grad": (np.sign, r"update\.optimizer\.process_grad = \.\.\."),
    "nesterov": (True, "there is no hyperparameter or option of adam: 'nesterov'"),
    "nonfinite": ("skip", "nonfinite stays as it was given when the optimizer was made"),
}


@pytest.mark.parametrize("name", UPDATER)
def test_what_to_do_with_an_updater_works(name: str) -> None:
    value, said = UPDATER[name]
    with pytest.raises(HyperparameterError, match=said):
        setattr(Updater(tw.Adam()), name, value)


JAX: dict[str, tuple[Any, str]] = {
    "lr": (0.5, r"lr cannot be set here.*state = optimizer\.set\(state, learning_rate=\.\.\.\)"),
    "momentum": (0.5, r"state = optimizer\.set\(state, momentum=\.\.\.\)"),
    "momentun": (0.5, r"state = optimizer\.set\(state, momentum=\.\.\.\)"),
    "rate_in_buffer": (True, r"JaxOptimizer\(tw\.Momentum\(rate_in_buffer=\.\.\.\)\)"),
    "nesterov": (True, "there is no hyperparameter or option of momentum: 'nesterov'"),
    "accumulate": (2, r"JaxOptimizer\(tw\.Momentum\(accumulate=\.\.\.\)\)"),
    "ema_decay": (0.5, "belongs to a wrapper"),
    "amsgrad": (True, "there is no hyperparameter or option of momentum: 'amsgrad'"),
}


@pytest.mark.parametrize("name", JAX)
def test_what_to_do_on_jax_works(name: str) -> None:
    value, said = JAX[name]
    with pytest.raises(HyperparameterError, match=said):
        setattr(JaxOptimizer(tw.Momentum()), name, value)


@pytest.mark.parametrize(("kind", "name"), [(MarkedTorch, "kernel"), (MarkedTorch, "rule"), (MarkedJax, "rule")])
def test_what_was_settled_when_it_was_made_stays(kind: Any, name: str) -> None:
    optimizer = kind(tw.SGD())
    before = getattr(optimizer, name)
    with pytest.raises(HyperparameterError, match=f"{name} stays as it was given when the optimizer was made"):
        setattr(optimizer, name, "native" if name == "kernel" else tw.Adam().rule)
    assert getattr(optimizer, name) is before
