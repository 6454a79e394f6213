"""Product pictures: fetched concurrently, stored as thumbnails, each once."""

import asyncio
import fcntl
import hashlib
import json
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pandas as pd
from PIL import Image

from mmrec.data.cleaning.images import NoPicture, thumbnail
from mmrec.data.cleaning.rows import SourceError
from mmrec.data.download import web
from mmrec.files import atomic, remove_leftovers
from mmrec.progress import Progress, report

MAX_BYTES = 20_000_000  # bytes of a picture
WAITING = 4  # pictures in flight or waiting to be decoded, per connection
HOST_IS_GONE = 50  # consecutive addresses that failed for temporary reasons, after all tries


class Outcome(NamedTuple):
    """The result of asking one address: the picture's path below images/, or the reason why there is none."""

    image: str = ""
    reason: str = ""


Write = Callable[[str, Outcome], None]


@contextmanager
def journal(path: Path) -> Iterator[tuple[dict[str, Outcome], Write]]:
    """The recorded final outcomes by address, and a function that appends one. One process at a time holds the file.

    An outcome is one JSON line, so that a killed writer loses one line at most.

    Raises SourceError: another process holds the file, or a line is damaged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SourceError(f"{path} is in use: another process fetches pictures into {path.parent}") from None
        file.seek(0)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        os.ftruncate(file.fileno(), whole)  # a half-written line would spoil the next one
        outcomes = {}
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                entry = json.loads(line)
                url = entry.pop("url")
                outcomes[url] = Outcome(**entry)
            except (ValueError, TypeError, KeyError, AttributeError):
                raise SourceError(f"{path.name}:{number} is damaged: remove {path} to begin anew") from None

        def write(url: str, outcome: Outcome) -> None:
            file.write(json.dumps({"url": url, **outcome._asdict()}).encode() + b"\n")
            file.flush()

        yield outcomes, write


def fetch_pictures(
    candidates: pd.DataFrame, folder: Path, *, per_host: int = 16, deadline: float = 30.0, trusted: Sequence[str] = ()
) -> pd.DataFrame:
    """Fetch the first usable picture of each item to folder/images/<2 hex>/<sha256 of the thumbnail>.jpg.

    A killed run resumes at the next call, also with other candidates. Final outcomes (a picture, not found, ...) are
    kept in folder/pictures.jsonl and not asked again. Temporary failures (timeout, server error, no connection, ...)
    are retried a few times now, and again in the next call.

    `candidates` has item_id (str) and urls (list of str, best first). At most `per_host` connections to a host are open
    at a time; a request may take `deadline` seconds. Addresses must be public, or `trusted` (as "127.0.0.1:8000").

    Returns item_id, image (path below images/, or empty) and reason (of the best address, if there is no picture), a
    row a candidate, in the same order. folder/pictures.csv holds the same table.

    Raises SourceError: all addresses failed for temporary reasons, the folder cannot be written to, or another process
    fetches into it.
    """
    try:
        with journal(folder / "pictures.jsonl") as (known, write), warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # images.MAX_PIXELS is stricter
            for place in (folder, *(folder / "images").glob("*")):
                remove_leftovers(place)
            fetch = Fetch(folder / "images", known, write, per_host)
            asyncio.run(fetch.run(candidates["urls"], aiohttp.ClientTimeout(total=deadline), trusted))
        counts = Counter(outcome.reason for outcome in fetch.passing.values())
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        if reasons and not any(outcome.image for outcome in fetch.final.values()):
            mend = "run it again with a connection to the internet, or do without pictures"
            key = "image: null under the data set in params.yaml"
            raise SourceError(f"no picture could be fetched ({reasons}): {mend} ({key})")
        if reasons:
            report(f"pictures: these addresses may answer another time, and are asked again in the next run: {reasons}")
        outcomes = fetch.final | fetch.passing
        table = pd.DataFrame([_best(urls, outcomes) for urls in candidates["urls"]], columns=Outcome._fields)
        table.insert(0, "item_id", candidates["item_id"].to_numpy())
        with atomic(folder / "pictures.csv") as path:
            table.to_csv(path, index=False)
        return table
    except OSError as error:
        raise SourceError(f"{folder} cannot be written to: {error}") from error


def _best(urls: Sequence[str], outcomes: Mapping[str, Outcome]) -> Outcome | None:
    """An item's first picture, else its first reason; None while an earlier address is undecided."""
    for url in urls:
        if url not in outcomes:
            return None
        if outcomes[url].image:
            return outcomes[url]
    return outcomes[urls[0]] if len(urls) else Outcome(reason="no address")


class Fetch:
    """One run: the addresses asked so far, and their outcomes."""

    def __init__(self, images: Path, known: Mapping[str, Outcome], write: Write, per_host: int) -> None:
        self.images, self.write, self.per_host = images, write, per_host
        self.final = {  # by address; a picture that somebody removed is fetched again
            url: found for url, found in known.items() if not found.image or (images / found.image).is_file()
        }
        self.passing: dict[str, Outcome] = {}
        self._asked: dict[str, asyncio.Task[Outcome]] = {}
        self._connections = defaultdict(lambda: asyncio.Semaphore(per_host))  # by host
        self._failures: Counter[str] = Counter()  # by host: consecutive addresses

    async def run(self, items: Sequence[Sequence[str]], timeout: aiohttp.ClientTimeout, trusted: Sequence[str]) -> None:
        """Ask the addresses of every item that lacks an outcome."""
        unknown = [urls for urls in items if _best(urls, self.final) is None]
        progress = Progress("pictures", len(items), len(items) - len(unknown))
        waiting = iter(unknown)

        async def work() -> None:
            for urls in waiting:  # shared by all workers
                for url in urls:
                    if url not in self._asked:  # items may share a picture
                        self._asked[url] = asyncio.create_task(self._outcome(url))
                    if (await self._asked[url]).image:
                        break
                progress.advance()

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as self._decoders:
            async with web.session(timeout, trusted=trusted) as self._client:
                await asyncio.gather(*(work() for _ in range(WAITING * self.per_host)))

    async def _outcome(self, url: str) -> Outcome:
        if url in self.final:
            return self.final[url]
        try:
            content = await self._content(url, web.host_of(url))
            loop = asyncio.get_running_loop()
            outcome = Outcome(image=await loop.run_in_executor(self._decoders, _store, self.images, content))
        except web.Passing as error:
            self.passing[url] = Outcome(reason=str(error))
            return self.passing[url]
        except (web.Unanswered, NoPicture) as error:
            outcome = Outcome(reason=str(error))
        self.final[url] = outcome
        self.write(url, outcome)
        return outcome

    async def _content(self, url: str, host: str) -> bytes:
        """The content at `url`, with retries, unless the host has failed too often."""
        if self._failures[host] >= HOST_IS_GONE:
            raise web.Passing("host is gone")
        try:
            content = await web.retrying()(self._receive, url, host)
        except web.Unanswered as error:
            self._failures[host] = self._failures[host] + 1 if isinstance(error, web.Passing) else 0
            raise
        self._failures[host] = 0
        return content

    async def _receive(self, url: str, host: str) -> bytes:
        content = bytearray()
        async with self._connections[host], web.answer(self._client, url) as response:
            async for chunk in response.content.iter_chunked(web.CHUNK):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise web.Unanswered("too many bytes")
        if not content:
            raise web.Unanswered("empty")
        return bytes(content)


def _store(images: Path, content: bytes) -> str:
    """Store the thumbnail of `content`; returns its path below `images`."""
    jpeg = thumbnail(content)
    digest = hashlib.sha256(jpeg).hexdigest()
    image = f"{digest[:2]}/{digest}.jpg"
    with atomic(images / image) as path:
        path.write_bytes(jpeg)
    return image
