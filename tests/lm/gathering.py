"""A server that answers nobody until so many requests are under way together: for tests of what goes on at once."""

import asyncio

from thalweg.lm.stub import Reply, Stub, echo

LIMIT = 30.0  # s until it is clear that so many will never be there together
GRACE = 0.05  # s for one too many to come, too


class Gathering(Stub):
    """Holds requests until ``together`` of them are there.

    Args:
        together: how many.
        answer: as :class:`Stub` has it.
        once: whether it holds only the first of them; if not, every ``together`` of them.

    Attributes:
        late: requests that were held in vain, and answered with an error.
    """

    def __init__(self, together, answer=echo, *, once=False):
        super().__init__(answer)
        self.late = 0
        self._together = together
        self._once = once
        self._held = []

    async def _respond(self, line, headers, content, writer):
        if self._together:
            turn = asyncio.get_running_loop().create_future()
            self._held.append(turn)
            if len(self._held) == self._together:
                await asyncio.sleep(GRACE)
                held, self._held = self._held, []
                if self._once:
                    self._together = 0
                for one in held:
                    if not one.done():
                        one.set_result(None)
            try:
                await asyncio.wait_for(turn, LIMIT)
            except TimeoutError:
                self.late += 1
                self._together = 0  # the others are not held as long again
                self._script.append(Reply(500))
        return await super()._respond(line, headers, content, writer)
