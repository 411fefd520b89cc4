"""Celery's doorbells into billing."""

from celery import shared_task
from django.utils import timezone

from billing import alerting, chaining, heads, invoice_mail, invoicing, metering, partitions, rollups


@shared_task(name="billing.sweep")
def sweep() -> None:
    while metering.sweep(now=timezone.now()) == metering.SWEEP_BATCH:
        pass


@shared_task(name="billing.seal")
def seal() -> None:
    chaining.seal()


@shared_task(name="billing.roll_up")
def roll_up() -> None:
    rollups.roll_up()


@shared_task(name="billing.make_months")
def make_months() -> None:
    partitions.ensure(now=timezone.now())


@shared_task(name="billing.close_months")
def close_months() -> None:
    for _ in invoicing.close_due(now=timezone.now()):
        pass
    heads.make_missing()


@shared_task(name="billing.mail_invoices")
def mail_invoices() -> None:
    invoice_mail.send_due(now=timezone.now())


@shared_task(name="billing.alert")
def alert() -> None:
    alerting.look()
    while alerting.deliver() == alerting.BATCH:
        pass
