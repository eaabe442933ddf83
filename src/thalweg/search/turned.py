"""A minimizer that calls a function, turned around: it is asked for points and told values.

The minimizer runs in a thread of its own, which waits while nobody asks. The thread ends when the minimizer does, when
``close`` is called, when the object is collected, and when the interpreter exits.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np

Objective = Callable[[np.ndarray], float]
PATIENCE = 10.0  # s that closing waits for a step of the minimizer's to end


class _Closed(BaseException):
    """Ends the minimizer from within its objective."""


class Turned:
    """Asks a minimizer for its next point.

    Args:
        minimize: called in the thread with the objective; what it returns is ignored.

    Example:
        >>> from scipy.optimize import minimize
        >>> from thalweg.search.turned import Turned
        >>> turned = Turned(lambda f: minimize(f, [3.0], method="Nelder-Mead", options={"maxfev": 50}))
        >>> while (x := turned.ask()) is not None:
        ...     best = x
        ...     turned.answer(float((x[0] - 1.0) ** 2))
        >>> bool(abs(best[0] - 1.0) < 0.01)
        True
    """

    def __init__(self, minimize: Callable[[Objective], Any]) -> None:
        self._answers: SimpleQueue[float | None] = SimpleQueue()
        self._points: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        thread = threading.Thread(
            target=_run, args=(minimize, self._answers, self._points), name="thalweg-minimizer", daemon=True
        )
        self._end = weakref.finalize(self, _close, self._answers, thread)
        thread.start()

    def ask(self) -> np.ndarray | None:
        """The next point, which has to be answered before the next is asked for; None when the minimizer is done.

        Raises whatever the minimizer raised.
        """
        what, content = self._points.get()
        if what == "error":
            raise content
        return content if what == "point" else None

    def answer(self, value: float) -> None:
        """The value at the point that was asked for last."""
        self._answers.put(value)

    def close(self) -> None:
        """End the thread, and wait until it has ended."""
        self._end()


def _run(minimize: Callable[[Objective], Any], answers: SimpleQueue[Any], points: SimpleQueue[Any]) -> None:
    def objective(x: np.ndarray) -> float:
        points.put(("point", np.array(x, dtype=np.float64)))
        value = answers.get()
        if value is None:
            raise _Closed
        return float(value)

    try:
        minimize(objective)
    except _Closed:
        return
    except Exception as error:
        points.put(("error", error))
    else:
        points.put(("end", None))


def _close(answers: SimpleQueue[Any], thread: threading.Thread) -> None:
    answers.put(None)
    if thread is not threading.current_thread():
        thread.join(PATIENCE)
