"""The job of the contest of steps: arrays, gradients, and how often one step is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class StepJob:
    """``count`` arrays of ``size`` float32 numbers, and a rule that is to update them."""

    rule: str
    size: int
    count: int = 1
    at_least: float = 0.3  # s, that a round takes
    threads: int = 2

    def arrays(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Parameters and gradients; what is in them makes no denormal numbers."""
        rng = np.random.default_rng(0)
        params = [rng.uniform(0.5, 1.5, self.size).astype(np.float32) for _ in range(self.count)]
        grads = [rng.uniform(1e-4, 2e-4, self.size).astype(np.float32) for _ in range(self.count)]
        return params, grads


def result(samples: list[float]) -> dict[str, Any]:
    """What a round answers: the median second of a step, and which part of the memory is in huge pages."""
    return {"samples": [float(np.median(samples))], "huge": huge_pages()}


def huge_pages() -> float | None:
    """The part of this process's own memory that is in huge pages; ``None`` where the system does not say."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as lines:
            found = {
                name: float(value.split()[0])
                for name, _, value in (line.partition(":") for line in lines)
                if value.strip().endswith("kB")
            }
    except OSError:
        return None
    known = found.get("Anonymous")
    return found.get("AnonHugePages", 0.0) / known if known else None


def rounds(job: StepJob, step: Callable[[], Any]) -> Callable[[], dict[str, Any]]:
    """A round: the seconds of a step, each sample the mean of as many as take a millisecond, the first not counted."""
    step()
    began = time.perf_counter()
    step()
    several = max(1, int(1e-3 / max(time.perf_counter() - began, 1e-7)))

    def one_round() -> dict[str, Any]:
        step()  # the one that finds the caches as another process has left them
        samples: list[float] = []
        while sum(samples) * several < job.at_least:
            began = time.perf_counter()
            for _ in range(several):
                step()
            samples.append((time.perf_counter() - began) / several)
        return result(samples)

    return one_round
