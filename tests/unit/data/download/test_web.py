import asyncio

import aiohttp
import pytest
import servers

from mmrec.data.download import web


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),  # of a provider's own network
        ("127.0.0.1", False),
        ("127.8.9.1", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("172.32.0.1", True),
        ("192.168.1.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fc00::1", False),
        ("fe80::1%eth0", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("2002:7f00:1::", False),  # 6to4 of 127.0.0.1
        ("2002:5db8:d70e::", True),
        ("64:ff9b::127.0.0.1", False),  # NAT64
        ("64:ff9b::93.184.215.14", True),
    ],
)
def test_public_and_private_addresses(address, public):
    assert web._is_public(address) is public


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://a.org/x", "a.org"),
        ("https://a.org:8443/x?y#z", "a.org:8443"),
        ("HTTP://A.org", "A.org"),
        ("http://[::1]:80/", "[::1]:80"),
    ],
)
def test_the_host_of_an_address(url, host):
    assert web.host_of(url) == host


def pauses(error: web.Passing) -> list[float]:
    """Those between the tries of something that always fails."""
    taken = []

    async def fail() -> None:
        raise error

    async def sleep(seconds: float) -> None:
        taken.append(seconds)

    with pytest.raises(type(error)):
        asyncio.run(web.retrying().copy(sleep=sleep)(fail))
    return taken


def test_pauses_grow_and_differ_by_chance():
    several = [pauses(web.Passing("server error")) for _ in range(20)]
    for taken in several:
        assert len(taken) == web.TRIES - 1
        assert all(2**number <= pause <= 2 ** (number + 1) for number, pause in enumerate(taken))
    assert len({taken[0] for taken in several}) == 20


def test_a_server_may_ask_for_a_longer_pause():
    assert pauses(web.Passing("too many requests", 30.0)) == [30.0] * (web.TRIES - 1)
    assert pauses(web.Passing("too many requests", 3600.0)) == [web.LONGEST_PAUSE] * (web.TRIES - 1)


def test_permanent_failures_are_not_tried_again():
    assert pauses(web.Unanswered("not found")) == []


@pytest.mark.parametrize(
    ("sent", "seconds"), [("7", 7.0), ("soon", 0.0), ("-1", 0.0), ("", 0.0), ("²", 0.0), (None, 0.0)]
)
def test_retry_after_sets_the_pause(sent, seconds):
    headers = {} if sent is None else {"Retry-After": sent}

    async def ask(url: str) -> None:
        async with web.session(aiohttp.ClientTimeout(total=5)) as client, web.answer(client, url):
            pass

    async def answer(request, content):
        yield servers.head(429, Content_Length=0, **headers).decode().encode("latin-1")

    with servers.Server({"a": b""}, {"a": answer}) as server, pytest.raises(web.Passing) as error:
        asyncio.run(ask(server.url("a")))
    assert str(error.value) == "too many requests" and error.value.pause == seconds


def test_requests_send_agent_and_no_cookies():
    async def ask(*urls: str) -> None:
        async with web.session(aiohttp.ClientTimeout(total=5)) as client:
            for url in urls:
                async with web.answer(client, url):
                    pass

    async def cookie(request, content):
        yield servers.head(200, Content_Length=0, Set_Cookie="a=b", Connection="close")

    with servers.Server({"a": b"", "b": b""}, {"a": cookie}) as server:
        names = [server.url(path).replace("127.0.0.1", "localhost") for path in "ab"]  # addresses get no cookies anyway
        asyncio.run(ask(*names))
        assert len(server.requests) == 2
    for request in server.requests:
        assert request.headers["user-agent"] == web.AGENT and request.headers["accept-encoding"] == "identity"
        assert "cookie" not in request.headers
