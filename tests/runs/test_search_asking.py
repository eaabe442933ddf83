"""What an engine pays for asking: charged once, within the budget, whenever the run dies."""

import asyncio
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs.asking import Texts, document
from thalweg.errors import LanguageModelError, StudyError
from thalweg.graph import wait
from thalweg.lm import AnswerCache
from thalweg.lm.stub import Reply, Stub
from thalweg.runs import History, Run, Study
from thalweg.runs.report import write_report
from thalweg.runs.summary import search_lines

HERE = Path(__file__).parent


def answer(body):
    return json.dumps({"text": "word " + hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()})


def kind():
    return type("Texts", (Texts,), {"made": 0})


def paid(folder):
    """What was really paid: tokens of answers, and evaluations."""
    with AnswerCache(folder / "cache") as cache:
        return cache.paid()[1].tokens, len((folder / "log").read_text().split())


def killed(folder, url, *, dies, limit):
    arguments = [str(folder), url, str(dies), str(limit)]
    process = subprocess.run(
        [sys.executable, str(HERE / "asking.py"), *arguments], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 9, process.stderr


@pytest.mark.parametrize("overrides", [[], ["problem.sign=-1.0"]], ids=["the same study", "another metric"])
@pytest.mark.parametrize("dies", [4, 5])
def test_a_killed_run_stays_within_the_budget_with_all_that_was_asked(tmp_path, dies, overrides):
    limit = 9000
    cls = kind()
    with Stub(answer, usage=False) as stub:
        killed(tmp_path, stub.url, dies=dies, limit=limit)
        before = [row for row in History(tmp_path / "run").evaluations() if row.status == "done"]
        cls.log = tmp_path / "log"
        outcome = wait(Run.resume(tmp_path / "run", kinds={"texts": cls}, overrides=overrides).execute())
    search = outcome.summary["search"]
    assert {row.stage for row in before} == {"search", "ask"}
    if overrides:  # both are of other rewards
        evaluations = sum(row.stage == "search" for row in before)
        unused = {"evaluations": evaluations, "tokens": sum(row.tokens for row in before), "money": 0.0}
        assert search["unused"] == unused
    else:
        assert "unused" not in search
    asked, evaluated = paid(tmp_path)
    assert search["spent"]["tokens"] == asked + 1000 * (evaluated + 1), "the one in flight is charged"
    assert search["spent"]["evaluations"] == evaluated + 1
    assert search["lost_in_flight"] == 1
    assert search["spent"]["tokens"] <= limit
    assert "budget of 9,000 tokens" in search["stopped"]


def test_answers_of_a_server_that_refuses_schemas_are_there_when_it_is_down(tmp_path):
    """The limit is lowered to what was paid for: nothing is paid for a second time."""
    cls = kind()
    with Stub(answer, script=[Reply(400)]) as stub:
        killed(tmp_path, stub.url, dies=5, limit=90_000)
        assert ["response_format" in body for body in stub.requests] == [True, False, False]
    paid_for = sum(row.tokens for row in History(tmp_path / "run").evaluations())
    overrides = [f"budget.tokens={paid_for + 1000}"]
    outcome = wait(Run.resume(tmp_path / "run", kinds={"texts": cls}, overrides=overrides).execute())
    asked, _ = paid(tmp_path)
    candidates = outcome.history.candidates()
    assert [one["origin"] for one in candidates[:3]] == ["the start", "rewritten", "rewritten"]
    assert [one["values"]["step"]["text"][:4] for one in candidates[1:3]] == ["word", "word"]
    asks = [row for row in outcome.history.evaluations() if row.stage == "ask"]
    assert [row.status for row in asks] == ["done", "done"]
    assert sum(row.tokens for row in asks) == asked


def test_what_broke_off_and_is_sent_again_after_a_kill_is_charged_twice(tmp_path):
    cls = kind()
    with Stub(answer, script=[Reply(drop=True)]) as stub:
        killed(tmp_path, stub.url, dies=5, limit=90_000)
        cls.log = tmp_path / "log"
        search = wait(Run.resume(tmp_path / "run", kinds={"texts": cls}).execute()).summary["search"]
    asked, evaluated = paid(tmp_path)
    with AnswerCache(tmp_path / "cache") as cache:
        count, lost = cache.lost()
    assert count == 1
    assert search["spent"]["tokens"] == asked + lost.tokens + 1000 * (evaluated + 1)


def test_what_broke_off_is_not_sent_again_where_the_budget_does_not_pay_for_it_twice(tmp_path):
    """The limit is lowered to what was paid for; without a look at it, the request is sent again, and passes it."""
    cls = kind()
    with Stub(answer, script=[Reply(drop=True)]) as stub:
        killed(tmp_path, stub.url, dies=5, limit=90_000)
        rows = History(tmp_path / "run").evaluations()
        paid_for = sum(row.tokens for row in rows)
        before = len(stub.requests)
        overrides = [f"budget.tokens={paid_for}"]
        outcome = wait(Run.resume(tmp_path / "run", kinds={"texts": cls}, overrides=overrides).execute())
        assert len(stub.requests) == before
    search = outcome.summary["search"]
    assert search["spent"]["tokens"] == paid_for
    assert f"the budget of {paid_for:,} tokens" in search["stopped"]
    origins = [one["origin"] for one in outcome.history.candidates()]
    assert f"there was no answer: the budget of {paid_for:,} tokens" in origins[1]
    assert len([row for row in outcome.history.evaluations() if row.stage == "ask"]) == len(
        [row for row in rows if row.stage == "ask"]
    )


def test_what_was_in_flight_is_asked_again_only_if_the_budget_pays_for_it_twice(tmp_path):
    cls = kind()
    with Stub(answer, delay=0.3) as stub:
        study = Study.from_document(document(stub.url, tmp_path / "cache"), kinds={"texts": cls})
        cancelled(Run(study, out=tmp_path / "run"), stub, 2)
        paid_for = sum(row.tokens for row in History(tmp_path / "run").evaluations())
        assert len(stub.requests) == 2
        overrides = [f"budget.tokens={paid_for + 1}"]
        search = wait(Run.resume(tmp_path / "run", kinds={"texts": cls}, overrides=overrides).execute()).summary[
            "search"
        ]
        assert len(stub.requests) == 2
    assert search["spent"]["tokens"] == paid_for
    assert f"the budget of {paid_for + 1:,} tokens: {paid_for:,} are spent" in search["stopped"]


def test_a_request_that_broke_off_is_charged_once_more_by_a_run_that_was_cancelled_later(tmp_path):
    """What is sent again by a run that was killed: tests/problems/programs/test_money_for_asking.py."""
    cls = kind()
    study = document("", tmp_path / "cache", budget={"tokens": 90_000}, blocks=[{"iterations": 2}])
    study["optimizer"] |= {"candidates": 2}
    with Stub(answer, script=[None, Reply(drop=True)]) as stub:
        study["optimizer"]["lm"] |= {"base_url": stub.url, "concurrency": 1}
        first = Run(Study.from_document(study, kinds={"texts": cls}), out=tmp_path / "run")

        async def dies():
            cls.stop_at = 5  # an evaluation of the second iteration; the cancelled run's checkpoint has its asking
            cls.task = asyncio.ensure_future(first.execute())
            with pytest.raises(asyncio.CancelledError):
                await cls.task
            cls.stop_at = None

        base = cls.reward

        async def reward(self, values, item, runtime):
            if cls.stop_at is not None and cls.made + 1 == cls.stop_at:
                cls.task.cancel()
            return await base(self, values, item, runtime)

        cls.reward = reward
        wait(dies())
        search = wait(Run.resume(tmp_path / "run", kinds={"texts": cls}).execute()).summary["search"]
    with AnswerCache(tmp_path / "cache") as cache:
        answered, lost = cache.paid()[1].tokens, cache.lost()[1].tokens
    assert lost > 0
    assert search["spent"]["tokens"] == answered + lost + 1000 * search["spent"]["evaluations"]


def test_a_model_of_the_engine_keeps_its_answers_in_the_folder_of_the_run(tmp_path):
    cls = kind()
    with Stub(answer) as stub:
        killed(tmp_path, stub.url, dies=8, limit=0)
        assert len(stub.requests) == 3
        outcome = wait(Run.resume(tmp_path / "run", kinds={"texts": cls}).execute())
        assert len(stub.requests) == 5, "none twice"
    asked = outcome.summary["search"]["spent"]["tokens"] - 1000 * outcome.summary["search"]["spent"]["evaluations"]
    with AnswerCache(tmp_path / "run" / "answers") as cache:
        count, usage = cache.paid()
    assert (count, usage.tokens) == (5, asked)


def cancelled(run, stub, times):
    """Cancel a run while its engine waits for the second answer."""

    async def go():
        task = asyncio.ensure_future(run.execute())
        while len(stub.requests) < 2:
            await asyncio.sleep(0.01)
        for _ in range(times):
            task.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task

    wait(go())


@pytest.mark.parametrize("times", [1, 2])
def test_a_run_that_is_stopped_while_it_asks_waits_for_the_answer_unless_it_is_stopped_twice(tmp_path, times):
    cls = kind()
    with Stub(answer, delay=0.3) as stub:
        study = Study.from_document(document(stub.url, tmp_path / "cache"), kinds={"texts": cls})
        cancelled(Run(study, out=tmp_path / "run"), stub, times)
        (last,) = [row for row in History(tmp_path / "run").evaluations() if row.stage == "ask"][1:]
        assert last.status == {1: "done", 2: "begun"}[times]
        outcome = wait(Run.resume(tmp_path / "run", kinds={"texts": cls}).execute())
        assert len(stub.requests) == 5 + (times == 2), "asked again only if it was given up"
    asks = [row for row in History(tmp_path / "run").evaluations() if row.stage == "ask"]
    assert [row.status for row in asks].count("lost") == (times == 2)
    search = outcome.summary["search"]
    assert search["spent"]["tokens"] == sum(row.tokens for row in asks) + 1000 * cls.made
    assert search["spent"]["evaluations"] == cls.made
    assert search["lost_in_flight"] == 0
    told = [event["text"] for event in History(tmp_path / "run").events() if "being asked" in str(event)]
    assert len(told) == (times == 2)


@pytest.mark.parametrize("candidates", [1, 3])
def test_the_plan_has_what_asking_can_cost_at_most(tmp_path, candidates):
    """Of texts as long as the present one; the server counts nothing, so each request is charged with its bound."""
    cls = kind()
    present = "Answer the question. Be brief."

    def as_long(body):
        return json.dumps({"text": json.loads(answer(body))["text"][: len(present)]})

    with Stub(as_long, usage=False) as stub:
        study = document(stub.url, tmp_path / "cache", problem={"kind": "texts", "tokens": 0})
        study["optimizer"] |= {"candidates": candidates, "history": 3}
        run = Run(Study.from_document(study, kinds={"texts": cls}), out=tmp_path / "run")
        tokens = dict(wait(run.plan()))["tokens"]
        assert stub.requests == []
        outcome = wait(run.execute())
    most = int(tokens.split()[2].rstrip(",").replace(",", ""))
    assert tokens == f"at most {most:,}, {most:,} for asking a model, while texts are no longer than the present ones"
    asked = 6 * candidates - 1
    assert len([one for one in outcome.history.candidates() if one["origin"] == "rewritten"]) == asked
    assert most % asked == 0
    assert 0.7 * most < outcome.summary["search"]["spent"]["tokens"] <= most


def test_a_plan_without_asking_has_no_such_words(tmp_path):
    study = document("http://127.0.0.1:9/v1", None, blocks=[{"iterations": 1}])
    study["optimizer"] = {"kind": "random", "finalists": 1}
    study["problem"]["tokens"] = 10
    plan = dict(wait(Run(Study.from_document(study, kinds={"texts": kind()}), out=tmp_path / "run").plan()))
    assert plan["tokens"] == "at most 20"


def test_a_missing_key_is_said_before_anything_is_asked_or_evaluated(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    cls = kind()
    with Stub(answer) as stub:
        study = document(stub.url, None, blocks=[{"iterations": 2}])
        study["optimizer"]["lm"] |= {"api_key_env": "NO_SUCH_KEY"}
        with pytest.raises(LanguageModelError, match="environment variable NO_SUCH_KEY is not set"):
            wait(Run(Study.from_document(study, kinds={"texts": cls}), out=tmp_path / "first").execute())
        assert cls.made == 0
        monkeypatch.setenv("NO_SUCH_KEY", "sk-there")
        wait(Run(Study.from_document(study, kinds={"texts": cls}), out=tmp_path / "run").execute())
        monkeypatch.delenv("NO_SUCH_KEY")
        more = {"kinds": {"texts": cls}, "overrides": ["blocks.0.iterations=4"]}
        asked, made = len(stub.requests), cls.made
        with pytest.raises(LanguageModelError, match="environment variable NO_SUCH_KEY is not set"):
            wait(Run.resume(tmp_path / "run", **more).execute())
        assert (len(stub.requests), cls.made) == (asked, made)
        monkeypatch.setenv("NO_SUCH_KEY", "sk-there")
        outcome = wait(Run.resume(tmp_path / "run", **more).execute())
    assert [one["origin"] for one in outcome.history.candidates()] == ["the start", *["rewritten"] * 3]


def test_a_run_goes_on_with_a_server_that_has_moved(tmp_path):
    cls = kind()
    with Stub(answer) as stub:
        study = document(stub.url, None, blocks=[{"iterations": 3}])
        wait(Run(Study.from_document(study, kinds={"texts": cls}), out=tmp_path / "run").execute())
        before = len(stub.requests)
    with Stub(answer) as stub:
        overrides = ["blocks.0.iterations=5", f'optimizer.lm.base_url="{stub.url}"', "optimizer.lm.timeout=30.0"]
        outcome = wait(Run.resume(tmp_path / "run", kinds={"texts": cls}, overrides=overrides).execute())
        assert (before, len(stub.requests)) == (2, 2)
    assert [one["origin"] for one in outcome.history.candidates()] == ["the start", *["rewritten"] * 4]


def test_a_relative_folder_for_answers_starts_at_the_folder_of_the_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Stub(answer) as stub:
        study = document(stub.url, "mine", blocks=[{"iterations": 2}])
        study = Study.from_document(study, kinds={"texts": kind()}, folder=tmp_path / "studies")
        wait(Run(study, out=tmp_path / "run").execute())
    with AnswerCache(tmp_path / "studies" / "mine") as cache:
        assert cache.paid()[0] == 1
    assert not (tmp_path / "mine").exists()
    assert not (tmp_path / "run" / "answers").exists()


def test_a_limit_of_money_is_refused_where_asking_has_no_price(tmp_path):
    study = document("http://127.0.0.1:9/v1", None, budget={"money": 1.0, "tokens": 90_000})
    with pytest.raises(StudyError, match=r"optimizer\.lm has no price list") as caught:
        wait(Run(Study.from_document(study, kinds={"texts": kind()}), out=tmp_path / "run").execute())
    assert caught.value.details["path"] == "budget.money"
    assert not (tmp_path / "run").exists()


def stopped_after_an_asking(tmp_path, cls, stub):
    """A run that was stopped as soon as it had the answer; the row of that asking."""
    study = Study.from_document(document(stub.url, tmp_path / "cache"), kinds={"texts": cls})
    cancelled(Run(study, out=tmp_path / "run"), stub, 1)
    (_, last) = [row for row in History(tmp_path / "run").evaluations() if row.stage == "ask"]
    return last


def test_an_asking_that_a_changed_study_does_not_come_to_is_shown_apart(tmp_path):
    """Stopped as soon as it has the answer, and ended before the next iteration: nothing else was not used."""
    cls = kind()
    with Stub(answer, delay=0.3) as stub:
        last = stopped_after_an_asking(tmp_path, cls, stub)
        outcome = wait(Run.resume(tmp_path / "run", kinds={"texts": cls}, overrides=["budget.seconds=1e-9"]).execute())
        search = outcome.summary["search"]
        assert search["unused"] == {"evaluations": 0, "tokens": last.tokens, "money": 0.0}
        assert (
            dict(search_lines(search))["of it not used"] == f"{last.tokens:,} tokens: no longer asked for, or given up"
        )
        assert (
            f"Of these, {last.tokens:,} tokens were paid for and not used" in write_report(outcome.folder).read_text()
        )
        more = wait(Run.resume(tmp_path / "run", kinds={"texts": cls}, overrides=["budget.seconds=1e9"]).execute())
    assert "unused" not in more.summary["search"]


def test_an_asking_whose_candidates_a_search_that_begins_anew_forgets_is_shown_apart(tmp_path):
    """They were in the checkpoint, which had charged for them."""
    cls = kind()
    with Stub(answer, delay=0.3) as stub:
        last = stopped_after_an_asking(tmp_path, cls, stub)
        outcome = wait(Run.resume(tmp_path / "run", kinds={"texts": cls}, overrides=["problem.sign=-1.0"]).execute())
    search = outcome.summary["search"]
    assert search["not_compared"] == 3
    assert search["unused"] == {"evaluations": 0, "tokens": last.tokens, "money": 0.0}
    rows = outcome.history.evaluations()
    assert search["spent"]["tokens"] == sum(row.tokens for row in rows)
    assert search["spent"]["evaluations"] == sum(row.stage == "search" for row in rows)


def test_an_engine_that_pays_nothing_has_no_such_rows(tmp_path):
    study = document("http://127.0.0.1:9/v1", None, blocks=[{"iterations": 1}])
    study["optimizer"] = {"kind": "random", "finalists": 1}
    wait(Run(Study.from_document(study, kinds={"texts": kind()}), out=tmp_path / "run").execute())
    assert {row.stage for row in History(tmp_path / "run").evaluations()} == {"search"}
