"""Passwords: kept out of the configuration and the command line, read from a file of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from edge.errors import BadDataError, InputNotFoundError

MAX_SECRET_BYTES = 4096
"""A file longer than this is no password; reading stops there."""

# Greedy to the last "@": an unescaped "@" or "/" in a password must not leave half of it in sight.
_USERINFO = re.compile(r"(?<=://)\S*@")
# A colon before the "@" that does not merely begin a port number.
_WITH_PASSWORD = re.compile(r"://[^/?#\s@]*:(?!\d*(?:[/?#]|$))\S*@")
_QUERY = re.compile(r"(?i)((?:\b|_)(?:password|passwd|pass|pwd|token)=)([^&\s]+)")
# What a path makes of a URL.
_PATH = re.compile(r"(?i)(\b(?:rtsp|mqtt|http)s?:/)[^/\s]\S*@")
_OPTION = re.compile(r"(?i)(--[a-z-]*(?:password|passwd|pwd) +)[^-\s]\S*")


def has_password(url: str) -> bool:
    """Whether a URL carries a password, as `user:password@host` or as `password=…`."""
    return "://" in url and bool(_WITH_PASSWORD.search(url) or _QUERY.search(url))


def hide_password(text: str) -> str:
    """The same text, fit for a message.

    What stands between `://` and `@`, after `password=` or after an option that ends like that becomes `***`.
    """
    return _OPTION.sub(r"\1***", _QUERY.sub(r"\1***", _PATH.sub(r"\1***@", _USERINFO.sub("***@", text))))


def read_secret(path: Path, key: str) -> str:
    """Read the first and only line of a password file.

    Args:
        path: the file; a final line break is not part of the password.
        key: the configuration key that named the file, for messages.

    Raises:
        InputNotFoundError: the file is missing or cannot be read.
        BadDataError: it is empty, holds more than one line, or is no text.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        # Somebody may have taken the key for that of the password itself.
        shown = path if path.is_absolute() else "the file (not shown, lest it be the password itself)"
        raise InputNotFoundError(
            f"{key}: {shown} cannot be read ({error.strerror}); name a file with its whole path, write the password "
            "to it, and let the user that runs mien read it"
        ) from None
    try:
        secret = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise BadDataError(f"{key}: {path} is not UTF-8 text; it must hold the password and nothing else") from None
    if not secret or len(raw) > MAX_SECRET_BYTES or "\n" in secret or "\0" in secret:
        raise BadDataError(f"{key}: {path} must hold one line, the password, and nothing else")
    return secret


def credential(environ: Mapping[str, str], name: str) -> Path | None:
    """The file of a systemd credential (`LoadCredential=name:…`), None where there is none.

    One that this user may not even look for is returned: `read_secret` then says what is wrong.
    """
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    path = Path(folder, name)
    try:
        return path if path.is_file() else None
    except PermissionError:
        return path


def url_with_password(url: str, password: str) -> str:
    """Put a password into `scheme://user@host/…`, for a library that takes it no other way. Never log the result."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}{at or '@'}{host}"))
