"""The client against a server that answers, refuses, is late, breaks off."""

import asyncio
import contextlib
import email.utils
import functools
import json
import logging
import time

import numpy as np
import pytest

import thalweg as tw
from thalweg.errors import AnswerError, EndpointError, LanguageModelError, SpendingError, ValueMismatchError
from thalweg.lm import Answer, AnswerCache, LanguageModel, Prices, Spending, Usage
from thalweg.lm.fitting import value_fault
from thalweg.lm.stub import Reply, Stub
from thalweg.search import copy_json

HELLO = [{"role": "user", "content": "good morning"}]
KEY = "sk-very-secret-0123456789"


def said(text):
    return [{"role": "user", "content": text}]


@pytest.fixture
def slept():
    return []


@pytest.fixture
def make(slept):
    """Models that note their waits instead of waiting."""

    async def sleep(seconds):
        slept.append(seconds)

    def make(stub, **options):
        return LanguageModel(stub.url, "stub", **{"sleep": sleep, "timeout": 5.0, "paid_retries": 4, **options})

    return make


def test_an_answer_has_text_and_usage(make):
    with Stub() as stub:
        model = make(stub, temperature=0.5, max_tokens=7, seed=3, extra={"top_p": 0.9})
        answer = tw.wait(model.complete(HELLO, sample=2, stop=["."]))
    assert answer == Answer("morning good", "stop", Usage(2, 2))
    assert stub.requests == [
        {
            "model": "stub",
            "messages": HELLO,
            "temperature": 0.5,
            "max_tokens": 7,
            "seed": 5,
            "stop": ["."],
            "top_p": 0.9,
        }
    ]
    assert model.spending.used == Usage(2, 2)
    assert model.spending.reserved == Usage()


def test_an_answer_that_is_cut_off_says_so(make):
    with Stub() as stub:
        answer = tw.wait(make(stub, max_tokens=1, limit_key="max_completion_tokens", seed=None).complete(HELLO))
    assert answer.truncated
    assert stub.requests[0]["max_completion_tokens"] == 1
    assert "seed" not in stub.requests[0]
    assert "max_tokens" not in stub.requests[0]


@pytest.mark.parametrize(
    ("reply", "lost"),
    [
        pytest.param(Reply(500), 0, id="500"),
        pytest.param(Reply(503, "<html>busy</html>"), 0, id="503 in HTML"),
        pytest.param(Reply(429), 0, id="429"),
        pytest.param(Reply(408), 0, id="408"),
        pytest.param(Reply(200, "<html>hello</html>"), 1, id="no JSON"),
        pytest.param(Reply(200, {"choices": []}), 1, id="no choices"),
        pytest.param(Reply(200, {"error": {"message": "overloaded"}}), 1, id="an error with status 200"),
        pytest.param(Reply(200, {"choices": [{"message": {"content": None}}]}), 1, id="no content"),
        pytest.param(Reply(200, "[" * 100_000), 1, id="JSON too deep"),
        pytest.param(Reply(drop=True, content="x" * 1000), 1, id="broken off"),
        pytest.param(Reply(hang=True), 1, id="no response in time"),
    ],
)
def test_what_may_pass_is_tried_again(make, slept, reply, lost):
    with Stub(script=[reply, reply]) as stub:
        model = make(stub, timeout=0.3 if reply.hang else 5.0)
        answer = tw.wait(model.complete(HELLO))
    assert answer.text == "morning good"
    assert len(stub.requests) == 3
    assert len(slept) == 2
    assert 0.25 <= slept[0] < 0.75
    assert 0.5 <= slept[1] < 1.5
    # What may have been paid for counts with its bound.
    most = model.most(HELLO, attempts=1)
    assert model.spending.lost == 2 * lost
    assert model.spending.used == Usage(2 + 2 * lost * most.prompt, 2 + 2 * lost * most.completion)
    assert model.counts.retried == 2
    assert answer.charged == model.spending.used


def test_waits_follow_the_seed_and_the_request_only(make, slept):
    waits = []
    for seed in (0, 0, 1):
        with Stub(script=[Reply(500)] * 3) as stub:
            tw.wait(make(stub, seed=seed).complete(HELLO))
        waits.append(tuple(slept))
        slept.clear()
    assert waits[0] == waits[1]
    assert waits[0] != waits[2]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_server_says_how_long_to_wait(make, slept, form):
    text = "17" if form == "seconds" else email.utils.formatdate(time.time() + 17.5, usegmt=True)
    with Stub(script=[Reply(429, headers={"Retry-After": text})]) as stub:
        tw.wait(make(stub).complete(HELLO))
    assert slept == [pytest.approx(17, abs=1.0)]


def test_a_wait_of_hours_is_not_waited_for(make, slept):
    with (
        Stub(script=[Reply(429, headers={"Retry-After": "7200"})]) as stub,
        pytest.raises(EndpointError, match="asks to wait 7,200 s"),
    ):
        tw.wait(make(stub).complete(HELLO))
    assert slept == []


@pytest.mark.parametrize(
    ("status", "content", "words"),
    [
        (
            400,
            {"error": {"message": "the context is too long"}},
            "status 400: the context is too long. Check the request",
        ),
        (
            401,
            {"error": {"message": f"Incorrect API key provided: {KEY}"}},
            "Check the key in the environment variable K",
        ),
        (403, None, "Check the key in the environment variable K"),
        (402, None, "no money left"),
        (404, {"detail": "no such model"}, "no such model. Check the model's name, 'stub', and base_url"),
        (307, "", "points elsewhere, and keys are not sent there"),
        (422, "unprocessable", "unprocessable"),
        (429, {"error": {"message": "no quota", "code": "insufficient_quota"}}, "no quota"),
        (418, None, "documentation"),
    ],
)
def test_a_refusal_is_not_repeated(make, slept, monkeypatch, status, content, words):
    monkeypatch.setenv("K", KEY)
    with Stub(script=[Reply(status, content)]) as stub, pytest.raises(EndpointError) as caught:
        tw.wait(make(stub, api_key_env="K").complete(HELLO))
    assert words in str(caught.value)
    assert caught.value.details["status"] == status
    assert slept == []
    assert KEY not in str(caught.value)


def test_the_last_error_says_how_often_it_was_tried(make):
    with Stub(script=[Reply(500)] * 9) as stub:
        model = make(stub, retries=2)
        with pytest.raises(EndpointError, match=r"status 500.*Try later.*\(Tried 3 times\.\)") as caught:
            tw.wait(model.complete(HELLO))
    assert len(stub.requests) == 3
    assert model.spending.used == model.spending.reserved == caught.value.details["usage"] == Usage()


def test_the_last_error_says_what_may_have_been_paid(make):
    with Stub(script=[Reply(200, "no"), Reply(500), Reply(200, "no")]) as stub:
        model = make(stub, retries=2)
        with pytest.raises(AnswerError) as caught:
            tw.wait(model.complete(HELLO))
    assert caught.value.details["usage"] == model.spending.used == model.most(HELLO, attempts=2)


@pytest.mark.parametrize("paid", [0, 1])
def test_what_may_have_been_paid_is_not_tried_as_often(make, paid):
    script = [Reply(500), Reply(200, "no"), Reply(500), Reply(200, "no"), Reply(500)]
    with Stub(script=script) as stub:
        model = make(stub, retries=9, paid_retries=paid)
        with pytest.raises(AnswerError):
            tw.wait(model.complete(HELLO))
    assert len(stub.requests) == (2, 4)[paid]
    assert model.spending.used == model.most(HELLO)


def test_no_server():
    with Stub() as stub:
        url = stub.url
    model = LanguageModel(url, "gone", retries=0)
    with pytest.raises(EndpointError, match=r"No server answers at .*Start it, or correct base_url"):
        tw.wait(model.complete(HELLO))


def test_https_is_verified():
    with Stub() as stub, pytest.raises(EndpointError, match="No server answers at https://"):
        tw.wait(LanguageModel(stub.url.replace("http:", "https:"), "plain", retries=0).complete(HELLO))


def test_a_response_without_end_is_not_read(make):
    with Stub(script=[Reply(200, "x" * (17 << 20))]) as stub, pytest.raises(EndpointError, match="more than 16 MiB"):
        tw.wait(make(stub).complete(HELLO))


def test_a_server_that_counts_no_tokens_is_counted_by_the_bound(make):
    with Stub(usage=False) as stub:
        model = make(stub, max_tokens=5)
        answer = tw.wait(model.complete(HELLO))
    assert not answer.counted
    assert model.spending.used == model.most(HELLO, attempts=1) == Usage(12 + 16 + 64, 5)


@pytest.mark.parametrize(
    ("text", "prompt", "completion", "bound"),
    [
        *[
            ("Four.", prompt, 2, "prompt")
            for prompt in (0, -1, True, None, "9", 9.0, 9.5, float("nan"), 1 << 30, 1 << 99, [9])
        ],
        *[
            ("Four.", 9, completion, "completion")
            for completion in (0, -1, True, None, "2", 2.0, float("nan"), 1 << 30)
        ],
        ("Four.", 0, 0, "both"),
        ("", 0, 0, "prompt"),
        ("", 9, -1, "completion"),
        ("", 9, False, "completion"),
    ],
)
def test_what_is_no_count_of_these_tokens_is_counted_by_the_bound(make, text, prompt, completion, bound):
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}
    with Stub(script=[Reply(200, json.dumps(body))]) as stub:
        model = make(stub, max_tokens=5)
        answer = tw.wait(model.complete(HELLO))
    most = model.most(HELLO, attempts=1)
    expected = {
        "prompt": Usage(most.prompt, completion),
        "completion": Usage(prompt, most.completion),
        "both": most,
    }[bound]
    assert not answer.counted
    assert model.spending.used == answer.usage == expected


@pytest.mark.parametrize(("text", "prompt", "completion"), [("Four.", 1, 1), ("", 1, 0), ("Four.", 900, 700)])
def test_a_count_that_can_be_is_believed_above_the_bound_too(make, text, prompt, completion):
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}
    with Stub(script=[Reply(200, body)]) as stub:
        model = make(stub, max_tokens=5)
        answer = tw.wait(model.complete(HELLO))
    assert answer.counted
    assert model.spending.used == answer.usage == Usage(prompt, completion)


# -- the key -------------------------------------------------------------------------------


def test_the_key_is_sent_and_nowhere_else(make, monkeypatch, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("STUB_KEY", KEY)
    with Stub() as stub:
        model = make(stub, api_key_env="STUB_KEY", cache=tmp_path / "answers")
        tw.wait(model.complete(HELLO))
        model.close()
    assert stub.headers[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(model)
    assert KEY not in caplog.text
    assert "STUB_KEY" in repr(model)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


@pytest.mark.parametrize("place", [0, 180, 190, 240, 280, 290, 400])
@pytest.mark.parametrize("form", ["refused", "in HTML", "an error with status 200", "a refusal", "no text"])
def test_no_part_of_the_key_is_shown_wherever_a_server_quotes_it(make, monkeypatch, form, place):
    monkeypatch.setenv("STUB_KEY", KEY)
    text = "x" * place + " " + KEY + " was sent"
    contents = {
        "refused": Reply(401, {"error": {"message": text}}),
        "in HTML": Reply(401, f"<p>{text}</p>"),
        "an error with status 200": Reply(200, {"error": {"message": text}}),
        "a refusal": Reply(200, {"choices": [{"message": {"content": None, "refusal": text}}]}),
        "no text": Reply(200, {"choices": [{"message": {"content": [text]}}]}),
    }
    with Stub(script=[contents[form]]) as stub, pytest.raises(LanguageModelError) as caught:
        tw.wait(make(stub, api_key_env="STUB_KEY", retries=0).complete(HELLO))
    assert KEY[:4] not in str(caught.value)
    assert "xxxx" in str(caught.value) or place < 4


def test_without_a_name_no_key_is_sent(make, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Stub() as stub:
        tw.wait(make(stub).complete(HELLO))
    assert "authorization" not in stub.headers[0]


def test_a_missing_key_is_named(make, monkeypatch):
    monkeypatch.delenv("STUB_KEY", raising=False)
    with Stub() as stub:
        model = make(stub, api_key_env="STUB_KEY")
        with pytest.raises(LanguageModelError, match="environment variable STUB_KEY is not set"):
            model.check_key()
        with pytest.raises(LanguageModelError, match="STUB_KEY"):
            tw.wait(model.complete(HELLO))
    assert stub.requests == []
    assert model.spending.reserved == Usage()


def test_a_key_with_a_line_break_is_not_shown(make, monkeypatch):
    monkeypatch.setenv("STUB_KEY", f"{KEY}\nX-Other: 1")
    with Stub() as stub, pytest.raises(LanguageModelError, match="characters that no key has") as caught:
        tw.wait(make(stub, api_key_env="STUB_KEY").complete(HELLO))
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("host", ["192.0.2.1", "models.example.com", "127.0.0.1.example.com"])
def test_no_key_in_plain_text_to_another_machine(host):
    with pytest.raises(LanguageModelError, match="in plain text"):
        LanguageModel(f"http://{host}/v1", "m", api_key_env="K")
    assert LanguageModel(f"https://{host}/v1/", "m", api_key_env="K").base_url == f"https://{host}/v1"


@pytest.mark.parametrize("host", ["127.0.0.1:80", "127.1.2.3", "localhost:8080", "[::1]:80"])
def test_a_key_may_go_to_this_machine(host):
    LanguageModel(f"http://{host}/v1", "m", api_key_env="K")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"base_url": "ftp://x/v1"}, "base_url is"),
        ({"base_url": "localhost:8080"}, "base_url is"),
        ({"base_url": "http://127.0.0.1:99999/v1"}, "base_url is"),
        ({"base_url": None}, "base_url is None"),
        ({"base_url": "http://me:word@127.0.0.1/v1"}, "it is not shown here"),
        ({"model": " "}, "model's name"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"retries": -1}, "retries is -1"),
        ({"concurrency": True}, "concurrency is True"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"limit_key": "tokens"}, "limit_key is 'tokens'"),
        ({"extra": {"n": 2, "model": "y"}}, "extra has model, n"),
        ({"api_key_env": ""}, "api_key_env"),
        ({"api_key_env": "sk-word@"}, "api_key_env is no name of an environment variable .it is not shown here"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(LanguageModelError, match=words) as caught:
        LanguageModel(**{"base_url": "http://127.0.0.1/v1", "model": "m", **arguments})
    assert "word@" not in str(caught.value)


@pytest.mark.parametrize(
    "messages",
    [[], "hello", [{"role": "user"}], [{"role": "robot", "content": "x"}], [{"role": "user", "content": 1}], [None]],
)
def test_wrong_messages(make, messages):
    with Stub() as stub, pytest.raises(LanguageModelError):
        tw.wait(make(stub).complete(messages))
    assert stub.requests == []


# -- the budget ----------------------------------------------------------------------------


def test_the_bound_is_reserved_before_anything_is_sent(make):
    with Stub() as stub:
        model = make(stub, max_tokens=10, spending=Spending(tokens=101))
        with pytest.raises(SpendingError, match="budget of 101 tokens: 0 are used, and the next request may take 102"):
            tw.wait(model.complete(HELLO))
        assert stub.requests == []
        assert tw.wait(model.complete(said("good"))).text == "good"
        with pytest.raises(SpendingError):
            tw.wait(model.complete(said("good evening")))
    assert len(stub.requests) == 1


def test_money_is_counted_by_the_price_list(make):
    with Stub() as stub:
        spending = Spending(money=1.1, prices=Prices(prompt=1e4, completion=1e5))
        model = make(stub, max_tokens=1, spending=spending)
        tw.wait(model.complete(HELLO))
        assert spending.paid == pytest.approx(0.02 + 0.1)
        with pytest.raises(SpendingError, match=r"budget of 1\.1 in money"):
            tw.wait(model.complete(HELLO))


def test_a_request_waits_for_those_under_way_if_they_may_leave_enough(make):
    # Bounds of 101 each: two do not fit beside one another, and both fit one after the other.
    with Stub() as stub:
        model = make(stub, max_tokens=10, concurrency=4, spending=Spending(tokens=120))

        async def both():
            return await asyncio.gather(model.complete(said("one")), model.complete(said("two")))

        assert [answer.text for answer in tw.wait(both())] == ["one", "two"]
    assert stub.most_at_once == 1


def test_never_more_is_used_than_the_budget_allows(make):
    with Stub() as stub:
        model = make(stub, max_tokens=4, concurrency=8, spending=Spending(tokens=160))

        async def many():
            return await asyncio.gather(*(model.complete(said(f"word{i}")) for i in range(60)), return_exceptions=True)

        results = tw.wait(many())
    refused = [result for result in results if isinstance(result, SpendingError)]
    assert len(refused) + len(stub.requests) == 60
    assert refused
    assert model.spending.used.tokens == 2 * len(stub.requests) <= 160
    assert model.spending.reserved == Usage()


@pytest.mark.parametrize(
    "arguments", [{"tokens": 0}, {"tokens": 1.5}, {"money": 0.0}, {"money": float("inf")}, {"money": 1}]
)
def test_wrong_budgets(arguments):
    with pytest.raises(LanguageModelError):
        Spending(**arguments)


def test_wrong_prices():
    with pytest.raises(LanguageModelError, match="price of a million completion tokens is -1"):
        Prices(1.0, -1)


# -- many at once --------------------------------------------------------------------------


def test_no_more_at_once_than_told(make):
    with Stub(delay=0.01) as stub:
        model = make(stub, concurrency=3)

        async def many():
            return await asyncio.gather(*(model.complete(said(f"word {i}")) for i in range(20)))

        texts = [answer.text for answer in tw.wait(many())]
    assert texts == [f"{i} word" for i in range(20)]
    assert stub.most_at_once <= 3


def test_the_same_request_is_under_way_once(make):
    with Stub(delay=0.05) as stub:
        model = make(stub)

        async def many():
            return await asyncio.gather(*(model.complete(HELLO) for _ in range(5)), model.complete(HELLO, sample=1))

        answers = tw.wait(many())
    assert len(stub.requests) == 2
    assert [answer.cached for answer in answers] == [False, True, True, True, True, False]
    assert model.spending.used == Usage(4, 4)


def test_a_model_is_good_for_one_loop_after_another(make):
    with Stub() as stub:
        model = make(stub)
        texts = [asyncio.run(model.complete(said(f"a {i}"))).text for i in range(3)]
    assert texts == ["0 a", "1 a", "2 a"]


def test_within_async_with_connections_stay_open(make):
    with Stub() as stub:

        async def three():
            async with make(stub) as model:
                idle = model._endpoint.connections().idle
                clients = []
                for text in ("a", "b", "c"):
                    await model.complete(said(text))
                    clients += idle
                assert len(set(map(id, clients))) == 1
            assert clients[0].is_closed
            assert model._endpoint.connections().idle == []

        tw.wait(three())


def test_without_it_nothing_stays_open(make):
    with Stub() as stub:
        model = make(stub)

        async def two():
            await model.complete(said("a"))
            assert model._endpoint.connections().idle == []

        tw.wait(two())


@pytest.mark.parametrize("others", [0, 1])
def test_a_cancelled_request_counts_as_lost_unless_somebody_else_waits(make, tmp_path, others):
    with Stub(script=[Reply(hang=True)] if not others else [], delay=0.2) as stub:
        model = make(stub, cache=tmp_path)

        async def cancel():
            first = asyncio.ensure_future(model.complete(HELLO))
            rest = [asyncio.ensure_future(model.complete(HELLO)) for _ in range(others)]
            while not stub.requests:
                await asyncio.sleep(0.005)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert [answer.text for answer in await asyncio.gather(*rest)] == ["morning good"] * others
            return model.cache.lost()

        count, usage = tw.wait(cancel())
    assert (count, usage) == ((0, Usage()) if others else (1, model.most(HELLO, attempts=1)))
    assert model.spending.lost == count
    assert model.spending.reserved == Usage()
    model.close()


def test_who_asks_the_same_while_a_request_is_being_given_up_gets_an_answer(make, tmp_path):
    with Stub(delay=0.1) as stub:
        model = make(stub, cache=tmp_path)

        async def go():
            given_up = asyncio.ensure_future(model.complete(HELLO))
            while not stub.requests:
                await asyncio.sleep(0.001)
            given_up.cancel()
            await asyncio.sleep(0)  # it is being noted as lost, which takes the disk a while
            assert not given_up.done()
            answer = await model.complete(HELLO)
            with pytest.raises(asyncio.CancelledError):
                await given_up
            return answer, model.cache.lost()[0]

        answer, lost = tw.wait(go())
        model.close()
    assert answer.text == "morning good"
    assert (lost, model.counts.answered, len(stub.requests)) == (1, 1, 2)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_the_counts_agree(make, tmp_path, seed):
    """Random failures, cancellations and repeats: the budget is kept, and the disk has what was spent."""
    rng = np.random.default_rng(seed)
    kinds = [None, None, None, Reply(500), Reply(429), Reply(200, "no"), Reply(drop=True, content="x" * 99), Reply(404)]
    script = [kinds[int(rng.integers(len(kinds)))] for _ in range(300)]
    with Stub(script=script, delay=0.002) as stub:
        model = make(stub, retries=3, concurrency=5, cache=tmp_path, max_tokens=20, spending=Spending(tokens=7000))

        async def one(number, patience):
            with contextlib.suppress(LanguageModelError, asyncio.TimeoutError):
                return await asyncio.wait_for(model.complete(said(f"word {number}")), patience)

        async def many():
            numbers = [int(number) for number in rng.integers(0, 40, 120)]
            patience = [0.01 if rng.random() < 0.2 else 60.0 for _ in numbers]
            return numbers, await asyncio.gather(*map(one, numbers, patience))

        numbers, answers = tw.wait(many())
        (count, paid), (lost, bounds) = model.cache.paid(), model.cache.lost()
        assert model.spending.reserved == Usage()
        assert model.spending.used == paid + bounds
        assert model.spending.used.tokens <= 7000
        assert model.spending.lost == lost
        assert model.counts.answered == count
        model.close()
    assert all(
        answer is None or answer.text == f"{number} word" for number, answer in zip(numbers, answers, strict=True)
    )
    assert any(answers)
    with AnswerCache(tmp_path) as cache:  # nothing is left in flight
        assert cache.lost() == (lost, bounds)


# -- schemas -------------------------------------------------------------------------------

LABEL = {
    "type": "object",
    "properties": {"label": {"enum": ["Yes", "No"]}, "why": {"type": "string", "maxLength": 20}},
    "required": ["label"],
    "additionalProperties": False,
}


def answering(*texts):
    left = list(texts)
    return lambda body: left.pop(0)


def test_a_schema_is_sent_and_the_answer_validated(make):
    with Stub(answering('{"label": "Yes"}')) as stub:
        found = tw.wait(make(stub).structured(HELLO, LABEL))
    assert found.value == {"label": "Yes"}
    assert found.repairs == 0
    assert stub.requests[0]["response_format"]["json_schema"]["schema"] == LABEL
    assert stub.requests[0]["messages"] == HELLO


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ("Yes, certainly.", "it is not JSON"),
        ('{"label": "yes"}', "at label: 'yes' is not one of"),
        ('{"label": "Yes"', "it is not JSON"),
        ("{}", "'label' is a required property"),
        ('{"label": "Yes", "more": 1}', "Additional properties"),
        ('{"label": NaN}', "it is not JSON"),
        (r'{"label": "Yes \ud83d"}', r"the text 'Yes \ud83d' has half a character"),
        (r'{"label": "Yes", "\ud83d": 1}', r"the text '\ud83d' has half a character"),
        ('{"label": ' + "[" * 100 + "]" * 100 + "}", "lists and objects are nested more than 100 deep"),
        (f'{{"label": {2**1023}}}', "an integer of 1024 bits is too large"),
        ('{"label": [' + "0," * 1_000_000 + "0]}", "there are more than 1,000,000 values in it"),
    ],
    ids=lambda text: text[:12],
)
def test_what_does_not_fit_is_sent_back_once(make, bad, fault):
    with Stub(answering(bad, '{"label": "No"}')) as stub:
        model = make(stub)
        found = tw.wait(model.structured(HELLO, LABEL))
    assert found.value == {"label": "No"}
    assert found.repairs == 1
    assert model.counts.repaired == 1
    assert found.usage == model.spending.used
    messages = stub.requests[1]["messages"]
    assert messages[:2] == [*HELLO, {"role": "assistant", "content": bad}]
    assert fault in messages[2]["content"]


NUMBERS = {
    "type": "object",
    "properties": {
        "rate": {"type": "number", "multipleOf": 0.1, "minimum": 0, "maximum": 1},
        "count": {"type": "integer"},
    },
}


@pytest.mark.parametrize("tenths", range(11))
def test_multiples_are_those_of_numbers_as_they_are_written(make, tenths):
    with Stub(lambda body: json.dumps({"rate": tenths / 10})) as stub:
        found = tw.wait(make(stub).structured(HELLO, NUMBERS))
    assert found.value == {"rate": tenths / 10}
    assert found.repairs == 0


@pytest.mark.parametrize(
    ("bad", "fault"),
    [('{"rate": 0.35}', "0.35 is not a multiple of 0.1"), ('{"count": 1.0}', "1.0 is not of type 'integer'")],
)
def test_numbers_that_no_search_takes_are_sent_back(make, bad, fault):
    with Stub(answering(bad, '{"count": 1}')) as stub:
        assert tw.wait(make(stub).structured(HELLO, NUMBERS)).value == {"count": 1}
    assert fault in stub.requests[1]["messages"][2]["content"]


VALUES = [
    *(
        "Good.",
        "Good \ud83d.",
        {"\udc00": 1},
        {"a": ["\ud83d\ude00"]},
        2**1023 - 1,
        2**1023,
        -(2**1023),
        1e300,
        True,
        None,
    ),
    *(functools.reduce(lambda value, _: [value], range(deep), 0) for deep in (100, 101)),
    *([0] * length for length in (999_999, 1_000_000)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_an_answer_has_a_fault_where_no_search_takes_its_value(value):
    try:
        copy_json(value)
    except ValueMismatchError:
        assert value_fault(value) is not None
    else:
        assert value_fault(value) is None


def test_what_never_fits_is_an_error_that_says_what_it_cost(make):
    with Stub(lambda body: "no idea") as stub:
        model = make(stub, max_tokens=1)
        with pytest.raises(
            AnswerError, match=r"after 2 repairs: it is not JSON. It was 'no'. It was cut off"
        ) as caught:
            tw.wait(model.structured(HELLO, LABEL, repairs=2))
    assert len(stub.requests) == 3
    assert caught.value.details["usage"] == model.spending.used


@pytest.mark.parametrize("broken", [Reply(503), Reply(drop=True)], ids=["refused", "broke off"])
def test_a_repair_without_an_answer_is_an_error_that_says_what_all_of_it_cost(make, broken):
    with Stub(lambda body: "no idea", script=[None, broken]) as stub:
        model = make(stub, retries=0)
        with pytest.raises(LanguageModelError) as caught:
            tw.wait(model.structured(HELLO, LABEL))
    assert len(stub.requests) == 2
    assert caught.value.details["usage"] == model.spending.used != Usage()


def test_who_waits_for_the_same_request_that_breaks_off_is_charged_what_it_has_paid_itself(make):
    """Five of them share two requests: an answer that does not fit, and its repair, which breaks off."""
    with Stub(lambda body: "no idea", script=[None, Reply(drop=True)]) as stub:
        model = make(stub, retries=0)

        async def many():
            return await asyncio.gather(*(model.structured(HELLO, LABEL) for _ in range(5)), return_exceptions=True)

        errors = tw.wait(many())
    assert len(stub.requests) == 2
    assert [error.details["usage"] for error in errors] == [model.spending.used] * 5
    assert len(set(map(id, errors))) == 5


def test_a_server_that_knows_no_schemas_gets_it_in_words(make):
    def answer(body):
        return '```json\n{"label": "Yes", "why": "so"}\n```'

    with Stub(answer, script=[Reply(400, {"error": {"message": "unknown field response_format"}})]) as stub:
        model = make(stub)
        first, second = (tw.wait(model.structured(said(text), LABEL)) for text in ("a", "b"))
    assert first.value == second.value == {"label": "Yes", "why": "so"}
    assert ["response_format" in body for body in stub.requests] == [True, False, False]
    assert json.dumps(LABEL) in stub.requests[1]["messages"][-1]["content"]


BROKEN = Reply(drop=True, content="x" * 1000)
NO_SCHEMAS = Reply(400, {"error": {"message": "unknown field response_format"}})


@pytest.mark.parametrize("broken", [[], [BROKEN]], ids=["at once", "after it broke off"])
def test_what_a_server_without_schemas_has_answered_is_there_when_it_is_down(make, tmp_path, broken):
    async def all_of(model):
        return [await model.structured(said(text), LABEL) for text in ("a", "b", "c")]

    with Stub(lambda body: '{"label": "Yes"}', script=[*broken, NO_SCHEMAS]) as stub:
        model = make(stub, cache=tmp_path)
        found = tw.wait(all_of(model))
        model.close()
        assert ["response_format" in body for body in stub.requests] == [*([True] * len(broken)), True, *[False] * 3]
    later = LanguageModel("http://127.0.0.1:9/v1", "stub", retries=0, cache=tmp_path)
    again = tw.wait(all_of(later))
    assert [one.value for one in again] == [one.value for one in found]
    assert [one.usage for one in again] == [one.usage for one in found]
    assert sum((one.usage for one in found), Usage()) == model.spending.used
    assert later.counts.cached == 3
    assert later.counts.sent == 0
    later.close()


def test_an_answer_to_a_schema_in_words_is_none_to_one_that_was_not_refused(make, tmp_path):
    """Who has the server constrain answers from now on gets constrained ones."""
    with Stub(answering('{"label": "Yes"}', '{"label": "No"}')) as stub:
        first, second = make(stub, cache=tmp_path, constrain=False), make(stub, cache=tmp_path)
        assert tw.wait(first.structured(HELLO, LABEL)).value == {"label": "Yes"}
        assert tw.wait(second.structured(HELLO, LABEL)).value == {"label": "No"}
        first.close()
        second.close()


def test_an_answer_in_words_of_before_stands_for_a_request_that_is_refused_now(make, tmp_path):
    with Stub(lambda body: '{"label": "Yes"}', script=[None, BROKEN, NO_SCHEMAS]) as stub:
        first, second = make(stub, cache=tmp_path, constrain=False), make(stub, cache=tmp_path)
        before = tw.wait(first.structured(HELLO, LABEL)).usage
        assert tw.wait(second.structured(HELLO, LABEL)).usage == before + second.spending.used
        assert second.spending.lost == 1
        assert len(stub.requests) == 3
        first.close()
        second.close()
    later = LanguageModel("http://127.0.0.1:9/v1", "stub", retries=0, cache=tmp_path)
    assert tw.wait(later.structured(HELLO, LABEL)).value == {"label": "Yes"}
    later.close()


def test_a_constrained_answer_on_the_disk_is_taken_also_after_the_server_has_refused_a_schema(make, tmp_path):
    with Stub(answering('{"label": "Yes"}', '{"label": "No"}'), script=[None, NO_SCHEMAS, None]) as stub:
        first, second = make(stub, cache=tmp_path), make(stub, cache=tmp_path)
        tw.wait(first.structured(said("a"), LABEL))
        tw.wait(second.structured(said("b"), LABEL))
        assert tw.wait(second.structured(said("a"), LABEL)).value == {"label": "Yes"}
        assert len(stub.requests) == 3
        first.close()
        second.close()


def test_what_was_lost_before_the_budget_refuses_another_attempt_is_said(make):
    with Stub(script=[BROKEN]) as stub:
        model = make(stub, max_tokens=10)
        most = model.most(HELLO, attempts=1)
        model = make(stub, max_tokens=10, spending=Spending(tokens=most.tokens + 1))
        with pytest.raises(SpendingError) as caught:
            tw.wait(model.complete(HELLO))
    assert caught.value.details["usage"] == model.spending.used == most


@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param([BROKEN, NO_SCHEMAS], None, id="answered"),
        pytest.param([BROKEN, NO_SCHEMAS, NO_SCHEMAS], EndpointError, id="refused again"),
        pytest.param([BROKEN, NO_SCHEMAS, BROKEN], EndpointError, id="broke off again"),
        pytest.param([BROKEN, NO_SCHEMAS, Reply(200, "<html>")], AnswerError, id="no answer"),
    ],
)
def test_what_broke_off_before_a_schema_was_refused_is_charged_and_within_the_bound(make, script, error):
    with Stub(lambda body: '{"label": "Yes"}', script=script) as stub:
        model = make(stub, paid_retries=1, retries=3)
        most = model.most_structured(HELLO, LABEL, repairs=0)
        if error is None:
            used = tw.wait(model.structured(HELLO, LABEL, repairs=0)).usage
        else:
            with pytest.raises(error) as caught:
                tw.wait(model.structured(HELLO, LABEL, repairs=0))
            used = caught.value.details["usage"]
        assert len(stub.requests) == 3
    assert used == model.spending.used
    assert model.spending.lost == 1 + (script[2:] not in ([], [NO_SCHEMAS]))
    assert used.tokens <= most.tokens


def test_a_refusal_for_another_reason_is_shown(make):
    script = [Reply(400, {"error": {"message": "too long"}})] * 2
    with Stub(script=script) as stub, pytest.raises(EndpointError, match="too long"):
        tw.wait(make(stub).structured(HELLO, LABEL))


def test_a_schema_that_is_none(make):
    with Stub() as stub, pytest.raises(LanguageModelError, match="schema of the answer is none"):
        tw.wait(make(stub).structured(HELLO, {"type": "objekt"}))
    assert stub.requests == []


def test_the_bound_of_a_structured_answer_covers_its_repairs(make):
    with Stub(lambda body: "word " * 50, usage=False) as stub:
        model = make(stub, max_tokens=30)
        most = model.most_structured(HELLO, LABEL, attempts=1)
        assert model.most_structured(HELLO, LABEL) == most.times(5)
        with contextlib.suppress(AnswerError):
            tw.wait(model.structured(HELLO, LABEL))
    assert model.spending.used.prompt <= most.prompt
    assert model.spending.used.completion <= most.completion == 60


def test_sample_numbers_are_drawn_apart(make, tmp_path):
    rng = np.random.default_rng(0)
    with Stub(lambda body: str(rng.random())) as stub:
        model = make(stub, temperature=1.0, cache=tmp_path)
        drawn = [tw.wait(model.complete(HELLO, sample=k)).text for k in (0, 1, 2, 1, 0)]
    assert len(set(drawn)) == 3
    assert drawn[0] == drawn[4]
    assert drawn[1] == drawn[3]
    model.close()
