"""Downloads of whole files: resumed by Range, verified by checksum. (Own code: no HTTP client here resumes safely.)

A partial file is `.<name>.part`; `.<name>.part.json` beside it holds its address, validator and size. A download
resumes only if the server confirms that the file is unchanged (If-Range), so that two versions are never joined.
"""

import asyncio
import contextlib
import json
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from mmrec.data.cleaning.images import normalise
from mmrec.data.cleaning.rows import SourceError
from mmrec.data.download import web
from mmrec.files import atomic, remove_leftovers, sha256
from mmrec.progress import Progress, megabytes

CONNECTIONS = 2  # to one host
PROBE = 3.0  # seconds to connect, when only asking whether a server is there
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)  # seconds

Files = Mapping[str, Sequence[str]]  # path below a folder -> addresses in order of preference


def download(files: Files, folder: Path, checksums: Path) -> None:
    """Fetch the `files` that `folder` lacks; verify those that are there, fetched or placed by hand.

    `checksums` is a JSON file, path -> {"sha256": .., "size": ..}. The first fetch of a file records its checksum, and
    later fetches must match it. A killed download resumes at the next call.

    Raises SourceError: a file cannot be fetched or does not match its checksum; the message says what to do.
    """
    for name in files:
        if normalise(name) != name or name == ".":
            raise SourceError(f"{name!r} is no path inside {folder}")
    try:
        problems = list(filter(None, asyncio.run(_download(files, folder, Checksums(checksums)))))
    except OSError as error:
        raise SourceError(f"{folder} cannot be written to: {error}") from error
    if problems:
        raise SourceError("; ".join(problems))


def unreachable(files: Files, folder: Path) -> str | None:
    """One line about the first file that `folder` lacks and no server can be asked for; None if there is none."""
    for name, addresses in files.items():
        target, urls = folder / name, [urlsplit(url) for url in addresses]
        servers = {(url.hostname or "", url.port or (443 if url.scheme == "https" else 80)) for url in urls}
        if not target.is_file() and not any(_listens(*server) for server in servers):
            hosts = ", ".join(sorted({url.netloc for url in urls}))
            return f"{target.name} is not in {target.parent}, and {hosts} cannot be reached"
    return None


@cache
def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=PROBE).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Fingerprint:
    """Checksum (hex) and size (bytes) of a file."""

    sha256: str
    size: int

    @classmethod
    def of(cls, path: Path) -> "Fingerprint":
        return cls(sha256(path), path.stat().st_size)

    def __str__(self) -> str:
        return f"SHA-256 {self.sha256}, {self.size} bytes"


class Checksums:
    """The committed checksums, by path."""

    def __init__(self, path: Path) -> None:
        self.path, self.known = path, {}
        remove_leftovers(path.parent, path.name)
        try:
            with contextlib.suppress(FileNotFoundError):
                self.known = {name: Fingerprint(**known) for name, known in json.loads(path.read_text()).items()}
        except (ValueError, TypeError, AttributeError):
            raise SourceError(f'{path} does not hold {{"file": {{"sha256": "..", "size": ..}}, ..}}') from None

    def problem(self, name: str, found: Fingerprint) -> str | None:
        """The difference between `found` and the record; None if there is none. An unknown file is recorded."""
        if name not in self.known:
            self.known[name] = found
            table = {known: asdict(self.known[known]) for known in sorted(self.known)}
            with atomic(self.path) as path:
                path.write_text(json.dumps(table, indent=1) + "\n")
        expected = self.known[name]
        return None if found == expected else f"it is {found}; {self.path.name} says {expected}"


async def _download(files: Files, folder: Path, checksums: Checksums) -> list[str | None]:
    """For each file its error, one line, or None."""
    async with web.session(TIMEOUT, per_host=CONNECTIONS, decode=False) as client:
        return await asyncio.gather(*(_one(client, name, files[name], folder / name, checksums) for name in files))


async def _one(
    client: aiohttp.ClientSession, name: str, urls: Sequence[str], target: Path, checksums: Checksums
) -> str | None:
    part = Part(target)
    remove_leftovers(target.parent, part.note.name)
    if target.exists():
        part.remove()
        problem = checksums.problem(name, await asyncio.to_thread(Fingerprint.of, target))
        return problem and (
            f"{target} is another file than expected: {problem}. Remove it to fetch it anew; if it is the provider's "
            f"new release, and you want that, remove its entry from {checksums.path}"
        )
    problems = []
    for url in urls:
        try:
            await _from(client, url, name, part, checksums)
            return None
        except web.Unanswered as error:
            problems.append(f"{url}: {error}")
    return f"{name} cannot be fetched ({'; '.join(problems)}): get it elsewhere and place it as {target}"


async def _from(client: aiohttp.ClientSession, url: str, name: str, part: "Part", checksums: Checksums) -> None:
    """Fetch, verify and put in place. Any progress resets the number of tries."""
    if part.url != url:  # begun at another mirror
        part.remove()
    while part.held != part.size:
        await web.retrying()(_receive, client, url, name, part, checksums)
        await asyncio.sleep(web.PAUSE if part.held != part.size else 0)
    if problem := checksums.problem(name, await asyncio.to_thread(Fingerprint.of, part.path)):
        part.remove()
        raise web.Unanswered(problem)
    os.replace(part.path, part.target)
    part.note.unlink()


async def _receive(client: aiohttp.ClientSession, url: str, name: str, part: "Part", checksums: Checksums) -> None:
    """Receive missing bytes. A connection that breaks after some progress is no failure."""
    before = part.held
    try:
        async with web.answer(client, url, headers=part.rest()) as response:
            if response.status == 206:
                part.must_continue_with(response.headers)
            else:
                part.begin(url, _validator(response.headers), _announced(response, name, checksums))
            progress = Progress(name, part.size, part.held, megabytes)
            with part.path.open("ab") as file:
                async for chunk in response.content.iter_chunked(web.CHUNK):
                    file.write(chunk)
                    file.flush()  # a killed process keeps every written byte
                    progress.advance(len(chunk))
    except web.NoSuchRange:
        part.remove()
        raise
    except web.Passing:
        if part.held <= before:
            raise


def _validator(headers: Mapping[str, str]) -> str | None:
    """The header value that identifies this content: a strong ETag, else Last-Modified."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _announced(response: aiohttp.ClientResponse, name: str, checksums: Checksums) -> int:
    """The size in bytes that the server announces; it must match the record."""
    size, known = response.content_length, checksums.known.get(name)
    if response.content_type == "text/html" and not name.endswith((".html", ".htm")):
        raise web.Unanswered("a web page instead of the file")
    if "Content-Encoding" in response.headers and not name.endswith(".gz"):
        raise web.Unanswered("compressed on the way")
    if size is None:
        raise web.Unanswered("the server does not say how long it is")
    if known and size != known.size:
        raise web.Unanswered(f"it is {size} bytes; {checksums.path.name} says {known.size}")
    return size


class Part:
    """The partial download of `target`, with its address, validator and size."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path, self.note = (target.with_name(f".{target.name}.part{ending}") for ending in ("", ".json"))
        self.url = self.validator = self.size = None
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError):  # a damaged note: start anew
            said = json.loads(self.note.read_text())
            self.url, self.validator, self.size = said["url"], said["validator"], said["size"]

    @property
    def held(self) -> int:
        """Bytes on the disk."""
        return self.path.stat().st_size if self.path.exists() else 0

    def rest(self) -> dict[str, str]:
        """Request headers for the missing bytes, on condition that the file is unchanged."""
        held = self.held
        return {"Range": f"bytes={held}-", "If-Range": self.validator} if held and self.validator else {}

    def begin(self, url: str, validator: str | None, size: int) -> None:
        """Start a new content; discard the bytes held so far."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")  # before the note: no note may lie beside another content's bytes
        self.url, self.validator, self.size = url, validator, size
        with atomic(self.note) as path:
            path.write_text(json.dumps({"url": url, "validator": validator, "size": size}))

    def must_continue_with(self, headers: Mapping[str, str]) -> None:
        """Raise NoSuchRange unless the response continues these bytes of the same content."""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
        continues = match and (int(match[1]), int(match[2])) == (self.held, self.size)
        if not continues or (_validator(headers) or self.validator) != self.validator:
            raise web.NoSuchRange("another part of the file than asked for")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self.url = self.validator = self.size = None
