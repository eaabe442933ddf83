"""The budget of seconds: nothing new begins when they are over, and what is under way is waited for."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Seconds:
    """How long a run may take.

    Args:
        limit: s; None if there is no limit.
        began: :func:`time.monotonic` at the run's beginning; that of a run that goes on is so much earlier.
    """

    limit: float | None = None
    began: float = 0.0

    def over(self) -> str | None:
        """Why nothing may begin any more; None if it may.

        Example:
            >>> import time
            >>> from thalweg.runs.seconds import Seconds
            >>> Seconds(3.0, time.monotonic() - 5.0).over(), Seconds(60.0, time.monotonic()).over()
            ('the budget of 3 seconds: 5 are spent', None)
        """
        if self.limit is None:
            return None
        taken = time.monotonic() - self.began
        return f"the budget of {self.limit:g} seconds: {taken:.0f} are spent" if taken >= self.limit else None
