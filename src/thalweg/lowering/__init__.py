"""What turns a rule's text into something that runs."""

from __future__ import annotations

from thalweg.lowering.batch import Batch, Part, address_of
from thalweg.lowering.numpy import Kernel, compile_rule

__all__ = ["Batch", "Kernel", "Part", "address_of", "compile_rule"]
