"""Names, TLS and proxies: real sockets on loopback, each ended by the allowance of its exchange."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from evomerge.endpoint.address import Proxy, in_ascii, proxy_for
from evomerge.endpoint.allowance import Allowance, TooLongError
from evomerge.endpoint.exchange import NoAnswerError, exchange
from tests.endpoint.disguises import KEY
from tests.endpoint.wire import answer, misbehaving

CERTIFICATE = Path(__file__).with_name("localhost.pem")
MARGIN = 30.0  # seconds, on a busy machine; without a limit it never ends


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def trusted(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))


def server_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@contextmanager
def serving(play):
    """A server that plays a part for each connection; its port, and what was played."""
    over, threads = threading.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)

        def one(connection):
            with connection, suppress(OSError, ssl.SSLError):  # whoever asked has left
                connection.settimeout(30)
                play(connection, over)

        def serve():
            while not over.is_set():
                with suppress(TimeoutError):
                    connection, _ = server.accept()
                    threads.append(threading.Thread(target=one, args=(connection,)))
                    threads[-1].start()

        listener = threading.Thread(target=serve)
        listener.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            for thread in (listener, *threads):
                thread.join()


def encrypted(play):
    """The part, played behind TLS."""

    def part(connection, over):
        with server_context().wrap_socket(connection, server_side=True) as inner:
            play(inner, over)

    return part


def head_of(connection):
    found = b""
    while not found.endswith(b"\r\n\r\n"):
        found += connection.recv(1)
    return found


def good(connection, over):
    path = head_of(connection).split()[1].decode()
    connection.sendall(answer(json.dumps({"path": path})))


def proxy(heads):
    """A proxy: it notes what it was asked and hands on, as a tunnel or as a request."""

    def part(connection, over):
        head = head_of(connection)
        heads.append(head)
        method, target = head.split()[:2]
        if method != b"CONNECT":
            connection.sendall(answer('{"path": "through a proxy"}'))
            return
        host, port = target.decode().split(":")
        with socket.create_connection((host, int(port))) as other:
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=pumped, args=(other, connection))
            back.start()
            pumped(connection, other)
            back.join()

    return part


def pumped(source, sink):
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


def failure(url, seconds=20.0, **kind):
    began = time.monotonic()
    with pytest.raises(NoAnswerError, match=r"\w") as caught:
        exchange(url, KEY, seconds, **kind)
    assert time.monotonic() - began < seconds + MARGIN
    return caught.value.reason


# TLS


def test_a_server_behind_tls_is_read(trusted):
    with serving(encrypted(good)) as port:
        reply = exchange(f"https://localhost:{port}/v1/models", KEY, 20.0)
    assert reply.data == {"path": "/v1/models"}


def test_a_certificate_that_nobody_vouches_for_is_refused():
    with serving(encrypted(good)) as port:
        reason = failure(f"https://localhost:{port}/v1")
    assert "CERTIFICATE_VERIFY_FAILED" in reason


def test_a_certificate_of_another_host_is_refused(trusted):
    with serving(encrypted(good)) as port:
        reason = failure(f"https://[::ffff:127.0.0.1]:{port}/v1")
    assert "CERTIFICATE_VERIFY_FAILED" in reason


def stalling(connection, over):
    over.wait()


def dripping(connection, over):
    connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of a handshake, of 16 KiB
    while not over.wait(0.02):
        connection.sendall(b"\x02")


def slow_to_read(connection, over):
    """Takes a request a few bytes at a time."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    while not over.wait(0.02):
        connection.recv(64)


def endless(connection, over):
    head_of(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not over.is_set():
        connection.sendall(b" " * 65536)


@pytest.mark.parametrize("play", [stalling, dripping, encrypted(stalling)])
def test_tls_that_goes_nowhere_ends_in_time(trusted, play):
    with serving(play) as port:
        assert failure(f"https://localhost:{port}/v1", 0.2) == "no answer within 0.2 seconds"


def test_an_endless_body_behind_tls_is_cut(trusted):
    with serving(encrypted(endless)) as port:
        assert failure(f"https://localhost:{port}/v1") == "the answer is longer than 4 MiB"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_takes_the_request_slowly_is_left(trusted, scheme):
    play = slow_to_read if scheme == "http" else encrypted(slow_to_read)
    body = {"messages": "x" * (16 << 20)}
    with serving(play) as port:
        reason = failure(f"{scheme}://localhost:{port}/v1", 0.5, body=body)
    assert reason == "no answer within 0.5 seconds"


# Names


def test_a_name_that_is_never_found_ends_in_time(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait())
    assert failure("http://models.example/v1", 0.2) == "no answer within 0.2 seconds"
    over.set()


def test_a_name_that_nobody_has_is_told():
    assert failure("http://models.invalid/v1").startswith("no answer (gaierror: ")


@pytest.mark.parametrize(
    "host", ["a..b", "a" * 300, ".", "\u2100", "xn--", "[::1%0]", "[fe80::1%nowhere]", "0x7f.1:0"]
)
def test_a_host_that_cannot_be_is_no_traceback(host):
    assert failure(f"http://{host}/v1", 5.0).startswith("no answer")


def test_the_second_address_of_a_name_is_tried_when_the_first_refuses(monkeypatch):
    found = socket.getaddrinfo
    with serving(good) as port, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = found("127.0.0.1", closed.getsockname()[1], type=socket.SOCK_STREAM)
        alive = found("127.0.0.1", port, type=socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: dead + alive)
        assert exchange("http://models.example/v1", KEY, 20.0).data == {"path": "/v1"}


def test_a_url_of_other_letters_is_sent_in_ascii():
    assert in_ascii("http://bücher.example:80/ö v/1") == (
        "http://xn--bcher-kva.example:80/%C3%B6%20v/1"
    )
    assert in_ascii("https://[::1]:8000/v1") == "https://[::1]:8000/v1"


# Proxies


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "http://far.example/v1", None),
        ({"http_proxy": "http://p:1"}, "http://far.example/v1", Proxy("http://p:1", None)),
        ({"http_proxy": "p:1"}, "http://far.example/v1", Proxy("http://p:1", None)),
        ({"http_proxy": "http://p:1"}, "https://far.example/v1", None),
        ({"all_proxy": "http://p:1"}, "https://far.example/v1", Proxy("http://p:1", None)),
        ({"https_proxy": "http://a:b%40@p"}, "https://x/v1", Proxy("http://p", ("a", "b@"))),
        ({"http_proxy": "http://p:1", "no_proxy": "far.example"}, "http://far.example/v1", None),
    ],
)
def test_proxies_are_those_of_the_environment(monkeypatch, environment, url, proxy):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


def test_a_request_goes_through_a_proxy_unless_it_is_direct(monkeypatch):
    heads = []
    with serving(proxy(heads)) as port, serving(good) as target:
        monkeypatch.setenv("http_proxy", f"http://me:it@127.0.0.1:{port}")
        url = f"http://127.0.0.1:{target}/v1"
        assert exchange(url, KEY, 20.0).data == {"path": "through a proxy"}
        assert exchange(url, KEY, 20.0, is_direct=True).data == {"path": "/v1"}
    (head,) = heads
    assert base64.b64encode(b"me:it") in head


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_tls_goes_through_a_tunnel_that_never_sees_the_key(monkeypatch, trusted, scheme):
    heads = []
    part = proxy(heads) if scheme == "http" else encrypted(proxy(heads))
    with serving(part) as port, serving(encrypted(good)) as target:
        monkeypatch.setenv("https_proxy", f"{scheme}://localhost:{port}")
        reply = exchange(f"https://localhost:{target}/v1", KEY, 20.0)
    assert reply.data == {"path": "/v1"}
    assert [head.split()[0] for head in heads] == [b"CONNECT"]
    assert KEY.encode() not in heads[0]


@pytest.mark.parametrize("play", [stalling, dripping])
def test_a_proxy_that_goes_nowhere_ends_in_time(monkeypatch, play):
    with serving(play) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        reason = failure("https://far.example/v1", 0.2)
    assert "no answer" in reason


@pytest.mark.parametrize(
    "proxy", ["ftp://p:1", "http://p:99999", "http://", "nonsense://", "http://me:it"]
)
def test_a_proxy_that_cannot_be_one_is_no_traceback(monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    reason = failure("http://far.example/v1", 5.0)
    assert reason.startswith("no answer (")
    assert "it" not in reason.split()


def test_a_key_that_a_proxy_repeats_is_not_shown(monkeypatch):
    def repeat(connection, over):
        head_of(connection)
        connection.sendall(f"HTTP/1.1 407 {KEY}\r\n\r\n".encode())

    with serving(repeat) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        assert KEY[:8] not in failure("https://far.example/v1")


# Allowances, headers


def test_an_allowance_is_used_up():
    now = [0.0]
    allowance = Allowance(2.0, 10, lambda: now[0])
    now[0] = 1.5
    assert allowance.seconds() == 0.5
    now[0] = 2.0
    with pytest.raises(TimeoutError):
        allowance.seconds()
    allowance.take(10)
    with pytest.raises(TooLongError):
        allowance.take(1)


def test_a_request_asks_for_nothing_packed_and_follows_nobody():
    asked = []

    def part(wire):
        asked.append(wire)
        wire.say(answer("{}", "302 Found", "Location: /v1/elsewhere"))

    with misbehaving(part) as url:
        reply = exchange(f"{url}/models", KEY, 20.0)
    assert (reply.status, len(asked)) == (302, 1)
    assert asked[0].fields[b"accept-encoding"] == b"identity"
    assert asked[0].key == KEY


def test_a_server_that_answers_before_it_has_heard_all_is_read():
    def part(connection, over):
        head_of(connection)
        connection.sendall(answer('{"error": "too long"}', "413 Too Large"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with serving(part) as port:
        reply = exchange(f"http://127.0.0.1:{port}/v1", KEY, 20.0, body={"x": "x" * (8 << 20)})
    assert (reply.status, reply.data) == (413, {"error": "too long"})
