"""What rewriting pays its model: in money too, by the price list; and how warm the model is asked."""

import json
from dataclasses import astuple

import pytest

import thalweg as tw
from thalweg.lm import LanguageModel, Prices, Spending
from thalweg.lm.stub import Reply, Stub
from thalweg.search import Search, Space, Spent, StructuredVariable
from thalweg.search.engine import Told
from thalweg.search.rewriting import Rewrite

PRICES = Prices(prompt=1e3, completion=7e3)  # 0.001 and 0.007 for a token
SCHEMA = {
    "type": "object",
    "properties": {"instructions": {"type": "string", "minLength": 1}},
    "required": ["instructions"],
    "additionalProperties": False,
}


class Till(Stub):
    """Knows what its answers cost: tokens are words; 0.001 for one that is sent, 0.007 for one that is answered.

    Args:
        texts: the answers, the last of them again and again; by default other instructions for each draw.
    """

    def __init__(self, *texts, **options):
        super().__init__(self._counted, **options)
        self._texts = list(texts)
        self.words = [0, 0]

    def _counted(self, body):
        text = self._texts[0] if self._texts else json.dumps({"instructions": f"Version {body['seed']}."})
        self._texts = self._texts[1:] or self._texts
        self.words[0] += sum(len(message["content"].split()) for message in body["messages"])
        self.words[1] += min(len(text.split(" ")), body["max_tokens"])
        return text

    @property
    def bill(self):
        """What was paid so far: no evaluations, tokens, money."""
        return 0, sum(self.words), pytest.approx(self.words[0] / 1e3 + self.words[1] * 7 / 1e3)


def variable():
    return StructuredVariable({"instructions": "Answer. Be short."}, SCHEMA, name="step")


def make(stub, prices=PRICES, model=None, **options):
    one = variable()
    engine = Rewrite(Space.of_variables([one]), seed=0, start={"step": one.json()}, **options)
    spending = Spending(prices=prices)
    engine.model = LanguageModel(stub.url, "stub", **{"retries": 0, "spending": spending, **(model or {})})
    return engine


def rounds(engine, count, at_once=1):
    for _ in range(count):
        engine.tell([Told(one.number, 0.1 * one.number, ("a remark",)) for one in tw.wait(engine.ask(at_once))])


# -- money ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "texts",
    [
        (),
        ("no JSON at all",),
        ("no JSON", '{"instructions": "Repaired."}'),
        ('{"instructions": "Always the same."}',),
        ('{"instructions": ""}', '{"instructions": "Answer. Be short."}', '{"instructions": "Good."}'),
    ],
    ids=["good", "bad", "repaired", "repeated", "of all kinds"],
)
@pytest.mark.parametrize("at_once", [1, 3])
def test_the_money_of_every_answer_is_counted(texts, at_once):
    with Till(*texts) as stub:
        engine = make(stub)
        assert (engine.spent, engine.paid) == (Spent(), Spent())
        seen = []
        for _ in range(4):
            before = len(stub.requests)
            rounds(engine, 1, at_once)
            assert astuple(engine.spent) == stub.bill
            assert astuple(engine.paid) == stub.bill
            seen.append(len(stub.requests) > before)
        assert seen == [at_once > 1, True, True, True], "the start is not asked for"
        assert engine.spent.money > 0.1


def test_what_broke_off_is_counted_with_its_bound():
    with Till(script=[Reply(drop=True)]) as stub:
        engine = make(stub, max_tokens=50)
        rounds(engine, 2)
        lost = engine.model.spending.used
        money = lost.prompt / 1e3 + 50 * 7 / 1e3
        assert lost.completion == 50
        for spent in (engine.spent, engine.paid):
            assert astuple(spent) == (0, lost.tokens, pytest.approx(money))
        rounds(engine, 2)
        more = stub.words[0] / 1e3 + stub.words[1] * 7 / 1e3
        assert more > 0.05
        for spent in (engine.spent, engine.paid):
            assert astuple(spent) == (0, lost.tokens + sum(stub.words), pytest.approx(money + more))


def test_a_restored_engine_goes_on_counting_money():
    with Till() as stub:
        first, second = make(stub), make(stub)
        rounds(first, 3)
        before = first.spent
        assert astuple(before) == stub.bill
        second.restore(json.loads(json.dumps(first.state())))
        assert (second.spent, second.paid) == (before, Spent()), "by this process nothing was paid"
        rounds(second, 2)
        assert astuple(second.spent) == stub.bill
        assert second.spent.money > before.money + 0.05
        assert second.paid.money == pytest.approx(second.spent.money - before.money)
        assert second.paid.tokens == second.spent.tokens - before.tokens


def test_answers_from_the_disk_are_spent_and_not_paid(tmp_path):
    with Till() as stub:
        first, second = (make(stub, model={"cache": tmp_path}) for _ in range(2))
        rounds(first, 3)
        rounds(second, 3)
        for spent in (first.spent, first.paid, second.spent):
            assert astuple(spent) == stub.bill
        assert second.paid == Spent()
        for engine in (first, second):
            engine.model.close()


def test_the_bound_has_the_money_of_its_tokens():
    """By hand of what is answered: attempts, an answer and its repairs, what may be paid for twice, tokens."""
    with Till() as stub:
        options = {"attempts": 3, "repairs": 1, "max_tokens": 50, "model": {"retries": 4, "paid_retries": 1}}
        engines = [make(stub, prices, **options) for prices in (Prices(0, 1e6), Prices(1e6, 0), PRICES)]
        for engine in engines:
            assert engine.most_ask(1) == Spent(), "the start is not asked for"
            rounds(engine, 1)
        answered, sent, both = (engine.most_ask(1) for engine in engines)
        assert answered.money == 3 * 2 * 2 * 50
        assert sent.money == sent.tokens - 3 * 2 * 2 * 50 > 0
        assert both.money == pytest.approx(sent.money / 1e3 + answered.money * 7 / 1e3)
        assert answered.tokens == sent.tokens == both.tokens
        for engine, sent_price, price in zip(engines, (0.0, 1.0, 1e-3), (1.0, 0.0, 7e-3), strict=True):
            one, two, each = engine.most_ask(1), engine.most_ask(2), engine.most_each()
            assert (two.tokens, two.money) == (2 * one.tokens, pytest.approx(2 * one.money))
            assert each.money == pytest.approx((each.tokens - 600) * sent_price + 600 * price)


@pytest.mark.parametrize("at_once", [1, 2])
def test_the_bound_in_money_is_never_passed(at_once):
    with Till("x " * 500, usage=False) as stub:
        engine = make(stub, max_tokens=20)
        for _ in range(4):
            most, before = engine.most_ask(at_once), engine.spent
            rounds(engine, 1, at_once)
            paid = engine.spent.money - before.money
            assert paid <= most.money * (1 + 1e-12)
            assert (paid > 0.3 * most.money) == (most.money > 0)


def test_a_search_says_what_its_engine_has_cost():
    with Till() as stub:
        search = Search("rewrite", seed=0, candidates=2)
        search.bind([variable()])
        search.engine.model = LanguageModel(stub.url, "stub", spending=Spending(prices=PRICES))
        tw.wait(search.propose())
        assert astuple(search.spent) == astuple(search.paid) == stub.bill
        assert search.spent.money > 0


# -- temperature ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"), [({}, 0.7), ({"temperature": 0.25}, 0.25), ({"temperature": 0.0}, 0.0)]
)
def test_the_model_is_asked_at_the_temperature_that_was_given(options, expected):
    """Also for another draw and for a repair, and whatever the model's own is."""
    texts = ["no JSON", '{"instructions": "Answer. Be short."}', '{"instructions": "Good."}']
    with Till(*texts) as stub:
        engine = make(stub, model={"temperature": 1.5}, attempts=2, repairs=1, **options)
        rounds(engine, 3)
        kinds = [len(body["messages"]) for body in stub.requests]
        assert kinds[1] > kinds[0] == kinds[2], "a question, its repair, another draw"
        assert len({body["seed"] for body in stub.requests}) > 2
        assert [body["temperature"] for body in stub.requests] == [expected] * len(stub.requests)
        tw.wait(engine.model.complete([{"role": "user", "content": "by itself"}]))
    assert stub.requests[-1]["temperature"] == 1.5


def test_an_answer_may_be_as_long_as_was_told():
    with Till() as stub:
        rounds(make(stub, max_tokens=33), 3)
        assert {body["max_tokens"] for body in stub.requests} == {33}
