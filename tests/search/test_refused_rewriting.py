"""Rewriting where a data model refuses texts that its schema allows: the model is told why, and goes on."""

import json
import re

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tests.search.forgetful import Forgetful
from thalweg.errors import SearchError, ValueMismatchError
from thalweg.graph import wait
from thalweg.lm import LanguageModel
from thalweg.lm.stub import Stub
from thalweg.runs import History, RewardProblem, Run, Study
from thalweg.runs.problem import Feedback
from thalweg.search import SampleReward, Search, StructuredVariable, changing
from thalweg.search.asked import ask_for_values
from thalweg.search.engine import Proposal
from thalweg.search.rewritten import RewriteCounts
from thalweg.search.trials import Scored

REASON = "the text needs {question}"


class Prompt(BaseModel):
    text: str = "Answer {question} briefly."
    temperature: float = Field(0.5, ge=0, le=1)

    @field_validator("text")
    @classmethod
    def asks(cls, value):
        if "{question}" not in value:
            raise ValueError(REASON)
        return value


def heeding(body):
    """A model that leaves the question out until it is told."""
    told = REASON in body["messages"][-1]["content"]
    return json.dumps({"text": f"Version {body['seed']}." + " {question}" * told, "temperature": 0.75})


def stubborn(body):
    return json.dumps({"text": f"Version {body['seed']}.", "temperature": 0.75})


def searched(stub, steps, saved_at=None):
    variable, search = StructuredVariable(Prompt(), name="prompt"), Search("rewrite", seed=0)
    search.bind([variable])
    search.engine.model = LanguageModel(stub.url, "stub")
    tried = []
    for step in range(steps):
        if step == saved_at:
            store = {}
            search.save_own_variables(store)
            model, search = search.engine.model, Search("rewrite", seed=0)
            present, variable = variable.json(), StructuredVariable(Prompt(), name="prompt")
            search.bind([variable])
            search.engine.model = model
            search.load_own_variables(json.loads(json.dumps(store)))
            variable.assign(present)
        wait(search.apply_optimization([variable], variable.json()["temperature"]))
        tried.append(variable.json())
    return tried, search


def test_the_model_is_told_what_the_variable_says_against_its_answer():
    with Stub(heeding) as stub:
        tried, search = searched(stub, 3)
        repair = stub.requests[1]["messages"][-1]["content"]
    assert re.search(
        r"no valid answer: the value of 'prompt' does not fit Prompt at text: .*needs \{question\}\.", repair
    )
    assert [one["text"].endswith("{question}") for one in tried] == [True] * 3
    assert search.engine.counts == RewriteCounts(accepted=3, repaired=3)
    assert search.metrics()["failed"] == 0


@pytest.mark.parametrize("saved_at", [None, 5])
def test_a_model_that_does_not_listen_makes_a_search_worse_and_never_ends_it(saved_at):
    with Stub(stubborn) as stub:
        tried, search = searched(stub, 8, saved_at)
        whole, _ = searched(stub, 8)
    assert tried == whole
    assert all("{question}" in one["text"] for one in tried)
    assert len({json.dumps(one) for one in tried}) == 8
    assert search.engine.counts == RewriteCounts(repaired=16, repeated=8, replaced=8)
    assert search.metrics()["failed"] == 0


def test_a_random_point_takes_the_place_of_twenty_that_are_refused():
    with Stub(stubborn) as stub:
        variable, search = StructuredVariable(Prompt(), name="prompt"), Search("rewrite", seed=0)
        search.bind([variable])
        search.engine.model = LanguageModel(stub.url, "stub")
        search.engine.refusal = None  # as if nobody said so before they are candidates
        wait(search.apply_optimization([variable], 0.5))
        offered = search.asked - 1
        assert offered == 21
        assert search.engine.pending[0].origin == "random (the variables refuse what rewrite proposes)"
        store = {}
        search.save_own_variables(store)
    again = Search("rewrite", seed=0)
    again.bind([StructuredVariable(Prompt(), name="prompt")])
    again.load_own_variables(json.loads(json.dumps(store)))
    assert again.values(offered) == search.values(offered) == {"prompt": variable.json()}


class Deaf(Forgetful):
    """Has one idea, and takes none of others."""

    async def _propose(self, count):
        return [Proposal({"prompt": {"text": "Version 1.", "temperature": self.asked / 1000}}, "mine")]


def test_what_is_said_where_an_engine_does_not_take_what_was_found_is_true(monkeypatch):
    monkeypatch.setattr("thalweg.search.bound.engine_class", lambda kind: Deaf)
    variable, search = StructuredVariable(Prompt(), name="prompt"), Search("random", seed=0)
    with pytest.raises(
        SearchError, match=r"in a row, and .* takes none but its own, though others .* accept were found"
    ):
        wait(search.apply_optimization([variable]))


class Prompts(RewardProblem):
    kind = "prompts"
    items, held_out, test = 2, 2, 2

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")

    class BlockSettings(BaseModel):
        model_config = ConfigDict(extra="forbid")

    def __init__(self):
        self.variables = (StructuredVariable(Prompt(), name="prompt"),)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls()

    async def reward(self, values, item, runtime):
        return SampleReward(values["prompt"]["temperature"] + 0.1 * item)


def run(stub, out):
    document = {
        "title": "prompts",
        "problem": {"kind": "prompts"},
        "optimizer": {"kind": "rewrite", "candidates": 2, "lm": {"base_url": stub.url, "model": "stub"}},
        "blocks": [{"iterations": 4}],
        "output": {"figures": False},
    }
    return wait(Run(Study.from_document(document, kinds={"prompts": Prompts}), out=out).execute())


def test_a_run_tries_what_the_variables_accept(tmp_path):
    with Stub(heeding) as stub:
        outcome = run(stub, tmp_path / "run")
    history = History(tmp_path / "run" / "run.sqlite")
    assert [one["origin"] for one in history.candidates()] == ["the start", *["rewritten"] * 7]
    assert all("{question}" in one["values"]["prompt"]["text"] for one in history.candidates())
    assert history.iterations()["failed"].tolist() == [0.0] * 4
    assert outcome.summary["search"]["winner"]["values"]["prompt"]["temperature"] == 0.75


def test_a_run_says_which_candidates_were_refused_and_why(tmp_path, monkeypatch):
    def unchecked(*args, **options):  # as an engine asks that does not know what the variables refuse
        return ask_for_values(*args, **{**options, "refusal": None})

    monkeypatch.setattr("thalweg.search.rewriting.ask_for_values", unchecked)
    with Stub(stubborn) as stub:
        outcome = run(stub, tmp_path / "run")
    said = [event["text"] for event in History(tmp_path / "run" / "run.sqlite").events() if event["kind"] == "failure"]
    assert len(said) == 6
    assert re.fullmatch(
        r"candidate 1 is refused and not evaluated: the value of 'prompt' .* needs \{question\}\.", said[0]
    )
    assert said[-1] == "7 candidates were refused in all, and none of them was evaluated"
    assert (outcome.summary["search"]["refused"], outcome.summary["search"]["failed"]) == (7, 0)


class Formatted(BaseModel):
    text: str = "Answer {question}."
    n: int = Field(1, ge=0, le=9)

    @field_validator("text")
    @classmethod
    def formats(cls, value):
        value.format(question="?")
        return value


def test_a_validator_that_raises_another_error_refuses_the_value_and_ends_nothing():
    variable, search = StructuredVariable(Formatted(), name="v"), Search("rewrite", seed=0)
    says = r"the value of 'v' does not fit Formatted: a validator of Formatted failed with KeyError: 'q'\."
    with pytest.raises(ValueMismatchError, match=says) as caught:
        variable.assign({"text": "Answer {q}.", "n": 2})
    assert isinstance(caught.value.__cause__, KeyError)
    with Stub(lambda body: json.dumps({"text": f"{body['seed']} {{q}}", "n": 2})) as stub:
        search.bind([variable])
        search.engine.model = LanguageModel(stub.url, "stub")
        wait(search.apply_optimization([variable], 1.0))
        wait(search.apply_optimization([variable], 1.0))
        assert "KeyError: 'q'" in stub.requests[1]["messages"][-1]["content"]
    assert variable.json() != Formatted().model_dump()
    assert search.engine.counts.replaced == 2


EXAMPLES = [{"q": f"q{k}", "a": str(k)} for k in range(6)]


class Shown(BaseModel):
    text: str = "Answer briefly."
    n: int = Field(1, ge=0, le=99)
    examples: list[dict] = Field([], max_length=2, json_schema_extra={"uniqueItems": True, "items": {"enum": EXAMPLES}})

    @field_validator("examples")
    @classmethod
    def none(cls, value):
        if value:
            raise ValueError("no examples today")
        return value


@pytest.mark.parametrize("knows", [False, True])
def test_no_more_is_asked_than_was_kept_back_for_it(knows):
    with Stub(lambda body: "no JSON") as stub:
        variable, search = StructuredVariable(Shown(), name="v"), Search("rewrite", seed=0, candidates=5, rescore=0)
        search.bind([variable], samples=2)
        engine, refused = search.engine, 0
        engine.model = LanguageModel(stub.url, "stub")
        if not knows:
            engine.refusal = None  # as if nobody said what the variables refuse before they are candidates
        for _ in range(3):
            asked = engine._turns(search.candidates).count("v") * engine.attempts * (engine.repairs + 1)
            before = len(stub.requests)
            trials = wait(search.propose())
            assert len(stub.requests) - before <= asked
            refused += sum(trial.refused is not None for trial in trials)
            rewards = [
                Scored(t.candidate.number, {} if t.refused else {0: SampleReward(0.5)}, {}, again=t.again)
                for t in trials
            ]
            wait(search.apply(Feedback(0.0, {}, rewards=rewards)))
    assert (refused == 0) == knows


class ShownPrompts(Prompts):
    kind = "shown"

    def __init__(self):
        self.variables = (StructuredVariable(Shown(), name="prompt"),)

    async def reward(self, values, item, runtime):
        return SampleReward(0.1 * item)


def test_the_refused_that_a_run_counts_are_those_that_it_tells_of(tmp_path, monkeypatch):
    other = changing.other_examples
    monkeypatch.setattr("thalweg.search.rewriting.other_examples", lambda *args: other(*args[:5]))
    document = {
        "title": "shown",
        "problem": {"kind": "shown"},
        "optimizer": {"kind": "rewrite", "candidates": 3},
        "blocks": [{"iterations": 4}],
        "output": {"figures": False},
    }
    with Stub(lambda body: json.dumps({"text": f"Version {body['seed']}."})) as stub:
        document["optimizer"]["lm"] = {"base_url": stub.url, "model": "stub"}
        study = Study.from_document(document, kinds={"shown": ShownPrompts})
        outcome = wait(Run(study, out=tmp_path / "run").execute())
        gone_on = wait(
            Run.resume(tmp_path / "run", kinds={"shown": ShownPrompts}, overrides=["blocks.0.iterations=6"]).execute()
        )
    history = History(tmp_path / "run" / "run.sqlite")
    told = [event["iteration"] for event in history.events() if "is refused and not evaluated" in event["text"]]
    assert outcome.summary["search"]["refused"] == sum(iteration <= 4 for iteration in told) > 0
    assert gone_on.summary["search"]["refused"] == len(told) > outcome.summary["search"]["refused"]
    known = [one["number"] for one in history.candidates()]
    assert history.iterations()["failed"][-1] - len(told) == max(known) + 1 - len(known) > 0, "others were not told of"


def test_the_model_goes_on_being_asked_where_all_examples_are_refused():
    with Stub(lambda body: json.dumps({"text": f"Version {body['seed']}.", "n": body["seed"] % 100})) as stub:
        variable, search = StructuredVariable(Shown(), name="v"), Search("rewrite", seed=0)
        search.bind([variable])
        search.engine.model = LanguageModel(stub.url, "stub")
        origins = []
        for _ in range(16):
            wait(search.apply_optimization([variable], 0.5))
            origins.append(search.engine.pending[0].origin)
        assert (search.engine.counts.accepted, search.engine.counts.replaced) == (8, 8)
        assert search.metrics()["failed"] == 0
    refused = "without a model (the variables refuse all new examples that were drawn)"
    assert origins == ["rewritten", refused] * 8
