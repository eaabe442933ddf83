"""Worker processes of this machine, each of which comes back however often it dies.

::

    this process                                     processes
    scheduler
    OwnWorkers ── nanny 0 ─ starts, waits for ────── worker 0
               └─ nanny 1 ─ starts, waits for ────── worker 1

A nanny is an object of Dask's that starts a process again when it has died. Two things are done here, not by Dask:

- Dask closes the nanny of a lost worker: it looks 15 s after each death (``distributed.deploy.lost-worker-timeout``)
  whether a worker of that name is there at that moment. One that came back, and happens to be dead again just then, or
  that takes longer to start, is gone for good. That is meant for jobs in a queue; here no nanny is closed.
- A nanny may end by itself: its process could not be started, or its worker told it that they both end. Dask never
  replaces one. Here they are looked at every :data:`LOOK` seconds, and a new one begins in the place of one that ended.

Closing has its own side of it: Dask waits until a process has started before it ends it, and lets it live if that takes
too long. Here one that is starting is killed at once, and each that is left when the time is up.

So no death is the last one, and a machine on which no process lives starts one after the other. Who waits for a result
must not wait for ever: :class:`thalweg.runtime.crew.Crew` ends with an error when no worker has given a sign of
life for its patience, and Dask gives an item up that was on four workers when they died.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import dask
from distributed import LocalCluster, Nanny
from distributed.core import Status
from distributed.deploy.cluster import Cluster
from tornado.ioloop import PeriodicCallback

LOOK = 2.0  # s between two looks at the nannies
ENDING = 5.0  # s for the rest when every process has been killed
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), 1)


class OneThread(Nanny):
    """A nanny whose process has the limits of threads before it imports anything."""

    def __init__(self, *args: Any, **options: Any) -> None:
        before = dask.config.get("distributed.nanny.pre-spawn-environ", {})
        with dask.config.set({"distributed.nanny.pre-spawn-environ": {**before, **ONE_THREAD}}):
            super().__init__(*args, **options)


class OwnWorkers(LocalCluster):
    """A scheduler in this process, and worker processes that listen on 127.0.0.1 only and do one item at a time.

    Args:
        count: how many processes.
        note: told what keeps a process from being started, once for each kind of error.

    Raises:
        RuntimeError: a process ended before it had begun.
    """

    def __init__(self, count: int, note: Callable[[str], None]) -> None:
        self._note = note
        self._noted: set[str] = set()
        self._end = math.inf  # the moment from which nothing is waited for
        super().__init__(
            n_workers=count,
            threads_per_worker=1,
            worker_class=OneThread,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,  # as threads have none; Dask's would stop a process that simulates
            preload=["thalweg.runtime.onworker"],
            silence_logs=logging.CRITICAL,
        )
        assert self.loop is not None
        self.loop.add_callback(self._watch)

    def _watch(self) -> None:
        look = self.periodic_callbacks["replace"] = PeriodicCallback(self._replace, 1e3 * LOOK)  # stopped by Dask
        look.start()

    def _update_worker_status(self, op: str, msg: Any) -> None:
        """Keep the list of workers, and close no nanny: skip what SpecCluster adds to this."""
        Cluster._update_worker_status(self, op, msg)

    def close(self, timeout: float | None = None) -> Any:
        """Close; processes that are left after ``timeout`` seconds are killed, which ends whatever waits for them."""
        if timeout is not None:
            self._end = time.monotonic() + timeout
        return super().close()

    async def _close(self) -> None:
        """Close as Dask does; no process is waited for that is only starting, and none stays behind."""
        closing = asyncio.ensure_future(super()._close())
        try:
            while not closing.done() and time.monotonic() < self._end + ENDING:
                if time.monotonic() > self._end:
                    self._kill_all()
                for nanny in list(self._created):
                    if nanny.process is not None and nanny.process.status.name == "starting":
                        _kill(nanny)
                await asyncio.wait({closing}, timeout=0.1)
        finally:
            self._kill_all()
            if not closing.done():
                closing.cancel()
                self.status = Status.closed
        if closing.done():
            await closing

    def _kill_all(self) -> None:
        for nanny in list(self._created):
            if nanny.pid is not None:
                nanny.close_gracefully()  # so that it starts no other one
                _kill(nanny)

    async def _replace(self) -> None:
        """Begin a new nanny in the place of each that has ended."""
        if self.status.name != "running":
            return
        try:
            for name, nanny in list(self.workers.items()):
                if nanny.status.name != "running":
                    del self.workers[name]
                    await nanny.close()  # until its process is gone: two workers cannot have one name
            if self.worker_spec.keys() - self.workers.keys():
                await self._correct_state()
        except Exception as error:  # whatever keeps a process from being started; it is tried again
            why = error.__cause__ or error
            kind = type(why).__name__  # its text may differ each time, with a port in it
            if kind not in self._noted and self.status.name == "running":
                self._note(f"a worker process cannot be started: {kind}: {why}")
            self._noted.add(kind)


def _kill(nanny: Nanny) -> None:
    if nanny.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(nanny.pid, signal.SIGKILL)
