"""Ctrl-C while a step is made: it is held back for as long, so that what it finds is a step or none.

Python runs a signal's handler between two operations of the main thread, thus also when compiled code has returned and
its step is not counted yet. The coroutine of ``LocalOptimizer.step`` needs none of this: an event loop waits for what
runs in a thread.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_SIGNALS: Any = sys.modules.get("_signal", signal)  # what signal's functions call, without the tenfold around it
_SIGINT = int(signal.SIGINT)


class held:
    """Hold SIGINT back, for the code inside the ``with``: what handled it before does so at the end.

    It does nothing in threads other than the main one, where no handler runs, and where no handler of Python's is set.

    Example:
        >>> import signal
        >>> from thalweg.optimizers.interrupts import held
        >>> try:
        ...     with held():
        ...         signal.raise_signal(signal.SIGINT)
        ...         print("made as a whole")
        ... except KeyboardInterrupt:
        ...     print("interrupted")
        made as a whole
        interrupted
    """

    __slots__ = ("_came", "_former")

    def __init__(self) -> None:
        self._former: Callable[[int, FrameType | None], Any] | None = None
        self._came: tuple[int, FrameType | None] | None = None

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self._came = number, frame

    def __enter__(self) -> None:
        if threading.get_ident() != threading.main_thread().ident:
            return
        former = _SIGNALS.getsignal(_SIGINT)
        if not callable(former):  # None for one that is not Python's, or SIG_DFL, or SIG_IGN
            return
        try:
            _SIGNALS.signal(_SIGINT, self._hold)
            self._former = former
        except ValueError:  # not the main interpreter
            return
        except BaseException:  # of another signal's handler
            _SIGNALS.signal(_SIGINT, former)
            raise

    def __exit__(self, *error: object) -> None:
        former = self._former
        if former is None:
            return
        try:
            _SIGNALS.signal(_SIGINT, former)
        except BaseException:  # of another signal's handler, which runs before this one is set
            _SIGNALS.signal(_SIGINT, former)
            raise
        came, self._former, self._came = self._came, None, None
        if came is not None:
            former(*came)
