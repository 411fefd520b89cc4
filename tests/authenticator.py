"""What an authenticator app does: the code of RFC 6238 for a secret, now."""

import base64
import hashlib
import hmac
import time


def code(secret: str, *, steps_later: int = 0) -> str:
    """Six digits. A code opens once: the next sign-in needs a later step, which a clock may run ahead by one."""
    counter = int(time.time() // 30) + steps_later
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(key, counter.to_bytes(8, "big"), hashlib.sha1).digest()
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 10**6:06}"
