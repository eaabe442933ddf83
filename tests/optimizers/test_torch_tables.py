"""Param groups without parameters: they have names where the others have."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import thalweg as tw
from thalweg.errors import OptimizerError
from thalweg.optimizers.torch import TorchOptimizer

EMPTY: dict[str, Any] = {"params": [], "lr": 0.5}


def one(name: str | None) -> Any:
    param = torch.ones(1, requires_grad=True)
    return {"params": [param if name is None else (name, param)]}


def step(optimizer: TorchOptimizer) -> list[float]:
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for param in params:
        param.grad = torch.ones(1)
    optimizer.step()
    return [param.item() for param in params]


@pytest.mark.parametrize("names", ["ab", (None, None)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_table_without_parameters_is_none_to_others(place: int, names: Any) -> None:
    tables = [one(name) for name in names]
    optimizer = TorchOptimizer([*tables[:place], dict(EMPTY), *tables[place:]], tw.Momentum(learning_rate=0.25))
    optimizer.add_param_group(dict(EMPTY))
    optimizer.add_param_group(one(names[0] and "c"))
    assert [group["lr"] for group in optimizer.param_groups].count(0.5) == 2
    assert step(optimizer) == [0.75] * 3
    assert [("param_names" in group) for group in optimizer.param_groups] == [names[0] is not None] * 5
    with pytest.raises(OptimizerError, match="either all parameters have names or none"):
        optimizer.add_param_group(one(None if names[0] else "d"))
    saved = optimizer.state_dict()
    optimizer.param_groups[place]["lr"] = 4.0
    if names[0]:
        optimizer.restore(optimizer.snapshot())
        assert optimizer.param_groups[place]["lr"] == 4.0  # a snapshot has no group that holds nothing
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[place]["lr"] == 0.5


@pytest.mark.parametrize("name", ["a", None])
def test_the_first_parameters_say_whether_there_are_names(name: str | None) -> None:
    optimizer = TorchOptimizer([dict(EMPTY)], tw.SGD(learning_rate=0.25))
    optimizer.add_param_group(one(name))
    optimizer.add_param_group(one(name and "b"))
    assert step(optimizer) == [0.75] * 2
    assert [group.get("param_names") for group in optimizer.param_groups] == (
        [[], ["a"], ["b"]] if name else [None] * 3
    )


def test_an_empty_table_does_not_stand_for_a_group_of_the_recipe() -> None:
    recipe = tw.SGD(learning_rate=0.25, groups=[{"variables": "b", "learning_rate": 0.125}])
    optimizer = TorchOptimizer([dict(EMPTY), one("a"), {"params": [], "lr": 0.5}, one("b")], recipe)
    assert step(optimizer) == [0.75, 0.875]
    snapshot = optimizer.snapshot()
    assert snapshot.meta["hyperparameters"]["learning_rate"] == 0.25
    assert [(table["variables"], table["learning_rate"]) for table in snapshot.meta["groups"]] == [(["b"], 0.125)]
    optimizer.param_groups[1]["lr"] = 8.0
    optimizer.restore(snapshot)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25, 0.5, 0.125]
