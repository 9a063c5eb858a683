"""From a file or an address to an installed model, and how little is left where that fails."""

import base64
import errno
import hashlib
import http.server
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from edge import model_install
from edge.control import open_folder
from edge.errors import BadDataError, InputNotFoundError, MienError, OutputError, UnavailableError, UsageError
from edge.labels import FER2013_LABELS
from edge.model_fetch import Fetching
from edge.model_install import Demands, install, shipped_entry, try_again
from edge.model_store import FOLDER, SHIPPED, entry_of, path_of, stored
from edge.model_trial import Trial
from edge.modelfile import SHIPPED as SHIPPED_FILE
from edge.modelfile import SMALL

GREY = Path(__file__).parent / "models/grey_int8_logits.tflite"
SHA256 = hashlib.sha256(GREY.read_bytes()).hexdigest()
ENTRY = entry_of("mine", SHA256)


@pytest.fixture
def folder(tmp_path) -> Path:
    return open_folder(tmp_path / "state", shared=False, name=FOLDER)


@pytest.fixture
def site(tmp_path) -> Path:
    """What the server serves, and what a person has: `mine.tflite` and nothing else."""
    (tmp_path / "site").mkdir()
    shutil.copy(GREY, tmp_path / "site/mine.tflite")
    return tmp_path / "site"


@pytest.fixture
def address(site, certificate) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_port}/mine.tflite"
    server.shutdown()
    server.server_close()


@pytest.fixture
def quick(monkeypatch) -> None:
    """The process that tries a model is another test's."""

    def tried(file, shown, **_: object) -> Trial:
        file.seek(0)
        return Trial(
            name=Path(shown).stem,
            sha256=hashlib.sha256(file.read()).hexdigest(),
            labels=FER2013_LABELS,
            size=48,
            channels=1,
            self_test=False,
            expression="happy",
            confidence=0.9,
            milliseconds=1.0,
            shipped=1.0,
        )

    monkeypatch.setattr(model_install, "try_model", tried)


@pytest.fixture
def keys(site, tmp_path) -> Path:
    """A folder with the publisher's key; `mine.tflite.sig` is on the site."""
    pytest.importorskip("cryptography", reason="cryptography is not installed (pip install 'mien[signature]')")
    (tmp_path / "keys").mkdir()
    secret = tmp_path / "publisher.key"
    for command in (
        f"openssl genpkey -algorithm ed25519 -out {secret}",
        f"openssl pkey -in {secret} -pubout -out {tmp_path / 'keys/publisher.pem'}",
        f"openssl pkeyutl -sign -rawin -inkey {secret} -in {site / 'mine.tflite'} -out {site / 'mine.tflite.sig'}",
    ):
        subprocess.run(command.split(), check=True, capture_output=True)
    return tmp_path / "keys"


@pytest.fixture
def demands(certificate, tmp_path) -> Callable[..., Demands]:
    """What is asked of a model from the server here; no key is known unless it is said."""

    def made(**changes: object) -> Demands:
        return Demands(**{"fetching": Fetching(ca_file=certificate), "folder": tmp_path / "nowhere"} | changes)

    return made


def fails(kind: type[MienError], said: str, source: object, folder: Path, demands: Demands) -> None:
    with pytest.raises(kind, match=said):
        install(str(source), folder, demands)
    assert list(folder.iterdir()) == []


# A file


def test_a_file_is_tried_and_kept_and_used_by_nobody_yet(folder, site):
    done = install(str(site / "mine.tflite"), folder, Demands(labels=FER2013_LABELS))
    assert (done.entry, done.size, done.signed_by) == (ENTRY, GREY.stat().st_size, None)
    assert (done.trial.name, done.trial.self_test) == ("mine", False)
    assert [path.name for path in folder.iterdir()] == [f"{ENTRY}.tflite"]
    assert try_again(folder, ENTRY, FER2013_LABELS).sha256 == SHA256


def test_the_shipped_model_is_not_kept_twice(folder):
    assert install(str(SHIPPED_FILE), folder, Demands()).entry == SHIPPED
    assert stored(folder) == []
    assert shipped_entry().startswith("mien-v1-48@f87dae28")


def test_small_is_the_small_model_that_comes_with_mien(folder):
    done = install("small", folder, Demands())
    assert (done.trial.name, done.size) == ("mien-v1-48-small", SMALL.stat().st_size)
    assert stored(folder) == [done.entry]


def test_a_model_that_does_not_pass_its_trial_leaves_nothing(folder, tmp_path):
    (tmp_path / "half.tflite").write_bytes(SHIPPED_FILE.read_bytes()[:100_000])
    fails(BadDataError, "half.tflite: .*cut short", tmp_path / "half.tflite", folder, Demands())


def test_a_file_has_the_digest_that_is_demanded_or_is_refused(folder, site, quick):
    fails(BadDataError, f"its SHA-256 is {SHA256} instead of", site / "mine.tflite", folder, Demands(sha256="0" * 64))
    assert install(str(site / "mine.tflite"), folder, Demands(sha256=SHA256)).entry == ENTRY


def test_what_is_no_file_is_told(folder, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        fails(BadDataError, f"{path}: not a file", path, folder, Demands())
    fails(InputNotFoundError, "nowhere.tflite: no such model file", "nowhere.tflite", folder, Demands())


def test_a_file_that_is_too_large_is_refused_before_it_is_copied_whole(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(model_install, "MOST_BYTES", 1_000_000)
    with (tmp_path / "huge.tflite").open("wb") as file:
        file.truncate(10**12)
    fails(BadDataError, r"its 1,000,000.0 MB are more than the 1.0 MB", tmp_path / "huge.tflite", folder, Demands())


def test_a_disk_that_is_full_is_told_and_nothing_is_left(folder, site, quick, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(model_install, "keep", full)
    fails(OutputError, "No space left on device.; make room", site / "mine.tflite", folder, Demands())


def test_a_model_that_is_damaged_on_the_disk_is_not_used_again(folder, site, quick):
    install(str(site / "mine.tflite"), folder, Demands())
    path = path_of(folder, ENTRY)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BadDataError, match=r"damaged: its SHA-256 is .*; install it again"):
        try_again(folder, ENTRY, FER2013_LABELS)
    install(str(site / "mine.tflite"), folder, Demands())
    assert try_again(folder, ENTRY, FER2013_LABELS).sha256 == SHA256
    path.unlink()
    with pytest.raises(InputNotFoundError, match="cannot be read"):
        try_again(folder, ENTRY, FER2013_LABELS)


# A file and its signature


def test_a_file_needs_no_signature(folder, site, quick, demands):
    assert install(str(site / "mine.tflite"), folder, demands()).signed_by is None


def test_one_that_lies_beside_it_must_fit(folder, site, quick, keys):
    demands = Demands(folder=keys)
    assert install(str(site / "mine.tflite"), folder, demands).signed_by == keys / "publisher.pem"
    path_of(folder, ENTRY).unlink()
    with (site / "mine.tflite").open("ab") as file:
        file.write(b"\0")
    fails(BadDataError, "its signature fits none of", site / "mine.tflite", folder, demands)
    assert install(str(site / "mine.tflite"), folder, Demands(folder=keys, unsigned=True)).signed_by is None


def test_with_a_key_that_is_named_there_must_be_one(folder, site, quick, keys):
    (site / "mine.tflite.sig").unlink()
    for unsigned in (False, True):
        demands = Demands(keys=[keys / "publisher.pem"], unsigned=unsigned)
        fails(
            InputNotFoundError, "the signature .*mine.tflite.sig cannot be read", site / "mine.tflite", folder, demands
        )


# An address


def test_an_address_is_fetched_with_its_signature(folder, address, quick, keys, demands):
    told: list[tuple[int, int | None]] = []
    done = install(address, folder, demands(folder=keys), progress=lambda *amount: told.append(amount))
    assert (done.entry, done.signed_by) == (ENTRY, keys / "publisher.pem")
    assert told[-1] == (done.size, done.size)
    assert path_of(folder, ENTRY).read_bytes() == GREY.read_bytes()


def test_a_signature_in_base64_will_do(folder, address, site, quick, keys, demands):
    raw = (site / "mine.tflite.sig").read_bytes()
    (site / "mine.tflite.sig").write_bytes(base64.b64encode(raw) + b"\n")
    assert install(address, folder, demands(folder=keys)).signed_by == keys / "publisher.pem"


def test_without_a_signature_or_a_key_it_is_refused_unless_that_is_said(folder, address, site, quick, keys, demands):
    fails(BadDataError, "no key is known that its signature could fit; put the publisher's", address, folder, demands())
    (site / "mine.tflite.sig").unlink()
    fails(
        InputNotFoundError,
        r"the server has no signature for it \(https://localhost:\d+/mine.tflite.sig\); .*--unsigned",
        address,
        folder,
        demands(folder=keys),
    )
    assert install(address, folder, demands(unsigned=True)).entry == ENTRY


@pytest.mark.parametrize("content", [b"x" * 64, b"<html>", b"x" * 10_000])
def test_a_signature_that_does_not_fit_or_is_none_is_refused(content, folder, address, site, quick, keys, demands):
    (site / "mine.tflite.sig").write_bytes(content)
    fails(BadDataError, "fits none of|no ed25519 signature|are taken", address, folder, demands(folder=keys))


def test_a_page_is_told_to_be_one(folder, address, site, quick, demands):
    (site / "mine.tflite").write_bytes(b"\n<!DOCTYPE html><html><body>Log in</body></html>")
    fails(BadDataError, "a page came, where a .tflite model was expected", address, folder, demands(unsigned=True))
    (site / "mine.tflite").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    fails(BadDataError, "what came is no .tflite model", address, folder, demands(unsigned=True))


def test_a_server_that_has_gone_leaves_what_was_there(folder, address, site, quick, demands):
    install(address, folder, demands(unsigned=True))
    (site / "mine.tflite").unlink()
    with pytest.raises(InputNotFoundError, match="the server has no such file"):
        install(address, folder, demands(unsigned=True))
    with pytest.raises(UnavailableError, match="certificate is not to be trusted"):
        install(address, folder, Demands(unsigned=True))
    assert stored(folder) == [ENTRY]


def test_an_address_without_tls_is_refused_before_keys_are_looked_for(folder, demands):
    fails(UsageError, "--plain-http", "http://localhost/mine.tflite", folder, demands())
