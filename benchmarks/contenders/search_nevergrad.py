"""nevergrad's NGOpt, which chooses an optimizer by dimension and budget."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from benchmarks.contenders.search_job import task
from benchmarks.contenders.worker import Round, serve


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    import nevergrad as ng

    warnings.simplefilter("ignore")
    count = settings["evaluations"]
    jobs = iter(settings["jobs"])

    def parametrization(schema: dict[str, Any]) -> Any:
        """The schema as nevergrad has it: a box, or an object of steps of which each is one of several kinds."""
        if schema.get("type") == "array":
            number = schema["items"]
            return ng.p.Array(shape=(schema["maxItems"],), lower=number["minimum"], upper=number["maximum"])
        if "oneOf" in schema:
            return ng.p.Choice([parametrization(branch) for branch in schema["oneOf"]])
        if "const" in schema:
            return ng.p.Constant(schema["const"])
        if "enum" in schema:
            return ng.p.Choice(schema["enum"])
        if schema.get("type") == "boolean":
            return ng.p.Choice([False, True])
        if schema.get("type") in ("number", "integer"):
            low, high = schema["minimum"], schema["maximum"]
            scalar = (ng.p.Log if schema.get("x-scale") == "log" else ng.p.Scalar)(lower=low, upper=high)
            return scalar.set_integer_casting() if schema["type"] == "integer" else scalar
        return ng.p.Dict(**{key: parametrization(part) for key, part in schema["properties"].items()})

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.tolist()
        return {key: plain(part) for key, part in value.items()} if isinstance(value, dict) else value

    def search() -> dict[str, Any]:
        job = task(settings, *next(jobs))
        made = parametrization(job.schema)
        made.random_state.seed(job.seed)
        optimizer = ng.optimizers.NGOpt(parametrization=made, budget=count)
        best = float("inf")
        for _ in range(count):
            candidate = optimizer.ask()
            loss = job.loss(plain(candidate.value))
            best = min(best, loss)
            optimizer.tell(candidate, loss)
        return {"samples": [best]}

    return {"version": ng.__version__}, search


if __name__ == "__main__":
    serve("nevergrad", setup)
