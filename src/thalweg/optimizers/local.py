"""Gradient optimizers: the step."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError, OptimizerError
from thalweg.graph import Variable
from thalweg.graph.executor import run_blocking
from thalweg.lowering.numpy import compile_rule
from thalweg.optimizers import persistence
from thalweg.optimizers.configured import ConfiguredOptimizer
from thalweg.optimizers.gradients import by_name, finite, fitting
from thalweg.optimizers.parameters import Footprint
from thalweg.optimizers.settings import resolve
from thalweg.rules.ranges import number
from thalweg.schedules import OptimizationState


class LocalOptimizer(ConfiguredOptimizer):
    """A rule bound to one Variable, to several, or (yet) to none.

    A subclass sets ``rule`` and declares its hyperparameters, each a :class:`Setting`. A step is
    :meth:`pre_process` → rule → ``process_model`` → whatever a subclass adds to :meth:`post_process`. If any of
    it raises an error, nothing is changed. Nothing is clamped or rescaled unless asked for.

    One thing raises no error: a finite gradient whose square, or whose product with the learning rate, is beyond
    the dtype (in float32 from about 1.8e19 for g², 3.4e38 for η·g). The step is made, and that element becomes
    infinite, or its state does and it never moves again. To see it would take another pass over memory in every
    step and a copy to go back to. Where gradients may be that large, rescale them or use float64.

    Args:
        variables: a Variable, a sequence of them with distinct names, or ``None``. Their data are writable
            NumPy arrays of float32 or float64, which are updated where they lie.
        hyperparameters: the rule's hyperparameters, each a number or a schedule; by default the rule's
            defaults.
        process_grad: callable(s) on a gradient before the rule, array to array; or a mapping from variable
            name.
        process_model: callable(s) on the data after the rule, array to array; or a mapping from variable
            name.
        name: a name of your choice, by default the rule's.
        description: what it is for.

    Raises:
        HyperparameterError: a hyperparameter is unknown or out of its range, or a hook is not callable.
        ParameterError: a variable's data cannot be updated in place, or two variables share memory.
        OptimizerError: several variables and one has no name, or two have the same.

    Example:
        >>> import numpy as np
        >>> from thalweg import rules
        >>> from thalweg.graph import Variable, wait
        >>> from thalweg.optimizers import LocalOptimizer, Setting
        >>> class Heavy(LocalOptimizer):
        ...     rule = rules.momentum
        ...     learning_rate = Setting()
        ...     momentum = Setting()
        >>> x = Variable(np.array([1.0, 2.0]), name="x", needs_grad=True)
        >>> heavy = Heavy(x, hyperparameters={"momentum": 0.99})
        >>> heavy.learning_rate = 0.5
        >>> wait(heavy.step(grad=np.array([1.0, -1.0])))
        Variable('x', shape (2,), float64, needs_grad)
        >>> x.data
        array([0.5, 2.5])

    Source: the API page of Stride's optimisers, class LocalOptimiser.
    """

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
        processed = {name: pair[0] for name, pair in (await self._processed(grad, processed_grad)).items()}
        return processed[self._parameters[0].name] if self._single else processed

    async def step(
        self, step_size: float | None = None, grad: Any = None, processed_grad: Any = None
    ) -> Variable | tuple[Variable, ...]:
        """Make one step.

        Args:
            step_size: learning rate for this application, used exactly as given, 0 too.
            grad: gradient to use instead of the variable's own; with several variables a mapping by name.
            processed_grad: gradient to use as it is; with several variables a mapping by name.

        Returns:
            The updated variable; with several variables a tuple of them.

        Raises:
            MissingGradientError: there is no gradient.
            GradientShapeError: a gradient's shape is not its variable's.
            GradientDtypeError: a gradient's dtype is not its variable's.
            NonFiniteGradientError: a gradient holds NaN or infinity.
            HyperparameterError: a schedule's value or the step size is out of range, or a hook returned
                something else than an array of the right shape and dtype.
            ParameterError: a variable's data can no longer be updated in place.
            OptimizerError: a step is running; or both ``grad`` and ``processed_grad`` are given, or one for no
                variable of this optimizer.
        """
        self._at_rest("the next one")
        self._stepping = True
        try:
            return await self._step(step_size, grad, processed_grad)
        finally:
            self._stepping = False

    async def _step(self, step_size: float | None, grad: Any, processed_grad: Any) -> Variable | tuple[Variable, ...]:
        processed = await self._processed(grad, processed_grad)
        await self._compile()

        now = self._optimization_state.copy()
        now.begin_step()
        hyper = self._hyper(now, step_size)
        work = []
        checked = [parameter.data() for parameter in self._parameters]
        if not self._footprint.describes(self._parameters):
            self._footprint = Footprint(self._parameters)
        for parameter, data in zip(self._parameters, checked, strict=True):
            used, raw = processed[parameter.name]
            usable = finite(used, raw, parameter, now.curr_iter)
            if self._footprint.may_touch(usable):
                usable = usable.copy()  # the update must not be seen through the gradient
            assert parameter.kernel is not None
            scalars = parameter.kernel.prepare(hyper, self._updates + 1)
            work.append((parameter, parameter.ready(data, usable, scalars)))

        folded = self._folded_limits()
        limits = {} if folded is None else folded
        backups = None if folded is not None else [parameter.backup() for parameter in self._parameters]
        for parameter, update in work:
            parameter.advance(update, limits.get(parameter.name))
        if backups is not None:
            try:
                await self.post_process()
            except BaseException:
                for parameter, backup in zip(self._parameters, backups, strict=True):
                    parameter.undo(backup)
                raise
        self._optimization_state.begin_step()
        self._updates += 1
        for variable in self.variables:
            variable.mark_modified()
        return self._result()

    async def post_process(self) -> None:
        """Apply ``process_model`` to the variables' data; called by :meth:`step` after the rule.

        Raises:
            HyperparameterError: it returned something else than an array of the right shape and dtype.
        """
        results = []
        for parameter in self._parameters:
            data = parameter.data()
            if self._process_model.steps(parameter.name):
                results.append((parameter, data, await self._process_model.run(parameter.name, data)))
        for parameter, data, result in results:
            data[...] = result
            parameter.variable.mark_modified()

    def reset(self, *, counters: bool = True) -> None:
        """Empty the rule's state (momentum, moments), as if no step had been made. The variables stay.

        Args:
            counters: also set the iterations, epochs and batches that schedules follow back to zero.

        Raises:
            OptimizerError: a step is running.
        """
        self._at_rest("resetting")
        for parameter in self._parameters:
            parameter.reset()
        self._updates = 0
        if counters:
            fresh = OptimizationState(batch_size=self._optimization_state.batch_size)
            persistence.set_counts(self._optimization_state, fresh.get_config())

    async def propose(self) -> list[dict[str, np.ndarray]]:
        """The points on which feedback is wanted: the present one.

        Returns:
            One dictionary of read-only views of the variables' data, by name.
        """
        point = {}
        for parameter in self._parameters:
            view = parameter.data().view()
            view.setflags(write=False)
            point[parameter.name] = view
        return [point]

    async def apply(self, feedback: Any) -> Variable | tuple[Variable, ...]:
        """Make one step with the gradients that the feedback holds.

        Args:
            feedback: an object with ``gradients``, a mapping from variable name to array.

        Returns:
            As :meth:`step`.

        Raises:
            As :meth:`step`.
        """
        return await self.step(grad=dict(feedback.gradients))

    async def _processed(self, grad: Any, processed_grad: Any) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
        """For each variable the gradient to use, and what it was before ``process_grad`` if that is known."""
        parameters = self._bound()
        iteration = self._optimization_state.curr_iter + 1
        if grad is not None and processed_grad is not None:
            raise OptimizerError(
                f"{self.name}: grad and processed_grad are both given; give grad to have it processed, or "
                "processed_grad to have it used as it is"
            )
        if processed_grad is not None:
            given = by_name(processed_grad, parameters, "processed_grad")
            return {p.name: (fitting(given[p.name], p, iteration), None) for p in parameters}
        raws = await self._raw(grad)
        fit = {p.name: fitting(raws[p.name], p, iteration) for p in parameters}
        return {name: (await self._process_grad.run(name, raw), raw) for name, raw in fit.items()}

    async def _raw(self, grad: Any) -> dict[str, Any]:
        if grad is not None:
            return by_name(grad, self._parameters, "grad")
        return {p.name: await _maybe(p.variable.process_grad()) for p in self._parameters}

    async def _compile(self) -> None:
        """Compile where that has not been done, away from the event loop: it takes a moment."""
        for parameter in self._parameters:
            if parameter.kernel is None:
                parameter.kernel = await run_blocking(compile_rule, self.rule, parameter.dtype)

    def _hyper(self, now: OptimizationState, step_size: float | None) -> Any:
        """The hyperparameters of the step during which the counts are ``now``."""
        declared = self.rule.hyperparameters
        values = dict(self._settings)
        if step_size is not None:
            if "learning_rate" not in declared:
                raise HyperparameterError(f"{self.rule.name} has no learning rate, so step_size means nothing")
            interval = declared["learning_rate"].interval
            values["learning_rate"] = number(step_size, interval, name="step_size", owner=self.name)
        return self.rule.hyper(**{name: resolve(self.rule, name, value, now) for name, value in values.items()})

    def _folded_limits(self) -> dict[str, tuple[float, float] | None] | None:
        """Bounds for the compiled pass, if there is nothing else to do after the rule; else ``None``."""
        if type(self).post_process is not LocalOptimizer.post_process:
            return None
        limits = {p.name: self._process_model.limits(p.name) for p in self._parameters}
        if any(limits[name] is None and self._process_model.steps(name) for name in limits):
            return None
        return limits

    def _result(self) -> Variable | tuple[Variable, ...]:
        return self._parameters[0].variable if self._single else self.variables


async def _maybe(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
