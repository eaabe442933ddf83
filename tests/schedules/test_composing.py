"""Schedules made of schedules, what they count, what they are made from, and their picture."""

import json
import math
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg as tw
from thalweg import schedules
from thalweg.errors import HyperparameterError
from thalweg.schedules import (
    Chain,
    Cosine,
    Counts,
    Cyclic,
    Exp,
    Fixed,
    Inv,
    Join,
    OneCycle,
    OptimizationState,
    Piecewise,
    Polynomial,
    Schedule,
    State,
    Step,
    WarmUp,
)

parts = st.one_of(
    st.builds(Fixed, st.floats(0.1, 10.0)),
    st.builds(Exp, st.floats(0.1, 10.0), gamma=st.floats(0.5, 0.99), decay_on_iteration=st.booleans()),
    st.builds(Inv, st.floats(0.1, 10.0), power=st.floats(0.0, 2.0)),
    st.builds(Step, st.floats(0.1, 10.0), period=st.integers(1, 60), gamma=st.floats(0.1, 0.9)),
    st.builds(
        Piecewise, st.just(1.0), boundaries=st.sets(st.integers(1, 90), min_size=1).map(sorted), factor=st.just(0.5)
    ),
    st.builds(Polynomial, st.floats(0.1, 10.0), duration=st.integers(1, 90), power=st.floats(0.3, 3.0)),
    st.builds(
        Cosine, st.floats(0.1, 10.0), period=st.integers(1, 60), restarts=st.just(True), t_mult=st.integers(1, 4)
    ),
    st.builds(OneCycle, st.floats(0.1, 10.0), duration=st.integers(8, 90)),
    st.builds(
        Cyclic,
        st.floats(0.1, 1.0),
        peak=st.floats(1.0, 10.0),
        up=st.integers(1, 30),
        down=st.none() | st.integers(1, 30),
        mode=st.sampled_from(["triangular", "triangular2", "exp_range"]),
    ),
)


def composed(inner: st.SearchStrategy[Schedule]) -> st.SearchStrategy[Schedule]:
    def joined(data: list[tuple[Schedule, int]], decay_on_iteration: bool) -> Schedule:
        ends = np.cumsum([length for _, length in data[:-1]]).tolist()
        return Join([part for part, _ in data], boundaries=ends, decay_on_iteration=decay_on_iteration)

    return st.one_of(
        st.builds(WarmUp, inner, duration=st.integers(1, 40), fraction=st.none() | st.floats(0.0, 1.0)),
        st.builds(Chain, st.lists(inner, min_size=1, max_size=3)),
        st.builds(joined, st.lists(st.tuples(inner, st.integers(1, 40)), min_size=2, max_size=4), st.booleans()),
    )


any_schedule = st.recursive(parts, composed, max_leaves=5)


@settings(max_examples=150, deadline=None)
@given(any_schedule)
def test_any_schedule_is_one_text_and_json(schedule: Schedule) -> None:
    values = schedule.values(100)
    assert np.isfinite(values).all()
    k = np.arange(1, 101)
    found = np.broadcast_to(schedule(Counts(curr_epoch=k, curr_iter=k)), 100)
    np.testing.assert_allclose(found, values, rtol=1e-12, atol=1e-14)
    built = schedules.build(json.loads(json.dumps(schedule.get_config(), allow_nan=False)))
    assert built == schedule
    np.testing.assert_array_equal(built.values(100), values)


@settings(max_examples=100, deadline=None)
@given(any_schedule, any_schedule, st.integers(1, 60))
def test_join_is_one_after_the_other(first: Schedule, second: Schedule, boundary: int) -> None:
    found = Join([first, second], boundaries=[boundary]).values(100)
    np.testing.assert_array_equal(found[:boundary], first.values(boundary))
    np.testing.assert_array_equal(found[boundary:], second.values(100 - boundary))


@settings(max_examples=100, deadline=None)
@given(any_schedule, st.integers(1, 60))
def test_after_the_warm_up_comes_the_schedule_from_its_begin(then: Schedule, duration: int) -> None:
    found, alone = WarmUp(then, duration=duration).values(100), then.values(100)
    np.testing.assert_array_equal(found[duration:], alone[: 100 - duration])
    np.testing.assert_allclose(found[:duration], alone[0] * np.arange(duration) / duration, rtol=1e-12, atol=1e-300)


@settings(max_examples=50, deadline=None)
@given(st.lists(any_schedule, min_size=1, max_size=3))
def test_chain_is_the_product(factors: list[Schedule]) -> None:
    expected = np.prod([factor.values(50) for factor in factors], axis=0)
    np.testing.assert_allclose(Chain(factors).values(50), expected, rtol=1e-12, atol=1e-300)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 5))
def test_restarts_come_when_they_should(period: int, t_mult: int) -> None:
    expected, done, length = [], 0, period
    for _ in range(500):
        expected.append(0.5 * (1.0 + math.cos(math.pi * done / length)))
        done += 1
        if done == length:
            done, length = 0, length * t_mult
    found = Cosine(1.0, period=period, restarts=True, t_mult=t_mult).values(500)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_restarts_far_out_are_exact() -> None:
    schedule = Cosine(1.0, period=10, restarts=True, t_mult=2, decay_on_iteration=True)
    start = 10 * (2**45 - 1)
    values = [schedule(OptimizationState(curr_iter=start + 1 + k)) for k in (-1, 0, 10 * 2**44)]
    assert values == [pytest.approx(0.0, abs=1e-12), 1.0, pytest.approx(0.5)]


def test_nested_schedules_follow_the_count_of_the_one_around_them() -> None:
    by_epoch = Join([Exp(8.0, gamma=0.5), Exp(1.0, gamma=0.5, decay_on_iteration=True)], boundaries=[2])
    found = [by_epoch(OptimizationState(curr_epoch=k, curr_iter=100)) for k in range(1, 6)]
    assert found == [8.0, 4.0, 1.0, 0.5, 0.25]
    by_iteration = WarmUp(Exp(8.0, gamma=0.5), duration=2)
    found = [by_iteration(OptimizationState(curr_epoch=1, curr_iter=k)) for k in range(1, 6)]
    assert found == [0.0, 4.0, 8.0, 4.0, 2.0]


def test_in_a_chain_each_counts_its_own() -> None:
    schedule = Chain([WarmUp(1.0, duration=4), Exp(8.0, gamma=0.5)])
    assert [schedule(OptimizationState(curr_epoch=2, curr_iter=k)) for k in range(1, 6)] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert schedule.counts == "epochs and iterations"
    assert Chain([2.0, WarmUp(1.0, duration=4)]).counts == "iterations"
    assert Chain([2.0]).counts == "epochs"


@dataclass(frozen=True)
class Listed(Schedule):
    """A user's schedule that has an end, and notes what it is asked."""

    kind = "listed"
    name: str
    asked: ClassVar[dict[str, list[tuple[int, int, int]]]] = {}

    def __call__(self, state: State) -> float:
        self.asked.setdefault(self.name, []).append((state.batch_size, state.curr_batch, state.completed_epochs))
        return [3.0, 2.0, 1.0][state.completed_iterations]


def test_a_part_is_never_asked_for_a_count_outside_its_turn() -> None:
    first, second = Listed("first"), Listed("second")
    schedule = Join([first, second], boundaries=[3])
    found = [schedule(OptimizationState(batch_size=8, curr_epoch=k, curr_batch=5)) for k in range(1, 7)]
    assert found == [3.0, 2.0, 1.0, 3.0, 2.0, 1.0]
    assert Listed.asked["first"] == [(8, 5, k) for k in (0, 1, 2, 2, 2, 2)]
    assert Listed.asked["second"] == [(8, 5, k) for k in (0, 0, 0, 0, 1, 2)]


def test_numbers_are_schedules() -> None:
    assert Join([1, Exp(2.0)], boundaries=(3,)).schedules == (Fixed(1.0), Exp(2.0))
    assert Chain(np.array([2.0, 3.0])).factors == (Fixed(2.0), Fixed(3.0))
    assert WarmUp(2, duration=1).then == Fixed(2.0)


def test_a_mutable_list_is_not_kept() -> None:
    factors, boundaries = [Exp(1.0), Exp(2.0)], np.array([2, 4])
    chain, pieces = Chain(factors), Piecewise(1.0, boundaries=boundaries, levels=[2, 3])
    factors.append(Exp(3.0))
    boundaries[0] = 3
    assert chain == Chain([Exp(1.0), Exp(2.0)])
    assert pieces.get_config()["boundaries"] == [2, 4]
    assert [type(item) for item in (*pieces.boundaries, *pieces.levels)] == [int, int, float, float]


def test_making_and_adding_one_changes_neither_optimizer_nor_state() -> None:
    x = tw.Variable(np.ones(3), name="x", needs_grad=True)
    optimizer = tw.Momentum(x, learning_rate=0.1)
    x.grad = np.ones(3)
    tw.wait(optimizer.step())
    state = optimizer.optimization_state
    counts = state.get_config()
    before, data = optimizer.get_config(), x.data.copy()
    schedule = WarmUp(Join([0.1, Exp(0.2)], boundaries=[5]), duration=3, initial=0.1)
    assert (optimizer.get_config(), state.get_config()) == (before, counts)
    optimizer.learning_rate = schedule
    assert optimizer.optimization_state is state
    assert state.get_config() == counts
    np.testing.assert_array_equal(x.data, data)
    changed = optimizer.get_config()
    assert changed.pop("learning_rate") == schedule.get_config()
    before.pop("learning_rate")
    assert changed == before


def test_an_optimizer_with_a_nested_schedule_comes_back_from_json() -> None:
    schedule = WarmUp(
        Join([Cosine(0.2, period=9), Piecewise(0.1, boundaries=[5], factor=0.5)], boundaries=[9]), duration=3
    )
    x = tw.Variable(np.ones(3), name="x", needs_grad=True)
    config = json.loads(json.dumps(tw.SGD(x, learning_rate=schedule).get_config()))
    assert tw.optimizers.build(config, x).learning_rate == schedule


def test_the_picture_has_the_values_and_says_what_they_are_against() -> None:
    schedule = Cosine(0.3, period=10)
    axes = schedule.plot(12)
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), np.arange(12))
    np.testing.assert_array_equal(line.get_ydata(), schedule.values(12))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("completed epochs", "value")
    assert axes.get_legend() is None  # there is nothing to tell apart
    same = WarmUp(0.3, duration=4).plot(12, axes=axes, label="a warm-up")
    assert same is axes
    assert axes.get_xlabel() == "completed iterations"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["cosine", "a warm-up"]


def test_the_picture_needs_no_display_and_leaves_pyplot_alone(tmp_path) -> None:
    code = (
        "import sys\n"
        "from thalweg.schedules import Exp\n"
        "assert 'matplotlib' not in sys.modules\n"
        "Exp(1.0).plot(20).figure.savefig(sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    path = tmp_path / "schedule.png"
    environment = {"PATH": "", "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=environment, timeout=120)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_tables_of_the_page_on_studies_are_schedules() -> None:
    page = Path(__file__).parents[2] / "docs" / "studies.md"
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("learning_rate = {")]
    kinds = {schedules.build(tomllib.loads(line)["learning_rate"]).kind for line in lines}
    assert kinds == schedules.registry.keys()


@pytest.mark.parametrize("n", [-1, 2.5, "3", True, float("nan")])
def test_how_many_is_a_count(n: object) -> None:
    for method in (Exp(1.0).values, Exp(1.0).plot):
        with pytest.raises(HyperparameterError, match="n is"):
            method(n)
