"""One signed message to an address that people gave: never into the portal's own network, never followed elsewhere."""

import hashlib
import hmac
import http.client
import socket
import ssl
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from accounts import addresses
from billing.errors import BadAddress

TIMEOUT_S = 10.0
SIGNATURE, DELIVERY = "x-modelport-signature", "x-modelport-delivery"


def check(url: str) -> tuple[SplitResult, str]:
    """The address and the IP that is to be called. Raises BadAddress for what is not https to a public host, unless
    PRIVATE_WEBHOOKS allows it."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise BadAddress(f"That is no address: {error}.") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.fragment:
        raise BadAddress("Write an address such as https://example.com/hooks/budget, without a user name.")
    if parts.scheme != "https" and not settings.PRIVATE_WEBHOOKS:
        raise BadAddress("The address begins with https://, so that nobody on the way can read it.")
    try:
        found = [str(row[4][0]) for row in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise BadAddress(f"{parts.hostname} has no address.") from error
    if not settings.PRIVATE_WEBHOOKS and not all(addresses.is_public(one) for one in found):
        raise BadAddress(f"{parts.hostname} is a private address, and the portal sends nothing there.")
    return parts, found[0]


def signature(secret: str, *, at: int, body: str) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 under the secret over the seconds, a dot and the body."""
    digest = hmac.new(secret.encode(), f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def send(url: str, body: str, *, secret: str, delivery: str, at: int) -> str:
    """POST the body, signed. What came of it, if it arrived (2xx). Raises BadAddress, OSError or HTTPException."""
    parts, ip = check(url)
    connection = _Pinned(parts, ip)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {
        "content-type": "application/json",
        "user-agent": "Modelport",
        DELIVERY: delivery,
        SIGNATURE: signature(secret, at=at, body=body),
    }
    try:
        connection.request("POST", target, body.encode(), headers)
        status = connection.getresponse().status
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise http.client.HTTPException(f"answered with status {status}")
    return f"answered with status {status}"


class _Pinned(http.client.HTTPConnection):
    """Connects to the IP that was checked, whatever its name means a moment later."""

    def __init__(self, parts: SplitResult, ip: str) -> None:
        assert parts.hostname is not None  # noqa: S101 - check() promises it
        self.default_port = 443 if parts.scheme == "https" else 80
        super().__init__(parts.hostname, parts.port, timeout=TIMEOUT_S)
        self._ip, self._secure = ip, parts.scheme == "https"

    def connect(self) -> None:
        plain = socket.create_connection((self._ip, self.port), timeout=TIMEOUT_S)
        context = ssl.create_default_context()
        self.sock = context.wrap_socket(plain, server_hostname=self.host) if self._secure else plain
