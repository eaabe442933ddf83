"""The kind ``program``: rewards with feedback, what they cost, runs, and runs that are killed."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

import thalweg as tw
from tests.problems.programs.labels import answer, document
from thalweg.errors import EndpointError, LanguageModelError, StudyError
from thalweg.lm import AnswerCache
from thalweg.lm.requests import request_key
from thalweg.lm.stub import Reply, Stub
from thalweg.problems.programs import ProgramProblem
from thalweg.runs import History, Run, Study
from thalweg.runtime import Local


def build(folder, url, overrides=(), **problem):
    return Study.from_document(document(folder, url, **problem), folder=folder, overrides=overrides).build_problem()


def reward(problem, item=0, values=None):
    values = values or {variable.name: variable.json() for variable in problem.variables}
    with Local(threads=1) as runtime:
        return tw.wait(problem.reward(values, item, runtime))


def with_examples(problem, *items):
    (variable,) = problem.variables
    pool = variable.schema()["properties"]["examples"]["items"]["enum"]
    return {variable.name: {**variable.json(), "examples": [pool[item] for item in items]}}


def of_color(problem, color):
    return [item for item in range(problem.items) if problem.rows[item]["answer"] == color]


def test_a_reward_has_a_number_words_and_a_price(tmp_path):
    lm = {"base_url": "", "model": "stub", "price_prompt": 1e6, "price_completion": 2e6}
    with Stub(answer) as stub:
        problem = build(tmp_path, stub.url, lm={**lm, "base_url": stub.url})
        right, wrong = of_color(problem, "red")[0], of_color(problem, "blue")[0]
        good, bad = reward(problem, right), reward(problem, wrong)
    assert (good.reward, good.feedback, good.tokens, good.money) == (1.0, "", 7, 8.0)
    assert bad.reward == 0.0
    question = problem.rows[wrong]["question"]
    assert bad.feedback == f"for question = {question!r}: color should be 'blue' and was 'red'"


def test_examples_help_and_a_row_is_not_shown_its_own_answer(tmp_path):
    with Stub(answer) as stub:
        problem = build(tmp_path, stub.url)
        blue, other = of_color(problem, "blue")[:2]
        shown = with_examples(problem, blue)
        assert reward(problem, other, shown).reward == 1.0
        assert reward(problem, blue, shown).reward == 0.0
    assert [len(body["messages"]) for body in stub.requests] == [4, 2]


def test_the_present_values_play_no_part(tmp_path):
    with Stub(answer) as stub:
        problem = build(tmp_path, stub.url)
        other = with_examples(problem, *of_color(problem, "blue")[:1])
        before = reward(problem, 3).reward
        problem.variables[0].assign(other["name_it"])
        assert reward(problem, 3, {"name_it": {"instructions": "Which color is it?", "examples": []}}).reward == before


def test_the_bound_covers_every_attempt(tmp_path):
    script = [Reply(200, "nothing")]
    with Stub(answer, script=script, usage=False) as stub:
        problem = build(tmp_path, stub.url)
        values = with_examples(problem, 1, 2, 3)
        most = problem.most(values, 0)
        assert most.evaluations == 0
        assert reward(problem, 0, values).tokens == most.tokens


def test_a_failure_says_what_may_have_been_paid(tmp_path):
    with Stub(answer, script=[Reply(200, "nothing"), Reply(500)]) as stub:
        problem = build(tmp_path, stub.url)
        with pytest.raises(EndpointError) as caught:
            reward(problem)
    assert caught.value.spent.tokens == problem.model.spending.used.tokens > 0


def test_an_answer_that_does_not_fit_is_a_low_reward_and_no_failure(tmp_path):
    step = {
        "name": "name_it",
        "instructions": "Which?",
        "inputs": {"question": {"type": "string"}},
        "outputs": {"color": {"enum": ["red", "blue"]}},
        "answer": "json",
    }
    with Stub(lambda body: "I do not know") as stub:
        found = reward(build(tmp_path, stub.url, steps=[step]))
    assert found.reward == 0.0
    assert "does not fit" in found.feedback
    assert found.tokens > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": "nice"}, "metric is 'nice'"),
        ({"fields": {"answer": "a"}}, "fields has no question"),
        ({"expected": {"shade": "answer"}}, "no step has this output"),
        ({"expected": {"color": "label"}}, "'label'"),
        ({"train": 50}, "50 .* 20 .* 40 = 110"),
        ({"data": "gone.jsonl"}, r"gone\.jsonl"),
        ({"fields": {"question": "q", "answer": "b"}}, "nothing at 'b'"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, change, words):
    with pytest.raises(StudyError, match=words):
        build(tmp_path, "http://127.0.0.1:9/v1", **change)


@pytest.mark.parametrize(
    "lm",
    [
        {"model": "x"},
        {"base_url": "http://127.0.0.1:9/v1"},
        {"base_url": "http://127.0.0.1:9/v1", "model": "x", "serve": "smollm2"},
        {"base_url": "http://127.0.0.1:9/v1", "model": "x", "tokens": 3},
    ],
)
def test_wrong_models_are_refused_by_the_study(tmp_path, lm):
    with pytest.raises(StudyError):
        build(tmp_path, "", lm=lm)


def test_examples_need_labels(tmp_path):
    steps = document(tmp_path, "")["problem"]["steps"]
    more = {**steps[0], "name": "more", "outputs": {"shade": {"type": "string"}}}
    with pytest.raises(StudyError, match="more is to show examples, and the data has no shade"):
        build(tmp_path, "http://127.0.0.1:9/v1", steps=[*steps, more])


def test_a_key_that_is_missing_is_said_before_the_first_request(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with Stub(answer) as stub:
        lm = {"base_url": stub.url, "model": "stub", "api_key_env": "NO_SUCH_KEY"}
        study = Study.from_document(document(tmp_path, stub.url, lm=lm), folder=tmp_path)
        with pytest.raises(LanguageModelError, match="NO_SUCH_KEY"):
            tw.wait(Run(study, out=tmp_path / "run").execute())
    assert stub.requests == []


def test_equip_gives_a_rewriting_engine_the_model(tmp_path):
    class Engine:
        kind = "rewrite"
        model = None

    with Stub(answer) as stub:
        problem = build(tmp_path, stub.url)
        problem.equip(Engine)
        assert Engine.model is problem.model
        Engine.kind, Engine.model = "few_shot", None
        problem.equip(Engine)
        assert Engine.model is None


# -- runs ----------------------------------------------------------------------------------


def test_a_run_finds_examples_that_help_and_reports_on_samples_that_nothing_has_seen(tmp_path):
    with Stub(answer) as stub:
        study = Study.from_document(document(tmp_path, stub.url), folder=tmp_path)
        outcome = tw.wait(Run(study, out=tmp_path / "run").execute())
    chosen = outcome.summary["search"]
    assert chosen["start"]["test"]["mean"] < 0.45
    assert chosen["winner"]["test"]["mean"] > 0.7
    assert chosen["difference"]["low"] > 0
    told = outcome.summary["language_model"]
    assert told["requests"] == len(stub.requests)
    assert told["requests_lost"] == 0
    # What is asked is asked once.
    asked = [json.dumps(body) for body in stub.requests]
    assert len(asked) == len(set(asked))
    with AnswerCache(tmp_path / "run" / "answers") as cache:
        assert cache.paid()[0] == len(asked)
    # The search saw neither the held-out nor the test samples.
    stages = {}
    for row in History(tmp_path / "run").evaluations():
        stages.setdefault(row.stage, set()).add(row.item)
    assert max(stages.pop("search")) < 20
    assert all(min(items) >= 20 for items in stages.values())


def test_a_model_that_rewrites_instructions(tmp_path):
    """The program's own model is asked, and gets better instructions."""

    def model(body):
        if "tune programs" in body["messages"][0]["content"]:
            return json.dumps({"instructions": f"Say red, green, blue or grey. {body['seed']}"})
        kinds = {"ka": "red", "lu": "green", "mi": "blue", "no": "grey"}
        known = "Say red" in body["messages"][0]["content"]
        return kinds[body["messages"][-1]["content"].split()[0]] if known else "red"

    with Stub(model) as stub:
        study = document(tmp_path, stub.url)
        study["problem"]["steps"][0]["examples"] = 0
        study["optimizer"] = {"kind": "rewrite", "candidates": 2, "finalists": 2, "max_tokens": 60}
        study["blocks"] = [{"iterations": 2}]
        outcome = tw.wait(Run(Study.from_document(study, folder=tmp_path), out=tmp_path / "run").execute())
    chosen = outcome.summary["search"]
    assert chosen["winner"]["test"]["mean"] == 1.0
    assert chosen["winner"]["values"]["name_it"]["instructions"].startswith("Say red, green, blue or grey.")


def test_the_plan_has_what_rewriting_by_the_model_of_the_program_can_cost(tmp_path):
    """In money of answers alone, so that it can be told by hand."""

    def lines(**optimizer):
        study = document(tmp_path, "http://127.0.0.1:9/v1")
        study["problem"]["lm"] |= {"price_prompt": 0.0, "price_completion": 1e6}
        study["optimizer"] = {"candidates": 2, "finalists": 2, **optimizer}
        study["blocks"] = [{"iterations": 2}]
        return dict(tw.wait(Run(Study.from_document(study, folder=tmp_path), out=tmp_path / "run").plan()))

    plain, rewriting = lines(kind="random"), lines(kind="rewrite", max_tokens=60, choose_examples=False)
    asked = 3 * 2 * 2 * 2 * 60  # candidates, attempts, an answer and its repair, what may be paid for twice, tokens
    words = f", {asked:,} for asking a model, while texts are no longer than the present ones"
    most = float(plain["money"].removeprefix("at most ").replace(",", "")) + asked
    assert rewriting["money"] == f"at most {most:,.4g}{words}"
    assert "asking" not in plain["tokens"]
    assert "for asking a model" in rewriting["tokens"]


def test_a_server_that_refuses_some_requests_ends_nothing(tmp_path):
    """The candidate whose prompts are refused has failed; it is counted, and the others go on."""

    def picky(body):
        if len(body["messages"]) > 6:
            raise ValueError("too long")
        return answer(body)

    with Stub(picky) as stub:
        study = document(tmp_path, stub.url)
        study["problem"]["lm"]["retries"] = 0
        outcome = tw.wait(Run(Study.from_document(study, folder=tmp_path), out=tmp_path / "run").execute())
    failed = {row.candidate for row in History(tmp_path / "run").evaluations() if row.status == "failed"}
    rows = [row for row in History(tmp_path / "run").evaluations() if row.status == "failed"]
    assert failed
    assert all("ValueError: too long" in row.error for row in rows)
    assert outcome.status == "finished"
    assert outcome.summary["search"]["winner"]["candidate"] not in failed
    assert len(outcome.summary["search"]["winner"]["values"]["name_it"]["examples"]) <= 2


@pytest.mark.parametrize("limit", ["tokens", "money"])
def test_a_budget_is_hard(tmp_path, limit):
    with Stub(answer) as stub:
        study = document(tmp_path, stub.url)
        study["problem"]["lm"] |= {"price_prompt": 10.0, "price_completion": 10.0, "retries": 0}
        study["budget"] = {"tokens": 21_000} if limit == "tokens" else {"money": 0.21}
        outcome = tw.wait(Run(Study.from_document(study, folder=tmp_path), out=tmp_path / "run").execute())
    spent = outcome.summary["search"]["spent"]
    assert 0 < spent["tokens"] <= 21_000
    assert spent["money"] <= 0.21
    assert limit in outcome.summary["search"]["stopped"]


CHILD = """
    import sys
    from pathlib import Path
    import thalweg as tw
    from thalweg.runs import Run, Study

    folder = Path(sys.argv[1])
    first = sys.argv[2] == "run"
    run = Run(Study.load(folder / "study.toml"), out=folder / "run") if first else Run.resume(folder / "run")
    tw.wait(run.execute())
"""


def child(folder, what):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(folder), what],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )


def test_a_killed_run_goes_on_without_paying_again(tmp_path):
    """Killed after about half of its evaluations; only what was in flight is asked again, and counted."""
    from thalweg.runs.toml import dumps

    concurrency = 4
    with Stub(answer, delay=0.005) as stub:
        study = document(tmp_path, stub.url)
        study["problem"]["lm"]["concurrency"] = concurrency
        (tmp_path / "study.toml").write_text(dumps(study))
        first = child(tmp_path, "run")
        while len(stub.requests) < 100:
            assert first.poll() is None, first.stderr.read()
        first.send_signal(signal.SIGKILL)
        first.communicate()
        before = len(stub.requests)
        with AnswerCache(tmp_path / "run" / "answers") as cache:
            answered = {key for body in stub.requests[:before] if cache.get(key := request_key(body, 0)) is not None}
            lost, _ = cache.lost()
        assert len(answered) >= 100 - concurrency
        second = child(tmp_path, "resume")
        _, said = second.communicate()
        assert second.returncode == 0, said
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert not answered & {request_key(body, 0) for body in stub.requests[before:]}
        asked = [request_key(body, 0) for body in stub.requests]
        repeated = len(asked) - len(set(asked))
        assert repeated <= lost == summary["language_model"]["requests_lost"] <= concurrency
        # The same as without a break.
        whole = tw.wait(Run(Study.load(tmp_path / "study.toml"), out=tmp_path / "whole").execute())
    same = {"lost_in_flight", "spent"}
    assert {k: v for k, v in summary["search"].items() if k not in same} == {
        k: v for k, v in whole.summary["search"].items() if k not in same
    }


def test_plan_says_what_an_evaluation_costs_at_most(tmp_path):
    with Stub(answer) as stub, Local(threads=1) as runtime:
        lines = dict(build(tmp_path, stub.url).plan(runtime, 5))
    assert lines["data"] == "rows.jsonl: 80 different rows"
    assert lines["parts"] == "20 to search with, 20 to choose with, 40 to report with"
    assert "at most" in lines["an evaluation"]


def test_the_kind_is_installed():
    from thalweg.runs.kinds import find_kind

    assert find_kind("program")[0] is ProgramProblem


def test_an_evaluation_is_on_the_disk_before_its_request_is_sent(tmp_path):
    known = []

    def watched(body):
        rows = History(tmp_path / "run").evaluations()  # what another process would see
        known.append(sum(row.tokens > 0 for row in rows) - len(known))
        return answer(body)

    with Stub(watched) as stub:
        study = document(tmp_path, stub.url, train=6, held_out=0, test=0)
        study["problem"]["lm"]["concurrency"] = 3
        study["blocks"] = [{"iterations": 2}]
        tw.wait(Run(Study.from_document(study, folder=tmp_path), out=tmp_path / "run").execute())
    assert len(known) > 20
    assert min(known) > 0
