"""The last digest of a closed month's detail file: what `verify_statement --head` is given, printed on the invoice.

The file's own chain shows a row that was altered, but not that its last rows are missing, or that somebody made all of
it anew. The digest on the invoice does. It is made once, after the invoice; the rows that it goes over never change.
"""

from billing import detail, scope
from billing.models import Invoice, StatementHead


def of(invoice: Invoice) -> StatementHead:
    """Made now unless it was before: then as long as the month's detail takes to be read."""
    found = StatementHead.objects.filter(invoice=invoice).first()
    if found is not None:
        return found
    rows, digest = detail.head(scope.of_invoice(invoice))
    return StatementHead.objects.get_or_create(invoice=invoice, defaults={"rows": rows, "digest": digest})[0]


def make_missing() -> int:
    """Those of all invoices that have none yet; how many."""
    return len([of(invoice) for invoice in Invoice.objects.filter(head=None).order_by("number")])
