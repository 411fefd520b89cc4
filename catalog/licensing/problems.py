"""A licence's refusal as the management API says it."""

from typing import Any

from django.conf import settings
from rest_framework import status
from rest_framework.exceptions import APIException

from catalog.licensing.policy import Refusal


class NotLicensed(APIException):
    """403 with what was refused, by which policy, and where to agree."""

    status_code = status.HTTP_403_FORBIDDEN

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text(settings.PUBLIC_URL), code=refusal.code)
        standing = refusal.standing
        self.more: dict[str, Any] = {
            "licence": standing.terms.licence,
            "licence_name": standing.terms.name,
            "licence_url": standing.terms.url,
            "text_sha256": standing.terms.sha256,
            "use": standing.use,
            "policy": standing.verdict.value,
            "agree_at": f"{settings.PUBLIC_URL}{refusal.place}",
        }
