"""Signatures as OpenSSL makes them, with the commands that `mien model install --help` and the docs show."""

import base64
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge import cli_model, model_signature
from edge.errors import BadDataError, InputNotFoundError, UnavailableError
from edge.model_signature import check_signature, find_keys, load_keys

pytest.importorskip("cryptography", reason="cryptography is not installed (pip install 'mien[signature]')")

DOCS = Path(__file__).parents[2] / "docs/models.md"

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed (apt-get install)")


def commands(text: str) -> list[str]:
    return [
        line.partition("#")[0].split("   ")[0].strip() for line in re.findall(r"^ *(openssl .*)$", text, re.MULTILINE)
    ]


def run(command: str, folder: Path) -> None:
    done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def signed(tmp_path) -> Path:
    """A folder with `mine.tflite`, its signature and the keys, made by the commands that are shown."""
    (tmp_path / "mine.tflite").write_bytes(b"a model")
    for command in commands(cli_model.INSTALL_EPILOG):
        run(command, tmp_path)
    return tmp_path


def check(folder: Path, *keys: str, content: bytes = b"a model", signature: bytes | None = None) -> Path:
    trusted = load_keys([folder / name for name in keys], "mine.tflite")
    made = (folder / "mine.tflite.sig").read_bytes() if signature is None else signature
    return check_signature(content, made, trusted, "mine.tflite")


def test_the_same_commands_are_shown_everywhere():
    shown = commands(cli_model.INSTALL_EPILOG)
    assert len(shown) == 3
    assert commands(model_signature.__doc__) == commands(DOCS.read_text("utf-8")) == shown


@needs_openssl
def test_what_openssl_signs_fits_its_key_raw_and_in_base64(signed):
    raw = (signed / "mine.tflite.sig").read_bytes()
    assert len(raw) == 64
    assert check(signed, "publisher.pem") == signed / "publisher.pem"
    wrapped = base64.encodebytes(raw)
    assert check(signed, "publisher.pem", signature=wrapped) == signed / "publisher.pem"


@needs_openssl
def test_the_key_that_fits_is_named_among_several(signed):
    run("openssl genpkey -algorithm ed25519 -out other.key", signed)
    run("openssl pkey -in other.key -pubout -out other.pem", signed)
    assert check(signed, "other.pem", "publisher.pem") == signed / "publisher.pem"
    with pytest.raises(BadDataError, match=r"its signature fits none of .*other.pem: the file was altered"):
        check(signed, "other.pem")


@needs_openssl
def test_one_bit_more_or_less_and_it_does_not_fit(signed):
    with pytest.raises(BadDataError, match="fits none of"):
        check(signed, "publisher.pem", content=b"a model.")
    raw = bytearray((signed / "mine.tflite.sig").read_bytes())
    raw[5] ^= 1
    with pytest.raises(BadDataError, match="fits none of"):
        check(signed, "publisher.pem", signature=bytes(raw))


@needs_openssl
@pytest.mark.parametrize("signature", [b"", b"x" * 63, b"x" * 65, b"<html>no</html>", b"-----BEGIN PGP SIGNATURE-----"])
def test_what_is_no_signature_is_said_to_be_none(signature, signed):
    with pytest.raises(BadDataError, match=r"mine.tflite.sig: no ed25519 signature \(\d+ bytes\)"):
        check(signed, "publisher.pem", signature=signature)


@needs_openssl
def test_a_private_key_is_refused_with_the_command_that_makes_the_public_one(signed):
    with pytest.raises(BadDataError, match=r"publisher.key is a private key.*-pubout"):
        load_keys([signed / "publisher.key"], "mine.tflite")


@needs_openssl
def test_a_key_of_another_kind_or_none_is_named(signed):
    run("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.key", signed)
    run("openssl pkey -in ec.key -pubout -out ec.pem", signed)
    (signed / "junk.pem").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    for name in ("ec.pem", "junk.pem", "mine.tflite"):
        with pytest.raises(BadDataError, match=f"{name} is no ed25519 public key in PEM"):
            load_keys([signed / name], "mine.tflite")
    with pytest.raises(InputNotFoundError, match=r"nowhere.pem cannot be read"):
        load_keys([signed / "nowhere.pem"], "mine.tflite")


@needs_openssl
def test_several_keys_in_one_file_are_refused_rather_than_passed_over(signed):
    (signed / "two.pem").write_bytes((signed / "publisher.pem").read_bytes() * 2)
    with pytest.raises(BadDataError, match=r"two.pem holds several keys.*one file for each"):
        load_keys([signed / "two.pem"], "mine.tflite")


def test_keys_that_are_named_take_the_place_of_those_in_the_folder(tmp_path):
    for name in ("b.pem", "a.pem", "notes.txt"):
        (tmp_path / name).write_text("")
    assert find_keys([], tmp_path) == [tmp_path / "a.pem", tmp_path / "b.pem"]
    assert find_keys([Path("mine.pem")], tmp_path) == [Path("mine.pem")]
    assert find_keys([], tmp_path / "nowhere") == []


def test_without_a_key_it_is_said_where_keys_go():
    with pytest.raises(BadDataError, match=r"/etc/mien/keys/NAME.pem, or name it with --key; or say --unsigned"):
        load_keys([], "mine.tflite")


def test_without_the_package_it_is_said_which_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(UnavailableError, match=r"sudo apt install python3-cryptography.*'mien\[signature\]'"):
        load_keys([tmp_path / "a.pem"], "mine.tflite")
