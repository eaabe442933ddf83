"""What docs/conventions.md says was found in the libraries: with these releases it is so."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from thalweg import rules

SIZES = np.logspace(-8, 8, 101)


def test_pytorch_s_nadam_multiplies_its_momenta_in_single_precision():
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()

    def after_ten_steps(dtype):
        torch.set_default_dtype(dtype)
        try:
            x = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
            optimizer = torch.optim.NAdam([x])
            for _ in range(10):
                x.grad = torch.ones_like(x)
                optimizer.step()
            return float(x.detach()[0])
        finally:
            torch.set_default_dtype(before)

    rule = rules.nadam.convention("torch")
    x = np.ones(1)
    state = rule.init(x)
    for t in range(1, 11):
        x, state = rule.step(x, np.ones(1), state, rule.hyper(), t=t)
    double = after_ten_steps(torch.float64)
    assert abs(double - x[0]) < 1e-15
    assert 1e-11 < abs(after_ten_steps(torch.float32) - double) < 1e-10


def centered_in_torch(grads, steps):
    torch = pytest.importorskip("torch")
    x = torch.nn.Parameter(torch.zeros(len(grads), dtype=torch.float64))
    optimizer = torch.optim.RMSprop([x], alpha=0.9, centered=True)
    for _ in range(steps):
        x.grad = torch.tensor(grads)
        optimizer.step()
    return x.detach().numpy()


def centered_in_optax(grads, steps):
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    with jax.enable_x64(True):
        chain = optax.rmsprop(1e-2, decay=0.9, centered=True)
        x = jax.numpy.zeros(len(grads))
        state = chain.init(x)
        step = jax.jit(chain.update)
        for _ in range(steps):
            moves, state = step(jax.numpy.asarray(grads), state)
            x = optax.apply_updates(x, moves)
        return np.asarray(x)


@pytest.mark.parametrize("theirs", [centered_in_torch, centered_in_optax], ids=["torch", "optax"])
def test_centered_rmsprop_becomes_nan_there_when_a_gradient_stays_the_same(theirs):
    undefined = np.isnan(theirs(SIZES, 350)).sum()
    print(f"{undefined} of {len(SIZES)} sizes")
    assert 1 <= undefined <= 20


def test_centered_rmsprop_of_ours_stays_finite():
    rule = rules.rmsprop.form(centered=True)
    x, hyper = np.zeros(len(SIZES)), rule.hyper(rho=0.9)
    state = rule.init(x)
    for t in range(1, 351):
        x, state = rule.step(x, SIZES, state, hyper, t=t)
    assert np.isfinite(x).all()


KERAS_ON_PYTORCH = """
import json, sys
import keras
assert keras.backend.backend() == "torch"
keras.config.set_floatx("float64")
start, grads = json.load(sys.stdin)
optimizer = keras.optimizers.ScheduleFreeAdamW(0.1, beta_1=0.9, beta_2=0.99, epsilon=1e-8, warmup_steps=0)
variable = keras.Variable(start, dtype="float64")
optimizer.build([variable])
for grad in grads:
    optimizer.apply([keras.ops.convert_to_tensor(grad, dtype="float64")], [variable])
print(json.dumps(variable.value.detach().tolist()))
"""


def test_keras_s_schedule_free_writes_over_z_before_it_reads_it_on_pytorch(tmp_path):
    for name in ("keras", "torch"):  # in a process of its own: Keras has one backend in each
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    rng = np.random.default_rng(3)
    start, grads = rng.normal(size=5), rng.normal(size=(6, 5))
    done = subprocess.run(
        [sys.executable, "-c", KERAS_ON_PYTORCH],
        input=json.dumps([start.tolist(), grads.tolist()]),
        env={**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found = np.array(json.loads(done.stdout.splitlines()[-1]))

    def meant(overwritten):
        y, z, v = start, start, np.zeros(5)
        for t, g in enumerate(grads, start=1):
            v, before = 0.99 * v + 0.01 * g * g, z
            z = z - 0.1 * g / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
            x = (y - 0.1 * (z if overwritten else before)) / 0.9
            y = 0.1 * z + 0.9 * ((1 - 1 / t) * x + z / t)
        return y

    np.testing.assert_allclose(found, meant(True), rtol=1e-12)
    rule = rules.schedule_free_adamw.convention("keras")
    y, hyper = start, rule.hyper(learning_rate=0.1, beta2=0.99, epsilon=1e-8, warmup_steps=0.0, weight_decay=0.0)
    state = rule.init(y, hyper)
    for t, g in enumerate(grads, start=1):
        y, state = rule.step(y, g, state, hyper, t=t)
    np.testing.assert_allclose(y, meant(False), rtol=1e-12)
    assert np.abs(found - y).max() > 1e-3
