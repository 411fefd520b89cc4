"""Once in a while: forget answers that are old."""

from celery import shared_task

from playground import sent


@shared_task(name="playground.forget_old", acks_late=True)
def forget_old() -> int:
    return sent.forget_old()
