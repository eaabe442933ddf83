"""Thalweg's checkpoints: safetensors, digests of every array, all or nothing, forced to the disk."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders.checkpoint_job import arrays, rounds
from benchmarks.contenders.worker import Round, serve


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    import thalweg
    from thalweg.checkpoints import CheckpointStore

    data = arrays(settings)

    def write(path: Any) -> None:
        CheckpointStore(path).save(data, {"iteration": 1})

    return {"version": thalweg.__version__}, rounds(settings, write, lambda path: CheckpointStore(path).load())


if __name__ == "__main__":
    serve("thalweg", setup)
