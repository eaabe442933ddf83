"""Random search, by Thalweg's engine (it draws what Optuna's RandomSampler draws)."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import search_thalweg
from benchmarks.contenders.worker import Round, serve


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    return search_thalweg.setup({**settings, "engine": "random"})


if __name__ == "__main__":
    serve("thalweg", setup)
