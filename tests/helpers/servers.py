"""A server on this machine that serves bytes, counts what it is asked for, and misbehaves on demand.

    with Server({"a.jpg": picture, "b.jpg": picture}, {"b.jpg": status(404)}) as server:
        ...  # server.url("a.jpg"), server.address, server.asked("a.jpg")

As a process, for benchmarks: `python tests/helpers/servers.py FOLDER` prints its address and serves the files.
"""

import asyncio
import gzip
import hashlib
import re
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PIECE = 1 << 14  # bytes written at a time


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    path: str  # without the leading slash
    headers: Mapping[str, str]  # names in lower case

    @property
    def start(self) -> int:
        """The first byte that it wants."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(match[1]) if match else 0


# An answer is given the request and the content of its path, and yields the bytes that go over the wire.
Answer = Callable[[Request, bytes], AsyncIterator[bytes]]


def head(status: int, **headers: object) -> bytes:
    """The head of an answer; `_` in a header's name stands for `-`."""
    lines = [f"HTTP/1.1 {status} x", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def whole(request: Request, content: bytes) -> AsyncIterator[bytes]:
    """What a good server does, ranges included."""
    tag, start = f'"{hashlib.sha256(content).hexdigest()}"', request.start
    if request.headers.get("if-range", tag) != tag:
        start = 0
    if start >= len(content) > 0:
        yield head(416, Content_Length=0, Content_Range=f"bytes */{len(content)}")
        return
    facts = {"Content_Length": len(content) - start, "ETag": tag, "Accept_Ranges": "bytes"}
    if start:
        yield head(206, **facts, Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        yield head(200, **facts)
    for at in range(start, len(content), PIECE):
        yield content[at : at + PIECE]


# --- faults ------------------------------------------------------------------------------------------------------


def says(answer: bytes) -> Answer:
    """These very bytes, then the connection is closed."""

    async def fault(request: Request, content: bytes) -> AsyncIterator[bytes]:
        yield answer

    return fault


def status(code: int, **headers: object) -> Answer:
    """A status without content."""
    return says(head(code, Content_Length=0, Connection="close", **headers))


def redirect(location: str) -> Answer:
    return status(302, Location=location)


def html(text: bytes = b"<!DOCTYPE html><html><body>Enter the characters you see below</body></html>") -> Answer:
    """A page where a file should be, with status 200."""
    return says(head(200, Content_Type="text/html", Content_Length=len(text)) + text)


def cut(count: int) -> Answer:
    """As it should be, but the connection breaks after `count` bytes of content."""

    async def fault(request: Request, content: bytes) -> AsyncIterator[bytes]:
        left, parts = count, whole(request, content)
        yield await anext(parts)
        async for part in parts:
            yield part[:left]
            left -= len(part)
            if left <= 0:
                return

    return fault


def announces(length: int) -> Answer:
    """A Content-Length that is not that of the content."""

    async def fault(request: Request, content: bytes) -> AsyncIterator[bytes]:
        yield head(200, Content_Length=length) + content

    return fault


def without_length() -> Answer:
    """The end of the content is where the connection ends."""

    async def fault(request: Request, content: bytes) -> AsyncIterator[bytes]:
        yield head(200) + content

    return fault


def ignoring_ranges(etag: str | None = None) -> Answer:
    """Always from the beginning."""

    async def fault(request: Request, content: bytes) -> AsyncIterator[bytes]:
        yield head(200, Content_Length=len(content), **({"ETag": etag} if etag else {})) + content

    return fault


async def endless(request: Request, content: bytes) -> AsyncIterator[bytes]:
    """The content, and zeros for ever."""
    yield head(200) + content
    while True:
        yield bytes(PIECE)


async def drip(request: Request, content: bytes) -> AsyncIterator[bytes]:
    """A byte at a time, with a pause after each."""
    yield head(200, Content_Length=len(content))
    for byte in content:
        yield bytes([byte])
        await asyncio.sleep(0.05)


def slowly(at_once: list[int]) -> Answer:
    """As it should be, after a moment. Of each answer it is noted how many were being given."""
    now = 0

    async def answer(request: Request, content: bytes) -> AsyncIterator[bytes]:
        nonlocal now
        now += 1
        at_once.append(now)
        await asyncio.sleep(0.02)
        async for part in whole(request, content):
            yield part
        now -= 1

    return answer


async def silent(request: Request, content: bytes) -> AsyncIterator[bytes]:
    """Nothing, and the connection stays open."""
    await asyncio.Event().wait()
    yield b""


def encoded(content: bytes, encoding: str = "gzip") -> Answer:
    """Content that says it is compressed."""
    return says(head(200, Content_Encoding=encoding, Content_Length=len(content)) + content)


def bomb(size: int) -> Answer:
    """A few bytes that unpack to `size` zeros."""
    return encoded(gzip.compress(bytes(size)))


NOBODY = "127.0.0.1:1"  # listens there


# --- the server --------------------------------------------------------------------------------------------------


class Server:
    """Serves `content` (path -> bytes) from a thread of its own while the `with` block runs.

    `faults` maps a path to an answer that is always given, or to a list of answers, each given once before the path is
    served well. Both mappings may be changed at any time. `requests` holds all that was asked for, in order.
    """

    def __init__(
        self,
        content: Mapping[str, bytes],
        faults: Mapping[str, Answer | Sequence[Answer]] | None = None,
        port: int = 0,
    ) -> None:
        self.content, self.faults = content, faults or {}
        self.requests: list[Request] = []
        self.stopped = threading.Event()  # all bytes that `allow` allowed are sent
        self._given: dict[str, int] = {}  # path -> faults of its list
        self._allowed: int | None = None
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task] = set()
        self.address = f"127.0.0.1:{port}"  # 0: the system chooses
        self._thread = threading.Thread(target=self._run, daemon=True)

    def url(self, path: str) -> str:
        return f"http://{self.address}/{path}"

    def asked(self, path: str) -> int:
        """How often."""
        return sum(request.path == path for request in self.requests)

    def allow(self, count: int) -> None:
        """Send `count` bytes more, then set `stopped` and keep all connections open without a word."""
        self.stopped.clear()
        self._allowed = count

    def release(self) -> None:
        """Break all connections; from now on everything is sent.

        What a killed client had asked for is in `requests` when this returns.
        """
        asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result()
        self._allowed = None
        for _ in range(
            2
        ):  # an answer comes after those before it in the queue are accepted, a second after they are read
            with socket.create_connection(("127.0.0.1", int(self.address.split(":")[1]))) as probe:
                probe.sendall(b"GET /probe HTTP/1.1\r\n\r\n")
                probe.recv(1)

    def __enter__(self) -> "Server":
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        host, port = self.address.split(":")
        listening = self._loop.run_until_complete(asyncio.start_server(self._connection, host, int(port), backlog=1000))
        self.address = f"{host}:{listening.sockets[0].getsockname()[1]}"
        self._loop.call_soon(self._started.set)
        self._loop.run_forever()
        listening.close()
        self._loop.run_until_complete(self._hang_up())
        self._loop.close()

    async def _hang_up(self) -> None:
        connections = list(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._connections.add(task)
        try:
            while await self._reply(await reader.readuntil(b"\r\n\r\n"), writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, or this server is told to stop
        finally:
            self._connections.discard(task)
            writer.close()

    async def _reply(self, text: bytes, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may be used again."""
        first, *lines = text.decode("latin-1").split("\r\n")
        path = first.split(" ")[1].removeprefix("/")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        request = Request(path, headers)
        if path != "probe":  # of `release`
            self.requests.append(request)
        answer = self._fault(path) or (whole if path in self.content else status(404))
        async for part in answer(request, self.content.get(path, b"")):
            await self._send(part, writer)
        return answer is whole

    def _fault(self, path: str) -> Answer | None:
        faults = self.faults.get(path)
        if not isinstance(faults, Sequence):
            return faults
        given = self._given.get(path, 0)
        self._given[path] = given + 1
        return faults[given] if given < len(faults) else None

    async def _send(self, part: bytes, writer: asyncio.StreamWriter) -> None:
        if self._allowed is not None and len(part) > self._allowed:
            part = part[: self._allowed]
        if self._allowed is not None:
            self._allowed -= len(part)
        writer.write(part)
        await writer.drain()
        if self._allowed == 0:
            self.stopped.set()
            await asyncio.Event().wait()  # until hung up


def main(folder: str) -> None:
    """Until killed."""
    content = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    with Server(content) as server:
        print(server.address, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])
