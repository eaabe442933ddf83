"""Successive halving: who rises, to which share, and that it goes on after a restore."""

from __future__ import annotations

import json

import pytest

import thalweg as tw
from thalweg.errors import SearchError, StateMismatchError
from thalweg.search.engine import Told
from thalweg.search.halving import Halving
from thalweg.search.space import Space

LINE = Space.of({"type": "number", "minimum": 0, "maximum": 1}, name="x")


def ask(engine, count=1):
    return tw.wait(engine.ask(count))


def tell(engine, candidates, reward=lambda one: one.values["x"]):
    engine.tell([Told(one.number, reward(one)) for one in candidates])


def test_the_best_third_of_each_rung_rises():
    engine = Halving(LINE, seed=0)
    first = ask(engine, 9)
    assert {one.resource for one in first} == {1 / 9}
    tell(engine, first)
    second = ask(engine, 3)
    best = sorted(first, key=lambda one: -one.values["x"])[:3]
    assert [one.number for one in second] == [one.number for one in best]
    assert [one.resource for one in second] == pytest.approx([1 / 3] * 3)
    assert [one.values for one in second] == [one.values for one in best]
    tell(engine, second)
    (third,) = ask(engine)
    assert (third.number, third.resource) == (best[0].number, pytest.approx(1.0))
    tell(engine, [third])
    assert ask(engine)[0].number == 9  # nobody else rises: a new one


def test_rewards_on_more_samples_decide_who_rises_further():
    engine = Halving(LINE, seed=0)
    first = ask(engine, 9)
    tell(engine, first)
    second = ask(engine, 3)
    tell(engine, second, lambda one: -one.values["x"])  # on more samples the order is the other way around
    (third,) = ask(engine)
    assert third.number == min(second, key=lambda one: one.values["x"]).number


def test_who_is_being_scored_or_failed_does_not_rise():
    engine = Halving(LINE, seed=0, factor=2.0, least=0.25)
    first = ask(engine, 4)
    tell(engine, first[:1], lambda one: None)
    assert [one.number for one in ask(engine)] == [4]
    tell(engine, first[1:], lambda one: None)
    assert [one.number for one in ask(engine, 2)] == [5, 6]


def test_a_finite_space_ends_when_nobody_can_rise():
    engine = Halving(Space.of({"enum": [1, 2, 3, 4]}, name="x"), seed=0, factor=2.0, least=0.25)
    shares = []
    while not engine.exhausted:
        asked = ask(engine, 2)
        shares += [one.resource for one in asked]
        tell(engine, asked)
        assert len(shares) < 20
    assert shares.count(0.25) == 4
    assert shares.count(0.5) == 2
    assert shares.count(1.0) == 1
    assert ask(engine) == []


@pytest.mark.parametrize("sampler", ["random", "tpe", "evolution", "cma_es"])
@pytest.mark.parametrize("when", [0, 5, 23])
def test_restored_with_its_sampler(sampler, when):
    def make():
        return Halving(LINE, seed=2, sampler=sampler, start={"x": 0.25})

    engine, twin = make(), make()
    for _ in range(when):
        tell(engine, ask(engine, 2))
    ask(engine, 3)
    twin.restore(json.loads(json.dumps(engine.state())))
    assert twin.pending == engine.pending
    for one in (engine, twin):
        tell(one, one.pending)
    assert [ask(engine, 4) for _ in range(3)] == [ask(twin, 4) for _ in range(3)]
    assert engine.state() == twin.state()


def test_damaged_rungs_are_refused():
    engine = Halving(LINE, seed=0)
    tell(engine, ask(engine, 3))
    for damage in ("rung", "values"):
        state = json.loads(json.dumps(engine.state()))
        state["engine"][damage].pop()
        with pytest.raises(StateMismatchError):
            engine.restore(state)
    ask(engine)


def test_wrong_options():
    for wrong in ({"least": 0.0}, {"least": 1.5}, {"factor": 1.0}, {"sampler": "cobyqa"}, {"sampler": "halving"}):
        with pytest.raises(SearchError):
            Halving(LINE, seed=0, **wrong)
