"""Thalweg's own step without the look for NaN and infinity."""

from __future__ import annotations

from benchmarks.contenders import steps_thalweg
from benchmarks.contenders.worker import serve

if __name__ == "__main__":
    steps_thalweg.NONFINITE = "ignore"
    serve("thalweg", steps_thalweg.setup)
