"""What memory allows: an in-place stream over as many arrays as the rule reads and writes, and one read more.

Each array is updated where it lies, with one addition an element; the read is a sum of the gradient. Two threads, half
of the arrays each, as the contenders have.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.contenders.steps_job import StepJob, rounds
from benchmarks.contenders.worker import Round, serve

SLOTS = {"sgd": 0, "momentum": 1, "adagrad": 1, "rmsprop": 1, "adam": 2, "adamax": 2, "adadelta": 2}


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    import numba

    compiled = numba.njit(nogil=True, fastmath=True)

    @compiled
    def three(p: Any, g: Any) -> None:
        for i in range(np.uint64(p.size)):
            p[i] += g[i]

    @compiled
    def five(p: Any, g: Any, a: Any) -> None:
        for i in range(np.uint64(p.size)):
            x = g[i]
            p[i] += x
            a[i] += x

    @compiled
    def seven(p: Any, g: Any, a: Any, b: Any) -> None:
        for i in range(np.uint64(p.size)):
            x = g[i]
            p[i] += x
            a[i] += x
            b[i] += x

    @compiled
    def read(g: Any) -> Any:
        total = np.float32(0)
        for i in range(np.uint64(g.size)):
            total += g[i]
        return total

    job = StepJob(**settings)
    (param,), (grad,) = job.arrays()
    slots = SLOTS[job.rule]
    stream: Callable[..., None] = (three, five, seven)[slots]
    # Apart from each other modulo a page: the same addresses there would wait for each other.
    memory = np.zeros((slots, param.size + 4096), np.float32)
    arrays = [param, grad, *(memory[k, 336 * (k + 1) :][: param.size] for k in range(slots))]
    step = -(-param.size // job.threads)
    parts = [[array[k * step : (k + 1) * step] for array in arrays] for k in range(job.threads)]
    pool = ThreadPoolExecutor(job.threads)

    def both() -> None:
        list(pool.map(lambda part: read(part[1]), parts))
        list(pool.map(lambda part: stream(*part), parts))

    return {"version": ""}, rounds(job, both)


if __name__ == "__main__":
    serve("numba", setup)
