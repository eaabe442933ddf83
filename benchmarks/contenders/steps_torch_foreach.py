"""torch.optim with foreach=True."""

from __future__ import annotations

from functools import partial

from benchmarks.contenders.steps_torch import setup
from benchmarks.contenders.worker import serve

if __name__ == "__main__":
    serve("torch", partial(setup, foreach=True))
