"""What the graph contest asks for; every contender answers the same questions in its own way.

``chain``: seconds an operator of forward and adjoint together, through ``count`` operators y = −x on one float64.
``branches``: seconds of forward and adjoint through ``count`` operators beside each other, each of which waits
``pause`` seconds each way, and their sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.contenders.worker import Round, timed


def questions(
    settings: dict[str, Any], *, chain: Callable[[int], float], branches: Callable[[int, float], float]
) -> Round:
    """Return the round that ``settings`` ask for, warmed up and with its result checked.

    Args:
        settings: ``figure``, ``count``, ``pause`` (s) and ``at_least`` (s); see `timed`.
        chain: runs the chain of that many operators and returns the gradient, ±1.
        branches: runs that many branches of that pause and returns the gradient, their number.
    """
    count, figure = settings["count"], settings["figure"]
    if figure == "branches":
        pause = settings["pause"]
        _expect(branches(count, 0.0), float(count))
        return lambda: {"samples": timed(lambda: branches(count, pause), at_least=settings["at_least"])}

    def work() -> None:
        _expect(chain(count), (-1.0) ** count)

    chain(10)
    if settings["warm"]:
        work()

    def chained() -> dict[str, Any]:
        return {"samples": [seconds / count for seconds in timed(work, at_least=settings["at_least"])]}

    return chained


def _expect(found: float, expected: float) -> None:
    if found != expected:
        raise ArithmeticError(f"the gradient is {found}, expected {expected}")
