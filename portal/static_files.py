"""Static files under names that have their content's digest in them, so that browsers may keep them for ever.

Nothing is collected or copied: the names are made from the files where they lie, and served beside the plain ones,
which CSS and scripts use among themselves.
"""

import functools
import hashlib
import os
import posixpath

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage
from whitenoise.middleware import WhiteNoiseMiddleware


class HashedStorage(StaticFilesStorage):
    """What `{% static %}` asks. While DEBUG is on, files change under a running portal: then names stay plain."""

    def url(self, name: str | None) -> str:
        return super().url(name if settings.DEBUG else _hashed(name or ""))


class StaticFiles(WhiteNoiseMiddleware):
    """Each file under both names; those with the right digest say that they never change."""

    def add_file_to_dictionary(self, url: str, path: str, stat_cache: dict[str, os.stat_result] | None = None) -> None:
        super().add_file_to_dictionary(url, path, stat_cache=stat_cache)
        name = url.removeprefix(self.static_prefix)
        if (hashed := _hashed(name)) != name:
            super().add_file_to_dictionary(self.static_prefix + hashed, path, stat_cache=stat_cache)


@functools.cache
def _hashed(name: str) -> str:
    """css/portal.css -> css/portal.1a2b3c4d5e6f.css; a name without a file stays as it is."""
    path = finders.find(name) if name else None
    if not isinstance(path, str) or not os.path.isfile(path):
        return name
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    stem, suffix = posixpath.splitext(name)
    return f"{stem}.{digest}{suffix}"
