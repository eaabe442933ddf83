"""``process_grad`` and ``process_model``: what is called on a variable's gradient or data, in which order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from thalweg import transforms
from thalweg.errors import HyperparameterError
from thalweg.optimizers.settings import own_callable
from thalweg.rules.ranges import is_masked
from thalweg.rules.spelling import unknown
from thalweg.transforms import ParameterTransform, Transform, TreeTransform, bounds, describe

_LARGEST = float(np.finfo(np.float32).max)

Step = Callable[[np.ndarray], Any]
"""From array to array of the same shape and dtype; may be a coroutine function."""

Hook = Step | Sequence[Step] | Mapping[str, Step | Sequence[Step]] | None
"""One callable, several (first applied first), or either by variable name."""


class Pipeline:
    """The callables of one hook, for each variable.

    Args:
        what: ``"process_grad"`` or ``"process_model"``, for messages.
        hook: what the user gave.

    Raises:
        HyperparameterError: something in it is not callable; nothing is skipped.
    """

    def __init__(self, what: str, hook: Hook) -> None:
        self.what = what
        self.hook = hook
        self._by_name = {n: self._steps(h) for n, h in hook.items()} if isinstance(hook, Mapping) else None
        self._common = () if isinstance(hook, Mapping) else self._steps(hook)

    def _steps(self, hook: Step | Sequence[Step] | None) -> tuple[Step, ...]:
        if hook is None:
            return ()
        steps = tuple(hook) if isinstance(hook, list | tuple) else (hook,)
        for step in steps:
            if isinstance(step, TreeTransform) and isinstance(self.hook, Mapping):
                raise HyperparameterError(
                    f"{self.what} holds {step!r} for one variable; it works on all of them together, so give it in a "
                    "list that is for all",
                    name=self.what,
                )
            if isinstance(step, type) and issubclass(step, Transform | TreeTransform | ParameterTransform):
                raise HyperparameterError(
                    f"{self.what} holds the class {step.__name__}; give a transform made of it: {step.__name__}(...)",
                    name=self.what,
                )
            if not callable(step):
                raise HyperparameterError(
                    f"{self.what} holds {step!r}, not callable; give a function from array to array, "
                    f"for instance one of thalweg.transforms ({', '.join(sorted(transforms.registry))})",
                    name=self.what,
                )
        return steps

    @property
    def empty(self) -> bool:
        """Whether there is nothing to call."""
        return not (self._common or any((self._by_name or {}).values()))

    def is_like(self, other: Pipeline) -> bool:
        """Whether another calls the very same callables, for the same variables."""
        return self._identities() == other._identities()

    def _identities(self) -> dict[str | None, list[int]]:
        pairs = ((None, self._common), *(self._by_name or {}).items())
        return {name: [id(step) for step in steps] for name, steps in pairs if steps}

    def steps(self, variable: str) -> tuple[Step, ...]:
        """The callables for one variable, first applied first, those of a chain one by one."""
        return tuple(_unchained(self._common if self._by_name is None else self._by_name.get(variable, ())))

    def check_names(self, variables: Sequence[str]) -> None:
        """Refuse a hook for a variable that does not exist.

        Raises:
            HyperparameterError: naming the nearest variable.
        """
        for name in self._by_name or ():
            if name not in variables:
                raise unknown(f"variable for {self.what}:", name, variables)

    def limits(self, variable: str) -> tuple[float, float] | None:
        """Lower and upper bound, if bounds are all that there is, and none that float32 does not hold."""
        steps = self.steps(variable)
        if len(steps) != 1 or type(steps[0]) is not bounds:
            return None
        lower, upper = steps[0].limits
        return None if lower > _LARGEST or upper < -_LARGEST else (lower, upper)  # which it refuses itself

    async def run_all(
        self, arrays: Mapping[str, np.ndarray], params: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """What the callables make of the arrays of all variables, which stay as they are.

        A transform of ours gets the array itself, a user's callable a copy, so that it may do what it likes.

        Args:
            arrays: gradients or data by the variables' names.
            params: the variables' data by name, for transforms that look at them.

        Returns:
            The results by name; the very arrays where there is nothing to do.

        Raises:
            HyperparameterError: a callable returned something of another type, shape or dtype.
        """
        results = dict(arrays)
        if self._by_name is not None:
            for name in results:
                for step in self.steps(name):
                    results[name] = await self._one(step, name, results[name], params[name])
            return results
        for step in _unchained(self._common):
            if isinstance(step, TreeTransform):
                found = step(results)
                if not isinstance(found, Mapping):
                    raise HyperparameterError(
                        f"{self.what}: {step!r} returned {found!r}; it must return a mapping from name to array",
                        name=self.what,
                    )
                results = {name: self._checked(step, name, found.get(name), results[name]) for name in results}
            else:
                for name in results:
                    results[name] = await self._one(step, name, results[name], params[name])
        return results

    async def _one(self, step: Any, name: str, array: np.ndarray, param: np.ndarray) -> np.ndarray:
        if isinstance(step, ParameterTransform):
            return self._checked(step, name, step(array, param), array)
        found = step(array if isinstance(step, Transform) else np.array(array, subok=False))
        if inspect.isawaitable(found):
            found = await found
        return self._checked(step, name, found, array)

    def _checked(self, step: Any, variable: str, found: Any, given: np.ndarray) -> np.ndarray:
        fits = isinstance(found, np.ndarray | np.generic) and not is_masked(found)
        if not fits or np.shape(found) != given.shape:
            got = f"shape {np.shape(found)}" if fits else repr(found)
            raise HyperparameterError(
                f"{self.what} of variable {variable!r}: {step!r} returned {got}; "
                f"it must return an array of shape {given.shape}",
                name=self.what,
                variable=variable,
            )
        result = np.asarray(found)
        if result.dtype.newbyteorder("=") != given.dtype.newbyteorder("="):
            raise HyperparameterError(
                f"{self.what} of variable {variable!r}: {step!r} returned dtype {result.dtype}; "
                f"it must return {given.dtype}",
                name=self.what,
                variable=variable,
            )
        if self.what == "process_grad" and type(step) is bounds:
            # They are made for models; in a gradient they would put a number where infinity must be noticed.
            result = np.where(np.isfinite(given), result, given)
        return result

    def get_config(self) -> Any:
        """The hook as JSON: a list of tables, or one by variable name; ``None`` if there is nothing."""
        if self._by_name is not None:
            described = {name: [_describe(s) for s in steps] for name, steps in self._by_name.items()}
            return {"by_variable": described}
        return [_describe(step) for step in self._common] or None


def _unchained(steps: Sequence[Step]) -> Iterator[Step]:
    for step in steps:
        if type(step) is transforms.chain:
            yield from _unchained(step.steps)
        else:
            yield step


def _describe(step: Step) -> dict[str, Any]:
    known = isinstance(step, transforms.chain) or transforms.registry.get(getattr(step, "kind", "")) is type(step)
    ours = isinstance(step, Transform | TreeTransform | ParameterTransform)
    return describe(step if known or not ours else type(step))


def build_hook(
    what: str, config: Any, arrays: Mapping[str, np.ndarray], callables: Mapping[str, Callable[..., Any]]
) -> Hook:
    """A hook from JSON, the inverse of ``Pipeline.get_config``.

    Args:
        what: ``"process_grad"`` or ``"process_model"``.
        config: a table, a list of tables, ``{"by_variable": {name: ...}}``, or ``None``.
        arrays: the arrays that a table may name.
        callables: users' own callables by name.

    Returns:
        What the optimizer's constructor takes.

    Raises:
        HyperparameterError: an unknown kind, parameter or array, or a callable that was not handed in again.
    """
    if config is None:
        return None
    if isinstance(config, Mapping) and "by_variable" in config:
        parts = config["by_variable"]
        if not isinstance(parts, Mapping):
            raise HyperparameterError(f"{what}: by_variable is {parts!r}; give a table of hooks by variable name")
        return {name: _build_steps(what, part, arrays, callables) for name, part in parts.items()}
    return _build_steps(what, config, arrays, callables)


def _build_steps(
    what: str, config: Any, arrays: Mapping[str, np.ndarray], callables: Mapping[str, Callable[..., Any]]
) -> list[Step]:
    steps: list[Step] = []
    for table in config if isinstance(config, list | tuple) else [config]:
        if not isinstance(table, Mapping):
            raise HyperparameterError(f"{what} holds {table!r}; give tables such as {{kind = 'bounds', lower = 0}}")
        if "callable" in table:
            steps.append(own_callable(what, table["callable"], callables))
        else:
            steps.append(transforms.build(table, arrays=arrays))
    return steps
