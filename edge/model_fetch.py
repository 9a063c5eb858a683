"""Fetches a small file from a server that may stall, lie or serve something else. Python's own library, and HTTPS."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit, urlunsplit

from edge import __version__
from edge.credentials import has_password, hide_password
from edge.errors import BadDataError, InputNotFoundError, MienError, UnavailableError, UsageError

STALL_SECONDS = 20.0
"""Without a further byte, from the beginning on."""

TOTAL_SECONDS = 600.0

LOOK_SECONDS = 0.1
"""How often it is looked whether anything has come."""

LATER = 5.0
"""Seconds by which the socket itself gives up later than whoever watches it, and can say how far it came."""

CHUNK = 64 * 1024

MOST_REDIRECTS = 5

BEGINNING = 16
"""Bytes that are waited for before it is judged what comes."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """How files are fetched.

    Attributes:
        plain: whether HTTP without TLS may be used for the address that was named.
        ca_file: certificates of the authorities that are trusted instead of the system's.
        stall: seconds without a further byte after which it is given up.
        total: seconds for a whole file.
    """

    plain: bool = False
    ca_file: Path | None = None
    stall: float = STALL_SECONDS
    total: float = TOTAL_SECONDS


def is_url(source: str) -> bool:
    """Whether it is an address rather than a file."""
    return "://" in source


def check_url(url: str, *, plain: bool) -> None:
    """Make sure that we may fetch from an address.

    Raises:
        UsageError: we may not; the message says what would do.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        (host or "").encode("idna")  # what looking it up would fail over
    except ValueError:
        parts, host = urlsplit(""), None
    if has_password(url) or "@" in parts.netloc:
        raise UsageError("the address holds a user name or a password, which 'ps' shows; fetch the file by other means")
    scheme, shown = parts.scheme.lower(), hide_password(url)
    if scheme == "http" and not plain:
        raise UsageError(f"{shown}: without TLS anybody on the way can change it; use https://, or say --plain-http")
    if scheme not in {"http", "https"} or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(
            f"{shown}: expected an address such as https://host/mine.tflite, other signs as %20, or a file's path"
        )


def beside(url: str, suffix: str) -> str:
    """The address of the file of the same name and a suffix more, whatever stands after a question mark."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path + suffix))


def fetch(
    url: str,
    out: BinaryIO,
    limit: int,
    fetching: Fetching,
    *,
    judge: Callable[[bytes, str], None] = lambda *_: None,
    progress: Callable[[int, int | None], None] = lambda *_: None,
) -> int:
    """Fetch a file.

    Args:
        url: its address; see `check_url`.
        out: is written to; what is in it after an error is of no use.
        limit: bytes that it may have at most.
        fetching: how.
        judge: gets the first bytes and the content type, and raises where these cannot be what is wanted.
        progress: is told a few times a second how many bytes have come, and of how many where that is known.

    Returns:
        How many bytes it has.

    Raises:
        InputNotFoundError: there is no such file.
        BadDataError: it is too large, or not as long as the server has said.
        UnavailableError: the server cannot be reached or trusted, refuses, or stalls.
        MienError: whatever `judge` raises.
        OSError: `out` cannot be written.
    """
    check_url(url, plain=fetching.plain)
    load = _Load(url, out, limit, fetching, judge)
    # A server that sends a byte now and then would pass every limit that a socket knows.
    thread = threading.Thread(target=load.run, name="fetch", daemon=True)
    began = moved = time.monotonic()
    seen = 0
    thread.start()
    while not load.over.wait(LOOK_SECONDS):
        now = time.monotonic()
        if load.done != seen:
            seen, moved = load.done, now
        progress(load.done, load.claimed)
        if now - moved > fetching.stall or now - began > fetching.total:
            load.abandoned.set()
            took = (
                f"nothing more within {fetching.stall:g} s" if now - moved > fetching.stall else f"{now - began:.0f} s"
            )
            raise UnavailableError(
                f"{hide_password(url)}: {took} ({_amount(load)} came); try again later, or fetch it by other means"
            )
    progress(load.done, load.claimed)
    if load.error is not None:
        raise load.error
    return load.done


@dataclass(slots=True)
class _Load:
    """One file on its way, in a thread of its own."""

    url: str
    out: BinaryIO
    limit: int
    fetching: Fetching
    judge: Callable[[bytes, str], None]
    done: int = 0
    claimed: int | None = None
    error: Exception | None = None
    over: threading.Event = field(default_factory=threading.Event)
    abandoned: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            with _opener(self.fetching).open(_request(self.url), timeout=self.fetching.stall + LATER) as answer:
                self._take(answer)
        except Exception as error:  # whatever it is, the thread that waits is to hear of it
            self.error = _told(error, hide_password(self.url))
        finally:
            self.over.set()

    def _take(self, answer: http.client.HTTPResponse) -> None:
        shown = hide_password(self.url)
        if answer.status != http.HTTPStatus.OK or answer.headers.get("Content-Encoding", "identity") != "identity":
            raise UnavailableError(
                f"{shown}: the server answers with {answer.status} {answer.reason}, and no plain file"
            )
        self.claimed = answer.length
        if (self.claimed or 0) > self.limit:
            raise BadDataError(_too_large(shown, self.claimed, self.limit))
        first = b""
        while not self.abandoned.is_set() and (chunk := answer.read1(CHUNK)):
            if len(first) < BEGINNING:
                first += chunk
                if len(first) >= BEGINNING:
                    self.judge(first, answer.headers.get_content_type())
            if self.done + len(chunk) > self.limit:
                raise BadDataError(_too_large(shown, None, self.limit))
            self.out.write(chunk)
            self.done += len(chunk)
        if self.claimed is not None and self.done != self.claimed:
            raise BadDataError(
                f"{shown}: cut short: the server promised {self.claimed:,} bytes and sent {self.done:,}; try again"
            )
        if len(first) < BEGINNING:
            self.judge(first, answer.headers.get_content_type())


class _OnlyToHttps(urllib.request.HTTPRedirectHandler):
    max_redirections = MOST_REDIRECTS

    def http_error_302(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any
    ) -> urllib.request.Request | None:
        fp.close()  # else Python reads the whole page that comes with it, however long that is
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https" or "@" in urlsplit(newurl).netloc:
            raise UnavailableError(
                f"{hide_password(req.full_url)} sends us on to {hide_password(newurl)}, which is not https://; "
                "ask whoever runs that server"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(fetching: Fetching) -> urllib.request.OpenerDirector:
    """Speaks HTTP and HTTPS and nothing else: no ftp:, no file:."""
    try:
        context = ssl.create_default_context(cafile=fetching.ca_file)
    except (OSError, ssl.SSLError):
        raise InputNotFoundError(f"--ca {fetching.ca_file} cannot be read, or holds no certificate in PEM") from None
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _OnlyToHttps(),
    ):
        opener.add_handler(handler)
    return opener


def _request(url: str) -> urllib.request.Request:
    headers = {"User-Agent": f"mien/{__version__}", "Accept-Encoding": "identity"}
    return urllib.request.Request(url, headers=headers)  # noqa: S310  # check_url has seen it


def _told(error: Exception, shown: str) -> Exception:
    """An error in words for a person."""
    if isinstance(error, urllib.error.HTTPError):
        if error.code in {http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE}:
            return InputNotFoundError(f"{shown}: the server has no such file ({error.code}); check the address")
        return UnavailableError(f"{shown}: the server answers {error.code} {error.reason}; check the address")
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, MienError):
        return reason
    if isinstance(reason, ssl.SSLCertVerificationError):
        return UnavailableError(
            f"{shown}: the server's certificate is not to be trusted ({reason.verify_message}); check the address and "
            "this machine's clock; for an authority of your own name its certificate with --ca"
        )
    if isinstance(reason, TimeoutError):
        return UnavailableError(f"{shown}: the server is silent; try again later")
    if (
        isinstance(reason, http.client.HTTPException | ssl.SSLError | ConnectionError | ValueError)
        or error is not reason
    ):
        return UnavailableError(f"{shown}: {reason}; check the address and the network, and try again")
    return error


def _too_large(shown: str, size: int | None, limit: int) -> str:
    said = "it is larger than" if size is None else f"its {size / 1e6:,.1f} MB are more than"
    return f"{shown}: {said} the {limit / 1e6:,.1f} MB that are taken; is this the file that you meant?"


def _amount(load: _Load) -> str:
    return f"{load.done:,} bytes" + (f" of {load.claimed:,}" if load.claimed is not None else "")
