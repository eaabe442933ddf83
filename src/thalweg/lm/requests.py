"""A request: its JSON, the key that its answer is kept under, and the bound of what it can cost.

::

    key  = BLAKE2b(canonical JSON of {"request": body, "sample": number})
    most = (bytes of all texts in UTF-8 + 16 a message + 64, max_tokens)

The key has the model's name and everything that decides the answer, and not the server's address: the same model on
another port is the same model. (Two servers that call different models the same need caches of their own.) The sample
number makes repeated draws of the same request different requests.

The bound holds for byte-level and byte-fallback tokenizers, where a token stands for at least one byte; what a chat
template puts around a message is covered by the constants, as the marks of a message are 4 to 8 tokens and a default
system message some 20. A server whose count is larger is settled with that count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.checkpoints.manifest import canonical, digest
from thalweg.errors import CheckpointError, LanguageModelError
from thalweg.lm.spending import Usage

ROLES = ("system", "user", "assistant")
A_MESSAGE = 16
A_PROMPT = 64

Message = dict[str, str]
"""``{"role": "system" | "user" | "assistant", "content": text}``"""


def check_messages(messages: Sequence[Message]) -> list[Message]:
    """A copy of messages, checked.

    Raises:
        LanguageModelError: there is none, or one is no message.

    Example:
        >>> from thalweg.lm.requests import check_messages
        >>> check_messages([{"role": "user", "content": "Good morning."}])
        [{'role': 'user', 'content': 'Good morning.'}]
    """
    if isinstance(messages, str) or not messages:
        raise LanguageModelError(f"The messages are {messages!r}; give a list with at least one message.")
    checked = []
    for number, message in enumerate(messages):
        keys = message.keys() if isinstance(message, Mapping) else set()
        if keys != {"role", "content"} or message["role"] not in ROLES or not isinstance(message["content"], str):
            raise LanguageModelError(
                f"Message {number} is {message!r}; expected a dict with role ({', '.join(ROLES)}) and content (text)."
            )
        checked.append({"role": message["role"], "content": message["content"]})
    return checked


def request_key(body: Mapping[str, Any], sample: int) -> str:
    """The name that the answer of a request is kept under: 64 hexadecimal digits.

    Args:
        body: the request's JSON.
        sample: which draw of this request it is, from 0.

    Raises:
        LanguageModelError: JSON cannot hold the request.

    Example:
        >>> from thalweg.lm.requests import request_key
        >>> body = {"model": "m", "messages": [{"role": "user", "content": "Good morning."}]}
        >>> request_key(body, 0) == request_key(dict(reversed(body.items())), 0)
        True
        >>> request_key(body, 0) == request_key(body, 1)
        False
    """
    try:
        return digest(canonical({"request": dict(body), "sample": sample}))
    except CheckpointError as error:
        raise LanguageModelError(f"The request cannot be sent: {error}.") from error


def most_usage(body: Mapping[str, Any], max_tokens: int) -> Usage:
    """The most tokens that a request can cost.

    Args:
        body: the request's JSON; a schema in it counts as text of the prompt, as some servers put it there.
        max_tokens: the most that may be answered.

    Example:
        >>> from thalweg.lm.requests import most_usage
        >>> most_usage({"messages": [{"role": "user", "content": "Grüß Gott"}]}, 10)
        Usage(prompt=91, completion=10)
    """
    messages = body["messages"]
    texts = sum(len(message["content"].encode("utf-8", "surrogatepass")) for message in messages)
    if "response_format" in body:
        texts += len(json.dumps(body["response_format"], ensure_ascii=False).encode())
    return Usage(texts + A_MESSAGE * len(messages) + A_PROMPT, max_tokens)
