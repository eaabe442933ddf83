"""Getting an answer at most once: from the disk, from the same request under way, or from the server within the budget.

::

    on disk already?                              the answer, for nothing
    under way already?                            that one's answer
    wait for one of `concurrency` places
      reserve its bound from the budget           refused: nothing is sent
      note on disk that it is under way
      send ──> answer       settle, keep on disk
           ──> failed       release, or count its bound as lost; wait, try again

The wait before attempt k + 1 is ``first_delay · 2ᵏ · u``, with u uniform in [0.5, 1.5) from a generator seeded by
``seed``, the request and k, so that it does not depend on timing; and at least what the server asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.errors import LanguageModelError
from thalweg.graph.finishing import to_the_end
from thalweg.lm.answers import Answer
from thalweg.lm.before_paying import BEFORE_PAYING
from thalweg.lm.cache import AnswerCache, flight_name
from thalweg.lm.checking import integer, number
from thalweg.lm.endpoint import Endpoint
from thalweg.lm.exchange import Failed, exchange
from thalweg.lm.requests import most_usage, request_key
from thalweg.lm.spending import Spending, Usage

if TYPE_CHECKING:
    import httpx

LONGEST_DELAY = 60.0
"""s before an attempt, at most; a server that asks for more is not waited for."""


@dataclass
class Counts:
    """What happened to requests, in this process.

    Args:
        sent: attempts that went out.
        answered: answers that came.
        cached: answers from the disk.
        shared: requests that were under way already for somebody else.
        retried: attempts after the first.
        repaired: answers that did not fit their schema and were sent back.
    """

    sent: int = 0
    answered: int = 0
    cached: int = 0
    shared: int = 0
    retried: int = 0
    repaired: int = 0


@dataclass(frozen=True)
class Refused:
    """A request that a server refused, so that another one stands for it.

    Args:
        key: of the request.
        lost: the bounds of attempts that broke off before it was refused.
        charged: how many these were.
    """

    key: str
    lost: Usage = field(default_factory=Usage)
    charged: int = 0


@dataclass(eq=False)
class _Flight:
    """A request under way, and how many wait for it."""

    task: asyncio.Task[Answer]
    waiting: int = 0


@dataclass(eq=False)
class _Here:
    """What belongs to one event loop."""

    places: asyncio.Semaphore
    flights: dict[str, _Flight] = field(default_factory=dict)

    def end(self, key: str, flight: _Flight, _: object = None) -> None:
        """Nobody joins this flight any more."""
        if self.flights.get(key) is flight:
            del self.flights[key]


class Payer:
    """Gets answers, and keeps them.

    Args:
        endpoint: the server.
        retries: how many attempts may follow the first.
        paid_retries: how many of these may follow one that may have been paid for.
        first_delay: s before the second attempt.
        seed: of the waits.
        spending: the budget.
        cache: where answers are kept, or None.
        sleep: awaited with the s before another attempt.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        retries: int,
        paid_retries: int,
        first_delay: float,
        seed: int,
        spending: Spending,
        cache: AnswerCache | str | os.PathLike[str] | None,
        sleep: Callable[[float], Awaitable[Any]],
    ) -> None:
        self.endpoint = endpoint
        self.retries = integer(retries, "retries", least=0)
        self.paid_attempts = 1 + min(integer(paid_retries, "paid_retries", least=0), self.retries)
        self.first_delay = number(first_delay, "first_delay", least=0.0, unit=" s")
        self.seed = seed
        self.spending = spending
        self.counts = Counts()
        self._sleep = sleep
        self._given_cache = cache
        self._cache: AnswerCache | None = cache if isinstance(cache, AnswerCache) else None
        self._opening = threading.Lock()  # held while the cache is opened, so not by the event loop
        self._lock = threading.Lock()
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Here] = weakref.WeakKeyDictionary()

    @property
    def cache(self) -> AnswerCache | None:
        """Where answers are kept; opened when it is first needed. None if they are not kept.

        Raises:
            LanguageModelError: the folder cannot be used.
            CheckpointCorruptError: its file is damaged.
        """
        with self._opening:
            if self._cache is None and self._given_cache is not None:
                assert not isinstance(self._given_cache, AnswerCache)
                self._cache = AnswerCache(self._given_cache)
            return self._cache

    def close(self) -> None:
        """Give the cache back, if this object opened it."""
        with self._opening:
            if self._cache is not None and not isinstance(self._given_cache, AnswerCache):
                self._cache.close()
                self._cache = None

    async def kept(self, body: dict[str, Any], sample: int) -> Answer | None:
        """The answer of a request, if it is on the disk."""
        await self._open()
        return self._kept(request_key(body, sample))

    async def ask(self, body: dict[str, Any], sample: int, limit: int, *, instead_of: Refused | None = None) -> Answer:
        """The answer of a request: from the disk, from the same request under way, or from the server.

        Args:
            body: the request's JSON.
            sample: which draw it is.
            limit: the most tokens of the answer.
            instead_of: a request for the same answer, in other words, that was refused. What was lost with it belongs
                to the answer, so many fewer attempts may be paid for, and the answer is kept as that one's, too.
        """
        key = request_key(body, sample)
        here = self._here()
        await self._open()
        flight = here.flights.get(key)
        if flight is None:
            kept = self._kept(key)
            if kept is not None:
                return kept if instead_of is None else await self._standing_for(instead_of, key, kept)
            task = asyncio.ensure_future(self._pay(body, key, most_usage(body, limit), here, instead_of))
            flight = here.flights[key] = _Flight(task)
            task.add_done_callback(partial(here.end, key, flight))
            first = True
        else:
            first = False
        flight.waiting += 1
        try:
            answer = await asyncio.shield(flight.task)
        except LanguageModelError as error:
            # Several may wait for it, and each adds what it had paid before: one of its own for each.
            raise type(error)(str(error), **error.details) from error.__cause__
        except asyncio.CancelledError:
            if flight.waiting == 1 and not flight.task.done():
                # Nobody wants it any more. It is counted as lost before the cancellation goes on; whoever asks the same
                # from here on sends a request of its own.
                here.end(key, flight)
                flight.task.cancel()
                await asyncio.wait({flight.task})
                if not flight.task.cancelled():
                    flight.task.exception()  # taken note of: nobody else will
            raise
        finally:
            flight.waiting -= 1
        if first:
            return answer
        self.counts.shared += 1
        return answer.again()

    async def _open(self) -> None:
        if self._given_cache is not None and self._cache is None:
            await asyncio.to_thread(lambda: self.cache)  # opening it looks at all of it

    def _kept(self, key: str) -> Answer | None:
        kept = self.cache.get(key) if self.cache is not None else None
        self.counts.cached += kept is not None
        return kept

    async def _standing_for(self, refused: Refused, key: str, kept: Answer) -> Answer:
        """An answer that was on the disk already, as that of a refused request, too."""
        assert self.cache is not None
        await to_the_end(self.cache.stand_in(key, refused.key))
        return replace(kept, lost=kept.lost + refused.lost)

    async def _pay(
        self, body: dict[str, Any], key: str, most: Usage, here: _Here, instead_of: Refused | None
    ) -> Answer:
        lost, paid = (instead_of.lost, instead_of.charged) if instead_of is not None else (Usage(), 0)
        stands_for = instead_of.key if instead_of is not None else None
        async with here.places, self.endpoint.connections().open() as client:
            for attempt in range(self.retries + 1):
                try:
                    outcome = await self._attempt(client, body, key, most, lost, stands_for)
                except LanguageModelError as error:
                    error.details["usage"] = lost
                    raise
                if isinstance(outcome, Answer):
                    return outcome
                lost += most if outcome.charged else Usage()
                paid += outcome.charged
                delay = self._delay(key, attempt, outcome)
                if attempt == self.retries or paid == self.paid_attempts or delay is None:
                    raise _after(outcome.error, attempt + 1, outcome.wait, lost, paid)
                self.counts.retried += 1
                await self._sleep(delay)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(
        self,
        client: httpx.AsyncClient,
        body: dict[str, Any],
        key: str,
        most: Usage,
        lost: Usage,
        stands_for: str | None,
    ) -> Answer | Failed:
        secret = self.endpoint.key()
        cache = self.cache
        reservation = await self.spending.reserve(most)
        flight = flight_name()
        try:
            await to_the_end(self._noted(key, most, flight))
        except BaseException:
            reservation.release()
            with contextlib.suppress(LanguageModelError):  # what was raised first says more
                if cache is not None:
                    await to_the_end(cache.end(flight))
            raise
        self.counts.sent += 1
        try:
            outcome = await exchange(
                client,
                self.endpoint.url,
                body,
                key=secret,
                key_env=self.endpoint.api_key_env,
                timeout=self.endpoint.timeout,
                most=most,
            )
        except BaseException:
            reservation.lose()
            if cache is not None:
                await to_the_end(cache.lose(flight))
            raise
        if isinstance(outcome, Answer):
            reservation.settle(outcome.usage)
            self.counts.answered += 1
            answer = replace(outcome, lost=lost)
            if cache is None:
                return answer
            return await to_the_end(cache.keep(flight, key, answer, stands_for=stands_for))
        if outcome.charged:
            reservation.lose()
        else:
            reservation.release()
        if cache is not None:
            await to_the_end(cache.lose(flight) if outcome.charged else cache.end(flight))
        return outcome

    async def _noted(self, key: str, most: Usage, flight: str) -> None:
        """Have it on the disk that a request may be paid for: with the answers, and in the caller's books."""
        cache, before = self.cache, BEFORE_PAYING.get()
        notes = [cache.begin(key, most, flight=flight)] if cache is not None else []
        for outcome in await asyncio.gather(
            *notes, *([before()] if before is not None else []), return_exceptions=True
        ):
            if isinstance(outcome, BaseException):
                raise outcome

    def _delay(self, key: str, attempt: int, outcome: Failed) -> float | None:
        """s before the next attempt; None if there is to be none."""
        if not outcome.again or outcome.wait > LONGEST_DELAY:
            return None
        rng = np.random.default_rng([self.seed, int(key[:16], 16), attempt])
        delay = min(self.first_delay * 2.0**attempt * rng.uniform(0.5, 1.5), LONGEST_DELAY)
        return max(float(delay), outcome.wait)

    def _here(self) -> _Here:
        loop = asyncio.get_running_loop()
        with self._lock:
            return self._loops.setdefault(loop, _Here(asyncio.Semaphore(self.endpoint.concurrency)))


def _after(error: LanguageModelError, attempts: int, wait: float, lost: Usage, paid: int) -> LanguageModelError:
    """The error, with how often it was tried, and what that may have cost."""
    text = str(error)
    if wait > LONGEST_DELAY:
        text += f" (It asks to wait {wait:,.0f} s, which is more than the {LONGEST_DELAY:g} s that are waited at most.)"
    if attempts > 1:
        text += f" (Tried {attempts} times.)"
    return type(error)(text, **{**error.details, "attempts": attempts, "usage": lost, "charged_attempts": paid})
