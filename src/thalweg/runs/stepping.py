"""Where a step is made: on the event loop, in the loop's own task, or in a thread."""

from __future__ import annotations

import inspect
from typing import Any

from thalweg.optimizers import LocalOptimizer

SHORT_STEP = 1 << 20
"""Up to so many numbers in all variables a step is made on the event loop itself: it takes a few ms, with
smoothing and the like. A longer one, which would block the loop, is made in a thread with an event loop of
its own."""

_METHODS = ("apply", "step", "pre_process", "post_process")


def never_asks_for_its_task(optimizer: Any) -> bool:
    """Whether a step calls no coroutine of the user's, which might look at the task that it is in.

    Args:
        optimizer: whose class may have changed what a step is made of, and which may have hooks.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.runs.stepping import never_asks_for_its_task
        >>> async def slow(grad, variable):
        ...     return grad
        >>> never_asks_for_its_task(tw.Adam()), never_asks_for_its_task(tw.Adam(process_grad=slow))
        (True, False)
    """
    if not isinstance(optimizer, LocalOptimizer):
        return False
    if any(getattr(type(optimizer), name) is not getattr(LocalOptimizer, name) for name in _METHODS):
        return False
    return not any(_is_coroutine(hook) for hook in (optimizer.process_grad, optimizer.process_model))


def _is_coroutine(hook: Any) -> bool:
    """Whether a hook, or anything in a list of them, is one."""
    if isinstance(hook, list | tuple):
        return any(_is_coroutine(one) for one in hook)
    return inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(type(hook).__call__)
