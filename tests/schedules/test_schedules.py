from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from thalweg import schedules
from thalweg.errors import HyperparameterError
from thalweg.schedules import (
    Chain,
    Cosine,
    Cyclic,
    Exp,
    Fixed,
    Inv,
    Join,
    OneCycle,
    OptimizationState,
    Piecewise,
    Plateau,
    Polynomial,
    Schedule,
    Step,
    WarmUp,
)


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


NAN, INFINITE = float("nan"), float("inf")

NUMBERS: dict[type[Schedule], dict[str, object]] = {
    Fixed: {"initial": 1.0},
    Exp: {"initial": 1.0, "gamma": 0.5},
    Inv: {"initial": 1.0, "gamma": 0.5, "power": 1.0},
    Step: {"initial": 1.0, "period": 3, "gamma": 0.5},
    Piecewise: {"initial": 1.0, "factor": 0.5},
    Polynomial: {"initial": 1.0, "duration": 3, "final": 0.5, "power": 2.0},
    Cosine: {"initial": 1.0, "period": 3, "minimum": 0.5, "t_mult": 2},
    OneCycle: {"peak": 1.0, "duration": 30, "pct_start": 0.3, "div_factor": 2.0, "final_div_factor": 2.0},
    Cyclic: {"initial": 1.0, "peak": 2.0, "up": 3, "down": 2, "gamma": 0.5},
    WarmUp: {"then": 1.0, "duration": 3, "initial": 0.5},
    Plateau: {"initial": 1.0, "factor": 0.5, "patience": 3, "threshold": 0.1, "cooldown": 2, "minimum": 0.5},
}
REST: dict[type[Schedule], dict[str, object]] = {
    Piecewise: {"boundaries": [2]},
    Cosine: {"restarts": True},
    Cyclic: {"mode": "exp_range"},
}


@pytest.mark.parametrize(("cls", "name"), [(cls, name) for cls, given in NUMBERS.items() for name in given])
@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE, True, "1", 10**400, {}], ids=repr)
def test_each_number_is_a_finite_number(cls: type[Schedule], name: str, value: object) -> None:
    given = {**NUMBERS[cls], **REST.get(cls, {})}
    cls(**given)
    with pytest.raises(HyperparameterError, match=name):
        cls(**{**given, name: value})


def test_each_kind_of_number_is_in_the_table_above() -> None:
    listed = {name for cls, names in NUMBERS.items() for name in ((cls.kind, name) for name in names)}
    declared = {(kind, name) for kind, cls in schedules.registry.items() for name in cls.ranges}
    assert declared <= listed | {("warm_up", "fraction")}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Exp(1.0, gamma=0.0), "gamma"),
        (lambda: Exp(1.0, gamma=1.0), "gamma"),
        (lambda: Exp(1.0, decay_on_iteration=1), "give True or False"),
        (lambda: Inv(1.0, gamma=0.0), "gamma"),
        (lambda: Inv(1.0, power=-0.1), "power"),
        (lambda: Step(1.0, period=0), "period"),
        (lambda: Step(1.0, period=-3), "period"),
        (lambda: Step(1.0, period=2.5), "integers"),
        (lambda: Step(1.0, period=2, gamma=1.0), "gamma"),
        (lambda: Piecewise(1.0, boundaries=[], factor=0.5), "boundaries is empty"),
        (lambda: Piecewise(1.0, boundaries=[0], factor=0.5), "boundaries"),
        (lambda: Piecewise(1.0, boundaries=[3, 3], factor=0.5), "3 after 3"),
        (lambda: Piecewise(1.0, boundaries=[3, 2], factor=0.5), "2 after 3"),
        (lambda: Piecewise(1.0, boundaries=[1.5], factor=0.5), "boundaries"),
        (lambda: Piecewise(1.0, boundaries=[True], factor=0.5), "boundaries"),
        (lambda: Piecewise(1.0, boundaries=[NAN], factor=0.5), "boundaries"),
        (lambda: Piecewise(1.0, boundaries=3, factor=0.5), "give a list"),
        (lambda: Piecewise(1.0, boundaries="12", factor=0.5), "give a list"),
        (lambda: Piecewise(1.0, boundaries={1: 2}, factor=0.5), "give a list"),
        (lambda: Piecewise(1.0, boundaries=[1]), "neither"),
        (lambda: Piecewise(1.0, boundaries=[1], factor=0.5, levels=[1.0]), "both"),
        (lambda: Piecewise(1.0, boundaries=[1], levels=[1.0, 2.0]), "one for each"),
        (lambda: Piecewise(1.0, boundaries=[1, 2], factor=[0.5]), "one for each"),
        (lambda: Piecewise(1.0, boundaries=[1], levels=[]), "levels is empty"),
        (lambda: Piecewise(1.0, boundaries=[1], levels=[NAN]), "levels"),
        (lambda: Piecewise(1.0, boundaries=[1], levels=0.5), "give a list"),
        (lambda: Piecewise(1.0, boundaries=[1], factor=-0.5), "factor"),
        (lambda: Piecewise(1.0, boundaries=[1, 2], factor=1e200), "level"),
        (lambda: Polynomial(1.0, duration=0), "duration"),
        (lambda: Polynomial(1.0, duration=3, power=0.0), "power"),
        (lambda: Polynomial(1.0, duration=3, power=-1.0), "power"),
        (lambda: Cosine(1.0, period=0), "period"),
        (lambda: Cosine(1.0, period=3, restarts=True, t_mult=0), "t_mult"),
        (lambda: Cosine(1.0, period=3, restarts=True, t_mult=1.5), "t_mult"),
        (lambda: Cosine(1.0, period=3, t_mult=2), "no effect"),
        (lambda: Cosine(1.0, period=3, restarts=1), "give True or False"),
        (lambda: OneCycle(1.0, duration=0), "duration"),
        (lambda: OneCycle(1.0, duration=3), "longer duration"),
        (lambda: OneCycle(1.0, duration=10, pct_start=0.1), "another pct_start"),
        (lambda: OneCycle(1.0, duration=10, pct_start=0.6, three_phase=True), "another pct_start"),
        (lambda: OneCycle(1.0, duration=10, pct_start=1.0), "pct_start"),
        (lambda: OneCycle(1.0, duration=10, div_factor=0.0), "div_factor"),
        (lambda: OneCycle(1.0, duration=10, final_div_factor=-1.0), "final_div_factor"),
        (lambda: OneCycle(1.0, duration=10, final_div_factor=1e-320), "longer|ends at"),
        (lambda: OneCycle(1.0, duration=10, annealing="cos"), "did you mean 'cosine'"),
        (lambda: OneCycle(1.0, duration=10, annealing=None), "annealing"),
        (lambda: Cyclic(1.0, peak=2.0, up=0), "up"),
        (lambda: Cyclic(1.0, peak=2.0, down=-1), "down"),
        (lambda: Cyclic(1.0, peak=2.0, mode="triangle"), "did you mean 'triangular'"),
        (lambda: Cyclic(1.0, peak=2.0, gamma=0.5), "no effect"),
        (lambda: Cyclic(1.0, peak=2.0, mode="exp_range", gamma=1.1), "gamma"),
        (lambda: Cyclic(1.0, peak=2.0, mode="exp_range", gamma=0.0), "gamma"),
        (lambda: WarmUp(Exp(1.0), duration=0), "duration"),
        (lambda: WarmUp(Exp(1.0), duration=3, initial=0.1, fraction=0.1), "both"),
        (lambda: WarmUp(Exp(1.0), duration=3, fraction=-0.1), "fraction"),
        (lambda: WarmUp(Exp(1.0), duration=3, initial=NAN), "initial"),
        (lambda: WarmUp(Exp, duration=3), "give a schedule or a finite number"),
        (lambda: WarmUp({"kind": "fixed", "initial": 1.0}, duration=3), "schedules.build"),
        (lambda: WarmUp(lambda state: 1.0, duration=3), "then"),
        (lambda: Join([], boundaries=[1]), "schedules is empty"),
        (lambda: Join([Exp(1.0)], boundaries=[]), "boundaries is empty"),
        (lambda: Join([Exp(1.0), 1.0], boundaries=[1, 2]), "one boundary fewer"),
        (lambda: Join([Exp(1.0)], boundaries=[1]), "one boundary fewer"),
        (lambda: Join([Exp(1.0), 1.0, 2.0], boundaries=[2, 2]), "2 after 2"),
        (lambda: Join([Exp(1.0), 1.0], boundaries=[0]), "boundaries"),
        (lambda: Join([Exp(1.0), "1.0"], boundaries=[1]), r"schedules\[1\]"),
        (lambda: Join(Exp(1.0), boundaries=[1]), "give a list"),
        (lambda: Chain([]), "factors is empty"),
        (lambda: Chain([Exp(1.0), NAN]), r"factors\[1\]"),
        (lambda: Chain(2.0), "give a list"),
        (lambda: Plateau(1.0, factor=1.0), "factor"),
        (lambda: Plateau(1.0, factor=0.0), "factor"),
        (lambda: Plateau(1.0, patience=-1), "patience"),
        (lambda: Plateau(1.0, patience=1.5), "patience"),
        (lambda: Plateau(1.0, cooldown=-1), "cooldown"),
        (lambda: Plateau(1.0, threshold=-0.1), "threshold"),
        (lambda: Plateau(1.0, minimum=2.0), "above initial"),
        (lambda: Plateau(1.0, mode="minimum"), "did you mean 'min'"),
        (lambda: Plateau(1.0, threshold_mode="relative"), "did you mean 'rel'"),
    ],
)
def test_parameters_are_checked(wrong: Callable[[], object], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words):
        wrong()


def test_zero_is_a_value() -> None:
    assert Fixed(0)(at()) == 0.0
    assert Inv(1.0, power=0).values(3).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kind": "expo", "initial": 1.0}, "did you mean 'exp'"),
        ({"initial": 1.0}, "has no 'kind'; it is one of chain, "),
        ({"kind": ["exp"], "initial": 1.0}, "no schedule"),
        ({"kind": "exp", "initial": 10**400}, "too large for a float"),
        ({"kind": "exp", "initial": 1.0, "gama": 0.5}, "did you mean 'gamma'"),
        ({"kind": "exp"}, "needs 'initial'"),
        ("exp", "table"),
        ([], "table"),
        ({"kind": "exp", "initial": 1.0, 3: 0.5}, "parameter of schedule 'exp' '3'"),
        ({"kind": "cosin", "initial": 1.0}, "did you mean 'cosine'"),
        ({"kind": "warmup", "then": 1.0}, "did you mean 'warm_up'"),
        ({"kind": "onecycle", "peak": 1.0}, "did you mean 'one_cycle'"),
        ({"kind": "step", "initial": 1.0}, "needs 'period'"),
        ({"kind": "warm_up", "duration": 3}, "needs 'then'"),
        ({"kind": "warm_up", "duration": 3, "then": {"kind": "expo", "initial": 1.0}}, "did you mean 'exp'"),
        ({"kind": "warm_up", "duration": 3, "then": {}}, "has no 'kind'"),
        ({"kind": "chain", "factors": [1.0, {"kind": "exp", "gama": 0.5}]}, "did you mean 'gamma'"),
        ({"kind": "chain", "factors": [1.0, {"kind": "exp"}]}, "needs 'initial'"),
        ({"kind": "join", "schedules": {"kind": "exp", "initial": 1.0}, "boundaries": [1]}, "give a list"),
        ({"kind": "join", "schedules": [1.0, [2.0]], "boundaries": [1]}, r"schedules\[1\]"),
        ({"kind": "fixed", "initial": {"kind": "fixed", "initial": 1.0}}, "initial"),
        ({"kind": "exp", "initial": 1.0, "gamma": 2.0}, r"outside its range \(0, 1\)"),
    ],
)
def test_tables_with_mistakes_are_refused(table: dict[str, object], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words):
        schedules.build(table)


def test_a_mistake_in_a_nested_table_says_where_it_is() -> None:
    table = {"kind": "warm_up", "duration": 3, "then": {"kind": "chain", "factors": [1.0, {"kind": "exp"}]}}
    with pytest.raises(HyperparameterError) as caught:
        schedules.build(table)
    assert caught.value.__notes__ == [
        "that is factors of schedule 'chain', item 1",
        "that is then of schedule 'warm_up'",
    ]


def test_building_does_not_change_the_table() -> None:
    table = {"kind": "chain", "factors": [{"kind": "exp", "initial": 1.0}, 2.0]}
    copied = {"kind": "chain", "factors": [{"kind": "exp", "initial": 1.0}, 2.0]}
    schedules.build(table)
    assert table == copied


@pytest.mark.parametrize("rate", [Exp(0.1, gamma=0.5), Step(0.1, period=2), Inv(0.1)])
def test_a_number_instead_of_a_state_is_refused_with_what_to_do(rate: Schedule) -> None:
    with pytest.raises(HyperparameterError, match=r"was called with 3; schedule\.values\(n\) are its first n values"):
        rate(3)  # type: ignore[arg-type]


def test_the_error_of_a_state_of_the_user_s_own_is_not_hidden() -> None:
    class Mine(OptimizationState):
        @property
        def completed_epochs(self) -> int:
            raise AttributeError("the loader has no epoch")

    with pytest.raises(AttributeError, match="the loader has no epoch"):
        Exp(0.1, gamma=0.5)(Mine())
