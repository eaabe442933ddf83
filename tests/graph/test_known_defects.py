"""Each line under "Adjoint graphs (Stride)" of the list of known defects, as a test."""

import asyncio

import numpy as np
import pytest

from thalweg.errors import GraphFreedError
from thalweg.graph import Operator, Variable, wait


class Square(Operator):
    async def forward(self, x):
        return Variable(x.data**2)

    async def adjoint(self, grad, x):
        return 2 * x.data * grad


class Add(Operator):
    def forward(self, a, b):
        return Variable(a.data + b.data)

    def adjoint(self, grad, a, b):
        return grad, grad


class Identity(Operator):
    def forward(self, x):
        return Variable(x.data)

    def adjoint(self, grad, x):
        return grad


def leaf(value, **kwargs):
    return Variable(np.asarray(value, dtype=np.float64), needs_grad=True, **kwargs)


def test_an_operator_used_twice_is_two_nodes():
    async def main():
        square = Square(name="square")
        x = leaf([1.0, 5.0])
        y = await square(await square(x))
        await y.adjoint(np.ones(2))
        return x, y

    x, y = wait(main())
    np.testing.assert_array_equal(x.grad, 4 * x.data**3)
    assert len(y.graph) == 3


def test_two_operators_of_the_same_name_do_not_meet():
    async def main():
        x = leaf(3.0)
        y = await Identity(name="same")(await Square(name="same")(x))
        await y.adjoint()
        return x.grad

    assert wait(main()) == 6.0


def test_outputs_are_numbered_not_sorted_as_text():
    class Fan(Operator):
        def forward(self, x):
            return tuple(Variable(x.data * k) for k in range(12))

        def adjoint(self, *grads_and_x):
            *grads, _ = grads_and_x
            return sum(k * g for k, g in enumerate(grads))

    class Weighted(Operator):
        def forward(self, *xs):
            return Variable(sum(10.0**i * x.data for i, x in enumerate(xs)))

        def adjoint(self, grad, *xs):
            return tuple(10.0**i * grad for i in range(len(xs)))

    async def main():
        x = leaf(1.0)
        await (await Weighted()(*await Fan()(x))).adjoint()
        return x.grad

    assert wait(main()) == sum(k * 10.0**k for k in range(12))


@pytest.mark.parametrize("used", [0, 1, 2])
def test_an_unused_output_does_not_shift_the_others(used):
    class Three(Operator):
        def forward(self, x):
            return Variable(x.data), Variable(10 * x.data), Variable(100 * x.data)

        def adjoint(self, first, second, third, x):
            self.seen = (first, second, third)
            return sum(k * g for k, g in zip((1.0, 10.0, 100.0), self.seen, strict=True) if g is not None)

    async def main():
        three = Three()
        x = leaf(1.0)
        await (await three(x))[used].adjoint()
        return three.seen, x.grad

    seen, grad = wait(main())
    assert [g is None for g in seen] == [i != used for i in range(3)]
    assert grad == 10.0**used


def test_keyword_variables_get_their_gradients():
    class Line(Operator):
        def forward(self, x, *, slope, offset):
            return Variable(slope.data * x.data + offset.data)

        def adjoint(self, grad, x, *, slope, offset):
            return slope.data * grad, x.data * grad, grad

    async def main():
        x, slope, offset = leaf(2.0), leaf(3.0), leaf(4.0)
        await (await Line()(offset=offset, slope=slope, x=x)).adjoint()
        return x.grad, slope.grad, offset.grad

    assert wait(main()) == (3.0, 2.0, 1.0)


def test_a_seed_of_zero_stays_zero():
    async def main():
        x = leaf(3.0)
        await (await Square()(x)).adjoint(0.0)
        return x.grad

    assert wait(main()) == 0.0


def test_an_array_is_a_seed():
    async def main():
        x = leaf([1.0, 2.0, 3.0])
        await (await Square()(x)).adjoint(np.array([1.0, 0.0, -1.0]))
        return x.grad

    np.testing.assert_array_equal(wait(main()), [2.0, 0.0, -6.0])


def test_a_gradient_meeting_no_gradient_is_kept():
    async def main():
        x = leaf(3.0)
        assert x.grad is None
        await x.__call_adjoint__(np.array(2.0))
        assert x.grad == 2.0
        await x.__call_adjoint__(np.array(0.5))
        return x.grad

    assert wait(main()) == 2.5


def test_a_second_adjoint_is_a_named_error_or_works():
    async def main():
        x = leaf(3.0)
        y = await Square()(x)
        await y.adjoint(retain_graph=True)
        await y.adjoint()
        assert x.grad == 12.0
        with pytest.raises(GraphFreedError, match="Square"):
            await y.adjoint()
        return x.grad

    assert wait(main()) == 12.0


@pytest.mark.parametrize("length", [985, 100_000])
def test_long_chains(length):
    async def main():
        x = leaf(1.0)
        y, identity = x, Identity()
        for _ in range(length):
            y = await identity(y)
        assert sum(1 for _ in y.graph) == length + 1
        await y.adjoint()
        return x.grad

    assert wait(main()) == 1.0


def test_a_long_chain_that_is_never_run_can_be_freed():
    async def main():
        y, identity = leaf(1.0), Identity()
        for _ in range(200_000):
            y = await identity(y)
        del y

    wait(main())


def test_repeated_sums_with_itself_are_linear():
    calls = []

    class Count(Add):
        def adjoint(self, grad, a, b):
            calls.append(1)
            return grad, grad

    async def main():
        x = leaf(1.0)
        y, add = x, Count()
        for _ in range(100):
            y = await add(y, y)
        await y.adjoint()
        return x.grad

    assert wait(main()) == 2.0**100
    assert len(calls) == 100


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_returned_list_counts_like_a_tuple(kind):
    class Listing(Add):
        def adjoint(self, grad, a, b):
            return kind([grad, 2 * grad])

    class Alone(Identity):
        def adjoint(self, grad, x):
            return kind([grad])

    async def main():
        a, b = leaf(1.0), leaf(1.0)
        await (await Alone()(await Listing()(a, b))).adjoint()
        return a.grad, b.grad

    assert wait(main()) == (1.0, 2.0)


def test_concurrent_calls_do_not_mix():
    class Slow(Operator):
        async def forward(self, x, *, call):
            call.save(x.data)
            await asyncio.sleep(0)
            return Variable(x.data**2)

        async def adjoint(self, grad, x, *, call):
            (data,) = call.saved
            await asyncio.sleep(0)
            assert data is x.data
            return 2 * data * grad

    async def main():
        slow = Slow()
        xs = [leaf(float(k)) for k in range(20)]
        ys = await asyncio.gather(*(slow(x) for x in xs))
        await asyncio.gather(*(y.adjoint() for y in ys))
        assert vars(slow) == {"_name": None}
        return [float(x.grad) for x in xs]

    assert wait(main()) == [2.0 * k for k in range(20)]
