import asyncio
import hashlib
import io
import json
import socket

import numpy as np
import pandas as pd
import pytest
import servers
from PIL import Image
from shop_files import png_header

from mmrec.data.cleaning.images import thumbnail
from mmrec.data.download import pictures, web
from mmrec.data.download.pictures import fetch_pictures, journal
from mmrec.data.sources import SourceError


def jpeg(seed: int, size: tuple[int, int] = (300, 260)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(out, "JPEG")
    return out.getvalue()


A, B, C = jpeg(0), jpeg(1), jpeg(2)


def name_of(content: bytes) -> str:
    digest = hashlib.sha256(thumbnail(content)).hexdigest()
    return f"{digest[:2]}/{digest}.jpg"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(web, "PAUSE", 0.001)
    monkeypatch.setattr(web, "LONGEST_PAUSE", 0.002)


def fetch(server, folder, *items, **options) -> pd.DataFrame:
    """Each item is a string of paths, one letter each."""
    candidates = pd.DataFrame(
        {"item_id": list(items), "urls": [[server.url(path) for path in paths] for paths in items]}
    )
    return fetch_pictures(
        candidates, folder, **{"trusted": [server.address, servers.NOBODY], "deadline": 5.0} | options
    )


def stored(folder) -> dict[str, bytes]:
    images = folder / "images"
    return {str(path.relative_to(images)): path.read_bytes() for path in images.rglob("*") if path.is_file()}


def asked(server) -> str:
    return "".join(sorted(request.path for request in server.requests))


# --- what is fetched ---------------------------------------------------------------------------------------------


def test_the_table_is_in_the_order_of_candidates_and_on_disk(tmp_path):
    with servers.Server({"a": A, "b": B}) as server:
        table = fetch(server, tmp_path, "b", "x", "a", "")
    expected = [("b", name_of(B), ""), ("x", "", "not found"), ("a", name_of(A), ""), ("", "", "no address")]
    assert list(table.itertuples(index=False, name=None)) == expected
    on_disk = pd.read_csv(tmp_path / "pictures.csv", dtype=str, keep_default_na=False)
    assert list(on_disk.columns) == ["item_id", "image", "reason"]
    assert list(on_disk.itertuples(index=False, name=None)) == expected
    assert stored(tmp_path) == {name_of(A): thumbnail(A), name_of(B): thumbnail(B)}


def test_the_first_usable_picture_is_taken(tmp_path):
    with servers.Server({"a": A, "b": B, "c": C}, {"p": servers.html()}) as server:
        table = fetch(server, tmp_path, "ab", "xpcb", "px", "xp")
        assert asked(server) == "acpx"
    assert list(table["image"]) == [name_of(A), name_of(C), "", ""]
    assert list(table["reason"]) == ["", "", "a web page", "not found"]


def test_one_content_is_stored_once_and_one_address_asked_once(tmp_path):
    with servers.Server({"a": A, "b": A}) as server:
        table = fetch(server, tmp_path, "a", "b", "a", "xa")
        assert asked(server) == "abx"
    assert set(table["image"]) == {name_of(A)} and len(stored(tmp_path)) == 1


def test_a_second_run_sends_no_request_and_changes_nothing(tmp_path):
    with servers.Server({"a": A, "b": B}) as server:
        first = fetch(server, tmp_path, "a", "xb", "x", "")
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        second = fetch(server, tmp_path, "a", "xb", "x", "")
        assert asked(server) == "abx"
    pd.testing.assert_frame_equal(first, second)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_run_with_more_candidates_continues(tmp_path):
    with servers.Server({"a": A, "b": B, "c": C}) as server:
        fetch(server, tmp_path, "a", "b")
        table = fetch(server, tmp_path, "c", "a", "b")
        assert asked(server) == "abc"
    assert list(table["image"]) == [name_of(C), name_of(A), name_of(B)]


def test_a_removed_picture_is_fetched_again(tmp_path):
    with servers.Server({"a": A, "b": B}) as server:
        fetch(server, tmp_path, "a", "b")
        (tmp_path / "images" / name_of(A)).unlink()
        fetch(server, tmp_path, "a", "b")
        assert asked(server) == "aab"
    assert sorted(stored(tmp_path)) == sorted([name_of(A), name_of(B)])


def test_no_candidates(tmp_path):
    with servers.Server({}) as server:
        assert fetch(server, tmp_path).empty
    assert (tmp_path / "pictures.csv").read_text() == "item_id,image,reason\n"


# --- what goes wrong ---------------------------------------------------------------------------------------------

FINAL = {  # asked once, and never again
    "not found": servers.status(404),
    "not found (gone)": servers.status(410),
    "status 403": servers.status(403),
    "status 204": servers.status(204),
    "a web page": servers.html(),
    "a web page (with spaces before it)": servers.html(b"\n\n  <html><body>Robot check</body></html>"),
    "not an image": servers.says(servers.head(200, Content_Length=5) + b"words"),
    "truncated": servers.says(servers.head(200, Content_Length=len(A) - 900) + A[:-900]),
    "too large": servers.says(servers.head(200, Content_Length=57) + png_header(50_000, 50_000)),
    "too large (warned of)": servers.says(servers.head(200, Content_Length=57) + png_header(10_000, 10_000)),
    "empty": servers.says(servers.head(200, Content_Length=0)),
    "too many bytes": servers.endless,
    "too many bytes (unpacked)": servers.bomb(30_000_000),
    "unsupported scheme": servers.redirect("file:///etc/passwd"),
    "unsupported scheme (ftp)": servers.redirect("ftp://127.0.0.1/a"),
    "malformed address": servers.redirect("http://[::1/a"),
    "malformed address (no host)": servers.redirect("http:///a"),
    "redirect loop": servers.redirect("/f"),
    "private address": servers.redirect("http://127.0.0.1:9/a"),
    "private address (IPv6)": servers.redirect("http://[::1]:9/a"),
    "private address (mapped)": servers.redirect("http://[::ffff:127.0.0.1]:9/a"),
    "private address (link-local)": servers.redirect("http://169.254.169.254/latest/meta-data"),
    "private address (intranet)": servers.redirect("http://10.0.0.1/a"),
    "private address (a name)": servers.redirect("http://localhost:9/a"),
    "private address (in hex)": servers.redirect("http://0x7f000001:9/a"),
}
PASSING = {  # asked several times, and again in the next run
    "server error": servers.status(503),
    "too many requests": servers.status(429, Retry_After=3600),
    "no answer in time": servers.silent,
    "no answer in time (drip)": servers.drip,
    "connection lost": servers.cut(500),
    "connection lost (less than announced)": servers.announces(len(A) + 1),
    "connection lost (not compressed as it says)": servers.encoded(A),
    "malformed answer": servers.says(b"hello\r\n\r\n"),
    "malformed answer (more than announced)": servers.announces(len(A) - 900),
    "malformed answer (unknown compression)": servers.encoded(A, "br"),
    "malformed answer (endless head)": servers.says(b"HTTP/1.1 200 x\r\nX: " + b"x" * 100_000),
    "no connection": servers.redirect(f"http://{servers.NOBODY}/"),
}


def reason_of(case: str) -> str:
    return case.partition(" (")[0]


@pytest.mark.parametrize("case", FINAL)
def test_a_final_miss_is_counted_and_not_asked_for_again(tmp_path, case):
    with servers.Server({"f": A, "b": B}, {"f": FINAL[case]}) as server:
        for _ in range(2):
            table = fetch(server, tmp_path, "f", "fb")
            assert list(table["reason"]) == [reason_of(case), ""]
            assert list(table["image"]) == ["", name_of(B)]
        assert server.asked("f") == (web.REDIRECTS if case == "redirect loop" else 1)
    assert list(stored(tmp_path)) == [name_of(B)]


@pytest.mark.parametrize("case", PASSING)
def test_a_passing_miss_is_asked_for_again_a_few_times_and_in_the_next_run(tmp_path, case):
    faults = {"f": [PASSING[case]] * web.TRIES}
    with servers.Server({"f": A, "b": B}, faults) as server:
        table = fetch(server, tmp_path, "f", "b", deadline=0.2)
        assert list(table["reason"]) == [reason_of(case), ""]
        assert server.asked("f") == web.TRIES
        table = fetch(server, tmp_path, "f", "b")
        assert list(table["image"]) == [name_of(A), name_of(B)] and list(table["reason"]) == ["", ""]
        assert server.asked("f") == web.TRIES + 1 and server.asked("b") == 1


@pytest.mark.parametrize("case", PASSING)
def test_a_short_failure_costs_only_time(tmp_path, case):
    with servers.Server({"f": A}, {"f": [PASSING[case]] * (web.TRIES - 1)}) as server:
        table = fetch(server, tmp_path, "f", deadline=0.2)
    assert list(table["image"]) == [name_of(A)]


ADDRESSES = {
    "file:///etc/passwd": "unsupported scheme",
    "ftp://example.org/a.jpg": "unsupported scheme",
    "ws://example.org/a.jpg": "unsupported scheme",
    "data:image/png;base64,AAAA": "unsupported scheme",
    "javascript:alert(1)": "unsupported scheme",
    "/etc/passwd": "unsupported scheme",
    "//example.org/a.jpg": "unsupported scheme",
    "": "unsupported scheme",
    "http://": "malformed address",
    "http:///a.jpg": "malformed address",
    "http://[::1/a.jpg": "malformed address",
    "http://example.org:port/a.jpg": "malformed address",
    "http://example.org:99999/a.jpg": "malformed address",
    "http://a..b/a.jpg": "malformed address",
    f"http://{'a' * 70}.org/a.jpg": "malformed address",
    "http://exa mple.org/a.jpg": "malformed address",
    "http://\x00/a.jpg": "malformed address",
    "http://127.0.0.1:9/a.jpg": "private address",
    "http://0.0.0.0:9/a.jpg": "private address",
    "http://0:9/a.jpg": "malformed address",
    "http://2130706433:9/a.jpg": "malformed address",
    "http://0x7f000001:9/a.jpg": "private address",
    "http://192.168.0.1/a.jpg": "private address",
    "http://[fe80::1]/a.jpg": "private address",
    "http://[fd00::1]/a.jpg": "private address",
    "http://user:password@localhost:9/a.jpg": "private address",
    "HTTP://LOCALHOST:9/a.jpg": "private address",
}


@pytest.mark.parametrize("url", ADDRESSES)
def test_refused_addresses(tmp_path, url):
    table = fetch_pictures(pd.DataFrame({"item_id": ["i"], "urls": [[url]]}), tmp_path)
    assert list(table["reason"]) == [ADDRESSES[url]]


def test_nothing_private_is_connected_to_unless_it_is_trusted(tmp_path):
    with servers.Server({"a": A}) as server, servers.Server({"b": B}) as other:
        server.faults = {"f": servers.redirect(other.url("b"))}
        table = fetch(server, tmp_path, "f", "a")
        assert list(table["reason"]) == ["private address", ""] and not other.requests
        table = fetch(server, tmp_path / "new", "f", "a", trusted=[server.address, other.address])
        assert list(table["image"]) == [name_of(B), name_of(A)]


def test_a_public_name_of_a_private_address(tmp_path, monkeypatch):
    """What counts is where the connection goes, not what the name was or has resolved to before."""

    async def resolve(loop, host, port, **options):
        assert host == "pictures.example.org"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    with servers.Server({"a": A}) as server:
        url = server.url("a").replace("127.0.0.1", "pictures.example.org")
        table = fetch_pictures(pd.DataFrame({"item_id": ["i"], "urls": [[url]]}), tmp_path)
        assert not server.requests
        assert list(table["reason"]) == ["private address"]
        table = fetch_pictures(
            pd.DataFrame({"item_id": ["i"], "urls": [[url + "?"]]}), tmp_path, trusted=[server.address]
        )
        assert list(table["image"]) == [name_of(A)]


def test_an_unknown_host_name(tmp_path, monkeypatch):
    async def resolve(loop, host, port, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    with pytest.raises(SourceError, match=r"no picture could be fetched \(1 name not resolved\): run it again"):
        fetch_pictures(pd.DataFrame({"item_id": ["i"], "urls": [["http://example.org/a.jpg"]]}), tmp_path)
    assert not (tmp_path / "pictures.csv").exists()


def test_a_gone_host_is_not_asked_further(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "HOST_IS_GONE", 3)
    items = [f"f{number}" for number in range(50)]
    with servers.Server({"a": A}) as good, servers.Server({}, dict.fromkeys(items, servers.status(500))) as bad:
        candidates = pd.DataFrame({"item_id": ["a", *items], "urls": [[good.url("a")], *([bad.url(f)] for f in items)]})
        table = fetch_pictures(candidates, tmp_path, per_host=1, trusted=[good.address, bad.address])
    assert list(table["image"])[0] == name_of(A)
    reasons = table["reason"][1:].value_counts()
    assert set(reasons.index) == {"server error", "host is gone"} and reasons["host is gone"] >= 40


def test_a_host_with_some_answers_is_not_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "HOST_IS_GONE", 2)
    monkeypatch.setattr(pictures, "WAITING", 1)
    with servers.Server({"a": A}, {name: servers.status(500) for name in "pqrs"}) as server:
        table = fetch(server, tmp_path, "p", "a", "q", "x", "r", "f", "s", per_host=1)
    assert list(table["reason"]) == [
        "server error",
        "",
        "server error",
        "not found",
        "server error",
        "not found",
        "server error",
    ]


def test_temporary_failures_are_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("MMREC_PROGRESS", str(tmp_path / "progress"))
    with servers.Server({"a": A}, {"f": servers.status(500)}) as server:
        fetch(server, tmp_path / "pictures", "a", "f")
    first, last = (tmp_path / "progress").read_text().splitlines()
    assert first.startswith("pictures: 2/2, ") and last.endswith("asked again in the next run: 1 server error")


def test_a_limit_on_connections_to_a_host(tmp_path):
    names, at_once = "abcdefghijklmnop", []
    with servers.Server(dict.fromkeys(names, A), dict.fromkeys(names, servers.slowly(at_once))) as server:
        fetch(server, tmp_path, *names, per_host=3)
    assert max(at_once) == 3


def test_an_unwritable_folder(tmp_path):
    with servers.Server({"a": A}) as server:
        (tmp_path / "file").write_text("a file")
        with pytest.raises(SourceError, match="file cannot be written to"):
            fetch(server, tmp_path / "file", "a")
        (tmp_path / "images").write_text("a file")
        with pytest.raises(SourceError, match="cannot be written to"):
            fetch(server, tmp_path, "a")


# --- restarts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b'{"url": "http://x", "ima', b"{", '{"url": "é'.encode()[:-1]])
def test_a_cut_off_line_is_dropped(tmp_path, torn):
    with servers.Server({"a": A, "b": B, "c": C}) as server:
        fetch(server, tmp_path, "a", "b")
        with (tmp_path / "pictures.jsonl").open("ab") as file:
            file.write(torn)
        for _ in range(2):
            fetch(server, tmp_path, "a", "b", "c")
        assert asked(server) == "abc"
    assert len((tmp_path / "pictures.jsonl").read_bytes().splitlines()) == 3


def test_one_process_at_a_time(tmp_path):
    with journal(tmp_path / "pictures.jsonl"), servers.Server({"a": A}) as server:
        with pytest.raises(SourceError, match="is in use: another process fetches pictures"):
            fetch(server, tmp_path, "a")
        assert not server.requests


def test_leftovers_of_killed_writers_are_deleted(tmp_path):
    leftovers = [tmp_path / ".pictures.csv.1-1.tmp", tmp_path / "images" / "00" / ".x.jpg.1-1.tmp"]
    for path in leftovers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    with servers.Server({"a": A}) as server:
        fetch(server, tmp_path, "a")
    assert not any(path.exists() for path in leftovers) and list(stored(tmp_path)) == [name_of(A)]


def test_a_line_names_the_picture_of_an_address(tmp_path):
    with servers.Server({"a": A}) as server:
        fetch(server, tmp_path, "a")
        url = server.url("a")
    (line,) = (tmp_path / "pictures.jsonl").read_text().splitlines()
    assert json.loads(line) == {"url": url, "image": name_of(A), "reason": ""}
