"""How tables are emptied after a test that commits: only those that hold something, past the triggers that refuse it.

Django's own way truncates all of them, makes new files for each and its indexes, and sends post_migrate: half a second
a test.
"""

from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import TransactionTestCase

# What `migrate` alone writes, and post_migrate would write again.
KEPT = ["django_migrations", "django_content_type", "auth_permission"]
EMPTY = """
DO $$
DECLARE
    name text;
    has_rows boolean;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR name IN
        SELECT c.oid::regclass::text FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> ALL ({kept})
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', name) INTO has_rows;
        IF has_rows THEN
            EXECUTE format('DELETE FROM %s', name);
        END IF;
    END LOOP;
END $$
""".replace("{kept}", f"ARRAY{KEPT}")


@pytest.fixture(autouse=True, scope="session")
def quick_emptying() -> Iterator[None]:
    before = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]
    TransactionTestCase._fixture_teardown = _empty  # type: ignore[attr-defined]
    yield
    TransactionTestCase._fixture_teardown = before  # type: ignore[attr-defined]


def _empty(_: TransactionTestCase) -> None:
    with connection.cursor() as cursor:
        cursor.execute(EMPTY)
