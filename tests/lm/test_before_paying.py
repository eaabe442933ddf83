"""A request waits for the books of its caller."""

import asyncio

import pytest

import thalweg as tw
from thalweg.errors import RunError
from thalweg.lm import AnswerCache, LanguageModel, Spending
from thalweg.lm.before_paying import BEFORE_PAYING
from thalweg.lm.stub import Stub

HELLO = [{"role": "user", "content": "good morning"}]


def test_a_request_is_not_sent_before_its_caller_has_noted_it(tmp_path):
    async def ask(model):
        gate = asyncio.Event()
        BEFORE_PAYING.set(gate.wait)
        asked = asyncio.ensure_future(model.complete(HELLO))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert stub.requests == []
        assert not asked.done()
        gate.set()
        await asked
        BEFORE_PAYING.set(asyncio.Event().wait)
        assert (await model.complete(HELLO)).cached, "what is not paid for waits for nobody"

    with Stub() as stub:
        tw.wait(ask(LanguageModel(stub.url, "m", cache=tmp_path)))
        assert len(stub.requests) == 1


def test_books_that_cannot_be_kept_stop_the_request(tmp_path):
    spending = Spending(tokens=10_000)

    async def broken():
        raise RunError("the disk is full")

    async def ask(model):
        BEFORE_PAYING.set(broken)
        with pytest.raises(RunError, match="the disk is full"):
            await model.complete(HELLO)

    with Stub() as stub:
        tw.wait(ask(LanguageModel(stub.url, "m", cache=tmp_path, spending=spending)))
        assert stub.requests == []
    assert spending.used.tokens == spending.reserved.tokens == spending.lost == 0
    with AnswerCache(tmp_path) as cache:
        assert cache.lost()[0] == 0
