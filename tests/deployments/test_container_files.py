"""Dockerfile and compose.yaml are safe, and name only files and settings that exist. `.ci/run` also lints them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.cli.command_line import COMMANDS
from storage.settings import Settings

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_ports_are_published_on_the_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert published
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published)


def test_no_password_stands_in_the_file() -> None:
    values = [str(value) for service in SERVICES.values() for value in service["environment"].values()]
    secret = [value for value in values if "postgresql" in value]

    assert len(secret) == len(SERVICES) - 1
    assert all(re.search(r"://(photojobs|prefect):\$\{\w+_PASSWORD:\?", value) for value in secret)
    passwords = [
        value
        for service in SERVICES.values()
        for name, value in service["environment"].items()
        if name.endswith(("PASSWORD", "AUTH_STRING"))
    ]
    assert len(passwords) == len(SERVICES)
    assert all("_PASSWORD:?" in value for value in passwords)


def test_our_services_can_write_nothing_but_the_library_and_gain_no_rights() -> None:
    for name, service in SERVICES.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if name != "postgres":
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
            assert service["environment"]["DO_NOT_TRACK"] == "1", name


def test_the_server_asks_for_a_password_and_a_token_and_each_program_has_a_role_of_its_own() -> None:
    server = SERVICES["prefect"]["environment"]
    assert server["PREFECT_SERVER_API_AUTH_STRING"] == SERVICES["worker"]["environment"]["PREFECT_API_AUTH_STRING"]
    assert server["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    assert "photojobs" not in server["PREFECT_SERVER_DATABASE_CONNECTION_URL"]


def test_whoever_waits_for_a_service_waits_for_a_condition_that_it_can_meet() -> None:
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            needed = "healthcheck" if wait["condition"] == "service_healthy" else "command"
            assert needed in SERVICES[name]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_settings_and_commands_of_services_exist(name: str) -> None:
    service = SERVICES[name]
    settings = {each for each in service["environment"] if each.startswith("PHOTOJOBS_")}
    commands = {each[0] for group in COMMANDS.values() for each in group}

    assert {each.removeprefix("PHOTOJOBS_").lower() for each in settings} <= set(Settings.model_fields)
    if "entrypoint" not in service and service.get("command"):
        assert service["command"][0] in commands
    elif name != "postgres":
        is_server = service["entrypoint"][:3] == ["python", "-m", "deployments.embedded_server"]
        assert service["entrypoint"][0] == "prefect" or is_server


def test_the_workers_ask_the_pool_that_is_deployed_to() -> None:
    deploy, worker = SERVICES["deploy"]["command"], SERVICES["worker"]["entrypoint"]

    assert deploy[deploy.index("--pool") + 1] == worker[worker.index("--pool") + 1]
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


def test_the_image_has_every_package_and_does_not_run_as_root() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert copied == set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE) == ["$UID"]
    assert "--constraint constraints.txt" in DOCKERFILE
    # `.dockerignore` excludes everything, and then names what the build may use.
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[0] == "*"
    assert {f"!{name}" for name in copied} <= set(ignored)


def test_the_health_check_is_a_command_that_succeeds_where_the_database_answers(
    command: Any, place_database: object
) -> None:
    (words,) = re.findall(r"^HEALTHCHECK .* CMD \[(.*)\]$", DOCKERFILE, re.MULTILINE)
    program, *rest = re.findall(r'"([^"]+)"', words)

    assert program == "photojobs"
    assert command(*rest).code == 0
