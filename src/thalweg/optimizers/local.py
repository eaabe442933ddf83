"""Gradient optimizers: the step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError, OptimizerError
from thalweg.graph import Variable
from thalweg.graph.executor import run_blocking
from thalweg.lowering import compile_rule
from thalweg.lowering.batch import UNBOUNDED
from thalweg.lowering.buffers import plain
from thalweg.optimizers import describing
from thalweg.optimizers.parameters import Footprint
from thalweg.optimizers.processing import AWAY, ProcessingOptimizer
from thalweg.optimizers.seating import Seating, kinds
from thalweg.optimizers.telling import tell_standing
from thalweg.rules.elementwise import with_lanes


class LocalOptimizer(ProcessingOptimizer, metaclass=describing.OfRule):
    """A rule bound to one Variable, to several, or (yet) to none.

    A subclass sets ``rule``. A step is :meth:`pre_process` → rule → ``process_model`` → whatever a subclass adds to
    :meth:`post_process`. If any of it raises an error, nothing is changed. Nothing is clamped or rescaled unless
    asked for.

    One thing raises no error: a finite gradient whose square, or whose product with the learning rate, is beyond
    the dtype (in float32 from about 1.8e19 for g², 3.4e38 for η·g). The step is made, and that element becomes
    infinite, or its state does and it never moves again. To see it would take another pass over memory in every
    step and a copy to go back to. Where gradients may be that large, rescale them or use float64. Nor is what
    a ``process_model`` of your own returns looked at: a NaN in it is written, and shows in the next gradient.

    Args:
        variables: a Variable, a sequence of them with distinct names, or ``None``. Their data are writable
            NumPy arrays of float32 or float64, which are updated where they lie.
        convention: a library whose form of the rule and defaults are meant, such as ``"torch"`` or ``"keras"``.
        groups: hyperparameters of their own for some variables: a list of tables, each with ``variables`` (names
            or patterns such as ``"*.bias"``) and the hyperparameters that differ.
        wrap: what goes around the rule, the innermost first: ``"lookahead"``, ``"ema"``.
        accumulate: make a step of the mean of so many gradients, every so many calls of :meth:`step`.
        nonfinite: what to do with a gradient that holds NaN or infinity: ``"raise"`` an error, ``"skip"`` the
            step, take the elements as ``"zero"`` (both counted), or ``"ignore"`` (not look for any).
        process_grad: callable(s) on a gradient before the rule, array to array; or a mapping from variable
            name.
        process_model: callable(s) on the data after the rule, array to array; or a mapping from variable
            name.
        name: a name of your choice, by default the rule's.
        description: what it is for.
        hyperparameters: the rule's hyperparameters, each a number, a schedule, or an array of float32 or float64 like
            the variable; and its options.

    Raises:
        HyperparameterError: a hyperparameter or option is unknown or out of its range, or a hook is not callable.
        ParameterError: a variable's data cannot be updated in place, or two variables share memory.
        OptimizerError: several variables and one has no name, or two have the same.

    Example:
        >>> import numpy as np
        >>> from thalweg import rules
        >>> from thalweg.graph import Variable, wait
        >>> from thalweg.optimizers import LocalOptimizer
        >>> class Heavy(LocalOptimizer):
        ...     rule = rules.momentum
        >>> x = Variable(np.array([1.0, 2.0]), name="x", needs_grad=True)
        >>> heavy = Heavy(x, momentum=0.99)
        >>> heavy.learning_rate = 0.5
        >>> wait(heavy.step(grad=np.array([1.0, -1.0])))
        Variable('x', shape (2,), float64, needs_grad)
        >>> x.data
        array([0.5, 2.5])

    Source: the API page of Stride's optimisers, class LocalOptimiser.
    """

    async def step(
        self, step_size: float | None = None, grad: Any = None, processed_grad: Any = None
    ) -> Variable | tuple[Variable, ...]:
        """Make one step.

        Args:
            step_size: learning rate for this application, used exactly as given, 0 too. To Rprop it is where the steps
                start: in the first step only.
            grad: gradient to use instead of the variable's own; with several variables a mapping by name.
            processed_grad: gradient to use as it is; with several variables a mapping by name.

        Returns:
            The updated variable; with several variables a tuple of them.

        Raises:
            MissingGradientError: there is no gradient.
            GradientShapeError: a gradient's shape is not its variable's.
            GradientDtypeError: a gradient's dtype is not its variable's.
            NonFiniteGradientError: a gradient holds NaN or infinity.
            HyperparameterError: a schedule's value or the step size is out of range; a step size for a call that only
                gathers (``accumulate``); or a hook returned something else than an array of the right shape and dtype.
            ParameterError: a variable's data can no longer be updated in place.
            OptimizerError: a step is running; or both ``grad`` and ``processed_grad`` are given, or one for no
                variable of this optimizer.
        """
        if not self._running.acquire(False):
            raise self._busy("the next one")
        try:
            if step_size is not None and np.ndim(step_size) > 0:
                raise HyperparameterError(
                    f"{self.name}: step takes a step size first, and was given a {type(step_size).__name__}; if it is "
                    "a gradient, write step(grad=...)",
                    name="step_size",
                )
            if self._shortcut.open and step_size is None and grad is None and processed_grad is None:
                assert self._seating is not None
                grads = self._seating.unchanged()  # held until the step is over
                if grads is not None:
                    batch = self._seating.batches[0]
                    batch.set_time(self._updates + 1)
                    if batch.step(check=self._nonfinite != "ignore") is None:
                        self._commit()
                        return self._result()
                    # Something is not finite, and nothing was changed: the long way says what.
            return await self._step(step_size, grad, processed_grad)
        finally:
            self._running.release()

    async def _step(self, step_size: float | None, grad: Any, processed_grad: Any) -> Variable | tuple[Variable, ...]:
        self._bound()
        self._shortcut.open = None  # not known yet; what is set from here on says no
        self._zeroing = 0
        await self._compiled()
        own = grad is None and processed_grad is None and step_size is None and self._accumulate == 1
        if self._accumulate > 1:
            if step_size is not None and self._micro + 1 < self._accumulate:
                raise HyperparameterError(
                    f"{self.name}: step_size={step_size!r} is for the call that makes the step, and this one gathers "
                    f"(micro-batch {self._micro + 1} of {self._accumulate}); give it there",
                    name="step_size",
                )
            means = await self._gathered(grad, processed_grad)
            if means is None:
                return self._result()
            grad, processed_grad = means, None
        raws, processed = await self._pre_processed(grad, processed_grad)
        now = self._optimization_state.copy()
        now.begin_step()
        hypers = [self._hyper(now, step_size, group) for group in range(len(self._groups) + 1)]
        followed = map(self._table, {parameter.group for parameter in self._parameters})
        tell_standing(self.rule, followed, self._optimization_state, self._told)
        datas = [parameter.data() for parameter in self._parameters]
        if not self._footprint.describes(self._parameters):
            self._footprint = Footprint(self._parameters)
        seating = self._seated(datas)
        folded = self._folded_limits()
        backups: list[Any] = []
        try:
            arguments = seating, raws, processed, hypers, now.curr_iter, folded, backups
            used = await self._aside(self._pass, *arguments)
            if used is not None and folded is None:
                await self.post_process()
                self._finish(seating)
        except BaseException:  # cancelled, say; if the step was finished there is nothing to go back to
            for parameter, backup in zip(self._parameters, backups, strict=False):
                parameter.undo(backup)
            raise
        finally:
            seating.release()
        if own and used is not None and self._size < AWAY:
            self._remember(seating, folded is not None, used)
        return self._result()

    def _pass(
        self,
        seating: Seating,
        raws: Mapping[str, np.ndarray | None],
        processed: Mapping[str, np.ndarray],
        hypers: list[Any],
        iteration: int,
        folded: Mapping[str, tuple[float, float] | None] | None,
        backups: list[Any],
    ) -> list[np.ndarray] | None:
        """Update all arrays, and finish the step if nothing comes after the rule, else leave ``backups`` filled.

        It returns the gradients that were used, or ``None`` if the step is skipped.
        """
        used = [self._apart(plain(processed[parameter.name])) for parameter in self._parameters]
        seating.set_grads(used)
        if self._nonfinite != "ignore":
            bad = seating.bad()
            if bad and not self._repair(bad, used, raws, iteration, self._accumulate):
                self._micro = 0
                return None
            if bad:
                seating.set_grads(used)
        seating.set_hypers(hypers, self._updates + 1)
        for seat in seating.seats:
            limits = (folded or {}).get(seat.parameter.name) or UNBOUNDED
            seat.batch.set_limits(seat.index, limits)
            seat.fetch()
        if self._updates == 0:
            for parameter in self._parameters:
                parameter.begin(hypers[parameter.group])
        for batch in seating.batches:
            batch.ready()  # the last that can fail before anything is changed
        if folded is None or any(batch.kernel.may_fail for batch in seating.batches):
            backups += (parameter.backup() for parameter in self._parameters)
        for batch in seating.batches:
            batch.update()
        for seat in seating.seats:
            seat.bring()
        if folded is not None:
            self._finish(seating)
            backups.clear()
        return used

    def _finish(self, seating: Seating) -> None:
        for batch in seating.batches:
            batch.commit()
        self._micro = 0
        self._zeroed += self._zeroing
        self._commit()

    def _commit(self) -> None:
        """Count the step that was made."""
        self._optimization_state.begin_step()
        self.__dict__["_updates"] += 1  # past our __setattr__, which would take a tenth of a short step
        for parameter in self._parameters:
            parameter.variable.mark_modified()

    def _remember(self, seating: Seating, folded: bool, used: list[np.ndarray]) -> None:
        """Let the next step be the short one, if it will find everything as this one did."""
        grads = [parameter.variable.grad for parameter in self._parameters]
        self._shortcut.open = (
            self._shortcut.open is None
            and folded
            and self._process_grad.hook is None
            and type(self).pre_process is LocalOptimizer.pre_process
            and len(seating.batches) == 1
            and not seating.batches[0].kernel.may_fail  # it would take a copy to go back to
            and all(mine is given for mine, given in zip(used, grads, strict=True))
            and all(isinstance(value, float) for value in self._settings.values())
            and all(isinstance(value, float) for group in self._groups for value in group.settings.values())
            and seating.watch(grads)
        )

    async def _compiled(self) -> None:
        """Compile where that has not been done, away from the event loop: it takes a moment."""
        lanes = self._lanes()
        if self._seating is None or self._seating.lanes != lanes:
            for dtype, names in kinds(self._parameters, lanes):
                await run_blocking(compile_rule, with_lanes(self.rule, names), dtype)

    def _seated(self, datas: list[np.ndarray]) -> Seating:
        """The batches, made anew where there are none yet."""
        lanes = self._lanes()
        if self._seating is not None and self._seating.lanes != lanes:  # an array was set where a number was, say
            self._carried, self._seating = self._carried_numbers(), None
        if self._seating is None:
            self._seating = Seating(self.rule, self._parameters, datas, lanes)
            if self._carried is not None:
                for batch in self._seating.batches:
                    batch.carried[:] = self._carried
        for seat, data in zip(self._seating.seats, datas, strict=True):
            if seat.data is not data:
                seat.place(data)
        return self._seating

    async def post_process(self) -> None:
        """Apply ``process_model`` to the variables' data; called by :meth:`step` after the rule.

        Raises:
            HyperparameterError: it returned something else than an array of the right shape and dtype.
        """
        datas = {parameter.name: parameter.data() for parameter in self._parameters}
        results = await self._process_model.run_all(datas, datas)
        for parameter in self._parameters:
            if results[parameter.name] is not datas[parameter.name]:
                datas[parameter.name][...] = results[parameter.name]
                parameter.variable.mark_modified()

    def update(self, cost: Any, params: Any, lr: Any = None) -> list[tuple[Any, Any]]:
        """One step on PyTensor: what ``pytensor.function(..., updates=...)`` takes. ::

            [(θ, θ'), (slot, slot'), …, (t, t')]

        Each parameter is followed by its state, which the optimizer keeps; t is there if the step depends on it. Asked
        for again, also in another order, it is the same state. With ``nonfinite="raise"`` the function raises an error
        and changes nothing when a gradient holds NaN or infinity (on PyTensor's JAX backend, which has no errors, it
        does not: take ``"skip"`` there).

        Args:
            cost: a real scalar expression; its gradient is ``pytensor.grad``'s.
            params: a list of shared variables of float32 or float64, in the variables' own units, with distinct names.
            lr: the learning rate: a number, an array like the parameters, a shared variable of either, which may change
                from step to step, or an expression; by default the optimizer's own, whose schedule has to count
                iterations.

        Returns:
            Pairs of a shared variable and the expression for what it becomes.

        Raises:
            MissingExtraError: PyTensor is not installed.
            OptimizerError: the optimizer is bound to Variables; the cost is no real scalar; or the parameters are
                none, have no distinct names, or are others than before.
            ParameterError: a parameter is no shared variable of float32 or float64.
            MissingGradientError: the cost does not depend on a parameter.
            HyperparameterError: the rate is out of its range, or a graph cannot hold a schedule or hook; or ``lr`` is
                given and the optimizer has a schedule of it, or groups with their own.

        Example:
            >>> import numpy as np
            >>> import pytensor
            >>> import thalweg as tw
            >>> x = pytensor.shared(np.array([1.0, 2.0]), name="x")
            >>> updates = tw.Adam().update((x**2).sum(), [x], lr=0.5)
            >>> [variable.name for variable, _ in updates]
            ['x', 'x/mean', 'x/mean_square', 'adam/t']
            >>> step = pytensor.function([], updates=updates, mode="FAST_COMPILE")
            >>> _ = step()
            >>> x.get_value()
            array([0.5, 1.5])

        Source: the API page of PyCMTensor's optimizers, from which ``update`` and its arguments have their names.
        """
        from thalweg.optimizers.pytensor import symbolic

        made_for = {id(variable) for variable in self._symbols}
        if made_for and isinstance(params, list | tuple) and made_for != {id(variable) for variable in params}:
            raise OptimizerError(
                f"{self.name} was made for {', '.join(map(str, self._symbols))}; update was given "
                f"{', '.join(map(str, params))}: state belongs to variables, so give the same ones"
            )
        return symbolic(self).update(cost, params, lr)

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

    def _folded_limits(self) -> dict[str, tuple[float, float] | None] | None:
        """Bounds for the compiled pass, if there is nothing else to do after the rule; else ``None``."""
        if type(self).post_process is not LocalOptimizer.post_process:
            return None
        limits = {p.name: self._process_model.limits(p.name) for p in self._parameters}
        if any(limits[name] is None and self._process_model.steps(name) for name in limits):
            return None
        return limits

    def _result(self) -> Variable | tuple[Variable, ...]:
        return self._parameters[0].variable if self._single else self._variables
