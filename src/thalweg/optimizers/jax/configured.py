"""What an optimizer for JAX is made of: the settings that its step was traced with, and the numbers in its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.lowering import jax as lowering
from thalweg.optimizers.describing import words
from thalweg.optimizers.groups import assign, group_number
from thalweg.optimizers.jax import held as jax_held
from thalweg.optimizers.jax import hooks as jax_hooks
from thalweg.optimizers.jax import leaves as jax_leaves
from thalweg.optimizers.jax import metrics
from thalweg.optimizers.jax import state as jax_state
from thalweg.optimizers.jax import step as jax_step
from thalweg.optimizers.jax.leaves import is_traced
from thalweg.optimizers.jax.refused import telling
from thalweg.optimizers.jax.state import JaxState
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.meaning import means_something, meant
from thalweg.optimizers.pipeline import Pipeline
from thalweg.optimizers.recipe import COMMON, not_there, settled
from thalweg.optimizers.settings import Scheduled, refuse_late, resolve
from thalweg.optimizers.unbound import refuse_keywords, unbound
from thalweg.rules.elementwise import refuse_other_shapes
from thalweg.rules.spelling import unknown
from thalweg.schedules import OptimizationState, Plateau

_TAKEN: dict[str, Any] = {"taker": "JaxOptimizer", "call": "JaxOptimizer({})"}


def _begun(state: JaxState) -> bool:
    """Whether a step was made, as far as that can be seen."""
    return is_traced(state.updates) or int(state.updates) > 0


class ConfiguredJaxOptimizer:
    """All of :class:`~thalweg.optimizers.jax.JaxOptimizer` but the step; see there for the argument."""

    def __init__(self, recipe: LocalOptimizer | None = None, **misplaced: Any) -> None:
        refuse_keywords(misplaced, **_TAKEN)
        recipe = unbound(recipe, **_TAKEN)
        tables = (recipe.hyperparameters, *(dict(group.settings) for group in recipe.groups))
        jax_hooks.check_traceable(tables)
        self.name = recipe.name
        self.rule = recipe.rule
        self._made_of = type(recipe).__name__
        self._convention, self._wrap = recipe.convention, recipe.wrap
        self._counts = recipe.optimization_state.get_config()
        self._plan = jax_step.Plan(
            rule=recipe.rule,
            settings=tables,
            groups=recipe.groups,
            process_grad=Pipeline("process_grad", recipe.process_grad),
            process_model=Pipeline("process_model", recipe.process_model),
            nonfinite=recipe.nonfinite,
            accumulate=recipe.accumulate,
            wrap=tuple(recipe.wrap),
        )

    def __setattr__(self, name: str, value: Any) -> None:
        mine = name.startswith("_") or name in ("name", "description") or hasattr(type(self), name)
        if "_plan" in vars(self) and not mine:  # a subclass may have marks before that
            self._refuse_attribute(name, value)
        super().__setattr__(name, value)

    def _refuse_attribute(self, name: str, value: Any) -> None:
        """Refuse what nobody would read here; all else is a mark of the user's own."""
        rule = self.rule
        if name == "rule":
            raise settled(rule, name)
        known = meant(name, rule.hyperparameters)
        if name not in rule.hyperparameters and (name in rule.options or means_something(name, value)):
            if name not in rule.options and name not in COMMON:
                raise not_there(rule, name, self._wrap, made=True)
            instead = f"make another of a recipe that has it: JaxOptimizer(tw.{self._made_of}({name}=...))"
        elif known is not None:
            instead = f"set the number in the state: state = optimizer.set(state, {known}=...)"
        else:
            return
        raise HyperparameterError(
            f"{self.name}: {name} cannot be set here, and nobody would read it; {instead}", name=name
        )

    def __repr__(self) -> str:
        plan = self._plan
        said = words(self.rule, plan.settings[0], self._convention, self._wrap, plan.accumulate, plan.nonfinite)
        return f"JaxOptimizer({self.rule.name}; {', '.join(said)})"

    @telling
    def init(self, params: Any) -> JaxState:
        """The state before the first step.

        Args:
            params: a pytree of arrays of float64 (with ``jax_enable_x64``), float32, bfloat16 or float16, traced or
                not.

        Returns:
            A pytree of new arrays.

        Raises:
            OptimizerError: the pytree holds no array, or two have the same name.
            ParameterError: a leaf is no array of such a dtype.
            HyperparameterError: a group or hook is for a parameter that does not exist (naming the nearest), or a
                hyperparameter is out of its range, also when rounded to float32, whether a parameter uses it or not.
        """
        leaves = jax_leaves.read(params)
        for hook in (self._plan.process_grad, self._plan.process_model):
            hook.check_names(leaves.names)
        places = assign(self._plan.groups, leaves.names)
        now = OptimizationState(**self._counts)
        hypers = [self._resolved({**self._plan.settings[0], **table}, now) for table in self._plan.settings]
        for place, kind in dict.fromkeys(zip(places, leaves.kinds, strict=True)):
            jax_held.check(self.rule, hypers[place]._asdict(), [kind])
        for place, name, array in zip(places, leaves.names, leaves.arrays, strict=True):
            refuse_other_shapes(self.name, hypers[place]._asdict(), array.shape, name)
        for table in self._plan.settings:  # also what no parameter uses: a snapshot carries it
            jax_held.check(self.rule, table)
        slots = [
            lowering.init(self.rule, array, hypers[place]) for array, place in zip(leaves.arrays, places, strict=True)
        ]
        columns = zip(*slots, strict=True)
        return jax_state.begin(
            leaves,
            self.rule.slots(*map(leaves.tree, columns)),
            self.rule,
            self._plan.settings,
            self._counts,
            accumulate=self._plan.accumulate > 1,
            made_for=self._plan.form,
        )

    @telling
    def begin_epoch(self, state: JaxState) -> JaxState:
        """A pass through the data begins, which schedules may count.

        Args:
            state: the state, traced or not.

        Returns:
            The state with one epoch more, and its batches at 0.
        """
        counts = state.counts
        return state._replace(
            counts=counts._replace(curr_epoch=counts.curr_epoch + 1, curr_batch=jnp.zeros_like(counts.curr_batch))
        )

    def begin_batch(self, state: JaxState) -> JaxState:
        """A mini-batch begins.

        Args:
            state: the state, traced or not.

        Returns:
            The state with one batch more.
        """
        return state._replace(counts=state.counts._replace(curr_batch=state.counts.curr_batch + 1))

    @telling
    def set(self, state: JaxState, *, group: int | None = None, **hyperparameters: float) -> JaxState:
        """Set hyperparameters, checked; nothing is compiled anew.

        Args:
            state: the state.
            group: which group's, from 0; by default the optimizer's own.
            hyperparameters: the new numbers by name.

        Returns:
            The state with them.

        Raises:
            HyperparameterError: a name is unknown, follows a schedule, or is read at the first step only, which was
                made; a value is out of its range, also as the state holds it, or traced; there is no such group.

        Example:
            >>> import jax.numpy as jnp
            >>> import thalweg as tw
            >>> from thalweg.optimizers.jax import JaxOptimizer
            >>> optimizer = JaxOptimizer(tw.SGD())
            >>> state = optimizer.set(optimizer.init(jnp.zeros(2)), learning_rate=0.5)
            >>> optimizer.current(state, "learning_rate")
            Array(0.5, dtype=float32)
        """
        place = self._place(group)
        numbers = dict(state.hyperparameters[place])
        for name, value in hyperparameters.items():
            if name not in self._plan.settings[place]:
                raise unknown(f"hyperparameter of {self.rule.name}:", name, self._plan.settings[place])
            if callable(self._plan.settings[place][name]) or callable(value):
                raise HyperparameterError(
                    f"{self.name}: {name} follows {self._plan.settings[place][name]!r}, which belongs to the compiled "
                    "step, and a state holds numbers; make another optimizer for another schedule",
                    name=name,
                )
            if is_traced(value):
                raise HyperparameterError(
                    f"{self.name}: {name} is traced, so it cannot be checked; set it outside of the traced function",
                    name=name,
                )
            concrete = np.asarray(value)[()] if isinstance(value, jax.Array) else value
            found = self.rule.check(self.rule.hyper()._replace(**{name: concrete}))._asdict()[name]
            present, shape = numbers[name], jnp.shape(jax.tree.leaves(numbers[name])[0])
            known = {} if is_traced(present) else {name: lowering.as_float(present)}
            with jax.ensure_compile_time_eval():
                held = lowering.number(found)  # which may hold less of it: what is compared is what would be held
            refuse_late(self.rule, known, name, lowering.as_float(held), lambda: _begun(state))
            if np.shape(found) != shape:
                raise HyperparameterError(
                    f"{self.name}: {name} would be of shape {np.shape(found)}, and the state has {shape}; make another "
                    "optimizer for another shape",
                    name=name,
                )
            jax_held.check(self.rule, {name: found}, self._kinds(state, place, name))
            numbers[name] = held
        several = list(state.hyperparameters)
        several[place] = numbers
        return state._replace(hyperparameters=tuple(several))

    def observe(self, state: JaxState, metric: Any) -> JaxState:
        """Tell a metric to the hyperparameters that are a ``schedules.Plateau``; nothing is compiled anew.

        Args:
            state: the state, outside of a trace.
            metric: for instance the loss of this epoch; NaN and infinity are not better than anything.

        Returns:
            The state, with their numbers and what they remember.

        Raises:
            HyperparameterError: the metric is no real number, or something is traced.

        Example:
            >>> import jax.numpy as jnp
            >>> import thalweg as tw
            >>> from thalweg.optimizers.jax import JaxOptimizer
            >>> optimizer = JaxOptimizer(tw.SGD(learning_rate=tw.schedules.Plateau(1.0, factor=0.5, patience=0)))
            >>> state = optimizer.init(jnp.zeros(2))
            >>> for loss in (3.0, 4.0):
            ...     state = optimizer.observe(state, loss)
            >>> optimizer.current(state, "learning_rate")
            Array(0.5, dtype=float32)
        """
        return self._told(state, "observe compares numbers", lambda schedule: schedule.observe(metric), metric)

    def forget_best(self, state: JaxState) -> JaxState:
        """Tell them that another metric follows (other data, another misfit): what was best so far says nothing of it.
        What they have reduced stays reduced.

        Args:
            state: the state, outside of a trace.

        Returns:
            The state, in which they remember no best.

        Raises:
            HyperparameterError: the state is traced.

        Example:
            >>> import jax.numpy as jnp
            >>> import thalweg as tw
            >>> from thalweg.optimizers.jax import JaxOptimizer
            >>> optimizer = JaxOptimizer(tw.SGD(learning_rate=tw.schedules.Plateau(1.0, factor=0.5, patience=0)))
            >>> state = optimizer.observe(optimizer.init(jnp.zeros(2)), 3.0)
            >>> state = optimizer.observe(optimizer.forget_best(state), 4.0)  # the first of the new ones
            >>> optimizer.current(state, "learning_rate")
            Array(1., dtype=float32)
        """
        return self._told(state, "forget_best takes numbers", lambda schedule: schedule.forget_best())

    @telling
    def _told(self, state: JaxState, what: str, call: Callable[[Plateau], None], *given: Any) -> JaxState:
        """The state after each schedule that is told a metric was told something."""
        if is_traced(state, *given):
            raise HyperparameterError(
                f"{self.name}: {what}, and these are traced; call it outside of the traced function", name="metric"
            )
        jax_step.same_form(self._plan, state)
        if not state.told:
            return state
        remembered, found = metrics.tell(self._plan.settings, state.told, call)
        several = zip(state.hyperparameters, found, strict=True)
        return state._replace(hyperparameters=tuple({**old, **new} for old, new in several), told=remembered)

    @telling
    def current(self, state: JaxState, name: str, *, group: int | None = None) -> jax.Array:
        """The present value of a hyperparameter: what the last step used, or will the first.

        Args:
            state: the state, traced or not.
            name: for instance ``"learning_rate"``.
            group: which group's, from 0; by default the optimizer's own.

        Returns:
            A scalar, also where a schedule says it, of the widest dtype that JAX has.

        Raises:
            HyperparameterError: a name is unknown, or there is no such group.
        """
        if name not in self._plan.settings[0]:
            raise unknown(f"hyperparameter of {self.rule.name}:", name, self._plan.settings[0])
        values = jax_step.hypers(self._plan, state, state.counts)[self._place(group)]
        return lowering.as_scalar(getattr(values, name))

    def _resolved(self, table: Mapping[str, Scheduled], now: OptimizationState) -> Any:
        """The hyperparameters at these counts, as floats."""
        return self.rule.hyper(**{name: resolve(self.rule, name, value, now) for name, value in table.items()})

    def _tables(self, state: JaxState, *, kept: Callable[[Any], bool] = callable) -> list[dict[str, Scheduled]]:
        """For each group the hyperparameters that it sets: schedules, of those that are kept, else numbers."""
        return [
            {name: value if kept(value) else lowering.as_float(numbers[name]) for name, value in table.items()}
            for table, numbers in zip(self._plan.settings, state.hyperparameters, strict=True)
        ]

    def _kinds(self, state: JaxState, place: int, name: str) -> list[np.dtype[Any]]:
        """The dtypes of the parameters that a hyperparameter of a group is for, as far as the state shows them."""
        like = state.slots[0] if state.slots else state.accumulated
        if like is None:
            return []
        leaves = jax_leaves.read(like)
        groups = assign(self._plan.groups, leaves.names)
        owners = [group if name in self._plan.settings[group] else 0 for group in groups]
        return [kind for owner, kind in zip(owners, leaves.kinds, strict=True) if owner == place]

    def _place(self, group: int | None) -> int:
        return 0 if group is None else 1 + group_number(self.name, group, len(self._plan.groups))
