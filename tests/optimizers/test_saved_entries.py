"""What a saved state says beside its arrays is all there, nothing else, and of the right kind; else it is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from tests.optimizers.updating import step
from thalweg.errors import CheckpointError, HyperparameterError, OptimizerError, StateMismatchError
from thalweg.optimizers import LocalOptimizer, OptimizerSnapshot
from thalweg.rules import adam
from thalweg.schedules import Exp, OptimizationState, Plateau

BIG = 10**400


def made(rate: Any = None, *, steps: int = 2, **settings: Any) -> LocalOptimizer:
    """An optimizer with a schedule that remembers and one that counts, a group, a wrapper, and gathered gradients."""
    x, y = tw.Variable(np.ones(2), name="x"), tw.Variable(np.ones((1, 3)), name="y")
    group = {"variables": "y", "beta1": Plateau(0.5, factor=0.5)}
    rate = Exp(0.1, gamma=0.5, decay_on_iteration=True) if rate is None else rate
    optimizer = tw.Adam([x, y], learning_rate=rate, groups=[group], wrap=["ema"], accumulate=2, **settings)
    for _ in range(2 * steps + 1):
        tw.wait(optimizer.step(grad={"x": np.ones(2), "y": np.ones((1, 3))}))
    return optimizer


def refused(snapshot: OptimizerSnapshot, words: str, **settings: Any) -> None:
    target = made(steps=1, **settings)
    before = target.state()
    with pytest.raises(StateMismatchError) as caught:
        target.restore(snapshot)
    assert words in str(caught.value)
    after = target.state()
    assert after.meta == before.meta
    assert all(np.array_equal(after.arrays[name], array) for name, array in before.arrays.items())


NEEDED = (
    *("form", "wrap", "updates", "carried", "micro", "accumulate", "nonfinite", "skipped", "zeroed", "groups"),
    *("optimization_state", "hyperparameters", "schedules", "process_grad", "process_model"),
)


@pytest.mark.parametrize("name", NEEDED)
def test_nothing_may_be_missing(name: str) -> None:
    snapshot = made().state()
    del snapshot.meta[name]
    refused(snapshot, "optimization_state" if name == "optimization_state" else f"missing: {name}")


@pytest.mark.parametrize("name", OptimizationState().get_config())
def test_no_count_of_schedules_may_be_missing(name: str) -> None:
    """It would be taken for zero, and the schedule would begin anew."""
    snapshot = made().state()
    del snapshot.meta["optimization_state"][name]
    refused(snapshot, f"missing: optimization_state: {name}")


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an entry": (lambda meta: meta.update(more=1), "unexpected: more"),
    "a count": (lambda meta: meta["optimization_state"].update(more=1), "unexpected: optimization_state: more"),
    "an option": (lambda meta: meta["form"].update(more=1), "form was {"),
    "a schedule": (
        lambda meta: meta["schedules"].update(beta2={}),
        "unexpected: the state of a schedule at beta2, where there is none",
    ),
    "a group's schedule": (
        lambda meta: meta["schedules"].update({"groups.7.beta1": {}}),
        "unexpected: the state of a schedule at groups.7.beta1, where there was none",
    ),
    "a variable": (lambda meta: meta["variables"].update(z={"shape": [1]}), "unexpected: variable z"),
    "no variable": (lambda meta: meta["variables"].pop("x"), "missing: variable x"),
    "part of a schedule": (
        lambda meta: meta["hyperparameters"]["learning_rate"].pop("gamma"),
        "missing: gamma of the schedule at learning_rate",
    ),
    "part of a group's": (
        lambda meta: meta["groups"][0]["beta1"].pop("patience"),
        "missing: patience of the schedule at beta1",
    ),
    "a shape": (lambda meta: meta["variables"]["x"].update(shape=[3]), "variable x was {'shape': [3]"),
    "variables": (lambda meta: meta.update(variables=3), "variables is 3, no table"),
    "schedules": (lambda meta: meta.update(schedules=None), "schedules is None, no table"),
    "counts": (lambda meta: meta.update(optimization_state=[1]), "optimization_state cannot be used: it is [1], no"),
    "nonfinite": (lambda meta: meta.update(nonfinite="x"), "nonfinite is 'x'; it may be 'raise', 'skip'"),
    "too many updates": (lambda meta: meta.update(updates=BIG), "updates is beyond 9223372036854775807"),
    "too many": (lambda meta: meta.update(skipped=2**63), "skipped is beyond 9223372036854775807"),
    "too large": (lambda meta: meta["optimization_state"].update(curr_epoch=BIG), "curr_epoch is beyond 92233"),
    "arrays": (lambda meta: meta.update(accumulate=np.ones(2)), "accumulate was array([1., 1.]), here it is 2"),
    "an array": (lambda meta: meta.update(wrap=[np.array("ema")]), "wrap was [array("),
    "truth": (lambda meta: meta["variables"]["y"].update(shape=[True, 3]), "variable y was {'shape': [True, 3]"),
    "a rule of arrays": (lambda meta: meta.update(rule=np.ones(2)), "it belongs to the rule array"),
    "groups of arrays": (lambda meta: meta.update(groups=np.ones(2)), "groups were of"),
    "carried beyond": (lambda meta: meta.update(carried=[[BIG]]), "carried is [[1"),
    "carried": (lambda meta: meta.update(carried=np.ones(3)), "carried is array"),
    "a hook of arrays": (lambda meta: meta.update(process_grad=np.ones(2)), "process_grad was [1. 1.]"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_nothing_else_may_be_there(case: str) -> None:
    change, words = CHANGES[case]
    snapshot = made().state()
    change(snapshot.meta)
    refused(snapshot, words)


def test_masked_arrays_are_no_state() -> None:
    snapshot = made().state()
    masked = np.ma.masked_array([0.1, 9.0], [False, True])
    for name in ("slots/mean/x", "accumulated/x"):
        refused(OptimizerSnapshot({**snapshot.arrays, name: masked}, snapshot.meta), f"{name} is a masked array")
    param = np.ones(2)
    state = adam.init(param)._replace(mean=masked)
    with pytest.raises(StateMismatchError, match="slot mean is a masked array"):
        adam.step(param, np.ones(2), state, adam.hyper(), t=1)


@pytest.mark.parametrize("arrays", [None, {3: np.ones(2)}])
def test_what_is_no_table_is_no_snapshot(arrays: Any) -> None:
    with pytest.raises(OptimizerError, match="restore got OptimizerSnapshot"):
        made().restore(OptimizerSnapshot(arrays, {}))


def mine(state: OptimizationState) -> float:
    return 1e-6


def test_a_function_of_ones_own_is_never_replaced() -> None:
    snapshot = made(0.1).state()
    refused(snapshot, "learning_rate was 0.1, and here it is", rate=mine)
    target = made(0.5, steps=1)
    target.restore(snapshot)
    target.learning_rate = mine  # type: ignore[attr-defined]  # as the message says
    assert target.current("learning_rate") == 1e-6
    group = [{"variables": "x", "learning_rate": mine}]
    target = tw.SGD(tw.Variable(np.ones(2), name="x"), groups=group)
    number = tw.SGD(tw.Variable(np.ones(2), name="x"), groups=[{"variables": "x", "learning_rate": 0.5}])
    with pytest.raises(StateMismatchError, match=r"learning_rate was 0\.5, and here it is .*mine, a callable of your"):
        target.restore(number.state())
    assert target.groups[0].settings == {"learning_rate": mine}


def test_a_function_that_was_set_behind_an_updater_since_the_last_update_is_the_one_that_holds() -> None:
    for before, after in ((0.5, mine), (mine, 0.5)):
        update = tw.get_updater(tw.SGD(learning_rate=before))
        step(update, "a")
        update.optimizer.learning_rate = after
        update.restore(update.state())
        assert update.optimizer.learning_rate == after
        assert step(update, "a") == pytest.approx(0.5 if after == 0.5 else 1e-6)
    snapshot = update.state()
    for last in (BIG, -1, 1.0, float("inf")):
        meta = copy.deepcopy(snapshot.meta)
        meta["keys"]["a"]["last"] = last
        with pytest.raises(StateMismatchError, match=r"saved for key 'a' cannot be used: .*last is .*, not a count"):
            update.restore(OptimizerSnapshot(snapshot.arrays, meta))
    with pytest.raises(StateMismatchError, match="unexpected: more"):
        update.restore(OptimizerSnapshot(snapshot.arrays, {**snapshot.meta, "more": 1}))
    other = tw.get_updater(tw.SGD(learning_rate=mine))
    with pytest.raises(StateMismatchError, match=r"learning_rate was 0\.5, and here it is .*mine"):
        other.restore(snapshot)


def test_a_folder_is_a_path_and_a_config_is_a_table(tmp_path: Path) -> None:
    optimizer = made()
    for act in (optimizer.load, optimizer.dump, OptimizerSnapshot.load):
        with pytest.raises(CheckpointError, match="the folder is given as None; give its path"):
            act(None)  # type: ignore[arg-type]
    optimizer.dump(str(tmp_path))
    optimizer.load(tmp_path)
    with pytest.raises(HyperparameterError, match="Adam: the config is None; give a table"):
        tw.Adam.from_config(None)  # type: ignore[arg-type]


def test_what_is_whole_is_restored() -> None:
    source, target = made(), made(steps=1)
    target.restore(OptimizerSnapshot(source.state().arrays, copy.deepcopy(source.state().meta)))
    assert target.state().meta == source.state().meta
