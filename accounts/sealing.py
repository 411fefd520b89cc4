"""Secrets at rest: sealed with Fernet under a key derived from FIELD_KEY, opened only where they are used."""

import base64
import functools
import hashlib

from cryptography.fernet import Fernet
from django.conf import settings


def seal(text: str) -> str:
    return _fernet(settings.FIELD_KEY).encrypt(text.encode()).decode() if text else ""


def unseal(token: str) -> str:
    """The text, or cryptography.fernet.InvalidToken where FIELD_KEY is not the one it was sealed with."""
    return _fernet(settings.FIELD_KEY).decrypt(token.encode()).decode() if token else ""


@functools.cache
def _fernet(key_text: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"modelport field key" + key_text.encode()).digest()))
