"""Whether a host can be reached: its name, its port, its certificate."""

from __future__ import annotations

import socket
import ssl

from edge.errors import UnavailableError

CONNECT_SECONDS = 5.0
"""For each address of a host."""

EXPIRED, NOT_YET = 10, 9
NAMES = {62, 64}
"""OpenSSL's X509_V_ERR_ codes: the certificate's time, and a name or address that it is not for."""


def reach(host: str, port: int) -> socket.socket:
    """Connect to a host.

    Raises:
        UnavailableError: its name is not known, or nobody answers; the message says which and what to do.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        mdns = "; a name that ends in .local needs: sudo apt install avahi-daemon libnss-mdns"
        local = mdns if host.endswith(".local") else ""
        raise UnavailableError(
            f"the name {host} is not known ({getattr(error, 'strerror', None) or error}); check its spelling and the "
            f"network: getent hosts {host}{local}"
        ) from None
    troubles: dict[str, None] = {}
    for family, kind, protocol, _, address in addresses:
        try:
            connection = socket.socket(family, kind, protocol)
        except OSError as error:  # no IPv6 here
            troubles[str(error.strerror)] = None
            continue
        connection.settimeout(CONNECT_SECONDS)
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            troubles[error.strerror or f"no answer within {CONNECT_SECONDS:g} s"] = None
        else:
            return connection
    raise UnavailableError(
        f"{host}:{port} cannot be reached ({', '.join(troubles)}); is it on, is the port right, and does no firewall "
        "stand between"
    )


def shake_hands(connection: socket.socket, context: ssl.SSLContext, host: str) -> str:
    """Agree on encryption and say which; the connection is closed afterwards.

    Raises:
        UnavailableError: the certificate is not believed, or the other side does not speak TLS.
    """
    try:
        with connection, context.wrap_socket(connection, server_hostname=host) as encrypted:
            return encrypted.version() or "TLS"
    except ssl.SSLCertVerificationError as error:
        raise UnavailableError(
            f"the certificate of {host} is not believed ({error.verify_message}); {_mend(error)}"
        ) from None
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise UnavailableError(
            f"{host} does not agree on TLS ({reason}); use the port at which it speaks TLS, mostly 8883, or mqtt:// "
            "for one that does not encrypt"
        ) from None
    except OSError as error:
        why = error.strerror or "no answer"
        raise UnavailableError(f"{host} hangs up on TLS ({why}); look into the broker's own log") from None


def _mend(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in {EXPIRED, NOT_YET}:
        return "renew it, unless it is this device's clock that is wrong (see clock)"
    if error.verify_code in NAMES:
        return "mqtt.url must name the broker as its certificate does"
    return "name the authority that signed it in mqtt.ca_file"
