"""The graph contest with `torch.autograd.Function`s on one-element tensors."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.contenders.graph_job import questions
from benchmarks.contenders.worker import Round, serve


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    import torch

    class Negate(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return -x

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            return -grad

    class Pause(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, seconds: float) -> torch.Tensor:
            ctx.seconds = seconds
            time.sleep(seconds)
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
            time.sleep(ctx.seconds)
            return grad, None

    def chain(count: int) -> float:
        x = torch.ones(1, dtype=torch.float64, requires_grad=True)
        y = x
        for _ in range(count):
            y = Negate.apply(y)
        y.backward()
        return float(x.grad)

    def branches(count: int, pause: float) -> float:
        x = torch.ones(1, dtype=torch.float64, requires_grad=True)
        torch.stack([Pause.apply(x, pause) for _ in range(count)]).sum().backward()
        return float(x.grad)

    return {"version": torch.__version__}, questions(settings, chain=chain, branches=branches)


if __name__ == "__main__":
    serve("torch", setup)
