"""The interval of a difference holds as often as it says, at every number of samples; and it is said honestly."""

import numpy as np
import pytest

from thalweg.errors import RunError
from thalweg.runs import paired
from thalweg.runs.against import against_start, difference_cell
from thalweg.runs.paired import paired_difference
from thalweg.runs.summary import search_lines

TRIALS = 600


def normal(generator, n):
    return generator.normal(size=n), np.zeros(n)


def right_or_wrong(generator, n):
    """Rewards of 0 or 1, as of answers that are right or wrong."""
    return (generator.random(n) < 0.8).astype(float), (generator.random(n) < 0.6).astype(float)


def skewed(generator, n):
    return generator.exponential(size=n), 0.5 * generator.exponential(size=n)


def exponential(generator, n):
    return generator.exponential(size=n), np.zeros(n)


def coverage(rewards, truth, n):
    generator, hits, found = np.random.default_rng([1, n]), 0, 0
    for seed in range(TRIALS):
        one, other = (dict(enumerate(part.tolist())) for part in rewards(generator, n))
        interval = paired_difference(one, other, seed)
        if "low" in interval:
            found += 1
            hits += interval["low"] <= truth <= interval["high"]
    return hits / found


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(paired, "_RESAMPLES", 1000)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 8, 10, 15, 20, 30])
@pytest.mark.parametrize(("rewards", "truth"), [(normal, 0.0), (right_or_wrong, 0.2), (skewed, 0.5)])
def test_it_holds_as_often_as_it_says(rewards, truth, n):
    assert coverage(rewards, truth, n) > (0.93 if rewards is not skewed else 0.91)  # 0.93 to 0.95 in more trials


def test_what_the_text_says_of_differences_that_are_exponential_themselves():
    found = [coverage(exponential, 1.0, n) for n in (4, 30)]
    assert 0.84 < found[0] < found[1] < 0.96


def test_without_two_different_differences_there_is_no_interval():
    assert paired_difference({0: 1.0}, {0: 0.25}, 0) == {"mean": 0.75, "samples": 1}
    one = {item: 0.1 * item + 0.3 for item in range(9)}
    assert paired_difference(one, {item: 0.1 * item for item in range(9)}, 0) == {
        "mean": pytest.approx(0.3),
        "samples": 9,
    }, "they differ by rounding only"
    assert paired_difference(one, one, 0) == {"mean": 0.0, "samples": 9}
    assert paired_difference({0: 1e9, 1: 1e9 + 1e-4}, {0: 0.0, 1: 0.0}, 0).keys() == {"mean", "samples"}
    assert "low" in paired_difference({0: 1e-9, 1: 2e-9}, {0: 0.0, 1: 0.0}, 0)
    with pytest.raises(RunError, match="at least 1"):
        paired_difference({}, {}, 0)


def said(mean, low=None, high=None, samples=5, **more):
    ends = {} if low is None else {"low": low, "high": high}
    return {"difference": {"mean": mean, **ends, "samples": samples}, "scored_on": {"item_name": "fold"}, **more}


@pytest.mark.parametrize(
    ("search", "name", "text"),
    [
        (
            said(0.04625, 0.01, 0.08),
            "better than the start",
            "by 0.0462 (5 test folds), 95 % between +0.0100 and +0.0800",
        ),
        (
            said(-0.02189, -0.0784, 0.02917, 4),
            "worse than the start",
            "by 0.0219 (4 test folds), 95 % between -0.0784 and +0.0292: the two cannot be told apart",
        ),
        (said(-3.0, -5.0, -1.0), "worse than the start", "by 3.00 (5 test folds), 95 % between -5.00 and -1.00"),
        (
            said(0.0, -2000.0, 2000.0),
            "as good as the start",
            "(5 test folds), 95 % between -2000 and +2000: the two cannot be told apart",
        ),
        (
            said(0.5, samples=1),
            "better than the start",
            "by 0.5 (1 test fold); no interval: one difference says nothing of luck",
        ),
        (said(0.0), "as good as the start", "(5 test folds); no interval: all differences are equal"),
    ],
)
def test_how_it_is_said(search, name, text):
    assert against_start(search) == (name, text)
    assert dict(search_lines(search))[name] == text


def test_a_run_of_before_is_read():
    """Its difference does not say of how many samples it is, and may have no width."""
    before = {"difference": {"mean": 0.5, "low": 0.25, "high": 0.75}, "winner": {"test": {"samples": 2}}}
    assert against_start(before) == (
        "better than the start",
        "by 0.500 (2 test samples), 95 % between +0.250 and +0.750",
    )
    assert difference_cell(before) == "+0.500 (+0.250 to +0.750), 2 test samples"
    del before["winner"]
    assert "(test samples)" in against_start(before)[1]
    before["difference"] = {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert against_start(before)[1] == "by 0.5 (test samples); no interval: all differences are equal"
    assert against_start({}) is None
