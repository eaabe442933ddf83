"""What the rule will see: gradients taken, gathered over micro-batches, processed, and not finite or not."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from thalweg.errors import OptimizerError
from thalweg.graph.executor import run_blocking
from thalweg.lowering.buffers import plain
from thalweg.optimizers.gradients import by_name, fitting, refusal
from thalweg.optimizers.stateful import StatefulOptimizer

T = TypeVar("T")

AWAY = 1 << 25
"""The number of elements from which a step is made in a thread: it would block the event loop for some 20 ms."""


class ProcessingOptimizer(StatefulOptimizer):
    """All of :class:`~thalweg.optimizers.local.LocalOptimizer` before the rule; see there for the arguments."""

    def clear_grad(self) -> None:
        """Clear the gradients of the variables."""
        for variable in self.variables:
            variable.clear_grad()

    async def pre_process(self, grad: Any = None, processed_grad: Any = None) -> Any:
        """What the rule will see: the gradient after ``variable.process_grad()`` and ``process_grad``.

        Args:
            grad: gradient to use instead of the variable's own; with several variables a mapping by name.
            processed_grad: gradient to use as it is; with several variables a mapping by name.

        Returns:
            An array of the variable's shape and dtype; with several variables a dictionary of them by name.

        Raises:
            MissingGradientError: there is no gradient.
            GradientShapeError: its shape is not the variable's.
            GradientDtypeError: its dtype is not the variable's.
            OptimizerError: both ``grad`` and ``processed_grad`` are given, or one for no variable of this optimizer.
        """
        _, processed = await self._processed(grad, processed_grad)
        return processed[self._parameters[0].name] if self._single else processed

    async def _pre_processed(
        self, grad: Any, processed_grad: Any
    ) -> tuple[Mapping[str, np.ndarray | None], Mapping[str, np.ndarray]]:
        """What :meth:`_processed` gives, or what a subclass has made of it."""
        if type(self).pre_process is ProcessingOptimizer.pre_process:
            return await self._processed(grad, processed_grad)
        found = by_name(await self.pre_process(grad, processed_grad), self._parameters, "what pre_process returned")
        iteration = self._optimization_state.curr_iter + 1
        return dict.fromkeys(found), {p.name: fitting(found[p.name], p, iteration) for p in self._parameters}

    async def _processed(
        self, grad: Any, processed_grad: Any
    ) -> tuple[dict[str, np.ndarray | None], dict[str, np.ndarray]]:
        """For each variable what its gradient was before ``process_grad``, if that is known, and the one to use."""
        parameters = self._bound()
        iteration = self._optimization_state.curr_iter + 1
        if grad is not None and processed_grad is not None:
            raise OptimizerError(
                f"{self.name}: grad and processed_grad are both given; give grad to have it processed, or "
                "processed_grad to have it used as it is"
            )
        if processed_grad is not None:
            given = by_name(processed_grad, parameters, "processed_grad")
            return dict.fromkeys(given), {p.name: fitting(given[p.name], p, iteration) for p in parameters}
        raws = await self._raw(grad)
        fit = {p.name: fitting(raws[p.name], p, iteration) for p in parameters}
        if self._nonfinite == "zero" and self._process_grad.hook is not None:  # which would spread a NaN
            fit = {name: raw if np.isfinite(raw).all() else self._zero(raw) for name, raw in fit.items()}
        datas = {p.name: p.variable.data for p in parameters}
        return dict(fit), await self._process_grad.run_all(fit, datas)

    async def _raw(self, grad: Any) -> dict[str, Any]:
        if grad is not None:
            return by_name(grad, self._parameters, "grad")
        return {p.name: await _maybe(p.variable.process_grad()) for p in self._parameters}

    async def _gathered(self, grad: Any, processed_grad: Any) -> dict[str, np.ndarray] | None:
        """Take the gradients of a micro-batch; the means if it is the last before a step.

        The means are new arrays and nothing is counted, so that a step that fails can be made again.
        """
        if processed_grad is not None:
            raise OptimizerError(
                f"{self.name}: processed_grad is given, and accumulate={self._accumulate}; what is processed is the "
                "mean of the gradients, so give grad"
            )
        raws = await self._raw(grad)
        iteration = self._optimization_state.curr_iter + 1
        grads = {p.name: fitting(raws[p.name], p, iteration) for p in self._parameters}
        return await self._aside(self._gather, grads, iteration)

    def _gather(self, grads: Mapping[str, np.ndarray], iteration: int) -> dict[str, np.ndarray] | None:
        used = [plain(grads[p.name]) for p in self._parameters]
        if self._nonfinite != "ignore":
            bad = [index for index, given in enumerate(used) if not np.isfinite(given).all()]
            if bad and not self._repair(bad, used, grads, iteration):
                return None
        if self._micro + 1 >= self._accumulate:
            return {
                p.name: p.mean_with(usable, self._micro + 1) for p, usable in zip(self._parameters, used, strict=True)
            }
        for parameter, usable in zip(self._parameters, used, strict=True):
            parameter.accumulate(usable, first=self._micro == 0)
        self._micro += 1
        self._zeroed += self._zeroing
        return None

    def _apart(self, grad: np.ndarray) -> np.ndarray:
        """The gradient, or a copy where the update would be seen through it."""
        return grad.copy() if self._footprint.may_touch(grad) else grad

    def _repair(
        self,
        bad: list[int],
        used: list[np.ndarray],
        raws: Mapping[str, np.ndarray | None],
        iteration: int,
        gathered: int = 1,
    ) -> bool:
        """Do what was asked for with gradients that are not finite; whether the step can go on with ``used``."""
        if self._nonfinite == "skip":
            self._skipped += 1
            return False
        if self._nonfinite == "raise":
            name = self._parameters[bad[0]].name
            raise refusal(used[bad[0]], raws[name], name, iteration, gathered=gathered)
        for index in bad:
            used[index] = self._zero(used[index])
        return True

    def _zero(self, grad: np.ndarray) -> np.ndarray:
        """The gradient with 0 where it is not finite; counted when the step is made."""
        wrong = ~np.isfinite(grad)
        self._zeroing += int(np.count_nonzero(wrong))
        return np.where(wrong, grad.dtype.type(0), grad)

    async def _aside(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that works on arrays: in a thread, if it would keep the event loop for long."""
        return function(*arguments) if self._size < AWAY else await run_blocking(function, *arguments)


async def _maybe(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
