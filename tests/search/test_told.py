"""A search that is told rewards goes on after its end and after a refusal, and says what it cannot take."""

import copy
import json
import threading
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from thalweg.errors import SearchError, StateMismatchError
from thalweg.graph import wait
from thalweg.search import Reward, SampleReward, Search, StructuredVariable

COUNT = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 5}}, "required": ["n"]}
NUMBER = {"type": "object", "properties": {"x": {"type": "number", "minimum": -5, "maximum": 5}}, "required": ["x"]}


def count(start=5):
    return StructuredVariable({"n": start}, COUNT, name="v")


def number():
    return StructuredVariable({"x": 4.0}, NUMBER, name="v")


def bowl(variable):
    return -((variable.get("x") - 1.0) ** 2)


# -- going on after the end --------------------------------------------------------------


@pytest.mark.parametrize("with_reward", [True, False])
def test_no_point_is_lost_where_a_search_goes_on_after_it_was_finalized(with_reward):
    variable, search, tried = count(), Search("random", seed=0), []

    def told(times):
        for _ in range(times):
            tried.append(variable.get("n"))
            wait(search.apply_optimization([variable], -float(variable.get("n"))))

    told(3)
    wait(search.finalize_variable_values([variable]))
    best = variable.get("n")
    assert best == min(tried)
    assert len(search.engine.pending) == 1
    if with_reward:  # of the best, which counts once more
        told(1)
        assert search.scores.count(search.scores.best()) == 2
    else:
        wait(search.apply_optimization([variable]))
    told(3)
    wait(search.finalize_variable_values([variable]))
    assert set(tried) == set(range(6))
    assert variable.json() == {"n": 0}
    assert search.engine.pending == []
    assert search.exhausted


@pytest.mark.parametrize("with_reward", [True, False])
def test_one_at_a_time_is_no_reason_to_be_locked(with_reward):
    variable, search = number(), Search("cobyqa", seed=0)
    twin, same = number(), Search("cobyqa", seed=0)
    for _ in range(8):
        wait(search.apply_optimization([variable], bowl(variable)))
        wait(same.apply_optimization([twin], bowl(twin)))
    wait(search.finalize_variable_values([variable]))
    wait(search.apply_optimization([variable], bowl(variable) if with_reward else None))
    assert search.asked == 9
    for _ in range(8):
        assert variable.json() == twin.json(), "the candidates are those of a search that was not finalized"
        wait(search.apply_optimization([variable], bowl(variable)))
        wait(same.apply_optimization([twin], bowl(twin)))
    assert search.asked == 17
    search.engine.close()
    same.engine.close()


def test_a_failure_of_the_best_may_be_told_after_the_end():
    variable, search = count(), Search("random", seed=0)
    for _ in range(3):
        wait(search.apply_optimization([variable], -float(variable.get("n"))))
    wait(search.finalize_variable_values([variable]))
    best = variable.get("n")
    wait(search.fail([variable], "it broke"))
    assert variable.get("n") != best
    wait(search.finalize_variable_values([variable]))
    assert variable.get("n") == sorted({search.values(number)["v"]["n"] for number in range(3)})[1]


@pytest.mark.parametrize("kind", ["cobyqa", "tpe"])
def test_a_reward_of_values_that_were_never_proposed_is_refused_and_nothing_is_lost(kind):
    variable, search = number(), Search(kind, seed=0, options={"start_first": False})
    for _ in range(2):
        with pytest.raises(SearchError, match=r"not proposed the variables' present values.*without one"):
            wait(search.apply_optimization([variable], 1.0))
        assert variable.json() == {"x": 4.0}
        assert search.asked == 1
    wait(search.apply_optimization([variable]))
    assert variable.json() == search.values(0)["v"]
    for _ in range(4):
        wait(search.apply_optimization([variable], bowl(variable)))
    assert search.asked == 5
    wait(search.finalize_variable_values([variable]))
    variable.assign({"x": -4.5})
    with pytest.raises(SearchError, match="not proposed the variables' present values"):
        wait(search.apply_optimization([variable], 1.0))
    search.engine.close()


def test_a_state_that_was_saved_after_the_end_goes_on_with_the_candidate_that_waits():
    variable, search = number(), Search("tpe", seed=0)
    for _ in range(3):
        wait(search.apply_optimization([variable], bowl(variable)))
    waiting = variable.json()
    wait(search.finalize_variable_values([variable]))
    store = {}
    search.save_own_variables(store)
    again, other = Search("tpe", seed=0), number()
    again.bind([other])
    again.load_own_variables(json.loads(json.dumps(store)))
    wait(again.apply_optimization([other]))
    assert other.json() == waiting
    assert again.asked == 4


@pytest.mark.parametrize("kind", ["cobyqa", "auto"])
def test_a_search_goes_on_after_a_damaged_state_was_refused(kind):
    variable, search = number(), Search(kind, seed=0, evaluations=40)
    twin, same = number(), Search(kind, seed=0, evaluations=40)
    for _ in range(7):
        wait(search.apply_optimization([variable], bowl(variable)))
        wait(same.apply_optimization([twin], bowl(twin)))
    store = {}
    search.save_own_variables(store)
    damaged = json.loads(json.dumps(store))
    damaged["search"]["values"].pop("3")
    for _ in range(2):
        with pytest.raises(StateMismatchError, match="values of 7"):
            search.load_own_variables(copy.deepcopy(damaged))
    went_on = threading.Thread(target=lambda: wait(search.apply_optimization([variable], bowl(variable))), daemon=True)
    went_on.start()
    went_on.join(30.0)
    assert not went_on.is_alive(), "it waits for a minimizer that was closed"
    wait(same.apply_optimization([twin], bowl(twin)))
    assert variable.json() == twin.json()
    search.load_own_variables(json.loads(json.dumps(store)))
    search.engine.close()
    same.engine.close()


# -- values that a data model writes in its own way --------------------------------------


class Rate(BaseModel):
    rate: float = Field(0.1, json_schema_extra={"x-pool": [1, 0.1, 0.01, 10]})


class Features(BaseModel):
    features: set[Literal["a", "b", "c", "d", "e"]] = Field({"a"}, max_length=2)


@pytest.mark.parametrize("model", [Rate, Features])
def test_a_search_knows_its_values_as_the_model_writes_them(model):
    variable, search, tried = StructuredVariable(model(), name="v"), Search("random", seed=0), []
    for _ in range(15):
        tried.append(json.dumps(variable.json()))
        wait(search.apply_optimization([variable], -float(len(tried))))
    known = [json.dumps(search.values(number)["v"]) for number in range(search.asked)]
    assert tried[: len(known)] == known[: len(tried)]
    if model is Features:  # a set is the same in whatever order it was drawn: one candidate to the scores
        assert all(json.loads(text)["features"] == sorted(json.loads(text)["features"]) for text in known)
        assert len(search.scores.numbers) == len({*tried})
    else:
        assert sorted(known) == ['{"rate": 0.01}', '{"rate": 0.1}', '{"rate": 1.0}', '{"rate": 10.0}']


# -- what it cannot take -----------------------------------------------------------------


def test_a_value_that_is_not_the_mean_of_its_samples_is_refused_before_anything_changes():
    variable, search = count(), Search("random", seed=0)
    wait(search.apply_optimization([variable], -1.0))
    before = search.state().arrays["search"].tobytes()
    worst = Reward(0.1, (SampleReward(1.0), SampleReward(0.1)))
    with pytest.raises(SearchError, match=r"value 0\.1 and samples with the mean 0\.55.*Reward\.of\(samples\)"):
        wait(search.apply_optimization([variable], worst))
    assert search.state().arrays["search"].tobytes() == before
    number = search.engine.pending[0].number
    wait(search.apply_optimization([variable], Reward(sum([0.1] * 3) / 3, (SampleReward(0.1),) * 3)))
    assert search.scores.count(number) == 3
    wait(search.apply_optimization([variable], Reward(0.1)))


def test_halving_is_for_studies():
    variable, search = number(), Search("halving", seed=0)
    for reward in (-9.0, None):
        with pytest.raises(SearchError, match="shares of the samples, which only a study deals out"):
            wait(search.apply_optimization([variable], reward))
    assert variable.json() == {"x": 4.0}
    whole = Search("halving", seed=0, options={"least": 1.0})
    wait(whole.apply_optimization([variable], -9.0))
    assert whole.asked == 2
