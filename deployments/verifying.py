"""Are the weights on the disk still the ones that were pinned?"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from django.core.cache import cache

from catalog.models import Weights


def problem_with(weights: Weights) -> str:
    """Empty if every file is there and is the pinned one; a hash is read again only when its file has changed."""
    return next(filter(None, (_problem_with(*one) for one in _files(weights))), "")


def _files(weights: Weights) -> Iterable[tuple[Path, int, str]]:
    """Each with the size and the sha256 that were verified: those of the set, or the one file alone."""
    path = Path(weights.path)
    folder = path if path.is_dir() else path.parent
    rows = [row for row in weights.files.all() if row.blob_id or row.sha256]
    return [(folder / row.name, row.size_bytes, row.blob_id or row.sha256) for row in rows] or [
        (path, weights.size_bytes, weights.sha256)
    ]


def _problem_with(path: Path, size_bytes: int, sha256: str) -> str:
    try:
        facts = path.stat()
        if facts.st_size != size_bytes:
            return f"The weights have {facts.st_size} bytes, not the {size_bytes} that were verified: {path.name}"
        place = hashlib.sha256(str(path).encode()).hexdigest()
        key = f"weights-sha256:{place}:{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ino}"
        digest = cache.get(key)
        if digest is None:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            cache.set(key, digest, timeout=None)
    except OSError as error:
        return f"The weights can't be read: {error}"
    return "" if digest == sha256 else f"The weights' sha256 is {digest}, not {sha256}: {path.name}"
