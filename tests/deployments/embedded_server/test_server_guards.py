"""The server that photojobs starts answers only its own pages and programs, and only with the password."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate

from deployments.deploying.runner_deployments import deployment_of, drain_deployment
from deployments.embedded_server.guards import OwnPagesOnly
from deployments.embedded_server.password import ADDRESS_FILE, AUTH_FILE, auth_string_of, login_link, use_password_of
from deployments.errors import ForeignDeployment
from deployments.serving.start_checks import checked_start, foreign_reason
from storage import Settings
from task_definitions import load_definitions
from tests.browser.site import require_chromium
from tests.prefect_api import headers_of


async def _answer(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"in"})


def asked(headers: dict[str, str], **options: Any) -> int:
    guarded = OwnPagesOnly(_answer, **options)

    async def ask() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://127.0.0.1:4200") as web:
            return (await web.get("/", headers=headers)).status_code

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:4200"},
        {"Host": "LOCALHOST"},
        {"Host": "[::1]:4200"},
        {"Origin": "http://127.0.0.1:4200"},
        {"Origin": "http://localhost:4200"},
        {"Host": "localhost:4200", "Origin": "http://127.0.0.1:4200"},
    ],
)
def test_its_own_names_and_pages_are_let_in(headers: dict[str, str]) -> None:
    assert asked(headers) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example:4200"},
        {"Host": "127.0.0.1.example"},
        {"Host": "user@127.0.0.1"},
        {"Host": "127.0.0.1:4200:80"},
        {"Host": ""},
        {"Host": "192.168.1.5:4200"},
        {"Origin": "http://127.0.0.1:4201"},
        {"Origin": "http://other.example"},
        {"Origin": "http://localhost:4200.example"},
        {"Origin": "null"},
        {"Origin": "file://127.0.0.1:4200"},
    ],
)
def test_foreign_hosts_and_origins_are_refused(headers: dict[str, str]) -> None:
    assert asked(headers) == 403


def test_a_server_for_other_machines_answers_its_address_and_the_names_that_are_set() -> None:
    options: dict[str, Any] = {"hosts": ["photos.example"], "is_open": True}
    assert asked({"Host": "192.168.1.5:4200", "Origin": "http://192.168.1.5:4200"}, **options) == 200
    assert asked({"Host": "photos.example", "Origin": "https://photos.example"}, **options) == 200
    assert asked({"Host": "rebound.example:4200"}, **options) == 403
    assert asked({"Host": "photos.example", "Origin": "https://other.example"}, **options) == 403


def test_a_web_socket_of_a_foreign_page_is_closed_before_it_is_accepted() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "websocket", "headers": [(b"host", b"127.0.0.1:1"), (b"origin", b"http://other.example")]}
    asyncio.run(OwnPagesOnly(_answer)(scope, None, send))  # type: ignore[arg-type]
    assert sent == ["websocket.close"]


def test_the_password_is_random_kept_and_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    made = auth_string_of(one)
    assert made.startswith("photojobs:")
    assert len(made) > 40
    assert auth_string_of(one) == made != auth_string_of(other)
    assert stat.S_IMODE((one / AUTH_FILE).stat().st_mode) == 0o600
    assert sorted(os.listdir(one)) == [AUTH_FILE]
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "me:mine")
    assert auth_string_of(one) == "me:mine"


def test_the_password_is_kept_on_a_file_system_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    monkeypatch.setattr(os, "link", refuse)
    made = auth_string_of(tmp_path)
    assert auth_string_of(tmp_path) == made
    assert os.listdir(tmp_path) == [AUTH_FILE]


@pytest.mark.parametrize(
    ("url", "is_used"),
    [("http://127.0.0.1:1/api", True), ("http://localhost:1/api/", True), ("http://127.0.0.1:2/api", False)],
)
def test_a_command_finds_the_password_of_the_server_that_is_named_and_of_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, is_used: bool
) -> None:
    (tmp_path / AUTH_FILE).write_text("photojobs:secret\n")
    (tmp_path / ADDRESS_FILE).write_text("http://127.0.0.1:1/api\n")
    monkeypatch.setenv("PREFECT_API_URL", url)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "")
    use_password_of(tmp_path)
    assert (os.environ["PREFECT_API_AUTH_STRING"] == "photojobs:secret") is is_used
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "my:own")
    use_password_of(tmp_path)
    assert os.environ["PREFECT_API_AUTH_STRING"] == "my:own"


@pytest.mark.prefect
@pytest.mark.xdist_group("deploy")
def test_without_password_or_token_the_server_does_nothing(prefect_url: str, prefect_home: Path) -> None:
    url, home = prefect_url, prefect_home
    flow = {"name": "forged"}
    assert httpx.get(f"{url}/health").status_code == 200
    assert httpx.get(f"{url}/admin/version").status_code == 401
    assert httpx.get(f"{url}/csrf-token?client=a").status_code == 401
    # A browser sends the form of another page with this type, without a preflight request.
    forged = {"Content-Type": "text/plain"}
    assert httpx.post(f"{url}/flows/", content='{"name": "forged"}', headers=forged).status_code == 403
    password = {"Authorization": headers_of(url)["Authorization"]}
    assert httpx.post(f"{url}/flows/", json=flow, headers=password).status_code == 403
    assert httpx.post(f"{url}/flows/", json=flow, headers=headers_of(url)).status_code == 201
    foreign = headers_of(url) | {"Origin": "http://127.0.0.1:1"}
    assert httpx.post(f"{url}/flows/", json=flow, headers=foreign).status_code == 403
    page = httpx.get(url.removesuffix("/api") + "/")
    assert page.headers["X-Frame-Options"] == "DENY"
    assert "Access-Control-Allow-Origin" not in page.headers
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [home, *home.rglob("*")]}
    assert {name for name, mode in modes.items() if mode & 0o077} <= {home.name}


@pytest.mark.prefect
@pytest.mark.xdist_group("deploy")
@pytest.mark.usefixtures("client")
def test_a_deployment_that_would_run_programs_is_not_run() -> None:
    began: list[str] = []

    async def start(_command: list[str], **_options: Any) -> None:
        began.append("started")

    async def scenario() -> tuple[str, str]:
        guarded = partial(checked_start(start), ["python"])
        async with get_client() as client:
            run = await client.create_flow_run_from_deployment(deployment_id)
            await guarded(env={"PREFECT__FLOW_RUN_ID": str(run.id)})
            await client.update_deployment(
                deployment_id, DeploymentUpdate(pull_steps=[{"prefect.deployments.steps.run_shell_script": {}}])
            )
            with pytest.raises(ForeignDeployment, match="pull steps"):
                await guarded(env={"PREFECT__FLOW_RUN_ID": str(run.id)})
            state = (await client.read_flow_run(run.id)).state
            assert state is not None
            await client.update_deployment(deployment_id, DeploymentUpdate(pull_steps=[], entrypoint="os.system"))
            with pytest.raises(ForeignDeployment, match="entrypoint"):
                await guarded(env={"PREFECT__FLOW_RUN_ID": str(run.id)})
            return state.type.value, state.message or ""

    deployment_id: UUID = deployment_of(load_definitions()["maintenance_global"], Settings.load()).apply()  # type: ignore[assignment]
    state, message = asyncio.run(scenario())
    assert began == ["started"]
    assert (state, "does not start this flow run" in message) == ("FAILED", True)


def test_every_deployment_that_photojobs_makes_is_its_own() -> None:
    made = [drain_deployment(), *(deployment_of(each, Settings.load()) for each in load_definitions().values())]
    assert len(made) > 10
    assert {each.name: foreign_reason(each) for each in made} == dict.fromkeys((each.name for each in made), None)


@contextmanager
def foreign_page(folder: Path) -> Iterator[str]:
    """Serve a page on another port of this machine during the block; yield its URL."""
    (folder / "index.html").write_text("<!doctype html><title>another page</title>")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    site = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=site.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{site.server_port}/"
    finally:
        site.shutdown()
        thread.join()
        site.server_close()


@pytest.mark.slow
@pytest.mark.prefect
@pytest.mark.browser
@pytest.mark.xdist_group("deploy")
def test_a_page_of_another_origin_can_neither_read_nor_start_anything(prefect_url: str, tmp_path: Path) -> None:
    from tests.browser.site import open_chromium

    require_chromium()
    url = prefect_url
    site_url = url.removesuffix("/api")
    fetch = """
        const [url, options, done] = [arguments[0], arguments[1], arguments[2]];
        fetch(url, options).then(answer => done(answer.type + " " + answer.status), error => done("refused"));
    """
    before = httpx.post(f"{url}/flows/count", json={}, headers=headers_of(url)).json()
    with foreign_page(tmp_path) as page:
        driver = open_chromium()
        try:
            # The user is logged in in the same browser.
            driver.get(login_link(site_url, os.environ["PREFECT_API_AUTH_STRING"]))
            assert driver.execute_async_script(fetch, f"{site_url}/ui-settings", {}) == "basic 200"
            driver.get(page)
            for name in (site_url, site_url.replace("127.0.0.1", "localhost")):
                for options in (
                    {},
                    {"credentials": "include"},
                    {"method": "POST", "body": '{"name": "forged"}'},
                    {"method": "POST", "body": "{}", "headers": {"Content-Type": "application/json"}},
                    {"method": "DELETE"},
                ):
                    assert driver.execute_async_script(fetch, f"{name}/api/flows/", options) == "refused"
                blind = {"method": "POST", "body": '{"name": "forged"}', "mode": "no-cors"}
                driver.execute_async_script(fetch, f"{name}/api/flows/", blind)
                assert driver.execute_async_script(fetch, f"{name}/ui-settings", {}) == "refused"
        finally:
            driver.quit()
    assert httpx.post(f"{url}/flows/count", json={}, headers=headers_of(url)).json() == before
