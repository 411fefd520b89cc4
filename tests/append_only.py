"""Tests empty the tables between them with TRUNCATE, which the ledger's own trigger refuses: lift that one here."""

import pytest
from django.db import connection

TRUNCATE_GUARDS = {
    "ledger_no_truncate": "billing_ledgerentry",
    "usage_no_truncate": "billing_usageevent",
    "invoice_no_truncate": "billing_invoice",
}


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: object) -> None:
    with django_db_blocker.unblock(), connection.cursor() as cursor:  # type: ignore[attr-defined]
        for trigger, table in TRUNCATE_GUARDS.items():
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
