"""Fetching from servers as they are: those that stall, lie, send elsewhere, or serve a page. All of them are real."""

import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge.errors import BadDataError, InputNotFoundError, UnavailableError, UsageError
from edge.model_fetch import Fetching, beside, check_url, fetch

CONTENT = bytes(range(256)) * 1000
LIMIT = 1_000_000

Answer = Callable[[socket.socket, str], None]


def say(head: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".replace("\n", "\r\n").replace("\r\r", "\r").encode() + body


def whole(client: socket.socket, _: str) -> None:
    client.sendall(say(f"200 OK\nContent-Length: {len(CONTENT)}", CONTENT))


class Server:
    """Answers each connection by `answers[path]`, over TLS unless told otherwise."""

    def __init__(self, certificate: Path | None, answers: dict[str, Answer]) -> None:
        self.answers, self.asked, self.certificate = answers, [], certificate
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.over = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def url(self, path: str = "/mine.tflite", host: str = "localhost") -> str:
        return f"{'http' if self.certificate is None else 'https'}://{host}:{self.port}{path}"

    def _serve(self) -> None:
        while not self.over.is_set():
            with suppress(OSError):
                client, _ = self.socket.accept()
                threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with suppress(OSError):
            if self.certificate is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.certificate, self.certificate.with_suffix(".key"))
                client = context.wrap_socket(client, server_side=True)
            with client:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += client.recv(4096)
                path = request.split()[1].decode()
                self.asked.append(request.decode())
                self.answers[path](client, request.decode())
                if isinstance(client, ssl.SSLSocket):
                    client.unwrap()

    def stalls(self, client: socket.socket, _: str) -> None:
        self.over.wait(10)


@pytest.fixture
def serve(certificate) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(answers: dict[str, Answer] | Answer, *, tls: bool = True) -> Server:
        by_path = answers if isinstance(answers, dict) else {"/mine.tflite": answers}
        servers.append(Server(certificate if tls else None, by_path))
        return servers[-1]

    yield start
    for server in servers:
        server.over.set()
        server.socket.close()


@pytest.fixture
def get(certificate) -> Callable[..., bytes]:
    def fetched(url: str, *, limit: int = LIMIT, stall: float = 5.0, total: float = 10.0, **options: object) -> bytes:
        out = io.BytesIO()
        plain = options.pop("plain", False)
        ca_file = options.pop("ca_file", certificate)
        size = fetch(url, out, limit, Fetching(plain, ca_file, stall, total), **options)
        assert size == len(out.getvalue())
        return out.getvalue()

    return fetched


def test_a_file_comes_as_it_is_and_its_progress_is_told(serve, get):
    told: list[tuple[int, int | None]] = []
    server = serve(whole)
    assert get(server.url(), progress=lambda *amount: told.append(amount)) == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert "Accept-Encoding: identity" in server.asked[0]


def test_chunks_without_a_length_come_too(serve, get):
    def chunked(client: socket.socket, _: str) -> None:
        client.sendall(say("200 OK\nTransfer-Encoding: chunked"))
        for start in range(0, len(CONTENT), 50_000):
            part = CONTENT[start : start + 50_000]
            client.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        client.sendall(b"0\r\n\r\n")

    assert get(serve(chunked).url()) == CONTENT


def test_what_is_beside_it_keeps_what_stands_behind_the_question_mark():
    assert beside("https://h/a/mine.tflite?v=2", ".sig") == "https://h/a/mine.tflite.sig?v=2"


# Stalling and lying


def test_a_server_that_says_nothing_is_given_up(serve, get):
    server = serve({})
    server.answers["/mine.tflite"] = server.stalls
    began = time.monotonic()
    with pytest.raises(UnavailableError, match=r"nothing more within 0.5 s \(0 bytes came\)"):
        get(server.url(), stall=0.5)
    assert time.monotonic() - began < 3


def test_a_server_that_stalls_halfway_is_given_up_with_how_far_it_came(serve, get):
    server = serve({})

    def half(client: socket.socket, request: str) -> None:
        client.sendall(say(f"200 OK\nContent-Length: {len(CONTENT)}", CONTENT[:1000]))
        server.stalls(client, request)

    server.answers["/mine.tflite"] = half
    with pytest.raises(
        UnavailableError, match=r"nothing more within 0.5 s \(1,000 bytes of 256,000 came\); try again later"
    ):
        get(server.url(), stall=0.5)


def test_a_server_that_sends_a_byte_now_and_then_is_given_up_all_the_same(serve, get):
    server = serve({})

    def drip(client: socket.socket, _: str) -> None:
        client.sendall(say(f"200 OK\nContent-Length: {len(CONTENT)}"))
        while not server.over.wait(0.1):
            client.sendall(b"x")

    def drip_in_the_head(client: socket.socket, _: str) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not server.over.wait(0.1):
            client.sendall(b"x")

    for answer in (drip, drip_in_the_head):
        server.answers["/mine.tflite"] = answer
        began = time.monotonic()
        with pytest.raises(UnavailableError, match=r"mine.tflite: 1 s \(\d+ bytes"):
            get(server.url(), total=1.0)
        assert time.monotonic() - began < 3


def test_a_length_that_is_too_large_is_refused_before_anything_comes(serve, get):
    server = serve(lambda client, _: client.sendall(say("200 OK\nContent-Length: 999999999999")))
    with pytest.raises(BadDataError, match=r"its 1,000,000.0 MB are more than the 1.0 MB that are taken"):
        get(server.url())


@pytest.mark.parametrize("head", ["200 OK", "200 OK\nContent-Length: -5", "200 OK\nContent-Length: many"])
def test_a_file_without_a_length_is_cut_off_at_the_limit(head, serve, get):
    def endless(client: socket.socket, _: str) -> None:
        client.sendall(say(head))
        while True:
            client.sendall(CONTENT)

    out = io.BytesIO()
    with pytest.raises(BadDataError, match=r"larger than the 1.0 MB"):
        fetch(serve(endless, tls=False).url(), out, LIMIT, Fetching(plain=True))
    assert len(out.getvalue()) <= LIMIT


@pytest.mark.parametrize("tls", [True, False])
def test_a_file_that_is_shorter_than_promised_is_cut_short(tls, serve, get):
    server = serve(lambda client, _: client.sendall(say("200 OK\nContent-Length: 5000", b"x" * 4000)), tls=tls)
    with pytest.raises(BadDataError, match="the server promised 5,000 bytes and sent 4,000"):
        get(server.url(), plain=True)


@pytest.mark.parametrize("head", ["206 Partial Content", "200 OK\nContent-Encoding: gzip", "204 No Content"])
def test_what_is_not_the_plain_file_is_refused(head, serve, get):
    with pytest.raises(UnavailableError, match="and no plain file"):
        get(serve(lambda client, _: client.sendall(say(head, b"x" * 100))).url())


@pytest.mark.parametrize("body", [b"no HTTP at all\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000])
def test_a_server_that_talks_garbage_is_told(body, serve, get):
    with pytest.raises(UnavailableError, match="https://localhost"):
        get(serve(lambda client, _: client.sendall(body)).url())


def test_the_first_bytes_are_judged_before_the_rest_has_come(serve, get):
    server = serve({})

    def slowly(client: socket.socket, request: str) -> None:
        client.sendall(say("200 OK\nContent-Type: text/html; charset=utf-8", b"<!doctype html> ..."))
        server.stalls(client, request)

    def judge(first: bytes, kind: str) -> None:
        raise BadDataError(f"{kind}: {first[:9].decode()}")

    server.answers["/mine.tflite"] = slowly
    with pytest.raises(BadDataError, match="text/html: <!doctype"):
        get(server.url(), judge=judge)


@pytest.mark.parametrize("size", [0, 3])
def test_also_the_shortest_file_is_judged(size, serve, get):
    def judge(first: bytes, _: str) -> None:
        raise BadDataError(f"{len(first)} bytes")

    server = serve(lambda client, _: client.sendall(say(f"200 OK\nContent-Length: {size}", b"x" * size)))
    with pytest.raises(BadDataError, match=f"{size} bytes"):
        get(server.url(), judge=judge)


def test_a_disk_that_is_full_is_no_fault_of_the_servers(serve, certificate):
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space left") as caught:
        fetch(serve(whole).url(), full, LIMIT, Fetching(ca_file=certificate))
    assert not isinstance(caught.value, UnavailableError)


# Refusing


@pytest.mark.parametrize(
    ("code", "kind"),
    [(404, InputNotFoundError), (410, InputNotFoundError), (403, UnavailableError), (503, UnavailableError)],
)
def test_an_answer_that_refuses_is_told_with_its_number(code, kind, serve, get):
    server = serve(lambda client, _: client.sendall(say(f"{code} Because\nContent-Length: 0")))
    with pytest.raises(kind, match=f"{code}.*check the address"):
        get(server.url())


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(serve, get):
    server = serve(whole)
    with pytest.raises(UnavailableError, match=r"certificate is not to be trusted \(self-signed.*clock.*--ca"):
        get(server.url(), ca_file=None)
    with pytest.raises(UnavailableError, match="certificate is not to be trusted"):
        get(server.url(host="127.0.0.1"))
    assert server.asked == []


def test_an_authority_that_is_none_is_named(serve, get, tmp_path):
    (tmp_path / "junk.pem").write_text("junk")
    for name in ("junk.pem", "nowhere.pem"):
        with pytest.raises(InputNotFoundError, match=rf"--ca .*{name} cannot be read, or holds no certificate"):
            get(serve(whole).url(), ca_file=tmp_path / name)


def test_nobody_there_is_told(get):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(UnavailableError, match=r"Connection refused.*check the address and the network"):
        get(f"https://localhost:{port}/mine.tflite")
    with pytest.raises(UnavailableError, match=r"check the address and the network"):
        get("https://nowhere.invalid/mine.tflite")


# Elsewhere


def moved(target: str) -> Answer:
    return lambda client, _: client.sendall(say(f"302 Found\nLocation: {target}\nContent-Length: 0"))


def test_a_redirect_to_https_is_followed(serve, get):
    server = serve({"/new": whole, "/mine.tflite": moved("/new")})
    assert get(server.url()) == CONTENT


@pytest.mark.parametrize("scheme", ["http", "ftp", "file"])
def test_a_redirect_to_anything_else_is_not(scheme, serve, get):
    plain = serve(whole, tls=False)
    target = plain.url().replace("http:", f"{scheme}:")
    for tls in (True, False):
        with pytest.raises(UnavailableError, match=rf"(sends us on to|Redirection to url) .?{scheme}://localhost"):
            get(serve(moved(target), tls=tls).url(), plain=True)
    assert plain.asked == []


def test_the_page_that_comes_with_a_redirect_is_not_read(serve, get):
    sent = 0

    def endless(client: socket.socket, _: str) -> None:
        nonlocal sent
        client.sendall(say("302 Found\nLocation: /new"))
        with suppress(OSError):
            while sent < 50_000_000:
                sent += client.send(b"x" * 65536)

    assert get(serve({"/new": whole, "/mine.tflite": endless}).url()) == CONTENT
    assert sent < 50_000_000


def test_redirects_that_do_not_end_are_given_up(serve, get):
    with pytest.raises(UnavailableError, match="302"):
        get(serve(moved("/mine.tflite")).url())


# Addresses


def test_plain_http_is_refused_unless_it_is_said(serve, get):
    server = serve(whole, tls=False)
    with pytest.raises(UsageError, match=r"without TLS anybody on the way can change it.*--plain-http"):
        get(server.url())
    assert server.asked == []
    assert get(server.url(), plain=True) == CONTENT


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/a",
        "file:///etc/passwd",
        "https://",
        "https:///a",
        "https://[bad/a",
        "https://a..b/c",
        f"https://{'a' * 64}/c",
        "https://host:port/a",
        "https://h/a b",
        "https://host/ä",
        "https://host/\r\nX: y",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UsageError, match=r"expected an address such as https://host/mine.tflite"):
        check_url(url, plain=True)


@pytest.mark.parametrize("url", ["https://anna:secret@host/a", "https://anna@host/a", "https://host/a?token=secret"])
def test_a_password_in_the_address_is_refused_and_not_shown(url):
    with pytest.raises(UsageError, match="fetch the file by other means") as caught:
        check_url(url, plain=False)
    assert "secret" not in str(caught.value)
