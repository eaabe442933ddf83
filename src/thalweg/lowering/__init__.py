"""What turns a rule's text into something that runs."""

from __future__ import annotations

from thalweg.lowering.numpy import Kernel, compile_rule, compile_scan

__all__ = ["Kernel", "compile_rule", "compile_scan"]
