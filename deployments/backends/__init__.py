"""The backends by name, from settings.DEPLOYMENT_BACKENDS, as Django makes caches."""

from typing import cast

from django.conf import settings
from django.utils.connection import BaseConnectionHandler
from django.utils.module_loading import import_string

from deployments.backends.base import Backend, Observation, Seen

__all__ = ["Backend", "Observation", "Seen", "backends"]


class BackendHandler(BaseConnectionHandler):
    settings_name = "DEPLOYMENT_BACKENDS"

    def create_connection(self, alias: str) -> Backend:
        entry = self.settings[alias]
        return cast(Backend, import_string(entry["BACKEND"])(instance=settings.INSTANCE_ID, **entry["OPTIONS"]))

    def __getitem__(self, alias: str) -> Backend:
        return cast(Backend, super().__getitem__(alias))


backends = BackendHandler()
