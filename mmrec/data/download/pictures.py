"""Product pictures from the addresses that a data set lists: fetched side by side, made small, each stored once."""

import asyncio
import hashlib
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pandas as pd
from PIL import Image

from mmrec.data.cleaning.decoding import NoPicture, thumbnail
from mmrec.data.cleaning.rows import SourceError
from mmrec.data.download import web
from mmrec.data.download.journal import Journal, Outcome
from mmrec.files import atomic, remove_leftovers
from mmrec.progress import Progress, report

MAX_BYTES = 20_000_000  # of a picture
WAITING = 4  # pictures on their way, or waiting to be decoded, for each connection
HOST_IS_GONE = 50  # addresses in a row that failed for passing reasons, each asked several times


def fetch_pictures(
    candidates: pd.DataFrame,
    folder: Path,
    *,
    per_host: int = 16,
    deadline: float = 30.0,
    trusted: Sequence[str] = (),
) -> pd.DataFrame:
    """The first usable picture of each item, made small, in folder/images/<2 hex>/<sha256 of the file>.jpg.

    `candidates` has item_id (str) and urls (list of str, the best first). At most `per_host` connections to a host are
    open at a time, and a request may take `deadline` seconds. Only public addresses are connected to, and those in
    `trusted` (as "127.0.0.1:8000").

    Returns item_id, image (path below images/, or empty), reason (why there is none: that of the best address), one row
    a candidate, in their order; also written to folder/pictures.csv.

    May be killed at any moment and called again, with other candidates too: an address that gave a picture, or never
    will (not found, no picture, ...), is in folder/pictures.jsonl and not asked again. One that failed for a passing
    reason (timeout, server error, no connection, ...) is asked a few times now, and again in the next call.

    Raises:
        SourceError: not one picture could be fetched, for passing reasons; the folder cannot be written to; or another
            process is at it.
    """
    try:
        with Journal(folder / "pictures.jsonl") as journal, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # image_files.MAX_PIXELS is stricter
            for place in (folder, *(folder / "images").glob("*")):
                remove_leftovers(place)
            fetch = asyncio.run(_fetch(candidates["urls"], folder / "images", journal, per_host, deadline, trusted))
        _tell(fetch)
        return _table(candidates, fetch.final | fetch.passing, folder / "pictures.csv")
    except OSError as error:
        raise SourceError(f"{folder} cannot be written to: {error}") from error


def _table(candidates: pd.DataFrame, outcomes: Mapping[str, Outcome], target: Path) -> pd.DataFrame:
    found = [_best(urls, outcomes) for urls in candidates["urls"]]
    table = pd.DataFrame(
        {
            "item_id": candidates["item_id"].to_numpy(),
            "image": [outcome.image for outcome in found],
            "reason": [outcome.reason for outcome in found],
        }
    )
    with atomic(target) as path:
        table.to_csv(path, index=False)
    return table


def _best(urls: Sequence[str], outcomes: Mapping[str, Outcome]) -> Outcome | None:
    """Of an item: the first picture, else the first reason; None while an address before that is open."""
    for url in urls:
        if url not in outcomes:
            return None
        if outcomes[url].image:
            return outcomes[url]
    return outcomes[urls[0]] if len(urls) else Outcome(reason="no address")


async def _fetch(
    items: Sequence[Sequence[str]],
    images: Path,
    journal: Journal,
    per_host: int,
    deadline: float,
    trusted: Sequence[str],
) -> "Fetch":
    timeout = aiohttp.ClientTimeout(total=deadline)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as decoders:
        async with web.session(timeout, trusted=trusted) as client:
            fetch = Fetch(client, decoders, images, journal, per_host)
            unknown = [urls for urls in items if _best(urls, fetch.final) is None]
            progress = Progress("pictures", len(items), len(items) - len(unknown))
            waiting = iter(unknown)
            await asyncio.gather(*(fetch.work(waiting, progress) for _ in range(WAITING * per_host)))
    return fetch


def _tell(fetch: "Fetch") -> None:
    counts = Counter(outcome.reason for outcome in fetch.passing.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    if reasons and not any(outcome.image for outcome in fetch.final.values()):
        raise SourceError(
            f"no picture could be fetched ({reasons}): run it again with a connection to the internet, or do without "
            f"pictures (image: null under the data set in params.yaml)"
        )
    if reasons:
        report(f"pictures: these addresses may answer another time, and are asked again in the next run: {reasons}")


class Fetch:
    """One run: who is asked, who was, and what came of it."""

    def __init__(
        self, client: aiohttp.ClientSession, decoders: Executor, images: Path, journal: Journal, per_host: int
    ) -> None:
        self.client, self.decoders, self.images, self.journal = client, decoders, images, journal
        self.final = {  # by address
            url: outcome
            for url, outcome in journal.outcomes.items()
            if not outcome.image or (images / outcome.image).is_file()
        }
        self.passing: dict[str, Outcome] = {}
        self._asked: dict[str, asyncio.Task[Outcome]] = {}
        self._connections = defaultdict(lambda: asyncio.Semaphore(per_host))  # by host
        self._failures: Counter[str] = Counter()  # by host: addresses in a row

    async def work(self, waiting: Iterator[Sequence[str]], progress: Progress) -> None:
        """Take items until none is left; of each, ask the addresses until one gives a picture."""
        for urls in waiting:
            for url in urls:
                if (await self._outcome(url)).image:
                    break
            progress.advance()

    async def _outcome(self, url: str) -> Outcome:
        if url in self.final:
            return self.final[url]
        if url not in self._asked:  # items may share a picture
            self._asked[url] = asyncio.create_task(self._ask(url))
        return await self._asked[url]

    async def _ask(self, url: str) -> Outcome:
        try:
            host = web.host_of(url)
            content = await self._patiently(url, host)
            loop = asyncio.get_running_loop()
            outcome = Outcome(image=await loop.run_in_executor(self.decoders, _store, self.images, content))
        except web.Passing as error:
            self.passing[url] = Outcome(reason=str(error))
            return self.passing[url]
        except (web.Unanswered, NoPicture) as error:
            outcome = Outcome(reason=str(error))
        self.final[url] = outcome
        self.journal.write(url, outcome)
        return outcome

    async def _patiently(self, url: str, host: str) -> bytes:
        """Its content, asked for a few times if need be, but not from a host that fails again and again."""
        if self._failures[host] >= HOST_IS_GONE:
            raise web.Passing("host is gone")
        try:
            content = await web.retrying()(self._content, url, host)
        except web.Unanswered as error:
            self._failures[host] = self._failures[host] + 1 if isinstance(error, web.Passing) else 0
            raise
        self._failures[host] = 0
        return content

    async def _content(self, url: str, host: str) -> bytes:
        content = bytearray()
        async with self._connections[host], web.answer(self.client, url) as response:
            async for chunk in response.content.iter_chunked(web.CHUNK):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise web.Unanswered("too many bytes")
        if not content:
            raise web.Unanswered("empty")
        return bytes(content)


def _store(images: Path, content: bytes) -> str:
    """Where the small picture made of `content` lies below `images`."""
    jpeg = thumbnail(content)
    digest = hashlib.sha256(jpeg).hexdigest()
    image = f"{digest[:2]}/{digest}.jpg"
    with atomic(images / image) as path:
        path.write_bytes(jpeg)
    return image
