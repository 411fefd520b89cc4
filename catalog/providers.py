"""Is a provider there, and does it take our key? One free question: which models it has."""

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from django.conf import settings

from accounts import addresses, sealing
from catalog.models import Provider

TIMEOUT_S = 10


class BadAddress(ValueError):
    """An address that the portal won't call; its text says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    works: bool
    text: str


def check_address(url: str) -> None:
    """Refuse what is not http(s), and private, link-local and metadata addresses unless the operator allows them.
    Raises BadAddress."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
        raise BadAddress("Write an address such as https://api.example.com/v1, without a user name.")
    if settings.PRIVATE_PROVIDERS:
        return
    if parts.scheme != "https":
        raise BadAddress("A provider's address begins with https://, because a key is sent to it.")
    try:
        found = {row[4][0] for row in socket.getaddrinfo(parts.hostname, parts.port or 443)}
    except OSError as error:
        raise BadAddress(f"{parts.hostname} has no address.") from error
    if not all(addresses.is_public(str(one)) for one in found):
        raise BadAddress(
            f"{parts.hostname} is a private address. Set PRIVATE_PROVIDERS=1 if providers may be on your own network."
        )


def probe(provider: Provider) -> Verdict:
    """Ask the provider for its models with the stored key. Never raises, never shows the key."""
    if provider.wire == Provider.Wire.PLATFORM:
        return Verdict(True, "This portal's own deployments need no key.")
    if not provider.sealed_key:
        return Verdict(False, "No key is set.")
    try:
        return _asked(provider, sealing.unseal(provider.sealed_key))
    except BadAddress as error:
        return Verdict(False, str(error))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError) as error:
        return Verdict(False, f"It could not be asked: {type(error).__name__}.")


def _asked(provider: Provider, key: str) -> Verdict:
    headers = {"authorization": f"Bearer {key}"}
    if provider.wire == Provider.Wire.ANTHROPIC:
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    check_address(provider.base_url)
    answer = httpx.get(f"{provider.base_url.rstrip('/')}/models", headers=headers, timeout=TIMEOUT_S)
    if answer.status_code in {401, 403}:
        return Verdict(False, f"It refused the key (status {answer.status_code}).")
    listed = answer.json().get("data") if answer.status_code == httpx.codes.OK else None
    if not isinstance(listed, list):
        return Verdict(False, f"It answered with status {answer.status_code}, not with a list of models.")
    return _compared(provider, {str(model.get("id")) for model in listed if isinstance(model, dict)})


def _compared(provider: Provider, ids: set[str]) -> Verdict:
    ours = set(provider.offers.values_list("upstream_model", flat=True))
    missing = sorted(ours - ids)
    text = f"It took the key and lists {len(ids)} models."
    if missing and ids:
        text += f" Not among them: {', '.join(missing[:5])}{' and others' if len(missing) > 5 else ''}."
    return Verdict(True, text)
