"""One request and what came of it: an answer, an attempt that may be repeated, a refusal.

===========================================  ==============  ==========================================================
what happened                                try again       what it may have cost
===========================================  ==============  ==========================================================
no connection                                yes             nothing: nothing was sent
408, 409, 425, 429, 5xx                      yes             nothing: the server says that it did not answer
no response in time, or it broke off         yes             its bound: the server may have answered all the same
200, and no answer in it                     yes             its bound
any other status                             no              nothing
===========================================  ==============  ==========================================================
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from thalweg.errors import AnswerError, EndpointError, LanguageModelError
from thalweg.lm.answers import Answer, error_text, hidden, read_answer
from thalweg.lm.spending import Usage

if TYPE_CHECKING:
    import httpx

LARGEST = 1 << 24  # bytes of a response; an answer of a million tokens has less
AGAIN = frozenset({408, 409, 425, 429, *range(500, 600)})


@dataclass(frozen=True)
class Failed:
    """An attempt without an answer.

    Args:
        error: what to raise if it is not tried again.
        again: whether trying again can help.
        charged: whether it may have cost something.
        wait: s that the server asks to wait.
        status: of the response; None without one.
    """

    error: LanguageModelError
    again: bool
    charged: bool
    wait: float = 0.0
    status: int | None = None


async def exchange(
    client: httpx.AsyncClient,
    url: httpx.URL,
    body: Mapping[str, Any],
    *,
    key: str | None,
    key_env: str | None,
    timeout: float,
    most: Usage,
) -> Answer | Failed:
    """Send a request and read its answer.

    Args:
        client: what sends.
        url: where to.
        body: the request's JSON.
        key: what authorizes it; in the header, and nowhere else.
        key_env: the name of the variable that it is from, for messages.
        timeout: s for all of it.
        most: the bound of what it can cost.
    """
    httpx = import_module("httpx")
    model = str(body.get("model"))
    request = _request(client, url, body, key)
    try:
        async with asyncio.timeout(timeout):
            response = await client.send(request, stream=True)
            try:
                content = bytearray()
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > LARGEST:
                        text = f"{url} sent more than {LARGEST >> 20} MiB; that is no answer of a language model."
                        return Failed(EndpointError(text), again=False, charged=True, status=response.status_code)
            finally:
                await response.aclose()
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        text = f"No server answers at {url} ({_why(error)}). Start it, or correct base_url."
        return Failed(EndpointError(text), again=True, charged=False)
    except (TimeoutError, httpx.TimeoutException):
        text = (
            f"{url} did not answer within {timeout:g} s. Give a longer timeout, a smaller max_tokens or a lower "
            "concurrency."
        )
        return Failed(EndpointError(text), again=True, charged=True)
    except httpx.RequestError as error:
        text = f"The connection to {url} broke off before the answer was there ({_why(error)})."
        return Failed(EndpointError(text), again=True, charged=True)
    if response.status_code != 200:
        return _refused(response, bytes(content), url, model, key, key_env)
    try:
        return read_answer(json.loads(bytes(content)), most, key=key)
    except (ValueError, RecursionError) as error:
        text = hidden(f"The response of {url} has no answer: {_why(error)}.", key)
        return Failed(AnswerError(text, usage=most), again=True, charged=True, status=200)


def _request(client: httpx.AsyncClient, url: httpx.URL, body: Mapping[str, Any], key: str | None) -> httpx.Request:
    """The request as `client.stream` would make it, without reading the address and merging settings each time."""
    headers = [*client.headers.raw, (b"Content-Type", b"application/json")]
    if key:
        headers.append((b"Authorization", f"Bearer {key}".encode()))
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    extensions = {"timeout": client.timeout.as_dict()}
    make: type[httpx.Request] = import_module("httpx").Request
    return make("POST", url, headers=headers, content=content, extensions=extensions)


def _refused(
    response: httpx.Response, content: bytes, url: httpx.URL, model: str, key: str | None, key_env: str | None
) -> Failed:
    status = response.status_code
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError):
        document = content.decode("utf-8", "replace")
    said = error_text(document, key=key)
    code = (
        document["error"].get("code")
        if isinstance(document, dict) and isinstance(document.get("error"), dict)
        else None
    )
    advice = _advice(status, model, key_env)
    text = f"{url} refused the request with status {status}" + (f": {said}" if said else "") + f". {advice}"
    again = status in AGAIN and code != "insufficient_quota"
    wait = _retry_after(response.headers.get("retry-after")) if again else 0.0
    return Failed(EndpointError(text, status=status), again=again, charged=False, wait=wait, status=status)


def _advice(status: int, model: str, key_env: str | None) -> str:
    named = (
        f"Check the key in the environment variable {key_env}." if key_env else "Name the key's variable: api_key_env."
    )
    table = {
        400: "Check the request: a prompt that is too long, or an option that this server does not know.",
        401: named,
        402: "The account has no money left.",
        403: named,
        404: f"Check the model's name, {model!r}, and base_url, which mostly ends in /v1.",
        413: "Make the prompt shorter.",
        422: "Check the options: this server does not know one of them.",
        429: "Lower the concurrency, or wait.",
    }
    if 300 <= status < 400:
        return "It points elsewhere, and keys are not sent there: correct base_url."
    return table.get(status, "Try later." if status >= 500 else "See what the server's documentation says about it.")


def _retry_after(text: str | None) -> float:
    """The header's wait in s: a number, or a date."""
    if text is None:
        return 0.0
    try:
        wait = float(text)
    except ValueError:
        try:
            wait = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return max(0.0, wait) if math.isfinite(wait) else 0.0


def _why(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
