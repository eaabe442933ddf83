"""What a search has paid for: charged, kept back, used again or not, and told."""

import asyncio
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from pydantic import BaseModel

from tests.runs.searching import SCHEMA, dies, resume, valley
from thalweg.errors import RunError, StudyError
from thalweg.graph import wait
from thalweg.runs import History, RewardProblem, Run, Study
from thalweg.runs.ledger import Job, Ledger
from thalweg.runs.report import write_report
from thalweg.runs.reserve import Needs, Reserve
from thalweg.runs.summary import closing_table, search_lines
from thalweg.search import SampleReward, Spent, StructuredVariable

EACH = 12  # evaluations of an iteration: two candidates on six samples


@pytest.fixture
def document():
    return {
        "title": "a valley",
        "problem": {"kind": "valley", "tokens": 7, "bound": 11},
        "optimizer": {"kind": "random", "candidates": 2, "finalists": 3},
        "blocks": [{"iterations": 6}],
        "budget": {"tokens": 100_000},
        "output": {"checkpoint_every": 1, "keep": 50, "figures": False},
    }


def run(document, cls, out, *overrides):
    study = Study.from_document(document, kinds={"valley": cls}, overrides=overrides)
    return wait(Run(study, out=out).execute())


def cost(evaluations, lost=0):
    return {"evaluations": evaluations, "tokens": 7 * (evaluations - lost) + 11 * lost, "money": 0.0}


# -- what is not asked for any more ----------------------------------------------------------


@pytest.mark.parametrize("stop", [5, 17, 44])
def test_what_a_changed_study_does_not_ask_for_any_more_is_charged_and_shown_apart(tmp_path, document, stop):
    cls = valley()
    dies(cls, stop, Run(Study.from_document(document, kinds={"valley": cls}), out=tmp_path / "run"))
    outcome = wait(resume(cls, tmp_path / "run", "problem.noise=0.1").execute())
    search = outcome.summary["search"]
    assert search["unused"] == cost((stop - 1) % EACH)
    assert search["spent"] == cost(len(cls.calls), lost=1)
    assert dict(search_lines(search))["of it not used"].startswith(f"{(stop - 1) % EACH} evaluations")
    assert "were paid for and not used" in write_report(outcome.folder).read_text()


def test_it_stays_charged_however_often_the_run_dies_and_goes_on(tmp_path, document):
    document["output"]["checkpoint_every"] = 3
    cls = valley()
    dies(cls, 17, Run(Study.from_document(document, kinds={"valley": cls}), out=tmp_path / "run"))
    dies(cls, len(cls.calls) + 2, resume(cls, tmp_path / "run", "problem.noise=0.1"))
    dies(cls, len(cls.calls) + 2 * EACH, resume(cls, tmp_path / "run"))
    search = wait(resume(cls, tmp_path / "run").execute()).summary["search"]
    assert search["unused"] == cost(4)
    assert search["spent"] == cost(len(cls.calls), lost=3)
    more = wait(resume(cls, tmp_path / "run", "blocks.0.iterations=8").execute()).summary["search"]
    assert more["unused"] == cost(4)
    assert more["spent"] == cost(len(cls.calls), lost=3)


@pytest.mark.parametrize("known_better", [False, True])
def test_a_problem_says_which_of_its_settings_decide_a_reward(tmp_path, document, known_better):
    cls = valley()
    if known_better:
        cls.decisive = lambda self, table: {name: value for name, value in table.items() if name != "bound"}
    dies(cls, 17, Run(Study.from_document(document, kinds={"valley": cls}), out=tmp_path / "run"))
    search = wait(resume(cls, tmp_path / "run", "problem.bound=12").execute()).summary["search"]
    assert ("unused" in search) != known_better


def test_a_run_that_is_not_changed_uses_everything(tmp_path, document):
    cls = valley()
    dies(cls, 17, Run(Study.from_document(document, kinds={"valley": cls}), out=tmp_path / "run"))
    assert "unused" not in wait(resume(cls, tmp_path / "run").execute()).summary["search"]


def test_results_that_a_run_ends_before_are_charged_until_they_are_used(tmp_path, document):
    cls = valley()
    dies(cls, 2 * EACH + 5, Run(Study.from_document(document, kinds={"valley": cls}), out=tmp_path / "run"))
    search = wait(resume(cls, tmp_path / "run", "budget.seconds=1e-9").execute()).summary["search"]
    assert search["unused"] == cost(4)
    assert search["spent"] == cost(len(cls.calls), lost=1)
    more = wait(resume(cls, tmp_path / "run", "budget.seconds=1e9").execute()).summary["search"]
    assert "unused" not in more
    assert more["spent"] == cost(len(cls.calls), lost=1)


def test_a_search_that_could_score_no_candidate_says_what_it_has_spent(tmp_path, document):
    """Killed in the first round, it goes on with a budget that pays for half a candidate more."""
    cls = valley()
    dies(cls, 3, Run(Study.from_document(document, kinds={"valley": cls}), out=tmp_path / "run"))
    outcome = wait(resume(cls, tmp_path / "run", "problem.noise=0.1", "budget.evaluations=42").execute())
    search = outcome.summary["search"]
    assert "winner" not in search
    assert search["spent"] == cost(6, lost=1)
    assert search["unused"] == cost(2)
    assert search["lost_in_flight"] == 1
    assert "budget of 42 evaluations" in search["stopped"]
    assert History(outcome.folder).facts()["search"] == search
    assert dict(closing_table(outcome.summary))["chosen"] == "nothing: no candidate was scored"
    assert "Nothing was chosen: no candidate was scored." in write_report(outcome.folder).read_text()


@pytest.mark.parametrize("limit", [700, 1000])
def test_the_limit_holds_with_what_is_not_used(tmp_path, document, limit):
    document["budget"] = {"tokens": limit}
    cls = valley()
    dies(cls, EACH + 9, Run(Study.from_document(document, kinds={"valley": cls}), out=tmp_path / "run"))
    outcome = wait(resume(cls, tmp_path / "run", "problem.noise=0.1", "blocks.0.iterations=50").execute())
    search = outcome.summary["search"]
    assert search["unused"] == cost(8)
    assert search["spent"] == cost(len(cls.calls), lost=1)
    assert limit - 11 * 6 * 7 < search["spent"]["tokens"] <= limit
    assert {"held_out", "test"} <= search["winner"].keys(), "the final choice was paid for"
    assert "tokens" in outcome.summary["stopped"]
    page = write_report(outcome.folder).read_text()
    assert page.count("Stopped by the budget of") == 1, "in words, and in no box for figures"
    assert [name for name, _ in closing_table(outcome.summary)].count("stopped by") == 1
    assert "stopped" not in dict(closing_table(outcome.summary))


def test_what_is_known_needs_nothing_more_of_the_budget(tmp_path, document):
    """Killed within a wave, most of which has results: these are used though their bounds would not fit any more."""
    document["problem"]["bound"] = 60
    document["budget"] = {"tokens": 60 * 36 + 84 + 12 * 60}
    whole = valley()
    expected = run(document, whole, tmp_path / "whole").summary
    cls = valley()
    dies(cls, 2 * EACH, Run(Study.from_document(document, kinds={"valley": cls}), out=tmp_path / "run"))
    search = wait(resume(cls, tmp_path / "run").execute()).summary["search"]
    assert expected["search"]["spent"]["tokens"] <= document["budget"]["tokens"]
    assert "unused" not in search
    assert search["spent"]["tokens"] == 7 * (len(cls.calls) - 1) + 60


def test_a_result_that_another_iteration_comes_to_is_charged_once():
    """Made in iteration 5 of a run that died, and used in iteration 3 of the changed one, which dies after that."""
    rows = {}
    history = SimpleNamespace(evaluation=lambda row, soon=False: rows.__setitem__(row.id, row))
    job = Job(7, "key", {}, 2)
    before = Ledger(history)
    before.end(replace(before.begin(job, 5, "search", Spent(1, 9)), status="done", reward=0.5, tokens=4))
    changed = Ledger(history, list(rows.values()), iteration=2)
    assert (changed.spent, changed.paid) == (Spent(), Spent(1, 4))
    again = Ledger(history, list(rows.values()), iteration=2)  # killed before it was used
    assert again.use(job, 3).reward == 0.5
    again.commit(3)
    after = Ledger(history, list(rows.values()), state=again.state(), iteration=3)
    after.commit(5)
    assert (after.spent, after.paid, after.unused) == (Spent(1, 4), Spent(1, 4), Spent())


# -- what a run had spent by an iteration ----------------------------------------------------


def spent_by(folder):
    """What the rows of the iterations say, in evaluations and in tokens."""
    found = History(folder).iterations()
    return found["evaluations"].tolist(), found["tokens"].tolist()


def only_the_first(folder, count):
    """As a kill leaves it that came before the later checkpoints."""
    for generation in sorted((folder / "checkpoints").iterdir())[count:]:
        shutil.rmtree(generation)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_what_was_lost_in_an_iteration_is_not_what_those_before_it_have_cost(tmp_path, document, count):
    whole = valley()
    run(document, whole, tmp_path / "whole")
    expected = spent_by(tmp_path / "whole")
    assert expected[0] == [EACH * iteration for iteration in range(1, 7)]
    cls = valley()
    dies(cls, 2 * EACH + 5, Run(Study.from_document(document, kinds={"valley": cls}), out=tmp_path / "run"))
    only_the_first(tmp_path / "run", count)
    dies(cls, len(cls.calls) + 2 * EACH + 3, resume(cls, tmp_path / "run"))  # lost in iterations 3 and 5
    only_the_first(tmp_path / "run", count)
    search = wait(resume(cls, tmp_path / "run").execute()).summary["search"]
    lost = [sum(iteration >= at for at in (3, 5)) for iteration in range(1, 7)]
    evaluations, tokens = spent_by(tmp_path / "run")
    assert evaluations == [used + more for used, more in zip(expected[0], lost, strict=True)]
    assert tokens == [used + 11 * more for used, more in zip(expected[1], lost, strict=True)]
    assert search["lost_in_flight"] == 2
    assert search["spent"] == cost(len(cls.calls), lost=2)


def test_a_final_choice_is_no_part_of_what_the_iterations_before_it_have_cost(tmp_path, document):
    run(document, valley(), tmp_path / "run")
    expected = spent_by(tmp_path / "run")
    cls = valley()
    wait(Run.resume(tmp_path / "run", kinds={"valley": cls}, iteration=2).execute())
    assert cls.calls == []
    assert spent_by(tmp_path / "run") == expected
    more = wait(resume(cls, tmp_path / "run", "blocks.0.iterations=8").execute()).summary["search"]
    evaluations, _ = spent_by(tmp_path / "run")
    assert evaluations[:6] == expected[0]
    final = sum(row.stage == "final" and row.iteration == 6 for row in History(tmp_path / "run").evaluations())
    assert evaluations[6:] == [expected[0][-1] + final + EACH, expected[0][-1] + final + 2 * EACH]
    assert more["spent"]["evaluations"] == evaluations[-1] + len(cls.calls) - 2 * EACH


@pytest.mark.parametrize("old", [False, True])
def test_a_checkpoint_between_goes_on_with_what_was_spent_by_then(old):
    """Lost in iteration 5 of a run that died; the one that goes on from iteration 1 dies in 3. Checkpoints of before
    have the sum only."""
    rows = {}
    history = SimpleNamespace(evaluation=lambda row, soon=False: rows.__setitem__(row.id, row))
    first = Ledger(history)
    jobs = [Job(number, f"key {number}", {}, 0) for number in range(6)]
    for number in range(1, 5):
        row = first.begin(jobs[number], number, "search", Spent(1, 9, 0.1))
        first.end(replace(row, status="done", reward=0.5, tokens=4, money=0.1))
    first.begin(jobs[5], 5, "search", Spent(1, 9, 0.7))
    ledger = Ledger(history, list(rows.values()), iteration=0)
    shown = [ledger.spent_by_now]
    for number in range(1, 5):
        ledger.use(jobs[number], number)
        ledger.commit(number)
        state = ledger.state()
        shown.append(ledger.spent_by_now)
        assert ledger.spent.evaluations == number + 1
        if old:
            del state["by_now"]
        ledger = Ledger(history, list(rows.values()), state=state, iteration=number)
    assert [one.evaluations for one in shown] == [0, 1, 2, 3, 4]
    assert [one.tokens for one in shown] == [0, 4, 8, 12, 16]
    assert [one.money for one in shown] == pytest.approx([0.0, 0.1, 0.2, 0.1 + 0.1 + 0.1, 0.4], rel=1e-12 if old else 0)
    ledger.commit(5)
    assert ledger.spent_by_now.evaluations == ledger.spent.evaluations == 5
    assert ("by_now" in ledger.state()) == (ledger.spent_by_now != ledger.spent)


# -- nothing but failures --------------------------------------------------------------------


def test_a_run_that_was_given_up_over_its_failures_tries_again_when_it_goes_on(tmp_path, document):
    cls = valley()
    cls.down = True

    async def reward(self, values, item, runtime):
        if type(self).down:
            cls.calls.append(("failed", values["point"]["x"], item))
            raise OSError("the server is down")
        return await super(cls, self).reward(values, item, runtime)

    cls.reward = reward
    for _ in range(2):
        made = resume(cls, tmp_path / "run") if (tmp_path / "run").exists() else None
        made = made or Run(Study.from_document(document, kinds={"valley": cls}), out=tmp_path / "run")
        with pytest.raises(RunError, match="the server is down"):
            wait(made.execute())
    assert len(cls.calls) == 2 * EACH
    cls.down = False
    outcome = wait(resume(cls, tmp_path / "run").execute())
    search = outcome.summary["search"]
    assert outcome.status == "finished"
    assert outcome.history.iterations()["failed"][-1] == 0
    assert search["unused"] == {"evaluations": 2 * EACH, "tokens": 2 * EACH * 11, "money": 0.0}, "nobody knows better"
    assert search["spent"]["evaluations"] == len(cls.calls)
    assert write_report(outcome.folder).exists()


@pytest.mark.parametrize("overrides", [["problem.fails=-9.0"], ["problem.fails=-9.0", "problem.noise=0.1"]])
def test_rewards_of_other_settings_do_not_hide_that_everything_fails_now(tmp_path, document, overrides):
    cls = valley()
    run(document, cls, tmp_path / "run")
    before = len(cls.calls)
    with pytest.raises(RunError, match=r"All 12 evaluations have failed, so there is nothing to search with"):
        wait(resume(cls, tmp_path / "run", "blocks.0.iterations=8", *overrides).execute())
    assert len(cls.calls) == before + EACH


def test_one_iteration_of_failures_ends_nothing_if_there_are_rewards(tmp_path, document):
    cls = valley()
    run(document, cls, tmp_path / "run")
    base = cls.reward

    async def reward(self, values, item, runtime):
        await base(self, values, item, runtime)
        raise OSError("the server is down")

    cls.reward = reward
    outcome = wait(resume(cls, tmp_path / "run", "blocks.0.iterations=8").execute())
    assert outcome.history.iterations()["failed"][-1] == 4


# -- what is kept back -----------------------------------------------------------------------


def of_prices(price):
    """Evaluations that cost all that they may."""
    base = valley()

    async def reward(self, values, item, runtime):
        found = await base.reward(self, values, item, runtime)
        return SampleReward(found.reward, tokens=price(values["point"]["x"]))

    return type("Priced", (base,), {"most": lambda self, v, i: Spent(tokens=price(v["point"]["x"])), "reward": reward})


def test_as_much_is_kept_back_as_the_start_and_the_dearest_candidates_can_need(tmp_path, document):
    """Everything costs its bound, the start little: no less would do, and the search gets all the rest."""
    cls = of_prices(lambda x: 1 if x == -3.0 else 10)
    needed = 6 * (1 + 3 * 10) + 6 * (1 + 10)
    document["budget"] = {"tokens": needed + 6 + 3 * 60}
    document["optimizer"]["finalists"] = 3
    summary = run(document, cls, tmp_path / "run").summary
    assert len(summary["search"]["finalists"]) == 4
    assert {"held_out", "test"} <= summary["search"]["winner"].keys()
    assert summary["search"]["spent"]["tokens"] == document["budget"]["tokens"]
    assert f"{needed} are kept back" in summary["stopped"]


@pytest.mark.parametrize(("repeated", "whole"), [((), True), ((17,), True), ((7,), True), (tuple(range(6, 18)), False)])
def test_one_repetition_in_the_final_choice_is_paid_for_and_others_live_on_what_is_left(
    tmp_path, document, repeated, whole
):
    """The worst case: an evaluation costs 10, all that it may, and 20 where something had to be repeated."""

    async def reward(self, values, item, runtime):
        found = await valley().reward(self, values, item, runtime)
        return SampleReward(found.reward, tokens=20 if item in repeated and values["point"]["x"] == -3.0 else 10)

    each = {"once": lambda self, v, i: Spent(tokens=10), "most": lambda self, v, i: Spent(tokens=20)}
    cls = type("Repeating", (valley(),), {**each, "reward": reward})
    document["budget"] = {"tokens": 10 * (4 * 6 + 2 * 6) + 10 + 10 * 4 * 6}
    summary = run(document, cls, tmp_path / "run").summary
    search = summary["search"]
    assert search["spent"]["tokens"] <= document["budget"]["tokens"]
    assert {"held_out", "test"} <= search["winner"].keys() or not whole
    assert ("difference" in search) == whole
    warnings = [event["text"] for event in History(tmp_path / "run").events() if event["kind"] == "warning"]
    assert any("the final choice is incomplete" in text for text in warnings) != whole


def test_a_reserve_takes_the_largest():
    reserve = Reserve(2)
    assert reserve.kept == Spent()
    reserve.take(Needs(Spent(tokens=5, money=0.5), Spent(tokens=1, money=0.25)), start=True)
    assert reserve.kept == Spent(tokens=6, money=0.75)
    for tokens, money in ((10, 3.0), (30, 1.0), (20, 2.0), (1, 0.0)):
        reserve.take(Needs(Spent(tokens=tokens, money=money), Spent(tokens=2 * tokens, money=money)))
    assert reserve.kept == Spent(tokens=6 + 30 + 20 + 60, money=0.75 + 3.0 + 2.0 + 3.0)


def test_a_dry_run_says_what_is_kept_back_and_that_what_is_in_flight_counts(document):
    document["budget"] = {"tokens": 5000}
    cls = of_prices(lambda x: 1 if x == -3.0 else 10)
    cls.dearest = lambda self: {"point": {"x": 0.0, "y": 0.0}}
    plan = dict(wait(Run(Study.from_document(document, kinds={"valley": cls})).plan()))
    assert plan["kept back"] == f"up to {6 * 31 + 6 * 11} tokens (5.04 % of the budget) for the final choice"
    assert plan["tokens"].startswith(f"at most {10 * (6 * EACH + 36):,}"), "of the dearest candidate, not of the start"
    assert "when the run dies counts in full" in plan["in flight"]
    assert cls.calls == []


# -- everybody gets a turn -------------------------------------------------------------------


class Quick(RewardProblem):
    """Rewards that never wait."""

    kind = "quick"
    items, at_once, made = 600, 1, 0

    class Settings(BaseModel, extra="forbid"):
        pass

    class BlockSettings(BaseModel, extra="forbid"):
        pass

    def __init__(self):
        self.variables = (StructuredVariable({"x": 0.0, "y": 0.0}, SCHEMA, name="point"),)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls()

    def concurrency(self, runtime):
        return self.at_once

    async def reward(self, values, item, runtime):
        type(self).made += 1
        return SampleReward(values["point"]["x"])


@pytest.mark.parametrize("at_once", [1, 8])
def test_rewards_that_never_wait_let_others_run_between_them(tmp_path, at_once):
    cls = type("Quick", (Quick,), {"at_once": at_once, "made": 0})
    study = Study.from_document(
        {
            "title": "quick",
            "problem": {"kind": "quick"},
            "optimizer": {"kind": "random", "candidates": 2},
            "blocks": [{"iterations": 2}],
            "output": {"figures": False},
        },
        kinds={"quick": cls},
    )
    between = [0]

    async def watch():
        """How many rewards were made between two turns of somebody else."""
        while True:
            before = cls.made
            await asyncio.sleep(0)
            between.append(cls.made - before)

    async def both():
        watching = asyncio.ensure_future(watch())
        try:
            return await Run(study, out=tmp_path / "run").execute()
        finally:
            watching.cancel()

    assert wait(both()).status == "finished"
    assert cls.made == 4 * 600
    assert max(between) <= at_once


# -- refused when the study is read ----------------------------------------------------------


def test_rewriting_needs_a_model_when_the_study_is_read(document):
    document["optimizer"] = {"kind": "rewrite"}
    with pytest.raises(StudyError, match=r"optimizer\.lm: is missing: rewrite asks a language model"):
        Study.from_document(document, kinds={"valley": valley()})
    document["optimizer"]["lm"] = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}
    assert Study.from_document(document, kinds={"valley": valley()})
    helpful = type("Helpful", (valley(),), {"equip": lambda self, engine: None})
    del document["optimizer"]["lm"]
    assert Study.from_document(document, kinds={"valley": helpful})


def test_the_nearest_kind_is_one_that_the_problem_can_use(document):
    document["optimizer"] = {"kind": "rado"}  # radam is as near
    with pytest.raises(StudyError) as caught:
        Study.from_document(document, kinds={"valley": valley()})
    assert 'the nearest known one is "random"' in str(caught.value)
    assert "adam" not in str(caught.value)
