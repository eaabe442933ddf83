"""Data models that refuse what their schema allows: such a candidate has failed, and the search goes on."""

import json

import optuna
import pytest
from optuna.samplers import TPESampler
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tests.search.forgetful import Forgetful
from tests.search.weights import Weights
from thalweg.errors import SearchError, ValueMismatchError
from thalweg.graph import wait
from thalweg.runs import Feedback, History, RewardProblem, Run, Study
from thalweg.search import SampleReward, Search, StructuredVariable
from thalweg.search.budget import Spent
from thalweg.search.engine import Proposal, Told
from thalweg.search.engines import engine_class
from thalweg.search.space import Space
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
    message = (
        r"refuse 1000 candidates of evolution in a row, .* among 10,000 random ones; .*'narrow' does not fit.*the one"
    )
    with pytest.raises(SearchError, match=message):
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


class Ends(BaseModel):
    low: float = Field(0.2, ge=0, le=1)
    high: float = Field(0.9, ge=0, le=1)

    @model_validator(mode="after")
    def in_order(self):
        if self.low > self.high:
            raise ValueError("the lower end is above the higher")
        return self


class Thin(Ends):
    """One point in a hundred."""

    high: float = Field(0.205, ge=0, le=1)

    @model_validator(mode="after")
    def not_far(self):
        if self.high - self.low > 0.01:
            raise ValueError("the ends are too far from each other")
        return self


ENGINES = [
    ("tpe", {}),
    ("tpe", {"distinct": True}),
    ("tpe", {"multivariate": True}),
    ("auto", {}),
    ("random", {}),
    ("cma_es", {}),
    ("cobyqa", {}),
    ("evolution", {}),
]


def near_the_border(value):
    return -((value["low"] - 0.5) ** 2) - (value["high"] - 0.5) ** 2


def searched(kind, options, model, steps, *, seed=0, saved_at=None):
    """The values that are tried; if it is asked for, the search is saved in between, and another goes on."""
    variable, search = StructuredVariable(model(), name="ends"), Search(kind, seed=seed, options=options)
    tried = []
    for step in range(steps):
        if step == saved_at:
            store = {}
            search.save_own_variables(store)
            search = Search(kind, seed=seed, options=options)
            present, variable = variable.json(), StructuredVariable(model(), name="ends")
            search.bind([variable])
            search.load_own_variables(json.loads(json.dumps(store)))
            variable.assign(present)
        tried.append(variable.json())
        wait(search.apply_optimization([variable], near_the_border(variable.json())))
    wait(search.finalize_variable_values([variable]))
    assert variable.json() == max(tried, key=near_the_border)
    return tried, search


@pytest.mark.parametrize("model", [Ends, Thin])
@pytest.mark.parametrize(("kind", "options"), ENGINES)
def test_an_optimum_on_the_border_ends_no_search(kind, options, model):
    steps = 25 if model is Ends else 14
    tried, search = searched(kind, options, model, steps)
    assert all(one == model(**one).model_dump() for one in tried)
    assert search.metrics()["failed"] > 0
    again, _ = searched(kind, options, model, steps, saved_at=steps - 6)
    assert again == tried, "another search that goes on does not come to the same candidates"


def test_tpe_keeps_away_from_what_is_refused():
    for seed in range(3):
        tried, search = searched("tpe", {}, Ends, 40, seed=seed)
        assert search.asked < 80
        assert near_the_border(max(tried, key=near_the_border)) > -(0.06**2)


def test_a_random_point_that_fits_takes_the_place_of_twenty_that_do_not():
    tried, search = searched("tpe", {}, Thin, 25)
    state = search.engine.state()
    offered = [content for what, content in state["engine"]["journal"] if what == "offer"]
    assert len(offered) > 3
    assert all(origin == "random (the variables refuse what tpe proposes)" for _, origin in offered)
    assert [values["ends"] for values, _ in offered if values["ends"] not in tried] == []


@pytest.mark.parametrize("refused", [False, True])
def test_optuna_s_own_sampler_is_told_the_same(refused):
    number = {"type": "number", "minimum": 0, "maximum": 1}
    engine = engine_class("tpe")(Space.of(number, name="x"), seed=3, start_first=False)
    mine = []
    for k in range(30):
        (one,) = wait(engine.ask())
        mine.append(one.values["x"])
        bad = mine[-1] > 0.6
        engine.tell([Told(k, None if bad else mine[-1], refused=refused and bad)])

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        if x > 0.6:
            raise optuna.TrialPruned if refused else ArithmeticError
        return x

    study = optuna.create_study(sampler=TPESampler(seed=3), direction="maximize")
    study.optimize(objective, n_trials=30, catch=ArithmeticError)
    assert [trial.params["x"] for trial in study.trials] == mine


def test_a_refused_candidate_has_no_reward():
    engine = engine_class("tpe")(Space.of({"enum": [1, 2, 3]}, name="x"), seed=0)
    wait(engine.ask())
    with pytest.raises(SearchError, match=r"refused with the reward 1.0"):
        engine.tell([Told(0, 1.0, refused=True)])
    assert engine.pending


# -- validators that change what they are given -------------------------------------------


class Percent(BaseModel):
    x: float = Field(0.5, ge=0, le=100)

    @field_validator("x")
    @classmethod
    def share(cls, value):
        return value / 100 if value > 1 else value


class Halved(BaseModel):
    x: float = Field(0.0, ge=0, le=1)

    @field_validator("x")
    @classmethod
    def half(cls, value):
        return value / 2


@pytest.mark.parametrize("model", [Weights, Percent])
@pytest.mark.parametrize("kind", ["random", "tpe", "evolution"])
def test_what_is_scored_is_what_is_held(kind, model):
    variable, search = StructuredVariable(model(), name="v"), Search(kind, seed=0)
    scored = {}
    for _ in range(60):
        value = variable.json()
        first = next(iter(value.values()))
        scored[json.dumps(value)] = -abs(first - 0.3)
        wait(search.apply_optimization([variable], -abs(first - 0.3)))
    wait(search.finalize_variable_values([variable]))
    assert json.dumps(variable.json()) == max(scored, key=scored.get)
    assert variable.json() == search.values(search.scores.best())["v"]


def test_values_that_the_model_would_change_again_are_never_tried():
    variable, search = StructuredVariable(Halved(), name="v"), Search("random", seed=0)
    with pytest.raises(SearchError, match=r"Halved makes another value of the value of 'v'"):
        wait(search.apply_optimization([variable], 1.0))
    assert variable.json() == {"x": 0.0}
    with pytest.raises(ValueMismatchError, match="Halved makes another value"):
        variable.assign({"x": 0.5})


def test_a_state_with_other_last_bits_goes_on_with_the_numbers_that_were_scored():
    variable, search = StructuredVariable(Weights(), name="v"), Search("random", seed=0)
    for _ in range(5):
        wait(search.apply_optimization([variable], -abs(variable.get("a") - 0.3)))
    store = {}
    search.save_own_variables(store)
    store = json.loads(json.dumps(store))
    for entry in store["search"]["values"].values():  # as they were written when a model was asked once
        total = sum(0.9 * part for part in entry["v"].values())
        entry["v"] = {name: 0.9 * part / total for name, part in entry["v"].items()}
    other = Search("random", seed=0)
    other.bind([StructuredVariable(Weights(), name="v")])
    other.load_own_variables(store)
    found = {str(number): other.values(number) for number in range(other.asked)}
    assert found == store["search"]["values"]
    assert found != {str(number): search.values(number) for number in range(search.asked)}


class Bands(RewardProblem):
    """A reward that must not be asked of a band that is none."""

    kind = "bands"
    items, held_out = 2, 2
    model = Band

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")

    class BlockSettings(BaseModel):
        model_config = ConfigDict(extra="forbid")

    def __init__(self):
        self.variables = (StructuredVariable(self.model(), name="band"),)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls()

    async def reward(self, values, item, runtime):
        assert values["band"]["lowest"] <= values["band"]["highest"]
        return SampleReward(reward_of(values["band"]))


class Alone(Bands):
    """There is one value that is allowed."""

    model = Narrow

    async def reward(self, values, item, runtime):
        return SampleReward(values["band"]["x"])


class OnTheBorder(Bands):
    model = Ends

    async def reward(self, values, item, runtime):
        return SampleReward(near_the_border(values["band"]) + 0.001 * item)


class Balanced(Bands):
    model = Weights

    async def reward(self, values, item, runtime):
        return SampleReward(-abs(values["band"]["a"] - 0.3) + 0.001 * item)


def study_of(problem, optimizer, iterations):
    return Study.from_document(
        {
            "title": "bands",
            "problem": {"kind": "bands"},
            "optimizer": optimizer,
            "blocks": [{"iterations": iterations}],
            "output": {"figures": False},
        },
        kinds={"bands": problem},
    )


def test_a_run_that_finds_nothing_more_ends_with_its_final_choice(tmp_path):
    outcome = wait(Run(study_of(Alone, {"kind": "evolution"}, 5), out=tmp_path / "run").execute())
    assert outcome.summary["stopped"].startswith("the variables refuse 1000 candidates of evolution in a row")
    assert outcome.summary["search"]["winner"]["values"] == {"band": {"x": 0.5}}
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == {"band": {"x": 0.5}}


@pytest.mark.parametrize("problem", [OnTheBorder, Balanced])
def test_a_run_holds_what_it_has_scored_and_goes_on_to_the_same(problem, tmp_path):
    whole = wait(Run(study_of(problem, {"kind": "tpe"}, 24), out=tmp_path / "whole").execute())
    chosen = whole.summary["search"]["winner"]
    assert json.loads((tmp_path / "whole" / "result.json").read_text()) == chosen["values"]
    tried = [one["values"] for one in History(tmp_path / "whole" / "run.sqlite").candidates()]
    assert chosen["values"] in tried
    wait(Run(study_of(problem, {"kind": "tpe"}, 12), out=tmp_path / "parts").execute())
    more = Run.resume(tmp_path / "parts", overrides=["blocks.0.iterations=24"], kinds={"bands": problem})
    assert wait(more.execute()).summary["search"]["winner"] == chosen
    assert [one["values"] for one in History(tmp_path / "parts" / "run.sqlite").candidates()] == tried


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
