"""A pass that is divided among threads is over when the call is, however it ends."""

from __future__ import annotations

import threading

import pytest

from thalweg.lowering import threads


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
