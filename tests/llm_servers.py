"""Hosts for the tests: one under the SDK, one on a local port, both scripted, counted and exact.

``python tests/llm_servers.py SECONDS`` serves plain texts after a fixed latency in a process of
its own and prints its port; it stops when its input is closed.
"""

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import httpx2

Answer = tuple[int, dict[str, str], Any]  # status, headers, JSON body (or bytes as they are)


def completion(content: str | None = "I am glad.", **changes: Any) -> dict[str, Any]:
    """Return a chat completion; `changes` go into its choice, `refusal` into its message."""
    message = {"role": "assistant", "content": content, "refusal": changes.pop("refusal", None)}
    choice = {"index": 0, "finish_reason": "stop", "message": message} | changes
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted-1",
        "choices": [choice],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    }


def ok(content: str | None = "I am glad.", **changes: Any) -> Answer:
    """Answer with a chat completion."""
    return 200, {}, completion(content, **changes)


def fault(status: int, message: str = "no", *, headers: dict | None = None, **error: Any) -> Answer:
    """Answer with an error in OpenAI's form."""
    return status, headers or {}, {"error": {"message": message, **error}}


class Scripted(httpx2.AsyncBaseTransport):
    """A host under the SDK: `script` gets the body and the number of the request, from 1.

    It returns an answer or raises what the network would raise.
    """

    def __init__(self, script: Callable[[dict, int], Answer], latency: float = 0.0) -> None:
        self.script, self.latency = script, latency
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.under_way = self.most_under_way = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(await request.aread())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        number = len(self.bodies)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.latency)
            status, headers, answer = self.script(body, number)
        finally:
            self.under_way -= 1
        if isinstance(answer, bytes):
            return httpx2.Response(status, headers=headers, content=answer, request=request)
        return httpx2.Response(status, headers=headers, json=answer, request=request)


class Host:
    """A host on a local port, in a thread of its own; use it as a context.

    Parameters
    ----------
    script : callable
        As in `Scripted`; None drops the connection.
    latency : float
        Seconds before each answer.
    """

    def __init__(self, script: Callable[[dict, int], Answer | None], latency: float = 0.0) -> None:
        self.script, self.latency = script, latency
        self.bodies: list[dict] = []
        self.loop = asyncio.new_event_loop()
        self._ready, self._thread = threading.Event(), threading.Thread(target=self._serve)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "Host":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._done.cancel)
        self._thread.join()

    def _serve(self) -> None:
        async def main() -> None:
            server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=512)
            self.port = server.sockets[0].getsockname()[1]
            self._done = self.loop.create_future()
            self._ready.set()
            try:
                await self._done
            except asyncio.CancelledError:
                server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        self.loop.run_until_complete(main())
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length:")[1].split("\r\n")[0])
                self.bodies.append(json.loads(await reader.readexactly(length)))
                number = len(self.bodies)
                await asyncio.sleep(self.latency)
                answer = self.script(self.bodies[number - 1], number)
                if answer is None:
                    return
                status, headers, body = answer
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                lines = [f"HTTP/1.1 {status} -", "content-type: application/json"]
                lines += [f"content-length: {len(data)}"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()


if __name__ == "__main__":
    with Host(lambda body, number: ok(f"Reply number {number}."), float(sys.argv[1])) as host:
        print(host.port, flush=True)
        sys.stdin.read()
        print(len(host.bodies), flush=True)
