"""Migrations run once for all workers: the first makes a template of them, and each copies its database from that."""

import fcntl

import psycopg
import pytest
from django.db import connections
from psycopg import sql
from pytest_django.plugin import DjangoDbBlocker

from billing.batching import conninfo_from_settings


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_blocker: DjangoDbBlocker,
) -> None:
    run = getattr(request.config, "workerinput", {}).get("testrunuid")
    if not run:
        return
    with (tmp_path_factory.getbasetemp().parent / "template.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        if not lock.read():
            with django_db_blocker.unblock():
                _make(_name(run))
            lock.write("made")
    connections["default"].settings_dict["TEST"]["TEMPLATE"] = _name(run)


def _make(name: str) -> None:
    connection = connections["default"]
    database, test = connection.settings_dict["NAME"], connection.settings_dict["TEST"]
    worker = test["NAME"]
    test["NAME"] = name
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    connection.close()
    test["NAME"], connection.settings_dict["NAME"] = worker, database


def _name(run: str) -> str:
    return f"test_template_{run[:16]}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The process that started the workers outlives them, and clears away."""
    workers = session.config.pluginmanager.getplugin("dsession")
    if workers is not None:
        name = sql.Identifier(_name(workers.nodemanager.testrunuid))
        with psycopg.connect(conninfo_from_settings(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(name))
