"""Ctrl-C at a line of the library, for the tests of what it finds: without timing."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from thalweg.optimizers import interrupts

SOURCE = interrupts.__file__.rpartition("optimizers")[0]


def ctrl_c() -> None:
    """What the key does."""
    signal.raise_signal(signal.SIGINT)


def interrupted_at(line: int, call: Callable[[], Any]) -> bool:
    """Ctrl-C when the call is at the n-th line of the library, counted from 0; whether it has as many."""
    seen = 0
    fired = False

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen, fired
        if not frame.f_code.co_filename.startswith(SOURCE):
            return None
        if event == "line":
            seen += 1
            if seen == line + 1:
                fired = True
                ctrl_c()
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        assert fired
    else:
        assert not fired, f"Ctrl-C at line {line} got lost"
    finally:
        sys.settrace(former)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return fired
