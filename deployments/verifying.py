"""Are the weights on the disk still the ones that were pinned?"""

import hashlib
from pathlib import Path

from django.core.cache import cache

from catalog.models import Weights


def problem_with(weights: Weights) -> str:
    """Empty if the file is there and is the pinned one; its hash is read again only when the file has changed."""
    path = Path(weights.path)
    try:
        facts = path.stat()
        if facts.st_size != weights.size_bytes:
            return f"The weights have {facts.st_size} bytes, not the {weights.size_bytes} that were verified"
        place = hashlib.sha256(weights.path.encode()).hexdigest()
        key = f"weights-sha256:{place}:{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ino}"
        digest = cache.get(key)
        if digest is None:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            cache.set(key, digest, timeout=None)
    except OSError as error:
        return f"The weights can't be read: {error}"
    return "" if digest == weights.sha256 else f"The weights' sha256 is {digest}, not {weights.sha256}"
