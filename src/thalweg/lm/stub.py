"""A server of OpenAI's protocol on this machine that answers by a function, and fails when it is told to: for tests.

It is as deterministic as that function, counts what it is asked, and needs nothing but the standard library. Tokens are
words here.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What one request gets instead of an answer.

    Args:
        status: of HTTP.
        content: what is sent: text as it is, anything else as JSON; None stands for an error in the protocol's form.
        headers: such as ``{"Retry-After": "1"}``.
        hang: whether nothing is sent, and the connection stays open.
        drop: whether the connection is closed in the middle of the response.
        delay: s before it is sent.
    """

    status: int = 200
    content: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    drop: bool = False
    delay: float = 0.0


def echo(body: Body) -> str:
    """The last message, backwards: an answer that depends on the request."""
    return " ".join(reversed(body["messages"][-1]["content"].split()))


class Stub:
    """Serves on a free port of 127.0.0.1, in a thread of its own, within ``with``.

    Args:
        answer: from the request's JSON to the text of the answer; :func:`echo` by default.
        script: replies for the first requests, in the order of their arrival; None in it is a usual answer.
        delay: s before each answer.
        usage: whether tokens are counted in the response.

    Attributes:
        requests: the JSON of every request, in the order of arrival.
        headers: of every request, names in lower case.
        most_at_once: the largest number of requests that were under way at the same time.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.lm import LanguageModel
        >>> from thalweg.lm.stub import Stub
        >>> with Stub() as stub:
        ...     model = LanguageModel(stub.url, "stub")
        ...     answer = tw.wait(model.complete([{"role": "user", "content": "one two three"}]))
        >>> answer.text, answer.usage.prompt, len(stub.requests)
        ('three two one', 3, 1)
    """

    def __init__(
        self,
        answer: Callable[[Body], str] = echo,
        *,
        script: Iterable[Reply | None] = (),
        delay: float = 0.0,
        usage: bool = True,
    ) -> None:
        self._answer = answer
        self._script = deque(script)
        self._delay = delay
        self._usage = usage
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="language model stub", daemon=True)
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._port = 0
        self._under_way = 0
        self.requests: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0

    @property
    def url(self) -> str:
        """What a :class:`LanguageModel` takes as ``base_url``."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Stub:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    # -- inside: all in the thread -------------------------------------------------------

    def _serve(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        visits: set[asyncio.Task[None]] = set()

        async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            visits.add(task)
            try:
                while await self._request(reader, writer):
                    pass
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                visits.discard(task)
                writer.close()

        server = await asyncio.start_server(visit, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(visits):
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        await asyncio.sleep(0)  # closed transports say so in the next turn

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            return await self._respond(head[0], headers, content, writer)
        finally:
            self._under_way -= 1

    async def _respond(self, line: str, headers: dict[str, str], content: bytes, writer: asyncio.StreamWriter) -> bool:
        reply = Reply(404, {"error": {"message": f"there is no {line}"}})
        if line.startswith("POST /v1/chat/completions "):
            body = json.loads(content)
            self.requests.append(body)
            self.headers.append(headers)
            scripted = self._script.popleft() if self._script else None
            reply = scripted if scripted is not None else self._usual(body)
        await asyncio.sleep(reply.delay)
        if reply.hang:
            await self._stop.wait()
            return False
        payload = reply.content
        if payload is None:
            payload = {"error": {"message": f"scripted status {reply.status}"}}
        data = (payload if isinstance(payload, str) else json.dumps(payload)).encode()
        lines = [f"HTTP/1.1 {reply.status} Scripted", "Content-Type: application/json", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + (data[: len(data) // 2] if reply.drop else data))
        await writer.drain()
        return not reply.drop

    def _usual(self, body: Body) -> Reply:
        try:
            words = self._answer(body).split(" ")
        except Exception as error:  # somebody's function: the client shall see what it raised
            return Reply(500, {"error": {"message": f"{type(error).__name__}: {error}"}})
        limit = int(body.get("max_tokens") or body.get("max_completion_tokens") or len(words))
        response: Body = {
            "id": f"stub-{len(self.requests)}",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": " ".join(words[:limit])},
                    "finish_reason": "length" if len(words) > limit else "stop",
                }
            ],
        }
        if self._usage:
            prompt = sum(len(message["content"].split()) for message in body["messages"])
            completion = min(len(words), limit)
            response["usage"] = {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            }
        return Reply(200, response, delay=self._delay)
