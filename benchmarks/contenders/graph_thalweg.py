"""The graph contest with Thalweg, and what only it does: two compiled kernels on two branches at once."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.contenders.graph_job import questions
from benchmarks.contenders.worker import Round, serve


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    import thalweg as tw

    class Negate(tw.Operator):
        def forward(self, x: tw.Variable) -> tw.Variable:
            return tw.Variable(-x.data)

        def adjoint(self, grad: Any, x: tw.Variable) -> Any:
            return -grad

    class NegateCoroutine(tw.Operator):
        async def forward(self, x: tw.Variable) -> tw.Variable:
            return tw.Variable(-x.data)

        async def adjoint(self, grad: Any, x: tw.Variable) -> Any:
            return -grad

    class Pause(tw.Operator):
        async def forward(self, x: tw.Variable, seconds: float) -> tw.Variable:
            await asyncio.sleep(seconds)
            return tw.Variable(x.data.copy())

        async def adjoint(self, grad: Any, x: tw.Variable, seconds: float) -> Any:
            await asyncio.sleep(seconds)
            return grad

    class Sum(tw.Operator):
        def forward(self, *parts: tw.Variable) -> tw.Variable:
            return tw.Variable(np.sum([part.data for part in parts], axis=0))

        def adjoint(self, grad: Any, *parts: tw.Variable) -> Any:
            return tuple(grad for _ in parts)

    negate = NegateCoroutine() if settings.get("coroutines") else Negate()
    pause, add = Pause(), Sum()

    def chain(count: int) -> float:
        async def run() -> float:
            y = x = tw.Variable(np.ones(1), name="x", needs_grad=True)
            for _ in range(count):
                y = await negate(y)
            await y.adjoint()
            return float(x.grad[0])

        return tw.wait(run())

    def branches(count: int, seconds: float) -> float:
        async def run() -> float:
            x = tw.Variable(np.ones(1), name="x", needs_grad=True)
            ends = await asyncio.gather(*(pause(x, seconds) for _ in range(count)))
            await (await add(*ends)).adjoint()
            return float(x.grad[0])

        return tw.wait(run())

    facts = {"version": tw.__version__}
    if settings["figure"] == "kernels":
        return facts, _kernels(settings["count"], add)
    return facts, questions(settings, chain=chain, branches=branches)


def _kernels(iterations: int, add: Any) -> Round:
    """Return a round that times two kernels on two branches, forward and adjoint, over the same four one by one."""
    import numba

    import thalweg as tw
    from thalweg.graph import use_executor

    @numba.njit(nogil=True)
    def churn(x: float, count: int) -> float:
        for _ in range(count):
            x = 3.9 * x * (1.0 - x)
        return x

    class Churn(tw.Operator):
        blocking = True

        def forward(self, x: tw.Variable) -> tw.Variable:
            return tw.Variable(np.full(1, churn(x.data[0], iterations)))

        def adjoint(self, grad: Any, x: tw.Variable) -> Any:
            return np.full(1, churn(0.3, iterations))

    first, second = Churn(), Churn()

    async def graph() -> None:
        x = tw.Variable(np.full(1, 0.3), name="x", needs_grad=True)
        ends = await asyncio.gather(first(x), second(x))
        await (await add(*ends)).adjoint()

    def one_by_one() -> None:
        for _ in range(4):
            churn(0.3, iterations)

    def seconds(work: Any) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    pool = ThreadPoolExecutor(2)

    def beside_each_other() -> None:
        with use_executor(pool):
            tw.wait(graph())

    beside_each_other()
    return lambda: {"samples": [seconds(beside_each_other) / seconds(one_by_one)]}


if __name__ == "__main__":
    serve("thalweg", setup)
