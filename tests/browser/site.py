"""Starts `photojobs up` on a small library, and controls its pages with Chromium."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pyvips
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from deployments.embedded_server.password import AUTH_FILE, login_link
from tests.prefect_api import FINAL, PrefectApi
from tests.waiting import wait_until

PHOTOJOBS = Path(sys.executable).with_name("photojobs")
PRESS_AGAIN_SECONDS = 10.0

eventually = partial(wait_until, limit_seconds=120.0, pause_seconds=0.1)


class Site:
    """The API and the pages of the server of a running `photojobs up`."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.password = (folder / "up" / "prefect" / AUTH_FILE).read_text().strip()
        self.api = PrefectApi(f"{url}/api", password=self.password)

    def deployment(self, name: str) -> dict[str, Any]:
        return self.api.deployments()[name]

    def press(self, name: str, **parameters: Any) -> str:
        return self.api.press_run(self.deployment(name), **parameters)

    def ended(self, run_id: str) -> dict[str, Any]:
        """Wait until the flow run has ended; return it."""

        def look() -> dict[str, Any] | None:
            run = self.api.flow_run(run_id)
            return run if run["state"]["type"] in FINAL else None

        run: dict[str, Any] = eventually(look, what="the flow run ends")
        return run


def draw(folder: Path, names: tuple[str, ...]) -> None:
    """Draw small photographs into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        image: Any = pyvips.Image.gaussnoise(640, 480, mean=90 + 20 * number, sigma=25).cast("uchar")
        image.jpegsave(str(folder / f"{name}.jpg"))


@contextmanager
def small_site(folder: Path) -> Iterator[Site]:
    """Run `photojobs up` on a library with two projects, whose rows exist already, during the block."""
    library = folder / "library"
    draw(library / "user_0" / "Alps", ("ridge", "summit", "valley"))
    draw(library / "user_0" / "Harbour", ("boats", "quay"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
        "PHOTOJOBS_DATABASE_URL": f"sqlite:///{folder / 'photojobs.db'}",
        "PHOTOJOBS_LIBRARY_ROOT": str(library),
        "PHOTOJOBS_RETRY_DELAY_SECONDS": "0",
        "PHOTOJOBS_SETTLE_SECONDS": "0",
        "PHOTOJOBS_HEARTBEAT_SECONDS": "0.5",
        "PHOTOJOBS_POLL_SECONDS": "0.05",
    }
    process = subprocess.Popen(
        [PHOTOJOBS, "up", "--port", "0", "--folder", str(folder / "up")],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = next((found.group() for line in process.stdout if (found := re.search(r"http://\S+", line))), None)
        assert url is not None, "photojobs up ended before it was up"
        site = Site(url, folder)
        known = site.ended(site.press("Folder Discovery"))
        assert known["state"]["type"] == "COMPLETED", known["state"]["message"]
        eventually(
            lambda: "Alps (#" in str(site.deployment("Maintenance")["parameter_openapi_schema"]),
            what="the new projects come into the forms",
        )
        yield site
        site.api.close()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def chromium() -> str | None:
    """Return the path of Chromium; None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def require_chromium() -> None:
    """Skip the test if Chromium is not installed; fail it in CI."""
    if chromium() is None:
        message = "Chromium is not installed: apt-get install chromium chromium-driver"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


def artifacts(site: Site, run_id: str) -> dict[str, str]:
    return {each["key"]: each["data"] for each in site.api.artifacts(run_id)}


def open_chromium(*, width: int = 1280, height: int = 900, arguments: Sequence[str] = ()) -> webdriver.Chrome:
    """Start Chromium without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = chromium() or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", *arguments):
        options.add_argument(argument)
    options.add_argument(f"--window-size={width},{height}")
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver") or ""))


class Browser:
    """Chromium on the pages of a site; methods name buttons and fields by the words that a user sees."""

    def __init__(self, site: Site, *, width: int = 1280, height: int = 900) -> None:
        self.site = site
        self.driver = open_chromium(width=width, height=height)
        self.driver.get(login_link(site.url, site.password))

    def open(self, path: str) -> None:
        self.driver.get(f"{self.site.url}/v2{path}")

    def find(self, xpath: str) -> WebElement:
        """Wait for a visible element, and return the first one."""
        found: WebElement = eventually(lambda: self._visible(xpath), what=lambda: f"{xpath} on {self._page()}")
        return found

    def click(self, xpath: str) -> None:
        refused = "it is not there"

        def clicked() -> bool:
            nonlocal refused
            try:
                element = self._visible(xpath)
                if element is None:
                    return False
                self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
                element.click()
            except WebDriverException as error:
                # The page has been drawn again meanwhile.
                refused = str(error.msg)
                return False
            return True

        eventually(clicked, what=lambda: f"a click on {xpath} ({refused}) on {self._page()}")

    def click_text(self, text: str, *, tag: str = "*") -> None:
        self.click(f"//{tag}[normalize-space()='{text}']")

    def choose(self, field: str, option: str) -> None:
        """Choose an option of a list in the form."""
        self.click(f"{_field(field)}//button[starts-with(@aria-label, 'Select ')]")
        self.click(f"//*[@role='option'][contains(., '{option}')]")
        # A list in which several entries can be chosen stays open.
        self.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
        self.find(f"{_field(field)}//*[contains(text(), '{option}')]")

    def switch_on(self, field: str) -> None:
        self.click(f"{_field(field)}//button[@role='switch']")

    def choose_from_menu(self, entry: str, *, confirmed_by: str) -> None:
        """Choose an entry of the menu of a run's page, and confirm it."""
        self.click("//button[@aria-haspopup='menu']")
        self.click(f"//*[@role='menuitem'][normalize-space()='{entry}']")
        self.click(f"//*[@role='alertdialog' or @role='dialog']//button[normalize-space()='{confirmed_by}']")

    def shows(self, text: str) -> WebElement:
        return self.find(f"//*[contains(text(), '{text}')]")

    def open_form(self, deployment: str) -> None:
        """Open the form of a deployment from the list of deployments, as a user does."""
        self.open("/deployments?limit=50")
        self.click(f"//a[normalize-space()='{deployment}']")
        self.click("//button[normalize-space()='Run']")
        self.click("//*[@role='menuitem'][contains(., 'Custom')]")
        self.find("//*[normalize-space()='Submit']")
        # If a menu closes while the page changes, the page may ignore clicks. A user would load it again.
        self.driver.refresh()
        self.find("//*[normalize-space()='Submit']")

    def submit(self) -> str:
        """Press Submit, open the page of the new run, and return the id of the run."""
        before = {run["id"] for run in self.site.api.find("flow_runs")}
        # A list that is still closing would receive the first click.
        eventually(lambda: self._visible("//*[@role='option']") is None, what="no list is open")
        submit = "//button[normalize-space()='Submit' and not(@disabled)]"
        again_at = 0.0

        def made() -> str | None:
            nonlocal again_at
            # A busy server may refuse a run. A user would press the button again.
            if time.monotonic() > again_at and (button := self._visible(submit)):
                button.send_keys(Keys.ENTER)
                again_at = time.monotonic() + PRESS_AGAIN_SECONDS
            runs = self.site.api.find("flow_runs", {"sort": "START_TIME_DESC"})
            return next((run["id"] for run in runs if run["id"] not in before), None)

        run_id: str = eventually(made, what="a flow run is made")
        self.click(f"//a[contains(@href, '{run_id}')]")
        return run_id

    def settle(self) -> None:
        """Wait until the page is complete: nothing is loading, and its content is the same twice in a row."""
        before = ""

        def is_settled() -> bool:
            nonlocal before
            before, seen = self.driver.get_screenshot_as_base64(), before
            return before == seen and self._visible("//*[contains(@class, 'animate-')]") is None

        eventually(is_settled, what=f"{self.driver.current_url} is at rest")

    def _page(self) -> str:
        body = self.driver.find_element(By.TAG_NAME, "body")
        return f"{self.driver.current_url}, whose body ({body.get_attribute('style')}) shows:\n{body.text}"

    def _visible(self, xpath: str) -> WebElement | None:
        return next((each for each in self.driver.find_elements(By.XPATH, xpath) if _is_displayed(each)), None)


def _is_displayed(element: WebElement) -> bool:
    try:
        return bool(element.is_displayed())
    except WebDriverException:
        return False


def _field(title: str) -> str:
    # A group of the form contains a label and its field.
    label = f"//label[normalize-space()='{title}' or normalize-space()='{title} (Optional)']"
    return f"{label}/ancestor::div[contains(concat(' ', @class, ' '), ' group ')][1]"
