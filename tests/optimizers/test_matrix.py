"""Every kind of array as parameter and as gradient on every face that takes arrays: no cell is undefined.

``test_arrays.py`` has every layout on the optimizers of NumPy. Here the same layouts, and what is no array to be
updated, meet the updater, PyTorch's and JAX's faces: a cell works, and is equal to the contiguous native copy's result
to the last bit, or raises the error that is named here before anything is changed. Whatever is given stays as it is,
by hash.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

import thalweg as tw
from tests.optimizers.everywhere import double
from tests.optimizers.test_arrays import NO_ARRAYS, NO_PARAMETERS, READABLE, WRITABLE
from thalweg import optimizers, rules
from thalweg.dialects import mxnet
from thalweg.errors import GradientDtypeError, GradientShapeError, ParameterError, ThalwegError
from thalweg.optimizers import get_updater
from thalweg.optimizers.jax import JaxOptimizer
from thalweg.optimizers.torch import TorchOptimizer

RULES = ("sgd", "adam", "rprop", "lamb", "schedule_free_adamw")  # no state, state, branches, sums, a start
SHAPES: tuple[tuple[int, ...], ...] = ((4, 3), (5,), (), (0,), (2, 0, 3), (1, 6, 1))
DTYPES = (np.float32, np.float64)
STEPS = 3


def digest(array: Any) -> str:
    plain = np.ascontiguousarray(np.asarray(array))
    return hashlib.sha256(plain.view(np.uint8).tobytes() if plain.size else b"").hexdigest()


def native(array: np.ndarray) -> np.ndarray:
    return np.array(array, array.dtype.newbyteorder("="), order="C", subok=False)


def values(shape: tuple[int, ...], dtype: Any, seed: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


# Faces: each makes STEPS steps with these gradients, and returns the parameter.


def with_optimizer(kind: str, data: Any, grads: list[Any]) -> Any:
    x = tw.Variable(data, name="x")
    optimizer = optimizers.registry[kind](x)
    for grad in grads:
        tw.wait(optimizer.step(grad=grad))
    return x.data


def with_updater(kind: str, data: Any, grads: list[Any]) -> Any:
    update = get_updater(optimizers.registry[kind]())
    for grad in grads:
        update("x", grad, data)
    return data


def with_pure_face(kind: str, data: Any, grads: list[Any]) -> Any:
    """Nothing is changed in place: the result is a new array."""
    rule = rules.registry[kind]
    param, state = data, rule.init(data)
    for t, grad in enumerate(grads, start=1):
        param, state = rule.step(param, grad, state, t=t)
    return param


@functools.cache
def functional(kind: str) -> JaxOptimizer:
    """It is pure: one for all, so that each shape is compiled once."""
    return JaxOptimizer(optimizers.registry[kind]())


def with_jax(kind: str, data: Any, grads: list[Any]) -> Any:
    """NumPy's arrays are taken as they are; the result is JAX's."""
    optimizer = functional(kind)
    with double():
        param, state = data, optimizer.init(data)
        for grad in grads:
            param, state = optimizer.step(param, grad, state)
        return np.asarray(param)


IN_PLACE: dict[str, Callable[[str, Any, list[Any]], Any]] = {"optimizer": with_optimizer, "updater": with_updater}
PURE: dict[str, Callable[[str, Any, list[Any]], Any]] = {"pure face": with_pure_face, "jax": with_jax}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    face=st.sampled_from([*IN_PLACE, "pure face"]),
    kind=st.sampled_from(RULES),
    dtype=st.sampled_from(DTYPES),
    shape=st.sampled_from(SHAPES),
    of_data=st.sampled_from(sorted(WRITABLE)),
    of_grads=st.lists(st.sampled_from(sorted(READABLE)), min_size=STEPS, max_size=STEPS),
)
def test_any_layout_is_what_the_contiguous_native_copy_is(
    face: str, kind: str, dtype: Any, shape: tuple[int, ...], of_data: str, of_grads: list[str]
) -> None:
    data, _ = WRITABLE[of_data](values(shape, dtype, 1))
    laid = [READABLE[how](values(shape, dtype, 10 + t)) for t, how in enumerate(of_grads)]
    grads = [grad for grad, _ in laid]
    before = [digest(grad) for grad, _ in laid], [digest(memory) for _, memory in laid], digest(data)
    run = {**IN_PLACE, **PURE}[face]
    expected = run(kind, native(data), [native(grad) for grad in grads])
    found = run(kind, data, grads)
    assert native(np.asarray(found)).tobytes() == native(np.asarray(expected)).tobytes()
    assert ([digest(grad) for grad, _ in laid], [digest(memory) for _, memory in laid]) == before[:2]
    if face in IN_PLACE:
        assert found is data
    else:
        assert digest(data) == before[2]


# What JAX itself takes of NumPy's arrays. Big-endian ones are another dtype to it, and an error of ours by name.
ON_JAX = [name for name in READABLE if "swapped" not in name]


@pytest.mark.parametrize("kind", RULES)
def test_numpys_arrays_on_jax(kind: str) -> None:
    for dtype in DTYPES:
        shape = (4, 3)
        plain, grads = values(shape, dtype, 1), [values(shape, dtype, 10 + t) for t in range(STEPS)]
        expected = with_jax(kind, plain, grads)
        for name in ON_JAX:
            if name == "no strides":
                continue  # another value: below, as a gradient
            data, laid = READABLE[name](plain)[0], [READABLE[name](grad)[0] for grad in grads]
            before = digest(data), [digest(grad) for grad in laid]
            found = with_jax(kind, data, laid)
            assert found.dtype == np.dtype(dtype)
            assert found.tobytes() == expected.tobytes(), name
            assert (digest(data), [digest(grad) for grad in laid]) == before
        one = READABLE["no strides"](plain)[0]
        assert with_jax(kind, plain, [one]).tobytes() == with_jax(kind, plain, [np.array(one)]).tobytes()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 6, 1)])
def test_shapes_at_the_edge_on_jax(shape: tuple[int, ...]) -> None:
    for kind in RULES:
        data, grads = values(shape, np.float64, 1), [values(shape, np.float64, 10 + t) for t in range(STEPS)]
        found, expected = with_jax(kind, data, grads), with_optimizer(kind, data.copy(), grads)
        assert found.shape == shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


# PyTorch's own ways for a tensor to lie


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone()


def _transposed(tensor: torch.Tensor) -> torch.Tensor:
    """The last axis first in memory, as a matrix's transpose has it."""
    axes = tuple(reversed(range(tensor.ndim)))
    return tensor.permute(axes).contiguous().permute(axes)


def _every_second(tensor: torch.Tensor) -> torch.Tensor:
    memory = torch.full((*tensor.shape, 2), 777.0, dtype=tensor.dtype)
    memory[..., 0] = tensor
    return memory[..., 0]


def _in_the_middle(tensor: torch.Tensor) -> torch.Tensor:
    memory = torch.full((tensor.numel() + 5,), 777.0, dtype=tensor.dtype)
    view = memory[3 : 3 + tensor.numel()].view(tensor.shape)
    view.copy_(tensor)
    return view


def _expanded(tensor: torch.Tensor) -> torch.Tensor:
    """One number for all: only a gradient can be that."""
    return torch.tensor(0.5, dtype=tensor.dtype).expand(tensor.shape)


def _negative(tensor: torch.Tensor) -> torch.Tensor:
    """A view with the negative bit, the imaginary part of a conjugate: PyTorch has no negative strides."""
    return torch.complex(torch.zeros_like(tensor), -tensor).conj().imag


def _unaligned(tensor: torch.Tensor) -> torch.Tensor:
    memory = np.full(tensor.numel() * tensor.element_size() + 1, 7, np.uint8)
    view = memory[1:].view(tensor.numpy().dtype)
    view[...] = tensor.numpy().ravel()
    return torch.from_numpy(view).view(tensor.shape)


LIE_AS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "plain": _plain,
    "transposed": _transposed,
    "every second": _every_second,
    "in the middle": _in_the_middle,
    "unaligned": _unaligned,
}
GRADS_LIE_AS = {**LIE_AS, "expanded": _expanded, "negative": _negative}


def with_torch(kind: str, data: torch.Tensor, grads: list[torch.Tensor], kernel: str) -> torch.Tensor:
    param = data.requires_grad_()
    optimizer = TorchOptimizer([("x", param)], optimizers.registry[kind](), kernel=kernel)
    for grad in grads:
        param.grad = grad
        optimizer.step()
    return param.detach()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    kernel=st.sampled_from(["auto", "native"]),
    kind=st.sampled_from(RULES),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    shape=st.sampled_from(SHAPES),
    of_data=st.sampled_from(sorted(LIE_AS)),
    of_grads=st.lists(st.sampled_from(sorted(GRADS_LIE_AS)), min_size=STEPS, max_size=STEPS),
)
def test_any_tensor_is_what_the_contiguous_copy_is(
    kernel: str, kind: str, dtype: torch.dtype, shape: tuple[int, ...], of_data: str, of_grads: list[str]
) -> None:
    """In native operations to the bit; where one of the two is compiled and the other not, to rounding."""
    if dtype in (torch.bfloat16, torch.float16):  # there are no such complex numbers, and none in NumPy
        of_grads = ["every second" if how in ("negative", "unaligned") else how for how in of_grads]
        of_data = "every second" if of_data == "unaligned" else of_data

    def drawn(seed: int) -> torch.Tensor:
        return torch.from_numpy(values(shape, np.float64, seed)).to(dtype)

    grads = [GRADS_LIE_AS[how](drawn(10 + t)) for t, how in enumerate(of_grads)]
    copies = [grad.clone(memory_format=torch.contiguous_format).resolve_neg() for grad in grads]
    data = LIE_AS[of_data](drawn(1))
    found = with_torch(kind, data, grads, kernel)
    expected = with_torch(kind, drawn(1).clone(), [copy.clone() for copy in copies], kernel)
    assert found.data_ptr() == data.data_ptr()
    tolerance = 0.0 if kernel == "native" or of_data == "in the middle" else torch.finfo(dtype).eps * 4
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    for grad, copy in zip(grads, copies, strict=True):
        assert torch.equal(grad, copy)


# What is refused


@pytest.mark.parametrize("what", NO_PARAMETERS)
def test_a_weight_that_cannot_be_updated_is_refused_by_the_updater(what: str) -> None:
    weight = NO_PARAMETERS[what]()
    before = digest(weight) if isinstance(weight, np.ndarray) and weight.dtype != object else None
    for kind in ("adam", "lamb"):
        update = get_updater(optimizers.registry[kind]())
        with pytest.raises(ParameterError, match="'x'"):
            update("x", np.ones(3), weight)
        assert update.names == ()
    assert before is None or digest(weight) == before


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("what", NO_ARRAYS)
def test_a_gradient_that_is_none_is_refused_by_the_updater(what: str, dtype: Any) -> None:
    for kind in ("adam", "lamb"):
        weight, update = np.ones(3, dtype), get_updater(optimizers.registry[kind]())
        update("x", np.ones(3, dtype), weight)
        before, state = digest(weight), update.state().meta
        with pytest.raises(GradientDtypeError, match="variable 'x', iteration 2"):
            update("x", NO_ARRAYS[what](), weight)
        assert (digest(weight), update.state().meta) == (before, state)


@pytest.mark.parametrize("what", NO_ARRAYS)
def test_a_gradient_that_is_none_is_refused_by_mxnets_page(what: str) -> None:
    for make in (mxnet.SGD, mxnet.ADAM):
        weight, update = np.ones(3), mxnet.get_updater(make())
        update(1, np.ones(3), weight)
        before, state = digest(weight), update.state().meta
        with pytest.raises(GradientDtypeError, match="normalized_gradient: the gradient is a"):
            update(1, NO_ARRAYS[what](), weight)
        with pytest.raises((GradientDtypeError, ParameterError)):
            update(2, np.ones(3), NO_ARRAYS[what]())
        assert (digest(weight), update.state().meta) == (before, state)


READ_BY_PURE = ("read-only", "immutable bytes", "no strides", "overlapping windows", "broadcast")
"""What the pure face only reads, and so takes."""


@pytest.mark.parametrize("what", [name for name in NO_PARAMETERS if name not in READ_BY_PURE])
def test_what_is_no_array_of_floats_is_refused_by_the_pure_face(what: str) -> None:
    for kind in ("adam", "lamb"):
        rule = rules.registry[kind]
        with pytest.raises(ParameterError, match=kind):
            rule.init(NO_PARAMETERS[what]())
        state = rule.init(np.ones(3))
        with pytest.raises(ParameterError, match=kind):
            rule.step(NO_PARAMETERS[what](), np.ones(3), state)
        with pytest.raises((GradientDtypeError, GradientShapeError), match=kind):
            rule.step(np.ones(3), NO_PARAMETERS[what](), state)


@pytest.mark.parametrize("what", READ_BY_PURE)
def test_what_is_only_read_works_with_the_pure_face(what: str) -> None:
    given_, kind = NO_PARAMETERS[what](), "lamb"
    before = digest(given_)
    found = with_pure_face(kind, given_, [given_])
    assert found.tobytes() == with_pure_face(kind, np.array(given_), [np.array(given_)]).tobytes()
    assert digest(given_) == before


# float16 and longdouble: float16 parameters are JAX's and PyTorch's (state of float32), never NumPy's.
NOT_ON_JAX = [
    name for name in NO_PARAMETERS if name not in ("float16", "torch", "nothing", "liar", "list", *READ_BY_PURE)
]


@pytest.mark.parametrize("what", [*NOT_ON_JAX, "torch", "liar", "byte-swapped"])
def test_what_is_no_parameter_is_refused_on_jax(what: str) -> None:
    made: Any = {**NO_PARAMETERS, "byte-swapped": lambda: np.ones(3).astype(">f8")}[what]()
    with double():
        optimizer = JaxOptimizer(tw.Adam())
        with pytest.raises(ParameterError, match="'x'"):
            optimizer.init({"x": made})
        params = {"x": jnp.ones(3)}
        state = optimizer.init(params)
        with pytest.raises(GradientDtypeError, match="'x'"):
            optimizer.step(params, {"x": made}, state)
        with pytest.raises(ThalwegError):
            optimizer.step({"x": made}, params, state)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64, torch.complex128])
def test_what_is_no_parameter_is_refused_on_torch(dtype: torch.dtype) -> None:
    made = torch.ones(3, dtype=dtype)
    with pytest.raises(ParameterError, match="'x'"):
        TorchOptimizer([("x", made)], tw.Adam())
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = TorchOptimizer([("x", param)], tw.Adam())
    param.grad_dtype = None  # PyTorch's own check is for those who leave it
    param.grad = made
    with pytest.raises(GradientDtypeError, match="'x'"):
        optimizer.step()
    assert torch.equal(param.detach(), torch.ones(3))
    assert not optimizer.state


def test_arrays_that_are_no_tensors_are_refused_on_torch() -> None:
    for made in (np.ones(3), jnp.ones(3), [1.0, 2.0], np.ma.masked_array([1.0], [True]), None, 1.0):
        with pytest.raises((ParameterError, TypeError), match="'x'"):
            TorchOptimizer([("x", made)], tw.Adam())  # type: ignore[list-item]


@pytest.mark.parametrize("kernel", ["auto", "native"])
def test_tensors_that_share_memory_are_refused_on_torch(kernel: str) -> None:
    base = torch.arange(8.0)
    for views in ((base, base[2:5]), (base[::2], base[4:]), (base, base.view(2, 4)), (base[:5], base[4:])):
        several = [(name, view.detach().requires_grad_()) for name, view in zip("xy", views, strict=True)]
        with pytest.raises(ParameterError, match="'x' and 'y' share memory"):
            TorchOptimizer(several, tw.Adam(), kernel=kernel)
    for windows in (torch.as_strided(base, (3, 3), (1, 1)), torch.ones(1).expand(3)):
        with pytest.raises(ParameterError, match="elements share memory"):
            TorchOptimizer([("x", windows.requires_grad_())], tw.Adam(), kernel=kernel)
    apart = [("x", base[::2].requires_grad_()), ("y", base[1::2].requires_grad_())]
    for _, param in apart:
        param.grad = torch.ones(4)
    TorchOptimizer(apart, tw.SGD(learning_rate=1.0), kernel=kernel).step()
    assert torch.equal(base, torch.arange(8.0) - 1)


@pytest.mark.parametrize("kind", RULES)
def test_weights_that_share_memory_are_updated_one_after_the_other_by_the_updater(kind: str) -> None:
    """It never has two at once: each call sees what the call before it left, as with copies."""
    base, grads = values((8,), np.float64, 1), [values((6,), np.float64, t) for t in range(2)]
    views = base[:6], base[2:]
    copy = base.copy()
    update, twin = (get_updater(optimizers.registry[kind](learning_rate=0.1)) for _ in range(2))
    for grad in grads:
        for key, (view, place) in enumerate(zip(views, (slice(0, 6), slice(2, 8)), strict=True)):
            update(key, grad, view)
            alone = copy[place].copy()
            twin(key, grad, alone)
            copy[place] = alone
    assert base.tobytes() == copy.tobytes()
    with pytest.raises(ParameterError, match="share memory"):
        get_updater(tw.SGD())("x", np.ones((3, 3)), as_strided(np.ones(8), (3, 3), (8, 8)))


@pytest.mark.parametrize("kind", RULES)
def test_a_gradient_that_lies_in_its_weight_is_that_of_before_the_step(kind: str) -> None:
    for turned in (slice(None), slice(None, None, -1)):
        weight = values((50,), np.float64, 3)
        alone = weight.copy()
        get_updater(optimizers.registry[kind](learning_rate=0.1))("x", alone[turned].copy(), alone)
        get_updater(optimizers.registry[kind](learning_rate=0.1))("x", weight[turned], weight)
        assert weight.tobytes() == alone.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_work_where_the_library_has_them(dtype: str) -> None:
    """With state of float32, rounded once a step; on NumPy they are refused by name."""
    start, grad = np.array([1.0, 2.0]), np.array([0.5, -0.25])
    tensor = torch.tensor(start, dtype=getattr(torch, dtype))
    found = with_torch("adam", tensor, [torch.tensor(grad, dtype=tensor.dtype)], "auto")
    optimizer, x = JaxOptimizer(tw.Adam()), jnp.asarray(start, dtype)
    new, state = optimizer.step(x, jnp.asarray(grad, dtype), optimizer.init(x))
    single = np.asarray(start, np.float32)
    with_optimizer("adam", single, [grad.astype(np.float32)])
    expected = torch.from_numpy(single).to(tensor.dtype).float().numpy()
    np.testing.assert_array_equal(found.float().numpy(), expected)
    np.testing.assert_array_equal(np.asarray(new, np.float32), expected)
    assert str(state.slots.mean.dtype) == "float32"
    if dtype == "float16":
        with pytest.raises(ParameterError, match="float16"):
            with_optimizer("adam", start.astype(dtype), [])
