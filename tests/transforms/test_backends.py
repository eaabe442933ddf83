"""One table: every transform, on every backend, for every dtype and shape, equals what it is on NumPy.

A row makes a transform for a shape. What it takes (one array, several by name, gradient and parameter) is told by
its kind. A test demands a row for each kind in the registry.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from thalweg import transforms
from thalweg.errors import HyperparameterError
from thalweg.transforms import (
    ParameterTransform,
    TreeTransform,
    add_decay,
    bounds,
    chain,
    clip_adaptive,
    clip_global_norm,
    clip_norm,
    clip_value,
    l1_ball,
    l2_ball,
    mask,
    nonnegative,
    normalize,
    scale,
    simplex,
    smooth,
)

Shape = tuple[int, ...]


def weights(shape: Shape) -> np.ndarray:
    drawn = np.random.default_rng(3).normal(size=shape)
    return np.where(drawn > -0.3, drawn, 0.0)


TABLE: dict[str, Callable[[Shape], Any]] = {
    "bounds": lambda shape: bounds(-0.5, 0.25),
    "bounds, one": lambda shape: bounds(upper=0.1),
    "bounds, far": lambda shape: bounds(-1e300, 1e300),
    "nonnegative": lambda shape: nonnegative(),
    "mask": lambda shape: mask(weights(shape)),
    "mask, boolean": lambda shape: mask(weights(shape) > 0),
    "smooth": lambda shape: smooth(1.3),
    "smooth, wide": lambda shape: smooth(5.0),
    "smooth, by axis": lambda shape: smooth(tuple(0.9 * axis for axis in range(len(shape)))),
    "scale": lambda shape: scale(-0.3),
    "normalize": lambda shape: normalize(),
    "clip_value": lambda shape: clip_value(0.3),
    "clip_value, far": lambda shape: clip_value(1e300),
    "clip_norm": lambda shape: clip_norm(0.7),
    "clip_norm, far": lambda shape: clip_norm(1e300),
    "clip_global_norm": lambda shape: clip_global_norm(0.7),
    "clip_global_norm, far": lambda shape: clip_global_norm(70.0),
    "clip_adaptive": lambda shape: clip_adaptive(0.8),
    "clip_adaptive, last": lambda shape: clip_adaptive(0.8, epsilon=0.5, axis=None if shape == () else -1),
    "clip_adaptive, all": lambda shape: clip_adaptive(0.8, axis=None if shape == () else tuple(range(len(shape)))),
    "add_decay": lambda shape: add_decay(0.2),
    "add_decay, masked": lambda shape: add_decay(0.2, weights(shape)),
    "simplex": lambda shape: simplex(),
    "simplex, large": lambda shape: simplex(31.0),
    "l1_ball": lambda shape: l1_ball(1.1),
    "l1_ball, large": lambda shape: l1_ball(1e5),
    "l2_ball": lambda shape: l2_ball(0.7),
    "l2_ball, large": lambda shape: l2_ball(1e5),
    "chain": lambda shape: chain(mask(weights(shape)), smooth(1.0), normalize(), clip_value(0.5)),
}
SHAPES: list[Shape] = [(), (0,), (0, 3), (7,), (200,), (4, 5), (3, 2, 4)]
ARRAYS = [*(("float64", shape) for shape in SHAPES), *(("float32", shape) for shape in [(), (4, 5)])]

PLACES = [
    (backend, dtype, shape)
    for backend in ("jax", "jax jit", "torch", "pytensor")
    for dtype, shape in ARRAYS
    if backend != "jax" or shape in [(), (0, 3), (4, 5)]  # without jit it compiles each operation for each shape
]

every_row = pytest.mark.parametrize("row", TABLE)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def test_each_kind_has_a_row() -> None:
    made = {make((4, 5)).kind for make in TABLE.values()}
    assert made == {*transforms.registry, "chain"}


def given(transform: Any, shape: Shape, dtype: Any) -> list[np.ndarray]:
    """The arrays that a transform takes."""
    rng = np.random.default_rng(5)
    several = isinstance(transform, TreeTransform | ParameterTransform)
    return [np.array(rng.normal(size=shape), dtype) for _ in range(2 if several else 1)]


def call(transform: Any, *arrays: Any) -> list[Any]:
    """What a transform of any kind makes of arrays."""
    if isinstance(transform, TreeTransform):
        made = transform(dict(zip("ba", arrays, strict=True)))
        assert list(made) == ["b", "a"]
        return list(made.values())
    return [transform(*arrays)]


# The backends: each makes of a transform and NumPy arrays the results as NumPy arrays, and checks what they were.


def double() -> contextlib.AbstractContextManager[Any]:
    """JAX with 64 bits, here only."""
    jax = importlib.import_module("jax")
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


def on_jax(transform: Any, arrays: list[np.ndarray], *, jit: bool = False) -> list[np.ndarray]:
    jax = pytest.importorskip("jax")
    with double():
        given = [jax.numpy.asarray(array) for array in arrays]
        found = (jitted(transform) if jit else functools.partial(call, transform))(*given)
        assert all(isinstance(result, jax.Array) for result in found)
        assert [str(result.dtype) for result in found] == [str(array.dtype) for array in given[: len(found)]]
        return [np.asarray(result) for result in found]


@functools.lru_cache(maxsize=1)
def jitted(transform: Any) -> Any:
    """A transform of JAX's compiler; one that is asked for again is not compiled again."""
    return importlib.import_module("jax").jit(functools.partial(call, transform))


def on_torch(transform: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
    torch = pytest.importorskip("torch")
    given = [torch.tensor(array) for array in arrays]
    found = call(transform, *given)
    for result in found:
        assert isinstance(result, torch.Tensor)
        assert result.dtype == given[0].dtype
        assert all(result.data_ptr() != tensor.data_ptr() for tensor in given if tensor.numel())
    assert all(
        np.array_equal(tensor.numpy(), array, equal_nan=True) for tensor, array in zip(given, arrays, strict=True)
    )
    return [result.numpy() for result in found]


def on_pytensor(transform: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
    pytest.importorskip("pytensor")
    function = compiled(transform, tuple((str(array.dtype), array.ndim) for array in arrays))
    return [np.asarray(result) for result in function(*arrays)]


@functools.lru_cache(maxsize=1)
def compiled(transform: Any, kinds: tuple[tuple[str, int], ...]) -> Any:
    """A transform as a function of PyTensor; one that is asked for again is not compiled again."""
    pytensor = importlib.import_module("pytensor")
    inputs = [pytensor.tensor.TensorType(dtype, shape=(None,) * axes)() for dtype, axes in kinds]
    outputs = call(transform, *inputs)
    assert all(output.dtype == inputs[0].dtype for output in outputs)
    return pytensor.function(inputs, outputs, mode="FAST_COMPILE")


BACKENDS: dict[str, Callable[[Any, list[np.ndarray]], list[np.ndarray]]] = {
    "jax": on_jax,
    "jax jit": functools.partial(on_jax, jit=True),
    "torch": on_torch,
    "pytensor": on_pytensor,
}


def agree(found: list[np.ndarray], expected: list[np.ndarray], **more: Any) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        tolerance = 1e-12 if one.dtype == np.float64 else 3e-6
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, **more)


@pytest.mark.sampled(300)
@every_row
@pytest.mark.parametrize(("backend", "dtype", "shape"), PLACES, ids=str)
def test_it_is_what_it_is_on_numpy(backend: str, row: str, dtype: str, shape: Shape) -> None:
    transform = TABLE[row](shape)
    arrays = given(transform, shape, dtype)
    if transform.kind == "simplex" and 0 in shape:
        pytest.skip("no empty array has a sum; a test of its own")
    agree(BACKENDS[backend](transform, arrays), call(transform, *arrays))


@pytest.mark.parametrize("backend", BACKENDS)
@every_row
def test_what_is_not_finite_stays_so_where_it_does_on_numpy(backend: str, row: str) -> None:
    transform = TABLE[row]((4, 5))
    for bad in (np.nan, np.inf, -np.inf):  # in one test, since it compiles once
        arrays = given(transform, (4, 5), "float64")
        arrays[0][2, 3] = bad
        found, expected = BACKENDS[backend](transform, arrays), call(transform, *arrays)
        if "smooth" in row and np.isinf(bad):
            expected = [np.where(np.isfinite(array), array, np.nan) for array in expected]
        agree(found, expected, err_msg=str(bad))


@every_row
@every_dtype
@pytest.mark.parametrize("shape", [(), (7,), (4, 5), (3, 2, 4), (130, 97)], ids=str)
def test_numpy_arrays_of_any_layout(row: str, dtype: str, shape: Shape) -> None:
    transform = TABLE[row](shape)
    plain = given(transform, shape, dtype)
    expected = call(transform, *plain)
    back = (slice(None, None, -1),) * len(shape)
    layouts = {
        "read-only": [array.copy() for array in plain],
        "Fortran": [np.asfortranarray(array).reshape(shape, order="A") for array in plain],
        "backwards": [array[back].copy()[back] for array in plain],
        "strided": [np.repeat(array, 2, axis=-1)[..., ::2] if shape else array.copy() for array in plain],
        "big-endian": [array.astype(array.dtype.newbyteorder(">")) for array in plain],
    }
    for name, arrays in layouts.items():
        for array in arrays:
            array.setflags(write=False)
        before = [digest(array) for array in arrays]
        results = call(transform, *arrays)
        assert [digest(array) for array in arrays] == before, name
        for result, wanted, array in zip(results, expected, arrays, strict=False):
            assert type(result) is np.ndarray, name
            assert result.shape == shape, name
            assert result.dtype == array.dtype, name
            assert result.flags.writeable, name
            assert not np.shares_memory(result, array), name
            np.testing.assert_array_equal(result, wanted, err_msg=name)


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


@every_row
@every_dtype
@pytest.mark.parametrize("shape", [(0,), (0, 3)], ids=str)
def test_empty_numpy_arrays(row: str, dtype: str, shape: Shape) -> None:
    transform = TABLE[row](shape)
    arrays = given(transform, shape, dtype)
    if transform.kind == "simplex":
        with pytest.raises(HyperparameterError, match="has the sum 0, not"):
            transform(*arrays)
        return
    for result in call(transform, *arrays):
        assert result.shape == shape
        assert result.dtype == dtype


@pytest.mark.slow
def test_pytensor_compiled_as_it_is_by_default() -> None:
    """One function of everything, since its compiler takes seconds; NaN and infinity too."""
    pytensor = pytest.importorskip("pytensor")
    grad, param = pytensor.tensor.matrix("grad", dtype="float64"), pytensor.tensor.matrix("param", dtype="float64")
    made = {row: make((4, 5)) for row, make in TABLE.items() if ", " not in row}  # the first of each kind
    taken = {row: 1 if isinstance(transform, transforms.Transform) else 2 for row, transform in made.items()}
    outputs = {row: call(transform, *[grad, param][: taken[row]]) for row, transform in made.items()}
    function = pytensor.function([grad, param], [one for several in outputs.values() for one in several])
    for bad in (0.5, np.nan, np.inf, -np.inf):
        arrays = [np.random.default_rng(5 + i).normal(size=(4, 5)) for i in range(2)]
        arrays[0][2, 3] = bad
        found = iter(function(*arrays))
        for row, transform in made.items():
            expected = call(transform, *arrays[: taken[row]])
            if "smooth" in row and np.isinf(bad):
                expected = [np.where(np.isfinite(array), array, np.nan) for array in expected]
            agree([next(found) for _ in expected], expected, err_msg=row)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("row", ["mask", "add_decay, masked"])
def test_weights_of_another_shape_are_refused(backend: str, row: str) -> None:
    transform = TABLE[row]((1, 5))  # would broadcast
    with pytest.raises((HyperparameterError, AssertionError), match=r"nothing is broadcast|SpecifyShape"):
        BACKENDS[backend](transform, given(transform, (4, 5), "float64"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("row", ["add_decay", "clip_adaptive"])
def test_a_parameter_of_another_shape_or_dtype_is_refused(backend: str, row: str) -> None:
    transform = TABLE[row]((4, 5))
    with pytest.raises(HyperparameterError, match="the parameter is"):
        BACKENDS[backend](transform, [np.ones((4, 5)), np.ones((4, 5), "float32")])
    with pytest.raises(Exception, match=r"nothing is broadcast|[Bb]roadcast|shape"):
        BACKENDS[backend](transform, [np.ones((4, 5)), np.ones((1, 5))])


@pytest.mark.parametrize("backend", BACKENDS)
@every_row
def test_integers_are_refused(backend: str, row: str) -> None:
    transform = TABLE[row]((4, 5))
    arrays = [array.astype("int32") for array in given(transform, (4, 5), "float64")]
    with pytest.raises(HyperparameterError, match="it works on arrays of floats"):
        BACKENDS[backend](transform, arrays)


def test_jax_stays_as_it_was() -> None:
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    on_jax(normalize(), [np.ones(3)])
    assert jax.config.jax_enable_x64 == before
    assert smooth(1.0)(jax.numpy.ones(3)).dtype == jax.numpy.ones(3).dtype
