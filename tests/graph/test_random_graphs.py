"""Random directed graphs against PyTorch on the same arithmetic."""

import asyncio
import functools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.graph import Operator, Variable, wait

# Each operator is written once as forward and adjoint in NumPy, and once in torch. All stay bounded, so that
# the comparison is not about overflow.


class Product(Operator):
    def forward(self, a, b):
        return Variable(np.sin(a.data * b.data))

    def adjoint(self, grad, a, b):
        inner = grad * np.cos(a.data * b.data)
        return inner * b.data, inner * a.data

    @staticmethod
    def torch(a, b):
        return (torch.sin(a * b),)


class Sine(Operator):
    def forward(self, x, *, call):
        call.save(np.cos(x.data))
        return Variable(np.sin(x.data))

    def adjoint(self, grad, x, *, call):
        (cosine,) = call.saved
        return cosine * grad

    @staticmethod
    def torch(x):
        return (torch.sin(x),)


class Three(Operator):
    """Several outputs, some of which nobody will use."""

    def forward(self, x):
        return Variable(2 * x.data), Variable(np.sin(x.data)), Variable(x.data)

    def adjoint(self, double, sine, same, x):
        total = np.zeros(3)
        if double is not None:
            total += 2 * double
        if sine is not None:
            total += np.cos(x.data) * sine
        return total if same is None else total + same

    @staticmethod
    def torch(x):
        return 2 * x, torch.sin(x), x


class Affine(Operator):
    """Positional and keyword inputs, some of which may be plain numbers."""

    def forward(self, x, *, weight, offset=0.25):
        weight = weight.data if isinstance(weight, Variable) else weight
        offset = offset.data if isinstance(offset, Variable) else offset
        return Variable(np.cos(weight * x.data + offset))

    def adjoint(self, grad, x, *, weight, offset=0.25):
        factor = weight.data if isinstance(weight, Variable) else weight
        shift = offset.data if isinstance(offset, Variable) else offset
        inner = -np.sin(factor * x.data + shift) * grad
        result = [factor * inner]
        if isinstance(weight, Variable):
            result.append(x.data * inner)
        if isinstance(offset, Variable):
            result.append(inner)
        return result

    @staticmethod
    def torch(x, *, weight, offset=0.25):
        return (torch.cos(weight * x + offset),)


class Named(Operator):
    """Any number of keyword Variables, gradients by name."""

    def forward(self, **named):
        return Variable(np.sin(sum(k * named[n].data for k, n in enumerate(sorted(named), 1))))

    def adjoint(self, grad, **named):
        inner = np.cos(sum(k * named[n].data for k, n in enumerate(sorted(named), 1))) * grad
        return {n: k * inner for k, n in reversed(list(enumerate(sorted(named), 1)))}

    @staticmethod
    def torch(**named):
        return (torch.sin(sum(k * named[n] for k, n in enumerate(sorted(named), 1))),)


class Mean(Operator):
    """Any number of positional Variables."""

    def forward(self, *xs):
        return [Variable(sum(x.data for x in xs) / len(xs))]

    def adjoint(self, grad, *xs):
        return {"xs": [grad / len(xs) for _ in xs]} if len(xs) > 2 else tuple(grad / len(xs) for _ in xs)

    @staticmethod
    def torch(*xs):
        return (sum(xs) / len(xs),)


def awaited(method):
    """A coroutine function with the same signature that lets others run first."""

    @functools.wraps(method)
    async def coroutine(self, *args, **kwargs):
        await asyncio.sleep(0)
        return method(self, *args, **kwargs)

    return coroutine


def variants(cls):
    """The operator with plain functions, with coroutines, and with plain functions in threads."""
    coroutine = type(cls.__name__, (cls,), {"forward": awaited(cls.forward), "adjoint": awaited(cls.adjoint)})
    blocking = type(cls.__name__, (cls,), {"blocking": True})
    return [cls(), coroutine(), blocking()]


OPERATORS = {cls: variants(cls) for cls in (Product, Sine, Three, Affine, Named, Mean)}


@st.composite
def programs(draw):
    """A list of instructions: (operator class, variant, positions of arguments, names of keyword arguments)."""
    leaves = draw(st.integers(1, 4))
    needs = draw(st.lists(st.booleans(), min_size=leaves, max_size=leaves).filter(any))
    values = leaves
    program = []
    for _ in range(draw(st.integers(1, 14))):
        cls = draw(st.sampled_from(list(OPERATORS)))
        pick = st.integers(0, values - 1)
        args, kwargs = [], {}
        if cls is Affine:
            args = [draw(pick)]
            kwargs = {"weight": draw(st.one_of(pick, st.just("number")))}
            if draw(st.booleans()):
                kwargs["offset"] = draw(pick)
        elif cls is Named:
            kwargs = draw(st.dictionaries(st.sampled_from(["u", "a", "m", "z", "b"]), pick, min_size=1, max_size=4))
        elif cls is Mean:
            args = draw(st.lists(pick, min_size=1, max_size=4))
        else:
            args = [draw(pick) for _ in range(2 if cls is Product else 1)]
        if kwargs:
            kwargs = {name: kwargs[name] for name in draw(st.permutations(list(kwargs)))}
        program.append((cls, draw(st.integers(0, 2)), args, kwargs))
        values += 3 if cls is Three else 1
    root = draw(st.integers(leaves, values - 1))
    return needs, program, root, draw(st.integers(0, 2**32 - 1))


def resolve(entry, pool):
    return 0.75 if entry == "number" else pool[entry]


@settings(max_examples=200, deadline=None, database=None)
@given(programs())
def test_gradients_equal_those_of_torch(drawn):
    needs, program, root, seed = drawn
    rng = np.random.default_rng(seed)
    starts = [rng.uniform(-1, 1, 3) for _ in needs]
    weights = rng.uniform(-1, 1, 3)

    theirs = [torch.tensor(start, requires_grad=need) for start, need in zip(starts, needs, strict=True)]
    for cls, _, args, kwargs in program:
        theirs.extend(
            cls.torch(*(resolve(a, theirs) for a in args), **{n: resolve(a, theirs) for n, a in kwargs.items()})
        )

    async def main():
        ours = [Variable(start, needs_grad=need) for start, need in zip(starts, needs, strict=True)]
        for cls, variant, args, kwargs in program:
            operator = OPERATORS[cls][variant]
            result = await operator(
                *(resolve(a, ours) for a in args), **{n: resolve(a, ours) for n, a in kwargs.items()}
            )
            ours.extend([result] if isinstance(result, Variable) else result)
        np.testing.assert_allclose(ours[root].data, theirs[root].detach().numpy(), rtol=1e-12, atol=1e-12)
        assert ours[root].needs_grad == theirs[root].requires_grad
        if ours[root].needs_grad:
            await ours[root].adjoint(weights)
        return ours[: len(needs)]

    leaves = wait(main())
    if theirs[root].requires_grad:
        theirs[root].backward(torch.tensor(weights))
    for leaf, tensor in zip(leaves, theirs, strict=False):
        assert (leaf.grad is None) == (tensor.grad is None)
        if leaf.grad is not None:
            scale = max(1.0, float(tensor.grad.abs().max()))
            np.testing.assert_allclose(leaf.grad, tensor.grad.numpy(), rtol=1e-12, atol=1e-12 * scale)
