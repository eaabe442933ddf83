import asyncio
import gc
import threading
import weakref

import numpy as np
import pytest
import torch

from thalweg.errors import GradientDtypeError, GradientShapeError, GraphError, ModifiedSinceForwardError
from thalweg.graph import Graph, Operator, Variable, wait


class Square(Operator):
    def forward(self, x):
        return Variable(x.data**2)

    def adjoint(self, grad, x):
        return 2 * x.data * grad


@pytest.mark.parametrize("number", [2.0, 2, np.float32(2), 2j, True])
def test_numbers_become_arrays(number):
    variable = Variable(number)
    assert isinstance(variable.data, np.ndarray)
    assert variable.shape == ()
    assert variable.dtype == np.asarray(number).dtype


def test_arrays_are_kept_as_they_are():
    data = np.zeros((2, 3), dtype=np.float32)
    variable = Variable(data)
    assert variable.data is data
    assert (variable.shape, variable.dtype, variable.name, variable.grad) == ((2, 3), np.float32, None, None)


@pytest.mark.parametrize(
    "data", [np.arange(3), np.zeros(2, dtype=bool), np.array([None]), np.array(["a"]), 3, "text", [1.0, 2.0], {"a": 1}]
)
def test_only_floating_point_data_can_need_a_gradient(data):
    with pytest.raises(GradientDtypeError, match="'x' with needs_grad=True"):
        Variable(data, name="x", needs_grad=True)
    constant = Variable(data)
    with pytest.raises(GradientDtypeError, match="floating point"):
        constant.needs_grad = True
    assert constant.needs_grad is False
    parameter = Variable(np.zeros(2), needs_grad=True)
    before = parameter.data
    with pytest.raises(GradientDtypeError):
        parameter.data = data
    assert parameter.data is before
    assert parameter.version == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64, np.complex128])
def test_floating_point_data_can_need_a_gradient(dtype):
    assert Variable(np.zeros(2, dtype=dtype), needs_grad=True).needs_grad


def test_data_may_come_later_or_be_an_object():
    assert Variable(needs_grad=True).needs_grad
    assert Variable(object(), needs_grad=True).shape is None


def test_versions():
    x = Variable(np.zeros(2))
    shared = x.detach()
    x.mark_modified()
    assert (x.version, shared.version) == (1, 1)
    x.data = np.ones(2)
    assert (x.version, shared.version) == (2, 1)
    shared.mark_modified()
    assert (x.version, shared.version) == (2, 2)


@pytest.mark.parametrize("change", ["mark", "mark the detached", "assign"])
def test_a_change_between_forward_and_adjoint_is_an_error(change):
    async def main():
        x = Variable(np.array([1.0, 2.0]), name="speed", needs_grad=True)
        y = await Square()(x)
        if change == "assign":
            x.data = np.zeros(2)
        else:
            (x if change == "mark" else x.detach()).mark_modified()
        with pytest.raises(ModifiedSinceForwardError, match=r"input 'x' of 'Square'.*'speed'"):
            await y.adjoint(np.ones(2))
        assert x.grad is None
        # nothing was consumed: with the version gone back, the run works
        x._counter, x._data = y.node.payload[3][0][1], y.node.payload[3][0][0]._data
        return x

    wait(main())


def test_a_detached_copy_of_old_data_is_not_made_invalid_by_new_data():
    async def main():
        x = Variable(np.array(3.0))
        old = x.detach(needs_grad=True)
        y = await Square()(old)
        x.data = np.array(5.0)
        await y.adjoint()
        return old.grad

    assert wait(main()) == 6.0


def test_copies():
    x = Variable(np.array([1.0, 2.0]), name="x", needs_grad=True)
    y = wait(Square()(x))
    x.grad = np.ones(2)

    for copy in (x.copy(), x.alike()):
        assert copy.data is not x.data
        np.testing.assert_array_equal(copy.data, x.data)
        assert (copy.name, copy.needs_grad, copy.grad) == ("x", True, None)
    assert x.copy(name="z", needs_grad=False).name == "z"
    given = np.zeros(5)
    assert x.copy(data=given).data is given

    detached = y.detach()
    assert detached.data is y.data
    assert not detached.needs_grad
    assert len(detached.graph) == 1

    parameter = y.as_parameter(name="p")
    assert parameter.data is not y.data
    assert parameter.needs_grad
    assert parameter.name == "p"
    assert len(parameter.graph) == 1


def test_copies_of_a_subclass():
    class Field(Variable):
        def __init__(self, data=None, *, spacing=1.0, name=None, needs_grad=False):
            super().__init__(data, name=name, needs_grad=needs_grad)
            self.spacing = spacing

        def parameters(self):
            return {**super().parameters(), "spacing": self.spacing}

    field = Field(np.zeros(3), spacing=0.5)
    for other in (field.copy(), field.detach(), field.as_parameter()):
        assert type(other) is Field
        assert other.spacing == 0.5
    assert field.copy(spacing=2.0).spacing == 2.0

    class Same(Operator):
        def forward(self, x):
            return x

        def adjoint(self, grad, x):
            return grad

    out = wait(Same()(field.as_parameter()))
    assert type(out) is Field


def test_call_adjoint_checks_and_copies():
    x = Variable(np.zeros(2), name="x", needs_grad=True)
    grad = np.ones(2)
    wait(x.__call_adjoint__(grad))
    first = x.grad
    assert first is not grad
    wait(x.__call_adjoint__(grad, anything="goes"))
    np.testing.assert_array_equal(x.grad, [2.0, 2.0])
    np.testing.assert_array_equal(first, [1.0, 1.0])
    with pytest.raises(GradientShapeError, match=r"\(3,\)"):
        wait(x.__call_adjoint__(np.ones(3)))
    with pytest.raises(GradientDtypeError, match="float32"):
        wait(x.__call_adjoint__(np.ones(2, dtype=np.float32)))
    x.clear_grad()
    assert x.grad is None
    assert x.process_grad() is None


def test_the_adjoint_of_a_leaf_is_its_seed():
    x = Variable(np.zeros(2), needs_grad=True)
    seed = np.array([1.0, 2.0])
    wait(x.adjoint(seed))
    wait(x.adjoint(seed))
    np.testing.assert_array_equal(x.grad, 2 * seed)
    assert not np.shares_memory(x.grad, seed)


def test_nothing_to_differentiate_is_an_error():
    y = wait(Square()(Variable(2.0)))
    assert not y.needs_grad
    with pytest.raises(GraphError, match="nothing that needed a gradient"):
        wait(y.adjoint())


def test_a_gradient_of_another_shape_already_there_is_an_error():
    x = Variable(np.zeros(2), name="x", needs_grad=True)
    x.grad = np.zeros((2, 2))
    with pytest.raises(GradientShapeError, match="clear_grad"):
        wait(x.adjoint(np.ones(2)))
    x.grad = np.zeros(2, dtype=np.float32)
    with pytest.raises(GradientDtypeError, match="clear_grad"):
        wait(x.adjoint(np.ones(2)))
    assert x.grad.dtype == np.float32


def test_repr():
    x = Variable(np.zeros((2, 3), dtype=np.float32), name="x", needs_grad=True)
    assert repr(x) == "Variable('x', shape (2, 3), float32, needs_grad)"
    assert repr(wait(Square(name="sq")(x))) == "Variable(shape (2, 3), float32, from sq.adjoint:0)"
    assert repr(Variable()) == "Variable(a NoneType)"


def test_graph_of_a_leaf():
    x = Variable(np.zeros(2), name="x")
    assert isinstance(x.graph, Graph)
    assert [node.op for node in x.graph] == [x]


def test_a_used_leaf_goes_without_the_garbage_collector():
    gc.disable()
    try:
        x = Variable(np.zeros(2), needs_grad=True)
        gone = weakref.ref(x)
        y = wait(Square()(x))
        wait(y.adjoint(np.ones(2)))
        del x, y
        assert gone() is None
    finally:
        gc.enable()


def test_threads_that_use_a_leaf_first_share_its_node():
    for _ in range(20):
        x = Variable(np.zeros(2), needs_grad=True)
        barrier = threading.Barrier(4, timeout=10)
        nodes = []

        def use(x=x, barrier=barrier, nodes=nodes):
            barrier.wait()
            nodes.append(x.node)

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(node) for node in nodes}) == 1


def test_torch_tensors():
    class Cube(Operator):
        async def forward(self, x, w):
            await asyncio.sleep(0)
            return Variable((w.data * x.data**3).sum())

        async def adjoint(self, grad, x, w):
            return 3 * w.data * x.data**2 * grad, x.data**3 * grad

    async def main():
        x = Variable(torch.tensor([1.0, 2.0]), name="x", needs_grad=True)
        w = Variable(torch.tensor([1.0, 10.0]), needs_grad=True)
        a, b = await Cube()(x, w), await Cube()(x, w)
        for y in (a, b):
            await y.adjoint()
        x2 = x.as_parameter()
        await (await Cube()(x2, x2)).adjoint(torch.tensor(2.0))
        return x, w, x2

    x, w, x2 = wait(main())
    assert torch.equal(x.grad, torch.tensor([6.0, 240.0]))
    assert torch.equal(w.grad, torch.tensor([2.0, 16.0]))
    assert torch.equal(x2.grad, 2 * 4 * x2.data**3)
    assert x.copy().data.data_ptr() != x.data.data_ptr()
    with pytest.raises(GradientDtypeError):
        Variable(torch.arange(3), needs_grad=True)
    with pytest.raises(GradientDtypeError, match=r"float64.*torch.float32"):
        wait(x.__call_adjoint__(np.ones(2)))
    wait(x.adjoint(np.ones(2)))  # a NumPy seed becomes a tensor
    assert torch.equal(x.grad, torch.tensor([7.0, 241.0]))


@pytest.mark.parametrize("change", ["assign", "mark", "mark the detached"])
def test_a_result_given_other_data_does_not_pass_for_the_result(change):
    async def main():
        x = Variable(np.array([1.0, 2.0]), name="x", needs_grad=True)
        y = await Square()(x)
        y.name = "y"
        if change == "assign":
            y.data = np.array([5.0, 6.0])
        else:
            (y if change == "mark" else y.detach()).mark_modified()
        z = await Square()(y)
        with pytest.raises(ModifiedSinceForwardError, match=r"'y'.*'Square'.*Variable\(new_data\)"):
            await z.adjoint(np.ones(2))
        with pytest.raises(ModifiedSinceForwardError, match=r"'y'.*'Square'.*Variable\(new_data\)"):
            await y.adjoint(np.ones(2))
        assert x.grad is None

    wait(main())


def test_a_result_that_was_assigned_in_its_own_forward_is_fine():
    class Late(Square):
        def forward(self, x):
            y = Variable()
            y.data = x.data**2
            return y

    async def main():
        x = Variable(3.0, needs_grad=True)
        y = await Late()(await Late()(x))
        await y.adjoint()
        return x.grad

    assert wait(main()) == 4 * 27.0


def test_a_result_that_needs_no_gradient_any_more_may_have_other_data():
    async def main():
        x = Variable(3.0, needs_grad=True)
        y = await Square()(x)
        y.needs_grad = False
        y.data = 5.0
        z = await Square()(y)
        assert not z.needs_grad

    wait(main())
