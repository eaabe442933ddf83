"""optax, jitted with parameters and state donated."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders.steps_job import StepJob, rounds
from benchmarks.contenders.worker import Round, serve


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    import jax
    import optax

    job = StepJob(**settings)
    params, grads = job.arrays()
    made = {
        "sgd": lambda: optax.sgd(0.001),
        "momentum": lambda: optax.sgd(0.001, momentum=0.9),
        "adagrad": lambda: optax.adagrad(0.01),
        "rmsprop": lambda: optax.rmsprop(0.001),
        "adam": lambda: optax.adam(0.001),
        "adamax": lambda: optax.adamax(0.002),
        "adadelta": lambda: optax.adadelta(1.0),
    }[job.rule]()
    held: dict[str, Any] = {"params": jax.device_put(params)}
    slopes = jax.device_put(grads)
    held["state"] = made.init(held["params"])

    def update(params: Any, state: Any, slopes: Any) -> tuple[Any, Any]:
        moves, state = made.update(slopes, state, params)
        return optax.apply_updates(params, moves), state

    jitted = jax.jit(update, donate_argnums=(0, 1))

    def step() -> None:
        held["params"], held["state"] = jitted(held["params"], held["state"], slopes)
        jax.block_until_ready(held["params"])

    return {"version": optax.__version__}, rounds(job, step)


if __name__ == "__main__":
    serve("optax", setup)
