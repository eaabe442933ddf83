import asyncio
from collections import UserDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest

from thalweg.errors import (
    AdjointReturnError,
    GradientDtypeError,
    GradientShapeError,
    GraphError,
    HiddenVariableError,
    OutputError,
)
from thalweg.graph import Operator, Variable, wait


def leaf(value, **kwargs):
    return Variable(np.asarray(value, dtype=np.float64), needs_grad=True, **kwargs)


def make(forward=None, adjoint=None, **attributes):
    """An operator of these two functions."""
    functions = {
        "forward": forward or (lambda self, x: Variable(x.data)),
        "adjoint": adjoint or (lambda self, grad, *inputs: grad),
    }
    return type("Made", (Operator,), {**functions, **attributes})()


class Weighted(Operator):
    """Inputs of every kind that Python has, with weights that tell them apart."""

    def forward(self, first, /, second, *rest, option, **named):
        self.given = [first, second, *rest, option, *(named[n] for n in sorted(named))]
        return Variable(sum(10.0**k * v.data for k, v in enumerate(self.given)))

    def adjoint(self, grad, first, /, second, *rest, option, **named):
        given = [first, second, *rest, option, *(named[n] for n in sorted(named))]
        return [10.0**k * grad for k in range(len(given))]


def test_gradients_are_in_the_order_of_the_signature():
    async def main():
        vs = {n: leaf(0.0) for n in ("first", "second", "r0", "r1", "option", "alpha", "zeta")}
        y = await Weighted()(
            vs["first"], vs["second"], vs["r0"], vs["r1"], zeta=vs["zeta"], option=vs["option"], alpha=vs["alpha"]
        )
        await y.adjoint()
        return [float(v.grad) for v in vs.values()]

    assert wait(main()) == [10.0**k for k in range(7)]


def test_positional_parameters_by_keyword_in_any_order():
    op = make(lambda self, a, b, c: Variable(a.data), lambda self, grad, a, b, c: (grad, 2 * grad, 3 * grad))

    async def main():
        a, b, c = leaf(0.0), leaf(0.0), leaf(0.0)
        await (await op(a, c=c, b=b)).adjoint()
        await (await op(c=c, b=b, a=a)).adjoint()
        return float(a.grad), float(b.grad), float(c.grad)

    assert wait(main()) == (2.0, 4.0, 6.0)


def test_the_adjoint_is_called_as_the_forward_was():
    seen = []

    class Op(Operator):
        def forward(self, *args, **kwargs):
            return Variable(args[0].data), Variable(args[0].data)

        def adjoint(self, *args, **kwargs):
            seen.append((args, kwargs))
            return (np.zeros(()),) * 2

    async def main():
        x, w = leaf(1.0), leaf(2.0)
        out = await Op()(x, 3, "text", w=w, flag=True)
        await out[1].adjoint(5.0)
        return x, w

    x, w = wait(main())
    ((args, kwargs),) = seen
    assert args == (None, np.array(5.0), x, 3, "text")
    assert kwargs == {"w": w, "flag": True}


def test_gradients_by_name():
    op = make(
        lambda self, a, *rest, scale, other=1, **named: Variable(a.data),
        lambda self, grad, a, *rest, scale, other=1, **named: {
            "extra": 5 * grad,
            "rest": (2 * grad, 3 * grad),
            "scale": 4 * grad,
            "other": "ignored: no Variable was given",
            "a": grad,
        },
    )

    async def main():
        a, b, c, scale, extra = (leaf(0.0) for _ in range(5))
        await (await op(a, b, 7, c, extra=extra, scale=scale, other=2)).adjoint()
        return [float(v.grad) for v in (a, b, c, scale, extra)]

    assert wait(main()) == [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda g: g, r"2 Variable inputs \(a, b\)"),
        (lambda g: (g,), "returned 1 gradients for 2"),
        (lambda g: [g, g, g], "returned 3 gradients for 2"),
        (lambda g: {"a": g, "c": g}, "'c'"),
        (lambda g: {"a": g}, "input 'b'.*is None.*zeros"),
        (lambda g: (g, None), "input 'b'.*is None.*zeros"),
        (lambda g: None, "returned a NoneType for 2"),
        (lambda g: (Variable(g), g), r"input 'a'.*array itself"),
    ],
)
def test_wrong_returns_are_named(result, message):
    op = make(lambda self, a, b: Variable(a.data), lambda self, grad, a, b: result(grad), name="wrong")

    async def main():
        a, b = leaf([1.0, 2.0]), leaf([1.0, 2.0])
        y = await op(a, b)
        with pytest.raises(AdjointReturnError, match=message) as caught:
            await y.adjoint(np.ones(2))
        assert "adjoint of 'wrong' (call 1 of 1" in str(caught.value)
        assert a.grad is b.grad is None

    wait(main())


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (np.ones(3), GradientShapeError, r"shape \(3,\).*expected shape \(2,\)"),
        (np.ones((1, 2)), GradientShapeError, "broadcast"),
        (1.0, GradientShapeError, "float"),
        (np.ones(2, dtype=np.float32), GradientDtypeError, "float32.*expected dtype float64"),
        (np.ones(2, dtype=complex), GradientDtypeError, "complex128"),
        (np.ones(2, dtype=int), GradientDtypeError, "int64"),
        ("text", GradientShapeError, "str"),
    ],
)
def test_gradients_that_do_not_fit_are_named(gradient, error, message):
    good, bad = make(name="good"), make(adjoint=lambda self, grad, x: gradient, name="bad")

    async def main():
        x = leaf([1.0, 2.0], name="speed")
        y = await good(await bad(await bad(x)))
        with pytest.raises(error, match=message) as caught:
            await y.adjoint(np.ones(2))
        text = str(caught.value)
        assert "gradient 0 (input 'x')" in text
        assert "adjoint of 'bad' (call 2 of 2" in text
        assert x.grad is None

    wait(main())


@pytest.mark.parametrize("gradient", [2, 2.0, np.float64(2), np.array(2.0)])
def test_numbers_are_gradients_of_single_numbers(gradient):
    async def main():
        x = leaf(1.0)
        await (await make(adjoint=lambda self, grad, x: gradient)(x)).adjoint()
        assert isinstance(x.grad, np.ndarray)
        assert x.grad.dtype == np.float64
        return x.grad

    assert wait(main()) == 2.0


def test_a_float32_number_stays_float32():
    async def main(gradient):
        x = Variable(np.float32(1), needs_grad=True)
        await (await make(adjoint=lambda self, grad, x: gradient)(x)).adjoint()
        return x.grad.dtype

    assert wait(main(2.0)) == np.float32
    with pytest.raises(GradientDtypeError):
        wait(main(np.float64(2.0)))
    with pytest.raises(GradientDtypeError, match="real part"):
        wait(main(2j))


def test_what_is_returned_for_a_variable_that_needs_none_is_ignored():
    op = make(lambda self, a, b: Variable(a.data), lambda self, grad, a, b: (grad, "nonsense"))

    async def main():
        a, b = leaf(1.0), Variable(2.0)
        await (await op(a, b)).adjoint()
        return a.grad, b.grad

    assert wait(main()) == (1.0, None)


@pytest.mark.parametrize(
    "container",
    [
        lambda v: [v],
        lambda v: (1, v),
        lambda v: {"a": v},
        lambda v: {v},
        lambda v: [[1.0], {"deep": (v,)}],
        lambda v: np.array([v, None], dtype=object),
    ],
)
@pytest.mark.parametrize("by_keyword", [False, True])
def test_a_hidden_variable_is_an_error(container, by_keyword):
    hidden = container(leaf(1.0, name="hidden"))
    op = make(lambda self, x: Variable(1.0))
    with pytest.raises(HiddenVariableError, match="'Made' was called with Variable\\('hidden'"):
        wait(op(x=hidden) if by_keyword else op(hidden))


def test_containers_without_variables_are_fine():
    loop = [1.0, {"a": (2, 3)}]
    loop.append(loop)
    assert wait(make(lambda self, x: Variable(1.0))(loop)).data == 1.0


@pytest.mark.parametrize("result", [None, np.ones(2), 3.0, "text", (), [], (Variable(1.0), 2.0)])
def test_outputs_must_be_variables(result):
    with pytest.raises(OutputError, match="forward of 'Made'"):
        wait(make(lambda self, x: result)(leaf(1.0)))


@pytest.mark.parametrize("needs_grad", [True, False])
def test_returning_an_input_makes_a_new_variable(needs_grad):
    async def main():
        x = Variable(np.array([1.0]), needs_grad=needs_grad)
        same = make(lambda self, x: x)
        y = await same(x)
        pair = await make(lambda self, x: (x, x), lambda self, a, b, x: (0 if a is None else a) + b)(x)
        assert y is not x
        assert y.data is x.data
        assert len({id(v) for v in (x, y, *pair)}) == 4
        if needs_grad:
            await pair[1].adjoint()
            await (await same(y)).adjoint(3.0)
            assert x.grad == 4.0

    wait(main())


def test_returning_a_parameter_of_its_own_does_not_change_it():
    weight = leaf(2.0)
    op = make(lambda self, x: weight, lambda self, grad, x: 0 * grad)

    async def main():
        y = await op(leaf(1.0))
        assert y is not weight
        assert weight._node is None

    wait(main())


def test_nested_operators_answer_as_one():
    class Square(Operator):
        async def forward(self, x):
            return Variable(x.data**2)

        async def adjoint(self, grad, x):
            return 2 * x.data * grad

    class Fourth(Operator):
        """Runs other operators inside, forward and back."""

        async def forward(self, x):
            square = Square()
            return await square(await square(x))

        async def adjoint(self, grad, x):
            square, inner = Square(), x.as_parameter()
            await (await square(await square(inner))).adjoint(grad)
            return inner.grad

    async def main():
        x = leaf([1.0, 3.0])
        y = await Square()(await Fourth()(x))
        assert len(y.graph) == 3
        await y.adjoint(np.ones(2))
        return x

    x = wait(main())
    np.testing.assert_array_equal(x.grad, 8 * x.data**7)


def test_an_operator_is_opaque_even_when_nothing_is_recorded():
    weight = leaf(2.0)

    class Inner(Operator):
        def forward(self, x, w):
            return Variable(x.data * w.data)

        def adjoint(self, grad, x, w):
            return grad * w.data, grad * x.data

    class Outer(Operator):
        async def forward(self, x):
            return await Inner()(x, weight)

        async def adjoint(self, grad, x):
            return grad * weight.data

    y = wait(Outer()(Variable(1.0)))
    assert not y.needs_grad
    assert len(y.graph) == 1


def test_outputs_that_cannot_have_a_gradient():
    class Peak(Operator):
        def forward(self, x):
            return Variable(np.max(x.data)), Variable(np.argmax(x.data))

        def adjoint(self, peak, index, x):
            assert index is None
            return np.where(x.data == np.max(x.data), peak, 0.0)

    async def main():
        x = leaf([1.0, 3.0, 2.0])
        peak, index = await Peak()(x)
        assert (peak.needs_grad, index.needs_grad) == (True, False)
        await (await make(lambda self, a, b: Variable(a.data), lambda self, g, a, b: (g, None))(peak, index)).adjoint()
        return x.grad

    np.testing.assert_array_equal(wait(main()), [0.0, 1.0, 0.0])


def test_a_call_keeps_its_record_to_itself():
    class Op(Operator):
        def forward(self, x, *, call):
            call.save(x.data)
            call.save(2 * x.data, "more")
            assert dict(call.run_kwargs) == {}
            return Variable(x.data)

        def adjoint(self, grad, x, *, call):
            one, two, more = call.saved
            assert (two, more) == (2 * one, "more")
            with pytest.raises(GraphError, match="only the forward"):
                call.save(1)
            with pytest.raises(TypeError):
                call.run_kwargs["new"] = 1
            return call.run_kwargs["factor"] * one * grad

    async def main():
        op, x, y = Op(), leaf(1.0), leaf(2.0)
        a, b = await op(x), await op(y)
        await b.adjoint(factor=10.0)
        await a.adjoint(factor=100.0)
        return x.grad, y.grad

    assert wait(main()) == (100.0, 20.0)


def test_only_the_adjoint_may_want_the_call():
    op = make(
        lambda self, x: Variable(x.data), lambda self, grad, x, *, call: grad * call.run_kwargs.get("factor", 1.0)
    )

    async def main():
        x = leaf(1.0)
        y = await op(x)
        assert await op.__call_adjoint__(np.array(2.0), call=_record(y)) == 2.0
        await y.adjoint(factor=3.0)
        return x.grad

    assert wait(main()) == 3.0


def _record(variable):
    from thalweg.graph import Call

    args, kwargs, saved, _, _ = variable.node.payload
    return Call(args, kwargs, saved, {})


def test_an_exception_of_the_adjoint_comes_out_with_a_note():
    def fail(self, grad, x):
        raise ZeroDivisionError("mine")

    async def main():
        x = leaf(1.0)
        y = await make(adjoint=fail, name="divide")(x)
        with pytest.raises(ZeroDivisionError, match="mine") as caught:
            await y.adjoint()
        assert caught.value.__notes__ == ["(in the adjoint of 'divide' (call 1 of 1 in this graph))"]

    wait(main())


def test_names():
    class Named(Operator):
        def forward(self, x):
            return Variable(1.0)

        def adjoint(self, grad, x):
            return grad

    assert Named().name == "Named"
    assert Named(name="mine").name == "mine"
    assert repr(Named(name="mine")) == "<Named 'mine'>"

    class Careless(Named):
        def __init__(self):  # does not call super().__init__
            self.value = 3

    assert wait(Careless()(2.0)).data == 1.0
    careless = Careless()
    careless.name = "set"
    assert careless.name == "set"


def test_abstract_methods_are_required():
    class Half(Operator):
        def forward(self, x):
            return Variable(1.0)

    with pytest.raises(TypeError, match="adjoint"):
        Half()


def test_a_subclass_is_looked_at_again():
    class Base(Operator):
        def forward(self, a, b):
            return Variable(a.data)

        def adjoint(self, grad, a, b):
            return grad, 2 * grad

    class Swapped(Base):
        def forward(self, b, a):
            return Variable(a.data)

    async def main(op):
        a, b = leaf(1.0), leaf(1.0)
        await (await op(a=a, b=b)).adjoint()
        return a.grad, b.grad

    assert wait(main(Base())) == (1.0, 2.0)
    assert wait(main(Swapped())) == (2.0, 1.0)


def test_methods_may_be_anything_awaitable():
    class Odd(Operator):
        def forward(self, x):
            async def later():
                return Variable(x.data)

            return asyncio.ensure_future(later())

        def adjoint(self, grad, x):
            future = asyncio.get_running_loop().create_future()
            future.set_result(3 * grad)
            return future

    async def main():
        x = leaf(1.0)
        await (await Odd()(x)).adjoint()
        return x.grad

    assert wait(main()) == 3.0


@dataclass
class Model:
    speed: Variable
    other: int = 0


@dataclass(slots=True)
class Slotted:
    deep: list


class Own(Sequence):
    def __init__(self, *items):
        self._items = items

    def __getitem__(self, index):
        return self._items[index]

    def __len__(self):
        return len(self._items)


@pytest.mark.parametrize(
    "container",
    [
        lambda v: MappingProxyType({"a": v}),
        lambda v: UserDict({"a": v}),
        lambda v: {"a": v}.values(),
        lambda v: {"a": v}.items(),
        lambda v: {v: 1}.keys(),
        lambda v: deque([v]),
        Model,
        lambda v: Slotted([v]),
        lambda v: SimpleNamespace(a=v),
        Own,
        lambda v: [{"a": Model(v)}],
    ],
)
def test_a_variable_hidden_in_any_container_of_the_standard_library_is_an_error(container):
    op = make(lambda self, x: Variable(1.0))
    with pytest.raises(HiddenVariableError, match="Variable\\('hidden'"):
        wait(op(container(leaf(1.0, name="hidden"))))


def test_what_cannot_hold_variables_is_not_searched():
    class Text(str):
        def __iter__(self):
            raise AssertionError

    op = make(lambda self, *things: Variable(1.0))
    things = Text("abc"), range(10**15), b"abc", memoryview(b"abc"), bytearray(3), Model, iter([1]), object()
    assert wait(op(*things, list(things), SimpleNamespace(things=things))).data == 1.0
