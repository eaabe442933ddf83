"""The adjoint run: what it computes, what it keeps, what it leaves alone."""

import gc
import weakref

import numpy as np
import pytest

from thalweg.errors import GraphFreedError, ModifiedSinceForwardError
from thalweg.graph import Operator, Variable, wait


def leaf(value, **kwargs):
    return Variable(np.asarray(value, dtype=np.float64), needs_grad=True, **kwargs)


class Scale(Operator):
    def __init__(self, factor=1.0, *, fail=False, log=None):
        super().__init__()
        self.factor, self.fail, self.log = factor, fail, [] if log is None else log

    def forward(self, x):
        return Variable(self.factor * x.data)

    def adjoint(self, grad, x):
        self.log.append(self)
        if self.fail:
            raise ArithmeticError("failing adjoint")
        return self.factor * grad


class Add(Operator):
    def forward(self, *xs):
        return Variable(sum(x.data for x in xs))

    def adjoint(self, grad, *xs):
        return (grad,) * len(xs)


class Same(Operator):
    """Shares: the gradient that it returns is the one that it got."""

    def forward(self, x):
        return Variable(x.data)

    def adjoint(self, grad, x):
        return grad


# -- which calls take part -------------------------------------------------------------


def test_nothing_is_recorded_when_no_input_needs_a_gradient():
    y = wait(Scale()(Variable(1.0)))
    assert not y.needs_grad
    assert y._node is None


def test_what_leads_only_to_constants_is_left_out():
    async def main():
        left, right, add = Scale(2.0), Scale(3.0), Add()
        a, b = leaf(1.0), leaf(1.0)
        y = await add(await left(a), await right(b))
        b.needs_grad = False  # after the forward
        await y.adjoint()
        assert (a.grad, b.grad) == (2.0, None)
        assert (len(left.log), len(right.log)) == (1, 0)

        z = await add(await left(a), await right(b))
        a.needs_grad = False
        await z.adjoint()
        assert (a.grad, b.grad) == (2.0, None)

    wait(main())


def test_a_leaf_turned_on_after_the_forward_gets_nothing_half():
    async def main():
        a, b = leaf(1.0), Variable(1.0)
        y = await Add()(a, b)
        b.needs_grad = True
        await y.adjoint()
        return a.grad, b.grad

    assert wait(main()) == (1.0, None)


def test_an_intermediate_may_be_a_root_too():
    async def main():
        x = leaf(1.0)
        middle = await Scale(2.0)(x)
        y = await Scale(5.0)(middle)
        await middle.adjoint(retain_graph=True)
        await y.adjoint()
        return x.grad

    assert wait(main()) == 12.0


# -- retained and freed ----------------------------------------------------------------


def test_a_retained_graph_runs_again():
    async def main():
        x = leaf(1.0)
        y = await Scale(2.0)(await Scale(3.0)(x))
        for _ in range(3):
            await y.adjoint(retain_graph=True)
        await y.adjoint()
        with pytest.raises(GraphFreedError, match=r"retain_graph=True"):
            await y.adjoint()
        return x.grad

    assert wait(main()) == 24.0


def test_a_freed_part_is_noticed_before_anything_is_computed():
    async def main():
        log = []
        x = leaf(1.0)
        shared = await Scale(log=log)(x)
        y, z = await Scale(log=log)(shared), await Scale(log=log)(shared)
        await y.adjoint()
        del log[:]
        with pytest.raises(GraphFreedError):
            await z.adjoint()
        assert log == []
        assert x.grad == 1.0
        assert z.node.payload is not None

    wait(main())


@pytest.mark.parametrize("retain", [True, False])
def test_after_a_failing_adjoint_nothing_has_changed(retain):
    async def main():
        bad = Scale(2.0, fail=True)
        a, b = leaf(1.0), leaf(1.0)
        b.grad = old = np.array(7.0)
        y = await Add()(await Scale()(b), await bad(a), b)
        with pytest.raises(ArithmeticError):
            await y.adjoint(retain_graph=retain)
        assert a.grad is None
        assert b.grad is old
        assert old == 7.0
        assert a._tickets == b._tickets == ()
        bad.fail = False
        if retain:
            await y.adjoint()
            assert (a.grad, b.grad) == (2.0, 9.0)
        else:
            with pytest.raises(GraphFreedError):
                await y.adjoint()

    wait(main())


def test_a_modified_input_deep_down_is_noticed_before_anything_is_computed():
    async def main():
        log = []
        x = leaf(1.0)
        y = x
        for _ in range(5):
            y = await Scale(log=log)(y)
        x.mark_modified()
        with pytest.raises(ModifiedSinceForwardError):
            await y.adjoint()
        assert log == []
        with pytest.raises(ModifiedSinceForwardError):  # and not a GraphFreedError
            await y.adjoint()

    wait(main())


def test_a_change_during_the_run_is_noticed():
    async def main():
        x = leaf(1.0)

        class Meddling(Scale):
            def adjoint(self, grad, y):
                x.mark_modified()
                return grad

        y = await Meddling()(await Scale()(x))
        with pytest.raises(ModifiedSinceForwardError):
            await y.adjoint()
        assert x.grad is None

    wait(main())


# -- memory ----------------------------------------------------------------------------


class Array(np.ndarray):
    """An array that can be watched."""


def test_saved_data_and_gradients_are_dropped_as_they_are_used():
    alive, most = weakref.WeakSet(), []

    def watched(values):
        array = np.asarray(values).view(Array)
        alive.add(array)
        return array

    class Op(Operator):
        def forward(self, x, *, call):
            call.save(watched(np.zeros(2)))
            return Variable(x.data)

        def adjoint(self, grad, x, *, call):
            most.append(len(alive))
            return np.array(grad)

    # Hashing is by identity here, as a set of arrays needs.
    Array.__hash__ = object.__hash__
    gc.disable()
    try:

        async def main(retain):
            x = leaf(np.zeros(2))
            y = x
            for _ in range(10):
                y = await Op()(y)
            await y.adjoint(np.ones(2), retain_graph=retain)
            return y

        y = wait(main(False))
        assert most == list(range(10, 0, -1))
        assert not alive
        del most[:]
        y = wait(main(True))
        assert most == [10] * 10
        del y
        assert not alive
    finally:
        gc.enable()


def test_interim_gradients_do_not_pile_up():
    alive, most = [0], [0]

    class Counted(np.ndarray):
        def __del__(self):
            alive[0] -= 1

    class Op(Operator):
        async def forward(self, x):
            return Variable(x.data)

        async def adjoint(self, grad, x):
            result = np.array(grad).view(Counted)
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            return result

    async def main():
        y = leaf(np.zeros(4))
        for _ in range(50):
            y = await Op()(y)
        await y.adjoint(np.ones(4))

    wait(main())
    assert most[0] <= 3


def test_many_consumers_of_one_array_do_not_keep_their_gradients():
    alive, most = [0], [0]

    class Counted(np.ndarray):
        def __del__(self):
            alive[0] -= 1

    class Part(Operator):
        def forward(self, x):
            return Variable(x.data.sum())

        def adjoint(self, grad, x):
            result = np.full(x.shape, grad).view(Counted)
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            return result

    async def main():
        x, part, add = leaf(np.zeros(4)), Part(), Add()
        total = await part(x)
        for _ in range(1000):
            total = await add(total, await part(x))
        await total.adjoint()
        return x.grad

    np.testing.assert_array_equal(wait(main()), [1001.0] * 4)
    assert most[0] < 10


# -- whose array is it -----------------------------------------------------------------


def test_gradients_of_leaves_are_their_own():
    async def main():
        a, b = leaf([1.0, 2.0]), leaf([1.0, 2.0])
        seed = np.ones(2)
        y = await Add()(await Same()(a), b)
        await y.adjoint(seed)
        assert not np.shares_memory(a.grad, b.grad)
        assert not np.shares_memory(a.grad, seed)
        assert not np.shares_memory(b.grad, seed)
        a.grad += 1
        np.testing.assert_array_equal(seed, [1.0, 1.0])

    wait(main())


def test_sums_do_not_write_into_what_adjoints_returned():
    kept = np.array([1.0, 10.0])

    class Stubborn(Same):
        def adjoint(self, grad, x):
            return kept

    async def main():
        x = leaf([0.0, 0.0])
        seed = np.ones(2)
        same, stubborn = Same(), Stubborn()
        middle = await same(x)
        y = await Add()(await stubborn(middle), middle, await stubborn(middle), await same(middle), x, x)
        await y.adjoint(seed)
        np.testing.assert_array_equal(seed, [1.0, 1.0])
        np.testing.assert_array_equal(kept, [1.0, 10.0])
        return x.grad

    np.testing.assert_array_equal(wait(main()), [6.0, 24.0])


def test_a_gradient_handed_out_earlier_stays_as_it_was():
    async def main():
        x = leaf([1.0, 2.0])
        y = await Add()(x, x, x)
        await y.adjoint(np.ones(2), retain_graph=True)
        first = x.grad
        await y.adjoint(np.ones(2))
        assert x.grad is not first
        np.testing.assert_array_equal(first, [3.0, 3.0])
        np.testing.assert_array_equal(x.grad, [6.0, 6.0])

    wait(main())


def test_views_are_fine_as_gradients():
    class Transpose(Operator):
        def forward(self, x):
            return Variable(x.data.T)

        def adjoint(self, grad, x):
            return grad.T

    async def main():
        x = leaf(np.arange(6.0).reshape(2, 3))
        seed = np.arange(6.0).reshape(3, 2)
        await (await Transpose()(x)).adjoint(seed)
        assert not np.shares_memory(x.grad, seed)
        np.testing.assert_array_equal(x.grad, seed.T)

    wait(main())


@pytest.mark.parametrize("shape", [(), (1,), (2, 0)])
def test_gradients_are_arrays_of_the_right_kind(shape):
    async def main():
        x = Variable(np.zeros(shape, dtype=np.float32), needs_grad=True)
        y = await Add()(x, await Same()(x), x)
        for _ in range(2):
            await y.adjoint(np.ones(shape), retain_graph=True)
            assert type(x.grad) is np.ndarray
            assert (x.grad.shape, x.grad.dtype) == (shape, np.float32)

    wait(main())


# -- depth -----------------------------------------------------------------------------


def test_a_failing_run_over_a_long_chain_can_be_freed():
    async def main():
        x = leaf(1.0)
        y, same = await Scale(fail=True)(x), Same()
        for _ in range(100_000):
            y = await same(y)
        with pytest.raises(ArithmeticError):
            await y.adjoint()
        y = await Same()(x)
        for _ in range(100_000):
            y = await same(y)
        y = await Scale(fail=True)(y)
        with pytest.raises(ArithmeticError):
            await y.adjoint()
        del y
        gc.collect()
        assert x.grad is None

    wait(main())


def test_a_ladder_is_linear():
    """2^200 paths."""

    async def main():
        a, b, add, log = leaf(1.0), leaf(0.0), Add(), []
        x, y = a, b
        for _ in range(100):
            x, y = await add(await Scale(0.5, log=log)(x), y), await add(await Scale(0.5, log=log)(y), x)
        await (await add(x, y)).adjoint()
        assert len(log) == 200
        return a.grad + b.grad

    assert np.isfinite(wait(main()))
