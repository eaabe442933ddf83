"""Choosing examples: every method, scores, turns, no repetition with the same examples, exact states."""

import itertools
import json
import math

import numpy as np
import pytest

import thalweg as tw
from thalweg.errors import SearchError, StateMismatchError
from thalweg.search.engine import Told
from thalweg.search.engines import engine_class, engine_options
from thalweg.search.few_shot import METHODS, FewShot
from thalweg.search.space import Space
from thalweg.search.structured import StructuredVariable

POOL = [{"inputs": {"text": f"word {i}"}, "outputs": {"label": "ab"[i % 2]}} for i in range(12)]


def variable(name="step", *, most=3, least=0, pool=POOL, shown=()):
    examples = {
        "type": "array",
        "items": {"enum": list(pool)},
        "uniqueItems": True,
        "minItems": least,
        "maxItems": most,
    }
    schema = {"type": "object", "properties": {"instructions": {"type": "string"}, "examples": examples}}
    return StructuredVariable({"instructions": "Answer.", "examples": list(shown)}, schema, name=name)


def make(*variables, seed=0, **options):
    variables = variables or (variable(),)
    start = {v.name: v.json() for v in variables}
    return FewShot(Space.of_variables(variables), seed=seed, start=start, **options)


def shown(candidate, name="step"):
    return [POOL.index(example) for example in candidate.values[name]["examples"]]


def ask(engine, count=1):
    return tw.wait(engine.ask(count))


def climb(engine, reward, rounds, at_once=1):
    """Rewards in the order of asking."""
    rewards = []
    for _ in range(rounds):
        candidates = ask(engine, at_once)
        told = [Told(c.number, reward(c)) for c in candidates]
        engine.tell(told)
        rewards += [one.reward for one in told]
    return rewards


def test_it_is_registered_with_its_options():
    assert engine_class("few_shot") is FewShot
    assert engine_options("few_shot") == {
        "start_first": True,
        "method": "softmax",
        "score": "credit",
        "temperature": 0.05,
        "neighbors": 0.3,
        "full": 0.5,
    }


@pytest.mark.parametrize("method", METHODS)
def test_the_first_is_the_start_and_the_others_are_new_sets_of_examples(method):
    engine = make(method=method)
    candidates = ask(engine, 5) + ask(engine, 20)
    assert candidates[0].origin == "the start"
    assert shown(candidates[0]) == []
    sets = [tuple(shown(candidate)) for candidate in candidates]
    assert len(set(sets)) == 25
    assert all(len(set(one)) == len(one) <= 3 for one in sets)
    assert all(candidate.values["step"]["instructions"] == "Answer." for candidate in candidates)
    engine.space.check(candidates[7].values)


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_decides_all(method):
    runs = []
    for seed in (0, 0, 1):
        engine = make(seed=seed, method=method)
        sets = []
        for _ in range(12):
            (candidate,) = ask(engine)
            sets.append(tuple(shown(candidate)))
            engine.tell([Told(candidate.number, float(sum(sets[-1])))])
        runs.append(sets)
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("method", ["best", "softmax", "diverse"])
def test_what_helps_is_found_sooner_than_at_random(method):
    """Three of twelve examples help; the mean over seeds of the rewards of candidates 30 to 60."""

    def reward(candidate):
        return len({1, 4, 8} & set(shown(candidate))) / 3

    def late(how):
        return np.array([np.mean(climb(make(seed=s, method=how), reward, 60)[30:]) for s in range(8)])

    assert late(method).mean() > late("random").mean() + 0.15


def test_credit_is_the_mean_excess_reward_of_those_that_showed_it():
    engine = make(method="best")
    for _ in range(6):
        (candidate,) = ask(engine)
        engine.tell([Told(candidate.number, float(candidate.number))])
    told = {n: engine.reward_of(n) for n in range(6)}
    mean = sum(told.values()) / 6
    for example in range(12):
        those = [n for n in told if example in engine._picks[n][0]]
        expected = sum(told[n] - mean for n in those) / (len(those) + 1)
        assert engine._scores(0)[example] == pytest.approx(expected)


def test_success_is_the_programs_mean_on_the_sample():
    engine = make(score="success", method="best", neighbors=0.0)
    for _ in range(4):
        (candidate,) = ask(engine)
        samples = ((2, 1.0), (7, 0.25 * candidate.number), (40, 1.0))
        engine.tell([Told(candidate.number, 0.5, samples=samples)])
    scores = engine._scores(0)
    assert scores[2] == 1.0
    assert scores[7] == pytest.approx(0.375)
    assert scores[0] == pytest.approx((4 + 1.5) / 8)
    (candidate,) = ask(engine)
    assert 2 in shown(candidate)


def test_samples_that_are_the_same_example_are_scored_together():
    topics = ["art", "art", "sport", "sport", "sport", "art", "tea"]
    engine = make(variable(pool=topics), score="success")
    assert list(engine.shelves[0].examples) == ["art", "sport", "tea"]
    (candidate,) = ask(engine)
    samples = tuple((item, float(topic == "sport") + 0.25 * (item == 0)) for item, topic in enumerate(topics[:6]))
    engine.tell([Told(candidate.number, 0.5, samples=samples)])
    assert engine._scores(0).tolist() == pytest.approx([0.25 / 3, 1.0, 3.25 / 6])


def test_a_list_that_is_spelled_by_a_reference_or_none_at_all_is_in_the_order_of_its_values():
    listed = {"$ref": "#/$defs/Shown", "$defs": {"Shown": {"allOf": [{"items": {"enum": ["b", "a", "b"]}}]}}}
    whole = {"items": {"type": "integer", "minimum": 3, "maximum": 5}}
    for schema, expected in ((listed, [0, 1, 0]), (whole, [0, 1, 2])):
        space = Space.of({**schema, "type": "array", "uniqueItems": True, "maxItems": 2}, name="step")
        assert FewShot(space, seed=0, score="success")._entries == [expected]


def test_a_failed_candidate_counts_for_nothing():
    engine = make()
    candidates = ask(engine, 4)
    engine.tell([Told(c.number, None) for c in candidates])
    assert not engine._scores(0).any()
    assert len(ask(engine, 3)) == 3


def test_diverse_examples_are_unlike_each_other():
    pool = [
        {"text": f"{word} {i}"} for word in ("lorem ipsum dolor", "quick brown fox", "0123456789") for i in range(4)
    ]
    engine = make(variable(pool=pool, most=3, least=3, shown=pool[:3]), method="diverse", neighbors=0.0)
    families = []
    for candidate in ask(engine, 9)[1:]:
        families.append({pool.index(example) // 4 for example in candidate.values["step"]["examples"]})
    assert families[0] == {0, 1, 2}
    assert sum(len(family) for family in families) / len(families) > 2.5


@pytest.mark.parametrize(("full", "least", "most"), [(0.0, 20, 60), (0.5, 90, 150), (1.0, 199, 199)])
def test_so_many_are_shown_as_can_be(full, least, most):
    engine = make(variable(most=6), method="random", full=full)
    lengths = [len(shown(candidate)) for candidate in ask(engine, 200)[1:]]
    assert least <= lengths.count(6) <= most
    assert full == 1.0 or set(lengths) == {1, 2, 3, 4, 5, 6}


def test_each_place_gets_its_turn():
    """One of the peers' defects: variables that were never visited were never selected."""
    names = [f"step{i}" for i in range(5)]
    engine = make(*(variable(name) for name in names))
    before = ask(engine)[0]
    engine.tell([Told(0, 0.0)])
    changed = []
    for _ in range(10):
        (candidate,) = ask(engine)
        changed.append([name for name in names if candidate.values[name] != before.values[name]])
        engine.tell([Told(candidate.number, -1.0)])
    assert changed == [[name] for name in names] * 2


def test_places_are_changed_in_the_best_candidate():
    engine = make(variable("a"), variable("b"))
    ask(engine)
    engine.tell([Told(0, 0.0)])
    (first,) = ask(engine)
    engine.tell([Told(1, 1.0)])
    (second,) = ask(engine)
    assert second.values["a"] == first.values["a"] != {"instructions": "Answer.", "examples": []}
    assert second.values["b"]["examples"]


@pytest.mark.parametrize("method", METHODS)
def test_every_set_once_and_then_none(method):
    engine = make(variable(pool=POOL[:3], most=2), method=method)
    number = sum(math.perm(3, k) for k in range(3))
    found = []
    while candidates := ask(engine, 4):
        engine.tell([Told(c.number, 0.0) for c in candidates])
        found += [tuple(shown(c)) for c in candidates]
    assert engine.exhausted
    every = [p for k in range(3) for p in itertools.permutations(range(3), k)]
    assert len(found) == len(set(found)) == number
    assert sorted(found) == sorted(every)


def test_a_start_with_examples_of_its_own():
    mine = {"inputs": {"text": "mine"}, "outputs": {"label": "a"}}
    examples = {"type": "array", "items": {"enum": POOL}, "uniqueItems": True, "maxItems": 2}
    space = Space.of({"type": "object", "properties": {"examples": examples}}, name="step")
    engine = FewShot(space, seed=0, start={"step": {"examples": [POOL[3]]}})
    assert engine._picks == []
    ask(engine)
    assert engine._picks == [[[3]]]
    with pytest.raises(tw.errors.ValueMismatchError):
        FewShot(space, seed=0, start={"step": {"examples": [mine]}})


def test_without_a_start():
    space = Space.of(variable().schema(), name="step", present=variable().json())
    engine = FewShot(space, seed=3)
    assert [c.origin for c in ask(engine, 2)] == ["softmax", "softmax"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("told", [0, 3, 7])
def test_a_restored_engine_goes_on_to_the_same_candidates(method, told):
    def steps(engine, first, last):
        found = []
        for number in range(first, last):
            (candidate,) = ask(engine)
            found.append(candidate)
            samples = ((number % 12, number / 20),)
            engine.tell([Told(candidate.number, math.sin(number), samples=samples)])
        return found

    whole, first, second = (make(method=method, seed=5) for _ in range(3))
    expected = steps(whole, 0, 14)
    steps(first, 0, told)
    second.restore(json.loads(json.dumps(first.state())))
    assert steps(second, told, 14) == expected[told:]
    assert second.state() == whole.state()


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s["engine"].pop("picks"),
        lambda s: s["engine"]["picks"].pop(),
        lambda s: s["engine"]["picks"][1][0].append(99),
        lambda s: s["engine"]["visits"].append(1),
        lambda s: s["engine"].update(samples=[["x", []]]),
        lambda s: s.update(seed=9),
        lambda s: s["options"].update(method="best"),
    ],
)
def test_a_damaged_state_changes_nothing(damage):
    engine = make(method="random")
    ask(engine, 4)
    engine.tell([Told(n, 1.0) for n in range(4)])
    before = engine.state()
    state = json.loads(json.dumps(before))
    damage(state)
    with pytest.raises(StateMismatchError):
        engine.restore(state)
    assert engine.state() == before


def test_it_begins_anew():
    engine = make(neighbors=1.0)
    climb(engine, lambda c: len(shown(c)), 5)
    engine.begin_anew()
    assert engine.state() == make(neighbors=1.0).state()
    engine.count_from(5)
    climb(engine, lambda c: len(shown(c)), 1)
    assert ask(engine)[0].origin == "an example of 5 changed"


@pytest.mark.parametrize(
    "options",
    [
        {"method": "worst"},
        {"score": "luck"},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"neighbors": 1.5},
        {"full": -0.1},
        {"neighbors": True},
        {"seed": -1},
    ],
)
def test_wrong_options(options):
    with pytest.raises(SearchError):
        make(**options)


def test_a_space_without_examples():
    space = Space.of({"type": "object", "properties": {"x": {"enum": [1, 2]}}}, name="step")
    with pytest.raises(SearchError, match="no place for examples"):
        FewShot(space, seed=0)
