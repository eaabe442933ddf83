"""A recipe's schedules that no param group follows yet: they are told metrics, and saved, as the others are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import thalweg as tw
from thalweg.errors import StateMismatchError
from thalweg.optimizers.torch import TorchOptimizer
from thalweg.schedules import Plateau


def plateau() -> Plateau:
    return Plateau(1.0, factor=0.5, patience=0)


def parameter() -> torch.Tensor:
    made = torch.ones(2, requires_grad=True)
    made.grad = torch.ones(2)
    return made


def made(rate: Any = None, of_head: Any = None) -> TorchOptimizer:
    """With one param group, which has a rate of its own."""
    head = {"variables": ["head.*"], "learning_rate": of_head or plateau()}
    recipe = tw.SGD(learning_rate=rate or plateau(), groups=[head])
    return TorchOptimizer([{"params": [("head.a", parameter())], "lr": 0.25}], recipe)


def told(optimizer: TorchOptimizer, *metrics: float) -> TorchOptimizer:
    for metric in metrics:
        optimizer.observe(metric)
    return optimizer


def rates(optimizer: TorchOptimizer) -> list[float]:
    """Of what is added now, and of what was there."""
    for name in ("head.b", "c"):
        optimizer.add_param_group({"params": [(name, parameter())]})
    optimizer.step()
    return [group["lr"] for group in optimizer.param_groups]


def test_they_are_told_a_metric() -> None:
    assert rates(told(made(), 1.0, 2.0)) == [0.25, 0.5, 0.5]


def test_one_in_several_places_is_told_once() -> None:
    one = plateau()
    assert rates(told(made(one, one), 1.0, 2.0)) == [0.25, 0.5, 0.5]


def test_a_state_dict_has_what_they_remember() -> None:
    source = told(made(), 1.0, 2.0)
    target = made()
    target.load_state_dict(source.state_dict())
    assert rates(target) == [0.25, 0.5, 0.5]


def test_they_go_on_from_there() -> None:
    target = made()
    target.load_state_dict(told(made(), 1.0, 2.0).state_dict())
    assert rates(told(target, 3.0)) == [0.25, 0.25, 0.25]


def test_a_group_that_left_the_recipe_s_schedule_leaves_it_its_memory() -> None:
    def one() -> TorchOptimizer:
        return TorchOptimizer([("a", parameter())], tw.SGD(learning_rate=plateau()))

    source = told(one(), 1.0, 2.0)
    source.param_groups[0]["lr"] = plateau()
    target = one()
    target.load_state_dict(source.state_dict())
    for optimizer in (source, target):
        optimizer.add_param_group({"params": [("b", parameter())]})
        optimizer.step()
        assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.5]


def test_a_state_of_a_version_without_them_is_taken() -> None:
    state = told(made(), 1.0, 2.0).state_dict()
    states = state["param_groups"][0]["thalweg"]["schedule_states"]
    for place in [place for place in states if place.startswith("recipe")]:
        del states[place]
    target = made()
    target.load_state_dict(state)
    assert rates(target) == [0.25, 1.0, 1.0]


def test_what_nothing_here_remembers_is_left_out() -> None:
    target = made(0.75, 0.5)
    target.load_state_dict(told(made(), 1.0, 2.0).state_dict())
    assert rates(target) == [0.25, 0.5, 0.75]


def test_a_damaged_state_of_one_is_refused() -> None:
    state = told(made(), 1.0, 2.0).state_dict()
    state["param_groups"][0]["thalweg"]["schedule_states"]["recipe.0.learning_rate"] = {"best": "low"}
    with pytest.raises(StateMismatchError, match=r"schedule at recipe\.0\.learning_rate cannot be used"):
        made().load_state_dict(state)
