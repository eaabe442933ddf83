"""Optuna's own loop with its CMA-ES."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import search_optuna_tpe
from benchmarks.contenders.worker import Round, serve


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    return search_optuna_tpe.setup(settings, "cma_es")


if __name__ == "__main__":
    serve("optuna", setup)
