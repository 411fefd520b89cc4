"""That something about a deployment has changed, told to whoever listens at once; PostgreSQL's NOTIFY.

Who misses it loses nothing but time: each listener looks by itself as well, only later.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from django.db import connection

CHANNEL, GATEWAYS = "modelport_deployments", "modelport_gateways"


def tell_of_gateway(reporter: str) -> None:
    """A gateway has said what it holds because it heard of a change; told to those who wait for it, not to gateways."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [GATEWAYS, reporter])


def tell(deployment_id: UUID) -> None:
    """Told when the transaction around it commits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, str(deployment_id)])


@contextlib.contextmanager
def listening() -> Iterator[Callable[[float], bool]]:
    """Gives a wait that ends after so many seconds, or sooner, and then True, if something was told."""
    with connection.cursor() as cursor:
        cursor.execute(f"LISTEN {CHANNEL}; LISTEN {GATEWAYS}")
    held: Any = connection.connection

    def wait(seconds: float) -> bool:
        return any(True for _ in held.notifies(timeout=seconds, stop_after=1))

    try:
        yield wait
    finally:
        if not connection.needs_rollback and connection.connection is held:
            with connection.cursor() as cursor:
                cursor.execute("UNLISTEN *")
