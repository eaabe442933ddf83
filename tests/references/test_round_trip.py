"""State goes once around, NumPy → PyTorch → JAX → PyTensor → NumPy, and it is as if it had stayed on NumPy."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg import optimizers

STAYS = {
    "defaults": ("numpy", "torch, shared kernel", "jax, jitted", "pytensor", "numpy"),
    "everything": ("numpy", "torch", "jax, jitted", "pytensor", "numpy"),
}
EACH = 2
"""Steps at each stay."""


def everywhere() -> Any:
    """The faces, which tests of optimizers share; tests are no packages."""
    name = "optimizers_everywhere"
    if name not in sys.modules:
        path = Path(__file__).parent.parent / "optimizers" / "everywhere.py"
        specification = importlib.util.spec_from_file_location(name, path)
        assert specification is not None
        assert specification.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def drawn(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"a": rng.normal(size=(2, 3)), "b": rng.normal(size=4), "c": rng.normal(size=())}


def everything(kind: str) -> dict[str, Any]:
    """Groups, bounds, clipping, decay, a schedule and a wrapper, where the rule takes them."""
    hooks: dict[str, Any] = {"process_grad": tw.transforms.clip_global_norm(1.5)}
    if kind == "rprop":  # its rate is where its steps start
        return hooks
    rate = tw.schedules.Cosine(0.1, period=5, restarts=True, decay_on_iteration=True)
    return {
        **hooks,
        "learning_rate": rate,
        "groups": [{"variables": ["b"], "weight_decay": 0.25}],
        "wrap": ["lookahead"],
        "sync_period": 3,
    }


@pytest.mark.parametrize("options", STAYS)
@pytest.mark.parametrize("kind", optimizers.registry)
def test_a_state_goes_once_around_the_backends(kind: str, options: str) -> None:
    faces, cls, stays = everywhere().FACES, optimizers.registry[kind], STAYS[options]
    given = everything(kind) if options == "everything" else {}
    grads = [drawn(10 + t) for t in range(EACH * len(stays))]
    reference = faces["numpy"](cls, drawn(0), **given)
    here = faces[stays[0]](cls, drawn(0), **given)
    for number, stay in enumerate(stays):
        if number:
            values, snapshot = here.values(), here.snapshot()
            here = faces[stay](cls, values, **given)
            here.restore(snapshot)
        for grad in grads[number * EACH : (number + 1) * EACH]:
            reference.step(grad)
            here.step(grad)
        for name, value in reference.values().items():
            np.testing.assert_allclose(here.values()[name], value, rtol=0, atol=1e-12, err_msg=f"{stay}: {name}")
    expected, found = reference.snapshot(), here.snapshot()
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        np.testing.assert_allclose(found.arrays[name], array, rtol=1e-12, atol=1e-12, err_msg=name)
    assert found.meta["hyperparameters"] == expected.meta["hyperparameters"]
    if options == "everything" and kind != "rprop":  # a schedule makes PyTensor count, too
        assert found.meta["optimization_state"] == expected.meta["optimization_state"]
        assert found.meta["updates"] == expected.meta["updates"] == EACH * len(stays)
