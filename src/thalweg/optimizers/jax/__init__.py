"""An optimizer of ours as pure functions of JAX pytrees."""

from __future__ import annotations

from thalweg.optimizers.jax.optimizer import JaxOptimizer
from thalweg.optimizers.jax.state import JaxState

__all__ = ["JaxOptimizer", "JaxState"]
