"""The final choice is made on held-out samples, and variables, result and summary are of what was chosen."""

import json
import math
import statistics

import pytest
from pydantic import BaseModel

from thalweg.graph import wait
from thalweg.runs import RewardProblem, Run, Study
from thalweg.runs.report import write_report
from thalweg.runs.summary import search_lines
from thalweg.search import SampleReward, StructuredVariable

SEARCHED, HELD_OUT, TESTED = 3, 4, 5
NOISE = [0.02, -0.03, 0.01, 0.05, -0.01, -0.02, 0.03, 0.04, -0.05, 0.0, 0.01, -0.04]


class Choices(RewardProblem):
    """Each choice has a mean reward in each part of the samples, and each sample a noise of its own."""

    kind = "choices"
    items, held_out, test = SEARCHED, HELD_OUT, TESTED

    class Settings(BaseModel, extra="forbid"):
        parts: dict[str, list[float]]
        slope: dict[str, float] = {}

    class BlockSettings(BaseModel, extra="forbid"):
        pass

    def __init__(self, settings):
        self.settings = settings
        schema = {"type": "object", "properties": {"name": {"enum": list(settings.parts)}}, "required": ["name"]}
        self.variables = (StructuredVariable({"name": next(iter(settings.parts))}, schema, name="choice"),)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        cls.made = cls(settings)
        return cls.made

    def worth(self, name, item):
        part = (item >= SEARCHED) + (item >= SEARCHED + HELD_OUT)
        return self.settings.parts[name][part] + self.settings.slope.get(name, 1.0) * NOISE[item]

    async def reward(self, values, item, runtime):
        return SampleReward(self.worth(values["choice"]["name"], item))


def run(out, parts, *, finalists=2, held_out=HELD_OUT, **problem):
    """The first of the parts is the start; every choice is tried. What came of it, and the problem that was run."""
    cls = type("Choices", (Choices,), {"held_out": held_out, "test": TESTED if held_out else 0})
    document = {
        "title": "choices",
        "problem": {"kind": "choices", "parts": parts, **problem},
        "optimizer": {"kind": "random", "finalists": finalists},
        "blocks": [{"iterations": len(parts)}],
        "output": {"figures": False},
    }
    outcome = wait(Run(Study.from_document(document, kinds={"choices": cls}), out=out).execute())
    assert outcome.status == "finished"
    return outcome, cls.made


def described(problem, name, first, count):
    rewards = [problem.worth(name, item) for item in range(first, first + count)]
    error = statistics.stdev(rewards) / math.sqrt(count)
    return {"mean": pytest.approx(statistics.fmean(rewards)), "standard_error": pytest.approx(error), "samples": count}


def number_of(outcome, name):
    (found,) = [one["number"] for one in outcome.history.candidates() if one["values"] == {"choice": {"name": name}}]
    return found


def is_chosen(outcome, problem, name):
    """All that a run leaves behind says that this is the one: variables, files, facts."""
    values, search = {"choice": {"name": name}}, outcome.summary["search"]
    assert problem.variables[0].json() == values["choice"]
    assert json.loads((outcome.folder / "result.json").read_text()) == values
    assert json.loads((outcome.folder / "summary.json").read_text())["search"] == search
    assert outcome.history.facts()["search"] == search
    assert search["winner"]["values"] == values
    assert search["winner"]["candidate"] == number_of(outcome, name)


PARTS = {  # in the search, held out, in the test
    "start": [0.2, 0.3, 0.25],
    "lucky": [0.9, 0.4, 0.35],
    "good": [0.7, 0.8, 0.75],
    "unseen": [0.1, 0.95, 0.95],
}


def test_the_winner_is_the_best_finalist_on_the_held_out_samples(tmp_path):
    """Best in the search is another one, and best on the held-out samples of all is one that is no finalist."""
    outcome, problem = run(tmp_path / "run", PARTS, slope={"good": 2.0})
    assert max(PARTS, key=lambda name: PARTS[name][0]) == "lucky"
    assert outcome.history.iterations()["best_candidate"][-1] == number_of(outcome, "lucky")
    is_chosen(outcome, problem, "good")
    search = outcome.summary["search"]
    assert search["chosen_on"] == "4 held-out samples"
    assert search["finalists"] == {
        str(number_of(outcome, name)): described(problem, name, SEARCHED, HELD_OUT)["mean"]
        for name in ("start", "lucky", "good")
    }
    mean = described(problem, "good", 0, SEARCHED)["mean"]
    assert search["winner"]["search"] == {"mean": mean, "low": mean, "high": mean, "samples": SEARCHED}
    assert search["winner"]["held_out"] == described(problem, "good", SEARCHED, HELD_OUT)
    assert search["winner"]["test"] == described(problem, "good", SEARCHED + HELD_OUT, TESTED)
    assert search["start"]["candidate"] == 0
    assert search["start"]["search"] == {"mean": described(problem, "start", 0, SEARCHED)["mean"], "samples": SEARCHED}
    assert search["start"]["held_out"] == described(problem, "start", SEARCHED, HELD_OUT)
    assert search["start"]["test"] == described(problem, "start", SEARCHED + HELD_OUT, TESTED)
    items = range(SEARCHED + HELD_OUT, SEARCHED + HELD_OUT + TESTED)
    gains = [problem.worth("good", item) - problem.worth("start", item) for item in items]
    assert search["difference"]["mean"] == pytest.approx(statistics.fmean(gains))
    assert search["difference"]["low"] < search["difference"]["mean"] < search["difference"]["high"]
    said = f"Candidate {number_of(outcome, 'good')} was chosen on 4 held-out samples."
    assert said in write_report(outcome.folder).read_text()
    lines = dict(search_lines(search))
    assert lines["mean reward held out"].startswith(f"{search['winner']['held_out']['mean']:.4g} ")


def test_only_finalists_are_scored_on_held_out_samples_and_only_the_winner_and_the_start_on_test_ones(tmp_path):
    outcome, _ = run(tmp_path / "run", PARTS)
    scored = {(row.candidate, row.item) for row in outcome.history.evaluations() if row.stage == "final"}
    held = range(SEARCHED, SEARCHED + HELD_OUT)
    tested = range(SEARCHED + HELD_OUT, SEARCHED + HELD_OUT + TESTED)
    start, lucky, good = (number_of(outcome, name) for name in ("start", "lucky", "good"))
    assert scored == {(n, item) for n in (start, lucky, good) for item in held} | {
        (n, item) for n in (start, good) for item in tested
    }


def test_of_finalists_that_are_equal_on_the_held_out_samples_the_one_that_was_better_in_the_search_wins(tmp_path):
    parts = {"start": [0.1, 0.2, 0.2], "good": [0.5, 0.6, 0.6], "better": [0.8, 0.6, 0.6], "fair": [0.3, 0.6, 0.6]}
    for order in (["start", "good", "better", "fair"], ["start", "better", "fair", "good"]):
        outcome, problem = run(tmp_path / order[1], {name: parts[name] for name in order}, finalists=4)
        is_chosen(outcome, problem, "better")


def test_the_start_wins_where_it_is_the_best_on_the_held_out_samples(tmp_path):
    outcome, problem = run(tmp_path / "run", {**PARTS, "start": [0.0, 0.9, 0.9]})
    is_chosen(outcome, problem, "start")
    search = outcome.summary["search"]
    assert search["winner"]["candidate"] == search["start"]["candidate"] == 0
    assert search["winner"]["test"] == described(problem, "start", SEARCHED + HELD_OUT, TESTED)
    assert "difference" not in search


def test_without_held_out_samples_the_best_of_the_search_is_chosen(tmp_path):
    outcome, problem = run(tmp_path / "run", PARTS, held_out=0)
    is_chosen(outcome, problem, "lucky")
    search = outcome.summary["search"]
    assert search["chosen_on"] == "the samples of the search"
    assert search["finalists"] == {}
    assert "held_out" not in search["winner"]


def test_a_run_that_goes_on_chooses_again_and_its_variables_have_what_was_chosen(tmp_path):
    """The search goes on with the best of it; at the end there is the held-out choice again."""
    outcome, _ = run(tmp_path / "run", PARTS)
    cls = type("Choices", (Choices,), {})
    more = wait(Run.resume(outcome.folder, kinds={"choices": cls}, overrides=["blocks.0.iterations=5"]).execute())
    assert more.status == "finished"
    is_chosen(more, cls.made, "good")
