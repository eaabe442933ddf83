"""torch.save and torch.load (weights only), the file forced to the disk; no digests."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.contenders.checkpoint_job import arrays, rounds
from benchmarks.contenders.worker import Round, serve


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    import torch

    data = {name: torch.from_numpy(array) for name, array in arrays(settings).items()}

    def write(path: Any) -> None:
        with open(path, "wb") as file:
            torch.save(data, file)
            file.flush()
            os.fsync(file.fileno())

    return {"version": torch.__version__}, rounds(settings, write, lambda path: torch.load(path, weights_only=True))


if __name__ == "__main__":
    serve("torch", setup)
