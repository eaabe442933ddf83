"""What each sample says of a candidate comes to the engine: its words, its name and its reward, in order."""

import asyncio
import json
from collections import Counter

import pytest
from pydantic import BaseModel

from thalweg.graph import wait
from thalweg.lm import LanguageModel
from thalweg.lm.stub import Stub
from thalweg.runs import RewardProblem, Run, Study
from thalweg.search import Engine, Proposal, SampleReward, Search, StructuredVariable, Told
from thalweg.search.engines import Place, registry

ITEMS = 6


class Recording(Engine):
    """Counts upwards, and keeps what it is told."""

    kind = "recording"
    made = None

    def __init__(self, space, *, seed, start=None, start_first=True):
        super().__init__(space, seed=seed, start=start, start_first=start_first)
        self.told = []
        Recording.made = self

    async def _propose(self, count):
        return [Proposal({"step": {"n": self.asked + k}}, "the next") for k in range(count)]

    def _learn(self, results):
        self.told.append(results)

    def _own_state(self):
        return {}

    def _restore_own(self, state):
        pass


@pytest.fixture
def recording(monkeypatch):
    """Under the name of an engine that a study may have."""
    monkeypatch.setitem(registry, "random", Place(__name__, "Recording"))


def step():
    n = {"type": "integer", "minimum": 0, "maximum": 99}
    return StructuredVariable({"n": 0}, {"type": "object", "properties": {"n": n}, "required": ["n"]}, name="step")


def told_of(search, variable, reward):
    """What the engine is told of the present values."""
    before = len(Recording.made.told)
    wait(search.apply_optimization([variable], reward))
    (told,) = Recording.made.told[before:]
    return told


# -- from Python -----------------------------------------------------------------------------


def test_samples_without_names_are_told_in_the_order_in_which_they_were_given(recording):
    search, variable = Search("random", rescore=0), step()
    wait(search.apply_optimization([variable]))
    for number in (0, 1):
        samples = [SampleReward(1.0, "too warm"), SampleReward(0.25), SampleReward(0.5 + number, "too late")]
        expected = Told(
            number, (1.0 + 0.25 + 0.5 + number) / 3, ("too warm", "too late"), ((0, 1.0), (1, 0.25), (2, 0.5 + number))
        )
        assert told_of(search, variable, samples) == [expected]
    assert variable.json() == {"n": 2}


def test_samples_with_names_are_told_by_them_in_their_order(recording):
    search, variable = Search("random", rescore=0), step()
    wait(search.apply_optimization([variable]))
    samples = [
        SampleReward(0.5, "the fifth", sample=5),
        SampleReward(1.0, "the first", sample=1),
        SampleReward(0.0, "the third", sample=3),
    ]
    expected = Told(0, 0.5, ("the first", "the third", "the fifth"), ((1, 1.0), (3, 0.0), (5, 0.5)))
    assert told_of(search, variable, samples) == [expected]


def test_why_there_is_no_reward_is_told(recording):
    search, variable = Search("random"), step()
    wait(search.apply_optimization([variable]))
    wait(search.fail([variable], "Traceback: much\nValueError: it slipped\n"))
    assert Recording.made.told == [[Told(0, None, ("ValueError: it slipped",))]]


# -- in a run --------------------------------------------------------------------------------


class Remarks(RewardProblem):
    """A remark on each sample; whoever is asked last answers first."""

    kind = "remarks"
    items, held_out, test = ITEMS, 0, 0
    start, schema = {"n": 0}, None
    rewards = (0.0,) * ITEMS

    class Settings(BaseModel, extra="forbid"):
        pass

    class BlockSettings(BaseModel, extra="forbid"):
        pass

    def __init__(self):
        self.variables = (self.variable(),)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls()

    @classmethod
    def variable(cls):
        return step()

    def concurrency(self, runtime):
        return ITEMS

    async def reward(self, values, item, runtime):
        await asyncio.sleep(0.002 * (ITEMS - item))
        return self.said(values, item)

    def said(self, values, item):
        n = values["step"]["n"]
        if (n, item) == (2, 3):
            raise ValueError(f"{n} slipped on {item}")
        return SampleReward(n + item / 8, "" if item == 1 else f"{n} was late on {item}")


def run(cls, out, optimizer, iterations, **block):
    document = {
        "title": "remarks",
        "problem": {"kind": "remarks"},
        "optimizer": optimizer,
        "blocks": [{"iterations": iterations, **block}],
        "output": {"figures": False},
    }
    outcome = wait(Run(Study.from_document(document, kinds={"remarks": cls}), out=out).execute())
    assert outcome.status == "finished"
    return outcome


@pytest.mark.parametrize("block", [{}, {"selection": "every", "batch_size": 4}])
def test_a_run_tells_each_samples_words_name_and_reward(tmp_path, recording, block):
    """Also of a candidate that comes again, and is scored on other samples; and what failed is behind the others."""
    history = run(Remarks, tmp_path / "run", {"kind": "random", "candidates": 2}, 4, **block).history
    expected, known, failed = [], {}, set()
    for iteration in range(1, 5):
        rows = [row for row in history.evaluations() if row.stage == "search" and row.iteration == iteration]
        told = {}
        for number in dict.fromkeys(row.candidate for row in sorted(rows, key=lambda row: row.id)):
            mine = sorted((row for row in rows if row.candidate == number), key=lambda row: row.item)
            words, samples = [], []
            for row in mine:
                assert (row.status == "failed") == ((number, row.item) == (2, 3))
                if row.status == "failed":
                    failed.add(number)
                    continue
                words += [f"{number} was late on {row.item}"] if row.item != 1 else []
                samples.append((row.item, number + row.item / 8))
            words += ["ValueError: 2 slipped on 3"] if any(row.status == "failed" for row in mine) else []
            known.setdefault(number, []).extend(reward for _, reward in samples)
            mean = None if number in failed else sum(known[number]) / len(known[number])
            told[number] = Told(number, mean, tuple(words), tuple(samples))
        expected.append(told)
    assert [{one.number: one for one in results} for results in Recording.made.told] == expected
    assert failed == {2}
    times = Counter(number for told in expected for number in told)
    assert max(times.values()) == (2 if block else 1)


# -- to a language model ---------------------------------------------------------------------


TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
REMARKS = "What went wrong with the last of them, on single samples:"


class Texts(Remarks):
    """A text is worth its length; on each sample there is a remark on it."""

    @classmethod
    def variable(cls):
        return StructuredVariable({"text": "start"}, TEXT, name="step")

    def said(self, values, item):
        text = values["step"]["text"]
        return SampleReward(len(text) + item, "" if item == 1 else f"{text} was late on {item}")


def longer(body):
    """A text that is longer, the more values are known to have been tried."""
    return json.dumps({"text": "x" * (7 + 2 * body["messages"][-1]["content"].count("- reward "))})


def remarks_in(request):
    """What a model is told of values tried, and of single samples."""
    lines = request["messages"][-1]["content"].splitlines()
    tried = [line for line in lines if line.startswith("- reward ")]
    if REMARKS not in lines:
        return tried, []
    said = lines[lines.index(REMARKS) + 1 :]
    return tried, [line for line in said if line.startswith("- ")]


def test_a_model_is_shown_the_words_of_a_runs_samples(tmp_path):
    with Stub(longer) as stub:
        optimizer = {"kind": "rewrite", "lm": {"base_url": stub.url, "model": "stub"}, "remarks": 4}
        outcome = run(Texts, tmp_path / "run", optimizer, 3)
    assert [one["origin"] for one in outcome.history.candidates()] == ["the start", "rewritten", "rewritten"]
    texts = [one["values"]["step"]["text"] for one in outcome.history.candidates()]
    assert len(texts[0]) < len(texts[1]) < len(texts[2])
    assert len(stub.requests) == 2
    for k, request in enumerate(stub.requests):
        tried, said = remarks_in(request)
        assert tried == [f'- reward {len(text) + 2.5:.4g}: {{"text":"{text}"}}' for text in texts[: k + 1]]
        assert said == [f"- {texts[k]} was late on {item}" for item in (0, 2, 3, 4)]


def test_a_model_is_shown_the_words_that_a_search_is_told():
    variable = StructuredVariable({"text": "start"}, TEXT, name="step")
    with Stub(longer) as stub:
        search = Search("rewrite", rescore=0)
        search.bind([variable])
        search.engine.model = LanguageModel(stub.url, "stub", retries=0)
        wait(search.apply_optimization([variable]))
        samples = [SampleReward(1.0, "too  warm"), SampleReward(0.0), SampleReward(0.5, "too\nlate")]
        wait(search.apply_optimization([variable], samples))
    assert remarks_in(stub.requests[-1]) == (['- reward 0.5: {"text":"start"}'], ["- too warm", "- too late"])
    assert variable.json() == {"text": "x" * 9}


# -- to the choice of examples ---------------------------------------------------------------


POOL = [{"inputs": {"text": f"word {i}"}, "outputs": {"label": "ab"[i % 2]}} for i in range(ITEMS)]
SHELF = {"type": "array", "items": {"enum": POOL}, "uniqueItems": True, "maxItems": 2}
EXAMPLES = {"type": "object", "properties": {"examples": SHELF}, "required": ["examples"]}
OPTIONS = {"method": "best", "score": "success", "neighbors": 0.0, "full": 1.0}
SUCCESSES = [((0.0, 1.0, 0.0, 0.0, 1.0, 0.0), {1, 4}), ((1.0, 0.0, 0.0, 1.0, 0.0, 0.0), {0, 3})]


def examples():
    return StructuredVariable({"examples": []}, EXAMPLES, name="step")


def shown(values):
    return {POOL.index(example) for example in values["examples"]}


@pytest.mark.parametrize(("rewards", "expected"), SUCCESSES)
def test_a_run_chooses_examples_by_the_success_on_their_samples(tmp_path, rewards, expected):
    """The mean is the same, so what decides is which sample has which reward."""

    class Shown(Remarks):
        @classmethod
        def variable(cls):
            return examples()

        def said(self, values, item):
            return SampleReward(rewards[item])

    outcome = run(Shown, tmp_path / "run", {"kind": "few_shot", **OPTIONS}, 2)
    start, second = outcome.history.candidates()
    assert shown(start["values"]["step"]) == set()
    assert shown(second["values"]["step"]) == expected


@pytest.mark.parametrize(("rewards", "expected"), SUCCESSES)
def test_a_search_chooses_examples_by_the_success_on_their_samples(rewards, expected):
    search, variable = Search("few_shot", options=OPTIONS, rescore=0), examples()
    wait(search.apply_optimization([variable]))
    samples = [SampleReward(reward, sample=item) for item, reward in enumerate(rewards)]
    wait(search.apply_optimization([variable], samples[::-1]))
    assert shown(variable.json()) == expected


def test_the_success_is_the_mean_of_all_candidates_that_were_scored_on_the_sample():
    """Sample 2 is good at first and bad then; 5 is the other way round, and more so."""
    search, variable = Search("few_shot", options=OPTIONS, rescore=0), examples()
    wait(search.apply_optimization([variable]))
    for two, five in ((0.7, 0.0), (0.0, 1.0)):
        rewards = [0.1, 0.1, two, 0.4, 0.1, five]
        wait(search.apply_optimization([variable], [SampleReward(r, sample=item) for item, r in enumerate(rewards)]))
    assert shown(variable.json()) == {3, 5}
