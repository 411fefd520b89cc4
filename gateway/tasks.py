"""Once in a while: forget stored answers and lines of the request log that are old."""

from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from gateway import contents, idempotency
from gateway.models import RequestRecord


@shared_task(name="gateway.forget_old", acks_late=True)
def forget_old() -> int:
    idempotency.forget_old()
    contents.forget_old()
    old = timezone.now() - timedelta(days=settings.REQUEST_LOG_DAYS)
    return RequestRecord.objects.filter(at__lt=old).delete()[0]
