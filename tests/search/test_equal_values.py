"""Candidates with equal values are one: what is known of one is known of all, also to the engine."""

import pytest

from thalweg.graph import wait
from thalweg.runs import Feedback
from thalweg.search import Reward, SampleReward, Search, StructuredVariable
from thalweg.search.trials import Scored

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 7}},
    "required": ["n"],
}
ROUNDS = 12


def made(**options):
    """A search that cannot help but repeat values; 1 is the best of them."""
    variable = StructuredVariable({"n": 0}, SCHEMA, name="choice")
    search = Search("tpe", seed=0, **{"candidates": 2, "rescore": 0, **options})
    search.bind([variable], samples=ROUNDS)
    return search, variable


def reward_of(n, sample):
    return -abs(n - 1) + 0.01 * sample


def a_round(search, sample, fails=()):
    """One iteration on one sample, on which some values fail. Returns what was scored."""
    rounds = []
    for trial in wait(search.propose()):
        n = trial.candidate.values["choice"]["n"]
        new = {sample} - trial.seen
        good = {i: SampleReward(reward_of(n, i)) for i in new if n not in fails}
        rounds.append(Scored(trial.candidate.number, good, {i: "no" for i in new if n in fails}, trial.again))
    wait(search.apply(Feedback(0.0, {}, rewards=tuple(rounds))))
    return rounds


def groups(search):
    """The numbers of the candidates by their values."""
    found = {}
    for number in range(search.asked):
        found.setdefault(search.values(number)["choice"]["n"], []).append(number)
    return found


def test_rewards_on_different_samples_are_put_together_and_the_first_number_stands_for_all():
    search, _ = made()
    for sample in range(ROUNDS):
        a_round(search, sample)
    found = groups(search)
    assert max(len(numbers) for numbers in found.values()) > 3
    assert search.scores.numbers == {numbers[0] for numbers in found.values()}
    for n, (first, *others) in found.items():
        samples = {number // 2 for number in (first, *others)}  # two candidates a round
        assert search.scores.seen(first) == samples
        mean = sum(reward_of(n, sample) for sample in samples) / len(samples)
        assert search.scores.mean(first) == pytest.approx(mean, abs=1e-14)
        heard = {search.engine.reward_of(number) for number in (first, *others)}
        assert heard == {search.scores.mean(first)}, "the engine was told anew of those before"
    best = search.best_of(4)
    assert len({search.values(number)["choice"]["n"] for number in best}) == len(best) > 3


def test_one_failure_is_that_of_all_and_nothing_more_is_paid_for_it():
    search, variable = made()
    for sample in range(8):
        a_round(search, sample)
    assert variable.json() == {"n": 1}
    assert len(groups(search)[1]) > 1
    later = []
    for sample in range(8, ROUNDS):
        later += a_round(search, sample, fails=(1,))
    ones = groups(search)[1]
    assert search.metrics()["failed"] == len(ones)
    assert {search.engine.reward_of(number) for number in ones} == {None}
    assert variable.json() == {"n": 2}
    assert not set(ones) & set(search.best_of(9))
    tried = [one for one in later if one.number in ones]
    assert len(tried) > 1
    assert sum(bool(one.failed) for one in tried) == 1, "from then on it is known"
    assert not any(one.rewards for one in tried)


def test_a_contender_is_not_scored_beside_a_new_candidate_with_its_values():
    search, _ = made(rescore=2)
    beside = 0
    for sample in range(ROUNDS):
        trials = wait(search.propose())
        again, fresh = (
            {t.candidate.values["choice"]["n"] for t in trials if t.again is is_again} for is_again in (True, False)
        )
        assert not again & fresh
        beside += bool(again)
        a_round(search, sample)
    assert beside > 3


def test_they_are_one_after_a_break_too():
    search, _ = made()
    other, _ = made()
    for sample in range(8):
        a_round(search, sample)
    other.restore(search.state())
    for sample in range(8, ROUNDS):
        for one in (search, other):
            a_round(one, sample, fails=(1,))
    assert other.state().arrays["search"].tobytes() == search.state().arrays["search"].tobytes()
    assert other.metrics() == search.metrics()


def test_from_python_they_are_one_as_well():
    variable = StructuredVariable({"n": 0}, SCHEMA, name="choice")
    search = Search("tpe", seed=0, rescore=0)
    wait(search.apply_optimization([variable]))
    for _ in range(24):
        n = variable.json()["n"]
        wait(search.apply_optimization([variable], Reward.of([SampleReward(reward_of(n, i)) for i in range(2)])))
    assert search.scores.best() == groups(search)[1][0]
    assert sum(search.scores.count(number) for number in search.scores.numbers) == 48
    while variable.json()["n"] != 1:
        wait(search.apply_optimization([variable], -1.0))
    wait(search.fail([variable], "no"))
    wait(search.finalize_variable_values([variable]))
    assert variable.json() != {"n": 1}
