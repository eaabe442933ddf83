"""The job of the checkpoint contest: arrays to be written to the disk, forced there, and read again."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def arrays(settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """``count`` arrays of ``size`` random float32 numbers: nothing that could be compressed."""
    rng = np.random.default_rng(0)
    return {f"array{k}": rng.standard_normal(settings["size"], np.float32) for k in range(settings["count"])}


def rounds(
    settings: dict[str, Any], write: Callable[[Path], Any], read: Callable[[Path], Any]
) -> Callable[[], dict[str, Any]]:
    """A round: seconds of writing to a new place, forced to the disk, or of reading it again."""

    def one_round() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=settings["folder"]) as folder:
            path = Path(folder) / "checkpoint"
            began = time.perf_counter()
            write(path)
            written = time.perf_counter() - began
            if settings["what"] == "write":
                return {"samples": [written]}
            began = time.perf_counter()
            read(path)
            return {"samples": [time.perf_counter() - began]}

    one_round()
    return one_round
