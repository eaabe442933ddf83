"""What is called on the workers and in the scheduler of a cluster.

Dask finds these functions by name, so this version of Thalweg must be installed there.
"""

from __future__ import annotations

import contextvars
import pickle
import signal
import threading
import traceback
from collections import Counter, OrderedDict
from typing import Any, NamedTuple

from thalweg.errors import RunError
from thalweg.graph.executor import as_worker
from thalweg.runtime.identity import differences, identity, refusal, unknown
from thalweg.runtime.one_thread import for_good, one_thread
from thalweg.runtime.packing import unpack
from thalweg.runtime.shared import Shared
from thalweg.runtime.tree import add_trees
from thalweg.runtime.where import working_as

KEPT = 2
"""So many tasks, and so many shared values, a worker keeps: of a run it needs one at a time, and they may be large."""


class Order(NamedTuple):
    """A task as it travels, the same for all items of a call.

    Attributes:
        call: names the call; no other call of any client has the same.
        task: what :func:`thalweg.runtime.packing.pack` made.
        shared: keys of its shared parts, in the order in which they are handed in.
        identity: what the worker must be like.
        total: number of items.
    """

    call: str
    task: bytes
    shared: tuple[str, ...]
    identity: dict[str, str]
    total: int


class _Process:
    """What this process keeps between tasks. A worker runs functions only, so there is no object to hold it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: OrderedDict[str, Shared[Any]] = OrderedDict()
        self._tasks: OrderedDict[str, Any] = OrderedDict()
        self._identity: dict[str, str] | None = None
        self._running: Counter[str] = Counter()
        self._ended: OrderedDict[str, None] = OrderedDict()  # calls that were given up

    def identity(self) -> dict[str, str]:
        if self._identity is None:
            for_good()  # a worker without a nanny has none of the limits that Dask sets
            self._identity = identity()
        return self._identity

    def task(self, order: Order, recipes: tuple[bytes, ...]) -> Any:
        with self._lock:
            if order.call not in self._tasks:
                for key, recipe in zip(order.shared, recipes, strict=True):
                    if key not in self._shared:
                        self._shared[key] = pickle.loads(recipe)
                    self._shared.move_to_end(key)
                self._tasks[order.call] = unpack(order.task, self._shared)
                while len(self._shared) > max(KEPT, len(order.shared)):
                    self._shared.popitem(last=False)
                while len(self._tasks) > KEPT:
                    self._tasks.popitem(last=False)
            return self._tasks[order.call]

    def begin(self, call: str) -> None:
        with self._lock:
            if call in self._ended:
                raise RunError("The call that this item belongs to has ended.")
            self._running[call] += 1

    def finish(self, call: str) -> None:
        with self._lock:
            self._running[call] -= 1
            if not self._running[call]:
                del self._running[call]

    def end(self, call: str) -> int:
        with self._lock:
            self._tasks.pop(call, None)
            self._ended[call] = None
            while len(self._ended) > 1000:
                self._ended.popitem(last=False)
            return self._running[call]


_PROCESS = _Process()


def hold(value: Any) -> Any:
    """Hand back the value: as a task it is kept by the workers, and made again by the scheduler when it is lost."""
    return value


def work(order: Order, index: int, item: Any, *recipes: bytes) -> tuple[Any, dict[str, int]]:
    """Do one item; returns the result and which worker did how many items (here: one).

    Raises:
        RunError: this worker is not like the client.
        Exception: whatever the task raises, with notes that name item and worker.
    """
    name, address = _me()
    who = _who(name, address)
    _PROCESS.begin(order.call)
    try:
        try:
            mine = _PROCESS.identity()
        except Exception as error:
            raise RunError(unknown(address, error), worker=address) from None
        differing = differences(order.identity, mine)
        if differing:
            raise RunError(refusal(address, differing), worker=address, differences=differing)
        task = _PROCESS.task(order, recipes)
        with working_as(who), one_thread():
            value = contextvars.copy_context().run(as_worker, task, item)
        return value, {name: 1}
    except BaseException as error:
        error.add_note(f"while working on item {item!r} (number {index + 1} of {order.total})")
        error.add_note(f"on the {who}")
        raise _portable(error) from None
    finally:
        _PROCESS.finish(order.call)


def add(*parts: tuple[Any, dict[str, int]]) -> tuple[Any, dict[str, int]]:
    """Add two, three or four neighboring partial sums: two levels of the tree.

    The parts are left as they are: the scheduler may have any of them added into something else once more.
    """
    counts: Counter[str] = Counter()
    for _, count in parts:
        counts.update(count)
    first, second, *rest = (value for value, _ in parts)
    total = add_trees(first, second)
    if rest:
        total = add_trees(total, rest[0] if len(rest) == 1 else add_trees(*rest), into_left=True)
    return total, dict(counts)


def end(call: str) -> int:
    """Begin no further item of a call; returns how many this worker is at."""
    return _PROCESS.end(call)


def report() -> dict[str, str]:
    """What this worker is like."""
    return _PROCESS.identity()


async def attend(token: str, silence: float, dask_scheduler: Any = None) -> dict[str, Any]:
    """Look after the workers, in the scheduler.

    A worker that has something of ours and has not been heard of for so long is restarted by its nanny, or taken out,
    so that its items are computed elsewhere: Dask itself would wait for minutes.

    Args:
        token: what the names of our keys hold.
        silence: s.
        dask_scheduler: filled in by Dask.

    Returns:
        ``workers``: what to call them, by address; ``threads``: how many they have; ``age``: s since the last sign of
        life of any of them; ``removed``: the addresses of those that were taken out now; ``paused``: how many take no
        work; ``lost``: whether there is none, and one has died with something of ours.
    """
    from distributed.metrics import time

    workers = list(dask_scheduler.workers.values())
    ages = {state.address: time() - state.last_seen for state in workers}
    silent = [s.address for s in workers if ages[s.address] > silence and _has_ours(s, token)]
    if silent:
        await dask_scheduler.restart_workers(
            silent, timeout=5, wait_for_workers=False, on_error="return", stimulus_id=f"thalweg-silent-{time()}"
        )
    return {
        "workers": {s.address: _who(_named(s.name), s.address) for s in workers if s.address not in silent},
        "threads": sum(state.nthreads for state in workers),
        "age": min(ages.values(), default=None),
        "removed": silent,
        "paused": sum(state.status.name == "paused" for state in workers),
        "lost": not workers and any(task.suspicious for key, task in dask_scheduler.tasks.items() if token in str(key)),
    }


def dask_setup(worker: Any) -> None:
    """Called by Dask when a worker of our own begins: Ctrl-C in a terminal reaches all processes, and is the
    client's to handle."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _has_ours(state: Any, token: str) -> bool:
    return any(token in str(task.key) for tasks in (state.processing, state.has_what) for task in tasks)


def _me() -> tuple[str, str]:
    """Name and address of this worker."""
    from distributed import get_worker

    worker = get_worker()
    return _named(worker.name), worker.address


def _named(name: object) -> str:
    return name if isinstance(name, str) else f"worker {name}"  # Dask numbers our own


def _who(name: str, address: str) -> str:
    return f"worker {address}" if name == address else f"worker {address} ({name})"


def _portable(error: BaseException) -> BaseException:
    """The error itself if it survives the journey to the client, else its text."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:  # not pickled with the error
        error.add_note("caused by:\n" + "".join(traceback.format_exception(cause)).rstrip())
    try:
        back = pickle.loads(pickle.dumps(error))
        if type(back) is type(error) and getattr(back, "__notes__", None) == error.__notes__:
            return error
    except Exception:  # whatever its class does wrong
        pass
    stand_in = RunError(f"{type(error).__qualname__}: {error}")
    for note in error.__notes__:
        stand_in.add_note(note)
    stand_in.add_note("there it was:\n" + "".join(traceback.format_exception(error)).rstrip())
    return stand_in
