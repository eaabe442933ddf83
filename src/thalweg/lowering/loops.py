"""The loops that numba compiles around a rule's text. Imported only when something is to be compiled.

Indices are unsigned, which is what lets LLVM drop the wrap-around of negative ones and vectorize. Each
factory's result refers to a rule's functions as closure cells; numba's cache key covers those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.np.unsafe import ndarray as _unsafe

to_fixed_tuple: Any = _unsafe.to_fixed_tuple


def make_update(
    update: Any, make_slots: Any, make_scalars: Any, load: Any, store: Any, scalar_count: int
) -> Callable[..., None]:
    """The fused pass: parameter, gradient and state are read once and written once, clipped on the way."""

    def loop(param: Any, grad: Any, state: Any, scalars: Any, limits: Any) -> None:
        h = make_scalars(*to_fixed_tuple(scalars, scalar_count))
        lower = limits[0]
        upper = limits[1]
        for i in range(np.uint64(param.size)):
            new, slots = update(param[i], grad[i], make_slots(*load(state, i)), h)
            param[i] = lower if new < lower else (upper if new > upper else new)
            store(state, i, slots)

    return loop


def make_measure(
    measure: Any, make_slots: Any, make_scalars: Any, load: Any, scalar_count: int, term_count: int
) -> Callable[..., None]:
    """The pass before it, for a rule with a reduction: each term summed in double precision."""

    def loop(param: Any, grad: Any, state: Any, scalars: Any, sums: Any) -> None:
        h = make_scalars(*to_fixed_tuple(scalars, scalar_count))
        for k in range(term_count):
            sums[k] = 0.0
        for i in range(np.uint64(param.size)):
            terms = measure(param[i], grad[i], make_slots(*load(state, i)), h)
            for k in range(term_count):
                sums[k] += np.float64(terms[k])

    return loop


def make_scan(zero: Any) -> Callable[..., Any]:
    """The check for NaN and infinity: 0·g is 0 for finite g and NaN for all others, and a sum keeps NaN."""

    def loop(grad: Any) -> Any:
        total = zero
        for i in range(np.uint64(grad.size)):
            total += grad[i] * zero
        return total == zero

    return loop
