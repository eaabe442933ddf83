"""The workers of a cluster: which are there, which are alive, and whether they would compute the same bits.

A scheduler waits for ever for a cluster without workers. So it is asked, while a call goes on, when a worker last gave
a sign of life: a queue that has not given one yet is waited for, workers that were there and are silent are an error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from thalweg.errors import RunError
from thalweg.runtime import onworker
from thalweg.runtime.identity import differences, identity, refusal, unknown

_NAMED = 4  # workers that one note names


@dataclass
class Crew:
    """What is known of the workers, over all calls.

    Args:
        client: Dask's client.
        token: what the names of all keys hold.
        patience: s without a sign of life after which the workers count as dead; a single one after half of it.
        note: told what a person at the terminal should know.
    """

    client: Any
    token: str
    patience: float
    note: Callable[[str], None]
    identity: dict[str, str] = field(default_factory=identity)
    admitted: set[str] = field(default_factory=set)
    threads: int = 0
    present: dict[str, str] = field(default_factory=dict)  # what to call those of the latest survey, by address
    alive: float | None = None  # when a worker last gave a sign of life; None before the first one
    calls: int = 0  # that go on
    waiting: bool = False
    paused: bool = False

    async def begin(self) -> list[str]:
        """As :meth:`survey`, for a call that begins, and ends with :meth:`end`: where there was none before, who was
        silent had nothing to do, and is waited for as long as anybody.
        """
        if self.alive is not None and not self.calls:
            self.alive = time.monotonic()
        self.calls += 1
        return await self.survey()

    def end(self) -> None:
        """A call has ended."""
        self.calls -= 1

    async def survey(self) -> list[str]:
        """Ask the scheduler who is there; returns the workers' addresses.

        Raises:
            RunError: all workers are dead, the scheduler does not answer, or a worker would compute other bits.
        """
        if self.client.status != "running":  # Dask would try to reach it again, and then know nothing of our work
            raise self.lost()
        try:
            question = self.client.run_on_scheduler(onworker.attend, self.token, self.patience / 2)
            found = await asyncio.wait_for(question, self.patience)
        except (OSError, TimeoutError) as error:  # Dask's errors of connections are OSErrors
            raise self.lost() from error
        self.threads = found["threads"]
        now = time.monotonic()
        if found["age"] is not None:
            self.alive = max(self.alive or 0.0, now - found["age"])
        elif self.alive is None and found["lost"]:  # it came and died between two surveys
            self.alive = now
        for address in found["removed"]:
            self.note(f"the worker {address} has been silent for {self.patience / 2:g} s; its items are computed again")
        known = {*found["workers"], *found["removed"]}
        if gone := [who for address, who in self.present.items() if address not in known]:
            named = ", ".join(gone[:_NAMED]) + (f" and {len(gone) - _NAMED} more" if len(gone) > _NAMED else "")
            are, they = ("is", "it") if len(gone) == 1 else ("are", "they")
            self.note(f"{named} {are} gone; what {they} had not finished is computed again")
        self.present = found["workers"]
        if self.alive is None:
            if not self.waiting:
                self.note("no worker yet: waiting until the cluster gives one (Ctrl-C stops waiting)")
            self.waiting = True
        elif now - self.alive > self.patience:
            raise RunError(
                f"All workers died: for {self.patience:g} s none has given a sign of life. Look into their logs (often "
                "they had too little memory, or their time in the queue was over), start workers, and resume the run. "
                "Where workers come back by themselves after a longer time, set runtime.patience to more than that."
            )
        elif found["workers"]:
            if self.waiting:
                self.note(f"workers have come: {len(found['workers'])}")
            self.waiting = False
        paused = bool(found["workers"]) and found["paused"] == len(found["workers"])
        if paused and not self.paused:
            self.note("all workers have paused, since their memory is nearly full; give them more, or fewer threads")
        self.paused = paused
        await self._admit(set(found["workers"]))
        return list(found["workers"])

    async def _admit(self, workers: set[str]) -> None:
        """Refuse workers that would compute other bits. Each item looks again: one may come in between."""
        new = workers - self.admitted
        if not new:
            return
        ask = self.client.run(onworker.report, workers=list(new), on_error="return")
        try:
            answers: dict[str, Any] = await asyncio.wait_for(ask, self.patience)
        except (OSError, TimeoutError):
            return  # one of them is gone, or stopped; the next survey knows
        for address, answer in answers.items():
            if isinstance(answer, (OSError, ValueError)):  # as Dask says that it has gone
                continue
            if isinstance(answer, Exception):
                raise RunError(unknown(address, answer), worker=address) from answer
            differing = differences(self.identity, answer)
            if differing:
                raise RunError(refusal(address, differing), worker=address, differences=differing)
            self.admitted.add(address)

    def lost(self) -> RunError:
        """The error of a scheduler that is not there any more."""
        return RunError(
            "The connection to the Dask scheduler is lost: it has ended, or it does not answer. What was being "
            "computed is lost with it. Start the scheduler again and resume the run, or go on elsewhere: "
            "thalweg resume RUN --scheduler ADDRESS, or --threads N."
        )
