"""An optimizer of ours on PyTensor: the updates of shared variables, and their state in and out."""

from __future__ import annotations

from thalweg.optimizers.pytensor.face import Symbolic, require_pytensor, symbolic

__all__ = ["Symbolic", "require_pytensor", "symbolic"]
