"""Thalweg's own step on Variables: ``await optimizer.step()`` in a running event loop, gradient buffers reused."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.contenders.steps_job import StepJob, result
from benchmarks.contenders.worker import Round, serve

CLASSES = {
    "sgd": "SGD",
    "momentum": "Momentum",
    "adagrad": "AdaGrad",
    "rmsprop": "RMSProp",
    "adam": "Adam",
    "adamax": "Adamax",
    "adadelta": "Adadelta",
}
NONFINITE = "raise"


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    import thalweg as tw

    job = StepJob(**settings)
    params, grads = job.arrays()
    variables = [tw.Variable(param, name=f"x{k}", needs_grad=True) for k, param in enumerate(params)]
    for variable, grad in zip(variables, grads, strict=True):
        variable.grad = grad
    optimizer = getattr(tw, CLASSES[job.rule])(variables if job.count > 1 else variables[0], nonfinite=NONFINITE)

    # As rounds() does, but awaited: the event loop is there already when a user's code makes a step.
    async def warm_up() -> int:
        await optimizer.step()
        await optimizer.step()
        began = time.perf_counter()
        await optimizer.step()
        return max(1, int(1e-3 / max(time.perf_counter() - began, 1e-7)))

    async def measure(several: int) -> dict[str, Any]:
        await optimizer.step()
        samples: list[float] = []
        while sum(samples) * several < job.at_least:
            began = time.perf_counter()
            for _ in range(several):
                await optimizer.step()
            samples.append((time.perf_counter() - began) / several)
        return result(samples)

    several = asyncio.run(warm_up())
    return {"version": tw.__version__}, lambda: asyncio.run(measure(several))


if __name__ == "__main__":
    serve("thalweg", setup)
