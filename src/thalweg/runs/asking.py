"""Asking an engine that pays for it: a job like an evaluation, so that it is paid for once and within the budget.

::

    known already              the engine is asked again, and its model answers from the disk, for nothing. What broke
                               off is not there: it is sent again if the budget pays for the bound once more, with
                               a row of its own; if not, there is no answer to it
    the budget refuses         nothing is asked
    a row that it has begun, on the disk  ──>  ask  ──>  its end, with what it has cost; charged

What is asked depends on the state of the search, so its digest is the key. A process that dies in between leaves a row
that has begun: it is charged with the most that it can have cost, and asked again, as :mod:`thalweg.runs.ledger` says.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

from thalweg.checkpoints.shared import Shared
from thalweg.errors import SpendingError
from thalweg.runs.history import HistoryWriter
from thalweg.runs.ledger import ASK, Job, Ledger
from thalweg.search.budget import Spent
from thalweg.search.ready import Search
from thalweg.search.trials import Trial
from thalweg.search.values import digest_json


class Asking:
    """Asks for the candidates of one run.

    Args:
        search: whose engine is asked.
        ledger: what is known, and the budget.
        history: where it is written that it may be paid for.
        fingerprint: a digest of what else decides a reward.
        kept: what must be left over for the final choice.
    """

    def __init__(
        self,
        search: Search,
        ledger: Ledger,
        history: HistoryWriter,
        *,
        fingerprint: str,
        kept: Callable[[], Spent],
    ) -> None:
        self._search = search
        self._ledger = ledger
        self._history = history
        self._fingerprint = fingerprint
        self._kept = kept
        self._flushed = Shared()

    async def candidates(self, iteration: int) -> tuple[list[Trial], str | None]:
        """The candidates of the next iteration, and why the budget does not pay for asking, or None.

        Cancelled once it waits for the answers, which are kept; cancelled again it gives them up.

        Args:
            iteration: of the run, from 1.
        """
        search, ledger = self._search, self._ledger
        most = search.most_propose()
        if search.waiting:
            ledger.use_asked(iteration)
        if not (most.tokens or most.money):
            return await search.propose(), None
        job = self._job()
        known = row = ledger.found(job)
        if row is None:
            count, reason = ledger.affordable([(job, most)], {job.place: self._kept()})
            if not count:
                return [], reason
            row = ledger.begin(job, iteration, ASK, most)
            await self._flushed(self._history.flush)  # before anything is paid for it is there that it may have been

        async def noted() -> None:
            """Something is about to be paid for although the answers were there: it had broken off."""
            nonlocal row
            if row is known:
                reason = ledger.limits.refusal(ledger.paid, most, self._kept())
                if reason is not None:
                    raise SpendingError(f"{reason}. It had broken off, and is not sent again.")
                row = ledger.begin(job, iteration, ASK, most)
            await self._flushed(self._history.flush)

        before, paid_before = search.spent, search.paid
        trials, cancelled = await self._patiently(noted if known is not None else None)
        if row is not known:
            earlier, later = (before, search.spent) if known is None else (paid_before, search.paid)
            tokens, money = later.tokens - earlier.tokens, later.money - earlier.money
            ledger.end(replace(row, status="done", reward=0.0, tokens=tokens, money=money))
        ledger.use(job, iteration)
        if cancelled is not None:
            raise cancelled
        return trials, None

    def _job(self) -> Job:
        state = hashlib.blake2b(self._search.state().arrays["search"].tobytes(), digest_size=32).hexdigest()
        return Job(self._search.asked, digest_json([ASK, self._fingerprint, state]), {}, 0)

    async def _patiently(
        self, noted: Callable[[], Awaitable[None]] | None
    ) -> tuple[list[Trial], asyncio.CancelledError | None]:
        async def propose() -> list[Trial]:
            if noted is not None:
                self._search.engine.pays_after(noted)
            return await self._search.propose()

        task = asyncio.ensure_future(propose())
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                if cancelled is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    raise
                cancelled = error
        return task.result(), cancelled
