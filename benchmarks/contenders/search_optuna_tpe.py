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
    jobs = iter(settings["jobs"])

    def study(seed: int) -> Any:
        made = {"tpe": optuna.samplers.TPESampler, "cma_es": optuna.samplers.CmaEsSampler}[sampler](seed=seed)
        return optuna.create_study(sampler=made)

    def search() -> dict[str, Any]:
        job = task(settings, *next(jobs))
        space = Space.of(job.schema, name=NAME)
        tried = []

        def objective(trial: Any) -> float:
            value = space.suggest(OptunaTrial(trial))[NAME]
            tried.append(digest_json(value))
            return job.loss(value)

        optimizing = study(job.seed)
        if job.start is not None:
            optimizing.enqueue_trial(space.encode({NAME: job.start}))
        optimizing.optimize(objective, n_trials=count)
        return {"samples": [optimizing.best_value], "tried": tried}

    def overhead() -> dict[str, Any]:
        job = task(settings, *next(jobs))
        low, high = job.schema["items"]["minimum"], job.schema["items"]["maximum"]

        def objective(trial: Any) -> float:
            return sum(trial.suggest_float(f"{NAME}.{k}", low, high) for k in range(job.schema["maxItems"]))

        optimizing = study(job.seed)
        began = time.process_time()
        optimizing.optimize(objective, n_trials=count)
        return {"samples": [(time.process_time() - began) / count]}

    return {"version": optuna.__version__}, overhead if settings.get("overhead") else search


if __name__ == "__main__":
    serve("optuna", setup)
