"""The search contest with Thalweg's engines; ``settings["engine"]`` says which."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.contenders.search_job import NAME, task
from benchmarks.contenders.worker import Round, serve


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    import thalweg as tw
    from thalweg.search import digest_json
    from thalweg.search.engine import Engine, Told
    from thalweg.search.engines import engine_class
    from thalweg.search.space import Space

    count = settings["evaluations"]
    kind = settings["engine"]
    jobs = iter(settings["jobs"])

    def make(schema: dict[str, Any], seed: int, start: Any = None) -> Engine:
        made: Any = engine_class(kind)
        options = {"evaluations": count} if kind == "auto" else {}
        first = {"start": {NAME: start}} if start is not None else {"start_first": False}
        engine: Engine = made(Space.of(schema, name=NAME), seed=seed, **first, **options)
        return engine

    def search() -> dict[str, Any]:
        job = task(settings, *next(jobs))
        engine = make(job.schema, job.seed, job.start)

        async def run() -> tuple[float, list[str]]:
            best, tried = float("inf"), []
            for _ in range(count):
                for candidate in await engine.ask():
                    loss = job.loss(candidate.values[NAME])
                    best = min(best, loss)
                    tried.append(digest_json(candidate.values[NAME]))
                    engine.tell([Told(candidate.number, -loss)])
            return best, tried

        best, tried = tw.wait(run())
        engine.close()
        return {"samples": [best], "tried": tried}

    def overhead() -> dict[str, Any]:
        job = task(settings, *next(jobs))
        engine = make(job.schema, job.seed)

        async def run() -> None:
            for _ in range(count):
                for candidate in await engine.ask():
                    engine.tell([Told(candidate.number, -sum(candidate.values[NAME]))])

        began = time.process_time()
        tw.wait(run())
        return {"samples": [(time.process_time() - began) / count]}

    return {"version": tw.__version__}, overhead if settings.get("overhead") else search


if __name__ == "__main__":
    serve("thalweg", setup)
