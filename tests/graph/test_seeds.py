import numpy as np
import pytest
import torch

from thalweg.errors import SeedError
from thalweg.graph import Operator, Variable, wait


class Same(Operator):
    def forward(self, x):
        return Variable(x.data)

    def adjoint(self, grad, x):
        self.seen = grad
        return grad


def seeded(data, *seed):
    """The gradient that reaches an operator whose output has this data."""

    async def main():
        op = Same()
        x = Variable(data, needs_grad=True)
        y = await op(x)
        try:
            await y.adjoint(*seed)
        except SeedError:
            assert x.grad is None
            assert y.node.payload is not None, "a refused seed must not use up the graph"
            raise
        return op.seen

    return wait(main())


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_none_is_one_for_a_single_element(shape, dtype):
    seed = seeded(np.zeros(shape, dtype=dtype))
    assert (seed.shape, seed.dtype) == (shape, dtype)
    assert seed.sum() == 1.0


@pytest.mark.parametrize("data", [np.zeros(2), np.zeros((1, 2)), np.zeros(0), np.zeros((), dtype=complex)])
def test_none_is_an_error_otherwise(data):
    with pytest.raises(SeedError, match="without a seed"):
        seeded(data)


@pytest.mark.parametrize("number", [0.0, -2.5, 3, np.float32(2.0), np.float64(0.0), np.int64(4)])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_numbers_are_for_single_elements(number, shape):
    seed = seeded(np.zeros(shape, dtype=np.float32), number)
    assert (seed.shape, seed.dtype) == (shape, np.float32)
    assert seed.sum() == number
    with pytest.raises(SeedError, match="nothing is broadcast"):
        seeded(np.zeros(2), number)


def test_arrays_are_converted_within_their_kind():
    for given in (np.array([1.0, 0.0]), np.array([1, 0]), np.array([True, False]), [1.0, 0.0], (1, 0)):
        seed = seeded(np.zeros(2, dtype=np.float32), given)
        assert seed.dtype == np.float32
        np.testing.assert_array_equal(seed, [1, 0])
    assert seeded(np.zeros(2, dtype=complex), np.ones(2)).dtype == complex


@pytest.mark.parametrize(
    ("data", "seed", "message"),
    [
        (np.zeros(2), np.ones(3), r"\(3,\)"),
        (np.zeros(2), np.ones((2, 1)), r"shapes must be equal"),
        (np.zeros(2), np.ones(()), "shapes must be equal"),
        (np.zeros(2), np.ones(2, dtype=complex), "complex"),
        (np.zeros(()), 1j, "complex"),
        (np.zeros(2), np.array(["a", "b"]), "must be numbers"),
        (np.zeros(2), "text", "str"),
        (np.zeros(()), Variable(1.0), "its data"),
    ],
)
def test_seeds_that_do_not_fit(data, seed, message):
    with pytest.raises(SeedError, match=message):
        seeded(data, seed)


def test_torch_seeds():
    x = torch.zeros(2)
    assert seeded(x, torch.ones(2)).dtype == torch.float32
    assert seeded(x, torch.ones(2, dtype=torch.float64)).dtype == torch.float32
    assert seeded(x, np.ones(2)).dtype == torch.float32
    assert seeded(torch.zeros(())).item() == 1.0
    assert seeded(torch.zeros(1), 0.0).item() == 0.0
    with pytest.raises(SeedError, match="complex"):
        seeded(x, torch.ones(2, dtype=torch.complex64))
    with pytest.raises(SeedError, match="shapes"):
        seeded(x, torch.ones(3))
    with pytest.raises(SeedError, match="Tensor"):
        seeded(np.zeros(2), torch.ones(2))


def test_an_adjoint_that_writes_into_its_gradient_leaves_the_seed_alone():
    class Careless(Same):
        def adjoint(self, grad, x):
            grad *= 2
            return grad

    for seed in (np.ones(3), np.asfortranarray(np.ones((2, 3)))):
        x = Variable(np.zeros(seed.shape), needs_grad=True)
        wait(wait(Careless()(x)).adjoint(seed))
        assert (seed == 1.0).all()
        assert (x.grad == 2.0).all()
