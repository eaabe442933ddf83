"""Schedules that remember, behind get_updater: all keys follow the optimizer's own, whatever was loaded or set."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

import thalweg as tw
from tests.optimizers.updating import step
from thalweg.errors import HyperparameterError, StateMismatchError
from thalweg.optimizers.updater import Updater
from thalweg.schedules import Chain, Plateau


def plateau(initial: float = 1.0) -> Plateau:
    return Plateau(initial, factor=0.5, patience=0)


def made(rate: Any, *keys: str, **settings: Any) -> Updater:
    update = tw.get_updater(tw.Momentum(learning_rate=rate, momentum=0.0, **settings))
    for key in keys:
        step(update, key)
    return update


def observe(update: Updater, *losses: float) -> None:
    for loss in losses:
        update.optimizer.observe(loss)


@pytest.mark.parametrize("here", [0.5, plateau(0.5), plateau(), Chain([plateau(), 2.0])], ids=str)
def test_what_was_loaded_is_told_like_the_optimizer(here: Any) -> None:
    source = made(plateau(), "a", "b")
    observe(source, 1.0)
    target = made(copy.deepcopy(here))
    target.restore(source.state())
    observe(target, 2.0, 3.0)
    assert target.optimizer.current("learning_rate") == 0.25
    assert [step(target, key) for key in ("a", "b", "c")] == [0.25, 0.25, 0.25]
    observe(target, 4.0)
    assert [step(target, key) for key in ("a", "b", "c")] == [0.125, 0.125, 0.125]


def test_it_is_that_of_a_key_s_group() -> None:
    groups = [{"variables": "b", "learning_rate": plateau(4.0)}]
    source = made(plateau(), "a", "b", groups=groups)
    target = made(0.5, groups=[{"variables": "b", "learning_rate": 0.5}])
    target.restore(source.state())
    observe(target, 1.0, 2.0)
    assert [step(target, key) for key in "ab"] == [0.5, 2.0]


def test_a_schedule_that_is_set_holds_though_it_is_made_like_the_one_before() -> None:
    update = made(plateau(), "a")
    observe(update, 1.0, 2.0, 3.0)
    assert step(update, "a") == 0.25
    update.optimizer.learning_rate = plateau()
    assert step(update, "a") == update.optimizer.current("learning_rate") == 1.0
    observe(update, 1.0, 2.0)
    assert step(update, "a") == 0.5
    update.optimizer.learning_rate = copy.deepcopy(update.optimizer.learning_rate)  # that remembers the same
    observe(update, 3.0)
    assert step(update, "a") == 0.25


@pytest.mark.parametrize("refused", ["slot", "groups"])
def test_a_refused_state_leaves_schedules_as_they_were(refused: str) -> None:
    source = made(plateau(), "a", "b")
    observe(source, 1.0, 2.0, 3.0)
    snapshot = source.state()
    target = made(plateau(), "a", "b", groups=[{"variables": "a", "weight_decay": 0.5}] if refused == "groups" else [])
    if refused == "slot":
        del snapshot.arrays["slots/velocity/b"]
    with pytest.raises(StateMismatchError):
        target.restore(snapshot)
    assert target.optimizer.current("learning_rate") == 1.0
    assert [step(target, key) for key in "ab"] == [1.0, 1.0]


def test_a_schedule_of_the_user_s_stays_the_same_object_when_its_state_is_loaded() -> None:
    source, mine = made(plateau(), "a"), plateau()
    observe(source, 1.0, 2.0)
    target = made(mine)
    target.restore(source.state())
    mine.observe(3.0)
    assert step(target, "a") == 0.25


def test_what_is_set_on_the_updater_itself_is_refused() -> None:
    """What it says to do instead can be done; where nothing can, it says that."""
    update = made(0.5)
    said = {name: f"update.optimizer.{name} = " for name in ("learning_rate", "process_grad")}
    said |= {
        "lr": "update.optimizer.learning_rate = ",
        "nonfinite": "stays as it was given when the optimizer was made",
    }
    for name, text in said.items():
        with pytest.raises(HyperparameterError, match=re.escape(text)):
            setattr(update, name, 0.25)
    update.optimizer.learning_rate = 0.25
    assert step(update, "a") == 0.25
