"""The tus 1.0 protocol's headers: what may stand in them, and which status answers what may not. Pure."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from catalog.uploads.errors import Refused

VERSION = "1.0.0"
EXTENSIONS = "creation,checksum,termination,expiration"
DIGEST_BYTES = {"sha1": 20, "sha256": 32}
CHUNK_TYPE = "application/offset+octet-stream"
MOST_DIGITS = 18
LONGEST_METADATA = 8_000
CHECKSUM_MISMATCH = 460

_NUMBER = re.compile(r"[0-9]{1,40}")
_KEY = re.compile(r"[!-+\--~]+")  # printable ASCII without space and comma


@dataclass(frozen=True, slots=True)
class Checksum:
    """Of one PATCH's body: `algorithm` is a key of DIGEST_BYTES."""

    algorithm: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """What the headers of a PATCH say. `length` is None for a body that is sent in chunks of unknown number."""

    offset: int
    length: int | None
    checksum: Checksum | None


def read_version(headers: Mapping[str, str]) -> None:
    """Every request but OPTIONS names the protocol's version; nothing else is processed."""
    if headers.get("tus-resumable") != VERSION:
        raise Refused(
            412,
            f"Send the header Tus-Resumable: {VERSION}. This address speaks the tus resumable upload protocol.",
            headers={"Tus-Version": VERSION},
        )


def read_length(headers: Mapping[str, str], *, largest: int) -> int:
    """Upload-Length of a creation."""
    if "upload-defer-length" in headers:
        raise Refused(400, "Upload-Defer-Length is not offered here: send Upload-Length, the file's size in bytes.")
    length = _number(headers, "Upload-Length")
    if length > largest:
        raise Refused(413, f"The file has {length} bytes; the largest that is taken here has {largest}.")
    return length


def read_chunk(headers: Mapping[str, str]) -> Chunk:
    """The headers of a PATCH."""
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != CHUNK_TYPE:
        raise Refused(415, f"Send the bytes as Content-Type: {CHUNK_TYPE}.")
    offset = _number(headers, "Upload-Offset")
    length = _number(headers, "Content-Length") if "content-length" in headers else None
    return Chunk(offset, length, _checksum(headers.get("upload-checksum")))


def read_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """Upload-Metadata: `key base64,key base64`. A key may stand without a value."""
    text = headers.get("upload-metadata", "")
    if len(text) > LONGEST_METADATA:
        raise Refused(400, f"Upload-Metadata is longer than {LONGEST_METADATA} characters.")
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = pair.partition(" ")
        if not _KEY.fullmatch(key) or key in found:
            raise Refused(400, f"Upload-Metadata: the key {key[:40]!r} is not ASCII, or stands there twice.")
        try:
            found[key] = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Refused(400, f"Upload-Metadata: the value of {key[:40]} is not base64 of UTF-8 text.") from error
    return found


def _checksum(text: str | None) -> Checksum | None:
    if text is None:
        return None
    algorithm, _, encoded = text.strip().partition(" ")
    if algorithm not in DIGEST_BYTES:
        raise Refused(400, f"Upload-Checksum: {algorithm[:40]!r} is not offered here; use one of: sha1, sha256.")
    try:
        digest = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error as error:
        raise Refused(400, "Upload-Checksum is the algorithm's name, a space and the digest in base64.") from error
    if len(digest) != DIGEST_BYTES[algorithm]:
        raise Refused(400, f"Upload-Checksum: a {algorithm} digest has {DIGEST_BYTES[algorithm]} bytes.")
    return Checksum(algorithm, digest)


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name.lower(), "").strip()
    if not _NUMBER.fullmatch(text):
        raise Refused(400, f"{name} is a whole number of bytes, 0 or more; {text[:40]!r} is none.")
    if len(text.lstrip("0")) > MOST_DIGITS:
        raise Refused(413, f"{name} is larger than any file.")
    return int(text)
