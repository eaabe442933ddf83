"""Scores of other rewards are compared with nothing: a search whose rewards are decided otherwise begins anew."""

import json
import sqlite3

import numpy as np
import pytest

from tests.runs.searching import dies, resume, valley
from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.runs import History, Run, Study
from thalweg.runs.compare import misfits_of
from thalweg.runs.compared import compared_from
from thalweg.runs.record import RunRecord
from thalweg.runs.report import write_report
from thalweg.runs.search_figures import candidate_means
from thalweg.runs.summary import closing_table

EACH = 12  # evaluations of an iteration: two candidates on six samples


@pytest.fixture
def document():
    return {
        "title": "a valley",
        "problem": {"kind": "valley", "noise": 0.1},
        "optimizer": {"kind": "evolution", "candidates": 2, "finalists": 2, "population": 3, "startup": 2},
        "blocks": [{"iterations": 4}],
        "output": {"checkpoint_every": 1, "keep": 50, "figures": False},
    }


def shifted(shift, digest="the data"):
    """The valley with every reward moved by so much, as by other data or another metric."""
    cls = valley()
    base = cls.reward

    async def reward(self, values, item, runtime):
        found = await base(self, values, item, runtime)
        return type(found)(found.reward + shift, found.feedback)

    cls.reward = reward
    cls.fingerprint = lambda self: digest
    cls.data_keys = ("kind",)  # which names them, as there is no key for files here
    return cls


def run(document, cls, out):
    return wait(Run(Study.from_document(document, kinds={"valley": cls}), out=out).execute())


def best_of(history, first):
    """What the best candidate of the new rewards is worth in the search, from the table of evaluations."""
    rewards = {}
    for row in history.evaluations():
        if row.stage == "search" and row.candidate >= first:
            rewards.setdefault(row.candidate, []).append(row.reward)
    return max(float(np.mean(found)) for found in rewards.values())


def test_other_data_is_refused_with_what_has_changed_and_the_run_stays_as_it_was(tmp_path, document):
    run(document, shifted(0.0), tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    with pytest.raises(RunError, match="'the data' → 'other data'") as caught:
        wait(resume(shifted(-100.0, "other data"), tmp_path / "run", "blocks.0.iterations=6").execute())
    assert caught.value.details["differences"] == ["digest of the data"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before


def test_what_decides_rewards_may_not_change_with_the_code_either(tmp_path, document):
    run(document, shifted(0.0), tmp_path / "run")
    cls = shifted(0.0)
    cls.decisive = lambda self, table: {**table, "rounding": "down"}
    with pytest.raises(RunError, match=r"problem\.rounding: not there → 'down'"):
        wait(resume(cls, tmp_path / "run", "blocks.0.iterations=6").execute())


def test_a_plan_says_that_the_search_would_begin_anew(tmp_path, document):
    run(document, shifted(0.0), tmp_path / "run")
    more = [tmp_path / "run", "blocks.0.iterations=6"]
    assert "note" not in dict(wait(resume(shifted(0.0), *more).plan()))
    told = dict(wait(resume(shifted(0.0), *more, "problem.noise=0.2").plan()))["note"]
    assert told.startswith("what decides rewards has changed, so the search begins anew")
    assert "problem.noise: 0.1 → 0.2" in told


@pytest.mark.parametrize(
    ("digest", "overrides"),
    [
        pytest.param("the data", ["problem.noise=0.2"], id="a setting"),
        pytest.param("other data", ["problem.kind=valley"], id="data, named by what stays the same"),
    ],
)
def test_a_change_that_is_named_has_the_search_begin_anew_and_compare_nothing(tmp_path, document, digest, overrides):
    """All old rewards are higher by 100 than any new one, so one that is compared would win."""
    old = run(document, shifted(0.0), tmp_path / "run").summary["search"]
    cls = shifted(-100.0, digest)
    outcome = wait(resume(cls, tmp_path / "run", "blocks.0.iterations=9", *overrides).execute())
    search, history = outcome.summary["search"], outcome.history
    candidates = history.candidates()
    assert [one["number"] for one in candidates] == list(range(18))
    assert candidates[8]["values"] == candidates[0]["values"], "the start"
    assert candidates[8]["origin"] == "start"
    parents = [one["origin"] for one in candidates[10:] if "of" in one["origin"]]
    assert parents
    assert all(int(word) >= 8 for text in parents for word in text.split() if word.isdigit())
    assert search["not_compared"] == 8
    assert search["winner"]["candidate"] >= 8
    assert search["winner"]["search"]["mean"] == pytest.approx(best_of(history, 8))
    assert search["winner"]["search"]["mean"] < -99.0
    assert search["start"]["candidate"] == 8
    assert search["start"]["test"]["mean"] < -100.0
    assert set(map(int, search["finalists"])) <= set(range(8, 18))
    columns = history.iterations()
    assert np.all(columns["best"][:4] > -100.0)
    assert np.all(columns["best"][4:] < -99.0)
    assert columns["best_candidate"][4] in (8, 9)
    assert search["spent"]["evaluations"] == old["spent"]["evaluations"] + len(cls.calls), "nothing is paid for less"
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == search["winner"]["values"]
    assert all(mean < -99.0 for _, mean, _ in candidate_means(history).values())
    (told,) = [event["text"] for event in history.events() if "begins anew" in event["text"]]
    assert "candidate 8" in told
    assert "candidates 0 to 7" in dict(closing_table(outcome.summary))["not compared"]
    assert "Candidates 0 to 7" in write_report(outcome.folder).read_text()
    (block,) = misfits_of(RunRecord.read(outcome.folder))
    assert (block["iterations"], block["misfit_start"] > 99.0) == (9, True)
    assert outcome.summary["misfit_start"][0] > 99.0
    more = wait(resume(cls, tmp_path / "run", "blocks.0.iterations=10").execute()).summary["search"]
    assert (more["not_compared"], more["start"]["candidate"]) == (8, 8)


def test_a_change_that_was_named_once_holds_if_the_run_dies_before_its_next_checkpoint(tmp_path, document):
    run(document, shifted(0.0), tmp_path / "run")
    run(document, shifted(0.0), tmp_path / "whole")
    more = "blocks.0.iterations=7"
    whole = shifted(-100.0)
    expected = wait(resume(whole, tmp_path / "whole", more, "problem.noise=0.2").execute()).summary["search"]
    cls = shifted(-100.0)
    dies(cls, 5, resume(cls, tmp_path / "run", more, "problem.noise=0.2"))
    search = wait(resume(cls, tmp_path / "run").execute()).summary["search"]
    assert search["winner"] == expected["winner"]
    assert search["not_compared"] == 8
    assert len(cls.calls) == len(whole.calls) + 1, "the one that was in flight"


def test_a_change_that_is_taken_back_before_a_checkpoint_knows_of_it_leaves_no_trace(tmp_path, document):
    document["output"]["checkpoint_every"] = 4
    run(document, shifted(0.0), tmp_path / "run")
    cls = shifted(-100.0)
    dies(cls, 5, resume(cls, tmp_path / "run", "blocks.0.iterations=7", "problem.noise=0.2"))
    assert compared_from(History(tmp_path / "run").facts()) == (8, 4)
    outcome = wait(resume(shifted(0.0), tmp_path / "run", "problem.noise=0.1").execute())
    assert compared_from(outcome.history.facts()) == (0, 0)
    assert "not_compared" not in outcome.summary["search"]
    assert set(candidate_means(outcome.history)) == set(range(14))
    (block,) = misfits_of(RunRecord.read(outcome.folder))
    assert block["misfit_start"] == -outcome.history.iterations()["best"][0]


def test_where_a_search_began_anew_is_known_from_its_checkpoint(tmp_path, document):
    run(document, shifted(0.0), tmp_path / "run")
    cls = shifted(-100.0)
    wait(resume(cls, tmp_path / "run", "blocks.0.iterations=6", "problem.noise=0.2").execute())
    other = shifted(-200.0)
    dies(other, 5, resume(other, tmp_path / "run", "blocks.0.iterations=8", "problem.noise=0.3"))
    assert compared_from(History(tmp_path / "run").facts()) == (12, 6)
    outcome = wait(resume(cls, tmp_path / "run", "problem.noise=0.2").execute())
    assert compared_from(outcome.history.facts()) == (8, 4)
    assert set(candidate_means(outcome.history)) == set(range(8, 16))


def test_candidates_that_a_changed_run_does_not_come_to_again_have_no_rewards(tmp_path, document):
    """Killed behind its checkpoint, it goes on with other rewards under the same numbers."""
    document["output"]["checkpoint_every"] = 3
    cls = shifted(0.0)
    dies(cls, 3 * EACH + 12, Run(Study.from_document(document, kinds={"valley": cls}), out=tmp_path / "run"))
    assert len(candidate_means(History(tmp_path / "run"))) == 8
    other = shifted(-100.0)
    dies(other, 9, resume(other, tmp_path / "run", "problem.noise=0.2"))
    means = candidate_means(History(tmp_path / "run"))
    assert set(means) == {6, 7}
    assert all(mean < -99.0 for _, mean, _ in means.values())


def test_a_history_that_does_not_say_what_decided_its_rewards_costs_the_report_a_section(tmp_path, document):
    outcome = run(document, shifted(0.0), tmp_path / "run")
    with sqlite3.connect(tmp_path / "run" / "run.sqlite") as database:
        database.execute("UPDATE facts SET value = '[]' WHERE name = 'rewards_decided_by'")
    database.close()
    text = write_report(outcome.folder).read_text()
    assert "What was tried cannot be shown. The history does not say what its rewards were decided by" in text


def test_changed_rewards_without_an_iteration_left_are_refused(tmp_path, document):
    cls = shifted(0.0)
    dies(cls, 4 * EACH + 3, Run(Study.from_document(document, kinds={"valley": cls}), out=tmp_path / "run"))
    with pytest.raises(RunError, match=r"(?s)all 4 iterations are made.*noise: 0\.1 → 0\.2.*blocks\.0\.iterations=8"):
        wait(resume(cls, tmp_path / "run", "problem.noise=0.2").execute())


@pytest.mark.parametrize("kind", ["random", "tpe", "cma_es", "cobyqa", "halving", "auto"])
def test_every_engine_begins_anew(tmp_path, document, kind):
    document["optimizer"] = {"kind": kind, "candidates": 1}
    run(document, shifted(0.0), tmp_path / "run")
    outcome = wait(resume(shifted(-100.0), tmp_path / "run", "blocks.0.iterations=8", "problem.noise=0.2").execute())
    candidates = outcome.history.candidates()
    first = outcome.summary["search"]["not_compared"]
    assert outcome.summary["search"]["winner"]["search"]["mean"] < -99.0
    values = [one["values"] for one in candidates]
    assert values[first : first + 3] == values[:3], "which no reward has a say in"


def test_begun_again_by_its_first_rewards_all_candidates_are_compared(document, tmp_path):
    """That it began anew was said of what is given up."""
    document["blocks"][0]["iterations"] = 3
    cls, whole, out = valley(), tmp_path / "whole", tmp_path / "run"
    run(document, cls, whole)
    run(document, cls, out)
    wait(resume(cls, out, "problem.noise=0.2", "blocks.0.iterations=5").execute())
    assert misfits_of(RunRecord.read(out)) != misfits_of(RunRecord.read(whole))
    changes = ["problem.noise=0.1", "blocks.0.iterations=3"]
    wait(Run.resume(out, overrides=changes, kinds={"valley": cls}, iteration=0).execute())
    assert misfits_of(RunRecord.read(out)) == misfits_of(RunRecord.read(whole))
    assert candidate_means(History(out)) == candidate_means(History(whole))


def test_what_is_given_up_is_not_among_the_candidates(document, tmp_path):
    cls, whole, out = valley(), tmp_path / "whole", tmp_path / "run"
    run({**document, "blocks": [{"iterations": 3}]}, cls, whole)
    run(document, cls, out)
    assert len(History(out).candidates()) > len(History(whole).candidates())
    wait(Run.resume(out, overrides=["blocks.0.iterations=3"], kinds={"valley": cls}, iteration=2).execute())
    assert History(out).candidates() == History(whole).candidates()
    assert candidate_means(History(out)) == candidate_means(History(whole))
