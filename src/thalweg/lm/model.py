"""A language model behind an OpenAI-compatible endpoint: texts in, texts or values that fit a schema out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from thalweg.errors import EndpointError, LanguageModelError
from thalweg.lm.answers import Answer
from thalweg.lm.cache import AnswerCache
from thalweg.lm.checking import integer, number
from thalweg.lm.endpoint import Endpoint
from thalweg.lm.paying import Counts, Payer, Refused
from thalweg.lm.requests import Message, check_messages, most_usage, request_key
from thalweg.lm.spending import Spending, Usage
from thalweg.lm.structured import (
    LONGEST_FAULT,
    Structured,
    Validator,
    cannot,
    instructed,
    objection,
    repairing,
    response_format,
)

_OURS = frozenset({"model", "messages", "temperature", "seed", "max_tokens", "max_completion_tokens", "stream", "n"})

LONGEST_OF_A_TOKEN = 16
"""Bytes: what a token of an answer that is sent back for repair may have, mostly; longer ones are rare words."""


class LanguageModel:
    """A client for one model of one server that speaks OpenAI's protocol (``POST base_url/chat/completions``).

    Args:
        base_url: where the protocol begins, such as ``"http://127.0.0.1:8080/v1"``.
        model: the server's name for the model.
        api_key_env: the environment variable that holds the key; None sends none. The key is read when a request is
            sent, and is in no file, message or ``repr``. It is not sent over plain http to another machine.
        timeout: s for one attempt, all of it.
        retries: how many attempts may follow the first.
        paid_retries: how many of these may follow an attempt that may have been paid for: one that broke off, or was
            not answered in time. The bounds of this class cover one attempt more than this.
        first_delay: s before the second attempt; doubled for each further one.
        concurrency: requests under way at the same time, at most.
        temperature: of the draws; 0 takes the likeliest token each time.
        max_tokens: the most that one answer may have.
        seed: of the waits, and sent with each request, plus the sample number; None sends none.
        limit_key: how the server spells ``max_tokens``.
        constrain: whether to ask the server to constrain answers to a schema; if it refuses, the schema is put in
            words for the rest of this object's life.
        spending: the budget, which several models may share; by default a count without limits.
        cache: a folder, or an :class:`AnswerCache`, that answers are kept in; None keeps none.
        extra: further keys of the request, such as ``{"top_p": 0.9}``.
        sleep: awaited with the s to wait before another attempt.

    Raises:
        LanguageModelError: an argument is wrong, or the key would be sent in plain text.
        MissingExtraError: httpx is not installed (``pip install 'thalweg[lm]'``).

    Within ``async with model:`` connections are kept open between requests; without, only while requests are under way.
    An object is for one event loop at a time.

    Example:
        >>> from thalweg.lm import LanguageModel
        >>> model = LanguageModel("http://127.0.0.1:8080/v1", "smollm2", max_tokens=8)
        >>> model
        LanguageModel('http://127.0.0.1:8080/v1', 'smollm2')
        >>> model.most([{"role": "user", "content": "Is an olive food? Yes or No."}], attempts=1)
        Usage(prompt=108, completion=8)
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        timeout: float = 60.0,
        retries: int = 4,
        paid_retries: int = 1,
        first_delay: float = 0.5,
        concurrency: int = 8,
        temperature: float = 0.0,
        max_tokens: int = 256,
        seed: int | None = 0,
        limit_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        constrain: bool = True,
        spending: Spending | None = None,
        cache: AnswerCache | str | os.PathLike[str] | None = None,
        extra: Mapping[str, Any] | None = None,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._endpoint = Endpoint(base_url, api_key_env=api_key_env, timeout=timeout, concurrency=concurrency)
        if not isinstance(model, str) or not model.strip():
            raise LanguageModelError(f"The model's name is {model!r}; give the server's name for it.")
        if limit_key not in ("max_tokens", "max_completion_tokens"):
            raise LanguageModelError(f"limit_key is {limit_key!r}; it is 'max_tokens' or 'max_completion_tokens'.")
        taken = sorted(_OURS & set(extra or {}))
        if taken:
            raise LanguageModelError(f"extra has {', '.join(taken)}, which other arguments decide; take them out.")
        self.model = model
        self.temperature = number(temperature, "temperature", least=0.0)
        self.max_tokens = integer(max_tokens, "max_tokens", least=1)
        self.seed = None if seed is None else integer(seed, "seed", least=0)
        self.limit_key = limit_key
        self.extra = dict(extra or {})
        self._constrain = bool(constrain)
        self._refuses = False  # schemas
        self._payer = Payer(
            self._endpoint,
            retries=retries,
            paid_retries=paid_retries,
            first_delay=first_delay,
            seed=self.seed or 0,
            spending=spending if spending is not None else Spending(),
            cache=cache,
            sleep=sleep,
        )

    @property
    def base_url(self) -> str:
        """Where the protocol begins."""
        return self._endpoint.base_url

    @property
    def api_key_env(self) -> str | None:
        """The environment variable that holds the key."""
        return self._endpoint.api_key_env

    @property
    def concurrency(self) -> int:
        """Requests under way at the same time, at most."""
        return self._endpoint.concurrency

    @property
    def spending(self) -> Spending:
        """What was used in this process, and the limits."""
        return self._payer.spending

    @property
    def counts(self) -> Counts:
        """What happened to requests in this process."""
        return self._payer.counts

    @property
    def cache(self) -> AnswerCache | None:
        """Where answers are kept, opened when it is first needed; None if they are not kept."""
        return self._payer.cache

    # -- asking --------------------------------------------------------------------------

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        sample: int = 0,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] = (),
    ) -> Answer:
        """Ask for an answer.

        Args:
            messages: dicts with role (``"system"``, ``"user"``, ``"assistant"``) and content (text).
            sample: which draw this is, from 0; another number draws again.
            max_tokens: instead of the model's own.
            temperature: instead of the model's own.
            stop: texts that end the answer.

        Returns:
            The answer; it may be cut off (:attr:`Answer.truncated`).

        Raises:
            SpendingError: the budget does not allow it; nothing was sent.
            EndpointError: the server gave no answer, whatever was tried.
            AnswerError: it gave something that is none.
            CheckpointCorruptError: the answer on disk is damaged.
        """
        body = self._body(messages, sample, max_tokens, temperature, stop)
        return await self._payer.ask(body, sample, body[self.limit_key])

    async def structured(
        self,
        messages: Sequence[Message],
        schema: dict[str, Any],
        *,
        sample: int = 0,
        repairs: int = 1,
        max_tokens: int | None = None,
        temperature: float | None = None,
        refusal: Callable[[Any], str | None] | None = None,
    ) -> Structured:
        """Ask for a JSON value that fits a schema.

        Args:
            messages: as :meth:`complete` has them.
            schema: a JSON Schema, draft 2020-12.
            sample: which draw this is, from 0.
            repairs: how often an answer that does not fit is sent back with what is wrong.
            max_tokens: instead of the model's own.
            temperature: instead of the model's own.
            refusal: why a value is refused although it fits the schema, in words for the model; None if it is taken.

        Raises:
            AnswerError: no answer fits; ``details["usage"]`` has what they cost.
            LanguageModelError: as :meth:`complete`, or the schema is none; ``details["usage"]`` has what all requests
                may have cost, if one could not be answered.
        """
        read = Validator(schema)
        asked = check_messages(messages)
        answers: list[Answer] = []
        while True:
            try:
                answer = await self._constrained(asked, schema, sample, max_tokens, temperature)
            except LanguageModelError as error:
                before = sum((one.charged for one in answers), Usage())  # answers that were to be repaired
                error.details["usage"] = before + error.details.get("usage", Usage())
                raise
            answers.append(answer)
            fault = None
            try:
                value = read(answer.text)
            except ValueError as error:
                fault = str(error)
            if fault is None:
                fault = objection(refusal, value)
            if fault is None:
                return Structured(value, tuple(answers))
            if len(answers) > repairs:
                raise cannot(answers, fault, max_tokens or self.max_tokens)
            self.counts.repaired += 1
            asked = repairing(asked, answer, fault)

    def most(self, messages: Sequence[Message], *, max_tokens: int | None = None, attempts: int | None = None) -> Usage:
        """The most tokens that :meth:`complete` can cost.

        Args:
            messages: as :meth:`complete` has them.
            max_tokens: instead of the model's own.
            attempts: how many are made; None stands for as many as may be paid for.
        """
        most = most_usage(self._body(messages, 0, max_tokens, None, ()), max_tokens or self.max_tokens)
        return most.times(self._payer.paid_attempts if attempts is None else attempts)

    def most_structured(
        self,
        messages: Sequence[Message],
        schema: dict[str, Any],
        *,
        repairs: int = 1,
        max_tokens: int | None = None,
        attempts: int | None = None,
    ) -> Usage:
        """The most tokens that :meth:`structured` can cost; as :meth:`most`, for each of its requests."""
        limit = max_tokens or self.max_tokens
        total = Usage()
        asked = check_messages(messages)
        for _ in range(repairs + 1):
            for variant in (asked, instructed(asked, schema)):
                body = {**self._body(variant, 0, limit, None, ()), "response_format": response_format(schema)}
                most = most_usage(body, limit)
            total += most
            longest = Answer("x" * LONGEST_OF_A_TOKEN * limit, "stop", Usage())
            asked = repairing(asked, longest, "x" * LONGEST_FAULT)
        return total.times(self._payer.paid_attempts if attempts is None else attempts)

    def check_key(self) -> None:
        """Raise unless the key that requests need is there.

        Raises:
            LanguageModelError: names the variable.
        """
        self._endpoint.key()

    def close(self) -> None:
        """Give the cache back, if this object opened it. It is opened again when it is needed."""
        self._payer.close()

    async def __aenter__(self) -> LanguageModel:
        self._endpoint.connections().enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._endpoint.connections().leave()
        self.close()

    def __repr__(self) -> str:
        key = "" if self.api_key_env is None else f", api_key_env={self.api_key_env!r}"
        return f"LanguageModel({self.base_url!r}, {self.model!r}{key})"

    # -- inside --------------------------------------------------------------------------

    def _body(
        self,
        messages: Sequence[Message],
        sample: int,
        max_tokens: int | None,
        temperature: float | None,
        stop: Sequence[str],
    ) -> dict[str, Any]:
        integer(sample, "sample", least=0)
        body: dict[str, Any] = {
            **self.extra,
            "model": self.model,
            "messages": check_messages(messages),
            "temperature": self.temperature if temperature is None else number(temperature, "temperature", least=0.0),
            self.limit_key: self.max_tokens if max_tokens is None else integer(max_tokens, "max_tokens", least=1),
        }
        if self.seed is not None:
            body["seed"] = (self.seed + sample) % (1 << 31)
        if stop:
            body["stop"] = list(stop)
        return body

    async def _constrained(
        self,
        messages: list[Message],
        schema: dict[str, Any],
        sample: int,
        max_tokens: int | None,
        temperature: float | None,
    ) -> Answer:
        words = self._body(instructed(messages, schema), sample, max_tokens, temperature, ())
        limit = words[self.limit_key]
        if not self._constrain:
            return await self._payer.ask(words, sample, limit)
        body = self._body(messages, sample, max_tokens, temperature, ())
        body["response_format"] = response_format(schema)
        key = request_key(body, sample)
        if self._refuses:
            kept = await self._payer.kept(body, sample)
            return kept if kept is not None else await self._payer.ask(words, sample, limit, instead_of=Refused(key))
        try:
            return await self._payer.ask(body, sample, limit)
        except EndpointError as error:
            if error.details.get("status") not in (400, 404, 422, 501):
                raise
            first = error
        refused = Refused(key, first.details["usage"], first.details["charged_attempts"])
        try:
            answer = await self._payer.ask(words, sample, limit, instead_of=refused)
        except LanguageModelError as error:
            # A refusal again: it was not the schema that it did not like.
            shown = first if isinstance(error, EndpointError) else error
            shown.details["usage"] = error.details.get("usage", refused.lost)
            raise shown from None
        self._refuses = True
        return answer
