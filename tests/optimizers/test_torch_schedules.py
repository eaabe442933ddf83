"""Schedules that remember what they were told, in our PyTorch optimizers: whose they are, and what is saved of them."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

import thalweg as tw
from thalweg import optimizers, schedules
from thalweg.errors import StateMismatchError
from thalweg.optimizers.torch import TorchOptimizer
from thalweg.schedules import Chain, Plateau


def plateau() -> Plateau:
    return Plateau(1.0, factor=0.5, patience=0)


def made(recipe: Any, *tables: str) -> TorchOptimizer:
    """An optimizer with a param group for each text, whose letters are its parameters' names."""
    groups = [{"params": [(name, torch.zeros(1, requires_grad=True)) for name in table]} for table in tables]
    return TorchOptimizer(groups, recipe)


def rates(optimizer: TorchOptimizer) -> list[float]:
    """Those that a step uses."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    before = [param.item() for param in params]
    for param in params:
        param.grad = torch.ones(1)
    optimizer.step()
    return [old - param.item() for old, param in zip(before, params, strict=True)]


def observe(optimizer: TorchOptimizer, *losses: float) -> None:
    for loss in losses:
        optimizer.observe(loss)


def remembered(optimizer: TorchOptimizer) -> Any:
    return optimizer.state_dict()["param_groups"][0]["thalweg"]["schedule_states"]


def apart() -> TorchOptimizer:
    """Two param groups of one schedule, of which one was told nothing."""
    optimizer = made(tw.SGD(learning_rate=plateau()), "a", "b")
    observe(optimizer, 1.0, 2.0, 3.0)
    optimizer.param_groups[1]["lr"] = plateau()
    assert rates(optimizer) == [0.25, 1.0]
    return optimizer


def test_two_optimizers_of_one_recipe_have_each_its_own() -> None:
    one = plateau()
    recipe = tw.SGD(learning_rate=one, groups=[{"variables": "b", "learning_rate": one}])
    first, second = made(recipe, "ab"), made(recipe, "ab")
    observe(first, 1.0, 2.0, 3.0)
    assert (rates(first), rates(second)) == ([0.25, 0.25], [1.0, 1.0])
    second.restore(made(recipe, "ab").snapshot())
    assert rates(first) == [0.25, 0.25]
    assert first.param_groups[0]["lr"] == 0.25
    assert one.state() == plateau().state()
    schedules = [scheduled["learning_rate"] for scheduled in first._scheduled]
    assert schedules[0] is schedules[1]  # as it was in the recipe


def test_one_inside_another_is_told_each_metric_once() -> None:
    one = Plateau(1.0, factor=0.5, patience=1)
    recipe = tw.SGD(learning_rate=one, groups=[{"variables": "b", "learning_rate": Chain([one, 2.0])}])
    optimizer, found = made(recipe, "ab"), []
    for _ in range(5):
        observe(optimizer, 3.0)
        found.append(rates(optimizer))
    assert found == [[1.0, 2.0], [1.0, 2.0], [0.5, 1.0], [0.5, 1.0], [0.25, 0.5]]


def test_a_snapshot_has_each_with_what_it_remembers() -> None:
    optimizer = apart()
    snapshot = optimizer.snapshot()
    assert [table["variables"] for table in snapshot.meta["groups"]] == [["b"]]
    twin = made(tw.SGD(learning_rate=plateau()), "a", "b")
    twin.restore(snapshot)
    assert rates(twin) == [0.25, 1.0]
    for one in (optimizer, twin):
        observe(one, 9.0)
        assert rates(one) == [0.125, 1.0]
        observe(one, 10.0)
        assert rates(one) == [0.0625, 0.5]


def test_a_state_dict_has_each_with_what_it_remembers() -> None:
    optimizer = apart()
    twin = made(tw.SGD(learning_rate=plateau()), "a", "b")
    twin.load_state_dict(optimizer.state_dict())
    assert rates(twin) == [0.25, 1.0]
    for one in (optimizer, twin):
        observe(one, 9.0, 10.0)
        assert rates(one) == [0.0625, 0.5]
    assert remembered(twin) == remembered(optimizer)


def test_a_state_dict_of_one_schedule_leaves_it_one() -> None:
    optimizer = made(tw.SGD(learning_rate=plateau()), "a", "b")
    observe(optimizer, 1.0, 2.0)
    twin = made(tw.SGD(learning_rate=plateau()), "a", "b")
    twin.load_state_dict(optimizer.state_dict())
    assert twin._scheduled[0]["learning_rate"] is twin._scheduled[1]["learning_rate"]
    assert rates(twin) == [0.5, 0.5]


@pytest.mark.parametrize("state", [{"factor": 0.5}, None, 3])
def test_a_state_that_cannot_be_used_changes_nothing(state: Any) -> None:
    optimizer = made(tw.SGD(learning_rate=plateau()), "a", "b")
    observe(optimizer, 1.0, 2.0)
    saved = optimizer.state_dict()
    saved["param_groups"][0]["thalweg"]["schedule_states"]["1.learning_rate"] = state
    twin = made(tw.SGD(learning_rate=plateau()), "a", "b")
    with pytest.raises(StateMismatchError, match=r"schedule at 1\.learning_rate cannot be used"):
        twin.load_state_dict(saved)
    assert rates(twin) == [1.0, 1.0]


def test_one_in_a_table_is_the_user_s_own_object() -> None:
    """As on NumPy, where it may be told by itself."""
    mine = plateau()
    tables = [{"params": [("a", torch.zeros(1, requires_grad=True))], "lr": mine}]
    optimizer = TorchOptimizer(tables, tw.SGD())
    for loss in (1.0, 2.0):
        mine.observe(loss)
    assert rates(optimizer) == [0.5]


def test_a_scheduler_of_pytorchs_beside_a_schedule_of_ours_is_told_once() -> None:
    """The recipe's schedule says what the rate is: what the other one writes is a rate that nobody uses."""
    w = torch.nn.Parameter(torch.ones(1))
    exp = schedules.Exp(1.0, gamma=0.5, decay_on_iteration=True)
    optimizer = TorchOptimizer([("w", w)], tw.SGD(learning_rate=exp))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    steps: list[float] = []
    told: list[int] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(4):
            before, w.grad = w.item(), torch.ones(1)
            optimizer.step()
            scheduler.step()
            steps.append(before - w.item())
            told.append(len(caught))
    assert steps == [1.0, 0.5, 0.25, 0.125]
    assert told == [0, 1, 1, 1]
    assert "lr of a param group was set to 0.1, and a schedule of the recipe's says" in str(caught[0].message)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_schedules_of_ours_alone_are_no_reason_for_a_warning(kind: str) -> None:
    """Also through a state_dict, a copy, a schedule that is set in the group, and one that follows a metric."""
    exp = schedules.Exp(1.0, gamma=0.5, decay_on_iteration=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rate in (exp, schedules.Plateau(1.0, factor=0.5, patience=0)):
            w = torch.nn.Parameter(torch.ones(2))
            optimizer = TorchOptimizer([("w", w)], optimizers.build({"kind": kind, "learning_rate": rate}))
            for k in range(6):
                w.grad = torch.ones(2)
                optimizer.step()
                optimizer.observe(1.0 + k)
                if k == 2:
                    other = TorchOptimizer([("w", w)], optimizers.build({"kind": kind, "learning_rate": rate}))
                    other.load_state_dict(optimizer.state_dict())
                    optimizer = other
                if k == 4:
                    optimizer.param_groups[0]["lr"] = schedules.Exp(0.5, gamma=0.5, decay_on_iteration=True)


EXP = schedules.Exp(0.9, gamma=0.5, decay_on_iteration=True)


def betas(written: Any, **settings: Any) -> tuple[list[Any], list[str]]:
    """The pairs that steps of Adam used, and what was told, where a number is written after each."""
    w = torch.nn.Parameter(torch.ones(1))
    optimizer, used = TorchOptimizer([("w", w)], tw.Adam(**settings)), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for table in written:
            w.grad = torch.ones(1)
            optimizer.step()
            used.append(optimizer.param_groups[0]["betas"])
            optimizer.param_groups[0].update(table(optimizer.param_groups[0]))
    return used, [str(one.message).partition(", and")[0] for one in caught]


def test_of_a_pair_only_what_follows_a_schedule_is_overwritten() -> None:
    beside = [lambda group: {"betas": (group["betas"][0], 0.5)}] * 3
    used, told = betas(beside, beta1=EXP)
    assert used == [(0.9, 0.999), (0.45, 0.5), (0.225, 0.5)]
    assert told == []


def test_a_number_that_is_overwritten_is_told_after_one_that_was_followed() -> None:
    written = [lambda group: {"betas": [group["betas"][0], 0.5]}, lambda group: {"betas": (0.7, 0.5)}, dict, dict]
    used, told = betas(written, beta1=EXP)
    assert used == [(0.9, 0.999), (0.45, 0.5), (0.225, 0.5), (0.1125, 0.5)]
    assert told == ["adam: betas[0] of a param group was set to 0.7"]


@pytest.mark.parametrize(("name", "key"), [("beta2", "betas[1]"), ("learning_rate", "lr")])
def test_what_is_written_by_our_name_is_overwritten_too(name: str, key: str) -> None:
    _, told = betas([lambda _: {name: 0.125}, dict], **{name: EXP})
    assert told == [f"adam: {key} of a param group was set to 0.125"]


def test_one_cycle_moves_beta1_beside_a_schedule_of_beta2() -> None:
    w = torch.nn.Parameter(torch.ones(1))
    optimizer = TorchOptimizer([("w", w)], tw.Adam(beta2=EXP))
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=4)
    written, used = [], []
    for _ in range(3):
        w.grad = torch.ones(1)
        written.append(optimizer.param_groups[0]["betas"][0])
        optimizer.step()
        used.append(optimizer.param_groups[0]["betas"])
        cycle.step()
    assert [beta2 for _, beta2 in used] == [0.9, 0.45, 0.225]
    assert [beta1 for beta1, _ in used] == written
    assert len(set(written)) == 3
