"""`python -m tests.browser.screenshots [FOLDER]`: makes the pictures of `README.md` and `docs/how-to/prefect-ui.md`.

The default folder is `docs/images`. The command starts `photojobs up` on a small library, and Chromium follows the
steps of the page.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from selenium.webdriver.remote.webelement import WebElement

from storage import Database
from tests.browser.site import Browser, Site, draw, small_site

IMAGES = Path(__file__).parents[2] / "docs" / "images"

#: The size of the browser window: small enough that a picture of it is readable in the text.
WIDTH, HEIGHT = 1200, 820


def main(folder: Path) -> None:
    """Make all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pj-") as home, small_site(Path(home)) as site:
        browser = Browser(site, width=WIDTH, height=HEIGHT)
        try:
            _take(browser, site, folder)
        finally:
            browser.driver.quit()


def _take(browser: Browser, site: Site, folder: Path) -> None:
    _take_maintenance(browser, site, folder)
    browser.open("/deployments?limit=50")
    browser.shows("Global Maintenance")
    _save(browser, folder, "deployments", browser.shows("Folder Discovery"))

    browser.open(f"/deployments/deployment/{site.deployment('Maintenance')['id']}?tab=Description")
    _save(browser, folder, "description", browser.find("//*[name()='svg'][contains(@id, 'mermaid')]"))

    _lose_previews(site)
    browser.open_form("Generate Derivatives")
    browser.switch_on("Missing preview")
    _save(browser, folder, "form", browser.shows("Missing preview"))
    run_id = browser.submit()
    site.ended(run_id)
    browser.shows("Completed")
    browser.click("//*[@role='tab'][normalize-space()='Task Runs']")
    _save(browser, folder, "completed", browser.shows("generate_derivatives 1/1"))
    _report(browser, site, folder, "report", run_id)

    photo = site.folder / "library" / "user_0" / "Harbour" / "quay.jpg"
    photo.write_bytes(b"not a picture" * 100)
    run_id = site.press("Generate Derivatives", select={"every_photo": True}, force=True)
    site.ended(run_id)
    browser.open(f"/runs/flow-run/{run_id}")
    browser.click("//*[@role='tab'][normalize-space()='Task Runs']")
    _save(browser, folder, "failed", browser.shows("generate_derivatives 1/1"))
    _report(browser, site, folder, "failed-report", run_id)


def _take_maintenance(browser: Browser, site: Site, folder: Path) -> None:
    """Make a picture of Global Maintenance of a library with missing previews and a new photo."""
    _lose_previews(site)
    draw(site.folder / "library" / "user_0" / "Harbour", ("ferry",))
    run_id = site.press("Global Maintenance")
    site.ended(run_id)
    browser.open(f"/runs/flow-run/{run_id}")
    browser.shows("Completed")
    browser.click("//*[@role='tab'][normalize-space()='Task Runs']")
    browser.shows("derivative_validation 1/1")
    _save(browser, folder, "maintenance", browser.shows("maintenance_global (user_0"))


def _lose_previews(site: Site) -> None:
    database = Database(site.folder / "photojobs.db")
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE photos SET preview_status = 'missing'")
    database.close()
    for preview in site.folder.glob("library/user_0/*/.preview/*"):
        preview.unlink()


def _report(browser: Browser, site: Site, folder: Path, name: str, run_id: str) -> None:
    body = {"artifacts": {"key": {"any_": ["generate-derivatives"]}}, "flow_runs": {"id": {"any_": [run_id]}}}
    (report, *_) = site.api.find("artifacts", body)
    browser.open(f"/artifacts/artifact/{report['id']}")
    _save(browser, folder, name, browser.find("//h1[contains(., 'generate_derivatives')]"))


def _save(browser: Browser, folder: Path, name: str, shown: WebElement) -> None:
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", shown)
    browser.settle()
    browser.driver.save_screenshot(str(folder / f"{name}.png"))
    # A palette reduces a file to a quarter of its size, and pages with few colors look the same.
    _with_palette(folder / f"{name}.png")


def _with_palette(file: Path) -> None:
    import pyvips

    image = pyvips.Image.new_from_buffer(file.read_bytes(), "")
    image.pngsave(str(file), palette=True, Q=90, strip=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
