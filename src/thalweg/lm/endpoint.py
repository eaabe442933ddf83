"""A server that speaks OpenAI's protocol: its address, the key for it, connections to it.

Connections are open while a request is under way, or within ``async with``; so nothing is left open behind anybody's
back, and a model may be used in one event loop after another.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import ssl
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from thalweg.errors import LanguageModelError, MissingExtraError
from thalweg.graph.finishing import to_the_end
from thalweg.lm.checking import integer, number

if TYPE_CHECKING:
    import httpx

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Endpoint:
    """Where requests go.

    Args:
        base_url: where the protocol begins, such as ``"http://127.0.0.1:8080/v1"``.
        api_key_env: the environment variable that holds the key; None for none.
        timeout: s for one attempt.
        concurrency: connections at the same time.

    Raises:
        LanguageModelError: an argument is wrong, or the key would be sent in plain text to another machine.
        MissingExtraError: httpx is not installed.

    Example:
        >>> from thalweg.lm.endpoint import Endpoint
        >>> Endpoint("http://192.0.2.1/v1", api_key_env="MY_KEY", timeout=60.0, concurrency=1)
        Traceback (most recent call last):
        thalweg.errors.LanguageModelError: The key in MY_KEY would go to 192.0.2.1 in plain text, ...
    """

    def __init__(self, base_url: str, *, api_key_env: str | None, timeout: float, concurrency: int) -> None:
        try:
            self._httpx = import_module("httpx")
        except ImportError as error:
            raise MissingExtraError(
                "httpx is not installed, and a language model is asked over it. Install it: pip install 'thalweg[lm]'."
            ) from error
        if api_key_env is not None and not (isinstance(api_key_env, str) and _NAME.fullmatch(api_key_env)):
            raise LanguageModelError(
                "api_key_env is no name of an environment variable (it is not shown here, it may be the key itself); "
                "give the name of the variable that holds the key, or None."
            )
        self.base_url, self.loopback = _checked_url(base_url, api_key_env)
        self.api_key_env = api_key_env
        self.timeout = number(timeout, "timeout", least=1e-3, unit=" s")
        self.concurrency = integer(concurrency, "concurrency", least=1)
        self.url: httpx.URL = self._httpx.URL(f"{self.base_url}/chat/completions")
        """Where requests are posted to."""
        self._lock = threading.Lock()
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Connections] = weakref.WeakKeyDictionary()
        self._tls: ssl.SSLContext | None = None

    def key(self) -> str | None:
        """What authorizes a request, as the environment has it now.

        Raises:
            LanguageModelError: it is not there, or cannot be one.
        """
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise LanguageModelError(
                f"The environment variable {self.api_key_env} is not set, and the key of {self.base_url} is expected "
                "in it. Set it, or leave api_key_env out for a server that needs none."
            )
        if not key.isascii() or not key.isprintable():
            raise LanguageModelError(
                f"The environment variable {self.api_key_env} holds characters that no key has (it is not shown here)."
            )
        return key

    def connections(self) -> _Connections:
        """Those of the running event loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            return self._loops.setdefault(loop, _Connections(self._client))

    def _client(self) -> httpx.AsyncClient:
        if self._tls is None and self.base_url.startswith("https:"):
            self._tls = self._httpx.create_ssl_context()
        limits = self._httpx.Limits(max_connections=1, max_keepalive_connections=1)
        client: httpx.AsyncClient = self._httpx.AsyncClient(
            timeout=self._httpx.Timeout(None, connect=min(self.timeout, 10.0)),  # of all of it `exchange` takes care
            limits=limits,
            verify=self._tls if self._tls is not None else False,  # without https there is nothing to verify
            trust_env=not self.loopback,  # a proxy cannot reach this machine's own servers
            follow_redirects=False,
        )
        return client


@dataclass(eq=False)
class _Connections:
    """Of one event loop: a client with one connection for each request under way; closed when nobody needs them.

    One client with many connections would look at all of them before each request, and take longer for that than for
    the request.
    """

    make: Callable[[], httpx.AsyncClient]
    idle: list[httpx.AsyncClient] = field(default_factory=list)
    users: int = 0

    def enter(self) -> None:
        self.users += 1

    async def leave(self) -> None:
        self.users -= 1
        if self.users == 0:
            clients, self.idle = self.idle, []
            for client in clients:
                await to_the_end(client.aclose())

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[httpx.AsyncClient]:
        self.enter()
        client = self.idle.pop() if self.idle else self.make()
        try:
            yield client
        finally:
            self.idle.append(client)
            await self.leave()


def _checked_url(base_url: Any, api_key_env: str | None) -> tuple[str, bool]:
    """The URL without a slash at its end, and whether it is of this machine."""
    try:
        parts = urlsplit(base_url) if isinstance(base_url, str) else None
        host = parts.hostname if parts is not None else None
        _ = parts.port if parts is not None else None
    except ValueError:
        parts, host = None, None
    if parts is None or parts.scheme not in ("http", "https") or not host or not base_url.isprintable():
        raise LanguageModelError(
            f"base_url is {base_url!r}; expected something like 'http://127.0.0.1:8080/v1' or 'https://.../v1'."
        )
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise LanguageModelError(
            "base_url has a user, password, query or fragment (it is not shown here); give the address alone, and the "
            "key in an environment variable that api_key_env names."
        )
    loopback = _is_loopback(host)
    if parts.scheme == "http" and api_key_env is not None and not loopback:
        raise LanguageModelError(
            f"The key in {api_key_env} would go to {host} in plain text, readable for everybody on the way. Use https, "
            "or leave api_key_env out."
        )
    return base_url.rstrip("/"), loopback


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
