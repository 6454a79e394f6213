import hashlib
import json
import random

import pytest
import servers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmrec.data.download import web
from mmrec.data.download.files import Checksums, Fingerprint, Part, download
from mmrec.data.sources import SourceError

BYTES = random.Random(0).randbytes(100_000)
OTHER = random.Random(1).randbytes(100_000)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(web, "PAUSE", 0.001)
    monkeypatch.setattr(web, "LONGEST_PAUSE", 0.002)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "downloads"


@pytest.fixture
def checksums(tmp_path):
    return tmp_path / "checksums.json"


def fingerprint(content: bytes) -> dict:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def know(checksums, **contents: bytes) -> None:
    checksums.write_text(json.dumps({name: fingerprint(content) for name, content in contents.items()}))


def fetch(server, folder, checksums, *names: str) -> None:
    download({name: [server.url(name)] for name in names or ("a",)}, folder, checksums)


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def starts(server) -> list[int]:
    return [request.start for request in server.requests]


# --- what is fetched and recorded --------------------------------------------------------------------------------


def test_the_first_fetch_records_and_the_second_asks_for_nothing(folder, checksums):
    with servers.Server({"b": OTHER, "sub/a": BYTES, "empty": b""}) as server:
        for _ in range(2):
            fetch(server, folder, checksums, "sub/a", "b", "empty")
        assert len(server.requests) == 3
    assert (folder / "sub" / "a").read_bytes() == BYTES
    assert (folder / "b").read_bytes() == OTHER
    assert files(folder) == ["a", "b", "empty"]
    expected = {"b": fingerprint(OTHER), "empty": fingerprint(b""), "sub/a": fingerprint(BYTES)}
    assert checksums.read_text() == json.dumps(expected, indent=1) + "\n"


def test_a_recorded_checksum_is_enforced(folder, checksums):
    know(checksums, a=OTHER)
    with servers.Server({"a": BYTES}) as server, pytest.raises(SourceError) as error:
        fetch(server, folder, checksums)
    expected, got = fingerprint(OTHER)["sha256"], fingerprint(BYTES)["sha256"]
    assert f"it is SHA-256 {got}, 100000 bytes; checksums.json says SHA-256 {expected}" in str(error.value)
    assert f"place it as {folder / 'a'}" in str(error.value)
    assert files(folder) == []


def test_another_size_is_refused_before_anything_is_transferred(folder, checksums):
    know(checksums, a=BYTES + b"x")
    with servers.Server({"a": BYTES}) as server:
        server.allow(5000)
        with pytest.raises(SourceError, match="it is 100000 bytes; checksums.json says 100001"):
            fetch(server, folder, checksums)
        server.release()
    assert files(folder) == []


def test_a_placed_file_is_recorded_without_a_request(folder, checksums):
    folder.mkdir()
    (folder / "a").write_bytes(BYTES)
    with servers.Server({}) as server:
        fetch(server, folder, checksums)
        assert not server.requests
    assert json.loads(checksums.read_text()) == {"a": fingerprint(BYTES)}


def test_a_placed_file_must_match_its_checksum(folder, checksums):
    know(checksums, a=OTHER)
    before = checksums.read_text()
    folder.mkdir()
    (folder / "a").write_bytes(BYTES)
    with servers.Server({"a": OTHER}) as server, pytest.raises(SourceError) as error:
        fetch(server, folder, checksums)
    message = str(error.value)
    assert "\n" not in message and f"{folder / 'a'} is another file than expected" in message
    assert fingerprint(OTHER)["sha256"] in message and fingerprint(BYTES)["sha256"] in message
    assert "Remove it to fetch it anew" in message and f"remove its entry from {checksums}" in message
    assert (folder / "a").read_bytes() == BYTES and checksums.read_text() == before


def test_a_placed_file_takes_the_place_of_one_on_its_way(folder, checksums):
    with servers.Server({"a": BYTES}, {"a": [servers.cut(10), *[servers.status(404)] * 9]}) as server:
        with pytest.raises(SourceError):
            fetch(server, folder, checksums)
        assert files(folder) == [".a.part", ".a.part.json"]
        (folder / "a").write_bytes(BYTES)
        fetch(server, folder, checksums)
    assert files(folder) == ["a"]


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"sha256": "x"}}', "\xff"])
def test_damaged_checksums(folder, checksums, text):
    checksums.write_bytes(text.encode("latin-1"))
    with pytest.raises(SourceError, match="checksums.json does not hold"):
        Checksums(checksums)


# --- resuming ----------------------------------------------------------------------------------------------------


def test_a_broken_download_resumes_at_its_last_byte(folder, checksums):
    with servers.Server({"a": BYTES}, {"a": [servers.cut(30_000), servers.cut(50_000)]}) as server:
        fetch(server, folder, checksums)
        assert starts(server) == [0, 30_000, 80_000]
    assert (folder / "a").read_bytes() == BYTES


def test_more_breaks_than_tries_do_not_matter_while_something_comes(folder, checksums):
    with servers.Server({"a": BYTES}, {"a": [servers.cut(1000)] * (3 * web.TRIES)}) as server:
        fetch(server, folder, checksums)
    assert (folder / "a").read_bytes() == BYTES


def test_a_later_call_continues(folder, checksums):
    faults = {"a": [servers.cut(30_000), *[servers.status(500)] * web.TRIES]}
    with servers.Server({"a": BYTES}, faults) as server:
        with pytest.raises(SourceError):
            fetch(server, folder, checksums)
        fetch(server, folder, checksums)
        assert starts(server) == [0, *[30_000] * (web.TRIES + 1)]
    assert (folder / "a").read_bytes() == BYTES and files(folder) == ["a"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(cuts=st.lists(st.integers(0, len(BYTES)), max_size=6), changes=st.integers(0, 8))
def test_two_versions_of_a_file_are_never_joined(tmp_path_factory, cuts, changes):
    """The file changes at one of the requests; never is a piece of the old one glued to one of the new one."""
    folder = tmp_path_factory.mktemp("cuts")
    content = {"a": OTHER}

    def changing(count):
        async def answer(request, _):
            if len(server.requests) > changes:
                content["a"] = BYTES
            async for part in servers.cut(count)(request, content["a"]):
                yield part

        return answer

    with servers.Server(content, {"a": [changing(count) for count in cuts]}) as server:
        for _ in range(len(cuts) + 1):
            try:
                fetch(server, folder, folder / "checksums.json")
                break
            except SourceError:
                pass
    assert (folder / "a").read_bytes() == content["a"]
    assert files(folder) == ["a", "checksums.json"]


def test_a_changed_file_is_fetched_from_its_beginning(folder, checksums):
    content = {"a": OTHER}

    async def change(request, _):
        content["a"] = BYTES
        async for part in servers.whole(request, BYTES):
            yield part

    with servers.Server(content, {"a": [servers.cut(30_000), change]}) as server:
        fetch(server, folder, checksums)
        assert starts(server) == [0, 30_000]
    assert (folder / "a").read_bytes() == BYTES


def test_without_a_validator_nothing_is_continued(folder, checksums):
    def untagged(count):
        return servers.says(servers.head(200, Content_Length=len(BYTES)) + OTHER[:count])

    faults = {"a": [untagged(30_000), servers.ignoring_ranges()]}
    with servers.Server({"a": BYTES}, faults) as server:
        fetch(server, folder, checksums)
        assert starts(server) == [0, 0]
    assert (folder / "a").read_bytes() == BYTES


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({"ETag": '"new"'}, '"new"'),
        ({"ETag": 'W/"weak"', "Last-Modified": "Mon, 01 Jan 2018 00:00:00 GMT"}, "Mon, 01 Jan 2018 00:00:00 GMT"),
        ({"ETag": 'W/"weak"'}, None),  # two contents may share it
    ],
)
def test_strong_etag_or_last_modified_is_the_validator(folder, checksums, headers, sent):
    first = servers.says(servers.head(200, Content_Length=len(BYTES), **headers) + BYTES[:100])
    with servers.Server({"a": BYTES}, {"a": [first]}) as server:
        fetch(server, folder, checksums)
        assert server.requests[1].headers.get("if-range") == sent
    assert (folder / "a").read_bytes() == BYTES


def part_of(content: bytes, **headers: object) -> servers.Answer:
    return servers.says(servers.head(206, Content_Length=len(content), **headers) + content)


@pytest.mark.parametrize(
    "wrong",
    [
        part_of(OTHER[99:], Content_Range="bytes 99-99999/100000"),
        part_of(OTHER[100:], Content_Range="bytes 100-99999/100001"),
        part_of(OTHER[100:], Content_Range="bytes 100-99999/100000", ETag='"another"'),
        part_of(OTHER[100:], Content_Range="bytes 100-99999/*"),
        part_of(OTHER[100:]),
        servers.status(416),
    ],
)
def test_a_wrong_part_is_not_glued_on(folder, checksums, wrong):
    with servers.Server({"a": BYTES}, {"a": [servers.cut(100), wrong]}) as server:
        fetch(server, folder, checksums)
        assert starts(server) == [0, 100, 0]
    assert (folder / "a").read_bytes() == BYTES


def test_a_whole_part_is_not_asked_for_again(folder, checksums):
    part = Part(folder / "a")
    with servers.Server({"a": BYTES}) as server:
        part.begin(server.url("a"), '"tag"', len(BYTES))
        part.path.write_bytes(BYTES)
        fetch(server, folder, checksums)
        assert not server.requests
    assert files(folder) == ["a"]


def test_bytes_of_one_content_are_never_beside_the_note_of_another(folder, checksums, monkeypatch):
    """Whatever step of starting anew is the last one."""
    part = Part(folder / "a")
    part.begin("http://old", '"old"', 10)
    part.path.write_bytes(b"old bytes")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mmrec.data.download.files.atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        Part(folder / "a").begin("http://new", '"new"', 20)
    after = Part(folder / "a")
    assert (after.url, after.held, after.rest()) == ("http://old", 0, {})


def test_a_damaged_note_costs_a_fetch_and_no_more(folder, checksums):
    folder.mkdir()
    (folder / ".a.part").write_bytes(OTHER[:50])
    (folder / ".a.part.json").write_text("{")
    with servers.Server({"a": BYTES}) as server:
        fetch(server, folder, checksums)
    assert (folder / "a").read_bytes() == BYTES and files(folder) == ["a"]


def test_leftovers_of_killed_writers_are_deleted(folder, checksums):
    folder.mkdir()
    for name in (folder / "..a.part.json.1.tmp", checksums.with_name(".checksums.json.1.tmp")):
        name.write_text("half")
    with servers.Server({"a": BYTES}) as server:
        fetch(server, folder, checksums)
    assert files(checksums.parent) == ["a", "checksums.json"]


# --- servers that fail -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [500, 502, 503, 429, 408])
def test_passing_failures_are_tried_again(folder, checksums, code):
    faults = {"a": [servers.status(code, Retry_After=3600)] * (web.TRIES - 1)}
    with servers.Server({"a": BYTES}, faults) as server:
        fetch(server, folder, checksums)
        assert len(server.requests) == web.TRIES
    assert (folder / "a").read_bytes() == BYTES


def test_mirrors_are_tried_in_their_order(folder, checksums):
    with servers.Server(
        {"a": OTHER, "c": BYTES, "d": OTHER}, {"a": servers.cut(0), "b": servers.status(404)}
    ) as server:
        download({"x": list(map(server.url, "abcd"))}, folder, checksums)
        assert [request.path for request in server.requests] == [*["a"] * web.TRIES, "b", "c"]
    assert (folder / "x").read_bytes() == BYTES


def test_a_part_of_one_mirror_is_not_continued_at_another(folder, checksums):
    with servers.Server({"a": OTHER, "b": BYTES}, {"a": [servers.cut(99), servers.status(404)]}) as server:
        download({"x": [server.url("a"), server.url("b")]}, folder, checksums)
        assert starts(server) == [0, 99, 0]
    assert (folder / "x").read_bytes() == BYTES


def test_without_internet_the_error_names_files_and_places(folder, checksums):
    first, second = (f"http://{servers.NOBODY}/{name}" for name in "ab")
    with pytest.raises(SourceError) as error:
        download({"sub/a.gz": [first, second], "b": [second]}, folder, checksums)
    message = str(error.value)
    assert "\n" not in message
    assert f"sub/a.gz cannot be fetched ({first}: no connection; {second}: no connection): " in message
    assert f"get it elsewhere and place it as {folder / 'sub' / 'a.gz'}; b cannot be fetched" in message
    assert not checksums.exists()


def test_one_failed_file_does_not_stop_the_others(folder, checksums):
    with servers.Server({"b": BYTES}) as server:
        with pytest.raises(SourceError, match="^a cannot be fetched"):
            fetch(server, folder, checksums, "a", "b")
    assert (folder / "b").read_bytes() == BYTES and list(json.loads(checksums.read_text())) == ["b"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (servers.html(), "a web page instead of the file"),
        (servers.without_length(), "the server does not say how long it is"),
        (servers.encoded(BYTES), "compressed on the way"),
        (servers.status(403), "status 403"),
        (servers.status(404), "not found"),
        (servers.redirect("file:///etc/passwd"), "unsupported scheme"),
        (servers.redirect("/a"), "redirect loop"),
        (servers.announces(len(BYTES) + 1), "connection lost"),
        (servers.says(b"what?\r\n\r\n"), "malformed answer"),
    ],
)
def test_reasons(folder, checksums, fault, reason):
    with servers.Server({"a": BYTES}, {"a": fault}) as server, pytest.raises(SourceError) as error:
        fetch(server, folder, checksums)
    assert f"a cannot be fetched ({server.url('a')}: {reason})" in str(error.value)
    assert not (folder / "a").exists() and not checksums.exists()


def test_a_gzip_file_may_have_a_content_encoding(folder, checksums):
    with servers.Server({"a.gz": BYTES}, {"a.gz": servers.encoded(BYTES)}) as server:
        fetch(server, folder, checksums, "a.gz")
    assert (folder / "a.gz").read_bytes() == BYTES


def test_a_silent_server(folder, checksums, monkeypatch):
    monkeypatch.setattr("mmrec.data.download.files.TIMEOUT", web.aiohttp.ClientTimeout(total=None, sock_read=0.05))
    with servers.Server({}, {"a": servers.silent}) as server, pytest.raises(SourceError, match="no answer in time"):
        fetch(server, folder, checksums)
    assert len(server.requests) == web.TRIES


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "ws://127.0.0.1/a", "/etc/passwd", ""])
def test_only_http(folder, checksums, url):
    with pytest.raises(SourceError, match="unsupported scheme"):
        download({"a": [url]}, folder, checksums)


@pytest.mark.parametrize("path", ["../a", "/tmp/a", "b/../../a", "b\\..\\a", "C:\\a", "", ".", "b//a", "./a"])
def test_no_path_leaves_the_folder(folder, checksums, path):
    with servers.Server({"a": BYTES}) as server, pytest.raises(SourceError, match="is no path inside"):
        download({path: [server.url("a")]}, folder, checksums)
    assert not server.requests and not folder.exists()


def test_an_unwritable_folder(folder, checksums):
    folder.write_text("a file")
    with servers.Server({"a": BYTES}) as server, pytest.raises(SourceError, match="downloads cannot be written to"):
        fetch(server, folder, checksums)


def test_a_connection_limit(folder, checksums):
    names, at_once = "abcdefghijklmnop", []
    with servers.Server(dict.fromkeys(names, BYTES), dict.fromkeys(names, servers.slowly(at_once))) as server:
        fetch(server, folder, checksums, *names)
    assert max(at_once) == 2


def test_progress_has_rate_and_time_left(folder, checksums, monkeypatch, tmp_path):
    monkeypatch.setenv("MMREC_PROGRESS", str(tmp_path / "progress"))
    monkeypatch.setattr("mmrec.progress.SECONDS_BETWEEN_LINES", 0.0)
    with servers.Server({"a": BYTES}) as server:
        fetch(server, folder, checksums)
    first, *_, last = (tmp_path / "progress").read_text().splitlines()
    assert first.startswith("a: 0.") and first.endswith("left") and "MB/s" in first
    assert last.startswith("a: 0.1 MB/0.1 MB") and "in 0:00:00" in last


def test_a_fingerprint_is_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(BYTES)
    assert Fingerprint.of(tmp_path / "a") == Fingerprint(**fingerprint(BYTES))
