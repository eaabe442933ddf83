from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from thalweg import optimizers
from thalweg.errors import HyperparameterError
from thalweg.graph import Variable, wait
from thalweg.optimizers import SGD, Adam, GradientDescent, Momentum
from thalweg.schedules import Exp, Fixed, OptimizationState

WRONG = [
    ("learning_rate", -0.1),
    ("learning_rate", float("nan")),
    ("learning_rate", float("inf")),
    ("learning_rate", "0.1"),
    ("learning_rate", True),
    ("learning_rate", None),
    ("learning_rate", 10**400),
    ("beta1", 1.5),
    ("beta1", 1.0),
    ("beta2", -0.1),
    ("epsilon", 0.0),
    ("epsilon", -1e-8),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_out_of_range_is_refused_when_set_at_first_and_later(name: str, value: Any) -> None:
    with pytest.raises(HyperparameterError, match=name):
        Adam(**{name: value})
    optimizer = Adam()
    kept = optimizer.hyperparameters
    with pytest.raises(HyperparameterError, match=name):
        setattr(optimizer, name, value)
    assert optimizer.hyperparameters == kept


def test_a_misspelt_attribute_is_refused() -> None:
    optimizer = Adam()
    for name in ("lr", "learning_rat", "beta_1"):
        with pytest.raises(HyperparameterError, match=r"did you mean '(learning_rate|beta1)'"):
            setattr(optimizer, name, 0.5)
    with pytest.raises(HyperparameterError, match="did you mean 'learning_rate'"):
        Adam(lr=0.1)
    with pytest.raises(HyperparameterError, match="did you mean 'momentum'"):
        Momentum().current("momentun")


def test_zero_is_honoured() -> None:
    x = Variable(np.ones(2), name="x")
    optimizer = Adam(x, learning_rate=0, beta1=0, beta2=0)
    wait(optimizer.step(grad=np.ones(2)))
    np.testing.assert_array_equal(x.data, [1.0, 1.0])
    assert optimizer.learning_rate == 0.0
    momentum = Momentum(x, learning_rate=1.0, momentum=0)
    for _ in range(2):
        wait(momentum.step(grad=np.ones(2)))
    np.testing.assert_array_equal(x.data, [-1.0, -1.0])


def test_a_rate_set_later_is_used() -> None:
    x = Variable(np.zeros(1), name="x")
    optimizer = SGD(x)
    optimizer.learning_rate = 2
    assert optimizer.learning_rate == 2.0
    wait(optimizer.step(grad=np.ones(1)))
    np.testing.assert_array_equal(x.data, [-2.0])


def test_a_schedule_moves_every_rule_also_after_state_exists() -> None:
    """ADAM froze its rate at state creation elsewhere."""
    for kind, cls in optimizers.registry.items():
        if "learning_rate" in cls.rule.initial:  # read at the first step only: a schedule is refused
            continue
        scheduled, by_hand = Variable(np.ones(3), name="x"), Variable(np.ones(3), name="x")
        one = cls(scheduled)
        one.learning_rate = Exp(0.5, gamma=0.5, decay_on_iteration=True)  # type: ignore[attr-defined]
        other = cls(by_hand)
        for k in range(4):
            grad = np.array([1.0, -2.0, 0.1])
            wait(one.step(grad=grad))
            assert one.current("learning_rate") == 0.5 * 0.5**k
            other.learning_rate = 0.5 * 0.5**k  # type: ignore[attr-defined]
            wait(other.step(grad=grad))
        np.testing.assert_array_equal(scheduled.data, by_hand.data, err_msg=kind)


def test_any_hyperparameter_takes_a_schedule() -> None:
    x = Variable(np.ones(1), name="x")
    optimizer = Momentum(x, learning_rate=Fixed(0.1), momentum=lambda state: 0.5 if state.curr_iter < 3 else 0.9)
    seen = []
    for _ in range(4):
        wait(optimizer.step(grad=np.ones(1)))
        seen.append(optimizer.current("momentum"))
    assert seen == [0.5, 0.5, 0.9, 0.9]
    assert optimizer.current("learning_rate") == 0.1


def test_epochs_are_the_loops_to_count() -> None:
    x = Variable(np.zeros(1), name="x")
    optimizer = GradientDescent(x, learning_rate=Exp(1.0, gamma=0.5))
    moved = []
    for _epoch in range(3):
        optimizer.optimization_state.begin_epoch()
        for _batch in range(2):
            optimizer.optimization_state.begin_batch()
            before = x.data.copy()
            wait(optimizer.step(grad=np.ones(1)))
            moved.append(float((before - x.data)[0]))
    assert moved == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    state = optimizer.optimization_state
    assert (state.curr_epoch, state.curr_batch, state.curr_iter) == (3, 2, 6)


def test_what_a_schedule_says_is_checked_when_it_is_read() -> None:
    with pytest.raises(HyperparameterError, match="learning_rate is -1"):
        SGD(learning_rate=lambda state: -1.0)
    x = Variable(np.zeros(1), name="x")
    optimizer = SGD(x, learning_rate=lambda state: 1.0 if state.curr_iter < 2 else float("nan"))
    wait(optimizer.step(grad=np.ones(1)))
    with pytest.raises(HyperparameterError, match="learning_rate is nan") as caught:
        wait(optimizer.step(grad=np.ones(1)))
    assert "schedule" in caught.value.__notes__[0]
    np.testing.assert_array_equal(x.data, [-1.0])
    assert optimizer.iterations == 1


def test_constructing_or_adding_a_schedule_changes_no_state() -> None:
    x = Variable(np.zeros(2), name="x")
    optimizer = Adam(x)
    before = optimizer.state()
    optimizer.learning_rate = Exp(1.0, gamma=0.5)
    after = optimizer.state()
    assert after.arrays.keys() == before.arrays.keys()
    assert after.meta.keys() == before.meta.keys()
    assert optimizer.optimization_state == OptimizationState()


def test_a_schedule_cannot_change_the_state_that_it_is_given() -> None:
    def meddle(state: OptimizationState) -> float:
        state.curr_epoch = 99
        return 0.1

    optimizer = SGD(learning_rate=meddle)
    assert optimizer.current("learning_rate") == 0.1
    assert optimizer.optimization_state.curr_epoch == 0
