"""get_learning_rate and get_momentum: a number, or what a schedule says at given counts; and the page's beside ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg.dialects import mxnet
from thalweg.errors import HyperparameterError
from thalweg.schedules import Exp, Fixed, Inv, OptimizationState, Plateau

COUNTS = [(epoch, batch, iteration) for epoch in range(4) for batch, iteration in ((0, 0), (1, 1), (3, 7))]


@pytest.mark.parametrize(
    "schedule",
    [
        Fixed(0.5),
        Exp(0.5, gamma=0.25),
        Inv(0.5, gamma=0.75, power=2.0, decay_on_iteration=True),
        lambda state: 0.5 / (state.curr_epoch + state.batch_size),
        0.5,
        0,
    ],
    ids=["fixed", "exp", "inv", "own", "number", "zero"],
)
def test_it_is_what_an_optimizer_uses(schedule: Any) -> None:
    for epoch, batch, iteration in COUNTS:
        state = OptimizationState(8, epoch, batch, iteration)
        optimizer = tw.Momentum(learning_rate=schedule, momentum=schedule)
        for name, value in state.get_config().items():
            setattr(optimizer.optimization_state, name, value)
        rate, momentum = tw.get_learning_rate(schedule, state), tw.get_momentum(schedule, state)
        assert rate == optimizer.current("learning_rate")
        assert momentum == optimizer.current("momentum")
        assert type(rate) is type(momentum) is float
        assert state == OptimizationState(8, epoch, batch, iteration)


def test_a_plateau_says_what_it_was_told() -> None:
    plateau = Plateau(1.0, factor=0.5, patience=0)
    assert tw.get_learning_rate(plateau, OptimizationState()) == 1.0
    for loss in (1.0, 2.0):
        plateau.observe(loss)
    assert tw.get_learning_rate(plateau, OptimizationState()) == 0.5


def test_a_schedule_cannot_change_the_state() -> None:
    def meddling(state: OptimizationState) -> float:
        state.begin_epoch()
        return 0.5

    state = OptimizationState()
    assert tw.get_momentum(meddling, state) == 0.5
    assert state.curr_epoch == 0


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        (-0.5, "learning_rate is -0.5, outside its range"),
        (float("nan"), "learning_rate is nan"),
        ("fast", "give a real number"),
        (None, "give a real number"),
        (True, "give a real number"),
        (Exp, r"the scheduler is the class Exp; give one made of it, Exp\(...\)"),
        (lambda state: -1.0, "learning_rate is -1.0"),
        (lambda state: None, "give a real number"),
        (mxnet.LearningRate.Fixed(0.5), "give a real number"),
        (np.ones(2), "give a real number"),
    ],
    ids=["negative", "nan", "text", "nothing", "boolean", "class", "says negative", "says nothing", "page's", "array"],
)
def test_what_is_no_rate_is_refused(scheduler: Any, words: str) -> None:
    with pytest.raises(HyperparameterError, match=f"get_learning_rate: .*{words}") as caught:
        tw.get_learning_rate(scheduler, OptimizationState())
    if callable(scheduler) and not isinstance(scheduler, type):
        assert "that is what the schedule" in caught.value.__notes__[0]


def test_a_momentum_is_below_one() -> None:
    assert tw.get_momentum(0.999, OptimizationState()) == 0.999
    for wrong in (1.0, lambda state: 1.0, -0.1):
        with pytest.raises(HyperparameterError, match=r"momentum is .*outside its range \[0, 1\)"):
            tw.get_momentum(wrong, OptimizationState())


@pytest.mark.parametrize(
    "state", [None, 3, {"curr_epoch": 1}, tw.schedules.Counts()], ids=["none", "int", "table", "counts"]
)
def test_a_state_that_is_none_is_refused(state: Any) -> None:
    for function in (tw.get_learning_rate, tw.get_momentum):
        with pytest.raises(HyperparameterError, match="give an OptimizationState"):
            function(0.5, state)


OF_THE_PAGE = [
    (mxnet.LearningRate.Fixed(0.5), Fixed(0.5)),
    (mxnet.LearningRate.Exp(0.5, gamma=0.75), Exp(0.5 * 0.75, gamma=0.75)),
    (mxnet.LearningRate.Exp(0.5, decay_on_iteration=True), Exp(0.5 * 0.9, gamma=0.9, decay_on_iteration=True)),
    (mxnet.LearningRate.Inv(0.5, gamma=0.5, power=1), Inv(0.5 / 1.5, gamma=0.5 / 1.5, power=1)),
    (mxnet.LearningRate.Inv(0.5), Inv(0.5 / 1.9**0.5, gamma=0.9 / 1.9, power=0.5)),
]


@pytest.mark.parametrize(("page", "ours"), OF_THE_PAGE, ids=["Fixed", "Exp", "Exp of iterations", "Inv", "Inv's own"])
def test_the_page_counts_one_more_and_the_table_of_the_docs_says_how(page: Any, ours: Any) -> None:
    """From the first epoch (or iteration) on: t is what has begun there, and what is completed here."""
    for count in range(1, 20):
        state = OptimizationState(curr_epoch=count, curr_iter=count)
        expected = mxnet.get_learning_rate(page, state)
        assert tw.get_learning_rate(ours, state) == pytest.approx(expected, rel=1e-14)


def test_the_page_s_momentum_is_a_number() -> None:
    state = OptimizationState()
    assert tw.get_momentum(0.0, state) == mxnet.get_momentum(mxnet.Momentum.Null(), state)
    assert tw.get_momentum(0.9, state) == mxnet.get_momentum(mxnet.Momentum.Fixed(0.9), state)
