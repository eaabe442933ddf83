"""Schedules that remember what they were told: made alike is not the same, and each state goes to its place."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytensor
import pytest

import thalweg as tw
from tests.optimizers.everywhere import double
from thalweg.errors import StateMismatchError
from thalweg.optimizers.jax import JaxOptimizer
from thalweg.optimizers.pytensor import symbolic
from thalweg.optimizers.settings import alike, same
from thalweg.schedules import Chain, Plateau, Schedule


def plateau() -> Plateau:
    return Plateau(1.0, factor=0.5, patience=0)


def told(*losses: float) -> Plateau:
    made = plateau()
    for loss in losses:
        made.observe(loss)
    return made


def observed(*losses: float, **settings: Any) -> tw.optimizers.LocalOptimizer:
    optimizer = tw.SGD([tw.Variable(np.ones(2), name=name) for name in "ab"], **settings)
    for loss in losses:
        optimizer.observe(loss)
    return optimizer


def rates(optimizer: Any) -> list[float]:
    """Those that steps of gradients of ones use."""
    before = [v.data[0] for v in optimizer.variables]
    tw.wait(optimizer.step(grad={"a": np.ones(2), "b": np.ones(2)}))
    return [old - v.data[0] for old, v in zip(before, optimizer.variables, strict=True)]


def test_the_same_is_what_also_remembers_the_same() -> None:
    assert alike(plateau(), told(1.0))
    assert not same(plateau(), told(1.0))
    assert same(told(1.0, 2.0), told(1.0, 2.0))
    assert not alike(plateau(), Plateau(2.0))
    assert not same(Chain([plateau(), 0.5]), Chain([told(1.0), 0.5]))
    assert same(Chain([told(1.0), 0.5]), Chain([told(1.0), 0.5]))


def test_one_schedule_in_two_places_is_told_apart_by_what_was_saved() -> None:
    source = observed(1.0, 2.0, 3.0, learning_rate=plateau(), groups=[{"variables": "b", "learning_rate": plateau()}])
    source.groups[0].learning_rate = plateau()
    one = plateau()
    target = observed(learning_rate=one, groups=[{"variables": "b", "learning_rate": one}])
    target.restore(source.state())
    assert rates(target) == rates(source) == [0.25, 1.0]
    assert target.learning_rate is one
    together = observed(1.0, 2.0, 3.0, learning_rate=one, groups=[{"variables": "b", "learning_rate": one}])
    target = observed(learning_rate=one, groups=[{"variables": "b", "learning_rate": one}])
    target.restore(together.state())
    assert target.groups[0].learning_rate is target.learning_rate is one


def shared_inside(one: Plateau) -> dict[str, Any]:
    """The optimizer's rate follows a schedule that a group has, too, inside others, there even twice."""
    twice = Chain([one, 2.0, Chain([one, 1.0])])
    return {"learning_rate": one, "groups": [{"variables": "b", "learning_rate": twice}]}


@pytest.mark.parametrize("losses", [0, 1, 2, 3, 4, 5])
def test_one_schedule_inside_others_is_told_each_metric_once(losses: int) -> None:
    """With a patience of 1 the second bad metric, and then every second one, halves the rate."""
    told_of = [3.0] * losses
    rate = [1.0, 1.0, 1.0, 0.5, 0.5, 0.25][losses]
    settings = shared_inside(Plateau(1.0, factor=0.5, patience=1))
    optimizer = observed(*told_of, **settings)
    assert rates(optimizer) == [rate, 2.0 * rate * rate]
    assert optimizer.current("learning_rate") == rate
    apart = tw.optimizers.build(tw.SGD(**settings).get_config())
    bound = apart.bind([tw.Variable(np.ones(2), name=name) for name in "ab"])
    for loss in told_of:
        bound.observe(loss)
    assert rates(bound) == [rate, 2.0 * rate * rate]


class Told(Schedule):
    """One that says for itself what it makes of a metric."""

    kind = "told"

    def __init__(self) -> None:
        vars(self)["metrics"] = []

    def __call__(self, state: Any) -> float:
        return 0.5

    def observe(self, value: float) -> None:
        vars(self)["metrics"].append(value)


def test_a_schedule_of_ones_own_is_told_once_too() -> None:
    one = Told()
    observed(1.0, 2.0, learning_rate=one, groups=[{"variables": "b", "learning_rate": one}])
    assert vars(one)["metrics"] == [1.0, 2.0]


GROUPS = [{"variables": "b", "weight_decay": 0.0}]


def test_a_compiled_step_does_not_take_another_past_for_the_same_schedule() -> None:
    source = observed(1.0, 2.0, 3.0, learning_rate=plateau(), groups=GROUPS)
    source.groups[0].learning_rate = plateau()
    fresh = JaxOptimizer(tw.SGD(learning_rate=plateau(), groups=GROUPS))
    with double():
        params: Any = {"a": jnp.ones(2), "b": jnp.ones(2)}
        with pytest.raises(StateMismatchError, match="set learning_rate, and here it does not"):
            fresh.restore(source.state(), params)
        source.groups[0].learning_rate = told(1.0, 2.0, 3.0)
        state = fresh.restore(source.state(), params)
        assert [float(fresh.current(state, "learning_rate", group=k)) for k in (None, 0)] == [0.25, 0.25]
        state = fresh.observe(state, 4.0)
        assert [float(fresh.current(state, "learning_rate", group=k)) for k in (None, 0)] == [0.125, 0.125]


def test_a_graph_refuses_it_before_anything_is_changed() -> None:
    source = tw.Momentum([tw.Variable(np.ones(2), name=name) for name in "ab"], momentum=0.25, groups=GROUPS)
    source.learning_rate = plateau()
    for loss in (1.0, 2.0, 3.0):
        source.observe(loss)
    tw.wait(source.step(grad={"a": np.ones(2), "b": np.ones(2)}))
    target = tw.Momentum(momentum=0.75, learning_rate=plateau(), groups=GROUPS)
    shared = [pytensor.shared(np.ones(2), name=name) for name in "ab"]
    target.update(sum((one**2).sum() for one in shared), shared)
    source.groups[0].learning_rate = plateau()
    with pytest.raises(StateMismatchError, match="set learning_rate, and here it does not"):
        symbolic(target).restore(source.state())
    assert target.momentum == 0.75
    assert target.current("learning_rate") == 1.0
    source.groups[0].learning_rate = told(1.0, 2.0, 3.0)
    symbolic(target).restore(source.state())
    assert target.momentum == 0.25
    assert target.current("learning_rate") == 0.25
