"""np.save, a file an array, each forced to the disk; no digests, nothing that holds them together."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from benchmarks.contenders.checkpoint_job import arrays, rounds
from benchmarks.contenders.worker import Round, serve


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    data = arrays(settings)

    def write(path: Any) -> None:
        path.mkdir()
        for name, array in data.items():
            with open(path / f"{name}.npy", "wb") as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())

    def read(path: Any) -> list[np.ndarray]:
        return [np.load(path / f"{name}.npy") for name in data]

    return {"version": np.__version__}, rounds(settings, write, read)


if __name__ == "__main__":
    serve("numpy", setup)
