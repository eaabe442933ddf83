"""What asking a language model costs, and the most that it may: reserved before a request is sent.

::

    send only if   used + reserved + most ≤ limit        for tokens and for money
    money = prompt tokens · price of a prompt token + completion tokens · price of a completion token

``most`` is the bound of one request: of its prompt (:func:`thalweg.lm.requests.most_usage`) and ``max_tokens``. When
the answer is there, the reservation is settled with the server's own count. Money is computed from the integer sums, so
it does not depend on the order of answers.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass

from thalweg.errors import LanguageModelError, SpendingError

MILLION = 1_000_000


@dataclass(frozen=True)
class Usage:
    """Tokens of one or several requests.

    Args:
        prompt: tokens of what was sent.
        completion: tokens of what was answered.

    Example:
        >>> from thalweg.lm import Usage
        >>> (Usage(100, 7) + Usage(50, 3)).tokens
        160
    """

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt + other.prompt, self.completion + other.completion)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.prompt - other.prompt, self.completion - other.completion)

    def times(self, count: int) -> Usage:
        """Of so many requests like this one."""
        return Usage(self.prompt * count, self.completion * count)

    @property
    def tokens(self) -> int:
        """Of both together."""
        return self.prompt + self.completion


@dataclass(frozen=True)
class Prices:
    """A price list.

    Args:
        prompt: for a million tokens of prompt, in any currency.
        completion: for a million tokens of answer, in the same.

    Raises:
        LanguageModelError: a price is negative or not finite.

    Example:
        >>> from thalweg.lm import Prices, Usage
        >>> Prices(prompt=0.5, completion=1.5).money(Usage(2_000_000, 100_000))
        1.15
    """

    prompt: float = 0.0
    completion: float = 0.0

    def __post_init__(self) -> None:
        for name in ("prompt", "completion"):
            price = getattr(self, name)
            if isinstance(price, bool) or not isinstance(price, int | float) or not math.isfinite(price) or price < 0:
                raise LanguageModelError(
                    f"The price of a million {name} tokens is {price!r}; give a finite number of at least 0."
                )

    def money(self, usage: Usage) -> float:
        """What so many tokens cost."""
        return (usage.prompt * self.prompt + usage.completion * self.completion) / MILLION


class Reservation:
    """So much is held back until it is known what a request did cost. Exactly one of the methods ends it."""

    def __init__(self, spending: Spending, most: Usage) -> None:
        self._spending = spending
        self._most: Usage | None = most

    def settle(self, usage: Usage) -> None:
        """The answer is there, and this is what it cost."""
        self._spending._end(self._take(), usage, lost=False)

    def release(self) -> None:
        """It cost nothing: it was not sent, or the server refused it."""
        self._spending._end(self._take(), Usage(), lost=False)

    def lose(self) -> None:
        """It was sent, and no answer came: nobody knows what it cost, so it counts with its bound."""
        most = self._take()
        self._spending._end(most, most, lost=True)

    def _take(self) -> Usage:
        assert self._most is not None, "a reservation ends once"
        most, self._most = self._most, None
        return most


class Spending:
    """Counts what one or several models cost, and keeps it below limits. Of one event loop at a time.

    Args:
        tokens: the most that may be used, prompts and answers together; None is no limit.
        money: the most that may be paid, in the price list's currency; None is no limit.
        prices: what tokens cost; nothing by default, as on one's own machine.

    Raises:
        LanguageModelError: a limit is no positive number, or there is a limit of money and no price.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.lm import Spending, Usage
        >>> spending = Spending(tokens=100)
        >>> reservation = tw.wait(spending.reserve(Usage(60, 20)))
        >>> reservation.settle(Usage(31, 4))
        >>> spending.used
        Usage(prompt=31, completion=4)
        >>> tw.wait(spending.reserve(Usage(60, 20)))
        Traceback (most recent call last):
        thalweg.errors.SpendingError: the budget of 100 tokens: 35 are used, and the next request may take 80. ...
    """

    def __init__(self, *, tokens: int | None = None, money: float | None = None, prices: Prices | None = None) -> None:
        if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1):
            raise LanguageModelError(f"The budget is {tokens!r} tokens; give an integer of at least 1, or None.")
        self.prices = prices or Prices()
        if money is not None:
            if isinstance(money, bool) or not isinstance(money, int | float) or not 0 < money < math.inf:
                raise LanguageModelError(f"The budget is {money!r} in money; give a finite number above 0, or None.")
            if self.prices == Prices():
                raise LanguageModelError("There is a budget of money, and everything is free; give the prices.")
        self.tokens = tokens
        self.money = money
        self.used = Usage()
        self.reserved = Usage()
        self.lost = 0
        """Requests that were sent and never answered; :attr:`used` has their bounds."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def paid(self) -> float:
        """The money that :attr:`used` cost."""
        return self.prices.money(self.used)

    async def reserve(self, most: Usage) -> Reservation:
        """Hold back the most that a request can cost; waits for requests under way if these may leave enough.

        Raises:
            SpendingError: it does not fit, whatever those under way will cost.
        """
        while (reason := self._refusal(self.used + self.reserved, most)) is not None:
            if self._refusal(self.used, most) is not None or self.reserved == Usage():
                raise SpendingError(
                    f"{self._refusal(self.used, most) or reason}. Nothing was sent. Raise the budget, or make prompts "
                    "and max_tokens smaller.",
                    used=self.used,
                    most=most,
                )
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            finally:
                if turn in self._waiting:
                    self._waiting.remove(turn)
        self.reserved += most
        return Reservation(self, most)

    def add(self, usage: Usage, *, lost: int = 0) -> None:
        """Count what was used elsewhere: before this process, for instance."""
        self.used += usage
        self.lost += lost

    def _end(self, most: Usage, usage: Usage, *, lost: bool) -> None:
        self.reserved -= most
        self.used += usage
        self.lost += lost
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

    def _refusal(self, before: Usage, most: Usage) -> str | None:
        after = before + most
        if self.tokens is not None and after.tokens > self.tokens:
            return (
                f"the budget of {self.tokens:,} tokens: {before.tokens:,} are used, and the next request may take "
                f"{most.tokens:,}"
            )
        money = self.prices.money
        if self.money is not None and money(after) > self.money:
            return (
                f"the budget of {self.money:,.6g} in money: {money(before):,.6g} is used, and the next request may "
                f"take {money(most):,.6g}"
            )
        return None

    def __repr__(self) -> str:
        return f"Spending(tokens={self.tokens}, money={self.money}, used={self.used}, lost={self.lost})"
