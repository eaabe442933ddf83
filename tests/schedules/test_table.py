"""What holds for every schedule in ``table.py``: the tests get its rows one by one (``conftest.py``)."""

import json

import numpy as np
import pytest

from tests.schedules.table import TABLE
from thalweg import schedules
from thalweg.schedules import Counts, OptimizationState

N = 400


def test_every_kind_has_a_row():
    assert {row.schedule.kind for row in TABLE.values()} == schedules.registry.keys()


@pytest.mark.sampled(24)
def test_the_values_are_those_of_the_library(row, library):
    row.agrees(row.schedule.values(row.until), row.oracles[library](row.until))


def test_numbers_give_python_floats(row):
    counts = range(1, 60)
    states = [OptimizationState(curr_epoch=k, curr_iter=k) for k in counts]
    found = [row.schedule(state) for state in states]
    assert {type(value) for value in found} == {float}
    assert found == [row.schedule(Counts(curr_epoch=k, curr_iter=k)) for k in counts]
    assert found == row.schedule.values(59).tolist()
    assert states == [OptimizationState(curr_epoch=k, curr_iter=k) for k in counts]


def test_the_first_update_uses_the_first_value(row):
    (first,) = row.schedule.values(1)
    assert row.schedule(OptimizationState()) == first  # nothing seen yet
    assert row.schedule(OptimizationState(curr_epoch=1, curr_iter=1)) == first  # during the first pass and step
    assert row.schedule.values(0).shape == (0,)


def test_what_is_not_counted_does_not_matter(row):
    if row.schedule.counts == "iterations":
        states = [OptimizationState(curr_epoch=7, curr_iter=k) for k in range(1, 61)]
    else:
        states = [OptimizationState(curr_epoch=k, curr_iter=1000 + k) for k in range(1, 61)]
    assert [row.schedule(state) for state in states] == row.schedule.values(60).tolist()


def test_an_array_of_counts_gives_an_array(row):
    k = np.arange(1, N + 1)
    found = row.schedule(Counts(curr_epoch=k, curr_iter=k))
    row.agrees(np.broadcast_to(found, N), row.schedule.values(N))


def test_inside_jit_and_scan(row):
    jax = pytest.importorskip("jax")
    jnp = jax.numpy

    def step(counts: Counts, _: None) -> tuple[Counts, object]:
        counts = counts._replace(curr_epoch=counts.curr_epoch + 1, curr_iter=counts.curr_iter + 1)
        return counts, row.schedule(counts)

    with jax.enable_x64(True):
        compiled = jax.jit(lambda t: row.schedule(Counts(curr_iter=t, curr_epoch=t)))
        row.agrees(np.array([compiled(k) for k in range(1, N + 1)]), row.schedule.values(N))
        start = Counts(*(jnp.asarray(count) for count in Counts()))
        last, scanned = jax.lax.scan(step, start, length=N)
        row.agrees(np.asarray(scanned), row.schedule.values(N))
        assert int(last.curr_iter) == N


def test_in_single_precision_without_x64(row):
    jax = pytest.importorskip("jax")
    compiled = jax.jit(jax.vmap(lambda t: row.schedule(Counts(curr_iter=t, curr_epoch=t))))
    found = compiled(jax.numpy.arange(1, N + 1, dtype="uint32"))
    expected = row.schedule.values(N)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * np.max(expected))


def test_of_a_pytensor_scalar(row):
    pytensor = pytest.importorskip("pytensor")
    t = pytensor.tensor.lscalar("t")
    value = pytensor.tensor.as_tensor(row.schedule(Counts(curr_iter=t, curr_epoch=t)))
    function = pytensor.function([t], value, mode="FAST_COMPILE", on_unused_input="ignore")
    row.agrees(np.array([function(k) for k in range(1, N + 1)]), row.schedule.values(N))


def test_of_a_pytorch_tensor(row):
    pytorch = pytest.importorskip("torch")
    counts = [pytorch.tensor(k) for k in range(1, N + 1)]
    found = [row.schedule(Counts(curr_iter=t, curr_epoch=t)) for t in counts]
    row.agrees(np.array([float(value) for value in found]), row.schedule.values(N))
    assert all(isinstance(value, float) or value.dtype == pytorch.float64 for value in found)


def test_config_round_trip_through_json(row):
    config = row.schedule.get_config()
    built = schedules.build(json.loads(json.dumps(config, allow_nan=False)))
    assert built == row.schedule
    assert hash(built) == hash(row.schedule)
    assert built.get_config() == config
    np.testing.assert_array_equal(built.values(50), row.schedule.values(50))


def test_parameters_do_not_change(row):
    for name in row.schedule.get_config():
        with pytest.raises(AttributeError):
            setattr(row.schedule, name, 0.1)


def test_without_a_plateau_there_is_no_state(row):
    if row.schedule.kind == "plateau":
        return
    before = row.schedule.values(50)
    row.schedule.observe(1.0)
    assert row.schedule.state() == {}
    row.schedule.restore({})
    np.testing.assert_array_equal(row.schedule.values(50), before)
