"""Whole files from the providers' servers: resumed, verified, and the same for everybody.

A file on its way lies beside its place as `.<name>.part`, with what the server said of it in `.<name>.part.json`. It is
continued only where the server confirms that it still has that very file (If-Range): two versions are never glued
together.
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

from mmrec.data.cleaning.image_files import normalise
from mmrec.data.cleaning.rows import SourceError
from mmrec.data.download import web
from mmrec.files import atomic, remove_leftovers, sha256
from mmrec.progress import Progress, megabytes

CONNECTIONS = 2  # to one host
PROBE = 3.0  # seconds that a server has to accept a connection, where only its presence is asked for
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)  # seconds


@dataclass(frozen=True)
class Remote:
    """A file that can be fetched."""

    path: str  # where it goes, below the folder
    urls: tuple[str, ...]  # mirrors, tried in order


def download(files: Sequence[Remote], folder: Path, checksums: Path) -> None:
    """Fetch those of `files` that `folder` lacks; those already there, fetched or placed by hand, are verified.

    `checksums` is a JSON file, path -> {"sha256": .., "size": ..}: the first fetch of a file records what came, later
    ones are held to it. May be killed at any moment and called again: what is on the disk is not fetched again.

    Raises:
        SourceError: a file cannot be fetched, or is not the one that was recorded; the message says what to do.
    """
    for file in files:
        if normalise(file.path) != file.path or file.path == ".":
            raise SourceError(f"{file.path!r} is no path inside {folder}")
    try:
        problems = asyncio.run(_download(files, folder, Checksums(checksums)))
    except OSError as error:
        raise SourceError(f"{folder} cannot be written to: {error}") from error
    if problems:
        raise SourceError("; ".join(problems))


def unreachable(files: Sequence[Remote], folder: Path) -> str | None:
    """The first file that `folder` lacks and no server can be asked for, as one line; None if there is none."""
    for file in files:
        hosts = {urlsplit(url).netloc for url in file.urls}
        if not (folder / file.path).is_file() and not any(_answers(url) for url in file.urls):
            target = folder / file.path
            return f"{target.name} is not in {target.parent}, and {', '.join(sorted(hosts))} cannot be reached"
    return None


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    return _listens(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


@cache
def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=PROBE).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Fingerprint:
    """What tells a file from another."""

    sha256: str  # in hex
    size: int  # bytes

    @classmethod
    def of(cls, path: Path) -> "Fingerprint":
        return cls(sha256(path), path.stat().st_size)

    def __str__(self) -> str:
        return f"SHA-256 {self.sha256}, {self.size} bytes"


class Checksums:
    """The committed record of what each file is to be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        remove_leftovers(path.parent, path.name)
        try:
            self.known = {name: Fingerprint(**known) for name, known in json.loads(path.read_text()).items()}
        except FileNotFoundError:
            self.known = {}
        except (ValueError, TypeError, AttributeError):
            raise SourceError(f'{path} does not hold {{"file": {{"sha256": "..", "size": ..}}, ..}}') from None

    def problem(self, name: str, found: Fingerprint) -> str | None:
        """Why what was found is not `name`. None if it is, or if nothing was known of it; then it is recorded."""
        expected = self.known.get(name)
        if expected is None:
            self.known[name] = found
            with atomic(self.path) as path:
                table = {known: asdict(self.known[known]) for known in sorted(self.known)}
                path.write_text(json.dumps(table, indent=1) + "\n")
        elif found != expected:
            return f"it is {found}; {self.path.name} says {expected}"
        return None


async def _download(files: Sequence[Remote], folder: Path, checksums: Checksums) -> list[str]:
    """What went wrong, a line for each file."""
    async with web.session(TIMEOUT, per_host=CONNECTIONS, decode=False) as client:
        results = await asyncio.gather(*(_one(client, file, folder, checksums) for file in files))
    return [problem for problem in results if problem]


async def _one(client: aiohttp.ClientSession, file: Remote, folder: Path, checksums: Checksums) -> str | None:
    target = folder / file.path
    remove_leftovers(target.parent, Part(target).note.name)
    if target.exists():
        Part(target).remove()
        problem = checksums.problem(file.path, await asyncio.to_thread(Fingerprint.of, target))
        return problem and (
            f"{target} is another file than expected: {problem}. Remove it to fetch it anew; if it is the provider's "
            f"new release, and you want that, remove its entry from {checksums.path}"
        )
    problems = []
    for url in file.urls:
        try:
            await _from(client, url, file.path, Part(target), checksums)
            return None
        except web.Unanswered as error:
            problems.append(f"{url}: {error}")
    return f"{file.path} cannot be fetched ({'; '.join(problems)}): get it elsewhere and place it as {target}"


async def _from(client: aiohttp.ClientSession, url: str, name: str, part: "Part", checksums: Checksums) -> None:
    """Fetch, verify and put in place. Tries are counted anew whenever something came."""
    if part.url != url:  # another mirror's
        part.remove()
    while not await web.retrying()(_continue, client, url, name, part, checksums):
        await asyncio.sleep(web.PAUSE)
    problem = checksums.problem(name, await asyncio.to_thread(Fingerprint.of, part.path))
    if problem:
        part.remove()
        raise web.Unanswered(problem)
    part.finish()


async def _continue(client: aiohttp.ClientSession, url: str, name: str, part: "Part", checksums: Checksums) -> bool:
    """True when the part is the whole; False when the connection broke, but something had come."""
    before = part.held
    try:
        if not part.is_whole:
            await _receive(client, url, name, part, checksums)
    except web.NoSuchRange:
        part.remove()
        raise
    except web.Passing:
        if part.held <= before:
            raise
    return part.is_whole


async def _receive(client: aiohttp.ClientSession, url: str, name: str, part: "Part", checksums: Checksums) -> None:
    async with web.answer(client, url, headers=part.rest()) as response:
        if response.status == 206:
            part.must_continue_with(response.headers)
        else:
            part.begin(url, _validator(response.headers), _announced(response, name, checksums))
        progress = Progress(name, part.size, part.held, megabytes)
        with part.path.open("ab") as file:
            async for chunk in response.content.iter_chunked(web.CHUNK):
                file.write(chunk)
                file.flush()  # a killed process loses nothing that it has written
                progress.advance(len(chunk))


def _validator(headers: Mapping[str, str]) -> str | None:
    """By which the server knows this very content again."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _announced(response: aiohttp.ClientResponse, name: str, checksums: Checksums) -> int:
    """Its size in bytes, which must be that of the file wanted."""
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
    """A file on its way to `target`, and what its server said of it."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.part")
        self.note = target.with_name(f".{target.name}.part.json")
        self.url = self.validator = self.size = None
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError):  # then it is begun anew
            said = json.loads(self.note.read_text())
            self.url, self.validator, self.size = said["url"], said["validator"], said["size"]

    @property
    def held(self) -> int:
        """Bytes on the disk."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def is_whole(self) -> bool:
        return self.held == self.size

    def rest(self) -> dict[str, str]:
        """Request headers that ask for what is lacking, provided that the file is still the same."""
        if not (self.held and self.validator):
            return {}
        return {"Range": f"bytes={self.held}-", "If-Range": self.validator}

    def begin(self, url: str, validator: str | None, size: int) -> None:
        """Throw away what is held, for another content comes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")  # before the note, so that never is a note beside bytes of another content
        self.url, self.validator, self.size = url, validator, size
        with atomic(self.note) as path:
            path.write_text(json.dumps({"url": url, "validator": validator, "size": size}))

    def must_continue_with(self, headers: Mapping[str, str]) -> None:
        """Nothing if what the server sends begins where this ends, and is of the same content."""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
        if (
            match is None
            or (int(match[1]), int(match[2])) != (self.held, self.size)
            or (_validator(headers) or self.validator) != self.validator
        ):
            raise web.NoSuchRange("another part of the file than asked for")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self.url = self.validator = self.size = None

    def finish(self) -> None:
        """It is whole: put it in its place."""
        os.replace(self.path, self.target)
        self.note.unlink()
