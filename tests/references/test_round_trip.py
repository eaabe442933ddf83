"""State goes once around, NumPy → PyTorch → JAX → PyTensor → NumPy, and it is as if it had stayed on NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from tests.optimizers import everywhere
from thalweg import optimizers
from thalweg.errors import OptimizerError, StateMismatchError
from thalweg.optimizers import OptimizerSnapshot

STAYS = {
    "defaults": ("numpy", "torch, shared kernel", "jax, jitted", "pytensor", "numpy"),
    "everything": ("numpy", "torch", "jax, jitted", "pytensor", "numpy"),
}
EACH = 2
"""Steps at each stay."""


def drawn(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"a": rng.normal(size=(2, 3)), "b": rng.normal(size=4), "c": rng.normal(size=())}


def everything(kind: str) -> dict[str, Any]:
    """Groups, bounds, clipping, decay, a schedule and a wrapper, where the rule takes them."""
    hooks: dict[str, Any] = {"process_grad": tw.transforms.clip_global_norm(1.5)}
    if "learning_rate" in optimizers.registry[kind].rule.initial:
        return hooks
    rate = tw.schedules.Cosine(0.1, period=5, restarts=True, decay_on_iteration=True)
    wrapper = {} if optimizers.registry[kind].rule.derived else {"wrap": ["lookahead"], "sync_period": 3}
    return {**hooks, "learning_rate": rate, "groups": [{"variables": ["b"], "weight_decay": 0.25}], **wrapper}


@pytest.mark.sampled(16)
@pytest.mark.parametrize("options", STAYS)
@pytest.mark.parametrize("kind", optimizers.registry)
def test_a_state_goes_once_around_the_backends(kind: str, options: str) -> None:
    faces, cls, stays = everywhere.FACES, optimizers.registry[kind], STAYS[options]
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
    if "learning_rate" in given:  # a schedule makes PyTensor count, too
        assert found.meta["optimization_state"] == expected.meta["optimization_state"]
        assert found.meta["updates"] == expected.meta["updates"] == EACH * len(stays)


def test_what_is_no_snapshot_is_refused_with_what_to_give(tmp_path: Path) -> None:
    import torch

    from thalweg.optimizers.jax import JaxOptimizer
    from thalweg.optimizers.torch import TorchOptimizer

    x = tw.Variable(np.ones(2), name="x", needs_grad=True)
    theirs = TorchOptimizer([("x", torch.nn.Parameter(torch.ones(2)))], tw.Adam())
    for restore in (
        tw.Adam(x).restore,
        theirs.restore,
        lambda given: JaxOptimizer(tw.Adam()).restore(given, {"x": np.ones(2, np.float32)}),
    ):
        with pytest.raises(OptimizerError, match=r"give what state\(\) or snapshot\(\) returned, or OptimizerSnapshot"):
            restore(str(tmp_path))


def test_a_snapshot_on_the_disk_is_the_same_and_that_of_dump(tmp_path: Path) -> None:
    x = tw.Variable(np.arange(3.0), name="x", needs_grad=True)
    optimizer = tw.Adam(x, learning_rate=0.1)
    tw.wait(optimizer.step(grad=np.ones(3)))
    optimizer.state().save(tmp_path / "snapshot")
    optimizer.dump(tmp_path / "dump")
    for folder in ("snapshot", "dump"):
        found = OptimizerSnapshot.load(tmp_path / folder)
        assert found.meta == optimizer.state().meta
        assert found.arrays.keys() == optimizer.state().arrays.keys()
        for name, array in optimizer.state().arrays.items():
            assert found.arrays[name].tobytes() == array.tobytes()
    with pytest.raises(StateMismatchError, match="variables"):  # no data to load the variables from
        tw.Adam(tw.Variable(np.zeros(3), name="x", needs_grad=True)).load(tmp_path / "snapshot")
