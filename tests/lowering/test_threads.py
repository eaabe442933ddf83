"""A pass that is divided among threads is over when the call is, however it ends."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest

from thalweg import rules
from thalweg.lowering import Batch, Part, address_of, compile_rule, threads


def test_an_interrupted_call_waits_for_the_others() -> None:
    """Ctrl-C reaches the main thread; what the others still write must not be put back or freed under them."""
    begun, may_end, over = threading.Event(), threading.Event(), threading.Event()

    def work(number: int) -> None:
        if number == 0:
            assert begun.wait(30)
            threading.Timer(0.05, may_end.set).start()
            raise KeyboardInterrupt
        begun.set()
        assert may_end.wait(30)
        over.set()

    with pytest.raises(KeyboardInterrupt):
        threads.run(work, [(0,), (1,)])
    assert over.is_set()


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
