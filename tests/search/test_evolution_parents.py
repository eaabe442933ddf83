"""Evolution's parents and children by value: who is chosen how often, and what a crossover is made of."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
from scipy import stats

import thalweg as tw
from thalweg.search.engine import Told
from thalweg.search.evolution import Evolution
from thalweg.search.evolution_steps import BLENDED
from thalweg.search.space import Space
from thalweg.search.structured import StructuredVariable

UNIT = {"type": "number", "minimum": 0, "maximum": 1}
WIDE = Space.of({"properties": {f"x{k}": UNIT for k in range(12)}}, name="x")  # no child twice
ORIGIN = re.compile(r"mutation of (\d+)|crossover of (\d+) and (\d+)")


def bred(number, *, told, **options):
    """The parents of children of candidates with these rewards, in the order of asking."""
    engine = Evolution(WIDE, seed=7, startup=len(told), **options)
    engine.tell([Told(one.number, reward) for one, reward in zip(tw.wait(engine.ask(len(told))), told, strict=True)])
    return [parents(one) for one in tw.wait(engine.ask(number))]


def parents(candidate):
    """Of a candidate, by its origin."""
    mutated, *crossed = ORIGIN.fullmatch(candidate.origin).groups()
    return (int(mutated),) if mutated is not None else tuple(int(one) for one in crossed)


def tournament(members, drawn):
    """The probability of each rank, the best first, to be the best of so many that are drawn: by hand."""
    return np.array([((members - k) ** drawn - (members - k - 1) ** drawn) / members**drawn for k in range(members)])


def agree(counts, expected):
    """Chi-squared at 0.1 %; what is expected rarely is taken together."""
    rare = expected < 20
    both = [np.append(one[~rare], [one[rare].sum()] if rare.any() else []) for one in (np.array(counts), expected)]
    return stats.chisquare(*both).pvalue > 0.001


# Candidates in an order that is not that of their numbers; the first two are not among the best six.
REWARDS = [0.0, 0.1, 0.5, 0.9, 0.3, 0.7, 0.4, 0.8]
RANKED = [3, 7, 5, 2, 6, 4]


# -- who is a parent -----------------------------------------------------------------------


@pytest.mark.parametrize("drawn", [1, 2, 3, 6])
def test_a_parent_is_the_best_of_so_many_that_are_drawn(drawn):
    found = bred(1200, told=REWARDS, population=6, tournament=drawn, crossover=0.0)
    counts = [found.count((number,)) for number in RANKED]
    assert sum(counts) == 1200, "nobody else is a parent"
    expected = 1200 * tournament(6, drawn)
    assert agree(counts, expected)
    if drawn > 1:
        assert counts[0] > 2 * counts[4] >= 2 * counts[5]


def test_the_best_are_clearly_more_often_parents_by_default():
    found = bred(600, told=REWARDS, population=6, crossover=0.0)
    best, worst = (sum(found.count((number,)) for number in part) for part in (RANKED[:3], RANKED[3:]))
    assert best + worst == 600
    assert best > 6 * worst > 0, "7 to 1 on average: (1 - 1/8) to 1/8"


def test_both_parents_of_a_crossover_are_chosen_so_and_are_not_the_same():
    found = bred(2000, told=REWARDS, population=6, tournament=2, crossover=1.0)
    mothers, fathers = tournament(6, 2), tournament(5, 2)
    pairs = list(itertools.permutations(range(6), 2))
    expected = [mothers[m] * fathers[f - (f > m)] for m, f in pairs]
    counts = [found.count((RANKED[m], RANKED[f])) for m, f in pairs]
    assert sum(counts) == 2000
    assert sum(expected) == pytest.approx(1.0)
    assert agree(counts, 2000 * np.array(expected))


def test_of_equal_rewards_the_first_is_the_better_one():
    found = bred(400, told=[1.0, 1.0, 1.0], population=3, tournament=3, crossover=0.0)
    counts = [found.count((number,)) for number in range(3)]
    assert agree(counts, 400 * tournament(3, 3))


# -- how often -----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_a_share_of_the_children_has_two_parents(share):
    found = bred(1000, told=REWARDS, population=6, crossover=share)
    two = sum(len(one) == 2 for one in found)
    assert abs(two - 1000 * share) <= 4 * math.sqrt(1000 * share * (1 - share)), "four standard deviations"


def test_half_of_them_has_by_default():
    assert 437 <= sum(len(one) == 2 for one in bred(1000, told=REWARDS)) <= 563


@pytest.mark.parametrize("mean", [0.0, 0.5, 2.0])
def test_a_child_of_one_parent_has_one_mutation_and_so_many_more_on_average(mean):
    """Of 40 places, so that hardly any is changed twice."""
    numbers = {f"k{k}": {"type": "integer", "minimum": 0, "maximum": 999} for k in range(40)}
    space = Space.of({"properties": numbers}, name="x")
    engine = Evolution(space, seed=3, startup=1, crossover=0.0, mutations=mean)
    (parent,) = tw.wait(engine.ask())
    engine.tell([Told(0, 1.0)])
    changed = [
        sum(child.values["x"][key] != value for key, value in parent.values["x"].items())
        for child in tw.wait(engine.ask(400))
    ]
    assert min(changed) == 1
    assert (max(changed) == 1) == (mean == 0.0)
    assert abs(np.mean(changed) - 1 - mean) <= 4 * math.sqrt(mean / 400) + 0.05 * mean


# -- what a crossover is made of -----------------------------------------------------------

MARK = {"type": "integer", "minimum": 100, "maximum": 899}  # says of which founder it is: of hundred k


def record(**properties):
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


LAYER = {"oneOf": [record(kind={"const": "dense"}, width=MARK, height=MARK), record(kind={"const": "drop"}, rate=MARK)]}
NET = record(
    one=MARK,
    inner=record(deep=record(a=MARK, b=MARK)),
    same=LAYER,
    either=LAYER,
    free={"type": "array", "items": MARK, "minItems": 1, "maxItems": 6},
    pairs={"type": "array", "items": record(a=MARK, b=MARK), "maxItems": 4},
    chosen={"type": "array", "items": {"enum": list(range(100, 900))}, "uniqueItems": True, "maxItems": 5},
    share=UNIT,
)
REST = record(lone=MARK, more=MARK)


def founder(k):
    """Values of which each says k; each founder has lists of other lengths, and every second one another branch."""
    mark = itertools.count(100 * k)
    dense = {"kind": "dense", "width": next(mark), "height": next(mark)}
    net = {
        "one": next(mark),
        "inner": {"deep": {"a": next(mark), "b": next(mark)}},
        "same": {"kind": "dense", "width": next(mark), "height": next(mark)},
        "either": dense if k % 2 else {"kind": "drop", "rate": next(mark)},
        "free": [next(mark) for _ in range(1 + k % 6)],
        "pairs": [{"a": next(mark), "b": next(mark)} for _ in range(k % 5)],
        "chosen": [next(mark) for _ in range(k % 6)],
        "share": k / 8,
    }
    return {"net": net, "rest": {"lone": next(mark), "more": next(mark)}}


def cuts(first, second):
    """Every beginning of one with every end of the other."""
    return [first[:i] + second[j:] for i in range(len(first) + 1) for j in range(len(second) + 1)]


def chosen_of(first, second):
    """Every beginning of one, then what the other has besides, then its own rest; as long as one of them."""
    return [
        (one[:i] + other + one[i:])[:length]
        for one, other in ((first, second), (second, first))
        for i in range(len(one) + 1)
        for length in (len(first), len(second))
    ]


def made_of(child, first, second):
    """Whether a value consists of two others' parts: an item, field or number is of one or the other."""
    if isinstance(child, dict):
        if first.get("kind") != second.get("kind"):
            return child in (first, second)
        return child.keys() == first.keys() and all(made_of(child[key], first[key], second[key]) for key in child)
    if isinstance(child, list):
        longer, shorter = sorted((first, second), key=len, reverse=True)
        ends = ([], longer[len(shorter) :])
        one_by_one = all(made_of(*three) for three in zip(child, longer, shorter, strict=False))
        return child in cuts(first, second) or (
            one_by_one and child[len(shorter) :] in ends and len(child) >= len(shorter)
        )
    if isinstance(child, float):
        return min(first, second) <= child <= max(first, second)
    return child in (first, second)


@pytest.fixture(scope="module")
def crossings():
    """Children of eight founders, by crossover alone: each with its mother's and its father's values."""
    variables = [
        StructuredVariable(founder(1)[name], schema, name=name) for name, schema in (("net", NET), ("rest", REST))
    ]
    engine = Evolution(
        Space.of_variables(variables), seed=5, population=8, startup=1, tournament=1, crossover=1.0, mutations=0.0
    )
    founders = [founder(k) for k in range(1, 9)]
    for values in founders:
        engine.space.check(values)
        engine.tell([Told(engine.offer(values, "a founder").number, 1.0)])
    children = tw.wait(engine.ask(800))
    for child in children:
        engine.space.check(child.values)
        assert len(set(parents(child))) == 2, "not a parent with itself"
    return [(child.values, *(founders[number] for number in parents(child))) for child in children]


def test_every_part_of_a_crossover_is_of_one_parent_or_the_other(crossings):
    for child, mother, father in crossings:
        for name in ("net", "rest"):
            for key, value in child[name].items():
                of = mother[name][key], father[name][key]
                if key == "chosen":
                    assert value in chosen_of(*of), (value, of)
                else:
                    assert made_of(value, *of), (key, value, of)


@pytest.mark.parametrize(
    "path",
    [("net", "one"), ("net", "inner", "deep", "a"), ("net", "inner", "deep", "b"), ("rest", "lone"), ("rest", "more")],
)
def test_each_field_is_of_each_parent_as_often(crossings, path):
    """Also fields of the same record, and of other variables; four standard deviations."""

    def at(values):
        for key in path:
            values = values[key]
        return values

    count = sum(at(child) == at(mother) for child, mother, _ in crossings)
    assert abs(count - 400) <= 4 * math.sqrt(800) / 2


def test_fields_of_a_record_are_of_either_parent_on_their_own(crossings):
    """All four ways are as likely: within a record, between variables, within a branch that both have."""

    def ways(pick):
        return Counter(
            tuple(part // 100 == mother["net"]["one"] // 100 for part in pick(child)) for child, mother, _ in crossings
        )

    for pick in (
        lambda child: child["net"]["inner"]["deep"].values(),
        lambda child: (child["net"]["one"], child["rest"]["lone"]),
        lambda child: (child["net"]["same"]["width"], child["net"]["same"]["height"]),
    ):
        found = ways(pick)
        assert len(found) == 4
        assert all(abs(count - 200) <= 4 * math.sqrt(800 * 3 / 16) for count in found.values())


def test_a_branch_that_only_one_parent_has_comes_whole_from_either(crossings):
    others = [three for three in crossings if three[1]["net"]["either"].keys() != three[2]["net"]["either"].keys()]
    count = sum(child["net"]["either"] == mother["net"]["either"] for child, mother, _ in others)
    assert len(others) > 300
    assert abs(count - len(others) / 2) <= 2 * math.sqrt(len(others))


@pytest.mark.parametrize(("key", "least", "most"), [("free", 1, 6), ("pairs", 0, 4), ("chosen", 0, 5)])
def test_lists_of_two_parents_have_parts_of_both_and_lengths_of_their_own(crossings, key, least, most):
    lengths, mixed, between = Counter(), 0, 0
    for child, mother, father in crossings:
        value, first, second = (values["net"][key] for values in (child, mother, father))
        lengths[len(value)] += 1
        mixed += any(item not in first for item in value) and any(item not in second for item in value)
        between += len(value) not in (len(first), len(second))
    assert set(lengths) == set(range(least, most + 1))
    assert mixed > 200
    assert (between > 50) == (key != "chosen"), "of different items there are as many as one parent has"


def test_a_quarter_of_the_numbers_lies_between_the_parents(crossings):
    shares = [tuple(values["net"]["share"] for values in three) for three in crossings]
    count = sum(child not in (mother, father) for child, mother, father in shares)
    assert abs(count - 800 * BLENDED) <= 4 * math.sqrt(800 * BLENDED * (1 - BLENDED))
    places = [(child - mother) / (father - mother) for child, mother, father in shares if child not in (mother, father)]
    assert stats.kstest(places, "uniform").pvalue > 0.001
