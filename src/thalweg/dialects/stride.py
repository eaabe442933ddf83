"""The names of Stride's two API pages (core, optimisers), on Thalweg's engine.

``Operator``, ``Graph`` and ``Node`` are Thalweg's own, which have the page's names and signatures. What differs from
the page's library: a step size is used exactly as given, ``reset`` resets, ``dump`` and ``load`` carry the optimiser's
state, :class:`GradientDescent` takes no keyword that it does not know, and its ``step`` refuses one that looks like a
misspelt argument. Other keywords of ``step`` go to ``pre_process`` and ``post_process``, as the page has it.
"""

from __future__ import annotations

import abc
import difflib
import inspect
import itertools
import os
from typing import Any

from thalweg import graph
from thalweg.errors import HyperparameterError
from thalweg.graph import Graph, Node, Operator
from thalweg.optimizers import named
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.pipeline import Hook
from thalweg.rules.spelling import unknown

__all__ = ["GradientDescent", "Graph", "LocalOptimiser", "Node", "Operator", "Variable"]

_ARGUMENTS = ("step_size", "grad", "processed_grad")
_MEANT = {"step": "step_size", "learning_rate": "step_size", "lr": "step_size", "gradient": "grad"}  # far, but clear

_NUMBERS = itertools.count(1)  # for automatic names; the n-th unnamed variable of a script has the same one each time


class Variable(graph.Variable):
    """Variables are the inputs and outputs of operators, and track the graph through which they have travelled.

    Args:
        data: any array.
        name: name of the variable, defaults to automatic name.
        needs_grad: whether or not the gradient with respect to this variable is needed.

    Example:
        >>> import numpy as np
        >>> from thalweg.dialects.stride import Variable
        >>> Variable(np.zeros(2)).name.startswith("variable-")
        True

    Source: the API page of Stride's core, class Variable.
    """

    def __init__(self, data: Any = None, *, name: str | None = None, needs_grad: bool = False) -> None:
        name = f"variable-{next(_NUMBERS)}" if name is None else name
        super().__init__(data, name=name, needs_grad=needs_grad)


class _Engine(named.GradientDescent):
    """Thalweg's optimizer, with the hook that users of the page override."""

    _owner: LocalOptimiser
    _extra: dict[str, Any]

    async def post_process(self) -> None:
        await self._owner.post_process(**self._extra)


class LocalOptimiser(abc.ABC):
    """Base class for a local optimiser. It takes the value of the gradient and applies it to the variable.

    Args:
        variable: Variable to which the optimiser refers.
        process_grad: processing function to apply on the gradient prior to applying it, array to array.
        process_model: processing function to apply on the model after updating it, array to array.
        kwargs: extra parameters to be used by a subclass; not used here.

    Raises:
        ParameterError: the variable's data cannot be updated in place.
        HyperparameterError: a processing function is not callable.

    Source: the API page of Stride's optimisers, class LocalOptimiser.
    """

    def __init__(
        self, variable: graph.Variable, *, process_grad: Hook = None, process_model: Hook = None, **kwargs: Any
    ) -> None:
        self.variable = variable
        self._engine = _Engine(variable, process_grad=process_grad, process_model=process_model)
        self._engine._owner = self
        self._engine._extra = {}

    def clear_grad(self) -> None:
        """Clear the internal gradient buffers of the variable."""
        self._engine.clear_grad()

    async def pre_process(self, grad: Any = None, processed_grad: Any = None, **kwargs: Any) -> graph.Variable:
        """Pre-process the variable gradient before using it to take the step.

        Args:
            grad: gradient to use for the step, defaults to variable gradient.
            processed_grad: processed gradient to use for the step, defaults to processed variable gradient.
            kwargs: extra parameters for subclasses; not used here.

        Returns:
            The variable as it goes into the step: it shares the data, and its ``grad`` is the processed gradient. The
            optimiser's own variable keeps its gradient, so nothing is processed twice.

        Raises:
            GradientError: there is no gradient, or it does not fit the variable.
            OptimizerError: both ``grad`` and ``processed_grad`` are given.
        """
        ready = self.variable.detach()
        ready.grad = await LocalOptimizer.pre_process(self._engine, _array(grad), _array(processed_grad))
        return ready

    @abc.abstractmethod
    async def step(self, **kwargs: Any) -> graph.Variable:
        """Apply the optimiser.

        Args:
            kwargs: extra parameters to be used by the method.

        Returns:
            Updated variable.
        """

    async def post_process(self, **kwargs: Any) -> None:
        """Perform any necessary post-processing of the variable: here, apply ``process_model``.

        Args:
            kwargs: extra parameters for subclasses; not used here.
        """
        await LocalOptimizer.post_process(self._engine)

    def dump(self, path: str | os.PathLike[str]) -> None:
        """Dump latest version of the optimiser: its state and the variable's data.

        Args:
            path: a folder; each dump adds a generation to it.

        Raises:
            CheckpointError: it cannot be written.
        """
        self._engine.dump(path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Load latest version of the optimiser, to the same bits.

        Args:
            path: the folder that :meth:`dump` wrote.

        Raises:
            CheckpointError: there is none, or it is damaged.
            StateMismatchError: it belongs to another optimiser or variable; nothing was changed.
        """
        self._engine.load(path)

    @abc.abstractmethod
    def reset(self, **kwargs: Any) -> None:
        """Reset optimiser state along with any stored buffers.

        Args:
            kwargs: extra parameters to be used by the method.
        """


class GradientDescent(LocalOptimiser):
    """Implementation of a gradient descent update: data −= step·gradient.

    Args:
        variable: Variable to which the optimiser refers.
        step: step size for the update, defaults to 1.
        process_grad: processing function to apply on the gradient prior to applying it, array to array.
        process_model: processing function to apply on the model after updating it, array to array.

    Raises:
        HyperparameterError: the step is negative or not finite, or a keyword is unknown (naming the nearest).
        ParameterError: the variable's data cannot be updated in place.

    Example:
        >>> import numpy as np
        >>> from thalweg.dialects.stride import GradientDescent, Variable
        >>> from thalweg.graph import wait
        >>> x = Variable(np.array([1.0, 2.0]), needs_grad=True)
        >>> optimiser = GradientDescent(x, step=0.5)
        >>> wait(optimiser.step(step_size=0.01, grad=np.array([1.0, -1.0]))).data
        array([0.99, 2.01])

    Source: the API page of Stride's optimisers, class GradientDescent.
    """

    def __init__(
        self,
        variable: graph.Variable,
        *,
        step: float = 1.0,
        process_grad: Hook = None,
        process_model: Hook = None,
        **kwargs: Any,
    ) -> None:
        for name in kwargs:
            raise unknown("parameter of GradientDescent:", name, ["step", "process_grad", "process_model"])
        super().__init__(variable, process_grad=process_grad, process_model=process_model)
        self.step_size = step

    @property
    def step_size(self) -> float:
        """The instance's step size; can be set."""
        return self._engine.current("learning_rate")

    @step_size.setter
    def step_size(self, value: float) -> None:
        if callable(value):
            raise HyperparameterError(f"step is {value!r}; give a number (Thalweg's own optimizers take schedules)")
        self._engine.learning_rate = value

    async def step(
        self, step_size: float | None = None, grad: Any = None, processed_grad: Any = None, **kwargs: Any
    ) -> graph.Variable:
        """Apply the optimiser.

        Args:
            step_size: step size to use for this application, exactly as given; defaults to instance step.
            grad: gradient to use for the step, defaults to variable gradient.
            processed_grad: processed gradient to use for the step, defaults to processed variable gradient.
            kwargs: extra parameters, handed to :meth:`pre_process` and :meth:`post_process`; here not used.

        Returns:
            Updated variable.

        Raises:
            GradientError: there is no gradient, it does not fit the variable, or it is not finite.
            HyperparameterError: an extra parameter looks like a misspelt argument (naming it).
            OptimizerError: both ``grad`` and ``processed_grad`` are given, or a step is running.
        """
        self._refuse_misspelt(kwargs)
        ready = await self.pre_process(grad=grad, processed_grad=processed_grad, **kwargs)
        self._engine._extra = kwargs
        await self._engine.step(step_size, processed_grad=ready.grad)
        return self.variable

    def _refuse_misspelt(self, kwargs: dict[str, Any]) -> None:
        hooks = {name for hook in (self.pre_process, self.post_process) for name in inspect.signature(hook).parameters}
        for name in kwargs.keys() - hooks:  # what a subclass's hook declares is no mistake
            close = difflib.get_close_matches(name, _ARGUMENTS, n=1, cutoff=0.75)
            if name in _MEANT or close:
                meant = _MEANT.get(name) or close[0]
                raise HyperparameterError(
                    f"there is no argument of step {name!r}; did you mean {meant!r}? (known: {', '.join(_ARGUMENTS)}; "
                    "other keywords go to pre_process and post_process)",
                    name=name,
                    nearest=meant,
                    known=list(_ARGUMENTS),
                )

    def reset(self, **kwargs: Any) -> None:
        """Reset optimiser state along with any stored buffers.

        Args:
            kwargs: extra parameters for subclasses; not used here.
        """
        self._engine.reset()


def _array(grad: Any) -> Any:
    """The array of a gradient that comes as a Variable."""
    return grad.data if isinstance(grad, graph.Variable) else grad
