"""A pass that is divided among threads is over when the call is, however it ends."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from thalweg import rules
from thalweg.lowering import Batch, Part, address_of, compile_rule, team, threads

INTEGER = ctypes.c_int64
FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int, INTEGER, INTEGER, INTEGER)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A team of a thread besides this one, however many cores there are."""
    yield from _team(monkeypatch, 2)


@pytest.fixture(params=[1, 2, 3, 8])
def team_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A team of so many."""
    yield from _team(monkeypatch, request.param)


def _team(monkeypatch: pytest.MonkeyPatch, size: int) -> Iterator[None]:
    threads._TEAMS.clear()
    monkeypatch.setattr(threads, "count", lambda: size)
    yield
    threads._TEAMS.clear()


KEPT: list[Any] = []  # of which the pieces know the address only


def divided(function: Any, arguments: Sequence[tuple[int, int, int]]) -> np.ndarray:
    KEPT.append(function)
    address = ctypes.cast(function, ctypes.c_void_p).value
    return np.array([(address, *several) for several in arguments], np.int64)


def test_each_piece_is_done_once(team_of: None) -> None:
    """Of any number of them, pass after pass, also when the others have gone to sleep meanwhile."""
    done: list[tuple[int, int, int]] = []
    function = FUNCTION(lambda *given: done.append(given) or 0)
    rng = np.random.default_rng(3)
    for turn in range(300):
        several = [(turn, k, -k) for k in range(int(rng.integers(1, 20)))]
        assert threads.run(divided(function, several))
        assert sorted(done) == several
        done.clear()
        if turn % 50 == 0:
            time.sleep(0.01)
    several = [(0, k, 0) for k in range(team.MOST)]
    assert threads.run(divided(function, several))
    assert sorted(done) == several


def test_what_a_function_returns_is_told(two: None) -> None:
    function = FUNCTION(lambda turn, k, bad: int(k == bad))
    for bad in (-1, 0, 1, 6, 7):
        assert threads.run(divided(function, [(0, k, bad) for k in range(8)])) == (bad < 0)
    assert threads.run(divided(function, [(0, 0, 1)])), "the next pass is another one"


def test_several_threads_take_pieces_at_the_same_time(two: None) -> None:
    """One that falls asleep just then, or has no core, is done without, so not in every pass."""
    who: list[set[int]] = []

    def some_time(*given: int) -> int:
        who[-1].add(threading.get_ident())
        time.sleep(0.002)
        return 0

    for _ in range(2000):
        who.append(set())
        assert threads.run(divided(FUNCTION(some_time), [(0, k, 0) for k in range(8)]))
        if len(who[-1]) == 2:
            return
    raise AssertionError("this thread did all of them")


def test_pieces_of_a_thread_that_does_not_come_are_done_by_the_others(
    two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)  # it never begins
    done: list[int] = []
    several = divided(FUNCTION(lambda *given: done.append(given[1]) or 0), [(0, k, 0) for k in range(8)])
    for own in ([0, 1, 2, 3], [3, 2, 1, 0]):  # forward, then backward: what was last is in the cache
        assert threads.run(several)
        assert done == [*own, 7, 6, 5, 4]
        done.clear()


def test_where_there_may_be_no_more_threads_there_are_fewer(two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    done = []
    assert threads.run(divided(FUNCTION(lambda *given: done.append(given[1]) or 0), [(0, k, 0) for k in range(8)]))
    assert sorted(done) == list(range(8))


def test_a_pass_inside_a_pass_is_made_by_this_thread_alone(two: None) -> None:
    """As of a step in a handler of a signal, which is run when compiled code has returned and nothing else has."""
    inner: list[int] = []
    outer: list[int] = []
    several = divided(FUNCTION(lambda *given: inner.append(given[1]) or 0), [(0, k, 0) for k in range(8)])

    def call(turn: int, k: int, _: int) -> int:
        outer.append(k)
        return int(not threads.run(several))

    for _ in range(3):
        assert threads.run(divided(FUNCTION(call), [(0, k, 0) for k in range(6)]))
        assert (sorted(outer), sorted(inner)) == (list(range(6)), sorted([*range(8)] * 6))
        outer.clear()
        inner.clear()


def test_threads_that_come_first_at_the_same_time_make_one_team(two: None) -> None:
    before = threading.active_count()
    together, function = threading.Barrier(8), FUNCTION(lambda *given: 0)
    several = divided(function, [(0, k, 0) for k in range(8)])

    def first() -> None:
        together.wait()
        assert threads.run(several)

    starting = [threading.Thread(target=first) for _ in range(8)]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join()
    assert threading.active_count() == before + 1


def test_two_passes_at_once_do_not_meet(two: None) -> None:
    """Two threads of the user's, each with its own arrays."""

    def train(k: int) -> bytes:
        x, g = np.full(threads.WORTH_IT + k, 1.0), np.full(threads.WORTH_IT + k, 0.5 + k)
        batch = Batch(compile_rule(rules.momentum, x.dtype), [Part(address_of(x), x.size, (address_of(m := 0 * x),))])
        batch.set_grad(0, address_of(g))
        for t in range(1, 101):
            batch.set_hyper(0, rules.momentum.hyper(), t=t)
            assert batch.step() is None
        return x.tobytes() + m.tobytes()

    alone = [train(k) for k in range(3)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(train, range(3))) == alone


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own handler of Ctrl-C, which is not there if whoever started this process ignores it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_finds_a_pass_whole(two: None) -> None:
    """It reaches the main thread; what the others still write must not be put back or freed under them."""

    def until_interrupted(batch: Batch) -> None:
        for _ in range(100_000):
            batch.update()

    x, g = np.zeros(1 << 22), np.full(1 << 22, -1.0)
    batch = Batch(compile_rule(rules.sgd, x.dtype), [Part(address_of(x), x.size, ())])
    batch.set_grad(0, address_of(g))
    batch.set_hyper(0, rules.sgd.hyper(learning_rate=1.0), t=1)
    batch.step()
    main = threading.main_thread().ident
    assert main is not None
    for number in range(10):
        timer = threading.Timer(0.005 + 0.002 * number, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            until_interrupted(batch)
        assert x.min() == x.max() > 0.0
        timer.join()


FORK = """
import os, sys
import numpy as np
from thalweg import rules
from thalweg.lowering import Batch, Part, address_of, compile_rule, threads

threads.count = lambda: 2
x, g = np.zeros(1 << 18), np.full(1 << 18, -1.0)
batch = Batch(compile_rule(rules.sgd, x.dtype), [Part(address_of(x), x.size, ())])
batch.set_grad(0, address_of(g))
batch.set_hyper(0, rules.sgd.hyper(learning_rate=1.0), t=1)
batch.step()
child = os.fork()
for _ in range(100):
    batch.update()
assert x.min() == x.max() == 101.0
if child:
    assert os.waitpid(child, 0)[1] == 0
    print("both")
"""


def test_a_fork_has_threads_of_its_own_and_both_end() -> None:
    process = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=120, check=False)
    assert (process.returncode, process.stdout) == (0, "both\n"), process.stderr


def _others_go_on_during(size: int, calls: int) -> bool:
    """Whether another thread of Python gets on during one of so many passes over so many elements at most: on a machine
    that is busy it may come too late for most of them, and where the GIL is kept it never does."""
    x, g = np.ones(size), np.zeros(size)
    batch = Batch(compile_rule(rules.sgd, x.dtype), [Part(address_of(x), x.size, ())])
    batch.set_grad(0, address_of(g))
    batch.set_hyper(0, rules.sgd.hyper(), t=1)
    turns, over = [0], threading.Event()

    def other() -> None:
        while not over.is_set():
            turns[0] += 1
            time.sleep(0)  # it gives the GIL back of itself

    thread = threading.Thread(target=other)
    interval = sys.getswitchinterval()
    thread.start()
    sys.setswitchinterval(60.0)  # nobody is made to give the GIL away
    try:
        for _ in range(calls):
            before = turns[0]
            batch.update()
            if turns[0] > before:
                return True
        return False
    finally:
        sys.setswitchinterval(interval)
        over.set()
        thread.join()


def test_a_long_pass_lets_go_of_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert _others_go_on_during(1 << 20, 10_000)
