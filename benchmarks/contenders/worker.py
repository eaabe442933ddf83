"""How a contender talks to the benchmark that started it: one process each, JSON lines over standard input and output.

The first line in is the settings; the first line out says that the contender is ready (warmed up), that its package is
missing, or that it failed. After that every line in asks for one round, and one line out answers with its samples.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Round = Callable[[], dict[str, Any]]
Setup = Callable[[dict[str, Any]], tuple[dict[str, Any], Round]]


def serve(package: str, setup: Setup) -> None:
    """Run a contender until its standard input is closed.

    Args:
        package: what must be importable; without it the contender reports itself missing.
        setup: takes the settings, warms everything up, and returns facts about the contender and a function that does
            one round.
    """
    # What a package prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    try:
        facts, one_round = setup(json.loads(sys.stdin.readline()))
        reply({"ready": facts})
        for _ in sys.stdin:
            reply({"round": one_round()})
    except Exception as error:  # a contender's failure is a line in the table, whatever it is
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            reply({"missing": package})
        else:
            reply({"failed": f"{type(error).__name__}: {error}".splitlines()[0][:200]})


def timed(work: Callable[[], Any], *, at_least: float) -> list[float]:
    """Return the seconds that each of several runs took, as many as fit in ``at_least`` seconds, one at least."""
    samples: list[float] = []
    while not samples or sum(samples) < at_least:
        began = time.perf_counter()
        work()
        samples.append(time.perf_counter() - began)
    return samples
