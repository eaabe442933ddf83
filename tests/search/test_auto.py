"""Auto: which engine for which space and budget, and that it is that engine."""

from __future__ import annotations

import json

import pytest

import thalweg as tw
from thalweg.errors import SearchError, StateMismatchError
from thalweg.search import Search, StructuredVariable
from thalweg.search.auto import Auto, choose
from thalweg.search.cobyqa import COBYQA
from thalweg.search.engine import Told
from thalweg.search.space import Space

UNIT = {"type": "number", "minimum": 0, "maximum": 1}
MANY = {"type": "integer", "minimum": 0, "maximum": 10**6}


def box(n, item=UNIT):
    return {"type": "array", "items": item, "minItems": n, "maxItems": n}


@pytest.mark.parametrize(
    ("schema", "evaluations", "kind"),
    [
        ({"enum": [1, 2, 3]}, None, "random"),
        ({"enum": [1, 2, 3]}, 3, "random"),
        ({"enum": [1, 2, 3]}, 2, "tpe"),
        (box(8), 60, "cobyqa"),
        (box(8), 400, "cobyqa"),
        (box(8), 401, "cma_es"),
        (box(51), 2551, "cma_es"),
        (box(2), None, "cobyqa"),
        (box(1), None, "tpe"),
        (box(2), 101, "cma_es"),
        (box(51), 60, "tpe"),
        (box(3, MANY), 150, "tpe"),
        (box(3, MANY), 151, "cma_es"),
        ({"properties": {"x": UNIT, "flag": {"type": "boolean"}}}, 60, "tpe"),
        ({**box(5), "minItems": 0}, 59, "tpe"),
        ({**box(5), "minItems": 0}, 60, "evolution"),
    ],
)
def test_what_is_chosen(schema, evaluations, kind):
    engine = Auto(Space.of(schema, name="x"), seed=0, evaluations=evaluations)
    assert engine.inner.kind == kind
    assert engine.reason == choose(engine.space, evaluations)[2]
    assert engine.sequential is (kind == "cobyqa")
    engine.close()


def test_it_is_the_engine_that_it_chose():
    space = Space.of(box(2), name="x")
    auto, own = Auto(space, seed=4, evaluations=20), COBYQA(space, seed=4)
    for _ in range(12):
        (mine,), (other,) = tw.wait(auto.ask()), tw.wait(own.ask())
        assert mine == other
        with pytest.raises(SearchError, match="first"):
            tw.wait(auto.ask())
        for engine in (auto, own):
            engine.tell([Told(mine.number, -sum(mine.values["x"]))])
    assert (auto.asked, auto.pending, auto.reward_of(3)) == (own.asked, own.pending, own.reward_of(3))
    assert auto.was_told(3)
    auto.close()
    own.close()


def test_a_search_goes_on_with_the_engine_that_it_began_with_whatever_the_budget_is_now():
    space = Space.of(box(2), name="x")
    first, later = Auto(space, seed=0, evaluations=20), Auto(space, seed=0, evaluations=300)
    assert (first.inner.kind, later.inner.kind) == ("cobyqa", "cma_es")
    for _ in range(4):
        (one,) = tw.wait(first.ask())
        first.tell([Told(one.number, -sum(one.values["x"]))])
    state = json.loads(json.dumps(first.state()))
    later.restore(state)
    assert (later.inner.kind, later.evaluations, later.sequential) == ("cobyqa", 20, True)
    assert later.reason == first.reason
    assert later.state() == state
    assert tw.wait(later.ask()) == tw.wait(first.ask())
    first.close()
    later.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": None}, "no engine in it"),
        ({"chosen": "tpe"}, "chose the engine 'tpe', where this release chooses 'cobyqa'"),
        ({"options": {"start_first": True, "evaluations": -1}}, "evaluations is -1"),
        ({"options": {"start_first": False, "evaluations": 20}}, "options"),
        ({"options": None}, "options"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    space = Space.of(box(2), name="x")
    engine = Auto(space, seed=0, evaluations=30)
    tw.wait(engine.ask())
    before = engine.state()
    state = json.loads(json.dumps(Auto(space, seed=0, evaluations=20).state()))
    with pytest.raises(StateMismatchError, match=message):
        engine.restore({**state, **change})
    assert engine.state() == before
    engine.close()


def test_a_search_in_python_tells_it_how_many_there_will_be():
    def search(**arguments):
        point = StructuredVariable({"x": 0.5, "y": 0.5}, {"properties": {"x": UNIT, "y": UNIT}}, name="point")
        made = Search(**arguments)
        made.bind([point])
        return made

    few, many = search(evaluations=20), search(evaluations=300)
    assert (few.engine.inner.kind, many.engine.inner.kind) == ("cobyqa", "cma_es")
    assert Search.from_config(many.get_config()).evaluations == 300
    own = search(evaluations=20, options={"evaluations": 300})  # what is said of the engine itself counts
    assert own.engine.inner.kind == "cma_es"
    assert search(kind="random", evaluations=20).engine.kind == "random"
    for wrong in (0, 1.5, True):
        with pytest.raises(SearchError, match="evaluations"):
            Search(evaluations=wrong)


def test_wrong_options():
    for wrong in (0, True, 1.5):
        with pytest.raises(SearchError, match="evaluations"):
            Auto(Space.of(box(2), name="x"), seed=0, evaluations=wrong)
