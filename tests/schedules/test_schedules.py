from __future__ import annotations

import numpy as np
import pytest

from thalweg import schedules
from thalweg.errors import HyperparameterError
from thalweg.schedules import Exp, Fixed, Inv, OptimizationState, Schedule


def at(epoch: int = 0, iteration: int = 0) -> OptimizationState:
    return OptimizationState(curr_epoch=epoch, curr_iter=iteration)


def test_the_state_counts_as_the_design_says() -> None:
    state = OptimizationState(batch_size=10)
    assert (state.batch_size, state.curr_epoch, state.curr_batch, state.curr_iter) == (10, 0, 0, 0)
    state.begin_epoch()
    state.begin_batch()
    state.begin_step()
    state.begin_batch()
    state.begin_step()
    assert (state.curr_epoch, state.curr_batch, state.curr_iter) == (1, 2, 2)
    state.begin_epoch()
    assert (state.curr_epoch, state.curr_batch, state.curr_iter) == (2, 0, 2)
    assert (state.completed_epochs, state.completed_iterations) == (1, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 0), ("batch_size", 2.5), ("curr_iter", -1), ("curr_epoch", "1"), ("curr_batch", True)],
)
def test_counts_are_counts(name: str, value: object) -> None:
    with pytest.raises(HyperparameterError, match=name):
        OptimizationState(**{name: value})  # type: ignore[arg-type]
    state = OptimizationState()
    with pytest.raises(HyperparameterError, match=name):
        setattr(state, name, value)
    assert state == OptimizationState()


def test_formulas() -> None:
    t = np.arange(6)
    np.testing.assert_array_equal(Fixed(3.0).values(6), np.full(6, 3.0))
    np.testing.assert_allclose(Exp(2.0, gamma=0.9).values(6), 2.0 * 0.9**t, rtol=1e-15)
    np.testing.assert_allclose(Inv(2.0, gamma=0.9, power=0.5).values(6), 2.0 * (1 + 0.9 * t) ** -0.5, rtol=1e-15)


@pytest.mark.parametrize("schedule", [Exp(2.0, gamma=0.5), Inv(2.0, gamma=1.0, power=1.0)], ids=["exp", "inv"])
def test_the_first_update_uses_the_initial_value_and_no_epoch_is_counted_late_or_twice(schedule: Schedule) -> None:
    assert schedule(at(epoch=0)) == 2.0  # nothing seen yet
    assert schedule(at(epoch=1)) == 2.0  # during the first pass
    assert schedule(at(epoch=2)) == 1.0
    assert schedule(at(epoch=1, iteration=77)) == 2.0


def test_decay_on_iteration_counts_iterations() -> None:
    schedule = Exp(2.0, gamma=0.5, decay_on_iteration=True)
    assert [schedule(at(epoch=5, iteration=k)) for k in range(4)] == [2.0, 2.0, 1.0, 0.5]


def test_a_schedule_is_a_pure_function() -> None:
    schedule, state = Exp(1.0, gamma=0.5), at(epoch=3)
    assert schedule(state) == schedule(state) == 0.25
    assert state == at(epoch=3)
    assert schedule == Exp(1.0, gamma=0.5)
    with pytest.raises(AttributeError):
        schedule.gamma = 0.1  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Exp(1.0, gamma=0.0),
        lambda: Exp(1.0, gamma=1.0),
        lambda: Exp(1.0, gamma=float("nan")),
        lambda: Exp(float("nan")),
        lambda: Inv(1.0, gamma=0.0),
        lambda: Inv(1.0, power=-0.1),
        lambda: Fixed("1"),  # type: ignore[arg-type]
        lambda: Exp(1.0, decay_on_iteration=1),  # type: ignore[arg-type]
    ],
)
def test_parameters_are_checked(wrong: object) -> None:
    with pytest.raises(HyperparameterError):
        wrong()  # type: ignore[operator]


def test_zero_is_a_value() -> None:
    assert Fixed(0)(at()) == 0.0
    assert Inv(1.0, power=0).values(3).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("schedule", [Fixed(1.5), Exp(2.0, gamma=0.3), Inv(1.0, power=2.0, decay_on_iteration=True)])
def test_config_round_trip(schedule: Schedule) -> None:
    assert schedules.build(schedule.get_config()) == schedule


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kind": "expo", "initial": 1.0}, "did you mean 'exp'"),
        ({"initial": 1.0}, "no schedule 'None'"),
        ({"kind": ["exp"], "initial": 1.0}, "no schedule"),
        ({"kind": "exp", "initial": 10**400}, "too large for a float"),
        ({"kind": "exp", "initial": 1.0, "gama": 0.5}, "did you mean 'gamma'"),
        ({"kind": "exp"}, "needs 'initial'"),
        ({"kind": "exp", "initial": 1.0, "gamma": 2.0}, r"outside its range \(0, 1\)"),
    ],
)
def test_tables_with_mistakes_are_refused(table: dict[str, object], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words):
        schedules.build(table)
