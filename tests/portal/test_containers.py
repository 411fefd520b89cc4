"""The Dockerfile and docker-compose.yml can't be built in the tests; this reads both and holds them to the code."""

import importlib.util
import json
import re
from typing import Any

import pytest
import yaml

from portal.embedded import ROOT
from tests.portal.names import names_that_settings_read

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service.get("build")]


def test_compose_has_each_part_of_the_portal() -> None:
    assert set(SERVICES) == {"prepare", "web", "gateway", "worker", "beat", "postgres", "redis"}
    assert set(OURS) == set(SERVICES) - {"postgres", "redis"}


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_what_exists(name: str) -> None:
    command = SERVICES[name]["command"]
    assert command[0] == "python"
    if command[1] == "manage.py":
        assert (ROOT / "portal" / "management" / "commands" / f"{command[2]}.py").exists()
        return
    assert command[1] == "-m"
    assert importlib.util.find_spec(command[2])
    if command[2] == "uvicorn":
        module, _, attribute = command[3].partition(":")
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
        assert re.search(rf"^async def {attribute}\(", source, re.MULTILINE)


@pytest.mark.parametrize("name", OURS)
def test_a_service_sets_only_what_the_settings_read(name: str) -> None:
    assert set(SERVICES[name]["environment"]) <= names_that_settings_read()


def test_urls_name_the_services_beside_them() -> None:
    environment = SERVICES["web"]["environment"]
    assert "@postgres:5432/modelport" in environment["DATABASE_URL"]
    assert environment["REDIS_URL"].startswith("redis://redis:6379/")
    assert SERVICES["postgres"]["environment"]["POSTGRES_DB"] == "modelport"


def test_published_ports_are_those_that_the_servers_listen_on() -> None:
    listening = {words[words.index("--port") + 1] for words in _commands() if "--port" in words}
    published = {entry.split(":")[-1] for service in SERVICES.values() for entry in service.get("ports", [])}
    assert published == listening
    assert set(re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)) <= listening


def test_the_image_copies_what_exists_and_every_app() -> None:
    copied = [word for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]]
    assert all((ROOT / path).exists() for path in copied)
    apps = {path.parent.name for path in ROOT.glob("*/apps.py")}
    assert apps | {"static", "templates", "manage.py"} <= set(copied)


def test_the_build_context_holds_what_the_image_copies() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]}
    assert {path.split("/")[0] for path in copied} <= allowed


def test_the_image_installs_the_locked_requirements_by_hash() -> None:
    for name in re.findall(r"-r (\S+)", DOCKERFILE):
        assert (ROOT / name).exists()
    assert DOCKERFILE.count("pip install") == DOCKERFILE.count("--require-hashes") == 2


def test_the_images_environment_is_what_the_settings_read() -> None:
    lines = re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)
    names = {word.split("=")[0] for line in lines for word in line.split()}
    assert names <= names_that_settings_read() | {"PYTHONUNBUFFERED", "DJANGO_SETTINGS_MODULE"}
    version = re.search(r"^FROM python:([\d.]+)-slim$", DOCKERFILE, re.MULTILINE)
    assert version
    assert f"/python{version[1]}/site-packages/" in DOCKERFILE


def test_the_images_own_command_is_the_whole_portal() -> None:
    found = re.search(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)
    assert found
    assert "portal.asgi:application" in json.loads(found[1])


def _commands() -> list[list[str]]:
    return [service["command"] for service in SERVICES.values() if "command" in service]
