"""Data models that refuse what their schema allows: such a candidate has failed, and the search goes on."""

import json

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tests.search.forgetful import Forgetful
from thalweg.errors import SearchError
from thalweg.graph import wait
from thalweg.runs import Feedback, History, RewardProblem, Run, Study
from thalweg.search import SampleReward, Search, StructuredVariable
from thalweg.search.budget import Spent
from thalweg.search.engine import Proposal
from thalweg.search.trials import Scored


class Band(BaseModel):
    lowest: int = Field(0, ge=0, le=4)
    highest: int = Field(2, ge=0, le=4)

    @model_validator(mode="after")
    def in_order(self):
        if self.lowest > self.highest:
            raise ValueError("the lowest is above the highest")
        return self


class Narrow(BaseModel):
    x: float = Field(0.5, ge=0, le=1)

    @model_validator(mode="after")
    def the_one(self):
        if self.x != 0.5:
            raise ValueError("it is not the one")
        return self


def reward_of(values):
    return float(values["lowest"])


@pytest.mark.parametrize(("kind", "options"), [("random", {}), ("tpe", {"distinct": True}), ("evolution", {})])
def test_a_search_tries_what_is_left(kind, options):
    variable, search = StructuredVariable(Band(), name="band"), Search(kind, seed=0, options=options)
    tried = set()
    for _ in range(60):
        tried.add(json.dumps(variable.json()))
        wait(search.apply_optimization([variable], reward_of(variable.json())))
    wait(search.finalize_variable_values([variable]))
    assert variable.json() == {"lowest": 4, "highest": 4}
    assert len(tried) == 15
    values = [search.values(number)["band"] for number in range(search.asked)]
    assert search.metrics()["failed"] == sum(one["lowest"] > one["highest"] for one in values) > 3
    assert search.engine.reward_of([one["lowest"] > one["highest"] for one in values].index(True)) is None
    again, other = Search(kind, seed=0, options=options), StructuredVariable(Band(), name="band")
    store = {}
    search.save_own_variables(store)
    again.bind([other])
    again.load_own_variables(json.loads(json.dumps(store)))
    assert again.metrics() == search.metrics()


def test_where_all_are_refused_it_says_so_and_changes_nothing():
    variable, search = StructuredVariable(Narrow(), name="narrow"), Search("evolution", seed=0)
    with pytest.raises(SearchError, match=r"1000 candidates one after the other.*'narrow' does not fit.*not the one"):
        wait(search.apply_optimization([variable], 1.0))
    assert variable.json() == {"x": 0.5}
    wait(search.finalize_variable_values([variable]))
    assert variable.json() == {"x": 0.5}


class Costly(Forgetful):
    """Asks somebody who is paid, and has two bad ideas before a good one."""

    async def _propose(self, count):
        lowest = (0, 4, 3, 2)[min(self.asked, 3)]
        return [Proposal({"band": {"lowest": lowest, "highest": 2}}, "paid for")]

    def most_ask(self, count):
        return Spent(tokens=count)


def test_in_a_run_who_is_paid_is_asked_no_more_than_was_reserved(monkeypatch):
    monkeypatch.setattr("thalweg.search.bound.engine_class", lambda kind: Costly)
    variable, search = StructuredVariable(Band(), name="band"), Search("random", seed=0)
    wait(search.apply_optimization([variable], 0.0))
    assert variable.json() == {"lowest": 2, "highest": 2}
    assert search.metrics()["failed"] == 2
    run, other = Search("random", seed=0, rescore=0), StructuredVariable(Band(), name="band")
    run.bind([other], samples=3)
    for number, fits in enumerate((True, False, False, True)):
        (trial,) = wait(run.propose())
        assert (trial.candidate.number, run.asked) == (number, number + 1)
        assert trial.seen == (frozenset() if fits else {0, 1, 2}), "there is nothing to evaluate"
        rewards = {sample: SampleReward(float(number)) for sample in {0, 1, 2} - trial.seen}
        wait(run.apply(Feedback(0.0, {}, rewards=(Scored(number, rewards, {}, trial.again),))))
    assert run.metrics()["failed"] == 2
    assert [run.engine.reward_of(number) for number in range(4)] == [0.0, None, None, 3.0]
    assert other.json() == {"lowest": 2, "highest": 2}


class Bands(RewardProblem):
    """A reward that must not be asked of a band that is none."""

    kind = "bands"
    items, held_out = 2, 2

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")

    class BlockSettings(BaseModel):
        model_config = ConfigDict(extra="forbid")

    def __init__(self):
        self.variables = (StructuredVariable(Band(), name="band"),)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls()

    async def reward(self, values, item, runtime):
        assert values["band"]["lowest"] <= values["band"]["highest"]
        return SampleReward(reward_of(values["band"]))


def test_a_run_evaluates_none_of_them_and_goes_on(tmp_path):
    study = Study.from_document(
        {
            "title": "bands",
            "problem": {"kind": "bands"},
            "optimizer": {"kind": "random", "candidates": 2},
            "blocks": [{"iterations": 4}],
            "output": {"figures": False},
        },
        kinds={"bands": Bands},
    )
    assert wait(Run(study, out=tmp_path / "run").execute()).status == "finished"
    more = Run.resume(tmp_path / "run", overrides=["blocks.0.iterations=20"], kinds={"bands": Bands})
    outcome = wait(more.execute())
    assert outcome.summary["stopped"] == "every candidate there is has been tried"
    assert outcome.summary["search"]["winner"]["values"] == {"band": {"lowest": 4, "highest": 4}}
    candidates = History(tmp_path / "run" / "run.sqlite").candidates()
    assert len(candidates) == 15
    assert all(one["values"]["band"]["lowest"] <= one["values"]["band"]["highest"] for one in candidates)
