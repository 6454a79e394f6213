"""Killed at twenty moments and started again: nothing is lost, nothing finished is asked for again, and the end is the
same as if nothing had happened."""

import io
import json
import multiprocessing
import random
import signal
import time
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import servers
from PIL import Image

from mmrec.data.download.files import Fingerprint, Part, download
from mmrec.data.download.pictures import fetch_pictures

KILLS = 20


@pytest.fixture(scope="module")
def processes():
    """New processes at little cost: they come from one that has imported everything."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MMREC_PROGRESS", "/dev/null")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["mmrec.data.download.files", "mmrec.data.download.pictures"])
        yield context


def run_and_kill(
    process, server: servers.Server, moments: random.Random, count: int, progress
) -> list[servers.Request]:
    """Kill it after the server has sent `count` bytes; what it asked for till then.

    Every other time, on the average, only once it has made something of them: when `progress()` has another value.
    """
    asked, before = len(server.requests), progress()
    server.allow(count)
    process.start()
    assert server.stopped.wait(60)
    if moments.random() < 0.5:
        limit = time.monotonic() + 60
        while progress() == before:
            assert time.monotonic() < limit
            time.sleep(0.001)
    time.sleep(moments.uniform(0, 0.02))  # the moment is to fall anywhere in what follows
    process.kill()
    process.join()
    server.release()
    assert process.exitcode == -signal.SIGKILL, "it was not in the middle of it"
    return server.requests[asked:]


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_download(processes, tmp_path):
    moments = random.Random(0)
    files = {
        name: random.Random(name).randbytes(size) for name, size in (("a", 400_000), ("b/c", 500_000), ("d", 9_000))
    }
    folder, checksums = tmp_path / "downloads", tmp_path / "checksums.json"

    def held() -> dict[str, int]:
        """Bytes on the disk of each file, whether it is in its place yet or not."""
        return {
            name: len(content) if (folder / name).exists() else Part(folder / name).held
            for name, content in files.items()
        }

    def lacking() -> dict[str, int]:
        """Files of which something is to be fetched, and from where on."""
        return {name: count for name, count in held().items() if count < len(files[name])}

    with servers.Server(files) as server:
        wanted = {name: [server.url(name)] for name in files}
        for _ in range(KILLS):
            before = lacking()
            process = processes.Process(target=download, args=(wanted, folder, checksums))
            for request in run_and_kill(process, server, moments, moments.randrange(5_000, 40_000), held):
                assert request.start == before.pop(request.path), "all there, asked for twice, or from another place"
        before, asked = lacking(), len(server.requests)
        assert before and sum(held().values()) > 0
        download(wanted, folder, checksums)
        assert sorted((request.path, request.start) for request in server.requests[asked:]) == sorted(before.items())
    assert contents(folder) == files
    assert json.loads(checksums.read_text()) == {name: asdict(Fingerprint.of(folder / name)) for name in files}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checksums.json", "downloads"]


def jpeg(seed: int) -> bytes:
    """About 3 kB."""
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((120, 100)).save(out, "JPEG", quality=60)
    return out.getvalue()


def finished(folder) -> set[str]:
    """Addresses of whole lines of the journal."""
    journal = folder / "pictures.jsonl"
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    return {json.loads(line)["url"] for line in lines}


def test_pictures(processes, tmp_path):
    moments = random.Random(1)
    count = 150
    names = [f"{number}.jpg" for number in range(count)]
    pictures = {name: jpeg(number % 120) for number, name in enumerate(names)}  # some contents twice
    faults = {name: servers.html() for name in names[::9]}
    folder, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    with servers.Server(pictures, faults) as server:
        urls = [[server.url(name), server.url(f"other/{name}")] for name in names]
        candidates = pd.DataFrame({"item_id": names, "urls": urls})
        options = {"per_host": 2, "trusted": [server.address]}
        fetch_pictures(candidates, undisturbed, **options)
        server.requests.clear()
        for _ in range(KILLS):
            before = finished(folder)
            process = processes.Process(target=fetch_pictures, args=(candidates, folder), kwargs=options)
            requests = run_and_kill(
                process, server, moments, moments.randrange(10_000, 16_000), lambda: finished(folder)
            )
            assert not before & {server.url(request.path) for request in requests}, "finished, and asked for again"
            assert before <= finished(folder), "finished, and forgotten"
        before, asked = finished(folder), len(server.requests)
        assert 0 < len(before) < count
        fetch_pictures(candidates, folder, **options)
        last = [server.url(request.path) for request in server.requests[asked:]]
        assert sorted(last) == sorted(finished(folder) - before), "each of the others, once"
    ends = contents(folder), contents(undisturbed)
    journals = [sorted(end.pop("pictures.jsonl").splitlines()) for end in ends]
    assert journals[0] == journals[1]
    assert ends[0] == ends[1]
