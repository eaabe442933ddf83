import asyncio

import numpy as np
import pytest
import torch

from thalweg.errors import GradientDtypeError, GraphError
from thalweg.graph import Operator, Variable, check_gradient


class Scalar(Operator):
    """f and its gradient as two functions of an array."""

    def __init__(self, f, g):
        super().__init__()
        self.f, self.g = f, g

    def forward(self, x):
        return Variable(self.f(x.data))

    def adjoint(self, grad, x):
        return (grad * self.g(x.data)).astype(x.dtype)


POINT = np.array([0.3, -1.2, 2.0])
FUNCTIONS = {
    "exponential": (lambda x: np.sum(np.exp(x)), np.exp),
    "quadratic": (lambda x: np.sum(x**2), lambda x: 2 * x),
    "cubic": (lambda x: np.sum(x**3), lambda x: 3 * x**2),
    "with an offset": (lambda x: 1e3 + np.sum(x**2), lambda x: 2 * x),
    "tiny": (lambda x: 1e-20 * np.sum(np.sin(x)), lambda x: 1e-20 * np.cos(x)),
    "huge": (lambda x: 1e20 * np.sum(np.sin(x)), lambda x: 1e20 * np.cos(x)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_right_gradients_pass(name):
    check = check_gradient(Scalar(*FUNCTIONS[name]), Variable(POINT))
    assert check
    assert check.slopes == pytest.approx((1, 2), abs=0.1)
    assert check.error < 0.1
    assert not check.exact
    assert "ok" in str(check)


@pytest.mark.parametrize("name", ["exponential", "quadratic", "cubic"])
def test_right_gradients_pass_in_single_precision(name):
    check = check_gradient(Scalar(*FUNCTIONS[name]), Variable(POINT.astype(np.float32)))
    assert check, check
    assert check.slopes[1] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_steps_follow_the_scale_of_the_data(scale):
    f = Scalar(lambda x: np.sum(np.exp(x / scale)), lambda x: np.exp(x / scale) / scale)
    assert check_gradient(f, Variable(scale * POINT)).slopes == pytest.approx((1, 2), abs=0.05)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(n, np.float64) for n in FUNCTIONS] + [(n, np.float32) for n in ("exponential", "quadratic", "cubic")],
)
@pytest.mark.parametrize("error", [0.01, -2.0])
def test_wrong_gradients_fail(name, error, dtype):
    f, g = FUNCTIONS[name]
    check = check_gradient(Scalar(f, lambda x: (1 + error) * g(x)), Variable(POINT.astype(dtype)))
    assert not check
    assert check.slopes[1] < 1.5
    assert "WRONG" in str(check)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_linear_function_is_exact(dtype):
    check = check_gradient(Scalar(lambda x: np.sum(3 * x), lambda x: 3 + 0 * x), Variable(POINT.astype(dtype)))
    assert check
    assert check.exact
    assert check.error == 0
    assert "rounding" in str(check)
    assert not check_gradient(Scalar(lambda x: np.sum(3 * x), lambda x: 2.9 + 0 * x), Variable(POINT.astype(dtype)))


def test_a_constant_function_is_exact():
    assert check_gradient(Scalar(lambda x: 7.0, lambda x: 0 * x), Variable(POINT)).exact
    assert check_gradient(lambda x: Variable(7.0), Variable(POINT)).exact


def test_vanishing_curvature_is_no_failure():
    check = check_gradient(Scalar(lambda x: np.sum(np.sin(x)), np.cos), Variable(np.zeros(3)))
    assert check
    assert check.slopes[1] == pytest.approx(3, abs=0.1)


def test_a_function_that_is_not_finite_fails():
    check = check_gradient(Scalar(lambda x: np.nan * x.sum(), lambda x: x), Variable(POINT))
    assert not check
    assert check.error == np.inf


def test_several_variables_and_given_directions():
    class Product(Operator):
        async def forward(self, a, b):
            await asyncio.sleep(0)
            return Variable(np.sum(a.data * np.exp(b.data)))

        async def adjoint(self, grad, a, b):
            return grad * np.exp(b.data), grad * a.data * np.exp(b.data)

    a, b = Variable(POINT), Variable(POINT[::-1].copy())
    assert check_gradient(Product(), a, b, rng=np.random.default_rng(5))
    assert check_gradient(Product(), a, b, direction=[np.ones(3), np.zeros(3)]).exact  # linear in a
    check = check_gradient(lambda a: Product()(a, a), a, direction=np.ones(3), steps=[1e-2, 1e-3, 1e-4])
    assert check
    assert check.steps == (1e-2, 1e-3, 1e-4)
    with pytest.raises(GraphError, match="shapes"):
        check_gradient(Product(), a, b, direction=[np.ones(3), np.zeros(4)])


def test_complex_and_torch_variables():
    assert check_gradient(
        Scalar(lambda z: np.sum(np.abs(z) ** 4), lambda z: 4 * z * np.abs(z) ** 2), Variable(POINT + 1j)
    )

    class Sum(Operator):
        def forward(self, x):
            return Variable(torch.exp(x.data).sum())

        def adjoint(self, grad, x):
            return torch.exp(x.data) * grad

    assert check_gradient(Sum(), Variable(torch.tensor([0.1, 0.2], dtype=torch.float64)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: check_gradient(lambda v: v, x), GraphError, "one real number"),
        (lambda x: check_gradient(lambda v: 3.0, x), GraphError, "one real number, got a float"),
        (lambda x: check_gradient(Scalar(*FUNCTIONS["cubic"])), GraphError, "at least one"),
        (lambda x: check_gradient(Scalar(*FUNCTIONS["cubic"]), Variable(3)), GradientDtypeError, "floating point"),
        (lambda x: check_gradient(Scalar(*FUNCTIONS["cubic"]), Variable()), GraphError, "no array"),
        (lambda x: check_gradient(Scalar(*FUNCTIONS["cubic"]), x, steps=[1e-2]), GraphError, "three falling"),
        (lambda x: check_gradient(Scalar(*FUNCTIONS["cubic"]), x, steps=[1, 2, 3]), GraphError, "three falling"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(Variable(POINT))


def test_an_intermediate_is_no_variable_to_differentiate_by():
    async def main():
        y = await Scalar(*FUNCTIONS["cubic"])(Variable(POINT, needs_grad=True))
        with pytest.raises(GraphError, match="no leaf"):
            check_gradient(Scalar(*FUNCTIONS["cubic"]), y)

    asyncio.run(main())


@pytest.mark.parametrize("fail", [False, True])
def test_state_is_as_before(fail):
    calls = []

    class F(Operator):
        def forward(self, x, w):
            calls.append(1)
            if fail and len(calls) == 4:
                raise ArithmeticError
            return Variable(np.sum(w.data * x.data**2))

        def adjoint(self, grad, x, w):
            return 2 * w.data * x.data * grad, x.data**2 * grad

    f = F()
    x, w = Variable(POINT, name="x"), Variable(POINT, needs_grad=True)
    x.grad, w.grad = x_grad, w_grad = np.ones(3), np.zeros(3)
    x.mark_modified()
    counter, copy = x._counter, x.data.copy()
    if fail:
        with pytest.raises(ArithmeticError):
            check_gradient(lambda v: f(v, w), x)
    else:
        assert check_gradient(lambda v: f(v, w), x)
    assert x.data is POINT
    np.testing.assert_array_equal(x.data, copy)
    assert x._counter is counter
    assert (x.version, x.needs_grad) == (1, False)
    assert x.grad is x_grad
    assert w.grad is w_grad
    np.testing.assert_array_equal(w_grad, np.zeros(3))
