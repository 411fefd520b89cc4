"""Invoices on their way to people: the PDF and the plain CSV, tried again until they have gone or are given up.

A mail is claimed before it is sent, so two senders never send the same one; a sender that dies between sending and
saying so may make it come twice.
"""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.urls import reverse

from billing import invoice_pdf, money, scope, statements
from billing.coverage import Coverage
from billing.models import Invoice, InvoiceMail

log = logging.getLogger(__name__)
ATTEMPTS = 8
CLAIM = timedelta(minutes=10)
# What mail servers commonly take; a larger CSV is left to the link.
LARGEST_BYTES = 5_000_000


def send_due(*, now: datetime) -> int:
    """Send what is due; how many have gone."""
    sent = 0
    while mail := _claimed(now=now):
        sent += _try(mail, now=now)
    return sent


def _claimed(*, now: datetime) -> InvoiceMail | None:
    with transaction.atomic():
        due = InvoiceMail.objects.select_for_update(skip_locked=True).filter(due_at__lte=now).order_by("due_at")
        mail = due.first()
        if mail is None:
            return None
        mail.attempts += 1
        mail.due_at = now + max(CLAIM, timedelta(minutes=2**mail.attempts))
        mail.save(update_fields=["attempts", "due_at"])
    return mail


def _try(mail: InvoiceMail, *, now: datetime) -> bool:
    try:
        _message(mail).send()
    except Exception as error:
        log.warning("%s was not sent: %s", mail, error)
        mail.outcome = f"{type(error).__name__}: {error}"[:200]
        if mail.attempts >= ATTEMPTS:
            mail.due_at = None
        mail.save(update_fields=["outcome", "due_at"])
        return False
    mail.sent_at, mail.due_at, mail.outcome = now, None, "sent"
    mail.save(update_fields=["sent_at", "due_at", "outcome"])
    return True


def _message(mail: InvoiceMail) -> EmailMessage:
    invoice = mail.invoice
    link = settings.PUBLIC_URL + reverse("invoice", args=[invoice.name])
    message = EmailMessage(
        subject=f"Invoice {invoice.name} for {invoice.team_name}, {invoice.month:%B %Y}",
        body=f"{money.dollars(invoice.due)} are due for {invoice.month:%B %Y}. "
        f"{Coverage(invoice.events, invoice.estimated).words}\n\n{link}\n",
        to=mail.emails,
    )
    message.attach(f"{invoice.name}.pdf", invoice_pdf.render(invoice), "application/pdf")
    csv = _csv(invoice)
    if csv is not None:
        message.attach(f"{invoice.name}.csv", csv, "text/csv")
    return message


def _csv(invoice: Invoice) -> bytes | None:
    """The plain CSV, unless it is larger than mail servers take."""
    found = bytearray()
    for piece in statements.as_csv(scope.of_invoice(invoice)):
        found += piece
        if len(found) > LARGEST_BYTES:
            return None
    return bytes(found)
