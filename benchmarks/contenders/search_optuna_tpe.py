"""Optuna's own loop with its own sampler (TPE unless the settings say CMA-ES)."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.contenders.search_job import NAME, task
from benchmarks.contenders.worker import Round, serve


def setup(settings: dict[str, Any], sampler: str = "tpe") -> tuple[dict[str, Any], Round]:
    import optuna

    from thalweg.search import digest_json
    from thalweg.search.optuna_engine import OptunaTrial
    from thalweg.search.space import Space

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    count = settings["evaluations"]
    seeds = iter(settings["seeds"])

    def study(seed: int) -> Any:
        made = {"tpe": optuna.samplers.TPESampler, "cma_es": optuna.samplers.CmaEsSampler}[sampler](seed=seed)
        return optuna.create_study(sampler=made)

    def search() -> dict[str, Any]:
        seed = next(seeds)
        job = task(settings["task"], seed, settings.get("cache"), settings.get("rows"))
        space = Space.of(job.schema, name=NAME)
        tried = []

        def objective(trial: Any) -> float:
            value = space.suggest(OptunaTrial(trial))[NAME]
            tried.append(digest_json(value))
            return job.loss(value)

        optimizing = study(seed)
        if job.start is not None:
            optimizing.enqueue_trial(space.encode({NAME: job.start}))
        optimizing.optimize(objective, n_trials=count)
        return {"samples": [optimizing.best_value], "tried": tried}

    def overhead() -> dict[str, Any]:
        items = task("rosenbrock", 0).schema
        low, high = items["items"]["minimum"], items["items"]["maximum"]

        def objective(trial: Any) -> float:
            return sum(trial.suggest_float(f"{NAME}.{k}", low, high) for k in range(items["maxItems"]))

        optimizing = study(next(seeds))
        began = time.perf_counter()
        optimizing.optimize(objective, n_trials=count)
        return {"samples": [(time.perf_counter() - began) / count]}

    return {"version": optuna.__version__}, overhead if settings.get("overhead") else search


if __name__ == "__main__":
    serve("optuna", setup)
