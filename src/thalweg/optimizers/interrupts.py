"""Ctrl-C while a step is made: it is held back for as long, so that what it finds is a step or none.

Python runs a signal's handler between two operations of the main thread, thus also when compiled code has returned and
its step is not counted yet. The coroutine of ``LocalOptimizer.step`` needs none of this: an event loop waits for what
runs in a thread.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

_SIGNALS: Any = sys.modules.get("_signal", signal)  # what signal's functions call, without the tenfold around it
_SIGINT = int(signal.SIGINT)


class held:
    """Hold Ctrl-C back, for the code inside the ``with``: KeyboardInterrupt is raised at its end.

    A second Ctrl-C is not held back: whoever presses it again wants to stop what hangs. Nothing is done in threads
    other than the main one, where no handler runs, and where SIGINT is handled otherwise than by Python's own handler,
    which alone is known to raise an error at any place: an event loop's cancels a task, a user's is left alone.

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

    __slots__ = ("_came", "_frame")

    def __init__(self) -> None:
        self._frame: FrameType | None = None
        self._came: tuple[int, FrameType | None] | None = None

    def _hold(self, number: int, frame: FrameType | None) -> None:
        inside = frame
        while inside is not None and inside is not self._frame:
            inside = inside.f_back
        if self._came is None and inside is not None:
            self._came = number, frame
        else:  # the second; or another signal's handler has raised an error before this one was taken away
            self._frame = self._came = None
            _SIGNALS.signal(_SIGINT, signal.default_int_handler)
            signal.default_int_handler(number, frame)

    def __enter__(self) -> None:
        if threading.get_ident() != threading.main_thread().ident:
            return
        if _SIGNALS.getsignal(_SIGINT) is not signal.default_int_handler:
            return
        self._frame = sys._getframe(1)
        try:
            _SIGNALS.signal(_SIGINT, self._hold)
        except ValueError:  # not the main interpreter
            self._frame = None

    def __exit__(self, *error: object) -> None:
        if self._frame is None:
            return
        _SIGNALS.signal(_SIGINT, signal.default_int_handler)
        came, self._frame, self._came = self._came, None, None
        if came is not None:
            signal.default_int_handler(*came)
