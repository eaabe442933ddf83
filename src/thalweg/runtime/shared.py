"""What many tasks read and none changes: made once in every process that needs it.

A task that goes to another process carries its data along, once a call. What stays the same over many calls
(observed data, a simulator with its buffers) is wrapped in a :class:`Shared`: a cluster gets the recipe once, and each
worker makes the value once and keeps it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")
_OF_ALL = "_thalweg_concerns_all_items"


def concerns_all_items(error: BaseException) -> bool:
    """Whether an error comes from making a :class:`Shared` value: then it is no fault of the item at hand.

    Example:
        >>> from thalweg.runtime.shared import Shared, concerns_all_items
        >>> try:
        ...     Shared(int, "no number").value
        ... except ValueError as error:
        ...     concerns_all_items(error)
        True
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if _OF_ALL in vars(cause):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


class Shared(Generic[Value]):
    """A value that is made when it is first asked for, and kept: ``make(*args)``.

    Args:
        make: a module-level function or class, since the recipe may go to another process.
        args: its arguments; what they hold must not change any more.

    Whoever reads a file in ``make`` has each worker read it, instead of sending its content around. What has been read
    is kept for as long as this object is used, whatever becomes of the file; another ``Shared`` reads it again.

    Example:
        >>> from thalweg.runtime import Local, Shared
        >>> import thalweg as tw
        >>> data = Shared(range, 10, 20)
        >>> def task(item):
        ...     return data.value[item]
        >>> with Local(threads=2) as runtime:
        ...     tw.wait(runtime.map_reduce(task, [0, 9]))
        29
    """

    def __init__(self, make: Callable[..., Value], *args: Any) -> None:
        self._recipe = (make, args)
        self._lock = threading.Lock()
        self._made: tuple[Value] | None = None
        self.key = secrets.token_hex(16)
        """Whose value it is: a copy, here or in another process, has the same key; another object with an equal recipe
        has another, since what it reads may have changed meanwhile."""

    @property
    def value(self) -> Value:
        """The value; the first one who asks makes it, and the others wait for it.

        Raises:
            Exception: whatever making it raises; the next one who asks tries again.
        """
        if self._made is None:
            with self._lock:
                if self._made is None:
                    make, args = self._recipe
                    try:
                        self._made = (make(*args),)
                    except Exception as error:
                        error.__dict__[_OF_ALL] = True
                        raise
        return self._made[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Send the recipe, not the value."""
        make, args = self._recipe
        return (_copy, (self.key, make, args))


def _copy(key: str, make: Callable[..., Value], args: tuple[Any, ...]) -> Shared[Value]:
    shared = Shared(make, *args)
    shared.key = key
    return shared
