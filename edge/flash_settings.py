"""What one card is to be: options or a row of a CSV -> a frozen, checked `Card`.

Whatever gets this far can stand in a file of the boot partition: no value has a control character, names of hosts,
users and countries are of the few characters that those may have, and a Wi-Fi password is a key in hexadecimal.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import tomllib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

from edge.config import load_config
from edge.credentials import read_secret
from edge.errors import BadDataError, InputNotFoundError, MienError, UnavailableError, UsageError

HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
"""A label of RFC 1123."""

USER = re.compile(r"[a-z][a-z0-9-]{0,31}")
"""What Raspberry Pi OS's own userconf takes."""

TAKEN = frozenset(
    ["root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data",
     "backup", "list", "irc", "nobody", "mien", "messagebus", "sshd", "avahi", "polkitd", "rtkit", "systemd-network",
     "systemd-timesync", "systemd-resolve"]
)  # fmt: skip
"""Accounts that the system has, or will have."""

KEY_KINDS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp", "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@")

HASHED = re.compile(r"\$(5|6|y)\$[./A-Za-z0-9$=]{20,200}")
"""A password as /etc/shadow has it, by SHA-256, SHA-512 or yescrypt; see crypt(5)."""

CA_PLACE = "/etc/mien/broker-ca.pem"
MAX_FILE_BYTES = 64 * 1024

KEYS = {
    "device": "device.name",
    "mqtt": "mqtt.url",
    "mqtt-username": "mqtt.username",
    "source": "source.spec",
}
"""Options that are keys of mien.toml."""

OPTIONS = (
    "hostname", "user", "user-password-file", "ssh-key", "wifi", "wifi-password-file", "wifi-hidden", "wifi-open",
    "country", "timezone", *KEYS, "mqtt-password-file", "ca-file", "source-password-file", "config",
)  # fmt: skip
"""What can be said of a card, by option or by column; a column with a dot is a key of mien.toml."""

YES = {"yes", "true", "1"}
NO = {"no", "false", "0", ""}


@dataclass(frozen=True, slots=True)
class Wifi:
    """A network. `key`: 64 hexadecimal digits, made from name and password; empty: the network is open."""

    name: str
    key: str = field(default="", repr=False)
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """Everything that is particular to one card. Nothing secret is in its `repr`.

    Attributes:
        hostname: a label of RFC 1123.
        config: a whole mien.toml.
        user: who may log in; empty: nobody.
        password: of that user, hashed as in /etc/shadow; empty: none.
        ssh_keys: lines of authorized_keys.
        wifi: None: by cable.
        country: whose rules the radio keeps, two letters.
        timezone: such as Europe/Berlin; empty: the image's.
        secrets: contents by names of systemd credentials, such as mien.mqtt-password.
        ca: the broker's authority in PEM format.
    """

    hostname: str
    config: str
    user: str = ""
    password: str = field(default="", repr=False)
    ssh_keys: tuple[str, ...] = ()
    wifi: Wifi | None = None
    country: str = ""
    timezone: str = ""
    secrets: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    ca: bytes = b""


class RefusedError(ValueError):
    """A value is wrong; whoever knows where it stands adds that."""


def make_card(
    options: Mapping[str, str],
    *,
    folder: Path = Path(),
    default_config: Path,
    where: Callable[[str], str],
    ask: Callable[[str], str] | None = None,
) -> Card:
    """Check what was said of a card and read the files that it names.

    Args:
        options: by names of `OPTIONS` or by keys of mien.toml such as `source.rotate`; empty ones count as not given.
        folder: what relative paths are relative to.
        default_config: the mien.toml to begin with where `config` names none.
        where: a name of `options` -> how a message calls it, such as `--hostname` or `cards.csv, row 3, hostname`.
        ask: prompts for a Wi-Fi password where no file is named; None: nobody can be asked.

    Raises:
        UsageError: a value is wrong or one is missing; `where` is named.
        InputNotFoundError, BadDataError, ConfigError: a file is.
    """
    given = {name: value for name, value in options.items() if value != ""}

    def take(name: str, check: Callable[[str], Any], default: Any = "") -> Any:
        if name not in given:
            return default
        try:
            return check(given[name])
        except RefusedError as refused:
            raise UsageError(f"{where(name)}: {refused}") from None

    def secret(name: str) -> str:
        if name not in given:
            return ""
        path = (folder / given[name]).absolute()
        if not path.exists():
            raise InputNotFoundError(
                f"{where(name)}: there is no such file (not shown, lest it be the password itself)"
            )
        return read_secret(path, where(name))

    for name in given:
        if name not in OPTIONS and "." not in name:
            raise UsageError(f"{where(name)} is unknown; expected one of {', '.join(OPTIONS)}, or a key of mien.toml")
        take(name, _no_control)
    if "hostname" not in given:
        raise UsageError(f"{where('hostname')} is missing; each card needs a host name of its own")
    user = take("user", _user)
    password = (
        _hashed(secret("user-password-file"), where("user-password-file")) if "user-password-file" in given else ""
    )
    keys = _ssh_keys((folder / given["ssh-key"]).absolute(), where("ssh-key")) if "ssh-key" in given else ()
    if user and not (password or keys):
        raise UsageError(
            f"{where('user')}: nobody could log in; give {where('ssh-key')} or {where('user-password-file')}"
        )
    if not user and (password or keys):
        raise UsageError(f"{where('user')} is missing, but there is a key or a password for it")
    country = take("country", _country)
    wifi = _wifi(given, take, where, secret, ask)
    if wifi and not country:
        raise UsageError(f"{where('country')} is missing; the radio stays off until it knows its country, such as DE")
    ca = _read((folder / given["ca-file"]).absolute(), where("ca-file")) if "ca-file" in given else b""
    if b"PRIVATE KEY" in ca:
        raise BadDataError(
            f"{where('ca-file')}: {given['ca-file']} holds a private key, which stays with you; name a file with the "
            "certificate alone"
        )
    if ca and b"-----BEGIN CERTIFICATE-----" not in ca:
        raise BadDataError(f"{where('ca-file')}: {given['ca-file']} holds no certificate in PEM format")
    secrets = {
        f"mien.{kind}-password": secret(f"{kind}-password-file")
        for kind in ("mqtt", "source")
        if f"{kind}-password-file" in given
    }
    return Card(
        hostname=take("hostname", _hostname),
        config=_config(given, folder, default_config, where, with_ca=bool(ca)),
        user=user,
        password=password,
        ssh_keys=keys,
        wifi=wifi,
        country=country,
        timezone=take("timezone", _timezone),
        secrets=tuple(secrets.items()),
        ca=ca,
    )


@cache  # a fleet's cards share it
def wifi_key(name: str, password: str) -> str:
    """The key that a WPA2 network's name and password make, as `wpa_passphrase` prints it (IEEE 802.11i, H.4).

    A password of 64 hexadecimal digits is the key itself.

    Raises:
        RefusedError: it is neither that nor 8 to 63 characters of ASCII.
    """
    if re.fullmatch(r"[0-9A-Fa-f]{64}", password):
        return password.lower()
    if not 8 <= len(password) <= 63 or not all(" " <= sign <= "~" for sign in password):
        raise RefusedError("a Wi-Fi password has 8 to 63 characters of ASCII, or is a key of 64 hexadecimal digits")
    return hashlib.pbkdf2_hmac("sha1", password.encode("ascii"), name.encode(), 4096, 32).hex()


def to_toml(table: Mapping[str, Mapping[str, object]]) -> str:
    """Sections with their keys as TOML; JSON's strings are TOML's too, once nothing in them is a control character."""

    def value(of: object) -> str:
        if isinstance(of, list | tuple):
            return f"[{', '.join(map(value, of))}]"
        return json.dumps(of, ensure_ascii=False).replace("\x7f", "\\u007f")

    sections = (
        "\n".join([f"[{section}]", *(f"{key} = {value(of)}" for key, of in keys.items())])
        for section, keys in table.items()
    )
    return "\n\n".join(sections) + "\n"


def _config(
    given: Mapping[str, str], folder: Path, default: Path, where: Callable[[str], str], *, with_ca: bool
) -> str:
    """The mien.toml: byte for byte where nothing is changed in it, else written anew."""
    path = (folder / given["config"]).absolute() if "config" in given else default
    names = {KEYS.get(name, name): name for name in given if name in KEYS or "." in name}
    overrides: dict[str, object] = {key: given[name] for key, name in names.items()}
    if with_ca:
        overrides["mqtt.ca_file"] = CA_PLACE
    if len(names) < sum(name in KEYS or "." in name for name in given):
        twice = next(name for name in given if name in KEYS and KEYS[name] in given)
        raise UsageError(f"{where(twice)} and {where(KEYS[twice])} are the same; give one of the two")
    try:
        config = load_config(path, environ={}, overrides=overrides)
    except MienError:
        for key, name in names.items():  # which one was it?
            try:
                load_config(path, environ={}, overrides={key: overrides[key]})
            except MienError as error:
                raise type(error)(str(error).replace("command line", where(name))) from None
        raise
    text = path.read_text(encoding="utf-8")
    if not overrides:
        return text
    table: dict[str, dict[str, object]] = tomllib.loads(text)
    for key in overrides:
        section, _, name = key.partition(".")
        value = getattr(getattr(config, section), name)
        table.setdefault(section, {})[name] = str(value) if isinstance(value, Path) else "" if value is None else value
    return f"# Made by mien-flash. All keys, with their defaults: /usr/share/doc/mien/mien.toml\n{to_toml(table)}"


def _wifi(
    given: Mapping[str, str],
    take: Callable[..., Any],
    where: Callable[[str], str],
    secret: Callable[[str], str],
    ask: Callable[[str], str] | None,
) -> Wifi | None:
    name = take("wifi", _network_name)
    is_open, hidden = take("wifi-open", _yes_or_no, False), take("wifi-hidden", _yes_or_no, False)
    if not name:
        for other in ("wifi-password-file", "wifi-open", "wifi-hidden"):
            if other in given and given[other].lower() not in NO:
                raise UsageError(f"{where(other)}: {where('wifi')}, the network's name, is missing")
        return None
    if is_open:
        if "wifi-password-file" in given:
            raise UsageError(f"{where('wifi-open')}: there is a password for it; give one of the two")
        return Wifi(name, hidden=hidden)
    if "wifi-password-file" in given:
        password = secret("wifi-password-file")
    elif ask is not None:
        password = ask(f"Password of the Wi-Fi network {name}: ")
    else:
        raise UsageError(f"{where('wifi-password-file')} is missing, and nobody can be asked here for the password")
    try:
        return Wifi(name, wifi_key(name, password), hidden)
    except RefusedError as refused:
        raise UsageError(f"{where('wifi-password-file')}: {refused}") from None


def _no_control(value: str) -> str:
    if any(unicodedata.category(sign) in {"Cc", "Cs"} for sign in value):
        raise RefusedError("it has a control character in it")
    return value


def _hostname(value: str) -> str:
    if not HOST.fullmatch(value) or value.lower() == "localhost":
        raise RefusedError(
            f"{value!r} is no host name; expected letters, digits and hyphens, 63 at most, such as kitchen-pi"
        )
    return value


def _user(value: str) -> str:
    if not USER.fullmatch(value):
        raise RefusedError(
            f"{value!r} is no user's name; expected lower-case letters, digits and hyphens, a letter first"
        )
    if value in TAKEN:
        raise RefusedError(f"{value} is an account of the system; take another name")
    return value


def _country(value: str) -> str:
    if not re.fullmatch(r"[A-Z]{2}", value):
        raise RefusedError(f"{value!r} is no country; expected two capital letters such as GB or DE")
    return value


def _timezone(value: str) -> str:
    if value not in _timezones():
        raise RefusedError(f"{value!r} is no time zone; expected one such as Europe/Berlin")
    return value


@cache
def _timezones() -> set[str]:
    return available_timezones() - {"localtime"}  # on some systems a link to the setting itself


def _network_name(value: str) -> str:
    if not 1 <= len(value.encode()) <= 32:
        raise RefusedError(f"a Wi-Fi network's name has at most 32 bytes, and {value!r} has {len(value.encode())}")
    return value


def _yes_or_no(value: str) -> bool:
    if value.lower() not in YES | NO:
        raise RefusedError(f"it is {value!r}; expected yes or no")
    return value.lower() in YES


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputNotFoundError(f"{name}: {path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise BadDataError(f"{name}: {path} is larger than {MAX_FILE_BYTES} bytes; is it the right file?")
    return content


def _ssh_keys(path: Path, name: str) -> tuple[str, ...]:
    content = _read(path, name)
    if b"PRIVATE KEY" in content:
        raise BadDataError(f"{name}: {path} is a private key, which stays with you; name the one that ends in .pub")
    try:
        lines = [line.strip() for line in content.decode().splitlines()]
    except UnicodeDecodeError:
        raise BadDataError(f"{name}: {path} is no text; expected a public key such as ~/.ssh/id_ed25519.pub") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    for number, line in enumerate(keys, 1):
        if not _is_key(line):
            raise BadDataError(f"{name}: {path}, key {number} is no SSH public key such as ssh-ed25519 AAAA… name")
    if not keys:
        raise BadDataError(f"{name}: {path} holds no key")
    return tuple(keys)


def _is_key(line: str) -> bool:
    """Whether a line is kind, base64 and a comment; the base64 begins with the kind again (RFC 4253, 6.6)."""
    kind, _, rest = line.partition(" ")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
    except ValueError:
        return False
    good = kind.startswith(KEY_KINDS) and blob[4 : 4 + int.from_bytes(blob[:4])] == kind.encode()
    return good and not any(unicodedata.category(sign) in {"Cc", "Cs"} for sign in line)


@cache
def _hashed(password: str, name: str) -> str:
    """A password as /etc/shadow has it; one that is so already stays."""
    if HASHED.fullmatch(password):
        return password
    try:
        done = subprocess.run(
            ["openssl", "passwd", "-6", "-stdin"], input=password.encode(), capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        raise UnavailableError(
            f"{name}: openssl cannot hash the password; install it (apt install openssl), or put the hash that "
            "`mkpasswd` prints into the file"
        ) from None
    return done.stdout.decode("ascii").strip()
