import asyncio

import numpy as np
import pytest
import torch

from thalweg.errors import GraphError
from thalweg.graph import Operator, Variable, check_adjoint


class Matrix(Operator):
    """y = A x, z = B x + C w."""

    def __init__(self, dtype=np.float64, wrong=0.0):
        super().__init__(name="matrix")
        rng = np.random.default_rng(1)
        self.a, self.b, self.c = (rng.standard_normal((n, 4)).astype(dtype) for n in (3, 5, 5))
        self.wrong = wrong

    async def forward(self, x, *, w):
        await asyncio.sleep(0)
        return Variable(self.a @ x.data), Variable(self.b @ x.data + self.c @ w.data)

    def adjoint(self, y, z, x, *, w):
        gx = self.a.T @ y + self.b.T @ z
        gx[0] *= 1 + self.wrong
        return {"x": gx, "w": self.c.T @ z}


class Square(Operator):
    def forward(self, x, weight, *, call):
        call.save(2 * x.data)
        return Variable(weight.data * x.data**2), Variable(np.argmax(x.data))

    def adjoint(self, grad, index, x, weight, *, call):
        return call.saved[0] * weight.data * grad, x.data**2 * grad


class SquareWithTangent(Square):
    blocking = True
    factor = 1.0

    def tangent(self, dx, dweight, x, weight, *, call):
        total = self.factor * call.saved[0] * weight.data * dx
        return (total if dweight is None else total + x.data**2 * dweight), None


@pytest.mark.parametrize(("dtype", "limit"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_a_right_adjoint_passes(dtype, limit):
    x, w = Variable(np.zeros(4, dtype=dtype)), Variable(np.zeros(4, dtype=dtype))
    check = check_adjoint(Matrix(dtype), x, kwargs={"w": w}, rng=np.random.default_rng(3))
    assert check
    assert check.ok
    assert 0 <= check.error <= check.tolerance == limit
    assert "matrix: ok" in str(check)


def test_a_wrong_adjoint_fails():
    x, w = Variable(np.zeros(4)), Variable(np.zeros(4))
    check = check_adjoint(Matrix(wrong=1e-6), x, kwargs={"w": w})
    assert not check
    assert 1e-9 < check.error < 1e-4
    assert "WRONG" in str(check)
    assert check_adjoint(Matrix(wrong=1e-6), x, kwargs={"w": w}, tolerance=1e-3)


def test_a_zero_operator():
    class Zero(Operator):
        result = 0.0

        def forward(self, x):
            return Variable(0 * x.data)

        def adjoint(self, grad, x):
            return self.result + 0 * grad

    zero = Zero()
    assert check_adjoint(zero, Variable(np.ones(3))).error == 0
    zero.result = 1.0
    assert check_adjoint(zero, Variable(np.ones(3))).error == np.inf
    zero.result = np.nan
    assert not check_adjoint(zero, Variable(np.ones(3)))


def test_only_those_that_need_a_gradient_are_tested():
    x, w = Variable(np.ones(4), needs_grad=True), Variable(np.ones(4))

    class Affine(Matrix):
        """Linear in x only, as long as w is 0; wrong in w."""

        def adjoint(self, y, z, x, *, w):
            return {"x": self.a.T @ y + self.b.T @ z, "w": "nonsense"}

    w.data = np.zeros(4)
    assert check_adjoint(Affine(), x, kwargs={"w": w})
    w.data = np.ones(4)
    with pytest.raises(GraphError, match="not linear"):
        check_adjoint(Affine(), x, kwargs={"w": w})


def test_a_nonlinear_operator_needs_a_tangent():
    x, w = Variable(np.arange(1.0, 4.0), needs_grad=True), Variable(np.ones(3), needs_grad=True)
    with pytest.raises(GraphError, match=r"'Square': it is not linear.*tangent"):
        check_adjoint(Square(), x, w)
    assert check_adjoint(SquareWithTangent(), x, w)
    w.needs_grad = False
    assert check_adjoint(SquareWithTangent(), x, w)
    wrong = SquareWithTangent()
    wrong.factor = 1.1
    assert not check_adjoint(wrong, x, w)


def test_tangents_that_cannot_be_right():
    class Short(SquareWithTangent):
        def tangent(self, dx, dweight, x, weight):
            return dx

    class Long(SquareWithTangent):
        async def tangent(self, dx, dweight, x, weight):
            return np.zeros(7), None

    x = Variable(np.arange(1.0, 4.0))
    with pytest.raises(GraphError, match="1 arrays for 2 outputs"):
        check_adjoint(Short(), x, x)
    with pytest.raises(GraphError, match=r"shape \(7,\), expected \(3,\)"):
        check_adjoint(Long(), x, x)


def test_complex_operators():
    class Turn(Operator):
        factor = np.exp(0.3j)

        def forward(self, x):
            return Variable(self.factor * x.data)

        def adjoint(self, grad, x):
            return np.conj(self.factor) * grad

    assert check_adjoint(Turn(), Variable(np.zeros(5, dtype=complex)))

    class Wrong(Turn):
        def adjoint(self, grad, x):
            return self.factor * grad

    assert not check_adjoint(Wrong(), Variable(np.zeros(5, dtype=complex)))


def test_torch_operators():
    class Cumulative(Operator):
        def forward(self, x):
            return Variable(torch.cumsum(x.data, 0))

        def adjoint(self, grad, x):
            return torch.flip(torch.cumsum(torch.flip(grad, [0]), 0), [0])

    assert check_adjoint(Cumulative(), Variable(torch.zeros(6, dtype=torch.float64)))


def test_the_same_variable_twice_counts_as_two_inputs():
    class Subtract(Operator):
        def forward(self, a, b):
            return Variable(a.data - b.data)

        def adjoint(self, grad, a, b):
            return grad, -grad

    x = Variable(np.ones(3))
    assert check_adjoint(Subtract(), x, x)


def test_nothing_to_test():
    with pytest.raises(GraphError, match="no Variable with floating point data"):
        check_adjoint(Square(), Variable(3), Variable(4))

    class Peak(Operator):
        def forward(self, x):
            return Variable(np.argmax(x.data))

        def adjoint(self, grad, x):
            return 0 * x.data

    with pytest.raises(GraphError, match="no output"):
        check_adjoint(Peak(), Variable(np.ones(3)))


def test_state_is_as_before():
    class Held(Operator):
        """Adds to a Variable of its own in its adjoint."""

        def __init__(self):
            super().__init__()
            self.weight = Variable(np.ones(3), needs_grad=True)

        def forward(self, x):
            return Variable(self.weight.data * x.data)

        async def adjoint(self, grad, x):
            await self.weight.adjoint(x.data * grad)
            return self.weight.data * grad

    held = Held()
    x = Variable(np.arange(3.0), needs_grad=True)
    x.grad = grad = np.ones(3)
    data = x.data
    assert check_adjoint(held, x)
    assert x.data is data
    np.testing.assert_array_equal(data, np.arange(3.0))
    assert x.grad is grad
    assert (x.version, x.needs_grad) == (0, True)
    assert held.weight.grad is None


def test_inside_a_running_loop():
    async def main():
        return check_adjoint(Matrix(), Variable(np.zeros(4)), kwargs={"w": Variable(np.zeros(4))})

    assert asyncio.run(main())
