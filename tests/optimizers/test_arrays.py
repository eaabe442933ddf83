"""Every kind of array as parameter and as gradient: it works as its contiguous native copy, or is refused by name."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from thalweg import optimizers, transforms
from thalweg.errors import GradientDtypeError, GradientShapeError, MissingGradientError, ParameterError
from thalweg.graph import Variable, wait
from thalweg.optimizers import SGD, Adam, LocalOptimizer, Momentum

RULES = ("sgd", "momentum", "adam", "rprop", "lamb", "schedule_free_adamw")
DTYPES = (np.float32, np.float64)
Laid = tuple[np.ndarray, np.ndarray]
"""An array, and the memory it lies in with what lies between its elements."""


class Sub(np.ndarray):
    """A subclass of ndarray."""


def _plain(values: np.ndarray) -> Laid:
    copy = np.array(values, order="C")
    return copy, copy


def _fortran(values: np.ndarray) -> Laid:
    copy = np.array(values, order="F")
    return copy, copy


def _reversed(values: np.ndarray) -> Laid:
    turned = (slice(None, None, -1),) * values.ndim
    copy = values[turned].copy() if values.ndim else values.copy()
    return copy[(*turned, ...)], copy


def _strided(values: np.ndarray) -> Laid:
    """Every second element along each axis."""
    memory = np.full(tuple(2 * n for n in values.shape), 777, values.dtype)
    view = memory[(*(slice(None, None, 2),) * values.ndim, ...)]
    view[...] = values
    return view, memory


def _middle(values: np.ndarray) -> Laid:
    """Contiguous, but not at the beginning of its memory."""
    memory = np.full(values.size + 7, 777, values.dtype)
    view = memory[3 : 3 + values.size].reshape(values.shape)
    view[...] = values
    return view, memory


def _swapped(values: np.ndarray) -> Laid:
    copy = values.astype(values.dtype.newbyteorder("S"))
    return copy, copy


def _swapped_fortran(values: np.ndarray) -> Laid:
    copy = np.array(_swapped(values)[0], order="F")
    return copy, copy


def _unaligned(values: np.ndarray) -> Laid:
    """One byte off."""
    memory = np.full(values.nbytes + 1, 7, np.uint8)
    view = memory[1:].view(values.dtype).reshape(values.shape)
    view[...] = values
    return view, memory


def _field(values: np.ndarray) -> Laid:
    """A field of records of an odd number of bytes."""
    memory = np.zeros(values.shape, np.dtype([("flag", "u1"), ("value", values.dtype)]))
    memory["flag"] = 7
    memory["value"] = values
    return memory["value"], memory


def _subclass(values: np.ndarray) -> Laid:
    copy = np.array(values)
    return copy.view(Sub), copy


def _axes(values: np.ndarray) -> Laid:
    """Axes of length one may have any stride."""
    copy = np.array(values)
    strides = tuple(13 if n == 1 else s for n, s in zip(copy.shape, copy.strides, strict=True))
    return as_strided(copy, copy.shape, strides), copy


def _read_only(values: np.ndarray) -> Laid:
    copy = np.array(values)
    copy.setflags(write=False)
    return copy, copy


def _of_bytes(values: np.ndarray) -> Laid:
    copy = np.frombuffer(values.tobytes() or b"\0" * values.itemsize, values.dtype)[: values.size]
    return copy.reshape(values.shape), copy


def _no_strides(values: np.ndarray) -> Laid:
    """One number for all: only a gradient can be that."""
    one = np.array(values.reshape(-1)[0] if values.size else 0, values.dtype)
    return as_strided(one, values.shape, (0,) * values.ndim), one


WRITABLE: dict[str, Callable[[np.ndarray], Laid]] = {
    "plain": _plain,
    "Fortran order": _fortran,
    "negative strides": _reversed,
    "every second": _strided,
    "in the middle": _middle,
    "byte-swapped": _swapped,
    "byte-swapped Fortran order": _swapped_fortran,
    "unaligned": _unaligned,
    "field of records": _field,
    "subclass": _subclass,
    "strides of axes of one": _axes,
}
READABLE = {**WRITABLE, "read-only": _read_only, "immutable bytes": _of_bytes, "no strides": _no_strides}
SHAPES = ((4, 3), (5,), (), (0,), (2, 0, 3), (1, 6, 1), (1,), (2, 3, 2))


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def native(array: np.ndarray) -> np.ndarray:
    return np.array(array, array.dtype.newbyteorder("="), order="C", subok=False)


def values(shape: tuple[int, ...], dtype: Any, seed: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


async def as_the_copy_does(
    kind: str, odd: Laid, gradients: list[Laid], *, own: bool = True, **options: Any
) -> LocalOptimizer:
    """Steps on an array of some layout are those on its contiguous native copy, and touch nothing beside it."""
    data, memory = odd
    expected = native(data)
    one, other = Variable(data, name="x"), Variable(expected, name="x")
    first, second = (optimizers.registry[kind](variable, **options) for variable in (one, other))
    assert one.data is data
    around = memory.copy()
    for grad, beneath in gradients:
        before, bytes_before = digest(grad), digest(beneath)
        if own:
            one.grad, other.grad = grad, native(grad)
            await first.step()
            await second.step()
            await first.step()  # the same array again: the short way, where there is one
            await second.step()
            assert one.grad is grad
        else:
            await first.step(grad=grad)
            await second.step(grad=native(grad))
        assert (digest(grad), digest(beneath)) == (before, bytes_before)
        assert native(data).tobytes() == expected.tobytes()
    assert one.data is data
    mine, yours = first.state(), second.state()
    assert mine.meta == yours.meta
    assert mine.arrays.keys() == yours.arrays.keys()
    for name, array in mine.arrays.items():
        assert array.tobytes() == yours.arrays[name].tobytes(), name
    if memory is not data and not isinstance(data, Sub):  # what lies between the elements is as it was
        now = memory.copy()
        for copy in (around, now):
            same_place(copy, memory, data)[...] = 0
        assert now.tobytes() == around.tobytes()
    return first


def same_place(copy: np.ndarray, memory: np.ndarray, view: np.ndarray) -> np.ndarray:
    """The elements of a copy of ``memory`` that ``view`` has in ``memory``."""
    offset = view.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    return np.ndarray(view.shape, view.dtype, copy.data, offset, view.strides) if view.size else view.copy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", RULES)
def test_every_layout_of_a_parameter_with_every_layout_of_a_gradient(kind: str, dtype: Any) -> None:
    async def go() -> None:
        for number, shape in enumerate(SHAPES[:5]):
            for of_data, lay_data in WRITABLE.items():
                for of_grad, lay_grad in READABLE.items():
                    data = lay_data(values(shape, dtype, number))
                    gradients = [lay_grad(values(shape, dtype, 10 + t)) for t in range(2)]
                    try:
                        await as_the_copy_does(kind, data, gradients)
                    except Exception as error:
                        error.add_note(f"{kind} {shape}: data {of_data}, gradient {of_grad}")
                        raise

    wait(go())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", optimizers.registry)
def test_every_rule_on_every_layout(kind: str, dtype: Any) -> None:
    async def go() -> None:
        for shape in SHAPES:
            for name, lay in WRITABLE.items():
                gradients = [lay(values(shape, dtype, 10 + t)) for t in range(3)]
                for own in (True, False):
                    try:
                        await as_the_copy_does(kind, lay(values(shape, dtype, 1)), gradients, own=own)
                    except Exception as error:
                        error.add_note(f"{kind} {shape}: {name}, own {own}")
                        raise

    wait(go())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(RULES),
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(0, 5), max_size=4).map(tuple),
    of_data=st.sampled_from(sorted(WRITABLE)),
    of_grads=st.lists(st.sampled_from(sorted(READABLE)), min_size=1, max_size=4),
    axes=st.randoms(use_true_random=False),
    bounded=st.booleans(),
    own=st.booleans(),
)
def test_any_layout_shape_and_order_of_axes(
    kind: str,
    dtype: Any,
    shape: tuple[int, ...],
    of_data: str,
    of_grads: list[str],
    axes: Any,
    bounded: bool,
    own: bool,
) -> None:
    order = list(range(len(shape)))
    axes.shuffle(order)
    turned = tuple(np.argsort(order))

    def laid(how: str, seed: int) -> Laid:
        array, memory = READABLE[how](values(shape, dtype, seed).transpose(order))
        return array.transpose(turned), memory

    bounded = bounded and not optimizers.registry[kind].rule.derived  # which takes no process_model
    options = {"process_model": transforms.bounds(-0.5, 0.5)} if bounded else {}
    gradients = [laid(how, 10 + t) for t, how in enumerate(of_grads)]
    wait(as_the_copy_does(kind, laid(of_data, 1), gradients, own=own, **options))


@pytest.mark.parametrize("layout", WRITABLE)
def test_all_that_is_done_with_data_is_done_in_any_layout(layout: str, tmp_path: Path) -> None:
    """Hooks that fail and are undone, evaluation, averages, dump and load, replaced data."""
    lay = WRITABLE[layout]

    def failing(model: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError

    odd, plain = (Variable(how(values((4, 3), np.float64, 1))[0], name="x") for how in (lay, _plain))
    one, other = (SGD(variable, wrap=["ema"], ema_decay=0.5) for variable in (odd, plain))
    for t in range(3):
        for optimizer, how in ((one, lay), (other, _plain)):
            wait(optimizer.step(grad=how(values((4, 3), np.float64, t))[0]))
            optimizer.process_model = failing
            with pytest.raises(ZeroDivisionError):
                wait(optimizer.step(grad=how(values((4, 3), np.float64, t))[0]))
            optimizer.process_model = None
    assert native(odd.data).tobytes() == plain.data.tobytes()
    assert native(one.eval_params()["x"]).tobytes() == other.eval_params()["x"].tobytes()
    array = odd.data
    with one.evaluating(), other.evaluating():
        assert odd.data is array
        assert native(odd.data).tobytes() == plain.data.tobytes()
    assert native(odd.data).tobytes() == plain.data.tobytes()
    one.dump(tmp_path / "odd")
    other.dump(tmp_path / "plain")
    for target, source in ((one, "plain"), (other, "odd")):
        target.reset()
        target.variable.data[...] = 0
        target.load(tmp_path / source)
        wait(target.step(grad=values((4, 3), np.float64, 9)))
    assert odd.data is array
    assert native(odd.data).tobytes() == plain.data.tobytes()
    odd.data, plain.data = (how(values((4, 3), np.float64, 5))[0] for how in (lay, _plain))
    for target in (one, other):
        wait(target.step(grad=values((4, 3), np.float64, 9)))
    assert native(odd.data).tobytes() == plain.data.tobytes()


def test_a_matrix_stays_one() -> None:
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1.0, 2.0], [3.0, 4.0]])
    x = Variable(matrix, name="x")
    optimizer = Momentum(x, learning_rate=1.0, process_model=lambda m: 2 * m)
    for _ in range(2):
        with pytest.warns(PendingDeprecationWarning):
            grad = np.matrix(np.ones((2, 2)))
        wait(optimizer.step(grad=grad))
    assert x.data is matrix
    np.testing.assert_array_equal(np.asarray(matrix), 2 * (2 * (np.array([[1, 2], [3, 4]]) - 1) - 1.9))


@pytest.mark.parametrize("offset", [0, 3])
def test_memory_maps_are_updated_on_the_disk(offset: int, tmp_path: Path) -> None:
    """Also where the file's header leaves the numbers unaligned."""
    path, start = tmp_path / "data", values((300,), np.float32, 1)
    path.write_bytes(b"x" * offset + start.tobytes())
    (tmp_path / "grad").write_bytes(values((300,), np.float32, 2).tobytes())
    mapped = np.memmap(path, np.float32, "r+", offset, (300,))
    grad = np.memmap(tmp_path / "grad", np.float32, "r")
    x, y = Variable(mapped, name="x"), Variable(start.copy(), name="x")
    x.grad, y.grad = grad, np.array(grad)
    one, other = Adam(x), Adam(y)
    for _ in range(3):
        wait(one.step())
        wait(other.step())
    assert x.data is mapped
    mapped.flush()
    assert path.read_bytes() == b"x" * offset + y.data.tobytes()
    read_only = Variable(np.memmap(path, np.float32, "r", offset, (300,)), name="x")
    with pytest.raises(ParameterError, match="'x' holds a read-only array"):
        Adam(read_only)


# -- aliases --


def alone(kind: str, data: dict[str, np.ndarray], grads: dict[str, np.ndarray]) -> dict[str, bytes]:
    """One step with copies of everything."""
    variables = [Variable(native(array), name=name) for name, array in data.items()]
    wait(optimizers.registry[kind](variables).step(grad={name: native(array) for name, array in grads.items()}))
    return {variable.name or "": variable.data.tobytes() for variable in variables}


@pytest.mark.parametrize("size", [3, 200_000])
@pytest.mark.parametrize("kind", RULES)
def test_gradients_that_lie_in_parameters_are_those_of_before_the_step(kind: str, size: int) -> None:
    x, y = (Variable(values((size,), np.float32, seed), name=name) for seed, name in enumerate("xy"))
    cases: list[dict[str, np.ndarray]] = [
        {"x": x.data, "y": y.data},
        {"x": y.data, "y": x.data},
        {"x": x.data[::-1], "y": x.data},
        {"x": x.data.reshape(1, -1)[0], "y": y.data[::-1]},
    ]
    for grads in cases:
        expected = alone(kind, {"x": x.data, "y": y.data}, grads)
        optimizer = optimizers.registry[kind]([x, y])
        wait(optimizer.step(grad=grads))
        assert {"x": x.data.tobytes(), "y": y.data.tobytes()} == expected
    x.grad, y.grad = y.data, x.data
    optimizer = optimizers.registry[kind]([x, y])
    twins = {"x": x.data.copy(), "y": y.data.copy()}
    reference = optimizers.registry[kind]([Variable(array, name=name) for name, array in twins.items()])
    for _ in range(3):
        wait(optimizer.step())
        wait(reference.step(grad={"x": twins["y"].copy(), "y": twins["x"].copy()}))
        assert (x.data.tobytes(), y.data.tobytes()) == (twins["x"].tobytes(), twins["y"].tobytes())


@pytest.mark.parametrize("kind", RULES)
def test_one_gradient_for_several_variables(kind: str) -> None:
    grad = values((4, 3), np.float64, 5)
    data = {name: values((4, 3), np.float64, seed) for seed, name in enumerate("abc")}
    variables = [Variable(array.copy(), name=name) for name, array in data.items()]
    for variable in variables:
        variable.grad = grad
    before = digest(grad)
    expected = alone(kind, data, dict.fromkeys(data, grad))
    optimizer = optimizers.registry[kind](variables)
    wait(optimizer.step())
    assert {variable.name: variable.data.tobytes() for variable in variables} == expected
    wait(optimizer.step())
    assert digest(grad) == before


OVERLAPS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "the same array": lambda a: (a, a),
    "a view of it": lambda a: (a, a[:]),
    "turned round": lambda a: (a, a[::-1]),
    "one element": lambda a: (a[:6], a[5:]),
    "transposed": lambda a: (a[:4].reshape(2, 2), a[:4].reshape(2, 2).T),
    "strided": lambda a: (a[::2], a[::3]),
    "one byte": lambda a: (a[:5], a.view(np.uint8)[39:].view(np.uint8)[:40].view(a.dtype)),
}


@pytest.mark.parametrize("how", OVERLAPS)
def test_parameters_that_share_memory_are_refused(how: str) -> None:
    base = np.arange(11.0)
    before = digest(base)
    one, other = OVERLAPS[how](base)
    with pytest.raises(ParameterError, match="'x' and 'y' share memory"):
        SGD([Variable(one, name="x"), Variable(other, name="y")])
    x, y = Variable(one.copy(), name="x"), Variable(other.copy(), name="y")
    optimizer = SGD([x, y])
    grads = {"x": np.ones(one.shape), "y": np.ones(other.shape)}
    wait(optimizer.step(grad=grads))
    x.data, y.data = one, other
    for _ in range(2):
        with pytest.raises(ParameterError, match="'x' and 'y' share memory"):
            wait(optimizer.step(grad=grads))
    assert digest(base) == before
    assert optimizer.iterations == 1


def test_parameters_that_lie_among_each_other_do_not_share_memory() -> None:
    base = np.zeros((3, 4, 5))
    variables = [Variable(base[:, k], name=str(k)) for k in range(4)]
    wait(SGD(variables, learning_rate=1.0).step(grad={str(k): np.full((3, 5), k + 1.0) for k in range(4)}))
    np.testing.assert_array_equal(base, -np.broadcast_to(np.arange(1.0, 5)[:, None], (3, 4, 5)))
    empty = [Variable(base[1:1], name="e"), Variable(base, name="all"), Variable(base[2, 4:], name="f")]
    wait(SGD(empty).step(grad={v.name or "": np.zeros(v.data.shape) for v in empty}))


# -- what is refused --


class Liar:
    """It has a shape and a dtype, and is no array."""

    shape, dtype = (3,), np.dtype(np.float64)


def _torch(values: Any) -> Any:
    import torch

    return torch.tensor(values)


NO_ARRAYS: dict[str, Callable[[], Any]] = {
    "object": lambda: np.array([1.0, 2.0, 3.0], object),
    "complex64": lambda: np.ones(3, np.complex64),
    "complex128": lambda: np.ones(3, complex),
    "int64": lambda: np.ones(3, np.int64),
    "uint8": lambda: np.ones(3, np.uint8),
    "bool": lambda: np.ones(3, bool),
    "float16": lambda: np.ones(3, np.float16),
    "longdouble": lambda: np.ones(3, np.longdouble),
    "text": lambda: np.array(["1", "2", "3"]),
    "dates": lambda: np.zeros(3, "datetime64[s]"),
    "records": lambda: np.zeros(3, [("a", float)]),
    "masked": lambda: np.ma.masked_array([1.0, 2.0, 3.0], [False, True, False]),
    "masked without a mask": lambda: np.ma.masked_array([1.0, 2.0, 3.0]),
    "list": lambda: [1.0, 2.0, 3.0],
    "liar": Liar,
    "torch": lambda: _torch([1.0, 2.0, 3.0]),
}
NO_PARAMETERS: dict[str, Callable[[], Any]] = {
    **NO_ARRAYS,
    "nothing": lambda: None,
    "read-only": lambda: _read_only(np.ones(3))[0],
    "immutable bytes": lambda: _of_bytes(np.ones(3))[0],
    "no strides": lambda: as_strided(np.ones(1), (3,), (0,)),
    "overlapping windows": lambda: as_strided(np.ones(8), (3, 3), (8, 8)),
    "broadcast": lambda: np.broadcast_to(np.ones(3), (2, 3)),
}


def content(optimizer: LocalOptimizer) -> Any:
    state = optimizer.state()
    arrays = {name: array.tobytes() for name, array in state.arrays.items()}
    return state.meta, arrays


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("what", NO_PARAMETERS)
def test_what_cannot_be_updated_is_refused_by_name(what: str, kind: str) -> None:
    cls = optimizers.registry[kind]
    with pytest.raises(ParameterError, match=r"variable 'x' .* float32 or float64 can be updated in place"):
        cls(Variable(NO_PARAMETERS[what](), name="x"))
    good = Variable(np.ones(3), name="good")
    with pytest.raises(ParameterError, match="variable 'x'"):
        cls([good, Variable(NO_PARAMETERS[what](), name="x")])
    # and also later, where everything stays as it was
    x = Variable(np.ones(3), name="x")
    optimizer = cls([good, x])
    grads = {"good": np.ones(3), "x": np.ones(3)}
    wait(optimizer.step(grad=grads))
    before, good_before = content(optimizer), good.data.tobytes()
    kept, x.data = x.data, NO_PARAMETERS[what]()
    array = x.data
    bytes_before = digest(array) if isinstance(array, np.ndarray) and array.dtype != object else None
    with pytest.raises(ParameterError, match="variable 'x'"):
        wait(optimizer.step(grad=grads))
    assert bytes_before is None or digest(array) == bytes_before
    x.data = kept
    assert content(optimizer) == before
    assert good.data.tobytes() == good_before
    wait(optimizer.step(grad=grads))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("what", NO_ARRAYS)
def test_a_gradient_that_is_none_is_refused_by_name(what: str, dtype: Any) -> None:
    x, y = Variable(np.ones(3, dtype), name="x"), Variable(np.ones(3, dtype), name="y")
    optimizer = Adam([x, y])
    fine = {"x": np.ones(3, dtype), "y": np.ones(3, dtype)}
    wait(optimizer.step(grad=fine))
    before, data = content(optimizer), (x.data.tobytes(), y.data.tobytes())
    with pytest.raises(GradientDtypeError, match=r"variable 'y', iteration 2: the gradient (is a|has dtype)"):
        wait(optimizer.step(grad={**fine, "y": NO_ARRAYS[what]()}))
    x.grad, y.grad = fine["x"], NO_ARRAYS[what]()
    with pytest.raises(GradientDtypeError, match="variable 'y', iteration 2"):
        wait(optimizer.step())
    assert (content(optimizer), (x.data.tobytes(), y.data.tobytes())) == (before, data)


@pytest.mark.parametrize("shape", [(1,), (3, 3), (), (1, 3), (3, 1), (0,), (4,)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_gradient_is_neither_broadcast_nor_rounded(shape: tuple[int, ...], dtype: Any) -> None:
    """A shape that does not fit is told first, also if the dtype does not fit either."""
    x = Variable(np.ones(3), name="x")
    optimizer = Adam(x)
    with pytest.raises(GradientShapeError, match="never broadcast"):
        wait(optimizer.step(grad=np.ones(shape, dtype)))
    with pytest.raises(GradientDtypeError, match="float32"):
        wait(optimizer.step(grad=np.ones(3, np.float32)))
    with pytest.raises(MissingGradientError):
        wait(optimizer.step())
    np.testing.assert_array_equal(x.data, np.ones(3))
    assert optimizer.iterations == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_without_an_axis(dtype: Any) -> None:
    """A NumPy scalar is a gradient of a 0-d variable; a Python float, whose dtype nobody said, is none."""
    x = Variable(dtype(1.0), name="x")
    assert x.data.shape == ()
    optimizer = SGD(x, learning_rate=1.0)
    for grad in (dtype(0.5), np.array(0.25, dtype), np.array([0.25], dtype)[0, ...]):
        wait(optimizer.step(grad=grad))
    assert x.data == 0.0
    assert x.data.shape == ()
    with pytest.raises(GradientDtypeError, match="float"):
        wait(optimizer.step(grad=1.0))


@pytest.mark.parametrize("kind", optimizers.registry)
def test_nothing_at_all(kind: str) -> None:
    """Only empty variables; and one among others."""
    empty = Variable(np.zeros((0, 4), np.float32), name="empty")
    optimizer = optimizers.registry[kind](empty)
    for _ in range(2):
        assert wait(optimizer.step(grad=np.zeros((0, 4), np.float32))) is empty
    assert optimizer.iterations == 2
    data = values((5,), np.float32, 1)
    both = [Variable(data.copy(), name="x"), Variable(np.zeros((2, 0), np.float32), name="e")]
    single = Variable(data.copy(), name="x")
    one, other = optimizers.registry[kind](both), optimizers.registry[kind](single)
    for t in range(3):
        grad = values((5,), np.float32, t)
        wait(one.step(grad={"x": grad, "e": np.zeros((2, 0), np.float32)}))
        wait(other.step(grad=grad))
    assert both[0].data.tobytes() == single.data.tobytes()
    assert math.isfinite(float(single.data.sum()))
