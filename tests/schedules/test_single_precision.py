"""What single precision, JAX's without float64, could do to a schedule after many counts.

In a power of a count γ itself would be rounded: after t counts the error is t times as large. And a count has no half
after 2²³.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from thalweg.schedules import Cosine, Counts, Cyclic, Exp, Schedule, Step, WarmUp

FAR = 1_000_000
COUNTS = np.unique(
    np.r_[np.arange(300), 65_534:65_539, FAR, np.random.default_rng(4).integers(0, FAR + 1, 2000)],
).astype(np.int32)


def by_step(gamma: float) -> Schedule:
    return Exp(3.0, gamma=gamma, decay_on_iteration=True)


POWERS: dict[str, Schedule] = {
    "exp, a millionth": by_step(1 - 1e-6),
    "exp, a billionth": by_step(1 - 1e-9),
    "exp, a tenth": by_step(0.9),
    "exp, all but nothing": by_step(1e-300),
    "step": Step(1.0, period=7, gamma=0.99999, decay_on_iteration=True),
    "step, long": Step(1.0, period=49, gamma=0.1, decay_on_iteration=True),
    "warm-up": WarmUp(by_step(0.999999), duration=1000),
    "cyclic": Cyclic(0.0, peak=2.0, up=2000, mode="exp_range", gamma=0.999999),
    "cyclic, gamma 1": Cyclic(0.0, peak=2.0, up=2000, mode="exp_range", gamma=1.0),
}


def exact(schedule: Schedule, completed: np.ndarray) -> np.ndarray:
    return np.asarray(schedule(Counts(curr_iter=completed + 1, curr_epoch=completed + 1)))


@pytest.mark.parametrize("name", POWERS)
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_a_power_is_exact_to_a_millionth_after_a_million_counts(name: str, jit: bool) -> None:
    jax = pytest.importorskip("jax")
    schedule = POWERS[name]

    def value(count: Any) -> Any:
        return schedule(Counts(curr_iter=count, curr_epoch=count))

    found = np.asarray((jax.jit(value) if jit else value)(jax.numpy.asarray(COUNTS + 1)))
    assert found.dtype == np.float32
    # XLA takes subnormal numbers for zero
    np.testing.assert_allclose(found, exact(schedule, COUNTS), rtol=1e-6, atol=1.2e-38)


def test_powers_of_two_are_exact() -> None:
    jax = pytest.importorskip("jax")
    found = by_step(0.5)(Counts(curr_iter=jax.numpy.arange(1, 121)))
    np.testing.assert_array_equal(np.asarray(found), exact(by_step(0.5), np.arange(120)))


def test_between_two_whole_counts() -> None:
    """An epoch that is half over, of a loop of one's own, and how fast the value falls there."""
    jax = pytest.importorskip("jax")

    def value(count: Any) -> Any:
        return by_step(0.9)(Counts(curr_iter=count))

    for count in (1.5, 301.25):
        wanted = exact(by_step(0.9), np.asarray(count - 1))
        np.testing.assert_allclose(value(jax.numpy.float32(count)), wanted, rtol=1e-6)
        np.testing.assert_allclose(jax.grad(value)(count), wanted * np.log(0.9), rtol=1e-6)


def test_with_float64_it_is_the_power_itself() -> None:
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        found = jax.jit(lambda k: by_step(1 - 1e-6)(Counts(curr_iter=k)))(jax.numpy.asarray(COUNTS + 1))
        assert found.dtype == np.float64
        np.testing.assert_allclose(np.asarray(found), exact(by_step(1 - 1e-6), COUNTS), rtol=1e-12)


@pytest.mark.parametrize(
    "schedule",
    [
        Cosine(1.0, period=1000, restarts=True, decay_on_iteration=True),
        Step(1.0, period=100_000, gamma=0.9, decay_on_iteration=True),
        Step(1.0, period=10**12, decay_on_iteration=True),
        Cyclic(0.0, peak=1.0, up=7, down=13),
    ],
    ids=["cosine", "step", "step, never", "cyclic"],
)
def test_periods_end_where_they_end_up_to_the_last_count_that_is_exact(schedule: Schedule) -> None:
    jax = pytest.importorskip("jax")
    for top in (2**22, 2**23, 9_000_001, 2**24 - 2):
        completed = np.arange(top - 1500, top, dtype=np.int32)
        found = jax.jit(lambda k: schedule(Counts(curr_iter=k)))(jax.numpy.asarray(completed + 1))
        np.testing.assert_allclose(np.asarray(found), exact(schedule, completed), rtol=0, atol=5e-7)
