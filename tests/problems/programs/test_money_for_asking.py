"""The money that a run pays its model for new texts: in its figures, within its budget, also when it goes on."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import thalweg as tw
from tests.problems.programs.labels import document
from tests.runs.asking import Texts
from tests.runs.asking import document as about_texts
from thalweg.lm import AnswerCache, LanguageModel, Prices, Spending
from thalweg.lm.stub import Reply, Stub
from thalweg.runs import History, Run, Study
from thalweg.runs.report import write_report
from thalweg.runs.summary import search_lines

PRICES = Prices(prompt=1e3, completion=7e3)  # 0.001 and 0.007 for a token


def money(usage):
    return usage.prompt / 1e3 + usage.completion * 7 / 1e3


# -- asking alone costs money --------------------------------------------------------------


class Priced(Texts):
    """Its evaluations cost no money, and a model with a price list writes its texts."""

    url = folder = None

    def __init__(self, settings):
        super().__init__(settings)
        self.model = LanguageModel(
            self.url, "stub", retries=0, concurrency=1, cache=self.folder, spending=Spending(prices=PRICES)
        )

    def price_asking(self, engine):
        engine.pricing = self.model

    def equip(self, engine):
        engine.model = self.model

    def close(self):
        self.model.close()


def priced(stub, folder):
    return type("Priced", (Priced,), {"url": stub.url, "folder": folder / "cache", "made": 0})


def study(cls, *, iterations=5, candidates=1, **more):
    table = about_texts("", None, blocks=[{"iterations": iterations}], **more)
    del table["optimizer"]["lm"]
    table["optimizer"]["candidates"] = candidates
    return Study.from_document(table, kinds={"texts": cls})


def another(body):
    return json.dumps({"text": f"word {body['seed']} " + "and " * (body["seed"] % 7)})


def really(tmp_path):
    """The money of all answers, and of requests that broke off: by the books of the model's folder."""
    with AnswerCache(tmp_path / "cache") as cache:
        return money(cache.paid()[1]) + money(cache.lost()[1])


def execute(run):
    return tw.wait(run.execute())


def test_the_money_for_asking_is_in_every_figure(tmp_path):
    with Stub(another) as stub:
        outcome = execute(Run(study(priced(stub, tmp_path)), out=tmp_path / "run"))
    history, search = History(tmp_path / "run"), outcome.summary["search"]
    expected = really(tmp_path)
    assert len(stub.requests) == 4
    assert search["spent"]["money"] == pytest.approx(expected)
    assert expected > 0.3
    asks = [row for row in history.evaluations() if row.stage == "ask"]
    assert len(asks) == 4
    for row, body in zip(asks, stub.requests, strict=True):
        sent = sum(len(message["content"].split()) for message in body["messages"])
        answered = len(another(body).split(" "))
        assert (row.tokens, row.money) == (sent + answered, pytest.approx(sent / 1e3 + answered * 7 / 1e3))
    assert sum(row.money for row in history.evaluations()) == pytest.approx(expected)
    by_iteration = history.iterations()["money"]
    assert by_iteration[1:] == pytest.approx([sum(row.money for row in asks[: k + 1]) for k in range(4)])
    words = f"{expected:,.4g} in money"
    assert any(words in text for _, text in search_lines(search))
    assert words in write_report(outcome.folder).read_text()


def alike(body):
    """Texts of the same length, so that all requests have the same bound."""
    return json.dumps({"text": f"other words {body['seed']:03}"})


def each_request(cls, folder):
    """What one request is charged with by a server that counts nothing: its bound."""
    cls.folder = folder / "before"
    outcome = execute(Run(study(cls, iterations=3), out=folder / "first"))
    cls.folder = folder / "cache"
    one, other = [row.money for row in outcome.history.evaluations() if row.stage == "ask"]
    assert one == other > 0.5
    return one


@pytest.mark.parametrize("pays_for", [1, 3])
def test_a_search_stops_before_asking_would_exceed_the_money(tmp_path, pays_for):
    with Stub(alike, usage=False) as stub:
        cls = priced(stub, tmp_path)
        each = each_request(cls, tmp_path)
        before, limit = len(stub.requests), (pays_for + 0.99) * each
        outcome = execute(Run(study(cls, iterations=9, budget={"money": limit}), out=tmp_path / "run"))
        assert len(stub.requests) - before == pays_for
    search = outcome.summary["search"]
    assert search["spent"]["money"] == pytest.approx(pays_for * each)
    assert really(tmp_path) == pytest.approx(pays_for * each)
    assert f"the budget of {limit:,.6g} in money: {pays_for * each:,.6g} is spent" in search["stopped"]
    assert [one["origin"] for one in outcome.history.candidates()] == ["the start", *["rewritten"] * pays_for]


def test_a_run_that_goes_on_counts_what_was_paid_before_and_is_held_to_it(tmp_path):
    with Stub(alike, usage=False) as stub:
        cls = priced(stub, tmp_path)
        each = each_request(cls, tmp_path)
        execute(Run(study(cls, iterations=3), out=tmp_path / "run"))
        before, limit = len(stub.requests), 4.99 * each
        overrides = ["blocks.0.iterations=20", f"budget.money={limit!r}"]
        outcome = execute(Run.resume(tmp_path / "run", kinds={"texts": cls}, overrides=overrides))
        assert len(stub.requests) - before == 2, "two of four were paid for before"
        search = outcome.summary["search"]
        assert search["spent"]["money"] == pytest.approx(4 * each)
        assert really(tmp_path) == pytest.approx(4 * each)
        assert f"{4 * each:,.6g} is spent" in search["stopped"]
        assert outcome.history.iterations()["money"][-1] == pytest.approx(4 * each)
        execute(Run.resume(tmp_path / "run", kinds={"texts": cls}))
        assert len(stub.requests) - before == 2, "nor is any more asked for later"


CHILD = """
import sys
from pathlib import Path
from tests.problems.programs.test_money_for_asking import Priced, Run, execute, study

folder = Path(sys.argv[1])
Priced.url, Priced.folder, Priced.dies = sys.argv[2], folder / "cache", 5
execute(Run(study(Priced, iterations=2, candidates=2, budget={"money": 90.0}), out=folder / "run"))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run that is killed in the second iteration, whose asking no checkpoint has: one of its requests broke off.

    The folder, and the three requests.
    """
    folder = tmp_path_factory.mktemp("killed")
    with Stub(another, script=[None, Reply(drop=True)]) as stub:
        command = [sys.executable, "-c", CHILD, str(folder), stub.url]
        child = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=120)
    assert child.returncode == 9, child.stderr
    return folder, stub.requests


def going_on(killed, stub, folder, *overrides):
    """How a copy of the killed run goes on; what it had spent for asking."""
    shutil.copytree(killed[0], folder, dirs_exist_ok=True)
    before = [row.money for row in History(folder / "run").evaluations() if row.stage == "ask"]
    with AnswerCache(folder / "cache") as cache:
        assert money(cache.lost()[1]) > 0.3
    assert sum(before) == pytest.approx(really(folder))
    run = Run.resume(folder / "run", kinds={"texts": priced(stub, folder)}, overrides=overrides)
    return execute(run), before


def test_what_is_sent_again_by_a_run_that_goes_on_is_paid_for_again(tmp_path, killed):
    """Of two requests of an asking the one that had broken off; the other answer is on the disk."""
    with Stub(another) as stub:
        outcome, before = going_on(killed, stub, tmp_path)
    assert stub.requests == [killed[1][1]]
    sent = sum(len(message["content"].split()) for message in stub.requests[0]["messages"])
    again = sent / 1e3 + len(another(stub.requests[0]).split(" ")) * 7 / 1e3
    asks = [row for row in outcome.history.evaluations() if row.stage == "ask"]
    assert [row.status for row in asks] == ["done"] * 3
    assert [row.money for row in asks] == pytest.approx([*before, again])
    assert outcome.summary["search"]["spent"]["money"] == pytest.approx(sum(before) + again)
    assert really(tmp_path) == pytest.approx(sum(before) + again)


def test_nothing_is_sent_again_that_the_money_does_not_pay_for(tmp_path, killed):
    with Stub(another) as stub:
        outcome, before = going_on(killed, stub, tmp_path, "budget.money=2.0")
    assert stub.requests == []
    assert sum(before) > 1.0, "and another 1 is not left"
    assert outcome.summary["search"]["spent"]["money"] == pytest.approx(sum(before))


# -- evaluations cost money, too -----------------------------------------------------------


class Till:
    """A model of a program that knows what it was paid for new texts, and for the rest: tokens are words."""

    def __init__(self):
        self.asking = self.answering = 0.0

    def __call__(self, body):
        asked = "tune programs" in body["messages"][0]["content"]
        text = json.dumps({"instructions": f"Say a color, try {body['seed']}."}) if asked else "red"
        sent = sum(len(message["content"].split()) for message in body["messages"])
        paid = sent / 1e3 + min(len(text.split(" ")), body["max_tokens"]) * 7 / 1e3
        self.asking += paid * asked
        self.answering += paid * (not asked)
        return text


def rewriting(folder, stub, *, iterations, **more):
    table = document(folder, stub.url, train=4, held_out=2, test=2)
    table["problem"]["lm"] |= {"price_prompt": 1e3, "price_completion": 7e3, "retries": 0}
    table["problem"]["steps"][0]["examples"] = 0
    table["optimizer"] = {"kind": "rewrite", "candidates": 2, "finalists": 1, "max_tokens": 60, "temperature": 0.45}
    return Study.from_document({**table, "blocks": [{"iterations": iterations}], **more}, folder=folder)


def sums(history):
    rows = history.evaluations()
    return [sum(row.money for row in rows if (row.stage == "ask") == asked) for asked in (True, False)]


def test_a_program_is_charged_for_answers_and_for_new_texts_also_when_it_goes_on(tmp_path):
    till = Till()
    with Stub(till) as stub:
        for iterations in (3, 5):
            run = (
                Run(rewriting(tmp_path, stub, iterations=3), out=tmp_path / "run")
                if iterations == 3
                else Run.resume(tmp_path / "run", overrides=["blocks.0.iterations=5"])
            )
            before = till.asking
            outcome = execute(run)
            assert till.asking > before + 0.2
            assert sums(outcome.history) == pytest.approx([till.asking, till.answering])
            assert outcome.summary["search"]["spent"]["money"] == pytest.approx(till.asking + till.answering)
        asked, others = ([b for b in stub.requests if ("response_format" in b) == one] for one in (True, False))
    assert len(asked) == 1 + 4 * 2
    assert {body["temperature"] for body in asked} == {0.45}, "the search's"
    assert {body["temperature"] for body in others} == {0.0}, "the program's"


def test_a_program_stops_asking_for_new_texts_within_its_money(tmp_path):
    till = Till()
    with Stub(till) as stub:
        limit = 11.0
        study = rewriting(tmp_path, stub, iterations=50, budget={"money": limit})
        outcome = execute(Run(study, out=tmp_path / "run"))
    search = outcome.summary["search"]
    paid = till.asking + till.answering
    assert search["spent"]["money"] == pytest.approx(paid)
    assert paid <= limit
    assert till.asking > 0.1
    assert "the budget of 11 in money" in search["stopped"]
    assert outcome.history.iterations()["iteration"].size < 50
