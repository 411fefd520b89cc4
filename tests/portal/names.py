"""Which environment variables the settings read."""

import re

from portal.embedded import ROOT


def names_that_settings_read() -> set[str]:
    source = (ROOT / "portal" / "settings.py").read_text()
    plain = set(re.findall(r'env_(?:str|bool|int|secret|list)\(\s*"([A-Z0-9_]+)"', source))
    secret = set(re.findall(r'env_secret\(\s*"([A-Z0-9_]+)"', source))
    return plain | {f"{name}_FILE" for name in secret}
