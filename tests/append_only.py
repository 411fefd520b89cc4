"""Tests empty the tables between them with TRUNCATE, which the ledger's own trigger refuses: lift that one here."""

import pytest
from django.db import connection


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: object) -> None:
    with django_db_blocker.unblock(), connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute("SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE '%\\_no\\_truncate'")
        for trigger, table in cursor.fetchall():
            cursor.execute(f"ALTER TABLE ONLY {table} DISABLE TRIGGER {trigger}")
