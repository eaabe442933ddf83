"""An optimizer of ours as a ``torch.optim.Optimizer``."""

from __future__ import annotations

from thalweg.optimizers.torch.optimizer import TorchOptimizer

__all__ = ["TorchOptimizer"]
