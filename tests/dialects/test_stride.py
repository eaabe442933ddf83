from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg import graph
from thalweg.dialects import stride
from thalweg.dialects.stride import GradientDescent, LocalOptimiser, Operator, Variable
from thalweg.errors import HyperparameterError, MissingGradientError, NonFiniteGradientError, OptimizerError
from thalweg.graph import wait


def test_the_pages_names_are_there() -> None:
    assert stride.__all__ == ["GradientDescent", "Graph", "LocalOptimiser", "Node", "Operator", "Variable"]
    pages = {
        Variable: "__call_adjoint__ adjoint alike as_parameter clear_grad copy detach process_grad",
        Operator: "__call__ __call_adjoint__ adjoint forward",
        stride.Graph: "add print toposort",
        stride.Node: "add_next copy name name_idx",
        LocalOptimiser: "clear_grad dump load post_process pre_process reset step",
        GradientDescent: "reset step",
    }
    for cls, names in pages.items():
        for name in names.split():
            assert hasattr(cls, name), (cls, name)
    for method in (LocalOptimiser.pre_process, LocalOptimiser.post_process, GradientDescent.step):
        assert inspect.iscoroutinefunction(method)
    assert LocalOptimiser.__abstractmethods__ == {"step", "reset"}
    assert issubclass(Variable, graph.Variable)


def test_the_order_of_arguments_is_the_pages() -> None:
    signature = inspect.signature(GradientDescent.step)
    assert list(signature.parameters) == ["self", "step_size", "grad", "processed_grad", "kwargs"]
    assert list(inspect.signature(LocalOptimiser.pre_process).parameters) == [
        "self",
        "grad",
        "processed_grad",
        "kwargs",
    ]
    x = Variable(np.array([1.0]))
    wait(GradientDescent(x).step(0.5, np.array([1.0])))
    np.testing.assert_array_equal(x.data, [0.5])
    wait(GradientDescent(x).step(0.5, None, np.array([1.0]), iteration=3))
    np.testing.assert_array_equal(x.data, [0.0])


def test_names_are_automatic() -> None:
    a, b = Variable(np.zeros(1)), Variable(np.zeros(1))
    assert a.name
    assert b.name
    assert a.name != b.name
    assert Variable(np.zeros(1), name="vp").name == "vp"
    assert a.copy().name == a.name


@pytest.mark.parametrize("size", [0.0, 1e-9, 0.05, 1.0, 3.0])
def test_step_sizes_are_never_clamped(size: float) -> None:
    grad = np.array([1.0, -2.0])
    for arguments, given in (({"step": size}, {}), ({}, {"step_size": size})):
        x = Variable(np.array([1.0, 2.0]), needs_grad=True)
        x.grad = grad.copy()
        assert wait(GradientDescent(x, **arguments).step(**given)) is x
        np.testing.assert_array_equal(x.data, np.array([1.0, 2.0]) - size * grad)


def test_the_default_step_is_one() -> None:
    x = Variable(np.array([1.0, 2.0]))
    optimiser = GradientDescent(x)
    assert optimiser.step_size == 1.0
    wait(optimiser.step(grad=np.array([0.25, 0.5])))
    np.testing.assert_array_equal(x.data, [0.75, 1.5])


def test_the_step_flow() -> None:
    x = Variable(np.array([0.0]), needs_grad=True)
    x.grad = np.array([1.0])
    optimiser = GradientDescent(x, process_grad=lambda g: 2 * g, process_model=lambda m: m + 10)
    ready = wait(optimiser.pre_process())
    assert isinstance(ready, Variable)
    np.testing.assert_array_equal(ready.grad, [2.0])
    np.testing.assert_array_equal(x.grad, [1.0])
    wait(optimiser.step())
    np.testing.assert_array_equal(x.data, [8.0])
    wait(optimiser.step(grad=np.array([3.0])))
    np.testing.assert_array_equal(x.data, [12.0])
    wait(optimiser.step(processed_grad=Variable(np.array([3.0]))))
    np.testing.assert_array_equal(x.data, [19.0])
    optimiser.clear_grad()
    with pytest.raises(MissingGradientError):
        wait(optimiser.step())


def test_overridden_hooks_are_called_with_the_extra_parameters() -> None:
    log: list[Any] = []

    class Mine(GradientDescent):
        async def pre_process(self, grad: Any = None, processed_grad: Any = None, **kwargs: Any) -> Any:
            log.append(("pre", kwargs))
            return await super().pre_process(grad, processed_grad, **kwargs)

        async def post_process(self, **kwargs: Any) -> None:
            log.append(("post", kwargs))
            await super().post_process(**kwargs)

    wait(Mine(Variable(np.zeros(1))).step(grad=np.ones(1), iteration=7))
    assert log == [("pre", {"iteration": 7}), ("post", {"iteration": 7})]


def test_an_optimiser_of_ones_own() -> None:
    class Signed(LocalOptimiser):
        def __init__(self, variable: graph.Variable, **kwargs: Any) -> None:
            super().__init__(variable, **kwargs)
            self.size = kwargs.get("size", 1.0)

        async def step(self, **kwargs: Any) -> graph.Variable:
            ready = await self.pre_process(**kwargs)
            self.variable.data[...] -= self.size * np.sign(ready.grad)
            await self.post_process(**kwargs)
            return self.variable

        def reset(self, **kwargs: Any) -> None:
            pass

    x = Variable(np.array([1.0, 2.0]))
    optimiser = Signed(x, size=0.5, process_model=lambda m: np.maximum(m, 0.75))
    wait(optimiser.step(grad=np.array([5.0, -5.0])))
    np.testing.assert_array_equal(x.data, [0.75, 2.5])
    with pytest.raises(TypeError, match="abstract"):
        LocalOptimiser(x)  # type: ignore[abstract]


def test_dump_load_and_reset(tmp_path: Path) -> None:
    x = Variable(np.array([1.0, 2.0]), name="vp")
    optimiser = GradientDescent(x, step=0.1)
    wait(optimiser.step(grad=np.ones(2)))
    optimiser.dump(tmp_path / "vp")
    y = Variable(np.zeros(2), name="vp")
    other = GradientDescent(y)
    other.load(tmp_path / "vp")
    assert y.data.tobytes() == x.data.tobytes()
    assert other.step_size == 0.1
    other.reset()
    np.testing.assert_array_equal(y.data, x.data)


def test_mistakes() -> None:
    x = Variable(np.zeros(1))
    with pytest.raises(HyperparameterError, match="did you mean 'process_grad'"):
        GradientDescent(x, proces_grad=lambda g: g)
    for wrong in (-1.0, float("nan"), "1", lambda state: 1.0):
        with pytest.raises(HyperparameterError):
            GradientDescent(x, step=wrong)  # type: ignore[arg-type]
    with pytest.raises(NonFiniteGradientError):
        wait(GradientDescent(x).step(grad=np.array([np.nan])))
    np.testing.assert_array_equal(x.data, [0.0])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("stepsize", "step_size"),
        ("step", "step_size"),
        ("learning_rate", "step_size"),
        ("grads", "grad"),
        ("gradient", "grad"),
        ("process_grad", "processed_grad"),
    ],
)
def test_a_misspelt_argument_of_step_is_refused_with_the_nearest(name: str, meant: str) -> None:
    x = Variable(np.zeros(1))
    with pytest.raises(HyperparameterError, match=f"{name!r}; did you mean {meant!r}") as caught:
        wait(GradientDescent(x).step(grad=np.ones(1), **{name: 3}))
    assert caught.value.details["nearest"] == meant
    np.testing.assert_array_equal(x.data, [0.0])


def test_a_keyword_that_a_hook_declares_or_that_is_like_no_argument_goes_through() -> None:
    seen: list[Any] = []

    class Mine(GradientDescent):
        async def post_process(self, *, grads: int = 0, **kwargs: Any) -> None:
            seen.append((grads, kwargs))
            await super().post_process(**kwargs)

    wait(Mine(Variable(np.zeros(1))).step(grad=np.ones(1), grads=2, norm_grad=True, problem=None))
    assert seen == [(2, {"norm_grad": True, "problem": None})]


def test_grad_and_processed_grad_together_are_refused() -> None:
    x = Variable(np.zeros(1))
    with pytest.raises(OptimizerError, match="both given"):
        wait(GradientDescent(x).step(grad=np.ones(1), processed_grad=np.ones(1)))
    np.testing.assert_array_equal(x.data, [0.0])


def test_importing_the_dialect_replaces_no_signal_handlers() -> None:
    import subprocess
    import sys

    script = (
        "import signal; before = [signal.getsignal(s) for s in signal.Signals if s != signal.SIGKILL]; "
        "import thalweg.dialects.stride; "
        "assert before == [signal.getsignal(s) for s in signal.Signals if s != signal.SIGKILL]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
