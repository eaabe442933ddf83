"""Auto: which engine for which space and budget, and that it is that engine."""

from __future__ import annotations

import json

import pytest

import thalweg as tw
from thalweg.errors import SearchError, StateMismatchError
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


def test_another_budget_is_another_search():
    space = Space.of(box(2), name="x")
    state = json.loads(json.dumps(Auto(space, seed=0, evaluations=20).state()))
    with pytest.raises(StateMismatchError, match="options"):
        Auto(space, seed=0, evaluations=30).restore(state)
    del state["inner"]
    with pytest.raises(StateMismatchError, match="no engine in it"):
        Auto(space, seed=0, evaluations=20).restore(state)


def test_wrong_options():
    for wrong in (0, True, 1.5):
        with pytest.raises(SearchError, match="evaluations"):
            Auto(Space.of(box(2), name="x"), seed=0, evaluations=wrong)
