"""Samples that say which they are: a fold that comes again is no new evidence."""

import json

import numpy as np
import pytest

from thalweg.errors import SearchError
from thalweg.graph import wait
from thalweg.search import Reward, SampleReward, StructuredVariable
from thalweg.search.ready import Search

SCHEMA = {"type": "object", "properties": {"x": {"type": "number", "minimum": -5, "maximum": 5}}, "required": ["x"]}


def point():
    return StructuredVariable({"x": 4.0}, SCHEMA, name="x")


def folds(x, numbers=range(4)):
    return [SampleReward(-((x - 1.0) ** 2) * (1 + 0.3 * fold), sample=fold) for fold in numbers]


def test_the_same_folds_at_each_call_are_each_seen_once_by_each_of_as_many_candidates():
    x, search, tried = point(), Search("tpe", seed=0), []
    for _ in range(40):
        tried.append(x.get("x"))
        wait(search.apply_optimization([x], folds(x.get("x"))))
    assert len(set(tried)) == 40, "nothing is scored again: there is no fold that it has not seen"
    assert {search.scores.count(number) for number in search.scores.numbers} == {4}
    best = search.scores.best()
    assert search.scores.mean(best) == Reward.of(folds(tried[best])).value


def test_contenders_are_scored_again_where_there_are_samples_that_they_have_not_seen():
    x, search = point(), Search("random", seed=0)
    for call in range(20):
        wait(search.apply_optimization([x], folds(x.get("x"), range(4) if call % 2 else range(4, 8))))
    counts = [search.scores.count(number) for number in search.scores.numbers]
    assert max(counts) == 8
    assert sum(counts) < 20 * 4 or len(counts) < 20


def test_the_numbers_are_in_the_state_and_go_on():
    def told(search, x, calls):
        for call in calls:
            wait(search.apply_optimization([x], folds(x.get("x"), range(4 * (call % 3), 4 * (call % 3) + 4))))

    whole, x = Search("tpe", seed=1), point()
    told(whole, x, range(7))
    store = {}
    whole.save_own_variables(store)
    again, y = Search("tpe", seed=1), point()
    again.bind([y])
    again.load_own_variables(json.loads(json.dumps(store)))
    y.assign(x.json())
    told(whole, x, range(7, 14))
    told(again, y, range(7, 14))
    assert y.json() == x.json()
    assert again.scores.state() == whole.scores.state()


@pytest.mark.parametrize("first", [True, False])
def test_samples_with_and_without_a_number_do_not_mix(first):
    x, search = point(), Search("random", seed=0)
    with_number, without = folds(1.0), [SampleReward(1.0)] * 4
    wait(search.apply_optimization([x], with_number if first else without))
    state = search.state()
    with pytest.raises(SearchError, match="all of them their number, or none"):
        wait(search.apply_optimization([x], without if first else with_number))
    with pytest.raises(SearchError, match="all of them their number, or none"):
        wait(search.apply_optimization([x], [with_number[0], without[0]]))
    assert search.state().arrays["search"].tobytes() == state.arrays["search"].tobytes()


def test_a_sample_that_is_there_twice_is_refused():
    search = Search("random", seed=0)
    with pytest.raises(SearchError, match=r"twice in one reward.*\[2, 2\]"):
        wait(search.apply_optimization([point()], [SampleReward(1.0, sample=2)] * 2))


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array, int])
def test_numbers_of_samples_and_tokens_may_be_numpy_s(kind):
    found = SampleReward(np.float32(0.5), tokens=kind(7), sample=kind(3))
    assert (found.reward, found.tokens, found.sample) == (0.5, 7, 3)
    assert {type(found.tokens), type(found.sample)} == {int}


@pytest.mark.parametrize(
    "number", [-1, 1.0, True, "a", np.int64(-1), np.float64(1), np.bool_(True), np.array([1]), np.array(1.0)]
)
def test_a_number_that_is_none(number):
    with pytest.raises(SearchError, match="number of a sample"):
        SampleReward(1.0, sample=number)
