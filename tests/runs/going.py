"""Runs that are stopped and go on, for the tests: what they do, and what they must agree in."""

import asyncio
import hashlib
import json

import pytest

from thalweg.checkpoints import CheckpointStore
from thalweg.graph import wait
from thalweg.runs import History, QuietDisplay, Run, Study


class Stopping(QuietDisplay):
    """Cancels the run when an iteration was made."""

    def __init__(self, iteration):
        self.iteration_to_stop = iteration

    def iteration(self, record):
        if record.iteration == self.iteration_to_stop:
            self.task.cancel()


class Doing(QuietDisplay):
    """Does something when an iteration was made."""

    def __init__(self, iteration, work):
        self._at, self._work = iteration, work

    def iteration(self, record):
        if record.iteration == self._at:
            self._work()


def run(document, kinds, out, *overrides, display=None):
    study = Study.from_document(document, kinds=kinds, overrides=overrides)
    return wait(Run(study, out=out, display=display).execute())


def stop_after(document, kinds, out, iteration):
    display = Stopping(iteration)
    return stopped(Run(Study.from_document(document, kinds=kinds), out=out, display=display), display)


def stopped(session, display):
    """What a run came to that its display has cancelled: ``display.task`` is the run's."""

    async def work():
        display.task = asyncio.ensure_future(session.execute())
        with pytest.raises(asyncio.CancelledError):
            await display.task
        return session.outcome

    return wait(work())


def go_on(out, kinds, *overrides, display=None):
    return wait(Run.resume(out, overrides=overrides, kinds=kinds, display=display).execute())


def fingerprint(folder):
    """Digests of what a run is: model, optimizer's state, selection, and the history without times."""
    arrays, meta, _ = CheckpointStore(folder / "checkpoints").load()
    state = hashlib.blake2b(digest_size=16)
    for name, array in sorted(arrays.items()):
        state.update(name.encode() + array.tobytes())
    state.update(json.dumps(meta, sort_keys=True).encode())
    history = History(folder)
    columns = {name: column.tolist() for name, column in history.iterations().items() if name != "seconds"}
    rows = hashlib.blake2b(json.dumps([columns, history.batches()], sort_keys=True).encode(), digest_size=16)
    return state.hexdigest(), rows.hexdigest()


def every_byte(folder):
    """All that is in a folder, but for the text of the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != "run.lock"
    }
