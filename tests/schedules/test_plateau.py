"""Plateau against PyTorch's ReduceLROnPlateau on random sequences of metrics, and its state."""

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg as tw
from thalweg import schedules
from thalweg.errors import HyperparameterError, StateMismatchError
from thalweg.schedules import Chain, Counts, Join, OptimizationState, Plateau, Schedule, WarmUp

HERE = OptimizationState()

MODES = [("min", "rel"), ("min", "abs"), ("max", "rel"), ("max", "abs")]


def torchs(metrics: np.ndarray, **arguments: object) -> list[float]:
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, eps=0.0, **arguments)
    rates = []
    for metric in metrics:
        optimizer.step()
        scheduler.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def ours(metrics: np.ndarray, schedule: Plateau) -> list[float]:
    rates = []
    for metric in metrics:
        schedule.observe(metric)
        rates.append(schedule(HERE))
    return rates


@pytest.mark.parametrize(("mode", "threshold_mode"), MODES)
@pytest.mark.parametrize("seed", range(8))
def test_pytorch_reduces_at_the_same_values(mode: str, threshold_mode: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sign = -1.0 if mode == "min" else 1.0
    metrics = 3.0 + sign * np.linspace(0.0, 1.0, 300) ** 0.2 + rng.normal(0.0, 0.1, 300)
    assert metrics.min() > 0  # see test_a_negative_best
    metrics[rng.random(300) < 0.02] = math.nan
    metrics[rng.random(300) < 0.02] = math.inf if mode == "min" else -math.inf
    both = {
        "factor": float(rng.choice([0.9, 0.5, 0.1])),
        "patience": int(rng.integers(0, 6)),
        "threshold": float(rng.choice([0.0, 1e-4, 0.02])),
        "cooldown": int(rng.integers(0, 5)),
    }
    least = float(rng.choice([0.0, 0.01, 0.2]))
    print(seed, both, least)
    expected = torchs(metrics, mode=mode, threshold_mode=threshold_mode, min_lr=least, **both)
    found = ours(metrics, Plateau(0.5, mode=mode, threshold_mode=threshold_mode, minimum=least, **both))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)
    assert len(set(expected)) > 1


@pytest.mark.parametrize("seed", range(4))
def test_optax_reduces_at_the_same_values_with_one_more_patience(seed: int) -> None:
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    rng = np.random.default_rng(seed)
    metrics = 3.0 - np.linspace(0.0, 1.0, 200) ** 0.2 + rng.normal(0.0, 0.1, 200)
    both = {"factor": 0.9, "cooldown": int(rng.integers(0, 5))}
    patience = int(rng.integers(0, 6))
    print(seed, both, patience)
    with jax.enable_x64(True):
        transform = optax.contrib.reduce_on_plateau(patience=patience + 1, rtol=0.01, min_scale=0.2, **both)

        def step(state: object, metric: object) -> tuple[object, object]:
            update, state = transform.update(0.5, state, value=metric)
            return state, update

        _, expected = jax.lax.scan(step, transform.init(jax.numpy.asarray(0.5)), metrics)
        found = ours(metrics, Plateau(0.5, patience=patience, threshold=0.01, minimum=0.1, **both))
        np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-12)
    assert len(set(found)) > 1


@settings(max_examples=200, deadline=None)
@given(
    metrics=st.lists(st.floats(0.001, 1000.0) | st.just(math.nan), max_size=40),
    patience=st.integers(0, 3),
    cooldown=st.integers(0, 3),
    mode=st.sampled_from(["min", "max"]),
    minimum=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_pytorch_agrees_on_what_hypothesis_finds(
    metrics: list[float], patience: int, cooldown: int, mode: str, minimum: float
) -> None:
    both = {"mode": mode, "patience": patience, "cooldown": cooldown, "factor": 0.5, "threshold": 0.0}
    expected = torchs(np.array(metrics), min_lr=minimum, **both)
    np.testing.assert_allclose(ours(np.array(metrics), Plateau(0.5, minimum=minimum, **both)), expected, rtol=1e-12)


@pytest.mark.parametrize(("mode", "best", "worse"), [("min", -1.0, -0.9999), ("max", -1.0, -1.0001)])
def test_with_a_negative_best_worse_is_not_better(mode: str, best: float, worse: float) -> None:
    schedule = Plateau(1.0, mode=mode, threshold=0.01, patience=100)
    schedule.observe(best)
    schedule.observe(worse)
    assert schedule.state()["best"] == best
    assert schedule.state()["bad_count"] == 1


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_better(mode: str, value: float) -> None:
    schedule = Plateau(1.0, mode=mode, patience=0, factor=0.5)
    schedule.observe(value)
    assert schedule.state() == {"best": None, "bad_count": 0, "cooldown_count": 0, "factor": 0.5}
    schedule.observe(3.0)
    schedule.observe(value)
    assert schedule.state()["best"] == 3.0
    assert schedule(HERE) == 0.25
    json.dumps(schedule.state(), allow_nan=False)


def test_it_stops_at_the_minimum() -> None:
    schedule = Plateau(1.0, factor=0.1, patience=0, minimum=0.05)
    schedule.observe(1.0)
    for _ in range(1000):
        schedule.observe(1.0)
    assert schedule(HERE) == 0.05
    assert schedule.state()["factor"] == pytest.approx(0.01)


@pytest.mark.parametrize("value", ["1.0", None, True, [1.0], np.ones(1), np.ones((2, 2)), 1j, 10**400, object()])
def test_a_metric_is_a_number(value: object) -> None:
    schedule = Plateau(1.0)
    schedule.observe(2.0)
    before = schedule.state()
    with pytest.raises(HyperparameterError, match="metric"):
        schedule.observe(value)  # type: ignore[arg-type]
    assert schedule.state() == before


def test_a_metric_may_be_any_librarys_number() -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    schedule = Plateau(1.0)
    for metric in (4, np.float32(3.0), np.array(2.0), torch.tensor(1.0), jax.numpy.asarray(0.5)):
        schedule.observe(metric)
        assert schedule.state()["best"] == float(metric)
        assert type(schedule.state()["best"]) is float


def test_a_call_only_reads() -> None:
    schedule = Plateau(8.0, factor=0.5, patience=0)
    assert schedule.values(3).tolist() == [8.0, 8.0, 8.0]
    schedule.observe(1.0)
    schedule.observe(1.0)
    before = schedule.state()
    assert schedule.values(3).tolist() == [4.0, 4.0, 4.0]
    assert schedule(Counts(curr_epoch=np.arange(3))) == 4.0
    assert schedule.state() == before


@pytest.mark.parametrize("seed", range(5))
def test_restored_in_the_middle_it_goes_on_as_if_nothing_had_been(seed: int) -> None:
    rng = np.random.default_rng(seed)
    metrics = rng.random(60)
    config = {"kind": "plateau", "initial": 1.0, "factor": 0.5, "patience": 2, "cooldown": 3}
    whole, first = schedules.build(config), schedules.build(config)
    expected = ours(metrics, whole)
    found = ours(metrics[:23], first)
    saved = json.loads(json.dumps(first.state(), allow_nan=False))
    second = schedules.build(json.loads(json.dumps(first.get_config())))
    assert second == first
    assert second(HERE) == 1.0  # the config holds parameters only
    second.restore(saved)
    assert second.state() == first.state() == saved
    assert found + ours(metrics[23:], second) == expected


GOOD = {"best": 1.5, "bad_count": 2, "cooldown_count": 0, "factor": 0.25}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (None, "expected"),
        ([], "expected"),
        ({}, "expected"),
        ({**GOOD, "more": 1}, "more"),
        ({name: GOOD[name] for name in ("best", "bad_count", "factor")}, "cooldown_count"),
        ({**GOOD, "best": "1.5"}, "best"),
        ({**GOOD, "best": math.nan}, "best"),
        ({**GOOD, "best": math.inf}, "best"),
        ({**GOOD, "best": True}, "best"),
        ({**GOOD, "bad_count": 2.5}, "bad_count"),
        ({**GOOD, "bad_count": -1}, "bad_count"),
        ({**GOOD, "bad_count": 4}, "bad_count"),
        ({**GOOD, "bad_count": None}, "bad_count"),
        ({**GOOD, "cooldown_count": 3}, "cooldown_count"),
        ({**GOOD, "cooldown_count": True}, "cooldown_count"),
        ({**GOOD, "factor": 1.5}, "factor"),
        ({**GOOD, "factor": -0.5}, "factor"),
        ({**GOOD, "factor": None}, "factor"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(state: object, words: str) -> None:
    schedule = Plateau(1.0, patience=3, cooldown=2)
    schedule.restore(GOOD)
    with pytest.raises(StateMismatchError, match=words):
        schedule.restore(state)  # type: ignore[arg-type]
    assert schedule.state() == GOOD


def test_the_state_is_a_copy() -> None:
    schedule = Plateau(1.0)
    schedule.state()["factor"] = 0.0
    saved = dict(GOOD)
    schedule.restore(saved)
    saved["factor"] = 0.0
    assert schedule.state() == GOOD


def test_copies_go_their_own_way() -> None:
    first = Plateau(1.0, patience=0, factor=0.5)
    first.observe(1.0)
    second = copy.deepcopy(first)
    second.observe(1.0)
    assert (first(HERE), second(HERE)) == (1.0, 0.5)


def composite() -> Schedule:
    plateau = Plateau(2.0, patience=0, factor=0.5)
    other = Plateau(1.0, patience=1, factor=0.1)
    return Join([WarmUp(Chain([plateau, other]), duration=4), plateau], boundaries=[8])


def test_inside_other_schedules_each_is_told_once_and_saved() -> None:
    schedule = composite()
    schedule.observe(1.0)
    schedule.observe(1.0)  # the plateau that is there twice has had one bad value, not two
    assert schedule.values(10).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    schedule.observe(1.0)
    np.testing.assert_allclose(schedule.values(10)[4:], [0.05] * 4 + [0.5] * 2)
    saved = json.loads(json.dumps(schedule.state(), allow_nan=False))
    again = composite()
    again.restore(saved)
    np.testing.assert_array_equal(again.values(10), schedule.values(10))
    assert again.state() == saved


def test_all_of_a_nested_state_is_restored_or_nothing() -> None:
    schedule = composite()
    schedule.observe(1.0)
    before = schedule.state()
    broken = copy.deepcopy(before)
    broken["schedules.0"]["then"]["factors.0"]["factor"] = 0.5
    broken["schedules.1"]["factor"] = 7.0
    with pytest.raises(StateMismatchError, match="factor"):
        schedule.restore(broken)
    for wrong in (None, {}, {**before, "more": {}}):
        with pytest.raises(StateMismatchError, match=r"schedules\.0"):
            schedule.restore(wrong)  # type: ignore[arg-type]
    assert schedule.state() == before


def test_a_schedule_without_state_refuses_one() -> None:
    with pytest.raises(StateMismatchError, match="expected"):
        schedules.Exp(1.0).restore(GOOD)


def test_in_an_optimizer_it_is_read_before_each_step() -> None:
    x = tw.Variable(np.zeros(1), name="x", needs_grad=True)
    schedule = Plateau(1.0, patience=0, factor=0.5)
    optimizer = tw.GradientDescent(x, learning_rate=schedule)
    for _ in range(3):
        x.grad = -np.ones(1)
        tw.wait(optimizer.step())
        optimizer.clear_grad()
        schedule.observe(1.0)
    assert x.data.tolist() == [2.5]
