"""The graph contest with primitives of HIPS autograd on one-element arrays."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

from benchmarks.contenders.graph_job import questions
from benchmarks.contenders.worker import Round, serve


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    import autograd.numpy as np
    from autograd import grad
    from autograd.extend import defvjp, primitive

    @primitive
    def negate(x: Any) -> Any:
        return -x

    defvjp(negate, lambda ans, x: lambda g: -g)

    @primitive
    def pause(x: Any, seconds: float) -> Any:
        time.sleep(seconds)
        return x.copy()

    def pause_back(ans: Any, x: Any, seconds: float) -> Any:
        def back(g: Any) -> Any:
            time.sleep(seconds)
            return g

        return back

    defvjp(pause, pause_back, None)

    def chain(count: int) -> float:
        def chained(x: Any) -> Any:
            for _ in range(count):
                x = negate(x)
            return x[0]

        return float(grad(chained)(np.ones(1))[0])

    def branches(count: int, seconds: float) -> float:
        def summed(x: Any) -> Any:
            return np.sum(np.concatenate([pause(x, seconds) for _ in range(count)]))

        return float(grad(summed)(np.ones(1))[0])

    return {"version": version("autograd")}, questions(settings, chain=chain, branches=branches)


if __name__ == "__main__":
    serve("autograd", setup)
