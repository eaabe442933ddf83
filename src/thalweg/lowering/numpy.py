"""The NumPy lowering: a rule's text compiled by numba into one fused in-place pass.

``fastmath`` allows contraction, reciprocals, reassociation and ignoring the sign of zero, which is what
vectorizing a division takes; it never assumes that there is no NaN or infinity. Compiled kernels are kept in
numba's cache on disk, beside the package, or in the user's cache folder if that is read-only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.lowering.access import LOAD, MOST_SLOTS, STORE, unslotted
from thalweg.lowering.digest import reachable, text_digest
from thalweg.rules import arithmetic
from thalweg.rules.base import Rule

UNBOUNDED = (-np.inf, np.inf)

# What NumPy's ufunc of the same name costs too much for, one element at a time. Without annotations: numba
# compares the names and annotations of the outer function with those of the inner one.
SCALAR_FORMS: dict[Callable[..., Any], Callable[..., Any]] = {
    arithmetic.maximum: lambda x, y: lambda x, y: x if x > y or x != x else y,
    arithmetic.minimum: lambda x, y: lambda x, y: x if x < y or x != x else y,
    arithmetic.where: lambda condition, x, y: lambda condition, x, y: x if condition else y,
}


@dataclass(frozen=True)
class Kernel:
    """A rule compiled for one dtype.

    Args:
        rule: the rule.
        dtype: float32 or float64.
        loop: the compiled pass.
        sums: the compiled reduction, for a rule that has one.
    """

    rule: Rule
    dtype: np.dtype[Any]
    loop: Callable[..., None]
    sums: Callable[..., tuple[float, ...]] | None

    def prepare(self, hyper: Any, t: int) -> Any:
        """The scalars of step t, checked to mean the same in this dtype.

        Args:
            hyper: the rule's hyperparameters, already checked.
            t: the step's number, from 1.

        Returns:
            The named tuple that the text uses, as Python floats.

        Raises:
            HyperparameterError: a value leaves its range when rounded to this dtype (β₂ = 1 − 1e-9 is 1 in
                float32).
        """
        for value, declared in zip(hyper, self.rule.hyperparameters.values(), strict=True):
            with np.errstate(over="ignore"):
                rounded = float(self.dtype.type(value))
            if rounded not in declared.interval:
                raise HyperparameterError(
                    f"{self.rule.name}: {declared.name} = {value!r} becomes {rounded!r} in {self.dtype}, "
                    f"outside its range {declared.interval}; use a float64 variable or another value",
                    owner=self.rule.name,
                    name=declared.name,
                    value=value,
                )
        return self.rule.scalars(hyper, t)

    def complete(self, param: np.ndarray, grad: np.ndarray, state: np.ndarray, scalars: Any) -> np.ndarray:
        """The scalars as the loop takes them, with the sums that the rule asks for. Changes nothing.

        Args:
            param: one-dimensional, C-contiguous, of this kernel's dtype.
            grad: as ``param``.
            state: from :func:`thalweg.lowering.buffers.make_state`.
            scalars: from :meth:`prepare`.

        Returns:
            One-dimensional, of this kernel's dtype.

        Raises:
            HyperparameterError: a scalar is too large for this dtype.
        """
        values = self._cast(scalars)
        if self.sums is None or self.rule.conclude is None:
            return values
        return self._cast(self.rule.conclude(scalars, self.sums(param, grad, state, values)))

    def _cast(self, scalars: Any) -> np.ndarray:
        with np.errstate(over="ignore"):
            values = np.array(scalars, self.dtype)
        if not np.isfinite(values).all():
            raise HyperparameterError(
                f"{self.rule.name}: {scalars} does not fit into {self.dtype}; use smaller values",
                owner=self.rule.name,
            )
        return values

    def __call__(
        self,
        param: np.ndarray,
        grad: np.ndarray,
        state: np.ndarray,
        values: np.ndarray,
        *,
        limits: tuple[float, float] = UNBOUNDED,
    ) -> None:
        """One step, in place. It cannot fail.

        Args:
            param: one-dimensional, C-contiguous, writable, of this kernel's dtype.
            grad: as ``param``, but only read.
            state: from :func:`thalweg.lowering.buffers.make_state`.
            values: from :meth:`complete`.
            limits: the parameter's lower and upper bound after the step.
        """
        with np.errstate(over="ignore"):  # a bound beyond float32 is no bound there
            bounds = np.array(limits, self.dtype)
        self.loop(param, grad, state, values, bounds)


@functools.cache
def compile_rule(rule: Rule, dtype: np.dtype[Any]) -> Kernel:
    """Compile ``rule`` for ``dtype``, or read it from the cache; the second call in a process costs nothing.

    Args:
        rule: the rule.
        dtype: float32 or float64, in native byte order.

    Returns:
        The kernel.

    Raises:
        TypeError: the rule has more slots than the lowering has room for.

    Example:
        >>> import numpy as np
        >>> from thalweg.lowering import compile_rule
        >>> from thalweg.lowering.buffers import make_state
        >>> from thalweg.rules import sgd
        >>> kernel = compile_rule(sgd, np.dtype(np.float32))
        >>> param, grad = np.ones(2, np.float32), np.array([10, -10], np.float32)
        >>> state = make_state(0, param)
        >>> kernel(param, grad, state, kernel.complete(param, grad, state, kernel.prepare(sgd.hyper(), 1)))
        >>> param
        array([0.9, 1.1], dtype=float32)
    """
    from thalweg.lowering import loops

    count = len(rule.slot_names)
    if count > MOST_SLOTS:
        raise TypeError(f"rule {rule.name!r} has {count} slots; the NumPy lowering has room for {MOST_SLOTS}")
    _make_jitable(rule.update, rule.measure)
    example = rule.scalars(rule.hyper(), 1)
    make_slots = rule.slots if count else unslotted
    array, matrix = dtype.char, (dtype.char, 2)
    update = loops.make_update(rule.update, make_slots, type(example), LOAD[count], STORE[count], len(example))
    name = f"{rule.name}_{dtype.name}"
    compiled = _compile(update, name, [array, "r" + array, matrix, array, array], rule.update)
    if rule.measure is None:
        return Kernel(rule, dtype, compiled, None)

    one = np.zeros(1, dtype)
    slots = rule.slots(*(one for _ in rule.slot_names))
    terms = len(rule.measure(one, one, slots, type(example)(*(dtype.type(x) for x in example))))
    measure = loops.make_measure(rule.measure, make_slots, type(example), LOAD[count], len(example), terms)
    reduction = _compile(measure, name + "_measure", ["r" + array, "r" + array, matrix, array, "d"], rule.measure)

    def sums(param: np.ndarray, grad: np.ndarray, state: np.ndarray, values: np.ndarray) -> tuple[float, ...]:
        totals = np.zeros(terms)
        reduction(param, grad, state, values, totals)
        return tuple(totals.tolist())

    return Kernel(rule, dtype, compiled, sums)


@functools.cache
def compile_scan(dtype: np.dtype[Any]) -> Callable[[np.ndarray], bool]:
    """The check that a one-dimensional contiguous array is finite throughout, at the speed of memory.

    Args:
        dtype: float32 or float64, in native byte order.

    Returns:
        A function from array to bool.

    Example:
        >>> import numpy as np
        >>> from thalweg.lowering import compile_scan
        >>> compile_scan(np.dtype(np.float64))(np.array([1.0, np.inf]))
        False
    """
    from thalweg.lowering import loops

    return _compile(loops.make_scan(dtype.type(0)), f"scan_{dtype.name}", ["r" + dtype.char])


def _compile(function: Any, name: str, arguments: Sequence[str | tuple[str, int]], *texts: Any) -> Callable[..., Any]:
    """``function`` compiled for arrays of the given dtypes: "f" or "d", after an "r" if it is only read.

    A pair adds the number of dimensions, if that is not 1.

    The name that numba files it under holds a digest of the texts and of the processor: each kernel has an
    index of its own, so two processes that fill the cache at once can only write the same thing.
    """
    numba: Any = import_module("numba")
    binding: Any = import_module("llvmlite.binding")

    processor = numba.config.CPU_NAME or binding.get_host_cpu_name()
    features = numba.config.CPU_FEATURES or binding.get_host_cpu_features().flatten()
    digest = text_digest(
        function, *texts, *SCALAR_FORMS.values(), processor, features, numba.__version__, np.__version__
    )
    function.__name__ = function.__qualname__ = f"{name}_{digest}"
    types = []
    for argument in arguments:
        char, dimensions = argument if isinstance(argument, tuple) else (argument, 1)
        types.append(numba.types.Array(numba.from_dtype(np.dtype(char[-1])), dimensions, "C", readonly="r" in char))
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "arcp", "nsz", "reassoc"}}
    for cache in (True, False):
        try:
            compiled = numba.njit(function, cache=cache, **options)
            compiled.compile(tuple(types))
        except (OSError, RuntimeError):
            if cache:  # no folder can be written, or it is full: compile for this process only
                continue
            raise
        else:
            break
    compiled.disable_compile()
    return compiled  # type: ignore[no-any-return]


@functools.cache
def _scalar_forms() -> None:
    """Tell numba what the names of ``rules.arithmetic`` mean for one element."""
    extending: Any = import_module("numba.extending")

    for name in arithmetic.__all__:
        function = getattr(arithmetic, name)
        if function in SCALAR_FORMS:
            extending.overload(function)(SCALAR_FORMS[function])
        else:
            extending.register_jitable(function)


@functools.cache
def _jitable_once(function: Any) -> None:
    import_module("numba.extending").register_jitable(function)


def _make_jitable(*texts: Any) -> None:
    """Let compiled code call the texts, and the plain helpers that they call."""
    _scalar_forms()
    for text in (*texts, *LOAD, *STORE, unslotted):
        for function in reachable(text) if text is not None else ():
            if function.__module__ != arithmetic.__name__:
                _jitable_once(function)
