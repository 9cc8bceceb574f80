"""A user looks at failures and cancels or pauses runs in Prefect's pages.

`deployments/serving/test_up.py` tests a run that is started from the form.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from storage import Database, TasksRepository
from storage.queue.holds import HoldsRepository
from tests.browser.site import Browser, Site, artifacts, eventually, require_chromium, small_site

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.prefect,
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(280),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require_chromium()
    with small_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def browser(site: Site) -> Iterator[Browser]:
    browser = Browser(site)
    yield browser
    browser.driver.quit()


def test_a_corrupt_photo_fails_the_run_and_the_message_counts_it(browser: Browser, site: Site) -> None:
    photo = next(site.folder.glob("library/user_0/Harbour/quay.jpg"))
    photo.write_bytes(b"not a picture" * 100)

    browser.open_form("Generate Derivatives")
    browser.choose("Projects", "Harbour")
    browser.switch_on("Force")
    run_id = browser.submit()
    browser.shows("Failed")

    run = site.ended(run_id)
    assert run["parameters"]["force"] is True
    assert "1 failed" in run["state"]["message"]
    assert "quay" in artifacts(site, run_id)["generate-derivatives"]


def test_wrong_input_is_refused_and_nothing_is_written(site: Site) -> None:
    refused = site.api.post(
        f"/deployments/{site.deployment('Maintenance')['id']}/create_flow_run", json={"parameters": {"project_id": 0}}
    )
    unknown = site.ended(site.press("Maintenance", project_id="Nowhere"))

    assert refused.status_code == 409
    assert unknown["state"]["type"] == "FAILED"
    assert 'called "Nowhere"' in unknown["state"]["message"]
    database = Database(site.folder / "photojobs.db")
    assert TasksRepository(database).get_by_id(unknown["id"]) is None
    database.close()


def test_a_run_is_paused_resumed_and_canceled_from_its_page(browser: Browser, site: Site) -> None:
    database = Database(site.folder / "photojobs.db")
    holds = HoldsRepository(database)
    holds.hold("tenant", "user_0")
    try:
        browser.open_form("Maintenance")
        browser.choose("Project", "Harbour")
        run_id = browser.submit()
        browser.shows("Running")
        eventually(lambda: TasksRepository(database).get_by_id(run_id), what="the task is written")
        browser.choose_from_menu("Pause", confirmed_by="Pause Flow Run")
        browser.shows("Suspended")
        eventually(lambda: holds.get("task", run_id), what="the task is held")
        browser.choose_from_menu("Resume", confirmed_by="Resume")
        eventually(lambda: holds.get("task", run_id) is None, what="the task goes on")
        browser.shows("Running")
        browser.choose_from_menu("Cancel", confirmed_by="Cancel Flow Run")

        assert site.ended(run_id)["state"]["type"] == "CANCELLED"
        eventually(lambda: TasksRepository(database).get(run_id).status == "canceled", what="the task is canceled")
    finally:
        holds.release("tenant", "user_0")
        database.close()


def test_the_page_that_opens_by_default_draws_the_steps(browser: Browser, site: Site) -> None:
    browser.driver.get(site.url)
    browser.click("//a[normalize-space()='Deployments']")
    browser.click("//a[normalize-space()='Folder Discovery']")
    browser.click("//*[@role='tab'][normalize-space()='Description']")

    picture = browser.find("//*[name()='svg'][contains(@id, 'mermaid')]")
    assert "folder_discovery" in picture.text


def test_photos_without_preview_are_three_clicks_from_the_deployment_and_every_photo_excludes_them(
    browser: Browser, site: Site
) -> None:
    browser.open_form("Generate Derivatives")  # Run, Custom run
    browser.switch_on("Missing preview")
    browser.switch_on("Every photo")
    before = {run["id"] for run in site.api.find("flow_runs")}
    browser.click_text("Submit", tag="button")
    browser.shows("False was expected")
    assert {run["id"] for run in site.api.find("flow_runs")} == before

    browser.switch_on("Every photo")
    run_id = browser.submit()

    run = site.ended(run_id)
    assert run["parameters"]["select"]["missing_preview"] is True
    assert run["state"]["name"] in ("Completed", "Failed", "Skipped")
    assert run["name"] == "generate_derivatives (user_0)"
