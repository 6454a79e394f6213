"""HTTP(S) requests, bounded in number and time. Every failure has a named reason.

aiohttp-retry repeats requests alone; tenacity also repeats a body that breaks off.
"""

import ipaddress
import random
import re
import socket
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import tenacity

TRIES = 4  # of a request that fails for a temporary reason
PAUSE = 1.0  # seconds before the second try; doubles, plus up to as much again at random, so that clients spread out
LONGEST_PAUSE = 60.0  # seconds; also if a server asks for more
REDIRECTS = 5
CHUNK = 1 << 16  # bytes read at a time
NAT64 = ipaddress.ip_network("64:ff9b::/96")
AGENT = "mmrec (research; reads each address once)"


class Unanswered(Exception):
    """A permanent failure; the message is the reason in a few words."""


class Passing(Unanswered):
    """A temporary failure: a retry may help, after `pause` seconds if the server asks for them."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class NoSuchRange(Passing):
    """The server does not send the requested range of bytes."""


class PrivateAddress(OSError):
    """A connection to an address that is not public."""


FAILURES = (  # exception, its kind of failure and reason; the first match counts
    (aiohttp.TooManyRedirects, Unanswered, "redirect loop"),
    ((aiohttp.NonHttpUrlClientError, aiohttp.NonHttpUrlRedirectClientError), Unanswered, "unsupported scheme"),
    (ValueError, Unanswered, "malformed address"),  # of aiohttp, urlsplit and malformed host names
    (aiohttp.ClientConnectorDNSError, Passing, "name not resolved"),
    (aiohttp.ClientConnectorError, Passing, "no connection"),
    (TimeoutError, Passing, "no answer in time"),
    (aiohttp.ClientResponseError, Passing, "malformed answer"),
    ((aiohttp.ClientError, ConnectionError), Passing, "connection lost"),
)


def session(
    timeout: aiohttp.ClientTimeout, *, per_host: int = 0, trusted: Collection[str] | None = None, decode: bool = True
) -> aiohttp.ClientSession:
    """A client without cookies, a context manager.

    `per_host` limits open connections (0: no limit). `decode` undoes a Content-Encoding. With `trusted` given,
    connections go to public addresses and to the trusted ones (`address:port`) only. The check sees the address of the
    socket, so no host name evades it.
    """

    def open_socket(where: tuple) -> socket.socket:
        family, kind, protocol, _, address = where
        if not _is_public(address[0]) and f"{address[0]}:{address[1]}" not in trusted:
            raise PrivateAddress("private address")
        return socket.socket(family, kind, protocol)

    factory = None if trusted is None else open_socket
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=per_host, socket_factory=factory),
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": AGENT, "Accept-Encoding": "identity"},
        auto_decompress=decode,
    )


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 6:  # an address that embeds an IPv4 address is as public as that
        translated = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF) if found in NAT64 else None
        found = found.ipv4_mapped or found.sixtofour or translated or found
    return found.is_global and not found.is_multicast


def host_of(url: str) -> str:
    """The host of an address, with its port if it names one. Raises Unanswered: malformed, or not http(s)."""
    with _named_failures():
        parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise Unanswered("unsupported scheme")
    if not re.fullmatch(r"[^\s\x00-\x1f]+", parts.hostname or ""):
        raise Unanswered("malformed address")
    return parts.netloc


@asynccontextmanager
async def answer(client: aiohttp.ClientSession, url: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
    """The response of `url`; `options` are aiohttp's.

    Raises Passing (temporary) or Unanswered (permanent), also while the block reads the body.
    """
    with _named_failures():
        host_of(url)
        async with client.get(url, max_redirects=REDIRECTS, **options) as response:
            status, asked = response.status, response.headers.get("Retry-After", "").strip()
            if status in (404, 410):
                raise Unanswered("not found")
            if status == 416:
                raise NoSuchRange("no such range")
            if status in (408, 429) or status >= 500:
                reason = "too many requests" if status == 429 else "server error"
                raise Passing(reason, float(asked) if asked.isdecimal() else 0.0)
            if status not in (200, 206):
                raise Unanswered(f"status {status}")
            yield response


@contextmanager
def _named_failures() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(getattr(error, "os_error", None), PrivateAddress):
            raise Unanswered("private address") from None
        for exception, failure, reason in FAILURES:
            if isinstance(error, exception):
                raise failure(reason) from None
        raise


def retrying() -> tenacity.AsyncRetrying:
    """Call the result with a coroutine function and its arguments: retries on `Passing`, with growing pauses."""

    def pause(state: tenacity.RetryCallState) -> float:
        grown = PAUSE * 2 ** (state.attempt_number - 1) * (1 + random.random())
        return min(max(grown, state.outcome.exception().pause), LONGEST_PAUSE)

    retry, stop = tenacity.retry_if_exception_type(Passing), tenacity.stop_after_attempt(TRIES)
    return tenacity.AsyncRetrying(retry=retry, stop=stop, wait=pause, reraise=True)
