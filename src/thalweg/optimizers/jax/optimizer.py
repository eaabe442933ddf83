"""An optimizer for JAX: the same settings as elsewhere, and a step that is a pure function of pytrees. ::

state = optimizer.init(params)
params, state = optimizer.step(params, grads, state)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from thalweg.lowering import jax as lowering  # before JAX itself: it says which extra is missing

# isort: split

import jax
import jax.numpy as jnp
import numpy as np

from thalweg.errors import HyperparameterError, OptimizerError
from thalweg.optimizers.gradients import refusal
from thalweg.optimizers.groups import Group, assign, group_config
from thalweg.optimizers.groups import read as read_groups
from thalweg.optimizers.jax import leaves as jax_leaves
from thalweg.optimizers.jax import metrics
from thalweg.optimizers.jax import state as jax_state
from thalweg.optimizers.jax import step as jax_step
from thalweg.optimizers.jax.configured import ConfiguredJaxOptimizer
from thalweg.optimizers.jax.donating import Donating
from thalweg.optimizers.jax.leaves import Leaves, is_traced
from thalweg.optimizers.jax.refused import telling
from thalweg.optimizers.jax.state import JaxState
from thalweg.optimizers.settings import Scheduled, arrays_of, follows, to_config
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.optimizers.unbound import refuse_arguments
from thalweg.schedules import OptimizationState


class GradientTransformation(NamedTuple):
    """An optimizer as Optax's functions take one: a pair of pure functions.

    Args:
        init: ``init(params) -> state``.
        update: ``update(grads, state, params) -> (updates, state)``; the new parameters are ``params + updates``.
    """

    init: Any
    update: Any


_INSTEAD = {
    "step_size": "the learning rate is in the state: state = optimizer.set(state, learning_rate=...)",
    "grad": "gradients come second: optimizer.step(params, grads, state)",
    "processed_grad": "give it as grads, optimizer.step(params, grads, state), to an optimizer without process_grad",
}


class JaxOptimizer(ConfiguredJaxOptimizer):
    """A rule with its settings, for pytrees of JAX arrays.

    It holds nothing that changes: parameters and state go in and come out. Hyperparameters and counts are arrays of
    the state, so neither another learning rate nor another step compiles anything anew; schedules are evaluated on
    traced counts. The state of a bfloat16 or float16 parameter, and the arithmetic, are float32. Without
    ``jax_enable_x64``, which is never switched here, the numbers of a step are prepared as pairs of float32.

    Where another backend raises an error for a value, a step inside ``jax.jit`` changes nothing and says so in
    ``state.finite`` or ``state.usable``; :meth:`step` outside of it raises the error. What can be seen from shapes
    and dtypes is always an error.

    Args:
        recipe: an optimizer that is bound to no variables, such as ``tw.Adam(learning_rate=1e-3)``. Its rule with its
            form, hyperparameters, schedules, groups, wrappers, hooks and policies are taken over; groups and
            hooks know a parameter by the keys that lead to it, joined by dots. Callables of your own are called with
            traced arrays, those among hyperparameters with :class:`~thalweg.schedules.Counts` of traced integers.

    Raises:
        OptimizerError: the recipe is bound to variables, or its class has a step or hooks of its own.
        HyperparameterError: the recipe is something else; or a schedule cannot be traced.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import thalweg as tw
        >>> from thalweg.optimizers.jax import JaxOptimizer
        >>> optimizer = JaxOptimizer(tw.Adam(learning_rate=0.1, groups=[{"variables": "*.bias", "learning_rate": 0.2}]))
        >>> params = {"dense": {"kernel": jnp.ones(2), "bias": jnp.ones(1)}}
        >>> state = optimizer.init(params)
        >>> loss = lambda p: jnp.sum(p["dense"]["kernel"] ** 2) + jnp.sum(p["dense"]["bias"] ** 2)
        >>> for _ in range(2):
        ...     params, state = optimizer.jitted_step(params, jax.grad(loss)(params), state)
        >>> [f"{float(x):.2f}" for x in (params["dense"]["kernel"][0], params["dense"]["bias"][0], state.updates)]
        ['0.80', '0.60', '2.00']
    """

    @telling
    def step(self, params: Any, grads: Any, state: JaxState, **of_numpy: Any) -> tuple[Any, JaxState]:
        """One step, as a pure function: nothing given is changed.

        With values that are not traced it is compiled at the first call, and checks what it computed; inside
        ``jax.jit``, ``jax.lax.scan`` or ``jax.vmap`` it is part of what is traced.

        Args:
            params: the pytree of parameters.
            grads: their gradients: the same structure and shapes, and the parameters' dtypes (or float32 for bfloat16
                and float16).
            state: from :meth:`init` or the step before.
            of_numpy: nothing. ``step_size``, ``grad`` and ``processed_grad`` are arguments on NumPy only: here the rate
                is a number of the state, which :meth:`set` sets.

        Returns:
            The new parameters, of the same dtypes, and the new state. If a gradient was not finite and that is to
            ``"raise"``, both are as they were but for ``state.finite``; ``state.usable`` says the same of
            hyperparameters.

        Raises:
            MissingGradientError: a parameter has no gradient.
            GradientShapeError: a gradient's shape is not its parameter's.
            GradientDtypeError: a gradient's dtype is not its parameter's.
            ParameterError: a leaf is no array of floats; or an array is deleted.
            StateMismatchError: the state does not belong to these parameters or this optimizer.
            OptimizerError: the gradients' pytree has another structure; or something was given that is for NumPy.
            NonFiniteGradientError: a gradient holds NaN or infinity (not while tracing).
            HyperparameterError: a schedule's value is out of its range (not while tracing), or a hook returned
                something else than an array of the right shape and dtype.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> import thalweg as tw
            >>> from thalweg.optimizers.jax import JaxOptimizer
            >>> optimizer = JaxOptimizer(tw.SGD(learning_rate=0.25))
            >>> def body(carry, _):
            ...     params, state = carry
            ...     return optimizer.step(params, 2 * params, state), params
            >>> x = jnp.ones(1)
            >>> jax.lax.scan(body, (x, optimizer.init(x)), length=3)[1].ravel()
            Array([1.  , 0.5 , 0.25], dtype=float32)
        """
        refuse_arguments(self.name, of_numpy, _INSTEAD)
        if is_traced(params, grads, state):
            return self._plain(params, grads, state)
        leaves, given = self._fit(params, grads, state)
        new, after, bad = self._compiled(params, grads, state)
        if not is_traced(after):  # constants inside a trace are traced only now
            self._refuse(leaves, given, state, after, np.asarray(bad))
        return new, after

    @cached_property
    def jitted_step(self) -> Any:
        """:meth:`step`, compiled, with the memory of ``params`` and ``state`` given to the results.

        The arrays that were passed in cannot be used any more after it: keep a copy if they are needed. It does not
        wait for the result, so it raises no error for a value. Look now and then at ``state.finite`` (the gradients of
        the last step) and ``state.usable`` (its hyperparameters: a step that cannot be made of them changes nothing);
        ``state.skipped`` counts the steps that gradients cost, ``state.counts.curr_iter`` those that were made.

        Raises:
            ParameterError: an array of ``params`` or ``state`` is given twice, also as a gradient, or was given to it
                before; nothing was changed. And what :meth:`step` raises for shapes and dtypes.

        Example:
            >>> import jax.numpy as jnp
            >>> import thalweg as tw
            >>> from thalweg.optimizers.jax import JaxOptimizer
            >>> optimizer = JaxOptimizer(tw.SGD(learning_rate=0.5))
            >>> x = jnp.array([1.0])
            >>> x, state = optimizer.jitted_step(x, jnp.array([jnp.nan]), optimizer.init(x))
            >>> x, bool(state.finite), int(state.skipped)
            (Array([1.], dtype=float32), False, 1)
        """
        return Donating(self._plain, self.name, self._fit)

    def _fit(self, params: Any, grads: Any, state: JaxState) -> tuple[Leaves, tuple[Any, ...]]:
        """The parameters and their gradients, if a step can be made of them, as far as shapes and dtypes tell."""
        leaves = jax_leaves.read(params)
        jax_step.fit(self._plan, leaves, state)
        iteration = "" if is_traced(state.counts) else int(state.counts.curr_iter) + 1
        return leaves, jax_leaves.gradients(grads, leaves, iteration)

    def _plain(self, params: Any, grads: Any, state: JaxState) -> tuple[Any, JaxState]:
        return self._advance(params, grads, state)[:2]

    def _advance(self, params: Any, grads: Any, state: JaxState) -> tuple[Any, JaxState, Any]:
        return jax_step.advance(self._plan, params, grads, state)

    @cached_property
    def _compiled(self) -> Any:
        return jax.jit(self._advance)

    def _refuse(self, leaves: Leaves, given: Any, state: JaxState, after: JaxState, bad: np.ndarray) -> None:
        """Raise the error that a step would have raised if it were not traced."""
        iteration = int(state.counts.curr_iter) + 1
        if not after.usable:
            now = OptimizationState(**{name: int(count) for name, count in state.counts._asdict().items()})
            now.begin_step()
            tables = self._tables(state, kept=follows)
            for place, kind in zip(assign(self._plan.groups, leaves.names), leaves.kinds, strict=True):
                hyper = self._resolved({**tables[0], **tables[place]}, now)
                self.rule.check_rounded(hyper._asdict(), kind)
            raise HyperparameterError(
                f"{self.name}, iteration {iteration}: what {self.rule.name} computes from its hyperparameters does not "
                "fit into the parameters' dtype; use smaller values. Nothing was changed",
                name=self.name,
            )
        if self._plan.nonfinite == "raise" and bad.any():
            k = int(np.argmax(bad))
            raw = used = np.asarray(given[k])
            gathered = 1
            if np.isfinite(raw).all():
                gathered = self._plan.accumulate
                used = np.asarray(jax_step.processed(self._plan, leaves, jax_step.widened(given, leaves))[k])
            raise refusal(used, raw, leaves.names[k], iteration, gathered=gathered)

    @telling
    def eval_params(self, params: Any, state: JaxState) -> Any:
        """Where the model is to be evaluated: for Schedule-Free and EMA not where the parameters are.

        Args:
            params: the pytree of parameters, traced or not.
            state: their state.

        Returns:
            A pytree like ``params``; the parameters themselves for rules that evaluate where they store. A bfloat16
            parameter of Schedule-Free is rounded in every step, which its average shows ten times as large.

        Raises:
            StateMismatchError: the state does not belong to these parameters.

        Example:
            >>> import jax.numpy as jnp
            >>> import thalweg as tw
            >>> from thalweg.optimizers.jax import JaxOptimizer
            >>> optimizer = JaxOptimizer(tw.SGD(learning_rate=1.0, wrap=["ema"], ema_decay=0.75))
            >>> x = jnp.array([1.0])
            >>> x, state = optimizer.step(x, jnp.array([4.0]), optimizer.init(x))
            >>> x, optimizer.eval_params(x, state)
            (Array([-3.], dtype=float32), Array([0.], dtype=float32))
        """
        leaves = jax_leaves.read(params)
        jax_step.fit(self._plan, leaves, state)
        if self.rule.evaluate is None:
            return params
        hypers = jax_step.hypers(self._plan, state, state.counts)
        columns = [leaves.structure.flatten_up_to(tree) for tree in state.slots]
        found = []
        for k, place in enumerate(assign(self._plan.groups, leaves.names)):
            slots = self.rule.slots(*(column[k] for column in columns))
            carried = state.carried[place] if state.carried else None
            value = lowering.evaluate(self.rule, leaves.arrays[k], slots, hypers[place], carried)
            found.append(jnp.where(state.updates == 0, leaves.arrays[k], value))
        return leaves.tree(found)

    @telling
    def snapshot(self, params: Any, state: JaxState) -> OptimizerSnapshot:
        """A copy of everything that decides the next step besides the parameters, as any backend reads it.

        Args:
            params: the pytree of parameters, of which the names are taken.
            state: their state, not traced; also one that was made under another setting of ``jax_enable_x64``, or by
                a version that kept fewer numbers from step to step.

        Returns:
            What :meth:`restore` takes, and ``restore`` of a NumPy optimizer with the same settings and names. The
            state of a bfloat16 or float16 parameter is float32 there, too.

        Raises:
            OptimizerError: it is called while tracing.
            ParameterError: an array is deleted: a step took its memory over.
            StateMismatchError: the state does not belong to these parameters.
        """
        if is_traced(params, state):
            raise OptimizerError(f"{self.name}: a snapshot is of values, and these are traced; take it outside of jit")
        leaves = jax_leaves.read(params)
        jax_step.belongs(self._plan, leaves, state)
        tables = self._tables(state)
        arrays = {name: a for group, table in enumerate(tables) for name, a in arrays_of(table, group).items()}
        found = jax_state.take(self.rule, leaves, state, self._meta(tables, state), arrays)
        for name, array in leaves.by_name(leaves.arrays).items():
            found.meta["variables"][name]["dtype"] = np.dtype(array.dtype).name
        return found

    @telling
    def restore(self, snapshot: OptimizerSnapshot, params: Any) -> JaxState:
        """The state that a snapshot holds, to continue from.

        Args:
            snapshot: from :meth:`snapshot`, or from ``state()`` of an optimizer of another backend with the same
                settings, over variables of the same names.
            params: the parameters to continue with.

        Returns:
            A new state.

        Raises:
            StateMismatchError: it does not fit; the message lists every difference.

        Example:
            >>> import jax.numpy as jnp, numpy as np
            >>> import thalweg as tw
            >>> from thalweg.optimizers.jax import JaxOptimizer
            >>> x = tw.Variable(np.ones(2, np.float32), name="x", needs_grad=True)
            >>> there = tw.Momentum(x, learning_rate=0.1)
            >>> _ = tw.wait(there.step(grad=np.ones(2, np.float32)))
            >>> here = JaxOptimizer(tw.Momentum())
            >>> state = here.restore(there.state(), {"x": jnp.asarray(x.data)})
            >>> state.slots.velocity["x"], here.current(state, "learning_rate")
            (Array([-0.1, -0.1], dtype=float32), Array(0.1, dtype=float32))
        """
        leaves, fresh = jax_leaves.read(params), self.init(params)
        tables = self._tables(fresh)
        meta = self._meta(tables, fresh)
        settled = jax_state.settle(self.rule, leaves, tables[0], self._named_groups(tables), meta, snapshot)
        return jax_state.put(leaves, self.rule, fresh, settled)

    def _meta(self, tables: Sequence[Mapping[str, Scheduled]], state: JaxState) -> dict[str, Any]:
        """What a snapshot says of the settings."""
        return {
            "rule": self.rule.name,
            "form": dict(self.rule.chosen),
            "wrap": list(self._wrap),
            "accumulate": self._plan.accumulate,
            "nonfinite": self._plan.nonfinite,
            "groups": [group_config(group) for group in self._named_groups(tables)],
            "hyperparameters": {name: to_config(value) for name, value in tables[0].items()},
            "schedules": metrics.states(state.told),
            "process_grad": self._plan.process_grad.get_config(),
            "process_model": self._plan.process_model.get_config(),
        }

    def _named_groups(self, tables: Sequence[Mapping[str, Scheduled]]) -> tuple[Group, ...]:
        named = [
            {"variables": group.variables, **table} for group, table in zip(self._plan.groups, tables[1:], strict=True)
        ]
        return read_groups(self.rule, named, OptimizationState(), lambda: None)

    def as_optax(self) -> GradientTransformation:
        """The same as a pair of functions that Optax's and Flax's take for an optimizer.

        Returns:
            ``init(params)`` and ``update(grads, state, params)``; ``optax.apply_updates`` then gives what :meth:`step`
            gives, to rounding. Updates of 16-bit parameters are float32.

        Example:
            >>> import jax.numpy as jnp
            >>> import thalweg as tw
            >>> from thalweg.optimizers.jax import JaxOptimizer
            >>> optimizer = JaxOptimizer(tw.SGD(learning_rate=0.5)).as_optax()
            >>> x = jnp.array([1.0])
            >>> optimizer.update(jnp.array([4.0]), optimizer.init(x), x)[0]
            Array([-2.], dtype=float32)
        """
        return GradientTransformation(self.init, self._update)

    def _update(self, updates: Any, state: JaxState, params: Any = None) -> tuple[Any, JaxState]:
        if params is None:
            raise OptimizerError(f"{self.name}: update needs the parameters; call update(grads, state, params)")
        new, after = self.step(params, updates, state)
        leaves = jax_leaves.read(params)
        moved = jax_step.widened(leaves.structure.flatten_up_to(new), leaves)
        return leaves.tree(n - o for n, o in zip(moved, jax_step.widened(leaves.arrays, leaves), strict=True)), after
