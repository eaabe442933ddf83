"""Beside each mean is how many samples it is of: with halving, candidates differ in that."""

import io
import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from tests.runs.searching import valley
from thalweg.graph import wait
from thalweg.runs import PlainDisplay, Run, Study
from thalweg.runs.compare import Comparison, print_comparison
from thalweg.runs.compared import SCORED_ON, ScoredOn
from thalweg.runs.record import RunRecord
from thalweg.runs.report import write_report
from thalweg.runs.search_figures import apart, candidate_means, plot_search
from thalweg.runs.summary import search_lines
from thalweg.runs.telling import line_of
from thalweg.runs.watch import Sight
from thalweg.search import SampleReward


@pytest.fixture
def halved(tmp_path):
    cls, stream = valley(), io.StringIO()
    cls.item_name, cls.measure = "fold", "depth"
    document = {
        "title": "halving",
        "problem": {"kind": "valley", "samples": 4},
        "optimizer": {"kind": "halving"},
        "blocks": [{"iterations": 9}],
        "output": {"figures": False},
    }
    study = Study.from_document(document, kinds={"valley": cls})
    display = PlainDisplay(stream, interval=0.0, item_name="fold")
    return wait(Run(study, out=tmp_path / "run", display=display).execute()), stream.getvalue()


def counts_of(outcome):
    return {number: count for number, (_, _, count) in candidate_means(outcome.history).items()}


def test_each_line_says_of_how_many_folds_its_means_are(halved):
    outcome, told = halved
    columns, counts = outcome.history.iterations(), counts_of(outcome)
    assert len(set(counts.values())) > 1
    lines = [line for line in told.splitlines() if line.startswith("iteration ")]
    assert len(lines) == 9
    for line, best, last, misfit in zip(
        lines, columns["best_samples"], columns["last_samples"], columns["misfit"], strict=True
    ):
        assert f" on {best:.0f} of 4 folds, candidate " in line
        assert f"  last {-misfit:.4g} on {last:.0f} of 4  " in line
    assert {1.0, 4.0} <= set(columns["last_samples"])
    sight = Sight.of(RunRecord.read(outcome.folder)).line()
    assert f" on {columns['best_samples'][-1]:.0f} of 4 folds, " in sight


def test_what_was_chosen_and_the_start_say_it_too(halved):
    outcome, told = halved
    search, counts = outcome.summary["search"], counts_of(outcome)
    winner, start = search["winner"], search["start"]
    mine, its = counts[winner["candidate"]], counts[start["candidate"]]
    said = (
        f"{winner['search']['mean']:.4g} on {mine} of 4 folds (start {start['search']['mean']:.4g} on {its} of 4 folds)"
    )
    lines = dict(search_lines(search))
    assert lines["mean reward in the search"] == said
    assert " on 6 of 6 folds" in lines["mean reward held out"]
    assert said in told
    console = Console(file=io.StringIO(), width=200)
    print_comparison(Comparison.read([outcome.folder] * 2), console)
    assert f"{winner['search']['mean']:.4g} on {mine} of 4 folds" in console.file.getvalue()
    best = outcome.history.iterations()["best"]
    assert f"{best[0]:.4g} (on 1) → {best[-1]:.4g} (on {mine})" in console.file.getvalue()
    page = write_report(outcome.folder).read_text()
    assert f" on {mine} of 4 folds" in page
    assert f"<td>{its} of 4</td>" in page
    assert "hollow those that were scored on some of the 4 folds only" in page
    assert "mean reward (depth)" in page


def test_in_the_picture_those_on_some_folds_are_hollow(halved):
    history = halved[0].history
    axes = Figure().subplots()
    plot_search(axes, history)
    whole, partly = apart(candidate_means(history), 4)
    columns = history.iterations()
    few = columns["best_samples"] < 4
    assert 0 < few.sum() < len(few)
    for line, there in zip(axes.lines, (~few, few), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), np.where(there, columns["best"], np.nan))
    assert axes.lines[1].get_label() == "on some folds"
    filled, hollow = (
        artist for artist in axes.collections if artist.get_label() in ("a candidate", "one on some folds")
    )
    np.testing.assert_array_equal(np.asarray(filled.get_offsets()), whole)
    np.testing.assert_array_equal(np.asarray(hollow.get_offsets()), partly)
    assert len(hollow.get_facecolors()) == 0 < len(filled.get_facecolors())
    assert hollow.get_label() == "one on some folds"
    assert axes.get_ylabel() == "mean reward (depth)"


def test_runs_of_before_are_read(halved):
    """They say neither on how many samples there are, nor on how many of them a mean is."""
    search = json.loads(json.dumps(halved[0].summary["search"]))
    del search["scored_on"], search["start"]["search"]["samples"]
    before = dict(search_lines(search))["mean reward in the search"]
    assert before == f"{search['winner']['search']['mean']:.4g} (start {search['start']['search']['mean']:.4g})"
    assert ScoredOn.of({}) == ScoredOn.of({SCORED_ON: 3}) == ScoredOn.of({SCORED_ON: {"search": "4"}}) == ScoredOn()


def test_a_reward_of_zero_has_no_sign(halved):
    assert line_of(0.0, {"best": -0.0, "best_candidate": 0.0}) == "best reward 0, candidate 0  last 0"


def test_the_table_of_two_runs_has_no_zero_with_a_sign(tmp_path):
    cls = valley()
    document = {
        "title": "zero",
        "problem": {"kind": "valley", "noise": 0.0},
        "optimizer": {"kind": "random"},
        "blocks": [{"iterations": 1}],
        "output": {"figures": False},
    }

    async def nothing(self, values, item, runtime):
        return SampleReward(0.0)

    cls.reward = nothing
    wait(Run(Study.from_document(document, kinds={"valley": cls}), out=tmp_path / "run").execute())
    console = Console(file=io.StringIO(), width=200)
    print_comparison(Comparison.read([tmp_path / "run"] * 2), console)
    (line,) = [line for line in console.file.getvalue().splitlines() if line.startswith("best reward, ")]
    assert line.split()[-6:] == ["0", "→", "0", "0", "→", "0"]
