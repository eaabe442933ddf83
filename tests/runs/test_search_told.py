"""What a run of a search says of its candidates: means that they were judged by, what failed, who was tested."""

import asyncio
import json

import numpy as np
import pytest
from pydantic import BaseModel

from tests.runs.searching import dies
from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.runs import History, QuietDisplay, RewardProblem, Run, Study
from thalweg.runs.report import write_report
from thalweg.runs.search_figures import candidate_means, draw_search
from thalweg.runs.summary import closing_table
from thalweg.search import SampleReward, StructuredVariable

FEW = {"selection": "random", "batch_size": 4}


class Steps(RewardProblem):
    """−|k − 1|/10 with noise of the sample; some (k, sample) fail."""

    kind = "steps"
    items, held_out, test = 12, 6, 6

    class Settings(BaseModel, extra="forbid"):
        sign: float = 1.0
        n: int = 30
        broken: bool = False
        bad: list[list[int]] = []

    class BlockSettings(BaseModel, extra="forbid"):
        pass

    calls = 0
    mended = False
    stop_at = task = None

    def __init__(self, settings):
        self.settings = settings
        k = {"type": "integer", "minimum": 0, "maximum": settings.n - 1}
        schema = {"type": "object", "properties": {"k": k}, "required": ["k"]}
        self.variables = (StructuredVariable({"k": 0}, schema, name="step"),)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls(settings)

    async def reward(self, values, item, runtime):
        type(self).calls += 1
        if type(self).calls == self.stop_at:
            self.task.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
            self.task.cancel()
            await asyncio.sleep(60)
        k, settings = values["step"]["k"], self.settings
        if settings.broken or ([k, item] in settings.bad and not self.mended):
            raise ValueError("it slipped")
        noise = 0.01 * np.random.default_rng([k, item]).normal()
        return SampleReward(settings.sign * -0.1 * abs(k - 1) + noise)


@pytest.fixture
def steps():
    return type("Steps", (Steps,), {"calls": 0, "mended": False})


def study_of(cls, optimizer, iterations, block=None, output=None, seed=0, **problem):
    document = {
        "title": "steps",
        "seed": seed,
        "problem": {"kind": "steps", **problem},
        "optimizer": optimizer,
        "blocks": [{"iterations": iterations, **(block or {})}],
        "output": {"figures": False, **(output or {})},
    }
    return Study.from_document(document, kinds={"steps": cls})


def run(cls, out, *arguments, **problem):
    return wait(Run(study_of(cls, *arguments, **problem), out=out).execute())


def go_on(cls, out, *overrides):
    return wait(Run.resume(out, kinds={"steps": cls}, overrides=overrides).execute())


def values_of(history):
    return {one["number"]: one["values"]["step"]["k"] for one in history.candidates()}


def warnings_of(history):
    return [event["text"] for event in history.events() if event["kind"] == "warning"]


# -- equal values ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_a_value_that_has_failed_does_not_win_under_another_number(tmp_path, steps, seed):
    outcome = run(steps, tmp_path / "run", {"kind": "tpe"}, 40, FEW, seed=seed, n=16, bad=[[1, 0], [1, 5]])
    assert any(row.status == "failed" for row in outcome.history.evaluations())
    assert outcome.summary["search"]["winner"]["values"] != {"step": {"k": 1}}
    assert 1 not in {values_of(outcome.history)[number] for number in candidate_means(outcome.history)}


@pytest.mark.parametrize("block", [None, FEW])
def test_repeated_values_are_one_finalist_and_one_line_of_the_report(tmp_path, steps, block):
    outcome = run(steps, tmp_path / "run", {"kind": "tpe", "candidates": 2}, 10, block, n=8)
    search, history = outcome.summary["search"], outcome.history
    values, means = values_of(history), candidate_means(history)
    repeated = len(values) - len(set(values.values()))
    assert repeated > 5
    finalists = [values[int(number)] for number in search["finalists"]]
    assert len(finalists) == len(set(finalists)) >= 4
    assert set(means) == set(values), "none has failed"
    winner = search["winner"]
    assert means[winner["candidate"]][1:] == (winner["search"]["mean"], winner["search"]["samples"])
    assert history.iterations()["best"][-1] == means[winner["candidate"]][1] or block
    page = write_report(outcome.folder).read_text()
    assert "no reward" not in page
    assert f"{repeated} candidates have the values of an earlier one" in page
    assert steps.calls == search["spent"]["evaluations"] == len({(row.key, row.item) for row in history.evaluations()})


# -- results of before the search began anew -------------------------------------------------


def test_a_search_that_comes_back_to_its_settings_is_told_by_what_it_was_judged_by(tmp_path, steps):
    run(steps, tmp_path / "run", {"kind": "random", "candidates": 2}, 3, FEW)
    go_on(steps, tmp_path / "run", "problem.sign=-1.0", "blocks.0.iterations=6")
    outcome = go_on(steps, tmp_path / "run", "problem.sign=1.0", "blocks.0.iterations=9")
    search, history = outcome.summary["search"], outcome.history
    means = candidate_means(history)
    assert set(means) == set(range(12, 18))
    winner, start = search["winner"], search["start"]
    assert means[winner["candidate"]][1:] == (winner["search"]["mean"], winner["search"]["samples"])
    assert means[start["candidate"]][1] == start["search"]["mean"]
    assert all(count >= 4 for _, _, count in means.values()), "of a batch at least"
    assert {iteration for iteration, _, _ in means.values()} == {7, 8, 9}
    assert search["spent"]["evaluations"] == steps.calls, "what was used again is free"
    more = go_on(steps, tmp_path / "run", "blocks.0.iterations=10").summary["search"]
    assert more["spent"]["evaluations"] == steps.calls
    assert more["winner"]["search"]["samples"] == candidate_means(history)[more["winner"]["candidate"]][2]


# -- failures --------------------------------------------------------------------------------


def test_a_run_that_is_given_up_forgives_no_failures_of_before(tmp_path, steps):
    bad = [[k, 0] for k in range(2, 30)]
    run(steps, tmp_path / "run", {"kind": "random", "candidates": 3}, 4, bad=bad)
    with pytest.raises(RunError, match="All 36 evaluations have failed"):
        go_on(steps, tmp_path / "run", "problem.broken=true", "blocks.0.iterations=6")
    outcome = go_on(steps, tmp_path / "run", "problem.broken=false")
    search = outcome.summary["search"]
    assert search["spent"]["evaluations"] == steps.calls == len(outcome.history.evaluations())
    assert search["unused"]["evaluations"] == 36
    assert set(candidate_means(outcome.history)) == {0}, "all others have failed on the first sample"


def test_a_start_that_fails_on_one_sample_ends_nothing(tmp_path, steps):
    outcome = run(steps, tmp_path / "run", {"kind": "tpe"}, 8, bad=[[0, 3]])
    search, columns = outcome.summary["search"], outcome.history.iterations()
    assert outcome.status == "finished"
    assert search["start"] is None
    assert search["winner"]["values"]["step"]["k"] != 0
    rewards = [row.reward for row in outcome.history.evaluations() if row.candidate == 0 and row.reward is not None]
    assert len(rewards) == 11
    assert columns["misfit"][0] == pytest.approx(-np.mean(rewards))
    assert np.isnan(columns["best"][0])
    assert np.isfinite(columns["best"][1:]).all()
    draw_search(tmp_path / "search.png", outcome.history)
    assert write_report(outcome.folder).exists()


def test_as_long_as_every_candidate_fails_on_something_nothing_is_chosen(tmp_path, steps):
    outcome = run(
        steps, tmp_path / "run", {"kind": "tpe"}, 4, bad=[[k, 3] for k in range(30)], output={"figures": True}
    )
    assert outcome.status == "finished"
    assert "winner" not in outcome.summary["search"]
    assert "nothing: no candidate was scored" in dict(closing_table(outcome.summary))["chosen"]
    assert write_report(outcome.folder).exists()


def test_a_failed_test_sample_is_told_and_made_again_by_a_run_that_goes_on(tmp_path, steps):
    outcome = run(steps, tmp_path / "run", {"kind": "random", "candidates": 3}, 8, n=6, bad=[[1, 20]])
    search = outcome.summary["search"]
    assert search["winner"]["values"] == {"step": {"k": 1}}
    assert "test" not in search["winner"]
    number = search["winner"]["candidate"]
    (text,) = search["incomplete"]
    assert text.startswith(f"candidate {number} failed on 1 of 6 test samples, so it has no mean there")
    assert text.endswith("ValueError: it slipped")
    assert warnings_of(outcome.history) == [f"the final choice is incomplete: {text}"]
    assert text in write_report(outcome.folder).read_text()
    assert dict(closing_table(outcome.summary))["incomplete"] == text
    before = steps.calls
    again = go_on(steps, tmp_path / "run").summary["search"]
    assert steps.calls == before + 1
    assert again["incomplete"] == [text]
    steps.mended = True
    whole = go_on(steps, tmp_path / "run").summary["search"]
    assert steps.calls == whole["spent"]["evaluations"] == before + 2
    assert "incomplete" not in whole
    assert whole["winner"]["test"]["samples"] == 6
    assert whole["difference"]["mean"] == pytest.approx(
        whole["winner"]["test"]["mean"] - whole["start"]["test"]["mean"]
    )
    assert whole["unused"]["evaluations"] == 2


def test_a_run_that_has_finished_goes_on_without_more_iterations_if_its_final_choice_lacks_something(tmp_path, steps):
    outcome = run(steps, tmp_path / "run", {"kind": "random", "candidates": 3}, 2, n=6, bad=[[2, 20], [1, 20], [0, 20]])
    assert outcome.summary["iterations"] == 2
    assert outcome.summary["search"]["incomplete"]
    steps.mended = True
    again = go_on(steps, tmp_path / "run").summary["search"]
    assert again["winner"]["test"]["samples"] == 6
    with pytest.raises(RunError, match="has finished: all 2 iterations are made"):
        go_on(steps, tmp_path / "run")


def test_a_failed_held_out_sample_costs_its_candidate_the_choice_and_is_told(tmp_path, steps):
    outcome = run(steps, tmp_path / "run", {"kind": "random", "candidates": 3}, 8, n=6, bad=[[1, 13], [1, 14]])
    search = outcome.summary["search"]
    assert search["winner"]["values"] == {"step": {"k": 2}} or search["winner"]["values"] == {"step": {"k": 0}}
    (text,) = search["incomplete"]
    assert "failed on 2 of 6 held-out samples" in text


def test_where_the_budget_does_not_pay_for_another_attempt_the_choice_stays_as_it_was(tmp_path, steps):
    outcome = run(steps, tmp_path / "run", {"kind": "random", "candidates": 3}, 8, n=6, bad=[[0, 12], [1, 12]])
    before = outcome.summary["search"]
    spent = before["spent"]["evaluations"]
    again = go_on(steps, tmp_path / "run", f"budget.evaluations={spent}").summary["search"]
    assert again["spent"]["evaluations"] == spent
    assert (again["winner"], again["finalists"]) == (before["winner"], before["finalists"])
    assert any("budget" in text for text in again["incomplete"])


# -- the samples that nothing else has seen --------------------------------------------------


def test_a_run_that_goes_on_says_who_was_scored_on_the_test_samples_before(tmp_path, steps):
    outcome = run(steps, tmp_path / "run", {"kind": "random"}, 4, sign=-1.0)
    first = outcome.summary["search"]
    assert "tested_before" not in first
    assert "which nothing else has seen" in write_report(outcome.folder).read_text()
    same = go_on(steps, tmp_path / "run", "blocks.0.iterations=5").summary["search"]
    assert same["winner"]["candidate"] == first["winner"]["candidate"]
    assert "tested_before" not in same, "the same two"
    outcome = go_on(steps, tmp_path / "run", "blocks.0.iterations=12")
    more = outcome.summary["search"]
    assert more["winner"]["candidate"] != first["winner"]["candidate"]
    page = write_report(outcome.folder).read_text()
    assert more["tested_before"] == 1
    assert "which nothing else has seen," not in page
    assert "1 other candidate was scored on test samples before" in page
    assert "1 other candidate," in dict(closing_table(outcome.summary))["tested before"]


# -- what a picture and a number mean --------------------------------------------------------


def test_the_level_of_the_bounds_and_what_is_behind_a_plus_minus_are_said(tmp_path, steps):
    optimizer = {"kind": "random", "candidates": 2, "confidence": 0.9}
    outcome = run(steps, tmp_path / "run", optimizer, 4, FEW, n=8)
    page = write_report(outcome.folder).read_text()
    assert page.count("confidence bounds (90 % each, 80 % between them)") == 2
    assert "± is one standard error" in page
    outcome = run(steps, tmp_path / "all", optimizer, 6, FEW, n=8)
    page = write_report(outcome.folder).read_text()
    winner = outcome.summary["search"]["winner"]["search"]
    assert winner["low"] == winner["high"], "all samples are known"
    assert "In brackets" not in page, "nothing is"
    assert "± is one standard error" in page


def test_the_legend_is_above_the_candidates_and_names_only_what_is_drawn(tmp_path, steps):
    from matplotlib.figure import Figure

    from thalweg.runs.search_figures import plot_search

    for block, names in (
        (
            FEW,
            [
                "best so far",
                "on some samples",
                "its bounds (95 % each, 90 % between them)",
                "a candidate",
                "one on some samples",
            ],
        ),
        (None, ["best so far", "a candidate"]),
    ):
        outcome = run(steps, tmp_path / str(len(names)), {"kind": "random", "candidates": 2}, 4, block)
        figure = Figure(figsize=(7.0, 4.0), layout="constrained")
        axes = figure.subplots()
        plot_search(axes, outcome.history)
        figure.canvas.draw()
        legend = axes.get_legend()
        assert [text.get_text() for text in legend.get_texts()] == names
        box, plot = legend.get_window_extent(), axes.get_window_extent()
        assert box.y0 >= plot.y1
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1


# -- after a break ---------------------------------------------------------------------------


@pytest.mark.parametrize("block", [None, FEW])
def test_a_search_with_repetitions_and_failures_goes_on_to_the_same_result_wherever_it_was_killed(
    tmp_path, steps, block
):
    bad = [[0, 2], [1, 5], [3, 13], [2, 19]]  # the start, the best, and in the final choice
    arguments = ({"kind": "tpe", "candidates": 2, "startup": 4}, 8, block, {"checkpoint_every": 3})
    run(steps, tmp_path / "whole", *arguments, n=8, bad=bad)
    expected, count = come_to(tmp_path / "whole"), steps.calls
    for stop in (2, 11, 30, count // 2, count - 9, count - 2, count):
        cls = type("Steps", (Steps,), {"calls": 0})
        dies(cls, stop, Run(study_of(cls, *arguments, n=8, bad=bad), out=tmp_path / str(stop)))
        outcome = go_on(cls, tmp_path / str(stop))
        assert come_to(outcome.folder) == expected, stop
        assert cls.calls == count + 1, "the one that was in flight"


def come_to(folder):
    """What a run has come to, besides what was lost in flight."""
    history = History(folder)
    columns = {n: v.tolist() for n, v in history.iterations().items() if n not in ("seconds", "evaluations")}
    search = {**history.facts()["search"], "spent": None, "lost_in_flight": None}
    return json.dumps([search, columns, history.candidates(), sorted(candidate_means(history).items())])


# -- stopped before the final choice, and failures ---------------------------------------------


class StopsAt(QuietDisplay):
    def __init__(self, iteration):
        self.last, self.task = iteration, None

    def iteration(self, record):
        if record.iteration == self.last:
            self.task.cancel()


def test_a_search_that_was_stopped_says_what_is_best_so_far_and_no_misfit(tmp_path, steps):
    display = StopsAt(6)
    study = study_of(steps, {"kind": "random"}, 50, FEW, n=16, bad=[[9, 0]])
    started = Run(study, out=tmp_path / "run", display=display)

    async def main():
        display.task = asyncio.ensure_future(started.execute())
        with pytest.raises(asyncio.CancelledError):
            await display.task

    wait(main())
    summary = started.outcome.summary
    assert (summary["status"], summary["iterations"]) == ("interrupted", 6)
    means = candidate_means(started.outcome.history)
    best = max(means, key=lambda number: means[number][1])
    assert summary["search"]["best"]["candidate"] == best
    lines = dict(closing_table(summary))
    assert lines["best so far"] == f"candidate {best}; the final choice is made at the end of the run"
    assert lines["mean reward in the search"] == f"{means[best][1]:.4g} on 12 of 12 samples"
    assert "misfit" not in str(lines)
    assert lines["spent"].split()[0] == str(sum(row.ended for row in started.outcome.history.evaluations()))


def test_all_failures_are_counted_and_the_first_ones_told(tmp_path, steps):
    bad = [[k, item] for k in range(1, 9) for item in range(12)]
    outcome = run(steps, tmp_path / "run", {"kind": "random", "candidates": 4}, 4, n=10, bad=bad)
    failed = sum(row.status == "failed" for row in outcome.history.evaluations())
    assert failed > 10
    assert outcome.summary["search"]["failed"] == failed
    assert dict(closing_table(outcome.summary))["failed"] == f"{failed} evaluations"
    told = [event["text"] for event in outcome.history.events() if event["kind"] == "failure"]
    assert len(told) == 6
    assert told[-1].startswith(f"{failed} evaluations have failed in all")
