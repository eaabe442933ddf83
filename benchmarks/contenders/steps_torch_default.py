"""torch.optim as it is by default: a loop over tensors."""

from __future__ import annotations

from benchmarks.contenders.steps_torch import setup
from benchmarks.contenders.worker import serve

if __name__ == "__main__":
    serve("torch", setup)
