"""A search is a run as any other: the same bits after a break, within its budget, and it pays for nothing twice."""

import asyncio
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.runs.searching import valley
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError, StudyError, ThalwegError
from thalweg.graph import wait
from thalweg.runs import History, Run, Study, paired
from thalweg.runs.checking import print_checks
from thalweg.runs.compare import Comparison, print_comparison
from thalweg.runs.report import write_report
from thalweg.runs.summary import search_lines
from thalweg.search import SampleReward, Spent
from thalweg.search.random_search import RandomSearch


@pytest.fixture
def document():
    return {
        "title": "a valley",
        "problem": {"kind": "valley"},
        "optimizer": {"kind": "random", "candidates": 2, "finalists": 3},
        "blocks": [{"iterations": 6}],
        "output": {"checkpoint_every": 1, "keep": 50, "figures": False},
    }


def run(document, cls, out, *overrides):
    study = Study.from_document(document, kinds={"valley": cls}, overrides=overrides)
    return wait(Run(study, out=out).execute())


def stopped(document, cls, out, made=None):
    made = made or Run(Study.from_document(document, kinds={"valley": cls}), out=out)

    async def cancelled():
        cls.task = asyncio.ensure_future(made.execute())
        with pytest.raises(asyncio.CancelledError):
            await cls.task

    wait(cancelled())


def fingerprint(folder):
    """What a search has come to: choice, history without times, and what each candidate was worth."""
    history = History(folder)
    costs = ("seconds", "evaluations")  # what was lost in flight is charged
    columns = {name: values.tolist() for name, values in history.iterations().items() if name not in costs}
    rewards = sorted({(row.key, row.item, row.reward) for row in history.evaluations() if row.status == "done"})
    search = {**history.facts()["search"], "lost_in_flight": 0, "spent": None}
    candidates = [(c["number"], c["values"], c["origin"]) for c in history.candidates()]
    return json.dumps([search, columns, rewards, candidates])


KINDS = ["random", "tpe", "cma_es", "cobyqa", "evolution", "halving", "auto"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [None, 2])
def test_killed_in_any_evaluation_it_goes_on_to_the_same_result_and_repeats_none(tmp_path, document, kind, batch):
    document["optimizer"]["kind"] = kind
    if kind == "cobyqa":
        document["optimizer"]["candidates"] = 1
    if batch is not None:
        document["blocks"] = [{"iterations": 6, "selection": "random", "batch_size": batch}]
    whole = valley()
    run(document, whole, tmp_path / "whole")
    expected, count = fingerprint(tmp_path / "whole"), len(whole.calls)
    assert len(set(whole.calls)) == count
    generator = np.random.default_rng(1)
    for stop in sorted({1, count, *generator.integers(2, count, 3).tolist()}):
        cls = valley()
        cls.stop_at = stop
        out = tmp_path / str(stop)
        stopped(document, cls, out)
        cls.stop_at = None
        wait(Run.resume(out, kinds={"valley": cls}).execute())
        assert fingerprint(out) == expected, stop
        assert len(cls.calls) == count + 1, "only what was in flight is made again"
        assert len(set(cls.calls)) == count


def test_a_checkpoint_of_any_iteration_leads_to_the_same_result(tmp_path, document):
    document["optimizer"]["kind"] = "tpe"
    run(document, valley(), tmp_path / "whole")
    expected = fingerprint(tmp_path / "whole")
    generations = sorted((tmp_path / "whole" / "checkpoints").iterdir())
    for count in range(1, len(generations)):
        out = tmp_path / str(count)
        shutil.copytree(tmp_path / "whole", out)
        for generation in generations[count:]:
            shutil.rmtree(out / "checkpoints" / generation.name)
        cls = valley()
        wait(Run.resume(out, kinds={"valley": cls}).execute())
        assert cls.calls == [], "everything was known"
        assert fingerprint(out) == expected, count


def test_the_order_in_which_evaluations_end_changes_nothing(tmp_path, document):
    document["optimizer"] |= {"kind": "tpe", "candidates": 4}
    alone = valley()
    run(document, alone, tmp_path / "alone")
    assert alone.most_flying == 1
    for seed in (1, 2):
        many = valley()
        many.at_once = 8
        many.delays = np.random.default_rng(seed)
        run(document, many, tmp_path / str(seed))
        assert 4 < many.most_flying <= 8
        assert fingerprint(tmp_path / str(seed)) == fingerprint(tmp_path / "alone")


def test_the_budget_of_evaluations_is_kept_and_its_end_is_said(tmp_path, document):
    cls = valley()
    document["budget"] = {"evaluations": 80}  # of which up to 36 are for the final choice
    outcome = run(document, cls, tmp_path / "run")
    spent = outcome.summary["search"]["spent"]["evaluations"]
    assert len(cls.calls) == spent <= 80
    assert "budget of 80 evaluations" in outcome.summary["stopped"]
    assert "held_out" in outcome.summary["search"]["winner"], "the final choice was paid for"
    more = wait(Run.resume(tmp_path / "run", kinds={"valley": cls}, overrides=["budget.evaluations=200"]).execute())
    assert "stopped" not in more.summary
    assert more.summary["iterations"] == 6


@pytest.mark.parametrize("limit", [500, 777, 2000])
def test_the_budget_of_tokens_is_never_passed_whatever_the_answers_cost(tmp_path, document, limit):
    cls = valley()
    document["problem"] |= {"tokens": 7, "bound": 11}
    document["budget"] = {"tokens": limit}
    document["optimizer"]["candidates"] = 3
    outcome = run(document, cls, tmp_path / "run")
    assert 7 * len(cls.calls) == outcome.summary["search"]["spent"]["tokens"] <= limit
    if "stopped" in outcome.summary:
        assert "tokens" in outcome.summary["stopped"]
        assert limit - 7 * len(cls.calls) < 11 * 6 * 7, "it stops when it must, not long before"


def test_what_was_in_flight_when_a_run_died_is_charged_and_counted(tmp_path, document):
    cls = valley()
    cls.stop_at = 9
    document["problem"] |= {"tokens": 7, "bound": 11}
    document["budget"] = {"tokens": 100_000}
    stopped(document, cls, tmp_path / "run")
    cls.stop_at = None
    outcome = wait(Run.resume(tmp_path / "run", kinds={"valley": cls}).execute())
    search = outcome.summary["search"]
    assert search["lost_in_flight"] == 1
    assert search["spent"]["tokens"] == 7 * (len(cls.calls) - 1) + 11
    assert search["spent"]["evaluations"] == len(cls.calls)


def test_a_budget_that_ends_within_the_last_iteration_is_said(tmp_path, document):
    document["blocks"] = [{"iterations": 2}]
    document["budget"] = {"evaluations": 36 + 12 + 6 + 3}
    outcome = run(document, valley(), tmp_path / "run")
    assert outcome.summary["iterations"] == 2
    assert "budget of 57 evaluations" in outcome.summary["search"]["stopped"]


@pytest.mark.parametrize("iterations", [2, 4])
def test_a_run_that_dies_in_its_final_choice_says_afterwards_why_it_stopped(tmp_path, document, iterations):
    document["blocks"] = [{"iterations": iterations}]
    document["budget"] = {"evaluations": 36 + 12 + 6 + 3}
    whole = run(document, valley(), tmp_path / "whole").summary
    cls = valley()
    cls.stop_at = 21 + 4
    stopped(document, cls, tmp_path / "run")
    assert not History(tmp_path / "run").facts().get("search")
    cls.stop_at = None
    again = wait(Run.resume(tmp_path / "run", kinds={"valley": cls}).execute()).summary
    assert again["stopped"] == again["search"]["stopped"] == whole["stopped"] == whole["search"]["stopped"]
    assert "budget of 57 evaluations: 21 are spent" in again["stopped"]
    cls.stop_at = len(cls.calls) + 1
    made = Run.resume(
        tmp_path / "run",
        kinds={"valley": cls},
        overrides=["budget.evaluations=500", f"blocks.0.iterations={iterations + 1}"],
    )
    stopped(document, cls, tmp_path / "run", made)
    assert "The final choice is made when the run ends." in write_report(tmp_path / "run").read_text(), (
        "not that of before"
    )
    cls.stop_at = None
    more = wait(Run.resume(tmp_path / "run", kinds={"valley": cls}).execute()).summary
    assert "stopped" not in more
    assert more["search"]["stopped"] is None


def test_the_interval_of_a_difference_is_that_of_all_resamples_at_once(monkeypatch):
    generator = np.random.default_rng(5)
    one, other = ({i: float(r) for i, r in enumerate(generator.normal(size=40))} for _ in range(2))
    whole = paired.paired_difference(one, other, 0)
    monkeypatch.setattr(paired, "_AT_ONCE", 4000)
    assert paired.paired_difference(one, other, 0) == whole
    differences = np.array([one[i] - other[i] for i in range(40)])
    half = 1.96 * differences.std() / 40**0.5
    assert whole["mean"] == pytest.approx(differences.mean())
    assert [whole["low"], whole["high"]] == pytest.approx([whole["mean"] - half, whole["mean"] + half], abs=0.1 * half)


def test_one_test_sample_gives_means_and_no_interval(tmp_path, document):
    document["problem"]["test"] = 1
    outcome = run(document, valley(), tmp_path / "run")
    search = outcome.summary["search"]
    gain = search["winner"]["test"]["mean"] - search["start"]["test"]["mean"]
    assert search["difference"] == {"mean": pytest.approx(gain), "samples": 1}
    said = f"by {gain:.4g} (1 test sample); no interval: one difference says nothing of luck"
    assert dict(search_lines(search))["better than the start"] == said
    assert said.replace("'", "&#x27;") in write_report(outcome.folder).read_text()


def test_what_an_iteration_that_was_cut_short_has_used_is_charged_once(tmp_path, document):
    """The budget ends within an iteration, and the checkpoint that follows is of the one before."""
    document["output"]["checkpoint_every"] = 100
    document["budget"] = {"evaluations": 36 + 12 + 3}
    cls = valley()
    first = run(document, cls, tmp_path / "run")
    assert first.summary["iterations"] == 1
    assert first.summary["search"]["spent"]["evaluations"] == len(cls.calls) == 12 + 3 + 24
    assert "15 are spent, up to 36 are kept back" in first.summary["stopped"]
    more = wait(Run.resume(tmp_path / "run", kinds={"valley": cls}, overrides=["budget.evaluations=300"]).execute())
    assert more.summary["search"]["spent"]["evaluations"] == len(cls.calls) == len(set(cls.calls))


@pytest.mark.parametrize("stop", [5, 9, 16, 21])
def test_a_run_that_is_stopped_between_two_waves_of_evaluations_charges_the_first_once(tmp_path, document, stop):
    document["output"]["checkpoint_every"] = 100
    document["problem"] |= {"tokens": 7, "bound": 50}
    document["budget"] = {"tokens": 50 * 36 + 400}  # waves of a few evaluations
    cls = valley()
    cls.stop_at = stop
    stopped(document, cls, tmp_path / "run")
    cls.stop_at = None
    search = wait(Run.resume(tmp_path / "run", kinds={"valley": cls}).execute()).summary["search"]
    assert search["lost_in_flight"] == 1
    assert search["spent"] == {"evaluations": len(cls.calls), "tokens": 7 * (len(cls.calls) - 1) + 50, "money": 0.0}


def test_what_several_deaths_have_lost_is_charged_once_and_counted(tmp_path, document):
    document["problem"] |= {"tokens": 7, "bound": 11}
    document["output"]["checkpoint_every"] = 3
    cls = valley()
    cls.stop_at = 9
    stopped(document, cls, tmp_path / "run")
    for calls in (2, 30):
        cls.stop_at = len(cls.calls) + calls

        async def again():
            cls.task = asyncio.ensure_future(Run.resume(tmp_path / "run", kinds={"valley": cls}).execute())
            with pytest.raises(asyncio.CancelledError):
                await cls.task

        wait(again())
    cls.stop_at = None
    search = wait(Run.resume(tmp_path / "run", kinds={"valley": cls}).execute()).summary["search"]
    assert search["lost_in_flight"] == 3
    assert search["spent"] == {"evaluations": len(cls.calls), "tokens": 7 * (len(cls.calls) - 3) + 33, "money": 0.0}


def of_different_prices(price):
    """Prices that depend on candidate and sample; the answers cost one token each."""

    def most(self, values, item):
        return Spent(tokens=price(values["point"]["x"], item))

    return type("Priced", (valley(),), {"most": most, "calls": []})


def test_what_is_kept_back_for_the_final_choice_survives_a_break(tmp_path, document):
    """The dearest candidate was that of the first iteration, and the checkpoint is of a later one."""
    document["problem"]["tokens"] = 1
    document["blocks"] = [{"iterations": 20}]
    run(document, valley(), tmp_path / "free")
    dear = History(tmp_path / "free").candidates()[1]["values"]["point"]["x"]
    document["budget"] = {"tokens": 6 * (10 + 100 + 10 + 10) + 6 * (10 + 100) + 150}

    def price(x, item):
        return 100 if x == dear else 10

    whole = of_different_prices(price)
    expected = run(document, whole, tmp_path / "whole").summary
    assert "kept back" in expected["stopped"]
    assert 3 < expected["iterations"] < 20
    cls = of_different_prices(price)
    cls.stop_at = 40
    stopped(document, cls, tmp_path / "run")
    cls.stop_at = None
    outcome = wait(Run.resume(tmp_path / "run", kinds={"valley": cls}).execute())
    assert outcome.summary["iterations"] in (expected["iterations"], expected["iterations"] - 1)  # one call was lost


def test_the_final_choice_is_paid_for_even_if_its_samples_are_dearer(tmp_path, document):
    document["problem"]["tokens"] = 20
    document["budget"] = {"tokens": 850}
    document["blocks"] = [{"iterations": 20}]
    cls = of_different_prices(lambda x, item: 20 if item >= 6 else 1)
    cls.reward = cheap_in_the_search(cls.reward)
    summary = run(document, cls, tmp_path / "run").summary
    assert "kept back" in summary["stopped"]
    assert len(summary["search"]["finalists"]) == 4
    assert {"held_out", "test"} <= summary["search"]["winner"].keys()
    assert summary["search"]["spent"]["tokens"] <= 850


def cheap_in_the_search(reward):
    async def cheaper(self, values, item, runtime):
        found = await reward(self, values, item, runtime)
        return replace(found, tokens=20 if item >= 6 else 1)

    return cheaper


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_run_that_is_stopped_keeps_the_results_of_what_is_in_flight(tmp_path, document, at_once):
    whole = valley()
    run(document, whole, tmp_path / "whole")
    cls = valley()
    cls.stop_at, cls.patient, cls.at_once = 8, True, at_once
    stopped(document, cls, tmp_path / "run")
    assert len(cls.calls) == 8 if at_once == 1 else 8 <= len(cls.calls) <= 12, "no other wave began"
    assert {row.status for row in History(tmp_path / "run").evaluations()} == {"done"}
    cls.stop_at = None
    outcome = wait(Run.resume(tmp_path / "run", kinds={"valley": cls}).execute())
    assert outcome.summary["search"]["lost_in_flight"] == 0
    assert len(cls.calls) == len(set(cls.calls)) == len(whole.calls)
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize(("samples", "batch"), [(1, None), (2, None), (6, 1), (6, 2)])
def test_a_candidate_that_rises_to_samples_it_has_seen_is_told_again(tmp_path, document, samples, batch):
    """With few samples several rungs of a halving are the same samples."""
    document["problem"]["samples"] = samples
    document["optimizer"]["kind"] = "halving"
    document["blocks"] = [{"iterations": 20}]
    if batch is not None:
        document["blocks"] = [{"iterations": 20, "selection": "random", "batch_size": batch}]
    cls = valley()
    outcome = run(document, cls, tmp_path / "run")
    assert outcome.summary["iterations"] == 20
    assert len(set(cls.calls)) == len(cls.calls)


def test_a_failing_candidate_is_isolated_counted_and_never_chosen(tmp_path, document):
    document["problem"]["fails"] = 0.0  # the best ones fail
    document["blocks"] = [{"iterations": 10}]
    outcome = run(document, valley(), tmp_path / "run")
    assert outcome.status == "finished"
    assert outcome.summary["search"]["winner"]["values"]["point"]["x"] <= 0.0
    failed = [row for row in outcome.history.evaluations() if row.status == "failed"]
    assert failed
    assert all("ValueError: x is" in row.error for row in failed)
    assert outcome.history.iterations()["failed"][-1] == len({row.candidate for row in failed})
    events = [event["text"] for event in outcome.history.events() if event["kind"] == "failure"]
    assert len(events) == min(len(failed), 5) + (len(failed) > 5)
    assert "ValueError: x is" in events[0]


def test_nothing_but_failures_is_an_error_that_shows_the_first(tmp_path, document):
    document["problem"]["fails"] = -9.0
    with pytest.raises(RunError, match=r"All 12 evaluations have failed(.|\n)*ValueError: x is"):
        run(document, valley(), tmp_path / "run")


def answering(value):
    async def reward(self, values, item, runtime):
        return value

    return reward


@pytest.mark.parametrize(
    ("reward", "text"),
    [
        (lambda self, values, item, runtime: SampleReward(1.0), "reward is no coroutine function; write `async def"),
        (answering(1.0), "reward returned float instead of a thalweg.search.SampleReward; write `return"),
    ],
)
def test_a_reward_that_is_none_is_told_how_to_be_one(tmp_path, document, reward, text):
    with pytest.raises(RunError, match=rf"All 12 evaluations have failed(.|\n)*{text}"):
        run(document, type("Valley", (valley(),), {"reward": reward}), tmp_path / "run")


def test_held_out_and_test_samples_play_no_part_in_the_search(tmp_path, document):
    cls = valley()
    run(document, cls, tmp_path / "run")
    history = History(tmp_path / "run")
    assert {row.item for row in history.evaluations() if row.stage == "search"} == set(range(6))
    final = [row for row in history.evaluations() if row.stage == "final"]
    assert {row.item for row in final} == set(range(6, 18))
    tested = {row.candidate for row in final if row.item >= 12}
    assert tested == {history.facts()["search"]["winner"]["candidate"], 0}


def test_a_lucky_batch_does_not_win(tmp_path, document):
    """Rewards that are nothing but noise of the sample: who saw the good samples only must not be the best."""
    document["problem"] |= {"noise": 30.0, "samples": 24, "held_out": 0, "test": 0}
    document["optimizer"] |= {"rescore": 2}
    document["blocks"] = [{"iterations": 30, "selection": "random", "batch_size": 2}]
    outcome = run(document, valley(), tmp_path / "run")
    seen = {}
    for row in outcome.history.evaluations():
        seen.setdefault(row.candidate, {})[row.item] = row.reward
    winner = outcome.summary["search"]["winner"]["candidate"]
    assert len(seen[winner]) >= 6
    first = {number: np.mean(list(rewards.values())[:2]) for number, rewards in seen.items()}
    lucky = max(first, key=first.get)  # the one whose first batch was the best
    assert lucky != winner
    assert len(seen[lucky]) > 2, "it was looked at again"


@pytest.mark.parametrize("kind", ["random", "tpe", "evolution"])
def test_seed_zero_is_a_seed(tmp_path, document, kind):
    document["optimizer"]["kind"] = kind
    prints = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        document["seed"] = seed
        run(document, valley(), tmp_path / name)
        prints.append([c["values"] for c in History(tmp_path / name).candidates()])
    assert prints[0] == prints[1]
    assert prints[0][1:] != prints[2][1:]


def test_seconds_end_a_run_of_any_kind(tmp_path, document):
    cls = valley()
    document["budget"] = {"seconds": 1e-9}
    outcome = run(document, cls, tmp_path / "run")
    assert outcome.summary["iterations"] == 0
    assert "seconds" in outcome.summary["stopped"]


def test_more_iterations_go_on_with_all_that_is_known(tmp_path, document):
    cls = valley()
    document["optimizer"]["kind"] = "tpe"
    run(document, cls, tmp_path / "run")
    before = len(cls.calls)
    wait(Run.resume(tmp_path / "run", kinds={"valley": cls}, overrides=["blocks.0.iterations=9"]).execute())
    longer = {**document, "blocks": [{"iterations": 9}]}
    run(longer, whole := valley(), tmp_path / "whole")
    ours, theirs = (History(tmp_path / name).candidates() for name in ("run", "whole"))
    assert [c["values"] for c in ours] == [c["values"] for c in theirs]
    assert before < len(cls.calls) <= len(whole.calls) + 36
    assert len(set(cls.calls)) == len(cls.calls)


def test_changed_settings_of_the_problem_are_evaluated_anew(tmp_path, document):
    cls = valley()
    run(document, cls, tmp_path / "run")
    before = len(cls.calls)
    overrides = ["problem.noise=0.1", "blocks.0.iterations=7"]
    wait(Run.resume(tmp_path / "run", kinds={"valley": cls}, overrides=overrides).execute())
    assert len(cls.calls) >= before + 12


@pytest.mark.parametrize("override", ['optimizer.kind="random"', "optimizer.startup=3", "seed=5"])
def test_a_run_that_cannot_go_on_with_what_is_changed_stays_as_it_was(tmp_path, document, override):
    document["optimizer"]["kind"] = "tpe"
    cls = valley()
    run(document, cls, tmp_path / "run")
    files = ("study.toml", "result.json", "summary.json")
    before = [(tmp_path / "run" / name).read_bytes() for name in files]
    with pytest.raises(ThalwegError, match=r"engine .tpe.*engine and options|has options|has seed"):
        wait(
            Run.resume(tmp_path / "run", kinds={"valley": cls}, overrides=[override, "blocks.0.iterations=8"]).execute()
        )
    assert [(tmp_path / "run" / name).read_bytes() for name in files] == before
    more = wait(Run.resume(tmp_path / "run", kinds={"valley": cls}, overrides=["blocks.0.iterations=8"]).execute())
    assert more.summary["iterations"] == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": {"kind": "adam"}}, "adam follows gradients, and a valley problem has rewards"),
        ({"optimizer": {"kind": "random", "candidats": 2}}, "candidates"),
        ({"optimizer": {"kind": "tpe", "startups": 2}}, "startup"),
        ({"optimizer": {"kind": "random", "candidates": 0}}, "candidates"),
        ({"optimizer": {"kind": "tpee"}}, "tpe"),
        ({"budget": {"evaluations": 0}}, "budget.evaluations"),
        ({"budget": {"evaluations": 41}}, "give at least 42"),
        ({"problem": {"kind": "valley", "tokens": 7}, "budget": {"tokens": 258}}, "give more than 259"),
        ({"budget": {"tokns": 3}}, "tokens"),
        ({"blocks": [{"iterations": 2, "optimizer": {"candidates": 3}}]}, "hyperparameters"),
        ({"blocks": [{"iterations": 2, "reset_optimizer": True}]}, "reset_optimizer"),
        ({"on_failed_shot": "reweight"}, "on_failed_shot: a search goes on without"),
        ({"output": {"checkpoint_shots": True}}, "checkpoint_shots: a search keeps"),
    ],
)
def test_a_wrong_study_is_refused_before_anything_is_paid_for(tmp_path, document, change, message):
    cls = valley()
    with pytest.raises(StudyError, match=message):
        run(document | change, cls, tmp_path / "run")
    assert cls.calls == []
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_the_most_that_it_can_cost(document):
    cls = valley()
    document["problem"] |= {"tokens": 7, "bound": 11}
    document["budget"] = {"tokens": 5000}
    study = Study.from_document(document, kinds={"valley": cls})
    plan = dict(wait(Run(study).plan()))
    assert plan["evaluations"] == "at most 108, 36 for the final choice"
    assert plan["tokens"] == "at most 1,188; the budget stops it at 5,000"
    assert cls.calls == []


def test_results_and_report(tmp_path, document):
    document["output"]["figures"] = True
    outcome = run(document, valley(), tmp_path / "run")
    values = json.loads((outcome.folder / "result.json").read_text())
    assert values == outcome.summary["search"]["winner"]["values"]
    assert (outcome.folder / "figures" / "search.png").read_bytes()[:4] == b"\x89PNG"
    text = write_report(outcome.folder).read_text()
    assert "best so far" in text.lower()
    assert "point.x" in text
    assert text.count(">mean reward</text>") == 3, "what the dots mean: best so far, x and y"
    assert "The chosen values" in text


def test_check_says_what_the_start_is_worth_and_what_the_run_may_cost(document):
    cls = valley()
    console = Console(file=io.StringIO(), width=200)
    assert print_checks(Study.from_document(document, kinds={"valley": cls}), console)
    text = console.file.getvalue()
    assert "at most 108, 36 for the final choice" in text
    assert f"{-16.0 - 25.0 + cls(cls.Settings(), 0).noise[0]:.4g}" in text
    assert "expected time" in text
    assert len(cls.calls) == 1
    document["problem"]["fails"] = -9.0
    console = Console(file=io.StringIO(), width=200)
    assert not print_checks(Study.from_document(document, kinds={"valley": valley()}), console)
    assert "ValueError: x is -3.0" in console.file.getvalue()


def test_compare_has_the_rewards(tmp_path, document):
    names = [str(tmp_path / name) for name in "ab"]
    for name, kind in zip(names, ("random", "tpe"), strict=True):
        document["optimizer"]["kind"] = kind
        run(document, valley(), name)
    console = Console(file=io.StringIO(), width=200)
    print_comparison(Comparison.read([Path(name) for name in names]), console)
    text = console.file.getvalue()
    for name in names:
        winner = History(name).facts()["search"]["winner"]
        assert f"{winner['test']['mean']:.4g}" in text
    assert "reward, held out" in text
    assert "against the start" in text
    best = [History(name).iterations()["best"] for name in names]
    (line,) = [line for line in text.splitlines() if line.startswith("best reward, ")]
    assert all(f"{found[0]:.4g} → {found[-1]:.4g}" in line for found in best), "as it is, and not minus it"
    assert "No two of them chose the same values." in text
    console = Console(file=io.StringIO(), width=200)
    print_comparison(Comparison.read([names[0], names[0]]), console)
    assert "All chose the same values: " in console.file.getvalue()


@pytest.mark.parametrize("every", [1, 10])
@pytest.mark.parametrize("wrong", [OSError("the counts are gone"), {"answers": float("nan")}], ids=["raised", "NaN"])
def test_what_fails_after_a_step_does_not_have_it_made_or_paid_for_twice(tmp_path, document, monkeypatch, every, wrong):
    document["output"]["checkpoint_every"] = every
    run(document, whole := valley(), tmp_path / "whole")
    cls, metrics, calls = valley(), RandomSearch.metrics, []

    def fourth(self):
        calls.append(1)
        if len(calls) != 4:
            return metrics(self)
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    with monkeypatch.context() as patch:
        patch.setattr(RandomSearch, "metrics", fourth)
        with pytest.raises((OSError, RunError), match=r"the counts are gone|answers = nan"):
            run(document, cls, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["iterations"] == 4
    assert CheckpointStore(tmp_path / "run" / "checkpoints").meta()["iteration"] == 4
    outcome = wait(Run.resume(tmp_path / "run", kinds={"valley": cls}).execute())
    assert cls.calls == whole.calls
    ours, theirs = History(tmp_path / "run"), History(tmp_path / "whole")
    assert ours.iterations()["misfit"].tolist() == theirs.iterations()["misfit"].tolist()
    assert ours.candidates() == theirs.candidates()
    assert ours.facts()["search"] == theirs.facts()["search"]
    assert outcome.summary["search"]["spent"]["evaluations"] == len(cls.calls)
    assert "unused" not in outcome.summary["search"]
