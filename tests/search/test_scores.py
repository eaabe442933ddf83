"""A mean is worth what is behind it."""

import json
import math

import numpy as np
import pytest

from thalweg.errors import SearchError
from thalweg.search.budget import Limits, Spent
from thalweg.search.scores import Scores


def test_means_and_bounds_are_those_of_the_formulas():
    scores = Scores(10, confidence=0.975)
    scores.add(0, {0: 1.0, 3: 2.0, 4: 6.0})
    scores.add(1, {0: 0.0, 1: 2.0})
    assert scores.mean(0) == 3.0
    deviation = math.sqrt((4 + 1 + 9 + 1 + 1) / (2 + 1))
    assert scores.deviation() == pytest.approx(deviation, rel=1e-15)
    half = 1.959963984540054 * deviation / math.sqrt(3) * math.sqrt(1 - 3 / 10)
    assert scores.bounds(0) == pytest.approx((3.0 - half, 3.0 + half), rel=1e-12)


def test_every_sample_seen_leaves_nothing_unsure():
    scores = Scores(2)
    scores.add(0, {0: 1.0, 1: 5.0})
    assert scores.bounds(0) == (3.0, 3.0)
    assert scores.contenders(5) == []


def test_bounds_cover_the_mean_as_often_as_they_say():
    generator = np.random.default_rng(5)
    missed = 0
    for _ in range(2000):
        population = generator.normal(size=60)
        scores = Scores(60, confidence=0.95)
        for number in range(5):  # the deviation is pooled over candidates
            picks = generator.choice(60, 12, replace=False)
            scores.add(number, {int(i): float(population[i]) for i in picks})
        missed += scores.bounds(0)[0] > population.mean()
    assert 0.03 < missed / 2000 < 0.075


def test_the_best_is_the_one_with_the_highest_lower_bound_and_ties_go_to_the_first():
    scores = Scores(100)
    scores.add(4, {0: 1.0, 1: 1.2})
    scores.add(2, {5: 1.0, 6: 1.2})
    assert scores.best() == 2
    assert scores.ranked() == [2, 4]
    scores.fail(2)
    assert scores.best() == 4
    assert scores.best(among=[2]) is None
    assert (scores.failed, scores.has_failed(2), scores.has_failed(4)) == ({2}, True, False)


def test_contenders_are_those_that_could_still_be_the_best():
    scores = Scores(1000)
    scores.add(0, {i: 5.0 + (-1) ** i for i in range(40)})
    scores.add(1, {0: 5.5, 1: 4.5})  # could be
    scores.add(2, {0: -50.0, 1: -49.0})  # hopeless
    assert 2 not in scores.contenders(9)
    assert scores.contenders(1) == [1]


def test_nothing_is_known_at_first():
    scores = Scores(None)
    assert scores.best() is None
    assert scores.deviation() == 0.0
    assert scores.contenders(3) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_not_finite_change_nothing(bad):
    scores = Scores(5)
    scores.add(0, {0: 1.0})
    with pytest.raises(SearchError, match="not finite"):
        scores.add(0, {1: 2.0, 2: bad})
    assert scores.seen(0) == {0}
    with pytest.raises(SearchError, match="none of the 5"):
        scores.add(0, {5: 1.0})


def test_state_is_json_and_comes_back_whole():
    scores = Scores(50)
    generator = np.random.default_rng(0)
    for number in range(7):
        scores.add(number, {int(i): float(generator.normal()) for i in generator.choice(50, 5, replace=False)})
    scores.fail(3)
    again = Scores(50)
    again.restore(json.loads(json.dumps(scores.state())))
    assert again.ranked() == scores.ranked()
    assert again.state() == scores.state()
    for damage in ({}, {"samples": 50, "rewards": {"0": [[0, math.nan]]}, "failed": []}, {"samples": 49}):
        with pytest.raises(SearchError):
            again.restore(damage)
    assert again.state() == scores.state()


@pytest.mark.parametrize(
    "arguments", [{"samples": 0}, {"samples": 5, "confidence": 0.5}, {"samples": 5, "confidence": 1}]
)
def test_arguments_out_of_range(arguments):
    with pytest.raises(SearchError):
        Scores(**arguments)


def test_limits_are_per_thing_and_free_things_need_no_budget():
    limits = Limits(evaluations=2, tokens=10, money=1.0)
    assert limits.refusal(Spent(1, 9, 0.5), Spent(1, 1, 0.5)) is None
    assert "2 evaluations" in limits.refusal(Spent(2), Spent(1))
    assert "10 tokens" in limits.refusal(Spent(1, 9), Spent(1, 2))
    assert "1 in money" in limits.refusal(Spent(1, 0, 0.6), Spent(0, 0, 0.5))
    assert limits.refusal(Spent(5, 50, 5.0), Spent()) is None
    for bad in ({"evaluations": -1}, {"tokens": 1.5}, {"money": math.nan}, {"evaluations": True}):
        with pytest.raises(SearchError):
            Spent(**bad)
