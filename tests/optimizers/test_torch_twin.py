"""Snapshots of our PyTorch optimizers where groups lie across param groups, or gradients are gathered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

import thalweg as tw
from thalweg.errors import OptimizerError, StateMismatchError
from thalweg.optimizers.torch import TorchOptimizer

NAMES = ["a.w", "a.bias", "b.w", "b.bias"]


def made(recipe: Any = None, tables: Any = ({"of": "a"}, {"of": "b"})) -> TorchOptimizer:
    """A param group for each layer, with a group of the recipe across them."""
    groups = []
    for table in tables:
        params = [(name, torch.ones(2, requires_grad=True)) for name in NAMES if name.startswith(table["of"])]
        groups.append({"params": params, **{key: value for key, value in table.items() if key != "of"}})
    recipe = recipe or tw.AdamW(learning_rate=0.1, groups=[{"variables": "*.bias", "weight_decay": 0.0}])
    return TorchOptimizer(groups, recipe)


def values(optimizer: TorchOptimizer, key: str = "lr") -> dict[str, float]:
    return {name: group[key] for group in optimizer.param_groups for name in group["param_names"]}


def step(optimizer: TorchOptimizer) -> list[list[float]]:
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.ones(2)
    optimizer.step()
    return [param.tolist() for group in optimizer.param_groups for param in group["params"]]


def of_b(optimizer: TorchOptimizer) -> None:
    for group in optimizer.param_groups[2:]:
        group["lr"] *= 0.1


def one_of_b(optimizer: TorchOptimizer) -> None:
    optimizer.param_groups[2]["lr"] = 0.01


def of_all(optimizer: TorchOptimizer) -> None:
    scheduler = lr_scheduler.LambdaLR(optimizer, [lambda epoch, k=k: 1 / (1 + k * epoch) for k in range(4)])
    optimizer.step()
    scheduler.step()


MOVED: dict[str, Callable[[TorchOptimizer], None]] = {"b": of_b, "one of b": one_of_b, "all": of_all}


@pytest.mark.parametrize("case", MOVED)
def test_what_a_scheduler_moved_goes_into_a_twin_and_back(case: str) -> None:
    optimizer, twin = made(), made()
    step(optimizer)
    before = optimizer.snapshot()
    MOVED[case](optimizer)
    moved, rates = optimizer.snapshot(), values(optimizer)
    assert len(set(rates.values())) > 1
    twin.restore(moved)
    assert values(twin) == rates
    assert values(twin, "weight_decay") == values(optimizer, "weight_decay")
    assert twin.snapshot().meta == moved.meta
    for target in (optimizer, twin):
        target.restore(before)
        assert set(values(target).values()) == {0.1}
        assert target.snapshot().meta == before.meta
        target.restore(moved)
        assert values(target) == rates
    there = tw.AdamW([tw.Variable(np.ones(2, np.float32), name=name) for name in NAMES], groups=moved_groups(moved))
    there.restore(moved)
    assert there.state().meta == moved.meta


def moved_groups(snapshot: Any) -> list[dict[str, Any]]:
    return [{"weight_decay": 0.5, **table} for table in snapshot.meta["groups"]]


@pytest.mark.parametrize("k", [0, 1])
def test_the_tables_may_be_in_another_order(k: int) -> None:
    optimizer, twin = made(tw.AdamW(learning_rate=0.1)), made(tw.AdamW(learning_rate=0.1), [{"of": "b"}, {"of": "a"}])
    step(optimizer)
    optimizer.param_groups[k]["lr"] = 0.01
    twin.restore(optimizer.snapshot())
    assert values(twin) == values(optimizer)
    twin.param_groups[k]["lr"] = 0.5
    optimizer.restore(twin.snapshot())
    assert values(twin) == values(optimizer)
    one, other = optimizer.snapshot().arrays, twin.snapshot().arrays
    assert one.keys() == other.keys()
    assert all(np.array_equal(array, other[name]) for name, array in one.items())


def test_what_is_added_later_has_what_its_group_was_restored_to() -> None:
    optimizer, twin = made(), made()
    one_of_b(optimizer)
    for k in (1, 3):
        optimizer.param_groups[k]["weight_decay"] = 0.25
    twin.restore(optimizer.snapshot())
    twin.add_param_group({"params": [("c.bias", torch.ones(2, requires_grad=True))]})
    assert values(twin, "weight_decay")["c.bias"] == 0.25
    assert values(twin)["c.bias"] == 0.1


OTHERS: dict[str, tuple[Any, Any]] = {
    "a table's own, which were none": ([{"of": "a"}, {"of": "b", "lr": 0.5}], None),
    "none, which were a table's own": (None, [{"of": "a"}, {"of": "b", "lr": 0.5}]),
    "tables that were one": ([{"of": "a", "lr": 0.5}, {"of": "b", "lr": 0.5}], [{"of": "", "lr": 0.5}]),
    "all, which were a table's own": ([{"of": ""}], [{"of": "", "lr": 0.5}]),
    "all, which were none's": ([{"of": "", "lr": 0.5}], [{"of": ""}]),
    "one table that was two": ([{"of": "", "lr": 0.5}], [{"of": "a", "lr": 0.5}, {"of": "b", "lr": 0.5}]),
}


@pytest.mark.parametrize("case", OTHERS)
def test_groups_that_somebody_made_in_another_way_are_still_refused(case: str) -> None:
    here, there = ({} if tables is None else {"tables": tables} for tables in OTHERS[case])
    optimizer = made(tw.AdamW(learning_rate=0.1), **here)
    before = optimizer.snapshot().meta
    snapshot = made(tw.AdamW(learning_rate=0.1), **there).snapshot()
    if case.startswith("none"):  # it may be what a scheduler did
        optimizer.restore(snapshot)
        assert values(optimizer) == {"a.w": 0.1, "a.bias": 0.1, "b.w": 0.5, "b.bias": 0.5}
        return
    with pytest.raises(StateMismatchError, match="not the same hold"):
        optimizer.restore(snapshot)
    assert optimizer.snapshot().meta == before


def test_a_snapshot_with_gradients_of_some_parameters_is_refused() -> None:
    """A sum of zero would move a parameter that has none."""
    params = {name: torch.ones(1, requires_grad=True) for name in "ab"}
    optimizer = TorchOptimizer(list(params.items()), tw.Momentum(learning_rate=0.1, accumulate=2))

    def give(*names: str) -> None:
        for name, param in params.items():
            param.grad = torch.ones(1) if name in names else None
        optimizer.step()

    give("a")
    with pytest.raises(OptimizerError, match=r"1 of 2 gradients are gathered .*, and 'b' had none.*state_dict"):
        optimizer.snapshot()
    give("a", "b")  # b's first
    assert params["b"].item() < 1
    assert optimizer.snapshot().meta["micro"] == 0
    give("a", "b")
    assert set(optimizer.snapshot().arrays) >= {"accumulated/a", "accumulated/b"}
